"""OCI registries: tags, tokens, manifests and blobs."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from envprov.domain.errors import ChartNotFound, ChartRefused, Unavailable
from envprov.releases.download import Downloads, Login
from envprov.releases.reach import Reach
from envprov.releases.registry import Registry
from tests.unit.releases.chart_servers import Asked, Reply, Server, serving
from tests.unit.releases.tars import chart

LOGIN = Login("reader", "s3cret")
NAME = "charts/shop"
HERE = Downloads(Reach.of(private=["127.0.0.0/8"]), total_seconds=10)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        for version in ("1.2.0", "1.10.0", "2.0.0_build.1"):
            running.push(NAME, version, chart(version.encode()))
        running.tags(NAME, "1.2.0", "1.10.0", "2.0.0_build.1", "latest", "sha256-abc.sig")
        yield running


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as running:
        yield running


def registry(server: Server, login: Login | None = None) -> Registry:
    return Registry(HERE, server.url, NAME, "chart shop", login)


def fetch(server: Server, version: str, tmp_path: Path, login: Login | None = None) -> tuple[str, bytes]:
    taken = asyncio.run(registry(server, login).fetch(version, tmp_path / "x"))
    return taken, (tmp_path / "x").read_bytes()


def refusal(server: Server, tmp_path: Path, version: str = "1.2.0", login: Login | None = None) -> str:
    with pytest.raises((ChartRefused, ChartNotFound)) as caught:
        fetch(server, version, tmp_path, login)
    assert "s3cret" not in str(caught.value)
    return f"{caught.type.__name__}: {caught.value}"


@pytest.mark.parametrize(
    ("wanted", "taken", "tag"),
    [
        ("1.2.0", "1.2.0", "1.2.0"),
        ("1.x", "1.10.0", "1.10.0"),
        ("*", "2.0.0+build.1", "2.0.0_build.1"),
        ("2.0.0+build.1", "2.0.0+build.1", "2.0.0_build.1"),
    ],
)
def test_the_version_that_helm_would_take_comes(
    server: Server, tmp_path: Path, wanted: str, taken: str, tag: str
) -> None:
    assert fetch(server, wanted, tmp_path) == (taken, chart(tag.encode()))


def test_a_version_is_a_tag_and_no_tags_are_listed(server: Server, tmp_path: Path) -> None:
    fetch(server, "1.2.0", tmp_path)

    assert server.paths()[0] == "/v2/charts/shop/manifests/1.2.0"
    assert server.asked[0].headers["accept"] == "application/vnd.oci.image.manifest.v1+json"
    assert not any("tags" in path for path in server.paths())


def test_a_list_of_tags_has_pages(server: Server, tmp_path: Path) -> None:
    server.tags(NAME, "1.2.0", following="/v2/charts/shop/tags/list?last=1.2.0&n=1")
    server.tags(NAME, "1.10.0", path="/v2/{}/tags/list?last=1.2.0&n=1")

    assert fetch(server, "1.x", tmp_path)[0] == "1.10.0"


def test_pages_without_end_come_to_an_end(server: Server, tmp_path: Path) -> None:
    server.tags(NAME, "1.2.0", following="/v2/charts/shop/tags/list?n=1000")

    assert fetch(server, "1.x", tmp_path)[0] == "1.2.0"
    assert len(server.asked) == 52


def test_pages_at_another_host_are_not_asked_for(server: Server, other: Server, tmp_path: Path) -> None:
    server.tags(NAME, "1.2.0", following=f"{other.url}/v2/x")

    assert "goes on at another host" in refusal(server, tmp_path, "1.x")
    assert other.asked == []


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("3.0.0", "ChartNotFound: chart shop is not there: the registry answers 404"),
        ("^3", "ChartNotFound: chart shop: none of its 5 tags is a version that fits ^3"),
    ],
)
def test_what_is_not_there_is_told(server: Server, tmp_path: Path, version: str, said: str) -> None:
    assert refusal(server, tmp_path, version) == said


def test_a_version_that_cannot_be_a_tag_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    assert "cannot be a tag" in refusal(server, tmp_path, f"1.0.0-{'a' * 130}")
    assert server.asked == []


@pytest.mark.parametrize("name", ["", "Shop", "a//b", "../x", "a b", "shop?x", "shop/"])
def test_a_name_that_is_none_is_not_asked_for(server: Server, tmp_path: Path, name: str) -> None:
    with pytest.raises(ChartNotFound, match="is no name of a repository"):
        asyncio.run(replace(registry(server), name=name).fetch("1.2.0", tmp_path / "x"))
    assert server.asked == []


MANIFEST = f"/v2/{NAME}/manifests/1.2.0"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        pytest.param(b"<html>", "is no registry, for it sends no JSON", id="a page"),
        pytest.param(b"[" * 100_000, "is no registry, for it sends no JSON", id="depths"),
        pytest.param(b"[]", "has no layer with one", id="a list"),
        pytest.param(b"{}", "has no layer with one", id="nothing"),
        pytest.param(
            b'{"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:0"}]}',
            "is no Helm chart: its manifest has no layer with one",
            id="an image",
        ),
        pytest.param(
            b'{"layers": [{"mediaType": "application/tar+gzip", "digest": "sha256:../../x"}]}',
            "names no SHA-256",
            id="a path for a digest",
        ),
        pytest.param(b'{"layers": [{"mediaType": "application/tar+gzip"}]}', "names no SHA-256", id="no digest"),
        pytest.param(
            b'{"layers": "x", "padding": "' + bytes(1 << 20) + b'"}', "more than 1048576 bytes", id="too large"
        ),
    ],
)
def test_a_manifest_that_is_none_is_refused(server: Server, tmp_path: Path, manifest: bytes, said: str) -> None:
    server.routes[MANIFEST] = Reply(manifest)

    assert said in refusal(server, tmp_path)


def test_what_comes_is_what_the_manifest_says(server: Server, tmp_path: Path) -> None:
    server.push(NAME, "1.2.0", chart(b"x"), digest=f"sha256:{'0' * 64}")

    assert refusal(server, tmp_path) == ("ChartRefused: chart shop: what came is not what its manifest says (sha256)")


def test_an_older_media_type_is_known(server: Server, tmp_path: Path) -> None:
    server.push(NAME, "1.2.0", chart(b"old"), layer="application/tar+gzip")

    assert fetch(server, "1.2.0", tmp_path)[1] == chart(b"old")


def test_a_registry_may_keep_its_blobs_elsewhere_and_gives_no_token_along(
    server: Server, other: Server, tmp_path: Path
) -> None:
    blob = next(path for path in server.routes if "blobs" in path)
    other.routes["/blob"] = server.routes[blob]
    server.redirect(blob, f"{other.url}/blob", 307)
    server.guard(_basic)

    fetch(server, "1.2.0", tmp_path, LOGIN)

    assert [asked.path for asked in other.asked] == ["/blob"]
    assert "authorization" not in other.asked[0].headers


def _basic(asked: Asked) -> Reply | None:
    if asked.headers.get("authorization") == LOGIN.authorization:
        return None
    return Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})


def test_a_registry_with_passwords_of_its_own_is_opened(server: Server, tmp_path: Path) -> None:
    server.guard(_basic)

    assert fetch(server, "1.2.0", tmp_path, LOGIN)[1] == chart(b"1.2.0")
    assert "it needs credentials in the Project" in refusal(server, tmp_path)
    assert "its credentials are not accepted" in refusal(server, tmp_path, login=Login("reader", "wrong"))


def with_tokens(server: Server, issuer: Server, *, anonymous: bool = False) -> None:
    """Let only those read who bring a token of the issuer."""

    def check(asked: Asked) -> Reply | None:
        if asked.headers.get("authorization") == "Bearer t0ken":
            return None
        realm = f'Bearer realm="{issuer.url}/token?account=x",service="registry",scope="repository:x:pull"'
        return Reply(status=401, headers={"WWW-Authenticate": realm})

    def issue(asked: Asked) -> Reply:
        if not anonymous and asked.headers.get("authorization") != LOGIN.authorization:
            return Reply(status=401)
        return Reply(json.dumps({"token": "t0ken"}).encode())

    server.guard(check)
    query = "account=x&service=registry&scope=repository%3Acharts%2Fshop%3Apull"
    issuer.routes[f"/token?{query}"] = issue


@pytest.mark.parametrize("login", [LOGIN, None])
def test_a_token_is_fetched_from_where_the_registry_says(
    server: Server, other: Server, tmp_path: Path, login: Login | None
) -> None:
    with_tokens(server, other, anonymous=login is None)

    assert fetch(server, "1.x", tmp_path, login) == ("1.10.0", chart(b"1.10.0"))
    assert len(other.asked) == 1
    assert parse_qs(urlsplit(other.asked[0].path).query)["scope"] == [f"repository:{NAME}:pull"]
    assert ("authorization" in other.asked[0].headers) is (login is not None)
    sent = [asked.headers.get("authorization") for asked in server.asked]
    assert sent == [None, "Bearer t0ken", "Bearer t0ken", "Bearer t0ken"]
    assert not any(base64.b64encode(b"reader") in (each or "").encode() for each in sent)


def test_whoever_may_not_read_is_told(server: Server, other: Server, tmp_path: Path) -> None:
    with_tokens(server, other)

    assert "may not be read (401): it needs credentials" in refusal(server, tmp_path)
    assert "its credentials are not accepted" in refusal(server, tmp_path, login=Login("reader", "wrong"))


@pytest.mark.parametrize(
    ("realm", "said"),
    [
        pytest.param("http://169.254.169.254/token", "plain HTTP for 169.254.169.254", id="the metadata service"),
        pytest.param("https://169.254.169.254/token", "is not public", id="the same by https"),
        pytest.param("file:///etc/passwd", "an address that is not https", id="a file"),
        pytest.param("", "wants an authentication that is not known", id="nowhere"),
    ],
)
def test_a_token_is_not_fetched_from_anywhere(server: Server, tmp_path: Path, realm: str, said: str) -> None:
    server.routes[MANIFEST] = Reply(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})

    assert said in refusal(server, tmp_path, login=LOGIN)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"token": "a\\r\\nX: y"}', b'{"token": "\\u00e9"}', b'{"token": 7}', b"<html>"]
)
def test_a_token_that_is_none_is_refused(server: Server, other: Server, tmp_path: Path, body: bytes) -> None:
    other.routes["/token?scope=repository%3Acharts%2Fshop%3Apull"] = Reply(body)
    server.routes[MANIFEST] = Reply(status=401, headers={"WWW-Authenticate": f'Bearer realm="{other.url}/token"'})

    assert "ChartRefused" in refusal(server, tmp_path)


def test_a_stranger_behind_a_redirect_gets_no_password(server: Server, other: Server, tmp_path: Path) -> None:
    server.redirect(MANIFEST, f"{other.url}/x")
    other.routes["/x"] = Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="give"'})

    assert "may not be read (401)" in refusal(server, tmp_path, login=LOGIN)
    assert [asked.headers.get("authorization") for asked in (*server.asked, *other.asked)] == [None, None]


def test_a_registry_that_is_down_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.routes[MANIFEST] = Reply(status=503)

    with pytest.raises(Unavailable, match="answers 503"):
        fetch(server, "1.2.0", tmp_path)
