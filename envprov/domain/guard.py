"""The guard's decisions: which holds are put on and taken off, and what a teardown may take along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from envprov.domain.holds import DECLARED, GUARD, POLICY, RELEASED, SHARED, USED, Account, Hold, Holder, read_holds
from envprov.domain.loose import Manifest, mappings, text, within
from envprov.domain.names import environment_of
from envprov.domain.usage import Claim, Strength, Usage

ENVIRONMENT = "Environment"
CANARY = "Canary"
UNKNOWN = "Unknown"
KEEP: Final = "keep"
DELETE_WITH_LAST_USER: Final = "delete-with-last-user"
UNUSED = ""
"""In place of a hold's key: the absence of every user."""
HOLDERS_LIMIT = 500
"""Holds on one Namespace; the holders beyond it share the one hold ``MANY``, for annotations have a limit."""
MANY = "hold.envprov.io/many"

Policy = Literal["keep", "delete-with-last-user"]


@dataclass(frozen=True)
class Guarded:
    """
    A ServiceAccount with what the guard has written on it and on its Namespace.

    Attributes:
        account: Which one; its name is empty for a Namespace by itself.
        uid: Of the ServiceAccount.
        namespace_uid: Of its Namespace.
        shared: Whether it was adopted.
        policy: What becomes of it when its last user is gone; only of one that is shared.
        used: Whether it is written on it that it has had a user.
        released: Whether it is released for deletion.
        terminating: Whether it or its Namespace is being deleted.
        holds: On the ServiceAccount.
        namespace_holds: On its Namespace, for whichever ServiceAccount.
        owners: Objects, in words, with which Kubernetes would delete it.

    """

    account: Account
    uid: str = ""
    namespace_uid: str = ""
    shared: bool = False
    policy: Policy = KEEP
    used: bool = False
    released: bool = False
    terminating: bool = False
    holds: tuple[Hold, ...] = ()
    namespace_holds: tuple[Hold, ...] = ()
    owners: tuple[str, ...] = ()


@dataclass(frozen=True)
class Absence:
    """Since when, and in how many complete passes in a row, nothing has spoken for a hold any more."""

    since: datetime
    passes: int = 1


@dataclass(frozen=True)
class Grace:
    """How long, and in how many passes, nothing must speak for a hold before it is released: both."""

    time: timedelta = timedelta(seconds=60)
    passes: int = 2


@dataclass(frozen=True)
class Acquire:
    """A hold to be put on, on the Namespace first."""

    guarded: Guarded
    hold: Hold


@dataclass(frozen=True)
class Release:
    """
    A hold to be taken off, from the ServiceAccount first.

    Attributes:
        guarded: Where it is.
        key: Its annotation key.
        from_account: Whether it is on the ServiceAccount at all; without, it is an orphan of the Namespace.
        from_namespace: Whether it then goes from the Namespace too: no other ServiceAccount there is held by it.

    """

    guarded: Guarded
    key: str
    from_account: bool = True
    from_namespace: bool = True


@dataclass(frozen=True)
class Review:
    """
    What one pass of the guard comes to.

    Attributes:
        acquire: Holds to be put on.
        release: Holds to be taken off.
        remove: Shared accounts to be deleted: their last user is gone, and their policy says so.
        mark_used: Shared accounts to be marked as used.
        strip: Shared accounts whose ownerReferences must go, lest they be garbage-collected.
        lost: Claims on accounts that are being deleted, as the holds that came too late.
        expired: Declared holds that have run out, by account; they hold nevertheless.
        held: Holds by account as they are once this is done.
        absences: To be handed to the next pass.

    """

    acquire: tuple[Acquire, ...] = ()
    release: tuple[Release, ...] = ()
    remove: tuple[Guarded, ...] = ()
    mark_used: tuple[Guarded, ...] = ()
    strip: tuple[Guarded, ...] = ()
    lost: tuple[Acquire, ...] = ()
    expired: tuple[tuple[Account, Hold], ...] = ()
    held: Mapping[Account, tuple[Hold, ...]] = field(default_factory=dict)
    absences: Mapping[tuple[Account, str], Absence] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """A ServiceAccount that a teardown must leave, and why, a sentence for each user."""

    account: Account
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """
    What a teardown may do with a namespace.

    Attributes:
        plan: Full: everything goes. Husk: what others still use stays. Blocked: nothing can be decided.
        kept: What stays of it.
        why: In words; empty for Full.

    """

    plan: Literal["Full", "Husk", "Blocked"]
    kept: tuple[Kept, ...] = ()
    why: tuple[str, ...] = ()


def read_guarded(service_account: Manifest | None, namespace: Manifest | None) -> Guarded:
    """
    A ServiceAccount as the guard sees it.

    Args:
        service_account: The object, or None for a Namespace by itself.
        namespace: Its Namespace, or None if that could not be read.

    """
    own, around = within(service_account, "metadata"), within(namespace, "metadata")
    notes, uid = within(own, "annotations"), text(own.get("uid"))
    return Guarded(
        account=Account(text(own.get("namespace")) or text(around.get("name")), text(own.get("name"))),
        uid=uid,
        namespace_uid=text(around.get("uid")),
        shared=within(own, "labels").get(GUARD) == SHARED,
        policy=DELETE_WITH_LAST_USER if notes.get(POLICY) == DELETE_WITH_LAST_USER else KEEP,
        used=text(notes.get(USED)) not in {"", "false"},
        released=bool(uid) and notes.get(RELEASED) == uid,
        terminating=bool(own.get("deletionTimestamp") or around.get("deletionTimestamp")),
        holds=read_holds({"metadata": own}),
        namespace_holds=read_holds({"metadata": around}),
        owners=tuple(
            f"{text(item.get('kind'))} {text(item.get('name'))}" for item in mappings(own.get("ownerReferences"))
        ),
    )


def review(  # noqa: PLR0913, PLR0917 - one pass needs all of it
    guarded: Sequence[Guarded],
    usage: Usage,
    environments: Mapping[str, Holder],
    live_environments: frozenset[str] | None,
    absences: Mapping[tuple[Account, str], Absence],
    now: datetime,
    grace: Grace,
    *,
    auto_release_expired: frozenset[str] = frozenset(),
) -> Review:
    """
    Decide what to do with all guarded accounts.

    Args:
        guarded: Every ServiceAccount that is shared, is in the namespace of an environment or carries a hold, and
            every Namespace that carries one.
        usage: The graph.
        environments: By namespace, the Environment that it serves: what lives in there holds as that Environment.
        live_environments: UIDs of all Environment objects; None if they could not be listed.
        absences: From the pass before; empty after a restart, which only makes releases later.
        now: Aware.
        grace: How long nothing must speak for a hold.
        auto_release_expired: Names of declared holders whose holds go when they have run out.

    Returns:
        With an incomplete graph only what keeps: nothing is released or removed, and absences do not advance.

    """
    world = _World(usage, environments, live_environments, now, auto_release_expired)
    accounts = [item for item in guarded if item.account.name]
    neighbours: dict[str, list[Guarded]] = {}
    for item in guarded:
        neighbours.setdefault(item.account.namespace, []).append(item)
    wanted = _wanted(neighbours, world)
    patience = _Patience(absences, now, grace, is_complete=usage.is_complete)
    due = {
        (item.account, hold.key)
        for item in accounts
        for hold in item.holds
        if patience.is_over(
            (item.account, hold.key), world.speaks(hold, {*world.keys(item.account), *wanted[item.account]})
        )
    }
    acquire, lost = [], []
    for item in accounts:
        on_account, on_namespace = _keys(item.holds), _keys(item.namespace_holds)
        for key, hold in wanted[item.account].items():
            if item.terminating and key not in on_account:
                lost.append(Acquire(item, hold))
            elif not item.terminating and not (key in on_account and key in on_namespace):
                acquire.append(Acquire(item, hold))
    unused = [
        item
        for item in accounts
        if item.shared and item.policy == DELETE_WITH_LAST_USER and item.used and not item.terminating
        if patience.is_over((item.account, UNUSED), bool(wanted[item.account] or item.holds))
    ]
    return Review(
        acquire=tuple(acquire),
        release=(
            *(one for here in neighbours.values() for one in _releases(here, due, wanted, world)),
            *(one for here in neighbours.values() for one in _orphans(here, wanted, world, patience)),
        ),
        remove=tuple(unused),
        mark_used=tuple(
            item
            for item in accounts
            if item.shared and not item.used and not item.terminating and (wanted[item.account] or item.holds)
        ),
        strip=tuple(item for item in accounts if item.shared and item.owners and not item.terminating),
        lost=tuple(lost),
        expired=tuple((item.account, hold) for item in accounts for hold in item.holds if hold.is_expired(now)),
        held={item.account: _held(item, wanted[item.account], due) for item in accounts},
        absences=patience.next,
    )


def classify(accounts: Sequence[Guarded], usage: Usage, own: Holder | None = None) -> Verdict:
    """
    What a teardown may do with a namespace.

    Args:
        accounts: All ServiceAccounts of the namespace, or the Namespace by itself.
        usage: The graph.
        own: The Environment that goes: its own holds do not count.

    """
    if not usage.is_complete:
        return Verdict("Blocked", why=usage.faults)
    kept: list[Kept] = []
    why: list[str] = []
    said: set[str] = set()
    for item in sorted(accounts, key=lambda item: item.account):
        foreign = usage.foreign(item.account) if item.account.name else ()
        holds = [hold for hold in item.holds if own is None or hold.key != own.key]
        reasons = _unique([_claimed(claim) for claim in foreign], [_stated(hold) for hold in holds], _adopted(item))
        said |= _keys(holds)
        if reasons:
            kept.append(Kept(item.account, reasons))
            why.extend(f"ServiceAccount {item.account.name} is kept by {reason}" for reason in reasons)
    for item in accounts:
        for hold in item.namespace_holds:
            if hold.key not in said and (own is None or hold.key != own.key):
                said.add(hold.key)
                why.append(f"Namespace {item.account.namespace} is kept by {_stated(hold)}")
    return Verdict("Husk" if why else "Full", tuple(kept), tuple(why))


def bereft(usage: Usage, namespace: str) -> tuple[str, ...]:
    """
    Who uses ServiceAccounts of a namespace although it is gone.

    Args:
        usage: The graph, read afterwards.
        namespace: Which.

    Returns:
        A sentence for each user elsewhere; of a graph that is incomplete those that were seen.

    """
    claims = (claim for account, some in usage.claims.items() if account.namespace == namespace for claim in some)
    return tuple(
        sorted(
            {
                f"ServiceAccount {claim.account} by {_claimed(claim)}"
                for claim in claims
                if claim.is_foreign and claim.strength.keeps
            }
        )
    )


def attributed(claim: Claim, environments: Mapping[str, Holder]) -> Holder:
    """Who holds for a claim: the Environment in whose namespace the holder lives, or the holder itself."""
    return environments.get(claim.holder.namespace, claim.holder)


class _World:
    """What one pass knows about who speaks for a hold."""

    def __init__(
        self,
        usage: Usage,
        environments: Mapping[str, Holder],
        live: frozenset[str] | None,
        now: datetime,
        auto: frozenset[str],
    ) -> None:
        self.usage, self.environments, self.live, self.now, self.auto = usage, environments, live, now, auto
        self._keys: dict[Account, frozenset[str]] = {}
        self._by_namespace: dict[str, set[str]] = {}
        for account in usage.claims:
            self._by_namespace.setdefault(account.namespace, set()).update(self.keys(account))

    def keys(self, account: Account) -> frozenset[str]:
        """Keys of all who use an account."""
        if account not in self._keys:
            claims = (claim for claim in self.usage.of(account) if claim.strength.keeps)
            self._keys[account] = frozenset(attributed(claim, self.environments).key for claim in claims)
        return self._keys[account]

    def keys_within(self, namespace: str) -> set[str]:
        """Keys of all who use any account of a namespace."""
        return self._by_namespace.get(namespace, set())

    def holds(self, item: Guarded) -> dict[str, Hold]:
        """The holds that an account ought to have for what uses it; one for each holder, with its weightiest claim."""
        if item.shared:
            claims = [claim for claim in self.usage.of(item.account) if claim.strength.keeps]
        elif environment_of(item.account.namespace) is not None:
            claims = list(self.usage.foreign(item.account))
        else:
            claims = []
        found: dict[str, Hold] = {}
        for claim in sorted(claims, key=lambda claim: tuple(Strength).index(claim.strength)):
            holder = attributed(claim, self.environments)
            why = claim.how if holder == claim.holder else f"{claim.holder}: {claim.how}"
            served = holder.name if holder.kind == ENVIRONMENT else environment_of(holder.namespace) or ""
            found.setdefault(holder.key, Hold(holder, self.now, why, served))
        return found

    def speaks(self, hold: Hold, keys: Iterable[str]) -> bool | None:
        """Whether anything speaks for a hold; None if that is not known."""
        holder = hold.holder
        if hold.key in keys or holder.kind in {CANARY, UNKNOWN}:
            return True
        if holder.kind == ENVIRONMENT:
            return None if self.live is None else not holder.uid or holder.uid in self.live
        if holder.kind == DECLARED or hold.expires is not None:
            return not (hold.is_expired(self.now) and holder.name in self.auto)
        return False


class _Patience:
    """Counts for how long nothing has spoken for a hold."""

    def __init__(
        self, absences: Mapping[tuple[Account, str], Absence], now: datetime, grace: Grace, *, is_complete: bool
    ) -> None:
        self._before, self._now, self._grace, self._is_complete = absences, now, grace, is_complete
        self.next: dict[tuple[Account, str], Absence] = {}

    def is_over(self, slot: tuple[Account, str], speaks: bool | None) -> bool:  # noqa: FBT001 - three-valued
        before = self._before.get(slot)
        if speaks:
            return False
        if speaks is None or not self._is_complete:
            self.next.update({slot: before} if before else {})
            return False
        entry = Absence(min(before.since, self._now), before.passes + 1) if before else Absence(self._now)
        self.next[slot] = entry
        return entry.passes >= self._grace.passes and self._now - entry.since >= self._grace.time


def _wanted(neighbours: Mapping[str, Sequence[Guarded]], world: _World) -> dict[Account, dict[str, Hold]]:
    """The holds by account, with the one hold ``MANY`` for those that find no room on the Namespace."""
    wanted: dict[Account, dict[str, Hold]] = {}
    for here in neighbours.values():
        asked = {item.account: world.holds(item) for item in here if item.account.name}
        present = {key for item in here for key in (*_keys(item.holds), *_keys(item.namespace_holds))}
        keys = sorted({key for holds in asked.values() for key in holds}, key=lambda key: (key not in present, key))
        room = HOLDERS_LIMIT - len(present - {*keys, MANY})
        superfluous = set(keys[max(room, 0) :])
        for account, holds in asked.items():
            rest = superfluous.intersection(holds)
            wanted[account] = {key: hold for key, hold in holds.items() if key not in rest}
            if rest:
                holder = Holder("Many", "", f"{len(rest)} more holders")
                wanted[account][MANY] = Hold(holder, world.now, "no room for each", read_key=MANY)
    return wanted


def _releases(
    here: Sequence[Guarded], due: set[tuple[Account, str]], wanted: Mapping[Account, Mapping[str, Hold]], world: _World
) -> Iterator[Release]:
    """With a hold of one account alone its copy on the Namespace goes too; that of several waits to be an orphan."""
    carried = Counter(key for item in here for key in _keys(item.holds))
    asked = {key for item in here for key in wanted.get(item.account, ())}
    for item in here:
        on_namespace = _keys(item.namespace_holds)
        for hold in item.holds:
            if (item.account, hold.key) in due:
                speaks = hold.key in asked or hold.key in world.keys_within(item.account.namespace)
                alone = carried[hold.key] == 1 and not speaks
                yield Release(item, hold.key, from_namespace=alone and hold.key in on_namespace)


def _orphans(
    here: Sequence[Guarded], wanted: Mapping[Account, Mapping[str, Hold]], world: _World, patience: _Patience
) -> Iterator[Release]:
    """Holds of a Namespace for which no ServiceAccount in there has one."""
    holds = {hold.key: hold for item in here for hold in item.namespace_holds}
    if not holds:
        return
    place = Account(here[0].account.namespace, "")
    on_accounts = {key for item in here for key in _keys(item.holds)}
    keys = world.keys_within(place.namespace).union(
        *(world.keys(item.account) for item in here), *(wanted.get(item.account, ()) for item in here)
    )
    for key in sorted(holds):
        if patience.is_over((place, key), world.speaks(holds[key], keys)) and key not in on_accounts:
            yield Release(Guarded(place, namespace_uid=here[0].namespace_uid), key, from_account=False)


def _held(item: Guarded, wanted: Mapping[str, Hold], due: set[tuple[Account, str]]) -> tuple[Hold, ...]:
    stay = tuple(hold for hold in item.holds if (item.account, hold.key) not in due)
    come = tuple(hold for key, hold in wanted.items() if key not in _keys(item.holds) and not item.terminating)
    return stay + come


def _keys(holds: Iterable[Hold]) -> set[str]:
    return {hold.key for hold in holds}


def _unique(*sentences: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentence for some in sentences for sentence in some))


def _adopted(item: Guarded) -> Iterator[str]:
    """Nobody may delete it, the teardown neither: by policy it goes in the guard's own loop, or a person ends that."""
    if item.shared and not item.released:
        yield f"its adoption with policy {item.policy}, which `envprov guard release {item.account}` ends"


def _claimed(claim: Claim) -> str:
    return f"{claim.holder} ({claim.how})"


def _stated(hold: Hold) -> str:
    end = f", until {hold.expires:%Y-%m-%d}" if hold.expires else ""
    return f"{hold.holder}, held since {hold.since:%Y-%m-%d}{end}" + (f" ({hold.why})" if hold.why else "")
