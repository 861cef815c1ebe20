"""Drawn faces: what the judge says where the answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from videoclr.parts.agreement import Agreement
from videoclr.parts.feather import Feather
from videoclr.pixels import to_tensor
from videoclr.stages.gate import Verdict
from videoclr.types import Detection, FaceCrop, Faces, Frame, RestoredFace, TrackedFace

S = 256
POINTS = np.array([[0.385, 0.47], [0.615, 0.47], [0.5, 0.6], [0.405, 0.71], [0.595, 0.71]]) * S
PICTURE = np.zeros((4, 4, 3), np.uint8)
SKIN = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 2, (S, S)).astype(np.float32), (0, 0), 6)


def drawn(opening: float = 1.0, gaze: float = 0.0, mouth: float = 0.3, texture: float = 1.0, seed: int = 0) -> np.ndarray:
    """`(S, S, 3)` float32: a face with eyes and mouth as open as said, and fine skin that `seed` decides."""
    image = np.full((S, S), 0.3, np.float32) + 0.3 * SKIN
    fine = np.random.default_rng(seed).normal(0, 0.05, (S, S)).astype(np.float32)
    image += texture * cv2.GaussianBlur(fine, (0, 0), 1)
    for x, y in POINTS[:2]:
        half = (14, max(1, round(7 * opening)))
        white, iris = np.zeros((S, S), np.uint8), np.zeros((S, S), np.uint8)
        cv2.ellipse(white, (round(x), round(y)), half, 0, 0, 360, 1, -1)
        cv2.circle(iris, (round(x + 6 * gaze), round(y)), 6, 1, -1)
        image[white > 0] = 0.5 if opening > 0.3 else -0.6
        if opening > 0.3:
            image[(white & iris) > 0] = -0.8
        cv2.ellipse(image, (round(x), round(y) - 24), (20, 4), 0, 180, 360, -0.5, 3)
    cv2.ellipse(image, (S // 2, round(POINTS[3, 1])), (22, max(2, round(14 * mouth))), 0, 0, 360, -0.5, -1)
    cv2.ellipse(image, (S // 2, S // 2), (95, 120), 0, 0, 360, -0.6, 8)
    return cv2.GaussianBlur(image, (0, 0), 0.7)[..., None].repeat(3, axis=2)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def restored(
    before: np.ndarray,
    after: np.ndarray,
    index: int = 0,
    points: np.ndarray = POINTS,
    size: float = 120,
    score: float = 0.95,
    similarity: float | None = 0.8,
    observed: bool = True,
    looked: bool = True,
) -> Faces[RestoredFace]:
    found = Detection(np.array([0, 0, size, size], np.float32), points.astype(np.float32), score)
    frame = Frame.from_image(PICTURE, index)
    crop = FaceCrop(TrackedFace(0, found, observed), frame, to_tensor(before.clip(-1, 1)), np.eye(2, 3))
    image = to_tensor(after.clip(-1, 1))
    return Faces(frame, (RestoredFace(crop, image, Feather().mask([crop], image[None])[0], similarity),), looked)


def verdict(*arguments: Any, **known: Any) -> Verdict:
    (one,) = Agreement().judge(restored(*arguments, **known), {})
    assert one.trust is not None and one.trust.shape == (1, S, S) and one.trust.dtype == torch.float32
    assert 0 <= one.confidence <= 1 and float(one.trust.min()) >= 0 and float(one.trust.max()) <= 1
    return one


def at(trust: Tensor | None, place: np.ndarray) -> float:
    assert trust is not None
    x, y = np.rint(place).astype(int)
    return float(trust[0, y - 3 : y + 4, x - 3 : x + 4].mean())


def test_perfect_agreement_is_full_confidence() -> None:
    one = verdict(drawn(), drawn())
    assert one.confidence == 1 and one.reasons == {} and one.trust is not None and float(one.trust.min()) == 1


@pytest.mark.parametrize(("sigma", "noise"), [(1.5, 0.0), (3.0, 0.03), (6.0, 0.0)])
def test_detail_that_the_blur_had_taken_is_welcome(sigma: float, noise: float) -> None:
    before = blurred(drawn(), sigma) + np.random.default_rng(1).normal(0, noise, (S, S, 1)).astype(np.float32)
    one = verdict(before, drawn())
    assert one.confidence == 1 and one.reasons == {}
    assert one.trust is not None and float(one.trust[0, 40:220, 40:216].min()) > 0.9


def test_another_exposure_is_no_disagreement() -> None:
    assert verdict(drawn(), drawn() + 0.2).reasons == {}


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_an_eye_that_was_closed_stays_closed(sigma: float) -> None:
    before = drawn(opening=0.1)
    before = blurred(before, sigma) if sigma else before
    one = verdict(before, drawn(opening=1.0))
    assert at(one.trust, POINTS[0]) < 0.1 and at(one.trust, POINTS[1]) < 0.1
    assert at(one.trust, POINTS[2] + (0, 8)) > 0.9 and at(one.trust, np.array([128, 60])) > 0.9
    assert {"left eye", "right eye"} <= one.reasons.keys() and one.confidence == 1
    kept = verdict(before, drawn(opening=0.1))
    assert at(kept.trust, POINTS[0]) > 0.9


def test_what_a_blur_has_swallowed_is_no_objection() -> None:
    """An input in which open and closed look alike cannot say that an eye or a mouth is wrong."""
    before = blurred(drawn(opening=0.1, mouth=0.1), 7)
    one = verdict(before, drawn(opening=1.0, mouth=0.6))
    assert not {"left eye", "right eye", "mouth"} & one.reasons.keys()


def test_noise_in_one_frame_is_no_blink_and_a_blink_is_seen() -> None:
    judge, memory = Agreement(), dict[int, Any]()

    def seen(index: int, opening: float) -> bool:
        (one,) = judge.judge(restored(drawn(opening=opening), drawn(), index), memory)
        return "left eye" in one.reasons

    assert [seen(index, opening) for index, opening in enumerate([1, 1, 0.1, 1, 1, 0.1, 0.1, 0.1])] == [False] * 6 + [True] * 2
    assert seen(20, 0.1)  # nothing from before the gap speaks for the eye


def test_the_gaze_keeps_its_side() -> None:
    one = verdict(blurred(drawn(gaze=-1), 1.5), drawn(gaze=1))
    assert at(one.trust, POINTS[0]) < 0.2 and "left eye" in one.reasons


def test_a_mouth_is_not_opened() -> None:
    one = verdict(blurred(drawn(mouth=0.1), 2), drawn(mouth=1.0))
    assert at(one.trust, POINTS[3:].mean(0)) < 0.2 and "mouth" in one.reasons
    assert at(one.trust, POINTS[0]) > 0.9


def test_what_hides_behind_an_occluder_is_not_invented() -> None:
    before = drawn()
    cv2.ellipse(before, (160, 180), (40, 18), 30, 0, 360, (-0.7, -0.2, 0.4), -1)
    one = verdict(blurred(before, 2), drawn())
    assert at(one.trust, np.array([160, 180])) < 0.4
    assert at(one.trust, np.array([100, 100])) > 0.95
    assert 0.3 < one.reasons["disagreement"] < 0.95 and one.confidence == 1


def test_noise_of_one_frame_is_no_disagreement_where_the_track_shows_more() -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 2.5, (S, S, 3)).astype(np.float32), (0, 0), 3)
    faces = restored(blurred(drawn(), 2) + noise, drawn())
    (face,) = faces.faces

    def shown(trust: Tensor | None) -> float:
        assert trust is not None
        return float((trust * face.mask).sum() / face.mask.sum())

    (alone,) = Agreement().judge(faces, {})
    told = replace(face, seen=to_tensor(blurred(drawn(), 2)))
    (together,) = Agreement().judge(replace(faces, faces=(told,)), {})
    assert shown(alone.trust) < 0.8 and "disagreement" in alone.reasons
    assert "disagreement" not in together.reasons and at(together.trust, np.array([100, 100])) > 0.95
    other = replace(face, seen=to_tensor(blurred(drawn(), 2)), image=to_tensor(drawn()[:, ::-1].copy() * -1))
    (wrong,) = Agreement().judge(replace(faces, faces=(other,)), {})
    assert shown(wrong.trust) < 0.3


@pytest.mark.parametrize(
    ("known", "reason", "most"),
    [
        ({"size": 14}, "size", 0.0),
        ({"size": 24}, "size", 0.6),
        ({"score": 0.25}, "score", 0.0),
        ({"similarity": 0.1}, "identity", 0.0),
        ({"observed": False}, "guessed", 0.8),
    ],
)
def test_faces_that_cannot_be_trusted_pass_nearly_unchanged(known: dict[str, Any], reason: str, most: float) -> None:
    one = verdict(drawn(), drawn(), **known)
    assert one.confidence <= most and one.reasons == {reason: pytest.approx(one.confidence, abs=1e-3)}


def test_a_profile_is_left_alone_and_a_half_profile_is_not() -> None:
    def seen(degrees: float) -> np.ndarray:
        head = np.array([[-31.5, 0, 0], [31.5, 0, 0], [0, 40, 35], [-25, 65, 0], [25, 65, 0]])
        angle = np.radians(degrees)
        return np.stack([head[:, 0] * np.cos(angle) + head[:, 2] * np.sin(angle), head[:, 1]], 1) * 0.9 + (128, 110)

    assert verdict(drawn(), drawn(), points=seen(80)).confidence < 0.02
    assert verdict(drawn(), drawn(), points=seen(80)).reasons.keys() == {"pose"}
    assert verdict(drawn(), drawn(), points=seen(40)).confidence == 1


def test_a_place_that_nobody_looked_for_is_no_guess() -> None:
    assert verdict(drawn(), drawn(), observed=False, looked=False).confidence == 1
    assert verdict(drawn(), drawn(), similarity=None).confidence == 1


def test_a_face_that_was_sharper_than_its_restoration_is_kept() -> None:
    one = verdict(drawn(), blurred(drawn(), 2.5))
    assert one.confidence < 0.2 and "sharp" in one.reasons


def test_detail_that_boils_over_a_still_input_is_flicker() -> None:
    before = blurred(drawn(texture=0), 3)

    def second(seed: int) -> Verdict:
        memory: dict[int, Any] = {}
        judge = Agreement()
        judge.judge(restored(before, drawn(texture=5, seed=0), 0), memory)
        (one,) = judge.judge(restored(before, drawn(texture=5, seed=seed), 1), memory)
        return one

    assert "flicker" not in second(0).reasons
    assert second(1).reasons["flicker"] < 0.8


@pytest.mark.parametrize("options", [{"yaw": (50, 50)}, {"size": (1, 2, 3)}, {"gaze": (float("nan"), 1)}, {"guessed": 2}])
def test_a_range_must_be_a_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected two different numbers|guessed must be"):
        Agreement(**options)
