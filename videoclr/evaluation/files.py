"""`videoclr eval`: clips in, a table out, and where wanted a JSON and a CSV that are complete or absent."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TextIO

from videoclr import __version__
from videoclr.config import Config, or_defaults
from videoclr.errors import ConfigError, MediaError
from videoclr.evaluation.meter import Meter, Row
from videoclr.evaluation.observer import Judge, Observer
from videoclr.evaluation.table import PER_FACE, Figures, plain
from videoclr.evaluation.views import Finder, frames_of, pictures_in
from videoclr.media.reader import Reader
from videoclr.process import threads
from videoclr.report import report_file, same_file
from videoclr.types import Frame

SMALLEST, LARGEST = 32, 4096
"""Pixels: side of a crop that is measured."""
_NEAR = 0.005
"""How far (relatively) rates may differ that count the same frames: 24 and 23.976."""
_log = logging.getLogger("videoclr.evaluation")


def evaluate(
    clean: str | Path,
    restored: str | Path,
    degraded: str | Path | None = None,
    config: Config | None = None,
    *,
    size: int = 256,
    judge: str | Path | None = None,
    borders: int | None = None,
    json_file: str | Path | None = None,
    csv_file: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Figures:
    """Measure a restored clip, and the degraded one it was made from, against the clean clip.

    Args:
        clean: a file, a printf pattern, or a folder of pictures; so are the others, of the same length and size.
        restored: what a restoration made.
        degraded: what it was made from.
        config: its sections cuts, detect, track, align and blend say how faces are found; the defaults if None.
        size: side of the aligned crops, px.
        judge: a Python file with networks that score (see `videoclr.evaluation.observer`).
        borders: every so many frames of a track there is an anchor or the border of a chunk; see `Meter`.
        json_file: write all figures here.
        csv_file: write the figures of every face in every frame here.
        overwrite: replace these two where they exist.
        progress: called after every frame with the number of frames so far.

    Raises:
        MediaError: a clip cannot be read, has another length or size, or shows no face; a file cannot be written.
        ConfigError: a bad setting, or a judge's file that is none.
        WeightsError: the detector cannot be loaded.
        VideoclrError: the judge's file fails.
    """
    config = or_defaults(config)
    if not SMALLEST <= size <= LARGEST:
        raise ConfigError(f"--size: expected {SMALLEST} to {LARGEST} pixels, got {size}")
    if borders is not None and borders < 2:
        raise ConfigError(f"--borders: expected 2 or more frames, got {borders}")
    if config.track.file is not None:
        _log.warning("$.track.file: is not used; faces are looked for in %s", clean)
    others = {"input": degraded, "restored": restored}
    if json_file is not None and csv_file is not None and same_file(json_file, csv_file):
        raise ConfigError(f"--csv: {csv_file} is the file of --json as well")
    paths = {"clean": clean, **{name: path for name, path in others.items() if path is not None}}
    used = (*(file for path in paths.values() for file in _files_of(path)), judge)
    with ExitStack() as held:
        told = held.enter_context(report_file(json_file, used, overwrite, option="--json"))
        lines = held.enter_context(report_file(csv_file, used, overwrite, option="--csv"))
        held.enter_context(threads(config.runtime.threads))
        _warn_of_rates(paths)
        finder = Finder(config, size)
        meter = Meter(Observer(finder.parts.detector, Judge(judge) if judge else None), borders)
        frames = {name: held.enter_context(closing(frames_of(path))) for name, path in paths.items()}
        views = finder.views(_counted(frames.pop("clean"), progress), frames, {name: str(path) for name, path in paths.items()})
        rows = meter.rows(held.enter_context(closing(views)))
        with lines.stream() if lines is not None else nullcontext() as out:
            write_csv(out, rows)
            figures = meter.figures()
            if not figures.counts["faces"]:
                raise MediaError(clean, "shows no face to measure; try --set detect.threshold=0.5 or detect.min_size=16")
        if told is not None:
            about = {"version": __version__, "clips": {n: str(p) for n, p in paths.items()}, "size": size, "borders": borders}
            told.write({"measured": about, **figures.as_dict(), "settings": config.model_dump(mode="json")})
    return figures


def _files_of(clip: str | Path) -> Iterator[str | Path]:
    """The clip and, of a folder, what is read of it."""
    yield clip
    if Path(clip).is_dir():
        yield from pictures_in(Path(clip))


def _warn_of_rates(paths: Mapping[str, str | Path]) -> None:
    """Tell of films of other rates: frames are compared one by one, whenever they are shown."""
    rates = {name: _rate_of(path) for name, path in paths.items()}
    clean = rates.pop("clean")
    for name, rate in rates.items():
        if rate and clean and abs(rate / clean - 1) > _NEAR:
            has, other = f"{float(rate):.6g}", f"{float(clean):.6g}"
            told = f"has {has} frames a second, and {paths['clean']} has {other}; frames are compared one by one"
            _log.warning("%s: %s", paths[name], told)


def _rate_of(path: str | Path) -> Fraction | None:
    """Frames a second of a film; None of pictures, pipes, and what does not say."""
    if not Path(path).is_file():
        return None
    with Reader(path) as reader:
        return None if reader.is_still else reader.info.frame_rate


def _counted(frames: Iterable[Frame], progress: Callable[[int], None] | None) -> Iterator[Frame]:
    for number, frame in enumerate(frames, 1):
        yield frame
        if progress is not None:
            progress(number)


def write_csv(out: TextIO | None, rows: Iterable[Row], **more: str) -> None:
    """A line for every version of every face in every frame; what was not measured is empty.

    Args:
        out: where to; None measures without writing.
        rows: of `Meter.rows`.
        more: further columns with the same value in every line; a file that is written in parts has its head already.
    """
    writer = None if out is None else csv.writer(out, lineterminator="\n")
    if writer is not None and out is not None and out.tell() == 0:
        writer.writerow([*more, *COLUMNS, *PER_FACE])
    for row in rows:
        if writer is not None:
            values = plain(row.values)
            where = [row.frame, f"{row.time:.6f}", row.shot, row.track, row.clip, int(row.border)]
            writer.writerow([*more.values(), *where, *(values.get(name, "") for name in PER_FACE)])


COLUMNS = ("frame", "time", "shot", "track", "clip", "border")
"""Of the CSV, before the metrics."""
