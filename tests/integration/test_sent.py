"""Features registered over HTTP: cells of a notebook, a script, two replicas, two shards, a restart."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import amber_ray
from amber_ray import errors
from amber_ray.cli.token import scopes_of
from amber_ray.client.sync import Client
from amber_ray.serving import front
from amber_ray.store.tokens import TokenBook
from tests.notebook import Notebook
from tests.server import CLIP, Server, running

pytestmark = pytest.mark.timeout(600)
CONNECTIONS = 12
"""New connections that ask for each request: with two replicas both are met."""
SIZE = CLIP.stat().st_size


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sent")
    [port] = front.free_ports((0,))
    options = ("--register", "--shards", "2", "--replicas", "2", "--port", str(port))
    yield from running(folder, *options, env={"AMBER_TOKENS": "plain"})


@pytest.fixture(scope="module")
def tokens(server: Server) -> dict[str, str]:
    book = TokenBook(server.place)
    made = {
        name: book.add(name, "default", scopes_of(scopes), 0.0)
        for name, scopes in (("maker", "read,compute,operate"), ("reader", "read,compute"))
    }
    for token in made.values():
        server.until(lambda token=token: known(server, token), 20)
    return {**made, "plain": "plain"}


def known(server: Server, token: str) -> bool:
    """Whether all replicas know a token: each learns of it by itself, within seconds."""
    for _ in range(CONNECTIONS):
        with httpx.Client(headers=bearer(token), trust_env=False) as http:
            if http.get(f"{server.url}/v1/stats").status_code != 200:
                return False
    return True


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def connected(server: Server, token: str) -> Client:
    return amber_ray.connect(server.url, token=token)


def everywhere(server: Server, token: str, registry: str, feature: str) -> set[object]:
    """What all replicas answer to a caller who names a registry and brings no code."""
    body = {"features": [feature], "assets": [{"uri": str(CLIP)}], "registry": registry}
    found: set[object] = set()
    for _ in range(CONNECTIONS):
        with httpx.Client(headers=bearer(token), timeout=90, trust_env=False) as http:
            answer = http.post(f"{server.url}/v1/compute", json=body, headers={"Prefer": "wait=60"})
        assert answer.status_code == 200, answer.text
        found.add(answer.json()["results"][0].get("value"))
    return found


def test_a_cell_is_registered_edited_and_registered_anew(server: Server, tokens: dict[str, str]) -> None:
    book = Notebook().run("""
        import numpy as np
        OFFSET = 1

        def scale(size):
            return size * 2

        @feature
        def sized(asset: Asset) -> int:
            return scale(asset.bytes) + OFFSET

        @feature
        def half(sized: int, by: float = 2.0) -> float:
            return float(np.float64(sized) / by)
    """)
    with connected(server, tokens["maker"]) as client:
        told = client.register(book.sized, book.half)
        assert (told.added, told.replaced) == (("sized", "half"), ())
        first = client._inner._features.registry
        assert client.get("half", CLIP) == SIZE + 0.5
        assert client.get(book.half, CLIP, params={"half.by": 1.0}) == 2 * SIZE + 1.0
        assert everywhere(server, tokens["reader"], first, "sized") == {2 * SIZE + 1}

        old = book.sized
        book.run("def scale(size):\n    return size * 3")
        assert client.get(book.half, CLIP) == 1.5 * SIZE + 0.5
        assert client.get("sized", CLIP) == 3 * SIZE + 1
        second = client._inner._features.registry
        book.run("""
            @feature
            def sized(asset: Asset) -> int:
                return -OFFSET
        """)
        told = client.register(book.sized)
        assert (told.added, told.replaced, told.recomputed) == ((), ("sized",), ("half",))
        assert client.get("half", CLIP) == -0.5
        assert client.get(old, CLIP) == 3 * SIZE + 1  # an older object is still the older feature
        # Each registry stays what it was, for whoever names it.
        assert everywhere(server, tokens["reader"], first, "half") == {SIZE + 0.5}
        assert everywhere(server, tokens["reader"], second, "half") == {1.5 * SIZE + 0.5}

        # New replicas know what is registered from the shards; a whole new server is brought it again.
        assert server.kill("ServeReplica") >= 2
        assert client.get(book.sized, CLIP, refresh=True) == -1
        assert server.stop() == 0
        server.start()
        assert client.get(book.half, CLIP) == -0.5
        assert client.get("sized", CLIP, refresh=True) == -1
        [step] = [s for s in client.explain(old, CLIP) if s.target]
        assert step.state == "cold"  # and what was made is still there

    with connected(server, tokens["reader"]) as client:
        with pytest.raises(errors.FeatureMismatch, match="'sized' is not registered at http"):
            client.get(book.sized, CLIP)
        with pytest.raises(errors.BadRequest, match="the token 'reader' has compute, read"):
            client.register(book.sized)
        with pytest.raises(errors.UnknownFeature):
            client.get("sized", CLIP)
    with (
        connected(server, tokens["plain"]) as client,
        pytest.raises(errors.BadRequest, match="a token of the settings brings no code"),
    ):
        client.register(book.sized)


def test_mistakes_are_told_with_their_line_and_change_nothing(
    server: Server, tokens: dict[str, str], tmp_path: Path
) -> None:
    book = Notebook().run("""
        import threading
        LOCK = threading.Lock()

        @feature
        def locked(asset: Asset) -> int:
            with LOCK:
                return 1

        @feature
        def probe(asset: Asset) -> int:
            return 1

        @feature(version="7")
        def pinned(asset: Asset) -> int:
            return 1
    """)
    (tmp_path / "near_helper.py").write_text("def f():\n    return 1\n")
    path = tmp_path / "near_features.py"
    path.write_text(
        textwrap.dedent("""
            from amber_ray import Asset, feature
            import near_helper

            @feature
            def near(asset: Asset) -> int:
                return near_helper.f()
        """)
    )
    with connected(server, tokens["maker"]) as client:
        with pytest.raises(errors.UnfitCode, match=r"it uses 'LOCK', an object of this process \(_thread"):
            client.get(book.locked, CLIP)
        with pytest.raises(errors.UnfitCode, match=r"near_features.py:3: there is no module 'near_helper'"):
            client.register(str(path))
        with pytest.raises(errors.UnfitCode, match="'probe' is a built-in feature"):
            client.register(book.probe)
        assert client.get(book.pinned, CLIP) == 1
        book.run("""
            @feature(version="7")
            def pinned(asset: Asset) -> int:
                return 2
        """)
        with pytest.raises(errors.UnfitCode, match="'pinned' changed and its version is still '7'"):
            client.get(book.pinned, CLIP)
        assert client.get("pinned", CLIP) == 1


SCRIPT = """
import dataclasses, re, sys
import amber_ray
from amber_ray import Asset, feature

WORDS = re.compile("a+")

@dataclasses.dataclass
class Part:
    start: float
    end: float

@feature
class Parts:
    def __init__(self, count: int = 2):
        self.count = count

    def __call__(self, asset: Asset) -> list[Part]:
        return [Part(float(i), i + 1.0) for i in range(self.count) if WORDS.match("aa")]

client = amber_ray.connect(sys.argv[1], token=sys.argv[2])
print(client.get(Parts, sys.argv[3], params={"parts.count": 3}), amber_ray.connect.__name__)
"""


def test_what_a_script_defines_is_sent_without_the_script(server: Server, tokens: dict[str, str]) -> None:
    for words in (["-c", SCRIPT], [str(server.folder / "script.py")]):
        (server.folder / "script.py").write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, *words, server.url, tokens["maker"], str(CLIP)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if words[0] == "-c":
            # Nobody keeps the text of `python -c`.
            assert "the source of 'Parts' can't be read" in done.stderr
        else:
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("[{'start': 0.0, 'end': 1.0}, {'start': 1.0"), done.stdout
