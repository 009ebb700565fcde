"""`amber export` as users run it: computed once, then read from the store by another process."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.integration.test_cli import Shell, shell
from tests.media import tone, write_sound
from tests.server import KIT

__all__ = ["shell"]
pytestmark = pytest.mark.timeout(300)


def test_a_training_set_is_written_and_read_with_plain_parquet(shell: Shell) -> None:
    media = shell.folder / "media"
    names = [str(write_sound(media / f"{i}.wav", tone(25.0 + i, rate=8000), 8000)) for i in range(3)]
    (media / "torn.wav").write_bytes(b"RIFF, but no more")
    words = ("--assets", "media", "--features", KIT, "--segment-seconds", "10", "--store", "store", "-q")

    status, out, err = shell.run("export", "left", "size@1", "mark_span", *words, "--out", "set", "--compute")
    assert (status, err) == (1, ""), err
    left = ds.dataset(shell.folder / "set/left").to_table()
    assert left["uri"].to_pylist() == [f"media/{Path(n).name}" for n in names for _ in range(3)]
    assert left["start"].to_pylist() == [0.0, 10.0, 20.0] * 3
    assert left["length"].to_pylist() == [10.0, 10.0, 5.0, 10.0, 10.0, 6.0, 10.0, 10.0, 7.0]
    assert left["value"][4].as_py() == [2.0 * i + 2 for i in range(10)]
    size = pq.read_table(shell.folder / "set/size")
    assert size["value"].to_pylist() == [Path(n).stat().st_size for n in names]
    [bad, *rest] = pq.read_table(
        shell.folder / "set/coverage.parquet", filters=[("failed", ">", 0)]
    ).to_pylist()
    assert (bad["uri"], len(rest)) == ("media/torn.wav", 2)
    assert "torn.wav" in bad["error"]
    ran = shell.server.runs("left")
    assert ran == 9
    spans = ds.dataset(shell.folder / "set/mark_span").to_table()
    assert list(zip(spans["start"].to_pylist(), spans["length"].to_pylist(), strict=True))[:3] == [
        *((0.0, 3.0), (3.0, 14.0), (17.0, 3.0)),
    ]
    assert spans["value"].to_pylist() == [[0.0, 3.0], [3.0, 17.0], [17.0, 20.0]] * 3

    unmade = ("--param", "marks.at=3,16,20")  # nobody has looked for these windows
    status, out, err = shell.run("export", "mark_span", *words, *unmade, "--out", "unmade")
    assert (status, err) == (1, "")
    assert next(line.split() for line in out.splitlines() if "mark_span" in line) == [
        *("mark_span", "4", "0", "1", "0", "3"),
    ]
    unknown = pq.read_table(shell.folder / "unmade/coverage.parquet").to_pylist()
    assert sum(line["unknown"] for line in unknown) == 3
    status, out, err = shell.run("export", "mark_span", *words, "--out", "marked")
    assert "9 values are in marked" in out  # by windows that are only stored, without any Ray
    assert ds.dataset(shell.folder / "marked/mark_span").to_table().equals(spans)

    status, out, err = shell.run("export", "left", "diamond", *words, "--out", "again")
    assert (status, err) == (1, "")
    assert [line.split() for line in out.splitlines() if line.strip().startswith(("left", "diamond"))] == [
        ["left", "10", "9", "1", "0"],
        ["diamond", "4", "0", "1", "3"],
    ]
    assert shell.server.runs("left") == ran
    assert ds.dataset(shell.folder / "again/left").to_table().equals(left)
    first, second = (json.loads((shell.folder / p / "manifest.json").read_text()) for p in ("set", "again"))
    assert first["features"]["left"] == second["features"]["left"]
    assert sorted(second["features"]["diamond"]["made_from"]) == ["left", "right", "root"]
    assert not (shell.folder / "again.partial").exists()
    shell.nothing_is_left()
