"""What ``why`` decides from: gathered once, each part by itself. A part that was not read is missing, never empty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from envprov.domain.causes import Cause
from envprov.domain.loose import Manifest, mappings, moment, text, within
from envprov.domain.names import namespace_of, slug
from envprov.domain.sizes import DEFAULT_SIZES, Size


class Part(StrEnum):
    """What is read; the value names it for people."""

    PROJECTS = "the Projects"
    RECORD = "the Environment"
    CONTROLLER = "the Lease of the controller"
    TOMBSTONE = "what is remembered of earlier environments"
    NAMESPACE = "the Namespace"
    PODS = "pods"
    EVENTS = "events"
    DEPLOYMENTS = "Deployments"
    STATEFUL_SETS = "StatefulSets"
    DAEMON_SETS = "DaemonSets"
    REPLICA_SETS = "ReplicaSets"
    JOBS = "Jobs"
    CLAIMS = "PersistentVolumeClaims"
    SERVICES = "Services"
    ACCOUNTS = "ServiceAccounts"
    SECRETS = "the names of Secrets"
    CONFIG_MAPS = "the names of ConfigMaps"
    RELEASE = "Helm's record of the release"
    HELM_LOCK = "the Lease under which Helm works"
    LOGS = "logs"
    NODES = "nodes"
    STORAGE_CLASSES = "StorageClasses"
    WEBHOOKS = "admission webhooks"
    API_SERVICES = "APIServices"
    CONTENT = "what is left in the Namespace"


WORKLOADS: tuple[tuple[Part, str], ...] = (
    (Part.DEPLOYMENTS, "Deployment"),
    (Part.STATEFUL_SETS, "StatefulSet"),
    (Part.DAEMON_SETS, "DaemonSet"),
    (Part.REPLICA_SETS, "ReplicaSet"),
    (Part.JOBS, "Job"),
)


@dataclass(frozen=True)
class HookTold:
    """
    A hook, as Helm's record tells of it.

    Attributes:
        name: Of the object.
        kind: Of the object.
        events: When it runs: ``pre-install``, ...
        phase: Of its last run: ``Running``, ``Succeeded``, ``Failed``; empty if it did not run.

    """

    name: str
    kind: str
    events: tuple[str, ...]
    phase: str = ""


@dataclass(frozen=True)
class ReleaseTold:
    """
    The newest revision of a release, as Helm's record tells of it.

    Attributes:
        name: Of the release.
        version: Number of the revision.
        status: In Helm's words.
        description: What Helm said last; a failure stands here.
        hooks: In the order of the chart.

    """

    name: str
    version: int
    status: str
    description: str
    hooks: tuple[HookTold, ...] = ()


@dataclass(frozen=True)
class LogWanted:
    """A log whose end tells more: of a container as it runs, or as it ran before its last restart."""

    pod: str
    container: str
    previous: bool = False


@dataclass(frozen=True)
class Evidence:
    """
    Everything that was seen.

    Attributes:
        project: Name of the Project.
        branch: The branch.
        control: Control namespace.
        now: When it was gathered; aware.
        items: Objects by part; a part that could not be read is not in it.
        unread: Why a part could not be read, or was read only in part.
        is_led: Whether a controller renews its Lease; None if that could not be seen.
        release: Helm's record, if there is one and it could be read.
        logs: Ends of logs.
        absent_nodes: Names of nodes that were looked for and are not there.
        sizes: The sizes that a refusal by the quota can be answered with.

    """

    project: str
    branch: str
    control: str
    now: datetime
    items: Mapping[Part, tuple[Manifest, ...]] = field(default_factory=dict)
    unread: Mapping[Part, str] = field(default_factory=dict)
    is_led: bool | None = None
    release: ReleaseTold | None = None
    logs: Mapping[LogWanted, str] = field(default_factory=dict)
    absent_nodes: frozenset[str] = frozenset()
    sizes: Mapping[str, Size] = field(default_factory=lambda: DEFAULT_SIZES)

    @property
    def name(self) -> str:
        """Name of the Environment."""
        return slug(self.project, self.branch)

    @property
    def namespace(self) -> str:
        """Name of the Namespace that serves the branch."""
        return namespace_of(self.name)

    def of(self, part: Part) -> tuple[Manifest, ...]:
        """What was seen of a part; nothing if it could not be read, which ``knows`` tells."""
        return self.items.get(part, ())

    def one(self, part: Part) -> Manifest | None:
        """The only object of a part."""
        return next(iter(self.of(part)), None)

    def knows(self, part: Part) -> bool:
        """Whether a part was read."""
        return part in self.items

    def about(self, item: Manifest) -> tuple[Manifest, ...]:
        """The events about an object, the newest first; of one second, what has failed before what went well."""
        uid = text(within(item, "metadata").get("uid"))
        found = [event for event in self.of(Part.EVENTS) if text(within(event, "involvedObject").get("uid")) == uid]
        found.sort(key=lambda event: (_last_seen(event), event.get("type") == "Warning"), reverse=True)
        return tuple(found)

    def events_of(self, item: Manifest, *reasons: str) -> tuple[str, ...]:
        """Messages of the events about an object, the newest first; of these reasons if any are given."""
        told = (event for event in self.about(item) if not reasons or text(event.get("reason")) in reasons)
        return tuple(dict.fromkeys(text(event.get("message")) for event in told))


@dataclass(frozen=True)
class Fact:
    """One thing that was seen: the object, and what it says."""

    subject: str
    says: str


@dataclass(frozen=True)
class Symptom:
    """
    Something that is wrong, with what shows it.

    Attributes:
        cause: In one word.
        summary: In one or two sentences that need no knowledge of Kubernetes; without the first word's capital.
        facts: What was seen.
        next: Commands and deeds, the first one first.
        needs: Parts without which this is only half of the answer.
        logs: Ends of logs that tell more.

    """

    cause: Cause
    summary: str
    facts: tuple[Fact, ...] = ()
    next: tuple[str, ...] = ()
    needs: frozenset[Part] = frozenset()
    logs: tuple[LogWanted, ...] = ()


def name_of(item: Manifest) -> str:
    """Name of an object."""
    return text(within(item, "metadata").get("name"))


def is_going(item: Manifest) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in within(item, "metadata")


def owned_by(items: Iterable[Manifest], owner: Manifest) -> tuple[Manifest, ...]:
    """Those objects that another one controls."""
    uid = text(within(owner, "metadata").get("uid"))
    return tuple(
        item
        for item in items
        if any(text(entry.get("uid")) == uid for entry in mappings(within(item, "metadata").get("ownerReferences")))
    )


def condition_of(item: Manifest, kind: str) -> Manifest:
    """A condition of an object, or an empty mapping."""
    found = (entry for entry in mappings(within(item, "status").get("conditions")) if entry.get("type") == kind)
    return next(found, {})


def _last_seen(event: Manifest) -> datetime:
    """To the second, for older events are written no finer."""
    made = within(event, "metadata").get("creationTimestamp")
    seen = (within(event, "series").get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"), made)
    last = next((read for value in seen if (read := moment(value)) is not None), datetime.min.replace(tzinfo=UTC))
    return last.replace(microsecond=0)
