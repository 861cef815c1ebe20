"""Video's integers and the models' floats: the only place that changes range, layout or depth.

Video is `(H, W, 3)` RGB uint8 0..255 or uint16 0..65535. Models see `(3, H, W)` RGB float32 in [-1, 1]. Between the
two, geometry works on `(H, W, 3)` float32 in [-1, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor


def peak(dtype: DTypeLike) -> int:
    """White: 255 for uint8, 65535 for uint16.

    Raises:
        ValueError: another dtype.
    """
    if np.dtype(dtype) not in (np.uint8, np.uint16):
        raise ValueError(f"expected uint8 or uint16, got {np.dtype(dtype)}")
    return int(np.iinfo(np.dtype(dtype)).max)


def normalized(image: NDArray[Any], white: int | None = None) -> NDArray[np.float32]:
    """Any layout, 0..white -> float32 in [-1, 1]. `white` is taken from an integer dtype unless given."""
    white = peak(image.dtype) if white is None else white
    return image.astype(np.float32) * np.float32(2 / white) - np.float32(1)


def quantized(image: NDArray[np.float32], dtype: DTypeLike) -> NDArray[Any]:
    """Any layout, float [-1, 1] -> uint8 or uint16, rounded to nearest, clipped to the range."""
    white = peak(dtype)
    # float64 for 16 bits: float32 has 24 bits of mantissa, and the rounding of 65535ths needs some of them.
    values: NDArray[Any] = image.astype(np.float64 if white > 255 else np.float32)
    result: NDArray[Any] = np.clip(np.rint((values + 1) * (white / 2)), 0, white).astype(dtype)
    return result


def to_tensor(image: NDArray[Any]) -> Tensor:
    """`(H, W, 3)` uint8, uint16, or float32 in [-1, 1] -> `(3, H, W)` float32 in [-1, 1], contiguous, on the CPU."""
    import torch

    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected (H, W, 3), got {image.shape}")
    values = image if image.dtype == np.float32 else normalized(image)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def to_array(tensor: Tensor) -> NDArray[np.float32]:
    """`(C, H, W)` tensor on any device -> `(H, W, C)` float32, same range."""
    if tensor.ndim != 3:
        raise ValueError(f"expected (C, H, W), got {tuple(tensor.shape)}")
    import cv2

    planes: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    if len(planes) == 3:  # in a quarter of the time
        return np.asarray(cv2.merge([np.ascontiguousarray(plane) for plane in planes]), np.float32)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def from_tensor(tensor: Tensor, dtype: DTypeLike = np.uint8) -> NDArray[Any]:
    """`(3, H, W)` in [-1, 1] on any device -> `(H, W, 3)` uint8 or uint16; the inverse of `to_tensor`."""
    return quantized(to_array(tensor), dtype)


def eight_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 or uint16, any layout -> uint8; the same object where it already is."""
    import cv2

    if image.dtype == np.uint8:
        return image
    # To the nearest, as `quantized` rounds. 65535 is 255 * 257, and no whole number lies half-way between two multiples of 257.
    flat = cv2.convertScaleAbs(np.ascontiguousarray(image).reshape(1, -1), alpha=1 / 257)
    return np.asarray(flat, np.uint8).reshape(image.shape)


def resized(image: NDArray[Any], side: int) -> NDArray[Any]:
    """A square `(S, S, 3)` picture of any dtype at `side` x `side` pixels; the same object where it is of that size."""
    import cv2

    if image.shape[0] == side:
        return image
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_CUBIC))


def mean_of_colours(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(H, W, 3)` -> `(H, W)`: what numpy's own `mean` over that short axis gives, to the bit, in a twentieth of the time."""
    return np.asarray((image[..., 0] + image[..., 1] + image[..., 2]) / np.float32(3), np.float32)
