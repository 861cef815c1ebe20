from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoclr.grain import calmed, cored, fine_noise, flat_places, made, measured, noisiness

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


def smooth(side=96):
    """A picture of slow waves, `(side, side, 3)` in [-1, 1]."""
    x = np.linspace(0, 7, side, dtype=np.float32)
    return np.stack([0.6 * np.sin(x[:, None] + k) * np.cos(x[None, :] - k) for k in range(3)], -1).astype(np.float32)


@pytest.mark.parametrize("level", [5, 20, 60])
def test_fine_noise_is_told_as_a_share_of_white(level):
    noise = np.random.default_rng(0).normal(0, 2 * level / 255, (96, 96, 3))
    assert fine_noise((smooth() + noise).astype(np.float32)) == pytest.approx(level / 255, rel=0.1)
    assert fine_noise(smooth()) < 0.1 / 255
    assert fine_noise(np.full((96, 96, 3), -1, np.float32)) == 0


def test_texture_beside_calm_places_and_what_is_cut_off_say_nothing_of_noise():
    picture = smooth() + np.random.default_rng(0).normal(0, 2 * 10 / 255, (96, 96, 3)).astype(np.float32)
    picture[:30] = -1
    assert fine_noise(picture) == pytest.approx(10 / 255, rel=0.1)
    picture = smooth()
    picture[:, :60:2] += 0.3
    assert fine_noise(picture) < 2 / 255


def test_pictures_without_fine_noise_stay_as_they_are():
    rng = np.random.default_rng(1)
    soft = smooth() + 2 * cv2.GaussianBlur(rng.normal(0, 0.1, (96, 96, 3)), (0, 0), 2.0)
    for picture in (smooth(), soft.astype(np.float32)):
        assert calmed(picture) is picture


def test_noise_is_calmed_the_more_the_stronger_it_is_and_nothing_jumps():
    noise = np.random.default_rng(2).normal(0, 1, (96, 96, 3))
    left, errors = [], []
    for level in np.linspace(1, 40, 79) * 2 / 255:
        picture = (smooth() + level * noise).astype(np.float32)
        calm = calmed(picture)
        left.append(float((calm - smooth()).std()) / level)
        errors.append((float(np.abs(calm - smooth()).mean()), float(np.abs(picture - smooth()).mean())))
    assert left[0] == pytest.approx(1, abs=0.01) and left[-1] < 0.3
    assert max(np.diff(left)) < 0.01 and min(np.diff(left)) > -0.2, "less and less of it is left"
    assert all(now <= before for now, before in errors)


def test_of_detail_the_noise_goes_and_what_is_stronger_stays():
    noise = np.random.default_rng(4).normal(0, 20 / 255, (96, 96, 3)).astype(np.float32)
    stroke = np.zeros((96, 96, 3), np.float32)
    stroke[:, 46:48], stroke[:, 48:50] = 0.8, -0.8
    picture = smooth() + noise
    assert noisiness(fine_noise(picture)) == 1 and noisiness(fine_noise(smooth())) == 0
    kept = cored(noise + stroke, fine_noise(picture + stroke))
    flat = np.abs(np.arange(96) - 47.5) > 12
    assert kept[:, flat].std() < 0.25 * noise.std()
    drawn = stroke.any(axis=(0, 2))
    assert np.abs(kept[:, drawn]).mean() > 0.9 * 0.8
    assert cored(stroke, fine_noise(smooth())) is stroke, "without noise all of it is detail"
