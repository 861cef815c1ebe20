"""Text subtitles in another wrapping: SubRip, as Matroska stores it, and mov_text, as MP4 and QuickTime do.

Words, line breaks, bold, italic, underline and times stay; SubRip knows no more, and of a mov_text style colour and size
are lost. A track of MP4 shows one text at a time: what SubRip shows together becomes one text of several lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        self._joins = self.stream.codec_context.name == "mov_text"
        self._shown: list[tuple[int, bytes]] = []
        """End and text of what is on the screen, from `_since` on, and not written yet."""
        self._since = 0
        self._base: Fraction | None = None
        self.guessed = False
        """A text that is not UTF-8, as Matroska asks for, was taken for one of Windows-1252."""

    def packets(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """What is to be written once `packet` (its times already those of the output) comes."""
        if not self._joins or packet.pts is None:
            yield from self._rewritten(packet)
            return
        yield from self._until(packet.pts, open_end=True)
        if not packet.duration:
            yield from self._rewritten(packet)
            return
        self._since, self._base = packet.pts, packet.time_base
        self._shown.append((packet.pts + packet.duration, self._utf8(bytes(packet).rstrip(b"\r\n\0"))))

    def ended(self, time: Fraction | None) -> Iterator[Packet[Any]]:
        """What has left the screen at `time` (output seconds); all that is left for None."""
        if self._base is not None and self._shown:
            last = max(end for end, _ in self._shown) if time is None else int(time / self._base)
            yield from self._until(last, open_end=False)

    def _utf8(self, text: bytes) -> bytes:
        """`text` as the decoder takes it: old files of texts were often put into Matroska as they were."""
        try:
            text.decode()
        except UnicodeDecodeError:
            self.guessed = True
            return text.decode("cp1252", "replace").encode()
        return text

    def _until(self, time: int, *, open_end: bool) -> Iterator[Packet[Any]]:
        """What is on the screen before `time`, text for text; with `open_end` also of what stays there."""
        while self._base is not None and self._shown and self._since < time:
            end = min(end for end, _ in self._shown)
            if end > time and not open_end:
                return
            end = min(end, time)
            made: Packet[Any] = Packet(b"\n".join(text for _, text in self._shown))
            made.pts = made.dts = self._since
            made.duration, made.time_base = end - self._since, self._base
            self._since, self._shown = end, [one for one in self._shown if one[0] > end]
            yield from self._rewritten(made)

    def _rewritten(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """`packet` in the other wrapping; nothing where it shows nothing, as between two captions."""
        shown = self._decoder.decode2(packet)
        if shown is None or not list(shown):
            return
        out: Packet[Any] = self._encoder.encode_subtitle(shown)
        out.time_base = packet.time_base
        out.pts, out.dts, out.duration = packet.pts, packet.dts, packet.duration
        out.stream = self.stream
        yield out
