"""Bodies and their fields, read strictly: what two parsers could read differently is refused."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from envprov.domain.errors import RejectedDelivery
from envprov.domain.names import branch_fault, odd_branch
from envprov.domain.trail import GONE

Payload = dict[str, Any]

DEPTH_LIMIT = 32
ID_LIMIT = 2**63 - 1
PATH_LIMIT = 1024

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# Possessive, and matched from where the last match ended: linear in the length of whatever is sent.
_TO_NEXT_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:"(?:[^"\\]++|\\.)*+"[^"\[\]{}]*+)*+([\[\]{}])', re.DOTALL)


class Unserved(Exception):
    """A delivery is as it ought to be, and about what envprov does not serve; GitLab counts no failure for it."""


def read_payload(body: bytes) -> Payload:
    """
    The JSON object that a body is.

    Raises:
        RejectedDelivery: 400: it is none, or one that nests too deep or has a key twice.

    """
    try:
        text = body.decode()  # strict: neither UTF-16 nor a lone surrogate passes
    except UnicodeDecodeError:
        raise malformed("the body is not UTF-8") from None
    if _depth_exceeds(body, DEPTH_LIMIT):
        raise malformed(f"the body is nested deeper than {DEPTH_LIMIT}")
    try:
        payload = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except ValueError as error:
        reason = str(error) if isinstance(error, _RefusedJson) else "the body is not JSON"
        raise malformed(reason) from None
    if not isinstance(payload, dict):
        raise malformed("the body must be a JSON object")
    return payload


def malformed(reason: str) -> RejectedDelivery:
    """The error for a delivery that is not as GitLab documents it; the reason does not quote it."""
    return RejectedDelivery(HTTPStatus.BAD_REQUEST, reason)


def as_object(given: object, name: str) -> Payload:
    """A JSON object."""
    if not isinstance(given, dict):
        raise malformed(f"{name} must be an object")
    return given


def as_list(given: object, name: str) -> list[Any]:
    """A JSON array."""
    if not isinstance(given, list):
        raise malformed(f"{name} must be a list")
    return given


def as_text(given: object, name: str) -> str:
    """A string, of any length and with any characters."""
    if not isinstance(given, str):
        raise malformed(f"{name} must be a string")
    return given


def as_flag(given: object, name: str) -> bool:
    """True or false."""
    if not isinstance(given, bool):
        raise malformed(f"{name} must be true or false")
    return given


def as_id(given: object, name: str) -> int:
    """A number that GitLab has given to something."""
    if not isinstance(given, int) or isinstance(given, bool) or not 0 < given <= ID_LIMIT:
        raise malformed(f"{name} must be a positive integer")
    return given


def as_word(given: object, name: str, limit: int) -> str:
    """One line that is not empty and can be printed."""
    if not isinstance(given, str) or not 0 < len(given) <= limit or _UNPRINTABLE.search(given):
        raise malformed(f"{name} must be one line of 1 to {limit} characters")
    return given


def as_path(project: object) -> str:
    """Path with namespace of a project."""
    path = project.get("path_with_namespace") if isinstance(project, dict) else None
    if not isinstance(path, str) or not 0 < len(path) <= PATH_LIMIT or _UNPRINTABLE.search(path):
        raise malformed("project.path_with_namespace must be a path")
    return path


def as_branch(given: object, name: str) -> str:
    """
    Name of a branch, as Git allows it.

    Raises:
        Unserved: It is there, and gets no environment.

    """
    branch = as_text(given, name)
    fault = branch_fault(branch)
    if fault is None:
        return branch
    if fault == odd_branch(branch):
        raise Unserved(f"a branch whose name {fault}")
    raise malformed(f"the branch name {fault}")


def as_commit(given: object, name: str) -> str:
    """A commit, or GONE for one of zeros alone."""
    if not isinstance(given, str) or not _COMMIT.fullmatch(given):
        raise malformed(f"{name} must be a commit of 40 or 64 hexadecimal digits")
    return given if given.strip("0") else GONE


def printable(text: str, limit: int) -> str:
    """A text on one line: what cannot be printed is a space, and what is too long ends in an ellipsis."""
    line = _UNPRINTABLE.sub(" ", text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


class _RefusedJson(ValueError):
    """JSON that two parsers could read differently."""


def _unique(pairs: list[tuple[str, Any]]) -> Payload:
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
