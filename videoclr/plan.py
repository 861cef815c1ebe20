"""`videoclr plan`: how long a restoration will take here, and how much room it needs, before it is begun.

Pieces from all over the film are restored with the very settings, and thrown away. What they took is what the rest will take: no
table of machines, no guess at what a face costs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from videoclr import __version__
from videoclr.config import Config, or_defaults
from videoclr.errors import ConfigError, EmptyPartError, MediaError, VideoclrError
from videoclr.jobs import open_reader, open_writer, restore_video
from videoclr.media.spool import check_scratch
from videoclr.pipeline import Pipeline, slowest
from videoclr.references import is_number, people_of
from videoclr.report import report_file

PIECES = 6
SECONDS = 1.0
_LEAST = 8
"""Frames of a piece."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the film that was restored to see what it takes."""

    start: float
    """Seconds from the beginning of the film."""
    frames: int
    faces: int
    """Restored, counted in every frame."""
    seconds: float
    """That it took."""
    seconds_per_stage: Mapping[str, float]
    """See `Report`."""
    size: int
    """Bytes of the result."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job will come to."""

    source: str
    frames: int
    """Of the whole job, as the container tells."""
    duration: float
    """Of the whole job, seconds of film."""
    pieces: tuple[Piece, ...]
    warnings: tuple[str, ...] = ()
    """What the job has and the pieces had not."""

    @property
    def frames_tried(self) -> int:
        """In all pieces."""
        return sum(piece.frames for piece in self.pieces)

    @property
    def faces_per_frame(self) -> float:
        """On average."""
        return sum(piece.faces for piece in self.pieces) / self.frames_tried

    @property
    def seconds(self) -> tuple[float, float, float]:
        """That the job will take: about, at least, and at most (two standard errors of what the pieces took for a frame)."""
        return self._of_the_whole([piece.seconds for piece in self.pieces])

    @property
    def size(self) -> tuple[float, float, float]:
        """Bytes of the result without covers and attachments, likewise.

        Short pieces have more key frames than a film, so less is more likely than more.
        """
        return self._of_the_whole([piece.size for piece in self.pieces])

    @property
    def slowest(self) -> str | None:
        """The stage that the others wait for."""
        total: Counter[str] = Counter()
        for piece in self.pieces:
            total.update(piece.seconds_per_stage)
        return slowest(total)

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        about = {name: dict(zip(("about", "least", "most"), getattr(self, name), strict=True)) for name in ("seconds", "size")}
        more = {"faces_per_frame": self.faces_per_frame, "slowest": self.slowest, "version": __version__}
        return {**dataclasses.asdict(self), **about, **more}

    def _of_the_whole(self, values: Sequence[float]) -> tuple[float, float, float]:
        mean = sum(values) / self.frames_tried
        each = [value / piece.frames for value, piece in zip(values, self.pieces, strict=True)]
        off = 2 * statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 else 0.0
        if self.frames_tried >= self.frames:
            off = 0.0
        return self.frames * mean, self.frames * max(mean - off, min(each)), self.frames * (mean + off)


def plan(
    source: str | Path,
    target: str | Path,
    config: Config | None = None,
    *,
    pieces: int = PIECES,
    seconds: float = SECONDS,
    aligned: bool = False,
    json_file: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Try pieces of a film.

    Args:
        source: a file, or a printf pattern of pictures.
        target: where the result would go; nothing is written there.
        config: settings of the job; the defaults if None. Its part of the film is what is planned.
        pieces: how many.
        seconds: of film in each.
        aligned: as of `restore_video`.
        json_file: write the plan here.
        overwrite: the job may replace `target`, and the plan `json_file`, where they exist.
        progress: told how many pieces are done, and of how many.

    Raises:
        ConfigError: a pipe, which can be read only once; or a bad setting.
        MediaError: `source` cannot be read, is a still, or does not tell how long it is; or what `restore_video` would say, of
            `target` as well.
        WeightsError: the networks cannot be loaded.
        RestorationError: as of `restore_video`.
    """
    config = or_defaults(config)
    if str(source) == "-":
        raise ConfigError("plan: a pipe can be read only once; name a file")
    if pieces < 1 or not 0 < seconds < math.inf:
        raise ConfigError(f"plan: expected at least one piece of more than 0 s, got {pieces} of {seconds} s")
    check_scratch(config.runtime.scratch)
    with report_file(json_file, (source, target, *config.files()), overwrite, option="--json") as place:
        with open_reader(source, config) as reader:
            count, rate, still = reader.info.frame_count, reader.info.frame_rate, reader.is_still
            first = Fraction(0) if reader.start is None else reader.start - reader.begin
            if still:
                raise MediaError(source, "is one picture; there is nothing to plan")
            if not count or not rate:
                raise MediaError(source, "does not tell how long it is; restore a part of it (--end) to see what it takes")
            open_writer(target, reader, config, overwrite)
        length = min(count, max(_LEAST, round(seconds * rate)))
        pieces = min(pieces, max(1, count // length))
        tried, refused = [], None
        pipeline = Pipeline(config)
        config, warnings = _without_numbers(pipeline.config, pipeline.cast.names)
        pipeline = dataclasses.replace(pipeline, config=config)
        for number in range(pieces):
            if progress is not None:
                progress(number, pieces)
            middle = count * (2 * number + 1) // (2 * pieces)
            start = first + max(0, min(middle - length // 2, count - length)) / rate
            try:
                tried.append(_piece(source, target, start, length / rate, pipeline, aligned))
            except EmptyPartError as error:  # pictures that lie far apart
                refused = error
        if refused is not None and not tried:
            raise refused
        made = Plan(str(source), count, float(count / rate), tuple(tried), warnings)
        if place is not None:
            place.write(made.as_dict())
    return made


def _without_numbers(config: Config, known: Collection[str]) -> tuple[Config, tuple[str, ...]]:
    """Without the numbers of tracks in `identify.only` and `leave`, which are others in every piece; and what to say of it.

    Args:
        config: of the job.
        known: names of people from a file.
    """
    section = config.identify
    if config.track.file is not None or not (section.only or section.leave):
        return config, ()
    names = {*people_of(section.references, section.only, section.leave, known).pictures, *known}
    kept = {name: [one for one in getattr(section, name) if not is_number(one, names)] for name in ("only", "leave")}
    left_out = [one for name in kept for one in getattr(section, name) if is_number(one, names)]
    if not left_out:
        return config, ()
    told = (
        f"plan: every piece numbers its tracks anew, so --only and --leave of tracks {', '.join(left_out)} are left out of it; "
        "save the film's tracks (videoclr faces --save-tracks) and name them with --tracks"
    )
    return config.model_copy(update={"identify": section.model_copy(update=kept)}), (told,)


def _piece(source: str | Path, target: str | Path, start: Fraction, length: Fraction, pipeline: Pipeline, aligned: bool) -> Piece:
    """Restore `length` seconds from `start`, and throw the result away."""
    asked = pipeline.config
    once = [*asked.media.drop, *(kind for kind in ("attachments", "covers") if kind not in asked.media.drop)]  # in no piece
    # By times, a little before those of pictures: a number of frames would be counted from the front of the film.
    begin, end = (f"{max(0.0, float(time) - 0.002):.6f}" for time in (start, start + length))
    part = (f'media.start="{begin}"', f'media.end="{end}"', "media.frames=null")
    config = asked.override(*part, f"media.drop={json.dumps(once)}")
    with tempfile.TemporaryDirectory(prefix="videoclr-plan-", dir=config.runtime.scratch) as folder:
        name = f"piece.{config.media.container or 'nut'}" if str(target) == "-" else Path(target).name
        place = Path(folder, name)
        try:
            done = restore_video(source, place, pipeline=dataclasses.replace(pipeline, config=config), aligned=aligned)
        except VideoclrError as error:  # whoever asked knows of no other file than this one
            error.args = (str(error).replace(str(place), str(target)),)
            if isinstance(error, MediaError):
                error.path = error.path.replace(str(place), str(target))
            raise
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return Piece(float(start), done.frames_out, done.faces_restored, done.seconds, done.seconds_per_stage, size)
