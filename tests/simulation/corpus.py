"""Worlds that failed once, made small and kept: what is rare among seeds is met here every time.

A file is a scenario as `--shrink` leaves it. It fails again if what was mended is undone, whatever becomes of
the drawing of scenarios.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.simulation.runs import attempt
from tests.simulation.scenario import Scenario

FOLDER = Path(__file__).parent / "corpus"


def names() -> list[str]:
    """Of all worlds that are kept."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def scenario(name: str) -> Scenario:
    """One of them."""
    return Scenario.from_json(json.loads((FOLDER / f"{name}.json").read_text()))


def keep(name: str, scenario: Scenario) -> None:
    """Add a world."""
    (FOLDER / f"{name}.json").write_text(json.dumps(scenario.to_json(), indent=1) + "\n")


def first_failure() -> tuple[str, str]:
    """The first of them that fails, and what went wrong; empty if none does."""
    for name in names():
        _, failure = attempt(scenario(name))
        if failure:
            return name, failure
    return "", ""
