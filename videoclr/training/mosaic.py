"""New people out of known ones: eyes, nose, mouth or the middle of one aligned face set into another.

Networks that see few people for long learn them by heart. The mean of two faces is somebody else, but soft and doubled, and a
network that learns from it becomes soft as well; a mosaic is as sharp as its pieces. They are joined band by band, fine detail
over a short way and coarse detail over a long one (Burt and Adelson, A Multiresolution Spline With Application to Image Mosaics,
1983), and what is coarser than a part of a face stays that of the face they are set into: its light and the colour of its skin.

    donors = Donors(faces)
    row, mirrored = donors.of(face, False, rng)
    somebody = mosaic(pictures, others, regions([draw_parts(rng)], size))
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_PARTS: tuple[tuple[tuple[float, float, float, float], ...], ...] = (
    ((0.375, 0.45, 0.15, 0.11), (0.625, 0.45, 0.15, 0.11)),
    ((0.5, 0.57, 0.11, 0.13),),
    ((0.5, 0.72, 0.17, 0.11),),
    ((0.5, 0.60, 0.31, 0.37),),
)
"""Eyes with brows, nose, mouth, and all of these with cheeks and chin, where an FFHQ crop has them: ellipses by their middles and
radii, in sides of the crop."""
_CHANCES = np.array([0.5, 0.5, 0.5, 0.35])
"""Of each part."""
_EDGE = 0.25
"""Of a part's radius, over which it comes in."""
_COARSEST = 8
"""Cells a side of what stays the face's own."""
_CANDIDATES = 8
"""Of which the most alike gives its parts: another skin or another light would not fit."""


class Donors:
    """Who may give a part to whom: of some drawn by chance the one whose light and colour are nearest.

    Args:
        faces: `(N, S, S, 3)` uint8 RGB, FFHQ-aligned.
    """

    def __init__(self, faces: NDArray[np.uint8]) -> None:
        small = [cv2.resize(np.asarray(face), (_COARSEST, _COARSEST), interpolation=cv2.INTER_AREA) for face in faces]
        self._looks = np.stack(small)[:, 2:7, 2:6].astype(np.float32)  # the face, without what is around it

    def of(self, face: int, mirrored: bool, rng: np.random.Generator) -> tuple[int, bool]:
        """The row of another face (the same one where chance drew no other), and whether it is to be mirrored."""
        rows, turned = rng.integers(len(self._looks), size=_CANDIDATES), rng.random(_CANDIDATES) < 0.5
        looks = self._looks[rows]
        looks[turned] = looks[turned][:, :, ::-1]
        own = self._looks[face][:, ::-1] if mirrored else self._looks[face]
        best = int(np.where(rows == face, np.inf, np.abs(looks - own).mean((1, 2, 3))).argmin())
        return int(rows[best]), bool(turned[best])


def draw_parts(rng: np.random.Generator) -> NDArray[np.bool_]:
    """`(4,)`: which parts are exchanged, at least one."""
    drawn = rng.random(len(_PARTS)) < _CHANCES
    drawn[int(rng.integers(len(_PARTS)))] |= not drawn.any()
    return drawn


def regions(parts: Sequence[NDArray[np.bool_]], size: int, device: torch.device | None = None) -> Tensor:
    """`(N, 1, size, size)` in [0, 1]: where each picture's parts (of `draw_parts`; all False: nowhere) lie."""
    drawn = torch.from_numpy(np.stack(parts)).to(device)
    where = torch.from_numpy(_where(size)).to(device)
    return (where * drawn[:, :, None, None]).amax(1, keepdim=True)


@lru_cache(maxsize=4)
def _where(size: int) -> NDArray[np.float32]:
    """`(4, size, size)`: each part."""
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.float64]:
        out = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
        return np.asarray(np.clip((1 - out) / _EDGE + 0.5, 0, 1), np.float64)

    return np.stack([np.max([ellipse(*place) for place in places], axis=0) for places in _PARTS]).astype(np.float32)


def mosaic(pictures: Tensor, others: Tensor, where: Tensor) -> Tensor:
    """Set others into pictures, detail by detail.

    Args:
        pictures, others: `(N, 3, S, S)` of code values, 0 to 255.
        where: `(N, 1, S, S)` in [0, 1]: 1 where the others are shown. Where it is 0 all over, the picture stays as it is.

    Returns:
        `(N, 3, S, S)` of whole code values.
    """
    bands: list[Tensor] = []
    own, other = pictures, others
    while own.shape[-1] > _COARSEST:
        half = ((own.shape[-2] + 1) // 2, (own.shape[-1] + 1) // 2)
        below, beside = _down(own, half), _down(other, half)
        bands.append(torch.lerp(own - _up(below, own), other - _up(beside, other), where))
        own, other, where = below, beside, _down(where, half)
    for band in bands[::-1]:
        own = _up(own, band) + band
    return own.clamp(0, 255).round()


def _down(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)


def _up(pictures: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(pictures, size=like.shape[-2:], mode="bilinear", align_corners=False)
