"""IP addresses and names of Services as Kubernetes reads them: which of them may be somebody else's in the cluster."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_SELF = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_KINDS = frozenset({"svc", "pod"})
_SHORT = 2
"""Labels of a name such as ``web.shop``, which search domains complete."""


def address(written: str) -> IPv4Address | IPv6Address | None:
    """
    An address, or None if it is none.

    The API server takes ``010.0.0.1`` for 10.0.0.1: ParseIPSloppy of k8s.io/utils.
    """
    try:
        return ip_address(_strict(written))
    except ValueError:
        return None


def network(written: str) -> IPv4Network | IPv6Network | None:
    """A network in the notation with a slash, whatever its host bits, or None if it is none."""
    host, slash, length = written.partition("/")
    try:
        return ip_network(f"{_strict(host)}{slash}{length}", strict=False)
    except ValueError:
        return None


def is_public(written: str) -> bool:
    """Whether an address, or a name, is one of the internet; a name that is none of the cluster counts as one."""
    found = address(written)
    if found is not None:
        return found.is_global
    return written.lower().rstrip(".") not in _SELF and not namespace_in(written)


def namespace_in(name: str) -> str:
    """
    The namespace in the DNS name of a Service or pod of the cluster.

    Args:
        name: ``web.shop.svc.cluster.local`` or a shorter form. What ends as no domain of the internet does is taken for
            a namespace, too: a resolver in a pod completes it.

    Returns:
        Empty for any other name.

    """
    labels = name.lower().rstrip(".").split(".")
    if len(labels) > _SHORT and labels[2] in _KINDS:
        return labels[1]
    last = labels[-1]
    is_no_domain = last == "default" or ("-" in last and not last.startswith("xn--"))
    return last if len(labels) == _SHORT and is_no_domain else ""


def _strict(written: str) -> str:
    parts = written.split(".")
    return ".".join(part.lstrip("0") or "0" for part in parts) if all(map(str.isdigit, parts)) else written
