"""The built-in features that look: each against media whose answer is known."""

from __future__ import annotations

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.units import Asset, Segment, segments
from amber_ray.errors import FeatureError, MediaError
from amber_ray.features import BUILTINS
from amber_ray.features import frames as frames_module
from amber_ray.features.changes import Changes, changes, cuts
from amber_ray.features.frames import Frames, frame_times, frames
from amber_ray.features.light import brightness, colour
from amber_ray.features.motion import motion
from amber_ray.features.phash import phash
from amber_ray.features.preview import contact_sheet, thumbnail
from amber_ray.features.probe import probe
from amber_ray.features.sheets import time_code
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.samples import clip
from tests.media import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    RED,
    WHITE,
    catalogue,
    flat,
    shown,
    textured,
    tone,
    write_picture,
    write_sound,
    write_video,
)

TRANSIENT = """
audio
frames
shot_sample
strip
"""

NAMES = """
brightness
changes
colour
contact_sheet
cuts
duplicate_assets
embedding
faces
frame_times
labels
loudness
match_cuts
match_sheet
mean_embedding
motion
near_duplicates
phash
probe
proxy
proxy_parts
sharpness
shot_embedding
shot_ends
shot_frames
shot_labels
shot_motion
shot_picture
shot_sample_embedding
shot_sheet
shot_speech
shot_text
shot_vector
scenes
shots
sound_events
sound_probability
spectrogram
speech
speech_probability
text
text_lines
thumbnail
timeline
transcript
transitions
turn_level
waveform
words
"""


@pytest.fixture(scope="module")
def bunny(tmp_path_factory: pytest.TempPathFactory) -> Asset:
    """The shipped clip."""
    store = tmp_path_factory.mktemp("store")
    return Catalogue(str(store), Locator([str(clip().parent)])).add(str(clip()))


@pytest.fixture
def colours(tmp_path: Path) -> Asset:
    """Six seconds, each of one colour, 12 pictures a second."""
    shown = [flat(c) for c in (RED, GREEN, BLUE, BLACK, WHITE, GREY) for _ in range(12)]
    path = write_video(tmp_path / "colours.mp4", shown, fps=12, gop=12, options={"qp": "0"})
    return catalogue(tmp_path).add(str(path))


@pytest.fixture
def song(tmp_path: Path) -> Asset:
    return catalogue(tmp_path).add(str(write_sound(tmp_path / "song.mp3", tone(1.0))))


@pytest.fixture
def photo(tmp_path: Path) -> Asset:
    path = write_picture(tmp_path / "photo.jpg", textured(1, 640, 480), orientation=6, quality=95)
    return catalogue(tmp_path).add(str(path))


def whole(asset: Asset) -> Segment:
    """The asset as one segment."""
    (segment,) = segments(asset, 3600.0)
    return segment


def checked(feature: Any, *arguments: Any, **params: Any) -> Any:
    """A feature's value, which must fit the type that it declares."""
    return feature.__amber__.returns.check(feature(*arguments, **params))


def test_the_built_in_features_are_a_graph() -> None:
    registry = Registry.from_modules(BUILTINS)
    assert set(registry.names()) == {*NAMES.split(), *TRANSIENT.split()}
    assert {s.name for s in registry if s.store == "never"} == set(TRANSIENT.split())
    assert {s.version for s in registry} <= {"1", "2", "3", "4"}
    assert all(s.doc for s in registry)


def test_reading_the_specs_loads_nothing_heavy() -> None:
    code = (
        "import sys; from amber_ray.core.declare.registry import Registry;"
        "from amber_ray.features import BUILTINS;"
        "assert 'amber_ray.features.frames' not in sys.modules; Registry.from_modules(BUILTINS);"
        "heavy = ('torch', 'torchvision', 'av', 'PIL', 'ray', 'pyarrow', 'fsspec');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_probe_tells_of_film_sound_and_picture(bunny: Asset, song: Asset, photo: Asset) -> None:
    film = checked(probe, bunny)
    assert (film.media_type, film.width, film.height, film.frame_rate) == ("video/mp4", 640, 360, 24.0)
    assert (film.duration, film.has_audio, film.bytes) == (30.016, True, clip().stat().st_size)
    assert [(s.kind, s.codec) for s in film.streams] == [("video", "h264"), ("audio", "aac")]
    sound = checked(probe, song)
    assert (sound.media_type, sound.width, sound.frame_rate, sound.has_audio) == (
        "audio/mpeg",
        None,
        None,
        True,
    )
    still = checked(probe, photo)
    assert (still.media_type, still.duration, still.width, still.height) == ("image/jpeg", None, 480, 640)
    assert still.streams[0].rotation == 270


def test_frames_are_pictures_at_a_rate_and_size(bunny: Asset) -> None:
    value: Frames = checked(frames, whole(bunny))
    assert value.times.tolist() == [i / 2 for i in range(60)]
    assert (value.images.shape, value.images.dtype) == ((60, 224, 398, 3), np.uint8)
    small: Frames = checked(frames, whole(bunny), fps=0.1, size=32)
    assert small.times.tolist() == [0.0, 10.0, 20.0]
    assert small.images.shape == (3, 32, 57, 3)
    assert checked(frames, whole(bunny), fps=0.1, size=0).images.shape == (3, 360, 640, 3)


def test_frames_of_a_still_are_one(photo: Asset) -> None:
    value = checked(frames, whole(photo))
    assert (value.times.tolist(), value.images.shape) == ([0.0], (1, 299, 224, 3))


def test_a_segment_may_have_no_picture(bunny: Asset) -> None:
    tail = segments(bunny, 10.0)[-1]
    assert tail.start == 30.0
    value = checked(frames, tail)
    assert value.images.shape == (0, 224, 224, 3)
    assert checked(frame_times, value).shape == (0,)
    assert checked(brightness, value).shape == (0,)
    assert checked(colour, value).shape == (0, 3, 16)
    assert checked(phash, value).shape == (0,)
    assert checked(motion, value).shape == (0,)
    assert checked(changes, tail).times.shape == (0,)


@pytest.mark.parametrize(
    "params", [{"fps": 0.0}, {"fps": -1.0}, {"fps": float("nan")}, {"size": -1}, {"size": 10**6}]
)
def test_frames_refuse_senseless_parameters(bunny: Asset, params: dict[str, Any]) -> None:
    with pytest.raises(FeatureError, match=r"frames\.(fps|size) must be"):
        frames(whole(bunny), **params)


def test_frames_are_bounded_in_bytes(bunny: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "LARGEST", 1 << 20)
    with pytest.raises(FeatureError, match=r"frames\.fps"):
        frames(whole(bunny))


def test_brightness_is_luma(colours: Asset) -> None:
    value = checked(brightness, frames(whole(colours), fps=1.0))
    assert value.dtype == np.float32
    assert value.tolist() == pytest.approx([0.2126, 0.7152, 0.0722, 0.0, 1.0, 128 / 255], abs=0.02)


def test_colour_counts_pixels_in_bins(colours: Asset, tmp_path: Path) -> None:
    value = checked(colour, frames(whole(colours), fps=1.0))
    assert value.shape == (6, 3, 16)
    assert np.allclose(value.sum(axis=2), 1)
    assert value[:, :, 15].argmax(axis=1)[:3].tolist() == [0, 1, 2]
    assert (value[3, :, 0] == 1).all()
    assert (value[4, :, 15] == 1).all()
    halves = flat(BLACK)
    halves[:, :16] = WHITE
    still = catalogue(tmp_path).add(str(write_picture(tmp_path / "halves.png", halves)))
    shares = checked(colour, frames(whole(still), size=0))[0]
    assert (shares[:, 15] == 0.25).all()
    assert (shares[:, 0] == 0.75).all()


def test_phash_stays_near_for_the_same_picture_and_far_for_others(tmp_path: Path, bunny: Asset) -> None:
    taken = frames(segments(bunny, 60.0)[0], fps=0.2, size=0)
    original = checked(phash, taken)
    assert (original.dtype, original.shape) == (np.uint64, (6,))
    small = [Image.fromarray(image).resize((160, 90)) for image in taken.images]
    encoded = []
    for picture in small:
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=40)
        encoded.append(np.asarray(Image.open(out)))
    again = phash(shown(*encoded))
    distance = np.bitwise_count(original[1:, None] ^ again[None, 1:])
    assert distance.diagonal().max() <= 6
    assert distance[~np.eye(5, dtype=bool)].min() >= 16


def test_phash_bits_are_those_of_imagehash() -> None:
    # Made with imagehash 4.3.2 from this picture, of value (3 x + 5 y) mod 256, and from its mirror.
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    picture = np.repeat(((3 * x + 5 * y) % 256).astype(np.uint8)[..., None], 3, axis=2)
    both = shown(picture, picture[:, ::-1])
    assert [f"{int(h):016x}" for h in phash(both)] == IMAGEHASH


IMAGEHASH = ["aa813f6a4a5ff007", "fdd0683e1f0aa552"]


def test_motion_is_the_difference_to_the_films_next_picture(colours: Asset, photo: Asset) -> None:
    value = checked(motion, frames(whole(colours), fps=12.0))
    moved = {i: float(m) for i, m in enumerate(value) if m > 0.05}
    assert moved == pytest.approx({11: 2 / 3, 23: 2 / 3, 35: 1 / 3, 47: 1.0, 59: 127 / 255}, abs=0.02)
    assert value[-1] == 0.0
    # A lower rate chooses fewer moments and changes none of them.
    assert motion(frames(whole(colours), fps=3.0)).tolist() == value[::4].tolist()
    assert checked(motion, frames(whole(photo))).tolist() == [0.0]


@pytest.mark.parametrize("seconds", [1.0, 2.5])
def test_motion_reaches_over_the_borders_of_segments(colours: Asset, seconds: float) -> None:
    parts = [motion(frames(s, fps=12.0)) for s in segments(colours, seconds)]
    assert np.concatenate(parts).tolist() == motion(frames(whole(colours), fps=12.0)).tolist()


def test_changes_is_the_difference_to_the_picture_before(colours: Asset) -> None:
    value: Changes = checked(changes, whole(colours))
    assert value.times.tolist() == [i / 12 for i in range(72)]
    moved = {round(t): a for t, a in zip(value.times, value.amount, strict=True) if a > 0.05}
    assert moved == pytest.approx({1: 2 / 3, 2: 2 / 3, 3: 1 / 3, 4: 1.0, 5: 127 / 255}, abs=0.02)
    assert value.colour[48] == pytest.approx(1.0, abs=0.02)
    assert value.amount[0] == 0.0


@pytest.mark.parametrize("seconds", [0.7, 1.0, 2.5])
def test_changes_does_not_depend_on_the_grid(colours: Asset, seconds: float) -> None:
    one = changes(whole(colours))
    parts = [changes(s) for s in segments(colours, seconds)]
    assert np.concatenate([p.times for p in parts]).tolist() == one.times.tolist()
    assert np.concatenate([p.amount for p in parts]).tolist() == one.amount.tolist()
    assert np.concatenate([p.colour for p in parts]).tolist() == one.colour.tolist()
    assert cuts(parts) == cuts([one])


def test_cuts_are_found_to_the_picture(colours: Asset) -> None:
    found = checked(cuts, [changes(whole(colours))])
    assert [(c.start, c.end) for c in found] == [((12 * i - 1) / 12, float(i)) for i in range(1, 6)]
    assert found[3].score == pytest.approx(1.0, abs=0.02)


def test_fades_flashes_and_pans_are_no_cuts(tmp_path: Path) -> None:
    scene = textured(1, 64, 48)
    fade = [(scene * (i / 23)).astype(np.uint8) for i in range(24)]
    hold = [scene] * 12
    flash = [flat(WHITE)]
    wide = textured(2, 320, 48)
    pan = [np.ascontiguousarray(wide[:, 4 * i : 4 * i + 64]) for i in range(48)]
    path = write_video(tmp_path / "film.mp4", [*fade, *hold, *flash, *hold, *pan], options={"qp": "0"})
    asset = catalogue(tmp_path).add(str(path))
    found = cuts([changes(whole(asset))])
    assert [round(c.end * 24) for c in found] == [len(fade) + 2 * len(hold) + 1]


def test_a_stuttering_film_is_not_cut_at_each_of_its_moves() -> None:
    amount = np.array([0.0] + [0.05, 0.2] * 20, np.float32)
    stutter = Changes(np.arange(len(amount)) / 24, amount, amount)
    assert [c for c in cuts([stutter]) if c.end > 0.5] == []  # At the beginning there is little to go by.


def test_the_cuts_of_the_shipped_clip(bunny: Asset) -> None:
    # Seen frame by frame: meadow to stream, stream to bird, bird to tree, after a fade from black.
    found = cuts([changes(s) for s in segments(bunny, 7.0)])
    assert [(c.start, c.end) for c in found] == [((n - 1) / 24, n / 24) for n in (285, 378, 553)]
    assert all(c.score > 0.25 for c in found)


def test_a_still_has_no_cuts(photo: Asset) -> None:
    assert checked(cuts, [checked(changes, whole(photo))]) == []
    assert cuts([]) == []
    with pytest.raises(FeatureError, match="threshold"):
        cuts([], threshold=0.0)


def opened(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    image.load()
    return image


def test_a_thumbnail_is_a_telling_picture(tmp_path: Path, bunny: Asset, photo: Asset) -> None:
    assert opened(checked(thumbnail, bunny)).size == (320, 180)
    assert opened(thumbnail(bunny, size=64)).size == (64, 36)
    assert opened(thumbnail(bunny, size=2000)).size == (640, 360)
    assert opened(thumbnail(photo)).size == (240, 320)
    black = [flat(BLACK)] * 30 + [textured(1)] * 10 + [flat(GREY)] * 20
    asset = catalogue(tmp_path).add(str(write_video(tmp_path / "dark.mp4", black)))
    assert np.asarray(opened(thumbnail(asset))).std() > 30
    with pytest.raises(FeatureError, match=r"thumbnail\.size"):
        thumbnail(bunny, size=1)


def test_a_contact_sheet_shows_the_film_in_order(colours: Asset) -> None:
    sheet = np.asarray(opened(checked(contact_sheet, colours, columns=3, rows=2, width=640))).astype(int)
    assert sheet.shape[1] == 640
    tile = (640 - 4 * 8) // 3
    height = round(tile * 48 / 64)
    assert sheet.shape[0] == 8 + 2 * (height + 8)
    for i, expected in enumerate((RED, GREEN, BLUE, BLACK, WHITE, GREY)):
        x, y = 8 + i % 3 * (tile + 8), 8 + i // 3 * (height + 8)
        middle = sheet[y + height // 3 : y + height // 2, x + tile // 3 : x + 2 * tile // 3]
        assert np.abs(middle.mean(axis=(0, 1)) - expected).max() < 10
        label = sheet[y + height - 18 : y + height, x : x + 50].mean(axis=2)
        assert label.max() > 200  # Letters ...
        assert label.min() < 120  # ... on a dark veil, on white and on black alike.


def test_a_contact_sheet_of_little_has_few_tiles(tmp_path: Path, photo: Asset) -> None:
    assert opened(contact_sheet(photo)).size[0] == 1280
    short = catalogue(tmp_path).add(str(write_video(tmp_path / "short.mp4", [flat(RED), flat(BLUE)])))
    sheet = np.asarray(opened(contact_sheet(short)))
    assert sheet.shape[0] < 300
    for columns, rows, width in ((0, 1, 640), (1, 0, 640), (4, 4, 100), (4, 4, 10**6), (99, 1, 8000)):
        with pytest.raises(FeatureError, match="contact_sheet"):
            contact_sheet(short, columns=columns, rows=rows, width=width)


def test_time_codes() -> None:
    assert time_code(0.0, 30.0) == "0:00.0"
    assert time_code(9.99, 30.0) == "0:09.9"
    assert time_code(0.3, 30.0) == "0:00.3"
    assert time_code(75.25, 600.0) == "1:15.2"
    assert time_code(3723.9, 7200.0) == "1:02:03"
    assert time_code(59.0, 7200.0) == "0:00:59"


def test_sound_alone_says_that_pictures_are_missing(song: Asset) -> None:
    segment = whole(song)
    for make in (
        lambda: frames(segment),
        lambda: changes(segment),
        lambda: thumbnail(song),
        lambda: contact_sheet(song),
    ):
        with pytest.raises(MediaError, match=r"'song\.mp3' has no pictures, only sound"):
            make()


def test_probe_tells_colours_and_the_exact_frame_rate(tmp_path: Path) -> None:
    told = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    path = write_video(tmp_path / "hdr.mkv", [flat(RED)] * 12, options={"x264-params": told})
    film = checked(probe, catalogue(tmp_path).add(str(path)))
    (stream,) = film.streams
    colours = (stream.color_primaries, stream.color_transfer, stream.color_space, stream.color_range)
    assert colours == ("bt2020", "smpte2084", "bt2020nc", "limited")
    slow = write_video(tmp_path / "ntsc.mkv", [flat(RED)] * 12, fps=Fraction(30000, 1001))
    film = checked(probe, catalogue(tmp_path).add(str(slow)))
    assert film.streams[0].frame_rate == "30000/1001"
    assert film.frame_rate == pytest.approx(29.97003)
    assert film.streams[0].color_space is None
