"""Requests and sessions of a shard: who is told what, what is journaled, whose interest ends what."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Asset
from amber_ray.core.state import events as ev
from amber_ray.errors import DamagedRecord, StoreError, Unavailable
from amber_ray.fabric.shard.requests import PLACES_BYTES, SESSION_SECONDS, RequestTable
from amber_ray.fabric.transport.messages import (
    OWN,
    Made,
    MissingPlans,
    PlanPart,
    Reply,
    Slot,
    Submission,
)
from amber_ray.settings import Limits
from tests.unit.fabric.shard.kit import Bench, part_of, run, turns

FILM = Asset("a" * 32, "/m/a.mp4", "video/mp4", 10, 5.0)
BODY: dict[str, Any] = {"features": ["size"], "assets": {FILM.id: dataclasses.asdict(FILM)}}


def registry(version: str = "1") -> Registry:
    @feature(version=version, name="size")
    def size(asset: Asset) -> int:
        return 1

    return Registry([size.__amber__])


OLD, NEW = registry("1"), registry("2")


def code_of(made: Registry) -> Callable[[], Awaitable[Registry]]:
    """What loads a registry."""

    async def code() -> Registry:
        return made

    return code


def part(of: Registry = OLD, *assets: Asset) -> PlanPart:
    return part_of(of, ["size"], assets or [FILM])


def submission(id: str, record: dict[str, Any] | None = None, **changes: Any) -> Submission:
    plain = Submission(
        id=id,
        plan="p",
        priority=2,
        tenant="default",
        deadline_seconds=None,
        refresh=False,
        load=True,
        created=1.0,
        record=record,
        attempt=1,
    )
    return dataclasses.replace(plain, **changes)


def table(bench: Bench) -> RequestTable:
    bench.context.registries |= {OLD.digest: b"", NEW.digest: b""}
    return RequestTable(bench.context)


async def ask(
    made: RequestTable, *ones: Submission, of: PlanPart | None = None, by: str = "s"
) -> list[Reply]:
    replies = await made.submit(by, {"p": of or part()}, ones)
    assert not isinstance(replies, MissingPlans)
    return replies


def live(bench: Bench) -> set[str]:
    return set(bench.context.ledger.requests)


# --- the journal


def test_of_requests_sent_together_only_the_unwritten_one_is_refused() -> None:
    async def story() -> None:
        bench = Bench()
        bench.journal.refuses = lambda name: name.startswith("b.")
        made = table(bench)
        replies = await ask(made, *(submission(id, BODY) for id in "abc"))
        assert [(r.id, r.unsaved) for r in replies] == [
            ("a", ""),
            ("b", "b.0 can't be written: No space left on device"),
            ("c", ""),
        ]
        assert sorted(bench.journal.records) == ["a.0", "c.0"]

    run(story())


def test_a_request_is_accepted_only_once_it_is_written() -> None:
    async def story() -> None:
        bench = Bench()
        bench.journal.refuses = lambda name: name.startswith("b.")
        made = table(bench)
        await ask(made, submission("a"), submission("b"))
        await made.accept({"a": BODY})
        with pytest.raises(StoreError, match="No space left"):
            await made.accept({"b": BODY})
        made.end("s")
        await turns()
        assert live(bench) == {"a"}  # what was promised goes on without its engine

    run(story())


def test_a_resumed_request_keeps_refresh_deadline_and_place() -> None:
    async def story() -> None:
        first = Bench()
        await ask(table(first), submission("r", BODY, refresh=True, deadline_seconds=60.0, positions=(7,)))
        again = Bench()
        again.journal.records = first.journal.records
        again.clock.time += 20.0
        moved = dataclasses.replace(FILM, uri="/m/elsewhere.mp4")
        again.places.at = {FILM.id: moved}
        made = table(again)
        await made.resume(code_of(OLD))
        [event] = again.events
        assert isinstance(event, ev.Requested)
        assert event.refresh
        assert event.deadline == again.clock.now() + 40.0
        assert [s.unit.uri for s in event.steps.values()] == ["/m/elsewhere.mp4"]  # type: ignore[union-attr]

    run(story())


def test_code_is_loaded_for_requests_that_are_left_over_and_for_nothing_else() -> None:
    async def story() -> None:
        loads: list[str] = []

        async def code() -> Registry:
            loads.append("loaded")
            return OLD

        await table(Bench()).resume(code)
        assert loads == []
        first = Bench()
        await ask(table(first), submission("r", BODY))
        again = Bench()
        again.journal.records = first.journal.records
        again.places.at = {FILM.id: FILM}
        await table(again).resume(code)
        assert loads == ["loaded"]
        assert len(again.events) == 1

    run(story())


def test_an_end_that_could_not_be_journaled_is_found_out_when_somebody_asks() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await made.resume(code_of(OLD))
        await ask(made, submission("r", BODY))
        bench.journal.refuses = lambda name: True
        made.cancel(["r"])
        await turns()
        made.forget("r")
        bench.journal.refuses = lambda name: False
        reply = await made.attach("s", "r")
        assert reply is not None
        assert reply.state == "running"
        assert live(bench) == {"r"}

    run(story())


def test_one_record_that_can_not_be_read_says_nothing_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        first = Bench()
        await ask(table(first), *(submission(id, BODY) for id in "abcd"))
        first.journal.records["d.0"] = json.dumps({"id": "d.0", "state": "running", "targets": 3})
        second, third = Bench(), Bench()
        second.journal.records = first.journal.records
        await table(second).resume(code_of(OLD))
        assert live(second) == {"a", "b", "c"}  # the process starts
        assert "the record of request 'd' is not understood" in caplog.text

        made, plain = table(third), third.journal.read
        await made.resume(code_of(OLD))
        third.journal.records = first.journal.records

        async def read(name: str) -> Mapping[str, Any] | None:
            if name == "b.0":
                raise StoreError("b.0 can't be read now")
            if name == "c.0":
                raise DamagedRecord("c.0 is no JSON")
            return await plain(name)

        third.journal.read = read  # type: ignore[method-assign]
        told = await made.standing("abcd", ())
        assert [(id, one.state, one.created > 0) for id, one in told.items()] == [
            ("a", "running", True),
            ("b", "running", False),  # it may go on: nobody is told that it is lost
        ]

    run(story())


# --- interest


def test_a_request_that_was_withdrawn_begins_anew_under_its_id() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await ask(made, submission("r"))
        made.withdraw("s", {"r": 1})
        assert live(bench) == set()
        [reply] = await ask(made, submission("r", attempt=2))
        assert (reply.state, live(bench)) == ("running", {"r"})

    run(story())


def test_a_late_withdrawal_ends_nothing_newer() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await ask(made, submission("r"))
        await ask(made, submission("r", attempt=2))
        made.withdraw("s", {"r": 1})
        assert live(bench) == {"r"}
        made.withdraw("s", {"r": 2})
        assert live(bench) == set()

    run(story())


def test_a_withdrawal_that_overtakes_its_request_ends_it_all_the_same() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        made.withdraw("s", {"r": 1})
        [reply] = await ask(made, submission("r"))
        assert (reply.state, live(bench)) == ("cancelled", set())
        await ask(made, submission("r", attempt=2))
        assert live(bench) == {"r"}

    run(story())


def test_who_leaves_while_a_promise_can_not_be_written_takes_the_request_along() -> None:
    """A second try to write it waits behind the first, and may not put on paper that it was cancelled."""

    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await ask(made, submission("r"))
        writing, refused = asyncio.Event(), asyncio.Event()
        plain = bench.journal.write

        async def write(name: str, data: Mapping[str, Any]) -> None:
            bench.journal.write = plain  # type: ignore[method-assign]
            writing.set()
            await refused.wait()
            raise StoreError("no space left")

        bench.journal.write = write  # type: ignore[method-assign]
        tries = [asyncio.create_task(made.accept({"r": BODY})) for _ in range(2)]
        await writing.wait()
        made.withdraw("s", {"r": 1})
        assert live(bench) == {"r"}  # it may be accepted yet
        refused.set()
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreError, Unavailable]
        assert (live(bench), bench.journal.records) == (set(), {})
        [reply] = await ask(made, submission("r", BODY, attempt=2))
        assert (reply.state, list(bench.journal.records)) == ("running", ["r.0"])

    run(story())


def test_of_two_engines_one_may_leave() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await ask(made, submission("r"), by="one")
        await ask(made, submission("r"), by="two")
        made.withdraw("one", {"r": 1})
        assert live(bench) == {"r"}
        bench.clock.time += SESSION_SECONDS + 1.0
        await made.poll("one", "", 0, 0.0)
        made.sweep(bench.clock.now())
        assert live(bench) == set()  # the other was not heard of for a minute

    run(story())


def test_a_cancelled_request_is_cancelled_for_everyone() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await ask(made, submission("r"), by="one")
        await ask(made, submission("r"), by="two")
        made.cancel(["r"])
        assert (await made.poll("one", "", 0, 0.0)).finished == [("r", "cancelled")]
        assert (await made.poll("two", "", 0, 0.0)).finished == [("r", "cancelled")]

    run(story())


# --- bounds, and other plans under the same id


def test_work_that_was_admitted_once_is_not_refused_on_its_way_to_another_shard() -> None:
    async def story() -> None:
        bench = Bench(limits=Limits(requests_per_tenant=1))
        made = table(bench)
        await ask(made, submission("r1"))
        [refused] = await ask(made, submission("r2"))
        assert "has 1 requests running" in refused.refused
        made.begin_for_peer("1-abc-7", part(), 2, "default")
        assert live(bench) == {"r1", "1-abc-7"}
        made.forget("1-abc-7")
        made.cancel(["r1"])
        [admitted] = await ask(made, submission("r2"))
        assert admitted.state == "running"

    run(story())


def test_a_question_that_arrives_twice_is_one_question() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        first = made.begin_for_peer("1-abc-7", part(), 2, "t")
        second = made.begin_for_peer("1-abc-7", part(), 2, "t")
        assert live(bench) == {"1-abc-7"}
        made.forget("1-abc-7")
        assert first.is_set()
        assert second.is_set()

    run(story())


def test_another_request_under_a_known_id_is_not_taken_for_it() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await ask(made, submission("r"))
        other = dataclasses.replace(FILM, id="b" * 32)
        [reply] = await ask(made, submission("r"), of=part(OLD, other))
        assert reply.taken
        assert live(bench) == {"r"}

    run(story())


def test_a_request_resumed_under_other_code_gives_way_to_its_caller() -> None:
    async def story() -> None:
        first = Bench()
        await ask(table(first), submission("r", BODY))
        bench = Bench()
        bench.journal.records = first.journal.records
        made = table(bench)
        await made.resume(code_of(NEW))
        follower = await made.attach("other", "r")
        assert follower is not None
        assert [t.key for t in follower.targets] == [t.key for t in part(NEW).targets]
        [reply] = await ask(made, submission("r"))
        assert reply.state == "running"
        event = bench.events[-1]
        assert isinstance(event, ev.Requested)
        assert list(event.targets) == [t.key for t in part(OLD).targets]
        assert (await made.poll("other", "", 0, 0.0)).replaced == ["r"]
        again = await made.attach("other", "r")
        assert again is not None
        assert [t.key for t in again.targets] == [t.key for t in part(OLD).targets]
        made.end("s")
        await turns()
        assert live(bench) == {"r"}  # it was accepted, and stays so

    run(story())


# --- updates


def test_updates_come_again_until_they_are_acknowledged() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await ask(made, submission("a"), submission("b"))
        made.cancel(["a"])
        lost = await made.poll("s", "", 0, 0.0)  # its answer never arrives
        made.cancel(["b"])
        again = await made.poll("s", "", 0, 0.0)
        assert again.finished == [("a", "cancelled"), ("b", "cancelled")]
        assert lost.finished == [("a", "cancelled")]
        after = await made.poll("s", again.stream, again.number, 0.0)
        assert not after

    run(story())


def test_of_two_polls_at_once_none_takes_the_others_updates_away() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await ask(made, submission("a"))
        before = await made.poll("s", "", 0, 0.0)
        late = asyncio.create_task(made.poll("s", before.stream, before.number, 5.0))
        live_one = asyncio.create_task(made.poll("s", before.stream, before.number, 5.0))
        await turns()
        made.cancel(["a"])
        first, second = await late, await live_one
        newest = max((first, second), key=lambda u: u.number)
        assert newest.finished == [("a", "cancelled")]

    run(story())


def test_a_session_that_was_given_up_begins_another_stream() -> None:
    async def story() -> None:
        made = table(Bench())
        first = await made.poll("s", "", 0, 0.0)
        made.end("s")
        await ask(made, submission("a"))  # makes the session anew, and its numbers begin again
        lost = await made.poll("s", first.stream, first.number, 5.0)  # its answer never arrives
        again = await made.poll("s", first.stream, first.number, 5.0)
        assert lost.stream == again.stream != first.stream
        made.cancel(["a"])
        told = await made.poll("s", again.stream, again.number, 0.0)
        assert told.finished == [("a", "cancelled")]

    run(story())


def test_what_was_withdrawn_is_not_begun_by_a_call_that_comes_again() -> None:
    async def story() -> None:
        made = table(Bench())
        await ask(made, submission("a", attempt=4))
        made.withdraw("s", {"a": 4})
        for _ in range(2):
            [reply] = await ask(made, submission("a", attempt=4))
            assert reply.state == "cancelled"
        [reply] = await ask(made, submission("a", attempt=5))
        assert reply.state == "running"

    run(story())


def test_a_refresh_calls_copies_back() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        await ask(made, submission("r", refresh=True))
        keys = [t.key for t in part().targets]
        assert bench.changed == keys
        assert bench.context.refreshing == set(keys)

    run(story())


def test_one_request_expires_and_another_about_the_same_key_does_not() -> None:
    async def story() -> None:
        bench = Bench({"CPU": 1.0})
        made = table(bench)
        bench.feed(ev.CapacityChanged([{"CPU": 1.0}]))
        await ask(made, submission("hasty", deadline_seconds=1.0), submission("patient"))
        bench.clock.time += 2.0
        bench.feed(ev.Tick())
        [key] = [t.key for t in part().targets]
        bench.feed(ev.Reported(1, [ev.StepReport(key, 10, 0.1, kept=True)]))
        for command in bench.commands:
            if isinstance(command, ev.Deliver):
                made.deliver(command.request, command.key, command.outcome)
        updates = await made.poll("s", "", 0, 0.0)
        assert [(id, answer.failure and answer.failure.type) for id, answer in updates.about] == [
            ("hasty", "Expired"),
            ("patient", None),
        ]

    run(story())


# --- what an operator is told


def test_a_request_that_failed_is_one_line_of_the_log_under_its_id(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        gone = {
            "ref": {"uri": "/m/gone.mp4", "id": None},
            "failure": {"type": "MediaNotFound", "message": "no"},
        }
        await ask(made, submission("r", about={"failed_assets": [gone]}, shards=(0, 1)))
        [target] = part().targets
        why = Failure("feature", "FeatureError", "ValueError:\n  boom", "size", target.key, FILM.id)
        made.deliver("r", target.key, why)
        made.finished("r")
        await ask(made, submission("fine"))
        made.deliver("fine", target.key, ev.Ready(cached=True))
        made.finished("fine")

    run(story())
    [line] = [record for record in caplog.records if record.name == "amber.requests"]
    assert (line.id, line.levelname) == ("r", "WARNING")
    assert line.getMessage() == (
        "1 of 1 results failed: size of /m/a.mp4: FeatureError: ValueError: boom (and 1 more)"
    )


# --- where large values are


FILMS = [Asset(f"{i:032x}", f"/m/{i}.mp4", "video/mp4", 10, 5.0) for i in range(5)]


def in_object_store(bench: Bench, made: RequestTable, id: str, size: int) -> list[str]:
    """Answer all of a request: its values are in the object store, with so many bytes each."""
    record = made.record(id)
    assert record is not None
    keys = [target.key for target in record.targets]
    for key in keys:
        bench.context.values[key] = Slot(f"ref of {key}", 0, size, Made(1.0, "cpu", 2.0))
        made.deliver(id, key, ev.Ready(cached=True))
    return keys


def test_places_of_large_values_come_with_answers_for_those_who_read_them() -> None:
    async def story() -> None:
        bench = Bench()
        made = table(bench)
        films = part(OLD, *FILMS)
        await ask(made, submission("r", reading=True), of=films, by="reader")
        await ask(made, submission("r"), of=films, by="other")
        keys = in_object_store(bench, made, "r", 100)
        told, untold = [await made.poll(by, "", 0, 0.0) for by in ("reader", "other")]
        assert {key: (p.ref, p.size, p.rank) for key, p in told.places.items()} == {
            key: ([f"ref of {key}"], 100, OWN) for key in keys
        }
        assert untold.places == {}
        again = await made.poll("reader", told.stream, 0, 0.0)  # those were lost on the way
        assert again.places == told.places
        (reply,) = await ask(made, submission("r", reading=True, attempt=2), of=films, by="reader")
        assert [place.key for place in reply.places] == keys
        (reply,) = await ask(made, submission("r", attempt=2), of=films, by="other")
        assert list(reply.places) == []

    run(story())


def test_a_message_brings_places_of_so_many_bytes_and_of_one_value_at_least() -> None:
    async def story() -> None:
        for size, places in ((PLACES_BYTES // 2, 2), (2 * PLACES_BYTES, 1)):
            bench = Bench()
            made = table(bench)
            await ask(made, submission("r", reading=True), of=part(OLD, *FILMS))
            in_object_store(bench, made, "r", size)
            assert len((await made.poll("s", "", 0, 0.0)).places) == places

    run(story())
