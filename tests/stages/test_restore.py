from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from videoclr.errors import DeviceError, RestorationError, VideoclrError, WeightsError
from videoclr.parts.feather import Feather
from videoclr.parts.unchanged import Unchanged
from videoclr.stages.restore import restore
from videoclr.types import Detection, FaceCrop, Faces, Frame, RestoredFace, TrackedFace

PICTURE = np.zeros((4, 4, 3), np.uint8)
NOWHERE = Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.9)


def clip(counts: Sequence[int], shots: Sequence[int] | None = None) -> list[Faces[FaceCrop]]:
    """Frames with the given numbers of faces; track = 10 * shot + place; the crop's value tells frame and place."""
    out = []
    for index, count in enumerate(counts):
        shot = shots[index] if shots else 0
        frame = Frame.from_image(PICTURE, index).in_shot(shot)
        crops = tuple(
            FaceCrop(
                TrackedFace(10 * shot + place, NOWHERE),
                frame,
                torch.full((3, 16, 16), index / 100 + place / 1000),
                np.eye(2, 3),
                torch.tensor([1.0, 0.0]),
            )
            for place in range(count)
        )
        out.append(Faces(frame, crops))
    return out


class Counts(Unchanged):
    """Unchanged, but remembers per track how often it saw it and fails where it is told to."""

    def __init__(self, fail: set[tuple[int, int]] = frozenset(), nan: set[tuple[int, int]] = frozenset()) -> None:  # type: ignore[assignment]
        super().__init__(16)
        self.fail = fail
        self.nan = nan
        self.batches: list[list[tuple[int, int]]] = []
        self.memories: list[set[int]] = []

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
        keys = [(crop.frame.index, crop.face.track) for crop in crops]
        if self.fail & set(keys):
            raise ArithmeticError("no such\nface")
        self.batches.append(keys)
        self.memories.append(set(memory))
        for _, track in keys:
            memory[track] = memory.get(track, 0) + 1
        images = super().restore(crops, memory).clone()
        for place, key in enumerate(keys):
            if key in self.nan:
                images[place, 0, 0, 0] = torch.nan
        return images


def run(found: list[Faces[FaceCrop]], restorer: Unchanged, **options: Any) -> list[Faces[RestoredFace]]:
    done = list(restore(found, restorer, Feather(), **options))
    assert [one.frame for one in done] == [one.frame for one in found]
    return done


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 50])
def test_every_face_comes_back_to_its_frame_whatever_the_batch(batch: int) -> None:
    found = clip([1, 0, 3, 5, 0, 0, 2, 1, 0])
    restorer = Counts()
    done = run(found, restorer, batch=batch)
    for before, after in zip(found, done, strict=True):
        assert [face.crop for face in after.faces] == list(before.faces)
        assert all(torch.equal(face.image, face.crop.image) for face in after.faces)
        assert all(face.mask.shape == (1, 16, 16) for face in after.faces)
    assert max(map(len, restorer.batches)) <= batch


def test_faces_of_consecutive_frames_share_a_call() -> None:
    restorer = Counts()
    run(clip([1] * 8), restorer, batch=4)
    assert [len(batch) for batch in restorer.batches] == [4, 4]


def test_a_call_never_holds_two_shots() -> None:
    restorer = Counts()
    run(clip([1, 1, 1, 1, 1], shots=[0, 0, 1, 1, 1]), restorer, batch=4)
    assert [[track for _, track in batch] for batch in restorer.batches] == [[0, 0], [10, 10, 10]]


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_memory_dies_at_the_cut(batch: int) -> None:
    restorer = Counts()
    run(clip([1, 1, 1, 1, 1], shots=[0, 0, 1, 1, 1]), restorer, batch=batch)
    for keys, memory in zip(restorer.batches, restorer.memories, strict=True):
        assert memory <= {track for _, track in keys}


def test_memory_lives_as_long_as_its_track() -> None:
    restorer = Counts()
    run(clip([2, 2, *[1] * 60]), restorer, batch=1)
    assert {0, 1} in restorer.memories  # both tracks are remembered for a while
    assert restorer.memories[-1] == {0}  # and the one that left is not


def test_frames_without_faces_do_not_wait() -> None:
    taken = 0

    def source() -> Iterator[Faces[FaceCrop]]:
        nonlocal taken
        for one in clip([0] * 5 + [1] + [0] * 30):
            taken += 1
            yield one

    done = restore(source(), Counts(), Feather(), batch=4)
    next(done)
    assert taken == 1
    for _ in range(5):
        next(done)
    assert taken <= 6 + 8


def test_stop_names_frame_and_track_and_keeps_the_cause() -> None:
    with pytest.raises(RestorationError, match=r"frame 2, track 1: the restorer raised ArithmeticError: no such face") as raised:
        run(clip([2] * 4), Counts(fail={(2, 1)}), batch=1)
    assert isinstance(raised.value.__cause__, ArithmeticError)
    assert (raised.value.frame, raised.value.track) == (2, 1)


@pytest.mark.parametrize("kind", ["fail", "nan"])
@pytest.mark.parametrize("batch", [1, 4])
def test_keep_leaves_out_the_bad_face_only_and_says_so(kind: str, batch: int) -> None:
    warnings: list[str] = []
    bad = {kind: {(1, 1), (2, 1), (3, 0)}}
    done = run(clip([2] * 5), Counts(**bad), batch=batch, on_error="keep", warnings=warnings)  # type: ignore[arg-type]
    kept = [[face.crop.face.track for face in one.faces] for one in done]
    assert kept == [[0, 1], [0], [0], [1], [0, 1]]
    assert len(warnings) == 2
    assert warnings[0].startswith("track 1: 2 face(s) left as they were, frames 1 to 2")
    assert warnings[1].startswith("track 0: 1 face(s)")
    again = list(warnings)  # a run that was stopped, and begins with the shot once more
    run(clip([2] * 5), Counts(**bad), batch=batch, on_error="keep", warnings=again)  # type: ignore[arg-type]
    assert again == warnings


@pytest.mark.parametrize("batch", [1, 3])
def test_nan_never_stops_a_run_the_face_is_left_as_it_was_and_reported(batch: int) -> None:
    warnings: list[str] = []
    done = run(clip([1, 2, 1]), Counts(nan={(1, 0)}), batch=batch, warnings=warnings)
    assert [[face.crop.face.track for face in one.faces] for one in done] == [[0], [1], [0]]
    assert len(warnings) == 1
    assert "track 0: 1 face(s) left as they were, frames 1 to 1" in warnings[0] and "NaN" in warnings[0]


class Reduced(Counts):
    """Gives NaN where its float32 self does not."""

    @property
    def exact(self) -> Counts:
        return Counts(nan={(3, 0)})


def test_nan_of_a_reduced_precision_is_restored_again_in_float32() -> None:
    warnings: list[str] = []
    done = run(clip([1] * 4), Reduced(nan={(1, 0), (3, 0)}), batch=4, warnings=warnings)
    assert [len(one.faces) for one in done] == [1, 1, 1, 0]
    assert bool(torch.isfinite(done[1].faces[0].image).all())
    assert len(warnings) == 1 and "frames 3 to 3" in warnings[0]


class Cramped(Counts):
    """Has memory for `most` faces at once."""

    def __init__(self, most: int, words: str = "CUDA out of memory. Tried to allocate 2.00 GiB") -> None:
        super().__init__()
        self.most, self.words = most, words
        self.asked: list[int] = []

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
        self.asked.append(len(crops))
        if len(crops) > self.most:
            raise torch.OutOfMemoryError(self.words)
        return super().restore(crops, memory)


def test_what_other_stages_told_of_a_track_stays_beside_what_restoring_tells_of_it() -> None:
    others = [
        "track 0: the landmarks span no face, in frame 1 first: its face is left as it is there",
        "track 0: face(s) without the detail of a close-up, first in frame 1: frame 1, track 0: no",
    ]
    warnings = list(others)
    run(clip([1] * 4), Counts(fail={(2, 0)}), on_error="keep", warnings=warnings)
    assert warnings[:2] == others and len(warnings) == 3
    run(clip([1] * 4), Counts(fail={(2, 0), (3, 0)}), on_error="keep", warnings=warnings)
    assert warnings[:2] == others and len(warnings) == 3
    assert warnings[2].startswith("track 0: 2 face(s) left as they were, frames 2 to 3: "), "its own line goes on"


def test_keep_takes_errors_of_ones_own_kind_and_not_those_of_the_whole_run() -> None:
    class Mine(VideoclrError):
        """Of somebody's own restorer."""

    class Picky(Unchanged):
        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            if any(crop.frame.index == 3 for crop in crops):
                raise error
            return super().restore(crops, memory)

    warnings: list[str] = []
    error: VideoclrError = Mine("no face")
    done = run(clip([1] * 5), Picky(16), batch=2, on_error="keep", warnings=warnings)
    assert [len(one.faces) for one in done] == [1, 1, 1, 0, 1]
    assert warnings == ["track 0: 1 face(s) left as they were, frames 3 to 3: frame 3, track 0: the restorer raised Mine: no face"]
    error = WeightsError("mine.safetensors", "is missing")
    with pytest.raises(WeightsError):
        run(clip([1] * 5), Picky(16), batch=2, on_error="keep")


@pytest.mark.parametrize("on_error", ["stop", "keep"])
def test_out_of_memory_halves_the_batch_once_and_goes_on_with_it(on_error: str) -> None:
    warnings: list[str] = []
    restorer = Cramped(2)
    done = run(clip([1] * 16), restorer, batch=8, on_error=on_error, warnings=warnings)
    assert all(len(one.faces) == 1 for one in done)
    assert restorer.asked == [8, 4, *[2] * 8]
    assert warnings == ["the device's memory does not suffice for runtime.batch 8: went on with 2"]


@pytest.mark.parametrize("on_error", ["stop", "keep"])
def test_out_of_memory_with_one_face_ends_the_run_and_says_what_to_do(on_error: str) -> None:
    with pytest.raises(DeviceError, match=r"out of memory with one item at a time.*--device cpu") as raised:
        run(clip([1] * 4), Cramped(0), batch=4, on_error=on_error)
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)


@pytest.mark.parametrize("on_error", ["stop", "keep"])
def test_a_lost_device_ends_the_run_at_once(on_error: str) -> None:
    class Lost(Counts):
        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            self.batches.append([])
            raise RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")

    restorer = Lost()
    with pytest.raises(DeviceError, match=r"the device failed \(CUDA error: unspecified launch failure\); start again"):
        run(clip([1] * 4), restorer, batch=2, on_error=on_error)
    assert len(restorer.batches) == 1


def test_wrong_shapes_stop_the_run() -> None:
    class Small(Unchanged):
        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            return super().restore(crops, memory)[..., :8]

    with pytest.raises(RestorationError, match=r"gave \(1, 3, 16, 8\), expected \(1, 3, 16, 16\)"):
        run(clip([1]), Small(16))


def test_values_beyond_the_range_are_clamped() -> None:
    class Loud(Unchanged):
        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            return super().restore(crops, memory) + 5

    assert float(run(clip([1]), Loud(16))[0].faces[0].image.max()) == 1


def test_values_far_beyond_the_range_are_told_once() -> None:
    class Times(Unchanged):
        def __init__(self, factor: float) -> None:
            super().__init__(16)
            self.factor = factor

        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            return torch.full((len(crops), 3, 16, 16), float(self.factor))

        def mask(self, crops: Sequence[FaceCrop], images: Tensor) -> Tensor:
            return torch.full((len(crops), 1, 16, 16), float(self.factor))

    warnings: list[str] = []
    list(restore(clip([1] * 9), Times(255), Times(127), batch=2, warnings=warnings))
    assert warnings == [
        "the restorer gives values beyond [-1, 1], up to 255 in frame 0, track 0: they are cut off, so scale them",
        "the masker gives values beyond [0, 1], up to 127 in frame 0, track 0: they are cut off, so scale them",
    ]
    list(restore(clip([1]), Times(1.5), Times(1.5), warnings=(overshoot := [])))
    assert overshoot == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.complex64])
def test_restored_faces_that_are_no_floats_are_refused(dtype: torch.dtype) -> None:
    class Codes(Unchanged):
        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            return super().restore(crops, memory).to(dtype)

    with pytest.raises(RestorationError, match=f"^frame 0, track 0: the restorer gave {dtype}, expected floats in "):
        run(clip([1]), Codes(16))


def test_a_part_that_changes_what_others_look_at_is_named() -> None:
    class Writes(Unchanged):
        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            with torch.inference_mode():
                return torch.stack([crop.image.add_(0.1) for crop in crops])

    class Draws(Feather):
        def mask(self, crops: Sequence[FaceCrop], images: Tensor) -> Tensor:
            images[:] = 1
            return super().mask(crops, images)

    with pytest.raises(RestorationError, match=r"^frame 0, track 0: the restorer changed crop.image in place, .* a clone\(\)$"):
        run(clip([1]), Writes(16))

    class Normalizes(Unchanged):
        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            for crop in crops:
                pixels = crop.image.numpy()  # the same memory, of whose changes torch knows nothing
                pixels += 1
            return super().restore(crops, memory)

    with pytest.raises(RestorationError, match=r"^frame 0, track 0: the restorer changed crop.image in place, .* a clone\(\)$"):
        run(clip([1]), Normalizes(16))
    with pytest.raises(RestorationError, match=r"^frame 0, track 0: the masker changed its images in place"):
        list(restore(clip([1]), Unchanged(16), Draws()))


def test_similarity_is_measured_against_the_identity_where_there_is_one() -> None:
    class Half:
        def embed(self, crops: Tensor) -> Tensor:
            return torch.tensor([[0.6, 0.8]]).expand(len(crops), 2)

    assert run(clip([1]), Counts(), recognizer=Half())[0].faces[0].similarity == pytest.approx(0.6)
    assert run(clip([1]), Counts())[0].faces[0].similarity is None


def test_gradients_are_free_inside_a_restorer_and_gone_behind_it() -> None:
    class Guided(Unchanged):
        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            return super().restore(crops, memory).requires_grad_()

    assert not run(clip([1]), Guided(16))[0].faces[0].image.requires_grad


class Looks(Counts):
    """Looks along a track: gives the mean of a crop and the next, and remembers what it was asked."""

    anchors = 4
    reach = 2

    def __init__(self, **bad: Any) -> None:
        super().__init__(**bad)
        self.spans: list[tuple[int, list[int], list[int], bool]] = []

    def restore_span(
        self, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], first: bool, memory: dict[int, Any], batch: int
    ) -> Tensor:
        track = crops[0].face.track
        assert {crop.face.track for crop in [*crops, *after]} == {track}
        assert {crop.frame.shot for crop in [*crops, *after]} == {crops[0].frame.shot}
        self.spans.append((track, [c.frame.index for c in crops], [c.frame.index for c in after], first))
        keys = {(crop.frame.index, track) for crop in [*crops, *after]}
        if self.fail & keys:
            raise ArithmeticError("no such\nface")
        memory[track] = crops[-1].frame.index
        self.memories.append(set(memory))
        near = [*crops, *after][1 : len(crops) + 1]
        near += [crops[-1]] * (len(crops) - len(near))
        images = torch.stack([(one.image + other.image) / 2 for one, other in zip(crops, near, strict=True)])
        for place, crop in enumerate(crops):
            if (crop.frame.index, track) in self.nan:
                images[place, 0, 0, 0] = torch.nan
        return images


def pixels(done: list[Faces[RestoredFace]]) -> list[list[float]]:
    return [[float(face.image[0, 0, 0]) for face in faces.faces] for faces in done]


def test_spans_run_from_anchor_to_anchor_and_show_what_follows() -> None:
    restorer = Looks()
    run(clip([1] * 12), restorer)
    assert restorer.spans == [
        (0, [0, 1, 2, 3, 4], [5, 6], True),
        (0, [5, 6, 7, 8], [9, 10], False),
        (0, [9, 10, 11], [], False),
    ]
    assert restorer.batches == []


def test_a_restorer_may_tell_which_frames_it_restored_in_full() -> None:
    class Tells(Looks):
        def full(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> list[bool]:
            return [crop.frame.index == memory[crop.face.track] for crop in crops]

    told = [face.full for faces in run(clip([1] * 7), Tells()) for face in faces.faces]
    assert told == [False, False, False, False, True, False, True]
    assert {face.full for faces in run(clip([1] * 7), Looks()) for face in faces.faces} == {None}


def test_every_track_has_its_own_anchors_and_ends_when_it_is_gone() -> None:
    restorer = Looks()
    run(clip([1, 2, 2, 1, 1, 2]), restorer)
    assert restorer.spans == [(1, [1, 2], [], True), (0, [0, 1, 2, 3, 4], [5], True), (0, [5], [], False), (1, [5], [], True)]


def test_no_span_crosses_a_cut_and_a_shot_is_restored_as_if_it_were_alone() -> None:
    restorer = Looks()
    found = clip([1, 2, 1, 2, 2, 2, 2, 2, 2], shots=[0, 0, 0, 1, 1, 1, 1, 1, 1])
    together = run(found, restorer)
    assert all(memory <= {0, 1} or memory <= {10, 11} for memory in restorer.memories)
    assert pixels(together[3:]) == pixels(run(found[3:], Looks()))


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_spans_know_no_batches(batch: int) -> None:
    found = clip([1, 2, 3, 3, 0, 1, 1, 1, 1, 2, 2, 1])
    one, other = Looks(), Looks()
    assert pixels(run(found, one, batch=batch)) == pixels(run(found, other, batch=3))
    assert one.spans == other.spans


def test_the_delay_is_anchors_and_reach_and_bounds_what_is_held() -> None:
    taken, given, held = 0, 0, []

    def source() -> Iterator[Faces[FaceCrop]]:
        nonlocal taken
        for one in clip([2] * 20 + [0] * 3 + [1] * 20):
            taken += 1
            yield one

    for _ in restore(source(), Looks(), Feather()):
        held.append(taken - given)
        given += 1
    assert given == 43 and max(held) == Looks.anchors + Looks.reach + 1


def test_a_restorer_that_turns_looking_off_or_is_told_to_is_asked_face_by_face() -> None:
    off = Looks()
    off.anchors = 1
    run(clip([1] * 4), off)
    told = Looks()
    run(clip([1] * 4), told, along=False)
    assert off.spans == told.spans == [] and len(off.batches) == len(told.batches) == 1


@pytest.mark.parametrize("kind", ["fail", "nan"])
def test_keep_leaves_out_the_bad_face_of_a_span_only_and_the_track_begins_anew(kind: str) -> None:
    warnings: list[str] = []
    bad: dict[str, Any] = {kind: {(6, 0)}}
    restorer = Looks(**bad)
    done = run(clip([1] * 16), restorer, on_error="keep", warnings=warnings)
    assert [len(one.faces) for one in done] == [1] * 6 + [0] + [1] * 9
    assert len(warnings) == 1 and warnings[0].startswith("track 0: 1 face(s) left as they were, frames 6 to 6")
    firsts = {frames[0]: first for _, frames, _, first in restorer.spans}
    assert firsts[0] and any(firsts[start] for start in firsts if start > 6)


def test_stop_names_where_the_span_that_failed_began() -> None:
    with pytest.raises(
        RestorationError, match=r"frame 5, track 0: the restorer raised ArithmeticError \(in a batch of 4\): no such face"
    ):
        run(clip([1] * 9), Looks(fail={(8, 0)}))


def test_nan_in_a_span_never_stops_a_run() -> None:
    warnings: list[str] = []
    done = run(clip([1] * 9), Looks(nan={(6, 0)}), warnings=warnings)
    assert [len(one.faces) for one in done] == [1] * 6 + [0] + [1] * 2
    assert len(warnings) == 1 and "frames 6 to 6" in warnings[0]


class CrampedLooks(Looks):
    """Has memory for two faces per call of a network."""

    def restore_span(
        self, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], first: bool, memory: dict[int, Any], batch: int
    ) -> Tensor:
        if batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().restore_span(crops, after, first, memory, batch)


def test_out_of_memory_in_a_span_halves_the_batch_and_changes_no_pixel() -> None:
    warnings: list[str] = []
    restorer, plenty = CrampedLooks(), Looks()
    done = run(clip([1] * 12), restorer, batch=8, warnings=warnings)
    assert pixels(done) == pixels(run(clip([1] * 12), plenty, batch=8))
    assert restorer.spans == plenty.spans
    assert warnings == ["the device's memory does not suffice for runtime.batch 8: went on with 2"]


class DoubtsItself(Unchanged):
    def __init__(self) -> None:
        super().__init__(16)

    def invented(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> list[Tensor | None]:
        return [None if crop.frame.index else torch.full((1, 16, 16), 0.25) for crop in crops]


@pytest.mark.parametrize("method", ["invented", "seen"])
@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_a_restorer_that_fails_to_tell_of_its_faces_is_named(method: str, kind: type[BaseException]) -> None:
    class Silent(Unchanged):
        pass

    def fails(self: Silent, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> list[Tensor | None]:
        raise kind("no map")

    setattr(Silent, method, fails)
    with pytest.raises(RestorationError, match=f"^frame 0, track 0: the restorer raised {kind.__name__}: no map$"):
        list(restore(clip([1]), Silent(16), Feather()))


def test_what_a_restorer_took_back_travels_with_the_face_and_joins_the_gates_map() -> None:
    first, second = (one.faces[0] for one in restore(clip([1, 1]), DoubtsItself(), Feather()))
    assert first.invented is not None and second.invented is None
    assert second.hallucination is None
    trust = torch.ones(1, 16, 16)
    trust[:, :8] = 0.5
    both = replace(first, trust=trust).hallucination
    assert both is not None and both[0, 0, 0] == 0.5 and both[0, -1, 0] == 0.25
    alone = replace(second, trust=trust).hallucination
    assert alone is not None and alone[0, 0, 0] == 0.5 and alone[0, -1, 0] == 0
    assert all(one.faces[0].invented is None for one in restore(clip([1]), Unchanged(16), Feather()))


class SeesMore(Unchanged):
    def __init__(self) -> None:
        super().__init__(16)

    def seen(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> list[Tensor | None]:
        return [None if crop.frame.index else torch.full((3, 16, 16), 0.25) for crop in crops]


def test_what_a_restorer_saw_travels_with_the_face() -> None:
    first, second = (one.faces[0] for one in restore(clip([1, 1]), SeesMore(), Feather()))
    assert first.seen is not None and float(first.seen.max()) == 0.25 and second.seen is None
    assert all(one.faces[0].seen is None for one in restore(clip([1]), Unchanged(16), Feather()))


@pytest.mark.parametrize("method", ["invented", "seen"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, r"gave None for 1 face\(s\)"),
        ([], r"gave 0 maps for 1 face\(s\)"),
        ([torch.ones(16, 16)], r"gave \(1, 16, 16\), expected \(1, [13], 16, 16\)"),
    ],
)
def test_maps_that_are_none_are_named(method: str, given: Any, expected: str) -> None:
    class Tells(Unchanged):
        pass

    setattr(Tells, method, lambda *_: given)
    with pytest.raises(RestorationError, match=f"^frame 0, track 0: the restorer {expected}$"):
        list(restore(clip([1]), Tells(16), Feather()))


def test_maps_may_lie_in_memory_that_is_used_again() -> None:
    class Again(Unchanged):
        map = torch.zeros(1, 16, 16)

        def invented(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> list[Tensor | None]:
            return [self.map.fill_(crops[0].frame.index / 10)]

    found = [one.faces[0].invented for one in list(restore(clip([1] * 3), Again(16), Feather(), batch=1))]
    assert [round(float(one.max()), 1) for one in found if one is not None] == [0.0, 0.1, 0.2]


def test_each_part_is_blamed_for_what_is_its_own() -> None:
    class Torn(Feather):
        def mask(self, crops: Sequence[FaceCrop], images: Tensor) -> Tensor:
            raise RuntimeError("torn")

    class Stranger:
        def embed(self, crops: Tensor) -> Tensor:
            raise RuntimeError("who?")

    with pytest.raises(RestorationError, match="frame 0, track 0: the masker raised RuntimeError: torn"):
        list(restore(clip([1]), Unchanged(16), Torn()))
    with pytest.raises(RestorationError, match=r"frame 0, track 0: the recognizer raised RuntimeError: who\?"):
        list(restore(clip([1]), Unchanged(16), Feather(), Stranger()))
