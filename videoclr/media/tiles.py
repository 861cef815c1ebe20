"""Still pictures in HEIC and AVIF files: what lies beside them, and those made of tiles, as telephones write them, put together.

FFmpeg knows each tile as a stream of its own. Here they are decoded and laid out as the file's grid says, and the whole is encoded
without loss into another HEIC in memory, with all that the file says of its picture: colour profile, rotation, mirroring, EXIF.
From there on it is a picture like others.

Sources: ISO/IEC 14496-12, 8.11 (items, their places and properties); ISO/IEC 23008-12, 6.6.2.3 (the grid) and annex A.2 (EXIF).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoclr.errors import MediaError
from videoclr.media.boxes import box, box_in, boxes
from videoclr.media.faults import AV_ERRORS
from videoclr.media.layout import layout_of
from videoclr.media.opening import Limits

_GRID, _EXIF, _MIME = b"grid", b"Exif", b"mime"
_XMP = b"application/rdf+xml"
_CODECS: Mapping[bytes, tuple[bytes, str]] = {b"hvc1": (b"hvcC", "hevc"), b"av01": (b"av1C", "libdav1d")}
"""Kind of an item -> the box with its decoder's configuration, and FFmpeg's decoder (its own of AV1 needs a device)."""
_OF_TILES = {b"hvcC", b"av1C"}
"""Properties of a picture that are those of its coding."""
_LOSSLESS = {"preset": "ultrafast", "x265-params": "lossless=1:log-level=error"}
_DAMAGED = (ValueError, KeyError, IndexError, struct.error)
"""What reading a damaged file raises here."""
_BRANDS = b"heic" + bytes(4) + b"mif1heic"


class _Piece(NamedTuple):
    """Bytes of an item."""

    inside: bool
    """In `idat`, rather than in the file."""
    begin: int
    size: int
    """0: all that follow."""


@dataclass(frozen=True, slots=True)
class _Items:
    """What a file's `meta` says."""

    primary: int
    """The one that is the picture."""
    kinds: Mapping[int, bytes]
    """Item -> four letters."""
    parts: Mapping[int, Sequence[int]]
    """Item -> those that it is made of, in order."""
    about: Mapping[int, Sequence[int]]
    """Item -> what it describes."""
    added: Mapping[int, Sequence[int]]
    """Item -> the pictures that it adds something to: transparency, depth, what makes them HDR."""
    is_xmp: Mapping[int, bool]
    pieces: Mapping[int, Sequence[_Piece]]
    """Item -> where its bytes are."""
    idat: bytes
    properties: Mapping[int, Sequence[bytes]]
    """Item -> boxes."""

    def bytes_of(self, item: int, file: BinaryIO) -> bytes:
        """What `item` holds; ValueError where its pieces are more than the file."""
        found = []
        room = file.seek(0, io.SEEK_END) + len(self.idat)
        for inside, begin, size in self.pieces[item]:
            place = io.BytesIO(self.idat) if inside else file
            place.seek(begin)
            found.append(place.read(size or -1))
            room -= len(found[-1])
            if room < 0:
                raise ValueError("an item of overlapping pieces")
        return b"".join(found)

    def property_of(self, item: int, kind: bytes) -> bytes | None:
        """The content of its box `kind`."""
        return next((one[8:] for one in self.properties.get(item, ()) if one[4:8] == kind), None)


def assembled(path: str, limits: Limits) -> bytes:
    """A HEIC file with the whole picture of the file at `path`, whose picture is a grid of tiles; the last one is remembered.

    Raises:
        MediaError: it is damaged, larger than `limits` allow, or made of tiles in another way.
        OSError: it cannot be read.
    """
    about = Path(path).stat()
    return _assembled(path, about.st_mtime_ns, about.st_size, limits)


def left_out(path: str) -> list[str]:
    """What the file at `path`, of a still picture, holds besides it that is not read here; nothing where it cannot be told.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            items = _read(file)
    except _DAMAGED:
        return []
    found = []
    if any(items.is_xmp.values()):
        found.append("its XMP data (captions, rights, edits) are left out")
    if any(items.primary in pictures for pictures in items.added.values()):
        found.append("what the file adds to its picture (transparency, depth, or what makes it HDR) is left out")
    return found


@lru_cache(maxsize=1)  # a picture is opened several times: to look at, to read, and for what lies beside it
def _assembled(path: str, _changed: int, _size: int, limits: Limits) -> bytes:
    try:
        with open(path, "rb") as file:
            items = _read(file)
            if items.kinds[items.primary] != _GRID:
                raise MediaError(path, "its picture is made of tiles in a way that is not read here; convert it to PNG first")
            return _written(items, file, *_encoded(_laid_out(path, items, file, limits)))
    except (*AV_ERRORS, *_DAMAGED) as error:
        raise MediaError(path, "the tiles of its picture cannot be read; it may be damaged: copy it again") from error


def _laid_out(path: str, items: _Items, file: BinaryIO, limits: Limits) -> VideoFrame:
    grid = items.bytes_of(items.primary, file)
    rows, columns = grid[2] + 1, grid[3] + 1
    width, height = struct.unpack_from(">II" if grid[1] & 1 else ">HH", grid, 4)
    limits.check(path, 1, (width, height), None, None, None)
    tiles = items.parts[items.primary]
    if len(tiles) != rows * columns:
        raise ValueError(f"{len(tiles)} tiles for {rows} x {columns} places")
    first = _decoded(items, tiles[0], file, limits)
    across, down = first.width, first.height
    if across * columns < width or down * rows < height:
        raise ValueError("the tiles do not cover the picture")
    whole = VideoFrame(width, height, first.format.name)
    _tag(whole, first)
    for place, tile in enumerate(tiles):
        x, y = place % columns * across, place // columns * down
        if x >= width or y >= height:
            continue  # it shows nothing of the picture
        frame = _decoded(items, tile, file, limits) if place else first
        if (frame.width, frame.height, frame.format.name) != (across, down, whole.format.name):
            raise ValueError("tiles of different kinds")
        _lay(whole, frame, x, y)
    return whole


def _decoded(items: _Items, item: int, file: BinaryIO, limits: Limits) -> VideoFrame:
    configuration, codec = _CODECS[items.kinds[item]]
    decoder = CodecContext.create(codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = items.property_of(item, configuration)
    decoder.options = {"max_pixels": str(limits.decoder_pixels)}
    frames = [*decoder.decode(Packet(items.bytes_of(item, file))), *decoder.decode(None)]
    return frames[0]


def _tag(to: VideoFrame | VideoCodecContext, frame: VideoFrame) -> None:
    """Say of `to` what colours those of `frame` are."""
    for name in ("colorspace", "color_range", "color_trc", "color_primaries"):
        setattr(to, name, getattr(frame, name))


def _lay(whole: VideoFrame, tile: VideoFrame, x: int, y: int) -> None:
    """Copy `tile` to where its left upper corner is at `x`, `y`; what sticks out is left out."""
    layout = layout_of(whole.format.name)
    if layout is None:
        raise ValueError(f"tiles in {whole.format.name}")
    for component in range(len(layout.places)):
        target, source = layout.view(whole, component), layout.view(tile, component)
        left, top = x * source.shape[1] // tile.width, y * source.shape[0] // tile.height
        place = target[top : top + source.shape[0], left : left + source.shape[1]]
        place[:] = source[: place.shape[0], : place.shape[1]]


def _encoded(frame: VideoFrame) -> tuple[bytes, bytes]:
    """`frame` in HEVC, without loss, and the content of its `hvcC`."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx265", rate=1, options=_LOSSLESS)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        _tag(stream.codec_context, frame)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            packet.pts = packet.dts = 0
            container.mux(packet)
    memory.seek(0)
    with av.open(memory, "r") as container:
        extradata = container.streams.video[0].codec_context.extradata or b""
        return b"".join(bytes(packet) for packet in container.demux(video=0)), extradata


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(file: BinaryIO) -> _Items:
    """What the file's `meta` says; one of `_DAMAGED` where that is damaged."""
    meta = dict(boxes(box_in(file, b"meta")[1][12:]))
    primary = struct.unpack_from(">H" if meta[b"pitm"][0] == 0 else ">I", meta[b"pitm"], 4)[0]
    kinds, is_xmp = {}, {}
    for _, entry in boxes(meta[b"iinf"][6 if meta[b"iinf"][0] == 0 else 8 :]):
        number, at = (">I", 10) if entry[0] > 2 else (">H", 8)
        item = struct.unpack_from(number, entry, 4)[0]
        kinds[item] = entry[at : at + 4]
        is_xmp[item] = kinds[item] == _MIME and _XMP in entry[at:]
    parts, about, added = _references(meta.get(b"iref", bytes(4)))
    pieces, idat = _pieces(meta[b"iloc"]), meta.get(b"idat", b"")
    return _Items(primary, kinds, parts, about, added, is_xmp, pieces, idat, _properties(meta[b"iprp"]))


def _references(iref: bytes) -> tuple[dict[int, list[int]], ...]:
    """Of `dimg`, `cdsc` and `auxl`: item -> items."""
    wanted = (b"dimg", b"cdsc", b"auxl")
    found: dict[bytes, dict[int, list[int]]] = {kind: {} for kind in wanted}
    number = ">H" if iref[0] == 0 else ">I"
    size = struct.calcsize(number)
    for kind, content in boxes(iref[4:]):
        count = struct.unpack_from(">H", content, size)[0]
        numbers = [struct.unpack_from(number, content, size + 2 + size * at)[0] for at in range(count)]
        found.setdefault(kind, {})[struct.unpack_from(number, content)[0]] = numbers
    return tuple(found[kind] for kind in wanted)


def _pieces(iloc: bytes) -> dict[int, list[_Piece]]:
    """Item -> where its bytes are; none for what lies in other files, or in other items."""
    version, stream = iloc[0], io.BytesIO(iloc[6:])
    offset, length, base, index = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if version else 0

    def number(size: int) -> int:
        return int.from_bytes(stream.read(size), "big")

    found = {}
    for _ in range(number(4 if version == 2 else 2)):
        item = number(4 if version == 2 else 2)
        way = number(2) & 15 if version else 0
        elsewhere = number(2) > 0 or way > 1
        start, pieces = number(base), []
        for _ in range(number(2)):
            stream.seek(index, io.SEEK_CUR)
            begin = start + number(offset)
            pieces.append(_Piece(way == 1, begin, number(length)))
        if not elsewhere:
            found[item] = pieces
    return found


def _properties(iprp: bytes) -> dict[int, list[bytes]]:
    """Item -> its property boxes, in order."""
    container = [box(kind, content) for kind, content in boxes(dict(boxes(iprp))[b"ipco"])]
    found: dict[int, list[bytes]] = {}
    for kind, content in boxes(iprp):
        if kind != b"ipma":
            continue
        stream = io.BytesIO(content[8:])
        wide = content[3] & 1
        for _ in range(struct.unpack_from(">I", content, 4)[0]):
            item = int.from_bytes(stream.read(4 if content[0] else 2), "big")
            indices = [int.from_bytes(stream.read(2 if wide else 1), "big") for _ in range(stream.read(1)[0])]
            places = [index & (0x7FFF if wide else 0x7F) for index in indices]
            found[item] = [container[place - 1] for place in places if place]
    return found


# -- writing ----------------------------------------------------------------------------------------------------------


def _written(items: _Items, file: BinaryIO, picture: bytes, configuration: bytes) -> bytes:
    """A HEIC file of one `picture`, with the properties and the EXIF data of the primary one of `items`."""
    said = [one for one in items.properties[items.primary] if one[4:8] not in _OF_TILES]
    if items.property_of(items.primary, b"colr") is None:
        first = items.parts[items.primary][0]
        said += [one for one in items.properties.get(first, ()) if one[4:8] == b"colr"]
    properties = [box(b"hvcC", configuration), *said]
    beside = [one for one, kind in items.kinds.items() if kind == _EXIF and items.primary in items.about.get(one, ())][:1]
    contents = [picture, *(items.bytes_of(one, file) for one in beside)]
    kinds = [b"hvc1", _EXIF][: len(contents)]
    entries = [box(b"infe", struct.pack(">IHH4sx", 2 << 24, number, 0, kind)) for number, kind in enumerate(kinds, 1)]
    places = bytes(range(1, len(properties) + 1))
    parts = [
        box(b"hdlr", struct.pack(">II4s12xx", 0, 0, b"pict")),
        box(b"pitm", struct.pack(">IH", 0, 1)),
        box(b"iinf", struct.pack(">IH", 0, len(kinds)) + b"".join(entries)),
        box(b"iref", bytes(4) + box(b"cdsc", struct.pack(">HHH", 2, 1, 1))) if beside else b"",
        box(
            b"iprp",
            box(b"ipco", b"".join(properties)) + box(b"ipma", struct.pack(">IIHB", 0, 1, 1, len(properties)) + places),
        ),
    ]
    head = box(b"ftyp", _BRANDS)
    # `iloc` names places in the file, which its own length moves; every entry has the same.
    ahead = len(head) + 8 + 4 + sum(map(len, parts)) + 8 + 8 + 14 * len(contents) + 8
    located, at = struct.pack(">IBBH", 0, 0x44, 0, len(contents)), ahead
    for number, content in enumerate(contents, 1):
        located += struct.pack(">HHHII", number, 0, 1, at, len(content))
        at += len(content)
    meta = box(b"meta", bytes(4) + b"".join(parts) + box(b"iloc", located))
    return head + meta + box(b"mdat", b"".join(contents))
