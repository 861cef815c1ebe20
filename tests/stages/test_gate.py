from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from videoclr.errors import RestorationError
from videoclr.pipeline import FaceNote
from videoclr.stages.gate import Verdict, gate
from videoclr.types import Detection, FaceCrop, Faces, Frame, RestoredFace, TrackedFace

PICTURE = np.zeros((4, 4, 3), np.uint8)
NOWHERE = Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.9)


def face(index: int, track: int = 0, shot: int = 0) -> RestoredFace:
    image = torch.zeros(3, 8, 8)
    crop = FaceCrop(TrackedFace(track, NOWHERE), Frame.from_image(PICTURE, index).in_shot(shot), image, np.eye(2, 3))
    return RestoredFace(crop, image, torch.full((1, 8, 8), 0.5), confidence=0.9)


def clip(count: int, shots: Sequence[int] | None = None) -> list[Faces[RestoredFace]]:
    faces = [face(i, shot=shots[i] if shots else 0) for i in range(count)]
    return [Faces(one.crop.frame, (one,)) for one in faces]


class Says:
    """A judge with its verdicts prepared: frame -> confidence; the trust of the crop's left column is the same."""

    def __init__(self, verdicts: dict[int, float]) -> None:
        self.verdicts = verdicts
        self.remembered: list[set[int]] = []

    def judge(self, faces: Faces[RestoredFace], memory: dict[int, Any]) -> list[Verdict]:
        self.remembered.append(set(memory))
        out = []
        for one in faces.faces:
            memory[one.crop.face.track] = faces.frame.index
            value = self.verdicts.get(faces.frame.index, 1.0)
            trust = torch.ones(1, 8, 8)
            trust[..., 0] = value
            out.append(Verdict(value, trust, {"pose": value} if value < 1 else {}))
        return out


def confidences(restored: Sequence[Faces[RestoredFace]], verdicts: dict[int, float], smoothing: int) -> list[float]:
    return [round(one.faces[0].confidence, 4) for one in gate(restored, Says(verdicts), smoothing)]


def test_full_confidence_changes_nothing() -> None:
    source = clip(6)
    for before, after in zip(source, gate(source, Says({}), 2), strict=True):
        (one,), (other,) = before.faces, after.faces
        assert other.confidence == one.confidence and other.reasons == {} and torch.equal(other.mask, one.mask)
        assert other.trust is not None and torch.equal(other.trust, torch.ones(1, 8, 8))


def test_a_judge_that_changes_what_it_looks_at_is_named() -> None:
    class Halves(Says):
        def judge(self, faces: Faces[RestoredFace], memory: dict[int, Any]) -> list[Verdict]:
            pixels = faces.faces[0].mask.numpy()
            pixels *= 0.5
            return super().judge(faces, memory)

    with pytest.raises(RestorationError, match=r"^frame 0: the judge changed its faces in place, "):
        list(gate(clip(2), Halves({})))


def test_every_frame_comes_out_in_order() -> None:
    source = clip(9, shots=[0, 0, 0, 1, 1, 1, 1, 2, 2])
    source[4] = Faces(source[4].frame, looked=False)
    out = list(gate(source, Says({}), 2))
    assert [one.frame for one in out] == [one.frame for one in source]
    assert [len(one.faces) for one in out] == [1] * 4 + [0] + [1] * 4
    assert not out[4].looked


def test_confidence_and_trust_reach_the_face_and_its_mask() -> None:
    (one,) = next(gate(clip(1), Says({0: 0.4}), 2)).faces
    assert one.confidence == pytest.approx(0.9 * 0.4) and one.reasons == {"pose": 0.4}
    assert one.trust is not None
    torch.testing.assert_close(one.trust[0, 0, :2], torch.tensor([0.4, 1.0]))
    torch.testing.assert_close(one.mask[0, 0, :2], torch.tensor([0.2, 0.5]))
    assert one.whole is not None and torch.equal(one.whole, torch.full((1, 8, 8), 0.5))


def test_the_report_counts_what_is_not_trusted_at_all() -> None:
    for value in (0.0, 0.5, 1.0):
        (one,) = next(gate(clip(1), Says({0: value}), 0)).faces
        note = FaceNote.of(one)
        assert note.trusted_share == pytest.approx(1 - (1 - value) / 8)
        assert note.invented == pytest.approx((1 - value) / 8)


def test_one_bad_frame_is_as_bad_as_it_is_and_its_neighbours_lead_to_it() -> None:
    found = confidences(clip(11), {5: 0.0}, 1)
    assert found == [0.9] * 3 + [0.6, 0.3, 0.0, 0.3, 0.6] + [0.9] * 3
    assert confidences(clip(11), {5: 0.0}, 0) == [0.9] * 5 + [0.0] + [0.9] * 5


def test_neighbours_of_a_bad_frame_say_what_lowered_them() -> None:
    found = [dict(one.faces[0].reasons) for one in gate(clip(9), Says({4: 0.0}), 1)]
    assert found == [{}] * 2 + [{"pose": 0.0}] * 5 + [{}] * 2
    slight = [dict(one.faces[0].reasons) for one in gate(clip(5), Says({2: 0.95}), 1)]
    assert slight == [{}, {}, {"pose": 0.95}, {}, {}], "what hardly moves them is no reason"


@pytest.mark.parametrize("smoothing", [0, 1, 3])
def test_nothing_is_ever_raised(smoothing: int) -> None:
    values = np.random.default_rng(0).uniform(0, 1, 30).tolist()
    source = clip(30)
    for value, before, after in zip(values, source, gate(source, Says(dict(enumerate(values))), smoothing), strict=True):
        assert after.faces[0].confidence <= 0.9 * value + 1e-6
        assert bool((after.faces[0].mask <= before.faces[0].mask + 1e-6).all())


def test_nothing_crosses_a_cut_or_a_gap() -> None:
    across = confidences(clip(8, shots=[0] * 4 + [1] * 4), {3: 0.0}, 2)
    assert across[3] == 0 and across[4:] == [0.9] * 4
    gap = clip(9)
    gap[4] = Faces(gap[4].frame)
    out = [one.faces[0].confidence for one in gate(gap, Says({3: 0.0}), 2) if one.faces]
    assert out[3] == 0 and out[4:] == [0.9] * 4


def test_memory_ends_with_the_shot_and_after_a_long_absence() -> None:
    says = Says({})
    list(gate(clip(4, shots=[0, 0, 1, 1]), says, 0))
    assert says.remembered == [set(), {0}, set(), {0}]
    late = [*clip(1), *(Faces(Frame.from_image(PICTURE, i)) for i in range(1, 60)), Faces((one := face(60)).crop.frame, (one,))]
    says = Says({})
    list(gate(late, says, 0))
    assert says.remembered == [set(), set()]


def test_a_judge_that_forgets_a_face_is_caught() -> None:
    class Silent:
        def judge(self, faces: Faces[RestoredFace], memory: dict[int, Any]) -> list[Verdict]:
            return []

    with pytest.raises(RestorationError, match="frame 0: the judge gave 0 verdicts on 1 faces"):
        list(gate(clip(1), Silent()))


def test_without_maps_the_mask_stays() -> None:
    class Plain:
        def judge(self, faces: Faces[RestoredFace], memory: dict[int, Any]) -> list[Verdict]:
            return [Verdict(0.5, None, {"size": 0.5}) for _ in faces.faces]

    source = clip(3)
    for before, after in zip(source, gate(source, Plain()), strict=True):
        assert after.faces[0].trust is None and after.faces[0].mask is before.faces[0].mask
        assert after.faces[0].confidence == pytest.approx(0.45)


def test_a_judge_that_fails_stops_at_its_frame() -> None:
    class Harsh(Says):
        def judge(self, faces: Faces[RestoredFace], memory: dict[int, Any]) -> list[Verdict]:
            if faces.frame.index == 3:
                raise RuntimeError("contempt")
            return super().judge(faces, memory)

    with pytest.raises(RestorationError, match="frame 3: the judge raised RuntimeError: contempt"):
        list(gate(clip(5), Harsh({})))


class Gives:
    """A judge that gives the same for every frame."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def judge(self, faces: Faces[RestoredFace], memory: dict[int, Any]) -> list[Verdict]:
        return self.given  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "frame 0: the judge gave None, expected a list of verdicts"),
        ([None], "frame 0, track 0: the judge gave None, expected a Verdict"),
        ([Verdict(1.0, None, ["pose"])], "frame 0, track 0: the judge gave as reasons a list, expected a dict"),  # type: ignore[arg-type]
        ([Verdict(1.0, torch.ones(1, 4, 4), {})], r"the judge gave \(1, 4, 4\), expected \(1, 8, 8\)"),
        ([Verdict(float("nan"), None, {})], "the judge gave NaN or infinite values"),
        ([Verdict(1.0, torch.full((1, 8, 8), torch.nan), {})], "the judge gave NaN or infinite values"),
    ],
)
def test_what_is_no_verdict_is_named_where_the_judge_gave_it(given: Any, expected: str) -> None:
    with pytest.raises(RestorationError, match=expected):
        list(gate(clip(1), Gives(given)))


@pytest.mark.parametrize(("said", "counts"), [(3.0, 1.0), (-1.0, 0.0)])
def test_a_confidence_beyond_its_range_counts_as_its_end(said: float, counts: float) -> None:
    (one,) = next(gate(clip(1), Gives([Verdict(said, None, {})]), 0)).faces
    assert one.confidence == pytest.approx(0.9 * counts)


def test_a_judge_may_use_its_memory_again() -> None:
    class Again(Says):
        map = torch.zeros(1, 8, 8)

        def judge(self, faces: Faces[RestoredFace], memory: dict[int, Any]) -> list[Verdict]:
            return [Verdict(1.0, self.map.fill_(faces.frame.index / 10), {})]

    trust = [one.faces[0].trust for one in gate(clip(9), Again({}), smoothing=1)]
    assert [round(float(one.max()), 2) for one in trust if one is not None] == [0.0, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65]
