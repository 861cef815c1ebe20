"""How the numbers in a picture's planes mean colours: matrix, range and depth.

Coefficients: ITU-R BT.601-7, BT.709-6, BT.2020-2 (non-constant luminance), SMPTE ST 240, FCC 73.682; code values after
BT.2100-2 table 9. Untagged YUV is taken as BT.709 from 720 lines up and as BT.601 below; swscale's own default is
BT.601 for everything, which tints untagged HD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

HD_LINES = 720
LINEAR, PQ, HLG = 8, 16, 18
"""AVCOL_TRC_LINEAR, AVCOL_TRC_SMPTE2084, AVCOL_TRC_ARIB_STD_B67."""
BT709_TAG = 1
"""AVCOL_PRI_BT709, and the same number for the transfer."""
WIDE = 9
"""AVCOL_PRI_BT2020."""
UNSPECIFIED = 2
"""AVCOL_SPC_UNSPECIFIED, and the same number for primaries and transfer."""
RGB_SPACE = 0
"""AVCOL_SPC_RGB."""
LIMITED, FULL = 1, 2
"""AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A luma equation: `Y = kr R + (1 - kr - kb) G + kb B`."""

    name: str
    """`bt601`, `bt709`, `bt2020`, `fcc` or `smpte240m`."""
    kr: float
    kb: float
    tag: int
    """AVColorSpace of a stream that says so."""
    scaler: int
    """swscale's number (SWS_CS_*), which differs from the tag for 601."""


BT709 = Matrix("bt709", 0.2126, 0.0722, 1, 1)
BT601 = Matrix("bt601", 0.299, 0.114, 6, 5)
_MATRICES = {
    1: BT709,
    4: Matrix("fcc", 0.30, 0.11, 4, 4),
    5: Matrix("bt601", 0.299, 0.114, 5, 5),
    6: BT601,
    7: Matrix("smpte240m", 0.212, 0.087, 7, 7),
    9: Matrix("bt2020", 0.2627, 0.0593, 9, 9),
    # Constant luminance differs in theory; no decoder converts it properly either, and the name stays right.
    10: Matrix("bt2020", 0.2627, 0.0593, 10, 9),
}

MATRICES = {tag: matrix.name for tag, matrix in _MATRICES.items()}
"""AVColorSpace -> name of the matrix, of those that are understood here."""
PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020", 10: "smpte428",
    11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
"""AVColorPrimaries -> FFmpeg's name."""
TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100", 10: "log316",
    11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084",
    17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
"""AVColorTransferCharacteristic -> FFmpeg's name."""


@dataclass(frozen=True, slots=True)
class Colour:
    """What the code values of one pixel format mean in one stream."""

    kind: str
    """`yuv`, `gray` or `rgb`."""
    matrix: Matrix
    """In force for `yuv` and `gray`."""
    full: bool
    """True for the full range."""

    def code_values(self, rgb: NDArray[Any], depth: int) -> tuple[NDArray[np.float32], ...]:
        """Luma, Cb, Cr of `rgb` `(h, w, 3)` float32 in [0, 1], as unrounded float32 code values of `depth` bits."""
        matrix = self.matrix
        weights = np.array([matrix.kr, 1 - matrix.kr - matrix.kb, matrix.kb], np.float32)
        luma = rgb @ weights
        blue = (rgb[..., 2] - luma) / np.float32(2 * (1 - matrix.kb))
        red = (rgb[..., 0] - luma) / np.float32(2 * (1 - matrix.kr))
        unit, middle, top = 1 << (depth - 8), np.float32(1 << (depth - 1)), np.float32((1 << depth) - 1)
        if self.full:
            return luma * top, blue * top + middle, red * top + middle
        return (
            luma * np.float32(219 * unit) + 16 * unit,
            blue * np.float32(224 * unit) + middle,
            red * np.float32(224 * unit) + middle,
        )

    def changes(self, rgb: NDArray[Any], depth: int) -> tuple[NDArray[np.float32], ...]:
        """By how much luma, Cb, Cr move when R'G'B' moves by `rgb` `(h, w, 3)`; exactly 0 where that is 0."""
        return tuple(moved - still for moved, still in zip(self.code_values(rgb, depth), self._zero(depth), strict=True))

    def _zero(self, depth: int) -> tuple[NDArray[np.float32], ...]:
        return self.code_values(np.zeros((1, 1, 3), np.float32), depth)


def default_matrix(height: int) -> Matrix:
    """The matrix of untagged YUV of `height` lines."""
    return BT709 if height >= HD_LINES else BT601


def matrix_of(kr: float, kb: float) -> Matrix:
    """The matrix whose weights of red and blue in luma are the nearest to these."""
    return min(_MATRICES.values(), key=lambda one: abs(one.kr - kr) + abs(one.kb - kb))


def kind_of(pixel_format: str) -> str:
    """`rgb`, `gray` or `yuv`, from FFmpeg's name of a pixel format."""
    if pixel_format.startswith(("gray", "ya8", "ya16", "yaf", "mono")):
        return "gray"
    rgb = ("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "x2rgb", "x2bgr", "bayer", "xyz")
    return "rgb" if pixel_format.startswith(rgb) else "yuv"


def colour_of(frame: VideoFrame) -> Colour:
    """What `frame`'s numbers mean, by its tags or, untagged, by its kind and size."""
    name = frame.format.name
    kind = kind_of(name)
    matrix = _MATRICES.get(frame.colorspace) or default_matrix(frame.height)
    # Untagged gray comes from stills and is full; RGB always is; yuvj says so in its name.
    full = kind == "rgb" or frame.color_range == FULL or "yuvj" in name
    full = full or (kind == "gray" and frame.color_range != LIMITED)
    return Colour(kind, matrix, full)


def is_known_matrix(frame: VideoFrame) -> bool:
    """False where a YUV frame is tagged with a matrix that is not understood here (YCgCo, ICtCp ...)."""
    return kind_of(frame.format.name) != "yuv" or frame.colorspace in (*_MATRICES, UNSPECIFIED, RGB_SPACE)
