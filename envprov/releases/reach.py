"""
Which addresses a chart may be fetched from: public ones, and private ones that the settings name.

A Project's chart address, and every redirect from there, is followed with the controller's network position. Without
this a chart repository could have it read the cloud's metadata service, or speak to the databases beside it.

Source: https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.rfc-editor.org/rfc/rfc6890
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from envprov.domain.errors import ChartRefused, ConfigError, Unavailable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

RESOLVE_SECONDS = 10.0

_METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"))
)
"""Of the clouds; one of them is a public address."""
_LOCAL = (ip_network("fec0::/10"), ip_network("64:ff9b:1::/48"))
"""IPv6 networks of somebody's own, which Python takes for public ones."""
_EMBEDDING = (
    (ip_network("64:ff9b::/96"), 0),
    (ip_network("::/96"), 0),
    (ip_network("2002::/16"), 80),
)
"""IPv6 networks whose addresses stand for an IPv4 address, and how far from the right that stands."""


@dataclass(frozen=True)
class Reach:
    """
    Where charts may come from.

    Attributes:
        plain_http: Hosts (``host`` or ``host:port``) that may be spoken to without TLS; loopback always may.
        hosts: Hosts (``host`` or ``host:port``) that may have private addresses.
        networks: Networks whose addresses may be spoken to, whatever they are.

    """

    plain_http: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = field(default=())

    @classmethod
    def of(cls, *, plain_http: Iterable[str] = (), private: Iterable[str] = ()) -> Reach:
        """
        Read the settings.

        Args:
            plain_http: Hosts without TLS.
            private: Hosts that may have private addresses, and networks such as ``10.0.0.0/8``.

        Raises:
            ConfigError: What has a slash is no network.

        """
        hosts, networks = set[str](), list[Network]()
        for each in private:
            try:
                networks.append(ip_network(each))
            except ValueError:
                if "/" in each:
                    raise ConfigError(f"{each!r} is no network, such as 10.0.0.0/8, and no host") from None
                hosts.add(each.lower())
        return cls(frozenset(each.lower() for each in plain_http), frozenset(hosts), tuple(networks))

    def may_be_plain(self, host: str, port: int) -> bool:
        """Whether a host may be spoken to without TLS."""
        return is_loopback(host) or not self.plain_http.isdisjoint(_spellings(host, port))

    def allows(self, host: str, port: int, address: Address) -> bool:
        """
        Whether an address may be spoken to.

        Args:
            host: The name that it was found by, or the address itself.
            port: The port.
            address: The address.

        """
        meant = _meant(address)
        if any(meant in network for network in self.networks if network.version == meant.version):
            return True
        if meant in _METADATA or meant.is_link_local or meant.is_multicast or meant.is_unspecified:
            return False
        is_public = meant.is_global and not any(meant in network for network in _LOCAL)
        return is_public or not self.hosts.isdisjoint(_spellings(host, port))

    async def addresses(self, host: str, port: int) -> tuple[Address, ...]:
        """
        The addresses of a host that may be spoken to: whoever connects must use these, and not look again.

        Args:
            host: A name or an address, in any notation.
            port: The port.

        Raises:
            ChartRefused: It has none that may.
            Unavailable: It has none at all.

        """
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            raise Unavailable(f"host {host} has no address, as far as can be seen from here") from None
        all_found = tuple(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
        allowed = tuple(address for address in all_found if self.allows(host, port, address))
        if not allowed:
            raise ChartRefused(
                f"host {host} has the address {all_found[0]}, which is not public, and charts are not fetched from "
                "there; if it is right, platform people allow the host or its network in the settings"
            )
        return allowed


def is_loopback(host: str) -> bool:
    """Whether a host is this computer, by the way it is written."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _spellings(host: str, port: int) -> frozenset[str]:
    name = host.lower().removesuffix(".")
    bracketed = f"[{name}]" if ":" in name else name
    return frozenset({name, f"{bracketed}:{port}"})


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.is_loopback or address.is_unspecified:
        return address
    for network, shift in _EMBEDDING:
        if address in network:
            return IPv4Address((int(address) >> shift) & 0xFFFF_FFFF)
    return address
