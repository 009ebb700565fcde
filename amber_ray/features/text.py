"""`text_lines`, `text` and `shot_text`: what is written on the screen, when and where.

`text_lines` reads pictures of each segment, side by side on many workers; `text` says, for each shot, which
lines it shows, so that another detector or threshold of `shots` reads nothing again. `shot_text` reads the
pictures of each shot by itself. `text` is not made from it: it has what is written between two shots as well,
and is had from `text_lines` for every threshold at the price of one.
"""

from __future__ import annotations

import bisect
import difflib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Clip
from amber_ray.errors import FeatureError
from amber_ray.features.shots import Shot, picture_in_the_middle
from amber_ray.features.weights import packaged
from amber_ray.media.decode import pictures, window
from amber_ray.media.looks import Picture
from amber_ray.media.scale import longer_side

THREADS = 1
"""Of onnxruntime: one for each CPU that the feature asks for."""

WEIGHTS = {
    "ch_PP-OCRv4_det_infer.onnx": "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    "ch_PP-OCRv4_rec_infer.onnx": "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
}
"""The networks in rapidocr-onnxruntime 1.4.4, PP-OCR v4: they find lines, read them, turn them upright."""

ALIKE, OVERLAP = 0.8, 0.5
"""Two readings are one line if their words are that much alike (Ratcliff and Obershelp's measure) and their
boxes overlap by that much (intersection over union)."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text in one picture, `time` in seconds.

    `left`, `top`, `right` and `bottom` bound it, as shares of the upright picture's width and height: 0 to 1
    from the upper left corner. `score` is how sure its reading is, 0 to 1.
    """

    time: float
    text: str
    left: float
    top: float
    right: float
    bottom: float
    score: float


@dataclass(frozen=True, slots=True)
class WrittenLine:
    """A line of text: `start` and `end`, in seconds, are when it was first and last read.

    Text, box and score are those of the surest reading; the box as in `TextLine`.
    """

    text: str
    start: float
    end: float
    left: float
    top: float
    right: float
    bottom: float
    score: float


@dataclass(frozen=True, slots=True)
class ShotText:
    """A line of text in a shot.

    `shot` is its index in `shots`, `start` and `end` when it was first and last read, in seconds. Text, box
    and score are those of the surest reading.
    """

    shot: int
    text: str
    start: float
    end: float
    left: float
    top: float
    right: float
    bottom: float
    score: float


@feature(name="text_lines", version="3", per="segment", num_cpus=THREADS)
class TextReader:
    """The lines of text in pictures of a segment, one each second, by PP-OCR v4 (Latin script and Chinese).

    Du et al., "PP-OCR: A Practical Ultra Lightweight OCR System", 2020, and its later versions, as packaged
    by RapidOCR. Lines a hundredth of the picture's height are too small.
    """

    def __init__(self) -> None:
        for file, digest in WEIGHTS.items():
            packaged("text", "rapidocr-onnxruntime", "rapidocr_onnxruntime", f"models/{file}", digest)
        try:
            from rapidocr_onnxruntime import RapidOCR
        except ImportError as error:
            raise FeatureError(f"text needs {error.name}: pip install 'amber-ray[models]'") from error
        self._read = RapidOCR(intra_op_num_threads=THREADS, inter_op_num_threads=THREADS)

    def __call__(
        self, clip: Clip, fps: float = 1.0, size: int = 1280, min_score: float = 0.8
    ) -> list[TextLine]:
        """The lines of one segment, in the order of time, and from top to bottom in a picture.

        `fps`: pictures a second that are read; `size`: their longer side in pixels, at most; `min_score`:
        readings that are less sure, from 0 to 1, are left out.
        """
        _check("text_lines", fps, size, min_score)
        return self.lines(_sampled(clip, fps, size), min_score)

    def lines(self, shown: Iterable[Picture], min_score: float) -> list[TextLine]:
        """The lines of pictures, in their order, and from top to bottom in each."""
        return [line for picture in shown for line in self._lines(picture.time, picture.rgb, min_score)]

    def provenance(self) -> str:
        """Where it runs and whose weights: `cpu; pp-ocrv4/rapidocr`."""
        return "cpu; pp-ocrv4/rapidocr"

    def _lines(self, time: float, rgb: Any, min_score: float) -> list[TextLine]:
        """The lines of one picture, uint8[h, w, 3]."""
        height, width = rgb.shape[:2]
        found, _ = self._read(rgb[..., ::-1])  # It takes blue, green, red.
        lines = []
        for corners, words, score in found or ():
            if float(score) < min_score or not words.strip():
                continue
            across, down = [c[0] / width for c in corners], [c[1] / height for c in corners]
            left, top, right, bottom = (
                min(1.0, max(0.0, float(edge))) for edge in (min(across), min(down), max(across), max(down))
            )
            lines.append(TextLine(time, words.strip(), left, top, right, bottom, float(score)))
        return sorted(lines, key=lambda line: (line.top, line.left))


@feature(version="1")
def text(shots: list[Shot], text_lines: list[list[TextLine]]) -> list[ShotText]:
    """The text on screen in each shot: every line once, in the order of shots, time, and down the picture.

    Readings of one line in several pictures of a shot count as one. A line in a gradual transition, which
    is of no shot, counts to the shot before it.
    """
    begins = [s.start for s in shots]
    found: list[list[TextLine]] = [[] for _ in range(max(1, len(shots)))]
    for line in (line for segment in text_lines for line in segment):
        found[max(0, bisect.bisect_right(begins, line.time) - 1)].append(line)
    return [
        ShotText(shot, f.text, f.start, f.end, f.left, f.top, f.right, f.bottom, f.score)
        for shot, lines in enumerate(found)
        for f in _once(lines)
    ]


@feature(name="shot_text", version="1", per="shots", num_cpus=THREADS)
class ShotTextReader:
    """The text on screen in a shot: every line once, in the order of time, and down the picture.

    Read as by `text_lines`, in the shot's own pictures, one each second. A shot that lies between two of
    those is read in its middle, where `shot_picture` is. Readings of one line in several pictures count once.
    """

    def __init__(self) -> None:
        self._reader = TextReader()

    def __call__(
        self, clip: Clip, fps: float = 1.0, size: int = 1280, min_score: float = 0.8
    ) -> list[WrittenLine]:
        """The lines of one shot; parameters as those of `text_lines`."""
        _check("shot_text", fps, size, min_score)
        shown = iter(_sampled(clip, fps, size))
        first = next(shown, None)
        if first is None:
            first = picture_in_the_middle(clip, longer_side(size, enlarge=False))
        return _once(self._reader.lines(itertools.chain([first], shown), min_score))

    def provenance(self) -> str:
        """Where it runs and whose weights: `cpu; pp-ocrv4/rapidocr`."""
        return self._reader.provenance()


def _check(feature: str, fps: float, size: int, min_score: float) -> None:
    """Raise `FeatureError` for parameters that can't be."""
    if not 0 < fps <= 120:
        raise FeatureError(f"{feature}.fps must be above 0 and at most 120, not {fps}")
    if not 64 <= size <= 8192:
        raise FeatureError(f"{feature}.size must be 64 to 8192 pixels, not {size}")
    if not 0 <= min_score < 1:
        raise FeatureError(f"{feature}.min_score must be from 0 to below 1, not {min_score}")


def _sampled(clip: Clip, fps: float, size: int) -> Iterable[Picture]:
    """The pictures of a window that are read."""
    start, end = window(clip)
    return pictures(clip.asset, start, end, fps=fps, size=longer_side(size, enlarge=False))


def _once(lines: Iterable[TextLine]) -> list[WrittenLine]:
    """Each line once, by when it was first read and down the picture, from readings in the order of time."""
    found: list[WrittenLine] = []
    for line in lines:
        known = next((i for i, f in enumerate(found) if _same(f, line)), None)
        if known is None:
            found.append(_first(line))
        elif line.score > found[known].score:
            found[known] = replace(_first(line), start=found[known].start)
        else:
            found[known] = replace(found[known], end=line.time)
    return sorted(found, key=lambda f: (f.start, f.top, f.left))


def _first(line: TextLine) -> WrittenLine:
    box = (line.left, line.top, line.right, line.bottom)
    return WrittenLine(line.text, line.time, line.time, *box, line.score)


def _same(known: WrittenLine, line: TextLine) -> bool:
    """Whether a reading is of a line that is known: in about the same place, in about the same words."""
    if _overlap(known, line) < OVERLAP:
        return False
    return difflib.SequenceMatcher(None, known.text.casefold(), line.text.casefold()).ratio() >= ALIKE


def _overlap(a: WrittenLine, b: TextLine) -> float:
    """Intersection over union of two boxes."""
    across = max(0.0, min(a.right, b.right) - max(a.left, b.left))
    down = max(0.0, min(a.bottom, b.bottom) - max(a.top, b.top))
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (a, b)]
    common = across * down
    whole = sum(areas) - common
    return common / whole if whole else 0.0
