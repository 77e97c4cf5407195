"""
Commands in the notes of merge requests: what they say, what they lead to, and what is answered. Pure.

A command goes through three states that are on record: begun, with exactly what is to be done; answered, with the text;
done. What is begun names the UID that it is for and the moment that it leads to, so that doing it twice is doing it
once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from envprov.domain.desired import term_of
from envprov.domain.environment import Environment, Type
from envprov.domain.errors import Forbidden
from envprov.domain.forge import Access
from envprov.domain.lifetime import Extension, noted_moment, parse_span
from envprov.domain.lifetime import extend as extension_of
from envprov.domain.markdown import code, moment
from envprov.domain.names import slug
from envprov.domain.project import Commands, Project
from envprov.domain.standing import standing
from envprov.domain.why_told import paragraph_of

LATE = timedelta(hours=1)
"""A command that is older, by GitLab's clock, is not carried out: somebody may have sent its delivery again."""
KEPT = timedelta(minutes=10)
"""How long a command stays on record after it is done, and after it is too late to be given again."""
UNREADABLE = "configmap/"
"""Begins the key of a record that says it is a command and cannot be read; no name of an Environment does."""
PATIENCE = timedelta(days=1)
"""How long an answer is tried."""

ANSWER_LIMIT = 1500
"""Characters of the paragraph that `/envprov why` answers with."""

_WORD_LIMIT = 40


class Verb(StrEnum):
    """What can be asked for."""

    EXTEND = "extend"
    PIN = "pin"
    UNPIN = "unpin"
    SLEEP = "sleep"
    WAKE = "wake"
    REDEPLOY = "redeploy"
    DOWN = "down"
    WHY = "why"
    HELP = "help"


_USAGE = {
    "extend 3d": "lets it live longer than it would: `3d`, `12h`, `1w`; without a time its lifetime begins anew",
    "pin": "keeps it although its lifetime ends",
    "unpin": "lets it end with its lifetime again",
    "sleep": "scales it to nothing; its data stays, and what is pushed meanwhile waits",
    "wake": "scales it back to what it was, and deploys what was pushed meanwhile",
    "redeploy": "deploys the same commit once more, as a push would",
    "why": "says how it is, and why",
    "down": "takes it down; the next push brings it back",
    "help": "says this",
}


@dataclass(frozen=True, slots=True)
class Command:
    """
    A command as it is on record.

    Attributes:
        name: Name of the record.
        project: Name of the Project.
        branch: Branch name in full, or the name of a merge request from a fork.
        iid: Number of the merge request.
        note_id: Number of the note.
        discussion_id: Thread that it is in, or "".
        author_id: Number of whom wrote it.
        text: First line of the note.
        created_at: When it was written, by GitLab's clock.
        act: What was begun, or None.
        answer: What is answered, or "".
        done_at: When it was answered, or given up.
        version: Of the record.

    """

    name: str
    project: str
    branch: str
    iid: int
    note_id: int
    discussion_id: str
    author_id: int
    text: str
    created_at: datetime
    act: Act | None = None
    answer: str = ""
    done_at: datetime | None = None
    version: str = ""

    @property
    def environment(self) -> str:
        """Name of the Environment that it is about."""
        return slug(self.project, self.branch)

    @property
    def verb(self) -> str:
        """For metrics: a known word, or ``unknown``."""
        word = _words(self.text)[0]
        return word if word in {verb.value for verb in Verb} else "unknown"

    @property
    def forgotten_at(self) -> datetime:
        """When it may be forgotten, if it is done: a delivery that comes later is too late to be carried out."""
        too_late = self.created_at + LATE + KEPT
        return max(too_late, self.done_at + KEPT) if self.done_at else too_late

    def is_late(self, now: datetime) -> bool:
        """Whether it is too old to be carried out."""
        return now - self.created_at > LATE


@dataclass(frozen=True, slots=True)
class Extend:
    """Let the Environment with that UID live longer."""

    uid: str
    extension: Extension


@dataclass(frozen=True, slots=True)
class Pin:
    """Keep the Environment with that UID although its lifetime ends, or no longer."""

    uid: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class Rest:
    """Put the Environment with that UID to sleep, or wake it."""

    uid: str
    asleep: bool


@dataclass(frozen=True, slots=True)
class Down:
    """Take the Environment with that UID down."""

    uid: str


@dataclass(frozen=True, slots=True)
class Redeploy:
    """Deploy what the Environment with that UID has once more."""

    uid: str
    at: datetime


Act = Extend | Pin | Rest | Down | Redeploy


def encode(act: Act) -> str:
    """The form that is on record."""
    match act:
        case Extend(uid=uid, extension=extension):
            return json.dumps({"do": "extend", "uid": uid, "extension": extension.encode()})
        case Pin(uid=uid, pinned=pinned):
            return json.dumps({"do": "pin" if pinned else "unpin", "uid": uid})
        case Rest(uid=uid, asleep=asleep):
            return json.dumps({"do": "sleep" if asleep else "wake", "uid": uid})
        case Down(uid=uid):
            return json.dumps({"do": "down", "uid": uid})
        case Redeploy(uid=uid, at=at):
            return json.dumps({"do": "redeploy", "uid": uid, "at": at.isoformat()})


def decode(text: str) -> Act | None:
    """What :func:`encode` wrote; None for anything else."""
    try:
        given = json.loads(text)
        do, uid = str(given["do"]), str(given["uid"])
        extension = Extension.decode(str(given.get("extension", "")))
        at = noted_moment(str(given["at"])) if do == "redeploy" else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    match do:
        case "extend" if extension is not None:
            return Extend(uid, extension)
        case "pin" | "unpin":
            return Pin(uid, do == "pin")
        case "sleep" | "wake":
            return Rest(uid, do == "sleep")
        case "down":
            return Down(uid)
        case _:
            return Redeploy(uid, at) if at is not None else None


def role_fault(rules: Commands, level: int | None) -> str | None:
    """
    Why somebody may not give commands.

    Args:
        rules: Of the Project.
        level: Their role in it, as GitLab numbers it; None if they are no member.

    Returns:
        The answer, or None if they may.

    """
    if level is not None and level >= Access[rules.role.upper()]:
        return None
    return (
        f"Not done: this takes the role {rules.role} in the project. Ask somebody who has it, or let a maintainer give "
        "it to you."
    )


def late_answer() -> str:
    """What is answered to a command that came too late."""
    return "Not done: this came more than an hour after it was written. Write it again if it is still wanted."


def decide(command: Command, environment: Environment | None, project: Project, now: datetime) -> Act | str:
    """
    What a command leads to, given by somebody who may.

    Args:
        command: The command.
        environment: What it is about, as last seen.
        project: Its Project.
        now: Aware moment.

    Returns:
        What is to be done, or the answer.

    """
    asked = _asked(command.text, project)
    if isinstance(asked, str):
        return asked
    verb, time = asked
    if environment is None:
        return "This branch has no environment now. A push brings it back, and so does `envprov up`."
    if verb is Verb.WHY:
        return _why(environment, now)
    if environment.deleting:
        return f"Not done: the environment {standing(environment)}."
    match verb:
        case Verb.EXTEND:
            act: Act | str = _extend(environment, project, time, now)
        case Verb.SLEEP | Verb.WAKE:
            act = _rest(environment, asleep=verb is Verb.SLEEP)
        case Verb.REDEPLOY if environment.spec.asleep:
            act = "Not done: the environment is asleep, and nothing is deployed in its sleep. First `/envprov wake` it."
        case Verb.REDEPLOY:
            act = Redeploy(environment.uid, command.created_at)
        case Verb.DOWN:
            act = Down(environment.uid)
        case _:
            act = Pin(environment.uid, verb is Verb.PIN)
    return act


def answer_of(act: Act) -> str:
    """What is answered when something was done."""
    match act:
        case Extend(extension=Extension(at=at, until=until)) if until <= at:
            said = "its lifetime begins anew."
        case Extend(extension=Extension(until=until)):
            said = f"it stays until {moment(until)} at least."
        case Pin(pinned=True):
            said = "it is pinned and stays when its lifetime ends. `/envprov unpin` takes that back."
        case Pin():
            said = "it is no longer pinned and ends with its lifetime."
        case Rest(asleep=True):
            said = "it falls asleep: nothing of it runs, and its data stays. `/envprov wake` wakes it."
        case Rest():
            said = "it wakes up, and what was pushed meanwhile is deployed."
        case Down():
            said = "it is being taken down. The next push brings it back."
        case Redeploy():
            said = "the same commit is deployed once more."
    return f"Done: {said}"


def gone_answer() -> str:
    """What is answered when the environment was another one before anything could be done."""
    return "Not done: the environment was taken down meanwhile."


def refused_answer(message: str) -> str:
    """What is answered when something cannot be done."""
    return f"Not done: {code(message)}"


def reply_marker(command: Command) -> str:
    """First line of an answer, which nobody sees: by it the answer is found again."""
    return f"<!-- envprov-reply:{command.name} -->"


def _words(text: str) -> list[str]:
    return text.removeprefix("/envprov").split() or [""]


def _asked(text: str, project: Project) -> tuple[Verb, str | None] | str:
    """What is asked for, with the time that belongs to it; or the answer, if that needs no environment."""
    word, *rest = _words(text)
    verb = next((verb for verb in Verb if verb == word), None)
    if verb is None:
        fault = f"There is no command {code(word, _WORD_LIMIT)}." if word else "Which command?"
        return f"{fault}\n\n{_help(project)}"
    if rest and (verb is not Verb.EXTEND or len(rest) > 1):
        return f"`{verb}` was not done: {code(' '.join(rest), _WORD_LIMIT)} was not understood."
    if verb is Verb.HELP:
        return _help(project)
    return verb, rest[0] if rest else None


def _extend(environment: Environment, project: Project, text: str | None, now: datetime) -> Act | str:
    span = parse_span(text) if text is not None else None
    if text is not None and span is None:
        return f"{code(text, _WORD_LIMIT)} is no time above zero such as `3d`, `12h` or `1w3d`."
    ends = environment.status.expires_at
    if ends is None:
        return "There is nothing to extend: this environment lives as long as its branch."
    try:
        maximum, lived = project.spec.limits.lifetime, term_of(environment, project, environment.status.branch_file)
        extension = extension_of(ends, span, now=now, maximum=maximum, lifetime=lived.lifetime)
    except Forbidden as error:
        return refused_answer(str(error))
    return Extend(environment.uid, extension)


def _rest(environment: Environment, *, asleep: bool) -> Act | str:
    if environment.spec.asleep != asleep:
        return Rest(environment.uid, asleep)
    hint = " `/envprov wake` wakes it." if asleep else ""
    return f"{'It is asleep already' if asleep else 'It is not asleep'}: it {standing(environment)}.{hint}"


def _why(environment: Environment, now: datetime) -> str:
    rows = [code(paragraph_of(environment, now), ANSWER_LIMIT), ""]
    for kind in (Type.ACCEPTED, Type.DEPLOYED, Type.HEALTHY, Type.READY, Type.TEARDOWN_BLOCKED):
        condition = environment.status.condition(kind)
        if condition is not None:
            said = f": {code(condition.message)}" if condition.message else ""
            rows.append(f"- {kind.value} is {condition.status}, {condition.reason}{said}")
    return "\n".join(rows)


def _help(project: Project) -> str:
    rules = project.spec.gitlab.commands if project.spec.gitlab else None
    rows = [f"- `/envprov {usage}` {what}" for usage, what in _USAGE.items()]
    role = f"\n\nThese take the role {rules.role} in the project." if rules else ""
    return "\n".join(rows) + role
