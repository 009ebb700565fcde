"""The least that Ray Serve can do over HTTP: a FastAPI application whose answers are ready."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from ray import serve


def build(replicas: int = 1) -> Any:
    """An application that answers GET, and POST of JSON, with as many characters as `size` says."""
    app = FastAPI()

    @serve.deployment(num_replicas=replicas, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
    @serve.ingress(app)
    class Empty:
        @app.get("/")
        async def answer(self, size: int = 0) -> Response:
            return Response(b'"' + b"a" * size + b'"', media_type="application/json")

        @app.post("/")
        async def take(self, data: dict, size: int = 0) -> Response:  # type: ignore[type-arg]
            return Response(b'"' + b"a" * size + b'"', media_type="application/json")

    return Empty.bind()
