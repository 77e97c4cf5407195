"""Archives of strangers: what honest programs write comes out as it went in, and nothing else comes out at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.errors import ChartRefused
from envprov.releases.archives import extract
from envprov.releases.tar import ArchiveLimits
from tests.unit.releases.tars import chart, entry, header, packed, pax, tree

LIMITS = ArchiveLimits()


def unpacked(tmp_path: Path, raw: bytes, subtree: str = ".", limits: ArchiveLimits = LIMITS) -> dict[str, bytes | None]:
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(raw)
    extract(archive, tmp_path / "out", "The chart", subtree=subtree, limits=limits)
    return tree(tmp_path / "out") if (tmp_path / "out").exists() else {}


def refusal(tmp_path: Path, raw: bytes, subtree: str = ".", limits: ArchiveLimits = LIMITS) -> str:
    with pytest.raises(ChartRefused) as caught:
        unpacked(tmp_path, raw, subtree, limits)
    return str(caught.value)


def test_a_packaged_chart_comes_out(tmp_path: Path) -> None:
    raw = chart(files={"templates/all.yaml": b"a: 1\n", "charts/db/Chart.yaml": b""})

    assert unpacked(tmp_path, raw) == {
        "Chart.yaml": b"apiVersion: v2\nname: shop\nversion: 0.1.0\n",
        "values.yaml": b"{}\n",
        "templates": None,
        "templates/all.yaml": b"a: 1\n",
        "charts": None,
        "charts/db": None,
        "charts/db/Chart.yaml": b"",
    }


def test_what_was_written_is_counted_and_has_fixed_modes_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(packed(entry("s/d/", b"", b"5"), entry("s/d/x.sh", b"abc"), entry("s/y")))
    before = os.umask(0o077)
    try:
        got = extract(tmp_path / "a.tar.gz", tmp_path / "out", "The chart")
    finally:
        os.umask(before)

    assert (got.entries, got.bytes) == (3, 3)
    modes = {name: stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in (".", "d", "d/x.sh", "y")}
    assert modes == {".": 0o755, "d": 0o755, "d/x.sh": 0o644, "y": 0o644}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    deep = folder / "deploy" / "chart" / ("a-long-name-" * 5) / ("another-" * 10)
    deep.mkdir(parents=True)
    (deep / "日本語.yaml").write_text("a: 1\n")
    (folder / "deploy" / "chart" / "Chart.yaml").write_text("name: shop\n")
    (folder / "deploy" / "chart" / "run.sh").write_bytes(b"x" * 100_000)
    (folder / "deploy" / "chart" / "run.sh").chmod(0o755)
    (folder / "deploy" / "chartless").write_text("not the chart's")
    (folder / "README").symlink_to("/etc/passwd")
    (folder / ("unsound\\name\x01" * 12)).write_text("")
    git = ("git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com")
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "x"]):
        subprocess.run([*git, *words], check=True)
    return folder


@pytest.mark.parametrize("paths", [(), ("deploy/chart",)], ids=["an old GitLab gives all", "a new one the folder"])
def test_what_gitlab_gives_of_a_folder_comes_out(repository: Path, tmp_path: Path, paths: tuple[str, ...]) -> None:
    made = ("archive", "--format=tar.gz", "--prefix=shop-1a2b3c-deploy-chart/", "HEAD", *paths)
    raw = subprocess.run(["git", "-C", repository, *made], check=True, capture_output=True).stdout

    assert unpacked(tmp_path, raw, "deploy/chart") == tree(repository / "deploy" / "chart")


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_other_programs_write_comes_out(tmp_path: Path, kind: int) -> None:
    source = tmp_path / "shop"
    long = source / ("x" * 60) / ("y" * 60) if kind == tarfile.USTAR_FORMAT else source / ("é" * 90) / ("y" * 100)
    long.mkdir(parents=True)
    (long / "f").write_bytes(b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(6000)))
    (source / "empty").mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=kind) as tar:
        tar.add(source, "shop")

    assert unpacked(tmp_path, buffer.getvalue()) == tree(source)


def test_what_gnu_tar_writes_from_within_comes_out(tmp_path: Path) -> None:
    (tmp_path / "in" / "shop" / "d").mkdir(parents=True)
    (tmp_path / "in" / "shop" / "d" / "f").write_text("x")
    raw = subprocess.run(["tar", "-C", tmp_path / "in", "-czf", "-", "."], check=True, capture_output=True).stdout

    assert unpacked(tmp_path, raw) == {"d": None, "d/f": b"x"}


def test_a_folder_may_be_written_as_it_was_before_folders_had_a_kind(tmp_path: Path) -> None:
    assert unpacked(tmp_path, packed(entry("s/d/", b"", b"\0"), entry("s/d/f", b"x", b"\0"))) == {
        "d": None,
        "d/f": b"x",
    }


def test_a_folder_that_comes_after_what_is_in_it_is_fine(tmp_path: Path) -> None:
    assert unpacked(tmp_path, packed(entry("s/d/f"), entry("s/d", b"", b"5"))) == {"d": None, "d/f": b""}


@pytest.mark.parametrize(
    ("subtree", "there"),
    [("deploy", True), ("deploy/chart", True), ("dep", False), ("deploy/char", False), ("shop", False), (".", True)],
)
def test_only_the_folder_that_is_asked_for_is_written(tmp_path: Path, subtree: str, *, there: bool) -> None:
    raw = packed(entry("shop/deploy/chart/Chart.yaml", b"x"), entry("shop/deploys/no", b"y"))

    found = unpacked(tmp_path, raw, subtree)

    assert (b"x" in found.values()) is there
    assert (b"y" in found.values()) is (subtree == ".")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(packed(entry("/etc/passwd")), "could lead out of the chart: '/etc/passwd'", id="absolute"),
        pytest.param(packed(entry("s/../x")), "could lead out of the chart", id="dots"),
        pytest.param(packed(entry("../x")), "could lead out of the chart", id="dots at once"),
        pytest.param(packed(entry("s/a/..")), "could lead out of the chart", id="dots at the end"),
        pytest.param(packed(entry("s/./a")), "could lead out of the chart", id="a dot within"),
        pytest.param(packed(entry("s//a")), "could lead out of the chart", id="an empty part"),
        pytest.param(packed(entry("")), "could lead out of the chart", id="no name"),
        pytest.param(
            packed(entry("s/a", at345=b"/etc")), "could lead out of the chart: '/etc/s/a'", id="absolute by its prefix"
        ),
        pytest.param(packed(pax(("path", "s/../../x")), entry("s/a")), "could lead out", id="dots by pax"),
        pytest.param(packed(entry("l", b"s/../x\0", b"L"), entry("s/a")), "could lead out", id="dots by GNU"),
        pytest.param(packed(entry("s/a", b"", b"2", at157=b"/etc")), "holds a symbolic link", id="a symbolic link"),
        pytest.param(packed(entry("s/a", b"", b"1", at157=b"s/b")), "holds a hard link", id="a hard link"),
        pytest.param(packed(entry("s/a", b"", b"3")), "holds a device", id="a device of characters"),
        pytest.param(packed(entry("s/a", b"", b"4")), "holds a device", id="a device of blocks"),
        pytest.param(packed(entry("s/a", b"", b"6")), "holds a pipe", id="a pipe"),
        pytest.param(packed(entry("s/a", b"", b"S")), "the unknown kind 'S'", id="a sparse file of GNU's"),
        pytest.param(packed(entry("s/a", b"", b"M")), "the unknown kind 'M'", id="the rest of another volume"),
        pytest.param(packed(entry("s/a", b"", b"D")), "the unknown kind 'D'", id="a list of names"),
        pytest.param(packed(entry("s/a", b"x", b"5")), "no file, has content", id="a folder with content"),
        pytest.param(packed(entry("s/a", b"x", b"1")), "no file, has content", id="a link with content"),
        pytest.param(packed(entry("s/a"), entry("s/a")), "holds 'a' twice", id="a file twice"),
        pytest.param(packed(entry("s/a", b"", b"5"), entry("s/a", b"", b"5")), "holds 'a' twice", id="a folder twice"),
        pytest.param(packed(entry("s/a"), entry("s/a/b")), "holds 'a' twice", id="a file that is a folder"),
        pytest.param(packed(entry("s/a/b"), entry("s/a")), "holds 'a' twice", id="a folder that is a file"),
        pytest.param(packed(entry("s/a/b"), entry("s/a/b/", b"", b"5")), "holds 'a/b' twice", id="one after the other"),
        pytest.param(packed(entry("s/A"), entry("s/a")), "differ only in case: 'A' and 'a'", id="case"),
        pytest.param(packed(entry("s/A/x"), entry("s/a/y")), "differ only in case: 'A' and 'a'", id="case of folders"),
        pytest.param(packed(entry("s/\xe9"), entry("s/e\u0301")), "differ only in case", id="composed and decomposed"),
        pytest.param(packed(entry("s/ß"), entry("s/SS")), "differ only in case", id="sharp s"),
        pytest.param(packed(entry("s/a\nb")), "with control characters", id="a line end in a name"),
        pytest.param(packed(pax(("path", "s/a\0b")), entry("s/a")), "with control characters", id="a zero in a name"),
        pytest.param(packed(entry("s/a\\b")), "a backslash", id="a backslash"),
        pytest.param(packed(entry("s/a\nb", b"", b"5")), "with control characters", id="a folder with a line end"),
        pytest.param(packed(entry(b"s/\xff")), "what is not UTF-8: '\\udcff'", id="no UTF-8"),
        pytest.param(packed(entry("s/" + "d/" * 20 + "f", at257=b"ustar\0")), "more than 20 folders deep", id="deep"),
        pytest.param(packed(pax(("path", "s/" + "n" * 256)), entry("x")), "name that is too long", id="a long part"),
        pytest.param(packed(pax(("path", "s/" + "n/" * 600)), entry("x")), "name that is too long", id="a long name"),
        pytest.param(packed(entry("s/a"), entry("t/b")), "holds two folders, 's' and 't'", id="two folders"),
        pytest.param(packed(entry("s")), "holds a file where a folder ought to be", id="a file at the top"),
        pytest.param(packed(pax(("size", "9")), entry("s/a", b"x")), "by an extended header: 'size'", id="pax size"),
        pytest.param(
            packed(pax(("GNU.sparse.realsize", "9")), entry("s/a", b"x")), "header: 'GNU.sparse.realsize'", id="sparse"
        ),
        pytest.param(packed(pax(("hdrcharset", "BINARY")), entry("s/a")), "header: 'hdrcharset'", id="pax encoding"),
        pytest.param(packed(pax(("path", "s/a"), kind=b"g"), entry("s/b")), "one name", id="one name for all"),
        pytest.param(
            packed(pax(("path", "s/a")), pax(("path", "s/b")), entry("s/c")), "gives one file two names", id="pax twice"
        ),
        pytest.param(
            packed(entry("l", b"s/x", b"L"), pax(("path", "s/b")), entry("s/c")), "one file two names", id="GNU and pax"
        ),
        pytest.param(packed(pax(("path", "s/a"), ("path", "s/b")), entry("s/c")), "one file two", id="two in one pax"),
        pytest.param(
            packed(entry("p", b"99 path=s/a\n", b"x"), entry("s/a")), "header that is none", id="pax too long"
        ),
        pytest.param(packed(entry("p", b"3 a\n", b"x"), entry("s/a")), "header that is none", id="pax without ="),
        pytest.param(packed(entry("p", b"1 \n", b"x"), entry("s/a")), "header that is none", id="pax in a loop"),
        pytest.param(packed(entry("p", b"0 a=b\n", b"x"), entry("s/a")), "header that is none", id="pax of no length"),
        pytest.param(packed(entry("p", b"-9 a=b\n", b"x"), entry("s/a")), "header that is none", id="pax backwards"),
        pytest.param(packed(entry("p", b"6 a=bX", b"x"), entry("s/a")), "header that is none", id="pax without end"),
        pytest.param(packed(header("p", 1 << 33, b"x")), "extended header that is too large", id="pax of 8 GiB"),
        pytest.param(packed(header("p", 1 << 20, b"L")), "extended header that is too large", id="a name of 1 MiB"),
        pytest.param(packed(header("s/a", 10 << 30)), "unpacks to more than 16777216 bytes", id="a file of 10 GiB"),
        pytest.param(
            packed(entry("s/a", at124=b"\x80" + bytes(10) + b"\x01")), "is no tar archive, or holds", id="base 256"
        ),
        pytest.param(packed(entry("s/a", at124=b"-0000000001\0")), "is no tar archive", id="a negative size"),
        pytest.param(packed(b"x" * 512), "is no tar archive", id="no tar archive"),
        pytest.param(packed(header("s/a")[:-1] + b"x"), "is no tar archive, or is damaged", id="a wrong checksum"),
        pytest.param(b"", "is cut off", id="nothing"),
        pytest.param(b"<html>", "is no gzip archive", id="a page"),
        pytest.param(packed(entry("s/a", b"x"), end=b""), "is cut off", id="no end"),
        pytest.param(packed(entry("s/a", b"x" * 9999))[:-12], "is cut off", id="half of it"),
        pytest.param(packed(header("s/a", 512), end=b""), "is cut off", id="a file without its content"),
        pytest.param(chart()[:-6] + b"wrong!", "is damaged", id="a wrong checksum of gzip's"),
        pytest.param(packed(entry("s/a"), end=bytes(3 << 20)), "goes on after its end", id="more after its end"),
    ],
)
def test_what_no_honest_program_writes_is_refused(tmp_path: Path, raw: bytes, said: str) -> None:
    message = refusal(tmp_path, raw)

    assert message.startswith("The chart: its archive ")
    assert said in message
    assert message.isprintable()
    assert {path.name for path in tmp_path.iterdir()} <= {"archive.tar.gz", "out"}


def test_a_link_elsewhere_in_the_repository_does_not_matter(tmp_path: Path) -> None:
    long = entry("link", b"/etc/" + b"x" * 200 + b"\0", b"K")
    raw = packed(long, entry("s/README", b"", b"2", at157=b"/etc/passwd"), entry("s/chart/a"), entry("s/p", b"", b"6"))

    assert unpacked(tmp_path, raw, "chart") == {"a": b""}
    assert "holds a file where a folder ought to be" in refusal(tmp_path, packed(entry("s/chart")), "chart")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        pytest.param(replace(LIMITS, packed_bytes=99), "has more than 99 bytes", id="packed"),
        pytest.param(replace(LIMITS, bytes=2999), "unpacks to more than 2999 bytes", id="written"),
        pytest.param(replace(LIMITS, read_bytes=1500), "unpacks to more than 1500 bytes", id="read"),
        pytest.param(replace(LIMITS, entries=3), "more than 3 files and folders", id="files and folders written"),
        pytest.param(replace(LIMITS, read_entries=3), "more than 3 entries", id="headers read"),
        pytest.param(replace(LIMITS, depth=1), "more than 1 folders deep", id="depth"),
        pytest.param(replace(LIMITS, name_bytes=4), "a name that is too long", id="name"),
        pytest.param(replace(LIMITS, seconds=-1), "could not be unpacked within -1 s", id="time"),
    ],
)
def test_every_limit_holds(tmp_path: Path, limits: ArchiveLimits, said: str) -> None:
    raw = packed(entry("s/a", b"a" * 1000), entry("s/b", b"b" * 1000), entry("s/c/d", b"c" * 1000))

    assert said in refusal(tmp_path, raw, limits=limits)


def test_limits_that_are_just_met_are_met(tmp_path: Path) -> None:
    raw = packed(entry("s/a", b"a" * 1000), entry("s/c/d", b"c" * 1000))
    limits = ArchiveLimits(packed_bytes=len(raw), bytes=2000, entries=3, read_entries=3, depth=2, name_bytes=5)

    assert len(unpacked(tmp_path, raw, limits=limits)) == 3


def gzipped(pieces: Iterator[bytes], target: Path) -> None:
    """Write a gzip file of any size in little memory."""
    with gzip.open(target, "wb", compresslevel=1) as file:
        for piece in pieces:
            file.write(piece)


def many_entries() -> Iterator[bytes]:
    block = b"".join(header(f"s/{n:04}") for n in range(1000))
    return (block for _ in range(100))


def many_headers() -> Iterator[bytes]:
    block = pax(("comment", "x")) * 1000
    return (block for _ in range(100))


def many_elsewhere() -> Iterator[bytes]:
    block = b"".join(header(f"s/other/{n:04}") for n in range(1000))
    return (block for _ in range(100))


def bomb_elsewhere() -> Iterator[bytes]:
    yield header("s/other/zeros", 256 << 20)
    yield from (bytes(1 << 20) for _ in range(256))


def bomb_of_files() -> Iterator[bytes]:
    for n in range(100):
        yield header(f"s/chart/{n}", 1 << 20)
        yield bytes(1 << 20)


def bomb_of_zeros() -> Iterator[bytes]:
    return (bytes(1 << 20) for _ in range(256))


@pytest.mark.parametrize(
    "made",
    [many_entries, many_headers, many_elsewhere, bomb_elsewhere, bomb_of_files, bomb_of_zeros],
    ids=lambda made: made.__name__,
)
def test_floods_and_bombs_end_quickly_and_in_little_memory(tmp_path: Path, made: Callable[[], Iterator[bytes]]) -> None:
    archive = tmp_path / "bomb.tar.gz"
    gzipped(made(), archive)
    tracemalloc.start()
    begun = time.process_time()

    with pytest.raises(ChartRefused):
        extract(archive, tmp_path / "out", "The chart", subtree="chart" if "elsewhere" in made.__name__ else ".")

    took = time.process_time() - begun
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 5
    assert peak < 8 << 20
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) if (tmp_path / "out").exists() else 0
    assert written < 20 << 20


NAMES = st.sampled_from(["s/a", "s/a/b", "s/A", "s/../x", "/x", "s/", "s", "./s/c", "s/c/", "", "t/a"])
KINDS = st.sampled_from([b"0", b"5", b"1", b"2", b"x", b"g", b"L", b"\0", b"7", b"S"])
CONTENTS = st.sampled_from([b"", b"x", b"12 path=s/q\n", b"s/long", b"\0" * 600, b"9 size=1\n"])
ENTRIES = st.lists(st.tuples(NAMES, CONTENTS, KINDS), max_size=6)


@given(ENTRIES, st.binary(max_size=40), st.integers(0, 2000))
@settings(max_examples=150, deadline=None)
def test_nothing_is_ever_written_elsewhere_and_nothing_else_is_raised(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, bytes, bytes]], noise: bytes, place: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("x")
    raw = bytearray(b"".join(entry(*each) for each in entries) + bytes(1024))
    raw[place : place + len(noise)] = noise
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar.gz").write_bytes(zlib.compress(bytes(raw), wbits=31))
    with suppress(ChartRefused):
        extract(tmp_path / "in" / "a.tar.gz", tmp_path / "in" / "out", "The chart")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert {path.name for path in (tmp_path / "in").iterdir()} <= {"a.tar.gz", "out"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
