"""Where the components of a pixel format lie in its planes, so that patches can be written into them.

PyAV tells planes and depths but not steps, offsets and shifts, so they stand here, from libavutil/pixdesc's public
description of each format. A format that is not here (palettes, bit streams) is converted by `picture` first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

_SUBSAMPLING = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
_PLANAR_YUV = re.compile(r"yuv([aj])?(\d{3})p(\d+)?(le|be)?")
_PLANAR_RGB = re.compile(r"gbr(a)?p(\d+)?(le|be)?")
_SEMI_PLANAR = re.compile(r"nv(12|21|16|24|42)")
_HIGH_SEMI_PLANAR = re.compile(r"p([024])(10|12|16)(le|be)")
_GRAY = re.compile(r"(gray|ya)(\d+)?(le|be)?")
_PACKED_RGB = re.compile(r"([rgba0]{3,4})(24|48|64)?(le|be)?")
_PLANAR_FLOAT = re.compile(r"gbr(a)?pf(16|32)(le|be)")
_PACKED_FLOAT = re.compile(r"rgb(a)?f(16|32)(le|be)")
_GRAY_FLOAT = re.compile(r"(?:gray|y(a))f(16|32)(le|be)")
_PACKED_YUV = {"yuyv422": "yuyv", "uyvy422": "uyvy", "yvyu422": "yvyu"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where one component's samples lie."""

    plane: int
    first: int = 0
    """Samples before the first."""
    step: int = 1
    """Samples from one to the next."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Components of a pixel format. No patch touches alpha, which is not told of YUV."""

    kind: str
    """`yuv`, `gray` or `rgb`."""
    places: tuple[Place, ...]
    """Y, U, V; or Y; or R, G, B."""
    depth: int = 8
    """Bits of a component."""
    shift: int = 0
    """Zero bits below the value (P010 and its kin)."""
    big_endian: bool = False
    subsampling: tuple[int, int] = (0, 0)
    """log2 of the chroma's horizontal and vertical subsampling."""
    floating: bool = False
    """Samples are floats, of any size and sign."""
    alpha: Place | None = None
    """Where transparency lies, of grey and RGB."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a stored sample."""
        if self.floating:
            return np.dtype(f"{'>' if self.big_endian else '<'}f{self.depth // 8}")
        if self.depth + self.shift <= 8:
            return np.dtype(np.uint8)
        return np.dtype(">u2" if self.big_endian else "<u2")

    def view(self, frame: VideoFrame, component: int) -> NDArray[Any]:
        """The samples of a component, `(h, w)`, writable in place."""
        samples = self._at(frame, self.places[component])
        sx, sy = self.subsampling if self.kind == "yuv" and component else (0, 0)
        return samples[: -(-frame.height >> sy), : -(-frame.width >> sx)]

    def opacity(self, frame: VideoFrame) -> NDArray[Any] | None:
        """The samples of `alpha`, as `view`; None where there are none."""
        return None if self.alpha is None else self._at(frame, self.alpha)[: frame.height, : frame.width]

    def _at(self, frame: VideoFrame, place: Place) -> NDArray[Any]:
        plane = frame.planes[place.plane]
        data = np.frombuffer(memoryview(plane), np.uint8)[: plane.height * plane.line_size]
        rows = data.reshape(plane.height, plane.line_size).view(self.dtype)
        samples: NDArray[Any] = rows[:, place.first :: place.step]
        return samples


@cache
def layout_of(name: str) -> Layout | None:
    """The layout of FFmpeg's pixel format `name`, or None where it cannot be written into."""
    return _planar(name) or _semi_planar(name) or _gray(name) or _packed(name) or _float(name)


def _planar(name: str) -> Layout | None:
    if (found := _PLANAR_YUV.fullmatch(name)) and found[2] in _SUBSAMPLING:
        places = (Place(0), Place(1), Place(2))
        return Layout("yuv", places, int(found[3] or 8), 0, found[4] == "be", _SUBSAMPLING[found[2]])
    if found := _PLANAR_RGB.fullmatch(name):
        alpha = Place(3) if found[1] else None
        return Layout("rgb", (Place(2), Place(0), Place(1)), int(found[2] or 8), 0, found[3] == "be", alpha=alpha)
    return None


def _semi_planar(name: str) -> Layout | None:
    if found := _SEMI_PLANAR.fullmatch(name):
        u, v = (1, 0) if found[1] in ("21", "42") else (0, 1)
        sampling = {"12": (1, 1), "21": (1, 1), "16": (1, 0)}.get(found[1], (0, 0))
        return Layout("yuv", (Place(0), Place(1, u, 2), Place(1, v, 2)), subsampling=sampling)
    if name in ("nv20le", "nv20be"):
        return Layout("yuv", (Place(0), Place(1, 0, 2), Place(1, 1, 2)), 10, 0, name.endswith("be"), (1, 0))
    if found := _HIGH_SEMI_PLANAR.fullmatch(name):
        depth, sampling = int(found[2]), {"0": (1, 1), "2": (1, 0), "4": (0, 0)}[found[1]]
        places = (Place(0), Place(1, 0, 2), Place(1, 1, 2))
        return Layout("yuv", places, depth, 16 - depth, found[3] == "be", sampling)
    return None


def _gray(name: str) -> Layout | None:
    if found := _GRAY.fullmatch(name):
        step, alpha = (2, Place(0, 1, 2)) if found[1] == "ya" else (1, None)
        return Layout("gray", (Place(0, 0, step),), int(found[2] or 8), 0, found[3] == "be", alpha=alpha)
    return None


def _packed(name: str) -> Layout | None:
    if order := _PACKED_YUV.get(name):
        u, v = order.index("u"), order.index("v")
        places = (Place(0, order.index("y"), 2), Place(0, u, 4), Place(0, v, 4))
        return Layout("yuv", places, subsampling=(1, 0))
    found = _PACKED_RGB.fullmatch(name)
    if not found or sorted(found[1].replace("a", "").replace("0", "")) != ["b", "g", "r"]:
        return None
    depth = 16 if found[2] in ("48", "64") else 8
    channels = tuple(Place(0, found[1].index(letter), len(found[1])) for letter in "rgb")
    alpha = Place(0, found[1].index("a"), len(found[1])) if "a" in found[1] else None
    return Layout("rgb", channels, depth, 0, found[3] == "be", alpha=alpha)


def _float(name: str) -> Layout | None:
    places: tuple[Place, ...]
    if found := _PLANAR_FLOAT.fullmatch(name):
        kind, places, alpha = "rgb", (Place(2), Place(0), Place(1)), Place(3)
    elif found := _PACKED_FLOAT.fullmatch(name):
        step = 4 if found[1] else 3
        kind, places, alpha = "rgb", (Place(0, 0, step), Place(0, 1, step), Place(0, 2, step)), Place(0, 3, step)
    elif found := _GRAY_FLOAT.fullmatch(name):
        kind, places, alpha = "gray", (Place(0, 0, 2 if found[1] else 1),), Place(0, 1, 2)
    else:
        return None
    return Layout(kind, places, int(found[2]), 0, found[3] == "be", floating=True, alpha=alpha if found[1] else None)
