"""What a chart grants and makes, against the rights of the installer, which Helm acts as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from envprov.domain import rbac
from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.checks.lookups import NOT_LOOKED_AT, not_looked_at
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import numbered, text, within

Manifest = Mapping[str, Any]

MAY_NOT = Rule(
    "InstallerMayNot",
    Severity.ERROR,
    "Helm acts as the environment's installer, whose rights are those of the ClusterRole `envprov-env-admin`. Without "
    "the right to make and change a kind of object the API server refuses it, and without the right to delete it the "
    "teardown would.",
    "give all charts this kind by a ClusterRole with the label `envprov.io/aggregate-to-env-admin`, see docs/rbac.md, "
    "or leave the object out",
)
ROLE = Rule(
    "RoleExceedsInstaller",
    Severity.ERROR,
    "A Role grants what the installer does not have itself. The API server refuses it, so that nobody gets more rights "
    "by way of a chart than the platform gave to charts.",
    "leave the right out, or give it to all charts by a ClusterRole with the label "
    "`envprov.io/aggregate-to-env-admin`, see docs/rbac.md",
)
BINDING = Rule(
    "BindingExceedsInstaller",
    Severity.ERROR,
    "A RoleBinding grants a role with rights that the installer does not have itself. The API server refuses it.",
    "bind a Role of the chart with just the rights that are needed",
)
CLUSTER_ADMIN = Rule(
    "BindsClusterAdmin",
    Severity.ERROR,
    "A RoleBinding grants `cluster-admin` in the environment. Whoever has it lifts the budget and the isolation of the "
    "environment.",
    "bind a Role of the chart with just the rights that are needed",
)
MISSING_ROLE = Rule(
    "MissingRole",
    Severity.ERROR,
    "A RoleBinding refers to a Role or ClusterRole that is neither in the chart nor in the cluster. The API server "
    "refuses it, for it cannot see what would be granted.",
    "add the Role to the chart, or correct the name",
)
EVERYBODY = Rule(
    "GrantsToEverybody",
    Severity.ERROR,
    "A RoleBinding grants rights in the environment to everybody, or to all ServiceAccounts of the cluster: to the "
    "pods of all other environments among them.",
    "name the ServiceAccount or the group that needs the rights",
)
OTHERS = Rule(
    "GrantsToOtherNamespace",
    Severity.WARNING,
    "A RoleBinding grants rights in the environment to ServiceAccounts of another namespace. That is right for a "
    "shared monitoring, and wrong where the chart was written for one fixed namespace.",
    "leave the namespace of the subject to the chart: `{{ .Release.Namespace }}`",
)

RULES = (MAY_NOT, ROLE, BINDING, CLUSTER_ADMIN, MISSING_ROLE, EVERYBODY, OTHERS)

VERBS = ("get", "create", "patch", "delete")
"""Without which Helm cannot install, upgrade and uninstall an object."""
SHOWN = 5
"""How many single rights a message names."""

_ALL_ACCOUNTS = "system:serviceaccounts"
_EVERYBODY = frozenset(
    {
        ("Group", "system:authenticated"),
        ("Group", "system:unauthenticated"),
        ("Group", _ALL_ACCOUNTS),
        ("User", "system:anonymous"),
    }
)
_ACCOUNT_USER = "system:serviceaccount:"


def installer_may(given: Given) -> Iterator[Finding]:
    """Objects in the namespace that the installer may not make, change or delete."""
    rules = _installer(given)
    if rules is None:
        yield not_looked_at("Rights of the installer")
        return
    brought = _brought(given)
    for item in _at_home(given):
        plural = given.facts.plurals.get((item.subject.api_version, item.kind)) or brought.get((item.group, item.kind))
        if not plural:
            continue
        lacking = [verb for verb in VERBS if not rbac.allows(rules, verb, item.group, plural, item.subject.name)]
        if lacking:
            what = f"{plural}.{item.group}" if item.group else plural
            yield MAY_NOT.found(item.subject, "", f"the installer may not {_listed(lacking)} {what}")


def roles(given: Given) -> Iterator[Finding]:
    """Roles of the chart that grant what the installer does not have."""
    rules = _installer(given)
    if rules is None:
        return  # said above
    for item in _at_home(given):
        if item.is_a(rbac.GROUP, "Role") and not _may_escalate(rules, item):
            granted = rbac.read_rules(item.manifest.get("rules"))
            yield from _exceeding(ROLE, item, "rules", "grants", rules, granted)


def bindings(given: Given) -> Iterator[Finding]:
    """RoleBindings of the chart that grant what the installer may not, or a role that is not there."""
    rules = _installer(given)
    near = {"", given.desired.identity.namespace}
    own = {
        (item.kind, item.subject.name): item
        for item in given.items
        if item.group == rbac.GROUP and item.subject.namespace in near
    }
    for item in _at_home(given):
        if not item.is_a(rbac.GROUP, "RoleBinding"):
            continue
        ref = within(item.manifest, "roleRef")
        kind, name = text(ref.get("kind")), text(ref.get("name"))
        if kind == "ClusterRole" and name == "cluster-admin":
            yield CLUSTER_ADMIN.found(item.subject, "roleRef.name", "binds ClusterRole cluster-admin")
        elif kind in {"Role", "ClusterRole"} and name and rules is not None and not _may_bind(rules, kind, name):
            yield from _binding(given, item, own.get((kind, name)), rules)


def subjects(given: Given) -> Iterator[Finding]:
    """RoleBindings of the chart whose subjects are beyond the environment."""
    home = given.desired.identity.namespace
    for item in _at_home(given):
        if not item.is_a(rbac.GROUP, "RoleBinding"):
            continue
        for place, subject in numbered(item.manifest.get("subjects")):
            kind, name = text(subject.get("kind")), text(subject.get("name"))
            if (kind, name) in _EVERYBODY:
                field = f"subjects[{place}].name"
                yield EVERYBODY.found(item.subject, field, f"grants rights to {kind} {name}")
                continue
            field, namespace = _namespace_of(kind, name, subject, place)
            if namespace and namespace != home:
                who = f"{kind} {name}" if kind != "ServiceAccount" else f"ServiceAccount {namespace}/{name}"
                yield OTHERS.found(item.subject, field, f"grants rights to {who}")


CHECKS = (installer_may, roles, bindings, subjects)


def _installer(given: Given) -> rbac.Rules | None:
    return None if given.facts.installer is None else rbac.read_rules(given.facts.installer)


def _at_home(given: Given) -> Iterator[Charted]:
    home = given.desired.identity.namespace
    return (item for item in given.items if item.subject.namespace == home)


def _brought(given: Given) -> Mapping[tuple[str, str], str]:
    """How RBAC spells the kinds that come by CustomResourceDefinitions of the chart, by group and kind."""
    found: dict[tuple[str, str], str] = {}
    for definition in given.items:
        if definition.is_a("apiextensions.k8s.io", "CustomResourceDefinition"):
            spec = within(definition.manifest, "spec")
            names = within(spec, "names")
            found[text(spec.get("group")), text(names.get("kind"))] = text(names.get("plural"))
    return found


def _may_escalate(rules: rbac.Rules, role: Charted) -> bool:
    return rbac.allows(rules, "escalate", rbac.GROUP, "roles", role.subject.name)


def _may_bind(rules: rbac.Rules, kind: str, name: str) -> bool:
    return rbac.allows(rules, "bind", rbac.GROUP, "roles" if kind == "Role" else "clusterroles", name)


def _binding(given: Given, item: Charted, role: Charted | None, rules: rbac.Rules) -> Iterator[Finding]:
    ref = within(item.manifest, "roleRef")
    kind, name = text(ref.get("kind")), text(ref.get("name"))
    if role is not None:
        # A Role of the chart that exceeds is told of itself, once.
        if kind == "ClusterRole" or _may_escalate(rules, role):
            granted = rbac.read_rules(role.manifest.get("rules"))
            yield from _exceeding(BINDING, item, "roleRef", f"{kind} {name} grants", rules, granted)
        return
    known = given.facts.cluster_roles if kind == "ClusterRole" else given.facts.roles
    if known is None:
        yield not_looked_at(f"{kind}s that the chart binds")
    elif name not in known:
        remedy = "" if kind == "Role" else "bind a ClusterRole of this cluster, or a Role of the chart"
        yield MISSING_ROLE.found(item.subject, "roleRef.name", f"{kind} {name} is not there", remedy)
    else:
        yield from _exceeding(BINDING, item, "roleRef", f"{kind} {name} grants", rules, rbac.read_rules(known[name]))


def _exceeding(  # noqa: PLR0913, PLR0917 - who grants what, and by whose rights
    rule: Rule, item: Charted, field: str, how: str, owned: rbac.Rules, granted: Iterable[rbac.Rule]
) -> Iterator[Finding]:
    try:
        rights = rbac.missing(owned, granted)
    except rbac.TooManyRights:
        yield NOT_LOOKED_AT.found(item.subject, field, "it has too many rights to be looked at one by one")
        return
    if rights:
        yield rule.found(item.subject, field, f"{how} what the installer does not have: {_shown(rights)}")


def _shown(rights: tuple[rbac.Right, ...]) -> str:
    more = len(rights) - SHOWN
    shown = ", ".join(str(right) for right in rights[:SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _namespace_of(kind: str, name: str, subject: Manifest, place: int) -> tuple[str, str]:
    """In which field a subject names a namespace, and which; empty if it names none."""
    where = f"subjects[{place}]"
    match kind:
        case "ServiceAccount":
            return f"{where}.namespace", text(subject.get("namespace"))
        case "Group" if name.startswith(f"{_ALL_ACCOUNTS}:"):
            return f"{where}.name", name.removeprefix(f"{_ALL_ACCOUNTS}:")
        case "User" if name.startswith(_ACCOUNT_USER):
            return f"{where}.name", name.removeprefix(_ACCOUNT_USER).partition(":")[0]
    return where, ""
