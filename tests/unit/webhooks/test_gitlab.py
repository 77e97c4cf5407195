"""GitLab's deliveries: who may send them, and what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.deliveries import BranchEvent
from envprov.domain.errors import RejectedDelivery
from tests import payloads
from webhooks.gitlab import Uninteresting, authenticate, parse

if TYPE_CHECKING:
    from webhooks.gitlab import Headers

SHA = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
BEFORE = payloads.BEFORE
LONG = "a1" * 32
PUSH: Headers = [(b"x-gitlab-event", b"Push Hook")]
SYSTEM: Headers = [(b"x-gitlab-event", b"System Hook")]


def event(before: str, after: str, branch: str = "feature/x", key: str | None = None) -> BranchEvent:
    return BranchEvent(15, "group/shop", branch, before, after, key)


def body(payload: object) -> bytes:
    return json.dumps(payload).encode()


def without(payload: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in names}


CREATED = payloads.push_created("feature/x", SHA)
UPDATED = payloads.push_updated("feature/x", SHA)
DELETED = payloads.push_deleted("feature/x", SHA)


@pytest.mark.parametrize(
    ("headers", "payload", "expected"),
    [
        pytest.param(PUSH, CREATED, event("", SHA), id="before all zero -> created"),
        pytest.param(PUSH, UPDATED, event(BEFORE, SHA), id="two commits -> updated"),
        pytest.param(PUSH, DELETED, event(SHA, ""), id="after all zero -> deleted"),
        pytest.param(
            PUSH, CREATED | {"before": "0" * 64, "after": LONG}, event("", LONG), id="SHA-256 repository -> created"
        ),
        pytest.param(PUSH, CREATED | {"checkout_sha": None, "commits": []}, event("", SHA), id="no commits -> created"),
        pytest.param(PUSH, UPDATED | {"something": {"new": [1]}}, event(BEFORE, SHA), id="unknown field -> ignored"),
        pytest.param(
            PUSH,
            payloads.push_created("日本語/イベント", SHA),
            event("", SHA, "日本語/イベント"),
            id="Japanese branch -> as it is",
        ),
        pytest.param(
            [*PUSH, (b"idempotency-key", b"f5e5f430-f57b")],
            CREATED,
            event("", SHA, key="f5e5f430-f57b"),
            id="key -> kept",
        ),
        pytest.param([*PUSH, (b"idempotency-key", b"\xff" * 9)], CREATED, event("", SHA), id="key of junk -> dropped"),
        pytest.param(
            SYSTEM, payloads.as_system_hook(UPDATED), event(BEFORE, SHA), id="push of a system hook -> the same"
        ),
        pytest.param(
            SYSTEM, without(UPDATED, "object_kind"), event(BEFORE, SHA), id="system hook names the event only -> same"
        ),
        pytest.param(
            SYSTEM,
            payloads.repository_updated(),
            Uninteresting("a system hook that is not a push"),
            id="other system hook -> uninteresting",
        ),
        pytest.param(
            [(b"x-gitlab-event", b"Tag Push Hook")],
            payloads.tag_pushed("v1", SHA),
            Uninteresting("not a push"),
            id="tag -> uninteresting",
        ),
        pytest.param(
            SYSTEM,
            payloads.tag_pushed("v1", SHA),
            Uninteresting("a system hook that is not a push"),
            id="tag of a system hook -> uninteresting",
        ),
        pytest.param(
            [(b"x-gitlab-event", b"Merge Request Hook")],
            payloads.merge_request_opened(),
            Uninteresting("not a push"),
            id="merge request -> uninteresting",
        ),
        pytest.param(
            PUSH, UPDATED | {"ref": "refs/tags/v1"}, Uninteresting("not a branch"), id="push of another ref -> nothing"
        ),
    ],
)
def test_what_a_delivery_says(headers: Headers, payload: dict[str, Any], expected: BranchEvent | Uninteresting) -> None:
    assert parse(headers, body(payload)) == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(body(UPDATED)[:-7], "not JSON", id="truncated"),
        pytest.param(body(UPDATED) + b"x", "not JSON", id="something after the end"),
        pytest.param(b"[1]", "a JSON object", id="a list"),
        pytest.param(b"null", "a JSON object", id="null"),
        pytest.param(b"\xef\xbb\xbf" + body(UPDATED), "not JSON", id="byte order mark"),
        pytest.param(json.dumps(UPDATED).encode("utf-16"), "not UTF-8", id="UTF-16"),
        pytest.param(json.dumps(UPDATED).encode("utf-16-le"), "not JSON", id="UTF-16 without mark"),
        pytest.param(b'{"ref": "\xed\xa0\x80"}', "not UTF-8", id="raw surrogate"),
        pytest.param(b'{"a": NaN}', "NaN is not JSON", id="NaN"),
        pytest.param(b'{"a": -Infinity}', "-Infinity is not JSON", id="infinity"),
        pytest.param(b'{"a": 1, "a": 2}', "a key twice", id="key twice"),
        pytest.param(b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "deeper than 32", id="deep"),
        pytest.param(b"[" * 500_000, "deeper than 32", id="very deep and never closed"),
        pytest.param(b'{"a":' * 100_000, "deeper than 32", id="very deep objects"),
        pytest.param(b'{"a": ' + b"9" * 100_000 + b"}", "not JSON", id="number of a hundred thousand digits"),
        pytest.param(b'"' + b"\\" * 1_000_001, "not JSON", id="a string of backslashes that never ends"),
    ],
)
def test_a_body_that_is_no_payload_is_rejected(raw: bytes, reason: str) -> None:
    with pytest.raises(RejectedDelivery, match=reason) as error:
        parse(PUSH, raw)
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"ref": None}, "ref must be a string", id="no ref"),
        pytest.param({"ref": ["refs/heads/x"]}, "ref must be a string", id="ref is a list"),
        pytest.param({"ref": "refs/heads/"}, "is empty", id="empty branch"),
        pytest.param({"ref": "refs/heads/a b"}, "holds a space", id="space in the branch"),
        pytest.param({"ref": "refs/heads/a..b"}, "holds a space", id="dots in the branch"),
        pytest.param({"ref": "refs/heads/" + "x" * 256}, "256 bytes", id="branch too long"),
        pytest.param({"ref": "refs/heads/\ud800"}, "not valid Unicode", id="half a surrogate pair in the branch"),
        pytest.param({"before": 0}, "before must be a commit", id="number for a commit"),
        pytest.param({"before": None}, "before must be a commit", id="no commit"),
        pytest.param({"after": "A" * 40}, "after must be a commit", id="capital letters in a commit"),
        pytest.param({"after": "a" * 41}, "after must be a commit", id="commit of 41 digits"),
        pytest.param({"after": "a" * 40 + "\n"}, "after must be a commit", id="line break after a commit"),
        pytest.param({"before": "0" * 40, "after": "0" * 64}, "the same commit", id="neither created nor deleted"),
        pytest.param({"before": SHA, "after": SHA}, "the same commit", id="pushed to where it was"),
        pytest.param({"project_id": True}, "project_id must be", id="true for an id"),
        pytest.param({"project_id": "15"}, "project_id must be", id="text for an id"),
        pytest.param({"project_id": 15.0}, "project_id must be", id="fraction for an id"),
        pytest.param({"project_id": -1}, "project_id must be", id="negative id"),
        pytest.param({"project_id": 2**63}, "project_id must be", id="huge id"),
        pytest.param({"project": None}, "path_with_namespace must be", id="no project"),
        pytest.param({"project": []}, "path_with_namespace must be", id="project is a list"),
        pytest.param({"project": {"path_with_namespace": 5}}, "path_with_namespace must be", id="path is a number"),
        pytest.param({"project": {"path_with_namespace": ""}}, "path_with_namespace must be", id="empty path"),
        pytest.param({"project": {"path_with_namespace": "a\nb"}}, "path_with_namespace must be", id="line in a path"),
        pytest.param({"project": {"path_with_namespace": "\ud800"}}, "path_with_namespace must", id="half a character"),
        pytest.param({"project": {"path_with_namespace": "x" * 1025}}, "path_with_namespace must", id="long path"),
        pytest.param({"object_kind": "tag_push"}, "object_kind must be", id="header and body disagree"),
    ],
)
def test_a_payload_with_a_wrong_field_is_rejected(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedDelivery, match=reason) as error:
        parse(PUSH, body(UPDATED | changes))
    assert error.value.status == 400


@pytest.mark.parametrize("name", ["object_kind", "ref", "before", "after", "project_id", "project"])
def test_a_payload_without_a_field_is_rejected(name: str) -> None:
    with pytest.raises(RejectedDelivery):
        parse(PUSH, body(without(UPDATED, name)))


@pytest.mark.parametrize("headers", [[], [*PUSH, *PUSH]])
def test_a_delivery_names_its_hook_once(headers: Headers) -> None:
    with pytest.raises(RejectedDelivery, match="X-Gitlab-Event"):
        parse(headers, body(UPDATED))


def token(value: bytes) -> Headers:
    return [(b"x-gitlab-token", value)]


@pytest.mark.parametrize("given_", [b"new", b"old", "schlüssel".encode()])
def test_every_secret_that_is_valid_now_opens(given_: bytes) -> None:
    authenticate(token(given_), [b"new", b"old", "schlüssel".encode()])


@pytest.mark.parametrize(
    ("headers", "secrets"),
    [
        pytest.param([], [b"secret"], id="no token"),
        pytest.param(token(b""), [b"secret"], id="empty token"),
        pytest.param(token(b"secreT"), [b"secret"], id="other token"),
        pytest.param(token(b"secret "), [b"secret"], id="longer token"),
        pytest.param(token(b"\xff\xfe\x00"), [b"secret"], id="token of junk"),
        pytest.param(token("schlüssel".encode("latin-1")), ["schlüssel".encode()], id="token in another encoding"),
        pytest.param([*token(b"secret"), *token(b"secret")], [b"secret"], id="token twice"),
        pytest.param(token(b"secret"), [], id="no secret configured"),
        pytest.param(token(b""), [b""], id="empty secret configured"),
        pytest.param([], [b""], id="empty secret and no token"),
        pytest.param(
            [(b"webhook-signature", b"v1,c2VjcmV0"), (b"webhook-id", b"1")], [b"secret"], id="signature alone"
        ),
    ],
)
def test_whoever_does_not_know_a_secret_is_refused_without_a_reason(headers: Headers, secrets: list[bytes]) -> None:
    with pytest.raises(RejectedDelivery) as error:
        authenticate(headers, secrets)
    assert (error.value.status, str(error.value)) == (401, "not authentic")


def test_a_signature_beside_a_good_token_is_not_looked_at() -> None:
    authenticate([*token(b"secret"), (b"webhook-signature", b"v1,junk")], [b"secret"])


def attempt(headers: Headers, raw: bytes) -> None:
    try:
        said = parse(headers, raw)
    except RejectedDelivery as error:
        assert error.status == 400  # noqa: PT017 - both ways are right
    else:
        assert isinstance(said, BranchEvent | Uninteresting)


any_headers = st.sampled_from([PUSH, SYSTEM, [], [(b"x-gitlab-event", b"\xff")]])
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(SHA),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(sorted(UPDATED)), inner),
)


@given(any_headers, st.binary())
def test_any_bytes_are_understood_or_rejected(headers: Headers, raw: bytes) -> None:
    attempt(headers, raw)


@given(any_headers, any_json)
def test_any_json_is_understood_or_rejected(headers: Headers, payload: object) -> None:
    attempt(headers, body(payload))


@given(st.sampled_from(sorted(UPDATED)), any_json)
def test_any_value_in_any_field_is_understood_or_rejected(name: str, value: object) -> None:
    attempt(PUSH, body(UPDATED | {name: value}))


@given(st.data())
def test_any_damage_to_the_bytes_is_understood_or_rejected(data: st.DataObject) -> None:
    raw = bytearray(body(UPDATED))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    attempt(PUSH, bytes(raw))
