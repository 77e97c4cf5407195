"""GitLab's deliveries, and what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.deliveries import BranchEvent
from envprov.domain.errors import RejectedDelivery
from tests import payloads
from webhooks.gitlab import Action, Delivery, MergeRequestEvent, NoteCommand, Uninteresting, parse

if TYPE_CHECKING:
    from webhooks.authentic import Headers

SHA = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
BEFORE = payloads.BEFORE
LONG = "a1" * 32
PUSH: Headers = [(b"x-gitlab-event", b"Push Hook")]
SYSTEM: Headers = [(b"x-gitlab-event", b"System Hook")]
MERGE: Headers = [(b"x-gitlab-event", b"Merge Request Hook")]
NOTE: Headers = [(b"x-gitlab-event", b"Note Hook")]


def event(before: str, after: str, branch: str = "feature/x", key: str | None = None) -> tuple[BranchEvent, ...]:
    return (BranchEvent(15, "group/shop", branch, before, after, key),)


def request(action: Action = Action.OPEN, **changes: Any) -> MergeRequestEvent:  # noqa: ANN401 - any field
    opened = MergeRequestEvent(
        project_id=15,
        project_path="group/shop",
        iid=12,
        branch="feature/x",
        is_fork=False,
        action=action,
        ended="",
        is_draft=False,
        labels=frozenset(),
        revision=SHA,
        oldrev="",
    )
    return replace(opened, **changes)


COMMAND = NoteCommand(
    project_id=15,
    project_path="group/shop",
    branch="feature/x",
    iid=12,
    note_id=1244,
    discussion_id="1f6ac7c7d5d3bd3eb8f6bdd9b3b3a1a5e1a8f3b0",
    author_id=4,
    author="jsmith",
    text="/envprov extend 3d",
    created_at=datetime(2026, 5, 17, 18, 21, 36, tzinfo=UTC),
)


ODD = [
    ("long name", "x" * 256, "a branch whose name has 256 bytes; at most 255 are possible"),
    ("branch HEAD", "HEAD", "a branch whose name is 'HEAD', which Git reserves"),
    ("branch that reads as an option", "-x", "a branch whose name begins with '-'"),
    (
        "branch that reads as a fork's",
        "merge-requests/12/head",
        "a branch that is called as a merge request from a fork is",
    ),
]
"""Branches that Git lets be pushed; a 4xx for them would count against the hook."""


def body(payload: object) -> bytes:
    return json.dumps(payload).encode()


def without(payload: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in names}


def with_attributes(payload: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return payload | {"object_attributes": payload["object_attributes"] | changes}


def _older(payload: dict[str, Any]) -> dict[str, Any]:
    attributes = without(payload["object_attributes"], "labels", "draft", "state")
    return payload | {"object_attributes": attributes}


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
            {"event_name": "project_create", "name": "StoreCloud"},
            Uninteresting("a system hook of another kind"),
            id="other system hook -> uninteresting",
        ),
        pytest.param(
            [(b"x-gitlab-event", b"Tag Push Hook")],
            payloads.tag_pushed("v1", SHA),
            Uninteresting("a hook of another kind"),
            id="tag -> uninteresting",
        ),
        pytest.param(
            SYSTEM,
            payloads.tag_pushed("v1", SHA),
            Uninteresting("a system hook of another kind"),
            id="tag of a system hook -> uninteresting",
        ),
        pytest.param(
            SYSTEM,
            payloads.repository_updated(
                payloads.change("a", payloads.ZERO, SHA),
                {"before": payloads.ZERO, "after": SHA, "ref": "refs/tags/v1"},
                payloads.change("b", BEFORE, SHA),
                payloads.change("c", SHA, payloads.ZERO),
            ),
            (*event("", SHA, "a"), *event(BEFORE, SHA, "b"), *event(SHA, "", "c")),
            id="all branches of one push, without its tags",
        ),
        pytest.param(
            SYSTEM,
            payloads.repository_updated({"before": BEFORE, "after": SHA, "ref": "refs/tags/v1"}),
            Uninteresting("not a branch"),
            id="push of tags alone -> uninteresting",
        ),
        pytest.param(
            SYSTEM,
            payloads.repository_updated() | {"changes": []},
            Uninteresting("not a branch"),
            id="push that changed nothing -> uninteresting",
        ),
        pytest.param(MERGE, payloads.merge_request(), request(), id="merge request opened"),
        pytest.param(SYSTEM, payloads.merge_request(), request(), id="merge request of a system hook -> the same"),
        pytest.param(MERGE, payloads.merge_request("reopen"), request(Action.REOPEN), id="merge request opened again"),
        pytest.param(
            MERGE,
            payloads.merge_request("close"),
            request(Action.CLOSE, ended="closed"),
            id="merge request closed",
        ),
        pytest.param(
            MERGE, payloads.merge_request("merge"), request(Action.MERGE, ended="merged"), id="merge request merged"
        ),
        pytest.param(
            MERGE,
            payloads.merge_request("update", state="merged"),
            request(Action.UPDATE, ended="merged"),
            id="merged one updated -> it is still merged",
        ),
        pytest.param(
            MERGE,
            payloads.merge_request("update", oldrev=BEFORE),
            request(Action.UPDATE, oldrev=BEFORE),
            id="new commits -> the head before",
        ),
        pytest.param(
            MERGE,
            payloads.merge_request("update", oldrev=SHA),
            request(Action.UPDATE),
            id="head before is the head -> no new commits",
        ),
        pytest.param(
            MERGE,
            payloads.merge_request("update", labels=("preview", "日本"), draft=True),
            request(Action.UPDATE, labels=frozenset({"preview", "日本"}), is_draft=True),
            id="labels and draft",
        ),
        pytest.param(
            MERGE,
            _older(payloads.merge_request("update", labels=("preview",), work_in_progress=True)),
            request(Action.UPDATE, labels=frozenset({"preview"}), is_draft=True),
            id="as an older GitLab says it -> the same",
        ),
        pytest.param(
            MERGE,
            payloads.merge_request(source_project_id=payloads.FORK),
            request(branch="merge-requests/12/head", is_fork=True),
            id="fork -> the target's name for it",
        ),
        pytest.param(
            MERGE,
            payloads.merge_request("close", source_project_id=None, last_commit=None),
            request(Action.CLOSE, branch="merge-requests/12/head", is_fork=True, ended="closed", revision=""),
            id="fork that is gone",
        ),
        pytest.param(
            MERGE,
            payloads.merge_request("approved"),
            Uninteresting("a merge request that was not opened, changed or closed"),
            id="approval -> uninteresting",
        ),
        pytest.param(
            MERGE,
            payloads.merge_request() | {"object_attributes": {"action": ["open"]}},
            Uninteresting("a merge request that was not opened, changed or closed"),
            id="action of junk -> uninteresting",
        ),
        pytest.param(NOTE, payloads.note("/envprov extend 3d"), COMMAND, id="command"),
        pytest.param(SYSTEM, payloads.note("/envprov extend 3d"), COMMAND, id="command of a system hook -> the same"),
        pytest.param(
            [(b"x-gitlab-event", b"Confidential Note Hook")],
            payloads.note("/envprov extend 3d"),
            COMMAND,
            id="command that not everybody sees -> the same",
        ),
        pytest.param(
            NOTE,
            payloads.note("/envprov extend 3d  \r\n\nbecause of the demo"),
            COMMAND,
            id="lines below a command -> ignored",
        ),
        pytest.param(
            NOTE,
            payloads.note("/envprov " + "x" * 500),
            replace(COMMAND, text="/envprov " + "x" * 190 + "…"),
            id="long command -> cut where one sees it",
        ),
        pytest.param(
            NOTE,
            payloads.note("/envprov up\tto\x00 \ud800"),
            replace(COMMAND, text="/envprov up to   "),
            id="what cannot be printed -> spaces",
        ),
        pytest.param(
            NOTE,
            payloads.note("/envprov extend 3d", created_at="2026-05-17T20:21:36.000+02:00", discussion_id=None),
            replace(COMMAND, discussion_id=""),
            id="time in another form, no thread",
        ),
        pytest.param(
            NOTE,
            payloads.note(
                "/envprov extend 3d", source_project_id=payloads.FORK, created_at="2026-05-17 18:21:36 +0000"
            ),
            replace(COMMAND, branch="merge-requests/12/head"),
            id="command in a fork's merge request",
        ),
        pytest.param(
            NOTE,
            payloads.note("please say /envprov up"),
            Uninteresting("a comment that is no command"),
            id="comment -> uninteresting",
        ),
        pytest.param(
            NOTE,
            payloads.note("/envprovision"),
            Uninteresting("a comment that is no command"),
            id="another command -> uninteresting",
        ),
        pytest.param(
            NOTE,
            payloads.note("/envprov up", noteable_type="Issue"),
            Uninteresting("a comment that is not on a merge request"),
            id="comment on an issue -> uninteresting",
        ),
        pytest.param(
            NOTE,
            payloads.note("/envprov up", action="update"),
            Uninteresting("a comment that nobody has just written"),
            id="edited comment -> uninteresting",
        ),
        pytest.param(
            NOTE,
            payloads.note("/envprov up", system=True),
            Uninteresting("a comment that nobody has just written"),
            id="GitLab's own comment -> uninteresting",
        ),
        pytest.param(
            PUSH, UPDATED | {"ref": "refs/tags/v1"}, Uninteresting("not a branch"), id="push of another ref -> nothing"
        ),
        pytest.param(
            PUSH,
            UPDATED | {"before": SHA, "after": SHA},
            Uninteresting("a push that changes nothing"),
            id="test of a hook whose project has one commit -> nothing",
        ),
        pytest.param(
            PUSH,
            UPDATED | {"before": None, "after": None},
            Uninteresting("a test of a default branch that is not there"),
            id="test of a hook whose project has no default branch yet -> nothing",
        ),
        *(
            pytest.param(PUSH, UPDATED | {"ref": f"refs/heads/{branch}"}, Uninteresting(said), id=f"{what} -> nothing")
            for what, branch, said in ODD
        ),
        pytest.param(
            MERGE,
            with_attributes(payloads.merge_request(), {"source_branch": "x" * 256}),
            Uninteresting("a branch whose name has 256 bytes; at most 255 are possible"),
            id="merge request of a branch with a long name -> nothing",
        ),
        pytest.param(
            SYSTEM,
            payloads.repository_updated(
                payloads.change("x" * 256, payloads.ZERO, SHA), payloads.change("b", payloads.ZERO, SHA)
            ),
            event("", SHA, "b"),
            id="a long name among many -> the others",
        ),
    ],
)
def test_what_a_delivery_says(headers: Headers, payload: dict[str, Any], expected: Delivery) -> None:
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
        pytest.param({"ref": "refs/heads/\ud800"}, "not valid Unicode", id="half a surrogate pair in the branch"),
        pytest.param({"before": 0}, "before must be a commit", id="number for a commit"),
        pytest.param({"before": None}, "before must be a commit", id="no commit"),
        pytest.param({"after": "A" * 40}, "after must be a commit", id="capital letters in a commit"),
        pytest.param({"after": "a" * 41}, "after must be a commit", id="commit of 41 digits"),
        pytest.param({"after": "a" * 40 + "\n"}, "after must be a commit", id="line break after a commit"),
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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"iid": 0}, "iid must be", id="no number"),
        pytest.param({"iid": "12"}, "iid must be", id="text for a number"),
        pytest.param({"source_branch": "a..b"}, "holds a space", id="no branch"),
        pytest.param({"source_branch": None}, "source_branch must be", id="no source branch"),
        pytest.param({"source_project_id": "15"}, "source_project_id must be", id="text for a project"),
        pytest.param({"target_project_id": None}, "target_project_id must be", id="no target"),
        pytest.param({"state": None}, "state must be", id="no state"),
        pytest.param({"draft": "yes"}, "draft must be", id="draft is a word"),
        pytest.param({"labels": {"title": "x"}}, "labels must be a list", id="labels are no list"),
        pytest.param({"labels": ["x"]}, "a label must be an object", id="label is a word"),
        pytest.param({"labels": [{"title": 5}]}, "a label's title must be", id="title is a number"),
        pytest.param({"last_commit": "x"}, "last_commit must be an object", id="commit is a word"),
        pytest.param({"last_commit": {"id": "x"}}, r"last_commit\.id must be", id="no commit"),
        pytest.param({"oldrev": 7}, "oldrev must be", id="head before is a number"),
    ],
)
def test_a_merge_request_with_a_wrong_field_is_rejected(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedDelivery, match=reason) as error:
        parse(MERGE, body(with_attributes(payloads.merge_request("update"), changes)))
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"note": None}, "note must be a string", id="no text"),
        pytest.param({"id": -1}, r"object_attributes\.id must be", id="no number"),
        pytest.param({"author_id": "4"}, "author_id must be", id="text for an author"),
        pytest.param({"discussion_id": ""}, "discussion_id must be", id="empty thread"),
        pytest.param({"discussion_id": "a\nb"}, "discussion_id must be", id="two lines for a thread"),
        pytest.param({"created_at": "yesterday"}, "created_at must be a time", id="no time"),
        pytest.param({"created_at": "0001-01-01T00:00:00+14:00"}, "created_at must be a time", id="before all time"),
        pytest.param({"created_at": None}, "created_at must be", id="nothing for a time"),
    ],
)
def test_a_command_with_a_wrong_field_is_rejected(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedDelivery, match=reason) as error:
        parse(NOTE, body(with_attributes(payloads.note("/envprov up"), changes)))
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"changes": None}, "changes must be a list", id="no changes"),
        pytest.param({"changes": ["x"]}, "a change must be an object", id="change is a word"),
        pytest.param({"changes": [{"ref": 5}]}, "ref must be a string", id="no ref"),
        pytest.param({"changes": [payloads.change("x", "z", SHA)]}, "before must be", id="no commit"),
        pytest.param({"project_id": None}, "project_id must be", id="no project"),
    ],
)
def test_a_push_of_many_branches_with_a_wrong_field_is_rejected(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedDelivery, match=reason) as error:
        parse(SYSTEM, body(payloads.repository_updated() | changes))
    assert error.value.status == 400


@pytest.mark.parametrize("headers", [[], [*PUSH, *PUSH]])
def test_a_delivery_names_its_hook_once(headers: Headers) -> None:
    with pytest.raises(RejectedDelivery, match="X-Gitlab-Event"):
        parse(headers, body(UPDATED))


def attempt(headers: Headers, raw: bytes) -> None:
    try:
        said = parse(headers, raw)
    except RejectedDelivery as error:
        assert error.status == 400  # noqa: PT017 - both ways are right
    else:
        assert isinstance(said, tuple | MergeRequestEvent | NoteCommand | Uninteresting)
        assert said
        assert json.dumps(repr(said)).encode()  # nothing in it that could not be written down


SAMPLES: list[tuple[Headers, dict[str, Any]]] = [
    (PUSH, UPDATED),
    (SYSTEM, payloads.repository_updated()),
    (MERGE, payloads.merge_request("update", labels=("preview",), oldrev=BEFORE)),
    (NOTE, payloads.note("/envprov up")),
]
any_headers = st.sampled_from([PUSH, SYSTEM, MERGE, NOTE, [], [(b"x-gitlab-event", b"\xff")]])
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


@given(st.sampled_from(SAMPLES), st.data())
def test_any_value_in_any_field_is_understood_or_rejected(
    sample: tuple[Headers, dict[str, Any]], data: st.DataObject
) -> None:
    headers, payload = sample
    name = data.draw(st.sampled_from(sorted(payload)))
    value = payload[name]
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        changed: object = value | {data.draw(st.sampled_from(sorted(value))): data.draw(any_json)}
    else:
        changed = data.draw(any_json)
    attempt(headers, body(payload | {name: changed}))


@given(st.sampled_from(SAMPLES), st.data())
def test_any_damage_to_the_bytes_is_understood_or_rejected(
    sample: tuple[Headers, dict[str, Any]], data: st.DataObject
) -> None:
    headers, payload = sample
    raw = bytearray(body(payload))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    attempt(headers, bytes(raw))
