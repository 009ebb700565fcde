"""An uploaded form (`multipart/form-data`, RFC 7578): the one file in it, piece by piece as it arrives.

`python-multipart` takes the form apart and calls back for each header and piece of content; nothing waits on
disk, and in memory only what one piece of the body held. Whoever reads the file to its end knows that the
form was whole and held nothing else. Whoever is given an error instead must keep nothing.
Must not know: routes, the service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from amber_ray.errors import BadRequest, TooLarge
from amber_ray.wire.json import quote

FIELD = "file"
AROUND = 64 * 1024
"""Bytes of a form that may stand around its file: boundaries, headers, what precedes and follows."""
LONGEST_BOUNDARY = 70
"""RFC 2046, section 5.1.1."""
AS_IT_IS = frozenset({b"", b"7bit", b"8bit", b"binary"})
"""Transfer encodings (RFC 7578, section 4.7) that leave the bytes as they are."""


class UploadedForm:
    """Reads a form from `body`: first `open`, then `content` to its end.

    `content_type` is the request's; at most `most` bytes of file are taken. Raises `BadRequest` and
    `TooLarge`, 415 for a file that is written as text, and what `body` raises.
    """

    def __init__(self, body: AsyncIterator[bytes], content_type: str, most: int) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not 0 < len(boundary) <= LONGEST_BOUNDARY:
            raise BadRequest(
                f"multipart/form-data must name its boundary, at most {LONGEST_BOUNDARY} characters, in "
                "Content-Type; HTTP libraries write that header themselves where a program does not"
            )
        self._body = body
        self._most = most
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._reads_name,
                "on_header_value": self._reads_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._reads_data,
                "on_end": self._form_ends,
            },
        )
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._file: dict[bytes, bytes] | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False

    async def open(self) -> str:
        """Read as far as the file; return the media type that the form says it has, or an empty text."""
        while self._file is None:
            await self._read_on()
        return self._file.get(b"content-type", b"").decode("latin-1")

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes; raise instead of ending if the form is not whole or holds more."""
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                yield piece
            if self._ended:
                break
            await self._read_on()
        async for _ in self._body:
            pass  # what follows a form is to be ignored (RFC 2046), but it is not to grow for ever

    async def _read_on(self) -> None:
        """Take the next piece of the body apart."""
        piece = await anext(self._body, None)
        if piece is None:
            raise BadRequest("the form ends before its closing boundary; send all of it")
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise BadRequest(f"the form is malformed: {error}") from None
        if self._ended and self._file is None:
            raise BadRequest(f'the form has no file; send one in the field "{FIELD}"')

    # What the parser calls, in the order of the form. A name or value may come in several pieces.

    def _part_begins(self) -> None:
        self._headers = {}

    def _reads_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _reads_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        _, said = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = said.get(b"name", b"").decode("utf-8", "replace")
        if not name:
            raise BadRequest(f'a part of the form has no name; send one file, in the field "{FIELD}"')
        if name != FIELD:
            raise BadRequest(
                f'the form has a field {quote(name)}; send one file, in the field "{FIELD}", and nothing else'
            )
        if self._file is not None:
            raise BadRequest("the form has several files; send each in a call of its own")
        written = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if written not in AS_IT_IS:
            raise HTTPException(
                415,
                f"the form's file is written as {written.decode('latin-1')[:32]}; send its bytes as they are",
            )
        self._file = self._headers

    def _reads_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size > self._most:
            raise TooLarge(f"the upload has more than {self._most:,} bytes, which is as many as are taken")
        self._pieces.append(data[start:end])

    def _form_ends(self) -> None:
        self._ended = True
