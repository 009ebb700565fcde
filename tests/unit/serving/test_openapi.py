"""The OpenAPI document is true: of the app's routes, of every answer it can give, and in its examples.

That no answer is undescribed is `tests.http_contract`'s to say, for every test that asks the app. Here is the
other half: whatever is described can happen.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openapi_spec_validator
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.declare.registry import Registry
from amber_ray.core.deliveries.record import Delivery
from amber_ray.core.model import demand_news
from amber_ray.core.model.callback import EVENTS, Callback
from amber_ray.core.model.demands import Demand, DemandState, Findings
from amber_ray.core.model.request import ExplainedStep
from amber_ray.core.model.service import RegistryView
from amber_ray.core.model.units import Asset, Segment
from amber_ray.core.planning.plan import Planner
from amber_ray.errors import (
    BadRequest,
    MediaChanged,
    MediaError,
    RequestMismatch,
    TooLarge,
    Unavailable,
    UnfitCode,
    UnknownFeature,
    UnknownRegistry,
)
from amber_ray.fabric.shard.deliveries import End, message
from amber_ray.features import BUILTINS
from amber_ray.serving import incoming
from amber_ray.serving.app import create_app
from amber_ray.serving.described.document import document
from amber_ray.serving.described.schemas import ASSET_ID, EXAMPLES
from amber_ray.serving.drain import Drain
from amber_ray.serving.guard import OPEN
from amber_ray.serving.routes.features import graph
from amber_ray.serving.routes.page import FILES
from amber_ray.settings import Limits, Settings
from amber_ray.wire import views
from amber_ray.wire.compute import decode_request
from tests.http_app import client, compute_body, run
from tests.http_contract import DOCUMENT, closed, events_of, fits, path_of, resolved
from tests.memory_service import MemoryService, digest

ROOT = Path(__file__).parents[3]
UNDESCRIBED = {*FILES, "/openapi.json"}
OPERATIONS = {
    operation["operationId"]: operation
    for methods in DOCUMENT["paths"].values()
    for operation in methods.values()
}


def test_it_is_an_openapi_document() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    for bearer, base in ((False, ""), (True, "/amber")):
        openapi_spec_validator.validate(document(bearer, base))
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert len(OPERATIONS) == sum(len(methods) for methods in DOCUMENT["paths"].values())


def test_every_route_is_described_with_its_methods() -> None:
    app = create_app(MemoryService(), Settings())
    routes = {r.path: set(r.app.allow.split(", ")) - {"HEAD", "OPTIONS"} for r in app.router.routes}
    described = {path: {m.upper() for m in methods} for path, methods in DOCUMENT["paths"].items()}
    assert {path: m for path, m in routes.items() if path not in UNDESCRIBED} == described
    assert set(routes) - set(described) == UNDESCRIBED


def test_every_path_parameter_is_described() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))


def test_tokens_show_in_the_description() -> None:
    for bearer in (True, False):
        for path, methods in document(bearer)["paths"].items():
            for operation in methods.values():
                needed = [] if path in OPEN else [{"token": []}] if bearer else None
                assert operation.get("security") == needed
    # The scheme is there in both, so that a client made from one description can be used on another server.
    for bearer in (True, False):
        schemes = document(bearer)["components"]["securitySchemes"]
        assert (schemes["token"]["type"], schemes["token"]["scheme"]) == ("http", "bearer")
    served = run(lambda: _get("/openapi.json", LOCKED, Authorization="Bearer secret"))
    assert served.json() == document(bearer=True)


# Every answer that is described can be had


@dataclass
class Case:
    """One call, and the service and settings that it is made of."""

    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    error: Exception | None = None
    app: dict[str, Any] = field(default_factory=dict)
    wait: float | None = None

    def but(self, **changes: Any) -> Case:
        return Case(**{**vars(self), **changes})


TINY = Settings(limits=Limits(body_bytes=10, upload_bytes=10))
KEY = digest("embedding" + digest("/m/a.mp4"))
NOBODY = digest("nobody")


class Registrar:
    """Knows one registry, which is empty; or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def register(self, base: str, texts: Any, features: Any) -> RegistryView:
        if self.error is not None:
            raise self.error
        return RegistryView("0" * 32, (), {})


GOOD = {
    "compute": Case("POST", "/v1/compute", {"json": compute_body("probe")}),
    "explain": Case("POST", "/v1/explain", {"json": compute_body("probe")}),
    "requests": Case("GET", "/v1/requests?state=done"),
    "request": Case("GET", "/v1/requests/rq-000000"),
    "cancel": Case("DELETE", "/v1/requests/rq-000000"),
    "events": Case("GET", "/v1/requests/rq-000000/events"),
    "value": Case("GET", f"/v1/values/{KEY}"),
    "lineage": Case("GET", f"/v1/values/{KEY}/lineage"),
    "values": Case("POST", "/v1/values", {"json": {"keys": [KEY]}}),
    "purge": Case("DELETE", "/v1/values?feature=probe"),
    "asset": Case("POST", "/v1/assets", {"json": {"uri": "/m/a.mp4"}}),
    "assets": Case("GET", "/v1/assets?limit=2"),
    "asset_facts": Case("GET", f"/v1/assets/{digest('/m/a.mp4')}"),
    "about": Case("GET", f"/v1/assets/{digest('/m/a.mp4')}/values?feature=probe"),
    "media": Case("GET", f"/v1/assets/{digest('/m/a.mp4')}/media"),
    "media_link": Case("POST", f"/v1/assets/{digest('/m/a.mp4')}/media/link"),
    "features": Case("GET", "/v1/features"),
    "feature": Case("GET", "/v1/features/embedding"),
    "failures": Case("GET", "/v1/failures"),
    "deliveries": Case("GET", "/v1/deliveries?state=delivered"),
    "replay": Case("POST", "/v1/deliveries/end_rq-000000/replay"),
    "audit": Case("GET", "/v1/audit?what=asset.added&since=1.5e9"),
    "versions": Case("GET", "/v1/versions"),
    "demands": Case("GET", "/v1/demands"),
    "demand": Case("GET", "/v1/demands/films"),
    "keep": Case(
        "PUT",
        "/v1/demands/films",
        {
            "json": {
                "features": ["probe"],
                "prefixes": ["/m/"],
                "callback": {"url": "https://127.0.0.1/", "on": ["result"]},
            }
        },
    ),
    "stop": Case("DELETE", "/v1/demands/films"),
    "notify": Case("POST", "/v1/events", {"json": {"uri": "/m/a.mp4"}}),
    "register": Case(
        "POST",
        "/v1/registry",
        {"json": {"base": "", "texts": [], "features": {}}},
        Settings(register=True),
        app={"registrar": Registrar()},
    ),
    "stats": Case("GET", "/v1/stats"),
    "metrics": Case("GET", "/metrics"),
    "healthz": Case("GET", "/healthz"),
    "readyz": Case("GET", "/readyz"),
}
ELSEWHERE = {"peer": ("203.0.113.7", 40000)}
LOCKED = Settings(tokens=("secret",))


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


def failing(case: Case, error: Exception) -> Case:
    return case.but(error=error, app={"registrar": Registrar(error)} if "registrar" in case.app else {})


def cases() -> Iterator[tuple[str, str, Case]]:
    for name, case in GOOD.items():
        yield name, "200", case
        yield name, "403", case.but(app=ELSEWHERE)
        if name not in ("healthz", "readyz"):
            yield name, "401", case.but(settings=LOCKED)
            yield name, "429", case.but(app={"ongoing": 0})
            yield name, "500", failing(case, RuntimeError("a bug"))
            yield name, "503", failing(case, Unavailable("the cluster is restarting"))
    yield "register", "412", failing(GOOD["register"], UnknownRegistry("it is not known here"))
    yield "register", "422", failing(GOOD["register"], UnfitCode("mine.py:1: there is no module 'x'"))
    yield "demand", "404", GOOD["demand"].but(path="/v1/demands/songs")
    yield "keep", "404", GOOD["keep"].but(error=UnknownFeature("there is no feature 'x'"))
    for name in ("compute", "explain", "asset", "values", "register", "keep", "notify"):
        case = GOOD[name]
        yield name, "400", case.but(options={"json": {"wrong": 1}})
        late = {"content": never(), "headers": {"Content-Type": "application/json"}}
        yield name, "408", case.but(options=late, wait=0.0)
        yield name, "413", case.but(settings=TINY.replace(register=True))
        yield name, "415", case.but(options={"content": b"a=b", "headers": {"Content-Type": "text/plain"}})
    stopping = Drain()
    stopping.refusing = True
    yield "healthz", "503", GOOD["healthz"].but(app={"drain": stopping})
    yield "readyz", "500", failing(GOOD["readyz"], RuntimeError("a bug"))
    yield "readyz", "503", failing(GOOD["readyz"], Unavailable("the cluster is restarting"))
    for name in ("compute", "explain"):
        yield name, "404", GOOD[name].but(error=UnknownFeature("there is no feature 'x'"))
        other = {"json": {**compute_body("probe"), "expect": {"probe": "0" * 32}}}
        yield name, "412", GOOD[name].but(options=other)
    taken = RequestMismatch("request 'mine-01' asks for something else; choose another id")
    yield "compute", "422", GOOD["compute"].but(error=taken)
    yield "explain", "422", GOOD["explain"].but(error=MediaError("'a.mp4' is empty"))
    prefer = {"json": compute_body("probe", uri="/m/new.mp4"), "headers": {"Prefer": "wait=0"}}
    yield "compute", "202", GOOD["compute"].but(options=prefer, app={"closed": True})
    yield "asset", "404", GOOD["asset"].but(options={"json": {"uri": "/m/missing.mp4"}})
    yield "asset", "422", GOOD["asset"].but(error=MediaError("'a.mp4' is empty"))
    upload = {"content": b"bytes", "headers": {"Content-Type": "video/mp4"}}
    yield "asset", "201", GOOD["asset"].but(options=upload)
    for name in ("request", "cancel", "events"):
        yield name, "404", GOOD[name].but(path=GOOD[name].path.replace("rq-000000", "rq-999999"))
    yield "feature", "404", GOOD["feature"].but(path="/v1/features/nope")
    yield "assets", "400", GOOD["assets"].but(path="/v1/assets?kind=film")
    yield "deliveries", "400", GOOD["deliveries"].but(path="/v1/deliveries?state=lost")
    yield "replay", "400", GOOD["replay"].but(path="/v1/deliveries/end_rq-000000/replay?tenant=@")
    yield "replay", "404", GOOD["replay"].but(path="/v1/deliveries/end_rq-999999/replay")
    yield "audit", "400", GOOD["audit"].but(path="/v1/audit?what=all")
    yield "asset_facts", "400", GOOD["asset_facts"].but(path="/v1/assets/x")
    yield "asset_facts", "404", GOOD["asset_facts"].but(path=f"/v1/assets/{NOBODY}")
    yield "about", "400", GOOD["about"].but(path="/v1/assets/x/values")
    yield "about", "404", GOOD["about"].but(path=f"/v1/assets/{NOBODY}/values")
    for name in ("media", "media_link"):
        yield name, "400", GOOD[name].but(path=GOOD[name].path.replace(digest("/m/a.mp4"), "x"))
        yield name, "404", GOOD[name].but(path=GOOD[name].path.replace(digest("/m/a.mp4"), NOBODY))
        yield name, "409", failing(GOOD[name], MediaChanged("'a.mp4' has other content by now"))
        yield name, "422", failing(GOOD[name], MediaError("'a.mp4' is a directory"))
    asked = {"206": ("Range", "bytes=3-"), "304": ("If-None-Match", "*"), "412": ("If-Match", '"x"')}
    for status, (header, text) in {**asked, "416": ("Range", "bytes=1000-")}.items():
        yield "media", status, GOOD["media"].but(options={"headers": {header: text}})
    yield "requests", "400", GOOD["requests"].but(path="/v1/requests?state=over")
    lineage = GOOD["lineage"]
    yield "lineage", "400", lineage.but(path="/v1/values/x/lineage")
    yield "lineage", "404", lineage.but(path=f"/v1/values/{NOBODY}/lineage")
    yield "lineage", "413", failing(lineage, TooLarge("more than 10,000 values are behind it"))
    yield "purge", "400", GOOD["purge"].but(path="/v1/values")
    value = GOOD["value"]
    yield "value", "304", value.but(options={"headers": {"If-None-Match": "*"}})
    yield "value", "400", value.but(path="/v1/values/x")
    yield "value", "404", value.but(path=f"/v1/values/{NOBODY}")
    yield "value", "406", value.but(options={"headers": {"Accept": "image/png"}})
    yield "value", "412", value.but(options={"headers": {"If-Match": '"x"'}})


CASES = list(cases())


def test_every_status_that_is_described_has_a_case() -> None:
    described = {
        (name, status) for name, operation in OPERATIONS.items() for status in operation["responses"]
    }
    assert {(name, status) for name, status, _ in CASES} == described


@pytest.mark.parametrize(("name", "status", "case"), CASES, ids=[f"{n} {s}" for n, s, _ in CASES])
def test_what_is_described_can_be_had(
    name: str, status: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.wait is not None:
        monkeypatch.setattr(incoming, "BODY_SECONDS", case.wait)
    options = dict(case.app)
    closed_gate = options.pop("closed", False)

    async def story() -> httpx.Response:
        service = MemoryService()
        async with client(service) as http:
            features = ("probe", "embedding", "broken")
            called = compute_body(*features, callback={"url": "https://127.0.0.1/"})
            await http.post("/v1/compute", json=called)
            await http.put("/v1/demands/films", json={"features": ["probe"], "prefixes": ["/m/"]})
        service.error = case.error
        if closed_gate:
            service.gate.clear()
        async with client(service, case.settings, **options) as http:
            # `client` holds the answer to the document.
            return await http.request(case.method, case.path, **case.options)

    answer = run(story)
    assert str(answer.status_code) == status
    path = path_of(answer.request.url.path)
    assert path is not None
    assert DOCUMENT["paths"][path][case.method.lower()]["operationId"] == name


@pytest.mark.parametrize("path", [*DOCUMENT["paths"], *sorted(UNDESCRIBED)])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
def test_a_method_that_a_path_lacks_is_told_all_that_it_has(path: str, method: str) -> None:
    at = re.sub(r"\{\w+\}", "rq-000000", path)
    answer = run(lambda: _ask(method, at))
    if path in UNDESCRIBED and method not in ("GET", "HEAD"):
        assert answer.status_code == (204 if method == "OPTIONS" else 405)
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    elif path not in UNDESCRIBED:
        known = {m.upper() for m in DOCUMENT["paths"][path]}
        known |= {"OPTIONS"} | ({"HEAD"} if "GET" in known else set())
        assert (answer.status_code == 405) == (method not in known)
        assert (answer.headers.get("Allow") == ", ".join(sorted(known))) == (
            method == "OPTIONS" or method not in known
        )


async def _ask(method: str, path: str, settings: Settings | None = None, **headers: str) -> httpx.Response:
    async with client(None, settings) as http:
        return await http.request(method, path, headers=headers)


async def _get(path: str, settings: Settings | None = None, **headers: str) -> httpx.Response:
    return await _ask("GET", path, settings, **headers)


# Examples


def examples() -> Iterator[Any]:
    for name, operation in OPERATIONS.items():
        parts = [("body", operation.get("requestBody", {}))]
        parts += [(status, resolved(part)) for status, part in operation["responses"].items()]
        for where, part in parts:
            for media_type, content in part.get("content", {}).items():
                if media_type.endswith("json"):
                    yield pytest.param(content["example"], content["schema"], id=f"{name} {where}")
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            yield pytest.param(parameter["example"], schema, id=f"{name} {parameter['name']}")
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            yield pytest.param(example, schema, id=name)


@pytest.mark.parametrize(("example", "schema"), list(examples()))
def test_examples_fit_their_schemas(example: Any, schema: Any) -> None:
    fits(example, schema)


@pytest.mark.parametrize("status", DOCUMENT["components"]["responses"])
def test_a_refusals_example_is_of_its_status(status: str) -> None:
    [content] = DOCUMENT["components"]["responses"][status]["content"].values()
    assert content["example"]["status"] == int(status)


def test_the_events_of_the_example_are_what_the_client_reads() -> None:
    [content] = OPERATIONS["events"]["responses"]["200"]["content"].values()
    events = list(events_of(content["example"]))
    assert [name for name, _ in events] == ["progress", "result", "done"]
    for name, data in events:
        fits(data, content["x-events"][name])
        views.decode_event(name, data)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The built-in features and those that the README defines, which the examples are about."""
    text = re.search(r"file my_features\.py -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert text is not None
    path = tmp_path_factory.mktemp("readme") / "my_features.py"
    path.write_text(text[1])
    return Registry.from_modules([*BUILTINS, str(path)])


def without(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in names}


def test_the_examples_are_what_the_code_makes(registry: Registry) -> None:
    from amber_ray.fabric.worker.tasks import failure_of

    asset = Asset(ASSET_ID, "file:///media/a.mp4", "video/mp4", 2_867_721, 30.0)
    planner = Planner(registry, features=["redness"], params={}, segment_seconds=10.0)
    planner.add_asset(asset)
    [step] = [
        s
        for s in planner.plan().steps.values()
        if s.recipe.feature == "redness" and isinstance(s.unit, Segment) and s.unit.index == 1
    ]
    failure = views.encode_failure(failure_of(step, ValueError("no frames in this segment")))
    assert without(failure, "key", "traceback") == without(EXAMPLES["Failure"], "key")
    known = {info.name: info for info in registry.info()}
    told = views.encode_feature(known["redness"])
    theirs = EXAMPLES["Feature"]
    of_code = ("doc", "version", "code_digest", "digest")
    assert without(told, *of_code) == without(theirs, *of_code)
    assert told["version"] == f"auto-{told['code_digest'][:16]}"
    assert theirs["version"] == f"auto-{theirs['code_digest'][:16]}"
    assert graph("redness", known) == EXAMPLES["Graph"]
    explained = ExplainedStep(
        "redness",
        theirs["version"],
        step.key,
        step.unit,
        "missing",
        step.needs,
        0.8,
        {"CPU": 1.0},
        True,
        "run",
    )
    assert without(views.encode_step(explained), "key", "inputs") == without(
        EXAMPLES["Step"], "key", "inputs"
    )
    assert len(EXAMPLES["Step"]["inputs"]) == len(step.needs)
    place = {name: EXAMPLES["Result"][name] for name in ("asset", "uri", "unit")}
    assert place == {name: EXAMPLES["Step"][name] for name in place}


@pytest.mark.parametrize("state", ["running", "done", "failed", "cancelled"])
def test_what_is_sent_to_a_callback_is_as_described(state: str) -> None:
    kept = Delivery("end_rq-000000", "rq-000000", "t", "https://hooks.example/", ("done",), 1.0)
    type = "request.result" if state == "running" else f"request.{state}"
    told = json.loads(message(type, kept, End(state, 2, 1), 1.7e9))
    schema = {**closed(DOCUMENT["components"]["schemas"]["Message"]), "components": DOCUMENT["components"]}
    jsonschema.validate(told, schema, format_checker=jsonschema.FormatChecker())
    assert set(told["data"]) == set(EXAMPLES["Message"]["data"])


def test_what_is_sent_to_the_callback_of_a_demand_is_as_described() -> None:
    demand = Demand("films", ("shots",), ("/films",), callback=Callback("https://hooks.example/", EVENTS))
    found = demand_news.findings(3, True, (), Findings(), False)
    good = demand_news.told(
        demand, DemandState(became=3, findings=found), "life", "2026-11-29T13:00:00.000+00:00"
    )
    found = demand_news.findings(3, False, ["/films/a"], found, False)
    bad = demand_news.told(demand, good._replace(findings=found), "life", "2026-11-29T13:00:00.000+00:00")
    schema = {
        **closed(DOCUMENT["components"]["schemas"]["DemandMessage"]),
        "components": DOCUMENT["components"],
    }
    told = [json.loads(one.body) for one in bad.telling.unsent]
    assert {one["type"] for one in told} == {f"demand.{event}" for event in EVENTS}
    for one in told:
        jsonschema.validate(one, schema, format_checker=jsonschema.FormatChecker())
        assert set(one["data"]) == set(EXAMPLES["DemandMessage"]["data"])
        assert set(one["data"]["assets"]) <= set(
            DOCUMENT["components"]["schemas"]["DemandMessageAssets"]["properties"]
        )


def test_the_example_of_a_request_can_be_planned(registry: Registry) -> None:
    asked = decode_request(EXAMPLES["Compute"])
    planner = Planner(registry, features=asked.features, params=asked.params, segment_seconds=10.0)
    assert planner.add_asset(Asset(ASSET_ID, "/a.mp4", "video/mp4", 1, 30.0), asked.range)


def test_the_built_in_features_fit_their_schema(registry: Registry) -> None:
    for info in registry.info():
        fits(views.encode_feature(info), {"$ref": "#/components/schemas/Feature"})


# What is taken


TEXTS = st.sampled_from(
    ["probe", "a.b", "", "x" * 257, "x" * 4097, "interactive", "backfill", "search.1", "-a", "a b"]
)
NUMBERS = st.sampled_from([0, 1, -1, 0.5, 1e9, 31 * 86_400, 31 * 86_400 + 1])
ANYTHING = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.lists(NUMBERS, max_size=3), st.just({}))
IDS = st.sampled_from(["0" * 32, "F" * 32, "0" * 31])
REFS = st.fixed_dictionaries({}, optional={"uri": TEXTS | ANYTHING, "id": IDS | ANYTHING, "path": TEXTS})
OPTIONAL = {
    "params": st.dictionaries(TEXTS, ANYTHING, max_size=2) | ANYTHING,
    "range": st.lists(NUMBERS, min_size=2, max_size=2) | ANYTHING,
    "priority": TEXTS | ANYTHING,
    "tenant": TEXTS | ANYTHING,
    "refresh": ANYTHING,
    "deadline": NUMBERS | ANYTHING,
}
NEEDED = {
    "features": st.lists(TEXTS, max_size=3) | ANYTHING,
    "assets": st.lists(REFS, max_size=3) | ANYTHING,
}
RIGHT = {"features": st.just(["probe"]), "assets": st.just([{"uri": "/a"}])}
BODIES = st.fixed_dictionaries({}, optional={**NEEDED, **OPTIONAL, "wait": ANYTHING})


@given(body=BODIES | st.fixed_dictionaries(RIGHT, optional=OPTIONAL))
def test_the_schema_takes_what_the_decoder_takes(body: dict[str, Any]) -> None:
    schema = {**closed(DOCUMENT["components"]["schemas"]["Compute"]), "components": DOCUMENT["components"]}
    try:
        decode_request(body)
        taken = True
    except BadRequest:
        taken = False
    fitting = jsonschema.Draft202012Validator(schema).is_valid(body)
    # That A is below B is more than a schema can say.
    a, b = body["range"] if fitting and body.get("range") else (0, 1)
    assert taken == (fitting and a < b)


# Pages that speak of the interface


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]
)
def test_addresses_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    found = set(re.findall(r"(?:https?://(?:127\.0\.0\.1|localhost):8000)(/[\w/{}.-]*)", text))
    found |= set(re.findall(r"`(?:(?:GET|POST|DELETE) )?(/v1/[\w/{}.-]*)`", text))
    known = [re.sub(r"\{\w+\}", "[^/]+", path) for path in (*DOCUMENT["paths"], *UNDESCRIBED)]
    missing = {path for path in found if not any(re.fullmatch(k, path.rstrip(".")) for k in known)}
    assert missing == set()
