"""Commands that an answer names, as a person can paste them."""

from __future__ import annotations

import shlex

from envprov.domain.evidence import Evidence


def command(name: str, branch: str, project: str, *rest: str) -> str:
    """A command of ours about one branch; *rest* are more of its arguments."""
    return shlex.join(("envprov", name, branch, *rest, "--project", project))


def status(evidence: Evidence) -> str:
    """The command that shows how it is."""
    return command("status", evidence.branch, evidence.project)


def wake(evidence: Evidence) -> str:
    """The command that wakes it."""
    return command("wake", evidence.branch, evidence.project)


def up(evidence: Evidence) -> str:
    """The command that asks for it."""
    return command("up", evidence.branch, evidence.project)


def describe(evidence: Evidence, kind: str, name: str) -> str:
    """The command that shows an object of the environment with its events."""
    return f"kubectl describe {kind.lower()} {shlex.quote(name)} -n {evidence.namespace}"


def log(evidence: Evidence, pod: str, container: str, *, previous: bool) -> str:
    """The command that shows a log."""
    return f"kubectl logs {pod} -c {container} -n {evidence.namespace}" + (" --previous" if previous else "")
