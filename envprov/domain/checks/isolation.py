"""NetworkPolicies of a chart: they add up, so one that allows more than the platform opens what it has closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from envprov.domain.addresses import network
from envprov.domain.checking import Given
from envprov.domain.desired import Desired
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import mapping, mappings, sequence, text, texts, within
from envprov.domain.objects import PRIVATE_V4, PRIVATE_V6

OPENS_EGRESS = Rule(
    "OpensEgress",
    Severity.ERROR,
    "What several NetworkPolicies allow adds up. The environment may reach itself, the cluster's DNS, the shared "
    "namespaces of the platform and, if the platform says so, public addresses; this policy opens more: other "
    "environments, private networks, or the metadata service of the cloud at 169.254.169.254.",
    "allow only podSelector peers and public addresses, or switch the chart's NetworkPolicy off (in most charts by the "
    "value networkPolicy.enabled=false): envprov has its own; what all environments need belongs into the platform's "
    "shared namespaces",
)
OPENS_INGRESS = Rule(
    "OpensIngress",
    Severity.ERROR,
    "What several NetworkPolicies allow adds up. An environment is reached by its own pods and by the ingress "
    "controllers of the platform; this policy lets in the pods of all namespaces.",
    "name who may come in: a podSelector for the environment's own pods; or switch the chart's NetworkPolicy off (in "
    "most charts by the value networkPolicy.enabled=false): envprov has its own",
)
ADMITS_NAMESPACE = Rule(
    "AdmitsNamespace",
    Severity.WARNING,
    "The policy lets in pods of a certain other namespace, or of private addresses, whom the platform does not know "
    "of.",
    "make sure that they are meant, for every branch",
)
RULES: tuple[Rule, ...] = (OPENS_EGRESS, OPENS_INGRESS, ADMITS_NAMESPACE)

_Network = IPv4Network | IPv6Network
_NAME = "kubernetes.io/metadata.name"
_DNS = 53
_PRIVATE: tuple[_Network, ...] = tuple(ip_network(given) for given in (*PRIVATE_V4, *PRIVATE_V6))


def network_policies(given: Given) -> Iterator[Finding]:
    """Policies that allow more than the platform does."""
    for item in given.items:
        if not item.is_a("networking.k8s.io", "NetworkPolicy"):
            continue
        spec = mapping(item.manifest.get("spec"))
        for number, rule in enumerate(sequence(spec.get("egress"))):
            if wide := _opens(mapping(rule), given.desired):
                field, what = wide
                path = f"spec.egress[{number}]{field}"
                yield OPENS_EGRESS.found(item.subject, path, f"lets the environment reach {what}")
        for number, rule in enumerate(sequence(spec.get("ingress"))):
            for broken, field, who in _admits(mapping(rule), given.desired):
                yield broken.found(item.subject, f"spec.ingress[{number}]{field}", f"lets in {who}")


CHECKS = (network_policies,)


def _opens(rule: Mapping[str, Any], desired: Desired) -> tuple[str, str] | None:
    ports = [mapping(port) for port in sequence(rule.get("ports"))]
    if ports and all(port.get("port") == _DNS and port.get("endPort") in (None, _DNS) for port in ports):
        return None  # names are resolved outside in any case
    peers = sequence(rule.get("to"))
    if not peers:
        return "", "every address and every namespace"
    reached = (_reaches(mapping(peer), desired) for peer in peers)
    return next(((f".to[{number}]{wide[0]}", wide[1]) for number, wide in enumerate(reached) if wide), None)


def _reaches(peer: Mapping[str, Any], desired: Desired) -> tuple[str, str] | None:
    network = desired.platform.network
    if peer.get("namespaceSelector") is not None:
        if (named := _named(peer)) is None:
            return ".namespaceSelector", "the pods of other namespaces"
        others = sorted({*named} - {desired.identity.namespace, *network.shared_namespaces})
        return (".namespaceSelector", f"the namespace {' and '.join(others)}") if others else None
    block = mapping(peer.get("ipBlock"))
    if block and network.profile == "isolated":
        return ".ipBlock", f"{block.get('cidr')}, and the platform isolates environments"
    if private := _private_in(block):
        return ".ipBlock", f"private addresses ({private}) by {block.get('cidr')}"
    return None


def _admits(rule: Mapping[str, Any], desired: Desired) -> Iterator[tuple[Rule, str, str]]:
    peers = sequence(rule.get("from"))
    if not peers:
        yield OPENS_INGRESS, "", "everybody, from every namespace"
        return
    network = desired.platform.network
    known = {desired.identity.namespace, *network.ingress_namespaces, *network.shared_namespaces}
    for number, peer in enumerate(map(mapping, peers)):
        field = f".from[{number}]"
        if peer.get("namespaceSelector") is not None:
            named = _named(peer)
            if named is None and not _selects(peer["namespaceSelector"]):
                yield OPENS_INGRESS, f"{field}.namespaceSelector", "the pods of all namespaces"
            elif named is None:
                yield ADMITS_NAMESPACE, f"{field}.namespaceSelector", "the pods of namespaces by their labels"
            elif others := sorted(set(named) - known):
                yield ADMITS_NAMESPACE, f"{field}.namespaceSelector", f"pods of the namespace {' and '.join(others)}"
        elif private := _private_in(block := mapping(peer.get("ipBlock"))):
            is_all = text(block.get("cidr")).endswith("/0") or private in (*PRIVATE_V4, *PRIVATE_V6)
            yield OPENS_INGRESS if is_all else ADMITS_NAMESPACE, f"{field}.ipBlock", f"private addresses ({private})"


def _named(peer: Mapping[str, Any]) -> Sequence[str] | None:
    """The namespaces that a peer selects by name, or None if it selects them by anything else."""
    selector = peer.get("namespaceSelector")
    if name := text(within(selector, "matchLabels").get(_NAME)):
        return (name,)
    for expression in mappings(mapping(selector).get("matchExpressions")):
        if expression.get("key") == _NAME and expression.get("operator") == "In":
            return texts(expression.get("values"))
    return None


def _selects(selector: object) -> bool:
    """Whether a selector asks for anything that only some namespaces have."""
    given = mapping(selector)
    asks = [row for row in mappings(given.get("matchExpressions")) if row.get("operator") in ("In", "Exists")]
    return bool(mapping(given.get("matchLabels")) or asks)


def _private_in(block: Mapping[str, Any]) -> str:
    """A private network, or a part of one, that a block holds and does not except; empty if it holds none."""
    whole = network(text(block.get("cidr")))
    if whole is None:
        return ""
    excepted = [found for given in texts(block.get("except")) if (found := network(given))]
    for private in _PRIVATE:
        if private.version != whole.version or not whole.overlaps(private):
            continue
        shared = private if _holds(whole, private) else whole
        if not any(_holds(one, shared) for one in excepted):
            return str(shared)
    return ""


def _holds(outer: _Network, inner: _Network) -> bool:
    if isinstance(outer, IPv4Network) and isinstance(inner, IPv4Network):
        return inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and isinstance(inner, IPv6Network) and inner.subnet_of(outer)
