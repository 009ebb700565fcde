"""Results as tables: for pandas, polars and Arrow, for notebooks, and under several sets of parameters."""

from __future__ import annotations

import base64
import dataclasses
import io
import pickle
import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import polars
import pyarrow as pa
import pytest
from PIL import Image

from amber_ray import errors
from amber_ray.client import AsyncClient, Client, display
from amber_ray.client.http import HttpService
from amber_ray.client.loop import Loop
from amber_ray.client.params import ParamSet
from amber_ray.client.pictures import Picture, picture_html
from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.core.model.units import Asset
from amber_ray.core.values.annotations import Bytes, parse
from amber_ray.serving.app import create_app
from amber_ray.settings import Settings
from amber_ray.store.types import META, from_array
from tests.memory_service import Made
from tests.unit.gated_service import JPEG, GatedService


@dataclasses.dataclass
class Box:
    x: float
    words: list[str]


def jpeg(width: int = 64, height: int = 48) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(made, "JPEG")
    return made.getvalue()


@pytest.fixture
def service() -> GatedService:
    made = GatedService()
    made.put("/a.mp4")
    made.put("/b.png", duration=None)
    made.made |= {
        "boxes": Made(parse(list[Box]), lambda unit: [Box(0.5, ["a"]), Box(1.0, [])]),
        "hash": Made(parse(int), lambda unit: 2**63 - 25),
        "bright": Made(parse(bool), lambda unit: True),
        "note": Made(parse(dict[str, Any]), lambda unit: {"a": [1, None]}),
        "grid": Made(parse(np.ndarray), lambda unit: np.eye(2, dtype=np.float32)),
        "start": Made(parse(str), lambda unit: "a feature called start"),
        "red": Made(Bytes("image/jpeg"), lambda unit: jpeg()),
    }
    return made


@pytest.fixture(params=["direct", "http"])
def client(request: pytest.FixtureRequest, service: GatedService) -> Iterator[Client]:
    app = create_app(service, Settings())
    http = HttpService("http://127.0.0.1:8000", transport=httpx.ASGITransport(app))
    made = Client(AsyncClient(service if request.param == "direct" else http, timeout=20), Loop())
    yield made
    made.close()


def ask(client: Client, features: Any, *assets: str, **more: Any) -> Results:
    return client.get_many(features, assets or ("/a.mp4", "/b.png"), progress=False, **more)


# Lines and columns


def test_a_line_for_each_unit_and_a_column_for_each_feature(client: Client) -> None:
    frame = ask(client, ["size", "score", "picture"], "/b.png", "/a.mp4", "/none.mp4").to_pandas()
    assert list(frame) == ["asset", "size", "score", "picture", "error"]
    assert frame["asset"].tolist() == ["/b.png", "/a.mp4", "/none.mp4"]
    assert str(frame["size"].dtype) == "Int64"
    assert frame["size"].tolist()[:2] == [6, 6]
    assert frame["size"].isna().tolist() == [False, False, True]
    assert frame["score"].dtype == np.float64
    assert frame["picture"].tolist() == [JPEG, JPEG, None]
    assert frame["error"].isna().tolist() == [True, True, False]
    assert frame["error"].tolist()[2] == (
        "size: MediaNotFound: nothing is at /none.mp4 (in asset); "
        "score: MediaNotFound: nothing is at /none.mp4 (in asset); "
        "picture: MediaNotFound: nothing is at /none.mp4 (in asset)"
    )


def test_windows_are_lines_below_their_asset(client: Client) -> None:
    frame = ask(client, ["vector", "size"], "/a.mp4").to_pandas()
    assert list(frame) == ["asset", "start", "end", "vector", "size", "error"]
    assert frame["start"].tolist()[1:] == [0.0, 10.0, 20.0]
    assert frame["end"].tolist()[1:] == [10.0, 20.0, 25.0]
    assert frame["start"].isna().tolist() == [True, False, False, False]
    assert frame["size"].isna().tolist() == [False, True, True, True]
    assert [v.tolist() for v in frame["vector"][1:]] == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
    assert frame["vector"][1].dtype == np.float32
    assert frame["error"].isna().all()


def test_what_fails_is_seen_beside_what_did_not(client: Client) -> None:
    frame = ask(client, ["broken", "size"]).to_pandas()
    assert frame["size"].tolist() == [6, 6]
    assert frame["broken"].isna().all()
    assert frame["error"].tolist() == ["broken: FeatureError: ValueError: it broke"] * 2
    none = client.stored(["size", "hash"], ["/a.mp4"]).to_pandas()
    assert none["error"].tolist() == ["size: its value was not loaded; hash: pending"]


def test_values_of_all_assets_together_have_no_asset(client: Client) -> None:
    frame = ask(client, ["similar", "size"]).to_pandas()
    assert frame["asset"].tolist()[:2] == ["/a.mp4", "/b.png"]
    assert frame["asset"].isna().tolist() == [False, False, True]
    assert frame["similar"].tolist()[2] == {"assets": 2}


def test_pandas_has_what_the_table_has(client: Client) -> None:
    table = ask(client, ["hash", "bright", "note", "grid", "boxes"], "/a.mp4")
    frame = table.to_pandas()
    assert frame["hash"].dtype == np.int64
    assert frame["hash"][0] == 2**63 - 25
    assert frame["bright"].dtype == np.bool_
    for name in ("note", "boxes"):
        assert frame[name][0] == table[name, "/a.mp4"]
    assert np.array_equal(frame["grid"][0], np.eye(2))


def test_arrow_has_the_types_of_the_store(client: Client, service: GatedService) -> None:
    features = ["size", "hash", "bright", "note", "grid", "boxes", "vector", "red"]
    table = ask(client, features, "/a.mp4").to_arrow()
    boxes = pa.struct([("x", pa.float64()), ("words", pa.large_list(pa.field("item", pa.large_utf8())))])
    assert table.schema.field("boxes").type == pa.large_list(pa.field("item", boxes))
    assert table.schema.field("vector").type == pa.large_list(pa.field("item", pa.float32(), nullable=False))
    assert table.schema.field("note").type == pa.large_utf8()
    assert table.schema.field("red").type == pa.large_binary()
    assert table["boxes"].to_pylist()[0] == [{"x": 0.5, "words": ["a"]}, {"x": 1.0, "words": []}]
    assert table["hash"].to_pylist() == [2**63 - 25, None, None, None]
    for name in features:
        assert META in (table.schema.field(name).metadata or {})
    grid = from_array(service.made["grid"].type, table["grid"].slice(0, 1).combine_chunks())
    assert np.array_equal(grid[0], np.eye(2))


def test_polars_has_them_too(client: Client) -> None:
    frame = ask(client, ["size", "boxes", "vector", "note", "grid"]).to_polars()
    assert frame.columns == ["asset", "start", "end", "size", "boxes", "vector", "note", "grid", "error"]
    assert frame["size"].to_list() == [6, None, None, None, 6, None]
    assert frame.filter(polars.col("start") == 10.0)["vector"].to_list() == [[1.0, 0.5]]
    assert frame["boxes"].to_list()[0][0] == {"x": 0.5, "words": ["a"]}


def test_a_column_without_a_value_has_its_type_all_the_same(client: Client) -> None:
    table = ask(client, ["size", "vector", "boxes"], "/none.mp4").to_arrow()
    assert table.schema.field("size").type == pa.int64()
    assert pa.types.is_large_list(table.schema.field("vector").type)
    good = ask(client, ["size", "vector", "boxes"], "/a.mp4")
    assert good.to_arrow().schema.field("error").type == pa.large_utf8()
    both = pa.concat_tables([good.to_arrow().drop(["start", "end"]), table])
    assert both["size"].to_pylist() == [6, None, None, None, None]
    assert ask(client, "size", "/none.mp4").to_polars().schema["size"] == polars.Int64


def test_a_feature_that_is_called_like_a_column_has_another_name(client: Client) -> None:
    table = ask(client, ["start", "vector"], "/a.mp4").to_arrow()
    assert table.column_names == ["asset", "start", "end", "value.start", "vector", "error"]
    assert table["value.start"].to_pylist()[0] == "a feature called start"


def test_nothing_is_an_empty_table() -> None:
    empty = Results([])
    assert empty.to_arrow().column_names == ["asset", "error"]
    assert len(empty.to_pandas()) == len(empty.to_polars()) == 0
    assert "0 ready" in empty._repr_html_()


def test_types_are_read_off_values_where_nobody_tells_them() -> None:
    rows = [Row("f", f"/{i}", None, "k", "ready", value) for i, value in enumerate([1, 2.5, None])]
    assert Results(rows).to_arrow()["f"].to_pylist() == [1.0, 2.5, None]
    mixed = [Row("f", "/a", None, "k", "ready", "text"), Row("f", "/b", None, "k", "ready", np.eye(2))]
    assert Results(mixed).to_arrow()["f"].null_count == 0
    # A server whose feature has another type by now.
    other = Results(rows).typed({"f": parse(str)})
    assert other.to_arrow()["f"].to_pylist() == [1.0, 2.5, None]
    assert other.to_pandas()["f"].tolist() == [1, 2.5, None]


@pytest.mark.parametrize(("package", "method"), [("pandas", "to_pandas"), ("polars", "to_polars")])
def test_a_package_that_is_missing_is_named(
    package: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as Python marks a package that can't be imported
    with pytest.raises(errors.Unavailable, match=f"{method} needs the package '{package}'; install it"):
        getattr(Results([]), method)()


# Several sets of parameters


def test_values_stand_under_their_parameters(client: Client, service: GatedService) -> None:
    service.made["score"] = dataclasses.replace(
        service.made["score"], of=lambda call: call.params["scale"] * 0.5, inputs=()
    )
    sets = [{"score.scale": 2}, {"score.scale": 3, "score.style": "b"}, {"score.scale": 2}]
    table = ask(client, ["score", "size"], params=sets)
    assert list(table)[:4] == [
        ("score", "/a.mp4", sets[0]),
        ("size", "/a.mp4", sets[0]),
        ("score", "/a.mp4", sets[1]),
        ("size", "/a.mp4", sets[1]),
    ]
    assert len(table) == 8
    assert table["score", "/a.mp4", sets[0]] == 1.0
    assert table["score", service.assets["/b.png"], sets[1]] == 1.5
    assert table.value("score", "/b.png", sets[1]) == 1.5
    assert table["size", "/a.mp4", {"score.style": "b", "score.scale": 3}] == 6
    assert service.runs["size", service.assets["/a.mp4"].id] == 1
    with pytest.raises(KeyError):
        table["score", "/a.mp4"]
    with pytest.raises(KeyError):
        table["score", "/a.mp4", {"score.scale": 7}]

    frame = table.to_pandas()
    assert list(frame) == ["asset", "score.scale", "score.style", "score", "size", "error"]
    assert frame["asset"].tolist() == ["/a.mp4", "/a.mp4", "/b.png", "/b.png"]
    assert frame["score.scale"].tolist() == [2, 3, 2, 3]
    assert frame["score.style"].isna().tolist() == [True, False, True, False]
    assert frame.pivot_table(values="score", index="asset", columns="score.scale").loc["/b.png", 3] == 1.5
    assert table.to_arrow()["score.scale"].to_pylist() == [2, 3, 2, 3]
    assert "score.scale=3, score.style=&#x27;b&#x27;" in table._repr_html_()


def test_one_set_in_a_list_is_a_list(client: Client) -> None:
    table = ask(client, "size", "/a.mp4", params=[{}])
    assert list(table) == [("size", "/a.mp4", {})]
    assert list(table.to_pandas()) == ["asset", "size", "error"]
    assert list(ask(client, "size", "/a.mp4", params={"score.scale": 1, "score.style": "a"})) == [
        ("size", "/a.mp4")
    ]


def test_sets_go_through_windows_and_failures(client: Client) -> None:
    sets = [{"score.scale": 1}, {"score.scale": 2}]
    table = ask(client, ["broken", "size"], "/a.mp4", "/none.mp4", "/b.png", params=sets, window=1)
    assert [(k[1], k[2]["score.scale"]) for k in table if k[0] == "size"] == [
        (name, scale) for name in ("/a.mp4", "/none.mp4", "/b.png") for scale in (1, 2)
    ]
    assert len(table.failures) == 2 * (3 + 1)
    assert table.to_pandas()["error"].notna().all()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ([], "params is an empty list"),
        ([{"score.scale": 1}, 7], "a list of params holds mappings"),
        ("score.scale=1", "params must be a mapping"),
        ([{"score.scale": [1]}], "a parameter's value is"),
    ],
)
def test_other_parameters_are_refused(client: Client, params: Any, words: str) -> None:
    with pytest.raises(errors.BadRequest, match=re.escape(words)):
        ask(client, "score", params=params)


def test_one_value_takes_one_set(client: Client) -> None:
    for call in (client.get, client.submit, client.explain, client.stored):
        with pytest.raises(errors.BadRequest, match="get_many also takes a list"):
            call("score", "/a.mp4", params=[{"score.scale": 1}])  # type: ignore[arg-type]


def test_a_set_is_like_its_dict() -> None:
    one = ParamSet({"a.x": 1, "b.y": None})
    assert one == {"b.y": None, "a.x": 1}
    assert {one: 1}[ParamSet({"b.y": None, "a.x": 1})] == 1
    assert one != {"a.x": 1}
    assert one != 3
    assert repr(one) == "{'a.x': 1, 'b.y': None}"
    assert pickle.loads(pickle.dumps(one)) == one


# Notebooks


def test_a_table_shows_pictures_and_escapes_all_text(client: Client, service: GatedService) -> None:
    service.put("/<b>&.mp4")
    service.made["label"] = Made(parse(str), lambda unit: "<script>alert(1)</script>")
    shown = ask(client, ["red", "label", "broken", "size"], "/<b>&.mp4")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "/&lt;b&gt;&amp;.mp4" in shown
    assert '<td class="failed">FeatureError: ValueError: it broke</td>' in shown
    assert "3 ready, 1 failed" in shown
    [data] = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', shown)
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (64, 48)


def test_a_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 700, 3), np.uint8)
    made = io.BytesIO()
    Image.fromarray(noise).save(made, "PNG")
    png = made.getvalue()
    asset = Asset("a" * 32, "/a", "image/png", 1)
    rows = [Row("f", f"/{i}", asset, f"{i}", "ready", png) for i in range(100)]
    rows += [Row("text", f"/{i}", asset, f"{i}", "ready", "x" * 10_000) for i in range(100)]
    shown = Results(rows)._repr_html_()
    assert "and 70 lines more" in shown
    assert len(shown) < display.PICTURES
    assert shown.count("<img") == display.LINES
    monkeypatch.setattr(display, "PICTURES", 30_000)
    assert 1 <= Results(rows)._repr_html_().count("<img") < display.LINES
    many = [Row(f"f{i}", "/a", asset, f"{i}", "ready", i) for i in range(30)]
    assert "and 10 features more" in Results(many)._repr_html_()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.123456789, "0.123457"),
        (2**63, "9223372036854775808"),
        (True, "True"),
        (b"\xff\xd8 no picture", "13 bytes"),
        (np.arange(6, dtype=np.float32).reshape(2, 3), "float32[2, 3] 0, 1, 2, 3, …"),
        (np.empty((0, 4), np.uint8), "uint8[0, 4]"),
        ([1, 2], "2: 1, 2"),
        ([], "none"),
        ([1] * 9, "9: 1, 1, 1, 1, …"),
        (Box(0.5, ["a"]), "x: 0.5, words: 1: a"),
        ({"a": {"b": 1}}, "a: b: 1"),
        ("x" * 500, "x" * display.TEXT + "…"),
        (None, "None"),
        (pa.table({"n": [1, 2]}), "a table of 2 rows: n"),
    ],
)
def test_a_value_in_few_words(value: Any, words: str) -> None:
    assert display.brief(value) == words


def test_one_picture_shows_itself_and_is_its_bytes(client: Client) -> None:
    red = client.get("red", "/a.mp4")
    assert isinstance(red, Picture)
    assert red == jpeg()
    assert hash(red) == hash(jpeg())
    assert red.media_type == "image/jpeg"
    assert repr(red) == f"<image/jpeg of {len(red):,} bytes>"
    assert str(red) == repr(red)
    assert repr(red) in str(ask(client, "red", "/a.mp4").to_pandas())
    assert red._repr_html_().startswith('<img src="data:image/jpeg;base64,')
    again = pickle.loads(pickle.dumps(red))
    assert (again, again.media_type, type(again)) == (red, "image/jpeg", Picture)
    assert pa.array([red], pa.large_binary()).to_pylist() == [jpeg()]
    [key] = [row.key for row in ask(client, "red", "/a.mp4").rows]
    assert isinstance(client.values([key])[key], Picture)
    assert isinstance(client.submit("red", "/a.mp4").result(), Picture)
    assert type(client.get("picture", "/a.mp4")) is Picture  # so declared, and not to be decoded
    assert client.get("picture", "/a.mp4")._repr_html_() == f"&lt;image/jpeg of {len(JPEG):,} bytes&gt;"


def test_pictures_are_made_of_what_can_be_shown() -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(clear, "PNG")
    for value in (jpeg(3000, 2000), clear.getvalue(), np.zeros((5, 7, 3), np.uint8)):
        shown = picture_html(value)
        assert shown is not None
        assert len(shown) < 20_000
    for other in (b"", b"text", np.zeros((5, 7), np.uint8), np.zeros((0, 7, 3), np.uint8), "text", 7, None):
        assert picture_html(other) is None
