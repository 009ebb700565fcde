"""Features that call services: how many calls may be in flight, how many may start, and when to try again.

A call is one run of such a feature. It waits for somebody else's machine, so it holds no CPU here, and what
bounds it is declared: `concurrency` for each process that makes calls, `rate` for the whole service.

Must not know: how calls are made, HTTP libraries.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from amber_ray.errors import DeclarationError

DEFAULT_CONCURRENCY = 16
"""Calls in flight of an `async def` feature that says nothing of it."""
MOST_CONCURRENCY = 1000
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|min|h)\s*\Z")


class RetryLater(Exception):
    """Raised by a feature whose service asks for patience: its step is tried again after `seconds`.

    That is charged as no attempt, however small the feature's `retries`, and is no failure that callers see;
    they wait. A step may put itself off for `Settings.retry_later_seconds` in all, after which it fails with
    the reason. With 0 seconds the pause is Amber's choice: it doubles each time, up to a minute.
    """

    def __init__(self, seconds: float = 0.0, reason: str = "") -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"RetryLater takes seconds, such as RetryLater(10), not {seconds!r:.80}")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"RetryLater takes seconds from 0 up, not {seconds!r}")
        super().__init__(reason or "the feature asked to be tried again later")
        self.seconds = float(seconds)
        self.reason = str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with both arguments."""
        return RetryLater, (self.seconds, self.reason)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls in so many seconds."""

    calls: float
    seconds: float

    @property
    def apart(self) -> float:
        """Seconds between the starts of two calls."""
        return self.seconds / self.calls

    def __str__(self) -> str:
        unit = next(name for name, seconds in _UNITS.items() if seconds == self.seconds)
        return f"{self.calls:g}/{unit}"


@dataclass(frozen=True, slots=True)
class Calls:
    """What a feature declares of its calls.

    - `concurrency`: calls in flight per process that makes them; 0 for a feature that is no coroutine;
    - `rate`: how many may start; None for no bound;
    - `retry_status`: HTTP statuses that are taken for `RetryLater`.
    """

    concurrency: int = 0
    rate: Rate | None = None
    retry_status: tuple[int, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether each call is a task of its own, since calls are counted."""
        return bool(self.concurrency) or self.rate is not None

    def as_mapping(self) -> dict[str, Any]:
        """What is declared, for people; empty for a feature that calls no service."""
        said: dict[str, Any] = {}
        if self.concurrency:
            said["concurrency"] = self.concurrency
        if self.rate is not None:
            said["rate"] = str(self.rate)
        if self.retry_status:
            said["retry_status"] = list(self.retry_status)
        return said


NO_CALLS = Calls()
"""Of a feature that calls no service, as far as it says."""


def declared(
    feature: str, *, is_async: bool, batch: int, concurrency: Any, rate: Any, retry_status: Any
) -> Calls:
    """Check what a feature says of its calls. Raises `DeclarationError` in one sentence."""
    if is_async and batch > 1:
        raise DeclarationError(
            f"feature {feature!r} is async and can't have batch={batch}: its calls run side by side already, "
            "as many as concurrency says"
        )
    if concurrency is not None:
        if not is_async:
            raise DeclarationError(
                f"feature {feature!r}: concurrency is for features written as `async def`; "
                "write it so, or leave concurrency out"
            )
        if type(concurrency) is not int or not 1 <= concurrency <= MOST_CONCURRENCY:
            raise DeclarationError(
                f"feature {feature!r}: concurrency is how many calls may be in flight, "
                f"from 1 to {MOST_CONCURRENCY}, not {concurrency!r}"
            )
    if rate is not None and batch > 1:
        raise DeclarationError(
            f"feature {feature!r}: rate counts single calls and can't be had with batch={batch}; "
            "leave one of them out"
        )
    return Calls(
        concurrency=(concurrency or DEFAULT_CONCURRENCY) if is_async else 0,
        rate=None if rate is None else _rate(feature, rate),
        retry_status=_statuses(feature, retry_status),
    )


def _rate(feature: str, rate: Any) -> Rate:
    found = _RATE.match(rate) if isinstance(rate, str) else None
    if found is None or not float(found[1]):
        raise DeclarationError(
            f"feature {feature!r}: rate is a number above 0 and a unit, "
            f"such as '20/s', '60/min' or '1000/h', not {rate!r:.80}"
        )
    return Rate(float(found[1]), _UNITS[found[2]])


def _statuses(feature: str, statuses: Any) -> tuple[int, ...]:
    listed = statuses if isinstance(statuses, (tuple, list, set, frozenset)) else [statuses]
    for status in listed:
        if type(status) is not int or not 400 <= status <= 599:
            raise DeclarationError(
                f"feature {feature!r}: retry_status lists HTTP statuses of errors, such as (429, 503), "
                f"not {statuses!r:.80}"
            )
    return tuple(sorted(set(listed)))
