"""Runs that can be stopped at any moment and go on: what `--resume` does.

The film is written as segments (see `videoclr.media.segments`) that are noted in a ledger (`videoclr.ledger`) as they are
finished, and joined at the end. Where segments end depends on the film alone: at the first cut after a quarter of
`media.segment`, at the latest after all of it; with `media.smart_copy` at a key picture of the source alone, for groups that a
segment's end parts are encoded, unless none comes within twice `media.segment`. So a run with `--resume` that was killed a
hundred times and one that never was give the same bytes. A run without `--resume` encodes the film in one piece: a little
smaller, and nothing of it outlives a kill.

How a run goes on depends on where the segment ended. State belongs to a shot, and only three things cross a cut: the
number of the shot, that of the next track, and whom `identify` knows. Those are kept for the shot that the next frame belongs
to. Where the segment ended within a shot, so that up to a whole film of one shot is not computed twice, all that the stages
hold there is kept as well (`videoclr.bookmark`): faces, tracks, views, what the restorer and the gate remember, what waits in
look-aheads; the pictures of the frames that wait are read again. Setting a bookmark changes nothing: how long segments are
decides about key frames, never about pixels before they are encoded. Near a cut, where frames of the next shot are inside
already, no bookmark is set: the one before is gone on from, and with parts that cannot write down what they remember
(`videoclr.packing.Keeping`) the beginning of the shot. What then leads up to the next frame is computed by the same
code in the same batches, and dropped.

The film before is decoded and dropped, and its cuts are looked for from the shot's first frame on: a seek is quick, but after
one a decoder may show other pixels (open groups, damage), and decoding is a small part of a restoration.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from videoclr.bookmark import NOWHERE, Bookmarks
from videoclr.cast import Cast
from videoclr.ledger import Ledger
from videoclr.media.faults import explained
from videoclr.media.picture import Picture
from videoclr.media.segments import check, settle
from videoclr.media.writer import Writer
from videoclr.packing import Packed
from videoclr.pipeline import FaceNote, Mark, Pipeline, RunLog
from videoclr.report import plain
from videoclr.types import Frame


class Restoration:
    """One film on its way through the pipeline into segments.

    Args:
        ledger: what is done already.
        writer: in its block; `segment` by `segment` it takes what is to be done, and then joins all.
        length: seconds of a segment.
        log: of the run; its hooks are taken.
        keys: segments begin with key pictures of the source.
    """

    def __init__(self, ledger: Ledger, writer: Writer, length: Fraction, log: RunLog, *, keys: bool = False) -> None:
        self.ledger, self.writer, self.length, self.log = ledger, writer, length, log
        self.next = 0 if ledger.last is None else ledger.last.next
        """Index of the first frame that is to be written."""
        self.shots = 0 if ledger.last is None else ledger.last.shots
        self._shot = -1
        self._keys = keys
        self._borders = _Borders(length, self.next, keys)
        self._faces: TextIO | None = None
        self._notes = _Notes()
        self._states: dict[int, tuple[BinaryIO, dict[str, Any]]] = {}
        """Bookmarks that were set: index of the frame after it -> the open file, and what the mark says of it."""
        self._state: tuple[int, dict[str, Any]] | None = None
        """Shot, and what the mark says, of the last bookmark that a mark named."""
        log.marks, log.each_note = {}, self._notes.add
        if ledger.last is not None:
            log.warnings.extend(ledger.last.warnings)
            writer.recall(ledger.last.written)

    def run(
        self, frames: Iterator[Frame], pipeline: Pipeline, aligned: bool, wrote: Callable[[int], None], cast: Cast | None = None
    ) -> int:
        """Restore what is to be done, and return how many frames the film has.

        Args:
            frames: of the whole film.
            pipeline: restores.
            aligned: see `Pipeline.restore_frames`.
            wrote: told the number of frames that are done, after each.
            cast: see `Pipeline.restore_frames`.
        """
        mark = self.ledger.mark()
        try:
            begin, self._shot = _begin(mark, aligned)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self.ledger.damage() from error
        inside = NOWHERE if aligned else self._bookmarks(mark, begin)
        count = self.next
        restored = pipeline.restore_frames(frames, self.log, aligned=aligned, begin=begin, inside=inside, cast=cast)
        with closing(restored):  # type: ignore[type-var]
            for frame in restored:
                notes = self._notes.take(frame.index)
                if frame.index < self.next:
                    continue  # only led up to what is next
                self._take(frame, notes)
                count += 1
                wrote(count)
        if count != self.log.frames_in:  # as many come out as go in: it began at a wrong place
            raise self.ledger.damage()
        if self._faces is not None:
            self._finish(count, {})
        return count

    def _bookmarks(self, mark: Mapping[str, Any] | None, begin: Mark | None) -> Bookmarks:
        saved = None
        if mark is not None and begin is not None:
            assert self.log.marks is not None
            self.log.marks[begin.shot] = begin  # a run that begins within a shot is not told how the shot begins
            if mark.get("state") is not None:
                saved = self.ledger.state(mark["state"])
                self._state = begin.shot, mark["state"]
        bookmarks = Bookmarks(_Leaving(self.length, self.next, self._keys, self._notes), self._save, saved)
        bookmarks.also("notes", self._notes.inside, self._notes.again)
        return bookmarks

    def _save(self, upcoming: int, packed: Packed, facts: dict[str, Any]) -> None:
        """Write a bookmark, in the thread of the models; its name it gets with the segment's mark."""
        place = self.ledger.bookmark_part(upcoming)
        with explained(self.ledger.target, "cannot be written"):
            file = place.open("wb")
            self._states[upcoming] = file, {}
            checksum = packed.write(file, facts)
            self._states[upcoming] = file, {"size": file.tell(), "sha256": checksum}

    def close(self) -> None:
        """Let go of the segment that was begun."""
        faces, self._faces = self._faces, None
        for file in (faces, *(file for file, _ in self._states.values())):
            with suppress(OSError):  # what waits to be written may have no room still
                if file is not None:
                    file.close()
        self._states.clear()

    def _take(self, frame: Frame, notes: list[FaceNote]) -> None:
        if self._faces is not None and self._borders.begins(frame):
            self._finish(frame.index, self._mark(frame))
        self._borders.take(frame)
        if self._faces is None:
            self.writer.begin_segment(self.ledger.next_place())
            with explained(self.ledger.target, "cannot be written"):
                self._faces = _part(self.ledger.faces_place()).open("w", encoding="utf-8")
        if frame.shot != self._shot:
            self._shot = frame.shot
            self.shots += 1
        with self.log.encoding():
            self.writer.write(frame)
        assert self._faces is not None
        with explained(self.ledger.target, "cannot be written"):
            for note in notes:
                self._faces.write(json.dumps(plain(asdict(note))) + "\n")

    def _mark(self, frame: Frame) -> Mapping[str, Any]:
        """How to begin with `frame`, the next one."""
        marks = self.log.marks or {}
        for shot in [shot for shot in marks if shot < frame.shot]:
            del marks[shot]
        mark = marks.get(frame.shot)
        if mark is None:  # pictures that are faces already: no shots
            return {"counted": self._shot}
        people = None if mark.people is None else mark.people.as_json()
        begins = {"shot": mark.shot, "start": mark.start, "tracks": mark.tracks, "missed": mark.missed, "people": people}
        return {"counted": self._shot, **begins, "state": self._settled(frame)}

    def _settled(self, frame: Frame) -> dict[str, Any] | None:
        """The bookmark before `frame`, or the last one of its shot; None where there is none."""
        if frame.index in self._states:
            file, said = self._states.pop(frame.index)
            with explained(self.ledger.target, "cannot be written"):
                number = self.ledger.settle_bookmark(file, frame.index)
            self._state = frame.shot, {"segment": number, **said}
        shot, state = self._state or (-1, None)
        return state if shot == frame.shot else None

    def _finish(self, next_frame: int, mark: Mapping[str, Any]) -> None:
        assert self._faces is not None
        segment = self.writer.end_segment()
        place = self.ledger.faces_place()
        with explained(self.ledger.target, "cannot be written"):
            settle(self._faces, _part(place), place)
        self._faces = None
        self.ledger.add(segment, next_frame, self.shots, self.log.warnings, self.writer.warnings, mark)


class _Borders:
    """Where segments end; the film alone decides.

    Args:
        length: seconds of a segment.
        first: index of the first frame of the first segment; those before it count for nothing.
        keys: segments begin with key pictures of the source, where one comes within twice the length.
    """

    def __init__(self, length: Fraction, first: int, keys: bool) -> None:
        self.length, self.first, self.keys = length, first, keys
        self._started: Fraction | None = None
        self._shot = -1

    def begins(self, frame: Frame) -> bool:
        """Whether `frame`, the next one, begins a segment after the first."""
        if self._started is None:
            return False
        lasted = frame.time - self._started
        if self.keys and lasted < 2 * self.length and not _is_key(frame):
            return False
        return lasted >= self.length or (frame.shot != self._shot and lasted >= self.length / 4)

    def take(self, frame: Frame) -> None:
        """Go on by a frame."""
        if frame.index < self.first:
            return
        if self._started is None or self.begins(frame):
            self._started = frame.time
        self._shot = frame.shot


class _Leaving(_Borders):
    """The same, seen from the thread of the models, which is ahead of the one that writes."""

    def __init__(self, length: Fraction, first: int, keys: bool, notes: _Notes) -> None:
        super().__init__(length, first, keys)
        self._notes = notes

    def take(self, frame: Frame) -> None:
        """Go on by a frame."""
        super().take(frame)
        self._notes.left(frame.index)


class _Notes:
    """Notes about faces that wait for their frame to be written. Two stages make them, each in order."""

    def __init__(self) -> None:
        self._restored: deque[FaceNote] = deque()
        self._passed: deque[FaceNote] = deque()
        self._inside: list[FaceNote] = []

    def add(self, note: FaceNote) -> None:
        """From the thread of the models."""
        (self._passed if note.passed else self._restored).append(note)
        self._inside.append(note)

    def left(self, frame: int) -> None:
        """`frame` left the thread of the models, and nobody there will note anything of it again."""
        if self._inside and self._inside[0].frame <= frame:
            self._inside = [note for note in self._inside if note.frame > frame]

    def inside(self) -> list[FaceNote]:
        """Those of frames that did not leave it yet."""
        return self._inside

    def again(self, notes: list[FaceNote]) -> None:
        """Those that were `inside` in another run."""
        for note in notes:
            self.add(note)

    def take(self, frame: int) -> list[FaceNote]:
        """Those up to `frame`."""
        found = []
        for queue in (self._passed, self._restored):
            while queue and queue[0].frame <= frame:
                found.append(queue.popleft())
        return found


def _is_key(frame: Frame) -> bool:
    """Whether a group of the source begins with this frame; of an open one, its key picture."""
    return isinstance(frame.native, Picture) and bool(frame.native.frame.key_frame)


def _part(place: Path) -> Path:
    return place.with_name(place.name + ".part")


def _begin(mark: Mapping[str, Any] | None, aligned: bool) -> tuple[Mark | None, int]:
    """Where the pipeline begins, and the number of the last shot that was counted."""
    if mark is None or "counted" not in mark:
        return None, -1
    if aligned or "shot" not in mark:
        return None, int(mark["counted"])
    from videoclr.stages.identify import PeopleMemory

    people = None if mark["people"] is None else PeopleMemory.of_json(mark["people"])
    missed = int(mark.get("missed", 0))
    return Mark(int(mark["shot"]), int(mark["start"]), int(mark["tracks"]), people, missed), int(mark["counted"])


def join(ledger: Ledger, writer: Writer) -> None:
    """Put the segments into the film; its name it gets when the writer's block ends."""
    for done in ledger.segments():
        check(done.segment)
    writer.join((done.segment for done in ledger.segments()), ledger.reorder, ledger.finished)


def tell(ledger: Ledger, log: RunLog) -> None:
    """Fill `log` with what the whole film's run was, from the notes on the disk."""
    for values in ledger.faces():
        try:
            note = FaceNote.of_json(values)
        except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ledger.damage() from error
        log.take(note)
    facts = ledger.complete or {}
    log.frames_in, log.frames_out = facts["frames_in"], facts["frames_out"]
    if ledger.last is not None:
        log.shots = ledger.last.shots
        log.warnings[:] = ledger.last.warnings
