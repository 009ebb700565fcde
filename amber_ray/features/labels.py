"""`labels`: what an ImageNet network calls each frame, read from the vectors that `embedding` made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from amber_ray.core.declare.feature import feature
from amber_ray.errors import FeatureError
from amber_ray.features.backbones import LITE0, classifier, load

CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Label:
    """A class of ImageNet-1k: its usual English name, its number (0 to 999), and the score (0 to 1)."""

    name: str
    number: int
    score: float


@feature(version="1", per="segment")
class Labels:
    """For each frame its `top` likeliest classes of ImageNet-1k, likeliest first; the clock is `frame_times`.

    The classifier of the network behind `embedding` is applied to its vectors, so no network runs a second
    time. The scores are the softmax over all 1000 classes: how the network divides its belief among them,
    also where a picture shows none of them; equal scores stand in the order of the numbers. Names are those
    of torchvision's weights (Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015).

    `backbone` and `weights` are those of `embedding`, see `features.backbones.load`: whoever changes
    `embedding.backbone` changes `labels.backbone` too. Vectors of another length are refused.
    """

    def __init__(self, backbone: str = LITE0, weights: str = "default") -> None:
        loaded = load(backbone, weights)
        head = classifier(loaded.network, backbone)
        self._weight = head.weight.detach().numpy().copy()
        self._bias = head.bias.detach().numpy().copy()
        self._names = names()
        self._backbone = backbone
        self._provenance = f"cpu; {backbone}/{loaded.weights}"

    def __call__(self, embedding: Float32[np.ndarray, "t d"], top: int = 5) -> list[list[Label]]:
        """The labels of one segment's frames."""
        if not 1 <= top <= CLASSES:
            raise FeatureError(f"labels.top must be 1 to {CLASSES}, not {top}")
        width = self._weight.shape[1]
        if embedding.shape[1] != width:
            raise FeatureError(
                f"labels.backbone {self._backbone!r} reads vectors of {width} numbers, not of "
                f"{embedding.shape[1]}: give embedding.backbone and labels.backbone the same network"
            )
        logits = (embedding @ self._weight.T + self._bias).astype(np.float64)
        belief = np.exp(logits - logits.max(axis=1, keepdims=True))
        belief /= belief.sum(axis=1, keepdims=True)
        best = np.argsort(-belief, axis=1, kind="stable")[:, :top]
        return [
            [Label(self._names[i], int(i), float(row[i])) for i in chosen]
            for row, chosen in zip(belief, best, strict=True)
        ]

    def provenance(self) -> str:
        """Whose weights: `cpu; efficientnet_lite0/imagenet`."""
        return self._provenance


def names() -> tuple[str, ...]:
    """The 1000 classes of ImageNet-1k in the order of their numbers.

    They are in torchvision's description of its published weights: nothing is downloaded. EfficientNet-Lite0
    counts its classes in the same order.
    """
    from torchvision.models import EfficientNet_B0_Weights

    return tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])
