"""The Identity Recovery Network and the latent mask (CLR-Face, sections 3.3 and 3.4).

`R`, the IRN, is trained with fidelity losses only (L1, identity, a light perceptual one; nothing adversarial): faithful, a bit
soft. It gives the identity that guidance aims at, the point where reverse diffusion starts, and the fidelity end of the dial.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.layers import Attention, ResBlock, down, pad_to, up


class IdentityRecovery(nn.Module):
    """A residual U-Net: `(N, 3, S, S)` degraded RGB in [-1, 1] -> `(N, 3, S, S)` restored, not clamped. Any S >= 64."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 192), blocks: tuple[int, ...] = (1, 2, 2, 2)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, widths[0], 3, padding=1))
        self.encode, self.down = nn.ModuleList(), nn.ModuleList()
        self.decode, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            self.encode.append(nn.Sequential(*(ResBlock(width) for _ in range(count))))
            if level + 1 < len(widths):
                self.down.append(down(width, widths[level + 1]))
                self.up.append(up(widths[level + 1], width))
                self.join.append(nn.Conv2d(2 * width, width, 1))
                self.decode.append(nn.Sequential(*(ResBlock(width) for _ in range(max(count, 2)))))
        self.middle = nn.Sequential(Attention(widths[-1]), ResBlock(widths[-1]), Attention(widths[-1]), ResBlock(widths[-1]))
        self.out = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(widths[0], 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, y: Tensor) -> Tensor:
        """Restore: the input plus a learned residual."""
        height, width = y.shape[-2:]
        padded = pad_to(y, 16)
        h, kept = self.stem(padded), []
        for level, encode in enumerate(self.encode):
            h = encode(h)
            if level < len(self.down):
                kept.append(h)
                h = self.down[level](h)
        h = self.middle(h)
        for level in reversed(range(len(self.decode))):
            h = self.decode[level](self.join[level](torch.cat([self.up[level](h), kept[level]], dim=1)))
        out: Tensor = padded + self.out(h)
        return out[..., :height, :width]


class LatentMask(nn.Module):
    """Where identity lives in the latent: `z_y` (N, latent, h, w) -> `M` in [0, 1] of the same shape.

    Learned so that exchanging the masked entries with those of the clean latent repairs the identity while the rest of the
    picture stays (see `pipelines/train_identity.py`, stage `mask`).
    """

    def __init__(self, latent: int = 6, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(latent, width, 3, padding=1)
        self.near = ResBlock(width)
        self.far = nn.Sequential(down(width, width), down(width, width), ResBlock(width), ResBlock(width))
        self.out = nn.Conv2d(width, latent, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """The mask."""
        h = self.near(self.stem(z))
        far = F.interpolate(self.far(h), size=h.shape[-2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(self.out(F.leaky_relu(h + far, 0.1)))
