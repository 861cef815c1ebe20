"""From clips and pictures to shards: what is kept, what is left out, and that nothing is left half made."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import tarfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from videoclr.errors import MediaError
from videoclr.training.data import load_faces
from videoclr.types import Detection

ROOT = Path(__file__).resolve().parents[2]
FRONTAL = np.array([[48, 60], [78, 60], [63, 75], [51, 90], [75, 90]], np.float32)
"""In a picture of 128 px; the FFHQ square has about 120 px."""


@pytest.fixture
def prepare(monkeypatch):
    """The program, with a detector that finds one frontal face in every picture, and a recogniser that looks at one colour."""
    spec = importlib.util.spec_from_file_location("prepare_faces", ROOT / "pipelines/prepare_faces.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "prepare_faces", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RetinaDetector", lambda *_, **__: FakeDetector())
    monkeypatch.setattr(module, "FaceRecognizer", lambda *_, **__: FakeRecognizer())
    return module


class FakeDetector:
    points = (FRONTAL,)

    def detect(self, images):
        return [[Detection(np.array([40, 40, 90, 100], np.float32), p, 0.95) for p in self.points] for _ in images]


class FakeRecognizer:
    def embed(self, crops):
        red = crops[:, 0].mean((1, 2)) > crops[:, 1].mean((1, 2))
        return torch.stack([red.float(), 1 - red.float()], dim=1)


def textured(seed, tint=(1.0, 1.0, 1.0)):
    """A sharp picture that no other seed resembles."""
    coarse = np.random.default_rng(seed).integers(0, 255, (16, 16, 1)).repeat(3, 2)
    picture = cv2.resize(coarse.astype(np.uint8), (128, 128), interpolation=cv2.INTER_NEAREST)
    return (picture * np.array(tint)).astype(np.uint8)


def folder_of(path, *pictures):
    path.mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(path / f"{number}.png"), picture[:, :, ::-1])
    return path


@pytest.fixture
def clip(tmp_path):
    """Two seconds at 4 Hz: each half second another picture, the third and fourth of them nearly alike."""
    pictures = [textured(0), textured(1), textured(2), np.clip(textured(2).astype(int) + 2, 0, 255).astype(np.uint8)]
    with av.open(tmp_path / "clip.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=4, options={"crf": "4", "g": "4"})
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for index in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[index // 2], format="rgb24")))
        container.mux(stream.encode(None))
    return tmp_path / "clip.mp4"


def rows_of(out):
    with (out / "manifest.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_clip_gives_one_crop_of_every_look_and_no_twins(prepare, clip, tmp_path, capsys):
    prepare.main([str(clip), "--out", str(tmp_path / "out"), "--size", "64", "--reader", "media", "--shard", "2"])
    rows = rows_of(tmp_path / "out")
    assert [row["time"] for row in rows] == ["0.000", "0.500", "1.000"]
    assert {row["identity"] for row in rows} == {f"{clip}#0"}
    assert "4 pictures" in (said := capsys.readouterr().out) and "1 twin" in said
    names, faces = load_faces(tmp_path / "out", 64)
    assert names == [row["file"] for row in rows] and faces.shape == (3, 64, 64, 3)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["faces-00000.tar", "faces-00001.tar", "manifest.tsv"]
    with tarfile.open(tmp_path / "out/faces-00001.tar") as tar:
        assert json.load(tar.extractfile("0000002.json"))["source"] == str(clip)


def test_decord_jumps_to_the_frames_that_the_reader_meets(prepare, clip):
    pytest.importorskip("decord")
    one, other = (list(prepare.pictures_of(clip, 0.5, reader)) for reader in ("decord", "media"))
    assert [t for t, _ in one] == [t for t, _ in other] == [0, 0.5, 1, 1.5]
    for (_, a), (_, b) in zip(one, other, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 2


def test_what_decord_stumbles_over_is_read_on(prepare, clip, monkeypatch):
    decord = pytest.importorskip("decord")

    class Damaged(decord.VideoReader):
        def __getitem__(self, number):
            if number >= 4:
                raise decord.DECORDError("Error sending packet")
            return super().__getitem__(number)

    monkeypatch.setattr(decord, "VideoReader", Damaged)
    assert [t for t, _ in prepare.pictures_of(clip, 0.5, "auto")] == [0, 0.5, 1, 1.5]
    with pytest.raises(MediaError, match=r"decord fails behind 0\.5 s; try --reader media"):
        list(prepare.pictures_of(clip, 0.5, "decord"))


def test_the_same_sources_give_the_same_bytes(prepare, clip, tmp_path):
    for name in ("one", "other"):
        prepare.main([str(clip), "--out", str(tmp_path / name), "--size", "64"])
    for name in ("faces-00000.tar", "manifest.tsv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.parametrize(
    ("points", "blur", "reason"),
    [
        (FRONTAL / 2 + 32, 0, "too small"),
        (FRONTAL + np.array([[0, 0], [0, 0], [12, 0], [0, 0], [0, 0]]), 0, "turned away"),
        (FRONTAL * np.array([0.6, 1]) + np.array([26, 0]), 0, "turned away"),
        (FRONTAL - 40, 0, "cut off"),
        (FRONTAL, 9, "blurred"),
        (np.full((5, 2), 60.0), 0, "span no face"),
    ],
)
def test_what_is_no_good_for_training_is_left_out_and_counted(prepare, points, blur, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FakeDetector, "points", (points.astype(np.float32),))
    picture = cv2.GaussianBlur(textured(0), (0, 0), blur) if blur else textured(0)
    folder = folder_of(tmp_path / "faces", picture)
    with pytest.raises(SystemExit, match="no face was kept"):
        prepare.main([str(folder), "--out", str(tmp_path / "out"), "--size", "100"])
    assert f"1 {reason}" in capsys.readouterr().out.replace("landmarks ", "")
    assert not list((tmp_path / "out").iterdir())


def test_pictures_of_a_folder_are_grouped_by_who_they_show(prepare, tmp_path):
    red, green = (1.0, 0.3, 0.3), (0.3, 1.0, 0.3)
    folder = folder_of(tmp_path / "faces", textured(0, red), textured(1, green), textured(2, red))
    (folder / "note.txt").write_text("no picture")
    (folder / "broken.png").write_bytes(b"no picture")
    prepare.main([str(folder), "--out", str(tmp_path / "out"), "--size", "64"])
    assert [row["identity"].rpartition("#")[2] for row in rows_of(tmp_path / "out")] == ["0", "1", "0"]


def test_two_faces_of_one_picture_are_two_people(prepare):
    group = prepare.Group("clip", twins=True)
    anna = torch.tensor([1.0, 0.0])
    assert group.identity(anna, 0.5, set()) == 0
    assert group.identity(anna, 0.5, {0}) == 1
    assert group.identity(torch.tensor([0.0, 1.0]), 0.5, set()) == 2


@pytest.mark.parametrize("option", ["--every", "--min-size", "--min-score", "--max-yaw", "--min-difference", "--same-person"])
@pytest.mark.parametrize("number", ["nan", "inf", "-2"])
def test_numbers_that_make_no_sense_are_wrong_usage(prepare, tmp_path, capsys, option, number):
    with pytest.raises(SystemExit) as caught:
        prepare.main([str(tmp_path), "--out", str(tmp_path / "out"), f"{option}={number}"])
    assert caught.value.code == 2 and option in capsys.readouterr().err.splitlines()[-1]


def test_a_finished_set_is_not_written_over(prepare, tmp_path, capsys):
    (tmp_path / "manifest.tsv").write_text("")
    with pytest.raises(SystemExit) as caught:
        prepare.main([str(tmp_path), "--out", str(tmp_path)])
    assert caught.value.code == 2 and "finished set already" in capsys.readouterr().err


def test_the_project_s_own_networks_find_and_cut_a_real_face(tmp_path):
    portrait = pytest.importorskip("skimage.data").astronaut()
    folder = folder_of(tmp_path / "faces", portrait)
    spec = importlib.util.spec_from_file_location("prepare_faces", ROOT / "pipelines/prepare_faces.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare_faces"] = module
    spec.loader.exec_module(module)
    module.main([str(folder), "--out", str(tmp_path / "out"), "--size", "128"])
    (row,) = rows_of(tmp_path / "out")
    assert 150 < float(row["size"]) < 300 and abs(float(row["yaw"])) < 0.25
