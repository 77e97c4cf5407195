"""What a chart takes outside its namespace by objects inside it: volumes, nodes, priority, what controllers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from envprov.domain.addresses import namespace_in
from envprov.domain.charted import Charted, PodTemplate
from envprov.domain.checking import Given
from envprov.domain.checks import pod_rules, pod_security
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import mapping, mappings, sequence, text, texts, within

PINNED_VOLUME = Rule(
    "PinnedVolume",
    Severity.ERROR,
    "PersistentVolumes belong to the whole cluster: a claim that chooses one takes it from whoever else wants it, with "
    "the data that is on it, and only one branch can have it.",
    "remove the field, and let the StorageClass make a volume",
)
FOREIGN_REFERENCE = Rule(
    "ForeignReference",
    Severity.ERROR,
    "The object makes a controller read or write in another namespace on its behalf.",
    "refer to what is in the environment's own namespace",
)
SNIPPET = Rule(
    "IngressSnippet",
    Severity.ERROR,
    "A snippet is put as it is into the configuration of the ingress controller, which all branches share and which "
    "can read the Secrets of all namespaces (CVE-2021-25742).",
    "use the annotations that the ingress controller has for the purpose",
)
PINNED_NODE = Rule(
    "PinnedNode",
    Severity.ERROR,
    "A pod with a `nodeName` passes the scheduler by: no taint keeps it away, and it takes what others have there.",
    "remove nodeName; to choose among nodes, use nodeSelector or affinity",
)
CONTROL_PLANE = Rule(
    "ControlPlaneNode",
    Severity.WARNING,
    "The pod asks for, or tolerates, nodes that are kept free of ordinary pods, such as those of the control plane.",
    "tolerate only the taints that are meant for it, and choose nodes by labels of their own",
)
SYSTEM_PRIORITY = Rule(
    "SystemPriority",
    Severity.ERROR,
    "The priorities of the system evict the pods of everybody else, in all namespaces.",
    "remove priorityClassName",
)
EVERY_NODE = Rule(
    "PodOnEveryNode",
    Severity.WARNING,
    "A DaemonSet runs a pod on every node, for every branch: it grows with the cluster, and its pods come out of the "
    "size.",
    "use a Deployment, or have the DaemonSet installed once for the cluster",
)
RULES: tuple[Rule, ...] = (
    PINNED_VOLUME,
    FOREIGN_REFERENCE,
    SNIPPET,
    PINNED_NODE,
    CONTROL_PLANE,
    SYSTEM_PRIORITY,
    EVERY_NODE,
)

_ON_THE_NODE = frozenset({pod_rules.HOST_NAMESPACES, pod_rules.HOST_PATH, pod_rules.HOST_PORT})
_SECRET_ANNOTATIONS = frozenset(
    {
        "auth-proxy-set-headers",
        "auth-secret",
        "auth-tls-secret",
        "custom-headers",
        "fastcgi-params-configmap",
        "proxy-ssl-secret",
    }
)
"""Of ingress-nginx: they name a Secret or ConfigMap as ``namespace/name``."""
_TARGETS: Mapping[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("helm.toolkit.fluxcd.io", "HelmRelease"): (
        ("spec", "targetNamespace"),
        ("spec", "storageNamespace"),
        ("spec", "chart", "spec", "sourceRef", "namespace"),
    ),
    ("kustomize.toolkit.fluxcd.io", "Kustomization"): (("spec", "targetNamespace"), ("spec", "sourceRef", "namespace")),
    ("argoproj.io", "Application"): (("spec", "destination", "namespace"),),
}
"""Fields by which an object has something done in another namespace."""
_CONTROL_PLANE = frozenset({"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"})


# --- Volumes and references


def pinned_volumes(given: Given) -> Iterator[Finding]:
    """Claims that choose a volume that is there already, or whose content is that of another namespace."""
    for item, path, spec in _claims(given):
        for field in ("volumeName", "selector"):
            if spec.get(field):
                what = f"the volume {spec[field]}" if field == "volumeName" else "a volume by its labels"
                yield PINNED_VOLUME.found(item.subject, f"{path}.{field}", f"claims {what}")
        named = text(within(spec, "dataSourceRef").get("namespace"))
        if named and named != given.desired.identity.namespace:
            message = f"reaches into the namespace {named}"
            yield FOREIGN_REFERENCE.found(item.subject, f"{path}.dataSourceRef.namespace", message)


def foreign_references(given: Given) -> Iterator[Finding]:
    """Objects that have something done in another namespace."""
    home = given.desired.identity.namespace
    for item in given.items:
        for path in _TARGETS.get((item.group, item.kind), ()):
            named = text(within(item.manifest, *path[:-1]).get(path[-1]))
            if named and named != home:
                message = f"reaches into the namespace {named}"
                yield FOREIGN_REFERENCE.found(item.subject, ".".join(path), message)
        if item.is_a("networking.k8s.io", "Ingress"):
            for key, value in _annotations(item).items():
                named, slash, _ = text(value).partition("/")
                if key.partition("/")[2] in _SECRET_ANNOTATIONS and slash and named != home:
                    field, message = f"metadata.annotations[{key}]", f"refers to {value}, of the namespace {named}"
                    yield FOREIGN_REFERENCE.found(item.subject, field, message)


def snippets(given: Given) -> Iterator[Finding]:
    """Ingresses, and Services for HAProxy, that write the configuration of the ingress controller."""
    for item in given.items:
        if item.kind in ("Ingress", "VirtualServer", "Service"):
            for key in _annotations(item):
                if _is_snippet(*key.partition("/")[::2]):
                    message = f"writes configuration of the ingress controller by the annotation {key}"
                    yield SNIPPET.found(item.subject, f"metadata.annotations[{key}]", message)


def mesh(given: Given) -> Iterator[Finding]:
    """Rules of Istio for Services of other namespaces: the whole mesh obeys them."""
    home = given.desired.identity.namespace
    for kind in ("VirtualService", "DestinationRule"):
        for item, spec in _specs(given, "networking.istio.io", kind):
            field = "hosts" if kind == "VirtualService" else "host"
            named = texts(spec.get(field)) if field == "hosts" else (text(spec.get(field)),)
            if set(texts(spec.get("exportTo"))) in ({"."}, {home}):
                continue  # they hold in the environment alone
            others = sorted({namespace for host in named if (namespace := namespace_in(host)) not in ("", home)})
            if others:
                message = f"decides about traffic to the namespace {' and '.join(others)}, for the whole mesh"
                yield FOREIGN_REFERENCE.found(item.subject, f"spec.{field}", message, 'set spec.exportTo to ["."]')


# --- Pods


def shared_nodes(given: Given) -> Iterator[Finding]:
    """What is the node's, where Pod Security leaves it open."""
    security = given.desired.platform.pod_security
    if security.enforce != "privileged":
        return
    for template in given.pods:
        for found in pod_security.violations(template, pod_security.BASELINE, security.version):
            if found.rule in _ON_THE_NODE:
                message = f"{found.message}, which all pods of that node share"
                yield found.rule.found(template.owner.subject, found.field, message, found.remedy)


def scheduling(given: Given) -> Iterator[Finding]:
    """Pods that choose a node, or go where ordinary pods do not."""
    for template in given.pods:
        subject, path, spec = template.owner.subject, template.path, template.spec
        if node := text(spec.get("nodeName")):
            yield PINNED_NODE.found(subject, f"{path}.nodeName", f"the pod is put on the node {node}")
        for number, toleration in enumerate(mappings(spec.get("tolerations"))):
            key = text(toleration.get("key"))
            if key in _CONTROL_PLANE or (not key and toleration.get("operator") == "Exists"):
                message = f"the pod tolerates {f'the taint {key}' if key else 'every taint of every node'}"
                yield CONTROL_PLANE.found(subject, f"{path}.tolerations[{number}]", message)
        for field, key in _wanted_labels(template):
            if key in _CONTROL_PLANE:
                yield CONTROL_PLANE.found(subject, field, f"the pod asks for nodes with the label {key}")
        if text(spec.get("priorityClassName")).startswith("system-"):
            message = f"the pod has the priority {spec['priorityClassName']}"
            yield SYSTEM_PRIORITY.found(subject, f"{path}.priorityClassName", message)


def every_node(given: Given) -> Iterator[Finding]:
    """DaemonSets."""
    for item in given.items:
        if item.is_a("apps", "DaemonSet"):
            yield EVERY_NODE.found(item.subject, "", "runs a pod on every node of the cluster")


CHECKS = (
    pinned_volumes,
    foreign_references,
    snippets,
    mesh,
    shared_nodes,
    scheduling,
    every_node,
)


def _is_snippet(domain: str, name: str) -> bool:
    """Whether an annotation is text for nginx or HAProxy."""
    if domain in ("haproxy-ingress.github.io", "ingress.kubernetes.io") and name.startswith("config-"):
        return True
    is_of_controller = domain in ("nginx.org", "haproxy.org") or domain.endswith("ingress.kubernetes.io")
    return is_of_controller and name.endswith(("-snippet", "-snippets"))


def _specs(given: Given, group: str, kind: str) -> Iterator[tuple[Charted, Mapping[str, Any]]]:
    return ((item, mapping(item.manifest.get("spec"))) for item in given.items if item.is_a(group, kind))


def _annotations(item: Charted) -> Mapping[str, Any]:
    given = within(item.manifest, "metadata", "annotations")
    return {text(key): value for key, value in given.items()}


def _claims(given: Given) -> Iterator[tuple[Charted, str, Mapping[str, Any]]]:
    """The spec of every claim that the chart makes, by itself, for a StatefulSet or for a pod, with its path."""
    for item, spec in _specs(given, "", "PersistentVolumeClaim"):
        yield item, "spec", spec
    for item, spec in _specs(given, "apps", "StatefulSet"):
        for number, claim in enumerate(sequence(spec.get("volumeClaimTemplates"))):
            yield item, f"spec.volumeClaimTemplates[{number}].spec", within(claim, "spec")
    for template in given.pods:
        for number, volume in enumerate(sequence(template.spec.get("volumes"))):
            path = f"{template.path}.volumes[{number}].ephemeral.volumeClaimTemplate.spec"
            yield template.owner, path, within(volume, "ephemeral", "volumeClaimTemplate", "spec")


def _wanted_labels(template: PodTemplate) -> Iterator[tuple[str, str]]:
    """Labels of nodes that a pod asks for, with the field in which it does."""
    for key in mapping(template.spec.get("nodeSelector")):
        yield f"{template.path}.nodeSelector", text(key)
    required = within(template.spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    for term in mappings(required.get("nodeSelectorTerms")):
        for expression in mappings(term.get("matchExpressions")):
            if expression.get("operator") in ("In", "Exists"):
                yield f"{template.path}.affinity.nodeAffinity", text(expression.get("key"))
