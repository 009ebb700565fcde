"""Futures: a submitted request, to be waited for, watched, cancelled, or found again by its id.

`AsyncFuture` is the one implementation and can be awaited; `client.sync.Future` is its twin for threads.
Must not know: which service carries it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

from amber_ray.client.exchange import collected, now, watched
from amber_ray.client.results import Results
from amber_ray.client.selection import Selection
from amber_ray.core.model.request import RequestState, RequestView
from amber_ray.core.model.service import Service
from amber_ray.errors import Cancelled, Expired


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request is: `done` of `total` steps."""

    state: RequestState
    done: int
    total: int


class AsyncFuture:
    """A request that goes on by itself. `id` is what `client.future(id)` takes.

    `await future` waits as long as the client's own timeout allows; leaving the wait, by a timeout or a
    cancellation, does not withdraw the request: `cancel` does.
    """

    def __init__(
        self,
        service: Service,
        view: RequestView,
        asked: Selection | None,
        timeout: float,
        typed: Callable[[Results], Awaitable[Results]],
    ) -> None:
        """Made by `submit` and `future`; `asked` is None where the caller's words are not known any more.

        `typed` tells a table the types of its features.
        """
        self.id = view.id
        self._service = service
        self._view = view
        self._asked = asked
        self._timeout = timeout
        self._typed = typed
        self._results: Results | None = None
        self._watchers: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self._view.state}>"

    async def progress(self) -> Progress:
        """How far it is now."""
        if self._view.state == "running":
            self._view = await self._service.status(self.id)
        return Progress(self._view.state, self._view.done, self._view.total)

    async def done(self) -> bool:
        """Whether it has ended: with values, with failures or cancelled."""
        return (await self.progress()).state != "running"

    async def results(self, timeout: float | None = None) -> Results:
        """All answers as a table, once it has ended. Raises `Expired` if that takes longer than `timeout`."""
        if self._results is None:
            seconds = self._timeout if timeout is None else timeout
            until = now() + seconds
            self._view = await watched(self._service, self._view, until)
            if self._view.state == "running":
                raise Expired(
                    f"request {self.id} is still running after {seconds:g} s; ask again, or cancel it"
                )
            self._results = await self._typed(await collected(self._service, self._view, self._asked))
        return self._results

    async def result(self, timeout: float | None = None) -> Any:
        """What `get` would have given if one feature was named, else the `Results` table.

        Raises the failure as its error class, `Cancelled` if it was cancelled, `Expired` past `timeout`.
        """
        results = await self.results(timeout)
        if results.state == "cancelled" and not results.ready:
            raise Cancelled(f"request {self.id} was cancelled")
        return results if self._asked is None else self._asked.pick(results)

    async def cancel(self) -> bool:
        """Withdraw the request; False if it had ended already. Work that others wait for goes on."""
        if self._view.state == "running":
            self._view = await self._service.cancel(self.id)
        return self._view.state == "cancelled"

    def add_done_callback(self, function: Callable[[AsyncFuture], object]) -> None:
        """Call `function(future)` in this event loop once the request has ended (or can't be waited for)."""

        async def watch() -> None:
            try:
                until = now() + self._timeout
                self._view = await watched(self._service, self._view, until)
            finally:
                function(self)

        task = asyncio.get_running_loop().create_task(watch())
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()
