"""What a demand asks of every asset, as a digest: another one says that what was true need not be any more.

It covers what keys cover beside the asset: the meaning of each feature that is needed, and its parameters.
Must not know: what is stored, which media there are.
"""

from __future__ import annotations

import hashlib

from amber_ray.core.declare.registry import Registry, meaning
from amber_ray.core.model.demands import Demand
from amber_ray.errors import BadRequest


def wanted(registry: Registry, demand: Demand, segment_seconds: float) -> str:
    """The digest of what is asked. Raises `BadRequest` and kin for what can't be kept true."""
    for name in demand.features:
        if registry.get(name).per == "collection":
            raise BadRequest(
                f"{name!r} is a feature of a collection, and a demand is about one asset after the other; "
                "ask for it when it is needed, of the assets that are meant"
            )
        if registry.get(name).store != "parquet":
            raise BadRequest(
                f"{name!r} is not stored, so it can't be kept true; declare it with store='parquet'"
            )
    given = registry.params_for(demand.features, demand.params)
    text = repr((segment_seconds, sorted(set(demand.features))))
    for name in sorted(given):
        text += repr((name, meaning(registry.get(name)), given[name]))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
