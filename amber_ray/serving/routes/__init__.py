"""The HTTP contract, path by path: each handler is declared with its OpenAPI operation.

`PATHS` is the whole of it, but for the page.
"""

from __future__ import annotations

from amber_ray.serving.routes import assets, compute, features, health, requests, values
from amber_ray.serving.routes.endpoint import Path

# The router tries paths in order: the two hot ones are first.
PATHS: list[Path] = [
    *compute.PATHS,
    *values.PATHS,
    *requests.PATHS,
    *assets.PATHS,
    *features.PATHS,
    *health.PATHS,
]
