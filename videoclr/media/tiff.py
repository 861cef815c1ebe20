"""What of a TIFF FFmpeg leaves out or mistakes without a word: kinds of pictures that it shows black or wrong, all pages but the
first, pixels an inch, and what numbers of YCbCr mean (TIFF 6.0, technical note 3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction

from videoclr.media.colour import BT601, Matrix, matrix_of

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
"""A file's first bytes -> the order of the others, for `struct`."""
_HEAD, _ENTRY, _SHORT = 8, 12, 3
"""Bytes of the header, and of an entry of a directory, and the kind of numbers of 16 bits."""
_KIND, _COMPRESSION, _DNG = 0xFE, 0x103, 0xC612
"""Tags: what a picture is to the others, how it is compressed, and the version of DNG."""
_PHOTOMETRIC, _COEFFICIENTS, _BLACK_AND_WHITE = 0x106, 0x211, 0x214
"""Tags: what the numbers are, the weights of red, green and blue in luma, and the numbers of black and white."""
_PALETTE, _CMYK, _YCBCR = 3, 5, 6
_PROFILE, _BYTES = 0x8773, 7
"""Tag of a colour profile, and the kind of its value."""
_TOP, _LIMITED_TOP = 255, 235
_FULL = (0, _TOP, 128, _TOP, 128, _TOP)
"""Black and white of Y, Cb and Cr in the full range: what is meant where a file does not say."""
_LESS = 0b101
"""Kinds that are a smaller version of another picture, or a mask of it."""
_JPEG = (6, 7)
_BITS, _SAMPLES, _TILE, _FORMAT = 0x102, 0x115, 0x142, 0x153
"""Tags: bits of each sample, samples of a pixel, the width of a tile, and what samples are."""
_WHOLE, _SIGNED, _FLOAT, _FULL_FLOAT = 1, 2, 3, 32
"""What samples may be, and the bits of the floats that FFmpeg reads."""
_ACROSS, _DOWN, _UNIT = 0x11A, 0x11B, 0x128
"""Tags: pixels in a unit, of the width and the height, and the unit."""
_UNITS = {2: Fraction(1), 3: Fraction(254, 100)}
"""Inch (where none is named, too) and centimetre -> how many of them make an inch."""


def unreadable(data: bytes) -> str | None:
    """What the first picture of a TIFF file is, where FFmpeg would show it black or wrong without a word, and what to make of it;
    None of any other."""
    first = next(_directories(data), {})
    if _DNG in first:
        return None
    bits, kind, colours = first.get(_BITS, 1), first.get(_FORMAT, _WHOLE), first.get(_PHOTOMETRIC)
    mistaken = {
        "that is compressed as JPEG": first.get(_COMPRESSION) in _JPEG,
        "in tiles": _TILE in first,
        "of signed numbers": kind == _SIGNED,
        f"of floats of {bits} bits": kind == _FLOAT and bits < _FULL_FLOAT,
        f"of whole numbers of {bits} bits": kind == _WHOLE and bits >= _FULL_FLOAT,
        f"of CMYK in {bits} bits": colours == _CMYK and bits > 8,
        "of a palette with transparency": colours == _PALETTE and first.get(_SAMPLES, 1) > 1,
    }
    what = next((what for what, holds in mistaken.items() if holds), None)
    return what and f"a TIFF {what} cannot be decoded here; convert it to {'EXR' if kind == _FLOAT else 'PNG'}"


def pages(data: bytes) -> int:
    """Pictures in a TIFF file, smaller versions and masks of others aside; 0 where it is none."""
    return sum(not tags.get(_KIND, 0) & _LESS for tags in _directories(data))


def first_tags(data: bytes) -> dict[int, int]:
    """The tags of the first picture of a TIFF file, with the value, or the place of it, of each; empty of any other file."""
    return next(_directories(data), {})


def meaning(data: bytes) -> tuple[Matrix, bool] | None:
    """The matrix of the first picture and whether it is full range, where that is YCbCr; None of any other."""
    first = next(_directories(data), {})
    if first.get(_PHOTOMETRIC) != _YCBCR:
        return None
    weights, ends = (_fractions(data, first.get(tag), count) for tag, count in ((_COEFFICIENTS, 3), (_BLACK_AND_WHITE, 6)))
    matrix = BT601 if weights is None else matrix_of(weights[0], weights[2])
    return matrix, ends is None or ends[1] > (_TOP + _LIMITED_TOP) / 2


def with_full_range(data: bytes) -> bytes:
    """A TIFF file of YCbCr as FFmpeg writes it, which says limited range, saying full range."""
    at = next(_directories(data), {}).get(_BLACK_AND_WHITE)
    if at is None:
        return data
    said = struct.pack(_ORDERS[data[:4]] + "12I", *(part for number in _FULL for part in (number, 1)))
    return data[:at] + said + data[at + len(said) :]


def with_profile(data: bytes, profile: bytes) -> bytes:
    """A TIFF file of one picture with a colour profile (ICC.1, annex B.4), which FFmpeg does not write."""
    order = _ORDERS[data[:4]]
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    data += bytes(len(data) % 2)
    entries = [data[place : place + _ENTRY] for place in range(at + 2, at + 2 + count * _ENTRY, _ENTRY)]
    entries.append(struct.pack(order + "HHII", _PROFILE, _BYTES, len(profile), len(data)))
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry))  # as TIFF asks for
    table = struct.pack(order + "H", count + 1) + b"".join(entries) + bytes(4)
    body = profile + bytes(len(profile) % 2)
    return data[:4] + struct.pack(order + "I", len(data) + len(body)) + data[_HEAD:] + body + table


def _fractions(data: bytes, at: int | None, count: int) -> list[float] | None:
    if at is None or at + 8 * count > len(data):
        return None
    numbers = struct.unpack_from(f"{_ORDERS[data[:4]]}{2 * count}I", data, at)
    return [over / (under or 1) for over, under in zip(numbers[::2], numbers[1::2], strict=True)]


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
    """Of each picture its tags, with the value of those that hold a single number, and of short ones the first."""
    order = _ORDERS.get(data[:4])
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
        yield dict(_entry(data, order, place) for place in range(at + 2, end, _ENTRY))
        at = struct.unpack_from(order + "I", data, end)[0] if end + 4 <= len(data) else 0


def _entry(data: bytes, order: str, place: int) -> tuple[int, int]:
    tag, kind, count = struct.unpack_from(order + "HHI", data, place)
    at: int = place + 8
    if kind == _SHORT and count > 2:  # more than fit in here
        (at,) = struct.unpack_from(order + "I", data, at)
        at = min(at, len(data) - 2)
    return tag, struct.unpack_from(order + ("H" if kind == _SHORT else "I"), data, at)[0]
