"""`audio`, `spectrogram`, `waveform`: the same values however an asset is cut, and tones in their bands."""

from __future__ import annotations

import cmath
import math
from pathlib import Path

import iscc_samples
import numpy as np
import pytest

from amber_ray.core.model.units import Asset, segments
from amber_ray.errors import MediaError
from amber_ray.features.audio import CONTEXT, HOP, Audio, Spectrogram, audio, spectrogram, waveform
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.media.sound import blocks, mono
from tests.media import RED, catalogue, flat, tone, write_picture, write_sound, write_video

SILENT = math.log(0.01)


def mel(hertz: float) -> float:
    return 1127 * math.log(1 + hertz / 700)


def of(path: Path) -> Asset:
    return catalogue(path.parent).add(str(path))


def cut(asset: Asset, seconds: float) -> list[Audio]:
    return [audio.__amber__.returns.check(audio(s)) for s in segments(asset, seconds)]


def spectra(asset: Asset, seconds: float) -> Spectrogram:
    each = [spectrogram.__amber__.returns.check(spectrogram(a)) for a in cut(asset, seconds)]
    return Spectrogram(
        np.concatenate([s.times for s in each]), np.concatenate([s.levels for s in each], dtype=np.float32)
    )


def rustle(seconds: float, rate: int = 48_000) -> np.ndarray:
    """Smooth noise under a swell, with a tone: something of every kind at every place."""
    n = round(seconds * rate)
    noise = np.convolve(np.random.default_rng(0).normal(0, 0.1, n), np.ones(12) / 12, "same")
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 0.37 * np.arange(n) / rate)
    return (noise * swell + tone(seconds, 700.0, rate=rate)).astype(np.float32)


@pytest.fixture(scope="module", params=["flac", "ogg"])
def music(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asset:
    """Some 12 s of FLAC at 44.1 kHz, and 15.5 s of Vorbis, whose first time stamps after a seek are wrong."""
    folder = tmp_path_factory.mktemp("music")
    if request.param == "flac":
        return of(write_sound(folder / "a.flac", rustle(12.3, 44_100), 44_100, channels=2))
    (path,) = iscc_samples.audios("ogg")
    return Catalogue(str(folder), Locator([str(path.parent)])).add(str(path))


def test_segments_follow_on_each_other_however_long_they_are(music: Asset) -> None:
    whole = mono(music, 16_000)
    padded = np.pad(whole, CONTEXT)
    for seconds in (10.0, 1.0, 0.7):
        parts = cut(music, seconds)
        assert [a.first for a in parts[1:]] == [a.first + len(a.samples) for a in parts[:-1]]
        assert np.array_equal(np.concatenate([a.samples for a in parts]), whole)
        for a in parts[:-1]:
            end = a.first + len(a.samples) + CONTEXT
            assert np.array_equal(padded[a.first : a.first + CONTEXT], a.before)
            assert np.array_equal(padded[end : end + CONTEXT], a.after)


def test_the_waveform_is_the_outline_of_the_samples_however_an_asset_is_cut(music: Asset) -> None:
    whole = mono(music, 16_000)
    padded = np.pad(whole, (0, -len(whole) % HOP)).reshape(-1, HOP)
    for seconds in (10.0, 0.7):
        parts = [waveform.__amber__.returns.check(waveform(a)) for a in cut(music, seconds)]
        assert np.array_equal(np.concatenate([p.low for p in parts]), padded.min(axis=1))
        assert np.array_equal(np.concatenate([p.high for p in parts]), padded.max(axis=1))
        assert np.concatenate([p.times for p in parts]) == pytest.approx(np.arange(len(padded)) / 100)


def test_the_spectrogram_does_not_depend_on_the_segments(music: Asset) -> None:
    whole = spectra(music, 1000.0)
    hops = math.ceil((music.duration or 0) * 100)
    assert (whole.levels.dtype, whole.levels.shape) == (np.float32, (hops, 64))
    assert np.allclose(whole.times, np.arange(hops) / 100, atol=1e-12)
    for seconds in (10.0, 1.0, 0.7):
        parts = spectra(music, seconds)
        assert np.array_equal(parts.times, whole.times)
        assert np.abs(parts.levels - whole.levels).max() <= 1e-5


def test_rounded_time_stamps_move_no_segment_by_more_than_a_sample(tmp_path: Path) -> None:
    # Matroska rounds to milliseconds, 16 samples; the many frames of a half second say it more precisely.
    asset = of(write_sound(tmp_path / "a.mka", rustle(8.0, 44_100), 44_100, codec="mp2"))
    whole = mono(asset, 16_000)
    for part in cut(asset, 1.0):
        there = whole[part.first : part.first + len(part.samples)]
        off = [np.abs(np.roll(part.samples, k) - there)[20:-20].mean() for k in range(-16, 17)]
        assert abs(int(np.argmin(off)) - 16) <= 1


@pytest.mark.parametrize("hertz", [150.0, 440.0, 1000.0, 3000.0, 7000.0])
def test_a_tone_is_loudest_in_its_band(tmp_path: Path, hertz: float) -> None:
    levels = spectra(of(write_sound(tmp_path / "tone.wav", tone(2.0, hertz))), 60.0).levels
    step = (mel(7500) - mel(125)) / 65
    # Band b's centre is b + 1 steps up; a bin is 31.25 Hz wide, more than a low band.
    expected = (mel(hertz) - mel(125)) / step - 1
    loudest = levels[5:190].argmax(axis=1)
    assert np.abs(loudest - expected).max() <= (1 if hertz > 200 else 2)
    assert levels[100, (round(expected) + 32) % 64] < levels[100].max() - 2


def test_one_window_by_the_formulas_of_vggish(tmp_path: Path) -> None:
    asset = of(write_sound(tmp_path / "rustle.wav", rustle(1.0)))
    (heard,) = cut(asset, 60.0)
    samples = heard.samples[4000:4400].astype(float)
    windowed = [x * (0.5 - 0.5 * math.cos(2 * math.pi * i / 400)) for i, x in enumerate(samples)]
    magnitude = [
        abs(sum(x * cmath.exp(-2j * math.pi * k * i / 512) for i, x in enumerate(windowed)))
        for k in range(257)
    ]
    edges = [mel(125) + i * (mel(7500) - mel(125)) / 65 for i in range(66)]
    for band in (0, 7, 31, 63):
        low, centre, high = edges[band : band + 3]
        total = 0.0
        for k, m in enumerate(magnitude):
            at = mel(k * 8000 / 256)
            total += m * max(0.0, min((at - low) / (centre - low), (high - at) / (high - centre)))
        assert spectrogram(heard).levels[25, band] == pytest.approx(math.log(total + 0.01), abs=1e-4)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_silence_is_the_floor_and_sound_ends_before_the_picture(tmp_path: Path, suffix: str) -> None:
    codec, options = ("libvpx", {"deadline": "realtime"}) if suffix == "webm" else ("libx264", None)
    path = write_video(
        tmp_path / f"film.{suffix}", [flat(RED)] * 96, sound=tone(1.0), codec=codec, options=options
    )
    asset = of(path)
    levels = spectra(asset, 0.5).levels
    assert len(levels) == pytest.approx(400, abs=3)
    assert levels[:90].max(axis=1).min() > 0
    assert np.allclose(levels[110:], SILENT, atol=1e-3)


def test_blocks_are_the_whole_in_pieces(tmp_path: Path) -> None:
    asset = of(write_sound(tmp_path / "a.m4a", rustle(3.3, 44_100), 44_100))
    pieces = list(blocks(asset, 16_000, 7000))
    assert [len(p) for p in pieces] == [7000] * 7 + [52_800 - 49_000]
    assert np.array_equal(np.concatenate(pieces), mono(asset, 16_000))


def test_blocks_hold_silence_where_the_sound_has_ended(tmp_path: Path) -> None:
    asset = of(write_video(tmp_path / "film.mp4", [flat(RED)] * 96, sound=tone(1.0)))
    whole = np.concatenate(list(blocks(asset, 16_000, 9000)))
    assert np.array_equal(whole, mono(asset, 16_000))
    assert len(whole) == 64_000
    assert not whole[18_000:].any()


def test_without_sound_it_says_so(tmp_path: Path) -> None:
    for path in (
        write_video(tmp_path / "mute.mp4", [flat(RED)] * 8),
        write_picture(tmp_path / "mute.png", flat(RED)),
    ):
        with pytest.raises(MediaError, match=r"audio needs sound; 'mute\.\w+' has no audio stream"):
            audio(segments(of(path), 60.0)[0])
