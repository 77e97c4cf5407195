"""The end of a log as ``why`` shows it."""

from __future__ import annotations

import pytest

from envprov.kube.evidence import end_of


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param("panic\n", "panic\n", id="short: whole"),
        pytest.param("one\ntwo\nthree\n", "… (cut)\nthree\n", id="whole lines of the end"),
        pytest.param("x" * 30 + "END", "… (cut)\n" + "x" * 7 + "END", id="one long line: its end"),
        pytest.param("x" * 30 + "END\n", "… (cut)\n" + "x" * 6 + "END\n", id="one long line with its newline"),
    ],
)
def test_the_end_of_a_log_says_that_it_is_one(said: str, kept: str) -> None:
    assert end_of(said, 10) == kept
