"""Server-sent events, as far as Amber sends them (WHATWG HTML, "Server-sent events").

Must not know: what the events mean.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator


async def events(lines: AsyncIterable[str]) -> AsyncIterator[tuple[str, str]]:
    """(event name, data) of each event; comments, ids and retry hints are passed over."""
    name, data = "message", list[str]()
    async for line in lines:
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
