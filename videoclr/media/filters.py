"""FFmpeg's filters, for one picture or for many: the only place that builds their graphs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from av import BlockingIOError as NotYet
from av import EOFError as NoMore
from av.filter import Graph
from av.video.frame import VideoFrame

Steps = Sequence[tuple[str, str | None]]
"""Filters in order, each with its options."""

_LIGHT = frozenset({"copy", "crop", "pad", "sidedata"})
"""Filters that compute nothing. Starting FFmpeg's threads for them takes longer than all that they do."""


def through(frame: VideoFrame, *steps: tuple[str, str | None]) -> VideoFrame:
    """`frame` after the filters; after none, another reference to the same buffers."""
    (done,) = Line(frame, steps).push(frame)
    return done


def top_down(frame: VideoFrame) -> VideoFrame:
    """`frame` with its first line first in memory, which PyAV takes for granted and decoders of PFM and of raw AVI do not."""
    return through(frame, ("copy", None)) if any(plane.line_size < 0 for plane in frame.planes) else frame


class Line:
    """A chain of filters for pictures like the first."""

    def __init__(self, frame: VideoFrame, steps: Steps) -> None:
        self._kind = _kind(frame)
        graph = Graph()
        if all(name in _LIGHT for name, _ in steps):
            graph.threads = 1
        base = frame.time_base or Fraction(1, 90000)
        self._source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=base)
        last: Any = self._source
        for name, options in steps:
            step = graph.add(name, options)
            last.link_to(step)
            last = step
        self._sink = graph.add("buffersink")
        last.link_to(self._sink)
        graph.configure()
        self._graph = graph

    def fits(self, frame: VideoFrame) -> bool:
        """False where the pictures changed their size or format."""
        return _kind(frame) == self._kind

    def push(self, frame: VideoFrame | None) -> list[VideoFrame]:
        """What comes out after `frame`; None ends the line."""
        if frame is not None and frame.pts is None:
            frame.pts = frame.dts  # filters forget the second
        self._source.push(frame)
        out: list[VideoFrame] = []
        while True:
            try:
                done = self._sink.pull()
            except (NotYet, NoMore):
                return out
            assert isinstance(done, VideoFrame)
            out.append(done)


def _kind(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
