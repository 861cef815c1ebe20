"""Faces are shown to the networks in usual light, and only what they changed comes back into the film's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from videoclr.light import InUsualLight, followed, light_of, usual

SIDE = 64
LIGHTS = {
    "pale": lambda x: 0.25 * x + 0.55,
    "dark": lambda x: 0.2 * x,
    "logarithmic": lambda x: 0.15 + 0.55 * torch.log1p(30 * x) / np.log(31),
    "blue": lambda x: x * torch.tensor([0.06, 0.12, 0.8])[:, None, None],
    "harsh": lambda x: (4 * x - 1.6).clamp(0, 1),
}


def face(seed=0):
    """`(3, SIDE, SIDE)` in [-1, 1]: as bright, coloured and rich in contrast as the face of a photograph."""
    coarse = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    plane = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear")[0]
    middle = plane[:, 16:52, 16:48]
    plane = (plane - middle.mean()) / middle.std()
    means, spreads = torch.tensor([0.7, 0.52, 0.46]), torch.tensor([0.16, 0.14, 0.13])
    return 2 * (means[:, None, None] + spreads[:, None, None] * plane).clamp(0.02, 0.98) - 1


def filmed(name, seed=0):
    return 2 * LIGHTS[name]((face(seed) + 1) / 2).clamp(0, 1) - 1


def told(crop):
    """Means and spreads of the channels where the face is, in shares of white."""
    middle = ((crop + 1) / 2)[:, 16:52, 16:48].flatten(1).double()
    return middle.mean(1), middle.std(1, correction=0)


def test_usual_light_stays_as_it_is():
    crops = torch.stack([face(0), face(1)])
    lit = usual(crops)
    assert lit.images is crops and lit.moved == () and (lit.gain == 1).all()
    restored = torch.rand(2, 3, SIDE, SIDE)
    assert lit.returned(restored) is restored


@pytest.mark.parametrize("name", LIGHTS)
def test_the_networks_see_means_and_spreads_of_photographs(name):
    lit = usual(filmed(name)[None])
    means, spreads = told(lit.images[0])
    assert lit.moved == (0,)
    assert lit.images.min() >= -1 and lit.images.max() <= 1
    assert 0.24 < means[0] < 0.91 and 0.15 < means[1] < 0.81 and 0.11 < means[2] < 0.79
    assert (spreads < 0.31).all()
    if name != "blue":  # its red is hardly there
        assert (spreads > 0.05).all()


@pytest.mark.parametrize("name", LIGHTS)
def test_what_was_not_changed_comes_back_to_the_bit_and_what_was_by_its_contrast(name):
    crop = filmed(name)[None]
    lit = usual(crop)
    assert torch.equal(lit.returned(lit.images), crop)
    change = torch.zeros_like(crop)
    change[..., 20:30, 20:30] = 0.01
    back = lit.returned((lit.images + change).clamp(-1, 1)) - crop
    assert (back[..., :20, :] == 0).all()
    expected = (0.01 / lit.gain)[0, :, 0, 0]
    inside = ((lit.images[0].abs() < 0.98) & (crop[0].abs() < 0.98))[:, 20:30, 20:30]
    for channel in range(3):
        seen = back[0, channel, 20:30, 20:30][inside[channel]]
        assert torch.allclose(seen, expected[channel].expand_as(seen), atol=1e-5)


@pytest.mark.parametrize("name", LIGHTS)
def test_another_picture_of_the_same_face_is_brought_into_the_same_light(name):
    crops = torch.stack([filmed(name), face(1)])
    lit, others = usual(crops), crops + 0.01
    brought = lit.beside(others)
    assert torch.equal(brought[1], others[1])
    inside = (lit.images[0].abs() < 0.9) & (brought[0].abs() < 0.9)
    change = (brought[0] - lit.images[0] - 0.01 * lit.gain[0])[inside]
    assert change.abs().max() < 1e-5
    plain = usual(torch.stack([face(0)]))
    assert plain.beside(others) is others


def steps(lights):
    """Largest differences of a following light from one to the next, of means and spreads."""
    pairs = list(pairwise(lights))
    return max(np.abs(b.means - a.means).max() for a, b in pairs), max(np.abs(b.spreads - a.spreads).max() for a, b in pairs)


def along(crops):
    found = []
    for crop in crops:
        found.append(followed(found[-1] if found else None, light_of(crop)))
    return found


def test_the_light_of_a_track_stands_still_where_that_of_its_frames_trembles():
    own = torch.Generator().manual_seed(2)
    crops = [(1 + 0.06 * torch.randn((), generator=own)) * filmed("pale") for _ in range(40)]
    trembling, still = steps([light_of(crop) for crop in crops]), steps(along(crops)[12:])
    assert still[0] < 0.2 * trembling[0] and still[1] < 0.2 * trembling[1]
    mean = np.mean([light_of(crop).spreads for crop in crops[:12]], 0)
    assert np.allclose(along(crops[:12])[-1].spreads, mean), "a plain mean, to begin with"


def test_a_fade_is_followed_and_a_lamp_that_is_switched_on_at_once():
    fading = [light_of((face() + 1) * (1 - 0.015 * n) - 1) for n in range(50)]
    found = along([(face() + 1) * (1 - 0.015 * n) - 1 for n in range(50)])
    assert np.abs(found[-1].means - fading[-1].means).max() < 0.13
    dark, bright = filmed("dark"), face()
    switched = along([dark] * 5 + [bright] * 2 + [dark])
    for light, crop in zip(switched[4:], (dark, bright, bright, dark), strict=True):
        assert np.allclose(light.means, light_of(crop).means) and np.allclose(light.spreads, light_of(crop).spreads)


def test_where_contrasts_are_made_larger_a_fading_light_is_followed_more_closely():
    crops = torch.stack([0.2 * face() - 0.5 + 0.03 * n for n in range(30)])
    lit, own = usual(crops, along(crops)), usual(crops)
    assert own.gain.min() > 2
    assert (lit.images - own.images).mean((1, 2, 3)).abs().max() < 0.4, "it was 0.72"
    assert (lit.images >= 1).float().mean() < 0.02, "a sixth was cut off at white"


def test_crops_are_brought_as_far_as_the_light_says_that_they_are_seen_in():
    crops = torch.stack([filmed("pale"), face(1)])
    apart = usual(crops)
    same = usual(crops, [light_of(crops[0])] * 2)
    assert apart.moved == (0,) and same.moved == (0, 1)
    assert torch.equal(apart.images[0], same.images[0]) and torch.equal(same.gain[0], same.gain[1])
    assert usual(crops, [light_of(face(2))] * 2).images is crops


def test_a_lamp_beside_a_dark_face_stays_a_lamp():
    crop = filmed("dark")[None].clone()
    crop[..., :6, :6] = 1.0
    lit = usual(crop)
    assert (lit.gain > 2).all()
    restored = (lit.images * 0.9).clamp(-1, 1)
    assert lit.returned(restored)[..., :6, :6].min() > 0.9


def test_each_crop_is_brought_there_for_itself():
    crops = torch.stack([face(0), filmed("dark", 1), filmed("blue", 2)])
    lit = usual(crops)
    assert lit.moved == (1, 2) and torch.equal(lit.images[0], crops[0])
    for row in range(3):
        assert torch.equal(lit.images[row], usual(crops[row : row + 1]).images[0])
    restored = -crops
    back = lit.returned(restored)
    assert torch.equal(back[0], restored[0])
    assert torch.equal(back[1:], InUsualLight(lit.images[1:], crops[1:], lit.gain[1:], (0, 1)).returned(restored[1:]))


@pytest.mark.parametrize("value", [-1.0, 0.2, 1.0])
def test_a_crop_that_shows_nothing_is_not_blown_up(value):
    crop = torch.full((1, 3, SIDE, SIDE), value)
    crop[..., ::2] += 0.004
    crop.clamp_(-1, 1)
    lit = usual(crop)
    assert lit.gain.max() <= 8 and lit.images.isfinite().all()
    assert torch.equal(lit.returned(lit.images), crop)


def test_light_that_grows_unusual_moves_the_face_little_by_little():
    gains = [usual(2 * (1 - share) * (face()[None] + 1) / 2 - 1).gain.flatten() for share in np.linspace(0, 0.8, 400)]
    steps = torch.stack(gains).diff(dim=0)
    assert steps.abs().max() < 0.1  # of 4 in all
    assert (gains[0] == 1).all() and (gains[-1] > 1.5).all()
