"""Whatever stands in for GitLab's answer: the error that it becomes, and that nothing is ever concluded from it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import ssl
import subprocess
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from envprov.domain.errors import (
    EnvprovError,
    ForgeForbidden,
    ForgeUnreliable,
    Throttled,
    Unavailable,
)
from envprov.domain.forge import HookWish, Secret
from envprov.gitlab.client import Connection, GitLabClient
from tests.gitlab.driver import GitLabStandIn
from tests.gitlab.stories import Receiver, ask

SHOP = "group/shop"
LIST = r"repository/branches\?.*pagination=keyset"
SECOND = r"page_token=|[?&]page=2"
Call = Callable[[GitLabClient], Coroutine[Any, Any, object]]

ANYWHERE = [
    pytest.param("401", {}, ForgeForbidden, "not accepted; put a new one there", id="401"),
    pytest.param("403", {}, ForgeForbidden, "this takes scope", id="403"),
    pytest.param("scope", {}, ForgeForbidden, r"lacks a scope \(any of: api read_api\)", id="scope"),
    pytest.param("404_project", {}, ForgeForbidden, "or GitLab hides it from our token", id="project hidden"),
    pytest.param("404_proxy", {}, ForgeUnreliable, "404, but not in GitLab's words", id="404 of a proxy"),
    pytest.param("500", {}, Unavailable, "GitLab answered 500: 500 Internal Server Error", id="500"),
    pytest.param("502", {}, Unavailable, "GitLab answered 502$", id="502"),
    pytest.param("503", {}, Unavailable, "GitLab answered 503$", id="503"),
    pytest.param("html", {}, ForgeUnreliable, "no JSON but text/html", id="page for people"),
    pytest.param("truncated", {}, ForgeUnreliable, "breaks off", id="JSON that breaks off"),
    pytest.param("redirect", {"location": "https://evil.example/x"}, ForgeUnreliable, "redirect to evil", id="302"),
    pytest.param("429", {"retry_after": 100}, Throttled, "asks for patience", id="429"),
    pytest.param("hang", {"seconds": 1.5}, Unavailable, "no answer within the time limit", id="silence"),
    pytest.param("drip", {}, Unavailable, "no answer within the time limit", id="a byte at a time"),
    pytest.param("reset", {}, Unavailable, "the connection broke", id="reset"),
    pytest.param("cut", {}, Unavailable, "the connection broke", id="half of the bytes promised"),
    pytest.param("huge", {"bytes": 9 << 20}, ForgeUnreliable, "larger than 8388608 bytes", id="too large"),
    pytest.param(
        *("answer", {"body": "[1]", "headers": {"Content-Type": "application/json"}}),
        *(ForgeUnreliable, "cannot be understood"),
        id="other JSON",
    ),
    pytest.param("answer", {"body": "ok"}, ForgeUnreliable, "no JSON but nothing", id="no content type"),
    pytest.param(
        *("answer", {"status": 403, "body": "Forbidden\n", "headers": {"Content-Type": "text/plain"}}),
        *(ForgeUnreliable, "403, but not in GitLab's words"),
        id="403 of a firewall",
    ),
]


@pytest.fixture(scope="module")
def running() -> Iterator[GitLabStandIn]:
    """Yield one GitLab for all of these, with a project of 251 branches that nobody changes."""
    with GitLabStandIn() as standin:
        standin.create_project(SHOP, project_id=15)
        standin.create_branches(SHOP, [f"b/{number:03}" for number in range(250)])
        standin.open_merge_request(SHOP, "b/000")
        yield standin
        assert standin.log == ""


@pytest.fixture
def gitlab(running: GitLabStandIn) -> Iterator[GitLabStandIn]:
    """Yield it without faults."""
    running.forget_requests()
    yield running
    running.mend()
    running.settings(keyset=True, old_first_page=False, requests_per_period=0)


@pytest.fixture
def small(gitlab: GitLabStandIn) -> int:
    """Return a project of the test's own."""
    return gitlab.create_project(f"small/{secrets.token_hex(4)}")


def refused(gitlab: GitLabStandIn, call: Call, *, seconds: float = 1) -> EnvprovError:
    """Return the error of a call."""
    with pytest.raises(EnvprovError) as caught:
        ask(gitlab, call, seconds=seconds)
    return caught.value


@pytest.mark.parametrize(("fault", "given", "error", "words"), ANYWHERE)
@pytest.mark.parametrize(
    ("pattern", "call"),
    [
        pytest.param(LIST, lambda client: client.branches(SHOP), id="list"),
        pytest.param(SECOND, lambda client: client.branches(SHOP), id="second page"),
        pytest.param("branches/main", lambda client: client.branch(SHOP, "main"), id="branch"),
        pytest.param("merge_requests", lambda client: client.merge_requests(SHOP), id="merge requests"),
    ],
)
def test_every_fault_has_its_error(  # the rows are the point
    gitlab: GitLabStandIn,
    pattern: str,
    call: Call,
    fault: str,
    given: dict[str, Any],
    error: type[EnvprovError],
    words: str,
) -> None:
    gitlab.fault(fault, pattern, **given)
    begun = time.monotonic()
    caught = refused(gitlab, call)
    assert time.monotonic() - begun < 15, "the client is closed long after its limit of a second"
    assert type(caught) is error
    assert re.search(words, str(caught))


@pytest.mark.parametrize(
    ("fault", "pattern", "given", "words"),
    [
        pytest.param("empty", LIST, {}, "0 came, GitLab counts 251", id="empty list"),
        pytest.param("strip", LIST, {"headers": ["Link"]}, "100 came, GitLab counts 251", id="no links"),
        pytest.param("empty", SECOND, {}, "100 came, GitLab counts 251", id="empty second page"),
        pytest.param("half", LIST, {}, "a page of 50 and yet a next one", id="half a page"),
        pytest.param("half", "page_token=b%2F199", {}, "225 came, GitLab counts 251", id="half of the last page"),
        pytest.param("skip_page", LIST, {}, "151 came, GitLab counts 251", id="a page missing in the middle"),
        pytest.param("ends_early", SECOND, {}, "200 came, GitLab counts 251", id="the last page missing"),
        pytest.param("wrong_total", LIST, {}, "251 came, GitLab counts 7777", id="wrong total"),
        pytest.param("wrong_total", LIST, {"total": "many"}, "a total that is no number", id="total in words"),
        pytest.param("twice", LIST, {}, "'b/000' came twice", id="a branch twice"),
        pytest.param("entry", LIST, {"entry": {"name": None}}, "an entry that cannot", id="without a name"),
        pytest.param("entry", LIST, {"entry": {"name": ""}}, "an entry that cannot", id="with an empty name"),
        pytest.param("entry", LIST, {"entry": {"commit": None}}, "an entry that cannot", id="without a commit"),
        pytest.param("entry", LIST, {"entry": {"commit": {"id": "main"}}}, "an entry that cannot", id="no SHA"),
        pytest.param(
            *("next_elsewhere", LIST, {"location": "https://evil.example/api/v4/projects/15?page=2"}),
            "would be at 'evil.example', which is not asked",
            id="next page on another host",
        ),
        pytest.param(
            *("next_elsewhere", LIST, {"location": "http://127.0.0.1/api/v4/projects/16/repository/branches?page=2"}),
            "would be of something else",
            id="next page of another project",
        ),
        pytest.param("next_elsewhere", LIST, {"location": "http://[::1/x"}, "is no URL", id="next page nowhere"),
    ],
)
def test_half_a_list_is_no_list(
    gitlab: GitLabStandIn, fault: str, pattern: str, given: dict[str, Any], words: str
) -> None:
    gitlab.fault(fault, pattern, times=-1, **given)
    with pytest.raises(ForgeUnreliable, match=words):
        ask(gitlab, lambda client: client.branches(SHOP))
    gitlab.mend()
    assert len(ask(gitlab, lambda client: client.branches(SHOP))) == 251


def test_no_list_at_all_is_no_empty_list(gitlab: GitLabStandIn) -> None:
    gitlab.fault("answer", LIST, times=-1, body="[]", headers={"Content-Type": "application/json", "X-Total": "0"})
    with pytest.raises(ForgeUnreliable, match="none came, of a project that is not empty"):
        ask(gitlab, lambda client: client.branches(SHOP))


def test_no_merge_requests_at_all_must_be_gitlabs_own_words(gitlab: GitLabStandIn) -> None:
    assert ask(gitlab, lambda client: client.merge_requests(SHOP, source_branch="main")) == ()
    gitlab.fault("empty", "merge_requests", times=-1)
    with pytest.raises(ForgeUnreliable, match="nothing was said of pages; does a proxy answer"):
        ask(gitlab, lambda client: client.merge_requests(SHOP))


@pytest.mark.parametrize("fault", ["empty", "half", "ends_early", "skip_page"])
def test_half_a_list_is_no_list_when_it_lasts(gitlab: GitLabStandIn, fault: str) -> None:
    gitlab.fault(fault, "repository/branches", times=-1)
    with pytest.raises(ForgeUnreliable):
        ask(gitlab, lambda client: client.branches(SHOP))


@pytest.mark.parametrize("fault", ["empty", "half", "twice"])
def test_half_of_a_short_list_is_no_list(gitlab: GitLabStandIn, small: int, fault: str) -> None:
    gitlab.create_branches(small, ["a", "b", "c"])
    gitlab.fault(fault, LIST, times=-1)
    with pytest.raises(ForgeUnreliable):
        ask(gitlab, lambda client: client.branches(small))


@pytest.mark.parametrize("fault", ["empty", "half", "ends_early", "wrong_total"])
def test_half_a_list_is_no_list_on_an_old_gitlab(gitlab: GitLabStandIn, fault: str) -> None:
    gitlab.settings(keyset=False, old_first_page=True)
    gitlab.fault(fault, SECOND)
    with pytest.raises(ForgeUnreliable):
        ask(gitlab, lambda client: client.branches(SHOP))


def test_pages_that_lead_nowhere(gitlab: GitLabStandIn, small: int) -> None:
    gitlab.create_branches(small, [f"b/{number:03}" for number in range(99)])
    gitlab.fault(
        *("next_elsewhere", LIST),
        times=-1,
        location=f"{gitlab.url}/api/v4/projects/{small}/repository/branches?page_token=zzz",
    )
    with pytest.raises(ForgeUnreliable, match="a page of 0 and yet a next one"):
        ask(gitlab, lambda client: client.branches(small))
    gitlab.mend()
    gitlab.fault(
        *("next_elsewhere", LIST),
        times=-1,
        location=f"{gitlab.url}/api/v4/projects/{small}/repository/branches?page_token=",
    )
    with pytest.raises(ForgeUnreliable, match="says no position"):
        ask(gitlab, lambda client: client.branches(small))


def test_pages_that_go_in_a_circle(gitlab: GitLabStandIn) -> None:
    entry = {"name": "x", "commit": {"id": "a" * 40}}
    location = f"{gitlab.url}/api/v4/projects/group%2Fshop/repository/branches?page_token=x"
    for number in range(3):
        page = [entry | {"name": f"{number}/{one}"} for one in range(100)]
        headers = {"Content-Type": "application/json", "Link": f'<{location}>; rel="next"'}
        gitlab.fault("answer", LIST, body=json.dumps(page), headers=headers)
    with pytest.raises(ForgeUnreliable, match="its pages go in a circle"):
        ask(gitlab, lambda client: client.branches(SHOP))


def test_a_branch_that_a_proxy_calls_not_found_is_not_gone(gitlab: GitLabStandIn) -> None:
    gitlab.fault("404_proxy", "branches/main")
    assert type(refused(gitlab, lambda client: client.branch(SHOP, "main"))) is ForgeUnreliable
    gitlab.fault(
        "answer",
        "branches/main",
        status=404,
        body='{"message":"404 Branch Not Found"}',
        headers={"Content-Type": "text/html"},
    )
    assert type(refused(gitlab, lambda client: client.branch(SHOP, "main"))) is ForgeUnreliable
    for body in (
        '{"message":"404 Not Found"}',
        '{"error":"404 Not Found"}',
        "{}",
        "[]",
        "null",
        '"404 Branch Not Found"',
    ):
        gitlab.fault("answer", "branches/main", status=404, body=body, headers={"Content-Type": "application/json"})
        assert type(refused(gitlab, lambda client: client.branch(SHOP, "main"))) is ForgeUnreliable
    gitlab.fault("404_branch", "branches/main")
    assert ask(gitlab, lambda client: client.branch(SHOP, "main")) is None


def test_an_answer_about_another_branch(gitlab: GitLabStandIn) -> None:
    gitlab.fault("fields", "branches/main", fields={"name": "other"})
    with pytest.raises(ForgeUnreliable, match="about another branch"):
        ask(gitlab, lambda client: client.branch(SHOP, "main"))


def test_a_file_that_is_not_what_gitlab_has(gitlab: GitLabStandIn) -> None:
    def read(client: GitLabClient) -> Coroutine[Any, Any, bytes | None]:
        return client.raw_file(SHOP, "README.md", "main", limit_bytes=1000)

    gitlab.fault("html", "raw")
    with pytest.raises(ForgeUnreliable, match="a page came"):
        ask(gitlab, read)
    gitlab.fault("truncated", "raw")
    with pytest.raises(ForgeUnreliable, match="what came is not what GitLab has"):
        ask(gitlab, read)
    gitlab.fault("404_proxy", "raw")
    with pytest.raises(ForgeUnreliable):
        ask(gitlab, read)
    assert ask(gitlab, read) == b"# shop\n"


def test_no_redirect_is_followed_and_no_token_goes_along(gitlab: GitLabStandIn) -> None:
    with Receiver() as other:
        calls: list[Call] = [
            lambda client: client.branches(SHOP),
            lambda client: client.branch(SHOP, "main"),
            lambda client: client.raw_file(SHOP, "README.md", "main", limit_bytes=100),
            lambda client: client.create_environment(SHOP, "x"),
            lambda client: client.delete_environment(SHOP, 1),
            lambda client: client.me(),
        ]
        gitlab.fault("redirect", "", times=-1, location=f"{other.url}/elsewhere")
        for call in calls:
            assert type(refused(gitlab, call)) is ForgeUnreliable
        gitlab.mend()
        gitlab.fault("next_elsewhere", LIST, times=-1, location=f"{other.url}/api/v4/projects/x?page=2")
        assert type(refused(gitlab, calls[0])) is ForgeUnreliable
        assert other.received == []
    gitlab.mend()
    gitlab.fault("redirect", "", location="/users/sign_in")
    with pytest.raises(ForgeUnreliable, match=r"a redirect \(302\), which is not followed; is gitlab.url its own"):
        ask(gitlab, lambda client: client.me())


def test_after_a_429_nothing_is_asked_before_its_time(gitlab: GitLabStandIn) -> None:
    async def story(client: GitLabClient) -> tuple[float, int]:
        gitlab.fault("429", "", retry_after=1)
        with pytest.raises(Throttled) as caught:
            await client.me()
        assert caught.value.retry_after == 1
        gitlab.forget_requests()
        begun = time.monotonic()
        await asyncio.gather(*(client.me() for _ in range(5)))
        waited = time.monotonic() - begun
        gitlab.fault("429", "", retry_after=100_000)
        with pytest.raises(Throttled) as caught:
            await client.me()
        assert caught.value.retry_after == 3600
        gitlab.forget_requests()
        for _ in range(3):
            with pytest.raises(Throttled, match="and is not asked") as caught:
                await client.branches(SHOP)
            assert caught.value.retry_after is not None
            assert 3500 < caught.value.retry_after <= 3600
        return waited, len(gitlab.requests())

    waited, asked = ask(gitlab, story)
    assert 0.8 < waited < 30
    assert asked == 0


def test_an_endpoint_that_has_had_enough_is_not_asked_again(gitlab: GitLabStandIn, tmp_path: Path) -> None:
    async def story(client: GitLabClient) -> int:
        too_many = json.dumps({"message": {"error": "This endpoint has been requested too many times."}})
        headers = {"Content-Type": "application/json", "Retry-After": "60"}
        gitlab.fault("answer", "archive", times=-1, status=429, body=too_many, headers=headers)
        for _ in range(2):
            with pytest.raises(Throttled) as caught:
                await client.archive(SHOP, "deploy", "main", tmp_path / "archive", limit_bytes=1 << 20)
            assert caught.value.retry_after is not None
            assert 50 < caught.value.retry_after <= 60
        assert await client.branches(SHOP)
        return sum("archive" in request["path"] for request in gitlab.requests())

    assert ask(gitlab, story) == 1


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(lambda moment: {"reset": int(moment)}, id="RateLimit-Reset"),
        pytest.param(
            lambda moment: {"retry_after": formatdate(moment, usegmt=True)}, id="a Retry-After that is a date"
        ),
    ],
)
def test_the_time_may_also_be_a_moment(gitlab: GitLabStandIn, said: Callable[[float], dict[str, Any]]) -> None:
    gitlab.fault("429", "", **said(time.time() + 60))
    caught = refused(gitlab, lambda client: client.me())
    assert isinstance(caught, Throttled)
    assert caught.retry_after is not None
    assert 45 < caught.retry_after <= 60


def test_a_503_that_names_a_time(gitlab: GitLabStandIn) -> None:
    gitlab.fault("503", "", retry_after=7)
    caught = refused(gitlab, lambda client: client.me())
    assert isinstance(caught, Unavailable)
    assert caught.retry_after == 7


def test_gitlabs_own_rate_limit(gitlab: GitLabStandIn) -> None:
    gitlab.settings(requests_per_period=3, period_seconds=60)
    caught = refused(gitlab, lambda client: client.branches(SHOP))
    assert isinstance(caught, Throttled)
    assert caught.retry_after is not None


def test_a_listing_has_a_limit_of_its_own(gitlab: GitLabStandIn) -> None:
    gitlab.fault("hang", "repository/branches", times=-1, seconds=0.4)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="not read to its end in 1 s"):
        ask(gitlab, lambda client: client.branches(SHOP), seconds=2, listing_seconds=1)
    assert time.monotonic() - begun < 3


def test_nobody_there(gitlab: GitLabStandIn) -> None:
    async def story() -> None:
        async with GitLabClient.connect(Connection(gone.url, gitlab.token_file)) as client:
            await client.me()

    with Receiver() as gone:
        pass
    with pytest.raises(Unavailable, match=f"GitLab {gone.url}: the connection failed"):
        asyncio.run(story())


def test_a_certificate_that_nobody_vouches_for(
    gitlab: GitLabStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=gitlab", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    def fault(url: str, ca_file: Path | None) -> EnvprovError:
        async def story() -> None:
            async with GitLabClient.connect(Connection(url, gitlab.token_file, ca_file)) as client:
                await client.me()

        with pytest.raises(EnvprovError) as caught:
            asyncio.run(story())
        return caught.value

    with Receiver(tls=tls) as server:
        url = server.url.replace("http://", "https://")
        assert "TLS failed; does gitlab.ca_file hold the authority" in str(fault(url, None))
        assert server.received == []
        assert isinstance(fault(url, certificate), ForgeUnreliable)
        assert len(server.received) == 1


def test_too_many_branches(gitlab: GitLabStandIn, small: int) -> None:
    gitlab.create_branches(small, [f"c/{number:05}" for number in range(19_999)])

    async def story(client: GitLabClient) -> int:
        found = len(await client.branches(small))
        gitlab.push(small, "one/too/many")
        with pytest.raises(ForgeUnreliable, match="more than 20000"):
            await client.branches(small)
        return found

    assert ask(gitlab, story, seconds=30, listing_seconds=60) == 20_000


def test_the_token_shows_nowhere(gitlab: GitLabStandIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hidden = (gitlab.token, "hook-s3cret", "whsec_s3cret")
    wish = HookWish("http://x", token=Secret(hidden[1]), signing_token=Secret(hidden[2]))
    shown: list[str] = [repr(wish), str(wish)]

    async def story(client: GitLabClient) -> None:
        shown.append(repr(client))
        shown.append(repr(vars(client)))
        shown.append(repr(vars(client._transport)))  # noqa: SLF001 - it must not be there either
        calls: list[Callable[[], Awaitable[object]]] = [
            client.me,
            lambda: client.branches(SHOP),
            lambda: client.create_hook(SHOP, wish),
        ]
        for fault in ("401", "403", "404_proxy", "500", "html", "truncated", "reset", "cut", "hang", "503"):
            for call in calls:
                gitlab.fault(fault, "", seconds=1)
                with pytest.raises(EnvprovError) as caught:
                    await call()
                shown.extend(traceback.format_exception(caught.value))
                gitlab.mend()

    ask(gitlab, story, seconds=0.5)
    assert caplog.text
    text = "\n".join([*shown, caplog.text])
    assert [secret for secret in hidden if secret in text] == []
