"""What the API server and the network say, and what it becomes."""

from __future__ import annotations

import json
import ssl
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from envprov.kube.errors import from_exception, from_status, is_absent, parse_status

DOING = "create ConfigMap a/b"


def status(reason: str, message: str = "the server's words", **details: object) -> dict[str, Any]:
    return {"kind": "Status", "reason": reason, "message": message, "details": details}


TERMINATING = [{"reason": "NamespaceTerminating", "message": "namespace a is being terminated"}]


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        pytest.param(400, status("BadRequest"), Invalid, id="bad request -> invalid"),
        pytest.param(401, status("Unauthorized"), Forbidden, id="credentials refused -> forbidden"),
        pytest.param(403, status("Forbidden"), Forbidden, id="no permission -> forbidden"),
        pytest.param(403, status("Forbidden", "exceeded quota: q"), Forbidden, id="quota is full -> forbidden"),
        pytest.param(403, status("Forbidden", causes=TERMINATING), Conflict, id="namespace terminating -> conflict"),
        pytest.param(404, status("NotFound", name="b"), Conflict, id="written object is gone -> conflict"),
        pytest.param(404, status("NotFound"), Unavailable, id="kind not served -> unavailable"),
        pytest.param(404, {}, Unavailable, id="path not served -> unavailable"),
        pytest.param(405, status("MethodNotAllowed"), Invalid, id="not allowed -> invalid"),
        pytest.param(408, {}, Unavailable, id="request timeout -> unavailable"),
        pytest.param(409, status("AlreadyExists", "object is being deleted"), Conflict, id="being deleted -> conflict"),
        pytest.param(409, status("Conflict"), Conflict, id="precondition failed -> conflict"),
        pytest.param(410, status("Expired"), Expired, id="moment forgotten -> expired"),
        pytest.param(413, {}, Invalid, id="too large -> invalid"),
        pytest.param(422, status("Invalid"), Invalid, id="cannot be stored -> invalid"),
        pytest.param(429, status("TooManyRequests"), Throttled, id="too many -> throttled"),
        pytest.param(500, status("InternalError"), Unavailable, id="server failed -> unavailable"),
        pytest.param(503, {}, Unavailable, id="proxy has no server -> unavailable"),
        pytest.param(504, status("Timeout"), Unavailable, id="etcd too slow -> unavailable"),
        pytest.param(302, {}, Unavailable, id="a login page -> unavailable"),
        pytest.param(0, {}, Unavailable, id="an ERROR event without code -> unavailable"),
    ],
)
def test_each_answer_has_its_error(code: int, said: dict[str, Any], expected: type[EnvprovError]) -> None:
    error = from_status(DOING, code, said)
    assert type(error) is expected
    assert str(error).startswith(f"{DOING}: ")


def test_the_servers_own_words_are_kept_up_to_512_characters() -> None:
    assert str(from_status(DOING, 403, status("Forbidden", "no, because"))) == f"{DOING}: no, because"
    assert str(from_status(DOING, 422, status("Invalid", "x" * 600))) == f"{DOING}: {'x' * 511}…"


def test_a_manifest_of_the_wrong_shape_is_no_failure_of_the_server_and_its_values_are_not_repeated() -> None:
    typed = (
        "failed to create typed patch object (a/b; /v1, Kind=Secret): errors:\n"
        '  .stringData.key: expected string, got &value.valueUnstructured{Value:map[string]any {}{"a":"s3cret"}}\n'
        "  .stringDate: field not declared in schema"
    )
    error = from_status(DOING, 500, status("InternalError", typed))
    assert type(error) is Invalid
    assert "stringData.key: expected string\n  .stringDate: field not declared" in str(error)
    assert "s3cret" not in str(error)
    converted = "unable to convert unstructured object to /v1, Kind=Secret: illegal base64 data at input byte 7"
    assert type(from_status(DOING, 500, status("InternalError", converted))) is Invalid


def test_a_body_that_is_no_status_is_never_repeated() -> None:
    page = parse_status(b"<html>token=s3cret</html>")
    assert str(from_status(DOING, 502, page)) == f"{DOING}: HTTP 502 Bad Gateway"
    assert parse_status(b'{"kind": "Secret", "message": "s3cret"}') == {}
    assert parse_status(b'["s3cret"]') == {}


def test_refused_credentials_say_what_to_check() -> None:
    assert "check the user of the kubeconfig's context" in str(from_status(DOING, 401, status("Unauthorized")))


def test_an_unserved_kind_asks_for_its_definition() -> None:
    assert "CustomResourceDefinition" in str(from_status(DOING, 404, {}))


@pytest.mark.parametrize(
    ("header", "details", "expected"),
    [
        pytest.param("7", {}, 7.0, id="header"),
        pytest.param(None, {"retryAfterSeconds": 3}, 3.0, id="only in the Status"),
        pytest.param("7", {"retryAfterSeconds": 3}, 7.0, id="both -> header"),
        pytest.param("86400", {}, 300.0, id="a day -> five minutes"),
        pytest.param("-1", {}, None, id="negative -> own backoff"),
        pytest.param("Tue, 24 Nov 2026 12:00:00 GMT", {}, None, id="a date -> own backoff"),
        pytest.param("nan", {}, None, id="no number -> own backoff"),
        pytest.param(None, {}, None, id="nothing -> own backoff"),
    ],
)
@pytest.mark.parametrize("code", [409, 429, 503])
def test_retry_after_is_passed_on(code: int, header: str | None, details: dict[str, int], expected: float) -> None:
    error = from_status(DOING, code, status("X") | {"details": details}, header)
    assert isinstance(error, RetryableError)
    assert error.retry_after == expected


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        pytest.param(404, status("NotFound", name="b"), True, id="named object -> absent"),
        pytest.param(404, status("NotFound"), False, id="kind not served -> not absent"),
        pytest.param(404, {}, False, id="404 page not found -> not absent"),
        pytest.param(410, status("NotFound", name="b"), False, id="another code -> not absent"),
    ],
)
def test_only_a_named_object_can_be_absent(code: int, said: dict[str, Any], *, expected: bool) -> None:
    assert is_absent(code, said) is expected


KEY = Mock(ssl=True, host="h", port=1)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(TimeoutError(), "no answer within the time limit", id="time limit"),
        pytest.param(aiohttp.SocketTimeoutError(), "no answer within the time limit", id="silent socket"),
        pytest.param(aiohttp.ServerDisconnectedError(), "the connection broke", id="disconnected"),
        pytest.param(aiohttp.ClientPayloadError(), "the connection broke", id="broken in the answer"),
        pytest.param(ConnectionResetError(), "the connection broke", id="reset"),
        pytest.param(
            aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connection refused")),
            "Connection refused",
            id="refused",
        ),
        pytest.param(aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "?")), "cannot be resolved", id="no such host"),
        pytest.param(
            aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError()),
            "certificate authority",
            id="unknown authority",
        ),
        pytest.param(aiohttp.ClientError("body of s3cret"), "ClientError", id="anything else: only its kind"),
    ],
)
def test_each_fault_of_the_network_is_unavailable_and_says_where(fault: BaseException, words: str) -> None:
    error = from_exception(DOING, "https://api:6443", fault)
    assert isinstance(error, Unavailable)
    assert str(error).startswith(f"{DOING}: API server https://api:6443: ")
    assert words in str(error)
    assert "s3cret" not in str(error)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "reason", "message", "details", "causes", "name"]), inner, max_size=6
        )
    ),
    max_leaves=12,
)


@given(code=st.integers(0, 999), body=JUNK | st.builds(lambda junk: {"kind": "Status", "details": junk}, JUNK))
def test_no_answer_is_too_strange(code: int, body: object) -> None:
    said = parse_status(json.dumps(body).encode())
    assert isinstance(from_status(DOING, code, said), EnvprovError)
