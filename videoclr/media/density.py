"""How large a picture is in print: pixels an inch, which FFmpeg neither reads nor writes.

JPEG says it in its JFIF segment or in EXIF (JFIF 1.02; EXIF 3.0, 4.6.4), PNG in `pHYs` (PNG 3, 11.3.4.3), TIFF in its directory.
"""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

from videoclr.media.tiff import resolution

USUAL = (72, 96)
"""Pixels an inch that programs write where nobody chose any."""
HEAD = 1 << 16
"""Bytes in which JPEG and PNG files say it."""
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_INCH = Fraction(254, 10_000)
"""In metres."""
_PER_INCH, _PER_CM = 1, 2
LARGEST = (1 << 16) - 1
"""Pixels an inch that every kind of file has room for."""


def density_of(data: bytes) -> Fraction | None:
    """Pixels an inch that a picture file says; None where it says none, or another number for the height.

    Args:
        data: of JPEG and PNG, the first `HEAD` bytes; of TIFF, all.
    """
    try:
        if data.startswith(_PNG):
            return _of_png(data)
        if data.startswith(_JPEG):
            return _of_jpeg(data)
        return resolution(data)
    except struct.error:
        return None


def with_density(data: bytes, encoder: str, density: Fraction) -> bytes:
    """A picture as FFmpeg's `encoder` made it (`png` or `mjpeg`, of square pixels), saying `density` (pixels an inch)."""
    if encoder == "png":
        per_metre = round(density / _INCH)
        body = b"pHYs" + struct.pack(">IIB", per_metre, per_metre, 1)
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        head = len(_PNG) + 25  # behind IHDR
        old = data.find(b"pHYs", head, data.find(b"IDAT"))
        rest = data[head:] if old < 0 else data[head : old - 4] + data[old + 17 :]
        return data[:head] + chunk + rest
    at = data.find(b"JFIF\0", 0, HEAD)
    if at < 0:
        return data
    dots = round(density)
    return data[: at + 7] + struct.pack(">BHH", _PER_INCH, dots, dots) + data[at + 12 :]


def _of_png(data: bytes) -> Fraction | None:
    at = len(_PNG)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"pHYs":
            across, down, unit = struct.unpack_from(">IIB", data, at + 8)
            return across * _INCH if across == down and across and unit == 1 else None
        if kind == b"IDAT":
            break
        at += size + 12
    return None


def _of_jpeg(data: bytes) -> Fraction | None:
    at, noted = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, size = struct.unpack_from(">BH", data, at + 1)
        content = data[at + 4 : at + 2 + size]
        if kind == 0xE0 and content.startswith(b"JFIF\0"):
            unit, across, down = struct.unpack_from(">BHH", content, 7)
            if unit in (_PER_INCH, _PER_CM) and across == down and across:
                return Fraction(across) * (1 if unit == _PER_INCH else Fraction(254, 100))
        elif kind == 0xE1 and content.startswith(b"Exif\0\0"):
            noted = resolution(content[6:])
        elif kind == 0xDA:
            break
        at += 2 + size
    return noted
