"""
The base objects of an environment, as manifests in the form in which the API server stores them.

Defaults are written out, so that a live object is in sync exactly when it says the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from envprov.domain.desired import INSTALLER, Desired, Identity
from envprov.domain.environment import BRANCH
from envprov.domain.holds import GUARD
from envprov.domain.project import Access

Manifest = dict[str, Any]

ENVIRONMENT = "envprov.io/environment"
PROJECT = "envprov.io/project"
OWNER = "envprov.io/owner"
KEYS = "envprov.io/keys"
"""Annotation of a copied Secret: digest of the names of its keys, so that one that the original lost is drift."""
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "envprov"

QUOTA = "envprov"
HUSK_QUOTA = "envprov-husk"
OWN_ACCESS = "envprov-controller"
"""RoleBinding of the controller itself."""
CONTROLLER_ROLE = "envprov-env-controller"
INSTALLER_ROLE = "envprov-env-admin"

API_VERSIONS = {
    "LimitRange": "v1",
    "ResourceQuota": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "ServiceAccount": "v1",
    "Secret": "v1",
}
"""The kinds of base objects; lists of them say neither kind nor version for each item."""

PRIVATE_V4 = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
PRIVATE_V6 = ("fc00::/7", "fe80::/10")
_RBAC = "rbac.authorization.k8s.io"


def labels(identity: Identity) -> dict[str, str]:
    """The labels of everything that envprov makes for one environment."""
    return {MANAGED_BY: MANAGER, ENVIRONMENT: identity.name, PROJECT: identity.project}


def is_ours(identity: Identity, live: Mapping[str, Any]) -> bool:
    """Whether an object is one that we made for this environment, and not one of its chart."""
    metadata = live["metadata"]
    marks = metadata.get("labels", {})
    from_chart = "meta.helm.sh/release-name" in metadata.get("annotations", {})
    return marks.get(MANAGED_BY) == MANAGER and marks.get(ENVIRONMENT) == identity.name and not from_chart


def namespace(desired: Desired) -> Manifest:
    """The namespace: guarded, with Pod Security levels, and naming its record."""
    security = desired.platform.pod_security
    identity = desired.identity
    levels = {"enforce": security.enforce, "audit": security.warn, "warn": security.warn}
    pod_security: dict[str, str] = {}
    for mode, level in levels.items():
        pod_security[f"pod-security.kubernetes.io/{mode}"] = level
        pod_security[f"pod-security.kubernetes.io/{mode}-version"] = security.version
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": identity.namespace,
            "labels": labels(identity) | {GUARD: "env"} | pod_security,
            "annotations": {BRANCH: identity.branch, OWNER: identity.owner},
        },
    }


def limit_range(desired: Desired) -> Manifest:
    """Defaults and maxima of single containers and claims."""
    given = desired.platform.containers
    container = {
        "type": "Container",
        # The API server fills in a default limit of max where none is given; said here, it does not read as drift.
        "default": {
            "cpu": given.cpu_max,
            "ephemeral-storage": given.ephemeral_limit,
            "memory": given.memory_limit,
        },
        "defaultRequest": {
            "cpu": given.cpu_request,
            "ephemeral-storage": given.ephemeral_request,
            "memory": given.memory_request,
        },
        "max": {"cpu": given.cpu_max, "memory": given.memory_max},
    }
    claim = {"type": "PersistentVolumeClaim", "max": {"storage": given.claim_max}}
    return _object(desired.identity, "v1", "LimitRange", QUOTA) | {"spec": {"limits": [container, claim]}}


def quota(desired: Desired) -> Manifest:
    """The budget of the environment."""
    return _object(desired.identity, "v1", "ResourceQuota", QUOTA) | {"spec": {"hard": desired.size.hard()}}


def network_policies(desired: Desired) -> tuple[Manifest, ...]:
    """
    Default deny in both directions, and what is allowed beside it.

    Each says both lists, the empty one too: only what is said is taken back when somebody else adds to it.
    """
    network = desired.platform.network
    dns_ports = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    kube_dns = _namespace_peer("kube-system") | {"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    policies: dict[str, Manifest] = {
        "envprov-default-deny": {"policyTypes": ["Ingress", "Egress"]},
        "envprov-same-namespace": {
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}]}],
            "egress": [{"to": [{"podSelector": {}}]}],
        },
        "envprov-dns": {
            "policyTypes": ["Egress"],
            "egress": [
                {"ports": dns_ports, "to": [kube_dns]},
                {"ports": dns_ports, "to": [{"ipBlock": {"cidr": network.node_local_dns}}]},
            ],
        },
    }
    if network.ingress_namespaces:
        policies["envprov-ingress"] = {
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [_namespace_peer(name) for name in network.ingress_namespaces]}],
        }
    if network.shared_namespaces:
        policies["envprov-shared"] = {
            "policyTypes": ["Egress"],
            "egress": [{"to": [_namespace_peer(name) for name in network.shared_namespaces]}],
        }
    if network.profile == "internet":
        policies["envprov-internet"] = {
            "policyTypes": ["Egress"],
            "egress": [
                {
                    "to": [
                        {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(PRIVATE_V4)}},
                        {"ipBlock": {"cidr": "::/0", "except": list(PRIVATE_V6)}},
                    ]
                }
            ],
        }
    return tuple(
        _object(desired.identity, "networking.k8s.io/v1", "NetworkPolicy", name)
        | {"spec": {"podSelector": {}, "ingress": [], "egress": []} | spec}
        for name, spec in policies.items()
    )


def access(desired: Desired) -> tuple[Manifest, ...]:
    """RoleBindings for the people of the project."""
    return tuple(_access_binding(desired.identity, grant) for grant in desired.access)


def own_access(identity: Identity, account: str) -> Manifest:
    """The controller's rights inside this namespace: it has them nowhere else."""
    subject = {"kind": "ServiceAccount", "name": account, "namespace": identity.control_namespace}
    return _binding(identity, OWN_ACCESS, CONTROLLER_ROLE, subject)


def installer(identity: Identity) -> tuple[Manifest, ...]:
    """The identity that Helm acts as: an admin of this namespace and nothing more."""
    account = _object(identity, "v1", "ServiceAccount", INSTALLER) | {"automountServiceAccountToken": False}
    subject = {"kind": "ServiceAccount", "name": INSTALLER, "namespace": identity.namespace}
    return account, _binding(identity, INSTALLER, INSTALLER_ROLE, subject)


def pull_account(desired: Desired) -> tuple[Manifest, ...]:
    """The default ServiceAccount with the project's pull secrets, where there are any."""
    names = [{"name": secret.name} for secret in desired.secrets if secret.image_pull]
    if not names:
        return ()
    return (_object(desired.identity, "v1", "ServiceAccount", "default") | {"imagePullSecrets": names},)


def released_account(identity: Identity) -> Manifest:
    """The default ServiceAccount without anything of ours: applied, it takes back what pull_account gave."""
    metadata = {"name": "default", "namespace": identity.namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def husk_quota(identity: Identity) -> Manifest:
    """The quota of a husk: no pods at all."""
    return _object(identity, "v1", "ResourceQuota", HUSK_QUOTA) | {"spec": {"hard": {"pods": "0"}}}


def secret_copy(identity: Identity, original: Mapping[str, Any]) -> Manifest:
    """
    A Secret as the environment gets it.

    Args:
        identity: The environment.
        original: The Secret that is copied; only its type and data are taken.

    """
    copy = _object(identity, "v1", "Secret", original["metadata"]["name"])
    data = dict(original.get("data", {}))
    copy["metadata"]["annotations"] = {KEYS: hashlib.sha256(",".join(sorted(data)).encode()).hexdigest()[:16]}
    return copy | {"type": original.get("type", "Opaque"), "data": data}


def _object(identity: Identity, api_version: str, kind: str, name: str) -> Manifest:
    metadata = {"name": name, "namespace": identity.namespace, "labels": labels(identity)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _binding(identity: Identity, name: str, role: str, subject: Mapping[str, str]) -> Manifest:
    return _object(identity, f"{_RBAC}/v1", "RoleBinding", name) | {
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [dict(subject)],
    }


def _access_binding(identity: Identity, grant: Access) -> Manifest:
    kind, name = ("Group", grant.group) if grant.group else ("User", grant.user)
    digest = hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()[:8]
    subject = {"apiGroup": _RBAC, "kind": kind, "name": str(name)}
    return _binding(identity, f"envprov-access-{grant.role}-{digest}", grant.role, subject)


def _namespace_peer(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
