"""``envprov`` as a person calls it, and the objects that a controller would write meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envprov.domain.names import slug
from tests.cluster import Cluster
from tests.integration.cli import warm

ENVPROV = Path(sys.executable).parent / "envprov"
ROOT = Path(__file__).parents[3]
MOMENT = "2026-01-01T00:00:00Z"

Ended = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Cli:
    """
    A person at a terminal, in a folder of their own.

    Attributes:
        cluster: Where.
        namespace: The control namespace.
        folder: The current folder; also the home of the person.
        kubeconfig: Who the person is.
        variables: Further variables of the person's shell.
        started: What was started, to be ended with the test.

    """

    cluster: Cluster
    namespace: str
    folder: Path
    kubeconfig: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list, repr=False)

    def call(self, *arguments: str, folder: Path | None = None) -> Ended:
        """Call envprov, and wait for its end."""
        arguments = tuple(self.command(*arguments)[1:])
        return warm.call(ENVPROV, arguments, folder or self.folder, self.environment())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Call envprov, and let it run."""
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what was started and still runs."""
        for process in self.started:
            process.kill()
            process.communicate()

    def command(self, *arguments: str) -> list[str]:
        """Return the command with who calls it and where."""
        return [str(ENVPROV), *arguments, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace]

    def environment(self) -> dict[str, str]:
        """Return the variables of the person's shell; those of who runs the tests are not among them."""
        path = f"{self.cluster.binaries}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", **self.variables}

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Apply manifests as the administrator."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))

    def project(self, name: str = "shop", **spec: Any) -> None:  # noqa: ANN401 - any field of a Project
        """Write a Project."""
        given = {"chart": {"git": {}}, "gitlab": {"project": f"group/{name}"}} | spec
        self.apply(self._object("envprov.io/v1alpha1", "Project", name) | {"spec": given})

    def record(self, branch: str, project: str = "shop", **spec: Any) -> str:  # noqa: ANN401 - any field of the spec
        """Write an Environment as a delivery would; return its name."""
        name = slug(project, branch)
        given = {"project": project, "branch": branch} | spec
        self.apply(self._object("envprov.io/v1alpha1", "Environment", name) | {"spec": given})
        return name

    def report(self, name: str, *conditions: Mapping[str, Any], **status: Any) -> None:  # noqa: ANN401 - any field
        """Write the status of an Environment as a controller would."""
        body = {"status": {"conditions": list(conditions)} | status}
        self.cluster.kubectl(
            *(
                "patch",
                "env",
                name,
                "-n",
                self.namespace,
                "--subresource=status",
                "--type=merge",
                "-p",
                json.dumps(body),
            )
        )

    def lease(self, *, renewed: datetime | None = None, seconds: int = 3600) -> None:
        """Write the Lease of a controller."""
        moment = (renewed or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": "pod-1", "leaseDurationSeconds": seconds, "renewTime": moment}
        self.apply(self._object("coordination.k8s.io/v1", "Lease", "envprov-controller") | {"spec": spec})

    def get(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Return all objects of a kind in the control namespace."""
        found = self.cluster.kubectl("get", kind, "-n", self.namespace, "-o", "json", *arguments)
        items: list[dict[str, Any]] = json.loads(found)["items"]
        return items

    def _object(self, api_version: str, kind: str, name: str) -> dict[str, Any]:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": self.namespace}}


def condition(kind: str, status: str, reason: str, message: str = "", generation: int = 1) -> dict[str, Any]:
    """Return a condition as a controller reports it."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": MOMENT,
    }
