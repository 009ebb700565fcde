"""How much each token may ask for: requests a second, and requests under way at once.

    a rate     a virtual clock for each token that is set forth by 1/rate with each request; one that comes
               while it is more than a burst ahead of time is refused, and told when it no longer will be
               (the generic cell rate algorithm, ITU-T I.371)
    at once    counted while a request is answered

Replicas share both out, each by itself, as shards do with the rate of a service: so no request waits for
another process, the whole is never exceeded, and what is lost is the share of replicas that nobody asks.

Must not know: HTTP, where tokens are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from amber_ray.core.model.trust import Caller
from amber_ray.errors import Overloaded

BURST_SECONDS = 1.0
"""A token that was silent may ask for what it may ask for in so long, at once; at least for one request."""


class Allowances:
    """What the callers of one app have left. All of it belongs to the app's event loop."""

    def __init__(self, replicas: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._replicas = replicas
        self._clock = clock
        self._paid_until: dict[str, float] = {}
        self._under_way: dict[str, int] = {}

    def enter(self, caller: Caller) -> None:
        """Count a request that begins. Raises `Overloaded` if its caller asks for more than it may."""
        name, rate, at_once = caller.name, caller.rate, caller.at_once
        if at_once is not None:
            share = max(1, at_once // self._replicas)
            if self._under_way.get(name, 0) >= share:
                raise Overloaded(
                    f"{name} may have {at_once} requests under way at once, of which {share} here; "
                    "wait for one of them"
                )
        if rate is not None:
            now, pause = self._clock(), self._replicas / rate
            paid = max(self._paid_until.get(name, now), now)
            ahead = paid + pause - now - max(BURST_SECONDS, pause)
            if ahead > 1e-9:
                raise Overloaded(
                    f"{name} may ask for {rate:g} requests a second; slow down, or ask for more at once "
                    "(features, assets and keys come in lists)",
                    retry_after=ahead,
                )
            self._paid_until[name] = paid + pause
        if at_once is not None:
            self._under_way[name] = self._under_way.get(name, 0) + 1

    def left(self, caller: Caller) -> None:
        """A request that was entered has been answered."""
        if caller.at_once is not None:
            self._under_way[caller.name] -= 1
            if not self._under_way[caller.name]:
                del self._under_way[caller.name]
