"""Close-ups get the detail that their crops lack, from a restorer that knows it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from videoclr import geometry
from videoclr.errors import NotFiniteError, RestorationError
from videoclr.stages.blend import blend
from videoclr.stages.enlarge import EnlargingRestorer, enlarge
from videoclr.types import Detection, FaceCrop, Faces, Frame, RestoredFace, TrackedFace

NOWHERE = Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.9)
SIDE = 32


class Adds:
    """Gives the frame's own crop, lighter by `more`."""

    larger: int | None = 2 * SIDE

    def __init__(self, more: float = 0.0) -> None:
        self.more = more
        self.asked: list[tuple[Tensor, Tensor]] = []

    def enlarge(self, crops: Tensor, restored: Tensor) -> Tensor:
        self.asked.append((crops, restored))
        return crops + self.more


def picture(seed: int = 0, side: int = 160) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(side, side, 3))
    return np.clip(128 + 150 * cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)


def face(scale: float, index: int = 0, track: int = 0, **more: object) -> RestoredFace:
    """A face whose crop has `scale` px per px of its frame."""
    frame = Frame.from_image(picture(), index)
    matrix = np.array([[scale, 0.0, -20 * scale], [0.0, scale, -10 * scale]])
    small = torch.from_numpy(geometry.cut(frame.image, matrix, SIDE).transpose(2, 0, 1) / 127.5 - 1).clamp(-1, 1)
    crop = FaceCrop(TrackedFace(track, NOWHERE), frame, small, matrix)
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 8:24, 8:24] = 1
    return replace(RestoredFace(crop, torch.zeros(3, SIDE, SIDE), mask), **more)  # type: ignore[arg-type]


def of(*faces: RestoredFace) -> Faces[RestoredFace]:
    return Faces(faces[0].crop.frame, faces)


def test_a_close_up_comes_out_larger_and_lies_in_its_place() -> None:
    (before,) = of(face(0.25)).faces
    part = Adds()
    assert isinstance(part, EnlargingRestorer)
    (after,) = next(enlarge([of(before)], part)).faces
    assert after.image.shape == (3, 64, 64) and after.mask.shape == (1, 64, 64) and after.crop.image.shape == (3, 64, 64)
    assert geometry.scale_of(after.crop.matrix) == pytest.approx(0.5)
    crops, restored = part.asked[0]
    assert restored.shape == (1, 3, SIDE, SIDE) and torch.equal(restored[0], before.image)
    whole = geometry.cut(before.crop.frame.image, after.crop.matrix, 64) / 127.5 - 1
    np.testing.assert_allclose(crops[0].permute(1, 2, 0).numpy(), whole.clip(-1, 1), atol=1e-5)
    assert torch.equal(after.image, crops[0].clamp(-1, 1))
    assert after.mask[0, 16:48, 16:48].min() > 0.5 and after.mask[0, :12].max() == 0


@pytest.mark.parametrize(("frame_px", "share"), [(1.201, 0.0025), (1.4, 0.5), (1.6, 1.0), (3.0, 1.0)])
def test_a_face_that_comes_nearer_becomes_a_close_up_without_a_step(frame_px: float, share: float) -> None:
    source = of(face(1 / frame_px))
    (near,) = next(enlarge([source], Adds(0.25))).faces
    assert near.nearness == pytest.approx(share, abs=1e-4)
    pictures = [source, of(replace(near, nearness=1.0)), of(near)]
    x, y = (int(corner + 10 * frame_px) for corner in (20, 10))
    middle = np.s_[y : y + int(12 * frame_px), x : x + int(12 * frame_px)]
    for match_color in (False, True):
        far, whole, mixed = (one.image[middle].astype(float) for one in blend(pictures, match_color=match_color, steady=0))
        off = np.abs(mixed - far - share * (whole - far)).max()
        assert off <= (3 if match_color else 1), "the rounding, and colours that are compared at 8 px"
        assert match_color or np.abs(whole - far).max() > 10


class Keeps(Adds):
    """Leaves the face as it is, and the frame's detail as it came."""

    def enlarge(self, crops: Tensor, restored: Tensor) -> Tensor:
        small = F.avg_pool2d(crops, 2)
        return crops + F.interpolate(restored - small, scale_factor=2, mode="bicubic")


def shown(detail: float, noise: float, part: Adds | None, frame_px: float = 1.21) -> np.ndarray:
    """Fine lines on a face as large as its frame, which the restorer left as it is, behind `part` and `blend`."""
    side, size = 160, round(160 / frame_px)
    came = np.full((side, side, 3), 150.0)
    came[::9, :], came[:, ::9] = 60, 60
    came += noise * np.random.default_rng(3).normal(size=(side, side, 3))
    frame, scale = Frame.from_image(came.clip(0, 255).astype(np.uint8)), size / side
    matrix = np.array([[scale, 0.0, (scale - 1) / 2], [0.0, scale, (scale - 1) / 2]])
    small = torch.from_numpy(geometry.cut(frame.image, matrix, size).transpose(2, 0, 1) / 127.5 - 1).clamp(-1, 1)
    source = of(RestoredFace(FaceCrop(TrackedFace(0, NOWHERE), frame, small, matrix), small, torch.ones(1, size, size)))
    if part is not None:
        part.larger = 2 * size
    faces = [source] if part is None else enlarge([source], part)
    return next(blend(faces, detail=detail, match_color=False)).image.astype(float)[8:-8, 8:-8]


@pytest.mark.parametrize(("detail", "noise"), [(1.0, 0.0), (0.0, 0.0), (0.5, 0.0), (1.0, 12.0), (0.0, 12.0)])
def test_where_a_face_becomes_a_close_up_the_picture_has_no_step(detail: float, noise: float) -> None:
    step = shown(detail, noise, Keeps()) - shown(detail, noise, None)
    assert step.std() < 0.6, "it was 4 to 12"


def test_the_frames_own_detail_comes_back_to_the_pixel() -> None:
    shown = next(enlarge([of(face(0.25))], Adds()))
    (frame,) = blend([shown], match_color=False)
    assert frame.patches
    difference = np.abs(frame.image.astype(int) - frame.source.astype(int))
    assert difference.max() <= 1, "nothing was changed but the resolution"


@pytest.mark.parametrize("scale", [0.9, 1.0, 3.0])
def test_a_face_that_is_no_larger_than_its_crop_stays_as_it_is(scale: float) -> None:
    part, source = Adds(), of(face(scale))
    assert next(enlarge([source], part)) is source and not part.asked


def test_nothing_is_made_of_a_face_of_which_nothing_is_shown() -> None:
    part, source = Adds(), of(face(0.25, confidence=0.0))
    assert next(enlarge([source], part)) is source and not part.asked


def test_every_frame_and_every_face_comes_out_in_order() -> None:
    source = [of(face(0.25, 0), face(1.0, 0, 1)), Faces(Frame.from_image(picture(), 1), looked=False), of(face(0.3, 2))]
    out = list(enlarge(source, Adds()))
    assert [one.frame for one in out] == [one.frame for one in source]
    assert [one.crop.face.track for one in out[0].faces] == [0, 1]
    assert out[0].faces[1] is source[0].faces[1] and not out[1].looked


class Gives(Adds):
    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result

    def enlarge(self, crops: Tensor, restored: Tensor) -> Tensor:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "the restorer gave"),
        (torch.full((1, 3, 64, 64), 128, dtype=torch.uint8), r"the restorer gave torch.uint8, expected floats in \[-1, 1\]"),
        (torch.zeros(1, 3, SIDE, SIDE), r"the restorer gave \(1, 3, 32, 32\), expected \(1, 3, 64, 64\)"),
        (ValueError("no"), "the restorer raised ValueError: no"),
    ],
)
def test_what_is_no_larger_face_stops_the_run_or_leaves_the_face_as_it_is(result: object, said: str) -> None:
    with pytest.raises(RestorationError, match=said):
        list(enlarge([of(face(0.25, 3))], Gives(result)))
    warnings: list[str] = []
    source = [of(face(0.25, index, 5)) for index in (3, 4)]
    out = list(enlarge(source, Gives(result), "keep", warnings))
    assert [one.faces for one in out] == [one.faces for one in source]
    assert len(warnings) == 1 and warnings[0].startswith("track 5: face(s) without the detail of a close-up, first in frame 3: ")


def test_values_of_another_range_are_cut_off_and_told_once() -> None:
    warnings = ["the restorer gives values beyond [-1, 1], up to 3 in frame 0, track 0: they are cut off, so scale them"]
    out = list(enlarge([of(face(0.25, index)) for index in (3, 4)], Gives(torch.full((1, 3, 64, 64), 200.0)), warnings=warnings))
    assert all(float(one.faces[0].image.max()) == 1 for one in out)
    told = "the restorer's `enlarge` gives values beyond [-1, 1], up to 200 in frame 3, track 0: they are cut off, so scale them"
    assert warnings[1:] == [told], "what it made of the faces before is another matter"


def test_values_that_are_not_finite_never_reach_the_picture() -> None:
    bad = torch.zeros(1, 3, 64, 64)
    bad[0, 0, 5, 5] = float("nan")
    warnings: list[str] = []
    source = of(face(0.25))
    assert next(enlarge([source], Gives(bad), warnings=warnings)).faces == source.faces
    assert len(warnings) == 1 and "NaN" in warnings[0]
    assert issubclass(NotFiniteError, RestorationError)


def test_what_reduced_precision_cannot_do_is_asked_of_the_exact_one() -> None:
    class Reduced(Gives):
        exact = Adds(0.125)

    source = of(face(0.25))
    (one,) = next(enlarge([source], Reduced(torch.full((1, 3, 64, 64), float("inf"))))).faces
    torch.testing.assert_close(one.image, one.crop.image + 0.125)


def test_where_the_exact_one_knows_no_close_ups_the_face_is_left_as_it_is() -> None:
    class Reduced(Gives):
        exact = object()

    warnings: list[str] = []
    source = of(face(0.25))
    assert next(enlarge([source], Reduced(torch.full((1, 3, 64, 64), float("nan"))), warnings=warnings)).faces == source.faces
    assert len(warnings) == 1 and "NaN" in warnings[0]


def test_a_restorer_that_changes_what_it_looks_at_is_named() -> None:
    class Halves(Adds):
        def enlarge(self, crops: Tensor, restored: Tensor) -> Tensor:
            restored *= 0.5
            return crops

    source = of(face(0.25, image=torch.ones(3, SIDE, SIDE)))
    with pytest.raises(RestorationError, match=r"the restorer changed its faces in place, "):
        list(enlarge([source], Halves()))


@pytest.mark.parametrize("after", [None, ValueError("no")])
def test_a_face_that_a_failing_restorer_changed_is_shown_as_it_was(after: Exception | None) -> None:
    class Spoils(Adds):
        def enlarge(self, crops: Tensor, restored: Tensor) -> Tensor:
            restored.fill_(torch.nan)
            if after is not None:
                raise after
            return crops

    warnings: list[str] = []
    source = of(face(0.25, image=torch.ones(3, SIDE, SIDE)))
    (left,) = next(enlarge([source], Spoils(), "keep", warnings)).faces
    assert left.smaller is None and torch.equal(left.image, torch.ones(3, SIDE, SIDE)) and len(warnings) == 1
