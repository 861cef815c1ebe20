"""A detector for tests, of films of bright discs; loaded by its path, since tests are no package."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from videoclr.types import Detection

SHAPE = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.22], [0.15, 0.22]], np.float32)
"""Landmarks, in sizes of the face from its middle."""


class Discs:
    """Finds discs by their colour, the left one first."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [self.one(image) for image in images]

    @staticmethod
    def one(image: np.ndarray) -> list[Detection]:
        count, _, stats, centres = cv2.connectedComponentsWithStats((image.max(-1) > 150).astype(np.uint8))
        found = []
        for (x, y, width, height, area), centre in zip(stats[1:count], centres[1:count], strict=True):
            if area > 300:
                box = np.array([x, y, x + width, y + height], np.float32)
                found.append(Detection(box, SHAPE * 40 + centre.astype(np.float32), 0.95))
        return sorted(found, key=lambda one: float(one.box[0]))
