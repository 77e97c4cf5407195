"""What the stand-in knows: users, tokens, projects and what is in them. Changed under one lock, by whoever holds it."""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ZERO = "0" * 40
MAINTAINER = 40

Json = dict[str, Any]


@dataclass
class User:
    id: int
    username: str


@dataclass
class Token:
    user: User
    scopes: list[str]
    expires_at: str | None = None
    revoked: bool = False


@dataclass
class Commit:
    sha: str
    parent: str | None
    files: dict[str, str]
    title: str
    author: User
    at: str


@dataclass
class Hook:
    id: int
    url: str
    fields: Json
    token: str | None = None
    signing_token: str | None = None
    failures: int = 0
    disabled_until: float | None = None
    disabled: bool = False
    events: list[Json] = field(default_factory=list)


@dataclass
class Discussion:
    id: str
    notes: list[Json]


@dataclass
class MergeRequest:
    id: int
    iid: int
    title: str
    source_project_id: int
    source_branch: str
    target_branch: str
    labels: list[str]
    draft: bool
    author: User
    created_at: str
    state: str = "opened"
    sha: str | None = None
    discussions: list[Discussion] = field(default_factory=list)


@dataclass
class Project:
    id: int
    path: str
    default_branch: str | None
    members: dict[int, int]
    archived: bool = False
    marked_for_deletion_on: str | None = None
    repository_enabled: bool = True
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    hooks: dict[int, Hook] = field(default_factory=dict)
    merge_requests: dict[int, MergeRequest] = field(default_factory=dict)
    environments: dict[int, Json] = field(default_factory=dict)
    deployments: dict[int, Json] = field(default_factory=dict)
    statuses: list[Json] = field(default_factory=list)
    old_paths: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    def commit_of(self, revision: str) -> Commit | None:
        return self.commits.get(self.branches.get(revision, revision))


@dataclass
class Change:
    """What one push did to one branch."""

    branch: str
    before: str
    after: str
    commits: list[Commit]

    @property
    def action(self) -> str:
        if self.before == ZERO:
            return "created"
        return "removed" if self.after == ZERO else "pushed"


@dataclass
class Settings:
    """What an administrator would set."""

    version: str = "19.1.0-ee"
    push_event_hooks_limit: int = 3
    auto_disabling_web_hooks: bool = False
    webhook_timeout: float = 10.0
    keyset: bool = True
    old_first_page: bool = False
    local_hooks: bool = True
    requests_per_period: int = 0
    period_seconds: int = 60


class World:
    """All of it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.settings = Settings()
        self.external_url = ""
        self.users: dict[int, User] = {}
        self.tokens: dict[str, Token] = {}
        self.projects: dict[int, Project] = {}
        self.system_hooks: dict[int, Hook] = {}
        self.requests: deque[Json] = deque(maxlen=100_000)
        self._ids = itertools.count(1)
        self._commits = itertools.count(1)
        self.user("root")

    def next_id(self) -> int:
        return next(self._ids)

    def user(self, username: str) -> User:
        found = next((user for user in self.users.values() if user.username == username), None)
        if found is None:
            found = User(len(self.users) + 1, username)
            self.users[found.id] = found
        return found

    def find(self, ref: str) -> tuple[Project | None, bool]:
        """Return the project, and whether *ref* is a path that it had."""
        if ref.isdigit():
            return self.projects.get(int(ref)), False
        for project in self.projects.values():
            if project.path.lower() == ref.lower():
                return project, False
        return next((project for project in self.projects.values() if ref in project.old_paths), None), True

    def named(self, ref: str | int) -> Project:
        project, _ = self.find(str(ref))
        if project is None:
            raise LookupError(f"no project {ref}")
        return project

    def create_project(self, path: str, default_branch: str, *, empty: bool, project_id: int | None) -> Project:
        if self.find(path)[0] is not None:
            raise LookupError(f"{path} is there already")
        project = Project(project_id or self.next_id(), path, default_branch, {})
        for token in self.tokens.values():
            project.members[token.user.id] = MAINTAINER
        self.projects[project.id] = project
        if empty:
            project.default_branch = None
        else:
            head = self.commit(project, None, {"README.md": f"# {project.name}\n"}, self.users[1])
            project.branches[default_branch] = head.sha
        return project

    def commit(
        self, project: Project, parent: str | None, files: dict[str, str], author: User, sha: str | None = None
    ) -> Commit:
        number = next(self._commits)
        made = sha or hashlib.sha1(f"{project.id} {number} {sorted(files.items())}".encode()).hexdigest()  # noqa: S324
        commit = Commit(made, parent, files, f"Commit {number}", author, now())
        project.commits[made] = commit
        return commit

    def push(self, project: Project, wishes: list[Json], author: User) -> list[Change]:
        """Change branches as one push does."""
        return [change for wish in wishes if (change := self._change(project, wish, author)) is not None]

    def _change(self, project: Project, wish: Json, author: User) -> Change | None:
        branch: str = wish["branch"]
        before = project.branches.get(branch)
        if wish.get("delete"):
            if before is None:
                return None
            del project.branches[branch]
            for environment in project.environments.values():
                if environment["ref"] == branch:
                    environment["state"] = "stopped"
            return Change(branch, before, ZERO, [])
        base = before or project.branches.get(project.default_branch or "")
        if before is None and base is not None and wish.get("files") is None and wish.get("sha") is None:
            project.branches[branch] = base
            return Change(branch, ZERO, base, [])
        files = dict(project.commits[base].files) if base else {}
        given: dict[str, str | None] = wish.get("files") or {}
        files = {path: text for path, text in (files | given).items() if text is not None}
        commit = self.commit(project, None if wish.get("force") else base, files, author, wish.get("sha"))
        project.branches[branch] = commit.sha
        if project.default_branch is None:
            project.default_branch = branch
        return Change(branch, before or ZERO, commit.sha, [commit])


def now() -> str:
    """Return this moment as GitLab writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{datetime.now(UTC).microsecond // 1000:03}Z"


def environment_slug(name: str) -> str:
    """Make a slug as GitLab does from the name of an environment."""
    slug = re.sub(r"[^a-z0-9]", "-", name.lower())
    if not slug[:1].isalpha():
        slug = f"env-{slug}"
    slug = re.sub(r"-+", "-", slug)
    if len(slug) > 24 or slug != name:
        slug = slug[:17]
        slug += "" if slug.endswith("-") else "-"
        return slug + _base36(int(hashlib.sha256(name.encode()).hexdigest(), 16))[-6:]
    return slug.removesuffix("-")


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits
