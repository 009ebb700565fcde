"""The audit log at the first shard: many calls and few files, and a store that can't be written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from amber_ray.core.model.audit import AuditFilter, AuditLine, LinePlace
from amber_ray.core.model.pages import Told
from amber_ray.errors import StoreError
from amber_ray.fabric.shard import audit
from amber_ray.fabric.shard.audit import AuditDesk
from tests.unit.fabric.shard.kit import Still, run


class Book:
    """A log whose writes wait for `free`. Implements `Audit`."""

    def __init__(self) -> None:
        self.files: list[list[str]] = []
        self.free = asyncio.Event()
        self.full = False

    async def write(self, lines: Sequence[AuditLine]) -> None:
        await self.free.wait()
        if self.full:
            raise StoreError("the disk is full")
        self.files.append([line.id for line in lines])

    async def read(self, only: AuditFilter, after: LinePlace | None, most: int) -> Told[AuditLine]:
        return Told()

    async def tidy(self, now: float) -> None:
        """Nothing to do."""


def line(number: int) -> AuditLine:
    return AuditLine(f"l{number}", float(number), "values.purged", "x", "", "ci")


def test_what_comes_while_a_file_is_written_is_one_file_more() -> None:
    async def story() -> None:
        book = Book()
        desk = AuditDesk(book, Still())
        first = asyncio.create_task(desk.write([line(0)]))
        await asyncio.sleep(0)
        others = [asyncio.create_task(desk.write([line(n)])) for n in range(1, 50)]
        again = asyncio.create_task(desk.write([line(1)]))  # a call that was made again
        await asyncio.sleep(0)
        assert not any(task.done() for task in (first, *others))
        book.free.set()
        await asyncio.gather(first, *others, again)
        assert [id for file in book.files for id in file] == [f"l{n}" for n in range(50)]
        assert len(book.files) == 2

    run(story())


def test_a_store_that_can_not_be_written_keeps_nobody_and_loses_nothing() -> None:
    async def story() -> None:
        book = Book()
        book.full = True
        book.free.set()
        desk = AuditDesk(book, Still())
        await desk.write([line(0)])
        await desk.write([line(1)])
        assert (desk.unwritten, book.files) == (2, [])
        book.full = False
        await desk.flush()
        assert (desk.unwritten, book.files) == (0, [["l0", "l1"]])

    run(story())


def test_lines_that_have_no_room_any_more_are_in_the_log_of_the_process(caplog) -> None:  # type: ignore[no-untyped-def]
    async def story() -> None:
        book = Book()
        book.full = True
        book.free.set()
        desk = AuditDesk(book, Still())
        await desk.write([line(n) for n in range(audit.MOST + 2)])
        assert desk.unwritten == audit.MOST

    run(story())
    assert caplog.text.count("has no room any more: values.purged x by ci: done") == 2
