"""What provides what a chart needs by name: the chart itself, what controllers make of it, and what is there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from envprov.domain import rbac
from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.generators import (
    CONFIG_MAPS_OF_GROUPS,
    generated_secrets,
    is_filled_in,
    is_unknown,
)
from envprov.domain.loose import mapping, text, within
from envprov.domain.needs import Kind, Need, claim_templates
from envprov.domain.phases import in_time

ROOT_CERTIFICATES = "kube-root-ca.crt"

_PLURALS = {
    Kind.SECRET: "secrets",
    Kind.CONFIG_MAP: "configmaps",
    Kind.CLAIM: "persistentvolumeclaims",
    Kind.ACCOUNT: "serviceaccounts",
}
_RELEVANT = frozenset({*_PLURALS.values(), rbac.ALL})


@dataclass(frozen=True)
class Maker:
    """
    What an object of the chart provides.

    Attributes:
        item: The object: what is needed itself, or what a controller makes it of.
        keys: Its keys; None if they cannot be known.

    """

    item: Charted
    keys: frozenset[str] | None = None


@dataclass(frozen=True)
class Supply:
    """
    All that provides Secrets, ConfigMaps, claims and ServiceAccounts.

    Attributes:
        given: The chart and the cluster.

    """

    given: Given

    def there(self, kind: Kind) -> Collection[str] | None:
        """
        Names of what is in the namespace already, or comes there without the chart.

        Returns:
            None if it could not be looked at.

        """
        facts, desired = self.given.facts, self.given.desired
        match kind:
            case Kind.SECRET:
                copies = {secret.name for secret in desired.secrets}
                return None if facts.secrets is None else {*facts.secrets, *copies}
            case Kind.CONFIG_MAP:
                served = {api_version.partition("/")[0] for api_version, _ in facts.scopes}
                everywhere = {name for group, name in CONFIG_MAPS_OF_GROUPS.items() if group in served}
                return None if facts.config_maps is None else {*facts.config_maps, *everywhere, ROOT_CERTIFICATES}
            case Kind.CLAIM:
                return facts.claims
            case Kind.ACCOUNT:
                return None if facts.service_accounts is None else {*facts.service_accounts, "default"}

    def makers(self, need: Need) -> tuple[Maker, ...]:
        """What in the chart provides this, at whatever time."""
        return self._made.get((need.kind, need.name), ())

    def timely(self, need: Need) -> tuple[Maker, ...]:
        """The same, of what is there when it is needed."""
        return tuple(maker for maker in self.makers(need) if in_time(maker.item, need.user))

    def doubt(self, need: Need, *verbs: str) -> str:
        """
        Why something that nobody is known to provide may come all the same, in words; empty if it cannot.

        Args:
            need: What is needed.
            verbs: By which a pod of the chart could provide it, if the chart gives it that right.

        """
        if self._stranger is not None:
            return f"unless the controller of {self._stranger.subject} ({self._stranger.group}) makes it"
        plural = _PLURALS[need.kind]
        granting = next(
            (
                item
                for item, rules in self._granted
                if any(rbac.allows(rules, verb, "", plural, need.name) for verb in verbs)
            ),
            None,
        )
        return f"unless a pod of the chart makes it, as {granting.subject} allows" if granting is not None else ""

    @cached_property
    def _at_home(self) -> tuple[Charted, ...]:
        home = self.given.desired.identity.namespace
        return tuple(item for item in self.given.items if item.subject.namespace == home)

    @cached_property
    def _stranger(self) -> Charted | None:
        return next((item for item in self._at_home if is_unknown(item)), None)

    @cached_property
    def _made(self) -> Mapping[tuple[Kind, str], tuple[Maker, ...]]:
        found: dict[tuple[Kind, str], list[Maker]] = {}
        for item in self._at_home:
            for kind, name, keys in _provided(item):
                if name:
                    found.setdefault((kind, name), []).append(Maker(item, keys))
        return {key: tuple(makers) for key, makers in found.items()}

    @cached_property
    def _granted(self) -> tuple[tuple[Charted, rbac.Rules], ...]:
        """What the chart lets its own pods do, by Roles and by bindings to ClusterRoles that are known."""
        known = self.given.facts.cluster_roles or {}
        found: list[tuple[Charted, rbac.Rules]] = []
        for item in self._at_home:
            rules: rbac.Rules = ()
            if item.is_a(rbac.GROUP, "Role"):
                rules = rbac.read_rules(item.manifest.get("rules"))
            elif item.is_a(rbac.GROUP, "RoleBinding"):
                ref = within(item.manifest, "roleRef")
                if text(ref.get("kind")) == "ClusterRole":
                    rules = rbac.read_rules(known.get(text(ref.get("name"))))
            relevant = tuple(rule for rule in rules if not _RELEVANT.isdisjoint(rule.resources))
            if relevant:
                found.append((item, relevant))
        return tuple(found)


def _provided(item: Charted) -> Iterable[tuple[Kind, str, frozenset[str] | None]]:
    name = item.subject.name
    match item.group, item.kind:
        case "", "Secret":
            yield Kind.SECRET, name, _keys(item, "data", "stringData")
        case "", "ConfigMap":
            yield Kind.CONFIG_MAP, name, _keys(item, "data", "binaryData")
        case "", "PersistentVolumeClaim":
            yield Kind.CLAIM, name, None
        case "", "ServiceAccount":
            yield Kind.ACCOUNT, name, None
        case "cdi.kubevirt.io", "DataVolume":
            yield Kind.CLAIM, name, None
        case "apps", "StatefulSet":
            for _, template in claim_templates(item):
                claim = text(within(template, "metadata").get("name"))
                for number in range(_replicas(item)):
                    yield Kind.CLAIM, f"{claim}-{name}-{number}", None
        case _:
            pass
    yield from ((Kind.SECRET, made, keys) for made, keys in generated_secrets(item))


def _keys(item: Charted, *fields: str) -> frozenset[str] | None:
    if is_filled_in(item):
        return None
    return frozenset(str(key) for field in fields for key in mapping(item.manifest.get(field)))


def _replicas(item: Charted) -> int:
    replicas = within(item.manifest, "spec").get("replicas", 1)
    # Beyond any size: only what is written by hand is looked for.
    return min(max(replicas, 0), 100) if isinstance(replicas, int) else 1
