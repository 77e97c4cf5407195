"""
The scheduler's words, translated.

It says how many nodes failed which test: ``0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had untolerated taint
{gpu: yes}. preemption: ...``. What it would do if it threw out others does not matter here.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from envprov.domain.causes import Cause

_COUNTED = re.compile(r"(\d+)/(\d+) nodes are available: (.*?)(?:\.? preemption: .*|\.)?$", re.DOTALL)
_COUNT = re.compile(r"(\d+) (.*)", re.DOTALL)
_ROWS: tuple[tuple[re.Pattern[str], Cause, str], ...] = (
    (
        re.compile(r'persistentvolumeclaim "([^"]+)" (?:not found|is being deleted)'),
        Cause.CLAIM_MISSING,
        "the PersistentVolumeClaim {0} that it mounts is not there",
    ),
    (
        re.compile(r"unbound immediate PersistentVolumeClaims"),
        Cause.CLAIM_UNBOUND,
        "a PersistentVolumeClaim that it mounts has no volume yet",
    ),
    (
        re.compile(r"volume node affinity conflict|available persistent volumes to bind|enough free storage"),
        Cause.VOLUME_ELSEWHERE,
        "{nodes} cannot use its volume",
    ),
    (re.compile(r"Insufficient (\S+)"), Cause.INSUFFICIENT_RESOURCES, "{nodes} {have} too little {0} left"),
    (re.compile(r"Too many pods"), Cause.INSUFFICIENT_RESOURCES, "{nodes} {have} as many pods as may be"),
    (re.compile(r"max volume count"), Cause.INSUFFICIENT_RESOURCES, "{nodes} {have} as many volumes as may be"),
    (
        re.compile(r"untolerated taint (\{.*\})"),
        Cause.NODE_TAINTS,
        "{nodes} {have} the taint {0}, which it does not tolerate",
    ),
    (re.compile(r"untolerated taint"), Cause.NODE_TAINTS, "{nodes} {have} taints that it does not tolerate"),
    (re.compile(r"were unschedulable"), Cause.NODE_TAINTS, "{nodes} {have} been closed to new pods (cordoned)"),
    (
        re.compile(r"Pod's node affinity/selector|node selector|node affinity"),
        Cause.NODE_AFFINITY,
        "{nodes} {have} not the labels that its nodeSelector or affinity asks for",
    ),
    (
        re.compile(r"(?:pod|existing pods) (?:anti-)?affinity rules|existing pods anti-affinity"),
        Cause.NODE_AFFINITY,
        "{nodes} {have} pods that it must not be beside, or lack those that it must be beside",
    ),
    (
        re.compile(r"pod topology spread constraints"),
        Cause.NODE_AFFINITY,
        "{nodes} would put too many of its kind into one place",
    ),
    (re.compile(r"free ports"), Cause.PORT_TAKEN, "{nodes} {have} its host port in use"),
)


@dataclass(frozen=True)
class Unschedulable:
    """
    Why no node takes a pod.

    Attributes:
        cause: That which most nodes fail by, or what concerns all of them at once.
        said: All reasons in words.

    """

    cause: Cause
    said: str


def explain_unschedulable(message: str) -> Unschedulable:
    """
    The scheduler's words, translated.

    Args:
        message: Of the condition PodScheduled, or of an event FailedScheduling.

    Returns:
        Words that are not known are left as they are.

    """
    if "no nodes available" in message:
        return Unschedulable(Cause.NO_NODES, "the cluster has no nodes that could take it")
    counted = _COUNTED.search(message)
    parts = re.split(r", (?![^{]*\})", counted[3]) if counted else [message]
    found: list[tuple[int, Cause, str]] = []
    for part in parts:
        numbered = _COUNT.fullmatch(part.strip())
        number, words = (int(numbered[1]), numbered[2]) if numbered else (0, part.strip())
        found.append(_translated(number, words.rstrip(".")))
    total = int(counted[2]) if counted else 0
    whole = [entry for entry in found if not entry[0]]  # what concerns the pod and not a node
    decisive = min(whole, key=lambda entry: entry[1] is Cause.UNSCHEDULABLE, default=None)
    if decisive is None or decisive[1] is Cause.UNSCHEDULABLE:
        known = [entry for entry in found if entry[1] is not Cause.UNSCHEDULABLE]
        decisive = max(known or found, key=lambda entry: entry[0])
    of = f" of {total} node{'' if total == 1 else 's'}" if total else ""
    said = ", ".join(words for _, _, words in found)
    return Unschedulable(decisive[1], f"no node{of and f' (0{of})'} can take it: {said}")


def _translated(number: int, words: str) -> tuple[int, Cause, str]:
    nodes, have = (f"{number} node{'' if number == 1 else 's'}", "has" if number == 1 else "have")
    for pattern, cause, form in _ROWS:
        matched = pattern.search(words)
        if matched:
            groups = [group or "" for group in matched.groups()]
            return number, cause, form.format(*groups, nodes=nodes, have=have)
    return number, Cause.UNSCHEDULABLE, f"{nodes}: {words}" if number else words
