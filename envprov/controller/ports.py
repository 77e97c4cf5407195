"""What the controller needs from the edges, as it sees them. The composition root plugs the edges in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from envprov.domain.actions import Action
from envprov.domain.desired import Desired, Identity
from envprov.domain.environment import Environment, EnvironmentStatus
from envprov.domain.observed import GuardSeen, Key, Observed, Remains
from envprov.domain.project import Project

Manifest = Mapping[str, Any]


class Records(Protocol):
    """The Environments and Projects, read from caches, written through the API."""

    def environment(self, name: str) -> Manifest | None:
        """The Environment as last seen, or None."""

    def project(self, name: str) -> Project | None:
        """
        The Project as last seen, or None.

        Raises:
            InvalidRecord: It cannot be understood.

        """

    def pending_successor(self, name: str) -> str | None:
        """Revision that a finished teardown owes a new Environment of this name, or None."""

    async def superseded(self, environment: Environment) -> None:
        """Return when a newer generation, or the deletion, of the Environment has been seen."""

    async def hold(self, environment: Environment) -> None:
        """Put our finalizer on the Environment, so that its deletion waits for the teardown."""

    async def report(self, environment: Environment, status: EnvironmentStatus) -> None:
        """Write the status."""

    async def report_poison(self, manifest: Manifest, message: str, now: datetime) -> None:
        """Say on an Environment that cannot be read why it cannot."""

    async def retire(self, environment: Environment, now: datetime) -> None:
        """Take our finalizer off, after keeping what late deliveries must be judged by."""

    async def revive(self, name: str) -> None:
        """Make the Environment that a finished teardown owes."""

    async def expire(self, environment: Environment) -> None:
        """Ask for the teardown of an Environment whose lifetime has ended."""

    async def tell(self, environment: Environment, reason: str, message: str, *, warning: bool) -> None:
        """Record a Kubernetes Event that a person should see."""


class BranchFiles(Protocol):
    """What the controller reads in the repositories."""

    async def branch_file(self, ref: str | int, revision: str) -> bytes | None:
        """
        The file ``.envprov.yaml`` at a commit, or None if GitLab says that there is none.

        Raises:
            InvalidBranchFile: It is too large to be read.

        """


class Cluster(Protocol):
    """What is in the cluster for one environment, and the one way to change it."""

    async def observe(self, desired: Desired, fresh: Mapping[Key, Manifest]) -> Observed:
        """
        Read everything that the way up is decided from.

        Args:
            desired: What ought to be.
            fresh: Objects that this pass has just written, which caches may not show yet.

        """

    async def remains(self, identity: Identity, *, thorough: bool) -> Remains:
        """
        Read live everything that the way down is decided from.

        Args:
            identity: The environment.
            thorough: Whether to look for everything else, too, that a husk must lose.

        """

    async def ask_guard(self, identity: Identity) -> GuardSeen:
        """Whether the policies are in force right now, and what may go by a complete graph of who uses what."""

    async def look_back(self, identity: Identity) -> tuple[str, ...]:
        """
        Who uses ServiceAccounts of the namespace, which is gone: they came between the last look and the deletion.

        Args:
            identity: The environment.

        Returns:
            A sentence for each that can be seen.

        """

    def alarm(self) -> GuardSeen | None:
        """What the guard says if it is known to be disarmed, or None."""

    async def apply(self, action: Action) -> Manifest | None:
        """Carry out one action; returns the object as it then is, if the action wrote one."""
