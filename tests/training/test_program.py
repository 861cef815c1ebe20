"""A training program that is given what is not there ends in one line."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from videoclr.errors import ConfigError, MediaError, WeightsError
from videoclr.models.weights import read_checkpoint
from videoclr.training.data import read_identities
from videoclr.training.loop import averaged
from videoclr.training.program import begin, document, in_one_line

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs/train/tiny"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file or directory", "faces"), "faces: No such file or directory"),
        (FileNotFoundError("faces: no\npictures"), "faces: no pictures"),
        (MediaError("a.mp4", "is no video"), "a.mp4: is no video"),
    ],
)
def test_what_the_user_can_mend_is_said_in_one_line(error, line):
    @in_one_line
    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == line  # text: printed, with exit code 1


def test_what_only_a_programmer_can_mend_keeps_its_traceback():
    @in_one_line
    def main():
        raise KeyError("loop")

    with pytest.raises(KeyError):
        main()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.yaml", None, r"none\.yaml: cannot be read \(No such file"),
        ("bad.yaml", "a: [", r"bad\.yaml: not a YAML file"),
        ("bad.json", "{", r"bad\.json: not a JSON file"),
    ],
)
def test_a_document_that_cannot_be_read_is_named(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        document(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "budget",
    [
        {"minutes": 0.0},
        {"minutes": -1.0},
        {"minutes": float("nan")},
        {"used": float("nan")},
        {"steps": -1},
        {"minutes": float("inf")},
    ],
)
def test_a_budget_that_is_none_is_refused(budget):
    args = {"config": TINY / "vqgan.yaml", "minutes": 5.0, "used": 0.0, "steps": 0, "threads": 0} | budget
    with pytest.raises(ConfigError, match="--minutes"):
        begin(argparse.Namespace(**args))


def test_a_checkpoint_that_is_none_is_named(tmp_path):
    with pytest.raises(WeightsError, match="no such checkpoint; train it first"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    (tmp_path / "checkpoint.pt").write_bytes(b"half of a fi")
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError, match="not a checkpoint of a training program"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    torch.save({"ema": {"irn.weight": torch.zeros(1)}, "step": 1, "spent": 1.0}, tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError, match=r"does not fit Linear: lacks bias"):
        averaged(nn.Linear(1, 1), tmp_path / "checkpoint.pt", "vqgan")


@pytest.mark.parametrize("text", ["", "name\tperson\na.png\tanna\n", "file\tidentity\na.png\n"])
def test_a_manifest_without_its_columns_is_named(tmp_path, text):
    (tmp_path / "manifest.tsv").write_text(text)
    with pytest.raises(MediaError, match=r"manifest\.tsv: expected lines with tabs between, and columns file and identity"):
        read_identities(str(tmp_path / "manifest.tsv"), ["a.png"])


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a picture, settings of nothing, and a teacher that is no file of weights."""
    from cv2 import imwrite
    from numpy import full

    folder = tmp_path_factory.mktemp("given")
    (folder / "faces").mkdir()
    for number in range(2):
        imwrite(str(folder / f"faces/{number}.png"), full((64, 64, 3), 90 + number, "uint8"))
    (folder / "other.yaml").write_text(yaml.safe_dump({"irn": {}}))
    (folder / "bad.pth").write_bytes(b"no weights")
    return folder


CASES = {
    "faces": ("train_vqgan", "--faces none --config {tiny}/vqgan.yaml", "none: no pictures"),
    "config": ("train_vqgan", "--faces faces --config none.yaml", "none.yaml: cannot be read (No such file or directory)"),
    "other config": ("train_vqgan", "--faces faces --config other.yaml", "other.yaml: holds no settings; see configs/train"),
    "packed": ("train_occlusion", "--faces none.npy", "none.txt: No such file or directory"),
    "stage": ("train_identity", "irn --faces faces --config {tiny}/vqgan.yaml", "holds no settings of the stage irn; see"),
    "identities": (
        "train_identity",
        "recognizer --faces faces --config {tiny}/identity.yaml --identities none.tsv",
        "none.tsv: No such file or directory",
    ),
    "teacher": (
        "train_identity",
        "recognizer --faces faces --config {tiny}/identity.yaml --teacher bad.pth",
        "bad.pth: not a readable file of plain tensors",
    ),
    "perceptual": ("train_vqgan", "--faces faces --config {tiny}/vqgan.yaml --perceptual none.pth", "none.pth: no such file"),
    "checkpoint": (
        "train_denoiser",
        "denoiser --faces faces --config {tiny}/denoiser.yaml --vqgan none.pt --irn none.pt",
        "none.pt: no such checkpoint; train it first, or use pipelines/unpack_weights.py",
    ),
    "portraits": ("train_detector", "--faces none --labels none.json", "none: No such file or directory"),
    "labels": ("train_detector", "--faces faces --labels none.json", "none.json: cannot be read (No such file or directory)"),
    "label maker": ("train_detector", "--faces faces --teacher none.onnx", "none.onnx: no such file"),
    "clips": (
        "evaluate_detector",
        "--faces none --clips none --judge bad.pth --teacher none.onnx",
        "bad.pth: not a readable file of plain tensors; convert it to safetensors",
    ),
    "people": ("evaluate_identity", "--faces faces --identities none.tsv", "none.tsv: No such file or directory"),
    "judge": ("evaluate", "--faces faces --judge none.py", "--judge none.py: not a Python file"),
    "notes": ("export_weights", "--runs none --notes none.yaml", "none.yaml: cannot be read (No such file or directory)"),
    "data": ("train_all", "--minutes 1 --data none", "none: no pictures (.png, .jpg, .jpeg, .webp) and no .tar of them"),
    "weights": ("prepare_faces", "faces --detector none.pth", "none.pth: no such file"),
    "published": ("import_ldm", "none.ckpt", "none.ckpt: no such file"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_program_ends_in_one_line(case, here, tmp_path, monkeypatch):
    name, given, line = CASES[case]
    words = given.format(tiny=TINY).split()
    words += [] if name in ("evaluate_detector", "evaluate_identity") else ["--out", str(tmp_path / "out")]
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "pipelines" / f"{name}.py"), run_name="__main__")
    assert line in str(ended.value.code) and "\n" not in str(ended.value.code)
