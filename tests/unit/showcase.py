"""
A small GitLab that keeps state and its rules, and the records of one environment that is shown in it.

Environments, deployments, notes, statuses; with faults on demand.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from envprov.domain.environment import Environment, GitLabStatus
from envprov.domain.errors import (
    Conflict,
    EnvprovError,
    ForgeForbidden,
    ForgeUnreliable,
    Invalid,
    InvalidRecord,
)
from envprov.domain.forge import (
    CommitState,
    Deployment,
    DeploymentStatus,
    ForgeEnvironment,
    ForgeProject,
    Me,
    MergeRequest,
    Note,
    ProjectRef,
)
from envprov.domain.project import Project
from envprov.domain.told import Debt, together
from tests.unit.builders import SLUG
from tests.unit.fakes import Faults

OURS = 100
ENDED = {"success", "failed", "canceled"}


@dataclass
class FakeGitLab:
    """
    One project.

    Attributes:
        faults: Errors at chosen calls.
        refused: Calls that always raise this, by name.
        commits: Commits that it has.
        requests: Open merge requests.
        roles: Of users.
        me_id: Whose token it is.
        written: What has changed, in order; what said nothing new has not.

    """

    faults: Faults = field(default_factory=Faults)
    refused: dict[str, EnvprovError] = field(default_factory=dict)
    commits: set[str] = field(default_factory=set)
    branches: set[str] = field(default_factory=lambda: {"feature/x"})
    requests: list[MergeRequest] = field(default_factory=list)
    roles: dict[int, int] = field(default_factory=dict)
    me_id: int = OURS
    environments: dict[int, ForgeEnvironment] = field(default_factory=dict)
    shipped: list[Deployment] = field(default_factory=list)
    threads: dict[int, list[Note]] = field(default_factory=dict)
    discussions: dict[str, int] = field(default_factory=dict)
    statuses: dict[tuple[str, str], str] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    _ids: int = 0

    async def me(self) -> Me:
        self._done(self._begin("me"))
        return Me(self.me_id, "envprov-bot")

    async def project(self, ref: ProjectRef) -> ForgeProject | None:
        self._done(self._begin("project"))
        return ForgeProject(
            id=7,
            path=str(ref),
            default_branch="main",
            archived=False,
            is_empty=False,
            marked_for_deletion=False,
            web_url="https://gitlab.example.com/group/shop",
            access_level=40,
        )

    async def merge_requests(self, ref: ProjectRef, *, source_branch: str | None = None) -> tuple[MergeRequest, ...]:
        del ref
        self._done(self._begin("merge_requests"))
        return tuple(one for one in self.requests if source_branch in {None, one.source_branch})

    async def access_level(self, ref: ProjectRef, user_id: int) -> int | None:
        del ref
        self._done(self._begin("access_level"))
        return self.roles.get(user_id)

    async def find_environment(self, ref: ProjectRef, name: str) -> ForgeEnvironment | None:
        del ref
        self._done(self._begin("find_environment"))
        return next((one for one in self.environments.values() if one.name == name), None)

    async def create_environment(
        self, ref: ProjectRef, name: str, *, external_url: str | None = None
    ) -> ForgeEnvironment:
        del ref
        number = self._begin("create_environment")
        if any(one.name == name for one in self.environments.values()):
            raise Conflict("Name has already been taken")
        made = ForgeEnvironment(self._next(), name, "slug", "available", external_url, "development")
        self.environments[made.id] = made
        self._done(number, f"create environment {name} {external_url}")
        return made

    async def update_environment(
        self, ref: ProjectRef, environment_id: int, *, external_url: str | None = None
    ) -> ForgeEnvironment:
        del ref
        number = self._begin("update_environment")
        if environment_id not in self.environments:
            raise Conflict("404 Not found")
        changed = replace(self.environments[environment_id], external_url=external_url)
        told = changed == self.environments[environment_id]
        self.environments[environment_id] = changed
        self._done(number, "" if told else f"update environment {changed.name} {external_url}")
        return changed

    async def stop_environment(self, ref: ProjectRef, environment_id: int) -> ForgeEnvironment | None:
        del ref
        number = self._begin("stop_environment")
        there = self.environments.get(environment_id)
        if there is not None and there.state != "stopped":
            there = self.environments[environment_id] = replace(there, state="stopped")
            self.written.append(f"stop environment {there.name}")
        self._done(number)
        return there

    async def delete_environment(self, ref: ProjectRef, environment_id: int) -> bool:
        del ref
        number = self._begin("delete_environment")
        there = self.environments.get(environment_id)
        if there is not None and there.state != "stopped":
            raise ForgeForbidden("403 Forbidden: stop it first")
        if there is not None:
            del self.environments[environment_id]
            self.shipped = [one for one in self.shipped if one.environment != there.name]
            self.written.append(f"delete environment {there.name}")
        self._done(number)
        return there is not None

    async def deployments(self, ref: ProjectRef, environment: str) -> tuple[Deployment, ...]:
        del ref
        self._done(self._begin("deployments"))
        return tuple(one for one in reversed(self.shipped) if one.environment == environment)

    async def create_deployment(
        self, ref: ProjectRef, environment: str, sha: str, ref_name: str, status: DeploymentStatus
    ) -> Deployment:
        del ref
        number = self._begin("create_deployment")
        if self.commits and sha not in self.commits:
            raise Invalid("The commit does not exist")
        if ref_name not in {*self.branches, sha}:
            raise Invalid("The branch or tag does not exist")
        if all(one.name != environment for one in self.environments.values()):
            number_of_it = self._next()
            self.environments[number_of_it] = ForgeEnvironment(number_of_it, environment, "", "available", None, None)
            self.written.append(f"create environment {environment} by a deployment")
        made = Deployment(self._next(), environment, sha, ref_name, status)
        self.shipped.append(made)
        self._done(number, f"deploy {sha[:1]} {status}")
        return made

    async def update_deployment(self, ref: ProjectRef, deployment_id: int, status: DeploymentStatus) -> Deployment:
        del ref
        number = self._begin("update_deployment")
        found = next((one for one in self.shipped if one.id == deployment_id), None)
        if found is None:
            raise Conflict("404 Not found")
        if found.status == status or (status == "running" and found.status in ENDED):
            raise Invalid("Status cannot transition")
        changed = replace(found, status=status)
        self.shipped[self.shipped.index(found)] = changed
        self._done(number, f"deployment {found.sha[:1]} {status}")
        return changed

    async def set_status(
        self,
        ref: ProjectRef,
        sha: str,
        state: CommitState,
        *,
        name: str,
        ref_name: str | None = None,
        target_url: str | None = None,
    ) -> None:
        del ref, ref_name, target_url
        number = self._begin("set_status")
        if self.commits and sha not in self.commits:
            raise Conflict("404 Commit Not Found")
        said = self.statuses.get((sha, name)) == state
        self.statuses[sha, name] = state
        self._done(number, "" if said else f"status {sha[:1]} {state}")

    async def notes(self, ref: ProjectRef, iid: int) -> tuple[Note, ...]:
        del ref
        self._done(self._begin("notes"))
        if iid not in self.threads:
            raise ForgeUnreliable("404 Not found")
        return tuple(self.threads[iid])

    async def create_note(self, ref: ProjectRef, iid: int, body: str) -> Note:
        del ref
        number = self._begin("create_note")
        made = self._say(iid, body)
        self._done(number, f"note !{iid}")
        return made

    async def update_note(self, ref: ProjectRef, iid: int, note_id: int, body: str) -> Note:
        del ref
        number = self._begin("update_note")
        thread = self.threads.get(iid, [])
        found = next((one for one in thread if one.id == note_id), None)
        if found is None:
            raise Conflict("404 Not found")
        if found.author_id != self.me_id:
            raise ForgeForbidden("403 Forbidden")
        changed = replace(found, body=body)
        thread[thread.index(found)] = changed
        self._done(number, "" if found.body == body else f"edit note !{iid}")
        return changed

    async def reply(self, ref: ProjectRef, iid: int, discussion_id: str, body: str) -> Note:
        del ref
        number = self._begin("reply")
        if self.discussions.get(discussion_id) != iid:
            raise Conflict("404 Discussion Not Found")
        made = self._say(iid, body)
        self._done(number, f"reply !{iid} {discussion_id}")
        return made

    def open(self, iid: int, branch: str = "feature/x", *, source: int = 7) -> None:
        """Open a merge request."""
        self.threads.setdefault(iid, [])
        self.requests.append(
            MergeRequest(iid, branch, source, "main", None, frozenset(), False, f"https://x/{iid}", "opened")  # noqa: FBT003 - fields of the domain
        )

    def close(self, iid: int) -> None:
        """Close one."""
        self.requests = [one for one in self.requests if one.iid != iid]

    def comment(self, iid: int, body: str, *, author: int) -> Note:
        """Let somebody else write a note."""
        me, self.me_id = self.me_id, author
        made = self._say(iid, body)
        self.me_id = me
        return made

    def ours(self, iid: int) -> list[str]:
        """Return what we have written on a merge request."""
        return [one.body for one in self.threads[iid] if one.author_id == self.me_id]

    def _say(self, iid: int, body: str) -> Note:
        if iid not in self.threads:
            raise Conflict("404 Not found")
        made = Note(self._next(), body, self.me_id, "somebody", is_system=False)
        self.threads[iid].append(made)
        return made

    def _next(self) -> int:
        self._ids += 1
        return self._ids

    def _begin(self, call: str) -> int:
        number = self.faults.begin(call)
        if call in self.refused:
            raise self.refused[call]
        return number

    def _done(self, number: int, written: str = "") -> None:
        if written:
            self.written.append(written)
        self.faults.end(number)


@dataclass
class Desk:
    """
    The records of feature/x, as the publisher sees them.

    Attributes:
        faults: Shared with GitLab.
        live: The Environment.
        seen: The Environment as the cache has it.
        owed: What a record that is gone has left.
        rules: The Project.
        lags: Whether what is written cannot be read yet.
        told: Events.

    """

    faults: Faults
    live: Environment | None = None
    seen: Environment | None = None
    owed: Debt | None = None
    rules: Project | InvalidRecord | None = None
    lags: bool = False
    told: list[tuple[str, str]] = field(default_factory=list)
    versions: int = 0

    def environment(self, name: str) -> Environment | None:
        assert name == SLUG
        if not self.lags:
            self.seen = self.live
        return self.seen

    def project(self, name: str) -> Project | None:
        assert name == "shop"
        if isinstance(self.rules, InvalidRecord):
            raise self.rules
        return self.rules

    def debt(self, name: str) -> Debt | None:
        assert name == SLUG
        return self.owed

    async def note(self, environment: Environment, told: GitLabStatus) -> None:
        number = self.faults.begin("note")
        if self.live is None:
            raise Conflict("the Environment is gone")
        assert environment.uid == self.live.uid
        self.live = self.live.model_copy(update={"status": self.live.status.model_copy(update={"gitlab": told})})
        self.faults.end(number)

    async def settle(self, debt: Debt, told: GitLabStatus | None) -> None:
        number = self.faults.begin("settle")
        if self.owed is None or self.owed.version != debt.version:
            raise Conflict("the tombstone has changed")
        self._owe(told, debt.why)
        self.faults.end(number)

    async def tell(self, environment: Environment, reason: str, message: str) -> None:
        assert environment.name == SLUG
        self.told.append((reason, message))

    def retire(self, why: str = "") -> None:
        """Let the record go, as the controller does when the teardown is over."""
        assert self.live is not None
        left = self.live.status.gitlab
        left = together(left, self.owed.told) if self.owed else left
        self.live = None
        self._owe(left, why)

    def _owe(self, told: GitLabStatus | None, why: str) -> None:
        self.versions += 1
        self.owed = Debt(SLUG, "shop", "feature/x", told, why, str(self.versions)) if told is not None else None
