"""An asset as people look at it: a film with tracks under it, a sound, a picture."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest

from amber_ray.testing import write_picture, write_sound
from tests.browser import archive
from tests.browser.conftest import Site, Watch, serious, until
from tests.browser.features import HOSTILE

FILM_SECONDS = 30.0


def computed(site: Site, id: str, *features: str, **more: Any) -> list[dict[str, Any]]:
    body = {"features": list(features), "assets": [{"id": id}], **more}
    with site.client() as client:
        view = client.post("/v1/compute", json=body, headers={"Prefer": "wait=60"}).raise_for_status().json()
    assert view["state"] == "done", view
    return list(view["results"])


def track(page: Any, text: str) -> Any:
    return page.get_by_role("list", name="Tracks").locator(f'li[aria-label="{text}"]')


def status(page: Any, text: str, words: str) -> None:
    """Wait until a track says this."""
    track(page, text).locator(".status", has_text=words).wait_for()


def click_at(page: Any, text: str, seconds: float, begin: float = 0.0, end: float = FILM_SECONDS) -> None:
    """Click a track where a time is."""
    lane = track(page, text).locator("canvas")
    box = lane.bounding_box()
    lane.click(position={"x": box["width"] * (seconds - begin) / (end - begin), "y": box["height"] / 2})


def seconds(page: Any) -> float:
    return float(page.evaluate("document.querySelector('video').currentTime"))


def place(page: Any) -> dict[str, str]:
    """What the address says."""
    return {name: values[0] for name, values in parse_qs(page.url.partition("?")[2]).items()}


@pytest.fixture
def film(site: Site) -> str:
    return site.asset(site.films["bunny.mp4"])


def test_a_film_plays_and_a_click_on_a_track_seeks_to_a_face_with_its_box_on_the_picture(
    site: Site, film: str, page: Any, shot: Callable[[str], None]
) -> None:
    found = [one for one in computed(site, film, "faces") if one["state"] == "ready"]
    with site.client() as client:
        values = [client.get(f"/v1/values/{one['key']}").json() for one in found]
    faces = next(value for value in values if value["frame"])
    time, box = faces["times"][faces["frame"][0]], faces["boxes"][0]

    page.goto(f"/#/assets/{film}?tracks=faces")
    status(page, "faces", f"{len(found)} known")
    page.get_by_role("button", name="Play").click()
    until(page, "(value) => document.querySelector('video').currentTime > 0.3")
    page.get_by_role("button", name="Pause").click()

    click_at(page, "faces", time + 0.2)
    until(page, "(value) => document.querySelector('.overlay').dataset.boxes > 0")
    assert seconds(page) == pytest.approx(time + 0.2, abs=0.1)
    drawn = page.evaluate(EDGES, box)
    assert drawn == {"on the box": True, "outside": False, "inside": False}
    page.get_by_role("complementary").get_by_text("centerface").first.wait_for()
    shot("asset-box")


EDGES = """([left, top, right, bottom]) => {
  const canvas = document.querySelector('.overlay'), video = document.querySelector('video');
  const scale = Math.min(canvas.width / video.videoWidth, canvas.height / video.videoHeight);
  const [wide, high] = [video.videoWidth * scale, video.videoHeight * scale];
  const [x0, y0] = [(canvas.width - wide) / 2, (canvas.height - high) / 2];
  const painted = (x, y) => canvas.getContext('2d')
    .getImageData(Math.round(x0 + x * wide) - 2, Math.round(y0 + y * high) - 2, 4, 4).data.some((v) => v > 0);
  const [w, h] = [right - left, bottom - top];
  return {
    'on the box': painted(left, top + h * .8) && painted(right, top + h * .8)
      && painted(left + w * .5, bottom),
    outside: painted(left - w * .2, bottom + h * .1) || painted(right + w * .1, bottom + h * .1),
    inside: painted(left + w * .5, top + h * .15),
  };
}"""


def test_what_one_sees_is_in_the_address(
    site: Site, film: str, page: Any, shot: Callable[[str], None]
) -> None:
    computed(site, film, "brightness", "motion")
    page.goto(f"/#/assets/{film}?tracks=brightness")
    status(page, "brightness", "known")
    click_at(page, "brightness", 12.0)
    page.mouse.wheel(0, -400)  # zooms where the pointer is
    until(page, "(value) => location.hash.includes('from=')")
    zoomed = place(page)
    begin, end = float(zoomed["from"]), float(zoomed["to"])
    assert end - begin < FILM_SECONDS * 0.8
    assert begin < 12.0 < end
    assert (12.0 - begin) / (end - begin) == pytest.approx(12.0 / FILM_SECONDS, abs=0.02)

    lane = track(page, "brightness").locator("canvas").bounding_box()
    y = lane["y"] + lane["height"] / 2
    page.mouse.move(lane["x"] + 400, y)
    page.mouse.down()
    page.mouse.move(lane["x"] + 300, y, steps=5)
    page.mouse.up()
    until(page, "(value) => Number(location.hash.match(/from=([\\d.]+)/)[1]) > value", begin + 0.1)
    assert float(place(page)["t"]) == pytest.approx(12.0, abs=0.1), "dragging does not seek"

    before = seconds(page)
    page.keyboard.press("ArrowRight")
    until(page, "(value) => document.querySelector('video').currentTime > value", before)
    assert seconds(page) == pytest.approx(before + 1 / 24, abs=0.03)  # one picture
    page.get_by_role("combobox", name="Feature").fill("motion")
    page.get_by_role("button", name="Add track").click()
    status(page, "motion", "known")
    until(page, "(value) => location.hash.includes('motion')")
    page.wait_for_timeout(500)  # the address is told of the last change
    shown = place(page)

    page.reload()
    status(page, "motion", "known")
    status(page, "brightness", "known")
    until(
        page,
        "(value) => Math.abs(document.querySelector('video').currentTime - value) < .02",
        float(shown["t"]),
    )
    assert place(page) == shown
    shot("asset-again")

    page.go_back()
    track(page, "motion").wait_for(state="detached")
    assert track(page, "brightness").is_visible()


def test_a_track_that_is_not_there_fills_where_one_looks_and_stands_beside_other_parameters(
    film: str, page: Any, shot: Callable[[str], None]
) -> None:
    page.goto(f"/#/assets/{film}?tracks=sharpness&from=12&to=18")
    status(page, "sharpness", "1 not computed")
    shot("asset-not-computed")
    click_at(page, "sharpness", 15.0, 12.0, 18.0)
    page.get_by_role("complementary").get_by_text("Why it is not there").wait_for()
    track(page, "sharpness").get_by_role("button", name="Compute").click()
    status(page, "sharpness", "1 known")
    click_at(page, "sharpness", 15.0, 12.0, 18.0)
    page.get_by_role("complementary").get_by_text("computed now").wait_for()
    page.get_by_role("complementary").get_by_text("frames 0:10.0").wait_for()

    track(page, "sharpness").get_by_role("button", name="other parameters").click()
    page.get_by_role("textbox", name="Parameters").fill("frames.fps=4")
    page.get_by_role("button", name="Add track").click()
    other = "sharpness?frames.fps=4"
    status(page, other, "1 not computed")
    track(page, other).get_by_role("button", name="Compute").click()
    status(page, other, "1 known")
    assert track(page, "sharpness").is_visible()
    shot("asset-two-parameters")
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 5, "y": 5})
    page.keyboard.press("0")  # all of it: what nobody looked at was not computed
    status(page, "sharpness", "not computed")


def test_what_runs_is_cancelled(film: str, page: Any, shot: Callable[[str], None]) -> None:
    page.goto(f"/#/assets/{film}?tracks=slow_left")
    status(page, "slow_left", "not computed")
    row = track(page, "slow_left")
    row.get_by_role("button", name="Compute").click()
    status(page, "slow_left", "steps")
    shot("asset-running")
    row.get_by_role("button", name="Cancel").click()
    status(page, "slow_left", "cancelled")
    assert row.get_by_role("button", name="Compute").is_visible()


def test_a_token_that_may_only_read_sees_what_is_known(site: Site, film: str, watch: Watch) -> None:
    known = len(computed(site, film, "brightness"))
    computed(site, film, "brightness", params={"frames.fps": 1})
    context = site.context("reader", viewport={"width": 1280, "height": 800})
    page = context.new_page()
    watch.over(page)
    watch.expected.append("status of 403")
    page.goto(f"/#/assets/{film}?tracks=brightness,slow_left")
    status(page, "brightness", f"{known} known")
    assert track(page, "slow_left").get_by_role("button", name="Compute").is_hidden()
    click_at(page, "brightness", 15.0)
    page.get_by_role("complementary").get_by_text("frames.fps=2").wait_for()
    context.close()


def test_a_name_that_is_html_is_shown_as_text(site: Site, page: Any) -> None:
    hostile = site.asset(site.films[archive.HOSTILE])
    page.goto(f"/#/assets/{hostile}?tracks=brightness,<img src=x onerror=alert(2)>")
    page.get_by_role("heading", name=archive.HOSTILE).wait_for()
    page.locator(".track .error", has_text="<img src=x onerror=alert(2)>").wait_for()
    assert page.locator("main img").count() == 0


def test_a_line_on_the_screen_that_is_html_is_shown_as_text(
    site: Site, page: Any, shot: Callable[[str], None]
) -> None:
    hostile = site.asset(site.films[archive.HOSTILE])
    computed(site, hostile, "graffiti")
    page.goto(f"/#/assets/{hostile}?tracks=graffiti&from=0&to=4")
    status(page, "graffiti", "1 known")
    click_at(page, "graffiti", 1.5, 0.0, 4.0)
    page.get_by_role("complementary").get_by_text(f"{HOSTILE} written").first.wait_for()
    assert page.locator("main img").count() == 0
    shot("asset-html-is-text")


def test_a_sound_and_a_picture(site: Site, page: Any, watch: Watch, shot: Callable[[str], None]) -> None:
    import numpy as np

    folder = site.films["bunny.mp4"].parent
    tone = np.sin(np.arange(16_000 * 12) * 0.05).astype(np.float32) * 0.5
    sound = site.asset(write_sound(folder / "tone.wav", tone, 16_000))
    page.goto(f"/#/assets/{sound}?tracks=spectrogram")
    track(page, "spectrogram").get_by_role("button", name="Compute").click()
    status(page, "spectrogram", "2 known")
    shot("asset-sound")

    picture = site.asset(write_picture(folder / "grey.png", np.full((90, 160, 3), 128, np.uint8)))
    page.goto(f"/#/assets/{picture}?tracks=brightness")
    image = page.locator("main img")
    image.wait_for()
    page.keyboard.press("+")
    assert "scale(1.5)" in image.get_attribute("style")
    track(page, "brightness").get_by_role("button", name="Compute").click()
    status(page, "brightness", "1 known")
    shot("asset-picture")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_view_is_for_everybody(film: str, page: Any, scheme: str, shot: Callable[[str], None]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/#/assets/{film}?tracks=brightness,slow_left")
    status(page, "slow_left", "not computed")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert serious(page) == []
    shot(f"asset-phone-{scheme}")
    row = track(page, "brightness")
    row.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "slow_left"
    page.keyboard.press("Enter")
    assert re.search("slow_left", page.get_by_role("complementary").inner_text())
