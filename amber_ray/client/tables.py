"""Results as a table for pandas, polars and Arrow: a line for each unit, a column for each feature.

| column | |
|---|---|
| `asset` | the caller's name for it; null for a value of all assets together |
| `start`, `end` | where a feature has values per window: its seconds; null on the lines of whole assets |
| a column for each parameter | where `get_many` was given several sets of them |
| a column for each feature | its values; null where this unit has none |
| `error` | null, or what failed: every feature without a value that was asked of this unit, and why |

Features of one unit share a line. So an asset that has features of both kinds has a line of its own, for
those about all of it, above those of its windows. A feature that is called like one of the other columns has
`value.` before its name. Must not know: how values were fetched.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from amber_ray.client.params import ParamSet
from amber_ray.client.row import Row
from amber_ray.core.model.request import MISSING
from amber_ray.core.model.units import Segment
from amber_ray.core.values.annotations import ListOf, Optional, Scalar, ValueType, of_value
from amber_ray.errors import Unavailable

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


OWN = ("asset", "start", "end", "error")
"""Columns that are no feature's."""


@dataclass(frozen=True, slots=True)
class Line:
    """One unit and what is known of it, by feature."""

    asset: str | None
    window: Segment | None
    params: ParamSet | None
    rows: Mapping[str, Row]

    @property
    def error(self) -> str | None:
        """What failed here, one sentence for each feature; None if nothing did."""
        return "; ".join(filter(None, map(problem, self.rows.values()))) or None


def problem(row: Row) -> str | None:
    """Return why a row has no value, in words; None if it has one."""
    if row.failure is not None:
        where = f" (in {row.failure.step})" if row.failure.step not in ("", row.feature) else ""
        return f"{row.feature}: {row.failure.type}: {row.failure.message}{where}"
    if row.state != "ready":
        return f"{row.feature}: {row.state}"
    return f"{row.feature}: its value was not loaded" if row.value is MISSING else None


def lines(rows: Iterable[Row]) -> list[Line]:
    """Return a line for each unit: assets in order, then parameters, then windows by time."""
    found: dict[tuple[str | None, ParamSet | None, str], Line] = {}
    assets: dict[str | None, int] = {}
    sets: dict[ParamSet | None, int] = {}
    for row in rows:
        if row.nothing_found:
            continue
        window = row.unit if isinstance(row.unit, Segment) else None
        at = row.asset, row.params, window.unit_id if window is not None else ""
        assets.setdefault(row.asset, len(assets))
        sets.setdefault(row.params, len(sets))
        line = found.get(at)
        if line is None:
            line = found[at] = Line(row.asset, window, row.params, {})
        line.rows[row.feature] = row  # type: ignore[index]

    def place(line: Line) -> tuple[Any, ...]:
        span = (w.start_us, w.length_us) if (w := line.window) is not None else (-1, -1)
        return line.asset is None, assets[line.asset], sets[line.params], span

    return sorted(found.values(), key=place)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name, its values, None where there is none, and their type."""

    name: str
    values: list[Any]
    type: ValueType | None


def columns(rows: Sequence[Row], types: Mapping[str, ValueType]) -> list[Column]:
    """Return the columns of a table of rows; `types` are those that features declare, if they are known."""
    of = lines(rows)
    text, number = Scalar("str"), Scalar("float")
    made = [Column("asset", [line.asset for line in of], text)]
    if any(line.window is not None for line in of):
        made.append(Column("start", [w.start if (w := line.window) else None for line in of], number))
        made.append(Column("end", [w.end if (w := line.window) else None for line in of], number))
    taken = set(OWN)
    for name in dict.fromkeys(name for line in of for name in line.params or ()):
        given = [line.params.get(name) if line.params else None for line in of]
        made.append(Column(name, given, common(given)))
        taken.add(name)
    for feature in dict.fromkeys(row.feature for row in rows):
        values = [_value(line.rows.get(feature)) for line in of]
        name = f"value.{feature}" if feature in taken else feature
        made.append(Column(name, values, types.get(feature) or common(values)))
    return [*made, Column("error", [line.error for line in of], text)]


def _value(row: Row | None) -> Any:
    return None if row is None or row.failure is not None or row.value is MISSING else row.value


def common(values: Iterable[Any]) -> ValueType | None:
    """Return one type for values of which no type is known; None if there is none of them."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    if {type(value) for value in there} == {int, float}:
        return Scalar("float")
    found = of_value(there)
    return found.item if isinstance(found, ListOf) else found


def to_arrow(rows: Sequence[Row], types: Mapping[str, ValueType]) -> pyarrow.Table:
    """Return rows as an Arrow table, each feature's column in the type that it has in the store."""
    import pyarrow as pa

    made = columns(rows, types)
    arrays = [_array(column) for column in made]
    fields = [
        pa.field(column.name, array.type, metadata=_told(type))
        for column, (array, type) in zip(made, arrays, strict=True)
    ]
    return pa.table([array for array, _ in arrays], schema=pa.schema(fields))


def _told(type: ValueType | None) -> dict[bytes, bytes] | None:
    from amber_ray.store.types import META

    return None if type is None else {META: json.dumps(type.spec()).encode()}


def _array(column: Column) -> tuple[Any, ValueType | None]:
    """Return a column as an Arrow array, and the type of its values."""
    import pyarrow as pa

    from amber_ray.store.types import to_array

    # The server's feature may have another type by now than these values: then they say which they have.
    for type in (column.type, common(column.values)):
        if type is not None:
            try:
                return to_array(Optional(type), column.values), type
            except (pa.ArrowException, AttributeError, KeyError, TypeError, ValueError):
                continue
    if all(value is None for value in column.values):
        return pa.nulls(len(column.values)), None
    texts = [None if value is None else str(value) for value in column.values]
    return pa.array(texts, pa.large_utf8()), Scalar("str")


def to_pandas(rows: Sequence[Row], types: Mapping[str, ValueType]) -> pandas.DataFrame:
    """Return rows as a DataFrame: numbers, booleans and text as such, anything else as it was returned."""
    pandas = _package("pandas", "to_pandas")
    return pandas.DataFrame({column.name: _series(pandas, column) for column in columns(rows, types)})


def _series(pandas: Any, column: Column) -> Any:
    values, type = column.values, column.type
    while isinstance(type, Optional):
        type = type.item
    name = type.name if isinstance(type, Scalar) else None
    gaps = any(value is None for value in values)
    plain: dict[str | None, Any] = {"int": int, "float": float, "bool": bool}
    if name in plain and not all(isinstance(v, (plain[name], int)) for v in values if v is not None):
        name = None
    match name:
        case "float":
            return pandas.Series(values, dtype="float64")
        case "int":
            return pandas.Series(values, dtype="Int64" if gaps else "int64")
        case "bool":
            return pandas.Series(values, dtype="boolean" if gaps else "bool")
    return pandas.Series(values, dtype=object)


def to_polars(rows: Sequence[Row], types: Mapping[str, ValueType]) -> polars.DataFrame:
    """Return rows as a polars DataFrame, with the types of `to_arrow`."""
    frame: polars.DataFrame = _package("polars", "to_polars").from_arrow(to_arrow(rows, types))
    return frame


def _package(name: str, method: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise Unavailable(f"{method} needs the package {name!r}; install it: pip install {name}") from error
