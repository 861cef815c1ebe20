from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from videoclr.parts.overlap_tracker import OverlapTracker, overlap
from videoclr.types import Detection, Faces, Frame, TrackedFace


def detection(x: float, y: float = 50, size: float = 40, score: float = 0.9) -> Detection:
    box = np.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2], np.float32)
    shape = np.array([[-0.2, -0.1], [0.2, -0.1], [0, 0.1], [-0.15, 0.25], [0.15, 0.25]], np.float32)
    return Detection(box, (shape * size + (x, y)).astype(np.float32), score)


def see(tracker: OverlapTracker, *found: Detection, looked: bool = True) -> dict[int, TrackedFace]:
    faces = tracker.update(Faces(Frame(0, Fraction(0)), found, looked=looked))
    assert len({face.track for face in faces}) == len(faces)
    return {face.track: face for face in faces}


def test_two_faces_that_pass_each_other_keep_their_tracks() -> None:
    tracker = OverlapTracker()
    for step in range(30):
        left, right = detection(40 + 6 * step, 40), detection(220 - 6 * step, 75)
        faces = see(tracker, *((left, right) if step % 2 else (right, left)))
        by_track = {track: face.detection for track, face in faces.items()}
        if step == 0:
            names = {track: found is left for track, found in by_track.items()}
        assert {track: found is left for track, found in by_track.items()} == names


def test_a_sure_match_is_not_given_up_for_two_poor_ones() -> None:
    tracker = OverlapTracker()
    first = see(tracker, detection(40, size=100), detection(120, size=100))
    staying = next(number for number, face in first.items() if face.detection.box[0] > 0)
    faces = see(tracker, detection(120, size=100), detection(200, size=100))  # the left one went, another came to the right
    assert faces[staying].detection.box[0] == 70 and len(faces.keys() - first.keys()) == 1


def test_a_quick_small_face_is_followed() -> None:
    tracker = OverlapTracker()
    tracks = {track for step in range(20) for track in see(tracker, detection(30 + 18 * step, size=24))}
    assert tracks == {0}


def test_an_unsure_detection_continues_a_track_but_starts_none() -> None:
    tracker = OverlapTracker(threshold=0.6, low_threshold=0.25)
    assert see(tracker, detection(200, score=0.5)) == {}
    (track,) = see(tracker, detection(50))
    assert list(see(tracker, detection(51, score=0.3))) == [track]
    assert see(tracker, detection(52, score=0.2)) == {}


def test_after_a_missed_look_an_unsure_detection_continues_a_track_only_where_it_was_going() -> None:
    for place, same in ((52, True), (75, False)):
        tracker = OverlapTracker(threshold=0.6, low_threshold=0.25)
        (track,) = see(tracker, detection(50))
        assert see(tracker) == {}
        assert (list(see(tracker, detection(place, score=0.3))) == [track]) is same


def test_a_track_waits_max_gap_frames_and_no_longer() -> None:
    for missing, same in ((3, True), (4, False)):
        tracker = OverlapTracker(max_gap=3)
        (first,) = see(tracker, detection(50))
        for _ in range(missing):
            assert see(tracker) == {}
        assert (list(see(tracker, detection(50))) == [first]) is same


def test_numbers_go_on_after_a_reset() -> None:
    tracker = OverlapTracker()
    (first,) = see(tracker, detection(50))
    tracker.reset()
    (second,) = see(tracker, detection(50))
    assert second > first


def test_between_looks_it_supposes_places_less_and_less_surely() -> None:
    tracker = OverlapTracker()
    for step in range(8):
        see(tracker, detection(50 + 4 * step))
    guesses = [see(tracker, looked=False)[0] for _ in range(3)]
    assert not any(face.observed for face in guesses)
    scores = [face.detection.score for face in guesses]
    assert scores == sorted(scores, reverse=True) and scores[0] < 0.9
    centre = guesses[-1].detection.box.reshape(2, 2).mean(0)
    np.testing.assert_allclose(centre, (50 + 4 * 10, 50), atol=3)
    np.testing.assert_allclose(guesses[-1].detection.landmarks.mean(0), detection(90).landmarks.mean(0), atol=3)
    assert guesses[-1].detection.box.dtype == guesses[-1].detection.landmarks.dtype == np.float32


def test_what_the_last_look_missed_is_not_supposed() -> None:
    tracker = OverlapTracker()
    see(tracker, detection(50))
    see(tracker)
    assert see(tracker, looked=False) == {}


def test_overlap_of_grown_boxes() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    assert overlap(box, box)[0, 0] == 1
    assert overlap(box, box + 100)[0, 0] == 0
    assert overlap(box, box + np.array([11, 0, 11, 0]))[0, 0] > 0  # side by side: they meet once grown
    assert overlap(box, box + np.array([11, 0, 11, 0]), grow=0)[0, 0] == 0


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="low_threshold"):
        OverlapTracker(threshold=0.2, low_threshold=0.5)
