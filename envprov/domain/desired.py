"""What ought to be for one branch: its Project, its own spec and the platform, put together without I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from envprov.domain.environment import REDEPLOY, UNLOCK, BranchFileStatus, Environment
from envprov.domain.errors import InvalidRecord
from envprov.domain.guard import ENVIRONMENT, Policy
from envprov.domain.holds import Account, Holder
from envprov.domain.lifetime import Lifetime, Term
from envprov.domain.names import namespace_of, slug
from envprov.domain.platform import Platform
from envprov.domain.project import Access, ChartSource, Checks, GitChart, Project, Rule, SecretCopy, known_sizes
from envprov.domain.sizes import Size

INSTALLER = "envprov-installer"


@dataclass(frozen=True)
class Identity:
    """Who an environment is: enough to tear it down when its Project is gone."""

    name: str
    control_namespace: str
    project: str
    branch: str
    uid: str = ""

    @property
    def namespace(self) -> str:
        """Namespace that serves the branch."""
        return namespace_of(self.name)

    @property
    def owner(self) -> str:
        """Value of the annotation by which the namespace names its record."""
        return f"{self.control_namespace}/{self.name}"

    @property
    def holder(self) -> Holder:
        """The environment as a user of shared ServiceAccounts."""
        return Holder(ENVIRONMENT, self.control_namespace, self.name, self.uid)


@dataclass(frozen=True)
class Desired:
    """What ought to be. Every field is decided; nothing is optional that has a default."""

    identity: Identity
    revision: str
    size_name: str
    size: Size
    sizes: Mapping[str, Size]
    choices: tuple[str, ...]
    """Sizes that the branch may choose for itself."""
    lifetime: Lifetime | None
    longest: timedelta | None
    """How long it may live without activity, if its lifetime was chosen and not given by a rule."""
    asleep: bool
    """Whether it is to be scaled to nothing."""
    slept: bool
    """Whether something in it may still be asleep, by what was last reported."""
    host: str | None
    url: str | None
    chart: ChartSource
    repository: str | int | None
    """Path or id of the project in GitLab, for a chart in the branch itself."""
    values: tuple[Mapping[str, Any], ...]
    """Laid over each other from left to right, as Helm would."""
    redeploy: str
    """When somebody last asked for the same once more; "" for never."""
    unlock: str
    """When somebody last asked for a release that is stuck to be got out of it at once; "" for never."""
    file: BranchFileStatus | None
    """What the branch's own file says, and what is wrong with it."""
    access: tuple[Access, ...]
    secrets: tuple[SecretCopy, ...]
    shared: Mapping[Account, Policy]
    """ServiceAccounts that the Project names, with what becomes of each when its last user is gone."""
    held: tuple[Account, ...]
    """ServiceAccounts that the environment was last seen to hold."""
    checks: Checks
    """What the check of the chart lets pass."""
    platform: Platform


def identity_of(environment: Environment) -> Identity:
    """Who an Environment is."""
    return Identity(
        name=environment.name,
        control_namespace=environment.namespace,
        project=environment.spec.project,
        branch=environment.spec.branch,
        uid=environment.uid,
    )


def name_fault(environment: Environment) -> str | None:
    """Why an Environment may not bear its name, or None; two branches would share a namespace otherwise."""
    expected = slug(environment.spec.project, environment.spec.branch)
    if environment.name == expected:
        return None
    return (
        f"the Environment of branch {environment.spec.branch!r} in Project {environment.spec.project} must be named "
        f"{expected}, not {environment.name}; `envprov up` names it so"
    )


def desire(
    environment: Environment, project: Project, platform: Platform, file: BranchFileStatus | None = None
) -> Desired:
    """
    What ought to be for one Environment.

    Args:
        environment: The record.
        project: The Project that it names.
        platform: The settings for all environments.
        file: What the branch's own file says, already bounded by the Project.

    Raises:
        InvalidRecord: The size is unknown or not allowed, or two Secrets would be copied to one name.

    """
    spec = project.spec
    _refuse_colliding_copies(spec.copy_secrets)
    rule = project.rule_for(environment.spec.branch) or Rule(branches=("*",))
    size_name = _size_name(environment, project, rule, file.size if file else None)
    sizes = known_sizes(project, platform.sizes)
    if size_name not in sizes:
        raise InvalidRecord(f"size {size_name} is unknown; there are {', '.join(sorted(sizes))}")
    identity = identity_of(environment)
    words = {
        "slug": environment.name,
        "branch": environment.spec.branch,
        "project": project.name,
        "revision": environment.spec.revision,
    }
    host = _filled(spec.host, words) if spec.host else None
    url = f"{platform.url_scheme}://{host}" if host else None
    words |= {"host": host or "", "url": url or ""}
    term = term_of(environment, project, file)
    layers = (spec.values, rule.values, *((file.values,) if file else ()), environment.spec.values)
    injected = ({"envprov": words},) if spec.inject else ()
    return Desired(
        identity=identity,
        revision=environment.spec.revision,
        size_name=size_name,
        size=sizes[size_name],
        sizes=sizes,
        choices=tuple(name for name in sizes if name in spec.sizes.allowed),
        lifetime=term.lifetime,
        longest=term.longest,
        asleep=environment.spec.asleep,
        slept=environment.status.asleep_since is not None,
        host=host,
        url=url,
        chart=ChartSource(git=GitChart(path=file.chart)) if file and file.chart else spec.chart,
        repository=spec.gitlab.project if spec.gitlab else None,
        values=tuple(_filled(values, words) for values in layers) + injected,
        redeploy=environment.annotations.get(REDEPLOY, ""),
        unlock=environment.annotations.get(UNLOCK, ""),
        file=file,
        access=spec.access,
        secrets=spec.copy_secrets,
        shared={Account(shared.namespace, shared.name): shared.policy for shared in spec.shared_service_accounts},
        held=tuple(Account(held.namespace, held.name) for held in environment.status.holds),
        checks=spec.checks,
        platform=replace_control_namespace(platform, environment.namespace),
    )


def term_of(environment: Environment, project: Project, file: BranchFileStatus | None) -> Term:
    """
    How long an environment is to live.

    Args:
        environment: The record.
        project: The Project that it names.
        file: What the branch's own file says, already bounded by the Project.

    """
    chosen = environment.spec.lifetime or (file.lifetime if file else None)
    rule = project.rule_for(environment.spec.branch)
    return Term(chosen or (rule.lifetime if rule else None), project.spec.limits.lifetime if chosen else None)


def replace_control_namespace(platform: Platform, namespace: str) -> Platform:
    """The platform as seen from the control namespace that holds the record."""
    return platform.model_copy(update={"control_namespace": namespace})


def _size_name(environment: Environment, project: Project, rule: Rule, in_file: str | None) -> str:
    sizes = project.spec.sizes
    asked, given = environment.spec.size or in_file, rule.size or sizes.default
    if asked is None or asked == given:
        return given
    if asked not in sizes.allowed:
        raise InvalidRecord(
            f"size {asked} is not allowed in Project {project.name}; a branch may choose among "
            f"{', '.join(sorted({*sizes.allowed, given}))}"
        )
    return asked


def _refuse_colliding_copies(secrets: tuple[SecretCopy, ...]) -> None:
    """Two originals of one name would take turns in its copy for ever."""
    sources: dict[str, str] = {}
    for secret in secrets:
        other = sources.setdefault(secret.name, secret.namespace)
        if other != secret.namespace:
            raise InvalidRecord(
                f"copySecrets of the Project names two Secrets {secret.name}, of the Namespaces {other} and "
                f"{secret.namespace}; both copies would have that name, so rename one of them"
            )


def _filled(value: Any, words: Mapping[str, str]) -> Any:  # noqa: ANN401 - values are any JSON
    """Known placeholders filled in, once; every other brace stays as it is."""
    if isinstance(value, str):
        # In one go: a branch may itself be called {slug}.
        return re.sub(r"\{(\w+)\}", lambda match: words.get(match[1], match[0]), value)
    if isinstance(value, Mapping):
        return {key: _filled(child, words) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(child, words) for child in value]
    return value
