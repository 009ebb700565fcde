"""The page in a real Chromium, before a real `amber serve`; one of each for all tests of this folder.

A test takes `page`, which is signed in and fails the test on whatever a browser complains of: an error in the
console, an exception that nobody caught, a violation of the page's policy, a request to another host. What a
test provokes on purpose it names in `watch.expected`. `shot("name")` keeps a picture of what there is to see
in `tests/output/browser`, for people: nothing compares it.

Playwright's loop runs in this thread as long as it is open, and no other test could run one: it is closed
with the last test of this folder.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from amber_ray.core.model.trust import Scope
from amber_ray.store.tokens import TokenBook
from tests import sharing
from tests.browser import archive
from tests.server import CLIP, Server, running

OUTPUT = Path(__file__).parents[1] / "output" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 60_000
"""Longest wait for something to be seen, which may take a computation on a machine with much else to do."""
SCOPES = {"owner": frozenset(Scope), "reader": frozenset({Scope.READ})}
SERIOUS = {"serious", "critical"}
STATE = """() => {
    const { currentTime, readyState, seeking, currentSrc, error } = document.querySelector("video") ?? {};
    const said = [...document.querySelectorAll("[role=status]")].map((one) => one.textContent);
    return { currentTime, readyState, seeking, currentSrc, error: error?.message, said };
}"""
"""What there is to say of a player that did not come to what was waited for."""
VIOLATIONS = """addEventListener("securitypolicyviolation", (e) =>
    console.error(`the policy forbids ${e.blockedURI || "inline"} (${e.effectiveDirective})`))"""


@dataclass
class Site:
    """The server that all tests share, what it has, and the browser."""

    server: Server
    tokens: dict[str, str]
    films: dict[str, Path]
    browser: Any = None
    _ends: list[Callable[[], Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.url

    def client(self) -> httpx.Client:
        """Calls without a browser, as the owner."""
        headers = {"Authorization": f"Bearer {self.tokens['owner']}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=90, trust_env=False, verify=False)

    def asset(self, path: Path) -> str:
        """The id of what lies somewhere."""
        with self.client() as client:
            return str(client.post("/v1/assets", json={"uri": str(path)}).raise_for_status().json()["id"])

    def context(self, token: str = "owner", **options: Any) -> Any:
        """A browser's window of its own, that answers the server's question for a password by a token."""
        credentials = {"username": token, "password": self.tokens[token]}
        found = self.browser.new_context(http_credentials=credentials, base_url=self.url, **options)
        found.set_default_timeout(WAIT_MS)
        found.add_init_script(VIOLATIONS)
        return found


@dataclass
class Watch:
    """What a browser complains of; `expected` are patterns of what a test provokes."""

    url: str
    expected: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def over(self, page: Any) -> None:
        page.on("console", lambda line: self.said.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))
        page.on("request", lambda request: self._asked(request.url))

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("blob", "data") and parts.netloc != urlsplit(self.url).netloc:
            self.said.append(f"asked another host: {url}")

    def complaints(self) -> list[str]:
        return [one for one in self.said if not any(re.search(known, one) for known in self.expected)]


def until(page: Any, holds: str, given: Any = None, within: float = WAIT_MS / 1000) -> None:
    """Wait until a function of the page's is true. Playwright's own wait evaluates text, as no page may."""
    give_up = time.monotonic() + within
    while not page.evaluate(holds, given):
        assert time.monotonic() < give_up, (holds, given, page.url, page.evaluate(STATE))
        page.wait_for_timeout(50)


def serious(page: Any) -> list[tuple[str, list[str]]]:
    """What axe finds that is serious or worse: its name, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = [one for one in Axe().run(page).response["violations"] if one["impact"] in SERIOUS]
    return [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found]


_site: Site | None = None
START_SECONDS = 300
"""Longest time of a test, the first of which starts the server."""
_started: list[Iterator[Any]] = []


def _start(folder: Path, chromium: str) -> Site:
    from playwright.sync_api import sync_playwright

    store = folder / "store"
    tokens = {
        name: TokenBook(str(store)).add(name, "default", scopes, time.time())
        for name, scopes in SCOPES.items()
    }
    archive.write(store, folder / "media" / "archive")
    films = archive.films(folder / "media" / "films", CLIP)
    server = running(folder, "--features", str(Path(archive.__file__).with_name("features.py")))
    _started.append(server)
    site = Site(next(server), tokens, films)
    playwright = sync_playwright()
    opened = playwright.start()
    site._ends.append(opened.stop)
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to sandbox what root runs
    site.browser = opened.chromium.launch(executable_path=chromium, args=flags)
    site._ends.append(site.browser.close)
    return site


def _stop() -> None:
    global _site
    site, _site = _site, None
    for end in reversed(site._ends if site is not None else []):
        end()
    while _started:
        next(_started.pop(), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(START_SECONDS))


@pytest.hookimpl(trylast=True)  # what the test itself has opened is closed
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if sharing.leaves(item, nextitem):
        _stop()


def pytest_sessionfinish() -> None:
    _stop()


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The server, and what is in it; started by the first test that asks."""
    global _site
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip(
            "no Chromium on the PATH, so the page was not tried in a browser: apt-get install chromium"
        )
    if _site is None:
        _site = _start(tmp_path_factory.mktemp("site"), chromium)
    return _site


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    """What the browser complains of while a test runs."""
    found = Watch(site.url)
    yield found
    assert found.complaints() == []


@pytest.fixture
def page(site: Site, watch: Watch) -> Iterator[Any]:
    """A signed-in window of 1280 by 800."""
    context = site.context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    watch.over(opened)
    yield opened
    context.close()


@pytest.fixture
def shot(page: Any) -> Callable[..., None]:
    """Keep a picture of what is to be seen, under a name; of `page`, or of another window."""
    OUTPUT.mkdir(parents=True, exist_ok=True)

    def take(name: str, window: Any = page) -> None:
        window.screenshot(path=OUTPUT / f"{name}.png", full_page=True)

    return take
