"""What those cuts have in common that are not written anew but changed where they name media: AAF, FCPXML, XML of Final Cut Pro 7.

Nothing of them is lost that way, effects, titles and sound included. They tell the frames of their media exactly, by counts or by
rational times, and how long the media is and with which timecode it begins: so it can be told whether a file is that media, or a
longer or shorter one that holds it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

from videoclr.errors import MediaError
from videoclr.timeline.cut import NEAR, Named, Restored, Use
from videoclr.timeline.footage import Footage, called_as, place_of, range_in

_log = logging.getLogger("videoclr.timeline")


@dataclass(slots=True)
class Shown:
    """A clip, and the frames that it shows of its media."""

    name: str
    names: tuple[str, ...] = ()
    """Addresses and names of the media, likeliest first."""
    first: Fraction = Fraction(0)
    """Frames after the media's first."""
    last: Fraction | None = None
    """The frame after the last; None: any may be shown."""
    rate: Fraction | None = None
    """Frames a second that are counted; None: the file's."""
    length: int | None = None
    """Frames of the media, as the cut says."""
    label: int | None = None
    """Timecode of the media's first frame, as the cut says; a number of frames."""
    refusal: str = ""
    """Why it cannot be restored."""
    place: Any = None
    """Where it stands in the cut."""
    shift: int = 0
    """The number that the media's first frame has in the file."""


def named(shown: Shown, cut: Path, pictures: bool = False) -> Named | None:
    """What the media of `shown` is called; None where nothing of it is shown.

    Args:
        shown: the clip.
        cut: what is read, for messages.
        pictures: whether it may be numbered pictures, which programs call `a.[0001-0060].exr`, or as the first of them.

    Raises:
        MediaError: the clip cannot be restored; an address on the network.
    """
    if shown.refusal:
        raise MediaError(cut, shown.refusal)
    if not shown.names or shown.first == shown.last:
        return None
    names = tuple(map(_place, shown.names))
    if not pictures or shown.rate is None:
        return Named(names)
    rate = shown.rate.limit_denominator(1001)
    found = range_in(names)
    if found is not None:
        return Named(names, sequence=(*found, rate))
    return Named(names, pictures=None if shown.length is None else (shown.length, rate))


def address(shown: Shown, new: Restored) -> Path:
    """What `new` is called in place of the media of `shown`."""
    return called_as(Path(new.footage.path).absolute(), map(_place, shown.names))


def _place(address: str) -> PurePath:
    return place_of(address if ":" in address or "\\" in address else unquote(address))


def used(shown: Shown, footage: Footage) -> Use:
    """Which frames of `footage` the clip shows; sets its `shift`.

    Raises:
        MediaError: the file has no such frames, or counts others.
    """
    if footage.still:
        return Use(shown, footage, None, 0, None)
    if shown.rate is not None and abs(shown.rate / footage.rate - 1) >= NEAR:
        has, counts = f"{float(footage.rate):.6g}", f"{float(shown.rate):.6g}"
        raise MediaError(footage.path, f"has {has} frames a second, and the cut counts {counts} in clip {shown.name!r}")
    shown.shift = _shift(shown, footage)
    if shown.last is None:
        return Use(shown, footage, None, 0, None)
    first, last = math.floor(shown.first) + shown.shift, math.ceil(shown.last) + shown.shift
    if last <= 0 or (footage.count is not None and first >= footage.count):
        has = f"{footage.count} frames" + (f" from {footage.timecode} on" if footage.timecode else "")
        asked = f"frames {first} to {last - 1}"
        raise MediaError(footage.path, f"is not what the cut means: clip {shown.name!r} shows {asked} of it, and it has {has}")
    if footage.count is not None and last >= footage.count:
        if last > footage.count + footage.rate:
            _log.warning("%s: ends before clip %r, which shows %d frames more", footage.path, shown.name, last - footage.count)
        return Use(shown, footage, None, max(0, first), None)
    return Use(shown, footage, None, max(0, first), last)


def _shift(shown: Shown, footage: Footage) -> int:
    """A file as long as the media is it; another one holds it, or a part of it, where the timecodes say."""
    same = shown.length is not None and footage.count is not None and abs(shown.length - footage.count) <= 1
    if same or shown.label is None or footage.label is None:
        return 0
    return shown.label - footage.label
