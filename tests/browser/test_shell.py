"""The page around its views: where one is, who one is, and that anybody can use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Site, Watch, serious

VIEWS = {
    "catalogue": "Catalogue",
    "work": "Work",
    "graph?feature=shots": "Features",
    "ask?feature=shots": "Ask",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_view(site: Site, page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    found = {}
    for address, title in {**VIEWS, f"assets/{site.asset(site.films['bunny.mp4'])}": "bunny.mp4"}.items():
        page.goto(f"/#/{address}")
        page.locator(".view:not([aria-busy])").get_by_role("heading", name=title).first.wait_for(
            state="attached"
        )
        found[address] = serious(page)
    assert {address: bad for address, bad in found.items() if bad} == {}


def test_a_token_is_changed_in_the_page_and_the_reader_of_an_address_is_taken_there(
    site: Site, watch: Watch, shot: Callable[..., None]
) -> None:
    context = site.context("reader", viewport={"width": 1280, "height": 800})
    reader = context.new_page()
    watch.over(reader)
    watch.expected.append("status of 403")
    reader.goto(f"/#/ask?uri={site.films['bunny.mp4']}&feature=probe&go=1")
    reader.get_by_role("alert").get_by_text("scope").wait_for()
    shot("sign-in-refused", reader)
    reader.get_by_role("button", name="token").click()
    reader.get_by_label("API token").fill(site.tokens["owner"])
    reader.get_by_role("button", name="Use it").click()
    reader.get_by_text("1 of 1 ready").wait_for()
    assert reader.get_by_role("alert").is_hidden()
    shot("sign-in-taken", reader)
    context.close()
