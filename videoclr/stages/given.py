"""Take the faces of a film and their tracks from a file, in place of the stages `detect` and `track`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from videoclr import geometry
from videoclr.blame import blamed
from videoclr.bookmark import NOWHERE, Inside
from videoclr.errors import MediaError
from videoclr.packing import keepable
from videoclr.shortage import with_room
from videoclr.tracks import Placed, TracksFile
from videoclr.types import Detection, Faces, Frame, TrackedFace

log = logging.getLogger("videoclr.stages.given")

FindPoints = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]
"""`(H, W, 3)` RGB and a box `(4,)` in its pixels -> `(5, 2)` landmarks."""
_RATE = Fraction(1, 10)
"""Relative difference of a stretch of film by the file's times and by the frames' own, from which they are told to differ: what
runs at 24, 24000/1001 or 25 pictures a second holds the same frames."""
_SHAPE = 0.02
"""Relative difference between the shapes of the file's pictures and the film's up to which they are one."""


def given(
    frames: Iterable[Frame],
    file: TracksFile,
    start: str | None = None,
    whole: bool = True,
    find_points: FindPoints | None = None,
    begins: Callable[[Frame, int, int], None] = lambda _, __, ___: None,
    first: int = 0,
    missed: int = 0,
    warnings: list[str] | None = None,
    inside: Inside = NOWHERE,
) -> Iterator[Faces[TrackedFace]]:
    """The faces that the file has for each frame, in tracks of the file's numbers.

    Frames are known by their index where the run begins where the file's did, and else by their times. There is no delay.

    Args:
        frames: with their shots numbered.
        file: the tracks.
        start: `media.start` of this run.
        whole: nothing was cut off at the end; faces beyond the last frame are told then.
        find_points: for faces of which the file has the box alone.
        begins: told the first frame of each shot, the first number beyond the tracks so far, and how many lines no frame took.
        first: that number, where the run goes on behind other shots.
        missed: those lines, as well.
        warnings: where faces of frames that do not exist are told.
        inside: keeps which tracks belong to earlier shots.

    Raises:
        RestorationError: `find_points` failed.
        MediaError: the file is damaged, belongs to a film of another shape, or has a track that goes on beyond a cut.
    """
    held = inside.begin("track", lambda: state)
    state: _State = _State(first, missed) if held is None else held
    numbered = start == file.head.start
    lines = _Ahead(file.placed() if numbered else file.timed())
    if held is not None and not numbered and state.time is not None:  # the lines are read again, and were counted
        lines.of_time(state.time)
        lines.missed = state.missed
    begun, found = None, False
    pace = _Pace()
    frame: Frame | None = None
    for frame in frames:
        frame.forget_whole()  # it waits in the stages that look ahead, and they ask for the places of faces alone
        line = lines.of_index(frame.index) if numbered else lines.of_time(frame.time)
        if begun is None:
            begun = frame.index
            if begun > 0 and held is None:  # the run goes on at a cut, and all tracks so far are over
                state.shots = dict.fromkeys(lines.passed, -1)
            lines.passed.clear()
            if held is None:
                lines.missed = missed
        state.time, state.missed = frame.time, lines.missed
        if frame.shot != state.shot:
            begins(frame, state.beyond, state.missed)
            state.shot = frame.shot
        if line is None:
            yield Faces(frame)
            continue
        found = True
        if numbered and warnings is not None and pace.differs(line, frame):
            told = (
                f"{file.path}: tells other times of its frames than this film has, so it may be of another one, or of another rate"
            )
            if told not in warnings:
                log.warning(told)
                warnings.append(told)
        if (crossing := state.crossing(line)) is not None:
            told = f"track {crossing} goes on beyond a cut; give it another number from this frame on"
            if not numbered and lines.missed:  # then the cut may well be elsewhere by the times of the file
                told += f", or, since {_between(lines.missed)}, use the tracks of a film of this rate"
            raise file.wrong(line.number, told)
        yield Faces(frame, tuple(_seen(face, frame, file, line, find_points) for face in line.faces), looked=line.looked)
    if warnings is None or frame is None:
        return
    if not numbered and not found and begun == 0:
        text = "no line has the time of a frame of this part, so none of its faces was restored"
    elif not numbered and lines.missed:
        text = f"{_between(lines.missed)}, so their faces were not restored; was it made of a film of another rate?"
    elif file.left_out:
        text = f"{file.left_out} lines tell no time, so no frame of this part is theirs; add their times"
    elif whole and (beyond := lines.next) is not None:
        text = f"has faces beyond the last frame, from frame {beyond.frame} on; they were left out"
    else:
        return
    if (told := f"{file.path}: {text}") not in warnings:  # a run that was stopped may have looked ahead to the end
        log.warning(told)
        warnings.append(told)


def _between(missed: int) -> str:
    return f"{missed} lines tell times between those of the frames"


@keepable
@dataclass
class _State:
    """What a later frame must know."""

    beyond: int
    """First number beyond the tracks so far."""
    missed: int = 0
    """How many lines no frame took so far."""
    time: Fraction | None = None
    """Of the last frame."""
    shot: int | None = None
    shots: dict[int, int | None] = field(default_factory=dict)
    """Of the tracks so far."""

    def crossing(self, line: Placed) -> int | None:
        """A track of the line that began in an earlier shot."""
        for face in line.faces:
            self.beyond = max(self.beyond, face.track + 1)
            if self.shots.setdefault(face.track, self.shot) != self.shot:
                return face.track
        return None


class _Pace:
    """Compares how fast frames follow each other with what the lines of a file tell."""

    def __init__(self) -> None:
        self._first: tuple[Fraction, Fraction] | None = None

    def differs(self, line: Placed, frame: Frame) -> bool:
        """Whether what lies between the first line and this one, a second at least, lasts clearly longer in one of the two."""
        if line.time is None:
            return False
        if self._first is None:
            self._first = line.time, frame.time
        there, here = line.time - self._first[0], frame.time - self._first[1]
        return max(there, here) >= 1 and abs(there - here) > _RATE * max(there, here)


class _Ahead:
    """Lines of a file, each taken by its frame."""

    def __init__(self, lines: Iterator[Placed]) -> None:
        self._lines = lines
        self._due: Placed | None = None
        """The last line that is not after the frame."""
        self.next: Placed | None = next(lines, None)
        self.passed: set[int] = set()
        """Tracks of the lines that no frame took."""
        self.missed = 0
        """How many lines those are."""

    def of_index(self, index: int) -> Placed | None:
        """The line of a frame; those before it are over."""
        line = self._last(lambda one: one.frame <= index)
        return line if line is not None and line.frame == index else self._nobody(line)

    def of_time(self, time: Fraction) -> Placed | None:
        """The line of a frame; those before it are over."""
        line = self._last(lambda one: one.time is not None and one.time - one.slack <= time)
        fits = line is not None and line.time is not None and line.time + line.slack >= time
        return line if fits else self._nobody(line) or self._filled(time)

    def _filled(self, time: Fraction) -> Placed | None:
        """The nearest line of a stretch that `fill` made about `time`: where frames do not follow each other evenly, nobody told
        which of them are there."""
        one, other = self._due, self.next
        if one is None or other is None or one.time is None or other.time is None or other.frame != one.frame + 1:
            return None
        near = [line for line in (one, other) if line.filled]
        return min(near, key=lambda line: abs((line.time or time) - time), default=None)

    def _last(self, due: Callable[[Placed], bool]) -> Placed | None:
        line = None
        while self.next is not None and due(self.next):
            self._nobody(line)
            self._due = line = self.next
            self.next = next(self._lines, None)
        return line

    def _nobody(self, line: Placed | None) -> Placed | None:
        """No frame takes this line."""
        if line is not None:
            self.missed += not line.filled
            self.passed |= {face.track for face in line.faces}
        return None


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
        with blamed("detector", frame.index, face.track):
            points = with_room(partial(find_points, frame.glance, box))
            points = geometry.completed(points, float(box[3] - box[1]), frame.size)
        frame.forget_whole()
    return replace(face, detection=Detection(box, points, found.score))
