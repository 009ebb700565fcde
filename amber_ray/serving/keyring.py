"""Which API tokens are good now, and whose they are: those of the settings, and those of the store.

Tokens of the store are records that `amber token` makes and revokes while servers run. A look at them is one
listing, in a thread. Under load one is made every `LOOK_SECONDS` beside the requests; a request that comes
after a quiet time waits for one. So a new token is good, and a revoked one is not, within `BOUND_SECONDS`.
While the store can't be read what was read last holds, for `BLIND_SECONDS`; then nobody is let in, since a
token may have been revoked.

    request ─→ current ─→ younger than LOOK_SECONDS: go on
                          younger than BOUND_SECONDS: go on, look beside
                          else: wait for the look

Must not know: routes, the service, where records are kept.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from amber_ray.core.model.trust import EVERY_SCOPE, THIS_MACHINE, Caller
from amber_ray.errors import StoreError, Unauthorized, Unavailable
from amber_ray.serving import grants
from amber_ray.serving.grants import Grant
from amber_ray.store.tokens import TokenRecord, Tokens, hashed

log = logging.getLogger("amber.http")

LOOK_SECONDS = 1.0
BOUND_SECONDS = 5.0
PATIENCE_SECONDS = 2.0
"""How long a request waits for one look, and how long after one that failed none is waited for."""
BLIND_SECONDS = 60.0
NEVER = float("-inf")


class Source(Protocol):
    """Where records are read, in a thread."""

    def read(self) -> Tokens:
        """All tokens. Raises `StoreError`."""
        ...


class _Known(NamedTuple):
    """A token: its hash, whose it is, its record in the store if it has one, and its name in grants."""

    hash: bytes
    caller: Caller
    record: TokenRecord | None
    mark: str


class Keyring:
    """Turns what a caller shows into a `Caller`.

    `plain` are the tokens of the settings (`AMBER_TOKENS`): good for all that a request may do, for any
    tenant, but they bring no code, since they were given to programs that ask.
    """

    def __init__(
        self,
        plain: Sequence[str],
        source: Source | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._clock = clock
        self._unix = unix
        everything = Caller("a token of the settings", None, EVERY_SCOPE, brings_code=False)
        self._plain = [_known(hashed(token.encode()), everything, None) for token in plain]
        self._tokens = list(self._plain)
        self._read_at = NEVER
        self._tried_at = NEVER
        self._look: asyncio.Task[None] | None = None
        self.locked = bool(plain)
        """Whether callers must show a token. Never false again once it was true."""

    async def current(self) -> None:
        """See to it that what is known is young enough. Raises `Unavailable` if it can't be."""
        if self._source is None:
            return
        now = self._clock()
        age = now - self._read_at
        if age < LOOK_SECONDS:
            return
        if self._look is None and now - self._tried_at >= LOOK_SECONDS:
            self._tried_at = now
            self._look = asyncio.create_task(self._read(self._source))
        if age >= BOUND_SECONDS and self._look is not None:
            left = self._tried_at + PATIENCE_SECONDS - now
            if self._read_at == NEVER:
                left = BLIND_SECONDS  # nothing is known: there is nothing to go on with
            if left > 0:
                await asyncio.wait([self._look], timeout=left)
        if (self.locked or self._read_at == NEVER) and self._clock() - self._read_at >= BLIND_SECONDS:
            raise Unavailable("the store's API tokens can't be read now, so nobody is let in; try again")

    async def _read(self, source: Source) -> None:
        began = self._clock()
        try:
            found = await asyncio.to_thread(source.read)
        except StoreError as error:
            log.error("the API tokens can't be read now; those known stay for a while: %s", error)
            return
        finally:
            self._look = None
        self._read_at = began
        self.locked = self.locked or found.any
        self._tokens = [
            *self._plain,
            *(_known(bytes.fromhex(one.hash), _caller(one), one) for one in found.records),
        ]

    def caller(self, header: bytes) -> Caller:
        """Whose token an `Authorization` header shows. Raises `Unauthorized`.

        The token comes as `Bearer TOKEN`, or as the password of `Basic`, which browsers ask people for.
        """
        if not self.locked:
            return THIS_MACHINE
        return self._found(header).caller

    def link(self, header: bytes, asset: str) -> str | None:
        """A grant for an asset's media by the token that a header shows; None where none has to be shown.

        Raises `Unauthorized`.
        """
        if not self.locked:
            return None
        return grants.made(self._found(header).hash, asset, int(self._unix()) + grants.SECONDS)

    def granted(self, grant: Grant) -> Caller:
        """Whose grant it is. Raises `Unauthorized` for one that is not good.

        It is for one asset's media, so it opens nothing else (`grants.shown`).
        """
        for known in self._tokens:
            if known.mark == grant.mark and grants.signed_by(known.hash, grant):
                if grant.until <= self._unix():
                    raise Unauthorized("this link to media has ended; ask for another one")
                self._active(known)
                return known.caller
        raise Unauthorized("this link to media is not known here; ask for another one")

    def _found(self, header: bytes) -> _Known:
        """The token that a header shows. Raises `Unauthorized`."""
        given = hashed(_shown(header))
        found: _Known | None = None
        # Every token is compared, each in constant time: how long it takes tells neither which nor where.
        for known in self._tokens:
            if hmac.compare_digest(given, known.hash):
                found = known
        if found is None:
            what = "the API token is not known" if header else "an API token is needed"
            raise Unauthorized(f"{what}; send it as 'Authorization: Bearer TOKEN'")
        self._active(found)
        return found

    def _active(self, known: _Known) -> None:
        if known.record is not None and (state := known.record.state(self._unix())) != "active":
            raise Unauthorized(f"the API token {known.record.name!r} is {state}; ask for a new one")


def _known(key: bytes, caller: Caller, record: TokenRecord | None) -> _Known:
    return _Known(key, caller, record, grants.mark_of(key))


def _caller(record: TokenRecord) -> Caller:
    return Caller(
        f"the token {record.name!r}",
        record.tenant,
        record.scopes,
        brings_code=True,
        rate=record.rate,
        at_once=record.at_once,
        token=record.name,
    )


def _shown(header: bytes) -> bytes:
    """The token in a header; empty, which no token is, if there is none."""
    scheme, _, given = header.partition(b" ")
    given = given.strip()
    match scheme.lower():
        case b"bearer":
            return given
        case b"basic":
            try:
                return base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return b""
    return b""
