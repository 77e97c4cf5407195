"""Logs on standard error."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from envprov.cli import logs
from envprov.settings import LogSettings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_an_entry_is_one_json_object_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogSettings())
    structlog.get_logger("envprov").info("pass", key="x", Token="glpat-1", password="p", authorization="Bearer q")
    structlog.get_logger("envprov").debug("unheard")
    said = capsys.readouterr()
    assert said.out == ""
    entry = json.loads(said.err)
    assert (entry["event"], entry["key"], entry["level"]) == ("pass", "x", "info")
    assert not {"glpat-1", "p", "Bearer q"} & set(entry.values())


def test_libraries_log_in_the_same_form_and_not_their_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogSettings(level="debug"))
    logging.getLogger("pyhelm3").info("helm --kubeconfig secret")
    logging.getLogger("aiohttp").warning("slow")
    entry = json.loads(capsys.readouterr().err)
    assert (entry["event"], entry["logger"], entry["level"]) == ("slow", "aiohttp", "warning")


def test_an_exception_is_part_of_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogSettings())
    try:
        int("boom")
    except ValueError:
        structlog.get_logger("envprov").exception("bug")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError" in json.loads(line)["exception"]


def test_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LogSettings(format="text"))
    structlog.get_logger("envprov").info("listening", port=8080)
    (line,) = capsys.readouterr().err.splitlines()
    assert "listening" in line
    assert "port=8080" in line
