"""Generators of clients take the description: openapi-python-client in fact, openapi-typescript by its needs.

Node is not part of this project, so openapi-typescript is not run here. What it made of the description was
type-checked and run against a server by hand; the tests below hold the description to what that rested on.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amber_ray.serving.described.document import document
from tests.generated import generate
from tests.http_contract import DOCUMENT

OPERATIONS = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]


def test_openapi_python_client_makes_a_client_of_every_call_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document(bearer=True)))
    made = generate(tmp_path, "--path", str(path))
    for operation in OPERATIONS:
        calls = getattr(getattr(made.api, operation["tags"][0]), operation["operationId"])
        for status in operation["responses"]:
            assert f"response.status_code == {status}" in inspect.getsource(calls), operation["operationId"]
        # With tokens, a call can't be written that would be sent without one.
        needs = inspect.signature(calls.sync_detailed).parameters["client"].annotation
        assert (needs is made.AuthenticatedClient) == (operation.get("security") != [])


def schemas(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of the document with its place; examples are none."""
    if isinstance(part, dict):
        if isinstance(part.get("type"), (str, list)) or "oneOf" in part:
            yield path, part
        for name, inner in part.items():
            if name not in ("example", "examples"):
                yield from schemas(inner, f"{path}/{name}")
    elif isinstance(part, list):
        for i, inner in enumerate(part):
            yield from schemas(inner, f"{path}/{i}")


def test_every_object_says_what_it_holds() -> None:
    """Of one that doesn't, openapi-typescript makes a type that holds nothing: `Record<string, never>`."""
    for path, schema in schemas(DOCUMENT):
        if schema.get("type") == "object":
            assert schema.get("properties") or schema.get("additionalProperties"), path


def test_every_object_and_choice_has_a_name() -> None:
    """An object or choice within another schema is named by generators, after its place: `UnitType2`."""
    unnamed = {
        path
        for path, schema in schemas(DOCUMENT)
        if not re.fullmatch(r"/components/schemas/\w+", path)
        and (schema.get("properties") or ("enum" in schema and "/oneOf/" in path))
    }
    assert unnamed == {"/components/schemas/Request/properties/progress"}  # RequestProgress


def test_operations_have_names_that_can_be_called() -> None:
    names = [operation["operationId"] for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    for operation in OPERATIONS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
        assert len(operation["tags"]) == 1


def test_no_list_is_named_as_what_it_lists() -> None:
    """`features = Features(features=features)`: a generated class shadows its own field."""
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, inner in schema.get("properties", {}).items():
            assert not (inner.get("type") == "array" and field == name.lower())
