"""`amber_ray.testing`: what a test of a feature sees is what a caller of a server would."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float32

from amber_ray import Asset, Clip, Collection, RetryLater, errors, feature
from amber_ray.features.frames import Frames
from amber_ray.testing import asset, run, write_picture, write_sound, write_video
from tests.media import BLUE, GREEN, RED, flat, shown, tone


@feature(per="segment")
def redness(frames: Frames) -> float:
    red, green, blue = frames.images.reshape(-1, 3).mean(axis=0) / 255
    return float(red - (green + blue) / 2)


@feature
def reddest(redness: list[float], floor: float = -1.0) -> int | None:
    best = max(range(len(redness)), key=redness.__getitem__)
    return best if redness[best] > floor else None


@feature(per="collection")
def redder(redness: list[list[float]]) -> list[float]:
    return [max(of) for of in redness]


@dataclass
class Told:
    first: float
    vector: Float32[np.ndarray, " n"]


@feature(batch=3)
class Teller:
    """Tells with how many others it was called, and how often by then."""

    def __init__(self, scale: int = 1) -> None:
        self.scale, self.calls = scale, 0

    def __call__(self, redness: list[float], weight: int = 1) -> Told:
        return self.batch([redness], weight)[0]

    def batch(self, redness: list[list[float]], weight: int = 1) -> list[Told]:
        self.calls += 1
        told = 10.0 * self.calls + len(redness)
        return [Told(told, np.full(len(of), self.scale * weight, np.float32)) for of in redness]


@feature
def told_twice(teller: Told) -> float:
    return float(teller.vector.sum() * 2)


@feature
def spoils(redness: list[float], teller: Told) -> float:
    redness.clear()
    teller.vector[0] = 9
    return 0.0


@feature
def raises(asset: Asset) -> int:
    raise ZeroDivisionError("not today")


@feature
def after(raises: int) -> int:
    return raises


@feature
def wrong(asset: Asset) -> int:
    return "text"  # type: ignore[return-value]


class Meeting:
    """A room in which calls wait until so many are there: an answer proves that they ran side by side."""

    def __init__(self) -> None:
        self.there = asyncio.Barrier(3)


@feature(per="segment", concurrency=3, timeout=20)
class Caller:
    def __init__(self) -> None:
        self.meeting = Meeting()

    async def __call__(self, redness: float) -> float:
        await self.meeting.there.wait()
        return redness


@feature
def called(caller: list[float]) -> int:
    return len(caller)


@feature(timeout=0.01)
async def too_slow(asset: Asset) -> int:
    await asyncio.sleep(20)
    return 1


@feature
async def busy(asset: Asset) -> int:
    raise RetryLater(7, "the service is busy")


@feature
def on_busy(busy: int) -> int:
    return busy


@feature
def stands_on_nothing(nobody: int) -> int:
    return nobody


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of blue, two of red, two of green."""
    return write_video(
        tmp_path / "clip.mp4", [flat(c) for c in (BLUE, RED, GREEN) for _ in range(24)], fps=12
    )


def test_a_feature_runs_on_a_file_with_all_that_it_is_made_from(clip: Path) -> None:
    values = run(redness, clip, segment_seconds=2)
    assert values == pytest.approx([-0.5, 1.0, -0.5], abs=0.05)
    assert run(redness, clip, segment_seconds=2, range=(2, 3)) == [values[1]]
    assert run(reddest, clip, segment_seconds=2) == 1
    assert run(reddest, clip, segment_seconds=2, params={"reddest.floor": 2.0}) is None
    assert run(reddest, [clip], segment_seconds=2) == [1]
    assert run("brightness", str(clip), params={"frames.fps": 1})[0].shape == (6,)


def test_several_files_and_collections(clip: Path, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "red.png", flat(RED))
    assert run(redness, [clip, picture]) == [[pytest.approx(0, abs=0.05)], [pytest.approx(1.0, abs=0.02)]]
    assert sorted(run(redder, [clip, picture])) == [pytest.approx(0, abs=0.05), pytest.approx(1.0, abs=0.02)]


def test_given_inputs_need_no_media() -> None:
    assert run(redness, given={"frames": shown(flat(RED), flat(BLUE))}) == pytest.approx(0.25, abs=0.01)
    assert run(reddest, given={redness: [0.1, 0.5, 0.2]}) == 1
    assert run(redder, given={"redness": [[0.1, 0.5], [0.2]]}) == [0.5, 0.2]
    assert run(told_twice, given={"teller": Told(1.0, np.ones(3, np.float32))}) == 6.0
    assert run(stands_on_nothing, given={"nobody": 4}) == 4


def test_a_class_is_made_once_and_runs_in_batches(clip: Path, tmp_path: Path) -> None:
    clips = [clip, *(write_video(tmp_path / f"{i}.mp4", [flat(RED)] * (i + 1)) for i in range(3))]
    params = {"teller.scale": 2, "teller.weight": 3}
    values = run(Teller, clips, params=params)
    assert [v.vector.tolist() for v in values] == [[6.0]] * 4
    assert [v.first for v in values] == [13.0, 13.0, 13.0, 21.0]
    assert type(values[0]) is Told
    assert run(told_twice, clip, params=params) == 12.0


def test_calls_of_services_run_side_by_side(clip: Path) -> None:
    assert run(Caller, clip, segment_seconds=2) == run(redness, clip, segment_seconds=2)
    assert run(called, clip, segment_seconds=2) == 3
    with pytest.raises(errors.StepTimeout, match=r"ran past its timeout of 0\.01 s"):
        run(too_slow, clip)
    for asking in (busy, on_busy):
        with pytest.raises(RetryLater, match="the service is busy") as caught:
            run(asking, clip)
        assert caught.value.seconds == 7


def test_a_test_may_have_an_event_loop_itself(clip: Path) -> None:
    async def story() -> None:
        assert run(called, clip, segment_seconds=2) == 3

    asyncio.run(story())


def test_inputs_are_copies_and_read_only(clip: Path) -> None:
    given = [0.1, 0.2]
    with pytest.raises(errors.FeatureError, match="wrote into an array that is read-only"):
        run(spoils, given={"redness": given, "teller": Told(1.0, np.zeros(2, np.float32))})
    assert given == [0.1, 0.2]
    with pytest.raises(errors.FeatureError, match="read-only"):
        run(spoils, clip)
    assert not run(Teller, clip).vector.flags.writeable


def test_a_failure_is_what_a_caller_would_see(clip: Path) -> None:
    for failing in (raises, after):
        with pytest.raises(errors.FeatureError, match="raises: ZeroDivisionError: not today") as caught:
            run(failing, clip)
        assert 'raise ZeroDivisionError("not today")' in "".join(caught.value.__notes__)
    with pytest.raises(errors.FeatureError, match="the value must be int, not str"):
        run(wrong, clip)
    with pytest.raises(errors.MediaNotFound):
        run(redness, clip.with_name("nowhere.mp4"))
    with pytest.raises(errors.Unsuitable, match="no pictures, only sound"):
        run(redness, write_sound(clip.with_name("song.wav"), tone(0.5)))


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (
            lambda clip: run(redness),
            "'frames' takes 'clip': name a file to run it on.* or give the inputs of 'redness'",
        ),
        (lambda clip: run(stands_on_nothing), "takes 'nobody', which is no feature known here"),
        (lambda clip: run(raises), "takes 'asset': name a file"),
        (lambda clip: run(redness, []), "at least one file"),
        (lambda clip: run(stands_on_nothing, clip), r"takes 'nobody', which is no feature known here"),
        (lambda clip: run("rednes", clip, features=[redness]), "there is no feature 'rednes'.*'redness'"),
        (lambda clip: run(lambda: 1, clip), "is not a feature"),
        (lambda clip: run(redness, given={"frame": 1}), "takes no input 'frame'; its inputs are: frames"),
        (lambda clip: run(redness, given={"frames": 1}), "the given frames must be a Frames, not int"),
        (lambda clip: run(reddest, given={"redness": 1.0}), "the given redness must be a list"),
        (lambda clip: run(reddest, given={"redness": [1.0, "a"]}), r"redness\[1\] must be float, not str"),
        (
            lambda clip: run(redness, clip, given={"frames": shown()}, segment_seconds=2),
            "given inputs are those of one unit, but there are 3",
        ),
        (
            lambda clip: run(spoils, clip, given={"redness": [0.1]}),
            "'redness' is given, but feature 'teller', which would run, is made from it too",
        ),
        (lambda clip: run(redness, clip, params={"redness.x": 1}), "unknown parameter 'redness.x'"),
    ],
)
def test_what_can_not_be_run_is_a_sentence(ask: Any, sentence: str, clip: Path) -> None:
    with pytest.raises((errors.BadRequest, errors.DeclarationError, errors.FeatureError), match=sentence):
        ask(clip)


def test_features_may_be_local_to_a_test_or_come_from_a_file(clip: Path, tmp_path: Path) -> None:
    @feature(per="segment")
    def local(redness: float) -> float:
        return redness * 2

    @feature
    def on_local(local: list[float]) -> float:
        return sum(local)

    doubled = 2 * sum(run(redness, clip, segment_seconds=2))
    assert run(on_local, clip, features=[local], segment_seconds=2) == pytest.approx(doubled)
    path = tmp_path / "mine.py"
    path.write_text(
        "from amber_ray import feature, Asset\n\n"
        "@feature\ndef mine(asset: Asset) -> int:\n    return asset.bytes\n"
    )
    assert run("mine", clip, features=[path]) == clip.stat().st_size


def test_a_feature_can_be_called_as_the_function_that_it_is(clip: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        raises(asset(clip))
    assert asset(clip).duration == pytest.approx(6.0)


def test_segments_see_their_clip_and_limits_hold(clip: Path) -> None:
    from amber_ray.settings import Limits

    @feature
    def spans(clip: Clip) -> list[float]:
        return [clip.start, clip.end]

    @feature
    def names(collection: Collection) -> int:
        return len(collection.assets)

    assert run(spans, clip, segment_seconds=4) == [[0.0, 4.0], [4.0, 6.0]]
    assert run(names, [clip, clip]) == 1
    with pytest.raises(errors.TooLarge, match="at most 3 s"):
        run(spans, clip, limits=Limits(media_seconds=3))


def test_media_are_written_as_they_were_given(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", [flat(RED)] * 24, sound=tone(1.0, decibels=-23.0))
    assert run("loudness", film).integrated == pytest.approx(-23 - 3.0, abs=1.5)
    for pictures, sentence in (
        ([], "at least one picture"),
        ([np.zeros((3, 4, 3), np.uint8)], "even sides, not 4x3"),
        ([np.zeros((4, 4), np.uint8)], r"not uint8\[4, 4\]"),
        ([np.zeros((4, 4, 3))], r"not float64\[4, 4, 3\]"),
    ):
        with pytest.raises(errors.BadRequest, match=sentence):
            write_video(tmp_path / "none.mp4", pictures)


def test_ray_is_not_imported(tmp_path: Path) -> None:
    script = """
import sys
from dataclasses import dataclass
import numpy as np
from amber_ray import feature
from amber_ray.testing import run, write_video
from amber_ray.features.frames import Frames

@feature(batch=2, per="segment")
class Mean:
    def __call__(self, frames: Frames) -> float:
        return self.batch([frames])[0]
    def batch(self, frames: list[Frames]) -> list[float]:
        return [float(f.images.mean()) for f in frames]

def local():
    @dataclass
    class Here:
        value: float

    @feature
    def here(mean: list[float]) -> list[Here]:
        return [Here(value) for value in mean]

    assert run(here, clip) == [Here(0.0)]

clip = write_video(sys.argv[1], [np.zeros((48, 64, 3), np.uint8)] * 12)
print(run(Mean, clip))
local()
print({"ray", "torch"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.mp4")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[0.0]\nset()\n"
