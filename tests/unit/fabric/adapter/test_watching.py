"""Folders that are watched: what is told of real files, what is left out, and limits in one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from amber_ray.errors import Unavailable
from amber_ray.fabric.adapter.watching import FolderWatching, concerns
from amber_ray.settings import Settings


def watching(folder: Path, *prefixes: str) -> AsyncGenerator[Sequence[str], None]:
    made = FolderWatching(Settings(media_roots=(str(folder),)))
    return made.places(prefixes or (str(folder),))


async def told_of(places: AsyncGenerator[Sequence[str], None], wanted: set[Path]) -> set[str]:
    """Everything that is told until all of these have been."""
    found: set[str] = set()
    while not {str(path) for path in wanted} <= found:
        found |= set(await anext(places))
    return found


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 20))


def test_what_appears_changes_and_goes_is_told_and_what_is_no_medium_is_not(tmp_path: Path) -> None:
    roots = tmp_path / "films"
    (roots / "new").mkdir(parents=True)
    there = roots / "new" / "a.mp4"

    async def story() -> None:
        places = watching(roots)
        await anext(places)
        (roots / ".hidden.mp4").write_bytes(b"1")
        (roots / "notes.txt").write_bytes(b"1")
        there.write_bytes(b"1")
        assert await told_of(places, {there}) == {str(there)}
        there.write_bytes(b"22")
        await told_of(places, {there})
        there.unlink()
        await told_of(places, {there})
        # A folder that was filled elsewhere is told as a whole.
        (tmp_path / "season").mkdir()
        (tmp_path / "season" / "b.mp4").write_bytes(b"1")
        (tmp_path / "season").rename(roots / "season")
        await told_of(places, {roots / "season"})
        await places.aclose()

    run(story)


def test_a_folder_that_is_made_anew_is_watched_anew(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()

    async def story() -> None:
        places = watching(films)
        await anext(places)
        films.rename(tmp_path / "before")
        films.mkdir()
        with pytest.raises(Unavailable, match="films can't be watched"):
            await told_of(places, {films / "never.mp4"})
        again = watching(films)
        await anext(again)
        (films / "a.mp4").write_bytes(b"1")
        await told_of(again, {films / "a.mp4"})
        await again.aclose()

    run(story)


def test_only_folders_inside_the_roots_are_watched(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()

    async def story() -> None:
        for prefix in (str(tmp_path), "/nowhere", "s3://bucket/new/"):
            assert [places async for places in watching(tmp_path / "films", prefix)] == []

    run(story)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("OS file watch limit reached. about [/films]"), "raise fs.inotify.max_user_watches"),
        (OSError("Too many open files (os error 24)"), "the limit of this machine is reached"),
        (OSError("Input/output error"), "can't be watched: Input/output error"),
    ],
)
def test_what_the_machine_refuses_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def refuses(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(watchfiles, "watch", refuses)

    async def story() -> None:
        with pytest.raises(Unavailable, match=said) as caught:
            await anext(watching(tmp_path))
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)

    run(story)


@pytest.mark.parametrize(
    ("below", "whether"),
    [
        ("a.mp4", True),
        ("new/a.PNG", True),
        ("new", True),
        ("a.txt", False),
        (".a.mp4", False),
        (".trash/a.mp4", False),
        ("a.mp4.part", False),
    ],
)
def test_a_path_concerns_a_demand_if_a_look_there_may_find_media(below: str, whether: bool) -> None:
    assert concerns(f"/films/.mount/{below}", ["/songs", "/films/.mount"]) is whether
