"""``envprov plan`` as a person calls it: all that is wrong at once, and nothing touched."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.names import slug
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.cli.calling import ROOT, Cli

SHOP = f"shop-{secrets.token_hex(3)}"
"""Like no other: a namespace is called by Project and branch, whatever the control namespace."""

GENERATED = """{{- $name := printf "%s-password" .Release.Name }}
{{- $there := lookup "v1" "Secret" .Release.Namespace $name }}
apiVersion: v1
kind: Secret
metadata: {name: {{ $name }}}
data:
  password: {{ dig "data" "password" (randAlphaNum 16 | b64enc) $there | quote }}
"""
"""A password that is generated once, as many charts do it."""

WEB: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "registry.example.com/web:1"}]},
        },
    },
}


def chart(folder: Path, *objects: dict[str, Any]) -> str:
    """Write a chart that renders these objects; return its path."""
    path = folder / "chart"
    (path / "templates").mkdir(parents=True)
    (path / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (path / "templates" / "all.yaml").write_text(yaml.safe_dump_all(objects))
    return str(path)


def service(**spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    ports = {"ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": ports | spec}


def kubeconfig_of(cluster: Cluster, cli: Cli, account: str) -> Path:
    """Return a kubeconfig of a ServiceAccount in the control namespace."""
    given = yaml.safe_load(cluster.kubeconfig.read_text())
    given["users"] = [
        {"name": "account", "user": {"token": cluster.kubectl("create", "token", account, "-n", cli.namespace).strip()}}
    ]
    for context in given["contexts"]:
        context["context"]["user"] = "account"
    path = cluster.kubeconfig.parent / f"{cli.namespace}-{account}.kubeconfig"
    path.write_text(yaml.safe_dump(given))
    return path


@contextmanager
def reader(cli: Cli, *editing: str) -> Iterator[Cli]:
    """Yield somebody who may read the records, edit some namespaces, and nothing else."""
    cluster, namespace = cli.cluster, cli.namespace
    account, name = f"--serviceaccount={namespace}:reader", f"namespaces-{namespace}"
    readable = "environments.envprov.io,projects.envprov.io,leases.coordination.k8s.io"
    cluster.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    cluster.kubectl("create", "rolebinding", "reader", "-n", namespace, "--clusterrole=view", account)
    cluster.kubectl("create", "role", "reader", "-n", namespace, "--verb=get,list", f"--resource={readable}")
    cluster.kubectl("create", "rolebinding", "records", "-n", namespace, "--role=reader", account)
    cluster.kubectl("create", "clusterrole", name, "--verb=get", "--resource=namespaces")
    cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", account)
    for other in editing:
        cluster.kubectl("create", "rolebinding", "reader", "-n", other, "--clusterrole=edit", account)
    try:
        yield Cli(cluster, namespace, cli.folder, kubeconfig_of(cluster, cli, "reader"))
    finally:
        cluster.kubectl("delete", "clusterrolebinding,clusterrole", name)


def planned(cli: Cli, *arguments: str) -> dict[str, Any]:
    """Return what a plan says."""
    ended = cli.call("plan", "feature/x", *arguments, "-o", "json")
    assert ended.returncode in {0, 4}, ended.stderr
    said: dict[str, Any] = json.loads(ended.stdout)
    assert (said["verdict"] == "Refused") == (ended.returncode == 4)
    return said


def test_a_new_branch_is_planned_and_nothing_is_left_of_it(cli: Cli) -> None:
    before = set(cli.cluster.kubectl("get", "ns", "-o", "name").split())
    ended = cli.call("plan", "feature/x", "--project", SHOP, "--chart", chart(cli.folder, WEB, service()))
    assert ended.returncode == 0, ended.stderr
    name = slug(SHOP, "feature/x")
    assert f"Environment {name} (new)" in ended.stdout
    assert f"Namespace   env-{name}" in ended.stdout
    assert "requests.cpu: needs 50m of 1" in ended.stdout
    assert "  + Deployment web" in ended.stdout
    assert "Would be deployed: 2 added, 0 changed, 0 removed, 0 unchanged" in ended.stdout
    assert (cli.get("env"), cli.get("eproj")) == ([], [])

    def is_tidy() -> bool:
        scratches = cli.cluster.kubectl("get", "ns", "-l", "envprov.io/scratch", "-o", "name")
        return scratches == "" and f"namespace/env-{name}" not in cli.cluster.kubectl("get", "ns", "-o", "name")

    eventually(is_tidy, within=60, message=f"something is left: {before}")


def test_everything_that_is_wrong_is_told_at_once_with_the_way_out(cli: Cli) -> None:
    greedy = yaml.safe_load(yaml.safe_dump(WEB))
    greedy["spec"]["replicas"] = 40
    greedy["spec"]["template"]["spec"]["hostNetwork"] = True
    path = chart(cli.folder, greedy, service(type="NodePort"))
    said = planned(cli, "--project", SHOP, "--chart", path)
    errors = {each["reason"]: each for each in said["findings"] if each["severity"] == "error"}
    assert set(errors) == {"HostNamespaces", "NodePort", "SizeExceeded"}
    assert errors["NodePort"]["object"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": said["namespace"],
        "name": "web",
    }
    assert errors["NodePort"]["field"] == "spec.type"
    assert all(each["message"] and each["remedy"] for each in said["findings"])
    assert said["requests"]["requests.cpu"] == {"needs": "2", "has": "1"}


def test_what_only_the_api_server_knows_it_says_in_its_own_words(cli: Cli) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}, "stringData": {"password": 24681357}}
    misspelt = WEB | {"spec": WEB["spec"] | {"replcas": 2}}
    path = chart(cli.folder, service(ports=[{"port": 70000}]), secret, misspelt)
    said = planned(cli, "--project", SHOP, "--chart", path)
    errors = {each["object"]["kind"]: each for each in said["findings"] if each["severity"] == "error"}
    assert {each["reason"] for each in errors.values()} == {"RefusedByServer"}
    assert "must be between 1 and 65535" in errors["Service"]["message"]
    assert ".spec.replcas: field not declared in schema" in errors["Deployment"]["message"]
    assert ".stringData.password: expected string" in errors["Secret"]["message"]
    assert "24681357" not in json.dumps(said)


def test_who_may_make_no_namespaces_is_told_what_was_not_tried(cli: Cli) -> None:
    with reader(cli) as person:
        said = planned(person, "--project", SHOP, "--chart", chart(cli.folder, service()))
    (untried,) = (each for each in said["findings"] if each["reason"] == "NotTried")
    assert untried["severity"] == "note"
    assert "namespaces" in untried["message"]


def test_an_environment_that_is_there_is_planned_as_a_diff(cli: Cli) -> None:
    path = cli.folder / "chart"
    shutil.copytree(ROOT / "tests" / "charts" / "app", path)
    (path / "templates" / "secret.yaml").write_text(GENERATED)
    arguments = ("--project", SHOP, "--chart", str(path))
    up = cli.call("up", "feature/x", *arguments, "--standalone", "--timeout", "60s")
    assert up.returncode == 0, up.stderr
    assert planned(cli, *arguments)["verdict"] == "Unchanged"  # as the administrator, who may act as the installer
    with reader(cli, f"env-{slug(SHOP, 'feature/x')}") as person:
        assert planned(person, *arguments)["changes"]["changed"] == 0
    (cli.folder / "values.yaml").write_text("replicas: 2\n")
    ended = cli.call("plan", "feature/x", *arguments, "--values", str(cli.folder / "values.yaml"))
    assert ended.returncode == 0, ended.stderr
    assert "-  replicas: 1" in ended.stdout
    assert "+  replicas: 2" in ended.stdout
    assert "0 added, 1 changed, 0 removed, 2 unchanged" in ended.stdout
    name = slug(SHOP, "feature/x")
    assert cli.cluster.kubectl("get", "deploy", "web", "-n", f"env-{name}", "-o", "jsonpath={.spec.replicas}") == "1"
    (path / "templates" / "nodes.yaml").write_text('{{ $nodes := lookup "v1" "Node" "" "" }}')
    (error,) = (each for each in planned(cli, *arguments)["findings"] if each["severity"] == "error")
    assert error["reason"] == "LookupFailed"
    assert "nodes is forbidden" in error["message"]
    assert cli.call("down", "feature/x", "--project", SHOP, "--standalone", "--timeout", "90s").returncode == 0


def test_a_branch_for_which_there_is_no_room_is_told_its_place(cli: Cli) -> None:
    path = chart(cli.folder, service())
    cli.project(SHOP, chart={"local": {"path": path}}, limits={"environments": 1})
    size = {"cpu": "1", "memory": "2Gi", "memoryLimit": "4Gi", "pods": 15}
    given = {"uid": "1", "project": SHOP, "sizeName": "S", "size": size, "at": "2026-11-24T12:00:00Z"}
    ledger = {
        "metadata": {"name": "envprov-budget", "namespace": cli.namespace},
        "data": {"other-x": json.dumps(given)},
    }
    cli.apply({"apiVersion": "v1", "kind": "ConfigMap", **ledger})
    said = planned(cli, "--project", SHOP, "--chart", path)
    assert said["verdict"] == "Queued"
    assert said["waits"].startswith("place 1: needs 1 environment, 0 free of 1")


def test_who_can_never_have_room_is_refused(cli: Cli) -> None:
    path = chart(cli.folder, service())
    cli.project(SHOP, chart={"local": {"path": path}}, limits={"requests": {"cpu": "500m"}})
    said = planned(cli, "--project", SHOP, "--chart", path)
    (error,) = (each for each in said["findings"] if each["severity"] == "error")
    assert error["reason"] == "OverBudget"
    assert f"needs 1 CPU, and all of Project {SHOP} may have 0.5" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--project", "other"), 2, "there is no Project other"),
        (("--project", SHOP), 2, "say which commit with --revision, or name the chart's folder"),
        (("--project", SHOP, "--chart", "nowhere"), 2, "nowhere"),
    ],
)
def test_what_cannot_be_planned_is_told(cli: Cli, arguments: tuple[str, ...], code: int, said: str) -> None:
    cli.project(SHOP)
    ended = cli.call("plan", "feature/x", *arguments)
    assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr
