"""Faces that are put together of parts: others, sharp, and without a seam."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from videoclr.training.mosaic import Donors, draw_parts, mosaic, regions

NOWHERE, EYES, ALL = (np.array(parts, bool) for parts in ((0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 1, 1)))


def textured(seed, size=96, level=120.0, scale=20.0):
    """`(1, 3, size, size)` of whole code values: fine noise about a level."""
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return (level + scale * noise).clamp(0, 255).round()


@pytest.mark.parametrize("size", [64, 77, 256])
def test_where_no_part_is_drawn_a_picture_stays_to_the_bit(size):
    own, other = textured(1, size), textured(2, size)
    pair = mosaic(torch.cat([own, own]), torch.cat([other, other]), regions([NOWHERE, EYES], size))
    assert torch.equal(pair[:1], own) and not torch.equal(pair[1:], own)


def test_detail_comes_from_the_other_and_colour_stays():
    own, other = textured(1, level=70.0), textured(2, level=180.0)
    shown = mosaic(own, other, torch.ones(1, 1, 96, 96))
    assert abs(float(shown.mean() - own.mean())) < 2
    rest = shown - other
    assert float((rest - F.avg_pool2d(rest, 5, 1, 2, count_include_pad=False)).std()) < 1  # the difference is smooth


def test_a_mosaic_is_as_sharp_as_its_pieces_where_a_mean_is_soft():
    def sharpness(picture):
        return float((picture - F.avg_pool2d(picture, 3, 1, 1)).var())

    own, other = textured(1), textured(2)
    shown = mosaic(own, other, regions([ALL], 96))
    assert sharpness(shown) > 0.9 * sharpness(own)
    assert sharpness((own + other) / 2) < 0.6 * sharpness(own)


def test_parts_of_another_brightness_leave_no_edge():
    ramp = torch.linspace(0, 60, 128).expand(1, 3, 128, 128)
    own, other = (40 + ramp).round(), (190 - ramp.flip(3)).round()
    shown = mosaic(own, other, regions([ALL], 128))
    steps = max(float(shown.diff(dim=axis).abs().max()) for axis in (2, 3))
    assert steps <= 4  # of a difference of 90 and more


def test_parts_lie_where_they_are_called():
    where = regions([EYES, ALL, NOWHERE], 100)[:, 0]
    assert where.shape == (3, 100, 100) and where.min() == 0 and where.max() == 1
    assert where[0, 45, 37] == 1 and where[0, 45, 62] == 1 and where[0, 72, 50] == 0
    assert where[1, 72, 50] == 1 and where[1, 5, 5] == 0 and not where[2].any()


def test_at_least_one_part_is_drawn_and_every_one_at_times():
    rng = np.random.default_rng(3)
    drawn = np.stack([draw_parts(rng) for _ in range(200)])
    assert drawn.any(1).all() and drawn.any(0).all() and not drawn.all(0).any()
    assert drawn[:, 3].mean() < drawn[:, 0].mean()


def test_the_donor_has_the_nearest_light_and_colour():
    """Dark and bright faces that are lit from one side: most often, one of the same kind is among eight drawn by chance."""
    slope = np.linspace(0.5, 1.5, 32)[None, :, None]
    faces = np.stack([np.broadcast_to(level * slope, (32, 32, 3)) for level in (40, 42, 44, 150, 155, 160)]).astype(np.uint8)
    donors, rng = Donors(faces), np.random.default_rng(1)
    found = [
        (face, mirrored, *donors.of(face, mirrored, rng)) for face in range(6) for mirrored in (False, True) for _ in range(20)
    ]
    assert np.mean([(face < 3) == (row < 3) for face, _, row, _ in found]) > 0.9
    assert np.mean([mirrored == turned for _, mirrored, _, turned in found]) > 0.65
    assert np.mean([face == row for face, _, row, _ in found]) == 0
    assert len({row for *_, row, _ in found}) == 6
