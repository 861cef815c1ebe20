"""The table of clips: every row on the same inputs, and what must be equal is."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from videoclr import Reader
from videoclr.errors import ConfigError
from videoclr.evaluation.table import Figures
from videoclr.media.recode import Generation, write_clip
from videoclr.types import Detection

ROOT = Path(__file__).resolve().parents[2]
POINTS = np.array([[0.38, 0.47], [0.62, 0.47], [0.5, 0.6], [0.4, 0.71], [0.6, 0.71]], np.float32)


@pytest.fixture(scope="module")
def program():
    """The program as a module; `pipelines/` is no package."""
    spec = importlib.util.spec_from_file_location("evaluate_clips", ROOT / "pipelines/evaluate_clips.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class WholePicture:
    """Takes every picture for a face."""

    def detect(self, images):
        return [[Detection(np.array([0, 0, *im.shape[1::-1]], np.float32), POINTS * im.shape[0], 0.95)] for im in images]


class Colours:
    """Knows people by their mean colour."""

    def embed(self, crops):
        images = crops if isinstance(crops, torch.Tensor) else torch.stack([crop.image for crop in crops])
        return torch.nn.functional.normalize(images.mean((2, 3)) + 1, dim=1)


@pytest.fixture
def faces(tmp_path, monkeypatch):
    """Two drawn faces, and a detector and a recogniser that need no weights."""
    monkeypatch.setattr("videoclr.parts.retina_detector.RetinaDetector", WholePicture)
    monkeypatch.setattr("videoclr.parts.face_recognizer.FaceRecognizer", Colours)
    (tmp_path / "faces").mkdir()
    for number, colour in enumerate([(40, 90, 200), (200, 160, 90)]):
        noise = cv2.GaussianBlur(np.random.default_rng(number).normal(size=(64, 64, 3)), (0, 0), 2) * 150
        picture = np.clip(noise + 90, 0, 255)
        cv2.ellipse(picture, (32, 35), (20, 25), 0, 0, 360, colour, -1)
        cv2.imwrite(str(tmp_path / f"faces/{number}.png"), np.clip(picture + noise, 0, 255))
    return tmp_path / "faces"


def rows_file(folder: Path, rows: dict) -> Path:
    path = folder / "rows.yaml"
    path.write_text(yaml.safe_dump(rows, sort_keys=False))
    return path


def test_every_row_is_measured_on_the_same_degraded_clips(program, faces, tmp_path, capsys):
    rows = {"kept": ["restore.use=unchanged"], "again": ["restore.use=unchanged"], "blur": {"of": "kept", "sigma": 1.0}}
    arguments = ["--stills", str(faces), "--count", "2", "--frames", "6", "--still-size", "64", "--size", "64"]
    arguments += ["--rows", str(rows_file(tmp_path, rows)), "--set", "track.max_gap=2"]
    out = tmp_path / "out"
    assert program.main([*arguments, "--out", str(out), "--watch", str(tmp_path / "watch"), "--invariance"]) == 0
    told = json.loads((out / "table.json").read_text())
    assert list(told["mean"]) == ["input", "kept", "again", "blur", "clean"] and set(told["clips"]) == {"0", "1"}
    assert told["mean"]["again"] == told["mean"]["kept"]
    own = [told["clips"][clip]["clips"]["blur"]["psnr"] for clip in ("0", "1")]
    assert told["mean"]["blur"]["psnr"] == pytest.approx(np.mean(own), rel=1e-5)
    assert told["mean"]["kept"]["psnr"] == pytest.approx(told["mean"]["input"]["psnr"], abs=0.5)
    assert told["ratios_to_clean"]["kept"]["ewarp"] > 0
    assert told["faces_restored"] == {"kept": 12, "again": 12} and told["without_a_face"] == []
    assert told["tracks"]["again"] == {name: [{"frames": 6, "anchors": None}] for name in ("0", "1")}
    for found in told["invariance"].values():
        assert {v for k, v in found.items() if k.startswith("batch")} == {0}
        assert found["first frame after the cut"] == found["whole shot after the cut"] == 0
        assert found["shots found"] == 2 and found["chunks"].startswith("not checked")
    lines = list(csv.DictReader((out / "frames.csv").open()))
    assert len(lines) == 2 * 6 * 5 and {line["film"] for line in lines} == {"0", "1"}
    assert cv2.imread(str(out / "slice.png")).shape == (24 + 6 * 10, 5 * 64, 3)
    assert cv2.imread(str(out / "faces.png")).shape == (24 + 4 * 64, 5 * 64, 3)
    with Reader(tmp_path / "watch/1.mp4") as reader:
        assert (reader.info.width, reader.info.height) == (5 * 64, 24 + 64) and len(list(reader.frames())) == 6
    table = (out / "table.md").read_text()
    assert "| blur |" in table and "| blur |" in capsys.readouterr().out
    assert told["equal_to_clean"] == {} and "left out" not in table


def test_faces_without_a_psnr_are_counted_beside_the_mean(program, faces, tmp_path, monkeypatch):
    real = program.degrade_clip

    def spared(pictures, *rest):
        return [*pictures[:2], *list(real(pictures, *rest))[2:]]

    monkeypatch.setattr(program, "degrade_clip", spared)
    rows = str(rows_file(tmp_path, {"kept": ["restore.use=unchanged", "blend.strength=0"]}))
    arguments = ["--stills", str(faces), "--count", "2", "--frames", "6", "--still-size", "64", "--size", "64", "--rows", rows]
    arguments += ["--set", "track.max_gap=2"]
    assert program.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out/table.json").read_text())
    assert told["equal_to_clean"] == {"input": 4, "kept": 4}
    left_out = "of 12 faces equal the clean ones and are left out of its PSNR"
    assert f"\n- input: 4 {left_out}\n- kept: 4 {left_out}\n" in (tmp_path / "out/table.md").read_text()


@pytest.mark.parametrize("other", ["earlier", "later"])
def test_another_shot_goes_before_or_behind_and_is_not_measured(program, faces, tmp_path, monkeypatch, other):
    seen, looked = [], []
    restored, look = program.Restorations.restored, program.Pipeline.look

    def spy(self, config, frames, log=None):
        seen.append([bool((frame.image == 128).all()) for frame in frames])
        return restored(self, config, frames, log)

    def spy_look(self, frames):
        cast = look(self, frames)
        looked.append(cast)
        return cast

    monkeypatch.setattr(program.Restorations, "restored", spy)
    monkeypatch.setattr(program.Pipeline, "look", spy_look)
    rows = rows_file(tmp_path, {"kept": ["restore.use=unchanged", f"identify.look_first={str(other == 'later').lower()}"]})
    arguments = [
        "--stills",
        str(faces),
        "--count",
        "1",
        "--frames",
        "12",
        "--still-size",
        "64",
        "--size",
        "64",
        "--rows",
        str(rows),
    ]
    assert program.main([*arguments, "--recipe", "codec", f"--{other}", "mild", "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out/table.json").read_text())
    lines = list(csv.DictReader((tmp_path / "out/frames.csv").open()))
    assert seen == [[False] * 6 + [True] * program.GREY + [False] * 6] and len(lines) == 6 * 3
    assert (told["earlier"], told["later"]) == (("mild", None) if other == "earlier" else (None, "mild"))
    assert len(looked) == (other == "later")
    assert told["mean"]["kept"]["psnr"] == pytest.approx(told["mean"]["input"]["psnr"], abs=0.5)


@pytest.mark.slow
def test_a_chunk_is_compared_with_the_same_frames_of_the_whole(program, faces):
    settings = ("restore.use=unchanged", "track.max_gap=1", "align.smoothing=1", "identify.window=1", "gate.smoothing=1")
    work = program.Restorations({"kept": program.Recipe(settings)}, (), "cpu")
    config = work.configs["kept"]
    pipeline = work.pipeline(config)
    ahead = program.look_ahead(pipeline)
    assert ahead == 3 + 1 + 1 + 1 + 2 * 4 + 2 + 3  # the cut detector's, then stage by stage
    still = cv2.imread(str(faces / "0.png"))
    frames = program.Clean("a", [np.roll(still, n, axis=1) for n in range(16 + ahead + 2)], Fraction(25)).frames()
    whole = work.restored(config, frames)
    name = f"first 16 frames, {ahead} ahead"
    assert program.chunk_check(work, config, frames, whole) == {name: 0}
    whole[15] = 255 - whole[15]
    assert program.chunk_check(work, config, frames, whole)[name] > 50


def test_a_clip_without_a_face_is_named_and_left_out(program, faces, tmp_path, capsys):
    class Choosy(WholePicture):
        def detect(self, images):
            return [found if image[32, 32, 2] < 150 else [] for image, found in zip(images, super().detect(images), strict=True)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("videoclr.parts.retina_detector.RetinaDetector", Choosy)
        arguments = ["--stills", str(faces), "--frames", "3", "--still-size", "64", "--size", "64", "--recipe", "codec"]
        rows = rows_file(tmp_path, {"kept": ["restore.use=unchanged"]})
        assert program.main([*arguments, "--rows", str(rows), "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out/table.json").read_text())
    assert len(told["clips"]) == len(told["without_a_face"]) == 1
    assert f"{told['without_a_face'][0]} no face found" in capsys.readouterr().out


def test_the_rows_that_ship_are_found_from_any_folder(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program.recipes(program.parsed(["--clips", str(tmp_path), "--out", str(tmp_path / "out")]).rows)


def test_the_rows_that_ship_are_valid(program):
    rows = program.recipes(ROOT / "configs/evaluate/clips.yaml")
    assert {"per frame", "ours", "temporal blur"} <= set(rows)
    assert list(program.recipes(ROOT / "configs/evaluate/earlier.yaml")) == ["ours", "without the earlier shot"]
    assert list(program.recipes(ROOT / "configs/evaluate/precision.yaml")) == ["float32", "bfloat16"]
    assert list(program.recipes(ROOT / "configs/evaluate/later.yaml")) == ["ours", "look first"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": ["restore.stepz=1"]}, "unknown setting"),
        ({"a": {"of": "b", "sigma": 1}}, "a: expected a list of path=value"),
        ({"clean": []}, "clean: these names are taken"),
        ([], "expected rows"),
    ],
)
def test_a_bad_row_is_refused_before_any_work(program, tmp_path, rows, message):
    with pytest.raises(ConfigError, match=message):
        program.recipes(rows_file(tmp_path, rows))


def test_a_missing_folder_and_no_folder_are_usage_errors(program, tmp_path, capsys):
    for arguments in (["--out", "x"], ["--stills", str(tmp_path / "none"), "--out", "x"]):
        with pytest.raises(SystemExit) as left:
            program.main(arguments)
        assert left.value.code == 2
    (tmp_path / "empty").mkdir()
    assert program.main(["--clips", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 1
    assert "holds no clips" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "bad", ["--borders=0", "--seconds=nan", "--seconds=0", "--size=4", "--size=100000", "--count=-1", "--limit=-1", "--height=0"]
)
def test_numbers_out_of_range_are_wrong_usage(program, tmp_path, capsys, bad):
    with pytest.raises(SystemExit) as left:
        program.parsed(["--clips", str(tmp_path), "--out", str(tmp_path / "out"), bad])
    assert left.value.code == 2 and bad.partition("=")[0] in capsys.readouterr().err.splitlines()[-1]


def test_a_clip_is_cut_to_its_seconds_and_made_smaller(program, tmp_path):
    pictures = [np.full((90, 160, 3), 10 * i, np.uint8) for i in range(12)]
    write_clip(tmp_path / "a.mp4", pictures, Fraction(10), Generation(quality=10))
    clip = program.filmed(tmp_path / "a.mp4", 0.5, 45)
    assert len(clip.pictures) == 5 and clip.pictures[0].shape == (44, 80, 3) and clip.rate == 10
    times = [(frame.index, frame.time, frame.shot_start) for frame in clip.frames(clip.pictures[:2], first=7)]
    assert times == [(7, Fraction(7, 10), 7), (8, Fraction(8, 10), 7)]


def test_the_blur_over_time_stops_at_a_cut(program):
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 255, (36, 64, 3)).astype(np.uint8) for _ in range(2)]
    clip = program.Clean("a", [scenes[0]] * 8 + [scenes[1]] * 8, Fraction(25))
    flickering = [np.clip(p.astype(int) + (20 if i == 4 else 0), 0, 255).astype(np.uint8) for i, p in enumerate(clip.pictures)]
    made = program.blurred(flickering, 1.0, clip)
    assert (made[7] == scenes[0]).mean() > 0.9 and (made[8] == scenes[1]).all()
    jump = np.abs(np.diff([picture.mean() for picture in made[:8]])).max()
    assert jump < 0.4 * np.abs(np.diff([picture.mean() for picture in flickering[:8]])).max()


def test_ratios_are_of_the_means_and_not_the_means_of_ratios(program):
    clips = {
        "a": Figures({"ours": {"ewarp": 2.0}, "clean": {"ewarp": 1.0}}, {}, {}, {}),
        "b": Figures({"ours": {"ewarp": 4.0}, "clean": {"ewarp": 3.0}}, {}, {}, {}),
    }
    means, ratios = program.averaged(clips)
    assert means["ours"]["ewarp"] == 3.0 and ratios == {"ours": {"ewarp": 1.5}}
