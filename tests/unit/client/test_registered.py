"""A client whose service takes features: what its requests are planned with, over the real engine."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from amber_ray import errors, feature
from amber_ray.client import AsyncClient
from amber_ray.client.registered import Remembering
from amber_ray.client.version_lock import read
from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.model.service import RegistryView
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.transport import layers
from tests.unit.fabric.engine.kit import name_of, run, size, world


class Pickled:
    """A registrar that pickles names in place of code: nothing runs here."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.calls: list[list[str]] = []

    async def register(self, base: str, specs: Sequence[FeatureSpec]) -> RegistryView:
        self.calls.append([spec.name for spec in specs])
        return await self._engine.register(base, specs, repr([s.version for s in specs]).encode())


def made(by: int, **options: Any) -> Any:
    """A feature `mine`, with other code for each number."""

    @feature(name="mine", **options)
    def mine(size: int) -> int:
        return size * by

    return mine


def above(by: int) -> Any:
    @feature(name="above")
    def above_mine(mine: int) -> int:
        return mine + by

    return above_mine


class Scene:
    def __init__(self, world: Any, engine: Engine, own: Sequence[str] = ()) -> None:
        self.world = world
        self.engine = engine
        self.registrar = Pickled(engine)
        self.client = AsyncClient(engine, registrar=self.registrar, own=own)
        [self.film] = world.films(0)

    async def key(self, feature: Any) -> str:
        [target] = [s.key for s in await self.client.explain(feature, self.film.uri) if s.target]
        return target


@asynccontextmanager
async def scene(**settings: Any) -> AsyncIterator[Scene]:
    async with world(**settings) as made:
        yield Scene(made, await made.engine())


def test_a_redefined_function_is_another_feature_and_the_old_one_stays_itself() -> None:
    async def story() -> None:
        async with scene() as here:
            old, new = made(1), made(2)
            first = await here.key(old)
            assert await here.key(new) != first
            assert await here.key(old) == first
            assert await here.key("mine") == first  # by name: the last one that was given
            assert here.registrar.calls == [[], ["mine"], ["mine"], ["mine"]]
            assert await here.key(made(1)) == first
            assert len(here.registrar.calls) == 4  # the same text again is the same feature

    run(story())


def test_names_alone_cost_no_call_and_change_nothing() -> None:
    async def story() -> None:
        async with scene() as here:
            await here.key("size")
            assert here.registrar.calls == []
            await here.key(size)
            assert here.registrar.calls == [[]]
            assert [info.name for info in await here.client.features()] == ["name_of", "size"]

    run(story())


def test_what_takes_a_replaced_feature_follows_it() -> None:
    async def story() -> None:
        async with scene() as here:
            told = await here.client.register(made(1), above(0))
            assert (told.added, told.replaced, told.recomputed) == (("mine", "above"), (), ())
            assert [info.name for info in told.features] == ["mine", "above"]
            first = await here.key("above")
            told = await here.client.register(made(2))
            assert (told.added, told.replaced, told.recomputed) == ((), ("mine",), ("above",))
            assert await here.key("above") != first
            told = await here.client.register(made(2))
            assert (told.added, told.replaced, told.recomputed) == ((), (), ())
            assert repr(told).startswith("<Registration mine auto-")
            assert len(repr(told)) < 100

    run(story())


def test_mistakes_are_named_and_change_nothing() -> None:
    @feature(name="lost")
    def lost(nowhere: int) -> int:
        return nowhere

    @feature(name="round")
    def round_one(about: int) -> int:
        return about

    @feature(name="about")
    def about_one(round: int) -> int:  # noqa: A002 - a feature's name
        return round

    async def story() -> None:
        async with scene() as here:
            for given, said in (
                ([lost], "'lost' takes 'nowhere', which is no feature here"),
                ([round_one, about_one], "in a circle"),
                ([made(1), made(2)], "two different features named 'mine'"),
                ([print], "print is not a feature"),
            ):
                with pytest.raises((errors.DeclarationError, errors.BadRequest), match=said):
                    await here.client.register(*given)
            assert [info.name for info in await here.client.features()] == ["name_of", "size"]
            await here.client.register(made(1, version="1"))
            with pytest.raises(errors.DeclarationError, match="its version is still '1'"):
                await here.client.get(made(2, version="1"), here.film.uri)
            await here.key(made(2, version="2"))

    run(story())


def test_two_clients_of_one_engine_have_features_of_their_own() -> None:
    async def story() -> None:
        async with scene() as here:
            other = AsyncClient(here.engine, registrar=here.registrar)
            mine = await here.key(made(1))
            await other.register(made(2))
            assert await here.key("mine") == mine
            [step] = [s for s in await other.explain("mine", here.film.uri) if s.target]
            assert step.key != mine
            with pytest.raises(errors.UnknownFeature):
                await AsyncClient(here.engine).explain("mine", here.film.uri)

    run(story())


def test_requests_at_once_are_each_planned_with_what_they_were_given() -> None:
    async def story() -> None:
        async with scene() as here:
            alone = [await here.key(made(by)) for by in range(4)]
            assert len(set(alone)) == 4
            assert await asyncio.gather(*(here.key(made(by)) for by in (0, 1, 2, 3, 2, 1, 0))) == [
                alone[by] for by in (0, 1, 2, 3, 2, 1, 0)
            ]

    run(story())


def test_the_shards_have_the_code_and_an_accepted_request_says_which_it_means() -> None:
    async def story() -> None:
        async with scene() as here:
            await here.client.submit([made(1), "size"], here.film.uri)
            [record] = [s.record for call in here.world.shard.named("submit") for s in call[2]]
            digest = record["registry"]
            assert digest in here.world.shard.registries
            assert digest != here.engine.registry.digest
            known = {info.name: info.digest for info in await here.client.features()}
            assert record["expect"] == {"mine": known["mine"]}
            blobs = dict(here.world.shard.named("publish"))
            _, found = layers.read(blobs[digest])
            assert [layer.names for layer in found] == [("name_of", "size"), ("mine",)]

    run(story())


def test_features_given_to_connect_are_meant_by_name_too() -> None:
    async def story() -> None:
        async with world() as made_world:
            here = Scene(made_world, await made_world.engine(), own=["size"])
            await here.client.submit("size", here.film.uri)
            [record] = [s.record for call in here.world.shard.named("submit") for s in call[2]]
            assert list(record["expect"]) == ["size"]

    run(story())


def test_registries_that_nobody_uses_any_more_are_let_go_of() -> None:
    async def story() -> None:
        async with scene() as here:
            running = await here.client.submit(made(1000), here.film.uri)
            for by in range(100):
                await here.client.register(made(by))
            kept = here.engine._registries.blobs
            assert len(kept) < 70
            [record] = [s.record for call in here.world.shard.named("submit") for s in call[2]]
            assert record["registry"] in kept
            assert not await running.done()
            assert await here.key(name_of)

    run(story())


def test_pinned_versions_are_noted_in_the_stores_book_and_changes_are_told(tmp_path: Path) -> None:
    book = str(tmp_path / "store")

    async def story(by: int) -> None:
        async with world() as made_world:
            engine = await made_world.engine()
            client = AsyncClient(engine, registrar=Remembering(Pickled(engine), book))
            await client.register(made(by, version="1"), above(0))

    asyncio.run(story(1))
    assert list(read(book)) == ["mine"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(story(1))
    with pytest.warns(UserWarning, match="mine: the code changed under version '1'"):
        asyncio.run(story(2))
