"""What an OpenEXR file says besides its picture, timecode, lens, primaries ("OpenEXR File Layout", Academy Software Foundation).

FFmpeg's encoder writes the attributes that a picture cannot be without, and its decoder hands over no others, so the source's are
put into what the encoder made. Of a file of several parts FFmpeg reads the first one, and its attributes are meant here; of deep
pixels it reads nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from videoclr.media.proxy import Primaries

_MAGIC = b"v/1\x01"
_BEGIN = 8
_LONG_NAMES, _DEEP, _PARTS = 0x400, 0x800, 0x1000
"""Flags of the version. Tiles are one as well, and their header is that of scan lines."""
_LINES: Mapping[int, int] = MappingProxyType({0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256})
"""Lines that a chunk holds, by compression."""
_OWN = frozenset(
    (
        "channels", "compression", "dataWindow", "displayWindow", "lineOrder", "pixelAspectRatio", "screenWindowCenter",
        "screenWindowWidth", "tiles", "type", "version", "chunkCount", "maxSamplesPerPixel", "preview", "dwaCompressionLevel",
    )
)  # fmt: skip
"""Attributes that are true of one file's pixels alone."""
_USUAL = frozenset(("framesPerSecond", "gamma", "writer"))
"""Attributes that encoders write by themselves."""
_COLOURS, _RGB = frozenset("RGBAY"), frozenset("RGB")
_OF_COLOUR = frozenset(("adoptedNeutral", "chromaticities", "whiteLuminance"))
"""Attributes that say how light becomes colour."""
_CHROMATICITIES = struct.Struct("<8f")
TIMECODE = "timeCode"
"""The attribute of that, of the type `timecode`."""
_WINDOW = struct.Struct("<4i")
_WINDOWS = ("dataWindow", "displayWindow")
_LINE, _TILE = 4, 16
"""Bytes from the beginning of a chunk to its size, of scan lines and of tiles, in a file of one part."""
_BROKEN = (LookupError, ValueError, ArithmeticError, struct.error)
"""What headers raise that say what cannot be."""
_NAMED = 8
"""Channels that a message names."""
_CHANNEL = 17
"""Bytes of a channel from the end of its name on."""


def head_of(data: bytes) -> bytes:
    """The header of an EXR file, of its first part, magic number and all; empty where it is none that is known here."""
    if data[:4] != _MAGIC or len(data) < _BEGIN or _flags(data) & _DEEP:
        return b""
    try:
        head, values = data[: _end(data)], _values(data)
    except (ValueError, struct.error):
        return b""
    known = all(len(values.get(name, b"")) == _WINDOW.size for name in _WINDOWS)
    return head if known and head[-1:] == b"\0" else b""


def is_exr(head: bytes) -> bool:
    """Whether that is the header of an EXR file."""
    return head[:4] == _MAGIC


def has_parts(head: bytes) -> bool:
    """Whether a header is that of the first of several parts."""
    return bool(_flags(head) & _PARTS)


def said(head: bytes) -> list[str]:
    """Names of what a header says besides what its own pixels need, and what every encoder says."""
    return [name for name, _, _ in _attributes(head) if name not in _OWN | _USUAL]


def of_matte(head: bytes) -> bytes:
    """The header of an EXR file without what it says of its colours: a matte has none. That of any other file as it is."""
    if not is_exr(head):
        return head
    return head[:_BEGIN] + b"".join(head[start:end] for name, start, end in _attributes(head) if name not in _OF_COLOUR) + b"\0"


def layers(head: bytes) -> list[str]:
    """Channels that are no part of the picture's colour, such as `Z` or `diffuse.R`."""
    return [name for name in _channels(head) if name not in _COLOURS]


def unreadable(head: bytes) -> str | None:
    """What FFmpeg reads nothing of, in an EXR file with this header, and what to make of it; None where it seems to be nothing."""
    try:
        found, compression = _channels(head), _values(head).get("compression", b"")
    except _BROKEN:
        return None
    if "Y" not in found and not found.keys() >= _RGB:
        names = ", ".join([*found][:_NAMED]) + ", ..." * (len(found) > _NAMED)
        where = "first part holds" if has_parts(head) else "picture holds"
        return f"its {where} the channels {names}, and R, G and B, or Y, are read; write the layer to be restored as these"
    if compression and compression[0] not in _LINES:
        return "its compression is not known here; write it with ZIP or PIZ"
    if len({kind for name, kind in found.items() if name in _COLOURS}) > 1:
        return "its R, G, B and A are numbers of several kinds; write them all as half floats, or all of 32 bits"
    return None


def _channels(head: bytes) -> dict[str, int]:
    """Name -> kind of numbers: whole ones, half floats, floats."""
    found = {}
    for name, start, end in _attributes(head):
        if name == "channels":
            at = _value(head, start)
            while at < end and head[at]:
                stop = head.index(b"\0", at)
                found[head[at:stop].decode("latin-1")] = head[stop + 1]
                at = stop + _CHANNEL
    return found


def primaries(head: bytes) -> Primaries | None:
    """CIE x, y of red, green, blue and white, where a header says them (`chromaticities`); else BT.709's are meant."""
    for name, start, end in _attributes(head):
        if name == "chromaticities" and end - _value(head, start) == _CHROMATICITIES.size:
            values = _CHROMATICITIES.unpack(head[end - _CHROMATICITIES.size : end])
            red, green, blue, white = zip(values[::2], values[1::2], strict=True)
            return red, green, blue, white
    return None


def outside(head: bytes) -> int:
    """Pixels that a header announces outside of what it says is shown; FFmpeg leaves them out."""
    values = _values(head)
    data, shown = _window(values["dataWindow"]), _window(values["displayWindow"])
    both = (*map(max, data[:2], shown[:2]), *map(min, data[2:], shown[2:]))
    return _area(data) - _area(both)


def is_incomplete(data: bytes) -> bool:
    """Whether pixels of an EXR file, of its first part, are missing; False of what FFmpeg reads nothing of."""
    try:
        places, _, _ = _chunks(data, head_of(data))
    except _BROKEN:
        return False
    return not all(places)


def at_origin(data: bytes, head: bytes) -> bytes:
    """The EXR file `data`, whose header is `head`, with what it shows at 0, 0, where FFmpeg looks for it whatever the file says."""
    try:
        left, top = _window(_values(head)["displayWindow"])[:2]
        if not left and not top:
            return data
        places, lead, _ = _chunks(data, head)
        new = bytearray(data)
        for name, _, end in _attributes(head):
            if name in _WINDOWS:
                x0, y0, x1, y1 = _WINDOW.unpack_from(head, end - _WINDOW.size)
                _WINDOW.pack_into(new, end - _WINDOW.size, x0 - left, y0 - top, x1 - left, y1 - top)
        if lead < _TILE:  # a tile says which one it is, whatever the window
            _move_lines(new, places, lead, -top)
    except _BROKEN:
        return data
    return bytes(new)


def with_head(data: bytes, head: bytes) -> bytes:
    """The EXR file `data`, of scan lines, with what `head` says besides, and at the same place if it is as large as what is shown.

    The table of chunks behind the header holds their places in the file, which move.
    """
    own = {name: data[start:end] for name, start, end in _attributes(data)}
    other = {name: head[start:end] for name, start, end in _attributes(head) if name not in _OWN}
    places, lead, begin = _chunks(data, data)
    new = bytearray(data)
    x0, y0, x1, y1 = _window(_values(data)["displayWindow"])
    left, top, right, bottom = _window(_values(head)["displayWindow"])
    if (x1 - x0, y1 - y0) == (right - left, bottom - top):
        for name in _WINDOWS:
            own[name] = own[name][: -_WINDOW.size] + _WINDOW.pack(left, top, right, bottom)
        _move_lines(new, places, lead, top - y0)
    kept = b"".join(value for name, value in own.items() if name not in other) + b"".join(other.values())
    longer = _BEGIN + len(kept) + 1 - begin
    table = struct.pack(f"<{len(places)}Q", *(place + longer for place in places))
    version = struct.pack("<I", _flags(data) | _flags(head) & _LONG_NAMES)
    return data[:4] + version + kept + b"\0" + table + new[begin + len(table) :]


def with_primaries(data: bytes, places: Primaries) -> bytes:
    """The EXR file `data`, of scan lines, that says which `places` (CIE x, y) its red, green, blue and white have."""
    return _with(data, "chromaticities", "chromaticities", _CHROMATICITIES.pack(*(number for place in places for number in place)))


def with_timecode(data: bytes, word: int) -> bytes:
    """The EXR file `data`, of scan lines, that says its timecode (see `Timecode.word`)."""
    return _with(data, TIMECODE, "timecode", struct.pack("<2I", word, 0))


def clock_of(head: bytes) -> tuple[float, int]:
    """Pictures a second, and the word of the timecode, that the header of an EXR file says; 0 for what it does not."""
    values = _values(head)
    rate, label = values.get("framesPerSecond", b""), values.get(TIMECODE, b"")
    count, seconds = struct.unpack("<iI", rate) if len(rate) == 8 else (0, 1)
    return count / seconds if count > 0 and seconds else 0.0, int.from_bytes(label[:4], "little")


def _with(data: bytes, name: str, kind: str, value: bytes) -> bytes:
    """The EXR file `data`, of scan lines, with one attribute more."""
    said = f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value
    return with_head(data, head_of(data)[:-1] + said + b"\0")


def _chunks(data: bytes, head: bytes) -> tuple[list[int], int, int]:
    """Of the chunks of the whole picture in an EXR file's first part: where each begins, 0 where it is missing; the bytes from
    there to its size; and where the table of them begins.

    Raises:
        LookupError: the header lacks something, or names an unknown compression.
        ValueError, ArithmeticError, struct.error: it breaks off, or says what cannot be.
    """
    values, begin = _values(head), _end(head)
    left, top, right, bottom = _window(values["dataWindow"])
    if "tiles" in values:
        width, height = struct.unpack_from("<II", values["tiles"])
        count, lead = -(-(right - left + 1) // width) * -(-(bottom - top + 1) // height), _TILE
    else:
        count, lead = -(-(bottom - top + 1) // _LINES[values["compression"][0]]), _LINE
    if has_parts(head):  # the other headers, and which part a chunk is of
        while data[begin : begin + 1] != b"\0":
            begin = _end(data, begin)
        begin, lead = begin + 1, lead + 4
    places = list(struct.unpack_from(f"<{count}Q", data, begin))
    if not places[0] and lead == _LINE:  # a table that was never written: FFmpeg takes the chunks as they come
        places[0] = begin + 8 * count
        for number in range(1, count):
            places[number] = _chunk_end(data, places[number - 1], lead)
    return [place if place > begin and _chunk_end(data, place, lead) <= len(data) else 0 for place in places], lead, begin


def _move_lines(data: bytearray, places: Iterable[int], lead: int, by: int) -> None:
    """Add `by` to the number of the first line of each chunk, which stands before its size."""
    for place in filter(None, places):
        struct.pack_into("<i", data, place + lead - 4, struct.unpack_from("<i", data, place + lead - 4)[0] + by)


def _chunk_end(data: bytes, place: int, lead: int) -> int:
    """Where the chunk at `place` ends; beyond the data where they do not say."""
    size = data[place + lead : place + lead + 4]
    return place + lead + 4 + int.from_bytes(size, "little")


def _window(value: bytes) -> tuple[int, int, int, int]:
    """Left, top, right and bottom; the last two are of the last pixel."""
    left, top, right, bottom = _WINDOW.unpack(value)
    return left, top, right, bottom


def _area(window: tuple[int, ...]) -> int:
    left, top, right, bottom = window
    return max(0, right - left + 1) * max(0, bottom - top + 1)


def _values(head: bytes) -> dict[str, bytes]:
    """The value of each attribute."""
    return {name: head[_value(head, start) : end] for name, start, end in _attributes(head)}


def _flags(head: bytes) -> int:
    """The version and its flags."""
    (flags,) = struct.unpack("<I", head[4:_BEGIN])
    return int(flags)


def _end(data: bytes, at: int = _BEGIN) -> int:
    """Where the header whose attributes begin at `at` is over, behind its last byte, a 0."""
    return max((end for _, _, end in _attributes(data, at)), default=at) + 1


def _attributes(data: bytes, at: int = _BEGIN) -> Iterator[tuple[str, int, int]]:
    """Name, beginning and end of each attribute in the header whose attributes begin at `at`.

    Raises:
        ValueError: the header breaks off.
    """
    while data[at : at + 1] not in (b"\0", b""):
        name = data.index(b"\0", at)
        start = _value(data, at)
        (size,) = struct.unpack("<i", data[start - 4 : start])
        if size < 0 or start + size > len(data):
            raise ValueError("an attribute is longer than the file")
        yield data[at:name].decode("latin-1"), at, start + size
        at = start + size


def _value(data: bytes, start: int) -> int:
    """Where the value of the attribute at `start` begins: behind its name, its type and its size."""
    return data.index(b"\0", data.index(b"\0", start) + 1) + 5
