"""What of a TIFF FFmpeg leaves out without a word: JPEG in it, all pages but the first, and pixels an inch (TIFF 6.0)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction

_HEAD, _ENTRY = 8, 12
"""Bytes of the header, and of an entry of a directory."""
_KIND, _COMPRESSION, _DNG = 0xFE, 0x103, 0xC612
"""Tags: what a picture is to the others, how it is compressed, and the version of DNG."""
_LESS = 0b101
"""Kinds that are a smaller version of another picture, or a mask of it."""
_JPEG = (6, 7)
_ACROSS, _DOWN, _UNIT = 0x11A, 0x11B, 0x128
"""Tags: pixels in a unit, of the width and the height, and the unit."""
_UNITS = {2: Fraction(1), 3: Fraction(254, 100)}
"""Inch (where none is named, too) and centimetre -> how many of them make an inch."""


def is_jpeg(data: bytes) -> bool:
    """Whether the first picture of a TIFF file is compressed as JPEG: FFmpeg reads that in a DNG alone, others come out black."""
    first = next(_directories(data), {})
    return first.get(_COMPRESSION) in _JPEG and _DNG not in first


def pages(data: bytes) -> int:
    """Pictures in a TIFF file, smaller versions and masks of others aside; 0 where it is none."""
    return sum(not tags.get(_KIND, 0) & _LESS for tags in _directories(data))


def resolution(data: bytes) -> Fraction | None:
    """Pixels an inch of the first picture of a TIFF file, or of EXIF; None where it says none, or another number for the height."""
    first, order = next(_directories(data), {}), "<" if data.startswith(b"II") else ">"
    unit = _UNITS.get(first.get(_UNIT, 2))
    places = (first.get(_ACROSS, 0), first.get(_DOWN, 0))
    if unit is None or not all(0 < place <= len(data) - 8 for place in places):
        return None
    (count, of), other = (struct.unpack_from(order + "II", data, place) for place in places)
    return Fraction(count, of) * unit if (count, of) == other and count and of else None


def _directories(data: bytes) -> Iterator[dict[int, int]]:
    """Of each picture its tags, with the value of those that hold a single number."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < _HEAD:
        return
    (at,) = struct.unpack_from(order + "I", data, 4)
    seen: set[int] = set()
    while at and at not in seen and at + 2 <= len(data):
        seen.add(at)
        (count,) = struct.unpack_from(order + "H", data, at)
        end = at + 2 + count * _ENTRY
        if end > len(data):
            return
        entries = ((*struct.unpack_from(order + "HH", data, place), place + 8) for place in range(at + 2, end, _ENTRY))
        yield {tag: struct.unpack_from(order + ("H" if kind == 3 else "I"), data, value)[0] for tag, kind, value in entries}
        at = struct.unpack_from(order + "I", data, end)[0] if end + 4 <= len(data) else 0
