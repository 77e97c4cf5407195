"""An environment falls asleep and wakes up: nothing of it runs, nothing is lost, and Helm has its replicas."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Shop
from tests.e2e.killing import Executioner, helm_beside_the_proxy
from tests.eventually import eventually
from tests.integration.cli.calling import Cli
from tests.shipped import CONTROLLER, ROOT, Installation, Process, condition

Commits = Callable[[int], str]
Item = dict[str, Any]

REPLICAS = "envprov.io/replicas"
CONTAINER = {"name": "main", "image": "registry.example.com/main:1", "resources": {"limits": {"memory": "64Mi"}}}
SCALABLE = "deploy,sts,ds,rs,rc,cj,job"


def template(name: str, **spec: Any) -> Item:  # noqa: ANN401 - any field of a pod
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [CONTAINER], **spec}}


def workload(kind: str, name: str, **spec: Any) -> Item:  # noqa: ANN401 - any field
    given = {"selector": {"matchLabels": {"app": name}}, "template": template(name)}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": given | spec}


BATCH = {"template": template("nightly", restartPolicy="Never")}
EXTRA: list[Item] = [
    workload("Deployment", "plain"),  # says nothing of replicas
    workload("Deployment", "off", replicas=0),
    workload("DaemonSet", "agent"),
    workload(
        "StatefulSet",
        "db",
        replicas=2,
        serviceName="db",
        persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete"},
        volumeClaimTemplates=[
            {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
        ],
    ),
    {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 3 1 1 *", "jobTemplate": {"spec": BATCH}},
    },
    {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "old"},
        "spec": {"replicas": 1, "selector": {"app": "old"}, "template": template("old")},
    },
    workload("Deployment", "auto"),
    {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "auto"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "auto"},
            "minReplicas": 2,
            "maxReplicas": 4,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
                }
            ],
        },
    },
]


class Yard:
    """The environment of one branch, as an administrator and a person at a terminal see it."""

    def __init__(self, shop: Shop, branch: str, folder: Path) -> None:
        self.shop, self.branch, self.cluster = shop, branch, shop.installation.cluster
        self.terminal = Cli(self.cluster, shop.installation.namespace, folder, self.cluster.kubeconfig)

    @property
    def record(self) -> Item:
        return self.shop.record(self.branch) or {}

    @property
    def namespace(self) -> str:
        return str(self.record["status"]["namespace"])

    def call(self, *arguments: str) -> str:
        ended = self.terminal.call(*arguments, "--project", self.shop.name)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return ended.stdout

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - as in subprocess
        return self.cluster.kubectl(*arguments, "-n", self.namespace, input=input)

    def items(self, kinds: str) -> list[Item]:
        found: list[Item] = json.loads(self.kubectl("get", kinds, "-o", "json"))["items"]
        return found

    def spec(self, kind: str, name: str) -> Item:
        found: Item = json.loads(self.kubectl("get", kind, name, "-o", "json"))["spec"]
        return found

    def replicas(self) -> dict[str, int]:
        return {item["metadata"]["name"]: item["spec"]["replicas"] for item in self.items("deploy,sts,rc")}

    def pods(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.items("pod")]

    def wishes(self) -> dict[str, tuple[int | None, Item]]:
        """Return what is wanted of each object, as far as it shows: its controller may still write how it is."""
        metadata = [item["metadata"] for item in self.items(f"{SCALABLE},pvc")]
        return {item["uid"]: (item.get("generation"), item.get("annotations", {})) for item in metadata}

    def marks(self) -> list[str]:
        """Return what of ours stands on workloads; a ReplicaSet keeps a copy of what its Deployment said."""
        notes = [item["metadata"].get("annotations", {}) for item in self.items("deploy,sts,ds,rc,cj,job")]
        return [name for note in notes for name in note if name.startswith("envprov.io/")]

    def provide(self) -> None:
        """Make a volume for each claim of the StatefulSet: nothing provisions any here."""
        for number in range(2):
            claim = f"data-db-{number}"
            spec = {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "claimRef": {"namespace": self.namespace, "name": claim},
                "hostPath": {"path": "/nowhere"},
            }
            metadata = {"name": f"{self.shop.name}-{claim}"}
            volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}
            self.cluster.kubectl("create", "-f", "-", input=json.dumps(volume))


ENDLESS = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "endless"},
    "spec": {"template": template("endless", restartPolicy="Never", nodeSelector={"no": "node"})},
}


def test_all_of_it_sleeps_and_wakes_as_it_was(make_shop: Callable[..., Shop], commits: Commits, folder: Path) -> None:
    yard = Yard(make_shop(values={"extra": EXTRA, "replicas": 2}), "feature/x", folder)
    rise(yard, commits(1))
    yard.kubectl("scale", "deploy/web", "--replicas=3")
    yard.kubectl("scale", "deploy/plain", "--replicas=3")
    yard.kubectl("create", "-f", "-", input=json.dumps(ENDLESS))
    eventually(lambda: any(name.startswith("endless") for name in yard.pods()), message="the Job does not begin")
    nodes = yard.spec("ds", "agent")["template"]["spec"].get("nodeSelector")
    assert yard.replicas() == {"web": 3, "plain": 3, "auto": 2, "off": 0, "db": 2, "old": 1}

    assert "feature/x is asleep" in yard.call("sleep", "feature/x", "--wait")
    assert yard.pods() == []
    assert set(yard.replicas().values()) == {0}
    assert len(yard.items("pvc")) == 2, "the claims are gone, and the data with them"
    assert [yard.spec("cj", "nightly")["suspend"], yard.spec("job", "endless")["suspend"]] == [True, True]
    assert condition(yard.record, "Ready")["reason"] == "Asleep"
    assert "Asleep" in yard.call("list")
    stays_asleep(yard, commits)

    assert "wakes up" in yard.call("wake", "feature/x")
    eventually(lambda: yard.spec("job", "endless")["suspend"] is False, message="the Job does not begin anew")
    yard.kubectl("delete", "job", "endless", "--cascade=foreground")
    assert "feature/x is awake" in yard.call("wake", "feature/x", "--wait")
    assert yard.replicas() == {"web": 2, "plain": 3, "auto": 2, "off": 0, "db": 2, "old": 1}
    assert yard.spec("cj", "nightly")["suspend"] is False
    assert yard.spec("sts", "db")["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Delete"
    assert yard.spec("ds", "agent")["template"]["spec"].get("nodeSelector") == nodes
    assert yard.marks() == []


def rise(yard: Yard, commit: str) -> None:
    """Bring everything up, the autoscaler at work."""
    assert yard.shop.create(yard.branch, commit) == 202
    eventually(lambda: yard.record["status"].get("release"), message="no release")
    yard.provide()
    yard.shop.ready(yard.branch, commit)
    eventually(lambda: yard.replicas()["auto"] == 2, message="the autoscaler does not work")


def stays_asleep(yard: Yard, commits: Commits) -> None:
    """Nothing is written again; neither an autoscaler, nor a push, nor a person gets it up."""
    settled, looked = yard.wishes(), passes(yard)
    yard.cluster.kubectl(
        "annotate", "env", yard.record["metadata"]["name"], "-n", yard.terminal.namespace, "example.com/look=now"
    )
    eventually(lambda: passes(yard) > looked, message="the controller has not looked again")
    assert yard.wishes() == settled
    scaler = ("get", "hpa", "auto", "-o", "jsonpath={.status.conditions[*].reason}")
    eventually(lambda: "ScalingDisabled" in yard.kubectl(*scaler), message="the autoscaler does not rest")
    assert yard.replicas()["auto"] == 0
    assert yard.shop.push(yard.branch, commits(1), commits(2)) == 202
    eventually(lambda: condition(yard.record, "Deployed")["reason"] == "Asleep", message="no word of the push")
    yard.kubectl("scale", "deploy/web", "--replicas=1")
    eventually(lambda: yard.replicas()["web"] == 0, message="what was scaled up by hand stays up")
    eventually(lambda: yard.pods() == [], message="its pods stay")


@pytest.mark.timeout(300)
def test_it_wakes_as_it_was_though_the_controller_is_killed_after_each_write(
    own: Installation, deadly: tuple[Executioner, Path], commits: Commits, folder: Path
) -> None:
    executioner, kubeconfig = deadly
    executioner.is_strict = True
    own.settings(helm={"chart_root": str(ROOT), "binary": str(helm_beside_the_proxy(own))})
    name = f"shop-{secrets.token_hex(3)}"
    own.project(name, values={"extra": [EXTRA[0], EXTRA[4]], "replicas": 2})

    def start(victim: bool) -> Process:  # noqa: FBT001 - one word for what becomes of it
        arguments = ("controller", "--identity", "mortal", "--kubeconfig", str(kubeconfig))
        process = own.start(*arguments, account=CONTROLLER)
        executioner.await_next(process if victim else None)
        return process

    def suffer(until: str) -> None:
        """Kill one controller after the other, until one has nothing left to write."""
        for _ in range(20):
            controller = start(victim=True)
            eventually(
                lambda process=controller: (
                    process.popen.poll() is not None  # type: ignore[misc]
                    or condition(yard.record, "Ready")["reason"] == until
                ),
                message=f"nothing was written after {executioner.writes[-3:]}",
            )
            down = {item["metadata"]["name"] for item in yard.items("deploy") if item["spec"]["replicas"] == 0}
            noted = {item["metadata"]["name"] for item in yard.items("deploy") if REPLICAS in str(item["metadata"])}
            assert down == noted, "what was scaled to nothing has forgotten what it was"
            if controller.popen.poll() is None:
                controller.kill()
                return
            controller.kill()
        raise AssertionError(f"it does not come forward: {executioner.writes[-5:]}")

    shop = Shop(own, own.start_receiver().ready(), name)
    eventually(shop.is_known, message="the receiver does not know the Project")
    controller = start(victim=False)
    shop.up("feature/x", commits(1))
    yard = Yard(shop, "feature/x", folder)
    yard.kubectl("scale", "deploy/plain", "--replicas=3")
    shop.ready("feature/x", commits(1))
    assert controller.stop() == 0
    executioner.places = {own.namespace, yard.namespace}
    yard.call("sleep", "feature/x")
    suffer("Asleep")
    assert yard.replicas() == {"web": 0, "plain": 0}
    assert yard.spec("cj", "nightly")["suspend"] is True
    yard.call("wake", "feature/x")
    suffer("Ready")
    assert yard.replicas() == {"web": 2, "plain": 3}
    assert yard.spec("cj", "nightly")["suspend"] is False
    assert yard.marks() == []
    patched = [path.rsplit("/", 1)[1] for _, path, _ in executioner.writes if f"/{yard.namespace}/" in path]
    assert sorted({*patched}) == ["nightly", "plain", "web"]
    assert len(patched) >= 6, "nobody was killed between two patches"


def passes(yard: Yard) -> int:
    """Return how often the controller has looked at it and left it alone."""
    entries = [entry for process in yard.shop.installation.processes for entry in process.entries()]
    mine = [entry for entry in entries if entry.get("event") == "pass" and entry.get("phase") == "Asleep"]
    return len([entry for entry in mine if entry["key"] == yard.record["metadata"]["name"] and not entry["actions"]])
