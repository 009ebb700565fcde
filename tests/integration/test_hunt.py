"""`make hunt` tells of each file what it is, what failed and why, and calls files by numbers if asked to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ODD = Path(__file__).parents[1] / "odd" / "files"


@pytest.mark.timeout(300)
def test_a_hunt_tells_of_each_file(tmp_path: Path) -> None:
    for name in ("short_0.3.wav", "sound_damaged_in_the_middle.ts", "subtitles_only.mks"):
        shutil.copy(ODD / name, tmp_path / name.replace("mks", "mkv"))
    told = subprocess.run(
        [sys.executable, "-m", "tests.hunt", str(tmp_path), "--hide", "--json", str(tmp_path / "hunt.json")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert told.returncode == 1, told.stderr
    short, damaged, refused = json.loads((tmp_path / "hunt.json").read_text())
    assert (short["name"], short["is_a"]) == ("file-1.wav", "audio/wav pcm_s16le 0.30 s")
    assert short["failed"] == {}
    assert short["unsuitable"] > 20
    [why] = damaged["failed"]
    assert "the sound of 'file-2.ts' is damaged at about 1.75 s" in why
    assert damaged["values"] > 20
    [why] = refused["failed"]
    assert "'file-3.mkv' holds neither pictures nor sound" in why
    for one in ("short_0", "sound_damaged", "subtitles", str(tmp_path)):
        assert one not in told.stdout.replace(str(tmp_path / "hunt.json"), "")
