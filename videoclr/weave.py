"""The faint weave that upsampling networks leave: a pattern fixed to their grid, which eyes see on smooth skin and in hair.

The recovery grows its picture by factors of two, so the pattern repeats every 8 px and lies, in frequencies, around the multiples
of 1/8 cycle per pixel (Odena et al., "Deconvolution and checkerboard artifacts", Distill 2016). What stands out there is cut down
towards its surroundings; a face's own texture has no reason to prefer these places. It is looked for in overlapping windows: the
weave of hair is another one than that of a cheek.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_PERIOD = 8
_WINDOW = 64
"""Side of the windows, px; they overlap by half."""
_CELL = _WINDOW // _PERIOD
_CORE, _RING = 1.5, 3.6
"""Distance, cycles per window, within which the weave lies around its frequencies, and within which the surroundings are asked."""
_OVER = 2.0
"""Power over that of the surroundings that is left. On 48 held-out faces, `mild` and `heavy`, PSNR rose by 0.05 dB, IDS and FFD
stayed, and SqD, whose network takes the weave for texture, rose by 1.3 and 1.8 % (by 2.4 and 3.0 % with 1, by 0.6 and 1.0 % with
4). One window as large as the crop left twice as much of it in hair for the same SqD."""
_ENLARGED = (1.0, 1.4)
"""How many times larger the crop is in the frame: up to the first nobody sees the weave, from the second on all of it goes."""


def unwoven(restored: Tensor, shown: Tensor) -> Tensor:
    """`restored` without the weave in what it changes of what was `shown`.

    Args:
        restored: `(N, 3, S, S)` float32 in [-1, 1], S at least 64.
        shown: the crops it was made of, as `restored`.

    Returns:
        As `restored`.
    """
    plain = torch.stack([_unwoven(changed) for changed in restored - shown])
    return (shown + plain).clamp(-1, 1)


def _unwoven(changed: Tensor) -> Tensor:
    """`(3, S, S)` without its weave; a row of windows at a time, for they take 16 times its room and 4K films leave little."""
    side, hop = changed.shape[-1], _WINDOW // 2
    more = -side % hop
    around = F.pad(changed[None], (hop, hop + more, hop, hop + more), mode="reflect")[0]
    # The square root on both ways: windows that overlap by half then add up to 1 (Griffin and Lim 1984).
    taper = torch.hann_window(_WINDOW, device=changed.device).sqrt()
    fades = taper[:, None] * taper[None, :]
    whole = torch.zeros_like(around)
    for top in range(0, around.shape[1] - hop, hop):
        row = slice(top, top + _WINDOW)
        windows = around[:, row].unfold(-1, _WINDOW, hop).transpose(1, 2) * fades
        levelled = torch.fft.ifft2(_levelled(torch.fft.fft2(windows))).real * fades
        whole[:, row] += F.fold(levelled.flatten(2).transpose(1, 2), (_WINDOW, around.shape[2]), _WINDOW, stride=hop)[:, 0]
    return whole[:, hop : hop + side, hop : hop + side]


def seen_enlarged(scale: float) -> float:
    """How much of the weave is to be taken out of a crop, in [0, 1]: as far as its pattern is enlarged until eyes see it.

    Args:
        scale: crop px per frame px (`geometry.scale_of`).
    """
    low, high = _ENLARGED
    return min(max((1 / scale - low) / (high - low), 0.0), 1.0)


def _levelled(spectra: Tensor) -> Tensor:
    """`(..., 64, 64)` complex spectra with what stands out around the multiples of 1/8 cycle per pixel cut down."""
    half = _CELL // 2
    # Cells around these multiples: moved by half a cell, so that each has its frequency in the middle.
    moved = torch.view_as_real(spectra).square().sum(-1).roll((half, half), dims=(-2, -1))
    power = moved.unflatten(-1, (_PERIOD, _CELL)).unflatten(-3, (_PERIOD, _CELL))  # cell and row, cell and column
    axis = torch.arange(_CELL, device=spectra.device) - half
    far = torch.hypot(axis[:, None].float(), axis[None, :].float())[:, None, :]
    ring = ((far >= _CORE) & (far < _RING)).to(power)
    most = _OVER * (power * ring).sum((-3, -1), keepdim=True) / ring.sum()
    kept = torch.where(far < _CORE, (most / power.clamp(min=1e-12)).sqrt().clamp(max=1), torch.ones_like(power))
    kept[..., 0, :, 0, :] = 1  # what is no pattern but the face
    return spectra * kept.flatten(-4, -3).flatten(-2, -1).roll((-half, -half), dims=(-2, -1))
