"""
What an identity may do by the manifests, against what it did by the audit log.

``compare`` gives the rights that nobody used and the requests that were refused for want of one. Three checks leave no
request of their own and are read from what stands beside them: ``impersonate`` from the impersonated user, ``bind``
from the names of envprov's RoleBindings, which tell the role, and ``manage``, which no request names, from changes of
ServiceAccounts and Namespaces: an admission policy asks for it where they change guard metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Manifest = Mapping[str, Any]

RBAC = "rbac.authorization.k8s.io"
BOUND_BY_CONTROLLER = {"envprov-env-controller": "env-*"}
"""ClusterRoles that the controller binds to itself, and in which namespaces; no manifest says so."""

_ROLE_OF_BINDING = (
    (re.compile(r"envprov-controller"), "envprov-env-controller"),
    (re.compile(r"envprov-installer"), "envprov-env-admin"),
    (re.compile(r"envprov-access-(view|edit|admin)-[0-9a-f]{8}"), r"\1"),
)
_REFUSAL = re.compile(
    r'(?:"(?P<name>[^"]*)" )?is forbidden: User "[^"]+" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" '
    r'in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]+)")?'
)
_ESCALATION = "attempting to grant RBAC permissions not currently held"


@dataclass(frozen=True)
class Account:
    """A ServiceAccount."""

    namespace: str
    name: str

    @property
    def user(self) -> str:
        """Its name as a user."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


@dataclass(frozen=True, order=True)
class Right:
    """
    One verb on one resource, as a right or as a use of it.

    Attributes:
        verb: As RBAC spells it.
        group: API group; empty for the core.
        resource: Plural, with ``/subresource`` if there is one.
        name: Object; in a right, empty for any.
        namespace: In a right, empty for all and for what is in none, or a glob.

    """

    verb: str
    group: str
    resource: str
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {resource}{name}" + (f" in {self.namespace}" if self.namespace else "")

    def covers(self, use: Right) -> bool:
        """Whether this right allows that use."""
        return (
            (self.verb, self.group, self.resource) == (use.verb, use.group, use.resource)
            and self.name in {"", use.name}
            and (not self.namespace or fnmatchcase(use.namespace, self.namespace))
        )


@dataclass(frozen=True)
class Comparison:
    """
    Rights against uses.

    Attributes:
        unused: Rights without any request that was allowed by them.
        missing: Requests that were refused and that no right covers.
        early: Requests that were refused although a right covers them: its binding had not reached the authorizer yet.

    """

    unused: tuple[Right, ...]
    missing: tuple[Right, ...]
    early: tuple[Right, ...] = ()

    def __str__(self) -> str:
        lines = [f"granted and not used: {right}" for right in self.unused]
        lines += [f"needed and not granted: {use}" for use in self.missing]
        return "\n".join(lines) or "each right is used, and none is missing"


def compare(
    manifests: Iterable[Manifest],
    audit_log: Iterable[str],
    account: Account,
    *,
    bound: Mapping[str, str] = BOUND_BY_CONTROLLER,
) -> Comparison:
    """
    Compare what an identity may do with what it did.

    Args:
        manifests: The installation, rendered.
        audit_log: Lines of the audit log, at level Metadata or above.
        account: The identity.
        bound: ClusterRoles that come to it at run time, with a glob for the namespaces; only for a role that is
            among the manifests, and only for an identity that may bind it.

    """
    rights = granted(manifests, account, bound=bound)
    allowed: set[Right] = set()
    refused: set[Right] = set()
    for line in audit_log:
        for use, was_allowed in _uses(json.loads(line), account):
            (allowed if was_allowed else refused).add(use)
    return Comparison(
        unused=tuple(sorted(right for right in rights if not any(right.covers(use) for use in allowed))),
        missing=tuple(sorted(use for use in refused if not any(right.covers(use) for right in rights))),
        early=tuple(sorted(use for use in refused if any(right.covers(use) for right in rights))),
    )


def granted(
    manifests: Iterable[Manifest], account: Account, *, bound: Mapping[str, str] = BOUND_BY_CONTROLLER
) -> frozenset[Right]:
    """Every single right of an identity."""
    rendered = tuple(manifests)
    roles = {
        (manifest["kind"], manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]): manifest
        for manifest in rendered
        if manifest["kind"] in {"Role", "ClusterRole"}
    }
    rights: set[Right] = set()
    for binding in rendered:
        if binding["kind"] not in {"RoleBinding", "ClusterRoleBinding"} or not _names(binding, account):
            continue
        namespace = binding["metadata"].get("namespace", "")
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        rights |= _rights(roles[kind, namespace if kind == "Role" else "", name], namespace)
    for name, namespace in bound.items():
        role = roles.get(("ClusterRole", "", name))
        if role and any(right.covers(Right("bind", RBAC, "clusterroles", name)) for right in rights):
            rights |= _rights(role, namespace)
    return frozenset(rights)


def _names(binding: Manifest, account: Account) -> bool:
    wanted = {"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}
    return any(subject.items() >= wanted.items() for subject in binding.get("subjects", ()))


def _rights(role: Manifest, namespace: str) -> set[Right]:
    return {
        Right(verb, group, resource, name, namespace)
        for rule in role.get("rules", ())
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", ("",))
    }


def _uses(event: Mapping[str, Any], account: Account) -> Iterator[tuple[Right, bool]]:
    """What one request of the identity used, and whether it was allowed to."""
    target = event.get("objectRef", {})
    if event["user"].get("username", "") != account.user or not target:
        return
    status = event.get("responseStatus", {})
    if status.get("code") == 403:
        yield from _refusal(str(status.get("message", "")), target)
        return
    impersonated = event.get("impersonatedUser", {}).get("username")
    if impersonated:
        # What follows is done with the rights of the other.
        namespace, _, name = impersonated.removeprefix("system:serviceaccount:").partition(":")
        yield Right("impersonate", "", "serviceaccounts", name, namespace), True
        return
    use = _request(event["verb"], target)
    yield use, True
    if event["verb"] == "patch" and use.group == "" and use.resource in {"namespaces", "serviceaccounts"}:
        yield Right("manage", "envprov.io", "holds"), True
    if event["verb"] in {"patch", "update"} and status.get("code") == 201:
        yield Right("create", use.group, use.resource, use.name, use.namespace), True
    role = _bound_role(use)
    if role:
        yield Right("bind", RBAC, "clusterroles", role, use.namespace), True


def _request(verb: str, target: Mapping[str, str]) -> Right:
    resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
    # The API server says of a Namespace that it is in itself.
    namespace = "" if target["resource"] == "namespaces" else target.get("namespace", "")
    return Right(verb, target.get("apiGroup", ""), resource, target.get("name", ""), namespace)


def _refusal(message: str, target: Mapping[str, str]) -> Iterator[tuple[Right, bool]]:
    """A refusal by RBAC; quotas, policies and terminating namespaces answer 403 too."""
    if _ESCALATION in message:
        use = _request("bind", target)
        yield Right("bind", RBAC, "clusterroles", _bound_role(use) or f"of {use.name}", use.namespace), False
        return
    found = _REFUSAL.search(message)
    if found is None:
        return
    namespace = "" if found["resource"] == "namespaces" else found["namespace"] or ""
    yield Right(found["verb"], found["group"], found["resource"], found["name"] or "", namespace), False


def _bound_role(use: Right) -> str | None:
    if (use.group, use.resource) != (RBAC, "rolebindings") or use.verb not in {"create", "patch", "update", "bind"}:
        return None
    return next(
        (found.expand(role) for pattern, role in _ROLE_OF_BINDING if (found := pattern.fullmatch(use.name))), None
    )
