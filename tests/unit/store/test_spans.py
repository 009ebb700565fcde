"""No flipped bit is ever taken for a value: neither in pages, nor in their headers, nor in the footer."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amber_ray.core.values.annotations import parse
from amber_ray.errors import DamagedPart
from amber_ray.store.parquet import Part, ValueStore
from amber_ray.store.spans import Span, Tee, Window
from tests.store_contract import key, row

# The last list is long: a page header that says one value less would take an item from it, and no row.
LISTS = [[i / 3.0] * (i % 4) for i in range(29)] + [[j + 0.5 for j in range(9)]]


@pytest.fixture
def part(tmp_path: Path) -> Part:
    rows = [row(i, value) for i, value in enumerate(LISTS)]
    return ValueStore(str(tmp_path)).write("lists", "1", parse(list[float]), rows)


def outcomes(home: Path, part: Part, bits: Iterable[int]) -> Counter[str]:
    """What a new reader makes of the part with one bit flipped: "damaged", or "same"."""
    path = home / part.name
    good = path.read_bytes()
    seen: Counter[str] = Counter()
    for bit in bits:
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        store = ValueStore(str(home))
        try:
            found = store.read(part.name, range(len(LISTS)))
        except DamagedPart:
            assert not path.exists()
            seen["damaged"] += 1
            continue
        assert [(f.key, f.value) for f in found] == [(key(i), v) for i, v in enumerate(LISTS)]
        seen["same"] += 1
    path.write_bytes(good)
    assert len(ValueStore(str(home)).read(part.name, [0])) == 1
    return seen


def test_every_bit_of_the_headers_of_pages(tmp_path: Path, part: Part) -> None:
    group = pq.read_metadata(tmp_path / part.name).row_group(0)
    column = next(
        c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.startswith("value")
    )
    # A data page's header has about 30 bytes; what follows is data, which is no worse a place.
    bits = range(column.data_page_offset * 8, (column.data_page_offset + 40) * 8)
    assert outcomes(tmp_path, part, bits) == {"damaged": len(bits)}


def test_bits_all_over_the_file(tmp_path: Path, part: Part) -> None:
    bits = range(0, part.bytes * 8, 251)  # prime, so that each bit of a byte has its turn
    assert outcomes(tmp_path, part, bits) == {"damaged": len(bits)}


def test_spans_cover_all_but_the_footer(tmp_path: Path) -> None:
    values = [[float(i)] * 50_000 for i in range(12)]
    part = ValueStore(str(tmp_path)).write(
        "lists", "1", parse(list[float]), [row(i, v) for i, v in enumerate(values)]
    )
    data = (tmp_path / part.name).read_bytes()
    told = ValueStore(str(tmp_path)).with_part(part.name, lambda file: (file.groups, file.spans))
    groups, spans = told
    assert groups == len(spans) > 2
    assert spans[0].start == 0
    assert all(a.end == b.start for a, b in itertools.pairwise(spans))
    assert spans[-1].end == len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def test_a_span_matches_the_bytes_that_were_written_and_no_others() -> None:
    sink = pa.BufferOutputStream()
    tee = Tee(sink)
    for piece in (b"first", b"second", b" part"):
        tee.write(piece)
        if piece != b"second":
            tee.cut()
    data = bytes(sink.getvalue())
    assert data == b"firstsecond part"
    first, second = tee.spans
    assert first.matches(b"first")
    assert second.matches(b"second part")
    for wrong in (b"", b"second par", b"second part ", b"second port"):
        assert not second.matches(wrong)
    assert not Span(second.start, second.end, second.crc ^ 1).matches(b"second part")


def test_a_window_shows_nothing_but_its_span() -> None:
    window = Window(memoryview(b"abcdef"), 100)
    assert window.size() == 106
    window.seek(102)
    assert bytes(window.read_buffer(3)) == b"cde"
    assert window.tell() == 105
    for start, size in ((99, 1), (105, 2)):
        window.seek(start)
        with pytest.raises(ValueError, match="not in the row group"):
            window.read_buffer(size)
