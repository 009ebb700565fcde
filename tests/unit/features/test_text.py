"""`text_lines`, `text` and `shot_text`: words at known places and times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from amber_ray.core.model.units import Asset, segments
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features import text as text_module
from amber_ray.features.shots import Shot
from amber_ray.features.text import ShotText, ShotTextReader, TextLine, TextReader, text
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.samples import clip
from tests.media import catalogue, found, tone, write_picture, write_sound, write_video


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader()


def written(words: str, x: int, y: int, colour: Any = (250, 250, 250)) -> np.ndarray:
    """A dark picture of 480x270 with words whose upper left corner is at x, y."""
    image = Image.new("RGB", (480, 270), (30, 40, 60))
    ImageDraw.Draw(image).text((x, y), words, fill=colour, font=ImageFont.load_default(size=32))
    return np.asarray(image)


@pytest.fixture(scope="module")
def titles(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    """Four seconds: nothing, "Amber" for two, nothing."""
    folder = tmp_path_factory.mktemp("titles")
    shown = [written("", 0, 0)] * 12 + [written("Amber", 200, 100)] * 24 + [written("", 0, 0)] * 12
    return catalogue(folder).add(str(write_video(folder / "titles.mp4", shown, fps=12, gop=12)))


def read(reader: TextReader, asset: Asset, seconds: float = 60.0, **params: Any) -> list[list[TextLine]]:
    """Each segment's lines, which must fit their declared type."""
    returns = TextReader.__amber__.returns  # type: ignore[attr-defined]
    return [returns.check(reader(s, **params)) for s in segments(asset, seconds)]


def test_a_line_is_read_where_and_when_it_is_shown(reader: TextReader, titles: Asset) -> None:
    (lines,) = read(reader, titles)
    assert [(line.text, line.time) for line in lines] == [("Amber", 1.0), ("Amber", 2.0)]
    for line in lines:
        assert line.score > 0.8
        # Drawn from x 200, y 100 on; letters of 32 pixels.
        assert (line.left, line.top) == pytest.approx((200 / 480, 106 / 270), abs=0.04)
        assert (line.right, line.bottom) == pytest.approx((300 / 480, 134 / 270), abs=0.06)


def test_the_grid_and_the_size_change_no_words(reader: TextReader, titles: Asset) -> None:
    whole = read(reader, titles)[0]
    parts = [line for lines in read(reader, titles, 1.5) for line in lines]
    assert [(line.text, line.time) for line in parts] == [(line.text, line.time) for line in whole]
    assert [line.text for line in read(reader, titles, size=240)[0]] == ["Amber", "Amber"]


def test_the_film_project_is_named_in_the_shipped_clip(reader: TextReader, tmp_path: Path) -> None:
    bunny = Catalogue(str(tmp_path), Locator([str(clip().parent)])).add(str(clip()))
    (segment,) = (s for s in segments(bunny, 2.0) if s.start == 22.0)
    shot = Shot(15.75, 23.0416, 378, 553, 0.99)
    found = text([shot], [reader(segment)])
    assert [f.text.replace(" ", "") for f in found] == ["THEPEACHOPENMOVIEPROJECT", "PRESENTS"]
    assert (found[0].shot, found[0].start) == (0, 22.0)


def test_text_on_a_photograph_and_none_on_noise(reader: TextReader, tmp_path: Path) -> None:
    folder = catalogue(tmp_path)
    photo = folder.add(str(write_picture(tmp_path / "sign.png", written("Sortie 7", 20, 30, (255, 240, 10)))))
    ((line,),) = read(reader, photo)
    assert (line.text.replace(" ", ""), line.time) == ("Sortie7", 0.0)
    noise = np.random.default_rng(1).integers(0, 255, (270, 480, 3), np.uint8)
    assert read(reader, folder.add(str(write_picture(tmp_path / "noise.png", noise)))) == [[]]
    song = folder.add(str(write_sound(tmp_path / "song.mp3", tone(1.0))))
    with pytest.raises(MediaError, match=r"'song\.mp3' has no pictures, only sound"):
        read(reader, song)


@pytest.mark.parametrize(
    ("params", "name"), [({"fps": 0}, "fps"), ({"size": 10}, "size"), ({"min_score": 1.0}, "min_score")]
)
def test_senseless_parameters_are_refused(
    reader: TextReader, titles: Asset, params: dict[str, Any], name: str
) -> None:
    with pytest.raises(FeatureError, match=rf"text_lines\.{name} must be"):
        read(reader, titles, **params)


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "WEIGHTS", {"ch_PP-OCRv4_det_infer.onnx": "0" * 64})
    with pytest.raises(FeatureError, match="has other weights than this version of text stands for"):
        TextReader()


def line(time: float, words: str, top: float = 0.1, score: float = 0.9, left: float = 0.1) -> TextLine:
    return TextLine(time, words, left, top, left + 0.4, top + 0.1, score)


def test_a_line_counts_once_in_a_shot() -> None:
    shots = [Shot(0.0, 4.0, 0, 96, 0.9), Shot(5.0, 9.0, 120, 216, 1.0)]
    seen = [
        [line(1.0, "GOOD MORNlNG", score=0.81), line(1.0, "sub title", top=0.8), line(2.0, "GOOD MORNING")],
        [line(3.0, "Good moming", score=0.85), line(4.5, "late"), line(5.0, "GOOD MORNING")],
    ]
    found: list[ShotText] = text.__amber__.returns.check(text(shots, seen))
    assert [(f.shot, f.text, f.start, f.end) for f in found] == [
        (0, "GOOD MORNING", 1.0, 3.0),
        (0, "sub title", 1.0, 1.0),
        (0, "late", 4.5, 4.5),  # Between the shots.
        (1, "GOOD MORNING", 5.0, 5.0),
    ]
    assert found[0].score == 0.9


def test_the_same_words_in_another_place_are_another_line() -> None:
    shots = [Shot(0.0, 4.0, 0, 96, 1.0)]
    assert len(text(shots, [[line(1.0, "EXIT"), line(1.0, "EXIT", top=0.6)]])) == 2
    assert text(shots, []) == []


# --- shot_text


@pytest.fixture(scope="module")
def shot_reader() -> ShotTextReader:
    return ShotTextReader()


def test_a_shot_says_what_is_written_in_it_once(shot_reader: ShotTextReader, titles: Asset) -> None:
    # "Amber" stands from 1 s to before 3 s; whole seconds are read, and the middle of a short shot.
    bounds = 0.0, 0.75, 1.0, 1.25, 1.5, 3.0, 4.0
    shots = [checked(shot_reader(window)) for window in found(titles, *bounds)]
    assert [[(f.text, f.start, f.end) for f in lines] for lines in shots] == [
        [],
        [],  # its middle
        [("Amber", 1.0, 1.0)],
        [("Amber", 16 / 12, 16 / 12)],  # the picture on screen in its middle
        [("Amber", 2.0, 2.0)],
        [],
    ]
    [(whole,)] = [checked(shot_reader(window)) for window in found(titles, 0.5, 4.0)]
    assert (whole.text, whole.start, whole.end) == ("Amber", 1.0, 2.0)
    assert (whole.left, whole.top) == pytest.approx((200 / 480, 106 / 270), abs=0.04)
    assert shot_reader.provenance() == "cpu; pp-ocrv4/rapidocr"


def checked(value: Any) -> Any:
    return ShotTextReader.__amber__.returns.check(value)  # type: ignore[attr-defined]


def test_a_still_is_read_as_one_shot(shot_reader: ShotTextReader, tmp_path: Path) -> None:
    photo = catalogue(tmp_path).add(str(write_picture(tmp_path / "sign.png", written("Sortie", 20, 30))))
    [line] = checked(shot_reader(segments(photo, 60.0)[0]))
    assert (line.text, line.start, line.end) == ("Sortie", 0.0, 0.0)


@pytest.mark.parametrize(
    ("params", "name"), [({"fps": 0}, "fps"), ({"size": 10}, "size"), ({"min_score": 1.0}, "min_score")]
)
def test_senseless_parameters_of_a_shot_are_refused(
    shot_reader: ShotTextReader, titles: Asset, params: dict[str, Any], name: str
) -> None:
    with pytest.raises(FeatureError, match=rf"shot_text\.{name} must be"):
        shot_reader(segments(titles, 60.0)[0], **params)
