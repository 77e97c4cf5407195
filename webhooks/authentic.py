"""
Who sent a delivery, without I/O: GitLab's secret token, and its signing token after Standard Webhooks.

A token is known from the headers. A signature needs the body, so everything else about it is settled before that is
read: it is there once, it has its form, its time is now, and there is a key that could have made it.

Source: https://docs.gitlab.com/user/project/integrations/webhooks/#signing-tokens
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from envprov.domain.errors import RejectedDelivery

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI gives them: names in lower case, values raw."""

TOLERANCE_SECONDS = 300
SIGNATURES_LIMIT = 16

_ID = re.compile(rb"[\x21-\x7e]{1,255}")
_TIME = re.compile(rb"[0-9]{1,12}")
_SIGNATURE = re.compile(rb"v1,([A-Za-z0-9+/]{43}=)")


@dataclass(frozen=True)
class Secrets:
    """
    What a sender may know.

    Attributes:
        tokens: Secret tokens that are valid now; several while they are being rotated.
        keys: Keys of the signing tokens, likewise.
        require_signature: Whether a token alone is not enough.

    """

    tokens: tuple[bytes, ...] = field(default=(), repr=False)
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    require_signature: bool = False


@dataclass(frozen=True)
class Signature:
    """
    A signature that may be good, once the body is there.

    Attributes:
        signed: What is signed before the body.
        digests: Those that were sent; one good one is enough.

    """

    signed: bytes
    digests: tuple[bytes, ...]

    def verify(self, body: bytes, keys: Iterable[bytes]) -> None:
        """
        Refuse a body that nobody who has a key has signed.

        Args:
            body: As it came, before anybody has parsed it.
            keys: All that are valid now.

        Raises:
            RejectedDelivery: 401; a note says why, for the log alone.

        """
        # Every pair is compared, each in constant time.
        made = [hmac.digest(key, self.signed + body, "sha256") for key in keys if key]
        matches = [hmac.compare_digest(ours, theirs) for ours in made for theirs in self.digests]
        if not any(matches):
            raise _refused("the signature does not verify")


def authenticate(headers: Headers, secrets: Secrets, *, now: float) -> Signature | None:
    """
    Refuse whoever cannot know a secret. Needs no body.

    A signature that is there must be good, whatever else is: a valid token beside it does not help.

    Args:
        headers: Of the request.
        secrets: Without any, everybody is refused.
        now: Unix time.

    Returns:
        None if the sender is known; or the signature that the body must be verified with.

    Raises:
        RejectedDelivery: 401; a note says why, for the log alone.

    """
    tokens = _values(headers, b"x-gitlab-token")
    if len(tokens) > 1:
        raise _refused("X-Gitlab-Token is there twice")
    if _values(headers, b"webhook-signature"):
        return _signature(headers, secrets, now)
    if secrets.require_signature:
        raise _refused("there is no signature, and a token is not enough")
    # Digests have one length, and all of them are compared: the time tells nothing about any secret.
    digest = hashlib.sha256(tokens[0] if tokens else b"").digest()
    matches = [hmac.compare_digest(digest, hashlib.sha256(secret).digest()) for secret in secrets.tokens if secret]
    if not tokens:
        raise _refused("there is neither a token nor a signature")
    if not any(matches):
        raise _refused("the token is not one of ours")
    return None


def _signature(headers: Headers, secrets: Secrets, now: float) -> Signature:
    if not secrets.keys:
        raise _refused("there is a signature, and no signing token is configured to verify it with")
    id_ = _single(headers, b"webhook-id", _ID)
    time = _single(headers, b"webhook-timestamp", _TIME)
    if abs(int(time) - now) > TOLERANCE_SECONDS:
        raise _refused(f"webhook-timestamp is more than {TOLERANCE_SECONDS} s from now; are both clocks right?")
    given = _values(headers, b"webhook-signature")
    if len(given) != 1:
        raise _refused("webhook-signature is there twice")
    parts = given[0].split(b" ")
    if len(parts) > SIGNATURES_LIMIT:
        raise _refused("webhook-signature has too many signatures")
    # Other versions may stand beside ours; what stands beside them does not.
    found = [match[1] for part in parts if (match := _SIGNATURE.fullmatch(part)) is not None]
    if not found:
        raise _refused("webhook-signature has none of the form v1,BASE64")
    return Signature(id_ + b"." + time + b".", tuple(b64decode(one) for one in found))


def _single(headers: Headers, name: bytes, form: re.Pattern[bytes]) -> bytes:
    found = _values(headers, name)
    if len(found) != 1 or not form.fullmatch(found[0]):
        raise _refused(f"{name.decode()} must be there once, in its form")
    return found[0]


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _refused(why: str) -> RejectedDelivery:
    error = RejectedDelivery(HTTPStatus.UNAUTHORIZED, "not authentic")
    error.add_note(why)
    return error
