"""What a feature raises, as a wish to be tried again later: `RetryLater` itself, or an HTTP error like it.

An HTTP error is known by its shape, a `response` with `status_code` and `headers`, as httpx and requests have
it, so no HTTP library is imported here.
"""

from __future__ import annotations

import email.utils
import math
import time
from typing import Any

from amber_ray.core.declare.calls import Calls, RetryLater


def wish_of(calls: Calls, error: BaseException) -> RetryLater | None:
    """Return the `RetryLater` that an exception of a feature is or stands for; None if it is none."""
    if isinstance(error, RetryLater):
        return error
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if not calls.retry_status or status not in calls.retry_status:
        return None
    return RetryLater(retry_after(response, time.time()), f"{type(error).__name__}: {error}")


def retry_after(response: Any, now: float) -> float:
    """Return the seconds that a response's Retry-After asks for: a number, or a date; 0 if there is none."""
    headers = getattr(response, "headers", None) or {}
    text = str(headers.get("Retry-After") or headers.get("retry-after") or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
