"""From two reports and two films to a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pydantic import ValidationError

from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.media.faults import refuse_nul
from videoclr.report import report_file, same_file
from videoclr.review.moments import Count, Text, Told, TrackView, parsed, pieces_of, views
from videoclr.review.page import Head, page
from videoclr.review.pictures import pairs, places
from videoclr.validation import first_fault

MOST = 200
"""Tracks that are shown, at most: a page of 50 MB opens slowly."""
_ROUNDED = 1e-4
"""By which a mean of what lines tell, with four digits, may be off."""


class _Track(Told):
    track: int
    shot: int
    frames: Count
    passed: Count
    first_time: Fraction
    last_time: Fraction
    mean_size: float
    mean_confidence: float
    mean_similarity: float | None
    measured: Count
    reasons: dict[str, int]

    def fits(self, view: TrackView) -> bool:
        """Whether this is what the lines of `view` come to."""
        similarity = view.mean_similarity
        sized = abs(view.size / view.faces - self.mean_size) <= 0.02 + 0.005 * self.mean_size  # boxes have two digits
        return (
            (view.shot, view.faces, view.measured, view.reasons) == (self.shot, self.frames, self.measured, self.reasons)
            and self.first_time <= view.first.time <= view.last.time <= self.last_time
            and abs(view.confidence / view.faces - self.mean_confidence) <= _ROUNDED
            and abs((similarity or 0.0) - (self.mean_similarity or 0.0)) <= _ROUNDED
            and (sized or self.passed > 0)
        )


class _Source(Told):
    frame_count: Count | None


class _Report(Told):
    source: Text
    target: Text
    frames_out: Count
    faces_restored: Count
    tracks: list[_Track]
    shots: Count
    warnings: list[Text]
    version: Text
    settings: Config
    source_info: _Source


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a page holds."""

    page: Path
    tracks: int
    shown: int
    pictures: int


def review(
    report: str | Path,
    lines: str | Path,
    target: str | Path,
    *,
    source: str | Path | None = None,
    restored: str | Path | None = None,
    most: int = MOST,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Reviewed:
    """Make a page of what `restore_video` wrote with `report` and `report_frames`.

    Args:
        report: the report of the film.
        lines: what was written of every face.
        target: the page, an HTML file.
        source: the input, where it is not where the report says.
        restored: the finished film, likewise.
        most: tracks that are shown; those that want a look come first.
        overwrite: replace `target` where it exists.
        progress: told how many frames are done, and of how many.

    Raises:
        ConfigError: a page that would replace one of the files.
        MediaError: a file cannot be read or written, or they do not belong together.
    """
    if most < 1:
        raise ConfigError(f"--most: expected 1 or more tracks, got {most}")
    refuse_nul(report, lines)
    told = _report(Path(report))
    before, after = str(source or told.source), str(restored or told.target)
    if any(same_file(target, other) for other in (report, lines, before, after)):
        raise ConfigError(f"--to: {target} is one of the files of the review; choose another name")
    for path, option in ((before, "--input"), (after, "--output")):
        if path == "-":
            raise ConfigError(f"{option}: the run read or wrote a pipe; name a file that holds the same")
    config = told.settings
    if config.media.deliver != "video":
        raise ConfigError(f"review: {after} is no restored video but of the kind {config.media.deliver}")
    with report_file(target, (), overwrite, option="--to") as place:
        assert place is not None
        found = _views(told, Path(lines), report)
        counts = told.source_info.frame_count, told.frames_out
        shown = found[:most]
        moments = [moment for view in shown for _, moment in view.moments()]
        try:
            pictures = pairs(before, after, config, moments, counts, progress)
        except MediaError as error:
            for path, given, option in ((before, source, "--input"), (after, restored, "--output")):
                if error.path == path and not given and not Path(path).exists():
                    error.add_note(f"the report names it so; where it was moved, say so with {option}")
            raise
        named = places(before, config, [*moments, *(end for view in shown for end in (view.first, view.last))])
        pieces = page(
            _head(told, found, before, after),
            shown,
            len(found) - len(shown),
            pictures,
            named,
            _lowest(found),
            pieces_of(told.frames_out),
        )
        with place.stream() as out:
            out.writelines(pieces)
    return Reviewed(Path(target), len(found), len(shown), 2 * len(pictures))


def _report(path: Path) -> _Report:
    expected = "expected what --report wrote"
    try:
        values = parsed(path.read_text(encoding="utf-8-sig", errors="replace"), path, f"is no JSON; {expected}")
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror})") from error
    if isinstance(values, dict) and "files" in values:
        raise MediaError(path, f"holds the reports of many files; review one film; {expected}")
    if not isinstance(values, dict) or not {"source", "target", "settings", "tracks"} <= values.keys():
        raise MediaError(path, f"is no report of a film; {expected}")
    try:
        return _Report.model_validate(values)
    except (ValidationError, ConfigError) as error:  # the second of its settings
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        what = f"is damaged, or of another release of videoclr ({fault}); review it with the release that wrote it"
        raise MediaError(path, what) from error


def _views(told: _Report, lines: Path, report: str | Path) -> list[TrackView]:
    """What the lines tell of every track. `MediaError` where that is not what the report tells."""
    tracks = {one.track: one for one in told.tracks if one.frames}
    middles = {track: (one.first_time + one.last_time) / 2 for track, one in tracks.items()}
    found = views(lines, middles, told.frames_out)
    pieces = pieces_of(told.frames_out)
    if tracks.keys() != {view.track for view in found} or not all(
        tracks[view.track].fits(view) and max(view.pieces) < pieces for view in found
    ):
        raise MediaError(lines, f"tells of other faces than {report}; name both files of one run")
    return found


def _head(told: _Report, found: list[TrackView], source: str, target: str) -> Head:
    reasons = sorted({reason for view in found for reason in view.reasons})
    strength = told.settings.blend.strength
    doubted = sum(view.least_trusted.trust < 0.5 for view in found)
    facts = [
        ("frames", f"{told.frames_out:,}"),
        ("faces restored", f"{told.faces_restored:,} in {len(found)} tracks, {told.shots} shots"),
        *([("strength of all faces", f"{strength:.2f}")] if strength < 1 else []),
        ("tracks trusted less than half somewhere", str(doubted)),
        ("what spoke against restorations", ", ".join(reasons) or "nothing"),
    ]
    return Head(source, target, told.version, facts, told.warnings)


def _lowest(found: Iterable[TrackView]) -> dict[int, float]:
    lowest: dict[int, float] = {}
    for view in found:
        for piece, trust in view.pieces.items():
            lowest[piece] = min(trust, lowest.get(piece, 1.0))
    return lowest
