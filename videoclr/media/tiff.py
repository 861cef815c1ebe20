"""What of a TIFF FFmpeg leaves out or mistakes without a word: kinds of pictures that it shows black or wrong, all pages but the
first, pixels an inch, what numbers of YCbCr mean (TIFF 6.0, technical note 3), whether colours are multiplied with their alpha
(TIFF 6.0, section 18), and how the file is compressed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from types import MappingProxyType

import numpy as np
from av.video.frame import VideoFrame

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
_EXTRA, _PREDICTOR = 0x152, 0x13D
"""Tags: what samples besides the colours are, and what was done to samples before they were compressed."""
_ASSOCIATED, _DIFFERENCES = 1, 2
"""Values of these: alpha that colours are multiplied with, and samples less those to the left of them."""
_SAID = (_COMPRESSION, _PREDICTOR, _EXTRA)
_ALGORITHMS = MappingProxyType({1: "raw", 5: "lzw", 8: "deflate", 32946: "deflate", 32773: "packbits"})
"""Compression -> FFmpeg's name, of those that it writes."""
_PREDICTED = ("lzw", "deflate")
"""Those that differences are for."""
_LINES = MappingProxyType(
    {"gray": (1, "u1"), "ya8": (2, "u1"), "rgb24": (3, "u1"), "rgba": (4, "u1"), "gray16le": (1, "<u2"), "ya16le": (2, "<u2"),
     "rgb48le": (3, "<u2"), "rgba64le": (4, "<u2")}
)  # fmt: skip
"""Formats that FFmpeg writes with one sample beside the other -> samples of a pixel, and their kind."""
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


def head_of(data: bytes) -> bytes:
    """What the first picture of a TIFF file says of its alpha and its compression, as a TIFF file of these tags alone; empty of any
    other file."""
    tags = first_tags(data)
    said = [struct.pack("<HHIHH", tag, _SHORT, 1, tags[tag] & 0xFFFF, 0) for tag in sorted(_SAID) if tag in tags]
    return struct.pack("<4sIH", b"II*\0", _HEAD, len(said)) + b"".join(said) + bytes(4) if tags else b""


def is_tiff(head: bytes) -> bool:
    """Whether that is what `head_of` makes of a TIFF file."""
    return head[:4] in _ORDERS


def is_multiplied(head: bytes) -> bool:
    """Whether the colours of a TIFF file are multiplied with its alpha; `head` is that of any file."""
    return first_tags(head).get(_EXTRA) == _ASSOCIATED


def compression(head: bytes) -> str | None:
    """FFmpeg's name of the compression that `head` (of any file) names; None where that is not written here."""
    return _ALGORITHMS.get(first_tags(head).get(_COMPRESSION, 0))


def differences(frame: VideoFrame, head: bytes) -> VideoFrame | None:
    """The samples of `frame` less those to the left of them, where the file of `head` was compressed so; else None.

    Without, LZW makes pictures of 16 bits larger than they are.
    """
    tags, form = first_tags(head), _LINES.get(frame.format.name)
    if form is None or tags.get(_PREDICTOR) != _DIFFERENCES or compression(head) not in _PREDICTED:
        return None
    (samples, kind), plane = form, frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8)[: frame.height * plane.line_size].reshape(frame.height, -1)
    values = rows.view(kind)[:, : frame.width * samples].reshape(frame.height, frame.width, samples)
    made = VideoFrame(frame.width, frame.height, frame.format.name)
    target = np.frombuffer(memoryview(made.planes[0]), np.uint8)[: frame.height * made.planes[0].line_size]
    less = target.reshape(frame.height, -1).view(kind)[:, : frame.width * samples].reshape(values.shape)
    less[:, :1] = values[:, :1]
    np.subtract(values[:, 1:], values[:, :-1], out=less[:, 1:])
    return made


def with_head(data: bytes, head: bytes, *, differing: bool) -> bytes:
    """A TIFF file as FFmpeg writes it that says of alpha and compression what `head` does.

    Args:
        data: the file.
        head: of the TIFF file that the picture was read from.
        differing: the samples are `differences`.
    """
    tags = first_tags(head)
    if compression(head) == _ALGORITHMS.get(first_tags(data).get(_COMPRESSION, 0)):  # there are two numbers for one of them
        data = _saying(data, _COMPRESSION, tags[_COMPRESSION])
    if _EXTRA in tags:
        data = _saying(data, _EXTRA, tags[_EXTRA])
    return _with(data, _PREDICTOR, _SHORT, 1, struct.pack(_ORDERS[data[:4]] + "HH", _DIFFERENCES, 0)) if differing else data


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
    data += bytes(len(data) % 2)
    place = struct.pack(_ORDERS[data[:4]] + "I", len(data))
    return _with(data + profile, _PROFILE, _BYTES, len(profile), place)


def _with(data: bytes, tag: int, kind: int, count: int, value: bytes) -> bytes:
    """A TIFF file of one picture with one tag more, whose `value` (or the place of it) has four bytes."""
    order = _ORDERS[data[:4]]
    data += bytes(len(data) % 2)
    entries = [data[place : place + _ENTRY] for place in _places(data)]
    entries.append(struct.pack(order + "HHI", tag, kind, count) + value)
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry))  # as TIFF asks for
    table = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack(order + "I", len(data)) + data[_HEAD:] + table


def _saying(data: bytes, tag: int, value: int) -> bytes:
    """A TIFF file of one picture with another value of a tag that holds one short number; as it is where it has none."""
    order = _ORDERS[data[:4]]
    for place in _places(data):
        if struct.unpack_from(order + "HHI", data, place) == (tag, _SHORT, 1):
            return data[: place + 8] + struct.pack(order + "H", value) + data[place + 10 :]
    return data


def _places(data: bytes) -> range:
    """Where the entries of the first directory lie in a TIFF file that FFmpeg wrote."""
    order = _ORDERS[data[:4]]
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    return range(at + 2, at + 2 + count * _ENTRY, _ENTRY)


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
