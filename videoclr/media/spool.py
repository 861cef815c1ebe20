"""Decoded pictures that wait for long wait in a file, so that looking ahead costs disk and no memory.

Stages look ahead over some forty frames, and in 4K with 10 bits each is a picture of 33 MB. Meanwhile little is asked of
them: where there are faces, those parts. So what waits beyond the room in memory goes into a temporary file that has no
name: it is gone with the process, whatever ends that. Its places are used again and again, so it is never longer than what
has once waited at a time. Nothing is encoded: what comes back is what went, to the bit, with every property of the frame
and its side data.

The properties stay in memory, in a corner cut out of the frame. PyAV can neither copy a frame nor give one its side data,
but FFmpeg's filter `pad` makes a larger frame of a smaller one that inherits all of it; then the planes are read into it.
"""

from __future__ import annotations

import errno
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from videoclr.errors import ConfigError, MediaError
from videoclr.flow import one_at_a_time
from videoclr.media.faults import words
from videoclr.media.filters import through
from videoclr.media.layout import Layout, layout_of
from videoclr.media.orientation import side_data

_CORNER = 16
"""Side of the corner that keeps the properties, pixels: the least that a part is asked for."""
_OBJECTS = 4 << 10
"""Bytes of a frame besides its planes: AVFrame, its buffers' books and Python's objects (2.7 KB were measured)."""
_ROWS = 32
"""Rows that FFmpeg allocates more than a picture has, at most: its decoders write whole blocks, and a little beyond."""

_TAGS = ("colorspace", "color_range", "time_base")
"""What filters fill in where it was left open."""
_NO_BASE = Fraction(0)
"""How PyAV is told that a frame has no time base."""


def bytes_of(frame: VideoFrame) -> int:
    """What `frame` holds in memory, not less: planes as they are allocated, side data, and the objects around them."""
    planes = sum(abs(plane.line_size) * (plane.height + _ROWS) for plane in frame.planes)
    return _OBJECTS + planes + sum(side.buffer_size for side in side_data(frame))


def check_scratch(folder: str | None) -> None:
    """Refuse a folder for temporary files that is not there.

    Raises:
        ConfigError: there is no such folder.
    """
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"$.runtime.scratch: {folder} is no folder")


class Spoolable(Protocol):
    """A picture that can be put away."""

    held: object | None
    """Its place in memory while it waits there."""

    @property
    def nbytes(self) -> int:
        """What it holds, here or in the spool."""
        ...

    def put_away(self, spool: Spool) -> bool:
        """Let the planes wait in `spool`; False where they cannot."""
        ...

    def bring_back(self) -> None:
        """Hold the planes in memory again."""
        ...


class Spool:
    """Where the pictures of a run wait.

    Args:
        room: bytes of them that stay in memory.
        folder: where the file lies; None for the system's folder of temporary files.

    The file is made when it is needed, and closed when nobody holds the spool nor a picture in it.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, room: int, folder: str | None = None) -> None:
        check_scratch(folder)
        self.room = room
        self._file = _File(folder)
        self._used = 0
        self._left: deque[int] = deque()

    def wait(self, picture: Spoolable) -> None:
        """`picture` begins to wait: in memory where there is room, else in the file. Call it in one thread only.

        Raises:
            MediaError: the file cannot be made or written.
        """
        while self._left:
            self._used -= self._left.popleft()
        if picture.held is not None:
            return
        size = picture.nbytes
        if self._used + size <= self.room:
            self._used += size
            picture.held = _Held(size, self._left)
        else:
            picture.put_away(self)

    def leave(self, picture: Spoolable) -> None:
        """`picture` waits no longer: it is in memory. One that is dropped need not leave.

        Raises:
            MediaError: the file cannot be read.
        """
        picture.held = None
        picture.bring_back()

    def keep(self, frame: VideoFrame) -> Spooled | None:
        """The planes of `frame` in the file; None where its format does not allow that.

        Raises:
            MediaError: the file cannot be made or written.
        """
        layout = layout_of(frame.format.name)
        if (
            layout is None
            or not (layout.floating or _can_grow(frame.format.name))
            or min(plane.line_size for plane in frame.planes) <= 0
        ):
            return None
        side = f"{min(_CORNER, frame.width)}:{min(_CORNER, frame.height)}"
        corner = through(frame, ("crop", f"{side}:0:0:exact=1"))
        corner.make_writable()  # the same buffers so far: writing into them must not be possible, so they are copied
        return Spooled(self._file, frame, layout, corner)


class _Held:
    """A picture's place in memory; its room is free again when the picture is done with it."""

    def __init__(self, size: int, left: deque[int]) -> None:
        self._size, self._left = size, left

    def __del__(self) -> None:
        """Told by a queue, not under a lock: the collector may come here at any moment, in any thread."""
        self._left.append(self._size)


class Spooled:
    """A frame whose planes are in the file."""

    def __init__(self, file: _File, frame: VideoFrame, layout: Layout, corner: VideoFrame) -> None:
        self.format, self.width, self.height = frame.format.name, frame.width, frame.height
        self.nbytes = bytes_of(frame)
        self._layout, self._corner, self._file = layout, corner, file
        self._tags = {name: getattr(frame, name) for name in _TAGS}
        self._planes = [(plane.line_size, plane.height) for plane in frame.planes]
        self._size = sum(line * rows for line, rows in self._planes)
        self._place = file.take(self._size)
        try:
            at = self._place
            for plane in frame.planes:
                data = _bytes(plane)
                file.write(data, at)
                at += len(data)
        except BaseException:
            file.free(self._size, self._place)
            raise

    def __del__(self) -> None:
        """Its place is free again."""
        if hasattr(self, "_place"):
            self._file.free(self._size, self._place)

    def whole(self) -> VideoFrame:
        """The frame, as it was.

        Raises:
            MediaError: the file cannot be read.
        """
        return self.part(0, 0, self.width, self.height)

    def part(self, x0: int, y0: int, x1: int, y1: int) -> VideoFrame:
        """What the filter `crop` would give of it. The corner lies on the grid of chroma; sides are no less than `_CORNER`'s.

        Raises:
            MediaError: the file cannot be read.
        """
        grown = _grown(self._corner, self._layout, x1 - x0, y1 - y0)
        at = self._place
        for index, ((line, rows), plane) in enumerate(zip(self._planes, grown.planes, strict=True)):
            step, across, down = _steps(self._layout, index)
            first, left = y0 >> down, (x0 >> across) * step
            own = _bytes(plane).reshape(plane.height, plane.line_size)
            count = min(plane.height, rows - first)
            width = min(plane.line_size, line - left)
            if width == line == plane.line_size:
                self._file.read(own[:count].reshape(-1), at + first * line)
            else:
                read = np.empty((count, line), np.uint8)
                self._file.read(read.reshape(-1), at + first * line)
                own[:count, :width] = read[:, left : left + width]
            at += line * rows
        for name, value in self._tags.items():
            setattr(grown, name, _NO_BASE if value is None else value)
        return grown


def _grown(corner: VideoFrame, layout: Layout, width: int, height: int) -> VideoFrame:
    """A frame of that size with the properties of `corner`, and buffers of its own."""
    if layout.floating:
        return _plain(corner, width, height)
    across, down = layout.subsampling if layout.kind == "yuv" else (0, 0)
    whole = (-(-width >> across) << across, -(-height >> down) << down)
    grown = through(corner, ("pad", f"{whole[0]}:{whole[1]}:0:0"))
    # `pad` knows whole samples of chroma only. It copies even where nothing is added: the corner must stay as it is.
    return grown if whole == (width, height) else through(grown, ("crop", f"{width}:{height}:0:0:exact=1"))


def _plain(corner: VideoFrame, width: int, height: int) -> VideoFrame:
    """What `pad`, which knows no floats, would give of `corner`, without side data: pictures of floats (EXR) have none."""
    frame = VideoFrame(width, height, corner.format.name)
    for name in ("pts", "dts", "duration", "color_trc", "color_primaries", "pict_type"):
        setattr(frame, name, getattr(corner, name))
    return frame


def _steps(layout: Layout, plane: int) -> tuple[int, int, int]:
    """Bytes from one sample to the next in a plane, and by how much it is subsampled: log2 across and down."""
    inside = [(index, place) for index, place in enumerate(layout.places) if place.plane == plane]
    if not inside:  # alpha
        return layout.dtype.itemsize, 0, 0
    component, place = inside[0]
    across, down = layout.subsampling if layout.kind == "yuv" and component else (0, 0)
    return layout.dtype.itemsize * place.step, across, down


def _bytes(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(memoryview(plane), np.uint8)[: plane.height * plane.line_size]


@cache
def _can_grow(pixel_format: str) -> bool:
    """Whether `pad` takes the format as it is; where it does not, FFmpeg converts the picture first."""
    grown = through(VideoFrame(_CORNER, _CORNER, pixel_format), ("pad", f"{2 * _CORNER}:{2 * _CORNER}:0:0"))
    return grown.format.name == pixel_format


class _File:
    """A temporary file without a name, in places of equal size for equal pictures."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._turn = one_at_a_time()
        self._free: dict[int, list[int]] = {}
        self._end = 0

    def __del__(self) -> None:
        """Let go of it."""
        if self._file is not None:
            self._file.close()

    def take(self, size: int) -> int:
        """A place for so many bytes. One thread takes places; any may free them."""
        try:
            return self._free[size].pop()
        except (KeyError, IndexError):
            self._end += size
            return self._end - size

    def free(self, size: int, place: int) -> None:
        """Nothing is kept at `place` any more."""
        self._free.setdefault(size, []).append(place)  # no lock: the collector may come here at any moment

    def write(self, data: NDArray[np.uint8], place: int) -> None:
        """All of `data` at `place`."""
        with self._explained("cannot be written"), self._turn:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="videoclr-", dir=self._folder, buffering=0)  # noqa: SIM115
            self._file.seek(place)
            rest = memoryview(data.data)
            while rest:
                rest = rest[self._file.write(rest) :]

    def read(self, into: NDArray[np.uint8], place: int) -> None:
        """Fill `into` from `place` on."""
        with self._explained("cannot be read"), self._turn:
            assert self._file is not None
            self._file.seek(place)
            rest = memoryview(into.data)
            while rest:
                count = self._file.readinto(rest)  # type: ignore[attr-defined]
                if not count:
                    raise OSError(errno.EIO, "the file is shorter than it was")
                rest = rest[count:]

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            folder = self._folder or tempfile.gettempdir()
            advice = "name another folder with runtime.scratch, or let more wait in memory with runtime.buffer_mb"
            raise MediaError(folder, f"the file for pictures that wait {what} ({words(error)}); {advice}") from error
