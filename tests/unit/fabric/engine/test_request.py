"""A request as an engine follows it, and as it is remembered when it is over."""

from __future__ import annotations

import asyncio
import gc
import pickle

from amber_ray.core.model.request import Failure
from amber_ray.core.planning.plan import Target
from amber_ray.fabric.engine.cache import Answers, Cache
from amber_ray.fabric.engine.request import Ended, TrackedRequest
from amber_ray.fabric.engine.requests import RequestTracker
from amber_ray.fabric.transport.messages import Answer
from tests.core_kit import asset, clip

TARGETS = tuple(Target("look", clip(asset(), i), f"k{i}") for i in range(3))
BAD = Failure("input", "MediaError", "it is damaged", "look", "k2", "a", 422)


def answers() -> list[Answer]:
    good = [Answer(f"k{i}", seconds=1.5, inline=pickle.dumps(i)) for i in range(2)]
    return [*good, Answer("k2", failure=BAD)]


def pending(id: str = "r1") -> TrackedRequest:
    return TrackedRequest(id, TARGETS, (), "me", 12.5, {0}, ("look",))


def finished() -> TrackedRequest:
    made = pending()
    made.answer(answers()[::-1])
    made.progress[0] = 3, 3
    made.finish(0, "done")
    return made


def test_a_request_that_is_over_is_told_as_it_was() -> None:
    one = finished()
    one.accepted = True
    again = one.ended_as().pending()
    assert again.view() == one.view()
    assert (again.running, again.order, again.accepted) == (False, ["k2", "k1", "k0"], True)
    assert asyncio.run(again.wait(0.0))


def test_one_that_was_cancelled_says_so() -> None:
    one = pending()
    one.answer(answers()[:1])
    one.finish(0, "cancelled")
    again = one.ended_as().pending()
    assert again.view() == one.view()
    assert [r.state for r in again.view().results] == ["ready", "cancelled", "cancelled"]


def test_many_answers_wake_who_waits_once_and_repeats_do_not() -> None:
    one = pending()
    woken = one._changed
    one.answer(answers())
    assert woken.is_set()
    woken = one._changed
    one.answer(answers())
    assert not woken.is_set()


def test_what_is_answered_from_memory_leaves_little_for_the_garbage_collector() -> None:
    known = Answers(1 << 20)
    for answer in answers()[:2]:
        known.put(answer)
    following = RequestTracker([], known, Cache(1 << 20))
    targets = TARGETS[:2]

    def ask(id: str) -> None:
        one = TrackedRequest(id, targets, (), "me", 12.5, {0}, ("look",))
        following.add(one)
        assert following.known(one, {0})

    ask("first")
    gc.collect()
    before = len(gc.get_objects())
    for i in range(1000):
        ask(f"r{i}")
    gc.collect()
    assert len(gc.get_objects()) - before <= 4 * 1000
    assert isinstance(following._pending["r7"], Ended)
    view = asyncio.run(following.status("r7"))
    assert (view.state, [r.value for r in view.results], view.done, view.total) == ("done", [0, 1], 2, 2)
