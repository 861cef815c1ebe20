"""The source's packets, group by group: a picture that can be entered, and all that are stored behind it up to the next one.

A group is shown in one piece: pictures that are stored after its first one and shown before it (an open group's leading
pictures) come after everything of the group before. They refer to that group; nothing else of an open group does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from av.codec.context import ThreadType
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from videoclr.media.faults import AV_ERRORS, explained
from videoclr.media.joint import Joint
from videoclr.media.reader import Reader
from videoclr.media.source import clock_may_jump, demuxed, open_input


@dataclass(slots=True)
class Group:
    """Packets of the source that belong together."""

    packets: list[Packet[Any]] = field(default_factory=list)
    """In the order in which they are stored; empty where the group is not `whole`."""
    times: list[Fraction] = field(default_factory=list)
    """When its pictures are shown, in order, seconds on the clock of `Frame.time`."""
    last: Fraction | None = None
    """The last of its times, also of a group that is not whole; None where no packet has one."""
    anew: bool = False
    """What is written before it is none of the source's."""
    closed: bool = True
    """Nothing in it refers to the group before."""
    whole: bool = True
    """It can be copied, where no picture of it changed: all of its packets are shown, and it is not too large to be kept."""
    leading: int = 0
    """Pictures shown before its first packet's that can be left out, which leaves a closed group; 0: there is no such way."""

    @property
    def key(self) -> Fraction:
        """When the picture is shown that is stored first."""
        return _time(self.packets[0])

    def without_leading(self, joint: Joint) -> Group:
        """The closed group that remains of an open one."""
        kept = [packet for packet in self.packets if not joint.is_leading(packet)]
        return Group(kept, sorted(map(_time, kept)), self.last)


class Groups:
    """Reads a source's groups in a second opening of the file, and decodes one again where that is needed.

    Args:
        like: the reader of the source.
        joint: knows its codec.
        limit: bytes of packets in a group; larger ones are not kept, and so not whole.
    """

    def __init__(self, like: Reader, joint: Joint, limit: int) -> None:
        self._like, self._joint, self._limit = like, joint, limit
        with explained(like.path, "cannot be read"):
            self._container = open_input(like.path, like.rate, like.opening)
        stream = self._container.streams[like.stream_index]
        assert isinstance(stream, VideoStream)
        self._stream = stream
        stream.thread_type = ThreadType.AUTO
        if like.start is not None and like.start > 0 and not clock_may_jump(self._container):
            with explained(like.path, "cannot be read"):
                self._container.seek(int(like.first_time / Fraction(stream.time_base or 1)), stream=stream)
        self._packets = demuxed(self._container, [stream], lambda _: None)  # damage is the reader's to tell
        self._next: Packet[Any] | None = None

    def next(self) -> Group | None:
        """The next group; None behind the last."""
        first = self._next or next(self._packets, None)
        self._next = None
        if first is None:
            return None
        entry = self._joint.entry(first)
        group = Group(closed=entry == "closed", whole=entry != "none")
        size = self._add(group, first, 0)
        for packet in self._packets:
            if self._joint.entry(packet) != "none":
                self._next = packet
                break
            size = self._add(group, packet, size)
        self._settle(group)
        return group

    def decoded(self, groups: Sequence[Group]) -> Iterator[tuple[Fraction, VideoFrame]]:
        """The pictures of the last of `groups`, decoded again; the ones before are what it refers to."""
        decoder = self._stream.codec_context
        times, base = set(groups[-1].times), Fraction(self._stream.time_base or 1)
        try:
            for packet in (*(packet for group in groups for packet in group.packets), None):
                try:
                    frames = decoder.decode(packet)
                except AV_ERRORS:
                    continue  # leading pictures of the first of them, whose references nobody kept
                for frame in frames:
                    # The last ones, of which no packet is told, have no tick of their own.
                    if frame.pts is not None and (time := frame.pts * Fraction(frame.time_base or base)) in times:
                        yield time, frame
        finally:
            decoder.flush_buffers()

    def close(self) -> None:
        """Let go of the file."""
        self._packets = iter(())
        self._container.close()

    def _add(self, group: Group, packet: Packet[Any], size: int) -> int:
        """Put `packet` into `group`, which has `size` bytes; the new size."""
        size += packet.size
        if packet.pts is None:
            group.whole = False
        else:
            time = _time(packet)
            group.last = time if group.last is None else max(group.last, time)
        if group.whole:
            group.whole = size <= self._limit and not packet.is_discard and not packet.is_corrupt and self._joint.fits(packet)
        if group.whole:
            group.packets.append(packet)
        else:
            group.packets.clear()
        return size

    def _settle(self, group: Group) -> None:
        """What is known when all packets of `group` have come."""
        if not group.whole:
            return
        group.times = sorted(map(_time, group.packets))
        group.whole = len(set(group.times)) == len(group.times)
        if group.closed:
            return
        leading = [packet for packet in group.packets if self._joint.is_leading(packet)]
        before = sum(time < group.key for time in group.times)
        group.leading = before if len(leading) == before else 0
        # HEVC alone tells which pictures refer across its open entries. Where there are none, the group is closed.
        group.closed = before == 0 and self._joint.frees


def _time(packet: Packet[Any]) -> Fraction:
    assert packet.pts is not None
    return packet.pts * Fraction(packet.time_base)
