"""A namespace with an installer, a chart with a hook that can be made to hang, and Helm."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from envprov.domain.release import DIGEST, REVISION, Release, ReleaseState, release_of
from envprov.releases.charts import Charts, LocalChart
from envprov.releases.command import HelmSettings, Timeouts
from envprov.releases.engine import Helm, ReleaseSpec, service_account_user
from tests.cluster import Cluster
from tests.eventually import eventually, eventually_async

INSTALLER = "installer"

TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
data: {values: {{ .Values | toJson | quote }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec: {containers: [{name: app, image: app}]}
{{- with .Values.hook }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: "{{ $.Release.Name }}-{{ . }}"
  annotations: {helm.sh/hook: "{{ . }}", helm.sh/hook-delete-policy: before-hook-creation}
spec:
  template:
    spec:
      restartPolicy: Never
      nodeSelector: {envprov.io/no-such-node: "true"}
      containers: [{name: hook, image: hook}]
{{- end }}
{{- range .Values.objects }}
---
{{ toYaml . }}
{{- end }}
"""


@dataclass(frozen=True)
class Workshop:
    """What a test works with."""

    cluster: Cluster
    settings: HelmSettings
    namespace: str
    chart: Path

    @property
    def helm(self) -> Helm:
        """Helm with these settings."""
        return Helm(self.settings)

    @property
    def user(self) -> str:
        """The installer as a user."""
        return service_account_user(self.namespace, INSTALLER)

    def with_settings(self, **changes: Any) -> Workshop:  # noqa: ANN401 - settings are of many types
        """Return the same with other Helm settings."""
        return replace(self, settings=replace(self.settings, **changes))

    async def spec(
        self, values: Mapping[str, Any], *, digest: str = "0123456789abcdef", commit: str = ""
    ) -> ReleaseSpec:
        """Return the release of the chart with these values."""
        chart = await Charts(self.chart.parent).resolve(LocalChart(self.chart.name))
        labels = {DIGEST: digest, REVISION: commit}
        return ReleaseSpec("shop", self.namespace, chart, values, INSTALLER, labels)

    def deploy(self, values: Mapping[str, Any], **more: str) -> int:
        """Deploy the release."""

        async def go() -> int:
            return await self.helm.deploy(await self.spec(values, **more))

        return asyncio.run(go())

    def objects(self, kind: str, *selector: str) -> list[dict[str, Any]]:
        """Return the objects of a kind in the namespace."""
        found: list[dict[str, Any]] = json.loads(
            self.cluster.kubectl("--namespace", self.namespace, "get", kind, "--output", "json", *selector)
        )["items"]
        return found

    def values(self) -> dict[str, Any]:
        """Return the values that the chart saw."""
        (found,) = self.objects("configmaps", "--field-selector", "metadata.name=shop")
        values: dict[str, Any] = json.loads(found["data"]["values"])
        return values

    def release(self) -> Release:
        """Return the release as its Secrets tell it."""
        return release_of("shop", [secret["metadata"] for secret in self.objects("secrets")])

    async def until(self, state: ReleaseState) -> None:
        """Return when the release is in a state."""

        async def fact() -> bool:
            return (await asyncio.to_thread(self.release)).state is state

        await eventually_async(fact, message=f"the release did not become {state.value}")

    def processes(self) -> dict[int, str]:
        """Return the command lines of every Helm that works on the namespace."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                except OSError:  # it ended meanwhile
                    continue
                if words[0] == self.settings.binary and self.namespace in words:
                    found[int(entry.name)] = " ".join(words)
        return found


@pytest.fixture
def workshop(cluster: Cluster, control_namespace: str, tmp_path: Path) -> Workshop:
    """Return a workshop whose installer may do what an admin of the namespace may."""
    chart = tmp_path / "charts" / "app"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: app\nversion: 0.1.0\n")
    (chart / "values.yaml").write_text("replicas: 1\ndefaulted: {from: chart}\n")
    (chart / "templates" / "all.yaml").write_text(TEMPLATE)
    within = ("--namespace", control_namespace)
    cluster.kubectl(*within, "create", "serviceaccount", INSTALLER)
    cluster.kubectl(
        *within,
        "create",
        "rolebinding",
        "installer",
        "--clusterrole=admin",
        f"--serviceaccount={control_namespace}:{INSTALLER}",
    )
    settings = HelmSettings(
        binary=str(cluster.binaries / "helm"),
        cache=tmp_path / "cache",
        kubeconfig=cluster.kubeconfig,
        timeouts=Timeouts(version=timedelta(seconds=60)),
    )
    made = Workshop(cluster, settings, control_namespace, chart)
    until_allowed(made, "create", "roles")
    return made


def until_allowed(workshop: Workshop, verb: str, resource: str) -> None:
    """Return when the installer may do something: a binding reaches the authorizer a little later."""
    eventually(lambda: _can(workshop, verb, resource), message=f"the installer may not {verb} {resource}")


def until_forbidden(workshop: Workshop) -> None:
    """Return when the installer's rights are gone."""
    eventually(lambda: not _can(workshop, "list", "secrets"), message="the installer still may list Secrets")


def _can(workshop: Workshop, verb: str, resource: str) -> bool:
    arguments = ("--namespace", workshop.namespace, "auth", "can-i", verb, resource, "--as", workshop.user)
    return workshop.cluster.kubectl(*arguments, check=False).startswith("yes")
