"""Take the faces of a film and their tracks from a file, in place of the stages `detect` and `track`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videoclr.bookmark import NOWHERE, Inside
from videoclr.errors import MediaError
from videoclr.packing import keepable
from videoclr.tracks import Placed, TracksFile
from videoclr.types import Detection, Faces, Frame, TrackedFace

FindPoints = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]
"""`(H, W, 3)` RGB and a box `(4,)` in its pixels -> `(5, 2)` landmarks."""
_SHAPE = 0.02
"""Relative difference between the shapes of the file's pictures and the film's up to which they are one."""


def given(
    frames: Iterable[Frame],
    file: TracksFile,
    start: str | None = None,
    whole: bool = True,
    find_points: FindPoints | None = None,
    begins: Callable[[Frame, int], None] = lambda _, __: None,
    first: int = 0,
    warnings: list[str] | None = None,
    inside: Inside = NOWHERE,
) -> Iterator[Faces[TrackedFace]]:
    """The faces that the file has for each frame, in tracks of the file's numbers.

    Frames are known by their index where the run begins where the file's did, and else by the exact time of the first of them
    that the file has. There is no delay.

    Args:
        frames: with their shots numbered.
        file: the tracks.
        start: `media.start` of this run.
        whole: nothing was cut off at the end; faces beyond the last frame are told then.
        find_points: for faces of which the file has the box alone.
        begins: told the first frame of each shot, and the first number beyond the tracks so far.
        first: that number, where the run goes on behind other shots.
        warnings: where faces of frames that do not exist are told.
        inside: keeps which tracks belong to earlier shots.

    Raises:
        MediaError: the file is damaged, belongs to a film of another shape, or has a track that goes on beyond a cut.
    """
    held = inside.begin("track", lambda: state)
    state: _State = _State(first) if held is None else held
    if start == file.head.start and held is None:
        state.offset = 0
    lines = _Ahead(file.placed())
    last = -1
    for frame in frames:
        last = frame.index
        frame.forget_whole()  # it waits in the stages that look ahead, and they ask for the places of faces alone
        if frame.shot != state.shot:
            begins(frame, state.beyond)
            state.shot = frame.shot
        if state.offset is None:
            lines.drop(lambda line, time=frame.time: line.time is None or line.time < time)  # type: ignore[misc]
            if lines.next is not None and lines.next.time == frame.time:
                state.offset = lines.next.frame - frame.index
        if state.offset is None:
            yield Faces(frame)
            continue
        place = frame.index + state.offset
        lines.drop(lambda line, place=place: line.frame < place)  # type: ignore[misc]
        line = lines.next if lines.next is not None and lines.next.frame == place else None
        if line is None:
            yield Faces(frame)
            continue
        if (crossing := state.crossing(line)) is not None:
            raise file.wrong(line.number, f"track {crossing} goes on beyond a cut; give it another number from this frame on")
        yield Faces(frame, tuple(_seen(face, frame, file, line, find_points) for face in line.faces), looked=line.looked)
    if state.offset is None and warnings is not None:
        warnings.append(f"{file.path}: no line has the time of a frame of this part, so none of its faces was restored")
    if whole and state.offset is not None:
        lines.drop(lambda line: line.frame <= last + (state.offset or 0))
        if lines.next is not None and warnings is not None:
            warnings.append(f"{file.path}: has faces beyond the last frame, from frame {lines.next.frame} on; they were left out")


@keepable
@dataclass
class _State:
    """What a later frame must know."""

    beyond: int
    """First number beyond the tracks so far."""
    shot: int | None = None
    offset: int | None = None
    """Index of a frame in the file less its index here; None while that is not known."""
    shots: dict[int, int | None] = field(default_factory=dict)
    """Of the tracks so far."""

    def crossing(self, line: Placed) -> int | None:
        """A track of the line that began in an earlier shot."""
        for face in line.faces:
            self.beyond = max(self.beyond, face.track + 1)
            if self.shots.setdefault(face.track, self.shot) != self.shot:
                return face.track
        return None


class _Ahead:
    """An iterator whose next item can be looked at."""

    def __init__(self, lines: Iterator[Placed]) -> None:
        self._lines = lines
        self.next: Placed | None = next(lines, None)

    def drop(self, gone: Callable[[Placed], Any]) -> None:
        """Leave out what is over."""
        while self.next is not None and gone(self.next):
            self.next = next(self._lines, None)


def _seen(face: TrackedFace, frame: Frame, file: TracksFile, line: Placed, find_points: FindPoints | None) -> TrackedFace:
    """A face in pixels of the frame, with its landmarks."""
    found, (width, height) = face.detection, frame.size
    across, down = width / file.head.width, height / file.head.height
    if abs(across / down - 1) > _SHAPE:
        raise MediaError(
            file.path,
            f"was made for pictures of {file.head.width}x{file.head.height}, these are {width}x{height}: of another shape",
        )
    box, points = found.box, found.landmarks
    if (across, down) != (1, 1):
        scale = np.array([across, down], np.float32)
        box = (((box.reshape(2, 2) + 0.5) * scale) - 0.5).reshape(4)
        points = (points + 0.5) * scale - 0.5
    if np.isnan(points).any():
        if find_points is None:
            raise file.wrong(line.number, f"track {face.track} has no points, and the detector in use does not find them in a box")
        points = find_points(frame.glance, box)
        frame.forget_whole()
    return replace(face, detection=Detection(box, points, found.score))
