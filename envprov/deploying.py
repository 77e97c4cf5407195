"""What Helm does in the namespace of an environment, and what is known of the release that it left there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from envprov.domain.desired import INSTALLER, Desired, Identity
from envprov.domain.errors import AccountTaken, Conflict
from envprov.domain.leases import HELM_LEASE
from envprov.domain.ownership import is_taken, owner_of
from envprov.domain.release import Release, ReleaseState, release_of
from envprov.judging import Judge
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.lease import LeaderElection
from envprov.releases.engine import Helm, service_account_user
from envprov.remains import live_release

Manifest = Mapping[str, Any]

HELM_LEASE_DURATION = timedelta(seconds=10)
"""How long a Helm of a process that was killed is given to end before another one may work in its namespace."""


@dataclass(frozen=True)
class LiveReleases:
    """
    The releases of environments for the controller.

    Attributes:
        client: Speaks to the API server.
        helm: Speaks to Helm.
        judge: Drafts releases and tries them.
        worker: Name of this process, unlike any other, for the locks under which Helm works.

    """

    client: KubeClient
    helm: Helm
    judge: Judge
    worker: str
    _known: dict[str, Release] = field(default_factory=dict, repr=False)

    async def current(self, identity: Identity) -> Release:
        """The release as its Secrets tell it; they are only listed again if one of them has changed."""
        known = self._known.get(identity.namespace)
        if known is not None and await self._stands(identity, known):
            return known
        release = await live_release(self.client, identity)
        self._known[identity.namespace] = release
        return release

    def learn(self, identity: Identity, listed: Iterable[Manifest]) -> None:
        """Take the release from all Secrets of the namespace, which were listed for another reason."""
        self._known[identity.namespace] = release_of(identity.name, (item["metadata"] for item in listed))

    def forget(self, namespace: str) -> None:
        """Forget the release of a namespace that goes."""
        self._known.pop(namespace, None)

    async def deploy(self, desired: Desired, digest: str) -> None:
        """
        Install or upgrade the release, without waiting for what it makes.

        Args:
            desired: The environment.
            digest: Of the chart and values that were judged.

        Raises:
            Conflict: They are others by now.
            PlanRefused: The API server would refuse some of the objects.
            AccountTaken: Another release has taken a ServiceAccount of this one.

        """
        identity = desired.identity
        draft = await self.judge.draft(desired, await self.current(identity))
        if draft.digest != digest:
            raise Conflict(f"the chart of {identity.name} changed while it was being deployed")
        await self.judge.rehearse(desired, draft)
        await self._alone(identity.namespace, partial(self.helm.deploy, draft.spec))
        for name, live in (await self.judge.planner.owners(draft)).items():
            if is_taken(live, identity.namespace, identity.name):
                owner = owner_of(live)
                whose = f"Helm release {owner[0]}/{owner[1]}" if owner else "no Helm release"
                raise AccountTaken(
                    f"ServiceAccount {identity.namespace}/{name} was installed by release {identity.name} and now "
                    f"belongs to {whose}: two releases share it, and the first to go takes it along"
                )

    async def roll_back(self, identity: Identity, to: int) -> None:
        """Go back to a revision."""
        back = partial(self.helm.rollback, identity.name, identity.namespace, to, _installer(identity))
        await self._alone(identity.namespace, back)

    async def uninstall(self, identity: Identity) -> None:
        """Take the release away."""
        end = partial(self.helm.uninstall, identity.name, identity.namespace, _installer(identity))
        await self._alone(identity.namespace, end)

    async def _stands(self, identity: Identity, known: Release) -> bool:
        """Whether what was last read of a release still holds: its Secret says so, and there is none after it."""
        if known.state not in {ReleaseState.ABSENT, ReleaseState.DEPLOYED}:
            return False
        names = [f"sh.helm.release.v1.{identity.name}.v{known.revision + step}" for step in (0, 1)]
        current, following = await asyncio.gather(
            *(self.client.get(resources.SECRETS, name, identity.namespace, metadata_only=True) for name in names)
        )
        if following is not None:
            return False
        if known.state is ReleaseState.ABSENT:
            return True
        return current is not None and release_of(identity.name, [current["metadata"]]) == replace(
            known, last_deployed_revision=known.revision
        )

    async def _alone(self, namespace: str, work: Callable[[], Awaitable[object]]) -> None:
        """Let Helm work in a namespace while no other process of ours does: it does not see its own kind."""

        async def led() -> None:
            await work()

        election = LeaderElection(
            self.client,
            namespace=namespace,
            name=HELM_LEASE,
            identity=f"{self.worker}-{secrets.token_hex(4)}",
            lease_duration=HELM_LEASE_DURATION,
        )
        await election.lead(led)


def _installer(identity: Identity) -> str:
    return service_account_user(identity.namespace, INSTALLER)
