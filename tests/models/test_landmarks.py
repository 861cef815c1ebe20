"""The landmark refiner: where its crop lies, and what its maps mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from videoclr import geometry
from videoclr.models.landmarks import SIDE, LandmarkRefiner, centres, crop_matrix

FACE = np.array([[40.0, 50.0], [80.0, 50.0], [60.0, 72.0], [45.0, 95.0], [75.0, 95.0]])
BOX = np.array([25.0, 20.0, 95.0, 110.0])


def turned(points, degrees):
    """`points` turned about the middle of BOX."""
    a, middle = math.radians(degrees), (BOX[:2] + BOX[2:]) / 2
    return (points - middle) @ np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]) + middle


def test_the_middle_of_the_box_is_the_middle_of_the_crop_and_its_size_has_air_around():
    matrix = crop_matrix(BOX, FACE)
    assert geometry.moved((BOX[:2] + BOX[2:])[None] / 2, matrix)[0] == pytest.approx([(SIDE - 1) / 2] * 2)
    assert geometry.scale_of(matrix) == pytest.approx(SIDE / (1.35 * math.sqrt(70 * 90)))


@pytest.mark.parametrize("degrees", [-60, -10, 25, 170])
def test_a_turned_face_comes_out_upright(degrees):
    upright = geometry.moved(FACE, crop_matrix(BOX, FACE))
    again = geometry.moved(turned(FACE, degrees), crop_matrix(BOX, turned(FACE, degrees)))
    assert again == pytest.approx(upright, abs=1e-6)


def test_a_map_with_one_peak_gives_the_middle_of_that_cell():
    maps = torch.full((1, 1, 24, 24), -50.0)
    maps[0, 0, 3, 10] = 50.0
    assert centres(maps, 96)[0, 0].tolist() == pytest.approx([10.5 * 4 - 0.5, 3.5 * 4 - 0.5])


def test_a_map_without_any_preference_points_to_the_middle():
    assert centres(torch.zeros(2, 5, 24, 24), 96).flatten().tolist() == pytest.approx([47.5] * 20)


def test_the_network_gives_five_points_and_a_verdict_for_each_crop():
    torch.manual_seed(0)
    points, logits = LandmarkRefiner().eval()(torch.randn(3, 3, SIDE, SIDE))
    assert points.shape == (3, 5, 2) and logits.shape == (3,)
    assert (points >= 0).all() and (points <= SIDE).all()
