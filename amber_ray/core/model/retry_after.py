"""`Retry-After`, as receivers of callbacks and services that features call send it (RFC 9110, 10.2.3).

Must not know: who asks for a pause, of whom.
"""

from __future__ import annotations

import re
from email.utils import mktime_tz, parsedate_tz

LONGEST_SECONDS = 86_400.0
"""Nobody is made to wait for longer."""
_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


def retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` of either form asks for at a Unix time, at most a day.

    Fractions of a second are no part of the standard, and are sent all the same. None without one, and for
    what is neither seconds nor a date.
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return min(LONGEST_SECONDS, float(text))
    try:
        moment = parsedate_tz(text) if text else None
        asked = None if moment is None else mktime_tz(moment) - now
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return None if asked is None else max(0.0, min(LONGEST_SECONDS, asked))
