"""What a chart makes outside its namespace: objects of the whole cluster, of other namespaces, of unknown kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import mapping, mappings, text, within

CLUSTER_SCOPED = Rule(
    "ClusterScoped",
    Severity.ERROR,
    "The object belongs to no namespace: every branch would make the same one, whoever comes last wins, and taking one "
    "environment down takes it from all others. A Project lists in `checks.clusterScoped` what its charts may have.",
    "leave it out of the chart, or let platform people allow it in the Project's checks.clusterScoped",
)
SHARED_NAME = Rule(
    "SharedName",
    Severity.WARNING,
    "The Project allows the cluster-scoped object, but its name is the same for every branch: two environments collide "
    "in it.",
    "let its name hold the slug: the value envprov.slug, or the name of the release",
)
FOREIGN_NAMESPACE = Rule(
    "ForeignNamespace",
    Severity.ERROR,
    "The object would be made in a namespace that is not the environment's. There it changes what is somebody else's, "
    "and stays when the environment goes.",
    "remove metadata.namespace, or set it to {{ .Release.Namespace }}",
)
UNKNOWN_KIND = Rule(
    "UnknownKind",
    Severity.ERROR,
    "The cluster does not serve this kind in this version, so Helm cannot install the chart.",
    "correct apiVersion and kind; `kubectl api-resources` lists what there is",
)
MISSING_DEFINITION = Rule(
    "MissingDefinition",
    Severity.ERROR,
    "A custom resource needs its CustomResourceDefinition, and usually an operator, in the cluster before the chart is "
    "installed.",
    "have the operator installed in the cluster, or switch this part of the chart off",
)
KIND_NOT_SEEN = Rule(
    "KindNotSeen",
    Severity.NOTE,
    "The server of an aggregated API does not answer at the moment, so nobody can say whether the kind is there.",
    "look at `kubectl get apiservices`: the one that is not Available hides it",
)
RULES: tuple[Rule, ...] = (
    CLUSTER_SCOPED,
    SHARED_NAME,
    FOREIGN_NAMESPACE,
    UNKNOWN_KIND,
    MISSING_DEFINITION,
    KIND_NOT_SEEN,
)

_LEGACY = ("extensions", "apps", "policy", "networking.k8s.io")
"""Groups between which kinds have moved since ``extensions``."""
_GONE = {
    ("policy", "PodSecurityPolicy"): "it was removed in Kubernetes 1.25; the namespace has Pod Security levels instead",
    (
        "extensions",
        "PodSecurityPolicy",
    ): "it was removed in Kubernetes 1.25; the namespace has Pod Security levels instead",
}
_WAYS_OUT = {
    "Namespace": "leave it out: envprov makes the namespace",
    "CustomResourceDefinition": (
        "have the definitions installed once for the cluster, as with the operator, and leave them out of the chart "
        "(a folder crds/ cannot be switched off by values), or let platform people allow them in checks.clusterScoped"
    ),
    "ClusterRole": "use a Role, which holds in the environment only",
    "ClusterRoleBinding": "use a RoleBinding, which holds in the environment only",
    "PersistentVolume": "use a PersistentVolumeClaim and let a StorageClass make the volume",
}

Scopes = Mapping[tuple[str, str], bool]


def cluster_scoped(given: Given) -> Iterator[Finding]:
    """Objects of the whole cluster."""
    slug, allowed = given.desired.identity.name, given.desired.checks.cluster_scoped
    scopes = _scopes(given)
    for item in given.items:
        if _is_namespaced(item, scopes):
            continue
        name = item.subject.name
        if not any(
            (row.group, row.kind) == (item.group, item.kind) and fnmatchcase(name, row.name or "*") for row in allowed
        ):
            remedy = _WAYS_OUT.get(item.kind, "") if item.is_built_in else ""
            yield CLUSTER_SCOPED.found(item.subject, "", "belongs to the whole cluster, and not to one branch", remedy)
        elif slug not in name:
            message = f"is one object for all branches: its name does not hold the slug {slug}"
            yield SHARED_NAME.found(item.subject, "metadata.name", message)


def foreign_namespaces(given: Given) -> Iterator[Finding]:
    """Objects that name another namespace than the environment's."""
    home, scopes = given.desired.identity.namespace, _scopes(given)
    for item in given.items:
        named = text(within(item.manifest, "metadata").get("namespace"))
        # Whose ServiceAccount it would be is judged apart, with the value to set.
        if named and named != home and _is_namespaced(item, scopes) and not item.is_a("", "ServiceAccount"):
            message = f"would be made in the namespace {named}, and not in the environment's own, {home}"
            yield FOREIGN_NAMESPACE.found(item.subject, "metadata.namespace", message)


def unknown_kinds(given: Given) -> Iterator[Finding]:
    """Kinds that the cluster does not serve, and that the chart does not define."""
    scopes = _scopes(given)
    stale = {given_group.partition("/")[0] for given_group in given.facts.stale}
    for item in given.items:
        subject = item.subject
        named = f"{subject.api_version or '(no apiVersion)'} {subject.kind or '(no kind)'}"
        if (subject.api_version, subject.kind) in scopes:
            continue
        if not subject.api_version or not subject.kind:
            missing = "kind" if subject.api_version else "apiVersion"
            yield UNKNOWN_KIND.found(subject, missing, f"does not say its {missing}", f"add the {missing}")
        elif item.group in stale or not given.facts.scopes:
            message = f"could not be looked at: the server of {subject.api_version} does not answer"
            yield KIND_NOT_SEEN.found(subject, "apiVersion", message)
        elif gone := _GONE.get((item.group, item.kind)):
            message = f"is of a kind that this cluster does not serve: {named}"
            yield UNKNOWN_KIND.found(subject, "apiVersion", message, f"leave it out: {gone}")
        elif others := _served_as(item, scopes):
            message = f"is {named}, which this cluster does not serve; it serves {item.kind} as {' and '.join(others)}"
            yield UNKNOWN_KIND.found(subject, "apiVersion", message, f"set apiVersion to {others[-1]}")
        elif item.is_built_in:
            message = f"is of a kind that this cluster does not serve: {named}"
            yield UNKNOWN_KIND.found(subject, "kind", message)
        else:
            message = f"is {named}, for which neither the cluster nor the chart has a CustomResourceDefinition"
            yield MISSING_DEFINITION.found(subject, "kind", message)


CHECKS = (cluster_scoped, foreign_namespaces, unknown_kinds)


def _scopes(given: Given) -> Scopes:
    """What is served, and what will be when the chart's own definitions are in place."""
    return {**_defined(given), **given.facts.scopes}


def _defined(given: Given) -> dict[tuple[str, str], bool]:
    defined: dict[tuple[str, str], bool] = {}
    for item in given.items:
        if item.is_a("apiextensions.k8s.io", "CustomResourceDefinition"):
            spec = mapping(item.manifest.get("spec"))
            kind, group = text(within(spec, "names").get("kind")), text(spec.get("group"))
            for version in mappings(spec.get("versions")):
                if version.get("served") is not False:
                    defined[f"{group}/{text(version.get('name'))}", kind] = spec.get("scope") != "Cluster"
    return defined


def _is_namespaced(item: Charted, scopes: Scopes) -> bool:
    """Whether an object is one of a namespace; of an unknown version, what the other versions are."""
    known = scopes.get((item.subject.api_version, item.kind))
    if known is not None:
        return known
    return next(
        (
            is_namespaced
            for (version, kind), is_namespaced in scopes.items()
            if kind == item.kind and _group(version) == item.group
        ),
        True,
    )


def _served_as(item: Charted, scopes: Scopes) -> tuple[str, ...]:
    """The versions in which the cluster does serve the kind, the best one last."""
    groups = (*_LEGACY, item.group) if item.group == "extensions" else (item.group,)
    found = {version for version, kind in scopes if kind == item.kind and _group(version) in groups}
    return tuple(sorted(found, key=_maturity))


def _maturity(api_version: str) -> tuple[bool, bool, str]:
    return "alpha" not in api_version, "beta" not in api_version, api_version


def _group(api_version: str) -> str:
    group, slash, _ = api_version.partition("/")
    return group if slash else ""
