"""A step that is cancelled in the midst of an import leaves no half of a library behind."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from amber_ray.fabric.worker.imports import made_whole

class Interrupting:
    def __init__(self, at):
        self.at = at

    def find_spec(self, name, path=None, target=None):
        if name == self.at:
            raise KeyboardInterrupt

sys.modules["of.no.package"] = sys
for at in ("av.filter", "av.codec", "av.video.frame"):
    sys.meta_path.insert(0, Interrupting(at))
    try:
        with made_whole():
            import av
    except KeyboardInterrupt:
        assert "av" not in sys.modules
    else:
        raise SystemExit(f"{at} was not imported")
    sys.meta_path.pop(0)
import av
assert "of.no.package" in sys.modules  # it was there before
try:
    av.open("/dev/null")
except av.error.FFmpegError:
    print("whole")
"""


def test_a_library_whose_import_was_interrupted_is_whole_the_next_time() -> None:
    """In a process of its own: this one has the library."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("whole", "")
