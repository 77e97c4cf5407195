"""
Helm: render, deploy, roll back, uninstall. One process for each operation, as the environment's own installer.

Never ``--take-ownership``: an object of somebody else stays theirs, and the deployment says whose it is. With Helm 4
always ``--force-conflicts``: what the chart declares wins over what a person changed by hand in an object of the
release, as it always did with Helm 3; without it one ``kubectl scale`` would stop every later push.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from envprov.domain.errors import ConfigError, Conflict, HelmFailed
from envprov.releases.charts import ChartRef
from envprov.releases.command import Command, HelmSettings
from envprov.releases.manifests import parse

OLDEST = (3, 17)
TOO_NEW = (5, 0)
_SERVER_SIDE_SINCE = (4, 0)
_FORCING = ("--server-side=true", "--force-conflicts")
_DEPLOYING = (
    "--reset-values",  # or an empty document would mean: the values of the revision before
    "--disable-openapi-validation",  # the API server validates; fetching its schemas would cost 0.1 to 0.2 s
)
_LOOKING = ("--dry-run=server", "--disable-openapi-validation")
_NOT_FOUND = "release: not found"
_SWALLOWED = "failed to delete release"
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.\d+\S*")


@dataclass(frozen=True)
class ReleaseSpec:
    """
    A release as it ought to be.

    Attributes:
        name: Name of the release, at most 53 characters.
        namespace: Namespace of the release and of everything in it.
        chart: The chart.
        values: One merged document.
        installer: ServiceAccount of the namespace that everything is done as.
        labels: Labels of the release's Secrets.

    """

    name: str
    namespace: str
    chart: ChartRef
    values: Mapping[str, Any] = field(repr=False)
    installer: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """
    What a chart can see of the cluster while it is rendered.

    Attributes:
        kube_version: Of the API server, such as ``v1.37.2``; empty for the one that Helm was built for.
        api_versions: Groups with version, and kinds as ``apps/v1/Deployment``, that the API server serves.
        is_upgrade: Whether the release is there already.
        lookup_as: User that the chart's ``lookup`` reads the cluster as; empty for whoever Helm is run as, and None if
            it finds nothing.

    """

    kube_version: str = ""
    api_versions: frozenset[str] = frozenset()
    is_upgrade: bool = False
    lookup_as: str | None = None


class Helm:
    """
    Helm 4, or 3.17 or later.

    Args:
        settings: How Helm is run. Nothing is run or made before the first operation.
        confirm: Called right before each operation that changes the cluster; what it raises prevents that. Helm finds
            a release by its name, and a successor of that name must not fall to somebody who was paused.

    """

    def __init__(self, settings: HelmSettings, confirm: Callable[[], Awaitable[None]] | None = None) -> None:
        self._settings = settings
        self._confirm = confirm
        self._version: tuple[int, int] | None = None

    async def version(self) -> str:
        """
        Helm's own version, such as ``v4.3.1``.

        Raises:
            ConfigError: There is no Helm, or it is none.

        """
        command = self._command("tell its version", self._settings.timeouts.version)
        try:
            text = (await command.version()).strip()
        except HelmFailed as exc:
            raise ConfigError(f"The Helm binary {self._settings.binary!r} does not tell its version: {exc}") from exc
        matched = _VERSION.fullmatch(text)
        if matched is None:
            raise ConfigError(f"The Helm binary {self._settings.binary!r} tells no version that is one; is it Helm?")
        self._version = (int(matched[1]), int(matched[2]))
        return text

    async def check_version(self) -> None:
        """
        Make sure that Helm can do what is asked of it.

        Raises:
            ConfigError: There is no Helm, or it is too old or too new; says what to do.

        """
        text = await self.version()
        if self._version is None or not OLDEST <= self._version < TOO_NEW:
            raise ConfigError(
                f"The Helm binary {self._settings.binary!r} is {text}; envprov needs Helm 4, or 3.17 or later: install "
                "one and name it in the setting helm.binary"
            )

    async def applies(self) -> bool:
        """Whether it changes objects by server-side apply, as Helm 4 does; Helm 3 patches them by itself."""
        return bool(await self._forcing())

    async def render(self, release: ReleaseSpec, setting: Setting | None = None) -> tuple[dict[str, Any], ...]:
        """
        The objects that a release would have, hooks and CRDs included.

        Args:
            release: The release.
            setting: The cluster, as the chart is to see it; by default as none that there is.

        Returns:
            Objects in the order of their installation, CRDs first.

        Raises:
            RenderFailed: The chart does not render, or the values do not fit its schema.
            ChartNotFound: There is no such chart.
            Forbidden: Nobody may look up as that user.
            Invalid: It was to look up, and the cluster does not serve a kind that it renders.

        """
        flags = _seen(setting) if setting is not None else ()
        command = self._command(f"render release {release.name}", self._settings.timeouts.template, *flags)
        # What this returns would parse lazily, in pure Python and not as Kubernetes does: it is left alone.
        await command.template(
            release.name,
            release.chart.reference,
            dict(release.values),
            include_crds=True,
            namespace=release.namespace,
        )
        return await asyncio.to_thread(parse, command.stdout)

    async def weigh(self, release: ReleaseSpec) -> int:
        """
        How large the Secret would be in which Helm stores a release; the cluster is not asked.

        Args:
            release: The release.

        Returns:
            Bytes of its data: the chart's own files and what it renders, packed.

        Raises:
            RenderFailed: The chart does not render without the cluster.
            ChartNotFound: There is no such chart.

        Source: https://helm.sh/docs/topics/advanced/#storage-backends

        """
        command = self._command(f"weigh release {release.name}", self._settings.timeouts.template)
        arguments = ["install", release.name, release.chart.reference, "--dry-run=client", "--output", "json"]
        values = json.dumps(release.values).encode()
        written = await command.run([*arguments, "--values", "-", "--namespace", release.namespace], values)
        return await asyncio.to_thread(_packed_size, written)

    async def deploy(self, release: ReleaseSpec) -> int:
        """
        Install or upgrade a release, hooks included, without waiting for its workloads.

        Args:
            release: The release.

        Returns:
            Number of the new revision.

        Raises:
            Forbidden: The installer, a policy or the quota does not allow an object.
            Invalid: The API server refuses an object as it is.
            NotOwned: An object exists and belongs to somebody else.
            RenderFailed: The chart does not render.
            ChartNotFound: There is no such chart.
            Conflict: Another operation is in progress, or the release is in a state that needs recovery.
            Unavailable: The API server does not answer.
            HelmFailed: A hook failed, or anything else.
            HelmTimeout: It took too long.

        """
        labels = ",".join(f"{name}={value}" for name, value in sorted(release.labels.items()))
        command = self._command(
            f"deploy release {release.name}",
            max(self._settings.timeouts.install, self._settings.timeouts.upgrade),
            *_identity(service_account_user(release.namespace, release.installer)),
            *(("--labels", labels) if labels else ()),
            *await self._forcing(),
            *_DEPLOYING,
        )
        await self._be_sure()
        await command.install_or_upgrade(
            release.name,
            release.chart.reference,
            dict(release.values),
            create_namespace=False,
            namespace=release.namespace,
        )
        return _revision(command.stdout)

    async def rollback(self, name: str, namespace: str, revision: int, as_user: str) -> None:
        """
        Bring an earlier revision back, as a new one: the way out of ``pending-upgrade`` and ``pending-rollback``.

        It only unlocks the release for the next deployment, which runs its hooks; here they are left out, since one
        that hangs would leave the release pending once more.

        Args:
            name: Name of the release.
            namespace: Its namespace.
            revision: A revision that was deployed once.
            as_user: User that it is done as.

        Raises:
            Conflict: There is no such release or revision.
            EnvprovError: As for ``deploy``.

        """
        command = self._command(
            f"roll back release {name}",
            self._settings.timeouts.rollback,
            *_identity(as_user),
            *await self._forcing(),
        )
        await self._be_sure()
        await command.rollback(name, revision, namespace=namespace, no_hooks=True)

    async def uninstall(self, name: str, namespace: str, as_user: str, *, no_hooks: bool = False) -> None:
        """
        Delete a release, its objects and its history; that it is gone already is fine.

        Args:
            name: Name of the release.
            namespace: Its namespace.
            as_user: User that it is done as.
            no_hooks: Whether hooks that run before and after the deletion are left out.

        Raises:
            HelmFailed: An object could not be deleted, or a hook failed. It can be run again.
            EnvprovError: As for ``deploy``.

        """
        try:
            await self._uninstall(name, namespace, _identity(as_user), no_hooks=no_hooks)
        except HelmFailed as exc:
            if _SWALLOWED not in str(exc):
                raise
            # Helm keeps to itself why an object could not be deleted, unless it is asked for every step it takes.
            await self._uninstall(name, namespace, (*_identity(as_user), "--debug"), no_hooks=no_hooks)

    async def _uninstall(self, name: str, namespace: str, flags: Sequence[str], *, no_hooks: bool) -> None:
        command = self._command(f"uninstall release {name}", self._settings.timeouts.uninstall, *flags)
        await self._be_sure()
        try:
            await command.uninstall(name, namespace=namespace, no_hooks=no_hooks)
        except Conflict as exc:
            # Not --ignore-not-found, which calls it a success too when Helm may not even look (3.17 and 4.3).
            if _NOT_FOUND not in str(exc):
                raise

    async def _be_sure(self) -> None:
        if self._confirm is not None:
            await self._confirm()

    def _command(self, what: str, limit: timedelta, *flags: str) -> Command:
        return Command(self._settings, limit, what, flags)

    async def _forcing(self) -> tuple[str, ...]:
        if self._version is None:
            await self.version()
        return _FORCING if (self._version or OLDEST) >= _SERVER_SIDE_SINCE else ()


def service_account_user(namespace: str, name: str) -> str:
    """
    The user that a ServiceAccount is, for impersonation.

    The API server adds the groups that go with it.
    """
    return f"system:serviceaccount:{namespace}:{name}"


def _seen(setting: Setting) -> tuple[str, ...]:
    return (
        *(("--kube-version", setting.kube_version) if setting.kube_version else ()),
        *(("--api-versions", ",".join(sorted(setting.api_versions))) if setting.api_versions else ()),
        *(("--is-upgrade",) if setting.is_upgrade else ()),
        *(_LOOKING if setting.lookup_as is not None else ()),
        *(_identity(setting.lookup_as) if setting.lookup_as else ()),
    )


def _identity(user: str) -> tuple[str, str]:
    return ("--kube-as-user", user)


def _packed_size(output: bytes) -> int:
    stored = json.dumps(_release(output), separators=(",", ":"), ensure_ascii=False).encode()
    return len(base64.b64encode(gzip.compress(stored, 9)))


def _release(output: bytes) -> Any:  # noqa: ANN401 - JSON
    """A release as Helm tells it; what it warns of may stand before it."""
    return json.loads(output[output.index(b"{") :])


def _revision(output: bytes) -> int:
    return int(_release(output)["version"])
