"""Pairs of frames for temporal training, and the loss that is made of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from videoclr import geometry
from videoclr.training.losses import unsteadiness, warped
from videoclr.training.pairs import MotionPairs, aligned

SIDE = 64


def picture(seed, side=SIDE):
    """`(side, side, 3)` uint8, smooth."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(side, side, 3)), (0, 0), 3)
    return np.clip(128 + 400 * noise, 0, 255).astype(np.uint8)


def sliding(count=14, step=2):
    """A clip whose content moves right by `step` pixels per frame."""
    wide = picture(3, SIDE + count * step)
    return np.stack([wide[:SIDE, (count - n) * step : (count - n) * step + SIDE] for n in range(count)])


def pairs(real, **settings):
    faces = np.stack([picture(n) for n in range(2)])
    return MotionPairs(faces, [sliding()], 4, {"codec": 1.0}, **{"reach": 1, "apart": 2, "real": real, **settings})


@pytest.mark.parametrize("real", [0.0, 1.0])
def test_the_flow_of_a_pair_leads_from_its_first_frame_to_its_second(real):
    samples = [pairs(real)[number] for number in range(4)]
    for sample in samples:
        assert sample["clean"].shape == sample["degraded"].shape == (2, 3, SIDE, SIDE)
        assert sample["flow"].shape == (2, SIDE, SIDE) and sample["visible"].shape == (1, SIDE, SIDE)
        first, second = sample["clean"]
        brought = warped(second[None], sample["flow"][None])[0]
        seen = sample["visible"].bool().expand(3, -1, -1)
        assert seen.float().mean() > 0.4
        assert (brought - first)[seen].abs().mean() < 0.5 * (second - first)[seen].abs().mean() + 0.02
        assert 0.01 < (sample["degraded"] - sample["clean"]).abs().mean() < 0.4
    assert any(s["flow"][0].mean() > 0.5 for s in samples) or real == 0


def test_a_pair_depends_on_its_number_alone():
    first, again = pairs(0.5), pairs(0.5)
    for name, value in first[7].items():
        assert torch.equal(value, again[7][name])
    assert not torch.equal(first[7]["clean"], first[8]["clean"])


def test_stills_may_have_parts_of_others_and_clips_stay_who_they_are():
    plain, mixed = pairs(0.0), pairs(0.0, blended=1.0)
    changed = [not torch.equal(plain[number]["clean"], mixed[number]["clean"]) for number in range(6)]
    assert any(changed)  # by chance nobody else may be drawn
    again = pairs(0.0, blended=1.0)
    assert all(torch.equal(mixed[number]["clean"], again[number]["clean"]) for number in range(6))
    real, same = pairs(1.0), pairs(1.0, blended=1.0)
    assert torch.equal(real[1]["clean"], same[1]["clean"])


def test_a_pair_may_be_graded_and_moves_as_before():
    plain, graded = pairs(0.0)[2], pairs(0.0, graded=1.0)[2]
    assert torch.equal(plain["flow"], graded["flow"])
    assert not torch.equal(plain["clean"], graded["clean"])
    first, second = graded["clean"]
    brought = warped(second[None], graded["flow"][None])[0]
    seen = graded["visible"].bool().expand(3, -1, -1)
    assert (brought - first)[seen].abs().mean() < 0.5 * (second - first)[seen].abs().mean() + 0.03


def test_clips_that_are_too_short_are_not_used():
    assert pairs(1.0, reach=6, apart=3).real == 0.0
    assert [len(clip) for clip in aligned(list(sliding(14)), 6)] == [6, 6]
    assert [len(clip) for clip in aligned(list(sliding(16)), 6)] == [6, 6, 4]


def test_warped_reads_as_geometry_does_and_on_coarser_grids():
    rng = np.random.default_rng(0)
    flow = cv2.GaussianBlur(rng.normal(0, 8, (SIDE, SIDE, 2)).astype(np.float32), (0, 0), 6)
    image = picture(1).astype(np.float32)
    there = torch.from_numpy(flow.transpose(2, 0, 1).copy())[None]
    found = warped(torch.from_numpy(image.transpose(2, 0, 1).copy())[None], there)[0].permute(1, 2, 0).numpy()
    apart = np.abs(found - geometry.carry(image, flow))[4:-4, 4:-4]  # OpenCV rounds to a 32nd of a pixel
    assert apart.mean() < 0.1 and apart.max() < 1
    column = torch.arange(16.0).expand(1, 1, 16, 16)
    shifted = warped(column, torch.tensor([8.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, SIDE, SIDE))
    assert torch.allclose(shifted[..., 2:12], column[..., 2:12] + 2, atol=1e-4)  # 8 of 64 pixels are 2 of 16


def test_an_error_that_moves_with_the_face_is_steady_and_blur_gains_nothing():
    clean = torch.from_numpy(sliding()[[4, 6]].transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1
    flow = torch.zeros(1, 2, SIDE, SIDE)
    flow[:, 0] = 4
    visible = torch.ones(1, 1, SIDE, SIDE)
    visible[..., -5:] = 0
    score = lambda out: float(unsteadiness(out, clean, flow, visible))  # noqa: E731
    stain = torch.zeros(2, 3, SIDE, SIDE)
    stain[0, :, 20:30, 20:30] = stain[1, :, 20:30, 24:34] = 0.5
    resting = torch.zeros(2, 3, SIDE, SIDE)
    resting[:, :, 20:30, 20:30] = 0.5
    assert score(clean) < 1e-6
    assert score(clean + stain) < 1e-6 < 0.005 < score(clean + resting)
    noise = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    grey = clean.mean((2, 3), keepdim=True).expand_as(clean)
    assert score(noise) > 0.05 and score(torch.stack([clean[0], grey[1]])) > 0.05
