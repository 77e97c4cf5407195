"""What is wrong with one pod: from its own status and the events about it, in the order of a pod's life."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from envprov.domain.causes import Cause
from envprov.domain.evidence import condition_of, is_going, name_of
from envprov.domain.images import ADVICE, PULLING, explain_pull
from envprov.domain.loose import Manifest, mapping, mappings, moment, text, within
from envprov.domain.scheduling import explain_unschedulable

PATIENCE = timedelta(seconds=30)
"""Before this age a pod that nobody has looked at yet says nothing."""
INIT_PATIENCE = timedelta(minutes=1)
RECENT = timedelta(minutes=2)
"""What has run for longer is no longer between two crashes."""
WORDS_LIMIT = 400
"""Characters of one thing that Kubernetes said."""

_MISSING = re.compile(
    r"(?:secrets?|configmaps?) \\?\"[^\"\\]+\\?\" not found|couldn't find key \S+ in \S+ \S+", re.IGNORECASE
)
_SIGNAL = 128
_SIGNALS = {134: "SIGABRT", 137: "SIGKILL", 139: "SIGSEGV: a fault in its memory", 143: "SIGTERM"}
_EXITS = {126: "its command cannot be executed", 127: "its command is not in the image"}
_PROBES = {"Liveness": Cause.LIVENESS_FAILS, "Startup": Cause.STARTUP_FAILS, "Readiness": Cause.READINESS_FAILS}
_CANNOT_START = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PostStartHookError",
        "PreCreateHookError",
    }
)
_AS_ROOT = "let the image name a user by number, or set securityContext.runAsUser in the chart's values"


@dataclass(frozen=True)
class Told:
    """
    What an event says about a pod.

    Attributes:
        reason: Its reason.
        message: Its message.
        container: The container that it is about; empty for the pod, or if it does not say.

    """

    reason: str
    message: str
    container: str = ""


@dataclass(frozen=True)
class Fault:
    """
    What is wrong with a pod.

    Attributes:
        cause: In one word.
        said: A clause that goes on after "pod NAME": ``cannot start: ...``.
        quoted: Kubernetes' own words for it.
        advice: What to do.
        container: The container that it is about; empty for the pod as a whole.
        has_log: Whether the log of that container tells more.
        previous: Whether that log is the one before its last restart.
        times: How often it was restarted, in words; apart, since it changes all the time.

    """

    cause: Cause
    said: str
    quoted: tuple[str, ...] = ()
    advice: str = ""
    container: str = ""
    has_log: bool = False
    previous: bool = False
    times: str = ""


def pod_fault(pod: Manifest, events: Sequence[Told] = (), now: datetime | None = None) -> Fault | None:
    """
    What is wrong with a pod.

    Args:
        pod: The pod; of a trimmed one only what is left is looked at.
        events: About it, the newest first.
        now: Aware; without it nothing is said that only time tells.

    Returns:
        None if it is ready, has ended well, is ending, or may be on its way.

    """
    status = within(pod, "status")
    phase = text(status.get("phase"))
    if is_going(pod) or phase == "Succeeded":
        return None
    if phase == "Failed":
        return _ended(pod)
    return _unplaced(pod, now) or _in_containers(pod, events, now) or _unready(pod, events, now)


def short(words: str) -> str:
    """Words of Kubernetes in one line, cut."""
    line = " ".join(words.split())
    return line if len(line) <= WORDS_LIMIT else f"{line[: WORDS_LIMIT - 1]}…"


def ending(terminated: Manifest) -> str:
    """How a container ended, as a clause."""
    code, reason = terminated.get("exitCode"), text(terminated.get("reason"))
    if reason == "OOMKilled":
        return "was killed, since it took more memory than its limit"
    if not isinstance(code, int):
        return f"ended ({reason})" if reason else "ended"
    more = _EXITS.get(code) or _SIGNALS.get(code) or ("by a signal" if code > _SIGNAL else "")
    return f"ended with exit code {code}" + (f" ({more})" if more else "")


def is_ready(pod: Manifest) -> bool:
    """Whether a pod takes part."""
    return condition_of(pod, "Ready").get("status") == "True"


# --- Before a node has it, and after it has ended


def _ended(pod: Manifest) -> Fault | None:
    status = within(pod, "status")
    reason, message = text(status.get("reason")), text(status.get("message"))
    if reason == "Evicted":
        advice = "lower what it uses (disk or memory), or raise its requests"
        return Fault(Cause.EVICTED, "was thrown out by its node", (short(message),), advice)
    for container in _statuses(pod, "initContainerStatuses", "containerStatuses"):
        terminated = within(container, "state", "terminated")
        if terminated and terminated.get("exitCode") != 0:
            cause = Cause.OUT_OF_MEMORY if terminated.get("reason") == "OOMKilled" else Cause.CRASH_LOOP
            name, said = name_in(container), short(text(terminated.get("message")))
            return Fault(
                cause,
                f"has ended: container {name} {ending(terminated)}",
                (said,) if said else (),
                _MEMORY if cause is Cause.OUT_OF_MEMORY else "read the end of its log",
                name,
                has_log=True,
            )
    return None


def _unplaced(pod: Manifest, now: datetime | None) -> Fault | None:
    placed = condition_of(pod, "PodScheduled")
    message = text(placed.get("message"))
    if placed.get("status") == "False":
        if placed.get("reason") == "SchedulingGated":
            gates = ", ".join(text(gate.get("name")) for gate in mappings(within(pod, "spec").get("schedulingGates")))
            advice = "ask who put the gate on it: a pod with gates is not scheduled"
            return Fault(Cause.SCHEDULING_GATED, f"is held back by the scheduling gate {gates}", (message,), advice)
        found = explain_unschedulable(message)
        return Fault(found.cause, f"cannot be placed: {found.said}", (short(message),), _PLACING.get(found.cause, ""))
    if placed or within(pod, "spec").get("nodeName") or not _is_older(pod, PATIENCE, now):
        return None
    name = text(within(pod, "spec").get("schedulerName")) or "default-scheduler"
    advice = "ask who runs the cluster: no pod gets a node without that scheduler"
    return Fault(Cause.SCHEDULER_SILENT, f"has not been looked at by the scheduler {name}", (), advice)


_PLACING: Mapping[Cause, str] = {
    Cause.INSUFFICIENT_RESOURCES: "ask for less (requests in the chart's values), end an environment that nobody "
    "needs, or ask for nodes",
    Cause.NODE_TAINTS: "give the pod a toleration, or ask who runs the nodes",
    Cause.NODE_AFFINITY: "correct nodeSelector, affinity or spread constraints in the chart",
    Cause.VOLUME_ELSEWHERE: "let the pod and its volume be in one zone, or delete the claim if its data may go",
    Cause.PORT_TAKEN: "leave hostPort away: a Service needs none",
    Cause.CLAIM_MISSING: "let the chart make that claim, or mount another one",
    Cause.CLAIM_UNBOUND: "see what the claim waits for",
    Cause.NO_NODES: "ask who runs the cluster",
    Cause.UNSCHEDULABLE: "read the scheduler's own words below",
}


# --- Containers


def _in_containers(pod: Manifest, events: Sequence[Told], now: datetime | None) -> Fault | None:
    sidecars = {
        text(entry.get("name"))
        for entry in mappings(within(pod, "spec").get("initContainers"))
        if entry.get("restartPolicy") == "Always"
    }
    for container in _statuses(pod, "initContainerStatuses"):
        fault = _waiting(container, events) or _initialising(container, sidecars, now)
        if fault is not None:
            return fault
        if not within(container, "state", "terminated") and name_in(container) not in sidecars:
            return None  # it runs, and no later one has begun
    for container in _statuses(pod, "containerStatuses"):
        fault = _waiting(container, events) or _restarting(container, events, now)
        if fault is not None:
            return fault
    return None


def _waiting(container: Manifest, events: Sequence[Told]) -> Fault | None:
    waiting = within(container, "state", "waiting")
    reason, message, name = text(waiting.get("reason")), text(waiting.get("message")), name_in(container)
    if reason in PULLING:
        image = text(container.get("image"))
        told_of = [message, *(told.message for told in events if told.reason == "Failed" and image in told.message)]
        found = [explain_pull(reason, words, image) for words in told_of]  # the newest that says anything
        cause, clause = next((each for each in found if each[0] is not Cause.IMAGE_PULL_FAILED), found[0])
        quoted = tuple(dict.fromkeys(short(words) for words in told_of[:3] if words))
        return Fault(cause, f"cannot pull the image {image}: {clause}", quoted, ADVICE[cause], name)
    missing = _MISSING.search(message) if reason == "CreateContainerConfigError" else None
    if missing is not None:
        advice = "let the chart make it, or let the Project copy it (`copySecrets`); the pod starts by itself then"
        said = f"cannot start container {name}: {missing[0]}"
        return Fault(Cause.CONFIG_MISSING, said, (short(message),), advice, container=name)
    if reason in _CANNOT_START:
        advice = _AS_ROOT if "runAsNonRoot" in message else "correct command, args or image, as the node's words say"
        said = f"cannot start container {name}: {short(message) or reason}"
        has_log = reason != "CreateContainerConfigError"  # it never ran
        return Fault(Cause.CONTAINER_CANNOT_START, said, (), advice, name, has_log=has_log)
    return None


def _initialising(container: Manifest, sidecars: set[str], now: datetime | None) -> Fault | None:
    name = name_in(container)
    last = _last_end(container)
    if text(within(container, "state", "waiting").get("reason")) == "CrashLoopBackOff" or _is_bad(
        within(container, "state", "terminated")
    ):
        advice = "read the end of its log; no other container of the pod starts before it has ended well"
        said, times = f"cannot start: its init container {name} {ending(last)}", _times(container)
        return Fault(Cause.INIT_CONTAINER_FAILS, said, (), advice, name, has_log=True, previous=True, times=times)
    running = within(container, "state", "running")
    started = moment(running.get("startedAt"))
    if name in sidecars or started is None or now is None or now - started < INIT_PATIENCE:
        return None
    advice = "read the end of its log: it often waits for something else to answer"
    minutes = int((now - started).total_seconds() // 60)
    said = f"does not start: its init container {name} has been running for {minutes} min and does not end"
    return Fault(Cause.INIT_CONTAINER_HANGS, said, (), advice, name, has_log=True)


_MEMORY = "raise limits.memory in the chart's values, or let it use less"


def _restarting(container: Manifest, events: Sequence[Told], now: datetime | None) -> Fault | None:
    looping = text(within(container, "state", "waiting").get("reason")) == "CrashLoopBackOff"
    ended = within(container, "state", "terminated")
    again = not container.get("ready") and bool(_last_end(container)) and _has_just_begun(container, now)
    if not looping and not _is_bad(ended) and not again:
        return None
    name, last = name_in(container), _last_end(container)
    if last.get("reason") == "OOMKilled":
        said, times = f"is not up: container {name} {ending(last)}", _times(container)
        return Fault(Cause.OUT_OF_MEMORY, said, (), _MEMORY, name, has_log=True, previous=not ended, times=times)
    killed = next((told for told in events if told.reason == "Killing" and "failed" in told.message), None)
    if killed is not None and f"Container {name} failed" in killed.message:
        return _probe(name, events, "Startup" if "startup" in killed.message else "Liveness", (killed.message,))
    if not looping and not _is_bad(ended) and not _is_bad(last):
        return None
    message = short(text(last.get("message")))
    said, times = f"is not up: container {name} {ending(last)}", _times(container)
    quoted = (message,) if message else ()
    advice = "read the end of its log: it is the program itself that ends"
    return Fault(Cause.CRASH_LOOP, said, quoted, advice, name, has_log=True, previous=not ended, times=times)


def _has_just_begun(container: Manifest, now: datetime | None) -> bool:
    """Whether it runs for so short a time that its last end says how it is now."""
    started = moment(within(container, "state", "running").get("startedAt"))
    return started is not None and now is not None and now - started < RECENT


def _probe(name: str, events: Sequence[Told], kind: str, also: tuple[str, ...] = ()) -> Fault:
    found = next((told.message for told in events if _is_probe(told, kind, name)), "")
    reason = found.partition("failed:")[2].strip()
    effect = {
        "Liveness": f"restarts again and again: the liveness probe of container {name} fails",
        "Startup": f"is not up: the startup probe of container {name} fails",
        "Readiness": f"gets no requests: the readiness probe of container {name} fails",
    }[kind]
    advice = (
        f"see whether port and path of the {kind.lower()} probe are right, and whether the program is slow to begin"
    )
    quoted = tuple(short(words) for words in (found, *also) if words)
    said = f"{effect} ({short(reason)})" if reason else effect
    return Fault(_PROBES[kind], said, quoted, advice, name, has_log=True)


def _is_probe(told: Told, kind: str, container: str) -> bool:
    about = told.container in {"", container}
    return about and told.reason in {"Unhealthy", "ProbeWarning"} and told.message.startswith(f"{kind} probe")


# --- A pod that has a node, and is not ready


def _unready(pod: Manifest, events: Sequence[Told], now: datetime | None) -> Fault | None:
    if is_ready(pod) or not within(pod, "spec").get("nodeName"):
        return None
    statuses = list(_statuses(pod, "containerStatuses"))
    running = [container for container in statuses if "running" in within(container, "state")]
    if len(running) < len(statuses) or not statuses:
        return _held_up(pod, events, now, begun=bool(statuses))
    for container in running:
        if container.get("ready"):
            continue
        kind = "Startup" if container.get("started") is False else "Readiness"
        for probe in (kind, "Readiness", "Startup"):
            if any(_is_probe(told, probe, name_in(container)) for told in events):
                return _probe(name_in(container), events, probe)
    gate = next((gate for gate in _closed_gates(pod) if running), None)
    if gate is not None and all(container.get("ready") for container in running):
        advice = "ask who sets that condition, often a load balancer's controller"
        return Fault(Cause.READINESS_GATE, f"gets no requests: its readiness gate {gate} is closed", (), advice)
    return None


def _held_up(pod: Manifest, events: Sequence[Told], now: datetime | None, *, begun: bool) -> Fault | None:
    rows = (
        ("FailedCreatePodSandBox", Cause.SANDBOX_FAILS, "cannot start: it gets no network or sandbox on its node"),
        ("FailedMount", Cause.MOUNT_FAILS, "cannot start: a volume cannot be mounted"),
        ("FailedAttachVolume", Cause.MOUNT_FAILS, "cannot start: a volume cannot be attached to its node"),
        ("FailedMapVolume", Cause.MOUNT_FAILS, "cannot start: a volume cannot be mapped"),
    )
    for reason, cause, said in rows:
        told = next((told.message for told in events if told.reason == reason), None)
        if told is None:
            continue
        missing = _MISSING.search(told)
        if missing is not None:
            advice = "let the chart make it, or let the Project copy it (`copySecrets`)"
            return Fault(Cause.CONFIG_MISSING, f"cannot start: {missing[0]}", (short(told),), advice)
        advice = "ask who runs the nodes" if cause is Cause.SANDBOX_FAILS else "see what the node says of the volume"
        return Fault(cause, said, (short(told),), advice)
    if begun or not _is_older(pod, PATIENCE, now):
        return None
    node = text(within(pod, "spec").get("nodeName"))
    advice = "ask who runs the nodes: nothing is begun there"
    return Fault(Cause.NODE_SILENT, f"has been given to node {node}, which has not begun with it", (), advice)


# --- Reading


def name_in(container: Manifest) -> str:
    """Name of a container, from its status."""
    return text(container.get("name"))


def _statuses(pod: Manifest, *fields: str) -> Iterator[Manifest]:
    for field in fields:
        yield from mappings(within(pod, "status").get(field))


def _closed_gates(pod: Manifest) -> Iterator[str]:
    for gate in mappings(within(pod, "spec").get("readinessGates")):
        kind = text(gate.get("conditionType"))
        if condition_of(pod, kind).get("status") != "True":
            yield kind


def _last_end(container: Manifest) -> Manifest:
    return mapping(within(container, "state").get("terminated") or within(container, "lastState").get("terminated"))


def _is_bad(terminated: Manifest) -> bool:
    return bool(terminated) and terminated.get("exitCode") != 0


def _times(container: Manifest) -> str:
    count = container.get("restartCount")
    restarts = count if isinstance(count, int) else 0
    return "restarted once" if restarts == 1 else f"restarted {restarts} times"


def _is_older(item: Manifest, span: timedelta, now: datetime | None) -> bool:
    born = moment(within(item, "metadata").get("creationTimestamp"))
    return now is not None and born is not None and now - born >= span


def faulty_pods(pods: Sequence[Manifest]) -> Iterator[str]:
    """A sentence for each trouble that pods are in by their own status, which of several pods names one."""
    troubles: dict[str, list[str]] = {}
    for pod in pods:
        fault = pod_fault(pod)
        if fault is not None:
            troubles.setdefault(fault.said, []).append(name_of(pod))
    for said, names in troubles.items():
        more = f" ({len(names) - 1} more likewise)" if len(names) > 1 else ""
        yield f"Pod {min(names)} {said}{more}"


def trimmed_status(status: Manifest) -> dict[str, Any]:
    """
    What of a pod's status tells of trouble: little of one in trouble, and next to nothing of one that is well.

    Args:
        status: As the API server sent it.

    """
    kept: dict[str, Any] = {key: status[key] for key in ("phase", "reason") if key in status}
    conditions = {text(entry.get("type")): entry for entry in mappings(status.get("conditions"))}
    if conditions.get("Ready", {}).get("status") == "True" or kept.get("phase") == "Succeeded":
        return kept
    if conditions.get("PodScheduled", {}).get("status") == "False":
        kept["conditions"] = [conditions["PodScheduled"]]
    for field in ("initContainerStatuses", "containerStatuses"):
        containers = [_trimmed(container) for container in mappings(status.get(field))]
        if containers:
            kept[field] = containers
    return kept


_OF_CONTAINERS = ("name", "image", "ready", "restartCount", "state", "lastState")


def _trimmed(container: Manifest) -> dict[str, Any]:
    return {key: container[key] for key in _OF_CONTAINERS if key in container}
