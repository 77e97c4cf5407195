"""
The webhook of a Project: what is to be done about it is planned first, then shown or carried out.

A secret is made once. GitLab shows none, so that one which is there is left alone unless it is to be rotated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from envprov.cli import project_secret
from envprov.cli.project_secret import SECRET_NAMES, Kind, Place
from envprov.cli.session import Session
from envprov.domain.errors import ConfigError, Forbidden, ForgeUnreliable, Invalid
from envprov.domain.forge import Hook, ProjectRef, Secret
from envprov.domain.hooks import (
    ALLOW,
    FILTERS_BY_REGEX_SINCE,
    SIGNS_SINCE,
    HookNeeds,
    find_hook,
    is_as_wished,
    is_of_a_receiver,
    needs_of,
    version_of,
)
from envprov.domain.project import Project
from envprov.gitlab.client import GitLabClient


@dataclass(frozen=True)
class HookArguments:
    """
    The arguments that shape the webhook.

    Attributes:
        url: Of the receiver; None is the one of the settings.
        secret: Name of the Secret; None is the receiver's own for each kind.
        token_file: File with the secret, for somebody who may not read the Secret.
        rotate: Whether the webhook gets a new secret.
        sign: Whether GitLab is to sign if it can.

    """

    url: str | None = None
    secret: str | None = None
    token_file: Path | None = None
    rotate: bool = False
    sign: bool = True


@dataclass(frozen=True)
class Aim:
    """
    Where the hook is, or will be.

    Attributes:
        forge: GitLab.
        ref: The project there.
        url: Of the receiver.
        project: Name of the Project.

    """

    forge: GitLabClient
    ref: ProjectRef
    url: str
    project: str


@dataclass(frozen=True)
class HookPlan:
    """
    What is to be done.

    Attributes:
        hook: The one that is there.
        needs: What it must deliver.
        kind: Of the secret.
        place: Where the secret is, or will be.
        value: The secret that GitLab is told; None leaves the one that it has.
        is_new: Whether the Secret does not have it yet.
        is_closed: Why the Secret cannot be read, or "".
        elsewhere: Other hooks that deliver to a receiver: ours, before it moved, or another one's.

    """

    hook: Hook | None
    needs: HookNeeds
    kind: Kind
    place: Place
    value: Secret | None = None
    is_new: bool = False
    is_closed: str = ""
    elsewhere: tuple[Hook, ...] = ()

    @property
    def enable_ssl(self) -> bool:
        """Whether GitLab checks our certificate; whoever has switched that off has a reason, and is warned."""
        return self.hook.enable_ssl if self.hook is not None else True

    @property
    def is_done(self) -> bool:
        """Whether the hook is as it ought to be."""
        return (
            self.hook is not None
            and self.value is None
            and is_as_wished(self.hook, self.needs, enable_ssl=self.enable_ssl)
        )


def receiver_url(session: Session, given: str | None) -> str:
    """
    Where GitLab reaches the receiver.

    Args:
        session: Has the settings.
        given: What ``--url`` says.

    Raises:
        ConfigError: It is not known, or no URL.

    """
    url = given or session.settings.gitlab.hook_url
    if url is None:
        raise ConfigError(
            "where GitLab reaches the receiver is not known: give --url https://HOST/webhooks/gitlab, or set "
            "gitlab.hook_url; --no-hook leaves the webhook out"
        )
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError("--url: must be a URL such as https://envprov.example.com/webhooks/gitlab")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("--url: must hold no credentials; the webhook has a secret of its own")
    return url


async def plan_hook(session: Session, aim: Aim, project: Project, given: HookArguments) -> HookPlan:
    """
    What is to be done about the webhook. Only reads.

    Args:
        session: Where the Secrets are.
        aim: Where the hook is.
        project: As it is going to be.
        given: The arguments.

    Raises:
        ForgeForbidden: The token may not look at webhooks.

    """
    version, hooks = version_of(await aim.forge.version()), await aim.forge.hooks(aim.ref)
    plan = await _planned(session, aim, project, given, version, find_hook(hooks, aim.url))
    return replace(plan, elsewhere=tuple(hook for hook in hooks if is_of_a_receiver(hook.url, not_at=aim.url)))


async def _planned(  # noqa: PLR0913, PLR0917 - what a plan is made of
    session: Session, aim: Aim, project: Project, given: HookArguments, version: tuple[int, int], hook: Hook | None
) -> HookPlan:
    needs = needs_of(project, by_regex=version >= FILTERS_BY_REGEX_SINCE)
    if given.token_file is not None:
        kind, value = project_secret.read_file(given.token_file)
        if kind is Kind.SIGNING and version < SIGNS_SINCE:
            raise ConfigError(f"--token-file {given.token_file}: holds a signing token, and GitLab signs from 19.0 on")
        return HookPlan(hook, needs, kind, _place(kind, aim, given), value)
    kind = Kind.SIGNING if given.sign and version >= SIGNS_SINCE else Kind.TOKEN
    if hook is not None and not given.rotate and not _has_no_secret(hook):
        kind = Kind.SIGNING if hook.signing_token_present else Kind.TOKEN
        return HookPlan(hook, needs, kind, _place(kind, aim, given))
    plan = HookPlan(hook, needs, kind, _place(kind, aim, given))
    try:
        found = await project_secret.find(session, plan.place)
    except Forbidden as error:
        return replace(plan, value=project_secret.generate(kind), is_new=True, is_closed=str(error))
    if found is not None and not given.rotate:
        return replace(plan, value=found)
    return replace(plan, value=project_secret.generate(kind), is_new=True)


async def carry_out(session: Session, aim: Aim, plan: HookPlan, given: HookArguments) -> tuple[Hook, HookPlan]:
    """
    Make the hook what it ought to be; its secret is in the Secret before GitLab knows it.

    Args:
        session: Where the Secrets are.
        aim: Where the hook is.
        plan: What ``plan_hook`` has found.
        given: The arguments.

    Returns:
        The hook, and the plan as it was carried out: by a secret token if GitLab does not sign after all.

    Raises:
        Forbidden: The Secret may not be written; GitLab was told nothing.

    """
    if plan.is_done and plan.hook is not None:
        return plan.hook, plan
    if plan.value is not None and plan.is_new:
        await project_secret.put(session, plan.place, plan.value)
    hook = await _write(aim, plan)
    if plan.kind is not Kind.SIGNING or plan.value is None or hook.signing_token_present:
        return hook, plan
    if given.token_file is not None:
        raise Invalid(
            f"webhook {hook.id}: GitLab has not taken the signing token; does it sign? Give it a secret token"
        )
    place = _place(Kind.TOKEN, aim, given)
    found = await project_secret.find(session, place)
    value = found or project_secret.generate(Kind.TOKEN)
    plain = replace(plan, hook=hook, kind=Kind.TOKEN, place=place, value=value, is_new=found is None)
    if plain.is_new:
        await project_secret.put(session, place, value)
    return await _write(aim, plain), plain


async def _write(aim: Aim, plan: HookPlan) -> Hook:
    is_signed = plan.kind is Kind.SIGNING
    wish = plan.needs.wish(
        aim.url,
        enable_ssl=plan.enable_ssl,
        token=None if is_signed else plan.value,
        signing_token=plan.value if is_signed else None,
    )
    try:
        if plan.hook is None:
            return await aim.forge.create_hook(aim.ref, wish)
        return await aim.forge.update_hook(aim.ref, plan.hook.id, wish)
    except Invalid as error:
        if "url" not in str(error).casefold():
            raise
        raise Invalid(f"{error}; if its address is private: {ALLOW}") from error
    except ForgeUnreliable as error:
        raise ForgeUnreliable(f"{error}; call this again: it makes no second webhook") from error


def _place(kind: Kind, aim: Aim, given: HookArguments) -> Place:
    return Place(given.secret or SECRET_NAMES[kind], aim.project)


def _has_no_secret(hook: Hook) -> bool:
    """Whether GitLab says that deliveries carry nothing at all; older ones do not tell."""
    return hook.token_present is False and not hook.signing_token_present
