"""A plan as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from envprov.cli import printing
from envprov.domain.findings import Finding, Severity, refusing
from envprov.domain.outlook import Outlook

_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_TITLES = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.NOTE: "Notes"}
_DIFF = {"+": "green", "-": "red", "@": "cyan"}


def show(outlook: Outlook) -> None:
    """Print what would become of a branch: what it would get, what is wrong, what would change, and the verdict."""
    for name, value in _facts(outlook):
        printing.print_line(f"{name:<12}{value}")
    for severity, findings in groupby(outlook.findings, key=lambda finding: finding.severity):
        printing.print_line("")
        printing.print_line(_TITLES[severity], "bold")
        for finding in findings:
            _show_finding(finding)
    if outlook.changes:
        printing.print_line("")
        printing.print_line("Changes", "bold")
        if outlook.is_new:
            for _, which, remark in outlook.changes.rows():
                printing.print_line(f"  + {which}{f' ({remark})' if remark else ''}", "green")
        else:
            for line in outlook.changes.text().splitlines():
                printing.print_line(f"  {line}", _DIFF.get(line[:1], ""))
    printing.print_line("")
    printing.print_line(_verdict(outlook), {"Refused": "red", "Queued": "yellow"}.get(outlook.verdict, "green"))


def _facts(outlook: Outlook) -> Iterator[tuple[str, str]]:
    desired = outlook.desired
    yield "Environment", f"{desired.identity.name}{' (new)' if outlook.is_new else ''}"
    yield "Namespace", desired.identity.namespace
    if desired.url:
        yield "URL", desired.url
    yield "Size", desired.size_name
    for name, (needs, has) in outlook.requests.items():
        yield "", f"{name}: needs {needs} of {has}"
    if desired.lifetime is not None:
        yield "Lifetime", str(desired.lifetime)
    if outlook.cost is not None:
        yield "Cost", str(outlook.cost)
    for account in outlook.holds:
        yield "Holds", f"ServiceAccount {account}"


def _show_finding(finding: Finding) -> None:
    where = " ".join(part for part in (str(finding.subject or "the chart"), finding.field) if part)
    printing.print_line(f"  {finding.reason}: {where}", _STYLES[finding.severity])
    printing.print_line(f"    {finding.message}")
    printing.print_line(f"    {finding.remedy}")


def _verdict(outlook: Outlook) -> str:
    match outlook.verdict:
        case "Refused":
            count = len(refusing(outlook.findings))
            return f"Refused: {count} {'error' if count == 1 else 'errors'}; nothing would be created"
        case "Queued":
            return f"Queued: {outlook.waits}"
        case "Unchanged":
            return "Unchanged: the environment is as it would be"
        case _:
            return f"Would be deployed: {outlook.changes.summary}"
