from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amber_ray import errors
from amber_ray.cli import main, options, status_of
from amber_ray.cli.graph import below, dot, mermaid, tree
from amber_ray.cli.parser import build
from amber_ray.cli.serve import served_settings
from amber_ray.cli.summary import size, summary
from amber_ray.cli.terminal import seconds
from amber_ray.client import AsyncClient, Client
from amber_ray.client.loop import Loop
from amber_ray.core.model.callback import Callback
from amber_ray.core.model.request import AssetRef, ComputeRequest, ExplainedStep
from amber_ray.core.model.service import FeatureInfo
from amber_ray.core.model.units import Asset, EachRange
from amber_ray.core.values.annotations import Scalar
from tests.memory_service import Call, Made
from tests.unit.gated_service import JPEG, GatedService

ROOT = Path(__file__).parents[3]
SERVER = ("--server", "http://127.0.0.1:8000")
Amber = Callable[..., tuple[int, str, str]]


@pytest.fixture
def service() -> GatedService:
    made = GatedService()
    made.put("/a.mp4")
    made.put("/b.mp4")
    return made


@pytest.fixture
def connected(service: GatedService, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """`connect` gives a client of the service, wherever the command uses it; the arguments it was given."""
    given: list[dict[str, Any]] = []

    def connect(address: str | None = None, **arguments: Any) -> Client:
        given.append({"address": address, **arguments})
        return Client(AsyncClient(service, timeout=20.0), Loop())

    for module in ("deliveries", "options", "look", "registered"):
        monkeypatch.setattr(f"amber_ray.cli.{module}.connect", connect)
    yield given
    assert service.closed == len(given)


@pytest.fixture
def amber(
    connected: list[dict[str, Any]], capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> Iterator[Amber]:
    """The command: its status, stdout and stderr. It works in an empty folder."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        out, err = capsysbinary.readouterr()
        return status, out.decode("utf-8", "surrogateescape"), err.decode()

    before = Path.cwd()
    os.chdir(tmp_path)
    yield run
    os.chdir(before)


# Get


def test_get_prints_a_table(amber: Amber) -> None:
    status, out, err = amber("get", "size,picture,vector", "/a.mp4", *SERVER)
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if "/a.mp4" in line]
    assert [r[0] for r in rows] == ["size", "picture", "vector", "vector", "vector"]
    assert rows[0][2:] == ["whole", "6", "250", "ms", "computed"]
    assert "JPEG, 1.0 KiB" in out
    assert "10-20 s" in out
    assert "float32[2]" in out
    assert "cached" in amber("get", "size", "/a.mp4", *SERVER)[1]


def test_get_prints_json(amber: Amber) -> None:
    status, out, _ = amber("get", "score,similar,vector", "/a.mp4", "/b.mp4", "--format", "json", *SERVER)
    assert status == 0
    results = json.loads(out)["results"]
    assert [r["value"] for r in results if r["feature"] == "score"] == ["NaN", "NaN"]
    assert results[-1]["unit"] == {"collection": sorted(results[-1]["unit"]["collection"])}
    assert (results[-1]["asset"], results[-1]["value"]) == (None, {"assets": 2})
    vectors = [r for r in results if r["feature"] == "vector" and r["asset"] == "/b.mp4"]
    assert vectors[0]["unit"] == {"index": 0, "start": 0.0, "end": 10.0}
    assert [r["value"] for r in vectors] == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]


def test_one_bad_asset_is_a_sentence_and_status_1(amber: Amber) -> None:
    status, out, err = amber("get", "size", "/a.mp4", "/none.mp4", "--format", "json", *SERVER)
    assert status == 1
    assert [r["state"] for r in json.loads(out)["results"]] == ["ready", "failed"]
    assert err == "amber: size of /none.mp4 failed: asset: nothing is at /none.mp4\n"
    status, out, err = amber("get", "broken", "/a.mp4", *SERVER)
    assert status == 1
    assert err == "amber: broken of /a.mp4 failed: ValueError: it broke\n"
    assert "ValueError: it broke" in out


def test_debug_shows_the_traceback_of_a_feature(amber: Amber) -> None:
    _, _, err = amber("get", "broken", "/a.mp4", "--debug", *SERVER)
    sentence, *traceback = err.splitlines()
    assert sentence == "amber: broken of /a.mp4 failed: ValueError: it broke"
    assert traceback[0].startswith("Traceback")


def test_values_become_files_in_their_own_form(amber: Amber, tmp_path: Path) -> None:
    status, out, err = amber("get", "size,picture,vector,similar", "/a.mp4", "--out", "here/", *SERVER)
    assert status == 0
    names = sorted(p.name for p in (tmp_path / "here").iterdir())
    vectors = [f"a.vector.{a}-{min(a + 10, 25)}s.npy" for a in (0, 10, 20)]
    assert names == sorted(["a.size.json", "a.picture.jpg", *vectors, "similar.json"])
    assert err.splitlines() == [
        f"here/{n}" for n in ("a.size.json", "a.picture.jpg", *vectors, "similar.json")
    ]
    assert (tmp_path / "here/a.picture.jpg").read_bytes() == JPEG
    assert np.load(tmp_path / "here" / vectors[1]).tolist() == [1.0, 0.5]
    assert "float32" in out


def test_one_value_is_one_file(amber: Amber, tmp_path: Path) -> None:
    assert amber("get", "picture", "/a.mp4", "--out", "sub/x.jpg", "-q", *SERVER) == (0, "", "")
    assert (tmp_path / "sub/x.jpg").read_bytes() == JPEG
    status, _, err = amber("get", "vector", "/a.mp4", "--out", "x.npy", *SERVER)
    assert status == 2
    assert err == "amber: --out x.npy names one file but there are 3 to write: name a folder\n"


def test_files_of_one_name_do_not_overwrite_each_other(
    amber: Amber, service: GatedService, tmp_path: Path
) -> None:
    service.put("/x/a.mp4")
    assert amber("get", "size", "/a.mp4", "/x/a.mp4", "--out", "o", *SERVER)[0] == 0
    assert len(list((tmp_path / "o").iterdir())) == 2


def test_get_writes_arrow(amber: Amber, tmp_path: Path) -> None:
    assert amber("get", "vector", "/a.mp4", "--format", "arrow", "--out", "v.arrow", *SERVER)[0] == 0
    table = pa.ipc.open_file(str(tmp_path / "v.arrow")).read_all()
    assert table.column_names == ["asset", "start", "end", "key", "value", "seconds", "cached"]
    assert table["start"].to_pylist() == [0.0, 10.0, 20.0]
    status, out, _ = amber("get", "size", "/a.mp4", "/none.mp4", "--format", "arrow", *SERVER)
    assert status == 1
    streamed = pa.ipc.open_stream(out.encode("utf-8", "surrogateescape")).read_all()
    assert streamed["value"].to_pylist() == [6]
    status, _, err = amber("get", "size,score", "/a.mp4", "--format", "arrow", *SERVER)
    assert (status, err) == (2, "amber: stdout takes one feature's table, not 2: give --out FOLDER\n")


def test_get_writes_npy(amber: Amber, tmp_path: Path) -> None:
    assert amber("get", "odd", "/a.mp4", "--format", "npy", "--out", "x.npy", *SERVER)[0] == 0
    assert np.load(tmp_path / "x.npy").shape == (0, 4)
    status, _, err = amber("get", "picture", "/a.mp4", "--format", "npy", *SERVER)
    assert (status, err) == (2, "amber: the value of picture is no array: ask for --format json\n")


def test_what_is_asked_is_what_was_typed(amber: Amber, service: GatedService) -> None:
    words = ["--param", "score.scale=2", "--param", "score.style=3", "--range", ":12.5", "--refresh"]
    amber(
        "get", "score", "/a.mp4", *words, "--priority", "ingest", "--tenant", "t", "--timeout", "9", *SERVER
    )
    [held] = service.requests.values()
    asked = held.request
    assert asked.params == {"score.scale": 2, "score.style": "3"}
    assert (asked.range, asked.refresh, asked.priority.name) == ((0.0, 12.5), True, "INGEST")
    assert asked.deadline_seconds == 9.0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["get", "size,", "/a.mp4"], "'size,' has an empty name; features are named as in 'shots,loudness'"),
        (["get", "nope", "/a.mp4"], "'nope'"),
        (["get", "size", "/a.mp4", "--param", "x"], "--param takes FEATURE.NAME=VALUE"),
        (["get", "size", "/a.mp4", "--param", "score.nope=1"], "'score.nope'"),
        (["get", "size", "/a.mp4", "--range", "5"], "--range takes A:B"),
        (["get", "size", "/a.mp4", "--range", "9:3"], "0 <= A < B"),
        (["get", "size", "/a.mp4", "--store", "x"], "--store belongs to the server"),
        (["get", "size", "/a.mp4", "--out", "/proc/nope/x"], "/proc/nope"),
        (["purge"], "never forgets everything"),
        (["backfill", "size", "--assets", "@/no/such/list"], "No such file"),
        (["graph", "sise"], "did you mean 'size'"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_a_wrong_word_is_one_sentence_and_status_2(amber: Amber, words: list[str], sentence: str) -> None:
    status, out, err = amber(*words, *SERVER)
    assert (status, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [[], ["nope"], ["get"], ["get", "a", "b", "--format", "xml"], ["serve", "--port", "x"]]
)
def test_usage_is_one_sentence_and_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["get", "size", "a.mp4", "--sever", "x"],
            "amber get: there is no option --sever; did you mean '--server'? (amber get --help",
        ),
        (["prune", "--zzz=1"], "amber prune: there is no option --zzz (amber prune --help lists"),
        (["diff", "size", "1", "2", "3"], "amber diff: '3' is one word too many (amber diff --help"),
        (["--zzz"], "amber: the following arguments are required: COMMAND"),
        (
            ["token", "list", "--stor", "x"],
            "amber token list: there is no option --stor; did you mean '--store'",
        ),
        (["gett", "size"], "amber: there is no command 'gett'; did you mean 'get'? (amber --help lists"),
        (["serve", "--port", "99999"], "--port: a port is 0 to 65535, not '99999'"),
        (
            ["serve", "--memory-bytes", "much"],
            "--memory-bytes: a number of bytes, such as 500M or 2G, not 'much'",
        ),
        (["serve", "--segment-seconds", "x"], "--segment-seconds: invalid float value: 'x'"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_a_mistyped_word_is_told_by_the_command_that_was_meant(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert sentence in capsys.readouterr().err


def test_an_unknown_feature_may_be_in_a_file_that_was_not_named(amber: Amber) -> None:
    assert "; --features FILE registers your own" in amber("get", "zzzz", "/a.mp4")[2]
    assert "--features" not in amber("get", "zzzz", "/a.mp4", *SERVER)[2]


def test_features_are_joined_by_commas(amber: Amber) -> None:
    for command in ("get", "explain"):
        status, _, err = amber(command, "size", "score", "/a.mp4", *SERVER)
        assert status == 2
        assert err == "amber: 'score' is a feature, not a file; several are joined by commas: size,score\n"


def test_bytes_may_be_said_with_a_unit() -> None:
    said = {"1000": 1000, "1.5K": 1536, "500M": 500 << 20, "2GiB": 2 << 30, "1tb": 1 << 40}
    for word, meant in said.items():
        assert build().parse_args(["serve", "--memory-bytes", word]).memory_bytes == meant


# Own or a server's


def test_without_a_server_settings_come_from_the_words(
    amber: Amber, connected: list[dict[str, Any]], service: GatedService, tmp_path: Path
) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/real.mp4").touch()
    (tmp_path / "media/a.mp4").symlink_to(tmp_path / "elsewhere/real.mp4")
    service.put(str(tmp_path / "media/a.mp4"))
    words = ["--segment-seconds", "10", "--num-gpus", "0", "--memory-bytes", "1000", "--features", "mine.py"]
    assert amber("get", "size", "media/a.mp4", *words)[0] == 0
    settings = connected[0]["settings"]
    assert settings.store == str(tmp_path / "amber-store")
    assert settings.media_roots == (str(tmp_path / "media"), str(tmp_path / "elsewhere"))
    assert (settings.segment_seconds, settings.num_gpus, settings.memory_bytes) == (10.0, 0.0, 1000)
    assert settings.features == (str(tmp_path / "mine.py"),)
    assert settings.remote_schemes == ()


def test_typed_urls_allow_their_scheme(amber: Amber, connected: list[dict[str, Any]]) -> None:
    amber("get", "size", "s3://bucket/a.mp4", "file:///m%20x/b.mp4", "--store", "s3://bucket/store")
    settings = connected[0]["settings"]
    assert settings.remote_schemes == ("s3",)
    assert settings.media_roots == ("/m x",)
    assert settings.store == "s3://bucket/store"


def test_a_token_comes_from_the_word_or_the_environment(
    amber: Amber, connected: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMBER_TOKEN", "from-the-environment")
    amber("status", *SERVER)
    amber("status", *SERVER, "--token", "typed")
    amber("status")
    assert [c["token"] for c in connected] == ["from-the-environment", "typed", "from-the-environment"]
    assert connected[2]["address"] == "http://127.0.0.1:8000"
    assert amber("get", "size", "/a.mp4", "--token", "x")[0] == 2


# Looking


def test_features_are_listed_and_shown(amber: Amber) -> None:
    status, out, _ = amber("features", *SERVER)
    assert status == 0
    assert "scale=1, style=a" in out
    assert "The size of it." in out
    assert "More about it" in amber("features", "score", *SERVER)[1]
    assert 'parameter   score.style: str = "a"' in amber("features", "score", *SERVER)[1]
    listed = json.loads(amber("features", "--format", "json", *SERVER)[1])
    assert {f["name"] for f in listed} >= {"size", "score"}


def test_the_graph_is_a_tree(amber: Amber) -> None:
    status, out, _ = amber("graph", "similar", *SERVER)
    assert status == 0
    assert out.splitlines() == [
        "similar  1  per collection",
        "└─ score  1  per asset",
        "   ├─ vector  1  per segment  GPU=0.5  not stored",
        "   └─ size  1  per asset",
    ]
    assert amber("graph", "similar", "--dot", *SERVER)[1].count("->") == 3
    assert amber("graph", "similar", "--mermaid", *SERVER)[1].count("-->") == 3


def test_a_shared_part_is_unfolded_once() -> None:
    def info(name: str, *inputs: str) -> FeatureInfo:
        return FeatureInfo(name, "1", "asset", inputs, {}, {}, {"CPU": 1.0}, "parquet", "", True, "", False)

    graph = {i.name: i for i in (info("a"), info("b", "a"), info("c", "b"), info("d", "b", "c"))}
    assert list(tree(graph)) == [
        "d  1  per asset",
        "├─ b  1  per asset",
        "│  └─ a  1  per asset",
        "└─ c  1  per asset",
        "   └─ b  1  per asset  (see above)",
    ]
    assert list(dot(graph))[-1] == "}"
    assert next(iter(mermaid(graph))) == "graph LR"


def test_hashes_are_told_in_hex() -> None:
    assert summary(np.array([2**64 - 1, 5], np.uint64)) == "uint64[2] ffffffffffffffff …"
    assert summary(np.array([2**60], np.uint64)) == "uint64[1] 1000000000000000"
    assert summary(np.array([1, 3], np.uint64)) == "uint64[2] 1 … 3, mean 2"


def test_explain_says_what_would_run(amber: Amber) -> None:
    amber("get", "size", "/a.mp4", *SERVER)
    status, out, _ = amber("explain", "size,score", "/a.mp4", *SERVER)
    assert status == 0
    assert "1 of 2 steps would run, about 500 ms of work" in out
    steps = json.loads(amber("explain", "size,score", "/a.mp4", "--format", "json", *SERVER)[1])
    assert [(s["state"], s["action"]) for s in steps] == [("kept", "use"), ("missing", "run")]


def test_explain_counts_what_never_ran_as_unknown(amber: Amber, service: GatedService) -> None:
    service.never_ran = {"score"}
    told = amber("explain", "size,score", "/a.mp4", *SERVER)[1]
    assert "2 of 2 steps would run, about 500 ms of work, unknown for 1 of 2 features" in told
    service.never_ran = {"score", "size"}
    told = amber("explain", "size,score", "/a.mp4", *SERVER)[1]
    assert "2 of 2 steps would run, how long is not known: none of their features has run here" in told


def test_explain_says_how_many_windows_are_expected(amber: Amber, service: GatedService) -> None:
    film = Asset("a" * 32, "/a.mp4", "video/mp4", 1, 30.0)
    each = EachRange(film, "marks", "K", 10_000_000)
    explained: list[ExplainedStep] = [
        ExplainedStep("marks", "1", "K", film, "missing", (), 2.0, {"CPU": 1.0}, False, "run"),
        ExplainedStep("span", "1", "S", each, "missing", ("K",), 0.5, {"CPU": 1.0}, True, "run", 14),
    ]

    async def explain(request: ComputeRequest) -> list[ExplainedStep]:
        return explained

    service.explain = explain  # type: ignore[method-assign]
    told = " ".join(amber("explain", "size", "/a.mp4", *SERVER)[1].split())
    assert "each of marks: 14 expected" in told
    assert "about 15 of 15 steps would run, about 9.0 s of work" in told
    steps = json.loads(amber("explain", "size", "/a.mp4", "--format", "json", *SERVER)[1])
    assert [(s["unit"], s["expected"]) for s in steps] == [(None, None), ({"each": "marks"}, 14)]
    explained[1] = dataclasses.replace(explained[1], expected=None)  # its finder has never run here
    told = " ".join(amber("explain", "size", "/a.mp4", *SERVER)[1].split())
    assert "2 of 2 steps would run, about 2.0 s of work, unknown for 1 of 2 features" in told


def test_status_and_failures(amber: Amber, service: GatedService) -> None:
    assert "1,234.5" in amber("status")[1]
    assert json.loads(amber("status", "--format", "json")[1])["hits"] == 2.0
    amber("get", "broken", "/a.mp4", *SERVER)
    told = amber("failures")[1]
    assert "ValueError: it broke" in told
    assert " /a.mp4 " in told
    assert service.assets["/a.mp4"].id not in told
    assert json.loads(amber("failures", "--format", "json")[1])[0]["step"] == "broken"
    service.requests.clear()
    status, _, err = amber("status", "no-such-request")
    assert (status, "no-such-request" in err) == (2, True)
    amber("get", "size", "/a.mp4", *SERVER)
    [id] = service.requests
    assert amber("status", id)[1] == f"{id}: done, 1 of 1 steps done\n"


def test_deliveries_are_listed_and_made_again(amber: Amber, service: GatedService) -> None:
    assert amber("deliveries", *SERVER)[1] == "there are no deliveries\n"
    assert amber("deliveries", "--state", "failed", *SERVER)[1] == "there are no deliveries that are failed\n"
    callback = Callback("https://127.0.0.1/hook")
    request = ComputeRequest(("size",), (AssetRef(uri="/a.mp4"),), callback=callback)
    asyncio.run(service.compute(request, 20.0, "rq-called"))
    status, out, err = amber("deliveries", *SERVER)
    assert (status, err) == (0, "")
    for word in ("end_rq-called", "https://127.0.0.1/…", "delivered"):
        assert word in out
    [told] = json.loads(amber("deliveries", "--state", "delivered", "--format", "json", *SERVER)[1])
    assert (told["request"], told["type"]) == ("rq-called", "request.done")
    said = amber("deliveries", "--replay", "end_rq-called", *SERVER)[1]
    assert said == "end_rq-called is sent again, to https://127.0.0.1/…\n"
    status, _, err = amber("deliveries", "--replay", "end_nobody", *SERVER)
    assert (status, "no delivery has the id 'end_nobody'" in err) == (2, True)
    assert amber("deliveries", "--state", "lost", *SERVER)[0] == 2


def test_changes_are_listed_by_who_made_them(amber: Amber, service: GatedService, tmp_path: Path) -> None:
    request = ComputeRequest(("size",), (AssetRef(uri="/a.mp4"),), tenant="search")
    asyncio.run(service.compute(request, 0.0, "rq-later"))
    asyncio.run(service.cancel("rq-later"))
    status, out, err = amber("audit", *SERVER)
    assert (status, err) == (0, "")
    for word in ("request.cancelled", "rq-later", "this program", "search"):
        assert word in out
    [told] = json.loads(amber("audit", "--format", "json", "--what", "request.cancelled", *SERVER)[1])
    assert (told["subject"], told["tenant"], told["outcome"]) == ("rq-later", "search", "done")
    assert json.loads(amber("audit", "--tenant", "web", "--format", "json", *SERVER)[1]) == []
    store = str(tmp_path / "store")
    assert amber("token", "new", "ci", "--store", store, "--tenant", "search", "--scope", "read")[0] == 0
    token = amber("token", "new", "old", "--store", store, "--tenant", "web", "--scope", "operate")[1].strip()
    assert amber("token", "revoke", "old", "--store", store)[0] == 0
    out = amber("audit", "--store", store, "--format", "json", "--since", "1h")[1]
    assert [(one["what"], one["subject"], one["tenant"]) for one in json.loads(out)] == [
        ("token.revoked", "old", "web"),
        ("token.made", "old", "web"),
        ("token.made", "ci", "search"),
    ]
    assert token not in out
    assert json.loads(amber("audit", "--store", store, "--format", "json", "--since", "2999-01-01")[1]) == []
    assert "may be more than these 1;" in amber("audit", "--store", store, "--limit", "1")[2]
    for wrong in (("--since", "soon"), ("--what", "all"), ("--store", store, *SERVER)):
        assert amber("audit", *(("--store", store) if "--store" not in wrong else ()), *wrong)[0] == 2


# What is known


def test_assets_are_listed_by_place(amber: Amber, service: GatedService) -> None:
    service.put("/[b]c.png", duration=None)
    amber("get", "size", "/a.mp4", "/b.mp4", "/[b]c.png", *SERVER)
    status, out, err = amber("assets", *SERVER)
    assert (status, err) == (0, "")
    assert [word for word in out.split() if word.startswith("/")] == [
        "/[b]c.png",
        "/a.mp4",
        "/b.mp4",
    ]
    assert service.assets["/a.mp4"].id in out
    told = json.loads(amber("assets", "/b", "--kind", "video", "--format", "json", *SERVER)[1])
    assert [one["uri"] for one in told] == ["/b.mp4"]
    status, out, err = amber("assets", "--limit", "1", *SERVER)
    assert "there may be more than these 1" in err
    assert "/a.mp4" not in out
    assert json.loads(amber("assets", "--min-duration", "26", "--format", "json", *SERVER)[1]) == []
    assert amber("assets", "--kind", "film", *SERVER)[0] == 2
    assert amber("assets", "--limit", "0", *SERVER)[0] == 2


def test_requests_are_listed_with_what_became_of_them(amber: Amber, service: GatedService) -> None:
    amber("get", "size", "/a.mp4", *SERVER)
    amber("get", "broken", "/a.mp4", *SERVER)
    told = json.loads(amber("requests", "--format", "json")[1])
    told.sort(key=lambda one: one["state"])  # the double makes all at the same time
    assert [(one["state"], one["features"], one["ready"], one["failed"]) for one in told] == [
        ("done", ["size"], 1, 0),
        ("failed", ["broken"], 0, 1),
    ]
    words = amber("requests", "--state", "failed", *SERVER)[1]
    assert told[1]["id"] in words
    assert told[0]["id"] not in words
    assert amber("requests", "--state", "over")[0] == 2


def test_a_lineage_is_shown_as_a_tree(amber: Amber, service: GatedService) -> None:
    amber("get", "size", "/a.mp4", *SERVER)
    [key] = service.kept
    asset = service.assets["/a.mp4"].id
    status, out, err = amber("lineage", key, *SERVER)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"{key}  size@1 of asset {asset}: stored, 250 ms on cpu",
        f"{asset}  /a.mp4",
    ]
    told = json.loads(amber("lineage", key, "--format", "json", *SERVER)[1])
    assert [(node["key"], node["known"]) for node in told["nodes"]] == [(key, True)]
    status, _, err = amber("lineage", "0" * 32, *SERVER)
    assert (status, "0" * 32 in err) == (2, True)


# The store


def test_purge_says_how_many(amber: Amber, service: GatedService) -> None:
    amber("get", "size,picture,vector", "/a.mp4", *SERVER)
    assert amber("purge", "--asset", "/a.mp4", "--version", "1", *SERVER) == (0, "5 values forgotten\n", "")
    asset = service.assets["/a.mp4"].id
    assert service.purged == [{"asset": asset, "feature": None, "version": "1"}]


def test_check_finds_changed_code(amber: Amber, tmp_path: Path) -> None:
    text = "from amber_ray import Asset, feature\n\n@feature(version='1')\ndef mine(asset: Asset) -> int:\n"
    before, after = tmp_path / "mine_before.py", tmp_path / "mine_after.py"
    before.write_text(text + "    return 1\n")
    after.write_text(text + "    return 2\n")

    def check(source: Path, *words: str) -> tuple[int, str, str]:
        return amber("check", "--features", source, "--store", tmp_path / "store", *words)

    status, out, _ = check(before)
    assert (status, "0 of them used" in out) == (0, True)
    assert check(before, "--accept")[0] == 0
    assert check(before)[0] == 0
    status, out, _ = check(after)
    assert status == 1
    assert out.startswith("mine: the code changed under version '1'")
    assert check(after, "--accept")[1] == "1 changed features accepted as they are now\n"
    assert check(after)[0] == 0


def test_changed_code_is_told_when_an_own_store_is_used(
    amber: Amber, service: GatedService, tmp_path: Path
) -> None:
    (tmp_path / "amber-store").mkdir()
    (tmp_path / "amber-store/code.json").write_text('{"size": {"1": "other"}}')
    status, _, err = amber("get", "size", "/a.mp4")
    assert status == 0
    assert err.startswith("size: the code changed under version '1'")
    (tmp_path / "amber-store/code.json").write_text('{"size": {"1": "other"}, "broken": {"1": "other"}}')
    [line] = amber("get", "size", "/a.mp4")[2].splitlines()
    assert line.startswith("broken, size: their code changed under the same versions")


# Backfill


def test_backfill_goes_in_windows_and_lists_what_failed(
    amber: Amber, service: GatedService, tmp_path: Path
) -> None:
    for name in ("x.mp4", "deep/y.wav", "deep/z.png", "notes.txt"):
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if name != "deep/z.png":
            service.put(str(path))
    status, out, err = amber("backfill", "size", "score", "--assets", "media", "--window", "2", *SERVER)
    assert status == 1
    assert "size, score of 3 assets" in err
    assert [len(h.request.assets) for h in service.requests.values()] == [1, 1, 1]
    assert {h.request.priority.name for h in service.requests.values()} == {"BACKFILL"}
    assert out.splitlines()[-1] == "4 values: 4 computed, 0 were there; 2 failed"
    assert "media/deep/z.png" in out
    failed = pq.read_table(tmp_path / "backfill-failures.parquet").to_pylist()
    assert [(f["feature"], f["asset"], f["class"]) for f in failed] == [
        ("size", "media/deep/z.png", "MediaNotFound"),
        ("score", "media/deep/z.png", "MediaNotFound"),
    ]
    words = ("--assets", "media/[!.]*.mp4", "--assets", "media/deep/y.wav", *SERVER)
    assert amber("backfill", "size,score", *words)[1] == "4 values: 0 computed, 4 were there; 0 failed\n"
    assert pq.read_table(tmp_path / "backfill-failures.parquet").num_rows == 0


def test_backfill_leaves_out_what_can_not_have_a_feature_if_told_to(
    amber: Amber, service: GatedService, tmp_path: Path
) -> None:
    def needs_pictures(call: Call) -> Any:
        song = isinstance(call.unit, Asset) and call.unit.uri.endswith(".wav")
        return errors.Unsuitable("it has no pictures, only sound") if song else 1

    service.made["seen"] = Made(Scalar("int"), of=needs_pictures)
    (tmp_path / "media").mkdir()
    for name in ("a.png", "b.wav", "c.wav", "missing.png"):
        (tmp_path / "media" / name).touch()
        if name != "missing.png":
            service.put(f"{tmp_path}/media/{name}")
    words = ("backfill", "seen", "size", "--assets", "media", *SERVER)
    status, out, err = amber(*words)
    assert status == 1
    assert out.splitlines()[-1] == "4 values: 4 computed, 0 were there; 4 failed"
    assert "2 of these failed since their assets are of a kind" in err
    assert "--skip-unsuitable" in err
    status, out, err = amber(*words, "--skip-unsuitable")
    assert status == 1  # one is not there at all
    assert "no pictures" not in out
    assert "2 failed, 2 left out: their assets are of a kind that can't have the feature" in out
    failed = pq.read_table(tmp_path / "backfill-failures.parquet").to_pylist()
    assert {f["asset"] for f in failed} == {"media/missing.png"}
    (tmp_path / "media" / "missing.png").unlink()
    assert amber(*words, "--skip-unsuitable")[0] == 0
    assert amber(*words)[0] == 1


def test_what_features_do_not_see_of_an_asset_is_noted(
    amber: Amber, service: GatedService, tmp_path: Path
) -> None:
    for i in range(7):
        path = tmp_path / f"{i}.gif"
        path.touch()
        asset = service.put(str(path))
        service.assets[str(path)] = replace(asset, note="it moves: of its 5 pictures, features see the first")
    status, out, err = amber("get", "size", "0.gif", "/a.mp4", *SERVER)
    assert (status, err) == (
        0,
        "amber: note: 0.gif: it moves: of its 5 pictures, features see the first\n",
    )
    assert "it moves" not in out
    assert amber("get", "size", "0.gif", "--quiet", *SERVER)[2] == ""
    err = amber("backfill", "size", "--assets", ".", *SERVER)[2]
    assert err.count("it moves") == 5
    assert "2 more assets are not seen whole" in err
    data = json.loads(amber("get", "size", "0.gif", "--format", "json", *SERVER)[1])
    assert data


# Serve


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_serve_refuses_another_host_without_tokens(
    host: str, amber: Amber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMBER_TOKENS", raising=False)
    status, out, err = amber("serve", "--host", host)
    assert (status, out) == (2, "")
    assert "token" in err
    assert err.count("\n") == 1


def test_serve_says_that_its_port_is_taken(amber: Amber) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, out, err = amber("serve", "--port", str(port))
    assert (status, out) == (3, "")
    assert err.startswith(f"amber: can't listen on 127.0.0.1:{port}: ")
    assert err.count("\n") == 1


def test_serve_tokens_come_from_words_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMBER_TOKENS", "b, c,,b")
    args = build().parse_args(["serve", "--token", "a", "--token", "b"])
    assert options.tokens_of(args) == ("a", "b", "c")


def test_serve_makes_callbacks_where_words_and_the_environment_say_so(
    amber: Amber, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("whsec_" + "a" * 32, "whsec_" + "b" * 32)
    monkeypatch.setenv("AMBER_CALLBACK_SECRETS", f"{secrets[0]}, {secrets[1]}")
    words = ["--callback-host", "a.example", "--callback-host", "b.example:8443"]
    args = build().parse_args(["serve", *words, "--callback-address", "10.1.0.0/16"])
    settings = served_settings(args)
    assert settings.callback_hosts == ("a.example", "b.example:8443")
    assert (settings.callback_addresses, settings.callback_secrets) == (("10.1.0.0/16",), secrets)
    status, out, err = amber("serve", "--callback-host", "a.example/page")
    assert (status, out) == (2, "")
    assert "callback_hosts must have entries such as 'hooks.example'" in err
    monkeypatch.delenv("AMBER_CALLBACK_SECRETS")
    status, out, err = amber("serve", *words)
    assert (status, out, err) == (
        2,
        "",
        "amber: callback_hosts needs callback_secrets, which callbacks are signed with\n",
    )


def test_serve_takes_the_origins_of_pages_and_refuses_what_is_none(amber: Amber) -> None:
    args = build().parse_args(
        ["serve", "--allow-origin", "https://a.example", "--allow-origin", "http://b:3000"]
    )
    assert served_settings(args).allow_origins == ("https://a.example", "http://b:3000")
    status, out, err = amber("serve", "--allow-origin", "https://a.example/page")
    assert (status, out) == (2, "")
    assert "an allowed origin is a scheme and a host" in err
    assert err.count("\n") == 1


# Ends


def test_errors_have_their_status() -> None:
    expected = {
        errors.BadRequest("x"): 2,
        errors.DeclarationError("x"): 2,
        errors.Unauthorized("x"): 2,
        errors.MediaNotFound("x"): 2,
        errors.FeatureError("x"): 1,
        errors.Unavailable("x"): 3,
        errors.StoreBusy("x"): 3,
        errors.Overloaded("x"): 3,
        errors.Expired("x"): 3,
    }
    assert {type(e).__name__: status_of(e) for e in expected} == {
        type(e).__name__: s for e, s in expected.items()
    }


@pytest.mark.parametrize(
    ("raised", "status", "sentence"),
    [
        (KeyboardInterrupt(), 130, "amber: interrupted\n"),
        (errors.Unavailable("nobody is there"), 3, "amber: nobody is there\n"),
        (OSError(13, "Permission denied", "/x"), 2, "amber: can't use /x: Permission denied\n"),
        (ZeroDivisionError("by zero"), 70, "amber: unexpected ZeroDivisionError: by zero (--debug"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_every_end_has_its_status(
    raised: BaseException, status: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise raised

    monkeypatch.setattr("amber_ray.cli.look.connect", fail)
    assert main(["status"]) == status
    assert capsys.readouterr().err.startswith(sentence)
    if status not in (130,):
        with pytest.raises(type(raised)):
            main(["status", "--debug"])


def test_starting_loads_little() -> None:
    script = "import sys; from amber_ray.cli import main; main(['get', '--help'])\n"
    heavy = {"ray", "torch", "pyarrow", "numpy", "httpx", "rich", "asyncio", "fsspec"}
    script += f"print(sorted({{m.split('.')[0] for m in sys.modules}} & {heavy}), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "[]\n"
    assert "--param" in done.stdout


def test_a_reader_who_leaves_is_no_error() -> None:
    script = "import sys; from amber_ray.cli import main; sys.exit(main(['graph', '--server', 'x']))"
    patch = """
import amber_ray.cli.registered as r
from dataclasses import replace
from amber_ray.core.model.service import FeatureInfo
from amber_ray.cli import graph
one = FeatureInfo("f", "1", "asset", (), {}, {}, {}, "parquet", "", True, "", False)
infos = [replace(one, name=f"f{i}") for i in range(50_000)]
graph.infos_of = lambda args: infos
"""
    server = subprocess.Popen(
        [sys.executable, "-c", patch + script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert server.stdout is not None
    assert server.stderr is not None
    server.stdout.readline()
    server.stdout.close()
    assert server.stderr.read() == b""
    assert server.wait(60) == 0


# Words for people


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (0.1234567, "0.123457"),
        ("", "''"),
        ("two\nlines", "two lines"),
        (JPEG, "JPEG, 1.0 KiB"),
        (np.array([1.0, 3.0]), "float64[2] 1 … 3, mean 2"),
        (np.array(2.5), "float64[scalar] 2.5"),
        (np.empty((0, 4)), "float64[0×4]"),
        ([1, 2], "[1, 2]"),
        (list(range(20)), "20 items: [0, 1, 2, …]"),
        ({"a": {"b": 1}}, "a=(b=1)"),
        (pa.table({"x": [1]}), "table of 1 rows: x"),
        ("x" * 100, "x" * 71 + "…"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_summaries(value: Any, text: str) -> None:
    assert summary(value) == text


def test_sizes_and_durations() -> None:
    assert [size(n) for n in (0, 1023, 1024, 5 << 30)] == ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]
    assert [seconds(t) for t in (None, 0.0012, 0.9999, 75, 300)] == ["", "1 ms", "1.0 s", "75.0 s", "5.0 min"]


def test_a_graph_draws_who_finds_the_windows_of_a_feature() -> None:
    parts = FeatureInfo("parts", "1", "asset", (), {}, {}, {"CPU": 1.0}, "parquet", "", True, "", False)
    known = {"parts": parts, "part": dataclasses.replace(parts, name="part", per="parts")}
    assert below(known, "part") == ["parts", "part"]
    assert list(tree(known)) == ["part  1  per parts", "└─ parts  1  per asset"]
    assert '  "parts" -> "part" [style=dashed, label=each];' in dot(known)
    assert "  parts -. each .-> part" in mermaid(known)
