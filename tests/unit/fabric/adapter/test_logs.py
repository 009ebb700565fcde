"""Lines of the log: their form, and their way to the console of `amber serve`."""

from __future__ import annotations

import json
import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from amber_ray.fabric.adapter import logs
from amber_ray.fabric.worker.now import RUNNING, Now
from amber_ray.serving.console import Console
from amber_ray.settings import Settings

REQUEST = {"id": "trace-1", "method": "GET", "path": "/x", "status": 503, "seconds": 0.25, "request": "rq-1"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short name: the path of a socket is at most 107 bytes long."""
    made = Path(tempfile.mkdtemp(prefix="amber-test-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    names = ("amber", "amber.http")
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).propagate) for name in names}
    handlers = list(logging.getLogger("amber").handlers)
    yield
    logging.getLogger("amber").handlers[:] = handlers
    for name, (level, propagate) in before.items():
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).propagate = propagate


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("amber.http").makeRecord(
        "amber.http", logging.ERROR, "f.py", 1, "%s", (message,), None, extra=extra
    )
    made.created, made.msecs = 1_700_000_000.0, 5.0
    return made


def test_a_line_of_text() -> None:
    lines = logs.Lines(as_json=False)
    assert (
        lines.format(record("it failed", **REQUEST))
        == "2023-11-14T22:13:20.005Z ERROR trace-1 GET /x 503 0.250s request=rq-1 it failed"
    )
    assert lines.format(record("one\ntwo")) == "2023-11-14T22:13:20.005Z ERROR amber.http one\n    two"


def test_a_line_of_json() -> None:
    line = logs.Lines(as_json=True).format(record("one\ntwo", **REQUEST))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.005Z",
        "level": "ERROR",
        "logger": "amber.http",
        **REQUEST,
        "message": "one\ntwo",
    }


@pytest.mark.parametrize("access_log", [False, True])
def test_lines_reach_the_console_and_only_those_that_are_wanted(folder: Path, access_log: bool) -> None:
    lines: queue.Queue[bytes] = queue.Queue()
    with Console(folder, lines.put) as console:
        logs.attach(Settings(console=console.path, access_log=access_log))
        logging.getLogger("amber.http").info("%s", "", extra=REQUEST)
        logging.getLogger("amber.shard").info("nobody wants to know")
        logging.getLogger("amber.shard").warning("a part is damaged")
        found = [lines.get(timeout=10) for _ in range(1 + access_log)]
    assert found[-1].endswith(b"WARNING amber.shard a part is damaged\n")
    assert all(b"nobody" not in line for line in found)
    assert lines.empty()


def test_a_console_that_does_not_read_holds_up_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WAITING", 10)
    stuck = threading.Event()
    with Console(folder, lambda line: stuck.wait(60)) as console:
        logs.attach(Settings(console=console.path))
        for _ in range(20_000):
            logging.getLogger("amber.shard").warning("x" * 1000)
        stuck.set()


def test_a_worker_tells_what_is_said_while_a_step_runs_and_whose_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.attach_worker.cache_clear()
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        logs.attach_worker(("", "json"))
        logs.attach_worker(("", "json"))  # once for each process
        library = logging.getLogger("a.library")
        library.warning("between steps")
        RUNNING.set(Now("shots", "rq-1"))
        library.warning("dark %s", "frames")
        library.info("too little")
        RUNNING.set(Now("shots", ""))
        library.error("for nobody any more")
    finally:
        RUNNING.set(None)
        root.handlers[:] = before
        logs.attach_worker.cache_clear()
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["message"], one.get("feature"), one.get("request")) for one in told] == [
        ("between steps", None, None),
        ("dark frames", "shots", "rq-1"),
        ("for nobody any more", "shots", None),
    ]


def test_a_worker_sends_the_console_what_is_said_while_a_step_runs_and_amber_s_own() -> None:
    alone = logs._Steps(alone=True)
    mine, library = (logging.makeLogRecord({"name": name}) for name in ("amber.media", "a.library"))
    assert (alone.filter(mine), alone.filter(library)) == (True, False)
    RUNNING.set(Now("shots", "rq-1"))
    try:
        assert alone.filter(library)
    finally:
        RUNNING.set(None)
