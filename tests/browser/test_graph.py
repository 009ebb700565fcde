"""The graph of features: what they do now, and what an asset's plan is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests.browser.conftest import Site


def test_an_assets_plan_is_drawn_with_what_is_there_and_what_it_would_cost(
    site: Site, page: Any, shot: Callable[[str], None]
) -> None:
    film = quote(str(site.films["bunny.mp4"]))
    page.goto(f"/#/graph?feature=diamond&asset={film}")
    page.get_by_role("button", name="left: 4 to run").wait_for()
    assert page.get_by_role("button", name="brightness").count() == 0  # no part of it
    shot("graph-plan")
    with site.client() as client:
        body = {"features": ["diamond"], "assets": [{"uri": str(site.films["bunny.mp4"])}]}
        client.post("/v1/compute", json=body, headers={"Prefer": "wait=60"}).raise_for_status()
    page.reload()
    page.get_by_role("button", name="diamond: there").wait_for()
    page.get_by_text("Asking would run nothing.").wait_for()
    page.get_by_role("button", name="Live numbers").click()
    page.get_by_role("button", name="left: 4 made").wait_for()
    page.get_by_role("button", name="brightness").wait_for()
    shot("graph-live")
