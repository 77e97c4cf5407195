"""
Answers of the API server, in kubectl's words, without a process.

Tests ask again and again until something is so, and a process for each question took a third of a test run's processor
time. What is not simple, and every error, is left to kubectl itself: so its words stay its own.
"""

from __future__ import annotations

import atexit
import json
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml

Item = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """How a kind is asked for."""

    root: str
    plural: str
    name: str
    is_global: bool = False

    def path(self, namespace: str | None, name: str = "") -> str:
        """Path of one object, or of all; *namespace* is None for those of every namespace."""
        where = "" if self.is_global or namespace is None else f"/namespaces/{namespace}"
        return f"{self.root}{where}/{self.plural}" + (f"/{name}" if name else "")

    @property
    def api_version(self) -> str:
        """As in a manifest."""
        return self.root.removeprefix("/apis/").removeprefix("/api/")

    @property
    def named(self) -> str:
        """As ``-o name`` has it, before the slash."""
        group = self.api_version.rpartition("/")[0]
        return self.name.lower() + (f".{group}" if group else "")


def _kinds(root: str, names: str, *, is_global: bool = False) -> dict[str, Kind]:
    """Kinds of a group by all that they are called: ``Kind plural [short name...]``, separated by commas."""
    found: dict[str, Kind] = {}
    for words in (entry.split() for entry in names.split(",")):
        kind = Kind(root, words[1], words[0], is_global)
        found |= dict.fromkeys([words[0].lower(), *words[1:]], kind)
    return found


RBAC = "/apis/rbac.authorization.k8s.io/v1"
EXTENSIONS = "/apis/apiextensions.k8s.io/v1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
KINDS = (
    _kinds("/api/v1", "Namespace namespaces ns, Node nodes no, PersistentVolume persistentvolumes pv", is_global=True)
    | _kinds("/api/v1", "ServiceAccount serviceaccounts sa, ConfigMap configmaps cm, Secret secrets, Pod pods po")
    | _kinds("/api/v1", "Service services svc, ResourceQuota resourcequotas quota, LimitRange limitranges limits")
    | _kinds(
        "/api/v1", "PersistentVolumeClaim persistentvolumeclaims pvc, ReplicationController replicationcontrollers rc"
    )
    | _kinds("/apis/apps/v1", "Deployment deployments deploy, ReplicaSet replicasets rs, StatefulSet statefulsets sts")
    | _kinds("/apis/apps/v1", "DaemonSet daemonsets ds")
    | _kinds("/apis/batch/v1", "Job jobs, CronJob cronjobs cj")
    | _kinds("/apis/networking.k8s.io/v1", "Ingress ingresses ing, NetworkPolicy networkpolicies netpol")
    | _kinds("/apis/coordination.k8s.io/v1", "Lease leases")
    | _kinds(RBAC, "Role roles, RoleBinding rolebindings")
    | _kinds(RBAC, "ClusterRole clusterroles, ClusterRoleBinding clusterrolebindings", is_global=True)
    | _kinds(ADMISSION, "ValidatingAdmissionPolicy validatingadmissionpolicies", is_global=True)
    | _kinds(ADMISSION, "ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings", is_global=True)
    | _kinds(EXTENSIONS, "CustomResourceDefinition customresourcedefinitions crd", is_global=True)
    | _kinds("/apis/envprov.io/v1alpha1", "Environment environments env, Project projects eproj")
)
_WITH_VALUE = {
    "-n": "namespace",
    "--namespace": "namespace",
    "-o": "output",
    "--output": "output",
    "-l": "labelSelector",
    "--field-selector": "fieldSelector",
}
_WITHOUT_VALUE = {"-A", "--ignore-not-found"}
_LIST = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FIELD = re.compile(r"jsonpath=\{((?:\.[A-Za-z]+)+)\}")


def answer(kubeconfig: Path, arguments: Sequence[str], given: str | None = None) -> str | None:
    """
    Answer ``kubectl ARGUMENTS`` as kubectl would.

    Args:
        kubeconfig: The cluster, and who asks.
        arguments: What kubectl is asked.
        given: What it is given to read.

    Returns:
        What it would print; None if that is to be found out by asking it.

    """
    question = _Question.read(arguments) or _write(arguments) if given is None else _Apply.read(arguments, given)
    if question is None or not kubeconfig.is_file():
        return None
    client = _client(kubeconfig, kubeconfig.stat().st_mtime_ns)
    try:
        return question.ask(client) if client else None
    except httpx.TransportError:
        # What may have been done once already is not done again.
        if isinstance(question, _Write):
            raise
        return None


@cache
def _client(kubeconfig: Path, _written: int) -> httpx.Client | None:
    """Connections to a cluster, kept for as long as the tests run; None if this is not a development cluster's own."""
    config = yaml.safe_load(kubeconfig.read_text())
    if [len(config[part]) for part in ("clusters", "users", "contexts")] != [1, 1, 1]:
        return None
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    if (set(cluster), set(user)) != ({"certificate-authority", "server"}, {"client-certificate", "client-key"}):
        return None
    tls = ssl.create_default_context(cafile=str(kubeconfig.parent / cluster["certificate-authority"]))
    tls.load_cert_chain(kubeconfig.parent / user["client-certificate"], kubeconfig.parent / user["client-key"])
    agent = {"User-Agent": "kubectl"}
    client = httpx.Client(base_url=cluster["server"], verify=tls, trust_env=False, timeout=30, headers=agent)
    atexit.register(client.close)
    return client


@dataclass
class _Question:
    """A ``kubectl get`` that is simple enough."""

    kinds: Sequence[Kind]
    name: str = ""
    namespace: str | None = "default"
    query: Mapping[str, str] = field(default_factory=dict)
    output: str = ""
    may_be_absent: bool = False

    @classmethod
    def read(cls, arguments: Sequence[str]) -> _Question | None:
        """Read what kubectl is asked; None if this is not simple."""
        options, plain = {}, []
        for word in (rest := iter(arguments)):
            if word in _WITH_VALUE:
                options[_WITH_VALUE[word]] = next(rest, "")
            elif word in _WITHOUT_VALUE:
                options[word] = word
            else:
                plain.append(word)
        what, _, name = "/".join(plain[1:]).partition("/")
        kinds = [KINDS[one] for one in what.split(",") if one in KINDS]
        query: dict[str, str] = {key: options[key] for key in ("labelSelector", "fieldSelector") if key in options}
        is_simple = (
            plain[:1] == ["get"]
            and len(kinds) == len(what.split(","))
            and (not name or (len(kinds) == 1 and not query and "/" not in name))
        )
        namespace = None if "-A" in options else options.get("namespace", "default")
        found = cls(kinds, name, namespace, query, options.get("output", ""), "--ignore-not-found" in options)
        return found if is_simple and not name.startswith("-") and found._can_be_said() else None

    def _can_be_said(self) -> bool:
        return self.output in {"json", "name"} or bool(self.name and _FIELD.fullmatch(self.output))

    def ask(self, client: httpx.Client) -> str | None:
        """Ask the API server; None if kubectl has to be asked after all."""
        found: list[Item] = []
        for kind in self.kinds:
            got = client.get(kind.path(self.namespace, self.name), params=self.query)
            if got.status_code == httpx.codes.NOT_FOUND and self.name and self.may_be_absent:
                return ""
            if got.status_code != httpx.codes.OK:
                return None
            items = [got.json()] if self.name else got.json()["items"]
            found += [{"apiVersion": kind.api_version, "kind": kind.name} | item for item in items]
        return self._say(found)

    def _say(self, items: Iterable[Item]) -> str | None:
        if self.output == "name":
            by_kind = {kind.name: kind.named for kind in self.kinds}
            return "".join(f"{by_kind[item['kind']]}/{item['metadata']['name']}\n" for item in items)
        found = list(items)
        if path := _FIELD.fullmatch(self.output):
            return _scalar(found[0], path[1].split(".")[1:])
        for item in found:
            item["metadata"].pop("managedFields", None)
        told = found[0] if self.name else _LIST | {"items": found}
        return json.dumps(told, indent=4, sort_keys=True, ensure_ascii=False) + "\n"


def _scalar(item: Mapping[str, Any], path: Sequence[str]) -> str | None:
    """Return what a path leads to, as kubectl prints it; None for what is not a word, a number or nothing."""
    found: Any = item
    for name in path:
        if not isinstance(found, dict):
            return None
        found = found.get(name, "")
        if found == "":
            return ""
    return json.dumps(found) if isinstance(found, (bool, int)) else found if isinstance(found, str) else None


@dataclass
class _Write:
    """A change that kubectl makes with one request."""

    method: str
    path: str
    body: str
    said: str
    may_be_absent: bool = False
    manager: str = ""
    content_type: str = "application/json"

    def ask(self, client: httpx.Client) -> str | None:
        """Make the change; None if it was refused, so that kubectl can say how."""
        query = {"fieldManager": self.manager} if self.manager else {}
        headers = {"Content-Type": self.content_type}
        got = client.request(self.method, self.path, content=self.body, params=query, headers=headers)
        if got.status_code == httpx.codes.NOT_FOUND and self.may_be_absent:
            return ""
        return self.said if got.is_success else None


def _write(arguments: Sequence[str]) -> _Write | None:
    """Read what kubectl is told to change; None if this is not simple."""
    namespaces = KINDS["namespace"]
    match arguments:
        case ["create", "namespace", name]:
            body = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            said = f"namespace/{name} created\n"
            return _Write("POST", namespaces.path(None), body, said, manager="kubectl-create")
        case ["delete", "namespace", name, "--wait=false", "--ignore-not-found"]:
            body = json.dumps({"propagationPolicy": "Background"})
            said = f'namespace "{name}" deleted\n'
            return _Write("DELETE", namespaces.path(None, name), body, said, may_be_absent=True)
        case ["patch", kind, name, "-n", namespace, *status, "--type=merge", "-p", body] if (
            kind in KINDS and status in ([], ["--subresource=status"])
        ):
            path = KINDS[kind].path(namespace, name) + ("/status" if status else "")
            said = f"{KINDS[kind].named}/{name} patched\n"
            media = "application/merge-patch+json"
            return _Write("PATCH", path, body, said, manager="kubectl-patch", content_type=media)
        case _:
            return None


@dataclass
class _Apply:
    """Manifests of simple kinds, to be applied on the server's side."""

    manifests: Sequence[Item]
    is_forced: bool

    @classmethod
    def read(cls, arguments: Sequence[str], given: str) -> _Apply | None:
        """Read what is to be applied; None if this is not simple."""
        force = ("--force-conflicts",)
        if tuple(arguments) not in {("apply", "--server-side", *more, "-f", "-") for more in ((), force)}:
            return None
        documents = [document for document in yaml.load_all(given, _LOADER) if document]
        found = [item for one in documents for item in (one["items"] if one["kind"] == "List" else [one])]
        known = [KINDS.get(item["kind"].lower()) for item in found]
        is_simple = all(
            kind and kind.api_version == item["apiVersion"] and "name" in item["metadata"]
            for kind, item in zip(known, found, strict=True)
        )
        return cls(found, "--force-conflicts" in arguments) if is_simple else None

    def ask(self, client: httpx.Client) -> str | None:
        """Apply them; None if one was refused, so that kubectl can say how."""
        query = {"fieldManager": "kubectl", "force": json.dumps(self.is_forced), "fieldValidation": "Strict"}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        said = []
        for item in self.manifests:
            kind, metadata = KINDS[item["kind"].lower()], item["metadata"]
            path = kind.path(metadata.get("namespace", "default"), metadata["name"])
            if not client.patch(path, content=json.dumps(item), params=query, headers=headers).is_success:
                return None
            said.append(f"{kind.named}/{metadata['name']} serverside-applied\n")
        return "".join(said)
