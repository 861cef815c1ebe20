"""The conditional denoiser `D(z_t, t | z_y, z_R)` (CLR-Face, section 3.2), in a preconditioned form.

A raw network must learn at every noise level to copy what it already knows. This one is told: given that the clean latent lies
about `spread` away from `z_R` (the encoded output of the IRN), the best linear guess from `z_t` is known in closed form, and the
network learns only what remains, scaled to unit size. That is the preconditioning of Karras et al. (2022, section 5) around a
conditional mean [ours]. With an untrained network the denoiser is the linear guess, so the worst case is the IRN.

Noise is variance-preserving: `z_t = sqrt(a) z_0 + sqrt(1 - a) noise` with `a` the cumulative signal level in (0, 1].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from videoclr.models.layers import Attention, TimedBlock, down, pad_to, sinusoids, up


class Denoiser(nn.Module):
    """U-Net over latents `(N, latent, h, w)`, attention at a quarter of the resolution.

    Args:
        latent: channels of the latent.
        widths: channels at full, half and quarter resolution.
        blocks: residual blocks per level and direction.
        spread: standard deviation of `z_0 - z_R` over the training set.
    """

    spread: Tensor

    def __init__(self, latent: int = 6, widths: tuple[int, ...] = (48, 96, 192), blocks: int = 2, spread: float = 0.35) -> None:
        super().__init__()
        embedding = 4 * widths[0]
        self.register_buffer("spread", torch.tensor(spread))
        self.level = nn.Sequential(nn.Linear(32, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.stem = nn.Conv2d(3 * latent, widths[0], 3, padding=1)
        self.encode: Any = nn.ModuleList()
        self.decode: Any = nn.ModuleList()
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for number, width in enumerate(widths):
            self.encode.append(nn.ModuleList(TimedBlock(width, embedding) for _ in range(blocks)))
            if number + 1 < len(widths):
                self.down.append(down(width, widths[number + 1]))
                self.up.append(up(widths[number + 1], width))
                self.join.append(nn.Conv2d(2 * width, width, 1))
                self.decode.append(nn.ModuleList(TimedBlock(width, embedding) for _ in range(blocks)))
        self.attention = Attention(widths[-1])
        self.middle = TimedBlock(widths[-1], embedding)
        self.out = nn.Sequential(nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], latent, 3, padding=1))
        nn.init.zeros_(self.out[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.out[-1].bias)  # type: ignore[arg-type]

    def forward(self, z_t: Tensor, alpha: Tensor, z_y: Tensor, z_r: Tensor) -> Tensor:
        """The clean latent.

        Args:
            z_t: `(N, latent, h, w)` noisy latent.
            alpha: `(N,)` cumulative signal level `a_t` in (0, 1].
            z_y: `(N, latent, h, w)` `E_l(y)`.
            z_r: `(N, latent, h, w)` `E(R(y))`.
        """
        guess, scale, _ = self.precondition(z_t, alpha, z_r)
        return guess + scale * self.residual(z_t, alpha, z_y, z_r)

    def precondition(self, z_t: Tensor, alpha: Tensor, z_r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The linear guess of `z_0` (N, latent, h, w), the size of what remains `(N, 1, 1, 1)`, and
        `(z_t - sqrt(a) z_r)` at unit size."""
        a = alpha[:, None, None, None].float()
        noise = (1 - a).clamp_min(1e-6)
        variance = a * self.spread**2 + noise
        offset = z_t - a.sqrt() * z_r
        return (
            z_r + a.sqrt() * self.spread**2 / variance * offset,
            self.spread * (noise / variance).sqrt(),
            offset / variance.sqrt(),
        )

    def residual(self, z_t: Tensor, alpha: Tensor, z_y: Tensor, z_r: Tensor) -> Tensor:
        """What the network itself says: `(z_0 - guess) / scale`, about unit size."""
        height, width = z_t.shape[-2:]
        _, _, offset = self.precondition(z_t, alpha, z_r)
        embedding = self.level(sinusoids((1 - alpha).sqrt(), 32))
        h, kept = self.stem(pad_to(torch.cat([offset, z_y, z_r], dim=1), 4)), []
        for number, encode in enumerate(self.encode):
            for block in encode:
                h = block(h, embedding)
            if number < len(self.down):
                kept.append(h)
                h = self.down[number](h)
        h = self.middle(self.attention(h), embedding)
        for number in reversed(range(len(self.decode))):
            h = self.join[number](torch.cat([self.up[number](h), kept[number]], dim=1))
            for block in self.decode[number]:
                h = block(h, embedding)
        out: Tensor = self.out(h)
        return out[..., :height, :width].float()
