"""How Matroska is told of an encoder's delay that MP4 keeps in an edit list.

FFmpeg's Matroska muxer writes `CodecDelay` where the stream's parameters know the delay. MP4 tells it by times before zero alone,
and PyAV has no way to set it; so a stream is made of a Matroska header in memory that says what the source's stream is and how
long it is delayed (RFC 9559). Without it all pictures would have to move for the sake of 21 ms of sound that nobody hears.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.stream import Stream

_CODECS: Mapping[str, str] = {"aac": "A_AAC", "mp3": "A_MPEG/L3", "ac3": "A_AC3", "eac3": "A_EAC3"}
"""FFmpeg's codec -> Matroska's, of those that players trim by `CodecDelay`."""
_NANOSECONDS = 1_000_000_000
_MILLISECOND = 1_000_000
"""Matroska's usual tick, in nanoseconds."""
_AUDIO = 2
_LEVELS = 8
"""Bytes in which sizes and numbers are written here."""


def can_be_delayed(stream: Stream) -> bool:
    """True where `delayed` knows the codec."""
    return stream.type == "audio" and stream.codec_context is not None and stream.codec_context.codec.canonical_name in _CODECS


def delayed(template: Stream, delay: Fraction) -> InputContainer:
    """A container whose only stream is `template`'s twin, known to begin `delay` seconds early. The caller closes it."""
    context: Any = template.codec_context
    audio = _element("E1", _element("B5", struct.pack(">d", context.sample_rate)) + _element("9F", _number(context.channels)))
    track = _element("D7", _number(1)) + _element("73C5", _number(1)) + _element("83", _number(_AUDIO))
    track += _element("86", _CODECS[context.codec.canonical_name].encode())
    if context.extradata:
        track += _element("63A2", bytes(context.extradata))
    track += _element("56AA", _number(round(delay * _NANOSECONDS))) + audio
    head = _element("1A45DFA3", _element("4282", b"matroska") + _element("4287", _number(4)) + _element("4285", _number(2)))
    facts = _element("1549A966", _element("2AD7B1", _number(_MILLISECOND)))
    cluster = _element("1F43B675", _element("E7", _number(0)))
    segment = _element("18538067", facts + _element("1654AE6B", _element("AE", track)) + cluster)
    return av.open(io.BytesIO(head + segment), "r", format="matroska")


def _element(identity: str, content: bytes) -> bytes:
    """An EBML element; `identity` in hexadecimal digits."""
    return bytes.fromhex(identity) + struct.pack(">Q", len(content) | 1 << 7 * _LEVELS) + content


def _number(value: int) -> bytes:
    return value.to_bytes(_LEVELS, "big")
