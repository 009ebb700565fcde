"""Whatever a caller sends, decoding ends in a request or in one of Amber's own refusals."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from amber_ray.core.model.callback import ENDS, EVENTS, Callback
from amber_ray.core.model.request import AssetRef, ComputeRequest, Priority
from amber_ray.errors import BadRequest
from amber_ray.settings import Limits
from amber_ray.wire.compute import FIELDS, decode_request, encode_request
from amber_ray.wire.json import depth_within, loads

LIMITS = Limits(body_bytes=10_000, body_depth=6, assets_per_request=5)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
nearly_a_body = st.dictionaries(st.sampled_from((*FIELDS, "feature", "asset")), anything, max_size=6)
written = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=40)
requests = st.builds(
    ComputeRequest,
    features=st.lists(written, min_size=1, max_size=4, unique=True).map(tuple),
    assets=st.lists(
        st.builds(AssetRef, uri=written)
        | st.builds(AssetRef, id=st.from_regex(r"[0-9a-f]{32}", fullmatch=True)),
        min_size=1,
        max_size=4,
    ).map(tuple),
    params=st.dictionaries(
        written,
        st.none()
        | st.booleans()
        | written
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False),
    ),
    range=st.none() | st.tuples(st.floats(0, 100), st.floats(101, 200)),
    priority=st.sampled_from(Priority),
    tenant=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
    refresh=st.booleans(),
    deadline_seconds=st.none() | st.floats(0.001, 1e6),
    callback=st.none()
    | st.builds(
        Callback,
        st.text("abc:/.?", min_size=1, max_size=20),
        st.sampled_from((ENDS, ("result",), EVENTS)),
    ),
)


def decode(body: bytes) -> None:
    try:
        decoded = decode_request(loads(body, LIMITS), LIMITS)
    except BadRequest as error:
        refusal = str(error)
        refusal.encode()  # it travels, so it is text that can be written
    else:
        assert decode_request(loads(json.dumps(encode_request(decoded)).encode())) == decoded


@given(st.binary(max_size=200))
@example(b'{"features": ["\\ud800"], "assets": [{"uri": "x"}]}')
@example(b'{"features": ["a"], "assets": [{"uri": "x"}], "params": {"\\ud800": 1}}')
@example(b'{"\\ud800": 1}')
@example(b"[" * 10_001)
@example(b'{"a":' * 2_000)
@example(b"-" + b"1" * 5_000)
def test_any_bytes(body):
    decode(body)


@given(st.text(alphabet='{}[]":,\\ \n0123456789.eE+-truefalsn', max_size=60))
def test_any_text_that_looks_like_json(body):
    decode(body.encode())


@given(anything | nearly_a_body)
def test_any_json(data):
    decode(json.dumps(data).encode())


@given(anything | nearly_a_body)
def test_any_python_data_that_a_decoder_could_make(data):
    with suppress(BadRequest):  # any other error is a finding
        decode_request(data, LIMITS)


@given(requests)
def test_requests_round_trip(request):
    assert decode_request(loads(json.dumps(encode_request(request)).encode())) == request


def depth_of(data) -> int:
    if isinstance(data, list):
        return 1 + max(map(depth_of, data), default=0)
    if isinstance(data, dict):
        return 1 + max(map(depth_of, data.values()), default=0)
    return 0


@given(anything)
@settings(max_examples=200)
def test_depth_is_what_it_is(data):
    body = json.dumps(data).encode()
    depth = depth_of(data)
    assert depth_within(body, depth)
    assert depth == 0 or not depth_within(body, depth - 1)
