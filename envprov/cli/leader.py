"""Whether a controller answers: its Lease says who leads, and moves for as long as somebody does."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from envprov.cli.plain import note
from envprov.cli.session import Session
from envprov.cli.times import describe, parse_moment
from envprov.domain.errors import ConfigError, Forbidden, Unavailable
from envprov.domain.leases import CONTROLLER_LEASE
from envprov.kube.client import KubeClient, Object
from envprov.kube.resources import LEASES

DEFAULT_DURATION = timedelta(seconds=15)


@dataclass(frozen=True)
class Leader:
    """
    What the Lease says.

    Attributes:
        holder: Who leads; empty if the last one has given up the Lease.
        renewed: When it was last renewed, by the holder's clock.
        duration: For how long a renewal counts.
        resource_version: Moment of the Lease, for a watch to begin at.

    """

    holder: str
    renewed: datetime | None
    duration: timedelta
    resource_version: str

    def is_fresh(self, now: datetime) -> bool:
        """Whether the last renewal still counts, if the holder's clock goes as ours does."""
        return bool(self.holder) and self.renewed is not None and now - self.renewed <= self.duration

    def __str__(self) -> str:
        if not self.holder:
            return "nobody leads"
        ago = describe(datetime.now(UTC) - self.renewed) + " ago" if self.renewed else "never"
        return f"{self.holder} leads, renewed {ago}"


async def read_leader(client: KubeClient, namespace: str) -> Leader | None:
    """What the Lease in a control namespace says, or None if there is none."""
    lease = await client.get(LEASES, CONTROLLER_LEASE, namespace)
    return _parse(lease) if lease else None


async def leads(client: KubeClient, namespace: str, leader: Leader) -> bool:
    """
    Whether a leader is alive, also where its clock and ours differ.

    Args:
        client: Where.
        namespace: Control namespace.
        leader: As it was read.

    Returns:
        At once if the renewal is fresh or nobody leads; else after waiting for a renewal as long as one counts.

    """
    if not leader.holder or leader.is_fresh(datetime.now(UTC)):
        return bool(leader.holder)
    watch = client.watch(
        LEASES,
        namespace,
        resource_version=leader.resource_version,
        timeout_seconds=int(leader.duration.total_seconds()) + 1,
        field_selector=f"metadata.name={CONTROLLER_LEASE}",
    )
    try:
        async with asyncio.timeout(leader.duration.total_seconds()), aclosing(watch) as events:
            async for event in events:
                if event.type == "MODIFIED" and _parse(event.object).holder:
                    return True
    except (TimeoutError, Forbidden):  # who may not watch has only the clock to go by
        pass
    return False


async def require_worker(session: Session, *, standalone: bool) -> None:
    """
    Make sure that exactly one will do the work: a controller, or our own process.

    Args:
        session: Where.
        standalone: Whether our own process is to do it.

    Raises:
        Unavailable: Nobody would; names the ways out.
        ConfigError: A controller does it already.

    """
    try:
        leader = await read_leader(session.client, session.namespace)
        is_alive = leader is not None and await leads(session.client, session.namespace, leader)
    except Forbidden as error:
        note(f"whether a controller answers cannot be seen ({error})")
        return
    if is_alive and standalone:
        raise ConfigError(
            f"--standalone: a controller works in namespace {session.namespace} already ({leader}), and two would get "
            "into each other's way; nothing was changed. Leave --standalone away"
        )
    if not is_alive and not standalone:
        found = f"the Lease {CONTROLLER_LEASE} says: {leader}" if leader else f"there is no Lease {CONTROLLER_LEASE}"
        raise Unavailable(
            f"no controller answers in namespace {session.namespace} ({found}); nothing was changed. Start one "
            "(`envprov controller`), or work without one (--standalone); `envprov doctor` tells more"
        )


def _parse(lease: Object) -> Leader:
    spec = lease.get("spec", {})
    seconds = spec.get("leaseDurationSeconds")
    return Leader(
        holder=spec.get("holderIdentity") or "",
        renewed=parse_moment(spec.get("renewTime")),
        duration=timedelta(seconds=seconds) if seconds else DEFAULT_DURATION,
        resource_version=lease["metadata"]["resourceVersion"],
    )
