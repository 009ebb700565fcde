"""`embedding` and `mean_embedding`: what pictures show, as vectors of a trained network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.errors import MediaError
from amber_ray.features.backbones import LITE0, load
from amber_ray.features.frames import Frames

if TYPE_CHECKING:
    import torch

CPU_CHUNK, GPU_CHUNK = 4, 128
"""Pictures that go through the network at once: on a CPU, no more than its cache holds."""


@feature(version="1", per="segment", num_gpus=0.25, gpu="preferred", batch=8)
class Embedding:
    """The vector of each frame before the classifier of an ImageNet network: float32[t, d].

    `backbone`: efficientnet_lite0 (d = 1280; its weights are installed) or any classification model of
    torchvision; `weights`: "default", a name of torchvision's weights API, a local file, or "random" (a test
    of the plumbing only: the vectors mean nothing). See `features.backbones.load`. Runs on a GPU where there
    is one.
    """

    def __init__(self, backbone: str = LITE0, weights: str = "default") -> None:
        loaded = load(backbone, weights)
        import torch

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # Channels last: depthwise convolutions run several times faster so, on CPUs and GPUs.
        self._network = loaded.network.to(memory_format=torch.channels_last).to(self._device)
        self._embed = loaded.embed
        self._prepare = loaded.prepare
        self._chunk = GPU_CHUNK if self._device.type == "cuda" else CPU_CHUNK
        self._provenance = f"{self._device.type}; {backbone}/{loaded.weights}"

    def __call__(self, frames: Frames) -> Float32[np.ndarray, "t d"]:
        """The vectors of one segment's frames."""
        return self.batch([frames])[0]

    def batch(self, frames: list[Frames]) -> list[np.ndarray]:
        """The vectors of several segments: their frames fill the network's batches together."""
        return self.vectors([f.images for f in frames])

    def vectors(self, shown: list[np.ndarray]) -> list[np.ndarray]:
        """The vectors float32[t, d] of each uint8[t, h, w, 3], whose sizes may differ."""
        import torch

        vectors: list[np.ndarray] = []
        waiting: list[torch.Tensor] = []
        chunk = self._chunk  # For this call: it may shrink on the way.
        for images in (some[i : i + chunk] for some in shown for i in range(0, len(some), chunk)):
            waiting.append(self._prepared(images))
            if sum(map(len, waiting)) >= chunk:
                together = torch.cat(waiting)
                vectors.append(self._vectors(together[:chunk]))
                waiting = [together[chunk:]]
        if sum(map(len, waiting)) or not vectors:
            vectors.append(self._vectors(torch.cat(waiting)) if waiting else self._none())
        whole = np.concatenate(vectors)
        ends = np.cumsum([len(some) for some in shown]).tolist()
        return [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def provenance(self) -> str:
        """Where it runs and whose weights: `cpu; efficientnet_lite0/imagenet`."""
        return self._provenance

    def _prepared(self, images: np.ndarray) -> torch.Tensor:
        import torch

        # Copied: values from the object store are read-only, which torch can't be told.
        return self._prepare(torch.from_numpy(images.copy()).permute(0, 3, 1, 2))

    def _vectors(self, prepared: torch.Tensor) -> np.ndarray:
        """Through the network; in halves where the GPU's memory runs out, and in smaller chunks from then."""
        import torch

        try:
            with torch.inference_mode():
                given = prepared.to(self._device, memory_format=torch.channels_last)
                made: np.ndarray = self._embed(given).float().cpu().numpy()
            return made
        except torch.cuda.OutOfMemoryError:
            if len(prepared) == 1:
                raise
        torch.cuda.empty_cache()
        self._chunk = half = max(1, len(prepared) // 2)
        return np.concatenate([self._vectors(part) for part in (prepared[:half], prepared[half:])])

    def _none(self) -> np.ndarray:
        """No vectors, of the right length."""
        return self._vectors(self._prepared(np.zeros((1, 224, 224, 3), np.uint8)))[:0]


@feature(version="1")
def mean_embedding(embedding: list[np.ndarray]) -> Float32[np.ndarray, " d"]:
    """The direction in which an asset's frames point on the whole: the mean of their vectors, of length 1.

    Raises `MediaError` for an asset without a single frame.
    """
    frames = np.concatenate(embedding) if embedding else np.zeros((0, 1), np.float32)
    if not len(frames):
        raise MediaError("mean_embedding needs at least one frame; this asset has none at the rate asked for")
    return direction(frames)


def direction(vectors: np.ndarray) -> np.ndarray:
    """The mean of float32[t, d], of length 1: float32[d]. What points nowhere stays 0."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    return np.asarray(mean / length if length else mean, np.float32)
