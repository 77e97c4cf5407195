"""The answers that ``why`` can give: a closed list, in the order in which they would have to be mended."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """How far an environment is from what is wanted."""

    NOT_CREATED = "NotCreated"
    COMING_UP = "ComingUp"
    UNHEALTHY = "Unhealthy"
    READY = "Ready"
    GOING_DOWN = "GoingDown"
    UNKNOWN = "Unknown"


class Cause(StrEnum):
    """
    The one cause of an answer.

    Scripts branch on the values, so none is ever renamed. Where several things are wrong at once the first one here is
    the answer: what cannot be created cannot be scheduled, and what is not scheduled cannot crash.
    """

    # There is no record.
    NO_PROJECT = "NoProject"
    SEVERAL_PROJECTS = "SeveralProjects"
    PROJECT_INVALID = "ProjectInvalid"
    NO_RULE = "NoRule"
    RULE_IGNORES = "RuleIgnores"
    NEEDS_MERGE_REQUEST = "NeedsMergeRequest"
    TAKEN_DOWN = "TakenDown"
    NOT_RECORDED = "NotRecorded"
    NO_RECORD_OF_NAMESPACE = "NoRecordOfNamespace"

    # Nothing goes on.
    NO_CONTROLLER = "NoController"
    NAMESPACE_FOREIGN = "NamespaceForeign"
    REFUSED = "Refused"
    QUEUED = "Queued"
    ASLEEP = "Asleep"
    CLUSTER_CONTROLLERS_SILENT = "ClusterControllersSilent"
    PREPARING = "Preparing"

    # Helm.
    HOOK_FAILED = "HookFailed"
    HOOK_HANGS = "HookHangs"
    HELM_STUCK = "HelmStuck"
    HELM_FAILED = "HelmFailed"

    # Pods are not created.
    QUOTA_EXCEEDED = "QuotaExceeded"
    QUOTA_NEEDS_REQUESTS = "QuotaNeedsRequests"
    LIMITS_REFUSED = "LimitsRefused"
    POD_SECURITY = "PodSecurity"
    ACCOUNT_MISSING = "AccountMissing"
    CLASS_MISSING = "ClassMissing"
    ADMISSION_REFUSED = "AdmissionRefused"
    WEBHOOK_UNREACHABLE = "WebhookUnreachable"
    CREATION_REFUSED = "CreationRefused"

    # Volumes are not there.
    VOLUME_LOST = "VolumeLost"
    CLAIM_MISSING = "ClaimMissing"
    CLAIM_WITHOUT_CLASS = "ClaimWithoutClass"
    CLAIM_CLASS_MISSING = "ClaimClassMissing"
    CLAIM_NOT_PROVISIONED = "ClaimNotProvisioned"
    CLAIM_UNBOUND = "ClaimUnbound"

    # Pods find no node, or have lost it.
    SCHEDULER_SILENT = "SchedulerSilent"
    SCHEDULING_GATED = "SchedulingGated"
    NO_NODES = "NoNodes"
    INSUFFICIENT_RESOURCES = "InsufficientResources"
    NODE_TAINTS = "NodeTaints"
    NODE_AFFINITY = "NodeAffinity"
    VOLUME_ELSEWHERE = "VolumeElsewhere"
    PORT_TAKEN = "PortTaken"
    UNSCHEDULABLE = "Unschedulable"
    NODE_LOST = "NodeLost"
    EVICTED = "Evicted"

    # Containers do not start.
    NODE_SILENT = "NodeSilent"
    SANDBOX_FAILS = "SandboxFails"
    MOUNT_FAILS = "MountFails"
    IMAGE_NAME_INVALID = "ImageNameInvalid"
    IMAGE_NOT_FOUND = "ImageNotFound"
    IMAGE_UNAUTHORIZED = "ImageUnauthorized"
    IMAGE_RATE_LIMITED = "ImageRateLimited"
    IMAGE_REGISTRY_UNREACHABLE = "ImageRegistryUnreachable"
    IMAGE_PLATFORM = "ImagePlatform"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONFIG_MISSING = "ConfigMissing"
    CONTAINER_CANNOT_START = "ContainerCannotStart"
    INIT_CONTAINER_FAILS = "InitContainerFails"
    INIT_CONTAINER_HANGS = "InitContainerHangs"

    # They run, and not well.
    OUT_OF_MEMORY = "OutOfMemory"
    LIVENESS_FAILS = "LivenessFails"
    STARTUP_FAILS = "StartupFails"
    CRASH_LOOP = "CrashLoop"
    READINESS_FAILS = "ReadinessFails"
    READINESS_GATE = "ReadinessGate"
    JOB_FAILED = "JobFailed"
    JOB_DEADLINE = "JobDeadline"
    CLAIM_WAITS_FOR_POD = "ClaimWaitsForPod"
    STARTING = "Starting"

    # The way down.
    GUARD_DISARMED = "GuardDisarmed"
    USAGE_UNKNOWN = "UsageUnknown"
    HELD_BY_OTHERS = "HeldByOthers"
    POD_ON_LOST_NODE = "PodOnLostNode"
    POD_FINALIZER = "PodFinalizer"
    POD_ENDING = "PodEnding"
    API_SERVICE_BROKEN = "ApiServiceBroken"
    DISCOVERY_FAILS = "DiscoveryFails"
    DELETION_REFUSED = "DeletionRefused"
    FINALIZER = "Finalizer"
    NAMESPACE_FINALIZER = "NamespaceFinalizer"
    CONTENT_REMAINS = "ContentRemains"
    RECORD_FINALIZER = "RecordFinalizer"
    TEARING_DOWN = "TearingDown"

    # Nothing is wrong, or nothing is known.
    NOTHING_WRONG = "NothingWrong"
    UNKNOWN = "Unknown"


def earliest(cause: Cause) -> int:
    """Sort key: what has to be mended first."""
    return _ORDER[cause]


_ORDER: Mapping[Cause, int] = MappingProxyType({cause: place for place, cause in enumerate(Cause)})

MEANINGS: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.NO_PROJECT: "no Project of that name is there, or none serves this repository",
        Cause.SEVERAL_PROJECTS: "several Projects could be meant, and none was given",
        Cause.PROJECT_INVALID: "the Project cannot be understood",
        Cause.NO_RULE: "no rule of the Project is for the branch",
        Cause.RULE_IGNORES: "the first rule that matches the branch says `action: ignore`",
        Cause.NEEDS_MERGE_REQUEST: "the rule gives the branch an environment only while it has an open merge request",
        Cause.TAKEN_DOWN: "somebody took it down, or its lifetime ended; it stays down until the next push",
        Cause.NOT_RECORDED: "the Project wants it, and nobody has asked for it: no push was heard of",
        Cause.NO_RECORD_OF_NAMESPACE: "its Namespace is there, and its record is not",
        Cause.NO_CONTROLLER: "no controller works on it",
        Cause.NAMESPACE_FOREIGN: "its Namespace exists and belongs to somebody else",
        Cause.REFUSED: "it was refused, and nothing was changed: findings of the check, a wrong chart or record",
        Cause.QUEUED: "it waits for room in a budget",
        Cause.ASLEEP: "somebody put it to sleep: nothing runs until it is woken",
        Cause.CLUSTER_CONTROLLERS_SILENT: "Kubernetes' own controllers do not look at its objects",
        Cause.PREPARING: "what comes before the release is not in place yet",
        Cause.HOOK_FAILED: "a hook of the chart failed",
        Cause.HOOK_HANGS: "a hook of the chart does not end",
        Cause.HELM_STUCK: "the release is in a pending state, and no Helm works on it",
        Cause.HELM_FAILED: "Helm could not install, upgrade or uninstall the release",
        Cause.QUOTA_EXCEEDED: "the quota refuses its pods",
        Cause.QUOTA_NEEDS_REQUESTS: "the quota refuses pods that do not say what they need",
        Cause.LIMITS_REFUSED: "the LimitRange refuses its pods",
        Cause.POD_SECURITY: "the Namespace's Pod Security level refuses its pods",
        Cause.ACCOUNT_MISSING: "its pods name a ServiceAccount that is not there",
        Cause.CLASS_MISSING: "its pods name a PriorityClass or RuntimeClass that is not there",
        Cause.ADMISSION_REFUSED: "an admission webhook or policy refuses its pods",
        Cause.WEBHOOK_UNREACHABLE: "an admission webhook does not answer, and nothing passes without it",
        Cause.CREATION_REFUSED: "the API server refuses its pods for another reason",
        Cause.VOLUME_LOST: "the volume of a claim is gone",
        Cause.CLAIM_MISSING: "a pod mounts a claim that is not there",
        Cause.CLAIM_WITHOUT_CLASS: "a claim names no StorageClass, and the cluster has no default",
        Cause.CLAIM_CLASS_MISSING: "a claim names a StorageClass that is not there",
        Cause.CLAIM_NOT_PROVISIONED: "nobody makes the volume of a claim",
        Cause.CLAIM_UNBOUND: "a claim has no volume yet",
        Cause.SCHEDULER_SILENT: "no scheduler looks at a pod",
        Cause.SCHEDULING_GATED: "a scheduling gate holds a pod back",
        Cause.NO_NODES: "the cluster has no nodes",
        Cause.INSUFFICIENT_RESOURCES: "no node has as much left as a pod asks for",
        Cause.NODE_TAINTS: "a pod does not tolerate the taints of the nodes",
        Cause.NODE_AFFINITY: "no node is of the kind that a pod asks for",
        Cause.VOLUME_ELSEWHERE: "the volume of a pod cannot be used on the nodes that could take it",
        Cause.PORT_TAKEN: "the host port of a pod is taken",
        Cause.UNSCHEDULABLE: "the scheduler finds no node, for another reason",
        Cause.NODE_LOST: "the node of a pod does not answer",
        Cause.EVICTED: "the node threw a pod out",
        Cause.NODE_SILENT: "a node has a pod and has not begun with it",
        Cause.SANDBOX_FAILS: "a pod gets no network or sandbox",
        Cause.MOUNT_FAILS: "a volume cannot be mounted",
        Cause.IMAGE_NAME_INVALID: "what stands as the image is no name of one",
        Cause.IMAGE_NOT_FOUND: "the registry has no such image",
        Cause.IMAGE_UNAUTHORIZED: "the registry does not let the pod have the image",
        Cause.IMAGE_RATE_LIMITED: "the registry has had too many requests",
        Cause.IMAGE_REGISTRY_UNREACHABLE: "the registry does not answer",
        Cause.IMAGE_PLATFORM: "the image is not made for the node's processor",
        Cause.IMAGE_PULL_FAILED: "the image cannot be pulled, for another reason",
        Cause.CONFIG_MISSING: "a Secret, a ConfigMap or a key in it is missing",
        Cause.CONTAINER_CANNOT_START: "the container cannot be started",
        Cause.INIT_CONTAINER_FAILS: "an init container fails",
        Cause.INIT_CONTAINER_HANGS: "an init container does not end",
        Cause.OUT_OF_MEMORY: "a container needs more memory than its limit",
        Cause.LIVENESS_FAILS: "a container is restarted because its liveness probe fails",
        Cause.STARTUP_FAILS: "the startup probe of a container fails",
        Cause.CRASH_LOOP: "a container ends again and again",
        Cause.READINESS_FAILS: "the readiness probe of a container fails",
        Cause.READINESS_GATE: "a readiness gate of a pod is closed",
        Cause.JOB_FAILED: "a Job has failed",
        Cause.JOB_DEADLINE: "a Job has taken longer than it may",
        Cause.CLAIM_WAITS_FOR_POD: "a claim waits for a pod that uses it",
        Cause.STARTING: "its pods are starting, and nothing is seen to be wrong",
        Cause.GUARD_DISARMED: "the guard is not in force, and nothing is torn down without it",
        Cause.USAGE_UNKNOWN: "who uses its ServiceAccounts cannot be seen",
        Cause.HELD_BY_OTHERS: "others still use a ServiceAccount in its Namespace",
        Cause.POD_ON_LOST_NODE: "a pod is on a node that does not answer and cannot say that it has ended",
        Cause.POD_FINALIZER: "a finalizer holds a pod",
        Cause.POD_ENDING: "a pod is still ending",
        Cause.API_SERVICE_BROKEN: "an aggregated API does not answer",
        Cause.DISCOVERY_FAILS: "Kubernetes cannot find out what there is to delete",
        Cause.DELETION_REFUSED: "a policy or webhook refuses the deletion of something in the Namespace",
        Cause.FINALIZER: "a finalizer holds an object in the Namespace",
        Cause.NAMESPACE_FINALIZER: "a finalizer holds the Namespace itself",
        Cause.CONTENT_REMAINS: "something is left in the Namespace, and what holds it is not seen",
        Cause.RECORD_FINALIZER: "a finalizer that is not envprov's holds the record",
        Cause.TEARING_DOWN: "it is being taken down, and nothing is seen to hold it",
        Cause.NOTHING_WRONG: "it is ready, and nothing is seen to be wrong",
        Cause.UNKNOWN: "what was read does not say; what could not be read is named",
    }
)
