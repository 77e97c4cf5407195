"""Our client on the stand-in: what it reads and writes, and how little it asks for."""

from __future__ import annotations

import asyncio
import os
import tarfile
import time
from datetime import date
from pathlib import Path

import pytest

from envprov import __version__
from envprov.domain.errors import (
    ChartNotFound,
    Conflict,
    ForgeForbidden,
    ForgeUnreliable,
    Invalid,
    RetryableError,
    Throttled,
)
from envprov.domain.forge import Branch, HookWish, Me, Secret, TokenInfo
from envprov.gitlab.client import GitLabClient
from tests.gitlab.driver import GitLabStandIn
from tests.gitlab.stories import Receiver, ask, connection

SHOP = "group/shop"
LONG = "ü" * 127 + "x"
NAMES = ["a", "feature/x", "feature/ü#?%2F&=+ 🚀", "x.json", "v1..2", LONG, "-", "@", "100%"]


@pytest.fixture(autouse=True)
def _shop(gitlab: GitLabStandIn) -> None:
    """Have one project."""
    gitlab.create_project(SHOP, project_id=15)


def test_a_project(gitlab: GitLabStandIn) -> None:
    found = ask(gitlab, lambda client: client.project(SHOP))
    assert found is not None
    assert (found.id, found.path, found.default_branch, found.access_level) == (15, SHOP, "main", 40)
    assert (found.archived, found.is_empty, found.marked_for_deletion) == (False, False, False)
    assert ask(gitlab, lambda client: client.project(15)) == found
    assert ask(gitlab, lambda client: client.project("group/none")) is None
    gitlab.change_project(15, archived=True, marked_for_deletion_on="2099-01-01")
    found = ask(gitlab, lambda client: client.project(SHOP))
    assert found is not None
    assert (found.archived, found.marked_for_deletion) == (True, True)


def test_an_empty_project_has_no_branches_and_no_default_branch(gitlab: GitLabStandIn) -> None:
    gitlab.create_project("group/empty", empty=True)
    found = ask(gitlab, lambda client: client.project("group/empty"))
    assert found is not None
    assert (found.is_empty, found.default_branch) == (True, None)
    assert ask(gitlab, lambda client: client.branches("group/empty")) == ()


def test_a_moved_project_is_named_by_its_number(gitlab: GitLabStandIn) -> None:
    gitlab.move_project(15, "other/shop")
    for story in (lambda c: c.project(SHOP), lambda c: c.branches(SHOP), lambda c: c.branch(SHOP, "main")):
        with pytest.raises(ForgeUnreliable, match="has moved; write its new path, or its number, which stays: 15"):
            ask(gitlab, story)
    with pytest.raises(Invalid, match="write its new path, or its number"):
        ask(gitlab, lambda client: client.create_environment(SHOP, "x"))
    found = ask(gitlab, lambda client: client.project(15))
    assert found is not None
    assert found.path == "other/shop"


@pytest.mark.parametrize("name", NAMES)
def test_a_branch_of_any_name(gitlab: GitLabStandIn, name: str) -> None:
    sha = gitlab.push(SHOP, name, {"a": "b"})
    assert ask(gitlab, lambda client: client.branch(SHOP, name)) == Branch(name, sha)
    assert Branch(name, sha) in ask(gitlab, lambda client: client.branches(SHOP))


def test_a_branch_that_is_not_there(gitlab: GitLabStandIn) -> None:
    assert ask(gitlab, lambda client: client.branch(SHOP, "none")) is None
    with pytest.raises(ForgeForbidden, match="404 Project Not Found: it is not there, or GitLab hides it"):
        ask(gitlab, lambda client: client.branch("group/none", "main"))


@pytest.mark.parametrize("name", ["", ".", "..", "\ud800"])
def test_names_that_would_ask_for_something_else_are_not_asked_for(gitlab: GitLabStandIn, name: str) -> None:
    with pytest.raises(Invalid):
        ask(gitlab, lambda client: client.branch(SHOP, name))
    assert gitlab.requests() == []


@pytest.mark.parametrize("old", [False, True], ids=["today's GitLab", "an old GitLab"])
@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 200, 250])
def test_all_branches_are_listed(gitlab: GitLabStandIn, count: int, *, old: bool) -> None:
    gitlab.settings(keyset=not old, old_first_page=old)
    gitlab.create_branches(SHOP, [f"b/{number:03}" for number in range(count - 1)])
    found = ask(gitlab, lambda client: client.branches(SHOP))
    assert [branch.name for branch in found] == [*(f"b/{number:03}" for number in range(count - 1)), "main"]
    assert dict(gitlab.state(SHOP)["branches"]) == {branch.name: branch.commit for branch in found}


def test_a_keyset_that_always_announces_a_next_page_when_full(gitlab: GitLabStandIn) -> None:
    gitlab.settings(old_first_page=True)
    gitlab.create_branches(SHOP, [f"b/{number:03}" for number in range(99)])
    assert len(ask(gitlab, lambda client: client.branches(SHOP))) == 100


def test_a_thousand_branches_cost_eleven_pages_once(gitlab: GitLabStandIn) -> None:
    gitlab.create_branches(SHOP, [f"b/{number:04}" for number in range(1000)])

    async def story(client: GitLabClient) -> tuple[int, list[int], list[int], list[int]]:
        gitlab.forget_requests()
        found = len(await client.branches(SHOP))
        first = [request["status"] for request in gitlab.requests(forget=True)]
        assert len(await client.branches(SHOP)) == found
        second = [request["status"] for request in gitlab.requests(forget=True)]
        gitlab.push(SHOP, "b/0500", {"new": "file"})
        assert len(await client.branches(SHOP)) == found
        third = [request["status"] for request in gitlab.requests(forget=True)]
        return found, first, second, third

    found, first, second, third = ask(gitlab, story)
    assert found == 1001
    assert first == [200] * 12  # eleven pages, and the total
    assert second == [304] * 12
    assert sorted(third) == [200] + [304] * 11


def test_what_is_remembered_never_hides_what_is_new(gitlab: GitLabStandIn) -> None:
    """A full page stays as it is when a branch comes after it, and so does its ETag."""
    gitlab.create_branches(SHOP, [f"b/{number:03}" for number in range(99)])

    async def story(client: GitLabClient) -> list[int]:
        sizes = [len(await client.branches(SHOP))]
        gitlab.push(SHOP, "z")
        sizes.append(len(await client.branches(SHOP)))
        gitlab.delete_branch(SHOP, "b/000")
        gitlab.delete_branch(SHOP, "b/001")
        sizes.append(len(await client.branches(SHOP)))
        return sizes

    assert ask(gitlab, story) == [100, 101, 99]


def test_a_proxy_that_drops_links_from_what_is_not_modified_hides_nothing(gitlab: GitLabStandIn) -> None:
    gitlab.create_branches(SHOP, [f"b/{number:03}" for number in range(150)])

    async def story(client: GitLabClient) -> int:
        await client.branches(SHOP)
        gitlab.fault("strip", "repository/branches", times=-1, headers=["Link", "X-Total"])
        with pytest.raises(ForgeUnreliable, match="does a proxy before GitLab drop X-Total"):
            await client.branches(SHOP)
        gitlab.mend()
        gitlab.fault("strip", "per_page=100&pagination=keyset$", headers=["Link"])
        gitlab.forget_requests()
        found = len(await client.branches(SHOP))
        # The first page once more, since a full page without a link says nothing.
        assert [request["status"] for request in gitlab.requests()] == [304, 200, 304, 304]
        return found

    assert ask(gitlab, story) == 151


def test_merge_requests(gitlab: GitLabStandIn) -> None:
    fork = gitlab.create_project("dev/shop")
    gitlab.push(fork, "theirs", {"a": "b"})
    sha = gitlab.push(SHOP, "feature/x", {"a": "b"})
    gitlab.open_merge_request(SHOP, "feature/x", labels=["env", "x"])
    gitlab.open_merge_request(SHOP, "theirs", source_project=fork, draft=True)
    closed = gitlab.open_merge_request(SHOP, "feature/x")
    gitlab.change_merge_request(SHOP, closed, action="close")
    first, second = ask(gitlab, lambda client: client.merge_requests(SHOP))
    assert (first.iid, first.source_branch, first.target_branch, first.sha) == (1, "feature/x", "main", sha)
    assert (first.labels, first.draft, first.state) == (frozenset({"env", "x"}), False, "opened")
    assert (second.draft, second.source_project_id) == (True, fork)
    only = ask(gitlab, lambda client: client.merge_requests(SHOP, source_branch="theirs"))
    assert only == (second,)
    gitlab.delete_project(fork)
    assert ask(gitlab, lambda client: client.merge_requests(SHOP))[1].source_project_id is None


def test_many_merge_requests_are_read_to_their_end(gitlab: GitLabStandIn) -> None:
    gitlab.push(SHOP, "feature/x", {"a": "b"})
    for _ in range(101):
        gitlab.open_merge_request(SHOP, "feature/x")
    found = ask(gitlab, lambda client: client.merge_requests(SHOP))
    assert [request.iid for request in found] == list(range(1, 102))


def test_files(gitlab: GitLabStandIn) -> None:
    sha = gitlab.push(SHOP, "feature/x", {"deploy/ü #%.yaml": "größe: 1\n"})

    def read(path: str, revision: str = "feature/x", limit: int = 100) -> bytes | None:
        return ask(gitlab, lambda client: client.raw_file(SHOP, path, revision, limit_bytes=limit))

    assert read("deploy/ü #%.yaml") == "größe: 1\n".encode()
    assert read("deploy/ü #%.yaml", sha) == "größe: 1\n".encode()
    assert read("none") is None
    assert read("deploy/ü #%.yaml", limit=11) is not None
    with pytest.raises(Invalid, match="larger than 10 bytes"):
        read("deploy/ü #%.yaml", limit=10)
    with pytest.raises(ForgeUnreliable, match="404 Commit Not Found"):
        read("README.md", "none")


def test_an_archive(gitlab: GitLabStandIn, tmp_path: Path) -> None:
    sha = gitlab.push(SHOP, "feature/x", {"deploy/app/Chart.yaml": "name: app\n", "other/big": "x" * 100})
    target = tmp_path / "app.tar.gz"
    ask(gitlab, lambda client: client.archive(SHOP, "deploy/app", sha, target, limit_bytes=10_000))
    with tarfile.open(target) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert names == ["", "deploy", "deploy/app", "deploy/app/Chart.yaml"]
    ask(gitlab, lambda client: client.archive(SHOP, "", sha, target, limit_bytes=10_000))
    with tarfile.open(target) as archive:
        assert len(archive.getnames()) == 7


def test_an_archive_that_is_not_there_or_too_large_leaves_nothing_behind(gitlab: GitLabStandIn, tmp_path: Path) -> None:
    target = tmp_path / "app.tar.gz"

    def fetch(path: str, revision: str, limit: int = 10_000) -> None:
        ask(gitlab, lambda client: client.archive(SHOP, path, revision, target, limit_bytes=limit))

    with pytest.raises(ChartNotFound, match="404 File Not Found; are commit and folder there"):
        fetch("deploy", "none")
    with pytest.raises(ForgeUnreliable, match="breaks off after 0 bytes"):
        fetch("none", "main")
    with pytest.raises(Invalid, match="larger than 10 bytes"):
        fetch("", "main", 10)
    for fault in ("truncated", "cut"):
        gitlab.fault(fault, "archive")
        with pytest.raises(RetryableError, match=r"breaks off|broke"):
            fetch("", "main")
    gitlab.fault("html", "archive")
    with pytest.raises(ForgeUnreliable, match="is no gzip file"):
        fetch("", "main")
    assert list(tmp_path.iterdir()) == []


def test_hooks(gitlab: GitLabStandIn) -> None:
    with Receiver() as receiver:

        async def story(client: GitLabClient) -> None:
            wish = HookWish(receiver.url, notes=True, branch_filter="^feature/", branch_filter_strategy="regex")
            made = await client.create_hook(SHOP, wish)
            assert await client.hooks(SHOP) == (made,)
            assert (made.push, made.merge_requests, made.notes, made.enable_ssl) == (True, False, True, True)
            assert (made.branch_filter, made.branch_filter_strategy) == ("^feature/", "regex")
            assert (made.alert_status, made.disabled_until) == ("executable", None)
            assert (made.signing_token_present, made.token_present) == (False, None)
            changed = await client.update_hook(
                SHOP, made.id, HookWish(receiver.url, token=Secret("s3cret"), merge_requests=True)
            )
            assert (changed.notes, changed.merge_requests, changed.branch_filter) == (False, True, "")
            assert (await client.test_hook(SHOP, made.id, "push_events")).delivered
            assert receiver.received[0].headers["x-gitlab-token"] == "s3cret"
            receiver.status = 500
            tested = await client.test_hook(SHOP, made.id, "push_events")
            assert (tested.delivered, tested.message) == (False, "Hook executed but returned HTTP 500")
            (event,) = await client.hook_events(SHOP, made.id, "server_failure")
            assert (event.trigger, event.status, event.data["object_kind"]) == ("push_hooks", "500", "push")
            assert len(await client.hook_events(SHOP, made.id)) == 2
            receiver.status = 202
            assert await client.resend(SHOP, made.id, event.id) == "202"
            assert receiver.received[-1].headers["idempotency-key"] == event.key
            with pytest.raises(Conflict, match="404 Not found"):
                await client.update_hook(SHOP, made.id + 1, wish)
            with pytest.raises(Invalid, match="Invalid url given"):
                await client.create_hook(SHOP, HookWish("ftp://x"))

        ask(gitlab, story)


def test_the_limit_of_one_endpoint_holds_up_no_other(gitlab: GitLabStandIn) -> None:
    with Receiver() as receiver:

        async def story(client: GitLabClient) -> None:
            made = await client.create_hook(SHOP, HookWish(receiver.url))
            for _ in range(5):
                await client.test_hook(SHOP, made.id, "push_events")
            with pytest.raises(Throttled) as caught:
                await client.test_hook(SHOP, made.id, "push_events")
            assert caught.value.retry_after == 60
            assert await client.hooks(SHOP)

        ask(gitlab, story)


def test_only_the_newest_deliveries_are_looked_at(gitlab: GitLabStandIn) -> None:
    with Receiver() as receiver:
        receiver.status = 500

        async def story(client: GitLabClient) -> None:
            made = await client.create_hook(SHOP, HookWish(receiver.url))
            for number in range(210):
                gitlab.push(SHOP, "b", {"a": str(number)})
            await asyncio.to_thread(gitlab.settle)
            found = await client.hook_events(SHOP, made.id, "server_failure")
            assert len(found) == 200
            assert found[0].id > found[-1].id

        ask(gitlab, story)


def test_environments_and_deployments(gitlab: GitLabStandIn) -> None:
    sha = gitlab.push(SHOP, "feature/x", {"a": "b"})

    async def story(client: GitLabClient) -> None:
        assert await client.find_environment(SHOP, "envprov/feature-x") is None
        made = await client.create_environment(SHOP, "envprov/feature-x", external_url="https://x.example.com")
        assert (made.name, made.state, made.tier) == ("envprov/feature-x", "available", "development")
        assert made.external_url == "https://x.example.com"
        assert await client.find_environment(SHOP, made.name) == made
        assert await client.environments(SHOP, search="envprov") == (made,)
        assert await client.environments(SHOP, state="stopped") == ()
        with pytest.raises(Conflict, match="already been taken"):
            await client.create_environment(SHOP, made.name)
        changed = await client.update_environment(SHOP, made.id, external_url="https://y.example.com")
        assert changed.external_url == "https://y.example.com"
        first = await client.create_deployment(SHOP, made.name, sha, "feature/x", "running")
        second = await client.create_deployment(SHOP, made.name, sha, "feature/x", "running")
        assert (first.environment, first.sha, first.ref, first.status) == (made.name, sha, "feature/x", "running")
        assert (await client.update_deployment(SHOP, second.id, "success")).status == "success"
        assert [found.id for found in await client.deployments(SHOP, made.name)] == [second.id, first.id]
        with pytest.raises(ForgeForbidden, match="a stopped environment"):
            await client.delete_environment(SHOP, made.id)
        stopped = await client.stop_environment(SHOP, made.id)
        assert stopped is not None
        assert stopped.state == "stopped"
        assert await client.delete_environment(SHOP, made.id)
        assert not await client.delete_environment(SHOP, made.id)
        assert await client.stop_environment(SHOP, made.id) is None
        with pytest.raises(Conflict):
            await client.update_environment(SHOP, made.id, external_url="https://z")
        with pytest.raises(Invalid, match="fewer than 3"):
            await client.environments(SHOP, search="x")

    ask(gitlab, story)


def test_comments_and_statuses(gitlab: GitLabStandIn) -> None:
    sha = gitlab.push(SHOP, "feature/x", {"a": "b"})
    iid = gitlab.open_merge_request(SHOP, "feature/x")
    written = gitlab.comment(SHOP, iid, "/envprov up")

    async def story(client: GitLabClient) -> None:
        note = await client.create_note(SHOP, iid, "first")
        assert (await client.update_note(SHOP, iid, note.id, "better")).body == "better"
        answer = await client.reply(SHOP, iid, written["discussion_id"], "done")
        found = await client.notes(SHOP, iid)
        assert [(one.id, one.body, one.author) for one in found] == [
            (written["id"], "/envprov up", "dev"),
            (note.id, "better", "envprov"),
            (answer.id, "done", "envprov"),
        ]
        with pytest.raises(Conflict):
            await client.update_note(SHOP, iid, written["id"], "not ours")
        with pytest.raises(Conflict):
            await client.create_note(SHOP, 99, "nowhere")
        for state in ("running", "running", "success"):
            await client.set_status(
                SHOP, sha, state, name="envprov", ref_name="feature/x", target_url="https://x", description="d" * 300
            )
        with pytest.raises(Invalid, match="404 Commit Not Found"):
            await client.set_status(SHOP, "0" * 40, "running", name="envprov")

    ask(gitlab, story)
    (status,) = gitlab.state(SHOP)["statuses"]
    assert (status["status"], status["name"], status["ref"], status["target_url"]) == (
        *("success", "envprov"),
        *("feature/x", "https://x"),
    )
    assert status["description"] == "d" * 255


def test_who_we_are_and_what_we_may(gitlab: GitLabStandIn) -> None:
    me = gitlab.create_token(gitlab.token, user="envprov", scopes=["api", "read_user"], expires_at="2099-12-31")
    dev = gitlab.member(SHOP, "dev", 30)

    async def story(client: GitLabClient) -> None:
        assert await client.me() == Me(me, "envprov")
        assert await client.token() == TokenInfo(frozenset({"api", "read_user"}), date(2099, 12, 31))
        assert await client.version() == "19.1.0-ee"
        assert await client.access_level(SHOP, dev) == 30
        assert await client.access_level(SHOP, 99) is None
        with pytest.raises(ForgeForbidden):
            await client.access_level("group/none", dev)

    ask(gitlab, story)


def test_a_new_token_is_used_as_soon_as_its_file_has_it(gitlab: GitLabStandIn) -> None:
    async def story(client: GitLabClient) -> None:
        gitlab.create_token(gitlab.token, user="envprov", revoked=True)
        gitlab.create_token("glpat-new", user="other")
        with pytest.raises(ForgeForbidden, match=r"Token was revoked.*put a new one there"):
            await client.me()
        part = gitlab.token_file.with_suffix(".new")
        part.write_text("glpat-new\n")
        os.replace(part, gitlab.token_file)  # noqa: PTH105 - as Kubernetes does
        assert (await client.me()).username == "other"
        gitlab.token_file.unlink()
        assert (await client.me()).username == "other"

    ask(gitlab, story)


def test_every_request_says_who_asks(gitlab: GitLabStandIn) -> None:
    ask(gitlab, lambda client: client.branches(SHOP))
    assert {request["user_agent"] for request in gitlab.requests()} == {f"envprov/{__version__}"}


def test_many_at_once_share_few_connections(gitlab: GitLabStandIn) -> None:
    async def story(client: GitLabClient) -> int:
        found = await asyncio.gather(*(client.branch(SHOP, "main") for _ in range(100)))
        return sum(branch is not None for branch in found)

    assert ask(gitlab, story) == 100


def test_who_gives_up_leaves_no_place_taken(gitlab: GitLabStandIn) -> None:
    async def story(client: GitLabClient) -> float:
        gitlab.fault("hang", "branches/main", times=8, seconds=0.5)
        tasks = [asyncio.create_task(client.branch(SHOP, "main")) for _ in range(8)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        begun = time.monotonic()
        await asyncio.gather(*(client.branch(SHOP, "main") for _ in range(8)))
        return time.monotonic() - begun

    assert ask(gitlab, story) < 20


def test_a_client_is_made_without_asking_anything(gitlab: GitLabStandIn) -> None:
    async def story() -> None:
        async with GitLabClient.connect(connection(gitlab)) as client:
            assert client.server == gitlab.url

    asyncio.run(story())
    assert gitlab.requests() == []


def test_nothing_around_us_is_asked_for_proxies_or_passwords(
    gitlab: GitLabStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert ask(gitlab, lambda client: client.branch(SHOP, "main")) is not None
        assert proxy.received == []
