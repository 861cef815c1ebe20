"""EDL (CMX 3600): its text as OTIO's adapter understands it, and the same text with other media in it.

An event is a line: which reel is shown on which channels, how it comes in, from where to where of the source, and where it stands
in the programme. Dissolves and wipes are a second line of the same number, behind one that says what is left. All else is told in
comments below. The adapter knows one order of all that, and writes a new list of a single video track with dissolves alone; so
what programs write besides is put in that order for it to read, and the list itself stays as it is but for the media of its events.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from videoclr.media.timecode import Timecode

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte order mark -> encoding, of EDLs by programs of Windows and of Avid."""
_EVENT = re.compile(
    r"\s*(?P<number>\d+)\s+(?P<reel>.*?)\s*(?P<channel>\S+)\s+(?P<how>C|D|W\d{3}|K[BO]?(?:\s+[BO])?)\s+(?:(?P<frames>\d{1,4})\s+)?"
    r"(?P<begin>[\d:;]+)\s+(?P<end>[\d:;]+)\s+(?P<at>[\d:;]+)\s+(?P<to>[\d:;]+)\s*"
)
_LABELS = re.compile(r"\d\d[:;.,]\d\d[:;.,]\d\d[:;.,]\d\d")
_LABEL = re.compile(r"(\d\d:\d\d:\d\d):(\d\d)")
_SPEED = re.compile(r"M2\s+(?P<reel>.*?)\s*(?P<speed>-?\d+(?:\.\d+)?)\s+(?P<at>\d\d[:;]\d\d[:;]\d\d[:;]\d\d)\s*")
"""A change of speed, in frames a second, and from where of the source on."""
_MEDIA = re.compile(r"\*?\s*(?P<side>FROM CLIP|FROM FILE|TO CLIP|\*? ?OTIO REFERENCE [a-zA-Z]+)\s*:\s*(?P<address>.*?)\s*")
"""Which file is meant."""
_STILL = re.compile(r"\*?\s*(?:FROM|TO) CLIP IS ")
"""What the adapter would take for the name of a file."""
_NAME = re.compile(r"\*?\s*(?P<side>FROM|TO) CLIP NAME\s*:\s*(?P<name>.*?)\s*")
_SOURCE = re.compile(r"\*?\s*SOURCE FILE\s*:\s*(?P<name>.*?)\s*")
"""The name of a file, as Avid and Premiere write it besides."""
_CDL = re.compile(r"\*?\s*ASC_(?P<kind>SOP|SAT)\b\s*:?(?P<numbers>.*)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_LONGEST = 500
"""Characters of a line that may be an event."""
_MARK = "VIDEOCLR EVENT "
_TRACKS = {"A": ("A1",), "AA": ("A1", "A2"), "B": ("V", "A1"), "A2/V": ("V", "A2"), "AA/V": ("V", "A1", "A2")}
"""Channels -> tracks, as the adapter calls them."""
_BLACK = ("BL", "BLACK")
_NO_REEL = "AX"
_NOWHERE = "NONE"
"""The channel of events that are on none."""


@dataclass(slots=True, eq=False)
class _Event:
    """A line that shows something, and the lines below it."""

    place: int
    """Number of its line."""
    number: str
    reel: str
    channel: str
    how: str
    """C, D, W and a number, or K."""
    frames: str
    times: tuple[str, str, str, str]
    """From and to: of the source, of the programme."""
    drop: bool
    notes: list[int] = field(default_factory=list)
    """Numbers of the lines behind it."""
    before: _Event | None = None
    """The one before it on its channels."""
    leaving: _Event | None = None
    """Of a dissolve or wipe: the line of the same number that says what is left."""

    @property
    def is_change(self) -> bool:
        return self.how[0] in "DW"

    @property
    def tracks(self) -> tuple[str, ...]:
        return _TRACKS.get(self.channel, (self.channel,))

    @property
    def goes_on(self) -> bool:
        """Whether this says no more than where the event before it ends."""
        begin, end, at, _ = self.times
        before = self.before
        return before is not None and begin == end and (before.reel, *before.times[1::2]) == (self.reel, begin, at)


@dataclass(frozen=True, slots=True)
class Change:
    """What an event shows instead."""

    frames: int
    """By which its times of the source move."""
    address: str | None
    """Of its file; None: as it is."""


class Edl:
    """The text of an EDL.

    Args:
        data: in any of the encodings in which programs write it.

    Raises:
        ValueError: it holds what is not read.
    """

    def __init__(self, data: bytes) -> None:
        self._lines = _decoded(data).splitlines(keepends=True)
        self._head: list[str] = []
        self._events = {one.place: one for one in self._parsed()}
        self._followers = {one.leaving.place: one for one in self._events.values() if one.leaving is not None}
        for one in self._events.values():
            if one.leaving is not None and one.leaving.reel != one.reel:  # which of both changes its speed
                its = [place for place in one.notes if (found := self._speed_at(place)) and found["reel"] == one.leaving.reel]
                one.leaving.notes += its
                one.notes = [place for place in one.notes if place not in its]

    def _parsed(self) -> Iterator[_Event]:
        drop, last, shown = False, None, dict[str, _Event]()
        for place, line in enumerate(self._lines):
            if line.startswith("FCM"):
                drop = "NON" not in line.upper()
            event = _parsed(place, line, drop)
            if event is not None:
                event.before = shown.get(event.channel)
                if event.is_change and last is not None and last is event.before and last.number == event.number:
                    event.leaving = None if last.is_change else last
                shown[event.channel] = last = event
                yield event
            elif last is not None:
                last.notes.append(place)
            elif line.startswith("TITLE:"):
                self._head.append(line.strip())

    def for_adapter(self) -> str:
        """What OTIO's adapter reads; comments tell the line of each event (see `event_of`)."""
        lines, begun, count = list(self._head), set[str](), itertools.count(1)
        for one in self._events.values():
            follower = self._followers.get(one.place)
            if one.channel == _NOWHERE or (follower is not None and one.goes_on):
                continue
            if one.is_change:
                for track in one.tracks:
                    if track not in begun:  # the adapter has no fade in from nothing
                        lines.append(_line(next(count), replace(one, reel="BL", channel=track, how="C"), empty=True))
            number = next(count)
            lines += [_line(number, replace(one, how="C"), empty=True)] if one.is_change else []
            lines += [_line(number, one), f"* {_MARK}{one.place} {number:03d}", *self._notes(one)]
            lines += [] if follower is None else self._left(follower)
            begun.update(one.tracks)
        return "\n".join(lines) + "\n"

    def _left(self, event: _Event) -> list[str]:
        """What the comments of a dissolve or wipe say of what is left."""
        own = []
        for line in (self._lines[place].strip() for place in event.notes):
            name, file = _NAME.fullmatch(line), _MEDIA.fullmatch(line)
            own += [line] if name is not None and name["side"] == "FROM" else []
            own += [f"* FROM CLIP: {file['address']}"] if file is not None and file["side"] != "TO CLIP" else []
        return own

    def _notes(self, event: _Event) -> list[str]:
        """The comments of an event, with the one file and the one speed that are its own."""
        own, (speed, _) = [], self._speed(event)
        mixes = _mixes(event)
        for place in event.notes:
            line = self._lines[place].strip()
            if found := _MEDIA.fullmatch(line):
                if not mixes or found["side"] == "TO CLIP":
                    own.append(f"* FROM CLIP: {found['address']}")
            elif line.startswith("M2"):
                own += [line.replace(";", ":")] if place == speed else []
            elif found := _CDL.fullmatch(line):
                own += _colours(found)
            elif mixes and event.reel not in ("", _NO_REEL) and (found := _NAME.fullmatch(line)) and found["side"] == "FROM":
                continue  # the adapter takes it for the name of what is shown where that has none
            elif not line.startswith(("SPLIT", "FCM")) and not _STILL.match(line):
                own.append(f"* {line}" if line[:1].isdigit() else line)
        return own

    def _source(self, event: _Event) -> str | None:
        """The file that comments say the event shows; None where nobody can tell which side of a dissolve is meant."""
        follower = self._followers.get(event.place)
        sides = 2 if _mixes(event) else 1
        notes = event.notes
        if follower is not None and not notes and _mixes(follower):
            notes, sides = follower.notes, 2
        found = [one["name"] for place in notes if (one := _SOURCE.fullmatch(self._lines[place].strip()))]
        name = found[0 if notes is not event.notes else -1] if len(found) == sides else ""
        return name if name.strip("()").upper() not in ("", "NULL") else None

    def _speed_at(self, place: int) -> re.Match[str] | None:
        return _SPEED.fullmatch(self._lines[place].strip())

    def _speed(self, event: _Event) -> tuple[int | None, float]:
        """The line that changes the speed of `event`, and to how many frames a second."""
        found = [(place, one) for place in event.notes if (one := self._speed_at(place))]
        own = [one for one in found if one[1]["reel"] == event.reel] or found
        return (own[-1][0], float(own[-1][1]["speed"])) if own else (None, 0.0)

    def event_of(self, clip: Any) -> int | None:
        """The line of the event that OTIO's `clip` was; what was said to the adapter alone is taken out of it."""
        said = clip.metadata.get("cmx_3600", {})
        notes = [str(one) for one in said.get("comments", [])]
        mark = next((one.removeprefix(_MARK) for one in notes if one.startswith(_MARK)), None)
        if mark is None:
            return None
        place, number = int(mark.split()[0]), mark.split()[1]
        if left := [one for one in notes if not one.startswith(_MARK)]:
            said["comments"] = left
        else:
            del said["comments"]
        event = self._events[place]
        if (reel := event.reel) and reel != _NO_REEL:
            said["reel"] = reel
        if (source := self._source(event)) is not None:
            said["source_file"] = source
        if clip.name == number:  # so does the adapter call what has no name, and files may be called so as well
            clip.name = source or said.get("reel", event.number)
        if not said:
            del clip.metadata["cmx_3600"]
        return place

    def has_sound(self, place: int) -> bool:
        """Whether the event of a line is of sound, too."""
        return any(track.startswith("A") for track in self._events[place].tracks)

    def speed_of(self, place: int) -> float | None:
        """Frames a second at which the event of a line is said to run; None where nothing is said."""
        line, speed = self._speed(self._events[place])
        return None if line is None else speed

    def patched(self, changes: Mapping[int, Change], rate: Fraction) -> str:
        """The text with other media.

        Args:
            changes: by the lines of events.
            rate: frames a second that labels count.
        """
        lines = list(self._lines)
        for one in self._events.values():
            change, left = changes.get(one.place), one.leaving or one.before
            if change is not None:
                self._move(lines, one, change.frames, rate)
            of_left = None if left is None else changes.get(left.place)
            if one.leaving is not None and one.leaving.goes_on and one.leaving.before is not None:
                of_left = changes.get(one.leaving.before.place)
                if of_left is not None:
                    self._move(lines, one.leaving, of_left.frames, rate)
            self._name(lines, one, {"TO": change, "FROM": of_left} if one.is_change else {"FROM": change})
        return "".join(lines)

    def _move(self, lines: list[str], event: _Event, frames: int, rate: Fraction) -> None:
        """Let the times of the source be `frames` later, those of its change of speed too."""
        if not frames:
            return
        found = _EVENT.fullmatch(lines[event.place].rstrip("\r\n"))
        assert found is not None
        for name in ("end", "begin"):
            lines[event.place] = _put(lines[event.place], found.span(name), _later(found[name], frames, rate, event.drop))
        place, _ = self._speed(event)
        if place is not None and (speed := _SPEED.match(lines[place])) is not None:
            lines[place] = _put(lines[place], speed.span("at"), _later(speed["at"], frames, rate, event.drop))

    def _name(self, lines: list[str], event: _Event, changes: Mapping[str, Change | None]) -> None:
        """Let the comments of `event` name other files, on the side of a dissolve that is meant."""
        for side, change in changes.items():
            if change is None or change.address is None:
                continue
            files = [(place, one) for place in event.notes if (one := _MEDIA.fullmatch(lines[place].strip()))]
            told = [place for place, one in files if (one["side"] == "TO CLIP") == (side == "TO")]
            end = lines[event.place][len(lines[event.place].rstrip("\r\n")) :] or "\n"
            text = f"* {side} CLIP: {change.address}{end}"
            for place in told:
                lines[place] = text if place == told[0] else ""
            if not told:
                names = [place for place in event.notes if (one := _NAME.fullmatch(lines[place].strip())) and one["side"] == side]
                speed, _ = self._speed(event)
                place = names[-1] if names else event.place if speed is None else speed
                before = lines[place] if lines[place].endswith(("\n", "\r")) else lines[place] + end
                lines[place] = before + text


def _parsed(place: int, line: str, drop: bool) -> _Event | None:
    """The event of a line; None for any other line.

    Raises:
        ValueError: it looks like an event, and is none.
    """
    found = _EVENT.fullmatch(line.rstrip("\r\n")) if len(line) < _LONGEST else None
    if found is None:
        if line.strip()[:1].isdigit() and len(_LABELS.findall(line)) > 1:
            raise ValueError(f"line {place + 1} is no event of an EDL: {' '.join(line.split())[:80]}")
        return None
    if found["how"].startswith("K"):
        raise ValueError(f"event {found['number']} is a key ({found['how']}), which is not read")
    times = (found["begin"], found["end"], found["at"], found["to"])
    drop = drop or any(";" in time for time in times)
    return _Event(place, found["number"], found["reel"], found["channel"], found["how"], found["frames"] or "", times, drop)


def _mixes(event: _Event) -> bool:
    """Whether comments of `event` may tell of two pictures."""
    left = event.leaving or event.before
    return event.is_change and left is not None and left.reel not in _BLACK


def _colours(found: re.Match[str]) -> list[str]:
    """What a comment says of colours (CDL) as the adapter reads it; nothing where that is no such thing."""
    numbers = [f"{float(one):.9f}" for one in _NUMBER.findall(found["numbers"])]
    if found["kind"] == "SAT":
        return [f"* ASC_SAT {numbers[0]}"] if len(numbers) == 1 else []
    parts = " ".join(f"({' '.join(numbers[begin : begin + 3])})" for begin in (0, 3, 6))
    return [f"* ASC_SOP {parts}"] if len(numbers) == 9 else []


def _line(number: int, event: _Event, empty: bool = False) -> str:
    """An event as the adapter reads it; `empty`: of no length, at its beginning."""
    begin, end, at, to = (_LABEL.sub(r"\1;\2", time) if event.drop else time for time in event.times)
    end, to = (begin, at) if empty else (end, to)
    reel = "_".join(event.reel.split()) or _NO_REEL
    return f"{number:03d}  {reel} {event.channel} {event.how} {event.frames if event.is_change else ''} {begin} {end} {at} {to}"


def _later(label: str, frames: int, rate: Fraction, drop: bool) -> str:
    """A label, or a number of frames, so many frames later, written as it was."""
    if ":" not in label:
        return str(int(label) + frames)
    found = Timecode.parse(label.replace(";", ":"))
    if found is None:
        return label
    new = str(replace(found, drop=drop).after(frames, rate))
    return new[:-3] + label[-3] + new[-2:]


def _put(line: str, span: tuple[int, int], text: str) -> str:
    return line[: span[0]] + text + line[span[1] :]


def _decoded(data: bytes) -> str:
    """The text: by the mark at its beginning, as UTF-8, or else as Windows' programs wrote before that."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
