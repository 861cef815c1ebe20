"""A soft ellipse over the face: the mask that needs no network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from videoclr.types import FaceCrop

CENTER, RADII, SOFTNESS = (0.5, 0.55), (0.45, 0.43), 0.18


class Feather:
    """A `Masker`: 1 on forehead, cheeks, ears and chin of an FFHQ-aligned face, 0 from before the crop's border on.

    A softer edge of a smaller ellipse (0.3, radii of 0.42 and 0.43) let the input's noise through on chins and ears: on 25 clips
    E*warp was 1.55 of the clean clip's for 1.33.
    """

    def __init__(self, center: Sequence[float] = CENTER, radii: Sequence[float] = RADII, softness: float = SOFTNESS) -> None:
        """All lengths are shares of the crop's side.

        Args:
            center: x, y of the ellipse.
            radii: half axes in x and y, where the mask reaches 0.
            softness: share of the radius over which it falls from 1 to 0.

        Raises:
            ValueError: the ellipse touches the crop's border (a seam would show), or `softness` is not in (0, 1].
        """
        if len(center) != 2 or len(radii) != 2:
            raise ValueError(f"center and radii are two numbers each, got {list(center)} and {list(radii)}")
        for middle, radius in zip(center, radii, strict=True):
            if not (radius > 0 and middle - radius >= 0.01 and middle + radius <= 0.99):
                raise ValueError(f"the ellipse {tuple(center)} +- {tuple(radii)} must lie inside 0.01 .. 0.99")
        if not 0 < softness <= 1:
            raise ValueError(f"softness must be in (0, 1], got {softness}")
        self.center = (float(center[0]), float(center[1]))
        self.radii = (float(radii[0]), float(radii[1]))
        self.softness = softness

    def mask(self, crops: Sequence[FaceCrop], images: Tensor) -> Tensor:
        """`(N, 1, S, S)` float32 in [0, 1] on the device of `images` `(N, 3, S, S)`; the same for every face."""
        height, width = images.shape[-2:]
        x = (torch.arange(width, dtype=torch.float32, device=images.device) + 0.5) / width - self.center[0]
        y = (torch.arange(height, dtype=torch.float32, device=images.device) + 0.5) / height - self.center[1]
        radius = torch.hypot(x[None, :] / self.radii[0], y[:, None] / self.radii[1])
        ramp = ((1 - radius) / self.softness).clamp(0, 1)
        smooth = ramp * ramp * (3 - 2 * ramp)  # smoothstep: no crease where the edge begins
        return smooth.to(torch.float32).expand(len(crops), 1, height, width)


CORE = Feather(radii=(0.42, 0.43), softness=0.3)
"""Where a restoration is judged and measured, whatever it is blended with: less the rim, where little of the face is."""
