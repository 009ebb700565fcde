"""Pages that list things list all of them, and what they say of types is so."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jaxtyping
import numpy as np
import pyarrow as pa
import pytest

from amber_ray import Jpeg, MediaType, Png
from amber_ray.core.declare.registry import Registry
from amber_ray.core.values.annotations import parse
from amber_ray.features import BUILTINS
from amber_ray.store.types import arrow_type
from tests.pages import ROOT, Block, blocks, unsaid

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


GUIDE = DOCS / "write-a-feature.md"


RUN = ROOT / "README.md", GUIDE, DOCS / "versions.md"


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert unsaid(page) == []


def anchors(page: str) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[tuple[Path, str, str]]:
    """The links of a page to files of the project: the file, the heading in it, and the link as it stands."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        where, _, anchor = link.partition("#")
        if "://" not in where:
            found.append(((page.parent / where).resolve() if where else page, anchor, link))
    return found


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = [
        link
        for target, anchor, link in links(page)
        if not target.exists() or (anchor and anchor not in anchors(target.read_text()))
    ]
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            waiting += [target for target, _, _ in links(page)]
    assert set(DOCS.glob("*.md")) <= reached


def test_a_block_that_says_nothing_is_found() -> None:
    assert blocks("```bash\nls\n```\n")[0].directive == ""
    assert blocks("<!-- readme: run -->\n```bash\nls\n```\n") == [Block("run", "bash", "ls\n")]


@dataclass
class Reddest:
    segment: int
    redness: float


def test_what_the_guide_says_of_types_is_so() -> None:
    names: dict[str, Any] = {name: getattr(jaxtyping, name) for name in ("Bool", "Float32", "Int16", "UInt8")}
    names |= {"Annotated": Annotated, "Jpeg": Jpeg, "MediaType": MediaType, "Png": Png, "Reddest": Reddest}
    names |= {"np": np, "pa": pa}
    rows = re.search(r"\| annotation \| column.*?\n\n", GUIDE.read_text(), re.DOTALL)
    assert rows is not None
    told = 0
    for line in rows[0].strip().splitlines()[2:]:
        annotations, column = re.split(r"(?<!\\)\|", line)[1:3]
        for annotation in re.findall(r"`(.+?)`", annotations):
            kind = parse(eval(annotation.replace("\\|", "|"), names))
            assert f"`{arrow_type(kind)}`" in column, annotation
            told += 1
    assert told > 20
