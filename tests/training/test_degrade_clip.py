"""A degraded clip is reproducible, worse than the clean one, and changes slowly."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from videoclr.training.degrade_clip import RECIPES, Recipe, apply, degrade_clip, draw, drift, gaussian_kernel, worsen


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Twelve frames of a drifting texture, 96 x 112."""
    noise = np.random.default_rng(5).normal(size=(150, 170, 3))
    wide = np.clip(128 + 300 * cv2.GaussianBlur(noise, (0, 0), 2), 0, 255).astype(np.uint8)
    return np.stack([wide[step : step + 96, 2 * step : 2 * step + 112] for step in range(12)])


def error(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.mean((first.astype(float) - second) ** 2))


QUIET = Recipe((0.01, 0.01), (1, 1), (0, 0), drift=0, codecs={}, twice=0, chroma=0, tape=0, interlace=0, hold=0)


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_the_same_seed_makes_the_same_pixels(recipe: str, clip: np.ndarray) -> None:
    first, again = (degrade_clip(clip, 11, recipe) for _ in range(2))
    assert first.shape == clip.shape and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, degrade_clip(clip, 12, recipe))


def test_heavy_is_worse_than_mild(clip: np.ndarray) -> None:
    mild, heavy = (np.mean([error(degrade_clip(clip, seed, name), clip) for seed in range(4)]) for name in ("mild", "heavy"))
    assert heavy > 1.2 * mild > 0


def test_a_recipe_of_nothing_changes_nothing(clip: np.ndarray) -> None:
    assert np.abs(degrade_clip(clip, 0, QUIET).astype(int) - clip).max() <= 1


def test_blur_and_noise_drift_instead_of_flickering() -> None:
    plan = draw(200, (256, 256), 3, "heavy")
    for values in (plan.sigma[:, 0], plan.noise, plan.small[:, 0].astype(float)):
        assert np.ptp(values) > 0
        assert np.abs(np.diff(values)).max() <= 0.1 * values.max()


def test_parameters_scale_with_the_side_and_the_small_size_does_not() -> None:
    large, half = draw(5, (512, 512), 9, "heavy"), draw(5, (256, 256), 9, "heavy")
    assert half.sigma == pytest.approx(large.sigma / 2)
    assert np.array_equal(half.small, np.minimum(large.small, 256))


def test_drift_is_smooth_and_bounded() -> None:
    curve = drift(500, np.random.default_rng(0))
    assert curve.shape == (500,) and np.abs(curve).max() <= 2
    assert np.abs(np.diff(curve)).max() < 0.25
    assert curve.std() > 0.2


def test_drift_of_a_single_frame_exists() -> None:
    assert drift(1, np.random.default_rng(0)).shape == (1,)


def test_a_bad_codec_alone_leaves_visible_marks(clip: np.ndarray) -> None:
    without = degrade_clip(clip, 4, QUIET)
    recipe = replace(QUIET, codecs={"h264": 1.0}, badness=(1.0, 1.0))
    coded = degrade_clip(clip, 4, recipe)
    assert len(draw(12, (96, 112), 4, recipe).generations) == 1
    assert error(coded, clip) > 20 * error(without, clip) + 20


def test_two_generations_are_worse_than_one(clip: np.ndarray) -> None:
    twice = draw(12, (96, 112), 4, replace(QUIET, codecs={"mpeg2": 1.0}, badness=(0.5, 0.5), twice=1.0))
    once = replace(twice, generations=twice.generations[:1])
    assert len(twice.generations) == 2
    assert error(apply(clip, twice), clip) > error(apply(clip, once), clip)


def test_interlace_weaves_the_next_frames_odd_lines(clip: np.ndarray) -> None:
    plan = replace(draw(12, (96, 112), 1, QUIET), interlace=True)
    woven = np.stack(worsen(clip, plan)).astype(int)
    assert np.abs(woven[3, ::2] - clip[3, ::2]).max() <= 1
    assert np.abs(woven[3, 1::2] - clip[4, 1::2]).max() <= 1


def test_hold_repeats_frames_and_loses_none_in_number(clip: np.ndarray) -> None:
    held = worsen(clip, replace(draw(12, (96, 112), 1, QUIET), hold=3))
    assert len(held) == 12
    assert np.array_equal(held[3], held[5]) and not np.array_equal(held[5], held[6])


def test_chroma_moves_colour_and_keeps_luma() -> None:
    image = np.full((1, 64, 64, 3), 128, np.uint8)
    image[:, :, 32:] = (200, 90, 128)
    plan = draw(1, (64, 64), 0, QUIET)
    shifted = worsen(image, replace(plan, chroma=np.array([[6.0, 0.0, 0.5]])))[0].astype(float)
    weights = np.array([0.299, 0.587, 0.114])
    assert np.abs(shifted @ weights - image[0] @ weights).max() < 4
    assert np.abs(shifted[:, 34] - (200, 90, 128)).max() > 30


def test_tape_leaves_marks_in_every_frame(clip: np.ndarray) -> None:
    plan = replace(draw(12, (96, 112), 1, QUIET), tape=np.full(12, 1.0))
    assert min(error(worn, clean) for worn, clean in zip(worsen(clip, plan), clip, strict=True)) > 30


def test_a_tiny_picture_is_carried_by_a_larger_coded_one() -> None:
    plan = draw(4, (256, 256), 2, replace(QUIET, factor=(30, 30)))
    assert plan.small.max() <= 18 and min(plan.coded) == 48


def test_other_frame_rates_are_possible_with_mpeg2(clip: np.ndarray) -> None:
    plan = draw(12, (96, 112), 4, replace(QUIET, codecs={"mpeg2": 1.0}))
    assert apply(clip, plan, Fraction(12)).shape == clip.shape


def test_the_kernel_sums_to_one_and_is_longer_along_its_angle() -> None:
    kernel = gaussian_kernel(3, 1, 0)
    middle = kernel.shape[0] // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel[middle, middle + 3] > 5 * kernel[middle + 3, middle]


def test_wrong_arguments_are_refused(clip: np.ndarray) -> None:
    with pytest.raises(ValueError, match="mild"):
        degrade_clip(clip, 0, "terrible")
    with pytest.raises(ValueError, match="no images"):
        degrade_clip(clip[:0], 0)
    with pytest.raises(ValueError, match="plan for 5 frames"):
        apply(clip, draw(5, (96, 112), 0))
