"""What this process says to an operator: one line for each event, where the operator looks.

Behind `amber serve` that is its stderr: the processes that Ray has started for it send their lines over a
socket (`Settings.console`). Elsewhere it is the process's own stderr, which Ray keeps in its log files. Lines
are sent by a thread, so an operator who does not read holds up nobody: what can't be sent is dropped.

Must not know: who reads.
"""

from __future__ import annotations

import functools
import json
import logging
import logging.handlers
import queue
import socket
import time
from typing import Any

from amber_ray.fabric.worker.now import RUNNING
from amber_ray.settings import Settings

GREETING = b"lines\n"
"""What a sender of lines says first."""
WAITING = 10_000
"""Lines that wait to be sent; then those to come are dropped."""
FIELDS = ("id", "method", "path", "status", "seconds", "request", "feature")
"""What a record may carry beside its message, in the order in which a line shows it."""


class Lines(logging.Formatter):
    """A record as one line of text, or of JSON; a traceback follows, indented, or is part of the message."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"
        message = super().format(record)
        fields = {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if self._as_json:
            head = {"time": when, "level": record.levelname, "logger": record.name}
            return json.dumps({**head, **fields, "message": message}, default=str)
        if "seconds" in fields:
            fields["seconds"] = f"{fields['seconds']:.3f}s"
        for name in ("request", "feature"):
            if name in fields:
                fields[name] = f"{name}={fields[name]}"
        shown = [str(value) for value in fields.values()] or [record.name]
        lines = "\n    ".join(message.splitlines())
        return " ".join(filter(None, (when, record.levelname, *shown, lines)))


class _Sender(logging.handlers.SocketHandler):
    """Sends lines to the console; connects again when it has to."""

    def makeSocket(self, timeout: float = 1) -> socket.socket:  # noqa: N802 - the standard library's name
        made = super().makeSocket(timeout)
        made.sendall(GREETING)
        return made

    def makePickle(self, record: logging.LogRecord) -> bytes:  # noqa: N802
        return self.format(record).encode() + b"\n"


class _Queue(logging.handlers.QueueHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """The queue is full: the line is dropped."""


def _handler(console: str, log_format: str, stream: Any = None) -> logging.Handler:
    handler: logging.Handler
    sends = console and stream is None
    handler = _Sender(console, None) if sends else logging.StreamHandler(stream)
    handler.setFormatter(Lines(as_json=log_format == "json"))
    if not sends:
        return handler
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(WAITING)
    logging.handlers.QueueListener(waiting, handler).start()
    return _Queue(waiting)


class _Steps(logging.Filter):
    """Adds the step's feature and request to what is said while one runs.

    With `alone` nothing else passes, but for what Amber says itself.
    """

    def __init__(self, *, alone: bool) -> None:
        super().__init__()
        self._alone = alone

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whose a record is."""
        now = RUNNING.get()
        if now is not None:
            record.feature, record.request = now.feature, now.request or None
        return not self._alone or now is not None or record.name.partition(".")[0] == "amber"


@functools.cache
def attach_worker(lines: tuple[str, str]) -> None:
    """Have a worker's process say what its steps do: warnings and worse, whoever logs them.

    `lines` as of `Work`. Once for each process. Ray's log files have what is said while no step runs, too.
    """
    root, handler = logging.getLogger(), _handler(*lines)
    handler.addFilter(_Steps(alone=bool(lines[0])))
    handler.setLevel(logging.WARNING)
    if lines[0] and not root.handlers and logging.lastResort is not None:
        root.addHandler(logging.lastResort)  # it goes on to write to this process's own stderr
    root.addHandler(handler)


def attach(settings: Settings, stream: Any = None) -> None:
    """Have this process say what happens in it: to the console, else on `stream`, by default its stderr."""
    handler = _handler(settings.console, settings.log_format, stream)
    root = logging.getLogger("amber")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(logging.WARNING)
    logging.getLogger("amber.http").setLevel(logging.INFO if settings.access_log else logging.WARNING)
