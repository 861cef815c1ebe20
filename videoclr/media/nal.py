"""NAL units of H.264 and HEVC: where pictures can be entered, and how two encoders' parameter sets live in one header.

A slice names its picture parameter set by number, that set its sequence parameter set. If the source's and ours have other
numbers, both fit into one header (avcC, hvcC): no packet of the source is touched, any player that reads the header can
enter anywhere, and the file stays `avc1` or `hvc1`. libx264 takes the number as a setting. libx265 knows no such setting, so
its stream is renumbered (`renumbered`): its sets are numbered 0, one bit in Exp-Golomb code; 15 takes nine, one byte more,
so everything behind the number keeps its place within the bytes, entropy-coded data included.

Sources: ITU-T H.264 (7.3, 7.4.1.1 emulation prevention), H.265 (7.3), ISO/IEC 14496-15 (5.3.3.1 avcC, 8.3.3.1 hvcC).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal

Codec = Literal["h264", "hevc"]
Entry = Literal["closed", "open", "none"]
"""Whether a decoder can begin at a picture: nothing refers across it; only pictures that are shown before it do; or it cannot."""

SETS: Final[dict[Codec, tuple[int, ...]]] = {"h264": (7, 8), "hevc": (32, 33, 34)}
"""Kinds of parameter sets, those of a sequence before those of pictures."""
OURS: Final = 15
"""The number that `renumbered` gives: the only one of nine bits that a sequence parameter set of HEVC may have."""
_LEADING = range(6, 10)
"""HEVC: RADL and RASL pictures, which are stored after a picture and shown before it."""
_IDR_H264, _SEI_H264, _LAYERS_H264 = 5, 6, (14, 15, 20, 21)
_IRAP, _IDR_HEVC, _CRA, _SLICES_HEVC = range(16, 24), (19, 20), 21, range(32)
_BLA = 18
"""HEVC: an entry without leading pictures that begins anew, whatever was before (BLA_N_LP). It is written like a CRA picture."""
_RECOVERY_POINT = 6
_START = re.compile(rb"\x00\x00\x01")
_EMULATED = re.compile(rb"\x00\x00(?=[\x00-\x03])")
_MARKED = re.compile(rb"\x00\x00\x03")
_HEADER = {"h264": 1, "hevc": 2}
"""Bytes before a unit's content."""


def units(data: bytes, length: int) -> list[bytes]:
    """The units of `data`: after `length` bytes that hold their size, or after start codes (`length` 0)."""
    if not length:
        borders = [found.end() for found in _START.finditer(data)]
        ends = [*(border - 3 for border in borders), len(data)]
        return [unit for begin, end in zip(borders, ends[1:], strict=True) if (unit := data[begin:end].rstrip(b"\0"))]
    out, place = [], 0
    while place + length < len(data):
        size = int.from_bytes(data[place : place + length])
        place += length
        if size:
            out.append(data[place : place + size])
        place += size
    return out


def packed(parts: Iterable[bytes], length: int) -> bytes:
    """The reverse of `units`."""
    if not length:
        return b"".join(b"\0\0\0\1" + part for part in parts)
    return b"".join(len(part).to_bytes(length) + part for part in parts)


def kind_of(codec: Codec, unit: bytes) -> int:
    """`nal_unit_type`."""
    return unit[0] & 0x1F if codec == "h264" else unit[0] >> 1 & 0x3F


def sets_in(codec: Codec, parts: Iterable[bytes]) -> list[bytes]:
    """Those of `parts` that are parameter sets."""
    return [part for part in parts if kind_of(codec, part) in SETS[codec]]


def is_leading(parts: Iterable[bytes]) -> bool:
    """True for a picture of HEVC that is stored after the one that begins a group, and shown before it."""
    return any(kind_of("hevc", part) in _LEADING for part in parts)


def entry(codec: Codec, parts: Sequence[bytes]) -> Entry:
    """What `parts`, the units of a picture, are to a decoder that begins there."""
    kinds = {kind_of(codec, part) for part in parts}
    if codec == "hevc":
        if not kinds & set(_IRAP):
            return "none"
        return "open" if _CRA in kinds else "closed" if kinds & set(_IDR_HEVC) else "none"
    if _IDR_H264 in kinds:
        return "closed"
    recovers = any(kind_of(codec, part) == _SEI_H264 and _recovers_at_once(part) for part in parts)
    return "open" if recovers else "none"


def recovers_later(codec: Codec, parts: Iterable[bytes]) -> bool:
    """True where `parts`, the units of a picture, say that a decoder that begins there shows whole pictures only after some."""
    parts = list(parts)
    if codec == "hevc":
        return not any(kind_of(codec, part) in _IRAP for part in parts)
    if any(kind_of(codec, part) == _IDR_H264 for part in parts):
        return False
    return any(kind_of(codec, part) == _SEI_H264 and _recovers_at_once(part) is False for part in parts)


def anew(part: bytes) -> bytes:
    """A unit of HEVC, a CRA picture's as that of a BLA picture, which does not count its order from the pictures before."""
    return bytes([part[0] & 0x81 | _BLA << 1]) + part[1:] if kind_of("hevc", part) == _CRA else part


def _recovers_at_once(unit: bytes) -> bool | None:
    """Whether a unit of supplemental information says that all is right from this very picture on (D.1.8); None for no word."""
    data, place = _plain(unit), 1
    while place + 2 < len(data):
        sizes = []
        for _ in range(2):  # type, then size, each of them 255 as often as it fits
            value = 0
            while place < len(data) and data[place] == 0xFF:
                value, place = value + 0xFF, place + 1
            sizes.append(value + data[place] if place < len(data) else value)
            place += 1
        if sizes[0] == _RECOVERY_POINT and place < len(data):
            return bool(data[place] & 0x80)  # recovery_frame_cnt 0 is one bit
        place += sizes[1]
    return None


# -- headers ------------------------------------------------------------------------------------------------------


def header_of(codec: Codec, header: bytes) -> tuple[int, list[bytes]]:
    """Bytes of the sizes in packets (0: start codes), and the parameter sets that stand in the stream's header."""
    if header[:1] != b"\x01":
        return 0, sets_in(codec, units(header, 0))
    found: list[bytes] = []
    if codec == "h264":
        place = 5
        for mask in (0x1F, 0xFF):
            count, place = header[place] & mask, place + 1
            for _ in range(count):
                found, place = [*found, _sized(header, place)], place + 2 + _size(header, place)
        return (header[4] & 3) + 1, found
    place = 23
    for _ in range(header[22]):
        count, place = _size(header, place + 1), place + 3
        for _ in range(count):
            found, place = [*found, _sized(header, place)], place + 2 + _size(header, place)
    return (header[21] & 3) + 1, sets_in(codec, found)


def with_sets(codec: Codec, header: bytes, more: Sequence[bytes]) -> bytes:
    """`header` with `more` parameter sets behind its own."""
    if header[:1] != b"\x01":
        return header + packed(more, 0)
    if codec == "h264":
        _, own = header_of(codec, header)
        level = max([header[3], *(part[3] for part in more if kind_of(codec, part) == SETS[codec][0])])
        out, tail = header[:3] + bytes([level, header[4]]), _behind_avcc(header)
        for kind, mask in zip(SETS[codec], (0xE0, 0x00), strict=True):
            parts = [part for part in (*own, *more) if kind_of(codec, part) == kind]
            out += bytes([mask | len(parts)]) + b"".join(len(part).to_bytes(2) + part for part in parts)
        return out + tail
    arrays: dict[int, list[bytes]] = {}
    marks: dict[int, int] = {}
    place = 23
    for _ in range(header[22]):
        kind, count, place = header[place] & 0x3F, _size(header, place + 1), place + 3
        marks[kind] = header[place - 3]
        for _ in range(count):
            arrays.setdefault(kind, []).append(_sized(header, place))
            place += 2 + _size(header, place)
    for part in more:
        arrays.setdefault(kind_of(codec, part), []).append(part)
    # general_level_idc: of the header, byte 12; of a set, the last byte before its own number.
    levels = [_plain(part)[14] for part in more if kind_of(codec, part) == SETS[codec][1]]
    out = header[:12] + bytes([max([header[12], *levels])]) + header[13:22] + bytes([len(arrays)])
    for kind, parts in arrays.items():
        out += bytes([marks.get(kind, kind)]) + len(parts).to_bytes(2)
        out += b"".join(len(part).to_bytes(2) + part for part in parts)
    return out


def _behind_avcc(header: bytes) -> bytes:
    """What stands behind the sets in avcC: chroma format and depth of the high profiles."""
    place = 5
    for mask in (0x1F, 0xFF):
        count, place = header[place] & mask, place + 1
        for _ in range(count):
            place += 2 + _size(header, place)
    return header[place:]


def _size(header: bytes, place: int) -> int:
    return int.from_bytes(header[place : place + 2])


def _sized(header: bytes, place: int) -> bytes:
    return header[place + 2 : place + 2 + _size(header, place)]


# -- numbers ------------------------------------------------------------------------------------------------------


def number_of(codec: Codec, unit: bytes) -> tuple[int, int]:
    """Kind and number of a parameter set.

    Raises:
        IndexError: it is cut off.
    """
    kind, data = kind_of(codec, unit), _plain(unit)
    if kind == SETS["hevc"][0] and codec == "hevc":
        return kind, data[2] >> 4
    at = 8 * _HEADER[codec]
    if kind == SETS[codec][-2]:
        at += 24 if codec == "h264" else _levels_of(data)
    return kind, _exp_golomb(data, at)


def free_number(codec: Codec, sets: Iterable[bytes], choice: Iterable[int]) -> int | None:
    """The first number of `choice` that none of `sets` has; None where there is none."""
    taken = {number_of(codec, part)[1] for part in sets}
    return next((number for number in choice if number not in taken), None)


def has_layers(codec: Codec, parts: Iterable[bytes]) -> bool:
    """True where a picture comes with others on top of it: a second view, transparency, more detail."""
    if codec == "h264":
        return any(kind_of(codec, part) in _LAYERS_H264 for part in parts)
    return any(len(part) > 1 and (part[0] & 1 or part[1] >> 3) for part in parts)


def renumbered(unit: bytes) -> bytes:
    """A unit of libx265's, whose parameter sets are all numbered 0, with the number `OURS` in its place.

    Raises:
        ValueError: it has another number.
    """
    kind, data = kind_of("hevc", unit), _plain(unit)
    if kind in (32, 33):  # the number of the video parameter set has four bits
        data = data[:2] + bytes([OURS << 4 | data[2] & 0x0F]) + data[3:]
    if kind == 33:
        data = _wider(data, 16 + _levels_of(data))
    elif kind == 34:
        data = _wider(_wider(data, 16), 16 + 9)
    elif kind in _SLICES_HEVC:
        data = _wider(data, 16 + 1 + (kind in _IRAP))
    elif kind != 32:
        return unit
    return guarded(data)


def _wider(data: bytes, bit: int) -> bytes:
    """`data` with the number 0 at `bit` replaced by 15: `1` by `000010000`, everything behind it a byte later."""
    place, gone = divmod(bit, 8)
    byte, left = data[place], 7 - gone
    if not byte >> left & 1:
        raise ValueError("a parameter set of the encoder is not numbered 0")
    kept, rest = byte >> (left + 1), byte & ((1 << left) - 1)
    both = kept << (16 - gone) | (OURS + 1) << left | rest
    return data[:place] + both.to_bytes(2) + data[place + 1 :]


def _levels_of(data: bytes) -> int:
    """Bits in a sequence parameter set of HEVC from its content to its own number: profile, tier and levels (7.3.3)."""
    layers = data[2] >> 1 & 7
    bits = 8 + 88 + 8
    if layers:
        bits += 16
        for layer in range(layers):
            said = int.from_bytes(data[2 + 13 : 2 + 15]) >> (14 - 2 * layer) & 3
            bits += 88 * (said >> 1) + 8 * (said & 1)
    return bits


def _exp_golomb(data: bytes, bit: int) -> int:
    zeros = 0
    while not data[(bit + zeros) // 8] >> (7 - (bit + zeros) % 8) & 1:
        zeros += 1
    value = 0
    for place in range(bit + zeros, bit + 2 * zeros + 1):
        value = value << 1 | data[place // 8] >> (7 - place % 8) & 1
    return value - 1


def guarded(data: bytes) -> bytes:
    """With the bytes that keep start codes out of the content (emulation prevention, 7.4.1 of H.264 and 7.4.2 of HEVC)."""
    return _EMULATED.sub(b"\0\0\3", data)


def _plain(unit: bytes) -> bytes:
    """Without the bytes that keep start codes out of the content."""
    return _MARKED.sub(b"\0\0", unit)
