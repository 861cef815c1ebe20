from __future__ import annotations

import numpy as np
import pytest

from videoclr.errors import RestorationError
from videoclr.stages.cuts import cuts
from videoclr.types import Frame


def frames(count: int) -> list[Frame]:
    return [Frame.from_image(np.zeros((4, 4, 3), np.uint8), index) for index in range(count)]


class At:
    """Cuts at given frames, told `delay` frames later."""

    def __init__(self, where: set[int], delay: int = 0) -> None:
        self.where = where
        self.delay = delay
        self.calls = 0

    def is_cut(self, frame: Frame) -> bool:
        self.calls += 1
        return self.calls - 1 - self.delay in self.where


class Plain:
    """A detector that declares no delay."""

    def is_cut(self, frame: Frame) -> bool:
        return frame.index == 2


@pytest.mark.parametrize("delay", [0, 1, 3, 20])
def test_the_frame_at_the_cut_carries_the_new_number_whatever_the_delay(delay: int) -> None:
    numbered = list(cuts(frames(8), At({3, 4, 7}, delay)))
    assert [frame.index for frame in numbered] == list(range(8))
    assert [frame.shot for frame in numbered] == [0, 0, 0, 1, 2, 2, 2, 3]


def test_a_detector_need_not_declare_a_delay() -> None:
    assert [frame.shot for frame in cuts(frames(4), Plain())] == [0, 0, 1, 1]


def test_the_first_frame_is_no_cut_and_goes_on_counting_from_its_number() -> None:
    resumed = [frame.in_shot(7) for frame in frames(3)]
    assert [frame.shot for frame in cuts(resumed, At({0, 2}))] == [7, 7, 8]


def test_frames_of_the_first_shot_are_the_same_objects() -> None:
    source = frames(3)
    assert all(a is b for a, b in zip(cuts(source, At(set())), source, strict=True))


def test_no_frames_no_complaint() -> None:
    assert list(cuts([], At(set(), 3))) == []


def test_every_frame_knows_where_its_shot_starts() -> None:
    assert [frame.shot_start for frame in cuts(frames(6), At({2, 5}, 1))] == [0, 0, 2, 2, 2, 5]
    resumed = [frame.in_shot(7, -3) for frame in frames(2)]
    assert [frame.shot_start for frame in cuts(resumed, At(set()))] == [-3, -3]


def test_a_detector_that_fails_stops_at_the_frame_that_it_was_shown() -> None:
    class Broken(At):
        def is_cut(self, frame: Frame) -> bool:
            if frame.index == 3:
                raise RuntimeError("scissors")
            return super().is_cut(frame)

    for delay in (0, 2, 9):
        with pytest.raises(RestorationError, match="frame 3: the cut detector raised RuntimeError: scissors"):
            list(cuts(frames(4), Broken(set(), delay)))


def test_an_answer_that_is_neither_yes_nor_no_is_the_detectors_fault() -> None:
    class Unsure:
        def is_cut(self, frame: Frame) -> bool:
            return np.array([True, False])  # type: ignore[return-value]

    with pytest.raises(RestorationError, match="frame 0: the cut detector raised ValueError: The truth value"):
        list(cuts(frames(2), Unsure()))


@pytest.mark.parametrize("delay", [None, "x", -1, 2.5])
def test_a_delay_that_is_no_number_of_frames_is_told(delay: object) -> None:
    class Late:
        def is_cut(self, _: Frame) -> bool:
            return False

    detector = Late()
    detector.delay = delay  # type: ignore[attr-defined]
    with pytest.raises(RestorationError, match=f"the cut detector has as `delay` {delay!r}, expected a whole number of frames"):
        list(cuts([Frame.from_image(np.zeros((4, 4, 3), np.uint8))], detector))
