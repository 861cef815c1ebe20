"""A cut as OpenTimelineIO reads it: which clips it shows, which times of which file each of them needs, and what they name
once those are restored.

OTIO (https://opentimelineio.readthedocs.io) has one model for what editing programs write: `.otio`, and EDL (CMX 3600), Final
Cut Pro 7 XML (which Premiere and Resolve write) and others by adapters that are packages of their own. A clip shows
`source_range` of its media, on a clock on which the media's first frame has some time: its timecode, or 0. That time, the clip's
*origin*, says which frame of the file is meant.
"""

from __future__ import annotations

import copy
import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

from videoclr.errors import ConfigError, MediaError
from videoclr.media.source import is_pattern, matching, numbered
from videoclr.timeline.edl import Change, Edl
from videoclr.timeline.footage import Footage, anchored, becoming, called_as, moves, place_of, range_in

_log = logging.getLogger("videoclr.timeline")

_REFUSED = {"otioz", "otiod", "fcpxml"}
"""Two that hold their media and would hold all of it anew, and one whose adapter rounds times down (see `fcpxml.py`)."""
_NOT_MADE = {"aaf"}
"""What other formats do not become: the adapter asks for facts that only an AAF holds (see `aaf.py`)."""
NEAR = 0.002
"""How far (relatively) two rates may differ that count the same frames: 24 and 23.976 are one to many programs."""
_EDL = ".edl"
"""Names files by plain paths, and tells no rate."""
_WHOLE = ".otio"
"""In which whatever is read can be written."""
_STEADY = 0.1
"""Frames a second by which a speed may be written otherwise than the rate."""
REMAP = "timeremap"
"""What Final Cut Pro 7 calls the effect that changes the speed of a clip."""
_ANY_RATE = 60000 / 1001
"""A rate at which every label of an EDL exists that drops no frames."""
_LATE = 0.75
"""Frames by which a media's first frame may lie off the file's timecode and still be meant by it."""


def otio() -> Any:
    """The module `opentimelineio`.

    Raises:
        ConfigError: it is not installed.
    """
    return needed("opentimelineio", "needs OpenTimelineIO")


def needed(module: str, said: str) -> Any:
    """A module of the extra `timeline`.

    Raises:
        ConfigError: it is not installed; `said` says what is missing.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"timeline: {said}; pip install 'videoclr[timeline]'") from error


@dataclass(frozen=True, slots=True)
class Named:
    """What a clip's media is called."""

    names: tuple[PurePath, ...] = ()
    """Of a file, likeliest first; without an ending where an EDL knows no more."""
    sequence: tuple[PurePath, int, Fraction | None] | None = None
    """A printf pattern, the number of its first picture, and pictures a second (None: what they say); meant where no file has
    one of `names`."""
    pictures: tuple[int, Fraction] | None = None
    """How many numbered pictures begin with the file, should it be one of them, and pictures a second."""


class Cut:
    """A file that holds a timeline.

    Args:
        path: in any format that OTIO has an adapter for.
        sequence: which timeline, where the file holds several; its name.
        rate: frames a second of an EDL, which does not tell; None to take `rate_of`'s word.

    Raises:
        ConfigError: OTIO is not installed, or there are several timelines and none of that name.
        MediaError: the file cannot be read, or holds no timeline.
    """

    def __init__(self, path: str | Path, sequence: str | None = None, rate: float | None = None) -> None:
        self.path, self.is_edl = Path(path), Path(path).suffix.lower() == _EDL
        self._list: _List | None = None
        if self.is_edl:
            self.root, self._list = _read_edl(self.path, rate)
        else:
            self.root = _read(self.path)
            _tell_of_empty(self.root, self.path)
        self.rate_is_known = not self.is_edl or rate is not None
        self.timeline = _timeline(self.root, self.path, sequence)
        self._uses: list[Use] = []

    @property
    def beside(self) -> Path:
        """The folder from which relative names of media go."""
        return self.path.parent

    def named(self, clip: Any) -> Named | None:
        """What the media of `clip` is called; None for what is no file (colour bars, titles), or where nothing of it is shown.

        Raises:
            MediaError: an address on the network; numbered pictures with steps between them, or at no rate.
        """
        schema, reference, shown = otio().schema, clip.media_reference, _visible(clip)
        if isinstance(reference, schema.GeneratorReference) or (shown is not None and not shown.duration.value):
            return None
        if isinstance(reference, schema.ImageSequenceReference):
            pattern, number, counted = _pictures(clip.name, reference)
            return Named(sequence=(pattern, number, counted if self.rate_is_known else None))
        names = [place_of(url) for url in _addresses(clip, schema)]
        if not names:
            told = clip.metadata.get("cmx_3600", {})
            names = [place_of(source)] if (source := told.get("source_file")) else []
            known = clip.name, reference.name if reference else None, told.get("reel")
            names += [PurePath(name) for name in known if name]
        if not names:
            return None
        length = None if reference is None else reference.available_range
        clock = length or clip.source_range
        if clock is None or not 0.001 <= clock.duration.rate <= 1e5:
            return Named(tuple(names))
        rate = Fraction(clock.duration.rate).limit_denominator(1001) if self.rate_is_known else None
        if (found := range_in(names)) is not None:
            return Named(tuple(names), sequence=(*found, rate))
        count = 0.0 if length is None else length.duration.value
        return Named(tuple(names), pictures=(round(count), rate) if rate and 1 < count < 2**31 else None)

    def used(self, clip: Any, footage: Footage) -> Use:
        """Which frames of `footage` the clip shows, those that dissolves and changed speed need besides included.

        Raises:
            MediaError: the file has no such frames: it is another one; or nobody can tell which are meant.
        """
        try:
            origin, shown = _origin(clip, footage), None if footage.still else _needed(clip)
            first, last = (0, None) if shown is None else _numbers(shown, origin, footage)
        except (ArithmeticError, ValueError) as error:
            raise MediaError(footage.path, f"clip {clip.name!r} shows it at times, or at a speed, that are no numbers") from error
        if last is not None:
            last = max(last, first + 1, 1)
        if last is not None and footage.count is not None and last >= footage.count:
            if last > footage.count + footage.rate:
                _log.warning("%s: ends before clip %r, which shows %d frames more", footage.path, clip.name, last - footage.count)
            last = None
        self._uses.append(use := Use(clip, footage, origin, max(0, first), last))
        return use

    def takes_sound(self, clip: Any, target: Path) -> bool:
        """Whether `clip` has its sound out of the file that it shows, in the cut that will be `target`: an event of an EDL may."""
        return self._list is not None and self._stays(target) and self._list.takes_sound(clip)

    def relink(self, use: Use, new: Restored, target: Path) -> None:
        """Let the clip of `use` show `new` in the cut that will be `target`."""
        clip, still, edl = use.clip, new.footage.still, target.suffix.lower() == _EDL
        shown = _range_of(clip)
        shift = _frames(new.first, use.footage, use.rate)
        pictures = isinstance(clip.media_reference, otio().schema.ImageSequenceReference)
        begin = use.origin.value + shift if pictures else _begin(use, new.footage)
        path = Path(new.footage.path).absolute()
        if pictures:
            clip.media_reference = _renumbered(clip.media_reference, path, new.first, edl)
        elif edl and is_pattern(str(path)):  # an EDL tells of pictures those that are shown
            clip.media_reference = _numbered(path, use.rate)
        else:
            clip.media_reference = _reference(clip, called_as(path, map(place_of, _addresses(clip, otio().schema))), edl)
        clip.media_reference.metadata["videoclr"] = {"source": use.footage.path, "first_frame": new.first}
        if still:
            return
        length = _rational(_frames(new.frames, use.footage, use.rate), use.rate)
        clip.media_reference.available_range = there = _range(_rational(begin, use.rate), length)
        if shown is not None:
            later = _rational(begin - shift - use.origin.value, use.rate)
            shown = _range(shown.start_time + later, shown.duration)
            if clip.source_range is not None or shown != there:
                clip.source_range = shown
            for marker in clip.markers:  # they stand on the media's clock
                marker.marked_range = _range(marker.marked_range.start_time + later, marker.marked_range.duration)

    def clips(self) -> Iterator[Any]:
        """Every enabled clip of the video tracks, nested ones too."""
        for track in self.timeline.video_tracks():
            for clip in track.find_clips():
                if clip.enabled and all(getattr(above, "enabled", True) for above in _above(clip)):
                    yield clip

    def save(self, path: Path) -> None:
        """Write the cut as it is now, in the format of `path`'s ending. Relative addresses go on naming the same files.

        Raises:
            MediaError: the adapter refuses, or the disk does.
        """
        if moves(self.beside, path):
            self._anchor(path.suffix.lower() == _EDL)
        try:
            with becoming(path) as part:
                self._write(part)
        except Exception as error:  # adapters raise what they like
            raise MediaError(path, f"cannot be written as a timeline ({one_line(error)})") from error

    def rehearse(self, path: Path) -> None:
        """Find out, before anything is restored, whether the cut can be written in the format of `path`'s ending.

        Raises:
            MediaError: its adapter refuses.
        """
        if path.suffix.lower() == _WHOLE or self._stays(path):
            return
        with TemporaryDirectory() as folder:
            try:
                self._write(Path(folder, f"cut{path.suffix}"))
            except Exception as error:
                way = f"write it as --save-as {path.with_suffix(_WHOLE)}"
                raise MediaError(path, f"cannot be written as a timeline ({one_line(error)}); {way}") from error

    def _stays(self, path: Path) -> bool:
        """Whether the cut at `path` is the old one's text with other media in it: an EDL of an EDL."""
        return self._list is not None and path.suffix.lower() == _EDL

    def _write(self, path: Path) -> None:
        """Write a copy, for adapters change what they are given; they raise what they like."""
        if self._list is not None and self._stays(path):
            path.write_text(self._list.patched(), encoding="utf-8", newline="")
            return
        if path.suffix.lower() != _WHOLE:
            self._complete()
        if path.suffix.lower() != _EDL:
            otio().adapters.write_to_file(self.root.deepcopy(), str(path))
            return
        otio().adapters.write_to_file(self.timeline.deepcopy(), str(path), rate=self._rate())
        path.write_text(_with_mode(path.read_text(encoding="utf-8")), encoding="utf-8")

    def _complete(self) -> None:
        """Tell of clips and their media how long they are, without which many adapters write nothing: what is known of the file,
        else what is shown of it."""
        for use in self._uses:
            if use.footage.count is not None and not use.footage.still:
                length = _rational(_frames(use.footage.count, use.footage, use.rate), use.rate)
                _measure(use.clip.media_reference, use.origin, use.origin + length)
        for clip in self.root.find_clips():
            shown, reference = clip.source_range, clip.media_reference
            if shown is not None:
                begin = min(shown.start_time, _rational(0, shown.start_time.rate))
                _measure(reference, begin, shown.end_time_exclusive())
            elif reference is not None:
                clip.source_range = reference.available_range
            if isinstance(reference, otio().schema.GeneratorReference) and "fcp_xml" not in reference.metadata:
                reference.metadata["fcp_xml"] = {"media": {"video": None}}  # the adapter for XML fails without

    def _anchor(self, edl: bool) -> None:
        """Let every address be absolute, also of what is not shown."""
        schema = otio().schema
        for reference in (one for clip in self.root.find_clips() for one in clip.media_references().values()):
            pictures = isinstance(reference, schema.ImageSequenceReference)
            url = reference.target_url_base if pictures else getattr(reference, "target_url", None) or None
            place = None if url is None else anchored(url, self.beside)
            if place is not None and pictures:
                reference.target_url_base = f"{_address(place, edl)}/"
            elif place is not None:
                reference.target_url = _address(place, edl)

    def _rate(self) -> float:
        rates = Counter(clip.source_range.duration.rate for clip in self.timeline.find_clips() if clip.source_range)
        return float(rates.most_common(1)[0][0]) if rates else 24.0


@contextmanager
def quiet() -> Iterator[None]:
    """Packages that print what they miss, or log it at the root where nobody listens, do not: errors are told once."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeHandler(silent)


def _read(path: Path) -> Any:
    module = otio()
    _check(path)
    try:
        with quiet():
            return module.adapters.read_from_file(str(path))
    except Exception as error:  # adapters raise what they like, and parsers below them too
        raise MediaError(path, f"cannot be read as a timeline ({one_line(error)})") from error


def _tell_of_empty(root: Any, path: Path) -> None:
    """Tell of nested sequences in XML, which OTIO's adapter reads as empty."""
    if path.suffix.lower() != ".xml" or not hasattr(root, "find_children"):
        return
    stacks = root.find_children(descended_from_type=otio().schema.Stack)
    if empty := [one for one in stacks if not len(one) and "fcp_xml" in one.metadata]:
        told = "is left out of another format; flatten them, or let the cut become .xml again"
        _log.warning("%s: what is in its nested sequences (%d) %s", path, len(empty), told)


@dataclass(slots=True)
class _List:
    """An EDL as it was read."""

    text: Edl
    rate: float
    """At which labels count frames."""
    clips: dict[int, tuple[Any, Any, str | None]]
    """By the lines of events: the clip of each, the time at which it began, and the address of its media."""

    def takes_sound(self, clip: Any) -> bool:
        """Whether the event of `clip` is of picture and sound."""
        return any(self.text.has_sound(place) for place, (one, *_) in self.clips.items() if one is clip)

    def patched(self) -> str:
        """The text, with what has become of the clips."""
        changes = {}
        for place, (clip, start, address) in self.clips.items():
            moved, now = clip.source_range.start_time - start, _told_in_edl(clip)
            if moved.value or now != address:
                changes[place] = Change(round(moved.value_rescaled_to(self.rate)), None if now == address else now)
        return self.text.patched(changes, Fraction(self.rate).limit_denominator(1001))


def _read_edl(path: Path, rate: float | None) -> tuple[Any, _List]:
    """An EDL whose labels count frames at `rate` (None: at any); where it drops none, at the whole number next to it."""
    module = otio()
    _check(path)
    try:
        edl = Edl(path.read_bytes())
        text = edl.for_adapter()
        wanted = _ANY_RATE if rate is None else rate
        exact = wanted if ";" in text or wanted == _ANY_RATE else round(wanted)
        root = module.adapters.read_from_string(text, "cmx_3600", rate=exact, ignore_timecode_mismatch=True)
        found = dict[int, tuple[Any, Any, str | None]]()
        pictures = [clip for track in root.video_tracks() for clip in track.find_clips()]
        for clip in [*pictures, *root.find_clips()]:  # sound of the same event is not what is replaced
            if (place := edl.event_of(clip)) is not None:
                found.setdefault(place, (clip, clip.source_range.start_time, _told_in_edl(clip)))
                _run(clip, edl.speed_of(place), exact)
    except Exception as error:
        raise MediaError(path, f"cannot be read as a timeline ({one_line(error)})") from error
    return root, _List(edl, exact, found)


def _run(clip: Any, speed: float | None, rate: float) -> None:
    """Let `clip` run at `speed` (frames a second): OTIO's adapter knows changes alone that change how long a clip is."""
    schema = otio().schema
    if speed is None or abs(speed - rate) <= _STEADY or any(isinstance(one, schema.TimeEffect) for one in clip.effects):
        return
    clip.effects.append(schema.LinearTimeWarp(time_scalar=speed / rate) if speed else schema.FreezeFrame())
    if not speed:
        clip.name = clip.name.removesuffix(" FF")  # so do programs mark what is frozen


def _told_in_edl(clip: Any) -> str | None:
    """What an EDL calls the media of `clip`; None where that is no file."""
    schema, reference = otio().schema, clip.media_reference
    if isinstance(reference, schema.ImageSequenceReference):
        first, last = reference.frame_range_for_time_range(clip.trimmed_range())
        digits = reference.frame_zero_padding
        return str(reference.abstract_target_url(f"[{first:0{digits}d}-{last:0{digits}d}]"))
    return getattr(reference, "target_url", None) or None


def _with_mode(edl: str) -> str:
    """An EDL whose labels drop frames says so in its head, as OTIO's does not."""
    head, events, rest = edl.partition("\n\n")
    drops = any(re.search(r"\d\d:\d\d:\d\d;\d\d", line) for line in rest.splitlines() if line[:3].isdigit())
    return f"{head}\nFCM: DROP FRAME{events}{rest}" if drops else edl


def _check(path: Path) -> None:
    if not path.is_file():
        raise MediaError(path, "is a folder; name the cut in it" if path.is_dir() else "no such file")
    if path.suffix.lower() not in (known := _endings(read=True)):
        raise MediaError(
            path, f"is no timeline that can be read here; expected {', '.join(sorted([*known, '.fcpxml', '.fcpxmld']))}"
        )


def _endings(**way: bool) -> list[str]:
    return sorted(f".{ending}" for ending in otio().adapters.suffixes_with_defined_adapters(**way) - _REFUSED)


def check_target(path: Path) -> None:
    """Refuse a cut's new name where no cut can be written under it.

    Raises:
        ConfigError: its ending is of no format.
    """
    if path.suffix.lower() not in (known := [one for one in _endings(write=True) if one[1:] not in _NOT_MADE]):
        raise ConfigError(f"--save-as: {path} is no timeline that can be written here; expected {', '.join(known)}")


def _timeline(root: Any, path: Path, name: str | None) -> Any:
    kind = otio().schema.Timeline
    found = [root] if isinstance(root, kind) else []
    if not found and hasattr(root, "find_children"):
        found = list(root.find_children(descended_from_type=kind))
    if not found:
        raise MediaError(path, f"holds no timeline but a {type(root).__name__}")
    return chosen([(one.name, one) for one in found], path, name)


def chosen(found: list[tuple[str, Any]], path: Path, name: str | None) -> Any:
    """The one timeline of `found`, pairs of names and whatever stands for them, that is meant.

    Raises:
        ConfigError: several, and `name` chooses none, or more than one.
        MediaError: there is none.
    """
    told = ", ".join(repr(known) for known, _ in found)
    if not found:
        raise MediaError(path, "holds no timeline")
    if name is not None:
        found = [one for one in found if one[0] == name]
        if not found:
            raise ConfigError(f"timeline: {path} holds no timeline {name!r}; it holds {told}")
    if len(found) > 1 and len({known for known, _ in found}) == 1:
        raise ConfigError(
            f"timeline: {path} holds {len(found)} timelines called {found[0][0]!r}; give each a name of its own there"
        )
    if len(found) > 1:
        raise ConfigError(f"timeline: {path} holds several timelines; choose one with --sequence: {told}")
    return found[0][1]


def _above(clip: Any) -> Iterator[Any]:
    parent = clip.parent()
    while parent is not None:
        yield parent
        parent = parent.parent()


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _pictures(name: str, reference: Any) -> tuple[PurePath, int, Fraction]:
    """What `Named.sequence` holds, of the clip `name`."""
    base, rate, start, digits = reference.target_url_base, reference.rate, reference.start_frame, reference.frame_zero_padding
    if reference.frame_step != 1:
        raise MediaError(base, "leaves numbers out between its pictures, which cannot be restored in a row")
    if not (0.001 <= rate <= 1e5 and 0 <= start < 2**31 and digits < 100):
        told = f"{rate:g} a second from number {start} on, of {digits} digits"
        raise MediaError(base, f"cannot hold the pictures of clip {name!r}, which are {told}")
    pattern = f"{reference.name_prefix}{f'%0{digits}d' if digits else '%d'}{reference.name_suffix}"
    return place_of(base) / pattern, start, Fraction(rate).limit_denominator(1001)


def _addresses(clip: Any, schema: Any) -> list[str]:
    """Of the media that is shown, else of the others that a clip knows: of an AAF the file, and what it was made from."""
    shown = clip.media_reference
    others = [] if isinstance(shown, schema.ExternalReference) and shown.target_url else clip.media_references().values()
    known = [one for one in (shown, *others) if isinstance(one, schema.ExternalReference)]
    return [one.target_url for one in known if one.target_url]


@dataclass(frozen=True, slots=True)
class Use:
    """The frames of a file that a clip shows."""

    clip: Any
    footage: Footage
    origin: Any
    """Time (`RationalTime`) of the file's first frame on the clip's clock."""
    first: int
    """Number of the first frame in the file."""
    last: int | None
    """Number of the frame after the last; None: to the end."""

    @property
    def rate(self) -> float:
        """Of the clip's clock."""
        return float(self.origin.rate)


def _origin(clip: Any, footage: Footage) -> Any:
    """The time of the file's first frame on the clip's clock: what the cut says, what marks the file's or 0, whichever fits."""
    shown, reference = _range_of(clip), clip.media_reference
    rate = float(footage.rate) if shown is None else shown.start_time.rate
    said = (
        [] if reference is None or reference.available_range is None else [reference.available_range.start_time.rescaled_to(rate)]
    )
    zero, marks = _rational(0, rate), [mark for mark in footage.marks if mark is not None]
    labels = [_rational(_frames(mark, footage, rate), rate) for mark in marks]
    pictures = isinstance(reference, otio().schema.ImageSequenceReference)  # says a range where it does not count from 0
    origins = [*said, zero, *labels] if pictures else [*said, *labels, zero]
    if shown is None or footage.still or _is_remapped(clip):
        return origins[0]
    for origin in origins:
        first, last = _numbers(shown, origin, footage)
        if max(last, first + 1) > 0 and (footage.count is None or first < footage.count):
            return origin
    asked = f"{shown.start_time.to_seconds():.3f} s to {shown.end_time_exclusive().to_seconds():.3f} s"
    has = f"{footage.count} frames" + (f" from {footage.timecode} on" if footage.timecode else "")
    raise MediaError(footage.path, f"is not what the cut means: clip {clip.name!r} shows {asked} of it, and it has {has}")


def _numbers(shown: Any, origin: Any, footage: Footage) -> tuple[int, int]:
    return _number(shown.start_time - origin, footage), _number(shown.end_time_exclusive() - origin, footage)


def _rational(value: float, rate: float) -> Any:
    return otio().opentime.RationalTime(value, rate)


def _needed(clip: Any) -> Any:
    """The range of its media that `clip` needs, or None for all."""
    opentime, schema, shown = otio().opentime, otio().schema, _visible(clip)
    changes = [effect for effect in clip.effects if isinstance(effect, schema.TimeEffect)]
    if _is_remapped(clip):
        return None
    if shown is None or not changes:
        return shown
    if not all(isinstance(effect, schema.LinearTimeWarp) for effect in changes):
        return None  # a curve of speeds: any part of the file may be shown
    # Programs differ in whether the range is counted before or after the change, and backwards from where.
    speed = max(abs(effect.time_scalar) for effect in changes)
    backwards = any(effect.time_scalar < 0 for effect in changes)
    more = opentime.RationalTime(shown.duration.value * max(speed - 1.0, 1.0 if backwards else 0.0), shown.duration.rate)
    return opentime.TimeRange(shown.start_time - more, shown.duration + more + more)


def _is_remapped(clip: Any) -> bool:
    """Whether the XML of Final Cut Pro 7 plays the clip at another speed, or one picture of it.

    OTIO's adapter passes that on as it stands. Times of such a clip are counted after the change, so all of the file may be shown.
    """
    said = clip.metadata.get("fcp_xml", {})
    if str(said.get("stillframe", "")).upper() == "TRUE":
        return True
    effects = [one.get("effect", {}) for one in _listed(said.get("filter")) if hasattr(one, "get")]
    remaps = [effect for effect in effects if hasattr(effect, "get") and str(effect.get("effectid")).lower() == REMAP]
    parameters = [[one for one in _listed(remap.get("parameter")) if hasattr(one, "get")] for remap in remaps]
    return any(remaps_time({one.get("parameterid"): one.get("value") for one in said}) for said in parameters)


def remaps_time(parameters: Mapping[Any, Any]) -> bool:
    """Whether the effect `timeremap` of the XML of Final Cut Pro 7 changes anything.

    Args:
        parameters: of the effect, by `parameterid`.
    """
    said = {name: str(value).upper() for name, value in parameters.items()}
    try:
        steady = float(said.get("speed", "nan")) == 100
    except ValueError:
        steady = False
    return not steady or said.get("variablespeed", "0") != "0" or said.get("reverse", "FALSE") not in ("FALSE", "0", "NONE", "")


def _listed(said: Any) -> list[Any]:
    """What an element of XML holds once, more than once, or not at all."""
    return [] if said is None else [said] if hasattr(said, "keys") or isinstance(said, str) else list(said)


def _visible(clip: Any) -> Any:
    """The range that `clip` shows, with what dissolves on both sides show of it; None for all."""
    shown = _range_of(clip)
    return shown if shown is None or not isinstance(clip.parent(), otio().schema.Track) else clip.visible_range()


def _range_of(clip: Any) -> Any:
    """The range of its media that `clip` says it shows: all that the cut knows of, where it names none; None where that is
    nothing."""
    if clip.source_range is not None:
        return clip.source_range
    known = None if clip.media_reference is None else clip.media_reference.available_range
    return known if known is not None and known.duration.value > 0 else None


def _frames(count: float, footage: Footage, rate: float) -> float:
    """`count` frames of the file in frames of a clock of `rate`."""
    return count if abs(rate / footage.rate - 1) < NEAR else count * rate / float(footage.rate)


def _number(time: Any, footage: Footage) -> int:
    """The file's frame at `time` after its first."""
    rate = float(time.rate)
    count = float(time.value)
    return round(count if abs(rate / footage.rate - 1) < NEAR else count / rate * float(footage.rate))


@dataclass(frozen=True, slots=True)
class Restored:
    """What a clip shows in place of its media."""

    footage: Footage
    first: int
    """Number of the frame of the old media with which it begins."""
    frames: int


def _address(path: Path, edl: bool) -> str:
    return str(path) if edl else path.as_uri()


def _reference(clip: Any, path: Path, edl: bool) -> Any:
    new, old = otio().schema.ExternalReference(target_url=_address(path, edl)), clip.media_reference
    if old is not None:
        new.name = old.name
        for key, value in old.metadata.items():
            new.metadata[key] = copy.deepcopy(value)
    return new


def _numbered(path: Path, rate: float) -> Any:
    """What shows the numbered pictures of a pattern in an EDL."""
    first = matching(str(path))[0]
    head = path.name.partition("%")[0]
    digits = Path(numbered(str(path), first)).stem.removeprefix(head)
    folder = f"{_address(path.parent, edl=True)}/"
    return otio().schema.ImageSequenceReference(folder, head, path.suffix, first, 1, rate, len(digits))


def _renumbered(old: Any, path: Path, first: int, edl: bool) -> Any:
    new = old.deepcopy()
    new.target_url_base = f"{_address(path.parent, edl)}/"
    new.name_suffix = path.suffix
    new.start_frame = old.start_frame + first
    return new


def _measure(reference: Any, begin: Any, end: Any) -> None:
    """Let media last from `begin` to `end` that does not say how long it is."""
    if reference is not None and reference.available_range is None:
        reference.available_range = otio().opentime.range_from_start_end_time(begin, end)


def _range(start: Any, duration: Any) -> Any:
    return otio().opentime.TimeRange(start, duration)


def _begin(use: Use, result: Footage) -> float:
    """Time of a restored file's first frame on the clip's clock: what named that of the source, a mark or 0, names it too."""
    for source, now in zip(use.footage.marks, result.marks, strict=True):
        if source is not None and abs(use.origin.value - _frames(source, use.footage, use.rate)) < _LATE:
            return 0.0 if now is None else _frames(now, use.footage, use.rate)
    return float(use.origin.value)
