"""What the detector learns from: labels follow the pixels, targets and losses mean what they say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from videoclr.models.detector import RetinaFace, anchors, decode_boxes, decode_points
from videoclr.training.detection import (
    Hardship,
    LabelledPicture,
    SceneBatches,
    SceneMaker,
    Targets,
    Teacher,
    detection_loss,
    lit,
    match,
    overlap,
    targets,
    transform_boxes,
    transform_points,
    warp,
)

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]])


def toy(size=128):
    """A drawn face whose five points are dots of five colours."""
    image = np.full((size, size, 3), 60, np.uint8)
    box = np.array([[0.2, 0.15, 0.8, 0.85]], np.float32) * size
    points = np.array([[[0.38, 0.42], [0.62, 0.42], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]]], np.float32) * size
    centre, axes = (size // 2, size // 2), (int(0.3 * size), int(0.35 * size))
    cv2.ellipse(image, centre, axes, 0, 0, 360, (200, 170, 150), -1)
    for point, colour in zip(points[0], COLOURS.tolist(), strict=True):
        cv2.circle(image, [int(v) for v in point], size // 16, colour, -1)
    return LabelledPicture(image, box, points, np.zeros(1, bool))


@pytest.fixture
def clean(monkeypatch):
    """Scenes without faults, occluders or labels lost."""
    monkeypatch.setattr("videoclr.training.detection.degrade", lambda rng, image: image)
    monkeypatch.setattr(SceneMaker, "_occlude", staticmethod(lambda rng, scene: scene))
    return SceneMaker([toy()], smallest=40, largest=100)


def test_points_stay_on_what_they_mark_mirrored_or_not(clean):
    mirrored, checked = 0, 0
    for seed in range(40):
        scene = clean.make(np.random.default_rng(seed), 160)
        for points, ignore in zip(scene.points, scene.ignore, strict=True):
            inside = ((points > 2) & (points < 157)).all()
            if ignore or not inside:
                continue
            seen = scene.image[tuple(np.rint(points).astype(int).T[::-1])].astype(int)
            straight, turned = (np.abs(seen - COLOURS[order]).max() for order in ([0, 1, 2, 3, 4], [1, 0, 2, 4, 3]))
            if min(straight, turned) > 60:  # another face in front of a point
                continue
            checked, mirrored = checked + 1, mirrored + (turned < straight)
            # Image-left first, however the face was turned: the roll stays below 60 degrees.
            assert points[0, 0] < points[1, 0] + 1e-3
    assert checked >= 25
    assert 5 <= mirrored <= checked - 5


def test_boxes_hold_the_points(clean):
    for seed in range(20):
        scene = clean.make(np.random.default_rng(seed), 160)
        low, high = scene.boxes[:, None, :2], scene.boxes[:, None, 2:]
        assert ((scene.points >= low - 1) & (scene.points <= high + 1)).all()


def dots_seen(scene, at):
    """Of the points of `scene` inside it, how many lie on their colour, and how many there are; `at` exchanges left and right."""
    right = known = 0
    for points, ignore in zip(scene.points, scene.ignore, strict=True):
        inside = ((points > 2) & (points < scene.image.shape[0] - 3)).all(1)
        if ignore or not inside.any():
            continue
        seen = scene.image[tuple(np.rint(points[inside]).astype(int).T[::-1])].astype(int)
        near = [(np.abs(seen - COLOURS[order][inside]).max(1) < 60).sum() for order in ([0, 1, 2, 3, 4], at)]
        right, known = right + max(near), known + len(seen)
    return right, known


def test_faces_at_any_angle_keep_their_points(clean):
    clean.hard = Hardship(turned=1)
    scenes = [clean.make(np.random.default_rng(seed), 160) for seed in range(40)]
    right, known = np.sum([dots_seen(scene, [1, 0, 2, 4, 3]) for scene in scenes], 0)
    assert known > 150
    assert right > 0.9 * known
    down = np.array([points[3:].mean(0) - points[:2].mean(0) for scene in scenes for points in scene.points])
    assert (down[:, 1] < 0).mean() > 0.25 and (np.abs(down[:, 0]) > np.abs(down[:, 1])).mean() > 0.25


def test_faces_that_the_border_cuts_count_while_two_points_are_inside(clean):
    clean.hard = Hardship(cut=1)
    scenes = [clean.make(np.random.default_rng(seed), 160) for seed in range(60)]
    right, known = np.sum([dots_seen(scene, [1, 0, 2, 4, 3]) for scene in scenes], 0)
    assert right > 0.9 * known
    cut = sure = 0
    for scene in scenes:
        for box, points, ignore in zip(scene.boxes, scene.points, scene.ignore, strict=True):
            inside = ((points > 0) & (points < 159)).all(1).sum()
            outside = 1 - (np.clip(box, 0, 159)[2:] - np.clip(box, 0, 159)[:2]).prod() / (box[2:] - box[:2]).prod()
            assert ignore or inside >= 2
            cut, sure = cut + (outside > 0.45), sure + (outside > 0.45 and not ignore)
    assert cut > 20 and sure > 10


def test_a_margin_is_empty_and_moves_the_labels(clean):
    clean.hard = Hardship(margin=1)
    for seed in range(5):
        scene = clean.make(np.random.default_rng(seed), 160)
        assert scene.image.shape == (160, 160, 3)
        assert (scene.image[:12] == 127).all() and (scene.image[:, -12:] == 127).all()
        right, known = dots_seen(scene, [1, 0, 2, 4, 3])
        assert right >= known - 5
    assert (scene.image[40:120, 40:120] != 127).any()


def test_what_wear_leaves_nothing_of_counts_neither_way(monkeypatch):
    asked = []
    monkeypatch.setattr("videoclr.training.detection.degrade", lambda rng, image, strength=1.0: asked.append(strength) or image)
    maker = SceneMaker([toy()], smallest=20, largest=60, hard=Hardship(worn=1))
    for seed in range(30):
        scene = maker.make(np.random.default_rng(seed), 160)
        assert scene.ignore[scene.sizes() < 0.9 * 20 * asked[-1]].all()
    assert len(asked) == 30 and 1 < min(asked) < 1.5 and 2 < max(asked) < 2.5


def test_seldom_light_is_dark_coloured_or_pale():
    image = np.random.default_rng(0).integers(60, 200, (64, 64, 3), np.uint8)
    seen = [lit(np.random.default_rng(seed), image) for seed in range(60)]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in seen)
    means = np.array([one.reshape(-1, 3).mean(0) for one in seen])
    spread = np.array([one.std() for one in seen])
    assert (means.max(1) < 60).mean() > 0.2
    assert (means.min(1) < 0.3 * means.max(1)).mean() > 0.2
    assert ((means.mean(1) > 60) & (spread < 25)).any()


def test_scene_is_a_function_of_its_seed():
    maker = SceneMaker([toy()], [toy(200)], [np.full((70, 90, 3), 9, np.uint8)])
    first, second, third = (maker.make(np.random.default_rng(s), 96) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.points, second.points)
    assert first.image.shape != third.image.shape or (first.image != third.image).any()
    hard = SceneMaker([toy()], hard=Hardship(0.5, 0.5, 0.5, 0.5, 0.5))
    again = [hard.make(np.random.default_rng(5), 96) for _ in range(2)]
    np.testing.assert_array_equal(again[0].image, again[1].image)


def test_batch_number_decides_the_batch_wherever_it_starts():
    maker = SceneMaker([toy()])
    whole = SceneBatches(maker, batch=4, size=64, seed=5, wide_every=3)
    later = next(iter(SceneBatches(maker, batch=4, size=64, seed=5, start=2, wide_every=3)))
    stream = iter(whole)
    pixels = [next(stream)[0] for _ in range(3)]
    assert [tuple(p.shape) for p in pixels] == [(4, 3, 64, 64), (4, 3, 64, 64), (1, 3, 128, 128)]
    assert torch.equal(pixels[2], later[0])


def test_no_face_at_all_is_refused():
    with pytest.raises(ValueError, match="no labelled face"):
        SceneMaker([LabelledPicture.without_faces(np.zeros((8, 8, 3), np.uint8))])


def test_warp_moves_pixels_and_points_alike():
    image = np.zeros((200, 200, 3), np.uint8)
    cv2.circle(image, (140, 60), 12, (255, 255, 255), -1)
    matrix = np.array([[0.25, 0, 10], [0, 0.25, 5], [0, 0, 1]])
    rows, columns = np.nonzero(warp(image, matrix, 80)[..., 0] > 127)
    expected = transform_points(np.array([[140.0, 60.0]]), matrix)[0]
    assert np.abs([columns.mean(), rows.mean()] - expected).max() < 0.3


def test_turning_a_box_does_not_blow_it_up():
    turn = np.array([[0, -1, 100], [1, 0, 0], [0, 0, 1]], float)
    box = transform_boxes(np.array([[10, 20, 50, 40]], np.float32), turn)[0]
    np.testing.assert_allclose(box, [60, 10, 80, 50], atol=0.4)


def test_shrinking_keeps_labels_in_place():
    picture = toy(128).shrunk(64)
    assert picture.image.shape == (64, 64, 3)
    np.testing.assert_allclose(picture.points[0, 0], (toy(128).points[0, 0] + 0.5) / 2 - 0.5)
    assert toy(64).shrunk(64).image.shape == (64, 64, 3)


def test_targets_lead_back_to_the_face():
    priors, scene = anchors(128, 128), toy()
    kind, boxes, points, weight = match(scene, priors)
    hits = kind == 1
    assert hits.sum() >= 1
    np.testing.assert_allclose(decode_boxes(boxes, priors)[hits][0], scene.boxes[0], atol=1e-3)
    np.testing.assert_allclose(decode_points(points, priors)[hits][0], scene.points[0], atol=1e-3)
    assert float(weight[hits].square().sum()) == pytest.approx(1, abs=1e-4)
    assert (weight[~hits] == 0).all()


def test_vague_faces_are_neither_face_nor_background():
    scene = toy()
    kind = match(LabelledPicture(scene.image, scene.boxes, scene.points, np.ones(1, bool)), anchors(128, 128))[0]
    assert (kind == 1).sum() == 0
    assert (kind == -1).sum() > 0


def test_smallest_face_still_gets_an_anchor():
    box = np.array([[30, 30, 40, 39]], np.float32)
    scene = LabelledPicture(np.zeros((64, 64, 3), np.uint8), box, np.full((1, 5, 2), 35, np.float32), np.zeros(1, bool))
    assert (match(scene, anchors(64, 64))[0] == 1).sum() >= 1


def perfect(goal: Targets, sure: float):
    logits = torch.stack([-sure * (goal.kind * 2 - 1), sure * (goal.kind * 2 - 1)], -1).float()
    return goal.boxes.clone(), logits, goal.points.clone()


def test_loss_vanishes_for_the_right_answer_and_grows_with_each_kind_of_error():
    goal = targets([toy(), LabelledPicture.without_faces(toy().image)], anchors(128, 128))
    right, _ = detection_loss(*perfect(goal, 10.0), goal)
    assert float(right) < 1e-3
    for place in range(3):
        answer = list(perfect(goal, 10.0))
        answer[place] = answer[place] * -1 if place == 1 else answer[place] + 1
        wrong, terms = detection_loss(*answer, goal)
        assert float(wrong) > 0.1
        assert set(terms) == {"face", "background", "box", "points"}


def test_loss_of_a_batch_without_faces_is_finite_and_teaches():
    goal = targets([LabelledPicture.without_faces(toy().image)], anchors(128, 128))
    network = RetinaFace()
    loss, _ = detection_loss(*network(torch.zeros(1, 3, 128, 128)), goal)
    loss.backward()
    assert torch.isfinite(loss)
    assert sum(float(head.conv1x1.bias.grad.abs().sum()) for head in network.ClassHead) > 0


def test_overlap_of_known_boxes():
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(overlap(a, b)[0], [1, 1 / 3, 0], atol=1e-6)


def test_missing_teacher_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        Teacher(tmp_path / "none.onnx")
