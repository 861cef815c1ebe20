"""Versions of a clip walk together, and are cut out alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoclr.errors import MediaError
from videoclr.evaluation.views import CLEAN, frames_of, pictures_in
from videoclr.types import Frame


def test_every_version_is_cut_with_the_clean_landmarks(finder, drawn, as_frames) -> None:
    clean = drawn([[(60 + 2 * i, 60, 0)] for i in range(6)])
    shifted = [np.roll(picture, 5, axis=1) for picture in clean]
    views = list(finder.views(as_frames(clean), {"off": as_frames(shifted)}))
    assert [view.frame.index for view in views] == list(range(6))
    for view in views:
        (face,) = view.faces
        left = {name: np.nonzero(crop[..., 0] > 150)[1].min() for name, crop in face.crops.items()}
        # 5 px of the frame, larger in the crop; a version's own landmarks would have hidden the shift
        assert left["off"] - left[CLEAN] > 2
        assert face.crops[CLEAN].shape == (64, 64, 3) and face.mask.shape == (64, 64)
        assert face.points.min() > 0 and face.points.max() < 64


def test_frames_without_a_face_pass_and_cost_no_picture(finder, drawn, as_frames) -> None:
    pictures = drawn([[(60, 60, 0)]] * 3 + [[]] * 3)
    views = list(finder.views(as_frames(pictures), {"same": as_frames(pictures)}))
    assert [len(view.faces) for view in views] == [1, 1, 1, 0, 0, 0]
    assert not views[-1].pictures


def test_no_more_frames_are_read_than_the_stages_look_ahead(finder, drawn) -> None:
    pictures = drawn([[(60, 60, 0)]])
    read = {"clean": 0, "other": 0}

    def endless(name):
        for index in range(10_000):
            read[name] += 1
            yield Frame.from_image(pictures[0], index)

    views = finder.views(endless("clean"), {"other": endless("other")})
    for _ in range(40):
        next(views)
    views.close()
    assert read["other"] == 40 and read["clean"] < 40 + 20


@pytest.mark.parametrize(
    ("count", "message"),
    [(4, r"r\.mp4: ends after 4 frames and c\.mp4 goes on"), (7, r"r\.mp4: goes on after the 6 frames of c\.mp4")],
)
def test_another_number_of_frames_is_refused_in_one_line(finder, drawn, as_frames, count, message) -> None:
    pictures = drawn([[(60, 60, 0)]] * 7)
    paths = {CLEAN: "c.mp4", "restored": "r.mp4"}
    with pytest.raises(MediaError, match=message):
        list(finder.views(as_frames(pictures[:6]), {"restored": as_frames(pictures[:count])}, paths))


def test_another_size_is_refused_even_without_a_face(finder, drawn, as_frames) -> None:
    pictures = drawn([[]] * 3)
    with pytest.raises(MediaError, match="half: is 80x60 and the clean clip is 160x120"):
        list(finder.views(as_frames(pictures), {"half": as_frames([p[:60, :80] for p in pictures])}))


def test_a_folder_is_a_clip_in_the_order_of_its_numbers(tmp_path) -> None:
    for number in (2, 10, 1):
        cv2.imwrite(str(tmp_path / f"f{number}.png"), np.full((16, 16, 3), number, np.uint8))
    for name in ("notes.txt", "._f1.png"):
        (tmp_path / name).write_text("no picture")
    assert [path.name for path in pictures_in(tmp_path)] == ["f1.png", "f2.png", "f10.png"]
    (tmp_path / "more").mkdir()
    for name in ("b1.png", "a10_2.png", "a2_9.png", "a10_10.png", "7.png"):
        (tmp_path / "more" / name).touch()
    names = [path.name for path in pictures_in(tmp_path / "more")]
    assert names == ["7.png", "a2_9.png", "a10_2.png", "a10_10.png", "b1.png"]
    frames = list(frames_of(tmp_path))
    assert [(frame.index, int(frame.image[0, 0, 0])) for frame in frames] == [(0, 1), (1, 2), (2, 10)]


def test_a_folder_without_pictures_says_so(tmp_path) -> None:
    with pytest.raises(MediaError, match="holds no pictures"):
        list(frames_of(tmp_path))
