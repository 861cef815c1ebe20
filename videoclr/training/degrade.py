"""Seeded degradation of still face crops: the same code trains the networks and makes the benchmark's inputs.

`y = up( JPEG( down( blur(x) ) + noise ) )`, with the two published parameter sets. Parameters are for 512 px: at side S the blur's
sigma scales with S / 512, and the small size is 512 / factor whatever S is.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Level:
    """Ranges of one degradation family, for 512 px."""

    sigma: tuple[float, float]
    """Standard deviation of the blur, px at 512."""
    factor: tuple[float, float]
    """Down-scale factor of 512."""
    noise: tuple[float, float]
    """Standard deviation of Gaussian noise, in 8-bit code values."""
    jpeg: tuple[int, int]
    """JPEG quality."""


LEVELS = {
    "mild": Level((0.1, 10), (0.8, 8), (0, 20), (60, 100)),  # GFPGAN, Wang et al. 2021, section 4.1
    "heavy": Level((1, 15), (4, 30), (0, 20), (30, 80)),  # CodeFormer, Zhou et al. 2022, section 4.1
}
"""The two that the benchmark is of."""
CLOSE_UPS = {
    "slight": Level((0.1, 1), (0.8, 1.2), (0, 4), (75, 100)),
    "soft": Level((0.1, 4), (0.8, 3), (0, 12), (40, 100)),
}
"""What faces of 512 px are like that fill a frame [ours]: a lens out of focus, a sensor, a codec, a smaller format enlarged."""


def level_of(name: str) -> Level:
    """The ranges that `name` stands for."""
    return LEVELS.get(name) or CLOSE_UPS[name]


def degrade(picture: Picture, level: str, rng: np.random.Generator) -> Picture:
    """Degrade a square crop.

    Args:
        picture: `(S, S, 3)` uint8 RGB.
        level: of `LEVELS` or `CLOSE_UPS`.
        rng: the only source of randomness.

    Returns:
        `(S, S, 3)` uint8 RGB.
    """
    ranges, side = level_of(level), picture.shape[0]
    blurred = cv2.filter2D(picture, -1, _kernel(ranges.sigma, side / 512, rng), borderType=cv2.BORDER_REFLECT_101)
    small = max(8, round(512 / rng.uniform(*ranges.factor)))
    way = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    shrunk = cv2.resize(blurred, (small, small), interpolation=way).astype(np.float32)
    sigma = rng.uniform(*ranges.noise)
    grey = rng.random() < 0.2
    shrunk += rng.normal(0, sigma, (*shrunk.shape[:2], 1 if grey else 3)).astype(np.float32)
    noisy = np.clip(np.rint(shrunk), 0, 255).astype(np.uint8)
    coded = cv2.imencode(
        ".jpg", noisy[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(ranges.jpeg[0], ranges.jpeg[1] + 1))]
    )[1]
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1]
    back = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])) if small < side else cv2.INTER_AREA
    out: Picture = cv2.resize(decoded, (side, side), interpolation=back)  # type: ignore[assignment]
    return out


def _kernel(sigma: tuple[float, float], scale: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """An isotropic or anisotropic Gaussian kernel; the channel order of a picture does not matter to it."""
    first = rng.uniform(*sigma) * scale
    second = first if rng.random() < 0.5 else rng.uniform(*sigma) * scale
    angle = rng.uniform(0, np.pi)
    radius = max(1, int(np.ceil(2.5 * max(first, second))))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    kernel = np.exp(-0.5 * ((u / max(first, 0.05)) ** 2 + (v / max(second, 0.05)) ** 2))
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def degraded_name_seed(name: str) -> int:
    """The fixed seed of a benchmark picture, from its file name: the same on every machine."""
    return zlib.crc32(name.encode())
