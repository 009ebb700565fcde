"""Decodes and models are not run more often than they must: counted in the workers that run them."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import CLIP, MARK, Server

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]

# Read by every Python process at its start, Ray's workers too: a line for each call of two functions.
HOOK = """
import os, sys

def counted(owner, name, what):
    real = getattr(owner, name)
    def function(*arguments, **named):
        with open(os.path.join(os.environ["COUNTS"], what), "a") as file:
            file.write(f"{os.getpid()}\\n")
        return real(*arguments, **named)
    setattr(owner, name, function)

class Counts:
    def find_spec(self, name, path, target=None):
        if name == "amber_ray.media.decode":
            sys.meta_path.remove(self)
            import amber_ray.media.reader as reader
            counted(reader.Reader, "__init__", "decodes")
            sys.meta_path.insert(0, self)
        if name == "amber_ray.features.embedding":
            sys.meta_path.remove(self)
            import amber_ray.features.backbones as backbones
            counted(backbones, "load", "models")
        return None

sys.meta_path.insert(0, Counts())
"""

LEAF = '''
import os
import numpy as np
from amber_ray import feature

@feature(version="1")
def spread(embedding: list[np.ndarray]) -> float:
    """{doc}"""
    with open(os.path.join(os.environ["COUNTS"], "leaves"), "a") as file:
        file.write("ran\\n")
    return float(np.concatenate(embedding).std(axis=0).mean())
'''


class Counted:
    """The command in a folder of its own, and how often what was called in all its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder)
        self.server.mark = uuid.uuid4().hex
        (folder / "hook").mkdir()
        (folder / "hook/sitecustomize.py").write_text(HOOK)
        (folder / "counts").mkdir()
        self.environment = {
            **os.environ,
            MARK: self.server.mark,
            "COUNTS": str(folder / "counts"),
            "PYTHONPATH": os.pathsep.join((str(folder / "hook"), str(ROOT))),
        }

    def get(self, features: str, *words: str) -> None:
        command = [sys.executable, "-m", "amber_ray.cli", "get", features, str(CLIP), *words]
        done = subprocess.run(
            [*command, "--format", "json", "--out", str(self.folder / "out.json")],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.server.until(lambda: not self.server.processes(), 20)

    def __getitem__(self, what: str) -> int:
        path = self.folder / "counts" / what
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def counts(tmp_path: Path) -> Iterator[Counted]:
    made = Counted(tmp_path)
    yield made
    made.server.kill_everything()


def test_one_decode_of_a_segment_serves_every_feature_of_its_frames(counts: Counted) -> None:
    counts.get("brightness,colour,motion,sharpness,phash,frame_times", "--segment-seconds", "10")
    # 30.016 s: three segments of 10 s and the rest; six features of each.
    assert counts["decodes"] == 4


def test_another_version_of_a_leaf_runs_no_model_and_other_words_run_nothing(counts: Counted) -> None:
    leaf = counts.folder / "leaf.py"
    words = ("--features", str(leaf), "--param", "frames.fps=0.2")
    leaf.write_text(LEAF.format(doc="How much the frames differ."))
    counts.get("spread", *words)
    assert (counts["models"], counts["leaves"]) == (1, 1)
    decodes = counts["decodes"]
    leaf.write_text(LEAF.format(doc="The same in other words.") + "\n# And a comment.\n")
    counts.get("spread", *words)
    assert (counts["models"], counts["leaves"]) == (1, 1)
    leaf.write_text(leaf.read_text().replace('version="1"', 'version="2"'))
    counts.get("spread", *words)
    assert (counts["models"], counts["leaves"], counts["decodes"]) == (1, 2, decodes)
