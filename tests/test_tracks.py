from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from videoclr.errors import MediaError
from videoclr.tracks import FILLED, TracksFile, told
from videoclr.types import Detection, FaceCrop, Faces, Frame, TrackedFace

HEAD = '{"videoclr": "tracks", "version": 1, "width": 160, "height": 90}'
FACE = '{"track": 0, "box": [1, 1, 9, 9]}'


def file_of(folder: Path, *lines: str) -> TracksFile:
    path = folder / "tracks.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return TracksFile(path)


def test_faces_come_back_to_the_bit(tmp_path):
    rng = np.random.default_rng(1)
    frame = Frame.from_image(np.zeros((90, 160, 3), np.uint8), 17)
    faces = [
        TrackedFace(
            n,
            Detection(np.sort(90 * rng.random(4)).astype(np.float32), rng.normal(40, 20, (5, 2)).astype(np.float32), score),
            seen,
            *asked,
        )
        for n, score, seen, *asked in ((2, float(np.sqrt(0.9)), True), (5, float(rng.random()), False, 1 / 3, "anna"))
    ]
    image = torch.zeros(3, 8, 8)
    line = told(Faces(frame, tuple(FaceCrop(face, frame, image, np.eye(2, 3)) for face in faces), looked=False))
    file = file_of(tmp_path, HEAD, json.dumps(line))
    file.check()
    (read,) = file.placed()
    assert (read.frame, read.time, read.looked) == (17, frame.time, False)
    for one, other in zip(read.faces, faces, strict=True):
        assert (one.track, one.observed, one.strength, one.name) == (other.track, other.observed, other.strength, other.name)
        assert one.detection.score == other.detection.score
        np.testing.assert_array_equal(one.detection.box, other.detection.box)
        np.testing.assert_array_equal(one.detection.landmarks, other.detection.landmarks)
        assert one.detection.landmarks.dtype == np.float32


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 2: is no JSON object on a line of its own"),
        (["[" * 100_000], "line 2: is no JSON object on a line of its own"),
        (['{"frame": 0}'], "line 2: faces: field required"),
        (['{"frame": -1, "faces": [' + FACE + "]}"], "line 2: frame: input should be greater than or equal to 0"),
        (['{"frame": 0, "tine": "0", "faces": [' + FACE + "]}"], "line 2: tine: extra inputs are not permitted"),
        (['{"frame": 0, "time": "soon", "faces": [' + FACE + "]}"], "line 2: time: string should match pattern"),
        (['{"frame": 0, "time": "1/0", "faces": [' + FACE + "]}"], "line 2: time: "),
        (['{"frame": 0, "time": "1e99999999", "faces": [' + FACE + "]}"], "line 2: time: "),
        (['{"frame": 0, "faces": [{"track": 0, "box": [0, 0, 1e39, 1e39]}]}'], "line 2: faces.0.box.2: input should be less"),
        (['{"frame": 0, "faces": [{"track": 1180591620717411303424, "box": [1, 1, 9, 9]}]}'], "line 2: faces.0.track"),
        (['{"frame": 0, "faces": [{"track": 0, "box": [9, 1, 1, 9]}]}'], "line 2: faces.0.box: .*left, top, right, bottom"),
        (
            ['{"frame": 0, "faces": [{"track": 3, "box": [-50, 1, -9, 9]}]}'],
            "line 2: the box of track 3 lies outside of the picture",
        ),
        (['{"frame": 0, "faces": [{"track": 0, "box": [160, 1, 170, 9]}]}'], "line 2: the box of track 0 .* of 160x90"),
        (['{"frame": 0, "faces": [{"track": 0, "box": [1, 89.4, 9, 99]}]}'], "line 2: the box of track 0 .* less than a pixel"),
        (['{"frame": 0, "faces": [{"track": 0, "box": [10, 10, 10.1, 10.1]}]}'], "line 2: the box of track 0 .* less than a pixel"),
        (['{"frame": 0, "faces": [{"track": 0, "box": [1, 1, NaN, 9]}]}'], "line 2: faces.0.box"),
        (['{"frame": 0, "faces": [{"track": 0.5, "box": [1, 1, 9, 9]}]}'], "line 2: faces.0.track"),
        (['{"frame": 0, "faces": [{"track": 0, "box": [1, 1, 9, 9], "points": [[1, 1]]}]}'], "line 2: faces.0.points"),
        (['{"frame": 0, "faces": [' + FACE + ", " + FACE + "]}"], "line 2: track 0 has two faces in one frame"),
        (['{"frame": 3, "faces": [' + FACE + "]}", "", '{"frame": 3, "faces": [' + FACE + "]}"], "line 4: frame 3 after frame 3"),
        (
            ['{"frame": 3, "shot": 0, "faces": [' + FACE + "]}", '{"frame": 4, "shot": 1, "faces": [' + FACE + "]}"],
            "line 3: track 0 began in another shot; give it another number from here",
        ),
        (['{"frame": 3, "faces": [{"track": 0, "box": [1, 1, 9, 9], "fill": true}]}'], "line 2: fill: track 0 has no face within"),
    ],
)
def test_a_slip_is_named_with_its_line(tmp_path, lines, message):
    with pytest.raises(MediaError, match=message) as caught:
        file_of(tmp_path, HEAD, *lines).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("first", ["", "[]", '{"videoclr": "tracks", "version": 2, "width": 1, "height": 1}', '{"frame": 0}'])
def test_what_is_no_such_file_is_told(tmp_path, first):
    with pytest.raises(MediaError, match="is no file of tracks: its first line must be like"):
        file_of(tmp_path, first)


def test_unreadable_files_are_told(tmp_path):
    with pytest.raises(MediaError, match="the tracks cannot be read"):
        TracksFile(tmp_path / "absent.jsonl")
    (tmp_path / "film.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(MediaError, match="is no text"):
        TracksFile(tmp_path / "film.mp4")


def test_a_pipe_is_no_file_of_tracks_and_a_mark_of_its_encoding_is_no_text(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="are read more than once"):
        TracksFile(tmp_path / "pipe")
    (tmp_path / "bom.jsonl").write_text(HEAD + "\n", encoding="utf-8-sig")
    TracksFile(tmp_path / "bom.jsonl").check()


def test_a_line_about_a_track_holds_for_all_its_faces(tmp_path):
    at = lambda frame, *faces: json.dumps({"frame": frame, "faces": [{"box": [1, 1, 9, 9], **face} for face in faces]})  # noqa: E731
    file = file_of(
        tmp_path,
        HEAD,
        '{"track": 4, "name": "anna", "strength": [[2, 1], [6, 0.5]]}',
        '{"track": 5, "strength": 0}',
        "",
        at(1, {"track": 4}, {"track": 5, "name": "ben"}, {"track": 6}),
        at(3, {"track": 4, "strength": 0.5}),
        at(5, {"track": 4, "strength": 1, "fill": True}),
        at(9, {"track": 4}),
    )
    file.check()
    asked = {line.frame: [(face.track, face.strength, face.name) for face in line.faces] for line in file.placed()}
    assert asked[1] == [(4, 1, "anna"), (5, 0, "ben"), (6, 1, None)]
    assert [asked[frame] for frame in (3, 4, 5, 9)] == [
        [(4, pytest.approx(one), "anna")] for one in (0.875 * 0.5, 0.75 * 0.75, 0.625, 0.5)
    ]
    assert file.names == {"anna": 4, "ben": 5}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"track": 1, "name": "a"}'], "line 2: track 1 has no face in this file"),
        (['{"track": 0}', '{"track": 0, "name": "a"}'], "line 3: track 0 has a line already, line 2"),
        (['{"track": 0, "nam": "a"}'], "line 2: nam: extra inputs"),
        (['{"track": 0, "name": ""}'], "line 2: name: "),
        (['{"track": 0, "strength": 1.5}'], "line 2: strength"),
        (['{"track": 0, "strength": []}'], "line 2: strength: .*pairs of a frame and a number in order"),
        (['{"track": 0, "strength": [[0, 1], [5, 2]]}'], r"line 2: strength\.pair\.1\.1: .*less than or equal to 1"),
        (['{"track": 0, "strength": [[5, 1], [5, 0]]}'], "line 2: strength: .*in order of the frames"),
    ],
)
def test_a_slip_about_a_track_is_named_with_its_line(tmp_path, lines, message):
    with pytest.raises(MediaError, match=message) as caught:
        file_of(tmp_path, HEAD, *lines, f'{{"frame": 0, "faces": [{FACE}]}}').check()
    assert "\n" not in str(caught.value)


def test_a_line_about_a_track_behind_a_frame_and_two_names_of_a_track_are_refused(tmp_path):
    line = f'{{"frame": 0, "faces": [{FACE}]}}'
    with pytest.raises(MediaError, match="line 3: lines about a whole track stand before the first frame"):
        file_of(tmp_path, HEAD, line, '{"track": 0, "name": "a"}').check()
    named = [
        line.replace('"track"', f'"name": "{name}", "track"').replace('"frame": 0', f'"frame": {n}') for n, name in enumerate("ab")
    ]
    with pytest.raises(MediaError, match="line 3: track 0 was called a before"):
        file_of(tmp_path, HEAD, *named).check()
    with pytest.raises(MediaError, match="line 4: track 0 was called a before"):
        file_of(tmp_path, HEAD, '{"track": 0, "name": "a"}', *named).check()


def test_little_of_a_long_file_is_held(tmp_path):
    """What is read ahead is bounded, and `fill` reaches as far as it may."""
    faces = [f'{{"frame": {n}, "faces": [{FACE}]}}' for n in range(3 * FILLED)]
    far = f'{{"frame": {4 * FILLED - 1}, "faces": [{{"track": 0, "box": [1, 1, 9, 9], "fill": true}}]}}'
    file = file_of(tmp_path, HEAD, *faces, far)
    read = file.placed()
    assert next(read).frame == 0
    held = read.gi_frame.f_locals["waiting"]
    assert len(held) <= FILLED + 1
    assert [one.frame for one in read] == list(range(1, 4 * FILLED))
    beyond = far.replace(str(4 * FILLED - 1), str(4 * FILLED))
    with pytest.raises(MediaError, match="none can be filled"):
        file_of(tmp_path, HEAD, *faces, beyond).check()
