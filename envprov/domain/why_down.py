"""
What keeps an environment, or its Namespace, from going.

Kubernetes' own account of a Namespace has a known lie: while pods remain, all its conditions say that everything was
removed. So pods are looked at first, and the lie is named.

Source: https://github.com/kubernetes/kubernetes/issues/138208
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from envprov.domain import telling
from envprov.domain.causes import Cause
from envprov.domain.environment import FINALIZER, Type
from envprov.domain.evidence import Evidence, Fact, Part, Symptom, condition_of, is_going, name_of
from envprov.domain.finalizers import explain_finalizers
from envprov.domain.guard import CANARY
from envprov.domain.holds import Hold, read_holds
from envprov.domain.loose import Manifest, mappings, moment, text, texts, within
from envprov.domain.plan import Phase
from envprov.domain.pod_faults import short
from envprov.domain.policies import DELETE_GUARD
from envprov.domain.refusals import explain_dead_webhook, explain_denial
from envprov.domain.why_helm import helm_symptoms
from envprov.domain.why_record import no_controller
from envprov.domain.why_workloads import node_trouble

SILENCE = timedelta(seconds=20)
"""The namespace controller waits 5 seconds and then says something."""
_NAMED = 5
_WAITS = re.compile(r"(\S+) (\S+) \(finalizers: (.+)\)")
_KINDS = re.compile(r"([a-z0-9-]+(?:\.[a-z0-9.-]+)?)\.? has (\d+) resource instances")
_LIE = "its conditions say that all content was removed; so they say of every Namespace while pods remain"


def going_symptoms(evidence: Evidence) -> Iterator[Symptom]:
    """
    What keeps it from going, in the order in which it goes.

    Args:
        evidence: Of an environment that is to go, or whose Namespace is going.

    """
    record, namespace = evidence.one(Part.RECORD), evidence.one(Part.NAMESPACE)
    terminating = namespace is not None and is_going(namespace)
    if record is not None and is_going(record) and not terminating:
        if evidence.is_led is False:
            yield no_controller(evidence, "nobody takes it down")
        yield from _blocked(evidence, record)
    yield from _pods(evidence, terminating=terminating)
    if namespace is not None and terminating:
        yield from _namespace(evidence, namespace)
    elif record is not None and (namespace is not None or not evidence.knows(Part.NAMESPACE)):
        yield from helm_symptoms(evidence)
        yield from _teardown(evidence, record)
    elif record is not None:
        yield from _record(record)


def content_wanted(namespace: Manifest) -> tuple[str, ...]:
    """
    Kinds of which a Namespace says that something is left.

    Args:
        namespace: As it was read.

    Returns:
        ``plural.group``, or ``plural`` alone for the core group.

    """
    message = text(condition_of(namespace, "NamespaceContentRemaining").get("message"))
    return tuple(dict.fromkeys(matched[1].rstrip(".") for matched in _KINDS.finditer(message)))


# --- Who holds it


def _blocked(evidence: Evidence, record: Manifest) -> Iterator[Symptom]:
    blocked = condition_of(record, Type.TEARDOWN_BLOCKED)
    if blocked.get("status") != "True":
        return
    message = text(blocked.get("message"))
    fact = Fact(f"Environment {name_of(record)}", f"TeardownBlocked, {text(blocked.get('reason'))}: {short(message)}")
    explain = f"envprov guard explain {evidence.namespace}"
    match blocked.get("reason"):
        case "Disarmed":
            summary = (
                "the guard that keeps what others use from being deleted is not in force, and nothing is torn down "
                f"without it: {message}"
            )
            yield Symptom(Cause.GUARD_DISARMED, summary, (fact,), ("envprov guard status", "envprov doctor"))
        case "UsageUnknown":
            summary = f"the guard cannot see who uses its ServiceAccounts, and takes nothing down blindly: {message}"
            yield Symptom(Cause.USAGE_UNKNOWN, summary, (fact,), ("envprov guard status", explain))
        case "HeldByOthers":
            yield _held(evidence, (fact,), texts(within(record, "status", "teardown").get("waitingFor")))
        case _:
            pass


def _held(evidence: Evidence, facts: tuple[Fact, ...], waiting: tuple[str, ...]) -> Symptom:
    holds = list(_holds(evidence))
    seen = tuple(Fact(f"ServiceAccount {account}", f"held by {hold.holder}: {hold.why}") for account, hold in holds)
    who = list(dict.fromkeys(f"{hold.holder} (ServiceAccount {account})" for account, hold in holds))
    said = "; ".join(who[:_NAMED] or waiting[:_NAMED]) or "others"
    more = f" and {len(who) - _NAMED} more" if len(who) > _NAMED else ""
    summary = (
        f"somebody else still uses a ServiceAccount in its Namespace, and would break if it went: {said}{more}. "
        "It goes by itself when they have let go"
    )
    accounts = list(dict.fromkeys(account for account, _ in holds))[:_NAMED]
    advice = tuple(f"envprov guard explain {evidence.namespace}/{account}" for account in accounts)
    return Symptom(
        Cause.HELD_BY_OTHERS,
        summary,
        (*facts, *seen),
        advice or (f"envprov guard explain {evidence.namespace}",),
        frozenset({Part.ACCOUNTS}),
    )


def _holds(evidence: Evidence) -> Iterator[tuple[str, Hold]]:
    for account in evidence.of(Part.ACCOUNTS):
        for hold in read_holds(account):
            if hold.holder.kind != CANARY and hold.holder.name != evidence.name:
                yield name_of(account), hold


# --- Pods


def _pods(evidence: Evidence, *, terminating: bool) -> Iterator[Symptom]:
    lie: tuple[Fact, ...] = ()
    namespace = evidence.one(Part.NAMESPACE)
    if terminating and namespace is not None and not any(_true_conditions(namespace)):
        lie = (Fact(f"Namespace {evidence.namespace}", _LIE),)
    found = [symptom for pod in evidence.of(Part.PODS) if (symptom := _ending(evidence, pod, lie)) is not None]
    order = (Cause.POD_FINALIZER, Cause.POD_ON_LOST_NODE, Cause.POD_ENDING)
    yield from sorted(found, key=lambda symptom: order.index(symptom.cause))


def _ending(evidence: Evidence, pod: Manifest, lie: tuple[Fact, ...]) -> Symptom | None:
    name, metadata = name_of(pod), within(pod, "metadata")
    end = moment(metadata.get("deletionTimestamp"))
    if end is None:
        return None
    needs = frozenset({Part.NODES})
    advice = (telling.describe(evidence, "pod", name),)
    every, has_ended = texts(metadata.get("finalizers")), _has_ended(pod)
    stays = has_ended and evidence.now - end >= OVERDUE
    finalizers = [one for one in every if stays or one not in _OF_PODS]
    fact = Fact(f"Pod {name}", f"is being deleted; finalizers: {', '.join(every) or 'none'}")
    if finalizers:
        summary = (
            f"pod {name} {'has ended and ' if has_ended else ''}is held by {explain_finalizers(finalizers)}. envprov "
            "takes nobody's finalizer off; whoever put it there has to"
        )
        return Symptom(Cause.POD_FINALIZER, summary, (fact, *lie), advice)
    node = text(within(pod, "spec").get("nodeName"))
    trouble = node_trouble(evidence, node) if node else ""
    if trouble:
        summary = (
            f"pod {name} is on node {node}, which {trouble}; so nobody can say that the pod has ended. Whoever runs "
            "the nodes has to bring the node back or delete it"
        )
        return Symptom(Cause.POD_ON_LOST_NODE, summary, (fact, *lie), (f"kubectl describe node {node}",), needs)
    left = int((end - evidence.now).total_seconds())
    if left > 0:
        summary = f"pod {name} is ending and has {left} s left to do so by itself"
    else:
        summary = f"pod {name} should have ended {-left} s ago, and its node has not said that it did"
    return Symptom(Cause.POD_ENDING, summary, (fact, *lie), advice, needs)


_OF_PODS = frozenset({"batch.kubernetes.io/job-tracking", "foregroundDeletion"})
"""Kubernetes takes them off by itself within moments of the pod's end; if not, whoever ought to does not work."""
OVERDUE = timedelta(minutes=1)


def _has_ended(pod: Manifest) -> bool:
    """Whether the node has said that nothing of a pod runs any more."""
    if text(within(pod, "status").get("phase")) in {"Succeeded", "Failed"}:
        return True
    containers = list(mappings(within(pod, "status").get("containerStatuses")))
    return bool(containers) and all(within(container, "state", "terminated") for container in containers)


# --- A Namespace that is going


def _namespace(evidence: Evidence, namespace: Manifest) -> Iterator[Symptom]:
    where = f"Namespace {evidence.namespace}"
    said = dict(_true_conditions(namespace))
    facts = {kind: Fact(where, f"{kind}: {short(message)}") for kind, message in said.items()}
    for kind in ("NamespaceDeletionDiscoveryFailure", "NamespaceDeletionGroupVersionParsingFailure"):
        if kind in said:
            yield _discovery(evidence, said[kind], facts[kind])
    if "NamespaceDeletionContentFailure" in said:
        message = said["NamespaceDeletionContentFailure"]
        yield _refused(evidence, message, facts["NamespaceDeletionContentFailure"])
    yield from _left(evidence, facts)
    own = [*texts(within(namespace, "metadata").get("finalizers"))]
    own += [one for one in texts(within(namespace, "spec").get("finalizers")) if one != "kubernetes"]
    if own and not said and not evidence.of(Part.PODS):
        summary = f"everything in {where} has gone, and the Namespace itself is held by {explain_finalizers(own)}"
        advice = (f"kubectl get namespace {evidence.namespace} -o yaml",)
        yield Symptom(Cause.NAMESPACE_FINALIZER, summary, (Fact(where, f"finalizers: {', '.join(own)}"),), advice)
    since = moment(within(namespace, "metadata").get("deletionTimestamp"))
    conditions = list(mappings(within(namespace, "status").get("conditions")))
    if not conditions and since is not None and evidence.now - since >= SILENCE:
        seconds = int((evidence.now - since).total_seconds())
        summary = (
            f"its deletion was asked for {seconds} s ago, and what empties Namespaces, Kubernetes' controller manager "
            "(kube-controller-manager), has not begun. Whoever runs the cluster has to mend that"
        )
        advice = ("kubectl get leases -n kube-system, to see whether kube-controller-manager renews its own",)
        yield Symptom(Cause.CLUSTER_CONTROLLERS_SILENT, summary, (Fact(where, "has no conditions"),), advice)


def _true_conditions(namespace: Manifest) -> Iterator[tuple[str, str]]:
    for entry in mappings(within(namespace, "status").get("conditions")):
        if entry.get("status") == "True":
            yield text(entry.get("type")), text(entry.get("message"))


def _discovery(evidence: Evidence, message: str, fact: Fact) -> Symptom:
    needs = frozenset({Part.API_SERVICES})
    broken = [
        item for item in evidence.of(Part.API_SERVICES) if condition_of(item, "Available").get("status") != "True"
    ]
    if not broken:
        summary = (
            "Kubernetes cannot find out which kinds of objects there are, and so not whether the Namespace is empty: "
            f"{short(message)}"
        )
        return Symptom(Cause.DISCOVERY_FAILS, summary, (fact,), ("kubectl get apiservices",), needs)
    names = ", ".join(name_of(item) for item in broken[:_NAMED])
    facts = []
    for item in broken[:_NAMED]:
        service = within(item, "spec", "service")
        where = f"{service.get('namespace')}/{service.get('name')}" if service else "the API server itself"
        why = text(condition_of(item, "Available").get("message"))
        facts.append(Fact(f"APIService {name_of(item)}", f"not available, served by {where}: {short(why)}"))
    many = len(broken) > 1
    summary = (
        f"the API{'s' if many else ''} {names} of this cluster {'do' if many else 'does'} not answer, and Kubernetes "
        "lets no Namespace go before it has asked every API what is left in there. Whoever runs "
        f"{'those APIs' if many else 'that API'} has to mend or remove {'them' if many else 'it'}"
    )
    advice = tuple(f"kubectl describe apiservice {name_of(item)}" for item in broken[:_NAMED])
    return Symptom(Cause.API_SERVICE_BROKEN, summary, (fact, *facts), advice, needs)


def _refused(evidence: Evidence, message: str, fact: Fact) -> Symptom:
    dead = explain_dead_webhook(message)
    if dead is not None:
        name, why = dead
        configurations = tuple(_configurations(evidence, name))
        whose = f" ({configurations[0].subject})" if configurations else ""
        summary = (
            f"the admission webhook {name}{whose} must be asked before something in there may be deleted, and it does "
            f"not answer: {why}. Whoever runs it has to mend it"
        )
        advice = tuple(f"kubectl describe {found.subject.lower()}" for found in configurations)
        needs = frozenset({Part.WEBHOOKS})
        every = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
        return Symptom(Cause.WEBHOOK_UNREACHABLE, summary, (fact, *configurations), advice or (every,), needs)
    if DELETE_GUARD in message:
        return _held(evidence, (fact,), ())
    denial = explain_denial(message)
    if denial is not None:
        summary = f"{denial[0]} does not let something in the Namespace be deleted: {denial[1]}"
        return Symptom(Cause.DELETION_REFUSED, summary, (fact,), ("do as it says, or ask who runs it",))
    summary = f"Kubernetes cannot delete something in the Namespace: {short(message)}"
    return Symptom(Cause.CONTENT_REMAINS, summary, (fact,), (f"kubectl get namespace {evidence.namespace} -o yaml",))


def _configurations(evidence: Evidence, webhook: str) -> Iterator[Fact]:
    for item in evidence.of(Part.WEBHOOKS):
        for entry in mappings(item.get("webhooks")):
            if entry.get("name") == webhook:
                client = within(entry, "clientConfig")
                service = within(client, "service")
                where = f"Service {service.get('namespace')}/{service.get('name')}" if service else "a URL"
                policy = text(entry.get("failurePolicy")) or "Fail"
                kind = text(item.get("kind"))
                yield Fact(f"{kind} {name_of(item)}", f"webhook {webhook} at {where}, failurePolicy {policy}")


def _left(evidence: Evidence, facts: dict[str, Fact]) -> Iterator[Symptom]:
    told = [facts[kind] for kind in ("NamespaceFinalizersRemaining", "NamespaceContentRemaining") if kind in facts]
    if not told or evidence.of(Part.PODS):
        return
    needs = frozenset({Part.CONTENT})
    held = [item for item in evidence.of(Part.CONTENT) if texts(within(item, "metadata").get("finalizers"))]
    if held:
        yield _finalizer(evidence, held, tuple(told), needs)
    elif "NamespaceFinalizersRemaining" in facts:
        summary = f"a finalizer holds something in the Namespace: {facts['NamespaceFinalizersRemaining'].says}"
        yield Symptom(Cause.FINALIZER, summary, tuple(told), _listing(evidence), needs)
    else:
        summary = f"something is left in the Namespace, and what holds it is not seen: {told[0].says}"
        yield Symptom(Cause.CONTENT_REMAINS, summary, tuple(told), _listing(evidence), needs)


def _listing(evidence: Evidence) -> tuple[str, ...]:
    every = "kubectl api-resources --verbs=list --namespaced -o name"
    return (f"{every} | xargs -n 1 kubectl get -n {evidence.namespace} --ignore-not-found --show-kind",)


def _finalizer(
    evidence: Evidence, held: list[Manifest], facts: tuple[Fact, ...], needs: frozenset[Part] = frozenset()
) -> Symptom:
    first = held[0]
    kind, name = text(first.get("kind")), name_of(first)
    finalizers = texts(within(first, "metadata").get("finalizers"))
    others = len(held) - 1
    more = f" ({others} more object{'s are' if others > 1 else ' is'} held likewise)" if others else ""
    seen = tuple(
        Fact(
            f"{text(item.get('kind'))} {name_of(item)}",
            f"finalizers: {', '.join(texts(within(item, 'metadata').get('finalizers')))}",
        )
        for item in held[:_NAMED]
    )
    summary = (
        f"{kind} {name} is held by {explain_finalizers(finalizers)}{more}. envprov takes nobody's finalizer off: what "
        "it stands for would be left behind; whoever put it there has to"
    )
    group, slash, _ = text(first.get("apiVersion")).rpartition("/")
    named = f"{kind}.{group}" if slash else kind  # another group may have a kind of that name
    advice = (telling.describe(evidence, named, name), "see whether the owner of that finalizer runs, and read its log")
    return Symptom(Cause.FINALIZER, summary, (*facts, *seen), advice, needs)


# --- A teardown that is under way


def _teardown(evidence: Evidence, record: Manifest) -> Iterator[Symptom]:
    live = [
        item
        for part in (Part.CLAIMS, Part.SERVICES)
        for item in evidence.of(part)
        if is_going(item) and texts(within(item, "metadata").get("finalizers"))
    ]
    if live:
        yield _finalizer(evidence, live, ())
    waiting = texts(within(record, "status", "teardown").get("waitingFor"))
    held = [matched for entry in waiting if (matched := _WAITS.fullmatch(entry)) and matched[1] != "Pod"]
    seen = {(text(item.get("kind")), name_of(item)) for item in live}
    told = [_as_object(matched) for matched in held if (matched[1], matched[2]) not in seen]
    if told:
        fact = Fact(f"Environment {name_of(record)}", f"the controller waits for {'; '.join(waiting[:_NAMED])}")
        yield _finalizer(evidence, told, (fact,))
    ready = condition_of(record, Type.READY)
    if ready.get("reason") in {Phase.RETRYING, Phase.STALLED}:
        message = text(ready.get("message"))
        fact = Fact(f"Environment {name_of(record)}", f"{ready.get('reason')}: {short(message)}")
        advice = (telling.status(evidence),)
        yield Symptom(Cause.HELM_FAILED, f"a step of its teardown fails: {message}", (fact,), advice)


def _as_object(matched: re.Match[str]) -> Manifest:
    return {"kind": matched[1], "metadata": {"name": matched[2], "finalizers": matched[3].split(", ")}}


def _record(record: Manifest) -> Iterator[Symptom]:
    others = [one for one in texts(within(record, "metadata").get("finalizers")) if one != FINALIZER]
    if others:
        name = name_of(record)
        summary = (
            f"nothing is left of it but its record, Environment {name}, which is held by {explain_finalizers(others)}"
        )
        fact = Fact(f"Environment {name}", f"finalizers: {', '.join(others)}")
        where = text(within(record, "metadata").get("namespace"))
        yield Symptom(Cause.RECORD_FINALIZER, summary, (fact,), (f"kubectl get env {name} -n {where} -o yaml",))
