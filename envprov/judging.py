"""Whether the release that an environment ought to have may be deployed: its chart, the cluster and other hosts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from envprov.domain.checking import Given
from envprov.domain.checks.catalogue import check
from envprov.domain.desired import INSTALLER, Desired, Identity
from envprov.domain.errors import Invalid, PlanRefused, TerminalError
from envprov.domain.findings import Finding, downgrade, refusing
from envprov.domain.hosts import HostSeen, HostState, Reservation, own_host
from envprov.domain.observed import Rendered
from envprov.domain.release import DIGEST, Release, ReleaseState
from envprov.domain.rendered import read_rendered
from envprov.kube.client import KubeClient
from envprov.kube.reservations import Reservations
from envprov.kube.resources import SECRETS
from envprov.planning import Draft, Planner
from envprov.releases.engine import ReleaseSpec, service_account_user
from envprov.releases.stored import decode_objects
from envprov.trial import Trial
from envprov.waiting import Waiting


@dataclass(frozen=True)
class Judged:
    """
    A release that is wanted, as far as it could be looked at.

    Attributes:
        digest: Of its chart and values; None while the chart cannot be had.
        fault: Why it cannot be had or does not render.
        rendered: What the guard must know of it; empty while there is nothing to deploy.
        findings: What is wrong with it; None while there is nothing to deploy.
        hosts: The hosts that it wants; None if nobody knows which.

    """

    digest: str | None = None
    fault: TerminalError | None = None
    rendered: Rendered = field(default_factory=Rendered)
    findings: tuple[Finding, ...] | None = None
    hosts: dict[str, HostSeen] | None = None


@dataclass(frozen=True)
class Judge:
    """
    Judges releases for the controller.

    Attributes:
        client: Speaks to the API server.
        planner: Drafts releases.
        reservations: Knows whose hosts are.
        waiting: Is told who waits for a host.

    """

    client: KubeClient
    planner: Planner
    reservations: Reservations
    waiting: Waiting
    _claimed: dict[str, tuple[str, set[str]]] = field(default_factory=dict, repr=False)

    async def look(self, desired: Desired, release: Release, reserved: tuple[Reservation, ...]) -> Judged:
        """
        Look at the release that is wanted, from every side if it is to be deployed.

        Args:
            desired: What ought to be.
            release: The release that is there.
            reserved: The hosts that the environment has reserved.

        Raises:
            RetryableError: The chart could not be fetched, or the API server does not answer.

        """
        try:
            spec = await self.planner.release(desired)
        except TerminalError as error:
            return Judged(fault=error)
        digest = spec.labels[DIGEST]
        if release.state is ReleaseState.DEPLOYED and release.digest == digest:
            return Judged(digest, hosts=await self._kept_hosts(desired, release, reserved))
        try:
            draft = await self._draft(spec, desired.identity, release)
        except TerminalError as error:
            return Judged(digest, error)
        rendered = read_rendered(draft.objects, desired.identity.namespace)
        own = own_host(desired)
        wanted = {*rendered.hosts, *((own,) if own else ())}
        self._claimed[desired.identity.namespace] = digest, wanted
        hosts = await self._look_for(desired.identity, wanted)
        given = await self.planner.given(desired, draft, hosts)
        return Judged(digest, rendered=rendered, findings=check(given), hosts=hosts)

    async def draft(self, desired: Desired, release: Release) -> Draft:
        """
        The release that is wanted, rendered.

        Args:
            desired: What ought to be.
            release: The release that is there.

        Raises:
            TerminalError: The chart cannot be had, or does not render.

        """
        return await self._draft(await self.planner.release(desired), desired.identity, release)

    async def _draft(self, spec: ReleaseSpec, identity: Identity, release: Release) -> Draft:
        is_upgrade = release.state is not ReleaseState.ABSENT
        # Before the first deployment the rights of the installer may not be in force, and there is little to look up.
        reader = _installer(identity) if is_upgrade else None
        return await self.planner.draft(spec, is_upgrade=is_upgrade, lookup_as=reader)

    async def rehearse(self, desired: Desired, draft: Draft) -> None:
        """
        Ask the API server, as the installer, whether it would take every object; Helm would find out one by one.

        Args:
            desired: What ought to be.
            draft: The release.

        Raises:
            PlanRefused: What it would not take, and why.

        """
        if draft.is_upgrade and not await self.planner.helm.applies():
            return  # a dry run would keep what Helm 3 takes away, and refuse what it does well
        given = Given(desired, draft.objects, await self.planner.facts.served(draft.objects))
        trial = Trial(self.client.acting_as(_installer(desired.identity)), desired.identity.namespace)
        findings = downgrade(await trial.run(given), desired.checks.warn_only)
        if refusing(findings):
            raise PlanRefused(findings)

    def forget(self, namespace: str) -> None:
        """Remember nothing of a namespace that is gone."""
        self._claimed.pop(namespace, None)

    async def _kept_hosts(
        self, desired: Desired, release: Release, reserved: tuple[Reservation, ...]
    ) -> dict[str, HostSeen] | None:
        """The hosts of a release that stands; looked at live if one is not reserved."""
        namespace, digest = desired.identity.namespace, release.digest or ""
        known = self._claimed.get(namespace)
        if known is None or known[0] != digest:
            # It was deployed by an earlier process, or before hosts were reserved at all: others must not take them.
            stored = await self._stored_hosts(desired, release)
            if stored is None:
                return None
            known = self._claimed[namespace] = digest, stored
        if known[1] <= {one.host for one in reserved if one.is_settled}:
            return dict.fromkeys(known[1], HostSeen(HostState.OURS))
        return await self._look_for(desired.identity, known[1])

    async def _stored_hosts(self, desired: Desired, release: Release) -> set[str] | None:
        """The hosts of a release as Helm has stored it; None if that cannot be read."""
        name, namespace = f"sh.helm.release.v1.{release.name}.v{release.revision}", desired.identity.namespace
        secret = await self.client.get(SECRETS, name, namespace)
        if secret is None:
            return None
        try:
            stored = await asyncio.to_thread(decode_objects, secret)
        except Invalid:
            return None  # Helm will say so itself with the next deployment
        own = own_host(desired)
        rendered = read_rendered((*stored.objects, *stored.hooks), namespace)
        return {*rendered.hosts, *((own,) if own else ())}

    async def _look_for(self, identity: Identity, wanted: set[str]) -> dict[str, HostSeen]:
        """Look live, and be woken when one of those that others have gets free."""
        self.waiting.expect(identity.name, wanted)
        seen = await self.reservations.look(identity, wanted)
        self.waiting.expect(identity.name, {host for host, one in seen.items() if one.state is not HostState.OURS})
        return seen


def _installer(identity: Identity) -> str:
    return service_account_user(identity.namespace, INSTALLER)
