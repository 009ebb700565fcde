"""Nothing outside the media roots is opened, and nothing on the network, whatever a URI or a file says.

What Python opens is seen by an audit hook. What FFmpeg might open behind its back shows otherwise: a
connection would reach the trap's listener, and a film that was read would have the secret's length.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime  # noqa: F401 - once here: its import asks which system this is, which no media made it do
import pytest

from amber_ray.errors import AmberError, Forbidden, MediaError, MediaNotFound
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.media.source import opened
from tests.fuzz.escapes import SECRET_SECONDS, Trap, names, odd_names, pointers, trap
from tests.fuzz.media import FEATURES, chosen, try_one

BOUND = 20.0
"""Seconds for one item; a FIFO that is opened to be read, or a connection waited for, would take for ever."""
pytestmark = pytest.mark.timeout(300)


class Watch:
    """What this process opens, connects to and starts, while it is on; a hook can't be removed again."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[tuple[str, str]] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(args[0], (str, bytes)):
            self.seen.append((event, os.fsdecode(args[0])))
        elif event in (
            "socket.connect",
            "socket.getaddrinfo",
            "socket.sendto",
            "subprocess.Popen",
            "os.system",
        ):
            self.seen.append((event, str(args[1:])))

    @contextmanager
    def within(self, *folders: Path | str) -> Iterator[None]:
        """Fail if anything but files below `folders`, or Python's own, was opened meanwhile."""
        own = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), *map(str, folders))
        allowed = tuple(os.path.realpath(folder) + "/" for folder in own)
        self.seen.clear()
        self.on = True
        try:
            yield
        finally:
            self.on = False
        out = [
            (e, what)
            for e, what in self.seen
            if e != "open" or not os.path.realpath(what).startswith(allowed)
        ]
        assert not out, out


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    folder = tmp_path_factory.mktemp("escapes")
    made = trap(folder / "media", folder / "media-secret")
    yield made
    made.listener.close()


@pytest.fixture
def catalogue(laid: Trap) -> Catalogue:
    return Catalogue(str(laid.root.parent / "store"), Locator([str(laid.root)]))


def bounded(work: Callable[[], Any]) -> Any:
    """What `work` returns, within the bound."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(work()), daemon=True)
    thread.start()
    thread.join(BOUND)
    assert not thread.is_alive(), "no end"
    assert result, "it raised, see above"
    return result[0]


def tried(catalogue: Catalogue, uri: str) -> str | None:
    """The sentence that refuses a URI, or None where it gave an asset or the server is to blame."""
    try:
        catalogue.add(uri)
    except AmberError as error:
        return str(error) if error.status in (403, 404, 422) else None
    return None


def test_no_name_leads_out(laid: Trap, catalogue: Catalogue, watch: Watch) -> None:
    corpus = names(laid)
    with watch.within(laid.root, laid.root.parent / "store"):
        told = bounded(lambda: {uri: tried(catalogue, uri) for uri in corpus})
    assert [uri for uri, sentence in told.items() if not sentence] == []
    assert [uri for uri, sentence in told.items() if "\n" in str(sentence)] == []
    assert laid.untouched()


def test_a_hard_link_is_a_file_of_the_root(laid: Trap, catalogue: Catalogue) -> None:
    os.link(laid.secret / "film.mp4", laid.root / "linked.mp4")
    assert catalogue.add(str(laid.root / "linked.mp4")).duration == SECRET_SECONDS


@pytest.mark.parametrize("put", ["link", "fifo", "folder"])
def test_what_takes_a_registered_film_s_place_is_not_read(
    laid: Trap, catalogue: Catalogue, watch: Watch, tmp_path: Path, put: str
) -> None:
    below = laid.root / f"swap-{put}"
    below.mkdir()
    film = Path(shutil.copy(laid.root / "film.mp4", below / "film.mp4"))
    asset = catalogue.add(str(film))
    if put == "folder":
        below.rename(laid.root / "was")
        below.symlink_to(laid.secret)
    else:
        film.unlink()
        os.mkfifo(film) if put == "fifo" else film.symlink_to(laid.secret / "film.mp4")

    def read() -> str:
        try:
            with opened(asset) as file:
                return repr(file.read(8))
        except (Forbidden, MediaError, MediaNotFound) as error:
            return type(error).__name__

    with watch.within(laid.root):
        assert bounded(read) == ("MediaError" if put == "fifo" else "Forbidden")


def test_no_file_leads_out(laid: Trap, catalogue: Catalogue, watch: Watch) -> None:
    corpus = pointers(laid)
    specs = chosen(FEATURES)
    for name, data in corpus.items():
        (laid.root / name).write_bytes(data)

    def all_of_them() -> dict[str, str]:
        return {name: try_one(catalogue, specs, str(laid.root / name)) for name in corpus}

    with watch.within(laid.root, laid.root.parent / "store"):
        told = bounded(all_of_them)
    # A `url ` reference is not followed: FFmpeg reads the film's own data instead.
    assert {name for name, outcome in told.items() if outcome != "refused"} == {
        n for n in corpus if "-url.mov" in n
    }
    assert not [outcome for outcome in told.values() if outcome.startswith("finding")]
    for name in corpus:
        try:
            assert catalogue.add(str(laid.root / name)).duration != SECRET_SECONDS, name
        except MediaError:
            continue
    assert laid.untouched()


def test_an_odd_name_is_only_a_name(laid: Trap, catalogue: Catalogue, watch: Watch) -> None:
    specs = chosen(FEATURES)
    films = odd_names(laid)
    with watch.within(laid.root, laid.root.parent / "store"):
        told = bounded(lambda: {film.name: try_one(catalogue, specs, str(film)) for film in films})
    assert set(told.values()) == {"values"}
    same = catalogue.add(str(laid.root / "film.mp4")).id
    assert {catalogue.add(str(film)).id for film in films} == {same}
    assert laid.untouched()


def test_ffmpeg_is_refused_what_it_asks_for(
    laid: Trap, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second fence, with FFmpeg's own taken down: it follows a film's alias, and is told no."""
    import av

    really, asked = av.open, {"enable_drefs": "1", "use_absolute_path": "1"}
    monkeypatch.setattr(av, "open", lambda *a, options, **kw: really(*a, options=options | asked, **kw))
    (laid.root / "alias.mov").write_bytes(pointers(laid)["path.mov"] + b"\0\0\0\x08free")
    with pytest.raises(MediaError, match=r"'alias\.mov' refers to another file"):
        catalogue.add(str(laid.root / "alias.mov"))
