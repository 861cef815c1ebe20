"""ParseNet: the face-parsing network whose weights facexlib publishes (from PSFR-GAN, Chen et al., CVPR 2021).

Built anew to the published names and shapes, so that the file can be read without facexlib and torchvision.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 512
"""Side of the crops that it was trained with, pixels."""
CLASSES = (
    *("background", "skin", "nose", "glasses", "left eye", "right eye", "left brow", "right brow", "left ear", "right ear"),
    *("mouth", "upper lip", "lower lip", "hair", "hat", "ear ring", "necklace", "neck", "cloth"),
)
"""What its 19 channels mean (CelebAMask-HQ, Lee et al. 2020)."""


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x))


class _Conv(nn.Module):
    """Reflection padding and a 3x3 convolution, with batch norm where it has no bias."""

    def __init__(self, inside: int, outside: int, stride: int = 1, grow: bool = False, norm: bool = False) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inside, outside, 3, stride, bias=not norm)
        self.norm: nn.Module = _Norm(outside) if norm else nn.Identity()
        self.grow = grow

    def forward(self, x: Tensor) -> Tensor:
        if self.grow:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return cast(Tensor, self.norm(self.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"))))


class _Block(nn.Module):
    """A residual block that keeps the resolution (0), halves it (-1) or doubles it (+1)."""

    def __init__(self, inside: int, outside: int, scale: int = 0) -> None:
        super().__init__()
        smaller = 2 if scale < 0 else 1
        same = scale == 0 and inside == outside
        self.shortcut_func: nn.Module = nn.Identity() if same else _Conv(inside, outside, smaller, scale > 0)
        self.conv1 = _Conv(inside, outside, 1, scale > 0, norm=True)
        self.conv2 = _Conv(outside, outside, smaller, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.shortcut_func(x) + self.conv2(F.leaky_relu(self.conv1(x), 0.2)))


class ParseNet(nn.Module):
    """`(N, 3, S, S)` FFHQ-aligned RGB in [-1, 1], S divisible by 16 -> `(N, 19, S, S)` logits of `CLASSES`.

    Args:
        widths: of the stem and after each halving; the published ones by default.
        depth: blocks at the lowest resolution.
    """

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 256, 256), depth: int = 10) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        down: Iterable[nn.Module] = (_Block(fine, coarse, -1) for fine, coarse in pairs)
        self.encoder = nn.Sequential(_Conv(3, widths[0]), *down)
        self.body = nn.Sequential(*(_Block(widths[-1], widths[-1]) for _ in range(depth)))
        self.decoder = nn.Sequential(*(_Block(coarse, fine, 1) for fine, coarse in reversed(pairs)))
        self.out_img_conv = _Conv(widths[0], 3)  # it draws the face too; the published file has it, nobody here looks at it
        self.out_mask_conv = _Conv(widths[0], len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Look at crops."""
        features = self.encoder(x)
        return cast(Tensor, self.out_mask_conv(self.decoder(features + self.body(features))))
