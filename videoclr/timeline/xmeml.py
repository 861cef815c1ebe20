"""XML of Final Cut Pro 7 (`xmeml`), which Premiere and DaVinci Resolve write: its text stays as it is but for the media of clips.

A clip (`clipitem`) shows its file from frame `in` to frame `out`, counted from the file's first; what a transition shows of it is
between them. Files are told once, where the first clip shows them, and named by their number after that. A restored part becomes a
file of its own, and the clip counts from its first frame; Premiere says `in` and `out` a second time, in ticks. Where something
changes what is counted (speed, a frozen picture, a subclip, a file of another rate), the file is restored whole, and nothing moves.

OTIO's adapter writes it anew, without what is in nested sequences, the links between picture and sound, and much else; it is for
other formats.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from videoclr.errors import ConfigError, MediaError
from videoclr.media.source import is_pattern
from videoclr.media.timecode import Timecode
from videoclr.timeline import native
from videoclr.timeline.cut import NEAR, REMAP, Named, Restored, Use, chosen, remaps_time
from videoclr.timeline.footage import Footage, anchored, becoming, moves
from videoclr.timeline.markup import Change, Element, content, every, inner, parsed, patched, quoted, value_of
from videoclr.timeline.native import Shown

_log = logging.getLogger("videoclr.timeline")

ENDING = ".xml"

_TICKS = 254_016_000_000
"""Of Premiere, in a second."""
_DEEPEST = 50
"""Sequences within one another."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a clip stands."""

    clip: Element
    file: Element
    """What names its file."""
    told: Element
    """What tells of that file."""
    rate: Fraction
    """At which the clip counts."""
    moves: bool
    """Whether it may count from another frame."""


class XmemlCut:
    """A file of XML of Final Cut Pro 7.

    Args:
        path: the file.
        sequence: which sequence, where there are several; its name.

    Raises:
        ConfigError: there are several sequences and none of that name.
        MediaError: it cannot be read, or holds no sequence.
    """

    rate_is_known = True

    def __init__(self, path: str | Path, sequence: str | None = None) -> None:
        self.path, self.beside = Path(path), Path(path).parent
        if not self.path.is_file():
            raise MediaError(self.path, "is a folder; name the cut in it" if self.path.is_dir() else "no such file")
        self._text = self.path.read_bytes()
        self._root = root = parsed(self._text, self.path)
        if root.tag != "xmeml":
            way = "; call it .fcpxml" if root.tag == "fcpxml" else ""
            raise MediaError(self.path, f"is no XML of Final Cut Pro 7 but <{root.tag[:40]}>{way}")
        told = [one for one in every(root) if one.children and one.get("id")]
        self._files = {one.attributes["id"]: one for one in told if one.tag == "file"}
        self._sequences = {one.attributes["id"]: one for one in told if one.tag == "sequence"}
        found = [(self._said(one, "name") or "", one) for one in _sequences(root)]
        self._sequence = chosen(found, self.path, sequence)
        self._changed: dict[int, tuple[_Place, Use, Restored]] = {}

    def _said(self, element: Element, *tags: str) -> str | None:
        """What stands at the path `tags` below `element`; None where nothing does."""
        return content(self._text, element.child(*tags)) or None

    def _number(self, element: Element, *tags: str) -> int | None:
        """A number of frames.

        Raises:
            ValueError: it is none.
        """
        text = self._said(element, *tags)
        if text is None:
            return None
        try:
            value = float(text)
            return round(value)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"<{tags[-1]}> {text[:40]!r} is no number of frames") from error

    def _rate(self, element: Element) -> Fraction | None:
        """Frames a second that `element` counts; None where it does not say.

        Raises:
            ValueError: there is no such rate.
        """
        base = self._number(element, "rate", "timebase")
        if base is None:
            return None
        if base <= 0:
            raise ValueError(f"<timebase> {base} is no rate")
        return Fraction(base * 1000, 1001) if _is_true(self._said(element, "rate", "ntsc")) else Fraction(base)

    def clips(self) -> Iterator[Shown]:
        """Every enabled clip of the picture tracks that shows a file, those of nested sequences once."""
        return self._below(self._sequence, set(), 0)

    def _below(self, sequence: Element, seen: set[int], depth: int) -> Iterator[Shown]:
        seen.add(sequence.begin)
        rate = self._rate(sequence) or Fraction(25)
        video = sequence.child("media", "video")
        for track in [] if video is None else video.kids("track"):
            if _is_false(self._said(track, "enabled")):
                continue
            for clip in track.kids("clipitem"):
                if _is_false(self._said(clip, "enabled")):
                    continue
                nested = clip.child("sequence")
                if nested is not None:
                    inside = nested if nested.children else self._sequences.get(nested.get("id") or "")
                    if inside is not None and inside.begin not in seen and depth < _DEEPEST:
                        yield from self._below(inside, seen, depth + 1)
                    continue
                name = self._said(clip, "name") or ""
                try:
                    shown = self._shown(clip, name, rate)
                except ValueError as error:
                    shown = Shown(name, refusal=f"clip {name!r}: {error}")
                if shown is not None:
                    yield shown

    def _shown(self, clip: Element, name: str, rate: Fraction) -> Shown | None:
        """What `clip` shows; None where that is no file.

        Raises:
            ValueError: it says what is no number, or is not read.
        """
        if clip.kids("multiclip"):
            return Shown(name, refusal=f"clip {name!r} is a multicam clip, which is not read; flatten it first")
        file = clip.child("file")
        if file is None:
            return None
        told = file if file.children else self._files.get(file.get("id") or "")
        if told is None:
            raise ValueError(f"its file {file.get('id')!r} is told nowhere in it; export it again")
        names = tuple(said for said in (self._said(told, "pathurl"), self._said(told, "name")) if said)
        if not self._said(told, "pathurl") and (told.kids("mediaSource") or not any(Path(one).suffix for one in names)):
            return None  # made by the program: titles, colours, adjustment layers
        counts = self._rate(clip) or rate
        of_file = self._rate(told) or counts
        first, last = self._number(clip, "in"), self._number(clip, "out")
        begin, end = self._number(clip, "start"), self._number(clip, "end")
        whole = (
            first is None or last is None or first < 0 or last < 0 or abs(counts / of_file - 1) >= NEAR or self._is_changed(clip)
        )
        shown = Shown(name, names, rate=of_file, length=self._number(told, "duration"), label=self._label(told, of_file))
        shown.place = _Place(clip, file, told, counts, not whole)
        if not whole and first is not None and last is not None:
            if begin is not None and end is not None and begin >= 0 and end >= 0:
                last = max(last, first + end - begin)
            shown.first, shown.last = Fraction(first), Fraction(last)
        return shown

    def _label(self, file: Element, rate: Fraction) -> int | None:
        """Timecode of the file's first frame; a number of frames."""
        number = self._number(file, "timecode", "frame")
        if number is not None:
            return number
        label = Timecode.parse(self._said(file, "timecode", "string") or "")
        try:
            return None if label is None else label.count(rate, "start")
        except ConfigError:
            return None

    def _is_changed(self, clip: Element) -> bool:
        """Whether `clip` counts otherwise than its file: its speed is changed, it shows one picture, or a part is a file to it."""
        ends = [self._number(clip, "subclipinfo", name) for name in ("startoffset", "endoffset")]
        if any(ends) or _is_true(self._said(clip, "stillframe")):
            return True
        effects = [effect for one in clip.kids("filter") for effect in one.kids("effect")]
        remaps = [one for one in effects if (self._said(one, "effectid") or "").lower() == REMAP]
        said = [{self._said(one, "parameterid"): self._said(one, "value") for one in remap.kids("parameter")} for remap in remaps]
        return any(map(remaps_time, said))

    def named(self, shown: Shown) -> Named | None:
        """See `native.named`."""
        return native.named(shown, self.path, pictures=True)

    def used(self, shown: Shown, footage: Footage) -> Use:
        """See `native.used`; all of a file of another rate than the cut says.

        Raises:
            MediaError: the file has no such frames; or is longer or shorter than the cut says, and nobody can tell which are meant.
        """
        place: _Place = shown.place
        if not footage.still and shown.rate is not None and abs(shown.rate / footage.rate - 1) >= NEAR:
            shown.rate, shown.last, shown.length, shown.label, shown.place = None, None, None, None, replace(place, moves=False)
        use = native.used(shown, footage)
        if shown.shift and not shown.place.moves:
            told = f"is longer or shorter than the cut says, and clip {shown.name!r} counts otherwise than it does"
            raise MediaError(footage.path, f"{told}; put the file there that was cut")
        return use

    def relink(self, use: Use, new: Restored, target: Path) -> None:
        """Let the clip of `use` show `new`."""
        place: _Place = use.clip.place
        if not use.footage.still and new.first != use.clip.shift and any(True for _ in place.clip.all("keyframe")):
            told = "which programs count from its file's first frame or from its own; look at them in the new cut"
            _log.warning("%s: clip %r has key frames, %s", self.path, use.clip.name, told)
        self._changed[use.clip.place.clip.begin] = use.clip.place, use, new

    def save(self, path: Path) -> None:
        """Write the cut as it is now. Relative addresses go on naming the same files.

        Raises:
            MediaError: the disk refuses.
        """
        try:
            with becoming(path) as part:
                part.write_bytes(patched(self._text, self._changes(moves(self.beside, path))))
        except OSError as error:
            raise MediaError(path, f"cannot be written as a timeline ({error})") from error

    def _changes(self, moved: bool) -> list[Change]:
        """What is other in the new text; where it is `moved`, with absolute addresses."""
        within = [one for told in self._files.values() for one in self._anchored(told)] if moved else []
        changes, new = list[Change](), dict[tuple[str, str], str]()
        taken = {value for one in every(self._root) if (value := one.get("id"))}
        for _, (place, use, restored) in sorted(self._changed.items()):
            key = place.told.get("id") or str(place.told.begin), restored.footage.path
            known = key in new
            number = new.setdefault(key, _free(taken))
            text = f'<file id="{number}"/>'.encode() if known else self._file(place.told, number, use, restored, within)
            changes.append((place.file.begin, place.file.end, text))
            changes += self._counted(place, restored.first - use.clip.shift, use.footage.still)
            if (master := place.clip.child("masterclipid")) is not None and (said := content(self._text, master)):
                changes.append((*inner(self._text, master), quoted(f"{said}-{number}").encode()))
        replaced = {begin for begin, _, _ in changes}
        changes += [one for one in within if not any(begin <= one[0] < end for begin, end, _ in changes)]
        for number, told in self._files.items():  # what still shows a file whose first clip does not tells of it now
            if told.begin in replaced:
                left = (one for one in every(self._root) if one.tag == "file" and one.get("id") == number)
                heir = next((one for one in left if one.begin not in replaced), None)
                if heir is not None:
                    changes.append((heir.begin, heir.end, patched(self._text, within, told.begin, told.end)))
        return changes

    def _anchored(self, told: Element) -> Iterator[Change]:
        """The address of a file, absolute where it is relative."""
        address = told.child("pathurl")
        if address is not None and (url := content(self._text, address)) and (place := anchored(url, self.beside)):
            yield *inner(self._text, address), quoted(place.as_uri()).encode()

    def _counted(self, place: _Place, first: int, still: bool) -> Iterator[Change]:
        """The times of a clip whose file begins `first` frames later."""
        if not first or still:
            return
        for above in (place.clip, *place.clip.kids("marker")):
            for tag in ("in", "out"):
                one, frames = above.child(tag), self._number(above, tag)
                if one is not None and frames is not None and (frames >= 0 or above is place.clip):  # -1: a marker of no length
                    yield *inner(self._text, one), str(frames - first).encode()
        for tag in ("pproTicksIn", "pproTicksOut"):
            one, ticks = place.clip.child(tag), self._said(place.clip, tag)
            if one is not None and ticks is not None and ticks.lstrip("-").isdecimal() and int(ticks) >= 0:
                yield *inner(self._text, one), str(int(ticks) - round(first * _TICKS / place.rate)).encode()

    def _file(self, told: Element, number: str, use: Use, new: Restored, within: list[Change]) -> bytes:
        """The text of the file that `new` becomes: the old one's, but for its number, its address and its times."""
        shown: Shown = use.clip
        place = native.address(shown, new)
        values: dict[tuple[str, ...], str] = {("name",): place.name, ("pathurl",): place.as_uri()}
        if not new.footage.still and shown.place.moves:
            values[("duration",)] = str(new.frames)
            source, result = use.footage.label, new.footage
            if source is not None and (shown.label or 0) == source + shown.shift and result.timecode and result.label is not None:
                values |= {("timecode", "frame"): str(result.label), ("timecode", "string"): str(result.timecode)}
            elif is_pattern(result.path) and shown.label is not None and shown.rate is not None:
                values[("timecode", "frame")] = str(shown.label + new.first)  # pictures have the one that the cut gives them
                label = Timecode.parse(self._said(told, "timecode", "string") or "")
                with suppress(ConfigError):  # what the cut says does not exist at that rate
                    values |= {} if label is None else {("timecode", "string"): str(label.after(new.first, shown.rate))}
        changes = [change for change in within if not told.begin <= change[0] < told.end]
        if told.get("id"):
            changes.append((*value_of(self._text, told, "id"), number.encode()))
        else:
            changes.append((told.begin + len("<file"), told.begin + len("<file"), f' id="{number}"'.encode()))
        for tags, value in values.items():
            if (one := told.child(*tags)) is not None and one.inside != one.end:
                changes.append((*inner(self._text, one), quoted(value).encode()))
            elif tags == ("pathurl",):
                changes.append((told.inside, told.inside, f"<pathurl>{quoted(value)}</pathurl>".encode()))
        return patched(self._text, changes, told.begin, told.end)


def _sequences(element: Element) -> Iterator[Element]:
    """Sequences that are not within another one's clips."""
    for one in element.children:
        if one.tag == "sequence":
            if one.children:
                yield one
        elif one.tag != "clipitem":
            yield from _sequences(one)


def _free(taken: set[str]) -> str:
    """A number for a file, which is taken then."""
    number = next(name for count in range(1, len(taken) + 2) if (name := f"file-restored-{count}") not in taken)
    taken.add(number)
    return number


def _is_true(text: str | None) -> bool:
    return (text or "").upper() in ("TRUE", "1")


def _is_false(text: str | None) -> bool:
    return (text or "").upper() in ("FALSE", "0")
