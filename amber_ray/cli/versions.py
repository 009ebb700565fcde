"""`amber stale` and `amber prune`: versions in the store that the code does not make any more."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from amber_ray.cli.options import client_of, there, token_of
from amber_ray.cli.registered import infos_of
from amber_ray.cli.summary import size
from amber_ray.cli.terminal import console, count, note, say, table
from amber_ray.client.address import connect
from amber_ray.core.model.kept import StoredVersion
from amber_ray.core.model.service import FeatureInfo
from amber_ray.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Stale:
    """A stored version that the code does not make. `made` is the one that it makes, if any."""

    stored: StoredVersion
    made: str | None

    @property
    def why(self) -> str:
        """In words."""
        return "no such feature is registered" if self.made is None else f"version {self.made} is made now"

    def to_json(self) -> dict[str, object]:
        """For programs."""
        return {**self.stored._asdict(), "made": self.made}


def stale(args: argparse.Namespace) -> int:
    """List the features and versions in the store that the code does not make."""
    found = _found(args)
    if args.format == "json":
        say(json.dumps([one.to_json() for one in found], indent=1))
    elif found:
        _show(found)
    else:
        say("everything that is stored is of a version that is made now")
    return 0


def prune(args: argparse.Namespace) -> int:
    """Delete what `stale` lists: of registered features, and of others if they are named."""
    every = _found(args)
    found = [one for one in every if one.made is not None or one.stored.feature in args.feature]
    left = len(every) - len(found)
    if left:
        stay = "stays" if left == 1 else "stay"
        note(
            f"amber: {count(left, 'version')} of features that are not registered here {stay}; --features "
            "registers yours, --feature NAME deletes one's values"
        )
    if args.format == "json" and not args.yes:
        say(json.dumps([one.to_json() for one in found], indent=1))
    elif not found:
        say("nothing is to be deleted")
    elif not args.yes:
        _show(found)
        say("nothing was deleted: say it again with --yes")
    if not (found and args.yes):
        return 0
    deleted: list[dict[str, object]] = []
    with client_of(args) as client:
        for one in found:
            gone = client.purge(feature=one.stored.feature, version=one.stored.version)
            deleted.append({**one.to_json(), "deleted": gone})
            if args.format != "json":
                say(f"{one.stored.feature}@{one.stored.version}: {count(gone, 'value')} deleted")
    if args.format == "json":
        say(json.dumps(deleted, indent=1))
    return 0


def _found(args: argparse.Namespace) -> list[Stale]:
    """What the server says, or else the store itself, which takes no Ray and no lock."""
    if args.server is not None and args.store is not None:
        raise BadRequest("--store is of an Amber of one's own; the server has its own")
    infos = infos_of(args)
    if args.server is not None:
        with connect(args.server, token=token_of(args)) as client:
            stored: Sequence[StoredVersion] = client.versions()
    else:
        from amber_ray.store.parquet import ValueStore

        stored = ValueStore(there(args.store), make=False).versions()
    for name in args.feature:
        if not any(one.feature == name for one in stored) and not any(info.name == name for info in infos):
            raise BadRequest(f"no feature {name!r} is registered, and nothing is stored of one")
    return [one for one in stale_of(stored, infos) if not args.feature or one.stored.feature in args.feature]


def stale_of(stored: Iterable[StoredVersion], infos: Iterable[FeatureInfo]) -> list[Stale]:
    """The versions that are stored and not made."""
    made = {info.name: info.version for info in infos}
    return [Stale(one, made.get(one.feature)) for one in stored if made.get(one.feature) != one.version]


def _show(found: Sequence[Stale]) -> None:
    rows = table("feature", "version", ">values", ">bytes", "why")
    for one in found:
        of = one.stored
        rows.add_row(of.feature, of.version, f"{of.rows:,}", size(of.bytes), one.why)
    console().print(rows)
    total = sum(one.stored.bytes for one in found)
    rows_ = sum(one.stored.rows for one in found)
    say(f"{count(len(found), 'version')}, {count(rows_, 'value')}, {size(total)}")
