"""What a PNG or WebP says beside its pixels, where FFmpeg's decoder stumbles over it and other programs do not.

The decoder of PNG gives a whole picture up for EXIF data (PNG 3, 11.3.4.5) or a colour profile (11.3.2.3) that it cannot read, and
that of WebP passes over EXIF data (RFC 9649, 2.7.1.5) that begin as those of a JPEG do, turning the picture no more upright.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from videoclr.media.faults import AV_ERRORS

_PNG, _RIFF = b"\x89PNG\r\n\x1a\n", b"RIFF"
_EXIF_OF_PNG, _EXIF_OF_WEBP, _PREFIX = b"eXIf", b"EXIF", b"Exif\0\0"
_WHAT = MappingProxyType({_EXIF_OF_PNG: "EXIF data", b"iCCP": "colour profile (ICC)"})
"""Chunks of a PNG at which the decoder may give up -> what they hold."""
_DOT = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), zlib.compress(b"\0\0")
"""Header and pixels of a PNG of one grey pixel."""
_RIFF_HEAD, _CHUNK = 12, 8
"""Bytes of a WebP's beginning, and of a chunk before its content."""


def decodable_png(data: bytes | memoryview) -> tuple[bytes | None, list[str]]:
    """A PNG without what FFmpeg's decoder would refuse its picture for, None where that is nothing; and what is left out."""
    if data[: len(_PNG)] != _PNG:
        return None, []
    at, kept, parts, left_out = len(_PNG), 0, [], []
    while at + _CHUNK <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        end = at + _CHUNK + size + 4
        if name in _WHAT and not _decodes(name, content := bytes(data[at + _CHUNK : end - 4])):
            parts.append(bytes(data[kept:at]))
            kept = end
            if name == _EXIF_OF_PNG and content.startswith(_PREFIX) and _decodes(name, content[len(_PREFIX) :]):
                parts.append(_chunk(name, content[len(_PREFIX) :]))
            else:
                left_out.append(_WHAT[name])
        at = end
    return (b"".join([*parts, bytes(data[kept:])]) if parts else None), left_out


def decodable_webp(data: bytes | memoryview) -> bytes | None:
    """A WebP whose EXIF data begin as FFmpeg's decoder expects, None where they do already, or there are none."""
    if data[:4] != _RIFF:
        return None
    at = _RIFF_HEAD
    while at + _CHUNK <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        begin, end = at + _CHUNK, at + _CHUNK + size
        if name == _EXIF_OF_WEBP and data[begin : begin + len(_PREFIX)] == _PREFIX:
            content = bytes(data[begin + len(_PREFIX) : end])
            made = bytes(data[:at]) + struct.pack("<4sI", name, len(content)) + content + bytes(data[end:])
            return made[:4] + struct.pack("<I", len(made) - _CHUNK) + made[_CHUNK:]
        at = end + size % 2
    return None


@lru_cache(maxsize=4)  # pictures of a sequence have the same ones
def _decodes(name: bytes, content: bytes) -> bool:
    """Whether FFmpeg shows a PNG that has this chunk."""
    context = CodecContext.create("png", "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    header, pixels = _DOT
    small = _PNG + b"".join(_chunk(*one) for one in ((b"IHDR", header), (name, content), (b"IDAT", pixels), (b"IEND", b"")))
    packet: Packet[Any] = Packet(small)
    try:
        return bool([*context.decode(packet), *context.decode(None)])
    except AV_ERRORS:
        return False


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
