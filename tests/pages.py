"""Pages whose examples run as they stand: each code block says in a comment before it what it is.

file NAME               what a reader saves under that name
more of NAME            what a reader adds to it
run                     what a reader runs, in order, in the same folder
run, with Ray           the same, where it starts an Amber
serve                   a server that runs from here on
not run, WHY            nothing to run

The comment is `<!-- readme: ... -->` in the README and `<!-- guide: ... -->` in docs/.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from amber_ray import samples
from amber_ray.serving import front
from tests.server import first_line

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DIRECTIVE = re.compile(r"(file|more of) \S+$|run$|run, with Ray$|serve$|not run, .+")


@dataclass(frozen=True)
class Block:
    directive: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    pattern = (
        r"(?:<!-- (?:readme|guide): (?P<directive>[^>]+?) -->\n)?"
        r"```(?P<language>\w+)\n(?P<text>.*?)^```$"
    )
    return [
        Block(m["directive"] or "", m["language"], m["text"])
        for m in re.finditer(pattern, page, re.DOTALL | re.MULTILINE)
    ]


def unsaid(page: Path) -> list[Block]:
    """The blocks of a page that do not say what they are, and whatever is no block and looks like one."""
    found = blocks(page.read_text())
    assert len(found) == page.read_text().count("```") // 2
    return [block for block in found if not DIRECTIVE.match(block.directive)]


def with_ray(page: list[Block]) -> int:
    """The place of the first example of a page that needs Ray."""
    return next(i for i, block in enumerate(page) if block.directive in ("run, with Ray", "serve"))


class Reader:
    """Someone who does what a page says, in a folder with a clip, on a port of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        [self.port] = front.free_ports((0,))
        self.server: subprocess.Popen[str] | None = None
        self.env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        # The reader's own: what the tests say to Ray is not on the page.
        for name in ("RAY_AUTH_MODE", "RAY_ADDRESS"):
            self.env.pop(name, None)
        self.env["PYTHONPATH"] = str(ROOT)
        shutil.copy(samples.clip(), folder / "clip.mp4")

    def follow(self, block: Block) -> str:
        """Do what a block says; returns what it prints."""
        text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        what, _, name = block.directive.rpartition(" ")
        if what in ("file", "more of"):
            with open(self.folder / name, "w" if what == "file" else "a") as file:
                file.write(text if what == "file" else f"\n\n{text}")
        elif block.directive == "serve":
            self.serve(text.strip())
        elif block.directive.startswith("run"):
            return self.run(block.language, text)
        return ""

    def run(self, language: str, text: str) -> str:
        runner = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*runner, text],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        assert done.stdout, text
        return done.stdout

    def serve(self, command: str) -> None:
        self.server = subprocess.Popen(
            [*command.split(), "--port", str(self.port)],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "server.log").open("w"),
            text=True,
        )
        line = first_line(self.server)
        assert f":{self.port}" in line, line + (self.folder / "server.log").read_text()

    def stop(self) -> int | None:
        if self.server is None:
            return None
        self.server.send_signal(signal.SIGTERM)
        try:
            return self.server.wait(60)
        finally:
            self.server.kill()
