"""Folders of this machine, watched: the operating system tells where something happens, by `watchfiles`.

A thread waits in `watchfiles` and keeps what it is told, each place once and so many at most, until the event
loop takes it. What is lost here is found by the next sweep: when a queue of the system overflows, when others
write to a network file system, behind links to folders, and while limits of this machine are reached.
Must not know: demands.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Sequence

import watchfiles

from amber_ray.core.model.places import place_named
from amber_ray.errors import Unavailable
from amber_ray.media.locate import Locator
from amber_ray.media.names import is_media
from amber_ray.settings import Settings

STEP_MS, GATHER_MS, TURN_MS = 50, 200, 500
"""Milliseconds: between looks for more, until what happened is told at last, and of the wait for a first."""
KEPT = 10_000
"""Places that are kept until they are taken; what else happens meanwhile is left to the next sweep."""
LIMITS = "fs.inotify.max_user_watches and fs.inotify.max_user_instances"


class FolderWatching:
    """Watches folders inside the media roots, until one is moved or made anew. Implements `Watching`."""

    def __init__(self, settings: Settings) -> None:
        self._locator = Locator(settings.media_roots, settings.remote_schemes)

    async def places(self, prefixes: Sequence[str]) -> AsyncGenerator[Sequence[str], None]:
        """See `Watching.places`."""
        folders = await asyncio.to_thread(self._folders, prefixes)
        if not folders:
            return
        watch = Watch(folders, asyncio.get_running_loop())
        watch.thread.start()
        try:
            while True:
                yield await watch.taken()
        finally:
            watch.stop.set()

    def _folders(self, prefixes: Sequence[str]) -> list[str]:
        local = [place for place in map(place_named, prefixes) if place.startswith("/")]
        return [place for place in local if os.path.isdir(place) and self._locator.holds(place)]


class Watch:
    """A thread that waits for what happens in folders. It ends within `TURN_MS` of `stop`."""

    def __init__(self, folders: Sequence[str], loop: asyncio.AbstractEventLoop) -> None:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name="amber-watch", daemon=True)
        self._folders = folders
        self._loop = loop
        self._lock = threading.Lock()
        self._places: dict[str, None] = {}
        self._error: Exception | None = None
        self._news = asyncio.Event()

    async def taken(self) -> Sequence[str]:
        """Where something has happened since the last call; first perhaps nowhere. Raises `Unavailable`."""
        await self._news.wait()
        self._news.clear()
        with self._lock:
            places, self._places = tuple(self._places), {}
        if self._error is not None:
            raise Unavailable(why(self._folders, self._error)) from self._error
        return places

    def _run(self) -> None:
        try:
            began, watched = False, self._identities()
            for changes in watchfiles.watch(
                *self._folders,
                watch_filter=None,
                step=STEP_MS,
                debounce=GATHER_MS,
                rust_timeout=TURN_MS,
                yield_on_timeout=True,
                stop_event=self.stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                if self._identities() != watched:  # the system goes on telling of what was there
                    raise OSError("it was moved, unmounted or made anew")
                some = [path for _, path in changes if concerns(path, self._folders)]
                with self._lock:
                    self._places.update(dict.fromkeys(some[: KEPT - len(self._places)]))
                if some or not began:
                    began = True
                    self._tell()
        except Exception as error:  # noqa: BLE001
            # What the system refuses comes as OSError, RuntimeError or an error of the Rust library.
            self._error = error
            self._tell()

    def _identities(self) -> list[tuple[int, int]]:
        return [(status.st_dev, status.st_ino) for status in map(os.stat, self._folders)]

    def _tell(self) -> None:
        if not self.stop.is_set():
            self._loop.call_soon_threadsafe(self._news.set)


def concerns(path: str, folders: Sequence[str]) -> bool:
    """Whether a path is named like media, or may be a folder; nothing hidden below its prefix is."""
    for folder in folders:
        if path.startswith(folder.rstrip("/") + "/"):
            below = path[len(folder.rstrip("/")) + 1 :]
            name = below.rpartition("/")[2]
            named = is_media(name) or "." not in name or os.path.isdir(path)
            return named and not any(part.startswith(".") for part in below.split("/"))
    return False


def why(folders: Sequence[str], error: Exception) -> str:
    """Why folders can't be watched, in a sentence."""
    told = str(error)
    shown = folders[0] if len(folders) == 1 else f"{folders[0]} and {len(folders) - 1} more"
    if "limit" in told.lower() or "too many open files" in told.lower():
        return (
            f"{shown} can't be watched, as the limit of this machine is reached; raise {LIMITS}, or let the "
            "looks that come round find what changes"
        )
    return f"{shown} can't be watched: {told}"
