"""API tokens at rest: a record for each, with the hash of the token and never the token itself.

    <store>/tokens/<id>.json             name, hash, tenant, scopes, made, expires; written once
    <store>/tokens/<id>.revoked.json     that the token of that id was revoked, and when

Only `amber token` writes here, also while a server owns the store: no file is ever written twice, and an id
is the beginning of its token's hash, so that no two writers can meet and a listing alone tells what is new.
Records stay: a store that ever had a token is never open to callers without one by accident. To open it
again, delete the folder and restart. A token is 256 random bits, so a plain SHA-256 of it can't be searched.
Must not know: HTTP, who asks.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from amber_ray.core.model.trust import Scope
from amber_ray.errors import BadRequest, DamagedRecord
from amber_ray.store.files import Files
from amber_ray.store.json_files import JsonFolder, read_json

log = logging.getLogger("amber.store")

FOLDER = "tokens"
PREFIX = "amber_"
"""What every token begins with, so that one that was published by mistake can be searched for."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_FILE = re.compile(r"([0-9a-f]{32})(\.revoked)?\.json")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is kept of a token. Times are Unix seconds; `expires` is None for one that does not.

    `rate` and `at_once` are those of `Caller`.
    """

    name: str
    hash: str
    tenant: str
    scopes: frozenset[Scope]
    made: float
    expires: float | None = None
    revoked: bool = False
    rate: float | None = None
    at_once: int | None = None

    def state(self, now: float) -> str:
        """Return "active", "expired" or "revoked"."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"


class Tokens(NamedTuple):
    """The records that could be read, and how many are damaged: a damaged one lets nobody in."""

    records: tuple[TokenRecord, ...]
    damaged: int

    @property
    def any(self) -> bool:
        """Whether the store ever had a token, so that callers must show one."""
        return bool(self.records or self.damaged)


def hashed(token: bytes) -> bytes:
    """The hash that a token is known by."""
    return hashlib.sha256(token).digest()


class TokenBook:
    """The tokens of a store. Blocking. Remembers what it has read, since no record ever changes."""

    def __init__(self, store: str) -> None:
        self._files = Files(store)
        self._known: dict[str, TokenRecord | None] = {}

    def read(self) -> Tokens:
        """Return all tokens, oldest first. Raises `StoreError` if they can't be listed or read now.

        A store without any costs one listing, and so does one of which all is known.
        """
        names = (name.rpartition("/")[2] for name in self._files.sizes(_FILE, FOLDER, 1))
        matches = [match for name in names if (match := _FILE.fullmatch(name)) is not None]
        ids = {match[1] for match in matches}
        revoked = {match[1] for match in matches if match[2]}
        for id in [id for id in self._known if id not in ids]:
            del self._known[id]
        for id in sorted(ids - self._known.keys()):
            self._known[id] = self._record(id)
        found = [
            replace(record, revoked=True) if id in revoked else record
            for id, record in self._known.items()
            if record is not None
        ]
        found.sort(key=lambda record: (record.made, record.name))
        return Tokens(tuple(found), len(ids) - len(found))

    def add(
        self,
        name: str,
        tenant: str,
        scopes: frozenset[Scope],
        now: float,
        expires: float | None = None,
        *,
        rate: float | None = None,
        at_once: int | None = None,
    ) -> str:
        """Make a token and keep its record; returns the token, which is told this once.

        Raises `BadRequest` for a name that an active token has.
        """
        for what, word in (("name", name), ("tenant", tenant)):
            if not NAME.match(word):
                raise BadRequest(
                    f"a token's {what} must be up to 64 letters, digits, '.', '_' or '-', beginning with a "
                    f"letter or digit, not {word!r}"
                )
        if any(r.name == name and r.state(now) == "active" for r in self.read().records):
            raise BadRequest(f"there is a token {name!r} already; revoke it, or choose another name")
        token = PREFIX + secrets.token_urlsafe(32)
        digest = hashed(token.encode()).hex()
        record = {
            "name": name,
            "hash": digest,
            "tenant": tenant,
            "scopes": sorted(scopes),
            "made": now,
            "expires": expires,
            "rate": rate,
            "at_once": at_once,
        }
        folder = JsonFolder(self._files, FOLDER, "token")
        folder.sweep()
        folder.write(digest[:32], record)
        return token

    def revoke(self, name: str, now: float) -> int:
        """Revoke the tokens of a name that are active; returns how many. Raises `BadRequest` for none."""
        known = self.read().records
        active = [r for r in known if r.name == name and r.state(now) == "active"]
        if not active:
            states = sorted({r.state(now) for r in known if r.name == name})
            said = f"the token {name!r} is {states[0]} already" if states else f"there is no token {name!r}"
            raise BadRequest(f"{said}; `amber token list` shows them all")
        folder = JsonFolder(self._files, FOLDER, "token")
        for record in active:
            folder.write(f"{record.hash[:32]}.revoked", {"name": name, "at": now})
        return len(active)

    def _record(self, id: str) -> TokenRecord | None:
        """Return the record of an id, or None if it is damaged or only its revocation is there."""
        try:
            data = read_json(self._files, f"{FOLDER}/{id}.json")
        except DamagedRecord as error:
            log.error("%s; its token is not accepted", error)
            return None
        record = None if data is None else _parsed(id, data)
        if record is None:
            log.error("the record %r of a token is none; its token is not accepted", id)
        return record


def _parsed(id: str, data: Mapping[str, Any]) -> TokenRecord | None:
    """Return the token that a record is of, or None: what is missing must not count as a permission."""
    match data:
        case {
            "name": str() as name,
            "hash": str() as digest,
            "tenant": str() as tenant,
            "scopes": [*scopes],
            "made": float() | int() as made,
            "expires": float() | int() | None as expires,
        } if _HASH.fullmatch(digest) and digest.startswith(id):
            rate, at_once = data.get("rate"), data.get("at_once")  # records of earlier versions have neither
            if not (rate is None or (isinstance(rate, float | int) and rate > 0)):
                return None
            if not (at_once is None or (isinstance(at_once, int) and at_once > 0)):
                return None
            try:
                # A scope that a later version of Amber knows: refused as a whole, rather than guessed at.
                known = frozenset(map(Scope, scopes))
            except ValueError:
                return None
            return TokenRecord(name, digest, tenant, known, made, expires, rate=rate, at_once=at_once)
    return None
