"""Links to one asset's media that are good for some minutes without a token.

A browser plays `<video src>` by asking itself, and can't be told to send a token along. So a page that has a
token asks for a link: the media's address with a *grant*, which says until when it is good and is signed with
a key that only the token's hash gives. What stands in an address may end up in a history or a log: a grant
opens one asset to be read, ends by itself, and ends with its token. It never says more than its token may.

    grant = MARK.UNTIL.MAC      which token; Unix time; HMAC-SHA256 of the asset's id and UNTIL

Must not know: which tokens are good, routes beside that of media.
"""

from __future__ import annotations

import hmac
import re
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import parse_qs

SECONDS = 600
"""How long a grant is good. A player whose grant has ended asks for another one."""
PARAMETER = "grant"

_PATH = re.compile(r"/v1/assets/([0-9a-f]{32})/media\Z")
_GRANT = re.compile(r"([0-9a-f]{16})\.([0-9]{1,12})\.([0-9a-f]{64})\Z")


class Grant(NamedTuple):
    """What a caller shows instead of a token: for which asset, by which token, until when, and the proof."""

    asset: str
    mark: str
    until: int
    mac: str


def mark_of(key: bytes) -> str:
    """What a token with this hash is called in grants; tells nothing of it."""
    return blake2b(key, digest_size=8, person=b"amber grant").hexdigest()


def made(key: bytes, asset: str, until: int) -> str:
    """A grant for one asset's media, good until then (Unix time), by the token with this hash."""
    return f"{mark_of(key)}.{until}.{_mac(key, asset, until)}"


def shown(path: str, query: bytes) -> Grant | None:
    """The grant that a request shows; None if it shows none, or is for something else than media."""
    found = _PATH.match(path)
    if found is None or PARAMETER.encode() not in query:
        return None
    given = parse_qs(query.decode("latin-1"), max_num_fields=64).get(PARAMETER, [])
    parts = _GRANT.match(given[0]) if len(given) == 1 else None
    if parts is None:
        return Grant(found[1], "", 0, "")  # one that is none: refused as such, not taken for a missing token
    return Grant(found[1], parts[1], int(parts[2]), parts[3])


def signed_by(key: bytes, grant: Grant) -> bool:
    """Whether the token with this hash has signed it."""
    return hmac.compare_digest(_mac(key, grant.asset, grant.until), grant.mac)


def _mac(key: bytes, asset: str, until: int) -> str:
    return hmac.new(key, f"amber media\n{asset}\n{until}".encode(), "sha256").hexdigest()
