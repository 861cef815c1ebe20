from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoclr import geometry

FACE = np.array([[100, 100], [140, 104], [121, 125], [104, 148], [136, 150]], np.float64)


def smooth(height: int, width: int, seed: int = 0, sigma: float = 6) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    image = cv2.GaussianBlur(noise, (0, 0), sigma)
    return (image - image.min()) / (image.max() - image.min()) * 255


def turned(points: np.ndarray, angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    return points @ np.array([[c, s], [-s, c]]) + shift


def test_ffhq_matrix_spans_the_published_quad() -> None:
    eyes, mouth = FACE[:2].mean(0), FACE[3:].mean(0)
    e2e, e2m = FACE[1] - FACE[0], mouth - eyes
    x = e2e - np.flipud(e2m) * [-1, 1]
    x /= np.hypot(*x)
    x *= max(np.hypot(*e2e) * 2.0, np.hypot(*e2m) * 1.8)
    y = np.flipud(x) * [-1, 1]
    c = eyes + e2m * 0.1
    quad = np.stack([c - x - y, c - x + y, c + x + y, c + x - y])
    corners = geometry.moved(quad, geometry.ffhq_matrix(FACE, 256))
    np.testing.assert_allclose(corners, [(-0.5, -0.5), (-0.5, 255.5), (255.5, 255.5), (255.5, -0.5)], atol=1e-9)


def test_alignment_undoes_turn_scale_and_place_and_never_mirrors() -> None:
    at_home = geometry.moved(FACE, geometry.ffhq_matrix(FACE, 256))
    moved = turned(FACE, 0.7, 2.3, (300, -40))
    np.testing.assert_allclose(geometry.moved(moved, geometry.ffhq_matrix(moved, 256)), at_home, atol=1e-8)
    assert at_home[0, 0] < at_home[1, 0] and at_home[0, 1] < at_home[3, 1]
    assert np.linalg.det(geometry.ffhq_matrix(FACE, 256)[:, :2]) > 0


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_landmarks_that_span_no_face_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no face"):
        geometry.ffhq_matrix(points, 256)


def test_a_crop_of_the_frame_itself_is_the_frame() -> None:
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(geometry.cut(image, identity, 32), image.astype(np.float32))


def test_a_pixel_lands_where_the_matrix_says() -> None:
    image = np.zeros((64, 64), np.float32)
    image[20, 40] = 1
    matrix = np.array([[1.0, 0, -30], [0, 1, -15]])
    crop = geometry.cut(image, matrix, 24)
    assert crop[5, 10] == 1 and crop.sum() == 1


@pytest.mark.parametrize("scale", [0.23, 0.5, 0.9, 1.0, 1.7, 4.0])
def test_a_ramp_keeps_its_place_at_every_scale(scale: float) -> None:
    """A shift of half a pixel at any reduction would show in a linear ramp at once."""
    y, x = np.mgrid[0:400, 0:400].astype(np.float32)
    points = turned(FACE - FACE.mean(0), 0.3, 1 / scale * 0.6, (200, 200))
    matrix = geometry.ffhq_matrix(points, 64)
    crop = geometry.cut(np.dstack([x, y]), matrix, 64)
    rows, columns = np.mgrid[0:64, 0:64]
    expected = geometry.moved(np.stack([columns, rows], -1), geometry.inverted(matrix))
    well_inside = np.all((expected > 30) & (expected < 369), axis=-1)
    assert well_inside.sum() > 100
    error = (crop - expected)[well_inside] * min(1.0, geometry.scale_of(matrix))
    assert np.abs(error).max() < 0.12  # OpenCV places samples on a grid of 1/32 pixel
    assert np.abs(error.mean(0)).max() < 0.02


def test_strong_reduction_averages_instead_of_skipping() -> None:
    checkers = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    matrix = np.array([[1 / 8, 0, -0.45], [0, 1 / 8, -0.43]])
    crop = geometry.cut(checkers, matrix, 60)
    assert np.abs(crop - 127.5).max() < 8


def test_there_and_back_gives_the_frame_inside_the_crop() -> None:
    image = smooth(240, 320)
    matrix = geometry.ffhq_matrix(turned(FACE - FACE.mean(0), 0.4, 0.8, (150, 120)), 256)
    rectangle = geometry.footprint(matrix, 256, 320, 240)
    x0, y0, x1, y1 = rectangle
    back = geometry.uncut(geometry.cut(image, matrix, 256), matrix, rectangle)
    shown = geometry.uncut(np.ones((256, 256), np.float32), matrix, rectangle, zero_outside=True) == 1
    assert shown.mean() > 0.4
    assert np.abs(back - image[y0:y1, x0:x1])[cv2.erode(shown.astype(np.uint8), np.ones((5, 5))) > 0].max() < 1.5


def test_footprint_holds_the_crop_and_stays_in_the_frame() -> None:
    matrix = geometry.ffhq_matrix(FACE, 64)
    x0, y0, x1, y1 = geometry.footprint(matrix, 64, 130, 120)
    assert (x0, y0) >= (0, 0) and (x1, y1) == (130, 120)
    everything = geometry.uncut(np.ones((64, 64), np.float32), matrix, (-200, -200, 400, 400), zero_outside=True)
    kept = np.argwhere(everything > 0) - 200
    inside = kept[(kept >= 0).all(1) & (kept[:, 0] < 120) & (kept[:, 1] < 130)]
    assert (inside.min(0) >= (y0, x0)).all() and (inside.max(0) < (y1, x1)).all()
    far = geometry.ffhq_matrix(FACE + 1000, 64)
    x0, y0, x1, y1 = geometry.footprint(far, 64, 130, 120)
    assert x0 >= x1 or y0 >= y1


def test_inside_tells_reflection_from_picture() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    matrix = np.array([[1.0, 0, 20], [0, 1, 0]])  # crop column 20 is frame column 0
    within = geometry.inside(matrix, 64, 100, 100)
    assert not within[:, :20].any() and within[:, 20:].all()
    image[:, :5] = 50
    crop = geometry.cut(image, matrix, 64)
    np.testing.assert_array_equal(crop[:, 20 - 4 : 20], crop[:, 21:25][:, ::-1])  # a mirror, no black border


@pytest.mark.parametrize("shift", [(-500.0, 0.0), (0.0, 700.0), (400.0, 400.0)])
def test_a_crop_outside_the_frame_is_cut_without_complaint(shift: tuple[float, float]) -> None:
    crop = geometry.cut(np.full((50, 60, 3), 9, np.uint8), geometry.ffhq_matrix(FACE + shift, 64), 64)
    np.testing.assert_allclose(crop, 9, atol=1e-3)


def test_masks_warped_back_never_leave_their_range() -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[10:50, 12:50] = 1
    matrix = geometry.ffhq_matrix(FACE, 64)
    warped = geometry.uncut(mask, matrix, geometry.footprint(matrix, 64, 300, 300), zero_outside=True)
    assert warped.min() == 0 and warped.max() == 1


@pytest.mark.parametrize("pixels", [25, 200])
def test_a_mask_that_ends_just_within_its_border_shows_nothing_outside_the_crop(pixels: float) -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[1:-1, 1:-1] = 1
    matrix = geometry.ffhq_matrix(turned(FACE - FACE.mean(0), 0.4, pixels / 100, (100, 100)), 64)
    warped = geometry.uncut(mask, matrix, (0, 0, 200, 200), zero_outside=True)
    rows, columns = np.mgrid[:200, :200]
    where = geometry.moved(np.stack([columns, rows], -1), matrix)
    outside = ((where < -0.5) | (where > 63.5)).any(-1)
    assert outside.any() and not warped[outside].any() and warped[~outside].any()


def shifted(image: np.ndarray, x: float, y: float) -> np.ndarray:
    matrix = np.array([[1.0, 0, x], [0, 1, y]])
    return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def test_flow_points_from_the_first_to_the_second_and_carry_brings_it_back() -> None:
    a = smooth(128, 128, sigma=3).astype(np.uint8)
    b = shifted(a, 5, -3)
    motion = geometry.flow(a, b)
    middle = (slice(24, 104), slice(24, 104))
    np.testing.assert_allclose(np.median(motion[middle], axis=(0, 1)), (5, -3), atol=0.3)
    carried = geometry.carry(b.astype(np.float32), motion)
    before = np.abs(b.astype(np.float32) - a)[middle].mean()
    assert np.abs(carried - a)[middle].mean() < 0.2 * before


def test_carry_takes_latents_of_many_channels() -> None:
    latent = np.random.default_rng(0).normal(size=(16, 16, 7)).astype(np.float32)
    motion = np.zeros((16, 16, 2), np.float32)
    motion[..., 0] = 2
    np.testing.assert_allclose(geometry.carry(latent, motion)[:, :-2], latent[:, 2:], atol=1e-6)


def test_flow_at_another_size_scales_its_vectors() -> None:
    motion = np.full((64, 64, 2), (8, -4), np.float32)
    np.testing.assert_allclose(geometry.flow_at(motion, 16), np.full((16, 16, 2), (2, -1)), atol=1e-6)


def test_consistency_trusts_agreement_and_doubts_the_rest() -> None:
    forward = np.full((32, 32, 2), (4, 0), np.float32)
    good = geometry.consistency(forward, -forward)
    assert good[:, :27].min() > 0.99
    assert good[:, 29:].max() == 0  # leaves the image
    assert geometry.consistency(forward, forward)[:, :27].max() < 0.01


@pytest.mark.parametrize("shift", [(0, 0), (-30, 11), (35, 40), (400, 0)])
@pytest.mark.parametrize("size", [16, 64, 300])
def test_a_crop_of_the_window_in_reach_is_the_crop_of_the_frame(shift, size):
    image = np.random.default_rng(0).integers(0, 65536, (90, 120, 3)).astype(np.uint16)
    matrix = geometry.ffhq_matrix(FACE + shift, size)
    x0, y0, x1, y1 = rectangle = geometry.reach(matrix, size, 120, 90)
    assert 0 <= x0 < x1 <= 120
    assert 0 <= y0 < y1 <= 90
    whole = geometry.cut(image, matrix, size)
    np.testing.assert_array_equal(geometry.cut_window(image[y0:y1, x0:x1], rectangle, matrix, size), whole)


def test_a_mask_that_ends_within_its_crop_is_nothing_outside_though_the_face_is_small() -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[1:-1, 1:-1] = 1
    matrix = np.array([[5.0, 1.0, -90.0], [-1.0, 5.0, -60.0]])  # five pixels of the crop for one of the frame
    alpha = geometry.uncut(mask, matrix, (10, 5, 45, 40), zero_outside=True)
    rows, columns = np.mgrid[5:40, 10:45]
    x, y = matrix @ np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)])
    inside = ((x > -0.5) & (x < 63.5) & (y > -0.5) & (y < 63.5)).reshape(rows.shape)
    assert alpha.max() == 1 and not alpha[~inside].any()


HEAD = np.array(geometry.FFHQ_POINTS) * 200 + np.array([-60, 10])


def test_landmarks_that_the_frame_cuts_off_are_where_the_others_say() -> None:
    for angle, size in ((0.0, 1.0), (0.3, 0.8), (-0.4, 1.3)):
        true = turned(HEAD - HEAD[1], angle, size, (40, 90))
        outside = true[:, 0] < 0
        assert 0 < outside.sum() <= 3
        guessed = true + outside[:, None] * np.array([-45.0, 5.0])
        assert np.abs(geometry.completed(guessed, 160 * size, (320, 240)) - true).max() < 1
        true, guessed = ((points * (-1, 1) + np.array([319, 0]))[[1, 0, 2, 4, 3]] for points in (true, guessed))
        assert np.abs(geometry.completed(guessed, 160 * size, (320, 240)) - true).max() < 1  # at the border on the right


def test_landmarks_within_the_frame_stay_and_so_do_those_of_which_hardly_any_is() -> None:
    inside = HEAD + np.array([80, 0])
    assert np.array_equal(geometry.completed(inside, 160, (320, 240)), inside.astype(np.float32))
    far = HEAD - np.array([140, 0])
    assert np.array_equal(geometry.completed(far, 160, (320, 240)), far.astype(np.float32))
    rest = geometry.completed(np.zeros((5, 2)) - 3, 0, (320, 240))
    assert np.isfinite(rest).all()  # a box without a height


def test_a_landmark_that_leaves_the_frame_is_replaced_by_and_by() -> None:
    wrong = np.array([[-12.0, 4.0], [0, 0], [0, 0], [0, 0], [0, 0]])
    moves = np.arange(20, -40, -0.5)
    places = [geometry.completed(HEAD + wrong + np.array([move, 0]), 160, (320, 240))[0, 0] - move for move in moves]
    assert max(np.abs(np.diff(places))) < 1.5 and places[0] == pytest.approx(HEAD[0, 0] - 12, abs=1e-3)
    assert places[-1] == pytest.approx(HEAD[0, 0], abs=1)


def test_the_edges_of_a_crop_at_another_scale_lie_where_they_did():
    matrix = geometry.ffhq_matrix(np.array([[50, 60], [82, 62], [66, 80], [55, 95], [78, 96]]), 32)
    larger = geometry.at_scale(matrix, 2)
    for corner in ((-0.5, -0.5), (31.5, -0.5), (32 / 3, 16.0)):
        there = geometry.moved(np.array(corner), geometry.inverted(matrix))
        expected = (np.array(corner) + 0.5) * 2 - 0.5
        np.testing.assert_allclose(geometry.moved(there, larger), expected, atol=1e-9)
