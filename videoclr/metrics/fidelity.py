"""PSNR and SSIM between a restored picture and its clean twin, and how sharp a picture is.

Pictures are `(H, W)` or `(H, W, C)` arrays in code values 0..`peak`. A mask is `(H, W)`, 0..1, and weighs pixels.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[Any]
_WINDOW = 11
_SIGMA = 1.5


def luma(image: Picture) -> NDArray[np.float64]:
    """Y of BT.601 in the studio range: `(H, W, 3)` RGB 0..255 to `(H, W)` float64 16..235.

    This is the Y on which super-resolution and face restoration papers report PSNR-Y and SSIM-Y.
    """
    red_green_blue = np.asarray(image, np.float64) / 255
    y: NDArray[np.float64] = 16 + red_green_blue @ np.array([65.481, 128.553, 24.966])
    return y


def psnr(restored: Picture, clean: Picture, mask: NDArray[Any] | None = None, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio, dB, over all channels together; `inf` where the pictures are equal.

    Raises:
        ValueError: different shapes, or an empty mask.
    """
    error = (_float(restored) - _same(restored, clean)) ** 2
    mean = _weighted_mean(error, mask)
    return math.inf if mean == 0 else 10 * math.log10(peak**2 / mean)


def ssim(restored: Picture, clean: Picture, mask: NDArray[Any] | None = None, peak: float = 255.0) -> float:
    """Structural similarity (Wang et al. 2004): mean of `ssim_map` over channels and pixels, weighed by `mask`.

    The mask weighs the centres of the windows.

    Raises:
        ValueError: different shapes, a picture smaller than the window, or an empty mask.
    """
    inside = None if mask is None else _valid(mask)
    return _weighted_mean(ssim_map(restored, clean, peak), inside)


def fidelity(restored: Picture, clean: Picture, mask: NDArray[Any] | None = None) -> dict[str, float]:
    """`psnr`, `ssim` of RGB and `psnr_y`, `ssim_y` of BT.601's Y, of `(H, W, 3)` pictures in 0..255.

    Raises:
        ValueError: as `psnr` and `ssim`.
    """
    bright, reference = luma(restored), luma(clean)
    return {
        "psnr": psnr(restored, clean, mask),
        "psnr_y": psnr(bright, reference, mask),
        "ssim": ssim(restored, clean, mask),
        "ssim_y": ssim(bright, reference, mask),
    }


def sharpness(image: Picture) -> float:
    """Variance of the Laplacian of an `(H, W, 3)` RGB uint8 picture: how much fine detail and noise there is.

    A ratio to the clean picture's says what smoothness was bought with; alone it says nothing about truth.
    """
    grey = cv2.cvtColor(np.asarray(image, np.uint8), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def ssim_map(restored: Picture, clean: Picture, peak: float = 255.0) -> NDArray[np.float64]:
    """SSIM in every full window, `(H - 10, W - 10)` or with channels.

    Gaussian window of 11 x 11, sigma 1.5, K1 = 0.01, K2 = 0.03, population variances, no padding: the authors' own
    definition without their down-scaling to 256.

    Raises:
        ValueError: different shapes, or a picture smaller than the window.
    """
    x, y = _float(restored), _same(restored, clean)
    if min(x.shape[:2]) < _WINDOW:
        raise ValueError(f"SSIM needs at least {_WINDOW} x {_WINDOW} pixels, got {x.shape[1]} x {x.shape[0]}")
    mean_x, mean_y = _smooth(x), _smooth(y)
    variance_x, variance_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
    covariance = _smooth(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    similarity: NDArray[np.float64] = structure * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return similarity


def _float(image: Picture) -> NDArray[np.float64]:
    return np.asarray(image, np.float64)


def _same(restored: Picture, clean: Picture) -> NDArray[np.float64]:
    if restored.shape != clean.shape:
        raise ValueError(f"restored {restored.shape} and clean {clean.shape} differ in shape")
    return _float(clean)


def _valid(image: NDArray[Any]) -> NDArray[Any]:
    """The centres of the windows that lie inside the picture."""
    border = _WINDOW // 2
    return image[border:-border, border:-border]


def _smooth(image: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = cv2.getGaussianKernel(_WINDOW, _SIGMA, cv2.CV_64F)
    return np.asarray(_valid(cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel)), np.float64)


def _weighted_mean(values: NDArray[np.float64], mask: NDArray[Any] | None) -> float:
    """Mean over pixels weighed by `mask`, then over channels."""
    if mask is None:
        return float(values.mean())
    weights = _float(mask)
    if weights.shape != values.shape[:2]:
        raise ValueError(f"mask {weights.shape} does not fit a picture of {values.shape[:2]}")
    total = weights.sum()
    if total <= 0:
        raise ValueError("the mask is empty: nothing to measure")
    per_pixel = values if values.ndim == 2 else values.mean(axis=2)
    return float((per_pixel * weights).sum() / total)
