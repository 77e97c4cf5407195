"""Fetching: where redirects may lead, who gets credentials, and how much and how long anything may be."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import socket
import ssl
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envprov.domain.errors import ChartNotFound, ChartRefused, EnvprovError, RetryableError, Throttled, Unavailable
from envprov.releases import download
from envprov.releases.download import Answer, Ask, Downloads, Login, joined
from envprov.releases.reach import Reach
from tests.unit.releases.chart_servers import Asked, Reply, Server, closed_port, serving

HERE = Reach.of(private=["127.0.0.0/8", "::1/128"])
LOGIN = Login("reader", "s3cret")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as running:
        yield running


def get(url: str, reach: Reach = HERE, seconds: float = 10, target: Path | None = None, **changes: Any) -> Answer:  # noqa: ANN401 - fields
    ask = replace(Ask("chart shop", url, 1000), **changes)
    return asyncio.run(Downloads(reach, total_seconds=seconds).get(ask, target))


def refusal(url: str, error: type[EnvprovError] = ChartRefused, **more: Any) -> str:  # noqa: ANN401 - fields
    with pytest.raises(error) as caught:
        get(url, **more)
    assert str(caught.value).startswith("chart shop")
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


def test_what_is_there_comes(server: Server, tmp_path: Path) -> None:
    server.routes["/x"] = Reply(b"content", headers={"X-Y": "z"})

    found = get(f"{server.url}/x", accept="a/b")

    assert (found.status, found.body, found.headers["x-y"]) == (200, b"content", "z")
    assert found.sha256 == hashlib.sha256(b"content").hexdigest()
    headers = server.asked[0].headers
    assert {name: headers[name] for name in ("host", "accept", "accept-encoding", "user-agent")} == {
        "host": server.netloc,
        "accept": "a/b",
        "accept-encoding": "identity",
        "user-agent": "envprov",
    }
    stored = get(f"{server.url}/x", target=tmp_path / "file")
    assert (stored.status, stored.body, stored.sha256) == (200, b"", found.sha256)
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_may_be_somebody_elses_is_left_to_the_caller(server: Server, status: int) -> None:
    server.routes["/x"] = Reply(b"content", status)

    found = get(f"{server.url}/x")

    assert (found.status, found.body) == (status, b"")


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, Unavailable), (503, Unavailable), (429, Throttled), (400, ChartNotFound), (204, ChartNotFound)],
)
def test_every_other_answer_is_an_error_by_its_cause(server: Server, status: int, error: type[EnvprovError]) -> None:
    server.routes["/x"] = Reply(b"", status, {"Retry-After": "7"})

    with pytest.raises(error) as caught:
        get(f"{server.url}/x")

    assert getattr(caught.value, "retry_after", None) == (7 if issubclass(error, RetryableError) else None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_relative_ones_too(server: Server, status: int) -> None:
    server.redirect("/a/b", "../c?d=e", status)
    server.routes["/c?d=e"] = Reply(b"content")

    assert get(f"{server.url}/a/b").body == b"content"


@pytest.mark.parametrize(
    "place",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/",
        "https://10.0.0.1/",
        "https://[fd00:ec2::254]/",
        "https://[::ffff:169.254.169.254]/",
        "https://100.64.0.1/",
        "https://0/",
        "https://2852039166/",
    ],
)
def test_a_redirect_to_a_private_address_is_refused_before_a_byte_is_sent(
    server: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.redirect("/x", place)
    reached: list[str] = []
    connect = socket.socket.connect

    def noted(self: socket.socket, to: Any) -> None:  # noqa: ANN401 - as the library has it
        reached.append(to[0])
        connect(self, to)

    monkeypatch.setattr(socket.socket, "connect", noted)

    said = refusal(f"{server.url}/x", reach=replace(HERE, plain_http=frozenset({"169.254.169.254"})))

    assert "is not public, and charts are not fetched from there" in said
    assert set(reached) == {"127.0.0.1"}


def test_a_redirect_to_this_computer_is_refused_unless_it_is_allowed(server: Server, other: Server) -> None:
    server.redirect("/x", f"{other.url}/y")
    other.routes["/y"] = Reply(b"content")
    only_one = Reach.of(private=[server.netloc])

    assert "has the address 127.0.0.1, which is not public" in refusal(f"{server.url}/x", reach=only_one)
    assert other.asked == []
    assert get(f"{server.url}/x", reach=Reach.of(private=[server.netloc, other.netloc])).body == b"content"


def test_a_private_address_in_the_project_itself_is_refused_too() -> None:
    assert "has the address 127.0.0.1, which is not public" in refusal("https://127.0.0.1/x", reach=Reach())
    assert "plain HTTP for 10.0.0.1" in refusal("http://10.0.0.1/x", reach=Reach())


def test_what_was_looked_up_is_what_is_spoken_to(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers another address the second time gains nothing by it."""
    answers = iter(["127.0.0.1", "127.0.0.2"])
    looked_up = []

    def look_up(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:  # noqa: ANN401 - as the library has it
        address = next(answers) if host == "charts.example.com" else host
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server.routes["/x"] = Reply(b"content")
    reach = Reach.of(plain_http=["charts.example.com"], private=["127.0.0.1/32"])

    assert get(f"http://charts.example.com:{server.port}/x", reach=reach).body == b"content"
    assert server.asked[0].headers["host"] == f"charts.example.com:{server.port}"
    assert looked_up.count("charts.example.com") == 1
    assert "has the address 127.0.0.2" in refusal(f"http://charts.example.com:{server.port}/x", reach=reach)


def test_the_next_address_is_tried(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:  # noqa: ANN401 - as the library has it
        found = ("127.0.0.9", "127.0.0.1") if host == "localhost" else (host,)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server.routes["/x"] = Reply(b"content")

    assert get(f"http://localhost:{server.port}/x").body == b"content"


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "http://u:p@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
    ],
)
def test_a_redirect_to_what_is_no_address_is_refused(server: Server, place: str) -> None:
    server.redirect("/x", place)

    assert "it is said to be at an address that" in refusal(f"{server.url}/x")


@pytest.mark.parametrize("place", ["http://[::1", "https://[::1]]/", "http://x\x00y/"])
def test_a_redirect_that_cannot_be_read_is_no_answer(server: Server, place: str) -> None:
    server.redirect("/x", place)

    assert "is no HTTP" in refusal(f"{server.url}/x", Unavailable)


@pytest.mark.parametrize("place", ["http://[::1", "https://[::1]]/x", "/\x00", "file:///etc/passwd", "oci://x/y"])
def test_an_address_that_a_stranger_gives_is_checked(place: str) -> None:
    with pytest.raises(ChartRefused):
        joined("chart shop", "https://charts.example.com/a/", place)
    assert joined("chart shop", "https://charts.example.com/a/", "b?c") == "https://charts.example.com/a/b?c"


def test_redirects_come_to_an_end(server: Server) -> None:
    server.redirect("/x", "/x")
    assert "more than 5 redirects" in refusal(f"{server.url}/x")
    assert len(server.asked) == 6

    for n in range(5):
        server.redirect(f"/{n}", f"/{n + 1}")
    server.routes["/5"] = Reply(b"content")
    assert get(f"{server.url}/0").body == b"content"


def test_a_redirect_to_nowhere_is_refused(server: Server) -> None:
    server.routes["/x"] = Reply(status=302)

    assert "redirects without saying where to" in refusal(f"{server.url}/x")


def test_credentials_stay_with_the_host_that_they_are_for(server: Server, other: Server) -> None:
    server.redirect("/x", "/y")
    server.redirect("/y", f"{other.url}/z")
    other.redirect("/z", f"{server.url}/end")
    server.routes["/end"] = Reply(b"content")

    get(f"{server.url}/x", authorization=LOGIN.authorization)

    assert [(asked.path, "authorization" in asked.headers) for asked in server.asked] == [
        ("/x", True),
        ("/y", True),
        ("/end", False),
    ]
    assert "authorization" not in other.asked[0].headers
    assert server.asked[0].headers["authorization"] == "Basic cmVhZGVyOnMzY3JldA=="


def test_a_login_shows_no_password() -> None:
    assert "s3cret" not in repr(LOGIN) + repr(Ask("x", "y", 1, authorization="Bearer s3cret"))


def test_who_answered_is_told(server: Server, other: Server) -> None:
    server.redirect("/x", f"{other.url}/y")

    assert get(f"{server.url}/y").is_from_host
    assert not get(f"{server.url}/x").is_from_host


@pytest.mark.parametrize("told", [True, False], ids=["says its length", "does not"])
def test_what_is_too_large_is_not_read_to_its_end(server: Server, tmp_path: Path, *, told: bool) -> None:
    sent: list[int] = []

    def body() -> Iterator[bytes]:
        for _ in range(10_000):
            sent.append(1)
            yield bytes(1 << 16)

    headers = {"Content-Length": str(10_000 << 16)} if told else {}
    server.routes["/x"] = Reply(body, headers=headers)
    tracemalloc.start()

    for target in (None, tmp_path / "file"):
        assert refusal(f"{server.url}/x", target=target) == "chart shop has more than 1000 bytes"

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(sent) < 1000
    assert peak < 8 << 20


def test_a_limit_that_is_just_met_is_met(server: Server) -> None:
    server.routes["/x"] = Reply(bytes(1000))
    assert len(get(f"{server.url}/x").body) == 1000
    server.routes["/x"] = Reply(bytes(1001))
    assert "more than 1000 bytes" in refusal(f"{server.url}/x")


def test_what_comes_compressed_is_not_unfolded(server: Server) -> None:
    server.routes["/x"] = Reply(gzip.compress(bytes(1 << 20)), headers={"Content-Encoding": "gzip"}, status=200)

    assert "more than 1000 bytes" in refusal(f"{server.url}/x")
    assert get(f"{server.url}/x", limit_bytes=5000).body.startswith(b"\x1f\x8b")


@pytest.mark.parametrize("place", ["/slow", "/redirects"])
def test_what_is_too_slow_is_given_up(server: Server, place: str) -> None:
    def trickle() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.05)
            yield b"x"

    def wait(_: Asked) -> Reply:
        time.sleep(0.2)
        return Reply(status=302, headers={"Location": "/redirects"})

    server.routes |= {"/slow": Reply(trickle), "/redirects": wait}
    begun = time.monotonic()

    assert refusal(f"{server.url}{place}", Unavailable, seconds=0.5) == "chart shop did not come within 0.5 s"
    assert time.monotonic() - begun < 4


def test_silence_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SILENCE_SECONDS", 0.2)

    def wait(_: Asked) -> Reply:
        time.sleep(1)
        return Reply(b"")

    server.routes["/x"] = wait

    assert refusal(f"{server.url}/x", Unavailable) == "chart shop did not come: it fell silent"


def test_what_breaks_off_is_told(server: Server) -> None:
    server.routes["/x"] = Reply(lambda: iter([b"half"]), headers={"Content-Length": "100"})

    assert "it broke off" in refusal(f"{server.url}/x", Unavailable)


def test_nobody_there_is_told() -> None:
    assert refusal(f"http://127.0.0.1:{closed_port()}/x", Unavailable) == "chart shop did not come: connection refused"


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the context of a server whose certificate, for localhost alone, is trusted."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    named = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate)
    subprocess.run([*made, *named], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_a_certificate_is_checked_against_the_name_and_not_the_address(tls: ssl.SSLContext) -> None:
    with serving(tls) as server:
        server.routes["/x"] = Reply(b"content")

        assert get(f"https://localhost:{server.port}/x").body == b"content"
        assert "the certificate is not trusted" in refusal(f"{server.url}/x", Unavailable)


def test_a_certificate_that_is_not_trusted_is_told(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    with serving(tls) as server:
        assert "not trusted" in refusal(f"https://localhost:{server.port}/x", Unavailable)


def test_from_https_there_is_no_way_back(tls: ssl.SSLContext, other: Server) -> None:
    with serving(tls) as server:
        server.redirect("/x", f"{other.url}/y")

        assert "redirects from https to http" in refusal(f"https://localhost:{server.port}/x")
    assert other.asked == []


def test_proxies_are_not_used(server: Server, other: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", other.url)
    monkeypatch.setenv("ALL_PROXY", other.url)
    server.routes["/x"] = Reply(b"content")

    assert get(f"{server.url}/x").body == b"content"
    assert other.asked == []
