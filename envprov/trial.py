"""Whether the API server would take what a chart renders: every object is sent to it, and nothing is stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from envprov.domain.charted import Charted, pod_template
from envprov.domain.checking import Given
from envprov.domain.checks.server import UNTRIED, judge
from envprov.domain.errors import EnvprovError
from envprov.domain.findings import Finding
from envprov.domain.loose import mapping, text
from envprov.kube.client import KubeClient
from envprov.kube.resources import Resource

MANAGER = "helm"
"""Helm's own: what it applied before and leaves out now is to be missed in the trial, too."""
AT_ONCE = 8
LIMIT_SECONDS = 20.0
"""For all objects together."""


@dataclass(frozen=True)
class Trial:
    """
    A dry run of a whole chart.

    Attributes:
        client: Speaks to the API server, best as whoever would deploy the chart.
        namespace: Where the objects of the environment's own namespace are tried.
        is_installer: Whether that is who would deploy it, so that its rights are part of the answer.
        applies: Whether Helm would apply the objects, as the trial does; Helm 3 creates them, and loses unknown fields.

    """

    client: KubeClient
    namespace: str
    is_installer: bool = True
    applies: bool = True

    async def run(self, given: Given) -> tuple[Finding, ...]:
        """
        Try every object of a chart that belongs into the environment's namespace.

        Args:
            given: The chart.

        Returns:
            What the API server has against it; and a note for what could not be tried.

        """
        made = Made.by(given)
        home = given.desired.identity.namespace
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(item: Charted) -> Finding | None:
            async with gate:
                try:
                    await self.client.rehearse(
                        _resource(given, item), made.apart(item, self.namespace), manager=MANAGER
                    )
                except EnvprovError as error:
                    return judge(item.subject, error, is_installer=self.is_installer, drops_unknown=not self.applies)
            return None

        triable = [item for item in given.items if item.subject.namespace == home and _can_try(given, item, made)]
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                found = await asyncio.gather(*(one(item) for item in triable))
        except TimeoutError:
            return (UNTRIED.found(None, "", f"the API server did not try the objects within {LIMIT_SECONDS:g} s"),)
        return tuple(finding for finding in found if finding is not None)


@dataclass(frozen=True)
class Made:
    """What a chart makes that other objects of it need before the API server takes them."""

    roles: frozenset[str]
    accounts: frozenset[str]

    @classmethod
    def by(cls, given: Given) -> Made:
        """Look through a chart."""
        return cls(given.made("rbac.authorization.k8s.io", "Role"), given.made("", "ServiceAccount"))

    def apart(self, item: Charted, namespace: str) -> dict[str, Any]:
        """An object as it can be tried in a namespace in which nothing else of the chart is."""
        manifest = {**item.manifest, "metadata": {**mapping(item.manifest.get("metadata")), "namespace": namespace}}
        template = pod_template(item)
        if (
            template is not None
            and item.kind == "Pod"
            and text(template.spec.get("serviceAccountName")) in self.accounts
        ):
            spec = {key: value for key, value in template.spec.items() if key != "serviceAccount"}
            manifest["spec"] = spec | {"serviceAccountName": "default"}
        return manifest


def _resource(given: Given, item: Charted) -> Resource:
    key = (item.subject.api_version, item.kind)
    return Resource(*key, given.facts.plurals[key], given.facts.scopes[key])


def _can_try(given: Given, item: Charted, made: Made) -> bool:
    """Whether an object can be tried by itself: other checks have judged what cannot be named or is not served."""
    if not item.subject.name or (item.subject.api_version, item.kind) not in given.facts.plurals:
        return False
    role = mapping(item.manifest.get("roleRef"))
    # Nobody can bind a Role that is only to be made.
    return not (text(role.get("kind")) == "Role" and text(role.get("name")) in made.roles)
