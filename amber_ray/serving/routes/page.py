"""The pages for people, and the description of the interface.

    GET /              what is there, what runs, what features there are; and computes them
    GET /docs          every call, to read and to try (Swagger UI)
    GET /page/...      what these two are made of
    GET /openapi.json  describes the calls, for generators of clients and for the page above

Everything a browser needs is in the package: nothing is fetched from another host, and the pages' policy
says so. Where there are tokens a browser asks its reader for one, as a password, and sends it along with what
the page then asks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amber_ray.core.model.trust import Scope
from amber_ray.serving.answers import JSON_TYPE, encode_json
from amber_ray.serving.app_context import AppContext, base
from amber_ray.serving.compression import GZIP, coding_of
from amber_ray.serving.conditional import answer_without_body, tag_of_content
from amber_ray.serving.described.document import document
from amber_ray.serving.routes.endpoint import Guarded, Handler, route

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, by its ending: other files of the folders (licences) are for whoever reads the package."""
PAGES = {"index.html": "/", "docs.html": "/docs"}


def _below(folder: Traversable, path: str = "") -> Iterator[str]:
    """The paths of the files in a folder and the folders in it."""
    for entry in folder.iterdir():
        inner = path + entry.name
        if entry.is_dir():
            yield from _below(entry, f"{inner}/")
        else:
            yield inner


def _files() -> dict[str, tuple[str, str]]:
    """Each path's file below this room, and its type; by what is in the package when it is started."""
    room = resources.files("amber_ray.serving")
    return {
        PAGES.get(name, f"/page/{name}"): (f"{folder}/{name}", TYPES[PurePosixPath(name).suffix])
        for folder in ("page", "swagger")
        for name in sorted(_below(room / folder))
        if PurePosixPath(name).suffix in TYPES
    }


FILES = _files()
"""Each path that is served. No other is: nothing that a caller writes becomes the name of a file."""
KEPT = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
READ = frozenset({Scope.READ})
HEADERS = {
    **KEPT,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


def routes(context: AppContext) -> list[Route]:
    """The pages' files, read once, and the API's description."""

    @functools.cache
    def described(bearer: bool, base: str) -> Kept:
        return Kept(encode_json(document(bearer, base)), JSON_TYPE, KEPT)

    async def openapi(context: AppContext, request: Request) -> Response:
        return described(context.keyring.locked, base(request)).answer(request)

    return [
        *(route(path, context, GET=Guarded(_file(*file), READ)) for path, file in FILES.items()),
        route("/openapi.json", context, GET=Guarded(openapi, READ)),
    ]


class Kept:
    """Content that changes with the package only: a browser that has it asks whether it still does."""

    def __init__(self, content: bytes, media_type: str, headers: dict[str, str]) -> None:
        self._content = content
        self._media_type = media_type
        self._headers = headers
        self._tags = {coding: tag_of_content(content, media_type, coding) for coding in ("", GZIP)}

    def answer(self, request: Request) -> Response:
        """Return the content, or 304 to a browser that has it."""
        tag = self._tags[coding_of(request.scope, self._media_type)]
        headers = {**self._headers, "ETag": tag}
        if answer_without_body(request.scope["headers"], tag) == 304:
            return Response(status_code=304, headers=headers)
        return Response(self._content, headers={**headers, "Content-Type": self._media_type})


@functools.cache
def _kept(name: str, media_type: str) -> Kept:
    return Kept(resources.files("amber_ray.serving").joinpath(name).read_bytes(), media_type, HEADERS)


def _file(name: str, media_type: str) -> Handler:
    kept = _kept(name, media_type)

    async def read(context: AppContext, request: Request) -> Response:
        return kept.answer(request)

    return read
