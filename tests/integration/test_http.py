"""A real server over HTTP: what the foundation must show to someone who only has a URL."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

import amber_ray
from amber_ray import errors
from amber_ray.cli import main
from amber_ray.cli.look import unit_label
from amber_ray.core.declare.loading import load
from tests.generated import generate
from tests.media import flat, write_video
from tests.server import CLIP, KIT, SAMPLES, Server, running

pytestmark = pytest.mark.timeout(240)
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory.mktemp("http"))


@pytest.fixture
def server(started: Server) -> Server:
    started.clear()
    with started.client() as client:
        for name in ("size", "gated", "raises", "dies", "hangs", "wrong_type"):
            client.delete("/v1/values", params={"feature": name})
    return started


LOAD = """
import asyncio, json, sys, httpx
url, count, body = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
async def main():
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=url, timeout=90, limits=limits, trust_env=False) as client:
        calls = [client.post("/v1/compute", json=body, headers={"Prefer": "wait=60"}) for _ in range(count)]
        for reply in await asyncio.gather(*calls):
            print(reply.status_code, reply.json()["results"][0]["value"])
asyncio.run(main())
"""


def test_a_thousand_http_requests_from_four_processes_are_one_computation(server: Server) -> None:
    body = json.dumps({"features": ["gated"], "assets": [{"uri": str(CLIP)}]})
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, server.url, "250", body], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    server.until(lambda: server.stats()["requests_running"] >= 1000, 90)
    server.open("gated")
    lines = [line for c in callers for line in c.communicate(timeout=90)[0].splitlines()]
    assert server.runs("gated") == 1
    assert len(lines) == 1000
    assert set(lines) == {f"200 {os.path.getsize(CLIP)}"}


def test_what_is_asked_twice_is_computed_once_and_said_to_be_cached(server: Server) -> None:
    first, again = (server.compute("size").json()["results"][0] for _ in range(2))
    assert (first["cached"], again["cached"]) == (False, True)
    assert first["value"] == again["value"] == os.path.getsize(CLIP)
    assert server.runs("size") == 1


def test_a_decorated_function_is_the_one_meant_or_nothing_is_run(server: Server, tmp_path: Path) -> None:
    def edited(name: str, was: str, becomes: str) -> ModuleType:
        path = tmp_path / name / "feature_kit.py"
        path.parent.mkdir()
        text = Path(KIT).read_text()
        assert text.count(was)
        path.write_text(text.replace(was, becomes))
        return load(str(path))

    @amber_ray.feature
    def only_here(size: int) -> int:
        return size

    size = os.path.getsize(CLIP)
    with amber_ray.connect(server.url) as client:
        assert client.get(load(KIT).size, CLIP) == size
        spaced = edited("spaced", "    return asset.bytes", "    # as many\n    return  asset.bytes")
        assert client.get(spaced.size, CLIP) == size
        for module, feature, said in (
            (edited("body", "return asset.bytes", "return -asset.bytes"), "size", "differ in its code"),
            (edited("helper", "{what}\\n", "{what}!\\n"), "size", "differ in its code"),
            (edited("version", '"1"', '"2"'), "size", "differ in its version ('2' here, '1' there)"),
            (edited("input", ".arange(10", ".arange(11"), "left", "'root' is not the one at http"),
        ):
            given = getattr(module, feature)
            with pytest.raises(errors.FeatureMismatch, match=re.escape(said)) as refused:
                client.get(given, CLIP)
            assert f"or ask for the server's own by name ('{feature}'" in str(refused.value)
            for ask in (client.submit, client.explain, client.get_many, client.stored):
                with pytest.raises(errors.FeatureMismatch, match=re.escape(said)):
                    ask([given], CLIP)
            with pytest.raises(errors.FeatureMismatch, match=re.escape(said)):
                client.sweep(given, [CLIP], print)
        with pytest.raises(errors.FeatureMismatch, match="'only_here' is not registered at http"):
            client.get(only_here, CLIP)
        with pytest.raises(errors.BadRequest, match="takes no features from its clients; give the module"):
            client.register(only_here)
        assert client.get("size", CLIP) == size
    assert server.runs("size") == 1
    assert server.runs("left") == 0


@pytest.mark.parametrize("way", ["poll", "long poll", "events"])
def test_a_slow_feature_is_accepted_and_fetched_later(server: Server, way: str) -> None:
    reply = server.compute("gated", wait=0)
    assert reply.status_code == 202
    place = reply.headers["location"]
    assert place == f"/v1/requests/{reply.json()['id']}"
    server.until(lambda: server.runs("gated") == 1)
    with server.client() as client:
        assert client.get(place).json()["state"] == "running"
        if way == "events":
            with client.stream("GET", f"{place}/events") as events:
                kinds: list[str] = []
                server.open("gated")
                for line in events.iter_lines():
                    if line.startswith("event:"):
                        kinds.append(line.removeprefix("event:").strip())
            assert kinds[-2:] == ["result", "done"]
        else:
            server.open("gated")
        if way == "poll":
            server.until(lambda: client.get(place).json()["state"] == "done")
        view = client.get(place, headers={"Prefer": "wait=30"}).json()
        assert view["results"][0]["value"] == os.path.getsize(CLIP)
        value = client.get(f"/v1/values/{view['results'][0]['key']}")
        assert value.json() == os.path.getsize(CLIP)
        assert value.headers["cache-control"] == "no-cache"
        same = client.get(value.request.url.path, headers={"If-None-Match": value.headers["etag"]})
        assert same.status_code == 304


def test_values_come_as_json_arrow_npy_and_pictures(server: Server) -> None:
    import io

    import pyarrow as pa

    view = server.compute("colour,thumbnail", wait=60).json()
    by_name = {r["feature"]: r for r in reversed(view["results"])}
    with server.client() as client:
        key = f"/v1/values/{by_name['colour']['key']}"
        listed = np.array(client.get(key, headers={"Accept": "application/json"}).json(), np.float32)
        npy = np.load(io.BytesIO(client.get(key, headers={"Accept": "application/x-npy"}).content))
        stream = client.get(key, headers={"Accept": "application/vnd.apache.arrow.stream"}).content
        table = pa.ipc.open_stream(stream).read_all()
        assert npy.dtype == np.float32
        assert np.array_equal(npy, listed)
        assert np.array_equal(np.array(table["value"][0].as_py(), np.float32), npy)
        picture = client.get(f"/v1/values/{by_name['thumbnail']['key']}", headers={"Accept": "image/*"})
        assert picture.headers["content-type"] == "image/jpeg"
        assert picture.content[:2] == b"\xff\xd8"
        refused = client.get(key, headers={"Accept": "image/png"})
        assert refused.status_code == 406


def test_many_values_are_one_arrow_stream_and_a_table(server: Server) -> None:
    results = server.compute("left,size,raises").json()["results"]
    keys = {name: [r["key"] for r in results if r["feature"] == name] for name in ("left", "size", "raises")}
    with server.client() as client:
        vectors = client.post("/v1/values", json={"keys": [*keys["left"], *keys["raises"], "f" * 32]})
        sizes = client.post("/v1/values", json={"keys": [*keys["size"], *keys["left"]]})
    assert vectors.headers["content-type"] == "application/vnd.apache.arrow.stream"
    frame = pa.ipc.open_stream(vectors.content).read_pandas()
    assert frame["key"].tolist() == [*keys["left"], *keys["raises"], "f" * 32]
    assert frame["status"].tolist() == [200, 200, 200, 200, 422, 404]
    assert frame["error"].tolist()[4:] == ["FeatureError", "UnknownKey"]
    assert frame["feature"].tolist()[4] == "raises"
    assert [v.dtype for v in frame["value"][:4]] == [np.float32] * 4
    rows = pa.ipc.open_stream(sizes.content).read_all().to_pylist()
    assert [r["error"] for r in rows] == [None] + ["AnotherType"] * 4
    assert rows[0]["value"] == CLIP.stat().st_size

    with amber_ray.connect(server.url) as client:
        values = client.values([*keys["left"], *keys["size"], *keys["raises"], "f" * 32])
        table = client.get_many(["left", "size", "raises"], CLIP, progress=False).to_pandas()
    assert [type(v).__name__ for v in values.values()] == ["ndarray"] * 4 + ["int", "Failure", "Failure"]
    assert table["start"].isna().tolist() == [True, *[False] * 4]
    assert table["size"].tolist()[0] == CLIP.stat().st_size
    assert table["error"].tolist()[0].startswith("raises: FeatureError: ")
    assert all(np.array_equal(v, values[key]) for v, key in zip(table["left"][1:], keys["left"], strict=True))


def test_one_bad_asset_among_fifty_is_one_named_failure(server: Server) -> None:
    first = write_video(server.media / "n0.mp4", [flat((128, 128, 128))] * 8)
    clips = [first]
    for i in range(1, 49):
        clips.append(Path(shutil.copy(first, server.media / f"n{i}.mp4")))
        with open(clips[-1], "ab") as file:
            file.write((12).to_bytes(4, "big") + b"free" + i.to_bytes(4, "big"))
    bad = server.media / "bad.mp4"
    bad.write_text("this is no video\n" * 100)
    view = server.compute("size", *clips[:30], bad, *clips[30:]).json()
    states = [r["state"] for r in view["results"]]
    assert (states.count("ready"), states.count("failed")) == (49, 1)
    failed = next(r for r in view["results"] if r["state"] == "failed")
    assert "bad.mp4" in json.dumps(failed)
    assert view["state"] == "done"


def test_a_long_video_in_a_range_runs_only_the_segments_it_touches(server: Server) -> None:
    path = write_video(server.media / "long.mp4", (flat((i % 256, 0, 0)) for i in range(600)), fps=2)
    view = server.compute("big", path, range=[60, 90]).json()
    assert [r["unit"]["start"] for r in view["results"]] == [60, 70, 80]
    assert server.runs("big") == 3


def bad_bodies() -> dict[str, tuple[object, int, str]]:
    clip = [{"uri": str(CLIP)}]
    return {
        "unknown feature": ({"features": ["sise"], "assets": clip}, 404, "did you mean 'size'"),
        "unknown parameter": (
            {"features": ["size"], "assets": clip, "params": {"size.x": 1}},
            400,
            "unknown parameter 'size.x'",
        ),
        "wrong parameter type": (
            {"features": ["big"], "assets": clip, "params": {"big.megabytes": "two"}},
            400,
            "big.megabytes",
        ),
        "not JSON": ("{", 400, "JSON"),
        "too deep": ("[" * 100_000, 400, "deep"),
        "unknown field": ({"features": ["size"], "asets": clip}, 400, "asets"),
    }


@pytest.mark.parametrize("name", list(bad_bodies()))
def test_bad_requests_are_told_in_a_sentence(server: Server, name: str) -> None:
    body, status, words = bad_bodies()[name]
    content = body if isinstance(body, str) else json.dumps(body)
    with server.client() as client:
        reply = client.post("/v1/compute", content=content, headers=JSON)
    assert reply.headers["content-type"].startswith("application/problem+json")
    problem = reply.json()
    assert (reply.status_code, problem["status"]) in ((status, status), (413, 413)), problem
    assert words in problem["detail"]


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: Server) -> None:
    with server.client() as client:
        reply = client.post("/v1/compute", content=b'{"features": ["' + b"x" * (5 << 20), headers=JSON)
    assert reply.status_code == 413


def bad_media(server: Server) -> dict[str, tuple[str, int, str]]:
    outside = server.folder / "outside.mp4"
    shutil.copy(CLIP, outside)
    link = server.media / "link.mp4"
    if not link.is_symlink():
        link.symlink_to(outside)
    (server.media / "empty.mp4").touch()
    (server.media / "text.mp4").write_text("hello\n" * 50)
    (server.media / "cut.mp4").write_bytes(CLIP.read_bytes()[:200_000])
    return {
        "missing": (str(server.media / "none.mp4"), 404, "none.mp4"),
        "directory": (str(server.media), 422, "directory"),
        "dots": (f"{server.media}/../outside.mp4", 403, "outside"),
        "symlink": (str(link), 403, "outside"),
        "encoded": (f"file://{server.media}/%2e%2e/outside.mp4", 403, "outside"),
        "remote": ("http://169.254.169.254/latest/meta-data", 403, "http"),
        "empty": (str(server.media / "empty.mp4"), 422, "empty"),
        "text": (str(server.media / "text.mp4"), 422, "text.mp4"),
        "truncated": (str(server.media / "cut.mp4"), 422, "cut.mp4"),
    }


@pytest.mark.parametrize(
    "name",
    ["missing", "directory", "dots", "symlink", "encoded", "remote", "empty", "text", "truncated"],
)
def test_bad_media_is_named_and_refused(server: Server, name: str) -> None:
    uri, status, words = bad_media(server)[name]
    # A cut video may still begin well: what decodes it meets the damage.
    feature = "brightness" if name == "truncated" else "size"
    result = server.compute(feature, uri).json()["results"][-1]
    assert result["state"] == "failed"
    assert result["error"]["status"] == status, result["error"]
    assert words in json.dumps(result["error"])
    if name == "truncated":
        return
    with server.client() as client:
        reply = client.post("/v1/assets", json={"uri": uri})
    assert reply.status_code == status
    assert "Traceback" not in reply.text


@pytest.mark.parametrize(
    ("feature", "kind", "words"),
    [
        ("raises", "feature", "the moon is full"),
        ("wrong_type", "feature", "must be int"),
        ("dies", "system", "worker process died"),
        ("hangs", "system", "timeout of 1 s"),
        ("needs_gpus", "system", "8 GPUs"),
    ],
)
def test_features_that_fail_harm_nobody_else(server: Server, feature: str, kind: str, words: str) -> None:
    result = server.compute(feature).json()["results"][0]
    assert (result["state"], result["error"]["kind"], result["error"]["step"]) == ("failed", kind, feature)
    assert words in json.dumps(result["error"])
    assert server.compute("size").json()["state"] == "done"


def test_explain_runs_nothing(server: Server) -> None:
    with server.client() as client:
        body = {"features": ["diamond"], "assets": [{"uri": str(CLIP)}]}
        steps = client.post("/v1/explain", json=body).json()["steps"]
    assert {s["feature"] for s in steps} == {"root", "left", "right", "diamond"}
    assert server.runs("root") == 0


def test_an_upload_is_an_asset_like_any_other(server: Server) -> None:
    with server.client() as client:
        asset = client.post(
            "/v1/assets", content=CLIP.read_bytes(), headers={"content-type": "video/mp4"}
        ).json()
        assert asset["duration"] == pytest.approx(30.0, abs=0.1)
        body = {"features": ["size"], "assets": [{"id": asset["id"]}]}
        view = client.post("/v1/compute", json=body, headers={"Prefer": "wait=30"}).json()
    assert view["results"][0]["value"] == os.path.getsize(CLIP)


def test_an_upload_by_form_is_kept_whole_or_not_at_all(server: Server) -> None:
    kept = server.store / "uploads"
    before = set(kept.rglob("*"))
    # Another content than the test above uploads: a free box behind the film.
    film = CLIP.read_bytes() + (12).to_bytes(4, "big") + b"freeform"
    head = 'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4'
    broken = f"--edge\r\n{head}\r\n\r\n".encode() + film + b"\r\n"
    with server.client() as client:
        answer = client.post(
            "/v1/assets", content=broken, headers={"Content-Type": "multipart/form-data; boundary=edge"}
        )
        assert answer.status_code == 400, answer.text
        assert "ends before its closing boundary" in answer.json()["detail"]
        assert set(kept.rglob("*")) == before
        asset = client.post("/v1/assets", files={"file": ("a.mp4", film)}).json()
        assert (asset["media_type"], asset["bytes"]) == ("video/mp4", len(film))
        body = {"features": ["size"], "assets": [{"id": asset["id"]}]}
        view = client.post("/v1/compute", json=body, headers={"Prefer": "wait=30"}).json()
    assert view["results"][0]["value"] == len(film)


def test_a_caller_who_hangs_up_ends_work_that_nobody_else_wants(server: Server) -> None:
    body = json.dumps({"features": ["gated"], "assets": [{"uri": str(CLIP)}]}).encode()
    head = (
        "POST /v1/compute HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Prefer: wait=50\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), 30) as caller:
        caller.sendall(head.encode() + body)
        server.until(lambda: server.runs("gated") == 1)
    server.until(lambda: server.stats()["requests_running"] == 0)
    server.until(lambda: server.stats()["tasks_running"] == 0)


@pytest.fixture(scope="module")
def generated(started: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModuleType]:
    """A client that openapi-python-client made of what the server says of itself."""
    folder = tmp_path_factory.mktemp("generated")
    return folder, generate(folder, "--url", f"{started.url}/openapi.json")


def test_the_pages_examples_run(server: Server, generated: tuple[Path, ModuleType]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    client, arrow = re.findall(r"```python\n(.*?)```", page, re.S)
    folder, _ = generated
    shutil.copy(CLIP, folder / "clip.mp4")

    def ran(example: str) -> subprocess.CompletedProcess[str]:
        (folder / "example.py").write_text(example.replace("http://127.0.0.1:8000", server.url))
        words = [sys.executable, "example.py"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        return done

    for name, place in (("a", CLIP), ("b", SAMPLES / "big-buck-bunny-trailer.mp4")):
        arrow = arrow.replace(f"/media/{name}.mp4", str(place))
    table = ran(arrow).stdout.splitlines()
    assert [line.split()[0] for line in table] == ["key", "0", "1"]
    assert all("video/mp4" in line for line in table[1:])
    lines = [line.split(maxsplit=2) for line in ran(client).stdout.splitlines()]
    assert [float(start) for start, _, _ in lines] == [0.0, 10.0, 20.0, 30.0]
    for _, _, told in lines[:3]:
        brightness = json.loads(told)
        assert len(brightness) >= 10
        assert all(0 <= one <= 1 for one in brightness)


def test_the_notebooks_examples_run(server: Server) -> None:
    page = (Path(__file__).parents[2] / "docs" / "notebooks.md").read_text()
    # What follows is of an Amber of one's own; `test_connect` tries that in a real notebook.
    page = page.partition("## Cells that change")[0]
    shutil.copy(CLIP, server.media / "a.mp4")
    write_video(server.media / "b.mp4", [flat((200, 0, 0))] * 48)
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.S))
    told = """
shown = results._repr_html_()
assert shown.count("<img") == 4, shown
assert list(frame) == ["asset", "start", "end", "brightness", "loudness", "thumbnail", "error"]
assert frame["thumbnail"].notna().sum() == 2
frame = results.to_pandas()
assert set(frame["thumbnail.size"]) == {160, 320}
assert results.to_polars()["brightness"].len() == len(frame)
assert frame["thumbnail"].notna().sum() == 4
"""
    done = subprocess.run(
        [sys.executable, "-c", (code + told).replace("http://127.0.0.1:8000", server.url)],
        cwd=server.media,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_a_generated_client_asks_waits_uploads_and_reads(
    server: Server, generated: tuple[Path, ModuleType]
) -> None:
    _, made = generated
    api, models = made.api, made.models
    film = CLIP.read_bytes() + (12).to_bytes(4, "big") + b"freemade"
    with made.Client(base_url=server.url, timeout=90, headers={"Accept": "application/json"}) as client:
        form = models.Upload(made.types.File(io.BytesIO(film), "a.mp4", "video/mp4"))
        asset = api.assets.asset.sync(client=client, body=form)
        assert (asset.bytes_, asset.media_type) == (len(film), "video/mp4")
        bare = api.assets.asset.sync(client=client, body=made.types.File(io.BytesIO(film)))
        assert bare == asset
        asked = models.Compute(
            features=["gated", "big"],
            assets=[models.AssetRef(id=asset.id)],
            params=models.Params.from_dict({"big.megabytes": 1}),
            priority=models.Priority.INGEST,
        )
        view = api.compute.compute.sync(client=client, body=asked, prefer="wait=0")
        assert view.state == models.RequestState.RUNNING
        server.open("gated")
        view = api.requests.request.sync(view.id, client=client, prefer="wait=60")
        assert view.state == models.RequestState.DONE, view
        first, *segments = view.results
        assert (first.feature, first.value, first.unit) == ("gated", len(film), None)
        assert [r.unit.index for r in segments] == [0, 1, 2, 3]
        values = api.values.value.sync(segments[0].key, client=client)
        assert len(values) == 1 << 18
        refused = api.features.feature.sync("sizes", client=client)
        assert (type(refused), refused.status) == (models.Problem, 404)
        assert "did you mean 'size'" in refused.detail


def test_windows_that_a_feature_found_are_told_when_they_are_known(server: Server) -> None:
    body = {
        "features": ["mark_span"],
        "assets": [{"uri": str(CLIP)}],
        "params": {"mark_span.gated": True, "marks.at": "3,17"},
    }
    with server.client() as client:
        reply = client.post("/v1/compute", json=body, headers={"Prefer": "wait=0"})
        assert reply.status_code == 202
        place = reply.headers["location"]
        server.until(lambda: server.runs("mark_span") > 0)
        waiting = client.get(place).json()
        assert [r["unit"] for r in waiting["results"]] == [
            {"start": 0.0, "end": 3.0},
            {"start": 3.0, "end": 17.0},
        ]
        assert {r["state"] for r in waiting["results"]} == {"pending"}
        told = []
        with client.stream("GET", f"{place}/events") as events:
            server.open("mark_span")
            for line in events.iter_lines():
                if line.startswith("data:") and '"result"' in line:
                    told.append(json.loads(line.removeprefix("data:"))["result"]["value"])
        assert sorted(told) == [[0.0, 3.0], [3.0, 17.0]]
        done = client.get(place).json()
        assert [r["value"] for r in done["results"]] == [[0.0, 3.0], [3.0, 17.0]]
        part = client.post("/v1/compute", json=body | {"range": [1, 2]}, headers={"Prefer": "wait=60"})
        assert [r["unit"] for r in part.json()["results"]] == [{"start": 0.0, "end": 3.0}]
        nothing = body | {"params": {"marks.at": ""}}
        none = client.post("/v1/compute", json=nothing, headers={"Prefer": "wait=60"}).json()
        assert (none["state"], [(r["unit"], r["state"]) for r in none["results"]]) == (
            "done",
            [({"each": "marks"}, "ready")],
        )
        wrong = body | {"params": {"marks.at": "-1"}}
        failed = client.post("/v1/compute", json=wrong, headers={"Prefer": "wait=60"}).json()["results"]
        assert [(r["unit"], r["state"]) for r in failed] == [({"each": "marks"}, "failed")]
        assert "'marks' found no ranges" in failed[0]["error"]["message"]
    with amber_ray.connect(server.url) as python:
        assert python.get("mark_span", CLIP, params={"marks.at": "3,17"}) == [[0.0, 3.0], [3.0, 17.0]]
        assert python.get("mark_span", CLIP, params={"marks.at": ""}) == []
    assert server.runs("marks") == 3


MARKS = [(0.0, 3.0), (3.0, 17.0), (17.0, 20.0)]


def test_found_windows_are_explained_stored_and_counted_one_by_one(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is known of each window is told by every way in, and nobody guesses what is not."""

    def shell(*words: str) -> str:
        assert main([*words, str(CLIP), "--server", server.url]) == 0
        return capsys.readouterr().out

    def stored(client: amber_ray.Client, **params: str) -> list[tuple[str, str]]:
        rows = client.stored("mark_span", CLIP, params=params).rows
        return [(unit_label(row.unit), row.state) for row in rows]

    def fates(client: amber_ray.Client, **params: str) -> dict[str, str]:
        steps = client.explain("mark_span", CLIP, params=params)
        return {f"{step.feature} {unit_label(step.unit)}": step.action for step in steps}

    with amber_ray.connect(server.url) as client, server.client() as http:
        for name in ("marks", "mark_span"):
            client.purge(feature=name)
        assert stored(client) == [("each of marks", "pending")]
        assert fates(client) == {"marks whole": "run", "mark_span each of marks": "run"}
        got = client.get("mark_span", CLIP)
        assert got == [[a, b] for a, b in MARKS]
        assert [(w.start, w.end, value) for w, value in got.items()] == [(a, b, [a, b]) for a, b in MARKS]
        table = client.get_many(["mark_span", "size"], CLIP)
        assert [(w.start, w.end) for w, _ in table["mark_span", CLIP].items()] == MARKS
        assert stored(client) == [(f"{a:g}-{b:g} s", "ready") for a, b in MARKS]
        assert {f for step, f in fates(client).items() if step != "marks whole"} == {"use"}

        # Windows that nobody has looked for: as many as were found before, in the mean, are expected.
        moved = {"marks.at": "3,16,20"}
        [finder, each] = client.explain("mark_span", CLIP, params=moved)
        assert (finder.action, each.action) == ("run", "run")
        mean = each.expected
        assert mean in (2, 3)  # other tests have had it look for fewer
        told = shell("explain", "mark_span", "--param", "marks.at=3,16,20")
        assert f"each of marks: {mean} expected" in " ".join(told.split())
        assert f"about {mean + 1} of {mean + 1} steps would run" in told
        body = {"features": ["mark_span"], "assets": [{"uri": str(CLIP)}], "params": moved}
        plan = http.post("/v1/explain", json=body).json()
        assert [(s["unit"], s["expected"]) for s in plan["steps"]] == [
            (None, None),
            ({"each": "marks"}, mean),
        ]
        part = http.post("/v1/explain", json=body | {"range": [0, 10]}).json()
        assert [s["expected"] for s in part["steps"]] == [None, 1]

        # Looked for, and only one of them is there: it has the same bounds.
        client.get("marks", CLIP, params=moved)
        assert stored(client, **moved) == [
            *(("0-3 s", "ready"), ("3-16 s", "pending"), ("16-20 s", "pending")),
        ]
        assert [fates(client, **moved)[f"mark_span {w}"] for w in ("0-3 s", "3-16 s", "16-20 s")] == [
            *("use", "run", "run"),
        ]
        found = json.loads(shell("get", "mark_span", "--range", "2:4", "--format", "json", "-q"))
        assert [row["unit"] for row in found["results"]] == [{"start": a, "end": b} for a, b in MARKS[:2]]
        assert (server.runs("marks"), server.runs("mark_span")) == (2, 3)
        assert client.get("mark_span", CLIP, params={"marks.at": ""}) == []
        assert stored(client, **{"marks.at": ""}) == [("each of marks", "ready")]
        assert "nothing was found" in shell("get", "mark_span", "--param", "marks.at=")


def test_found_windows_fail_are_purged_refreshed_and_cancelled_one_by_one(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = (0, 0)

    def ran() -> tuple[int, int]:
        """Runs of finder and units since this was asked last."""
        nonlocal runs
        before, runs = runs, (server.runs("marks"), server.runs("mark_span"))
        return runs[0] - before[0], runs[1] - before[1]

    spans = [[a, b] for a, b in MARKS]
    with amber_ray.connect(server.url) as client, server.client() as http:
        client.purge(asset=CLIP)
        assert client.get("mark_span", CLIP) == spans
        assert ran() == (1, 3)

        with pytest.raises(errors.FeatureError, match="this one is bad"):
            client.get("mark_span", CLIP, params={"mark_span.bad": 3.0})
        assert ran() == (0, 3)
        [failure] = [f for f in client.failures() if f.step == "mark_span"]
        assert failure.unit.endswith("@3000000+14000000")
        assert main(["failures", "--server", server.url]) == 0
        assert "3-17 s" in capsys.readouterr().out
        table = client.get_many("mark_span", CLIP, params={"mark_span.bad": 3.0})
        assert [(row.unit.start, row.state) for row in table.rows if row.unit] == [
            *((0.0, "ready"), (3.0, "failed"), (17.0, "ready")),
        ]
        assert ran() == (0, 0)

        # What is forgotten is what was named: an asset's, the finder's, the units'.
        client.purge(feature="marks")
        assert client.stored("mark_span", CLIP).rows[0].uncounted
        assert client.get("mark_span", CLIP) == spans
        assert ran() == (1, 0)
        assert main(["purge", "--feature", "mark_span", "--server", server.url]) == 0
        assert {row.state for row in client.stored("mark_span", CLIP).rows} == {"pending"}
        assert client.get("mark_span", CLIP) == spans
        assert ran() == (0, 3)
        id = client.asset(CLIP).id
        assert http.delete("/v1/values", params={"asset": id}).json()["purged"] >= 4
        assert client.get("mark_span", CLIP) == spans
        assert ran() == (1, 3)

        # A refresh of the units is of the units, as of any feature; that of the finder is of its ranges.
        assert client.get("mark_span", CLIP, refresh=True) == spans
        assert ran() == (0, 3)
        told = {"marks.at": "told"}
        (server.traces / "marks.told").write_text("4,17,20")
        assert client.get("mark_span", CLIP, params=told) == [[0.0, 4.0], [4.0, 17.0], [17.0, 20.0]]
        assert ran() == (1, 2)  # [17, 20) was there
        (server.traces / "marks.told").write_text("4,18")
        assert len(client.get("marks", CLIP, params=told, refresh=True)) == 3
        assert [row.state for row in client.stored("mark_span", CLIP, params=told).rows] == [
            *("ready", "pending"),
        ]
        assert client.get("mark_span", CLIP, params=told) == [[0.0, 4.0], [4.0, 18.0]]
        assert ran() == (1, 1)
        (server.traces / "marks.told").write_text("5,18")
        both = client.get_many(["marks", "mark_span"], CLIP, params=told, refresh=True)
        assert both["mark_span", CLIP] == [[0.0, 5.0], [5.0, 18.0]]
        assert ran() == (1, 2)

        # A caller who leaves in the midst of an expansion takes along what nobody else waits for.
        held = {
            "features": ["mark_span"],
            "assets": [{"uri": str(CLIP)}],
            "params": {"mark_span.gated": True},
        }
        place = http.post("/v1/compute", json=held, headers={"Prefer": "wait=0"}).headers["location"]
        server.until(lambda: server.runs("mark_span") > runs[1])
        left = http.delete(place).json()
        assert (left["state"], {r["state"] for r in left["results"]}) == ("cancelled", {"cancelled"})
        assert [(r["unit"]["start"], r["unit"]["end"]) for r in left["results"]] == MARKS
        server.until(lambda: not server.stats()["tasks_running"])
        server.open("mark_span")
        assert client.get("mark_span", CLIP, params={"mark_span.gated": True}) == spans
