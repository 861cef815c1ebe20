"""How much of what a crop shows is kept beside the restoration, by place and by scale [ours].

A restoration of a face that is hardly degraded is further from the truth than the crop itself, and of one that is blurred the
crop's coarse light and shade is often still right where its detail is not. Both are estimates of one clean face. This network
sees them side by side and says for each band of a Laplacian pyramid (Burt and Adelson 1983), and for each place in it, how far to
go from the restoration to the crop. Nothing is drawn: what comes out lies between the two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.layers import ResBlock, down, pad_to, up


class Shares(nn.Module):
    """A small U-Net: `(N, 3, S, S)` the crop and the restoration, both in [-1, 1] -> what is to be shown. Any S >= 16."""

    def __init__(self, widths: tuple[int, int, int] = (24, 40, 56)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(36, fine, 3, padding=1))
        self.encode = nn.ModuleList([ResBlock(fine), ResBlock(middle)])
        self.down = nn.ModuleList([down(fine, middle), down(middle, coarse)])
        self.middle = nn.Sequential(ResBlock(coarse), ResBlock(coarse))
        self.up = nn.ModuleList([up(middle, fine), up(coarse, middle)])
        self.join = nn.ModuleList([nn.Conv2d(2 * fine, fine, 1), nn.Conv2d(2 * middle, middle, 1)])
        self.decode = nn.ModuleList([ResBlock(fine), ResBlock(middle)])
        self.heads = nn.ModuleList([nn.Conv2d(width, 1, 3, padding=1) for width in (fine, fine, middle, coarse)])
        for head in self.heads:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.constant_(head.bias, _AT_FIRST)  # type: ignore[arg-type]

    def forward(self, y: Tensor, restored: Tensor) -> Tensor:
        """What is to be shown, `(N, 3, S, S)`."""
        height, width = y.shape[-2:]
        y, restored = (pad_to(x, 8) for x in (y, restored))
        return mixed(y, restored, self.of(y, restored))[..., :height, :width]

    def of(self, y: Tensor, restored: Tensor) -> list[Tensor]:
        """How much of the crop is kept, in [0, 1]: `(N, 1, S / 2, S / 2)` of the two finest bands, S / 4, S / 8. 8 divides S."""
        fine = self.encode[0](self.stem(torch.cat([y, restored, _APART * (y - restored).abs()], dim=1)))
        middle = self.encode[1](self.down[0](fine))
        coarse = self.middle(self.down[1](middle))
        middle = self.decode[1](self.join[1](torch.cat([self.up[1](coarse), middle], dim=1)))
        fine = self.decode[0](self.join[0](torch.cat([self.up[0](middle), fine], dim=1)))
        features = (fine, fine, middle, coarse)
        odds = (head(one).float() for head, one in zip(self.heads, features, strict=True))
        return [torch.sigmoid(_SURE * torch.tanh(one / _SURE)) for one in odds]


_AT_FIRST = -0.5
"""Logarithm of the odds that the crop is kept, to begin with."""
_SURE = 8.0
"""Largest size of that logarithm. Without a bound two trainings came to keep nothing at all, and no gradient led back."""
_APART = 4
"""Differences are small beside pictures."""


def mixed(y: Tensor, restored: Tensor, shares: list[Tensor]) -> Tensor:
    """Between `restored` and `y`, both `(N, 3, S, S)`: in every band, the coarsest one with all below it, as its share says."""
    bands, apart = [], y - restored
    for _ in shares[1:]:
        coarser = F.avg_pool2d(apart, 2)
        bands.append(apart - _at(coarser, apart))
        apart = coarser
    kept = _at(shares[-1], apart) * apart
    for share, band in zip(reversed(shares[:-1]), reversed(bands), strict=True):
        kept = _at(share, band) * band + _at(kept, band)
    return restored + kept


def _at(x: Tensor, like: Tensor) -> Tensor:
    """`x` at the side of `like`."""
    return x if x.shape[-2:] == like.shape[-2:] else F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
