"""Tables, objects, and nothing that a terminal would obey."""

from __future__ import annotations

import json

import pytest
import yaml

from envprov.cli.options import Output
from envprov.cli.plain import clean, note
from envprov.cli.printing import print_data, print_line, print_object, print_objects, print_table

ITEM = {
    "apiVersion": "envprov.io/v1alpha1",
    "kind": "Environment",
    "metadata": {"name": "x-abcdefgh", "managedFields": [{"manager": "kubectl"}]},
    "spec": {"project": "shop", "branch": "日本語/イベント"},
}


def test_columns_are_as_wide_as_their_cells(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("BRANCH", "PHASE", "URL"), [("日本語", "Ready", "https://x"), ("a", "", "y" * 300)])
    assert capsys.readouterr().out.splitlines() == [
        "BRANCH   PHASE   URL",
        "日本語   Ready   https://x",
        f"a        -       {'y' * 300}",
    ]


def test_a_cluster_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("a\x1b[2Jb\r\nc\u202ed [red]e[/red] :smile:")
    assert capsys.readouterr().out == "a [2Jb  c d [red]e[/red] :smile:\n"
    assert clean("a\tb\x00c") == "a b c"


def test_notes_are_on_standard_error_and_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    note("settings are wrong:\n  a: \x1b[31mb")
    note("unheard", quiet=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "settings are wrong:\n  a:  [31mb\n"


def test_objects_are_the_apis_own_without_managers(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ITEM | {"metadata": {"name": "x-abcdefgh"}}
    print_object(ITEM, Output.JSON)
    assert json.loads(capsys.readouterr().out) == wanted
    print_object(ITEM, Output.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == wanted
    print_objects([ITEM], Output.JSON)
    printed = capsys.readouterr().out
    assert "日本語/イベント" in printed
    assert json.loads(printed) == {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"resourceVersion": ""},
        "items": [wanted],
    }


def test_names_are_what_kubectl_takes(capsys: pytest.CaptureFixture[str]) -> None:
    print_objects([ITEM, ITEM], Output.NAME)
    assert capsys.readouterr().out == "environment.envprov.io/x-abcdefgh\n" * 2


def test_data_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_data([{"a": "b" * 500}], Output.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == [{"a": "b" * 500}]
