"""Films in the page's player: by their own bytes where the browser can, else by pieces of their proxy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Site, Watch, until
from tests.media import BLUE, GREEN, RED, flat, tone, write_video

COLOURS = (RED, GREEN, BLUE)
EACH = 8
"""Seconds of each colour."""
MPEG_2 = {"codec": "mpeg2video", "options": {}}
HEVC = {"codec": "libx265", "pixels": "yuv420p10le", "options": {"x265-params": "log-level=none"}}

PICTURE = """() => {
    const video = document.querySelector("video");
    const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
    canvas.getContext("2d").drawImage(video, 0, 0, 1, 1);
    return [...canvas.getContext("2d").getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""
"""The colour of what the player shows."""


ODD = Path(__file__).parents[1] / "odd" / "files"
SHOWN = """() => document.querySelector("video, audio")?.readyState >= 2
    || document.querySelector(".media img")?.naturalWidth
    || document.querySelector(".message:not([hidden])")"""
SHAPE = "() => (v => v && [v.videoWidth, v.videoHeight])(document.querySelector('video'))"
SECONDS = 30
"""Longest wait for the player."""


def coloured(path: Path, **options: Any) -> Path:
    """A film of three colours, with sound."""
    shown = (flat(colour, 320, 180) for colour in COLOURS for _ in range(24 * EACH))
    return write_video(path, shown, fps=24, sound=tone(float(EACH * len(COLOURS))), **options)


def opened(page: Any, id: str, at: float = 0.0) -> Any:
    page.goto(f"/#/assets/{id}" + (f"?t={at}" if at else ""))
    until(page, "() => document.querySelector('video')?.readyState >= 2", within=SECONDS)
    return page.locator("video")


def sought(page: Any, moment: float, colour: tuple[int, int, int]) -> None:
    """Go there, and see the picture of that time."""
    page.evaluate("moment => { document.querySelector('video').currentTime = moment }", moment)
    until(
        page,
        f"""([moment, wanted]) => {{
            const video = document.querySelector("video");
            return !video.seeking && video.readyState >= 2 && Math.abs(video.currentTime - moment) < 0.5
                && ({PICTURE})().every((one, i) => Math.abs(one - wanted[i]) < 40);
        }}""",
        [moment, list(colour)],
        SECONDS,
    )


def played(page: Any) -> None:
    """Play, and see that time goes on."""
    page.evaluate("() => { const v = document.querySelector('video'); v.muted = true; return v.play() }")
    before = page.evaluate("document.querySelector('video').currentTime")
    until(page, "before => document.querySelector('video').currentTime > before + 1", before, SECONDS)
    page.evaluate("document.querySelector('video').pause()")


def test_a_film_that_the_browser_can_play_is_played_by_ranges_without_its_token(
    site: Site, page: Any
) -> None:
    answers: list[tuple[int, str]] = []
    page.on("response", lambda one: answers.append((one.status, one.url)) if "/media?" in one.url else None)
    video = opened(page, site.asset(site.films["bunny.mp4"]))
    played(page)
    page.evaluate("document.querySelector('video').currentTime = 25")
    until(page, "() => !document.querySelector('video').seeking", within=SECONDS)
    played(page)
    assert video.evaluate("v => [v.videoWidth, v.videoHeight]") == [640, 360]
    assert {status for status, _ in answers} == {206}
    assert all("?grant=" in url and site.tokens["owner"] not in url for _, url in answers)


@pytest.mark.parametrize(
    ("name", "options"), [("tv.ts", MPEG_2), ("deep.mkv", HEVC)], ids=["MPEG-2", "10-bit HEVC"]
)
def test_a_film_that_the_browser_can_not_play_is_played_by_its_proxy(
    site: Site, page: Any, shot: Callable[[str], None], name: str, options: dict[str, Any]
) -> None:
    path = coloured(site.server.media / name, **options)
    video = opened(page, site.asset(path))
    assert video.evaluate("v => v.currentSrc").startswith("blob:")
    assert video.evaluate("v => [v.videoWidth, v.videoHeight]") == [320, 180]
    played(page)
    for moment, colour in ((12.0, GREEN), (22.0, BLUE), (1.0, RED)):
        sought(page, moment, colour)
    played(page)
    assert video.evaluate("v => v.duration") == pytest.approx(EACH * len(COLOURS), abs=0.2)
    shot(f"proxy-{name}")


def test_a_piece_that_can_not_be_made_is_said_and_the_others_are_played(
    site: Site, page: Any, watch: Watch
) -> None:
    watch.expected.append("status of 4")
    path = coloured(site.server.media / "damaged.mkv", codec="mpeg2video", options={})
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) * 55 // 100] = bytes(len(data) * 55 // 100 - len(data) // 2)
    path.write_bytes(data)
    opened(page, site.asset(path))
    page.evaluate("document.querySelector('video').currentTime = 12.5")
    page.get_by_role("status").get_by_text("damaged").wait_for()
    sought(page, 1.0, RED)
    sought(page, 22.0, BLUE)


def test_every_odd_file_is_shown_or_says_its_sentence(site: Site, page: Any) -> None:
    """Without a complaint in the console (`watch`)."""
    folder = site.server.media / "odd"
    shutil.copytree(ODD, folder)
    shown = {}
    for path in sorted(folder.iterdir()):
        with site.client() as client:
            answer = client.post("/v1/assets", json={"uri": str(path)})
        if answer.is_error:
            assert answer.json()["detail"]
            continue
        page.goto(f"/#/assets/{answer.json()['id']}")
        until(page, SHOWN, within=SECONDS)
        shown[path.name] = page.evaluate(SHAPE)
    assert len(shown) > 60
    # As the files' notes say, though some browsers would show them otherwise by themselves.
    assert shown["still_track_first.mp4"] == [96, 72]
    assert shown["mirror_transpose.mp4"] == [72, 96]
