"""The kubeconfig that Helm reads: the user's own, or one for the pod we run in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from envprov.domain.errors import ConfigError
from envprov.kube.connection import Connection

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def find_kubeconfig(connection: Connection, environment: Mapping[str, str] = os.environ) -> Path | None:
    """
    The one kubeconfig file that a connection comes from.

    Args:
        connection: What the user said.
        environment: Variables of this process.

    Returns:
        None in a pod.

    Raises:
        ConfigError: ``$KUBECONFIG`` names several files, which Helm's one flag cannot.

    """
    if connection.kubeconfig is not None:
        return connection.kubeconfig
    named = environment.get("KUBECONFIG", "")
    if os.pathsep in named.strip(os.pathsep):
        raise ConfigError("$KUBECONFIG names several files; give one by --kubeconfig (`kubectl config view --flatten`)")
    if named.strip(os.pathsep):
        return Path(named.strip(os.pathsep))
    default = Path.home() / ".kube" / "config"
    return default if default.is_file() else None


def write_pod_kubeconfig(path: Path, environment: Mapping[str, str] = os.environ, account: Path = _ACCOUNT) -> Path:
    """
    Write a kubeconfig that names the pod's own token and certificate files.

    Helm would find its way in a pod without one, but ignores there whom it is told to impersonate.

    Args:
        path: Where it is written, for this user's eyes only. It holds no secret, but the name of one.
        environment: Variables of the pod.
        account: Folder that Kubernetes mounts the ServiceAccount into.

    Returns:
        *path*.

    Raises:
        ConfigError: We are in no pod.

    Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/

    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ConfigError("no kubeconfig was given, and this is no pod: KUBERNETES_SERVICE_HOST is not set")
    address = f"[{host}]" if ":" in host else host
    cluster = {"server": f"https://{address}:{port}", "certificate-authority": str(account / "ca.crt")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "pod", "cluster": cluster}],
        "users": [{"name": "pod", "user": {"tokenFile": str(account / "token")}}],
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod"}}],
        "current-context": "pod",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))
    return path
