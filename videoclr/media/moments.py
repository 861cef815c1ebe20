"""Moments as a person types them, exact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from videoclr.errors import ConfigError
from videoclr.media.timecode import Timecode

_FRAME = re.compile(r"(\d+)f")
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?|\.\d+)")


def moment(value: str | int | float | Fraction | None, name: str) -> Fraction | None:
    """Seconds, exact, from `12.5` or `[hh:]mm:ss[.fff]`; None stays None. A float means the decimal it prints as.

    Raises:
        ConfigError: not a moment, negative, or 60 and more in a place of minutes or seconds; `name` goes into the path.
    """
    if value is None or isinstance(value, Fraction):
        exact = value
    else:
        found = _CLOCK.fullmatch(str(value).strip())
        if found is None:
            forms = "seconds, [hh:]mm:ss[.fff], a timecode hh:mm:ss:ff or hh:mm:ss;ff, or a frame such as 240f"
            raise ConfigError(f"$.media.{name}: expected {forms}, got {value!r}")
        hours, minutes, seconds = found.groups()
        exact = Fraction(seconds)
        if (minutes is not None and exact >= 60) or (hours is not None and int(minutes) >= 60):
            raise ConfigError(f"$.media.{name}: minutes and seconds go up to 59 in {value!r}")
        exact += 60 * int(minutes or 0) + 3600 * int(hours or 0)
    if exact is not None and exact < 0:
        raise ConfigError(f"$.media.{name}: expected zero or more, got {value!r}")
    return exact


@dataclass(frozen=True, slots=True)
class FrameNumber:
    """A picture by its number, counted from 0 in order of presentation."""

    number: int


def position(value: str | int | float | Fraction | None, name: str) -> Fraction | FrameNumber | Timecode | None:
    """What a person typed for `name`: seconds (see `moment`), a frame (`240f`), or a timecode; None stays None.

    Raises:
        ConfigError: none of these; `name` goes into the path.
    """
    if isinstance(value, str):
        if found := _FRAME.fullmatch(value.strip()):
            return FrameNumber(int(found[1]))
        if (label := Timecode.parse(value)) is not None:
            return label
    return moment(value, name)
