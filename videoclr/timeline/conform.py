"""The footage of a cut, restored where the cut shows it, and the cut that shows the restored files.

    done = restore_timeline("cut.otio", "restored/")

Of every file those frames are restored that any clip shows, with handles on both sides; parts that touch become one. What is
restored keeps its timecode, so that the new cut is frame-exact in programs that go by it, and in those that count from 0.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from videoclr.config import Config, or_defaults
from videoclr.errors import ConfigError, MediaError, VideoclrError
from videoclr.jobs import (
    Manner,
    ProgressCallback,
    Site,
    Task,
    check_folder,
    check_tasks,
    here,
    make_folder,
    refuse_tracks,
    restore_tasks,
)
from videoclr.media.faults import refuse_nul
from videoclr.media.source import matching, numbered
from videoclr.media.target import behind_link, check_ending
from videoclr.report import Report, check_report, same_file
from videoclr.timeline.cut import Cut, Named, Restored, Use
from videoclr.timeline.fcpxml import FcpxmlCut
from videoclr.timeline.footage import Footage, Shelves, candidates, footage, run_from, spellings
from videoclr.timeline.formats import AnyCut, check_target, open_cut

_log = logging.getLogger("videoclr.timeline")

HANDLES = 12
"""Frames restored before and behind what a clip shows."""

_Key: TypeAlias = tuple[str, int | None, str | None]
"""What tells footage from other footage."""


@dataclass(slots=True)
class Part:
    """Frames of a file that are restored together."""

    source: Footage
    config: Config
    """With which the file is opened as a whole."""
    first: int
    last: int | None
    """The frame after the last; None: to the end."""
    uses: list[Use] = field(default_factory=list)
    target: Path = Path()

    def restored_as(self) -> Config:
        """With what the result is opened as a whole."""
        number = self.config.media.input.start_number
        return self.config if number is None else self.config.override(f"media.input.start_number={number + self.first}")

    def task(self) -> Task:
        """What restores it."""
        numbers = self.config.media.input.start_number
        changes = []
        if self.source.still:  # what films are encoded with is nothing for a picture
            return Task(self.source.path, self.target, self.config.override("media.codec=null", "media.profile=null"))
        if numbers is not None:  # the results are numbered as the pictures are
            changes = [f"media.input.start_number={numbers + self.first}"]
            changes += [] if self.last is None else [f"media.frames={self.last - self.first}"]
        else:
            changes += [f'media.start="{self.first}f"'] if self.first else []
            changes += [] if self.last is None else [f'media.end="{self.last}f"']
        return Task(self.source.path, self.target, self.config.override(*changes))


@dataclass(frozen=True, slots=True)
class Conformed:
    """What became of a cut."""

    timeline: Path
    parts: list[Part]
    results: list[Report | VideoclrError]
    """Of each part."""
    clips: int
    """That show footage."""
    relinked: int
    """Clips that show restored files now."""
    faceless: int
    """Clips that show what they showed, because no face is in it."""
    missed: list[str]
    """What is the matter with clips whose media was not found, or is not what they mean; one line each."""
    kept: bool = False
    """Whether an earlier cut of that name was left as it is: a part failed whose earlier result it may show."""
    failed: bool = False
    """Whether every part failed: no cut is written then, and one that is there is left as it is."""


def restore_timeline(
    timeline: str | Path,
    folder: str | Path,
    config: Config | None = None,
    *,
    handles: int = HANDLES,
    media: Sequence[str | Path] = (),
    sequence: str | None = None,
    save_as: str | Path | None = None,
    consolidate: bool = False,
    ending: str | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    ended: Callable[[str, Report | VideoclrError], None] | None = None,
    site: Site = here,
) -> Conformed:
    """Restore what a cut shows into `folder`, and write a cut there that shows it.

    An earlier cut of that name stays as it is where a part fails whose earlier result is there: the new one would show less. Where
    every part fails, no cut is written: it would show what the old one shows.

    Args:
        timeline: AAF, FCPXML, or any format that OpenTimelineIO has an adapter for.
        folder: made if it does not exist.
        config: settings of all files; the defaults if None.
        handles: frames restored before and behind what a clip shows.
        media: folders in which files are looked for that are not where the cut says.
        sequence: which timeline, where the file holds several.
        save_as: the new cut; None for `folder` and the old one's name.
        consolidate: keep parts without a face as well, encoded anew; otherwise their clips go on showing the original.
        ending, report, overwrite, resume, progress, ended, site: see `videoclr.jobs.restore_batch`.

    Raises:
        ConfigError: OpenTimelineIO is missing, or a setting that fits no cut.
        MediaError: the cut, the folder or a report cannot be read or written; or no clip's media was found.
        WeightsError: the networks cannot be loaded.
        DeviceLostError: the device failed; there is no new cut then.
    """
    manner, target = Manner(overwrite, resume=resume, faceless=consolidate), _target(timeline, folder, save_as)
    cut, parts, missed = _planned(timeline, folder, target, or_defaults(config), handles, media, sequence, ending)
    _check_results(cut, folder, target, parts, manner, report)
    if not parts:
        raise MediaError(
            timeline, missed[0].removeprefix(f"{timeline}: ") + (f" (and {len(missed) - 1} more)" if len(missed) > 1 else "")
        )
    for place in _folders(folder, target, parts):
        make_folder(place)
    results = restore_tasks([part.task() for part in parts], manner, report=report, progress=progress, ended=ended, site=site)
    clips, relinked, faceless = sum(len(part.uses) for part in parts) + len(missed), 0, 0
    for part, result in zip(parts, results, strict=True):
        if isinstance(result, VideoclrError):
            continue
        if not result.faces_restored and not consolidate:
            faceless += len(part.uses)
            continue
        new = Restored(footage(str(part.target), part.restored_as()), part.first, result.frames_out)
        try:
            for use in part.uses:
                cut.relink(use, new, target)
        except MediaError as error:
            missed.append(str(error))
        else:
            relinked += len(part.uses)
    failed = [part for part, result in zip(parts, results, strict=True) if isinstance(result, VideoclrError)]
    kept = target.exists() and any(part.target.exists() or matching(str(part.target)) for part in failed)
    if not kept and len(failed) < len(parts):
        cut.save(target)
    return Conformed(target, parts, results, clips, relinked, faceless, missed, kept, failed=len(failed) == len(parts))


def parts_of_timeline(
    timeline: str | Path,
    folder: str | Path,
    config: Config | None = None,
    *,
    handles: int = HANDLES,
    media: Sequence[str | Path] = (),
    sequence: str | None = None,
    save_as: str | Path | None = None,
    ending: str | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> tuple[list[Part], list[str]]:
    """What `restore_timeline` would restore, and what it would miss; refuses what that refuses before it restores anything."""
    target = _target(timeline, folder, save_as)
    cut, parts, missed = _planned(timeline, folder, target, or_defaults(config), handles, media, sequence, ending)
    _check_results(cut, folder, target, parts, Manner(overwrite, resume=resume), report)
    return parts, missed


def _target(timeline: str | Path, folder: str | Path, save_as: str | Path | None) -> Path:
    """The new cut.

    Raises:
        ConfigError: it is the old one, or in a format that does not become.
        MediaError: no file can have such a name.
    """
    refuse_nul(folder, save_as)
    target = Path(folder, Path(timeline).name) if save_as is None else Path(save_as)
    if save_as is not None:
        check_target(target, Path(timeline))
    if same_file(timeline, target):
        raise ConfigError(f"timeline: {target} is the cut that is read; choose another folder, or another name with --save-as")
    return target


def _folders(folder: str | Path, target: Path, parts: Sequence[Part]) -> set[Path]:
    """Where results go."""
    return {Path(folder), Path(behind_link(target)).parent, *(part.target.parent for part in parts)}


def _planned(
    timeline: str | Path,
    folder: str | Path,
    target: Path,
    config: Config,
    handles: int,
    media: Sequence[str | Path],
    sequence: str | None,
    ending: str | None,
) -> tuple[AnyCut, list[Part], list[str]]:
    _check(config, handles)
    check_ending(ending, config.media.container)
    cut = open_cut(timeline, sequence, target)
    finder = _Finder(cut.beside, Shelves(media, folder), config)
    if not cut.rate_is_known:  # an EDL's labels are frames of what they are cut from
        rate = finder.rate(cut)
        cut = cut if rate is None else open_cut(timeline, sequence, target, float(rate))
    parts = _merged(_uses(finder, cut), handles)
    _tell_of_sound(cut, parts, config, target)
    _name(parts, Path(folder), ending)
    if not parts and not finder.missed:
        raise MediaError(timeline, "shows no footage")
    return cut, parts, finder.missed


def _tell_of_sound(cut: AnyCut, parts: Sequence[Part], config: Config, target: Path) -> None:
    """Say it where a clip takes its sound out of what is restored, and that is to have none."""
    mute: list[list[str]] = []
    for use in (use for part in parts for use in part.uses):
        if isinstance(cut, FcpxmlCut):
            takes = cut.takes_sound(use.clip)
        else:  # elsewhere sound has clips of its own, which go on showing what they showed
            takes = isinstance(cut, Cut) and cut.takes_sound(use.clip, target)
        if takes and (meant := use.footage.muted_by(config.media.drop)):
            mute.append(meant)
    if mute:
        which = "1 clip takes its" if len(mute) == 1 else f"{len(mute)} clips take their"
        words = " and ".join(f"--drop {word}" for word in dict.fromkeys(word for meant in mute for word in meant))
        _log.warning("%s: %s sound out of the restored files, which have none; leave out %s", cut.path, which, words)


def _check_results(
    cut: AnyCut, folder: str | Path, target: Path, parts: Sequence[Part], manner: Manner, report: str | Path | None
) -> None:
    """Refuse what cannot be written, or would replace what must stay."""
    if target.exists() and not (manner.overwrite or manner.resume):
        raise MediaError(target, "exists already; remove it or allow overwriting (--overwrite)")
    for place in _folders(folder, target, parts):
        check_folder(place)
    check_tasks([part.task() for part in parts], manner, report)
    check_report(report, (cut.path, target), overwrite=True)  # whether it may be replaced is known by now
    if parts and isinstance(cut, Cut):
        cut.rehearse(target)


class _Finder:
    """Finds the media of clips, and opens each once.

    Args:
        beside: folder of the cut.
        shelves: where to look for what is not where the cut says.
        config: opens files.
    """

    def __init__(self, beside: Path, shelves: Shelves, config: Config) -> None:
        self.beside, self.shelves, self.config = beside, shelves, config
        self.missed: list[str] = []
        self._opened: dict[_Key, tuple[Footage, Config]] = {}

    def found(self, cut: AnyCut) -> Iterator[tuple[Any, Footage, Config]]:
        """Each clip that shows a file, the file, and how it is opened; `missed` holds what is the matter with others."""
        self.missed = []
        for clip in cut.clips():
            with self.telling():
                name = cut.named(clip)
                if name is not None:
                    yield clip, *self._open(clip, name)

    def rate(self, cut: AnyCut) -> Fraction | None:
        """How many frames a second most of what `cut` shows has; None where nothing of it is found.

        Raises:
            MediaError: only numbered pictures are, and nobody says.
        """
        found = [file for _, file, _ in self.found(cut)]
        films = [file for file in found if not file.still] or found
        rates = [file.rate for file in films if not file.guessed]
        if films and not rates:
            raise MediaError(cut.path, "shows numbered pictures alone, which do not tell its rate; say so (--rate 24)")
        return max(set(rates), key=rates.count) if rates else None

    @contextmanager
    def telling(self) -> Iterator[None]:
        """What is the matter with a clip's media goes to `missed`."""
        try:
            yield
        except MediaError as error:
            self.missed.append(str(error))

    def _open(self, clip: Any, name: Named) -> tuple[Footage, Config]:
        if name.sequence is not None and self._there(name.names) is None:
            pattern, number, rate = name.sequence
            return self._opened_as(self._pictures(pattern, number), number, rate)
        path = self._file(clip, name.names)
        found = self._opened_as(path)
        if found[0].still and name.pictures is not None and (run := run_from(path, name.pictures[0])) is not None:
            return self._opened_as(*run, name.pictures[1])
        return found

    def _opened_as(self, path: str, number: int | None = None, rate: Fraction | None = None) -> tuple[Footage, Config]:
        """A file; or the numbered pictures from `number` on, at `rate`."""
        config = self.config
        if number is not None:
            config = config.override(f"media.input.start_number={number}")
        if number is not None and rate is not None:
            config = config.override(f'media.input.rate="{rate}"')
        key = _key(path, config)
        if key not in self._opened:
            self._opened[key] = footage(path, config), config
        return self._opened[key]

    def _there(self, names: Sequence[PurePath]) -> Path | None:
        """The file that is where the cut says."""
        places = (place for name in names if name.suffix for place in candidates(name, self.beside))
        return next((place for place in places if os.path.isfile(place)), None)  # Path's own fails where a name is too long

    def _file(self, clip: Any, names: Sequence[PurePath]) -> str:
        spelled = [one for name in names for one in spellings(name)]
        found = self._there(names) or self.shelves.find(spelled)
        if found is None:
            raise MediaError(names[0], f"the media of clip {clip.name!r} is not there; name the folder that it is in with --media")
        return str(found)

    def _pictures(self, pattern: PurePath, number: int) -> str:
        for folder in candidates(pattern.parent, self.beside):
            if os.path.isfile(numbered(str(folder / pattern.name), number)):
                return str(folder / pattern.name)
        first = self.shelves.find([PurePath(numbered(str(pattern), number))])
        if first is None:
            raise MediaError(numbered(str(pattern), number), "is not there; name the folder that it is in with --media")
        return str(first.with_name(pattern.name))


def _uses(finder: _Finder, cut: AnyCut) -> Iterator[tuple[Use, Config]]:
    for clip, file, config in finder.found(cut):
        with finder.telling():
            yield cut.used(clip, file), config


def _key(path: str, config: Config) -> _Key:
    """A file is one by all its names; numbered pictures are other footage from another number on, and at another rate."""
    return os.path.realpath(path), config.media.input.start_number, config.media.input.rate


def _merged(uses: Iterable[tuple[Use, Config]], handles: int) -> list[Part]:
    """Parts in the order in which the cut shows the first of each file; those of a file that touch are one."""
    files: dict[_Key, list[tuple[Use, Config]]] = {}
    for use, config in uses:
        files.setdefault(_key(use.footage.path, config), []).append((use, config))
    parts: list[Part] = []
    for wanted in files.values():
        of_file: list[Part] = []
        for use, config in sorted(wanted, key=lambda one: one[0].first):
            first, last = max(0, use.first - handles), None if use.last is None else use.last + handles
            if last is not None and use.footage.count is not None and last >= use.footage.count:
                last = None
            if of_file and (of_file[-1].last is None or first <= of_file[-1].last):
                end = of_file[-1].last
                of_file[-1].last = None if end is None or last is None else max(end, last)
            else:
                of_file.append(Part(use.footage, config, first, last))
            of_file[-1].uses.append(use)
        parts += of_file
    return parts


def _name(parts: Sequence[Part], folder: Path, ending: str | None) -> None:
    """Names that tell the source and, of a part of it, its frames; numbered pictures get a folder. Pictures keep their ending."""
    taken: set[Path] = set()
    for part in parts:
        source = Path(part.source.path)
        pictures = part.config.media.input.start_number is not None
        suffix = source.suffix
        if ending is not None and not (pictures or part.source.still):
            suffix = f".{ending.removeprefix('.')}"
        stem = source.parent.name if pictures else source.stem
        whole = not part.first and part.last is None
        stem += "" if whole else f".{part.first:06d}-{'end' if part.last is None else f'{part.last - 1:06d}'}"
        for again in itertools.count(1):
            name = stem if again == 1 else f"{stem}~{again}"
            part.target = folder / name / f"{source.stem}{suffix}" if pictures else folder / f"{name}{suffix}"
            place = part.target.parent if pictures else part.target
            if place not in taken:
                taken.add(place)
                break


def _check(config: Config, handles: int) -> None:
    if handles < 0:
        raise ConfigError(f"--handles: expected 0 or more frames, got {handles}")
    media = config.media
    if (media.start, media.end, media.frames) != (None, None, None):
        raise ConfigError("$.media.start: a cut says itself which frames it shows; leave out --start, --end and --frames")
    if media.start_number is not None:
        raise ConfigError("$.media.start_number: pictures of a cut keep their numbers, by which it finds them; leave it out")
    refuse_tracks(config)


def table_of(parts: Sequence[Part]) -> Iterator[tuple[str, ...]]:
    """A head, and a row for every part."""
    yield "clips", "first", "last", "source", "result"
    for part in parts:
        last = "end" if part.last is None else str(part.last - 1)
        yield str(len(part.uses)), str(part.first), last, part.source.path, str(part.target)
