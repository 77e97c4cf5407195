"""
What a rendered chart needs of its namespace, in the resource names of a ResourceQuota, with who needs how much.

Two sums: *steady* must fit for the environment to become ready at all; *peak* is what it may need later: a rolling
update, an autoscaler at its maximum, a run of each CronJob, the hooks of an update and of its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, reduce
from itertools import chain

from envprov.domain import objects
from envprov.domain.charges import Surroundings, Use, autoscalers, later, standing, surging
from envprov.domain.charted import HOOK, Charted
from envprov.domain.checking import Given
from envprov.domain.findings import Subject
from envprov.domain.loose import mapping, text, within
from envprov.domain.pod_resources import Amounts, larger, limits_of, quantities, total
from envprov.domain.quantity import written

ROOT_CERTIFICATES = "kube-root-ca.crt"
"""The ConfigMap that every namespace gets from Kubernetes."""
RELEASE = "sh.helm.release.v1"
"""How the names of Helm's own Secrets begin."""

_WEIGHT = "helm.sh/hook-weight"
_DELETE = "helm.sh/hook-delete-policy"
_NONE = Decimal(0)


@dataclass(frozen=True)
class Phase:
    """
    A time at which certain objects are there together.

    Attributes:
        name: Of the hook that runs meanwhile, such as "pre-install hook migrate"; empty for the release itself.
        uses: What is charged then.

    """

    name: str
    uses: tuple[Use, ...]

    @cached_property
    def total(self) -> Amounts:
        """What is needed at that time."""
        return total(use.amounts for use in self.uses)


@dataclass(frozen=True)
class Need:
    """
    What is needed over time.

    Attributes:
        phases: One after the other; at least one.

    """

    phases: tuple[Phase, ...]

    @cached_property
    def total(self) -> Amounts:
        """The most of each resource that is needed at any time: it fits exactly if every phase does."""
        return reduce(larger, (phase.total for phase in self.phases), {})

    def when(self, resource: str) -> Phase:
        """The phase that needs the most of a resource; the first of several."""
        return max(self.phases, key=lambda phase: phase.total.get(resource, _NONE))

    def users(self, resource: str) -> tuple[Use, ...]:
        """Who needs a resource when the most of it is needed, each once for pods of one size, the largest first."""
        users: dict[tuple[Subject, Decimal], Use] = {}
        for use in self.when(resource).uses:
            each = use.each.get(resource)
            if use.copies and each:
                same = users.get((use.subject, each))
                users[use.subject, each] = replace(use, copies=use.copies + same.copies) if same else use
        return tuple(sorted(users.values(), key=lambda use: (-use.amounts[resource], use.subject)))


@dataclass(frozen=True)
class Needs:
    """
    What a chart needs.

    Attributes:
        steady: What must fit for the environment to become ready.
        peak: What it may need later.

    """

    steady: Need
    peak: Need


def needs_of(given: Given) -> Needs:
    """What a chart needs of the environment that it is judged for."""
    desired, facts = given.desired, given.facts
    classes = facts.runtime_classes or {}
    around = Surroundings(
        home=desired.identity.namespace,
        limits=limits_of(objects.limit_range(desired)),
        secrets=tuple(secret.name for secret in desired.secrets),
        overheads={name: quantities(within(found, "overhead").get("podFixed")) for name, found in classes.items()},
        nodes=1 if facts.nodes is None else facts.nodes,
        history=facts.history_max,
    )
    return needs(given.items, around)


def needs(items: Iterable[Charted], around: Surroundings) -> Needs:
    """
    What a chart needs.

    Args:
        items: What it renders, hooks included; what goes to other namespaces is not charged here.
        around: What it depends on beside the chart.

    """
    here = [item for item in items if item.subject.namespace == around.home]
    release = [item for item in here if not item.is_hook]
    scalers = autoscalers(release)
    steady = [use for item in release for use in standing(item, around, scalers)]
    scaled = steady + [use for item in release for use in later(item, around, scalers)]
    updating = scaled + [use for item in release for use in surging(item, around, scalers)]

    story = _Story([item for item in here if item.is_hook], around)
    own = _own(release, around, revisions=1)
    first = [
        *story.run("pre-install", own),
        story.phase("", own + steady),
        *story.run("post-install", own + steady),
    ]
    own = _own(release, around, revisions=around.history)
    then = [
        *story.run("pre-upgrade", own + scaled),
        story.phase("", own + updating),
        *story.run("post-upgrade", own + updating),
        *story.run("pre-rollback", own + scaled),
        *story.run("post-rollback", own + updating),
        *story.run("pre-delete", own + scaled),
        *story.run("post-delete", own),
    ]
    return Needs(Need(tuple(first)), Need(tuple(chain(first, then))))


def quantities_of(amounts: Amounts) -> dict[str, str]:
    """Amounts as quantities, as each resource of a ResourceQuota is usually written."""
    return {name: shown(name, value) for name, value in amounts.items()}


def shown(resource: str, value: Decimal) -> str:
    """
    An amount as a quantity, as a resource is usually written.

    Args:
        resource: Name in a ResourceQuota, or of a container's resource.
        value: Cores, bytes or a count.

    """
    return written(value, like="1Gi" if resource.endswith(("memory", "storage")) else "1")


class _Story:
    """The hooks of a release: Helm runs them one by one, and each leaves something behind."""

    def __init__(self, hooks: list[Charted], around: Surroundings) -> None:
        self._hooks = sorted(hooks, key=_weight)
        self._around = around
        self._left: dict[Subject, list[Use]] = {}

    def phase(self, name: str, uses: list[Use]) -> Phase:
        """A time at which these are there, beside what hooks have left."""
        return Phase(name, (*uses, *chain.from_iterable(self._left.values())))

    def run(self, event: str, beside: list[Use]) -> Iterator[Phase]:
        """The hooks of an event, each when the one before has ended."""
        ran = [hook for hook in self._hooks if event in _words(hook, HOOK)]
        for hook in ran:
            # Unless it is told otherwise, Helm deletes what the same hook has left before.
            self._left.pop(hook.subject, None)
            running = list(standing(hook, self._around, {}))
            yield self.phase(f"{event} hook {hook.subject.name}", beside + running)
            self._left[hook.subject] = [use for use in running if not use.ends]
        for hook in ran:
            if "hook-succeeded" in _words(hook, _DELETE):
                self._left.pop(hook.subject, None)


def _own(release: list[Charted], around: Surroundings, *, revisions: int) -> list[Use]:
    """What envprov, Helm and Kubernetes make there beside the chart."""

    def one(kind: str, name: str, copies: int = 1) -> Use:
        counted = {"Secret": "count/secrets", "ConfigMap": "count/configmaps"}[kind]
        return Use(Subject("v1", kind, around.home, name), copies, {counted: Decimal(1)})

    made = {item.subject.name for item in release if item.is_a("", "Secret")}
    copied = [one("Secret", name) for name in dict.fromkeys(around.secrets) if name not in made]
    return [one("ConfigMap", ROOT_CERTIFICATES), one("Secret", RELEASE, revisions), *copied]


def _words(item: Charted, annotation: str) -> set[str]:
    said = text(within(item.manifest, "metadata", "annotations").get(annotation))
    return {word.strip() for word in said.split(",")}


def _weight(item: Charted) -> int:
    said = mapping(within(item.manifest, "metadata", "annotations")).get(_WEIGHT)
    try:
        return int(text(said)[:20])
    except ValueError:
        return 0
