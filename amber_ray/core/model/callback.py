"""Who is to be told when a request has ended or a demand has news, and what is known of such a message.

Must not know: HTTP, how a message is sent (`core.deliveries`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from amber_ray.errors import BadRequest

CallbackEvent = Literal["done", "failed", "result"]
"""What a caller is told of: the end with at least one value, the end without any, results that came.

Of a demand: all is true and was not, assets fail that did not, assets have become true.
"""
EVENTS: tuple[CallbackEvent, ...] = get_args(CallbackEvent)
ENDS: tuple[CallbackEvent, ...] = ("done", "failed")
"""What a caller is told of who does not say."""

DeliveryState = Literal["waiting", "pending", "delivered", "failed"]
"""The request goes on; it is to be sent; the receiver has taken it; it will not be sent again by itself."""
DELIVERY_STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)


@dataclass(frozen=True, slots=True)
class Callback:
    """The URL that is to be told, and of what."""

    url: str
    on: tuple[CallbackEvent, ...] = ENDS

    def check(self) -> None:
        """Raise `BadRequest` where nothing would ever be told, or something that there is not."""
        unknown = [event for event in self.on if event not in EVENTS]
        if unknown or not self.on:
            given = f"not {unknown[0]!r}" if unknown else "and names none"
            raise BadRequest(f"callback.on says what is told: one or more of {', '.join(EVENTS)}, {given}")


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as it is told to whoever asks for it. Times are Unix seconds.

    - `url`: where it is sent, by scheme and host alone, since the rest may be a secret (`audit.told_url`);
    - `id`: what the receiver sees as `webhook-id`; `request`: the id of the request that it is about, or
      `demand`: the name of the demand; the other is empty;
    - `type`: such as "request.done"; empty while the request goes on;
    - `attempts`: how often it was sent; `status` and `error`: what came of the last time;
    - `next_at`: when it will be sent next, if it will.
    """

    id: str
    request: str
    tenant: str
    url: str
    state: DeliveryState
    type: str
    created: float
    attempts: int
    next_at: float | None = None
    status: int | None = None
    error: str = ""
    demand: str = ""
