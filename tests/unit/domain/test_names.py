"""Names for any branch: valid everywhere, the same each time, never shared."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.names import branch_fault, environment_of, namespace_of, slug

RFC_1035_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
LONGEST = "日" * 85  # 255 bytes


@settings(deadline=None)
@given(project=st.text(min_size=1, max_size=20), branch=st.text(min_size=1, max_size=255))
def test_any_branch_gives_names_that_fit(project: str, branch: str) -> None:
    name = slug(project, branch)
    assert RFC_1035_LABEL.fullmatch(name), name
    assert 10 <= len(name) <= 40
    namespace = namespace_of(name)
    assert len(namespace) <= 63
    assert environment_of(namespace) == name
    assert slug(project, branch) == name


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.text(alphabet="aA/-_.日\N{PARTY POPPER}", max_size=6)),
        unique=True,
        max_size=12,
    )
)
def test_no_two_share_a_name(pairs: list[tuple[str, str]]) -> None:
    assert len({slug(project, branch) for project, branch in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        pytest.param("feature/x", "feature-x-ndvvxpib", id="slash"),
        pytest.param("feature-x", "feature-x-h5nvmok3", id="dash"),
        pytest.param("Feature/X", "feature-x-jmx45s3b", id="capitals"),
        pytest.param("feature/x/", "feature-x-zmfdc3ws", id="slash at the end"),
        pytest.param("日本語/イベント", "branch-dorlibop", id="nothing to read"),
        pytest.param("\N{PARTY POPPER}", "branch-eyuuswov", id="emoji"),
        pytest.param("\N{FULLWIDTH LATIN SMALL LETTER A}bc", "abc-dv4inyfz", id="full width"),
        pytest.param("Über", "uber-hln5aa65", id="accent"),
        pytest.param("1", "b-1-yc32nd75", id="one digit"),
        pytest.param("x", "x-qkp2v4ws", id="one letter"),
        pytest.param("-", "branch-pwpfelbj", id="one dash"),
        pytest.param("a" * 255, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-wikhikjy", id="255 letters"),
        pytest.param("a" * 30 + "/b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-jyfgz2ux", id="cut at a dash"),
        pytest.param(LONGEST, "branch-qiccn624", id="255 bytes of Japanese"),
    ],
)
def test_what_a_branch_is_called(branch: str, expected: str) -> None:
    assert slug("shop", branch) == expected


def test_a_thousand_events_have_a_thousand_names() -> None:
    names = {slug("shop", f"event/{number:04}") for number in range(1, 1001)}
    assert len(names) == 1000
    assert all(name.startswith("event-") for name in names)


def test_projects_do_not_share_names() -> None:
    assert slug("shop", "main") != slug("blog", "main")
    assert slug("shop", "x/main") != slug("shop/x", "main")


@pytest.mark.parametrize("namespace", ["kube-system", "environment", "default", "envprov-system"])
def test_other_namespaces_serve_no_environment(namespace: str) -> None:
    assert environment_of(namespace) is None


# The faults were compared with `git check-ref-format --branch`.
@pytest.mark.parametrize(
    "branch",
    [
        "main",
        "a/b/c",
        "a.b",
        "a./b",
        "a@",
        "@/x",
        "a-",
        "a.LOCK",
        "a{b}",
        "(a)",
        "a#b",
        "'a'",
        "日本語",
        LONGEST,
        "HEADS",
    ],
)
def test_names_that_git_accepts(branch: str) -> None:
    assert branch_fault(branch) is None


@pytest.mark.parametrize(
    ("branch", "words"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("a" * 256, "has 256 bytes", id="too long"),
        pytest.param("日" * 86, "has 258 bytes", id="too many bytes"),
        pytest.param("\ud800", "is not valid Unicode", id="half a character"),
        pytest.param("@", "Git reserves", id="at"),
        pytest.param("HEAD", "Git reserves", id="HEAD"),
        pytest.param("a b", "holds", id="space"),
        pytest.param("a\tb", "holds", id="tab"),
        pytest.param("a\x7f", "holds", id="delete"),
        pytest.param("a\n", "holds", id="line feed at the end"),
        pytest.param("a..b", "holds", id="two dots"),
        pytest.param("a~1", "holds", id="tilde"),
        pytest.param("a^", "holds", id="caret"),
        pytest.param("a:b", "holds", id="colon"),
        pytest.param("a?", "holds", id="question mark"),
        pytest.param("a*", "holds", id="star"),
        pytest.param("a[b", "holds", id="bracket"),
        pytest.param("a\\b", "holds", id="backslash"),
        pytest.param("a@{1}", "holds", id="at and brace"),
        pytest.param("a//b", "holds", id="two slashes"),
        pytest.param("-a", "begins with", id="dash first"),
        pytest.param("/a", "begins with", id="slash first"),
        pytest.param("a/", "ends with", id="slash last"),
        pytest.param("a.", "ends with", id="dot last"),
        pytest.param(".a", "begins with '.'", id="hidden"),
        pytest.param("a/.b", "begins with '.'", id="hidden part"),
        pytest.param("a.lock", "ends with '.lock'", id="lock"),
        pytest.param("a.lock/b", "ends with '.lock'", id="lock in the middle"),
    ],
)
def test_names_that_git_refuses(branch: str, words: str) -> None:
    fault = branch_fault(branch)
    assert fault is not None
    assert words in fault
