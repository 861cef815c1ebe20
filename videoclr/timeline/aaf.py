"""AAF, the cut of Avid Media Composer: a copy of the file in which clips show other media, and all else is as it was.

A composition shows edit units of a master mob, which shows a file (a source mob with a locator), which was cut out of a tape (a
source mob with a timecode). A restored part becomes a file and a master mob of its own, cut out of the same tape at the timecode
that it has there, and the clips count from its first frame. Lengths are edit units with what dissolves show, and curves of speed
count from where a clip begins, so none of that changes. What was rendered of an effect beforehand is dropped where it shows the old
media, and only there.

Read and written by pyaaf2 (https://pyaaf.readthedocs.io), which comes with OpenTimelineIO's adapter for AAF; that adapter makes
`.otio` and other formats of an AAF.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

from videoclr.errors import ConfigError, MediaError
from videoclr.timeline import native
from videoclr.timeline.cut import NEAR, Named, Restored, Use, chosen, needed, one_line, quiet
from videoclr.timeline.footage import Footage, anchored, becoming, moves
from videoclr.timeline.native import Shown

_WARPS = ("motion control", "timewarp", "time warp", "freeze frame", "motion adapter", "speed")
"""Names of operations that change the speed, should they not say so."""
_DEEPEST = 100
"""Mobs and segments within one another; files that were made to break programs have more."""

_Range: TypeAlias = tuple[Fraction, Fraction] | None
"""Edit units from a clip's start on that a change of speed shows; None: any."""


def aaf2() -> Any:
    """The module `aaf2`.

    Raises:
        ConfigError: it is not installed.
    """
    return needed("aaf2", "AAF needs pyaaf2")


class _Refused(Exception):
    """A clip's media is not understood; its text says what of it."""


@dataclass(slots=True)
class _Leaf:
    """A clip of a composition that shows a master mob."""

    clip: Any
    rate: Fraction
    """Edit units a second."""
    warped: bool
    shown: _Range
    """What is shown where `warped`."""
    rendered: list[Any]
    """Operations above it and transitions beside it, of which pictures may have been rendered."""


_Seen: TypeAlias = dict[tuple[str, int], list[_Leaf]]
"""What nested compositions show, by mob and slot."""


@dataclass(slots=True)
class _Media:
    """What a master mob shows."""

    master: Any
    slot: Any
    file: Any
    file_slot: Any
    offset: int
    """Number of the file's frame that the master mob shows first."""
    names: list[str] = field(default_factory=list)
    tape: Any = None
    tape_slot: int = 0
    begin: int = 0
    """Edit units of the tape before the file's first frame."""
    label: int | None = None
    """Timecode of the file's first frame; a number of frames."""


class AafCut:
    """An AAF file.

    Args:
        path: the file.
        sequence: which composition, where there are several; its name.

    Raises:
        ConfigError: pyaaf2 is missing, or there are several compositions and none of that name.
        MediaError: it cannot be read, or holds no composition.
    """

    rate_is_known = True

    def __init__(self, path: str | Path, sequence: str | None = None) -> None:
        self.path, self.beside = Path(path), Path(path).parent
        if not self.path.is_file():
            raise MediaError(self.path, "no such file")
        self._module, self._sequence = aaf2(), sequence
        self._shown: list[Shown] = []
        self._changed: dict[int, Restored] = {}
        with self._opened(self.path, "r") as file:
            composition = _composition(file, self.path, sequence)
            for number, leaf in enumerate(_leaves(composition, self._module)):
                self._shown.append(_told(leaf, number, self._module))

    @contextmanager
    def _opened(self, path: Path, mode: str) -> Iterator[Any]:
        try:
            with quiet(), self._module.open(str(path), mode) as file:
                yield file
        except (ConfigError, MediaError):
            raise
        except Exception as error:  # what is no AAF, or a broken one, raises what it likes
            raise MediaError(self.path, f"cannot be read as a timeline ({one_line(error)})") from error

    def clips(self) -> Iterator[Shown]:
        """Every clip of the picture tracks, nested ones too; of what may be chosen from, what is chosen."""
        return iter(self._shown)

    def named(self, shown: Shown) -> Named | None:
        """See `native.named`."""
        return native.named(shown, self.path)

    def used(self, shown: Shown, footage: Footage) -> Use:
        """See `native.used`.

        Raises:
            MediaError: the file has no such frames; it begins behind them; it is a still.
        """
        use = native.used(shown, footage)
        if footage.still:
            raise MediaError(footage.path, f"is a still, which is not replaced in an AAF (clip {shown.name!r})")
        if shown.place[1] + shown.shift < 0:
            raise MediaError(footage.path, f"begins behind what clip {shown.name!r} shows of it")
        return use

    def relink(self, use: Use, new: Restored, target: Path) -> None:
        """Let the clip of `use` show `new`."""
        self._changed[use.clip.place[0]] = new

    def save(self, path: Path) -> None:
        """Write the cut as it is now. Relative addresses go on naming the same files.

        Raises:
            MediaError: the file is not what it was, or the disk refuses.
        """
        try:
            with becoming(path) as part:
                shutil.copyfile(self.path, part)
                with self._opened(part, "rw") as file:
                    self._patch(file)
                    if moves(self.beside, path):
                        self._anchor(file)
        except OSError as error:
            raise MediaError(path, f"cannot be written as a timeline ({error})") from error

    def _patch(self, file: Any) -> None:
        leaves = list(_leaves(_composition(file, self.path, self._sequence), self._module))
        if len(leaves) != len(self._shown):
            raise MediaError(self.path, "was changed meanwhile")
        masters: dict[tuple[str, int, str], Any] = {}
        for number, new in self._changed.items():
            leaf, shown = leaves[number], self._shown[number]
            media = _media(leaf, self._module)
            key = str(media.master.mob_id), int(media.slot.slot_id), new.footage.path
            if key not in masters:
                masters[key] = _master(file, media, new, new.first - shown.shift, self._module)
            leaf.clip.mob = masters[key]
            leaf.clip.start = shown.place[1] + shown.shift - new.first
            for operation in leaf.rendered:
                if (rendered := operation.getvalue("Rendering")) is not None:
                    rendered.detach(delete=True)
                    del operation["Rendering"]

    def _anchor(self, file: Any) -> None:
        """Let every address be absolute."""
        for mob in file.content.sourcemobs():
            for locator in _locators(mob):
                if place := anchored(locator["URLString"].value, self.beside):
                    locator["URLString"].value = place.as_uri()


def _composition(file: Any, path: Path, name: str | None) -> Any:
    found = list(file.content.toplevel()) or list(file.content.compositionmobs())
    return chosen([(one.name or "", one) for one in found], path, name)


def _leaves(composition: Any, module: Any) -> Iterator[_Leaf]:
    """Every clip of the picture tracks, in an order that does not change; those of nested compositions once."""
    seen: _Seen = {}
    for slot in composition.slots:
        if hasattr(slot, "edit_rate") and _is_picture(slot.segment):
            yield from _below(slot.segment, _exact(slot.edit_rate), module, seen, _Above())


@dataclass(frozen=True, slots=True)
class _Above:
    """What is around a segment."""

    warped: bool = False
    shown: _Range = None
    rendered: tuple[Any, ...] = ()
    depth: int = 0

    def inside(self, *operations: Any) -> _Above:
        return _Above(self.warped, self.shown, (*self.rendered, *operations), self.depth + 1)


def _below(segment: Any, rate: Fraction, module: Any, seen: _Seen, above: _Above) -> Iterator[_Leaf]:
    parts = module.components
    if above.depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(segment, parts.Sequence):
        pieces = list(segment.components)
        inside = above if len(pieces) == 1 else _Above(above.warped, None, above.rendered, above.depth)
        for index, one in enumerate(pieces):
            sides = [side for side in (*pieces[:index][-1:], *pieces[index + 1 : index + 2]) if isinstance(side, parts.Transition)]
            beside = [group for side in sides if (group := side.getvalue("OperationGroup")) is not None]
            yield from _below(one, rate, module, seen, inside.inside(*beside))
    elif isinstance(segment, parts.OperationGroup):
        inside = above.inside(segment)
        if _warps(segment):
            inside = _Above(True, None if above.warped else _curve(segment), inside.rendered, inside.depth)
        for one in segment.getvalue("InputSegments") or []:
            yield from _below(one, rate, module, seen, inside)
    elif isinstance(segment, parts.NestedScope):
        for one in segment.slots:
            yield from _below(one, rate, module, seen, above.inside())
    elif isinstance(segment, parts.Selector):
        chosen = segment.getvalue("Selected")
        if chosen is not None:
            yield from _below(chosen, rate, module, seen, above.inside())
    elif isinstance(segment, parts.SourceClip):
        yield from _clip(segment, rate, module, seen, above)
    elif isinstance(segment, (parts.EssenceGroup, parts.Pulldown)):
        yield _Leaf(segment, rate, False, None, [])  # refused with its name


def _clip(clip: Any, rate: Fraction, module: Any, seen: _Seen, above: _Above) -> Iterator[_Leaf]:
    mob = clip.mob
    if isinstance(mob, module.mobs.CompositionMob):  # a sequence in a sequence, or a subclip
        key = str(mob.mob_id), int(clip.slot_id)
        for leaf in seen.get(key, []):
            leaf.rendered += above.rendered
        if key not in seen:
            seen[key] = []
            slot = mob.slot_at(clip.slot_id)
            inside = _Above(False, None, above.rendered, above.depth + 1)  # no speed shows more than the sequence holds
            for leaf in _below(slot.segment, _exact(slot.edit_rate), module, seen, inside):
                seen[key].append(leaf)
                yield leaf
    elif mob is not None or (clip.mob_id is not None and clip.mob_id.int):
        yield _Leaf(clip, rate, above.warped, above.shown, list(above.rendered))


def _warps(group: Any) -> bool:
    """Whether an operation changes the speed of what goes into it."""
    operation = group.operation
    name = (operation["Name"].value or "").lower()
    return bool(operation["IsTimeWarp"].value) or any(word in name for word in _WARPS) or "SpeedRatio" in _parameters(group)


def _parameters(group: Any) -> dict[str, Any]:
    return {one.name: one for one in group.getvalue("Parameters") or []}


def _curve(group: Any) -> _Range:
    """What a steady speed shows; of any other, and of what is not understood, anything may be."""
    curve = _parameters(group).get("PARAM_SPEED_OFFSET_MAP_U")
    points = [] if curve is None else [(_exact(one.time), _exact(one.value)) for one in curve.getvalue("PointList") or []]
    if len(points) != 2 or points[1][0] - points[0][0] <= 1:
        return None
    (begin, value), (end, last) = points
    slope = (last - value) / (end - begin)
    ends = [value, last, *(value + slope * (time - begin) for time in (Fraction(0), Fraction(group.length)))]
    return min(Fraction(0), *ends) - 1, max(Fraction(0), *ends) + 1


def _media(leaf: _Leaf, module: Any) -> _Media:
    """The file, and the tape, that a clip shows.

    Raises:
        _Refused: they are arranged in a way that is not read.
    """
    parts, mobs = module.components, module.mobs
    clip = leaf.clip
    if not isinstance(clip, parts.SourceClip):
        raise _Refused(f"is a {type(clip).__name__}, which is not read")
    if clip.mob is None:
        raise _Refused("shows a master clip that is not in the AAF")
    if not isinstance(clip.mob, mobs.MasterMob):
        raise _Refused("shows a file without a master clip, which is not read")
    slot = _slot(clip.mob, clip.slot_id)
    shows = _single(slot, parts)
    file = None if shows is None else shows.mob
    if shows is None or not isinstance(file, mobs.SourceMob):
        raise _Refused(f"has a master clip {clip.mob.name!r} that shows no single file")
    file_slot = _slot(file, shows.slot_id)
    for one in (slot, file_slot):
        if abs(_exact(one.edit_rate) / leaf.rate - 1) >= NEAR:
            raise _Refused("has another edit rate than the sequence, which is not read")
    if _is_inside(file):
        raise _Refused("has its media inside the AAF; export it with linked media")
    media = _Media(clip.mob, slot, file, file_slot, int(shows.start), _urls(file))
    _follow(media, parts, mobs)
    media.names += [name for name in (clip.mob.name, file.name) if name]
    return media


def _follow(media: _Media, parts: Any, mobs: Any) -> None:
    """The tape that the file was cut out of, and the timecode there."""
    media.label = _timecode(media.file, media.file_slot, parts)
    cut = _single(media.file_slot, parts)
    if cut is None or not isinstance(cut.mob, mobs.SourceMob):
        return
    media.tape, media.tape_slot, media.begin = cut.mob, int(cut.slot_id), int(cut.start)
    mob, begin = cut.mob, media.begin
    for _ in range(_DEEPEST):
        media.names += _urls(mob)
        try:
            slot = mob.slot_at(cut.slot_id)
        except IndexError:
            return
        told = _timecode(mob, media.file_slot, parts)
        if media.label is None and told is not None:
            media.label = told + begin
        further = _single(slot, parts)
        if further is None or not isinstance(further.mob, mobs.SourceMob):
            return
        mob, cut, begin = further.mob, further, begin + int(further.start)


def _timecode(mob: Any, counted: Any, parts: Any) -> int | None:
    """The timecode with which `mob` begins, where it counts as the slot `counted` does; the main one of several."""
    found = []
    for slot in mob.slots:
        segment = slot.segment
        if isinstance(segment, parts.Sequence) and len(segment.components) == 1:
            segment = next(iter(segment.components))
        if isinstance(segment, parts.Timecode) and abs(_exact(slot.edit_rate) / _exact(counted.edit_rate) - 1) < NEAR:
            number = slot["PhysicalTrackNumber"].value
            found.append((number if isinstance(number, int) else 1, int(segment.start)))
    return min(found, key=lambda one: one[0])[1] if found else None


def _single(slot: Any, parts: Any) -> Any:
    """The one clip of a slot; None where there are several, or something else."""
    segment = slot.segment
    if isinstance(segment, parts.Sequence):
        pieces = [one for one in segment.components if one.length]
        segment = pieces[0] if len(pieces) == 1 else None
    if isinstance(segment, parts.EssenceGroup):  # of several resolutions the first
        segment = next(iter(segment.getvalue("Choices") or []), None)
    return segment if isinstance(segment, parts.SourceClip) else None


def _slot(mob: Any, number: int) -> Any:
    try:
        return mob.slot_at(number)
    except IndexError as error:
        raise _Refused(f"shows track {number} of {mob.name!r}, which has none") from error


def _locators(mob: Any) -> list[Any]:
    """What tells the addresses of a file."""
    descriptor = mob.descriptor
    found = [] if descriptor is None else list(descriptor.getvalue("Locator") or [])
    return [one for one in found if one.getvalue("URLString")]


def _urls(mob: Any) -> list[str]:
    return [one["URLString"].value for one in _locators(mob)]


def _is_inside(mob: Any) -> bool:
    content = mob.root.content
    return "EssenceData" in content and content.essencedata.get(mob.mob_id, None) is not None


def _is_picture(segment: Any) -> bool:
    return str(segment.media_kind).lower() in ("picture", "legacypicture", "legacy picture")


def _exact(number: Any) -> Fraction:
    return Fraction(int(number.numerator), int(number.denominator)) if hasattr(number, "denominator") else Fraction(str(number))


def _told(leaf: _Leaf, number: int, module: Any) -> Shown:
    """What a clip shows, in words that outlive the open file. Its `place` is its number, and the file's frame it begins with."""
    mob = getattr(leaf.clip, "mob", None)
    name = (mob.name if mob is not None else None) or "without a name"
    try:
        media = _media(leaf, module)
    except _Refused as error:
        return Shown(name, refusal=f"clip {name!r} {error}")
    begin = int(leaf.clip.start) + media.offset
    shown: _Range = (Fraction(0), Fraction(int(leaf.clip.length)))
    if leaf.warped:
        shown = leaf.shown
    first, last = (Fraction(0), None) if shown is None else (begin + shown[0], begin + shown[1])
    length = int(media.file_slot.segment.length) or None
    rate = _exact(media.slot.edit_rate)
    return Shown(name, tuple(media.names), first, last, rate, length, media.label, place=(number, begin))


def _master(file: Any, media: _Media, new: Restored, first: int, module: Any) -> Any:
    """The master mob of a restored part that begins with frame `first` of its source, and the file below it."""
    place, rate = Path(new.footage.path).absolute(), media.file_slot.edit_rate
    part = file.create.SourceMob(place.name)
    part.descriptor = _descriptor(file, new, place, rate)
    file.content.mobs.append(part)
    slot = part.create_timeline_slot(rate, 1)
    clip = file.create.SourceClip(start=0, length=new.frames, media_kind="picture")
    if media.tape is not None:
        clip.mob, clip.slot_id, clip.start = media.tape, media.tape_slot, media.begin + first
    slot.segment = clip
    if media.tape is None and media.label is not None:  # the file says itself which timecode it has
        told = part.create_timecode_slot(rate, round(_exact(rate)), bool(new.footage.timecode and new.footage.timecode.drop))
        told["PhysicalTrackNumber"].value, told.segment.start, told.segment.length = 1, media.label + first, new.frames
    master = media.master.copy()
    master.mob_id = module.mobid.MobID.new()
    for index in reversed(range(len(master.slots))):
        if master.slots[index].slot_id != media.slot.slot_id:
            master.slots.pop(index)
    file.content.mobs.append(master)
    master.slot_at(media.slot.slot_id).segment = part.create_source_clip(1, 0, new.frames, "picture")
    return master


def _descriptor(file: Any, new: Restored, place: Path, rate: Any) -> Any:
    """What a program has to know of a file before it has opened it."""
    made, (width, height) = file.create.CDCIDescriptor(), new.footage.size
    values = {"ComponentWidth": 8, "HorizontalSubsampling": 2, "VideoLineMap": [42, 0], "FrameLayout": "FullFrame"}
    values |= {"StoredWidth": width, "StoredHeight": height, "ImageAspectRatio": f"{width}/{height}"}
    for name, value in (values | {"SampleRate": rate, "Length": new.frames}).items():
        made[name].value = value
    locator = file.create.NetworkLocator()
    locator["URLString"].value = place.as_uri()
    made["Locator"].append(locator)
    return made
