"""What ``diff`` prints for people: one line for each field, with who and when, and nothing that a terminal obeys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from envprov.cli.diff_show import by, lines, resource_name
from envprov.domain.fields import Field, field
from envprov.domain.findings import Subject
from envprov.domain.live_diff import Compared, Difference, State
from envprov.domain.managers import Who
from envprov.domain.paths import MISSING, Path

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEB = Subject("apps/v1", "Deployment", "env-x", "web")
EDIT = Who("kubectl-edit", "Update", "", NOW - timedelta(hours=3))


def told(*differences: Difference, state: State = State.CHANGED, message: str = "", more: int = 0) -> list[str]:
    """Return the lines of one object, without their colours."""
    entry = Compared(WEB, state, differences, more, (), message)
    return ["".join(part for part, _ in line) for line in lines((entry,), NOW, wide=False)]


def differing(before: object, after: object, path: Path = ("spec", "a"), who: Who | None = EDIT) -> Difference:
    """Return one difference."""
    given: Field = field(path, before, after)
    return Difference(given, who)


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        pytest.param(
            differing(3, 5),
            ["  spec.a: 3 in the release, 5 live; by kubectl edit (kubectl-edit, Update) 3h ago"],
            id="changed",
        ),
        pytest.param(
            differing(MISSING, {"x": "y"}),
            ['  spec.a: added {"x": "y"}; by kubectl edit (kubectl-edit, Update) 3h ago'],
            id="added",
        ),
        pytest.param(
            differing("x", MISSING, who=None),
            ["  spec.a: x in the release, not there live; not recorded by whom"],
            id="removed",
        ),
        pytest.param(
            differing("***", "***"),
            ["  spec.a: *** in the release, another live; by kubectl edit (kubectl-edit, Update) 3h ago"],
            id="hidden",
        ),
        pytest.param(
            differing("a\nb\n", "a\nc\n"),
            [
                "  spec.a: lines differ, - in the release, + live; by kubectl edit (kubectl-edit, Update) 3h ago",
                "    @@ -1,2 +1,2 @@",
                "     a",
                "    -b",
                "    +c",
            ],
            id="of several lines",
        ),
        pytest.param(
            differing("a\nb\n", "a\nb", who=None),
            ['  spec.a: "a\\nb\\n" in the release, "a\\nb" live; not recorded by whom'],
            id="but for the end of the last line",
        ),
        pytest.param(
            differing("x" * 500, "x" * 499 + "y", who=None),
            [
                (
                    f"  spec.a: (380 characters …){'x' * 120} in the release, "
                    f"(380 characters …){'x' * 119}y live; not recorded by whom"
                )
            ],
            id="long",
        ),
    ],
)
def test_a_field_is_one_line_or_a_few(difference: Difference, expected: list[str]) -> None:
    assert told(difference) == ["Deployment web", *expected]


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        pytest.param(
            Who("kubectl", "Update", "scale", None),
            "by kubectl scale (kubectl, Update, scale), not recorded when",
            id="without a time",
        ),
        pytest.param(
            Who("kubectl-edit", "Update", "", NOW - timedelta(minutes=3), recorded=False),
            "not recorded by whom; last beside it: kubectl edit (kubectl-edit, Update) 3m ago",
            id="only known to have been near",
        ),
        pytest.param(None, "not recorded by whom", id="nobody"),
    ],
)
def test_who_is_said_only_as_far_as_it_is_known(who: Who | None, expected: str) -> None:
    assert by(who, NOW) == expected


@pytest.mark.parametrize(
    ("state", "message", "expected"),
    [
        (State.MISSING, "", ["Deployment web is missing: it is in the release and not in the cluster"]),
        (State.FOREIGN, "it belongs to b", ["Deployment web is not of this release: it belongs to b"]),
        (State.CHANGED, "it is being deleted", ["Deployment web: it is being deleted"]),
        (State.SAME, "", []),
        (State.UNREAD, "forbidden", []),
    ],
    ids=str,
)
def test_an_object_is_told_by_its_state(state: State, message: str, expected: list[str]) -> None:
    assert told(state=state, message=message) == expected


def test_fields_that_are_left_out_are_counted() -> None:
    assert told(more=7) == ["Deployment web", "  … 7 more fields"]


@pytest.mark.parametrize(
    ("subject", "name"),
    [(WEB, "deployment.apps/web"), (Subject("v1", "Service", "env-x", "web"), "service/web")],
    ids=["of a group", "of the core group"],
)
def test_a_name_is_what_kubectl_takes(subject: Subject, name: str) -> None:
    assert resource_name(subject) == name
