"""Decide how much of each restoration to trust, and fade the rest towards the input: never to an invented face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from videoclr.blame import blamed, described, tensor_of, unchanged
from videoclr.bookmark import NOWHERE, Inside
from videoclr.errors import NotFiniteError, RestorationError
from videoclr.flow import Around, around
from videoclr.packing import keepable
from videoclr.shortage import with_room
from videoclr.types import Faces, RestoredFace

_GONE = 50  # frames without a face after which a track's memory is dropped

_LOWERED = 0.9  # of a frame's own confidence: what lies below it has its reason in another frame


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is thought of one restored face."""

    confidence: float
    """In [0, 1]: of the face as a whole."""
    trust: Tensor | None
    """`(1, S, S)` in [0, 1]: of each place; None for 1 everywhere."""
    reasons: Mapping[str, float]
    """What spoke against the face -> the factor in [0, 1) that it led to, of the whole or of a part of it."""


class Judge(Protocol):
    """Compares restored faces with what they were made from."""

    def judge(self, faces: Faces[RestoredFace], memory: dict[int, Any]) -> list[Verdict]:
        """A verdict on each face of a frame, in order.

        Args:
            faces: of one frame; called once per frame with faces, in order. Other stages look at them too: they are not to be
                changed.
            memory: what it wants to keep, by number of track; deleted when the track or the shot ends.
        """
        ...


def gate(
    restored: Iterable[Faces[RestoredFace]], judge: Judge, smoothing: int = 2, inside: Inside = NOWHERE
) -> Iterator[Faces[RestoredFace]]:
    """Set `confidence`, `trust` and `reasons` of each face, and multiply its mask with `trust`.

    Confidence that jumps would show as flicker, and a mean over time would let a single bad frame through. So a track's
    confidence is the mean over `smoothing` frames before and after of the least confidence within as many again: it moves
    slowly and never lies above what the judge said (a morphological erosion, then a box filter). `reasons` are the
    frame's own. The gate only ever takes away.

    Args:
        restored: every frame.
        judge: compares.
        smoothing: frames; 0 for none. The delay is twice as many, emptied at a cut.
        inside: keeps what waits, and what the judge remembers.

    Raises:
        RestorationError: the judge failed, or did not answer for each face.
    """
    judged = _judged(restored, judge, inside)
    for place in around(judged, 2 * smoothing, 2 * smoothing, lambda one: one.faces.frame.shot, inside, "gate"):
        faces = place.item.faces
        passed = (
            _gated(face, verdict, _near(place, face, smoothing))
            for face, verdict in zip(faces.faces, place.item.verdicts, strict=True)
        )
        yield replace(faces, faces=tuple(passed))


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    faces: Faces[RestoredFace]
    verdicts: list[Verdict]

    def of(self, track: int) -> Verdict | None:
        found = (v for face, v in zip(self.faces.faces, self.verdicts, strict=True) if face.crop.face.track == track)
        return next(found, None)


def _judged(restored: Iterable[Faces[RestoredFace]], judge: Judge, inside: Inside) -> Iterator[_Judged]:
    memory: dict[int, Any]
    last: dict[int, int]
    shot: int | None
    held: Any = inside.begin("judge", lambda: (memory, last, shot))
    memory, last, shot = ({}, {}, None) if held is None else held
    for faces in restored:
        if faces.frame.shot != shot:
            memory.clear()
            last = {}
            shot = faces.frame.shot
        verdicts: list[Verdict] = []
        if faces.faces:
            with blamed("judge", faces.frame.index):
                shown = [tensor for face in faces.faces for tensor in (face.crop.image, face.image, face.mask)]
                with unchanged("judge", faces.frame.index, None, "its faces", shown):
                    verdicts = with_room(partial(judge.judge, faces, memory))
                if not isinstance(verdicts, Sized):
                    message = f"the judge gave {described(verdicts)}, expected a list of verdicts"
                    raise RestorationError(faces.frame.index, None, message)
                if len(verdicts) != len(faces.faces):
                    message = f"the judge gave {len(verdicts)} verdicts on {len(faces.faces)} faces"
                    raise RestorationError(faces.frame.index, None, message)
                verdicts = [_checked(verdict, face) for verdict, face in zip(verdicts, faces.faces, strict=True)]
        last.update({face.crop.face.track: faces.frame.index for face in faces.faces})
        last = {track: index for track, index in last.items() if faces.frame.index - index <= _GONE}
        for track in memory.keys() - last.keys():
            del memory[track]
        yield _Judged(faces, verdicts)


def _checked(verdict: Verdict, face: RestoredFace) -> Verdict:
    """`verdict` with its confidence in [0, 1], and its trust float32 on the CPU.

    Raises:
        RestorationError: it is none, or holds NaN or a map of another size.
    """
    frame, track = face.crop.frame.index, face.crop.face.track
    if not isinstance(verdict, Verdict):
        raise RestorationError(frame, track, f"the judge gave {described(verdict)}, expected a Verdict")
    if not isinstance(verdict.reasons, Mapping):
        raise RestorationError(frame, track, f"the judge gave as reasons {described(verdict.reasons)}, expected a dict")
    trust = verdict.trust
    if trust is not None:
        trust = tensor_of(trust, (1, *face.mask.shape[-2:]), "judge", frame, track).clone()  # it may use its memory again
    if not np.isfinite(verdict.confidence) or not (trust is None or bool(torch.isfinite(trust).all())):
        raise NotFiniteError(frame, track, "the judge gave NaN or infinite values")
    return replace(verdict, confidence=min(max(float(verdict.confidence), 0.0), 1.0), trust=trust)


def _near(place: Around[_Judged], face: RestoredFace, smoothing: int) -> list[list[Verdict]]:
    """For each frame within `smoothing`, the verdicts on the track within `smoothing` of it; a gap ends the track."""
    track = face.crop.face.track
    found = {0: place.item.of(track)}
    for step, items in ((-1, reversed(place.past)), (1, iter(place.future))):
        for distance, item in enumerate(items, 1):
            verdict = item.of(track)
            if verdict is None:
                break
            found[step * distance] = verdict
    within = range(-smoothing, smoothing + 1)
    return [[v for other in within if (v := found.get(at + other)) is not None] for at in within if at in found]


def _gated(face: RestoredFace, verdict: Verdict, near: list[list[Verdict]]) -> RestoredFace:
    confidence = float(np.mean([min(one.confidence for one in verdicts) for verdicts in near]))
    trust = _trust(near)
    mask, whole = (face.mask, None) if trust is None else (face.mask * trust, face.mask)
    reasons = dict(verdict.reasons)
    if confidence < _LOWERED * verdict.confidence:
        least = min((one for verdicts in near for one in verdicts), key=lambda one: one.confidence)
        reasons = {**least.reasons, **reasons}
    judged = replace(face, confidence=face.confidence * confidence, reasons=reasons)
    return replace(judged, mask=mask, whole=whole, trust=trust)


def _trust(near: list[list[Verdict]]) -> Tensor | None:
    """As the confidence, place by place."""
    if all(one.trust is None for verdicts in near for one in verdicts):
        return None
    least = []
    for verdicts in near:
        maps = [one.trust for one in verdicts if one.trust is not None]
        least.append(torch.stack(maps).amin(0).clamp(0, 1) if maps else None)
    known = [one for one in least if one is not None]
    total = torch.stack(known).sum(0) + (len(least) - len(known))
    return total / len(least)
