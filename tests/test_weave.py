from __future__ import annotations

import numpy as np
import pytest
import torch

from videoclr.weave import seen_enlarged, unwoven


def face(side: int) -> np.ndarray:
    """`(3, S, S)`: a smooth change with some texture of its own."""
    y, x = np.mgrid[0:side, 0:side] / side
    texture = np.random.default_rng(4).normal(0, 0.03, (3, side, side))
    return 0.3 * np.sin(3 * x + 2 * y)[None] + texture


def weave(side: int) -> np.ndarray:
    """A pattern of 8 px, stronger in the middle."""
    y, x = np.mgrid[0:side, 0:side]
    fades = np.exp(-(((x - side / 2) / side) ** 2 + ((y - side / 2) / side) ** 2) * 8)
    return 0.05 * (np.cos(2 * np.pi * (x + y) / 8) + np.cos(2 * np.pi * (x - 2 * y) / 8)) * fades


def test_the_weave_goes_and_the_face_stays():
    side = 256
    shown = torch.zeros(2, 3, side, side)
    plain = torch.from_numpy(np.stack([face(side), face(side)[:, ::-1].copy()])).float()
    woven = plain + torch.from_numpy(weave(side)).float()
    error = (woven - plain).square().mean().sqrt()
    assert (unwoven(woven, shown) - plain).square().mean().sqrt() < 0.45 * error
    assert (unwoven(plain, shown) - plain).square().mean().sqrt() < 0.006, "a fifth of its texture at most"
    assert torch.allclose(unwoven(woven, shown)[1:], unwoven(woven[1:], shown[1:]), atol=1e-6)


def test_what_was_shown_is_no_weave_of_the_network():
    shown = torch.from_numpy(weave(64)).float().expand(1, 3, 64, 64)
    assert torch.allclose(unwoven(shown, shown), shown, atol=1e-6)


@pytest.mark.parametrize("side", [64, 72, 200])
def test_any_size_of_crop_keeps_its_size_and_what_is_no_weave(side):
    y, x = np.mgrid[0:side, 0:side] / side
    smooth = torch.from_numpy(np.stack([0.4 * np.sin(3 * x + 2 * y)] * 3)[None]).float()
    result = unwoven(smooth, torch.zeros_like(smooth))
    assert result.shape == smooth.shape
    assert (result - smooth).abs().mean() < 0.004


def test_weave_in_one_place_goes_without_harm_to_another():
    side = 256
    plain = torch.from_numpy(face(side)).float()[None]
    y, x = np.mgrid[0:side, 0:side]
    hair = 0.05 * np.cos(2 * np.pi * (x - 2 * y) / 8) * (np.hypot(x - 60, y - 60) < 40)
    woven = plain + torch.from_numpy(hair).float()
    result, alone = (unwoven(one, torch.zeros_like(one)) for one in (woven, plain))
    inside = np.s_[..., 40:80, 40:80]
    assert (result - plain)[inside].square().mean() < 0.15 * (woven - plain)[inside].square().mean()
    assert torch.allclose(result[..., 140:, 140:], alone[..., 140:, 140:], atol=1e-6)


def test_the_more_a_crop_is_enlarged_the_more_weave_is_taken_out():
    assert [seen_enlarged(scale) for scale in (3.0, 1.0)] == [0, 0]
    assert [seen_enlarged(scale) for scale in (1 / 1.4, 0.2)] == pytest.approx([1, 1])
    assert seen_enlarged(1 / 1.2) == pytest.approx(0.5)
