"""The command line as it is called: help, options before and after, errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from envprov.cli.main import build
from envprov.cli.options import Common, Given, Output, with_common
from envprov.domain.errors import ConfigError, Conflict, Forbidden, Invalid, NameTaken, Unavailable

COMMANDS = ("up", "down", "list", "status", "doctor", "manifests", "cleanup", "serve", "controller")


def call(*arguments: str, **variables: str) -> Result:
    """Call envprov in this process."""
    settings: dict[str, Any] = {"env": {"COLUMNS": "200", "NO_COLOR": "1", "ENVPROV_DEBUG": "", **variables}}
    return CliRunner().invoke(build(), list(arguments), **settings)


def test_help_names_every_command_and_exit_code() -> None:
    said = call("--help")
    assert said.exit_code == 0
    assert all(name in said.output for name in COMMANDS)
    assert "3 not ready in time" in said.output


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_the_common_options(name: str) -> None:
    said = call(name, "-h")
    assert said.exit_code == 0
    options = ("--kubeconfig", "--context", "--namespace", "--settings", "--output", "--quiet", "--debug")
    assert all(option in said.output for option in options)


def test_the_version_is_told() -> None:
    said = call("--version")
    assert (said.exit_code, said.output.split()[0]) == (0, "envprov")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["up"], id="no branch"),
        pytest.param(["upp", "x"], id="no such command"),
        pytest.param(["list", "-o", "xml"], id="no such output"),
        pytest.param(["list", "--nope"], id="no such option"),
        pytest.param(["up", "a b"], id="no branch name"),
        pytest.param(["up", "x", "--timeout", "soon"], id="no time"),
        pytest.param(["up", "x", "--size", "!"], id="no size"),
        pytest.param(["up", "x", "--values", "/nowhere"], id="no file"),
        pytest.param(["list", "--settings", "/nowhere"], id="no settings"),
        pytest.param(["list", "--kubeconfig", "/nowhere"], id="no kubeconfig"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    said = call(*arguments)
    assert said.exit_code == 2
    assert "Traceback" not in said.output


def test_all_faults_of_the_settings_are_told_at_once(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("webhook: {port: 99999}\ncontroller: {workers: 0}\nnope: 1\n")
    for command in ("serve", "controller", "list"):
        said = call(command, "--settings", str(settings))
        assert said.exit_code == 2
        assert all(field in said.stderr for field in ("webhook.port", "controller.workers", "nope"))


def _app(raised: BaseException | None = None) -> tuple[typer.Typer, list[Common]]:
    seen: list[Common] = []
    app = typer.Typer(pretty_exceptions_enable=False)

    @with_common
    def show(common: Common, *, size: Annotated[str, typer.Option("--size")] = "S") -> None:
        """Show what was given."""
        assert size
        seen.append(common)
        if raised is not None:
            raise raised

    app.command()(show)

    @app.callback()
    def root(ctx: typer.Context, namespace: Annotated[str | None, typer.Option("-n")] = None) -> None:
        """Stand before the command."""
        ctx.obj = Given(namespace=namespace, output=Output.WIDE)

    return app, seen


def test_common_options_stand_before_or_after_and_the_later_wins() -> None:
    app, seen = _app()
    runner = CliRunner()
    runner.invoke(app, ["-n", "before", "show"], catch_exceptions=False)
    runner.invoke(app, ["-n", "before", "show", "-n", "after", "-o", "json", "-q"], catch_exceptions=False)
    assert seen == [
        Common(namespace="before", output=Output.WIDE),
        Common(namespace="after", output=Output.JSON, quiet=True),
    ]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        pytest.param(ConfigError("file x: y"), 2, "error: file x: y\n", id="configuration -> 2"),
        pytest.param(Forbidden("no"), 4, "error: no\n", id="forbidden -> 4"),
        pytest.param(NameTaken("taken"), 4, "error: taken\n", id="name taken -> 4"),
        pytest.param(Unavailable("gone"), 1, "error: gone\n", id="unavailable -> 1"),
        pytest.param(Conflict("again"), 1, "error: again\n", id="conflict -> 1"),
        pytest.param(Invalid("422"), 1, "error: 422\n", id="invalid -> 1"),
        pytest.param(
            ExceptionGroup("tasks", [ExceptionGroup("inner", [ConfigError("no helm")])]),
            2,
            "error: no helm\n",
            id="an error among tasks -> its own code",
        ),
        pytest.param(
            ExceptionGroup("tasks", [ValueError("x")]),
            1,
            "error: ValueError: x; this is a bug in envprov: --debug shows where\n",
            id="a bug among tasks -> 1",
        ),
        pytest.param(
            KeyError("x"), 1, "error: KeyError: 'x'; this is a bug in envprov: --debug shows where\n", id="a bug -> 1"
        ),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENVPROV_DEBUG", raising=False)
    app, _ = _app(error)
    said = CliRunner().invoke(app, ["show"])
    assert (said.exit_code, said.stderr) == (code, line)


@pytest.mark.parametrize(("arguments", "variable"), [(["--debug"], ""), ([], "1")])
def test_a_traceback_is_shown_to_who_asks(arguments: list[str], variable: str) -> None:
    app, _ = _app(KeyError("x"))
    said = CliRunner().invoke(app, ["show", *arguments], env={"ENVPROV_DEBUG": variable})
    assert said.exit_code == 1
    assert "Traceback" in said.stderr
    assert said.stderr.endswith("error: KeyError: 'x'\n")


def test_help_loads_nothing_that_takes_its_time() -> None:
    heavy = ("pydantic", "kubernetes", "aiohttp", "pyhelm3", "fastapi", "uvicorn", "yaml", "envprov.settings")
    program = f"import sys, envprov.cli.main as m; m.build(); print([x for x in {heavy} if x in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ended.stdout == "[]\n"
