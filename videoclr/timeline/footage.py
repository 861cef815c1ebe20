"""The files that a cut speaks of, on this machine: by the place it names, or by name in folders that the user names.

What an editor's machine calls `file:///Volumes/Media/A001C003.mov` lies somewhere else on another one, and an EDL knows no more
of a file than the name of a clip or of a reel. So a file is looked for by its name in the folders that `--media` names, without
regard to case; of several, the one whose folders are called most like those that the cut names is meant.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.jobs import open_reader
from videoclr.media.source import is_pattern, matching, numbered
from videoclr.media.target import behind_link
from videoclr.media.timecode import Timecode

_ABSOLUTE = re.compile(r"[a-z][a-z\d+.-]*:|[/\\]", re.IGNORECASE)
"""How addresses begin that mean the same from any folder: with a scheme, a drive, a root, a host."""

_NUMBERED = re.compile(r"([^%#]*?)(\d+)")
"""The name of one of several pictures, without its ending."""
_RANGE = re.compile(r"([^%#]*)\[(\d{1,9})-\d{1,9}\](\.[^.%#]+)")
"""How Resolve calls numbered pictures."""


@dataclass(frozen=True, slots=True)
class Footage:
    """What has to be known of a file to find a cut's frames in it."""

    path: str
    """A file, or a printf pattern."""
    rate: Fraction
    """Frames a second."""
    count: int | None
    """Frames, an estimate."""
    timecode: Timecode | None
    """Of its first frame."""
    still: bool
    """One picture."""
    size: tuple[int, int] = (0, 0)
    """Width and height; pixels, as shown."""
    number: int | None = None
    """Of the first of numbered pictures."""
    stamp: Timecode | None = None
    """In the header of the first of numbered pictures."""
    guessed: bool = False
    """Whether nobody says how many pictures a second there are."""
    sounds: frozenset[int] = frozenset()
    """Numbers of its streams that are sound."""

    @property
    def label(self) -> int | None:
        """The timecode of the first frame as a number of frames from 00:00:00:00."""
        return None if self.timecode is None else self.timecode.count(self.rate, "start")

    @property
    def marks(self) -> tuple[int | None, ...]:
        """By which numbers of frames a cut may call the first one: its timecode; of numbered pictures what the header says, or
        the number, which is a timecode to Resolve."""
        stamp = None
        with suppress(ConfigError):  # it does not exist at that rate
            stamp = None if self.stamp is None else self.stamp.count(self.rate, "start")
        return self.label, stamp, self.number

    def muted_by(self, drop: Iterable[str]) -> list[str]:
        """What of `drop` (see `videoclr.media.beside.dropped`) takes all its sound; nothing where some is left or none was."""
        meant = [word for word in drop if word == "audio" or (word.isdecimal() and int(word) in self.sounds)]
        gone = self.sounds if "audio" in meant else {int(word) for word in meant}
        return meant if self.sounds and gone == self.sounds else []


def footage(path: str, config: Config) -> Footage:
    """Open `path` as `config` says, and see.

    Raises:
        MediaError: it cannot be read, or does not tell its rate.
        ConfigError: its timecode does not exist at its rate.
    """
    with open_reader(path, config) as reader:
        info = reader.info
        if reader.is_still:
            return Footage(path, Fraction(25), 1, None, True, (info.width, info.height))
        if not info.frame_rate:
            raise MediaError(path, "does not tell its frame rate, so a cut cannot be laid on it")
        size = (info.width, info.height)
        if (run := reader.sequence) is not None:  # pictures are found by their numbers
            guessed = reader.rate is None
            return Footage(path, info.frame_rate, info.frame_count, None, False, size, run.first, reader.timecode, guessed)
        sounds = frozenset(stream.index for stream in reader.container.streams.audio)
        return Footage(path, info.frame_rate, info.frame_count, reader.timecode, False, size, sounds=sounds)


def run_from(path: str, count: int) -> tuple[str, int] | None:
    """The pattern of `count` numbered pictures that begin with `path`, and its number; None where there are more or less."""
    place = Path(path)
    found = _NUMBERED.fullmatch(place.stem)
    if found is None or count < 2:
        return None
    head, digits = found.groups()
    pattern, first = str(place.with_name(f"{head}%0{len(digits)}d{place.suffix}")), int(digits)
    there = [number for number in matching(pattern) if number >= first]
    return (pattern, first) if there == list(range(first, first + count)) else None


def range_in(names: Iterable[PurePath]) -> tuple[PurePath, int] | None:
    """The pattern of numbered pictures that one of `names` means as a range, and the number of the first."""
    for name in names:
        if (found := _RANGE.fullmatch(name.name)) is not None:
            head, first, tail = found.groups()
            return name.parent / f"{head}%0{len(first)}d{tail}", int(first)
    return None


def called_as(path: Path, names: Iterable[PurePath]) -> Path:
    """What the result at `path` is called in place of what `names` said: numbered pictures a range, or the first of them."""
    if not is_pattern(str(path)):
        return path
    numbers = matching(str(path))
    first, last = (Path(numbered(str(path), number)) for number in (numbers[0], numbers[-1]))
    if range_in(names) is None:
        return first
    head = path.name.partition("%")[0]
    begin, end = (one.stem.removeprefix(head) for one in (first, last))
    return path.with_name(f"{head}[{begin}-{end}]{path.suffix}")


class Shelves:
    """Folders in which files are looked for by name.

    Args:
        folders: searched with all that is below them, once, when the first name is asked for.
        results: a folder that is passed over where it is below one of them: what is restored may be called as its source is.

    Raises:
        MediaError: one is no folder.
    """

    def __init__(self, folders: Sequence[str | Path] = (), results: str | Path | None = None) -> None:
        self.folders = [Path(folder) for folder in folders]
        self._results = None if results is None else os.path.realpath(results)
        for folder in self.folders:
            if not folder.is_dir():
                raise MediaError(folder, "is no folder to look for media in")

    @cached_property
    def _named(self) -> dict[str, list[Path]]:
        named: dict[str, list[Path]] = defaultdict(list)
        for folder in self.folders:
            for place, folders, files in os.walk(folder):
                seen = (name for name in folders if not name.startswith("."))
                folders[:] = sorted(name for name in seen if os.path.realpath(Path(place, name)) != self._results)
                for name in sorted(name for name in files if not name.startswith(".")):
                    for key in {name.casefold(), PurePath(name).stem.casefold()}:
                        named[key].append(Path(place, name))
        return named

    def find(self, names: Iterable[PurePath]) -> Path | None:
        """The file that one of `names` means, the first that any file has; None where there is none.

        Raises:
            MediaError: several files would fit as well as each other.
        """
        for name in names:
            if found := self._named.get(name.name.casefold(), []):
                best = max(_alike(path, name) for path in found)
                fitting = sorted({path.resolve(): path for path in found if _alike(path, name) == best}.values())
                if len(fitting) > 1:
                    several = ", ".join(map(str, fitting[:3])) + (", ..." if len(fitting) > 3 else "")
                    raise MediaError(name.name, f"several files may be meant: {several}; name a folder that holds one of them")
                return fitting[0]
        return None


def _alike(path: PurePath, other: PurePath) -> int:
    """How many names the ends of both paths have in common."""
    mine, theirs = ([part.casefold() for part in reversed(one.parts)] for one in (path, other))
    return next((count for count, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))


def place_of(url: str) -> PurePath:
    """The path that an address in a cut names: `file:` addresses, percent signs, Windows' drives and backslashes.

    Raises:
        MediaError: an address on the network, which is not reached for.
    """
    parts = urlsplit(url)
    if parts.scheme in ("http", "https", "ftp", "s3", "rtmp", "rtsp"):
        raise MediaError(url, "lies on the network; fetch it, and name its folder with --media")
    text = url
    if parts.scheme == "file":
        host = "" if parts.netloc.lower() in ("", "localhost") else f"//{parts.netloc}"
        text = host + unquote(parts.path + (f"#{parts.fragment}" if parts.fragment else ""))  # some write names as they are
        if len(text) > 2 and text[0] == "/" and text[2] == ":":  # /C:/...
            text = text[1:]
    windows = PureWindowsPath(text)
    if windows.drive and os.name != "nt":
        return PurePosixPath(*[part.strip("\\/") or part for part in windows.parts])
    return PurePath(text)


def candidates(place: PurePath, beside: Path) -> Iterator[Path]:
    """Where the file may lie that a cut in the folder `beside` calls `place`."""
    for name in spellings(place):
        if name.is_absolute():
            yield Path(name)
        else:
            yield beside / name
            yield Path(name)


def spellings(place: PurePath) -> list[PurePath]:
    """A name of a cut as it stands there, and as the address that it may be: `my%20film.mov` is `my film.mov`."""
    return list(dict.fromkeys([place, PurePath(unquote(str(place)))]))


def anchored(url: str, beside: Path) -> Path | None:
    """What a relative address in a cut in the folder `beside` names, whether it is there or not; None for any other address."""
    if _ABSOLUTE.match(url):
        return None
    plain = PurePath(unquote(url))
    there = next((place for place in candidates(PurePath(url), beside) if os.path.exists(place)), None)
    return Path(os.path.abspath(beside / plain)) if there is None else there.parent.resolve() / there.name


def moves(cut: Path, target: Path) -> bool:
    """Whether relative addresses of a cut that becomes `target` would be counted from another folder than `cut`, its own."""
    return any(cut.resolve() != place.parent.resolve() for place in (target, Path(behind_link(target))))


@contextmanager
def becoming(target: Path) -> Iterator[Path]:
    """A name for what is written beside a cut's place, and is `target` once it is whole; a link is written through.

    Raises:
        OSError: the disk refuses.
    """
    place = Path(behind_link(target))
    part = place.with_name(f".{place.stem}.part{target.suffix}")
    try:
        yield part
        if part.is_dir() and place.is_dir():
            shutil.rmtree(place)
        part.replace(place)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        part.unlink(missing_ok=True)
