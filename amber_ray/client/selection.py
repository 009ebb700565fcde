"""`Selection`: what a caller asked for, in the caller's own words.

Must not know: how it is sent and answered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from amber_ray.client.names import (
    AssetLike,
    FeatureLike,
    Named,
    as_list,
    asset_name,
    decorated,
    feature_names,
    is_one,
    named_assets,
)
from amber_ray.client.results import Results


@dataclass(frozen=True, slots=True)
class Selection:
    """What a caller asked for, in the caller's words.

    `names` are the assets' names as given, repeats included; `declared` are features given as decorated
    objects. `one_feature` and `one_asset` say whether a lone
    name was given rather than a list: then `get` answers with a value rather than a table.
    """

    features: tuple[str, ...]
    assets: tuple[Named, ...]
    names: tuple[str, ...]
    declared: tuple[Callable[..., Any], ...] = ()
    one_feature: bool = False
    one_asset: bool = False

    def pick(self, results: Results) -> Any:
        """Return what `get` gives: one feature's value for one asset, each asset or the collection."""
        if not self.one_feature:
            return results
        feature = self.features[0]
        if (feature, None) in results:
            return results.value(feature, None)
        if self.one_asset:
            return results.value(feature, self.names[0])
        return [results.value(feature, name) for name in self.names]


def asked_features(features: FeatureLike | Iterable[FeatureLike]) -> Selection:
    """Return what a caller asked for of assets that are named later. Raises `BadRequest`."""
    if not (isinstance(features, str) or callable(features)):
        features = list(features)  # looked at twice
    return Selection(feature_names(features), (), (), tuple(decorated(features)))


def asked_for(
    features: FeatureLike | Iterable[FeatureLike], assets: AssetLike | Iterable[AssetLike]
) -> Selection:
    """Return what a caller asked for. Raises `BadRequest` for names that are none."""
    given = as_list(assets)
    named = asked_features(features)
    return dataclasses.replace(
        named,
        assets=named_assets(given),
        names=tuple(map(asset_name, given)),
        one_feature=callable(features) or (isinstance(features, str) and "," not in features),
        one_asset=is_one(assets),
    )
