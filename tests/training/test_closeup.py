"""Pairs for the network of close-ups: made once, and cut into patches that lie over one another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from videoclr.training.closeup import made_pairs, patches

SETTINGS = {"seed": 3, "levels": {"slight": 1.0}, "warp": 0.2, "pairs": 5, "workers": 0}


def faces(count=3, side=64):
    noise = np.random.default_rng(0).normal(size=(count, side, side, 3))
    return np.stack([np.clip(128 + 300 * cv2.GaussianBlur(one, (0, 0), 2), 0, 255) for one in noise]).astype(np.uint8)


def test_pairs_are_made_once_and_found_again(tmp_path):
    asked = []

    def restore(small):
        asked.append(small.clone())
        return -small

    first = made_pairs(faces(), SETTINGS, restore, tmp_path / "pairs")
    assert [one.shape for one in first] == [(5, 64, 64, 3), (5, 64, 64, 3), (5, 32, 32, 3)]
    small = np.stack([cv2.resize(one, (32, 32), interpolation=cv2.INTER_AREA) for one in first[1]])
    assert torch.equal(torch.cat(asked)[:5], torch.from_numpy(small.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1)
    assert np.array_equal(first[2], 255 - small)
    differences = np.abs(first[0].astype(int) - first[1]).mean((1, 2, 3))
    assert (differences > 0).all() and (differences < 40).all()

    def never(small):
        raise AssertionError("made again")

    again = made_pairs(faces(), SETTINGS, never, tmp_path / "pairs")
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not list((tmp_path / "pairs").glob("*.part"))


def test_pairs_depend_on_the_seed_alone(tmp_path):
    one, same, other = (
        made_pairs(faces(), {**SETTINGS, "seed": seed}, lambda x: x, tmp_path / f"{number}")
        for number, seed in enumerate((3, 3, 4))
    )
    assert np.array_equal(one[1], same[1]) and not np.array_equal(one[1], other[1])


@pytest.mark.parametrize("seed", range(4))
def test_the_patches_of_a_batch_show_the_same_place(seed):
    # Where a pixel is, is written in its colours: rows in red, columns in green.
    place = np.stack([*np.mgrid[0:128, 0:128], np.zeros((128, 128))], axis=-1).astype(np.uint8)
    small = cv2.resize(place, (64, 64), interpolation=cv2.INTER_AREA)
    pairs = (np.stack([place] * 2), np.stack([place] * 2), np.stack([small] * 2))
    clean, degraded, restored = ((one + 1) * 127.5 for one in patches(pairs, 32, 6, np.random.default_rng(seed)))
    assert clean.shape == degraded.shape == restored.shape == (6, 3, 32, 32)
    assert torch.equal(clean, degraded)
    assert (clean - restored).abs().max() < 1.01  # an average of two rows is rounded
    assert len({(float(one[0, 0, 0]), float(one[1, 0, 0])) for one in clean}) > 3
    tops = [round(float(one[0].min())) for one in clean]
    assert all(top % 2 == 0 and 6 <= top <= 128 - 32 - 6 for top in tops)
    assert {round(float(one[1, 0, 1] - one[1, 0, 0])) for one in clean} <= {-1, 1}, "mirrored or not"
