"""Which addresses a callback may be sent to: those of the public internet, and what an operator allows.

A name that an operator trusts may lead anywhere once its owner, or whoever answers for it, says so: to this
machine, to the network behind the firewall, to the metadata service of a cloud. So each address is judged at
each call, and the one that was judged is the one connected to (`fabric.adapter.sender`).

Sources: the registries of special-purpose addresses (RFC 6890 and IANA's lists), and the addresses at which
clouds serve metadata to their machines.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from amber_ray.errors import BadRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
"""What is assigned to the public internet so far; all else is local, special or unassigned."""
_SPECIAL: dict[Network, str] = {
    ipaddress.ip_network(text): what
    for text, what in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "a private network",
        "100.64.0.0/10": "a provider's shared network (CGNAT)",
        "127.0.0.0/8": "this machine",
        "168.63.129.16/32": "a cloud's metadata",
        "169.254.0.0/16": "the local link, with clouds' metadata",
        "172.16.0.0/12": "a private network",
        "192.0.0.0/24": "an address for protocols",
        "192.0.2.0/24": "an address for documentation",
        "192.88.99.0/24": "a 6to4 relay",
        "192.168.0.0/16": "a private network",
        "198.18.0.0/15": "a network for benchmarks",
        "198.51.100.0/24": "an address for documentation",
        "203.0.113.0/24": "an address for documentation",
        "224.0.0.0/4": "a multicast address",
        "240.0.0.0/4": "a reserved address",
        "::/128": "no address",
        "::1/128": "this machine",
        "::/96": "an IPv4 address inside an IPv6 one",
        "::ffff:0:0/96": "an IPv4 address inside an IPv6 one (mapped)",
        "::ffff:0:0:0/96": "an IPv4 address inside an IPv6 one (translated)",
        "64:ff9b::/96": "an IPv4 address inside an IPv6 one (NAT64)",
        "64:ff9b:1::/48": "an IPv4 address inside an IPv6 one (NAT64)",
        "2001::/32": "an IPv4 address inside an IPv6 one (Teredo)",
        "2001::/23": "an address for protocols",
        "2001:db8::/32": "an address for documentation",
        "2002::/16": "an IPv4 address inside an IPv6 one (6to4)",
        "3fff::/20": "an address for documentation",
        "fc00::/7": "a private network",
        "fe80::/10": "the local link",
        "ff00::/8": "a multicast address",
    }.items()
}
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""Bits 64 to 95 of an IPv6 address that holds an IPv4 address by ISATAP (RFC 5214)."""


def read_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Read `callback_addresses`. Raises `BadRequest` naming an entry that is no address or network."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise BadRequest(
                f"callback_addresses must have addresses or networks such as '10.1.0.0/16', not {text!r}: "
                f"{error}"
            ) from error
    return tuple(networks)


def refusal(address: str, allowed: Sequence[Network] = ()) -> str:
    """Return why a callback may not be sent to an address, or "" if it may.

    An address that is in an `allowed` network may be called whatever it is.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "no address"
    if getattr(ip, "scope_id", None) is not None:
        return "an address of one link"
    if any(ip.version == network.version and ip in network for network in allowed):
        return ""
    special = [net for net in _SPECIAL if net.version == ip.version and ip in net]
    if special:
        return _SPECIAL[max(special, key=lambda net: net.prefixlen)]
    if isinstance(ip, ipaddress.IPv6Address):
        if ip not in _PUBLIC_V6:
            return "an address that is not of the public internet"
        if int(ip) >> 32 & 0xFFFF_FFFF in _ISATAP:
            return "an IPv4 address inside an IPv6 one (ISATAP)"
    return "" if ip.is_global and not ip.is_multicast else "an address that is not of the public internet"
