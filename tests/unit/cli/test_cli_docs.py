"""docs/cli.md says what the command line can do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from envprov.cli.exits import ExitCode
from envprov.cli.main import build

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
COMMON = "## Options of every command"
APP = typer.main.get_command(build())


def section(heading: str) -> str:
    """Return the text between a heading and the next."""
    _, _, rest = TEXT.partition(f"{heading}\n")
    return rest.partition("\n## ")[0]


def options_of(command: object) -> set[str]:
    """Return every spelling of every option."""
    found = set()
    for parameter in getattr(command, "params", ()):
        if parameter.param_type_name == "option":
            found |= {*parameter.opts, *parameter.secondary_opts}
    return found


def options_within(command: object) -> set[str]:
    """Return every spelling of every option of a command and of its sub-commands."""
    inner = getattr(command, "commands", {}).values()
    return options_of(command).union(*(options_within(one) for one in inner))


@pytest.mark.parametrize("name", sorted(getattr(APP, "commands", {})))
def test_each_command_has_a_section_with_an_example_and_its_options(name: str) -> None:
    text = section(f"## envprov {name}")
    assert f"$ envprov {name}" in text
    common = section(COMMON)
    missing = {
        option
        for option in options_within(APP.commands[name])  # type: ignore[attr-defined]  # a group has commands
        if f"`{option}" not in text + common and f" {option} " not in text
    }
    assert not missing


def test_the_table_at_the_top_names_every_command() -> None:
    table = TEXT.partition("|---|---|\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"#envprov-(\w+)", table)) == set(getattr(APP, "commands", {}))


def test_the_options_of_every_command_are_all_there() -> None:
    assert not {option for option in options_of(APP) if option not in section(COMMON)}


def test_nothing_is_documented_that_is_not_there() -> None:
    commands = APP.commands  # type: ignore[attr-defined]  # a group has commands
    known = {"--help"} | options_within(APP)
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT))
    assert mentioned <= known
    assert set(re.findall(r"^## envprov (\w+)$", TEXT, re.MULTILINE)) == set(commands)


def test_each_exit_code_is_explained() -> None:
    assert {int(code) for code in re.findall(r"^\| (\d) \|", section("## Exit codes"), re.MULTILINE)} == set(ExitCode)
