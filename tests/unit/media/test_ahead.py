"""Pictures that nobody wants are passed over, and what is asked for is what a full decode gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaError
from amber_ray.media import bounds, reader
from amber_ray.media.choice import AnyOf, FirstOfSlots, OnScreen, Slots
from amber_ray.media.decode import pictures, pictures_at
from amber_ray.media.scale import exactly
from amber_ray.settings import Limits
from tests.media import catalogue, counted_pictures, write_differing
from tests.unit.media.test_coded import CODECS

SIZE = exactly(48, 32)
FPS = 24


@pytest.fixture(scope="module", params=CODECS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds in which no two pictures are alike, a key picture every second."""
    return write_differing(tmp_path_factory.mktemp("ahead"), CODECS[request.param], FPS)


@pytest.fixture(scope="module")
def asset(path: Path) -> Asset:
    return catalogue(path.parent).add(str(path))


Ask = Callable[[Asset], Iterator[Any]]
ASKED: dict[str, Ask] = {
    "slots": lambda a: pictures(a, fps=2.0, size=SIZE),
    "slots and pairs": lambda a: pictures(a, fps=2.0, size=SIZE, pair=SIZE),
    "slots of a span": lambda a: pictures(a, 1.3, 2.9, fps=3.0, size=SIZE, pair=SIZE),
    "few": lambda a: pictures(a, fps=0.4, size=SIZE),
    "all": lambda a: pictures(a, size=SIZE),
    "moments": lambda a: pictures_at(a, [0.0, 0.49, 0.5, 0.51, 2.2, 3.97, 3.99], SIZE),
    "one moment": lambda a: pictures_at(a, [2.7], SIZE),
}


def shown(ask: Ask, asset: Asset) -> list[tuple[float, bytes, bytes]]:
    return [(p.time, p.rgb.tobytes(), b"" if p.pair is None else p.pair.tobytes()) for p in ask(asset)]


def answer(ask: Ask, asset: Asset) -> Any:
    try:
        return shown(ask, asset)
    except MediaError as error:
        return str(error)


@pytest.mark.parametrize("what", ASKED)
def test_what_is_asked_for_is_what_a_full_decode_gives(
    what: str, asset: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    thinned = shown(ASKED[what], asset)
    with bounds.within(Limits(), threads=3):
        assert thinned == shown(ASKED[what], asset)
    monkeypatch.setattr(reader, "headers", lambda *_: None)
    assert thinned == shown(ASKED[what], asset)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many pictures have come out of decoders since."""
    return counted_pictures(monkeypatch)


def test_a_third_of_the_pictures_are_never_decoded(asset: Asset, decoded: Callable[[], int]) -> None:
    assert len(shown(ASKED["slots"], asset)) == 8
    assert decoded() <= 4 * FPS * 2 // 3


def test_behind_the_last_wanted_picture_nothing_is_decoded(asset: Asset, decoded: Callable[[], int]) -> None:
    # The first pictures of the film: of the other three groups of pictures none is needed.
    assert [p.time for p in pictures_at(asset, [0.0, 0.05], SIZE)] == [0.0, pytest.approx(1 / FPS, abs=1e-3)]
    assert decoded() <= FPS // 2


def test_groups_of_pictures_in_which_none_is_wanted_are_passed_over(
    asset: Asset, decoded: Callable[[], int]
) -> None:
    # Wanted are pictures early in the first and in the fourth group of pictures, and one that ends the run.
    assert len(list(pictures_at(asset, [0.0, 3.0], SIZE))) == 2
    assert decoded() <= FPS


def remuxed(path: Path, to: Path, change: Callable[[int, Any], Iterator[Any]]) -> Path:
    """The same packets but for a change: what becomes of the packet of each number."""
    # An index of key frames that are out of order is an assertion of the muxer's, which ends the process.
    index = {"write_index": "0"}
    with av.open(str(path)) as given, av.open(str(to), "w", options=index) as out:
        stream = given.streams.video[0]
        into: Any
        if stream.codec_context.codec.canonical_name == "av1":
            # Its decoder has another name than its encoders, and its packets tell all there is.
            into = out.add_mux_stream("av1", rate=FPS, width=stream.width, height=stream.height)
        else:
            into = out.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in given.demux(stream) if p.size):
            for one in change(number, packet):
                one.stream = into
                out.mux(one)
    return to


CHANGES = {
    "late": lambda p: setattr(p, "pts", p.pts + 5 * int(1 / (FPS * p.time_base))),
    "swapped": lambda p: setattr(p, "pts", p.pts - int(1.5 / (FPS * p.time_base))),
    "far": lambda p: setattr(p, "pts", p.pts + int(60 / p.time_base)),
}
change_of_one = st.tuples(
    st.integers(1, 4 * FPS - 1), st.sampled_from([*CHANGES, "gone", "twice", "broken"]), st.integers(0, 400)
)


@settings(
    max_examples=int(os.environ.get("DRAWS", "20")), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(changes=st.lists(change_of_one, min_size=1, max_size=3), what=st.sampled_from(list(ASKED)))
def test_a_film_that_is_not_as_it_says_is_decoded_whole(
    path: Path, tmp_path_factory: pytest.TempPathFactory, changes: list[Any], what: str
) -> None:
    def change(number: int, packet: Any) -> Iterator[Any]:
        for at, kind, place in changes:
            if at != number:
                continue
            if kind == "gone":
                return
            if kind == "twice":
                yield packet
            elif kind == "broken":
                data = bytearray(bytes(packet))
                data[place % len(data)] ^= 0xFF
                broken = av.Packet(bytes(data))
                broken.pts, broken.dts, broken.time_base = packet.pts, packet.dts, packet.time_base
                broken.duration, broken.is_keyframe = packet.duration, packet.is_keyframe
                packet = broken
            else:
                CHANGES[kind](packet)
        yield packet

    folder = tmp_path_factory.mktemp("changed")
    try:
        asset = catalogue(folder).add(str(remuxed(path, folder / "film.nut", change)))
    except (MediaError, av.error.FFmpegError):
        return  # What a muxer or the catalogue refuses is of no interest here.
    thinned = answer(ASKED[what], asset)
    # Where FFmpeg's decoder of HEVC passes over a damaged slice in silence, nobody has written that part of
    # the picture, so it may differ from one decoder to the next.
    hevc = any(stream.codec == "hevc" for stream in asset.streams)
    silent = hevc and any(kind == "broken" for _, kind, _ in changes)
    with bounds.within(Limits(), threads=3):
        threaded = answer(ASKED[what], asset)
    if silent and not isinstance(thinned, str):
        assert [time for time, *_ in threaded] == [time for time, *_ in thinned]
    else:
        assert threaded == thinned
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "headers", lambda *_: None)
        full = answer(ASKED[what], asset)
    if thinned != full:
        # Damage of a picture that nothing wanted needs is not looked for: it may be found later, or not.
        assert any(kind in ("broken", "gone") for _, kind, _ in changes)
        if silent and not isinstance(full, str):
            return
        assert "damaged" in full
        assert "damaged" in thinned if isinstance(thinned, str) else thinned


def told(wanted: Callable[[Fraction, Fraction | None], bool], times: list[float]) -> list[float]:
    exact = [Fraction(t).limit_denominator(1000) for t in times]
    return [float(a) for a, b in zip(exact, [*exact[1:], None], strict=True) if wanted(a, b)]


def test_the_first_of_each_slot_and_its_next_are_wanted() -> None:
    slots = Slots(Fraction(2), Fraction(1, 2000))
    times = [0.0, 0.2, 0.4, 0.6, 0.8, 2.0, 2.2]
    assert told(FirstOfSlots(slots, -1, None, pairs=False), times) == [0.0, 0.6, 2.0]
    assert told(FirstOfSlots(slots, -1, None, pairs=True), times) == [0.0, 0.2, 0.6, 0.8, 2.0, 2.2]
    assert told(FirstOfSlots(slots, 0, None, pairs=False), times) == [0.6, 2.0]
    # What shows that a span is over is wanted, and nothing behind it.
    assert told(FirstOfSlots(slots, -1, Fraction(7, 10), pairs=False), times) == [0.0, 0.6, 0.8]
    # A run that begins anew still has to find the next one of a picture that was taken.
    again = FirstOfSlots(slots, 1, None, pairs=True, paired=Fraction(6, 10))
    assert told(again, times) == [0.8, 2.0, 2.2]


def test_what_shows_that_a_span_is_over_is_pushed_out_of_the_decoder() -> None:
    slots = Slots(Fraction(2), Fraction(1, 2000))
    times = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 3.0, 3.2]
    seen = [Fraction(0)]

    def any_of() -> AnyOf:
        spans = [(-1, Fraction(1, 2)), (5, Fraction(10))]
        return AnyOf([FirstOfSlots(slots, n, end, pairs=False) for n, end in spans], lambda: seen[0])

    # The next span begins before 3.0, which is wanted then, and pushes as well.
    assert told(any_of(), times) == [0.0, 0.6, 0.8, 1.0, 1.2, 3.0]
    seen[0] = Fraction(6, 10)
    assert told(any_of(), times) == [0.0, 0.6, 3.0]


def test_what_is_on_screen_at_a_moment_is_wanted_beside_spans() -> None:
    slots = Slots(Fraction(2), Fraction(1, 2000))
    times = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 3.0, 3.2]
    for moment, shown in (("2", 1.4), ("1.4", 1.4), ("1.3", 1.2), ("9", 3.2)):
        span = FirstOfSlots(slots, -1, Fraction(1, 2), pairs=False)
        wanted = told(AnyOf([span, OnScreen([Fraction(moment)])], lambda: Fraction(9)), times)
        after = [t for t in times if t > shown][:1]
        assert wanted == [0.0, 0.6, shown, *after]


def test_the_pictures_on_screen_are_wanted() -> None:
    times = [0.2, 0.4, 0.6, 0.8]
    # The last one of each shows that the one before it stays on screen.
    assert told(OnScreen([Fraction(0), Fraction(1, 2)]), times) == [0.2, 0.4, 0.6]
    assert told(OnScreen([Fraction(2, 5), Fraction(3, 5)]), times) == [0.4, 0.6, 0.8]
    assert told(OnScreen([Fraction(9)]), times) == [0.8]
    assert told(OnScreen([]), times) == []
