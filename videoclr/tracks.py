"""The tracks of a film in a file: written by `videoclr faces --save-tracks`, edited, and read in place of `detect` and `track`.

JSON Lines, so that a film of any length is read and written frame by frame, and so that any editor, `jq -c` or a script can change
it. A head, then a line for every frame that shows a face, in order:

    {"videoclr": "tracks", "version": 1, "width": 640, "height": 360, "start": null}
    {"frame": 12, "time": "12/25", "shot": 0, "faces": [{"track": 0, "box": [81.5, ...], "points": [[100, 93], ...], "score": 0.9}]}

What stands there is restored, and nothing else: a face that is deleted is left as it is, one that is added is restored. Of a face
that a person adds, `track` and `box` suffice (`points` are looked for), and `"fill": true` draws a straight line from where its
track was last to here. `"strength": 0.5` shows half of its restoration. Coordinates are pixels of the picture as shown, the origin
at the centre of the top-left pixel; of a film of another size and the same shape, such as a proxy, they are scaled.

Between the head and the first frame, a line may say something of a whole track:

    {"track": 4, "name": "anna", "strength": [[240, 1], [264, 0.3]]}

Tracks of one name are one person: the one of the photographs that are called so (`identify.references`), or else somebody whom the
film alone shows. The strength is a number, or goes in straight lines from frame to frame, and stays before the first and after the
last one; what a face says of its own is multiplied with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator

from videoclr.errors import MediaError
from videoclr.types import Detection, FaceCrop, Faces, TrackedFace
from videoclr.validation import first_fault

FILLED = 250
"""Frames that `fill` may span: so much of the file is read ahead."""
_ROUNDED = Fraction(1, 1000)
"""Seconds by which a time that is told may be off: Matroska rounds to such, and who writes decimals does."""
_NO_POINTS = np.full((5, 2), np.nan, np.float32)

Number = Annotated[int, Field(ge=0, le=2**53, strict=True)]
Place = Annotated[float, Field(ge=-1e6, le=1e6)]
"""Pixels."""
Pair = tuple[Place, Place]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Head(_Strict):
    """The first line."""

    videoclr: Literal["tracks"]
    version: Literal[1]
    width: int = Field(gt=0)
    """Of the pictures as shown, pixels."""
    height: int = Field(gt=0)
    """Of the pictures as shown, pixels."""
    start: str | None = None
    """`media.start` of the run that wrote the file: where frame 0 lies in the film."""
    start_number: int | None = None
    """`media.input.start_number` of that run: which of numbered pictures is frame 0."""


class _Face(_Strict):
    track: Number
    box: tuple[Place, Place, Place, Place]
    points: tuple[Pair, Pair, Pair, Pair, Pair] | None = None
    score: float = Field(1.0, ge=0, le=1)
    observed: bool = True
    fill: bool = False
    strength: Share = 1.0
    name: Name | None = None

    @field_validator("box")
    @classmethod
    def _has_area(cls, box: tuple[float, ...]) -> tuple[float, ...]:
        if not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError("expected left, top, right, bottom of a rectangle")
        return box

    def tracked(self) -> TrackedFace:
        points = _NO_POINTS if self.points is None else np.array(self.points, np.float32)
        found = Detection(np.array(self.box, np.float32), points, self.score)
        return TrackedFace(self.track, found, self.observed, self.strength, self.name)


class _Direction(_Strict):
    """What a line says of a whole track."""

    track: Number
    name: Name | None = None
    strength: Annotated[
        Annotated[Share, Tag("number")] | Annotated[tuple[tuple[Number, Share], ...], Tag("pair")],
        Discriminator(lambda said: "pair" if isinstance(said, list | tuple) else "number"),
    ] = 1.0

    @field_validator("strength")
    @classmethod
    def _in_order(cls, strength: float | tuple[tuple[int, float], ...]) -> float | tuple[tuple[int, float], ...]:
        if isinstance(strength, tuple) and (not strength or any(a[0] >= b[0] for a, b in pairwise(strength))):
            raise ValueError("expected a number, or pairs of a frame and a number in order of the frames")
        return strength

    def at(self, frame: int) -> float:
        """The strength in a frame of the file."""
        if isinstance(self.strength, float):
            return self.strength
        frames, values = zip(*self.strength, strict=True)
        return float(np.interp(frame, frames, values))


class _Line(_Strict):
    frame: Number
    time: str | None = Field(None, pattern=r"^-?\d{1,18}(/[1-9]\d{0,17}|\.\d{1,18})?$")
    shot: Number | None = None
    looked: bool = True
    faces: tuple[_Face, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The faces of one frame, as the file has them."""

    number: int
    """Of the line, from 1; of the one that asks for it where `fill` made the frame."""
    frame: int
    """Index of the frame in the run that wrote the file."""
    time: Fraction | None
    """Presentation time in seconds; None where the line does not tell."""
    slack: Fraction
    """Seconds by which the time may be wrong; 0 where frames are known by their numbers."""
    looked: bool
    """See `Faces.looked`."""
    faces: tuple[TrackedFace, ...]
    """By their numbers. Landmarks that are not told are NaN."""
    filled: bool = False
    """Whether `fill` alone asks for the frame, so that nobody told when it is shown."""


def told(faces: Faces[FaceCrop]) -> dict[str, Any]:
    """A line for the faces of one frame: read again, it is the same to the bit."""
    frame = faces.frame
    line: dict[str, Any] = {"frame": frame.index, "time": str(frame.time), "shot": frame.shot}
    if not faces.looked:
        line["looked"] = False
    return {**line, "faces": [_told(crop.face) for crop in faces.faces]}


def _told(face: TrackedFace) -> dict[str, Any]:
    found = face.detection
    places = {"box": _short(found.box), "points": [_short(point) for point in found.landmarks]}
    seen = {} if face.observed else {"observed": False}
    asked = {} if face.strength == 1 else {"strength": face.strength}
    called = {} if face.name is None else {"name": face.name}
    return {"track": face.track, **places, "score": float(found.score), **seen, **asked, **called}


def _short(values: Any) -> list[float]:
    """The shortest decimals that are the same float32."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]


class TracksFile:
    """A file of tracks.

    Raises:
        MediaError: it cannot be read, or is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.left_out = path, 0
        if Path(path).exists() and not Path(path).is_file():
            raise MediaError(path, "is no file; the tracks are read more than once, so save them as one")
        first = next(self._texts(), (1, ""))
        try:
            self.head = Head.model_validate_json(first[1])
        except ValidationError as error:
            example = json.dumps({"videoclr": "tracks", "version": 1, "width": 1920, "height": 1080})
            raise MediaError(path, f"is no file of tracks: its first line must be like {example}") from error
        self._directions = self._directed()
        self._named: dict[str, int] = {}
        self.numbers: frozenset[int] = frozenset()
        """Of the tracks that have a face, once the file was checked."""

    @property
    def names(self) -> dict[str, int]:
        """Who is named, each with such a track: by lines about tracks, and by faces once the file was checked."""
        return self._named | {one.name: one.track for _, one in self._directions.values() if one.name is not None}

    def check(self) -> None:
        """Read all of it once: who edits a file wants to know of a slip at once, and not after half of the film.

        Raises:
            MediaError: a line that is damaged or contradicts another one.
        """
        there: set[int] = set()
        for line in self.placed():
            there.update(face.track for face in line.faces)
            self._named |= {face.name: face.track for face in line.faces if face.name is not None}
        for number, one in self._directions.values():
            if one.track not in there:
                raise self.wrong(number, f"track {one.track} has no face in this file")
        self.numbers = frozenset(there)

    def wrong(self, number: int, what: str) -> MediaError:
        """An error at a line."""
        return MediaError(self.path, f"line {number}: {what}")

    def placed(self) -> Iterator[Placed]:
        """The frames with faces, in order, with what `fill` asks for.

        Raises:
            MediaError: a line that is damaged or contradicts another one.
        """
        waiting: dict[int, Placed] = {}
        last: dict[int, tuple[int, TrackedFace]] = {}
        for number, line in self._lines():
            for face in line.faces:
                if face.fill:
                    if face.track not in last or line.frame - last[face.track][0] > FILLED:
                        what = f"fill: track {face.track} has no face within the {FILLED} frames before, so none can be filled"
                        raise self.wrong(number, what)
                    _fill(waiting, last[face.track], (line.frame, face.tracked()), number)
            time = None if line.time is None else Fraction(line.time)
            waiting[line.frame] = Placed(number, line.frame, time, Fraction(0), line.looked, _ordered(line.faces))
            last |= {face.track: (line.frame, face.tracked()) for face in line.faces}
            last = {track: one for track, one in last.items() if line.frame - one[0] <= FILLED}
            for frame in sorted(frame for frame in waiting if frame <= line.frame - FILLED):
                yield self._as_asked(waiting.pop(frame))
        for frame in sorted(waiting):
            yield self._as_asked(waiting[frame])

    def timed(self) -> Iterator[Placed]:
        """As `placed`, each with a time: those that tell none lie evenly between their neighbours that do, or as far apart.

        Where fewer than two lines of the file tell, the others are left out, and `left_out` counts them then.
        """
        before: Placed | None = None
        step: Fraction | None = None
        waiting: list[Placed] = []
        for line in self.placed():
            waiting.append(line)
            if line.time is None and len(waiting) <= FILLED:
                continue
            if line.time is not None and before is not None and before.time is not None:
                step = (line.time - before.time) / (line.frame - before.frame)
            known = line if line.time is not None else before
            if step is not None and known is not None:
                yield from (_at(one, known, step) for one in waiting)
                waiting = []
            before = line if line.time is not None else before
        if step is not None and before is not None:
            yield from (_at(one, before, step) for one in waiting)
        else:
            yield from (replace(one, slack=_ROUNDED) for one in waiting if one.time is not None)
            self.left_out = sum(one.time is None for one in waiting)

    def _as_asked(self, placed: Placed) -> Placed:
        """With what lines about tracks say of its faces."""
        faces = []
        for face in placed.faces:
            if face.track in self._directions:
                _, one = self._directions[face.track]
                face = replace(face, strength=face.strength * one.at(placed.frame), name=face.name or one.name)
            faces.append(face)
        return replace(placed, faces=tuple(faces))

    def _directed(self) -> dict[int, tuple[int, _Direction]]:
        """Track -> the number of the line about it, and the line."""
        found: dict[int, tuple[int, _Direction]] = {}
        texts = self._texts()
        next(texts, None)  # the head
        for number, text in texts:
            if not _is_direction(text):
                break
            try:
                one = _Direction.model_validate_json(text)
            except ValidationError as error:
                raise self.wrong(number, _first(error)) from error
            if one.track in found:
                raise self.wrong(number, f"track {one.track} has a line already, line {found[one.track][0]}")
            found[one.track] = (number, one)
        return found

    def _lines(self) -> Iterator[tuple[int, _Line]]:
        """Lines that are sound by themselves, in order, and with each track in one shot as far as they tell; with their numbers."""
        before = -1
        shots: dict[int, int] = {}
        names = {track: one.name for track, (_, one) in self._directions.items() if one.name is not None}
        for number, text in islice(self._texts(), 1 + len(self._directions), None):
            try:
                line = _Line.model_validate_json(text)
            except ValidationError as error:
                misplaced = "lines about a whole track stand before the first frame" if _is_direction(text) else None
                raise self.wrong(number, misplaced or _first(error)) from error
            if line.frame <= before:
                raise self.wrong(number, f"frame {line.frame} after frame {before}; a frame has one line, and they are in order")
            before = line.frame
            for face in line.faces:
                if not _shown(face.box, self.head):
                    where = f"lies outside of the picture of {self.head.width}x{self.head.height}, or shows less than a pixel of it"
                    raise self.wrong(number, f"the box of track {face.track} {where}")
            tracks = [face.track for face in line.faces]
            for track in tracks:
                if tracks.count(track) > 1:
                    raise self.wrong(number, f"track {track} has two faces in one frame")
                if line.shot is not None and shots.setdefault(track, line.shot) != line.shot:
                    raise self.wrong(number, f"track {track} began in another shot; give it another number from here")
            for face in line.faces:
                if face.name is not None and names.setdefault(face.track, face.name) != face.name:
                    raise self.wrong(number, f"track {face.track} was called {names[face.track]} before")
            yield number, line

    def _texts(self) -> Iterator[tuple[int, str]]:
        """Lines that are not empty, with their numbers."""
        try:
            with Path(self.path).open(encoding="utf-8-sig") as file:
                for number, text in enumerate(file, 1):
                    if text.strip():
                        yield number, text
        except OSError as error:
            raise MediaError(self.path, f"the tracks cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise MediaError(self.path, "is no text, so no file of tracks") from error


def _shown(box: tuple[float, ...], head: Head) -> bool:
    """Whether a pixel at least of each side of a box lies in the picture."""
    left, top, right, bottom = box
    across = min(right, head.width - 0.5) - max(left, -0.5)
    down = min(bottom, head.height - 0.5) - max(top, -0.5)
    return min(across, down) >= 1


def _is_direction(text: str) -> bool:
    """Whether a line says something of a whole track, and not of a frame."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and "track" in said and not said.keys() & {"frame", "faces"}


def _ordered(faces: tuple[_Face, ...]) -> tuple[TrackedFace, ...]:
    return tuple(sorted((face.tracked() for face in faces), key=lambda face: face.track))


def _at(line: Placed, known: Placed, step: Fraction) -> Placed:
    """With a time, by that of another line and the length of a frame where it tells none, and how far off that may be."""
    near = abs(step) * Fraction(2, 5)
    if line.time is not None or known.time is None:
        return replace(line, slack=min(_ROUNDED, near))
    return replace(line, time=known.time + step * (line.frame - known.frame), slack=near)


def _fill(waiting: dict[int, Placed], known: tuple[int, TrackedFace], goal: tuple[int, TrackedFace], number: int) -> None:
    """A straight line between two faces of a track, each with its frame, as line `number` asks for it."""
    (start, before), (end, face) = known, goal
    one, other = before.detection, face.detection
    for frame in range(start + 1, end):
        share = (frame - start) / (end - start)
        found = Detection(
            one.box + (other.box - one.box) * np.float32(share),
            one.landmarks + (other.landmarks - one.landmarks) * np.float32(share),
            min(one.score, other.score),
        )
        there = waiting.get(frame, Placed(number, frame, None, Fraction(0), True, (), filled=True))
        strength = before.strength + (face.strength - before.strength) * share
        filled = TrackedFace(face.track, found, False, strength, before.name)
        faces = sorted((*there.faces, filled), key=lambda face: face.track)
        waiting[frame] = replace(there, faces=tuple(faces))


def _first(error: ValidationError) -> str:
    """The first of what is wrong, in a few words."""
    if error.errors(include_url=False)[0]["type"] == "json_invalid":
        return "is no JSON object on a line of its own (`jq -c` keeps them so)"
    return first_fault(error)
