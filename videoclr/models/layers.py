"""The blocks that the networks share. All take and give `(N, C, H, W)` float tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResBlock(nn.Module):
    """Two 3x3 convolutions with a residual path and no normalisation; the second starts at zero.

    Without normalisation the block keeps absolute intensity, which a restorer needs, and costs nothing but the convolutions.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """`(N, width, H, W)` -> the same shape."""
        # In place on the convolutions' outputs, which nothing else uses: at full size they are most of the memory.
        out: Tensor = self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, 0.1)), 0.1, inplace=True)).add_(x)
        return out


class Attention(nn.Module):
    """Multi-head self-attention over positions, residual, starting at zero."""

    def __init__(self, width: int, head: int = 32) -> None:
        super().__init__()
        self.heads = width // head
        self.norm = nn.GroupNorm(8, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """`(N, width, H, W)` -> the same shape."""
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w).transpose(3, 4).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(n, c, h, w)
        out: Tensor = x + self.out(mixed)
        return out


class TimedBlock(nn.Module):
    """A residual block modulated by an embedding of the noise level (AdaGN; Dhariwal and Nichol 2021, section 3)."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, width, affine=False)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """`(N, width, H, W)` and `(N, embedding)` -> `(N, width, H, W)`."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return out


def down(inside: int, outside: int) -> nn.Module:
    """Half the resolution by a strided convolution."""
    return nn.Conv2d(inside, outside, 4, stride=2, padding=1)


def up(inside: int, outside: int) -> nn.Module:
    """Twice the resolution: convolution, then depth to space (Shi et al. 2016)."""
    return nn.Sequential(nn.Conv2d(inside, 4 * outside, 3, padding=1), nn.PixelShuffle(2))


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Reflect-pad the right and the bottom so that both sides divide by `multiple`."""
    height, width = x.shape[-2:]
    extra = (-width % multiple, -height % multiple)
    return F.pad(x, (0, extra[0], 0, extra[1]), mode="reflect") if any(extra) else x


def sinusoids(level: Tensor, width: int) -> Tensor:
    """Fourier features of a noise level in [0, 1]: `(N,)` -> `(N, width)`, frequencies 1 to 1000, geometric."""
    frequencies = torch.exp(torch.linspace(0.0, 6.9, width // 2, dtype=torch.float32, device=level.device))
    angles = level.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
