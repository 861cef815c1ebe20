"""Crops out of frames, whoever wants them at whatever size."""

from __future__ import annotations

from torch import Tensor

from videoclr import geometry
from videoclr.pixels import normalized, peak, to_tensor
from videoclr.types import Frame


def cut_out(frame: Frame, matrix: geometry.Matrix, size: int) -> Tensor:
    """`(3, size, size)` RGB float32 in [-1, 1]: what `matrix`, frame pixels -> crop pixels, cuts out of a frame."""
    rectangle = geometry.reach(matrix, size, *frame.size)
    window = frame.window(rectangle)
    values = normalized(geometry.cut_window(window, rectangle, matrix, size), peak(window.dtype))
    return to_tensor(values.clip(-1, 1))
