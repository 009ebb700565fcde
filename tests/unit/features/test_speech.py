"""`speech`, `shot_speech` against silero-vad's own code, on recorded words, on silence, tones and music."""

from __future__ import annotations

from pathlib import Path

import iscc_samples
import numpy as np
import pytest
import torch
from silero_vad import get_speech_timestamps, load_silero_vad
from silero_vad.utils_vad import get_speech_timestamps_from_probs

from amber_ray.core.model.units import Asset
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features import speech as module
from amber_ray.features.speech import ShotSpeech, Speech, SpeechProbability, shot_speech, speech
from amber_ray.media.sound import mono
from amber_ray.samples import clip
from tests import media
from tests.media import RED, catalogue, flat, tone, write_picture, write_sound, write_video

RATE = 16_000


@pytest.fixture(scope="module")
def model() -> SpeechProbability:
    return SpeechProbability()


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    """A recorded sentence of 1.35 s at 2, 5 and 7 s of 10 s, nearly silent around it."""
    folder = tmp_path_factory.mktemp("talk")
    (short,) = (p for p in iscc_samples.audios("wav") if p.name == "short.wav")
    (folder / "short.wav").write_bytes(short.read_bytes())
    said = mono(of(folder / "short.wav"), RATE)
    sound = np.random.default_rng(0).normal(0, 1e-4, 10 * RATE).astype(np.float32)
    for second in (2, 5, 7):
        sound[second * RATE : second * RATE + len(said)] += said
    return of(write_sound(folder / "talk.flac", sound, RATE))


def of(path: Path) -> Asset:
    return catalogue(path.parent).add(str(path))


def found(model: SpeechProbability, asset: Asset, **params: float) -> list[Speech]:
    value = SpeechProbability.__amber__.returns.check(model(asset))
    return speech.__amber__.returns.check(speech(asset, value, **params))  # type: ignore[no-any-return]


def test_words_are_found_where_they_are(model: SpeechProbability, talk: Asset) -> None:
    ranges = found(model, talk)
    for second in (2, 5, 7):
        inside = [r for r in ranges if second - 0.05 <= r.start and r.end <= second + 1.5]
        assert sum(r.end - r.start for r in inside) > 0.9
        assert all(r.score > 0.6 for r in inside)
        ranges = [r for r in ranges if r not in inside]
    assert ranges == []


@pytest.mark.parametrize("block", [512, 512 * 7, 1 << 19])
def test_it_is_what_silero_vad_finds(
    model: SpeechProbability, talk: Asset, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    theirs = get_speech_timestamps(torch.from_numpy(mono(talk, RATE)), load_silero_vad(onnx=True))
    assert len(theirs) >= 3
    assert [(round(r.start * RATE), round(r.end * RATE)) for r in found(model, talk)] == [
        (t["start"], t["end"]) for t in theirs
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_rules_are_silero_vads_whatever_is_said(talk: Asset, seed: int) -> None:
    generator = np.random.default_rng(seed)
    # A walk between 0 and 1: runs of speech and of silence of all lengths, and values at the thresholds.
    steps = generator.choice([-0.3, -0.1, 0.1, 0.3], 313).cumsum()
    said = np.abs((steps + 1) % 4 - 2).clip(0, 1).round(2).astype(np.float32)
    threshold = float(generator.choice([0.1, 0.5, 0.9]))
    speaks, silence, pad = (float(generator.choice(c)) for c in ([0, 64, 250], [0, 100, 300], [0, 30, 120]))
    theirs = get_speech_timestamps_from_probs(
        said.tolist(),
        threshold=threshold,
        min_speech_duration_ms=speaks,  # type: ignore[arg-type]
        min_silence_duration_ms=silence,  # type: ignore[arg-type]
        speech_pad_ms=pad,  # type: ignore[arg-type]
        audio_length_samples=10 * RATE,
    )
    ours = speech(talk, said, threshold, speaks / 1000, silence / 1000, pad / 1000)
    assert [(round(r.start * RATE), round(r.end * RATE)) for r in ours] == [
        (t["start"], t["end"]) for t in theirs
    ]


def test_a_window_is_32_ms_and_the_last_one_may_be_short(model: SpeechProbability, tmp_path: Path) -> None:
    asset = of(write_sound(tmp_path / "a.wav", np.zeros(RATE + 100, np.float32), RATE))
    assert model(asset).shape == (32,)
    assert model(of(write_sound(tmp_path / "b.wav", np.zeros(700, np.float32), RATE))).shape == (2,)


def test_silence_tones_and_music_are_no_speech(model: SpeechProbability, tmp_path: Path) -> None:
    sounds = [np.zeros(3 * RATE, np.float32), tone(3.0, 440.0, -10.0, RATE)]
    assets = [of(write_sound(tmp_path / f"{i}.wav", s, RATE)) for i, s in enumerate(sounds)]
    (tmp_path / "bunny.mp4").write_bytes(clip().read_bytes())
    for asset in (*assets, of(tmp_path / "bunny.mp4")):
        assert found(model, asset) == []


def test_without_sound_it_says_so(model: SpeechProbability, tmp_path: Path) -> None:
    for path in (
        write_video(tmp_path / "mute.mp4", [flat(RED)] * 8),
        write_picture(tmp_path / "mute.png", flat(RED)),
    ):
        with pytest.raises(MediaError, match=r"speech needs sound; 'mute\.\w+' has no audio stream"):
            model(of(path))


@pytest.mark.parametrize(
    ("params", "words"),
    [({"threshold": 1.0}, "threshold must be between 0 and 1"), ({"pad": -0.1}, "pad must be 0 s or more")],
)
def test_what_makes_no_sense_is_refused(talk: Asset, params: dict[str, float], words: str) -> None:
    with pytest.raises(FeatureError, match=rf"speech\.{words}"):
        speech(talk, np.zeros(10, np.float32), **params)


def test_it_says_whose_weights_they_are(model: SpeechProbability) -> None:
    assert model.provenance() == "cpu; silero-vad"


def test_a_shot_has_the_speech_that_is_in_it(talk: Asset) -> None:
    said = [Speech(2.0, 3.5, 0.9), Speech(3.75, 4.0, 0.8), Speech(7.0, 9.0, 0.7)]
    shots = media.found(talk, 0.0, 2.0, 3.0, 7.5, 8.0, 10.0)
    value = [shot_speech.__amber__.returns.check(shot_speech(shot, said)) for shot in shots]
    assert value == [
        ShotSpeech(0.0, []),  # what begins with the next shot is not of this one
        ShotSpeech(1.0, [Speech(2.0, 3.0, 0.9)]),
        ShotSpeech(pytest.approx(1.25 / 4.5), [Speech(3.0, 3.5, 0.9), said[1], Speech(7.0, 7.5, 0.7)]),
        ShotSpeech(1.0, [Speech(7.5, 8.0, 0.7)]),
        ShotSpeech(0.5, [Speech(8.0, 9.0, 0.7)]),
    ]
    assert shot_speech(shots[0], []) == ShotSpeech(0.0, [])


def test_all_speech_is_in_shots_that_follow_each_other(model: SpeechProbability, talk: Asset) -> None:
    said = found(model, talk)
    shots = media.found(talk, 0.0, 2.4, 2.7, 5.1, 10.0)
    value = [shot_speech(shot, said) for shot in shots]
    spoken = sum(v.share * (shot.end - shot.start) for v, shot in zip(value, shots, strict=True))
    assert spoken == pytest.approx(sum(s.end - s.start for s in said))
