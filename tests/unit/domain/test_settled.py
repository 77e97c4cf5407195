"""Which file of the branch is in force: the one of the commit, or the last good one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from envprov.domain.desired import desire
from envprov.domain.environment import BranchFileStatus, Environment
from envprov.domain.errors import InvalidBranchFile
from envprov.domain.health import Condition, Health
from envprov.domain.lifetime import Keep
from envprov.domain.observed import Observed
from envprov.domain.plan import Phase, Plan
from envprov.domain.project import Project
from envprov.domain.report import report_progress
from envprov.domain.settled import check_settled, is_settled, reads_file, settle
from tests.unit.builders import COMMIT, NOW, environment, ours, platform, project, release

OLDER = "b" * 40
RULES = {"gitlab": {"project": "group/shop"}, "sizes": {"allowed": ["S", "M"]}, "branchFile": {"values": ["image.tag"]}}
GOOD = b"size: M\nvalues: {image: {tag: v2}}\n"
WRONG = b"size: XL\n"


def shop(**spec: Any) -> Project:  # noqa: ANN401 - any field
    return project(**{**RULES, **spec})


def knowing(known: BranchFileStatus) -> Environment:
    given = environment()
    return given.model_copy(update={"status": given.status.model_copy(update={"branch_file": known})})


def test_the_file_of_the_commit_is_in_force() -> None:
    known = settle(environment(), shop(), platform().sizes, GOOD, now=NOW)
    assert known == BranchFileStatus(revision=COMMIT, looked=COMMIT, size="M", values={"image": {"tag": "v2"}})
    wanted = desire(environment(), shop(values={"image": {"tag": "v1", "name": "shop"}}), platform(), known)
    assert wanted.size_name == "M"
    assert {"image": {"tag": "v2"}} in wanted.values


def test_a_person_comes_before_the_file_and_the_file_before_the_rule() -> None:
    known = settle(environment(), shop(), platform().sizes, b"size: M\nlifetime: {kind: keep}\n", now=NOW)
    rules = shop(rules=[{"branches": ["*"], "lifetime": {"kind": "expire-after", "idle": "P1D"}}])
    assert desire(environment(), rules, platform(), known).lifetime == Keep(kind="keep")
    assert desire(environment(size="S"), rules, platform(), known).size_name == "S"


def test_no_file_says_nothing_and_is_right() -> None:
    known = settle(environment(), shop(), platform().sizes, None, now=NOW)
    assert known == BranchFileStatus(revision=COMMIT, looked=COMMIT)
    assert is_settled(knowing(known))


def test_after_a_wrong_file_the_last_good_one_stays_in_force_and_the_condition_says_so() -> None:
    before = BranchFileStatus(revision=OLDER, looked=OLDER, size="M")
    known = settle(knowing(before), shop(), platform().sizes, WRONG, now=NOW)
    assert (known.revision, known.looked, known.size) == (OLDER, COMMIT, "M")
    assert "line 1" in known.fault
    assert not is_settled(knowing(known))  # the Project may come to allow it
    wanted = desire(environment(), shop(), platform(), known)
    observed = Observed(ours(), release=release(), digest="d1", health=Health(Condition.HEALTHY))
    status = report_progress(environment(), wanted, observed, Plan(Phase.READY, "well"), NOW)
    accepted = next(one for one in status.conditions if one.type == "Accepted")
    assert (accepted.status, accepted.reason) == ("True", "BranchFileIgnored")
    assert f"commit {COMMIT[:12]}" in accepted.message
    assert f"what commit {OLDER[:12]} says stays in force" in accepted.message
    assert status.branch_file == known


def test_a_wrong_file_with_no_good_one_before_is_refused() -> None:
    with pytest.raises(InvalidBranchFile, match="line 1"):
        settle(environment(), shop(), platform().sizes, WRONG, now=NOW)


def test_what_a_project_has_come_to_forbid_is_no_longer_in_force() -> None:
    known = settle(environment(), shop(), platform().sizes, GOOD, now=NOW)
    check_settled(known, environment(), shop(), platform().sizes, now=NOW + timedelta(days=1))
    with pytest.raises(InvalidBranchFile):
        check_settled(known, environment(), shop(branchFile={"values": []}), platform().sizes, now=NOW)


@pytest.mark.parametrize(
    ("spec", "rules", "expected"),
    [
        pytest.param({}, shop(), True, id="a commit of a project in GitLab -> read"),
        pytest.param({"revision": ""}, shop(), False, id="no commit -> nothing to read"),
        pytest.param({}, shop(branchFile={"read": False}), False, id="switched off -> not read"),
        pytest.param({}, project(), False, id="no GitLab -> nothing to read"),
    ],
)
def test_when_a_file_is_read(spec: dict[str, Any], rules: Project, *, expected: bool) -> None:
    assert reads_file(environment(**spec), rules) is expected
