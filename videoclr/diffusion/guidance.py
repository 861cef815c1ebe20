"""Guidance wraps a denoiser: the clean estimate is moved along a gradient, only where a mask allows it (CLR-Face, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from videoclr.diffusion.sampler import Denoise

Distance = Callable[[Tensor], Tensor]
"""Clean latent `(N, C, h, w)` -> `(N,)` what guidance makes smaller, differentiable."""


def guided(denoise: Denoise, distance: Distance, mask: Tensor, strength: float | Tensor, last: float = 0.1) -> Denoise:
    """`z_0 <- z_0 - s_t rms(z_0) M g / rms(g)` with `g` the gradient of `distance` at `z_0`; outside `M` nothing moves.

    The gradient goes through `distance` only, not through the denoiser (the cheap form).

    Args:
        denoise: what is guided.
        distance: decoder and recogniser against the identity that is aimed at.
        mask: `(N, C, h, w)` in [0, 1].
        strength: `s` at full noise, one or `(N, 1, 1, 1)`; `s_t = s sqrt(1 - a_t)`, and 0 where the noise share is under `last`.
        last: noise share under which guidance rests, so that the last steps clean up after it.
    """

    def wrapped(z_t: Tensor, alpha: Tensor) -> Tensor:
        clean = denoise(z_t, alpha)
        share = (1 - alpha).sqrt()
        if not torch.as_tensor(strength).any() or float(share.max()) < last:
            return clean
        step = torch.where(share >= last, share, torch.zeros_like(share))[:, None, None, None]
        return clean - strength * step * mask * direction(distance, clean)

    return wrapped


def direction(distance: Distance, z: Tensor) -> Tensor:
    """The gradient of `distance` at `z`, scaled to the root mean square of `z`, per item; 0 where it is not finite."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = z.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(distance(leaf).sum(), leaf)
    size = rms(z) / rms(gradient).clamp_min(1e-12)
    return torch.nan_to_num(gradient * size, nan=0.0, posinf=0.0, neginf=0.0).detach()


def rms(z: Tensor) -> Tensor:
    """Root mean square per item: `(N, 1, 1, 1)`."""
    return z.pow(2).mean((1, 2, 3), keepdim=True).sqrt()
