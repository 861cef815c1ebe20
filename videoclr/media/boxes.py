"""What FFmpeg's MP4 and QuickTime muxer does not write, put into the finished file's index.

PyAV cannot hand a muxer stereo-3D or spherical side data, `mov` knows languages by old Macintosh numbers only, and tags
without a number of their own are dropped. All of them are boxes in `moov` (ISO/IEC 14496-12), and that lies behind the
media data where nothing else counts its bytes: it is read, changed and written again, and no media data moves.

Sources: spherical video v2 by Google (github.com/google/spatial-media) for `st3d` and `sv3d`; Apple's QuickTime File
Format for `meta` with keys and for packed languages.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from videoclr.media.orientation import payload

_SIDE_BY_SIDE, _TOP_BOTTOM, _MONO = 1, 2, 0
"""AVStereo3DType."""
_STEREO = struct.Struct("=ii")
"""AVStereo3D: type, flags."""
_INVERTED = 1
_STEREO_MODES = {(_MONO, 0): 0, (_TOP_BOTTOM, 0): 1, (_SIDE_BY_SIDE, 0): 2}
"""Type and flags -> stereo_mode of `st3d`."""
_STEREO_TAGS = {
    (_MONO, 0): "mono", (_SIDE_BY_SIDE, 0): "left_right", (_SIDE_BY_SIDE, 1): "right_left", (_TOP_BOTTOM, 0): "top_bottom",
    (_TOP_BOTTOM, 1): "bottom_top", (3, 0): "block_lr", (3, 1): "block_rl", (4, 0): "checkerboard_lr",
    (4, 1): "checkerboard_rl", (6, 0): "row_interleaved_lr", (6, 1): "row_interleaved_rl", (7, 0): "col_interleaved_lr",
    (7, 1): "col_interleaved_rl",
}  # fmt: skip
"""The same -> the tag `stereo_mode` that FFmpeg's Matroska muxer reads."""
_MAPPING = struct.Struct("=i3i5I")
"""AVSphericalMapping: projection, yaw, pitch, roll (16.16 degrees), bounds left, top, right, bottom (0.32), padding."""
_EQUIRECTANGULAR, _CUBEMAP, _TILE = 0, 1, 2
_VISUAL_ENTRY = 78
"""Bytes of a visual sample entry between its header and its boxes."""
_UTF8 = 1
"""QuickTime's well-known type of a text."""


@dataclass(slots=True)
class Amendments:
    """What to put into the index of a finished file."""

    languages: dict[int, str] = field(default_factory=dict)
    """Stream index -> ISO 639-2 code of three letters."""
    entries: dict[int, bytes] = field(default_factory=dict)
    """Stream index -> boxes for its sample description."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the file."""

    def __bool__(self) -> bool:
        return bool(self.languages or self.entries or self.tags)


def amend(path: str, changes: Amendments, *, quicktime: bool) -> None:
    """Write `changes` into the finished file at `path`.

    Args:
        path: of an MP4 or QuickTime file whose `moov` is its last box.
        changes: what to add.
        quicktime: True for `mov`, where `meta` is no full box.

    Raises:
        ValueError: there is no such box.
        OSError: the disk is full.
    """
    with open(path, "r+b") as file:
        place, moov = _index_of(file)
        file.seek(place)
        file.write(amended(moov, changes, quicktime=quicktime))
        file.truncate()


def amended(moov: bytes, changes: Amendments, *, quicktime: bool) -> bytes:
    """The box `moov` with `changes`."""
    body, track = b"", 0
    for kind, content in _boxes(moov[8:]):
        if kind == b"trak":
            content = _track(content, changes.languages.get(track), changes.entries.get(track, b""))
            track += 1
        body += _box(kind, content)
    return _box(b"moov", body + (_tags(changes.tags, quicktime) if changes.tags else b""))


def three_dimensional(frame: VideoFrame) -> bytes:
    """`st3d` and `sv3d` boxes for what the first picture's side data say; empty where they say nothing that has a box."""
    stereo, mapping = payload(frame, Type.STEREO3D), payload(frame, Type.SPHERICAL)
    out = b""
    if stereo is not None and (mode := _STEREO_MODES.get(_STEREO.unpack_from(stereo))) is not None:
        out += _box(b"st3d", struct.pack(">IB", 0, mode))
    if mapping is not None:
        out += _spherical(*_MAPPING.unpack_from(mapping))
    return out


def stereo_tag(frame: VideoFrame) -> str | None:
    """Matroska's `stereo_mode` for what the picture's side data say; None where they say nothing."""
    stereo = payload(frame, Type.STEREO3D)
    return None if stereo is None else _STEREO_TAGS.get(_STEREO.unpack_from(stereo))


def has_projection(frame: VideoFrame) -> bool:
    """True where the picture is a sphere or a part of one."""
    return payload(frame, Type.SPHERICAL) is not None


def _spherical(
    projection: int, yaw: int, pitch: int, roll: int, left: int, top: int, right: int, bottom: int, padding: int
) -> bytes:
    if projection in (_EQUIRECTANGULAR, _TILE):
        shape = _box(b"equi", struct.pack(">5I", 0, top, bottom, left, right))
    elif projection == _CUBEMAP:
        shape = _box(b"cbmp", struct.pack(">3I", 0, 0, padding))
    else:
        return b""
    head = _box(b"svhd", struct.pack(">I", 0) + b"\0")
    pose = _box(b"prhd", struct.pack(">I3i", 0, yaw, pitch, roll))
    return _box(b"sv3d", head + _box(b"proj", pose + shape))


def _index_of(file: BinaryIO) -> tuple[int, bytes]:
    """Place and bytes of `moov`, the last box of the file."""
    place = 0
    while head := file.read(8):
        size, kind = struct.unpack(">I4s", head)
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        if kind == b"moov":
            file.seek(place)
            moov = file.read(size)
            if file.read(1):
                raise ValueError("the index is not the last box of the file")
            return place, moov
        if size < 8:
            break
        place += size
        file.seek(place)
    raise ValueError("the file has no index")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size < 8 or place + size > len(data):
            raise ValueError(f"a box in the index has an impossible size ({size})")
        yield kind, data[place + 8 : place + size]
        place += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _inside(data: bytes, kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """`data`, a row of boxes, with the content of those called `kind` changed."""
    return b"".join(_box(name, change(content) if name == kind else content) for name, content in _boxes(data))


def _track(trak: bytes, language: str | None, entry: bytes) -> bytes:
    def describe(stsd: bytes) -> bytes:
        return stsd[:8] + b"".join(_box(kind, content + entry) for kind, content in _boxes(stsd[8:]))

    def media(mdia: bytes) -> bytes:
        if language is not None:
            mdia = _inside(mdia, b"mdhd", lambda mdhd: _spoken(mdhd, language))
        if entry:
            mdia = _inside(mdia, b"minf", lambda minf: _inside(minf, b"stbl", lambda stbl: _inside(stbl, b"stsd", describe)))
        return mdia

    return _inside(trak, b"mdia", media)


def _spoken(mdhd: bytes, language: str) -> bytes:
    """`mdhd` with a packed language: five bits a letter."""
    place = 32 if mdhd[0] == 1 else 20
    first, second, third = (ord(letter) - 0x60 for letter in language)
    return mdhd[:place] + struct.pack(">H", first << 10 | second << 5 | third) + mdhd[place + 2 :]


def _tags(tags: Mapping[str, str], quicktime: bool) -> bytes:
    handler = _box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"mdta") + b"\0")
    names = [name.encode("utf-8", "surrogateescape") for name in tags]
    keys = _box(b"keys", struct.pack(">II", 0, len(names)) + b"".join(_box(b"mdta", name) for name in names))
    texts = [struct.pack(">II", _UTF8, 0) + text.encode("utf-8", "surrogateescape") for text in tags.values()]
    items = [_box(struct.pack(">I", number), _box(b"data", text)) for number, text in enumerate(texts, 1)]
    return _box(b"meta", (b"" if quicktime else bytes(4)) + handler + keys + _box(b"ilst", b"".join(items)))
