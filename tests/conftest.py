"""What holds for every test: examples that do not change from run to run, and no clusters but its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import bounds, leftovers, sharing

# Read by Ray when it is imported: no phoning home, and authentication said rather than guessed. A test that
# wants tokens says so for the processes that it starts.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.pop("RAY_ADDRESS", None)
# By default Ray's workers step back behind all other processes. Here these are other tests, and workers whose
# turn never comes would keep theirs waiting.
os.environ.setdefault("RAY_worker_niceness", "0")
# Of the hundreds of processes that the tests start, each would compile all of the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Each process that runs tests has Ray's folders to itself. The name is short: below it are Ray's sockets, and
# the path of a socket is at most 107 bytes long.
PLACE = Path("/tmp") / f"amber-test-{secrets.token_hex(3)}"
os.environ["RAY_TMPDIR"] = str(PLACE)

# What a shell runs in the background ignores interrupts, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "amber",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("amber")


def pytest_configure(config: pytest.Config) -> None:
    leftovers.watch()
    bounds.register(config)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> sharing.Sharing:
    return sharing.Sharing(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=lambda item: sharing.place(item.nodeid))


@pytest.hookimpl(trylast=True)  # what tests have started has ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.testsfailed:  # otherwise Ray's logs may say why
        shutil.rmtree(PLACE, ignore_errors=True)
