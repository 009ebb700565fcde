"""A GPU's decoder gives the pictures that the CPU gives, or the CPU decodes. The GPU here is a double.

It decodes by the CPU and hands pictures out as NVDEC's come: in two planes, from a context of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.plan import Planner
from amber_ray.errors import MediaError
from amber_ray.fabric.transport.messages import Work
from amber_ray.fabric.worker import tasks
from amber_ray.features.frames import frames
from amber_ray.media import bounds, nvdec
from amber_ray.media.decode import pictures, pictures_at
from amber_ray.media.scale import exactly
from amber_ray.settings import Limits
from tests.media import catalogue, write_differing
from tests.unit.media.test_coded import CODECS

SIZE = exactly(48, 32)
FPS = 24
ASKED: dict[str, Callable[[Asset], Iterator[Any]]] = {
    "slots and pairs": lambda a: pictures(a, fps=2.0, size=SIZE, pair=SIZE),
    "a span": lambda a: pictures(a, 1.3, 2.9, size=SIZE, lead=True),
    "moments": lambda a: pictures_at(a, [0.0, 0.51, 2.2, 3.99], SIZE),
}


class Double:
    """Stands for FFmpeg's context of a decoder on the GPU."""

    def __init__(self, codec: str) -> None:
        self.extradata: bytes | None = None
        self.options: dict[str, str] = {}
        self._codec = "libdav1d" if codec == "av1" else codec
        self._cpu: Any = None
        self.given = 0

    def decode(self, packet: Any) -> list[Any]:
        if self._cpu is None:
            self._cpu = av.CodecContext.create(self._codec, "r")
            self._cpu.extradata, self._cpu.thread_count = self.extradata, 1
        shown = [self.shown(frame.reformat(format="nv12")) for frame in self._cpu.decode(packet)]
        self.given += len(shown)
        return shown

    def shown(self, frame: Any) -> Any:
        return frame

    def flush_buffers(self) -> None:
        if self._cpu is not None:
            self._cpu.flush_buffers()


class Darker(Double):
    """Rounds otherwise than the CPU."""

    def shown(self, frame: Any) -> Any:
        samples = frame.to_ndarray()
        other = av.VideoFrame.from_ndarray(samples ^ 1, format="nv12")
        other.pts, other.time_base = frame.pts, frame.time_base
        return other


class GivesUp(Double):
    """Fails after some pictures."""

    def decode(self, packet: Any) -> list[Any]:
        if self.given > 20:
            raise av.error.ExternalError(1, "the GPU is gone")
        return super().decode(packet)


@pytest.fixture(scope="module", params=["H.264", "H.264 after start codes", "HEVC", "MPEG-2", "AV1"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds in which no two pictures are alike, a key picture every second."""
    return write_differing(tmp_path_factory.mktemp("nvdec"), CODECS[request.param], FPS)


@pytest.fixture
def asset(path: Path) -> Asset:
    return catalogue(path.parent).add(str(path))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    return lambda kind: monkeypatch.setattr(nvdec, "create", kind)


def shown(asset: Asset, what: str, gpu: bool) -> tuple[Any, bool]:
    """What is given for a question, and whether the GPU's pictures were."""
    with bounds.within(Limits(), threads=2, gpu=gpu) as decoding:
        try:
            found: Any = [
                (p.time, p.rgb.tobytes(), b"" if p.pair is None else p.pair.tobytes())
                for p in ASKED[what](asset)
            ]
        except MediaError as error:
            found = str(error)
    return found, decoding.nvdec


@pytest.mark.parametrize("what", ASKED)
def test_a_gpu_gives_what_the_cpu_gives(
    what: str, asset: Asset, gpu: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gpu(Double)
    right, _ = shown(asset, what, gpu=False)
    found, by_gpu = shown(asset, what, gpu=True)
    assert found == right
    exact = asset.streams[0].codec in nvdec.EXACT
    assert by_gpu == exact
    assert ("mpeg2video is not decoded to the bit" in caplog.text) == (not exact)


@pytest.mark.parametrize("what", ASKED)
def test_a_gpu_whose_first_picture_differs_is_not_used(
    what: str, asset: Asset, gpu: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gpu(Darker)
    assert shown(asset, what, gpu=True) == (shown(asset, what, gpu=False)[0], False)
    if asset.streams[0].codec in nvdec.EXACT:
        assert "film" in caplog.text
        assert "the GPU's first picture is not the CPU's" in caplog.text


def test_where_a_gpu_gives_up_the_cpu_goes_on(
    asset: Asset, gpu: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gpu(GivesUp)
    assert shown(asset, "a span", gpu=True)[0] == shown(asset, "a span", gpu=False)[0]
    if asset.streams[0].codec in nvdec.EXACT:
        assert "is decoded by the CPU: the GPU is gone" in caplog.text


def test_without_a_gpu_the_log_says_why_and_the_cpu_decodes(
    asset: Asset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert shown(asset, "moments", gpu=True) == (shown(asset, "moments", gpu=False)[0], False)
    assert "is decoded by the CPU: " in caplog.text


def test_values_say_that_the_gpu_decoded(asset: Asset, gpu: Any) -> None:
    gpu(Double)
    registry = Registry([frames.__amber__])  # type: ignore[attr-defined]
    planner = Planner(registry, features=["frames"], params={}, segment_seconds=60)
    planner.add_asset(asset)
    steps = tuple(planner.plan().steps.values())
    outputs = frozenset(step.key for step in steps)
    work = Work(1, steps, outputs, {}, {}, 1, 8192, registry.digest, "n", "", gpu=True)
    (made,), _ = tasks.run_steps(registry, work, ())
    exact = asset.streams[0].codec in nvdec.EXACT
    assert made.made.device == ("cpu; nvdec" if exact else "cpu")


def test_an_error_is_the_cpus(path: Path, tmp_path: Path, gpu: Any) -> None:
    gpu(Double)
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 4000):
        data[at] ^= 0xFF
    (tmp_path / path.name).write_bytes(data)
    try:
        asset = catalogue(tmp_path).add(str(tmp_path / path.name))
    except MediaError:
        pytest.skip("refused when it is registered")
    assert shown(asset, "a span", gpu=True)[0] == shown(asset, "a span", gpu=False)[0]
