"""A store in an object store: the command writes values to S3 and reads them back in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from tests.server import CLIP, KIT

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A local S3 with a bucket; the environment that finds it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
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
