"""The contract's table, printed at the end of a run, and the one Ray of its real implementations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amber_ray.settings import Settings

pytest.register_assert_rewrite("tests.service_contract")

from tests.service_contract import ServiceContract  # noqa: E402 - only now are its assertions told in full

CPUS = 4
"""More than there may be: steps that wait at a gate hold one each."""
CELL = "a cell of the table of the contract"
"""The property of a test's report: the case, and the implementation."""
SIGNS = {"passed": "ok", "failed": "RED", "skipped": "n/a"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    cls = getattr(item, "cls", None)
    if cls is not None and issubclass(cls, ServiceContract):
        case = item.originalname.removeprefix("test_")  # type: ignore[attr-defined]
        report.user_properties.append((CELL, (case, cls.__name__.removeprefix("Test"))))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for each case, one column for each implementation that ran; then why what does not apply."""
    cells: dict[str, dict[str, str]] = {}
    reasons: dict[str, dict[str, list[str]]] = {}
    # Reports come from whichever process ran the test.
    for report in (r for reports in terminalreporter.stats.values() for r in reports):
        for case, name in (value for key, value in getattr(report, "user_properties", ()) if key == CELL):
            row = cells.setdefault(case, {})
            if report.failed or (
                row.get(name) != SIGNS["failed"] and (report.skipped or report.when == "call")
            ):
                row[name] = SIGNS[report.outcome]
            if report.skipped:
                reason = report.longrepr[2].removeprefix("Skipped: n/a: ")
                reasons.setdefault(reason, {}).setdefault(case, []).append(name)
    if not cells:
        return
    terminalreporter.section("contract of Service")
    names = sorted({name for row in cells.values() for name in row})
    width = max(map(len, cells))
    terminalreporter.write_line("  ".join(["case".ljust(width), *names]))
    for case, row in cells.items():
        signs = [row.get(name, "-").ljust(len(name)) for name in names]
        terminalreporter.write_line("  ".join([case.ljust(width), *signs]).rstrip())
    for reason, cases in reasons.items():
        terminalreporter.write_line(f"n/a, since {reason}:")
        for case, of in cases.items():
            terminalreporter.write_line(f"  {case}: {', '.join(of)}")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the features of real workers leave their runs, and find their gates."""
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def ray_cluster(traces: Path) -> Iterator[None]:
    """One Ray for all real implementations, in this machine; it ends before other folders start theirs."""
    from amber_ray.fabric.adapter import cluster

    os.environ["AMBER_CONTRACT_DIR"] = str(traces)
    for name, value in cluster.environment().items():
        os.environ.setdefault(name, value)
    cluster.start_local(Settings(memory_bytes=256 << 20), num_cpus=CPUS, num_gpus=0)
    yield
    cluster.stop()
