"""`loudness` and `turn_level` against the values that the standard prescribes for test tones."""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import pytest

from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaError
from amber_ray.features.loudness import SILENCE, Loudness, TurnLevel, loudness, turn_level
from tests.media import RED, catalogue, damage, flat, found, tone, write_picture, write_sound, write_video


def heard(path: Path, sound: np.ndarray, channels: int = 1) -> Loudness:
    value = loudness(catalogue(path.parent).add(str(write_sound(path, sound, channels=channels))))
    return loudness.__amber__.returns.check(value)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("channels", "expected"), [(1, -23.01), (2, -20.0)])
def test_a_tone_has_the_loudness_that_bs1770_gives_it(tmp_path: Path, channels: int, expected: float) -> None:
    # A 997 Hz sine with its peak at 0 dBFS in one front channel is -3.01 LUFS; a second channel adds 3.01.
    value = heard(tmp_path / "tone.wav", tone(5.0, 997.0, -20.0), channels)
    assert value.integrated == pytest.approx(expected, abs=0.05)
    assert value.range == pytest.approx(0.0, abs=0.1)
    assert value.true_peak == pytest.approx(-20.0, abs=0.1)


def test_two_levels_make_a_range(tmp_path: Path) -> None:
    # EBU Tech 3342, case 1: 20 s at -20 dBFS, then 20 s at -30 dBFS, is a range of 10 LU.
    value = heard(
        tmp_path / "steps.wav", np.concatenate([tone(20.0, 1000.0, -20.0), tone(20.0, 1000.0, -30.0)])
    )
    assert value.range == pytest.approx(10.0, abs=1.0)


def test_a_peak_between_samples_is_found(tmp_path: Path) -> None:
    # A quarter of the rate, sampled off its crests: samples reach 0.707 of the peak.
    t = np.arange(48_000) / 48_000
    swell = np.clip(np.minimum(t, 1 - t) * 20, 0, 1)  # A sudden onset would overshoot.
    sound = (0.5 * swell * np.sin(2 * np.pi * 12_000 * t + np.pi / 4)).astype(np.float32)
    value = heard(tmp_path / "peak.wav", sound)
    assert np.abs(sound).max() == pytest.approx(0.354, abs=0.001)
    assert value.true_peak == pytest.approx(20 * math.log10(0.5), abs=0.3)


def test_digital_silence(tmp_path: Path) -> None:
    value = heard(tmp_path / "silence.wav", np.zeros(48_000 * 2, np.float32))
    assert (value.integrated, value.true_peak) == (-70.0, -math.inf)


@pytest.mark.parametrize(
    ("suffix", "expected"), [("mp3", -20.45), ("flac", -20.0), ("m4a", -20.0), ("mka", -20.0)]
)
def test_any_codec_is_measured(tmp_path: Path, suffix: str, expected: float) -> None:
    # LAME scales what it encodes by 0.95, which is -0.45 dB.
    assert heard(tmp_path / f"tone.{suffix}", tone(3.0), 2).integrated == pytest.approx(expected, abs=0.1)


def test_the_sound_of_a_film_is_measured(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", [flat(RED)] * 72, sound=tone(3.0), channels=2)
    assert loudness(catalogue(tmp_path).add(str(path))).integrated == pytest.approx(-20.0, abs=0.2)


@pytest.fixture
def mute(tmp_path: Path) -> list[Asset]:
    film = write_video(tmp_path / "mute.mp4", [flat(RED)] * 8)
    photo = write_picture(tmp_path / "mute.png", flat(RED))
    return [catalogue(tmp_path).add(str(path)) for path in (film, photo)]


def test_without_sound_it_says_so(mute: list[Asset]) -> None:
    for asset in mute:
        with pytest.raises(MediaError, match=r"loudness needs sound; 'mute\.\w+' has no audio stream"):
            loudness(asset)


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3, 0.39])
def test_a_sound_shorter_than_a_block_is_a_block_of_its_own(tmp_path: Path, seconds: float) -> None:
    assert heard(tmp_path / "click.wav", tone(seconds)).integrated == pytest.approx(-23, abs=0.8)
    silent = heard(tmp_path / "silence.flac", np.zeros(round(seconds * 48_000), np.float32))
    assert silent.integrated == SILENCE


def test_damaged_sound_says_where(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "torn.m4a", tone(5.0))
    asset = catalogue(tmp_path).add(str(damage(path, [(0.5, 0.6)])))
    with pytest.raises(MediaError, match=r"the sound of 'torn\.m4a' is damaged at about \d"):
        loudness(asset)


def zeroed(path: Path, out: Path, first: float, last: float) -> Path:
    """The same file, the bytes of its packets from `first` to `last` seconds all zero."""
    with av.open(str(path)) as source, av.open(str(out), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is None:
                continue
            if first <= packet.pts * packet.time_base < last:
                empty = av.Packet(bytes(packet.size))
                empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
                packet = empty
            packet.stream = stream
            copy.mux(packet)
    return out


def test_zeros_within_the_sound_are_damage_and_behind_it_are_none(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "whole.mka", tone(4.0))
    within = catalogue(tmp_path).add(str(zeroed(path, tmp_path / "within.mka", 1.5, 2.0)))
    with pytest.raises(MediaError, match=r"the sound of 'within\.mka' is damaged at about 1\.5"):
        loudness(within)
    behind = catalogue(tmp_path).add(str(zeroed(path, tmp_path / "behind.mka", 3.0, 9.0)))
    assert loudness(behind).integrated == pytest.approx(-23, abs=0.5)


# --- turn_level


def levels(asset: Asset, *bounds: float) -> list[TurnLevel]:
    """The level of what lies between these times."""
    return [turn_level.__amber__.returns.check(turn_level(window)) for window in found(asset, *bounds)]


@pytest.mark.parametrize("suffix", ["wav", "flac", "m4a", "mp3", "mka", "webm"])
def test_a_turn_is_as_loud_as_its_own_sound(tmp_path: Path, suffix: str) -> None:
    # A window's own and nothing of its neighbours, though these are 20 dB louder.
    steps = [(2.0, -40.0), (1.0, -20.0), (0.5, -40.0), (2.0, -20.0)]
    sound = np.concatenate([tone(seconds, 1000.0, decibels) for seconds, decibels in steps])
    path = write_sound(tmp_path / f"steps.{suffix}", sound)
    asset = catalogue(tmp_path).add(str(path))
    # Codecs smear some milliseconds over an edge, and LAME scales by 0.95.
    edge = 0.0 if suffix in ("wav", "flac") else 0.06
    inner = [(0.0, 2.0 - edge), (2.0 + edge, 3.0 - edge), (3.0 + edge, 3.5 - edge), (3.5 + edge, 5.5 - edge)]
    found = [levels(asset, *window)[0] for window in inner]
    expected = [decibels - 3.01 for _, decibels in steps]
    assert [level.integrated for level in found] == pytest.approx(expected, abs=0.6)
    assert [level.true_peak for level in found] == pytest.approx([d for _, d in steps], abs=1.0)


def test_a_turn_is_what_loudness_says_of_that_sound_alone(tmp_path: Path) -> None:
    sound = np.random.default_rng(2).normal(0, 0.1, 48_000 * 6).astype(np.float32)
    sound *= np.linspace(0.05, 1, len(sound), dtype=np.float32)
    asset = catalogue(tmp_path).add(str(write_sound(tmp_path / "noise.wav", sound)))
    for start, end in ((0.0, 6.0), (1.25, 3.5), (2.000_01, 2.45), (5.3, 6.0)):
        cut = sound[math.ceil(start * 48_000) : math.ceil(end * 48_000)]
        alone = heard(tmp_path / f"cut{start}.wav", cut)
        [level] = levels(asset, start, end)
        assert level.integrated == pytest.approx(alone.integrated, abs=0.01)
        assert level.true_peak == pytest.approx(alone.true_peak, abs=0.05)


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3, 0.39])
def test_a_turn_shorter_than_a_block_is_a_block_of_its_own(tmp_path: Path, seconds: float) -> None:
    sound = np.concatenate([tone(2.0, decibels=-6.0), tone(seconds), tone(2.0, decibels=-6.0)])
    asset = catalogue(tmp_path).add(str(write_sound(tmp_path / "short.wav", sound)))
    [level] = levels(asset, 2.0, 2.0 + seconds)
    assert level.integrated == pytest.approx(-23, abs=0.8)


def test_silence_and_what_lies_past_the_sound(tmp_path: Path) -> None:
    asset = catalogue(tmp_path).add(
        str(write_sound(tmp_path / "a.wav", np.concatenate([tone(1.0), np.zeros(48_000, np.float32)])))
    )
    assert levels(asset, 1.0, 1.5, 2.0) == [TurnLevel(SILENCE, -math.inf)] * 2
    film = write_video(tmp_path / "long.mkv", [flat(RED)] * 72, sound=tone(1.0))
    with pytest.raises(
        MediaError, match=r"'long\.mkv' from 2 to 2\.5 s has too little sound to measure: 0\.000 s"
    ):
        levels(catalogue(tmp_path).add(str(film)), 2.0, 2.5)


def test_a_turn_keeps_the_channels_of_its_asset(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "stereo.flac", tone(4.0), channels=2)
    [level] = levels(catalogue(tmp_path).add(str(path)), 1.0, 3.0)
    assert level.integrated == pytest.approx(-20.0, abs=0.05)


def test_a_turn_without_sound_says_so(mute: list[Asset]) -> None:
    with pytest.raises(MediaError, match=r"turn_level needs sound; 'mute\.mp4' has no audio stream"):
        levels(mute[0], 0.0, 0.2)


def test_a_short_turn_in_which_the_sound_changes_its_form(tmp_path: Path) -> None:
    parts = [write_sound(tmp_path / f"{n}.mp3", tone(1.0), channels=n) for n in (1, 2)]
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    asset = catalogue(tmp_path).add(str(joined))
    [level] = levels(asset, 0.95, 1.2)
    assert -24 < level.integrated < -20  # from mono to stereo, which is 3 dB louder
