"""Subtitles: texts from a time to a time as WebVTT and SubRip."""

from __future__ import annotations

from typing import Any

import pytest

from amber_ray.cli.files import Writer
from amber_ray.cli.subtitles import Cue, encoded
from amber_ray.cli.values import Types
from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Asset, EachRange, Segment
from amber_ray.errors import BadRequest
from amber_ray.features import BUILTINS
from amber_ray.features.transcript import Line
from amber_ray.features.words import Word

ASSET = Asset("a" * 32, "/films/a.mp4", "video/mp4", 1, 4000.0)


def vtt(*cues: Cue) -> str:
    return encoded(cues, "vtt").decode()


def srt(*cues: Cue) -> str:
    return encoded(cues, "srt").decode()


def test_both_forms_of_two_cues() -> None:
    cues = Cue(0.5, 2.25, "Hello."), Cue(3661.0004, 3662.9996, "An hour later")
    assert vtt(*cues) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.250\nHello.\n\n01:01:01.000 --> 01:01:03.000\nAn hour later\n"
    )
    assert srt(*cues) == (
        "1\n00:00:00,500 --> 00:00:02,250\nHello.\n\n2\n01:01:01,000 --> 01:01:03,000\nAn hour later\n"
    )


def test_more_hours_than_two_digits_have() -> None:
    assert "100:00:00.000 --> 100:00:01.000" in vtt(Cue(360_000.0, 360_001.0, "x"))


def test_what_means_something_in_the_format_is_escaped() -> None:
    assert vtt(Cue(0, 1, "a <b> & --> 'c'")).endswith("a &lt;b&gt; &amp; --&gt; 'c'\n")
    assert srt(Cue(0, 1, "a <b> & --> c")).endswith("a <b> & -> c\n")


def test_overlapping_cues_stay_and_one_without_length_is_seen() -> None:
    text = vtt(Cue(1.0, 3.0, "x"), Cue(2.0, 2.0, "y"))
    assert "00:00:01.000 --> 00:00:03.000\nx" in text
    assert "00:00:02.000 --> 00:00:02.001\ny" in text


def test_no_cues_are_a_file_all_the_same() -> None:
    assert vtt() == "WEBVTT\n"
    assert srt() == ""


def test_long_texts_are_rows_of_about_one_length_and_long_words_stay_whole() -> None:
    text = "He was not an ill-disposed young man, unless to be so is to be"
    rows = vtt(Cue(0, 1, text)).splitlines()[3:]
    assert rows == ["He was not an ill-disposed young", "man, unless to be so is to be"]
    assert vtt(Cue(0, 1, "x" * 60)).splitlines()[3:] == ["x" * 60]


# By the command's writer


@pytest.fixture(scope="module")
def types() -> Types:
    return Types(Registry.from_modules(BUILTINS).info())


def row(feature: str, value: Any, unit: Any = ASSET, asset: str = "a.mp4", **more: Any) -> Row:
    return Row(feature, asset, unit, "k" * 8, "ready", value, **more)


def files(types: Types, format: str, *rows: Row) -> dict[str, str]:
    return {name: content().decode() for name, content in Writer(types, format)._files(Results(rows))}


def test_each_asset_and_feature_is_a_file(types: Types) -> None:
    lines = [Line(1.0, 2.0, "One.", 0.9)]
    found = files(
        types,
        "srt",
        row("transcript", lines),
        row("transcript", [{"start": 5.0, "end": 6.0, "text": "Two.", "probability": 1.0}], asset="b.mp4"),
        row("transcript", [], asset="c.mp4"),
    )
    assert list(found) == ["a.transcript.srt", "b.transcript.srt", "c.transcript.srt"]
    assert found["a.transcript.srt"] == "1\n00:00:01,000 --> 00:00:02,000\nOne.\n"
    assert "Two." in found["b.transcript.srt"]
    assert found["c.transcript.srt"] == ""


def test_what_is_said_window_by_window_is_one_file_by_time(types: Types) -> None:
    turns = [Segment(ASSET, 5_000_000, 1_000_000, found=True), Segment(ASSET, 0, 1_000_000, found=True)]
    words = [Word(5.0, 5.5, "late", 0.9)], [Word(0.0, 0.5, " ", 0.9), Word(0.25, 0.5, "soon", 0.9)]
    failed = row("words", None, failure=Failure("feature", "FeatureError", "no", "words", "k", ""))
    found = files(types, "vtt", *(row("words", w, t) for w, t in zip(words, turns, strict=True)), failed)
    assert [line for line in found["a.words.vtt"].splitlines() if line.isalpha()] == [
        "WEBVTT",
        "soon",
        "late",
    ]


def test_where_nothing_was_found_the_file_is_empty(types: Types) -> None:
    assert files(types, "vtt", row("words", None, EachRange(ASSET, "speech", "k", 60_000_000))) == {
        "a.words.vtt": "WEBVTT\n"
    }


@pytest.mark.parametrize("feature", ["shots", "loudness", "brightness", "faces", "speech"])
def test_features_that_say_nothing_are_refused_before_any_is_computed(types: Types, feature: str) -> None:
    with pytest.raises(BadRequest, match=f"lists with start, end and text, .*; {feature} is none of them"):
        Writer(types, "vtt").check(["transcript", feature])
    Writer(types, "json").check([feature])


def test_stdout_takes_the_subtitles_of_one_asset(types: Types) -> None:
    writer = Writer(types, "vtt")
    two = Results([row("transcript", []), row("transcript", [], asset="b.mp4")])
    with pytest.raises(BadRequest, match="stdout takes one asset's subtitles, not 2: give --out FOLDER"):
        writer.encoded(two)
