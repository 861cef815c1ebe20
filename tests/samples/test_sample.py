"""The sample is the same every time, its truth is true, and the demo's figures can tell good from bad."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from videoclr.media.reader import Reader

pytest.importorskip("skimage")
SAMPLES = Path(__file__).parents[2] / "samples"


def load(name: str) -> ModuleType:
    spec = spec_from_file_location(name, SAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up, and demo imports make_sample
    spec.loader.exec_module(module)
    return module


make_sample = load("make_sample")
demo = load("demo")
slices = load("slices")


@pytest.fixture(scope="module")
def story():
    return make_sample.Story(160, 90, 30)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, story) -> Path:
    """A small, fast sample of the whole story."""
    folder = tmp_path_factory.mktemp("sample")
    assert make_sample.main(["--out", str(folder), "--frames", str(story.count), "--height", str(story.height)]) == 0
    return folder


@pytest.fixture(scope="module")
def truth(sample: Path) -> dict:
    return json.loads((sample / "truth.json").read_text())


def pictures(path: Path) -> np.ndarray:
    with Reader(path) as reader:
        return np.stack([frame.image for frame in reader.frames()])


def test_both_clips_have_every_frame_and_a_sound_track(sample: Path) -> None:
    import av

    for name in ("clean", "input"):
        assert pictures(sample / f"{name}.mp4").shape == (30, 90, 160, 3)
        with av.open(str(sample / f"{name}.mp4")) as container:
            assert [stream.type for stream in container.streams] == ["video", "audio"]
            assert container.streams.video[0].average_rate == 25


@pytest.mark.slow
def test_the_same_seed_makes_the_same_bytes(tmp_path: Path) -> None:
    # Two processes of their own, as a user starts them, with other garbage in fresh memory (glibc): an encoder that reads what
    # nobody wrote gives other bytes.
    program, names = str(SAMPLES / "make_sample.py"), ("clean.mp4", "input.mp4", "truth.json")
    for run, garbage in (("first", "1"), ("second", "85")):
        command = [sys.executable, program, "--out", str(tmp_path / run), "--frames", "30", "--height", "90"]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "MALLOC_PERTURB_": garbage})
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_the_input_is_much_worse_than_the_clean_twin_and_of_the_same_scene(sample: Path) -> None:
    clean, low = (pictures(sample / f"{name}.mp4").astype(float) for name in ("clean", "input"))
    error = np.sqrt(((clean - low) ** 2).mean(axis=(1, 2, 3)))
    assert error.min() > 2 and error.max() < 40
    sharpness = [np.abs(np.diff(clip, axis=2)).mean() for clip in (clean, low)]
    assert sharpness[1] < 0.85 * sharpness[0]


def test_the_story_has_one_face_two_faces_none_and_one_hard_cut(truth: dict, sample: Path) -> None:
    counts = [len(frame["faces"]) for frame in truth["frames"]]
    assert {0, 1, 2} == set(counts)
    shots = [frame["shot"] for frame in truth["frames"]]
    assert sorted(shots) == shots and set(shots) == {0, 1}
    clean = pictures(sample / "clean.mp4").astype(float)
    change = np.abs(np.diff(clean, axis=0)).mean(axis=(1, 2, 3))
    assert int(change.argmax()) + 1 == shots.index(1)


def test_known_landmarks_lead_back_to_the_portrait(story) -> None:
    cast = make_sample.performers()
    for index in (0, 12, 17, 28):
        for number, pose in make_sample.scene(index, story):
            actor = cast[number]
            there = make_sample.to_frame(actor.landmarks, pose, actor.shape, bool(number), story)
            back = make_sample.to_portrait(there, pose, actor.shape, bool(number), story)
            assert back == pytest.approx(actor.landmarks, abs=0.01)


def test_the_drawn_face_is_where_the_truth_says() -> None:
    """The pupils are darker than the cheeks around them, in a frame of full size."""
    story = make_sample.Story(count=30)
    cast = make_sample.performers()
    picture = np.zeros((story.height, story.width, 3), np.float32)
    number, pose = make_sample.scene(6, story)[-1]
    make_sample._compose(picture, cast[number], pose, False, 6, story)
    points = make_sample.to_frame(cast[number].landmarks, pose, (), False, story)
    cheek = picture[tuple(np.rint((points[0] + points[3]) / 2).astype(int)[::-1])].mean()
    for x, y in np.rint(points[:2]).astype(int):
        assert picture[y - 1 : y + 2, x - 1 : x + 2].mean() < 0.6 * cheek


def test_faces_of_the_second_person_are_ordered_from_image_left(truth: dict) -> None:
    faces = [face for frame in truth["frames"] for face in frame["faces"]]
    assert {face["person"] for face in faces} == {"a", "b"}
    for face in faces:
        left_eye, right_eye, _, left_mouth, right_mouth = face["landmarks"]
        assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0] and left_eye[1] < left_mouth[1]


def test_bad_sizes_are_a_usage_error(tmp_path: Path) -> None:
    for wrong in (["--height", "91"], ["--frames", "3"]):
        with pytest.raises(SystemExit) as stopped:
            make_sample.main(["--out", str(tmp_path), *wrong])
        assert stopped.value.code == 2


def test_an_unwritable_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert make_sample.main(["--out", str(tmp_path / "file" / "below"), "--frames", "10", "--height", "72"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def rows_of(sample: Path, tmp_path_factory: pytest.TempPathFactory):
    def rows(stand_in: str) -> dict:
        folder = tmp_path_factory.mktemp("restored")
        for name in ("clean.mp4", "input.mp4", "truth.json"):
            shutil.copy(sample / name, folder / name)
        shutil.copy(sample / f"{stand_in}.mp4", folder / "output.mp4")
        return {row.name: row for row in demo.table(demo.measure(folder, []))}

    return rows


def test_a_perfect_restoration_is_better_in_every_figure(rows_of) -> None:
    rows = rows_of("clean")
    assert {row.verdict for row in rows.values()} == {"better"}
    assert rows["PSNR, faces"].output == float("inf")
    assert rows["flicker, times the clean clip's"].output == pytest.approx(1)


def test_a_restoration_that_does_nothing_is_the_same_in_every_figure(rows_of) -> None:
    assert {row.verdict for row in rows_of("input").values()} == {"same"}


def test_smoother_than_clean_counts_as_worse_when_it_is_further_away() -> None:
    assert demo.Row("flicker", "", "near", 2.0, 0.4, 1.0).verdict == "worse"
    assert demo.Row("flicker", "", "near", 2.0, 0.8, 1.0).verdict == "better"
    assert demo.Row("angle", "degrees", "less", 30, 40, 0.0).verdict == "worse"


def test_a_face_that_comes_back_is_a_new_appearance(rows_of, sample: Path) -> None:
    shutil.copy(sample / "input.mp4", sample / "output.mp4")
    found = demo.measure(sample, [5])
    assert sorted((one.person, one.shot) for one in found.appearances) == [("a", 0), ("a", 1), ("b", 0)]
    assert all(len(one.crops["clean"]) == len(one.frames) for one in found.appearances)
    assert list(found.kept) == [5]


def test_the_picture_shows_three_columns_of_every_moment(sample: Path, truth: dict) -> None:
    shutil.copy(sample / "clean.mp4", sample / "output.mp4")
    moments = demo.moments_of(truth)
    assert len(moments) == 3
    picture = demo.before_after(demo.measure(sample, moments).kept, 25)
    assert picture.shape == (34 + 3 * 300, 1200, 3)
    left, middle, right = (picture[34:300, start + 50 : start + 350].astype(float) for start in (0, 400, 800))
    assert np.abs(middle - right).mean() < 1 < np.abs(left - right).mean()


def test_a_short_output_is_refused(sample: Path, tmp_path: Path) -> None:
    for name in ("clean.mp4", "input.mp4", "truth.json"):
        shutil.copy(sample / name, tmp_path / name)
    short = tmp_path / "short"
    assert make_sample.main(["--out", str(short), "--frames", "12", "--height", "90"]) == 0
    shutil.copy(short / "input.mp4", tmp_path / "output.mp4")
    with pytest.raises(SystemExit, match=r"output\.mp4 ends before frame 12"):
        demo.measure(tmp_path, [])


def test_slices_show_one_row_of_the_first_face_over_time_in_four_versions(sample: Path, tmp_path: Path) -> None:
    given = ["--out", str(sample), "--frames", "6", "--picture", str(tmp_path / "slices.png"), "--set", "restore.use=unchanged"]
    assert slices.main(given) == 0
    picture = cv2.imread(str(tmp_path / "slices.png"))
    assert picture.shape == (26 + 6 * slices.STRETCH, 4 * slices.SIZE, 3)
    panels = np.split(picture[26:].astype(float), 4, axis=1)
    assert np.abs(panels[1] - panels[2]).max() == 0  # unchanged in both ways of restoring
    assert np.abs(panels[0] - panels[3]).mean() > 2 and all(panel.std() > 5 for panel in panels)
    assert (panels[0][0] == panels[0][slices.STRETCH - 1]).all() and (panels[0][0] != panels[0][slices.STRETCH]).any()


def test_slices_of_nobody_are_refused() -> None:
    with pytest.raises(SystemExit, match="no face in the first 2 frames"):
        slices.first_face({"frames": [{"index": n, "faces": []} for n in range(4)]}, 2)
