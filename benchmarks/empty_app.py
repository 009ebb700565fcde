"""The least that Ray Serve can do over HTTP: a FastAPI application whose answers are ready."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from ray import serve


def build(replicas: int = 1) -> Any:
    """An application that answers GET and POST, once it has the body, with as many characters as asked."""
    app = FastAPI()

    @serve.deployment(num_replicas=replicas, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
    @serve.ingress(app)
    class Empty:
        @app.get("/")
        async def answer(self, size: int = 0) -> Response:
            return Response(b'"' + b"a" * size + b'"', media_type="application/json")

        @app.post("/")
        async def take(self, request: Request, size: int = 0) -> Response:
            await request.body()
            return Response(b'"' + b"a" * size + b'"', media_type="application/json")

    return Empty.bind()
