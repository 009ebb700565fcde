"""The same against a real `amber serve`: through HAProxy and Serve, with raw sockets, and by the command."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given, settings

from tests.fuzz.calls import PROBLEM, Answer, Call, calls, judge
from tests.fuzz.escapes import Trap, names, pointers, trap
from tests.server import CLIP, Server, running

BOUND = 20.0
"""Seconds for any answer here, and for a connection to be given up that says too little."""
pytestmark = pytest.mark.timeout(240)
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def laid(server: Server) -> Iterator[Trap]:
    made = trap(server.media, server.folder / "secret")
    yield made
    made.listener.close()


@pytest.fixture(autouse=True)
def sound(server: Server) -> Iterator[None]:
    """Before and after each test the server computes, and all its processes are those it began with."""
    before = actors(server)
    yield
    answer = server.compute("size", CLIP)
    assert (answer.status_code, answer.json()["results"][0]["value"]) == (200, CLIP.stat().st_size)
    assert actors(server) == before


def actors(server: Server) -> set[int]:
    """The processes that hold state: a replica or shard that died would have another id."""
    return {
        pid for pid, line in server.processes().items() if re.match(r"ray::(Serve|Shard|.*[Aa]ctor)", line)
    }


def exchange(server: Server, *pieces: bytes, shut: bool = True) -> bytes:
    """What comes back for bytes sent as they are, until the server closes or the bound is over."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=BOUND) as line:
        got = b""
        try:
            for piece in pieces:
                line.sendall(piece)
            if shut:
                line.shutdown(socket.SHUT_WR)
            while chunk := line.recv(65536):
                got += chunk
        except TimeoutError:
            raise
        except OSError:
            return got  # closed while we were still sending
    return got


HEAD = b"POST /v1/compute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
CLOSE = b"Connection: close\r\n\r\n"
RAW: dict[str, tuple[bytes, ...]] = {
    "nothing": (),
    "half a line": (b"GET /heal",),
    "half a head": (GET + b"Accept: ",),
    "half a body": (HEAD + b"Content-Length: 500\r\n\r\n", b'{"features"'),
    "no length": (HEAD + CLOSE,),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 5\r\n" + CLOSE + b"{}abc",),
    "length and chunks": (
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"0\r\n\r\n",
    ),
    "a length that is no number": (HEAD + b"Content-Length: 1e3\r\n" + CLOSE,),
    "a length below nothing": (HEAD + b"Content-Length: -1\r\n" + CLOSE,),
    "a vast length": (HEAD + b"Content-Length: 99999999999999999999\r\n" + CLOSE,),
    "bad chunks": (HEAD + b"Transfer-Encoding: chunked\r\n" + CLOSE + b"zz\r\n{}\r\n0\r\n\r\n",),
    "a vast chunk": (HEAD + b"Transfer-Encoding: chunked\r\n" + CLOSE + b"ffffffffffffffffff\r\n{}",),
    "chunks cut short": (HEAD + b"Transfer-Encoding: chunked\r\n" + CLOSE + b"5\r\n{}",),
    "an unknown coding": (HEAD + b"Transfer-Encoding: gzip\r\n" + CLOSE,),
    "a smuggled name": (GET + b"Transfer-Encoding : chunked\r\n" + CLOSE,),
    "a folded header": (GET + b"X-A: b\r\n c\r\n" + CLOSE,),
    "a NUL in a header": (GET + b"X-A: b\0c\r\n" + CLOSE,),
    "a long header": (GET + b"X-A: " + b"a" * 300_000 + b"\r\n" + CLOSE,),
    "many headers": (GET + b"X-A: b\r\n" * 3000 + CLOSE,),
    "a long path": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n" + CLOSE,),
    "HTTP/9": (b"GET / HTTP/9.9\r\nHost: localhost\r\n" + CLOSE,),
    "HTTP/0.9": (b"GET /\r\n",),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),),
    "no Host": (b"GET /healthz HTTP/1.1\r\n" + CLOSE,),
    "an absolute URL": (b"GET http://169.254.169.254/x HTTP/1.1\r\nHost: localhost\r\n" + CLOSE,),
    "a tunnel": (b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: localhost\r\n" + CLOSE,),
    "a proxy line": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + GET + CLOSE,),
    "noise": (random.Random(4).randbytes(4000),),
}


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_are_hardly_http(server: Server, name: str) -> None:
    got = exchange(server, *RAW[name])
    statuses = [int(s) for s in re.findall(rb"HTTP/1\.[01] (\d{3}) ", got)]
    # Closed without a word, or refused.
    assert all(s < 500 or s == 501 for s in statuses), got[:500]
    assert len(statuses) <= 1
    assert b"Traceback" not in got


def test_pipelined_calls_are_answered_in_their_order(server: Server) -> None:
    ask = b"GET /v1/features/f%d HTTP/1.1\r\nHost: localhost\r\n"
    got = exchange(server, b"".join(ask % i + b"\r\n" for i in range(20)) + ask % 20 + CLOSE, shut=False)
    assert re.findall(rb"there is no feature 'f(\d+)'", got) == [b"%d" % i for i in range(21)]


def test_any_call_is_answered_as_the_contract_says(server: Server) -> None:
    # What the client library or HAProxy would not pass on as it is, the raw requests above have.
    framing = {b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"host"}

    with httpx.Client(base_url=server.url, timeout=BOUND, trust_env=False) as http:

        @settings(max_examples=150)
        @given(calls())
        @example(Call("GET", "/healthz", ((b"x-request-id", b"\x80"),)))
        @example(Call("GET", "/healthz", ((b"serve-multiplexed-model-id", b"\x80"),)))
        def fuzz(call: Call) -> None:
            headers = [(n, v) for n, v in call.headers if n not in framing]
            # A method that uvicorn's parser does not know never reaches the app.
            if call.method in ("CONNECT", "BREW", "get") or call.target.startswith("//"):
                return
            reply = http.request(call.method, call.target, headers=headers, content=call.body)
            # The client library has undone the coding.
            told = {name: value for name, value in reply.headers.items() if name != "content-encoding"}
            judge(call, Answer(reply.status_code, told, reply.content))

        fuzz()


def test_no_name_and_no_file_leads_out(server: Server, laid: Trap) -> None:
    files = pointers(laid)
    for name, data in files.items():
        (laid.root / name).write_bytes(data)
    uris = [uri for uri in names(laid) if uri] + [f"{laid.root}/{n}" for n in files if "-url.mov" not in n]
    with server.client() as http:
        for uri in uris[::5]:
            reply = http.post("/v1/assets", content=json.dumps({"uri": uri}), headers=JSON)
            assert reply.headers["content-type"] == PROBLEM, uri
            assert reply.status_code in (400, 403, 404, 422), (uri, reply.text)
        for start in range(0, len(uris), 50):
            assets = [{"uri": uri} for uri in uris[start : start + 50] if "\0" not in uri]
            body = {"features": ["size"], "assets": [*assets, {"uri": str(CLIP)}]}
            for call in ("/v1/compute", "/v1/explain"):
                reply = http.post(call, content=json.dumps(body), headers=JSON)
                assert reply.status_code == 200, reply.text
                answered = reply.json()
                ready = answered.get("steps") or [r for r in answered["results"] if r["state"] == "ready"]
                assert {r["uri"] for r in ready} == {str(CLIP)}
    assert laid.untouched()


def test_the_command_is_not_led_out_either(server: Server, laid: Trap) -> None:
    uris = [uri for uri in names(laid) if uri and "\0" not in uri and uri.startswith(("/", "http", "concat"))]
    words = [sys.executable, "-m", "amber_ray.cli", "get", "-q", "--server", server.url, "--format", "json"]
    done = subprocess.run([*words, "size", *uris], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count(" failed: ") > len(set(uris)) // 2, done.stderr
    assert "Traceback" not in done.stderr
    assert str((laid.secret / "film.mp4").stat().st_size) not in done.stdout
    assert laid.untouched()
