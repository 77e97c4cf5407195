"""Kills the controller after each of its writes, before it hears the answer: a proxy in front of the API server."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml

from tests.faults import FaultProxy
from tests.shipped import CONTROLLER, Installation, Process

if TYPE_CHECKING:
    import aiohttp
    from aiohttp import web

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)")
NOT_OURS = {"leases", "authorization.k8s.io", "guard-canary"}
"""In a path: who leads, questions, and the canary are no writes of a teardown."""


@dataclass
class Executioner:
    """
    Kills the controller as soon as the API server has carried out a write of its.

    Attributes:
        victim: Who is killed next; None spares everybody.
        places: Namespaces whose objects, and which themselves, are written to.
        writes: Method, path and body, without moments, of each write after which somebody was killed.
        is_strict: Whether a write that was under way beside the one after which somebody is killed is lost.

    """

    victim: Process | None = None
    places: set[str] = field(default_factory=set)
    writes: list[tuple[str, str, str]] = field(default_factory=list)
    is_strict: bool = False
    _has_struck: bool = False

    def await_next(self, victim: Process | None) -> None:
        """Say who is killed next."""
        self.victim, self._has_struck = victim, False

    def forbids(self, method: str) -> bool:
        """Whether whoever writes this is dead already."""
        return self.is_strict and self._has_struck and method in WRITES

    def wants(self, method: str, path: str, body: str) -> bool:
        """
        Whether this is a write to kill for.

        What a process attempts only, or does elsewhere, is none; nor is one that was killed for: who begins again may
        have to say the same again, and would get no further.
        """
        parts = set(path.split("/"))
        ours = bool(parts & self.places) and not parts & NOT_OURS and '"dryRun"' not in body
        return self.victim is not None and method in WRITES and ours and (method, path, body) not in self.writes

    def kill(self, method: str, path: str, body: str) -> None:
        """Kill it, as a power cut would."""
        victim, self.victim = self.victim, None
        if victim is not None:
            self.writes.append((method, path, body))
            self._has_struck = True
            victim.popen.kill()


E = TypeVar("E", bound=Executioner)


class DeadlyProxy(FaultProxy):
    """A proxy in front of the API server that lets an executioner do its work."""

    def __init__(self, kubeconfig: Path, executioner: Executioner) -> None:
        super().__init__(kubeconfig)
        self._executioner = executioner
        self._turn = asyncio.Lock()

    async def _ask(self, request: web.BaseRequest) -> aiohttp.ClientResponse:
        body = MOMENT.sub("", (await request.read()).decode())
        if self._executioner.is_strict and request.method in WRITES:
            async with self._turn:
                return await self._judge(request, body)
        return await self._judge(request, body)

    async def _judge(self, request: web.BaseRequest, body: str) -> aiohttp.ClientResponse:
        if self._executioner.forbids(request.method):
            raise ConnectionResetError("whoever writes this is dead")
        is_wanted = self._executioner.wants(request.method, request.path, body)
        answer = await super()._ask(request)
        if is_wanted:
            self._executioner.kill(request.method, request.path, body)
        return answer


def helm_beside_the_proxy(own: Installation) -> Path:
    """A Helm that asks the API server itself: it sends no token to a proxy without TLS."""
    script = own.folder / "helm"
    script.write_text(
        f"""#!/usr/bin/env python3
import os, sys
args = sys.argv[1:]
for index, arg in enumerate(args):
    if arg == "--kubeconfig":
        args[index + 1] = {str(own.kubeconfig(CONTROLLER))!r}
os.environ.pop("KUBECONFIG", None)
os.execv({str(own.cluster.binaries / "helm")!r}, ["helm", *args])
"""
    )
    script.chmod(0o700)
    return script


@dataclass
class Jailer(Executioner):
    """
    Stops the controller, as SIGSTOP does, when it has been told that it leads, before it can read that.

    Attributes:
        afterwards: Method, path and body of each request that came later.

    """

    afterwards: list[tuple[str, str, str]] = field(default_factory=list)

    def wants(self, method: str, path: str, body: str) -> bool:
        """Whether this is the moment."""
        if self._has_struck:
            self.afterwards.append((method, path, body))
        return self.victim is not None and method == "GET" and path.endswith("/leases/envprov-controller")

    def kill(self, method: str, path: str, body: str) -> None:
        """Let nothing of it go on."""
        victim, self.victim = self.victim, None
        if victim is not None:
            self.writes.append((method, path, body))
            self._has_struck = True
            victim.popen.send_signal(signal.SIGSTOP)


@contextmanager
def killing(own: Installation, executioner: E) -> Iterator[tuple[E, Path]]:
    """Yield who kills the controller, and a kubeconfig that leads the controller through it."""
    ready, over = threading.Event(), asyncio.Event()
    paths: list[Path] = []
    loop = asyncio.new_event_loop()
    given = own.kubeconfig(CONTROLLER)

    async def stand() -> None:
        async with DeadlyProxy(given, executioner) as proxy:
            path = proxy.connection.kubeconfig
            assert path is not None
            # The proxy has no credentials of its own here: those of the controller go through it.
            entry = json.loads(path.read_text())
            entry["users"][0]["user"] = yaml.safe_load(given.read_text())["users"][0]["user"]
            path.write_text(json.dumps(entry))
            paths.append(path)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(stand()))
    thread.start()
    assert ready.wait(60)
    try:
        yield executioner, paths[0]
    finally:
        for process in own.processes:
            process.kill()
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
