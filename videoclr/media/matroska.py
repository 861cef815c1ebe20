"""The shape of samples in a finished Matroska or WebM file.

FFmpeg's muxer takes it from a field of the stream that PyAV cannot set, and codecs such as FFV1 and VP9 do not carry it
themselves: a film of 720x576 for 16:9 would be shown narrow. So it is written afterwards, as the track's DisplayWidth and
DisplayHeight (RFC 9559, 5.1.4.1.28). The muxer leaves an empty element (Void) behind the list of positions (SeekHead): what
the track's header grows by is taken from there, the headers between move up, and nothing else moves.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

_SEGMENT, _SEEK_HEAD, _VOID, _TRACKS, _ENTRY, _VIDEO = 0x18538067, 0x114D9B74, 0xEC, 0x1654AE6B, 0xAE, 0xE0
_SEEK, _SEEK_POSITION, _CRC, _TYPE, _CLUSTER = 0x4DBB, 0x53AC, 0xBF, 0x83, 0x1F43B675
_WIDTH, _HEIGHT, _UNIT = 0x54B0, 0x54BA, 0x54B2
_HEAD = 1 << 20
"""Bytes in which the headers must lie."""
_SMALLEST_VOID = 2


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    start: int
    data: int
    """Where its content begins."""
    end: int


def _elements(data: bytes, start: int, end: int) -> Iterator[_Element]:
    while start < end:
        length = 9 - data[start].bit_length()
        kind = int.from_bytes(data[start : start + length])
        at = start + length
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width]) & ((1 << 7 * width) - 1)
        first = at + width
        yield _Element(kind, start, first, first + size)
        start = first + size


def _element(kind: int, content: bytes, width: int = 0) -> bytes:
    """An element; its size takes `width` bytes, or as few as can be."""
    width = width or next(n for n in range(1, 9) if len(content) < (1 << 7 * n) - 1)
    return kind.to_bytes((kind.bit_length() + 7) // 8) + (len(content) | 1 << 7 * width).to_bytes(width) + content


def _rebuilt(data: bytes, start: int, end: int, change: Callable[[int, bytes], bytes | None]) -> bytes:
    """The elements between, each with the content that `change(kind, content)` gives; None leaves it out, a checksum is renewed."""
    kept, checked = b"", False
    for one in _elements(data, start, end):
        if one.kind == _CRC:
            checked = True
        elif (content := change(one.kind, data[one.data : one.end])) is not None:
            kept += _element(one.kind, content)
    return _element(_CRC, zlib.crc32(kept).to_bytes(4, "little")) + kept if checked else kept


def write_sample_aspect(path: Path, aspect: Fraction) -> bool:
    """Write the sample aspect ratio of the first video track into the finished file at `path`; False where it does not fit."""
    with path.open("r+b") as file:
        head = file.read(_HEAD)
        segment = next((one for one in _elements(head, 0, len(head)) if one.kind == _SEGMENT), None)
        if segment is None:
            return False
        tops: list[_Element] = []
        for one in _elements(head, segment.data, len(head)):
            if one.kind == _CLUSTER or one.end > len(head):
                break
            tops.append(one)
        kinds = [one.kind for one in tops]
        if _TRACKS not in kinds or kinds[:2] != [_SEEK_HEAD, _VOID]:
            return False
        seek, void, tracks = tops[0], tops[1], tops[kinds.index(_TRACKS)]
        new = _element(_TRACKS, _rebuilt(head, tracks.data, tracks.end, _entry_changer(aspect)))
        grown = len(new) - (tracks.end - tracks.start)
        room = void.end - void.start - grown
        if room < _SMALLEST_VOID:
            return False

        def moved(kind: int, content: bytes) -> bytes:
            return _rebuilt(content, 0, len(content), at) if kind == _SEEK else content

        def at(kind: int, content: bytes) -> bytes:
            place = int.from_bytes(content)
            moves = kind == _SEEK_POSITION and void.end <= segment.data + place <= tracks.start
            return (place - grown).to_bytes(len(content)) if moves else content

        before = _element(_SEEK_HEAD, _rebuilt(head, seek.data, seek.end, moved), seek.data - seek.start - 4)
        file.seek(segment.data)
        file.write(before + _void(room) + head[void.end : tracks.start] + new)
    return True


def _void(length: int) -> bytes:
    """Nothing, `length` bytes of it in all."""
    width = 8 if length > 9 else 1
    return _element(_VOID, bytes(length - 1 - width), width)


def _entry_changer(aspect: Fraction) -> Callable[[int, bytes], bytes]:
    """Changes the first track of type video, and no other."""
    done: list[bool] = []

    def entry(kind: int, content: bytes) -> bytes:
        parts = {one.kind: content[one.data : one.end] for one in _elements(content, 0, len(content))}
        if kind != _ENTRY or done or parts.get(_TYPE) != b"\x01" or _VIDEO not in parts:
            return content
        done.append(True)
        return _rebuilt(content, 0, len(content), lambda kind, inner: _shaped(inner, aspect) if kind == _VIDEO else inner)

    return entry


def _shaped(video: bytes, aspect: Fraction) -> bytes:
    """The content of a Video element, shown as large as it is high and as wide as `aspect` makes it."""
    sizes = {one.kind: int.from_bytes(video[one.data : one.end]) for one in _elements(video, 0, len(video))}
    width, height = sizes[0xB0], sizes[0xBA]
    shape = Fraction(width, height) * aspect
    times = math.ceil(height / shape.denominator)
    kept = _rebuilt(video, 0, len(video), lambda kind, inner: None if kind in (_WIDTH, _HEIGHT, _UNIT) else inner)
    sides = ((_WIDTH, shape.numerator * times), (_HEIGHT, shape.denominator * times))
    return kept + b"".join(_element(kind, side.to_bytes((side.bit_length() + 7) // 8)) for kind, side in sides)
