"""Remotes of Git, and real repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from envprov.cli.git import path_of, remote_path, top_of


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://gitlab.example.com/group/shop.git", "group/shop"),
        ("https://gitlab.example.com/group/sub/shop", "group/sub/shop"),
        ("https://gitlab.example.com:8443/group/shop/", "group/shop"),
        ("https://user:secret@gitlab.example.com/group/shop.git", "group/shop"),
        ("ssh://git@gitlab.example.com:2222/group/shop.git", "group/shop"),
        ("git@gitlab.example.com:group/shop.git", "group/shop"),
        ("gitlab.example.com:group/shop", "group/shop"),
        ("git@[2001:db8::1]:group/shop.git", "group/shop"),
        ("git@gitlab.example.com:/group/shop.git", "group/shop"),
        ("https://gitlab.example.com/gr%C3%BC/shop.git", "grü/shop"),
        ("/srv/git/shop.git", None),
        ("../shop.git", None),
        ("file:///srv/git/shop.git", None),
        ("https://gitlab.example.com/", None),
        ("https://[broken/group/shop", None),
        ("", None),
    ],
)
def test_the_path_of_a_remote_is_what_follows_the_host(url: str, path: str | None) -> None:
    assert path_of(url) == path


def test_a_repository_tells_its_remote_and_its_top(tmp_path: Path) -> None:
    inner = tmp_path / "shop" / "src"
    inner.mkdir(parents=True)
    assert remote_path(inner) is None
    assert top_of(inner) is None
    subprocess.run(["git", "init", "--quiet", tmp_path / "shop"], check=True)
    assert remote_path(inner) is None
    url = "git@gitlab.example.com:group/shop.git"
    subprocess.run(["git", "-C", inner, "remote", "add", "origin", url], check=True)
    assert remote_path(inner) == "group/shop"
    assert top_of(inner) == (tmp_path / "shop").resolve()


def test_a_computer_without_git_has_no_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert remote_path(tmp_path) is None
