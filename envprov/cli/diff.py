"""``diff``: the live objects of an environment against its release, with who changed them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from envprov.cli import diff_show, printing
from envprov.cli.exits import ExitCode
from envprov.cli.found import unknown
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.projects import find_project
from envprov.cli.session import Session, opened
from envprov.cli.stored import Place, place_of, read_stored
from envprov.cli.wish import check_branch
from envprov.domain.charted import charted
from envprov.domain.environment import Type
from envprov.domain.errors import EnvprovError
from envprov.domain.holds import HUSK, STATE
from envprov.domain.live_diff import REPLICAS, Compared, State, compare, scalers
from envprov.domain.loose import mapping, text, within
from envprov.domain.names import namespace_of, slug
from envprov.kube.client import KubeClient, Object
from envprov.kube.live import Unread, find_resources, read_objects
from envprov.kube.record import check_name
from envprov.kube.resources import ENVIRONMENTS, NAMESPACES, Resource
from envprov.releases.stored import StoredObjects

AUTOSCALERS = Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")


async def show_diff(common: Common, branch: str, project: str | None, *, exit_code: bool) -> ExitCode:
    """
    Print how the live objects of an environment differ from its release.

    Args:
        common: The options of the call.
        branch: The branch.
        project: Name of the Project; None for the one that the folder belongs to.
        exit_code: Whether a difference ends with 1.

    Raises:
        Forbidden: The caller may not read the release; says which right is missing.

    """
    check_branch(branch)
    async with opened(common) as session:
        named = await find_project(session, project, Path.cwd())
        item = await session.client.get(ENVIRONMENTS, slug(named, branch), session.namespace)
        if item is None:
            note(f"error: {await _absent(session, named, branch)}")
            return ExitCode.FAILED
        check_name(item, named, branch)
        if "deletionTimestamp" in item["metadata"]:
            note(f"error: {_going(item, branch)}")
            return ExitCode.FAILED
        place = place_of(item, named)
        stored, remark = await read_stored(session.client, place)
        if stored is None:
            note(f"error: branch {branch} of Project {named} has no release yet{_why(item)}")
            return ExitCode.FAILED
        compared, notes = await _compare(session.client, stored, place)
    notes = tuple(line for line in (remark, *notes) if line)
    shown = diff_show.Shown(item, stored, place.namespace, compared, notes)
    if common.output.is_for_people:
        diff_show.print_text(shown, datetime.now(UTC), wide=common.output is Output.WIDE, quiet=common.quiet)
    elif common.output is Output.NAME:
        diff_show.print_names(shown)
    else:
        printing.print_data(shown.as_json(), common.output)
    unread = [entry for entry in compared if entry.state is State.UNREAD]
    for entry in unread:
        note(f"error: {entry.subject} could not be read, so nothing is known of it: {entry.message}")
    if unread:
        return ExitCode.FAILED
    return ExitCode.FAILED if exit_code and any(entry.differs for entry in compared) else ExitCode.DONE


async def _compare(
    client: KubeClient, stored: StoredObjects, place: Place
) -> tuple[tuple[Compared, ...], tuple[str, ...]]:
    """Each object of the release beside the live one, in the order of kinds and names; and what to know about it."""
    kinds = {(text(given.get("apiVersion")), text(given.get("kind"))) for given in stored.objects}
    resources, (autoscalers, fault) = await asyncio.gather(
        find_resources(client, kinds), _autoscalers(client, place.namespace)
    )
    scopes = {kind: where.namespaced for kind, where in resources.items() if isinstance(where, Resource)}
    items = {item.subject: item for item in charted(stored.objects, place.namespace, scopes)}
    live = await read_objects(client, items, resources)
    targets = scalers((*stored.objects, *autoscalers))
    release = (place.release, place.namespace)
    compared = tuple(
        Compared(subject, State.UNREAD, message=found.message)
        if isinstance(found := live[subject], Unread)
        else compare(items[subject], found, release, targets)
        for subject in sorted(items, key=lambda one: (one.kind, one.name, one.namespace, one.api_version))
    )
    is_scaled = any(one.field.path == REPLICAS for entry in compared for one in entry.differences)
    return compared, (fault,) if fault and is_scaled else ()


async def _autoscalers(client: KubeClient, namespace: str) -> tuple[Sequence[Object], str]:
    try:
        return (await client.list(AUTOSCALERS, namespace)).items, ""
    except EnvprovError as error:
        return (), f"replicas that differ may be the task of a HorizontalPodAutoscaler: {error}"


async def _absent(session: Session, project: str, branch: str) -> str:
    """That there is no environment, in words; a husk is what may be left of one."""
    said = await unknown(session, project, branch)
    namespace = namespace_of(slug(project, branch))
    try:
        found = await session.client.get(NAMESPACES, namespace, metadata_only=True)
    except EnvprovError:
        return said
    if found is not None and within(found, "metadata", "labels").get(STATE) == HUSK:
        return (
            f"the environment of branch {branch} of Project {project} is gone, and its release too; "
            f"namespace {namespace} stays as a husk for what others still use: `envprov guard explain {namespace}`"
        )
    return said


def _going(item: Object, branch: str) -> str:
    teardown = within(item, "status", "teardown")
    step = f" (step {teardown['step']})" if teardown.get("step") else ""
    husk = "; a husk stays for what others still use" if teardown.get("plan") == "Husk" else ""
    return (
        f"the environment of branch {branch} is being torn down{step}{husk}: its release goes with it, and there is "
        "nothing left to compare with; `envprov status` shows how far it is"
    )


def _why(item: Object) -> str:
    """What the record says about the deployment, as the end of a sentence."""
    conditions = [mapping(entry) for entry in within(item, "status").get("conditions") or ()]
    for kind in (Type.ACCEPTED, Type.DEPLOYED, Type.READY):
        for entry in conditions:
            if entry.get("type") == kind and entry.get("status") != "True":
                return f": {entry.get('reason', '')}: {entry.get('message', '')}".rstrip(": ")
    return "; `envprov status` shows how far it is"
