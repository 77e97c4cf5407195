"""
What GitLab ought to show of an environment, and the steps from what it was told to that.

What was told is on record (``status.gitlab``), so the same fact is told once. An answer that was lost is not: whoever
carries the steps out looks for what may be there already, by name or by marker, before making it.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from envprov.domain.deliveries import Dismissal
from envprov.domain.environment import SUCCESSOR, Environment, GitLabEnvironment, GitLabNote
from envprov.domain.environment import GitLabStatus as Told
from envprov.domain.environment import Type as ConditionType
from envprov.domain.forge import DeploymentStatus, ProjectRef
from envprov.domain.plan import Phase
from envprov.domain.project import Project
from envprov.domain.sweep import is_fork_branch

STATUS = "envprov"
"""Name of the status of a commit."""
NOTES_LIMIT = 20
"""Most merge requests of one branch that get a note."""
FINDINGS_LIMIT = 20
"""Most findings of the check of a chart that a note shows one by one."""
MESSAGE_LIMIT = 1000
"""Characters of one finding that a note shows."""

_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?")
_RANK = {"running": 0, "failed": 1, "success": 2}
_FAILURES = frozenset({"HelmFailed", "HelmTimeout"})
_MEANWHILE = "is being deployed"
_RESTING = {
    Phase.FALLING_ASLEEP: "is falling asleep",
    Phase.ASLEEP: "is asleep",
    Phase.WAKING: "is waking up",
}
_STANDINGS = {
    Phase.QUEUED: "waits for room",
    Phase.UNHEALTHY: "is not healthy",
    Phase.RETRYING: "has met a fault and is tried again",
    Phase.STALLED: "cannot be deployed",
}
_REASONS = {
    Dismissal.DOWN.value: "Somebody took it down; the next push brings it back.",
    Dismissal.EXPIRED.value: "Its lifetime had ended; the next push brings it back.",
}

_GONE = "Its branch is gone, its merge request is closed, or its record was deleted."


@dataclass(frozen=True, slots=True)
class Progress:
    """
    How far a commit has come.

    Attributes:
        revision: The commit.
        status: In GitLab's words.

    """

    revision: str
    status: DeploymentStatus


FOLDER = "envprov"
"""Of our environments in GitLab, unless the settings name another one."""


@dataclass(frozen=True, slots=True)
class Publication:
    """
    What GitLab ought to show.

    Attributes:
        project: Where.
        slug: Name of the Environment.
        branch: Branch in GitLab; None for a merge request from a fork, whose branch is another project's.
        is_shown: Whether that environment is to be there.
        url: Where its button leads, if anywhere.
        progress: The newest commit; None if it is not known, or nothing new is to be said.
        has_status: Whether commits get a status.
        note: What the notes say; None if they are left alone.
        requests: Merge requests that get a note; others that have one keep it.
        is_over: Whether the environment is going or gone: nothing new is begun.
        is_asleep: Whether nothing is deployed for the time being: what was begun does not go on.
        folder: Of our environments in GitLab.

    """

    project: ProjectRef
    slug: str
    branch: str | None
    is_shown: bool
    url: str | None = None
    progress: Progress | None = None
    has_status: bool = False
    note: str | None = None
    requests: tuple[int, ...] = ()
    is_over: bool = False
    is_asleep: bool = False
    folder: str = FOLDER

    @property
    def environment(self) -> str:
        """Name of the environment in GitLab, which takes letters, digits, spaces and ``- _ / $ { }`` only."""
        return f"{self.folder}/{self.slug}"


@dataclass(frozen=True, slots=True)
class Debt:
    """
    What is still to be taken out of GitLab when the record is gone.

    Attributes:
        environment: Name of the Environment that was there.
        project: Its Project.
        branch: Its branch.
        told: What GitLab was told last.
        why: Why it went, a value of Dismissal, or "".
        version: Of the tombstone that says so.

    """

    environment: str
    project: str
    branch: str
    told: Told
    why: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class EnsureEnvironment:
    """Have an environment of this name and URL; the one with the number, if one is given."""

    name: str
    url: str | None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class StartDeployment:
    """Have a new deployment of a commit."""

    environment: str
    revision: str
    ref: str
    status: DeploymentStatus


@dataclass(frozen=True, slots=True)
class EndDeployment:
    """Say how a deployment ended."""

    environment: str
    id: int
    revision: str
    status: DeploymentStatus


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Set the status of a commit."""

    revision: str
    ref: str | None
    state: DeploymentStatus
    url: str | None


@dataclass(frozen=True, slots=True)
class WriteNote:
    """Have a note on a merge request."""

    merge_request: int
    text: str


@dataclass(frozen=True, slots=True)
class EditNote:
    """Have a note say something else, if it is there; without a number, if it can be found."""

    merge_request: int
    id: int | None
    text: str


@dataclass(frozen=True, slots=True)
class StopEnvironment:
    """Stop the environment, if it is there."""

    name: str
    id: int | None


@dataclass(frozen=True, slots=True)
class DeleteEnvironment:
    """Delete the environment, which is stopped, with its deployments."""

    name: str
    id: int | None


Step = (
    EnsureEnvironment
    | StartDeployment
    | EndDeployment
    | SetStatus
    | WriteNote
    | EditNote
    | StopEnvironment
    | DeleteEnvironment
)


def part_of(step: Step) -> str:
    """What a step belongs to: after one that failed, the others of the same part are not tried."""
    match step:
        case WriteNote(merge_request=iid) | EditNote(merge_request=iid):
            return f"note !{iid}"
        case SetStatus():
            return "status"
        case _:
            return "environment"


def marker(slug: str) -> str:
    """First line of a note, which nobody sees: by it the note is found again."""
    return f"<!-- envprov:{slug} -->"


def fork_iid(branch: str) -> int | None:
    """Number of the merge request from a fork that a branch stands for, or None for a branch of the project itself."""
    return int(branch.split("/")[1]) if is_fork_branch(branch) else None


def digest_of(text: str) -> str:
    """What is remembered of the text of a note."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def wanted(environment: Environment, project: Project, requests: tuple[int, ...] = ()) -> Publication | None:
    """
    What GitLab ought to show of an environment.

    Args:
        environment: The record.
        project: Its Project.
        requests: Numbers of the open merge requests of its branch, as far as they are known.

    Returns:
        None if the Project does not come from GitLab.

    """
    gitlab = project.spec.gitlab
    if gitlab is None:
        return None
    return Publication(
        project=gitlab.project,
        slug=environment.name,
        branch=_branch_in_gitlab(environment.spec.branch),
        is_shown=gitlab.report.environment,
        url=_plain_url(environment.status.url),
        progress=_progress(environment),
        has_status=gitlab.report.status,
        note=_note(environment, project, has_commands=gitlab.commands is not None) if gitlab.report.note else None,
        requests=requests,
        is_over=environment.deleting,
        is_asleep=environment.spec.asleep,
    )


def farewell(debt: Debt, project: Project | None) -> Publication:
    """
    What GitLab ought to show of an environment whose record is gone.

    Args:
        debt: What is left of it.
        project: Its Project; None if that is gone, too.

    """
    gitlab = project.spec.gitlab if project else None
    why = _REASONS.get(debt.why, _GONE)
    text = "\n".join(
        (marker(debt.environment), f"**Environment {code(debt.environment)} is gone.** {why}", "", _branch(debt.branch))
    )
    return Publication(
        project=debt.told.project,
        slug=debt.environment,
        branch=_branch_in_gitlab(debt.branch),
        is_shown=False,
        note=text if gitlab is None or gitlab.report.note else None,
        is_over=True,
    )


def steps(publication: Publication, told: Told | None) -> tuple[Step, ...]:
    """
    What is to be told.

    Args:
        publication: What GitLab ought to show.
        told: What it was told last.

    Returns:
        In order; nothing when all of it was told.

    """
    known = known_of(publication, told)
    return (
        *_deployment_steps(publication, known),
        *_status_steps(publication, known),
        *_note_steps(publication, known),
    )


def known_of(publication: Publication, told: Told | None) -> Told:
    """What GitLab was told of it in the project that it is in now; nothing if that is another one than it was."""
    return told if told is not None and told.project == publication.project else Told(project=publication.project)


def intent(known: Told, decided: Iterable[Step]) -> Told:
    """
    What goes on record before anything is made, so that it is never forgotten, whatever happens next.

    Args:
        known: What GitLab was told.
        decided: What is about to be done.

    """
    for step in decided:
        match step:
            case EnsureEnvironment(name=name) if known.environment is None:
                known = known.model_copy(update={"environment": GitLabEnvironment(name=name)})
            case WriteNote(merge_request=iid) if all(note.merge_request != iid for note in known.notes):
                known = with_note(known, GitLabNote(merge_request=iid))
            case _:
                pass
    return known


def with_note(known: Told, note: GitLabNote) -> Told:
    """The same with what is known of one note."""
    notes = {one.merge_request: one for one in known.notes} | {note.merge_request: note}
    return known.model_copy(update={"notes": tuple(notes.values())})


def without_note(known: Told, merge_request: int) -> Told:
    """The same without the note of a merge request."""
    left = tuple(note for note in known.notes if note.merge_request != merge_request)
    return known.model_copy(update={"notes": left})


def together(told: Told | None, before: Told) -> Told:
    """
    What a record knows, and what it takes over from one that had its name before.

    Args:
        told: What it knows itself.
        before: What the other one knew. Some of it may have been taken out of GitLab already, so it is only known
            what to look for.

    """
    environment = before.environment and GitLabEnvironment(name=before.environment.name)
    if told is None or told.project != before.project:
        runs = before.deployment is not None and before.deployment.status == "running"
        deployment = before.deployment if runs else None
        told = before.model_copy(update={"environment": environment, "deployment": deployment, "notes": ()})
    elif told.environment is None:
        told = told.model_copy(update={"environment": environment})
    mine = {note.merge_request for note in told.notes}
    inherited = (note.model_copy(update={"digest": ""}) for note in before.notes if note.merge_request not in mine)
    return told.model_copy(update={"notes": (*told.notes, *inherited)[:NOTES_LIMIT]})


def code(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """
    Somebody else's text as GitLab shows it letter by letter: no mention, link, command, image or HTML in it counts.

    Args:
        text: Of any kind; becomes one line, for a blank line would end what protects it.
        limit: Most characters.

    Source: https://docs.gitlab.com/user/markdown/#code-spans-and-blocks

    """
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def moment(at: datetime) -> str:
    """A moment for people anywhere."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def standing(environment: Environment) -> str:
    """Where an environment stands, as the end of a sentence."""
    if environment.deleting:
        comes_back = SUCCESSOR in environment.annotations
        return "is being taken down, and comes back" if comes_back else "is being taken down"
    resting = _resting(environment)
    if resting is not None:
        return _RESTING[resting]
    if _is_ready(environment):
        return "is ready"
    trouble = _trouble(environment)
    return _STANDINGS[trouble] if trouble else _MEANWHILE


def findings(environment: Environment) -> tuple[str, ...]:
    """What is wrong with an environment, each once; what changes from second to second is none."""
    status = environment.status
    if environment.deleting:
        blocked = status.condition(ConditionType.TEARDOWN_BLOCKED)
        return (blocked.message,) if blocked is not None and blocked.status == "True" else ()
    if _is_ready(environment) or not _is_current(environment):
        return ()
    accepted, ready = status.condition(ConditionType.ACCEPTED), status.condition(ConditionType.READY)
    if accepted is not None and accepted.status == "False" and (errors := _errors(environment)):
        return errors
    found = [accepted.message] if accepted is not None and accepted.status == "False" else []
    found += [ready.message] if ready is not None and ready.reason in _STANDINGS else []
    return tuple(dict.fromkeys(message for message in found if message))


def _errors(environment: Environment) -> tuple[str, ...]:
    """What the check of the chart found, one by one, each with the way out."""
    errors = [finding for finding in environment.status.findings if finding.severity == "error"]
    shown = [
        f"{' '.join(part for part in (each.object, each.field) if part) or 'the chart'}: {each.message}; {each.remedy}"
        for each in errors[:FINDINGS_LIMIT]
    ]
    rest = len(errors) - len(shown)
    return (*shown, f"and {rest} more: envprov plan lists them all") if rest else tuple(shown)


def _deployment_steps(publication: Publication, known: Told) -> Iterator[Step]:
    name, last, progress = publication.environment, known.deployment, publication.progress
    goes_on = publication.is_shown and not publication.is_over
    if last is not None and last.id is not None and last.status == "running":
        is_superseded = progress is not None and progress.revision != last.revision
        if not goes_on or is_superseded or publication.is_asleep:
            yield EndDeployment(name, last.id, last.revision, "canceled")
    there = known.environment
    if goes_on:
        has_moved = publication.url is not None and there is not None and publication.url != there.url
        if there is None or there.id is None or has_moved:
            yield EnsureEnvironment(name, publication.url, there.id if there else None)
    elif not publication.is_shown and there is not None:
        yield StopEnvironment(there.name, there.id)
        yield DeleteEnvironment(there.name, there.id)
    if not goes_on or progress is None:
        return
    if last is None or last.revision != progress.revision or last.status == "canceled":
        yield StartDeployment(name, progress.revision, publication.branch or progress.revision, progress.status)
    elif last.id is not None and _moves(last.status, progress.status):
        yield EndDeployment(name, last.id, last.revision, progress.status)


def _status_steps(publication: Publication, known: Told) -> Iterator[Step]:
    last, progress = known.commit, publication.progress
    goes_on = publication.has_status and not publication.is_over
    is_superseded = last is not None and progress is not None and progress.revision != last.revision
    is_cut_short = not goes_on or is_superseded or publication.is_asleep
    if last is not None and last.state == "running" and is_cut_short:
        yield SetStatus(last.revision, publication.branch, "canceled", None)
    if not goes_on or progress is None:
        return
    if last is None or is_superseded or last.state == "canceled" or _moves(last.state, progress.status):
        yield SetStatus(progress.revision, publication.branch, progress.status, publication.url)


def _note_steps(publication: Publication, known: Told) -> Iterator[Step]:
    text = publication.note
    if text is None:
        return
    requests = () if publication.is_over else publication.requests
    for note in known.notes:
        if note.digest == digest_of(text):
            continue
        if note.id is None and note.merge_request in requests:
            yield WriteNote(note.merge_request, text)
        else:
            yield EditNote(note.merge_request, note.id, text)
    noted = {note.merge_request for note in known.notes}
    fresh = [iid for iid in requests if iid not in noted]
    for iid in fresh[: max(NOTES_LIMIT - len(noted), 0)]:
        yield WriteNote(iid, text)


def _moves(before: str, after: DeploymentStatus) -> bool:
    """
    Whether a status follows another of the same commit.

    What has failed may still succeed, as Helm is tried again; it does not run anew, and what has succeeded stays so: a
    pod that is restarted is no deployment.
    """
    return before in _RANK and after in _RANK and _RANK[after] > _RANK[before]


def _progress(environment: Environment) -> Progress | None:
    revision = environment.spec.revision
    if not revision or environment.deleting or environment.spec.asleep:
        return None
    if _is_ready(environment):
        return Progress(revision, "success")
    deployed = environment.status.condition(ConditionType.DEPLOYED)
    has_failed = _trouble(environment) in {Phase.STALLED, Phase.UNHEALTHY} or (
        _is_current(environment) and deployed is not None and deployed.reason in _FAILURES
    )
    return Progress(revision, "failed" if has_failed else "running")


def _branch_in_gitlab(branch: str) -> str | None:
    return None if is_fork_branch(branch) else branch


def _is_ready(environment: Environment) -> bool:
    status, revision = environment.status, environment.spec.revision
    ready = status.condition(ConditionType.READY)
    is_same = not revision or revision == status.observed_revision
    return ready is not None and ready.status == "True" and is_same


def _is_current(environment: Environment) -> bool:
    return environment.status.observed_generation in {environment.generation, None}


def _resting(environment: Environment) -> Phase | None:
    """The phase, if it is one of sleep; while nobody has looked at what is asked for, that it falls asleep or wakes."""
    if _is_current(environment):
        ready = environment.status.condition(ConditionType.READY)
        return next((phase for phase in _RESTING if ready is not None and phase.value == ready.reason), None)
    if environment.spec.asleep:
        return Phase.FALLING_ASLEEP if environment.status.asleep_since is None else Phase.ASLEEP
    return Phase.WAKING if environment.status.asleep_since is not None else None


def _trouble(environment: Environment) -> Phase | None:
    """The phase, if it is one that a person should hear of and is about what is asked for now."""
    ready = environment.status.condition(ConditionType.READY)
    if ready is None or ready.status == "True" or not _is_current(environment):
        return None
    return next((phase for phase in _STANDINGS if phase.value == ready.reason), None)


def _note(environment: Environment, project: Project, *, has_commands: bool) -> str:
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


def _facts(environment: Environment) -> Iterator[str]:
    status, revision = environment.status, environment.spec.revision
    if status.url and not environment.deleting:
        url = _plain_url(status.url)
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
        return f"See why it takes long: {code(_command('status', environment.spec.branch, project))}"
    if has_commands:
        rest = "wake" if environment.spec.asleep else "sleep"
        listed = ", ".join(f"`/envprov {word}`" for word in ("extend 3d", "pin", rest, "why", "down", "help"))
        return f"Comment with {listed}."
    rows = (
        *((("Awake", _command("wake", environment.spec.branch, project)),) if environment.spec.asleep else ()),
        ("Longer", _command("extend", environment.spec.branch, project, "3d")),
        ("for good", _command("pin", environment.spec.branch, project)),
        ("no more", _command("down", environment.spec.branch, project)),
    )
    return "; ".join(f"{what}: {code(command)}" for what, command in rows)


def _command(verb: str, branch: str, project: str, *rest: str) -> str:
    return shlex.join(("envprov", verb, branch, *rest, "--project", project))


def _plain_url(url: str | None) -> str | None:
    """A URL that nothing is hidden in; a host may have been made of the name of a branch."""
    return url if url and _URL.fullmatch(url) else None
