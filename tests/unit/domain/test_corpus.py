"""The corpus: every chart that breaks a rule is refused for just that, and no good one is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envprov.domain.checking import Given
from envprov.domain.checks import escapes, isolation, marks, pod_rules, scope, services
from envprov.domain.checks.catalogue import RULES, check
from envprov.domain.findings import Finding, Severity, refusing
from tests import corpus
from tests.corpus import Case
from tests.unit import facts

REFUSED, PASSED = corpus.refused(), corpus.passed()

ESCAPES = {
    rule.reason
    for module in (scope, services, escapes, isolation, pod_rules)
    for rule in module.RULES
    if rule not in (scope.UNKNOWN_KIND, scope.MISSING_DEFINITION)
} | {marks.RESERVED.reason, marks.BASE_OBJECT.reason, marks.OWN_BUDGET.reason}
"""What reaches out of the namespace, or takes over what is shared or envprov's own."""

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(("keep", "0.0.0.0/0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def chart(case: Case) -> Given:
    """Return a case as the checks are given it."""
    return facts.given(
        *case.objects, desired=facts.wanted(**dict(case.project)), seen=replace(facts.FACTS, **dict(case.facts))
    )


def told(finding: Finding) -> tuple[str, str, str]:
    """Return what a case says of a finding."""
    subject = finding.subject
    about = f"{subject.kind or '(none)'} {subject.name or '(without a name)'}" if subject else ""
    return finding.reason, about, finding.field


def named(cases: tuple[Case, ...]) -> list[Any]:
    """Return cases as parameters that bear their names."""
    return [pytest.param(case, id=case.name) for case in cases]


@pytest.mark.parametrize("case", named(REFUSED))
def test_a_chart_that_breaks_a_rule_is_refused_for_that_alone(case: Case) -> None:
    errors = refusing(check(chart(case)))

    assert [told(finding) for finding in errors] == [(case.reason, case.object, case.field)]
    assert errors[0].message
    assert errors[0].remedy


@pytest.mark.parametrize("case", named(PASSED))
def test_a_good_chart_passes(case: Case) -> None:
    assert refusing(check(chart(case))) == ()


def test_the_corpus_is_large_enough() -> None:
    assert len(REFUSED) >= 160
    assert len([case for case in REFUSED if case.reason in ESCAPES]) >= 60
    assert len(PASSED) >= 15


def test_every_reason_is_a_rule_of_the_catalogue() -> None:
    reasons = [rule.reason for rule in RULES]

    assert len(reasons) == len(set(reasons))
    assert {case.reason for case in REFUSED} <= set(reasons)


@pytest.mark.parametrize("case", named(REFUSED))
def test_a_project_can_agree_to_be_warned_only(case: Case) -> None:
    desired = facts.wanted(**{**dict(case.project), "checks": {"warnOnly": ["*"]}})

    findings = check(replace(chart(case), desired=desired))

    assert case.reason in facts.reasons(findings)
    assert all(finding.severity >= Severity.WARNING for finding in findings)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_chart_makes_a_check_raise(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(REFUSED + PASSED))
    objects: list[Any] = copy.deepcopy(list(case.objects))
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(places(objects))))
        holder[key] = data.draw(JUNK)

    findings = check(replace(chart(case), objects=tuple(item for item in objects if isinstance(item, dict))))

    assert all(str(finding) for finding in findings)


@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, [{}, ["x"], None], {"x": [{"y": None}]}], ids=repr)
def test_no_place_of_a_chart_makes_a_check_raise(junk: object) -> None:
    for case in REFUSED + PASSED:
        charts = (mutant for given in case.objects for mutant in mutants(given, junk))

        findings = check(replace(chart(case), objects=tuple(item for item in charts if isinstance(item, dict))))

        assert all(str(finding) for finding in findings)


def mutants(value: Any, junk: object) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    """Yield copies of a value, each with the junk in another place."""
    yield junk
    if isinstance(value, dict):
        for key, child in value.items():
            yield from ({**value, key: mutant} for mutant in mutants(child, junk))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from ([*value[:number], mutant, *value[number + 1 :]] for mutant in mutants(child, junk))


def places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - any JSON
    """Yield every place in nested lists and mappings, as what holds it and its key there."""
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])
