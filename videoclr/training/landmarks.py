"""What the landmark refiner learns from: labelled faces cut out as a detector would, a little beside and turned, and other things.

Batch k is a function of `(seed, k)` alone, so training resumes exactly where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from videoclr.models.landmarks import SIDE, crop_matrix
from videoclr.training.detection import (
    USUAL,
    Array,
    Hardship,
    Image,
    LabelledPicture,
    Rng,
    SceneMaker,
    chance,
    degrade,
    draw_shapes,
    lit,
    log_uniform,
    overlap,
    transform_points,
    warp,
)


class LookMaker:
    """Makes crops with the five points of the face in them, and crops without a face.

    Args:
        pictures: labelled portraits and frames.
        scenes: gives backgrounds without faces.
        mistakes: `(n, S, S, 3)` uint8 RGB, crops that a detector took for faces and that are none; may be empty.
        faces: share of the crops that hold a face.
        hard: shares of faces that a border cuts (beyond it is their mirror image, as in use), and of crops in the light of `lit`.
    """

    def __init__(
        self,
        pictures: Sequence[LabelledPicture],
        scenes: SceneMaker,
        mistakes: NDArray[np.uint8] | None = None,
        faces: float = 0.7,
        hard: Hardship = USUAL,
    ) -> None:
        self.hard = hard
        self.pictures = [p for p in pictures if (~p.ignore).any()]
        self.scenes, self.faces = scenes, faces
        self.mistakes = mistakes if mistakes is not None and len(mistakes) else None
        if not self.pictures:
            raise ValueError("there is no labelled face to learn from")

    def batch(self, seed: int, number: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Batch `number`: `(N, 3, 96, 96)` float32 in [-1, 1]; `(N, 5, 2)` crop px; `(N,)` 1 for a face, 0 for none."""
        rng = np.random.default_rng([seed, number])
        crops, points, kinds = [], [], []
        for _ in range(count):
            face = rng.random() < self.faces
            image, where = self.face(rng) if face else (self.other(rng), np.zeros((5, 2), np.float32))
            crops.append(image)
            points.append(where)
            kinds.append(float(face))
        pixels = torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1
        return pixels, torch.from_numpy(np.stack(points)), torch.tensor(kinds)

    def face(self, rng: Rng) -> tuple[Image, Array]:
        """A crop with a face: `(96, 96, 3)` and its points `(5, 2)`."""
        picture = self.pictures[rng.integers(len(self.pictures))]
        chosen = int(rng.choice(np.flatnonzero(~picture.ignore)))
        box, points = picture.boxes[chosen], picture.points[chosen]
        matrix = np.vstack([crop_matrix(box, points), [0, 0, 1]])
        matrix = self._beside(rng) @ matrix
        where = transform_points(points, matrix)
        if np.linalg.det(matrix[:2, :2]) < 0:
            where = where[[1, 0, 2, 4, 3]]
        source = _cut(rng, picture.image, box) if chance(rng, self.hard.cut) else picture.image
        image = warp(source, matrix, SIDE).astype(np.uint8)
        if not _covers(source, matrix):
            image = self._surround(rng, source, image, matrix)
        if rng.random() < 0.25:
            _occlude(rng, image, where)
        if chance(rng, self.hard.light):
            return degrade(rng, lit(rng, image), 0.5), where
        return degrade(rng, image, float(rng.choice([0.5, 1.0, 2.0], p=[0.4, 0.4, 0.2]))), where

    def other(self, rng: Rng) -> Image:
        """A crop without a face `(96, 96, 3)`: a detector's mistake, a piece of a background, or scrambled parts of faces."""
        if self.mistakes is not None and rng.random() < 0.6:
            image = self.mistakes[rng.integers(len(self.mistakes))]
            side = image.shape[0]
            spin = cv2.getRotationMatrix2D(
                (side / 2, side / 2), float(rng.normal(0, 10)), SIDE / side * log_uniform(rng, 0.9, 1.25)
            )
            spin[:, 2] += SIDE / 2 - side / 2 + rng.normal(0, 3, 2)
            image = cv2.warpAffine(image, spin, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            image = image[:, ::-1] if rng.random() < 0.5 else image
            return degrade(rng, np.ascontiguousarray(image, np.uint8), 0.5)
        image = self.scenes.background(rng, SIDE)
        if rng.random() < 0.3:
            draw_shapes(rng, image, int(rng.integers(1, 5)))
        return degrade(rng, image)

    @staticmethod
    def _beside(rng: Rng) -> NDArray[np.float64]:
        """What a detector's box is off by: shift, scale, turn, and a little shear and perspective of the face itself."""
        wide = rng.random() < 0.2
        turn = math.radians(float(rng.normal(0, 16 if wide else 6)))
        scale = math.exp(float(rng.normal(0, 0.14 if wide else 0.07)))
        shift = rng.normal(0, (0.08 if wide else 0.035) * SIDE, 2)
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        c, s = scale * math.cos(turn), scale * math.sin(turn)
        stretch = math.exp(float(rng.normal(0, 0.06)))
        linear = np.array([[c, -s], [s, c]]) @ np.array([[mirror * stretch, float(rng.normal(0, 0.05))], [0, 1 / stretch]])
        middle = np.full(2, (SIDE - 1) / 2)
        out = np.eye(3)
        out[:2, :2] = linear
        out[:2, 2] = middle - linear @ middle + shift
        bend = np.eye(3)
        bend[2, :2] = rng.normal(0, 0.0008, 2)
        centre, back = np.eye(3), np.eye(3)
        centre[:2, 2], back[:2, 2] = -middle, middle
        return back @ bend @ centre @ out

    def _surround(self, rng: Rng, source: Image, image: Image, matrix: NDArray[np.float64]) -> Image:
        """Something behind a picture that does not fill the crop."""
        inside = warp(np.ones(source.shape[:2], np.float32), matrix, SIDE)[..., None]
        behind = self.scenes.background(rng, SIDE)
        return np.asarray((image + behind * (1 - inside)).clip(0, 255), np.uint8)


def _cut(rng: Rng, image: Image, box: Array) -> Image:
    """`image` mirrored beyond a line that cuts off 10 to 65 % of `box` on one side; of the same size."""
    across, low_side, share = rng.random() < 0.5, rng.random() < 0.5, float(rng.uniform(0.1, 0.65))
    if not across:
        image, box = image.swapaxes(0, 1), box[[1, 0, 3, 2]]
    width, near, far = image.shape[1], float(box[0]), float(box[2])
    line = int(np.clip(near + share * (far - near) if low_side else far - share * (far - near), 8, width - 8))
    kept, before, behind = (image[:, line:], line, 0) if low_side else (image[:, :line], 0, width - line)
    whole = cv2.copyMakeBorder(kept, 0, 0, before, behind, cv2.BORDER_REFLECT_101).astype(np.uint8)
    return whole if across else np.ascontiguousarray(whole.swapaxes(0, 1))


def _covers(image: Image, matrix: NDArray[np.float64]) -> bool:
    corners = np.array([[0, 0], [SIDE - 1, 0], [0, SIDE - 1], [SIDE - 1, SIDE - 1]], np.float64)
    back = transform_points(corners, np.asarray(np.linalg.inv(matrix), np.float64))
    height, width = image.shape[:2]
    return bool((back >= 0).all() and (back < [width, height]).all())


def _occlude(rng: Rng, image: Image, points: Array) -> None:
    """A hand, a microphone or dark glasses over part of a face, in place."""
    colour = [float(v) for v in (rng.uniform(0, 255, 3) if rng.random() < 0.5 else rng.uniform(0, 60, 3))]
    if rng.random() < 0.4:
        for eye in points[:2]:
            axes = (int(SIDE * rng.uniform(0.07, 0.12)), int(SIDE * rng.uniform(0.05, 0.1)))
            fill = -1 if rng.random() < 0.5 else 1
            cv2.ellipse(image, [int(v) for v in eye], axes, 0, 0, 360, colour, fill, cv2.LINE_AA)
        return
    edge = np.array([rng.choice([0.1, 0.9]), rng.uniform(0.3, 1.0)]) * SIDE
    axes = (int(SIDE * rng.uniform(0.06, 0.22)), int(SIDE * rng.uniform(0.06, 0.3)))
    cv2.ellipse(image, [int(v) for v in edge], axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)


def mistakes_in(scene: LabelledPicture, boxes: Array, points: Array, size: int) -> list[Image]:
    """Crops `(size, size, 3)` of the finds that touch no labelled face of `scene`.

    Args:
        scene: with its faces.
        boxes: `(n, 4)` what a detector found in it.
        points: `(n, 5, 2)` the landmarks of the finds.
        size: side of the crops, px.
    """
    if not len(boxes):
        return []
    shared = overlap(boxes, scene.boxes).max(1, initial=0)
    wrong = np.flatnonzero(shared < 0.1)
    return [warp(scene.image, np.vstack([crop_matrix(boxes[k], points[k], size), [0, 0, 1]]), size).astype(np.uint8) for k in wrong]


def refiner_loss(points: Tensor, logits: Tensor, where: Tensor, kinds: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Distance of the points of faces, in hundredths of the crop's side, plus the cross entropy of face or none.

    Args:
        points, logits: what the network said, `(N, 5, 2)` and `(N,)`.
        where, kinds: what is true, `(N, 5, 2)` crop px and `(N,)`.

    Returns:
        the scalar loss, and its detached terms `points` and `face`, and `right`: the share of right verdicts.
    """
    known = kinds > 0.5
    apart = (points - where).pow(2).sum(-1).add(1e-6).sqrt() * (100 / SIDE)
    point = (apart.mean(1) * known).sum() / known.sum().clamp(min=1)
    face = F.binary_cross_entropy_with_logits(logits, kinds)
    right = ((logits > 0) == known).float().mean()
    return point + 2 * face, {"points": point.detach(), "face": face.detach(), "right": right}
