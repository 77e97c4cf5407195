"""The file .envprov.yaml: what it says, what is refused and how, and what a Project lets it decide."""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.branch_file import BranchFile, bounded, chart_path_fault, parse_branch_file
from envprov.domain.errors import InvalidBranchFile
from envprov.domain.lifetime import ExpireAfter, Keep, Until
from envprov.domain.project import GitChart
from envprov.domain.sizes import DEFAULT_SIZES
from tests.unit.builders import NOW, project

WHOLE = b"""\
# who we are
project: shop
size: M
lifetime:
  kind: until
  at: 2026-12-24T18:00:00+09:00
values:
  image: {tag: "1.10"}
  replicas: 2
  on: yes
  date: 2026-11-24
  time: 22:22
  mode: 0644
chart: {path: deploy/other}
"""


def refusal(raw: bytes | str) -> str:
    with pytest.raises(InvalidBranchFile) as caught:
        parse_branch_file(raw if isinstance(raw, bytes) else raw.encode())
    return str(caught.value)


def test_a_whole_file_is_read() -> None:
    with pytest.raises(InvalidBranchFile, match=r"line 10: values has a key that is no text \(put the key in quotes\)"):
        parse_branch_file(WHOLE)

    file = parse_branch_file(WHOLE.replace(b"  on:", b"  'on':"))

    assert file == BranchFile(
        project="shop",
        size="M",
        lifetime=Until(kind="until", at=datetime(2026, 12, 24, 9, tzinfo=UTC)),
        values={
            "image": {"tag": "1.10"},
            "replicas": 2,
            "on": True,
            "date": "2026-11-24",
            "time": "22:22",
            "mode": 420,
        },
        chart=GitChart(path="deploy/other"),
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"# nothing\n",
        b"---\n",
        b"null\n",
        b"~",
        b"{}",
        b"\xef\xbb\xbf",
        b"size:\nvalues:\nlifetime: ~\n",
        b"---\n...",
    ],
)
def test_a_file_that_says_nothing_is_like_none(raw: bytes) -> None:
    assert parse_branch_file(raw) == BranchFile()


def test_a_byte_order_mark_and_foreign_line_ends_are_understood() -> None:
    assert parse_branch_file(b"\xef\xbb\xbfsize: S\r\nproject: shop\r\n") == BranchFile(size="S", project="shop")
    assert "line 3: oops is no field" in refusal(b"size: S\r\nproject: shop\r\noops: 1\r\n")


def test_json_is_yaml_and_comes_back_as_it_was() -> None:
    values = {"a": [1, 2.5, None, True, "日本語 🎮", "\x41"], "b": {"c": ""}}

    raw = json.dumps({"values": values}, ensure_ascii=False).encode()

    assert parse_branch_file(raw).values == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", False),
        ("On", True),
        ("~", None),
        ("1e3", 1000.0),
        ("-0x1F", -31),
        ("0b11", 3),
        ("0o17", 15),
        ("1_000", 1000),
        ("0x_", "0x_"),
        ("9007199254740992", 2**53),
        ("=", "="),
        ("'1'", "1"),
        ("1.2.3", "1.2.3"),
        ("inf", "inf"),
        ("y", "y"),
    ],
)
def test_scalars_are_read_as_helm_reads_them(text: str, value: object) -> None:
    found = parse_branch_file(f"values: {{x: {text}}}".encode()).values["x"]

    assert found == value
    assert type(found) is type(value)


def test_everything_that_is_wrong_is_said_at_once_with_line_field_reason_and_way_out() -> None:
    raw = """\
sise: S
size: 1
project: Shop/X
lifetime:
  kind: expire-after
  idle: 7d
  wran: P1D
values: [1]
chart: {path: ../other, branch: main}
"""
    assert refusal(raw) == (
        ".envprov.yaml: "
        "line 1: sise is no field (did you mean size? there are project, size, lifetime, values, chart); "
        "line 2: size must be text (put it in quotes); "
        "line 3: project is no name of a Project: lower-case letters, digits and dashes (correct it); "
        "line 6: lifetime.idle is not an ISO 8601 duration such as P7D or PT12H (correct it); "
        "line 7: lifetime.wran is no field (did you mean warn? there are kind, idle, warn); "
        "line 8: values must be a mapping (put its fields below it, indented); "
        "line 9: chart.branch is no field (there are path)"
    )


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param("size: [", "line 1: is not YAML: did not find expected", id="no YAML"),
        pytest.param("a: b: c", "line 1: is not YAML: mapping values are not allowed", id="no YAML on a line"),
        pytest.param("- size", "line 1: the file must be a mapping", id="a list"),
        pytest.param("text", "line 1: the file must be a mapping", id="a scalar"),
        pytest.param("x: &a 1", "line 1: x has an anchor", id="an anchor"),
        pytest.param("a: &a {}\nb: *a", "line 2: b is an alias", id="an alias"),
        pytest.param("*a : 1", "line 1: '?' is an alias", id="an alias as key"),
        pytest.param("&a b: 1", "line 1: '?' has an anchor", id="an anchor on a key"),
        pytest.param("values:\n  <<: {a: 1}", "line 2: values.'<<' is a merge key", id="a merge key"),
        pytest.param("size: !!str S", "line 1: size has a tag", id="a tag of YAML's own"),
        pytest.param("size: !x S", "line 1: size has a tag", id="a tag"),
        pytest.param("size: ! S", "line 1: size has a tag", id="the tag without name"),
        pytest.param("values: !!python/object:os.system {}", "line 1: values has a tag", id="a Python object"),
        pytest.param("size: S\nsize: M", "line 2: size stands here a second time, first in line 1", id="a key twice"),
        pytest.param('values:\n  a: 1\n  "a": 2', "line 3: values.a stands here a second", id="a key twice, in quotes"),
        pytest.param("values: {1: x}", "line 1: values has a key that is no text", id="a number as key"),
        pytest.param("values: {true: x}", "line 1: values has a key that is no text", id="a truth as key"),
        pytest.param("values: {~: x}", "line 1: values has a key that is no text", id="nothing as key"),
        pytest.param("values:\n  ? [a]\n  : x", "line 2: values has a key that is no text", id="a list as key"),
        pytest.param("values:\n  ? {a: b}\n  : x", "line 2: values has a key that is no text", id="a mapping as key"),
        pytest.param('values: {"": x}', "line 1: values has a key that is empty", id="an empty key"),
        pytest.param('values: {"a\\nb": x}', "values has a key that is empty, holds line breaks", id="lines in a key"),
        pytest.param(f"values: {{{'k' * 254}: x}}", "is longer than 253 characters", id="a long key"),
        pytest.param("size: S\n---\nsize: M", "line 2: a second document begins", id="two documents"),
        pytest.param("values: {x: .nan}", "line 1: values.x is no finite number", id="not a number"),
        pytest.param("values: {x: -.Inf}", "line 1: values.x is no finite number", id="infinity"),
        pytest.param("values: {x: 1e999}", "line 1: values.x is no finite number", id="infinity in digits"),
        pytest.param(f"values: {{x: {'9' * 60_000}}}", "values.x is no finite number", id="60,000 digits"),
        pytest.param("values: {x: 9007199254740993}", "values.x is a number that Helm would round", id="2**53 + 1"),
        pytest.param("size: S\nvalues: {x: \x07}", "line 2: holds the control character U+0007", id="a bell"),
        pytest.param("size: S\0", "line 1: holds the control character U+0000", id="a zero"),
        pytest.param("# \x85", "line 1: holds the control character U+0085", id="a line end that is none"),
        pytest.param("# \u2028", "line 1: holds the control character U+2028", id="another one"),
        pytest.param('values: {x: "\\0"}', "line 1: values.x holds a control character", id="an escaped zero"),
        pytest.param('values: {"\\e": 1}', "line 1: values.'?' holds a control character", id="a key with one"),
        pytest.param("values: [" + "[" * 20, "lies more than 20 levels deep", id="depth"),
        pytest.param("values:\n  " + "- " * 20 + "x", "line 2: values.0.0", id="the same in another notation"),
        pytest.param("values: [" + "1," * 2000 + "]", "line 1: there are more than 2000 values", id="many values"),
        pytest.param("#" * 65537, "line 1: the file is larger than 64 KiB", id="too large"),
        pytest.param("lifetime: {}", "line 1: lifetime has no kind", id="no kind"),
        pytest.param(
            "lifetime: {kind: forever}", "lifetime.kind has an unknown kind (give one of keep", id="what kind"
        ),
        pytest.param("lifetime: P7D", "line 1: lifetime must be a mapping", id="a duration for a lifetime"),
        pytest.param("lifetime:\n  kind: until", "line 1: lifetime.at is missing (add it)", id="an end without date"),
        pytest.param("lifetime: {kind: until, at: 2026-12-24}", "lifetime.at is not a moment with date", id="a day"),
        pytest.param(
            "lifetime: {kind: until, at: '2026-13-24T00:00:00Z'}", "lifetime.at should be a valid", id="month 13"
        ),
        pytest.param("lifetime: {kind: until, at: '9999-12-31T00:00:00Z'}", "lifetime.at is too far away", id="9999"),
        pytest.param("lifetime: {kind: keep, idle: P7D}", "lifetime.idle is no field (there are kind)", id="keep idle"),
        pytest.param("lifetime: {kind: expire-after, idle: P0D}", "must be longer than nothing", id="no time"),
        pytest.param("size: X_L", "line 1: size is no name of a size, such as S", id="no size"),
        pytest.param("chart: {}", "line 1: chart.path is missing", id="a chart without path"),
        pytest.param("chart: deploy", "line 1: chart must be a mapping", id="a path for a chart"),
        pytest.param("chart: {path: /etc}", "line 1: chart.path is absolute", id="an absolute chart"),
        pytest.param("Lifetime: {kind: keep}", "Lifetime is no field (did you mean lifetime?", id="upper case"),
        pytest.param("schedule: {}", "line 1: schedule is no field (there are", id="a field of tomorrow"),
    ],
)
def test_what_is_wrong_is_told(raw: str, said: str) -> None:
    assert said in refusal(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff\xfes\0i\0z\0e\0:\0 \0S\0", id="UTF-16"),
        pytest.param(b"size: \xed\xa0\x80", id="half a surrogate pair"),
        pytest.param(b"size: S # \xc0\xaf", id="an overlong slash"),
    ],
)
def test_only_utf_8_is_read(raw: bytes) -> None:
    assert "line 1: is not UTF-8 (save the file as UTF-8)" in refusal(raw)


def test_a_fault_does_not_hide_the_others_nor_count_twice() -> None:
    assert refusal("size: !x 1\nlifetime: &a {kind: never}\nfoo: 1\nvalues: {a: .inf}") == (
        ".envprov.yaml: line 1: size has a tag (take out the ! and its name); "
        "line 2: lifetime has an anchor (take out the & and its name); "
        "line 3: foo is no field (there are project, size, lifetime, values, chart); "
        "line 4: values.a is no finite number (give a number, or put it in quotes)"
    )


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"#" * 65537, "line 1: the file is larger than 64 KiB (shorten it)"),
        (b"size: S\nfoo: \xff", "line 2: is not UTF-8 (save the file as UTF-8)"),
        (b"values: [" + b"1," * 5000 + b"]\nfoo: 1", "line 1: there are more than 2000 values (shorten the file)"),
        (
            b"\0foo: 1",
            "line 1: holds the control character U+0000 (take it out, or write it as an escape in double quotes)",
        ),
        (
            b"values: " + b"[" * 30 + b"]" * 30,
            f"line 1: values.{'.'.join('0' * 19)} lies more than 20 levels deep (make it flatter)",
        ),
        (b"&a foo: 1", "line 1: '?' has an anchor (take out the & and its name)"),
    ],
)
def test_where_reading_ends_nothing_more_is_said(raw: bytes, said: str) -> None:
    assert refusal(raw) == f".envprov.yaml: {said}"


def test_no_message_quotes_a_value_or_grows_without_end() -> None:
    secret = "hunter2" * 500
    raw = f"""\
project: "{secret}"
size: "{secret}"
lifetime: {{kind: "{secret}"}}
values: {{password: !x "{secret}", "{"p" * 250}\\e": 1}}
chart: {{path: "{secret}/.."}}
"""
    message = refusal(raw + "".join(f"x{n}: 1\n" for n in range(100)))

    assert "hunter2" not in message
    assert len(message) < 4000
    assert message.endswith("; and 91 more")


def test_a_strangers_key_is_escaped_and_shortened() -> None:
    message = refusal('"a\\u202e' + "b" * 200 + '": 1')

    assert "'a\\u202ebbb" in message
    assert "b" * 40 not in message
    assert message.isprintable()


# PyYAML's own line numbers begin anew with each read; a long file makes sure.
def test_lines_are_right_far_down() -> None:
    lines = "".join(f"  k{n}: |\n    text\n    text\n" for n in range(600))

    assert f"line {600 * 3 + 2}: oops" in refusal(f"values:\n{lines}oops: 1\n")


HOSTILE = [
    pytest.param(b"[" * 65536, id="brackets"),
    pytest.param(b"{" * 65536, id="braces"),
    pytest.param(b"- " * 32768, id="dashes"),
    pytest.param(b"? " * 32768, id="question marks"),
    pytest.param(b"a: " * 20000, id="colons"),
    pytest.param(b"[a," * 20000, id="half lists"),
    pytest.param(b"x: [" + b"{}," * 21000 + b"]", id="empty mappings"),
    pytest.param(b"x: " + b"a " * 32000, id="words"),
    pytest.param(b"x: '" + b"a\n\n" * 21000 + b"'", id="lines in quotes"),
    pytest.param(b'x: "' + b"\\x41" * 16000 + b'"', id="escapes"),
    pytest.param(b"x: |\n" + b" a\n" * 21000, id="a block"),
    pytest.param(b"#" + b"\n#" * 32000, id="comments"),
    pytest.param(b"\n" * 65536, id="blank lines"),
    pytest.param(b" " * 65536, id="blanks"),
    pytest.param(b"x: " + b"9" * 65000, id="digits"),
    pytest.param(b"x: 1." + b"9" * 65000, id="a fraction"),
    pytest.param(b"".join(b"k%d: 1\n" % n for n in range(6000)), id="keys"),
    pytest.param(b"values:\n" + b"".join(b" k%d: .nan\n" % n for n in range(990)), id="faults"),
    pytest.param(b"".join(b"lifetim%d: 1\n" % n for n in range(990)), id="near misses"),
    pytest.param(b"%YAML 1.1\n" * 6000, id="directives"),
    pytest.param(b"---\n" * 16000, id="documents"),
    pytest.param(b"&a " * 21000, id="anchors"),
    pytest.param(b"a: &a [x]\n" + b"".join(b"b%d: [*a, *a]\n" % n for n in range(4000)), id="laughs"),
    pytest.param(b"!" * 65536, id="tags"),
    pytest.param(b"x: " + b"\xf0\x9f\x8e\xae" * 16000, id="emoji"),
    pytest.param(bytes(range(256)) * 256, id="all bytes"),
    pytest.param(b"values: {" + b"a: {" * 18 + b"k: 1" + b"}" * 19, id="deep, but not too deep"),
]


@pytest.mark.parametrize("raw", HOSTILE)
def test_hostile_files_are_done_with_at_once_and_cost_little(raw: bytes) -> None:
    parse_quietly(b"size: S")
    tracemalloc.start()
    parse_quietly(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    took = []
    for _ in range(3):
        begun = time.process_time()
        parse_quietly(raw)
        took.append(time.process_time() - begun)

    assert min(took) < 0.05
    assert peak < 8 << 20


def parse_quietly(raw: bytes) -> BranchFile | None:
    with suppress(InvalidBranchFile):
        return parse_branch_file(raw)
    return None


FRAGMENTS = (
    *"[]{}:,-?&*!|>'\"%@`#~<=. \n\t\r\0",
    *("size", "values: ", "lifetime: ", "kind: until", "- ", "? ", "---\n", "...\n", "&a ", "*a ", "<<: ", "!!str "),
    *("\\u0000", "\x85", "\u2028", "\ud7ff", "🎮", "2026-12-24", ".inf", "1e9", "0x"),
)
JUNK = st.lists(st.sampled_from(FRAGMENTS), max_size=60).map(lambda parts: "".join(parts).encode())


@given(st.binary(max_size=300) | JUNK)
@settings(max_examples=1500, deadline=None)
def test_junk_never_raises_anything_else(raw: bytes) -> None:
    parse_quietly(raw)


KEYS = st.text("ab.*-", min_size=1, max_size=4)
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs", "So")), max_size=20)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_values_come_back_as_they_were_written(values: dict[str, Any]) -> None:
    raw = json.dumps({"values": values}, ensure_ascii=False).encode()

    assert parse_branch_file(raw).values == values


# What the Project lets it decide.


def outcome(raw: str, branch: str = "feature/x", **spec: Any) -> BranchFile:  # noqa: ANN401 - any field
    return bounded(parse_branch_file(raw.encode()), project(**spec), branch, DEFAULT_SIZES, now=NOW)


def refused(raw: str, **spec: Any) -> str:  # noqa: ANN401 - any field
    with pytest.raises(InvalidBranchFile) as caught:
        outcome(raw, **spec)
    return str(caught.value).removeprefix(".envprov.yaml: ")


SMALL = {"cpu": "1", "memory": "1Gi", "memoryLimit": "1Gi", "pods": 1}


@pytest.mark.parametrize(
    ("raw", "spec"),
    [
        pytest.param("size: S", {}, id="the default size"),
        pytest.param("size: M", {"sizes": {"allowed": ["S", "M"]}}, id="an allowed size"),
        pytest.param("size: L", {"rules": [{"branches": ["*"], "size": "L"}]}, id="the rule's size"),
        pytest.param("size: tiny", {"sizes": {"allowed": ["tiny"], "custom": {"tiny": SMALL}}}, id="the Project's own"),
        pytest.param("lifetime: {kind: keep}", {}, id="keep, without a maximum"),
        pytest.param(
            "lifetime: {kind: keep}",
            {"limits": {"lifetime": "P7D"}, "rules": [{"branches": ["*"], "lifetime": {"kind": "keep"}}]},
            id="keep, as the rule says",
        ),
        pytest.param(
            "lifetime: {kind: expire-after, idle: P7D}", {"limits": {"lifetime": "P7D"}}, id="as long as may be"
        ),
        pytest.param(
            "lifetime: {kind: until, at: '2026-12-01T12:00:00Z'}",
            {"limits": {"lifetime": "P7D"}},
            id="as late as may be",
        ),
        pytest.param(
            "lifetime: {kind: until, at: '2020-12-01T12:00:00Z'}", {"limits": {"lifetime": "P7D"}}, id="over already"
        ),
        pytest.param("values: {image: {tag: x}}", {"branchFile": {"values": ["image.tag"]}}, id="a value"),
        pytest.param("values: {image: {tag: ~}}", {"branchFile": {"values": ["image.tag"]}}, id="a value taken away"),
        pytest.param("values: {image: {tag: {}}}", {"branchFile": {"values": ["image.tag"]}}, id="nothing in it"),
        pytest.param("values: {web: {a: {b: [1]}, c: 1}}", {"branchFile": {"values": ["web.*"]}}, id="all below"),
        pytest.param("values: {web: ~, x.y: {'*': 1}}", {"branchFile": {"values": ["*"]}}, id="all"),
        pytest.param("values: {}", {}, id="no values"),
        pytest.param("chart: {path: other}", {"branchFile": {"chart": True}}, id="another chart"),
        pytest.param("chart: {path: a/b}", {"chart": {"git": {"path": "a/b"}}}, id="the Project's own chart"),
        pytest.param("project: another", {}, id="another Project: the controller does not mind"),
    ],
)
def test_what_the_project_allows_stays_as_it_is(raw: str, spec: dict[str, Any]) -> None:
    assert outcome(raw, **spec) == parse_branch_file(raw.encode())


@pytest.mark.parametrize(
    ("raw", "spec", "said"),
    [
        pytest.param(
            "size: L",
            {"sizes": {"default": "M", "allowed": ["S"]}},
            "line 1: size is not allowed in Project shop (choose among M, S)",
            id="a size that is not allowed",
        ),
        pytest.param("\nsize: XXL", {}, "line 2: size is unknown (choose among S)", id="a size that is none"),
        pytest.param(
            "size: S",
            {"rules": [{"branches": ["*"], "size": "L"}], "sizes": {"allowed": []}},
            "line 1: size is not allowed in Project shop (choose among L)",
            id="the default size, but the rule says another",
        ),
        pytest.param(
            "lifetime:\n  kind: keep",
            {"limits": {"lifetime": "P7D"}},
            "line 2: lifetime.kind would have no end, and Project shop allows P7D at most "
            "(give kind: expire-after or until)",
            id="no end",
        ),
        pytest.param(
            "lifetime:\n  kind: expire-after\n  idle: P7DT1S",
            {"limits": {"lifetime": "P7D"}},
            "line 3: lifetime.idle is longer than allowed: Project shop allows P7D at most (shorten it)",
            id="a second too long",
        ),
        pytest.param(
            "lifetime: {kind: until, at: '2026-12-01T12:00:01Z'}",
            {"limits": {"lifetime": "P7D"}},
            "line 1: lifetime.at is later than allowed: Project shop allows P7D at most from now (give an earlier end)",
            id="a second too late",
        ),
        pytest.param(
            "values:\n  image:\n    tag: x",
            {},
            "line 3: values.image.tag may not be set by a branch of Project shop "
            "(add image.tag to spec.branchFile.values of the Project)",
            id="no value may be set",
        ),
        pytest.param(
            "values: {image.tag: x}",
            {"branchFile": {"values": ["image.tag"]}},
            "line 1: values.'image.tag' may not be set by a branch of Project shop "
            "(add * to spec.branchFile.values of the Project)",
            id="a key that looks like an allowed path",
        ),
        pytest.param(
            "values: {web: {'a b': {c: 1}}}",
            {},
            "line 1: values.web.'a b'.c may not be set by a branch of Project shop "
            "(add web.* to spec.branchFile.values of the Project)",
            id="a key that no path can name",
        ),
        pytest.param(
            "chart: {path: other}",
            {"chart": {"git": {"path": "deploy"}}},
            "line 1: chart.path may not be chosen by a branch of Project shop "
            "(set spec.branchFile.chart: true in the Project)",
            id="another chart",
        ),
    ],
)
def test_what_the_project_does_not_allow_is_refused(raw: str, spec: dict[str, Any], said: str) -> None:
    assert refused(raw, **spec) == said


@pytest.mark.parametrize(
    ("allowed", "values"),
    [
        pytest.param("image", "{image: {tag: x}}", id="the parent is not all below it"),
        pytest.param("image.tag", "{image: {tag: {a: 1}}}", id="nor is a path what lies below it"),
        pytest.param("image.tag", "{image: x}", id="nor its parent"),
        pytest.param("web.*", "{web: 1}", id="all below is not the parent itself"),
        pytest.param("web.*", "{web: ~}", id="nor may that be taken away"),
        pytest.param("web.*", "{web: {}}", id="nor emptied"),
        pytest.param("web.*", "{webs: {a: 1}}", id="nor a longer name"),
        pytest.param("web.*", "{web.a: {b: 1}}", id="nor a name with a dot"),
        pytest.param("a.b.*", "{a: {c: {d: 1}}}", id="nor a sibling"),
        pytest.param("image.tag", "{image: {tag: x, repository: evil}}", id="nor what stands beside it"),
    ],
)
def test_values_are_compared_part_by_part(allowed: str, values: str) -> None:
    assert "may not be set" in refused(f"values: {values}", branchFile={"values": [allowed]})


def test_all_that_is_not_allowed_is_said_at_once() -> None:
    raw = "size: L\nlifetime: {kind: keep}\nvalues:\n  a: 1\n  b: 2\nchart: {path: c}\n"

    said = refused(raw, limits={"lifetime": "P1D"})

    assert [part.split(" ")[2] for part in said.split("; ")] == [
        "size",
        "lifetime.kind",
        "values.a",
        "values.b",
        "chart.path",
    ]


def test_a_project_that_does_not_want_the_file_gets_none() -> None:
    assert outcome("size: L\nvalues: {a: 1}", branchFile={"read": False}) == BranchFile()


def test_lifetimes_are_what_they_say() -> None:
    assert outcome("lifetime: {kind: keep}").lifetime == Keep(kind="keep")
    assert outcome("lifetime: {kind: expire-after, idle: PT12H, warn: PT1H}").lifetime == ExpireAfter(
        kind="expire-after", idle=timedelta(hours=12), warn=timedelta(hours=1)
    )


@pytest.mark.parametrize("path", ["chart", "deploy/chart", ".", "a/.b/c", "deploy/ch art", "日本語", "x" * 255])
def test_a_folder_is_a_path(path: str) -> None:
    assert chart_path_fault(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/..",
        "../a",
        "a/../b",
        "./a",
        "a/.",
        "a\\b",
        "a\nb",
        "a\0",
        "\x7f",
        "é" * 128,
    ],
)
def test_what_is_no_folder_of_the_repository_is_refused(path: str) -> None:
    assert chart_path_fault(path) is not None
