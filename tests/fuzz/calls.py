"""HTTP calls that no well-meaning client sends, drawn from the served OpenAPI document and its examples.

`judge` is what every answer must be, however odd the call: declared, no 5xx, and a refusal in one sentence.
"""

from __future__ import annotations

import copy
import gzip
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema
from hypothesis import strategies as st

from amber_ray.serving.described.document import document

DOCUMENT = document(bearer=False)
PROBLEM = "application/problem+json"
LONGEST_SENTENCE = 12_000
"""Characters of a refusal: the longest URI that is quoted, and the words around it."""


@dataclass(frozen=True)
class Call:
    """One call; `template` is the path of the document that `target` was made from, "" for none of them."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    template: str = ""

    @property
    def operation(self) -> dict[str, Any] | None:
        """What the document says of it, if it is one of its calls."""
        if not self.method.isupper():  # methods are case-sensitive: `get` is none of them
            return None
        found: dict[str, Any] | None = DOCUMENT["paths"].get(self.template, {}).get(self.method.lower())
        return found


@dataclass(frozen=True)
class Answer:
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> bytes:
        """The body as it was before it was coded."""
        return gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body


@cache
def _validator(reference: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**json.loads(reference), "components": DOCUMENT["components"]})


def _fits(value: Any, schema: dict[str, Any]) -> None:
    _validator(json.dumps(schema)).validate(value)


def judge(call: Call, answer: Answer) -> None:
    """Fail unless the answer is one that the contract allows."""
    assert answer.status < 500, (call, answer)
    assert "\n" not in "".join(answer.headers.values()), (call, answer)
    if call.method == "HEAD":
        assert answer.body == b"", (call, answer)
    elif answer.status >= 400:
        _judge_refusal(call, answer)
    if (operation := call.operation) is None:
        return
    declared = operation["responses"].get(str(answer.status))
    assert declared is not None, (call, answer)
    contents = declared.get("content", {})
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if answer.status < 300 and kind == "application/json":
        _fits(json.loads(answer.content), contents[kind]["schema"])


def _judge_refusal(call: Call, answer: Answer) -> None:
    assert answer.headers.get("content-type") == PROBLEM, (call, answer)
    problem = json.loads(answer.content)
    _fits(problem, {"$ref": "#/components/schemas/Problem"})
    detail = problem["detail"]
    assert problem["status"] == answer.status, (call, answer)
    assert 10 < len(detail) < LONGEST_SENTENCE, (call, answer)
    assert not re.search(r"[\r\n]|Traceback|object at 0x", detail), (call, answer)
    assert answer.status != 405 or answer.headers.get("allow"), (call, answer)


# --- strategies

_numbers = st.sampled_from([0, -1, 2**53, 2**64, -(2**63) - 1, 10**400, 1e308, 5e-324, 0.1, -0.0])
_broken_numbers = st.sampled_from([float("nan"), float("inf"), float("-inf")])
_texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "\0", "\ud800", "a\udfffb", "x" * 9000, "\u202e", "../" * 40, "__proto__", "e\u0301", "{}"]
    ),
)


def _nested(depth: int) -> Any:
    value: Any = 1
    for i in range(depth):
        value = [value] if i % 2 else {"a": value}
    return value


_odd = st.one_of(
    st.none(),
    st.booleans(),
    _numbers,
    _broken_numbers,
    _texts,
    st.sampled_from([[], {}, [[]], [None], {"": ""}, {"uri": 1}, ["probe"] * 3]),
    st.sampled_from([20, 100, 400]).map(_nested),
    st.lists(_texts, max_size=3),
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in inner for place in _places(item, (*at, key)))]


@st.composite
def _mutated(draw: st.DrawFn, example: Any) -> Any:
    """An example of the document with up to three of its parts replaced, left out, repeated or joined."""
    value = copy.deepcopy(example)
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from(_places(value)[1:] or [(None,)]))
        if last is None:
            return copy.deepcopy(draw(_odd))
        holder = value
        for key in way:
            holder = holder[key]
        what = draw(st.sampled_from(["replace", "replace", "remove", "add", "repeat"]))
        if what == "replace":
            holder[last] = copy.deepcopy(draw(_odd))
        elif what == "remove":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(_texts)] = copy.deepcopy(draw(_odd))
        else:
            holder.extend([holder[last]] * draw(st.sampled_from([1, 40])))
    return value


def _written(value: Any) -> bytes:
    return json.dumps(value).encode()


_junk = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"null", b"{", b"[" * 50_000, b"\xff\xfe{\x00}\x00", b'{"a":1}{"a":1}', b"\xef\xbb\xbf{}"]
    ),
    st.sampled_from([b'{"features":["probe"],"features":["probe"]}', b"-" + b"9" * 6000, b'"\xed\xa0\x80"']),
)


def _body(operation: dict[str, Any]) -> st.SearchStrategy[bytes]:
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return st.just(b"") | _junk
    example = st.just(content["application/json"]["example"]).flatmap(_mutated)
    whole = example.map(_written)
    cut = st.tuples(whole, st.integers(1, 40)).map(lambda pair: pair[0][: -pair[1]])
    other = example.map(lambda value: json.dumps(value).encode("utf-16"))
    forms = [_forms] if "multipart/form-data" in content else []
    return st.one_of(whole, whole, whole, cut, other, _junk, *forms)


_FILE = (
    b'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\nbytes'
)
_forms = st.lists(
    st.sampled_from(
        [
            *(
                b"--edge\r\n" + _FILE + b"\r\n",
                b"--edge--\r\n",
                b"--edge\r\n",
                b"--edge",
                b"\r\n",
                b"--",
                b":",
            ),
            *(
                _FILE.replace(b"file", b"x" * 5000),
                b"Content-Disposition: form-data\r\n\r\n",
                b"a: b\r\n" * 9,
            ),
        ]
    ),
    max_size=6,
).map(b"".join)


_types = st.sampled_from(
    ["application/json"] * 6
    + [
        "application/json; charset=utf-16",
        "application/merge-patch+json",
        "text/plain",
        "",
        "/",
        "application/json,",
    ]
    + [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=edge",
        "multipart/form-data; boundary=edge",
        'multipart/form-data; boundary="' + "x" * 300,
        "application/octet-stream",
        "image/svg+xml",
    ]
)
_header_text = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40
)
_values: dict[str, list[str]] = {
    "prefer": [
        "wait=0",
        "wait=1e9",
        "wait=-1",
        "wait=" + "9" * 400,
        "wait",
        "respond-async, wait=nan",
        'wait="0',
    ],
    "accept": ["*/*", "image/*;q=2", "a/b/c", ";;;", "application/x-npy", "text/html", "*", "image/jpeg;q=0"],
    "if-none-match": ["*", '"', "W/", '"x"', '"' + "a" * 4000 + '"', ",,,"],
    "if-match": ['"x"'],
    "range": ["bytes=0-1", "bytes=9-1", "bytes=-", "bytes=" + "0-1," * 300, "lines=1"],
    "content-length": ["0", "7", "-1", "1e3", "9" * 30, "\u00b2", " 5 "],
    "content-encoding": ["gzip", "br", "identity", "deflate, gzip"],
    "accept-encoding": ["gzip;q=0", "*", "x", "gzip", "gzip;q=0.5, identity;q=2", ",;q"],
    "x-amber-request-id": ["abcdef", "a", "../../etc", "x" * 5000, "rq-000000", "\u00e9"],
    "idempotency-key": ["a", '"8e03978e-40d5"', '"', '""', "x" * 5000, "a b", "\u00e9"],
    "x-request-id": ["a b", "x" * 400, "\u00fc"],
    "host": ["localhost", "localhost:99999", "[::1", "evil.example", ""],
    "origin": ["null", "http://localhost", "http://[", "://", "http://evil.example"],
    "access-control-request-method": ["POST", "BREW", ""],
    "access-control-request-headers": ["authorization, x", "\u00e9"],
    "authorization": ["Bearer", "Bearer \u00e9", "Basic Og=="],
    "transfer-encoding": ["chunked", "gzip"],
    "expect": ["100-continue"],
    "upgrade": ["websocket", "h2c"],
    "cookie": ["a=b; " * 200],
    "last-event-id": ["-1", "x"],
}


@st.composite
def _headers(draw: st.DrawFn) -> tuple[tuple[bytes, bytes], ...]:
    names = draw(st.lists(st.sampled_from(sorted(_values)), max_size=3))
    pairs = [(name, draw(st.sampled_from(_values[name]) | _header_text)) for name in names]
    return (
        (b"content-type", draw(_types).encode()),
        *((name.encode(), value.strip().encode("latin-1")) for name, value in pairs),
    )


_names = st.sampled_from(
    (
        *(
            "probe",
            "embedding",
            "rq-000000",
            "0" * 32,
            "f" * 32,
            "F" * 32,
            "a",
            "x" * 3000,
            "{key}",
            "-",
            "'",
        ),
        *("%00", "%2e%2e%2f", "..%2f..", "%ff", "%ed%a0%80", "%F0%9F%8E%AC", "%0d%0aSet-Cookie:a=b", "%"),
        *("probe%2f", "*", "%25252e", ";a=b"),
    )
)
_queries = st.sampled_from(
    (
        *("",) * 8,
        *("?", "?a", "?asset=", "?feature=probe&feature=probe", "?feature=%ff", "?version=%00", "?%"),
        *("?asset=../../x", "?&&=&=", "?feature=probe", "?asset=" + "0" * 32, "?" + "a=b&" * 600),
        *("?feature[]=x", "?feature=%ed%a0%80"),
    )
)
_methods = st.sampled_from(
    ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "get")
)
_strays = st.sampled_from(
    (
        *("/", "//", "/v1", "/v1/", "/v1/compute/", "/v1//compute", "/./v1/stats", "/v1/../healthz", "/*"),
        *("/page/", "/page/../app.py", "/page/%2e%2e/%2e%2e/app.py", "/page/..%5c", "/docs", "/favicon.ico"),
        *("/openapi.json/", "/%00", "/v1/values/"),
    )
)
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Any call: mostly one of the document's with something wrong, now and then nothing it knows."""
    if draw(st.integers(0, 9)) == 0:
        return Call(draw(_methods), draw(_strays) + draw(_queries), draw(_headers()), draw(_junk))
    path, method = draw(st.sampled_from(OPERATIONS))
    operation = DOCUMENT["paths"][path][method]
    verb = draw(_methods) if draw(st.integers(0, 7)) == 0 else method.upper()
    name = draw(_names)
    target = re.sub(r"\{\w+\}", lambda _: name, path) + draw(_queries)
    # A name with a slash in it is another path, and so no call of the document.
    known = "" if re.search("%2f", name, re.I) and "{" in path else path
    return Call(verb, target, draw(_headers()), draw(_body(operation)), known)
