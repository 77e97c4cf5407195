"""What a plan finds wrong with a chart, as data: the rule that is broken, the object, the field and the way out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum


class Severity(IntEnum):
    """What follows from a finding."""

    ERROR = 0
    """The chart is refused, and nothing is created."""
    WARNING = 1
    """It is deployed, and may not work as meant."""
    NOTE = 2
    """Worth knowing: somebody outside may have to do something, or something could not be looked at."""

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, order=True)
class Subject:
    """
    The object that a finding is about.

    Attributes:
        api_version: As it is written in the chart.
        kind: Its kind.
        namespace: Where it would go; empty for a cluster-scoped one.
        name: Its name; empty if it has none.

    """

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name or '(without a name)'}"


@dataclass(frozen=True)
class Finding:
    """
    One thing that is wrong.

    Attributes:
        reason: Name of the rule that is broken: a heading of docs/findings.md.
        severity: What follows.
        subject: The object; None if it is about the chart as a whole.
        field: Path of the field, such as ``spec.template.spec.hostNetwork``; empty for the whole object.
        message: What is wrong, in words.
        remedy: What to do.

    """

    reason: str
    severity: Severity
    subject: Subject | None
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = " ".join(part for part in (str(self.subject or ""), self.field) if part)
        return f"{where}: {self.message}; {self.remedy}" if where else f"{self.message}; {self.remedy}"


@dataclass(frozen=True)
class Rule:
    """
    What a chart can break: a row of docs/findings.md.

    Attributes:
        reason: CamelCase name, unlike that of any other rule.
        severity: What follows when it is broken, unless the Project only warns of it.
        cause: Why the rule is there: one or two sentences for the page, in Markdown.
        remedy: What to do, when a finding knows nothing better.

    """

    reason: str
    severity: Severity
    cause: str
    remedy: str

    def found(self, subject: Subject | None, field: str, message: str, remedy: str = "") -> Finding:
        """
        Say that it is broken.

        Args:
            subject: The object.
            field: Path of the field; empty for the whole object.
            message: What is wrong, naming the value; no full stop.
            remedy: What to do here; by default the rule's own.

        """
        return Finding(self.reason, self.severity, subject, field, message, remedy or self.remedy)


def downgrade(findings: Iterable[Finding], warn_only: Collection[str]) -> tuple[Finding, ...]:
    """
    Let a Project only be warned of what it has agreed to.

    Args:
        findings: What was found.
        warn_only: Reasons that do not refuse a chart; ``*`` for all.

    Returns:
        The findings, worst first, each once.

    """
    agreed = (
        replace(finding, severity=max(finding.severity, Severity.WARNING))
        if finding.reason in warn_only or "*" in warn_only
        else finding
        for finding in findings
    )
    return tuple(sorted(dict.fromkeys(agreed), key=_rank))


def refusing(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those for which a chart is refused."""
    return tuple(finding for finding in findings if finding.severity is Severity.ERROR)


def _rank(finding: Finding) -> tuple[int, str, str, str]:
    subject = finding.subject
    return finding.severity, finding.reason, f"{subject.kind}/{subject.name}" if subject else "", finding.field
