"""Display matrices: how a stored picture is turned and mirrored when it is shown.

FFmpeg's matrix (libavutil/display.h) maps a stored point `(p, q)` to the shown point `x = a p + c q`, `y = b p + d q`
in 16.16 fixed point, rows `(a, b, u), (c, d, v), (x, y, w)`. PyAV decodes without applying it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer, Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoclr.media.colour import kind_of
from videoclr.media.filters import Line, through

_ONE = 1 << 16
_MATRIX_BYTES = 36
_KINDS = 64
"""More than FFmpeg has kinds of side data."""


def _know_every_kind() -> None:
    """Make PyAV bear side data that are newer than its list.

    PyAV 18 lists FFmpeg's kinds in an enum that lags behind: a JPEG with EXIF (kind 31) makes `frame.side_data` raise
    ValueError, and with that its orientation is out of reach. Nameless members let it pass over what it does not know.
    """
    for value in set(range(_KINDS)) - set(Type._value2member_map_):
        member = object.__new__(Type)
        member._name_ = f"KIND_{value}"
        member.__dict__["_value_"] = value
        Type._value2member_map_[value] = member


_know_every_kind()


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to lay a picture: transpose first, then mirror left-right, then top-bottom."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False
    matrix: tuple[int, ...] | None = None
    """The display matrix as stored, nine integers, or None where the file has none."""

    @property
    def upright(self) -> bool:
        """True where the stored picture is shown as it is."""
        return not (self.transpose or self.mirror_x or self.mirror_y)

    @property
    def degrees(self) -> int:
        """Clockwise turn when shown: 0, 90, 180 or 270 (a mirrored picture: the turn after mirroring left-right)."""
        if self.transpose:
            return 90 if self.mirror_x else 270
        return 180 if self.mirror_y else 0

    def shown(self, stored: NDArray[Any]) -> NDArray[Any]:
        """`stored` `(h, w, ...)` as a viewer sees it; a view."""
        out = np.swapaxes(stored, 0, 1) if self.transpose else stored
        out = out[:, ::-1] if self.mirror_x else out
        return out[::-1] if self.mirror_y else out

    def stored(self, shown: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `shown`; a view."""
        out = shown[::-1] if self.mirror_y else shown
        out = out[:, ::-1] if self.mirror_x else out
        return np.swapaxes(out, 0, 1) if self.transpose else out

    def stored_corner(self, x: int, y: int, width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
        """Left, top in the stored picture of a rectangle of the shown picture; `size` is the shown width, height."""
        if self.mirror_y:
            y = size[1] - y - height
        if self.mirror_x:
            x = size[0] - x - width
        return (y, x) if self.transpose else (x, y)

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Width, height as shown of a stored picture; the map is its own inverse."""
        return (height, width) if self.transpose else (width, height)


def orientation_of(frame: VideoFrame) -> Orientation:
    """From the display matrix that the decoder attached (container's or EXIF's); turns by no right angle are left."""
    data = payload(frame, Type.DISPLAYMATRIX)
    if data is None or len(data) < _MATRIX_BYTES:
        return Orientation()
    matrix = struct.unpack("=9i", data[:_MATRIX_BYTES])
    a, b, c, d = (round(matrix[i] / _ONE) for i in (0, 1, 3, 4))
    if abs(a) == 1 and abs(d) == 1 and not (b or c):
        return Orientation(False, a < 0, d < 0, matrix)
    if abs(b) == 1 and abs(c) == 1 and not (a or d):
        return Orientation(True, c < 0, b < 0, matrix)
    return Orientation(matrix=matrix)


def payload(frame: VideoFrame, kind: Type) -> bytes | None:
    """The bytes of a frame's side data of one kind, or None."""
    return next((bytes(item) for item in side_data(frame) if item.type == kind), None)


def carries(frame: VideoFrame, kind: Type) -> bool:
    """Whether the frame has side data of a kind; also of the kinds that `side_data` cannot look at."""
    return bool(Line(frame, [("sidedata", f"mode=select:type={kind.name}")]).push(frame))


def side_data(frame: VideoFrame) -> list[SideData]:
    """All of it. Not by `frame.side_data`: the frame keeps that, which holds the frame, so that neither goes before the
    collector comes by, and a decoder fills the memory with pictures meanwhile. Never of YUV that was made of a PNG's RGB."""
    if kind_of(frame.format.name) != "yuv":  # the ICC profile of a PNG has a name, which PyAV 18 frees with every look at it
        frame = through(frame, ("sidedata", "mode=delete:type=ICC_PROFILE"))
    container: Any = SideDataContainer  # its stub knows neither the argument nor that it iterates over the side data themselves
    return list(container(frame))
