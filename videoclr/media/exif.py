"""EXIF of pictures: when, where and with what they were taken.

FFmpeg's decoders hand it over as the TIFF structure that it is (EXIF 3.0, 4.5), without the orientation, which becomes a display
matrix; its JPEG encoder does not write it.
"""

from __future__ import annotations

import struct

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from videoclr.media.orientation import payload

_EXIF = 31
"""AV_FRAME_DATA_EXIF, which PyAV 18 has no name for."""
_HEADER, _ENTRY = 8, 12
"""Bytes of a TIFF's header, and of an entry of its directory."""
_PIXELS = frozenset(
    (0x0FE, 0x0FF, *range(0x100, 0x108), 0x10A, 0x111, 0x112, *range(0x115, 0x11A), 0x11C, 0x13D, 0x140, *range(0x142, 0x146),
     0x14A, 0x152, 0x153, 0x15B, 0x201, 0x202, 0x211, 0x212, 0x213, 0x214, 0x8773)
)  # fmt: skip
"""Tags of a TIFF that are true of its own pixels alone, orientation among them (TIFF 6.0, section 8 and 15 to 22)."""
_USUAL = frozenset((0x11A, 0x11B, 0x128, 0x131))
"""Resolution and software: a picture with no more than these has no EXIF that anybody would miss."""
LONGEST = 65535 - 2 - 6
"""Bytes in one segment of a JPEG, less its length and its name."""


def exif_of(frame: VideoFrame) -> bytes:
    """The frame's EXIF, from its byte order mark on, without what a TIFF says of its own pixels and without a thumbnail, which
    shows the picture as it was; empty where that leaves nothing worth keeping."""
    data = payload(frame, Type(_EXIF)) or b""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < _HEADER:
        return b""
    (at,) = struct.unpack(order + "I", data[4:_HEADER])
    count = struct.unpack(order + "H", data[at : at + 2])[0] if at + 2 <= len(data) else 0
    end = at + 2 + count * _ENTRY
    if end > len(data):
        return b""
    entries = {data[one : one + _ENTRY]: struct.unpack(order + "H", data[one : one + 2])[0] for one in range(at + 2, end, _ENTRY)}
    kept = [entry for entry, tag in entries.items() if tag not in _PIXELS]
    if not set(entries.values()) - _PIXELS - _USUAL:
        return b""
    # Entries have one length and point to their values from the beginning of all: the others can close ranks.
    table = struct.pack(order + "H", len(kept)) + b"".join(kept)
    return data[:at] + table.ljust(end + 4 - at, b"\0") + data[end + 4 :]


def with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """`jpeg` with `exif` in its first segment, where readers look for it; at most `LONGEST` bytes."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + jpeg[2:]
