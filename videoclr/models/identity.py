"""The Identity Recovery Network and the latent mask (CLR-Face, sections 3.3 and 3.4).

`R`, the IRN, is trained with fidelity losses only (L1, identity, a light perceptual one; nothing adversarial): faithful, a bit
soft. It gives the identity that guidance aims at, the point where reverse diffusion starts, and the fidelity end of the dial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.layers import Attention, ResBlock, down, pad_to, up

Join = Callable[[int, Tensor], Tensor]
"""A level and the decoder's features there -> what it goes on with."""


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

    def forward(self, y: Tensor, join: Join | None = None) -> Tensor:
        """Restore: the input plus a learned residual; `join` as of `decoded`."""
        return self.decoded(y, self.seen(y), join)

    def seen(self, y: Tensor) -> list[Tensor]:
        """What the encoder sees in `(N, 3, S, S)` crops in [-1, 1]: `(N, width, S / 2, S / 2)`, and half the side at each level."""
        h, kept = self.stem(pad_to(y, 16)), []
        for level, encode in enumerate(self.encode):
            h = encode(h)
            kept.append(h)
            if level < len(self.down):
                h = self.down[level](h)
        return kept

    def decoded(self, y: Tensor, seen: Sequence[Tensor], join: Join | None = None) -> Tensor:
        """Restore crops that were looked at already.

        Args:
            y: the crops.
            seen: of them.
            join: what else is known of them: called at every level, the coarsest first, with the level and the decoder's features;
                see `ReferenceFusion.beside`.
        """
        height, width = y.shape[-2:]
        *kept, h = seen
        if join is not None:
            h = join(len(kept), h)
        h = self.middle(h)
        for level in reversed(range(len(self.decode))):
            h = self.join[level](torch.cat([self.up[level](h), kept[level]], dim=1))
            if join is not None:
                h = join(level, h)
            h = self.decode[level](h)
        out: Tensor = pad_to(y, 16) + self.out(h)
        return out[..., :height, :width]


class ReferenceFusion(nn.Module):
    """What a better view of the same person shows, for the IRN to use beside a bad crop: reference-based restoration [ours].

    The reference is aligned as all crops are, in whatever pose, expression and light. The IRN's own encoder looks at it, and what
    it sees joins the features of its decoder at every level: by attention where the grid is coarse, so that an eye finds an eye
    wherever it is, and by convolutions. It starts at zero; without a reference the IRN restores as if this network was not there.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 192), attended: int = 2) -> None:
        super().__init__()
        self.joints = nn.ModuleList(_Joint(width, level >= len(widths) - attended) for level, width in enumerate(widths))

    def beside(self, seen: Sequence[Tensor], share: Tensor | None = None) -> Join:
        """For `IdentityRecovery`.

        Args:
            seen: of the references, as `IdentityRecovery.seen` gives it: one for each crop, or one for all of them.
            share: `(N,)` in [0, 1], how far each crop is to use its own; None: all of them fully.
        """

        def join(level: int, h: Tensor) -> Tensor:
            change: Tensor = self.joints[level](h, seen[level].expand(len(h), -1, -1, -1))
            return h + (change if share is None else share.to(h).view(-1, 1, 1, 1) * change)

        return join


class _Joint(nn.Module):
    """Features of a crop and of its reference, `(N, width, H, W)` both -> what the crop's gain, of the same shape."""

    def __init__(self, width: int, attended: bool, head: int = 32) -> None:
        super().__init__()
        self.heads = width // head
        self.attended = attended
        if attended:
            self.norm, self.norm_seen = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
            self.query, self.seen = nn.Conv2d(width, width, 1), nn.Conv2d(width, 2 * width, 1)
        self.conv1 = nn.Conv2d((3 if attended else 2) * width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, seen: Tensor) -> Tensor:
        beside = [h, seen]
        if self.attended:
            n, c, height, width = h.shape
            q = self.query(self.norm(h)).reshape(n, self.heads, c // self.heads, -1).transpose(2, 3)
            k, v = self.seen(self.norm_seen(seen)).reshape(n, 2, self.heads, c // self.heads, -1).transpose(3, 4).unbind(1)
            beside.append(F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(n, c, height, width))
        change: Tensor = self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(torch.cat(beside, dim=1), 0.1)), 0.1))
        return change


class LatentMask(nn.Module):
    """Where guidance may move the latent of an aligned face: `z_y` (N, latent, h, w) -> `M` in [0, 1] of the same shape.

    A map that all faces share, since they are aligned, and what the face itself adds to it. Learned so that guidance inside it does
    less harm, in fewer pixels, than guidance everywhere that gains as much identity (see `pipelines/train_identity.py`, stage
    `mask`).
    """

    def __init__(self, latent: int = 6, width: int = 32, grid: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(latent, width, 3, padding=1)
        self.near = ResBlock(width)
        self.far = nn.Sequential(down(width, width), down(width, width), ResBlock(width), ResBlock(width))
        self.out = nn.Conv2d(width, latent, 3, padding=1)
        self.shared = nn.Parameter(torch.zeros(1, latent, grid, grid))
        nn.init.zeros_(self.out.weight)

    def forward(self, z: Tensor) -> Tensor:
        """The mask."""
        h = self.near(self.stem(z))
        far = F.interpolate(self.far(h), size=h.shape[-2:], mode="bilinear", align_corners=False)
        shared = F.interpolate(self.shared, size=h.shape[-2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(self.out(F.leaky_relu(h + far, 0.1)) + _SHARED * shared)


_SHARED = 10.0
"""Units of the shared map: so much faster it learns than the convolutions."""
