from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoclr.grain import flat_places, made, measured

ALL = np.ones((200, 180), np.float32)


def scene() -> np.ndarray:
    """`(200, 180, 3)`: a smooth ramp with a few hard shapes."""
    y, x = np.mgrid[0:200, 0:180].astype(np.float32)
    image = (0.2 * np.sin(x / 60) + 0.1 * y / 200)[..., None].repeat(3, axis=2)
    cv2.rectangle(image, (30, 40), (70, 60), (-0.6, -0.6, -0.6), -1)
    cv2.circle(image, (120, 120), 20, (0.8, 0.7, 0.6), 4)
    return image


def noise(coarse: float, level: float, grey: bool = False, seed: int = 0) -> np.ndarray:
    fields = np.random.default_rng(seed).standard_normal((200, 180, 1 if grey else 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(fields, (0, 0), coarse).reshape(200, 180, -1) if coarse else fields
    return (blurred / blurred.std() * level).astype(np.float32) * np.ones(3, np.float32)


def seen(picture: np.ndarray):
    grain = measured(picture, flat_places(scene(), ALL))
    assert grain is not None
    return grain


@pytest.mark.parametrize("coarse", [0.0, 0.8])
@pytest.mark.parametrize("level", [0.02, 0.08])
def test_level_and_coarseness_of_what_is_made_are_those_of_what_was_seen(coarse, level):
    before = seen(scene() + noise(coarse, level))
    after = seen(scene() + made(before, 200, 180, np.random.default_rng(1)))
    assert before.level == pytest.approx(level, rel=0.25)  # a blur takes the lowest frequencies along
    assert after.level == pytest.approx(before.level, rel=0.12)
    middle = before.correlation.shape[0] // 2
    for dx, dy in ((1, 0), (0, 1), (1, 1), (2, 0)):
        assert after.correlation[middle + dy, middle + dx] == pytest.approx(before.correlation[middle + dy, middle + dx], abs=0.1)


def test_grey_grain_stays_grey_and_coloured_grain_coloured():
    def likeness(grain):
        return grain.covariance[0, 1] / grain.covariance[0, 0]

    for grey, expected in ((True, 1.0), (False, 0.0)):
        again = seen(scene() + made(seen(scene() + noise(0.5, 0.05, grey)), 200, 180, np.random.default_rng(2)))
        assert likeness(again) == pytest.approx(expected, abs=0.1)


def test_edges_are_no_grain():
    assert seen(scene()).level < 0.002


def test_the_same_seed_gives_the_same_grain():
    grain = seen(scene() + noise(0.5, 0.05))
    one, same, other = (made(grain, 31, 20, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert one.shape == (31, 20, 3) and one.dtype == np.float32
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_too_little_to_go_by_is_no_grain():
    assert measured(scene(), flat_places(scene(), np.zeros_like(ALL))) is None
    flat = np.full((20, 20, 3), 0.3, np.float32)
    assert measured(flat, flat_places(flat, np.ones((20, 20), np.float32))).level == 0
