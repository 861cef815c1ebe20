"""Tell which faces are one face over time, and fill the gaps of a few frames between its sightings."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from videoclr.blame import blamed, tracked_of
from videoclr.bookmark import NOWHERE, Inside
from videoclr.errors import RestorationError
from videoclr.packing import Keeping, keepable, memory_of
from videoclr.types import Detection, Faces, Frame, TrackedFace


class Tracker(Protocol):
    """Joins detections over time; one per run, reset at every cut."""

    def update(self, found: Faces[Detection]) -> Sequence[TrackedFace]:
        """The faces of one frame with their tracks; called for every frame, in order.

        Args:
            found: the detections. Where `found.looked` is False the detector skipped the frame: the tracker moves its
                tracks on and may give the places where it supposes them.

        Returns:
            At most one face per track. `observed=False` marks a supposed place, whose score says how sure it is.
        """
        ...

    def reset(self) -> None:
        """Forget every track: a cut."""
        ...


@keepable
@dataclass
class _Entry:
    """A frame that waits, with its faces by track."""

    found: Faces[Detection]
    seen: dict[int, TrackedFace] = field(default_factory=dict)
    supposed: dict[int, TrackedFace] = field(default_factory=dict)


@keepable
@dataclass
class _Sighting:
    position: int
    face: TrackedFace
    times: int


def track(
    found: Iterable[Faces[Detection]],
    make_tracker: Callable[[], Tracker],
    max_gap: int = 5,
    first: int = 0,
    begins: Callable[[Frame, int], None] = lambda _, __: None,
    inside: Inside = NOWHERE,
) -> Iterator[Faces[TrackedFace]]:
    """Faces with the number of their track.

    A face that was not found for at most `max_gap` frames and comes back is filled in along a straight line
    (`observed=False`, score of the less sure end). A face that is found only once although the detector looked again
    within `max_gap` frames is taken for a mistake and left out; the faces of a still, of a shot of one frame and of a
    shot's last look stay. Numbers are given here, from `first`, and never again in a run, whatever the tracker's own are.

    The delay is `max_gap` frames; at a cut everything waiting leaves, and the tracker is reset.

    Args:
        found: detections with the shots numbered; every frame.
        make_tracker: called once.
        max_gap: frames.
        first: number of the first track.
        begins: told the first frame of each shot and the number of its first track.
        inside: keeps what waits, and what a tracker that is `Keeping` remembers.

    Raises:
        RestorationError: the tracker failed, or could not be made.
    """
    with blamed("tracker", 0):
        tracker = make_tracker()
    current: int | None
    held = inside.begin("track", lambda: (numbers, shot, current, memory_of(tracker)))
    if held is None:
        numbers, current = _Numbers(first), None
        shot = _Shot(max_gap, numbers)
    else:
        numbers, shot, current, memory = held
        assert isinstance(tracker, Keeping)  # it was, or there would be no such bookmark
        tracker.recall(memory)
    for faces in found:
        if current is not None and faces.frame.shot != current:
            yield from shot.finish()
            with blamed("tracker", faces.frame.index):
                tracker.reset()
            shot = _Shot(max_gap, numbers)
        if faces.frame.shot != current:
            begins(faces.frame, numbers.next)
        current = faces.frame.shot
        with blamed("tracker", faces.frame.index):
            shot.add(faces, _checked(tracker.update(faces), faces.frame.index))
        if len(shot.waiting) > max_gap:
            yield shot.leave()
    yield from shot.finish()


def _checked(given: Sequence[TrackedFace], frame: int) -> list[TrackedFace]:
    """What a tracker gave for a frame, without the places that no face can have.

    Raises:
        RestorationError: it is something else than faces, each of a track of its own.
    """
    found = [face for one in given if (face := tracked_of(one, frame)) is not None]
    tracks = {face.track for face in found}
    if len(tracks) < len(found):
        raise RestorationError(frame, None, f"the tracker gave {len(found)} faces of {len(tracks)} track(s), expected one of each")
    return found


@keepable
@dataclass
class _Numbers:
    """Of tracks, each once."""

    next: int

    def take(self) -> int:
        """A new one."""
        self.next += 1
        return self.next - 1


@keepable
class _Shot:
    """The look-ahead of one shot: at most `max_gap` + 1 frames."""

    def __init__(self, max_gap: int, numbers: _Numbers) -> None:
        self.max_gap = max_gap
        self.numbers = numbers
        self.names: dict[int, int] = {}
        self.waiting: deque[_Entry] = deque()
        self.last: dict[int, _Sighting] = {}
        self.position = -1

    def add(self, found: Faces[Detection], faces: Sequence[TrackedFace]) -> None:
        """Take the newest frame in and fill the gaps that it closes."""
        self.position += 1
        entry = _Entry(found)
        self.waiting.append(entry)
        for face in faces:
            if not face.observed:
                entry.supposed[face.track] = face
                continue
            entry.seen[face.track] = face
            before = self.last.get(face.track)
            if before is not None:
                self._fill(before, face)
            self.last[face.track] = _Sighting(self.position, face, 1 if before is None else before.times + 1)
        self.last = {track: one for track, one in self.last.items() if self.position - one.position <= self.max_gap}

    def _fill(self, before: _Sighting, face: TrackedFace) -> None:
        gap = self.position - before.position
        for step in range(1, gap):
            place = len(self.waiting) - 1 - gap + step
            if place >= 0:
                between = _between(before.face.detection, face.detection, step / gap)
                self.waiting[place].seen[face.track] = TrackedFace(face.track, between, observed=False)

    def leave(self) -> Faces[TrackedFace]:
        """Let the oldest frame go."""
        entry = self.waiting.popleft()
        looked_later = any(later.found.looked for later in self.waiting)
        faces = [face for face in entry.seen.values() if self._believed(face, looked_later)]
        if not looked_later:  # the shot ends before the next look: the tracker's guess is the best there is
            faces += [face for name, face in entry.supposed.items() if name not in entry.seen and name in self.names]
        # In the order of their numbers: where two faces overlap, the same one lies above in every frame.
        named = sorted((self._named(face) for face in faces), key=lambda face: face.track)
        return Faces(entry.found.frame, tuple(named), looked=entry.found.looked)

    def _believed(self, face: TrackedFace, looked_later: bool) -> bool:
        if face.track in self.names or not looked_later:
            return True
        return any(face.track in later.seen for later in self.waiting)

    def _named(self, face: TrackedFace) -> TrackedFace:
        if face.track not in self.names:
            self.names[face.track] = self.numbers.take()
        return replace(face, track=self.names[face.track])

    def finish(self) -> Iterator[Faces[TrackedFace]]:
        """Let everything go: the shot is over."""
        while self.waiting:
            yield self.leave()


def _between(one: Detection, other: Detection, share: float) -> Detection:
    return Detection(
        box=one.box + (other.box - one.box) * share,
        landmarks=one.landmarks + (other.landmarks - one.landmarks) * share,
        score=min(one.score, other.score),
    )
