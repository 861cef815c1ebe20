"""`--fail-on`: conditions under which a result wants somebody's eyes before it is used.

`faces<1` holds where nothing was restored, `warnings>0` where anything was not as expected, `confidence<0.5` where there is a track
that is trusted less.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from videoclr.errors import ConfigError
from videoclr.report import Report

_OF_ALL: dict[str, Callable[[Report], int]] = {
    "faces": lambda report: report.faces_restored,
    "tracks": lambda report: len(report.tracks),
    "shots": lambda report: report.shots,
    "warnings": lambda report: len(report.warnings),
}
_OF_A_TRACK = {"confidence": "mean_confidence", "similarity": "mean_similarity", "size": "mean_size"}
"""Name here -> in a track of the report."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A figure of a report, and the limit beyond which it is not good."""

    name: str
    """`faces`, `tracks`, `shots` or `warnings` of the whole; `confidence`, `similarity` or `size` of every restored track."""
    below: bool
    """Whether values below the limit are meant, or those above it."""
    limit: float
    """In the figure's own unit."""

    @classmethod
    def of(cls, text: str) -> Condition:
        """From `name<number` or `name>number`.

        Raises:
            ConfigError: it is neither, or the name is unknown.
        """
        found = re.fullmatch(r"\s*(\w+)\s*([<>])\s*(\S+)\s*", text)
        known = (*_OF_ALL, *_OF_A_TRACK)
        if found is None or found[1] not in known:
            raise ConfigError(f"--fail-on: {text!r}: expected one of {', '.join(known)}, then < or >, then a number")
        if found[3].startswith("="):
            raise ConfigError(f"--fail-on: {text!r}: expected < or > without ={_instead(found[1], found[2], found[3][1:])}")
        try:
            limit = float(found[3])
        except ValueError:
            limit = math.nan
        if math.isnan(limit):
            raise ConfigError(f"--fail-on: {text!r}: {found[3]!r} is not a number")
        return cls(found[1], found[2] == "<", limit)

    def __str__(self) -> str:
        """As it was written."""
        return f"{self.name} {'<' if self.below else '>'} {self.limit:g}"

    def holds(self, value: float | None) -> bool:
        """Whether a figure is beyond the limit; one that was not measured is not."""
        return value is not None and (value < self.limit if self.below else value > self.limit)


def objections(report: Report, conditions: Sequence[Condition]) -> Iterator[str]:
    """What speaks against a result, a line each."""
    for condition in conditions:
        if condition.name in _OF_ALL and condition.holds(value := _OF_ALL[condition.name](report)):
            yield f"{condition.name} {value}, and --fail-on says {condition}"
    of_tracks = [condition for condition in conditions if condition.name in _OF_A_TRACK]
    for track in report.tracks if of_tracks else ():
        for condition in of_tracks:
            value = track[_OF_A_TRACK[condition.name]]
            if track["frames"] and condition.holds(value):
                yield f"track {track['track']}, {_places(track)}: {condition.name} {value:.3g}, and --fail-on says {condition}"


def _instead(name: str, sign: str, number: str) -> str:
    """What says the same without an equals sign, of figures that are counted."""
    if name not in _OF_ALL or not re.fullmatch(r"\d{1,9}", number):
        return ""
    return f"; {name}{sign}{int(number) + (1 if sign == '<' else -1)} says the same"


def _places(track: dict[str, Any]) -> str:
    return f"frames {track['first_frame']} to {track['last_frame']}"
