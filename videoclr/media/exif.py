"""EXIF of pictures: when, where and with what they were taken.

FFmpeg's decoders hand it over as the TIFF structure that it is (EXIF 3.0, 4.5), without the orientation, which becomes a display
matrix; that of a TIFF without what its pointers lead to, which is read here. FFmpeg's encoders of JPEG and TIFF do not write it.
"""

from __future__ import annotations

import struct
import zlib

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from videoclr.media import tiff
from videoclr.media.orientation import payload
from videoclr.media.tiff import OF_PIXELS

EXIF = 31
"""AV_FRAME_DATA_EXIF, which PyAV 18 has no name for."""
_HEADER, _ENTRY = 8, 12
"""Bytes of a TIFF's header, and of an entry of its directory."""
_USUAL = frozenset((0x11A, 0x11B, 0x128, 0x131))
"""Resolution and software: a picture with no more than these has no EXIF that anybody would miss."""
LONGEST = 65535 - 2 - 6
"""Bytes in one segment of a JPEG, less its length and its name."""


_PNG_HEAD, _PNG_CHUNK = 8 + 25, b"eXIf"
"""Bytes of a PNG that come before all other chunks, and the chunk of EXIF data (PNG 3, 11.3.4.5)."""


def exif_of(frame: VideoFrame, head: bytes = b"") -> bytes:
    """The frame's EXIF, from its byte order mark on, without what a TIFF says of its own pixels and without a thumbnail, which
    shows the picture as it was; empty where that leaves nothing worth keeping. `head` is that of its file (see `Picture`)."""
    data = head if tiff.is_tiff(head) else payload(frame, Type(EXIF)) or b""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < _HEADER:
        return b""
    (at,) = struct.unpack(order + "I", data[4:_HEADER])
    count = struct.unpack(order + "H", data[at : at + 2])[0] if at + 2 <= len(data) else 0
    end = at + 2 + count * _ENTRY
    if end > len(data):
        return b""
    entries = {data[one : one + _ENTRY]: struct.unpack(order + "H", data[one : one + 2])[0] for one in range(at + 2, end, _ENTRY)}
    kept = [entry for entry, tag in entries.items() if tag not in OF_PIXELS]
    if not set(entries.values()) - OF_PIXELS - _USUAL:
        return b""
    # Entries have one length and point to their values from the beginning of all: the others can close ranks.
    table = struct.pack(order + "H", len(kept)) + b"".join(kept)
    return data[:at] + table.ljust(end + 4 - at, b"\0") + data[end + 4 :]


def with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """`jpeg` with `exif` in its first segment, where readers look for it; at most `LONGEST` bytes."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + jpeg[2:]


def in_png(png: bytes, exif: bytes) -> bytes:
    """A PNG as FFmpeg writes it, with `exif` in place of what it says of that."""
    at = png.find(_PNG_CHUNK, _PNG_HEAD, png.find(b"IDAT")) - 4
    if at > 0:
        png = png[:at] + png[at + 12 + int.from_bytes(png[at : at + 4], "big") :]
    body = _PNG_CHUNK + exif
    return png[:_PNG_HEAD] + struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body)) + png[_PNG_HEAD:]
