"""Bookmarks within a shot: what every stage holds at one moment, so that another run can go on from there.

In a run that sets them, the stages from `detect` to `blend` run in one thread and pull: whenever a frame has come out of
the last one, each of them waits at its `yield`, and what they hold together is a consistent state, look-ahead and all. A stage
tells by a function what it holds, and takes it up again when it begins:

    ahead = inside.begin("stage", lambda: ahead) or deque()

Held is what a frame led to (faces, crops, what a track is known by), never its picture: pictures are read from the film again.
A bookmark is set before a frame that the run names, and only where all frames inside are of its shot: at a cut, where no track
crosses, nothing needs to be held.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from videoclr.packing import NotKeepable, Packed, Unpacked, damaged, pack
from videoclr.types import Frame

log = logging.getLogger("videoclr.bookmark")


class Inside:
    """Of a run that sets no bookmarks."""

    def begin(self, stage: str, hold: Callable[[], Any]) -> Any:
        """A stage begins, in the thread of the models, before it takes its first item.

        Args:
            stage: its name.
            hold: tells what it holds, whenever it waits at a `yield`.

        Returns:
            What it held, where the run goes on at a bookmark; else None.
        """
        del stage, hold

    def also(self, name: str, hold: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """Keep what somebody else holds; `take` gets it back before any stage takes a frame. Call it before the run begins."""
        del name, hold, take

    def entering(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames for the first stage, without those that it had before the bookmark."""
        return frames

    def leaving(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames from the last stage, with bookmarks set between them."""
        return frames


NOWHERE = Inside()
"""For everybody who sets no bookmarks."""


class Borders(Protocol):
    """Where bookmarks are wanted."""

    def begins(self, frame: Frame) -> bool:
        """Whether a bookmark is wanted before `frame`, the next one."""
        ...

    def take(self, frame: Frame) -> None:
        """`frame` came out; called for each one, in order."""
        ...


class Bookmarks(Inside):
    """Of one run.

    Args:
        borders: where they are wanted.
        save: told the index of the frame that is next, and what to write down with which facts.
        saved: the bookmark to go on at; None begins with the first frame.
    """

    def __init__(
        self, borders: Borders, save: Callable[[int, Packed, dict[str, Any]], None], saved: Unpacked | None = None
    ) -> None:
        self.borders, self.save, self.saved = borders, save, saved
        self._holds: dict[str, Callable[[], Any]] = {}
        self._takers: dict[str, Callable[[Any], None]] = {}
        self._waiting: dict[str, Any] | None = None
        """What the bookmark has for stages that did not begin yet: those below give what is ready before they ask above."""
        self._source: Iterator[Frame] = iter(())
        self._inside: deque[Frame] = deque()
        """Frames that were read and did not come out yet."""
        self._newest: Frame | None = None
        """The last one that the first stage got."""
        self._next = 0
        """Index of the frame that it gets next."""
        self._told = False

    def begin(self, stage: str, hold: Callable[[], Any]) -> Any:
        """See `Inside`.

        Raises:
            ResumeError: the bookmark knows nothing of this stage.
        """
        if self.saved is None:
            self._holds[stage] = hold
            return None
        waiting = self._loaded(self.saved)
        if stage not in waiting:
            raise damaged(self.saved.path)
        self._holds[stage] = hold
        return waiting.pop(stage)  # a second hold on what frames led to would keep it in memory

    def also(self, name: str, hold: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """See `Inside`."""
        self._holds[name], self._takers[name] = hold, take

    def entering(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """See `Inside`."""
        self._source = frames
        return self._entering()

    def leaving(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """See `Inside`."""
        for frame in frames:
            while self._inside and self._inside[0].index <= frame.index:
                self._inside.popleft()
            self.borders.take(frame)
            yield frame
            if self._inside and self.borders.begins(self._inside[0]):
                self._set(frame, self._inside[0])

    def _entering(self) -> Iterator[Frame]:
        # One frame late: the frame after the one that came out is known then, however little the stages look ahead.
        late: Frame | None = None
        for frame in self._source:
            self._inside.append(frame)
            if late is not None:
                self._newest, self._next = late, frame.index
                yield late
            late = frame
        if late is not None:
            self._newest, self._next = late, late.index + 1
            yield late

    def _set(self, last: Frame, upcoming: Frame) -> None:
        newest = self._newest
        if newest is None or not last.shot == upcoming.shot == newest.shot:
            return
        try:
            packed = pack({**(self._waiting or {}), **{name: hold() for name, hold in self._holds.items()}})
        except NotKeepable as reason:
            if not self._told:
                log.warning("%s cannot be written down: a run that is stopped goes on from the beginning of its shot", reason)
                self._told = True
            return
        self.save(upcoming.index, packed, {"upcoming": upcoming.index, "next": self._next})

    def _loaded(self, saved: Unpacked) -> dict[str, Any]:
        if self._waiting is None:
            values = saved.values(self._read(saved))
            if not isinstance(values, dict) or not self._takers.keys() <= values.keys():
                raise damaged(saved.path)
            self._waiting = values
            for name, take in self._takers.items():
                take(values.pop(name))
        return self._waiting

    def _read(self, saved: Unpacked) -> dict[int, Frame]:
        """The frames inside the bookmark, from the film."""
        try:
            upcoming, following = int(saved.facts["upcoming"]), int(saved.facts["next"])
        except (LookupError, TypeError, ValueError) as error:
            raise damaged(saved.path) from error
        wanted, found = {*saved.frames, *range(upcoming, following)}, {}
        for frame in self._source:
            if frame.index in wanted:
                frame.forget_whole()  # it waits, as in `detect`
                found[frame.index] = frame
            else:
                frame.forget_rgb()
            if frame.index >= following - 1:
                break
        if found.keys() != wanted:
            raise damaged(saved.path)
        self._inside.extend(found[index] for index in range(upcoming, following))
        self._newest, self._next = found[max(found)] if found else None, following
        return found
