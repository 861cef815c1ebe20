"""The project's own compact face recogniser `phi`: it guides restoration, and never judges it.

A plain residual network at 112 px with a depthwise pooling of the last map, as MobileFaceNet pools (Chen et al. 2018). It looks
at the ArcFace crop (Deng et al. 2019), cut out of an FFHQ-aligned crop by one fixed similarity, so that it is differentiable
with respect to the crop.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FFHQ_POINTS = np.array([[0.385, 0.47], [0.615, 0.47], [0.5, 0.6], [0.405, 0.71], [0.595, 0.71]])
"""Mean five points of an FFHQ-aligned crop, as fractions of its side."""
ARCFACE_POINTS = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
"""The 112-px template of ArcFace."""


def face_grid() -> Tensor:
    """`(2, 3)` affine for `F.affine_grid` (align_corners=False): 112-px ArcFace crop -> FFHQ crop, both in [-1, 1]."""
    source = (ARCFACE_POINTS + 0.5) / 112 * 2 - 1
    target = FFHQ_POINTS * 2 - 1
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return torch.tensor([[a, -b, tx], [b, a, ty]], dtype=torch.float32, device="cpu")


def face_input(crops: Tensor) -> Tensor:
    """FFHQ-aligned `(N, 3, S, S)` in [-1, 1] -> ArcFace crops `(N, 3, 112, 112)`, differentiable."""
    if crops.shape[-1] > 384:
        crops = F.interpolate(crops, size=(256, 256), mode="area")
    # Under autocast the grid would be bfloat16, which rounds it to half pixels.
    with torch.autocast(crops.device.type, enabled=False):
        exact = crops.float()
        grid = F.affine_grid(face_grid().to(exact)[None].expand(len(crops), 2, 3), [len(crops), 3, 112, 112], align_corners=False)
        return F.grid_sample(exact, grid, mode="bilinear", padding_mode="border", align_corners=False).to(crops.dtype)


class _Unit(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.PReLU(outside),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.skip = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip(x) + self.path(x)
        return out


class Recognizer(nn.Module):
    """`(N, 3, 112, 112)` RGB in [-1, 1], ArcFace alignment -> `(N, dimensions)` unit vectors."""

    def __init__(self, dimensions: int = 128, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.PReLU(widths[0]),
        ]
        inside = widths[0]
        for level, width in enumerate(widths):
            layers += [_Unit(inside, width, 1 if level == 0 else 2)]
            layers += [_Unit(width, width, 1)] if level else []
            inside = width
        self.body = nn.Sequential(*layers)
        self.pool = nn.Sequential(nn.Conv2d(inside, inside, 7, groups=inside, bias=False), nn.BatchNorm2d(inside))
        self.out = nn.Linear(inside, dimensions)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed ArcFace crops; the result has length 1."""
        return F.normalize(self.out(self.pool(self.body(faces)).flatten(1)).float(), dim=1)

    def embed(self, crops: Tensor) -> Tensor:
        """Embed FFHQ-aligned crops `(N, 3, S, S)`: `(N, dimensions)` unit vectors."""
        embedded: Tensor = self(face_input(crops))
        return embedded
