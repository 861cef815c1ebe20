"""Times that jump where one recording follows another in a file (MPEG-TS and the like), made to go on.

Recordings that are put behind one another with `cat`, and receivers that lost their signal, leave a stream whose clock begins anew
in the middle. FFmpeg gives its times as they are; where they wrap around (33 bits of 90 kHz), it takes an earlier time for one
that is 26.5 hours later. All streams of a program have one clock, so what the pictures need to go on evenly is added to all of
them: sound stays where it was beside the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

from av.packet import Packet

_BACK = Fraction(1, 10)
"""Seconds by which decoding times go back at a jump: less is a fault of one packet."""
_AHEAD = 3600
"""Seconds by which they go on at a jump: less may be a pause in the recording."""
_APART = 10
"""Seconds by which another stream lies behind the pictures after a jump back: less may be how they are interleaved."""
_PATIENCE = 250
"""Pictures that go on as before until another stream that jumped is taken to have done so alone."""
_HELD = 5000
"""Packets that wait for pictures behind a jump, at most."""


class TimesJump(Exception):
    """One recording follows another in the file."""


class Overlap(Exception):
    """Sound or subtitles of two recordings overlap where they meet."""


Told = Callable[[BaseException], None]


def continuous(packets: Iterable[Packet[Any]], pictures: int, told: Told) -> Iterator[Packet[Any]]:
    """The packets, with times that go on. Packets of other streams may leave a little later than pictures that came after them.

    Args:
        packets: of a file of one clock, the stream of pictures among them.
        pictures: index of that stream.
        told: given a `TimesJump` for every jump of the pictures, and an `Overlap` for what would come twice there.
    """
    clock = _Clock(pictures, told)
    for packet in packets:
        yield from clock.take(packet)
    yield from clock.alone()


class _Clock:
    def __init__(self, pictures: int, told: Told) -> None:
        self._pictures, self._told = pictures, told
        self._offset = Fraction(0)
        """Of all streams."""
        self._own: dict[int, Fraction] = {}
        """Of streams that jumped alone, beside it."""
        self._reached: dict[int, Fraction] = {}
        """By each stream: the last decoding time that was given out."""
        self._end: Fraction | None = None
        """Of the pictures."""
        self._held: list[Packet[Any]] = []
        """Of other streams, behind a jump that the pictures are still to make."""
        self._waiting: set[int] = set()
        """Those streams."""
        self._since = 0
        """Pictures since the first of them."""
        self._before: dict[int, Fraction] = {}
        """What other streams had reached at the last jump, until they get beyond it."""

    def take(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """What may leave, now that this one has come."""
        if packet.stream_index == self._pictures:
            if self._end is not None and packet.pts is not None and self._jumps(packet):
                shown = packet.pts * Fraction(packet.time_base) + self._offset
                stands = f"from {float(self._end):.3f} s to {float(shown - self._offset):.3f} s"
                self._told(TimesJump(f"the clock jumps {stands}; what follows goes on without a gap"))
                self._offset += self._end - shown
                self._own.clear()
                self._before, self._reached = self._reached, {}
                yield from self._released()
            yield from self._moved(packet)
            self._since += 1
            if self._held and self._since > _PATIENCE:
                yield from self.alone()
        elif packet.stream_index in self._waiting or self._jumps(packet):
            if not self._held:
                self._since = 0
            self._held.append(packet)
            self._waiting.add(packet.stream_index)
            if len(self._held) > _HELD:
                yield from self.alone()
        else:
            yield from self._moved(packet)

    def alone(self) -> Iterator[Packet[Any]]:
        """No pictures make the jump: sound that waits goes on by itself, and anything else stands where it says."""
        seen = set()
        for packet in self._held:
            if packet.stream_index not in seen and packet.stream.type == "audio" and (now := self._due(packet)) is not None:
                seen.add(packet.stream_index)
                goes_on = self._reached[packet.stream_index] + _length(packet)
                self._own[packet.stream_index] = self._own.get(packet.stream_index, Fraction(0)) + goes_on - now
        yield from self._released()

    def _released(self) -> Iterator[Packet[Any]]:
        held, self._held = self._held, []
        self._waiting.clear()
        for packet in held:
            yield from self._moved(packet)

    def _due(self, packet: Packet[Any]) -> Fraction | None:
        """When it is to be decoded, by the clock so far. Presentation times of pictures go to and fro, and tell nothing here."""
        ticks = packet.dts if packet.dts is not None or packet.stream_index == self._pictures else packet.pts
        return None if ticks is None else ticks * Fraction(packet.time_base) + self._moves(packet)

    def _moves(self, packet: Packet[Any]) -> Fraction:
        return self._offset + self._own.get(packet.stream_index, Fraction(0))

    def _jumps(self, packet: Packet[Any]) -> bool:
        before, now = self._reached.get(packet.stream_index), self._due(packet)
        if before is None or now is None:
            return False
        others = self._reached.get(self._pictures, now)  # of a stream with few packets its own last one tells little
        return now < before - _BACK or not others - _APART <= now <= others + _AHEAD

    def _moved(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        if (now := self._due(packet)) is not None:
            if packet.stream_index != self._pictures and now <= self._before.get(packet.stream_index, now - 1):
                self._told(Overlap(f"stream {packet.stream_index}: what overlaps where two recordings meet is left out"))
                return
            self._before.pop(packet.stream_index, None)
            self._reached[packet.stream_index] = now
        if moves := self._moves(packet):
            ticks = round(moves / Fraction(packet.time_base))
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        if packet.stream_index == self._pictures and packet.pts is not None:
            after = packet.pts * Fraction(packet.time_base) + _length(packet)
            self._end = after if self._end is None else max(self._end, after)
        yield packet


def _length(packet: Packet[Any]) -> Fraction:
    """Seconds that it lasts."""
    rate = getattr(packet.stream, "average_rate", None)
    if not packet.duration and rate:
        return 1 / Fraction(rate)
    return (packet.duration or 0) * Fraction(packet.time_base)
