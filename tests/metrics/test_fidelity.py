"""PSNR and SSIM against values known by hand, and against scikit-image where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from videoclr.metrics.fidelity import fidelity, luma, psnr, sharpness, ssim, ssim_map


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)


def test_psnr_of_an_error_of_one_code_value_is_48_13_db() -> None:
    clean = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(clean + np.uint8(1), clean) == pytest.approx(20 * math.log10(255))


def test_psnr_of_white_against_black_is_zero_and_of_equals_infinite() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert psnr(white, black) == pytest.approx(0)
    assert psnr(black, black) == math.inf


def test_psnr_does_not_wrap_around_in_unsigned_bytes() -> None:
    low, high = np.zeros((4, 4), np.uint8), np.full((4, 4), 10, np.uint8)
    assert psnr(low, high) == pytest.approx(psnr(high, low)) == pytest.approx(10 * math.log10(255**2 / 100))


def test_psnr_of_sixteen_bits_uses_its_own_peak() -> None:
    clean = np.full((4, 4, 3), 30000, np.uint16)
    assert psnr(clean + np.uint16(257), clean, peak=65535) == pytest.approx(20 * math.log10(255))


def test_mask_decides_which_pixels_count(picture: np.ndarray) -> None:
    broken = picture.copy()
    broken[:, 30:] = 0
    mask = np.zeros(picture.shape[:2])
    mask[:, :20] = 1
    assert psnr(broken, picture, mask) == math.inf
    assert ssim(broken, picture, mask) == pytest.approx(1)
    assert psnr(broken, picture, 1 - mask) < psnr(broken, picture) < 20


def test_luma_of_primaries_is_bt601_studio_range() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma(colours)[0] == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-3)


def test_ssim_of_flat_pictures_is_the_luminance_term_alone() -> None:
    first, second = np.full((16, 16), 100.0), np.full((16, 16), 120.0)
    c1 = (0.01 * 255) ** 2
    assert ssim(first, second) == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1))


def test_ssim_of_equals_is_one_and_of_a_negative_is_negative(picture: np.ndarray) -> None:
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(255 - picture, picture) < -0.5


def test_ssim_map_holds_one_value_per_full_window(picture: np.ndarray) -> None:
    assert ssim_map(picture, picture).shape == (30, 38, 3)


def test_ssim_agrees_with_scikit_image(picture: np.ndarray) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 25, picture.shape), 0, 255).astype(np.uint8)
    theirs = metrics.structural_similarity(
        noisy, picture, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert ssim(noisy, picture) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_wrong_shapes_and_empty_masks_are_refused(measure, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        measure(picture[1:], picture)
    with pytest.raises(ValueError, match="empty"):
        measure(picture, picture, np.zeros(picture.shape[:2]))
    with pytest.raises(ValueError, match="does not fit"):
        measure(picture, picture, np.ones((20, 20)))


def test_ssim_refuses_pictures_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="at least 11"):
        ssim(np.zeros((10, 20)), np.zeros((10, 20)))


def test_all_four_figures_are_those_of_their_own_functions(picture: np.ndarray) -> None:
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 25, picture.shape), 0, 255).astype(np.uint8)
    mask = np.zeros(picture.shape[:2])
    mask[10:30, 10:30] = 1
    found = fidelity(noisy, picture, mask)
    assert found["psnr"] == psnr(noisy, picture, mask) and found["ssim"] == ssim(noisy, picture, mask)
    assert found["psnr_y"] == psnr(luma(noisy), luma(picture), mask)
    assert found["ssim_y"] == ssim(luma(noisy), luma(picture), mask)


def test_a_flat_picture_has_no_sharpness_and_a_checkerboard_a_known_one() -> None:
    assert sharpness(np.full((16, 16, 3), 90, np.uint8)) == 0
    board = np.indices((16, 16)).sum(0) % 2 * 10
    # every pixel differs by 10 from its four neighbours: the Laplacian is +-40
    assert sharpness(np.repeat(board[..., None], 3, axis=2).astype(np.uint8)) == pytest.approx(1600)
