"""The answer to `POST /v1/values`: many values as one Arrow IPC stream, written while they are read.

One batch is held at a time, and a reader that is slow is waited for. The columns are those of
`wire.value_rows`. A stream has the type of its first value, so what is known before one has come (keys that
have none) waits for it. Where a caller takes several streams one after the other (`mixed`), another begins
where a value is of another type. Once the answer has begun, what goes wrong is told in its rows: every key is
answered. Must not know: where values come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pyarrow as pa
from starlette.types import Receive, Scope, Send

from amber_ray.core.model.request import Failure
from amber_ray.core.model.service import AbsentValue, Answered, StoredValue
from amber_ray.core.values.annotations import ValueType
from amber_ray.errors import AmberError, TooLarge
from amber_ray.serving.presence import ClientGone, while_present
from amber_ray.wire.value_rows import encode, schema

Batches = AsyncGenerator[Sequence[Answered], None]


class ValueStream:
    """An ASGI response with what is said of `keys`, as `batches` tell it.

    `most` bounds its bytes: past that the keys that are left are answered with `TooLarge`, for another
    question. `mixed`: values of several types come in several streams.
    """

    def __init__(
        self,
        keys: Sequence[str],
        batches: Batches,
        most: int,
        headers: dict[str, str],
        *,
        mixed: bool = False,
    ) -> None:
        self._left = dict.fromkeys(keys)
        self._batches = batches
        self._most = most
        self._headers = headers
        self._mixed = mixed
        self._first: list[Answered] = []
        self._type: ValueType | None = None

    async def start(self) -> None:
        """Read until the first value has come, whose type is the stream's; an error is an answer still."""
        try:
            async for batch in self._batches:
                self._first += batch
                self._type = next((a.type for a in batch if isinstance(a, StoredValue)), None)
                if self._type is not None:
                    return
        except BaseException:
            await self._batches.aclose()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the rows as they come."""
        try:
            headers = [(name.lower().encode(), value.encode()) for name, value in self._headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await while_present(receive, self._follow(send))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGone:
            return  # a reader that has had enough
        finally:
            await self._batches.aclose()

    async def _follow(self, send: Send) -> None:
        rows = MixedRows() if self._mixed else Rows(self._type)
        sent = 0

        async def write(data: bytes) -> None:
            nonlocal sent
            sent += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def tell(answers: Sequence[Answered]) -> None:
            for answer in answers:
                self._left.pop(answer.key, None)
            await write(await asyncio.to_thread(rows.encoded, answers))

        await tell(self._first)
        self._first = []
        try:
            while self._left:
                if sent >= self._most:
                    raise TooLarge(f"this answer has {sent:,} bytes already: ask for this key in another one")
                await tell(await anext(self._batches))
        except AmberError as error:
            await tell([absent(key, error) for key in self._left])
        await write(rows.ended())


class Rows:
    """Answers as bytes of one Arrow IPC stream, whose `value` column has one type."""

    def __init__(self, type: ValueType | None) -> None:
        self._type = type
        self._pieces = _Pieces()
        self._writer = pa.ipc.new_stream(self._pieces, schema(type))

    def encoded(self, answers: Sequence[Answered]) -> bytes:
        """The bytes of some answers, after those of the schema the first time."""
        self._writer.write_batch(encode(answers, self._type))
        return self._pieces.taken()

    def ended(self) -> bytes:
        """The bytes that end the stream."""
        self._writer.close()
        return self._pieces.taken()


class MixedRows:
    """Answers as bytes of one stream after the other: a new one begins where a value is of another type."""

    def __init__(self) -> None:
        self._rows: Rows | None = None
        self._type: ValueType | None = None

    def encoded(self, answers: Sequence[Answered]) -> bytes:
        """The bytes of some answers; those of the type that was last come first."""
        groups: dict[ValueType | None, list[Answered]] = {} if self._type is None else {self._type: []}
        for answer in answers:
            if isinstance(answer, StoredValue):
                groups.setdefault(answer.type, []).append(answer)
        # What has no value fits any stream.
        first = next(iter(groups), None)
        absent = [answer for answer in answers if not isinstance(answer, StoredValue)]
        groups[first] = [*groups.get(first, ()), *absent]
        return b"".join(self._written(type, some) for type, some in groups.items() if some)

    def _written(self, type: ValueType | None, answers: Sequence[Answered]) -> bytes:
        before = b""
        if self._rows is None or type != self._type:
            before = self.ended()
            self._rows, self._type = Rows(type), type
        return before + self._rows.encoded(answers)

    def ended(self) -> bytes:
        """The bytes that end the last stream."""
        return b"" if self._rows is None else self._rows.ended()


class _Pieces:
    """A file that is written to and emptied."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._end = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self._end += len(data)
        return len(data)

    def tell(self) -> int:
        return self._end

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def absent(key: str, error: AmberError) -> AbsentValue:
    """Return that a key has no value by reason of an error."""
    name = type(error).__name__
    return AbsentValue(key, Failure("system", name, str(error), "", key, "", error.status))
