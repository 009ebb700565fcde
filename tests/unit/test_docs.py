"""Pages that list things list all of them."""

from __future__ import annotations

import re
from pathlib import Path

from amber_ray.core.declare.registry import Registry
from amber_ray.features import BUILTINS

DOCS = Path(__file__).parents[2] / "docs"


def test_every_built_in_feature_is_on_its_page_with_its_unit() -> None:
    registry = Registry.from_modules(BUILTINS)
    told: dict[str, str] = {}
    for line in (DOCS / "features.md").read_text().splitlines():
        if line.startswith("| `"):
            names, units = (cell.strip() for cell in line.split("|")[1:3])
            found, per = re.findall(r"`(\w+)`", names), [u.strip() for u in units.split(",")]
            told.update(zip(found, per if len(per) == len(found) else per * len(found), strict=True))
    named = {spec.name: spec.per for spec in registry}
    # What only feeds `transitions`: not meant to be asked for.
    del named["strip"]
    assert told == named
