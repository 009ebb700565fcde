"""Registering over HTTP without Ray: the client, two apps over two engines of the same shards, restarts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from amber_ray import errors
from amber_ray.client import AsyncClient
from amber_ray.client.http import HttpService
from amber_ray.core.model.trust import Scope
from amber_ray.fabric.adapter.registering import TextRegistrar
from amber_ray.fabric.engine.engine import Engine
from amber_ray.serving.app import create_app
from amber_ray.serving.keyring import Keyring
from amber_ray.settings import Limits, Settings
from amber_ray.store.tokens import TokenBook
from tests import http_contract
from tests.notebook import Notebook
from tests.unit.fabric.engine.kit import run, world

TAKES = Settings(register=True)


class Turns(httpx.AsyncBaseTransport):
    """A front before several apps, which take turns."""

    def __init__(self) -> None:
        self.apps: list[httpx.ASGITransport] = []
        self.asked: list[str] = []
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}
        self._turn = itertools.count()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        answer = await self.apps[next(self._turn) % len(self.apps)].handle_async_request(request)
        await answer.aread()
        answer.request = request
        http_contract.check(answer)
        if (happens := self.after.pop(self.asked[-1], None)) is not None:
            await happens()
        return answer


class Scene:
    def __init__(self, made: Any, settings: Settings, keyring: Keyring | None) -> None:
        self.world = made
        self.front = Turns()
        self._settings, self._keyring = settings, keyring
        [self.film] = made.films(0)

    async def serve(self, replicas: int = 2) -> None:
        """New replicas in place of those there are."""
        self.front.apps = []
        for _ in range(replicas):
            engine: Engine = await self.world.engine()
            app = create_app(engine, self._settings, keyring=self._keyring, registrar=TextRegistrar(engine))
            self.front.apps.append(httpx.ASGITransport(app, client=("127.0.0.1", 1)))

    async def restart(self) -> None:
        """A new server: neither shards nor replicas know what was brought."""
        for shard in self.world.shards:
            shard.registries.clear()
            shard.codes.clear()
        self.world.engines.clear()
        await self.serve()

    def client(self, token: str | None = None, patience: float = 0.0) -> AsyncClient:
        http = HttpService("http://localhost", token, transport=self.front, patience=patience)
        return AsyncClient(http, registrar=http, place="http://localhost")

    async def key(self, client: AsyncClient, feature: Any) -> str:
        [target] = [s.key for s in await client.explain(feature, self.film.uri) if s.target]
        return target


@asynccontextmanager
async def scene(settings: Settings = TAKES, keyring: Keyring | None = None) -> AsyncIterator[Scene]:
    async with world(2) as made:
        here = Scene(made, settings, keyring)
        await here.serve()
        yield here


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit's loop has a time of its own, which waits for no thread."""

    async def inline(function: Any, *given: Any, **named: Any) -> Any:
        return function(*given, **named)

    monkeypatch.setattr(asyncio, "to_thread", inline)


@pytest.fixture
def book() -> Notebook:
    return Notebook().run("""
        def by(): return 1

        @feature
        def mine(size: int) -> int:
            return size * by()

        @feature
        def above(mine: int) -> int:
            return mine + 1
    """)


def test_what_is_registered_through_one_replica_is_known_to_the_other(book: Notebook) -> None:
    async def story() -> None:
        async with scene() as here:
            client = here.client()
            told = await client.register(book.above)
            assert (told.added, told.replaced) == (("above", "mine"), ())
            keys = {await here.key(client, "above") for _ in range(4)}
            assert len(keys) == 1
            old = book.mine
            book.run("def by(): return 2")
            told = await client.register(book.mine)
            assert (told.replaced, told.recomputed) == (("mine",), ("above",))
            edited = {await here.key(client, "above") for _ in range(4)}
            assert len(edited) == 1
            assert not edited & keys
            assert [info.name for info in await client.features()] == ["above", "mine", "name_of", "size"]
            # Nobody else sees them; the same code is the same registry, whoever brings it.
            other = here.client()
            assert [info.name for info in await other.features()] == ["name_of", "size"]
            assert await here.key(other, old) != keys.pop()

    run(story())


def test_what_is_there_already_costs_one_question_and_nothing_is_sent(book: Notebook) -> None:
    async def story() -> None:
        async with scene() as here:
            client = here.client()
            await client.register(book.mine)
            asked = len(here.front.asked)
            await here.key(client, book.mine)
            await here.key(client, "size")
            assert here.front.asked[asked:] == ["POST /v1/explain"] * 2

    run(story())


def test_a_server_that_started_anew_is_brought_it_again(book: Notebook) -> None:
    async def story() -> None:
        async with scene() as here:
            client = here.client()
            await client.register(book.mine)
            book.run("def by(): return 3")
            await client.register(book.above)
            before = await here.key(client, "above")
            await here.serve()  # new replicas: the shards know it
            asked = len(here.front.asked)
            assert await here.key(client, "above") == before
            assert here.front.asked[asked:] == ["POST /v1/explain"]
            await here.restart()
            asked = len(here.front.asked)
            assert await here.key(client, "above") == before
            again = ["POST /v1/explain", *["POST /v1/registry"] * 2, "POST /v1/explain"]
            assert here.front.asked[asked:] == again

    run(story())


def test_a_server_that_dies_again_while_it_is_brought_them_is_brought_all_once_more(book: Notebook) -> None:
    async def story() -> None:
        async with scene() as here:
            client = here.client(patience=60.0)
            await client.register(book.mine)
            book.run("def by(): return 3")
            await client.register(book.above)
            before = await here.key(client, "above")
            await here.restart()
            here.front.after = {"POST /v1/registry": here.restart}  # between the two steps
            assert await here.key(client, "above") == before

    run(story())


def test_a_server_that_forgets_for_ever_is_given_up(book: Notebook) -> None:
    async def story() -> None:
        async with scene() as here:
            client = here.client(patience=5.0)
            await client.register(book.mine)

            async def forgets() -> None:
                await here.restart()
                here.front.after = {"POST /v1/registry": forgets}

            await forgets()
            with pytest.raises(errors.UnknownRegistry):
                await here.key(client, "mine")

    run(story())


def test_an_edit_that_was_taken_back_is_brought_again_too(book: Notebook) -> None:
    """Its registries come round: the last one has the digest of the first."""

    async def story() -> None:
        async with scene() as here:
            client = here.client()
            old = book.mine
            first = await here.key(client, old)
            book.run("""
                @feature
                def mine(size: int) -> int:
                    return -size
            """)
            second = await here.key(client, book.mine)
            for _ in range(2):
                assert await here.key(client, old) == first
                assert await here.key(client, book.mine) == second
            await here.restart()
            assert await here.key(client, "mine") == second
            assert await here.key(client, old) == first
            await here.restart()
            assert await here.key(client, "mine") == first

    run(story())


def test_code_that_is_another_there_is_refused(book: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with scene() as here:
            monkeypatch.setattr("amber_ray.client.http.meaning", lambda spec: "0" * 32)
            with pytest.raises(errors.FeatureMismatch, match="'mine' is another one here than where it was"):
                await here.client().register(book.mine)

    run(story())


@pytest.mark.parametrize(
    ("settings", "scopes", "said"),
    [
        (Settings(), "operate", "runs no code of its clients; start it with `amber serve --register`"),
        (TAKES, "read compute upload", "this needs a token with the scope operate"),
        (TAKES, "", "a token of the settings brings no code; make one with `amber token new"),
    ],
)
def test_it_takes_the_setting_and_the_scope_and_a_token_of_somebody(
    book: Notebook, tmp_path: Path, settings: Settings, scopes: str, said: str
) -> None:
    tokens = TokenBook(str(tmp_path))
    mine = frozenset(map(Scope, [*scopes.split(), "compute", "read"]))
    token = tokens.add("ci", "default", mine, 0.0) if scopes else "plain"

    async def story() -> None:
        async with scene(settings, Keyring(("plain",), tokens)) as here:
            client = here.client(token)
            with pytest.raises(errors.BadRequest) as refused:
                await client.register(book.mine)
            assert "takes no features from its clients; give the module" in str(refused.value)
            assert said in str(refused.value)
            # As a server that never took any: what is meant is said, and nothing is run.
            with pytest.raises(errors.FeatureMismatch, match="'mine' is not registered at http"):
                await here.key(client, book.mine)
            assert await here.key(client, "size")
            asked = [path for path in here.front.asked if path.endswith("registry")]
            assert len(asked) == 1

    run(story())


def test_with_all_three_it_is_taken(book: Notebook, tmp_path: Path) -> None:
    tokens = TokenBook(str(tmp_path))
    token = tokens.add("ci", "default", frozenset(Scope), 0.0)

    async def story() -> None:
        async with scene(TAKES, Keyring((), tokens)) as here:
            assert (await here.client(token).register(book.mine)).added == ("mine",)

    run(story())


def test_a_text_that_is_too_long_is_refused(book: Notebook) -> None:
    async def story() -> None:
        async with scene(TAKES.replace(limits=Limits(source_bytes=100))) as here:
            with pytest.raises(errors.TooLarge, match="at most 100 are taken"):
                await here.client().register(book.mine)

    run(story())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"base": "x"}, "base must be the digest of a registry"),
        ({"texts": {}, "features": {"a": "0" * 32}}, "texts and features belong together"),
        ({"texts": [{"name": "a", "text": 1}]}, "texts[0].text must be a module's source"),
        ({"texts": [{"name": "a", "text": "", "package": "a b"}]}, "texts[0].package must be"),
        ({"texts": [{"name": "a", "text": "", "filed": 1}]}, "texts[0].filed must be true or false"),
        ({"texts": [{"name": "a", "text": "x"}]}, "texts and features belong together"),
        ({"features": {"a": "b"}}, "features['a'] must be 32"),
        ({"pickle": "gASV"}, "pickle"),
    ],
)
def test_a_body_that_is_none_is_refused_by_its_field(body: dict[str, Any], said: str) -> None:
    async def story() -> None:
        async with (
            scene() as here,
            httpx.AsyncClient(transport=here.front, base_url="http://localhost") as http,
        ):
            answer = await http.post("/v1/registry", json=body)
            assert answer.status_code == 400
            assert said in answer.json()["detail"]

    run(story())


def test_a_request_that_names_what_nobody_brought_is_refused(book: Notebook) -> None:
    async def story() -> None:
        async with (
            scene() as here,
            httpx.AsyncClient(transport=here.front, base_url="http://localhost") as http,
        ):
            body = {"features": ["size"], "assets": [{"uri": here.film.uri}], "registry": "0" * 32}
            for path in ("/v1/compute", "/v1/explain"):
                answer = await http.post(path, json=body)
                assert (answer.status_code, answer.json()["error"]) == (412, "UnknownRegistry")

    run(story())
