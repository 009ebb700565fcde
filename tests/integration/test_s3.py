"""A store in an object store: the command writes values to S3 and reads them back in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import s3fs
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from tests.media import tone, write_sound
from tests.server import CLIP, KIT

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A local S3 with a bucket; the environment that finds it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What is in it belongs to the process, not to the server.
    httpx.post(f"http://{host}:{port}/moto-api/reset").raise_for_status()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    s3fs.S3FileSystem(
        endpoint_url=environment["AWS_ENDPOINT_URL"], key="test", secret="test", skip_instance_cache=True
    ).mkdir("films")
    yield {**os.environ, **environment, "AMBER_TEST_DIR": str(tmp_path)}
    server.stop()


def test_values_in_s3_are_read_by_the_next_process(s3: dict[str, str], tmp_path: Path) -> None:
    def ask() -> list[dict[str, object]]:
        words = [
            "get",
            "size,odd",
            str(CLIP),
            "--store",
            "s3://films/amber",
            "--features",
            KIT,
            "--format",
            "json",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "amber_ray.cli", *words],
            env=s3,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        results: list[dict[str, object]] = json.loads(done.stdout)["results"]
        return results

    first, again = ask(), ask()
    assert [r["value"] for r in first] == [r["value"] for r in again]
    assert [r["cached"] for r in first] == [False, False]
    assert [r["cached"] for r in again] == [True, True]
    assert len((tmp_path / "size.runs").read_text().splitlines()) == 1


ODD_KEYS = ("x[1].wav", "what?.wav", "c#1.wav", "50%25.wav", "a b.wav", "a+b.wav", "star*.wav")


def test_keys_with_odd_names_are_themselves(s3: dict[str, str], tmp_path: Path) -> None:
    """By one prefix, and each by its own name: a key that exists is itself before it is a pattern."""
    bucket = s3fs.S3FileSystem(
        endpoint_url=s3["AWS_ENDPOINT_URL"], key="test", secret="test", skip_instance_cache=True
    )
    for number, key in enumerate(ODD_KEYS):
        sound = write_sound(tmp_path / "sound.wav", tone(1.0, decibels=-10.0 - 3 * number))
        bucket.call_s3("put_object", Bucket="films", Key=f"odd/{key}", Body=sound.read_bytes())

    def amber(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "amber_ray.cli", *words, "--store", str(tmp_path / "store")],
            env=s3,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = amber("backfill", "loudness", "--assets", "s3://films/odd/")
    assert told.startswith(f"{len(ODD_KEYS)} values: {len(ODD_KEYS)} computed"), told
    names = [f"s3://films/odd/{key}" for key in ODD_KEYS]
    told = amber("backfill", "loudness", *(word for name in names for word in ("--assets", name)))
    assert told.startswith(f"{len(ODD_KEYS)} values: 0 computed"), told
    results = json.loads(amber("get", "loudness", *names, "--format", "json"))["results"]
    levels = [r["value"]["integrated"] for r in results]
    assert levels == pytest.approx([-13.0 - 3 * n for n in range(len(ODD_KEYS))], abs=0.5)
