"""What the release of an environment declares, read with the rights of the caller."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from envprov.domain.errors import Forbidden, Unavailable
from envprov.domain.loose import text, within
from envprov.domain.names import namespace_of
from envprov.domain.release import Release, ReleaseState, release_of
from envprov.kube.client import KubeClient, Object
from envprov.kube.resources import SECRETS
from envprov.releases.stored import StoredObjects, decode_objects


@dataclass(frozen=True)
class Place:
    """
    Where an environment's release is.

    Attributes:
        namespace: The environment's namespace.
        release: Name of the release.
        revision: The newest one that is on record; 0 if none is.
        project: Name of the Project, for messages.

    """

    namespace: str
    release: str
    revision: int
    project: str


def place_of(item: Object, project: str) -> Place:
    """
    Where the release of an environment is.

    Args:
        item: The Environment.
        project: Name of its Project.

    """
    name = str(item["metadata"]["name"])
    release = within(item, "status", "release")
    revision = release.get("revision")
    return Place(
        namespace=text(within(item, "status").get("namespace")) or namespace_of(name),
        release=text(release.get("name")) or name,
        revision=revision if isinstance(revision, int) else 0,
        project=project,
    )


async def read_stored(client: KubeClient, place: Place) -> tuple[StoredObjects | None, str]:
    """
    Read what the release of an environment declares.

    Args:
        client: With the caller's rights.
        place: Where the release is.

    Returns:
        The newest revision that was deployed, or the newest one if none was, or None while there is none; and what to
        know about it, if anything.

    Raises:
        Forbidden: The caller may not read it; says which right is missing and whom to ask.
        Invalid: Helm's record is damaged or too large.

    """
    try:
        release = await _release(client, place)
        revision = release.last_deployed_revision or release.revision
        if not revision:
            return None, ""
        secret = await client.get(SECRETS, f"sh.helm.release.v1.{place.release}.v{revision}", place.namespace)
    except Forbidden as error:
        raise Forbidden(
            f"{error}. Helm keeps the release in Secrets: the comparison needs the right to get secrets in namespace "
            f"{place.namespace}, as the role edit has it; ask whoever looks after Project {place.project} for it "
            "(spec.access), or have it compared by somebody who has the right"
        ) from error
    if secret is None:
        raise Unavailable(
            f"revision {revision} of release {place.release} in namespace {place.namespace} has just gone: "
            "the environment is being changed; call this again in a moment"
        )
    stored = await asyncio.to_thread(decode_objects, secret)
    return stored, _remark(release, revision)


async def _release(client: KubeClient, place: Place) -> Release:
    """What the labels of Helm's Secrets say; without the right to list them, what the record says."""
    try:
        selector = f"owner=helm,name={place.release}"
        listing = await client.list(SECRETS, place.namespace, label_selector=selector, metadata_only=True)
    except Forbidden:
        if not place.revision:
            raise
        return Release(place.release, place.revision, ReleaseState.DEPLOYED, last_deployed_revision=place.revision)
    return release_of(place.release, (item["metadata"] for item in listing.items))


def _remark(release: Release, revision: int) -> str:
    if release.last_deployed_revision is None:
        return (
            f"revision {revision} is {release.state.value} and was never deployed as a whole: "
            "what is missing may not have been made yet"
        )
    if revision != release.revision:
        return (
            f"revision {release.revision} is {release.state.value}; compared is revision {revision}, the last one that "
            "was deployed, so what the newer one has changed is told as well"
        )
    return ""
