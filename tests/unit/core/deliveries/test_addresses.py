"""Which addresses a callback may be sent to."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from amber_ray.core.deliveries.addresses import read_networks, refusal
from amber_ray.errors import BadRequest

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "2a00:1450:4001::200e"]
INNER = {
    "this machine": ["127.0.0.1", "127.255.255.254", "::1"],
    "this network": ["0.0.0.0", "0.1.2.3"],
    "no address": ["::", "", "localhost", "127.1", "0177.0.0.1", "2130706433", "1.1.1.1 "],
    "a private network": [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "fd00:ec2::254",
        "fc00::1",
    ],
    "metadata": ["169.254.169.254", "169.254.170.2", "168.63.129.16"],
    "CGNAT": ["100.64.0.1", "100.100.100.200", "100.127.255.255"],
    "the local link": ["169.254.0.1", "fe80::1"],
    "one link": ["fe80::1%eth0", "2606:2800::1%1"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255"],
    "protocols": ["192.0.0.9", "192.0.0.192", "2001:2::1", "2001:20::1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:7f00:1"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1"],
    "6to4": ["2002:7f00:1::1", "192.88.99.1"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "ISATAP": ["2606:2800::5efe:127.0.0.1", "2606:2800::200:5efe:808:808"],
    "inside an IPv6": ["::127.0.0.1", "::ffff:0:7f00:1"],
    "not of the public internet": ["fec0::1", "100::1", "5f00::1", "4000::1", "8000::1"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_public_internet_may_be_called(address: str) -> None:
    assert refusal(address) == ""


@pytest.mark.parametrize(("why", "address"), [(why, each) for why, some in INNER.items() for each in some])
def test_any_other_is_refused_with_its_kind(why: str, address: str) -> None:
    assert why in refusal(address)


def test_an_operator_allows_networks_and_no_more_than_these() -> None:
    allowed = read_networks(["127.0.0.1", "10.1.0.0/16", "fd12::/16"])
    assert [refusal(a, allowed) for a in ("127.0.0.1", "10.1.2.3", "fd12::5")] == ["", "", ""]
    assert all(refusal(a, allowed) for a in ("127.0.0.2", "10.2.0.1", "::1", "::ffff:127.0.0.1", "fd13::1"))


@pytest.mark.parametrize("entry", ["", "localhost", "10.1.0.1/16", "10.0.0.0/33", "127.1"])
def test_what_is_no_network_is_refused(entry: str) -> None:
    with pytest.raises(BadRequest, match="callback_addresses must have addresses or networks"):
        read_networks([entry])


@given(st.ip_addresses())
@example(ipaddress.ip_address("192.0.0.10"))
def test_no_address_that_the_standard_library_calls_special_may_be_called(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_private:
        assert refusal(str(ip))


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_may_be_called_by_a_form_of_ipv6(ip: ipaddress.IPv4Address) -> None:
    number = int(ip)
    for prefix in ("::", "::ffff:0:0", "64:ff9b::", "64:ff9b:1::"):
        assert refusal(str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + number)))
    assert refusal(str(ipaddress.IPv6Address(0x2002 << 112 | number << 80 | 1)))
    assert refusal(str(ipaddress.IPv6Address(0x2001 << 112 | (number ^ 0xFFFFFFFF))))
