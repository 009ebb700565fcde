"""Which addresses are this machine's own: the question behind "no tokens, no other machine".

The kernel knows. A UDP socket connected to one of the machine's own addresses is given that same address
as its source, and never for another's; no packet is sent. That holds for every interface, needs no
privilege, and can't be talked round by a host name or a header. Must not know: HTTP requests, settings.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable

REMEMBERED = 256


class Locals:
    """Judges addresses; a verdict holds for `seconds`, since addresses come and go with interfaces."""

    def __init__(self, seconds: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._verdicts: dict[str, tuple[bool, float]] = {}

    def __contains__(self, address: str) -> bool:
        """Whether `address` (IPv4 or IPv6, as a socket tells it) is this machine's."""
        known = self._verdicts.get(address)
        now = self._clock()
        if known is not None and known[1] > now:
            return known[0]
        if len(self._verdicts) >= REMEMBERED:
            self._verdicts.clear()
        verdict = is_own(address)
        self._verdicts[address] = verdict, now + self._seconds
        return verdict

    def is_host(self, header: str) -> bool:
        """Whether a `Host` header names this machine: `localhost` or one of its addresses, with any port.

        A page of another site that has its name resolve to this machine (DNS rebinding) is told apart by
        the name it must send.
        """
        name = _without_port(header.strip())
        return name.lower() == "localhost" or (name != "" and name in self)


def is_own(address: str) -> bool:
    """Whether the kernel holds `address` as one of its own now; False for what is no address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_unspecified or ip.is_multicast:
        return False
    if ip.is_loopback:
        return True
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), 9))
            source = probe.getsockname()[0]
    except OSError:
        return False  # no route to it, a broadcast address, or no such family: nobody's, or not ours
    return ipaddress.ip_address(source) == ip


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, _ = host.partition(":")
    return name if colon and host.count(":") == 1 else host
