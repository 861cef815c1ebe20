"""Restore the crops: in batches, or along their tracks where the restorer knows how.

A restorer of two methods gets faces in the order of time, as many as fit a call. One that has `restore_span` as well gets
the frames of one track from one anchor to the next: the look-ahead is here, in frames, and it is emptied at a cut.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from videoclr.blame import blamed, described, directions_of, tensor_of, unchanged, within
from videoclr.bookmark import NOWHERE, Inside
from videoclr.errors import NotFiniteError, RestorationError
from videoclr.flow import grouped
from videoclr.packing import keepable
from videoclr.shortage import Batch, added, with_room
from videoclr.types import FaceCrop, Faces, RestoredFace

log = logging.getLogger("videoclr.stages.restore")

_LEFT = "face(s) left as they were"
_GONE = 50  # frames without a face after which a track's memory is dropped


class Restorer(Protocol):
    """Restores aligned faces. The weights may be shared; what it remembers of a track lies in `memory`."""

    size: int
    """Side of the crops it takes and gives, pixels."""

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
        """Restored faces.

        A face's pixels must not depend on which others share the call: `runtime.batch` changes speed only.

        Args:
            crops: faces of one shot, in order of time; several may be of one frame or of one track. Others look at them too:
                they are not to be changed.
            memory: what the restorer wants to keep, by number of track. Entries are the restorer's own; they are
                deleted when the track or the shot ends.

        Returns:
            `(N, 3, S, S)` RGB in [-1, 1], of floats, in the order of `crops`, on any device, without NaN. What lies beyond the
            range is cut off; where it is much, a warning says so.
        """
        ...


@runtime_checkable
class ReducedRestorer(Restorer, Protocol):
    """A `Restorer` that works in reduced precision, and knows how not to. Optional."""

    @property
    def exact(self) -> Restorer | None:
        """The same in float32: a face that comes out as NaN is asked of it again. None where this one is that already."""
        ...


@runtime_checkable
class SpanRestorer(Restorer, Protocol):
    """A `Restorer` that can look along a track. Optional: one without these three names is asked face by face.

    A span is consecutive frames of one track that end with an anchor: `anchors` of them, one more where the track begins
    (its first frame is an anchor too), fewer where it ends. Spans of a track come in the order of time.
    """

    anchors: int
    """Frames from one anchor to the next; 1 turns the looking off."""
    reach: int
    """Frames behind the last anchor that it wants to see. The delay of the stage is `anchors + reach` frames."""

    def restore_span(
        self, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], first: bool, memory: dict[int, Any], batch: int
    ) -> Tensor:
        """Restored faces of `crops`, as `restore` gives them.

        Pixels must not depend on `batch`, nor on what other tracks do.

        Args:
            crops: the span, at least one.
            after: the frames of the track that follow, at most `reach` of them; fewer at its end.
            first: nothing that goes before belongs to it: the track begins here, or its last span failed.
            memory: as in `restore`. Change it only when all has gone well: after a failure it must be as it was.
            batch: faces per call of a network.
        """
        ...


@runtime_checkable
class TellingRestorer(SpanRestorer, Protocol):
    """A `SpanRestorer` that tells which frames it restored in full; for the report."""

    def full(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Sequence[bool]:
        """For each of `crops`, the span that was restored last of its track: True for an anchor."""
        ...


@runtime_checkable
class DoubtingRestorer(Restorer, Protocol):
    """A `Restorer` that looks at its own result and says where it took back what it had invented."""

    def invented(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Sequence[Tensor | None]:
        """For each of `crops`, those of its last call: the hallucination map `(1, S, S)` in [0, 1], or None."""
        ...


@runtime_checkable
class SeeingRestorer(Restorer, Protocol):
    """A `Restorer` that knows what its input shows better than one frame tells."""

    def seen(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Sequence[Tensor | None]:
        """For each of `crops`, those of its last call: `(3, S, S)` in [-1, 1], the input without the frame's noise, or None."""
        ...


class Masker(Protocol):
    """Says where a restored crop is shown."""

    def mask(self, crops: Sequence[FaceCrop], images: Tensor) -> Tensor:
        """`(N, 1, S, S)` in [0, 1] for `crops` and their restored `images` `(N, 3, S, S)` on the CPU; neither is to be changed."""
        ...


class Embedder(Protocol):
    """What is needed of a recognizer here (the stage `identify` has the protocol with the conventions)."""

    def embed(self, crops: Tensor) -> Tensor:
        """`(N, 3, S, S)` in [-1, 1] -> `(N, D)` unit vectors."""
        ...


def restore(
    crops: Iterable[Faces[FaceCrop]],
    restorer: Restorer,
    masker: Masker,
    recognizer: Embedder | None = None,
    batch: int = 4,
    on_error: Literal["stop", "keep"] = "stop",
    warnings: list[str] | None = None,
    along: bool = True,
    inside: Inside = NOWHERE,
) -> Iterator[Faces[RestoredFace]]:
    """Restored faces of each frame.

    Args:
        crops: with the shots numbered; every frame.
        restorer: restores.
        masker: says where the result is shown.
        recognizer: measures `similarity` to the track's identity; None for no measurement.
        batch: faces per call, halved where the device's memory does not suffice. The delay is at most `2 * batch` frames,
            along tracks `anchors + reach`; a call never holds two shots.
        on_error: `stop` raises; `keep` leaves the face out, so that its frame shows the input there, and adds one line
            per track to `warnings`. NaN and infinite values never stop a run: such a face is restored again in float32
            where the restorer has less (`ReducedRestorer`), and left out where that does not help.
        warnings: where faces that were left out, and a halved batch, are told.
        along: go along the tracks where the restorer is a `SpanRestorer`; False for pictures that have no neighbours.
        inside: keeps what waits, and what the restorer remembers.

    Raises:
        RestorationError: from the part's exception, or because its result has another shape.
        DeviceError: the device's memory does not suffice for one face, or the device failed.
    """
    told: list[str] = [] if warnings is None else warnings
    work = _Calls(restorer, masker, recognizer, Batch(batch, "runtime.batch", told), _Kept(told, on_error == "keep"))
    if along and isinstance(restorer, SpanRestorer) and restorer.anchors > 1:
        return _along_tracks(crops, work, restorer, inside)
    return _in_batches(crops, work, inside)


def _in_batches(crops: Iterable[Faces[FaceCrop]], work: _Calls, inside: Inside) -> Iterator[Faces[RestoredFace]]:
    ready: deque[Faces[RestoredFace]]
    waiting: list[Faces[FaceCrop]]
    shot: int | None
    held: Any = inside.begin("restore", lambda: (ready, waiting, shot, work.keep()))
    ready, waiting, shot, memory = (deque(), [], None, None) if held is None else held
    if memory is not None:
        work.take_up(memory)
    while ready:
        yield ready.popleft()
    for faces in crops:
        if faces.frame.shot != shot:
            yield from work.restored(waiting)
            work.forget()
            waiting, shot = [], faces.frame.shot
        waiting.append(faces)
        held = sum(len(one.faces) for one in waiting)
        # Without a face nothing is gained by waiting; with a few, frames without any must not pile up behind them.
        if held == 0 or held >= work.batch.size or len(waiting) >= 2 * work.batch.size:
            ready.extend(work.restored(waiting))
            waiting = []
            while ready:
                yield ready.popleft()
    ready.extend(work.restored(waiting))
    waiting = []
    while ready:
        yield ready.popleft()


def _along_tracks(
    crops: Iterable[Faces[FaceCrop]], work: _Calls, restorer: SpanRestorer, inside: Inside
) -> Iterator[Faces[RestoredFace]]:
    spans = _Spans(work, restorer)
    shot: int | None
    held: Any = inside.begin("restore", lambda: (spans.keep(), shot, work.keep()))
    waiting, shot, memory = (None, None, None) if held is None else held
    if memory is not None:
        spans.take_up(waiting)
        work.take_up(memory)
    yield from spans.ready()
    for faces in crops:
        if faces.frame.shot != shot:
            yield from spans.finished()
            work.forget()
            shot = faces.frame.shot
        yield from spans.add(faces)
    yield from spans.finished()


@keepable
@dataclass
class _Strand:
    """A track's crops that wait for their span to be whole."""

    crops: list[FaceCrop] = field(default_factory=list)
    first: bool = True
    """The next span has nothing before it."""


class _Spans:
    """Frames that wait until the spans of all their faces are restored.

    A track's frames are consecutive: where it misses one, its strand ends, and begins anew when it comes back.
    """

    def __init__(self, work: _Calls, restorer: SpanRestorer) -> None:
        self.work, self.restorer = work, restorer
        self.waiting: deque[Faces[FaceCrop]] = deque()
        self.strands: dict[int, _Strand] = {}
        self.done: dict[tuple[int, int], RestoredFace | None] = {}
        """By frame and track."""

    def keep(self) -> Any:
        """What waits, for `take_up`."""
        return self.waiting, self.strands, self.done

    def take_up(self, kept: Any) -> None:
        """Go on with what waited."""
        self.waiting, self.strands, self.done = kept

    def add(self, faces: Faces[FaceCrop]) -> Iterator[Faces[RestoredFace]]:
        """Take a frame, and give those that are ready."""
        self.waiting.append(faces)
        here = {crop.face.track: crop for crop in faces.faces}
        for track in self.strands.keys() - here.keys():
            self._end(self.strands.pop(track))
        for track, crop in here.items():
            strand = self.strands.setdefault(track, _Strand())
            strand.crops.append(crop)
            if len(strand.crops) == self._length(strand) + self.restorer.reach:
                self._restore(strand)
        self.work.age(faces.faces, faces.frame.index)
        yield from self.ready()

    def finished(self) -> Iterator[Faces[RestoredFace]]:
        """All that waits: a cut, or the end."""
        for strand in self.strands.values():
            self._end(strand)
        self.strands.clear()
        yield from self.ready()

    def ready(self) -> Iterator[Faces[RestoredFace]]:
        """The first frames that wait, where all of their faces are restored."""
        while self.waiting and all(_name(crop) in self.done for crop in self.waiting[0].faces):
            faces = self.waiting.popleft()
            restored = [self.done.pop(_name(crop)) for crop in faces.faces]
            yield Faces(faces.frame, tuple(face for face in restored if face is not None), looked=faces.looked)

    def _length(self, strand: _Strand) -> int:
        return self.restorer.anchors + strand.first

    def _end(self, strand: _Strand) -> None:
        while strand.crops:
            self._restore(strand)

    def _restore(self, strand: _Strand) -> None:
        length = self._length(strand)
        crops, rest = strand.crops[:length], strand.crops[length:]
        found, whole = self.work.span(self.restorer, crops, rest[: self.restorer.reach], strand.first)
        self.done.update({_name(crop): face for crop, face in zip(crops, found, strict=True)})
        strand.crops, strand.first = rest, not whole


def _name(crop: FaceCrop) -> tuple[int, int]:
    return crop.frame.index, crop.face.track


class _Kept:
    """One line per track about the faces that were left as they were; later failures update it."""

    def __init__(self, warnings: list[str], all_errors: bool) -> None:
        self.warnings, self.all_errors = warnings, all_errors
        self.lines: dict[int, tuple[int, int, int]] = {}

    def takes(self, error: RestorationError) -> bool:
        """True where a face that ends in `error` is left out, and the run goes on."""
        return self.all_errors or isinstance(error, NotFiniteError)

    def add(self, error: RestorationError) -> None:
        log.warning("face kept unrestored: %s", error)
        track = -1 if error.track is None else error.track
        line, first, times = self.lines.get(track) or (self._line_of(track), error.frame, 0)
        text = f"track {track}: {times + 1} {_LEFT}, frames {first} to {error.frame}: {error}"
        if line is not None and line < len(self.warnings):
            self.warnings[line] = text
        else:
            line = added(self.warnings, text)
        self.lines[track] = (line, first, times + 1)

    def _line_of(self, track: int) -> int | None:
        """Where its line is. A run that begins a shot once more may have it: it counts the track's failures from the start.

        Other stages have lines of the track as well, which stay.
        """
        begin = re.compile(rf"track {track}: \d+ {re.escape(_LEFT)}, ")
        return next((line for line, text in enumerate(self.warnings) if begin.match(text)), None)


class _Calls:
    """Calls the parts, and owns what the restorer remembers."""

    def __init__(self, restorer: Restorer, masker: Masker, recognizer: Embedder | None, batch: Batch, kept: _Kept) -> None:
        self.restorer = restorer
        self.masker = masker
        self.recognizer = recognizer
        self.batch = batch
        self.kept = kept
        self.memory: dict[int, Any] = {}
        self.last: dict[int, int] = {}

    def keep(self) -> Any:
        """What is remembered of the tracks, for `take_up`."""
        return self.memory, self.last, self.kept.lines

    def take_up(self, kept: Any) -> None:
        """Remember what `keep` gave."""
        self.memory, self.last, self.kept.lines = kept

    def restored(self, waiting: Sequence[Faces[FaceCrop]]) -> list[Faces[RestoredFace]]:
        flat = [crop for faces in waiting for crop in faces.faces]
        results = iter(list(self.batch.calls(self._group, flat)))
        out = []
        for faces in waiting:
            done = [next(results) for _ in faces.faces]
            out.append(Faces(faces.frame, tuple(face for face in done if face is not None), looked=faces.looked))
        if waiting:
            self.age(flat, waiting[-1].frame.index)
        return out

    def span(
        self, restorer: SpanRestorer, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], first: bool
    ) -> tuple[list[RestoredFace | None], bool]:
        """The faces of a span, and whether it went well. Where it failed and faces may be left out, each is restored for
        itself: that shows which is bad, and nothing of it is carried on."""
        while True:
            size = self.batch.size
            try:
                faces = with_room(
                    lambda: self._finished(crops, lambda: restorer.restore_span(crops, after, first, self.memory, size))  # noqa: B023
                )
                return self._told(restorer, crops, faces), True
            except RestorationError as error:
                if not self.kept.takes(error):
                    raise
                break
            except Exception as error:
                self.batch.halve(error, size)
        return [face for crop in crops for face in self.batch.calls(self._group, [crop])], False

    def _told(self, restorer: SpanRestorer, crops: Sequence[FaceCrop], faces: list[RestoredFace]) -> list[RestoredFace | None]:
        if not isinstance(restorer, TellingRestorer):
            return list(faces)
        with blamed("restorer", crops[0].frame.index, crops[0].face.track, len(crops), again=True):
            return [replace(face, full=bool(full)) for face, full in zip(faces, restorer.full(crops, self.memory), strict=True)]

    def forget(self) -> None:
        """Drop the memory of every track: a cut."""
        self.memory.clear()
        self.last.clear()

    def age(self, crops: Sequence[FaceCrop], now: int) -> None:
        """Drop the memory of tracks that have been away for long."""
        self.last.update({crop.face.track: crop.frame.index for crop in crops})
        self.last = {track: index for track, index in self.last.items() if now - index <= _GONE}
        for track in self.memory.keys() - self.last.keys():
            del self.memory[track]

    def _group(self, crops: Sequence[FaceCrop]) -> list[RestoredFace | None]:
        try:
            return list(self._call(crops))
        except RestorationError as error:
            if not self.kept.takes(error):
                raise
            if len(crops) == 1:
                return [self._again(crops[0], error)]
        # One bad face must not take its neighbours along: again, one by one.
        return [face for crop in crops for face in self._group([crop])]

    def _again(self, crop: FaceCrop, error: RestorationError) -> RestoredFace | None:
        exact = self.restorer.exact if isinstance(self.restorer, ReducedRestorer) else None
        if exact is not None and isinstance(error, NotFiniteError):
            try:
                (face,) = self._finished([crop], lambda: exact.restore([crop], self.memory))
            except RestorationError as again:
                error = again
            else:
                return face
        self.kept.add(error)
        return None

    def _call(self, crops: Sequence[FaceCrop]) -> list[RestoredFace]:
        return self._finished(crops, lambda: self.restorer.restore(crops, self.memory))

    def _finished(self, crops: Sequence[FaceCrop], restored: Callable[[], Tensor]) -> list[RestoredFace]:
        """All of `crops`, or `RestorationError` naming the face where it is known, else the first of them."""
        first = crops[0]
        with blamed("restorer", first.frame.index, first.face.track, len(crops), again=True):
            # No inference_mode here: guidance needs gradients, so each part decides for itself, inside its own call.
            with unchanged("restorer", first.frame.index, first.face.track, "crop.image", [crop.image for crop in crops]):
                given = restored()
            if isinstance(given, Tensor) and not given.is_floating_point():
                raise RestorationError(
                    first.frame.index, first.face.track, f"the restorer gave {given.dtype}, expected floats in [-1, 1]"
                )
            found = _checked(given, crops, (3, *first.image.shape[1:]), "restorer")
            images = within(found, -1.0, "restorer", first.frame.index, first.face.track, self.kept.warnings)
            return [face for rows in grouped(range(len(crops)), self.batch.size) for face in self._shown(crops, images, rows)]

    def _shown(self, all_crops: Sequence[FaceCrop], all_images: Tensor, rows: Sequence[int]) -> list[RestoredFace]:
        crops, images = [all_crops[row] for row in rows], all_images[rows]
        frame, track = crops[0].frame.index, crops[0].face.track
        with blamed("masker", frame, track, len(crops), again=True):
            with unchanged("masker", frame, track, "its images", [images, *(crop.image for crop in crops)]):
                given = self.masker.mask(crops, images)
            found = _checked(given, crops, (1, *images.shape[2:]), "masker")
            masks = within(found, 0.0, "masker", frame, track, self.kept.warnings)
        similar = self._similarities(crops, images)
        nothing: list[Tensor | None] = [None] * len(crops)
        with blamed("restorer", crops[0].frame.index, crops[0].face.track, len(crops), again=True):
            doubts, shown = nothing, nothing
            if isinstance(self.restorer, DoubtingRestorer):
                doubts = _maps(self.restorer.invented(crops, self.memory), crops, 1)
            if isinstance(self.restorer, SeeingRestorer):
                shown = _maps(self.restorer.seen(crops, self.memory), crops, 3)
        return [
            RestoredFace(crop, image, mask, similarity, invented=invented, seen=seen)
            for crop, image, mask, similarity, invented, seen in zip(crops, images, masks, similar, doubts, shown, strict=True)
        ]

    def _similarities(self, crops: Sequence[FaceCrop], images: Tensor) -> list[float | None]:
        known = [place for place, crop in enumerate(crops) if crop.identity is not None]
        found: list[float | None] = [None] * len(crops)
        if self.recognizer is None or not known:
            return found
        first = crops[known[0]]
        with blamed("recognizer", first.frame.index, first.face.track, len(known), again=True):
            given = self.recognizer.embed(images[known])
            vectors = directions_of(given, len(known), first.frame.index, first.face.track)
            for place, vector in zip(known, vectors, strict=True):
                identity = crops[place].identity
                if identity is not None and bool(torch.isfinite(vector).all()):
                    found[place] = float(torch.dot(vector, identity.detach().float().cpu()))
        return found


def _maps(given: Sequence[Tensor | None], crops: Sequence[FaceCrop], channels: int) -> list[Tensor | None]:
    """A map of each crop, or None, in memory of its own: float32 on the CPU, of the crop's size, and finite.

    Raises:
        RestorationError: it is something else.
    """
    if not isinstance(given, Sized) or len(given) != len(crops):
        first, said = crops[0], f"{len(given)} maps" if isinstance(given, Sized) else described(given)
        raise RestorationError(first.frame.index, first.face.track, f"the restorer gave {said} for {len(crops)} face(s)")
    return [
        None if one is None else _checked(one[None], [crop], (channels, *crop.image.shape[1:]), "restorer")[0].clone()
        for one, crop in zip(given, crops, strict=True)
    ]


def _checked(images: Tensor, crops: Sequence[FaceCrop], shape: tuple[int, ...], who: str) -> Tensor:
    """float32 on the CPU, of the promised shape and finite."""
    images = tensor_of(images, (len(crops), *shape), who, crops[0].frame.index, crops[0].face.track)
    for crop, fine in zip(crops, torch.isfinite(images).flatten(1).all(1).tolist(), strict=True):
        if not fine:
            raise NotFiniteError(crop.frame.index, crop.face.track, f"the {who} gave NaN or infinite values")
    return images
