"""Faces with something before them, and where the face is seen: labels made, not drawn by people.

Two sources, and no label of anybody else's:

* What hides: fingers and palms in a skin colour, bars and microphones, patches of cloth or of another picture, strands,
  letters. They are pasted by this code, so their place is known to the pixel. Shadows and lights, which hide nothing, are pasted
  as well, without a label, so that darkness is no sign.
* Hair and background: GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004) of a clean portrait, told that eyes, nose, mouth and
  cheeks are face, and that what lies beyond any head is not. Where it cannot be relied upon, nothing is said.

A degraded input is what the network will see, so the pictures are degraded after the pasting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from videoclr.training.data import as_tensor
from videoclr.training.degrade import degrade

Picture = NDArray[np.uint8]
Plane = NDArray[np.float32]
Rng = np.random.Generator

UNKNOWN = 0.5
"""In a label: nobody knows."""


def face_label(face: Picture) -> Plane:
    """`(S, S)` in {0, `UNKNOWN`, 1}: where a clean FFHQ-aligned portrait `(S, S, 3)` shows the face itself."""
    side = face.shape[0]
    y, x = (np.mgrid[0:side, 0:side].astype(np.float32) + 0.5) / side

    def inside(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.bool_]:
        return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1)

    # Eyes, brows, nose, mouth and chin lie where the alignment puts them; a beard counts as face.
    sure = inside(0.5, 0.56, 0.2, 0.2) | inside(0.5, 0.74, 0.13, 0.12)
    features = inside(0.385, 0.44, 0.1, 0.08) | inside(0.615, 0.44, 0.1, 0.08) | sure
    beyond = ~inside(0.5, 0.55, 0.4, 0.47)
    marks = np.full((side, side), cv2.GC_PR_BGD, np.uint8)
    marks[inside(0.5, 0.55, 0.32, 0.4)] = cv2.GC_PR_FGD
    marks[beyond] = cv2.GC_BGD
    marks[sure] = cv2.GC_FGD
    cv2.setRNGSeed(0)  # its clusters begin at random
    lab = np.asarray(cv2.cvtColor(cv2.GaussianBlur(face, (0, 0), side / 128), cv2.COLOR_RGB2LAB), np.uint8)
    cv2.grabCut(lab, marks, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)  # the marks say it all
    found = ((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD) | features).astype(np.uint8)
    found = _one_piece(found, side)
    label = found.astype(np.float32)
    rim = cv2.morphologyEx(found, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    label[rim & ~features] = UNKNOWN
    label[~found.astype(bool) & inside(0.5, 0.6, 0.27, 0.27)] = UNKNOWN  # a hole amid the face: a shadow, or spectacles
    return label


def _one_piece(found: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Without what is thin or apart from the middle of the face."""
    smooth = cv2.morphologyEx(found, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side // 20 | 1,) * 2))
    _, pieces = cv2.connectedComponents(smooth)
    return np.asarray(pieces == pieces[round(0.57 * side), side // 2], np.uint8)


# -- what is pasted ---------------------------------------------------------------------------------------------------


def occlude(face: Picture, other: Picture, rng: Rng) -> tuple[Picture, Plane]:
    """Paste one or two things before a face.

    Args:
        face: `(S, S, 3)` RGB.
        other: another picture of that size, from which cloth and colours may come.
        rng: the only source of randomness.

    Returns:
        the picture, and `(S, S)` in [0, 1]: how much of it is hidden.
    """
    picture, hidden = face.astype(np.float32), np.zeros(face.shape[:2], np.float32)
    for _ in range(1 + int(rng.random() < 0.3)):
        shape, stuff = KINDS[int(rng.choice(len(KINDS), p=_SHARES))]
        alpha = shape(face.shape[0], rng)
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.4, 1.6))).clip(0, 1), np.float32)
        paint = stuff(face, other, rng) * _shading(alpha, rng)[..., None]
        if rng.random() < 0.6:  # it throws a shadow, which hides nothing
            shift = np.array([[1, 0, rng.normal(0, 4)], [0, 1, rng.uniform(1, 6)]])
            shadow = cv2.GaussianBlur(cv2.warpAffine(alpha, shift, alpha.shape[::-1]), (0, 0), float(rng.uniform(2, 6)))
            picture *= (1 - float(rng.uniform(0.1, 0.5)) * shadow)[..., None]
        picture = picture * (1 - alpha[..., None]) + paint * alpha[..., None]
        hidden = np.maximum(hidden, alpha)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), hidden


def lit(face: Picture, rng: Rng) -> Picture:
    """A face under a shadow or a lamp that falls on a part of it: nothing is hidden."""
    alpha = cv2.GaussianBlur(_patch(face.shape[0], rng), (0, 0), float(rng.uniform(2, 12)))
    gain = 1 + float(rng.uniform(-0.6, 0.5)) * alpha[..., None]
    return np.clip(np.rint(face * gain), 0, 255).astype(np.uint8)


def _capsules(side: int, ends: NDArray[np.float64], widths: NDArray[np.float64]) -> Plane:
    canvas = np.zeros((side, side), np.uint8)
    for (x0, y0, x1, y1), width in zip(ends, widths, strict=True):
        start, end = (round(x0 * side), round(y0 * side)), (round(x1 * side), round(y1 * side))
        cv2.line(canvas, start, end, 255, max(1, round(width * side)), cv2.LINE_AA)
    return np.asarray(canvas, np.float32) / np.float32(255)


def _hand(side: int, rng: Rng) -> Plane:
    """A palm with up to four fingers that reach into the face."""
    tip, angle = rng.uniform([0.25, 0.3], [0.75, 0.85]), rng.uniform(0, 2 * np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    length, width = rng.uniform(0.2, 0.45), rng.uniform(0.06, 0.11)
    ends, widths = [], []
    for number in range(int(rng.integers(1, 5))):
        start = tip + across * width * 1.1 * number + along * rng.uniform(0, 0.06)
        knuckle = start + along * length + across * rng.normal(0, 0.02)
        ends.append([*start, *knuckle])
        widths.append(width * rng.uniform(0.85, 1.1))
    alpha = _capsules(side, np.array(ends), np.array(widths))
    palm = tip + along * (length + 0.12) + across * width * 0.55 * (len(ends) - 1)
    axes = (round(0.2 * side), round(side * width * (0.5 + 0.6 * len(ends))))
    cv2.ellipse(alpha, (round(palm[0] * side), round(palm[1] * side)), axes, float(np.degrees(angle)), 0, 360, 1.0, -1)
    return alpha


def _bar(side: int, rng: Rng) -> Plane:
    """A stick through the face: a railing, an arm, a scarf."""
    place, angle = rng.uniform([0.2, 0.25], [0.8, 0.9]), rng.uniform(0, np.pi)
    step = np.array([np.cos(angle), np.sin(angle)])
    one_sided = rng.random() < 0.4
    start = place if one_sided else place - step
    return _capsules(side, np.array([[*start, *(place + step)]]), np.array([rng.uniform(0.03, 0.22)]))


def _microphone(side: int, rng: Rng) -> Plane:
    head, angle = rng.uniform([0.3, 0.6], [0.7, 0.95]), rng.uniform(0.2 * np.pi, 0.8 * np.pi)
    radius = rng.uniform(0.05, 0.11)
    foot = head + np.array([np.cos(angle), np.sin(angle)])
    alpha = _capsules(side, np.array([[*head, *foot]]), np.array([radius * rng.uniform(0.5, 1.2)]))
    cv2.circle(alpha, (round(head[0] * side), round(head[1] * side)), round(radius * side), 1.0, -1, cv2.LINE_AA)
    return alpha


def _patch(side: int, rng: Rng) -> Plane:
    """A blob with a wavy rim."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rim = rng.uniform(0.08, 0.26) * (1 + 0.25 * np.sin(3 * angles + rng.uniform(0, 6)) + 0.1 * rng.normal(size=24))
    squeeze = rng.uniform(0.5, 1.6)
    place = rng.uniform([0.2, 0.25], [0.8, 0.9])
    corners = place + np.stack([rim * np.cos(angles) * squeeze, rim * np.sin(angles) / squeeze], axis=1)
    canvas = np.zeros((side, side), np.uint8)
    cv2.fillPoly(canvas, [np.rint(corners * side).astype(np.int32)], 255, cv2.LINE_AA)
    return np.asarray(canvas, np.float32) / np.float32(255)


def _strands(side: int, rng: Rng) -> Plane:
    """Locks that hang into the face from above."""
    canvas = np.zeros((side, side), np.uint8)
    top, lean = rng.uniform(0.2, 0.8), rng.normal(0, 0.15)
    steps = np.linspace(0, 1, 12)
    for _ in range(int(rng.integers(3, 14))):
        x = top + rng.normal(0, 0.05) + lean * steps + 0.06 * np.sin(3 * steps + rng.uniform(0, 6))
        y = 0.1 + rng.uniform(0.25, 0.6) * steps
        points = np.rint(np.stack([x, y], axis=1) * side).astype(np.int32)
        cv2.polylines(canvas, [points], False, 255, int(rng.integers(1, 1 + max(2, side // 32))), cv2.LINE_AA)
    return np.asarray(canvas, np.float32) / np.float32(255)


def _letters(side: int, rng: Rng) -> Plane:
    canvas = np.zeros((side, side), np.uint8)
    text = "".join(chr(int(c)) for c in rng.integers(65, 91, 9))
    where = (round(rng.uniform(-0.2, 0.3) * side), round(rng.uniform(0.4, 0.9) * side))
    scale = rng.uniform(0.5, 1.2) * side / 128
    cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_DUPLEX, scale, 255, max(1, round(2.5 * scale)), cv2.LINE_AA)
    return np.asarray(canvas, np.float32) / np.float32(255)


def _skin(face: Picture, other: Picture, rng: Rng) -> Plane:
    """The colour of the face's own cheek, or of somebody else's, a little off."""
    source = face if rng.random() < 0.7 else other
    side = source.shape[0]
    column = round((0.3 if rng.random() < 0.5 else 0.7) * side)
    place = source[round(0.58 * side) : round(0.66 * side), max(0, column - side // 20) : column + side // 20]
    colour = place.reshape(-1, 3).mean(0) * np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.04, 3))
    grain = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), float(rng.uniform(1, 4)))
    return np.asarray(colour * (1 + 0.06 * grain / max(float(grain.std()), 1e-6))[..., None], np.float32)


def _colour(face: Picture, other: Picture, rng: Rng) -> Plane:
    side = face.shape[0]
    colour = rng.uniform(0, 255, 3) if rng.random() < 0.5 else np.full(3, rng.choice([12.0, 40.0, 128.0, 235.0]))
    grain = cv2.GaussianBlur(rng.normal(size=(side, side, 3)), (0, 0), float(rng.uniform(0.6, 8)))
    return np.asarray(colour + rng.uniform(0, 40) * grain / grain.std(), np.float32)


def _picture(face: Picture, other: Picture, rng: Rng) -> Plane:
    """A piece of the other picture, turned and moved: cloth, hair, background, and faces in the wrong place."""
    side = other.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.uniform(60, 300)), float(rng.uniform(0.8, 2.5)))
    matrix = _shifted(matrix, rng.normal(0, side / 4, 2))
    return np.asarray(cv2.warpAffine(other, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101), np.float32)


def _shifted(matrix: NDArray[Any], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([matrix[:, :2], matrix[:, 2] + shift])


def _shading(alpha: Plane, rng: Rng) -> Plane:
    """Round things are darker at their rim, and lit from somewhere."""
    depth = cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(2, 6)))
    slope = np.linspace(-1, 1, alpha.shape[0])
    light = 1 + rng.normal(0, 0.12) * slope[None, :] + rng.normal(0, 0.12) * slope[:, None]
    return np.asarray((1 - rng.uniform(0, 0.5) * (1 - depth)) * light, np.float32)


Shape = Callable[[int, Rng], Plane]
Stuff = Callable[[Picture, Picture, Rng], Plane]
KINDS: tuple[tuple[Shape, Stuff], ...] = (
    (_hand, _skin),
    (_bar, _skin),
    (_bar, _colour),
    (_microphone, _colour),
    (_patch, _colour),
    (_patch, _picture),
    (_bar, _picture),
    (_strands, _colour),
    (_letters, _colour),
)
"""Shapes with what they are filled with."""
_SHARES = np.array([0.28, 0.08, 0.12, 0.12, 0.08, 0.12, 0.06, 0.08, 0.06])


class OccludedFaces(Dataset[dict[str, Any]]):
    """Endless degraded crops with labels; number `n` is a function of `(seed, n)` alone.

    Args:
        faces: `(N, S, S, 3)` uint8 RGB, FFHQ-aligned, clean.
        labels: `(N, S, S)` of `face_label`.
        seed: of every choice.
        levels: degradation families with their shares; what they leave of 1 stays clean.
        bare: share without anything before the face.
    """

    def __init__(self, faces: Picture, labels: Plane, seed: int, levels: dict[str, float], bare: float = 0.3) -> None:
        self.faces, self.labels, self.seed, self.levels, self.bare = faces, labels, seed, levels, bare

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int) -> dict[str, Any]:
        """`picture` `(3, S, S)` in [-1, 1]; `shown` `(1, S, S)`: 1 face, 0 anything else, `UNKNOWN`; `hidden` `(1, S, S)`."""
        rng = np.random.default_rng((self.seed, number))
        place, second = (int(n) for n in rng.integers(len(self.faces), size=2))
        face, label = self.faces[place], self.labels[place]
        if rng.random() < 0.5:
            face, label = face[:, ::-1], label[:, ::-1]
        face, label = self._vary(face, label, rng)
        if rng.random() < 0.3:
            face = lit(face, rng)
        hidden = np.zeros(face.shape[:2], np.float32)
        if rng.random() >= self.bare:
            face, hidden = occlude(face, self.faces[second], rng)
        draw = rng.random()
        for level, share in self.levels.items():
            draw -= share
            if draw < 0:
                face = degrade(face, level, rng)
                break
        shown = np.where(hidden > 0.5, 0.0, label).astype(np.float32)
        return {"picture": as_tensor(face), "shown": torch.from_numpy(shown)[None], "hidden": torch.from_numpy(hidden)[None]}

    def _vary(self, face: Picture, label: Plane, rng: Rng) -> tuple[Picture, Plane]:
        """A similarity, as landmarks of degraded faces are a little off, and a tone curve."""
        side = face.shape[0]
        middle = (side / 2, 0.55 * side)
        matrix = cv2.getRotationMatrix2D(middle, float(rng.normal(0, 5)), float(np.exp(rng.normal(0, 0.05))))
        matrix = _shifted(matrix, rng.normal(0, 0.015 * side, 2))
        size, border = (side, side), cv2.BORDER_REFLECT_101
        face = np.asarray(cv2.warpAffine(face, matrix, size, flags=cv2.INTER_CUBIC, borderMode=border), np.uint8)
        label = np.asarray(cv2.warpAffine(label, matrix, size, flags=cv2.INTER_NEAREST, borderMode=border), np.float32)
        gamma, gain = rng.uniform(0.7, 1.4), rng.uniform(0.9, 1.1, 3)
        table = np.clip(np.rint(255 * (np.arange(256)[:, None] / 255) ** gamma * gain), 0, 255).astype(np.uint8)
        return np.stack([table[face[..., c], c] for c in range(3)], axis=2), label


def shown_loss(logits: Tensor, shown: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy plus the soft Dice loss (Milletari et al. 2016) over what is known, and the share that is right.

    Args:
        logits, shown: `(N, 1, S, S)`; `UNKNOWN` in `shown` counts for nothing.
    """
    known = (shown != UNKNOWN).float()
    wrong = (F.binary_cross_entropy_with_logits(logits, shown, reduction="none") * known).sum() / known.sum()
    share = torch.sigmoid(logits) * known
    both = (share * shown * known).sum((1, 2, 3))
    dice = 1 - (2 * both + 1) / (share.sum((1, 2, 3)) + (shown * known).sum((1, 2, 3)) + 1)
    right = (((logits > 0) == (shown > 0.5)).float() * known).sum() / known.sum()
    return wrong + dice.mean(), {"entropy": wrong, "dice": dice.mean(), "right": right}


def overlap(logits: Tensor, wanted: Tensor, where: Tensor) -> float:
    """Intersection over union of what is negative in `logits` with `wanted` > 0.5, inside `where`; NaN where there is neither."""
    found, there = (logits <= 0) & (where > 0.5), (wanted > 0.5) & (where > 0.5)
    union = (found | there).sum()
    return float((found & there).sum() / union) if union else float("nan")
