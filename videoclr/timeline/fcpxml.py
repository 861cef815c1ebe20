"""FCPXML, the cut of Final Cut Pro and DaVinci Resolve: its text stays as it is but for the media that clips name.

A clip shows times of an `asset` on the asset's own clock, on which the file's first frame has the time `start`: its timecode, as a
fraction of seconds. A restored part becomes an asset of its own with the times that it has on that clock, and the clips name that
one; so no time of a clip changes, nor of what hangs on it. Where that clock is not the file's timecode (mostly for want of one), or
a clip changes its speed, the file is restored from its first frame on, or whole: what is shown is never guessed.

Apple describes the format (https://developer.apple.com/documentation/professional-video-applications/fcpxml-reference).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

from videoclr.errors import MediaError
from videoclr.timeline import native
from videoclr.timeline.cut import Named, Restored, Use, chosen
from videoclr.timeline.footage import Footage, anchored, becoming, moves
from videoclr.timeline.markup import Change, Element, every, parsed, patched, quoted, value_of
from videoclr.timeline.native import Shown

BUNDLE = ".fcpxmld"
ENDINGS = (".fcpxml", BUNDLE)

_TIME = re.compile(r"(-?\d{1,30}(?:\.\d{1,30})?)(?:/(\d{1,30}))?s")
_ADDRESSES = {"asset": "src", "media-rep": "src", "locator": "url"}
"""Elements that name files, and by which attribute."""
_OLDEST = 8
"""Version 1.8 is what programs write that are in use; older ones have other elements."""
_SHOWING = ("asset-clip", "video")
"""What shows an asset itself."""
_SOUND = ("hasAudio", "audioSources", "audioChannels", "audioRate")
"""What an asset says of its sound."""
_Seconds: TypeAlias = tuple[Fraction, Fraction]
_NONE: _Seconds = (Fraction(0), Fraction(0))


class FcpxmlCut:
    """A file or bundle (`.fcpxmld`) of FCPXML 1.8 or newer.

    Args:
        path: the file, or the folder that is the bundle.
        sequence: which project, where there are several; its name.

    Raises:
        ConfigError: there are several projects and none of that name.
        MediaError: it cannot be read, or holds no project.
    """

    rate_is_known = True

    def __init__(self, path: str | Path, sequence: str | None = None) -> None:
        self.path = Path(path)
        bundle = self.path.is_dir()
        self.beside = self.path if bundle else self.path.parent
        self._file = self.path / "Info.fcpxml" if bundle else self.path
        if not self._file.is_file():
            raise MediaError(self.path, "holds no Info.fcpxml" if bundle else "no such file")
        self._text = self._file.read_bytes()
        self._root = root = parsed(self._text, self.path)
        _check_version(root, self.path)
        self._by_id = {found: one for kind in root.kids("resources") for one in kind.children if (found := one.get("id"))}
        self._ids = {value for one in every(root) for name, value in one.attributes.items() if name == "id"}
        projects = [(one.get("name") or "", one) for one in root.all("project")]
        self._project = chosen(projects, self.path, sequence)
        self._new: dict[tuple[str, str], tuple[str, str]] = {}
        """Of the old asset's number and the new file: the new asset's number, and its text."""
        self._changed: dict[int, tuple[Element, str]] = {}
        """Clips that name another asset, by where they stand, and its number."""

    def clips(self) -> Iterator[Shown]:
        """Every enabled clip of the project that shows an asset, those of compound clips once."""
        return self._below(self._project, set())

    def _below(self, parent: Element, seen: set[str], off: bool = False, more: _Seconds = _NONE) -> Iterator[Shown]:
        """What is below `parent`.

        Args:
            seen: compound clips that were there already.
            off: whether what `parent` contains is disabled.
            more: what transitions beside `parent` show of it.
        """
        children = parent.children if parent.tag != "audition" else parent.children[:1]  # the rest are other takes
        for index, one in enumerate(children):
            name, disabled = one.get("name") or "", one.get("enabled") == "0" or (off and one.get("lane") is None)
            try:
                beside = _beside(children, index)
                pictures = one.tag in (*_SHOWING, "ref-clip") and not disabled and one.get("srcEnable") != "audio"
                if pictures and one.get("ref") not in self._by_id:
                    raise ValueError(f"ref={(one.get('ref') or '')[:40]!r} is no resource of this file; export it again")
                if one.tag in _SHOWING and not disabled and (asset := self._asset_of(one)) is not None:
                    yield self._shown(one, parent, asset, beside, more)
            except ValueError as error:
                beside = _NONE
                yield Shown(name, refusal=f"clip {name!r}: {error}")
            if one.tag == "mc-clip" and not disabled:
                yield Shown(name, refusal=f"clip {name!r} is a multicam clip, which is not read; flatten it first")
            if one.tag == "ref-clip" and not disabled:
                yield from self._compound(one, seen)
            if one.tag != "metadata":
                yield from self._below(one, seen, disabled and one.tag in ("clip", "sync-clip", "audition", "spine"), beside)

    def _compound(self, clip: Element, seen: set[str]) -> Iterator[Shown]:
        reference = clip.get("ref") or ""
        media = self._by_id.get(reference)
        if reference not in seen and media is not None and clip.get("srcEnable") != "audio":
            seen.add(reference)
            yield from self._below(media, seen)

    def _asset_of(self, clip: Element) -> Element | None:
        """What has the pictures that `clip` shows; None where it shows none of a file."""
        asset = self._by_id.get(clip.get("ref") or "")
        if asset is None or asset.tag != "asset" or clip.get("srcEnable") == "audio":
            return None
        sound = asset.get("hasVideo") == "0" or (asset.get("hasVideo") is None and asset.get("hasAudio") == "1")
        return None if sound else asset

    def _shown(self, one: Element, parent: Element, asset: Element, beside: _Seconds, more: _Seconds) -> Shown:
        step = self._step(asset)
        origin, length = _time(asset, "start") or Fraction(0), _time(asset, "duration")
        shown = Shown(one.get("name") or asset.get("name") or "", _names(asset), place=one)
        if step is None:
            return shown  # a still, or of changing rate: whole
        shown.rate = 1 / step
        shown.length = round(length / step) if length else None
        shown.label = round(origin / step) if origin else None
        contained = parent.tag == "clip" and one.get("lane") is None
        start, duration = _time(one, "start"), _time(one, "duration")
        if duration is not None and duration < 0:
            raise ValueError(f"duration={(one.get('duration') or '')[:40]!r} is no length")
        duration = length if duration is None else duration
        if _retimed(one) or (contained and _retimed(parent)) or duration is None:
            return shown
        start = origin if start is None else start
        low, high = _with_sound(one, start, start - beside[0], start + duration + beside[1])
        begin, lasts, offset = _time(parent, "start"), _time(parent, "duration"), _time(one, "offset") or Fraction(0)
        if contained and begin is not None and lasts is not None:  # of what it contains a clip shows no more than this
            begin += start - offset
            inside = max(low, begin - more[0]), min(high, begin + lasts + more[1])
            low, high = inside if inside[0] < inside[1] else (low, high)
        shown.first, shown.last = (low - origin) / step, (high - origin) / step
        return shown

    def _step(self, asset: Element) -> Fraction | None:
        """Seconds a frame; None where the asset does not say."""
        form = self._by_id.get(asset.get("format") or "")
        step = None if form is None else _time(form, "frameDuration")
        return step if step is not None and step > 0 else None

    def takes_sound(self, shown: Shown) -> bool:
        """Whether a clip has its sound out of the file that it shows."""
        clip: Element | None = shown.place
        asset = None if clip is None or clip.tag != "asset-clip" else self._by_id.get(clip.get("ref") or "")
        return clip is not None and asset is not None and asset.get("hasAudio") == "1" and clip.get("srcEnable") != "video"

    def named(self, shown: Shown) -> Named | None:
        """See `native.named`."""
        return native.named(shown, self.path, pictures=True)

    def used(self, shown: Shown, footage: Footage) -> Use:
        """See `native.used`; from the first frame on where the asset's clock is not the file's timecode."""
        use = native.used(shown, footage)
        return use if self._labelled(shown, footage) else replace(use, first=0)

    @staticmethod
    def _labelled(shown: Shown, footage: Footage) -> bool:
        return footage.label is not None and (shown.label or 0) == footage.label + shown.shift

    def relink(self, use: Use, new: Restored, target: Path) -> None:
        """Let the clip of `use` name an asset for `new`.

        Raises:
            MediaError: `new` has lost the timecode by which programs find its frames.
        """
        clip: Element = use.clip.place
        if new.first and new.footage.label is None:
            raise MediaError(new.footage.path, "holds no timecode, by which its frames are found; choose another --ending")
        old = clip.attributes["ref"]
        key = old, new.footage.path
        if key not in self._new:
            number = _free(self._ids)
            self._new[key] = number, self._asset(self._by_id[old], number, use, new)
        self._changed[clip.begin] = clip, self._new[key][0]

    def _asset(self, old: Element, number: str, use: Use, new: Restored) -> str:
        """The text of the asset that `new` becomes: the old one's, but for what names the file and its times."""
        place = native.address(use.clip, new)
        gone = ("uid", "src", *(() if new.footage.sounds else _SOUND))
        attributes = {name: value for name, value in old.attributes.items() if name not in gone}
        attributes |= {"id": number, "name": place.stem}
        step = self._step(old)
        if step is not None and not new.footage.still:
            begin = (_time(old, "start") or Fraction(0)) + (new.first - use.clip.shift) * step
            attributes |= {"start": _told(begin, step), "duration": _told(new.frames * step, step)}
        inside = [self._text[one.begin : one.end].decode() for one in old.children if one.tag not in ("media-rep", "bookmark")]
        if old.kids("media-rep") or "src" not in old.attributes:
            inside.insert(0, f'<media-rep kind="original-media" src="{quoted(place.as_uri())}"/>')
        else:
            attributes["src"] = place.as_uri()
        text = "".join(f' {name}="{quoted(value)}"' for name, value in attributes.items())
        return f"<asset{text}>{''.join(inside)}</asset>" if inside else f"<asset{text}/>"

    def save(self, path: Path) -> None:
        """Write the cut as it is now. Relative addresses go on naming the same files, which those into a bundle do anyway.

        Raises:
            MediaError: the disk refuses.
        """
        text = self._patched(moves(self.beside, path / self._file.name if self.path.is_dir() else path))
        try:
            with becoming(path) as part:
                if not self.path.is_dir():
                    part.write_bytes(text)
                else:
                    shutil.rmtree(part, ignore_errors=True)
                    shutil.copytree(self.path, part)
                    (part / self._file.name).write_bytes(text)
        except OSError as error:
            raise MediaError(path, f"cannot be written as a timeline ({error})") from error

    def _patched(self, moves: bool) -> bytes:
        """The text with the new assets, each behind its old one, and the clips that name them; where it `moves`, with absolute
        addresses."""
        changes: list[Change] = []
        for (old, _), (_, text) in self._new.items():
            asset = self._by_id[old]
            before = self._text[: asset.begin]
            indent = before[len(before.rstrip(b" \t")) :]
            changes.append((asset.end, asset.end, b"\n" + indent + text.encode()))
        for clip, number in self._changed.values():
            changes += _named_anew(self._text, clip, number, self._by_id[clip.attributes["ref"]])
        if moves:
            changes += self._anchored()
        return patched(self._text, changes)

    def _anchored(self) -> Iterator[Change]:
        """Relative addresses, absolute. Those stay that name what is in a bundle, which is copied."""
        for one in every(self._root):
            name = _ADDRESSES.get(one.tag, "")
            url = one.get(name)
            stays = not url or (self.path.is_dir() and not os.path.normpath(unquote(url)).startswith(".."))
            if url and not stays and (place := anchored(url, self.beside)):
                yield *value_of(self._text, one, name), quoted(place.as_uri()).encode()


def _named_anew(text: bytes, clip: Element, number: str, old: Element) -> list[Change]:
    """What changes in the start tag of `clip`; what it leaves to the asset, which begins and lasts otherwise now, it says."""
    begin, end = value_of(text, clip, "ref")
    left = [(name, said) for name in ("start", "duration") if name not in clip.attributes and (said := old.get(name))]
    added = "".join(f' {name}="{quoted(said)}"' for name, said in left)
    return [(begin, end, number.encode()), (end + 1, end + 1, added.encode())]


def _names(asset: Element) -> tuple[str, ...]:
    kept = [one for one in asset.kids("media-rep") if one.get("kind") in (None, "original-media")]
    names = [one.get("src") for one in kept] + [asset.get("src"), asset.get("name")]
    return tuple(name for name in names if name)


def _retimed(clip: Element) -> bool:
    conformed = any(one.get("scaleEnabled") != "0" for one in clip.kids("conform-rate"))
    return conformed or bool(clip.kids("timeMap"))


def _beside(children: list[Element], index: int) -> _Seconds:
    """What transitions before and behind a clip may show of it besides."""
    before, after = children[:index][-1:], children[index + 1 : index + 2]
    first, last = ((_time(side[0], "duration") if side and side[0].tag == "transition" else None) for side in (before, after))
    return first or Fraction(0), last or Fraction(0)


def _with_sound(clip: Element, start: Fraction, low: Fraction, high: Fraction) -> _Seconds:
    """`low` to `high`, and the times of the sound, which split edits begin or end elsewhere than the picture: it comes out of the
    same file."""
    first, lasts = _time(clip, "audioStart"), _time(clip, "audioDuration")
    if clip.tag != "asset-clip" or clip.get("srcEnable") == "video":
        return low, high
    first = start if first is None else first
    return min(low, first), high if lasts is None else max(high, first + lasts)


def _time(element: Element, name: str) -> Fraction | None:
    """Seconds; None where the element does not say.

    Raises:
        ValueError: it says something else.
    """
    text = element.get(name)
    if text is None:
        return None
    found = _TIME.fullmatch(text.strip())
    if found is None or (found[2] is not None and not int(found[2])):
        raise ValueError(f"{name}={text[:40]!r} is no time")
    return Fraction(found[1]) / int(found[2] or 1)


def _told(time: Fraction, step: Fraction) -> str:
    """A time as programs write it: over the denominator of a frame's, where that is exact."""
    scale = step.denominator if not (time * step.denominator).denominator - 1 else time.denominator
    value = time * scale
    return f"{time.numerator}s" if time.denominator == 1 else f"{value.numerator}/{scale}s"


def _free(taken: set[str]) -> str:
    """The next number of a resource, which is taken then."""
    numbers = [int(name[1:]) for name in taken if re.fullmatch(r"r\d{1,9}", name)]
    taken.add(number := f"r{max(numbers, default=0) + 1}")
    return number


def _check_version(root: Element, path: Path) -> None:
    if root.tag != "fcpxml":
        raise MediaError(path, f"is no FCPXML but <{root.tag[:40]}>")
    found = re.fullmatch(r"1\.(\d{1,3})", root.get("version") or "")
    if found is None or int(found[1]) < _OLDEST:
        raise MediaError(path, f"is FCPXML of version {root.get('version')}; export it as 1.{_OLDEST} or newer")
