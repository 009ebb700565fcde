"""Demands over HTTP: there and back, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from amber_ray.core.model.callback import Callback
from amber_ray.core.model.demands import Demand, DemandStatus, DemandView, FailingAsset
from amber_ray.errors import AmberError, BadRequest
from amber_ray.wire.demands import decode_demand, decode_view, encode_demand, encode_view
from amber_ray.wire.json import loads

FILMS = Demand(
    "films",
    ("shots",),
    ("/films", "s3://b/"),
    {"shots.threshold": 0.4},
    60.0,
    "purge",
    "search",
    3.0,
    Callback("https://hooks.example/", ("done", "result")),
)
LEAST = {"features": ["shots"], "prefixes": ["/films"]}


def test_a_demand_goes_there_and_back() -> None:
    assert decode_demand("films", encode_demand(FILMS)) == FILMS
    assert decode_demand("films", LEAST, "mine") == Demand("films", ("shots",), ("/films",), tenant="mine")


def test_a_view_goes_there_and_back() -> None:
    failing = (FailingAsset("/films/a.mp4", "it is empty"),)
    view = DemandView(FILMS, DemandStatus(seen=3, true=2, oldest=1.0, sweeping=True, failing=failing), 1.7e9)
    assert decode_view(encode_view(view)) == view
    assert decode_view(encode_view(view) | {"later": 1}) == view
    for broken in ({}, [], None, encode_view(view) | {"features": 1}):
        with pytest.raises(AmberError):
            decode_view(broken)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features": []}, "features must be a list"),
        ({"features": [""]}, r"features\[0\] must not be empty"),
        ({"features": ["a"] * 101}, "at most 100"),
        ({"prefixes": None}, "prefixes must be a list"),
        ({"prefixes": ["films"]}, "'films' is relative"),
        ({"every": "60"}, "every must be seconds"),
        ({"every": 0}, "every must be 0.2 s"),
        ({"every": True}, "every must be seconds"),
        ({"settle_seconds": -1}, "settle_seconds must be 0"),
        ({"gone": "burn"}, "gone must be keep or purge"),
        ({"tenant": "/"}, "tenant must be up to 64"),
        ({"callback": "https://hooks.example/"}, "callback must be an object"),
        (
            {"callback": {"url": "https://hooks.example/", "on": ["all"]}},
            "callback.on must be a list",
        ),
        ({"params": []}, "params must be an object"),
        ({"feature": ["a"]}, "did you mean 'features'"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], said: str) -> None:
    if change == {"params": []}:
        change = {"params": [1]}
    with pytest.raises(BadRequest, match=said):
        decode_demand("films", LEAST | change)


@pytest.mark.parametrize("name", ["", "a/b", ".a", "a" * 65, "ä"])
def test_a_name_that_can_not_be_a_file_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="name"):
        decode_demand(name, loads(b'{"features": ["a"], "prefixes": ["/m"]}'))
