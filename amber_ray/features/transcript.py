"""`transcript`: the words of an asset as lines that one can read: sentences, cut where they are long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amber_ray.core.declare.feature import feature
from amber_ray.errors import FeatureError
from amber_ray.features.words import Word

ABBREVIATIONS = frozenset({"mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "jr.", "sr.", "vs.", "no.", "etc."})
"""Words with a full stop that ends no sentence."""

COMMA, PAUSE = 0.3, 1.0
"""What a comma, and each second of silence, is worth as a place to cut a long sentence: shares of its length
by which the cut may be off the middle."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is said from `start` to `end`, in seconds; `probability` is the mean of its words'."""

    start: float
    end: float
    text: str
    probability: float


@feature(version="1")
def transcript(
    words: list[list[Word]], max_chars: int = 84, max_seconds: float = 7.0, max_pause: float = 1.0
) -> list[Line]:
    """What is said in an asset, in lines by time: `amber get transcript FILE --format vtt` makes subtitles.

    A line ends with its sentence, and where nobody speaks for `max_pause` seconds. A sentence of more than
    `max_chars` characters or `max_seconds` is several lines, cut at commas, pauses, or about its middle. The
    defaults are two rows of 42 characters, and 7 s, as broadcasters ask of subtitles. An asset without sound
    has none (`MediaError`); one without speech has an empty list.
    """
    if max_chars < 1:
        raise FeatureError(f"transcript.max_chars must be 1 or more, not {max_chars}")
    for name, seconds in (("max_seconds", max_seconds), ("max_pause", max_pause)):
        if not seconds > 0:
            raise FeatureError(f"transcript.{name} must be more than 0 s, not {seconds}")
    said = sorted((word for turn in words for word in turn), key=lambda word: (word.start, word.end))
    return [
        _line(part)
        for sentence in _sentences(said, max_pause)
        for part in _parts(sentence, max_chars, max_seconds)
    ]


def _sentences(said: list[Word], max_pause: float) -> Iterator[list[Word]]:
    """The words of each sentence, or of what is said between two pauses."""
    sentence: list[Word] = []
    for word in said:
        if sentence and (_ends(sentence[-1]) or word.start - sentence[-1].end >= max_pause):
            yield sentence
            sentence = []
        sentence.append(word)
    if sentence:
        yield sentence


def _ends(word: Word) -> bool:
    text = word.text.rstrip("\"'”’)]")
    return text.endswith((".", "?", "!", "…")) and text.lower() not in ABBREVIATIONS


def _parts(words: list[Word], max_chars: int, max_seconds: float) -> list[list[Word]]:
    """The words of each line of a sentence."""
    fits = len(_text(words)) <= max_chars and words[-1].end - words[0].start <= max_seconds
    if fits or len(words) == 1:
        return [words]
    whole = len(_text(words))

    def cost(at: int) -> float:
        """How much longer one side is than the other; less at a comma and in a pause."""
        before, after = words[at - 1], words[at]
        uneven = abs(whole - 2 * len(_text(words[:at]))) / whole
        comma = COMMA if before.text.endswith((",", ";", ":")) else 0.0
        return uneven - comma - PAUSE * max(0.0, after.start - before.end)

    at = min(range(1, len(words)), key=cost)
    return [part for side in (words[:at], words[at:]) for part in _parts(side, max_chars, max_seconds)]


def _line(words: list[Word]) -> Line:
    end = max(word.end for word in words)
    return Line(words[0].start, end, _text(words), sum(word.probability for word in words) / len(words))


def _text(words: list[Word]) -> str:
    return " ".join(word.text for word in words)
