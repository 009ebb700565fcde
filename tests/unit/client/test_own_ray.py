"""The Ray of a process and its clients: on which threads they come and go, and in which order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from amber_ray.client.own_ray import OpenStore, OwnRay
from amber_ray.errors import BadRequest, Unavailable
from amber_ray.settings import Settings

SECONDS = 10.0


class MemoryRay:
    """A Ray that tells what was done with it; the first start waits for `gate`, if there is one."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.up = False
        self.gate: threading.Event | None = None
        self.began = threading.Event()
        self.broken = False
        self.starter: threading.Thread | None = None

    def start(self, settings: Settings) -> None:
        assert not self.up
        self.starter = threading.current_thread()
        self.began.set()
        if self.gate is not None:
            assert self.gate.wait(SECONDS)
        if self.broken:
            raise Unavailable("no Ray today")
        self.up = True
        self.said.append("start")

    def running(self) -> bool:
        return self.up

    def stop(self) -> None:
        assert self.up
        self.up = False
        self.said.append("stop")


class Client:
    """What `embedded.start` does with a store, in fewer words."""

    def __init__(self, ray: OwnRay, said: list[str], settings: Settings) -> None:
        self._ray, self._said, self._settings = ray, said, settings
        self.store: OpenStore | None = None

    async def open(self) -> Client:
        async with self._ray.entered(self._settings) as self._life:
            async with self._ray.store(self._settings) as self.store:
                if not self.store.users:
                    self._said.append(f"open {self.store.settings.namespace}")
                self.store.users += 1
            return self

    async def close(self) -> None:
        assert self.store is not None
        try:
            async with self._ray.left(self.store) as last:
                if last:
                    self._said.append(f"close {self.store.settings.namespace}")
                    await asyncio.sleep(0.02)
        finally:
            await self._ray.leave(self._life)


@pytest.fixture
def memory() -> MemoryRay:
    return MemoryRay()


@pytest.fixture
def client(memory: MemoryRay) -> Callable[..., Client]:
    ray = OwnRay(memory)
    return lambda store="/a", **more: Client(ray, memory.said, Settings(store=store, **more))


Make = Callable[..., Client]


def test_clients_of_one_store_share_it_and_the_last_one_ends_all(memory: MemoryRay, client: Make) -> None:
    async def story() -> None:
        first = await client().open()
        second = await client().open()
        await first.close()
        third = await client().open()
        await second.close()
        assert memory.said == ["start", "open amber"]
        await third.close()
        assert memory.said == ["start", "open amber", "close amber", "stop"]
        await (await client().open()).close()
        assert memory.said[4:] == memory.said[:4]

    asyncio.run(story())


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_stores_have_namespaces_of_their_own_in_one_ray(
    memory: MemoryRay, client: Make, order: tuple[int, int]
) -> None:
    async def story() -> None:
        both = [await client("/a").open(), await client("/b").open()]
        names = [c.store.settings.namespace for c in both if c.store is not None]
        assert names[0] == "amber"
        assert names[1].startswith("amber-")
        for number in order:
            await both[number].close()
        ends = [f"close {names[number]}" for number in order]
        assert memory.said == ["start", *(f"open {name}" for name in names), *ends, "stop"]

    asyncio.run(story())


def test_one_store_under_two_names_is_one(tmp_path: Path, memory: MemoryRay, client: Make) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    async def story() -> None:
        first = await client(str(tmp_path)).open()
        second = await client(str(tmp_path / "link")).open()
        third = await client(f"file://{tmp_path}").open()
        assert first.store is second.store is third.store
        for one in (first, second, third):
            await one.close()

    asyncio.run(story())


def test_settings_that_the_open_shards_do_not_have_are_refused(memory: MemoryRay, client: Make) -> None:
    async def story() -> None:
        first = await client(num_gpus=2).open()
        with pytest.raises(
            BadRequest, match=r"store /a is open in this process with memory_bytes=.*, not 5;"
        ):
            await client(num_gpus=2, memory_bytes=5).open()
        with pytest.raises(BadRequest, match=r"started with num_gpus=2, not 1"):
            await client("/b", num_gpus=1).open()
        second = await client(media_roots=("/media",), features=("mine.py",)).open()
        await first.close()
        await second.close()
        assert memory.said[-1] == "stop"
        third = await client(memory_bytes=5).open()
        await third.close()

    asyncio.run(story())


def test_threads_that_come_and_go_at_once_start_one_ray_at_a_time(memory: MemoryRay, client: Make) -> None:
    wrong: list[BaseException] = []
    open_now = 0

    def thread(number: int) -> None:
        async def story() -> None:
            nonlocal open_now
            for _ in range(5):
                one = await client(f"/{number % 2}").open()
                assert memory.up
                await asyncio.sleep(0)
                await one.close()

        try:
            asyncio.run(story())
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(SECONDS)
    assert not wrong
    assert not memory.up
    assert memory.said.count("start") == memory.said.count("stop")
    opened = [word for word in memory.said if word.startswith("open")]
    assert len(opened) == len([word for word in memory.said if word.startswith("close")])


def test_the_thread_that_started_ray_lives_as_long(memory: MemoryRay, client: Make) -> None:
    def first() -> None:
        asyncio.run(client().open())

    thread = threading.Thread(target=first)
    thread.start()
    thread.join(SECONDS)
    assert memory.starter is not None
    assert memory.starter.is_alive()  # the client's own threads have ended, and Linux would end Ray with them

    async def last() -> None:
        await (await client("/b").open()).close()

    asyncio.run(last())
    assert memory.up


def test_who_leaves_while_ray_starts_leaves_nothing_behind(memory: MemoryRay, client: Make) -> None:
    memory.gate = threading.Event()

    async def story() -> None:
        opening = asyncio.create_task(client().open())
        assert await asyncio.to_thread(memory.began.wait, SECONDS)
        opening.cancel()
        await asyncio.sleep(0)
        assert not opening.done()
        assert memory.gate is not None
        memory.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert memory.said == ["start", "stop"]

    asyncio.run(story())


def test_a_ray_that_does_not_start_is_tried_again_by_the_next(memory: MemoryRay, client: Make) -> None:
    async def story() -> None:
        memory.broken = True
        with pytest.raises(Unavailable):
            await client().open()
        memory.broken = False
        await (await client().open()).close()
        assert memory.said == ["start", "open amber", "close amber", "stop"]

    asyncio.run(story())


def test_a_client_of_a_ray_that_somebody_shut_down_ends_nothing_of_the_next(
    memory: MemoryRay, client: Make
) -> None:
    async def story() -> None:
        old = await client().open()
        memory.up = False  # `ray.shutdown()`
        new = await client().open()
        assert memory.said == ["start", "open amber", "start", "open amber"]
        await old.close()
        assert memory.up
        await new.close()
        assert memory.said[4:] == ["close amber", "stop"]

    asyncio.run(story())
