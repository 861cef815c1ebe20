"""Pairs for the network of close-ups: made once, and cut into patches that lie over one another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from videoclr.training.closeup import Filmed, made_pairs, patches

SETTINGS = {
    "seed": 3,
    "levels": {"slight": 1.0},
    "warp": 0.2,
    "pairs": 5,
    "filmed": 0.0,
    "recipes": {"codec": 1.0},
    "graded": 0.5,
    "workers": 0,
}


class Teacher:
    """Keeps what it is given, and inverts it."""

    def __init__(self):
        self.stills, self.spans = [], []

    def restore_stills(self, y):
        self.stills.append(y.clone())
        return -y

    def restore_span(self, crops, after, first, memory, batch):
        assert first and not after and not memory and batch >= len(crops)
        assert len({crop.face.track for crop in crops}) == 1
        assert [crop.frame.index for crop in crops] == list(range(len(crops)))
        self.spans.append(torch.stack([crop.image for crop in crops]))
        return -self.spans[-1]


def never():
    raise AssertionError("made again")


def faces(count=3, side=64):
    noise = np.random.default_rng(0).normal(size=(count, side, side, 3))
    return np.stack([np.clip(128 + 300 * cv2.GaussianBlur(one, (0, 0), 2), 0, 255) for one in noise]).astype(np.uint8)


def as_given(pictures):
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1


def halved(pictures):
    return np.stack([cv2.resize(one, (32, 32), interpolation=cv2.INTER_AREA) for one in pictures])


def test_pairs_are_made_once_and_found_again(tmp_path):
    teacher = Teacher()
    first = made_pairs(faces(), SETTINGS, lambda: teacher, tmp_path / "pairs")
    assert [one.shape for one in first] == [(5, 64, 64, 3), (5, 64, 64, 3), (5, 32, 32, 3)]
    assert torch.equal(torch.cat(teacher.stills)[:5], as_given(halved(first[1]))) and not teacher.spans
    assert np.array_equal(first[2], 255 - halved(first[1]))
    differences = np.abs(first[0].astype(int) - first[1]).mean((1, 2, 3))
    assert (differences > 0).all() and (differences < 40).all()
    again = made_pairs(faces(), SETTINGS, never, tmp_path / "pairs")
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not list((tmp_path / "pairs").glob("*.part"))


def test_frames_of_films_are_restored_as_tracks_are(tmp_path):
    teacher = Teacher()
    clean, degraded, restored = made_pairs(faces(), {**SETTINGS, "filmed": 0.8}, lambda: teacher, tmp_path)
    spans, count = teacher.spans, 4
    assert len(spans) == 2 and torch.equal(torch.cat([span[1::2] for span in spans])[:count], as_given(halved(degraded[:count])))
    assert np.array_equal(restored, 255 - halved(degraded))
    assert torch.equal(torch.cat(teacher.stills)[:1], as_given(halved(degraded[count:])))
    differences = np.abs(clean[:count].astype(int) - degraded[:count]).mean((1, 2, 3))
    assert (differences > 0).all() and (differences < 40).all()
    moved = np.abs(clean[0].astype(int) - clean[1]).mean()
    assert moved > 0.5, "the face of a film moves"


def test_films_are_a_function_of_seed_and_number():
    films = Filmed(faces(), 7, {"codec": 1.0, "mild": 1.0}, 0.5)
    first, again = films[3], Filmed(faces(), 7, {"codec": 1.0, "mild": 1.0}, 0.5)[3]
    assert first["clean"].shape == first["degraded"].shape and first["clean"].shape[1:] == (3, 64, 64)
    assert all(torch.equal(first[kind], again[kind]) for kind in first)
    assert not torch.equal(first["clean"], films[4]["clean"])


@pytest.mark.parametrize("filmed", [0.0, 0.6])
def test_pairs_depend_on_the_seed_alone(tmp_path, filmed):
    one, same, other = (
        made_pairs(faces(), {**SETTINGS, "seed": seed, "filmed": filmed}, Teacher, tmp_path / f"{number}")
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
