"""DPX headers (SMPTE ST 268-1): what a film scan says besides its picture, and whether its numbers are film densities.

FFmpeg's encoder writes the generic header alone and its decoder reads little of the rest, so the source's header is put around
what the encoder made: film and television headers (edge code, slate, timecode, rate), project, times, devices, reference levels
and the transfer characteristic. Size, packing and place of the picture are those of the new file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

HEAD = 2048
"""Bytes of all headers but the user's."""
_GENERIC = 1664
_MAGIC: Mapping[bytes, str] = MappingProxyType({b"SDPX": ">", b"XPDS": "<"})
_OFFSET, _SIZE, _INDUSTRY, _USER = 4, 16, 28, 32
_ELEMENT_DATA = 808
_DEPTH, _TRANSFER = 803, 801
_LOG = (1, 3)
"""Printing density and logarithmic (table 5A)."""
_LINEAR = 2
"""For both bytes: transfer and colorimetry."""
_TEXTS = ((36, 60), (160, 660), (_TRANSFER, 803), (1432, 1620), (_GENERIC, 1712), (1732, 1920), (1928, 1932))
"""From, to: time, project and copyright; transfer and colorimetry; source and device; film, frame and slate; signal."""
_FILM_RATE, _TIMECODE, _RATE = 1724, 1920, 1940
"""Pictures a second of the film, timecode, and pictures a second of television."""
_UNSAID = 0xFFFFFFFF
_LEVELS = (784, 800)
"""From, to: which code is which density."""
_WORDS = ((1408, 1432, 4), (1620, 1628, 2), (1628, 1636, 4), (1712, 1732, 4), (1920, 1928, 4), (1932, 1972, 4))
"""From, to, size: offsets and border, aspect, position in the sequence and rate, timecode and user bits, sampling and gamma."""


def head_of(data: bytes) -> bytes:
    """The headers of a DPX file, `HEAD` bytes; what it has not is undefined (all bits set). Empty where it is no DPX file."""
    order = _MAGIC.get(data[:4])
    if order is None or len(data) < _GENERIC:
        return b""
    begins = struct.unpack(order + "I", data[_OFFSET : _OFFSET + 4])[0]
    return data[: min(begins, HEAD)].ljust(HEAD, b"\xff") if begins >= _GENERIC else b""


def is_dpx(head: bytes) -> bool:
    """Whether that is the header of a DPX file."""
    return head[:4] in _MAGIC


def is_log(head: bytes) -> bool:
    """Whether the numbers are densities of film, not a video signal; of the header of any file."""
    return is_dpx(head) and head[_TRANSFER] in _LOG


def says_more(head: bytes, clock: bool = True) -> bool:
    """Whether the film or television header says anything, rate and timecode (`clock`) included; of the header of any file."""
    if not is_dpx(head):
        return False
    said = bytearray(head)
    for place in () if clock else (_FILM_RATE, _TIMECODE, _RATE):
        said[place : place + 4] = bytes(4)
    return bool(said[_GENERIC:].strip(b"\xff\0"))


def of_matte(head: bytes) -> bytes:
    """The header of a DPX file for a matte, whose numbers are neither densities nor colours. That of any other file as it is."""
    if not is_dpx(head):
        return head
    new = bytearray(head)
    new[_TRANSFER : _TRANSFER + 2] = bytes([_LINEAR, _LINEAR])
    new[slice(*_LEVELS)] = b"\xff" * (_LEVELS[1] - _LEVELS[0])
    return bytes(new)


def is_big_endian(head: bytes) -> bool:
    """The order of bytes of a file with this header."""
    return head[:4] == b"SDPX"


def clock_of(head: bytes) -> tuple[float, int]:
    """Pictures a second, and the word of the timecode, that the header of a DPX file says; 0 for what it does not."""
    order = _MAGIC[head[:4]]
    rates = [struct.unpack_from(order + "f", head, place)[0] for place in (_FILM_RATE, _RATE)]
    (word,) = struct.unpack_from(order + "I", head, _TIMECODE)
    return next((rate for rate in rates if 1 <= rate < math.inf), 0.0), 0 if word == _UNSAID else word


def with_clock(data: bytes, rate: Fraction, word: int | None) -> bytes:
    """The DPX file `data`, saying how many pictures a second there are, and its timecode; None for none."""
    order, head = _MAGIC[data[:4]], bytearray(head_of(data))
    for place in (_FILM_RATE, _RATE):
        struct.pack_into(order + "f", head, place, float(rate))
    struct.pack_into(order + "I", head, _TIMECODE, _UNSAID if word is None else word)
    return with_head(data, bytes(head))


def with_head(data: bytes, head: bytes) -> bytes:
    """The DPX file `data` with what `head` says of the scan, in its own order of bytes."""
    order, other = _MAGIC[data[:4]], _MAGIC[head[:4]]
    begins = struct.unpack(order + "I", data[_OFFSET : _OFFSET + 4])[0]
    new = bytearray(data[:_GENERIC].ljust(HEAD, b"\xff"))
    words = [*_WORDS, (*_LEVELS, 4)] if head[_DEPTH] == new[_DEPTH] else _WORDS
    for start, end in _TEXTS:
        new[start:end] = head[start:end]
    for start, end, size in words:
        kind = f"{(end - start) // size}{'I' if size == 4 else 'H'}"
        new[start:end] = struct.pack(order + kind, *struct.unpack(other + kind, head[start:end]))
    for place, value in (
        (_OFFSET, HEAD),
        (_ELEMENT_DATA, HEAD),
        (_SIZE, HEAD + len(data) - begins),
        (_INDUSTRY, HEAD - _GENERIC),
        (_USER, 0),
    ):
        new[place : place + 4] = struct.pack(order + "I", value)
    return bytes(new) + data[begins:]
