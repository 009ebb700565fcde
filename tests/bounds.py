"""What keeps a run of all tests from ending in silence: each test ends, and a run tells while it runs.

`pytest-timeout` fails a test from a signal handler, once. A test that is in native code then never hears of
it, and one whose clean-up waits for ever has used its only signal up. So a process whose test has gone on for
`GRACE` beyond its timeout writes down where all its threads are, and ends: that test failed, and the run goes
on with another process. Where a file's failed tests took `FAILING` together, what they share is broken, most
likely, and its others fail at once rather than after a timeout each.

Whoever sees only the last lines of a run that was ended from outside must find in them what failed and what
was running. So failures are told as they come, in a line, and so is what takes long; and a run ends itself,
with its report, before whoever started it does.
"""

from __future__ import annotations

import _thread
import faulthandler
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

GRACE = 60.0
"""Seconds that a test may take beyond its timeout, to clean up what it started."""

FAILING = 600.0
"""Seconds that the failed tests of one file may take together."""

LONG = 300.0
"""Seconds after which it is told that a test still runs, and again when as many have passed."""

WHOLE = 80 * 60.0
"""Seconds after which a run ends itself."""

LOOK = 5.0


def timeout_of(item: pytest.Item) -> float:
    """Seconds that a test may take: what it says itself, else what holds for all."""
    mark = item.get_closest_marker("timeout")
    seconds = (mark.args[0] if mark.args else mark.kwargs["timeout"]) if mark else None
    return float(item.config.getini("timeout") if seconds is None else seconds)


class HardEnds:
    """Ends this process if a test of it goes on beyond its timeout. For each process that runs tests."""

    def __init__(self) -> None:
        # Tests may close or replace sys.stderr.
        self._stderr = os.dup(2)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        faulthandler.dump_traceback_later(timeout_of(item) + GRACE, exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        # What tests share ends now, and then the interpreter, which waits for threads.
        faulthandler.dump_traceback_later(GRACE, exit=True, file=self._stderr)


class Patience:
    """Has a file's tests fail at once when those of it that failed took long. For each such process, too."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: Counter[str] = Counter()  # seconds, by file
        self._began = 0.0
        self._failed = False

    def pytest_runtest_logstart(self) -> None:
        self._began = self._clock()
        self._failed = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        file = item.nodeid.partition("::")[0]
        if self._failing[file] >= FAILING:
            taken = f"{self._failing[file]:.0f} s"
            pytest.fail(f"not tried: tests of this file that failed took {taken} already", pytrace=False)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._failed |= report.failed

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if self._failed:
            self._failing[nodeid.partition("::")[0]] += self._clock() - self._began


class Telling:
    """Tells failures as they come and tests that take long. For the one process that a run is seen by."""

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[], None] = _thread.interrupt_main,
    ) -> None:
        self._say = say
        self._clock = clock
        self._end = end
        self._began = clock()
        self._running: dict[str, float] = {}  # when it began, by the name of the test
        self._told: dict[str, float] = {}
        self._stopped = threading.Event()

    def watch(self) -> None:
        """Look from time to time, on a thread, until `stop`."""
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK):
            if self.look():
                return

    def look(self) -> bool:
        """Say what takes long; whether the run as a whole did, and is ended."""
        now = self._clock()
        for name, began in list(self._running.items()):
            if now - self._told.get(name, began) >= LONG:
                self._told[name] = now
                self._say(f"still running after {now - began:.0f} s: {name}")
        if now - self._began < WHOLE:
            return False
        names = ", ".join(self._running) or "none"
        self._say(f"the run is ended, as it took {WHOLE / 60:.0f} minutes; running were: {names}")
        self._end()
        return True

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running[nodeid] = self._clock()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._running.pop(nodeid, None)
        self._told.pop(nodeid, None)

    @pytest.hookimpl(trylast=True)  # after its letter
    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._running.pop(report.nodeid, None)  # a process that ended with it says no more of it
            crash = getattr(report.longrepr, "reprcrash", None)
            why = (crash.message if crash else str(report.longrepr)).strip()
            self._say(f"FAILED {report.nodeid} ({report.when}): {(why.splitlines() or [''])[0][:300]}")

    def pytest_unconfigure(self) -> None:
        self.stop()


def register(config: pytest.Config) -> None:
    """Bound this process's tests, tell of them, or both, as it has a part in the run."""
    spread = bool(config.getoption("numprocesses", default=None)) and not hasattr(config, "workerinput")
    if not spread:
        config.pluginmanager.register(HardEnds(), "hard-ends")
        config.pluginmanager.register(Patience(), "patience")
    if not hasattr(config, "workerinput"):

        def say(line: str) -> None:
            terminal: Any = config.pluginmanager.getplugin("terminalreporter")
            terminal.write(f"\n{line}\n")

        telling = Telling(say)
        config.pluginmanager.register(telling, "telling")
        telling.watch()
