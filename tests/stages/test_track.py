from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from videoclr.errors import RestorationError
from videoclr.stages.track import track
from videoclr.types import Detection, Faces, Frame, TrackedFace

PICTURE = np.zeros((4, 4, 3), np.uint8)


def detection(x: float, score: float = 0.9) -> Detection:
    return Detection(np.array([x, 0, x + 10, 10], np.float32), np.full((5, 2), x, np.float32), score)


class Lanes:
    """A tracker that takes `y`-less detections by their lane: track = x // 100. Numbers start again after a reset."""

    def __init__(self) -> None:
        self.resets = 0
        self.last: dict[int, Detection] = {}

    def update(self, found: Faces[Detection]) -> list[TrackedFace]:
        if not found.looked:
            return [TrackedFace(lane, one, observed=False) for lane, one in self.last.items()]
        self.last = {int(one.box[0] // 100): one for one in found.faces}
        return [TrackedFace(lane, one) for lane, one in self.last.items()]

    def reset(self) -> None:
        self.resets += 1
        self.last = {}


def clip(*rows: Sequence[float] | None, shots: Sequence[int] | None = None) -> list[Faces[Detection]]:
    """One row of x positions per frame; None for a frame that the detector skipped."""
    found = []
    for index, row in enumerate(rows):
        frame = Frame.from_image(PICTURE, index).in_shot(shots[index] if shots else 0)
        found.append(Faces(frame, tuple(map(detection, row or ())), looked=row is not None))
    return found


def run(found: list[Faces[Detection]], max_gap: int = 3) -> list[Faces[TrackedFace]]:
    tracked = list(track(found, Lanes, max_gap))
    assert [one.frame for one in tracked] == [one.frame for one in found]
    return tracked


def places(tracked: list[Faces[TrackedFace]]) -> list[list[tuple[int, float, bool]]]:
    return [[(f.track, float(f.detection.box[0]), f.observed) for f in one.faces] for one in tracked]


def test_a_gap_is_filled_along_a_straight_line() -> None:
    assert places(run(clip([10], [12], [], [], [18], [20]))) == [
        [(0, 10, True)],
        [(0, 12, True)],
        [(0, 14, False)],
        [(0, 16, False)],
        [(0, 18, True)],
        [(0, 20, True)],
    ]


def test_faces_stand_in_the_order_of_their_tracks() -> None:
    tracked = places(run(clip([10, 110], [110, 10], [110], [10, 110], [110, 10])))
    assert [[number for number, *_ in faces] for faces in tracked] == [[0, 1]] * 5


@pytest.mark.parametrize("gap", range(6))
def test_a_gap_longer_than_max_gap_stays_open(gap: int) -> None:
    tracked = run(clip([10], [10], *[[]] * gap, [10], [10]), max_gap=3)
    assert [len(one.faces) for one in tracked] == [1, 1, *[1 if gap <= 3 else 0] * gap, 1, 1]


def test_what_is_seen_only_once_is_a_mistake() -> None:
    tracked = run(clip([10], [10], [10, 150], [10], [10], [10], [10], [10]))
    assert {face.track for one in tracked for face in one.faces} == {0}
    assert all(len(one.faces) == 1 for one in tracked)


def test_a_still_and_a_shot_of_one_frame_keep_their_faces() -> None:
    assert places(run(clip([10, 150]))) == [[(0, 10, True), (1, 150, True)]]
    tracked = run(clip([10], [10], [10], shots=[0, 1, 2]))
    assert [one.faces[0].track for one in tracked] == [0, 1, 2]


def test_numbers_are_never_reused_though_the_tracker_starts_again() -> None:
    tracked = run(clip([10], [10], [10], [10], [10, 150], [10, 150], shots=[0, 0, 1, 1, 2, 2]))
    assert [[face.track for face in one.faces] for one in tracked] == [[0], [0], [1], [1], [2, 3], [2, 3]]


def test_nothing_is_filled_across_a_cut_and_the_tracker_is_reset() -> None:
    made: list[Lanes] = []

    def make() -> Lanes:
        made.append(Lanes())
        return made[-1]

    found = clip([10], [10], [], [], [10], [10], shots=[0, 0, 0, 1, 1, 1])
    tracked = list(track(found, make, 5))
    assert [len(one.faces) for one in tracked] == [1, 1, 0, 0, 1, 1]
    assert len(made) == 1 and made[0].resets == 1


def test_skipped_frames_are_filled_between_looks() -> None:
    tracked = run(clip([10], None, None, [16], None, None, [22]))
    assert places(tracked) == [[(0, 10 + 2 * i, i % 3 == 0)] for i in range(7)]
    assert [one.looked for one in tracked] == [i % 3 == 0 for i in range(7)]


def test_after_the_last_look_the_trackers_guess_stands() -> None:
    tracked = run(clip([10], None, None, [16], None, None))
    assert places(tracked)[4:] == [[(0, 16, False)], [(0, 16, False)]]


def test_a_face_that_was_gone_at_the_next_look_is_not_guessed() -> None:
    tracked = run(clip([10], [10], None, None, [], []))
    assert [len(one.faces) for one in tracked] == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("max_gap", [0, 1, 4])
def test_the_delay_is_max_gap(max_gap: int) -> None:
    taken = 0

    def source() -> object:
        nonlocal taken
        for one in clip(*[[10]] * 12):
            taken += 1
            yield one

    tracked = track(source(), Lanes, max_gap)  # type: ignore[arg-type]
    for index in range(8):
        next(tracked)
        assert taken == index + 1 + max_gap


def test_a_tracker_that_fails_stops_at_its_frame() -> None:
    class Lost(Lanes):
        def update(self, found: Faces[Detection]) -> list[TrackedFace]:
            return None if found.frame.index == 1 else super().update(found)  # type: ignore[return-value]

    class Stubborn(Lanes):
        def reset(self) -> None:
            raise RuntimeError("never")

    with pytest.raises(RestorationError, match="frame 1: the tracker raised TypeError: 'NoneType' object is not iterable"):
        list(track(clip([10], [12], [14]), Lost))
    with pytest.raises(RestorationError, match="frame 2: the tracker raised RuntimeError: never"):
        list(track(clip([10], [12], [14], shots=[0, 0, 1]), Stubborn))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([None], "gave None, expected a TrackedFace"),
        ([detection(10)], "gave a Detection, expected a TrackedFace"),
        ([TrackedFace(0, None)], "gave None, expected a Detection"),  # type: ignore[arg-type]
        (
            [TrackedFace(0, Detection(np.zeros(3), np.zeros((5, 2)), 0.9))],
            r"gave as box a ndarray \(3,\), expected an array \(4,\)",
        ),
        ([TrackedFace(0, detection(10), strength=7)], "gave as strength 7, expected a number from 0 to 1"),
        ([TrackedFace(0, detection(10), strength=float("nan"))], "gave as strength nan, expected a number from 0 to 1"),
        ([TrackedFace(0, detection(10))] * 2, r"gave 2 faces of 1 track\(s\), expected one of each"),
    ],
)
def test_what_is_no_face_of_a_track_is_named_where_the_tracker_gave_it(given: list[TrackedFace], expected: str) -> None:
    class Gives(Lanes):
        def update(self, found: Faces[Detection]) -> list[TrackedFace]:
            return given

    with pytest.raises(RestorationError, match=f"^frame 0: the tracker {expected}$"):
        list(track(clip([10]), Gives))


def test_places_that_no_face_can_have_are_left_out() -> None:
    class Lost(Lanes):
        def update(self, found: Faces[Detection]) -> list[TrackedFace]:
            return [TrackedFace(0, detection(float("nan"))), TrackedFace(1, detection(1e30)), TrackedFace(2, detection(10))]

    (found,) = track(clip([10]), Lost)
    assert [float(face.detection.box[0]) for face in found.faces] == [10]


def test_a_tracker_that_cannot_be_made_is_told() -> None:
    with pytest.raises(RestorationError, match="frame 0: the tracker raised TypeError"):
        list(track(clip([10]), lambda: Lanes(1)))  # type: ignore[call-arg]
