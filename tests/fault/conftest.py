"""One cluster of several nodes for all fault tests that can share it, and the table of what was measured."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from tests import sharing
from tests.fault.cluster import Cluster, end

COST = "what a fault cost"
"""The property of a test's report: a row."""
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


@pytest.fixture
def told(record_property: Any) -> Any:
    """`told(fault, seconds, recomputed, lost)`: a row of the table that the run ends with."""

    def tell(fault: str, seconds: float, recomputed: int, lost: int = 0) -> None:
        record_property(COST, asdict(Row(fault, seconds, recomputed, lost)))

    return tell


def pytest_terminal_summary(terminalreporter: Any) -> None:
    # Reports come from whichever process ran the test.
    told = [p for reports in terminalreporter.stats.values() for r in reports for p in _told(r)]
    if told:
        terminalreporter.section("what the faults cost")
        terminalreporter.write(as_markdown([Row(**row) for row in told]))


def _told(report: Any) -> list[dict[str, Any]]:
    ended = getattr(report, "when", "") == "teardown"
    return [value for name, value in report.user_properties if name == COST] if ended else []


_SHARED: list[Cluster] = []


@pytest.hookimpl(trylast=True)  # what the test itself has started has ended
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if sharing.leaves(item, nextitem):
        pytest_sessionfinish()


def pytest_sessionfinish() -> None:
    while _SHARED:
        _SHARED.pop().stop()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The one of this folder, whole, and nothing of it left standing still by a scenario that failed."""
    if not _SHARED:
        _SHARED.append(Cluster(tmp_path_factory.mktemp("cluster")))
        _SHARED[0].start()
    shared = _SHARED[0]
    shared.clear()
    assert shared.actor()
    yield shared
    for pid in shared.processes():
        end(pid, signal.SIGCONT)
