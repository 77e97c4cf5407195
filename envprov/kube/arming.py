"""Whether the guard's policies are in force, seen by trying to delete what they must not let go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

import structlog

from envprov.domain.drift import drifted
from envprov.domain.errors import ConfigError, Conflict, Disarmed, EnvprovError, Forbidden, HoldLost
from envprov.domain.holds import PREFIX, Account, Hold, Holder
from envprov.domain.policies import CANARY
from envprov.kube.client import Connection, KubeClient
from envprov.kube.errors import is_refusal_of
from envprov.kube.holds import MANAGER, Holds
from envprov.kube.informer import Informer
from envprov.kube.resources import (
    LEASES,
    SERVICE_ACCOUNTS,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
    Resource,
    lookup,
)
from envprov.kube.store import Object

log = structlog.get_logger("envprov.guard")

KEY = f"{PREFIX}canary"
"""Of the hold on the canary and on the control namespace."""
SERVERS = "apiserver.kubernetes.io/identity=kube-apiserver"
"""Label of the Lease that each API server keeps."""
PROBES = 3
"""Probes for each API server: a load balancer does not promise to reach all of them."""
PROBE_TIMEOUT = timedelta(seconds=5)
OLDEST = (1, 30)
"""The first Kubernetes with admission policies in version v1."""
SOON = timedelta(seconds=0.5)
"""Time between two looks while disarmed,"""
PATIENCE = 20
"""for so many looks; then it is"""
LATER = timedelta(seconds=5)
SETTLE = timedelta(seconds=2)
"""
How long a policy that was put back is not relied on. API servers follow the policies with some delay (0.9 s were
measured): until then one that refuses may still do so by the policy that has gone, and be without any in between.
"""
REMEDY = (
    "`envprov manifests | kubectl apply --server-side -f -` puts its policies in force, `envprov guard status` looks"
)

Manifest = dict[str, Any]


class State(StrEnum):
    """Whether the policies are in force."""

    UNKNOWN = "unknown"
    """Nothing has been tried yet."""
    ARMED = "armed"
    """Every API server refused."""
    DISARMED = "disarmed"
    """One did not refuse, or did not answer: nothing is torn down, no hold is released."""
    OBSERVING = "observing"
    """The API server is too old for admission policies, and the settings say to go on without."""


class _Shared:
    """Work whose result those share who ask before it begins; nobody gets one that began before they asked."""

    def __init__(self, work: Callable[[], Awaitable[str | None]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._last: tuple[float, str | None] = (0.0, None)

    async def __call__(self) -> str | None:
        asked = _now()
        async with self._turn:
            began, told = self._last
            if began <= asked:
                began = _now()
                told = await self._work()
                self._last = began, told
            return told


class Arming:
    """
    The guard's policies and the canary that shows whether they work.

    Args:
        client: For writing, reading and watching.
        connection: The same cluster and identity, for the fresh connections of each probe.
        control_namespace: Where the canary lives.
        policies: Policies and bindings as they must be, from ``domain.policies``.
        reapplied: Names of those that are written again when they are not in force; the others are only reported.
        delete_guard: Name of the policy that must refuse the deletion of the canary.
        mode: ``enforce``, or ``observe`` to go on without admission policies.
        interval: Time between two probes.
        on_change: Called with the new state and, unless it is ARMED, why.

    """

    def __init__(  # noqa: PLR0913 - one row of plain values
        self,
        client: KubeClient,
        connection: Connection,
        *,
        control_namespace: str,
        policies: Sequence[Manifest],
        reapplied: frozenset[str],
        delete_guard: str = "envprov-delete-guard",
        mode: Literal["enforce", "observe"] = "enforce",
        interval: timedelta = timedelta(seconds=30),
        on_change: Callable[[State, str], None] | None = None,
    ) -> None:
        self.state = State.UNKNOWN
        self.why = ""
        """Why it is not ARMED, in words."""
        self.drift: tuple[str, ...] = ()
        """Policies and bindings that are not as they must be, each in words."""
        self._client = client
        self._connection = connection
        self._namespace = control_namespace
        self._policies = tuple(policies)
        self._reapplied = reapplied
        self._delete_guard = delete_guard
        self._mode = mode
        self._interval = interval
        self._on_change = on_change
        self._holds = Holds(client)
        self._is_started = False
        self._is_old = False
        self._woken = asyncio.Event()
        self._looks = _Shared(self._look)
        self._probes = _Shared(self._round)
        self._put_back: tuple[float, str] | None = None

    async def start(self) -> None:
        """
        See what the server can, make or mend the canary, and probe once.

        Raises:
            ConfigError: The server is too old for admission policies, and the mode is ``enforce``.

        """
        version = await self._version()
        self._is_old = version < OLDEST
        self._is_started = True
        if self._is_old:
            told = f"Kubernetes {version[0]}.{version[1]} has no admission policies: nothing stops others from deleting"
            if self._mode == "enforce":
                raise ConfigError(
                    f"{told} what is still used. envprov needs {OLDEST[0]}.{OLDEST[1]}; to go on without its guard set "
                    "guard.mode to observe"
                )
            self._become(State.OBSERVING, told)
            return
        await self._looks()

    async def run(self) -> None:
        """
        Keep watch until cancelled: probe every interval, and at once when a policy or binding changes.

        Starts by itself if ``start`` was not called.
        """
        if not self._is_started:
            await self.start()
        if self._is_old:
            return
        running = [
            asyncio.create_task(self._watch(kind).run())
            for kind in (VALIDATING_ADMISSION_POLICIES, VALIDATING_ADMISSION_POLICY_BINDINGS)
        ]
        disarmed = 0
        try:
            while True:
                self._woken.clear()
                await self._looks()
                disarmed = disarmed + 1 if self.state is State.DISARMED else 0
                pause = (SOON if disarmed <= PATIENCE else LATER) if disarmed else self._interval
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(pause, self._interval).total_seconds()):
                        await self._woken.wait()
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    async def check(self) -> str | None:
        """One round of probes, begun after this call: None if every API server refused, else why not, in words."""
        return await self._probes()

    async def require(self) -> None:
        """
        Be sure, from reads and probes made after this call, that the policies are as they must be and in force.

        Nothing is asked when the mode is ``observe``.

        Raises:
            Disarmed: They are not; says what to do.

        """
        if self._mode == "observe":
            return
        told = await self._looks()
        if told is not None:
            self._woken.set()
            raise Disarmed(f"the guard is disarmed: {told}. {REMEDY}")

    def _watch(self, kind: Resource) -> Informer:
        ours = {manifest["metadata"]["name"] for manifest in self._policies}

        def wake(changed: Object) -> None:
            if changed["metadata"]["name"] in ours:
                self._woken.set()

        watch = Informer(self._client, kind, metadata_only=True)
        watch.on_change(wake)
        return watch

    async def _look(self) -> str | None:
        """Mend what can be mended, then see whether it works: None, or why not."""
        try:
            found = await asyncio.gather(*(self._differs(wanted) for wanted in self._policies))
            self.drift = tuple(text for text, _ in found if text)
            broken = [text for text, is_vital in found if text and is_vital]
            told = "; ".join(broken) or self._unsettled() or await self._probes()
        except EnvprovError as error:
            told = str(error)
        if self._mode == "observe":
            self._become(State.OBSERVING, told or "guard.mode is observe")
        elif told is None:
            self._become(State.ARMED, "")
        else:
            self._become(State.DISARMED, told)
        return told

    def _unsettled(self) -> str | None:
        if self._put_back is None or _now() >= self._put_back[0]:
            self._put_back = None
            return None
        return self._put_back[1]

    def _become(self, state: State, why: str) -> None:
        changed = (state, why) != (self.state, self.why)
        self.state, self.why = state, why
        if changed and self._on_change is not None:
            self._on_change(state, why)

    async def _version(self) -> tuple[int, int]:
        told = await self._client.get_raw("/version")
        given = told if isinstance(told, Mapping) else {}
        numbers = [re.match(r"\d+", str(given.get(part, ""))) for part in ("major", "minor")]
        if not all(numbers):
            raise ConfigError("the API server does not tell its version; is that a Kubernetes?")
        major, minor = (int(number[0]) for number in numbers if number)
        return major, minor

    async def _differs(self, wanted: Manifest) -> tuple[str, bool]:
        """
        Write again what is not as it must be, if it is ours to put back.

        Returns:
            What is still not as it must be, in words, and whether that matters.

        """
        resource, name = lookup(wanted["apiVersion"], wanted["kind"]), wanted["metadata"]["name"]
        what = f"{resource.kind} {name}"
        live = await self._client.get(resource, name)
        if live is not None and not drifted(wanted, live):
            return "", False
        how = "is missing" if live is None else "is not as envprov wrote it"
        if name not in self._reapplied:
            return f"{what} {how}; envprov does not put this one back", False
        if self._mode == "observe":
            return f"{what} {how}", False
        try:
            live = await self._client.apply(wanted, manager=MANAGER)
            if drifted(wanted, live):
                # What others added to a list stays when we apply ours, one more condition for instance.
                body = {"spec": _overwriting(live["spec"], wanted["spec"])}
                live = await self._client.merge_patch(resource, name, None, body, manager=MANAGER)
        except EnvprovError as error:
            return f"{what} {how} and cannot be put back: {error}", True
        if drifted(wanted, live):
            return f"{what} {how} and does not become so", True
        log.warning("guard policy put back", kind=resource.kind, name=name, it=how)
        self._put_back = _now() + SETTLE.total_seconds(), f"{what} {how.replace('is', 'was', 1)} and was just put back"
        return "", False

    async def _mend_canary(self) -> str:
        """
        Have something that is held and that nobody needs, in a Namespace that is held with it.

        Returns:
            Its UID.

        """
        canary = Account(self._namespace, CANARY)
        why = "shows whether the guard's policies are in force"
        hold = Hold(Holder("Canary", "", "envprov"), datetime.now(UTC), why, read_key=KEY)
        uid = await self._holds.acquire(canary, hold)
        if uid is None:
            metadata = {"name": CANARY, "namespace": self._namespace, "annotations": {KEY: hold.value()}}
            manifest = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
            await self._client.apply(manifest | {"automountServiceAccountToken": False}, manager=MANAGER)
            uid = await self._holds.acquire(canary, hold)
        if uid is None:
            raise Conflict(f"ServiceAccount {canary} was deleted as soon as it was there")
        return uid

    async def _round(self) -> str | None:
        try:
            uid = await self._mend_canary()
            told = await asyncio.gather(*(self._probe(uid) for _ in range(PROBES * await self._servers())))
        except HoldLost:
            return f"ServiceAccount {self._namespace}/{CANARY} or its Namespace is being deleted"
        except EnvprovError as error:
            return f"the canary could not be tried: {error}"
        return next((text for text in told if text), None)

    async def _servers(self) -> int:
        try:
            found = await self._client.list(LEASES, "kube-system", label_selector=SERVERS, metadata_only=True)
        except Forbidden:
            return 1
        return max(1, len(found.items))

    async def _probe(self, uid: str) -> str | None:
        """Over a connection of its own, for one that is kept reaches the same API server again and again."""
        try:
            async with KubeClient.connect(self._connection, timeout=PROBE_TIMEOUT) as client:
                if not await client.delete(SERVICE_ACCOUNTS, CANARY, self._namespace, uid=uid, dry_run=True):
                    return f"ServiceAccount {self._namespace}/{CANARY} was deleted although it is held"
        except Forbidden as error:
            if is_refusal_of(error, self._delete_guard):
                return None
            return f"the canary was kept by something else than {self._delete_guard}: {error}"
        except Conflict as error:
            return f"the canary was replaced while it was tried: {error}"
        except EnvprovError as error:
            return f"the canary could not be tried: {error}"
        return f"an API server would let go of ServiceAccount {self._namespace}/{CANARY}, which is held"


def _overwriting(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Manifest:
    """The merge patch that leaves of one mapping nothing but the other."""
    body: Manifest = dict.fromkeys(live.keys() - wanted.keys())
    for name, value in wanted.items():
        before = live.get(name)
        is_nested = isinstance(value, Mapping) and isinstance(before, Mapping)
        body[name] = _overwriting(before or {}, value) if is_nested else value
    return body


def _now() -> float:
    return asyncio.get_running_loop().time()
