"""Film grain and sensor noise: measured in a picture, made again with the same strength, colour and coarseness.

The noise is taken for a stationary Gaussian field: then its covariance between colours and its autocorrelation are all
there is to know of it, and white noise through the square root of the spectrum is a new piece of the same field.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

_REACH = 8  # px over which grain may hang together
_BAND = 2.0  # standard deviation of the blur whose remainder is looked at for noise, px
_UNSEEN = 0.5  # share of the power that is seen at a frequency, below which its estimate is not enlarged any further
_OUTLIER = 3.5  # deviations from which a remainder is an edge and no noise
_STEEP = 3.0  # how much steeper than the usual place of the picture a slope may be to count as flat
_FEW = 64  # flat pixels below which nothing can be said
_CLIPPED = 0.98  # values from here on may be cut off, and show no noise
_CALMEST = (0.3, 0.3853)  # a quantile, and where the absolute values of noise of deviation 1 have it
_PROBE = 512  # px of the middle of a picture that tell its noise
_AROUND = 2.0  # standard deviation of the blur that tells how strong detail is around a place, px
_SURE = 1.4  # how much stronger than noise detail has to be on average to be more than that
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # of what is smooth, it leaves nothing
_TEXTURE = (2 / 255, 4 / 255)  # share of white: up to the first, fine texture looks the same; from the second on it is noise
_CALM, _CALMS, _USUAL = 0.7, 0.41, 10 / 255
"""Blur in px for fine noise of `_USUAL`, how much more for e times as much, and that noise as a share of white. Of 12 held-out
faces with noise of 6, 10, 15 and 30 / 255 in every pixel, restored after a blur of 0, 0.4, 0.7, 1 and 1.3 px: PSNR is highest at
0.7, 0.7, 1 and 1.3 px (34.3 instead of 31.8 dB without, 32.9 instead of 28.3, 31.9 instead of 25.3, 29.8 instead of 20.0), SqD
lowest at 0.4, 0.4, 0.7 and 1 px (0.115, 0.175, 0.225 and 0.344 instead of 0.116, 0.195, 0.347 and 0.984); IDS up to 0.016 more."""


@dataclass(frozen=True, slots=True, eq=False)
class Grain:
    """Noise of a picture, above the lowest frequencies."""

    covariance: NDArray[np.float64]
    """`(3, 3)` between the colours, of values on the scale of [-1, 1]."""
    correlation: NDArray[np.float64]
    """`(2 * 8 + 1, 2 * 8 + 1)` autocorrelation over distance, 1 in the middle."""

    @property
    def level(self) -> float:
        """Standard deviation, root mean square of the three colours, on the scale of [-1, 1]."""
        return float(np.sqrt(np.trace(self.covariance) / 3))


def flat_places(picture: Image, mask: Image) -> NDArray[np.bool_]:
    """`(h, w)`: where `picture` `(h, w, 3)` is smooth inside `mask` `(h, w)` (above 0.5), so that what is left there is noise."""
    luma = cv2.GaussianBlur(picture.mean(-1), (0, 0), _BAND)
    slope = np.hypot(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1))
    inside = mask > 0.5
    if not inside.any():
        return inside
    return np.asarray(inside & (slope <= _STEEP * np.quantile(slope[inside], 0.3)))


def measured(picture: Image, flat: NDArray[np.bool_]) -> Grain | None:
    """The grain of `picture` `(h, w, 3)` float32 in [-1, 1], judged where `flat` `(h, w)`; None where too little is."""
    rest = (picture - cv2.GaussianBlur(picture, (0, 0), _BAND)).astype(np.float64)
    luma = rest.mean(-1)
    if flat.sum() < _FEW:
        return None
    usual = float(np.median(np.abs(luma[flat]))) / 0.6745
    places = flat & (np.abs(luma) <= _OUTLIER * usual)
    if places.sum() < _FEW:
        return None
    values = rest[places]
    return Grain(values.T @ values / len(values), _autocorrelation(luma * places, places.astype(np.float64)))


def fine_noise(picture: Image) -> float:
    """Standard deviation of the noise from pixel to pixel in `picture` `(h, w, 3)` in [-1, 1], as a share of white.

    Judged in the middle of a large picture, where that is neither black nor white; what hangs together over a few pixels counts
    little. After Immerkaer, "Fast Noise Variance Estimation", CVIU 1996, with a low quantile for the mean: what is seen in the
    calmest places as well is noise. Of 377 portraits of 512 px 99 % have less than 1.8 / 255, and films out of codecs 0 to 0.5.
    """
    y, x = (max(0, (side - _PROBE) // 2) for side in picture.shape[:2])
    middle = np.ascontiguousarray(picture[y : y + _PROBE, x : x + _PROBE])
    rest = cv2.filter2D(middle, -1, _LAPLACIAN, borderType=cv2.BORDER_REFLECT_101)
    some = np.s_[::2, ::2] if len(middle) > _PROBE // 2 else np.s_[:]  # every other pixel of many tells it as well
    seen = np.abs(rest[some])[np.abs(middle[some]) < _CLIPPED]
    return float(np.quantile(seen, _CALMEST[0])) / (_CALMEST[1] * 6 * 2) if len(seen) else 0.0


def calmed(picture: Image) -> Image:
    """`picture` `(h, w, 3)` in [-1, 1] with its fine noise blurred, as far as there is any; else the same object.

    The networks learned from pictures whose noise was scaled up with them: coarse and soft. Noise in every pixel they take for
    texture, and let it stand; what a blur of a pixel takes away with it they know how to bring back.
    """
    noise = fine_noise(picture)
    share = noisiness(noise)
    if share == 0:
        return picture
    sigma = (_CALM + _CALMS * np.log(noise / _USUAL)) * share
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def noisiness(noise: float) -> float:
    """How far a `fine_noise` is noise and not texture, in [0, 1]."""
    low, high = _TEXTURE
    return float(np.clip((noise - low) / (high - low), 0, 1))


def cored(detail: Image, noise: float) -> Image:
    """`detail` `(h, w, 3)` of a picture in [-1, 1] that has so much `fine_noise`, without it; the same object where there is none.

    Where detail is no stronger than that noise there remains none of it, where it is much stronger all: Wiener's gain by the
    power around each place (Lee, "Digital Image Enhancement and Noise Filtering by Use of Local Statistics", PAMI 1980).
    """
    share = noisiness(noise)
    if share == 0:
        return detail
    power = cv2.GaussianBlur(np.square(detail).mean(-1), (0, 0), _AROUND, borderType=cv2.BORDER_REFLECT_101)
    lost = np.minimum(np.float32(_SURE * (2 * noise) ** 2) / np.maximum(power, 1e-12), 1)
    return np.asarray(detail * (1 - np.float32(share) * lost)[..., None], np.float32)


def _autocorrelation(values: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of `values`, known where `weight` is 1, through the spectrum (Wiener and Khinchin)."""
    shape = [size + _REACH for size in values.shape]  # room, so that the ends do not meet
    products, pairs = (np.fft.irfft2(np.abs(np.fft.rfft2(one, shape)) ** 2, shape) for one in (values, weight))
    around = np.ix_(np.arange(-_REACH, _REACH + 1), np.arange(-_REACH, _REACH + 1))
    found = products[around] / np.maximum(pairs[around], 1.0)
    return np.asarray(found / max(float(found[_REACH, _REACH]), 1e-12), np.float64)


def made(grain: Grain, height: int, width: int, rng: np.random.Generator) -> Image:
    """`(height, width, 3)` float32: a new piece of `grain`."""
    shape = height + 2 * _REACH, width + 2 * _REACH
    taper = np.hanning(2 * _REACH + 3)[1:-1]  # an estimate that stops at once would ring
    kernel = np.zeros(shape)
    kernel[np.ix_(np.arange(-_REACH, _REACH + 1), np.arange(-_REACH, _REACH + 1))] = grain.correlation * np.outer(taper, taper)
    power = np.maximum(np.fft.fft2(kernel).real, 0)[:, : shape[1] // 2 + 1]
    passed = _passed(*shape)
    power /= np.maximum(passed, _UNSEEN)  # the slow part, which the measurement had taken away
    fields = rng.standard_normal((3, *shape))
    coloured = np.fft.irfft2(np.fft.rfft2(fields) * np.sqrt(power), shape)[:, :height, :width]
    # The strength comes from the covariance alone, in the band where that was measured.
    coloured /= max(float(np.sqrt(_mean_square(power * passed, shape[1]))), 1e-12)
    values, vectors = np.linalg.eigh(grain.covariance)
    mixing = vectors * np.sqrt(np.maximum(values, 0))
    return np.asarray(np.tensordot(coloured, mixing, (0, 1)), np.float32)


def _passed(height: int, width: int) -> NDArray[np.float64]:
    """`(height, width // 2 + 1)`: the share of the power at each frequency that `measured` sees."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    return np.asarray((1 - np.exp(-2 * (np.pi * _BAND * frequency) ** 2)) ** 2, np.float64)


def _mean_square(power: NDArray[np.float64], width: int) -> float:
    """Of a field with the power spectrum `power` `(h, width // 2 + 1)`, made of white noise of deviation 1."""
    twice = power[:, 1 : (width + 1) // 2].sum()  # all but the columns that are their own mirror
    return float((power.sum() + twice) / (power.shape[0] * width))
