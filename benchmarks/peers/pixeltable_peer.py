"""Pixeltable: a table of clips with computed columns; a changed function is a column made anew.

https://docs.pixeltable.com/tutorials/computed-columns
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amber_ray.core.model.units import Asset

VERSION = ("pixeltable",)


def prepare(folder: Path) -> Callable[[Sequence[Asset]], list[dict[str, Any]]]:
    """The table, made if there is none; `spread` made anew if its code has changed."""
    os.environ["PIXELTABLE_HOME"] = str(folder / "pixeltable")
    import pixeltable as pxt

    sys.path.insert(0, str(folder))
    import pixeltable_leaf  # type: ignore[import-not-found]

    from benchmarks.peers import pixeltable_nodes as nodes

    state = pixeltable_leaf.STATE

    def table() -> Any:
        if "clips" in pxt.list_tables():
            return pxt.get_table("clips")
        made = pxt.create_table("clips", {"id": pxt.String, "asset": pxt.Binary})
        made.add_computed_column(looks=nodes.looks(made.asset))
        made.add_computed_column(thumbnail=nodes.thumbnail(made.asset))
        made.add_computed_column(**{f"spread_{state}": pixeltable_leaf.spread(made.looks)})
        return made

    clips = table()

    def ask(assets: Sequence[Asset]) -> list[dict[str, Any]]:
        column = f"spread_{state}"
        if column not in clips.columns():
            clips.add_computed_column(**{column: pixeltable_leaf.spread(clips.looks)})
        known = set(clips.select(clips.id).collect()["id"])
        new = [{"id": a.id, "asset": pickle.dumps(a)} for a in assets if a.id not in known]
        if new:
            clips.insert(new)
        rows = clips.select(clips.id, clips.looks, clips.thumbnail, far=getattr(clips, column)).collect()
        by_id = {row["id"]: row for row in rows}
        return [
            {
                **pickle.loads(by_id[a.id]["looks"]),  # noqa: S301 - its own bytes
                "thumbnail": by_id[a.id]["thumbnail"],
                "spread": by_id[a.id]["far"],
            }
            for a in assets
        ]

    return ask
