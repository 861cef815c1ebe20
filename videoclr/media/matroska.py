"""How the picture in a finished Matroska or WebM file is to be looked at: shape of samples, cropping, projection.

FFmpeg's muxer takes these from fields of the stream that PyAV cannot set. Codecs such as FFV1 and VP9 do not carry the
shape themselves: a film of 720x576 for 16:9 would be shown narrow. So they are written afterwards, as the track's
DisplayWidth and DisplayHeight, PixelCrop and Projection (RFC 9559, 5.1.4.1.28). The muxer leaves an empty element (Void)
behind the list of positions (SeekHead): what the track's header grows by is taken from there, the headers between move
up, and nothing else moves.
"""

from __future__ import annotations

import math
import struct
import zlib
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from videoclr.media.crop import WHOLE, Crop
from videoclr.media.sphere import CUBEMAP, EQUIRECTANGULAR, Sphere

_SEGMENT, _SEEK_HEAD, _VOID, _TRACKS, _ENTRY, _VIDEO = 0x18538067, 0x114D9B74, 0xEC, 0x1654AE6B, 0xAE, 0xE0
_SEEK, _SEEK_POSITION, _CRC, _TYPE, _CLUSTER = 0x4DBB, 0x53AC, 0xBF, 0x83, 0x1F43B675
_EBML = 0x1A45DFA3
_TOP = {_SEEK_HEAD, _TRACKS, _CLUSTER, _VOID, _CRC, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
"""What a segment consists of; the last are information, cues, attachments, chapters and tags."""
_IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0xAF, 0x5854, _VOID, _CRC}
"""What a cluster consists of: its time, blocks, and what says where it stands."""
_LONGEST = 12
"""Bytes that name an element of a segment and its size."""
_PIXEL_WIDTH, _PIXEL_HEIGHT, _WIDTH, _HEIGHT, _UNIT, _PROJECTION = 0xB0, 0xBA, 0x54B0, 0x54BA, 0x54B2, 0x7670
_CROPS = {0x54CC: "left", 0x54DD: "right", 0x54BB: "top", 0x54AA: "bottom"}
"""PixelCropLeft, Right, Top, Bottom -> fields of `Crop`."""
_COLOUR, _ACROSS, _DOWN = 0x55B0, 0x55B7, 0x55B8
_SITINGS = {(1, 2): "left", (2, 2): "center", (1, 1): "topleft", (2, 1): "top"}
"""ChromaSitingHorz and ChromaSitingVert -> FFmpeg's name."""
_PROJECTION_TYPE, _PROJECTION_PRIVATE, _POSE = 0x7671, 0x7672, (0x7673, 0x7674, 0x7675)
_PROJECTIONS = {EQUIRECTANGULAR: 1, CUBEMAP: 2}
_DEGREE = 1 << 16
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


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is to be looked at; falsy where there is nothing to say."""

    aspect: Fraction = Fraction(1)
    """Shape of its samples."""
    crop: Crop = WHOLE
    sphere: Sphere | None = None

    def __bool__(self) -> bool:
        return self.aspect != 1 or bool(self.crop) or self.sphere is not None


def write_look(path: Path, look: Look) -> Look:
    """Write `look` of the first video track into the finished file at `path`; what found no room or no word there."""
    sphere = look.sphere if look.sphere is not None and projection(look.sphere) else None
    for one in (replace(look, sphere=sphere), replace(look, sphere=None)):
        if not one or _write(path, one):
            return Look(sphere=look.sphere if one.sphere is None else None)
    return look


def projection(sphere: Sphere) -> bytes:
    """Content of the element Projection; empty for one that it has no word for."""
    if sphere.projection not in _PROJECTIONS:
        return b""
    kind = _element(_PROJECTION_TYPE, bytes([_PROJECTIONS[sphere.projection]]))
    poses = zip(_POSE, sphere.pose, strict=True)
    angles = (_element(name, _float(angle / _DEGREE)) for name, angle in poses if angle)
    return kind + _element(_PROJECTION_PRIVATE, sphere.shape) + b"".join(angles)


def _float(number: float) -> bytes:
    """In four bytes where they hold it."""
    short = struct.pack(">f", number)
    return short if struct.unpack(">f", short)[0] == number else struct.pack(">d", number)


def _write(path: Path, look: Look) -> bool:
    """Write `look` into the file; False where it does not fit."""
    with path.open("r+b") as file:
        head = file.read(_HEAD)
        top = _top_level(head)
        if top is None:
            return False
        begin, tops = top
        kinds = [one.kind for one in tops]
        if _TRACKS not in kinds or kinds[:2] != [_SEEK_HEAD, _VOID]:
            return False
        seek, void, tracks = tops[0], tops[1], tops[kinds.index(_TRACKS)]
        new = _element(_TRACKS, _rebuilt(head, tracks.data, tracks.end, _entry_changer(look)))
        grown = len(new) - (tracks.end - tracks.start)
        room = void.end - void.start - grown
        if room < _SMALLEST_VOID:
            return False

        def moved(kind: int, content: bytes) -> bytes:
            return _rebuilt(content, 0, len(content), at) if kind == _SEEK else content

        def at(kind: int, content: bytes) -> bytes:
            place = int.from_bytes(content)
            moves = kind == _SEEK_POSITION and void.end <= begin + place <= tracks.start
            return (place - grown).to_bytes(len(content)) if moves else content

        before = _element(_SEEK_HEAD, _rebuilt(head, seek.data, seek.end, moved), seek.data - seek.start - 4)
        file.seek(begin)
        file.write(before + _void(room) + head[void.end : tracks.start] + new)
    return True


def crop_in(head: bytes, number: int = 0) -> Crop:
    """The cropping of track `number`, counted from 0, in the first bytes of a file; none where they say none.

    Raises:
        ValueError: they are not Matroska's, or damaged.
    """
    return Crop(**{
        _CROPS[one.kind]: int.from_bytes(head[one.data : one.end]) for one in _video_in(head, number) if one.kind in _CROPS
    })  # fmt: skip


def siting_in(head: bytes, number: int = 0) -> str:
    """Where the chroma of track `number` lies beside luma: FFmpeg's `chroma_sample_location`; empty where nothing says it.

    Raises:
        ValueError: they are not Matroska's, or damaged.
    """
    said = {
        one.kind: int.from_bytes(head[one.data : one.end])
        for colour in _video_in(head, number)
        if colour.kind == _COLOUR
        for one in _elements(head, colour.data, colour.end)
    }
    return _SITINGS.get((said.get(_ACROSS, 0), said.get(_DOWN, 0)), "")


def torn_in(path: Path, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Where in a file something stands that is no part of Matroska: it is destroyed there, and readers go on behind it.

    What is in a cluster is looked at where one of `spans` (bytes, in order) lies in it. Behind elements whose size nobody says, and
    behind the first one between clusters that is none, nothing is found.
    """
    torn: list[int] = []
    with path.open("rb") as file:
        for one in _stored(file, 0, None, {_EBML, _SEGMENT}, torn):
            if one.kind == _SEGMENT:
                for top in _stored(file, one.data, None, _TOP, torn):
                    place = bisect(spans, top.start, key=lambda span: span[1])
                    if top.kind == _CLUSTER and place < len(spans) and spans[place][0] < top.end:
                        deque(_stored(file, top.data, top.end, _IN_CLUSTER, torn), maxlen=0)
                break
    return torn


def _stored(file: BinaryIO, start: int, end: int | None, kinds: Set[int], torn: list[int]) -> Iterator[_Element]:
    """The elements from `start` to `end`, or as far as the file goes; where there is one of no such kind, `torn` gets its place."""
    while end is None or start < end:
        file.seek(start)
        head = file.read(_LONGEST)
        if len(head) < _LONGEST:
            return
        length = 9 - head[0].bit_length()
        width = 9 - head[length].bit_length()
        kind, size = int.from_bytes(head[:length]), int.from_bytes(head[length : length + width]) & ((1 << 7 * width) - 1)
        if kind not in kinds:
            if kind not in (_EBML, _SEGMENT):  # of a second film behind this one
                torn.append(start)
            return
        first, unknown = start + length + width, size == (1 << 7 * width) - 1
        if unknown and kind != _SEGMENT:  # only what is behind it tells where it ends
            return
        yield _Element(kind, start, first, first + size)
        start = first + size


def _video_in(head: bytes, number: int) -> list[_Element]:
    """What is in the element of the picture of track `number`; nothing where it shows none."""
    try:
        top = _top_level(head)
        tracks = next((one for one in top[1] if one.kind == _TRACKS), None) if top is not None else None
        if tracks is None:
            raise ValueError("there are no tracks")
        entries = [one for one in _elements(head, tracks.data, tracks.end) if one.kind == _ENTRY]
        if number >= len(entries):
            return []
        videos = (one for one in _elements(head, entries[number].data, entries[number].end) if one.kind == _VIDEO)
        return [one for video in videos for one in _elements(head, video.data, video.end)]
    except IndexError as error:
        raise ValueError("an element is cut off") from error


def _top_level(head: bytes) -> tuple[int, list[_Element]] | None:
    """Where the segment's content begins, and its elements before the pictures; None where there is no segment."""
    segment = next((one for one in _elements(head, 0, len(head)) if one.kind == _SEGMENT), None)
    if segment is None:
        return None
    tops: list[_Element] = []
    for one in _elements(head, segment.data, len(head)):
        if one.kind == _CLUSTER or one.end > len(head):
            break
        tops.append(one)
    return segment.data, tops


def _void(length: int) -> bytes:
    """Nothing, `length` bytes of it in all."""
    width = 8 if length > 9 else 1
    return _element(_VOID, bytes(length - 1 - width), width)


def _entry_changer(look: Look) -> Callable[[int, bytes], bytes]:
    """Changes the first track of type video, and no other."""
    done: list[bool] = []

    def entry(kind: int, content: bytes) -> bytes:
        parts = {one.kind: content[one.data : one.end] for one in _elements(content, 0, len(content))}
        if kind != _ENTRY or done or parts.get(_TYPE) != b"\x01" or _VIDEO not in parts:
            return content
        done.append(True)
        return _rebuilt(content, 0, len(content), lambda kind, inner: _shaped(inner, look) if kind == _VIDEO else inner)

    return entry


def _shaped(video: bytes, look: Look) -> bytes:
    """The content of a Video element with `look`: shown as large as what is left of it is high, and as wide as its samples."""
    sizes = {one.kind: int.from_bytes(video[one.data : one.end]) for one in _elements(video, 0, len(video))}
    width, height = look.crop.size(sizes[_PIXEL_WIDTH], sizes[_PIXEL_HEIGHT])
    shape = Fraction(width, height) * look.aspect
    times = math.ceil(height / shape.denominator)
    replaced = {_WIDTH, _HEIGHT, _UNIT, *_CROPS, *([_PROJECTION] if look.sphere is not None else [])}
    kept = _rebuilt(video, 0, len(video), lambda kind, inner: None if kind in replaced else inner)
    numbers = {_WIDTH: shape.numerator * times, _HEIGHT: shape.denominator * times}
    numbers |= {kind: size for kind, side in _CROPS.items() if (size := getattr(look.crop, side))}
    kept += b"".join(_element(kind, number.to_bytes((number.bit_length() + 7) // 8)) for kind, number in numbers.items())
    return kept + (_element(_PROJECTION, projection(look.sphere)) if look.sphere is not None else b"")
