"""Which moments are worth a look: where a track is trusted least, where it is least alike, and its middle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from videoclr.errors import MediaError

PIECES = 600
"""Of a film, at most, whose lowest trust is shown."""
_APART = Fraction(1, 4)
"""Seconds: of two moments that are nearer, one is shown."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A face in one frame, as `--report-frames` tells of it."""

    frame: int
    time: Fraction
    """Seconds, on the clock of the input."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, pixels."""
    trust: float
    """Confidence times trusted share, 0..1: how much of the restoration is shown."""
    similarity: float | None
    """To the track's identity, a cosine."""
    reasons: tuple[str, ...]
    """What spoke against the restoration."""

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Moment:
        """Raises `LookupError`, `TypeError` or `ValueError` where the line is none of a face."""
        left, top, right, bottom = (float(value) for value in line["box"])
        similarity = line["similarity"]
        return cls(
            frame=int(line["frame"]),
            time=Fraction(line["time"]),
            box=(left, top, right, bottom),
            trust=float(line["confidence"]) * float(line["trusted_share"]),
            similarity=None if similarity is None else float(similarity),
            reasons=tuple(line["reasons"]),
        )

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
    reasons: Counter[str] = field(default_factory=Counter)
    """What spoke against how many of its faces."""
    pieces: dict[int, float] = field(default_factory=dict)
    """Piece of the film -> lowest trust in it."""

    @classmethod
    def begun_by(cls, line: Mapping[str, Any], moment: Moment) -> TrackView:
        """Of the track that `line` is the first face of, before that is counted."""
        return cls(int(line["track"]), int(line["shot"]), moment, moment, moment, moment, moment)

    def add(self, line: Mapping[str, Any], moment: Moment, middle: Fraction, piece: int) -> None:
        """Count a face that lies in `piece` of the film, in a track whose middle is at the time `middle`."""
        self.person, self.name = line["person"], line["name"]
        self.faces += 1
        self.trust += moment.trust
        if moment.similarity is not None:
            self.similarity += moment.similarity
            self.measured += 1
        self.reasons.update(moment.reasons)
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
    for number, line in enumerate(_lines(lines), 1):
        try:
            track, moment = int(line["track"]), Moment.of_line(line)
            view = found.setdefault(track, TrackView.begun_by(line, moment))
            view.add(line, moment, middles.get(track, moment.time), moment.frame * pieces_of(frames) // max(1, frames))
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            raise MediaError(lines, f"line {number} tells of no face; expected what --report-frames wrote") from error
    return sorted(found.values())


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from _parsed(file, path)
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror})") from error


def _parsed(file: Iterable[str], path: Path) -> Iterator[Mapping[str, Any]]:
    for number, text in enumerate(file, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MediaError(path, f"line {number} is no JSON; expected what --report-frames wrote") from error
        yield line
