"""Who waits for a host, and what an environment has reserved as the cache shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from envprov.domain.desired import Identity
from envprov.domain.hosts import Reservation, bears, overlaps, read_reservation
from envprov.domain.objects import ENVIRONMENT
from envprov.kube.informer import Informer
from envprov.kube.resources import LEASES

Manifest = Mapping[str, Any]
Wake = Callable[[str], None]

BY_HOLDER = "holder"


def holder_index(manifest: Manifest) -> Iterable[str]:
    """Index of reservations by the name of their environment."""
    return (str(manifest["metadata"].get("labels", {}).get(ENVIRONMENT, "")),)


@dataclass(frozen=True)
class Waiting:
    """
    The reservations as last seen, and who would like one of them.

    Attributes:
        cache: Synced cache of the Leases, indexed by holder. Good enough to give back what is ours, and to be woken.

    """

    cache: Informer
    _wanted: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)
    _gone: set[str] = field(default_factory=set, repr=False)

    def expect(self, environment: str, hosts: Iterable[str]) -> None:
        """Wake an environment as soon as one of these hosts may be free; to be said before it is looked for them."""
        wanted = frozenset(hosts)
        if wanted:
            self._wanted[environment] = wanted
        else:
            self._wanted.pop(environment, None)

    def own(self, identity: Identity, fresh: Mapping[tuple[str, str], Manifest]) -> tuple[Reservation, ...]:
        """
        What an environment has reserved, as far as the cache shows it.

        Args:
            identity: The environment.
            fresh: Objects that this pass has just written, which the cache may not show yet.

        """
        seen = {item["metadata"]["name"]: item for item in self.cache.by_index(BY_HOLDER, identity.name)}
        seen |= {name: item for (kind, name), item in fresh.items() if kind == LEASES.kind}
        found = [one for item in seen.values() if (one := read_reservation(item)) is not None]
        return tuple(one for one in found if one.tenant.uid == identity.uid and one.uid not in self._gone)

    def gave_back(self, reservation: Reservation) -> None:
        """Remember that a reservation is gone, until the cache shows it."""
        if self.cache.get(reservation.name, reservation.namespace) is not None:
            self._gone.add(reservation.uid)

    def on_lease(self, add: Wake) -> Callable[[Manifest], None]:
        """A handler that wakes whoever wants the host of a reservation that came, changed or went."""

        def handler(manifest: Manifest) -> None:
            found = read_reservation(manifest)
            if found is None:
                return
            if self.cache.get(found.name, found.namespace) is None:
                self._gone.discard(found.uid)
            for environment, hosts in self._wanted.items():
                if any(overlaps(host, found.host) for host in hosts):
                    add(environment)

        return handler

    def on_environment(self, add: Wake, environments: Informer) -> Callable[[Manifest], None]:
        """A handler that wakes whoever wants what an Environment bore in its name, or has left, when it is gone."""

        def handler(manifest: Manifest) -> None:
            name = manifest["metadata"]["name"]
            if not self._wanted or environments.get(name, manifest["metadata"]["namespace"]) is not None:
                return
            left = [read_reservation(item) for item in self.cache.by_index(BY_HOLDER, name)]
            for environment, hosts in self._wanted.items():
                if any(bears(host, name) or any(one and overlaps(host, one.host) for one in left) for host in hosts):
                    add(environment)

        return handler
