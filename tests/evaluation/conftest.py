"""A clip with a drawn face, a detector that finds it by its colour, and a judge written for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from videoclr.config import Config
from videoclr.evaluation.views import Finder
from videoclr.types import Detection, Frame

SHAPE = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.22], [0.15, 0.22]], np.float32)
JUDGE = """
import numpy as np
import torch

def feature_distance(a, b):
    return sum((x - y).abs().mean((1, 2, 3)) for x, y in zip(a, b))

class Judges:
    def landmarks68(self, picture):
        y, x = np.nonzero(picture.max(-1) > 200)
        corners = [(x.min(), y.min()), (x.max(), y.max())] if len(x) else [(0, 0), (0, 0)]
        return np.array(corners, float) / len(picture)

    def face_input(self, picture, points):
        assert points.shape == (5, 2)
        return picture.reshape(-1, 3).mean(0)

    def embed(self, faces):
        colours = torch.tensor(np.stack(faces), dtype=torch.float32)
        return torch.nn.functional.normalize(colours, dim=1), [colours[:, :, None, None]]

    def squeeze(self, x):
        return [x]
"""


class Discs:
    """Finds discs brighter than the background, each by its own colour channel."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[face for c in range(3) for face in self.one(image[..., c])] for image in images]

    @staticmethod
    def one(channel: np.ndarray) -> list[Detection]:
        y, x = np.nonzero(channel > 200)
        if not len(x):
            return []
        box = np.array([x.min(), y.min(), x.max(), y.max()], np.float32)
        centre = (box[:2] + box[2:]) / 2
        return [Detection(box, SHAPE * (box[2] - box[0]) + centre, 0.95)]


def drawn(places: Sequence[Sequence[tuple[int, int, int]]], seed: int = 0, gain: Sequence[float] | None = None) -> list[np.ndarray]:
    """Pictures of 160 x 120 with discs: per picture a list of (x, y, channel); `gain` multiplies each picture."""
    noise = np.random.default_rng(seed).uniform(0, 255, (12, 16, 3)).astype(np.float32)
    background = (cv2.resize(noise, (160, 120)) * 0.3).astype(np.uint8)
    pictures = []
    for number, discs in enumerate(places):
        picture = background.copy()
        for x, y, channel in discs:
            colour = [60, 60, 60]
            colour[channel] = 230
            cv2.circle(picture, (x, y), 20, colour, -1)
        pictures.append(picture if gain is None else np.clip(picture * gain[number], 0, 255).astype(np.uint8))
    return pictures


def as_frames(pictures: Sequence[np.ndarray]) -> list[Frame]:
    return [Frame.from_image(picture, index) for index, picture in enumerate(pictures)]


@pytest.fixture(scope="session", name="drawn")
def _drawn() -> Callable[..., list[np.ndarray]]:
    return drawn


@pytest.fixture(scope="session", name="as_frames")
def _as_frames() -> Callable[[Sequence[np.ndarray]], list[Frame]]:
    return as_frames


@pytest.fixture(scope="session")
def detector() -> Discs:
    return Discs()


@pytest.fixture
def finder(detector: Discs, monkeypatch: pytest.MonkeyPatch) -> Finder:
    """At 64 px, with the detector of discs in the place of the network."""
    monkeypatch.setattr("videoclr.parts.retina_detector.RetinaDetector", lambda: detector)
    return Finder(Config(), 64)


@pytest.fixture
def judge_file(tmp_path: Path) -> Path:
    path = tmp_path / "judge.py"
    path.write_text(JUDGE)
    return path
