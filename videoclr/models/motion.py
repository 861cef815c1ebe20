"""Motion between the crops of one face along a track, degraded ones as well, with how far off it may be.

Optical flow by patches takes the noise, the blocks and the ringing of a degraded face for motion: between neighbouring frames it is
further from the truth than no motion at all. A network that has seen many moving faces through all that, and looks at several
frames, need not be. No weights of it ship yet: the first ones were better on stills that are moved, and worse on film
(configs/train/LOG.md).

Between two frames: coarse to fine with warping and a local cost volume, as PWC-Net (Sun et al., CVPR 2018), the finest level
refined by the same weights again, as RAFT (Teed and Deng, ECCV 2020). Then over time [ours]: a face moves smoothly in its frame,
and what a codec makes of it does not, so the motions of all pairs are looked at together, less what the crop itself moved. The
scale of a Laplace distribution of the error is learned beside the motion (Ilg et al., ECCV 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.layers import ResBlock, down

SIDE = 256
"""Pixels of the crops that are looked at; others are brought to that size."""
CELL = 4
"""Pixels of a cell of the finest level, on whose grid the motion is told."""
CONTEXT = 4
"""Pairs before and after a pair that its motion depends on."""
_REACH = 3
"""Cells, each way, over which one level looks for where a cell went."""
_REFINEMENTS = 2
"""Looks at the finest level."""


class Moved(NamedTuple):
    """What moved between neighbouring frames; pair k is frames k and k + 1, way 0 from k to k + 1, way 1 back."""

    motion: Tensor
    """`(N, T - 1, 2, 2, h, w)`: pair, way, x and y in px; what is at p in the one is at p + motion in the other."""
    error: Tensor
    """`(N, T - 1, 2, 1, h, w)`: natural logarithm of the expected distance to the truth, px."""


class MotionNet(nn.Module):
    """Frames `(N, T, 3, S, S)` in [-1, 1], T > 1, S a multiple of 16 -> the motion between neighbours, on a grid of S / 4."""

    def __init__(self, widths: Sequence[int] = (48, 64, 96), hidden: int = 48, told: int = 8, over: int = 32) -> None:
        super().__init__()
        self.hidden = hidden
        self.stem = nn.Sequential(nn.PixelUnshuffle(CELL), nn.Conv2d(3 * CELL**2, widths[0], 3, padding=1))
        self.blocks = nn.ModuleList(nn.Sequential(ResBlock(width), ResBlock(width)) for width in widths)
        self.down = nn.ModuleList(down(a, b) for a, b in pairwise(widths))
        self.looks = nn.ModuleList(_Look(width, hidden) for width in widths)
        self.tell = nn.Conv2d(hidden, told, 1)
        self.over = _OverTime(2 * (3 + told) + 1, over)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """What is compared, `(N, C, h, w)`, from cells of 4 px on, each level half as fine as the one before."""
        h = self.blocks[0](self.stem(pictures))
        found = [h]
        for smaller, block in zip(self.down, list(self.blocks)[1:], strict=True):
            h = block(smaller(h))
            found.append(h)
        return found

    def forward(self, frames: Tensor, known: Tensor) -> tuple[Moved, list[Moved]]:
        """The motion.

        Args:
            frames: consecutive crops of a face.
            known: as `Moved.motion`, what would have moved if nothing but the crop had.

        Returns:
            the result, and what each look at two frames alone had said before, from coarse to fine, on its own grid.
        """
        looks, state = self.compared(frames)
        return self.settled(looks[-1], state, known), looks

    def compared(self, frames: Tensor) -> tuple[list[Moved], Tensor]:
        """What each look at two frames says, as of `forward`, and the state behind the last, `(N, T - 1, 2, C, h / 2, w / 2)`."""
        count, length = frames.shape[:2]
        told = [t.unflatten(0, (count, length)) for t in self.features(frames.flatten(0, 1))]
        first, second = ([self._pairs(t, way).flatten(0, 2) for t in told] for way in (0, 1))
        looks, state = self._looked(first, second)
        sizes = (count, length - 1, 2)
        return [Moved(*(t.unflatten(0, sizes) for t in look)) for look in looks], F.avg_pool2d(state, 2).unflatten(0, sizes)

    def settled(self, apart: Moved, state: Tensor, known: Tensor) -> Moved:
        """The result, of all pairs together: of the last look and what `compared` gives besides."""
        motion, error = apart
        sizes = motion.shape[:3]
        seen = F.avg_pool2d(torch.cat([(motion - known) / CELL, error], dim=3).flatten(0, 2), 2)
        seen = torch.cat([seen, self.tell(state.flatten(0, 2)).float()], dim=1).unflatten(0, sizes).flatten(2, 3)
        seen = torch.cat([seen, seen.new_ones(*seen.shape[:2], 1, *seen.shape[3:])], dim=2)  # where it ends, zeros follow
        change = self.over(seen.transpose(1, 2)).transpose(1, 2).flatten(0, 1).float()
        change = F.interpolate(change, size=motion.shape[-2:], mode="bilinear", align_corners=False)
        change = change.unflatten(0, sizes[:2]).unflatten(2, (2, 3))
        return Moved(motion + CELL * change[:, :, :, :2], error + change[:, :, :, 2:])

    @staticmethod
    def _pairs(told: Tensor, way: int) -> Tensor:
        """`(N, T, ...)` -> `(N, T - 1, 2, ...)`: of each pair and way, where it comes from (0) or leads to (1)."""
        ends = (told[:, :-1], told[:, 1:])
        return torch.stack([ends[way], ends[1 - way]], dim=2)

    def _looked(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        batch, _, height, width = first[-1].shape
        motion = torch.zeros((batch, 2, height, width), device=first[-1].device)
        state = first[-1].new_zeros(batch, self.hidden, height, width)
        found = []
        for level in reversed(range(len(first))):
            size, cell = first[level].shape[-2:], CELL * 2**level
            motion, state = (F.interpolate(t, size=size, mode="bilinear", align_corners=False) for t in (motion, state))
            for _ in range(1 if level else _REFINEMENTS):
                motion, error, state = self.looks[level](first[level], second[level], motion, state, cell)
                found.append((motion, error))
        return found, state


class _Look(nn.Module):
    """One correction of the motion, by what lies around where it leads."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.own = nn.Conv2d(width, 32, 1)
        self.join = nn.Conv2d((2 * _REACH + 1) ** 2 + 32 + 2 + hidden, hidden, 3, padding=1)
        self.body = nn.Sequential(ResBlock(hidden), ResBlock(hidden), nn.LeakyReLU(0.1))
        self.out = nn.Conv2d(hidden, 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, first: Tensor, second: Tensor, motion: Tensor, state: Tensor, cell: int) -> tuple[Tensor, Tensor, Tensor]:
        """Motion, px, and state `(N, hidden, h, w)` in; motion, logarithm of its error, and state out."""
        cost = correlation(first, moved(second, motion / cell), _REACH)
        state = self.body(self.join(torch.cat([cost, self.own(first), motion / cell, state], dim=1)))
        said = self.out(state).float()
        return motion + cell * said[:, :2], said[:, 2:], state


class _OverTime(nn.Module):
    """`(N, C, T, h, w)` -> `(N, 6, T, h, w)`: a change of x, y and the logarithm of the error, of both ways; zero at first."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv3d(inside, width, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv3d(width, width, 3, padding=1) for _ in range(CONTEXT - 1))
        self.out = nn.Conv3d(width, 6, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """The change."""
        h = self.stem(x)
        for layer in self.body:
            h = h + layer(F.leaky_relu(h, 0.1))
        out: Tensor = self.out(F.leaky_relu(h, 0.1))
        return out


def correlation(first: Tensor, second: Tensor, reach: int) -> Tensor:
    """`(N, (2 reach + 1)^2, h, w)`: cosines of each place's features with those of the places around it in `second`."""
    a, b = F.normalize(first, dim=1), F.pad(F.normalize(second, dim=1), [reach] * 4)
    height, width = a.shape[-2:]
    steps = range(2 * reach + 1)
    return torch.stack([(a * b[..., y : y + height, x : x + width]).sum(1) for y in steps for x in steps], dim=1)


def moved(values: Tensor, motion: Tensor) -> Tensor:
    """`result[p] = values[p + motion[p]]`, bilinear; motion `(N, 2, h, w)` in cells of `values`' own grid."""
    height, width = values.shape[-2:]
    with torch.autocast(values.device.type, enabled=False):  # half precision rounds places to cells
        y, x = (torch.arange(n, device=values.device, dtype=torch.float32) for n in (height, width))
        place = torch.stack([x.expand(height, width), y[:, None].expand(height, width)]) + motion.float()
        share = (place + 0.5) * (2 / torch.tensor([width, height], device=values.device).view(1, 2, 1, 1)) - 1
        grid = share.permute(0, 2, 3, 1)
        return F.grid_sample(values.float(), grid, padding_mode="border", align_corners=False).to(values.dtype)
