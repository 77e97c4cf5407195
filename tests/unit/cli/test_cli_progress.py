"""Progress in a pipe: one line for each change, in a form that scripts may rely on."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from envprov.cli import progress as module
from envprov.cli.options import Common, Output
from envprov.cli.progress import Entry, progress, story_of_coming, story_of_going


def item(*conditions: dict[str, Any], **status: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of the status
    """Return an Environment with conditions."""
    return {"metadata": {"generation": 2}, "status": {"conditions": list(conditions), **status}}


def condition(kind: str, status: str, reason: str, message: str = "", generation: int = 2) -> dict[str, Any]:
    """Return a condition."""
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation}


def test_in_a_pipe_each_change_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    accepted = condition("Accepted", "True", "Accepted", "all in order")
    starting = condition("Ready", "False", "Starting", "web: 0 of 1\npods")
    with progress(Common(), story_of_coming, "x comes up") as view:
        view.show(item())
        view.show(item(accepted))
        view.show(item(accepted, starting))
        view.show(item(accepted, starting))
        view.show(item(accepted, condition("Ready", "True", "Ready")))
    lines = capsys.readouterr().out.splitlines()
    assert all(re.match(r"\d+\.\ds ", line) for line in lines)
    assert [line.split(" ", 1)[1] for line in lines] == [
        "Accepted True Accepted all in order",
        "Ready False Starting web: 0 of 1 pods",
        "Ready True Ready",
    ]


def test_where_the_result_is_for_a_program_progress_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(Common(output=Output.JSON), story_of_going, "x goes down") as view:
        view.show(None)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("s Environment Gone Deleted\n")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(Common(quiet=True), story_of_going, "x goes down") as view:
        view.show(None)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_the_conditions_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(module, "console", lambda _stream: terminal)
    with progress(Common(), story_of_coming, "feature/x comes up") as view:
        view.show(item(condition("Accepted", "True", "Accepted", "all in order")))
    shown = screen.getvalue()
    assert "feature/x comes up" in shown
    assert re.search(r"Accepted +True +Accepted +all in order", shown)


def test_conditions_of_an_older_wish_are_not_shown() -> None:
    old = condition("Ready", "True", "Ready", generation=1)
    assert story_of_coming(item(old, condition("Accepted", "True", "Accepted"))) == (
        Entry("Accepted", "True", "Accepted"),
    )
    assert story_of_coming(None) == ()


def test_a_teardown_tells_its_step_and_what_it_waits_for() -> None:
    going = item(
        condition("Ready", "False", "TearingDown", "waits until the pods are gone"),
        condition("TeardownBlocked", "True", "StillThere", "Pod web"),
        teardown={"step": "Quiesced", "waitingFor": ["Pod web (finalizers: a/b)"]},
    )
    assert story_of_going(going) == (
        Entry("Teardown", "Quiesced", "Full", "waits until the pods are gone: Pod web (finalizers: a/b)"),
        Entry("TeardownBlocked", "True", "StillThere", "Pod web"),
    )
    assert story_of_going(item()) == ()
