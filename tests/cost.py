"""`pytest -p tests.cost`: what each test costs in seconds of CPUs, of this process and all that it started.

Wall time says little on a machine that does other things. What a test starts is known by a variable in its
environment, so Ray's daemons and workers count too, wherever they were reparented to. A process is looked at
twice a second and at the end of each test; what it used after the last look is not counted.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MARK = "AMBER_TEST_COST"
COST = "seconds of CPUs"
"""The property of a test's report."""
EVERY = 0.5
SHOWN = 25
TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """Adds up what processes use: of this one from now on, of those that it starts all they ever use."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)
        os.environ[MARK] = self._mark
        self._used: dict[tuple[int, str], float] = {}
        self._others: set[tuple[int, str]] = set()
        self._total = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.used()
        self._total = 0.0  # what this process used before
        threading.Thread(target=self._watch, daemon=True).start()

    def used(self) -> float:
        """Seconds of CPUs until now."""
        with self._lock:
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    self._look(int(entry.name), entry)
            return self._total

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(EVERY):
            self.used()

    def _look(self, pid: int, entry: Path) -> None:
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            name, cpu = (pid, fields[19]), (int(fields[11]) + int(fields[12])) / TICKS
            if name in self._others:
                return
            if name not in self._used and pid != os.getpid():
                variables = (entry / "environ").read_bytes()
                if f"{MARK}={self._mark}".encode() not in variables:
                    self._others.add(name)
                    return
        except OSError:
            return  # it has ended meanwhile
        self._total += cpu - self._used.get(name, 0.0)
        self._used[name] = cpu


class Costs:
    """Notes in each test's last report what was used since the test before."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._before = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Iterator[None]:
        report: Any = yield
        if call.when == "teardown":
            now = self._meter.used()
            report.user_properties.append((COST, now - self._before))
            self._before = now
        return report

    def pytest_unconfigure(self) -> None:
        self._meter.stop()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Costs(), "costs")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    # Reports come from whichever process ran the test.
    costs: Counter[str] = Counter()
    for report in (r for reports in terminalreporter.stats.values() for r in reports):
        if getattr(report, "when", "") == "teardown":
            costs[report.nodeid] += sum(cost for what, cost in report.user_properties if what == COST)
    files: Counter[str] = Counter()
    for name, cost in costs.items():
        files[name.partition("::")[0]] += cost
    terminalreporter.section(f"{sum(costs.values()):.0f} seconds of CPUs")
    for counted in (files, costs):
        for name, cost in counted.most_common(SHOWN):
            terminalreporter.write_line(f"{cost:8.1f} {name}")
        terminalreporter.write_line("")
