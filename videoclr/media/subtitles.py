"""Text subtitles in another wrapping: SubRip, as Matroska stores it, and mov_text, as MP4 and QuickTime do.

Words, line breaks, bold, italic, underline and times stay; SubRip knows no more, and of a mov_text style colour and size
are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from av.codec.context import CodecContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

_WRAPPINGS: Mapping[str, str] = {"mov_text": "subrip", "subrip": "mov_text"}
"""Each one and its counterpart."""
_FINE = Fraction(1, 1_000_000)
"""Seconds a tick of mov_text.

FFmpeg's muxer ends a text once a packet of any stream has a larger number for its time, whatever the ticks of that one are. With
ticks as coarse as Matroska's a text that overlaps the one before would come behind it, and push all others on."""


def counterpart(stream: Stream) -> str | None:
    """The other codec for the same text, or None where there is none."""
    if stream.type != "subtitle" or stream.codec_context is None:
        return None
    return _WRAPPINGS.get(stream.codec_context.codec.canonical_name)


class Rewrapping:
    """Turns the packets of one text stream into those of another.

    Args:
        container: where to.
        template: the stream to convert.

    Raises:
        ValueError: the container does not hold the counterpart either.
    """

    def __init__(self, container: OutputContainer, template: Stream) -> None:
        source: Any = template.codec_context
        # PyAV's stubs know neither the header of subtitles nor their coding.
        self._decoder: Any = CodecContext.create(source.codec.canonical_name, "r")
        self._decoder.extradata = source.extradata
        self._decoder.open(strict=False)
        self.stream: Stream = container.add_stream(_WRAPPINGS[source.codec.canonical_name])
        encoder: Any = self.stream.codec_context
        encoder.subtitle_header = self._decoder.subtitle_header
        encoder.time_base = template.time_base
        encoder.open(strict=False)
        self.stream.time_base = _FINE if self.stream.codec_context.name == "mov_text" else template.time_base
        self._encoder = encoder

    def packet(self, packet: Packet[Any]) -> Packet[Any] | None:
        """`packet` (its times already those of the output) rewritten; None where it shows nothing, as between two captions."""
        shown = self._decoder.decode2(packet)
        if shown is None or not list(shown):
            return None
        out: Packet[Any] = self._encoder.encode_subtitle(shown)
        out.time_base = packet.time_base
        out.pts, out.dts, out.duration = packet.pts, packet.dts, packet.duration
        out.stream = self.stream
        return out
