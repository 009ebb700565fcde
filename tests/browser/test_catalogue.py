"""The catalogue of 100,000 assets: gone through, chosen from, computed for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser import archive
from tests.browser.conftest import Site
from tests.server import CLIP

Shot = Callable[[str], None]


@pytest.fixture
def films(site: Site) -> str:
    """The address of a folder of films that no other file's tests know."""
    folder = site.server.media / "chosen"
    with site.client() as client:
        for path in archive.films(folder, CLIP, 100).values():
            client.post("/v1/assets", json={"uri": str(path)}).raise_for_status()
    return f"/#/catalogue?prefix={quote(str(folder))}/"


def tiles(page: Any) -> Any:
    return page.get_by_role("listbox", name="Assets").get_by_role("option")


def test_a_hundred_thousand_assets_are_gone_through_with_few_nodes_and_found_again(
    page: Any, shot: Shot
) -> None:
    page.goto("/#/catalogue?name=film-")
    page.get_by_role("status").get_by_text("100,000 of").wait_for()
    page.get_by_text("film-000000.mp4", exact=True).wait_for()
    most = tiles(page).count()
    grid = page.get_by_role("listbox", name="Assets")
    for place in (0.25, 0.5, 0.75):
        grid.evaluate("(node, place) => { node.scrollTop = node.scrollHeight * place }", place)
        page.get_by_text(re.compile(f"film-0{int(place * 100)}[0-9]{{3}}.mp4")).first.wait_for()
        most = max(most, tiles(page).count())
        shot(f"catalogue-{place:.0%}".replace("%", ""))
    page.wait_for_url(re.compile("at=7[0-9]{4}"))
    first = page.locator(f"#tile-{page.url.rpartition('=')[2]} .name")
    name = first.text_content()
    page.reload()  # the address says where one was
    page.get_by_text(name, exact=True).wait_for()
    assert first.bounding_box()["y"] >= grid.bounding_box()["y"]
    page.get_by_role("status").get_by_text("100,000 of").wait_for()
    grid.focus()
    page.keyboard.press("End")
    page.get_by_text(f"film-{archive.COUNT - 1:06}.mp4", exact=True).wait_for()
    most = max(most, tiles(page).count())
    assert most < 100
    page.wait_for_url(re.compile("at=99[0-9]{3}"))
    page.get_by_role("link", name="Work").click()
    page.get_by_role("heading", name="On its way").wait_for()
    page.go_back()
    page.get_by_text(f"film-{archive.COUNT - 1:06}.mp4", exact=True).wait_for()


def test_many_are_chosen_with_the_keys_and_computed_and_taken_along(
    site: Site, page: Any, films: str, shot: Shot
) -> None:
    page.goto(films)
    page.get_by_role("status").get_by_text("4 assets").wait_for()
    page.get_by_role("option", name=archive.HOSTILE).locator(
        "img"
    ).wait_for()  # its picture: the name is text
    page.get_by_role("listbox").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_text("3 assets chosen").wait_for()
    tiles(page).nth(3).click()
    page.get_by_text("4 assets chosen").wait_for()
    page.get_by_label("Features").fill("size")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="What would it cost?").click()
    page.get_by_role("status").get_by_text("4 steps").wait_for()
    page.get_by_role("button", name="Export").click()
    page.get_by_role("status").get_by_text("done, 4 of 4 steps").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="size.arrow").click()
    import pyarrow as pa

    rows = pa.ipc.open_stream(download.value.path().read_bytes()).read_all()
    assert sorted(rows["value"].to_pylist()) == sorted(path.stat().st_size for path in site.films.values())
    page.get_by_text("size, thumbnail").first.wait_for()  # what each has, at a glance
    shot("catalogue-computed")


def test_what_is_computed_for_many_is_cancelled(site: Site, page: Any, films: str, shot: Shot) -> None:
    page.goto(f"{films}&feature=gated")
    page.get_by_role("status").get_by_text("4 assets").wait_for()
    page.get_by_role("button", name="Choose all").click()
    page.get_by_role("button", name="Compute").click()
    page.get_by_role("status").get_by_text("running, 0 of 4 steps").wait_for()
    site.server.until(lambda: site.server.runs("gated") > 0)
    shot("catalogue-running")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("status").get_by_text("cancelled").wait_for()
    with site.client() as client:
        site.server.until(lambda: client.get("/v1/requests?state=running").json()["requests"] == [])


def test_pictures_that_were_scrolled_past_are_not_made(site: Site, page: Any) -> None:
    def asked(state: str) -> set[str]:
        with site.client() as client:
            found = client.get("/v1/requests", params={"state": state, "limit": 1000}).json()["requests"]
        return {one["id"] for one in found if one["features"] == ["thumbnail"]}

    site.server.clear()
    with site.client() as client:  # all CPUs are taken
        body = {"features": ["gated"], "assets": [{"uri": str(path)} for path in site.films.values()]}
        holding = client.post("/v1/compute", json=body, headers={"Prefer": "wait=0"}).json()["id"]
        page.goto("/#/catalogue?at=30000")
        page.get_by_text("film-030000.mp4", exact=True).wait_for()
        site.server.until(lambda: asked("running"))
        waiting = asked("running")
        page.get_by_role("listbox", name="Assets").evaluate("node => { node.scrollTop += 100000 }")
        site.server.until(lambda: waiting <= asked("cancelled"))
        client.delete(f"/v1/requests/{holding}").raise_for_status()
