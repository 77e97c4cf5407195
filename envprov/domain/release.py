"""The Helm release of an environment: its state from the labels of its Secrets, and the way out of a stuck one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

SECRET_TYPE = "helm.sh/release.v1"  # noqa: S105 - a type, not a secret
"""Type of the Secrets in which Helm keeps its releases."""
DIGEST = "envprov.io/digest"
"""Label of a release Secret: digest of the chart and the values that it was deployed from."""
REVISION = "envprov.io/revision"
"""Label of a release Secret: commit that it was deployed from."""


class ReleaseState(Enum):
    """State of the newest revision; the values are Helm's own words."""

    ABSENT = "absent"
    DEPLOYED = "deployed"
    FAILED = "failed"
    PENDING_INSTALL = "pending-install"
    PENDING_UPGRADE = "pending-upgrade"
    PENDING_ROLLBACK = "pending-rollback"
    SUPERSEDED = "superseded"
    UNINSTALLING = "uninstalling"
    UNINSTALLED = "uninstalled"
    UNKNOWN = "unknown"


class Recovery(Enum):
    """What must happen before Helm accepts ``upgrade --install``."""

    NONE = auto()
    ROLLBACK = auto()
    UNINSTALL = auto()


@dataclass(frozen=True)
class Release:
    """
    A release as its Secrets tell it.

    Attributes:
        name: Name of the release.
        revision: Number of the newest revision; 0 while there is none.
        state: State of the newest revision.
        digest: Digest that the newest revision was deployed from, if it says so.
        commit: Commit that the newest revision was deployed from, if it says so.
        last_deployed_revision: Newest revision that was ever in force, and that a rollback can go back to.

    """

    name: str
    revision: int = 0
    state: ReleaseState = ReleaseState.ABSENT
    digest: str | None = None
    commit: str | None = None
    last_deployed_revision: int | None = None


def release_of(name: str, secrets: Iterable[Mapping[str, Any]]) -> Release:
    """
    State of a release.

    Args:
        name: Name of the release.
        secrets: ``metadata`` of Secrets of one namespace; those that are not of this release are passed over.

    Returns:
        The release; ``ABSENT`` when no Secret is of it.

    Source: https://helm.sh/docs/topics/advanced/#storage-backends

    """
    revisions = sorted(
        (
            (int(labels["version"]), labels)
            for labels in (secret.get("labels") or {} for secret in secrets)
            if labels.get("owner") == "helm" and labels.get("name") == name and _is_number(labels.get("version"))
        ),
        key=lambda pair: pair[0],
    )
    if not revisions:
        return Release(name)
    newest, labels = revisions[-1]
    return Release(
        name=name,
        revision=newest,
        state=_state(labels),
        digest=labels.get(DIGEST) or None,
        commit=labels.get(REVISION) or None,
        last_deployed_revision=_last_in_force(revisions),
    )


def recovery(release: Release) -> Recovery:
    """
    What gets a release out of a state in which Helm refuses to deploy it.

    A Helm that was killed leaves ``pending-*`` or ``uninstalling`` behind. The caller makes sure that no Helm of
    ours still works on the release.

    Args:
        release: The release as it was seen.

    Returns:
        ``ROLLBACK`` only if there is a revision to go back to: ``release.last_deployed_revision``.

    """
    match release.state:
        case ReleaseState.PENDING_INSTALL | ReleaseState.UNINSTALLING:
            return Recovery.UNINSTALL
        case ReleaseState.PENDING_UPGRADE | ReleaseState.PENDING_ROLLBACK | ReleaseState.UNKNOWN:
            return Recovery.UNINSTALL if release.last_deployed_revision is None else Recovery.ROLLBACK
        case (
            ReleaseState.ABSENT
            | ReleaseState.DEPLOYED
            | ReleaseState.FAILED
            | ReleaseState.SUPERSEDED
            | ReleaseState.UNINSTALLED
        ):
            return Recovery.NONE


def _state(labels: Mapping[str, str]) -> ReleaseState:
    try:
        return ReleaseState(labels.get("status"))
    except ValueError:
        return ReleaseState.UNKNOWN


def _last_in_force(revisions: list[tuple[int, Mapping[str, str]]]) -> int | None:
    """
    The deployed revision, or else the newest superseded one.

    Helm marks the old revision superseded before it marks the new one deployed: killed in between, it leaves none
    deployed, and superseded is what was deployed a moment ago.
    """
    for state in (ReleaseState.DEPLOYED, ReleaseState.SUPERSEDED):
        found = [number for number, labels in revisions if _state(labels) is state]
        if found:
            return found[-1]
    return None


def _is_number(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10  # noqa: PLR2004 - fits an int32
