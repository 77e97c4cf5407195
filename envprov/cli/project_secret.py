"""
The secret of a project's webhook, in the Secrets that the receiver reads: one key for each Project.

No value is ever printed, logged or put into an argument.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from base64 import b64decode, b64encode
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from envprov.cli.session import Session
from envprov.domain.errors import ConfigError
from envprov.domain.forge import Secret
from envprov.files import read_bytes
from envprov.kube.resources import SECRETS
from envprov.settings import SIGNING_MARK, TOKEN_LIMIT_BYTES

BYTES = 32


class Kind(StrEnum):
    """How GitLab shows that it is GitLab."""

    TOKEN = "secret token"  # noqa: S105 - a word
    SIGNING = "signing token"


SECRET_NAMES = {Kind.TOKEN: "envprov-webhook", Kind.SIGNING: "envprov-webhook-signing"}


@dataclass(frozen=True)
class Place:
    """
    Where the secret of one Project's webhook is.

    Attributes:
        secret: Name of the Secret, in the control namespace.
        project: Name of the Project.

    """

    secret: str
    project: str

    @property
    def key(self) -> str:
        """The one key that is ours."""
        return f"project.{self.project}"

    @property
    def manager(self) -> str:
        """Field manager, one for each Project: what one applies takes nothing away from another."""
        return f"envprov-project-{self.project}"

    def __str__(self) -> str:
        return f"key {self.key} of Secret {self.secret}"


def generate(kind: Kind) -> Secret:
    """Make a new one, of 32 random bytes."""
    if kind is Kind.SIGNING:
        return Secret(SIGNING_MARK + b64encode(secrets.token_bytes(BYTES)).decode())
    return Secret(secrets.token_urlsafe(BYTES))


def read_file(path: Path) -> tuple[Kind, Secret]:
    """
    Read one from a file.

    Args:
        path: Surrounding white space is not part of it.

    Raises:
        ConfigError: It cannot be read, or holds none.

    """
    text = read_bytes(path, TOKEN_LIMIT_BYTES, f"--token-file {path}").decode("ascii", errors="replace").strip()
    if not text.isascii() or not text.isprintable() or not text or " " in text:
        raise ConfigError(f"--token-file {path}: must hold one token and nothing else")
    return (Kind.SIGNING if text.startswith(SIGNING_MARK) else Kind.TOKEN), Secret(text)


async def find(session: Session, place: Place) -> Secret | None:
    """
    Read the one that is there.

    Args:
        session: Where.
        place: Which.

    Raises:
        Forbidden: The person may not read Secrets.

    """
    live = await session.client.get(SECRETS, place.secret, session.namespace)
    encoded = ((live or {}).get("data") or {}).get(place.key)
    text = b64decode(encoded).decode(errors="replace").strip() if encoded else ""
    return Secret(text) if text else None


async def put(session: Session, place: Place, value: Secret) -> None:
    """
    Write exactly one key; the Secret is made if it is not there.

    Args:
        session: Where.
        place: Which.
        value: The secret.

    Raises:
        Forbidden: The person may not write Secrets.

    """
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": place.secret, "namespace": session.namespace},
        "data": {place.key: b64encode(value.reveal().encode()).decode()},
    }
    await session.client.apply(body, manager=place.manager)


def set_aside(place: Place, value: Secret) -> Path:
    """Write a secret into a new file that only its owner can read, for somebody who may write the Secret."""
    handle, name = tempfile.mkstemp(prefix=f"envprov-{place.project}-", suffix=".token")  # 0600, and never another's
    with os.fdopen(handle, "w") as stream:
        stream.write(value.reveal())
    return Path(name)


def by_hand(place: Place, namespace: str, file: Path) -> str:
    """The command that adds the key from a file: the value is in no argument."""
    return (
        f"kubectl -n {namespace} create secret generic {place.secret} --from-file={place.key}={file} "
        f"--dry-run=client -o yaml | kubectl apply --server-side --field-manager={place.manager} -f -"
    )
