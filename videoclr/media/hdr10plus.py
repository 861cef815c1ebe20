"""HDR10+: what every picture says about its own brightness (SMPTE ST 2094-40), from the decoded picture into the encoder's packet.

FFmpeg's decoders of HEVC, AV1 and VP9 read it, and neither of its encoders libx265 and libsvtav1 writes it again (seen with
FFmpeg 8.1). So it is written into their packets: as a message "user data registered by ITU-T T.35" of HEVC (ITU-T H.265,
D.2.6), as an OBU of metadata in AV1 (specification, 5.8.2). The syntax of the message is that of ST 2094-40's Annex, public
in CTA-861.4 and in "HDR10+ AV1 Metadata Handling Specification" (aomediacodec.github.io/av1-hdr10plus).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from av.sidedata.sidedata import Type
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from videoclr.media.nal import guarded
from videoclr.media.orientation import payload

_WINDOW = "8i2HB3Hi6i2iB3x" + "B2i" * 15 + "2iB4iB30iB2i"
_DYNAMIC = struct.Struct("@3B" + _WINDOW * 3 + "2i3B1250i3B1250i")
"""AVDynamicHDRPlus: version and number of windows, three windows, the target display, two tables of peaks."""
_HEAD = bytes([0xB5, 0, 0x3C, 0, 1, 4])
"""United States, Samsung, its first message, application 4."""
_PEAK, _LIGHT, _SHARE, _KNEE, _ANCHOR, _SATURATION = 15, 100_000, 1000, 4095, 1023, 8
"""Steps of one, of the fractions in the message."""
_TABLE = 25
"""Rows and columns that FFmpeg has room for in a table of peaks."""
_HEVC_PREFIX_SEI, _HEVC_VCL, _T35 = 39, 32, 4
_AV1_HEADERS, _AV1_METADATA, _AV1_T35 = (1, 2), 5, 4
"""OBU types: sequence header and temporal delimiter, which come first; metadata."""
_KEEPERS = ("libx265", "libsvtav1")
_DEEP = 10


class _Bits:
    """A writer of bits, the most significant first."""

    def __init__(self) -> None:
        self._value, self._length = 0, 0

    def put(self, width: int, *numbers: int) -> None:
        for number in numbers:
            self._value = self._value << width | number & ((1 << width) - 1)
            self._length += width

    def bytes(self) -> bytes:
        spare = -self._length % 8
        return (self._value << spare).to_bytes((self._length + spare) // 8)


def keeps_hdr10_plus(frame: VideoFrame, encoder: str, pixel_format: str) -> bool:
    """True where the HDR10+ metadata of pictures like `frame` are written into what `encoder` makes of them."""
    deep = max(part.bits for part in VideoFormat(pixel_format).components) >= _DEEP
    return encoder in _KEEPERS and deep and message_of(frame) is not None


def message_of(frame: VideoFrame) -> bytes | None:
    """The message (ITU-T T.35, from the country code on) that says what the picture's side data say; None without any."""
    data = payload(frame, Type.DYNAMIC_HDR_PLUS)
    if data is None or len(data) != _DYNAMIC.size:
        return None
    numbers = iter(_DYNAMIC.unpack(data))
    _, version, count = (next(numbers) for _ in range(3))
    windows = [_Window(numbers) for _ in range(3)][:count]
    bits = _Bits()
    bits.put(2, count)
    for window in windows[1:]:
        bits.put(16, *window.corners, *window.centre)
        bits.put(8, window.angle)
        bits.put(16, *window.axes)
        bits.put(1, window.overlap)
    bits.put(27, _steps(numbers, 1))
    _put_peaks(bits, numbers)
    for window in windows:
        window.put_light(bits)
    _put_peaks(bits, numbers)
    for window in windows:
        window.put_curve(bits)
    return _HEAD + bytes([version]) + bits.bytes()


class _Window:
    """A processing window, read from the numbers of AVHDRPlusColorTransformParams."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self.corners = [_steps(numbers, 1) for _ in range(4)]
        self.centre = [next(numbers) for _ in range(2)]
        self.angle = next(numbers)
        self.axes = [next(numbers) for _ in range(3)]
        self.overlap = next(numbers)
        self._light = [_steps(numbers, _LIGHT) for _ in range(4)]
        count = next(numbers)
        self._percentiles = [(next(numbers), _steps(numbers, _LIGHT)) for _ in range(15)][:count]
        self._bright = _steps(numbers, _SHARE)
        self._mapped = next(numbers)
        self._knee = [_steps(numbers, _KNEE) for _ in range(2)]
        count = next(numbers)
        self._anchors = [_steps(numbers, _ANCHOR) for _ in range(15)][:count]
        self._saturated = next(numbers)
        self._weight = _steps(numbers, _SATURATION)

    def put_light(self, bits: _Bits) -> None:
        """How bright the scene is."""
        bits.put(17, *self._light)
        bits.put(4, len(self._percentiles))
        for percentage, light in self._percentiles:
            bits.put(7, percentage)
            bits.put(17, light)
        bits.put(10, self._bright)

    def put_curve(self, bits: _Bits) -> None:
        """How it is to be mapped."""
        bits.put(1, self._mapped)
        if self._mapped:
            bits.put(12, *self._knee)
            bits.put(4, len(self._anchors))
            bits.put(10, *self._anchors)
        bits.put(1, self._saturated)
        if self._saturated:
            bits.put(6, self._weight)


def _steps(numbers: Iterator[int], one: int) -> int:
    """The next fraction, in steps of which `one` are one."""
    above, below = next(numbers), next(numbers)
    return round(above * one / below) if below else 0


def _put_peaks(bits: _Bits, numbers: Iterator[int]) -> None:
    """A table of peaks, where there is one."""
    there, rows, columns = (next(numbers) for _ in range(3))
    table = [[_steps(numbers, _PEAK) for _ in range(_TABLE)] for _ in range(_TABLE)]
    bits.put(1, there)
    if there:
        bits.put(5, rows, columns)
        bits.put(4, *(peak for row in table[:rows] for peak in row[:columns]))


def with_message(picture: bytes, message: bytes, encoder: str) -> bytes:
    """A packet's bytes, one picture made by `encoder`, that carry `message` too."""
    return b"".join(_with_sei(picture, message) if encoder == "libx265" else _with_obu(picture, message))


def _with_sei(data: bytes, message: bytes) -> Sequence[bytes]:
    """Before the first slice of an access unit of HEVC with start codes."""
    place = 0
    while (place := data.index(b"\0\0\1", place)) >= 0 and data[place + 3] >> 1 & 63 >= _HEVC_VCL:
        place += 3
    start = place - (data[place - 1] == 0 if place else 0)
    sizes = bytes([255] * (len(message) // 255) + [len(message) % 255])
    unit = bytes([_HEVC_PREFIX_SEI << 1, 1]) + guarded(bytes([_T35]) + sizes + message + b"\x80")
    return data[:start], b"\0\0\0\1" + unit, data[start:]


def _with_obu(data: bytes, message: bytes) -> Sequence[bytes]:
    """Behind the sequence header of a temporal unit of AV1, whose OBUs all have sizes."""
    place = 0
    while (head := data[place]) >> 3 & 15 in _AV1_HEADERS:
        first = place + 1 + (head >> 2 & 1)
        size, width = _read_leb128(data, first)
        place = first + width + size
    content = bytes([_AV1_T35]) + message + b"\x80"
    return data[:place], bytes([_AV1_METADATA << 3 | 2]) + _leb128(len(content)) + content, data[place:]


def _read_leb128(data: bytes, place: int) -> tuple[int, int]:
    """A number and how many bytes it takes."""
    number = 0
    for width in range(8):
        byte = data[place + width]
        number |= (byte & 127) << 7 * width
        if byte < 128:
            return number, width + 1
    raise ValueError("a size in the AV1 stream is damaged")


def _leb128(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
