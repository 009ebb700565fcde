"""The word error rate that transcripts are judged by."""

from __future__ import annotations

import numpy as np
import pytest

from tests.spoken import SAID, error_rate, mixed, plain, word_errors


def test_words_are_compared_without_punctuation_and_in_one_spelling() -> None:
    assert plain("Mr. Ill-disposed said: “Don’t!”") == ["mister", "ill", "disposed", "said", "don't"]


@pytest.mark.parametrize(
    ("heard", "errors"),
    [
        ("a b c d", 0),
        ("a b d", 1),
        ("a x c d", 1),
        ("a b c c d", 1),
        ("", 4),
        ("b c d a", 2),
        ("x y z u v", 5),
    ],
)
def test_each_word_left_out_put_in_or_changed_is_an_error(heard: str, errors: int) -> None:
    assert word_errors(["a", "b", "c", "d"], heard.split()) == errors
    assert error_rate("a b c d", heard) == errors / 4


def test_music_is_as_far_below_speech_as_was_asked() -> None:
    speech, music = np.random.default_rng(0).normal(0, [[0.1], [0.7]], (2, 1000)).astype(np.float32)
    under = mixed(speech, music, 5.0) - speech
    assert 10 * np.log10(np.square(speech).mean() / np.square(under).mean()) == pytest.approx(5.0, abs=0.01)


def test_the_recording_s_words_are_in_order() -> None:
    assert sorted(at for _, at in SAID) == [at for _, at in SAID]
