"""`--format vtt` and `srt`: values that say something from a time to a time, as subtitles.

WebVTT is the W3C's "WebVTT: The Web Video Text Tracks Format"; SubRip has no standard, and is written as
players agree on it. Must not know: which features there are; their declared types tell which can be written.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from amber_ray.cli.values import Types
from amber_ray.client.row import Row
from amber_ray.core.values.annotations import ListOf, Scalar, Struct
from amber_ray.errors import BadRequest

FORMATS = ("vtt", "srt")

COLUMNS = 42
"""Characters in a row of a subtitle, as broadcasters ask; longer text is broken between words."""

_FIELDS = {"start": "float", "end": "float", "text": "str"}


class Cue(NamedTuple):
    """What is shown from `start` to `end` seconds."""

    start: float
    end: float
    text: str


def check(types: Types, feature: str, values: Sequence[Any] = ()) -> None:
    """Raise `BadRequest` for a feature whose values can't be subtitles."""
    type = types.of(feature, values)
    item = type.item if isinstance(type, ListOf) else None
    if not (isinstance(item, Struct) and _FIELDS.items() <= _scalars(item).items()):
        raise BadRequest(
            f"--format vtt and srt take features whose values are lists with start, end and text, as "
            f"transcript, words and text; {feature} is none of them"
        )


def _scalars(struct: Struct) -> dict[str, str]:
    """The fields that are plain numbers or text, and of which type."""
    return {name: type.name for name, type in struct.fields if isinstance(type, Scalar)}


def cues(rows: Iterable[Row]) -> list[Cue]:
    """What the rows of one asset say, by time. Nothing is shown for an empty text or a time that is none."""
    found = []
    for row in rows:
        for one in row.value:
            get = Struct.getter(one)
            start, end, text = get(one, "start"), get(one, "end"), " ".join(get(one, "text").split())
            if text and 0 <= start <= end < float("inf"):  # never so with NaN
                found.append(Cue(start, end, text))
    return sorted(found, key=lambda cue: (cue.start, cue.end))


def encoded(found: Iterable[Cue], format: str) -> bytes:
    """The cues as a file, in UTF-8. They may overlap; one that takes no time is shown for a millisecond."""
    blocks = []
    for number, cue in enumerate(found, 1):
        start = round(cue.start * 1000)
        end = max(start + 1, round(cue.end * 1000))
        blocks.append(_vtt(start, end, cue.text) if format == "vtt" else _srt(number, start, end, cue.text))
    return "\n".join(["WEBVTT\n", *blocks] if format == "vtt" else blocks).encode()


def _vtt(start: int, end: int, text: str) -> str:
    rows = "\n".join(html.escape(row, quote=False) for row in _rows(text))
    return f"{_clock(start, '.')} --> {_clock(end, '.')}\n{rows}\n"


def _srt(number: int, start: int, end: int, text: str) -> str:
    # Nothing can be escaped here, and players look for this arrow to find the next subtitle.
    rows = "\n".join(_rows(text.replace("-->", "->")))
    return f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{rows}\n"


def _rows(text: str) -> list[str]:
    """Rows of about the same length: as few as fit, none with a single word left over."""

    def wrapped(columns: int) -> list[str]:
        return textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False)

    widest = wrapped(COLUMNS)
    narrower = (wrapped(max(1, columns)) for columns in range(len(text) // len(widest), COLUMNS))
    return next((rows for rows in narrower if len(rows) <= len(widest)), widest)


def _clock(milliseconds: int, point: str) -> str:
    """Hours, minutes, seconds and thousandths: `00:01:02.345`; hours have as many digits as they need."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
