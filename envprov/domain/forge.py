"""
What the forge says about a project, in our words: frozen values, no client and no I/O.

Source: https://docs.gitlab.com/api/rest/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import IntEnum
from typing import Literal

ProjectRef = str | int
"""``group/shop``, or the number that stays when the project moves."""

EnvironmentState = Literal["available", "stopping", "stopped"]
DeploymentStatus = Literal["running", "success", "failed", "canceled"]
CommitState = Literal["pending", "running", "success", "failed", "canceled"]
FilterStrategy = Literal["all_branches", "wildcard", "regex"]
HookTrigger = Literal["push_events", "merge_requests_events", "note_events"]
AutoStop = Literal["always", "with_action"]


class Access(IntEnum):
    """
    The roles that matter to us, as GitLab numbers them.

    Source: https://docs.gitlab.com/api/access_requests/#valid-access-levels

    """

    REPORTER = 20
    DEVELOPER = 30
    MAINTAINER = 40
    OWNER = 50


class Secret:
    """
    A text that no repr, log or message shows.

    Args:
        value: The text.

    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text, for the one place that sends it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('**********')"


@dataclass(frozen=True, slots=True)
class ForgeProject:
    """
    A project.

    Attributes:
        id: Stays when the project moves.
        path: ``group/shop``, as it is called now.
        default_branch: None while there is none.
        archived: Whether it is read-only.
        is_empty: Whether it has no branch at all.
        marked_for_deletion: Whether GitLab will delete it when its delay is over.
        web_url: For people.
        access_level: Role of our token; None if it has none of its own, as an administrator's.

    """

    id: int
    path: str
    default_branch: str | None
    archived: bool
    is_empty: bool
    marked_for_deletion: bool
    web_url: str
    access_level: int | None


@dataclass(frozen=True, slots=True)
class Branch:
    """
    A branch and its head.

    Attributes:
        name: Without ``refs/heads/``.
        commit: Full SHA in lower case.

    """

    name: str
    commit: str


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """
    A merge request.

    Attributes:
        iid: Number in its project.
        source_branch: Of the source project.
        source_project_id: None if the fork is gone; other than the target's for a fork.
        target_branch: Where it would be merged.
        sha: Head of the source branch; None while GitLab has not looked.
        labels: Titles.
        draft: Whether it is marked as not ready.
        web_url: For people.
        state: ``opened``, ``closed``, ``locked`` or ``merged``.

    """

    iid: int
    source_branch: str
    source_project_id: int | None
    target_branch: str
    sha: str | None
    labels: frozenset[str]
    draft: bool
    web_url: str
    state: str


@dataclass(frozen=True, slots=True)
class Hook:
    """
    A project webhook as GitLab has it.

    Attributes:
        id: Its number.
        url: Where it delivers to.
        push: Whether pushes are delivered.
        merge_requests: Whether changes of merge requests are.
        notes: Whether comments are.
        branch_filter: Which pushes; empty is all.
        branch_filter_strategy: How the filter is read; None where GitLab is too old to say.
        enable_ssl: Whether GitLab checks our certificate.
        alert_status: ``executable``, ``temporarily_disabled`` or ``disabled``; None where GitLab is too old to say.
        disabled_until: When it is tried again, as GitLab writes it.
        signing_token_present: Whether deliveries are signed; None if not told.
        token_present: Whether deliveries carry a secret token; None if not told.

    """

    id: int
    url: str
    push: bool
    merge_requests: bool
    notes: bool
    branch_filter: str
    branch_filter_strategy: str | None
    enable_ssl: bool
    alert_status: str | None
    disabled_until: str | None
    signing_token_present: bool | None
    token_present: bool | None


@dataclass(frozen=True, slots=True)
class HookWish:
    """
    A project webhook as it ought to be.

    Attributes:
        url: Where it delivers to.
        push: Whether pushes are delivered.
        merge_requests: Whether changes of merge requests are.
        notes: Whether comments are.
        branch_filter: Which pushes; empty is all.
        branch_filter_strategy: How the filter is read.
        enable_ssl: Whether GitLab checks our certificate.
        token: Sent as ``X-Gitlab-Token``; None leaves what is there. A new URL loses the old one.
        signing_token: ``whsec_`` and 32 bytes in base64, for signatures; None leaves what is there.

    """

    url: str
    push: bool = True
    merge_requests: bool = False
    notes: bool = False
    branch_filter: str = ""
    branch_filter_strategy: FilterStrategy = "all_branches"
    enable_ssl: bool = True
    token: Secret | None = None
    signing_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class HookTest:
    """
    What became of a test delivery.

    Attributes:
        delivered: Whether the far side took it.
        message: GitLab's own words.

    """

    delivered: bool
    message: str


@dataclass(frozen=True, slots=True)
class HookEvent:
    """
    A delivery that GitLab remembers.

    Attributes:
        id: Its number.
        trigger: Such as ``push_hooks``.
        status: Answer of the far side, such as ``200``, or ``internal error`` if there was none.
        key: ``Idempotency-Key``, equal when it is sent again; None before GitLab 17.4.
        data: What was sent.

    """

    id: int
    trigger: str
    status: str
    key: str | None
    data: Mapping[str, object] = field(repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class ForgeEnvironment:
    """
    An environment of GitLab's own, which shows ours to people.

    Attributes:
        id: Its number.
        name: Such as ``review/feature-x``; never changes.
        slug: As GitLab made it from the name.
        state: ``available``, ``stopping`` or ``stopped``.
        external_url: Where its button leads.
        tier: Such as ``development``.
        changed_at: When it was last changed; aware, None if GitLab does not say.

    """

    id: int
    name: str
    slug: str
    state: str
    external_url: str | None
    tier: str | None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """
    One deployment to an environment.

    Attributes:
        id: Its number.
        environment: Name of the environment.
        sha: What was deployed.
        ref: Branch it is of.
        status: As GitLab has it.

    """

    id: int
    environment: str
    sha: str
    ref: str
    status: str


@dataclass(frozen=True, slots=True)
class Note:
    """
    A comment.

    Attributes:
        id: Its number.
        body: What it says.
        author_id: Who wrote it.
        author: Their user name.
        is_system: Whether GitLab itself wrote it.

    """

    id: int
    body: str
    author_id: int
    author: str
    is_system: bool


@dataclass(frozen=True, slots=True)
class Me:
    """
    Whose token it is.

    Attributes:
        id: Of the user.
        username: Its name.

    """

    id: int
    username: str


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """
    What our token may do, and until when.

    Attributes:
        scopes: Such as ``api``.
        expires_at: First day on which it is no longer good; None if it does not end.

    """

    scopes: frozenset[str]
    expires_at: date | None
