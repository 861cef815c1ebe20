"""Where two pictures of a face disagree beyond blur: the hallucination check of DiffMAC (Gao et al. 2024).

A restored face is blurred until it matches its input best; what still differs was invented, or lies behind a hand. Everything here
looks at luma at 128 px, where the eyes are still 30 px apart, and knows no network.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

SIDE = 128  # px at which pictures are compared
FLAT = 0.05  # contrast below which a face counts as having this contrast
_BLURS = (0.0, 0.4, 0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)  # standard deviations that are tried, px at SIDE
_SLOW = SIDE / 10  # blur of what `blend` corrects anyway: the low frequencies of the colour
_SPOT = 3.5  # blur of the disagreement's energy, px: one pixel proves nothing
_DIFFERENT = 0.15  # disagreement from which a place says little about the blur of the others, in contrasts


def reduced(plane: Plane) -> Plane:
    """`(S, S)` -> `(128, 128)`."""
    return np.asarray(cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def blurred(plane: Plane, sigma: float) -> Plane:
    """By a Gaussian of `sigma` px."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32) if sigma > 0 else plane


def contrast(small: Plane, weight: Plane) -> float:
    """Standard deviation of a `(128, 128)` face where `weight` shows it, at least `FLAT`."""
    mean = float((small * weight).sum() / weight.sum())
    return max(float(np.sqrt((((blurred(small, 1.0) - mean) ** 2) * weight).sum() / weight.sum())), FLAT)


def matching_blur(result: Plane, small: Plane, weight: Plane, scale: float) -> float:
    """The blur after which the result is most like the input, where the two show the same thing; `scale` is the contrast.

    Places that differ under any blur must not drag it along: their part saturates (Geman and McClure, 1987).
    """

    def miss(sigma: float) -> float:
        energy = (difference(result, small, sigma) / np.float32(scale * _DIFFERENT)) ** 2
        return float((energy / (1 + energy) * weight).sum())

    return min(_BLURS, key=miss)


def difference(result: Plane, small: Plane, sigma: float) -> Plane:
    """`(128, 128)`: root mean square around each place of what the result, blurred, has more or less than the input."""
    rest = blurred(result, sigma) - small
    rest = blurred(rest - blurred(rest, _SLOW), 1.0)
    return np.asarray(np.sqrt(blurred(rest**2, _SPOT).clip(0)), np.float32)


def invented(result: Plane, luma: Plane, start: float, end: float) -> Plane:
    """`(S, S)` in [0, 1]: the hallucination map of a whole crop, 0 up to a disagreement of `start` contrasts, 1 from `end` on."""
    small, everywhere = reduced(luma), np.ones((SIDE, SIDE), np.float32)
    scale, small_result = contrast(small, everywhere), reduced(result)
    found = difference(small_result, small, matching_blur(small_result, small, everywhere, scale)) / np.float32(scale)
    share = np.clip((found - start) / (end - start), 0, 1)
    share = np.asarray(share * share * (3 - 2 * share), np.float32)
    return np.asarray(cv2.resize(share, luma.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
