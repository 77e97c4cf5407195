"""Every rule has a name of its own, a place in the docs, and something that breaks it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from envprov.domain.checks.catalogue import RULES
from envprov.domain.findings import Rule
from tests import corpus

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "findings.md").read_text()
TESTS = "\n".join(
    path.read_text() for folder in ("unit", "integration") for path in sorted((ROOT / "tests" / folder).rglob("*.py"))
)
BROKEN = {case.reason for case in corpus.refused()}


def test_no_two_rules_share_a_reason() -> None:
    reasons = [rule.reason for rule in RULES]
    assert len(reasons) == len(set(reasons))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_a_rule_is_named_documented_and_broken_somewhere(rule: Rule) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", rule.reason), "CamelCase, as warnOnly takes it"
    assert len(rule.reason) <= 64
    assert f"\n### {rule.reason}\n" in PAGE
    assert f"[{rule.reason}](#{rule.reason.lower()})" in PAGE
    assert rule.reason in BROKEN or re.search(rf"\b{rule.reason}\b", TESTS), "no test breaks it"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_a_rule_says_why_it_is_there_and_what_to_do(rule: Rule) -> None:
    assert rule.cause.endswith(".")
    assert rule.remedy


def test_nothing_is_documented_that_cannot_be_found() -> None:
    assert set(re.findall(r"^### (\S+)$", PAGE, re.MULTILINE)) == {rule.reason for rule in RULES}


def test_the_page_is_among_the_docs_that_the_readme_lists() -> None:
    assert "(docs/findings.md)" in (ROOT / "README.md").read_text()
