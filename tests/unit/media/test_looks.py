"""Looks that are foretold share one decode, and each has the pictures and the errors that it has alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest

from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaError
from amber_ray.media import looks, reader
from amber_ray.media.decode import looked
from amber_ray.media.looks import Look, Sharing, expecting
from amber_ray.media.reader import Reader
from amber_ray.media.scale import exactly, longer_side, native, shorter_side
from tests.media import catalogue, counted_pictures, textured, write_differing
from tests.unit.media.test_coded import CODECS

SIZE, SMALL = exactly(48, 32), exactly(16, 9)
FPS, SECONDS = 24, 4


@pytest.fixture(scope="module", params=["H.264", "AV1"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds in which no two pictures are alike, a key picture every second."""
    return write_differing(tmp_path_factory.mktemp("looks"), CODECS[request.param], FPS, SECONDS)


@pytest.fixture(scope="module")
def asset(path: Path) -> Asset:
    return catalogue(path.parent).add(str(path))


def sampled(asset: Asset, start: float = 1.3, end: float | None = 2.9) -> Look:
    return Look(asset, start, end, SIZE, fps=2.0, pair=SMALL)


def every(asset: Asset, start: float = 1.3, end: float | None = 2.9) -> Look:
    return Look(asset, start, end, SMALL, lead=True)


def seen(look: Look) -> Any:
    try:
        return [(p.time, p.rgb.tobytes(), b"" if p.pair is None else p.pair.tobytes()) for p in looked(look)]
    except MediaError as error:
        return str(error)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many pictures have come out of decoders since."""
    return counted_pictures(monkeypatch)


def test_each_look_has_what_it_has_alone_whichever_comes_first(asset: Asset) -> None:
    asked = [sampled(asset), every(asset), every(asset, 2.0, None), Look(asset, 0.0, 3.0, SIZE, fps=7.0)]
    alone = {look: seen(look) for look in asked}
    for order in permutations(asked):
        with expecting(Sharing(asked)):
            assert {look: seen(look) for look in order} == alone


def test_what_is_foretold_is_decoded_once(asset: Asset, decoded: Callable[[], int]) -> None:
    seen(every(asset))
    alone = decoded()
    with expecting(Sharing([sampled(asset), every(asset)])):
        seen(sampled(asset))
        seen(every(asset))
    # The first picture of the slot that the span begins in may lie before it.
    assert decoded() - alone <= alone + FPS


def test_looks_at_times_alone_leave_pictures_out_together(asset: Asset, decoded: Callable[[], int]) -> None:
    asked = [sampled(asset, 0.0, None), Look(asset, 0.0, None, SIZE, fps=1.0)]
    with expecting(Sharing(asked)):
        assert [len(seen(look)) for look in asked] == [8, 4]
    assert decoded() <= SECONDS * FPS * 2 // 3


def test_a_look_that_was_not_foretold_is_made_by_itself(asset: Asset, decoded: Callable[[], int]) -> None:
    other = sampled(asset, 0.5)
    alone = seen(other), seen(every(asset))
    with expecting(Sharing([sampled(asset), every(asset)])):
        assert (seen(other), seen(every(asset))) == alone
        assert seen(sampled(asset)) == seen(sampled(asset))  # Kept once, then made.


def test_a_look_that_is_given_up_leaves_the_others_to_themselves(asset: Asset) -> None:
    alone = seen(every(asset))
    with expecting(Sharing([sampled(asset), every(asset)])):
        assert next(looked(sampled(asset))).time > 1
        assert seen(every(asset)) == alone


def test_what_would_take_too_much_memory_is_not_kept(asset: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [sampled(asset), every(asset), Look(asset, 0.0, None, native())]
    alone = [seen(look) for look in asked]
    monkeypatch.setattr(looks, "KEPT_BYTES", 1 << 20)
    sharing = Sharing(asked)
    with expecting(sharing):
        first = seen(asked[0])
        assert set(sharing._kept) == {asked[1]}
        assert [first, seen(asked[1]), seen(asked[2])] == alone


def test_of_a_look_that_is_let_go_of_no_more_is_decoded(
    asset: Asset, decoded: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(Look(asset, 0.0, 0.5, SIZE))
    alone = decoded()
    monkeypatch.setattr(looks, "KEPT_BYTES", 1 << 10)
    with expecting(Sharing([Look(asset, 0.0, 0.5, SIZE), every(asset, 0.0, None)])):
        seen(Look(asset, 0.0, 0.5, SIZE))
    assert decoded() == 2 * alone


def test_whoever_draws_into_a_picture_changes_no_other(asset: Asset) -> None:
    asked = [Look(asset, 0.0, 2.0, SIZE, fps=2.0), Look(asset, 0.0, 2.0, SIZE, fps=4.0)]
    alone = [seen(look) for look in asked]
    for order in permutations((0, 1)):
        with expecting(Sharing(asked)):
            for number in order:
                told = []
                for picture in looked(asked[number]):
                    told.append((picture.time, picture.rgb.tobytes(), b""))
                    picture.rgb[:] = 255
                assert told == alone[number]


CUTS = (0.0, 0.4, 1.3, 1.35, 2.6, 3.1)
"""Where windows begin; none but the first begins with a key picture."""


def in_windows(look: Look) -> list[Look]:
    return [replace(look, start=a, end=b) for a, b in pairwise((*CUTS, None)) if a is not None]


@pytest.mark.parametrize("kind", [sampled, every])
def test_windows_that_follow_each_other_are_one_pass(
    asset: Asset, kind: Callable[..., Look], decoded: Callable[[], int]
) -> None:
    seen(kind(asset, 0.0, None))
    whole = decoded()
    asked = in_windows(kind(asset))
    sharing = Sharing(asked)
    with expecting(sharing):
        shared = [seen(look) for look in asked]
        assert not sharing._kept
    assert decoded() - whole <= whole + len(CUTS)  # What shows that a window is over may be needed by no one.
    assert shared == [seen(look) for look in asked]
    assert decoded() > 3 * whole


@pytest.mark.parametrize("kind", [sampled, every])
def test_windows_in_any_order_and_of_two_finders_have_what_each_has_alone(
    asset: Asset, kind: Callable[..., Look]
) -> None:
    asked = in_windows(kind(asset))[1:5]
    more = [kind(asset, 0.2, 1.5), kind(asset, 1.5, 3.0)]
    alone = {look: seen(look) for look in (*asked, *more)}
    for order in permutations(asked):
        with expecting(Sharing(asked + more)):
            assert {look: seen(look) for look in (more[0], *order, more[1])} == alone


def test_looks_that_are_made_at_the_same_time_have_what_each_has_alone(asset: Asset) -> None:
    one, other, last = in_windows(every(asset))[1:4]
    alone = seen(one), seen(other), seen(last)
    with expecting(Sharing([one, other, last])):
        pairs = list(zip(looked(one), looked(other), strict=False))
        assert [(a.time, a.rgb.tobytes(), b"") for a, _ in pairs] == alone[0][: len(pairs)]
        assert [(b.time, b.rgb.tobytes(), b"") for _, b in pairs] == alone[1][: len(pairs)]
        assert seen(last) == alone[2]


def test_for_a_window_that_is_left_out_nothing_is_kept(asset: Asset) -> None:
    first, second, third, *_ = asked = in_windows(every(asset))
    sharing = Sharing(asked)
    with expecting(sharing):
        seen(first)
        sharing.leave(second)
        alone = seen(third)
        assert all(not kept for kept in sharing._kept.values())
    assert alone == seen(third)


def test_each_window_has_the_time_to_decode_that_it_has_alone(
    asset: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("amber_ray.media.reader.time.monotonic", lambda: now[0])
    opened = counted_passes(monkeypatch)
    asked = in_windows(sampled(asset))
    with expecting(Sharing(asked)):
        for look in asked:
            assert not isinstance(seen(look), str)
            now[0] += 599.0
    assert opened() == 1


def test_what_is_far_is_passed_over_and_nothing_behind_the_end_is_read(
    asset: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [seen(sampled(asset, 0.1, 0.4)), seen(sampled(asset, 3.05, 3.3))]
    read: list[int] = []
    real = reader.packets

    def packets(*given: Any) -> Iterator[Any]:
        read.append(0)
        for packet in real(*given):
            read[-1] += 1
            yield packet

    monkeypatch.setattr(reader, "packets", packets)
    monkeypatch.setattr(reader, "_SKIP", 1)
    asked = [sampled(asset, 0.1, 0.4), sampled(asset, 3.05, 3.3)]
    for together in (asked, []):
        read.clear()
        with expecting(Sharing(together)):
            assert [seen(look) for look in asked] == alone
        assert max(read) < 2 * FPS


def counted_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many passes over a film were begun since."""
    found: list[int] = []
    real = Reader.selected

    def counted(reader: Reader, selections: Any) -> Any:
        found.append(len(selections))
        return real(reader, selections)

    monkeypatch.setattr(Reader, "selected", counted)
    return lambda: len(found)


def test_seconds_are_shared_and_none_is_lost(asset: Asset) -> None:
    sharing = Sharing([sampled(asset), every(asset)])
    with expecting(sharing):
        seen(sampled(asset))
        assert sharing.lent > 0
        seen(every(asset))
    assert sharing.lent == 0


def test_damage_that_one_look_sees_is_no_error_of_the_others(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    broken = tmp_path / path.name
    for at in range(len(data) // 2, len(data) // 2 + 2000):
        data[at] ^= 0xFF
    broken.write_bytes(data)
    try:
        asset = catalogue(tmp_path).add(str(broken))
    except MediaError:
        pytest.skip("refused when it is registered")
    asked = [Look(asset, 0.0, 1.0, SIZE, fps=2.0), every(asset, 0.0, None), sampled(asset, 3.0, None)]
    windows = in_windows(every(asset))
    with expecting(Sharing(windows)):
        shared = [seen(look) for look in windows]
    assert shared == [seen(look) for look in windows]
    assert 0 < sum("damaged" in str(found) for found in shared) < len(windows)
    alone = [seen(look) for look in asked]
    assert "damaged" in str(alone[1])
    for order in permutations(range(3)):
        with expecting(Sharing(asked)):
            found = {n: seen(asked[n]) for n in order}
        assert [found[n] for n in range(3)] == alone


def test_a_still_is_looked_at_by_all(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(textured(1, 64, 48)).save(tmp_path / "a.png")
    asset = catalogue(tmp_path).add(str(tmp_path / "a.png"))
    asked = [sampled(asset, 0.0, None), every(asset, 0.0, None), every(asset, 1.0, None)]
    alone = [seen(look) for look in asked]
    assert [len(pictures) for pictures in alone] == [1, 1, 0]
    with expecting(Sharing(asked)):
        assert [seen(look) for look in asked] == alone


def test_sizes_that_ask_for_the_same_are_equal() -> None:
    assert shorter_side(224) == shorter_side(224) != longer_side(224)
    assert native() == shorter_side(0)
    assert exactly(4, 3) == exactly(4, 3) != exactly(3, 4)
