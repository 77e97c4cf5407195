"""The rule for deliveries that come late, twice, in disorder, or not at all."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envprov.domain.deliveries import (
    Absent,
    Advance,
    BranchEvent,
    Create,
    Decision,
    Delete,
    Dismissal,
    Doubt,
    Ignore,
    Kind,
    Known,
    News,
    Present,
    Questioned,
    Reason,
    Remember,
    Succeed,
    Terminating,
    Unwanted,
    Wanted,
    decide,
    dismissed_after,
    doubt_after,
    is_told_again,
    known_trail,
)
from envprov.domain.trail import GONE, LIMIT, Trail
from tests.unit.branches import BranchWorld

A, B, C, D, S, T = (letter * 40 for letter in "abcdef")


def link(before: str, after: str) -> BranchEvent:
    return BranchEvent(project_id=1, project_path="group/shop", branch="feature/x", before=before, after=after)


def created(after: str) -> BranchEvent:
    return link(GONE, after)


def deleted(before: str) -> BranchEvent:
    return link(before, GONE)


def trail(*strands: str) -> Trail:
    """Strands as words: ``0ab`` is created at a, pushed to b."""
    return Trail(tuple(tuple("" if letter == "0" else letter * 40 for letter in strand) for strand in strands))


@pytest.mark.parametrize(
    ("known", "news", "expected"),
    [
        pytest.param(Absent(), created(A), Create(A, trail("0a")), id="unknown branch is created -> created"),
        pytest.param(Absent(), link(A, B), Create(B, trail("ab")), id="unknown branch is pushed to -> created"),
        pytest.param(
            Absent(), deleted(A), Remember(trail("a0")), id="unknown branch is deleted -> its creation is late"
        ),
        pytest.param(Absent(), Wanted(), Create("", trail()), id="wanted without commit -> created without commit"),
        pytest.param(Absent(), Wanted(A), Create(A, trail("a")), id="wanted at a commit -> created there"),
        pytest.param(Absent(), Unwanted(), Ignore(Reason.GONE), id="unwanted and absent -> nothing"),
        pytest.param(
            Absent(trail("a0")), created(A), Remember(trail("0a0")), id="creation after its deletion -> not created"
        ),
        pytest.param(
            Absent(trail("0a0")), created(A), Ignore(Reason.LATE), id="second copy of a creation, deleted since -> late"
        ),
        pytest.param(
            Absent(trail("0ab0")),
            created(B),
            Create(B, trail("0ab0", "0b")),
            id="created again where a push had led -> created",
        ),
        pytest.param(
            Absent(trail("0a0")), created(C), Create(C, trail("0a0", "0c")), id="created again elsewhere -> created"
        ),
        pytest.param(Absent(trail("0a0")), deleted(A), Ignore(Reason.GONE), id="deleted twice -> nothing"),
        pytest.param(Absent(trail("0a0")), Wanted(A), Create(A, trail("0a0", "a")), id="wanted again -> created"),
        pytest.param(Present(A, trail("0a")), created(A), Ignore(Reason.DUPLICATE), id="created twice -> duplicate"),
        pytest.param(Present(A, trail("0a")), link(A, B), Advance(B, trail("0ab")), id="push fits -> advance"),
        pytest.param(Present(B, trail("0ab")), link(A, B), Ignore(Reason.DUPLICATE), id="push twice -> duplicate"),
        pytest.param(
            Present(B, trail("0ab")), link(B, A), Advance(A, trail("0aba")), id="force push back -> goes back"
        ),
        pytest.param(
            Present(A, trail("0aba")), link(A, B), Advance(B, trail("0abab")), id="and forth again -> goes forth"
        ),
        pytest.param(Present(C, trail("0abc")), link(A, B), Ignore(Reason.LATE), id="copy of an older push -> late"),
        pytest.param(
            Present(C, trail("0a", "bc")), link(A, B), Remember(trail("0abc")), id="missing link -> no older revision"
        ),
        pytest.param(
            Present(A, trail("0a")), link(B, C), Advance(C, trail("0a", "bc")), id="a push was missed -> advance"
        ),
        pytest.param(Present(""), link(A, B), Advance(B, trail("ab")), id="commit was unknown -> advance"),
        pytest.param(Present(""), deleted(A), Delete(trail("a0")), id="commit was unknown, deleted -> delete"),
        pytest.param(
            Present(A, trail("0a")), created(C), Advance(C, trail("0a", "0c")), id="a deletion was missed -> advance"
        ),
        pytest.param(Present(B, trail("0ab")), deleted(B), Delete(trail("0ab0")), id="deleted at our commit -> delete"),
        pytest.param(
            Present(B, trail("0ab")), deleted(A), Ignore(Reason.LATE), id="deleted at an older commit -> kept"
        ),
        pytest.param(
            Present(A, trail("0a")), deleted(C), Doubt(C, trail("c0", "0a")), id="deleted at an unknown commit -> doubt"
        ),
        pytest.param(
            Present(A, trail("c0", "0a")),
            link(A, C),
            Delete(trail("0ac0")),
            id="push to the commit of a doubted deletion -> no doubt any more",
        ),
        pytest.param(
            Present(A, trail("0c", "0a")),
            deleted(A),
            Advance(C, trail("0a0", "0c")),
            id="one of two lives ends -> the other goes on",
        ),
        pytest.param(Present(A, trail("0a")), Wanted(A), Ignore(Reason.DUPLICATE), id="wanted and there -> nothing"),
        pytest.param(
            Present(A, trail("0a")), Wanted(), Ignore(Reason.DUPLICATE), id="wanted anyhow and there -> nothing"
        ),
        pytest.param(
            Present(B, trail("0ab")), Wanted(A), Advance(A, trail("0ab0", "a")), id="somebody looked -> what was seen"
        ),
        pytest.param(Present(A, trail("c0", "0a")), Unwanted(), Delete(trail("0c0", "0a0")), id="unwanted -> delete"),
        pytest.param(
            Present(B, trail("0a")),
            link(B, C),
            Advance(C, trail("0a0", "bc")),
            id="revision edited by hand -> that one",
        ),
        pytest.param(Terminating(A, trail("0a")), created(A), Ignore(Reason.LATE), id="creation of what goes -> late"),
        pytest.param(
            Terminating(A, trail("0a")),
            created(S),
            Succeed(S, trail("0a0", "0e")),
            id="created while going -> successor",
        ),
        pytest.param(
            Terminating(A, trail("0a0", "0e"), successor=S),
            link(S, T),
            Succeed(T, trail("0a0", "0ef")),
            id="successor is pushed to -> moves on",
        ),
        pytest.param(
            Terminating(A, trail("0a0", "ef"), successor=T),
            created(S),
            Remember(trail("0a0", "0ef")),
            id="creation of the successor's past -> successor stays",
        ),
        pytest.param(
            Terminating(A, trail("0a0", "0e"), successor=S),
            deleted(S),
            Succeed(None, trail("0a0", "0e0")),
            id="successor is deleted -> none",
        ),
        pytest.param(Terminating(A, trail("0a")), deleted(A), Ignore(Reason.GONE), id="deleted twice -> nothing"),
        pytest.param(
            Terminating(A, trail("0a")), Wanted(), Succeed("", trail("0a0", "")), id="wanted back -> successor"
        ),
        pytest.param(
            Terminating(A, trail("0a")), Wanted(A), Succeed(A, trail("0a0", "a")), id="wanted at a -> successor"
        ),
        pytest.param(
            Terminating(A, trail("0a0", "0e"), successor=S),
            Unwanted(),
            Succeed(None, trail("0a0", "0e0")),
            id="successor is unwanted -> none",
        ),
    ],
)
def test_rule(known: Known, news: News, expected: Decision) -> None:
    assert decide(known, news) == expected


ON_A = Present(A, trail("0a"))
LATE, DUPLICATE, NOT_THERE = Ignore(Reason.LATE), Ignore(Reason.DUPLICATE), Ignore(Reason.GONE)


@pytest.mark.parametrize(
    ("known", "news", "expected"),
    [
        pytest.param(ON_A, Wanted(B, seen=ON_A), Advance(B, trail("0a0", "b")), id="seen as it is -> what GitLab says"),
        pytest.param(ON_A, Wanted(B, seen=Absent()), LATE, id="made since it was seen -> nothing"),
        pytest.param(Present(B, trail("0ab")), Wanted(A, seen=ON_A), LATE, id="pushed to since it was seen -> nothing"),
        pytest.param(ON_A, Unwanted(seen=ON_A), Delete(trail("0a0")), id="gone, and seen as it is -> delete"),
        pytest.param(Present(B, trail("0ab")), Unwanted(seen=ON_A), LATE, id="gone, but pushed to since -> nothing"),
        pytest.param(Terminating(A, trail("0a0")), Unwanted(seen=ON_A), LATE, id="gone already -> nothing"),
        pytest.param(
            Absent(), Wanted(A, only_missing=True), Create(A, trail("a")), id="merge request, none -> created"
        ),
        pytest.param(ON_A, Wanted(B, only_missing=True), DUPLICATE, id="merge request, one is there -> nothing"),
        pytest.param(ON_A, Questioned("!1 is closed"), Doubt("!1 is closed", trail("0a")), id="questioned -> noted"),
        pytest.param(Absent(), Questioned("!1 is closed"), NOT_THERE, id="questioned, none there -> nothing"),
        pytest.param(Terminating(A), Questioned("!1 is closed"), NOT_THERE, id="questioned, on its way -> nothing"),
    ],
)
def test_rule_for_those_who_have_looked(known: Known, news: News, expected: Decision) -> None:
    assert decide(known, news) == expected


@pytest.mark.parametrize(
    ("known", "news", "expected"),
    [
        pytest.param(Present(A, trail("0a0", "a")), deleted(A), True, id="ended there before, and is there again"),
        pytest.param(Present(B, trail("0ab0", "0b")), deleted(B), True, id="created again where it ended"),
        pytest.param(Present(B, trail("0ab0", "0b")), deleted(A), False, id="another commit"),
        pytest.param(Present(B, trail("0ab")), deleted(B), False, id="the first life"),
        pytest.param(Present(A, trail("0a0", "a")), created(A), False, id="no deletion"),
        pytest.param(Present(A, trail("0a0", "a")), Unwanted(), False, id="somebody has looked"),
    ],
)
def test_a_deletion_that_may_be_an_old_one_once_more(known: Known, news: News, expected: bool) -> None:  # noqa: FBT001 - a table
    assert is_told_again(known, news) is expected


@pytest.mark.parametrize(
    ("decision", "news", "expected"),
    [
        pytest.param(Delete(trail("0a0")), Unwanted(Dismissal.DOWN), "down", id="a person ends it -> noted"),
        pytest.param(Delete(trail("0a0")), Unwanted(Dismissal.UNWANTED), "", id="the branch is gone -> not noted"),
        pytest.param(Delete(trail("0a0")), deleted(A), "", id="a delivery of that -> not noted"),
        pytest.param(Succeed(B, trail("b")), Wanted(B), "", id="wanted back -> no longer noted"),
        pytest.param(Advance(B, trail("0ab")), link(A, B), "", id="pushed to -> no longer noted"),
        pytest.param(LATE, link(A, B), "expired", id="nothing changes -> stays"),
        pytest.param(Remember(trail("0a")), link(A, B), "expired", id="only remembered -> stays"),
    ],
)
def test_why_an_environment_goes_although_its_branch_stays(decision: Decision, news: News, expected: str) -> None:
    assert dismissed_after("expired", decision, news) == expected


@pytest.mark.parametrize(
    ("decision", "news", "expected"),
    [
        pytest.param(Doubt("!1 is closed", trail("0a")), Questioned("!1 is closed"), "!1 is closed", id="new one"),
        pytest.param(DUPLICATE, Wanted(A, seen=ON_A), "", id="somebody looked and all is well -> none"),
        pytest.param(LATE, Wanted(A, seen=ON_A), C, id="somebody looked at something older -> stays"),
        pytest.param(NOT_THERE, Questioned("!1 is closed"), C, id="questioned in vain -> stays"),
    ],
)
def test_what_is_left_to_look_into(decision: Decision, news: News, expected: str) -> None:
    assert doubt_after(C, decision, news) == expected


@pytest.mark.parametrize(("event", "kind"), [(created(A), "created"), (link(A, B), "updated"), (deleted(A), "deleted")])
def test_kind_follows_from_the_commits(event: BranchEvent, kind: str) -> None:
    assert event.kind == Kind(kind)


@st.composite
def histories(draw: st.DrawFn) -> list[BranchEvent]:
    """What truly happened to a branch, each commit at most once: created, pushed to, deleted, created again."""
    commits = [f"{number:040x}" for number in range(1, draw(st.integers(1, 12)) + 1)]
    walk = [GONE]
    for commit in commits:
        walk.append(commit)
        if draw(st.booleans()):
            walk.append(GONE)
    return [link(before, after) for before, after in pairwise(walk)]


@st.composite
def lossless_deliveries(draw: st.DrawFn) -> tuple[list[BranchEvent], list[BranchEvent]]:
    """A history, and its deliveries: each at least once, in any order."""
    history = draw(histories())
    copies = draw(st.lists(st.sampled_from(history), max_size=6))
    return history, draw(st.permutations(history + copies))


def truth(history: list[BranchEvent]) -> str | None:
    return history[-1].after or None


@given(histories(), st.data())
def test_in_order_is_exact_at_every_step(history: list[BranchEvent], data: st.DataObject) -> None:
    world = BranchWorld()
    for seen, event in enumerate(history, start=1):
        for _ in range(data.draw(st.integers(1, 2))):
            world.deliver(event)
        assert world.revision == truth(history[:seen])
        if data.draw(st.booleans()):
            world.finish_teardown()


@given(lossless_deliveries(), st.data())
@example(([created(A), link(A, B), link(B, C), link(C, D)], [link(C, D), link(A, B), link(B, C), created(A)]), None)
def test_once_all_has_arrived_in_whatever_order_the_record_is_exact(
    given_: tuple[list[BranchEvent], list[BranchEvent]], data: st.DataObject | None
) -> None:
    history, deliveries = given_
    world = BranchWorld()
    for event in deliveries:
        world.deliver(event)
        if data is not None and data.draw(st.booleans()):
            world.finish_teardown()
    assert world.revision == truth(history)


@given(lossless_deliveries(), st.data())
def test_nothing_that_comes_again_changes_anything(
    given_: tuple[list[BranchEvent], list[BranchEvent]], data: st.DataObject
) -> None:
    history, deliveries = given_
    world = BranchWorld()
    for event in deliveries:
        world.deliver(event)
    before = world.known
    for event in data.draw(st.lists(st.sampled_from(history))):
        assert isinstance(world.deliver(event), Ignore)
    assert world.known == before


@given(st.data())
def test_swaps_of_neighbours_never_leave_an_older_revision_than_was_on_record(data: st.DataObject) -> None:
    """Within one life, and even for a moment only, if deliveries overtake at most one other."""
    commits = [GONE, *(f"{number:040x}" for number in range(1, data.draw(st.integers(2, 9)) + 1))]
    deliveries = [link(before, after) for before, after in pairwise(commits)]
    at = 0
    while at + 1 < len(deliveries):
        if data.draw(st.booleans()):
            deliveries[at], deliveries[at + 1] = deliveries[at + 1], deliveries[at]
            at += 1
        at += 1
    world, newest = BranchWorld(), 0
    for event in deliveries:
        world.deliver(event)
        position = commits.index(world.revision or GONE)
        assert position >= newest
        newest = position


@given(histories(), st.data())
def test_losses_never_delete_by_a_guess(history: list[BranchEvent], data: st.DataObject) -> None:
    """A record is deleted only on word that the branch ended at the commit on record, or at one that led from it."""
    world = BranchWorld()
    heard: set[tuple[str, str]] = set()
    for event in data.draw(st.lists(st.sampled_from(history))):
        before = world.known
        heard.add((event.before, event.after))
        if isinstance(world.deliver(event), Delete):
            assert isinstance(before, Present)
            assert _leads_to_its_end(before.revision, heard)
        if data.draw(st.booleans()):
            world.finish_teardown()


def _leads_to_its_end(commit: str, heard: set[tuple[str, str]]) -> bool:
    while commit != GONE:
        nexts = [after for before, after in heard if before == commit]
        if not nexts:
            return False
        (commit,) = nexts
    return True


@given(histories(), st.data())
def test_after_losses_the_next_push_in_order_is_followed(history: list[BranchEvent], data: st.DataObject) -> None:
    """Whatever was lost, the newest push that did arrive is on record as long as nothing newer has."""
    world = BranchWorld()
    for event in history:
        if data.draw(st.booleans()) and event.kind is not Kind.DELETED:
            world.deliver(event)
            assert world.revision == event.after


commits = st.sampled_from([GONE, A, B, C, D])
anything = st.one_of(
    st.builds(link, commits, commits),
    st.builds(Wanted, st.sampled_from(["", A, B])),
    st.just(Unwanted()),
)


@given(st.lists(anything, max_size=60), st.data())
def test_any_chain_of_news_keeps_the_record_consistent(chain: list[News], data: st.DataObject) -> None:
    world = BranchWorld()
    for news in chain:
        world.deliver(news)
        path = known_trail(world.known)
        assert Trail.decode(path.encode()) == path
        assert sum(commit != GONE for strand in path.strands for commit in strand) <= LIMIT
        match world.known:
            case Present(revision):
                assert (path.head or "") == revision
            case Terminating(successor=successor):
                assert (None if path.head == GONE else path.head or "") == successor
            case Absent():
                assert path.head in {None, GONE}
        if data.draw(st.booleans()):
            world.finish_teardown()


@given(st.lists(anything, max_size=20), st.sampled_from([A, B, C]))
def test_who_has_looked_is_always_right(chain: list[News], seen: str) -> None:
    world = BranchWorld()
    for news in chain:
        world.deliver(news)
    world.deliver(Wanted(seen))
    assert world.revision == seen
    world.deliver(Unwanted())
    assert world.revision is None


@given(st.text())
def test_an_annotation_that_was_edited_by_hand_is_forgotten(text: str) -> None:
    assert Trail.decode(text) in {Trail(), Trail(((),))} | {Trail.decode(Trail.decode(text).encode())}


def test_so_many_commits_are_remembered_and_the_oldest_are_forgotten_first() -> None:
    world = BranchWorld()
    shas = [GONE, *(f"{number:040x}" for number in range(1, 61))]
    for before, after in pairwise(shas):
        world.deliver(link(before, after))
    assert isinstance(world.known, Present)
    assert world.known.trail.strands == (tuple(shas[-50:]),)


def test_what_has_not_been_tied_yet_is_kept_longer_than_the_distant_past() -> None:
    shas = [f"{number:040x}" for number in range(1, 101)]
    known = Trail((tuple(shas[:45]),)).follow(shas[98], shas[99])
    for before, after in pairwise(shas[44:99]):
        known = known.follow(before, after)
    assert known.strands == (tuple(shas[-50:]),)


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [
        pytest.param([link(C, D), link(A, B), link(B, C)], D, id="three pushes, the last one first -> the last one"),
        pytest.param([link(B, C), created(A), link(A, B)], C, id="creation after a push -> the push"),
        pytest.param([created(A), deleted(B), link(A, B)], None, id="push after its deletion -> deleted"),
        pytest.param([deleted(A), created(A)], None, id="creation after its deletion -> nothing"),
        pytest.param(
            [created(A), deleted(A), link(S, T), created(S)], T, id="successor's creation after its push -> the push"
        ),
        pytest.param([created(A), deleted(A), created(A)], None, id="copy of a creation after the deletion -> nothing"),
        pytest.param([created(A), link(A, B), deleted(B), created(B)], B, id="branch restored where it ended -> there"),
    ],
)
@pytest.mark.parametrize("is_finished", [False, True], ids=["while it goes", "when it is gone"])
def test_what_a_list_of_older_heads_gets_wrong(
    deliveries: list[BranchEvent], expected: str | None, *, is_finished: bool
) -> None:
    world = BranchWorld()
    for event in deliveries:
        world.deliver(event)
        if is_finished:
            world.finish_teardown()
    assert world.revision == expected


def test_a_link_that_is_known_does_not_prolong_another_strand() -> None:
    known = trail("0ab0", "ca", "0d")
    assert known.follow(A, B) == known


def test_a_push_to_where_the_branch_was_says_nothing() -> None:
    known = trail("0a")
    assert known.follow(A, A) == known
