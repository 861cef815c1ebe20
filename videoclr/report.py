"""What a run did, for people and programs: the answer of `restore_video` and the file of `--report`."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

from videoclr.errors import ConfigError, MediaError
from videoclr.media.faults import refuse_nul
from videoclr.media.filelist import is_list, names_in
from videoclr.media.source import is_of, is_pattern
from videoclr.media.target import behind_link
from videoclr.shelf import Listed, json_pieces

_ODD_BYTES = "backslashreplace"
"""Names and tags that are no UTF-8 hold lone surrogates (`os.fsdecode`); written like this they are JSON's own `\\udcXX`."""


@dataclass(frozen=True)
class Report:
    """What happened to one file."""

    source: str
    """As the user wrote it; `-` for a pipe."""
    target: str
    """As the user wrote it; `-` for a pipe."""
    frames_in: int
    """Frames decoded."""
    frames_out: int
    """Frames written."""
    faces_restored: int
    """Faces put back, counted in every frame."""
    tracks: Sequence[dict[str, Any]]
    """One entry per tracked face: its number, first and last frame, and what else the run learnt about it. Of a run, they
    are read from the disk as they are asked for."""
    shots: int
    """Stretches between cuts."""
    seconds: float
    """Wall time of the whole job without loading the networks."""
    seconds_per_stage: dict[str, float]
    """Seconds spent in each stage; stages run side by side, so the sum may exceed `seconds`."""
    warnings: list[str]
    """What was not as expected, one line each."""
    version: str
    """Of videoclr."""
    settings: dict[str, Any]
    """The whole configuration in force."""
    slowest: str | None = None
    """The stage that the others wait for; None where nothing was done."""
    smart_copy: dict[str, int] | None = None
    """With `--smart-copy`: `frames_copied` in `groups_copied`, `frames_encoded` in `stretches_encoded`; None without."""
    weights: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every embedded and every added weights file."""
    source_info: dict[str, Any] = field(default_factory=dict)
    """The video stream as the reader saw it; exact fractions as text such as `30000/1001`."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**self.as_written(), "tracks": plain(list(self.tracks))}

    def as_written(self) -> dict[str, Any]:
        """As `as_dict`, but with the tracks left where they are; see `json_pieces`."""
        values = {one.name: plain(getattr(self, one.name)) for one in fields(self) if one.name != "tracks"}
        values["tracks"] = Listed(self.tracks, plain)
        return {one.name: values[one.name] for one in fields(self)}


def plain(value: Any) -> Any:
    """`value` in JSON's types: fractions become exact text, paths text, tuples lists, numpy scalars numbers."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Fraction | Path):
        return str(value)
    return value.item() if hasattr(value, "item") else value


class ReportFile:
    """A JSON file that is complete or absent; see `report_file`. Either `write` at once, or `add` lines and then `finish`."""

    def __init__(self, part: Path, target: Path, what: str = "") -> None:
        self._part, self._target, self._what = part, target, what
        self._lines: TextIO | None = None

    def add(self, values: dict[str, Any]) -> None:
        """Append `values` as one line (JSON Lines), so that memory does not grow with the film.

        Raises:
            MediaError: the disk is full, or the folder has gone.
        """
        try:
            if self._lines is None:
                self._lines = self._part.open("w", encoding="utf-8", errors=_ODD_BYTES)
            self._lines.write(json.dumps(plain(values), ensure_ascii=False) + "\n")
        except OSError as error:
            raise MediaError(self._target, f"{self._what}cannot be written ({error.strerror})") from error

    def finish(self) -> None:
        """Put the lines in their place; none were added: an empty file.

        Raises:
            MediaError: the disk is full, or the folder has gone.
        """
        try:
            self.close()
            os.replace(self._part, self._target)
        except OSError as error:
            raise MediaError(self._target, f"{self._what}cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._lines is not None:
            self._lines.close()

    def write(self, values: Mapping[str, Any]) -> None:
        """Write `values`, piece by piece, and put the file in its place in one step.

        Raises:
            MediaError: the disk is full, or the folder has gone.
        """
        try:
            with self._part.open("w", encoding="utf-8", errors=_ODD_BYTES) as out:
                out.writelines(json_pieces(values, indent=2))
                out.write("\n")
            os.replace(self._part, self._target)
        except OSError as error:
            raise MediaError(self._target, f"{self._what}cannot be written ({error.strerror})") from error

    @contextmanager
    def stream(self) -> Iterator[TextIO]:
        """A text to write bit by bit; it is put in its place when the block ends well.

        Raises:
            MediaError: the disk is full, or the folder has gone.
        """
        try:
            with self._part.open("w", encoding="utf-8", errors=_ODD_BYTES, newline="") as out:
                yield out
            os.replace(self._part, self._target)
        except OSError as error:
            raise MediaError(self._target, f"{self._what}cannot be written ({error.strerror})") from error


@contextmanager
def report_file(
    path: str | Path | None, used: tuple[object, ...], overwrite: bool, option: str = "--report"
) -> Iterator[ReportFile | None]:
    """A place for a report, proven writable before the work starts: it would be a pity to learn it hours later.

    Args:
        path: the report's file, or None for no report.
        used: files of the same run, which a report must not replace; None among them is none.
        overwrite: whether a report that exists may be replaced.
        option: the option that names it, for the errors.

    Raises:
        ConfigError: `path` is a pipe or one of the `used` files.
        MediaError: `path` exists and may not be replaced, is a folder, or cannot be written.
    """
    check_report(path, used, overwrite, option)
    if path is None:
        yield None
        return
    target = Path(behind_link(path))
    part = Path(_part(path))
    what = "the report " if option.startswith("--report") else ""
    try:
        part.touch()
    except OSError as error:
        raise unwritable(target, what, error) from error
    file = ReportFile(part, target, what)
    try:
        yield file
    finally:
        with suppress(OSError):  # what could not be written is said already
            file.close()
        with suppress(OSError):
            part.unlink(missing_ok=True)


def unwritable(path: str | Path, what: str, error: OSError) -> MediaError:
    """What is said of a file that cannot be begun; `what` it is, with a blank behind it."""
    folder = Path(path).parent
    missing = error.errno == errno.ENOENT and not folder.exists()
    return MediaError(
        path, f"{what}cannot be written ({f'its folder {folder} does not exist; make it first' if missing else error.strerror})"
    )


def check_report(path: str | Path | None, used: tuple[object, ...], overwrite: bool, option: str = "--report") -> None:
    """Refuse what `report_file` refuses, but that the file cannot be written, which is tried there."""
    if path is None:
        return
    target = Path(path)
    if str(path) == "-":
        raise ConfigError(f"{option}: expected a file, not a pipe")
    refuse_used(path, used, option)
    what, whose = ("the report", " for the report") if option.startswith("--report") else (option, "")
    if os.path.isdir(target):  # unlike Path's own, no error where the name is too long: whoever makes the file says so
        raise MediaError(path, f"is a folder; {what} needs a file name")
    if os.path.exists(target) and not os.path.isfile(target):
        raise MediaError(path, f"is a pipe or a device; {what} needs a file")
    if os.path.exists(target) and not overwrite:
        raise MediaError(path, f"exists already; choose another name{whose} or say --overwrite")


_OF_SEVERAL = re.compile(rb'\s*{\s*"files"\s*:')
"""How the report of several films begins."""


def is_of_several(path: str | Path) -> bool:
    """Whether a file is a report of several films."""
    try:
        with Path(path).open("rb") as file:
            return _OF_SEVERAL.match(file.read(64)) is not None
    except OSError:
        return False


def spare_inputs(tasks: Iterable[tuple[str | Path, str | Path, Sequence[str]]]) -> None:
    """Keep results from replacing what is read: what makes one is gone with the first of them, whatever `overwrite` says.

    Args:
        tasks: the source, the target, and the files that the settings name, of each.

    Raises:
        ConfigError: a target is the source of another one, or a file of the settings; or a place of a pattern of pictures, or a
            file of a list, of those.
    """
    jobs = list(tasks)
    known: dict[object, str] = {}
    for name in dict.fromkeys(str(one) for source, _, others in jobs for one in (source, *others)):
        for path in (name, *map(str, _listed(name))):
            known.setdefault(_file_of(path), path)
    known.pop(None, None)
    patterns = [name for name in dict.fromkeys(str(source) for source, _, _ in jobs) if is_pattern(name)]
    for source, target, _ in jobs:
        found = [known.get(_file_of(target)), *(one for one in patterns if is_of(target, one))]
        found += [path for path in known.values() if is_of(path, str(target))] if is_pattern(str(target)) else []
        for other in found:  # of a source's own files its reader and writer know more to say
            if other is not None and other not in (str(source), *map(str, _listed(source))):
                raise ConfigError(f"{target} would replace {other}, which is read as well; choose another name or folder")


def _file_of(path: object) -> object:
    """What is the same for all names of a file; None where there is none."""
    try:
        found = Path(str(path)).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def refuse_used(path: str | Path, used: Iterable[object], option: str) -> None:
    """Keep a run from writing over its own files.

    Args:
        path: the file that `option` names.
        used: other files of the run, patterns of pictures and lists of files among them; None among them is none.
        option: for the error.

    Raises:
        ConfigError: `path`, or what grows beside it before it has its name, is one of them.
        MediaError: no file can have such a name.
    """
    refuse_nul(path)
    for name in used:
        for other in () if name is None else (name, *_listed(name)):
            if is_of(path, str(other)) or any(same_file(a, b) for a in (path, _part(path)) for b in (other, _part(other))):
                raise ConfigError(f"{option}: {path} is a file of this run already ({other}); choose another name")


def _listed(name: object) -> list[Path]:
    """The files of a list; none where it is none, or damaged, as its reader will say."""
    try:
        return names_in(str(name)) if is_list(str(name)) else []
    except MediaError:
        return []


def _part(path: object) -> str:
    """What a file is called while it grows: beside the place that a link leads to."""
    return f"{behind_link(str(path))}.part"


def same_file(one: object, other: object) -> bool:
    """Whether two names lead to one file, through links and relative paths; a pipe is nobody's twin."""
    if "-" in (str(one), str(other)):
        return False
    first, second = Path(str(one)), Path(str(other))
    try:
        if first.exists() or second.exists():
            return first.samefile(second)
        return first.name == second.name and first.parent.samefile(second.parent)
    except (OSError, ValueError):  # one of them, or its folder, does not exist yet, or cannot: a name with a NUL
        return first.absolute() == second.absolute()
