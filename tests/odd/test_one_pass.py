"""One pass from the beginning is the judge: whatever is asked for, in whatever order, equals it.

`DRAWS=10000 pytest tests/odd/test_one_pass.py` draws more.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import itertools
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaError, TooLarge, Unsuitable
from amber_ray.media import bounds
from amber_ray.media.decode import looked, pictures, pictures_at
from amber_ray.media.looks import Look, Sharing, expecting
from amber_ray.media.scale import exactly
from amber_ray.media.sound import mono, sample_at
from amber_ray.settings import Limits
from tests.odd.judge import register
from tests.odd.made import MADE
from tests.odd.test_cases import CASES, HERE

DRAWS = int(os.environ.get("DRAWS", "300"))
SIZE = exactly(24, 18)
RATE = 16_000
NOISE = 0.03
"""How far a sample may be off one pass: decoders that begin in the middle settle, and add noise."""

LONG = 100.0
"""Seconds of a film that is not drawn from: its pass alone would take longer than all others."""


@dataclass(frozen=True)
class Pass:
    """An asset, and what one pass over it gives."""

    asset: Asset
    times: list[float]
    images: list[np.ndarray]
    samples: np.ndarray


def whole(path: Path) -> Pass | None:
    """One pass over a file; None for a still, and for what is refused, now or on the way."""
    try:
        asset = register(path)
        if asset.duration is None or asset.duration > LONG:
            return None
        shown = list(pictures(asset, size=SIZE)) if asset.has_video else []
        heard = mono(asset, RATE) if asset.has_audio else np.zeros(0, np.float32)
    except (MediaError, TooLarge):
        return None
    return Pass(asset, [p.time for p in shown], [p.rgb for p in shown], heard)


@pytest.fixture(scope="module")
def paths(made: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("odd")
    found = [Path(shutil.copy(HERE / "files" / case["file"], folder)) for case in CASES]
    return found + [Path(shutil.copy(made(name), folder / f"made_{name}")) for name in MADE]


@pytest.fixture(scope="module")
def passes(paths: list[Path]) -> list[Pass]:
    return [found for path in paths if (found := whole(path)) is not None]


@pytest.fixture(scope="module")
def films(paths: list[Path]) -> list[Asset]:
    """All that can be registered, also what one pass can't be made over, and what has no pictures."""
    found = []
    for path in paths:
        with contextlib.suppress(MediaError, TooLarge):
            found.append(register(path))
    return found


@settings(max_examples=DRAWS, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_asked_for_is_what_one_pass_gives(passes: list[Pass], data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(passes))
    note(one.asset.uri)
    with bounds.within(Limits(), data.draw(st.sampled_from([1, 1, 2, 3]), label="threads")):
        ask(one, data)


def ask(one: Pass, data: st.DataObject) -> None:
    length = one.asset.duration or 0.0
    moment = st.integers(0, math.ceil(length * 1000)).map(lambda ms: ms / 1000)
    moment |= st.just(length)  # Behind the last picture.
    for _ in range(data.draw(st.integers(1, 3))):
        kinds = ["span", "slots", "moments", "looks"] * bool(one.times) + ["sound"] * one.asset.has_audio
        kind = data.draw(st.sampled_from(kinds))
        if kind == "moments":
            check_moments(one, sorted(data.draw(st.lists(moment, min_size=1, max_size=5))))
            continue
        if kind == "looks":
            check_looks(data.draw(st.lists(looks_at(one, moment), min_size=2, max_size=4)))
            continue
        start, end = sorted(data.draw(st.tuples(moment, moment)))
        if kind == "span":
            lead = data.draw(st.booleans())
            check_span(one, start, end if data.draw(st.booleans()) else None, lead)
        elif kind == "slots":
            check_slots(one, start, end, data.draw(st.sampled_from([0.5, 1.0, 2.0, 4.0, 7.0, 30.0])))
        else:
            got = mono(one.asset, RATE, start, end)
            right = one.samples[sample_at(start, RATE) :][: len(got)]
            assert np.abs(got[: len(right)] - right).max(initial=0.0) < NOISE
            assert np.abs(got[len(right) :]).max(initial=0.0) < NOISE


@st.composite
def looks_at(draw: st.DrawFn, one: Pass, moment: st.SearchStrategy[float]) -> Look:
    """Any look at an asset."""
    start, end = sorted(draw(st.tuples(moment, moment)))
    until = end if draw(st.booleans()) else None
    kind = draw(st.sampled_from(["every", "slots", "moment"]))
    if kind == "moment":
        return Look(one.asset, start, start, SIZE, moment=True)
    if kind == "every":
        return Look(one.asset, start, until, SIZE, lead=draw(st.booleans()))
    fps = draw(st.sampled_from([0.05, 0.5, 2.0, 7.0, 30.0]))
    return Look(one.asset, start, until, SIZE, fps=fps, pair=draw(st.sampled_from([None, SIZE])))


def check_looks(asked: list[Look]) -> None:
    """Looks that share a decode give what each gives alone."""
    alone = [seen(look) for look in asked]
    for look, mine in zip(asked, alone, strict=True):
        if look.moment and isinstance(mine, list):
            shown = [(p.time, p.rgb.tobytes(), b"") for p in pictures_at(look.asset, [look.start], SIZE)]
            assert mine == shown
    with expecting(Sharing(asked)):
        assert [seen(look) for look in asked] == alone


def seen(look: Look) -> list[tuple[float, bytes, bytes]] | str:
    try:
        return [(p.time, p.rgb.tobytes(), b"" if p.pair is None else p.pair.tobytes()) for p in looked(look)]
    except (MediaError, Unsuitable) as error:
        return str(error)


@settings(max_examples=DRAWS, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_windows_that_share_a_pass_give_what_each_gives_alone(
    films: list[Asset], data: st.DataObject
) -> None:
    one = data.draw(st.sampled_from(films))
    note(one.uri)
    asked = list(itertools.chain(*data.draw(st.lists(windows_of(one), min_size=1, max_size=2))))
    if data.draw(st.booleans(), label="in any order"):
        asked = data.draw(st.permutations(asked))
    with bounds.within(Limits(), data.draw(st.sampled_from([1, 1, 1, 3]), label="threads")):
        check_looks(asked)


@st.composite
def windows_of(draw: st.DrawFn, one: Asset) -> list[Look]:
    """What a feature asks for at windows that follow each other, as a finder finds them; some fall out."""
    length = min(one.duration or 0.1, LONG)
    moments = st.lists(st.integers(0, math.ceil(length * 1000)), min_size=2, max_size=9, unique=True)
    cuts = [ms / 1000 for ms in sorted(draw(moments))]
    every = Look(one, 0.0, None, SIZE, lead=draw(st.booleans()))
    slots = Look(one, 0.0, None, SIZE, draw(st.sampled_from([0.2, 2.0, 5.0])), pair=SIZE)
    look = draw(st.sampled_from([every, slots, slots, slots]))
    made = [dataclasses.replace(look, start=a, end=b) for a, b in itertools.pairwise(cuts)]
    made[-1] = dataclasses.replace(made[-1], end=draw(st.sampled_from([None, made[-1].end])))
    return [one for one in made if draw(st.integers(0, 9))]


def check_span(one: Pass, start: float, end: float | None, lead: bool) -> None:
    first = bisect.bisect_left(one.times, start)
    last = len(one.times) if end is None else bisect.bisect_left(one.times, end)
    wanted = list(range(first, last))
    if lead and first:
        wanted.insert(0, first - 1)
    compare(one, pictures(one.asset, start, end, size=SIZE, lead=lead), wanted)


def check_slots(one: Pass, start: float, end: float, fps: float) -> None:
    # Half a tick of the film's clock is forgiven, as the reader has it.
    slots: dict[int, int] = {}
    for number, at in enumerate(one.times):
        slots.setdefault(math.floor(Fraction(at + 1e-7) * Fraction(fps)), number)
    chosen = [n for n in slots.values() if start <= one.times[n] < end]
    if any(abs(at * fps - round(at * fps)) < 0.002 * fps and at * fps % 1 for at in one.times):
        return  # A stamp within a tick of a slot's edge: the judge here has no clock to tell by.
    compare(one, pictures(one.asset, start, end, fps=fps, size=SIZE), chosen)


def check_moments(one: Pass, moments: list[float]) -> None:
    wanted = [max(0, bisect.bisect_right(one.times, at) - 1) for at in moments]
    compare(one, pictures_at(one.asset, moments, SIZE), wanted)


def compare(one: Pass, shown: Any, wanted: Any) -> None:
    got = list(shown)
    assert [p.time for p in got] == [one.times[n] for n in wanted]
    for picture, number in zip(got, wanted, strict=True):
        assert np.array_equal(picture.rgb, one.images[number]), picture.time
