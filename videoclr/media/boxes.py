"""What FFmpeg's MP4 and QuickTime muxer does not write, put into the finished file's index.

PyAV cannot hand a muxer stereo-3D, spherical or cropping side data, `mov` knows languages by old Macintosh numbers only, and tags
without a number of their own are dropped. All of them are boxes in `moov` (ISO/IEC 14496-12), and that lies behind the
media data where nothing else counts its bytes: it is read, changed and written again, and no media data moves.

Sources: spherical video v2 by Google (github.com/google/spatial-media) for `st3d` and `sv3d`; ISO/IEC 14496-12, 12.1.4,
for `clap`; Apple's QuickTime File Format for `meta` with keys and for packed languages.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from videoclr.media.crop import WHOLE, Crop
from videoclr.media.languages import three_letters
from videoclr.media.orientation import payload
from videoclr.media.sphere import CUBEMAP, EQUIRECTANGULAR, Sphere, sphere_of

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
_VISUAL_ENTRY = 78
"""Bytes of a visual sample entry between its header and its boxes."""
_SIDES = 24
"""Bytes of a visual sample entry before its width and height."""
_APERTURE = struct.Struct(">IIIIiIiI")
"""`clap`: width, height, then the way of its centre from the picture's to the right and down, each a fraction."""
_UTF8 = 1
"""QuickTime's well-known type of a text."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a QuickTime or MP4 file says of a track of data."""

    handler: bytes
    """Four letters."""
    header: bytes
    """The box `gmhd`; empty where there is none."""
    entries: bytes
    """The content of `stsd`."""

    @property
    def kind(self) -> bytes:
        """Four letters that say what the data are."""
        return self.entries[12:16]


@dataclass(slots=True)
class Amendments:
    """What to put into the index of a finished file."""

    languages: dict[int, str] = field(default_factory=dict)
    """Stream index -> language, one that `three_letters` knows."""
    entries: dict[int, bytes] = field(default_factory=dict)
    """Stream index -> boxes for its sample description, in place of those of their kinds."""
    crops: dict[int, Crop] = field(default_factory=dict)
    """Stream index -> what of its picture is not shown."""
    described: dict[int, Described] = field(default_factory=dict)
    """Stream index -> what is in a track of data."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the file."""

    def __bool__(self) -> bool:
        return bool(self.languages or self.entries or self.crops or self.described or self.tags)


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
        place, moov = box_in(file, b"moov", last=True)
        file.seek(place)
        file.write(amended(moov, changes, quicktime=quicktime))
        file.truncate()


def amended(moov: bytes, changes: Amendments, *, quicktime: bool) -> bytes:
    """The box `moov` with `changes`."""
    body, track = b"", 0
    for kind, content in boxes(moov[8:]):
        if kind == b"trak":
            content = _track(content, changes.languages.get(track), changes.entries.get(track, b""), changes.crops.get(track))
            if track in changes.described:
                content = _told(content, changes.described[track])
            track += 1
        body += box(kind, content)
    return box(b"moov", body + (_tags(changes.tags, quicktime) if changes.tags else b""))


def described_in(path: str, track: int) -> Described | None:
    """What the file at `path` says of the data in its track of this ID; None where that is more than one thing, or elsewhere.

    Raises:
        ValueError: it is damaged, or no MP4 or QuickTime file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        _, moov = box_in(file, b"moov")
    for trak in (content for kind, content in boxes(moov[8:]) if kind == b"trak"):
        head = _content(trak, b"tkhd")
        if struct.unpack_from(">I", head, 20 if head[:1] == b"\1" else 12)[0] != track:
            continue
        media = _content(trak, b"mdia")
        within = _content(media, b"minf")
        entries = _content(_content(within, b"stbl"), b"stsd")
        of_its_own = len(list(boxes(entries[8:]))) == 1 and entries[22:24] == b"\0\1"
        header = _content(within, b"gmhd")
        return Described(_content(media, b"hdlr")[8:12], header and box(b"gmhd", header), entries) if of_its_own else None
    return None


def three_dimensional(frame: VideoFrame) -> bytes:
    """`st3d` and `sv3d` boxes for what the first picture's side data say; empty where they say nothing that has a box."""
    stereo, sphere = payload(frame, Type.STEREO3D), sphere_of(frame)
    out = b""
    if stereo is not None and (mode := _STEREO_MODES.get(_STEREO.unpack_from(stereo))) is not None:
        out += box(b"st3d", struct.pack(">IB", 0, mode))
    return out if sphere is None else out + spherical(sphere)


def stereo_tag(frame: VideoFrame) -> str | None:
    """Matroska's `stereo_mode` for what the picture's side data say; None where they say nothing."""
    stereo = payload(frame, Type.STEREO3D)
    return None if stereo is None else _STEREO_TAGS.get(_STEREO.unpack_from(stereo))


def crop_in(head: bytes) -> Crop:
    """The clean aperture of the first track in a file's index, as pixels that are not shown; none where it says none.

    Raises:
        ValueError: it is damaged, or no index of a video.
    """
    path = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    for kind in path:
        head = next((content for name, content in boxes(head) if name == kind), b"")
    entry = next((content for _, content in boxes(head[8:])), b"")
    if len(entry) < _VISUAL_ENTRY:
        raise ValueError("there is no description of a video")
    size = struct.unpack_from(">2H", entry, _SIDES)
    clap = next((content for kind, content in boxes(entry[_VISUAL_ENTRY:]) if kind == b"clap"), None)
    if clap is None or len(clap) < _APERTURE.size:
        return WHOLE
    numbers = _APERTURE.unpack_from(clap)
    fractions = (Fraction(*numbers[place : place + 2]) if numbers[place + 1] else Fraction(0) for place in (0, 2, 4, 6))
    width, height, right, down = fractions
    sides = [side for whole, own, way in ((size[0], width, right), (size[1], height, down)) for side in _around(whole, own, way)]
    return Crop(*sides) if min(sides) >= 0 else WHOLE


def _around(whole: int, own: Fraction, way: Fraction) -> tuple[int, int]:
    """Whole pixels of `whole` before and behind a stretch `own` whose centre lies `way` behind its centre."""
    before = math.floor((whole - own) / 2 + way)
    return before, whole - before - math.ceil(own)


def _aperture(crop: Crop, width: int, height: int) -> bytes:
    """`clap` of a picture of this size."""
    inner = crop.size(width, height)
    ways = (crop.left - crop.right, crop.top - crop.bottom)
    return box(b"clap", _APERTURE.pack(inner[0], 1, inner[1], 1, ways[0], 2, ways[1], 2))


def spherical(sphere: Sphere) -> bytes:
    """`sv3d`; empty for a projection that it has no word for."""
    kinds = {EQUIRECTANGULAR: b"equi", CUBEMAP: b"cbmp"}
    if sphere.projection not in kinds:
        return b""
    head = box(b"svhd", struct.pack(">I", 0) + b"\0")
    pose = box(b"prhd", struct.pack(">I3i", 0, *sphere.pose))
    return box(b"sv3d", head + box(b"proj", pose + box(kinds[sphere.projection], sphere.shape)))


def box_in(file: BinaryIO, wanted: bytes, *, last: bool = False) -> tuple[int, bytes]:
    """Place and bytes of an index, the box `wanted` that no other one holds.

    Raises:
        ValueError: there is none, or it is not the `last` box of the file, where it has to be.
    """
    place = 0
    while head := file.read(8):
        size, kind = struct.unpack(">I4s", head)
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        if kind == wanted:
            file.seek(place)
            found = file.read(size)
            if last and file.read(1):
                raise ValueError("the index is not the last box of the file")
            return place, found
        if size < 8:
            break
        place += size
        file.seek(place)
    raise ValueError("the file has no index")


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes in the row `data`.

    Raises:
        ValueError: one that is larger than the row.
    """
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size < 8 or place + size > len(data):
            raise ValueError(f"a box in the index has an impossible size ({size})")
        yield kind, data[place + 8 : place + size]
        place += size


def _content(data: bytes, kind: bytes) -> bytes:
    """Of the first box called `kind` in a row of boxes; empty where there is none."""
    return next((content for name, content in boxes(data) if name == kind), b"")


def box(kind: bytes, content: bytes) -> bytes:
    """A box of four letters `kind`."""
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _inside(data: bytes, kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """`data`, a row of boxes, with the content of those called `kind` changed."""
    return b"".join(box(name, change(content) if name == kind else content) for name, content in boxes(data))


def _track(trak: bytes, language: str | None, entry: bytes, crop: Crop | None) -> bytes:
    shown: list[tuple[int, int]] = []

    def describe(stsd: bytes) -> bytes:
        return stsd[:8] + b"".join(box(kind, described(content)) for kind, content in boxes(stsd[8:]))

    def described(content: bytes) -> bytes:
        added = entry
        if crop:
            width, height = struct.unpack_from(">2H", content, _SIDES)
            added += _aperture(crop, width, height)
            shown.append((width, height))
        kinds = {kind for kind, _ in boxes(added)}
        kept = b"".join(box(kind, inner) for kind, inner in boxes(content[_VISUAL_ENTRY:]) if kind not in kinds)
        return content[:_VISUAL_ENTRY] + kept + added

    def media(mdia: bytes) -> bytes:
        if language is not None:
            code = three_letters(language)
            assert code is not None
            mdia = _inside(mdia, b"mdhd", lambda mdhd: _spoken(mdhd, code))
            if code != language:  # the whole of it stands behind (ISO/IEC 14496-12, 8.4.6)
                whole = box(b"elng", bytes(4) + language.replace("_", "-").encode() + b"\0")
                mdia = b"".join(box(kind, content) + whole * (kind == b"mdhd") for kind, content in boxes(mdia) if kind != b"elng")
        if entry or crop:
            mdia = _inside(mdia, b"minf", lambda minf: _inside(minf, b"stbl", lambda stbl: _inside(stbl, b"stsd", describe)))
        return mdia

    trak = _inside(trak, b"mdia", media)
    if crop and shown:
        trak = _inside(trak, b"tkhd", lambda tkhd: _narrowed(tkhd, crop, *shown[0]))
    return trak


def _told(trak: bytes, said: Described) -> bytes:
    """A track of QuickTime that says of its data what is `said`."""

    def within(minf: bytes) -> bytes:
        rest = b"".join(box(kind, content) for kind, content in boxes(minf) if kind not in (b"gmhd", b"nmhd"))
        return (said.header or _GENERIC) + _inside(rest, b"stbl", lambda stbl: _inside(stbl, b"stsd", lambda _: said.entries))

    def media(mdia: bytes) -> bytes:
        mdia = _inside(mdia, b"hdlr", lambda hdlr: hdlr[:8] + said.handler + hdlr[12:])
        return _inside(mdia, b"minf", within)

    return _inside(trak, b"mdia", media)


def _narrowed(tkhd: bytes, crop: Crop, width: int, height: int) -> bytes:
    """`tkhd` whose size is that of the clean aperture alone: to it players scale what they show."""
    sides = struct.unpack(">2I", tkhd[-8:])
    new = (side * own // whole for side, own, whole in zip(sides, crop.size(width, height), (width, height), strict=True))
    return tkhd[:-8] + struct.pack(">2I", *new)


_GENERIC = box(b"gmhd", box(b"gmin", struct.pack(">IHHHHHH", 0, 0x40, 0x8000, 0x8000, 0x8000, 0, 0)))
"""The header of a medium that is neither picture nor sound."""


def _spoken(mdhd: bytes, language: str) -> bytes:
    """`mdhd` with a packed language: five bits a letter."""
    place = 32 if mdhd[0] == 1 else 20
    first, second, third = (ord(letter) - 0x60 for letter in language)
    return mdhd[:place] + struct.pack(">H", first << 10 | second << 5 | third) + mdhd[place + 2 :]


def _tags(tags: Mapping[str, str], quicktime: bool) -> bytes:
    handler = box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"mdta") + b"\0")
    names = [name.encode("utf-8", "surrogateescape") for name in tags]
    keys = box(b"keys", struct.pack(">II", 0, len(names)) + b"".join(box(b"mdta", name) for name in names))
    texts = [struct.pack(">II", _UTF8, 0) + text.encode("utf-8", "surrogateescape") for text in tags.values()]
    items = [box(struct.pack(">I", number), box(b"data", text)) for number, text in enumerate(texts, 1)]
    return box(b"meta", (b"" if quicktime else bytes(4)) + handler + keys + box(b"ilst", b"".join(items)))
