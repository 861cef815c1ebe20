"""The faint weave that upsampling networks leave: a pattern fixed to their grid, which eyes see on smooth skin.

The recovery grows its picture by factors of two, so the pattern repeats every 8 px and lies, in frequencies, around the multiples
of 1/8 cycle per pixel (Odena et al., "Deconvolution and checkerboard artifacts", Distill 2016). What stands out there is cut down
towards its surroundings; a face's own texture has no reason to prefer these places.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PERIOD = 8
_CORE, _RING = 3 / 256, 6 / 256
"""Radius, cycles per pixel, in which the weave lies around its frequencies, and in which the surroundings are asked."""
_OVER = 4.0
"""Power over that of the surroundings that is left. On 24 held-out faces the energy at these frequencies fell from 3.3 times its
surroundings to 2.6 (`heavy` 5.1 to 3.1; clean faces 1.9), and SqD, whose network takes the weave for texture, rose by 1.0 and
1.8 %; with 1, to 2.2 (2.4), by 2.1 and 3.2 %."""


def unwoven(restored: Tensor, shown: Tensor) -> Tensor:
    """`restored` without the weave in what it changes of what was `shown`.

    Args:
        restored: `(N, 3, S, S)` float32 in [-1, 1], S divisible by 16; of small ones less can be told.
        shown: the crops it was made of, as `restored`.

    Returns:
        As `restored`.
    """
    side = restored.shape[-1]
    cell = side // _PERIOD
    frequencies = torch.fft.fft2(restored - shown)
    # Cells around the multiples of 1/8: moved by half a cell, so that each has its frequency in the middle.
    moved = frequencies.roll((cell // 2, cell // 2), dims=(-2, -1))
    cells = moved.unflatten(-1, (_PERIOD, cell)).unflatten(-3, (_PERIOD, cell)).transpose(-3, -2)
    power = cells.abs().square()
    axis = (torch.arange(cell, device=restored.device) - cell // 2) / side
    far = torch.hypot(axis[:, None], axis[None, :])
    ring = ((far >= _CORE) & (far < _RING)).to(power)
    most = _OVER * (power * ring).sum((-2, -1), keepdim=True) / ring.sum()
    kept = torch.where(far < _CORE, (most / power.clamp(min=1e-12)).sqrt().clamp(max=1), torch.ones_like(power))
    kept[..., 0, 0, :, :] = 1  # what is no pattern but the face
    back = (cells * kept).transpose(-3, -2).flatten(-4, -3).flatten(-2, -1).roll((-(cell // 2), -(cell // 2)), dims=(-2, -1))
    result: Tensor = (shown + torch.fft.ifft2(back).real).clamp(-1, 1)
    return result
