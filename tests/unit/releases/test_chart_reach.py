"""Which addresses charts may be fetched from."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from envprov.domain.errors import ChartRefused, ConfigError, Unavailable
from envprov.releases.reach import Reach

PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),  # noqa: S104 - refused
    *("100.64.0.1", "100.127.255.254", "169.254.0.1", "169.254.169.254", "168.63.129.16", "100.100.100.200"),
    *("192.0.0.192", "198.18.0.1", "203.0.113.5", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1"),
    *("::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:808:808:0:0:80ff:fffe"),
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "172.32.0.1",
    "2606:4700::1111",
    "64:ff9b::808:808",
    "2002:808:808::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not Reach().allows("charts.example.com", 443, ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_allowed(address: str) -> None:
    assert Reach().allows("charts.example.com", 443, ip_address(address))


@pytest.mark.parametrize(
    ("private", "host", "address", "allowed"),
    [
        pytest.param("10.0.0.0/8", "x", "10.1.2.3", True, id="its network"),
        pytest.param("10.0.0.0/8", "x", "11.1.2.3", True, id="a public one anyway"),
        pytest.param("10.0.0.0/8", "x", "192.168.1.1", False, id="another network"),
        pytest.param("10.0.0.0/8", "x", "::ffff:10.1.2.3", True, id="its network, written as IPv6"),
        pytest.param("fd00::/8", "x", "10.1.2.3", False, id="a network of the other kind"),
        pytest.param("charts.internal", "Charts.Internal.", "10.1.2.3", True, id="its host"),
        pytest.param("charts.internal", "charts.internal", "127.0.0.1", True, id="its host on this computer"),
        pytest.param("charts.internal:443", "charts.internal", "10.1.2.3", True, id="its host and port"),
        pytest.param("charts.internal:444", "charts.internal", "10.1.2.3", False, id="its host, another port"),
        pytest.param("charts.internal", "x.charts.internal", "10.1.2.3", False, id="a host below it"),
        pytest.param("charts.internal", "charts.internal", "169.254.169.254", False, id="never the metadata service"),
        pytest.param("charts.internal", "charts.internal", "fe80::1", False, id="nor a link-local address"),
        pytest.param("charts.internal", "charts.internal", "168.63.129.16", False, id="nor Azure's"),
        pytest.param("169.254.0.0/16", "x", "169.254.169.254", True, id="unless its network is allowed"),
        pytest.param("10.1.2.3", "x", "10.1.2.3", True, id="one address"),
        pytest.param("::1", "x", "::1", True, id="this computer, as IPv6"),
        pytest.param("[::1]:5000", "::1", "::1", False, id="another port of an address"),
        pytest.param("[::1]:443", "::1", "::1", True, id="an address and a port"),
    ],
)
def test_what_the_settings_name_is_allowed(private: str, host: str, address: str, *, allowed: bool) -> None:
    assert Reach.of(private=[private]).allows(host, 443, ip_address(address)) is allowed


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "10.0.0.0/33", "charts/internal"])
def test_a_network_that_is_none_is_told_at_the_door(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"is no network, such as 10\.0\.0\.0/8, and no host"):
        Reach.of(private=[wrong])


@pytest.mark.parametrize(
    ("host", "port", "plain"),
    [
        ("localhost", 80, True),
        ("127.0.0.1", 5000, True),
        ("::1", 5000, True),
        ("registry.internal", 5000, True),
        ("registry.internal", 80, False),
        ("mirror.internal", 80, True),
        ("localhost.example.com", 80, False),
    ],
)
def test_only_this_computer_and_named_hosts_go_without_tls(host: str, port: int, *, plain: bool) -> None:
    reach = Reach.of(plain_http=["registry.internal:5000", "Mirror.Internal"])

    assert reach.may_be_plain(host, port) is plain


def addresses(host: str, *private: str) -> list[str]:
    found = asyncio.run(Reach.of(private=private).addresses(host, 443))
    return [str(address) for address in found]


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "::1", "::ffff:7f00:1"])
def test_this_computer_is_found_out_however_it_is_written(host: str) -> None:
    with pytest.raises(ChartRefused, match=r"has the address (127\.0\.0\.1|::1|::ffff:127\.0\.0\.1|::ffff:7f00:1)"):
        addresses(host)


def answering(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    def look_up(*_: Any, **__: Any) -> list[Any]:  # noqa: ANN401 - as the library has it
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_of_several_addresses_only_those_that_may_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "10.0.0.1", "8.8.8.8", "fe80::1%eth0", "8.8.8.8", "169.254.169.254")

    assert addresses("charts.example.com") == ["8.8.8.8"]
    assert addresses("charts.example.com", "charts.example.com") == ["10.0.0.1", "8.8.8.8"]


def test_a_host_without_address_may_have_one_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: Any, **__: Any) -> list[Any]:  # noqa: ANN401 - as the library has it
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    with pytest.raises(Unavailable, match="host nowhere has no address"):
        addresses("nowhere")
