"""What a feature raises, as a wish to be tried again later: `RetryLater` itself, or an HTTP error like it.

An HTTP error is known by its shape, a `response` with `status_code` and `headers`, as httpx and requests have
it, so no HTTP library is imported here.
"""

from __future__ import annotations

import time
from typing import Any

from amber_ray.core.declare.calls import Calls, RetryLater
from amber_ray.core.model.retry_after import retry_after


def wish_of(calls: Calls, error: BaseException) -> RetryLater | None:
    """Return the `RetryLater` that an exception of a feature is or stands for; None if it is none."""
    if isinstance(error, RetryLater):
        return error
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if not calls.retry_status or status not in calls.retry_status:
        return None
    return RetryLater(_asked(response), f"{type(error).__name__}: {error}")


def _asked(response: Any) -> float:
    """Return the seconds that a response asks for; 0 if it asks for none."""
    headers = getattr(response, "headers", None) or {}
    return (
        retry_after(str(headers.get("Retry-After") or headers.get("retry-after") or ""), time.time()) or 0.0
    )
