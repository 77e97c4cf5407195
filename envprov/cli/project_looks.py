"""The checks of ``project check``: each looks at one thing, and says what to do about it if it is not in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date

from envprov.cli.checks import Check, State
from envprov.cli.project_trial import try_hook
from envprov.domain.branch_file import FILE, parse_branch_file
from envprov.domain.document import SIZE_LIMIT_BYTES
from envprov.domain.errors import EnvprovError, ForgeForbidden, ForgeUnreliable, InvalidBranchFile
from envprov.domain.forge import Access, ForgeProject, Hook, HookEvent, ProjectRef
from envprov.domain.hooks import HookReason, Verdict, find_hook, has_failed, hint_for, judge, needs_of, same_url
from envprov.domain.project import GitChart, Project
from envprov.domain.project_status import ProjectCondition, ProjectStatus
from envprov.domain.sweep import halt_for, needs_merge_requests
from envprov.gitlab.client import GitLabClient

CHART_LIMIT_BYTES = 1 << 20
EXPIRY_WARNING_DAYS = 14
NEW_TOKEN = "write a new one into the file that gitlab.token_file names; no restart is needed"  # noqa: S105 - advice
ROLE = "give the token's user the role Maintainer in the project or its group"


@dataclass(frozen=True)
class Looked:
    """
    One Project, and what is asked about it.

    Attributes:
        project: Its rules.
        status: As last reported.
        has_test: Whether GitLab is to send its test.
        url: Of the receiver; None if it is not known.

    """

    project: Project
    status: ProjectStatus
    has_test: bool
    url: str | None

    @property
    def ref(self) -> ProjectRef:
        """Path or number in GitLab."""
        gitlab = self.project.spec.gitlab
        return gitlab.project if gitlab else ""


async def look_at_gitlab(forge: GitLabClient, today: date) -> tuple[tuple[Check, ...], int | None]:
    """
    GitLab answers, and its token is good for what envprov does.

    Args:
        forge: GitLab.
        today: Against which the token's end is counted.

    Returns:
        The checks, and the id of the token's user; None if nothing more needs to be asked.

    """
    try:
        version, me = await forge.version(), await forge.me()
        token = await forge.token()
    except EnvprovError as error:
        remedy = NEW_TOKEN if isinstance(error, ForgeForbidden) else "check gitlab.url, gitlab.ca_file and the network"
        return (Check("gitlab", State.FAILED, str(error), remedy),), None
    found = Check("gitlab", State.OK, f"{forge.server}, GitLab {version}")
    whose = f"token of {me.username}"
    if token is None:
        return (found, Check("token", State.OK, f"{whose}; of its scopes and its end GitLab tells nothing")), me.id
    scopes = ", ".join(sorted(token.scopes)) or "none"
    ends = f"ends on {token.expires_at}" if token.expires_at else "does not end"
    said = f"{whose}, scopes {scopes}, {ends}"
    if "api" not in token.scopes:
        remedy = "make one with the scope api: environments, notes and webhooks need it"
        return (found, Check("token", State.FAILED, said, remedy)), me.id
    if token.expires_at is not None and (token.expires_at - today).days < EXPIRY_WARNING_DAYS:
        return (found, Check("token", State.WARNING, said, NEW_TOKEN)), me.id
    return (found, Check("token", State.OK, said)), me.id


async def look_at(forge: GitLabClient, looked: Looked, user_id: int) -> list[Check]:
    """
    Everything about one Project that takes GitLab.

    Args:
        forge: GitLab.
        looked: The Project.
        user_id: Whose token it is.

    """
    try:
        gitlab = await forge.project(looked.ref)
    except EnvprovError as error:
        return [Check("project", State.FAILED, str(error), "correct spec.gitlab.project, or the token's rights")]
    halt = halt_for(looked.project, gitlab, looked.status.gitlab_id)
    if gitlab is None or halt is not None:
        said = halt.message if halt else ""
        return [Check("project", State.FAILED, said, "until then, nothing is made and nothing is deleted")]
    return [
        Check("project", State.OK, f"{gitlab.path}, id {gitlab.id}"),
        await _guarded("role", lambda: _role(forge, gitlab, user_id)),
        *await look_at_hook(forge, looked, gitlab),
        await _guarded("chart", lambda: _chart(forge, looked, gitlab)),
        await _guarded("branch file", lambda: _branch_file(forge, gitlab)),
    ]


def look_at_status(looked: Looked) -> Check:
    """The controller keeps the Project in step."""
    name, synced = "synced", looked.status.condition(ProjectCondition.SYNCED)
    if synced is None:
        remedy = "start the controller, with gitlab.url in its settings; `envprov doctor` says whether one is alive"
        return Check(name, State.WARNING, "no sweep has ended yet", remedy)
    if synced.status == "True":
        return Check(name, State.OK, f"{synced.reason}: {synced.message}")
    return Check(name, State.FAILED, f"{synced.reason}: {synced.message}", "docs/sweep.md tells the way out")


def look_at_rules(looked: Looked, *, has_forge: bool) -> Check:
    """The rules can be kept."""
    rules = looked.project.spec.rules
    if needs_merge_requests(looked.project) and not has_forge:
        remedy = "set gitlab.url and gitlab.token_file: without them such an environment stays for ever"
        return Check("rules", State.FAILED, "a rule asks for merge requests, and there is no GitLab token", remedy)
    return Check("rules", State.OK, f"{len(rules)}, which can all be kept")


async def look_at_hook(forge: GitLabClient, looked: Looked, gitlab: ForgeProject) -> list[Check]:
    """The webhook is there, works, and delivers what the rules need."""
    if looked.url is None:
        remedy = "set gitlab.hook_url, or give --url"
        return [Check("webhook", State.WARNING, "which one is ours is not known", remedy)]
    try:
        hook = find_hook(await forge.hooks(gitlab.id), looked.url)
        # First: a test that arrives takes the pause off, and is the newest delivery then.
        tested = [await _guarded("test", lambda: _test(forge, gitlab, hook))] if hook and looked.has_test else []
        hooks, events = await forge.hooks(gitlab.id), await _events(forge, gitlab, hook)
    except ForgeForbidden as error:
        return [Check("webhook", State.WARNING, str(error), ROLE)]
    except EnvprovError as error:
        return [Check("webhook", State.FAILED, str(error), "try again")]
    verdict = judge(hooks, looked.url, needs_of(looked.project))
    found = [_hook(verdict, hooks, looked)]
    return found if hook is None else [*found, _tls(hook), *tested, _deliveries(events)]


async def _guarded(name: str, look: Callable[[], Awaitable[Check]]) -> Check:
    """One check's trouble is not another's."""
    try:
        return await look()
    except EnvprovError as error:
        return Check(name, State.FAILED, str(error), "correct that, and try again")


async def _role(forge: GitLabClient, gitlab: ForgeProject, user_id: int) -> Check:
    level = await forge.access_level(gitlab.id, user_id) or gitlab.access_level
    if level is None:
        return Check("role", State.WARNING, "none of its own, as an administrator's token has; all may work", ROLE)
    names = sorted((role for role in Access if role <= level), reverse=True)
    said = names[0].name.title() if names else f"level {level}"
    if level < Access.DEVELOPER:
        return Check("role", State.FAILED, f"{said}: environments and commits cannot be told", ROLE)
    if level < Access.MAINTAINER:
        return Check("role", State.WARNING, f"{said}: webhooks can be neither made nor looked at", ROLE)
    return Check("role", State.OK, said)


def _hook(verdict: Verdict, hooks: Sequence[Hook], looked: Looked) -> Check:
    url = looked.url or ""
    match verdict.reason:
        case HookReason.OK:
            state, remedy = State.OK, ""
        case HookReason.INCOMPLETE | HookReason.MISSING:
            state, remedy = State.FAILED, f"`envprov project add {looked.ref}`"
        case _:
            remedy = "`envprov project check --test`: a test that arrives takes the pause off"
            state = State.FAILED
    same = [str(hook.id) for hook in hooks if same_url(hook.url, url)]
    if len(same) > 1 and state is State.OK:
        message = f"{len(same)} webhooks deliver to {url}: {', '.join(same)}; each push is told so many times"
        return Check("webhook", State.WARNING, message, "delete all but one in GitLab")
    return Check("webhook", state, verdict.message, remedy)


def _tls(hook: Hook) -> Check:
    if hook.url.startswith("http://"):
        return Check("tls", State.WARNING, "deliveries travel in the clear", "put TLS before the receiver, use https")
    if not hook.enable_ssl:
        remedy = "switch SSL verification on at the webhook"
        return Check("tls", State.WARNING, "GitLab does not check the receiver's certificate", remedy)
    return Check("tls", State.OK, "GitLab checks the receiver's certificate")


def _deliveries(events: Sequence[HookEvent] | None) -> Check:
    name = "deliveries"
    if events is None:
        return Check(name, State.OK, "this GitLab remembers none that can be asked for (17.3 does)")
    if not events:
        return Check(name, State.OK, "none in the last seven days")
    failed = [event for event in events if has_failed(event)]
    if not failed:
        return Check(name, State.OK, f"the {len(events)} newest of the last seven days came through")
    how = ", ".join(f"{status} ({times})" for status, times in Counter(event.status for event in failed).most_common())
    said = f"{len(failed)} of the {len(events)} newest failed: {how}"
    state = State.FAILED if has_failed(events[0]) else State.WARNING
    return Check(name, state, said, hint_for(failed[0].status))


async def _test(forge: GitLabClient, gitlab: ForgeProject, hook: Hook) -> Check:
    if gitlab.is_empty:
        return Check("test", State.WARNING, "there is no commit yet to test with", "push something")
    trial = await try_hook(forge, gitlab.id, hook.id)
    states = {True: State.OK, False: State.FAILED, None: State.WARNING}
    return Check("test", states[trial.arrived], trial.message, trial.remedy)


async def _chart(forge: GitLabClient, looked: Looked, gitlab: ForgeProject) -> Check:
    name, source = "chart", looked.project.spec.chart.source
    if not isinstance(source, GitChart):
        return Check(name, State.OK, f"{looked.project.spec.chart}; the controller fetches it, and says if it cannot")
    if gitlab.default_branch is None:
        return Check(name, State.WARNING, "there is no branch yet that could have it", "push something")
    path = f"{source.path.strip('/')}/Chart.yaml" if source.path.strip("/.") else "Chart.yaml"
    where = f"{path} on {gitlab.default_branch}"
    raw = await forge.raw_file(gitlab.id, path, gitlab.default_branch, limit_bytes=CHART_LIMIT_BYTES)
    if raw is None:
        return Check(name, State.FAILED, f"there is no {where}", "correct spec.chart.git.path, or push the chart")
    return Check(name, State.OK, where)


async def _branch_file(forge: GitLabClient, gitlab: ForgeProject) -> Check:
    name, branch = "branch file", gitlab.default_branch
    if branch is None:
        return Check(name, State.OK, "there is no branch yet")
    raw = await forge.raw_file(gitlab.id, FILE, branch, limit_bytes=SIZE_LIMIT_BYTES)
    if raw is None:
        return Check(name, State.OK, f"{branch} has no {FILE}, and needs none")
    try:
        parse_branch_file(raw)
    except InvalidBranchFile as error:
        return Check(
            name, State.FAILED, f"on {branch}: {error}", "correct it there; docs/branch-file.md has all fields"
        )
    return Check(name, State.OK, f"{FILE} on {branch} can be read")


async def _events(forge: GitLabClient, gitlab: ForgeProject, hook: Hook | None) -> tuple[HookEvent, ...] | None:
    if hook is None:
        return None
    try:
        return await forge.hook_events(gitlab.id, hook.id)
    except ForgeUnreliable:
        return None
