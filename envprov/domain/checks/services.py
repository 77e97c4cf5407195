"""Services and their like: ports and addresses that a chart takes from others, and traffic that it sends to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from envprov.domain.addresses import address, is_public, namespace_in
from envprov.domain.charted import Charted
from envprov.domain.checking import Given
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
RULES: tuple[Rule, ...] = (
    NODE_PORT,
    LOAD_BALANCER,
    LOAD_BALANCER_PORTS,
    PINNED_ADDRESS,
    EXTERNAL_IPS,
    EXTERNAL_NAME,
    HANDMADE_ENDPOINTS,
)

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
        "kubernetes.io/ingress.global-static-ip-name",
        "kubernetes.io/ingress.regional-static-ip-name",
    ]
)


def node_ports(given: Given) -> Iterator[Finding]:
    """Services that take a port of every node."""
    for item, spec in _services(given):
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
    wanted = [(item, spec) for item, spec in _services(given) if spec.get("type") == "LoadBalancer"]
    for number, (item, spec) in enumerate(wanted):
        if number >= size.load_balancers:
            message = f"is load balancer {number + 1} of the chart, and size {name} has {size.load_balancers}"
            yield LOAD_BALANCER.found(item.subject, "spec.type", message)
        elif spec.get("allocateLoadBalancerNodePorts") is not False:
            message = "is a load balancer that takes ports of every node, too"
            yield LOAD_BALANCER_PORTS.found(item.subject, "spec.allocateLoadBalancerNodePorts", message)


def addresses(given: Given) -> Iterator[Finding]:
    """Services that name their own address."""
    for item, spec in _services(given):
        if external := sequence(spec.get("externalIPs")):
            message = f"takes the traffic for {', '.join(map(str, external))} on every node"
            yield EXTERNAL_IPS.found(item.subject, "spec.externalIPs", message)
        if pinned := text(spec.get("loadBalancerIP")):
            yield PINNED_ADDRESS.found(item.subject, "spec.loadBalancerIP", f"wants the address {pinned} for itself")
        cluster = (text(spec.get("clusterIP")), *texts(spec.get("clusterIPs")))
        if pinned := next((one for one in cluster if one not in ("", "None")), ""):
            yield PINNED_ADDRESS.found(item.subject, "spec.clusterIP", f"wants the address {pinned} for itself")
    for item in given.items:
        for key in _annotations(item) if item.kind in ("Service", "Ingress") else ():
            if key in _PINNING:
                message = f"wants an address of its own by the annotation {key}"
                yield PINNED_ADDRESS.found(item.subject, f"metadata.annotations[{key}]", message)


def external_names(given: Given) -> Iterator[Finding]:
    """Services that stand for one of another namespace, or for an address: some ingress controllers send there."""
    home = given.desired.identity.namespace
    for item, spec in _services(given):
        name = text(spec.get("externalName")).rstrip(".").lower()
        if spec.get("type") != "ExternalName":
            continue
        namespace = namespace_in(name)
        if namespace and namespace != home:
            message = f"stands for {name}, of the namespace {namespace}"
            yield EXTERNAL_NAME.found(item.subject, "spec.externalName", message)
        elif not namespace and not is_public(name):
            what = name if address(name) else f"{name}, which is the ingress controller itself"
            yield HANDMADE_ENDPOINTS.found(item.subject, "spec.externalName", f"sends traffic to {what}")


def handmade_endpoints(given: Given) -> Iterator[Finding]:
    """Endpoints with private addresses: they may be the pods of anybody."""
    for item in given.items:
        if item.is_a("", "Endpoints"):
            found = [
                (f"subsets[{number}].addresses", text(one.get("ip")))
                for number, subset in enumerate(sequence(item.manifest.get("subsets")))
                for part in ("addresses", "notReadyAddresses")
                for one in mappings(mapping(subset).get(part))
            ]
        elif item.is_a("discovery.k8s.io", "EndpointSlice"):
            found = [
                (f"endpoints[{number}].addresses", one)
                for number, endpoint in enumerate(sequence(item.manifest.get("endpoints")))
                for one in texts(mapping(endpoint).get("addresses"))
            ]
        else:
            continue
        for field, target in found:
            if not is_public(target):
                message = f"sends traffic to {target}, wherever that is"
                yield HANDMADE_ENDPOINTS.found(item.subject, field, message)
                break


CHECKS = (
    node_ports,
    load_balancers,
    addresses,
    external_names,
    handmade_endpoints,
)


def _services(given: Given) -> Iterator[tuple[Charted, Mapping[str, Any]]]:
    return ((item, mapping(item.manifest.get("spec"))) for item in given.items if item.is_a("", "Service"))


def _annotations(item: Charted) -> Mapping[str, Any]:
    given = within(item.manifest, "metadata", "annotations")
    return {text(key): value for key, value in given.items()}
