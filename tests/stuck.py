"""Environments that are stuck, as their owners meet them, and what ``envprov why`` says of them."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from envprov.cli.main import build
from envprov.domain.names import namespace_of, slug
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.kubelet import IMAGE, Api, Kubelet, Manifest, administrator, kubelet
from tests.shipped import ROOT

PROJECT = "shop"
CRD = "envprov.io/v1alpha1"
TIME_LIMIT = 15.0
"""Seconds: an answer that takes longer is none."""


@dataclass(frozen=True)
class Answer:
    """What ``why`` said, as JSON and as a person reads it."""

    data: Manifest

    @property
    def cause(self) -> str:
        """The cause."""
        return str(self.data["cause"])

    @property
    def state(self) -> str:
        """The state."""
        return str(self.data["state"])

    @property
    def summary(self) -> str:
        """The paragraph."""
        return str(self.data["summary"])

    @property
    def shown(self) -> str:
        """All evidence."""
        return "\n".join(f"{fact['object']}: {fact['says']}" for fact in self.data["evidence"])

    @property
    def unread(self) -> str:
        """All that could not be read."""
        return "\n".join(f"{entry['what']}: {entry['why']}" for entry in self.data["unread"])


@dataclass(frozen=True)
class Stuck:
    """
    One environment.

    Attributes:
        api: The API server.
        kubelet: Speaks for its pods.
        control: Control namespace.
        kubeconfig: Of who asks.
        branch: The branch.
        project: Name of the Project.

    """

    api: Api
    kubelet: Kubelet
    control: str
    kubeconfig: Path
    branch: str = field(default_factory=lambda: f"feature/{secrets.token_hex(4)}")
    project: str = PROJECT

    @property
    def name(self) -> str:
        """Name of the Environment."""
        return slug(self.project, self.branch)

    @property
    def namespace(self) -> str:
        """Name of the namespace."""
        return namespace_of(self.name)

    # --- What is there

    def recorded(self, *conditions: Mapping[str, Any], finalizers: tuple[str, ...] = (), **status: Any) -> Manifest:  # noqa: ANN401
        """Make the record, with the status that a controller would have left."""
        record = self.api.create(
            {
                "apiVersion": CRD,
                "kind": "Environment",
                "metadata": {"name": self.name, "namespace": self.control, "finalizers": list(finalizers)},
                "spec": {"project": self.project, "branch": self.branch},
            }
        )
        if not conditions and not status:
            return record
        told = {"observedGeneration": 1, "namespace": self.namespace, "conditions": list(conditions)} | status
        return self.api.patch(record, {"status": told}, "status")

    def housed(self, **metadata: Any) -> Manifest:  # noqa: ANN401 - any field
        """Make the namespace, without what guards it."""
        notes = {"envprov.io/branch": self.branch, "envprov.io/owner": f"{self.control}/{self.name}"}
        given = {"name": self.namespace, "annotations": notes} | metadata
        return self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": given})

    def starting(self, **metadata: Any) -> Stuck:  # noqa: ANN401 - any field
        """Make the record and the namespace of an environment whose release is deployed and not up."""
        self.recorded(*DEPLOYED, condition("Ready", "False", "Starting", "Deployment web: 0 of 1 pods available"))
        self.housed(**metadata)
        return self

    def make(self, api_version: str, kind: str, name: str, **fields: Any) -> Manifest:  # noqa: ANN401 - any field
        """Make an object in the namespace."""
        metadata = {"name": name, "namespace": self.namespace} | fields.pop("metadata", {})
        return self.api.create({"apiVersion": api_version, "kind": kind, "metadata": metadata} | fields)

    def deployment(self, name: str = "web", replicas: int = 1, **spec: Any) -> Manifest:  # noqa: ANN401 - of the pods
        """Make a Deployment."""
        given = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, **spec)}
        return self.make("apps/v1", "Deployment", name, spec=given)

    def pod(self, name: str = "web-0", *, metadata: Mapping[str, Any] | None = None, **spec: Any) -> Manifest:  # noqa: ANN401
        """Make a pod that no scheduler looks at."""
        return self.make(
            "v1", "Pod", name, metadata=dict(metadata or {}), spec=pod_spec(schedulerName="nobody", **spec)
        )

    def played(self, *containers: Mapping[str, Any], **status: Any) -> Manifest:  # noqa: ANN401 - any field
        """Make a pod that is on the kubelet's node, with these containers."""
        pod = self.pod()
        return self.kubelet.play(pod, containerStatuses=[dict(container) for container in containers], **status)

    def pods(self, count: int = 1) -> list[Manifest]:
        """Wait until the namespace has pods."""

        def look() -> list[Manifest] | None:
            found = self.api.list("v1", "Pod", self.namespace)
            return found if len(found) >= count else None

        found = eventually(look, message="no pod was made")
        return [pod | {"apiVersion": "v1", "kind": "Pod"} for pod in found]

    def release(self, status: str, description: str, *, hooks: tuple[Mapping[str, Any], ...] = ()) -> None:
        """Make the Secret in which Helm keeps its release."""
        content = {
            "name": self.name,
            "namespace": self.namespace,
            "version": 1,
            "info": {"status": status, "description": description},
            "hooks": [dict(hook) for hook in hooks],
            "manifest": "",
        }
        packed = base64.b64encode(gzip.compress(json.dumps(content).encode()))
        self.make(
            "v1",
            "Secret",
            f"sh.helm.release.v1.{self.name}.v1",
            metadata={"labels": {"owner": "helm", "name": self.name, "version": "1", "status": status}},
            type="helm.sh/release.v1",
            data={"release": base64.b64encode(packed).decode()},
        )

    def leaving(self) -> None:
        """Ask for the deletion of the namespace."""
        self.api.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})

    def says(self, condition_type: str) -> Manifest | None:
        """A condition of the namespace, if it is true."""
        found = self.api.get({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}) or {}
        conditions = found.get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == condition_type and c["status"] == "True"), None)

    # --- What is said of it

    def why(self, *options: str, project: str | None = None) -> Answer:
        """Ask; an answer has to come in time."""
        named = ("--project", project or self.project)
        return Answer(json.loads(self.call("-o", "json", *named, *options)))

    def call(self, *options: str) -> str:
        """Call ``envprov why``; returns what it printed."""
        where = ("--kubeconfig", str(self.kubeconfig), "--namespace", self.control)
        began = time.monotonic()
        ended = CliRunner().invoke(build(), ["why", self.branch, *where, *options], env={"NO_COLOR": "1"})
        assert time.monotonic() - began < TIME_LIMIT
        assert ended.exit_code == 0, (ended.output, ended.exception)
        return str(ended.stdout)

    def until(self, cause: str, within: float = 30) -> Answer:
        """Ask until the cause is seen: controllers take a moment to say what is wrong."""
        last: list[Answer] = []

        def ask() -> Answer | None:
            last[:] = [self.why()]
            return last[0] if last[0].cause == cause else None

        try:
            return eventually(ask, within=within, every=0.2)
        except AssertionError:
            raise AssertionError(f"the cause is not {cause} but: {json.dumps(last[0].data, indent=1)}") from None


@dataclass(frozen=True)
class Scene:
    """
    A control namespace with a Project, where a controller seems to be alive, and a kubelet.

    Attributes:
        cluster: Where.
        api: Its API server.
        kubelet: Speaks for the pods.
        control: The control namespace.
        made: All environments.

    """

    cluster: Cluster
    api: Api
    kubelet: Kubelet
    control: str
    made: list[Stuck] = field(default_factory=list)

    def make(self, **given: Any) -> Stuck:  # noqa: ANN401 - any attribute
        """Make an environment of which nothing is there yet."""
        attributes: dict[str, Any] = {"control": self.control, "kubeconfig": self.cluster.kubeconfig} | given
        stuck = Stuck(self.api, self.kubelet, **attributes)
        self.made.append(stuck)
        return stuck

    def project(self, name: str, rules: list[dict[str, Any]], control: str = "") -> None:
        """Make a Project."""
        spec = {"chart": {"local": {"path": "app"}}, "gitlab": {"project": f"group/{name}"}, "rules": rules}
        metadata = {"name": name, "namespace": control or self.control}
        self.api.create({"apiVersion": CRD, "kind": "Project", "metadata": metadata, "spec": spec})

    def lease(self, *, control: str = "", renewed: datetime | None = None, seconds: int = 3600) -> None:
        """Make the Lease of a controller."""
        moment = (renewed or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": "pod-1", "leaseDurationSeconds": seconds, "renewTime": moment}
        metadata = {"name": "envprov-controller", "namespace": control or self.control}
        self.api.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})


@contextmanager
def staged(cluster: Cluster, rules: list[dict[str, Any]]) -> Iterator[Scene]:
    """
    Set the scene, and clear it up afterwards.

    Args:
        cluster: Where.
        rules: Of the Project.

    """
    import_module("envprov.cli.why")  # the first call would otherwise be timed with all that it loads
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "k8s" / "crds"))
    for name in ("environments.envprov.io", "projects.envprov.io"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    control = f"envprov-w-{secrets.token_hex(4)}"
    with administrator(cluster) as api, kubelet(cluster, api) as played:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": control}})
        scene = Scene(cluster, api, played, control)
        scene.project(PROJECT, rules)
        scene.lease()
        yield scene
        for stuck in scene.made:
            stuck.leaving()
        cluster.discard(control)


def condition(kind: str, status: str, reason: str, message: str = "") -> Manifest:
    """A condition as a controller reports it."""
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": moment,
    }


DEPLOYED = (
    condition("Accepted", "True", "Accepted"),
    condition("NamespaceReady", "True", "InPlace"),
    condition("Deployed", "True", "InSync"),
)


def template(name: str = "web", **spec: Any) -> Manifest:  # noqa: ANN401 - any field
    """A template of pods."""
    return {"metadata": {"labels": {"app": name}}, "spec": pod_spec(**spec)}


def pod_spec(**spec: Any) -> Manifest:  # noqa: ANN401 - any field
    """The spec of a pod with one container."""
    container = {"name": "web", "image": IMAGE} | spec.pop("container", {})
    return {"containers": [container], "terminationGracePeriodSeconds": 0} | spec
