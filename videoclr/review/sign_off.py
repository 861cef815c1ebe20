"""From two reports and two films to a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.report import report_file, same_file
from videoclr.review.moments import TrackView, pieces_of, views
from videoclr.review.page import Head, page
from videoclr.review.pictures import pairs, places

MOST = 200
"""Tracks that are shown, at most: a page of 50 MB opens slowly."""


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
    told = _report(Path(report))
    before, after = str(source or told["source"]), str(restored or told["target"])
    if any(same_file(target, other) for other in (report, lines, before, after)):
        raise ConfigError(f"--to: {target} is one of the files of the review; choose another name")
    for path, option in ((before, "--input"), (after, "--output")):
        if path == "-":
            raise ConfigError(f"{option}: the run read or wrote a pipe; name a file that holds the same")
    config = Config.model_validate(told["settings"])
    if config.media.deliver != "video":
        raise ConfigError(f"review: {after} is no restored video but of the kind {config.media.deliver}")
    with report_file(target, (), overwrite, option="--to") as place:
        assert place is not None
        found = _views(told, Path(lines), report)
        shown = found[:most]
        moments = [moment for view in shown for _, moment in view.moments()]
        pictures = pairs(before, after, config, moments, progress)
        named = places(before, config, [*moments, *(end for view in shown for end in (view.first, view.last))])
        pieces = page(
            _head(told, found, before, after),
            shown,
            len(found) - len(shown),
            pictures,
            named,
            _lowest(found),
            pieces_of(told["frames_out"]),
        )
        with place.stream() as out:
            out.writelines(pieces)
    return Reviewed(Path(target), len(found), len(shown), 2 * len(pictures))


def _report(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise MediaError(path, "is no JSON; expected what --report wrote") from error
    if not isinstance(told, dict) or not {"source", "target", "settings", "tracks", "warnings", "version"} <= told.keys():
        what = (
            "holds the reports of many files; review one film"
            if isinstance(told, dict) and "files" in told
            else "is no report of a film"
        )
        raise MediaError(path, f"{what}; expected what --report wrote")
    return told


def _views(told: Mapping[str, Any], lines: Path, report: str | Path) -> list[TrackView]:
    spans = {int(one["track"]): (Fraction(one["first_time"]), Fraction(one["last_time"])) for one in told["tracks"]}
    found = views(lines, {track: (first + last) / 2 for track, (first, last) in spans.items()}, int(told["frames_out"]))
    counts = {int(one["track"]): int(one["frames"]) for one in told["tracks"] if one["frames"]}
    fitting = counts == {view.track: view.faces for view in found}
    if not fitting or any(
        not first <= view.first.time <= view.last.time <= last for view in found for first, last in [spans[view.track]]
    ):
        raise MediaError(lines, f"tells of other faces than {report}; name both files of one run")
    return found


def _head(told: Mapping[str, Any], found: list[TrackView], source: str, target: str) -> Head:
    reasons = sorted({reason for view in found for reason in view.reasons})
    doubted = sum(view.least_trusted.trust < 0.5 for view in found)
    facts = [
        ("frames", f"{told['frames_out']:,}"),
        ("faces restored", f"{told['faces_restored']:,} in {len(found)} tracks, {told['shots']} shots"),
        ("tracks trusted less than half somewhere", str(doubted)),
        ("what spoke against restorations", ", ".join(reasons) or "nothing"),
    ]
    return Head(source, target, str(told["version"]), facts, [str(text) for text in told["warnings"]])


def _lowest(found: Iterable[TrackView]) -> dict[int, float]:
    lowest: dict[int, float] = {}
    for view in found:
        for piece, trust in view.pieces.items():
            lowest[piece] = min(trust, lowest.get(piece, 1.0))
    return lowest
