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
Cells = dict[str, dict[str, str]]
CELLS = pytest.StashKey[Cells]()
SIGNS = {"passed": "ok", "failed": "RED", "skipped": "n/a"}


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(CELLS, {})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    cls = getattr(item, "cls", None)
    if cls is None or not issubclass(cls, ServiceContract):
        return report
    row = item.config.stash.setdefault(CELLS, {}).setdefault(item.originalname, {})  # type: ignore[attr-defined]
    name = cls.__name__.removeprefix("Test")
    if report.failed:
        row[name] = "RED"
    elif report.when == "call" or report.skipped:
        row.setdefault(name, SIGNS[report.outcome])
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line for each case, one column for each implementation that ran; then why what does not apply."""
    cells = config.stash.get(CELLS, {})
    names = sorted({name for row in cells.values() for name in row})
    if not names:
        return
    terminalreporter.section("contract of Service")
    width = max(map(len, cells)) - len("test_")
    terminalreporter.write_line("  ".join(["case".ljust(width), *names]))
    for case, row in cells.items():
        signs = [row.get(name, "-").ljust(len(name)) for name in names]
        terminalreporter.write_line("  ".join([case.removeprefix("test_").ljust(width), *signs]).rstrip())
    reasons: dict[str, dict[str, list[str]]] = {}
    for cls in _implementations(ServiceContract):
        name = cls.__name__.removeprefix("Test")
        for case, reason in cls.NOT_APPLICABLE.items():
            if cells.get(case, {}).get(name) == "n/a":
                reasons.setdefault(reason, {}).setdefault(case.removeprefix("test_"), []).append(name)
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


def _implementations(cls: type[ServiceContract]) -> Iterator[type[ServiceContract]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _implementations(sub)
