"""The numbers by which an MXF file and what is in it are known, put into the finished file.

FFmpeg's muxer draws them by chance, or leaves them at zero where equal runs are to give equal files: then every file is the
same one to whoever keeps media by their UMID (SMPTE ST 330). So they are made of what the file holds. Nothing changes its length.

Sources: SMPTE ST 377-1, 6.3, for keys, lengths and values; FFmpeg's `mxfenc.c` for what it writes in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import BinaryIO

_LABEL = bytes.fromhex("060a2b340101010501010d0013")
"""What a UMID begins with; three bytes of an instance, fifteen of a number and one that tells packages apart follow."""
_NUMBER = 15
_UNNUMBERED = _LABEL + bytes(3 + _NUMBER)
_GENERATION = bytes.fromhex("adab44242f254dc792ff000c00000001")
"""What FFmpeg calls every making of a file."""
_REGISTERED = bytes.fromhex("060e2b34")
"""What every key begins with."""
_GROUP = 2
"""The byte behind it, of keys whose values are made of several: what is said of the essence, beside and between it."""
_KEY = 16
_PIECE = 1 << 24


def number(path: str) -> None:
    """Give the packages of the finished file at `path`, and its making, numbers of their own: equal in equal files alone.

    Raises:
        ValueError: it is no MXF file, or cut off.
        OSError: it cannot be read or written.
    """
    with open(path, "r+b") as file:
        digest = blake2b(digest_size=_NUMBER + len(_GENERATION))
        while piece := file.read(_PIECE):
            digest.update(piece)
        umid, making = _LABEL + bytes(3) + digest.digest()[:_NUMBER], _uuid(digest.digest()[_NUMBER:])
        for place, size in _groups(file):
            file.seek(place)
            data = file.read(size)
            if (new := data.replace(_UNNUMBERED, umid).replace(_GENERATION, making)) != data:
                file.seek(place)
                file.write(new)


def _uuid(data: bytes) -> bytes:
    """Sixteen bytes as a UUID of version 8 (RFC 9562)."""
    return data[:6] + bytes([data[6] & 0x0F | 0x80, data[7], data[8] & 0x3F | 0x80]) + data[9:]


def _groups(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Place and size in bytes of every value that is no essence."""
    place = file.seek(0)
    while len(head := file.read(_KEY + 1)) > _KEY:
        if not head.startswith(_REGISTERED):
            raise ValueError(f"there is no key of MXF at byte {place}")
        size = head[-1]
        if size & 0x80:
            size = int.from_bytes(file.read(size & 0x7F), "big")
        place = file.tell()
        if head[len(_REGISTERED)] == _GROUP:
            yield place, size
        place += size
        file.seek(place)
