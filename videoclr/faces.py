"""`videoclr faces`: who is to be seen in a film, and where, before anything is restored.

The same decoder, cuts, detector, tracker and recogniser as in a restoration, so tracks and people have the same numbers there:
`identify.only` and `identify.leave` take them, and the pictures as well.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from videoclr import __version__
from videoclr.cast import Cast
from videoclr.config import Config, or_defaults
from videoclr.errors import ConfigError, MediaError
from videoclr.jobs import Progress, ProgressCallback, make_folder, open_reader
from videoclr.media.faults import refuse_nul
from videoclr.media.target import behind_link
from videoclr.pipeline import Pipeline, RunLog, TrackSummary, recognizer_of
from videoclr.pixels import quantized, to_array
from videoclr.process import threads
from videoclr.report import plain, report_file
from videoclr.shelf import Listed, Shelf
from videoclr.tracks import Head, told
from videoclr.types import FaceCrop

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
_BETTER = 1.1
"""Factor by which a view must show a face better to take the place of another: a picture is written each time."""
_NOT_NEEDED = (
    "restore.use=unchanged",
    "restore.options={}",
    "gate.use=none",
    "gate.options={}",
    "blend.use=feather",
    "blend.options={}",
)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one film."""

    source: str
    """As the user wrote it."""
    frames: int
    """Frames decoded."""
    faces: int
    """Counted in every frame."""
    shots: int
    """Stretches between cuts."""
    tracks: Shelf[TrackSummary]
    """In the order of their coming; `passed` counts the faces."""
    warnings: list[str]
    """What was not as expected, one line each."""
    seconds: float
    """Wall time without loading the networks."""

    @property
    def people(self) -> int:
        """How many there are among the tracks; somebody who was not recognised counts again."""
        return len({track.person for track in self.tracks if track.person is not None})


def picture_of(track: int) -> str:
    """Name of a track's picture."""
    return f"track{track:05d}.jpg"


def find_faces(
    source: str | Path,
    folder: str | Path | None = None,
    config: Config | None = None,
    *,
    json_file: str | Path | None = None,
    tracks_file: str | Path | None = None,
    people_file: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Found:
    """Find, follow and recognise the faces of a film, and restore none.

    Args:
        source: as for `restore_video`.
        folder: put a picture of every track here: its best view, cut out and aligned. New, or empty.
        config: settings; the defaults if None. What restores, judges and blends is not used.
        json_file: write what was found here.
        tracks_file: write every face's place here, for `track.file`; see `videoclr.tracks`.
        people_file: write everybody here, for `identify.people`; see `videoclr.cast`. Those of `identify.people` are among them.
        overwrite: replace `json_file`, `tracks_file` and `people_file` where they exist.
        progress: called after every frame; its `faces` are those that were found.

    Raises:
        ConfigError: a bad setting, or a file that would replace the input.
        MediaError: `source` cannot be read, or `folder` or a file cannot be written.
        WeightsError: the networks cannot be loaded.
    """
    config = or_defaults(config).override(*_NOT_NEEDED)
    log = RunLog()
    best: dict[int, float] = {}
    refuse_nul(folder)
    with ExitStack() as stack:
        used = (source, *config.files())
        for option, file in (("--json", json_file), ("--save-tracks", tracks_file), ("--save-people", people_file)):
            if folder is not None and file is not None and Path(folder).resolve() in Path(file).resolve().parents:
                raise ConfigError(f"{option}: {file} lies in {folder}, which is made new for the pictures; put it beside that")
        place = stack.enter_context(report_file(json_file, used, overwrite, option="--json"))
        lines = stack.enter_context(report_file(tracks_file, (*used, json_file), overwrite, option="--save-tracks"))
        people = stack.enter_context(report_file(people_file, (*used, json_file, tracks_file), overwrite, option="--save-people"))
        pictures = stack.enter_context(_new_folder(folder))
        reader = stack.enter_context(open_reader(source, config))
        stack.enter_context(threads(config.runtime.threads))
        pipeline = Pipeline(config)
        if lines is not None:
            info, media = reader.info, config.media
            head = {"width": info.width, "height": info.height, "start": media.start, "start_number": media.input.start_number}
            lines.add(Head(videoclr="tracks", version=1, **head).model_dump())
        if people is not None and pipeline.recognizer is None:
            raise ConfigError("--save-people: a recognizer is needed to know people again")
        began, seen = time.perf_counter(), 0
        cast: list[Cast] = []
        met = None if people is None else cast.append
        with closing(pipeline.find_faces(reader.frames(), log, met=met)) as found:  # type: ignore[type-var]
            for number, faces in enumerate(found, 1):
                if lines is not None and faces.faces:
                    lines.add(told(faces))
                for crop in faces.faces:
                    if folder is not None and pictures is not None:
                        _show(crop, best, pictures, folder)
                if progress is not None:
                    seconds = time.perf_counter() - began
                    seen += len(faces.faces)
                    so_far = Progress(str(source), number, reader.info.frame_count, seen, seconds, log.seconds_per_stage)
                    progress(so_far)
        done = Found(
            source=str(source),
            frames=log.frames_in,
            faces=sum(track.passed for track in log.tracks),
            shots=log.shots,
            tracks=log.tracks,
            warnings=[*reader.warnings, *log.warnings],
            seconds=time.perf_counter() - began,
        )
        if lines is not None:
            lines.finish()
        if people is not None:
            people.write(cast[0].as_json(recognizer_of(config)))
        if place is not None:
            place.write(_told(done, config, pictures is not None))
    return done


@contextmanager
def _new_folder(folder: str | Path | None) -> Iterator[Path | None]:
    """A place for pictures that gets the name `folder` when the block ends well, and is gone otherwise."""
    if folder is None:
        yield None
        return
    target = Path(behind_link(folder))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise MediaError(folder, "exists already and is not an empty folder; choose another name for the pictures")
    part = target.with_name(target.name + ".part")
    make_folder(target.parent)
    try:
        part.mkdir()
    except FileExistsError as error:
        raise MediaError(part, "is there already, of a run that was killed or of one that goes on; remove it") from error
    except OSError as error:
        raise MediaError(folder, f"cannot be made a folder ({error.strerror})") from error
    try:
        yield part
        try:
            part.replace(target)
        except OSError as error:
            raise MediaError(folder, f"cannot be made a folder ({error.strerror})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _told(found: Found, config: Config, pictured: bool) -> dict[str, Any]:
    """What the JSON file holds."""

    def one(track: TrackSummary) -> dict[str, Any]:
        return plain({**{name: asdict(track)[name] for name in _SAID}, "faces": track.passed} | _pictured(track, pictured))  # type: ignore[no-any-return]

    return {
        "source": found.source,
        "frames": found.frames,
        "faces": found.faces,
        "shots": found.shots,
        "people": found.people,
        "tracks": Listed(found.tracks, one),
        "warnings": found.warnings,
        "seconds": found.seconds,
        "version": __version__,
        "settings": config.model_dump(mode="json", include={"media", "cuts", "detect", "track", "align", "identify"}),
    }


_SAID = (
    "track",
    "person",
    "name",
    "person_similarity",
    "shot",
    "first_frame",
    "first_time",
    "last_frame",
    "last_time",
    "mean_size",
)
"""Of a `TrackSummary`."""


def _pictured(track: TrackSummary, pictured: bool) -> dict[str, str]:
    return {"picture": picture_of(track.track)} if pictured else {}


def _show(crop: FaceCrop, best: dict[int, float], part: Path, folder: str | Path) -> None:
    """Keep the picture of a crop in `part`, which will be `folder`, where it shows its track better than those before."""
    from videoclr.stages.identify import quality

    track, value = crop.face.track, quality(crop)
    if value <= _BETTER * best.get(track, -1.0):
        return
    best[track] = value
    picture = np.ascontiguousarray(quantized(to_array(crop.image), np.uint8)[..., ::-1])
    try:
        (part / picture_of(track)).write_bytes(cv2.imencode(".jpg", picture, _JPEG)[1].tobytes())
    except OSError as error:
        raise MediaError(Path(folder) / picture_of(track), f"cannot be written ({error.strerror})") from error


_COLUMNS = ("track", "person", "name", "shot", "from", "to", "faces", "size")


def table(found: Found) -> Iterator[tuple[str, ...]]:
    """A head, and a row for every track."""
    yield _COLUMNS
    for track in found.tracks:
        person = "-" if track.person is None else str(track.person)
        places = (_clock(track.first_time), _clock(track.last_time))
        yield str(track.track), person, track.name or "-", str(track.shot), *places, str(track.passed), f"{track.mean_size:.0f}"


def _clock(time: Fraction) -> str:
    """`0:01:02.500`"""
    thousandths = round(time * 1000)
    seconds, rest = divmod(thousandths, 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"
