"""The Environment: one branch. Its spec is what was asked for, its status what the controller reports."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, WithJsonSchema

from envprov.domain.errors import InvalidRecord
from envprov.domain.lifetime import Lifetime, Timestamp
from envprov.domain.model import Model
from envprov.domain.project import DnsName, Values
from envprov.domain.sizes import SizeName

GROUP = "envprov.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FINALIZER = f"{GROUP}/teardown"

BRANCH = f"{GROUP}/branch"
SUPERSEDED = f"{GROUP}/superseded"
SUCCESSOR = f"{GROUP}/successor"
DOUBTED = f"{GROUP}/doubted-delete"
DISMISSED = f"{GROUP}/dismissed"
REDEPLOY = f"{GROUP}/redeploy"
EXTENDED = f"{GROUP}/extended"
UNLOCK = f"{GROUP}/unlock"
ABSENT_SINCE = f"{GROUP}/absent-since"

BranchName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Revision = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$", max_length=64)]


class Type(StrEnum):
    """Types of conditions."""

    ACCEPTED = "Accepted"
    NAMESPACE_READY = "NamespaceReady"
    DEPLOYED = "Deployed"
    HEALTHY = "Healthy"
    READY = "Ready"
    TEARDOWN_BLOCKED = "TeardownBlocked"


class Step(StrEnum):
    """How far the teardown has come; the guard fills in the steps that are skipped without it."""

    REQUESTED = "Requested"
    PLANNED = "Planned"
    QUIESCED = "Quiesced"
    PODS_GONE = "PodsGone"
    RELEASE_GONE = "ReleaseGone"
    EXTERNAL_GONE = "ExternalGone"
    SETTLED = "Settled"
    RELEASED = "Released"
    NAMESPACE_GONE = "NamespaceGone"


class EnvironmentSpec(Model):
    """What one branch asks for. Only project and branch are needed."""

    project: DnsName
    """Name of the Project in the same namespace. It cannot be changed."""
    branch: BranchName
    """Branch name in full, without refs/heads/. It cannot be changed."""
    revision: Revision = ""
    """Commit that is wanted, as GitLab last said; empty when nobody said."""
    size: SizeName | None = None
    """Size, among those that the Project allows; by default the one of the Project's rule."""
    values: Values = Field(default={})
    """Chart values, laid over those of the Project and its rule."""
    lifetime: Lifetime | None = None
    """How long the environment lives: kind keep (until the branch goes), expire-after (idle: P7D ends it seven days \
after the last push, deployment or extension) or until (at: a date with time zone). By default the one of the \
Project's rule. With warn, a warning is given that long before the end."""
    pinned: bool = False
    """Whether the environment stays although its lifetime has ended."""
    asleep: bool = False
    """Whether the environment is scaled to nothing for the time being. Its data stays; what is pushed meanwhile is \
deployed when it wakes."""


class ReleaseStatus(Model):
    """The Helm release."""

    name: str
    """Name of the release."""
    revision: int | None = None
    """Helm's own count of deployments."""
    chart: str | None = None
    """Chart, as the Project names its source."""
    chart_version: str | None = None
    """Version of the chart."""
    status: str | None = None
    """Helm's word for the state: deployed, failed, pending-install and so on."""


class QueueStatus(Model):
    """Where the environment stands in line while there is no room for it."""

    position: int
    """Place in line; 1 is next."""
    reason: str
    """What it waits for."""
    budget: str = ""
    """Whose budget it waits for: the cluster, or the Project."""
    size: str = ""
    """Size that it waits for."""
    needs: dict[str, str] = Field(default={}, max_length=10)
    """What must be free for it."""
    since: Timestamp | None = None
    """Since when it waits."""
    first_since: Timestamp | None = None
    """Since when it is the first of those that wait for the same budget; after a while nobody passes it any more."""


class HeldAccount(Model):
    """A shared ServiceAccount that the environment holds."""

    namespace: str
    """Namespace of the ServiceAccount."""
    name: str
    """Name of the ServiceAccount."""
    uid: str
    """UID that it had when it was last seen held; another one means that it was deleted and made again."""


class BranchFileStatus(Model):
    """What the file .envprov.yaml of the branch says, as far as it is in force."""

    revision: str
    """Commit whose file is in force."""
    looked: str
    """Commit that was looked at last; another one if its file is wrong."""
    fault: str = Field(default="", max_length=4096)
    """What is wrong with that one."""
    size: str | None = None
    """Size that it asks for."""
    lifetime: Lifetime | None = None
    """Lifetime that it asks for."""
    values: Values = Field(default={})
    """Chart values that it sets."""
    chart: str | None = None
    """Folder of the repository that it names as the chart."""


class FindingStatus(Model):
    """Something that the check of the chart found."""

    reason: Annotated[str, StringConstraints(max_length=64)]
    """The rule that is broken, as docs/findings.md lists it."""
    severity: Literal["error", "warning", "note"]
    """Whether the chart is refused for it."""
    object: Annotated[str, StringConstraints(max_length=320)] = ""
    """Kind and name of the object; empty for the chart as a whole."""
    field: Annotated[str, StringConstraints(max_length=512)] = ""
    """Path of the field."""
    message: Annotated[str, StringConstraints(max_length=1024)]
    """What is wrong."""
    remedy: Annotated[str, StringConstraints(max_length=1024)] = ""
    """What to do."""


class TeardownStatus(Model):
    """How far the teardown has come."""

    step: Step
    """Last step that is done."""
    plan: Literal["Full", "Husk", "Blocked"] = "Full"
    """Full: everything goes. Husk: what others still use stays. Blocked: nothing can be decided."""
    started_at: Timestamp
    """When the teardown began."""
    fenced_at: Timestamp | None = None
    """Since when the ServiceAccounts that go get no new pods and tokens."""
    waiting_for: tuple[str, ...] = Field(default=(), max_length=50)
    """Objects that it waits for, with the finalizers that hold them."""


class GitLabEnvironment(Model):
    """The environment in GitLab that stands for this one."""

    id: int | None = None
    """Its number; none while it is being made."""
    name: str
    """Its name."""
    url: str | None = None
    """Where its button leads."""


class GitLabDeployment(Model):
    """The newest deployment that GitLab was told of."""

    id: int | None = None
    """Its number; none for one that GitLab refused."""
    revision: Revision
    """Commit that it is of."""
    status: Literal["running", "success", "failed", "canceled", "refused"]
    """How GitLab was told that it stands."""


class GitLabNote(Model):
    """The comment on one merge request."""

    merge_request: int
    """Number of the merge request."""
    id: int | None = None
    """Number of the comment; none while it is being written."""
    digest: str = ""
    """Digest of what it says."""


class GitLabCommitStatus(Model):
    """The status of a commit."""

    revision: Revision
    """The commit."""
    state: Literal["running", "success", "failed", "canceled", "refused"]
    """How GitLab was told that it stands."""


class GitLabStatus(Model):
    """What GitLab was told of the environment. Written by what tells it, and by nobody else."""

    project: Annotated[
        str | int,
        WithJsonSchema({"x-kubernetes-int-or-string": True}),
        Field(description="Path or numeric id of the GitLab project."),
    ]
    environment: GitLabEnvironment | None = None
    """The environment in GitLab."""
    deployment: GitLabDeployment | None = None
    """The newest deployment."""
    notes: tuple[GitLabNote, ...] = Field(default=(), max_length=20)
    """The comments, by merge request."""
    commit: GitLabCommitStatus | None = None
    """The newest status of a commit."""


class Condition(Model):
    """A fact about the environment, in the form of all Kubernetes conditions."""

    type: Annotated[str, StringConstraints(max_length=64)]
    """Accepted, NamespaceReady, Deployed, Healthy, Ready or TeardownBlocked."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=64)]
    """One word for the cause."""
    message: Annotated[str, StringConstraints(max_length=4096)] = ""
    """The cause in words, with the object and the way out."""
    observed_generation: int | None = None
    """Generation of the spec that the fact is about."""
    last_transition_time: Timestamp
    """When the status last changed."""


class EnvironmentStatus(Model):
    """What the controller last saw and did."""

    observed_generation: int | None = None
    """Generation of the spec that this status is about."""
    observed_revision: str | None = None
    """Commit that is deployed."""
    namespace: str | None = None
    """Namespace that serves the branch."""
    slug: str | None = None
    """Short name of the branch: name of the release and of the host label."""
    url: str | None = None
    """Where the environment answers."""
    size: str | None = None
    """Size that is in force."""
    expires_at: Timestamp | None = None
    """When the environment ends by itself."""
    warned_for: Timestamp | None = None
    """The end that a warning was given of."""
    ready_at: Timestamp | None = None
    """When it was last ready for the deployed commit."""
    asleep_since: Timestamp | None = None
    """Since when it is asleep or falling asleep; gone when it has woken up."""
    active_at: Timestamp | None = None
    """When it was last woken, or something was pushed while it was asleep: that counts as activity, too."""
    branch_file: BranchFileStatus | None = None
    """The file .envprov.yaml of the branch."""
    release: ReleaseStatus | None = None
    """The Helm release."""
    queue: QueueStatus | None = None
    """Its place in line, while it waits for room."""
    findings: tuple[FindingStatus, ...] = Field(default=(), max_length=100)
    """What the check of the chart found, worst first."""
    holds: tuple[HeldAccount, ...] = Field(default=(), max_length=200)
    """Shared ServiceAccounts that the environment keeps from being deleted."""
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=20,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Facts: Accepted, NamespaceReady, Deployed, Healthy, Ready, TeardownBlocked."""
    teardown: TeardownStatus | None = None
    """How far the teardown has come."""
    gitlab: GitLabStatus | None = None
    """What GitLab was told of it."""

    def condition(self, kind: Type) -> Condition | None:
        """The condition of one type, if it has been reported."""
        return next((condition for condition in self.conditions if condition.type == kind), None)


class Environment(Model):
    """An Environment as the controller reads it."""

    name: str
    """Name of the object: the slug."""
    namespace: str
    """Control namespace."""
    uid: str
    """UID of the object."""
    resource_version: str
    """resourceVersion of the object as it was read."""
    generation: int
    """Generation of the spec."""
    created_at: Timestamp
    """When the record was made."""
    deleting: bool
    """Whether it has a deletionTimestamp."""
    finalizers: tuple[str, ...]
    """Finalizers that stand on the object."""
    annotations: dict[str, str]
    """Annotations of the object."""
    spec: EnvironmentSpec
    """What was asked for."""
    status: EnvironmentStatus
    """What was last reported; what cannot be read counts as nothing reported."""


def parse_environment(manifest: Mapping[str, Any]) -> Environment:
    """
    Read an Environment from the API's own form.

    Args:
        manifest: The object as the API server sent it.

    Raises:
        InvalidRecord: A field is wrong; the message names it and what is wrong with it.

    """
    metadata = manifest["metadata"]
    try:
        spec = EnvironmentSpec.model_validate(manifest.get("spec", {}))
    except ValidationError as error:
        raise InvalidRecord(f"Environment {metadata['name']}: {faults(error)}") from error
    try:
        status = EnvironmentStatus.model_validate(manifest.get("status", {}))
    except ValidationError:
        status = EnvironmentStatus(gitlab=told_of(manifest))
    return Environment(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=metadata.get("generation", 1),
        created_at=metadata["creationTimestamp"],
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers", ())),
        annotations=dict(metadata.get("annotations", {})),
        spec=spec,
        status=status,
    )


def told_of(manifest: Mapping[str, Any]) -> GitLabStatus | None:
    """
    What GitLab was told of an Environment, whatever else it says.

    Args:
        manifest: The object as the API server sent it.

    Returns:
        None for nothing, and for what cannot be read.

    """
    told = manifest.get("status", {}).get("gitlab")
    try:
        return GitLabStatus.model_validate(told) if told else None
    except ValidationError:
        return None


def faults(error: ValidationError) -> str:
    """All faults of a validation in one sentence, without the values: ``spec.size: …; spec.branch: …``."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'object'}: {fault['msg']}" for fault in error.errors()[:20]
    )
