from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from videoclr.errors import DeviceError, RestorationError
from videoclr.stages.detect import detect
from videoclr.types import Detection, Frame


def frames(shots: Sequence[int], dtype: type = np.uint8) -> list[Frame]:
    """Frames whose red value is their index."""
    return [Frame.from_image(np.full((8, 8, 3), index, dtype), index).in_shot(shot) for index, shot in enumerate(shots)]


class Marks:
    """Finds one face per picture, whose box begins at the picture's red value, of the given sizes."""

    def __init__(self, sizes: Sequence[float] = (40.0,)) -> None:
        self.sizes = sizes
        self.batches: list[int] = []

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        self.batches.append(len(images))
        assert all(image.dtype == np.uint8 for image in images)
        return [[self.face(float(image[0, 0, 0]), size) for size in self.sizes] for image in images]

    @staticmethod
    def face(x: float, size: float) -> Detection:
        return Detection(np.array([x, 0, x + size, size], np.float32), np.zeros((5, 2), np.float32), 0.9)


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
@pytest.mark.parametrize("every", [1, 3])
def test_every_frame_comes_out_in_order_with_its_own_faces(batch: int, every: int) -> None:
    source = frames([0] * 10)
    found = list(detect(source, Marks(), batch, every))
    assert all(one.frame is frame for one, frame in zip(found, source, strict=True))
    for index, one in enumerate(found):
        assert one.looked is (index % every == 0)
        assert [face.box[0] for face in one.faces] == ([index] if one.looked else [])


def test_frames_go_to_the_detector_in_batches() -> None:
    detector = Marks()
    list(detect(frames([0] * 10), detector, batch=4))
    assert detector.batches == [4, 4, 2]


def test_the_first_frame_of_every_shot_is_looked_at() -> None:
    found = list(detect(frames([0, 0, 0, 0, 1, 1, 2, 3]), Marks(), batch=2, every=3))
    assert [one.looked for one in found] == [True, False, False, True, True, False, True, True]


def test_small_and_broken_faces_are_left_out() -> None:
    found = list(detect(frames([0]), Marks([23.0, 25.0, float("nan"), 0.0]), min_size=24))
    assert [face.size for face in found[0].faces] == [25.0]


def test_deep_pictures_reach_the_detector_as_eight_bits() -> None:
    deep = Frame.from_image(np.full((8, 8, 3), 257 * 99, np.uint16))
    (found,) = detect([deep], Marks())
    assert found.faces[0].box[0] == 99


def test_a_detector_that_forgets_a_picture_is_an_error() -> None:
    class Forgetful(Marks):
        def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
            return super().detect(images)[1:]

    with pytest.raises(RestorationError, match="frame 0: the detector answered 1 lists for 2 pictures"):
        list(detect(frames([0, 0]), Forgetful(), batch=2))


class Cramped(Marks):
    """Has memory for `most` pictures at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().detect(images)


def test_out_of_memory_halves_the_batch_and_no_frame_is_lost() -> None:
    warnings: list[str] = []
    detector = Cramped(2)
    found = list(detect(frames([0] * 10), detector, 8, warnings=warnings))
    assert [float(one.faces[0].box[0]) for one in found] == list(range(10))
    assert detector.batches == [2] * 5
    assert warnings == ["the device's memory does not suffice for runtime.detect_batch 8: went on with 2"]


def test_out_of_memory_with_one_frame_says_what_to_do() -> None:
    with pytest.raises(DeviceError, match=r"lower runtime\.detect_batch"):
        list(detect(frames([0] * 3), Cramped(0), 2))


def test_a_detector_that_fails_stops_at_its_frame() -> None:
    class Blind(Marks):
        def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
            found = super().detect(images)
            return found if found[0][0].box[0] < 4 else [[None]]  # type: ignore[list-item]

    with pytest.raises(RestorationError, match="frame 4: the detector gave None, expected a Detection"):
        list(detect(frames([0] * 8), Blind()))
    with pytest.raises(RestorationError, match=r"frame 4: the detector answered 1 lists for 2 pictures"):
        list(detect(frames([0] * 8), Blind(), batch=2))

    class Broken(Marks):
        def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
            raise RuntimeError("no light")

    with pytest.raises(RestorationError, match=r"frame 0: the detector raised RuntimeError \(in a batch of 3\): no light"):
        list(detect(frames([0] * 8), Broken(), batch=3))


class Gives:
    """A detector that gives the same for every call."""

    def __init__(self, given: object) -> None:
        self.given = given

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return self.given  # type: ignore[return-value]


BOX, POINTS = np.array([0, 0, 40, 40], np.float32), np.zeros((5, 2), np.float32)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "gave None, expected a list for each picture"),
        ([[None]], "gave None, expected a Detection"),
        ([[(BOX, POINTS, 0.9)]], "gave a tuple, expected a Detection"),
        ([[Detection(BOX, POINTS.reshape(-1), 0.9)]], r"gave as landmarks a ndarray \(10,\), expected an array \(5, 2\)"),
        ([[Detection(BOX.astype(str), POINTS, 0.9)]], "gave as box an array of <U32, expected float32"),
        ([[Detection(BOX, POINTS.astype(complex), 0.9)]], "gave as landmarks an array of complex128, expected float32"),
        ([[Detection(BOX, POINTS, None)]], "gave as score None, expected a number from 0 to 1"),
        ([[Detection(BOX, POINTS, "0.9")]], "gave as score '0.9', expected a number from 0 to 1"),
        ([[Detection(BOX, POINTS, 90)]], "gave as score 90, expected a number from 0 to 1"),
        ([[Detection(BOX, POINTS, np.ones(2))]], r"gave as score array\(\[1., 1.\]\), expected a number from 0 to 1"),
        ([[Detection(BOX.tolist(), POINTS, 0.9)]], r"gave as box a list, expected an array \(4,\)"),
        ([[Detection(np.append(BOX, np.float32(0.9)), POINTS, 0.9)]], r"gave as box a ndarray \(5,\), expected an array \(4,\)"),
    ],
)
def test_what_is_no_face_is_named_where_the_detector_gave_it(given: object, expected: str) -> None:
    with pytest.raises(RestorationError, match=f"^frame 0: the detector {expected}$"):
        list(detect(frames([0]), Gives(given)))


def test_a_face_far_beyond_any_frame_or_without_a_score_is_left_out() -> None:
    for bad in (Detection(BOX * 1e30, POINTS, 0.9), Detection(BOX, POINTS + 1e7, 0.9), Detection(BOX, POINTS, float("nan"))):
        assert [one.faces for one in detect(frames([0]), Gives([[bad]]))] == [()]


def test_scores_may_be_numbers_of_numpy_and_a_rounding_beyond_one() -> None:
    for score in (np.float32(1.000001), np.float64(1.0), np.array(1.0)):
        (found,) = detect(frames([0]), Gives([[Detection(BOX, POINTS, score)]]))
        assert found.faces[0].score == 1.0 and type(found.faces[0].score) is float


def test_a_detector_may_use_its_memory_again() -> None:
    class Again:
        def __init__(self) -> None:
            self.box, self.points, self.calls = np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0

        def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
            self.calls += 1
            self.box[:] = (0, 0, self.calls, 10)
            self.points[:] = self.calls
            return [[Detection(self.box, self.points, 0.9)]]

    found = list(detect(frames([0] * 3), Again()))
    assert [one.faces[0].box[2] for one in found] == [1, 2, 3]
    assert [one.faces[0].landmarks[0, 0] for one in found] == [1, 2, 3]
