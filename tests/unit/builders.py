"""Builders for unit tests: they read as English and write out what a test is about."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from envprov.domain.desired import Desired, Identity, desire
from envprov.domain.environment import Environment, parse_environment
from envprov.domain.health import Workloads
from envprov.domain.hosts import Reservation, Tenant, lease_name, tenant_of
from envprov.domain.observed import Key, NamespaceSeen, NamespaceState, Observed, Remains
from envprov.domain.platform import Platform
from envprov.domain.project import Project
from envprov.domain.release import Release, ReleaseState

Manifest = dict[str, Any]

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SLUG = "feature-x-ndvvxpib"
NAMESPACE = f"env-{SLUG}"
CONTROL = "envprov-system"
UID = "11111111-1111-4111-8111-111111111111"
COMMIT = "a" * 40
DIGEST = "d1"


# --- Records


def environment_manifest(**spec: Any) -> Manifest:  # noqa: ANN401 - any field
    """Return the Environment of feature/x in Project shop, as the API server sends it."""
    return {
        "apiVersion": "envprov.io/v1alpha1",
        "kind": "Environment",
        "metadata": {
            "name": SLUG,
            "namespace": CONTROL,
            "uid": UID,
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": "2026-11-24T11:00:00Z",
            "finalizers": ["envprov.io/teardown"],
        },
        "spec": {"project": "shop", "branch": "feature/x", "revision": COMMIT} | spec,
    }


def environment(**spec: Any) -> Environment:  # noqa: ANN401 - any field
    """Return the same, read."""
    return parse_environment(environment_manifest(**spec))


def reported(given: Environment, status: Mapping[str, Any]) -> Environment:
    """Return the Environment with a status, as the API server would send it back."""
    manifest = environment_manifest() | {"status": dict(status)}
    return given.model_copy(update={"status": parse_environment(manifest).status})


def project(**spec: Any) -> Project:  # noqa: ANN401 - any field
    """Return the Project shop."""
    return Project.model_validate({"name": "shop", "spec": {"chart": {"local": {"path": "shop"}}} | spec})


def rich_project() -> Project:
    """Return the Project shop with everything that makes base objects."""
    return project(
        host="{slug}.dev.example.com",
        access=[{"group": "gitlab:group/shop"}, {"user": "ada", "role": "view"}],
        copySecrets=[
            {"namespace": CONTROL, "name": "registry-pull", "imagePull": True},
            {"namespace": "shared", "name": "tls"},
        ],
    )


def platform(**given: Any) -> Platform:  # noqa: ANN401 - any field
    """Return the settings for all environments."""
    return Platform.model_validate(given)


def desired(given: Project | None = None, settings: Platform | None = None, **spec: Any) -> Desired:  # noqa: ANN401
    """Return what ought to be for feature/x."""
    return desire(environment(**spec), given or project(), settings or platform())


IDENTITY = Identity(name=SLUG, control_namespace=CONTROL, project="shop", branch="feature/x", uid=UID)


# --- The world


def stored(manifest: Mapping[str, Any], *, uid: str = "u-1", **metadata: Any) -> Manifest:  # noqa: ANN401
    """Return a manifest as the API server stores it: with book-keeping, and without empty lists."""
    live = copy.deepcopy(dict(manifest))
    live["metadata"] |= {"uid": uid, "resourceVersion": "1", "creationTimestamp": "2026-11-24T11:00:01Z"} | metadata
    if isinstance(live.get("spec"), dict):
        live["spec"] = {key: value for key, value in live["spec"].items() if value != []}
    if live["kind"] == "ResourceQuota":
        live["status"] = {"hard": dict(live["spec"]["hard"]), "used": {}}
    return live


def missing() -> NamespaceSeen:
    """No namespace."""
    return NamespaceSeen(NamespaceState.MISSING)


def foreign() -> NamespaceSeen:
    """Somebody else's namespace of that name."""
    return NamespaceSeen(NamespaceState.FOREIGN, {"metadata": {"name": NAMESPACE, "uid": "u-other"}})


def ours(manifest: Mapping[str, Any] | None = None) -> NamespaceSeen:
    """Our namespace."""
    metadata = {"name": NAMESPACE, "uid": "u-ns", "resourceVersion": "7"}
    return NamespaceSeen(NamespaceState.OURS, manifest or {"metadata": metadata})


def terminating(*conditions: Mapping[str, str], finalizers: tuple[str, ...] = ()) -> NamespaceSeen:
    """Our namespace on its way out."""
    metadata: Manifest = {"name": NAMESPACE, "uid": "u-ns", "resourceVersion": "8", "deletionTimestamp": "now"}
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    return NamespaceSeen(NamespaceState.TERMINATING, {"metadata": metadata, "status": {"conditions": list(conditions)}})


def release(
    state: ReleaseState = ReleaseState.DEPLOYED, *, digest: str | None = DIGEST, back: int | None = 1
) -> Release:
    """Return the environment's release."""
    if state is ReleaseState.ABSENT:
        return Release(SLUG)
    return Release(SLUG, revision=2, state=state, digest=digest, last_deployed_revision=back)


def seen(live: Mapping[Key, Manifest], **changes: Any) -> Observed:  # noqa: ANN401 - any field of Observed
    """Return what is observed when these objects are there, the namespace among them."""
    objects = {key: item for key, item in live.items() if key[0] != "Namespace"}
    given = Observed(ours(live["Namespace", NAMESPACE]), objects, release=release(), digest=DIGEST)
    return replace(given, **changes)


def remains(**changes: Any) -> Remains:  # noqa: ANN401 - any field of Remains
    """Return what is left when only the namespace and our tools in it are there."""
    tools: dict[Key, Manifest] = {
        ("RoleBinding", "envprov-controller"): {},
        ("RoleBinding", "envprov-installer"): {},
        ("ServiceAccount", "envprov-installer"): {},
    }
    given = Remains(ours(), tools, release=release(ReleaseState.ABSENT), others=())
    return replace(given, **changes)


def reservation(host: str, tenant: Tenant | None = None, **changes: Any) -> Reservation:  # noqa: ANN401 - any field
    """Return a host that the environment, or another one, has reserved."""
    whose, name = tenant or tenant_of(IDENTITY), lease_name(host)
    return replace(Reservation(host, whose, CONTROL, name, f"u-{name}", "1", NOW), **changes)


# --- Workloads


def workload(name: str, *, uid: str = "", owner: str = "", **rest: Any) -> Manifest:  # noqa: ANN401 - spec and status
    """Return an object of an environment; *owner* is the kind of what controls it."""
    metadata: Manifest = {"name": name, "namespace": NAMESPACE, "uid": uid or f"u-{name}", "generation": 1}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": "owner", "uid": "u-owner", "controller": True}]
    status = {"observedGeneration": 1} | rest.pop("status", {})
    return {"metadata": metadata, "spec": rest.pop("spec", {}), "status": status} | rest


def held_by(finalizer: str, item: Manifest) -> Manifest:
    """Return an object that is being deleted and waits for a finalizer."""
    return item | {"metadata": item["metadata"] | {"finalizers": [finalizer], "deletionTimestamp": "now"}}


def going(item: Manifest) -> Manifest:
    """Return an object that is being deleted."""
    return item | {"metadata": item["metadata"] | {"deletionTimestamp": "now"}}


def deployment(
    name: str = "web", *, wanted: int = 1, available: int = 1, message: str = "", total: int = 0
) -> Manifest:
    """Return a Deployment; *message* is why it has no pods."""
    failure = [{"type": "ReplicaFailure", "status": "True", "message": message}] if message else []
    status = {
        "replicas": total or available,
        "updatedReplicas": available,
        "availableReplicas": available,
        "conditions": failure,
    }
    return workload(name, spec={"replicas": wanted}, status=status)


def pod(name: str = "web-1", *, owner: str = "", claim: str = "") -> Manifest:
    """Return a pod, perhaps with a claim mounted."""
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    return workload(name, owner=owner, spec={"volumes": [*volumes, {"name": "tmp", "emptyDir": {}}]})


def pods(*items: Manifest) -> Workloads:
    """Return workloads that are only pods."""
    return Workloads(pods=items)
