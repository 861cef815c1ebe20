"""What an aligned crop shows without asking a network: how sharp, how far turned, how open the eyes are.

Lengths are in face scales (see `geometry.face_scale`; about the distance between the eyes), so that they compare across
sizes. Points are the five landmarks in pixels of the crop.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr import geometry

_DEPTH = 1.8  # distance between the eyes divided by how far the nose's tip stands out before them (63 mm / 35 mm)
_EYE = (0.30, 0.17)  # half width and half height of what is looked at around an eye, face scales: without the brow
_MOUTH = (0.45, 0.30)
_GRID = 64  # samples across a region


def grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(S, S, 3)` RGB in [-1, 1] -> `(S, S)` luma in [-1, 1]."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)


def edges(luma: NDArray[np.float32]) -> float:
    """Mean gradient of the middle of a crop at 128 px, in 8-bit code values per pixel.

    Taken from the slightly blurred luma `(S, S)` in [-1, 1], so that noise does not pass for detail.
    """
    small = cv2.resize(luma, (128, 128), interpolation=cv2.INTER_AREA) * np.float32(127.5)
    smooth = cv2.GaussianBlur(small, (0, 0), 1.0)
    gradient = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125))
    return float(gradient[16:112, 16:112].mean())


def crispness(luma: NDArray[np.float32]) -> float:
    """How steep the steepest edges of a crop are beyond its usual gradient, in code values per pixel of a 256-px crop.

    The usual gradient is mostly noise: what stands out of it is structure.
    """
    smooth = cv2.GaussianBlur(cv2.resize(luma, (256, 256), interpolation=cv2.INTER_AREA) * np.float32(127.5), (0, 0), 1.0)
    gradient = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125))
    usual, steep = np.quantile(gradient[40:220, 40:216], (0.5, 0.97))
    return float(steep - usual)


def yaw(points: NDArray[Any]) -> float:
    """Degrees by which the head is turned aside, 0 (frontal) to 90 (profile), from the five points `(5, 2)`.

    A rigid head seen from afar: turning by a brings the eyes together with cos a and moves the nose aside with sin a.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = np.asarray(points, np.float64)
    axis = right_eye - left_eye
    mouth = (left_mouth + right_mouth) / 2
    down = mouth - (left_eye + right_eye) / 2
    across = np.array([down[1], -down[0]]) / max(float(np.hypot(*down)), 1e-6)  # level, also where the eyes fall together
    middle = (left_eye + right_eye + left_mouth + right_mouth) / 4
    aside = abs(float((nose - middle) @ across))
    width = max(float(axis @ across), 0.0)
    return float(np.degrees(np.arctan2(aside * _DEPTH, max(width, 1e-6))))


def region(luma: NDArray[np.float32], points: NDArray[Any], place: str) -> NDArray[np.float32]:
    """What lies around an eye or the mouth, on a grid of its own: `(h, 64)`.

    Args:
        luma: `(S, S)`.
        points: `(5, 2)`.
        place: `left`, `right` (of the picture) or `mouth`.
    """
    at = np.asarray(points, np.float64)
    center = {"left": at[0], "right": at[1], "mouth": at[3:].mean(0)}[place]
    half = np.array(_MOUTH if place == "mouth" else _EYE) * geometry.face_scale(at)
    height = round(_GRID * half[1] / half[0])
    scale = _GRID / (2 * max(float(half[0]), 1e-3))
    offset = np.array([_GRID, height]) / 2 - 0.5 - center * scale
    matrix = np.array([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]])
    found = cv2.warpAffine(luma, matrix, (_GRID, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


def darkness(patch: NDArray[np.float32], place: str) -> tuple[float, float]:
    """How tall the dark part of a `region` is, and where it lies from left to right; both in face scales.

    An open eye is dark over the height of its iris, a closed one along the line of its lashes only: on film, about 0.045
    to 0.06 against 0.035 to 0.04. The height is a standard deviation, the place the distance from the region's middle.
    """
    smooth = cv2.GaussianBlur(patch, (0, 0), 1.5)
    weight = np.clip(smooth.mean() - smooth, 0, None).astype(np.float64) ** 2
    total = float(weight.sum())
    if total < 1e-9:
        return 0.0, 0.0  # nothing is darker than the rest
    height, width = patch.shape
    unit = 2 * (_MOUTH if place == "mouth" else _EYE)[0] / width
    y, x = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    rows, columns = weight.sum(1) / total, weight.sum(0) / total
    middle = float(rows @ y)
    return float(np.sqrt(rows @ (y - middle) ** 2)) * unit, float(columns @ x) * unit
