"""`GET /docs`: the interactive page, from packaged files, under the tokens, without another host.

What is held here is what a browser is given: every file that a page names is served, no file of ours names
another host, and the policy forbids to ask one whatever a file says.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import httpx
import pytest

from amber_ray.serving.routes.page import FILES, TYPES
from amber_ray.settings import Settings
from tests.http_app import client, run

VENDORED = ("/page/swagger-ui-bundle.js", "/page/swagger-ui.css")


def get(path: str, settings: Settings | None = None, root_path: str = "", **headers: str) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(None, settings, root_path=root_path) as http:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await http.get(root_path + path, headers=named)

    answer: httpx.Response = run(once)
    return answer


class Named(HTMLParser):
    """What a page loads, and how much of it is inline: scripts, styles, handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        named = [value for name, value in attrs if name in ("src", "href") and value]
        self.loads += [value for value in named if not value.startswith("#")]


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_loads_files_of_this_server_alone_and_has_nothing_inline(page: str) -> None:
    answer = get(page)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = Named()
    named.feed(answer.text)
    assert named.inline == []
    assert len(named.loads) > 3
    for target in named.loads:
        # Relative, so that a mounted prefix is kept.
        assert re.fullmatch(r"[\w./-]+", target), target
        assert not target.startswith("/")
        assert get(f"/{target}").status_code == 200, target


@pytest.mark.parametrize("path", FILES)
def test_the_policy_lets_a_page_ask_this_server_and_nobody_else(path: str) -> None:
    policy = dict(
        directive.strip().split(" ", 1)
        for directive in get(path).headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert set(" ".join(policy.values()).split()) <= {"'none'", "'self'", "blob:", "data:"}
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"


@pytest.mark.parametrize("path", sorted({*FILES} - {"/page/swagger-ui-bundle.js"}))
def test_no_file_names_another_host(path: str) -> None:
    """The bundle is left out: it names specifications and its makers in texts, and is held by the policy."""
    assert not re.search(r"""https?://(?!www\.w3\.org/)|["'(]//""", get(path).text)


def test_every_file_of_the_page_is_served_and_no_other() -> None:
    room = resources.files("amber_ray.serving")
    here = Path(str(room / "page"))
    told = {f"page/{path.relative_to(here)}" for path in here.rglob("*") if path.suffix in TYPES}
    assert told == {name for name, _ in FILES.values() if name.startswith("page/")}
    for path in (
        "/page/../app.py",
        "/page/..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/page//app.js",
        "/page/views",
    ):
        assert get(path).status_code in (400, 404), path


def test_swagger_ui_is_the_published_one_with_its_licence() -> None:
    folder = resources.files("amber_ray.serving").joinpath("swagger")
    told = dict(re.findall(r"\| `([\w.-]+)` \| `([0-9a-f]{64})` \|", (folder / "README.md").read_text()))
    assert {f"/page/{name}" for name in told} == set(VENDORED)
    for name, digest in told.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert "swagger-ui" in (folder / "NOTICE").read_text()


def test_swagger_ui_is_kept_from_the_one_host_that_it_would_tell() -> None:
    """By default it sends the description's address to a validator."""
    assert "validatorUrl: null" in get("/page/docs.js").text


def test_with_tokens_a_browser_asks_its_reader_for_one_and_sends_it_with_all_that_the_page_asks() -> None:
    locked = Settings(tokens=("secret",))
    password = "Basic " + base64.b64encode(b"anyone:secret").decode()
    for path in ("/", "/docs", "/page/docs.js", "/openapi.json", "/v1/features", *VENDORED):
        assert get(path, locked).status_code == 401
        assert get(path, locked, Authorization="Bearer secret").status_code == 200
        assert get(path, locked, Authorization=password).status_code == 200
    opened = get("/docs", locked, Sec_Fetch_Mode="navigate")
    assert opened.headers.get_list("WWW-Authenticate") == [
        'Bearer realm="amber"',
        'Basic realm="amber", charset="UTF-8"',
    ]
    # What a page's script asks must not make the browser ask: the page itself says that a token is needed.
    assert get("/v1/features", locked, Sec_Fetch_Mode="cors").headers.get_list("WWW-Authenticate") == [
        'Bearer realm="amber"'
    ]


def test_both_pages_keep_the_token_in_one_place() -> None:
    names = [re.findall(r'"(amber-token)"', get(f"/page/{name}.js").text) for name in ("api", "docs")]
    assert all(names)


@pytest.mark.parametrize("path", [*FILES, "/openapi.json"])
def test_a_browser_that_has_a_file_is_not_sent_it_again(path: str) -> None:
    first = get(path)
    assert "no-cache" in first.headers["Cache-Control"]
    again = get(path, If_None_Match=first.headers["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]


def test_below_a_prefix_the_calls_are_below_it_too() -> None:
    """Where a description names no server, callers take the root of its host."""
    assert "servers" not in get("/openapi.json").json()
    assert get("/openapi.json", root_path="/amber").json()["servers"] == [{"url": "/amber"}]
