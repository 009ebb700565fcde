"""`amber purge` and `amber check`: what a store holds, and whether versions still mean what they meant."""

from __future__ import annotations

import argparse

from amber_ray.cli.options import absolute, client_of
from amber_ray.cli.terminal import say
from amber_ray.errors import BadRequest


def purge(args: argparse.Namespace) -> int:
    """Forget the values that match all filters given."""
    if args.asset is None and args.feature is None and args.version is None:
        raise BadRequest("purge needs --asset, --feature or --version: it never forgets everything")
    assets = [] if args.asset is None else [args.asset]
    with client_of(args, assets) as client:
        count = client.purge(asset=args.asset, feature=args.feature, version=args.version)
    say(f"{count} values forgotten")
    return 0


def check(args: argparse.Namespace) -> int:
    """Report pinned features whose code changed since their version was first used with this store."""
    from amber_ray.cli.registered import infos_of
    from amber_ray.client.version_lock import compare, read, record

    args.server = None
    store = absolute(args.store)
    infos = infos_of(args)
    changes = compare(read(store), infos)
    if args.accept:
        record(store, infos, accept=True)
        say(f"{len(changes)} changed features accepted as they are now")
        return 0
    for change in changes:
        say(str(change))
    if changes:
        return 1
    pinned = [info for info in infos if info.pinned]
    met = read(store)
    used = sum(info.version in met.get(info.name, {}) for info in pinned)
    say(f"{len(pinned)} features have a version of their own, {used} of them used with {store}; none changed")
    return 0
