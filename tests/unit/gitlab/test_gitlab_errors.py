"""What GitLab says, and what it becomes."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.errors import (
    Conflict,
    EnvprovError,
    ForgeForbidden,
    ForgeUnreliable,
    Invalid,
    RetryableError,
    Throttled,
    Unavailable,
)
from envprov.domain.forge import HookEvent, HookWish, Secret
from envprov.gitlab import reading
from envprov.gitlab.errors import Answer, from_answer, patience, told
from envprov.gitlab.transport import segment

JSON = {"content-type": "application/json"}


def said(status: int, message: object, **headers: str) -> Answer:
    return Answer(status, JSON | headers, json.dumps({"message": message}).encode())


def error(answer: Answer, *, is_write: bool = False) -> EnvprovError:
    return from_answer("do it", answer, "scope api", is_write=is_write)


@pytest.mark.parametrize(
    ("answer", "is_write", "expected", "words"),
    [
        pytest.param(said(401, "401 Unauthorized"), False, ForgeForbidden, "put a new one there", id="401"),
        pytest.param(said(403, "403 Forbidden"), False, ForgeForbidden, "this takes scope api", id="403"),
        pytest.param(said(404, "404 Project Not Found"), True, ForgeForbidden, "hides it", id="404 of the project"),
        pytest.param(said(404, "404 Not found"), True, Conflict, "404 Not found", id="404 on a write -> gone"),
        pytest.param(said(404, "404 Not found"), False, ForgeUnreliable, "404 Not found", id="404 on a read -> unsure"),
        pytest.param(said(400, {"name": ["has already been taken"]}), True, Conflict, "already", id="taken"),
        pytest.param(said(409, "409 Conflict"), True, Conflict, "409 Conflict", id="409"),
        pytest.param(said(422, "Invalid url given"), True, Invalid, "Invalid url given", id="422"),
        pytest.param(said(422, ""), True, Invalid, "GitLab answered 422 without a word", id="422 and not a word"),
        pytest.param(said(405, "405 Method Not Allowed"), True, Invalid, "405", id="405"),
        pytest.param(said(408, "408 Timeout"), False, Unavailable, "408", id="408"),
        pytest.param(said(599, "x"), False, Unavailable, "599", id="599"),
        pytest.param(Answer(301, {}, b""), False, ForgeUnreliable, r"redirect \(301\)", id="redirect to nowhere"),
        pytest.param(Answer(304, {}, b""), False, ForgeUnreliable, "304", id="304 that nobody asked for"),
        pytest.param(Answer(400, JSON, b"{"), False, ForgeUnreliable, "not in GitLab's words", id="broken 400"),
        pytest.param(Answer(429, {}, b""), False, Throttled, "patience", id="429"),
    ],
)
def test_each_answer_has_its_error(answer: Answer, expected: type[EnvprovError], words: str, *, is_write: bool) -> None:
    found = error(answer, is_write=is_write)
    assert type(found) is expected
    with pytest.raises(expected, match=words):
        raise found


def test_a_redirect_names_no_more_than_a_host() -> None:
    found = str(error(Answer(302, {"location": "https://me:s3cret@sso.example.com/login?token=s3cret"}, b"")))
    assert "sso.example.com" in found
    assert "s3cret" not in found


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "3000"}, 3000),
        ({"retry-after": "999999"}, 3600),
        ({"retry-after": "soon"}, None),
        ({"ratelimit-reset": "1000"}, None),
        ({"ratelimit-reset": "soon"}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], expected: float | None) -> None:
    assert patience(headers) == expected


def test_how_long_to_wait_until_a_moment() -> None:
    moment = int(time.time()) + 30
    for headers in ({"ratelimit-reset": str(moment)}, {"retry-after": formatdate(moment, usegmt=True)}):
        found = patience(headers)
        assert found is not None
        assert 20 < found <= 30


@given(st.integers(300, 599), st.binary(max_size=200) | st.from_type(type(None)), st.booleans(), st.booleans())
def test_no_answer_is_a_surprise(status: int, body: bytes | None, is_json: bool, is_write: bool) -> None:  # noqa: FBT001
    answer = Answer(status, JSON if is_json else {}, body or b"")
    found = error(answer, is_write=is_write)
    assert isinstance(found, RetryableError | ForgeForbidden | Invalid)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_whatever_gitlab_says_is_one_short_line(message: object) -> None:
    answer = Answer(400, JSON, json.dumps({"message": message}).encode())
    found = told(answer)
    assert found is None or ((len(found.message) <= 300 and found.message.isprintable()) or "\n" not in found.message)


@given(st.text(min_size=1))
def test_a_segment_never_leads_elsewhere(text: str) -> None:
    try:
        quoted = segment(text)
    except Invalid:
        assert text in {".", ".."} or any("\ud800" <= char <= "\udfff" for char in text)
        return
    assert set("/?#% ") & set(quoted) <= {"%"}
    assert quoted.isascii()


READERS = [getattr(reading, name) for name in ("project", "branch", "merge_request", "hook", "environment", "note")]
VALUES: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({}) | st.just([])
)
FIELDS = [
    "id",
    "iid",
    "name",
    "commit",
    "path_with_namespace",
    "web_url",
    "archived",
    "url",
    "labels",
    "author",
    "body",
]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@given(junk=st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_junk_is_refused_as_what_the_client_expects(read: object, junk: dict[str, object]) -> None:
    assert callable(read)
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        read(junk)


def test_secrets_show_nowhere() -> None:
    wish = HookWish("https://x", token=Secret("s3cret"), signing_token=Secret("s3cret"))
    assert "s3cret" not in f"{wish} {wish!r} {wish.token} {wish.token!r}"
    assert wish.token is not None
    assert wish.token.reveal() == "s3cret"
    assert (Secret("a") == Secret("a"), Secret("a") == Secret("b")) == (True, False)
    assert len({Secret("a"), Secret("a")}) == 1
    assert "body" not in repr(HookEvent(1, "push_hooks", "200", None, {"body": 1}))
