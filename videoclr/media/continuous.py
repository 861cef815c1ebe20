"""Times that jump where one recording follows another in a file (MPEG-TS and the like), made to go on.

Recordings that are put behind one another with `cat`, and receivers that lost their signal, leave a stream whose clock begins anew
in the middle. FFmpeg gives its times as they are; where they wrap around (33 bits of 90 kHz), it takes an earlier time for one
that is 26.5 hours later. All streams of a program have one clock, so what the pictures need to go on evenly is added to all of
them: sound stays where it was beside the picture.

A single time that is damaged is no jump: what goes astray alone is set where it belongs, and moves nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from av.packet import Packet

_BACK = Fraction(1, 10)
"""Seconds by which decoding times may go back."""
_APART = 10
"""Seconds by which they may go on without being looked at twice, and by which streams lie apart in a file."""
_PAUSE = 3600
"""Seconds of a pause in a recording, at most."""
_LEADING = 32
"""Pictures behind a jump that may lie before the first of them."""
_PATIENCE = 250
"""Pictures that go on as before until another stream that jumped is taken to have done so alone."""
_HELD = 5000
"""Packets that wait, at most."""


class TimesJump(Exception):
    """One recording follows another in the file."""


class PictureAstray(Exception):
    """The time of a picture is damaged."""


class Astray(Exception):
    """Times of another stream are damaged, or overlap where two recordings meet."""


Told = Callable[[BaseException], None]


def continuous(packets: Iterable[Packet[Any]], pictures: int, told: Told) -> Iterator[Packet[Any]]:
    """The packets, with times that go on. Each stream keeps its order; at a jump, streams may change places with each other.

    Args:
        packets: of a file of one clock, the stream of pictures among them.
        pictures: index of that stream.
        told: given a `TimesJump` for every jump of the pictures, a `PictureAstray`, and an `Astray` for what another stream has.
    """
    clock = _Clock(pictures, told)
    for packet in packets:
        yield from clock.take(packet)
    yield from clock.finish()


@dataclass(slots=True)
class _Other:
    """A stream beside the pictures."""

    offset: Fraction
    """Added to its times."""
    coming: Fraction | None = None
    """What will be added once it has made the jump that the pictures made."""
    reached: Fraction | None = None
    """The last decoding time that was given out."""
    floor: Fraction | None = None
    """What it had reached at the last jump, until it gets beyond that."""
    held: list[Packet[Any]] = field(default_factory=list)
    """Behind a jump that the pictures are still to make."""
    since: int = 0
    """Pictures since the first of them."""


class _Clock:
    def __init__(self, pictures: int, told: Told) -> None:
        self._pictures, self._told = pictures, told
        self._offset = Fraction(0)
        """Added to the times of the pictures."""
        self._reached: Fraction | None = None
        """By the pictures: the last decoding time that was given out."""
        self._end: Fraction | None = None
        """Of the pictures, as shown."""
        self._others: dict[int, _Other] = {}
        self._pending: list[Packet[Any]] = []
        """From a picture on that may have jumped, of all streams."""

    def take(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """What may leave, now that this one has come."""
        if self._pending:
            self._pending.append(packet)
            if packet.stream_index == self._pictures or len(self._pending) > _HELD:
                yield from self._decided(len(self._pending) > _HELD)
        elif packet.stream_index != self._pictures:
            yield from self._beside(packet)
        elif self._goes_on(packet):
            yield from self._shown(packet)
        else:
            self._pending.append(packet)

    def finish(self) -> Iterator[Packet[Any]]:
        """Nothing more will come."""
        while self._pending:
            yield from self._decided(last=True)
        for other in self._others.values():
            yield from self._alone(other)

    # -- pictures -----------------------------------------------------------------------------------------------------

    def _goes_on(self, packet: Packet[Any]) -> bool:
        due = _decoded(packet)
        return due is None or self._reached is None or -_BACK <= due + self._offset - self._reached <= _APART

    def _shown(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        if (due := _decoded(packet)) is not None:
            self._reached = due + self._offset
        _move(packet, self._offset)
        if packet.pts is not None:
            after = packet.pts * Fraction(packet.time_base) + _length(packet)
            self._end = after if self._end is None else max(self._end, after)
        yield packet
        for other in self._others.values():
            if other.held:
                yield from self._waited(other)

    def _decided(self, last: bool) -> Iterator[Packet[Any]]:
        """What a picture that does not go on from the one before is, if those behind it tell."""
        shown = [one for one in self._pending if one.stream_index == self._pictures]
        timed = [one for one in shown if _decoded(one) is not None]
        first, assured = timed[0], timed[1:]
        if not assured and not last:
            return
        if not assured or self._belongs(first, assured[0]):
            self._set_evenly(first)
        else:
            ahead = _due(first) + self._offset - _sure(self._reached)
            if 0 < ahead <= _PAUSE:
                self._reached = _due(first) + self._offset
            elif first.pts is None or self._end is None:
                self._jump(_sure(self._reached) + _length(first) - _due(first), _due(first))
            else:
                told = [one.pts * Fraction(one.time_base) for one in shown if one.pts is not None]
                if max(told) <= told[0] and len(shown) < _LEADING and not last:
                    return  # leading pictures may follow, which are shown before it
                self._jump(self._end - min(told), min(told))
        pending, self._pending = self._pending, []
        yield from self._shown(first)
        for packet in pending:
            if packet is not first:
                yield from self.take(packet)

    def _belongs(self, first: Packet[Any], following: Packet[Any]) -> bool:
        """Whether the picture behind `first` lies where the old clock has it, rather than where `first` leads."""
        due = _due(following) + self._offset
        old, new = _sure(self._reached) + 2 * _length(first), _due(first) + self._offset + _length(first)
        return abs(due - old) < abs(due - new)

    def _set_evenly(self, packet: Packet[Any]) -> None:
        """A picture alone has a damaged time."""
        due = _due(packet) + self._offset
        self._told(PictureAstray(f"the time of a picture goes astray at {float(_sure(self._reached)):.3f} s; it is set evenly"))
        _move(packet, _sure(self._reached) + _length(packet) - due)

    def _jump(self, offset: Fraction, stands: Fraction) -> None:
        goes_on = stands + offset
        self._told(
            TimesJump(f"the clock jumps from {float(goes_on):.3f} s to {float(stands):.3f} s; what follows goes on without a gap")
        )
        self._offset, self._reached = offset, None
        for other in self._others.values():
            other.coming = offset

    # -- other streams ------------------------------------------------------------------------------------------------

    def _beside(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        other = self._others.setdefault(packet.stream_index, _Other(self._offset))
        due = _decoded(packet)
        if due is None:
            _move(packet, other.offset)
            yield packet
        elif other.held:
            back = abs(due - _due(other.held[-1]) - _length(other.held[-1])) > _BACK and self._fits(other, packet)
            other.held.append(packet)
            if back:
                held, other.held = other.held, []
                yield from self._astray(other, held)
            elif other.coming is not None or len(other.held) > _HELD:
                yield from self._waited(other)
        elif other.coming is not None:
            yield from self._over(other, packet)
        elif self._fits(other, packet):
            yield from self._given(other, packet)
        else:
            other.held, other.since = [packet], 0

    def _fits(self, other: _Other, packet: Packet[Any]) -> bool:
        """Whether a packet goes on from those before: sound from sound, and what comes now and then beside the pictures."""
        due = _due(packet) + other.offset
        if packet.stream.type == "audio":
            return other.reached is None or -_BACK <= due - other.reached <= _APART + _length(packet) * len(other.held)
        return self._reached is None or abs(due - self._reached) <= _APART

    def _over(self, other: _Other, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """By the clock before the jump or by the one behind it, whichever goes on from what the stream has given."""
        assert other.coming is not None
        place = _sure(self._reached if self._reached is not None else self._end)
        if packet.stream.type == "audio" and other.reached is not None:
            place = other.reached + _length(packet)
        due = _due(packet)
        if abs(due + other.coming - place) < abs(due + other.offset - place):
            other.offset, other.coming, other.floor = other.coming, None, other.reached
        yield from self._given(other, packet)

    def _given(self, other: _Other, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        due = _due(packet) + other.offset
        if other.floor is not None and due <= other.floor:
            self._told(Astray(f"stream {packet.stream_index}: what overlaps where two recordings meet is left out"))
            return
        other.reached, other.floor = due, None
        _move(packet, other.offset)
        yield packet

    def _waited(self, other: _Other) -> Iterator[Packet[Any]]:
        """What was held, where it is known by now what it is."""
        held, other.since = other.held, other.since + 1
        first = _due(held[0]) + other.offset
        if other.coming is not None:
            other.held = []
            for packet in held:
                yield from self._beside(packet)
        elif self._reached is not None and first <= self._reached + _APART and (other.reached is None or first >= other.reached):
            other.held = []  # a pause: the pictures have got there as well
            for packet in held:
                yield from self._given(other, packet)
        elif other.since > _PATIENCE or len(held) > _HELD:
            yield from self._alone(other)

    def _astray(self, other: _Other, held: list[Packet[Any]]) -> Iterator[Packet[Any]]:
        """All but the last have damaged times."""
        *lost, packet = held
        self._told(Astray(f"stream {packet.stream_index}: times go astray in places; such packets are set evenly, or left out"))
        for one in lost:
            place = _sure(other.reached) + _length(one) if one.stream.type == "audio" else _sure(self._reached)
            if place < _due(packet) + other.offset and _length(one):
                _move(one, place - _due(one))
                other.reached = place
                yield one
        yield from self._given(other, packet)

    def _alone(self, other: _Other) -> Iterator[Packet[Any]]:
        """No pictures make the jump: sound that waits goes on by itself, and anything else stands where it says."""
        held, other.held = other.held, []
        if held and held[0].stream.type == "audio" and other.reached is not None:
            number = held[0].stream_index
            self._told(Astray(f"stream {number}: its times jump and those of the pictures do not; it goes on without a gap"))
            other.offset = other.reached + _length(held[0]) - _due(held[0])
        for packet in held:
            yield from self._given(other, packet)


def _decoded(packet: Packet[Any]) -> Fraction | None:
    """When a packet is to be decoded, as it says, seconds. Presentation times of pictures go to and fro, and tell nothing here."""
    ticks = packet.dts if packet.dts is not None or packet.stream.type == "video" else packet.pts
    return None if ticks is None else ticks * Fraction(packet.time_base)


def _due(packet: Packet[Any]) -> Fraction:
    return _sure(_decoded(packet))


def _sure(value: Fraction | None) -> Fraction:
    assert value is not None
    return value


def _length(packet: Packet[Any]) -> Fraction:
    """Seconds that it lasts."""
    rate = getattr(packet.stream, "average_rate", None)
    if not packet.duration and rate:
        return 1 / Fraction(rate)
    return (packet.duration or 0) * Fraction(packet.time_base)


def _move(packet: Packet[Any], seconds: Fraction) -> None:
    if ticks := round(seconds / Fraction(packet.time_base)):
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
