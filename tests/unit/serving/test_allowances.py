"""What a token may ask for is bounded, refused beyond with a time to come back, and shared out."""

from __future__ import annotations

import asyncio

import pytest

from amber_ray.core.model.trust import EVERY_SCOPE, Caller
from amber_ray.errors import Overloaded
from amber_ray.serving.allowances import Allowances
from tests.http_app import client, compute_body, run
from tests.memory_service import MemoryService
from tests.unit.serving.test_keyring import Watch, watch

__all__ = ["watch"]


def caller(name: str = "ci", rate: float | None = None, at_once: int | None = None) -> Caller:
    return Caller(name, "default", EVERY_SCOPE, brings_code=False, rate=rate, at_once=at_once)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def entered(allowances: Allowances, who: Caller, times: int) -> int:
    """How many of so many requests at one moment are let in."""
    count = 0
    for _ in range(times):
        try:
            allowances.enter(who)
        except Overloaded:
            continue
        count += 1
    return count


@pytest.mark.parametrize(("rate", "replicas", "burst"), [(10, 1, 10), (10, 2, 5), (0.5, 1, 1), (3, 4, 1)])
def test_a_rate_is_kept_in_the_mean_and_a_second_of_it_may_come_at_once(rate, replicas, burst) -> None:
    clock = Clock()
    allowances, who = Allowances(replicas, clock), caller(rate=rate)
    assert entered(allowances, who, 100) == burst
    assert entered(allowances, caller("other", rate=rate), 100) == burst
    count = 0
    for _ in range(10_000):
        clock.now += 0.01
        count += entered(allowances, who, 2)
    assert count == pytest.approx(100 * rate / replicas, rel=0.02)


def test_who_waits_as_long_as_it_was_told_is_let_in() -> None:
    clock = Clock()
    allowances, who = Allowances(1, clock), caller(rate=0.25)
    allowances.enter(who)
    with pytest.raises(Overloaded, match=r"0\.25 requests a second") as refused:
        allowances.enter(who)
    clock.now += refused.value.retry_after - 0.01
    with pytest.raises(Overloaded):
        allowances.enter(who)
    clock.now += 0.011
    allowances.enter(who)


@pytest.mark.parametrize(("replicas", "share"), [(1, 3), (2, 1), (9, 1)])
def test_requests_under_way_are_bounded_and_shared_out(replicas: int, share: int) -> None:
    allowances, who = Allowances(replicas, Clock()), caller(at_once=3)
    assert entered(allowances, who, 5) == share
    allowances.left(who)
    assert entered(allowances, who, 5) == 1


def test_a_caller_without_limits_has_none() -> None:
    assert entered(Allowances(1, Clock()), caller(), 10_000) == 10_000


def test_a_server_answers_429_and_when_to_come_back(watch: Watch) -> None:
    token = watch.book.add("busy", "default", EVERY_SCOPE, watch.now, rate=0.1)
    held = {"Authorization": f"Bearer {watch.book.add('one', 'default', EVERY_SCOPE, watch.now, at_once=1)}"}

    async def story() -> None:
        service = MemoryService()
        async with client(service, keyring=watch.keyring()) as http:
            for status in (200, 429):
                answer = await http.get("/v1/stats", headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == status
            assert 8 <= int(answer.headers["Retry-After"]) <= 10
            assert "0.1 requests a second" in answer.json()["detail"]
            assert (await http.get("/healthz")).status_code == 200
            service.gate.clear()
            waiting = asyncio.create_task(
                http.post("/v1/compute", json=compute_body("probe"), headers=held | {"Prefer": "wait=30"})
            )
            while not any(call[0] == "compute" for call in service.asked):
                await asyncio.sleep(0.01)
            assert (await http.get("/v1/features", headers=held)).status_code == 429
            service.gate.set()
            assert (await waiting).status_code == 200
            assert (await http.get("/v1/features", headers=held)).status_code == 200

    run(story)
