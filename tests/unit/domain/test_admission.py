"""What the budget does to the way up, and what is said of it: conditions, status and the note in the merge request."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from envprov.domain.actions import Admit
from envprov.domain.admission import Admission, Admitted, Room, TooLarge, Waiting, in_force
from envprov.domain.budget import Budgets, Claim, Holding, Place, Standing, cost_of, line
from envprov.domain.environment import Environment, EnvironmentStatus, Type
from envprov.domain.errors import ChartNotFound, Conflict, OverBudget, Unavailable
from envprov.domain.ledger import Entry, decode
from envprov.domain.observed import NamespaceState, Observed
from envprov.domain.plan import Phase, plan
from envprov.domain.publication import wanted
from envprov.domain.report import report_fault, report_progress
from envprov.domain.sizes import DEFAULT_SIZES, Size
from tests.unit.builders import IDENTITY, NOW, SLUG, UID, desired, environment, foreign, missing, ours, project

S, M = DEFAULT_SIZES["S"], DEFAULT_SIZES["M"]
OLD = Entry(UID, "shop", "S", S, "2026-11-24T11:00:00Z")
NEW = Entry(UID, "shop", "M", M, "2026-11-24T12:00:00Z")
REASON = "needs 1 CPU, 0 free of 2 (Project shop); nothing that ends by itself makes that room"
WANTS_M = desired(project(sizes={"allowed": ["S", "M"]}), size="M")


def waiting(position: int = 1, reason: str = REASON, held: Entry | None = None) -> Waiting:
    cost = cost_of(M if held else S)
    claim = Claim(SLUG, "shop", "feature/x", cost, NOW - timedelta(hours=1), held=cost_of(held.size) if held else None)
    return Waiting(Place(claim, Standing.WAITS, position, "Project shop", why=lambda: reason), held)


def unseen(admission: Admission) -> Observed:
    return Observed(missing(), admission=admission)


# --- The plan


def test_room_is_taken_before_the_namespace_is_made() -> None:
    decided = plan(desired(), unseen(Room(OLD)))
    assert decided.waves == ((Admit(IDENTITY, OLD, asks=True),),)
    assert (decided.phase, decided.message) == (Phase.PREPARING, "takes its share of the budget")


def test_nothing_is_made_for_one_that_waits() -> None:
    decided = plan(desired(), unseen(waiting(2)))
    assert (decided.phase, decided.waves, decided.message) == (Phase.QUEUED, (), f"place 2: {REASON}")


def test_one_that_can_never_fit_is_told_so_and_nothing_is_made() -> None:
    with pytest.raises(OverBudget, match="can never fit: needs 6 CPU"):
        plan(desired(), unseen(TooLarge("can never fit: needs 6 CPU")))


def test_what_is_refused_after_it_was_admitted_gives_its_room_back() -> None:
    refused = Observed(missing(), chart_fault=ChartNotFound("gone"), admission=Admitted(OLD))
    decided = plan(desired(), refused)
    assert (decided.phase, decided.waves) == (Phase.PREPARING, ((Admit(IDENTITY, None, asks=False),),))
    for after in (Admitted(), Room(OLD), waiting(2)):
        with pytest.raises(ChartNotFound):
            plan(desired(), replace(refused, admission=after))


def test_admitted_goes_on_with_the_namespace() -> None:
    assert plan(desired(), unseen(Admitted())).message.startswith("makes Namespace")


def test_somebody_elses_namespace_is_said_before_anything_is_spent() -> None:
    assert foreign().state is NamespaceState.FOREIGN
    with pytest.raises(Exception, match="does not belong to Environment"):
        plan(desired(), Observed(foreign(), admission=Admitted()))


@pytest.mark.parametrize(
    ("admission", "said"),
    [
        pytest.param(
            waiting(held=OLD), f"size M waits for room, place 1: {REASON}; S stays in force", id="another size waits"
        ),
        pytest.param(
            TooLarge("can never fit: needs 2 CPU", OLD),
            "size M can never fit: needs 2 CPU; S stays in force",
            id="another size never fits",
        ),
    ],
)
def test_one_that_is_there_goes_on_with_its_old_size(admission: Admission, said: str) -> None:
    held = in_force(WANTS_M, admission)
    assert (held.size_name, held.size) == ("S", S)
    assert replace(held, size_name="M", size=M) == WANTS_M
    decided = plan(WANTS_M, Observed(ours(), admission=admission))
    assert decided.phase is Phase.PREPARING
    assert decided.message.endswith(f"; {said}")


def test_what_is_admitted_is_what_is_wanted() -> None:
    assert in_force(WANTS_M, Admitted()) is WANTS_M


# --- What is reported


def up(admission: Admission, before: Environment | None = None, seconds: int = 0) -> EnvironmentStatus:
    observed = unseen(admission)
    given, now = before or environment(), NOW + timedelta(seconds=seconds)
    return report_progress(given, desired(), observed, plan(desired(), observed), now)


def after(status: EnvironmentStatus) -> Environment:
    return environment().model_copy(update={"status": status})


def test_conditions_and_status_say_place_and_reason() -> None:
    status = up(waiting(2))
    for kind in (Type.READY, Type.NAMESPACE_READY, Type.DEPLOYED):
        condition = status.condition(kind)
        assert condition is not None
        assert (condition.status, condition.reason, condition.message) == ("False", "Queued", f"place 2: {REASON}")
    assert status.queue is not None
    assert status.queue.model_dump(mode="json", by_alias=True, exclude_none=True) == {
        "position": 2,
        "reason": REASON,
        "budget": "Project shop",
        "size": "S",
        "needs": {"environments": "1", "cpu": "1", "memory": "2Gi", "ephemeral-storage": "4Gi", "storage": "10Gi"},
        "since": "2026-11-24T11:00:00Z",
    }


def test_who_becomes_the_first_keeps_since_when() -> None:
    first = up(waiting(1))
    assert first.queue is not None
    assert first.queue.first_since == NOW
    later = up(waiting(1), after(first), seconds=60)
    assert later == first  # mere waiting writes nothing
    passed = up(waiting(2), after(later), seconds=120)
    assert passed.queue is not None
    assert (passed.queue.position, passed.queue.first_since) == (2, NOW)


def test_who_is_admitted_is_in_line_no_more() -> None:
    assert up(Room(OLD), after(up(waiting(1)))).queue is None


@pytest.mark.parametrize("error", [OverBudget("no"), Unavailable("no answer"), Conflict("again")])
def test_who_met_a_fault_is_in_line_no_more_and_keeps_nobody_out(error: Exception) -> None:
    assert isinstance(error, OverBudget | Unavailable | Conflict)
    assert report_fault(after(up(waiting(1))), error, NOW, deploying=False).queue is None


def test_size_in_force_is_reported_while_another_waits() -> None:
    observed = Observed(ours(), admission=waiting(held=OLD))
    status = report_progress(environment(), WANTS_M, observed, plan(WANTS_M, observed), NOW)
    assert status.size == "S"
    assert status.queue is not None
    assert (status.queue.size, status.queue.needs["cpu"]) == ("M", "1")


# --- The note in the merge request


def note(status: EnvironmentStatus) -> str:
    shop = project(gitlab={"project": "group/shop"})
    found = wanted(after(status), shop, ())
    assert found is not None
    assert found.note is not None
    return found.note


def test_note_says_place_and_reason() -> None:
    text = note(up(waiting(3)))
    assert "waits for room.**" in text
    assert f"- `place 3: {REASON}`" in text


def test_note_says_that_another_size_waits() -> None:
    observed = Observed(ours(), admission=waiting(held=OLD))
    status = report_progress(environment(), WANTS_M, observed, plan(WANTS_M, observed), NOW)
    assert f"- Waits for size `M`, place 1: `{REASON}`" in note(status)
    assert "Waits for size" not in note(up(waiting(3)))


# --- The ledger


def test_entry_comes_back_as_it_was_written_and_is_small() -> None:
    custom = Size(cpu="1500m", memory="3Gi", memory_limit="6Gi", pods=7, load_balancers=1)
    for entry in (OLD, NEW, replace(OLD, size=custom, size_name="event")):
        assert decode(entry.encode()) == entry
        assert len(entry.encode()) < 300


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', '{"uid": "u"}', '{"uid":"u","project":"p","sizeName":"S","size":{}}']
)
def test_entry_that_nobody_understands_gives_nothing(text: str) -> None:
    assert decode(text) is None


def test_entry_covers_only_what_was_given() -> None:
    assert OLD.covers("S", S)
    assert not OLD.covers("M", M)
    assert not OLD.covers("S", S.model_copy(update={"pods": 16}))


def test_line_of_a_thousand_is_walked_along_in_no_time() -> None:
    claims = [Claim(f"c{n}", f"p{n % 50}", "b", cost_of(S), NOW - timedelta(minutes=n)) for n in range(1000)]
    holdings = [Holding(f"h{n}", f"p{n % 50}", "b", cost_of(S), NOW + timedelta(minutes=n)) for n in range(1000)]
    budgets = Budgets({"cpu": Decimal(1000)}, {f"p{n}": {"cpu": Decimal(20)} for n in range(50)})
    places = line(claims, holdings, budgets, now=NOW, patience=timedelta(minutes=10))
    assert {place.standing for place in places} == {Standing.WAITS}
    assert places[0].reason.startswith(
        "needs 1 CPU, 0 free of 20 (Project p49); next expiry: b at 2026-11-24 12:49 UTC"
    )
