"""A folder whose files are restored as they arrive.

A file counts as arrived once its size and time of change have stood still for a while: copying programs and cameras tell
no other way that works on every network drive, and neither do notices of the file system. What changes later all the same, while
it is restored, is restored again. Each is restored as in a batch with
`resume`: what was finished is left alone and what was begun goes on, whatever stopped the watch. Several machines may
watch one folder; a file that another one works on is left to it.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from videoclr.config import Config, or_defaults
from videoclr.errors import BusyError, ConfigError, MediaError, ResumeError, VideoclrError
from videoclr.jobs import (
    Manner,
    ProgressCallback,
    Task,
    make_folder,
    refuse_tracks,
    restore_task,
    targets_of,
    unless_lost,
)
from videoclr.media.faults import refuse_nul
from videoclr.media.target import CONTAINERS, READ_ONLY, STILLS, check_ending
from videoclr.pipeline import Pipeline
from videoclr.report import Report

_log = logging.getLogger("videoclr.watch")

SETTLE = 10.0
"""Seconds for which a file stands still before it is taken."""
EVERY = 2.0
"""Seconds between two looks."""
_NAMELESS = {".yuv"}
"""Endings of files that do not describe themselves."""

_Signature = tuple[int, int]
"""Size, and nanoseconds of the last change of the content, as whoever wrote it says."""


@dataclass(slots=True)
class _Seen:
    signature: _Signature
    since: float
    over: bool = False
    """Finished or failed, as it is."""
    failed: int | None = None
    """Of one that failed, what `_touched` said before."""


class Arrivals:
    """The files of a folder, and which of them stand still.

    Args:
        folder: looked into, not below.
        settle: seconds.
        clock: tells seconds.
        renamed: results get an ending of their own, or a container: then every file that can be read is taken.

    Raises:
        MediaError: it is no folder.
    """

    def __init__(self, folder: Path, settle: float, clock: Callable[[], float], *, renamed: bool = False) -> None:
        if not folder.is_dir():
            raise MediaError(folder, "is no folder to watch")
        self.folder, self.settle, self.clock, self.renamed = folder, settle, clock, renamed
        self._seen: dict[Path, _Seen] = {}
        self._told: set[Path] = set()
        self._astray: set[Path] = set()

    def look(self) -> None:
        """See what is there now.

        Raises:
            MediaError: the folder has gone.
        """
        now, there = self.clock(), dict(self._files())
        for path in self._seen.keys() - there.keys():
            del self._seen[path]
        for path, signature in there.items():
            known = self._seen.get(path)
            if known is None or known.signature != signature or (known.failed is not None and known.failed != _touched(path)):
                self._seen[path] = _Seen(signature, now)

    def _files(self) -> Iterator[tuple[Path, _Signature]]:
        try:
            for path in sorted(self.folder.iterdir()):
                if path.name.startswith(".") or self._leads_nowhere(path) or not path.is_file() or not self._is_film(path):
                    continue
                if (signature := _signature(path)) is not None:
                    yield path, signature
        except OSError as error:
            raise MediaError(self.folder, f"cannot be watched any more ({error.strerror})") from error

    def _leads_nowhere(self, path: Path) -> bool:
        """Whether it is a link to what is not there, as of a drive that is not connected; told each time that becomes so."""
        if os.path.exists(path) or not path.is_symlink():
            self._astray.discard(path)
            return False
        if path not in self._astray:
            self._astray.add(path)
            _log.warning("%s: leads to %s, which is not there; it is taken once it is", path, os.readlink(path))
        return True

    def _is_film(self, path: Path) -> bool:
        ending = path.suffix.lower()
        known = ending in {*CONTAINERS, *STILLS} - _NAMELESS or (self.renamed and ending in READ_ONLY)
        if not known and path not in self._told:
            self._told.add(path)
            if ending in READ_ONLY:
                told = "is left alone, since no %s files are written; name another ending (--ending .mp4, of pictures alone .png)"
                _log.warning("%s: " + told, path, ending)
            else:
                _log.info("%s: is left alone, its ending is that of no film", path)
        return known

    def next(self) -> Path | None:
        """A file that stands still and is not over yet, the one that came first; None where there is none."""
        now = self.clock()
        still = [(one.since, path) for path, one in self._seen.items() if not one.over and now - one.since >= self.settle]
        return min(still, default=(0.0, None))[1]

    def changed(self, path: Path) -> bool:
        """Whether `path` is there and no more what was seen of it."""
        now, known = _signature(path), self._seen.get(path)
        return now is not None and known is not None and now != known.signature

    def over(self, path: Path, failed: int | None = None) -> None:
        """`path` is finished, or failed; it counts again when it changes.

        What failed may be mended in ways that leave its size and time alone: it may be read now, or was copied anew, times and all.

        Args:
            path: of `next`.
            failed: what `_touched` said before it failed; None where it did not.
        """
        if path in self._seen:
            self._seen[path].over, self._seen[path].failed = True, failed

    def later(self, path: Path) -> None:
        """Not now: `path` has to stand still for as long again."""
        if path in self._seen:
            self._seen[path].since = self.clock()

    @property
    def waiting(self) -> bool:
        """Whether a file is there that is not over."""
        return any(not one.over for one in self._seen.values())


def watch(
    folder: str | Path,
    to: str | Path,
    config: Config | None = None,
    *,
    ending: str | None = None,
    move_to: str | Path | None = None,
    settle: float = SETTLE,
    once: bool = False,
    progress: ProgressCallback | None = None,
    ended: Callable[[str, Report | VideoclrError], None] | None = None,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Restore every film and picture of `folder` into `to`, and whatever arrives there later, until somebody stops it.

    Args:
        folder: looked into, not below.
        to: where the results go, under the same names; made if it does not exist.
        config: settings of all files; the defaults if None.
        ending: file ending of the results, such as `.mp4`; None keeps each input's own, and leaves alone what has one that is only
            read (`.mpg`, `.wmv`, `.heic`). Pictures of an ending that is written keep it where this one is a film's.
        move_to: where inputs go once they are restored; None leaves them.
        settle: seconds for which a file stands still before it is taken.
        once: end when all that is there is done.
        progress: see `restore_video`.
        ended: told each source when it is over, with its report or what stopped it. One that failed is tried again when it changes.
        wait: sleeps so many seconds.
        clock: tells seconds.

    Raises:
        ConfigError: a setting that fits no file.
        MediaError: a folder is not there, or goes away.
        WeightsError: the networks cannot be loaded.
        DeviceLostError: the device failed; whoever starts the watch again finds the inputs as they are.
    """
    config = or_defaults(config)
    if not 0 <= settle < math.inf:
        raise ConfigError(f"--settle: expected 0 or more seconds, got {settle:g}")
    refuse_nul(folder, to, move_to)
    places = [Path(place).resolve() for place in (folder, to, *([] if move_to is None else [move_to]))]
    if len(set(places)) < len(places):
        raise ConfigError("watch: the watched folder, --to and --move-to have to be different folders")
    check_ending(ending, config.media.container)
    refuse_tracks(config)
    arrivals = Arrivals(Path(folder), settle, clock, renamed=ending is not None or config.media.container is not None)
    make_folder(to)
    if move_to is not None:
        make_folder(move_to)
    pipeline = Pipeline(config)
    destinations = _Places([Path(place) for place in (to, move_to) if place is not None])
    while True:
        arrivals.look()
        source = None if destinations.are_gone(once) else arrivals.next()
        if source is None:
            if once and not arrivals.waiting:
                return
            wait(min(EVERY, settle) if once and settle else EVERY)
            continue
        (target,) = targets_of([source], Path(to), ending, config.media.container)
        before, touched = _signature(target), _touched(source)
        with _held(Path(to)) as lost:
            result = unless_lost(source, restore_task(Task(source, target, config), Manner(resume=True), pipeline, progress))
            again = lost()
        if isinstance(result, BusyError):
            arrivals.later(source)
            continue
        if isinstance(result, VideoclrError) and not os.path.lexists(source):
            _log.info("%s: is gone; another watch has put it away, or somebody else", source)
            continue
        if isinstance(result, ResumeError) and result.path == str(target):
            result = _of_another(source, target, result)
        if isinstance(result, Report) and arrivals.changed(source):
            result = _outdated(source, target, before)
        failed = isinstance(result, VideoclrError)
        if move_to is not None and isinstance(result, Report):
            result = _moved(source, Path(move_to)) or result
        if isinstance(result, VideoclrError) and (again or destinations.gone() is not None):
            arrivals.later(source)
        else:
            arrivals.over(source, touched if failed else None)
        if ended is not None:
            ended(str(source), result)


class _Places:
    """The folders into which files go. Where one goes away, as a drive does, nothing is begun until it is there again."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders, self._told = folders, False

    def gone(self) -> Path | None:
        """The first one that is not there."""
        return next((folder for folder in self._folders if not os.path.isdir(folder)), None)

    def are_gone(self, once: bool) -> bool:
        """Whether one is not there, which is told once.

        Raises:
            MediaError: one is not, and nobody is to wait for it.
        """
        gone = self.gone()
        if gone is not None and once:
            raise MediaError(gone, "has gone; make it, or connect its drive, and start again")
        if gone is not None and not self._told:
            _log.warning("%s: has gone; nothing is restored until it is there again", gone)
        self._told = gone is not None
        return gone is not None


@contextmanager
def _held(folder: Path) -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether a folder has gone, also where another one of its name is there by now."""
    file: int | None = None
    with suppress(OSError):  # not every system opens folders
        file = os.open(folder, os.O_RDONLY)  # as long as it is open, no new one gets its number

    def lost() -> bool:
        try:
            return file is not None and not os.path.samestat(os.fstat(file), folder.stat())
        except OSError:
            return True

    try:
        yield lost
    finally:
        if file is not None:
            os.close(file)


def _signature(path: Path) -> _Signature | None:
    """Of a file; None where it is not there, or went away just now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _touched(path: Path) -> int | None:
    """When anything of a file changed last, its mode and name too, in nanoseconds; None where it is not there."""
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return None


def _of_another(source: Path, target: Path, error: ResumeError) -> VideoclrError:
    """What is said of a result that is there already and not of `source`."""
    reason = str(error).removeprefix(f"{target}: ").partition("; ")[0]
    told = MediaError(source, f"its result {target} {reason}; rename this one, or move the result away")
    told.__cause__ = error
    return told


def _outdated(source: Path, target: Path, before: _Signature | None) -> VideoclrError:
    """Of an input that changed meanwhile: its result may be half a film, and is removed, unless it was there `before`."""
    said = "changed while it was restored"
    if _signature(target) == before:
        return MediaError(source, f"{said}; {target} is what was made of it before")
    try:
        target.unlink(missing_ok=True)
    except OSError as error:
        return MediaError(source, f"{said}; {target} may lack a part of it, and cannot be removed ({error.strerror})")
    return MediaError(source, f"{said}; {target} is removed, and made again once the input stands still (--settle)")


def _moved(source: Path, folder: Path) -> VideoclrError | None:
    """Put a restored input away; what is in the way is returned."""
    place = folder / source.name
    if os.path.lexists(place) and os.path.lexists(source):  # a link that leads nowhere now is somebody's too
        return MediaError(source, f"is restored, and stays where it is: {place} exists already")
    try:
        _move(source, place)
    except OSError as error:
        if not os.path.lexists(source):
            gone = MediaError(source, f"is restored, and was gone before it could be moved to {folder}")
            return None if place.exists() else gone  # another watch was faster
        return MediaError(source, f"is restored, and cannot be moved to {folder} ({error.strerror})")
    return None


def _move(source: Path, place: Path) -> None:
    """Move a file or a link; `place` is whole, or not there and `source` is.

    Raises:
        OSError: it cannot be done.
    """
    if source.is_symlink():  # a relative one would lead nowhere from there
        place.symlink_to(source.resolve())
    else:
        try:
            source.rename(place)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return
        part = place.with_name(f"{place.name}.part")
        try:
            shutil.copy2(source, part)
            os.replace(part, place)
        finally:
            part.unlink(missing_ok=True)
    try:
        source.unlink(missing_ok=True)
    except OSError:
        place.unlink()
        raise
