"""What the note on a merge request says of the environment of its branch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from envprov.domain.deliveries import Dismissal
from envprov.domain.environment import Environment
from envprov.domain.markdown import code, moment, plain_url
from envprov.domain.project import Project
from envprov.domain.standing import findings, standing
from envprov.domain.telling import command
from envprov.domain.told import Debt

_REASONS = {
    Dismissal.DOWN.value: "Somebody took it down; the next push brings it back.",
    Dismissal.EXPIRED.value: "Its lifetime had ended; the next push brings it back.",
}
_GONE = "Its branch is gone, its merge request is closed, or its record was deleted."


def marker(slug: str) -> str:
    """First line of a note, which nobody sees: by it the note is found again."""
    return f"<!-- envprov:{slug} -->"


def digest_of(text: str) -> str:
    """What is remembered of the text of a note."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def note_of(environment: Environment, project: Project, *, has_commands: bool) -> str:
    """The note of an environment that is on record; *has_commands* says whether comments may give it commands."""
    return "\n".join(
        (
            marker(environment.name),
            f"**Environment {code(environment.name)} {standing(environment)}.**",
            "",
            *_facts(environment),
            *_expiry(environment),
            *_shown_findings(environment),
            "",
            _ways(environment, project.name, has_commands=has_commands),
        )
    )


def last_note(debt: Debt) -> str:
    """The note of an environment whose record is gone."""
    why = _REASONS.get(debt.why, _GONE)
    return "\n".join(
        (marker(debt.environment), f"**Environment {code(debt.environment)} is gone.** {why}", "", _branch(debt.branch))
    )


def _facts(environment: Environment) -> Iterator[str]:
    status, revision = environment.status, environment.spec.revision
    if status.url and not environment.deleting:
        url = plain_url(status.url)
        yield f"- URL: {f'<{url}>' if url else code(status.url)}"
    yield _branch(environment.spec.branch)
    deployed = status.observed_revision
    if deployed:
        yield f"- Deployed commit: {code(deployed[:12])}"
    if revision and revision != deployed:
        yield f"- Wanted commit: {code(revision[:12])}"
    if environment.spec.asleep and not environment.deleting:
        waits = "; the wanted commit is deployed when it wakes up" if revision and revision != deployed else ""
        yield f"- Asleep: nothing of it runs, its data stays{waits}"
    if status.size:
        yield f"- Size: {code(status.size)}"
    if status.queue and status.queue.size != status.size:
        yield f"- Waits for size {code(status.queue.size)}, place {status.queue.position}: {code(status.queue.reason)}"


def _branch(branch: str) -> str:
    return f"- Branch: {code(branch)}"


def _expiry(environment: Environment) -> Iterator[str]:
    status = environment.status
    if environment.deleting:
        return
    if environment.spec.pinned:
        yield "- Ends: not by itself; it is pinned"
    elif status.expires_at is None:
        yield "- Ends: with its branch"
    elif status.warned_for == status.expires_at:
        yield f"- **Ends soon: {moment(status.expires_at)}**"
    else:
        yield f"- Ends: {moment(status.expires_at)}"


def _shown_findings(environment: Environment) -> Iterator[str]:
    found = findings(environment)
    if found:
        yield ""
        yield "What was found:"
        yield ""
        yield from (f"- {code(message)}" for message in found)


def _ways(environment: Environment, project: str, *, has_commands: bool) -> str:
    if environment.deleting:
        return f"See why it takes long: {code(command('status', environment.spec.branch, project))}"
    if has_commands:
        rest = "wake" if environment.spec.asleep else "sleep"
        listed = ", ".join(f"`/envprov {word}`" for word in ("extend 3d", "pin", rest, "why", "down", "help"))
        return f"Comment with {listed}."
    rows = (
        *((("Awake", command("wake", environment.spec.branch, project)),) if environment.spec.asleep else ()),
        ("Longer", command("extend", environment.spec.branch, project, "3d")),
        ("for good", command("pin", environment.spec.branch, project)),
        ("no more", command("down", environment.spec.branch, project)),
    )
    return "; ".join(f"{what}: {code(text)}" for what, text in rows)
