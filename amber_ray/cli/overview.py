"""One picture of what was found in a clip: lanes under each other, on one axis of time.

Reads values as any client gets them. Must not know: where they came from.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

WIDTH, MARGIN, NAMES = 1280, 12, 104
INK, FAINT, PAPER = (228, 228, 231), (82, 82, 91), (24, 24, 27)
TEAL, AMBER, ROSE, SKY = (45, 212, 191), (245, 158, 11), (244, 114, 182), (56, 189, 248)
KINDS = {"speech": SKY, "singing": ROSE, "music": TEAL}


def overview(values: Mapping[str, Any], title: str) -> bytes:
    """A PNG of the lanes for which `values`, by feature, has something: shots, light, sound, words, faces.

    It needs `timeline` and `shots` at least.
    """
    from PIL import Image, ImageDraw

    end = float(values["timeline"]["end"]) or 1.0
    lanes: list[tuple[str, int]] = [("shots", 92), ("scenes", 18)]
    lanes += [("brightness", 56), ("motion", 56), ("spectrogram", 72), ("sound_events", 44), ("speech", 18)]
    lanes += [("text", 34), ("faces", 18), ("labels", 34)]
    lanes = [(name, height) for name, height in lanes if values.get(name) is not None]
    height = 40 + sum(h + 10 for _, h in lanes) + 24
    image = Image.new("RGB", (WIDTH, height), PAPER)
    pen = _Pen(image, ImageDraw.Draw(image), (WIDTH - NAMES - MARGIN) / end)
    pen.words(MARGIN, 10, title, INK, 16)
    top = 40
    for name, tall in lanes:
        if name != "sound_events":
            pen.words(MARGIN, top + tall // 2 - 8, name, INK, 13)
        _LANES[name](pen, values, top, tall)
        top += tall + 10
    pen.axis(top, end)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


class _Pen:
    """Draws at times, in seconds, along the axis."""

    def __init__(self, image: Image, draw: ImageDraw, scale: float) -> None:
        self.image, self.draw, self._scale = image, draw, scale

    def x(self, seconds: float) -> int:
        return NAMES + round(seconds * self._scale)

    def words(self, x: int, y: int, text: str, colour: tuple[int, int, int] = INK, size: int = 12) -> None:
        from PIL import ImageFont

        self.draw.text((x, y), text, fill=colour, font=ImageFont.load_default(size=size))

    def fits(self, text: str, width: int, size: int = 12) -> str:
        """As much of a text as `width` pixels hold."""
        from PIL import ImageFont

        font = ImageFont.load_default(size=size)
        while text and font.getlength(text) > width:
            text = text[:-1]
        return text

    def bar(self, start: float, end: float, top: int, bottom: int, colour: tuple[int, int, int]) -> None:
        """A range of time, one pixel wide at least."""
        left = self.x(start)
        self.draw.rectangle((left, top, max(left, self.x(end) - 1), bottom), fill=colour)

    def curve(self, times: np.ndarray, heights: np.ndarray, top: int, tall: int, colour: Any) -> None:
        """A line of float[t] from 0 (bottom) to 1 (top)."""
        points = [
            (self.x(t), top + tall - 1 - round(min(1.0, max(0.0, h)) * (tall - 2)))
            for t, h in zip(times.tolist(), heights.tolist(), strict=True)
        ]
        self.draw.rectangle((NAMES, top, WIDTH - MARGIN, top + tall), outline=(39, 39, 42))
        if len(points) > 1:
            self.draw.line(points, fill=colour, width=2)

    def axis(self, top: int, end: float) -> None:
        """Seconds below all lanes."""
        step = next(s for s in (1, 2, 5, 10, 30, 60, 300, 600, 3600, math.inf) if end / s <= 16)
        for n in range(int(end / step) + 1) if step < math.inf else ():
            seconds = int(n * step)
            self.draw.line((self.x(seconds), top, self.x(seconds), top + 4), fill=FAINT)
            self.words(self.x(seconds) + 3, top + 2, f"{seconds // 60}:{seconds % 60:02}", FAINT, 11)


def _shots(pen: _Pen, values: Mapping[str, Any], top: int, tall: int) -> None:
    from PIL import Image

    pictures: Sequence[bytes] = values.get("shot_frames") or ()
    for i, shot in enumerate(values["shots"]):
        left, width = pen.x(shot["start"]), pen.x(shot["end"]) - pen.x(shot["start"]) - 2
        if width < 2:
            continue
        if i < len(pictures):
            picture = Image.open(io.BytesIO(pictures[i])).convert("RGB")
            picture = picture.resize((max(1, round(picture.width * tall / picture.height)), tall))
            middle = max(0, (picture.width - width) // 2)
            pen.image.paste(picture.crop((middle, 0, min(picture.width, middle + width), tall)), (left, top))
        pen.draw.rectangle((left, top, left + width, top + tall), outline=AMBER)
        pen.words(left + 4, top + 2, pen.fits(str(i + 1), width - 4), AMBER, 13)


def _scenes(pen: _Pen, values: Mapping[str, Any], top: int, tall: int) -> None:
    for scene in values["scenes"]:
        pen.bar(scene["start"], scene["end"] - 0.05, top + tall // 2 - 2, top + tall // 2 + 2, FAINT)


def _series(name: str, colour: tuple[int, int, int], most: float) -> Any:
    def draw(pen: _Pen, values: Mapping[str, Any], top: int, tall: int) -> None:
        series = np.concatenate([np.zeros(0), *values[name]])
        times = np.concatenate([np.zeros(0), *values["frame_times"]])
        pen.curve(times, series / max(most, float(series.max(initial=0.0))), top, tall, colour)

    return draw


def _spectrogram(pen: _Pen, values: Mapping[str, Any], top: int, tall: int) -> None:
    from PIL import Image

    levels = np.concatenate([part["levels"] for part in values["spectrogram"]])
    if not len(levels):
        return
    low, high = np.percentile(levels, (5, 99.5))
    shade = np.clip((levels - low) / max(1e-9, high - low), 0, 1)[:, ::-1].T[..., None]
    rgb = (np.array(PAPER) + shade * (np.array(AMBER) - np.array(PAPER))).astype(np.uint8)
    begin, end = values["spectrogram"][0]["times"][0], values["spectrogram"][-1]["times"][-1]
    wide = max(1, pen.x(float(end)) - pen.x(float(begin)))
    pen.image.paste(Image.fromarray(rgb).resize((wide, tall)), (pen.x(float(begin)), top))


def _sound_events(pen: _Pen, values: Mapping[str, Any], top: int, tall: int) -> None:
    each = tall // len(KINDS)
    for row, (kind, colour) in enumerate(KINDS.items()):
        pen.words(MARGIN, top + row * each, f"sound: {kind}", colour, 11)
        for event in values["sound_events"]:
            if event["kind"] == kind:
                pen.bar(
                    event["start"], event["end"], top + row * each + 2, top + (row + 1) * each - 3, colour
                )


def _speech(pen: _Pen, values: Mapping[str, Any], top: int, tall: int) -> None:
    for said in values["speech"]:
        pen.bar(said["start"], said["end"], top + 4, top + tall - 4, SKY)


def _text(pen: _Pen, values: Mapping[str, Any], top: int, tall: int) -> None:
    ends = [0, 0]
    for line in values["text"]:
        left = pen.x(line["start"])
        row = 0 if left >= ends[0] else 1
        if left < ends[row]:
            continue
        text = pen.fits(line["text"], WIDTH - MARGIN - left - 6)
        pen.bar(line["start"], line["end"], top + row * tall // 2, top + row * tall // 2 + 2, ROSE)
        pen.words(left, top + row * tall // 2 + 3, text, INK, 11)
        ends[row] = left + 6 * len(text) + 8


def _faces(pen: _Pen, values: Mapping[str, Any], top: int, tall: int) -> None:
    for part in values["faces"]:
        for frame in part["frame"]:
            at = float(part["times"][int(frame)])
            pen.bar(at, at + 0.2, top + 3, top + tall - 3, TEAL)


def _labels(pen: _Pen, values: Mapping[str, Any], top: int, tall: int) -> None:
    """Each shot's likeliest label: the one with the greatest sum of scores over its frames."""
    times = np.concatenate([np.zeros(0), *values["frame_times"]])
    frames = [frame for segment in values["labels"] for frame in segment]
    for i, shot in enumerate(values["shots"]):
        sums: dict[str, float] = {}
        for at, frame in zip(times.tolist(), frames, strict=True):
            if shot["start"] <= at < shot["end"]:
                for found in frame:
                    sums[found["name"]] = sums.get(found["name"], 0.0) + found["score"]
        width = pen.x(shot["end"]) - pen.x(shot["start"]) - 4
        if sums and width > 20:
            best = max(sums, key=lambda name: sums[name])
            pen.words(pen.x(shot["start"]) + 2, top + i % 2 * (tall // 2), pen.fits(best, width), TEAL, 12)


_LANES: dict[str, Any] = {
    "shots": _shots,
    "scenes": _scenes,
    "brightness": _series("brightness", AMBER, 1.0),
    "motion": _series("motion", ROSE, 0.05),
    "spectrogram": _spectrogram,
    "sound_events": _sound_events,
    "speech": _speech,
    "text": _text,
    "faces": _faces,
    "labels": _labels,
}
