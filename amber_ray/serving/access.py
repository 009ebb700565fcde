"""What is logged of requests: each that failed or was slow, and with `access_log` every one.

Must not know: where lines go, what is asked for.
"""

from __future__ import annotations

import logging

from starlette.types import Scope

from amber_ray.settings import Settings

log = logging.getLogger("amber.http")

GONE = 499
"""nginx's status for a caller that hung up."""
LONGEST = 300
"""Letters of a path, or of why it failed."""


class AccessLog:
    """Says how requests ended: why one failed, and where it was a bug of ours, its traceback."""

    def __init__(self, settings: Settings) -> None:
        self._all = settings.access_log
        self._slow = settings.slow_seconds

    def ended(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Log a request that has been answered; its caller hung up first if there is no status.

        A request for events lasts as long as its caller likes, so that one is never slow.
        """
        failed = scope.get("amber.bug") is not None or (
            status is not None and status >= 400 and status != GONE
        )
        slow = seconds >= self._slow and not scope["path"].endswith("/events")
        if not (failed or slow or self._all):
            return
        level = logging.INFO
        if failed or slow:
            broken = failed and (status is None or status >= 500 or "amber.bug" in scope)
            level = logging.ERROR if broken else logging.WARNING
        bug: Exception | None = scope.get("amber.bug")
        why = scope.get("amber.why", "") if bug is None else f"{type(bug).__name__}: {bug}"
        if slow and not failed:
            why = f"slow, {self._slow:g} s or longer"
        log.log(
            level,
            "%s",
            one_line(why),
            exc_info=bug,
            extra={
                "id": scope.get("amber.request_id"),
                "method": one_line(scope["method"]),
                "path": one_line(scope["path"]),
                "status": GONE if status is None else status,
                "seconds": seconds,
                "request": scope.get("amber.request"),
            },
        )


def one_line(text: str) -> str:
    """Text from a stranger as it may stand in a line: shortened, and nothing in it that is not printable."""
    short = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    return short if short.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)
