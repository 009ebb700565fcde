"""Results as HTML, for notebooks: the table of `client.tables`, with pictures in it.

All text is escaped. Its size is bounded: so many lines, so much of a text, small pictures up to some bytes.
Must not know: how values were fetched.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import Any

from amber_ray.client.pictures import picture_html
from amber_ray.client.row import Row
from amber_ray.client.tables import Line, lines, problem

LINES, FEATURES = 30, 20
"""Lines and features that are shown."""
TEXT = 120
"""Characters of a value that are shown."""
PICTURES = 1 << 20
"""Characters that pictures may take; later ones are told in words."""
NUMBERS = 4
"""Numbers of an array that are shown."""

STYLE = (
    "<style scoped>.amber td, .amber th {text-align: left; vertical-align: top; max-width: 24em;"
    " overflow-wrap: anywhere} .amber .failed {color: #b00020}</style>"
)


def table_html(rows: Sequence[Row], summary: str) -> str:
    """Return a table of rows: a line for each unit, a column for each feature. `summary` stands above it."""
    of = lines(rows)
    features = list(dict.fromkeys(row.feature for row in rows))
    shown, some = of[:LINES], features[:FEATURES]
    windows = any(line.window is not None for line in of)
    sets = any(line.params is not None for line in of)
    heads = ["asset", *(["seconds"] if windows else []), *(["parameters"] if sets else []), *some]
    cells = Cells()
    body = []
    for line in shown:
        about = [_asset(line)]
        about += [f"{line.window.start:g} – {line.window.end:g}" if line.window else ""] if windows else []
        about += [_params(line)] if sets else []
        texts = [f"<td>{html.escape(text)}</td>" for text in about]
        texts += [cells.cell(line.rows.get(feature)) for feature in some]
        body.append(f"<tr>{''.join(texts)}</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    rest = _rest(len(of) - len(shown), "line") + _rest(len(features) - len(some), "feature")
    told = html.escape(summary)
    return (
        f'<div class="amber">{STYLE}<p>{told}</p><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>{rest}</div>"
    )


def _asset(line: Line) -> str:
    """An asset by the end of its name, which tells it from its neighbours."""
    name = "all assets" if line.asset is None else line.asset
    return name if len(name) <= TEXT else "…" + name[-TEXT:]


def _params(line: Line) -> str:
    return _cut(", ".join(f"{name}={value!r}" for name, value in (line.params or {}).items()))


def _rest(count: int, what: str) -> str:
    return f"<p>and {count:,} {what}{'s' if count > 1 else ''} more</p>" if count > 0 else ""


class Cells:
    """Cells of one table, whose pictures share a bound."""

    def __init__(self) -> None:
        self._left = PICTURES

    def cell(self, row: Row | None) -> str:
        """Return what is known of a feature of a unit."""
        if row is None:
            return "<td></td>"
        why = problem(row)
        if why is not None:
            text = why.removeprefix(f"{row.feature}: ")
            name = "failed" if row.failure is not None else "missing"
            return f'<td class="{name}">{html.escape(_cut(text))}</td>'
        picture = picture_html(row.value) if self._left > 0 else None
        if picture is not None and len(picture) <= self._left:
            self._left -= len(picture)
            return f"<td>{picture}</td>"
        return f"<td>{html.escape(brief(row.value))}</td>"


def brief(value: Any) -> str:
    """Return a value in few words: a number as it is, a long text cut, an array by its form."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _cut(_words(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if hasattr(value, "__array_interface__"):
        form = f"{value.dtype}[{', '.join(map(str, value.shape))}]"
        numbers = ", ".join(brief(n) for n in value.ravel()[:NUMBERS].tolist())
        more = ", …" if value.size > NUMBERS else ""
        return f"{form} {numbers}{more}" if value.size else form
    if hasattr(value, "num_rows"):
        return f"a table of {value.num_rows:,} rows: {', '.join(value.column_names)}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(brief(item) for item in value[:NUMBERS])
        return f"{len(value):,}: {inner}{', …' if len(value) > NUMBERS else ''}" if value else "none"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {brief(item)}" for name, item in value.items())
    return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else text[:TEXT] + "…"
