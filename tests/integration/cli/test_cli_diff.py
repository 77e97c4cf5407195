"""``diff`` against a real API server and real releases of Helm: what was changed by hand, and by whom."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.changes import Changes, between
from envprov.domain.names import namespace_of, slug
from envprov.releases.manifests import parse
from envprov.releases.stored import decode_objects
from tests.integration.cli.calling import ROOT, Cli, Ended, condition
from tests.shipped import Installation

CANARY = "canary-of-a-secret"
EXTRA: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"password": CANARY, "a": "b"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"app.conf": "a=1\nb=2\n"}},
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web"},
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    },
]
RESOURCES = {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"memory": "2048Mi"}}


@dataclass(frozen=True)
class Deployed:
    """
    An environment as a controller leaves it: a record, a namespace and a release.

    Attributes:
        cli: Who looks at it.
        branch: Its branch.
        helm: The Helm that deployed it.

    """

    cli: Cli
    branch: str
    helm: str = "helm"

    @property
    def release(self) -> str:
        """Name of the release."""
        return slug("shop", self.branch)

    @property
    def namespace(self) -> str:
        """The environment's namespace."""
        return namespace_of(self.release)

    def kubectl(self, *arguments: str) -> str:
        """Change something by hand."""
        return self.cli.cluster.kubectl(*arguments, "-n", self.namespace)

    def deploy(self, *arguments: str, **values: Any) -> None:  # noqa: ANN401 - any value
        """Install or upgrade the release."""
        given = self.cli.folder / "values.yaml"
        given.write_text(yaml.safe_dump({"extra": EXTRA, "resources": RESOURCES} | values))
        chart = str(ROOT / "tests/charts/app")
        self.run_helm("upgrade", "--install", self.release, chart, "-f", str(given), *arguments)

    def run_helm(self, *arguments: str) -> bytes:
        """Run Helm in the environment's namespace; return what it printed."""
        program = [str(self.cli.cluster.binaries / self.helm), "--kubeconfig", str(self.cli.cluster.kubeconfig)]
        command = [*program, "-n", self.namespace, *arguments]
        return subprocess.run(command, check=True, capture_output=True, env=self.cli.environment()).stdout

    def diff(self, *arguments: str) -> Ended:
        """Ask for the difference."""
        return self.cli.call("diff", self.branch, "--project", "shop", *arguments)

    def objects(self) -> dict[str, dict[str, Any]]:
        """Return what differs or could not be read, as a program reads it, by kind and name."""
        told = json.loads(self.diff("-o", "json").stdout)["objects"]
        return {f"{item['kind']}/{item['name']}": item for item in told if item["state"] != "same"}


@pytest.fixture
def deploy(cli: Cli) -> Iterator[Callable[..., Deployed]]:
    """Yield a maker of environments."""
    made: list[Deployed] = []

    def make(helm: str = "helm", **values: Any) -> Deployed:  # noqa: ANN401 - any value
        # The namespace of an environment has a name of the whole cluster, the control namespace only one of this test.
        there = Deployed(cli, f"feature/{cli.namespace}", helm)
        made.append(there)
        cli.record(there.branch)
        cli.cluster.kubectl("create", "namespace", there.namespace)
        there.deploy(**values)
        return there

    yield make
    for there in made:
        cli.cluster.discard(there.namespace)


def test_what_was_changed_by_hand_is_told_with_who_did_until_it_is_repaired(deploy: Callable[..., Deployed]) -> None:
    there = deploy()
    there.kubectl("scale", "deployment/web", "--replicas=3")
    there.kubectl("set", "env", "deployment/web", "MODE=debug")
    there.kubectl("set", "image", "deployment/web", "web=registry.example.com/web:2")
    there.kubectl("annotate", "deployment/web", "note=mine", "message=changed", "--overwrite")
    there.kubectl("delete", "service/web")
    patch = json.dumps({"data": {"app.conf": "a=1\nb=3\n"}})
    there.kubectl("patch", "configmap/settings", "--type=merge", "-p", patch)

    told = there.diff()
    assert told.returncode == 0
    shown = re.sub(r"\d+s ago|, not recorded when", "WHEN", told.stdout)
    container = "spec.template.spec.containers[name=web]"
    image, changed = "registry.example.com/web:1", "registry.example.com/web:2"
    assert shown.splitlines() == [
        "ConfigMap settings",
        '  data["app.conf"]: lines differ, - in the release, + live; by kubectl patch (kubectl-patch, Update) WHEN',
        "    @@ -1,2 +1,2 @@",
        "     a=1",
        "    -b=2",
        "    +b=3",
        "Deployment web",
        (
            "  metadata.annotations.message: hello in the release, changed live; "
            "by kubectl annotate (kubectl-annotate, Update) WHEN"
        ),
        "  spec.replicas: 1 in the release, 3 live; by kubectl scale (kubectl, Update, scale)WHEN",
        f"  {container}.image: {image} in the release, {changed} live; by kubectl set (kubectl-set, Update) WHEN",
        "  metadata.annotations.note: added mine; by kubectl annotate (kubectl-annotate, Update) WHEN",
        f'  {container}.env: added [{{"name": "MODE", "value": "debug"}}]; by kubectl set (kubectl-set, Update) WHEN',
        "Service web is missing: it is in the release and not in the cluster",
    ]
    assert f"3 of 5 objects differ from revision 1 of release {there.release}" in told.stderr
    named = there.diff("-o", "name", "--exit-code")
    assert named.returncode == 1
    assert named.stdout.splitlines() == ["configmap/settings", "deployment.apps/web", "service/web"]

    there.run_helm("rollback", there.release, "1", "--force-conflicts")
    there.kubectl("annotate", "deployment/web", "note-")
    there.kubectl("set", "env", "deployment/web", "MODE-")
    repaired = there.diff("--exit-code")
    assert (repaired.returncode, repaired.stdout) == (0, "")
    assert "no difference from revision 2" in repaired.stderr


def test_helm_3_leaves_other_marks_and_the_same_differences(deploy: Callable[..., Deployed]) -> None:
    there = deploy("helm3")
    assert there.diff().stdout == ""
    there.kubectl("set", "env", "deployment/web", "MODE=debug")
    there.kubectl("scale", "deployment/web", "--replicas=3")
    fields = there.objects()["Deployment/web"]["fields"]
    assert [(field["path"], field["edit"], field["by"]["name"]) for field in fields] == [
        ("spec.replicas", "changed", "kubectl scale"),
        ("spec.template.spec.containers[name=web].env", "added", "kubectl set"),
    ]


def test_a_secret_is_never_shown(deploy: Callable[..., Deployed]) -> None:
    there = deploy()
    data = {"password": "Y2FuYXJ5LXR3bw==", "new": "Y2FuYXJ5LTM="}
    there.kubectl("patch", "secret/login", "--type=merge", "-p", json.dumps({"data": data}))
    fields = there.objects()["Secret/login"]["fields"]
    assert [(field["path"], field["edit"], field.get("before"), field.get("after")) for field in fields] == [
        ("data.password", "changed", "***", "***"),
        ("data.new", "added", None, "***"),
    ]
    assert {field["by"]["manager"] for field in fields} == {"kubectl-patch"}
    for arguments in (("-o", "wide", "--debug"), ("-o", "yaml")):
        said = there.diff(*arguments)
        shown = said.stdout + said.stderr
        assert not [part for part in ("canary", "Y2FuYXJ5") if part in shown.replace(there.release, "")], arguments


def test_replicas_of_an_autoscaler_are_no_difference(deploy: Callable[..., Deployed]) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "by-load"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": target},
    }
    there = deploy()
    there.cli.cluster.kubectl("apply", "-n", there.namespace, "-f", "-", input=json.dumps(autoscaler))
    there.kubectl("scale", "deployment/web", "--replicas=4")
    told = there.diff("--exit-code", "-o", "wide")
    assert told.returncode == 0
    assert (
        "spec.replicas: 1 in the release, 4 live; HorizontalPodAutoscaler by-load decides: no difference" in told.stdout
    )
    assert "no difference from revision 1" in told.stderr


def test_the_stored_release_is_what_the_chart_renders(deploy: Callable[..., Deployed]) -> None:
    hook = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "before", "annotations": {"helm.sh/hook": "pre-install,pre-upgrade"}},
    }
    there = deploy(extra=[*EXTRA, hook])
    secret = json.loads(there.kubectl("get", "secret", f"sh.helm.release.v1.{there.release}.v1", "-o", "json"))
    stored = decode_objects(secret)
    before = (*stored.objects, *stored.hooks)

    def rendered(*arguments: str) -> Changes:
        values = str(there.cli.folder / "values.yaml")
        output = there.run_helm("template", there.release, str(ROOT / "tests/charts/app"), "-f", values, *arguments)
        return between(before, parse(output), there.namespace)

    assert (list(rendered().items), rendered().unchanged) == ([], 6)
    assert list(rendered("--set", "message=new").rows()) == [
        ("changed", "Deployment web", "metadata.annotations.message: hello -> new"),
        ("changed", "Deployment web", "spec.template.metadata.annotations.message: hello -> new"),
    ]


def test_an_object_of_another_release_is_told(deploy: Callable[..., Deployed]) -> None:
    there = deploy()
    there.kubectl("annotate", "configmap/settings", "meta.helm.sh/release-name=other", "--overwrite")
    there.kubectl("delete", "secret/login")
    there.kubectl("create", "secret", "generic", "login")
    told = there.diff().stdout
    whose = f"is not of this release: it belongs to release other of namespace {there.namespace}"
    assert f"ConfigMap settings {whose}" in told
    assert "Secret login is not of this release: it bears no mark of Helm" in told


def test_a_newer_revision_that_failed_is_told(deploy: Callable[..., Deployed]) -> None:
    there = deploy()
    broken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "broken"}, "spec": {"ports": []}}
    with pytest.raises(subprocess.CalledProcessError):
        there.deploy(extra=[*EXTRA, broken], replicas=2)
    told = there.diff()
    assert "note: revision 2 is failed; compared is revision 1, the last one that was deployed" in told.stderr


def test_what_may_not_be_read_is_said_and_not_missing(deploy: Callable[..., Deployed], tmp_path: Path) -> None:
    there = deploy()
    there.cli.report(there.release, condition("Ready", "True", "Ready"), release={"name": there.release, "revision": 1})
    there.kubectl("scale", "deployment/web", "--replicas=2")
    person = someone(there, tmp_path, "secrets", "deployments.apps")
    told = replace(there, cli=person).diff()
    assert told.returncode == 1
    assert re.fullmatch(r"Deployment web\n  spec\.replicas: 1 in the release, 2 live; .*\n", told.stdout)
    assert re.search(
        r"^error: Service web could not be read, so nothing is known of it: .* forbidden", told.stderr, re.MULTILINE
    )
    assert "Deployment" not in told.stderr
    assert "note: replicas that differ may be the task of a HorizontalPodAutoscaler: " in told.stderr
    assert "1 of 5 objects differ from revision 1" in told.stderr
    assert "3 could not be read" in told.stderr


def test_without_the_right_to_secrets_the_way_out_is_said(deploy: Callable[..., Deployed], tmp_path: Path) -> None:
    there = deploy()
    told = replace(there, cli=someone(there, tmp_path, "deployments.apps")).diff()
    assert (told.returncode, told.stdout) == (4, "")
    assert f"the right to get secrets in namespace {there.namespace}" in told.stderr
    assert "ask whoever looks after Project shop" in told.stderr


def someone(there: Deployed, folder: Path, *resources: str) -> Cli:
    """Return a person who may get some kinds of objects in an environment, and see the record."""
    cluster, name = there.cli.cluster, "someone"
    given = f"--serviceaccount={there.cli.namespace}:{name}"
    listed = [f"--resource={resource}" for resource in resources]
    records = ["--resource=environments.envprov.io", "--resource=projects.envprov.io"]
    cluster.kubectl("create", "serviceaccount", name, "-n", there.cli.namespace)
    for namespace, verbs, kinds in ((there.namespace, "get", listed), (there.cli.namespace, "get,list", records)):
        cluster.kubectl("create", "role", name, "-n", namespace, f"--verb={verbs}", *kinds)
        cluster.kubectl("create", "rolebinding", name, "-n", namespace, f"--role={name}", given)
    kubeconfig = Installation(cluster, there.cli.namespace, folder).kubeconfig(name)
    return replace(there.cli, kubeconfig=kubeconfig)


def test_what_cannot_be_compared_is_said(cli: Cli) -> None:
    def refused(branch: str) -> str:
        ended = cli.call("diff", branch, "--project", "shop")
        assert (ended.returncode, ended.stdout) == (1, "")
        return ended.stderr

    new = cli.record("new")
    cli.report(new, condition("Deployed", "False", "Forbidden", "the quota is full"))
    assert "branch new of Project shop has no release yet: Forbidden: the quota is full" in refused("new")
    assert "did you mean new?" in refused("nev")

    going = cli.record("going")
    cli.cluster.kubectl(
        *(
            "patch",
            "env",
            going,
            "-n",
            cli.namespace,
            "--type=merge",
            "-p",
            '{"metadata":{"finalizers":["a.example/b"]}}',
        )
    )
    cli.cluster.kubectl("delete", "env", going, "-n", cli.namespace, "--wait=false")
    assert "the environment of branch going is being torn down" in refused("going")

    husk = f"husk-{cli.namespace}"
    left = namespace_of(slug("shop", husk))
    cli.cluster.kubectl("create", "namespace", left)
    cli.cluster.kubectl("label", "namespace", left, "envprov.io/state=husk")
    told = refused(husk)
    cli.cluster.discard(left)
    assert f"namespace {left} stays as a husk for what others still use: `envprov guard explain {left}`" in told


def test_colours_are_for_terminals_that_want_them(deploy: Callable[..., Deployed]) -> None:
    there = deploy()
    there.kubectl("scale", "deployment/web", "--replicas=2")
    for variables, coloured in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
        shown = on_terminal(replace(there.cli, variables=variables), "diff", there.branch, "--project", "shop")
        assert "spec.replicas" in shown
        assert ("\x1b[" in shown) is coloured


def on_terminal(cli: Cli, *arguments: str) -> str:
    """Return what a terminal gets."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        cli.command(*arguments), cwd=cli.folder, env=cli.environment(), stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the far side has closed
                break
        process.wait(timeout=60)
    os.close(ours)
    return shown.decode()
