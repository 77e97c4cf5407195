"""Why the API server refuses a pod: its words in events and conditions FailedCreate, translated."""

from __future__ import annotations

import re
from collections.abc import Mapping

from envprov.domain.causes import Cause
from envprov.domain.evidence import Part
from envprov.domain.health import explain_quota
from envprov.domain.pod_faults import Fault, short
from envprov.domain.sizes import Size

_SECURITY = re.compile(r'violates PodSecurity "([^"]+)": (.*)', re.DOTALL)
_ACCOUNT = re.compile(r'service account (\S+?): serviceaccount "[^"]+" not found')
_NEEDS = re.compile(r"failed quota: (\S+): must specify (.*)", re.DOTALL)
_DENIED = re.compile(r'admission webhook "([^"]+)" denied the request(?:: )?(.*)', re.DOTALL)
_POLICY = re.compile(r"ValidatingAdmissionPolicy '([^']+)' with binding '[^']+' denied request: (.*)", re.DOTALL)
_SILENT = re.compile(r'failed calling webhook "([^"]+)": (?:failed to call webhook: )?(.*)', re.DOTALL)
_LIMITS = re.compile(
    r"(?:maximum|minimum) \S+ (?:usage )?per (?:Container|Pod|PersistentVolumeClaim) is .*"
    r"|\S+ max limit to request ratio .*|must be less than or equal to \S+ limit.*",
    re.DOTALL,
)
_CLASS = re.compile(r'no PriorityClass with name (\S+) was found|RuntimeClass "?([^"\s]+)"? not found', re.IGNORECASE)

NEEDS: Mapping[Cause, frozenset[Part]] = {Cause.WEBHOOK_UNREACHABLE: frozenset({Part.WEBHOOKS})}
"""Parts without which a refusal is only half explained."""


def explain_refusal(message: str, sizes: Mapping[str, Size]) -> Fault:
    """
    Why a pod, or something else that was to be created, was refused.

    Args:
        message: The API server's words.
        sizes: The sizes that a refusal by the quota can be answered with.

    Returns:
        A clause that goes on after "Deployment NAME gets no pods: ".

    """
    cause, said, advice = _explained(message, sizes)
    return Fault(cause, said, (short(message),), advice)


def explain_dead_webhook(message: str) -> tuple[str, str] | None:
    """
    The webhook that does not answer.

    Args:
        message: The API server's words.

    Returns:
        Its name, and why in words; None if the message is about something else.

    """
    matched = _SILENT.search(message)
    return (matched[1], why_silent(matched[2])) if matched else None


def explain_denial(message: str) -> tuple[str, str] | None:
    """
    Who refuses, and what they say; None if neither a webhook nor a policy did.

    Args:
        message: The API server's words.

    """
    for pattern, kind in ((_DENIED, "admission webhook"), (_POLICY, "admission policy")):
        matched = pattern.search(message)
        if matched:
            return f"{kind} {matched[1]}", short(matched[2]) or "no reason given"
    return None


def why_silent(words: str) -> str:
    """What keeps a webhook from answering, in words."""
    rows = (
        (r'service "([^"]+)" not found', "its Service {0} is not there"),
        (r'no endpoints available for service "([^"]+)"', "no pod stands behind its Service {0}"),
        (r"context deadline exceeded|Client\.Timeout|i/o timeout", "it does not answer in time"),
        (r"connection refused", "nothing listens where it should be"),
        (r"no such host", "its host name is not known"),
        (r"x509|tls:", "its certificate is not accepted"),
    )
    for pattern, form in rows:
        matched = re.search(pattern, words)
        if matched:
            return form.format(*matched.groups())
    return short(words)


def _explained(message: str, sizes: Mapping[str, Size]) -> tuple[Cause, str, str]:
    quota = explain_quota(message, sizes)
    if quota is not None:
        return Cause.QUOTA_EXCEEDED, quota, "ask for less in the chart's values, or for a larger size"
    found = (reader(message) for reader in _READERS)
    advice = "the API server's own words say what it does not take"
    return next((each for each in found if each is not None), (Cause.CREATION_REFUSED, short(message), advice))


_Read = tuple[Cause, str, str]
"""The cause, a clause that says it, and what to do."""


def _needs(message: str) -> _Read | None:
    matched = _NEEDS.search(message)
    advice = "give each container requests and limits in the chart's values"
    said = f"the quota {matched[1]} wants {short(matched[2])}" if matched else ""
    return (Cause.QUOTA_NEEDS_REQUESTS, said, advice) if matched else None


def _security(message: str) -> _Read | None:
    matched = _SECURITY.search(message)
    if matched is None:
        return None
    said = f"the Pod Security level {matched[1]} of the Namespace forbids {short(matched[2])}"
    return Cause.POD_SECURITY, said, "leave that away in the chart's securityContext and pod spec"


def _account(message: str) -> _Read | None:
    matched = _ACCOUNT.search(message)
    advice = "let the chart make it (often serviceAccount.create: true), or name one that is there"
    return (Cause.ACCOUNT_MISSING, f"the ServiceAccount {matched[1]} is not there", advice) if matched else None


def _class(message: str) -> _Read | None:
    matched = _CLASS.search(message)
    if matched is None:
        return None
    which = f"PriorityClass {matched[1]}" if matched[1] else f"RuntimeClass {matched[2]}"
    return Cause.CLASS_MISSING, f"the {which} is not there", "name one that is there, or leave it away"


def _webhook(message: str) -> _Read | None:
    dead = explain_dead_webhook(message)
    if dead is None:
        return None
    said = f"admission webhook {dead[0]} must be asked first and does not answer: {dead[1]}"
    return Cause.WEBHOOK_UNREACHABLE, said, "ask who runs that webhook: nothing passes until it answers"


def _denial(message: str) -> _Read | None:
    denial = explain_denial(message)
    if denial is None:
        return None
    return Cause.ADMISSION_REFUSED, f"{denial[0]} says: {denial[1]}", "do as it says, or ask who runs it"


def _limits(message: str) -> _Read | None:
    matched = _LIMITS.search(message)
    if matched is None:
        return None
    said = f"the limits of the Namespace do not allow it: {short(matched[0])}"
    return Cause.LIMITS_REFUSED, said, "bring requests and limits in the chart's values into these bounds"


_READERS = (_needs, _security, _account, _class, _webhook, _denial, _limits)
