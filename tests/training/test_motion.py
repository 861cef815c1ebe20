"""Moving faces: seeded, smooth, and each movement where it belongs."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from videoclr import geometry
from videoclr.geometry import moved
from videoclr.training.motion import STILL, Plan, Recipe, curve, draw, flow_between, graded, move, shown_at


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(1).normal(size=(96, 96, 3)), (0, 0), 3)
    return np.clip(128 + 300 * noise, 0, 255).astype(np.uint8)


def still(count: int = 1) -> Plan:
    return draw(count, 0, STILL)


def displacement(plan: Plan, size: int = 64) -> np.ndarray:
    """How far each pixel's content has moved: target minus source, px."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    return np.stack([x, y], -1) - shown_at(plan, 0, size)


def test_no_motion_gives_the_still_back(face: np.ndarray) -> None:
    assert (np.stack(list(move(face, still(3)))) == face).all()


def test_the_same_seed_makes_the_same_pixels_and_another_one_others(face: np.ndarray) -> None:
    first, again, other = (np.stack(list(move(face, draw(4, seed)))) for seed in (3, 3, 4))
    assert (first == again).all() and first.shape == (4, 96, 96, 3) and first.dtype == np.uint8
    assert np.abs(first.astype(int) - other).mean() > 3


def test_motion_is_smooth_and_the_face_stays_in_the_picture() -> None:
    for seed in range(8):
        plan = draw(40, seed)
        middle = np.stack([shown_at(plan, index, 64)[35, 32] for index in range(40)])
        steps = np.linalg.norm(np.diff(middle, axis=0), axis=1)
        assert steps.mean() > 0.02 and steps.max() < 4
        assert np.abs(middle - (32, 35)).max() < 14


def test_shift_turn_and_zoom_are_a_similarity_about_the_face() -> None:
    plan = replace(still(), shift=np.array([[0.1, -0.05]]), turn=np.array([0.3]), zoom=np.array([0.2]))
    cos, sin = np.exp(0.2) * np.cos(0.3), np.exp(0.2) * np.sin(0.3)
    linear = np.array([[cos, -sin], [sin, cos]])
    middle = np.array([0.5, 0.55]) * 64 - 0.5
    matrix = np.column_stack([linear, middle + 64 * np.array([0.1, -0.05]) - linear @ middle])
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    assert moved(shown_at(plan, 0, 64), matrix) == pytest.approx(np.stack([x, y], -1), abs=1e-3)


def test_a_turning_head_shrinks_on_its_far_side_and_moves_its_nose_most() -> None:
    push = displacement(replace(still(), yaw=np.array([0.4])))
    nose, ear = push[38, 32, 0], push[38, 8, 0]
    assert nose > 2 and nose > ear + 1
    back = displacement(replace(still(), yaw=np.array([-0.4])))
    assert back[38, 32, 0] == pytest.approx(-nose, rel=0.2)


@pytest.mark.parametrize(
    ("name", "place"), [("mouth", (50, 32)), ("smile", (45, 26)), ("brows", (25, 24)), ("lids", (29, 24)), ("gaze", (30, 24))]
)
def test_an_expression_moves_its_own_part_of_the_face_and_nothing_else(name: str, place: tuple[int, int]) -> None:
    push = np.linalg.norm(displacement(replace(still(), **{name: np.array([1.0])})), axis=-1)
    assert push[place] > 0.5
    assert push[:12].max() < 0.15 and push[:, :4].max() < 0.15


def test_a_glance_moves_both_eyes_to_one_side_and_leaves_their_corners() -> None:
    push = displacement(replace(still(), gaze=np.array([1.0])), 256)
    for eye in (98, 157):
        assert push[120, eye] == pytest.approx([4.6, 0.0], abs=0.4)
        assert np.abs(push[120, [eye - 16, eye + 16]]).max() < 0.8


def test_light_brightens_and_slopes(face: np.ndarray) -> None:
    plan = replace(still(2), light=np.array([[0.2, 0, 0], [0, 0.2, 0]]))
    bright, sloped = (picture.astype(float) for picture in move(face // 2, plan))
    assert bright.mean() / (face // 2).mean() == pytest.approx(np.exp(0.2), rel=0.02)
    gain = sloped.sum(-1) / (face // 2).sum(-1)
    assert gain[:, -1].mean() == pytest.approx(np.exp(0.2), rel=0.02)
    assert gain[:, 0].mean() == pytest.approx(np.exp(-0.2), rel=0.02)


def test_grading_is_one_for_all_frames_lifts_blacks_and_takes_contrast_away(face: np.ndarray) -> None:
    clip = np.stack([face, np.zeros_like(face), np.full_like(face, 255), face])
    ranges, blacks = [], []
    for seed in range(30):
        toned = graded(clip, np.random.default_rng(seed))
        assert toned.dtype == np.uint8 and toned.shape == clip.shape
        assert np.array_equal(toned[0], toned[3])
        assert np.array_equal(toned, graded(clip, np.random.default_rng(seed)))
        middle = toned[:, face.shape[0] // 2, face.shape[1] // 2].astype(int)
        ranges.append((middle[2] - middle[1]).mean() / 255)
        blacks.append(middle[1].mean() / 255)
        assert np.ptp(toned[2][..., 1]) > 2  # from one side
    assert min(ranges) > 0.25 and max(ranges) <= 1 and np.mean(ranges) < 0.8
    assert max(blacks) > 0.2


def test_eyes_blink_within_a_few_seconds_and_are_mostly_open() -> None:
    lids = draw(150, 1, Recipe()).lids
    assert lids.max() > 0.6 and (lids == 0).mean() > 0.5 and lids.min() == 0


def test_curves_are_smooth_and_bounded() -> None:
    found = curve(200, np.random.default_rng(0))
    assert np.abs(found).max() <= 2 and found.std() > 0.3
    assert np.abs(np.diff(found, n=2)).max() < 0.3


def test_what_cannot_move_is_refused(face: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        draw(0, 1)
    with pytest.raises(ValueError, match="square"):
        list(move(face[:50], still()))


def test_the_flow_between_two_frames_brings_one_onto_the_other():
    face = cv2.GaussianBlur(np.random.default_rng(5).integers(0, 256, (96, 96, 3), np.uint8), (0, 0), 2)
    plan = draw(12, seed=3, recipe=Recipe(light=0.0))
    frames = list(move(face, plan))
    flow, visible = flow_between(plan, 2, 9, 96)
    brought = geometry.carry(frames[9].astype(np.float32), flow)
    still = np.abs(frames[9].astype(float) - frames[2])[visible].mean()
    left = np.abs(brought - frames[2])[visible].mean()
    assert visible.mean() > 0.7 and left < 0.15 * still
    back, _ = flow_between(plan, 9, 2, 96)
    assert np.abs(flow + geometry.carry(back, flow))[visible].mean() < 0.05


def test_no_motion_is_no_flow():
    flow, visible = flow_between(draw(5, seed=1, recipe=STILL), 0, 4, 32)
    assert np.abs(flow).max() < 1e-4 and visible.all()
