"""Where a face shows: a small U-Net that tells skin, eyes and mouth from what lies before or around them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.layers import ResBlock, down, pad_to

SIDE = 128
"""Side of the crops that the network learned from, pixels: a finger is 8 of them wide."""


class OcclusionNet(nn.Module):
    """`(N, 3, S, S)` FFHQ-aligned RGB in [-1, 1] -> `(N, 1, S, S)` logits: positive where the face itself is seen.

    What hides it (a hand, a microphone, a scarf, a title), hair and the background are negative.
    """

    def __init__(self, widths: tuple[int, ...] = (20, 32, 48, 56)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, widths[0], 3, padding=1))
        self.encode = nn.ModuleList(nn.Sequential(ResBlock(width), ResBlock(width)) for width in widths)
        self.down = nn.ModuleList(down(fine, coarse) for fine, coarse in pairwise(widths))
        self.join = nn.ModuleList(nn.Conv2d(coarse + fine, fine, 1) for fine, coarse in pairwise(widths))
        self.decode = nn.ModuleList(ResBlock(width) for width in widths[:-1])
        # Dilated: whether a patch of skin is a cheek or a palm shows in what lies a third of the face away.
        self.far = nn.ModuleList(nn.Conv2d(widths[-1], widths[-1], 3, padding=step, dilation=step) for step in (1, 2, 4))
        self.out = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(widths[0], 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """Look at crops; any S."""
        height, width = x.shape[-2:]
        h, kept = self.stem(pad_to(x, 16)), []
        for level, encode in enumerate(self.encode):
            h = encode(h)
            if level < len(self.down):
                kept.append(h)
                h = self.down[level](h)
        for layer in self.far:
            h = h + layer(F.leaky_relu(h, 0.1))
        for level in reversed(range(len(self.decode))):
            h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            h = self.decode[level](self.join[level](torch.cat([h, kept[level]], dim=1)))
        out: Tensor = self.out(h)
        return out[..., :height, :width]
