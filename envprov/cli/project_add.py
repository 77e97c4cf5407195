"""
``project add``: from a project in GitLab to one that envprov serves: Project, webhook, secret, and a test of it all.

Everything is read and checked first. A second call finds everything in place, changes nothing and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from envprov.cli import printing, project_secret
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.project_hook import Aim, HookArguments, HookPlan, carry_out, plan_hook, receiver_url
from envprov.cli.project_trial import try_hook
from envprov.cli.project_wish import (
    ProjectArguments,
    asked_of,
    check_name,
    differences,
    name_of,
    read_spec,
    whole,
)
from envprov.cli.session import Session, opened
from envprov.domain.environment import API_VERSION
from envprov.domain.errors import ConfigError, Forbidden
from envprov.domain.forge import ForgeProject
from envprov.domain.hooks import lacks_of
from envprov.domain.project import Project
from envprov.forge_wiring import forge_of
from envprov.gitlab.client import GitLabClient
from envprov.kube.client import Object
from envprov.kube.resources import PROJECTS

HEADER = ("STEP", "RESULT", "DETAIL")
MANAGER = "envprov-project-add"
_SOURCES = ("git", "oci", "repository", "local")


@dataclass(frozen=True)
class Step:
    """
    One part of the work.

    Attributes:
        step: What it is about.
        result: One word.
        detail: In words.

    """

    step: str
    result: str
    detail: str


@dataclass(frozen=True)
class Target:
    """
    The Project, as it is and as it is to be.

    Attributes:
        name: Of the object.
        asked: Fields that were asked for.
        live: As it is; None if it is not there.
        changes: In what it differs.

    """

    name: str
    asked: Mapping[str, Any]
    live: Object | None
    changes: tuple[str, ...] = ()

    @property
    def project(self) -> Project:
        """As it is going to be."""
        spec = whole(self.asked)
        if self.live is not None:
            # What was not asked for stays, of gitlab too: its report and its commands.
            gitlab = self.live["spec"].get("gitlab") or self.asked["gitlab"]
            spec = {**self.live["spec"], **self.asked, "gitlab": gitlab}
        return Project(name=self.name, spec=read_spec(spec))


@dataclass
class _Work:
    common: Common
    session: Session
    dry_run: bool
    steps: list[Step] = field(default_factory=list)

    def tell(self, step: str, result: str, detail: str) -> None:
        self.steps.append(
            Step(step, f"would be {result}" if self.dry_run and result != "unchanged" else result, detail)
        )


async def add(
    common: Common,
    arguments: ProjectArguments,
    hook: HookArguments | None,
    *,
    force: bool,
    dry_run: bool,
) -> ExitCode:
    """
    Add a project, and print what was done.

    Args:
        common: The options of the call.
        arguments: What shapes the Project.
        hook: What shapes the webhook; None leaves it out.
        force: Whether a Project that is other than asked for is changed.
        dry_run: Whether to say only what would be done.

    Returns:
        NOT_READY if all that is missing is that the receiver reads the new secret; FAILED if the test did not arrive
        for any other reason; REFUSED if somebody else must write the Secret.

    Raises:
        ConfigError: Arguments or settings are wrong.
        Forbidden: A Project is there and is another.
        ForgeForbidden: The token may not see the project or its webhooks.

    """
    asked = asked_of(arguments)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(opened(common))
        forge = await stack.enter_async_context(forge_of(session.settings))
        work = _Work(common, session, dry_run)
        try:
            if forge is None:
                if hook is not None:
                    raise ConfigError(
                        "gitlab.url: must be set in the settings, with gitlab.token_file, so that the project can be "
                        "looked at and gets its webhook; --no-hook writes the Project alone"
                    )
                await _write_project(work, await _find(session, arguments, asked), force=force)
                return ExitCode.DONE
            return await _connect(work, forge, arguments, asked, hook, force=force)
        finally:
            _print(work)


async def _connect(  # noqa: PLR0913 - what the work is made of
    work: _Work,
    forge: GitLabClient,
    arguments: ProjectArguments,
    asked: dict[str, Any],
    given: HookArguments | None,
    *,
    force: bool,
) -> ExitCode:
    session = work.session
    gitlab = await _look_up(forge, arguments)
    if isinstance(arguments.ref, str):
        asked["gitlab"] = {"project": gitlab.path}
    url = receiver_url(session, given.url) if given is not None else ""
    target = await _find(session, arguments, asked, gitlab)
    _check(target, force=force)
    if given is None:
        await _write_project(work, target, force=force)
        return ExitCode.DONE
    aim = Aim(forge, gitlab.id, url, target.name)
    plan = await plan_hook(session, aim, target.project, given)
    await _write_project(work, target, force=force)
    if plan.is_closed:
        return _hand_over(work, arguments, plan)
    return await _register(work, aim, plan, given, gitlab)


async def _look_up(forge: GitLabClient, arguments: ProjectArguments) -> ForgeProject:
    gitlab = await forge.project(arguments.ref)
    if gitlab is None:
        raise ConfigError(
            f"GitLab {forge.server} knows no project {arguments.ref}, or does not show it to our token: correct the "
            "path, or give the token's user a role in it"
        )
    if gitlab.archived or gitlab.marked_for_deletion:
        how = "archived" if gitlab.archived else "marked for deletion"
        raise ConfigError(f"project {gitlab.path} is {how} in GitLab; undo that first")
    return gitlab


async def _find(
    session: Session, arguments: ProjectArguments, asked: Mapping[str, Any], gitlab: ForgeProject | None = None
) -> Target:
    """The Project of that name; or, without a name, the one that serves this project in GitLab already."""
    if arguments.name is not None:
        check_name(arguments.name)
    items = (await session.client.list(PROJECTS, session.namespace)).items
    serving = [item for item in items if _serves(item, asked, gitlab)]
    if arguments.name is None and len(serving) > 1:
        names = ", ".join(sorted(item["metadata"]["name"] for item in serving))
        raise ConfigError(f"several Projects serve {arguments.ref}: {names}; choose one with --name, or a new name")
    name = arguments.name or (serving[0]["metadata"]["name"] if serving else name_of(arguments))
    live = next((item for item in items if item["metadata"]["name"] == name), None)
    if live is None:
        return Target(name, asked, None)
    if live not in serving:
        theirs = (live["spec"].get("gitlab") or {}).get("project", "no project in GitLab")
        raise Forbidden(
            f"Project {name} in namespace {session.namespace} serves {theirs}; choose another name with --name"
        )
    return Target(name, asked, live, differences(asked, live["spec"]))


def _serves(item: Object, asked: Mapping[str, Any], gitlab: ForgeProject | None) -> bool:
    there = str((item["spec"].get("gitlab") or {}).get("project", "")).casefold()
    wanted = {str(asked["gitlab"]["project"]).casefold()}
    return there in wanted | ({str(gitlab.id), gitlab.path.casefold()} if gitlab is not None else set())


def _check(target: Target, *, force: bool) -> None:
    if target.changes and not force:
        raise Forbidden(
            f"Project {target.name} is there and is another: {'; '.join(target.changes)}. --force changes it, and with "
            "it all its environments; --dry-run --force shows what else would be done"
        )


async def _write_project(work: _Work, target: Target, *, force: bool) -> None:
    _check(target, force=force)
    session, what = work.session, f"Project {target.name}"
    if target.live is None:
        if not work.dry_run:
            metadata = {"name": target.name, "namespace": session.namespace}
            body = {"apiVersion": API_VERSION, "kind": "Project", "metadata": metadata, "spec": whole(target.asked)}
            await session.client.create(body, manager=MANAGER)
        chart = target.project.spec.chart
        work.tell(what, "created", f"{target.asked['gitlab']['project']}, chart {chart}, namespace {session.namespace}")
    elif target.changes:
        if not work.dry_run:
            await session.client.merge_patch(
                PROJECTS, target.name, session.namespace, _patch(target, target.live), manager=MANAGER
            )
        work.tell(what, "changed", "; ".join(target.changes))
    else:
        work.tell(what, "unchanged", f"namespace {session.namespace}")


def _patch(target: Target, live: Object) -> Object:
    """What is asked for besides GitLab's project, which is right already; of a chart's other sources none may stay."""
    spec = {name: value for name, value in target.asked.items() if name != "gitlab"}
    if "chart" in spec:
        spec["chart"] = {**dict.fromkeys(_SOURCES), **_replacing(live["spec"]["chart"], spec["chart"])}
    return {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "spec": spec}


def _replacing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch that leaves nothing of what was there below the same key."""
    return {key: {**dict.fromkeys(old.get(key) or {}), **value} for key, value in new.items()}


async def _register(work: _Work, aim: Aim, plan: HookPlan, given: HookArguments, gitlab: ForgeProject) -> ExitCode:
    before = plan.hook
    if work.dry_run:
        _tell_secret(work, plan)
        result = "unchanged" if plan.is_done else "updated" if before else "created"
        work.tell("webhook", result, _wanted(plan, aim.url))
        return ExitCode.DONE
    hook, done = await carry_out(work.session, aim, plan, given)
    _tell_secret(work, done)
    result = "unchanged" if plan.is_done else "updated" if before else "created"
    work.tell("webhook", result, f"{hook.id}: {_wanted(done, aim.url)}")
    lacks = lacks_of(hook, plan.needs)
    if lacks:
        note(f"warning: webhook {hook.id} {'; '.join(lacks)}: GitLab has not taken that")
    if not hook.enable_ssl:
        note(f"warning: GitLab does not check the certificate of {aim.url}; switch SSL verification on at the webhook")
    for other in plan.elsewhere if before is None else ():
        note(
            f"warning: webhook {other.id} delivers to {other.url}: if that is where this receiver was before, "
            "delete it in GitLab"
        )
    if gitlab.is_empty:
        work.tell(
            "test", "skipped", "there is no commit yet to test with; `envprov project check --test` does it later"
        )
        return ExitCode.DONE
    return await _test(work, aim, hook.id, is_new=done.is_new)


async def _test(work: _Work, aim: Aim, hook_id: int, *, is_new: bool) -> ExitCode:
    trial = await try_hook(aim.forge, aim.ref, hook_id)
    if trial.arrived is None:
        work.tell("test", "skipped", f"{trial.message}; {trial.remedy}")
        return ExitCode.DONE
    if trial.arrived:
        work.tell("test", "arrived", trial.message)
        return ExitCode.DONE
    work.tell("test", "failed", trial.message)
    if is_new and trial.status == "401":
        note(
            "the receiver does not have the new secret yet. Kubernetes hands it over within a minute or two; then:\n"
            f"  envprov project check {aim.project} --test"
        )
        return ExitCode.NOT_READY
    note(f"error: {trial.message}; {trial.remedy}")
    return ExitCode.FAILED


def _tell_secret(work: _Work, plan: HookPlan) -> None:
    if plan.value is None:
        work.tell("secret", "unchanged", f"the webhook has its own, a {plan.kind.value} as far as GitLab tells")
    elif plan.is_new:
        work.tell("secret", "written", f"{plan.place}, a {plan.kind.value}")
    else:
        work.tell("secret", "unchanged", f"{plan.place}, a {plan.kind.value}")


def _wanted(plan: HookPlan, url: str) -> str:
    events = {"pushes": True, "merge requests": plan.needs.merge_requests, "comments": plan.needs.notes}
    named = ", ".join(event for event, is_wanted in events.items() if is_wanted)
    return f"{url}, {named}, {plan.needs.filters[0]}"


def _hand_over(work: _Work, arguments: ProjectArguments, plan: HookPlan) -> ExitCode:
    """Leave the secret in a file for somebody who may write it. GitLab is told nothing before the receiver can know."""
    namespace = work.session.namespace
    if work.dry_run or plan.value is None:
        work.tell("secret", "left to somebody else", plan.is_closed)
        return ExitCode.REFUSED
    file = project_secret.set_aside(plan.place, plan.value)
    work.tell("secret", "set aside", f"{file}, which only you can read")
    work.tell("webhook", "not made", "the receiver would not know its secret")
    again = f"envprov project add {arguments.gitlab} --name {plan.place.project} --token-file {file}"
    note(
        f"error: {plan.is_closed}\n"
        f"The webhook's secret is in {file}. Somebody who may write Secrets in namespace {namespace} gives it to the "
        "receiver; then the webhook can be made:\n"
        f"  {project_secret.by_hand(plan.place, namespace, file)}\n"
        f"  {again}\n"
        f"  rm {file}"
    )
    return ExitCode.REFUSED


def _print(work: _Work) -> None:
    if not work.steps:
        return
    match work.common.output:
        case Output.JSON | Output.YAML:
            printing.print_data([asdict(step) for step in work.steps], work.common.output)
        case Output.NAME:
            name = work.steps[0].step.partition(" ")[2]
            printing.print_line(f"project.envprov.io/{name}")
        case _:
            printing.print_table(HEADER, [(step.step, step.result, step.detail) for step in work.steps])
            if all(step.result in {"unchanged", "arrived", "skipped"} for step in work.steps):
                note("nothing has changed", quiet=work.common.quiet)
