"""The features a command speaks of: a server's, or those of the built-in and the given modules."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from amber_ray.cli.options import token_of
from amber_ray.client.address import connect, source_name
from amber_ray.core.model.service import FeatureInfo
from amber_ray.errors import UnknownFeature, did_you_mean
from amber_ray.settings import Settings


def infos_of(args: argparse.Namespace) -> list[FeatureInfo]:
    """The features of --server, or those of the built-in and the given modules; the latter needs no Ray."""
    if args.server:
        with connect(args.server, token=token_of(args)) as client:
            return client.features()
    from amber_ray.features.registered import build

    return list(build(Settings(features=tuple(map(source_name, args.features)))).info())


def known(graph: Mapping[str, FeatureInfo], name: str) -> str:
    """The name if it is a feature's; `UnknownFeature` with the nearest names otherwise."""
    if name in graph:
        return name
    hint = did_you_mean(name, graph, f"there are {', '.join(sorted(graph))}")
    raise UnknownFeature(f"no feature is named {name!r}; {hint}")
