"""
Leader election on a Lease: at most one process works, and another takes over when it falls silent.

The rules are client-go's. A candidate never compares its clock with the holder's: it measures, by its own monotonic
clock, how long the Lease has not changed. The holder cancels its work ``lease_duration - renew_deadline`` before
anybody else may begin: work that ends within that time when it is cancelled never overlaps with another leader's.

Source: https://pkg.go.dev/k8s.io/client-go/tools/leaderelection
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from envprov.domain.errors import ConfigError, Conflict, EnvprovError, LeadershipLost
from envprov.kube.client import KubeClient, Object
from envprov.kube.resources import LEASES

log = structlog.get_logger("envprov.kube")

LEASE_DURATION = timedelta(seconds=15)
_MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class Holder:
    """
    Who leads, as the Lease says.

    Attributes:
        identity: Empty when the last leader handed the Lease back.
        renewed: When, by the holder's clock; None if it never was.
        transitions: How often the leader has changed.

    """

    identity: str
    renewed: datetime | None
    transitions: int


@dataclass(frozen=True)
class _Seen:
    """The Lease as last seen, and when by our own clock it was seen to change."""

    version: str
    spec: dict[str, Any]
    since: float


class LeaderElection:
    """
    One candidate for one Lease.

    Args:
        client: Reads and writes the Lease.
        namespace: Of the Lease; must exist.
        name: Of the Lease; made if missing.
        identity: Of this candidate; must be unlike that of any other, also of an earlier process of the same name.
        lease_duration: How long others wait after the last sign of life; whole seconds, at least one.
        renew_deadline: How long the leader tries to renew before it gives up; two thirds of the duration if None.
        retry: Time between two attempts; two fifteenths of the duration if None.

    Raises:
        ConfigError: The times do not fit: duration > deadline > retry > 0.

    """

    def __init__(  # noqa: PLR0913 - one row of plain values
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        lease_duration: timedelta = LEASE_DURATION,
        renew_deadline: timedelta | None = None,
        retry: timedelta | None = None,
    ) -> None:
        self.identity = identity
        self.is_leader = False
        self._client = client
        self._namespace = namespace
        self._name = name
        self._duration = lease_duration.total_seconds()
        self._deadline = (renew_deadline or lease_duration * 2 / 3).total_seconds()
        self._retry = (retry or lease_duration * 2 / 15).total_seconds()
        self._seen: _Seen | None = None
        self._renewed = 0.0
        self._term = 0
        if not self._duration > self._deadline > self._retry > 0 or self._duration < 1:
            raise ConfigError(
                f"lease {namespace}/{name}: lease_duration ({self._duration} s) must be at least a second and longer "
                f"than renew_deadline ({self._deadline} s), and that longer than retry ({self._retry} s)"
            )

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """
        Wait for the Lease, work while it is ours, and hand it back.

        When cancelled, the work is cancelled and goes on being protected until it has ended; then the Lease is handed
        back, and another candidate takes over at its next attempt.

        Args:
            work: Called once, as leader. Must end soon when cancelled.

        Raises:
            LeadershipLost: The Lease could not be renewed in time, or was taken away. The work has been cancelled and
                has ended.

        """
        await self._acquire()
        led = asyncio.ensure_future(work())
        renewing = asyncio.create_task(self._keep())
        try:
            await asyncio.wait({led, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._step_down(led, renewing)
        lost = None if renewing.cancelled() else renewing.exception()
        if lost is not None:
            raise lost
        await led

    async def confirm(self) -> None:
        """
        Be sure that we lead, still in the term in which the work began; for what cannot be undone.

        The Lease is read live, which shows who took it by whatever means. But a process may be paused between the
        answer and its next step, and then the answer is old: so our own clock has the last word.

        Raises:
            LeadershipLost: Somebody else leads, or may begin to.

        """
        holder = await self.holder()
        if not self.is_leader or holder is None or (holder.identity, holder.transitions) != (self.identity, self._term):
            raise self._lost("it is not ours, or no longer the same")
        if _now() >= self._renewed + self._deadline:
            raise self._lost(f"not renewed within {self._deadline} s")

    async def holder(self) -> Holder | None:
        """Who leads now, or None if there is no such Lease."""
        lease = await self._client.get(LEASES, self._name, self._namespace)
        if lease is None:
            return None
        spec = lease.get("spec", {})
        renewed = spec.get("renewTime")
        return Holder(
            spec.get("holderIdentity") or "",
            datetime.fromisoformat(renewed) if renewed else None,
            spec.get("leaseTransitions") or 0,
        )

    async def _acquire(self) -> None:
        while True:
            if await self._attempt():
                break
            await asyncio.sleep(random.uniform(self._retry / 2, self._retry))  # noqa: S311 - jitter, not a secret
        self._term = self._transitions()
        self.is_leader = True

    async def _keep(self) -> None:
        """Renew until it fails for too long."""
        while True:
            await asyncio.sleep(self._retry)
            try:
                async with asyncio.timeout_at(self._renewed + self._deadline):
                    while not await self._attempt():
                        if self._is_foreign():
                            raise self._lost("somebody else took it")
                        await asyncio.sleep(self._retry)
            except TimeoutError:
                raise self._lost(f"not renewed within {self._deadline} s") from None
            if self._transitions() != self._term:
                # It is ours again: what is in work was begun before somebody else led.
                raise self._lost("somebody else had it meanwhile")

    async def _attempt(self) -> bool:
        """Try once to take or renew the Lease. Only success is certain; a failure may have been a success unheard."""
        started = _now()
        try:
            # One lost packet must not use up the whole deadline.
            async with asyncio.timeout(self._deadline / 2):
                if not self.is_leader:
                    await self._look()
                if not await self._write():
                    return False
        except Conflict:
            await self._look_quietly()
            return False
        except (EnvprovError, TimeoutError) as error:
            log.warning("lease attempt failed", lease=self._name, error=str(error) or "no answer in time")
            return False
        self._renewed = started
        return True

    async def _look_quietly(self) -> None:
        try:
            async with asyncio.timeout(self._deadline / 2):
                await self._look()
        except (EnvprovError, TimeoutError) as error:
            log.warning("lease not read", lease=self._name, error=str(error) or "no answer in time")

    async def _look(self) -> None:
        lease = await self._client.get(LEASES, self._name, self._namespace)
        if lease is None:
            self._seen = None
        else:
            self._saw(lease)

    def _saw(self, lease: Object) -> None:
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, lease.get("spec", {}), _now())

    def _transitions(self) -> int:
        return 0 if self._seen is None else int(self._seen.spec.get("leaseTransitions") or 0)

    def _lost(self, why: str) -> LeadershipLost:
        return LeadershipLost(f"lease {self._namespace}/{self._name}: {why}")

    def _is_foreign(self) -> bool:
        return self._seen is not None and self._seen.spec.get("holderIdentity") not in {"", None, self.identity}

    async def _write(self) -> bool:
        """Write our name into the Lease if it is free, ours, or has run out."""
        now = _stamp()
        spec: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._duration),
            "renewTime": now,
        }
        seen = self._seen
        if seen is None:
            spec |= {"acquireTime": now, "leaseTransitions": self._term}
            metadata = {"name": self._name, "namespace": self._namespace}
            lease = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
            self._saw(await self._client.create(lease, manager="envprov"))
            return True
        if self._is_foreign() and _now() < seen.since + (seen.spec.get("leaseDurationSeconds") or 0):
            return False
        if seen.spec.get("holderIdentity") != self.identity:
            spec |= {"acquireTime": now, "leaseTransitions": (seen.spec.get("leaseTransitions") or 0) + 1}
        self._saw(await self._patch(spec, seen.version))
        return True

    async def _patch(self, spec: dict[str, Any], version: str) -> Object:
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        return await self._client.merge_patch(LEASES, self._name, self._namespace, body, manager="envprov")

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(self._deadline / 2):
                while not await self._hand_back():
                    await self._look()
        except (EnvprovError, TimeoutError) as error:
            log.warning("lease not handed back", lease=self._name, error=str(error) or "no answer in time")

    async def _hand_back(self) -> bool:
        """False if it is not as last seen: a renewal that was cut off may have been written all the same."""
        if self._seen is None or self._is_foreign():
            return True
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _stamp()}
        try:
            await self._patch(spec, self._seen.version)
        except Conflict:
            return False
        return True

    async def _step_down(self, led: asyncio.Future[None], renewing: asyncio.Task[None]) -> None:
        led.cancel()
        try:
            await asyncio.wait({led})  # renewing goes on: nobody else may begin before this work has ended
        finally:
            renewing.cancel()
            self.is_leader = False
        await asyncio.wait({renewing})
        if renewing.cancelled():
            await self._release()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _stamp() -> str:
    return datetime.now(UTC).strftime(_MICRO_TIME)
