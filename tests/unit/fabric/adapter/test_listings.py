"""A glance at some places tells what a whole look tells of them, from real files and real runs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pytest

from amber_ray.core.model.demands import Demand
from amber_ray.core.model.listing import Change, Kind, Noted
from amber_ray.fabric.adapter.listings import StoreListings
from amber_ray.fabric.demands.ports import Glance
from amber_ray.settings import Settings

BY = "today"


class Place:
    """A folder of media, and a demand over it with what was noted of it."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.media = folder / "media"
        self.media.mkdir()
        self.listings = StoreListings(
            Settings(store=str(folder / "store"), media_roots=(str(self.media),), remote_schemes=("memory",))
        )
        self.demand = Demand("films", ("size",), (prefix or str(self.media),))
        self.runs: list[str] = []

    def write(self, *names: str, text: str = "film") -> None:
        for name in names:
            (self.media / name).parent.mkdir(parents=True, exist_ok=True)
            (self.media / name).write_text(text)

    async def changes(self) -> list[Change]:
        look = await self.listings.look(self.demand, self.runs, BY)
        found: list[Change] = []
        while some := await look.changes(1000):
            found += some
        await look.close()
        return found

    async def note(self, by: str = BY) -> None:
        """All that is new, changed or gone now is noted."""
        rows = [
            Noted(c.uri, c.listed.signature, by, "asset")
            if c.listed is not None
            else Noted(c.uri, "", "", "")
            for c in await self.changes()
            if c.kind is not Kind.STALE
        ]
        self.runs.append(await self.listings.write("films", rows))

    async def glance(self, *places: str) -> Glance | None:
        uris = [place if place.startswith(("/", "memory:")) else str(self.media / place) for place in places]
        return await self.listings.glance(self.demand, uris, self.runs, BY)


def kinds(changes: Sequence[Change]) -> dict[str, Kind]:
    return {os.path.basename(change.uri): change.kind for change in changes}


def test_a_glance_tells_of_its_places_what_a_look_tells(tmp_path: Path) -> None:
    async def story() -> None:
        place = Place(tmp_path)
        place.write("stale.png")
        await place.note(by="yesterday")
        place.write("changed.png", "gone.png", "same.png", "other.png", "new/deep.png")
        await place.note()
        place.write("changed.png", text="another")
        place.write("other.png", text="another")
        place.write("new.png")
        (place.media / "gone.png").unlink()
        told = await place.glance(
            "changed.png", "gone.png", "same.png", "stale.png", "new.png", "nothing.png", "new/deep.png"
        )
        assert told is not None
        assert (told.unseen, told.empty) == ([], [])
        whole = {change.uri: change for change in await place.changes()}
        assert kinds(told.changes) == {
            "changed.png": Kind.CHANGED,
            "gone.png": Kind.GONE,
            "same.png": Kind.SAME,
            "stale.png": Kind.STALE,
            "new.png": Kind.NEW,
            "deep.png": Kind.SAME,
        }
        assert [c for c in told.changes if c.kind is not Kind.SAME] == [
            change for uri, change in sorted(whole.items()) if not uri.endswith("other.png")
        ]

    asyncio.run(story())


def test_what_is_no_medium_by_a_look_is_none_by_a_glance(tmp_path: Path) -> None:
    async def story() -> None:
        place = Place(tmp_path)
        place.write(".hidden.png", ".cache/a.png", "notes.txt")
        place.write("empty.png", text="")
        told = await place.glance(".hidden.png", ".cache/a.png", "notes.txt", "empty.png", "/elsewhere/a.png")
        assert told == Glance([], [], [])
        assert await place.changes() == []

    asyncio.run(story())


def test_only_a_look_can_tell_of_folders_links_to_them_and_prefixes_with_dots(tmp_path: Path) -> None:
    async def story() -> None:
        place = Place(tmp_path)
        place.write("season/a.png")
        (place.media / "link").symlink_to(place.media / "season")
        await place.note()
        assert await place.glance("season") is None
        assert await place.glance("link/a.png") is None
        shutil.rmtree(place.media / "season")
        assert await place.glance("season") is None
        (tmp_path / "more").mkdir()
        dotted = Place(tmp_path / "more", f"{place.media}/../more/media")
        dotted.write("a.png")
        assert await dotted.glance("a.png") is None

    asyncio.run(story())


def test_the_last_one_of_a_prefix_leaves_it_empty_and_a_prefix_that_is_away_loses_nothing(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        place = Place(tmp_path)
        place.write("a.png")
        await place.note()
        (place.media / "a.png").unlink()
        told = await place.glance("a.png")
        assert told is not None
        assert (kinds(told.changes), told.empty) == ({"a.png": Kind.GONE}, [str(place.media)])
        place.media.rename(tmp_path / "unmounted")
        told = await place.glance("a.png")
        assert told is not None
        assert told.unseen == [str(place.media / "a.png")]

    asyncio.run(story())


def test_objects_are_told_as_their_listing_tells_them(tmp_path: Path) -> None:
    async def story() -> None:
        place = Place(tmp_path, "memory://glanced/new/")
        files = fsspec.filesystem("memory")
        for name in ("a b+c.png", "gone.png", "same.png"):
            files.pipe_file(f"/glanced/new/{name}", b"film")
        await place.note()
        files.rm_file("/glanced/new/gone.png")
        files.pipe_file("/glanced/new/new.png", b"film")
        told = await place.glance(
            *(f"memory://glanced/new/{n}.png" for n in ("a b+c", "gone", "same", "new"))
        )
        assert told is not None
        assert kinds(told.changes) == {
            "a b+c.png": Kind.SAME,
            "gone.png": Kind.GONE,
            "same.png": Kind.SAME,
            "new.png": Kind.NEW,
        }

    asyncio.run(story())


@pytest.mark.parametrize("rows", [1, 40_000])
def test_a_run_is_looked_up_by_the_groups_that_may_have_a_place(tmp_path: Path, rows: int) -> None:
    async def story() -> None:
        place = Place(tmp_path)
        notes = [Noted(f"{place.media}/{n:06}.png", "1", BY, "asset") for n in range(rows)]
        place.runs.append(await place.listings.write("films", notes))
        (place.media / "stays").mkdir()
        told = await place.glance("000000.png", f"{rows - 1:06}.png", "999999.png")
        assert told is not None
        assert {change.uri for change in told.changes} == {notes[0].uri, notes[-1].uri}

    asyncio.run(story())
