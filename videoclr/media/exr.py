"""What an OpenEXR file says besides its picture, timecode, lens, primaries ("OpenEXR File Layout", Academy Software Foundation).

FFmpeg's encoder writes the attributes that a picture cannot be without, and its decoder hands over no others, so the source's are
put into what the encoder made. Of a file of several parts FFmpeg reads the first one, and its attributes are meant here; of deep
pixels it reads nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from videoclr.media.proxy import Primaries

_MAGIC = b"v/1\x01"
_BEGIN = 8
_LONG_NAMES, _DEEP, _PARTS = 0x400, 0x800, 0x1000
"""Flags of the version. Tiles are one as well, and their header is that of scan lines."""
_LINES: Mapping[int, int] = MappingProxyType({0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256})
"""Lines that a chunk holds, by compression."""
_OWN = frozenset(
    (
        "channels", "compression", "dataWindow", "displayWindow", "lineOrder", "pixelAspectRatio", "screenWindowCenter",
        "screenWindowWidth", "tiles", "type", "version", "chunkCount", "maxSamplesPerPixel", "preview", "dwaCompressionLevel",
    )
)  # fmt: skip
"""Attributes that are true of one file's pixels alone."""
_USUAL = frozenset(("framesPerSecond", "gamma", "writer"))
"""Attributes that encoders write by themselves."""
_COLOURS = frozenset("RGBAY")
_CHROMATICITIES = struct.Struct("<8f")
_CHANNEL = 17
"""Bytes of a channel from the end of its name on."""


def head_of(data: bytes) -> bytes:
    """The header of an EXR file, of its first part, magic number and all; empty where it is none that is known here."""
    if data[:4] != _MAGIC or len(data) < _BEGIN or _flags(data) & _DEEP:
        return b""
    try:
        end = max((end for _, _, end in _attributes(data)), default=_BEGIN)
    except (ValueError, struct.error):
        return b""
    return data[: end + 1] if data[end : end + 1] == b"\0" else b""


def is_exr(head: bytes) -> bool:
    """Whether that is the header of an EXR file."""
    return head[:4] == _MAGIC


def has_parts(head: bytes) -> bool:
    """Whether a header is that of the first of several parts."""
    return bool(_flags(head) & _PARTS)


def said(head: bytes) -> list[str]:
    """Names of what a header says besides what its own pixels need, and what every encoder says."""
    return [name for name, _, _ in _attributes(head) if name not in _OWN | _USUAL]


def layers(head: bytes) -> list[str]:
    """Channels that are no part of the picture's colour, such as `Z` or `diffuse.R`."""
    found = []
    for name, start, end in _attributes(head):
        if name == "channels":
            at = _value(head, start)
            while at < end and head[at]:
                stop = head.index(b"\0", at)
                found.append(head[at:stop].decode("latin-1"))
                at = stop + _CHANNEL
    return [name for name in found if name not in _COLOURS]


def primaries(head: bytes) -> Primaries | None:
    """CIE x, y of red, green, blue and white, where a header says them (`chromaticities`); else BT.709's are meant."""
    for name, start, end in _attributes(head):
        if name == "chromaticities" and end - _value(head, start) == _CHROMATICITIES.size:
            values = _CHROMATICITIES.unpack(head[end - _CHROMATICITIES.size : end])
            red, green, blue, white = zip(values[::2], values[1::2], strict=True)
            return red, green, blue, white
    return None


def with_head(data: bytes, head: bytes) -> bytes:
    """The EXR file `data` with what `head` says besides.

    The table of chunks behind the header holds their places in the file, which move.
    """
    own = {name: (start, end) for name, start, end in _attributes(data)}
    other = {name: head[start:end] for name, start, end in _attributes(head) if name not in _OWN}
    kept = b"".join(data[start:end] for name, (start, end) in own.items() if name not in other) + b"".join(other.values())
    end = max(end for _, end in own.values())
    top, bottom = struct.unpack("<4i", data[own["dataWindow"][1] - 16 : own["dataWindow"][1]])[1::2]
    lines = _LINES[data[own["compression"][1] - 1]]
    count = -(-(bottom - top + 1) // lines)
    table = struct.unpack(f"<{count}Q", data[end + 1 : end + 1 + 8 * count])
    longer = _BEGIN + len(kept) - end
    moved = struct.pack(f"<{count}Q", *(place + longer for place in table))
    version = struct.pack("<I", _flags(data) | _flags(head) & _LONG_NAMES)
    return data[:4] + version + kept + data[end : end + 1] + moved + data[end + 1 + 8 * count :]


def _flags(head: bytes) -> int:
    """The version and its flags."""
    (flags,) = struct.unpack("<I", head[4:_BEGIN])
    return int(flags)


def _attributes(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Name, beginning and end of each attribute in a header.

    Raises:
        ValueError: the header breaks off.
    """
    at = _BEGIN
    while data[at : at + 1] not in (b"\0", b""):
        name = data.index(b"\0", at)
        start = _value(data, at)
        (size,) = struct.unpack("<i", data[start - 4 : start])
        if size < 0 or start + size > len(data):
            raise ValueError("an attribute is longer than the file")
        yield data[at:name].decode("latin-1"), at, start + size
        at = start + size


def _value(data: bytes, start: int) -> int:
    """Where the value of the attribute at `start` begins: behind its name, its type and its size."""
    return data.index(b"\0", data.index(b"\0", start) + 1) + 5
