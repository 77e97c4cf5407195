"""
A kubelet's word in a cluster without kubelets: a node of its own, pod statuses, events and logs as a real one's.

The API server is the real one, and so are the scheduler and the controllers. kwok plays the kubelet of every node, and
leaves alone what has an address already: so a pod gets its status first, and its node after that.
"""

from __future__ import annotations

import secrets
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import yaml

from tests.cluster import Cluster
from tests.eventually import eventually

Manifest = dict[str, Any]

IMAGE = "registry.example.com/shop/web:1.4.2"
_GLOBAL = frozenset(
    {
        "APIService",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Namespace",
        "Node",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    }
)


@dataclass(frozen=True)
class Api:
    """The API server, as its administrator speaks to it."""

    client: httpx.Client

    def create(self, manifest: Mapping[str, Any]) -> Manifest:
        """Create an object, as soon as the API server takes it: a new namespace has no ServiceAccount at first."""
        path = self._path(manifest, named=False)

        def try_once() -> httpx.Response | None:
            answer = self.client.post(path, json=dict(manifest))
            too_early = answer.status_code == httpx.codes.FORBIDDEN and "serviceaccount" in answer.text
            return None if too_early else answer

        return self._read(eventually(try_once, within=20, message=f"{path} takes no {manifest['kind']}"))

    def get(self, manifest: Mapping[str, Any]) -> Manifest | None:
        """Read an object; None if it is not there."""
        answer = self.client.get(self._path(manifest))
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._read(answer)

    def list(self, api_version: str, kind: str, namespace: str) -> list[Manifest]:
        """Read all objects of a kind in a namespace."""
        asked = {"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace}}
        found: list[Manifest] = self._read(self.client.get(self._path(asked, named=False)))["items"]
        return found

    def patch(self, manifest: Mapping[str, Any], body: Mapping[str, Any], subresource: str = "") -> Manifest:
        """Change some fields of an object."""
        path = self._path(manifest) + (f"/{subresource}" if subresource else "")
        headers = {"Content-Type": "application/merge-patch+json"}
        return self._read(self.client.patch(path, json=dict(body), headers=headers))

    def bind(self, pod: Mapping[str, Any], node: str) -> None:
        """Give a pod a node, as a scheduler does."""
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod["metadata"]["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        self._read(self.client.post(f"{self._path(pod)}/binding", json=body))

    def delete(self, manifest: Mapping[str, Any], *, grace: int | None = None) -> None:
        """Ask for the deletion of an object that may be there."""
        query = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        answer = self.client.delete(self._path(manifest), params=query)
        if answer.status_code != httpx.codes.NOT_FOUND:
            self._read(answer)

    @staticmethod
    def _path(manifest: Mapping[str, Any], *, named: bool = True) -> str:
        version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        word = kind.lower()
        plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}es" if word.endswith("s") else f"{word}s"
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        where = "" if kind in _GLOBAL else f"/namespaces/{metadata['namespace']}"
        return f"{root}{where}/{plural}" + (f"/{metadata['name']}" if named else "")

    @staticmethod
    def _read(answer: httpx.Response) -> Manifest:
        if answer.is_error:
            raise AssertionError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
        found: Manifest = answer.json()
        return found


@contextmanager
def administrator(cluster: Cluster) -> Iterator[Api]:
    """Speak to the API server of a development cluster as its administrator."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cafile=str(cluster.kubeconfig.parent / server["certificate-authority"]))
    tls.load_cert_chain(
        cluster.kubeconfig.parent / user["client-certificate"], cluster.kubeconfig.parent / user["client-key"]
    )
    with httpx.Client(base_url=server["server"], verify=tls, trust_env=False, timeout=30) as client:
        yield Api(client)


@dataclass
class Kubelet:
    """
    A node that tells what the test wants it to tell.

    Attributes:
        api: The API server.
        node: Name of the node.
        logs: What containers have written, by pod, container and whether it was before the last restart.
        silent: Pods whose logs are never answered.

    """

    api: Api
    node: str
    logs: dict[tuple[str, str, bool], str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    ended: threading.Event = field(default_factory=threading.Event)

    def play(self, pod: Mapping[str, Any], *, node: str | None = None, **status: Any) -> Manifest:  # noqa: ANN401
        """
        Let a pod that nobody has scheduled be on the node, with a status.

        Args:
            pod: As the API server returned it.
            node: Another node.
            status: Fields of the status.

        """
        placed = {"type": "PodScheduled", "status": "True"}
        ready = {"type": "Ready", "status": status.pop("ready", "False")}
        given = {
            "phase": "Pending",
            "podIP": "10.99.0.9",
            "podIPs": [{"ip": "10.99.0.9"}],
            "conditions": [placed, ready],
        }
        played = self.api.patch(pod, {"status": given | status}, "status")
        self.api.bind(pod, node or self.node)
        return played

    def tell(self, item: Mapping[str, Any], reason: str, message: str, kind: str = "Warning") -> None:
        """Record an event about an object."""
        metadata, now = item["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {
            "apiVersion": item["apiVersion"],
            "kind": item["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        self.api.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": f"{metadata['name']}.{secrets.token_hex(6)}",
                    "namespace": metadata["namespace"],
                },
                "involvedObject": about | {"namespace": metadata["namespace"]},
                "reason": reason,
                "message": message,
                "type": kind,
                "count": 3,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "source": {"component": "kubelet", "host": self.node},
            }
        )


@contextmanager
def kubelet(cluster: Cluster, api: Api) -> Iterator[Kubelet]:
    """
    Run a kubelet that serves logs, with a node that no scheduler chooses.

    Args:
        cluster: A development cluster: its own certificate is the one of the kubelet.
        api: Its API server.

    """
    played = Kubelet(api, f"kubelet-{secrets.token_hex(3)}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(played))
    server.daemon_threads = True
    pki = cluster.kubeconfig.parent / "pki"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    node = _node(played.node, server.server_port)
    api.create(node)
    # kwok fills in an address of its own when it first sees the node.
    eventually(
        lambda: (api.get(node) or {})["status"]["nodeInfo"]["kubeletVersion"], message="kwok does not see the node"
    )
    api.patch(node, {"status": node["status"]}, "status")
    try:
        yield played
    finally:
        played.ended.set()
        api.delete(node)
        server.shutdown()
        server.server_close()


def ago(seconds: float) -> str:
    """A moment in the past, as Kubernetes writes it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(reason: str, message: str = "", *, name: str = "web", image: str = IMAGE) -> Manifest:
    """A container that waits."""
    return _container(name, image) | {"state": {"waiting": {"reason": reason, "message": message}}}


def running(*, name: str = "web", ready: bool = False, started: bool = True, since: float = 300) -> Manifest:
    """A container that runs."""
    state = {"running": {"startedAt": ago(since)}}
    return _container(name, IMAGE) | {"state": state, "ready": ready, "started": started}


def looping(code: int = 1, reason: str = "Error", *, name: str = "web", restarts: int = 7) -> Manifest:
    """A container that ended again and again, and waits to be started once more."""
    back_off = {"reason": "CrashLoopBackOff", "message": f"back-off 5m0s restarting failed container={name}"}
    last = {"terminated": {"exitCode": code, "reason": reason, "startedAt": ago(90), "finishedAt": ago(60)}}
    return _container(name, IMAGE) | {"state": {"waiting": back_off}, "lastState": last, "restartCount": restarts}


def ended(code: int, *, name: str = "web", reason: str = "Error") -> Manifest:
    """A container that has ended."""
    state = {"terminated": {"exitCode": code, "reason": reason, "startedAt": ago(9), "finishedAt": ago(3)}}
    return _container(name, IMAGE) | {"state": state}


def _container(name: str, image: str) -> Manifest:
    return {"name": name, "image": image, "imageID": "", "ready": False, "restartCount": 0}


def _node(name: str, port: int) -> Manifest:
    room = {"cpu": "8", "memory": "16Gi", "pods": "500"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"taints": [{"key": "envprov.io/of-a-test", "effect": "NoSchedule"}]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "capacity": room,
            "allocatable": room,
        },
    }


def _handler(played: Kubelet) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            _, _, _, pod, container = address.path.split("/")
            if pod in played.silent:
                played.ended.wait(60)
            query = parse_qs(address.query)
            said = played.logs.get((pod, container, query.get("previous") == ["true"]))
            lines = (said or "").splitlines(keepends=True)[-int(query.get("tailLines", ["1000"])[0]) :]
            body = "".join(lines).encode() if said is not None else b"no such log"
            body = body[: int(query.get("limitBytes", [str(len(body))])[0])]  # from the beginning, as a real one does
            self.send_response(200 if said is not None else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
