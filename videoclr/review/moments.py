"""Which moments are worth a look: where a track is trusted least, where it is least alike, and its middle."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError

from videoclr.errors import MediaError
from videoclr.validation import first_fault

PIECES = 600
"""Of a film, at most, whose lowest trust is shown."""
_APART = Fraction(1, 4)
"""Seconds: of two moments that are nearer, one is shown."""


Text = InstanceOf[str]
"""Names and tags that are no UTF-8 hold lone surrogates, which pydantic's own texts may not."""
Count = Annotated[int, Field(ge=0)]


class Told(BaseModel):
    """Something of a report. What it tells besides is not looked at."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Line(Told):
    """A line of `--report-frames`; see `videoclr.pipeline.FaceNote`."""

    frame: Count
    time: Fraction
    shot: int
    track: int
    person: int | None
    name: Text | None
    box: tuple[float, float, float, float]
    similarity: float | None
    confidence: float
    trusted_share: float
    reasons: dict[str, float]
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A face in one frame, as `--report-frames` tells of it."""

    frame: int
    time: Fraction
    """Seconds, on the clock of the input."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, pixels."""
    trust: float
    """Confidence times trusted share, 0..1: how much of what was asked for of the restoration is shown."""
    similarity: float | None
    """To the track's identity, a cosine."""
    reasons: tuple[str, ...]
    """What spoke against the restoration."""
    strength: float = 1.0
    """How much of the restoration was asked for in the file of tracks, 0..1."""

    @classmethod
    def of_line(cls, line: Line) -> Moment:
        """The face that a line tells of."""
        trust = line.confidence * line.trusted_share
        return cls(line.frame, line.time, line.box, trust, line.similarity, tuple(line.reasons), line.strength)

    @property
    def alike(self) -> float:
        """For comparisons; what was not measured is no doubt."""
        return 1.0 if self.similarity is None else self.similarity


@dataclass(slots=True)
class TrackView:
    """What a page says of a track."""

    track: int
    shot: int
    first: Moment
    last: Moment
    middle: Moment
    least_trusted: Moment
    least_alike: Moment
    person: int | None = None
    name: str | None = None
    faces: int = 0
    trust: float = 0.0
    """Sum over its faces."""
    similarity: float = 0.0
    """Sum over those that were measured."""
    measured: int = 0
    confidence: float = 0.0
    """Sum over its faces."""
    size: float = 0.0
    """Sum over its faces, of the geometric means of the boxes' sides, pixels."""
    reasons: Counter[str] = field(default_factory=Counter)
    """What spoke against how many of its faces."""
    strengths: tuple[float, float] = (1.0, 0.0)
    """The least and the most that was asked for."""
    pieces: dict[int, float] = field(default_factory=dict)
    """Piece of the film -> lowest trust in it."""

    @classmethod
    def begun_by(cls, line: Line, moment: Moment) -> TrackView:
        """Of the track that `line` is the first face of, before that is counted."""
        return cls(line.track, line.shot, moment, moment, moment, moment, moment)

    def add(self, line: Line, moment: Moment, middle: Fraction, piece: int) -> None:
        """Count a face that lies in `piece` of the film, in a track whose middle is at the time `middle`."""
        left, top, right, bottom = moment.box
        self.person, self.name = line.person, line.name
        self.faces += 1
        self.trust += moment.trust
        self.confidence += line.confidence
        self.size += math.sqrt(max(right - left, 0.0) * max(bottom - top, 0.0))
        if moment.similarity is not None:
            self.similarity += moment.similarity
            self.measured += 1
        self.reasons.update(moment.reasons)
        self.strengths = min(self.strengths[0], moment.strength), max(self.strengths[1], moment.strength)
        self.pieces[piece] = min(moment.trust, self.pieces.get(piece, 1.0))
        self.last = moment
        self.least_trusted = min(self.least_trusted, moment, key=lambda one: (one.trust, one.alike))
        self.least_alike = min(self.least_alike, moment, key=lambda one: one.alike)
        self.middle = min(self.middle, moment, key=lambda one: abs(one.time - middle))

    @property
    def mean_trust(self) -> float:
        """Over its faces."""
        return self.trust / self.faces

    @property
    def mean_similarity(self) -> float | None:
        """Over those that were measured; None where none was."""
        return self.similarity / self.measured if self.measured else None

    def moments(self) -> Iterator[tuple[str, Moment]]:
        """What is shown, with what it is shown for; moments that are all but the same once."""
        shown: list[Moment] = []
        for why, one in (("least trusted", self.least_trusted), ("least alike", self.least_alike), ("middle", self.middle)):
            if all(abs(one.time - other.time) >= _APART for other in shown):
                shown.append(one)
                yield why, one

    def __lt__(self, other: TrackView) -> bool:
        """Tracks that want a look come first."""
        return self._order() < other._order()

    def _order(self) -> tuple[float, float, int]:
        return self.least_trusted.trust, self.least_alike.alike, self.track


def pieces_of(frames: int) -> int:
    """How many pieces a film of so many frames has."""
    return max(1, min(PIECES, frames))


def views(lines: Path, middles: Mapping[int, Fraction], frames: int) -> list[TrackView]:
    """Every track of a film, those that want a look first.

    Args:
        lines: what `--report-frames` wrote.
        middles: track -> time of its middle.
        frames: of the film.

    Raises:
        MediaError: it cannot be read, or is something else; with the line.
    """
    found: dict[int, TrackView] = {}
    for number, values in enumerate(_lines(lines), 1):
        try:
            line = Line.model_validate(values)
        except ValidationError as error:
            what = f"line {number} tells of no face ({first_fault(error)}); expected what --report-frames wrote"
            raise MediaError(lines, what) from error
        moment = Moment.of_line(line)
        view = found.setdefault(line.track, TrackView.begun_by(line, moment))
        view.add(line, moment, middles.get(line.track, moment.time), moment.frame * pieces_of(frames) // max(1, frames))
    return sorted(found.values())


def _lines(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, text in enumerate(file, 1):
                yield parsed(text, path, f"line {number} is no JSON; expected what --report-frames wrote")
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror})") from error


def parsed(text: str, path: Path, otherwise: str) -> Any:
    """The values of `text`, which is JSON in the file `path`; `MediaError` says `otherwise`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MediaError(path, otherwise) from error
