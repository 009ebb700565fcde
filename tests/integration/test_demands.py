"""Demands of a real server over a folder: what appears, changes and vanishes, and who is killed meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amber_ray import connect
from amber_ray.cli import main
from amber_ray.client.sync import Client
from amber_ray.core.model.demands import DemandStatus, Noticed
from amber_ray.errors import BadRequest, Forbidden
from tests.server import Server

pytestmark = pytest.mark.timeout(300)
BOUND = 90.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path).start()
    yield made
    made.kill_everything()


def picture(folder: Path, number: int, colour: int = 0) -> Path:
    path = folder / f"{number:03}.png"
    Image.fromarray(np.full((8, 8, 3), (number, colour, 7), np.uint8)).save(path)
    return path


def stands(client: Client) -> DemandStatus:
    [view] = client.demands()
    return view.status


def becomes_true(server: Server, client: Client, seen: int) -> DemandStatus:
    """Wait for a sweep that began after this moment and says that so many assets are all true."""
    since = time.time()
    found: list[DemandStatus] = []

    def there() -> bool:
        found.append(stands(client))
        return found[-1].all_true and found[-1].began > since and found[-1].seen == seen

    try:
        server.until(there, BOUND)
    except AssertionError as error:
        raise AssertionError(f"{found[-1]}\n{error}") from None
    return found[-1]


def test_a_demand_is_kept_whatever_appears_changes_vanishes_and_is_killed(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(40):
        picture(server.media, number)
    (server.media / "notes.txt").write_text("no medium")
    with connect(server.url) as client:
        with pytest.raises(BadRequest, match="'together' is a feature of a collection"):
            client.keep("films", "together", server.media)
        client.keep("films", "size", server.media, every=0.5, settle_seconds=0.2)
        first = becomes_true(server, client, 40)
        assert (server.runs("size"), first.failed, first.error) == (40, 0, "")

        # What appears, while whoever sees to it is killed.
        assert server.kill("StewardActor") == 1
        for number in range(40, 50):
            picture(server.media, number)
        becomes_true(server, client, 50)
        assert server.runs("size") == 50

        # A file that is none fails alone, and is named.
        bad = server.media / "bad.png"
        bad.write_text("this is no picture")
        picture(server.media, 50)
        server.until(lambda: stands(client).failed == 1 and stands(client).true == 51, BOUND)
        assert [one.uri for one in stands(client).failing] == [str(bad)]
        assert stands(client).oldest is not None
        assert main(["keep", "--status", "films", "--server", server.url]) == 1
        assert "bad.png" in capsys.readouterr().out
        bad.unlink()
        becomes_true(server, client, 51)

    # What changes and vanishes, while everything is dead.
    server.kill_everything()
    picture(server.media, 0, colour=9)
    (server.media / "001.png").unlink()
    for number in range(60, 65):
        picture(server.media, number)
    server.start()
    with connect(server.url) as client:
        becomes_true(server, client, 55)
        assert server.runs("size") == 51 + 1 + 5
        quiet = becomes_true(server, client, 55)
        assert (quiet.asked, quiet.computed) == (0, 0)

        # What is gone is purged if that is wanted; nothing is asked for anew because of it.
        words = ["--features", "size", "--assets", str(server.media), "--every", "0.5", "--settle", "0.2"]
        assert main(["keep", "films", *words, "--gone", "purge", "--server", server.url]) == 0
        (server.media / "002.png").unlink()
        becomes_true(server, client, 54)
        server.until(lambda: sum(v.rows for v in client.versions() if v.feature == "size") == 56, BOUND)
        assert server.runs("size") == 57
        capsys.readouterr()
        assert main(["keep", "--list", "--format", "json", "--server", server.url]) == 0
        [told] = json.loads(capsys.readouterr().out)
        assert (told["name"], told["gone"], told["status"]["seen"]) == ("films", "purge", 54)

        # What happens in a folder is seen long before the next look, also when whoever watches was killed.
        client.keep("films", "size", server.media, every=3600, settle_seconds=0.2)
        becomes_true(server, client, 54)
        new = picture(server.media, 70)
        server.until(lambda: stands(client).all_true and stands(client).seen == 55, BOUND)
        assert (server.runs("size"), stands(client).unwatched) == (58, "")
        server.kill("StewardActor")
        becomes_true(server, client, 55)
        new.unlink()
        server.until(lambda: stands(client).all_true and stands(client).seen == 54, BOUND)
        # What nobody keeps is counted, and what is outside the roots can't be kept.
        assert client.notify([new, "/elsewhere/a.png"]) == Noticed(1, 1, 0)
        assert main(["keep", "--changed", str(new), "--server", server.url]) == 0
        with pytest.raises(Forbidden, match="'/elsewhere' is outside the media roots"):
            client.keep("others", "size", "/elsewhere")
        with pytest.raises(Forbidden, match="the scheme 's3', which is switched off"):
            client.keep("others", "size", "s3://bucket/new/")
        assert client.stats()['events_total{outcome="uncovered"}'] == 1
        assert main(["keep", "--stop", "films", "--server", server.url]) == 0
        assert client.demands() == []
        server.until(lambda: not any("StewardActor" in p for p in server.processes().values()), BOUND)
