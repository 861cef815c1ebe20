from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from videoclr import geometry
from videoclr.parts.feather import Feather
from videoclr.pixels import normalized, peak, to_tensor
from videoclr.stages.blend import as_colourful, blend, color_shift, colour_of
from videoclr.types import Detection, FaceCrop, Faces, Frame, RestoredFace, TrackedFace

FACE = np.array([[-20, -20], [20, -20], [0, 5], [-15, 25], [15, 25]], np.float64)
S = 64


def picture(dtype: type = np.uint8) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 1, (180, 240, 3)).astype(np.float32)
    image = cv2.GaussianBlur(noise, (0, 0), 5)
    image = (image - image.min()) / (image.max() - image.min())
    return np.rint((0.2 + 0.6 * image) * np.iinfo(dtype).max).astype(dtype)


def restored(
    frame: Frame, place: tuple[float, float] = (120, 90), scale: float = 1.0, add: float = 0.0, confidence: float = 1.0
) -> RestoredFace:
    """The face at `place` as it is, plus `add`."""
    matrix = geometry.ffhq_matrix(FACE * scale + place, S)
    image = to_tensor(normalized(geometry.cut(frame.image, matrix, S), peak(frame.image.dtype)))
    face = TrackedFace(0, Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 1.0))
    crop = FaceCrop(face, frame, image, matrix)
    mask = Feather().mask([crop], image[None])[0]
    return RestoredFace(crop, (image + add).clamp(-1, 1), mask, confidence=confidence)


def blended(frame: Frame, *faces: RestoredFace, strength: float = 1.0, match_color: bool = False) -> Frame:
    (result,) = blend([Faces(frame, faces)], strength, match_color)
    return result


def test_without_faces_or_strength_the_frame_is_the_same_object() -> None:
    frame = Frame.from_image(picture())
    assert blended(frame) is frame
    assert all(blended(frame, restored(frame, add=0.3), strength=0, match_color=one) is frame for one in (False, True))
    assert blended(frame, restored(frame, add=0.3, confidence=0)) is frame


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_outside_the_mask_nothing_changes_and_inside_it_does(dtype: type) -> None:
    frame = Frame.from_image(picture(dtype))
    face = restored(frame, add=0.4)
    result = blended(frame, face)
    assert result.image.dtype == dtype and result.patches[0].rgb.dtype == dtype
    assert result.patches[0].alpha.dtype == np.float32
    changed = (result.image != frame.image).any(-1)
    y, x = np.mgrid[0:180, 0:240]
    at = geometry.moved(np.stack([x, y], -1), face.crop.matrix)
    ellipse = np.hypot((at[..., 0] + 0.5 - 0.5 * S) / (0.45 * S), (at[..., 1] + 0.5 - 0.55 * S) / (0.43 * S))
    assert not changed[ellipse > 1.05].any()
    assert changed[ellipse < 0.6].all()
    assert result.index == frame.index and result.time == frame.time


@pytest.mark.parametrize("scale", [0.15, 0.4, 1.0])
def test_an_unchanged_face_leaves_the_picture_as_it_was(scale: float) -> None:
    frame = Frame.from_image(picture())
    result = blended(frame, restored(frame, scale=scale), match_color=True)
    difference = np.abs(result.image.astype(int) - frame.image)
    assert len(result.patches) == 1
    assert difference.mean() < 0.5 and difference.max() <= 6


def test_strength_and_confidence_thin_the_patch() -> None:
    frame = Frame.from_image(picture())
    full = blended(frame, restored(frame)).patches[0].alpha
    half = blended(frame, restored(frame, confidence=0.5), strength=0.5).patches[0].alpha
    assert full.max() == pytest.approx(1) and half.max() == pytest.approx(0.25)
    face = restored(frame)
    for strength in (0.3, 0.0):
        asked = replace(face, crop=replace(face.crop, face=replace(face.crop.face, strength=strength)))
        shown = blended(frame, asked)
        assert shown is frame if strength == 0 else shown.patches[0].alpha.max() == pytest.approx(0.3)


def test_the_colour_of_the_input_comes_back_and_its_detail_does_not() -> None:
    frame = Frame.from_image(picture())
    tinted = restored(frame, add=0.4)
    plain = blended(frame, tinted)
    matched = blended(frame, tinted, match_color=True)
    error = [np.abs(one.image.astype(int) - frame.image).mean() for one in (plain, matched)]
    assert error[1] < 0.1 * error[0]
    stripes = np.zeros((S, S, 3), np.float32)
    stripes[:, ::2] = 0.2
    mask = np.ones((S, S), np.float32)
    shift = color_shift(np.zeros_like(stripes), stripes, mask)
    np.testing.assert_allclose(shift, -0.1, atol=0.01)  # the mean goes, the stripes stay


def test_what_lies_outside_the_mask_does_not_shine_into_the_face() -> None:
    mask = np.zeros((S, S), np.float32)
    mask[16:48, 16:48] = 1
    target = np.where(mask[..., None] > 0, 0.0, 1.0).astype(np.float32).repeat(3, axis=2)
    shift = color_shift(target, np.zeros_like(target), mask)
    assert np.abs(shift[16:48, 16:48]).max() < 1e-5


@pytest.mark.parametrize("place", [(0, 90), (239, 90), (120, 0), (120, 179), (2, 2)])
def test_a_face_half_outside_stays_inside_the_frame(place: tuple[float, float]) -> None:
    frame = Frame.from_image(picture())
    result = blended(frame, restored(frame, place, add=0.4), match_color=True)
    (patch,) = result.patches
    height, width = patch.alpha.shape
    assert patch.x >= 0 and patch.y >= 0 and patch.x + width <= 240 and patch.y + height <= 180
    assert result.image.shape == frame.image.shape


@pytest.mark.parametrize("side", range(4))
def test_black_bars_beside_a_face_that_they_cut_stay_black(side: int) -> None:
    image = picture()
    bar = np.rot90(image, side)[: 84 if side % 2 else 60]  # a view: on top, and turned by quarters
    bar[:] = np.random.default_rng(1).integers(0, 4, bar.shape)
    frame = Frame.from_image(image)
    shown = blended(frame, restored(frame, scale=1.5, add=0.4))
    change = np.rot90(np.abs(shown.image.astype(int) - image).max(-1), side)
    assert not change[: len(bar)].any() and change[len(bar) + 2].any()
    beside = change[len(bar) : len(bar) + 7].mean(1)  # a face comes in over a few lines: no seam along the bar
    assert beside[0] < 0.3 * beside[6] and (np.diff(beside[:5]) > 0).all()


def test_what_is_black_within_the_picture_is_no_bar() -> None:
    image = picture()
    image[40:60] = image[:60, 100:140] = 0
    frame = Frame.from_image(image)
    changed = (blended(frame, restored(frame, scale=1.5, add=0.4)).image != image).any(-1)
    assert changed[42:58, 110:130].all()


def test_a_face_outside_the_frame_leaves_no_patch() -> None:
    frame = Frame.from_image(picture())
    assert blended(frame, restored(frame, (1000, 90))) is frame


def test_patches_lie_over_one_another_in_order() -> None:
    frame = Frame.from_image(picture())
    dark, light = restored(frame, add=-1.9), restored(frame, add=1.9)
    assert blended(frame, dark, light).image[95, 120].min() > 240
    assert blended(frame, light, dark).image[95, 120].max() < 15


def test_a_patch_is_no_larger_than_what_it_shows() -> None:
    frame = Frame.from_image(picture())
    (patch,) = blended(frame, restored(frame)).patches
    assert patch.alpha.any(0).all() and patch.alpha.any(1).all()
    assert torch.is_tensor(restored(frame).mask)


def drawn() -> np.ndarray:
    """`(400, 400, 3)`: a smooth ground with lines of a pixel or two all over it."""
    image = cv2.resize(picture(), (400, 400), interpolation=cv2.INTER_CUBIC)
    for x, y, u, v in np.random.default_rng(5).integers(0, 400, (60, 4)).tolist():
        cv2.line(image, (x, y), (u, v), (250, 240, 230) if x < 200 else (5, 10, 20), 1 + x % 2)
    return image


def test_a_close_up_keeps_the_detail_that_its_crop_cannot_hold() -> None:
    frame = Frame.from_image(drawn())
    face = restored(frame, (200, 180), scale=4.0)
    assert geometry.scale_of(face.crop.matrix) < 0.5
    (kept,), (lost,) = (list(blend([Faces(frame, (face,))], 1.0, False, detail)) for detail in (1.0, 0.0))
    inside = np.s_[150:250, 150:250]
    assert np.abs(kept.image[inside].astype(int) - frame.image[inside]).max() <= 2
    assert np.abs(lost.image[inside].astype(int) - frame.image[inside]).mean() > 8


def test_noise_of_a_close_up_is_no_detail_and_comes_back_as_grain() -> None:
    smooth = cv2.resize(picture(), (400, 400), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(6).normal(0, 12, smooth.shape)
    lines = drawn().astype(np.float32) - smooth
    frame, quiet = (Frame.from_image((smooth + lines + n).clip(0, 255).astype(np.uint8)) for n in (noise, 0 * noise))
    face, wanted = (restored(one, (200, 180), scale=4.0) for one in (frame, quiet))
    face = replace(face, image=wanted.image)  # a restoration without the noise
    (plain,), (grainy,) = (list(blend([Faces(frame, (face,))], 1.0, False, 1.0, grain)) for grain in (0.0, 1.0))
    inside = np.s_[150:250, 150:250]
    left, before, again = (np.abs(one.image[inside].astype(float) - quiet.image[inside]).mean() for one in (plain, frame, grainy))
    assert left < before
    ground = np.abs(lines[inside]).max(-1) == 0
    ground = cv2.erode(ground.astype(np.uint8), np.ones((13, 13))) > 0
    assert ground.sum() > 50
    assert np.abs(plain.image[inside].astype(float) - quiet.image[inside])[ground].mean() < 0.35 * before
    assert again > 0.8 * before


def grainy(index: int = 0, level: float = 12.0, seed: int = 4) -> Frame:
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(picture().astype(np.float32), (0, 0), 12)
    return Frame.from_image((smooth + rng.normal(0, level, smooth.shape)).clip(0, 255).astype(np.uint8), index)


def cleaned(frame: Frame, scale: float) -> RestoredFace:
    face = restored(frame, scale=scale)
    smooth = cv2.GaussianBlur(face.image.permute(1, 2, 0).numpy(), (0, 0), 4)
    return replace(face, image=to_tensor(smooth))


def noise_of(frame: Frame, place: tuple[int, int] = (94, 120), reach: int = 8) -> float:
    values = frame.image[place[0] - reach : place[0] + reach, place[1] - reach : place[1] + reach].astype(np.float32)
    return float((values - cv2.GaussianBlur(values, (0, 0), 2.0)).std())


@pytest.mark.parametrize("scale", [0.35, 1.0, 3.0])
def test_grain_brings_back_the_noise_that_the_film_has(scale: float) -> None:
    frame = grainy()
    face = cleaned(frame, scale)
    (clean,), (grained,) = (list(blend([Faces(frame, (face,))], grain=grain)) for grain in (0.0, 1.0))
    (half,) = blend([Faces(frame, (face,))], grain=0.5)
    if scale < 0.5:  # of a larger face the finest noise is kept in any case
        assert noise_of(clean) < 0.5 * noise_of(frame)
        assert noise_of(clean) < noise_of(half) < noise_of(grained)
    assert noise_of(grained) == pytest.approx(noise_of(frame), rel=0.2)


def test_no_grain_changes_nothing_and_a_clean_film_gets_none() -> None:
    frame = grainy()
    (zero,), (default,) = (list(blend([Faces(frame, (cleaned(frame, 1.0),))], **known)) for known in ({"grain": 0.0}, {}))
    assert np.array_equal(zero.image, default.image)
    smooth = grainy(level=0.0)
    (one,), (other,) = (list(blend([Faces(smooth, (cleaned(smooth, 1.0),))], grain=grain)) for grain in (0.0, 1.0))
    assert np.abs(one.image.astype(int) - other.image).max() <= 2


def test_grain_repeats_with_the_seed_and_differs_between_frames() -> None:
    def patch(index: int, seed: int) -> np.ndarray:
        frame = grainy(index)
        (out,) = blend([Faces(frame, (cleaned(frame, 1.0),))], grain=1.0, seed=seed)
        return out.patches[0].rgb

    assert np.array_equal(patch(0, 7), patch(0, 7))
    assert not np.array_equal(patch(0, 7), patch(0, 8)) and not np.array_equal(patch(0, 7), patch(1, 7))


def test_a_face_that_kept_its_noise_gets_little_more() -> None:
    frame = grainy()
    (out,) = blend([Faces(frame, (restored(frame),))], grain=1.0)
    assert noise_of(out) == pytest.approx(noise_of(frame), rel=0.2)


def test_exposure_and_tint_that_jump_from_frame_to_frame_do_not_show() -> None:
    means = []
    for index in range(6):
        frame = Frame.from_image(picture(), index)
        face = restored(frame, add=0.15 * (-1) ** index)
        tint = torch.tensor([0.1, -0.1, 0.05]).view(3, 1, 1) * (index % 3)
        (out,) = blend([Faces(frame, (replace(face, image=(face.image + tint).clamp(-1, 1)),))])
        means.append(out.image[85:110, 105:135].mean((0, 1)))
    assert np.ptp(means, axis=0).max() < 0.5  # of 255


def test_a_face_without_colour_stays_without_and_a_tint_is_kept_out_of_it() -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.uniform(-0.5, 0.5, (32, 32, 1)), 3, axis=2).astype(np.float32)
    mask, restored = np.ones((32, 32), np.float32), grey + rng.normal(0, 0.1, (32, 32, 3)).astype(np.float32)
    for target in (grey, grey + np.array([0.2, 0.1, -0.1], np.float32)):
        result = as_colourful(restored, colour_of(target, mask))
        assert np.ptp(result, axis=2).max() < 1e-6
        assert colour_of(target, 0.4 * mask) == colour_of(target, mask)  # half trusted, or as a whole
        assert result.mean(axis=2) == pytest.approx(restored.mean(axis=2), abs=1e-6)


def test_a_coloured_face_is_left_as_it_was_restored() -> None:
    coloured = np.random.default_rng(1).uniform(-0.5, 0.5, (32, 32, 3)).astype(np.float32)
    restored = coloured[::-1].copy()
    kept = colour_of(coloured, np.ones((32, 32), np.float32))
    assert np.array_equal(as_colourful(restored, kept), restored)


def pumping(amounts: list[float], shots: list[int] | None = None) -> list[Faces[RestoredFace]]:
    """Frames whose colour pumps by `amounts`, their restored faces steady; one track."""
    still = picture().astype(np.float32)
    made = []
    for index, amount in enumerate(amounts):
        frame = Frame.from_image(np.clip(still + amount, 0, 255).astype(np.uint8), index)
        frame = frame.in_shot((shots or [0] * len(amounts))[index], 0)
        face = restored(frame)
        steady = to_tensor(normalized(geometry.cut(picture(), face.crop.matrix, S), 255))
        made.append(Faces(frame, (replace(face, image=steady),)))
    return made


def middles(frames: list[Faces[RestoredFace]], steady: int) -> np.ndarray:
    """Brightness of the restored faces' middle."""
    return np.array([float(out.image[80:100, 110:130].mean()) for out in blend(frames, steady=steady)])


def test_colour_that_pumps_in_the_input_does_not_pump_on_the_face() -> None:
    frames = pumping([0, 6, 0, 6, 0, 6, 0, 6, 0, 6])
    single, steady = middles(frames, 0), middles(frames, 3)
    assert np.abs(np.diff(single)).min() > 4 and np.abs(np.diff(steady))[2:-2].max() <= 2
    assert steady.mean() == pytest.approx(single.mean(), abs=0.5)


def test_a_light_that_is_switched_on_is_followed_at_once_and_a_cut_is_no_neighbour() -> None:
    frames = pumping([0] * 5 + [40] * 5)
    assert np.abs(middles(frames, 3) - middles(frames, 0)).max() < 1
    cut = pumping([0] * 5 + [6] * 5, shots=[0] * 5 + [1] * 5)
    assert np.abs(middles(cut, 3) - middles(cut, 0)).max() < 0.5
