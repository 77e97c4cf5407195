"""A cluster as the checks of a chart see it: the kinds of the development cluster, and what an environment has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from envprov.domain.checking import ClusterFacts, Given
from envprov.domain.desired import Desired, desire
from tests.unit import builders

Manifest = dict[str, Any]

_NAMESPACED = {
    "v1": "ConfigMap Endpoints Event LimitRange PersistentVolumeClaim Pod PodTemplate ReplicationController "
    "ResourceQuota Secret Service ServiceAccount",
    "apps/v1": "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet",
    "autoscaling/v1": "HorizontalPodAutoscaler",
    "autoscaling/v2": "HorizontalPodAutoscaler",
    "batch/v1": "CronJob Job",
    "coordination.k8s.io/v1": "Lease",
    "discovery.k8s.io/v1": "EndpointSlice",
    "envprov.io/v1alpha1": "Environment Project",
    "networking.k8s.io/v1": "Ingress NetworkPolicy",
    "policy/v1": "PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1": "Role RoleBinding",
    # Custom resources, of operators that are installed.
    "bitnami.com/v1alpha1": "SealedSecret",
    "cert-manager.io/v1": "Certificate Issuer",
    "databases.example.com/v1": "Database",
    "external-secrets.io/v1": "ExternalSecret SecretStore",
}
_CLUSTER_SCOPED = {
    "v1": "Namespace Node PersistentVolume",
    "admissionregistration.k8s.io/v1": "MutatingWebhookConfiguration ValidatingAdmissionPolicy "
    "ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition",
    "apiregistration.k8s.io/v1": "APIService",
    "certificates.k8s.io/v1": "CertificateSigningRequest",
    "flowcontrol.apiserver.k8s.io/v1": "FlowSchema PriorityLevelConfiguration",
    "networking.k8s.io/v1": "IngressClass IPAddress ServiceCIDR",
    "node.k8s.io/v1": "RuntimeClass",
    "rbac.authorization.k8s.io/v1": "ClusterRole ClusterRoleBinding",
    "scheduling.k8s.io/v1": "PriorityClass",
    "storage.k8s.io/v1": "CSIDriver CSINode StorageClass VolumeAttachment",
}
SCOPES: Mapping[tuple[str, str], bool] = {
    (api_version, kind): is_namespaced
    for is_namespaced, table in ((True, _NAMESPACED), (False, _CLUSTER_SCOPED))
    for api_version, kinds in table.items()
    for kind in kinds.split()
}
PLURALS: Mapping[tuple[str, str], str] = {
    (api_version, kind): {"Endpoints": "endpoints", "Ingress": "ingresses", "NetworkPolicy": "networkpolicies"}.get(
        kind, f"{kind.lower()}s"
    )
    for api_version, kinds in _NAMESPACED.items()
    for kind in kinds.split()
}
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"

FACTS = ClusterFacts(
    scopes=SCOPES,
    plurals=PLURALS,
    storage_classes={"standard": {"metadata": {"name": "standard", "annotations": {DEFAULT_CLASS: "true"}}}},
    priority_classes={"system-cluster-critical": {}, "system-node-critical": {}},
    ingress_classes={"nginx": {"metadata": {"name": "nginx"}}},
    runtime_classes={},
    secrets=frozenset(),
    config_maps=frozenset({"kube-root-ca.crt"}),
    service_accounts=frozenset({"default"}),
    claims=frozenset(),
    cluster_roles={},
    roles={},
    installer=({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},),
)


def wanted(**spec: Any) -> Desired:  # noqa: ANN401 - any field
    """Return what ought to be for feature/x in a Project with these fields."""
    project = builders.project(**spec)
    return desire(builders.environment(), project, builders.platform())


def facts(**changes: Any) -> ClusterFacts:  # noqa: ANN401 - any field
    """Return the usual cluster with some facts changed."""
    return replace(FACTS, **changes)


def given(*objects: Mapping[str, Any], desired: Desired | None = None, seen: ClusterFacts = FACTS) -> Given:
    """Return a chart that renders these objects, for the checks."""
    return Given(desired or wanted(), tuple(objects), seen)


def kinds(*extra: tuple[str, str], namespaced: bool = True) -> Mapping[tuple[str, str], bool]:
    """Return the usual kinds and more, as (apiVersion, kind)."""
    return {**SCOPES, **dict.fromkeys(extra, namespaced)}


def reasons(findings: Iterable[Any]) -> list[str]:
    """Return the reasons of findings, in order."""
    return [finding.reason for finding in findings]
