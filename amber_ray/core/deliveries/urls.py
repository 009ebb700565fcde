"""Which URLs may be called: those whose scheme, host and port an operator has named.

A caller chooses the URL, and this server calls it from where it stands, maybe behind a firewall. So a URL is
read by a strict grammar of its own instead of a lenient parser: what two parsers may read differently (a
backslash, credentials, a tab, `0x7f.1`) is refused. What a name leads to is judged at each call
(`addresses`).

    callback_hosts    which URLs
    hooks.example     https://hooks.example/..., at port 443
    hooks.example:8443    https at that port
    http://hooks.example  plain http at port 80
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from amber_ray.errors import BadRequest

LONGEST = 2048
PORTS = {"https": 443, "http": 80}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(/[^?#]*)?(\?[^#]*)?(#.*)?")
_PLAIN = re.compile(r"[!-~]*")
"""Printable ASCII, which is what may be in a request's target; `\\` is refused with the host."""
_PORT = re.compile(r"[0-9]{1,5}")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Origin:
    """A scheme, a host in its canonical form (an IPv6 address without brackets), and a port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """As it is written in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True)
class CallbackUrl:
    """Where a delivery goes; `target` is the path with the query, and begins with "/"."""

    origin: Origin
    target: str

    def __str__(self) -> str:
        """In its canonical form."""
        return f"{self.origin}{self.target}"


def read_url(text: str) -> CallbackUrl:
    """Read a callback's URL. Raises `BadRequest` for what is not a plain URL of http or https."""
    if len(text) > LONGEST:
        raise BadRequest(f"callback.url has {len(text):,} characters; at most {LONGEST:,} are taken")
    match = _URL.fullmatch(text)
    if match is None:
        raise _refused(text, "is none such as https://hooks.example/amber")
    scheme, authority, path, query, fragment = match.groups()
    if fragment is not None:
        raise _refused(text, "must have no fragment (#)")
    target = (path or "/") + (query or "")
    if not _PLAIN.fullmatch(target) or "\\" in target:
        raise _refused(text, "must have other than printable ASCII letters percent-encoded")
    try:
        return CallbackUrl(_origin(scheme.lower(), authority), target)
    except ValueError as error:
        raise _refused(text, str(error)) from error


def read_hosts(entries: Sequence[str]) -> frozenset[Origin]:
    """Read `callback_hosts`. Raises `BadRequest` naming an entry that is none."""
    return frozenset(map(_entry, entries))


def _entry(text: str) -> Origin:
    scheme, found, authority = text.partition("://")
    if not found:
        scheme, authority = "https", text
    try:
        return _origin(scheme, authority)
    except ValueError as error:
        raise BadRequest(
            f"callback_hosts must have entries such as 'hooks.example', 'hooks.example:8443' or "
            f"'http://hooks.example', not {text!r}, which {error}"
        ) from error


def _origin(scheme: str, authority: str) -> Origin:
    """Read scheme, host and port. Raises `ValueError` with what is wrong, as the end of a sentence."""
    if scheme not in PORTS:
        raise ValueError("must begin with https:// or http://")
    if "@" in authority:
        raise ValueError("must have no user name and no password")
    host, port = authority, ""
    if authority.startswith("["):
        host, _, port = authority.partition("]")
        host, has_port, port = host[1:], port.startswith(":"), port.removeprefix(":")
        if authority.count("]") != 1 or (not has_port and port):
            raise ValueError("must have a host")
        host = _ipv6(host)
    else:
        host, colon, port = authority.partition(":")
        has_port = bool(colon)
        host = _name(host)
    if has_port and not (_PORT.fullmatch(port) and 0 < int(port) < 65_536):
        raise ValueError("must have a port from 1 to 65535, or none")
    return Origin(scheme, host, int(port) if has_port else PORTS[scheme])


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text if "%" not in text else ""))
    except ValueError:
        raise ValueError("must have an IPv6 address without a zone between brackets") from None


def _name(text: str) -> str:
    """Return a host's name in lower case and ASCII, or an IPv4 address in the usual four numbers."""
    name = text.lower()
    if not name.isascii():
        import idna  # its tables take a while to load, and few need them

        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:
            raise ValueError("must have the name of a host") from None
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("must have the name of a host")
    if _NUMBER.fullmatch(labels[-1]):
        # What resolvers take for an address: 127.1, 0177.0.0.1, 0x7f000001, 2130706433.
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise ValueError("must have an IPv4 address as four plain numbers, or a name") from None
    return name


def _refused(text: str, why: str) -> BadRequest:
    shown = text if len(text) <= 100 else text[:99] + "…"
    return BadRequest(f"callback.url {shown!r} {why}")
