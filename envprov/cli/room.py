"""Whether there would be room for an environment: the budgets, the ledger and the line, read and never written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from envprov.cli.session import Session
from envprov.domain.admission import standing
from envprov.domain.budget import Budgets, Claim, Holding, Standing, budget_of, cost_of, line
from envprov.domain.checks.room import OVER_BUDGET
from envprov.domain.desired import Desired
from envprov.domain.environment import Environment, parse_environment
from envprov.domain.errors import Forbidden, InvalidRecord
from envprov.domain.findings import Finding
from envprov.domain.project import Project
from envprov.domain.quantity import amount
from envprov.kube.client import Object
from envprov.kube.ledger import Ledger
from envprov.kube.resources import ENVIRONMENTS


@dataclass(frozen=True)
class Asking:
    """
    Who would ask for room.

    Attributes:
        environment: The record; as it would be if it is not there yet.
        desired: What ought to be.
        project: Its Project.

    """

    environment: Environment
    desired: Desired
    project: Project


async def waits_for(session: Session, asking: Asking) -> tuple[str, tuple[Finding, ...]]:
    """
    What an environment would wait for.

    Args:
        session: Where the ledger and the records are.
        asking: Who asks.

    Returns:
        Place and reason in words, empty if there is room or if the caller may not see the budgets; and what is wrong
        if there will never be room.

    """
    ledger = Ledger(session.client, session.namespace)
    try:
        await ledger.refresh()
        listing = await session.client.list(ENVIRONMENTS, session.namespace)
    except Forbidden:
        return "", ()
    desired, name = asking.desired, asking.desired.identity.name
    entries = ledger.entries()
    own = entries.get(name)
    if own is not None and own.covers(desired.size_name, desired.size):
        return "", ()
    others = {environment.name: environment for environment in _readable(listing.items)}
    holdings = [
        Holding(
            held,
            entry.project,
            others[held].spec.branch if held in others else held,
            cost_of(entry.size),
            others[held].status.expires_at if held in others else None,
        )
        for held, entry in entries.items()
    ]
    rule = asking.project.rule_for(asking.environment.spec.branch)
    claim = Claim(
        name=name,
        project=desired.identity.project,
        branch=desired.identity.branch,
        cost=cost_of(desired.size),
        since=asking.environment.created_at,
        priority=rule.priority if rule else 0,
        held=cost_of(own.size) if own else None,
    )
    cluster = {resource: amount(value) for resource, value in (ledger.cluster_budget() or {}).items()}
    budgets = Budgets(cluster, {asking.project.name: budget_of(asking.project.spec.limits)})
    claims = (claim, *_claims(others.values(), asking))
    now = datetime.now(UTC)
    places = line(claims, holdings, budgets, now=now, patience=session.settings.budget.patience)
    (place,) = (one for one in places if one.claim.name == name)
    match place.standing:
        case Standing.ROOM:
            return "", ()
        case Standing.WAITS:
            return standing(place), ()
        case Standing.NEVER:
            return "", (OVER_BUDGET.found(None, "", place.reason),)


def _readable(items: Iterable[Object]) -> Iterator[Environment]:
    for item in items:
        with suppress(InvalidRecord):
            yield parse_environment(item)


def _claims(environments: Iterable[Environment], asking: Asking) -> Iterator[Claim]:
    """Those that wait already, as they were told."""
    for environment in environments:
        queue = environment.status.queue
        if queue is None or queue.since is None or environment.deleting or environment.name == asking.environment.name:
            continue
        needs = {resource: amount(value) for resource, value in queue.needs.items()}
        rule = asking.project.rule_for(environment.spec.branch)
        yield Claim(
            name=environment.name,
            project=environment.spec.project,
            branch=environment.spec.branch,
            cost=needs,
            since=queue.since,
            priority=rule.priority if rule and environment.spec.project == asking.project.name else 0,
            first_since=queue.first_since,
        )
