"""Classic chart repositories: which version is taken, and what an index may hold."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.errors import ChartNotFound, ChartRefused, Unavailable
from envprov.releases import index
from envprov.releases.download import Downloads, Login
from envprov.releases.index import ChartRepository, Published, read_index
from envprov.releases.reach import Reach
from tests.unit.releases.chart_servers import Asked, Reply, Server, serving
from tests.unit.releases.tars import chart

LOGIN = Login("reader", "s3cret")
HERE = Downloads(Reach.of(private=["127.0.0.0/8"]), total_seconds=10)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.publish("shop", {version: chart(version.encode()) for version in ("1.2.0", "1.10.0", "2.0.0-rc.1")})
        yield running


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as running:
        yield running


def find(server: Server, version: str, name: str = "shop", login: Login | None = None, path: str = "") -> Published:
    return asyncio.run(ChartRepository(HERE, f"{server.url}{path}", "chart shop", login).find(name, version))


def fetch(server: Server, published: Published, target: Path, login: Login | None = None) -> bytes:
    asyncio.run(ChartRepository(HERE, server.url, "chart shop", login).fetch(published, target))
    return target.read_bytes()


@pytest.mark.parametrize(
    ("wanted", "taken"), [("1.2.0", "1.2.0"), ("1.x", "1.10.0"), ("*", "1.10.0"), (">1-0", "2.0.0-rc.1")]
)
def test_the_version_that_helm_would_take_is_taken(server: Server, wanted: str, taken: str) -> None:
    found = find(server, wanted)

    digest = hashlib.sha256(chart(taken.encode())).hexdigest()
    assert found == Published(taken, f"charts/shop-{taken}.tgz", digest)


def test_what_the_index_says_comes(server: Server, tmp_path: Path) -> None:
    assert fetch(server, find(server, "1.2.0"), tmp_path / "x") == chart(b"1.2.0")
    assert server.paths() == ["/index.yaml", "/charts/shop-1.2.0.tgz"]


def test_a_repository_below_a_path_is_meant_with_its_path(server: Server, tmp_path: Path) -> None:
    server.routes["/a/b/index.yaml"] = server.routes["/index.yaml"]
    server.routes["/a/b/charts/shop-1.2.0.tgz"] = Reply(chart(b"1.2.0"))
    for slash in ("", "/"):
        repository = ChartRepository(HERE, f"{server.url}/a/b{slash}", "chart shop")
        asyncio.run(repository.fetch(asyncio.run(repository.find("shop", "1.2.0")), tmp_path / "x"))


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("shop", "3.0.0", "has 3 versions of shop, and none fits 3.0.0"),
        ("shop", "^2", "has 3 versions of shop, and none fits ^2"),
        ("game", "1.0.0", "has 0 versions of game, and none fits 1.0.0"),
        ("entries", "1.0.0", "has 0 versions of entries"),
    ],
)
def test_what_is_not_there_is_told(server: Server, name: str, version: str, said: str) -> None:
    with pytest.raises(ChartNotFound) as caught:
        find(server, version, name)
    assert said in str(caught.value)


def test_a_repository_that_is_none_is_told(server: Server) -> None:
    with pytest.raises(ChartNotFound, match="is not there: the answer is 404"):
        find(server, "1.2.0", path="/nowhere")


def entries(**more: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any field
    return [{"version": "1.0.0", "urls": ["shop.tgz"], **more}]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        pytest.param(json.dumps({"entries": {"shop": entries()}}), ["1.0.0"], id="JSON"),
        pytest.param(yaml.safe_dump({"entries": {"a": entries(), "shop": entries()}}), ["1.0.0"], id="YAML"),
        pytest.param(
            "entries:\n  shop:\n  - version: 1.10\n    urls: [x]\n", ["1.10"], id="a version that is a number"
        ),
        pytest.param(
            "entries:\n    shop:\n      - version: '1'\n        urls: [x]\n", ["1"], id="wider than Helm writes"
        ),
        pytest.param("generated: x\nentries:\n  shop: [{version: 1.0, urls: [x]}]\n", ["1.0"], id="in one line"),
        pytest.param(
            "entries:\n  a:\n  - description: |\n      entries:\n        shop:\n        - version: 6\n  shop:\n"
            "  # mine\n  - version: '1'\n    urls: [x]\n  - version: '2'\n    urls: [y]\n  zoo:\n  - version: '3'\n",
            ["1", "2"],
            id="as Helm writes it, with a trap",
        ),
        pytest.param("entries: {}", [], id="no charts"),
        pytest.param("entries:\n  shop: []\n", [], id="no versions"),
        pytest.param("entries:\n  shop: {version: 1}\n", [], id="no list"),
        pytest.param("entries: []", [], id="no mapping"),
        pytest.param(
            json.dumps({"entries": {"shop": [{"version": "1"}, {"urls": ["x"]}, 7, {"version": 1, "urls": "x"}]}}),
            [],
            id="versions without an address",
        ),
    ],
)
def test_an_index_is_read_however_it_is_written(body: str, found: list[str]) -> None:
    assert [each.version for each in read_index(body.encode(), "shop")] == found


def test_of_an_index_as_helm_writes_it_only_one_chart_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {f"chart-{n}": [{"version": f"{n}.{m}.0", "urls": ["x"]} for m in range(5)] for n in range(30)}
    raw = yaml.safe_dump({"apiVersion": "v1", "entries": every, "generated": "now"}).encode()

    monkeypatch.setattr(index, "NODE_LIMIT", 100)
    with pytest.raises(ChartRefused):
        read_index(raw, "no-such-chart")
    for name, versions in every.items():
        assert [each.version for each in read_index(raw, name)] == [each["version"] for each in versions]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html><body>Sign in</body></html>", id="a page"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"apiVersion: v1\n", id="no entries"),
        pytest.param(b"- entries", id="a list"),
        pytest.param(b"entries:\n  shop: [", id="half of it"),
        pytest.param(b"entries:\n  a: " + b"[" * 100_000, id="depths"),
        pytest.param(b"entries:\n  a: [" + b"1," * 300_000 + b"]", id="a flood"),
        pytest.param(b"entries:\n  shop: [" + b"{version: 1, urls: [x]}," * 20_001 + b"]", id="20,001 versions"),
        pytest.param(b"x: &x 1\nentries:\n  shop: [*x]", id="an alias"),
        pytest.param(b"entries:\n  shop: &x [*x]", id="a ring"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(bytes(range(256)) * 10, id="noise"),
    ],
)
def test_what_is_no_index_is_refused(server: Server, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "NODE_LIMIT", 200_000)
    server.routes["/index.yaml"] = Reply(body)
    begun = time.process_time()

    with pytest.raises(ChartRefused, match="is no index of charts"):
        find(server, "1.2.0")

    assert time.process_time() - begun < 5


def test_an_index_that_is_too_large_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "INDEX_LIMIT_BYTES", 50)

    with pytest.raises(ChartRefused, match="has more than 50 bytes"):
        find(server, "1.2.0")


@pytest.mark.parametrize("digest", ["{}", "sha256:{}"])
def test_an_archive_is_what_the_index_says(server: Server, tmp_path: Path, digest: str) -> None:
    archive = chart(b"x")
    server.publish("shop", {"1.0.0": archive}, digest=digest.format(hashlib.sha256(archive).hexdigest()))
    published = find(server, "1.0.0")
    assert fetch(server, published, tmp_path / "x") == archive

    server.routes["/charts/shop-1.0.0.tgz"] = Reply(chart(b"y"))
    with pytest.raises(ChartRefused, match=r"what came is not what the index says \(sha256\)"):
        fetch(server, published, tmp_path / "x")


def test_an_index_without_digests_is_believed(server: Server, tmp_path: Path) -> None:
    server.publish("shop", {"1.0.0": chart(b"x")}, digest="")

    assert fetch(server, find(server, "1.0.0"), tmp_path / "x") == chart(b"x")


def closed(asked: Asked) -> Reply | None:
    return None if asked.headers.get("authorization") == LOGIN.authorization else Reply(status=401)


def test_credentials_open_a_repository(server: Server, tmp_path: Path) -> None:
    server.guard(closed)

    assert fetch(server, find(server, "1.2.0", login=LOGIN), tmp_path / "x", LOGIN) == chart(b"1.2.0")
    with pytest.raises(ChartNotFound, match=r"may not be read \(401\): it needs credentials in the Project"):
        find(server, "1.2.0")
    with pytest.raises(ChartNotFound, match=r"may not be read \(401\): its credentials are not accepted") as caught:
        find(server, "1.2.0", login=Login("reader", "t0psecret"))
    assert "t0psecret" not in str(caught.value)


def test_charts_on_another_host_are_read_as_nobody(server: Server, other: Server, tmp_path: Path) -> None:
    server.publish("shop", {"1.0.0": chart(b"x")}, urls=[f"{other.url}/shop.tgz"])
    other.routes["/shop.tgz"] = Reply(chart(b"x"))

    fetch(server, find(server, "1.0.0", login=LOGIN), tmp_path / "x", LOGIN)

    assert "authorization" in server.asked[0].headers
    assert "authorization" not in other.asked[0].headers


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/x", "https://[::1", "file:///etc/passwd", "http://u:p@127.0.0.1/"]
)
def test_an_index_leads_nowhere_else(server: Server, tmp_path: Path, url: str) -> None:
    with pytest.raises(ChartRefused):
        fetch(server, Published("1.0.0", url, None), tmp_path / "x")


def test_a_repository_that_is_down_is_tried_again(server: Server) -> None:
    server.routes["/index.yaml"] = Reply(status=502)

    with pytest.raises(Unavailable, match="answers 502"):
        find(server, "1.2.0")
