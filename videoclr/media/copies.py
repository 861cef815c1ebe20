"""Streams that are copied packet for packet: audio, subtitles, attachments.

A file is opened a second time for them, so that decoding ahead and copying never wait for each other. A pipe can be
read only once: there the reader puts the packets aside as it meets them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from typing import Any, Protocol

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from videoclr.media.beginning import Beginning
from videoclr.media.continuous import Astray, PictureAstray, TimesJump
from videoclr.media.faults import reason
from videoclr.media.opening import Opening
from videoclr.media.source import ANYTHING, clock_may_jump, demuxed, open_input

MICROSECONDS = 1_000_000
_READ = 15
"""Seconds for which a subtitle is shown at most."""
_BEGINNING = 1000
"""Packets in which every stream that begins with the file has shown itself."""


class Copies(Protocol):
    """Where a writer gets what it does not encode."""

    container: InputContainer
    warnings: list[str]

    def select(self, streams: Sequence[Stream]) -> None:
        """Name the streams to copy, once, before the first packet is asked for."""
        ...

    def cover(self, stream: Stream) -> Packet[Stream] | None:
        """The picture in a stream of one (a cover); asked for before `select`. None where there is none."""
        ...

    def beginnings(self, streams: Sequence[Stream]) -> dict[int, Beginning]:
        """Stream index -> where it begins, as far as the beginning of the source tells.

        Encoder delay, which `start_time` hides, is included. Asked for before `select`.
        """
        ...

    def next_packet(self) -> Packet[Stream] | None:
        """The next packet of the selected streams in file order; None where none is there (any more, or yet)."""
        ...

    def close(self) -> None:
        """Let go of the source."""
        ...


class FileCopies:
    """Packets from a second opening of the file.

    Args:
        path: as the reader's.
        start: seek to this presentation time (seconds) first, or None.
        opening: as the reader's.
    """

    def __init__(self, path: str, start: Fraction | None, opening: Opening = ANYTHING) -> None:
        self.container = open_input(path, None, opening)
        self._path, self._opening = path, opening
        self.warnings: list[str] = []
        self._start = start
        self._packets: Iterator[Packet[Stream]] = iter(())

    def select(self, streams: Sequence[Stream]) -> None:
        """Begin to read `streams` at about `start`."""
        if not streams:
            return
        if self._start is not None and self._start > 0 and not clock_may_jump(self.container):
            # A second early: the index of a file knows video, and sound may lie before the picture it belongs to. What a subtitle
            # shows may have begun long before.
            early = _READ if any(stream.type == "subtitle" for stream in streams) else 1
            self.container.seek(max(int((self._start - early) * MICROSECONDS), 0))
        self._packets = demuxed(self.container, streams, self._note)

    def cover(self, stream: Stream) -> Packet[Stream] | None:
        """Out of an opening of its own: it comes before all other packets, and is not to be read twice."""
        with open_input(self._path, None, self._opening) as container:
            return next(demuxed(container, [container.streams[stream.index]], self._note), None)

    def beginnings(self, streams: Sequence[Stream]) -> dict[int, Beginning]:
        """Out of an opening of its own."""
        if not streams:
            return {}
        with open_input(self._path, None, self._opening) as container:
            same = [container.streams[stream.index] for stream in streams]
            return _beginnings(islice(demuxed(container, same, self._note), _BEGINNING), len(same))

    def next_packet(self) -> Packet[Stream] | None:
        """The next one, or None at the end."""
        return next(self._packets, None)

    def _note(self, error: BaseException) -> None:
        if isinstance(error, TimesJump | PictureAstray):
            return  # the reader tells it
        text = str(error) if isinstance(error, Astray) else f"sound or subtitles are damaged: {reason(error)}"
        if text not in self.warnings:
            self.warnings.append(text)

    def close(self) -> None:
        """Close the second opening."""
        self._packets = iter(())
        self.container.close()


class PipeCopies:
    """Packets that the reader of a pipe put aside."""

    def __init__(self, container: InputContainer, shelf: deque[Packet[Any]]) -> None:
        self.container = container
        self.warnings: list[str] = []
        self._shelf = shelf
        self._wanted: set[int] = set()

    def select(self, streams: Sequence[Stream]) -> None:
        """Choose among what lies there."""
        self._wanted = {stream.index for stream in streams}

    def cover(self, stream: Stream) -> Packet[Stream] | None:
        """It has come already, before the first picture was decoded."""
        return next((packet for packet in self._shelf if packet.stream_index == stream.index), None)

    def beginnings(self, streams: Sequence[Stream]) -> dict[int, Beginning]:
        """Of what has come already."""
        wanted = {stream.index for stream in streams}
        return _beginnings((packet for packet in self._shelf if packet.stream_index in wanted), len(wanted))

    def next_packet(self) -> Packet[Stream] | None:
        """The next one that has come already; never waits."""
        while self._shelf:
            packet = self._shelf.popleft()
            if packet.stream_index in self._wanted:
                return packet
        return None

    def close(self) -> None:
        """The reader owns the pipe."""


def _beginnings(packets: Iterable[Packet[Any]], count: int) -> dict[int, Beginning]:
    found: dict[int, Beginning] = {}
    for packet in packets:
        if packet.pts is not None and packet.stream_index not in found:
            found[packet.stream_index] = Beginning.of(packet)
        if len(found) == count:
            break
    return found


def chapters_between(chapters: Sequence[Mapping[str, Any]], start: Fraction, end: Fraction | None) -> list[Any]:
    """Chapters cut to `[start, end)` and moved so that `start` is 0; those outside are left out."""
    kept = []
    for chapter in chapters:
        base = Fraction(chapter["time_base"])
        first = max(chapter["start"] * base - start, Fraction(0))
        last = (chapter["end"] * base if end is None else min(chapter["end"] * base, end)) - start
        if last > first:
            kept.append({**chapter, "start": round(first / base), "end": round(last / base)})
    return kept
