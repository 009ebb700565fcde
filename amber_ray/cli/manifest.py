"""`manifest.json` of an export: what exactly its values are, so that it can be made again.

It holds no date and no path: the same values give the same manifest. Must not know: files' contents.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from amber_ray.cli.registered import known
from amber_ray.client.names import feature_names
from amber_ray.core.model.service import FeatureInfo
from amber_ray.errors import BadRequest

FORMAT = "amber-export/1"


def pinned(words: Sequence[str], infos: Mapping[str, FeatureInfo]) -> tuple[str, ...]:
    """`shots embedding@1` as names, after a look whether the versions that were named are those there are.

    Raises `BadRequest` for another version, and for features whose values can't be exported.
    """
    names: dict[str, None] = {}
    for word in feature_names(",".join(words)):
        name, at, version = word.partition("@")
        info = infos[known(infos, name)]
        if at and version != info.version:
            raise BadRequest(f"{name} is at version {info.version} here, not {version}")
        if info.store == "never":
            raise BadRequest(f"{name} is never stored: export the features that are made from it")
        if info.per == "collection":
            raise BadRequest(f"{name} is about a set of assets together: ask for it with get")
        names[name] = None
    return tuple(names)


def lineage(name: str, infos: Mapping[str, FeatureInfo], params: Mapping[str, Any]) -> dict[str, Any]:
    """A feature's version, code, parameters and type, and those of all that it is made from, by name."""
    above: dict[str, None] = {}
    waiting = list(infos[name].inputs)
    while waiting:
        one = waiting.pop()
        if one not in above:
            above[one] = None
            waiting += infos[one].inputs
    return _one(infos[name], params) | {
        "per": infos[name].per,
        "type": infos[name].returns,
        "made_from": {one: _one(infos[one], params) for one in sorted(above)},
    }


def _one(info: FeatureInfo, params: Mapping[str, Any]) -> dict[str, Any]:
    values = {p: params.get(f"{info.name}.{p}", default) for p, (_, default) in info.params.items()}
    return {"version": info.version, "code": info.code_digest, "params": values}


def text(features: Mapping[str, Mapping[str, Any]], assets: int) -> str:
    """The manifest: `features` by name, and how many assets were asked for."""
    data = {"format": FORMAT, "assets": assets, "features": features}
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def by_name(infos: Iterable[FeatureInfo]) -> dict[str, FeatureInfo]:
    """Features by name."""
    return {info.name: info for info in infos}
