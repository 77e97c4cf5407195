"""
What Helm stored about a release: decoded without Helm and within bounds, as anybody may write such a Secret.

There are two readers: one for what concerns ServiceAccounts and how it went, and one for all objects.

Source: https://helm.sh/docs/topics/advanced/#storage-backends
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from envprov.domain.errors import Invalid, RenderFailed
from envprov.domain.evidence import HookTold, ReleaseTold
from envprov.domain.holds import Account
from envprov.domain.loose import mapping, mappings, sequence, text, texts, within
from envprov.domain.release import SECRET_TYPE
from envprov.releases.manifests import parse

SIZE_LIMIT_BYTES = 32 << 20
"""Of a release, unpacked. Packed it has at most 1 MiB, which could unfold to a thousand times as much."""
VALUE_LIMIT = 2_000_000
"""Of a release, unpacked: values in its JSON, estimated from above; each takes up to 100 bytes of memory."""
YAML_LIMIT = 4 << 20
"""Characters of documents that are read as YAML: a thousandth of a second for each thousand."""
DESCRIPTION_LIMIT = 2000
DELETE_HOOKS = frozenset({"pre-delete", "post-delete"})

_GZIP = b"\x1f\x8b\x08"
_GZIP_WINDOW = zlib.MAX_WBITS | 16
_DOCUMENT = re.compile(r"^---", re.MULTILINE)
_ACCOUNT = "ServiceAccount"


@dataclass(frozen=True)
class StoredRelease:
    """
    One revision of a release.

    Attributes:
        name: Of the release.
        namespace: Of the release.
        version: Its revision.
        status: As Helm spells it: ``deployed``, ``failed``, ``uninstalling``, ...
        accounts: The ServiceAccounts in its manifest, as they are written there; those of hooks are not among them.
        delete_hook_accounts: What its pre-delete and post-delete hooks run as.

    """

    name: str
    namespace: str
    version: int
    status: str
    accounts: tuple[dict[str, Any], ...]
    delete_hook_accounts: tuple[Account, ...]


@dataclass(frozen=True)
class StoredObjects:
    """
    One revision of a release, with all that it holds.

    Attributes:
        name: Of the release.
        namespace: Of the release.
        version: Its revision.
        status: As Helm spells it.
        objects: Its manifest as it was rendered: without what Helm and the API server add, and without hooks.
        hooks: Its hooks, those for tests among them.

    """

    name: str
    namespace: str
    version: int
    status: str
    objects: tuple[dict[str, Any], ...]
    hooks: tuple[dict[str, Any], ...]


def decode(secret: Mapping[str, Any]) -> StoredRelease:
    """
    Read from one of Helm's Secrets what concerns ServiceAccounts.

    Args:
        secret: Of type ``helm.sh/release.v1``, with its data.

    Raises:
        Invalid: It is none, is damaged, or unfolds to more than it may; names the Secret.

    """
    with _reading(secret) as release:
        namespace = _namespace_of(release, secret)
        return StoredRelease(
            name=text(release.get("name")),
            namespace=namespace,
            version=_version_of(release),
            status=text(within(release, "info").get("status")),
            accounts=tuple(_accounts(text(release.get("manifest")))),
            delete_hook_accounts=tuple(sorted(set(_hook_accounts(release, namespace)))),
        )


def decode_objects(secret: Mapping[str, Any]) -> StoredObjects:
    """
    Read from one of Helm's Secrets all objects of the release.

    Args:
        secret: Of type ``helm.sh/release.v1``, with its data.

    Raises:
        Invalid: It is none, is damaged, or unfolds to more than it may; names the Secret.

    """
    with _reading(secret) as release:
        manifest = text(release.get("manifest"))
        hooks = [text(hook.get("manifest")) for hook in mappings(release.get("hooks"))]
        _bounded((manifest, *hooks))
        return StoredObjects(
            name=text(release.get("name")),
            namespace=_namespace_of(release, secret),
            version=_version_of(release),
            status=text(within(release, "info").get("status")),
            objects=tuple(_objects(manifest)),
            hooks=tuple(_objects("\n---\n".join(hooks))),
        )


@contextmanager
def _reading(secret: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The release that a Secret holds; whatever is wrong with it is one error."""
    metadata = mapping(secret.get("metadata"))
    where = f"Secret {metadata.get('namespace', '')}/{metadata.get('name', '')}"
    if secret.get("type") != SECRET_TYPE:
        raise Invalid(f"{where} is no release of Helm")
    try:
        yield _unfold(text(mapping(secret.get("data")).get("release")))
    except (ValueError, RecursionError, RenderFailed):
        # No word of the error: it may quote the content, and with it what is secret.
        raise _unreadable(where) from None


def tell(secret: Mapping[str, Any]) -> ReleaseTold:
    """
    How a revision of a release went, in Helm's words; nothing of its manifest or values.

    Args:
        secret: Of type ``helm.sh/release.v1``, with its data.

    Raises:
        Invalid: As of ``decode``.

    """
    metadata = mapping(secret.get("metadata"))
    where = f"Secret {metadata.get('namespace', '')}/{metadata.get('name', '')}"
    try:
        release = _unfold(text(mapping(secret.get("data")).get("release")))
    except (ValueError, RecursionError):
        raise _unreadable(where) from None
    info, version = within(release, "info"), release.get("version")
    hooks = (
        HookTold(
            name=text(hook.get("name")),
            kind=text(hook.get("kind")),
            events=texts(hook.get("events")),
            phase=text(within(hook, "last_run").get("phase")),
        )
        for hook in mappings(release.get("hooks"))
    )
    return ReleaseTold(
        name=text(release.get("name")),
        version=version if isinstance(version, int) else 0,
        status=text(info.get("status")),
        description=text(info.get("description"))[:DESCRIPTION_LIMIT],
        hooks=tuple(hooks),
    )


def _unreadable(where: str) -> Invalid:
    return Invalid(f"{where} holds a release of Helm that cannot be read: it is damaged or too large")


def _namespace_of(release: Mapping[str, Any], secret: Mapping[str, Any]) -> str:
    return text(release.get("namespace")) or text(within(secret, "metadata").get("namespace"))


def _version_of(release: Mapping[str, Any]) -> int:
    version = release.get("version")
    return version if isinstance(version, int) else 0


def _unfold(encoded: str) -> Mapping[str, Any]:
    try:
        packed = base64.b64decode(base64.b64decode(encoded, validate=True), validate=True)
        content = _unpack(packed) if packed.startswith(_GZIP) else packed
    except (binascii.Error, zlib.error) as error:
        raise ValueError("it is damaged") from error
    if len(content) > SIZE_LIMIT_BYTES or sum(content.count(mark) for mark in (b",", b"[", b"{")) > VALUE_LIMIT:
        raise ValueError("it is too large")
    release = json.loads(content)
    if not isinstance(release, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - of the content, not of an argument
    return release


def _unpack(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj(_GZIP_WINDOW)
    content = unpacking.decompress(packed, SIZE_LIMIT_BYTES + 1)
    if not unpacking.eof and len(content) <= SIZE_LIMIT_BYTES:
        raise ValueError("it is cut off")
    return content


def _accounts(manifest: str) -> Iterator[dict[str, Any]]:
    # Most documents of most releases have none, and YAML is slow.
    for document in _bounded(document for document in _DOCUMENT.split(manifest) if _ACCOUNT in document):
        yield from (found for found in _objects(document) if found.get("kind") == _ACCOUNT)


def _objects(document: str) -> Iterator[dict[str, Any]]:
    for found in parse(document.encode()):
        if text(found.get("kind")).endswith("List"):
            yield from (dict(item) for item in mappings(found.get("items")))
        else:
            yield found


def _hook_accounts(release: Mapping[str, Any], namespace: str) -> Iterator[Account]:
    hooks = [hook for hook in mappings(release.get("hooks")) if not DELETE_HOOKS.isdisjoint(texts(hook.get("events")))]
    for document in _bounded(text(hook.get("manifest")) for hook in hooks):
        for found in _objects(document):
            home = text(within(found, "metadata").get("namespace")) or namespace
            yield from (Account(home, name) for name in _runs_as(found))


def _bounded(documents: Iterable[str]) -> list[str]:
    given = list(documents)
    if sum(map(len, given)) > YAML_LIMIT:
        raise ValueError("its manifest is too large")
    return given


def _runs_as(found: Mapping[str, Any]) -> Iterator[str]:
    """Names of the ServiceAccounts of the pods that an object is or makes."""
    spec = within(found, "spec")
    for pod in (
        spec,
        within(spec, "template", "spec"),
        within(spec, "jobTemplate", "spec", "template", "spec"),
    ):
        named = text(pod.get("serviceAccountName")) or text(pod.get("serviceAccount"))
        if named or sequence(pod.get("containers")):
            yield named or "default"
