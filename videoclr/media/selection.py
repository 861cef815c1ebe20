"""Which part of an input is wanted: from seconds, frames and timecodes to exact presentation times.

A number of frames is counted, never computed from a frame rate, so that it is right with a variable rate, with times that a
container rounds and with edit lists. Counting a file costs a pass over its packets up to the place, without decoding where that
is safe (`undecoded_times`). A pipe is counted as it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from videoclr.errors import ConfigError, MediaError
from videoclr.media.headers import rate_of
from videoclr.media.moments import FrameNumber, position
from videoclr.media.timecode import Timecode, frames_between

_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "nut", "mxf"}
"""Containers that begin where their index says; in others a first group may be cut off and partly not decodable."""
_WHOLE = {"h264", "hevc", "av1", "vp9", "prores", "dnxhd", "mjpeg", "ffv1", "mpeg2video", "png", "rawvideo", "v210", "jpeg2000"}
"""Codecs whose packets are one shown picture each."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a part begins or ends: at a picture's number, or at a time; one of the two is None."""

    number: int | None = None
    time: Fraction | None = None
    """Seconds on the clock of `Frame.time`."""
    exact: bool = False
    """True where `time` itself is meant, False where it is the first picture from there on."""

    def reached(self, index: int, time: Fraction) -> bool:
        """Whether the picture number `index` at `time` lies at the edge or behind it."""
        if self.number is not None:
            return index >= self.number
        assert self.time is not None
        return time >= self.time


@dataclass(frozen=True, slots=True)
class Selection:
    """The part that was asked for."""

    start: Edge | None = None
    end: Edge | None = None
    frames: int | None = None
    """Pictures to keep, at most."""

    @property
    def counts(self) -> bool:
        """Whether pictures have to be looked at before the edges are known as times."""
        edges = [edge for edge in (self.start, self.end) if edge is not None]
        return self.frames is not None or any(not edge.exact for edge in edges)


def selection(
    start: str | float | Fraction | None,
    end: str | float | Fraction | None,
    frames: int | None,
    begin: Fraction,
    label: Timecode | None,
    stream: VideoStream,
) -> Selection:
    """What `start`, `end` and `frames` ask of an opened input.

    Args:
        start, end: see `moments.position`; seconds count from `begin`, frames from the first picture, timecodes from the
            input's own where it has one, otherwise the first picture is 00:00:00:00.
        frames: pictures to keep; None for all.
        begin: presentation time at which the input begins, seconds.
        label: timecode of the input's first picture; None where it has none.
        stream: the input's video.

    Raises:
        ConfigError: no such moment, an empty part, or both `end` and `frames`.
    """
    if frames is not None and end is not None:
        raise ConfigError("$.media.frames: give either an end or a number of frames")
    if frames is not None and (not isinstance(frames, int) or frames < 1):
        raise ConfigError(f"$.media.frames: expected 1 or more, got {frames!r}")
    edges = [_edge(value, name, begin, label, stream) for name, value in (("start", start), ("end", end))]
    first, last = edges
    if last is not None and _is_empty(first, last, begin):
        raise ConfigError(f"$.media.end: {end} is not after the start {start or 0}")
    return Selection(first, last, frames)


def _edge(
    value: str | float | Fraction | None, name: str, begin: Fraction, label: Timecode | None, stream: VideoStream
) -> Edge | None:
    wanted = position(value, name)
    if wanted is None:
        return None
    if isinstance(wanted, FrameNumber):
        return Edge(number=wanted.number)
    if isinstance(wanted, Fraction):
        return Edge(time=begin + wanted, exact=True)
    rate = rate_of(stream)
    if not rate:
        raise ConfigError(f"$.media.{name}: a timecode counts frames, and the input does not tell its frame rate; give seconds")
    frames = frames_between(label, wanted, rate, name)
    base = Fraction(stream.time_base or 1)
    first = begin if stream.start_time is None else stream.start_time * base
    # half a frame early: a container may have rounded the picture's time
    return Edge(time=first + (frames - Fraction(1, 2)) / rate)


def _is_empty(first: Edge | None, last: Edge, begin: Fraction) -> bool:
    if last.number is not None:
        return last.number <= (first.number or 0 if first is not None else 0)
    assert last.time is not None
    if first is None:
        return last.exact and last.time <= begin
    return first.time is not None and last.time <= first.time


def timecode_of(container: InputContainer, stream: VideoStream) -> Timecode | None:
    """Of the first picture, from the video stream, a timecode track or the container; None where there is none."""
    places = [stream.metadata, *(one.metadata for one in container.streams if one.type == "data"), container.metadata]
    tags = [text for place in places for name, text in place.items() if name.lower() == "timecode"]  # Matroska writes it large
    labels = map(Timecode.parse, tags)
    return next((label for label in labels if label is not None), None)


def located(path: str, wanted: Selection, times: Iterable[Fraction]) -> tuple[Fraction | None, Fraction | None]:
    """The presentation times at which `wanted` begins and ends (None: from the beginning, to the end).

    Args:
        path: for messages.
        wanted: what was asked for.
        times: of all pictures in order; no more are asked for than needed.

    Raises:
        MediaError: it begins behind the last picture.
    """
    start, last = wanted.start, wanted.end
    begin = start.time if start is not None and start.exact else None
    end = last.time if last is not None and last.exact else None
    first: int | None = None
    count = 0
    for index, time in enumerate(times):
        count = index + 1
        if first is None and (start is None or start.reached(index, time)):
            first = index
            begin = time if start is not None and not start.exact else begin
        if first is None:
            continue
        if wanted.frames is not None and index >= first + wanted.frames:
            return begin, time
        if last is not None and last.reached(index, time):
            return begin, end if last.exact else time
        if wanted.frames is None and (last is None or last.exact):
            return begin, end
    if first is None and count:  # a film that shows nothing says why, as ever
        raise MediaError(path, f"the part to restore begins behind its last picture; it has {count} (0f to {count - 1}f)")
    return begin, end


def undecoded_times(container: InputContainer, stream: VideoStream) -> Iterator[Fraction] | None:
    """Presentation times of all pictures, in order, from packets alone; None where only decoding tells them."""
    context = stream.codec_context
    if context is None or container.format.name not in _INDEXED or context.codec.canonical_name not in _WHOLE:
        return None
    if stream.disposition & Disposition.attached_pic:
        return None
    return _sorted(container, stream)


class Undecodable(Exception):
    """Times that packets alone do not tell after all."""


def _sorted(container: InputContainer, stream: VideoStream) -> Iterator[Fraction]:
    """A picture's time is final once every packet to come is decoded later than it is shown."""
    base = Fraction(stream.time_base or 1)
    waiting: list[int] = []
    first: int | None = None
    packet: Packet[Any]
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard:
            continue
        if packet.pts is None or packet.dts is None or (first is None and not packet.is_keyframe):
            raise Undecodable
        first = packet.pts if first is None else first
        if packet.pts < first or packet.is_corrupt:
            raise Undecodable  # leading pictures of an open group: the decoder leaves them out
        heappush(waiting, packet.pts)
        while waiting and waiting[0] < packet.dts:
            yield heappop(waiting) * base
    while waiting:
        yield heappop(waiting) * base
