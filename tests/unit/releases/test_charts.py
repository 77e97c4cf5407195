"""Chart sources: local ones and their digests; remote ones fetched once, remembered, and never given to others."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import yaml

from envprov.domain.errors import ChartNotFound, ChartRefused, EnvprovError, Unavailable
from envprov.releases import local
from envprov.releases.charts import (
    ChartRef,
    Charts,
    ChartSource,
    GitChart,
    LocalChart,
    Login,
    OciChart,
    Reach,
    RepositoryChart,
)
from envprov.releases.dependencies import lock_digest
from envprov.releases.store import Bounds
from tests.unit.releases.chart_servers import Asked, Reply, Server, serving
from tests.unit.releases.tars import CHART, chart, entry, packed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "charts"
    (folder / "shop" / "templates").mkdir(parents=True)
    (folder / "shop" / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")
    (folder / "shop" / "templates" / "all.yaml").write_text("kind: ConfigMap\n")
    return folder


def resolved(source: ChartSource, root: Path = Path("/nowhere")) -> ChartRef:
    return asyncio.run(Charts(root).resolve(source))


def refusal(source: ChartSource, root: Path = Path("/nowhere")) -> str:
    with pytest.raises((ChartNotFound, ChartRefused)) as caught:
        resolved(source, root)
    return str(caught.value)


@pytest.mark.parametrize("spelling", ["shop", "./shop", "shop/../shop", "shop/templates/.."])
def test_a_local_chart_is_found_however_it_is_spelled(root: Path, spelling: str) -> None:
    chart = resolved(LocalChart(spelling), root)

    assert chart.reference == str(root / "shop")
    assert len(chart.digest) == 64
    assert resolved(LocalChart(str(root / "shop")), root) == chart


@pytest.mark.parametrize("path", ["..", "../outside", "/etc", "shop/../../outside"])
def test_a_local_chart_outside_of_the_root_is_refused(root: Path, path: str) -> None:
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "Chart.yaml").write_text("name: outside\n")

    assert "lies outside of the chart root" in refusal(LocalChart(path), root)


def test_a_link_to_a_chart_outside_of_the_root_is_refused(root: Path) -> None:
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "Chart.yaml").write_text("name: outside\n")
    (root / "link").symlink_to(root.parent / "outside")

    assert "lies outside of the chart root" in refusal(LocalChart("link"), root)


def test_a_link_in_a_chart_that_leads_out_of_the_root_is_refused(root: Path) -> None:
    (root.parent / "secret").write_text("s3cret")
    (root / "shop" / "templates" / "secret.yaml").symlink_to(root.parent / "secret")

    assert "secret.yaml leads out of the chart root" in refusal(LocalChart("shop"), root)


def test_a_link_to_a_chart_shared_within_the_root_counts_with_its_content(root: Path) -> None:
    (root / "common").mkdir()
    shared = root / "common" / "tpl.yaml"
    shared.write_text("a: 1\n")
    (root / "shop" / "common").symlink_to(root / "common")
    before = resolved(LocalChart("shop"), root)

    shared.write_text("a: 2\n")

    assert resolved(LocalChart("shop"), root).digest != before.digest


def test_a_link_to_the_chart_itself_is_refused(root: Path) -> None:
    (root / "shop" / "again").symlink_to(root / "shop")

    assert f"{root / 'shop' / 'again'} is a symbolic link to what contains it" in refusal(LocalChart("shop"), root)


def test_a_chart_is_bounded_in_depth(root: Path) -> None:
    (root / "shop" / "/".join("d" * 20)).mkdir(parents=True)

    assert "more than 20 folders deep" in refusal(LocalChart("shop"), root)


def test_a_folder_without_chart_is_named_with_a_way_out(root: Path) -> None:
    message = refusal(LocalChart("shop/templates"), root)

    assert message.startswith(f"There is no chart at {root / 'shop' / 'templates'}")
    assert "correct chart.local.path in the Project" in message


def test_what_is_no_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "shop" / "pipe")

    assert "neither a file nor a folder" in refusal(LocalChart("shop"), root)


def test_a_chart_is_bounded_in_size_and_number_of_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SIZE_LIMIT_BYTES", 10)
    assert "more than 10" in refusal(LocalChart("shop"), root)
    monkeypatch.setattr(local, "FILE_LIMIT", 1)
    assert "more than 1 files" in refusal(LocalChart("shop"), root)


def test_the_digest_follows_content_name_and_mode(root: Path) -> None:
    template = root / "shop" / "templates" / "all.yaml"
    finder = Charts(root)
    seen = {asyncio.run(finder.resolve(LocalChart("shop"))).digest}

    template.write_text("kind: Secret000\n")
    seen.add(asyncio.run(finder.resolve(LocalChart("shop"))).digest)
    template.chmod(0o755)
    seen.add(asyncio.run(finder.resolve(LocalChart("shop"))).digest)
    template.rename(template.with_name("other.yaml"))
    seen.add(asyncio.run(finder.resolve(LocalChart("shop"))).digest)

    assert len(seen) == 4


def test_an_untouched_chart_is_not_read_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = Charts(root)
    before = asyncio.run(finder.resolve(LocalChart("shop")))
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))

    assert asyncio.run(finder.resolve(LocalChart("shop"))) == before


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(OciChart("--plain-http", "1.0.0"), id="an option as reference"),
        pytest.param(OciChart("oci://-x/shop", "1.0.0"), id="a host that looks like an option"),
        pytest.param(OciChart("https://registry.example.com/shop", "1.0.0"), id="another scheme"),
        pytest.param(OciChart("file:///etc/passwd", "1.0.0"), id="a file"),
        pytest.param(OciChart("oci://user:s3cret@registry.example.com/shop", "1.0.0"), id="a password"),
        pytest.param(OciChart("oci://registry.example.com/shop?x=1", "1.0.0"), id="a query"),
        pytest.param(OciChart("oci://registry.example.com:port/shop", "1.0.0"), id="no port"),
        pytest.param(OciChart("oci://registry.example.com/a b", "1.0.0"), id="a blank"),
        pytest.param(OciChart("oci://", "1.0.0"), id="no host"),
        pytest.param(OciChart("oci://registry.example.com/shop", "--debug"), id="an option as version"),
        pytest.param(OciChart("oci://registry.example.com/shop", ""), id="no version"),
        pytest.param(OciChart("oci://registry.example.com/shop", "latest"), id="a word for a version"),
        pytest.param(OciChart("oci://registry.example.com/shop", "1.0\n0"), id="a line break in the version"),
        pytest.param(RepositoryChart("ftp://charts.example.com", "shop", "1.0.0"), id="a repository by ftp"),
        pytest.param(RepositoryChart("https://charts.example.com", "--debug", "1.0.0"), id="an option as name"),
        pytest.param(RepositoryChart("https://charts.example.com", "a/b", "1.0.0"), id="a path as name"),
        pytest.param(RepositoryChart("https://charts.example.com", "shop", "-1"), id="an option as its version"),
    ],
)
def test_what_cannot_be_right_is_never_asked_for(source: ChartSource) -> None:
    message = refusal(source)

    assert message.startswith("chart.")
    assert "s3cret" not in message


# What is fetched.

LOGIN = Login("reader", "s3cret")
HERE = Reach.of(private=["127.0.0.0/8"])
COMMIT = "1a2b3c4d" * 5


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.publish("shop", {"0.1.0": chart(), "0.2.0": chart(b"name: shop\nversion: 0.2.0\n")})
        running.push("charts/shop", "0.1.0", chart())
        yield running


class Forge:
    """GitLab, as far as charts need it: archives by path, and an account of what was asked for."""

    def __init__(self) -> None:
        self.archives: dict[str, bytes] = {}
        self.asked: list[tuple[str | int, str, str]] = []
        self.wait: Callable[[], Awaitable[object]] | None = None
        self.error: EnvprovError | None = None

    def holds(self, path: str, files: dict[str, bytes]) -> None:
        """Have a folder at any commit."""
        top = f"shop-{COMMIT}-{path.replace('/', '-')}"
        self.archives[path] = packed(*(entry(f"{top}/{path}/{name}", body) for name, body in files.items()))

    async def archive(self, ref: str | int, path: str, revision: str, target: Path, *, limit_bytes: int) -> None:
        """See ``envprov.releases.charts.Repository.archive``."""
        assert limit_bytes == 16 << 20
        self.asked.append((ref, path, revision))
        if self.wait is not None:
            await self.wait()
        if self.error is not None:
            raise self.error
        await asyncio.to_thread(target.write_bytes, self.archives[path])


@pytest.fixture
def forge() -> Forge:
    made = Forge()
    made.holds("deploy/chart", {"Chart.yaml": CHART, "templates/all.yaml": b"kind: ConfigMap\n"})
    return made


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def charts_of(tmp_path: Path, forge: Forge | None = None, clock: Clock | None = None, **more: Bounds) -> Charts:
    return Charts(tmp_path, HERE, forge, tmp_path / "cache", clock=clock or Clock(), **more)


def git(path: str = "deploy/chart", revision: str = COMMIT) -> GitChart:
    return GitChart(path, "group/shop", revision)


def remote(kind: str, server: Server, version: str = "0.1.0") -> OciChart | RepositoryChart:
    if kind == "oci":
        return OciChart(f"oci://{server.netloc}/charts/shop", version)
    return RepositoryChart(server.url, "shop", version)


def test_wherever_a_chart_comes_from_it_is_a_folder_and_the_same_content_has_the_same_digest(
    tmp_path: Path, server: Server, forge: Forge
) -> None:
    forge.holds("shop", {"Chart.yaml": CHART, "values.yaml": b"{}\n"})
    finder = charts_of(tmp_path, forge)

    found = [
        asyncio.run(finder.resolve(source)) for source in (git("shop"), remote("oci", server), remote("http", server))
    ]

    assert len({each.digest for each in found}) == 1
    assert len({each.reference for each in found}) == 1
    assert {path.name for path in Path(found[0].reference).iterdir()} == {"Chart.yaml", "values.yaml"}
    assert found[0].version == "0.1.0"


def test_a_chart_of_the_branch_is_that_of_its_commit(tmp_path: Path, forge: Forge) -> None:
    finder = charts_of(tmp_path, forge)
    before = asyncio.run(finder.resolve(git()))
    assert asyncio.run(finder.resolve(git())) == before
    assert forge.asked == [("group/shop", "deploy/chart", COMMIT)]

    forge.holds("deploy/chart", {"Chart.yaml": CHART, "templates/all.yaml": b"kind: Secret\n"})
    after = asyncio.run(finder.resolve(git(revision="f" * 40)))

    assert after.digest != before.digest
    assert (Path(after.reference) / "templates" / "all.yaml").read_bytes() == b"kind: Secret\n"
    assert (Path(before.reference) / "templates" / "all.yaml").read_bytes() == b"kind: ConfigMap\n"


def test_the_top_of_the_repository_may_be_the_chart(tmp_path: Path, forge: Forge) -> None:
    forge.archives[""] = chart()

    assert asyncio.run(charts_of(tmp_path, forge).resolve(git("."))).version == "0.1.0"


def git_refusal(tmp_path: Path, forge: Forge | None, source: GitChart) -> str:
    with pytest.raises((ChartNotFound, ChartRefused)) as caught:
        asyncio.run(charts_of(tmp_path, forge).resolve(source))
    return f"{caught.type.__name__}: {caught.value}"


def test_a_chart_of_the_branch_says_what_it_needs(tmp_path: Path, forge: Forge) -> None:
    assert "without the GitLab connection it cannot be fetched" in git_refusal(tmp_path, None, git())
    assert "without the GitLab connection" in git_refusal(tmp_path, forge, GitChart("deploy/chart"))
    assert "no commit of the branch is on record yet: push once, or give one with --revision" in git_refusal(
        tmp_path, forge, git(revision="")
    )
    assert "'../x' holds an empty part, . or .." in git_refusal(tmp_path, forge, git("../x"))
    assert forge.asked == []


def test_what_a_commit_does_not_have_is_told(tmp_path: Path, forge: Forge) -> None:
    forge.archives["deploy"] = forge.archives["deploy/chart"]
    forge.archives["other"] = forge.archives["deploy/chart"]

    assert "ChartNotFound: chart deploy of group/shop at 1a2b3c4d1a2b: there is no Chart.yaml" in git_refusal(
        tmp_path, forge, git("deploy")
    )
    assert "has no such folder at this commit" in git_refusal(tmp_path, forge, git("other"))


def test_a_refusal_is_remembered_for_a_while(tmp_path: Path, forge: Forge) -> None:
    clock = Clock()
    finder = charts_of(tmp_path, forge, clock)
    forge.archives["deploy/chart"] = packed(entry("s/deploy/chart/x", b"", b"2", at157=b"/etc/passwd"))
    for _ in range(3):
        with pytest.raises(ChartRefused, match="holds a symbolic link"):
            asyncio.run(finder.resolve(git()))
    assert len(forge.asked) == 1

    clock.now += 301
    with pytest.raises(ChartRefused):
        asyncio.run(finder.resolve(git()))
    assert len(forge.asked) == 2
    assert not list((tmp_path / "cache").glob("*/*"))


def test_what_gitlab_says_is_not_remembered(tmp_path: Path, forge: Forge) -> None:
    finder = charts_of(tmp_path, forge)
    forge.error = Unavailable("GitLab is away")
    with pytest.raises(Unavailable, match="GitLab is away"):
        asyncio.run(finder.resolve(git()))

    forge.error = None
    assert asyncio.run(finder.resolve(git())).version == "0.1.0"


def test_dependencies_come_from_where_the_lock_says(tmp_path: Path, forge: Forge, server: Server) -> None:
    server.publish("db", {"1.3.0": chart(b"name: db\nversion: 1.3.0\n", "db")})
    server.push("charts/mq", "2.0.0", chart(b"name: mq\nversion: 2.0.0\n", "mq"))
    wanted = [
        {"name": "db", "version": "^1", "repository": server.url},
        {"name": "mq", "version": "2.x", "repository": f"oci://{server.netloc}/charts"},
    ]
    locked = [wanted[0] | {"version": "1.3.0"}, wanted[1] | {"version": "2.0.0"}]
    lock = {"dependencies": locked, "digest": lock_digest(tuple(wanted), tuple(locked))}
    files = {"Chart.yaml": CHART + yaml.safe_dump({"dependencies": wanted}).encode()}
    forge.holds("deploy/chart", files | {"Chart.lock": yaml.safe_dump(lock).encode()})
    forge.holds("unlocked", files)

    found = asyncio.run(charts_of(tmp_path, forge).resolve(git()))

    assert {path.name for path in (Path(found.reference) / "charts").iterdir()} == {"db-1.3.0", "mq-2.0.0"}
    assert "has no Chart.lock: run `helm dependency update`" in git_refusal(tmp_path, forge, git("unlocked"))


def test_a_chart_that_its_dependencies_make_too_large_is_refused(
    tmp_path: Path, forge: Forge, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish("db", {"1.0.0": chart(b"name: db\nversion: 1.0.0\n", "db")})
    wanted = [{"name": "db", "version": "1.0.0", "repository": server.url}]
    lock = {"dependencies": wanted, "digest": lock_digest(tuple(wanted), tuple(wanted))}
    files = {"Chart.yaml": CHART + yaml.safe_dump({"dependencies": wanted}).encode()}
    forge.holds("deploy/chart", files | {"Chart.lock": yaml.safe_dump(lock).encode()})
    monkeypatch.setattr(local, "FILE_LIMIT", 3)

    assert "with all that it depends on it is too large" in git_refusal(tmp_path, forge, git())


def test_a_dependency_leads_nowhere_that_a_chart_may_not_come_from(tmp_path: Path, forge: Forge) -> None:
    wanted = [{"name": "db", "version": "1.0.0", "repository": "https://169.254.169.254"}]
    lock = {"dependencies": wanted, "digest": lock_digest(tuple(wanted), tuple(wanted))}
    files = {"Chart.yaml": CHART + yaml.safe_dump({"dependencies": wanted}).encode()}
    forge.holds("deploy/chart", files | {"Chart.lock": yaml.safe_dump(lock).encode()})

    assert "its dependency db: index of https://169.254.169.254: host 169.254.169.254 has the address" in git_refusal(
        tmp_path, forge, git()
    )


def test_a_chart_that_was_published_without_its_dependencies_is_refused(tmp_path: Path, server: Server) -> None:
    wanted = yaml.safe_dump({"dependencies": [{"name": "db", "version": "1", "repository": server.url}]}).encode()
    server.publish("shop", {"0.1.0": chart(CHART + wanted)})

    with pytest.raises(ChartRefused, match="was published without 1 of the charts that it depends on"):
        asyncio.run(charts_of(tmp_path).resolve(remote("http", server)))


@pytest.mark.parametrize("kind", ["oci", "http"])
def test_an_exact_version_is_fetched_once_and_a_range_is_looked_up_again(
    tmp_path: Path, server: Server, kind: str
) -> None:
    clock = Clock()
    finder = charts_of(tmp_path, clock=clock)
    server.tags("charts/shop", "0.1.0")
    exact, bounds = remote(kind, server), remote(kind, server, "~0.1 || ~0.2")
    for _ in range(3):
        asyncio.run(finder.resolve(exact))
        clock.now += 10_000
    once = len(server.asked)
    assert once == 2

    before = asyncio.run(finder.resolve(bounds))
    asked = len(server.asked)
    clock.now += 299
    asyncio.run(finder.resolve(bounds))
    assert len(server.asked) == asked
    server.push("charts/shop", "0.2.0", chart(b"name: shop\nversion: 0.2.0\n"))
    server.tags("charts/shop", "0.1.0", "0.2.0")
    clock.now += 2
    assert asyncio.run(finder.resolve(bounds)).version == "0.2.0"
    assert before.version == ("0.1.0" if kind == "oci" else "0.2.0")
    assert len(server.asked) > asked


def test_what_a_range_stood_for_stays_while_the_registry_is_away(tmp_path: Path, server: Server) -> None:
    clock = Clock()
    finder = charts_of(tmp_path, clock=clock)
    before = asyncio.run(finder.resolve(remote("http", server, "*")))
    server.routes["/index.yaml"] = Reply(status=503)
    clock.now += 301

    assert asyncio.run(finder.resolve(remote("http", server, "*"))) == before
    asked = len(server.asked)
    assert asyncio.run(finder.resolve(remote("http", server, "*"))) == before
    assert len(server.asked) == asked
    clock.now += 61
    server.routes["/index.yaml"] = Reply(status=404)
    with pytest.raises(ChartNotFound):
        asyncio.run(finder.resolve(remote("http", server, "*")))


def test_what_one_login_has_fetched_is_not_given_to_another(tmp_path: Path, server: Server) -> None:
    def closed(asked: Asked) -> Reply | None:
        return None if asked.headers.get("authorization") == LOGIN.authorization else Reply(status=401)

    server.guard(closed)
    finder = charts_of(tmp_path)

    async def scenario() -> None:
        await finder.resolve(remote("http", server), LOGIN)
        for other in (None, Login("reader", "wrong"), Login("another", "s3cret")):
            with pytest.raises(ChartNotFound, match="may not be read"):
                await finder.resolve(remote("http", server), other)

    asyncio.run(scenario())


def test_who_asks_at_once_for_the_same_shares_one_fetch(tmp_path: Path, forge: Forge) -> None:
    finder = charts_of(tmp_path, forge)

    async def scenario() -> None:
        go_on = asyncio.Event()
        forge.wait = go_on.wait
        waiting = [asyncio.create_task(finder.resolve(git())) for _ in range(10)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        await asyncio.sleep(0)
        go_on.set()
        found = await asyncio.gather(*waiting[1:])
        assert len({each.reference for each in found}) == 1
        assert waiting[0].cancelled()

    asyncio.run(scenario())
    assert len(forge.asked) == 1


def test_whoever_asks_after_a_failure_tries_anew(tmp_path: Path, forge: Forge) -> None:
    finder = charts_of(tmp_path, forge)

    async def scenario() -> None:
        forge.error = Unavailable("GitLab is away")
        failed = await asyncio.gather(*(finder.resolve(git()) for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in failed] == [Unavailable] * 3
        forge.error = None
        await finder.resolve(git())

    asyncio.run(scenario())
    assert len(forge.asked) == 2


def test_a_chart_stays_as_long_as_somebody_has_it(tmp_path: Path, forge: Forge) -> None:
    finder = charts_of(tmp_path, forge, bounds=Bounds(charts=1))

    async def others() -> None:
        for _ in range(3):
            forge.holds("other", {"Chart.yaml": CHART, "n": b"%d" % len(forge.asked)})
            await finder.resolve(git("other", f"{len(forge.asked):040}"))

    used = asyncio.run(finder.resolve(git()))
    folder = Path(used.reference)
    asyncio.run(others())
    assert (folder / "Chart.yaml").is_file()
    assert len(list(folder.parent.iterdir())) == 2

    del used
    gc.collect()
    asyncio.run(others())
    assert not folder.exists()
    assert len(list(folder.parent.iterdir())) == 1


def test_a_chart_that_was_let_go_is_fetched_again(tmp_path: Path, forge: Forge) -> None:
    finder = charts_of(tmp_path, forge, bounds=Bounds(charts=0))
    before = asyncio.run(finder.resolve(git())).digest
    forge.holds("other", {"Chart.yaml": CHART, "n": b"x"})
    asyncio.run(finder.resolve(git("other")))

    assert asyncio.run(finder.resolve(git())).digest == before
    assert [path for _, path, _ in forge.asked] == ["deploy/chart", "other", "deploy/chart"]


def test_an_index_may_send_to_a_registry(tmp_path: Path, server: Server) -> None:
    server.publish("shop", {"0.1.0": chart()}, urls=[f"oci://{server.netloc}/charts/shop:0.1.0"])

    assert asyncio.run(charts_of(tmp_path).resolve(remote("http", server))).version == "0.1.0"


def test_a_chart_that_is_no_archive_is_refused(tmp_path: Path, server: Server) -> None:
    server.publish("shop", {"0.1.0": b"<html>"})

    with pytest.raises(ChartRefused, match=r"chart shop 0\.1\.0 of http.*: its archive is damaged, or is no gzip"):
        asyncio.run(charts_of(tmp_path).resolve(remote("http", server)))


@pytest.mark.parametrize(
    "source", [OciChart("oci://127.0.0.1:1/x", "1.0.0"), RepositoryChart("https://127.0.0.1:1", "x", "1.0.0")]
)
def test_this_computer_is_no_place_for_charts_unless_it_is_allowed(tmp_path: Path, source: ChartSource) -> None:
    with pytest.raises(ChartRefused, match=r"has the address 127\.0\.0\.1, which is not public"):
        asyncio.run(Charts(tmp_path).resolve(source))
    with pytest.raises(Unavailable, match="connection refused"):
        asyncio.run(Charts(tmp_path, HERE).resolve(source))


def test_a_repository_without_tls_is_refused_unless_it_is_named() -> None:
    assert "must begin with https://" in refusal(RepositoryChart("http://charts.internal", "shop", "1.0.0"))
