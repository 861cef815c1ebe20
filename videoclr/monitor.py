"""What a job overnight tells other programs: a log of JSON lines, and figures for Prometheus.

Both take the `Progress` that `videoclr.jobs` gives after every written frame, of several jobs in any order where several run at
a time, and write every few seconds at most.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from videoclr.errors import MediaError
from videoclr.media.target import behind_link
from videoclr.report import Report, plain, unwritable
from videoclr.shelf import is_torn

if TYPE_CHECKING:
    from videoclr.jobs import Progress

log = logging.getLogger("videoclr.monitor")

RUNNING, WELL, FAILED, STOPPED = 0, 1, -1, 2
"""Of `videoclr_finished`."""
EVERY_SECONDS = 5.0
"""Time from one line, or one file of figures, to the next."""
_LINE = b'{"time": "'
"""How a line of a log begins; those of tracks and of reports are JSON as well."""


class Pace:
    """Whose turn it is to be told: every few seconds, each of the sources that are at work at the same time.

    A source that is new waits as if it had been told when the last one was: a batch of a thousand small pictures is
    not a thousand lines.

    Args:
        clock: monotonic seconds.
        seconds: from one time to the next.
        last: when something was told last.
    """

    def __init__(self, clock: Callable[[], float], seconds: float = EVERY_SECONDS, last: float = float("-inf")) -> None:
        self._clock, self._seconds, self._last = clock, seconds, last
        self._told: dict[str, float] = {}

    def is_due(self, source: str) -> bool:
        """Whether it is `source`'s turn, which is taken then."""
        now = self._clock()
        if now - self._told.setdefault(source, self._last) < self._seconds:
            return False
        self._told[source] = self._last = now
        return True

    def over(self, source: str) -> None:
        """`source` will not come again."""
        self._told.pop(source, None)


class JsonLog(logging.Handler):
    """A file of JSON lines, one per event, flushed at once; a `logging.Handler` and a progress callback at the same time.

    Every line has `time` (ISO 8601, UTC) and `event`: `progress`, `log` (with `level` and `text`), `finished` (with what the
    report sums up), `failed` (with `error`) or `stopped`.

    Args:
        path: appended to, so that a job that is resumed goes on in its log; `-` for standard error.
        clock: monotonic seconds.
        source: what the job is of, where it is one alone; a failure names it.

    Raises:
        MediaError: the file cannot be written.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic, source: str | None = None) -> None:
        super().__init__()
        self.path, self._pace, self._source, self._lost = str(path), Pace(clock), source, False
        if self.path != "-":
            _refuse_others(Path(path), _LINE, "a log of JSON lines")
        try:
            self._file: TextIO = (  # a name that is no UTF-8 is a name
                os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
                if self.path == "-"
                else open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_patiently)  # noqa: SIM115
            )
            if is_torn(path):
                self._file.write("\n")
        except OSError as error:
            raise unwritable(path, "the log ", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            source: dict[str, str] = {} if self._source is None else {"source": self._source}
            if isinstance(error, KeyboardInterrupt):
                self.event("stopped", **source)
            else:
                said = " ".join(str(error).split()) or type(error).__name__
                self.event("failed", **source, error=said, kind=type(error).__name__)
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):  # what could be written has been, line by line
            self._file.close()
        super().close()

    def event(self, name: str, **values: Any) -> None:
        """Write one line. A log that can no longer be written does not stop a job: it says so once, and falls silent."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": stamp, "event": name, **plain(values)}, ensure_ascii=False)
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            if not self._lost and self.path != "-":
                self._lost = True  # before it is said: what is said comes here too
                log.warning("%s: the log can no longer be written (%s)", self.path, error.strerror)
        except ValueError:  # closed
            pass

    def emit(self, record: logging.LogRecord) -> None:
        """A record of the library's log."""
        self.event("log", level=record.levelname.lower(), text=record.getMessage())

    def progress(self, now: Progress) -> None:
        """Where the job stands, every few seconds."""
        if self._pace.is_due(now.source):
            self.event("progress", **_numbers(now))

    def failed(self, source: str, error: str) -> None:
        """One job of several ended in an error."""
        self._pace.over(source)
        self.event("failed", source=source, error=error)

    def finished(self, report: Report) -> None:
        """What was done."""
        self._pace.over(report.source)
        kept = ("source", "target", "frames_in", "frames_out", "faces_restored", "shots", "seconds", "slowest", "warnings")
        self.event("finished", **{name: getattr(report, name) for name in kept}, seconds_per_stage=report.seconds_per_stage)


def _patiently(path: str, flags: int) -> int:
    """Open a file to be written. A pipe that nobody reads is waited for, as the system does, but not without a word."""
    at_once = getattr(os, "O_NONBLOCK", 0)  # where there is none, there are no such pipes
    try:
        number = os.open(path, flags | at_once, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO or not Path(path).is_fifo():
            raise
        log.warning("%s: is a pipe that nobody reads; the work begins when somebody does", path)
        return os.open(path, flags, 0o666)
    if at_once:
        os.set_blocking(number, True)
    return number


def _refuse_others(path: Path, beginning: bytes, kind: str) -> None:
    """Keep a name that slipped from costing somebody a film or a photograph.

    Raises:
        MediaError: `path` holds something else than what is to be written there.
    """
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            found = file.read(len(beginning))
    except OSError:  # told where it is opened to be written
        return
    if not beginning.startswith(found):  # of a run that was killed there may be less
        raise MediaError(path, f"exists already and is not {kind}; choose another name")


class PrometheusFile:
    """Figures in Prometheus' text format, for the textfile collector of its node exporter.

    The file is replaced in one step and never half there. It stays when the job is over: `videoclr_finished` says how.

    Args:
        path: such as `/var/lib/node_exporter/videoclr.prom`.
        clock: monotonic seconds.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self._clock, self._said = Path(path), clock, float("-inf")
        self._jobs: dict[str, Progress] = {}
        """Those at work and, until another one begins, those that ended last."""
        self._ended: set[str] = set()
        self._lost, self._well = False, True

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            MediaError: the file cannot be written.
        """
        if str(self.path) == "-" or (self.path.exists() and not self.path.is_file()):
            raise MediaError(self.path, "is no file; the figures need one")
        _refuse_others(self.path, b"# HELP videoclr_", "a file of videoclr's figures")
        try:
            self._write(RUNNING)
        except OSError as error:
            raise unwritable(self.path, "the figures ", error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        stopped = isinstance(error, KeyboardInterrupt)
        self._try(STOPPED if stopped else WELL if error is None and self._well else FAILED)

    def progress(self, now: Progress) -> None:
        """Where the job stands, every few seconds. Where the file can no longer be written the job goes on, and says so once."""
        if now.source not in self._jobs:
            for source in self._ended:
                self._jobs.pop(source, None)
            self._ended.clear()
        self._jobs[now.source] = now
        if self._clock() - self._said < EVERY_SECONDS:
            return
        self._said = self._clock()
        self._try(RUNNING)

    def ended(self, result: object, source: str) -> None:
        """The job of `source` is over: its report, or what stopped it."""
        self._ended.add(source)
        self._well = self._well and not isinstance(result, Exception)

    def _try(self, finished: int) -> None:
        """As `_write`; the job matters more than its figures."""
        try:
            self._write(finished)
        except OSError as error:
            if not self._lost:
                log.warning("%s: the figures can no longer be written (%s)", self.path, error.strerror)
            self._lost = True
            if finished != RUNNING:
                with suppress(OSError):
                    self._end(finished)

    def _end(self, finished: int) -> None:
        """Say in the file that is there that the job is over: on a full disk it has its room, and a new one has none."""
        said, now = (f"videoclr_finished {state}\n".encode() for state in (RUNNING, finished))
        with self.path.open("r+b") as file:
            if (found := file.read()).endswith(said):
                file.seek(len(found) - len(said))
                file.write(now)

    def _write(self, finished: int) -> None:
        place = Path(behind_link(self.path))
        part = place.with_name(place.name + ".part")
        try:
            part.write_text(exposition(self._jobs.values(), finished), encoding="utf-8", errors="backslashreplace")
            part.replace(place)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def exposition(jobs: Collection[Progress], finished: int) -> str:
    """Prometheus' text format (version 0.0.4).

    Args:
        jobs: where those that are at work stand; none before the first frame.
        finished: `RUNNING`, `WELL`, `FAILED` or `STOPPED`, all of them together.
    """
    lines: list[str] = []

    def figure(name: str, kind: str, about: str, values: Mapping[str, float]) -> None:
        if values:
            lines.append(f"# HELP videoclr_{name} {about}\n# TYPE videoclr_{name} {kind}\n")
            lines.extend(f"videoclr_{name}{labels} {_digits(value)}\n" for labels, value in values.items())

    of = [(_labels(source=job.source), job) for job in jobs]
    figure("frames_written_total", "counter", "Frames written.", {name: 0 if job.looking else job.frames for name, job in of})
    looked = {name: job.frames for name, job in of if job.looking}
    figure("frames_looked_at_total", "counter", "Frames looked at before the first one is restored.", looked)
    expected = {name: job.total for name, job in of if job.total is not None}
    figure("frames_expected", "gauge", "Frames that the container promises.", expected)
    figure("faces_restored_total", "counter", "Faces restored, counted in every frame.", {name: job.faces for name, job in of})
    figure("seconds_total", "counter", "Seconds since the first frame was asked for.", {name: job.seconds for name, job in of})
    stages = [(_labels(source=job.source, stage=stage), value) for job in jobs for stage, value in job.seconds_per_stage.items()]
    figure("stage_seconds_total", "counter", "Seconds spent in each stage; waiting is idle.", dict(stages))
    figure(
        "finished",
        "gauge",
        "0 while the job runs, 1 when it ended well, -1 when it failed, 2 when somebody stopped it.",
        {"": finished},
    )
    return "".join(lines)


def _digits(value: float) -> str:
    """All of them: what counts on must not stand still."""
    return repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)


def _labels(**labels: str) -> str:
    def escaped(text: str) -> str:
        text = text.encode(errors="backslashreplace").decode()  # a name that is no UTF-8: Prometheus knows no \\udcXX
        return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items()) + "}"


def _numbers(now: Progress) -> dict[str, Any]:
    return {
        "source": now.source,
        "frames": now.frames,
        "total": now.total,
        **({"looking": True} if now.looking else {}),
        "faces": now.faces,
        "seconds": round(now.seconds, 3),
        "seconds_left": None if now.seconds_left is None else round(now.seconds_left, 1),
        "slowest": now.slowest,
        "seconds_per_stage": {stage: round(value, 3) for stage, value in now.seconds_per_stage.items()},
    }
