"""`Retry-After` in both of its forms, and whatever else servers put there."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.model.retry_after import retry_after

NOW = 1.7e9
DAY = 86_400.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 0 ", 0.0),
        (" 1.5 ", 1.5),
        ("999999999999", DAY),
        ("9" * 400, None),
        *((word, None) for word in ("-1", "١٢", "soon", "inf", "nan", "1e3", "1.", ".5")),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (formatdate(NOW + 9 * DAY, usegmt=True), DAY),
        ("Fri, 99 Zzz 9999 99:99:99 GMT", None),
        ("Wed, 99 Foo 2026", None),
    ],
)
def test_both_forms_are_read_and_bounded(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text(max_size=60))
def test_no_header_breaks_whoever_reads_it(header: str) -> None:
    seconds = retry_after(header, NOW)
    assert seconds is None or 0.0 <= seconds <= DAY
