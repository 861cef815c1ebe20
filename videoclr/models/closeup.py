"""What a close-up shows beyond the resolution of the Identity Recovery Network [ours].

A face that fills a frame of 1080 lines is 400 to 800 px large. The restorer sees it at 256 px; what is finer stays as it came, soft
or full of noise and blocks, and most of what makes a face sharp is finer. This network works at twice the side. It sees the aligned
crop as the frame shows it beside the restored face, enlarged, and finds the detail: where the crop shows any, it takes it from
there, as far as it is no noise; where it does not, it draws what belongs to the restored features. Who somebody is does not depend
on it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.layers import ResBlock, down, pad_to, up


class CloseUp(nn.Module):
    """A small residual U-Net: `(N, 3, S, S)` the crop and the restored face enlarged, both in [-1, 1] -> the face with its detail.

    Not clamped. Any even S >= 16. It begins as the restored face with a little of the crop's own detail, which is what the crop
    shows beyond half its resolution.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96), blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(24, widths[0], 3, padding=1))
        self.encode, self.decode = nn.ModuleList(), nn.ModuleList()
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (width, wider) in enumerate(pairwise(widths)):
            self.encode.append(_blocks(width, blocks if level else 1))
            self.down.append(down(width, wider))
            self.up.append(up(wider, width))
            self.join.append(nn.Conv2d(2 * width, width, 1))
            self.decode.append(_blocks(width, blocks))
        self.middle = _blocks(widths[-1], 2 * blocks)
        last = nn.Conv2d(widths[0], 16, 3, padding=1)  # three colours, and how much of the crop's detail is kept
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        nn.init.constant_(last.bias[12:], _LITTLE)  # type: ignore[index]
        self.out = nn.Sequential(nn.LeakyReLU(0.1), last, nn.PixelShuffle(2))

    def forward(self, y: Tensor, restored: Tensor) -> Tensor:
        """The face with its detail."""
        height, width = y.shape[-2:]
        y, restored = (pad_to(x, 2 ** (1 + len(self.down))) for x in (y, restored))
        h, kept = self.stem(torch.cat([y, restored], dim=1)), []
        for encode, smaller in zip(self.encode, self.down, strict=True):
            h = encode(h)
            kept.append(h)
            h = smaller(h)
        h = self.middle(h)
        for level in reversed(range(len(self.decode))):
            h = self.decode[level](self.join[level](torch.cat([self.up[level](h), kept[level]], dim=1)))
        drawn, share = self.out(h).split((3, 1), dim=1)
        detail = y - enlarged(F.avg_pool2d(y, 2), y.shape[-2:])
        out: Tensor = restored + drawn + torch.sigmoid(share) * detail
        return out[..., :height, :width]


_LITTLE = -3.0
"""Logarithm of the odds that detail is kept, to begin with."""


def enlarged(restored: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """`(N, 3, h, w)` -> `(N, 3, *size)`, bicubic: as the network wants what was restored."""
    return F.interpolate(restored.float(), size=tuple(size), mode="bicubic", align_corners=False)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(width) for _ in range(count)))
