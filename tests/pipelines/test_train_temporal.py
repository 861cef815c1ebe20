"""The programs that train along time and before faces: from drawn pictures to files that the parts take."""

from __future__ import annotations

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

from videoclr.media.recode import Generation, write_clip
from videoclr.parts.clr import RUNS, ClrNetworks
from videoclr.parts.parsing_mask import ParsingMask
from videoclr.types import Detection

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs/train/tiny"
POINTS = np.array([[0.38, 0.47], [0.62, 0.47], [0.5, 0.6], [0.4, 0.71], [0.6, 0.71]], np.float32)


class WholePicture:
    """Takes every picture for a face."""

    def detect(self, images):
        return [[Detection(np.array([0, 0, *im.shape[1::-1]], np.float32), POINTS * im.shape[0], 0.95)] for im in images]


def program(name):
    """The module of a program in `pipelines/`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "pipelines" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *arguments):
    """A program's `main`, in this process."""
    module = program(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *(str(a) for a in arguments)])
        module.main()


def portrait(number):
    picture = np.full((64, 64, 3), (90, 120, 60 + 20 * number), np.uint8)
    cv2.ellipse(picture, (32, 34), (25, 30), 0, 0, 360, (30, 25, 40), -1)
    cv2.ellipse(picture, (32, 40), (18, 21), 0, 0, 360, (120, 150, 200 - 10 * number), -1)
    for x in (25, 39):
        cv2.circle(picture, (x, 30), 3, (20, 20, 20), -1)
    return picture


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), portrait(number))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Checkpoints of random networks, as `unpack_weights.py` writes those of the embedded ones."""
    torch.manual_seed(0)
    folder, networks = tmp_path_factory.mktemp("runs"), ClrNetworks()
    states = {}
    for name, inside, place in RUNS:
        if name in ("vqgan", "irn", "denoiser", "fusion"):
            own = networks.get_submodule(place).state_dict()
            states.setdefault(name, {}).update({f"{inside}.{key}": value for key, value in own.items()})
    for name, state in states.items():
        (folder / name).mkdir()
        torch.save({"modules": state, "ema": state, "step": 5, "spent": 60.0}, folder / name / "checkpoint.pt")
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    pictures = [np.roll(portrait(1), n, axis=1)[:, :, ::-1] for n in range(8)]
    write_clip(folder / "one.mp4", pictures, Fraction(25), Generation(quality=8))
    return folder


@pytest.mark.parametrize("stage", ["irn", "fusion"])
def test_temporal_training_goes_on_from_its_run_and_moves_its_network_alone(stage, faces, runs, clips, monkeypatch, tmp_path):
    monkeypatch.setattr("videoclr.parts.retina_detector.RetinaDetector", lambda **_: WholePicture())
    before = torch.load(runs / stage / "checkpoint.pt", weights_only=True)["modules"]
    given = ["--runs", runs, "--faces", faces, "--clips", clips, "--config", TINY / "temporal.yaml", "--minutes", 5]
    out = tmp_path / stage
    out.mkdir()
    (out / "checkpoint.pt").write_bytes((runs / stage / "checkpoint.pt").read_bytes())
    run("train_temporal", stage, *given, "--out", out, "--steps", 6)
    with np.load(out / "clips.npz") as kept:
        assert [kept[name].shape for name in kept.files] == [(8, 64, 64, 3)]
    first = torch.load(out / "checkpoint.pt", weights_only=True)
    assert first["step"] == 6 and first["modules"].keys() == before.keys()
    assert any(not torch.equal(first["modules"][key], value) for key, value in before.items())
    assert all(torch.isfinite(value).all() for value in first["ema"].values())
    # The names are those of the run, so the restorer takes it.
    run("train_temporal", stage, *given, "--out", out, "--steps", 7)
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 7


def test_shares_learn_from_clips_and_keep_their_pairs(runs, clips, monkeypatch, tmp_path):
    monkeypatch.setattr("videoclr.parts.retina_detector.RetinaDetector", lambda **_: WholePicture())
    (tmp_path / "faces").mkdir()
    cv2.imwrite(str(tmp_path / "faces/0.png"), cv2.resize(portrait(0), (128, 128)))
    films = {"filmed": 1.0, "real": 1.0, "graded": 0.0}
    config = tmp_path / "shares.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load((TINY / "shares.yaml").read_text()), **films}))
    given = ["--runs", runs, "--faces", tmp_path / "faces", "--config", config, "--out", tmp_path / "out", "--minutes", 5]
    run("train_shares", *given, "--clips", clips, "--steps", 2)
    pairs = np.load(tmp_path / "out/pairs/clean.npy")
    with np.load(tmp_path / "out/clips.npz") as kept:
        clip = kept[kept.files[0]]
    shown = [*clip, *clip[:, :, ::-1]]
    assert len(pairs) == 3 and all(any(np.array_equal(one, frame) for frame in shown) for one in pairs)
    checkpoint = torch.load(tmp_path / "out/checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 2 and all(key.startswith("shares.") for key in checkpoint["ema"])
    run("train_shares", *given, "--steps", 3)  # the pairs are there, and need no clips any more
    assert torch.load(tmp_path / "out/checkpoint.pt", weights_only=True)["step"] == 3


def test_what_is_shown_and_the_truth_are_rolled_alike_and_good_faces_count_as_much_as_bad_ones():
    loss_of, settings = program("train_shares").weighed_loss, {"gradient": 0.3, "perceptual": 1.0}
    clean = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    seen = []

    def perceptual(one, other):
        seen.append(one)
        return (one - other).abs().mean((1, 2, 3))

    loss, _ = loss_of(clean, clean, torch.tensor([0.01, 0.1]), settings, perceptual, (3, 5))
    assert loss == 0 and torch.equal(seen[0], torch.roll(clean, (3, 5), (2, 3)))
    good, bad = (loss_of(clean[:1] + wrong, clean[:1], torch.tensor([wrong]), settings)[0] for wrong in (0.01, 0.1))
    assert bad < 4 * good, "of ten times the error"


def test_temporal_training_says_which_runs_it_lacks(faces, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("train_temporal", "irn", "--runs", tmp_path, "--faces", faces, "--out", tmp_path / "out")
    assert stopped.value.code == 2 and "no checkpoint of vqgan, irn" in capsys.readouterr().err


def test_the_occlusion_network_is_trained_measured_and_taken_by_the_mask(faces, tmp_path):
    given = ["--faces", faces, "--config", TINY / "occlusion.yaml", "--out", tmp_path, "--minutes", 5]
    run("train_occlusion", *given, "--steps", 2)
    made = (tmp_path / "labels.npy").stat().st_mtime_ns
    run("train_occlusion", *given, "--steps", 3, "--held-out", faces)
    assert (tmp_path / "labels.npy").stat().st_mtime_ns == made
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() == {"clean", "mild", "heavy"}
    assert all(0 <= value <= 1 for row in figures.values() for value in row.values())
    mask = ParsingMask(weights=str(tmp_path / "occlusion.safetensors"))
    assert mask.shown(torch.zeros(3, 64, 64)).shape == (1, 64, 64)
