"""Pages that list things list all of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from amber_ray.core.declare.registry import Registry
from amber_ray.features import BUILTINS

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = Path(__file__).parents[2] / "amber_ray"


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


def test_every_room_lists_its_modules() -> None:
    missing = []
    for init in sorted(PACKAGE.rglob("__init__.py")):
        listed = ast.get_docstring(ast.parse(init.read_text())) or ""
        if init.parent.name == "features":
            listed = "\n".join([listed, *(name.rpartition(".")[2] for name in BUILTINS)])
        for child in sorted(init.parent.iterdir()):
            is_module = child.suffix == ".py" or (child / "__init__.py").exists()
            entry = rf"^[ │├└]*(- `)?{child.stem}\b"
            if is_module and child.stem[0] != "_" and not re.search(entry, listed, re.MULTILINE):
                missing.append(f"{init.relative_to(PACKAGE)} does not say what {child.stem} is for")
    assert missing == []
