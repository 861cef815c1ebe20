"""The restorer that gives back what it gets: the baseline of tests, and of the line without its heart."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from videoclr.types import FaceCrop


class Unchanged:
    """A `Restorer` whose result is its input."""

    def __init__(self, size: int = 256) -> None:
        """`size`: side of the crops, pixels.

        Raises:
            ValueError: below 16 or above 1024, or no whole number.
        """
        if not isinstance(size, Integral) or not 16 <= size <= 1024:
            raise ValueError(f"size must be 16 to 1024 whole pixels, got {size}")
        self.size = size

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
        """`(N, 3, S, S)`: the crops' own images. `memory` stays as it is."""
        return torch.stack([crop.image for crop in crops])
