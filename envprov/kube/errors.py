"""
The one translator from what the API server and the network say into our error tree.

=====================================  ============  ====================================================
What comes back                        Error         Why
=====================================  ============  ====================================================
401                                    Forbidden     no retry cures wrong credentials; says to check them
403                                    Forbidden     RBAC, quota or admission; the server's own words
403 with cause NamespaceTerminating    Conflict      passes when the namespace has gone
404 on a write, of a named object      Conflict      what was written to, or its namespace, has gone
404 of something not served            Unavailable   its CustomResourceDefinition is missing, or still coming
409                                    Conflict      a precondition, a name, another field manager
410                                    Expired       list again
429                                    Throttled     with ``Retry-After``
other 4xx                              Invalid       the request as it is will never pass
500 for a manifest of the wrong shape  Invalid       an apply of an unknown field, or of a number for a text
5xx, 408, a broken connection, time    Unavailable   another try may succeed
=====================================  ============  ====================================================

A message holds the API server's own ``message``, cut at 512 characters; never the body of a request, and never the
body of an answer that is no ``Status``, and no value that the server repeats as of the wrong type.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp

from envprov.domain.errors import (
    Conflict,
    EnvprovError,
    Expired,
    Forbidden,
    Invalid,
    RetryableError,
    Throttled,
    Unavailable,
)

MESSAGE_LIMIT = 512
"""Characters of the API server's message that are kept."""
RETRY_AFTER_LIMIT = 300.0
"""Seconds; a far side that asks for more is asked again after this long."""

Status = Mapping[str, Any]

_MISSHAPEN = re.compile(r"failed to create typed patch object|unable to convert unstructured object")
_VALUE = re.compile(r", got &value\.valueUnstructured\{.*")
"""What stands in the field instead: it may be a password. To the end of the line, for it may hold braces."""

_KINDS: Mapping[int, type[EnvprovError]] = {
    HTTPStatus.UNAUTHORIZED: Forbidden,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.REQUEST_TIMEOUT: Unavailable,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: Expired,
    HTTPStatus.TOO_MANY_REQUESTS: Throttled,
}


def parse_status(body: bytes) -> Status:
    """
    The ``Status`` in an answer.

    Args:
        body: Body of an answer of 400 or above.

    Returns:
        The object, or an empty one if the body is anything else (a proxy's page, a bare text).

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/

    """
    try:
        given = json.loads(body)
    except ValueError:
        return {}
    return given if isinstance(given, dict) and given.get("kind") == "Status" else {}


def is_absent(code: int, status: Status) -> bool:
    """Whether this answer says that a named object is not there, and not that its kind is not served."""
    return code == HTTPStatus.NOT_FOUND and status.get("reason") == "NotFound" and bool(_details(status).get("name"))


def from_status(doing: str, code: int, status: Status, retry_after: str | None = None) -> EnvprovError:
    """
    The error that an answer stands for.

    Args:
        doing: Verb, kind and object, such as ``apply ResourceQuota env-a/envprov``.
        code: HTTP status, or the ``code`` of a watch's ERROR event.
        status: The answer as ``parse_status`` gives it.
        retry_after: The header of that name.

    """
    error = _kind(code, status)
    message = f"{doing}: {_said(code, status)}{_hint(code, status)}"
    if issubclass(error, RetryableError):
        wait = _seconds(retry_after) or _seconds(_details(status).get("retryAfterSeconds"))
        return error(message, retry_after=wait)
    return error(message)


def from_exception(doing: str, server: str, error: BaseException) -> Unavailable:
    """
    The error that a failure of the network stands for.

    Args:
        doing: See ``from_status``.
        server: URL of the API server.
        error: From aiohttp, ssl or the time limit.

    """
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            why = "TLS failed; does the kubeconfig's certificate authority belong to this server?"
        case aiohttp.ClientConnectorDNSError():
            why = "its host name cannot be resolved"
        case aiohttp.ServerTimeoutError() | TimeoutError():
            why = "no answer within the time limit"
        case aiohttp.ClientConnectorError():
            why = error.os_error.strerror or type(error.os_error).__name__
        case (
            aiohttp.ServerDisconnectedError()
            | aiohttp.ClientPayloadError()
            | ConnectionError()
            | aiohttp.ClientOSError()
        ):
            why = "the connection broke"
        case _:
            why = type(error).__name__
    return Unavailable(f"{doing}: API server {server}: {why}")


def _kind(code: int, status: Status) -> type[EnvprovError]:
    if code == HTTPStatus.FORBIDDEN and _has_cause(status, "NamespaceTerminating"):
        return Conflict
    if code == HTTPStatus.NOT_FOUND:
        return Conflict if is_absent(code, status) else Unavailable
    if code in _KINDS:
        return _KINDS[code]
    if code == HTTPStatus.INTERNAL_SERVER_ERROR and _MISSHAPEN.search(str(status.get("message"))):
        return Invalid
    return Invalid if HTTPStatus.BAD_REQUEST <= code < HTTPStatus.INTERNAL_SERVER_ERROR else Unavailable


def _hint(code: int, status: Status) -> str:
    if code == HTTPStatus.UNAUTHORIZED:
        return " (credentials not accepted; check the user of the kubeconfig's context, or the pod's token)"
    if code == HTTPStatus.NOT_FOUND and not is_absent(code, status):
        return " (this kind is not served; is its CustomResourceDefinition installed?)"
    return ""


def _said(code: int, status: Status) -> str:
    message = status.get("message")
    if isinstance(message, str) and message:
        message = _VALUE.sub("", message)
        return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
    try:
        return f"HTTP {code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"HTTP {code}"


def _details(status: Status) -> Mapping[str, Any]:
    details = status.get("details")
    return details if isinstance(details, dict) else {}


def _has_cause(status: Status, reason: str) -> bool:
    causes = _details(status).get("causes")
    return isinstance(causes, list) and any(isinstance(c, dict) and c.get("reason") == reason for c in causes)


def _seconds(value: object) -> float | None:
    # A date is legal too; the API server sends seconds, and without them the caller's own backoff is good enough.
    try:
        seconds = float(str(value))
    except ValueError:
        return None
    return min(seconds, RETRY_AFTER_LIMIT) if seconds > 0 else None


def is_refusal_of(error: EnvprovError, policy: str) -> bool:
    """Whether it was this admission policy that refused."""
    return f"ValidatingAdmissionPolicy '{policy}'" in str(error)
