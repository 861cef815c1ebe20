"""A second look at a face that was found: five exact points, and whether it is a face at all.

A single-shot detector reads landmarks off an anchor, to a tenth of the eye distance. Cut out upright and at one size, the same face
tells them to a few hundredths; and what is no face is recognised as such (the cascade of Zhang et al., "Joint Face Detection and
Alignment Using Multitask Cascaded Convolutional Networks", 2016). The points are the centres of mass of five attention maps, which
follow a shifted face by construction (integral regression; Sun et al., "Integral Human Pose Regression", ECCV 2018).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 96
"""Side of the crop that the network sees, pixels."""
_AROUND = 1.35
"""Side of the crop divided by the size of the box."""


def crop_matrix(box: NDArray[Any], landmarks: NDArray[Any], size: int = SIDE) -> NDArray[np.float64]:
    """`(2, 3)` frame px -> crop px of the square around a box, turned so that the face is upright.

    The place and the size come from the box, which is steady; of the points only the direction from the eyes to the mouth is used.

    Args:
        box: `(4,)` x0, y0, x1, y1, frame px.
        landmarks: `(5, 2)` frame px: image-left eye, image-right eye, nose, mouth corners.
        size: side of the crop, px.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    points = np.asarray(landmarks, np.float64)
    across = points[1] - points[0]
    down = points[3:].mean(0) - points[:2].mean(0)
    up = math.atan2(across[1] - down[0], across[0] + down[1])  # the mean of both directions, each read as "across"
    scale = size / max(_AROUND * math.sqrt(max((x1 - x0) * (y1 - y0), 1e-6)), 1e-6)
    c, s = scale * math.cos(up), scale * math.sin(up)
    linear = np.array([[c, s], [-s, c]])
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return np.column_stack([linear, (size - 1) / 2 - linear @ middle])


class _Unit(nn.Module):
    """Two 3x3 convolutions with batch norm around a residual path."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.skip = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inside, H, W)` -> `(N, outside, H / stride, W / stride)`."""
        return F.relu(self.skip(x) + self.path(x))


class LandmarkRefiner(nn.Module):
    """`(N, 3, 96, 96)` RGB in [-1, 1], cut by `crop_matrix` -> points and a face logit."""

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 96)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True), _Unit(16, fine, 2)
        )
        self.middle = nn.Sequential(_Unit(fine, middle, 2), _Unit(middle, middle))
        self.coarse = nn.Sequential(_Unit(middle, coarse, 2), _Unit(coarse, coarse), _Unit(coarse, coarse))
        self.to_middle = nn.Conv2d(coarse, middle, 1)
        self.join_middle = _Unit(middle, middle)
        self.to_fine = nn.Conv2d(middle, fine, 1)
        self.join_fine = _Unit(fine, fine)
        self.maps = nn.Conv2d(fine, 5, 3, padding=1)
        self.face = nn.Sequential(nn.Linear(2 * coarse, 48), nn.ReLU(inplace=True), nn.Linear(48, 1))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Look at crops.

        Returns:
            points `(N, 5, 2)` in pixels of the crop, and logits `(N,)`: positive for a face.
        """
        fine = self.stem(crops)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        pooled = torch.cat([coarse.mean((2, 3)), coarse.amax((2, 3))], dim=1)
        middle = self.join_middle(middle + F.interpolate(self.to_middle(coarse), scale_factor=2.0, mode="nearest"))
        fine = self.join_fine(fine + F.interpolate(self.to_fine(middle), scale_factor=2.0, mode="nearest"))
        return centres(self.maps(fine).float(), crops.shape[-1]), self.face(pooled)[:, 0].float()


def centres(maps: Tensor, side: int) -> Tensor:
    """Centres of mass of the soft-max of `maps` (N, K, h, w), in pixels of a crop of `side`: `(N, K, 2)`."""
    n, k, h, w = maps.shape
    share = maps.flatten(2).softmax(-1).reshape(n, k, h, w)
    step = side / w
    places = (torch.arange(w, device=maps.device, dtype=maps.dtype) + 0.5) * step - 0.5
    return torch.stack([(share.sum(2) * places).sum(-1), (share.sum(3) * places).sum(-1)], dim=-1)
