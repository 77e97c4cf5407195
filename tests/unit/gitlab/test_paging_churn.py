"""Lists of branches that come and go while they are read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from envprov.domain.errors import ForgeUnreliable
from envprov.gitlab.errors import Answer
from envprov.gitlab.paging import Listing, Pager
from envprov.gitlab.transport import Request, Transport

SERVER = "https://gitlab.example.com"
PATH = "/projects/7/repository/branches"


@dataclass
class BusyGitLab:
    """Answers from what there is, and changes it after each answer."""

    names: list[str]
    change: Callable[[list[str], int], None] = lambda _names, _answers: None
    drops: int = 0
    server: str = SERVER
    listing_seconds: float = 5.0
    answers: int = 0
    asked: list[str] = field(default_factory=list)

    async def send(self, request: Request) -> Answer:
        size, after = int(request.query["per_page"]), request.query.get("page_token", "")
        is_keyset = request.query.get("pagination") == "keyset"
        rest = sorted(name for name in self.names if name > after)
        headers = {"content-type": "application/json"} | ({} if is_keyset else {"x-total": str(len(self.names))})
        shown = rest[:size]
        if is_keyset and len(rest) > size:
            headers["link"] = f'<{SERVER}/api/v4{PATH}?page_token={shown[-1]}>; rel="next"'
        self.asked.append("page" if is_keyset else "count")
        self.answers += 1
        self.change(self.names, self.answers)
        kept = shown if len(shown) == size else shown[self.drops :]
        return Answer(200, headers, json.dumps(kept).encode())


def listed(gitlab: BusyGitLab) -> tuple[str, ...]:
    listing = Listing(
        Request("list branches", PATH), cast("Callable[[object], str]", str), lambda name: name, keyset=True, per_page=3
    )
    return asyncio.run(Pager(cast("Transport", gitlab)).all(listing))


def test_a_list_at_rest_is_read_once_and_counted_once() -> None:
    gitlab = BusyGitLab([*"abcdefg"])
    assert listed(gitlab) == tuple("abcdefg")
    assert gitlab.asked == ["page", "page", "page", "count"]


def test_a_branch_that_comes_with_every_answer_does_not_stop_the_sweep() -> None:
    gitlab = BusyGitLab([*"bcdefg"], lambda names, answers: names.append(f"a{answers}"))
    assert set("bcdefg") < set(listed(gitlab))


def test_branches_that_go_while_the_list_is_read() -> None:
    gitlab = BusyGitLab([*"abcdefghij"], lambda names, _: names.remove(min(names)) if len(names) > 3 else None)
    assert set("hij") <= set(listed(gitlab))


def test_a_list_that_is_cut_off_is_none_however_often_it_is_read() -> None:
    gitlab = BusyGitLab([*"abcdefgh"], drops=1)
    with pytest.raises(ForgeUnreliable, match="7 came, GitLab counts 8; it changed meanwhile or is broken"):
        listed(gitlab)


def test_a_cut_is_not_hidden_by_a_branch_that_comes() -> None:
    gitlab = BusyGitLab([*"bcdefgh"], lambda names, answers: names.append("a") if answers == 4 else None, drops=2)
    with pytest.raises(ForgeUnreliable, match="6 came, GitLab counts 7, 8"):
        listed(gitlab)
