"""Pictures that break off, or of which parts were never written: FFmpeg makes up the rest without a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from av.packet import Packet
from av.stream import Stream

from videoclr.media import exr

_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
_QOI_END = bytes(7) + b"\1"
_GIF_HEAD = 13
"""Bytes of the header, with which the first picture of a GIF begins."""
_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21
_OGG, _OGG_HEAD, _OGG_PAGE = b"OggS\0", 27, 65307
"""How a page begins, the bytes before the lengths of its parts, of which the last says how many, and the most bytes of a page."""
_IVF_HEADER = 32
"""Bytes of the header of an IVF file, which stand in it behind version 0."""
_IVF_CODECS = (b"VP80", b"VP90", b"AV01")


def is_cut_off(codec: str, packet: Packet[Stream]) -> bool:
    """True where pixels of a picture, of FFmpeg's `codec`, are missing that the decoder does not miss."""
    check = _CHECKS.get(codec)
    return check is not None and check(bytes(packet))


def begins_another(packet: Packet[Stream]) -> bool:
    """True for the last packet of an IVF file that has a second one behind it: all of that, whose header is taken for a time."""
    ticks = packet.pts or 0
    return packet.is_corrupt and ticks & 0xFFFFFFFF == _IVF_HEADER << 16 and (ticks >> 32).to_bytes(4, "little") in _IVF_CODECS


def ends_within_page(path: Path) -> bool:
    """Whether the last page of an Ogg file (RFC 3533, 6) is not all there: nothing of it is read.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _OGG_PAGE))
        tail = file.read()
    at = tail.rfind(_OGG)
    if at < 0:
        return False
    lengths = tail[at + _OGG_HEAD : at + _OGG_HEAD + tail[at + _OGG_HEAD - 1]] if at + _OGG_HEAD <= len(tail) else b""
    return (
        len(tail) < at + _OGG_HEAD
        or len(lengths) < tail[at + _OGG_HEAD - 1]
        or at + _OGG_HEAD + len(lengths) + sum(lengths) > len(tail)
    )


def _jpeg(picture: bytes) -> bool:
    """Whether its pixels do not end. Behind the end there may be anything."""
    place = 2
    while picture[:2] == b"\xff\xd8" and picture[place : place + 1] == b"\xff":  # from one segment to the next; they may hold JPEGs
        if picture[place + 1 : place + 2] == b"\xff":  # a fill byte
            place += 1
        elif picture[place + 1 : place + 2] == bytes([_JPEG_SCAN]):
            return _JPEG_END not in picture[place:]
        else:
            place += 2 + int.from_bytes(picture[place + 2 : place + 4], "big")
    return False


def _gif(picture: bytes) -> bool:
    """Whether a block breaks off. Each picture of a GIF comes with what is before the next one."""
    place = _GIF_HEAD + _colours(picture, _GIF_HEAD - 3) if picture[:3] == b"GIF" else 0
    while place < len(picture) and picture[place] in (_GIF_IMAGE, _GIF_EXTENSION):
        place += 2 if picture[place] == _GIF_EXTENSION else 11 + _colours(picture, place + 9)
        while place < len(picture) and picture[place]:
            place += 1 + picture[place]
        place += 1
    return place > len(picture)


def _colours(picture: bytes, place: int) -> int:
    """Bytes of the table of colours that the flags at `place` announce."""
    flags = int.from_bytes(picture[place : place + 1], "big")
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_CHECKS: Mapping[str, Callable[[bytes], bool]] = MappingProxyType(
    {
        "mjpeg": _jpeg,
        "exr": exr.is_incomplete,
        "gif": _gif,
        "qoi": lambda picture: picture[:4] == b"qoif" and _QOI_END not in picture,
    }
)
"""By the codec. A TIFF, a PNG and others that break off are decoding errors."""
