"""Interlaced pictures: what they are, how they become whole, and how a network looks at them where they stay.

A woven picture holds two moments, on its even and on its odd lines. What a film does with it is `media.deinterlace`:

* `auto`: flagged pictures are deinterlaced by bwdif (Weston's and yadif's filters joined), one picture for one, at their own
  times, and the result is flagged progressive. Flags lie: progressive and telecined films are flagged interlaced
  throughout. So FFmpeg's idet looks at the first pictures, and where it takes some for progressive, every picture is looked
  at for combs, and whole ones pass without a change. What is not flagged is never touched on a guess; where it looks
  combed, a warning says so.
* `bwdif`: every picture is deinterlaced.
* `off`: pictures stay woven, in the file as well. A network would take combs for texture, and its answer would put one
  moment on the lines of both. So it sees the mean of the two fields (lines weighted 1 2 1, which no comb passes), and only
  the difference that it makes to this mean is added, to both fields alike: each keeps its own moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, islice, tee
from typing import Any, Literal

import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoclr.media.filters import Line, Steps
from videoclr.media.layout import layout_of

Mode = Literal["auto", "bwdif", "off"]
MODES: tuple[Mode, ...] = ("auto", "bwdif", "off")
_LOOK = 12
"""Pictures that idet sees before it is asked."""
_COMBED = 0.8
"""Share of unflagged pictures that must look combed, all with the same field first, before anybody is told."""
_DOUBT = 0.2
"""Share of flagged pictures that must look progressive before each is looked at for itself."""
_COMB = 10
"""Code values of 8 bits by which a line of a comb differs from its neighbours."""
_BLOCK, _FULL = 16, 0.25
"""Side of a block, pixels, and the share of it that combs fill in a combed picture."""
_TALLEST = 1088
"""Lines: nothing taller was ever interlaced."""
_BOTTOM_FIRST = (3, 5)
"""AV_FIELD_BB, AV_FIELD_BT."""
_VERDICT = "lavfi.idet.multiple.current_frame"


def first_field(frame: VideoFrame, context: VideoCodecContext) -> str:
    """`bottom` or `top`: the field that a woven picture shows first.

    PyAV does not tell the frame's flag, and a container may say otherwise, or nothing. FFmpeg's separatefields goes by the
    flag: it gives the field first that is shown first.
    """
    whole = _first_plane(frame)
    first = next(iter(Line(frame, [("separatefields", "")]).push(frame)), None)
    if first is not None and not np.array_equal(whole[0::2], whole[1::2]):
        return "top" if np.array_equal(_first_plane(first), whole[0::2]) else "bottom"
    return "bottom" if context.field_order in _BOTTOM_FIRST else "top"


def _first_plane(frame: VideoFrame) -> NDArray[Any]:
    """Its luma, or whatever bytes stand in the first plane of a format that is not known by its layout."""
    if layout := layout_of(frame.format.name):
        return layout.view(frame, 0)
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)


def deinterlaced(frames: Iterator[VideoFrame], mode: Mode, warn: Callable[[str], None]) -> Iterator[VideoFrame]:
    """The pictures of `frames`, one for one and at their own times, made whole where `mode` says so.

    Args:
        frames: decoded pictures in order of presentation.
        mode: see the module.
        warn: told what happens, once.
    """
    if mode == "off":
        yield from frames
    elif mode == "bwdif":
        yield from _filtered(frames, [("bwdif", "mode=send_frame:deint=all")])
    else:
        yield from _by_flags(frames, warn)


def _by_flags(frames: Iterator[VideoFrame], warn: Callable[[str], None]) -> Iterator[VideoFrame]:
    doubt: _Idet | None = _Idet()
    for frame in frames:
        if frame.interlaced_frame:
            yield from _flagged(chain([frame], frames), warn)
            return
        if doubt is not None and frame.height <= _TALLEST:
            doubt.push(frame)
            if doubt.count == _LOOK:
                if doubt.looks_combed():
                    warn("its pictures look interlaced, though nothing says so; --deinterlace bwdif makes them whole")
                doubt = None
        yield frame


def _flagged(frames: Iterator[VideoFrame], warn: Callable[[str], None]) -> Iterator[VideoFrame]:
    head = list(islice(frames, _LOOK))
    idet = _Idet()
    for frame in head:
        idet.push(frame)
    seen = idet.verdicts
    if seen["progressive"] >= _DOUBT * (seen["tff"] + seen["bff"] + seen["progressive"]) > 0:
        warn("flagged interlaced, but some of its pictures are whole: only combed ones are deinterlaced (bwdif)")
        yield from _combed_alone(chain(head, frames))
    else:
        warn("interlaced: its pictures are deinterlaced (bwdif) and written progressive; --deinterlace off keeps the fields")
        yield from _filtered(chain(head, frames), [("bwdif", "mode=send_frame:deint=interlaced")])


def _combed_alone(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Combed pictures through bwdif, which needs to see all; the others as they are, but flagged progressive."""
    originals, again = tee(frames)
    whole = _filtered(originals, [("setfield", "prog")])
    for original, made in zip(whole, _filtered(again, [("bwdif", "mode=send_frame:deint=all")]), strict=True):
        yield made if is_combed(original) else original


def is_combed(frame: VideoFrame) -> bool:
    """True where a place of the picture has combs: lines that differ from both neighbours, which agree with each other.

    Both neighbours of a line belong to the other field. The test is that of the usual decombing filters (Graft's Decomb):
    the product of the two differences against a threshold, counted in blocks, so that a small moving thing is enough.
    """
    layout, luma = layout_of(frame.format.name), _first_plane(frame).astype(np.int32)
    if layout is not None:
        luma >>= layout.shift + layout.depth - 8
    above, below = luma[:-2] - luma[1:-1], luma[2:] - luma[1:-1]
    combs = (above * below > _COMB**2) & (np.abs(above - below) < _COMB)
    rows, columns = (size // _BLOCK * _BLOCK for size in combs.shape)
    blocks = combs[:rows, :columns].reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK).sum((1, 3))
    return bool(blocks.max(initial=0) > _FULL * _BLOCK**2)


class _Idet:
    """FFmpeg's idet, asked about a few pictures."""

    def __init__(self) -> None:
        self.count = 0
        self._line: Line | None = None
        self._verdicts: Counter[str] = Counter()

    def push(self, frame: VideoFrame) -> None:
        """Show it one more."""
        self._line = self._line or Line(frame, [("idet", "")])
        self.count += 1
        self._count(self._line.push(frame))

    def _count(self, frames: list[VideoFrame]) -> None:
        self._verdicts.update(str(frame.metadata.get(_VERDICT)) for frame in frames)

    @property
    def verdicts(self) -> Counter[str]:
        """`tff`, `bff`, `progressive`, `undetermined` -> pictures; no more can be shown."""
        if self._line is not None:
            self._count(self._line.push(None))
            self._line = None
        return self._verdicts

    def looks_combed(self) -> bool:
        """True where nearly all look combed, in the same order."""
        return max(self.verdicts["tff"], self.verdicts["bff"]) >= _COMBED * max(self.count, 1)


def _filtered(frames: Iterator[VideoFrame], steps: Steps) -> Iterator[VideoFrame]:
    line: Line | None = None
    for frame in frames:
        if line is not None and not line.fits(frame):
            yield from line.push(None)
            line = None
        line = line or Line(frame, steps)
        yield from line.push(frame)
    if line is not None:
        yield from line.push(None)


def fields_mean(woven: NDArray[Any]) -> NDArray[Any]:
    """`(h, w, ...)` integers -> the same: each line with half of it and a quarter of each neighbour, of the other field."""
    if woven.shape[0] < 2:
        return woven
    lines = np.pad(woven, [(1, 1)] + [(0, 0)] * (woven.ndim - 1), mode="reflect").astype(np.uint32)
    return ((lines[:-2] + 2 * lines[1:-1] + lines[2:] + 2) >> 2).astype(woven.dtype)
