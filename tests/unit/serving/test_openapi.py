"""The description is held to the app: every route is in it, and its examples are what comes back."""

from __future__ import annotations

import re

import jsonschema
import pytest

from amber_ray.serving.app import create_app
from amber_ray.serving.described.document import document
from amber_ray.serving.routes.page import FILES
from amber_ray.settings import Settings
from tests.http_app import client, compute_body, run
from tests.memory_service import MemoryService

DOCUMENT = document(bearer=False)
UNDESCRIBED = {*FILES, "/openapi.json"}


def resolver(schema):
    return {**schema, "components": DOCUMENT["components"]}


def check(value, schema):
    jsonschema.Draft202012Validator(resolver(schema)).validate(value)


def examples():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            contents = [operation.get("requestBody", {}).get("content", {})]
            contents += [answer.get("content", {}) for answer in operation["responses"].values()]
            for content in contents:
                for media_type, body in content.items():
                    if media_type == "application/json":
                        yield pytest.param(body["example"], body["schema"], id=f"{method} {path}")


@pytest.mark.parametrize(("example", "schema"), list(examples()))
def test_examples_fit_their_schemas(example, schema):
    check(example, schema)


def test_every_route_is_described_with_its_methods():
    app = create_app(MemoryService(), Settings())
    routes = {r.path: set(r.app.allow.split(", ")) - {"HEAD", "OPTIONS"} for r in app.router.routes}
    described = {path: {m.upper() for m in methods} for path, methods in DOCUMENT["paths"].items()}
    assert {path: m for path, m in routes.items() if path not in UNDESCRIBED} == described
    assert set(routes) - set(described) == UNDESCRIBED


def test_every_operation_has_a_name_of_its_own_and_its_refusals():
    operations = [o for methods in DOCUMENT["paths"].values() for o in methods.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)
    assert all({"401", "403", "429"} <= o["responses"].keys() for o in operations)


def test_tokens_show_in_the_description():
    assert document(bearer=True)["security"] == [{"token": []}]
    assert "security" not in DOCUMENT


def test_real_answers_fit_the_schemas():
    service = MemoryService()

    async def story():
        async with client(service) as http:
            body = compute_body("probe", "brightness", "duplicates", "embedding", "broken")
            body["assets"].append({"uri": "/m/missing.mp4"})
            calls = [
                ("post", "/v1/compute", await http.post("/v1/compute", json=body)),
                ("post", "/v1/explain", await http.post("/v1/explain", json=body)),
                ("post", "/v1/assets", await http.post("/v1/assets", json={"uri": "/m/a.mp4"})),
                ("get", "/v1/requests/{id}", await http.get("/v1/requests/rq-000000")),
                ("get", "/v1/features", await http.get("/v1/features")),
                ("get", "/v1/features/{name}", await http.get("/v1/features/embedding")),
                ("get", "/v1/failures", await http.get("/v1/failures")),
                ("get", "/v1/stats", await http.get("/v1/stats")),
                ("get", "/healthz", await http.get("/healthz")),
                ("delete", "/v1/values", await http.delete("/v1/values?feature=probe")),
            ]
            for method, path, answer in calls:
                responses = DOCUMENT["paths"][path][method]["responses"]
                check(
                    answer.json(), responses[str(answer.status_code)]["content"]["application/json"]["schema"]
                )
            problem = (await http.get("/v1/features/nope")).json()
            check(problem, {"$ref": "#/components/schemas/Problem"})
            assert (await http.get("/openapi.json")).json() == DOCUMENT

    run(story)


@pytest.mark.parametrize("path", FILES)
def test_the_page_comes_from_here_alone(path):
    async def once():
        async with client() as http:
            return await http.get(path)

    answer = run(once)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.search(r"""https?://(?!www\.w3\.org/)|["'(]//""", answer.text)
