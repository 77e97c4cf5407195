"""What a chart takes outside its namespace by objects inside it: node ports, addresses, volumes, nodes and priority."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from envprov.domain.charted import Charted, PodTemplate
from envprov.domain.checking import Given
from envprov.domain.checks import pod_rules, pod_security
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import mapping, mappings, sequence, text, texts, within

NODE_PORT = Rule(
    "NodePort",
    Severity.ERROR,
    "A node port is one for the whole cluster, and open on every node past the NetworkPolicies. No size has any.",
    "use type ClusterIP, and an Ingress for what is to be reached from outside",
)
LOAD_BALANCER = Rule(
    "LoadBalancer",
    Severity.ERROR,
    "Load balancers cost money and addresses; a size says how many an environment may have, by default none.",
    "use type ClusterIP with an Ingress, or a size with load_balancers",
)
LOAD_BALANCER_PORTS = Rule(
    "LoadBalancerNodePorts",
    Severity.ERROR,
    "A load balancer also takes node ports unless it is told not to, and the quota has none.",
    "set spec.allocateLoadBalancerNodePorts: false",
)
PINNED_ADDRESS = Rule(
    "PinnedAddress",
    Severity.ERROR,
    "An address that the chart names is the same for every branch: only one of them can have it.",
    "leave the address to the cluster",
)
EXTERNAL_IPS = Rule(
    "ExternalIPs",
    Severity.ERROR,
    "`externalIPs` makes every node take traffic for these addresses, whoever they belong to, and no quota limits them "
    "(CVE-2020-8554).",
    "remove spec.externalIPs",
)
EXTERNAL_NAME = Rule(
    "ExternalName",
    Severity.WARNING,
    "The Service stands for one of another namespace. What the environment's own pods send there is subject to the "
    "NetworkPolicies; an ingress controller, which proxies to it, is not.",
    "let the application use the other name itself, and ask for the namespace to be among the shared ones of the "
    "platform",
)
HANDMADE_ENDPOINTS = Rule(
    "HandmadeEndpoints",
    Severity.ERROR,
    "Endpoints that are written by hand make a Service of any private address: an ingress controller then serves the "
    "pods of another environment past every NetworkPolicy (CVE-2021-25740).",
    "give the Service a selector; for a server outside the cluster, use its name or public address",
)
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
    NODE_PORT,
    LOAD_BALANCER,
    LOAD_BALANCER_PORTS,
    PINNED_ADDRESS,
    EXTERNAL_IPS,
    EXTERNAL_NAME,
    HANDMADE_ENDPOINTS,
    PINNED_VOLUME,
    FOREIGN_REFERENCE,
    SNIPPET,
    PINNED_NODE,
    CONTROL_PLANE,
    SYSTEM_PRIORITY,
    EVERY_NODE,
)

_ON_THE_NODE = frozenset({pod_rules.HOST_NAMESPACES, pod_rules.HOST_PATH, pod_rules.HOST_PORT})
_PINNING = frozenset(
    [
        "metallb.universe.tf/loadBalancerIPs",
        "metallb.io/loadBalancerIPs",
        "metallb.universe.tf/allow-shared-ip",
        "metallb.io/allow-shared-ip",
        "kube-vip.io/loadbalancerIPs",
        "io.cilium/lb-ipam-ips",
        "lbipam.cilium.io/ips",
        "lbipam.cilium.io/sharing-key",
        "io.cilium/lb-ipam-sharing-key",
        "purelb.io/addresses",
        "service.beta.kubernetes.io/aws-load-balancer-eip-allocations",
        "service.beta.kubernetes.io/aws-load-balancer-private-ipv4-addresses",
        "service.beta.kubernetes.io/aws-load-balancer-ipv6-addresses",
        "service.beta.kubernetes.io/azure-load-balancer-ipv4",
        "service.beta.kubernetes.io/azure-load-balancer-ipv6",
        "service.beta.kubernetes.io/azure-pip-name",
        "networking.gke.io/load-balancer-ip-addresses",
        "loadbalancer.openstack.org/load-balancer-id",
        "kubernetes.digitalocean.com/load-balancer-id",
        "service.beta.kubernetes.io/oci-load-balancer-reserved-ips",
    ]
)
_SECRET_ANNOTATIONS = frozenset({"auth-secret", "auth-tls-secret", "proxy-ssl-secret", "auth-proxy-set-headers"})
"""Of ingress-nginx: they name a Secret or ConfigMap as ``namespace/name``."""
_TARGETS: Mapping[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("helm.toolkit.fluxcd.io", "HelmRelease"): (
        ("spec", "targetNamespace"),
        ("spec", "storageNamespace"),
        ("spec", "chart", "spec", "sourceRef", "namespace"),
    ),
    ("kustomize.toolkit.fluxcd.io", "Kustomization"): (("spec", "targetNamespace"), ("spec", "sourceRef", "namespace")),
    ("argoproj.io", "Application"): (("spec", "destination", "namespace"),),
    ("", "PersistentVolumeClaim"): (("spec", "dataSourceRef", "namespace"),),
}
"""Fields by which an object has something done in another namespace."""
_CONTROL_PLANE = frozenset({"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"})


# --- Services


def node_ports(given: Given) -> Iterator[Finding]:
    """Services that take a port of every node."""
    for item, spec in _specs(given, "", "Service"):
        if spec.get("type") == "NodePort":
            yield NODE_PORT.found(item.subject, "spec.type", "takes a port of every node of the cluster")
            continue
        for number, port in enumerate(sequence(spec.get("ports"))):
            if wanted := mapping(port).get("nodePort"):
                field = f"spec.ports[{number}].nodePort"
                yield NODE_PORT.found(item.subject, field, f"takes the port {wanted} of every node", f"remove {field}")
        if wanted := spec.get("healthCheckNodePort"):
            message = f"takes the port {wanted} of every node for health checks"
            yield NODE_PORT.found(item.subject, "spec.healthCheckNodePort", message, "remove spec.healthCheckNodePort")


def load_balancers(given: Given) -> Iterator[Finding]:
    """Load balancers beyond the size, and those that take node ports."""
    size, name = given.desired.size, given.desired.size_name
    wanted = [(item, spec) for item, spec in _specs(given, "", "Service") if spec.get("type") == "LoadBalancer"]
    for number, (item, spec) in enumerate(wanted):
        if number >= size.load_balancers:
            message = f"is load balancer {number + 1} of the chart, and size {name} has {size.load_balancers}"
            yield LOAD_BALANCER.found(item.subject, "spec.type", message)
        elif spec.get("allocateLoadBalancerNodePorts") is not False:
            message = "is a load balancer that takes ports of every node, too"
            yield LOAD_BALANCER_PORTS.found(item.subject, "spec.allocateLoadBalancerNodePorts", message)


def addresses(given: Given) -> Iterator[Finding]:
    """Services that name their own address."""
    for item, spec in _specs(given, "", "Service"):
        if external := sequence(spec.get("externalIPs")):
            message = f"takes the traffic for {', '.join(map(str, external))} on every node"
            yield EXTERNAL_IPS.found(item.subject, "spec.externalIPs", message)
        if address := text(spec.get("loadBalancerIP")):
            yield PINNED_ADDRESS.found(item.subject, "spec.loadBalancerIP", f"wants the address {address} for itself")
        cluster = (text(spec.get("clusterIP")), *texts(spec.get("clusterIPs")))
        if address := next((one for one in cluster if one not in ("", "None")), ""):
            yield PINNED_ADDRESS.found(item.subject, "spec.clusterIP", f"wants the address {address} for itself")
        for key in _annotations(item):
            if key in _PINNING:
                message = f"wants an address of its own by the annotation {key}"
                yield PINNED_ADDRESS.found(item.subject, f"metadata.annotations[{key}]", message)


def external_names(given: Given) -> Iterator[Finding]:
    """Services that stand for one of another namespace."""
    home = given.desired.identity.namespace
    for item, spec in _specs(given, "", "Service"):
        name = text(spec.get("externalName")).rstrip(".").lower()
        parts = name.split(".")
        if spec.get("type") == "ExternalName" and len(parts) > 2 and parts[2] == "svc" and parts[1] != home:  # noqa: PLR2004 - name.namespace.svc
            message = f"stands for {name}, of the namespace {parts[1]}"
            yield EXTERNAL_NAME.found(item.subject, "spec.externalName", message)


def handmade_endpoints(given: Given) -> Iterator[Finding]:
    """Endpoints with private addresses: they may be the pods of anybody."""
    for item in given.items:
        if item.is_a("", "Endpoints"):
            found = [
                (f"subsets[{number}].addresses", text(address.get("ip")))
                for number, subset in enumerate(sequence(item.manifest.get("subsets")))
                for part in ("addresses", "notReadyAddresses")
                for address in mappings(mapping(subset).get(part))
            ]
        elif item.is_a("discovery.k8s.io", "EndpointSlice"):
            found = [
                (f"endpoints[{number}].addresses", address)
                for number, endpoint in enumerate(sequence(item.manifest.get("endpoints")))
                for address in texts(mapping(endpoint).get("addresses"))
            ]
        else:
            continue
        for field, address in found:
            if not _is_public(address):
                message = f"sends traffic to {address}, wherever that is"
                yield HANDMADE_ENDPOINTS.found(item.subject, field, message)
                break


# --- Volumes and references


def pinned_volumes(given: Given) -> Iterator[Finding]:
    """Claims that choose a volume that is there already."""
    for item, path, spec in _claims(given):
        for field in ("volumeName", "selector"):
            if spec.get(field):
                what = f"the volume {spec[field]}" if field == "volumeName" else "a volume by its labels"
                yield PINNED_VOLUME.found(item.subject, f"{path}.{field}", f"claims {what}")


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
    """Ingresses that write the configuration of the ingress controller."""
    for item in given.items:
        if item.kind in ("Ingress", "VirtualServer"):
            for key in _annotations(item):
                domain, _, name = key.partition("/")
                is_nginx = domain == "nginx.org" or domain.endswith("ingress.kubernetes.io")
                if is_nginx and name.endswith(("-snippet", "-snippets")):
                    message = f"writes configuration of the ingress controller by the annotation {key}"
                    yield SNIPPET.found(item.subject, f"metadata.annotations[{key}]", message)


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
    node_ports,
    load_balancers,
    addresses,
    external_names,
    handmade_endpoints,
    pinned_volumes,
    foreign_references,
    snippets,
    shared_nodes,
    scheduling,
    every_node,
)


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


def _is_public(address: str) -> bool:
    """Whether an address is one of the internet; a host name counts as one, too."""
    try:
        return ip_address(address).is_global
    except ValueError:
        return True
