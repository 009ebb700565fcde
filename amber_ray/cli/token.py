"""`amber token`: makes, lists and revokes the API tokens of a store, also while servers run on it."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import json
import re
import time
import uuid
from typing import Any

from amber_ray.cli.options import absolute, there
from amber_ray.cli.terminal import cell, console, note, say, table
from amber_ray.core.model.audit import Actor, Change, detail_of, line
from amber_ray.core.model.trust import Scope
from amber_ray.errors import BadRequest, StoreError
from amber_ray.serving.keyring import BOUND_SECONDS
from amber_ray.store.audit import AuditBook
from amber_ray.store.tokens import TokenBook, TokenRecord

UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


def new(args: argparse.Namespace) -> int:
    """Make a token and print it, this once."""
    scopes = scopes_of(args.scope)
    now = time.time()
    expires = None if args.expires is None else now + seconds_of(args.expires)
    for word, given in (("--rate", args.rate), ("--at-once", args.at_once)):
        if given is not None and not (0 < given < float("inf")):
            raise BadRequest(f"{word} takes a number above 0, not {given}")
    store = absolute(args.store)
    book = TokenBook(store)
    first = not book.read().any
    limits = {"rate": args.rate, "at_once": args.at_once}
    made = book.add(args.name, args.tenant, scopes, now, expires, **limits)
    _noted(store, "token.made", args.name, args.tenant, scopes=sorted(scopes), expires=expires, **limits)
    say(made)
    if not args.quiet:
        note("keep it now: the store has its hash alone, so it can't be shown again")
        if first:
            note(
                f"from now on servers of this store ask everybody for a token, within {BOUND_SECONDS:g} s "
                "where one runs already"
            )
    return 0


def listed(args: argparse.Namespace) -> int:
    """List the tokens of a store, those that are good no more as well."""
    found = TokenBook(there(args.store)).read()
    now = time.time()
    if args.format == "json":
        say(json.dumps([_to_json(one, now) for one in found.records], indent=1))
    elif not found.records:
        say("no token was ever made here")
    else:
        shown = table("token", "tenant", "scopes", "limits", "made", "expires", "state")
        for one in found.records:
            shown.add_row(
                cell(one.name),
                cell(one.tenant),
                ", ".join(sorted(one.scopes)),
                _limits(one),
                _day(one.made),
                "never" if one.expires is None else _day(one.expires),
                one.state(now),
            )
        console().print(shown)
    if found.damaged:
        note(f"amber: {found.damaged} records of tokens are damaged, and let nobody in")
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Revoke a token: servers that run refuse it within seconds."""
    store = there(args.store)
    book = TokenBook(store)
    book.revoke(args.name, time.time())
    tenants = {one.tenant for one in book.read().records if one.name == args.name and one.revoked}
    _noted(store, "token.revoked", args.name, min(tenants) if len(tenants) == 1 else "")
    say(f"{args.name} is revoked; servers refuse it within {BOUND_SECONDS:g} s")
    return 0


def _noted(store: str, what: Change, name: str, tenant: str, **detail: Any) -> None:
    """Have the audit log tell of it. It is done by then: a log that can't be written is said, no more."""
    try:
        who = f"{getpass.getuser()} at the command line"
    except (KeyError, OSError):  # a user without a name
        who = "the command line"
    told = line(uuid.uuid4().hex, round(time.time(), 6), what, name, Actor(who), tenant)
    try:
        AuditBook(store).write([dataclasses.replace(told, detail=detail_of(detail))])
    except StoreError as error:
        note(f"amber: the audit log does not tell of it: {error}")


def scopes_of(text: str) -> frozenset[Scope]:
    """`read,compute` as scopes. Raises `BadRequest`."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := [word for word in words if word not in list(Scope)]:
        raise BadRequest(f"there is no scope {unknown[0]!r}; the scopes are {', '.join(Scope)}")
    if not words:
        raise BadRequest(f"--scope names at least one of {', '.join(Scope)}")
    return frozenset(map(Scope, words))


def seconds_of(text: str) -> float:
    """`90d` as seconds. Raises `BadRequest`."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhdw])", text)
    if match is None:
        raise BadRequest(
            f"--expires takes a whole number of minutes, hours, days or weeks, such as 90d, not {text!r}"
        )
    return int(match[1]) * UNITS[match[2]]


def _to_json(record: TokenRecord, now: float) -> dict[str, object]:
    return {
        "name": record.name,
        "tenant": record.tenant,
        "scopes": sorted(record.scopes),
        "made": record.made,
        "expires": record.expires,
        "rate": record.rate,
        "at_once": record.at_once,
        "state": record.state(now),
    }


def _limits(record: TokenRecord) -> str:
    told = [f"{record.rate:g} a second"] if record.rate is not None else []
    return ", ".join([*told, *([f"{record.at_once} at once"] if record.at_once is not None else [])])


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
