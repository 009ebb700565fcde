"""What every implementation of `Service` must do: one suite of cases, which each implementation inherits.

An implementation is a subclass of `ServiceContract` with a fixture `scene`, which gives each case a `Scene`:
the service, a way to another engine over the same cluster, media, gates in its features, counts of their
runs, and time. Cases know nothing else: no thread, no file, no clock. So the same cases run over Ray, over
HTTP and in a simulation.

The features that a case asks for are these (`tests/contract/features.py` has them for real workers):

| feature | per | value |
|---|---|---|
| `label` | asset | the asset's id |
| `part` | segment | the asset's id and the segment's number |
| `joined` | asset | the `part`s of the asset, in order |
| `whole` | collection | the `label`s of its assets, in order |
| `fresh` | asset | the number of the run that made it, from 1 |
| `large` | asset | the same as an array that is too large to travel in an answer |
| `picky` | asset | 1; fails for the asset that the parameter `bad` names, as the parameter `kind` says |
| `after` | asset | `picky` plus 1 |
| `bounds` | asset | the ranges that the parameter `at` says, in its order; fails if that is no ranges |
| `span` | `bounds` | its window's name, made from its `part`; fails where the parameter `bad` begins |
| `spans` | asset | the `span`s of the asset, in order |
| `reel` | collection | the `span`s of its assets, a list for each |

A case that does not apply to an implementation is named in its `NOT_APPLICABLE` with the reason, which the
table at the end of a run shows (`tests/contract/conftest.py`).
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import functools
import random
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest

from amber_ray import errors
from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import AuditFilter
from amber_ray.core.model.callback import Callback
from amber_ray.core.model.demands import Demand, DemandView, Noticed
from amber_ray.core.model.pages import AssetFilter, Page, write_cursor
from amber_ray.core.model.provenance import ValueInfo
from amber_ray.core.model.request import MISSING, AssetRef, ComputeRequest, RequestView, Result
from amber_ray.core.model.service import AbsentValue, Answered, RequestEvent, Service, StoredValue
from amber_ray.core.model.stats import HITS_STORE, family, series, split
from amber_ray.core.model.units import MICRO, Asset, Collection, EachRange, Segment, segments
from amber_ray.core.planning.homes import home_of

T = TypeVar("T")

WAIT = 60.0
"""Seconds that a call waits which must end long before."""
CALLED = "https://127.0.0.1/"
"""Where a callback may go; every implementation allows the host, and no connection is made to it."""
CALLBACKS = 2
"""Callbacks of one tenant that may be still to be made."""
LARGE = 5_000
"""Numbers in a value of `large`."""
FEATURES = (
    *("after", "bounds", "fresh", "joined", "label", "large", "part", "picky", "reel", "span", "spans"),
    "whole",
)
RANGES = ((0.2, 0.9), (0.9, 1.3), (1.3, 2.4))
"""Windows of a film that a case has found, in lengths of the grid's segments; none is the grid's."""
UNFINISHED = ("running", "queued")
THERE = ("hot", "kept", "cold")


class Scene(abc.ABC):
    """One service as a case sees it.

    - `shards`: how many there are;
    - `bound`: how many requests of one tenant may run at once in a shard;
    - `segment_seconds`: the length of the grid's segments;
    - `tenant`: one that no other case uses.
    """

    shards: int = 1
    bound: int
    segment_seconds: float
    tenant: str

    # --- the service

    @property
    @abc.abstractmethod
    def service(self) -> Service:
        """The service; another object after `restart`."""

    @abc.abstractmethod
    async def another(self) -> Service:
        """Another engine over the same cluster, which knows of no request yet. The scene closes it."""

    @abc.abstractmethod
    async def restart(self) -> None:
        """End the whole service as an operator would, and start it again on what it has stored."""

    @abc.abstractmethod
    async def kill(self) -> None:
        """End the processes of all shards without a warning; they come back by themselves."""

    async def stored(self) -> None:
        """Wait until every value is written."""

        async def written() -> bool:
            stats = await self.service.stats()
            return not (stats["keys_hot"] or stats["unspilled_bytes"] or stats["spilling_keys"])

        await self.eventually(written)

    # --- media

    @abc.abstractmethod
    def pictures(self, count: int) -> list[str]:
        """URIs of so many new pictures with contents of their own."""

    @abc.abstractmethod
    def film(self) -> str:
        """The URI of a new film, which has three segments."""

    @abc.abstractmethod
    def copy_of(self, uri: str) -> str:
        """Another URI with the same content."""

    @abc.abstractmethod
    def nothing(self) -> str:
        """A URI where nothing is, which the service may look at."""

    @abc.abstractmethod
    def content(self, uri: str) -> bytes:
        """The bytes at a URI."""

    @abc.abstractmethod
    def id_of(self, uri: str) -> str:
        """The id of the asset at a URI, found without asking the service."""

    # --- work

    @abc.abstractmethod
    def close(self, feature: str) -> None:
        """From now on no run of a feature ends; it may begin."""

    @abc.abstractmethod
    def open(self, feature: str) -> None:
        """Let the runs of a feature end. At the end of a case all gates are opened."""

    @abc.abstractmethod
    def runs(self, feature: str, uri: str) -> int:
        """How often runs of a feature have begun for the asset at a URI, or for a segment of it."""

    # --- time

    @abc.abstractmethod
    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a case to its end, within a bound."""

    @abc.abstractmethod
    async def eventually(self, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until something holds; fails if it does not within a bound."""

    @abc.abstractmethod
    async def at_once(self, work: Awaitable[T]) -> T:
        """Await what has happened already and has only to be told: no pause of the service's may pass."""

    # --- made of these

    def ask(self, features: str, *uris: str, **more: Any) -> ComputeRequest:
        """A request for features, separated by commas, of the assets at URIs."""
        named = tuple(AssetRef(uri=uri) for uri in uris)
        return ComputeRequest(tuple(features.split(",")), named, **{"tenant": self.tenant, **more})

    def new_id(self) -> str:
        """A request id that no other case uses."""
        self._ids = getattr(self, "_ids", 0) + 1
        return f"{self.tenant}-{self._ids}"

    async def begun(self, feature: str, *uris: str) -> None:
        """Wait until a run of a feature has begun for one of these assets."""
        await self.eventually(lambda: any(self.runs(feature, uri) for uri in uris))

    async def known(self, id: str) -> None:
        """Wait until the service has a request of that id."""

        async def found() -> bool:
            try:
                await self.service.status(id)
            except errors.UnknownRequest:
                return False
            return True

        await self.eventually(found)

    async def would(self, action: str, request: ComputeRequest) -> list[str]:
        """The features of the steps with which asking would do this, in order."""
        return [step.feature for step in await self.service.explain(request) if step.action == action]

    async def states(self, features: str, *uris: str) -> list[str]:
        """The states of the targets of a request, in order."""
        steps = await self.service.explain(self.ask(features, *uris))
        return [step.state for step in steps if step.target]


def case(story: Callable[[Any, Scene], Coroutine[Any, Any, None]]) -> Callable[[Any, Scene], None]:
    """A test of a story about a scene."""

    @functools.wraps(story)
    def test(self: ServiceContract, scene: Scene) -> None:
        scene.run(lambda: story(self, scene))

    return test


async def done(service: Service, request: ComputeRequest, id: str | None = None) -> RequestView:
    """The view of a request that must end with values."""
    view = await service.compute(request, WAIT, id)
    assert view.state == "done", view
    assert {r.state for r in view.results} == {"ready"}, view
    return view


async def accepted(service: Service, request: ComputeRequest, id: str | None = None) -> str:
    """The id of a request that can't end yet, and is promised to go on."""
    view = await service.compute(request, 0.0, id)
    assert view.state == "running", view
    assert id in (None, view.id)
    return view.id


async def values(service: Service, results: Iterable[Result]) -> list[Any]:
    """The results' values, loaded if they did not travel in the answer; an array as its only number."""
    found: list[Any] = []
    for result in results:
        value = result.value
        if value is MISSING:
            [stored] = await service.load([result.key])
            value = stored.value
        if isinstance(value, np.ndarray):
            assert (value.shape, value.dtype) == ((LARGE,), np.float32)
            [value] = np.unique(value).tolist()
        found.append(value)
    return found


async def answers(service: Service, keys: Sequence[str]) -> dict[str, Answered]:
    """What is said of many keys, by key in the order in which it came; of none twice."""
    found: dict[str, Answered] = {}
    async with contextlib.aclosing(service.values(keys)) as batches:
        async for batch in batches:
            assert batch, "an empty batch"
            for answer in batch:
                assert answer.key not in found
                found[answer.key] = answer
    return found


async def value(service: Service, request: ComputeRequest) -> Any:
    """The value of a request for one target."""
    view = await done(service, request)
    [found] = await values(service, view.results)
    return found


async def counted(service: Service, name: str) -> float:
    """The sum of what is counted under a name, over its labels."""
    stats = await service.stats()
    return sum(number for series, number in stats.items() if series.partition("{")[0] == name)


async def events_of(service: Service, id: str) -> list[RequestEvent]:
    """All events of a request."""
    return [event async for event in service.events(id)]


def named(view: RequestView) -> list[tuple[str, str]]:
    """Which (feature, unit) each result is about, in order."""
    return [(r.feature, r.unit.unit_id) for r in view.results]


def at(scene: Scene, *ranges: tuple[float, float]) -> dict[str, str]:
    """The parameter with which `bounds` finds ranges, which are in lengths of the grid's segments."""
    seconds = scene.segment_seconds
    return {"bounds.at": ",".join(f"{a * seconds}..{b * seconds}" for a, b in ranges)}


def windows(scene: Scene, uri: str, *ranges: tuple[float, float]) -> list[str]:
    """The names of a film's windows."""
    step = scene.segment_seconds * MICRO
    us = [(round(a * step), round(b * step)) for a, b in ranges]
    return [f"{scene.id_of(uri)}@{start}+{end - start}" for start, end in us]


def each_of(result: Result) -> str:
    """The finder of which a result stands for each range."""
    assert isinstance(result.unit, EachRange), result
    return result.unit.finder


async def started(call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A call that has begun; how far it has come depends on the implementation."""
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    return task


async def hung_up(task: asyncio.Task[Any]) -> None:
    """A caller leaves, and its coroutine has ended."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class ServiceContract:
    """The cases. See the head of this module."""

    NOT_APPLICABLE: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        unknown = [name for name in cls.NOT_APPLICABLE if not hasattr(cls, name)]
        assert not unknown, f"{cls.__name__} names cases that do not exist: {unknown}"

    @pytest.fixture(autouse=True)
    def _applicable(self, request: pytest.FixtureRequest) -> None:
        if (reason := self.NOT_APPLICABLE.get(request.node.originalname)) is not None:
            pytest.skip(f"n/a: {reason}")

    # --- order and names

    @case
    async def test_results_stand_in_the_order_of_the_request(self, scene: Scene) -> None:
        film, one, two = scene.film(), *scene.pictures(2)
        order = [two, film, one, two]
        view = await done(scene.service, scene.ask("joined,part,label,whole", *order))
        assets = [await scene.service.add_asset(uri) for uri in dict.fromkeys(order)]
        expected: list[tuple[str, str]] = []
        for asset in assets:
            grid = segments(asset, scene.segment_seconds)
            expected.append(("joined", asset.id))
            expected += [("part", segment.unit_id) for segment in grid]
            expected.append(("label", asset.id))
        expected.append(("whole", Collection.of(assets).unit_id))
        assert named(view) == expected
        assert view.features == ("joined", "part", "label", "whole")
        assert len(segments(await scene.service.add_asset(film), scene.segment_seconds)) == 3

    @case
    async def test_every_value_stands_under_its_own_unit(self, scene: Scene) -> None:
        pictures, film = scene.pictures(40), scene.film()
        chance = random.Random(40)
        for _ in range(3):
            order = chance.sample([*pictures, film], 41)
            view = await done(scene.service, scene.ask("label,part,joined", *order))
            for result in view.results:
                unit = result.unit
                if isinstance(unit, Segment):
                    assert result.value == f"{unit.asset.id}/{unit.index}"
                elif result.feature == "label":
                    assert result.value == unit.unit_id
                else:
                    assert result.value.startswith(f"{unit.unit_id}/0")
            labels = [r for r in view.results if r.feature == "label"]
            assert [r.value for r in labels] == [scene.id_of(uri) for uri in order]
        assert [scene.runs("label", uri) for uri in pictures] == [1] * 40

    @case
    async def test_another_engine_tells_each_value_under_its_own_asset(self, scene: Scene) -> None:
        pictures = scene.pictures(40)
        chance = random.Random(3)
        scene.close("label")
        scene.close("fresh")
        orders = [chance.sample(pictures, 40) for _ in range(3)]
        ids = [await accepted(scene.service, scene.ask("label,fresh", *order)) for order in orders]
        scene.open("label")
        scene.open("fresh")
        for order, id in zip(orders, ids, strict=True):
            other = await scene.another()
            view = await other.status(id, WAIT)
            assert view.state == "done"
            assert view.features == ("label", "fresh")
            owners = [scene.id_of(uri) for uri in order]
            assert named(view) == [(feature, id) for id in owners for feature in ("label", "fresh")]
            assert [r.value for r in view.results if r.feature == "label"] == owners

    @case
    async def test_what_is_there_is_not_made_again(self, scene: Scene) -> None:
        film = scene.film()
        first = await done(scene.service, scene.ask("joined", film))
        again = await done(scene.service, scene.ask("joined", film))
        assert (first.results[0].cached, again.results[0].cached) == (False, True)
        assert first.results[0].value == again.results[0].value
        assert (scene.runs("joined", film), scene.runs("part", film)) == (1, 3)

    @case
    async def test_callers_at_once_share_the_work(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        scene.close("label")
        tenants = [f"{scene.tenant}-{i}" for i in range(8)]
        waiting = [
            asyncio.create_task(scene.service.compute(scene.ask("label", picture, tenant=t), WAIT))
            for t in tenants
        ]
        await scene.begun("label", picture)
        scene.open("label")
        views = await asyncio.gather(*waiting)
        assert {v.results[0].value for v in views} == {scene.id_of(picture)}
        assert len({v.id for v in views}) == 8
        assert {v.tenant for v in views} == set(tenants)
        assert scene.runs("label", picture) == 1

    # --- ids

    @case
    async def test_the_same_id_again_is_the_same_request(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        request, id = scene.ask("fresh", picture), scene.new_id()
        first = await done(scene.service, request, id)
        again = await done(scene.service, request, id)
        assert (first.id, again.id) == (id, id)
        assert first.results == again.results
        assert first.created == again.created
        assert scene.runs("fresh", picture) == 1

    @case
    async def test_the_same_id_while_it_runs_joins_it(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        request, id = scene.ask("fresh", picture), scene.new_id()
        scene.close("fresh")
        await accepted(scene.service, request, id)
        await scene.begun("fresh", picture)
        waiting = await started(scene.service.compute(request, WAIT, id))
        assert (await scene.service.status(id)).state == "running"
        scene.open("fresh")
        view = await waiting
        assert (view.id, view.state, view.results[0].value) == (id, "done", 1)
        assert scene.runs("fresh", picture) == 1

    @case
    async def test_the_same_id_twice_at_once_is_one_request_with_two_answers(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        request, id = scene.ask("fresh", picture), scene.new_id()
        scene.close("fresh")
        waiting = [asyncio.create_task(scene.service.compute(request, WAIT, id)) for _ in range(5)]
        await scene.begun("fresh", picture)
        scene.open("fresh")
        views = await asyncio.gather(*waiting)
        assert [(v.id, v.state, v.results[0].value) for v in views] == [(id, "done", 1)] * 5
        assert scene.runs("fresh", picture) == 1

    @case
    async def test_the_same_id_at_two_engines_at_once_is_one_request(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        request, id = scene.ask("fresh", *pictures), scene.new_id()
        other = await scene.another()
        scene.close("fresh")
        waiting = [asyncio.create_task(s.compute(request, WAIT, id)) for s in (scene.service, other) * 2]
        await scene.begun("fresh", *pictures)
        scene.open("fresh")
        views = await asyncio.gather(*waiting)
        assert {(v.id, v.state) for v in views} == {(id, "done")}
        assert [named(v) for v in views] == [[("fresh", scene.id_of(p)) for p in pictures]] * 4
        assert [[r.value for r in v.results] for v in views] == [[1] * 6] * 4

    @case
    async def test_an_id_of_another_request_is_refused_and_that_one_goes_on(self, scene: Scene) -> None:
        mine, yours = scene.pictures(2)
        id = scene.new_id()
        scene.close("label")
        await accepted(scene.service, scene.ask("label", mine), id)
        for other in (
            scene.ask("label", yours),
            scene.ask("fresh", mine),
            scene.ask("label", mine, yours),
            scene.ask("label", mine, refresh=True),
            scene.ask("label", mine, tenant=f"{scene.tenant}-other"),
        ):
            with pytest.raises(errors.RequestMismatch) as refused:
                await scene.service.compute(other, WAIT, id)
            assert refused.value.status == 422
        scene.open("label")
        view = await scene.service.status(id, WAIT)
        assert named(view) == [("label", scene.id_of(mine))]
        assert view.state == "done"
        assert scene.runs("label", yours) == scene.runs("fresh", mine) == 0

    @case
    async def test_of_two_requests_with_one_id_at_once_one_is_refused(self, scene: Scene) -> None:
        pictures = scene.pictures(2)
        id = scene.new_id()
        outcomes = await asyncio.gather(
            *(scene.service.compute(scene.ask("label", p), WAIT, id) for p in pictures),
            return_exceptions=True,
        )
        views = [o for o in outcomes if isinstance(o, RequestView)]
        refused = [o for o in outcomes if isinstance(o, errors.RequestMismatch)]
        assert (len(views), len(refused)) == (1, 1), outcomes
        [result] = views[0].results
        assert result.value == result.unit.unit_id
        assert views == [await scene.service.status(id)]

    # --- hanging up

    @case
    async def test_a_caller_that_hangs_up_and_asks_again_is_answered(self, scene: Scene) -> None:
        for picture in scene.pictures(2):
            request, id = scene.ask("label", picture), scene.new_id()
            scene.close("label")
            first = await started(scene.service.compute(request, WAIT, id))
            await scene.begun("label", picture)
            await hung_up(first)
            again = await started(scene.service.compute(request, WAIT, id))
            scene.open("label")
            view = await again
            assert (view.state, view.results[0].value) == ("done", scene.id_of(picture))
            assert scene.runs("label", picture) in (1, 2)

    @case
    async def test_a_caller_that_asks_again_before_it_was_heard_to_leave_is_answered(
        self, scene: Scene
    ) -> None:
        for again_first in (True, False):
            for begun in (True, False):
                [picture] = scene.pictures(1)
                request, id = scene.ask("label", picture), scene.new_id()
                scene.close("label")
                first = asyncio.create_task(scene.service.compute(request, WAIT, id))
                if begun:
                    await scene.begun("label", picture)
                else:
                    await asyncio.sleep(0)
                if not again_first:
                    first.cancel()
                again = asyncio.create_task(scene.service.compute(request, WAIT, id))
                if again_first:
                    await asyncio.sleep(0)
                    first.cancel()
                await asyncio.gather(first, return_exceptions=True)
                scene.open("label")
                view = await again
                assert (view.state, view.results[0].value) == ("done", scene.id_of(picture))

    @case
    async def test_of_two_callers_one_may_hang_up(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        request, id = scene.ask("fresh", picture), scene.new_id()
        scene.close("fresh")
        stays = await started(scene.service.compute(request, WAIT, id))
        leaves = await started(scene.service.compute(request, WAIT, id))
        await scene.begun("fresh", picture)
        await hung_up(leaves)
        scene.open("fresh")
        view = await stays
        assert (view.state, view.results[0].value) == ("done", 1)
        assert scene.runs("fresh", picture) == 1

    @case
    async def test_work_that_everybody_has_left_ends(self, scene: Scene) -> None:
        pictures = scene.pictures(2)
        id = scene.new_id()
        scene.close("label")
        only = await started(scene.service.compute(scene.ask("label", *pictures), WAIT, id))
        await scene.begun("label", *pictures)
        await hung_up(only)

        async def ended() -> bool:
            return not set(UNFINISHED).intersection(await scene.states("label", *pictures))

        await scene.eventually(ended)
        with pytest.raises(errors.UnknownRequest):
            await scene.service.status(id)
        scene.open("label")
        await done(scene.service, scene.ask("label", *pictures))

    @case
    async def test_a_promised_request_goes_on_whoever_hangs_up(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        request, id = scene.ask("fresh", picture), scene.new_id()
        scene.close("fresh")
        await accepted(scene.service, request, id)
        await scene.begun("fresh", picture)
        for waits in (
            scene.service.compute(request, WAIT, id),
            scene.service.status(id, WAIT),
            events_of(scene.service, id),
        ):
            caller = await started(waits)
            assert (await scene.service.status(id)).state == "running"
            await hung_up(caller)
        scene.open("fresh")
        view = await scene.service.status(id, WAIT)
        assert (view.state, view.results[0].value) == ("done", 1)
        assert scene.runs("fresh", picture) == 1

    @case
    async def test_a_reader_of_events_or_status_keeps_nothing_alive(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        request, id = scene.ask("label", picture), scene.new_id()
        scene.close("label")
        only = await started(scene.service.compute(request, WAIT, id))
        await scene.begun("label", picture)
        readers = [await started(scene.service.status(id, WAIT))]
        await scene.service.status(id)
        await hung_up(only)
        [outcome] = await asyncio.gather(*readers, return_exceptions=True)
        assert isinstance(outcome, errors.UnknownRequest) or outcome.state == "cancelled"  # type: ignore[union-attr]
        scene.open("label")
        assert (await done(scene.service, request, id)).results[0].value == scene.id_of(picture)

    @case
    async def test_an_engine_that_closes_leaves_what_was_promised(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        other = await scene.another()
        scene.close("label")
        id = await accepted(other, scene.ask("label", picture))
        await other.aclose()
        assert (await scene.service.status(id)).state == "running"
        scene.open("label")
        view = await scene.service.status(id, WAIT)
        assert (view.state, view.results[0].value) == ("done", scene.id_of(picture))

    # --- status and events

    @case
    async def test_status_waits_for_the_end_and_no_longer_than_it_may(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        scene.close("label")
        id = await accepted(scene.service, scene.ask("label", picture))
        view = await scene.service.status(id, 0.01)
        assert (view.id, view.state, [r.state for r in view.results]) == (id, "running", ["pending"])
        assert view.results[0].value is MISSING
        assert 0 <= view.done < view.total
        waiting = await started(scene.service.status(id, WAIT))
        assert (await scene.service.status(id)).state == "running"
        scene.open("label")
        view = await waiting
        assert (view.state, view.done, [r.state for r in view.results]) == ("done", view.total, ["ready"])
        assert view == await scene.service.status(id)

    @case
    async def test_nobody_knows_an_id_that_was_never_used(self, scene: Scene) -> None:
        id = scene.new_id()
        for asked in (scene.service.status(id), scene.service.cancel(id), events_of(scene.service, id)):
            with pytest.raises(errors.UnknownRequest):
                await asked

    @case
    async def test_events_tell_each_result_once_and_then_the_end(self, scene: Scene) -> None:
        film, picture = scene.film(), *scene.pictures(1)
        scene.close("joined")
        id = await accepted(scene.service, scene.ask("joined,part", film, picture))
        events = await started(events_of(scene.service, id))
        await scene.begun("joined", film)
        scene.open("joined")
        later = events_of(scene.service, id)
        for told in (await events, await later, await events_of(scene.service, id)):
            *before, last = told
            assert [e.kind for e in told].count("done") == 1
            assert last.kind == "done"
            assert last.view is not None
            assert (last.view.id, last.view.state, last.done) == (id, "done", last.total)
            results = [e.result for e in before if e.kind == "result"]
            assert len(results) == len(last.view.results)
            assert set(results) == set(last.view.results)
            assert [e.done for e in told] == sorted(e.done for e in told)
            assert all(0 <= e.done <= e.total for e in told)
            assert {e.kind for e in told} <= {"progress", "result", "done"}

    @case
    async def test_events_end_when_the_work_ends(self, scene: Scene) -> None:
        """The end comes while the reader has not asked for the next event, which is when it can be missed."""
        for reads in range(4):
            pictures = scene.pictures(2)
            scene.close("fresh")
            id = await accepted(scene.service, scene.ask("label,fresh", *pictures))
            events = aiter(scene.service.events(id))
            labels = 0
            while labels < min(reads, 2):
                labels += (await anext(events)).kind == "result"
            if reads == 3:
                await scene.begun("fresh", *pictures)
            scene.open("fresh")
            assert (await scene.service.status(id, WAIT)).state == "done"

            async def rest(events: Any = events) -> list[RequestEvent]:
                return [event async for event in events]

            told = await scene.at_once(rest())
            assert [e.kind for e in told if e.kind != "progress"] == ["result"] * (4 - labels) + ["done"]

    @case
    async def test_a_reader_of_events_may_stop(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        scene.close("label")
        id = await accepted(scene.service, scene.ask("label", picture))
        events = scene.service.events(id)
        assert (await anext(aiter(events))).kind == "progress"
        await events.aclose()  # type: ignore[attr-defined]
        scene.open("label")
        assert (await scene.service.status(id, WAIT)).state == "done"

    @case
    async def test_another_engine_tells_the_events(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        scene.close("label")
        id = await accepted(scene.service, scene.ask("label", *pictures))
        other = await scene.another()
        events = await started(events_of(other, id))
        assert (await other.status(id)).state == "running"
        scene.open("label")
        told = await events
        assert sorted(e.result.value for e in told if e.result) == sorted(map(scene.id_of, pictures))
        assert told[-1].view is not None
        assert [r.value for r in told[-1].view.results] == [scene.id_of(p) for p in pictures]

    # --- refresh

    @case
    async def test_refresh_makes_a_value_anew(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        for feature in ("fresh", "large"):
            [before] = (await done(scene.service, scene.ask(feature, picture))).results
            [old] = await scene.service.load([before.key])
            [made] = (await done(scene.service, scene.ask(feature, picture, refresh=True))).results
            assert (made.key, made.cached) == (before.key, False)
            assert await values(scene.service, [made]) == [2]
            [new] = await scene.service.load([before.key])
            assert new.made > old.made > 0
            assert await value(scene.service, scene.ask(feature, picture)) == 2
            assert scene.runs(feature, picture) == 2

    @case
    async def test_a_refreshed_value_is_seen_by_every_engine(self, scene: Scene) -> None:
        other = await scene.another()
        for feature in ("fresh", "large"):
            [picture] = scene.pictures(1)
            request = scene.ask(feature, picture)
            [result] = (await done(scene.service, request)).results
            for service in (scene.service, other):
                assert await values(service, [result._replace(value=MISSING)]) == [1]
                assert await value(service, request) == 1
            assert await value(scene.service, scene.ask(feature, picture, refresh=True)) == 2

            async def seen(request: ComputeRequest = request, key: str = result.key) -> bool:
                [stored] = await other.load([key])
                return [float(np.max(stored.value)), await value(other, request)] == [2, 2]

            await scene.eventually(seen)
            for service in (scene.service, other):
                assert await seen()
                assert await value(service, request) == 2
            assert scene.runs(feature, picture) == 2

    @case
    async def test_a_refreshed_value_outlives_a_restart(self, scene: Scene) -> None:
        pictures = scene.pictures(4)
        await done(scene.service, scene.ask("fresh", *pictures))
        await scene.stored()
        await done(scene.service, scene.ask("fresh", *pictures[:2], refresh=True))
        await scene.restart()
        view = await done(scene.service, scene.ask("fresh", *pictures))
        assert [r.value for r in view.results] == [2, 2, 1, 1]
        assert all(r.cached for r in view.results)

    # --- purge

    @case
    async def test_purge_forgets_what_matches_and_nothing_else(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        view = await done(scene.service, scene.ask("fresh,label", *pictures))
        assert await scene.service.purge(asset=scene.id_of(pictures[0]), feature="fresh", version="0") == 0
        assert await scene.service.purge(asset=scene.id_of(pictures[0]), feature="fresh") == 1
        assert await scene.service.purge(asset=scene.id_of(pictures[1])) == 2
        assert await scene.service.purge(asset=scene.id_of(pictures[1])) == 0
        gone = [view.results[i].key for i in (0, 2, 3)]
        for key in gone:
            with pytest.raises(errors.UnknownKey):
                await scene.service.load([key])
        kept = [r for r in view.results if r.key not in gone]
        loaded = await scene.service.load([r.key for r in kept])
        assert [s.value for s in loaded] == [r.value for r in kept]
        states = await scene.states("fresh,label", *pictures)
        assert [i for i, state in enumerate(states) if state == "missing"] == [0, 2, 3]
        again = await done(scene.service, scene.ask("fresh,label", *pictures))
        assert [r.key for r in again.results if not r.cached] == gone
        assert [r.value for r in again.results if r.feature == "fresh"] == [2, 2, 1, 1, 1, 1]

    @case
    async def test_purge_never_forgets_everything(self, scene: Scene) -> None:
        with pytest.raises(errors.BadRequest):
            await scene.service.purge()

    @case
    async def test_a_purge_is_seen_by_every_engine(self, scene: Scene) -> None:
        other = await scene.another()
        for feature in ("fresh", "large"):
            [picture] = scene.pictures(1)
            request = scene.ask(feature, picture)
            [result] = (await done(scene.service, request)).results
            for service in (scene.service, other):
                assert await values(service, [result._replace(value=MISSING)]) == [1]
            assert await scene.service.purge(asset=scene.id_of(picture)) == 1

            async def gone(key: str = result.key) -> bool:
                try:
                    await other.load([key])
                except errors.UnknownKey:
                    return True
                return False

            await scene.eventually(gone)
            assert await value(other, request) == 2
            assert await value(scene.service, request) == 2

    @case
    async def test_stored_values_that_are_read_one_by_one_are_those_that_count(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        await done(scene.service, scene.ask("fresh", *pictures))
        await scene.stored()
        await scene.restart()
        other = await scene.another()
        for picture in pictures[:4]:
            assert await value(other, scene.ask("fresh", picture)) == 1
        assert await scene.service.purge(asset=scene.id_of(pictures[4])) == 1
        assert await value(scene.service, scene.ask("fresh", pictures[5], refresh=True)) == 2
        for picture in pictures[4:]:

            async def newer(picture: str = picture) -> bool:
                return await value(other, scene.ask("fresh", picture)) == 2

            await scene.eventually(newer)
        assert await values(other, (await done(other, scene.ask("fresh", *pictures[:4]))).results) == [1] * 4

    @case
    async def test_what_was_purged_stays_purged_over_a_restart(self, scene: Scene) -> None:
        early, late, kept = scene.pictures(3), scene.pictures(3), scene.pictures(2)
        await done(scene.service, scene.ask("fresh", *early, *kept))
        await scene.stored()
        await done(scene.service, scene.ask("fresh", *late))
        # Now some values are in Parquet, and others are in memory or on their way there.
        for uri in (*late, *early):
            assert await scene.service.purge(asset=scene.id_of(uri)) == 1
        assert await scene.states("fresh", *early, *late) == ["missing"] * 6
        await scene.restart()
        assert await scene.states("fresh", *early, *late) == ["missing"] * 6
        view = await done(scene.service, scene.ask("fresh", *kept, *early, *late))
        assert [r.cached for r in view.results] == [True] * 2 + [False] * 6
        assert [r.value for r in view.results] == [1] * 2 + [2] * 6

    # --- restart

    @case
    async def test_a_restart_loses_nothing_and_repeats_nothing(self, scene: Scene) -> None:
        pictures, unasked = scene.pictures(8), scene.pictures(2)
        there, rest = pictures[:3], pictures[3:]
        before = await done(scene.service, scene.ask("fresh,large", *there))
        scene.close("fresh")
        id = await accepted(scene.service, scene.ask("fresh", *reversed(pictures)))
        await accepted(scene.service, scene.ask("fresh", *unasked))
        await scene.restart()
        assert (await scene.service.status(id)).state == "running"
        other = await scene.another()
        waiting = await started(other.status(id, WAIT))
        scene.open("fresh")
        view = await scene.service.status(id, WAIT)
        assert view.state == "done"
        assert named(view) == [("fresh", scene.id_of(uri)) for uri in reversed(pictures)]
        assert await values(scene.service, view.results[-3:]) == [1, 1, 1]
        assert named(await waiting) == named(view)
        after = await done(scene.service, scene.ask("fresh,large", *there))
        assert [(r.key, r.cached) for r in after.results] == [(r.key, True) for r in before.results]
        assert await values(scene.service, after.results) == [1] * 6
        assert [scene.runs(f, uri) for uri in there for f in ("fresh", "large")] == [1] * 6
        assert all(scene.runs("fresh", uri) <= 2 for uri in rest)

        async def made() -> bool:
            return set(await scene.states("fresh", *unasked)) <= set(THERE)

        # What was promised goes on though nobody has asked about it since.
        await scene.eventually(made)

    @case
    async def test_shards_that_die_lose_no_caller_and_no_stored_value(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        await done(scene.service, scene.ask("label", *pictures))
        await scene.stored()
        scene.close("fresh")
        waiting = await started(scene.service.compute(scene.ask("fresh,label", *pictures), WAIT))
        id = await accepted(scene.service, scene.ask("fresh", *reversed(pictures)))
        await scene.begun("fresh", *pictures)
        await scene.kill()
        scene.open("fresh")
        for view in (await waiting, await scene.service.status(id, WAIT)):
            assert (view.state, {r.state for r in view.results}) == ("done", {"ready"})
        assert [scene.runs("label", uri) for uri in pictures] == [1] * 6
        assert all(scene.runs("fresh", uri) <= 2 for uri in pictures)

    # --- bounds

    @case
    async def test_a_callback_is_kept_goes_with_its_request_and_can_be_made_again(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        plain, id = scene.ask("label", picture), scene.new_id()
        scene.close("label")
        secret = f"{CALLED}a-secret?of=theirs"
        request = dataclasses.replace(plain, callback=Callback(secret, ("done", "failed")))
        await accepted(scene.service, request, id)
        [waiting] = await scene.service.deliveries(tenant=request.tenant)
        told = (waiting.request, waiting.state, waiting.url, waiting.type)
        assert told == (id, "waiting", f"{CALLED}…", "")
        with pytest.raises(errors.BadRequest):
            await scene.service.replay(waiting.id)
        with pytest.raises(errors.RequestMismatch):
            await scene.service.compute(
                dataclasses.replace(plain, callback=Callback(CALLED + "other")), WAIT, id
            )
        scene.open("label")
        assert (await scene.service.compute(request, WAIT, id)).state == "done"

        async def has_a_message() -> bool:
            [one] = await scene.service.deliveries(tenant=request.tenant)
            return one.type == "request.done" and one.attempts > 0

        await scene.eventually(has_a_message)
        again = await scene.service.replay(waiting.id, tenant=request.tenant)
        assert (again.id, again.state) == (waiting.id, "pending")
        assert await scene.service.deliveries(tenant=f"{request.tenant}-other") == []
        for name, tenant in ((waiting.id, f"{request.tenant}-other"), (f"end_{scene.new_id()}", None)):
            with pytest.raises(errors.UnknownDelivery):
                await scene.service.replay(name, tenant=tenant)

    @case
    async def test_a_callback_to_where_none_may_go_is_refused_and_runs_nothing(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        for callback in (
            *map(Callback, ("https://other.example/", "http://127.0.0.1/")),
            *map(Callback, ("https://127.0.0.1:444/", "https://127.1/")),
            Callback(CALLED, ()),
            Callback(CALLED, ("sometimes",)),  # type: ignore[arg-type]
        ):
            request = dataclasses.replace(scene.ask("fresh", picture), callback=callback)
            with pytest.raises(errors.BadRequest, match=r"callback"):
                await scene.service.compute(request, WAIT, scene.new_id())
        assert scene.runs("fresh", picture) == 0
        assert await scene.service.deliveries(tenant=scene.tenant) == []

    @case
    async def test_a_tenant_at_its_bound_of_callbacks_is_refused_before_anything_is_accepted(
        self, scene: Scene
    ) -> None:
        [picture] = scene.pictures(1)

        def called(tenant: str) -> ComputeRequest:
            return replace(scene.ask("label", picture, tenant=tenant), callback=Callback(CALLED))

        mine = called(scene.tenant)
        scene.close("label")
        ids = [await accepted(scene.service, mine, scene.new_id()) for _ in range(CALLBACKS)]
        refused = scene.new_id()
        for _ in range(2):
            with pytest.raises(errors.Overloaded) as error:
                await scene.service.compute(mine, 0.0, refused)
            assert error.value.retry_after > 0
        with pytest.raises(errors.UnknownRequest):
            await scene.service.status(refused)
        assert {one.id for one in await scene.service.list_requests(scene.tenant)} == set(ids)
        assert {one.request for one in await scene.service.deliveries(tenant=scene.tenant)} == set(ids)
        await accepted(scene.service, mine, ids[0])
        other = await accepted(scene.service, called(f"{scene.tenant}-other"))
        scene.open("label")
        for id in (*ids, other):
            assert (await scene.service.status(id, WAIT)).state == "done"

    @case
    async def test_a_tenant_at_its_bound_is_refused_and_others_are_not(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        scene.close("label")
        ids = [await accepted(scene.service, scene.ask("label", *pictures)) for _ in range(scene.bound)]
        refused = scene.new_id()
        with pytest.raises(errors.Overloaded) as error:
            await scene.service.compute(scene.ask("label", *pictures), 0.0, refused)
        assert error.value.retry_after > 0
        with pytest.raises(errors.UnknownRequest):
            await scene.service.status(refused)
        other = await accepted(scene.service, scene.ask("label", *pictures, tenant=f"{scene.tenant}-other"))
        scene.open("label")
        for id in (*ids, other):
            assert (await scene.service.status(id, WAIT)).state == "done"
        # There is room again for as many as before, also under the id that was refused.
        scene.close("fresh")
        for id in (refused, *(scene.new_id() for _ in range(scene.bound - 1))):
            await accepted(scene.service, scene.ask("fresh", *pictures), id)
        scene.open("fresh")
        assert (await scene.service.status(refused, WAIT)).state == "done"

    @case
    async def test_work_that_was_admitted_is_not_refused_on_its_way(self, scene: Scene) -> None:
        """A collection asks the shards of its assets, though its tenant is at its bound there."""
        pictures = scene.pictures(8)
        assets = {uri: await scene.service.add_asset(uri) for uri in pictures}
        home = home_of(Collection.of(assets.values()), scene.shards)
        away = [uri for uri, asset in assets.items() if home_of(asset, scene.shards) != home]
        assert bool(away) == (scene.shards > 1)
        scene.close("fresh")
        for _ in range(scene.bound if away else scene.bound - 1):
            await accepted(scene.service, scene.ask("fresh", (away or pictures)[0]))
        view = await done(scene.service, scene.ask("whole", *pictures))
        assert view.results[0].value == sorted(map(scene.id_of, pictures))
        assert [scene.runs("label", uri) for uri in pictures] == [1] * 8

    # --- ranges

    @case
    async def test_a_range_is_of_the_segments_it_touches(self, scene: Scene) -> None:
        film = scene.film()
        seconds = scene.segment_seconds
        view = await done(scene.service, scene.ask("part,label", film, range=(1.2 * seconds, 1.8 * seconds)))
        id = scene.id_of(film)
        assert [r.value for r in view.results] == [f"{id}/1", id]
        assert scene.runs("part", film) == 1
        view = await done(scene.service, scene.ask("joined", film, range=(0.0, 0.5 * seconds)))
        assert view.results[0].value == "+".join(f"{id}/{i}" for i in range(3))

    @case
    async def test_a_range_that_does_not_fit_is_refused(self, scene: Scene) -> None:
        film = scene.film()
        seconds = scene.segment_seconds
        for span in ((2 * seconds, seconds), (seconds, seconds), (-1.0, 1.0), (99 * seconds, 100 * seconds)):
            with pytest.raises(errors.BadRequest):
                await scene.service.compute(scene.ask("part", film, range=span), WAIT)
        assert scene.runs("part", film) == 0

    @case
    async def test_a_range_past_the_end_of_one_asset_is_that_assets_failure(self, scene: Scene) -> None:
        film, picture = scene.film(), *scene.pictures(1)
        span = 99 * scene.segment_seconds, 100 * scene.segment_seconds
        for order in ((film, picture), (picture, film)):
            # A picture has no end that a range could lie behind.
            view = await scene.service.compute(scene.ask("part", *order, range=span), WAIT)
            assert (view.state, [r.value for r in view.results]) == ("done", [f"{scene.id_of(picture)}/0"])
            [failed] = view.failed_assets
            assert (failed.ref.id, failed.failure.type) == (scene.id_of(film), "BadRequest")
            assert failed.failure.status == 400

    # --- failures

    @case
    async def test_a_feature_that_raises_fails_alone_and_says_why(self, scene: Scene) -> None:
        bad, good = scene.pictures(2)
        params = {"picky.bad": scene.id_of(bad)}
        view = await scene.service.compute(scene.ask("picky,label", bad, good, params=params), WAIT)
        assert (view.state, view.done) == ("done", view.total)
        states = [(r.feature, r.state) for r in view.results]
        assert states == [("picky", "failed"), ("label", "ready"), ("picky", "ready"), ("label", "ready")]
        failed = view.results[0]
        assert failed.failure is not None
        assert failed.value is MISSING
        assert (failed.failure.kind, failed.failure.type) == ("feature", "FeatureError")
        assert failed.failure.message == "ValueError: it does not like this one"
        assert (failed.failure.step, failed.failure.key) == ("picky", failed.key)
        assert failed.failure.unit == failed.unit.unit_id == scene.id_of(bad)
        assert failed.failure.status == 422
        assert failed.failure.traceback
        assert failed.failure.attempts == 1
        with pytest.raises(errors.UnknownKey):
            await scene.service.load([failed.key])

    @case
    async def test_a_fault_of_the_input_is_told_as_one(self, scene: Scene) -> None:
        [bad] = scene.pictures(1)
        params = {"picky.bad": scene.id_of(bad), "picky.kind": "input"}
        view = await scene.service.compute(scene.ask("picky", bad, params=params), WAIT)
        [failed] = view.results
        assert (view.state, failed.state) == ("failed", "failed")
        assert failed.failure is not None
        assert (failed.failure.kind, failed.failure.type) == ("input", "MediaError")
        assert failed.failure.message == "it does not like this one"

    @case
    async def test_what_is_blocked_names_the_step_that_failed(self, scene: Scene) -> None:
        bad, good = scene.pictures(2)
        params = {"picky.bad": scene.id_of(bad)}
        view = await scene.service.compute(scene.ask("after", bad, good, params=params), WAIT)
        assert [(r.state, r.value) for r in view.results] == [("failed", MISSING), ("ready", 2)]
        failure = view.results[0].failure
        assert failure is not None
        assert (failure.kind, failure.step, failure.unit) == ("feature", "picky", scene.id_of(bad))
        assert failure.message == "ValueError: it does not like this one"
        assert scene.runs("after", bad) == 0

    @case
    async def test_failures_are_remembered_listed_and_forgotten_when_purged(self, scene: Scene) -> None:
        [bad] = scene.pictures(1)
        request = scene.ask("picky", bad, params={"picky.bad": scene.id_of(bad)})
        result = (await scene.service.compute(request, WAIT)).results[0]
        assert result.asset is not None
        key, place = result.key, result.asset.uri

        async def listed() -> list[tuple[str, str]]:
            return [(f.uri, f.message) for f in await scene.service.failures() if f.key == key]

        assert place
        assert await listed() == [(place, "ValueError: it does not like this one")]
        assert (await scene.service.compute(request, WAIT)).state == "failed"
        assert scene.runs("picky", bad) == 1
        await scene.service.purge(asset=scene.id_of(bad))
        assert await listed() == []
        above = scene.ask("after", bad, params={"picky.bad": scene.id_of(bad)})
        assert (await scene.service.compute(above, WAIT)).state == "failed"
        assert scene.runs("picky", bad) == 2
        await scene.service.purge(
            asset=scene.id_of(bad), feature="picky"
        )  # what failed by it is tried again, too
        assert (await scene.service.compute(above, WAIT)).state == "failed"
        assert scene.runs("picky", bad) == 3

    @case
    async def test_an_asset_that_is_not_there_fails_alone(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        nothing, unknown = scene.nothing(), AssetRef(id="f" * 32)
        asked = scene.ask("label,fresh", nothing, picture)
        asked = ComputeRequest(asked.features, (*asked.assets, unknown), tenant=scene.tenant)
        view = await scene.service.compute(asked, WAIT)
        assert (view.state, [r.state for r in view.results]) == ("done", ["ready"] * 2)
        failed = {f.ref: f.failure.type for f in view.failed_assets}
        assert failed == {AssetRef(uri=nothing): "MediaNotFound", unknown: "UnknownAsset"}
        alone = await scene.service.compute(scene.ask("label", nothing), WAIT)
        assert (alone.state, alone.results, len(alone.failed_assets)) == ("failed", (), 1)

    @case
    async def test_what_can_not_be_planned_is_refused_and_runs_nothing(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        for request, error in (
            (scene.ask("lable", picture), errors.UnknownFeature),
            (scene.ask("label,lable", picture), errors.UnknownFeature),
            (scene.ask("label", picture, params={"label.bad": 1}), errors.UnknownParameter),
            (scene.ask("label", picture, params={"nobody.bad": 1}), errors.UnknownParameter),
            (scene.ask("picky", picture, params={"picky.bad": 1}), errors.BadParameter),
        ):
            for asked in (scene.service.compute, scene.service.explain):
                with pytest.raises(error):
                    await asked(request)
        id = scene.new_id()
        with pytest.raises(errors.UnknownFeature):
            await scene.service.compute(scene.ask("lable", picture), WAIT, id)
        assert scene.runs("label", picture) == scene.runs("picky", picture) == 0
        # An id whose request was refused is free.
        await done(scene.service, scene.ask("label", picture), id)

    # --- values

    @case
    async def test_a_feature_that_is_not_the_one_meant_is_refused_and_runs_nothing(
        self, scene: Scene
    ) -> None:
        [uri] = scene.pictures(1)
        digests = {info.name: info.digest for info in await scene.service.features()}
        for expect in ({"label": "0" * 32}, {"label": digests["label"], "no_such": digests["label"]}):
            request = scene.ask("label", uri, expect=expect)
            with pytest.raises(errors.FeatureMismatch, match=list(expect)[-1]):
                await scene.service.compute(request, WAIT)
            with pytest.raises(errors.FeatureMismatch, match=list(expect)[-1]):
                await scene.service.explain(request)
        assert scene.runs("label", uri) == 0
        id = scene.new_id()
        meant = scene.ask("label", uri, expect={name: digests[name] for name in ("label", "part")})
        view = await done(scene.service, meant, id)
        assert await values(scene.service, view.results) == [scene.id_of(uri)]
        with pytest.raises(errors.RequestMismatch):
            await scene.service.compute(scene.ask("label", uri), WAIT, id)

    @case
    async def test_values_are_loaded_in_the_order_of_their_keys(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        view = await done(scene.service, scene.ask("label,large", *pictures))
        keys = [r.key for r in view.results]
        assert [r.value is MISSING for r in view.results] == [False, True] * 6
        order = random.Random(6).choices(keys, k=20)
        loaded = await scene.service.load(order)
        assert [s.key for s in loaded] == order
        by_key = {r.key: r for r in view.results}
        for stored in loaded:
            result = by_key[stored.key]
            assert (stored.feature, stored.version) == (result.feature, "1")
            assert await values(scene.service, [result._replace(value=stored.value)]) == [
                result.unit.unit_id if result.feature == "label" else 1
            ]
            assert stored.made > 0
        assert await scene.service.load([]) == []

    @case
    async def test_a_key_without_a_value_is_unknown(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        [step] = await scene.service.explain(scene.ask("label", picture))
        for keys in (["f" * 32], [step.key]):
            with pytest.raises(errors.UnknownKey):
                await scene.service.load(keys)
        [result] = (await done(scene.service, scene.ask("label", picture))).results
        with pytest.raises(errors.UnknownKey):
            await scene.service.load([result.key, "f" * 32])

    @case
    async def test_many_keys_are_answered_each_once(self, scene: Scene) -> None:
        film, *pictures = scene.film(), *scene.pictures(40)
        view = await done(scene.service, scene.ask("label,large,part", film, *pictures))
        chance = random.Random(40)
        keys = [r.key for r in view.results]
        found = await answers(scene.service, [*chance.sample(keys, len(keys)), keys[0], keys[-1]])
        assert found.keys() == set(keys)
        for result in view.results:
            stored = found[result.key]
            assert isinstance(stored, StoredValue), stored
            assert (stored.feature, stored.version) == (result.feature, "1")
            assert stored.made > 0
            [read] = await values(scene.service, [result._replace(value=stored.value)])
            unit = result.unit
            if isinstance(unit, Segment):
                assert read == f"{unit.asset.id}/{unit.index}"
            else:
                assert read == (unit.unit_id if result.feature == "label" else 1)
        assert await answers(scene.service, []) == {}

    @case
    async def test_values_of_one_feature_come_in_the_order_of_their_keys(self, scene: Scene) -> None:
        view = await done(scene.service, scene.ask("label", *scene.pictures(30)))
        keys = random.Random(30).sample([r.key for r in view.results], 30)
        assert list(await answers(scene.service, keys)) == keys

    @case
    async def test_each_key_without_a_value_is_told_why(self, scene: Scene) -> None:
        bad, good, never = scene.pictures(3)
        params = {"picky.bad": scene.id_of(bad)}
        view = await scene.service.compute(scene.ask("after,label", bad, good, params=params), WAIT)
        blocked, label, after, other = (r.key for r in view.results)
        [picky, _] = await scene.service.explain(scene.ask("after", bad, params=params))
        [step] = await scene.service.explain(scene.ask("label", never))
        await scene.service.purge(asset=scene.id_of(good), feature="after")
        asked = [blocked, label, "f" * 32, step.key, picky.key, after, other]
        found = await answers(scene.service, asked)
        assert found.keys() == set(asked)
        told = {k: found[k].failure for k in found if isinstance(found[k], AbsentValue)}  # type: ignore[union-attr]
        assert told.keys() == {blocked, "f" * 32, step.key, picky.key, after}
        for key in ("f" * 32, step.key, after):
            assert (told[key].type, told[key].status) == ("UnknownKey", 404)
            assert key in told[key].message
        for key in (blocked, picky.key):
            assert (told[key].kind, told[key].type, told[key].status) == ("feature", "FeatureError", 422)
            assert told[key].step == "picky"
            assert told[key].message == "ValueError: it does not like this one"
        assert [found[k].value for k in (label, other)] == [scene.id_of(bad), scene.id_of(good)]  # type: ignore[union-attr]

    @case
    async def test_a_reader_may_leave_after_the_first_batch(self, scene: Scene) -> None:
        view = await done(scene.service, scene.ask("label", *scene.pictures(60)))
        async with contextlib.aclosing(scene.service.values([r.key for r in view.results])) as batches:
            first = await anext(batches)
        assert 0 < len(first) <= 60
        assert len(await answers(scene.service, [r.key for r in view.results])) == 60

    @case
    async def test_explain_tells_what_would_run_and_runs_nothing(self, scene: Scene) -> None:
        film = scene.film()
        request = scene.ask("joined", film)
        for _ in range(2):
            steps = await scene.service.explain(request)
            assert [(s.feature, s.state) for s in steps] == [("part", "missing")] * 3 + [
                ("joined", "missing")
            ]
        *parts, joined = steps
        assert joined.target
        assert not any(s.target for s in parts)
        assert joined.inputs == tuple(s.key for s in parts)
        assert [s.unit.start_us for s in parts] == sorted(s.unit.start_us for s in parts)  # type: ignore[union-attr]
        assert scene.runs("part", film) == scene.runs("joined", film) == 0
        [result] = (await done(scene.service, request)).results
        assert result.key == joined.key
        steps = await scene.service.explain(request)
        assert steps[-1].state in THERE
        assert (scene.runs("part", film), scene.runs("joined", film)) == (3, 1)
        with pytest.raises(errors.MediaNotFound):
            await scene.service.explain(scene.ask("label", scene.nothing()))

    @case
    async def test_what_is_explained_is_what_then_runs(self, scene: Scene) -> None:
        film = scene.film()
        request, anew = scene.ask("joined", film), scene.ask("joined", film, refresh=True)
        assert await scene.would("run", request) == ["part"] * 3 + ["joined"]
        await done(scene.service, request)
        assert await scene.would("run", request) == []
        # The inputs are gone, and nobody needs them as long as nothing is made anew.
        assert await scene.service.purge(asset=scene.id_of(film), feature="part") == 3
        steps = await scene.service.explain(request)
        assert [(s.state, s.action) for s in steps[:3]] == [("missing", "skip")] * 3
        assert steps[3].action in ("use", "read")
        await done(scene.service, request)
        assert (scene.runs("part", film), scene.runs("joined", film)) == (3, 1)
        assert await scene.would("run", anew) == ["part"] * 3 + ["joined"]
        await done(scene.service, anew)
        assert (scene.runs("part", film), scene.runs("joined", film)) == (6, 2)
        assert await scene.would("run", anew) == ["joined"]

    @case
    async def test_after_a_restart_nothing_is_said_to_run_for_what_is_stored(self, scene: Scene) -> None:
        film = scene.film()
        request = scene.ask("joined", film)
        await done(scene.service, request)
        await scene.stored()
        assert await scene.service.purge(asset=scene.id_of(film), feature="part") == 3
        await scene.restart()
        steps = await scene.service.explain(request)
        assert [s.action for s in steps] == ["skip"] * 3 + ["read"]
        assert (await done(scene.service, request)).results[0].cached
        assert (scene.runs("part", film), scene.runs("joined", film)) == (3, 1)

    @case
    async def test_a_set_over_shards_is_explained_as_it_then_runs(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        request = scene.ask("whole", *pictures)
        await done(scene.service, scene.ask("label", *pictures[:2]))
        assert await scene.would("run", request) == ["label"] * 4 + ["whole"]
        await done(scene.service, request)
        assert [scene.runs("label", uri) for uri in pictures] == [1] * 6
        assert await scene.would("run", request) == []
        assert await scene.service.purge(asset=scene.id_of(pictures[0]), feature="label") == 1
        assert await scene.would("run", request) == []
        run = await scene.would("run", scene.ask("whole", *pictures, refresh=True))
        assert run == ["label", "whole"]

    @case
    async def test_explain_tells_what_runs(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        scene.close("label")
        await accepted(scene.service, scene.ask("label", picture))
        await scene.begun("label", picture)
        assert await scene.states("label", picture) == ["running"]

    @case
    async def test_what_is_stored_is_told_by_version(self, scene: Scene) -> None:
        await done(scene.service, scene.ask("label", *scene.pictures(2)))

        async def stored() -> bool:
            told = await scene.service.versions()
            assert told == sorted(told)
            label = [one for one in told if (one.feature, one.version) == ("label", "1")]
            return any(one.rows >= 2 and one.bytes > 0 and one.parts > 0 for one in label)

        await scene.eventually(stored)

    # --- windows that a feature found

    @case
    async def test_each_window_that_was_found_has_a_result_by_time_and_once(self, scene: Scene) -> None:
        films = [scene.film(), scene.film()]
        one, two, three = RANGES
        params = at(scene, three, one, three, two, one)
        view = await done(scene.service, scene.ask("spans,span,label", *films, params=params))
        expected: list[tuple[str, str]] = []
        for film in films:
            id, names = scene.id_of(film), windows(scene, film, *RANGES)
            expected += [("spans", id), *(("span", name) for name in names), ("label", id)]
        assert named(view) == expected
        assert [r.value for r in view.results if r.feature == "span"] == [
            name for film in films for name in windows(scene, film, *RANGES)
        ]
        assert [r.value for r in view.results if r.feature == "spans"] == [
            " ".join(windows(scene, film, *RANGES)) for film in films
        ]
        assert len({r.key for r in view.results}) == len(view.results)
        hits = await counted(scene.service, "hits_total")
        again = await done(scene.service, scene.ask("spans,span,label", *films, params=params))
        assert named(again) == expected
        assert all(r.cached for r in again.results)
        assert await counted(scene.service, "hits_total") == hits + len(expected)
        found = await answers(scene.service, [r.key for r in view.results])
        assert {r.key: r.value for r in view.results} == {
            key: stored.value  # type: ignore[union-attr]
            for key, stored in found.items()
        }
        for film in films:
            runs = [scene.runs(name, film) for name in ("bounds", "span", "part", "spans")]
            assert runs == [1, 3, 3, 1]

    @case
    async def test_one_result_is_pending_until_the_windows_are_known(self, scene: Scene) -> None:
        film = scene.film()
        scene.close("bounds")
        scene.close("span")
        id = await accepted(scene.service, scene.ask("span,label", film, params=at(scene, *RANGES)))
        await scene.begun("bounds", film)
        before = await scene.service.status(id)
        each, label = before.results
        assert (each_of(each), each.feature, each.state, each.value) == ("bounds", "span", "pending", MISSING)
        assert (label.feature, label.unit.unit_id) == ("label", scene.id_of(film))
        scene.open("bounds")
        await scene.begun("span", film)

        async def known() -> bool:
            return len((await scene.service.status(id)).results) == 4

        await scene.eventually(known)
        view = await scene.service.status(id)
        names = [("span", name) for name in windows(scene, film, *RANGES)]
        assert named(view) == [*names, ("label", scene.id_of(film))]
        assert [r.state for r in view.results[:3]] == ["pending"] * 3
        assert view.total > before.total
        assert 0 <= view.done < view.total
        scene.open("span")
        view = await scene.service.status(id, WAIT)
        assert (view.state, view.done) == ("done", view.total)
        assert [r.value for r in view.results] == [*(name for _, name in names), scene.id_of(film)]

    @case
    async def test_where_nothing_was_found_the_answer_is_empty(self, scene: Scene) -> None:
        film = scene.film()
        for _ in range(2):
            view = await scene.service.compute(scene.ask("spans,span", film), WAIT)
            spans, each = view.results
            assert (view.state, view.done) == ("done", view.total)
            assert (spans.state, spans.value) == ("ready", "")
            assert (each_of(each), each.state, each.value) == ("bounds", "ready", MISSING)
        with pytest.raises(errors.UnknownKey):
            await scene.service.load([each.key])
        assert [scene.runs(name, film) for name in ("bounds", "span", "spans")] == [1, 0, 1]

    @case
    async def test_a_finder_that_fails_fails_what_stands_for_its_windows(self, scene: Scene) -> None:
        film = scene.film()
        asked = scene.ask("spans,span,label", film, params={"bounds.at": "nowhere"})
        view = await scene.service.compute(asked, WAIT)
        assert [r.state for r in view.results] == ["failed", "failed", "ready"]
        assert each_of(view.results[1]) == "bounds"
        for result in view.results[:2]:
            assert result.failure is not None
            assert (result.failure.step, result.failure.unit) == ("bounds", scene.id_of(film))
            assert result.failure.message.startswith("ValueError: ")
        assert [scene.runs(name, film) for name in ("bounds", "span", "spans")] == [1, 0, 0]

    @case
    async def test_ranges_that_can_not_be_are_a_failure_that_names_the_finder(self, scene: Scene) -> None:
        film = scene.film()
        for pair in ((1.3, 0.9), (-1.0, 0.5), (float("nan"), 1.0), (0.0, float("inf"))):
            asked = scene.ask("spans,span", film, params=at(scene, RANGES[0], pair))
            view = await scene.service.compute(asked, WAIT)
            assert (view.state, [r.state for r in view.results]) == ("failed", ["failed"] * 2)
            for result in view.results:
                assert result.failure is not None
                assert (result.failure.kind, result.failure.type) == ("feature", "FeatureError")
                words = "feature 'bounds' found no ranges to go on with: its range number 1 is from "
                assert result.failure.message.startswith(words)
        assert [scene.runs(name, film) for name in ("bounds", "span", "spans")] == [4, 0, 0]

    @case
    async def test_a_window_that_fails_fails_alone_and_what_gathers_it_names_it(self, scene: Scene) -> None:
        film = scene.film()
        params = at(scene, *RANGES) | {"span.bad": RANGES[1][0] * scene.segment_seconds}
        request = scene.ask("span,spans", film, params=params)
        view = await scene.service.compute(request, WAIT)
        assert (view.state, [r.state for r in view.results]) == (
            "done",
            ["ready", "failed", "ready", "failed"],
        )
        bad, gather = view.results[1], view.results[3]
        for result in (bad, gather):
            assert result.failure is not None
            assert (result.failure.kind, result.failure.step) == ("feature", "span")
            assert result.failure.key == bad.key
            assert result.failure.unit == bad.unit.unit_id == windows(scene, film, *RANGES)[1]
            assert result.failure.message == "ValueError: it does not like this one"
        assert scene.runs("spans", film) == 0

        async def listed() -> list[str]:
            return [f.unit for f in await scene.service.failures() if f.key == bad.key]

        assert await listed() == [bad.unit.unit_id]
        await scene.service.compute(request, WAIT)
        assert (scene.runs("bounds", film), scene.runs("span", film)) == (1, 3)
        await scene.service.purge(asset=scene.id_of(film))
        assert await listed() == []
        view = await scene.service.compute(request, WAIT)
        assert [r.state for r in view.results] == ["ready", "failed", "ready", "failed"]
        assert (scene.runs("bounds", film), scene.runs("span", film)) == (2, 6)

    @case
    async def test_a_range_keeps_the_windows_that_it_touches(self, scene: Scene) -> None:
        film = scene.film()
        seconds = scene.segment_seconds
        params = at(scene, *RANGES)
        touched = windows(scene, film, *RANGES)[1:]
        part = scene.ask("span", film, params=params, range=(1.0 * seconds, 1.35 * seconds))
        view = await done(scene.service, part)
        assert [r.value for r in view.results] == touched
        assert scene.runs("span", film) == 2
        whole = await done(scene.service, scene.ask("span,spans", film, params=params, range=(0.0, seconds)))
        assert [r.value for r in whole.results] == [
            *windows(scene, film, *RANGES)[:2],
            " ".join(windows(scene, film, *RANGES)),
        ]
        assert whole.results[1].key == view.results[0].key
        assert (scene.runs("bounds", film), scene.runs("span", film)) == (1, 3)
        view = await scene.service.compute(
            scene.ask("span", film, params=params, range=(0.0, 0.1 * seconds)), WAIT
        )
        assert (view.state, [(each_of(r), r.state) for r in view.results]) == ("done", [("bounds", "ready")])
        with pytest.raises(errors.BadRequest):
            await scene.service.compute(
                scene.ask("span", film, params=params, range=(99 * seconds, 100 * seconds)), WAIT
            )

    @case
    async def test_other_windows_of_a_finder_are_made_and_no_others(self, scene: Scene) -> None:
        film = scene.film()
        one, (start, _), three = RANGES
        first = await done(scene.service, scene.ask("span,spans", film, params=at(scene, *RANGES)))
        moved = (one, (start, 1.1), three)
        view = await done(scene.service, scene.ask("span,spans", film, params=at(scene, *moved)))
        assert [r.value for r in view.results[:3]] == windows(scene, film, *moved)
        same = [a.key == b.key for a, b in zip(first.results, view.results, strict=True)]
        assert same == [r.cached for r in view.results] == [True, False, True, False]
        runs = [scene.runs(name, film) for name in ("bounds", "span", "spans")]
        assert runs == [2, 4, 2]

    @case
    async def test_windows_that_are_the_grid_s_are_its_segments(self, scene: Scene) -> None:
        film = scene.film()
        grid = await done(scene.service, scene.ask("part", film))
        ranges = ((2.0, 3.0), (0.0, 1.0), (0.5, 1.0))
        view = await done(scene.service, scene.ask("span", film, params=at(scene, *ranges)))
        names = windows(scene, film, *sorted(ranges))
        assert [r.value for r in view.results] == [r.unit.unit_id for r in view.results] == names
        assert scene.runs("part", film) == 4  # that of half a segment
        assert [names[0], names[2]] == [r.unit.unit_id for r in grid.results if r.unit.unit_id in names]

    @case
    async def test_who_comes_in_the_midst_joins_what_is_made_of_windows(self, scene: Scene) -> None:
        film = scene.film()
        params = at(scene, *RANGES)
        scene.close("bounds")
        scene.close("span")
        ids = [await accepted(scene.service, scene.ask("span", film, params=params))]
        await scene.begun("bounds", film)
        ids.append(await accepted(scene.service, scene.ask("spans", film, params=params)))
        scene.open("bounds")
        await scene.begun("span", film)
        ids.append(await accepted(scene.service, scene.ask("span,spans", film, params=params)))
        scene.open("span")
        names = windows(scene, film, *RANGES)
        for id, expected in zip(ids, (names, [" ".join(names)], [*names, " ".join(names)]), strict=True):
            view = await scene.service.status(id, WAIT)
            assert (view.state, [r.value for r in view.results]) == ("done", expected)
        assert [scene.runs(name, film) for name in ("bounds", "span", "spans")] == [1, 3, 1]

    @case
    async def test_what_is_made_of_windows_is_cancelled_for_one_and_goes_on_for_others(
        self, scene: Scene
    ) -> None:
        film = scene.film()
        request = scene.ask("span", film, params=at(scene, *RANGES))
        scene.close("bounds")
        scene.close("span")
        early, late, stays = [await accepted(scene.service, request) for _ in range(3)]
        await scene.begun("bounds", film)
        view = await scene.service.cancel(early)
        assert (view.state, [(each_of(r), r.state) for r in view.results]) == (
            "cancelled",
            [("bounds", "cancelled")],
        )
        scene.open("bounds")
        await scene.begun("span", film)

        async def known() -> bool:
            return len((await scene.service.status(late)).results) == 3

        await scene.eventually(known)
        view = await scene.service.cancel(late)
        assert (view.state, [r.state for r in view.results]) == ("cancelled", ["cancelled"] * 3)
        assert named(view) == [("span", name) for name in windows(scene, film, *RANGES)]
        scene.open("span")
        view = await scene.service.status(stays, WAIT)
        assert [r.value for r in view.results] == windows(scene, film, *RANGES)
        assert (scene.runs("bounds", film), scene.runs("span", film)) == (1, 3)
        assert [(await scene.service.status(id)).state for id in (early, late)] == ["cancelled"] * 2

    @case
    async def test_who_hangs_up_before_or_after_the_windows_are_known_may_ask_again(
        self, scene: Scene
    ) -> None:
        for held in ("bounds", "span"):
            film = scene.film()
            request, id = scene.ask("span", film, params=at(scene, *RANGES)), scene.new_id()
            scene.close(held)
            first = await started(scene.service.compute(request, WAIT, id))
            await scene.begun(held, film)
            await hung_up(first)

            async def ended(request: ComputeRequest = request) -> bool:
                steps = await scene.service.explain(request)
                return not set(UNFINISHED).intersection(step.state for step in steps)

            await scene.eventually(ended)
            again = await started(scene.service.compute(request, WAIT, id))
            scene.open(held)
            assert [r.value for r in (await again).results] == windows(scene, film, *RANGES)

    @case
    async def test_events_tell_each_window_once_and_of_progress_that_grows(self, scene: Scene) -> None:
        film = scene.film()
        scene.close("bounds")
        id = await accepted(scene.service, scene.ask("span,spans", film, params=at(scene, *RANGES)))
        await scene.begun("bounds", film)
        events = aiter(scene.service.events(id))
        first = await anext(events)
        assert first.kind == "progress"
        scene.open("bounds")
        told = [first, *[event async for event in events]]
        last = told[-1]
        assert last.view is not None
        assert (last.kind, last.view.state, last.done) == ("done", "done", last.total)
        assert last.total > first.total
        assert [e.total for e in told] == sorted(e.total for e in told)
        assert [e.done for e in told] == sorted(e.done for e in told)
        assert all(0 <= e.done <= e.total for e in told)
        results = [e.result for e in told if e.result is not None]
        assert len(results) == len(last.view.results) == 4
        assert set(results) == set(last.view.results)
        for again in (await events_of(scene.service, id), await events_of(scene.service, id)):
            assert {e.result for e in again if e.result is not None} == set(results)

    @case
    async def test_another_engine_tells_of_windows_that_were_found(self, scene: Scene) -> None:
        film = scene.film()
        other = await scene.another()
        scene.close("bounds")
        id = await accepted(scene.service, scene.ask("span,spans", film, params=at(scene, *RANGES)))
        await scene.begun("bounds", film)
        events = await started(events_of(other, id))
        assert [each_of(r) for r in (await other.status(id)).results[:1]] == ["bounds"]
        scene.open("bounds")
        view = await other.status(id, WAIT)
        names = windows(scene, film, *RANGES)
        assert [r.value for r in view.results] == [*names, " ".join(names)]
        told = await events
        assert sorted(e.result.value for e in told if e.result) == sorted([*names, " ".join(names)])

    @case
    async def test_a_refresh_makes_windows_anew_and_those_of_the_finder_if_it_is_asked_for(
        self, scene: Scene
    ) -> None:
        film = scene.film()
        for asked, runs in (("span", [1, 3]), ("span", [1, 6]), ("bounds,span", [2, 9])):
            refresh = runs != [1, 3]
            request = scene.ask(asked, film, params=at(scene, *RANGES), refresh=refresh)
            view = await done(scene.service, request)
            assert [r.value for r in view.results][-3:] == windows(scene, film, *RANGES)
            assert not any(r.cached for r in view.results)
            assert [scene.runs(name, film) for name in ("bounds", "span")] == runs

    @case
    async def test_windows_are_purged_by_their_asset_and_feature(self, scene: Scene) -> None:
        film, other = scene.film(), scene.film()
        request = scene.ask("span", film, other, params=at(scene, *RANGES))
        view = await done(scene.service, request)
        assert await scene.service.purge(asset=scene.id_of(film), feature="span") == 3
        for result in view.results[:3]:
            with pytest.raises(errors.UnknownKey):
                await scene.service.load([result.key])
        again = await done(scene.service, request)
        assert [r.cached for r in again.results] == [False] * 3 + [True] * 3
        assert [scene.runs(name, film) for name in ("bounds", "part", "span")] == [1, 3, 6]
        assert await scene.service.purge(asset=scene.id_of(film)) == 7
        await done(scene.service, request)
        assert [scene.runs(name, film) for name in ("bounds", "part", "span")] == [2, 6, 9]
        assert [scene.runs(name, other) for name in ("bounds", "part", "span")] == [1, 3, 3]

    @case
    async def test_a_set_gathers_the_windows_of_each_of_its_assets(self, scene: Scene) -> None:
        """Its shard borrows the windows from the shards of the assets, which make the units."""
        films = [scene.film() for _ in range(6)]
        request = scene.ask("reel", *films, params=at(scene, *RANGES))
        expected = [windows(scene, film, *RANGES) for film in sorted(films, key=scene.id_of)]
        assert await value(scene.service, request) == expected
        for film in films:
            assert [scene.runs(name, film) for name in ("bounds", "span")] == [1, 3]
        view = await done(scene.service, scene.ask("span", *films, params=at(scene, *RANGES)))
        assert all(r.cached for r in view.results)
        await scene.service.purge(asset=scene.id_of(films[0]), feature="reel")
        await scene.service.purge(asset=scene.id_of(films[1]), feature="span")
        assert await value(scene.service, request) == expected
        assert [scene.runs("span", film) for film in films] == [3, 6, 3, 3, 3, 3]
        assert {scene.runs("bounds", film) for film in films} == {1}
        nothing = scene.ask("reel", *films, params={"bounds.at": ""})
        assert await value(scene.service, nothing) == [[]] * 6

    @case
    async def test_explain_runs_no_finder(self, scene: Scene) -> None:
        film = scene.film()
        request = scene.ask("span", film, params=at(scene, *RANGES))
        steps = await scene.service.explain(request)
        assert [(s.state, s.action) for s in steps if s.feature == "bounds"] == [("missing", "run")]
        [target] = [s for s in steps if s.target]
        assert isinstance(target.unit, EachRange)
        assert [scene.runs(name, film) for name in ("bounds", "span")] == [0, 0]
        await done(scene.service, request)
        assert await scene.would("run", request) == []
        assert [scene.runs(name, film) for name in ("bounds", "span")] == [1, 3]

    @case
    async def test_a_restart_in_the_midst_of_windows_repeats_no_finder(self, scene: Scene) -> None:
        films = [scene.film() for _ in range(3)]
        # First, for windows that wait at their gate may hold every CPU before the last film's are found.
        await done(scene.service, scene.ask("bounds", *films, params=at(scene, *RANGES)))
        scene.close("span")
        request = scene.ask("span,spans", *films, params=at(scene, *RANGES))
        id = await accepted(scene.service, request)
        await scene.begun("span", *films)

        async def found() -> bool:
            # All windows are known, and `bounds` is written.
            view = await scene.service.status(id)
            return len(view.results) == 12

        await scene.eventually(found)
        await scene.stored()
        scene.close("bounds")
        unknown = scene.film()
        early = await accepted(scene.service, scene.ask("span", unknown, params=at(scene, *RANGES)))
        await scene.restart()
        assert (await scene.service.status(id)).state == "running"
        assert [each_of(r) for r in (await scene.service.status(early)).results] == ["bounds"]
        other = await scene.another()
        waiting = await started(other.status(id, WAIT))
        scene.open("bounds")
        scene.open("span")
        assert named(await other.status(early, WAIT)) == [
            ("span", name) for name in windows(scene, unknown, *RANGES)
        ]
        expected: list[tuple[str, str]] = []
        for film in films:
            expected += [("span", name) for name in windows(scene, film, *RANGES)]
            expected.append(("spans", scene.id_of(film)))
        for view in (await scene.service.status(id, WAIT), await waiting):
            assert (view.state, {r.state for r in view.results}) == ("done", {"ready"})
            assert named(view) == expected
        assert [scene.runs("bounds", film) for film in films] == [1] * 3
        assert all(scene.runs("span", film) <= 6 for film in films)
        runs = [scene.runs("span", film) for film in films]
        again = await done(scene.service, request)
        assert named(again) == expected
        assert all(r.cached for r in again.results)
        assert [scene.runs("span", film) for film in films] == runs

    @case
    async def test_shards_that_die_in_the_midst_of_windows_repeat_no_finder(self, scene: Scene) -> None:
        films = [scene.film() for _ in range(3)]
        params = at(scene, *RANGES)
        # First, for windows that wait at their gate may hold every CPU before the last film's are found.
        await done(scene.service, scene.ask("bounds", *films, params=params))
        scene.close("span")
        waiting = await started(scene.service.compute(scene.ask("reel,span", *films, params=params), WAIT))
        id = await accepted(scene.service, scene.ask("spans,span", *films, params=params))
        await scene.begun("span", *films)

        async def found() -> bool:
            return len((await scene.service.status(id)).results) == 12

        await scene.eventually(found)
        await scene.stored()
        scene.close("bounds")
        unknown = scene.film()
        early = await accepted(scene.service, scene.ask("span", unknown, params=params))
        await scene.kill()
        scene.open("bounds")
        scene.open("span")
        view = await scene.service.status(early, WAIT)
        assert [r.value for r in view.results] == windows(scene, unknown, *RANGES)
        for view in (await waiting, await scene.service.status(id, WAIT)):
            assert (view.state, {r.state for r in view.results}) == ("done", {"ready"})
            assert [r.unit.unit_id for r in view.results if r.feature == "span"] == [
                name for film in films for name in windows(scene, film, *RANGES)
            ]
        assert [scene.runs("bounds", film) for film in films] == [1] * 3

    # --- demands

    @case
    async def test_a_demand_is_kept_once_replaced_listed_and_stopped(self, scene: Scene) -> None:
        service, name = scene.service, f"d-{scene.tenant}"
        [picture] = scene.pictures(1)
        wanted = Demand(name, ("label",), (picture,), every=3600.0, tenant=scene.tenant)

        async def listed() -> list[DemandView]:
            return [view for view in await service.demands() if view.demand.name == name]

        view = await service.keep(wanted)
        assert view.demand == wanted
        [same] = await listed()
        assert (same.demand, same.made) == (wanted, view.made)
        assert (await service.keep(wanted)).made == view.made
        called = Callback(CALLED, ("done", "result"))
        other = dataclasses.replace(wanted, gone="purge", every=7200.0, callback=called)
        assert (await service.keep(other)).demand == other
        assert [view.demand for view in await listed()] == [other]
        assert await service.stop_keeping(name)
        assert not await service.stop_keeping(name)
        assert await listed() == []

    @case
    async def test_a_demand_becomes_true_and_asks_for_each_asset_once(self, scene: Scene) -> None:
        service, name = scene.service, f"d-{scene.tenant}"
        pictures = scene.pictures(2)
        wanted = Demand(
            name,
            ("label",),
            tuple(pictures),
            every=1.0,
            settle_seconds=0.0,
            tenant=scene.tenant,
            callback=Callback(CALLED, ("done",)),
        )
        await service.keep(wanted)

        async def is_true() -> bool:
            [status] = [view.status for view in await service.demands() if view.demand.name == name]
            return status.all_true and status.seen == 2

        await scene.eventually(is_true)
        assert [scene.runs("label", picture) for picture in pictures] == [1, 1]
        await done(service, scene.ask("label", *pictures))
        assert [scene.runs("label", picture) for picture in pictures] == [1, 1]

        async def is_told() -> bool:
            found = await service.deliveries(tenant=scene.tenant)
            return bool(found) and found[0].attempts > 0

        await scene.eventually(is_told)
        [told] = await service.deliveries(tenant=scene.tenant)
        assert (told.demand, told.request, told.type, told.url) == (name, "", "demand.done", CALLED)
        assert await service.stop_keeping(name)
        assert (await service.replay(told.id, tenant=scene.tenant)).state == "pending"

    @case
    async def test_a_demand_that_can_not_be_kept_is_refused_and_not_listed(self, scene: Scene) -> None:
        service, name = scene.service, f"d-{scene.tenant}"
        [picture] = scene.pictures(1)
        good = Demand(name, ("label",), (picture,), tenant=scene.tenant)
        for wrong, error, said in (
            ({"name": ".hidden"}, errors.BadRequest, "name"),
            ({"name": "n" * 65}, errors.BadRequest, "name"),
            ({"features": ()}, errors.BadRequest, "feature"),
            ({"features": ("lable",)}, errors.UnknownFeature, "lable"),
            ({"features": ("whole",)}, errors.BadRequest, "'whole' is a feature of a collection"),
            ({"prefixes": ("films",)}, errors.BadRequest, "'films' is relative"),
            ({"prefixes": (picture, "/outside")}, errors.Forbidden, "'/outside' is outside the media roots"),
            ({"every": 0.0}, errors.BadRequest, "every"),
            ({"callback": Callback("https://127.1/")}, errors.BadRequest, r"callback\.url '?https://127\.1/"),
            ({"callback": Callback(CALLED, ())}, errors.BadRequest, r"callback\.on"),
            (
                {"callback": Callback("https://other.example/")},
                errors.BadRequest,
                "callback.url may not lead to https://other.example; the server's callback_hosts",
            ),
        ):
            with pytest.raises(error, match=said):
                await service.keep(dataclasses.replace(good, **wrong))
        assert name not in [view.demand.name for view in await service.demands()]
        assert not await service.stop_keeping(name)

    @case
    async def test_an_event_is_taken_where_a_demand_covers_its_place(self, scene: Scene) -> None:
        service, name = scene.service, f"d-{scene.tenant}"
        picture, other = scene.pictures(2)
        await service.keep(Demand(name, ("label",), (picture,), every=3600.0, tenant=scene.tenant))
        assert await service.notify([picture, other, picture]) == Noticed(2, 1, 0)
        assert await service.notify([]) == Noticed()
        await service.stop_keeping(name)
        assert await service.notify([picture]) == Noticed(0, 1, 0)

    @case
    async def test_an_event_of_another_tenant_is_of_what_no_demand_covers(self, scene: Scene) -> None:
        service, name = scene.service, f"d-{scene.tenant}"
        [picture] = scene.pictures(1)
        await service.keep(Demand(name, ("label",), (picture,), every=3600.0, tenant=scene.tenant))
        assert await service.notify([picture], "nobody") == Noticed(0, 1, 0)
        assert await service.notify([picture], scene.tenant) == Noticed(1, 0, 0)
        await service.stop_keeping(name)

    # --- deadlines and cancelling

    @case
    async def test_past_its_deadline_a_request_has_failed(self, scene: Scene) -> None:
        late, there = scene.pictures(2)
        await done(scene.service, scene.ask("label", there))
        scene.close("label")
        request = scene.ask("label", there, late, deadline_seconds=0.3)
        view = await scene.service.compute(request, WAIT)
        assert [r.state for r in view.results] == ["ready", "failed"]
        failure = view.results[1].failure
        assert failure is not None
        assert (failure.type, failure.status) == ("Expired", 504)
        alone = await scene.service.compute(scene.ask("label", late, deadline_seconds=0.3), WAIT)
        assert (view.state, alone.state) == ("done", "failed")
        scene.open("label")
        # A deadline is of the request, not of the value.
        assert await value(scene.service, scene.ask("label", late)) == scene.id_of(late)

    @case
    async def test_past_its_deadline_a_request_has_the_windows_that_were_made(self, scene: Scene) -> None:
        """Before any is known, the result that stands for them has failed; then each that is not made."""
        film, params = scene.film(), at(scene, *RANGES)
        scene.close("bounds")
        view = await scene.service.compute(scene.ask("span", film, params=params, deadline_seconds=0.3), WAIT)
        assert [(each_of(r), r.state) for r in view.results] == [("bounds", "failed")]
        assert view.results[0].failure is not None
        assert (view.results[0].failure.type, view.results[0].failure.status) == ("Expired", 504)
        scene.open("bounds")
        seconds = scene.segment_seconds
        await done(scene.service, scene.ask("span", film, params=params, range=(0.0, 0.5 * seconds)))
        scene.close("span")
        view = await scene.service.compute(scene.ask("span", film, params=params, deadline_seconds=0.3), WAIT)
        assert (view.state, named(view)) == (
            "done",
            [("span", name) for name in windows(scene, film, *RANGES)],
        )
        assert [r.failure and r.failure.type for r in view.results] == [None, "Expired", "Expired"]
        scene.open("span")
        view = await done(scene.service, scene.ask("span", film, params=params))
        assert [r.value for r in view.results] == windows(scene, film, *RANGES)

    @case
    async def test_a_request_is_cancelled_for_everyone_and_others_go_on(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        scene.close("fresh")
        request = scene.ask("fresh", *pictures)
        waits_id = scene.new_id()
        waits = await started(scene.service.compute(request, WAIT, waits_id))
        events_id, stays = [await accepted(scene.service, request) for _ in range(2)]
        events = await started(events_of(scene.service, events_id))
        await scene.begun("fresh", *pictures)
        await scene.known(waits_id)
        # One that is cancelled while its assets are being identified has no results yet that it could name.
        for id, counts in ((waits_id, (0, 6)), (events_id, (6,))):
            view = await scene.service.cancel(id)
            assert view.state == "cancelled"
            assert len(view.results) in counts
            assert {r.state for r in view.results} <= {"cancelled"}
        assert (await waits).state == "cancelled"
        assert (await events)[-1].view.state == "cancelled"  # type: ignore[union-attr]
        for asked in (scene.service.status(events_id, WAIT), scene.service.compute(request, WAIT, events_id)):
            assert (await asked).state == "cancelled"
        scene.open("fresh")
        view = await scene.service.status(stays, WAIT)
        assert (view.state, [r.value for r in view.results]) == ("done", [1] * 6)
        assert (await scene.service.cancel(stays)).state == "done"

    @case
    async def test_another_engine_cancels_too(self, scene: Scene) -> None:
        pictures = scene.pictures(6)
        other = await scene.another()
        scene.close("label")
        id = await accepted(scene.service, scene.ask("label", *pictures))
        waiting = await started(scene.service.status(id, WAIT))
        assert (await other.cancel(id)).state == "cancelled"
        assert (await waiting).state == "cancelled"

        async def ended() -> bool:
            return not set(UNFINISHED).intersection(await scene.states("label", *pictures))

        await scene.eventually(ended)

    # --- assets and the rest

    @case
    async def test_an_asset_is_its_content(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        copy = scene.copy_of(picture)
        one, two = await scene.service.add_asset(picture), await scene.service.add_asset(copy)
        assert one == two
        assert one.id == two.id == scene.id_of(picture)
        await done(scene.service, scene.ask("label", picture))
        view = await done(scene.service, scene.ask("label", copy))
        assert view.results[0].cached
        by_id = ComputeRequest(("label",), (AssetRef(id=one.id),), tenant=scene.tenant)
        assert (await done(scene.service, by_id)).results == view.results
        both = await done(scene.service, scene.ask("label,whole", picture, copy))
        assert [r.value for r in both.results] == [one.id, [one.id]]
        assert scene.runs("label", picture) == 1
        with pytest.raises(errors.MediaNotFound):
            await scene.service.add_asset(scene.nothing())

    @case
    async def test_what_another_tenant_has_uploaded_is_not_there(self, scene: Scene) -> None:
        service, mine, other = scene.service, scene.tenant, "nobody"
        [picture] = scene.pictures(1)
        content = scene.content(picture) + b" and more"  # else it would be in the media roots, too

        async def chunks() -> Any:
            yield content

        asset = await service.upload(chunks(), "image/png")
        asked = ComputeRequest(("label",), (AssetRef(id=asset.id),), tenant=mine)
        [result] = (await done(service, asked)).results
        assert (await service.asset(asset.id)).id == asset.id
        assert await service.shown([result.key, "0" * 32], mine) == await service.shown([result.key], other)
        assert await service.shown([result.key], other) == frozenset()
        with pytest.raises(errors.UnknownAsset, match="register its URI first"):
            await service.asset(asset.id, other)
        for ref in (AssetRef(id=asset.id, tenant=other), AssetRef(uri=asset.uri, tenant=other)):
            view = await service.compute(dataclasses.replace(asked, assets=(ref,)), WAIT)
            [failed] = view.failed_assets
            assert failed.failure.type in ("UnknownAsset", "MediaNotFound"), failed
        # What lies in the media roots is everybody's.
        there = await service.add_asset(picture)
        [known] = (await done(service, scene.ask("label", picture))).results
        assert (await service.asset(there.id, other)).id == there.id
        assert await service.shown([known.key], other) == {known.key}

    @case
    async def test_an_upload_is_an_asset(self, scene: Scene) -> None:
        [picture] = scene.pictures(1)
        content = scene.content(picture)

        async def chunks() -> Any:
            yield content[:10]
            yield content[10:]

        asset = await scene.service.upload(chunks(), "image/png")
        for uploads in (True, False):
            found = await scene.service.list_assets(AssetFilter(asset.uri, uploads=uploads))
            assert [one.id for one in found] == [asset.id] * uploads
        assert isinstance(asset, Asset)
        assert asset.bytes == len(content)
        by_id = ComputeRequest(("label",), (AssetRef(id=asset.id),), tenant=scene.tenant)
        assert await value(scene.service, by_id) == asset.id
        size = len(content)
        told = await scene.service.media(asset.id, 0, 0)
        assert (told.id, told.media_type, told.size, told.data) == (asset.id, asset.media_type, size, b"")
        assert told.name == asset.uri.rpartition("/")[2]
        for start, end in ((0, None), (0, size), (3, 7), (3, None), (size - 1, size + 10), (size, size)):
            piece = await scene.service.media(asset.id, start, end)
            assert (piece.start, piece.size, piece.data) == (start, size, content[start:end])
        for start, end in ((size, None), (size, size + 1), (size + 1, size + 2)):
            with pytest.raises(errors.BadRequest):
                await scene.service.media(asset.id, start, end)
        with pytest.raises(errors.UnknownAsset):
            await scene.service.media("0" * 32)

    @case
    async def test_assets_are_listed_by_place_in_pages_that_fit_together(self, scene: Scene) -> None:
        pictures, film = scene.pictures(5), scene.film()
        prefix = film.rpartition("/")[0] + "/"
        late, early = max(pictures), min(pictures)
        first = [one for one in (*pictures, film) if one not in (late, early)]
        assets = {uri: await scene.service.add_asset(uri) for uri in first}

        async def page(cursor: str | None = None, limit: int = 2, **only: Any) -> Page[Asset]:
            return await scene.service.list_assets(AssetFilter(prefix, **only), limit, cursor)

        async def walked(**only: Any) -> list[str]:
            found, cursor = [], None
            while True:
                some = await page(cursor, 1000, **only)
                found += [one.uri for one in some]
                if (cursor := some.cursor) is None:
                    assert found == sorted(set(found))
                    return found

        one = await page()
        told, cursor = [*one], one.cursor
        while cursor is not None and told[-1].uri < min(first):
            one = await page(cursor)
            told, cursor = [*told, *one], one.cursor
        assets |= {uri: await scene.service.add_asset(uri) for uri in (early, late)}
        while cursor is not None:
            one = await page(cursor)
            assert len(one) <= 2
            told, cursor = [*told, *one], one.cursor
        uris = [asset.uri for asset in told]
        assert uris == sorted(set(uris))
        assert {*first, late} <= set(uris)
        for asset in told:
            if asset.uri in assets:
                known = assets[asset.uri]
                assert (asset, asset.kind, asset.bytes) == (known, known.kind, known.bytes)
                assert asset.duration == known.duration
        assert {*pictures, film} <= set(await walked())
        images, films = await walked(kind="image"), await walked(kind="video")
        assert set(pictures) <= set(images)
        assert (film in films, film in images) == (True, False)
        seconds = assets[film].duration or 0.0
        assert film in await walked(min_duration=seconds, max_duration=seconds)
        assert film not in await walked(min_duration=seconds + 1)
        assert not set(pictures).intersection(await walked(max_duration=1e6))
        assert await walked() == [*await walked(uploads=False)]
        everywhere = await scene.service.list_assets(AssetFilter(film))
        assert ([asset.uri for asset in everywhere], everywhere.cursor) == ([film], None)

    @case
    async def test_a_page_that_can_not_be_is_refused(self, scene: Scene) -> None:
        for asked in (
            (AssetFilter(kind="film"), 1, None),
            (AssetFilter(min_duration=-1.0), 1, None),
            (AssetFilter(), 0, None),
            (AssetFilter(), 1001, None),
            (AssetFilter(), 1, "no cursor"),
            (AssetFilter(), 1, write_cursor("values", "x")),
        ):
            with pytest.raises(errors.BadRequest):
                await scene.service.list_assets(*asked)

    @case
    async def test_the_values_of_an_asset_are_listed_without_being_read(self, scene: Scene) -> None:
        film, other = scene.film(), scene.film()
        params = at(scene, *RANGES)
        view = await done(scene.service, scene.ask("joined,label,span", film, other, params=params))
        whole = await done(scene.service, scene.ask("whole", other, film))
        id = scene.id_of(film)
        mine = {r.key: r for r in (*view.results, *whole.results) if id in r.unit.unit_id}

        async def walked(limit: int, **only: str) -> list[ValueInfo]:
            found: list[ValueInfo] = []
            cursor = None
            while True:
                page = await scene.service.list_values(id, limit=limit, cursor=cursor, **only)
                assert len(page) <= limit
                found += page
                if (cursor := page.cursor) is None:
                    assert [one.place for one in found] == sorted({one.place for one in found})
                    return found

        found = {one.key: one for one in await walked(3)}
        assert mine.keys() <= found.keys()
        assert all(id in one.unit for one in found.values())
        for key, result in mine.items():
            one = found[key]
            assert (one.feature, one.version, one.unit) == (result.feature, "1", result.unit.unit_id)
            assert one.seconds == result.seconds
            assert one.made > 0
            assert one.device == "cpu"
            assert one.stored or one.memory
        pers = {one.feature: one.per for one in found.values() if one.key in mine}
        assert pers == {"joined": "asset", "label": "asset", "span": "window", "whole": "collection"}
        joined = next(one for one in found.values() if one.feature == "joined")
        assert set(joined.inputs) == {k for k, v in found.items() if v.per == "segment"}
        spans = [one for one in found.values() if one.feature == "span"]
        assert [one.unit for one in spans] == windows(scene, film, *RANGES)
        assert all(dict(one.params) for one in await walked(1000, feature="bounds"))
        assert [one.key for one in await walked(1, feature="span", version="1")] == [o.key for o in spans]
        assert await walked(1000, feature="span", version="2") == []
        await scene.service.purge(asset=id)
        assert await walked(1000) == []
        with pytest.raises(errors.UnknownAsset):
            await scene.service.list_values("0" * 32)
        with pytest.raises(errors.BadRequest):
            await scene.service.list_values(id, cursor=write_cursor("assets", "x"))

    @case
    async def test_stored_values_of_an_asset_are_listed_after_a_restart(self, scene: Scene) -> None:
        film = scene.film()
        await done(scene.service, scene.ask("joined,label", film))
        before = await scene.service.list_values(scene.id_of(film))
        assert len(before) == 5
        await scene.stored()
        await scene.restart()
        after = await scene.service.list_values(scene.id_of(film))
        assert all(one.stored for one in after)
        assert [replace(one, stored=True, memory=True) for one in after] == [
            replace(one, made=pytest.approx(one.made, abs=1e-5), stored=True, memory=True) for one in before
        ]

    @case
    async def test_requests_are_listed_with_what_became_of_them_the_newest_first(self, scene: Scene) -> None:
        one, two = scene.pictures(2)

        async def walked(limit: int, state: str | None = None) -> list[RequestInfo]:
            found: list[RequestInfo] = []
            cursor = None
            while True:
                page = await scene.service.list_requests(scene.tenant, state, limit, cursor)
                assert len(page) <= limit
                found += page
                if (cursor := page.cursor) is None:
                    assert [info.place for info in found] == sorted({info.place for info in found})
                    return found

        assert await walked(5) == []
        bad = {"picky.bad": scene.id_of(two)}
        answered = (await done(scene.service, scene.ask("label", one))).id
        both = scene.ask("picky,label", one, two, scene.nothing(), params=bad)
        mixed = (await scene.service.compute(both, WAIT)).id
        alone = (await scene.service.compute(scene.ask("picky", two, params=bad), WAIT)).id
        scene.close("fresh")
        ended = await accepted(scene.service, scene.ask("fresh", one))
        runs = await accepted(scene.service, scene.ask("fresh", two))
        await scene.service.cancel(ended)

        async def settled() -> bool:
            return {info.id: info.state for info in await walked(5)}.get(ended) == "cancelled"

        await scene.eventually(settled)
        found = {info.id: info for info in await walked(2)}
        assert {id: (i.state, i.results, i.ready, i.failed) for id, i in found.items()} == {
            answered: ("done", 1, 1, 0),
            mixed: ("done", 6, 3, 3),
            alone: ("failed", 1, 0, 1),
            ended: ("cancelled", 1, 0, 0),
            runs: ("running", 1, 0, 0),
        }
        assert found[mixed].features == ("picky", "label")
        assert {info.tenant for info in found.values()} == {scene.tenant}
        for state, id in (("running", runs), ("failed", alone), ("cancelled", ended)):
            assert [info.id for info in await walked(1, state)] == [id]
        assert set(found) <= {info.id for info in await scene.service.list_requests(limit=1000)}
        assert not (await scene.service.list_requests("nobody")).items
        with pytest.raises(errors.BadRequest):
            await scene.service.list_requests(state="over")
        scene.open("fresh")
        await scene.service.status(runs, WAIT)

        async def over() -> bool:
            return [i.state for i in await walked(5) if i.id == runs] == ["done"]

        await scene.eventually(over)

    @case
    async def test_accepted_requests_are_listed_after_a_restart(self, scene: Scene) -> None:
        pictures = scene.pictures(4)
        scene.close("label")
        id = await accepted(scene.service, scene.ask("label", *pictures))
        scene.open("label")
        await scene.service.status(id, WAIT)

        async def listed() -> list[RequestInfo]:
            return [*await scene.service.list_requests(scene.tenant)]

        [before] = await listed()
        await scene.restart()
        assert (await listed()) == [replace(before, state="done", results=4, ready=4)]
        other = await scene.another()
        assert [*await other.list_requests(scene.tenant)] == await listed()
        [line] = await other.audit(AuditFilter(tenant=scene.tenant))
        assert (line.what, line.subject) == ("request.accepted", id)

    @case
    async def test_what_is_changed_is_in_the_log_as_soon_as_it_is_answered(self, scene: Scene) -> None:
        one, other = scene.pictures(2)
        await done(scene.service, scene.ask("label", other))
        scene.close("fresh")
        id = await accepted(scene.service, scene.ask("fresh", one))
        await accepted(scene.service, scene.ask("fresh", one), id)
        await scene.service.cancel(id)
        scene.open("fresh")
        version = f"none-of-{scene.tenant}"
        assert await scene.service.purge(feature="label", version=version) == 0

        async def lines(**only: Any) -> list[tuple[str, str]]:
            page = await scene.service.audit(AuditFilter(**only), 1)
            found = [*page]
            while page.cursor is not None and len(found) < 10:
                page = await scene.service.audit(AuditFilter(**only), 1, page.cursor)
                found += page
            assert all(found[n].time >= found[n + 1].time > 0 for n in range(len(found) - 1))
            assert all(line.caller and line.outcome == "done" for line in found)
            return [(line.what, line.subject) for line in found]

        its = [("request.cancelled", id), ("request.accepted", id)]
        assert await lines(tenant=scene.tenant) == its
        assert await lines(tenant=scene.tenant, what="request.accepted") == its[1:]
        assert (await lines(what="values.purged"))[0] == ("values.purged", f"feature label version {version}")
        assert await lines(tenant=f"{scene.tenant}-other") == await lines(since=4e9) == []
        for wrong, limit, cursor in (
            (AuditFilter(what="all"), 1, None),
            (AuditFilter(), 0, None),
            (AuditFilter(), 1, "x"),
        ):
            with pytest.raises(errors.BadRequest):
                await scene.service.audit(wrong, limit, cursor)

    @case
    async def test_a_value_tells_what_it_was_made_from_down_to_the_media(self, scene: Scene) -> None:
        film, [picture] = scene.film(), scene.pictures(1)
        copy = scene.copy_of(picture)
        id, params = scene.id_of(film), at(scene, *RANGES)
        view = await done(scene.service, scene.ask("joined,spans,span", film, params=params))
        label = (await done(scene.service, scene.ask("label", picture))).results[0]
        await scene.service.add_asset(copy)
        at_two_places = await scene.service.lineage(label.key)
        assert {(asset.uri, asset.id) for asset in at_two_places.assets} == {
            (uri, scene.id_of(picture)) for uri in (picture, copy)
        }
        whole = (await done(scene.service, scene.ask("whole", film))).results[0]
        keys = {r.feature: r.key for r in reversed(view.results)}
        joined = await scene.service.lineage(keys["joined"])
        root, *parts = joined.nodes
        assert (root.key, root.feature, root.per, joined.unknown) == (keys["joined"], "joined", "asset", ())
        assert [one.feature for one in parts] == ["part"] * 3
        assert set(root.inputs) == {one.key for one in parts}
        assert all(one.stored or one.memory for one in joined.nodes)
        assert all(one.made > 0 and one.device == "cpu" and one.code for one in joined.nodes)
        assert [(asset.uri, asset.id) for asset in joined.assets] == [(film, id)]
        span = await scene.service.lineage(keys["span"])
        assert [(one.feature, one.per, one.unit) for one in span.nodes] == [
            ("span", "window", windows(scene, film, *RANGES)[0]),
            ("part", "window", windows(scene, film, *RANGES)[0]),
        ]
        spans = await scene.service.lineage(keys["spans"])
        assert spans.nodes[0].feature == "spans"
        assert {r.key for r in view.results if r.feature == "span"} <= {one.key for one in spans.nodes}
        assert all(one.stored or one.memory for one in spans.nodes)
        assert spans.unknown == ()
        of_set = await scene.service.lineage(whole.key)
        assert [(one.feature, one.per) for one in of_set.nodes] == [
            ("whole", "collection"),
            ("label", "asset"),
        ]
        await scene.service.purge(asset=id, feature="part")
        there = {one.key: one.stored or one.memory for one in (await scene.service.lineage(root.key)).nodes}
        assert there == {root.key: True} | {one.key: False for one in parts}
        await scene.service.purge(asset=id)
        for key in (root.key, "0" * 32):
            with pytest.raises(errors.UnknownKey):
                await scene.service.lineage(key)

    @case
    async def test_features_are_listed_by_name(self, scene: Scene) -> None:
        found = {info.name: info for info in await scene.service.features()}
        names: Sequence[str] = list(found)
        assert names == sorted(names)
        assert set(FEATURES) <= set(names)
        assert found["joined"].inputs == ("part",)
        assert found["span"].per == "bounds"
        assert found["picky"].params == {"bad": ("str", ""), "kind": ("str", "feature")}
        assert [found[n].per for n in ("label", "part", "whole")] == ["asset", "segment", "collection"]

    @case
    async def test_a_service_that_works_is_in_no_trouble(self, scene: Scene) -> None:
        await done(scene.service, scene.ask("label", *scene.pictures(1)))
        assert await scene.service.troubles() == []

    @case
    async def test_stats_are_numbers_under_plain_names(self, scene: Scene) -> None:
        stats = await scene.service.stats()
        assert stats
        for one in stats:
            name, labels = split(one)
            assert re.fullmatch("[a-z][a-z0-9_]*", name), one
            assert series(name, **labels) == one
        assert all(type(number) in (int, float) for number in stats.values())

    @case
    async def test_requests_and_steps_are_counted_by_what_became_of_them(self, scene: Scene) -> None:
        async def told() -> dict[str, float]:
            return dict(await scene.service.stats())

        before = await told()
        if "shards" not in before:
            return  # a double counts less
        await done(scene.service, scene.ask("label", *scene.pictures(2)))
        after = await told()
        assert {family(split(name)[0])[1] for name in after}.isdisjoint({None})

        def more(name: str, **labels: str) -> float:
            return after.get(series(name, **labels), 0.0) - before.get(series(name, **labels), 0.0)

        assert more("steps_total", feature="label", outcome="computed") == 2
        assert more("step_seconds_count", feature="label") == 2
        mine = {"class": "interactive", "outcome": "done", "tenant": scene.tenant}
        assert more("requests_total", **mine) == 1
        assert more("wait_seconds_count", **{"class": "interactive"}) > 0
        assert more("request_seconds_bucket", **{"class": "interactive", "le": "+Inf"}) == 1

    @case
    async def test_every_answer_that_was_there_and_every_read_counts(self, scene: Scene) -> None:
        request = scene.ask("label,large", *scene.pictures(2))
        hits, reads = await counted(scene.service, "hits_total"), await counted(scene.service, "reads_total")
        first = await done(scene.service, request)
        assert await counted(scene.service, "hits_total") == hits
        for again in range(1, 6):
            view = await done(scene.service, request)
            assert all(result.cached for result in view.results)
            assert await counted(scene.service, "hits_total") == hits + 4 * again
        keys = [result.key for result in first.results if result.feature == "large"]
        for again in range(1, 4):
            await scene.service.load(keys)
            assert await counted(scene.service, "reads_total") == reads + 2 * again
        async for _ in scene.service.values(keys):
            pass
        assert await counted(scene.service, "reads_total") == reads + 8
        await done(scene.service, scene.ask("label,large", *scene.pictures(1)))
        assert await counted(scene.service, "hits_total") == hits + 20

    @case
    async def test_an_answer_that_is_read_back_is_a_hit_of_the_store(self, scene: Scene) -> None:
        request = scene.ask("label,large", *scene.pictures(2))
        await done(scene.service, request)
        await scene.stored()
        await scene.restart()
        hits = (await scene.service.stats())[HITS_STORE]
        await done(scene.service, request)
        assert (await scene.service.stats())[HITS_STORE] == hits + 4

    @case
    async def test_each_engine_tells_what_all_have_counted(self, scene: Scene) -> None:
        request = scene.ask("label", *scene.pictures(3))
        hits = await counted(scene.service, "hits_total")
        await done(scene.service, request)
        other = await scene.another()
        for again in range(1, 4):
            for service in (scene.service, other):
                await done(service, request)
            for service in (other, scene.service):
                assert await counted(service, "hits_total") == hits + 6 * again
        await other.aclose()
        assert await counted(scene.service, "hits_total") == hits + 18
