"""Every built-in feature on media that is out of the ordinary: a value, or a refusal that says why."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.request import AssetRef, ComputeRequest
from amber_ray.core.model.units import EachRange
from amber_ray.features import BUILTINS
from tests.media import flat, textured, tone, write_picture, write_sound, write_video

pytestmark = pytest.mark.timeout(400)

LISTENS = {
    "loudness",
    "spectrogram",
    "waveform",
    "speech_probability",
    "speech",
    "sound_probability",
    "sound_events",
}
HEARD = {*LISTENS, "turn_level", "words", "transcript", "shot_speech"}
"""What needs sound, the last one pictures too; `EITHER` takes what there is, and everything else pictures."""

EITHER = {"probe", "proxy_parts", "proxy"}

OF_SETS = {"match_cuts", "match_sheet", "duplicate_assets"}


def moving(count: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """A pattern that drifts to the right."""
    wide = textured(7, width + 8 * count, height)
    return [np.ascontiguousarray(wide[:, 4 * i : 4 * i + width]) for i in range(count)]


def films(folder: Path) -> dict[str, Path]:
    """Films, all of them two seconds long but for the one that is a single picture."""
    sound, lossless = tone(2.0), {"codec": "ffv1", "options": {}}
    odd = [p[:49, :65].copy() for p in moving(24, 96, 56)]
    uneven = [0, 40, 80, 500, 520, 1300, 1310, 1990]
    return {
        "rotated": write_video(folder / "rotated.mp4", moving(24), fps=12, rotation=90, sound=sound),
        "uneven": write_video(
            folder / "uneven.mkv", moving(8), time_base=Fraction(1, 1000), stamp=lambda i: uneven[i]
        ),
        "odd": write_video(folder / "odd.mkv", odd, fps=12, pixels="yuv444p", sound=sound, **lossless),
        "deep": write_video(folder / "deep.mkv", moving(24), fps=12, pixels="yuv420p10le", **lossless),
        "single": write_video(folder / "single.mp4", [flat((90, 120, 30))], fps=25),
    }


def stills(folder: Path) -> dict[str, Path]:
    picture = textured(3, 120, 90)
    return {
        "jpeg": write_picture(folder / "photo.jpg", picture, orientation=6),
        "png": write_picture(folder / "photo.png", picture[..., :1].repeat(3, 2)),
        "webp": write_picture(folder / "photo.webp", picture),
    }


def sounds(folder: Path) -> dict[str, Path]:
    sound = tone(2.0)
    return {
        "wav": write_sound(folder / "tone.wav", sound, channels=2),
        "mp3": write_sound(folder / "tone.mp3", sound, rate=44_100),
        "flac": write_sound(folder / "tone.flac", sound),
        "opus": write_sound(folder / "tone.webm", sound),
        "short": write_sound(folder / "blip.wav", tone(0.5)),
    }


@pytest.fixture
def answers(amber: Any, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """By file and feature: the value, or the failure's message. Asked for in one request."""
    files = {**films(tmp_path), **stills(tmp_path), **sounds(tmp_path)}
    names = sorted({s.name for s in Registry.from_modules(BUILTINS) if s.store != "never"} - OF_SETS)
    found: dict[str, dict[str, Any]] = {name: {} for name in files}

    async def story() -> None:
        async with amber(features=(), builtins=True) as engine:
            asked = ComputeRequest(tuple(names), tuple(AssetRef(uri=str(p)) for p in files.values()))
            view = await engine.compute(asked, 300)
            assert view.state == "done", view
            found_none = {r.key for r in view.results if isinstance(r.unit, EachRange) and r.failure is None}
            ready = [r.key for r in view.results if r.failure is None and r.key not in found_none]
            values = dict(zip(ready, await engine.load(ready), strict=True))
            of = {path.name: name for name, path in files.items()}
            for result in view.results:
                assert result.asset is not None
                mine = found[of[Path(result.asset.uri).name]]
                if result.key in found_none:
                    mine[result.feature] = []
                elif result.failure is None:
                    mine[result.feature] = values[result.key].value
                else:
                    mine[result.feature] = result.failure.message

    asyncio.run(asyncio.wait_for(story(), 350))
    return found


def test_every_feature_answers_for_every_kind_of_file(answers: dict[str, dict[str, Any]]) -> None:
    seen = set(answers["jpeg"]) - HEARD - EITHER | {"shot_speech"}
    for name, found in answers.items():
        failed = {feature for feature, value in found.items() if isinstance(value, str)}
        if name in ("rotated", "odd"):
            assert failed == set(), (name, found)
        elif name in ("uneven", "deep", "single", "jpeg", "png", "webp"):
            assert failed == HEARD, (name, failed ^ HEARD, found)
            assert all("needs sound" in found[feature] for feature in HEARD), found
        else:
            assert failed == seen, (name, failed ^ seen)
            assert all("has no pictures, only sound" in found[feature] for feature in seen), found
    # What the numbers say, where they are known.
    assert answers["uneven"]["timeline"].times.tolist() == [0.0, 0.04, 0.08, 0.5, 0.52, 1.3, 1.31, 1.99]
    assert answers["odd"]["probe"].streams[0].width == 65
    assert answers["deep"]["probe"].streams[0].pixel_format == "yuv420p10le"
    assert (answers["rotated"]["probe"].width, answers["rotated"]["probe"].height) == (64, 96)
    assert [len(answers[n]["shots"]) for n in ("single", "jpeg", "png", "webp")] == [1, 1, 1, 1]
    for name in ("wav", "mp3", "flac", "opus"):
        # 997 Hz at -20 dBFS; the same in two channels is twice the power.
        expected = -20.0 if name == "wav" else -23.0
        assert answers[name]["loudness"].integrated == pytest.approx(expected, abs=0.8)
        assert answers[name]["speech"] == []
