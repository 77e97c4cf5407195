"""``plan``: what would become of a branch, by the same code as in the controller; touches nothing of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envprov.cli import git, plan_show, printing
from envprov.cli.charts import find_chart, project_name
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common
from envprov.cli.plan_file import file_of
from envprov.cli.projects import check_rules, find_project, read_project
from envprov.cli.room import Asking, waits_for
from envprov.cli.session import Session, opened
from envprov.cli.stored import Place, read_stored
from envprov.cli.up import Target
from envprov.cli.wish import Arguments, options_of
from envprov.domain.changes import between
from envprov.domain.checking import Given
from envprov.domain.checks.catalogue import check
from envprov.domain.checks.server import UNTRIED
from envprov.domain.cost import cost
from envprov.domain.desired import Desired, desire
from envprov.domain.environment import API_VERSION, Environment, parse_environment
from envprov.domain.errors import ConfigError, Forbidden, NotOwned
from envprov.domain.findings import Finding, downgrade
from envprov.domain.hosts import own_host
from envprov.domain.names import slug
from envprov.domain.need import needs_of
from envprov.domain.objects import OWNER
from envprov.domain.outlook import Outlook
from envprov.domain.project import ChartSource, GitChart, LocalChart, Project, ProjectSpec
from envprov.domain.rendered import read_rendered
from envprov.kube.client import KubeClient, Object
from envprov.kube.record import check_name
from envprov.kube.reservations import Reservations
from envprov.kube.resources import ENVIRONMENTS, NAMESPACES, PROJECTS
from envprov.plan_wiring import planning
from envprov.planning import Draft, Planner
from envprov.releases.engine import ReleaseSpec, service_account_user
from envprov.scratch import scratch
from envprov.trial import Trial

_NO_TRIAL = (
    "the objects were not tried on the API server: the release is there, and no dry run can follow how Helm 3 changes "
    "objects"
)


async def plan(common: Common, target: Target, arguments: Arguments) -> ExitCode:
    """
    Show what would become of a branch.

    Args:
        common: The options of the call.
        target: Where the environment comes from.
        arguments: What it is to be like.

    Returns:
        REFUSED if the chart cannot be deployed.

    Raises:
        EnvprovError: It could not be found out; why.

    """
    options = options_of(arguments, now=datetime.now(UTC))
    async with opened(common) as session:
        project = await _project(session, target)
        check_rules(project, arguments.branch)
        environment = await _environment(session, project, arguments, options)
        file = await file_of(session.settings, project, environment, target.chart)
        desired = desire(environment, project, session.settings.platform, file)
        (waits, never), outlook = await asyncio.gather(
            waits_for(session, Asking(environment, desired, project)), _look(session, desired, target.chart)
        )
        findings = downgrade((*outlook.findings, *never), desired.checks.warn_only)
        outlook = replace(outlook, waits=waits, findings=findings)
    if common.output.is_for_people:
        plan_show.show(outlook)
    else:
        printing.print_data(outlook.as_json(), common.output)
    return ExitCode.REFUSED if outlook.verdict == "Refused" else ExitCode.DONE


async def _project(session: Session, target: Target) -> Project:
    """The Project, or one as ``up --chart`` would make it."""
    if target.chart is None:
        return await read_project(session, await find_project(session, target.project, Path.cwd()))
    path = find_chart(target.chart)
    folder = Path.cwd()
    name = target.project or project_name((git.top_of(folder) or folder).name)
    chart = ChartSource(local=LocalChart(path=str(path)))
    if await session.client.get(PROJECTS, name, session.namespace) is None:
        return Project(name=name, spec=ProjectSpec(chart=chart))
    project = await read_project(session, name)
    return project.model_copy(update={"spec": project.spec.model_copy(update={"chart": chart})})


async def _environment(
    session: Session, project: Project, arguments: Arguments, options: dict[str, Any]
) -> Environment:
    """The record as ``up`` would leave it; nothing is written."""
    name = slug(project.name, arguments.branch)
    live = await session.client.get(ENVIRONMENTS, name, session.namespace)
    if live is not None:
        check_name(live, project.name, arguments.branch)
    elif not arguments.revision and isinstance(project.spec.chart.source, GitChart):
        raise ConfigError(
            f"branch {arguments.branch} has no environment yet, and its chart is in the repository: say which commit "
            "with --revision, or name the chart's folder on this computer with --chart"
        )
    given = {**options, **({"revision": arguments.revision} if arguments.revision else {})}
    record = live or {
        "apiVersion": API_VERSION,
        "kind": "Environment",
        "metadata": {
            "name": name,
            "namespace": session.namespace,
            "uid": "",
            "resourceVersion": "",
            "creationTimestamp": datetime.now(UTC).isoformat(),
        },
        "spec": {"project": project.name, "branch": arguments.branch},
    }
    return parse_environment({**record, "spec": {**record["spec"], **given}})


async def _look(session: Session, desired: Desired, chart: Path | None) -> Outlook:
    settings = session.settings
    if chart is not None:
        helm = settings.helm.model_copy(update={"chart_root": find_chart(chart)})
        settings = settings.model_copy(update={"helm": helm})
    client = session.client
    async with planning(settings, session.connection, client) as planner:
        release = await planner.release(desired)
        seen = await _namespace(client, desired)
        stored = await _stored(client, desired) if seen else None
        draft = await _draft(planner, release, is_upgrade=stored is not None)
        rendered = read_rendered(draft.objects, desired.identity.namespace)
        hosts = {*rendered.hosts, *((own,) if (own := own_host(desired)) else ())}
        reserved = await Reservations(client, session.namespace).look(desired.identity, hosts)
        given = await planner.given(desired, draft, reserved)
        can_try = await planner.helm.applies() or not draft.is_upgrade
    tried = await _try(client, given, exists=seen) if can_try else (UNTRIED.found(None, "", _NO_TRIAL),)
    needs = needs_of(given)
    prices = settings.platform.prices
    return Outlook(
        desired=desired,
        is_new=not seen,
        findings=downgrade((*check(given), *tried), desired.checks.warn_only),
        changes=between(stored or (), draft.objects, desired.identity.namespace, given.facts.scopes),
        needs=needs,
        holds=tuple(sorted({*desired.shared, *rendered.referred})),
        cost=cost(needs.steady.total, prices) if prices else None,
        waits="",
    )


async def _namespace(client: KubeClient, desired: Desired) -> bool:
    """Whether the environment's namespace is there."""
    identity = desired.identity
    live = await client.get(NAMESPACES, identity.namespace, metadata_only=True)
    if live is None:
        return False
    if live["metadata"].get("annotations", {}).get(OWNER) != identity.owner:
        raise NotOwned(f"Namespace {identity.namespace} exists and does not belong to Environment {identity.owner}")
    return True


async def _stored(client: KubeClient, desired: Desired) -> tuple[Object, ...] | None:
    """What the release has now, hooks included; None before the first deployment."""
    identity = desired.identity
    found, _ = await read_stored(client, Place(identity.namespace, identity.name, 0, identity.project))
    return (*found.objects, *found.hooks) if found else None


async def _draft(planner: Planner, release: ReleaseSpec, *, is_upgrade: bool) -> Draft:
    """The release, rendered; where it is there already, a chart that asks the cluster sees what the installer sees."""
    if not is_upgrade:
        return await planner.draft(release, is_upgrade=False)
    installer = service_account_user(release.namespace, release.installer)
    try:
        return await planner.draft(release, is_upgrade=True, lookup_as=installer)
    except Forbidden:  # few may act as the installer; whoever may edit the environment sees there what it sees
        return await planner.draft(release, is_upgrade=True, lookup_as="")


async def _try(client: KubeClient, given: Given, *, exists: bool) -> tuple[Finding, ...]:
    """What the API server says to each object, in the environment's namespace or in a scratch one."""
    desired = given.desired
    if exists:
        return await Trial(client, desired.identity.namespace).run(given)
    try:
        async with scratch(client, desired, lambda: datetime.now(UTC)) as namespace:
            return await Trial(client, namespace).run(given)
    except Forbidden as error:
        return (UNTRIED.found(None, "", f"the objects were not tried on the API server: {error}"),)
