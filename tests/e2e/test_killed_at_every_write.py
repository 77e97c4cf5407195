"""
Promise 6 to the letter: the controller is killed after every single write of a teardown, before it hears the answer.

What it had in mind is lost with it, so after one write is also before the next. Without Helm, and before each write as
well: ``tests/integration/guard/test_every_write.py``.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.cluster import Cluster
from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.faults import FaultProxy
from tests.shipped import CONTROLLER, ROOT, Installation, Process

if TYPE_CHECKING:
    import aiohttp
    from aiohttp import web

Commits = Callable[[int], str]
BRANCH = "feature/mortal"
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
        places: Namespaces whose objects, and which themselves, are written to in a teardown.
        writes: Method, path and body, without moments, of each write after which somebody was killed.

    """

    victim: Process | None = None
    places: set[str] = field(default_factory=set)
    writes: list[tuple[str, str, str]] = field(default_factory=list)

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
            victim.popen.kill()


class DeadlyProxy(FaultProxy):
    """A proxy in front of the API server that lets an executioner do its work."""

    def __init__(self, kubeconfig: Path, executioner: Executioner) -> None:
        super().__init__(kubeconfig)
        self._executioner = executioner

    async def _ask(self, request: web.BaseRequest) -> aiohttp.ClientResponse:
        body = MOMENT.sub("", (await request.read()).decode())
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


@pytest.fixture
def deadly(own: Installation) -> Iterator[tuple[Executioner, Path]]:
    """Yield who kills the controller, and a kubeconfig that leads the controller through it."""
    executioner, ready, over = Executioner(), threading.Event(), asyncio.Event()
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
    assert ready.wait(10)
    yield executioner, paths[0]
    for process in own.processes:
        process.kill()
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


@pytest.mark.timeout(900)
def test_teardown_survives_a_kill_after_each_of_its_writes(
    own: Installation, deadly: tuple[Executioner, Path], cluster: Cluster, commits: Commits
) -> None:
    executioner, kubeconfig = deadly
    own.settings(helm={"chart_root": str(ROOT), "binary": str(helm_beside_the_proxy(own))})
    shared = f"shared-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", shared)
    cluster.kubectl("create", "serviceaccount", "deployer", "-n", shared)
    own.project("shop", sharedServiceAccounts=[{"namespace": shared, "name": "deployer"}])

    def start(victim: bool) -> Process:  # noqa: FBT001 - one word for what becomes of it
        # Under the same name each time: the Lease of who was killed is its successor's at once.
        arguments = ("controller", "--identity", "mortal", "--kubeconfig", str(kubeconfig))
        process = own.start(*arguments, account=CONTROLLER)
        executioner.victim = process if victim else None
        return process

    shop = Shop(own, own.start_receiver().ready(), "shop")
    eventually(shop.is_known, message="the receiver does not know the Project")
    controller = start(victim=False)
    record = shop.up(BRANCH, commits(1), within=120)
    namespace, name = record["status"]["namespace"], record["metadata"]["name"]
    executioner.places = {own.namespace, namespace, shared}

    def held() -> bool:
        notes = json.loads(cluster.kubectl("get", "sa", "deployer", "-n", shared, "-o", "json"))["metadata"]
        values = [value for key, value in notes.get("annotations", {}).items() if key.startswith("hold.envprov.io/")]
        return any(json.loads(value)["uid"] == record["metadata"]["uid"] for value in values)

    def is_there() -> bool:
        phase = ("get", "ns", namespace, "--ignore-not-found", "-o", "jsonpath={.status.phase}")
        return cluster.kubectl(*phase) == "Active"

    assert held()
    assert controller.stop() == 0
    assert shop.delete(BRANCH, commits(1)) == 202
    while shop.record(BRANCH) is not None:
        assert len(executioner.writes) < 60, f"the teardown does not come forward: {executioner.writes[-5:]}"
        controller = start(victim=True)
        eventually(
            lambda process=controller: process.popen.poll() is not None or shop.record(BRANCH) is None,  # type: ignore[misc]
            within=120,
            message=f"nothing was written after {executioner.writes[-3:]}",
        )
        controller.kill()
        if is_there():
            assert held(), "the hold elsewhere went before the namespace"

    assert own.namespaces() == set()
    assert not held()
    writes = [(method, path) for method, path, _ in executioner.writes]
    ends = {
        ("PATCH", f"/api/v1/namespaces/{namespace}"),
        ("DELETE", f"/api/v1/namespaces/{namespace}"),
        ("PATCH", f"/api/v1/namespaces/{shared}/serviceaccounts/deployer"),
        ("PATCH", f"/api/v1/namespaces/{shared}"),
        ("PATCH", f"/apis/envprov.io/v1alpha1/namespaces/{own.namespace}/environments/{name}"),
    }
    assert ends <= set(writes), "not every write of the teardown was killed for"
    for path in (f"/api/v1/namespaces/{shared}/serviceaccounts/deployer", f"/api/v1/namespaces/{shared}"):
        assert writes.count(("PATCH", path)) == 1, "the hold elsewhere was released more than once"
    assert writes.count(("DELETE", f"/api/v1/namespaces/{namespace}")) == 1
    cluster.discard(shared)
