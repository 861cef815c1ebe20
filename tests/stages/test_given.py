from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videoclr.errors import MediaError, RestorationError
from videoclr.stages.given import given
from videoclr.tracks import TracksFile
from videoclr.types import Faces, Frame, TrackedFace

WIDTH, HEIGHT = 160, 90
HEAD = {"videoclr": "tracks", "version": 1, "width": WIDTH, "height": HEIGHT, "start": None}
POINTS = [[10, 10], [20, 10], [15, 15], [11, 20], [19, 20]]


def face(track: int, x: float = 5, **more: Any) -> dict[str, Any]:
    return {"track": track, "box": [x, 5, x + 20, 25], "points": POINTS, **more}


def line(frame: int, *faces: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"frame": frame, "time": f"{frame}/25", "faces": list(faces), **more}


def frames(count: int, *, cuts: Sequence[int] = (), first: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[Frame]:
    """`first`: of the film, where the run begins with a part."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    made = []
    for index in range(count):
        shot = sum(index >= cut for cut in cuts)
        made.append(Frame.from_image(picture, index, Frame.from_image(picture, index + first).time).in_shot(shot))
    return made


@pytest.fixture
def book(tmp_path: Path):
    def write(*lines: Any, head: dict[str, Any] | None = None) -> TracksFile:
        path = tmp_path / "tracks.jsonl"
        texts = [one if isinstance(one, str) else json.dumps(one) for one in (head or HEAD, *lines)]
        path.write_text("".join(f"{text}\n" for text in texts))
        return TracksFile(path)

    return write


def places(found: list[Faces[TrackedFace]]) -> list[list[tuple[int, float, bool]]]:
    return [[(one.track, float(one.detection.box[0]), one.observed) for one in faces.faces] for faces in found]


def test_what_stands_there_is_what_there_is(book):
    file = book(line(0), line(1, face(4), face(2, 50, observed=False)), line(2, face(4, 6), looked=False))
    found = list(given(frames(4), file))
    assert places(found) == [[], [(2, 50, False), (4, 5, True)], [(4, 6, True)], []]
    assert [one.looked for one in found] == [True, True, False, True]
    assert found[2].faces[0].detection.landmarks.tolist() == POINTS


def test_fill_draws_a_straight_line_beside_what_is_there(book):
    file = book(line(0, face(1, 10, score=0.5)), line(2, face(3)), line(4, face(1, 18, fill=True)), line(5, face(1, 99)))
    found = list(given(frames(6), file))
    assert places(found) == [
        [(1, 10, True)],
        [(1, 12, False)],
        [(1, 14, False), (3, 5, True)],
        [(1, 16, False)],
        [(1, 18, True)],
        [(1, 99, True)],
    ]
    assert found[1].faces[0].detection.score == 0.5


def test_a_box_alone_gets_its_points_from_the_picture(book):
    bare = {"track": 0, "box": [5, 5, 25, 25]}
    asked = []

    def find(image: np.ndarray, box: np.ndarray) -> np.ndarray:
        asked.append((image.shape, box.tolist()))
        return np.full((5, 2), 7, np.float32)

    file = book(line(0, bare), line(2, {**bare, "box": [9, 5, 29, 25], "fill": True}))
    found = list(given(frames(3), file, find_points=find))
    assert [one.faces[0].detection.landmarks.max() for one in found] == [7, 7, 7]
    assert asked == [((HEIGHT, WIDTH, 3), [x, 5, x + 20, 25]) for x in (5, 7, 9)]
    with pytest.raises(MediaError, match="line 2: track 0 has no points, and the detector in use does not find them"):
        list(given(frames(3), file))


def test_a_larger_film_of_the_same_shape_gets_larger_faces(book):
    file = book(line(0, face(0)))
    (found,) = given(frames(1, size=(2 * WIDTH, 2 * HEIGHT)), file)
    assert found.faces[0].detection.box.tolist() == [10.5, 10.5, 50.5, 50.5]
    assert found.faces[0].detection.landmarks[0].tolist() == [20.5, 20.5]
    with pytest.raises(MediaError, match=r"was made for pictures of 160x90, these are 160x120: of another shape"):
        list(given(frames(1, size=(160, 120)), file))


def test_a_part_of_the_film_is_known_by_its_times(book):
    file = book(line(2, face(0, 2)), line(5, face(0, 5)), {"frame": 6, "faces": [face(0, 6)]}, line(7, face(0, 7)))
    found = list(given(frames(4, first=4), file, start="0.16"))
    assert places(found) == [[], [(0, 5, True)], [(0, 6, True)], [(0, 7, True)]]
    told: list[str] = []
    assert places(list(given(frames(3, first=40), file, start="1.6", warnings=told))) == [[], [], []]
    assert told == [f"{file.path}: no line has the time of a frame of this part, so none of its faces was restored"]


def test_times_that_a_container_rounded_are_those_of_the_frames_and_those_of_another_rate_are_told(book):
    def made_at(rate: int, digits: int) -> TracksFile:
        return book(*({"frame": n, "time": f"{n / rate:.{digits}f}", "faces": [face(0, n)]} for n in range(12)))

    part = [Frame.from_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8), n, Fraction(n + 3, 24)).in_shot(0) for n in range(9)]
    told: list[str] = []
    assert places(list(given(part, made_at(24, 3), start="3f", warnings=told))) == [[(0, n, True)] for n in range(3, 12)]
    assert told == []
    list(given(part, file := made_at(48, 3), start="3f", warnings=told))
    missed = "3 lines tell times between those of the frames, so their faces were not restored"
    assert told == [f"{file.path}: {missed}; was it made of a film of another rate?"]


def test_a_cut_that_is_elsewhere_by_the_times_of_another_rate_is_told_as_such(book):
    file = book(*({"frame": n, "time": f"{n}/30", "faces": [face(int(n >= 12))]} for n in range(20)))
    told = r"track 1 goes on beyond a cut; .*, or, since 15 lines tell times between those of the frames, .* of this rate$"
    with pytest.raises(MediaError, match=told):
        list(given(frames(16, cuts=[12]), file, start="0"))


def test_filled_faces_and_those_without_a_time_are_found_in_a_part(book):
    bare = {"frame": 12, "faces": [face(1, 50)]}
    file = book(line(0, face(0, 0)), line(10, face(0, 10, fill=True)), bare, line(20, face(2, 99)))
    found = places(list(given(frames(10, first=6), file, start="0.24")))
    assert found == [*([(0, x, x == 10)] for x in range(6, 11)), [], [(1, 50, True)], [], [], []]
    told: list[str] = []
    alone = book({"frame": 0, "faces": [face(0)]}, line(30, face(0)))
    assert not any(places(list(given(frames(3, first=0), alone, start="0", warnings=told))))
    assert len(told) == 1 and "no line has the time" in told[0]
    alone = book(line(1, face(0)), {"frame": 30, "faces": [face(0)]})
    assert any(places(list(given(frames(3), alone, start="0", warnings=told))))
    assert "1 lines tell no time" in told[1]


def test_a_filled_face_is_in_every_frame_of_a_part_whose_frames_do_not_follow_each_other_evenly(book):
    times = [Fraction(one, 100) for one in (0, 2, 6, 18, 21, 41, 43, 45, 60, 64)]
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    film = [Frame.from_image(picture, index, time).in_shot(0) for index, time in enumerate(times)]
    ends = [{"frame": n, "time": str(times[n]), "faces": [face(0, 5 + n, fill=n > 1)]} for n in (1, 8)]
    part = [Frame.from_image(picture, index, one.time).in_shot(0) for index, one in enumerate(film[3:])]
    told: list[str] = []
    found = places(list(given(part, book(*ends), start="0.18", warnings=told)))
    assert [len(faces) for faces in found] == [1, 1, 1, 1, 1, 1, 0] and told == []
    lefts = [faces[0][1] for faces in found[:-1]]
    assert lefts == sorted(lefts) and lefts[-1] == 13 and all(6 < left < 13 for left in lefts[:-1])
    held = places(list(given(film, book(*ends), start="0", warnings=told)))
    assert [len(faces) for faces in held] == [0, 1, 1, 1, 1, 1, 1, 1, 1, 0] and told == []


def test_a_run_that_goes_on_at_a_cut_knows_the_tracks_before_it(book):
    file = book(line(0, face(3)), line(2, face(4)), line(3, face(3)))
    rest = frames(4, cuts=[2])[2:]
    with pytest.raises(MediaError, match="line 4: track 3 goes on beyond a cut"):
        list(given(rest, file, first=4))
    fine = list(given(rest, book(line(0, face(3)), line(3, face(4))), first=4))
    assert places(fine) == [[], [(4, 5, True)]]


def test_a_filled_face_beyond_a_cut_is_named_by_the_line_that_asks_for_it(book):
    file = book(line(0, face(0)), line(4, face(0, fill=True)))
    with pytest.raises(MediaError, match="line 3: track 0 goes on beyond a cut"):
        list(given(frames(5, cuts=[2]), file))


def test_the_file_of_a_part_fits_the_same_part_by_its_numbers(book):
    file = book({"frame": 1, "faces": [face(0)]}, head={**HEAD, "start": "1.6"})
    assert places(list(given(frames(2, first=40), file, start="1.6"))) == [[], [(0, 5, True)]]


def test_no_track_crosses_a_cut(book):
    begun: list[tuple[int, int]] = []
    file = book(line(0, face(3)), line(2, face(9)), line(3, face(9)))
    list(given(frames(4, cuts=[2]), file, begins=lambda frame, number, _: begun.append((frame.index, number))))
    assert begun == [(0, 0), (2, 4)]
    with pytest.raises(MediaError, match="line 3: track 3 goes on beyond a cut; give it another number from this frame on"):
        list(given(frames(4, cuts=[2]), book(line(0, face(3)), line(2, face(3)))))


def test_faces_beyond_the_film_are_told(book, caplog):
    file, told = book(line(1, face(0)), line(7, face(0)), line(8, face(0))), []
    list(given(frames(3), file, warnings=told))
    assert told == [f"{file.path}: has faces beyond the last frame, from frame 7 on; they were left out"] == caplog.messages
    list(given(frames(3), file, whole=False, warnings=told))
    list(given(frames(9), file, warnings=told))
    assert len(told) == 1


@pytest.mark.parametrize(("rate", "count"), [(50, 1), (24, 0), (25, 0)])
def test_numbers_of_a_film_of_another_rate_are_told_once(book, rate, count):
    file, told = book(*(line(n, face(0)) for n in range(40))), []
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    list(given([Frame.from_image(picture, n, Fraction(n, rate)).in_shot(0) for n in range(40)], file, warnings=told))
    assert len(told) == count and all("other times of its frames than this film has" in text for text in told)


def test_a_detector_that_finds_no_points_in_a_box_stops_at_its_frame(book):
    def find(image: np.ndarray, box: np.ndarray) -> np.ndarray:
        raise RuntimeError("no eyes")

    file = book(line(1, {"track": 3, "box": [5, 5, 25, 25]}))
    with pytest.raises(RestorationError, match="frame 1, track 3: the detector raised RuntimeError: no eyes"):
        list(given(frames(3), file, find_points=find))
