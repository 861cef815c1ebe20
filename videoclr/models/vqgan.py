"""VQGAN with a flexible latent space: down-sampling 4, a small product codebook (CLR-Face, section 3.1; Esser et al. 2021).

Choices of this project:

* The stem and the head are depth/space shuffles, so that the first convolution already works at half the resolution.
* The latent is quantised in groups (product quantisation; Jegou et al. 2011): two groups of three channels with 2048 codes
  each reach the bits of a 4-million-entry codebook at the price of two small ones.
* The decoder is trained on quantised and on continuous latents in turn. A restorer may decode without quantising: a hard
  assignment flips between frames and would flicker, and its straight-through gradient misleads identity guidance.
* `E_l`, the encoder for degraded input, is the same class with its features exposed; the decoder takes them through
  spatial-attention gates (after SARGAN, Suin et al.), scaled by the fidelity dial.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.layers import ResBlock, down, up


class Encoder(nn.Module):
    """Picture to latent: `(N, 3, S, S)` RGB in [-1, 1] -> `(N, latent, S/4, S/4)`, about unit variance after training."""

    def __init__(self, latent: int = 6, stem: int = 32, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, stem, 3, padding=1), ResBlock(stem))
        self.body = nn.Sequential(down(stem, width), *(ResBlock(width) for _ in range(blocks)))
        self.head = nn.Conv2d(width, latent, 3, padding=1)

    def features(self, x: Tensor) -> Tensor:
        """`(N, width, S/4, S/4)`: what the decoder's gates look at."""
        out: Tensor = self.body(self.stem(x))
        return out

    def latent(self, features: Tensor) -> Tensor:
        """Features -> latent."""
        out: Tensor = self.head(F.leaky_relu(features, 0.1))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, S, S)` -> `(N, latent, S/4, S/4)`."""
        return self.latent(self.features(x))


class Fusion(nn.Module):
    """A spatial-attention residual: input features enter the decoder where a learned gate lets them. Starts at zero."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(inside + width, 32, 1), nn.LeakyReLU(0.1), nn.Conv2d(32, 1, 3, padding=1))
        self.value = nn.Sequential(
            nn.Conv2d(inside + width, width, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(width, width, 3, padding=1)
        )
        nn.init.zeros_(self.value[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.value[-1].bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, features: Tensor, strength: float | Tensor) -> Tensor:
        """`h` (N, width, H, W) plus the gated residual of `features` (N, inside, H, W) times `strength` in [0, 1]."""
        both = torch.cat([h, features], dim=1)
        out: Tensor = h + strength * torch.sigmoid(self.gate(both)) * self.value(both)
        return out


class Decoder(nn.Module):
    """Latent to picture: `(N, latent, H, W)` -> `(N, 3, 4H, 4W)` RGB, about [-1, 1] (not clamped)."""

    def __init__(
        self,
        latent: int = 6,
        width: int = 96,
        blocks: int = 4,
        head: int = 32,
        head_blocks: int = 2,
        features: int = 64,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(latent, width, 3, padding=1)
        self.early = nn.Sequential(*(ResBlock(width) for _ in range(blocks // 2)))
        self.fusion = Fusion(features, width)
        self.late = nn.Sequential(*(ResBlock(width) for _ in range(blocks - blocks // 2)))
        self.up = up(width, head)
        self.head = nn.Sequential(*(ResBlock(head) for _ in range(head_blocks)))
        self.out = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(head, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, z: Tensor, features: Tensor | None = None, strength: float | Tensor = 0.0) -> Tensor:
        """Decode `z`; with `features` of the degraded input, fuse them in with `strength` in [0, 1]."""
        h = self.early(self.stem(z))
        if features is not None:
            h = self.fusion(h, features, strength)
        out: Tensor = self.out(self.head(self.up(self.late(h))))
        return out


class Codebook(nn.Module):
    """Nearest-code quantisation in groups, learned by exponential averages, dead codes revived (van den Oord et al. 2017).

    Args:
        latent: channels of the latent, divided evenly among the groups.
        codes: entries per group.
        groups: product-quantisation groups.
        decay: of the averages that move the codes.
    """

    codes: Tensor
    usage: Tensor
    sums: Tensor

    def __init__(self, latent: int = 6, codes: int = 2048, groups: int = 2, decay: float = 0.99) -> None:
        super().__init__()
        self.groups, self.decay, width = groups, decay, latent // groups
        self.register_buffer("codes", torch.randn(groups, codes, width))
        self.register_buffer("usage", torch.ones(groups, codes))
        self.register_buffer("sums", self.codes.clone())

    def indices(self, z: Tensor) -> Tensor:
        """`(N, latent, H, W)` -> `(groups, N*H*W)` int64 indices of the nearest codes."""
        return torch.stack([torch.cdist(flat, codes).argmin(1) for flat, codes in zip(self._flat(z), self.codes, strict=True)])

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise.

        Returns:
            the quantised latent with a straight-through gradient, the commitment loss (scalar), and the indices.
        """
        n, _, height, width = z.shape
        indices = self.indices(z.detach())
        chosen = torch.stack([codes[i] for codes, i in zip(self.codes, indices, strict=True)])
        hard = chosen.permute(1, 0, 2).reshape(n, height, width, -1).permute(0, 3, 1, 2)
        commitment = F.mse_loss(z, hard.detach())
        if self.training:
            self._learn(self._flat(z.detach()), indices)
        return z + (hard - z).detach(), commitment, indices

    def perplexity(self, indices: Tensor) -> Tensor:
        """`(groups,)`: the exponential of the entropy of code use; equal to the number of codes when all are used alike."""
        share = torch.stack([torch.bincount(i, minlength=self.codes.shape[1]) for i in indices]).float()
        share = share / share.sum(1, keepdim=True)
        return torch.exp(-(share * share.clamp_min(1e-9).log()).sum(1))

    @torch.no_grad()
    def start_from(self, z: Tensor, rounds: int = 8) -> None:
        """Begin with k-means over the latents `z` (N, latent, H, W): no code starts dead."""
        for group, flat in enumerate(self._flat(z)):
            order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(group), device="cpu")
            flat = flat[order.to(flat.device)[: 40 * self.codes.shape[1]]]
            centres = flat[: self.codes.shape[1]].clone()
            for _ in range(rounds):
                nearest = torch.cdist(flat, centres).argmin(1)
                count = torch.bincount(nearest, minlength=len(centres)).float()
                total = torch.zeros_like(centres).index_add_(0, nearest, flat)
                centres = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], centres)
            self.codes[group] = centres
        self.usage.fill_(1.0)
        self.sums.copy_(self.codes)

    def _flat(self, z: Tensor) -> list[Tensor]:
        return [part.permute(0, 2, 3, 1).reshape(-1, part.shape[1]).float() for part in z.chunk(self.groups, dim=1)]

    @torch.no_grad()
    def _learn(self, flats: list[Tensor], indices: Tensor) -> None:
        for group, (flat, index) in enumerate(zip(flats, indices, strict=True)):
            count = torch.bincount(index, minlength=self.codes.shape[1]).float()
            total = torch.zeros_like(self.sums[group]).index_add_(0, index, flat)
            self.usage[group].lerp_(count, 1 - self.decay)
            self.sums[group].lerp_(total, 1 - self.decay)
            dead = self.usage[group] < 0.02
            if dead.any():
                fresh = flat[torch.randint(len(flat), (int(dead.sum()),), device=flat.device)]
                self.sums[group][dead], self.usage[group][dead] = fresh, 1.0
            self.codes[group] = self.sums[group] / self.usage[group].clamp_min(1e-5)[:, None]


class VQGAN(nn.Module):
    """Encoder, codebook and decoder together, as they are trained."""

    def __init__(self, latent: int = 6, codes: int = 2048, groups: int = 2) -> None:
        super().__init__()
        self.encoder = Encoder(latent)
        self.codebook = Codebook(latent, codes, groups)
        self.decoder = Decoder(latent)

    def forward(self, x: Tensor, quantise: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
        """`(N, 3, S, S)` -> the reconstruction, the commitment loss, and the code indices (None when not quantised)."""
        z = self.encoder(x)
        if not quantise:
            return self.decoder(z), z.new_zeros(()), None
        hard, commitment, indices = self.codebook(z)
        return self.decoder(hard), commitment, indices


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017) with spectral normalisation: `(N, 3, S, S)` -> `(N, 1, S/8, S/8)` logits. Training only."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            norm(nn.Conv2d(width, 2 * width, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            norm(nn.Conv2d(2 * width, 4 * width, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            norm(nn.Conv2d(4 * width, 4 * width, 3, 1, 1)),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits: positive for clean."""
        out: Tensor = self.layers(x)
        return out
