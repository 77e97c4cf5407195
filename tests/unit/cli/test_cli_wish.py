"""What a person wants, checked before anything is touched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from envprov.cli.follow import waiting
from envprov.cli.session import Session
from envprov.cli.wish import VALUES_LIMIT_BYTES, Arguments, options_of, read_values
from envprov.domain.errors import ConfigError

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def test_only_what_was_given_becomes_an_option() -> None:
    assert options_of(Arguments("feature/x"), now=NOW) == {}


def test_options_are_in_the_form_of_the_api(tmp_path: Path) -> None:
    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text("image: {tag: a, pull: Always}\nlist: [1, 2]\n")
    over.write_text("image: {tag: b}\nlist: [3]\n")
    arguments = Arguments("feature/x", size="M", values=(base, over), lifetime="P3D")
    assert options_of(arguments, now=NOW) == {
        "size": "M",
        "values": {"image": {"tag": "b", "pull": "Always"}, "list": [3]},
        "lifetime": {"kind": "expire-after", "idle": "P3D"},
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(Arguments("a b"), "holds a space", id="no branch name"),
        pytest.param(Arguments(""), "is empty", id="no branch"),
        pytest.param(Arguments("x", size="S!"), "size:", id="no size"),
        pytest.param(Arguments("x", revision="abc"), "revision:", id="half a commit"),
        pytest.param(Arguments("x", lifetime="soon"), "--lifetime", id="no lifetime"),
        pytest.param(Arguments("x", values=(Path("/nowhere.yaml"),)), "No such file", id="no file"),
    ],
)
def test_wrong_arguments_are_named(arguments: Arguments, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        options_of(arguments, now=NOW)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"a: [", "line 1: is not YAML", id="no YAML"),
        pytest.param(b"\xff\xfe\x00", "is not YAML", id="no text"),
        pytest.param(b"- a", "must hold fields", id="a list"),
        pytest.param(b"a: .inf", "is not YAML that Helm could read", id="no number of JSON"),
        pytest.param(b"a: &a [*a]", "is not YAML that Helm could read", id="a list in itself"),
        pytest.param(b"[" * 5000, "is not YAML", id="too deep"),
        pytest.param(b"a: 1\n---\nb: 2", "must be one document, and has 2", id="two documents"),
        pytest.param(b"#" * (VALUES_LIMIT_BYTES + 1), "larger than", id="too large"),
    ],
)
def test_a_wrong_values_file_is_named_and_not_shown(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_values(file)
    assert str(file) in str(caught.value)


def test_values_are_read_as_helm_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("tag: 2026-01-31\nday: 2026-02-31\nat: 12:30\nmode: 0o17\nflag: off\n")
    assert read_values(file) == {"tag": "2026-01-31", "day": "2026-02-31", "at": "12:30", "mode": 15, "flag": False}


def test_an_empty_values_file_holds_no_values(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("# nothing yet\n")
    assert read_values(file) == {}


async def _work(_session: Session, _over: object) -> None:
    """Do nothing."""


def test_how_to_wait_is_read() -> None:
    assert waiting(wait=True, timeout="2m", work=None).limit == timedelta(minutes=2)
    assert waiting(wait=False, timeout="2m", work=None).limit is None
    with pytest.raises(ConfigError, match="--no-wait"):
        waiting(wait=False, timeout="2m", work=_work)
