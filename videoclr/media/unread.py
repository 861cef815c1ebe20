"""What picture files hold besides their picture that FFmpeg reads nothing of: XMP, IPTC, texts, the colour profile of a JPEG 2000,
and further pictures in a JPEG; and whether their colours are printing inks, which it makes RGB of.

XMP is captions, rights, ratings and edits (XMP specification, part 3); IPTC is what the press says of the same, in a resource of
Photoshop's (IPTC-NAA, record 2); a PNG has texts of its own, by keyword, and a JPEG has comments. Further pictures are views, or
what makes the first one HDR (CIPA DC-007, "Multi-Picture Format"; the gain maps of ISO 21496-1 are stored so).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from videoclr.media import tiff

_JPEG, _PNG, _RIFF = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF"
_JP2, _COLOUR_OF_JP2, _SAMPLES_OF_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n", b"colr", b"jp2c"
_PROFILES = (2, 3)
"""What the box of the colours says first where a profile follows (ITU-T T.800, I.5.3.3; T.801)."""
_APP0, _APP1, _APP2, _SCAN, _COMMENT = 0xE0, 0xE1, 0xE2, 0xDA, 0xFE
_XMP_OF_JPEG, _XMP_OF_PNG, _PICTURES = b"http://ns.adobe.com/xap/1.0/\0", b"XML:com.adobe.xmp\0", b"MPF\0"
_XMP_OF_TIFF, _IPTC_OF_TIFF = 700, 33723
_APP13, _PHOTOSHOP, _IPTC_OF_JPEG = 0xED, b"Photoshop 3.0\0", b"8BIM\4\4"
_TEXTS, _PIXELS = (b"tEXt", b"zTXt", b"iTXt"), b"IDAT"
_SOFTWARE, _EXIF_OF_PNG = b"Software", b"Raw profile type exif"
"""Keywords of texts that nobody wrote, and that FFmpeg reads; of those with a colon programs made the others (`date:create`)."""
_OF_PROGRAMS = (b"Lavc", b"CREATOR: gd-jpeg", b"Created with GIMP", b"LEAD Technologies", b"Intel(R) JPEG Library", b"AppleMark")
"""How the comments begin that encoders of JPEG write by themselves."""
_WEBP_FLAGS, _WEBP_XMP, _WEBP_ANIMATED = 20, 0x04, 0x02
"""Where a WebP that is more than its picture says what it holds, and the flags of XMP and of an animation (RFC 9649, 2.7)."""
_COUNT, _ENTRIES, _ENTRY, _KIND = 0xB001, 0xB002, 16, 0xFFFFFF
"""Tags of the number of pictures and of their list, the bytes of each in it, and the bits that say what it is."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segment that says of what size a JPEG is, and of how many colours (ITU-T T.81, B.2.2)."""
_COLOURS, _INKS, _PHOTOMETRIC, _SEPARATED = 5, 4, 0x106, 5
"""Where that number stands in it, that of printing inks, and a TIFF's tag of what its numbers are, and its value for inks."""
_THUMBNAILS = (0x010001, 0x010002)
"""Smaller versions of the first picture, for the screens of cameras and of televisions."""


def has_xmp(data: bytes) -> bool:
    """Whether a JPEG, PNG, WebP or TIFF file, of which `data` is the beginning (of a PNG or a TIFF, all), has XMP."""
    if data.startswith(_JPEG):
        return any(kind == _APP1 and content.startswith(_XMP_OF_JPEG) for kind, content in _segments(data))
    if data.startswith(_PNG):
        return any(kind == b"iTXt" and content.startswith(_XMP_OF_PNG) for kind, content in _chunks(data))
    if data.startswith(_RIFF):
        return bool(_webp_flags(data) & _WEBP_XMP)
    return _XMP_OF_TIFF in tiff.first_tags(data)


def has_iptc(data: bytes) -> bool:
    """Whether a JPEG or TIFF file, of which `data` is the beginning (of a TIFF, all), has IPTC data."""
    if data.startswith(_JPEG):
        return any(kind == _APP13 and content.startswith(_PHOTOSHOP) and _has_iptc(content) for kind, content in _segments(data))
    return _IPTC_OF_TIFF in tiff.first_tags(data)


def _has_iptc(resources: bytes) -> bool:
    """Whether there is one, and something in it: its name is padded to whole pairs of bytes, and its length follows."""
    at = resources.find(_IPTC_OF_JPEG) + len(_IPTC_OF_JPEG)
    return at >= len(_IPTC_OF_JPEG) and any(resources[at + 2 : at + 6])


def has_texts(data: bytes) -> bool:
    """Whether a PNG or JPEG file, of which `data` is the beginning (of a PNG, all), has texts that somebody wrote into it."""
    if data.startswith(_JPEG):
        comments = (content.strip(b"\0 \r\n") for kind, content in _segments(data) if kind == _COMMENT)
        return any(text and not text.startswith(_OF_PROGRAMS) for text in comments)
    found = (content.partition(b"\0")[0] for name, content in _chunks(data) if name in _TEXTS) if data.startswith(_PNG) else ()
    return any(keyword not in (_SOFTWARE, _EXIF_OF_PNG) and b":" not in keyword for keyword in found)


def has_inks(data: bytes) -> bool:
    """Whether a JPEG or TIFF file, of which `data` is the beginning (of a TIFF, all), is in CMYK."""
    if data.startswith(_JPEG):
        return any(kind in _FRAMES and content[_COLOURS : _COLOURS + 1] == bytes([_INKS]) for kind, content in _segments(data))
    return tiff.first_tags(data).get(_PHOTOMETRIC) == _SEPARATED


def has_profile(data: bytes) -> bool:
    """Whether a JPEG 2000 file, of which `data` is the beginning, has a colour profile."""
    at = data.find(_COLOUR_OF_JP2, 0, data.find(_SAMPLES_OF_JP2)) if data.startswith(_JP2) else -1
    return at >= 0 and data[at + len(_COLOUR_OF_JP2)] in _PROFILES


def is_animated_webp(data: bytes) -> bool:
    """Whether a file, of which `data` is the beginning, is an animation in WebP, of which FFmpeg reads nothing."""
    return bool(_webp_flags(data) & _WEBP_ANIMATED)


def _webp_flags(data: bytes) -> int:
    return data[_WEBP_FLAGS] if data[:4] == _RIFF and data[8:16] == b"WEBPVP8X" and len(data) > _WEBP_FLAGS else 0


def pictures(data: bytes) -> int:
    """How many pictures a JPEG file holds, smaller versions of the first aside; `data` is its beginning. 1 for any other file."""
    said = (content[len(_PICTURES) :] for kind, content in _segments(data) if kind == _APP2 and content.startswith(_PICTURES))
    index = next(said, b"")
    tags, order = tiff.first_tags(index), "<" if index.startswith(b"II") else ">"
    begin = tags.get(_ENTRIES, 0)
    entries = index[begin : begin + _ENTRY * tags.get(_COUNT, 0)]
    kinds = [struct.unpack_from(order + "I", entries, at)[0] & _KIND for at in range(0, len(entries) - _ENTRY + 1, _ENTRY)]
    return 1 + sum(kind not in _THUMBNAILS for kind in kinds[1:])


def with_segments(jpeg: bytes, other: bytes) -> bytes:
    """`jpeg` with what the JPEG `other` says of its use (JFIF, EXIF, colour profile) in place of its own."""
    applied = range(_APP0, _APP13 + 3)
    said = b"".join(_segment(*one) for one in _segments(other) if one[0] in applied)
    own = [*_segments(jpeg)]
    scan = len(_JPEG) + sum(len(_segment(*one)) for one in own)
    return _JPEG + said + b"".join(_segment(*one) for one in own if one[0] not in applied) + jpeg[scan:]


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of the segments before a JPEG's first scan."""
    at = len(_JPEG)
    while data.startswith(_JPEG) and at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SCAN:
        (size,) = struct.unpack_from(">H", data, at + 2)
        yield data[at + 1], data[at + 4 : at + 2 + size]
        at += 2 + size


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of a PNG's chunks, but for the picture's, which are large."""
    at = len(_PNG)
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name != _PIXELS:
            yield name, data[at + 8 : at + 8 + size]
        at += size + 12
