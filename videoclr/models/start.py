"""How wrong the IRN's latent is, guessed from what is known before diffusion starts: it decides how high diffusion starts.

Truncated diffusion contracts the error of its start where the noise is about as large as that error (DifFace, Yue and Loy 2022,
section 3.2): a nearly clean crop wants a low start, a badly degraded one a high one. The error `E(R(y)) - E(x)` is not known, but
how far `E_l(y)` lies from `E(R(y))`, and where, tells much of it [ours].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.layers import down

TYPICAL = 0.3
"""Error that a network without training guesses, latent units."""


class StartLevel(nn.Module):
    """`z_y`, `z_R` (N, latent, h, w) -> the error of `z_R`, root mean square per face, `(N,)` > 0. Any h, w >= 8."""

    def __init__(self, latent: int = 6, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2 * latent, width, 3, padding=1)
        self.down = nn.ModuleList((down(width, width), down(width, 2 * width)))
        # The mean of each channel, and of its square: how much there is of something, wherever it is.
        self.out = nn.Sequential(nn.Linear(4 * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 1))
        nn.init.zeros_(self.out[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.out[-1].bias)  # type: ignore[arg-type]

    def forward(self, z_y: Tensor, z_r: Tensor) -> Tensor:
        """The error."""
        return TYPICAL * self.logarithm(z_y, z_r).exp()

    def logarithm(self, z_y: Tensor, z_r: Tensor) -> Tensor:
        """`(N,)` natural logarithm of the error over `TYPICAL`, which is what is learned."""
        h = F.silu(self.stem(torch.cat([z_y - z_r, z_r], dim=1)))
        for smaller in self.down:
            h = F.silu(smaller(h))
        logarithm: Tensor = self.out(torch.cat([h.mean((2, 3)), h.pow(2).mean((2, 3)).add(1e-6).sqrt()], dim=1))[:, 0]
        return logarithm.float()
