"""The rows of the HTTP contract, asked one by one."""

from __future__ import annotations

import numpy as np
import pytest

from amber_ray.core.model.request import AssetRef, ComputeRequest, Priority
from amber_ray.core.model.stats import HITS_MEMORY
from amber_ray.errors import AmberError, Overloaded, StoreError, SystemFault, Unavailable
from amber_ray.serving.app import create_app
from amber_ray.settings import Settings
from tests.http_app import Connection, client, compute_body, run
from tests.memory_service import MemoryService, digest

PROBLEM = "application/problem+json"


def ask(method: str, path: str, service: MemoryService | None = None, **more):
    async def once():
        async with client(service) as http:
            return await http.request(method, path, **more)

    return run(once)


def test_compute_answers_with_small_values_inline_and_large_ones_by_href():
    service = MemoryService()
    answer = ask("POST", "/v1/compute", service, json=compute_body("probe", "embedding"))
    assert answer.status_code == 200
    data = answer.json()
    assert data["state"] == "done"
    assert data["progress"] == {"done": 2, "total": 2}
    small, large = data["results"]
    assert small["value"] == "h264"
    assert large["href"] == f"/v1/values/{large['key']}"
    assert answer.headers["X-Amber-Request-Id"] == data["id"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_compute_hands_every_field_to_the_service():
    service = MemoryService()
    body = {
        "features": ["brightness"],
        "assets": [{"uri": "/m/a.mp4"}, {"id": "a" * 32}],
        "params": {"frames.fps": 2},
        "range": [10, 20],
        "priority": "backfill",
        "tenant": "search",
        "refresh": True,
        "deadline": 30,
    }
    headers = {"Prefer": "wait=3", "X-Amber-Request-Id": "my-own-id"}
    ask("POST", "/v1/compute", service, json=body, headers=headers)
    assert service.asked[0] == (
        "compute",
        (
            ComputeRequest(
                ("brightness",),
                (AssetRef(uri="/m/a.mp4"), AssetRef(id="a" * 32)),
                {"frames.fps": 2},
                (10.0, 20.0),
                Priority.BACKFILL,
                "search",
                True,
                30.0,
            ),
            3.0,
            "my-own-id",
        ),
    )


def test_units_are_null_a_window_or_a_collection():
    answer = ask("POST", "/v1/compute", json=compute_body("probe", "brightness", "duplicates", range=[5, 12]))
    units = [result["unit"] for result in answer.json()["results"]]
    asset = digest("/m/a.mp4")
    assert units == [
        None,
        {"index": 0, "start": 0.0, "end": 10.0},
        {"index": 1, "start": 10.0, "end": 20.0},
        {"collection": [asset]},
    ]


def test_one_asset_that_cannot_be_resolved_fails_alone_once_per_feature():
    body = compute_body("probe", "embedding")
    body["assets"].insert(0, {"uri": "/m/missing.mp4"})
    answer = ask("POST", "/v1/compute", json=body)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [(r["feature"], r["uri"], r["state"]) for r in results] == [
        ("probe", "/m/a.mp4", "ready"),
        ("embedding", "/m/a.mp4", "ready"),
        ("probe", "/m/missing.mp4", "failed"),
        ("embedding", "/m/missing.mp4", "failed"),
    ]
    assert results[2]["error"]["status"] == 404
    assert results[2]["error"]["title"] == "Media not found"


def test_where_no_asset_could_be_resolved_each_feature_asked_for_has_failed():
    data = ask("POST", "/v1/compute", json=compute_body("probe", "embedding", uri="/missing")).json()
    assert data["state"] == "failed"
    assert [(r["feature"], r["state"]) for r in data["results"]] == [
        ("probe", "failed"),
        ("embedding", "failed"),
    ]


def test_a_failure_says_what_why_and_where():
    error = ask("POST", "/v1/compute", json=compute_body("broken")).json()["results"][0]["error"]
    assert error["kind"] == "feature"
    assert error["message"].endswith("division by zero")
    assert (error["step"], error["unit"]) == ("broken", digest("/m/a.mp4"))
    assert error["traceback"].startswith("Traceback")


def test_explain_lists_steps_and_runs_nothing():
    service = MemoryService()
    data = ask("POST", "/v1/explain", service, json=compute_body("brightness")).json()
    assert [step["unit"]["index"] for step in data["steps"]] == [0, 1, 2]
    assert data["states"] == {"missing": 3}
    assert (data["seconds"], data["unknown"]) == (1.5, [])
    assert service.requests == {}


def test_explain_counts_no_step_as_nought_that_never_ran():
    service = MemoryService(never_ran={"brightness"})
    data = ask("POST", "/v1/explain", service, json=compute_body("brightness", "probe")).json()
    assert (data["seconds"], data["unknown"]) == (0.5, ["brightness"])


def test_asset_by_uri():
    answer = ask("POST", "/v1/assets", json={"uri": "file:///m/a.mp4"})
    assert answer.status_code == 200
    assert answer.json() == {
        "id": digest("file:///m/a.mp4"),
        "uri": "file:///m/a.mp4",
        "media_type": "video/mp4",
        "bytes": 1000,
        "duration": 25.0,
        "note": "",
        "streams": [
            {
                "kind": "video",
                "codec": "h264",
                "width": 640,
                "height": 360,
                "frame_rate": "24/1",
                "frames": 720,
            }
        ],
    }


@pytest.mark.parametrize(("header", "told"), [("video/mp4", "video/mp4"), ("application/octet-stream", None)])
def test_asset_by_upload(header, told):
    service = MemoryService()
    answer = ask("POST", "/v1/assets", service, content=b"bytes of a film", headers={"Content-Type": header})
    assert answer.status_code == 201
    assert service.uploads == [(b"bytes of a film", told)]


def test_an_upload_is_cut_off_at_its_bound_while_it_streams():
    service = MemoryService()
    settings = Settings().replace(limits=Settings().limits.__class__(upload_bytes=1000))
    produced = []

    async def endless():
        for _ in range(1_000):
            produced.append(400)
            yield b"x" * 400

    async def upload():
        async with client(service, settings) as http:
            return await http.post("/v1/assets", content=endless(), headers={"Content-Type": "video/mp4"})

    answer = run(upload)
    assert answer.status_code == 413
    assert "1,000 bytes" in answer.json()["detail"]
    assert service.uploads == []
    assert len(produced) <= 4


def test_features_and_one_feature_with_its_graph():
    listed = ask("GET", "/v1/features").json()["features"]
    assert [f["name"] for f in listed][:2] == ["brightness", "broken"]
    one = ask("GET", "/v1/features/embedding").json()
    assert one["params"] == {"size": {"type": "int", "default": 224}}
    assert one["graph"] == {
        "nodes": ["probe", "embedding"],
        "edges": [["probe", "embedding"]],
        "dependents": ["duplicates"],
    }
    assert ask("GET", "/v1/features/probe").json()["graph"]["dependents"] == [
        "brightness",
        "duplicates",
        "embedding",
        "thumbnail",
    ]


def test_an_unknown_feature_is_404_with_the_nearest_name():
    answer = ask("GET", "/v1/features/brightnes")
    assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
    assert answer.json()["error"] == "UnknownFeature"
    assert "did you mean 'brightness'?" in answer.json()["detail"]


def test_a_server_in_trouble_is_alive_and_not_ready():
    class Troubled(MemoryService):
        async def troubles(self):
            return ["shard 0: it could not renew the lease of the store"]

    answer = ask("GET", "/readyz", Troubled())
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["detail"].endswith("not ready: shard 0: it could not renew the lease of the store")
    assert ask("GET", "/healthz", Troubled()).status_code == 200


def test_health_stats_metrics_failures():
    service = MemoryService()
    assert ask("GET", "/healthz", service).json() == {"status": "ok"}
    assert service.asked == []
    stats = ask("GET", "/v1/stats", service).json()
    assert (stats["computed_total"], stats["hot_bytes"], stats[HITS_MEMORY]) == (0.0, 12.5, 0.0)
    metrics = ask("GET", "/metrics", service)
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE amber_computed_total counter\namber_computed_total 0.0\n" in metrics.text
    assert "# TYPE amber_hot_bytes gauge\namber_hot_bytes 12.5\n" in metrics.text
    assert '# TYPE amber_hits_total counter\namber_hits_total{tier="memory"} 0.0\n' in metrics.text
    ask("POST", "/v1/compute", service, json=compute_body("broken"))
    assert [f["step"] for f in ask("GET", "/v1/failures", service).json()["failures"]] == ["broken"]


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/nope", 404, "there is nothing at '/nope'"),
        ("GET", "/v1/features/", 404, "there is nothing at '/v1/features/'"),
        ("PUT", "/v1/compute", 405, "'/v1/compute' takes OPTIONS, POST, not 'PUT'"),
        ("POST", "/v1/requests/rq-000000", 405, "takes DELETE, GET, HEAD, OPTIONS, not 'POST'"),
        ("GET", "/v1/requests/rq-999999", 404, "rq-999999"),
        ("GET", "/v1/requests/..%2fetc", 404, "nothing at"),
        ("GET", "/v1/requests/a.b.c.d", 404, "there is no request 'a.b.c.d'"),
        ("GET", "/v1/requests/rq-999999/events", 404, "rq-999999"),
        ("DELETE", "/v1/requests/rq-999999", 404, "rq-999999"),
        ("GET", "/v1/values/xyz", 400, "a key is 32 lower-case hex digits, not 'xyz'"),
        ("GET", "/v1/values/" + "a" * 32, 404, "no value is stored"),
        ("DELETE", "/v1/values", 400, "at least one of asset, feature and version"),
        ("DELETE", "/v1/values?featur=x", 400, "did you mean 'feature'?"),
        ("DELETE", "/v1/values?feature=x&feature=y", 400, "given once"),
        ("DELETE", "/v1/values?asset=x", 400, "asset must be an id"),
    ],
)
def test_refusals_are_problem_documents(method, path, status, said):
    answer = ask(method, path)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"], problem["status"]) == (
        status,
        PROBLEM,
        status,
    )
    assert said in problem["detail"]
    assert problem["instance"] == answer.headers["X-Request-Id"]
    assert ("Allow" in answer.headers) == (status == 405)


def test_purge_passes_its_filters_on():
    service = MemoryService()
    ask("POST", "/v1/compute", service, json=compute_body("probe", "embedding"))
    answer = ask("DELETE", f"/v1/values?feature=probe&version=1&asset={digest('/m/a.mp4')}", service)
    assert answer.json() == {"purged": 1}
    assert service.asked[-1] == ("purge", (digest("/m/a.mp4"), "probe", "1"))


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Overloaded("tenant 'search' has 10,000 requests", 2.2), 429, "3"),
        (Unavailable("the cluster is restarting"), 503, "1"),
        (SystemFault("the object store is full"), 503, "1"),
        (StoreError("a part can't be read now"), 503, "1"),
        (AmberError("something"), 500, None),
    ],
)
def test_the_services_errors_keep_their_status_and_say_when_to_come_back(error, status, retry):
    service = MemoryService(error=error)
    answer = ask("POST", "/v1/compute", service, json=compute_body("probe"))
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry)
    assert answer.json()["error"] == type(error).__name__
    assert answer.json()["detail"] == str(error)


def test_a_bug_is_a_500_that_tells_strangers_nothing(caplog):
    answer = ask("GET", "/v1/stats", MemoryService(error=RuntimeError("secret path /home/x")))
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
    assert "secret" not in answer.text
    [line] = [record for record in caplog.records if record.name == "amber.http"]
    assert (line.id, line.status, line.levelname) == (answer.json()["instance"], 500, "ERROR")
    assert line.getMessage() == "RuntimeError: secret path /home/x"
    assert "in _ask" in caplog.text  # where it was raised


def test_request_ids_are_echoed_if_they_are_sane():
    assert (
        ask("GET", "/healthz", headers={"X-Request-Id": "trace-1.2"}).headers["X-Request-Id"] == "trace-1.2"
    )
    made = ask("GET", "/healthz", headers={"X-Request-Id": "a b\tc"}).headers["X-Request-Id"]
    assert made != "a b\tc"
    assert len(made) == 24
    assert ask("GET", "/nope").headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["/healthz", "/v1/features", "/v1/stats", "/", "/openapi.json"])
def test_head_is_get_without_the_body(path):
    head, get = ask("HEAD", path), ask("GET", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_head_sends_no_body_even_where_the_server_would_let_it():
    async def raw():
        call = Connection(create_app(MemoryService(), Settings()), "HEAD", "/v1/features")
        assert await call.status() == 200
        assert await call.chunk() == b""
        await call.task

    run(raw)


def test_options_lists_the_methods():
    answer = ask("OPTIONS", "/v1/values")
    assert (answer.status_code, answer.headers["Allow"]) == (204, "DELETE, OPTIONS, POST")


def test_links_keep_the_path_that_the_app_is_mounted_at():
    async def mounted():
        async with client(root_path="/amber") as http:
            return await http.post("/amber/v1/compute", json=compute_body("embedding"))

    assert run(mounted).json()["results"][0]["href"].startswith("/amber/v1/values/")


def test_values_of_features_that_are_registered_no_more_are_still_told():
    service = MemoryService()

    async def outlive():
        async with client(service) as http:
            await http.post("/v1/compute", json=compute_body("brightness"))
        service.made.pop("brightness")
        async with client(service) as http:
            return await http.get("/v1/requests/rq-000000")

    assert [r["value"] for r in run(outlive).json()["results"]] == [0.5, 0.5, 0.5]


def test_numbers_that_json_lacks_are_told_as_text():
    service = MemoryService()
    service.made["brightness"] = service.made["brightness"].__class__(
        service.made["brightness"].type, lambda unit: float("nan")
    )
    answer = ask("POST", "/v1/compute", service, json=compute_body("brightness"))
    assert answer.json()["results"][0]["value"] == "NaN"
    assert np.isnan(float(answer.json()["results"][0]["value"]))
