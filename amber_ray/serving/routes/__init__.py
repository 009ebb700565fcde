"""The HTTP contract, path by path: each handler is declared with its OpenAPI operation.

    compute     POST /v1/compute and /v1/explain
    values      GET /v1/values/{key}, and its lineage; POST /v1/values, which gives many; DELETE purges
    requests    GET /v1/requests, by pages; GET and DELETE /v1/requests/{id}, and its events
    assets      GET /v1/assets, by pages, and POST: by URI or as an upload; an asset's values
    media       GET /v1/assets/{id}/media, its bytes; POST .../media/link, for players
    features    GET /v1/features, /v1/features/{name} and /v1/versions
    deliveries  GET /v1/deliveries, and POST /v1/deliveries/{id}/replay: callbacks
    demands     GET /v1/demands; PUT, GET and DELETE /v1/demands/{name}
    events      POST /v1/events: what has happened to media
    audit       GET /v1/audit: who changed what
    registry    POST /v1/registry: features as source text, where the server takes any
    health      GET /healthz, /readyz, /metrics, /v1/stats and /v1/failures
    page        GET /, /docs and /openapi.json
    endpoint    what all of them are made with: `Path`, and `described`, which declares a handler

`PATHS` is the whole of it, but for the pages.
"""

from __future__ import annotations

from amber_ray.serving.routes import (
    assets,
    audit,
    compute,
    deliveries,
    demands,
    events,
    features,
    health,
    media,
    registry,
    requests,
    values,
)
from amber_ray.serving.routes.endpoint import Path

# The router tries paths in order: the two hot ones are first.
PATHS: list[Path] = [
    *compute.PATHS,
    *values.PATHS,
    *requests.PATHS,
    *assets.PATHS,
    *media.PATHS,
    *features.PATHS,
    *deliveries.PATHS,
    *demands.PATHS,
    *events.PATHS,
    *audit.PATHS,
    *registry.PATHS,
    *health.PATHS,
]
