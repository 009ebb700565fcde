"""A delivery's states, and when it is sent again."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.deliveries import backoff
from amber_ray.core.deliveries.record import Delivery, Outcome
from amber_ray.core.model.callback import Callback
from amber_ray.errors import BadRequest

NOW = 1_700_000_000.0
DAY = 86_400.0


def waiting() -> Delivery:
    return Delivery("end_r1", "r1", "t", "https://hooks.example/", ("done",), NOW)


def pending() -> Delivery:
    return waiting().pending("request.done", "{}", NOW)


@given(st.text(max_size=20), st.integers(1, 1000), st.none() | st.floats(0, DAY))
def test_a_pause_is_what_was_asked_for_or_grows_and_never_exceeds_a_day(
    id: str, attempts: int, asked: float | None
) -> None:
    grown = min(DAY, 5.0 * 4.0 ** min(attempts - 1, 20))
    seconds = backoff.pause(id, attempts, asked)
    assert max(grown / 2, asked or 0.0) <= seconds <= max(grown, asked or 0.0) <= DAY
    assert backoff.pause(id, attempts, asked) == seconds


def test_receivers_are_not_all_called_at_one_moment() -> None:
    assert len({backoff.pause(f"end_r{i}", 3) for i in range(100)}) == 100


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_the_end(status: int) -> None:
    done = pending().attempted(Outcome(status), NOW + 1)
    assert (done.state, done.attempts, done.status, done.error, done.ended) == (
        "delivered",
        1,
        status,
        "",
        NOW + 1,
    )
    assert not done.open


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome(500), "the receiver answered 500"),
        (Outcome(199), "the receiver answered 199"),
        (Outcome(404), "the receiver answered 404"),
        (Outcome(302), "redirects are not followed"),
        (Outcome(error="no connection: refused"), "no connection: refused"),
        (Outcome(), "no answer"),
        (Outcome(error="x" * 5000), "x" * 300),
    ],
)
def test_what_was_not_taken_is_sent_again_after_a_pause(outcome: Outcome, why: str) -> None:
    again = pending().attempted(outcome, NOW)
    assert (again.state, again.attempts) == ("pending", 1)
    assert again.error.endswith(why)
    assert NOW + 2.5 <= again.next_at <= NOW + 5


def test_a_receiver_may_ask_for_a_longer_pause() -> None:
    assert pending().attempted(Outcome(429, "60"), NOW).next_at == NOW + 60
    assert pending().attempted(Outcome(503, formatdate(NOW + 70, usegmt=True)), NOW).next_at == NOW + 70


def test_410_is_the_end_and_so_is_time() -> None:
    assert pending().attempted(Outcome(410), NOW).state == "failed"
    assert pending().attempted(Outcome(500), NOW + 3 * DAY - 1).state == "pending"
    late = pending().attempted(Outcome(500), NOW + 3 * DAY)
    assert (late.state, late.ended) == ("failed", NOW + 3 * DAY)


def test_a_replay_begins_anew_with_the_same_message() -> None:
    over = pending().attempted(Outcome(410), NOW)
    again = over.replayed(NOW + 5)
    assert (again.state, again.attempts, again.next_at, again.began) == ("pending", 0, NOW + 5, NOW + 5)
    assert (again.id, again.type, again.body) == (over.id, over.type, over.body)
    with pytest.raises(BadRequest, match="has no message yet"):
        waiting().replayed(NOW)
    with pytest.raises(BadRequest, match="the request is not known"):
        waiting().given_up("the request is not known any more", NOW).replayed(NOW)


def test_what_is_told_says_when_it_is_sent_next_only_if_it_is() -> None:
    assert pending().view().next_at == NOW
    assert waiting().view().next_at is None
    assert pending().attempted(Outcome(200), NOW).view().next_at is None


def test_a_record_is_read_as_it_was_written() -> None:
    for one in (waiting(), pending(), pending().attempted(Outcome(500, "5"), NOW)):
        assert Delivery.from_json(one.to_json()) == one
    for wrong in ({}, {**waiting().to_json(), "state": "gone"}, {**waiting().to_json(), "on": 5}):
        with pytest.raises(ValueError, match="no delivery"):
            Delivery.from_json(wrong)


def test_a_delivery_is_for_one_callback() -> None:
    assert waiting().is_for(Callback("https://hooks.example/", ("done",)))
    assert not waiting().is_for(Callback("https://hooks.example/", ("failed",)))
    assert not waiting().is_for(Callback("https://hooks.example/x", ("done",)))
