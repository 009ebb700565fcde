"""The overview of a clip: each finding is drawn at its time, in its lane."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from amber_ray.cli.overview import KINDS, MARGIN, NAMES, SKY, TEAL, WIDTH, overview


def values(**more: Any) -> dict[str, Any]:
    """Ten seconds in two shots."""
    shots = [{"start": 0.0, "end": 4.0}, {"start": 4.0, "end": 10.0}]
    return {"timeline": {"end": 10.0}, "shots": shots, **more}


def drawn(found: dict[str, Any]) -> np.ndarray:
    image = Image.open(io.BytesIO(overview(found, "clip.mp4")))
    assert image.format == "PNG"
    assert image.width == WIDTH
    return np.asarray(image)


def seconds_of(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """When a colour first and last shows right of the names, on a clip of ten seconds."""
    columns = np.flatnonzero((picture[:, NAMES:] == colour).all(axis=2).any(axis=0))
    scale = (WIDTH - NAMES - MARGIN) / 10
    return round(float(columns[0]) / scale, 1), round(float(columns[-1] + 1) / scale, 1)


def test_ranges_lie_at_their_times() -> None:
    picture = drawn(values(speech=[{"start": 2.0, "end": 5.0}]))
    assert seconds_of(picture, SKY) == (2.0, 5.0)
    music = drawn(values(sound_events=[{"kind": "music", "start": 6.0, "end": 7.5}]))
    assert seconds_of(music, KINDS["music"]) == (6.0, 7.5)


def test_faces_lie_at_their_frames() -> None:
    part = {"times": np.array([0.0, 3.0, 8.0]), "frame": np.array([1, 1])}
    assert seconds_of(drawn(values(faces=[part])), TEAL) == (3.0, 3.2)


def test_lanes_without_values_take_no_room_and_all_lanes_are_drawn() -> None:
    few = drawn(values())
    times = [np.arange(20) / 2]
    label = [{"name": "tabby", "score": 0.9}]
    many = drawn(
        values(
            scenes=[{"start": 0.0, "end": 10.0}],
            brightness=[np.linspace(0, 1, 20)],
            motion=[np.zeros(20)],
            frame_times=times,
            spectrogram=[
                {"levels": np.random.default_rng(1).random((1000, 64)), "times": np.arange(1000) / 100}
            ],
            text=[{"start": 1.0, "end": 2.0, "text": "THE PEACH OPEN MOVIE PROJECT"}],
            labels=[[label] * 20],
        )
    )
    assert many.shape[0] > few.shape[0] + 200


def test_a_still_and_a_film_of_hours_have_an_axis() -> None:
    still = {"timeline": {"end": 0.0}, "shots": [{"start": 0.0, "end": 0.0}]}
    assert drawn(still).shape[1] == WIDTH
    assert drawn({**still, "timeline": {"end": 90_000.0}}).shape[1] == WIDTH
