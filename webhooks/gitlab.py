"""
GitLab's deliveries, without I/O: who sent it, and what it says.

Source: https://docs.gitlab.com/user/project/integrations/webhook_events/
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from envprov.domain.deliveries import BranchEvent
from envprov.domain.errors import RejectedDelivery
from envprov.domain.names import branch_fault
from envprov.domain.trail import GONE

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI gives them: names in lower case, values raw."""

DEPTH_LIMIT = 32
PATH_LIMIT = 1024
PROJECT_ID_LIMIT = 2**63 - 1

_HEADS = "refs/heads/"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# Possessive, and matched from where the last match ended: linear in the length of whatever is sent.
_TO_NEXT_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:"(?:[^"\\]++|\\.)*+"[^"\[\]{}]*+)*+([\[\]{}])', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Uninteresting:
    """
    A delivery that was understood and is not about a branch.

    Attributes:
        reason: What it is instead.

    """

    reason: str


def authenticate(headers: Headers, secrets: Iterable[bytes]) -> None:
    """
    Refuse whoever does not know a secret. Needs no body.

    A ``webhook-signature`` is not looked at: no signing token can be configured yet.

    Args:
        headers: Of the request.
        secrets: All that are valid now; several while they are being rotated. None refuses everybody.

    Raises:
        RejectedDelivery: 401; it never says why.

    """
    given = [value for name, value in headers if name == b"x-gitlab-token"]
    # Digests have one length, and all of them are compared: the time tells nothing about any secret.
    digest = hashlib.sha256(given[0] if given else b"").digest()
    matches = [hmac.compare_digest(digest, hashlib.sha256(secret).digest()) for secret in secrets if secret]
    if len(given) != 1 or not any(matches):
        raise RejectedDelivery(HTTPStatus.UNAUTHORIZED, "not authentic")


def parse(headers: Headers, body: bytes) -> BranchEvent | Uninteresting:
    """
    What a delivery says.

    Args:
        headers: Of the request.
        body: Whole.

    Returns:
        The branch event of a push hook, or of a system hook's push; what else there is, is uninteresting.

    Raises:
        RejectedDelivery: 400, with the reason; it does not quote the body.

    """
    hook = _header(headers, b"x-gitlab-event")
    if hook is None:
        raise _malformed("the header X-Gitlab-Event is missing")
    if hook not in {"Push Hook", "System Hook"}:
        return Uninteresting("not a push")
    payload = _read(body)
    if hook == "System Hook" and payload.get("event_name") != "push":
        return Uninteresting("a system hook that is not a push")
    if hook == "Push Hook" and payload.get("object_kind") != "push":
        raise _malformed('object_kind must be "push"')
    return _push(payload, _key(headers))


def _push(payload: dict[str, Any], key: str | None) -> BranchEvent | Uninteresting:
    ref = payload.get("ref")
    if not isinstance(ref, str):
        raise _malformed("ref must be a string")
    if not ref.startswith(_HEADS):
        return Uninteresting("not a branch")
    branch = ref.removeprefix(_HEADS)
    fault = branch_fault(branch)
    if fault is not None:
        raise _malformed(f"the branch name {fault}")
    before, after = _commit(payload, "before"), _commit(payload, "after")
    if before == after:
        raise _malformed("before and after are the same commit")
    return BranchEvent(
        project_id=_project_id(payload),
        project_path=_project_path(payload),
        branch=branch,
        before=before,
        after=after,
        key=key,
    )


def _project_id(payload: dict[str, Any]) -> int:
    given = payload.get("project_id")
    if not isinstance(given, int) or isinstance(given, bool) or not 0 < given <= PROJECT_ID_LIMIT:
        raise _malformed("project_id must be a positive integer")
    return given


def _project_path(payload: dict[str, Any]) -> str:
    project = payload.get("project")
    path = project.get("path_with_namespace") if isinstance(project, dict) else None
    if not isinstance(path, str) or not 0 < len(path) <= PATH_LIMIT or _UNPRINTABLE.search(path):
        raise _malformed("project.path_with_namespace must be a path")
    return path


def _commit(payload: dict[str, Any], field: str) -> str:
    given = payload.get(field)
    if not isinstance(given, str) or not _COMMIT.fullmatch(given):
        raise _malformed(f"{field} must be a commit of 40 or 64 hexadecimal digits")
    return given if given.strip("0") else GONE


def _read(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode()  # strict: neither UTF-16 nor a lone surrogate passes
    except UnicodeDecodeError:
        raise _malformed("the body is not UTF-8") from None
    if _depth_exceeds(body, DEPTH_LIMIT):
        raise _malformed(f"the body is nested deeper than {DEPTH_LIMIT}")
    try:
        payload = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except ValueError as error:
        reason = str(error) if isinstance(error, _RefusedJson) else "the body is not JSON"
        raise _malformed(reason) from None
    if not isinstance(payload, dict):
        raise _malformed("the body must be a JSON object")
    return payload


class _RefusedJson(ValueError):
    """JSON that two parsers could read differently."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedJson("an object has a key twice")
    return found


def _no_constant(name: str) -> None:
    raise _RefusedJson(f"{name} is not JSON")


def _depth_exceeds(body: bytes, limit: int) -> bool:
    """Whether brackets are nested deeper than a limit; asked before the parser, which recurses."""
    depth = position = 0
    while (match := _TO_NEXT_BRACKET.match(body, position)) is not None:
        depth += 1 if match[1] in b"[{" else -1
        if depth > limit:
            return True
        position = match.end()
    return False


def _header(headers: Headers, wanted: bytes) -> str | None:
    found = [value for name, value in headers if name == wanted]
    return found[0].decode("latin-1") if len(found) == 1 else None


def _key(headers: Headers) -> str | None:
    given = _header(headers, b"idempotency-key")
    return given if given is not None and _KEY.fullmatch(given) else None


def _malformed(reason: str) -> RejectedDelivery:
    return RejectedDelivery(HTTPStatus.BAD_REQUEST, reason)
