"""Runs that can be stopped at any moment and go on: what `--resume` does.

The film is written as segments (see `videoclr.media.segments`) that are noted in a ledger (`videoclr.ledger`) as they are
finished, and joined at the end. Where segments end depends on the film alone: at the first cut after a quarter of
`media.segment`, at the latest after all of it. So a run with `--resume` that was killed a hundred times and one that never was
give the same bytes. A run without `--resume` encodes the film in one piece: a little smaller, and nothing of it outlives a kill.

What the stages remember is not saved but made again. State belongs to a shot, and only three things cross a cut: the
number of the shot, that of the next track, and whom `identify` knows. Those are kept for the shot that the next frame belongs
to; a run that goes on begins with the first frame of that shot, computes what leads up to the next frame by the same code in
the same batches, and drops it. Saving the inside of a dozen stages would be faster to take up again, and wrong as
soon as one of them learnt to remember one thing more.

The film before that shot is decoded and dropped: a seek is quick, but after one a decoder may show other pixels
(open groups, damage), and decoding is a small part of a restoration.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

from videoclr.ledger import Ledger
from videoclr.media.faults import explained
from videoclr.media.segments import check, settle
from videoclr.media.writer import Writer
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
    """

    def __init__(self, ledger: Ledger, writer: Writer, length: Fraction, log: RunLog) -> None:
        self.ledger, self.writer, self.length, self.log = ledger, writer, length, log
        self.next = 0 if ledger.last is None else ledger.last.next
        """Index of the first frame that is to be written."""
        self.shots = 0 if ledger.last is None else ledger.last.shots
        self._shot = -1
        self._started: Fraction | None = None
        self._faces: TextIO | None = None
        self._notes = _Notes()
        log.marks, log.each_note = {}, self._notes.add
        if ledger.last is not None:
            log.warnings.extend(ledger.last.warnings)

    def run(self, frames: Iterator[Frame], pipeline: Pipeline, aligned: bool, wrote: Callable[[int], None]) -> int:
        """Restore what is to be done, and return how many frames the film has.

        Args:
            frames: of the whole film.
            pipeline: restores.
            aligned: see `Pipeline.restore_frames`.
            wrote: told the number of frames that are done, after each.
        """
        begin, kept = _begin(self.ledger.mark(), aligned)
        self._shot = kept
        count = self.next
        restored = pipeline.restore_frames(frames, self.log, aligned=aligned, begin=begin)
        with closing(restored):  # type: ignore[type-var]
            for frame in restored:
                notes = self._notes.take(frame.index)
                if frame.index < self.next:
                    continue  # only led up to what is next
                self._take(frame, notes)
                count += 1
                wrote(count)
        if self._started is not None:
            self._finish(count, {})
        return count

    def close(self) -> None:
        """Let go of the segment that was begun."""
        if self._faces is not None:
            self._faces.close()
            self._faces = None

    def _take(self, frame: Frame, notes: list[FaceNote]) -> None:
        if self._started is not None and self._is_border(frame):
            self._finish(frame.index, self._mark(frame))
        if self._started is None:
            self._started = frame.time
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

    def _is_border(self, frame: Frame) -> bool:
        assert self._started is not None
        lasted = frame.time - self._started
        return lasted >= self.length or (frame.shot != self._shot and lasted >= self.length / 4)

    def _mark(self, frame: Frame) -> Mapping[str, Any]:
        """How to begin with `frame`, the next one."""
        marks = self.log.marks or {}
        for shot in [shot for shot in marks if shot < frame.shot]:
            del marks[shot]
        mark = marks.get(frame.shot)
        if mark is None:  # pictures that are faces already: no shots
            return {"counted": self._shot}
        people = None if mark.people is None else mark.people.as_json()
        return {"counted": self._shot, "shot": mark.shot, "start": mark.start, "tracks": mark.tracks, "people": people}

    def _finish(self, next_frame: int, mark: Mapping[str, Any]) -> None:
        assert self._faces is not None
        segment = self.writer.end_segment()
        place = self.ledger.faces_place()
        with explained(self.ledger.target, "cannot be written"):
            settle(self._faces, _part(place), place)
        self._faces, self._started = None, None
        self.ledger.add(segment, next_frame, self.shots, self.log.warnings, mark)


class _Notes:
    """Notes about faces that wait for their frame to be written. Two stages make them, each in order."""

    def __init__(self) -> None:
        self._restored: deque[FaceNote] = deque()
        self._passed: deque[FaceNote] = deque()

    def add(self, note: FaceNote) -> None:
        """From the thread of the models."""
        (self._passed if note.passed else self._restored).append(note)

    def take(self, frame: int) -> list[FaceNote]:
        """Those up to `frame`."""
        found = []
        for queue in (self._passed, self._restored):
            while queue and queue[0].frame <= frame:
                found.append(queue.popleft())
        return found


def _part(place: Path) -> Path:
    return place.with_name(place.name + ".part")


def _begin(mark: Mapping[str, Any] | None, aligned: bool) -> tuple[Mark | None, int]:
    """Where the pipeline begins, and the number of the last shot that was counted."""
    if mark is None or "counted" not in mark:
        return None, -1
    if aligned or "shot" not in mark:
        return None, mark["counted"]
    from videoclr.stages.identify import PeopleMemory

    people = None if mark["people"] is None else PeopleMemory.of_json(mark["people"])
    return Mark(mark["shot"], mark["start"], mark["tracks"], people), mark["counted"]


def join(ledger: Ledger, writer: Writer) -> None:
    """Put the segments into the film; its name it gets when the writer's block ends."""
    for done in ledger.segments():
        check(done.segment)
    writer.join((done.segment for done in ledger.segments()), ledger.reorder, ledger.finished)


def tell(ledger: Ledger, log: RunLog, facts: Mapping[str, Any]) -> None:
    """Fill `log` with what the whole film's run was, from the notes on the disk."""
    for values in ledger.faces():
        log.take(FaceNote.of_json(values))
    log.frames_in, log.frames_out = facts["frames_in"], facts["frames_out"]
    if ledger.last is not None:
        log.shots = ledger.last.shots
        log.warnings[:] = ledger.last.warnings
