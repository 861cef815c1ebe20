"""What of a TIFF FFmpeg leaves out or mistakes without a word: kinds of pictures that it shows black or wrong, all pages but the
first, pixels an inch, what numbers of YCbCr mean (TIFF 6.0, technical note 3), whether colours are multiplied with their alpha
(TIFF 6.0, section 18), how the file is compressed, and what it says of when, where and with what the picture was taken. FFmpeg
does not read BigTIFF either, whose directories become those of a TIFF here."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from av.video.frame import VideoFrame

from videoclr.media.colour import BT601, Matrix, matrix_of

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
"""A file's first bytes -> the order of the others, for `struct`."""
_BIG = {b"II+\0": "<", b"MM\0+": ">"}
"""The same of BigTIFF."""
_HEAD, _ENTRY, _SHORT = 8, 12, 3
"""Bytes of the header, and of an entry of a directory, and the kind of numbers of 16 bits."""
_KIND, _COMPRESSION, _DNG = 0xFE, 0x103, 0xC612
"""Tags: what a picture is to the others, how it is compressed, and the version of DNG."""
_PHOTOMETRIC, _COEFFICIENTS, _BLACK_AND_WHITE = 0x106, 0x211, 0x214
"""Tags: what the numbers are, the weights of red, green and blue in luma, and the numbers of black and white."""
_PALETTE, _CMYK, _YCBCR = 3, 5, 6
_PROFILE, _BYTES = 0x8773, 7
"""Tag of a colour profile, and the kind of its value."""
_TOP, _LIMITED_TOP = 255, 235
_FULL = (0, _TOP, 128, _TOP, 128, _TOP)
"""Black and white of Y, Cb and Cr in the full range: what is meant where a file does not say."""
_LESS = 0b101
"""Kinds that are a smaller version of another picture, or a mask of it."""
_JPEG = (6, 7)
_BITS, _SAMPLES, _TILE, _FORMAT = 0x102, 0x115, 0x142, 0x153
"""Tags: bits of each sample, samples of a pixel, the width of a tile, and what samples are."""
_WHOLE, _SIGNED, _FLOAT, _FULL_FLOAT = 1, 2, 3, 32
"""What samples may be, and the bits of the floats that FFmpeg reads."""
_ACROSS, _DOWN, _UNIT = 0x11A, 0x11B, 0x128
"""Tags: pixels in a unit, of the width and the height, and the unit."""
_EXTRA, _PREDICTOR = 0x152, 0x13D
"""Tags: what samples besides the colours are, and what was done to samples before they were compressed."""
_ASSOCIATED, _STRAIGHT, _DIFFERENCES = 1, 2, 2
"""Values of these: alpha that colours are multiplied with, and that they are not, and samples less those to the left of them."""
_SAID = (_COMPRESSION, _PREDICTOR, _EXTRA)
_ALGORITHMS = MappingProxyType({1: "raw", 5: "lzw", 8: "deflate", 32946: "deflate", 32773: "packbits"})
"""Compression -> FFmpeg's name, of those that it writes."""
_PREDICTED = ("lzw", "deflate")
"""Those that differences are for."""
_LINES = MappingProxyType(
    {"gray": (1, "u1"), "ya8": (2, "u1"), "rgb24": (3, "u1"), "rgba": (4, "u1"), "gray16le": (1, "<u2"), "ya16le": (2, "<u2"),
     "rgb48le": (3, "<u2"), "rgba64le": (4, "<u2")}
)  # fmt: skip
"""Formats that FFmpeg writes with one sample beside the other -> samples of a pixel, and their kind."""
OF_PIXELS = frozenset(
    (0x0FE, 0x0FF, *range(0x100, 0x108), 0x10A, 0x111, 0x112, *range(0x115, 0x11A), 0x11C, 0x13D, 0x140, *range(0x142, 0x146),
     0x14A, 0x152, 0x153, 0x15B, 0x201, 0x202, 0x211, 0x212, 0x213, 0x214, 0x8773, 0x935C)
)  # fmt: skip
"""Tags of a TIFF that are true of its own pixels alone, orientation among them (TIFF 6.0, section 8 and 15 to 22), and Photoshop's
layers, which show the picture as it was."""
_TOLD_LOST = frozenset((700, 33723, 34377))
"""Tags of XMP, IPTC and Photoshop's resources; that they are left out is told (`videoclr.media.unread`)."""
_LAYERS, _LAYER_KEYS = 0x935C, (b"Layr", b"Lr16", b"Lr32")
"""Tag of what Photoshop keeps of a document beside its picture, and the keys of its layers in there, by the bits of a sample."""
_DOCUMENT, _BLOCK = b"Adobe Photoshop Document Data Block\0", 12
"""How that begins, and the bytes of each of its blocks before the content: signature, key and length (Photoshop TIFF technical
notes, `ImageSourceData`; Photoshop file formats, "Additional Layer Information")."""
_FIRST_OF_DNG = 0xC600
"""Tags from here on are those of raw pictures, and of programs that describe their own pages."""
_PREFERRED = frozenset((0x131,))
"""Tags of the source that win over what FFmpeg writes: the program that made the picture."""
_POINTERS = frozenset((0x8769, 0x8825, 0xA005))
"""Tags of further directories: EXIF, GPS, and how other programs may read it."""
_WIDTHS = MappingProxyType({1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8})
"""Bytes of a value, by its kind."""
_SWAPPED = MappingProxyType({3: 2, 8: 2, 4: 4, 5: 4, 9: 4, 10: 4, 11: 4, 13: 4, 12: 8, 16: 8, 17: 8, 18: 8})
"""Bytes that the order is about, by the kind of a value."""
_LONG, _LONG_KINDS = 4, frozenset((13, 16, 18))
"""Whole numbers of 32 bits, and kinds that become such: those of BigTIFF, and addresses of directories."""
_MOST = (1 << 32) - 1
_Tree: TypeAlias = "dict[int, tuple[int, int, bytes] | _Tree]"
"""Tag -> kind, number and bytes of its values, or a directory."""
_UNITS = {2: Fraction(1), 3: Fraction(254, 100)}
"""Inch (where none is named, too) and centimetre -> how many of them make an inch."""


def unreadable(data: bytes) -> str | None:
    """What the first picture of a TIFF file is, where FFmpeg would show it black or wrong without a word, and what to make of it;
    None of any other."""
    first = next(_directories(data), {})
    if _DNG in first:
        return None
    bits, kind, colours = first.get(_BITS, 1), first.get(_FORMAT, _WHOLE), first.get(_PHOTOMETRIC)
    mistaken = {
        "that is compressed as JPEG": first.get(_COMPRESSION) in _JPEG,
        "in tiles": _TILE in first,
        "of signed numbers": kind == _SIGNED,
        f"of floats of {bits} bits": kind == _FLOAT and bits < _FULL_FLOAT,
        f"of whole numbers of {bits} bits": kind == _WHOLE and bits >= _FULL_FLOAT,
        f"of CMYK in {bits} bits": colours == _CMYK and bits > 8,
        "of a palette with transparency": colours == _PALETTE and first.get(_SAMPLES, 1) > 1,
    }
    what = next((what for what, holds in mistaken.items() if holds), None)
    return what and f"a TIFF {what} cannot be decoded here; convert it to {'EXR' if kind == _FLOAT else 'PNG'}"


def pages(data: bytes) -> int:
    """Pictures in a TIFF file, smaller versions and masks of others aside; 0 where it is none."""
    return sum(not tags.get(_KIND, 0) & _LESS for tags in _directories(data))


def has_layers(data: bytes) -> bool:
    """Whether a TIFF file has layers of Photoshop beside its first picture, which shows them together."""
    if _LAYERS not in first_tags(data):
        return False
    said = _tree(data, "<").get(_LAYERS)
    blocks = said[2] if isinstance(said, tuple) else b""
    at, order = len(_DOCUMENT), _ORDERS[data[:4]]
    while blocks.startswith(_DOCUMENT) and at + _BLOCK <= len(blocks):
        key, size = blocks[at + 4 : at + 8], struct.unpack_from(order + "I", blocks, at + 8)[0]
        if size and (key if order == ">" else key[::-1]) in _LAYER_KEYS:
            return True
        at += _BLOCK + size + -size % 4
    return False


def first_tags(data: bytes) -> dict[int, int]:
    """The tags of the first picture of a TIFF file, with the value, or the place of it, of each; empty of any other file."""
    return next(_directories(data), {})


def head_of(data: bytes) -> bytes:
    """What the first picture of a TIFF file says of its alpha and its compression, and when, where and with what it was taken, as a
    TIFF file of these tags alone; empty of any other file."""
    tags = first_tags(data)
    if not tags:
        return b""
    tree = _tree(data, "<")
    said = {tag: value for tag, value in tree.items() if tag not in OF_PIXELS | _TOLD_LOST and tag < _FIRST_OF_DNG}
    said |= {tag: (_SHORT, 1, struct.pack("<H", tags[tag] & 0xFFFF)) for tag in _SAID if tag in tags}
    return struct.pack("<4sI", b"II*\0", _HEAD) + _laid(said, _HEAD, "<")


def classic(data: bytes) -> bytes:
    """A BigTIFF file as a TIFF file, with its samples where they are; any other file, and one that is too long, as it is."""
    order = _BIG.get(data[:4])
    if order is None:
        return data
    chain, trees = [int.from_bytes(data[8:16], "little" if order == "<" else "big")], []
    with suppress(struct.error, OverflowError):  # it is cut off, or points to where no file reaches
        while chain[-1] and chain[-1] not in chain[:-1]:
            (count,) = struct.unpack_from(order + "Q", data, chain[-1])
            trees.append(_tree(data, order, chain[-1], big=True))
            chain.append(struct.unpack_from(order + "Q", data, chain[-1] + 8 + 20 * count)[0])
    if not trees:
        return data
    begin, laid = len(data) + len(data) % 2, b""
    starts = [begin]
    for tree in trees:
        one = _laid(tree, starts[-1], order)
        starts.append(starts[-1] + len(one))
        laid += one
    if starts[-1] > _MOST:
        return data
    made = bytearray(laid)
    for tree, (start, after) in zip(trees, pairwise([*starts[:-1], 0]), strict=True):
        struct.pack_into(order + "I", made, start - begin + 2 + _ENTRY * len(tree), after)
    mark = next(mark for mark, known in _ORDERS.items() if known == order)
    return mark + struct.pack(order + "I", begin) + data[_HEAD:] + bytes(len(data) % 2) + made


def repeated(data: bytes | memoryview) -> list[int]:
    """Tags that the first directory of a TIFF or BigTIFF file has more than once, as programs of scientists write descriptions;
    FFmpeg refuses such a file."""
    head = bytes(data[:_HEAD])
    order, big = (_ORDERS | _BIG).get(head[:4]), is_big(head)
    count = Counter[int]()
    with suppress(struct.error, OverflowError):  # it is cut off, or points to where no file reaches
        if order is not None:
            (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
            (number,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
            begin, size = (at + 8, 20) if big else (at + 2, _ENTRY)
            count.update(
                struct.unpack_from(order + "H", data, place)[0]
                for place in range(begin, min(begin + number * size, len(data)), size)
            )
    return [tag for tag, times in count.items() if times > 1]


def once(data: bytes) -> bytes:
    """A TIFF file with the first entry alone of each tag in its first directory; any other file as it is."""
    if not is_tiff(data) or not repeated(data):
        return data
    order, places = _ORDERS[data[:4]], _places(data)
    entries: dict[bytes, bytes] = {}
    for place in places:
        entries.setdefault(data[place : place + 2], data[place : place + _ENTRY])
    following = data[places.stop : places.stop + 4].ljust(4, b"\0")
    begin = places.start - 2
    table = struct.pack(order + "H", len(entries)) + b"".join(entries.values()) + following
    return data[:begin] + table + data[begin + len(table) :]


def is_big(head: bytes) -> bool:
    """Whether a file that begins so is a BigTIFF."""
    return head[:4] in _BIG


def is_tiff(head: bytes) -> bool:
    """Whether that is what `head_of` makes of a TIFF file."""
    return head[:4] in _ORDERS


def is_multiplied(head: bytes) -> bool:
    """Whether the colours of a TIFF file are multiplied with its alpha; `head` is that of any file."""
    return first_tags(head).get(_EXTRA) == _ASSOCIATED


def straight(head: bytes) -> bytes:
    """`head` of a TIFF file whose colours are no longer multiplied with its alpha."""
    return _saying(head, _EXTRA, _STRAIGHT) if is_multiplied(head) else head


def compression(head: bytes) -> str | None:
    """FFmpeg's name of the compression that `head` (of any file) names; None where that is not written here."""
    return _ALGORITHMS.get(first_tags(head).get(_COMPRESSION, 0))


def differences(frame: VideoFrame, head: bytes) -> VideoFrame | None:
    """The samples of `frame` less those to the left of them, where the file of `head` was compressed so; else None.

    Without, LZW makes pictures of 16 bits larger than they are.
    """
    tags, form = first_tags(head), _LINES.get(frame.format.name)
    if form is None or tags.get(_PREDICTOR) != _DIFFERENCES or compression(head) not in _PREDICTED:
        return None
    (samples, kind), plane = form, frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8)[: frame.height * plane.line_size].reshape(frame.height, -1)
    values = rows.view(kind)[:, : frame.width * samples].reshape(frame.height, frame.width, samples)
    made = VideoFrame(frame.width, frame.height, frame.format.name)
    target = np.frombuffer(memoryview(made.planes[0]), np.uint8)[: frame.height * made.planes[0].line_size]
    less = target.reshape(frame.height, -1).view(kind)[:, : frame.width * samples].reshape(values.shape)
    less[:, :1] = values[:, :1]
    np.subtract(values[:, 1:], values[:, :-1], out=less[:, 1:])
    return made


def with_head(data: bytes, head: bytes, *, differing: bool) -> bytes:
    """A TIFF file as FFmpeg writes it that says of alpha and compression what `head` does.

    Args:
        data: the file.
        head: of the TIFF file that the picture was read from.
        differing: the samples are `differences`.
    """
    tags = first_tags(head)
    if compression(head) == _ALGORITHMS.get(first_tags(data).get(_COMPRESSION, 0)):  # there are two numbers for one of them
        data = _saying(data, _COMPRESSION, tags[_COMPRESSION])
    if _EXTRA in tags:
        data = _saying(data, _EXTRA, tags[_EXTRA])
    return _with(data, _PREDICTOR, _SHORT, 1, struct.pack(_ORDERS[data[:4]] + "HH", _DIFFERENCES, 0)) if differing else data


def meaning(data: bytes) -> tuple[Matrix, bool] | None:
    """The matrix of the first picture and whether it is full range, where that is YCbCr; None of any other."""
    first = next(_directories(data), {})
    if first.get(_PHOTOMETRIC) != _YCBCR:
        return None
    weights, ends = (_fractions(data, first.get(tag), count) for tag, count in ((_COEFFICIENTS, 3), (_BLACK_AND_WHITE, 6)))
    matrix = BT601 if weights is None else matrix_of(weights[0], weights[2])
    return matrix, ends is None or ends[1] > (_TOP + _LIMITED_TOP) / 2


def with_full_range(data: bytes) -> bytes:
    """A TIFF file of YCbCr as FFmpeg writes it, which says limited range, saying full range."""
    at = next(_directories(data), {}).get(_BLACK_AND_WHITE)
    if at is None:
        return data
    said = struct.pack(_ORDERS[data[:4]] + "12I", *(part for number in _FULL for part in (number, 1)))
    return data[:at] + said + data[at + len(said) :]


def with_profile(data: bytes, profile: bytes) -> bytes:
    """A TIFF file of one picture with a colour profile (ICC.1, annex B.4), which FFmpeg does not write."""
    data += bytes(len(data) % 2)
    place = struct.pack(_ORDERS[data[:4]] + "I", len(data))
    return _with(data + profile, _PROFILE, _BYTES, len(profile), place)


def with_exif(data: bytes, exif: bytes) -> bytes:
    """A TIFF file of one picture, as FFmpeg writes it, with what `exif`, of the structure of a TIFF, says beside its pixels."""
    order = _ORDERS[data[:4]]
    own = {tag for (tag,) in (struct.unpack_from(order + "H", data, place) for place in _places(data))} - _PREFERRED
    tree = {tag: value for tag, value in _tree(exif, order).items() if tag not in own | OF_PIXELS}
    data += bytes(len(data) % 2)
    entries, values = _parts(tree, len(data), order)
    return _with_entries(data + values, entries)


def _tree(data: bytes, order: str, at: int | None = None, *, big: bool = False, deep: int = 0) -> _Tree:
    """The directory at `at`, the first one by default, of a TIFF file or, where `big`, a BigTIFF file, in the byte `order`; values
    that lie outside are left out."""
    own = (_BIG if big else _ORDERS)[data[:4]]
    wide, entry, inline, table = (8, "HHQ", 8, "Q") if big else (2, "HHI", 4, "H")
    if at is None:
        (at,) = struct.unpack_from(own + "I", data, 4)
    tree: _Tree = {}
    if not 0 < at <= len(data) - wide:
        return tree
    (count,), size = struct.unpack_from(own + table, data, at), 4 + 2 * inline
    for place in range(at + wide, min(at + wide + count * size, len(data) - size + 1), size):
        tag, kind, number = struct.unpack_from(own + entry, data, place)
        if tag in tree:  # the first one counts
            continue
        long, where = _WIDTHS.get(kind, 0) * number, place + 4 + inline
        if long > inline:
            (where,) = struct.unpack_from(own + entry[-1], data, where)
        values = data[where : where + long]
        if not long or len(values) < long:
            continue
        if unit := _SWAPPED.get(kind):
            numbers = np.frombuffer(values, f"{own}u{unit}")
            if kind in _LONG_KINDS:
                kind, numbers = _LONG, np.minimum(numbers, _MOST).astype("u4")
            values = numbers.astype(f"{order}u{numbers.itemsize}").tobytes()
            if tag in _POINTERS and deep < len(_POINTERS):  # one that points back would never end
                tree[tag] = _tree(data, order, int(numbers[0]), big=big, deep=deep + 1)
                continue
        if tag not in _POINTERS:
            tree[tag] = kind, number, values
    return tree


def _laid(tree: _Tree, begin: int, order: str) -> bytes:
    """A directory that lies at `begin`, and its values behind it."""
    entries, values = _parts(tree, begin + 2 + _ENTRY * len(tree) + 4, order)
    return struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4) + values


def _parts(tree: _Tree, begin: int, order: str) -> tuple[list[bytes], bytes]:
    """The entries of a directory, and the values that lie elsewhere, from `begin` on."""
    entries, rest = [], b""
    for tag, value in sorted(tree.items(), key=lambda pair: pair[0]):
        place = struct.pack(order + "I", begin + len(rest))
        if isinstance(value, dict):
            kind, number, own = _LONG, 1, place
            rest += _laid(value, begin + len(rest), order)
        else:
            kind, number, own = value
            if len(own) > len(place):
                rest, own = rest + own + bytes(len(own) % 2), place
        entries.append(struct.pack(order + "HHI", tag, kind, number) + own.ljust(4, b"\0"))
    return entries, rest


def _with(data: bytes, tag: int, kind: int, count: int, value: bytes) -> bytes:
    """A TIFF file of one picture with one tag more, whose `value` (or the place of it) has four bytes."""
    return _with_entries(data, [struct.pack(_ORDERS[data[:4]] + "HHI", tag, kind, count) + value])


def _with_entries(data: bytes, new: list[bytes]) -> bytes:
    """A TIFF file of one picture with more entries in its directory, in place of those of the same tags."""
    order = _ORDERS[data[:4]]
    data += bytes(len(data) % 2)
    tags = {entry[:2] for entry in new}
    entries = [data[place : place + _ENTRY] for place in _places(data) if data[place : place + 2] not in tags] + new
    entries.sort(key=lambda entry: struct.unpack_from(order + "H", entry))  # as TIFF asks for
    table = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack(order + "I", len(data)) + data[_HEAD:] + table


def _saying(data: bytes, tag: int, value: int) -> bytes:
    """A TIFF file of one picture with another value of a tag that holds one short number; as it is where it has none."""
    order = _ORDERS[data[:4]]
    for place in _places(data):
        if struct.unpack_from(order + "HHI", data, place) == (tag, _SHORT, 1):
            return data[: place + 8] + struct.pack(order + "H", value) + data[place + 10 :]
    return data


def _places(data: bytes) -> range:
    """Where the entries of the first directory lie in a TIFF file that FFmpeg wrote."""
    order = _ORDERS[data[:4]]
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    return range(at + 2, at + 2 + count * _ENTRY, _ENTRY)


def _fractions(data: bytes, at: int | None, count: int) -> list[float] | None:
    if at is None or at + 8 * count > len(data):
        return None
    numbers = struct.unpack_from(f"{_ORDERS[data[:4]]}{2 * count}I", data, at)
    return [over / (under or 1) for over, under in zip(numbers[::2], numbers[1::2], strict=True)]


def resolution(data: bytes) -> Fraction | None:
    """Pixels an inch of the first picture of a TIFF file, or of EXIF; None where it says none, or another number for the height."""
    first, order = next(_directories(data), {}), "<" if data.startswith(b"II") else ">"
    unit = _UNITS.get(first.get(_UNIT, 2))
    places = (first.get(_ACROSS, 0), first.get(_DOWN, 0))
    if unit is None or not all(0 < place <= len(data) - 8 for place in places):
        return None
    (count, of), other = (struct.unpack_from(order + "II", data, place) for place in places)
    return Fraction(count, of) * unit if (count, of) == other and count and of else None


def _directories(data: bytes) -> Iterator[dict[int, int]]:
    """Of each picture its tags, with the value of those that hold a single number, and of short ones the first."""
    order = _ORDERS.get(data[:4])
    if order is None or len(data) < _HEAD:
        return
    (at,) = struct.unpack_from(order + "I", data, 4)
    seen: set[int] = set()
    while at and at not in seen and at + 2 <= len(data):
        seen.add(at)
        (count,) = struct.unpack_from(order + "H", data, at)
        end = at + 2 + count * _ENTRY
        if end > len(data):
            return
        yield dict(_entry(data, order, place) for place in range(at + 2, end, _ENTRY))
        at = struct.unpack_from(order + "I", data, end)[0] if end + 4 <= len(data) else 0


def _entry(data: bytes, order: str, place: int) -> tuple[int, int]:
    tag, kind, count = struct.unpack_from(order + "HHI", data, place)
    at: int = place + 8
    if kind == _SHORT and count > 2:  # more than fit in here
        (at,) = struct.unpack_from(order + "I", data, at)
        at = min(at, len(data) - 2)
    return tag, struct.unpack_from(order + ("H" if kind == _SHORT else "I"), data, at)[0]
