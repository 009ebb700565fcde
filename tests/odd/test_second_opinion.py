"""FFmpeg's command line reads each file as this project does, but for what is listed, with the reason.

Compared are the count of pictures, their times and hashes, how the first one looks and its size on the
screen, and the samples of sound. A difference that is listed and gone fails as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from amber_ray.errors import MediaError, TooLarge
from tests.odd.judge import register
from tests.odd.made import MADE
from tests.odd.opinion import differences
from tests.odd.test_cases import CASES, HERE

SAMPLES = Path(__file__).parents[2] / "amber_ray/samples"

_ORDER = (
    {"times"},
    "the file keeps the order of decoding; the command's guess has holes, ours is the film's rate",
)
_EXIF = {"size", "look"}, "the command gives up on EXIF in which one entry is wrong, and shows it unturned"
_TWICE = (
    {"count", "size", "look"},
    "the command gives up on two display matrices, the container's and the stream's",
)
_RESIZED = {"pictures"}, "the command stretches the pictures behind a change of size to those before it"
_FORMS = {"form of sound"}, "the command resamples what comes after a change of form; here each is kept"
_PADDED = {"count of samples"}, "the command drops the padding behind the last sample, which is silence"

DIFFERENT: dict[str, tuple[set[str], str]] = {
    "divx_packed.avi": _ORDER,
    "b_mpeg4.avi": _ORDER,
    "b_h264.avi": _ORDER,
    "b_h264.wmv": _ORDER,
    "b_mpeg4.wmv": _ORDER,
    "b_mpeg4.nut": _ORDER,
    "from_avi.mp4": _ORDER,
    "from_avi.mov": _ORDER,
    "from_avi.nut": _ORDER,
    "turned_twice.mp4": _TWICE,
    "turned_twice.mov": _TWICE,
    "exif_cut_off.jpg": _EXIF,
    "exif_twice_exif.jpg": _EXIF,
    "endless.jpg": _EXIF,
    "round.jpg": _EXIF,
    "strange_type.jpg": _EXIF,
    "resize_midstream.ts": _RESIZED,
    "resized_mpeg2.ts": _RESIZED,
    "mono_then_stereo.ac3": _FORMS,
    "two_mp3s_in_one.mp3": _FORMS,
    "mono_stereo.aac": _FORMS,
    "mono_stereo.ac3": _FORMS,
    "mono_stereo.eac3": _FORMS,
    "mono_stereo.mp3": _FORMS,
    "burst.m4a": _PADDED,
    "big-buck-bunny-trailer.mp4": _PADDED,
    "ts_clock_restarts.ts": ({"refused"}, "the command bridges clocks that jump back, by a guess"),
    "sound_damaged_in_the_middle.ts": (
        {"refused on the way", "count of samples"},
        "the command says that a packet does not decode, and leaves it out",
    ),
    "aspect_midstream.ts": (
        {"count", "times", "pictures"},
        "two pictures of the command have one time; here each time comes once",
    ),
    "resized.ts": (
        {"count", "times", "pictures"},
        "the second part's clock begins two pictures early; here each time comes once",
    ),
    "cielab.tiff": ({"size", "look"}, "the command does not read CIELAB"),
    "grid.avif": ({"size", "look"}, "the command shows one tile, unless it is told the stream group"),
    "zeros_from_half.mp4": (
        {"refused on the way", "count"},
        "the command shows one more picture, of which a part is there",
    ),
    "logo.webm": ({"pictures", "look"}, "FFmpeg's own decoder of VP9 leaves out transparency"),
}


FILES = {path.name: path for path in (*(HERE / "files").iterdir(), *SAMPLES.glob("*.mp4"))}
REFUSED = {case["file"] for case in CASES if isinstance(case["expected"], str)} | {
    name for name, (_, expected) in MADE.items() if isinstance(expected, str)
}
"""What is refused when it is registered, as other tests hold."""


@pytest.mark.parametrize("name", sorted({*FILES, *MADE} - REFUSED))
def test_a_file_is_read_as_by_ffmpegs_command(name: str, made: Callable[[str], Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(FILES.get(name) or made(name), tmp_path))
    (command := tmp_path / "command").mkdir()
    try:
        found = differences(register(copy), copy, command)
    except (MediaError, TooLarge):
        found = {"refused"}
    listed, reason = DIFFERENT.get(name, (set(), "nothing is listed"))
    assert found == listed, reason


def test_what_is_listed_is_there() -> None:
    assert set(DIFFERENT) <= {*FILES, *MADE} - REFUSED
