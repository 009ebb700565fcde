"""`labels` and `sharpness`: sane names on pictures that anyone can judge, exact numbers on made ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image, ImageFilter

from amber_ray.errors import FeatureError
from amber_ray.features import backbones
from amber_ray.features.embedding import Embedding
from amber_ray.features.labels import Label, Labels, names
from amber_ray.features.sharpness import sharpness
from tests.media import shown, textured

torch.set_num_threads(1)
PICTURES = Path(skimage.__file__).parent / "data"


def sample(name: str) -> Image.Image:
    """A picture of scikit-image, at the size of `frames`."""
    image = Image.open(PICTURES / name).convert("RGB")
    scale = 224 / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)))


@pytest.fixture(scope="module")
def model() -> Labels:
    return Labels()


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    """Each sample picture's vector: float32[1, 1280]."""
    network = Embedding()
    return {n: network(shown(sample(n))) for n in ("chelsea.png", "coffee.png", "rocket.jpg")}


@pytest.mark.parametrize(
    ("picture", "right"),
    [
        ("chelsea.png", {"tabby", "tiger cat", "Egyptian cat"}),
        ("coffee.png", {"espresso", "cup", "coffee mug"}),
        ("rocket.jpg", {"missile", "projectile"}),
    ],
)
def test_pictures_are_called_what_they_show(
    model: Labels, vectors: dict[str, np.ndarray], picture: str, right: set[str]
) -> None:
    (found,) = Labels.__amber__.returns.check(model(vectors[picture], top=3))
    assert found[0].name in right
    assert len(found) == 3
    assert [names()[label.number] for label in found] == [label.name for label in found]
    assert [label.score for label in found] == sorted((label.score for label in found), reverse=True)


def test_the_scores_are_those_of_the_whole_network() -> None:
    made = backbones.load("resnet18", "random")
    picture = shown(textured(1, 224, 224), textured(2, 224, 224))
    with torch.inference_mode():
        given = made.prepare(torch.from_numpy(picture.images).permute(0, 3, 1, 2))
        expected = made.network(given).softmax(dim=1).numpy()
    found = Labels("resnet18", "random")(Embedding("resnet18", "random")(picture), top=1000)
    for row, labels in zip(expected, found, strict=True):
        assert {label.number for label in labels} == set(range(1000))
        assert np.allclose(
            [row[label.number] for label in labels], [label.score for label in labels], atol=1e-5
        )
        assert sum(label.score for label in labels) == pytest.approx(1.0)


def test_equal_scores_stand_in_the_order_of_the_numbers(
    model: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_weight", np.zeros((1000, 2), np.float32))
    monkeypatch.setattr(model, "_bias", np.float32(0))
    (found,) = model(np.ones((1, 2), np.float32), top=2)
    assert [(label.name, label.number) for label in found] == [("tench", 0), ("goldfish", 1)]
    assert found[0].score == pytest.approx(0.001)


def test_a_segment_without_frames_has_no_labels(model: Labels) -> None:
    assert Labels.__amber__.returns.check(model(np.zeros((0, 1280), np.float32))) == []


def test_vectors_of_another_network_and_odd_counts_are_refused(model: Labels) -> None:
    with pytest.raises(FeatureError, match="reads vectors of 1280 numbers, not of 512"):
        model(np.zeros((1, 512), np.float32))
    for top in (0, 1001):
        with pytest.raises(FeatureError, match=r"labels\.top must be 1 to 1000"):
            model(np.zeros((1, 1280), np.float32), top=top)
    with pytest.raises(FeatureError, match="no linear classifier"):
        Labels("squeezenet1_1", "random")


def test_provenance_names_the_weights(model: Labels) -> None:
    assert model.provenance() == "cpu; efficientnet_lite0/imagenet"
    assert Labels(weights="random").provenance() == "cpu; efficientnet_lite0/random"
    assert isinstance(model(np.zeros((1, 1280), np.float32), top=1)[0][0], Label)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    dot = np.zeros((5, 5, 3), np.uint8)
    # Its Laplacian on the inner 3x3: -400 once, 100 at its four neighbours, 0 at the corners.
    dot[2, 2] = 100
    flat = np.full((5, 5, 3), 90, np.uint8)
    value = sharpness.__amber__.returns.check(sharpness(shown(dot, flat)))
    assert value.dtype == np.float32
    assert value.tolist() == pytest.approx([np.var([-400, 100, 100, 100, 100, 0, 0, 0, 0]), 0.0], abs=0.01)
    assert sharpness(shown(np.zeros((2, 9, 3), np.uint8))).tolist() == [0.0]
    assert sharpness(shown()).shape == (0,)


def test_the_more_a_photograph_is_blurred_the_less_sharp_it_is() -> None:
    cat = sample("chelsea.png")
    series = sharpness(shown(cat, *(cat.filter(ImageFilter.GaussianBlur(r)) for r in (0.5, 1, 2, 4))))
    assert (np.diff(series) < 0).all()
    assert series[0] > 20 * series[-1]
