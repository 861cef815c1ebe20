"""Uncompressed sound for containers that put its samples end to end, whatever their times: silence keeps it in place.

MXF and AVI begin with it at zero. MP4 and QuickTime say by an edit list when it begins; what follows has no times either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream

from videoclr.media.target import MOV

END_TO_END = ("mxf", "avi")
"""Muxers that keep no times of sound."""
SAMPLED = frozenset(END_TO_END) | MOV
"""Muxers that keep no times of uncompressed sound but that of its first sample, at most."""
_SAMPLES = re.compile(r"pcm_(?:[sf](?P<bits>8|16|24|32|64)(?:le|be)?|u8|alaw|mulaw)")
_SILENT = {"pcm_u8": 0x80, "pcm_alaw": 0xD5, "pcm_mulaw": 0xFF}
"""Codec -> the byte that silence consists of, where it is not 0."""
_AT_ONCE = Fraction(1, 10)
"""Seconds of silence in a packet."""
_LATE = Fraction(1, 50)
"""Seconds by which sound that goes on may lag behind its times, or be ahead of them: clocks drift, and silence would be heard."""
_TICKS = 2
"""By how many ticks of its container sound may begin late."""
_BEHIND = 1
"""Seconds by which silence that is known to come may be due until it is written: a muxer waits for it, and keeps the pictures."""
_LAG = 10
"""The same where another stream was read as far, and nothing of this one came: files are not interleaved to the second."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """Where a container says that a stream begins and ends, seconds on the source's clock."""

    begin: Fraction | None
    end: Fraction | None


class Samples:
    """The samples of one stream, as they are written.

    Args:
        source: of the file that is read.
        target: of the file that is written.
        anywhere: the container can say when the first sample is due, also before zero; otherwise that is at zero.
        cut: what lies before zero is left out all the same.
    """

    def __init__(self, source: AudioStream, target: Stream, *, anywhere: bool = False, cut: bool = False) -> None:
        context = source.codec_context
        name = context.codec.canonical_name
        self.source, self._target = source, target
        self._rate = context.sample_rate
        self._size = _size(source)
        self._silent = bytes([_SILENT.get(name, 0)])
        self._tolerance = _TICKS * Fraction(source.time_base or 0)
        self._claim = _claim(source)
        self._anywhere, self._cut = anywhere, cut
        self._begin = 0
        """When the first sample is due, in samples."""
        self._written = 0
        self._heard = self._rejoins = False
        self._quiet = False
        """What was written last is silence."""
        self.lost = Fraction(0)
        """Seconds that came where silence was written already."""

    @property
    def reached(self) -> Fraction:
        """Seconds of the output up to which there are samples."""
        return Fraction(self._begin + self._written, self._rate)

    def rejoin(self) -> None:
        """What comes next does not go on where the packet before ended: it is put exactly where it is due."""
        self._rejoins = True

    def placed(self, packet: Packet[Any], time: Fraction) -> Iterator[Packet[Any]]:
        """`packet`, due at `time` (seconds of the output), behind the silence before it and less what is there already."""
        if self._anywhere and not self._heard:
            self._begin = round((max(time, Fraction(0)) if self._cut else time) * self._rate)
        tolerance = _LATE if self._heard and not self._quiet and not self._rejoins else self._tolerance
        if time - self.reached > tolerance:
            yield from self.silence(time)
        data = bytes(packet)
        early = self.reached - time
        if early > tolerance:
            cut = min(round(early * self._rate), len(data) // self._size)
            data = data[cut * self._size :]
            self.lost += Fraction(cut, self._rate) if self._quiet else 0
        if data:
            self._heard, self._quiet, self._rejoins = True, False, False
            yield self._packet(data)

    def silence(self, until: Fraction) -> Iterator[Packet[Any]]:
        """As much as is missing until then (seconds of the output)."""
        missing = round(until * self._rate) - self._begin - self._written
        while missing > 0:
            count = min(missing, max(1, int(_AT_ONCE * self._rate)))
            self._quiet = True
            yield self._packet(self._silent * (count * self._size))
            missing -= count

    def known_silence(self, until: Fraction, offset: Fraction) -> Iterator[Packet[Any]]:
        """What is missing until then where the container said that nothing comes; `offset` is added to the source's times."""
        begin, end = self._claim.begin, self._claim.end
        if end is None or self.reached < end + offset - _LATE:
            if self._heard or begin is None:
                return
            until = min(until, begin + offset)
        if until - self.reached > _BEHIND:
            yield from self.silence(until)

    def pause(self, until: Fraction, own: bool) -> Iterator[Packet[Any]]:
        """What is missing until then where the next packet of the file comes later; `own`: it is of this stream."""
        due = until - (_BEHIND if own else _LAG)
        if self._heard and due > self.reached:
            yield from self.silence(due)

    def _packet(self, data: bytes) -> Packet[Any]:
        packet: Packet[Any] = Packet(data)
        packet.stream, packet.time_base = self._target, Fraction(1, self._rate)
        packet.pts = packet.dts = self._begin + self._written
        packet.duration = len(data) // self._size
        packet.is_keyframe = True
        self._written += packet.duration
        return packet


def is_samples(stream: Stream) -> bool:
    """Whether a stream is uncompressed sound of which silence is known."""
    if not isinstance(stream, AudioStream) or stream.codec_context is None or not stream.codec_context.sample_rate:
        return False
    return _SAMPLES.fullmatch(stream.codec_context.codec.canonical_name) is not None


def cut_off(packet: Packet[Any], until: Fraction) -> Packet[Any] | None:
    """What of uncompressed sound is due from `until` on, seconds of its clock; None where nothing is."""
    base, stream = Fraction(packet.time_base), packet.stream
    assert packet.pts is not None and isinstance(stream, AudioStream)
    samples = math.ceil((until - packet.pts * base) * stream.codec_context.sample_rate)
    if samples <= 0:
        return packet
    data = bytes(packet)[samples * _size(stream) :]
    if not data:
        return None
    rest: Packet[Any] = Packet(data)
    ticks = round(samples / (stream.codec_context.sample_rate * base))
    rest.stream, rest.time_base = stream, base
    rest.pts = rest.dts = packet.pts + ticks
    rest.duration, rest.is_keyframe = max(0, (packet.duration or 0) - ticks), packet.is_keyframe
    return rest


def _size(stream: AudioStream) -> int:
    """Bytes of a sample of all channels."""
    found = _SAMPLES.fullmatch(stream.codec_context.codec.canonical_name)
    assert found is not None
    return stream.codec_context.channels * int(found["bits"] or 8) // 8


def _claim(stream: AudioStream) -> _Claim:
    base = Fraction(stream.time_base or 0)
    if stream.start_time is None:
        return _Claim(None, None)
    begin = stream.start_time * base
    claim = _Claim(begin, None)
    return replace(claim, end=begin + stream.duration * base) if stream.duration else claim
