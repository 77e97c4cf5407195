"""A chart as it would be deployed, and what is wrong with it: joins charts, Helm and the cluster's facts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from envprov.domain.checking import Blind, Given
from envprov.domain.desired import INSTALLER, Desired
from envprov.domain.errors import EnvprovError, Invalid, RenderFailed
from envprov.domain.hosts import HostSeen, HostState
from envprov.domain.release import DIGEST, REVISION
from envprov.domain.rendered import read_rendered
from envprov.fetching import ChartFinder
from envprov.kube.client import KubeClient
from envprov.kube.discovery import Kinds
from envprov.kube.facts import FactsReader
from envprov.kube.resources import SERVICE_ACCOUNTS
from envprov.releases import values
from envprov.releases.engine import Helm, ReleaseSpec, Setting
from envprov.releases.lookups import looks_up

Manifest = Mapping[str, Any]

DRAFTS_KEPT = 256
SEEN_SECONDS = 30.0
"""How long a chart that asked the cluster while it was rendered counts as what it would be now."""
LIGHT_BYTES = 400_000
"""A chart below this size makes no release that is too large: its templates would have to render ten times as much."""


@dataclass(frozen=True)
class Draft:
    """
    A release as it would be deployed.

    Attributes:
        spec: The release.
        digest: Of its chart and values.
        objects: What it renders, hooks and CRDs included.
        is_upgrade: Whether the release was there already.
        bytes: How large the release's Secret would be; None for a chart so small that it does not matter.
        asks: Whether it may have asked the cluster while it was rendered.
        blind: Why it got no answer, if it asked and that was wanted.

    """

    spec: ReleaseSpec
    digest: str
    objects: tuple[Manifest, ...]
    is_upgrade: bool
    bytes: int | None = None
    asks: bool = False
    blind: Blind | None = None


@dataclass(frozen=True)
class Planner:
    """
    Drafts releases and judges them; touches nothing.

    Attributes:
        client: Speaks to the API server.
        helm: Renders.
        charts: Finds charts.
        kinds: What the API server serves.
        facts: Reads what the cluster has.
        history_max: Revisions that Helm keeps of a release: each is a Secret that the quota counts.
        clock: Seconds that only go up.

    """

    client: KubeClient
    helm: Helm
    charts: ChartFinder
    kinds: Kinds
    facts: FactsReader
    history_max: int = 5
    clock: Callable[[], float] = time.monotonic
    _drafts: OrderedDict[tuple[str, ...], tuple[Draft, float]] = field(default_factory=OrderedDict, repr=False)

    async def release(self, desired: Desired) -> ReleaseSpec:
        """
        The release that an environment ought to have, labelled with the digest of its chart and values.

        Args:
            desired: What ought to be.

        Raises:
            TerminalError: The chart cannot be had.
            RetryableError: It could not be fetched.

        """
        chart = await self.charts.find(desired)
        merged = values.merge(*desired.values)
        again = (desired.redeploy,) if desired.redeploy else ()
        digest = values.digest(chart.digest, merged, *again)
        return ReleaseSpec(
            name=desired.identity.name,
            namespace=desired.identity.namespace,
            chart=chart,
            values=merged,
            installer=INSTALLER,
            labels={DIGEST: digest, **({REVISION: desired.revision} if desired.revision else {})},
        )

    async def draft(self, spec: ReleaseSpec, *, is_upgrade: bool, lookup_as: str | None = None) -> Draft:
        """
        Render a release as Helm would install it into this cluster; once for each chart, values and cluster.

        A chart that asks the cluster is rendered again after some seconds, since the answer may be another one.

        Args:
            spec: The release.
            is_upgrade: Whether it is there already.
            lookup_as: User that the chart's ``lookup`` reads the cluster as; empty for one's own, None if it is to find
                nothing.

        Raises:
            RenderFailed: It does not render.
            Forbidden: It would ask the cluster, and nobody may do so as that user.

        """
        kinds = await self.kinds.including(())
        served = {api_version for api_version, _ in kinds.every} | {"/".join(kind) for kind in kinds.every}
        alone = Setting(kinds.version, frozenset(served), is_upgrade=is_upgrade)
        seeing = replace(alone, lookup_as=lookup_as)
        known = self._known(spec, alone)
        if known is None or (known.asks and seeing != alone):
            known = self._known(spec, seeing)
        return known or await self._drafted(spec, alone, seeing)

    def _known(self, spec: ReleaseSpec, setting: Setting) -> Draft | None:
        """What was drafted before, if it would be the same now."""
        key = _key(spec, setting)
        known, since = self._drafts.get(key, (None, 0.0))
        if known is None or (setting.lookup_as is not None and self.clock() - since > SEEN_SECONDS):
            return None
        self._drafts.move_to_end(key)
        return known

    async def _drafted(self, spec: ReleaseSpec, alone: Setting, seeing: Setting) -> Draft:
        asks = await asyncio.to_thread(looks_up, Path(spec.chart.reference), spec.values)
        setting = seeing if asks else alone
        (objects, blind), size = await asyncio.gather(self._render(spec, setting), self._weigh(spec))
        draft = Draft(spec, spec.labels[DIGEST], objects, setting.is_upgrade, size, asks, blind)
        self._drafts[_key(spec, setting)] = draft, self.clock()
        if len(self._drafts) > DRAFTS_KEPT:
            self._drafts.popitem(last=False)
        return draft

    async def given(self, desired: Desired, draft: Draft, hosts: Mapping[str, HostSeen]) -> Given:
        """
        Everything that a draft is judged by, as the cluster is now.

        Args:
            desired: What ought to be.
            draft: The release.
            hosts: The hosts that it wants, and whose they are.

        """
        taken = {host: seen.by for host, seen in hosts.items() if seen.state is HostState.TAKEN}
        facts, owners = await asyncio.gather(self.facts.read(desired, draft.objects), self.owners(draft))
        seen = replace(facts, history_max=self.history_max, hosts=taken, owners=owners, blind=draft.blind)
        return Given(desired, draft.objects, replace(seen, release_bytes=draft.bytes))

    async def owners(self, draft: Draft) -> dict[str, Manifest]:
        """ServiceAccounts that a draft would make and that are there already, by name, with their annotations."""
        namespace = draft.spec.namespace
        owned = read_rendered(draft.objects, namespace).owned
        names = sorted({account.name for account in owned if account.namespace == namespace and account.name})
        found = await asyncio.gather(
            *(self.client.get(SERVICE_ACCOUNTS, name, namespace, metadata_only=True) for name in names)
        )
        return {name: live for name, live in zip(names, found, strict=True) if live is not None}

    async def _render(self, spec: ReleaseSpec, setting: Setting) -> tuple[tuple[Manifest, ...], Blind | None]:
        try:
            return await self.helm.render(spec, setting), None
        except (RenderFailed, Invalid) as error:
            if setting.lookup_as is None:
                raise
            # Helm 4 then refuses kinds that are not served, too, before anybody can say all that is wrong.
            objects = await self.helm.render(spec, replace(setting, lookup_as=None))
            return objects, Blind(str(error), fails=isinstance(error, RenderFailed) and setting.lookup_as != "")

    async def _weigh(self, spec: ReleaseSpec) -> int | None:
        if await asyncio.to_thread(_size_of, Path(spec.chart.reference)) < LIGHT_BYTES:
            return None
        try:
            return await self.helm.weigh(spec)
        except EnvprovError:
            return None  # it needs the cluster to render; the API server has the last word


def _size_of(folder: Path) -> int:
    """Bytes of a chart's own files; those of its dependencies are not stored with the release."""
    return sum(
        file.stat().st_size
        for file in folder.rglob("*")
        if file.is_file() and file.relative_to(folder).parts[0] != "charts"
    )


def _key(spec: ReleaseSpec, setting: Setting) -> tuple[str, ...]:
    seen = (setting.kube_version, sorted(setting.api_versions), setting.is_upgrade, setting.lookup_as)
    return spec.namespace, spec.name, spec.labels[DIGEST], hashlib.sha256(repr(seen).encode()).hexdigest()
