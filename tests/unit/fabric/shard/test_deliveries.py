"""Deliveries of a shard: what is written before what, what is sent when, and what is told of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from amber_ray.core.deliveries.record import Delivery, Outcome
from amber_ray.core.deliveries.signature import signatures
from amber_ray.core.deliveries.urls import CallbackUrl
from amber_ray.core.model.callback import Callback
from amber_ray.core.model.units import Asset
from amber_ray.errors import BadRequest, Overloaded, RequestMismatch, StoreError, UnknownDelivery
from amber_ray.fabric.shard import deliveries as under_test
from amber_ray.fabric.shard.deliveries import LOST_SECONDS, ROOM_SECONDS, SENDING_TO_ONE, Deliveries
from amber_ray.fabric.shard.requests import RequestTable
from amber_ray.fabric.transport.messages import Answer, Promise, Standing
from amber_ray.settings import Limits
from tests.unit.fabric.shard.kit import Bench, run, turns
from tests.unit.fabric.shard.test_requests import BODY, OLD, ask, part, submission, table

URL = "https://hooks.example/a"
SECRET = "whsec_" + "a" * 32


def bench(**settings: Any) -> Bench:
    return Bench(**{"callback_hosts": ("hooks.example",), "callback_secrets": (SECRET,), **settings})


def shard(at: Bench) -> tuple[Deliveries, RequestTable]:
    requests = table(at)
    return Deliveries(at.context, requests), requests


def promise(request: str = "r1", *on: Any, end: Any = None, tenant: str = "t", url: str = URL) -> Promise:
    return Promise(request, tenant, Callback(url, on or ("done", "failed")), 0, end)


async def look(made: Deliveries) -> None:
    await made.look()
    await turns(30)


def bodies(at: Bench) -> list[Mapping[str, Any]]:
    return [json.loads(body) for _, _, body in at.post.sent]


def test_a_promise_is_written_once_and_before_it_is_given() -> None:
    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        at.notes.full = True
        with pytest.raises(StoreError, match="No space left"):
            await made.promise(promise())
        at.notes.full = False
        await made.promise(promise())
        await made.promise(promise())
        [kept] = at.notes.records.values()
        assert (kept.id, kept.state, kept.tenant, kept.url) == ("end_r1", "waiting", "t", URL)
        with pytest.raises(RequestMismatch, match="another callback"):
            await made.promise(promise("r1", "failed"))

    run(story())


@pytest.mark.parametrize("on", [("done", "failed"), ("result",)])
def test_what_could_not_be_written_was_promised_to_nobody_and_is_not_told(on: tuple[Any, ...]) -> None:
    """Its caller was refused, and asks again; by then an asset may be found, and the request goes on."""

    async def story() -> None:
        at = bench()
        made, requests = shard(at)
        at.notes.full = True
        with pytest.raises(StoreError):
            await made.promise(promise("r1", *on, end=("failed", 0, 1)))
        at.notes.full = False
        await look(made)
        assert at.notes.records == {}
        await ask(requests, submission("r1", {**BODY, "callback": {}}))
        await made.promise(promise("r1", *on))
        await look(made)
        assert at.post.sent == []
        record = requests.record("r1")
        assert record is not None
        record.answers[record.targets[0].key] = Answer(record.targets[0].key)
        requests.finished("r1")
        await look(made)
        assert [body["data"]["results"]["ready"] for body in bodies(at)] == [1]

    run(story())


def test_an_end_that_was_told_to_a_caller_is_on_paper_though_no_journal_has_it() -> None:
    """The store refused each write but the first, of a promise while the request went on; then all died."""

    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        await made.promise(promise())
        await made.promise(promise(end=("done", 3, 0)))
        assert at.notes.records["end_r1"].state == "waiting"  # the shards may know better
        again = Deliveries(at.context, table(at))
        await look(again)
        assert [body["data"]["results"]["ready"] for body in bodies(at)] == [3]

    run(story())


@pytest.mark.parametrize("state", ["running", "done"])
def test_what_is_promised_counts_only_where_no_part_of_the_request_goes_on(state: str) -> None:
    async def story() -> None:
        at = bench(shards=2)
        made, _ = shard(at)
        at.peers.standings = {"r1": Standing(state, 5.0, (0, 1), 1, 0)}  # and this shard's part is not known
        await made.promise(promise())
        await made.promise(promise(end=("done", 3, 0)))
        await look(made)
        ready = [body["data"]["results"]["ready"] for body in bodies(at)]
        assert ready == ([] if state == "running" else [3])

    run(story())


def test_a_request_that_was_given_up_and_is_asked_for_again_is_told_of() -> None:
    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        await made.promise(promise("lost"))
        await look(made)
        at.clock.time += LOST_SECONDS + 1.0
        await look(made)
        assert at.notes.records["end_lost"].state == "failed"
        await made.promise(promise("lost", end=("done", 1, 0)))
        await look(made)
        assert [body["type"] for body in bodies(at)] == ["request.done"]

    run(story())


@pytest.mark.parametrize("on", [("done",), ("result",)])
def test_an_end_that_could_not_be_written_is_told_when_it_is_said_again(on: tuple[Any, ...]) -> None:
    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        at.notes.full = True
        for _ in range(2):
            with pytest.raises(StoreError):
                await made.promise(promise("r1", *on, end=("done", 1, 0)))
        at.notes.full = False
        await made.promise(promise("r1", *on, end=("done", 1, 0)))
        [kept] = at.notes.records.values()
        assert (kept.state, kept.type) == ("pending", f"request.{on[0]}")
        await look(made)
        assert len(at.post.sent) == 1

    run(story())


def test_a_message_is_sent_when_the_request_has_ended_and_not_before() -> None:
    async def story() -> None:
        at = bench()
        made, requests = shard(at)
        await ask(requests, submission("r1", {**BODY, "callback": {}}))
        await made.promise(promise())
        await look(made)
        assert at.post.sent == []
        record = requests.record("r1")
        assert record is not None
        record.answers[record.targets[0].key] = Answer(record.targets[0].key)
        requests.finished("r1")
        await look(made)
        [(url, headers, body)] = at.post.sent
        assert url == URL
        assert json.loads(body) == {
            "type": "request.done",
            "timestamp": "2023-11-14T22:30:00.000+00:00",
            "data": {
                "request": "r1",
                "tenant": "t",
                "state": "done",
                "results": {"ready": 1, "failed": 0},
                "failed_assets": 0,
                "links": {"request": "/v1/requests/r1"},
            },
        }
        stamp = int(headers["webhook-timestamp"])
        assert (stamp, headers["webhook-id"]) == (int(at.clock.unix()), "end_r1")
        assert headers["webhook-signature"] == signatures([SECRET], "end_r1", stamp, body)
        await look(made)
        assert len(at.post.sent) == 1

    run(story())


def test_a_request_with_a_callback_is_journaled_though_it_is_over_at_once() -> None:
    async def story() -> None:
        at = bench()
        _, requests = shard(at)
        at.context.spawn = lambda coroutine: coroutine.close()
        record = {**BODY, "callback": {"url": URL, "on": ["done"]}}
        plain = at.feed

        def feed(event: Any) -> None:
            plain(event)
            requests.finished(event.id)

        at.context.feed = feed
        await ask(requests, submission("r1", record), submission("r2", BODY))
        assert list(at.journal.records) == ["r1.0"]

    run(story())


@pytest.mark.parametrize(
    ("on", "state", "sent"),
    [
        (("done",), "done", ["request.done"]),
        (("done",), "failed", []),
        (("done",), "cancelled", []),
        (("failed",), "done", []),
        (("failed",), "failed", ["request.failed"]),
        (("failed",), "cancelled", ["request.cancelled"]),
        (("result",), "done", ["request.result"]),
        (("done", "result"), "done", ["request.done"]),
    ],
)
def test_only_what_was_asked_for_is_told(on: tuple[Any, ...], state: str, sent: list[str]) -> None:
    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        await made.promise(promise("r1", *on, end=(state, 2, 1)))
        await look(made)
        assert [body["type"] for body in bodies(at)] == sent
        assert [one.type for one in at.notes.records.values()] == sent  # and nothing else is kept

    run(story())


def test_results_are_told_as_they_come_one_message_at_a_time() -> None:
    async def story() -> None:
        at = bench()
        made, requests = shard(at)
        films = [Asset(letter * 32, f"/m/{letter}.mp4", "video/mp4", 10, 5.0) for letter in "abc"]
        await ask(requests, submission("r1", {**BODY, "callback": {}}), of=part(OLD, *films))
        await made.promise(promise("r1", "done", "result"))
        record = requests.record("r1")
        assert record is not None
        keys = [target.key for target in record.targets]
        await look(made)
        assert at.post.sent == []
        record.answers[keys[0]] = Answer(keys[0])
        at.post.outcomes = [Outcome(500)]
        await look(made)
        record.answers[keys[1]] = Answer(keys[1])
        await look(made)  # the first is still to be sent
        assert [body["data"]["results"]["ready"] for body in bodies(at)] == [1]
        at.clock.time += 10.0
        await look(made)
        await look(made)
        assert [body["data"]["results"]["ready"] for body in bodies(at)] == [1, 1, 2]
        again = Deliveries(at.context, requests)  # another incarnation tells nothing twice
        await look(again)
        record.answers[keys[2]] = Answer(keys[2])
        requests.finished("r1")
        await look(again)
        assert [body["type"] for body in bodies(at)] == ["request.result"] * 3 + ["request.done"]

    run(story())


def test_what_was_not_taken_is_sent_again_also_by_the_next_incarnation() -> None:
    async def story() -> None:
        at = bench()
        made, requests = shard(at)
        at.post.outcomes = [Outcome(500), Outcome(429, "40"), Outcome(error="no connection")]
        await made.promise(promise(end=("done", 1, 0)))
        await look(made)
        at.clock.time += 2.0
        await look(made)
        assert len(at.post.sent) == 1  # it is too early
        at.clock.time += 3.0
        await look(made)
        assert len(at.post.sent) == 2
        again = Deliveries(at.context, requests)
        at.clock.time += 39.0
        await look(again)
        assert len(at.post.sent) == 2  # as the receiver has asked for
        at.clock.time += 2.0
        await look(again)
        at.clock.time += 90.0
        await look(again)
        assert len(at.post.sent) == 4
        told = again.stats()
        assert [told[f'deliveries{{state="{state}"}}'] for state in ("pending", "delivered")] == [0, 1]
        attempts = [told[f'delivery_attempts_total{{outcome="{o}"}}'] for o in ("taken", "unanswered")]
        assert attempts == [1, 1]  # of this incarnation
        assert len({(headers["webhook-id"], body) for _, headers, body in at.post.sent}) == 1
        assert at.notes.records["end_r1"].state == "delivered"

    run(story())


def test_after_410_nothing_is_sent_but_by_hand() -> None:
    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        at.post.outcomes = [Outcome(410)]
        await made.promise(promise(end=("done", 1, 0)))
        await look(made)
        at.clock.time += 6 * 86_400.0
        await look(made)
        assert len(at.post.sent) == 1
        [view] = await made.views("failed", None)
        assert (view.id, view.status, view.error) == ("end_r1", 410, "the receiver answered 410")
        assert (await made.replay("end_r1", "t")).state == "pending"
        await look(made)
        assert len(at.post.sent) == 2
        assert await made.views("failed", None) == []

    run(story())


def test_what_is_another_tenants_is_not_there() -> None:
    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        await made.promise(promise("r1", tenant="mine", end=("done", 1, 0)))
        at.clock.time += 1.0
        await made.promise(promise("r2", tenant="theirs"))
        assert [view.request for view in await made.views(None, None)] == ["r2", "r1"]
        assert [view.request for view in await made.views(None, "mine")] == ["r1"]
        assert await made.views("waiting", "mine") == []
        for id, tenant in (("end_r1", "theirs"), ("end_r3", None)):
            with pytest.raises(UnknownDelivery, match="no delivery has the id"):
                await made.replay(id, tenant)
        with pytest.raises(BadRequest, match="has no message yet"):
            await made.replay("end_r2", None)

    run(story())


def test_one_slow_receiver_does_not_hold_up_the_others() -> None:
    async def story() -> None:
        at = bench(callback_hosts=("hooks.example", "other.example"))
        made, _ = shard(at)
        open_ = asyncio.Event()

        async def post(url: CallbackUrl, headers: Mapping[str, str], body: bytes) -> Outcome:
            at.post.sent.append((str(url), headers, body))
            if url.origin.host == "hooks.example":
                await open_.wait()
            return Outcome(200)

        at.post.post = post  # type: ignore[method-assign]
        for n in range(10):
            await made.promise(promise(f"r{n}", end=("done", 1, 0)))
        await made.promise(promise("other", end=("done", 1, 0), url="https://other.example/"))
        await look(made)
        urls = [url for url, _, _ in at.post.sent]
        assert (urls.count(URL), urls.count("https://other.example/")) == (SENDING_TO_ONE, 1)
        open_.set()
        await turns(60)
        assert len(at.post.sent) == 11  # one that has ended makes room for the next

    run(story())


def test_a_tenant_has_a_bound_of_callbacks_that_are_still_to_be_made() -> None:
    async def story() -> None:
        at = bench(limits=Limits(deliveries_per_tenant=2))
        made, _ = shard(at)
        await made.reserve("r1", "t")
        await made.promise(promise("r1", end=("done", 1, 0)))
        for _ in range(2):
            await made.reserve("r2", "t")  # held, and not promised yet; twice is once
        with pytest.raises(Overloaded, match="tenant 't' has 2 callbacks that are still to be made"):
            await made.reserve("r3", "t")
        await made.reserve("r1", "t")  # it has its room
        await made.reserve("r3", "other")
        made.release("r2")  # its request was refused
        await made.reserve("r3b", "t")
        await made.promise(promise("r3b"))
        with pytest.raises(Overloaded):
            await made.reserve("r4", "t")
        await look(made)
        await made.reserve("r4", "t")
        with pytest.raises(Overloaded):
            await made.reserve("r5", "t")
        at.clock.time += ROOM_SECONDS  # whoever held room died
        await made.reserve("r5", "t")
        await made.promise(promise("r6"))  # it was accepted by then, so it is kept

    run(story())


def test_a_host_that_settings_name_no_more_is_not_called() -> None:
    async def story() -> None:
        first = bench()
        made, _ = shard(first)
        await made.promise(promise(end=("done", 1, 0)))
        at = bench(callback_hosts=("other.example",))
        at.notes.records = first.notes.records
        made, _ = shard(at)
        await look(made)
        assert at.post.sent == []
        [view] = await made.views(None, None)
        assert view.state == "pending"
        assert "callback_hosts do not name it" in view.error

    run(story())


def test_a_request_that_nobody_knows_is_given_up_after_a_while() -> None:
    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        await made.promise(promise("lost"))
        await look(made)
        at.clock.time += LOST_SECONDS
        await look(made)
        assert at.notes.records["end_lost"].state == "waiting"
        at.clock.time += 1.0
        await look(made)
        assert at.notes.records["end_lost"].state == "failed"
        with pytest.raises(BadRequest, match="not known any more"):
            await made.replay("end_lost", None)

    run(story())


def test_a_request_with_a_part_at_a_shard_that_can_not_be_reached_is_not_given_up() -> None:
    async def story() -> None:
        at = bench(shards=2)
        made, _ = shard(at)
        await made.promise(promise("far"))
        for _ in range(3):
            await look(made)
            at.clock.time += LOST_SECONDS + 1
        assert at.notes.records["end_far"].state == "waiting"

    run(story())


def test_only_so_many_that_are_over_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "KEPT", 2)

    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        for n in range(4):
            at.clock.time += 1.0
            await made.promise(promise(f"r{n}", end=("done", 1, 0)))
            await look(made)
        assert len(at.notes.records) == 4
        at.clock.time += under_test.FORGET_SECONDS
        await look(made)
        assert list(at.notes.records) == ["end_r2", "end_r3"]

    run(story())


def test_one_record_that_can_not_be_written_keeps_no_other_waiting() -> None:
    async def story() -> None:
        at = bench()
        made, _ = shard(at)
        plain = at.notes.write

        async def write(one: Delivery) -> None:
            if one.id == "end_r1" and one.state == "delivered":
                raise StoreError("it can't be written")
            await plain(one)

        at.notes.write = write  # type: ignore[method-assign]
        for n in range(3):
            await made.promise(promise(f"r{n}", end=("done", 1, 0)))
        await look(made)
        with pytest.raises(StoreError, match="it can't be written"):
            await look(made)
        states = {id: one.state for id, one in at.notes.records.items()}
        assert states == {"end_r0": "delivered", "end_r1": "pending", "end_r2": "delivered"}
        assert len(at.post.sent) == 3  # it is not sent again for that
        at.notes.write = plain  # type: ignore[method-assign]
        await look(made)
        assert at.notes.records["end_r1"].state == "delivered"

    run(story())


def test_what_is_over_is_forgotten_in_time() -> None:
    async def story() -> None:
        at = bench(request_seconds=1000.0)
        made, _ = shard(at)
        at.post.outcomes = [Outcome(500)] * 99
        await made.promise(promise("r1", end=("done", 1, 0), tenant="t"))
        await look(made)
        at.post.outcomes.clear()
        await made.promise(promise("r2", end=("done", 1, 0), tenant="t"))
        await look(made)
        assert [one.state for one in at.notes.records.values()] == ["pending", "delivered"]
        at.clock.time += 1100.0
        at.post.outcomes = [Outcome(500)]
        await look(made)
        assert list(at.notes.records) == ["end_r1"]  # what is still to be sent stays

    run(story())
