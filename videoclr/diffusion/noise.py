"""Noise levels and noise fields.

A level is the cumulative signal level `a` in (0, 1]: `z = sqrt(a) z_0 + sqrt(1 - a) noise`. Its noise share is `sqrt(1 - a)`.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def add_noise(z: Tensor, noise: Tensor, alpha: Tensor | float) -> Tensor:
    """`sqrt(a) z + sqrt(1 - a) noise`; `alpha` is a float or `(N,)`."""
    a = alpha[:, None, None, None] if isinstance(alpha, Tensor) else torch.tensor(alpha, device=z.device)
    return a.sqrt() * z + (1 - a).sqrt() * noise


def field(seed: int, name: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise on the CPU that depends on `seed` and `name` alone: never on the batch, the device or the order."""
    digest = hashlib.sha256(repr((seed, *name)).encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
