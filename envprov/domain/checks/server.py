"""What the API server itself says about each object of a chart, when it is asked without anything being stored."""

from __future__ import annotations

import re

from envprov.domain.errors import EnvprovError, Forbidden, Invalid
from envprov.domain.findings import Finding, Rule, Severity, Subject

REFUSED = Rule(
    "RefusedByServer",
    Severity.ERROR,
    "The API server was asked with a dry run whether it would take the object, in the environment's own namespace or "
    "in a scratch one that is deleted again, and said no: a field is wrong, an admission policy or the quota forbids "
    "it, or the installer has no right to it.",
    "Do what the API server's message says. What it refuses in a dry run, it refuses from Helm, too.",
)
UNTRIED = Rule(
    "NotTried",
    Severity.NOTE,
    "Whether the API server would take the object could not be found out: an admission webhook supports no dry run, "
    "the answer did not come in time, you may not make a scratch namespace, or neither make the object nor act as the "
    "installer.",
    "Nothing, usually: the controller tries again when it deploys. The message says what stood in the way.",
)
RULES = (REFUSED, UNTRIED)

_NO_DRY_RUN = "does not support dry run"
_RIGHTS = re.compile(r"\bcannot \S+ (resource|path) |is attempting to grant RBAC permissions")
"""What RBAC says; quota and admission speak otherwise, and to everybody alike."""


_UNKNOWN_FIELD = re.compile(r"\.\S+: field not declared in schema")
_WRONG_VALUE = re.compile(r"\.\S+: (?!field not declared in schema)")


def judge(subject: Subject, error: EnvprovError, *, is_installer: bool = True, drops_unknown: bool = False) -> Finding:
    """
    What an answer to a dry run means.

    Args:
        subject: The object that was sent.
        error: What came back.
        is_installer: Whether it was sent as who will make it; that somebody else has no right to it says nothing.
        drops_unknown: Whether it will be made by a request that only warns of unknown fields, as Helm 3 makes it.

    """
    said = str(error)
    if drops_unknown and _UNKNOWN_FIELD.search(said) and not _WRONG_VALUE.search(said):
        return UNTRIED.found(subject, "", f"a field will be left out: {said}", "correct the field")
    if not is_installer and isinstance(error, Forbidden) and _RIGHTS.search(said):
        return UNTRIED.found(subject, "", f"it could not be tried on the API server: {said}")
    if isinstance(error, Forbidden | Invalid) and _NO_DRY_RUN not in said:
        return REFUSED.found(subject, "", f"the API server refuses it: {said}")
    return UNTRIED.found(subject, "", f"it could not be tried on the API server: {said}")
