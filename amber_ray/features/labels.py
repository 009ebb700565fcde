"""`labels` and `shot_labels`: what an ImageNet network calls each frame, and each shot.

They are read from the vectors that `embedding` and `shot_sample_embedding` made.
"""

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
        return self.likeliest(self.belief(embedding, "labels", "embedding"), top, "labels")

    def provenance(self) -> str:
        """Whose weights: `cpu; efficientnet_lite0/imagenet`."""
        return self._provenance

    def belief(self, vectors: np.ndarray, feature: str, source: str) -> np.ndarray:
        """The softmax over all classes of each of float32[t, d]: float64[t, 1000].

        Raises `FeatureError` for vectors of `source` that this network, of `feature`, did not make.
        """
        width = self._weight.shape[1]
        if vectors.shape[1] != width:
            raise FeatureError(
                f"{feature}.backbone {self._backbone!r} reads vectors of {width} numbers, not of "
                f"{vectors.shape[1]}: give {source}.backbone and {feature}.backbone the same network"
            )
        logits = (vectors @ self._weight.T + self._bias).astype(np.float64)
        belief = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(belief / belief.sum(axis=1, keepdims=True))

    def likeliest(self, belief: np.ndarray, top: int, feature: str) -> list[list[Label]]:
        """The `top` labels of each row of `belief`. Raises `FeatureError` for a `top` that can't be."""
        if not 1 <= top <= CLASSES:
            raise FeatureError(f"{feature}.top must be 1 to {CLASSES}, not {top}")
        best = np.argsort(-belief, axis=1, kind="stable")[:, :top]
        return [
            [Label(self._names[i], int(i), float(row[i])) for i in chosen]
            for row, chosen in zip(belief, best, strict=True)
        ]


@feature(version="1", per="shots", batch=64)
class ShotLabels:
    """The `top` likeliest classes of ImageNet-1k for a shot, likeliest first.

    A score is the mean of those that `labels` would give the shot's pictures (`shot_sample`), so what is
    seen all along comes before what is seen for a moment. `backbone` and `weights` as those of `labels`; they
    are those of `shot_sample_embedding`.
    """

    def __init__(self, backbone: str = LITE0, weights: str = "default") -> None:
        self._labels = Labels(backbone, weights)

    def __call__(self, shot_sample_embedding: Float32[np.ndarray, "t d"], top: int = 5) -> list[Label]:
        """The labels of one shot."""
        return self.batch([shot_sample_embedding], top)[0]

    def batch(self, shot_sample_embedding: list[np.ndarray], top: int = 5) -> list[list[Label]]:
        """The labels of several shots."""
        belief = [
            self._labels.belief(vectors, "shot_labels", "shot_sample_embedding").mean(axis=0)
            for vectors in shot_sample_embedding
        ]
        return self._labels.likeliest(np.stack(belief), top, "shot_labels")

    def provenance(self) -> str:
        """Whose weights: `cpu; efficientnet_lite0/imagenet`."""
        return self._labels.provenance()


def names() -> tuple[str, ...]:
    """The 1000 classes of ImageNet-1k in the order of their numbers.

    They are in torchvision's description of its published weights: nothing is downloaded. EfficientNet-Lite0
    counts its classes in the same order.
    """
    from torchvision.models import EfficientNet_B0_Weights

    return tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])
