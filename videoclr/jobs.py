"""One file, or many, from decoding to the report.

    report = restore_video("in.mp4", "out.mp4", Config().override("restore.steps=8"))

The `with` blocks own the order of closing: the pipeline's threads stop first, then the writer finishes the file (or
removes its `.part` if anything was raised, Ctrl-C included), then the reader closes.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from videoclr import __version__
from videoclr.cast import Cast
from videoclr.config import Config, or_defaults
from videoclr.errors import ConfigError, DeviceLostError, MediaError, ResumeError, VideoclrError, WeightsError
from videoclr.ledger import Finished, Ledger, clear_up, fingerprint, folder_of, libraries
from videoclr.media.faults import explained, refuse_nul
from videoclr.media.opening import Limits, Opening
from videoclr.media.reader import Reader
from videoclr.media.source import is_pattern, matching, numbered
from videoclr.media.splice import Tally
from videoclr.media.target import CONTAINERS, READ_ONLY, STILLS, check_ending
from videoclr.media.writer import Writer
from videoclr.models import store, weights
from videoclr.pipeline import Pipeline, RunLog, recognizer_of, slowest
from videoclr.process import Stderr, threads
from videoclr.provenance import provenance
from videoclr.references import people_of
from videoclr.report import Report, check_report, is_of_several, plain, report_file, same_file, spare_inputs
from videoclr.resume import Restoration, join, tell
from videoclr.shelf import Listed
from videoclr.shortage import is_of_the_device, of_the_device
from videoclr.types import Frame, VideoInfo

_log = logging.getLogger("videoclr.jobs")

E = TypeVar("E", bound=VideoclrError)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands; given to the callback after every written frame."""

    source: str
    """As the user wrote it."""
    frames: int
    """Written so far."""
    total: int | None
    """An estimate; None where the container does not tell."""
    faces: int
    """Restored so far, counted in every frame."""
    seconds: float
    """Since the first frame was asked for."""
    seconds_per_stage: Mapping[str, float] = field(default_factory=dict)
    """As in the report, so far; it goes on changing."""

    before: int = 0
    """Of `frames`, those that an earlier run had written (`--resume`)."""
    looking: bool = False
    """The film is gone through for the first of two times (`identify.look_first`); `frames` are those that were looked at."""

    @property
    def slowest(self) -> str | None:
        """The stage that the others wait for; see `videoclr.pipeline.slowest`."""
        return slowest(self.seconds_per_stage)

    @property
    def seconds_left(self) -> float | None:
        """Seconds to go at the mean speed so far; None where the total is not known, or nothing is restored yet."""
        written = self.frames - self.before
        if self.total is None or written <= 0 or self.looking:
            return None
        return max(0, self.total - self.frames) * self.seconds / written


ProgressCallback: TypeAlias = Callable[[Progress], None]


def restore_video(
    source: str | Path,
    target: str | Path,
    config: Config | None = None,
    *,
    report: str | Path | None = None,
    report_frames: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    aligned: bool = False,
    resume: bool = False,
    pipeline: Pipeline | None = None,
) -> Report:
    """Restore the faces of a video, a picture, or a numbered sequence of pictures.

    Args:
        source: a file, a printf pattern such as `face%04d.png`, or `-` for standard input.
        target: where the result goes, whole or not at all; `-` for standard output.
        config: settings; the defaults if None.
        report: also write the report as JSON here.
        report_frames: also write a line of JSON for every restored face here: where it is, who, how far it is trusted and why.
        overwrite: replace `target` and the reports where they exist.
        progress: called after every written frame, in the caller's thread.
        aligned: every picture is an aligned face crop already (as FFHQ): it is restored whole.
        resume: write segments that outlive whatever stops the run, and go on where an earlier run of the same job stopped;
            see `videoclr.resume`. For video files.
        pipeline: loaded already, with settings of its own, to be used for several files; instead of `config`.

    Returns:
        What was done.

    Raises:
        ConfigError: a bad setting, or a report that would replace the input or the output.
        MediaError: `source` cannot be read or `target` cannot be written; nothing is left at `target`.
        WeightsError: the networks cannot be loaded.
        RestorationError: a part failed; one that restores, with `runtime.on_error` at `stop`.
        DeviceError: the device's memory does not suffice for one face, or the device failed.
        ResumeError: with `resume`, where what is there belongs to another source, setting or other weights.
        TypeError: `pipeline` is none, or given beside `config`.
    """
    if config is not None and pipeline is not None:
        raise TypeError("a pipeline brings its own settings: give `config` or `pipeline`, not both")
    if pipeline is not None and (isinstance(pipeline, type) or not hasattr(pipeline, "restore_frames")):
        raise TypeError(f"pipeline: expected a Pipeline, got a {type(pipeline).__name__}; settings alone go into `config`")
    config = pipeline.config if pipeline is not None else or_defaults(config)
    job = _Job(source, target, config, overwrite, progress, aligned, pipeline, RunLog())
    return _restored(job, resume, report, report_frames)


def _restored(
    job: _Job,
    resume: bool,
    report: str | Path | None = None,
    report_frames: str | Path | None = None,
    note: Callable[[Report], None] | None = None,
) -> Report:
    """See `restore_video`; `note` is told what was done before anything that was kept is removed."""
    if same_file(job.source, job.target):
        raise MediaError(job.target, "is the input as well; choose another name for the output")
    job.check_look()
    if job.config.track.file is not None and job.aligned:
        raise ConfigError("$.track.file: aligned pictures have no tracks; leave out one of --tracks and --aligned")
    files = job.config.files()
    spare_inputs([(job.source, job.target, files)])
    used = (job.source, job.target, *files)
    # A run that was killed between its report and its last breath wrote that report itself.
    replace_reports = job.overwrite or (resume and os.path.exists(folder_of(job.target)))  # False for a name that is too long
    with (
        report_file(report, used, replace_reports) as place,
        report_file(report_frames, (*used, report), replace_reports, "--report-frames") as lines,
        threads(job.config.runtime.threads),
        # what a part of the user's prints is no picture
        redirect_stdout(Stderr()) if str(job.target) == "-" else nullcontext(),
    ):
        job.log.each_face = None if lines is None else lines.add
        with closing(_resumed(job) if resume else _at_once(job)) as steps:
            done = next(steps)
            if lines is not None and not job.cleared:
                lines.finish()
            if place is not None:
                place.write(done.as_written())
            if note is not None:
                note(done)
            next(steps, None)  # only now nothing is needed any more of what was kept
    return done


@dataclass
class _Job:
    """What `restore_video` was asked for."""

    source: str | Path
    target: str | Path
    config: Config
    overwrite: bool
    progress: ProgressCallback | None
    aligned: bool
    pipeline: Pipeline | None
    log: RunLog
    cleared: bool = False
    """An earlier run wrote everything, the lines of `report_frames` as well, and died while clearing up."""
    pictures: range | None = None
    """Numbers of the pictures that were written; None where the target is one file."""
    among: bool = False
    """It is one of several, whose names and endings nobody chose one by one."""

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for another run to give the same bytes."""
        settings = self.config.model_dump(mode="json", exclude={"runtime"})
        weights = _used(settings)
        return fingerprint(
            self.source, settings, aligned=self.aligned, weights=weights, videoclr=__version__, libraries=libraries()
        )

    def reader(self) -> Reader:
        return open_reader(self.source, self.config)

    def writer(self, reader: Reader) -> Writer:
        return open_writer(self.target, reader, self.config, self.overwrite)

    def loaded(self) -> Pipeline:
        return self.pipeline or Pipeline(self.config)

    def check_look(self) -> None:
        """Whether the film can be gone through twice, where that is asked for.

        Raises:
            ConfigError: it cannot.
        """
        if not self.config.identify.look_first:
            return
        if str(self.source) == "-":
            raise ConfigError(
                "$.identify.look_first: a pipe can be read only once; name a file, or people that are known (--people)"
            )
        if self.aligned:
            raise ConfigError("$.identify.look_first: aligned pictures have no tracks; leave out one of --look-first and --aligned")

    def look(self, pipeline: Pipeline) -> Cast | None:
        """Whom the film shows, where it is to be looked through first."""
        if not self.config.identify.look_first:
            return None
        began = time.perf_counter()
        with self.reader() as reader:
            total = reader.info.frame_count

            def looked(frames: int) -> None:
                if self.progress is not None:
                    self.progress(Progress(str(self.source), frames, total, 0, time.perf_counter() - began, looking=True))

            found = pipeline.look(reader.frames(), looked)
        self.log.seconds_per_stage["look first"] = time.perf_counter() - began
        _log.info("%s: %d people in %d tracks", self.source, len(found.members), len(found.tracks))
        return found

    def report(self, info: VideoInfo, seconds: float, warnings: list[str], tally: Tally | None) -> Report:
        copied = None if tally is None else tally.told()
        if copied is not None and not copied["frames_copied"]:
            warnings = [*warnings, "smart copy: no group of pictures was left unchanged, so all of them were encoded"]
        media = self.config.media
        whole = (media.start, media.end, media.frames) == (None, None, None)
        if self.among and whole and self.log.frames_out == 1 and _becomes_film(self.source, self.target):
            told = "is one picture, and became a film of it; restore such pictures by themselves, with --ending .png"
            _log.warning("%s: %s", self.source, told)
            warnings = [*warnings, told]
        return _report(self.source, self.target, self.config, info, self.log, seconds, warnings, copied)


def _at_once(job: _Job) -> Generator[Report, None, None]:
    """The film in one piece, as it comes out of the pipeline."""
    with job.reader() as reader, job.writer(reader) as writer:
        pipeline = job.loaded()
        started = time.perf_counter()
        cast = job.look(pipeline)
        frames = pipeline.restore_frames(reader.frames(), job.log, aligned=job.aligned, cast=cast)
        _drain(frames, writer, _Watch(str(job.source), reader.info.frame_count, job.log, job.progress))
    job.pictures = writer.pictures
    # after the writer has finished the file: its trailer belongs to the job
    seconds = time.perf_counter() - started
    tally = writer.tally if job.config.media.smart_copy else None
    yield job.report(reader.info, seconds, [*reader.warnings, *writer.warnings], tally)


def _resumed(job: _Job) -> Generator[Report, None, None]:
    """The film in segments, those that are done already left alone; what is kept is removed after the report."""
    with job.reader() as reader, _kept(job) as ledger:
        started = time.perf_counter()
        if ledger.reported is not None and ledger.is_finished():
            job.cleared = True
            yield Report(**ledger.reported)
            ledger.clear(ledger.reported)
            return
        if ledger.is_new() and os.path.exists(job.target) and not job.overwrite:
            told = "exists already, and nothing is left to go on with: if this command made it, it is finished"
            raise MediaError(job.target, f"{told}; else remove it or allow overwriting (--overwrite)")
        warnings: list[str] = []
        total = RunLog(each_face=job.log.each_face, seconds_per_stage=job.log.seconds_per_stage)
        if ledger.is_finished():
            tell(ledger, total)
        else:
            with job.writer(reader) as writer:
                if ledger.complete is None:
                    _restore_rest(job, ledger, reader, writer)
                tell(ledger, total)  # before the film gets its name: the notes may turn out to be damaged
                join(ledger, writer)
            warnings = writer.warnings
        facts = ledger.complete or {}
        job.log = total
        said = dict.fromkeys([*facts.get("warnings", []), *warnings])  # in order, each once
        tally = Tally()
        for one in ledger.segments():
            tally.add(one.segment.tally)
        done = job.report(reader.info, time.perf_counter() - started, list(said), tally if job.config.media.smart_copy else None)
        yield done
        ledger.clear(done.as_written())


def _restore_rest(job: _Job, ledger: Ledger, reader: Reader, writer: Writer) -> None:
    pipeline = job.loaded()
    log = RunLog(seconds_per_stage=job.log.seconds_per_stage)
    media = job.config.media
    cast = _kept_look(job, ledger, pipeline)
    work = Restoration(ledger, writer, Fraction(str(media.segment)), log, keys=media.smart_copy)
    watch = _Watch(str(job.source), reader.info.frame_count, log, job.progress, before=work.next)
    if work.next:
        _log.info("%s: %d frames are done already", job.target, work.next)
    with closing(work):
        count = work.run(reader.frames(), pipeline, job.aligned, watch.wrote, cast)
    ledger.end({"frames_in": log.frames_in, "frames_out": count, "warnings": [*reader.warnings, *writer.warnings]})


def _kept_look(job: _Job, ledger: Ledger, pipeline: Pipeline) -> Cast | None:
    """As of `_Job.look`; what an earlier run saw is not looked for again."""
    told = recognizer_of(job.config)
    if (kept := ledger.people()) is not None:
        try:
            return Cast.of_json(kept["cast"], told, {int(track): int(place) for track, place in kept["tracks"]})
        except (LookupError, TypeError, ValueError) as error:
            raise ledger.damage() from error
    found = job.look(pipeline)
    if found is not None:
        ledger.keep_people({"cast": found.as_json(told), "tracks": [list(pair) for pair in found.tracks.items()]})
    return found


@contextmanager
def _kept(job: _Job) -> Iterator[Ledger]:
    """The job's ledger. What stops the run says how it goes on."""
    ledger = Ledger(job.target, job.fingerprint())
    try:
        yield ledger
    except ResumeError:  # what is kept is damaged: the same command ends in the same way
        raise
    except BaseException as error:
        if not ledger.folder.exists():  # somebody removed it, or the drive went away
            raise
        if ledger.last is not None:
            error.add_note(f"{ledger.last.next} frames are kept: the same command goes on from there")
        elif ledger.people() is not None:
            error.add_note("whom the film shows is kept: the same command goes on from there")
        raise
    finally:
        ledger.release()


@dataclass(frozen=True, slots=True)
class Task:
    """A file among several that are restored with networks that are loaded once."""

    source: str | Path
    target: Path
    config: Config
    """Its settings. Those that networks and other parts are made of are the first task's for all."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How all tasks are done; see `restore_video`."""

    overwrite: bool = False
    aligned: bool = False
    resume: bool = False
    """Files that an earlier run finished are left as they are, too."""
    faceless: bool = True
    """Keep results in which no face was restored; otherwise their reports are all that is left of them."""


class Site(Protocol):
    """Where tasks are done."""

    def __call__(
        self, tasks: Sequence[Task], manner: Manner, progress: ProgressCallback | None
    ) -> Generator[tuple[int, Report | VideoclrError], None, None]:
        """Yield the number of each task, with its report or what stopped it, in the order in which they end.

        Raises:
            ConfigError: a setting that fits no task.
            WeightsError: the networks cannot be loaded.
            DeviceLostError: no other task can be done.
        """
        ...


def here(
    tasks: Sequence[Task], manner: Manner, progress: ProgressCallback | None
) -> Generator[tuple[int, Report | VideoclrError], None, None]:
    """In this process, one after the other: the `Site` of whoever names none."""
    pipeline = Pipeline(tasks[0].config) if tasks else None
    for number, task in enumerate(tasks):
        yield number, unless_lost(task.source, restore_task(task, manner, pipeline, progress))


def unless_lost(source: str | Path, result: Report | VideoclrError) -> Report | VideoclrError:
    """How a task ended, after which this process can do another one.

    Raises:
        DeviceLostError: it cannot: every other file would fail as this one did, and done anew each may fare well.
    """
    if isinstance(result, DeviceLostError):
        lost = DeviceLostError(f"{source}: {result}; this file and those after it are not done")
        raise _instead_of(result, lost)
    return result


def _instead_of(error: BaseException, new: E) -> E:
    """`new`, with what was added to `error` on its way, such as what is kept of a film."""
    new.__cause__ = error
    for note in getattr(error, "__notes__", []):
        new.add_note(note)
    return new


def restore_task(
    task: Task, manner: Manner, pipeline: Pipeline | None, progress: ProgressCallback | None = None
) -> Report | VideoclrError:
    """Do one task with the parts of `pipeline`; what stops it is returned, not raised."""
    own = pipeline if pipeline is None or pipeline.config == task.config else replace(pipeline, config=task.config)
    job = _Job(task.source, task.target, task.config, manner.overwrite, progress, manner.aligned, own, RunLog(), among=True)
    try:
        done = _once(job, manner.faceless) if manner.resume else _restored(job, resume=False)
        if not manner.faceless and not done.faces_restored:
            _remove(task.target)
    except VideoclrError as error:
        return error
    except (Exception, SystemExit) as error:  # of a part of the user's: the other files may fare better
        _log.info("%s: failed unexpectedly", task.source, exc_info=True)
        if is_of_the_device(error):
            failed: VideoclrError = of_the_device(error)
        else:
            failed = VideoclrError(f"{task.source}: unexpected {type(error).__name__}: {' '.join(str(error).split())}")
        return _instead_of(error, failed)
    return done


def _remove(target: Path) -> None:
    for file in (target, *(Path(numbered(str(target), number)) for number in matching(str(target)))):
        with explained(target, "has no face and cannot be removed"):
            file.unlink(missing_ok=True)


def restore_batch(
    sources: Iterable[str | Path],
    folder: str | Path,
    config: Config | None = None,
    *,
    ending: str | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    aligned: bool = False,
    resume: bool = False,
    ended: Callable[[str, Report | VideoclrError], None] | None = None,
    site: Site = here,
) -> list[Report | VideoclrError]:
    """Restore many files into `folder` with networks that are loaded once. A file that fails does not stop the others.

    Args:
        sources: files or patterns; their own names name the results, so no two may be called alike.
        folder: made if it does not exist, and not left behind empty.
        config: settings of all files; the defaults if None.
        ending: file ending of the results, such as `.mp4`; None keeps each input's own, as pictures do where it is a film's.
        report: one JSON file for all: `{"files": [...], "failed": [{"source", "error"}, ...],
            "unfinished": [sources that somebody stopped before their end]}`. With `resume` it replaces one of its kind.
        overwrite: see `restore_video`.
        progress: see `restore_video`.
        aligned: see `restore_video`.
        resume: see `restore_video`; files that an earlier run of the same batch finished are left as they are.
        ended: told each source when it is over, with its report or what stopped it.
        site: where the files are restored.

    Returns:
        For every source, in order, its report or the error that stopped it.

    Raises:
        ConfigError: a setting that fits no file, a pipe among the sources, or two results of one name.
        MediaError: the folder or the report cannot be written.
        WeightsError: the networks cannot be loaded.
        DeviceLostError: the device failed; what is not done by then is left as it is, `unfinished` in the report.
        TypeError: `sources` is one name.
    """
    if isinstance(sources, str | bytes | os.PathLike):
        raise TypeError(f"sources: expected several names, got {sources!r} alone; put it into a list")
    sources = list(sources)
    config = or_defaults(config)
    check_ending(ending, config.media.container)
    if len(sources) > 1:
        refuse_tracks(config)
    targets = targets_of(sources, Path(folder), ending, config.media.container)
    tasks = [Task(source, target, config) for source, target in zip(sources, targets, strict=True)]
    manner = Manner(overwrite, aligned, resume)
    new = make_folder(folder)
    try:
        return restore_tasks(tasks, manner, report=report, progress=progress, ended=ended, site=site)
    finally:
        with suppress(OSError):  # something is in it, as there should be
            for place in new:
                place.rmdir()


def restore_tasks(
    tasks: Sequence[Task],
    manner: Manner,
    *,
    report: str | Path | None = None,
    progress: ProgressCallback | None = None,
    ended: Callable[[str, Report | VideoclrError], None] | None = None,
    site: Site = here,
) -> list[Report | VideoclrError]:
    """Do all tasks; one that fails does not stop the others. See `restore_batch`, which makes them of files."""
    results: dict[int, Report | VideoclrError] = {}
    check_tasks(tasks, manner, report)
    with report_file(report, (), overwrite=True) as place:
        try:
            with closing(site(tasks, manner, progress)) as endings:
                for number, result in endings:
                    results[number] = result
                    if isinstance(result, VideoclrError):
                        _log.info("%s: failed, going on with the others", tasks[number].source)
                    if ended is not None:
                        ended(str(tasks[number].source), result)
        finally:  # what is done by then is told, also where somebody stops the rest
            if place is not None:
                left = [str(task.source) for number, task in enumerate(tasks) if number not in results]
                place.write(_all([(tasks[number].source, results[number]) for number in sorted(results)], left))
    return [results[number] for number in range(len(tasks))]


def check_tasks(tasks: Sequence[Task], manner: Manner, report: str | Path | None) -> None:
    """Refuse what `restore_tasks` refuses before it does any of them.

    Raises:
        ConfigError: a result, or the report, would replace what is read; or the report is a pipe.
        MediaError: the report exists and may not be replaced, or is no file.
    """
    jobs = [(task.source, task.target, task.config.files()) for task in tasks]
    spare_inputs(jobs)
    used = tuple(name for source, target, files in jobs for name in (source, target, *files))
    # The same command after a stop, or once more, finds the report that it wrote itself.
    own = manner.resume and report is not None and is_of_several(report)
    check_report(report, used, manner.overwrite or own)


def refuse_tracks(config: Config) -> None:
    """Of settings for many films.

    Raises:
        ConfigError: they name the tracks of one, or somebody who is nobody.
        MediaError: the file of people cannot be read.
    """
    if config.track.file is not None:
        raise ConfigError("$.track.file: the tracks of one film are not those of another; restore it by itself")
    who = config.identify
    if not (who.only or who.leave):
        return
    called = Cast() if who.people is None else Cast.read(who.people, recognizer_of(config))
    asked = people_of(who.references, who.only, who.leave, called.names)
    for setting, chosen in (("only", asked.only), ("leave", asked.leave)):
        if chosen.tracks:
            numbers = ", ".join(map(str, sorted(chosen.tracks)))
            advice = "restore it by itself, or name people"
            raise ConfigError(f"$.identify.{setting}: tracks of one film ({numbers}) are not those of another; {advice}")


def make_folder(folder: str | Path) -> list[Path]:
    """For results.

    Returns:
        Which folders were made for that, the innermost first.

    Raises:
        MediaError: it cannot be made.
    """
    refuse_nul(folder)
    place = Path(folder)
    try:
        new = [one for one in (place, *place.parents) if not one.exists()]
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(folder, f"cannot be made a folder ({error.strerror})") from error
    return new


def check_folder(folder: str | Path) -> None:
    """Refuse what `make_folder` would, and make nothing.

    Raises:
        MediaError: it cannot be made, or nothing can be written there.
    """
    place = Path(folder).absolute()
    there = next(one for one in (place, *place.parents) if os.path.exists(one))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = f"{there} may not be written to" if there.is_dir() else f"{there} is a file"
        raise MediaError(folder, f"cannot be made a folder ({reason})")


def _once(job: _Job, faceless: bool) -> Report:
    """A file of a batch, unless an earlier run made it already. Of pictures, all are made anew or none."""
    target = Path(job.target)
    finished, own = Finished(target.parent), job.fingerprint()
    try:
        known = finished.report(target, own, faceless)
    except ResumeError:
        if not job.overwrite:
            raise
        known = None
    if known is not None:
        _log.info("%s: is finished already", target)
        clear_up(target, own)
        return Report(**known)
    film = job.config.media.container is not None or target.suffix.lower() not in STILLS

    def note(done: Report) -> None:
        if target.is_file() or job.pictures is not None:
            finished.add(target, own, done.as_written(), job.pictures)

    try:
        return _restored(job, resume=film, note=note)
    except MediaError:
        with suppress(VideoclrError):  # a run beside this one may have finished it since
            known = finished.report(target, own, faceless)
        if known is None:
            raise
        _log.info("%s: was finished by another run meanwhile", target)
        return Report(**known)


@dataclass
class _Watch:
    """Makes `Progress` out of what is known while a job runs."""

    source: str
    total: int | None
    ledger: RunLog
    callback: ProgressCallback | None
    before: int = 0

    def __post_init__(self) -> None:
        self._started = time.perf_counter()

    def wrote(self, frames: int) -> None:
        if self.callback is not None:
            seconds = time.perf_counter() - self._started
            spent = self.ledger.seconds_per_stage
            self.callback(Progress(self.source, frames, self.total, self.ledger.faces_restored, seconds, spent, self.before))


def _drain(frames: Iterator[Frame], writer: Writer, watch: _Watch) -> None:
    """Write every frame; the threads of the pipeline are stopped before anybody closes what they read from."""
    with closing(frames) as restored:  # type: ignore[type-var]
        for number, frame in enumerate(restored, 1):
            with watch.ledger.encoding():
                writer.write(frame)
            watch.wrote(number)


def open_writer(target: str | Path, like: Reader, config: Config, overwrite: bool) -> Writer:
    """The writer of `target` that `config` asks for: all of the section `media` but what the reader and `--resume` use.

    Raises:
        ConfigError: a bad setting.
        MediaError: it cannot be written.
    """
    read = {"start", "end", "frames", "input", "limits", "hwaccel", "deinterlace", "video_stream", "segment", "primaries"}
    media = config.media.model_dump(exclude={*read, "provenance"})
    told = provenance(config) if config.media.provenance else None
    return Writer(target, like=like, overwrite=overwrite, provenance=told, **media)


def open_reader(source: str | Path, config: Config) -> Reader:
    """The reader of `source` that `config` asks for.

    Raises:
        ConfigError: a bad setting.
        MediaError: it cannot be read.
    """
    return Reader(source, config.media.start, config.media.end, **_reading(config))


def _reading(config: Config) -> dict[str, Any]:
    """The reader's arguments besides start and end."""
    media, given = config.media, config.media.input
    size = None if given.video_size is None else (int(given.video_size.split("x")[0]), int(given.video_size.split("x")[1]))
    rate = None if given.rate is None else Fraction(given.rate)
    if rate == 0:
        raise ConfigError("$.media.input.rate: expected more than 0")
    opening = Opening(
        format=given.format,
        video_size=size,
        pix_fmt=given.pix_fmt,
        start_number=given.start_number,
        playlists=given.playlists,
        protocols=tuple(given.protocols),
        limits=Limits(**media.limits.model_dump()),
    )
    chosen = {
        "scale": config.runtime.on_error == "keep",
        "hwaccel": media.hwaccel,
        "deinterlace": media.deinterlace,
        "video": media.video_stream,
        "linear": media.linear,
        "primaries": media.primaries,
    }
    return {"frames": media.frames, "rate": rate, "opening": opening, **chosen}


def _report(
    source: str | Path,
    target: str | Path,
    config: Config,
    info: VideoInfo,
    ledger: RunLog,
    seconds: float,
    warnings: list[str],
    copied: dict[str, int] | None,
) -> Report:
    return Report(
        source=str(source),
        target=str(target),
        frames_in=ledger.frames_in,
        frames_out=ledger.frames_out,
        faces_restored=ledger.faces_restored,
        tracks=Listed(ledger.tracks, lambda track: plain(asdict(track))),
        shots=ledger.shots,
        seconds=seconds,
        seconds_per_stage=dict(ledger.seconds_per_stage),
        slowest=slowest(ledger.seconds_per_stage),
        smart_copy=copied,
        warnings=[*warnings, *ledger.warnings],
        version=__version__,
        settings=config.model_dump(mode="json"),
        weights=_hashes(),
        source_info=plain(asdict(info)),
    )


def _hashes() -> dict[str, str]:
    found: dict[str, str] = {}
    with suppress(WeightsError):  # a run with parts of the user's own got this far without them
        found |= {name: str(entry["sha256"]) for name, entry in weights.manifest().items()}
    with suppress(WeightsError):  # an entry is damaged: its weights were not used, or the run would have ended
        found |= {name: one.sha256 for name, one in store.added().items()}
    return found


def _used(settings: dict[str, Any]) -> dict[str, str]:
    """Those of `_hashes` that a run with `settings` may use: the embedded ones, and the added ones that are named."""
    text = json.dumps(settings)
    added: set[str] = set()
    with suppress(WeightsError):
        added = set(store.added())
    return {name: digest for name, digest in _hashes().items() if name not in added or json.dumps(name)[1:-1] in text}


def targets_of(sources: Sequence[str | Path], folder: Path, ending: str | None, container: str | None = None) -> list[Path]:
    """The name of every result of a batch. A photograph among films stays one: it keeps its ending where `ending` is a film's,
    unless a container is named, which is that of all.

    Raises:
        ConfigError: a pipe, or two results of one name.
    """
    if ending is not None and not ending.startswith("."):
        ending = f".{ending}"
    film = ending is not None and container is None and Path(f"a{ending}").suffix.lower() in CONTAINERS
    targets: dict[Path, str] = {}
    for source in map(str, sources):
        if source == "-":
            raise ConfigError("batch: a pipe has no name to save under; use `videoclr - OUTPUT`")
        kept = film and Path(source).suffix.lower() in STILLS and not is_pattern(source)
        target = folder / (Path(source).stem + ending if ending and not kept else Path(source).name)
        if target in targets:
            others = "give it once" if targets[target] == source else "restore them into different folders"
            raise ConfigError(f"batch: {targets[target]} and {source} would both become {target}; {others}")
        targets[target] = source
    return list(targets)


def _becomes_film(source: str | Path, target: str | Path) -> bool:
    """Whether what is in a file of an ending that is only read, as pictures of telephones are, goes into a film."""
    return Path(source).suffix.lower() in READ_ONLY and Path(target).suffix.lower() in CONTAINERS


def _all(ended: Sequence[tuple[str | Path, Report | VideoclrError]], unfinished: Sequence[str]) -> dict[str, Any]:
    return {
        "files": Listed([result for _, result in ended if isinstance(result, Report)], Report.as_dict),
        "failed": [{"source": str(source), "error": str(result)} for source, result in ended if isinstance(result, VideoclrError)],
        "unfinished": list(unfinished),
    }
