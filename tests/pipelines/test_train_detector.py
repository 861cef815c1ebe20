"""The detector's programs: trained weights are taken, training goes on, counting is fair."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from videoclr.parts.retina_detector import RetinaDetector
from videoclr.training.detection import LabelledPicture
from videoclr.types import Detection

ROOT = Path(__file__).resolve().parents[2]


def program(name):
    """The module of a program in `pipelines/`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "pipelines" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def faces(tmp_path):
    """A folder of drawn faces and a file with their labels."""
    folder, labels = tmp_path / "faces", {}
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        image = np.full((96, 96, 3), rng.integers(0, 255, 3), np.uint8)
        cv2.ellipse(image, (48, 48), (26, 34), 0, 0, 360, (140, 170, 210), -1)
        for x in (38, 58):
            cv2.circle(image, (x, 40), 4, (30, 30, 30), -1)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        points = [[38, 40], [58, 40], [48, 52], [40, 66], [56, 66]]
        labels[f"{number}.png"] = {"boxes": [[22, 14, 74, 82]], "points": [points]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return ["--faces", str(folder), "--labels", str(tmp_path / "labels.json"), "--out", str(tmp_path / "run")]


def test_training_goes_on_and_its_weights_are_taken(faces, tmp_path):
    train = program("train_detector")
    tiny = ["--config", str(ROOT / "configs/train/tiny/detector.yaml"), "--minutes", "1"]
    train.main([*faces, *tiny, "--steps", "2"])
    first = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    train.main([*faces, *tiny, "--steps", "4"])
    second = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert (first["step"], second["step"]) == (2, 4)
    weight = "detector.body.stage1.0.0.weight"
    assert not torch.equal(first["modules"][weight], second["modules"][weight])
    detector = RetinaDetector(str(tmp_path / "run/detector.safetensors"), low_threshold=0.001)
    assert detector.preprocessing.order == "rgb"
    assert len(detector.detect([np.zeros((64, 64, 3), np.uint8)])) == 1


def test_the_refiner_learns_from_faces_and_mistakes_and_its_weights_are_taken(faces, tmp_path):
    train = program("train_detector")
    train.main([*faces, "--config", str(ROOT / "configs/train/tiny/detector.yaml"), "--minutes", "1", "--steps", "2"])
    weights, run = tmp_path / "run/detector.safetensors", tmp_path / "refiner"
    tiny = ["--config", str(ROOT / "configs/train/tiny/landmarks.yaml"), "--minutes", "1", "--detector", str(weights)]
    train.main(["landmarks", *faces[:-1], str(run), *tiny, "--steps", "2"])
    train.main(["landmarks", *faces[:-1], str(run), *tiny, "--steps", "3"])
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 3
    detector = RetinaDetector(str(weights), low_threshold=0.001, refine=str(run / "landmarks.safetensors"))
    plain = RetinaDetector(str(weights), low_threshold=0.001)
    picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    assert plain.refiner is None and detector.refiner is not None
    assert plain.detect([picture])[0][0].score != detector.detect([picture])[0][0].score


def test_training_without_labels_or_teacher_is_refused(faces, capsys):
    unlabelled = [*faces[:2], *faces[4:]]
    for arguments, told in ((unlabelled, "--teacher or --labels"), ([*faces, "--clips", "."], "--clips needs --teacher")):
        with pytest.raises(SystemExit) as caught:
            program("train_detector").main(arguments)
        assert caught.value.code == 2
        assert told in capsys.readouterr().err


def scene(boxes, ignore=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    vague = np.zeros(len(boxes), bool) if ignore is None else np.array(ignore)
    return LabelledPicture(np.zeros((9, 9, 3), np.uint8), boxes, np.zeros((len(boxes), 5, 2), np.float32), vague)


def seen(box, score):
    return Detection(np.array(box, np.float32), np.zeros((5, 2), np.float32), score)


def test_a_face_counts_once_and_a_second_find_of_it_is_wrong():
    evaluate = program("evaluate_detector")
    tally = evaluate.Tally()
    evaluate.count(tally, scene([[0, 0, 60, 60]]), [seen([0, 0, 60, 60], 0.9), seen([2, 2, 62, 62], 0.7)], 48)
    assert (tally.right, tally.wrong) == ([0.9], [0.7])


def test_small_and_vague_faces_count_neither_way():
    evaluate = program("evaluate_detector")
    tally = evaluate.Tally()
    picture = scene([[0, 0, 20, 20], [100, 0, 200, 100]], [False, True])
    evaluate.count(tally, picture, [seen([0, 0, 20, 20], 0.9), seen([100, 0, 200, 100], 0.8)], 48)
    assert (tally.wanted, tally.wrong) == (0, [])


def test_threshold_allows_one_false_positive_in_a_hundred_scenes():
    evaluate = program("evaluate_detector")
    tally = evaluate.Tally(scenes=200, wanted=4, right=[0.95, 0.65, 0.5, 0.0], wrong=[0.9, 0.8, 0.6, 0.3])
    cut = tally.threshold()
    assert sum(score > cut for score in tally.wrong) == 2
    assert tally.recall(cut) == 50


def test_what_is_seldom_seen_is_counted_kind_by_kind(monkeypatch, faces, tmp_path):
    evaluate = program("evaluate_detector")
    labels = json.loads((tmp_path / "labels.json").read_text())
    boxes, points = (np.array(labels["0.png"][key], np.float32) for key in ("boxes", "points"))
    told = lambda image: LabelledPicture(image, boxes, points, np.zeros(1, bool))  # noqa: E731
    monkeypatch.setattr(evaluate, "Teacher", lambda path, looks: argparse.Namespace(label=told))
    made, make = [], evaluate.SceneMaker.make
    monkeypatch.setattr(
        evaluate.SceneMaker, "make", lambda self, *given: made.append((self.hard, make(self, *given))) or made[-1][1]
    )
    knows = lambda images: [[seen(box, 0.9) for box in made[-1][1].boxes]]  # noqa: E731
    args = argparse.Namespace(teacher=None, faces=tmp_path / "faces", hard=3, seed=1)
    rows = evaluate.on_hard(args, argparse.Namespace(detect=knows))
    assert list(rows) == ["turned", "cut", "light", "worn"] and len(made) == 12
    assert [hard for hard, _ in made[::3]] == [evaluate.Hardship(**{kind: 1.0}) for kind in rows]
    assert all(row["recall"] == 100 and row["false_per_100"] == 0 for row in rows.values() if row["faces"])
    assert sum(row["faces"] for row in rows.values()) > 3
    blind = evaluate.on_hard(args, argparse.Namespace(detect=lambda images: [[seen([0, 0, 9, 9], 0.9)]]))
    assert max(row["recall"] for row in blind.values()) == 0 and max(row["false_per_100"] for row in blind.values()) > 0
