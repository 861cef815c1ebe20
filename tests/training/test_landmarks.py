"""What the landmark refiner learns from is what it says, and the same for the same numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from videoclr.training.detection import Hardship, LabelledPicture, SceneMaker
from videoclr.training.landmarks import LookMaker, mistakes_in, refiner_loss

DOTS = np.array([[46, 56], [74, 56], [60, 72], [50, 88], [70, 88]], np.float32)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))


def dotted():
    """A grey face whose five points are dots of five colours."""
    image = np.full((128, 128, 3), 128, np.uint8)
    for (x, y), colour in zip(DOTS.astype(int).tolist(), COLOURS, strict=True):
        cv2.circle(image, (x, y), 3, colour, -1)
    return LabelledPicture(image, np.array([[28, 24, 92, 108]], np.float32), DOTS[None], np.zeros(1, bool))


@pytest.fixture
def maker(monkeypatch):
    monkeypatch.setattr("videoclr.training.landmarks.degrade", lambda rng, image, strength=1.0: image)
    monkeypatch.setattr("videoclr.training.landmarks._occlude", lambda rng, image, points: None)
    return LookMaker([dotted()], SceneMaker([dotted()]))


def test_the_points_lie_where_the_dots_are_and_stay_image_left_first(maker):
    for number in range(12):
        image, points = maker.face(np.random.default_rng(number))
        mirrored = cv2.norm(image[tuple(np.rint(points[0, ::-1]).astype(int))].astype(float), (255, 0, 0)) > 200
        order = [1, 0, 2, 4, 3] if mirrored else range(5)
        for (x, y), k in zip(np.rint(points).astype(int), order, strict=True):
            if 2 < x < 93 and 2 < y < 93:
                assert np.abs(image[y, x].astype(int) - COLOURS[k]).max() < 90
        assert points[0, 0] < points[1, 0]


def test_a_face_that_is_cut_goes_on_as_its_mirror_image_and_keeps_its_points(maker):
    maker.hard = Hardship(cut=1)
    hidden = 0
    for number in range(30):
        image, points = maker.face(np.random.default_rng(number))
        assert (np.ptp(image.reshape(-1, 3), 0) > 60).any(), "a mirrored half shows dots"
        for x, y in np.rint(points).astype(int):
            if 2 < x < 93 and 2 < y < 93:
                hidden += np.ptp(image[y].astype(int)[x]) < 60  # grey where a dot would be
    assert 20 < hidden < 100


def test_a_batch_depends_on_its_number_alone(maker):
    first, again, next_ = maker.batch(3, 5, 6), maker.batch(3, 5, 6), maker.batch(3, 6, 6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], next_[0])
    assert first[0].shape == (6, 3, 96, 96) and first[0].abs().max() <= 1
    assert set(maker.batch(3, 0, 40)[2].tolist()) == {0.0, 1.0}


def test_mistakes_are_shown_as_no_face():
    red = np.zeros((2, 128, 128, 3), np.uint8)
    red[..., 0] = 250
    maker = LookMaker([dotted()], SceneMaker([dotted()]), red, faces=0.0)
    pixels, _, kinds = maker.batch(0, 0, 30)
    reddish = (pixels[:, 0].mean((1, 2)) > 0.3) & (pixels[:, 1:].mean((1, 2, 3)) < -0.5)
    assert kinds.sum() == 0 and reddish.sum() >= 8


def test_only_finds_that_touch_no_face_are_mistakes():
    scene = dotted()
    boxes = np.array([[28, 24, 92, 108], [0, 0, 20, 20]], np.float32)
    points = np.stack([DOTS, DOTS / 8]).astype(np.float32)
    found = mistakes_in(scene, boxes, points, 64)
    assert len(found) == 1 and found[0].shape == (64, 64, 3)
    assert mistakes_in(scene, boxes[:0], points[:0], 64) == []


def test_the_loss_is_the_distance_in_hundredths_of_the_crop_and_does_not_look_at_other_things():
    where = torch.zeros(2, 5, 2)
    points = where + torch.tensor([0.96, 0.0])
    points[1] = 50.0  # no face: wherever it points
    loss, terms = refiner_loss(points, torch.tensor([20.0, -20.0]), where, torch.tensor([1.0, 0.0]))
    assert float(terms["points"]) == pytest.approx(1.0, abs=0.01)
    assert float(terms["right"]) == 1.0 and float(loss) == pytest.approx(1.0, abs=0.01)
