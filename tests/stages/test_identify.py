from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from videoclr import geometry
from videoclr.stages.identify import identify, quality
from videoclr.types import Detection, FaceCrop, Faces, Frame, TrackedFace

PICTURE = np.zeros((4, 4, 3), np.uint8)
FACE = np.array([[-20, -20], [20, -20], [0, 5], [-15, 25], [15, 25]], np.float32) + 100
TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).uniform(-1, 1, (64, 64, 3)).astype(np.float32), (0, 0), 1) * 3


def crop(index: int, blur: float = 0.0, track: int = 0, shot: int = 0, mark: float = 0.0, nose: float = 0.0) -> FaceCrop:
    """A crop whose corner pixel carries `mark`, which the fake recognizer reads."""
    image = cv2.GaussianBlur(TEXTURE, (0, 0), blur) if blur else TEXTURE.copy()
    image[0, 0] = mark
    points = FACE.copy()
    points[2, 0] += nose
    face = TrackedFace(track, Detection(np.array([60, 60, 140, 140], np.float32), points, 0.9))
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return FaceCrop(face, Frame.from_image(PICTURE, index).in_shot(shot), tensor, geometry.ffhq_matrix(FACE, 64))


def clip(crops: Sequence[FaceCrop]) -> list[Faces[FaceCrop]]:
    return [Faces(one.frame, (one,)) for one in crops]


class Reads:
    """Embeds a crop as the direction (cos m, sin m) of its mark."""

    def __init__(self) -> None:
        self.embedded: list[float] = []

    def embed(self, crops: Tensor) -> Tensor:
        marks = crops[:, 0, 0, 0]
        self.embedded += marks.tolist()
        return torch.stack([marks.cos(), marks.sin()], dim=1)


def angle(one: Faces[FaceCrop]) -> float:
    identity = one.faces[0].identity
    assert identity is not None
    assert float(identity.norm()) == pytest.approx(1, abs=1e-5)
    return float(torch.atan2(identity[1], identity[0]))


def test_quality_prefers_sharp_and_frontal_views() -> None:
    assert quality(crop(0)) > quality(crop(0, blur=1.5)) > quality(crop(0, blur=4))
    assert quality(crop(0)) > quality(crop(0, nose=8)) > quality(crop(0, nose=16))
    assert 0 < quality(crop(0)) < 1


def test_the_first_frames_get_the_identity_of_the_best_view_ahead() -> None:
    crops = [crop(i, blur=0 if i == 3 else 3, mark=1.0 if i == 3 else 0.0) for i in range(6)]
    known = list(identify(clip(crops), Reads(), window=4, views=1))
    assert [angle(one) for one in known] == pytest.approx([1.0] * 6, abs=1e-5)


def test_the_future_beyond_the_window_stays_unknown() -> None:
    crops = [crop(i, blur=0 if i == 8 else 3, mark=1.0 if i == 8 else 0.0) for i in range(12)]
    known = list(identify(clip(crops), Reads(), window=3, views=1))
    assert [angle(one) > 0.5 for one in known] == [False] * 5 + [True] * 7  # frame 5 sees frame 8


def test_views_are_weighted_by_quality() -> None:
    crops = [crop(0, mark=0.0), crop(1, blur=3, mark=1.0)]
    known = list(identify(clip(crops), Reads(), window=1, views=2))
    assert 0 < angle(known[0]) < 0.4


def test_only_views_that_enter_the_pool_are_embedded() -> None:
    recognizer = Reads()
    crops = [crop(i, mark=i / 100) for i in range(60)]
    known = list(identify(clip(crops), recognizer, window=8, views=5))
    assert len(known) == 60
    assert len(recognizer.embedded) == 5


def test_identities_do_not_cross_tracks_or_cuts() -> None:
    first = [crop(i, mark=0.0) for i in range(4)]
    second = [crop(i, mark=1.0, track=0, shot=1) for i in range(4, 8)]  # even a track number that comes again
    known = list(identify(clip([*first, *second]), Reads(), window=8, views=5))
    assert [angle(one) for one in known] == pytest.approx([0.0] * 4 + [1.0] * 4, abs=1e-5)
    pair = [
        Faces(one.frame, (one, other)) for one, other in zip(first, [crop(i, mark=1.0, track=1) for i in range(4)], strict=True)
    ]
    for faces in identify(pair, Reads(), window=2, views=3):
        assert angle(faces) == pytest.approx(0, abs=1e-5)
        assert float(faces.faces[1].identity[1]) > 0.8  # type: ignore[index]


def test_an_embedding_that_is_not_finite_is_no_identity() -> None:
    class Broken:
        def embed(self, crops: Tensor) -> Tensor:
            return torch.full((len(crops), 2), torch.nan)

    (one,) = identify(clip([crop(0)]), Broken())
    assert one.faces[0].identity is None


def test_every_frame_comes_out_with_or_without_faces() -> None:
    source: list[Faces[FaceCrop]] = [Faces(Frame.from_image(PICTURE, index)) for index in range(5)]
    source[2] = clip([crop(2)])[0]
    known = list(identify(source, Reads(), window=3))
    assert [one.frame for one in known] == [one.frame for one in source]
    assert [len(one.faces) for one in known] == [0, 0, 1, 0, 0]
