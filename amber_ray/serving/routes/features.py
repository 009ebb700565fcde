"""`GET /v1/features`, `/v1/features/{name}` and `/v1/versions`: what is registered, and what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from amber_ray.core.model.service import FeatureInfo
from amber_ray.core.model.trust import Scope
from amber_ray.errors import UnknownFeature, did_you_mean
from amber_ray.serving.answers import json_response
from amber_ray.serving.app_context import AppContext
from amber_ray.serving.described.parts import STRING, Part, answer, json, listing
from amber_ray.serving.described.schemas import EXAMPLES, ref
from amber_ray.serving.routes.endpoint import Path, described
from amber_ray.wire.json import quote
from amber_ray.wire.views import encode_feature

WHOLE = {**EXAMPLES["Feature"], "graph": EXAMPLES["Graph"]}
NAME: Part = {"name": "name", "in": "path", "required": True, "schema": STRING, "example": "redness"}


@described("features", Scope.READ, {"200": listing("features", "Feature")})
async def features(context: AppContext, request: Request) -> Response:
    """Every feature."""
    return json_response({"features": [encode_feature(info) for info in await context.service.features()]})


@described(
    "features",
    Scope.READ,
    {"200": answer("The feature", json(ref("Feature"), WHOLE))},
    "404",
    parameters=[NAME],
)
async def feature(context: AppContext, request: Request) -> Response:
    """One feature with its graph."""
    name = request.path_params["name"]
    known = {info.name: info for info in await context.service.features()}
    if name not in known:
        hint = did_you_mean(name, known, "GET /v1/features lists them")
        raise UnknownFeature(f"there is no feature {quote(name)}; {hint}")
    return json_response({**encode_feature(known[name]), "graph": graph(name, known)})


@described("features", Scope.READ, {"200": listing("versions", "StoredVersion")})
async def versions(context: AppContext, request: Request) -> Response:
    """What is stored of each feature and version, today's or not."""
    return json_response({"versions": [one._asdict() for one in await context.service.versions()]})


PATHS = [
    Path("/v1/features", GET=features),
    Path("/v1/features/{name}", GET=feature),
    Path("/v1/versions", GET=versions),
]


def graph(name: str, known: Mapping[str, FeatureInfo]) -> dict[str, Any]:
    """What a feature is computed from, inputs first, and which features are computed from it.

    `edges` are `[input, feature]` pairs among `nodes`; `dependents` are direct and indirect.
    """
    nodes: dict[str, None] = {}

    def visit(node: str) -> None:
        if node not in nodes:
            for source in known[node].inputs:
                visit(source)
            nodes[node] = None

    visit(name)
    dependents: dict[str, None] = {}
    for node in sorted(known):
        above: list[str] = [node]
        seen: set[str] = set()
        while above:
            here = above.pop()
            if here == name and node != name:
                dependents[node] = None
                break
            if here not in seen:
                seen.add(here)
                above.extend(known[here].inputs)
    return {
        "nodes": list(nodes),
        "edges": [[source, node] for node in nodes for source in known[node].inputs],
        "dependents": list(dependents),
    }
