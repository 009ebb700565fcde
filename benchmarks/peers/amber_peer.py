"""Amber: a client of a running cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import amber_ray
from amber_ray.client.sync import Client
from amber_ray.core.model.units import Asset
from amber_ray.settings import Settings
from benchmarks.peers import graph

VERSION = ("ray",)


def joined(folder: Path) -> Client:
    """A client of the running Amber; the first one starts it."""
    settings = Settings(
        namespace="peers",
        store=str(folder / "store"),
        media_roots=(str(folder.parent),),
        features=("benchmarks.peers.amber_features", str(folder / "amber_leaf.py")),
    )
    return amber_ray.connect(os.environ["PEERS_RAY"], settings=settings, store=settings.store)


def prepare(folder: Path) -> Callable[[Sequence[Asset]], list[dict[str, Any]]]:
    """Connect; what is asked is `get_many`."""
    client = joined(folder)
    names = {name: f"peer_{name}" for name in graph.NAMES}

    def ask(assets: Sequence[Asset]) -> list[dict[str, Any]]:
        table = client.get_many(list(names.values()), [asset.uri for asset in assets], progress=False)
        made = []
        for asset in assets:
            one = {name: table[mine, asset.uri] for name, mine in names.items()}
            one.update({name: one[name][0] for name in graph.LOOKS})
            made.append(one | {"thumbnail": bytes(one["thumbnail"])})
        return made

    return ask
