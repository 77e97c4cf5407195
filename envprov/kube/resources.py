"""
The kinds of objects that envprov reads or writes, and their paths on the API server.

A table instead of discovery: no request at start, and RBAC rules can be checked against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Resource:
    """
    One kind of object.

    Attributes:
        api_version: ``v1`` or ``group/version``.
        kind: As in a manifest.
        plural: As in a path and in RBAC.
        namespaced: Whether its objects live in namespaces.

    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """API group as RBAC spells it; the core group is the empty string."""
        group, slash, _ = self.api_version.rpartition("/")
        return group if slash else ""

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """
        Path of an object, or of a collection.

        Args:
            namespace: None for objects outside namespaces and for the collection over all namespaces.
            name: None for the collection.
            subresource: Such as ``status``; only with a name.

        Returns:
            Absolute path, quoted, without query.

        Raises:
            ValueError: The combination names nothing, or a part could leave the path.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris

        """
        if namespace is not None and not self.namespaced:
            raise ValueError(f"{self.kind} objects are in no namespace")
        if name is not None and self.namespaced and namespace is None:
            raise ValueError(f"{self.kind} {name}: no namespace given")
        if subresource is not None and name is None:
            raise ValueError(f"{self.kind}: {subresource} of no object")
        parts = [f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"]
        if namespace is not None:
            parts += ["namespaces", _segment(namespace)]
        parts.append(self.plural)
        if name is not None:
            parts.append(_segment(name))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
EVENTS = Resource("v1", "Event", "events")
LIMIT_RANGES = Resource("v1", "LimitRange", "limitranges")
NAMESPACES = Resource("v1", "Namespace", "namespaces", namespaced=False)
NODES = Resource("v1", "Node", "nodes", namespaced=False)
PERSISTENT_VOLUME_CLAIMS = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
PODS = Resource("v1", "Pod", "pods")
REPLICATION_CONTROLLERS = Resource("v1", "ReplicationController", "replicationcontrollers")
RESOURCE_QUOTAS = Resource("v1", "ResourceQuota", "resourcequotas")
SECRETS = Resource("v1", "Secret", "secrets")
SERVICES = Resource("v1", "Service", "services")
SERVICE_ACCOUNTS = Resource("v1", "ServiceAccount", "serviceaccounts")

DAEMON_SETS = Resource("apps/v1", "DaemonSet", "daemonsets")
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
REPLICA_SETS = Resource("apps/v1", "ReplicaSet", "replicasets")
STATEFUL_SETS = Resource("apps/v1", "StatefulSet", "statefulsets")

CRON_JOBS = Resource("batch/v1", "CronJob", "cronjobs")
JOBS = Resource("batch/v1", "Job", "jobs")

LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")
INGRESS_CLASSES = Resource("networking.k8s.io/v1", "IngressClass", "ingressclasses", namespaced=False)
NETWORK_POLICIES = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
PRIORITY_CLASSES = Resource("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False)
RUNTIME_CLASSES = Resource("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", namespaced=False)
STORAGE_CLASSES = Resource("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)

CLUSTER_ROLES = Resource("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
ROLES = Resource("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")

CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
VALIDATING_ADMISSION_POLICIES = Resource(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False
)
VALIDATING_ADMISSION_POLICY_BINDINGS = Resource(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    namespaced=False,
)
SELF_SUBJECT_ACCESS_REVIEWS = Resource(
    "authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)

ENVIRONMENTS = Resource("envprov.io/v1alpha1", "Environment", "environments")
PROJECTS = Resource("envprov.io/v1alpha1", "Project", "projects")

ALL = (
    CONFIG_MAPS,
    EVENTS,
    LIMIT_RANGES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    REPLICATION_CONTROLLERS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICES,
    SERVICE_ACCOUNTS,
    DAEMON_SETS,
    DEPLOYMENTS,
    REPLICA_SETS,
    STATEFUL_SETS,
    CRON_JOBS,
    JOBS,
    LEASES,
    INGRESS_CLASSES,
    NETWORK_POLICIES,
    PRIORITY_CLASSES,
    RUNTIME_CLASSES,
    STORAGE_CLASSES,
    CLUSTER_ROLES,
    CLUSTER_ROLE_BINDINGS,
    ROLES,
    ROLE_BINDINGS,
    CUSTOM_RESOURCE_DEFINITIONS,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
    SELF_SUBJECT_ACCESS_REVIEWS,
    ENVIRONMENTS,
    PROJECTS,
)

_BY_KIND = {(resource.api_version, resource.kind): resource for resource in ALL}


def lookup(api_version: str, kind: str) -> Resource:
    """
    The resource of a manifest.

    Args:
        api_version: As in the manifest.
        kind: As in the manifest.

    Raises:
        LookupError: Not a kind of this table.

    """
    try:
        return _BY_KIND[api_version, kind]
    except KeyError:
        raise LookupError(f"{api_version} {kind} is no kind that envprov works with") from None


def _segment(value: str) -> str:
    if value in {"", ".", ".."}:
        raise ValueError(f"{value!r} is no name")
    return quote(value, safe="")
