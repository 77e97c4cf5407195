"""
Two Helm releases that share a ServiceAccount: how one of them takes it from the other, and that a hold prevents it.

With Helm 4 and with Helm 3, which differ in this; no envprov, but for its policies and a hold in the second half.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.guard.people import HELD

ACCOUNT = "sa/shared"
OWNER = "meta.helm.sh/release-name"

# A hook that lasts until somebody says that it is over stands for every hook that takes its time.
TEMPLATE = """
{{- if .Values.account }}
apiVersion: v1
kind: ServiceAccount
metadata: {name: shared}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
{{- if .Values.hook }}
---
apiVersion: v1
kind: Pod
metadata:
  name: "{{ .Release.Name }}-hook"
  annotations: {helm.sh/hook: pre-install, helm.sh/hook-delete-policy: hook-succeeded}
spec:
  schedulerName: nobody
  restartPolicy: Never
  containers: [{name: hook, image: registry.example.com/hook}]
{{- end }}
"""


@dataclass(frozen=True)
class Helm:
    """
    One version of Helm at work in a namespace.

    Attributes:
        major: 3 or 4.
        command: The program, and what every call of it says.

    """

    major: int
    command: Sequence[str]
    environment: Mapping[str, str]
    chart: Path
    cluster: Cluster
    namespace: str

    def __call__(self, *arguments: str, fails: bool = False) -> str:
        """Run Helm, which succeeds or fails as is said; returns what it said."""
        with self.start(*arguments) as process:
            said = process.communicate()[0]
        assert (process.returncode != 0) is fails, said
        return said

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Helm, with all that it says in one stream."""
        return subprocess.Popen(
            [*self.command, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def install(self, release: str, *arguments: str) -> list[str]:
        """Return the arguments that install a release of the chart."""
        return ["install", release, str(self.chart), *arguments]

    def states(self) -> dict[str, str]:
        """Return the state of each release, by name; of a release in no final state too."""
        listed = json.loads(self(*("list", "-o", "json"), *(("--all",) if self.major == 3 else ())))
        return {one["name"]: one["status"] for one in listed}

    def account(self) -> dict[str, Any] | None:
        """Return the metadata of the shared ServiceAccount, if it is there."""
        found = self.kubectl("get", ACCOUNT, "-o", "json", "--ignore-not-found")
        metadata: dict[str, Any] | None = json.loads(found)["metadata"] if found else None
        return metadata

    def owner(self) -> str:
        """Return the release to which the shared ServiceAccount says that it belongs."""
        account = self.account()
        assert account
        return str(account["annotations"][OWNER])

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments)


@pytest.fixture(params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest, cluster: Cluster, control_namespace: str, tmp_path: Path) -> Helm:
    """Return Helm 4, then Helm 3."""
    program: str = request.param
    given = {"KUBEBUILDER_ASSETS", "ENVPROV_TEST_KUBECONFIG"} & {name for name, value in os.environ.items() if value}
    if program == "helm3" and given and not (cluster.binaries / program).exists():
        pytest.skip(f"{cluster.binaries}, a folder of one's own, has no helm3")
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: app\nversion: 1.0.0\n")
    (chart / "values.yaml").write_text("account: true\nhook: false\n")
    (chart / "templates" / "all.yaml").write_text(TEMPLATE)
    # Nothing of a person's own settings and plugins, but where the system is.
    own = {f"HELM_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | own
    command = [str(cluster.binaries / program), "--kubeconfig", str(cluster.kubeconfig), "-n", control_namespace]
    return Helm(3 if program == "helm3" else 4, command, environment, chart, cluster, control_namespace)


def only(major: int) -> pytest.MarkDecorator:
    """Give a test one version of Helm."""
    return pytest.mark.parametrize("helm", ["helm3" if major == 3 else "helm"], indirect=True)


# --- How it is lost


def test_the_second_of_two_releases_is_refused(helm: Helm) -> None:
    helm(*helm.install("first"))
    said = helm(*helm.install("second"), fails=True)
    assert f'key "{OWNER}" must equal "second": current value is "first"' in said
    assert helm.owner() == "first"


@only(3)
def test_a_release_deletes_the_account_that_another_has_taken(helm: Helm) -> None:
    take(helm)
    helm("uninstall", "first")
    assert helm.account() is None
    assert helm.states() == {"second": "deployed"}


@only(4)
def test_a_release_of_helm_4_leaves_the_account_that_another_has_taken(helm: Helm) -> None:
    take(helm)
    said = helm("uninstall", "first")
    assert "not owned by this release:\n[ServiceAccount] shared" in said
    assert helm.owner() == "second"
    assert helm.states() == {"second": "deployed"}


def test_a_release_deletes_the_account_that_it_has_taken_from_another(helm: Helm) -> None:
    take(helm)
    helm("uninstall", "second")
    assert helm.account() is None
    assert helm.states() == {"first": "deployed"}


def test_a_release_that_needs_the_account_no_more_deletes_it_though_another_has_taken_it(helm: Helm) -> None:
    take(helm)
    helm("upgrade", "first", str(helm.chart), "--set", "account=false")
    assert helm.account() is None
    assert helm.states() == {"first": "deployed", "second": "deployed"}


@only(4)
def test_two_installs_at_once_both_have_the_account_and_one_deletes_it_under_the_other(helm: Helm) -> None:
    assert install_both(helm) == {"first": "", "second": ""}
    loser, winner = sorted(helm.states(), key=lambda name: name == helm.owner())
    helm("uninstall", winner)
    assert helm.account() is None
    assert helm.states() == {loser: "deployed"}


@only(3)
def test_of_two_installs_at_once_with_helm_3_one_fails(helm: Helm) -> None:
    said = install_both(helm)
    winner, loser = sorted(said, key=lambda name: said[name] != "")
    assert said[winner] == ""
    assert 'serviceaccounts "shared" already exists' in said[loser]
    assert helm.owner() == winner
    assert helm.states() == {winner: "deployed", loser: "failed"}


@only(3)
def test_the_failed_one_of_two_installs_deletes_the_account_when_it_is_cleaned_up(helm: Helm) -> None:
    said = install_both(helm)
    winner, loser = sorted(said, key=lambda name: said[name] != "")
    helm("uninstall", loser)
    assert helm.account() is None
    assert helm.states() == {winner: "deployed"}


# --- How it is kept


@pytest.mark.usefixtures("guarded")
def test_a_held_account_survives_and_the_uninstall_finishes_when_it_is_released(helm: Helm) -> None:
    if helm.major == 3:
        take(helm)
        leaving, staying = "first", "second"
    else:
        install_both(helm)
        staying, leaving = sorted(helm.states(), key=lambda name: name == helm.owner())
    uid = (helm.account() or {})["uid"]
    helm.kubectl("annotate", ACCOUNT, *(f"{key}={value}" for key, value in HELD.items()))

    said = helm("uninstall", leaving, fails=True)
    # The reason is in the API server's answer, and Helm keeps it to itself.
    assert said.strip().endswith(f"failed to delete release: {leaving}")
    kept = helm.account()
    assert kept is not None
    assert kept["uid"] == uid
    assert "deletionTimestamp" not in kept
    assert helm.kubectl("get", f"cm/{leaving}", "--ignore-not-found") == ""
    assert helm.states() == {leaving: "uninstalling", staying: "deployed"}
    # There is only one way on.
    assert re.search("cannot re-?use a name that is still in use", helm(*helm.install(leaving), fails=True))
    assert "has no deployed releases" in helm("upgrade", "--install", leaving, str(helm.chart), fails=True)
    helm("uninstall", leaving, fails=True)

    helm.kubectl("annotate", ACCOUNT, *(f"{key}-" for key in HELD))
    helm("uninstall", leaving)
    assert helm.states() == {staying: "deployed"}
    assert helm.account() is None


# --- What happens


def take(helm: Helm) -> None:
    """Install two releases, the second of which takes the account from the first."""
    helm(*helm.install("first"))
    helm(*helm.install("second", "--take-ownership"))
    assert helm.owner() == "second"


def install_both(helm: Helm) -> dict[str, str]:
    """
    Install two releases at once.

    Helm looks whether objects belong to others, then runs the hooks, then creates the objects. Here both have looked
    before either creates.

    Returns:
        What each of them said if it failed, by name.

    """
    names = ("first", "second")
    started = {name: helm.start(*helm.install(name, "--set", "hook=true")) for name in names}
    try:
        for name in names:
            get = ("get", f"pod/{name}-hook")
            eventually(lambda get=get: helm.kubectl(*get), message=f"{name} runs no hook")  # type: ignore[misc]
        for name in names:
            done = ("--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Succeeded"}}')
            helm.kubectl("patch", "pod", f"{name}-hook", *done)
        said = {name: process.communicate(timeout=60)[0] for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    return {name: said[name] if started[name].returncode else "" for name in names}
