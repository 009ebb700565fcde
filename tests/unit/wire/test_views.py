"""The wire's promise: what one side encodes the other decodes, and malformed answers are one clear error."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from amber_ray import errors
from amber_ray.core.model.request import (
    MISSING,
    AssetFailure,
    AssetRef,
    ComputeRequest,
    ExplainedStep,
    Failure,
    Priority,
    RequestView,
    Result,
)
from amber_ray.core.model.service import FeatureInfo, RequestEvent
from amber_ray.core.model.units import Asset, Collection, EachRange, Segment, Stream, segments
from amber_ray.wire import views

A = Asset("a" * 32, "file:///m/a.mp4", "video/mp4", 10, 25.0, (Stream("video", "h264", 64, 48, "24/1", 600),))
B = Asset("b" * 32, "/m/b.png", "image/png", 7)
KEY = "0123456789abcdef" * 2
FAILURE = Failure("feature", "ZeroDivisionError", "division by zero", "shots", KEY, A.id, 422, "Traceback", 2)
INFO = FeatureInfo(
    name="embedding",
    version="1",
    per="segment",
    inputs=("frames",),
    params={"fps": ("float", 2.0), "backbone": ("str", None)},
    returns={"type": "array"},
    resources={"CPU": 1.0},
    store="parquet",
    doc="What it is.",
    pinned=True,
    code_digest="c0de",
    is_class=True,
    calls={"concurrency": 8, "rate": "60/min", "retry_status": [429]},
)


def through_json(data):
    return json.loads(json.dumps(data, allow_nan=False))


def result(unit, **fields):
    return Result(**{"feature": "shots", "key": KEY, "unit": unit, "state": "ready", **fields})


@pytest.mark.parametrize(
    "request_",
    [
        ComputeRequest(("shots",), (AssetRef(uri="/m/a.mp4"),)),
        ComputeRequest(
            ("shots", "embedding"),
            (AssetRef(id="a" * 32), AssetRef(uri="s3://b/ü.mp4")),
            {"frames.fps": 2, "embedding.backbone": "x", "frames.all": True, "frames.size": None},
            (10.0, 20.5),
            Priority.BACKFILL,
            "search",
            True,
            30.0,
        ),
    ],
)
def test_request_round_trips(request_):
    assert views.decode_request(through_json(views.encode_request(request_))) == request_


def test_view_round_trips_with_every_kind_of_unit_and_state():
    last = segments(A, 10.0)[-1]
    view = RequestView(
        id="request-1",
        state="failed",
        done=3,
        total=4,
        results=(
            result(A, value={"n": 1}, seconds=0.5, cached=True),
            result(last, value=None),
            result(segments(A, 10.0)[0], state="pending"),
            result(segments(B, 10.0)[0]),
            result(Collection.of([A, B]), state="failed", failure=FAILURE),
        ),
        failed_assets=(
            AssetFailure(AssetRef(uri="/nope.mp4"), FAILURE),
            AssetFailure(AssetRef(id="c" * 32), FAILURE),
            AssetFailure(AssetRef(uri="/short.mp4", id="d" * 32), FAILURE),
        ),
        tenant="search",
        created=12.5,
        features=("shots", "embedding"),
    )
    back = views.decode_view(through_json(views.encode_view(view)))
    assert back == view
    assert [(r.unit.index, r.unit.start, r.unit.end) for r in back.results[1:4]] == [
        (2, 20, 25),
        (0, 0, 10),
        (0, 0, 0),
    ]
    assert [r.unit_id for r in (back.results[1].unit, back.results[3].unit)] == [last.unit_id, f"{B.id}@0+0"]
    assert back.results[0].asset.uri == A.uri


def test_result_shape_is_the_contract():
    inline = views.encode_result(
        result(segments(A, 10.0)[1], value=3), encode=lambda feature, value: [feature, value]
    )
    assert inline == {
        "feature": "shots",
        "asset": A.id,
        "uri": A.uri,
        "unit": {"index": 1, "start": 10.0, "end": 20.0},
        "key": KEY,
        "state": "ready",
        "value": ["shots", 3],
        "error": None,
        "seconds": None,
        "cached": False,
    }
    large = views.encode_result(result(A), base="/amber")
    assert large["href"] == f"/amber/v1/values/{KEY}"
    assert "value" not in large
    assert large["unit"] is None
    pending = views.encode_result(result(Collection.of([B, A]), state="pending"))
    assert "href" not in pending
    assert "value" not in pending
    assert pending["asset"] is None
    assert pending["unit"] == {"collection": [A.id, B.id]}


def test_what_features_do_not_see_of_an_asset_and_where_it_failed_travel_along():
    moving = replace(B, note="it moves: of its 5 pictures, features see the first only")
    for unit in (moving, *segments(moving, 10.0)):
        told = views.decode_result(through_json(views.encode_result(result(unit, value=1))))
        assert told.asset.note == moving.note
    assert views.decode_asset(through_json(views.encode_asset(moving))).note == moving.note
    assert "note" not in views.encode_result(result(A, value=1))
    listed = replace(FAILURE, uri=A.uri, blocked=("scenes",))
    assert views.decode_failure(through_json(views.encode_failure(listed))) == listed


def test_decoded_values_pass_through_the_callers_decoder():
    back = views.decode_result(
        views.encode_result(result(A, value=3)), decode=lambda feature, value: (feature, value)
    )
    assert back.value == ("shots", 3)
    assert views.decode_result(views.encode_result(result(A))).value is MISSING


def test_unresolved_asset_fails_each_feature_asked_for():
    failed = AssetFailure(AssetRef(uri="/nope.mp4"), FAILURE)
    data = views.encode_view(
        RequestView("r-00001", "failed", 0, 0, (), (failed,)), features=("shots", "faces")
    )
    assert [(r["feature"], r["uri"], r["state"], r["key"]) for r in data["results"]] == [
        ("shots", "/nope.mp4", "failed", None),
        ("faces", "/nope.mp4", "failed", None),
    ]
    error = data["results"][0]["error"]
    assert error["title"] == "Zero division error"
    assert error["traceback"] == "Traceback"


@pytest.mark.parametrize(
    "event",
    [
        RequestEvent("progress", 1, 3),
        RequestEvent("result", 2, 3, result(A, value=1)),
        RequestEvent(
            "done",
            3,
            3,
            view=RequestView("r-00001", "done", 3, 3, (result(A, value=1),), features=("shots",)),
        ),
    ],
)
def test_event_round_trips(event):
    assert views.decode_event(event.kind, through_json(views.encode_event(event))) == event


def test_feature_asset_step_round_trip():
    assert views.decode_feature({**through_json(views.encode_feature(INFO)), "graph": {}}) == INFO
    back = views.decode_asset(through_json(views.encode_asset(A)))
    assert (back, back.streams, back.duration) == (A, A.streams, 25.0)
    assert "rotation" not in views.encode_asset(A)["streams"][0]
    step = ExplainedStep("shots", "1", KEY, segments(A, 10.0)[2], "missing", ("k",), 1.5, {}, True, "run")
    assert views.decode_step(through_json(views.encode_step(step))) == step


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_keeps_its_class_and_sentence(name):
    kind = getattr(errors, name)
    document = through_json(views.problem(kind("What was wrong."), "http-1"))
    assert document["status"] == kind.status
    assert document["instance"] == "http-1"
    back = views.error_of_problem(kind.status, document)
    assert type(back) is kind
    assert str(back) == "What was wrong."


def test_overloaded_keeps_its_retry_after():
    back = views.error_of_problem(429, views.problem(errors.Overloaded("full", 2.5)))
    assert isinstance(back, errors.Overloaded)
    assert back.retry_after == 2.5


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, "<html>", errors.Unavailable),
        (401, None, errors.Unauthorized),
        (418, {"title": "Teapot"}, errors.BadRequest),
        (500, {"error": "NoSuchClass"}, errors.AmberError),
        (429, {"retry_after": "soon"}, errors.Overloaded),
    ],
)
def test_a_foreign_answer_is_still_an_amber_error(status, body, kind):
    assert type(views.error_of_problem(status, body)) is kind


def test_failure_becomes_the_error_to_raise():
    assert type(views.error_of_failure(FAILURE)) is errors.FeatureError
    timeout = Failure("system", "StepTimeout", "ran past 5 s", "slow", KEY, A.id, 504)
    raised = views.error_of_failure(timeout)
    assert type(raised) is errors.StepTimeout
    assert str(raised) == "slow: ran past 5 s"


@pytest.mark.parametrize(
    "data", [{}, [], None, {"results": [{}]}, {"results": [{"key": None, "asset": None}]}]
)
def test_a_malformed_view_is_one_clear_error(data):
    with pytest.raises(errors.AmberError, match="the server's answer is not a request"):
        views.decode_view(data)


def test_importing_the_wire_loads_nothing_heavy():
    code = (
        "import sys, amber_ray.wire.views\n"
        "print([m for m in ('pyarrow', 'ray', 'fastapi', 'torch', 'numpy', 'httpx') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"


def test_windows_that_were_found_and_what_stands_for_them_before_travel():
    asset = Asset("a" * 32, "/a.mp4", "", 0)
    window = Segment(asset, 2_500_000, 4_000_001, found=True)
    each = EachRange(asset, "shots", "k", 60_000_000)
    made = Result("caption", "c" * 32, window, "ready", "a dog")
    assert views.encode_result(made)["unit"] == {"start": 2.5, "end": 6.500001}
    again = views.decode_result(json.loads(json.dumps(views.encode_result(made))))
    assert (again, again.unit.found) == (made, True)
    for state in ("pending", "ready"):  # before the windows are known, and where there are none
        waiting = Result("caption", "d" * 32, each, state)
        data = json.loads(json.dumps(views.encode_result(waiting)))
        assert (data["unit"], data["asset"]) == ({"each": "shots"}, asset.id)
        assert "href" not in data
        back = views.decode_result(data)
        assert (back.unit.finder, back.state, back.asset) == ("shots", state, asset)
