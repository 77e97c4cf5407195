"""Fixtures for tests that need a cluster of their own, or two API servers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.eventually import eventually
from tests.ports import quiet_port


@pytest.fixture(scope="module")
def lonely(own_cluster: Cluster) -> Cluster:
    """Return a cluster of this module's own, to do what would disturb others."""
    return own_cluster


@pytest.fixture(scope="module")
def twin(lonely: Cluster) -> Iterator[Cluster]:
    """Yield the same cluster through a second API server on the same etcd; it ends with the cluster at the latest."""
    folder = lonely.kubeconfig.parent
    pid = (folder / "pids" / "kube-apiserver.pid").read_text().strip()
    command, environment = (
        (Path("/proc") / pid / part).read_text().strip("\0").split("\0") for part in ("cmdline", "environ")
    )
    port = quiet_port()
    own = {"--secure-port": str(port), "--audit-log-path": str(folder / "logs" / "audit-2.log")}
    arguments = [f"{name}={own.get(name, value)}" for name, _, value in (one.partition("=") for one in command[1:])]
    kubeconfig = folder / "kubeconfig-2"
    kubeconfig.write_text(re.sub(r"(server: https://127\.0\.0\.1):\d+", rf"\1:{port}", lonely.kubeconfig.read_text()))
    kubeconfig.chmod(0o600)
    second = replace(lonely, kubeconfig=kubeconfig, audit_log=None)
    with (folder / "logs" / "kube-apiserver-2.log").open("wb") as log:
        process = subprocess.Popen(
            [command[0], *arguments],
            env=dict(one.partition("=")[::2] for one in environment),
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: second.kubectl("get", "--raw", "/readyz") == "ok", message="no second API server")
        yield second
    finally:
        process.terminate()
        process.wait()
