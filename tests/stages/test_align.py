from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from videoclr import geometry
from videoclr.errors import RestorationError
from videoclr.stages.align import align, whole
from videoclr.types import Detection, Faces, Frame, TrackedFace

FACE = np.array([[-20, -20], [20, -20], [0, 5], [-15, 25], [15, 25]], np.float64)
PICTURE = np.random.default_rng(0).integers(0, 255, (200, 260, 3), dtype=np.uint8)


def clip(
    path: Callable[[int], tuple[float, float]], count: int, noise: float = 0.0, cut: int | None = None
) -> list[Faces[TrackedFace]]:
    random = np.random.default_rng(1)
    out = []
    for index in range(count):
        points = (FACE + path(index) + random.normal(0, noise, (5, 2))).astype(np.float32)
        box = np.array([*(points.min(0) - 10), *(points.max(0) + 10)], np.float32)
        after = cut is not None and index >= cut
        frame = Frame.from_image(PICTURE, index).in_shot(int(after))
        out.append(Faces(frame, (TrackedFace(int(after), Detection(box, points, 0.9)),)))
    return out


def centres(faces: list[Faces[TrackedFace]], smoothing: int) -> np.ndarray:
    """Where the middle of each crop lies in the frame."""
    crops = list(align(faces, 64, smoothing))
    assert [one.frame for one in crops] == [one.frame for one in faces]
    return np.array([geometry.moved(np.array([31.5, 31.5]), geometry.inverted(one.faces[0].matrix)) for one in crops])


def test_crops_are_what_the_matrix_says_and_keep_the_found_landmarks() -> None:
    faces = clip(lambda i: (120, 100), 1)
    (one,) = align(faces, 64, 4)
    crop = one.faces[0]
    assert crop.image.shape == (3, 64, 64) and crop.image.dtype == torch.float32
    assert crop.image.min() >= -1 and crop.image.max() <= 1
    expected = geometry.cut(PICTURE, crop.matrix, 64).transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(crop.image.numpy(), expected.clip(-1, 1), atol=1e-5)
    assert crop.face is faces[0].faces[0]


def test_a_still_head_is_held_still() -> None:
    raw, smooth = (centres(clip(lambda i: (120, 100), 60, noise=1.0), n) for n in (0, 4))
    shake = [np.abs(np.diff(path, axis=0)).mean() for path in (raw, smooth)]
    assert shake[1] < 0.35 * shake[0]


def test_a_steady_pan_is_followed_without_lag_even_at_its_ends() -> None:
    speed = 2.0
    faces = clip(lambda i: (60 + speed * i, 100), 30)
    assert np.abs(centres(faces, 4) - centres(faces, 0)).max() < 0.25 * speed


def test_a_sudden_move_is_followed_at_once() -> None:
    faces = clip(lambda i: (80 if i < 10 else 130, 100), 20)
    assert np.abs(centres(faces, 4) - centres(faces, 0)).max() < 0.5


def test_nothing_is_smoothed_across_a_cut() -> None:
    faces = clip(lambda i: (120 + 0.5 * i, 100), 20, noise=0.5, cut=11)
    together = centres(faces, 4)
    np.testing.assert_allclose(together[:11], centres(faces[:11], 4))
    np.testing.assert_allclose(together[11:], centres(faces[11:], 4))


def test_a_face_that_spans_nothing_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    faces = clip(lambda i: (120, 100), 1)
    empty = TrackedFace(5, Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.9))
    (one,) = align([Faces(faces[0].frame, (empty, *faces[0].faces))], 64, 0)
    assert [crop.face.track for crop in one.faces] == [0]
    assert "track 5" in caplog.text


@pytest.mark.parametrize("side", [48, 64, 200])
def test_an_aligned_picture_is_its_own_crop(side: int) -> None:
    picture = np.random.default_rng(2).integers(0, 255, (side, side, 3), dtype=np.uint8)
    one, two = whole([Frame.from_image(picture, 0), Frame.from_image(picture, 1)], 64)
    (crop,) = one.faces
    corners = np.array([[-0.5, -0.5], [side - 0.5, side - 0.5]])
    np.testing.assert_allclose(geometry.moved(corners, crop.matrix), [[-0.5, -0.5], [63.5, 63.5]], atol=1e-9)
    assert crop.face.track != two.faces[0].face.track
    if side == 64:
        np.testing.assert_allclose((crop.image.numpy().transpose(1, 2, 0) + 1) * 127.5, picture, atol=1e-3)


def test_an_aligned_picture_that_is_not_square_is_refused() -> None:
    with pytest.raises(RestorationError, match="square, got 260x200"):
        list(whole([Frame.from_image(PICTURE)], 64))
