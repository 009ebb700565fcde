"""One cluster of several nodes for all fault tests that can share it, and the table of what was measured."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fault.cluster import Cluster, end

TABLE = pytest.StashKey[list["Row"]]()
HEADS = ("fault", "answers new requests after, s", "recomputed steps", "lost requests")


@dataclass(frozen=True)
class Row:
    """What one fault cost."""

    fault: str
    seconds: float
    recomputed: int
    lost: int = 0


def as_markdown(rows: list[Row]) -> str:
    lines = ["| " + " | ".join(HEADS) + " |", "|---|---:|---:|---:|"]
    lines += [f"| {r.fault} | {r.seconds:.1f} | {r.recomputed} | {r.lost} |" for r in rows]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> list[Row]:
    return request.config.stash.setdefault(TABLE, [])


@pytest.fixture
def told(rows: list[Row]) -> Any:
    """`told(fault, seconds, recomputed, lost)`: a row of the table that the run ends with."""

    def tell(fault: str, seconds: float, recomputed: int, lost: int = 0) -> None:
        rows.append(Row(fault, seconds, recomputed, lost))

    return tell


@pytest.fixture(scope="session", autouse=True)
def artifact(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`reliability.md` and `.json` in the run's temporary folder."""
    folder = tmp_path_factory.mktemp("faults")
    yield folder
    (folder / "reliability.md").write_text(as_markdown(rows))
    (folder / "reliability.json").write_text(json.dumps([asdict(r) for r in rows], indent=1))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash.get(TABLE, [])
    if rows:
        terminalreporter.section("what the faults cost")
        terminalreporter.write(as_markdown(rows))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The shared one, whole, and nothing of it left standing still by a scenario that failed."""
    shared.clear()
    assert shared.actor()
    yield shared
    for pid in shared.processes():
        end(pid, signal.SIGCONT)
