"""Chart sources: what Helm may be told, and digests of local charts."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from envprov.domain.errors import ChartNotFound
from envprov.releases import charts
from envprov.releases.charts import (
    ChartRef,
    Charts,
    ChartSource,
    GitChart,
    LocalChart,
    OciChart,
    RepositoryChart,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "charts"
    (folder / "shop" / "templates").mkdir(parents=True)
    (folder / "shop" / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")
    (folder / "shop" / "templates" / "all.yaml").write_text("kind: ConfigMap\n")
    return folder


def resolved(source: ChartSource, root: Path = Path("/nowhere"), plain: frozenset[str] = frozenset()) -> ChartRef:
    return asyncio.run(Charts(root, plain).resolve(source))


def refusal(source: ChartSource, root: Path = Path("/nowhere")) -> str:
    with pytest.raises(ChartNotFound) as caught:
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
    monkeypatch.setattr(charts, "SIZE_LIMIT_BYTES", 10)
    assert "more than 10" in refusal(LocalChart("shop"), root)
    monkeypatch.setattr(charts, "FILE_LIMIT", 1)
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


def test_a_chart_in_a_registry_is_passed_on() -> None:
    chart = resolved(OciChart("oci://registry.example.com/charts/shop", "1.4.2"))

    assert chart == ChartRef("oci://registry.example.com/charts/shop", chart.digest, "1.4.2")
    assert chart.digest != resolved(OciChart("oci://registry.example.com/charts/shop", "1.4.3")).digest


def test_a_chart_in_a_repository_is_passed_on() -> None:
    chart = resolved(RepositoryChart("https://charts.example.com", "shop", "~1.4"))

    assert chart == ChartRef("shop", chart.digest, "~1.4", "https://charts.example.com")


@pytest.mark.parametrize(
    ("ref", "plain"),
    [
        ("oci://localhost:5000/shop", True),
        ("oci://127.0.0.1:5000/shop", True),
        ("oci://[::1]:5000/shop", True),
        ("oci://registry.internal:5000/shop", True),
        ("oci://registry.internal/shop", False),
        ("oci://localhost.example.com/shop", False),
    ],
)
def test_only_this_computer_and_named_hosts_go_without_tls(ref: str, *, plain: bool) -> None:
    allowed = frozenset({"registry.internal:5000"})

    assert resolved(OciChart(ref, "1.0.0"), plain=allowed).plain_http is plain


def test_a_repository_without_tls_is_refused_unless_it_is_named() -> None:
    source = RepositoryChart("http://charts.internal", "shop", "1.0.0")

    assert "must begin with https://" in refusal(source)
    assert resolved(source, plain=frozenset({"charts.internal"})).repository == "http://charts.internal"
    assert resolved(RepositoryChart("http://127.0.0.1:8080/x", "shop", "1.0.0")).repository


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
        pytest.param(OciChart("oci://registry.example.com/shop", "1.0\n0"), id="a line break in the version"),
        pytest.param(RepositoryChart("ftp://charts.example.com", "shop", "1.0.0"), id="a repository by ftp"),
        pytest.param(RepositoryChart("https://charts.example.com", "--debug", "1.0.0"), id="an option as name"),
        pytest.param(RepositoryChart("https://charts.example.com", "a/b", "1.0.0"), id="a path as name"),
        pytest.param(RepositoryChart("https://charts.example.com", "shop", "-1"), id="an option as its version"),
    ],
)
def test_what_cannot_be_right_never_reaches_helm(source: ChartSource) -> None:
    message = refusal(source)

    assert message.startswith("chart.")
    assert "s3cret" not in message


def test_a_chart_from_git_says_what_it_needs_and_what_works() -> None:
    message = refusal(GitChart("deploy/chart"))

    assert "charts from Git need the GitLab connection" in message
    assert "local, oci or repository" in message
