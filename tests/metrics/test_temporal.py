"""Temporal figures on motion that is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoclr.metrics.running import Following
from videoclr.metrics.temporal import (
    Motion,
    Seams,
    change_error,
    gain,
    jitter,
    landmark_distance,
    landmark_motion_error,
    motions,
    mouth_opening,
    ratio,
    seam_score,
    warp_errors,
)


def texture(side: int = 160) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=(side, side, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(128 + 400 * smooth, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def panning() -> list[np.ndarray]:
    """Four frames over which everything moves two pixels to the left per frame."""
    wide = texture()
    return [np.ascontiguousarray(wide[20:116, 2 * step : 2 * step + 96]) for step in range(4)]


def test_the_known_motion_is_found(panning: list[np.ndarray]) -> None:
    found = motions(panning)
    assert len(found) == 3
    inner = found[0].flow[16:-16, 16:-16]
    assert np.median(inner, axis=(0, 1)) == pytest.approx([-2, 0], abs=0.1)
    assert found[0].visible[16:-16, 16:-16].mean() > 0.95


def test_what_leaves_the_picture_is_not_measured(panning: list[np.ndarray]) -> None:
    assert not motions(panning)[0].visible[:, :1].any()


def test_a_moving_but_steady_clip_has_almost_no_warp_error(panning: list[np.ndarray]) -> None:
    still = motions([panning[0]] * 4)
    assert warp_errors(panning, motions(panning)).max() < 0.1 * warp_errors(panning, still).min()


def test_warp_error_of_flicker_is_its_square_times_a_thousand() -> None:
    grey = [np.full((32, 32, 3), value, np.float32) for value in (100.0, 125.5, 100.0)]
    nothing = [Motion(np.zeros((32, 32, 2), np.float32), np.ones((32, 32), bool))] * 2
    assert warp_errors(grey, nothing) == pytest.approx([10.0, 10.0], rel=1e-4)


def test_warp_error_looks_only_at_the_mask() -> None:
    first, second = np.zeros((32, 32, 3)), np.zeros((32, 32, 3))
    second[:, 16:] = 255
    nothing = [Motion(np.zeros((32, 32, 2), np.float32), np.ones((32, 32), bool))]
    mask = np.zeros((32, 32))
    mask[:, :8] = 1
    assert warp_errors([first, second], nothing, mask) == pytest.approx([0])
    assert warp_errors([first, second], nothing) == pytest.approx([500])


def test_where_nothing_is_visible_the_error_is_unknown() -> None:
    hidden = [Motion(np.zeros((8, 8, 2), np.float32), np.zeros((8, 8), bool))]
    assert np.isnan(warp_errors([np.zeros((8, 8, 3))] * 2, hidden)).all()


def test_motions_of_another_clip_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        warp_errors([np.zeros((8, 8, 3))] * 2, [])


def test_landmark_distance_is_in_pixels() -> None:
    clean = np.zeros((3, 5, 2))
    assert landmark_distance(clean + np.array([3, 4]), clean) == pytest.approx(5)


def test_landmark_motion_error_forgives_an_offset_and_not_a_tremble() -> None:
    clean = np.cumsum(np.ones((6, 5, 2)), axis=0)
    assert landmark_motion_error(clean + 9, clean) == pytest.approx(0)
    trembling = clean.copy()
    trembling[1::2, :, 0] += 1
    assert landmark_motion_error(trembling, clean) == pytest.approx(1)


def test_jitter_is_zero_in_uniform_motion_and_two_for_a_pixel_back_and_forth() -> None:
    uniform = np.arange(7.0)[:, None, None] * np.ones((1, 5, 2))
    assert jitter(uniform) == pytest.approx(0)
    shaking = uniform.copy()
    shaking[1::2, :, 0] += 1
    assert jitter(shaking) == pytest.approx(2)


def test_seam_score_is_one_without_seams_and_more_with_them() -> None:
    even = np.full(9, 2.0)
    assert seam_score(even, [3, 6]) == pytest.approx(1)
    seamed = even.copy()
    seamed[[3, 6]] = 6
    seamed[5] = np.nan
    assert seam_score(seamed, [3, 6]) == pytest.approx(3)


def test_seam_score_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="outside"):
        seam_score(np.ones(3), [3])
    with pytest.raises(ValueError, match="elsewhere"):
        seam_score(np.ones(3), [])


def test_seams_one_by_one_are_the_seams_of_the_list() -> None:
    values = [1.0, 4.0, np.nan, 2.0, 6.0, 1.0]
    seams = Seams()
    assert np.isnan(seams.score)
    for place, value in enumerate(values):
        seams.add(value, at_border=place in (1, 4))
    assert seams.score == pytest.approx(seam_score(np.array(values), [1, 4])) == pytest.approx(5 / (4 / 3))


def test_a_frozen_face_costs_as_much_change_as_a_flickering_one() -> None:
    assert change_error(0.0, 0.2) == change_error(0.4, 0.2) == pytest.approx(0.2)
    assert change_error(0.3, 0.3) == 0


def test_ratio_of_zeros_is_one_and_of_something_to_zero_infinite() -> None:
    assert ratio(0, 0) == 1
    assert ratio(1, 0) == float("inf")
    assert ratio(3, 2) == 1.5


def test_too_few_frames_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="two frames"):
        landmark_motion_error(np.zeros((1, 5, 2)), np.zeros((1, 5, 2)))
    with pytest.raises(ValueError, match="three frames"):
        jitter(np.zeros((2, 5, 2)))
    with pytest.raises(ValueError, match="differ in shape"):
        landmark_distance(np.zeros((2, 5, 2)), np.zeros((3, 5, 2)))
    with pytest.raises(ValueError, match="expected landmarks"):
        jitter(np.zeros((5, 2)))


def test_a_mouth_is_as_open_as_its_inner_lips_are_apart() -> None:
    points = np.random.default_rng(2).normal(0, 50, (68, 2))
    points[[67, 66, 65]] = points[[61, 62, 63]] + np.array([[0, 3], [0, 6], [0, 9]])
    assert mouth_opening(points) == pytest.approx(6)


def test_the_gain_is_that_of_all_tracks_together_by_how_much_they_move() -> None:
    lively, still = Following(), Following()
    for step in range(8):
        lively.add(5 * (step % 2), 10 * (step % 2))
        still.add(100, 50 + 0.1 * (step % 2))
    assert gain([lively, still]) == pytest.approx(0.5, abs=1e-3)
    assert np.isnan(gain([])) and np.isnan(gain([Following()]))
