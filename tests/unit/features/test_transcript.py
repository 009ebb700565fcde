"""Lines of a transcript from words whose times are known."""

from __future__ import annotations

import pytest

from amber_ray.errors import FeatureError
from amber_ray.features.transcript import Line, transcript
from amber_ray.features.words import Word


def spoken(text: str, start: float = 0.0, each: float = 0.3, gap: float = 0.0) -> list[Word]:
    """The words of a text, one after the other."""
    return [
        Word(start + i * (each + gap), start + i * (each + gap) + each, word, 0.5)
        for i, word in enumerate(text.split())
    ]


def texts(*turns: list[Word], **params: float) -> list[str]:
    return [line.text for line in transcript(list(turns), **params)]  # type: ignore[arg-type]


def test_a_sentence_is_a_line_whatever_the_turns_are() -> None:
    turns = spoken("He left. She"), spoken("stayed, I think.", 1.0), spoken("“Why?” “No”", 2.2)
    assert texts(*turns) == ["He left.", "She stayed, I think.", "“Why?”", "“No”"]


def test_a_line_has_the_times_of_its_words_and_the_mean_of_their_probabilities() -> None:
    said = [Word(1.0, 1.5, "Good", 0.9), Word(1.5, 2.25, "morning.", 0.6)]
    assert transcript([said]) == [Line(1.0, 2.25, "Good morning.", pytest.approx(0.75))]


def test_a_pause_ends_a_line_and_a_title_does_not() -> None:
    assert texts(spoken("and so"), spoken("it goes", 1.59)) == ["and so it goes"]
    assert texts(spoken("and so"), spoken("it goes", 1.6)) == ["and so", "it goes"]
    assert texts(spoken("Mr. Smith met Dr. No.")) == ["Mr. Smith met Dr. No."]


def test_long_sentences_are_cut_at_commas_or_about_the_middle() -> None:
    words = "one two three four five six seven eight nine ten"
    assert texts(spoken(words), max_chars=30) == ["one two three four five", "six seven eight nine ten"]
    assert texts(spoken(words.replace("four", "four,")), max_chars=30) == [
        "one two three four,",
        "five six seven eight nine ten",
    ]
    assert texts(spoken(words, each=1.0), max_seconds=4.0) == [
        "one two three",
        "four five",
        "six seven",
        "eight nine ten",
    ]
    assert texts(spoken("incomprehensibilities"), max_chars=5) == ["incomprehensibilities"]


def test_nothing_said_is_nothing() -> None:
    assert transcript([]) == transcript([[], []]) == []


def test_turns_out_of_order_are_read_by_time() -> None:
    assert texts(spoken("world", 2.0), spoken("hello", 1.0)) == ["hello world"]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"max_chars": 0}, "max_chars must be 1 or more, not 0"),
        ({"max_seconds": 0.0}, "max_seconds must be more than 0 s, not 0.0"),
        ({"max_pause": float("nan")}, "max_pause must be more than 0 s, not nan"),
    ],
)
def test_what_makes_no_line_is_refused(params: dict[str, float], words: str) -> None:
    with pytest.raises(FeatureError, match=rf"transcript\.{words}"):
        transcript([], **params)  # type: ignore[arg-type]
