"""
The one translator from what GitLab, and whatever stands before it, say into our error tree.

=====================================  ===============  ==========================================================
What comes back                        Error            Why
=====================================  ===============  ==========================================================
401, 403 in GitLab's JSON              ForgeForbidden   no retry cures rights; says which one is missing
404 ``Project Not Found``              ForgeForbidden   not there, or hidden from our token: GitLab does not say
404 in GitLab's JSON, on a write       Conflict         what was written to has gone; read again
404 in GitLab's JSON, on a read        ForgeUnreliable  a part of the address is not there; proves no absence
405 for moved projects                 Invalid          it has another path now
409, ``already been taken``            Conflict         somebody else was first
429                                    Throttled        with the time that GitLab named
other 4xx in GitLab's JSON             Invalid          the request as it is will never pass
4xx in anything else                   ForgeUnreliable  a proxy speaks, not GitLab
3xx                                    ForgeUnreliable  never followed: the token would go along
5xx, 408, a broken connection, time    Unavailable      another try may succeed
=====================================  ===============  ==========================================================

A message holds GitLab's own ``message`` or ``error_description``, cut at 300 characters; never a body, never a token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from envprov.domain.errors import (
    Conflict,
    EnvprovError,
    ForgeForbidden,
    ForgeUnreliable,
    Invalid,
    Throttled,
    Unavailable,
)
from envprov.domain.patience import patience_of

MESSAGE_LIMIT = 300
"""Characters of GitLab's message that are kept."""
PROJECT_NOT_FOUND = "404 Project Not Found"

_JSON = "application/json"
_NUMBERED = re.compile(r"/api/v4/projects/(\d+)(?:/|$)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True)
class Answer:
    """
    A whole answer.

    Attributes:
        status: HTTP status.
        headers: Names in lower case.
        body: Unpacked.

    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_json(self) -> bool:
        """Whether it says that it is JSON."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower() == _JSON


@dataclass(frozen=True)
class Told:
    """
    What GitLab said about a request that it did not fulfil.

    Attributes:
        message: Its words on one line; empty if there were none.
        error: The OAuth word, such as ``insufficient_scope``.
        scope: Scopes, any of which would do.

    """

    message: str
    error: str = ""
    scope: str = ""


def told(answer: Answer) -> Told | None:
    """
    GitLab's own words.

    Args:
        answer: Of 400 or above.

    Returns:
        None if the answer cannot be GitLab's own: it is no JSON object, or says nothing.

    """
    if not answer.is_json:
        return None
    try:
        given = json.loads(answer.body)
    except ValueError:
        return None
    if not isinstance(given, dict):
        return None
    said = given.get("error_description") or given.get("message") or given.get("error")
    if not said and given.get("message") != "":  # which is how GitLab says that a webhook was answered nothing
        return None
    return Told(_line(said or ""), _word(given.get("error")), _word(given.get("scope")))


def from_answer(doing: str, answer: Answer, needs: str, *, is_write: bool) -> EnvprovError:
    """
    The error that an answer stands for.

    Args:
        doing: Verb and object, such as ``list branches of group/shop``.
        answer: Of 300 or above.
        needs: Which scope and role the call takes.
        is_write: Whether it would have changed something.

    """
    status, given = answer.status, told(answer)
    if status < HTTPStatus.BAD_REQUEST:
        return ForgeUnreliable(f"{doing}: {_redirect(answer)}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled(f"{doing}: GitLab asks for patience (429)", retry_after=patience(answer.headers))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        wait = patience(answer.headers)
        return Unavailable(f"{doing}: GitLab answered {status}{_said(given)}", retry_after=wait)
    if given is None:
        return ForgeUnreliable(f"{doing}: {status}, but not in GitLab's words; does a proxy stand before it?")
    return _refusal(doing, status, given, needs, is_write=is_write)


def from_exception(doing: str, server: str, error: BaseException) -> Unavailable:
    """
    The error that a failure of the network stands for.

    Args:
        doing: See ``from_answer``.
        server: URL of GitLab.
        error: From the HTTP client or the time limit.

    """
    match error:
        case requests.exceptions.SSLError() | urllib3.exceptions.SSLError():
            why = "TLS failed; does gitlab.ca_file hold the authority of its certificate?"
        case requests.exceptions.ConnectTimeout():
            why = "cannot be reached within the time limit"
        case requests.exceptions.Timeout() | urllib3.exceptions.TimeoutError() | TimeoutError():
            why = "no answer within the time limit"
        case requests.exceptions.ChunkedEncodingError() | urllib3.exceptions.ProtocolError():
            why = "the connection broke"
        case requests.exceptions.ConnectionError():
            why = "the connection failed" if _refused(error) else "the connection broke"
        case _:
            why = type(error).__name__
    return Unavailable(f"{doing}: GitLab {server}: {why}")


def patience(headers: Mapping[str, str]) -> float | None:
    """
    How long GitLab wants us to wait.

    Args:
        headers: Names in lower case.

    Returns:
        Seconds, at most an hour; None if it does not say.

    Source: https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/#response-headers

    """
    now = datetime.now(UTC)
    if headers.get("retry-after"):
        return patience_of(headers["retry-after"], now)
    reset = _number(headers.get("ratelimit-reset"))
    return patience_of(str(reset - now.timestamp()), now) if reset is not None else None


def is_of_one_endpoint(answer: Answer) -> bool:
    """
    Whether a 429 is about one endpoint alone, as that for archives, and not about all that we ask.

    Args:
        answer: A 429.

    Returns:
        True for one that GitLab's application gives, in its JSON; the one in front of it writes plain text, and so do
        proxies.

    Source: lib/api/helpers/rate_limiter.rb, lib/gitlab/rack_attack.rb of GitLab

    """
    return told(answer) is not None


def _refusal(doing: str, status: int, given: Told, needs: str, *, is_write: bool) -> EnvprovError:
    said = f"{doing}: {given.message or f'GitLab answered {status} without a word'}"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} or given.message == PROJECT_NOT_FOUND:
        return ForgeForbidden(f"{said}: {_cure(status, given, needs)}")
    if status == HTTPStatus.NOT_FOUND:
        return Conflict(said) if is_write else ForgeUnreliable(said)
    if status == HTTPStatus.CONFLICT or "already been taken" in given.message:
        return Conflict(said)
    if status == HTTPStatus.METHOD_NOT_ALLOWED and "moved" in given.message:
        return Invalid(f"{said}: write its new path, or its number, which stays")
    return Invalid(said)


def _cure(status: int, given: Told, needs: str) -> str:
    if status == HTTPStatus.UNAUTHORIZED:
        return "the token in gitlab.token_file is not accepted; put a new one there"
    if status == HTTPStatus.NOT_FOUND:
        return f"it is not there, or GitLab hides it from our token; check the path, and that the token has {needs}"
    if given.error == "insufficient_scope":
        return f"the token lacks a scope{f' (any of: {given.scope})' if given.scope else ''}; this takes {needs}"
    return f"this takes {needs}"


def _redirect(answer: Answer) -> str:
    target = answer.headers.get("location", "")
    moved = _NUMBERED.search(target)
    if moved:
        return f"the project has moved; write its new path, or its number, which stays: {moved[1]}"
    host = urlsplit(target).hostname if "://" in target else None
    where = f" to {_line(host)}" if host else ""
    return f"GitLab answered with a redirect{where} ({answer.status}), which is not followed; is gitlab.url its own?"


def _said(given: Told | None) -> str:
    return f": {given.message}" if given else ""


def _line(said: Any) -> str:  # noqa: ANN401 - JSON
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    text = _UNPRINTABLE.sub(" ", text)
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def _word(given: object) -> str:
    return _line(given) if isinstance(given, str) else ""


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _refused(error: BaseException) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError)
