"""A delivery as it is kept: what is to be sent, to whom, and what came of it so far.

Every change makes another record; whoever keeps them writes it before it is acted upon. Times are Unix
seconds. Must not know: where records are kept, what a message says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amber_ray.core.deliveries import backoff
from amber_ray.core.model.audit import told_url
from amber_ray.core.model.callback import DELIVERY_STATES, Callback, DeliveryState, DeliveryView
from amber_ray.core.model.retry_after import retry_after
from amber_ray.errors import BadRequest

GONE = 410
LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of sending a message: the answer's status, or why there was none."""

    status: int | None = None
    retry_after: str | None = None
    error: str = ""

    @property
    def taken(self) -> bool:
        """Whether the receiver has taken it: any 2xx. A redirect is no such answer."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one URL.

    - `id`: what the receiver knows it by (`webhook-id`); `request` or `demand`, `tenant`, `url`, `on`: whose
      it is; a demand's has its message from the beginning;
    - `failed_assets`: how many assets of the request could not be found; `end`: what became of one that was
      over when its caller was answered: its state, values, failures. It counts where no shard knows better;
    - `created`: when it was asked for; `began`: when it became pending, first or again;
    - `type`, `body`: the message, once it is known;
    - `attempts`: since `began`; `next_at`: when it is sent next; `status`, `error`: of the last attempt;
    - `ended`: when it was taken, or given up.
    """

    id: str
    request: str
    tenant: str
    url: str
    on: tuple[str, ...]
    created: float
    failed_assets: int = 0
    state: DeliveryState = "waiting"
    began: float = 0.0
    type: str = ""
    body: str = ""
    attempts: int = 0
    next_at: float = 0.0
    status: int | None = None
    error: str = ""
    ended: float = 0.0
    demand: str = ""
    end: tuple[str, int, int] | None = None

    @property
    def open(self) -> bool:
        """Whether it waits, or is to be sent."""
        return self.state in ("waiting", "pending")

    def pending(self, type: str, body: str, now: float) -> Delivery:
        """The message is known: it is to be sent now."""
        return dataclasses.replace(
            self, state="pending", type=type, body=body, began=now, next_at=now, attempts=0
        )

    def attempted(self, outcome: Outcome, now: float) -> Delivery:
        """It was sent: taken, to be sent again, or given up.

        Given up is what the receiver says is gone for good (410), and what it has not taken for
        `backoff.GIVE_UP_SECONDS`.
        """
        attempts = self.attempts + 1
        tried = dataclasses.replace(
            self, attempts=attempts, status=outcome.status, error=_reason(outcome)[:LONGEST_ERROR]
        )
        if outcome.taken:
            return dataclasses.replace(tried, state="delivered", ended=now)
        if outcome.status == GONE or now - self.began >= backoff.GIVE_UP_SECONDS:
            return dataclasses.replace(tried, state="failed", ended=now)
        asked = retry_after(outcome.retry_after, now)
        return dataclasses.replace(tried, next_at=now + backoff.pause(self.id, attempts, asked))

    def replayed(self, now: float) -> Delivery:
        """It is to be sent now, whatever came of it. Raises `BadRequest` while there is no message yet."""
        if self.state == "waiting":
            raise BadRequest(f"delivery {self.id!r} has no message yet: its request {self.request!r} goes on")
        if not self.body:
            raise BadRequest(f"delivery {self.id!r} has no message that could be sent: {self.error}")
        return dataclasses.replace(self, state="pending", began=now, next_at=now, attempts=0, ended=0.0)

    def promised(self, failed_assets: int, end: tuple[str, int, int] | None) -> Delivery:
        """Its request was asked for again, and its caller is about to be answered.

        Where there is a message already, nothing changes; where it was given up without one, it waits again.
        """
        if self.body:
            return self
        return dataclasses.replace(
            self, state="waiting", failed_assets=failed_assets, end=end or self.end, error="", ended=0.0
        )

    def given_up(self, error: str, now: float) -> Delivery:
        """There will be no message."""
        return dataclasses.replace(self, state="failed", error=error[:LONGEST_ERROR], ended=now)

    def is_for(self, callback: Callback) -> bool:
        """Whether it is what a request's callback asks for."""
        return self.url == callback.url and self.on == tuple(callback.on)

    def view(self) -> DeliveryView:
        """As it is told."""
        return DeliveryView(
            id=self.id,
            request=self.request,
            tenant=self.tenant,
            url=told_url(self.url),
            state=self.state,
            type=self.type,
            created=self.created,
            attempts=self.attempts,
            next_at=self.next_at if self.state == "pending" else None,
            status=self.status,
            error=self.error,
            demand=self.demand,
        )

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Delivery:
        """Read what `to_json` wrote. Raises `ValueError` for what is no delivery."""
        try:
            end = data.get("end")
            read = cls(**{**data, "on": tuple(data["on"]), "end": None if end is None else tuple(end)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is no delivery: {error}") from error
        if read.state not in DELIVERY_STATES:
            raise ValueError(f"it is no delivery: its state is {read.state!r}")
        return read


def _reason(outcome: Outcome) -> str:
    if outcome.taken:
        return ""
    if outcome.status is None:
        return outcome.error or "no answer"
    if 300 <= outcome.status < 400:
        return f"the receiver answered {outcome.status}, and redirects are not followed"
    return f"the receiver answered {outcome.status}"
