"""Faces beside their restorations: made once, and cut into patches that lie over one another."""

from __future__ import annotations

from dataclasses import astuple

import cv2
import numpy as np
import pytest
import torch

from videoclr.training.restored import Filmed, Restored, close_up_patches, made_pairs, patches

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
        memory["restored"] = crops
        return -self.spans[-1]

    def seen(self, crops, memory):
        assert memory["restored"] is crops
        return [crop.image / 2 for crop in crops]


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
    assert [one.shape for one in astuple(first)] == [(5, 64, 64, 3)] * 2 + [(5, 32, 32, 3)] * 2
    assert torch.equal(torch.cat(teacher.stills)[:5], as_given(halved(first.degraded))) and not teacher.spans
    assert np.array_equal(first.restored, 255 - halved(first.degraded)) and np.array_equal(first.seen, halved(first.degraded))
    differences = np.abs(first.clean.astype(int) - first.degraded).mean((1, 2, 3))
    assert (differences > 0).all() and (differences < 40).all()
    again = made_pairs(faces(), SETTINGS, never, tmp_path / "pairs")
    assert all(np.array_equal(a, b) for a, b in zip(astuple(first), astuple(again), strict=True))
    assert not list((tmp_path / "pairs").glob("*.part"))


def test_frames_of_films_are_restored_as_tracks_are(tmp_path):
    teacher = Teacher()
    pairs = made_pairs(faces(), {**SETTINGS, "filmed": 0.8}, lambda: teacher, tmp_path)
    spans, count = torch.cat([span[1::2] for span in teacher.spans]), 4
    assert torch.equal(spans[:count], as_given(halved(pairs.degraded[:count])))
    assert np.array_equal(pairs.restored, 255 - halved(pairs.degraded))
    assert (as_given(pairs.seen[:count]) - spans[:count] / 2).abs().max() < 0.01, "as the restorer says, not as the frame shows"
    assert torch.equal(torch.cat(teacher.stills)[:1], as_given(halved(pairs.degraded[count:])))
    differences = np.abs(pairs.clean[:count].astype(int) - pairs.degraded[:count]).mean((1, 2, 3))
    assert (differences > 0).all() and (differences < 40).all()
    assert np.abs(pairs.clean[0].astype(int) - pairs.clean[1]).mean() > 0.5, "the face of a film moves"


def test_films_are_a_function_of_seed_and_number():
    first, again = (Filmed(faces(), [], 7, {"codec": 1.0, "mild": 1.0}, 0.5) for _ in range(2))
    assert first[3]["clean"].shape == first[3]["degraded"].shape and first[3]["clean"].shape[1:] == (3, 64, 64)
    assert all(torch.equal(first[3][kind], again[3][kind]) for kind in ("clean", "degraded"))
    assert not torch.equal(first[3]["clean"], first[4]["clean"])


def test_films_are_parts_of_clips_where_there_are_any_that_are_long_enough():
    clip = np.stack([np.full((64, 64, 3), 20 * number, np.uint8) for number in range(10)])
    films = Filmed(faces(), [clip[:4], clip], 7, {"slight": 1.0}, 0.0, real=1.0)
    for number in range(6):
        levels = (films[number]["clean"].mean((1, 2, 3)) + 1) * 127.5
        assert torch.allclose(levels.diff(), torch.tensor(20.0), atol=0.1)
    assert torch.equal(
        Filmed(faces(), [clip[:4]], 7, {"slight": 1.0}, 0.0, real=1.0)[0]["clean"],
        Filmed(faces(), [], 7, {"slight": 1.0}, 0.0)[0]["clean"],
    )


@pytest.mark.parametrize("filmed", [0.0, 0.6])
def test_pairs_depend_on_the_seed_alone(tmp_path, filmed):
    one, same, other = (
        made_pairs(faces(), {**SETTINGS, "seed": seed, "filmed": filmed}, Teacher, tmp_path / f"{number}")
        for number, seed in enumerate((3, 3, 4))
    )
    assert np.array_equal(one.degraded, same.degraded) and not np.array_equal(one.degraded, other.degraded)


def of_places(side):
    """Pairs in whose colours it is written where a pixel is: rows in red, columns in green, both of the restorer's side."""
    place = np.stack([*np.mgrid[0:side, 0:side], np.zeros((side, side))], axis=-1).astype(np.uint8)
    large = np.repeat(np.repeat(place, 2, axis=0), 2, axis=1)
    return Restored(*(np.stack([one] * 2) for one in (large, large, place, place)))


@pytest.mark.parametrize("seed", range(4))
def test_the_patches_of_a_batch_show_the_same_place(seed):
    drawn = [(one + 1) * 127.5 for one in patches(of_places(64), 16, 6, np.random.default_rng(seed))]
    assert all(one.shape == (6, 3, 16, 16) for one in drawn)
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[1], drawn[2])
    assert len({(float(one[0, 0, 0]), float(one[1, 0, 0])) for one in drawn[0]}) > 3
    assert {round(float(one[1, 0, 1] - one[1, 0, 0])) for one in drawn[0]} <= {-1, 1}, "mirrored or not"


@pytest.mark.parametrize("seed", range(4))
def test_the_patches_of_close_ups_show_the_same_place(seed):
    # Where a pixel is, is written in its colours: rows in red, columns in green.
    place = np.stack([*np.mgrid[0:128, 0:128], np.zeros((128, 128))], axis=-1).astype(np.uint8)
    small = cv2.resize(place, (64, 64), interpolation=cv2.INTER_AREA)
    pairs = Restored(*(np.stack([one] * 2) for one in (place, place, small, small)))
    clean, degraded, restored = ((one + 1) * 127.5 for one in close_up_patches(pairs, 32, 6, np.random.default_rng(seed)))
    assert clean.shape == degraded.shape == restored.shape == (6, 3, 32, 32)
    assert torch.equal(clean, degraded)
    assert (clean - restored).abs().max() < 1.01  # an average of two rows is rounded
    assert len({(float(one[0, 0, 0]), float(one[1, 0, 0])) for one in clean}) > 3
    tops = [round(float(one[0].min())) for one in clean]
    assert all(top % 2 == 0 and 6 <= top <= 128 - 32 - 6 for top in tops)
    assert {round(float(one[1, 0, 1] - one[1, 0, 0])) for one in clean} <= {-1, 1}, "mirrored or not"
