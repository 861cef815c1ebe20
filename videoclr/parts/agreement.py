"""The judge that needs no network: does the restored face, degraded again, look like what came in?

The core is the hallucination check of DiffMAC (Gao et al. 2024): the result is blurred until it matches the input best,
and what still differs was invented, or lies behind a hand. Eyes and mouth are compared in particular: a closed eye must
stay closed, a gaze must keep its side. The rest is what the pipeline knows anyway: how far the head is turned, how small
the face is, how sure the detector was, whether the result is still the same person, whether it flickers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from videoclr import appearance, geometry
from videoclr.disagreement import SIDE, blurred, contrast, difference, matching_blur, reduced
from videoclr.packing import keepable
from videoclr.parts.feather import CORE
from videoclr.pixels import to_array
from videoclr.stages.gate import Verdict
from videoclr.types import Faces, RestoredFace

Plane = NDArray[np.float32]

_OBJECTION = 0.95  # a factor above this is no reason worth mentioning
_BLURRED = 5  # frames over which a track's blur is averaged: one that steps up and down makes everything that rests on it step
_MEASURED = 3  # frames of whose openings the median counts: noise in one frame is no blink, and `gate` looks two frames around

# From 72 restorations (24 held-out faces; clean, mild, heavy): where the restoration is right, 99 % of the places disagree
# by less than 0.24 of the contrast; another person's face by 0.53 to 0.60 in the median, an occluder by 0.2 to 0.9.


@dataclass(frozen=True)
class Range:
    """From where a measure speaks against a face, and where it has said all."""

    start: float
    end: float

    def factor(self, value: float) -> float:
        """1 up to `start`, 0 from `end` on (either may be the larger one), smooth between."""
        share = float(np.clip((value - self.start) / (self.end - self.start), 0, 1))
        return 1 - share * share * (3 - 2 * share)


class Agreement:
    """The part behind `gate.use: agreement`. Each option is where a measure begins to count and where it is at its end.

    Args:
        yaw: degrees by which the head is turned aside: a profile is beyond the five landmarks.
        size: of the face's box, frame pixels: below it everything would be invented.
        score: the detector's: a face that is no face.
        identity: cosine between the result and the track's identity.
        crisp: edges of the input over edges of the result: who is sharp already needs no restoration.
        disagreement: of a place, in units of the face's contrast.
        opening: of eyes and mouth, result against input, |log ratio| of heights.
        gaze: by how much the dark of the eye moved aside, in distances between the eyes.
        eyes_lost: blur of the input, px of 128, from which it tells less and less of how open an eye is, and at which it
            tells nothing: open and closed then differ by less than noise makes, and only the result says anything at all.
        mouth_lost: the same of the mouth, which is larger.
        flicker: by how much more than the input the result changed since the frame before, in units of the face's contrast.
        guessed: factor of a face that the detector looked for and did not find, so that its place is interpolated.

    Raises:
        ValueError: a range that is no pair of two different numbers.
    """

    def __init__(
        self,
        yaw: Sequence[float] = (50.0, 75.0),
        size: Sequence[float] = (32.0, 16.0),
        score: Sequence[float] = (0.6, 0.3),
        identity: Sequence[float] = (0.3, 0.11),
        crisp: Sequence[float] = (1.05, 1.4),
        disagreement: Sequence[float] = (0.25, 0.5),
        opening: Sequence[float] = (0.25, 0.5),
        gaze: Sequence[float] = (0.06, 0.12),
        eyes_lost: Sequence[float] = (1.25, 2.5),
        mouth_lost: Sequence[float] = (1.75, 3.25),
        flicker: Sequence[float] = (0.15, 0.4),
        guessed: float = 0.8,
    ) -> None:
        self.yaw, self.size, self.score, self.identity = map(_range, (yaw, size, score, identity))
        self.crisp, self.disagreement, self.opening, self.gaze = map(_range, (crisp, disagreement, opening, gaze))
        self.flicker, self.eyes_lost, self.mouth_lost = map(_range, (flicker, eyes_lost, mouth_lost))
        if not 0 <= guessed <= 1:
            raise ValueError(f"guessed must be in [0, 1], got {guessed}")
        self.guessed = guessed

    def judge(self, faces: Faces[RestoredFace], memory: dict[int, Any]) -> list[Verdict]:
        """See `stages.gate.Judge`."""
        return [self._verdict(face, faces, memory) for face in faces.faces]

    def _verdict(self, face: RestoredFace, faces: Faces[RestoredFace], memory: dict[int, Any]) -> Verdict:
        look = Look.of(face)
        whole = self._known(face, faces.looked, look)
        past = memory.get(face.crop.face.track)
        if past is not None and past.look.frame == look.frame - 1:
            whole["flicker"] = self.flicker.factor(restlessness(past.look, look))
        else:
            past = None
        memory[face.crop.face.track] = past = _Past.of(look, past)
        parts = self._expression(past)
        places = disagreement(look)
        share = np.clip((places - self.disagreement.start) / (self.disagreement.end - self.disagreement.start), 0, 1)
        trust = np.asarray(1 - share * share * (3 - 2 * share), np.float32)
        factors = {**whole, **parts, "disagreement": float((trust * look.weight).sum() / look.weight.sum())}
        trust = cv2.resize(trust, (look.luma.shape[1],) * 2, interpolation=cv2.INTER_LINEAR) * _around(parts, look)
        reasons = {name: round(factor, 3) for name, factor in factors.items() if factor < _OBJECTION}
        confidence = float(np.prod(list(whole.values())))
        return Verdict(confidence, torch.from_numpy(np.ascontiguousarray(trust[None], np.float32)), reasons)

    def _known(self, face: RestoredFace, looked: bool, look: Look) -> dict[str, float]:
        """Reason -> factor, of the face as a whole."""
        tracked = face.crop.face
        factors = {
            "pose": self.yaw.factor(appearance.yaw(look.points)),
            "size": self.size.factor(tracked.detection.size),
            "score": self.score.factor(tracked.detection.score),
            "sharp": self.crisp.factor(appearance.crispness(look.luma) / max(appearance.crispness(look.result), 1e-3)),
            # Where nobody looked (`detect.every`), an interpolated place says nothing about the face.
            "guessed": self.guessed if looked and not tracked.observed else 1.0,
        }
        if face.similarity is not None:
            factors["identity"] = self.identity.factor(face.similarity)
        return factors

    def _expression(self, past: _Past) -> dict[str, float]:
        """Reason -> factor, of the left and right eye and the mouth, as far as the input shows them."""
        factors = {}
        blur = float(np.mean(past.blurs))
        for place in _PLACES:
            taller, aside = np.median([one[place] for one in past.openings], axis=0)
            factor = self.opening.factor(abs(float(taller)))
            if place != "mouth":
                factor = min(factor, self.gaze.factor(abs(float(aside))))
            seen = (self.mouth_lost if place == "mouth" else self.eyes_lost).factor(blur)
            factors["mouth" if place == "mouth" else f"{place} eye"] = 1 - seen * (1 - factor)
        return factors


def _range(pair: Sequence[float]) -> Range:
    values = [float(value) for value in pair]
    if len(values) != 2 or not np.isfinite(values).all() or values[0] == values[1]:
        raise ValueError(f"expected two different numbers, where a measure begins to count and where it ends, got {list(pair)}")
    return Range(*values)


_PLACES = ("left", "right", "mouth")
Openings = dict[str, tuple[float, float]]
"""Place -> logarithm of how much taller its dark part is in the result than in the input, and by how much it moved aside."""


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A restored face and its input, made ready to be compared."""

    frame: int
    """Index of the frame."""
    luma: Plane
    """`(S, S)` of the input, in [-1, 1]."""
    result: Plane
    """`(S, S)` of the restored face."""
    points: NDArray[np.float64]
    """`(5, 2)` landmarks, pixels of the crop."""
    small: Plane
    """`(128, 128)` of the input."""
    seen: Plane
    """The same of what its neighbours tell of it as well, where they do: noise of one frame is no disagreement."""
    small_result: Plane
    weight: Plane
    """`(128, 128)`: the mask, without its rim."""
    contrast: float
    """Standard deviation of the input inside the mask."""
    blur: float
    """Standard deviation by which the result must be blurred to look like the input, px of 128."""

    @classmethod
    def of(cls, face: RestoredFace) -> Look:
        """Measure what all comparisons need."""
        luma, result = appearance.grey(to_array(face.crop.image)), appearance.grey(to_array(face.image))
        small, small_result = reduced(luma), reduced(result)
        seen = small if face.seen is None else reduced(appearance.grey(to_array(face.seen)))
        weight = reduced(to_array(face.mask * CORE.mask([face.crop], face.image[None])[0])[..., 0])
        if weight.sum() < 1:  # nothing of it is shown: any weight will do
            weight = np.ones_like(weight)
        points, scale = geometry.moved(face.crop.face.detection.landmarks, face.crop.matrix), contrast(small, weight)
        blur = matching_blur(small_result, small, weight, scale)
        return cls(face.crop.frame.index, luma, result, points, small, seen, small_result, weight, scale, blur)


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """What is remembered of a track, the newest frame last."""

    look: Look
    blurs: tuple[float, ...]
    """Of the last `_BLURRED` frames."""
    openings: tuple[Openings, ...]
    """Of the last `_MEASURED` frames."""

    @classmethod
    def of(cls, look: Look, before: _Past | None) -> _Past:
        """With one more frame."""
        blurs, found = (before.blurs, before.openings) if before is not None else ((), ())
        return cls(look, (*blurs, look.blur)[-_BLURRED:], (*found, openings(look))[-_MEASURED:])


def openings(look: Look) -> Openings:
    """Eyes and mouth of the result, blurred like the input, against those of the input."""
    again = blurred(look.result, look.blur * look.luma.shape[0] / SIDE)
    found: Openings = {}
    for place in _PLACES:
        before, after = (appearance.darkness(appearance.region(luma, look.points, place), place) for luma in (look.luma, again))
        found[place] = (float(np.log(max(after[0], 1e-3) / max(before[0], 1e-3))), after[1] - before[1])
    return found


def disagreement(look: Look) -> Plane:
    """`(128, 128)`: how far the result, blurred like what was seen, is from that, in units of its contrast."""
    scale, blur = look.contrast, look.blur
    if look.seen is not look.small:
        scale = contrast(look.seen, look.weight)
        blur = matching_blur(look.small_result, look.seen, look.weight, scale)
    return difference(look.small_result, look.seen, blur) / np.float32(scale)


def restlessness(before: Look, now: Look) -> float:
    """By how much more the result changed than the input did, along the input's motion, in units of the face's contrast."""
    eight = [((one.small + 1) * 127.5).clip(0, 255).astype(np.uint8) for one in (now, before)]
    motion, back = geometry.flow(*eight), geometry.flow(*reversed(eight))
    weight = geometry.consistency(motion, back) * now.weight
    if weight.sum() < 0.1 * now.weight.sum():
        return 0.0  # nothing to go by

    def change(new: Plane, old: Plane) -> float:
        difference = blurred(new - geometry.carry(old, motion), 1.0)
        return float((difference**2 * weight).sum() / weight.sum())

    excess = change(now.small_result, before.small_result) - change(now.small, before.small)
    return float(np.sqrt(max(excess, 0.0))) / now.contrast


def _around(parts: dict[str, float], look: Look) -> Plane:
    """`(S, S)`: the factors of eyes and mouth, each around its place, 1 elsewhere."""
    side = look.luma.shape[0]
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    scale = geometry.face_scale(look.points)
    places = {"left eye": look.points[0], "right eye": look.points[1], "mouth": look.points[3:].mean(0)}
    trust = np.ones((side, side), np.float32)
    for name, factor in parts.items():
        if factor >= 1:
            continue
        reach = 0.5 if name == "mouth" else 0.35
        distance = np.hypot(x - places[name][0], y - places[name][1]) / max(scale, 1e-3)
        share = np.clip((distance - reach) / reach, 0, 1)
        trust *= 1 - (1 - share * share * (3 - 2 * share)) * np.float32(1 - factor)
    return trust
