"""Pairs of frames for temporal training, and the loss that is made of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from videoclr import geometry
from videoclr.training.losses import unsteadiness, warped
from videoclr.training.pairs import MotionClips, MotionPairs, aligned

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


def unlike(one, other):
    """Differences in detail: light moves as well."""
    difference = one - other
    return np.abs(difference - cv2.GaussianBlur(difference, (0, 0), 8))


def test_clips_of_crops_move_as_they_say() -> None:
    side = 256
    data = MotionClips(np.stack([picture(n, side) for n in range(2)]), [], 5, {"mild": 1.0}, length=4, clean=1.0)
    grid = np.stack(np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2), axis=-1)
    for number in range(3):
        made = data[number]
        frames = made["degraded"].numpy().transpose(0, 2, 3, 1).astype(np.float32)
        for pair, way in ((0, 0), (2, 1)):
            flow = cv2.resize(made["flow"][pair, way].numpy().astype(np.float32).transpose(1, 2, 0), (side, side))
            seen = cv2.resize(made["visible"][pair, way, 0].numpy(), (side, side), interpolation=cv2.INTER_NEAREST) > 0
            here, there = frames[pair + way], frames[pair + 1 - way]
            x, y = np.moveaxis(grid + flow, -1, 0)
            seen[:8] = seen[-8:] = seen[:, :8] = seen[:, -8:] = False
            assert seen.mean() > 0.5
            assert (
                unlike(cv2.remap(there, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), here)[seen].mean()
                < 0.6 * unlike(there, here)[seen].mean()
            )


def test_what_the_crop_itself_moves_is_known_for_stills_only() -> None:
    faces, clip = np.stack([picture(0)]), sliding()
    still = MotionClips(faces, [], 1, {"mild": 1.0}, length=3, clean=1.0)[0]
    filmed = MotionClips(faces, [clip], 1, {"mild": 1.0}, length=3, real=1.0, clean=1.0)[0]
    assert still["known"].abs().max() > 0 and filmed["known"].abs().max() == 0
    assert filmed["flow"].shape == (2, 2, 2, SIDE // 4, SIDE // 4)
    across = filmed["flow"][:, :, 0, 4:-4, 4:-4].float().mean((-1, -2))
    assert torch.allclose(across, torch.tensor([[2.0, -2.0]] * 2), atol=0.3)
