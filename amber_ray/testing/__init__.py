"""Test features with no Ray: run one on a file, or on given inputs, in the process of the test.

    from amber_ray.testing import run, write_video

    def test_redness(tmp_path):
        red = np.full((48, 64, 3), (255, 0, 0), np.uint8)
        clip = write_video(tmp_path / "red.mp4", [red] * 48, fps=24)
        assert run(redness, clip) == [pytest.approx(1.0, abs=0.05)]

    runs     `run`: plans and runs what a feature needs by the code that workers run; `asset`
    media    `write_video`, `write_sound`, `write_picture`: media with known content

A value is checked against its declared type, inputs are read-only copies, and a failure has the class and
the sentence that a caller of a server would see. What is different: one process and one thread run all of it,
resources are not reserved, `timeout` ends nothing, and nothing is retried or stored.
"""

from amber_ray.testing.media import write_picture, write_sound, write_video
from amber_ray.testing.runs import asset, run

__all__ = ["asset", "run", "write_picture", "write_sound", "write_video"]
