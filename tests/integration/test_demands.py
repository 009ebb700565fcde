"""Demands of a real server over a folder: what appears, changes and vanishes, and who is killed meanwhile."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image
from s3fs import S3FileSystem

from amber_ray import connect
from amber_ray.cli import main
from amber_ray.client.sync import Client
from amber_ray.core.model.demands import DemandStatus, Noticed
from amber_ray.errors import BadRequest, Forbidden
from tests.fault.hooks import SECRETS, Hooks
from tests.server import Server

pytestmark = pytest.mark.timeout(300)
BOUND = 90.0
TINTS = """
import os
from amber_ray import Asset, feature

@feature(version="1")
def tint(asset: Asset) -> int:
    with open(os.path.join(os.environ["AMBER_TEST_DIR"], "tint.runs"), "a") as file:
        file.write(asset.id + os.linesep)
    return 1
"""


@pytest.fixture
def s3() -> Iterator[str]:
    """The address of a local S3 with a bucket."""
    made = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    made.start()
    host, port = made.get_host_and_port()
    httpx.post(f"http://{host}:{port}/moto-api/reset").raise_for_status()
    yield f"http://{host}:{port}"
    made.stop()


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    made = Hooks()
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path, s3: str, hooks: Hooks) -> Iterator[Server]:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    env = {"AWS_ENDPOINT_URL": s3, "AMBER_CALLBACK_SECRETS": ",".join(SECRETS), **keys}
    (tmp_path / "tints.py").write_text(TINTS)
    own = ("--features", str(tmp_path / "tints.py"))
    called = ("--callback-host", hooks.origin, "--callback-address", "127.0.0.1")
    made = Server(tmp_path, "--media-root", "s3://films/new", *own, *called, env=env).start()
    yield made
    made.kill_everything()


def pixels(number: int, colour: int = 0) -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), (number, colour, 7), np.uint8)).save(written, "png")
    return written.getvalue()


def picture(folder: Path, number: int, colour: int = 0) -> Path:
    path = folder / f"{number:03}.png"
    path.write_bytes(pixels(number, colour))
    return path


def stands(client: Client, name: str = "") -> DemandStatus:
    """How a demand stands: one of a name, or the first."""
    [view, *_] = [view for view in client.demands() if name in ("", view.demand.name)]
    return view.status


def becomes_true(server: Server, client: Client, seen: int, name: str = "") -> DemandStatus:
    """Wait for a sweep that began after this moment and says that so many assets are all true."""
    since = time.time()
    found: list[DemandStatus] = []

    def there() -> bool:
        found.append(stands(client, name))
        return found[-1].all_true and found[-1].began > since and found[-1].seen == seen

    try:
        server.until(there, BOUND)
    except AssertionError as error:
        raise AssertionError(f"{found[-1]}\n{error}") from None
    return found[-1]


def hears(hooks: Hooks) -> dict[str, list[dict[str, int]]]:
    """What was told with a good signature, by its type."""
    told: dict[str, list[dict[str, int]]] = {}
    for one in list(hooks.heard):
        if one.status == 204:
            told.setdefault(one.body["type"], []).append(one.body["data"]["assets"])
    return told


def is_told(server: Server, client: Client, seen: int) -> None:
    """Wait until so many assets are all true, by whatever look: a sweep is hours away."""

    def there() -> bool:
        status = stands(client)
        return status.all_true and status.seen == seen

    server.until(there, BOUND)


def test_a_demand_is_kept_whatever_appears_changes_vanishes_and_is_killed(
    server: Server, s3: str, hooks: Hooks, capsys: pytest.CaptureFixture[str]
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

        client.keep("tints", "tint", server.media, every=0.5, settle_seconds=0.2)
        becomes_true(server, client, 51, "tints")
        assert server.runs("tint") == 51

    # What changes and vanishes, while everything is dead; and a feature has another version then.
    server.kill_everything()
    (server.folder / "tints.py").write_text(TINTS.replace('"1"', '"2"').replace("return 1", "return 2"))
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
        becomes_true(server, client, 55, "tints")
        assert server.runs("tint") == 51 + 55
        assert any('class="backfill"' in name for name in client.stats() if name.startswith("requests_total"))
        assert client.stop_keeping("tints")

        # What is gone is purged if that is wanted; nothing is asked for anew because of it.
        words = ["--features", "size", "--assets", str(server.media), "--every", "0.5", "--settle", "0.2"]
        words += ["--gone", "purge", "--server", server.url, "--on", "failed,done"]
        assert main(["keep", "films", *words, "--callback", "https://elsewhere.example/"]) == 2
        assert "may not lead to https://elsewhere.example; the server's" in capsys.readouterr().err
        assert main(["keep", "films", *words, "--callback", f"{hooks.origin}/films"]) == 0
        (server.media / "002.png").unlink()
        becomes_true(server, client, 54)
        server.until(lambda: sum(v.rows for v in client.versions() if v.feature == "size") == 56, BOUND)
        assert server.runs("size") == 57
        capsys.readouterr()
        [line] = client.audit(what="values.purged")
        assert (line.subject.split()[0], line.caller) == ("asset", "the demand 'films'")
        assert line.detail["values"] == 3  # of size, and of both versions of tint
        for words, said in (
            (["--list"], "tells"),
            (["--status", "films"], f"{hooks.origin}/… is told of done"),
        ):
            main(["keep", *words, "--server", server.url])
            assert said in capsys.readouterr().out
        assert main(["keep", "--list", "--format", "json", "--server", server.url]) == 0
        [told] = json.loads(capsys.readouterr().out)
        assert (told["name"], told["gone"], told["status"]["seen"]) == ("films", "purge", 54)
        assert told["callback"] == {"url": f"{hooks.origin}/films", "on": ["done", "failed"]}
        server.until(lambda: "demand.done" in hears(hooks), BOUND)
        assert hears(hooks).keys() == {"demand.done"}

        # What happens in a folder is seen long before the next look, also when whoever watches was killed.
        called = {"url": f"{hooks.origin}/films", "on": ["result", "done"]}
        client.keep("films", "size", server.media, every=3600, settle_seconds=0.2, callback=called)
        is_told(server, client, 54)
        new = picture(server.media, 70)
        is_told(server, client, 55)
        server.until(lambda: {"became_true": 1} in hears(hooks).get("demand.result", []), BOUND)
        server.until(lambda: {"seen": 55, "true": 55} in hears(hooks)["demand.done"], BOUND)
        assert (server.runs("size"), stands(client).unwatched) == (58, "")
        server.kill("StewardActor")
        becomes_true(server, client, 55)
        new.unlink()
        is_told(server, client, 54)
        # What nobody keeps is counted, and what is outside the roots can't be kept.
        assert client.notify([new, "/elsewhere/a.png"]) == Noticed(1, 1, 0)
        assert main(["keep", "--changed", str(new), "--server", server.url]) == 0
        with pytest.raises(Forbidden, match="'/elsewhere' is outside the media roots"):
            client.keep("others", "size", "/elsewhere")
        with pytest.raises(Forbidden, match="'s3://films/old/' is outside the media roots"):
            client.keep("others", "size", "s3://films/old/")
        assert client.stats()['events_total{outcome="uncovered"}'] == 1
        assert main(["keep", "--stop", "films", "--server", server.url]) == 0
        assert client.demands() == []
        server.until(lambda: not any("StewardActor" in p for p in server.processes().values()), BOUND)
        keep_a_bucket(server, client, s3)


def keep_a_bucket(server: Server, client: Client, s3: str) -> None:
    """Objects appear, change and vanish; events tell of half of that, each twice, or of nothing."""
    bucket = S3FileSystem(endpoint_url=s3, key="key", secret="secret", skip_instance_cache=True)
    bucket.mkdir("films")
    ran = server.runs("size")

    def put(number: int, colour: int) -> str:
        bucket.pipe_file(f"films/new/red flower+{number}.png", pixels(number, colour))
        return f"new/red+flower%2B{number}.png"

    def told(*keys: str) -> None:
        """As S3 says it by SNS, and as SNS does: perhaps once more."""
        records = [
            {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "films"}, "object": {"key": key}}}
            for key in keys
        ]
        message = {"Type": "Notification", "Message": json.dumps({"Records": records})}
        with server.client() as http:
            for _ in range(2):
                assert http.post("/v1/events", json=message).json()["taken"] == len(keys)

    for number in range(40):
        put(number, 100)
    client.keep("objects", "size", "s3://films/new/", every=0.5)
    becomes_true(server, client, 40)
    assert server.runs("size") == ran + 40

    client.keep("objects", "size", "s3://films/new/", every=3600)
    is_told(server, client, 40)
    keys = [put(number, 101) for number in range(30, 50)]
    bucket.rm_file("films/new/red flower+0.png")
    told(*keys[1::2], "new/red+flower%2B0.png")
    server.until(lambda: server.runs("size") >= ran + 50, BOUND)

    client.keep("objects", "size", "s3://films/new/", every=0.5)
    becomes_true(server, client, 49)
    assert server.runs("size") == ran + 60
    assert client.stop_keeping("objects")
