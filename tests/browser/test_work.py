"""What runs, waits and failed, seen and acted upon."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.browser.conftest import Site
from tests.browser.features import HOSTILE

Shot = Callable[[str], None]


def ask(site: Site, feature: str, film: str, wait: int = 0) -> Any:
    with site.client() as client:
        body = {"features": [feature], "assets": [{"uri": str(site.films[film])}]}
        return client.post("/v1/compute", json=body, headers={"Prefer": f"wait={wait}"}).json()


def test_what_runs_and_waits_is_seen_and_cancelled(site: Site, page: Any, shot: Shot) -> None:
    site.server.clear()
    ask(site, "first_leaf", "second.mp4")
    site.server.until(lambda: site.server.runs("slow_left") > 0)
    page.goto("/#/work?requests=running")
    way = page.get_by_role("region", name="Steps on their way")
    way.get_by_role("row", name=re.compile("slow_left runs")).wait_for()
    way.get_by_role("row", name=re.compile("first_leaf waits for slow_left")).wait_for()
    page.get_by_text(re.compile("has 2 CPU")).wait_for()
    shot("work-running")
    page.get_by_role("row", name=re.compile("^first_leaf running")).get_by_role(
        "button", name="Cancel"
    ).click()
    page.get_by_text("Nothing is on its way.").wait_for()
    page.get_by_text("No requests are remembered.").wait_for()


def test_a_failure_is_seen_with_its_traceback_and_tried_again(site: Site, page: Any, shot: Shot) -> None:
    ask(site, "after_raises", "third.mp4", wait=30)
    before = site.server.runs("raises")
    page.goto("/#/work")
    failure = page.locator("article").filter(has_text="the moon is full")
    failure.get_by_text("without it there is no after_raises").wait_for()
    failure.get_by_text("traceback of the first").click()
    failure.get_by_text("raise ValueError").wait_for()
    failure.get_by_role("button", name="Try again").click()
    failure.get_by_role("status").get_by_text("failed again").wait_for()
    assert site.server.runs("raises") > before
    shot("work-failure")


def test_what_is_html_in_a_name_a_label_and_an_error_is_text(site: Site, page: Any, shot: Shot) -> None:
    film = next(name for name in site.films if name.startswith(HOSTILE))
    ask(site, "graffiti_refused", film, wait=30)
    page.goto("/#/work")
    page.get_by_text(f"{HOSTILE} said by an error").first.wait_for()
    page.get_by_text(film).first.wait_for()
    shot("work-html-is-text")
    uri = str(site.films[film])
    page.evaluate(
        "uri => { location.hash = '#/ask?feature=graffiti&go=1&uri=' + encodeURIComponent(uri) }", uri
    )
    page.get_by_text(f"{HOSTILE} written").wait_for()
    page.get_by_text(f"{HOSTILE} labelled").wait_for()
    page.get_by_text(film).first.wait_for()
    shot("ask-html-is-text")
    assert page.locator("img[src=x]").count() == 0
