"""Why an account is kept, as people read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from envprov.domain.explanation import Explanation, Row, describe
from envprov.domain.guard import Guarded
from envprov.domain.holds import Account, Hold, Holder
from envprov.domain.usage import Claim, Strength, Usage

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BORN = datetime(2026, 2, 1, tzinfo=UTC)
DEPLOYER = Account("shared", "deployer")
WEB = Holder("Deployment", "env-a", "web", "uid-web")
BINDING = Holder("ClusterRoleBinding", "", "deployers", "uid-rb")
ENVIRONMENT = Holder("Environment", "envprov-system", "a", "uid-a")
RUNNER = Holder("External", "", "ci-runner")

USED = Claim(DEPLOYER, WEB, Strength.LIVE, "spec", BORN)
GRANTED = Claim(DEPLOYER, BINDING, Strength.GRANT, "subject")
TRUSTED = Claim(DEPLOYER, Holder("VaultRole", "", "db"), Strength.IDENTITY, "annotation")


def graph(*claims: Claim, faults: tuple[str, ...] = ()) -> Usage:
    return Usage({DEPLOYER: claims}, faults)


def told(account: Guarded, usage: Usage) -> Explanation:
    return describe(account, usage, NOW, {"env-a": ENVIRONMENT})


def test_claims_and_holds_are_rows_and_those_that_keep_it_come_first() -> None:
    holds = (
        Hold(ENVIRONMENT, BORN, "spec"),
        Hold(RUNNER, BORN, "deploys", expires=NOW),
        Hold(Holder("External", "", "other"), BORN, expires=NOW + timedelta(hours=1)),
        Hold(Holder("Job", "ops", "gone", "u"), BORN, "spec"),
    )
    told_rows = told(Guarded(DEPLOYER, holds=holds), graph(TRUSTED, USED, GRANTED)).rows
    assert told_rows == (
        Row("env-a/web", "Deployment", "live", "spec", BORN, "seen and held", keeps=True),
        Row("deployers", "ClusterRoleBinding", "grant", "subject", None, "seen", keeps=True),
        Row("ci-runner", "External", "declared", "deploys", BORN, "held, ran out on 2026-03-01 12:00", keeps=True),
        Row("other", "External", "declared", "", BORN, "held, runs out on 2026-03-01 13:00", keeps=True),
        Row("ops/gone", "Job", "hold", "spec", BORN, "held", keeps=True),
        Row("db", "VaultRole", "identity", "annotation", None, "seen", keeps=False),
    )


def test_a_hold_without_end_is_declared_by_its_kind_and_one_with_an_end_by_that() -> None:
    holds = (Hold(RUNNER, BORN), Hold(WEB, BORN, expires=NOW + timedelta(days=1)))
    rows = describe(Guarded(DEPLOYER, holds=holds), graph(), NOW).rows
    assert [(row.strength, row.evidence) for row in rows] == [
        ("declared", "held"),
        ("declared", "held, runs out on 2026-03-02 12:00"),
    ]


def test_without_the_environments_holders_stand_for_themselves() -> None:
    given = Guarded(DEPLOYER, holds=(Hold(ENVIRONMENT, BORN),))
    assert [row.evidence for row in describe(given, graph(USED), NOW).rows] == ["seen", "held"]
    own = Guarded(DEPLOYER, holds=(Hold(WEB, BORN),))
    assert [row.evidence for row in describe(own, graph(USED), NOW).rows] == ["seen and held"]


def test_a_hold_is_not_matched_by_what_keeps_nothing() -> None:
    holder = TRUSTED.holder
    rows = describe(Guarded(DEPLOYER, holds=(Hold(holder, BORN),)), graph(TRUSTED), NOW).rows
    assert [(row.evidence, row.keeps) for row in rows] == [("held", True), ("seen", False)]


@pytest.mark.parametrize(
    ("account", "usage", "expected"),
    [
        pytest.param(
            Guarded(DEPLOYER, terminating=True, holds=(Hold(WEB, BORN),)),
            graph(USED),
            "it is being deleted already",
            id="going",
        ),
        pytest.param(
            Guarded(DEPLOYER, shared=True, released=True, holds=(Hold(WEB, BORN), Hold(RUNNER, BORN))),
            graph(),
            "refused: 2 holds are on it",
            id="held",
        ),
        pytest.param(Guarded(DEPLOYER, holds=(Hold(WEB, BORN),)), graph(), "refused: 1 hold is on it", id="held once"),
        pytest.param(
            Guarded(DEPLOYER, shared=True), graph(USED), "refused: it is shared and not released", id="shared"
        ),
        pytest.param(
            Guarded(DEPLOYER, shared=True, released=True),
            graph(USED, GRANTED, TRUSTED),
            "it would go, and 2 would lose it: no hold is on it",
            id="used without a hold",
        ),
        pytest.param(
            Guarded(DEPLOYER), graph(faults=("x",)), "it would go; whether anything uses it is not known", id="unknown"
        ),
        pytest.param(
            Guarded(DEPLOYER), graph(TRUSTED), "it would go; nothing that can be seen uses it", id="used by nobody"
        ),
    ],
)
def test_what_deleting_it_would_come_to(account: Guarded, usage: Usage, expected: str) -> None:
    assert told(account, usage).on_delete == expected


@pytest.mark.parametrize(
    ("account", "usage", "expected"),
    [
        pytest.param(Guarded(DEPLOYER), graph(TRUSTED), (), id="used by nobody"),
        pytest.param(
            Guarded(DEPLOYER),
            graph(USED, faults=("Pod: forbidden",)),
            (
                "look again when this is mended: Pod: forbidden",
                "let Deployment env-a/web use another one: spec",
                "envprov guard hold shared/deployer, if it has to stay",
            ),
            id="used, in an incomplete graph",
        ),
        pytest.param(
            Guarded(DEPLOYER, terminating=True),
            graph(USED),
            ("let Deployment env-a/web use another one: spec",),
            id="used and going",
        ),
        pytest.param(
            Guarded(
                DEPLOYER,
                holds=(
                    Hold(RUNNER, BORN, expires=NOW),
                    Hold(Holder("External", "", "team"), BORN),
                    Hold(Holder("Unknown", "", "hold.envprov.io/x"), BORN, read_key="hold.envprov.io/x"),
                    Hold(WEB, BORN),
                ),
            ),
            graph(USED),
            (
                "envprov guard release shared/deployer --by ci-runner, if that uses it no more: its hold ran out",
                "ask team, which declared that it uses it",
                "look at annotation hold.envprov.io/x, which cannot be read",
                "let Deployment env-a/web use another one: spec",
            ),
            id="held",
        ),
    ],
)
def test_what_to_do_is_said_in_order(account: Guarded, usage: Usage, expected: tuple[str, ...]) -> None:
    assert told(account, usage).advice == expected


def test_an_explanation_says_of_what_it_is() -> None:
    assert told(Guarded(DEPLOYER), graph()).account == DEPLOYER
