"""What GitLab ought to show: the same fact is the same text, told once, and nobody else's text does anything in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.environment import Environment, GitLabStatus, parse_environment, told_of
from envprov.domain.health import Condition, Health
from envprov.domain.markdown import code
from envprov.domain.note import digest_of, marker
from envprov.domain.observed import Observed
from envprov.domain.plan import Phase, Plan
from envprov.domain.project import Project
from envprov.domain.publication import Publication, farewell, fork_iid, wanted
from envprov.domain.publication_steps import (
    DeleteEnvironment,
    EditNote,
    EndDeployment,
    EnsureEnvironment,
    SetStatus,
    StartDeployment,
    Step,
    StopEnvironment,
    WriteNote,
    intent,
    steps,
)
from envprov.domain.report import report_progress
from envprov.domain.told import Debt, together
from tests.unit.builders import (
    COMMIT,
    DIGEST,
    NOW,
    SLUG,
    desired,
    environment,
    environment_manifest,
    ours,
    project,
    release,
    reported,
)

NAME = f"envprov/{SLUG}"
URL = "https://feature-x.dev.example.com"
OTHER = "b" * 40


def shop(**gitlab: Any) -> Project:  # noqa: ANN401 - any field
    return project(gitlab={"project": "group/shop"} | gitlab)


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-24T11:30:00Z",
    }


def standing(
    reason: str,
    message: str = "",
    *more: dict[str, str],
    deployed: str = "",
    **status: Any,  # noqa: ANN401 - any field
) -> Environment:
    """Return feature/x with this reason of its Ready condition."""
    ready = condition("Ready", "True" if reason == "Ready" else "False", reason, message)
    given = {"observedGeneration": 1, "url": URL, "size": "S", "conditions": [*more, ready]}
    return reported(environment(), given | ({"observedRevision": deployed} if deployed else {}) | status)


def ready(**status: Any) -> Environment:  # noqa: ANN401 - any field
    return standing("Ready", URL, deployed=COMMIT, **status)


def asleep(given: Environment, **update: Any) -> Environment:  # noqa: ANN401 - any field
    return given.model_copy(update={"spec": given.spec.model_copy(update={"asleep": True}), **update})


def going(given: Environment) -> Environment:
    return given.model_copy(update={"deleting": True})


def publication(given: Environment, where: Project | None = None, *requests: int) -> Publication:
    found = wanted(given, where or shop(), requests)
    assert found is not None
    return found


def note(given: Environment, where: Project | None = None) -> str:
    text = publication(given, where).note
    assert text is not None
    return text


def told(**facts: Any) -> GitLabStatus:  # noqa: ANN401 - any field
    return GitLabStatus.model_validate({"project": "group/shop"} | facts)


SHOWN = {"id": 1, "name": NAME, "url": URL}


def deployed(status: str, revision: str = COMMIT, number: int | None = 7) -> dict[str, Any]:
    return {"id": number, "revision": revision, "status": status}


QUIET = shop(report={"note": False})

ROWS: list[Any] = [
    pytest.param(
        standing("Deploying"),
        None,
        (EnsureEnvironment(NAME, URL), StartDeployment(NAME, COMMIT, "feature/x", "running")),
        id="new -> an environment and a deployment that runs",
    ),
    pytest.param(
        ready(),
        told(environment=SHOWN, deployment=deployed("running")),
        (EndDeployment(NAME, 7, COMMIT, "success"),),
        id="ready -> the deployment has succeeded",
    ),
    pytest.param(ready(), told(environment=SHOWN, deployment=deployed("success")), (), id="told -> nothing"),
    pytest.param(
        ready(url="https://other.example.com"),
        told(environment=SHOWN, deployment=deployed("success")),
        (EnsureEnvironment(NAME, "https://other.example.com", 1),),
        id="another host -> the URL moves",
    ),
    pytest.param(
        standing("Deploying", deployed=OTHER),
        told(environment=SHOWN, deployment=deployed("running", OTHER)),
        (EndDeployment(NAME, 7, OTHER, "canceled"), StartDeployment(NAME, COMMIT, "feature/x", "running")),
        id="superseded while it ran -> canceled, and the next begins",
    ),
    pytest.param(
        standing("Deploying", deployed=OTHER),
        told(environment=SHOWN, deployment=deployed("success", OTHER)),
        (StartDeployment(NAME, COMMIT, "feature/x", "running"),),
        id="a new commit -> the one before stays as it ended",
    ),
    pytest.param(
        standing("Stalled", "no chart", condition("Accepted", "False", "ChartNotFound", "no chart")),
        told(environment=SHOWN, deployment=deployed("running")),
        (EndDeployment(NAME, 7, COMMIT, "failed"),),
        id="stalled -> failed",
    ),
    pytest.param(
        standing("Retrying", "Helm", condition("Deployed", "False", "HelmFailed", "Helm")),
        told(environment=SHOWN, deployment=deployed("running")),
        (EndDeployment(NAME, 7, COMMIT, "failed"),),
        id="Helm failed -> failed",
    ),
    pytest.param(
        standing("Retrying", "no answer"),
        told(environment=SHOWN, deployment=deployed("running")),
        (),
        id="a fault that passes -> it runs",
    ),
    pytest.param(
        standing("Deploying"),
        told(environment=SHOWN, deployment=deployed("failed")),
        (),
        id="failed and tried again -> GitLab knows no way back",
    ),
    pytest.param(
        ready(),
        told(environment=SHOWN, deployment=deployed("failed")),
        (EndDeployment(NAME, 7, COMMIT, "success"),),
        id="failed, then ready -> succeeded",
    ),
    pytest.param(
        standing("Starting", "0 of 1 pods", deployed=COMMIT),
        told(environment=SHOWN, deployment=deployed("success")),
        (),
        id="a pod is restarted -> no deployment",
    ),
    pytest.param(
        ready(),
        told(environment=SHOWN, deployment=deployed("canceled")),
        (StartDeployment(NAME, COMMIT, "feature/x", "success"),),
        id="canceled once, wanted again -> a new one",
    ),
    pytest.param(
        ready(),
        told(environment=SHOWN, deployment=deployed("refused", number=None)),
        (),
        id="GitLab refuses the commit -> not asked again",
    ),
    pytest.param(
        ready(),
        told(environment={"name": NAME}),
        (EnsureEnvironment(NAME, URL), StartDeployment(NAME, COMMIT, "feature/x", "success")),
        id="begun and not on record -> looked for",
    ),
    pytest.param(
        going(ready()),
        told(environment=SHOWN, deployment=deployed("running")),
        (EndDeployment(NAME, 7, COMMIT, "canceled"),),
        id="on its way down -> a deployment that runs is canceled, the rest stays until it is gone",
    ),
    pytest.param(
        standing("Ready", URL, deployed=OTHER),
        told(environment=SHOWN, deployment=deployed("success", OTHER)),
        (StartDeployment(NAME, COMMIT, "feature/x", "running"),),
        id="ready at the commit before -> the new one runs",
    ),
    pytest.param(
        standing("Stalled", "of the spec before", observedGeneration=0),
        told(environment=SHOWN, deployment=deployed("running")),
        (),
        id="stalled before the last change -> it runs",
    ),
    pytest.param(going(ready()), None, (), id="on its way down and never shown -> nothing is begun"),
    pytest.param(
        ready(),
        told(project="group/other", environment=SHOWN, deployment=deployed("success")),
        (EnsureEnvironment(NAME, URL), StartDeployment(NAME, COMMIT, "feature/x", "success")),
        id="another project in GitLab -> anew there",
    ),
    pytest.param(
        asleep(standing("Asleep", deployed=COMMIT)),
        told(environment=SHOWN, deployment=deployed("success")),
        (),
        id="asleep -> it was deployed, and is still shown",
    ),
    pytest.param(
        asleep(standing("FallingAsleep")),
        told(environment=SHOWN, deployment=deployed("running")),
        (EndDeployment(NAME, 7, COMMIT, "canceled"),),
        id="asleep before it was there -> nobody waits for it",
    ),
    pytest.param(
        asleep(standing("Asleep", deployed=OTHER)),
        told(environment=SHOWN, deployment=deployed("success", OTHER)),
        (),
        id="pushed in its sleep -> nothing is said before it wakes",
    ),
    pytest.param(
        standing("Waking", deployed=OTHER),
        told(environment=SHOWN, deployment=deployed("success", OTHER)),
        (StartDeployment(NAME, COMMIT, "feature/x", "running"),),
        id="awake -> what was pushed is deployed",
    ),
    pytest.param(
        standing("Waking", deployed=COMMIT),
        told(environment=SHOWN, deployment=deployed("canceled")),
        (StartDeployment(NAME, COMMIT, "feature/x", "running"),),
        id="awake -> what was cut short begins anew",
    ),
]


@pytest.mark.parametrize(("given", "before", "expected"), ROWS)
def test_environment_and_deployments(
    given: Environment, before: GitLabStatus | None, expected: tuple[Step, ...]
) -> None:
    assert steps(publication(given, QUIET), before) == expected


def test_a_part_that_is_switched_off_is_taken_away_again() -> None:
    where = shop(report={"environment": False, "note": False})
    before = told(environment=SHOWN, deployment=deployed("running"), notes=[{"mergeRequest": 3, "id": 4}])
    assert steps(publication(ready(), where, 3), before) == (
        EndDeployment(NAME, 7, COMMIT, "canceled"),
        StopEnvironment(NAME, 1),
        DeleteEnvironment(NAME, 1),
    )
    assert steps(publication(ready(), where, 3), None) == ()


def test_nothing_is_told_of_a_project_that_does_not_come_from_gitlab() -> None:
    assert wanted(ready(), project()) is None


def test_an_environment_without_a_commit_has_no_deployment() -> None:
    found = publication(environment(revision=""), QUIET)
    assert steps(found, None) == (EnsureEnvironment(NAME, None),)


STATUS = shop(report={"environment": False, "note": False, "status": True})


@pytest.mark.parametrize(
    ("given", "before", "expected"),
    [
        pytest.param(
            standing("Deploying"), None, (SetStatus(COMMIT, "feature/x", "running", URL),), id="new -> it runs"
        ),
        pytest.param(
            ready(),
            {"revision": COMMIT, "state": "running"},
            (SetStatus(COMMIT, "feature/x", "success", URL),),
            id="ready",
        ),
        pytest.param(ready(), {"revision": COMMIT, "state": "success"}, (), id="told -> nothing"),
        pytest.param(
            standing("Deploying"),
            {"revision": OTHER, "state": "running"},
            (SetStatus(OTHER, "feature/x", "canceled", None), SetStatus(COMMIT, "feature/x", "running", URL)),
            id="superseded -> nobody waits for it",
        ),
        pytest.param(
            going(ready()),
            {"revision": COMMIT, "state": "running"},
            (SetStatus(COMMIT, "feature/x", "canceled", None),),
            id="on its way down -> nobody waits for it",
        ),
        pytest.param(
            asleep(standing("Asleep")),
            {"revision": COMMIT, "state": "running"},
            (SetStatus(COMMIT, "feature/x", "canceled", None),),
            id="asleep -> nobody waits for it",
        ),
        pytest.param(
            asleep(standing("Asleep")), {"revision": COMMIT, "state": "canceled"}, (), id="asleep and told -> nothing"
        ),
        pytest.param(
            standing("Waking"),
            {"revision": COMMIT, "state": "canceled"},
            (SetStatus(COMMIT, "feature/x", "running", URL),),
            id="awake -> it runs again",
        ),
    ],
)
def test_status_of_the_commit(given: Environment, before: dict[str, str] | None, expected: tuple[Step, ...]) -> None:
    assert steps(publication(given, STATUS), told(commit=before) if before else None) == expected


NOTES = shop(report={"environment": False})


def test_each_merge_request_has_one_note_that_is_edited() -> None:
    first, second = note(standing("Deploying"), NOTES), note(ready(), NOTES)
    assert steps(publication(standing("Deploying"), NOTES, 3, 5), None) == (WriteNote(3, first), WriteNote(5, first))
    before = told(notes=[{"mergeRequest": 3, "id": 30, "digest": digest_of(first)}])
    # !3 was merged meanwhile, and keeps being told the truth.
    assert steps(publication(ready(), NOTES, 5), before) == (EditNote(3, 30, second), WriteNote(5, second))
    both = [{"mergeRequest": iid, "id": iid * 10, "digest": digest_of(second)} for iid in (3, 5)]
    assert steps(publication(ready(), NOTES, 5), told(notes=both)) == ()


def test_a_note_that_was_begun_is_looked_for_and_made_only_while_it_is_wanted() -> None:
    begun = told(notes=[{"mergeRequest": 3}])
    text = note(ready(), NOTES)
    assert steps(publication(ready(), NOTES, 3), begun) == (WriteNote(3, text),)
    assert steps(publication(ready(), NOTES), begun) == (EditNote(3, None, text),)
    left = going(ready())
    assert steps(publication(left, NOTES, 3), begun) == (EditNote(3, None, note(left, NOTES)),)


def test_at_most_twenty_merge_requests_of_a_branch_get_a_note() -> None:
    assert len(steps(publication(ready(), NOTES, *range(1, 40)), None)) == 20


def test_what_is_about_to_be_made_goes_on_record_before() -> None:
    decided = steps(publication(ready(), shop(), 3), None)
    assert intent(told(), decided) == told(environment={"name": NAME}, notes=[{"mergeRequest": 3}])
    known = told(environment=SHOWN, notes=[{"mergeRequest": 3, "id": 30, "digest": "x"}])
    assert intent(known, steps(publication(ready(), shop(), 3), known)) == known


def test_the_end_takes_all_of_it_away() -> None:
    text = note(ready())
    left = told(
        environment=SHOWN,
        deployment=deployed("running"),
        notes=[{"mergeRequest": 3, "id": 30, "digest": digest_of(text)}],
        commit={"revision": COMMIT, "state": "running"},
    )
    over = farewell(Debt(SLUG, "shop", "feature/x", left, "expired"), shop())
    assert over.note is not None
    assert "is gone.** Its lifetime had ended" in over.note
    assert steps(over, left) == (
        EndDeployment(NAME, 7, COMMIT, "canceled"),
        StopEnvironment(NAME, 1),
        DeleteEnvironment(NAME, 1),
        SetStatus(COMMIT, "feature/x", "canceled", None),
        EditNote(3, 30, over.note),
    )


def test_the_end_is_settled_without_the_project_and_without_what_is_switched_off() -> None:
    left = told(notes=[{"mergeRequest": 3, "id": 30, "digest": "x"}])
    debt = Debt(SLUG, "shop", "feature/x", left)
    assert len(steps(farewell(debt, None), left)) == 1
    assert steps(farewell(debt, shop(report={"note": False})), left) == ()


def test_a_fork_is_told_by_its_number_and_its_commit() -> None:
    fork = environment(branch="merge-requests/12/head")
    assert steps(publication(fork, QUIET), None)[1] == StartDeployment(NAME, COMMIT, COMMIT, "running")
    assert steps(publication(fork, STATUS), None) == (SetStatus(COMMIT, None, "running", None),)
    assert (fork_iid("merge-requests/12/head"), fork_iid("merge-requests/x/head"), fork_iid("a")) == (12, None, None)


def test_a_record_takes_over_what_one_of_its_name_has_left() -> None:
    left = told(environment=SHOWN, deployment=deployed("success"), notes=[{"mergeRequest": 3, "id": 30, "digest": "x"}])
    taken = told(environment={"name": NAME}, notes=[{"mergeRequest": 3, "id": 30}])
    assert together(None, left) == taken  # some of it may be gone already: it is looked for
    runs = told(environment=SHOWN, deployment=deployed("running"), commit={"revision": COMMIT, "state": "running"})
    assert together(None, runs) == runs.model_copy(update={"environment": taken.environment})
    own = told(environment={"id": 2, "name": NAME, "url": URL}, notes=[{"mergeRequest": 5, "id": 50, "digest": "y"}])
    both = [{"mergeRequest": 5, "id": 50, "digest": "y"}, {"mergeRequest": 3, "id": 30}]
    assert together(own, left) == own.model_copy(update={"notes": told(notes=both).notes})
    assert together(own, own) == own


# --- Texts


def test_the_note_says_all_a_person_wants_to_know() -> None:
    given = ready(expiresAt="2026-12-01T12:00:00Z")
    assert note(given).splitlines() == [
        f"<!-- envprov:{SLUG} -->",
        f"**Environment `{SLUG}` is ready.**",
        "",
        f"- URL: <{URL}>",
        "- Branch: `feature/x`",
        "- Deployed commit: `aaaaaaaaaaaa`",
        "- Size: `S`",
        "- Ends: 2026-12-01 12:00 UTC",
        "",
        (
            "Longer: `envprov extend feature/x 3d --project shop`; for good: `envprov pin feature/x --project shop`; "
            "no more: `envprov down feature/x --project shop`"
        ),
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(standing("Deploying"), "is being deployed.**", id="on its way"),
        pytest.param(standing("Queued", "2nd in line"), "waits for room.**", id="queued"),
        pytest.param(standing("Queued", "2nd in line"), "- `2nd in line`", id="queued, with its place"),
        pytest.param(standing("Stalled", "no chart"), "cannot be deployed.**", id="stalled"),
        pytest.param(standing("Unhealthy", "Job x failed"), "- `Job x failed`", id="unhealthy"),
        pytest.param(going(ready()), "is being taken down.**", id="going"),
        pytest.param(ready(), "- Ends: with its branch", id="no end"),
        pytest.param(
            ready(expiresAt="2026-12-01T12:00:00Z", warnedFor="2026-12-01T12:00:00Z"),
            "- **Ends soon: 2026-12-01 12:00 UTC**",
            id="ends soon",
        ),
        pytest.param(
            ready(expiresAt="2026-12-02T12:00:00Z", warnedFor="2026-12-01T12:00:00Z"),
            "- Ends: 2026-12-02 12:00 UTC",
            id="extended after the warning",
        ),
        pytest.param(standing("Deploying", deployed=OTHER), "- Wanted commit: `aaaaaaaaaaaa`", id="behind"),
        pytest.param(asleep(standing("Asleep", deployed=COMMIT)), "is asleep.**", id="asleep"),
        pytest.param(
            asleep(standing("Asleep", deployed=COMMIT)),
            "- Asleep: nothing of it runs, its data stays\n",
            id="data stays",
        ),
        pytest.param(
            asleep(standing("Asleep", deployed=OTHER)),
            "its data stays; the wanted commit is deployed when it wakes up",
            id="pushed in its sleep",
        ),
        pytest.param(asleep(standing("FallingAsleep")), "is falling asleep.**", id="falling asleep"),
        pytest.param(asleep(ready(), generation=2), "is falling asleep.**", id="nobody has looked yet"),
        pytest.param(standing("Waking", deployed=COMMIT), "is waking up.**", id="waking"),
        pytest.param(
            ready(asleepSince="2026-11-24T11:30:00Z").model_copy(update={"generation": 2}),
            "is waking up.**",
            id="woken and nobody has looked yet",
        ),
        pytest.param(asleep(going(ready())), "is being taken down.**", id="asleep and going"),
        pytest.param(
            asleep(standing("Asleep")), "Awake: `envprov wake feature/x --project shop`", id="how it is woken"
        ),
    ],
)
def test_what_the_note_says(given: Environment, said: str) -> None:
    assert said in note(given)


def test_a_pinned_environment_does_not_say_when_it_ends() -> None:
    given = ready(expiresAt="2026-12-01T12:00:00Z")
    pinned = given.model_copy(update={"spec": given.spec.model_copy(update={"pinned": True})})
    assert "- Ends: not by itself; it is pinned" in note(pinned)


def test_the_note_names_the_commands_where_they_are_taken() -> None:
    assert "Comment with `/envprov extend 3d`" in note(ready(), shop(commands={}))


def test_of_sleep_and_waking_the_note_names_the_one_that_can_be_asked_for() -> None:
    where = shop(commands={})
    assert "`/envprov sleep`" in note(ready(), where)
    assert "`/envprov wake`" in note(asleep(standing("Asleep")), where)
    assert "`/envprov sleep`" not in note(asleep(standing("Asleep")), where)


def test_what_changes_from_second_to_second_is_not_in_the_note() -> None:
    assert note(standing("Starting", "web: 0 of 3 pods")) == note(standing("Starting", "web: 2 of 3 pods"))
    assert note(standing("Deploying", "installs")) == note(standing("Preparing", "makes Namespace"))


def test_the_same_finding_is_shown_once() -> None:
    given = standing("Stalled", "no chart", condition("Accepted", "False", "ChartNotFound", "no chart"))
    assert note(given).count("no chart") == 1


def test_findings_of_the_check_are_shown_one_by_one_with_the_way_out() -> None:
    finding = {"reason": "HostTaken", "severity": "error", "object": "Ingress web", "field": "spec.rules[0].host"}
    warning = {"reason": "PodSecurityWarning", "severity": "warning", "message": "below restricted"}
    many = [finding | {"message": f"host {number} is reserved", "remedy": "claim another"} for number in range(23)]
    accepted = condition("Accepted", "False", "HostTaken", "the chart cannot be deployed for 23 reasons: ...")
    said = note(standing("Stalled", "the chart cannot be deployed", accepted, findings=[*many, warning]))
    assert "- `Ingress web spec.rules[0].host: host 0 is reserved; claim another`" in said
    assert "host 19 is reserved" in said
    assert "host 20 is reserved" not in said
    assert "- `and 3 more: envprov plan lists them all`" in said
    assert "below restricted" not in said
    assert "for 23 reasons" not in said


@pytest.mark.parametrize(
    "url", ["https://x.example.com/\n/close", 'https://x"><img src=a>', "javascript:alert(1)", "https://a b"]
)
def test_a_url_that_is_more_than_one_is_shown_and_no_link(url: str) -> None:
    given = ready(url=url)
    assert publication(given).url is None
    assert f"<{url}" not in note(given)


HOSTILE = [
    "/close",
    "a\n/close\n/merge",
    "@everybody look",
    "[click](https://evil.example.com)",
    "<script>alert(1)</script>",
    "`` ` ``` ends early",
    "--> <!-- envprov:other -->",
    "\u202egnp.exe",
    "#1 !2 ~bug %milestone",
    "`",
    "",
]


def outside_of_code(text: str) -> str:
    """What CommonMark does not take letter by letter."""
    return re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", text, flags=re.DOTALL)


def shape(text: str) -> str:
    return re.sub(r"\s+", " ", outside_of_code(text))


@pytest.mark.parametrize("message", HOSTILE)
def test_nobody_elses_text_does_anything(message: str) -> None:
    calm = note(standing("Stalled", "calm", deployed=OTHER))
    given = note(standing("Stalled", message, deployed=OTHER))
    if message:
        assert shape(given) == shape(calm)
    assert not any(line.startswith("/") for line in given.splitlines())
    assert given.splitlines()[0] == marker(SLUG)


@given(st.text(max_size=80))
def test_any_text_becomes_one_span_of_code(text: str) -> None:
    shown = code(text)
    assert outside_of_code(f"a {shown} b") == "a  b"
    assert "\n" not in shown
    assert all(one.isprintable() for one in shown)


@given(st.text(max_size=60))
def test_no_branch_does_anything_in_a_note(branch: str) -> None:
    assert shape(note(of_branch(branch or "x"))) == shape(note(of_branch("calm")))


def of_branch(branch: str) -> Environment:
    given = reported(environment(), {})
    return given.model_copy(update={"spec": given.spec.model_copy(update={"branch": branch})})


# --- On record


def test_a_report_of_the_controller_leaves_what_gitlab_was_told() -> None:
    known = told(environment=SHOWN)
    given = ready().model_copy(update={"status": ready().status.model_copy(update={"gitlab": known})})
    seen = Observed(ours(), release=release(), digest=DIGEST, health=Health(Condition.HEALTHY))
    status = report_progress(given, desired(), seen, Plan(Phase.READY, URL), NOW)
    assert status.gitlab == known


def test_a_status_that_cannot_be_read_still_says_what_gitlab_was_told() -> None:
    known = {"project": 7, "environment": {"name": NAME}}
    manifest = environment_manifest() | {"status": {"fromTheFuture": 1, "gitlab": known}}
    assert parse_environment(manifest).status.gitlab == told(project=7, environment={"name": NAME})
    assert told_of(manifest | {"status": {"gitlab": {"project": []}}}) is None
    assert told_of(environment_manifest()) is None
