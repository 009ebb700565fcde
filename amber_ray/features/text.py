"""`text_lines` and `text`: what is written on the screen, when and where.

`text_lines` reads pictures of each segment, side by side on many workers; `text` says, for each shot, which
lines it shows, so that another detector or threshold of `shots` reads nothing again.
"""

from __future__ import annotations

import bisect
import difflib
from dataclasses import dataclass, replace
from typing import Any

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Clip
from amber_ray.errors import FeatureError
from amber_ray.features.shots import Shot
from amber_ray.features.weights import packaged
from amber_ray.media.decode import pictures, window
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
        if not 0 < fps <= 120:
            raise FeatureError(f"text_lines.fps must be above 0 and at most 120, not {fps}")
        if not 64 <= size <= 8192:
            raise FeatureError(f"text_lines.size must be 64 to 8192 pixels, not {size}")
        if not 0 <= min_score < 1:
            raise FeatureError(f"text_lines.min_score must be from 0 to below 1, not {min_score}")
        start, end = window(clip)
        return [
            line
            for picture in pictures(clip.asset, start, end, fps=fps, size=longer_side(size, enlarge=False))
            for line in self._lines(picture.time, picture.rgb, min_score)
        ]

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
    found: list[list[ShotText]] = [[] for _ in range(max(1, len(shots)))]
    for line in (line for segment in text_lines for line in segment):
        shot = max(0, bisect.bisect_right(begins, line.time) - 1)
        lines = found[shot]
        known = next((i for i, f in enumerate(lines) if _same(f, line)), None)
        if known is None:
            lines.append(_first(shot, line))
        elif line.score > lines[known].score:
            lines[known] = replace(_first(shot, line), start=lines[known].start)
        else:
            lines[known] = replace(lines[known], end=line.time)
    return [f for lines in found for f in sorted(lines, key=lambda f: (f.start, f.top, f.left))]


def _first(shot: int, line: TextLine) -> ShotText:
    box = (line.left, line.top, line.right, line.bottom)
    return ShotText(shot, line.text, line.time, line.time, *box, line.score)


def _same(known: ShotText, line: TextLine) -> bool:
    """Whether a reading is of a line that is known: in about the same place, in about the same words."""
    if _overlap(known, line) < OVERLAP:
        return False
    return difflib.SequenceMatcher(None, known.text.casefold(), line.text.casefold()).ratio() >= ALIKE


def _overlap(a: ShotText, b: TextLine) -> float:
    """Intersection over union of two boxes."""
    across = max(0.0, min(a.right, b.right) - max(a.left, b.left))
    down = max(0.0, min(a.bottom, b.bottom) - max(a.top, b.top))
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (a, b)]
    common = across * down
    whole = sum(areas) - common
    return common / whole if whole else 0.0
