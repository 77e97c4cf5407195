"""
Reservations of hosts on the API server: made by a POST, which one of many wins, and never by an update.

Nothing here is decided from a cache. Whoever finds a reservation of an environment that is gone deletes exactly the
Lease that was read, then tries again like everybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from envprov.domain.desired import Identity
from envprov.domain.errors import Conflict, HostTaken, Invalid, TerminalError
from envprov.domain.hosts import (
    DROPPED_BY,
    RESERVATION,
    UNSETTLED,
    HostSeen,
    HostState,
    Reservation,
    Tenant,
    lease,
    lease_name,
    neighbours,
    overlaps,
    read_reservation,
    taken,
    tenant_of,
)
from envprov.domain.objects import ENVIRONMENT, MANAGED_BY, MANAGER
from envprov.kube.client import KubeClient, Object
from envprov.kube.resources import ENVIRONMENTS, LEASES

FIELD_MANAGER = "envprov-hosts"
SELECTOR = f"{MANAGED_BY}={MANAGER},{RESERVATION}"
TRIES = 5
"""How often a host is tried for that is given back or taken over meanwhile."""
AT_ONCE = 10
"""Hosts that are looked at together."""

FREE, OURS = HostSeen(HostState.FREE), HostSeen(HostState.OURS)


class Reservations:
    """
    The reservations of one control namespace.

    All methods raise what ``kube.errors`` translates, besides what they name.

    Args:
        client: Reads and writes Leases, reads Environments.
        namespace: The control namespace.
        now: Clock; aware moments.

    """

    def __init__(
        self, client: KubeClient, namespace: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._now = now

    async def look(self, identity: Identity, hosts: Iterable[str]) -> dict[str, HostSeen]:
        """
        See whether hosts can be had. Nothing is written.

        Args:
            identity: The environment that wants them.
            hosts: Normalised.

        Returns:
            The state of each, by host. One whose environment is gone is free.

        """
        wanted = sorted(set(hosts))
        turns = asyncio.Semaphore(AT_ONCE)

        async def look(host: str) -> HostSeen:
            async with turns:
                return await self._look(identity, host)

        seen = await asyncio.gather(*(look(host) for host in wanted))
        return dict(zip(wanted, seen, strict=True))

    async def reserve(self, identity: Identity, hosts: Iterable[str]) -> None:
        """
        Reserve hosts, all or none; those that are reserved already stay so.

        They are taken one after the other in one order, the same for everybody: two environments that want the same
        ones meet at the first of them.

        Args:
            identity: For which environment.
            hosts: Normalised.

        Raises:
            HostTaken: One belongs to somebody else, who is named.
            Conflict: One changed hands each time that it was tried for.

        """
        made: list[Reservation] = []
        try:
            for host in sorted(set(hosts)):
                by = await self._reserve(identity, host, made)
                if by is not None:
                    raise HostTaken(taken({host: by}))
        except (TerminalError, Conflict):
            for one in made:
                await self.release(one)
            raise

    async def of(self, identity: Identity) -> tuple[Reservation, ...]:
        """What one environment has reserved; not what an earlier one of its name has."""
        found = await self._list(f"{SELECTOR},{ENVIRONMENT}={identity.name}")
        return tuple(one for one in found if one.tenant.uid == identity.uid)

    async def all(self) -> tuple[Reservation, ...]:
        """Everything that is reserved."""
        return await self._list(SELECTOR)

    async def release(self, reservation: Reservation) -> None:
        """Give a host back; nothing happens if that was done before, and another Lease of that name stays."""
        await self._delete(reservation.name, reservation.uid)

    async def release_left_over(self, reservation: Reservation) -> bool:
        """
        Give a host back whose environment is gone.

        Args:
            reservation: As it was read.

        Returns:
            False if the environment is there after all, or the Lease has changed.

        """
        if await self._is_alive(reservation.tenant):
            return False
        return await self._delete(reservation.name, reservation.uid, reservation.resource_version)

    async def mark(self, reservation: Reservation, dropped_by: str) -> Object:
        """
        Say with which digest a host is needed no more.

        Args:
            reservation: Of the host.
            dropped_by: Empty if it is needed.

        Raises:
            Conflict: It is gone, or another Lease has the name now.

        """
        try:
            return await self._note(reservation.name, reservation.uid, {DROPPED_BY: dropped_by or None})
        except Invalid as error:
            raise Conflict(f"host {reservation.host}: another one has reserved it; look again") from error

    async def _look(self, identity: Identity, host: str) -> HostSeen:
        live = await self._client.get(LEASES, lease_name(host), self._namespace)
        if live is not None:
            found = read_reservation(live)
            if found is None or found.host != host:
                return _taken(_stranger(live))
            if found.tenant.key == tenant_of(identity).key:
                # One that is not settled is tried for again: whoever made it was cut off before it knew.
                return OURS if found.is_settled else FREE
            if await self._is_alive(found.tenant):
                return _taken(str(found.tenant))
        by = await self._neighbour(identity, host)
        return FREE if by is None else _taken(by)

    async def _reserve(self, identity: Identity, host: str, made: list[Reservation]) -> str | None:
        """Take one host; returns who has it if it cannot be had, and leaves nothing behind then."""
        for _ in range(TRIES):
            try:
                live = await self._client.create(lease(identity, host, self._now()), manager=FIELD_MANAGER)
            except Conflict:
                found = await self._client.get(LEASES, lease_name(host), self._namespace)
                if found is None:
                    continue
                reservation = read_reservation(found)
                if reservation is None or reservation.host != host:
                    return _stranger(found)
            else:
                reservation = _made(live)
                made.append(reservation)
            if reservation.tenant.key == tenant_of(identity).key:
                return None if reservation.is_settled else await self._settle(identity, reservation)
            if await self._is_alive(reservation.tenant):
                return str(reservation.tenant)
            # Of several who see that it is left over one deletes it, for all name its version; then all try again.
            await self._delete(reservation.name, reservation.uid, reservation.resource_version)
        raise Conflict(f"reserve host {host}: it changed hands {TRIES} times; try again")

    async def _settle(self, identity: Identity, reservation: Reservation) -> str | None:
        """
        Look, now that the Lease is there, who else may claim what is below or above.

        Whoever writes first and looks then is seen by whoever does the same: of two, one at least sees the other.
        """
        by = await self._neighbour(identity, reservation.host)
        if by is not None:
            await self.release(reservation)
        else:
            await self._note(reservation.name, reservation.uid, {UNSETTLED: None})
        return by

    async def _neighbour(self, identity: Identity, host: str) -> str | None:
        """Whose the name is that a host bears, or who has a host below a wildcard."""
        for name in neighbours(host, identity.name):
            environment = await self._client.get(ENVIRONMENTS, name, self._namespace)
            if environment is not None:
                spec, uid = environment["spec"], environment["metadata"]["uid"]
                return str(Tenant(name, uid, spec["project"], spec["branch"]))
        if host.startswith("*."):
            for one in await self.all():
                is_other = one.tenant.environment != identity.name and one.host != host
                if is_other and overlaps(one.host, host) and await self._is_alive(one.tenant):
                    return f"{one.tenant}, as {one.host}"
        return None

    async def _is_alive(self, tenant: Tenant) -> bool:
        live = await self._client.get(ENVIRONMENTS, tenant.environment, self._namespace, metadata_only=True)
        return live is not None and live["metadata"]["uid"] == tenant.uid

    async def _delete(self, name: str, uid: str, resource_version: str | None = None) -> bool:
        try:
            return await self._client.delete(LEASES, name, self._namespace, uid=uid, resource_version=resource_version)
        except Conflict:
            return False  # another one has the name now, or it was changed

    async def _note(self, name: str, uid: str, notes: dict[str, str | None]) -> Object:
        body = {"metadata": {"uid": uid, "annotations": notes}}
        return await self._client.merge_patch(LEASES, name, self._namespace, body, manager=FIELD_MANAGER)

    async def _list(self, selector: str) -> tuple[Reservation, ...]:
        found = await self._client.list(LEASES, self._namespace, label_selector=selector)
        return tuple(one for item in found.items if (one := read_reservation(item)) is not None)


def _made(live: Object) -> Reservation:
    """What we have just made ourselves."""
    made = read_reservation(live)
    if made is None:
        name = live["metadata"]["name"]
        raise Invalid(f"Lease {name} was changed while it was made; look for an admission policy that rewrites it")
    return made


def _taken(by: str) -> HostSeen:
    return HostSeen(HostState.TAKEN, by)


def _stranger(live: Object) -> str:
    return f"Lease {live['metadata']['name']}, which envprov did not make"
