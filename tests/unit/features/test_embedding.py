"""`embedding` and its networks: real weights, honest provenance, clear words where weights can't be had."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from amber_ray.core.model.units import segments
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features import backbones
from amber_ray.features.embedding import Embedding, mean_embedding
from amber_ray.features.frames import Frames, frames
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.samples import clip
from tests.media import shown, textured

torch.set_num_threads(1)  # As a Ray worker with one CPU; more only get in each other's way on small pictures.


@pytest.fixture(scope="module")
def model() -> Embedding:
    return Embedding()


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    """One picture every 2 s of the shipped clip: 0-5 meadow, 6-7 stream, 8-11 bird, 12-14 tree."""
    store = tmp_path_factory.mktemp("store")
    asset = Catalogue(str(store), Locator([str(clip().parent)])).add(str(clip()))
    return frames(segments(asset, 60.0)[0], fps=0.5)  # type: ignore[no-any-return]


def some(count: int, height: int = 48, width: int = 64) -> Frames:
    return shown(*(textured(i, width, height) for i in range(count)))


def test_pictures_of_one_shot_are_nearer_than_those_of_others(model: Embedding, shots: Frames) -> None:
    vectors = Embedding.__amber__.returns.check(model(shots))
    assert (vectors.dtype, vectors.shape) == (np.float32, (15, 1280))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit.T
    shot_of = np.array([0] * 6 + [1] * 2 + [2] * 4 + [3] * 3)
    same = shot_of[:, None] == shot_of[None]
    lit = np.arange(15) > 0  # The first picture is black.
    both = lit[:, None] & lit[None] & ~np.eye(15, dtype=bool)
    assert alike[same & both].mean() > alike[~same & both].mean() + 0.2
    # Each picture's nearest is of its own shot.
    nearest = np.where(both, alike, -1)[1:].argmax(axis=1)
    assert (shot_of[nearest] == shot_of[1:]).all()


def test_the_default_weights_know_a_bird(model: Embedding, shots: Frames) -> None:
    # The vectors are what the network's own classifier reads; birds are classes 7-24, 80-100 and 127-146.
    vectors = torch.from_numpy(model(Frames(shots.times[8:11], shots.images[8:11], shots.pairs[8:11])))
    with torch.inference_mode():
        classes = model._network._fc.cpu()(vectors).mean(0).topk(3).indices.tolist()
    birds = {*range(7, 25), *range(80, 101), *range(127, 147)}
    assert set(classes) & birds


def test_a_batch_equals_single_calls_whatever_its_shape(model: Embedding) -> None:
    given = [some(3), some(0), some(6, 96, 64), some(1)]
    together = model.batch(given)
    assert [len(v) for v in together] == [3, 0, 6, 1]
    for one, value in zip(given, together, strict=True):
        assert np.allclose(model(one), value, atol=1e-4)
    assert [v.shape for v in model.batch([some(0), some(0)])] == [(0, 1280), (0, 1280)]
    assert model.batch([]) == []


def test_read_only_pictures_are_taken(model: Embedding, recwarn: pytest.WarningsRecorder) -> None:
    given = some(2)
    given.images.setflags(write=False)
    assert model(given).shape == (2, 1280)
    assert not [w for w in recwarn if "writable" in str(w.message)]


def test_provenance_names_device_network_and_weights(model: Embedding) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert model.provenance() == f"{device}; efficientnet_lite0/imagenet"
    assert Embedding(weights="random").provenance() == f"{device}; efficientnet_lite0/random"


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    one = Embedding(weights="random")
    assert torch.rand(1).item() == expected
    assert np.array_equal(one(some(2)), Embedding(weights="random")(some(2)))


@pytest.mark.parametrize(
    ("backbone", "width"), [("resnet18", 512), ("mobilenet_v3_small", 1024), ("shufflenet_v2_x0_5", 1024)]
)
def test_any_backbone_of_torchvision(backbone: str, width: int) -> None:
    made = Embedding(backbone, "random")
    assert made(some(2)).shape == (2, width)
    assert made.provenance().endswith(f"; {backbone}/random")


def test_the_vector_is_what_the_classifier_is_given() -> None:
    made = backbones.load("resnet18", "random")
    images = made.prepare(torch.from_numpy(some(2).images).permute(0, 3, 1, 2))
    assert images.shape == (2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(made.network.fc(made.embed(images)), made.network(images), atol=1e-5)  # type: ignore


def test_the_default_network_is_given_what_it_was_trained_on() -> None:
    # (x - 127) / 128, of the middle square, at 224 pixels.
    made = backbones.load("efficientnet_lite0", "random")
    picture = np.zeros((3, 100, 300), np.uint8)
    picture[:, :, 100:200] = np.array([127, 255, 63])[:, None, None]
    given = made.prepare(torch.from_numpy(picture)[None])
    assert given.shape == (1, 3, 224, 224)
    assert torch.allclose(given[0, :, 112, 112], torch.tensor([0.0, 1.0, -0.5]), atol=1e-5)
    assert torch.allclose(given[0, :, 0, 112], given[0, :, 112, 112], atol=1e-5)


def test_weights_from_a_local_file(tmp_path: Path) -> None:
    network = torchvision.models.get_model("resnet18", weights=None)
    path = tmp_path / "mine.pth"
    torch.save(network.state_dict(), path)
    made = backbones.load("resnet18", str(path))
    assert torch.equal(made.network.fc.weight, network.fc.weight)  # type: ignore[union-attr]
    assert made.weights.startswith("sha256:")
    digest = made.weights.removeprefix("sha256:")
    assert backbones.load("resnet18", f"{path}#sha256={digest}").weights == made.weights
    with pytest.raises(FeatureError, match="do not have the SHA-256 0000"):
        backbones.load("resnet18", f"{path}#sha256=0000")
    with pytest.raises(FeatureError, match="do not fit the backbone 'resnet34'"):
        backbones.load("resnet34", str(path))
    with pytest.raises(FeatureError, match="do not fit the backbone 'efficientnet_lite0'"):
        backbones.load("efficientnet_lite0", str(path))


def test_a_file_that_is_no_weights_is_told_like_one_that_is_absent(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "text.pth").write_text("text")
    (tmp_path / "folder.pth").mkdir()
    words = set()
    for name in ("evil", "text", "folder", "absent"):
        path = str(tmp_path / f"{name}.pth")
        with pytest.raises(FeatureError) as caught:
            backbones.load("resnet18", path)
        words.add(str(caught.value).replace(path, ""))
    assert len(words) == 1
    assert not (tmp_path / "ran").exists()


def test_weights_that_can_not_be_downloaded_name_the_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(FeatureError) as caught:
        Embedding("resnet18")
    told = str(caught.value)
    for way in ("resnet18-f37072fd.pth", "TORCH_HOME", "local file", "efficientnet_lite0", "'random'"):
        assert way in told


def test_published_weights_come_by_torchvisions_own_api(monkeypatch: pytest.MonkeyPatch) -> None:
    network = torchvision.models.get_model("resnet18", weights=None)
    asked = []

    def stored(url: str, *_: object, **options: object) -> dict[str, torch.Tensor]:
        asked.append((url, options["check_hash"]))
        return network.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", stored)
    made = backbones.load("resnet18", "default")
    assert made.weights == "IMAGENET1K_V1"
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", True)]
    assert torch.equal(made.network.fc.weight, network.fc.weight)  # type: ignore[union-attr]


def test_changed_default_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "LITE0_SHA256", "0" * 64)
    with pytest.raises(FeatureError, match="SHA-256"):
        backbones.load("efficientnet_lite0", "default")


@pytest.mark.parametrize(
    ("backbone", "weights", "words"),
    [
        ("resnet9000", "default", "no backbone 'resnet9000'"),
        ("fcn_resnet50", "random", "no backbone"),
        ("resnet18", "IMAGENET21K", "use IMAGENET1K_V1, 'random' or a .pth file"),
        ("efficientnet_lite0", "IMAGENET1K_V1", "use 'default', 'random' or a .pth file"),
        ("squeezenet1_1", "random", "no linear classifier"),
    ],
)
def test_unknown_networks_and_weights_are_told(backbone: str, weights: str, words: str) -> None:
    with pytest.raises(FeatureError, match=words):
        Embedding(backbone, weights)


def test_gpu_memory_that_runs_out_halves_the_chunk(model: Embedding, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = model(some(4))
    real, sizes = model._embed, []

    def small(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return real(batch)

    monkeypatch.setattr(model, "_embed", small)
    monkeypatch.setattr(model, "_chunk", 4)
    assert np.allclose(model(some(4)), expected, atol=1e-4)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]


def test_mean_embedding_is_of_length_1_and_counts_every_frame() -> None:
    a, b = np.array([[2.0, 0.0], [2.0, 0.0]], np.float32), np.array([[0.0, 4.0]], np.float32)
    value = mean_embedding.__amber__.returns.check(mean_embedding([a, b, np.zeros((0, 2), np.float32)]))
    assert value.dtype == np.float32
    assert value.tolist() == pytest.approx([2**-0.5, 2**-0.5])
    assert mean_embedding([np.zeros((1, 2), np.float32)]).tolist() == [0.0, 0.0]
    for nothing in ([], [np.zeros((0, 2), np.float32)]):
        with pytest.raises(MediaError, match="at least one frame"):
            mean_embedding(nothing)
