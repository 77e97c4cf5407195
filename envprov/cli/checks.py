"""The checks of ``doctor``: each looks at one thing, and says what to do about it if it is not in order."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envprov.cli.guard_status import State as Guarding
from envprov.cli.guard_status import Status, look_at_policies
from envprov.cli.leader import leads, read_leader
from envprov.cli.permissions import Permission
from envprov.cli.session import Session
from envprov.domain.environment import faults
from envprov.domain.errors import EnvprovError, Forbidden
from envprov.domain.project import ProjectSpec
from envprov.domain.schema import environment_definition, project_definition
from envprov.kube.arming import REMEDY
from envprov.kube.client import KubeClient, Object
from envprov.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, PROJECTS
from envprov.kube.rights import can_i
from envprov.releases.command import HelmSettings
from envprov.releases.engine import Helm
from envprov.settings import Settings, read_signing_keys, read_tokens

OLDEST = (1, 30)
"""Kubernetes whose ValidatingAdmissionPolicies are stable."""
AT_ONCE = 10
"""Questions about permissions that are under way at the same time."""
INSTALL = "apply what `envprov manifests` prints"
GUARD_STATUS = "`envprov guard status` says more"

_NUMBER = re.compile(r"\d+")


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """
    What a check found.

    Attributes:
        name: What was looked at.
        state: How it came out.
        message: What was found.
        remedy: What to do; "" if nothing is.

    """

    name: str
    state: State
    message: str
    remedy: str = ""


async def check_server(client: KubeClient) -> Check:
    """The API server answers, and is new enough."""
    name = "cluster"
    try:
        version = await client.get_raw("/version")
    except EnvprovError as error:
        return Check(name, State.FAILED, str(error), "check --kubeconfig and --context; is the cluster up?")
    found = f"{client.server}, Kubernetes {version.get('gitVersion', 'of an unknown version')}"
    numbers = tuple(_leading_number(version.get(part, "")) for part in ("major", "minor"))
    if numbers < OLDEST:
        return Check(name, State.FAILED, found, "envprov needs Kubernetes 1.30 or later: upgrade the cluster")
    return Check(name, State.OK, found)


async def check_definitions(client: KubeClient) -> tuple[Check, ...]:
    """Both kinds are installed, and as this envprov knows them."""
    return tuple(
        [await _check_definition(client, wanted) for wanted in (environment_definition(), project_definition())]
    )


async def check_projects(client: KubeClient, namespace: str) -> tuple[Check, ...]:
    """Projects can be read, and understood."""
    name = "projects"
    try:
        items = (await client.list(PROJECTS, namespace)).items
    except EnvprovError as error:
        return (Check(name, State.FAILED, str(error), f"{INSTALL}, or ask for the right to list Projects"),)
    wrong = [check for item in items if (check := _check_project(item)) is not None]
    if wrong:
        return tuple(wrong)
    if not items:
        remedy = "write a Project, or let `envprov up BRANCH --chart PATH` write one"
        return (Check(name, State.WARNING, f"there are none in namespace {namespace}", remedy),)
    return (Check(name, State.OK, f"{len(items)} in namespace {namespace}, all valid"),)


async def check_permissions(client: KubeClient, wanted: Iterable[Permission], *, whose: str) -> Check:
    """
    The current identity may do what it needs to.

    Args:
        client: As the identity.
        wanted: Every permission.
        whose: Who needs them, for the message.

    """
    permissions = tuple(wanted)
    slots = asyncio.Semaphore(AT_ONCE)

    async def allowed(permission: Permission) -> bool:
        resource, _, subresource = permission.resource.partition("/")
        async with slots:
            return await can_i(
                client,
                permission.verb,
                permission.group,
                resource,
                permission.namespace,
                name=permission.name,
                subresource=subresource or None,
            )

    try:
        answers = await asyncio.gather(*(allowed(permission) for permission in permissions))
    except EnvprovError as error:
        return Check("permissions", State.FAILED, str(error), "ask for the right to create SelfSubjectAccessReviews")
    missing = [str(permission) for permission, is_allowed in zip(permissions, answers, strict=True) if not is_allowed]
    if missing:
        return Check(
            "permissions",
            State.FAILED,
            f"{len(missing)} of {len(permissions)} that {whose} needs are missing: {'; '.join(missing)}",
            "ask for a Role with these, bound to the current identity",
        )
    return Check("permissions", State.OK, f"all {len(permissions)} that {whose} needs")


async def check_helm(settings: Settings, *, is_needed: bool) -> Check:
    """
    Helm is there, and of a version that works.

    Args:
        settings: Name the binary.
        is_needed: Whether it is a failure if not; only who does the controller's work needs it.

    """
    with tempfile.TemporaryDirectory(prefix="envprov-doctor-") as folder:
        helm = Helm(HelmSettings(binary=settings.helm.binary, cache=Path(folder)))
        try:
            await helm.check_version()
            found = await helm.version()
        except EnvprovError as error:
            state = State.FAILED if is_needed else State.WARNING
            return Check("helm", state, str(error), "the controller and --standalone need it, nothing else does")
    return Check("helm", State.OK, f"{settings.helm.binary} {found}")


async def check_controller(client: KubeClient, namespace: str) -> Check:
    """Somebody leads."""
    name = "controller"
    remedy = "start one (`envprov controller`), or use --standalone"
    try:
        leader = await read_leader(client, namespace)
        if leader is None:
            return Check(name, State.FAILED, f"there is no Lease in namespace {namespace}: none ever ran", remedy)
        if await leads(client, namespace, leader):
            return Check(name, State.OK, str(leader))
    except EnvprovError as error:
        return Check(name, State.FAILED, str(error), "ask for the right to read the Lease")
    return Check(name, State.FAILED, f"it has fallen silent: {leader}", remedy)


async def check_guard(session: Session) -> Check:
    """The guard is in force."""
    return guard_check(await look_at_policies(session), session.settings.guard.mode)


def guard_check(status: Status, mode: str) -> Check:
    """
    What ``doctor`` says of the guard.

    Args:
        status: How it was found.
        mode: ``guard.mode`` of the settings.

    """
    name = "guard"
    if status.state is Guarding.DISARMED:
        state = State.FAILED if mode == "enforce" else State.WARNING
        return Check(name, state, f"disarmed: {status.why}", REMEDY)
    if status.state is Guarding.UNKNOWN:
        return Check(name, State.WARNING, f"whether it is armed is not known: {status.why}", GUARD_STATUS)
    wrong = [f"{one.kind} {one.name} is {one.state}" for one in status.policies if one.state != "ok"]
    if wrong:
        return Check(name, State.WARNING, f"armed, but {', '.join(wrong)}", f"{INSTALL}; {GUARD_STATUS}")
    return Check(name, State.OK, f"armed: {status.why}")


def check_tokens(settings: Settings) -> Check:
    """The files with the webhook's tokens can be read; only the receiver needs them."""
    name, webhook = "webhook tokens", settings.webhook
    files = (*webhook.token_files, *webhook.signing_token_files)
    if not files:
        remedy = "the receiver needs webhook.token_files or webhook.signing_token_files; nothing else does"
        return Check(name, State.WARNING, "none are set", remedy)
    try:
        count = len(read_tokens(webhook)) + len(read_signing_keys(webhook))
    except EnvprovError as error:
        return Check(name, State.FAILED, str(error), "write the token that GitLab has for the webhook into the file")
    opened = [str(path) for path in files if path.is_file() and path.stat().st_mode & 0o007]
    if opened:
        return Check(name, State.WARNING, f"everybody can read {', '.join(opened)}", "chmod 0640 it")
    return Check(name, State.OK, f"{count} can be read by user {os.getuid()}")


async def _check_definition(client: KubeClient, wanted: Object) -> Check:
    crd = wanted["metadata"]["name"]
    name = f"kind {wanted['spec']['names']['kind']}"
    try:
        live = await client.get(CUSTOM_RESOURCE_DEFINITIONS, crd)
    except Forbidden:
        return Check(name, State.WARNING, f"not allowed to read the CustomResourceDefinition {crd}", "ask an admin")
    except EnvprovError as error:
        return Check(name, State.FAILED, str(error), INSTALL)
    if live is None:
        return Check(name, State.FAILED, f"CustomResourceDefinition {crd} is not installed", INSTALL)
    version = wanted["spec"]["versions"][0]
    served = next((one for one in live["spec"]["versions"] if one["name"] == version["name"]), None)
    if served is None or not served["served"]:
        return Check(name, State.FAILED, f"version {version['name']} of {crd} is not served", INSTALL)
    if served["schema"] != version["schema"]:
        message = f"CustomResourceDefinition {crd} is of another version of envprov than this command"
        return Check(name, State.WARNING, message, f"{INSTALL}, or use the command of the version that is installed")
    return Check(name, State.OK, f"{crd} is installed and current")


def _check_project(item: Object) -> Check | None:
    name = f"project {item['metadata']['name']}"
    spec: Any = item.get("spec", {})
    try:
        project = ProjectSpec.model_validate(spec)
    except ValidationError as error:
        return Check(name, State.FAILED, faults(error), "edit the Project")
    if project.gitlab is None and project.chart.git is not None:
        return Check(name, State.FAILED, "its chart is in Git, but it says no gitlab.project", "edit the Project")
    return None


def _leading_number(text: object) -> int:
    # Some providers write "30+".
    matched = _NUMBER.match(str(text))
    return int(matched[0]) if matched else 0
