"""Whether the branch's own file is the one in force."""

from __future__ import annotations

from collections.abc import Iterator

from envprov.domain.checking import Given
from envprov.domain.findings import Finding, Rule, Severity

IGNORED = Rule(
    "BranchFileIgnored",
    Severity.WARNING,
    "The commit's `.envprov.yaml` is wrong, or asks for more than the Project allows. It counts as a whole, so the "
    "last good one stays in force ([branch-file.md](branch-file.md)).",
    "push a corrected file, or let the Project allow more",
)
RULES = (IGNORED,)


def branch_file(given: Given) -> Iterator[Finding]:
    """A file that was looked at and does not count."""
    file = given.desired.file
    if file is not None and file.fault:
        in_force = f"what commit {file.revision[:12]} says stays in force"
        yield IGNORED.found(None, "", f"{file.fault}; {in_force}")


CHECKS = (branch_file,)
