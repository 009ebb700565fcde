"""Amber on Ray: a media feature store that computes on demand.

    import amber_ray as amber

    @amber.feature(version="1")
    def title(asset: amber.Asset) -> str: ...

    with amber.connect() as client:
        client.get("thumbnail", "clip.mp4")

The rooms, each of which lists its modules. A room imports only from those above it:

    errors     every error, with its HTTP status
    settings   one frozen `Settings`, built once at each entry point
    samples    two clips of a film, for a first run
    core       pure: features declared, requests planned, and the ledger, which decides what happens
    store      values and assets in Parquet, the journal of accepted requests
    wire       what travels over HTTP, as the server and the client read and write it
    media      which media may be read, what it is, how it is decoded
    features   the built-in features
    fabric     Amber in a Ray cluster: workers, shards, engines
    serving    the HTTP app, and its deployment on Ray Serve
    client     `connect`: how Python programs ask
    testing    runs a feature in a test, without Ray
    cli        the command `amber`

`docs/architecture.md` follows one request through the files.

Names load their modules when first used; importing this loads neither ray, torch nor pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amber_ray import errors
    from amber_ray.client import (
        AsyncClient,
        AsyncFuture,
        Client,
        Future,
        Progress,
        Registration,
        Results,
        Row,
        aconnect,
        connect,
    )
    from amber_ray.core.declare.calls import RetryLater
    from amber_ray.core.declare.feature import FeatureSpec, feature
    from amber_ray.core.declare.registry import Registry
    from amber_ray.core.model.request import (
        AssetRef,
        ComputeRequest,
        ExplainedStep,
        Failure,
        Priority,
        RequestView,
        Result,
    )
    from amber_ray.core.model.service import FeatureInfo, Service
    from amber_ray.core.model.units import Asset, Clip, Collection, Segment, Stream
    from amber_ray.core.values.annotations import Jpeg, MediaType, Png
    from amber_ray.errors import AmberError
    from amber_ray.settings import Limits, Settings

_HOMES = {
    "amber_ray.client": (
        "AsyncClient",
        "AsyncFuture",
        "Client",
        "Future",
        "Progress",
        "Registration",
        "Results",
        "Row",
        "aconnect",
        "connect",
    ),
    "amber_ray.core.declare.calls": ("RetryLater",),
    "amber_ray.core.declare.feature": ("FeatureSpec", "feature"),
    "amber_ray.core.declare.registry": ("Registry",),
    "amber_ray.core.model.request": (
        "AssetRef",
        "ComputeRequest",
        "ExplainedStep",
        "Failure",
        "Priority",
        "RequestView",
        "Result",
    ),
    "amber_ray.core.model.service": ("FeatureInfo", "Service"),
    "amber_ray.core.values.annotations": ("Jpeg", "MediaType", "Png"),
    "amber_ray.core.model.units": ("Asset", "Clip", "Collection", "Segment", "Stream"),
    "amber_ray.errors": ("AmberError",),
    "amber_ray.settings": ("Limits", "Settings"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AmberError",
    "Asset",
    "AssetRef",
    "AsyncClient",
    "AsyncFuture",
    "Client",
    "Clip",
    "Collection",
    "ComputeRequest",
    "ExplainedStep",
    "Failure",
    "FeatureInfo",
    "FeatureSpec",
    "Future",
    "Jpeg",
    "Limits",
    "MediaType",
    "Png",
    "Priority",
    "Progress",
    "Registration",
    "Registry",
    "RequestView",
    "Result",
    "Results",
    "RetryLater",
    "Row",
    "Segment",
    "Service",
    "Settings",
    "Stream",
    "aconnect",
    "connect",
    "errors",
    "feature",
]


def __getattr__(name: str) -> Any:
    """A public name, loaded when first used."""
    if name == "errors":
        return import_module("amber_ray.errors")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'amber_ray' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
