"""Drawn faces: what can be told of them without a network."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoclr import appearance, geometry

S = 256
POINTS = np.array([[0.385, 0.47], [0.615, 0.47], [0.5, 0.6], [0.405, 0.71], [0.595, 0.71]]) * S


def drawn(opening: float = 1.0, gaze: float = 0.0) -> np.ndarray:
    """`(S, S)` luma of a face with eyes as open as `opening`, looking aside by `gaze` of an iris."""
    image = np.full((S, S), 0.3, np.float32)
    for x, y in POINTS[:2]:
        half = (14, max(1, round(7 * opening)))
        white = np.zeros((S, S), np.uint8)
        cv2.ellipse(white, (round(x), round(y)), half, 0, 0, 360, 1, -1)
        iris = np.zeros((S, S), np.uint8)
        cv2.circle(iris, (round(x + 6 * gaze), round(y)), 6, 1, -1)
        image[white > 0] = 0.5
        image[(white & iris) > 0] = -0.8
        if half[1] <= 2:
            image[white > 0] = -0.6  # lashes
    cv2.ellipse(image, (round(S / 2), round(POINTS[3, 1])), (20, 5), 0, 0, 360, -0.3, -1)
    return cv2.GaussianBlur(image, (0, 0), 1.0)


def eye(luma: np.ndarray, place: str = "left") -> tuple[float, float]:
    return appearance.darkness(appearance.region(luma, POINTS, place), place)


@pytest.mark.parametrize("blur", [0.0, 2.0])
def test_an_open_eye_is_taller_than_a_closed_one(blur):
    def seen(opening):
        return eye(cv2.GaussianBlur(drawn(opening), (0, 0), blur) if blur else drawn(opening))[0]

    assert seen(1.0) > seen(0.6) > seen(0.1)
    assert seen(1.0) > 1.3 * seen(0.1)


def test_gaze_shows_as_the_place_of_the_dark_part():
    assert eye(drawn(gaze=-1))[1] < -0.05 < eye(drawn())[1] < 0.05 < eye(drawn(gaze=1))[1]


def test_a_region_of_one_brightness_has_no_dark_part():
    assert eye(np.zeros((S, S), np.float32), "mouth") == (0.0, 0.0)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_lengths_compare_across_sizes(scale):
    luma = cv2.resize(drawn(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    points = (POINTS + 0.5) * scale - 0.5
    assert appearance.darkness(appearance.region(luma, points, "right"), "right")[0] == pytest.approx(
        eye(drawn(), "right")[0], rel=0.1
    )


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
def test_yaw_of_a_turned_head(degrees):
    head = np.array([[-31.5, 0, 0], [31.5, 0, 0], [0, 40, 35], [-25, 65, 0], [25, 65, 0]])
    angle, tilt = np.radians(degrees), np.radians(20)
    seen = np.stack([head[:, 0] * np.cos(angle) + head[:, 2] * np.sin(angle), head[:, 1]], 1)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    assert appearance.yaw(seen @ turn.T * 3 + 100) == pytest.approx(degrees, abs=1)
    assert geometry.face_scale(seen) > 0


def test_edges_are_of_detail_and_hardly_of_noise():
    sharp = drawn()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 4)
    noisy = blurred + np.random.default_rng(0).normal(0, 0.02, sharp.shape).astype(np.float32)
    assert appearance.edges(sharp) > appearance.edges(noisy) > appearance.edges(blurred)
    assert appearance.edges(np.zeros((S, S), np.float32)) == 0
