"""The command as users type it: processes of their own, a real Ray, the sample clip."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from amber_ray.features.whisper import instructions
from tests.server import CLIP, KIT, MARK, SAMPLES, Server, first_line
from tests.spoken import RECORDING, SAID, error_rate

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
BOUND = 120.0


class Shell:
    """Runs the command in an empty folder; its processes carry a mark, so that leftovers are seen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder)
        self.server.mark = uuid.uuid4().hex
        # The repository is on the path, so that the folder does not need an installed package.
        self.environment = {
            **os.environ,
            MARK: self.server.mark,
            "AMBER_TEST_DIR": str(self.server.traces),
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "amber_ray.cli", *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str | Path, bound: float = BOUND) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=bound)
        return process.returncode, out, err

    def files(self, folder: str) -> dict[str, int]:
        """The files below a folder, with the times at which they were written."""
        found = (path for path in (self.folder / folder).rglob("*") if path.is_file())
        return {str(path): path.stat().st_mtime_ns for path in found}

    def nothing_is_left(self) -> None:
        self.server.until(lambda: not self.server.processes(), 20)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.server.kill_everything()


def test_what_is_stored_is_told_without_ray_and_read_beside_what_is_new(shell: Shell) -> None:
    words = ("get", "thumbnail,brightness", CLIP, "--features", KIT, "--format", "json")
    status, out, err = shell.run(*words)
    assert (status, err) == (0, "")
    first = json.loads(out)["results"]
    assert [r["cached"] for r in first] == [False, False]
    shell.nothing_is_left()
    assert (shell.folder / "amber-store/values/thumbnail").is_dir()
    before = shell.files("amber-store")
    # Whoever imports one of these now fails.
    (shell.folder / "sitecustomize.py").write_text(
        "import sys\nfor name in ('ray', 'torch', 'av'):\n    sys.modules[name] = None\n"
    )
    with_ray = dict(shell.environment)
    shell.environment["PYTHONPATH"] = f"{shell.folder}:{ROOT}"
    status, out, err = shell.run(*words)
    assert (status, err) == (0, "")
    again = json.loads(out)["results"]
    assert [r.pop("cached") for r in again] == [True, True]
    assert again == [{name: said for name, said in r.items() if name != "cached"} for r in first]
    explain = ("explain", "thumbnail,size", CLIP, "--features", KIT, "--format", "json")
    status, out, err = shell.run(*explain)
    assert (status, err) == (0, "")
    assert {step["feature"]: step["state"] for step in json.loads(out)} == {
        "thumbnail": "cold",
        "size": "missing",
    }
    status, out, err = shell.run("export", "brightness", "--assets", CLIP, "--features", KIT, "--out", "set")
    assert status == 0, err
    assert shell.files("amber-store") == before
    status, _, err = shell.run("get", "size", CLIP, "--features", KIT)
    assert status != 0
    assert "ray" in err
    shell.environment.update(with_ray)
    status, out, err = shell.run("get", "thumbnail,brightness,size", CLIP, "--features", KIT, "--out", "o/")
    assert status == 0, err
    assert [line.split()[-1] for line in out.splitlines() if CLIP.name[:8] in line][:3] == [
        "cached",
        "cached",
        "computed",
    ]
    assert (shell.folder / f"o/{CLIP.stem}.thumbnail.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    shell.nothing_is_left()


def test_failures_have_status_1_and_bad_words_status_2(shell: Shell) -> None:
    text = shell.folder / "text.mp4"
    text.write_text("this is no film")
    status, _, err = shell.run("get", "probe", CLIP, text, shell.folder / "none.mp4")
    assert status == 1
    assert [line.partition(" failed: ")[0] for line in err.splitlines()] == [
        f"amber: probe of {text}",
        f"amber: probe of {shell.folder / 'none.mp4'}",
    ]
    status, out, err = shell.run("get", "prob", CLIP)
    assert (status, out) == (2, "")
    assert "probe" in err
    shell.nothing_is_left()


def test_an_interrupt_stops_everything_with_status_130(shell: Shell) -> None:
    process = shell.start("get", "gated", CLIP, "--features", KIT)
    shell.server.until(lambda: shell.server.runs("gated") == 1, BOUND)
    # Of Ray's own programs only those run that such a cluster needs.
    running = " ".join(shell.server.processes().values())
    assert "raylet" in running
    assert [name for name in ("/monitor.py", "/log_monitor.py", "/dashboard.py") if name in running] == []
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=BOUND)
    assert (process.returncode, out) == (130, "")
    assert err == "amber: interrupted\n"
    shell.nothing_is_left()


def served(shell: Shell, *words: str) -> tuple[subprocess.Popen[str], str]:
    process = shell.start(
        "serve", "--media-root", SAMPLES, "--store", "store", "--port", "0", "--num-gpus", "0", *words
    )
    line = first_line(process)
    assert line.startswith("Amber is ready at http://127.0.0.1:"), line
    return process, line.split()[-1]


def test_a_server_has_its_port_and_its_store_to_itself_until_ctrl_c_ends_it(shell: Shell) -> None:
    process, url = served(shell, "-q")
    status, out, err = shell.run("get", "probe", CLIP, "--server", url, "--format", "json")
    assert (status, err) == (0, "")
    assert json.loads(out)["results"][0]["value"]["width"] == 640

    status, out, err = shell.run("serve", "--port", url.rpartition(":")[2])
    assert (status, out) == (3, "")
    assert "can't listen" in err
    status, out, err = shell.run("serve", "--port", "0", "--store", "store")
    assert (status, out) == (3, "")
    assert "is in use" in err
    assert err.count("\n") == 1
    # What is stored may be read meanwhile; nothing else may be written.
    shell.server.until(lambda: any((shell.folder / "store/values/probe").rglob("part-*")), BOUND)
    status, out, err = shell.run("get", "probe", CLIP, "--store", "store", "--format", "json")
    assert (status, err) == (0, "")
    assert json.loads(out)["results"][0]["cached"]
    status, out, err = shell.run("get", "loudness", CLIP, "--store", "store")
    assert (status, out) == (3, "")
    assert "is in use" in err

    process.send_signal(signal.SIGINT)  # by SIGTERM all servers end that tests share
    out, err = process.communicate(timeout=BOUND)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    shell.nothing_is_left()


def test_a_module_that_can_not_be_right_does_not_start_a_server(shell: Shell) -> None:
    cyclic = shell.folder / "cyclic.py"
    cyclic.write_text(
        "from amber_ray import feature\n\n"
        "@feature(version='1')\ndef one(two: int) -> int:\n    return two\n\n"
        "@feature(version='1')\ndef two(one: int) -> int:\n    return one\n"
    )
    began = time.monotonic()
    status, out, err = shell.run("serve", "--features", "cyclic.py", "--port", "0")
    assert (status, out) == (2, "")
    assert "one" in err
    assert "two" in err
    assert err.count("\n") == 1
    assert time.monotonic() - began < BOUND
    shell.nothing_is_left()


def test_the_demo_tells_its_story_and_its_advice_works(shell: Shell) -> None:
    demo = shell.start("demo", "--serve", "--port", "0")
    assert demo.stdout is not None
    told: list[str] = []
    for line in demo.stdout:  # within this test's bound
        told.append(line)
        if line.startswith("look at "):
            break
    else:
        pytest.fail(demo.communicate(timeout=BOUND)[1])
    address = told[-1].split()[2]
    with httpx.Client(trust_env=False) as client:
        assert "<title>Amber" in client.get(address).text
        asset = address.partition("#/assets/")[2].partition("?")[0]
        base = address.partition("#")[0]
        assert client.get(f"{base}v1/assets/{asset}").json()["uri"].endswith(CLIP.name)
    demo.send_signal(signal.SIGINT)
    rest, err = demo.communicate(timeout=BOUND)
    assert demo.returncode == 0, err
    out = "".join(told) + rest
    written = {p.name: p.read_bytes() for p in (shell.folder / "demo-out").glob("*.*g")}
    clips = ("big-buck-bunny-30s", "big-buck-bunny-trailer")
    for name in (f"{sheet}-{clip}.jpg" for sheet in ("contact_sheet", "shot_sheet") for clip in clips):
        assert written[name].startswith(b"\xff\xd8\xff")
    assert written["match_sheet.jpg"].startswith(b"\xff\xd8\xff")
    assert all(written[f"overview-{clip}.png"].startswith(b"\x89PNG") for clip in clips)
    lines = out.splitlines()
    assert sum(line.rstrip().endswith(" cached") for line in lines) >= 30
    assert any(line.startswith("again ") for line in lines)
    shell.nothing_is_left()
    advice = [line.partition("#")[0] for line in lines[lines.index("What to try next:") + 1 :]]
    assert len(advice) == 4
    for line in (advice[0], advice[2]):
        done = subprocess.run(
            shlex.split(line),
            cwd=shell.folder,
            env=shell.environment,
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
    shell.nothing_is_left()


def test_what_is_said_comes_as_subtitles(shell: Shell) -> None:
    speech = shutil.copy(RECORDING, shell.folder / "speech.opus")
    status, out, err = shell.run("get", "shots,transcript", speech, "--format", "vtt")
    assert (status, out) == (2, "")
    assert err == (
        "amber: --format vtt and srt take features whose values are lists with start, end and text, as "
        "transcript, words and text; shots is none of them\n"
    )
    assert not (shell.folder / "amber-store").exists()

    # Of a film without a word the file is empty.
    status, _, err = shell.run(
        "get", "transcript,words", speech, CLIP, "--format", "srt", "--out", "said", bound=2 * BOUND
    )
    assert status == 0, err
    written = {path.name: path.read_text() for path in (shell.folder / "said").iterdir()}
    assert sorted(written) == sorted(
        f"{name}.{feature}.srt" for name in ("speech", CLIP.stem) for feature in ("transcript", "words")
    )
    assert written[f"{CLIP.stem}.transcript.srt"] == written[f"{CLIP.stem}.words.srt"] == ""

    # What is stored is written in the other form, to stdout.
    status, vtt, err = shell.run("get", "transcript", speech, "--format", "vtt")
    assert (status, err) == (0, "")
    head, *cues = vtt.strip().split("\n\n")
    assert head == "WEBVTT"
    said = [cue.split("\n", 1)[1].replace("\n", " ") for cue in cues]
    assert error_rate(" ".join(word for word, _ in SAID), " ".join(said)) <= 0.10
    assert said[-1].lower().rstrip(".").endswith("made amiable himself")
    assert re.fullmatch(r"00:00:21\.\d{3} --> 00:00:2[45]\.\d{3}", cues[-1].split("\n")[0])

    # The words that it was made from are there, range by range, and whose they are.
    status, out, err = shell.run("get", "words,speech", speech, "--format", "json")
    assert (status, err) == (0, "")
    *turns, found = json.loads(out)["results"]
    assert [(t["unit"]["start"], t["unit"]["end"]) for t in turns] == [
        (pytest.approx(f["start"], abs=1e-5), pytest.approx(f["end"], abs=1e-5)) for f in found["value"]
    ]
    assert all(row["cached"] for row in (*turns, found))
    words = [word for turn in turns for word in turn["value"]]
    assert " ".join(word["text"] for word in words) == " ".join(said)
    [part] = (shell.folder / "amber-store/values/words").rglob("*.parquet")
    assert set(pq.read_table(part, columns=["device"])["device"].to_pylist()) == {
        f"cpu {instructions()}; whisper-tiny.en int8"
    }
    assert written["speech.words.srt"].count(" --> ") == len(words)
    shell.nothing_is_left()
