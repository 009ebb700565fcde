"""How the processes of one run share its tests (`pytest -n 2`): what stays together, and what begins first.

Files stay together, as what a module's fixtures made is used again by its tests; where each test starts what
it needs for itself, each may run anywhere. What takes minutes begins first, so that the processes end at
about the same time, with what takes seconds.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

EACH_BY_ITSELF = (
    "tests/fault/test_everything_dies.py",
    "tests/fault/test_storage_fails.py",
    "tests/fuzz/test_media_fuzz.py::test_broken",
    "tests/integration/test_backfill.py",
    "tests/integration/test_cli.py",
    "tests/integration/test_connect.py",
    "tests/integration/test_counted.py",
    "tests/integration/test_readme.py",
    "tests/integration/test_stop.py",
)
"""Beginnings of the names of tests that share nothing with the others of their file."""

TOGETHER = ("tests/browser/",)
"""Folders whose files share what is dear to start, so that one process runs them all."""

FIRST = (
    "tests/simulation/test_world.py",
    "tests/integration/test_benchmarks.py",
    "tests/fault",
    "tests/contract/test_real.py",
    "tests/browser",
    "tests/integration",
    "tests/fuzz",
    "tests/simulation",
    "tests/odd",
)
"""Beginnings of the names of tests that take long, the longest first."""


def share(name: str) -> str:
    """What of a run a test belongs to, by its name: a folder, a file, or the test alone."""
    for folder in TOGETHER:
        if name.startswith(folder):
            return folder
    return name if name.startswith(EACH_BY_ITSELF) else name.partition("::")[0]


def place(name: str) -> int:
    """How early a test begins, by its name."""
    return next((i for i, beginning in enumerate(FIRST) if name.startswith(beginning)), len(FIRST))


def leaves(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Whether this process has no more tests of an item's folder in a row: what only they use may end.

    An idle cluster goes on using CPU, which the tests that come after it lack.
    """
    return following is None or following.path.parent != item.path.parent


class Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Hands each process the next share when it has little left; the order is the collection's.

    A process begins a test only when it has been told of the one after it, or that there is none: one that
    knows of a single test waits. And what a process that ended had begun would end the next one, too.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return share(nodeid)

    def _reschedule(self, node: Any) -> None:
        super()._reschedule(node)
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)

    def remove_node(self, node: Any) -> str | None:
        """What a process had not begun goes to the others; returned is the test that it ended in, if any."""
        units = self.assigned_work.pop(node)
        open_ = [(unit, test) for unit in units.values() for test, done in unit.items() if not done]
        if not open_:
            return None
        unit, begun = open_[0]
        unit[begun] = True
        self.workqueue.update({name: unit for name, unit in units.items() if not all(unit.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return begun
