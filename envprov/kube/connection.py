"""
Which cluster to talk to, and as whom: a kubeconfig and its context, or the ServiceAccount of the pod we run in.

Loading is the library's; finding, checking and saying what is wrong is ours, in kubectl's order of precedence.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from envprov.domain.errors import ConfigError
from envprov.files import parse_yaml, read_bytes

SIZE_LIMIT_BYTES = 16 << 20
"""Of a kubeconfig; one with certificates of hundreds of clusters has a few megabytes."""
SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Connection:
    """
    What a user says about the cluster.

    Attributes:
        kubeconfig: File; None means ``$KUBECONFIG``, then ``~/.kube/config``, then the pod's own account.
        context: Name of a context in it; None means its current one.

    """

    kubeconfig: Path | None = None
    context: str | None = None


@dataclass(frozen=True)
class Access:
    """
    A cluster that was found.

    Attributes:
        configuration: Server, certificates and credentials for the library's client.
        namespace: The context's or the pod's namespace, ``default`` if neither names one.
        source: Where it was found, for messages.
        reread: Loads the credentials again, into the same configuration.
        reread_often: Whether the credentials are known to change: a token file or an exec plugin.

    """

    configuration: Configuration
    namespace: str
    source: str
    reread: Callable[[], Awaitable[None]]
    reread_often: bool


async def find_access(connection: Connection) -> Access:
    """
    Find and load the way to a cluster. Nothing is asked of the cluster yet.

    Args:
        connection: What the user said.

    Raises:
        ConfigError: A file, its YAML, its context, its certificates or its exec plugin; or, when nothing was found,
            everything that was tried.

    """
    files, tried = _kubeconfigs(connection)
    if files:
        return await _from_kubeconfig(files, connection.context)
    if connection.context is not None:
        raise ConfigError(f"context {connection.context}: no kubeconfig to look it up in; tried {', '.join(tried)}")
    return _from_pod(tried)


def _kubeconfigs(connection: Connection) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Files to read, the first to set a value wins; and the places that have been tried in vain."""
    if connection.kubeconfig is not None:
        path = connection.kubeconfig.expanduser()
        if not path.exists():
            raise ConfigError(f"kubeconfig {path}: no such file")
        return (path,), ()
    named = [Path(part).expanduser() for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        files = tuple(path for path in named if path.exists())
        if not files:
            raise ConfigError(f"$KUBECONFIG names no file that exists: {', '.join(map(str, named))}")
        return files, ()
    usual = Path("~/.kube/config").expanduser()
    return ((usual,), ()) if usual.exists() else ((), ("$KUBECONFIG (not set)", f"{usual} (no such file)"))


async def _from_kubeconfig(files: tuple[Path, ...], context: str | None) -> Access:
    source = ", ".join(map(str, files))
    documents = [_read(path) for path in files]
    # The library lets the last file set the current context; kubectl lets the first.
    current = next((name for document in documents if (name := document.get("current-context"))), None)
    name = context or current
    if not name:
        raise ConfigError(f"kubeconfig {source}: has no current-context; give one with --context")
    settings = _named(documents, "contexts", name, source).get("context") or {}
    user = _named(documents, "users", settings.get("user"), source).get("user") or {}
    _named(documents, "clusters", settings.get("cluster"), source)
    configuration = Configuration()
    paths = os.pathsep.join(map(str, files))

    async def load(into: Configuration) -> None:
        try:
            # A person's own kubeconfig is never written.
            await load_kube_config(  # type: ignore[no-untyped-call]
                paths, name, client_configuration=into, persist_config=False
            )
        except (ConfigException, ValueError, TypeError, KeyError, OSError) as error:
            raise ConfigError(f"kubeconfig {source}, context {name}: {error}") from None
        # A token file may end its line; a header must not.
        into.api_key = {scheme: value.strip() for scheme, value in into.api_key.items()}

    async def reread() -> None:
        fresh = Configuration()
        await load(fresh)
        configuration.api_key = fresh.api_key

    await load(configuration)
    if "exec" in user and not configuration.api_key and not configuration.cert_file:
        command = user["exec"].get("command") if isinstance(user["exec"], dict) else None
        raise ConfigError(f"kubeconfig {source}, context {name}: its plugin {command} gave no credentials; run it once")
    return Access(
        configuration,
        str(settings.get("namespace") or "default"),
        f"kubeconfig {source}, context {name}",
        reread,
        reread_often="exec" in user or "tokenFile" in user,
    )


def _from_pod(tried: tuple[str, ...]) -> Access:
    configuration = Configuration()

    async def reread() -> None:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]

    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        places = ", ".join((*tried, f"the pod's own account ({str(error).rstrip('.')})"))
        raise ConfigError(f"no cluster to talk to: give --kubeconfig; tried {places}") from None
    try:
        namespace = SERVICE_ACCOUNT_NAMESPACE.read_text().strip()
    except OSError:
        namespace = ""
    # The library's own hook reads this token again once a minute.
    return Access(configuration, namespace or "default", "the pod's own account", reread, reread_often=False)


def _read(path: Path) -> Object:
    called = f"kubeconfig {path}"
    document = parse_yaml(read_bytes(path, SIZE_LIMIT_BYTES, called), called)
    if not isinstance(document, dict):
        raise ConfigError(f"kubeconfig {path}: is not a kubeconfig (no fields at its top)")
    return document


def _named(documents: list[Object], section: str, name: object, source: str) -> Object:
    entries = [entry for document in documents for entry in document.get(section) or () if isinstance(entry, dict)]
    found = next((entry for entry in entries if entry.get("name") == name), None)
    if found is None:
        names = ", ".join(sorted(str(entry.get("name")) for entry in entries)) or "none"
        raise ConfigError(f"kubeconfig {source}: no {section[:-1]} {name!r}; it has: {names}")
    return found
