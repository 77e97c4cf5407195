"""pyhelm3's command builder on a runner of our own: no shell, limits, a private environment, our errors."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pyhelm3

from envprov.domain.errors import ConfigError, HelmFailed, HelmTimeout
from envprov.releases.errors import error_of
from envprov.releases.process import Limits, OutputTooLarge, run

MARGIN = timedelta(seconds=10)
"""What Helm's own time limit is at most shorter by, so that Helm can say what it waited for."""

_INHERITED = frozenset(
    {
        "PATH",
        "LANG",
        "TZ",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "KUBERNETES_SERVICE_HOST",  # these two tell Helm in a pod where the API server is
        "KUBERNETES_SERVICE_PORT",
    }
)


@dataclass(frozen=True)
class Timeouts:
    """How long each operation may take, hooks included. For a deployment the longer of install and upgrade holds."""

    install: timedelta = timedelta(minutes=5)
    upgrade: timedelta = timedelta(minutes=5)
    rollback: timedelta = timedelta(minutes=5)
    uninstall: timedelta = timedelta(minutes=5)
    template: timedelta = timedelta(minutes=1)
    version: timedelta = timedelta(seconds=10)


@dataclass(frozen=True)
class HelmSettings:
    """
    How Helm is run.

    Attributes:
        binary: Name on PATH, or path.
        cache: Folder of our own for Helm's home, discovery cache and charts; made when it is missing.
        kubeconfig: File that Helm reads; None in a pod.
        context: Context of the kubeconfig; None for its current one.
        timeouts: Time limits.
        grace: How long Helm may take to end after SIGTERM.
        history_max: Revisions that Helm keeps of a release.
        registry_config: File with credentials of OCI registries, as ``helm registry login`` writes it.
        environment: Variables that a credential plugin of the kubeconfig needs; nothing else of ours is inherited.

    """

    binary: str
    cache: Path
    kubeconfig: Path | None = None
    context: str | None = None
    timeouts: Timeouts = Timeouts()
    grace: timedelta = timedelta(seconds=30)
    history_max: int = 5
    registry_config: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Command(pyhelm3.Command):
    """
    One Helm operation.

    Args:
        settings: How Helm is run.
        limit: Time limit of this operation.
        what: What is done, for messages: ``deploy release shop``.
        flags: What is added to the arguments that pyhelm3 builds.

    """

    def __init__(self, settings: HelmSettings, limit: timedelta, what: str, flags: Sequence[str] = ()) -> None:
        super().__init__(
            executable=settings.binary,
            default_timeout=f"{_own_limit(limit).total_seconds():g}s",
            history_max_revisions=settings.history_max,
            kubeconfig=settings.kubeconfig,
            kubecontext=settings.context,
        )
        self.stdout = b""
        """What Helm wrote last."""
        self._settings = settings
        self._limit = limit
        self._what = what
        self._flags = tuple(flags)

    async def run(self, command: Sequence[object], input: bytes | None = None) -> bytes:  # noqa: A002 - pyhelm3's name
        """
        Run Helm; replaces pyhelm3's runner, which starts a shell and logs the arguments.

        Args:
            command: Arguments that pyhelm3 built.
            input: Values, on standard input and never among the arguments.

        Returns:
            What Helm wrote to standard output.

        Raises:
            EnvprovError: What went wrong, by cause.

        """
        settings = self._settings
        argv = [settings.binary, *(str(part) for part in command), *self._flags]
        if settings.kubeconfig is not None:
            argv += ["--kubeconfig", str(settings.kubeconfig)]
        if settings.context is not None:
            argv += ["--kube-context", settings.context]
        try:
            ended = await run(argv, _readable(input), _environment(settings), Limits(self._limit, settings.grace))
        except TimeoutError as exc:
            seconds = self._limit.total_seconds()
            raise HelmTimeout(f"Helm did not {self._what} within {seconds:g} s and was stopped") from exc
        except OutputTooLarge as exc:
            raise HelmFailed(f"Helm was stopped when it was to {self._what}: it wrote {exc}") from exc
        except OSError as exc:
            raise ConfigError(
                f"The Helm binary {settings.binary!r} cannot be run: {exc.strerror}; install Helm 4 (or 3.17 or later) "
                "and name it in the setting helm.binary"
            ) from exc
        if ended.code < 0:
            raise HelmFailed(
                f"Helm was ended by somebody else ({_signal_name(-ended.code)}) when it was to {self._what}"
            )
        if ended.code != 0:
            raise error_of(ended.stderr.decode(errors="replace"))
        self.stdout = ended.stdout
        return ended.stdout


def _readable(values: bytes | None) -> bytes:
    """Helm reads values as YAML, which knows no surrogate pairs: the library escapes an emoji as one."""
    return json.dumps(json.loads(values), ensure_ascii=False).encode() if values else b""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _own_limit(limit: timedelta) -> timedelta:
    return max(limit - MARGIN, limit * 0.9)


def _environment(settings: HelmSettings) -> dict[str, str]:
    """All that Helm sees: no plugin, repository or secret of whoever started us, and one discovery cache for all."""
    home = settings.cache
    inherited = {name: value for name, value in os.environ.items() if name in _INHERITED}
    return {
        **inherited,
        **settings.environment,
        "HOME": str(home),
        "HELM_CACHE_HOME": str(home / "cache"),
        "HELM_CONFIG_HOME": str(home / "config"),
        "HELM_DATA_HOME": str(home / "data"),
        "HELM_PLUGINS": str(home / "plugins"),
        "HELM_REGISTRY_CONFIG": str(settings.registry_config or home / "config" / "registry.json"),
        "KUBECACHEDIR": str(home / "discovery"),
        "GOGC": "400",  # a process of 0.1 s is over before collecting pays: 10 % of its CPU for 5 MB
    }
