"""People who meet the guard's policies: what they may do by RBAC, and what they are told."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from envprov.domain.holds import PREFIX, Hold, Holder
from envprov.domain.policies import DELETE_GUARD, FENCE, HOLD_INTEGRITY, MARK, SELF_LIMIT
from tests.cluster import Cluster
from tests.eventually import eventually

Manifest = dict[str, Any]

HELD = {f"{PREFIX}1": Hold(Holder("Deployment", "env-a", "web", "1"), datetime(2026, 10, 1, 10, tzinfo=UTC)).value()}
"""Annotations of what a Deployment holds."""
REFUSED = {
    policy: f"ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {MARK} "
    for policy in (DELETE_GUARD, HOLD_INTEGRITY, FENCE, SELF_LIMIT)
}
"""How a refusal by a policy begins."""
CORE = ["namespaces", "namespaces/finalize", "namespaces/status", "serviceaccounts", "serviceaccounts/token", "pods"]
EVERYTHING_HERE = [
    {"apiGroups": [""], "resources": [*CORE, "configmaps", "secrets"], "verbs": ["*"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]},
]


@dataclass(frozen=True)
class Person:
    """
    Somebody with rights of their own.

    Attributes:
        cluster: Where.
        user: Name; empty for the administrator, who is in ``system:masters``.

    """

    cluster: Cluster
    user: str = ""

    def __call__(self, *args: str, given: object = None) -> str:
        """Run kubectl; returns what it said, whether it succeeded or not."""
        who = ("--as", self.user) if self.user else ()
        return self.cluster.kubectl(*args, *who, input=None if given is None else json.dumps(given), check=False)

    def create(self, manifest: Manifest, *args: str) -> str:
        """Create an object."""
        return self("create", "-f", "-", *args, given=manifest)

    def patch(self, what: str, namespace: str, body: object, *args: str, kind: str = "merge") -> str:
        """Patch an object; without namespace one that is in none."""
        return self("patch", what, *where(namespace), f"--type={kind}", "-p", json.dumps(body), *args)

    def note(self, what: str, namespace: str, notes: Mapping[str, str | None]) -> str:
        """Write annotations, or take off those that are None."""
        return self.patch(what, namespace, {"metadata": {"annotations": notes}})

    def delete(self, what: str, namespace: str = "", *args: str) -> str:
        """Delete an object, without waiting until it is gone."""
        return self("delete", what, *where(namespace), "--wait=false", *args)


@dataclass(frozen=True)
class People:
    """
    Who is there.

    Attributes:
        admin: In ``system:masters``, which may do everything by RBAC.
        developer: May do everything with ServiceAccounts and Namespaces, by RBAC.
        keeper: The same, and manages holds.
        breaker: The same as a developer, and overrides holds.

    """

    admin: Person
    developer: Person
    keeper: Person
    breaker: Person


@contextmanager
def people(cluster: Cluster) -> Iterator[People]:
    """Give people their rights, and take them away again."""
    salt = secrets.token_hex(3)
    rights = {"developer": [], "keeper": ["manage"], "breaker": ["override"]}
    objects: list[Manifest] = []
    for name, verbs in rights.items():
        holds = [{"apiGroups": ["envprov.io"], "resources": ["holds"], "verbs": verbs}] if verbs else []
        objects += granted(f"{name}-{salt}", EVERYTHING_HERE + holds, {"kind": "User", "name": f"{name}-{salt}"})
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("create", "-f", "-", input=json.dumps(listed))
    there = {name: Person(cluster, f"{name}-{salt}") for name in rights}
    for name, person in there.items():
        for verb in rights[name] or ["manage"]:
            eventually(partial(_may, person, verb, expected=bool(rights[name])), message=f"{name} has no rights")
    yield People(Person(cluster), **there)
    cluster.kubectl("delete", "-f", "-", "--wait=false", input=json.dumps(listed))


def granted(name: str, rules: list[Manifest], subject: Manifest) -> list[Manifest]:
    """A ClusterRole and its binding."""
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
        "subjects": [subject if "namespace" in subject else {"apiGroup": rbac, **subject}],
    }
    return [role, binding]


def where(namespace: str) -> tuple[str, ...]:
    """Arguments for a namespace, or for none."""
    return ("-n", namespace) if namespace else ()


def account(name: str, namespace: str, **metadata: object) -> Manifest:
    """A ServiceAccount."""
    metadata = {"name": name, "namespace": namespace, **metadata}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def space(name: str, **metadata: object) -> Manifest:
    """A Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **metadata}}


def read(cluster: Cluster, what: str, namespace: str = "") -> Manifest:
    """An object as it is."""
    found: Manifest = json.loads(cluster.kubectl("get", what, *where(namespace), "-o", "json"))
    return found


def is_there(cluster: Cluster, what: str, namespace: str = "") -> bool:
    """Whether an object is there and not on its way out."""
    said = cluster.kubectl("get", what, *where(namespace), "-o", "json", "--ignore-not-found")
    return bool(said) and "deletionTimestamp" not in json.loads(said)["metadata"]


def uid_of(cluster: Cluster, what: str, namespace: str = "") -> str:
    """UID of an object."""
    return str(read(cluster, what, namespace)["metadata"]["uid"])


def audited(cluster: Cluster, verb: str, name: str, namespace: str) -> list[Manifest]:
    """What the audit log has about requests for one object, the oldest first; the log is written a moment later."""
    events = cluster.audit(f'"name":"{name}"', namespace)
    return [event for event in events if event["verb"] == verb and event["objectRef"].get("namespace") == namespace]


def _may(person: Person, verb: str, *, expected: bool) -> bool:
    """Whether the API server knows the rights of somebody; holds are no resource, so that kubectl cannot ask."""
    attributes = ({"group": "envprov.io", "resource": "holds", "verb": verb}, {"resource": "pods", "verb": "delete"})
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": person.user, "resourceAttributes": {"namespace": "", **asked}},
        }
        for asked in attributes
    ]
    create = ("create", "-f", "-", "-o", "jsonpath={.status.allowed}")
    said = [person.cluster.kubectl(*create, input=json.dumps(review)) for review in reviews]
    return said == [str(expected).lower(), "true"]
