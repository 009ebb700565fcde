"""The README's examples, run as they stand: each code block says in a comment before it what it is.

readme: file NAME       what a reader saves under that name
readme: run             what a reader runs, in order, in the same folder
readme: serve           a server that runs from here on
readme: not run, WHY    nothing to run
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from amber_ray import samples
from tests.integration.test_deploy import free_ports

README = Path(__file__).parents[2] / "README.md"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Block:
    directive: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    pattern = r"(?:<!-- readme: (?P<directive>[^>]+?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$"
    return [
        Block(m["directive"] or "", m["language"], m["text"])
        for m in re.finditer(pattern, page, re.DOTALL | re.MULTILINE)
    ]


def test_every_block_says_what_it_is() -> None:
    found = blocks(README.read_text())
    assert len(found) == README.read_text().count("```") // 2
    for block in found:
        assert re.match(r"file \S+$|run$|serve$|not run, .+", block.directive), block


def test_a_block_that_says_nothing_is_found() -> None:
    assert blocks("```bash\nls\n```\n")[0].directive == ""
    assert blocks("<!-- readme: run -->\n```bash\nls\n```\n") == [Block("run", "bash", "ls\n")]


class Reader:
    """Someone who does what the README says, in a folder with a clip, on a port of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        [self.port] = free_ports(1)
        self.server: subprocess.Popen[str] | None = None
        self.env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        # The reader's own: what the tests say to Ray is not in the README.
        for name in ("RAY_AUTH_MODE", "RAY_ADDRESS", "PYTHONPATH"):
            self.env.pop(name, None)
        shutil.copy(samples.clip(), folder / "clip.mp4")

    def follow(self, block: Block) -> None:
        text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        if block.directive.startswith("file "):
            (self.folder / block.directive.removeprefix("file ")).write_text(text)
        elif block.directive == "serve":
            self.serve(text.strip())
        elif block.directive == "run":
            runner = (
                ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
            )
            done = subprocess.run(
                [*runner, text],
                cwd=self.folder,
                env=self.env,
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
            assert done.stdout, block.text

    def serve(self, command: str) -> None:
        self.server = subprocess.Popen(
            [*command.split(), "--port", str(self.port)],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "server.log").open("w"),
            text=True,
        )
        assert self.server.stdout is not None
        line = self.server.stdout.readline()  # it prints one line when it is ready, or ends
        assert f":{self.port}" in line, line + (self.folder / "server.log").read_text()

    def stop(self) -> int | None:
        if self.server is None:
            return None
        self.server.send_signal(signal.SIGTERM)
        try:
            return self.server.wait(60)
        finally:
            self.server.kill()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.stop()


@pytest.mark.timeout(420)
def test_the_examples_work(reader: Reader) -> None:
    for block in blocks(README.read_text()):
        reader.follow(block)
    assert (reader.folder / "sheet.jpg").read_bytes().startswith(b"\xff\xd8")
    assert reader.stop() == 0
