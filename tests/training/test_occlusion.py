"""Made labels: what is pasted hides, what shades does not, and hair is no face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from videoclr.training.occlusion import KINDS, UNKNOWN, OccludedFaces, face_label, lit, occlude, overlap, shown_loss

SIDE = 64


def portrait(hair=(40, 25, 20), skin=(200, 150, 120), back=(90, 120, 180)):
    """A head with hair that hangs into the forehead."""
    picture = np.full((SIDE, SIDE, 3), back, np.uint8)
    cv2.ellipse(picture, (32, 34), (25, 30), 0, 0, 360, hair, -1)
    cv2.ellipse(picture, (32, 40), (18, 21), 0, 0, 360, skin, -1)
    for x in (25, 39):
        cv2.circle(picture, (x, 30), 2, (20, 20, 20), -1)
    cv2.ellipse(picture, (32, 46), (6, 2), 0, 0, 360, (150, 60, 60), -1)
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_skin_and_eyes_are_face_and_hair_and_background_are_not():
    label = face_label(portrait())
    assert set(np.unique(label)) <= {0.0, UNKNOWN, 1.0}
    for x, y in [(32, 36), (25, 30), (39, 30), (32, 46), (22, 42), (42, 42)]:
        assert label[y, x] == 1, (x, y)
    for x, y in [(32, 7), (4, 4), (60, 60), (10, 30), (32, 12)]:
        assert label[y, x] == 0, (x, y)
    np.testing.assert_array_equal(label, face_label(portrait()))


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_thing_that_is_pasted_changes_the_picture_where_it_says_so(kind, monkeypatch):
    monkeypatch.setattr("videoclr.training.occlusion.KINDS", (KINDS[kind],))
    monkeypatch.setattr("videoclr.training.occlusion._SHARES", np.array([1.0]))
    face, other = portrait(), portrait(hair=(180, 140, 60), skin=(90, 60, 40))
    seen = []
    for seed in range(6):
        picture, hidden = occlude(face, other, np.random.default_rng(seed))
        assert picture.dtype == np.uint8 and hidden.min() >= 0 and hidden.max() <= 1
        away = np.abs(picture.astype(int) - face).max(-1)
        seen.append(((hidden > 0.6) & (away > 8)).sum() / max((hidden > 0.6).sum(), 1))
        # Outside lies at most its shadow, which is no colour of its own: it only darkens.
        assert (picture.astype(int)[hidden == 0] <= face.astype(int)[hidden == 0] + 1).all()
    assert np.mean(seen) > 0.5


def test_light_hides_nothing_and_is_seen():
    face = portrait()
    assert max(np.abs(lit(face, np.random.default_rng(seed)).astype(int) - face).max() for seed in range(4)) > 20


def test_a_sample_depends_on_its_number_alone_and_what_hides_is_never_face():
    faces = np.stack([portrait(), portrait(hair=(180, 140, 60), skin=(90, 60, 40))])
    labels = np.stack([face_label(face) for face in faces])
    data = OccludedFaces(faces, labels, 3, {"mild": 0.5}, bare=0.0)
    again = OccludedFaces(faces, labels, 3, {"mild": 0.5}, bare=0.0)[5]
    for name, value in data[5].items():
        assert value.shape == ((3 if name == "picture" else 1), SIDE, SIDE) and torch.equal(value, again[name])
    samples = [data[number] for number in range(8)]
    assert all((s["shown"][s["hidden"] > 0.5] == 0).all() for s in samples)
    assert sum(float((s["hidden"] > 0.5).sum()) for s in samples) > 0
    bare = OccludedFaces(faces, labels, 3, {}, bare=1.0)
    assert all(float(bare[number]["hidden"].max()) == 0 for number in range(4))


def test_the_loss_asks_for_what_is_known_alone():
    shown = torch.tensor([[[[1.0, 0.0, UNKNOWN, UNKNOWN]]]])
    right = torch.tensor([[[[20.0, -20.0, 20.0, -20.0]]]])
    loss, terms = shown_loss(right, shown)
    assert loss < 1e-3 and terms["right"] == 1
    assert shown_loss(-right, shown)[0] > 10
    torch.testing.assert_close(loss, shown_loss(right * torch.tensor([1, 1, -1, -1]), shown)[0])


def test_overlap_counts_inside_the_region():
    logits = torch.tensor([[[[-1.0, -1.0, 1.0, -1.0]]]])
    wanted = torch.tensor([[[[1.0, 0.0, 1.0, 1.0]]]])
    assert overlap(logits, wanted, torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]])) == pytest.approx(1 / 3)
    assert np.isnan(overlap(torch.ones(1, 1, 1, 4), torch.zeros(1, 1, 1, 4), torch.ones(1, 1, 1, 4)))
