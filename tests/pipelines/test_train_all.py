"""Every stage inside one budget: shares, interruptions, the export, and what must be installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from videoclr.errors import ConfigError
from videoclr.models import weights

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs/train/tiny"
NOT_ON_A_GPU_IMAGE = ("av", "diffusers", "pydantic", "scipy", "scenedetect", "tensorboard", "typer", "rich")


def program(name):
    """The module of a program in `pipelines/`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "pipelines" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def train_all():
    return program("train_all")


@pytest.fixture
def faces(tmp_path):
    """A folder of four drawn faces; the folder of the test is removed in the end, it holds hundreds of megabytes."""
    (tmp_path / "faces").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        picture = np.full((64, 64, 3), rng.integers(30, 220, 3), np.uint8)
        cv2.ellipse(picture, (32, 32), (21, 26), 0, 0, 360, tuple(int(c) for c in rng.integers(30, 220, 3)), -1)
        cv2.imwrite(str(tmp_path / f"faces/{number}.png"), picture)
    yield tmp_path / "faces"
    shutil.rmtree(tmp_path)


def settings(folder, **changes):
    """A config file like the tiny one, with changes."""
    config = {**yaml.safe_load((TINY / "all.yaml").read_text()), "settings": str(TINY), **changes}
    (folder / "all.yaml").write_text(yaml.safe_dump(config))
    return folder / "all.yaml"


def in_this_process(training, stage, entry, used):
    """Instead of a process for each stage, which takes seconds to start."""
    path, *arguments = training.command(stage, entry, used)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path, *arguments])
        program(Path(path).stem).main()
    return True


def test_minutes_go_to_the_stages_by_what_each_lacks(train_all):
    shares = train_all.plan({"a": 0.2, "b": 0.6}, minutes=10, start=1)
    assert shares == pytest.approx({"a": 2, "b": 6})
    assert train_all.plan({"a": 0.2}, minutes=0.5, start=1) == {"a": 0}


@pytest.mark.slow
def test_a_stage_that_had_its_share_is_not_begun_again_and_the_rest_is_trained(train_all, faces, tmp_path, monkeypatch, capsys):
    called = []

    def call(training, stage, entry, used):
        called.append(stage.name)
        if called == ["recognizer", "irn"]:
            sys.exit("the machine went away")
        return in_this_process(training, stage, entry, used)

    monkeypatch.setattr(train_all.Training, "call", call)
    config = settings(tmp_path, shares={"recognizer": 0.5, "irn": 0.5})
    arguments = ["--data", str(faces), "--out", str(tmp_path / "out"), "--config", str(config), "--minutes", "5", "--size", "64"]
    with pytest.raises(SystemExit, match="went away"):
        train_all.main(arguments)
    table = capsys.readouterr().out.splitlines()[-len(train_all.STAGES) - 1 :]
    assert "no share" in table[2] and "(not finished)" in table[3]
    train_all.main(arguments)
    assert called == ["recognizer", "irn", "irn"]
    table = capsys.readouterr().out.splitlines()[-len(train_all.STAGES) - 1 :]
    assert table[0].split()[:3] == ["stage", "steps", "minutes"]
    assert [row.split()[:2] for row in table[1:4:2]] == [["recognizer", "2"], ["irn", "2"]]
    assert "l1 0." in table[3] and "no --labels" in next(row for row in table if row.startswith("detector"))
    manifest = json.loads((tmp_path / "out/weights/MANIFEST.json").read_text())
    assert set(manifest) == {"recognizer", "irn"}
    assert all(entry["bytes"] < train_all.LARGEST for entry in manifest.values())
    card = (tmp_path / "out/weights/irn.md").read_text()
    assert "4 aligned face crops" in card and "no GPU" not in card


@pytest.mark.slow
def test_with_labels_the_refiner_looks_at_the_finds_of_the_detector_trained_before_and_both_are_exported(
    train_all, faces, tmp_path, monkeypatch
):
    points = [[24, 30], [40, 30], [32, 38], [26, 46], [38, 46]]
    labels = {f"{number}.png": {"boxes": [[11, 6, 53, 58]], "points": [points]} for number in range(4)}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    looked = []

    def call(training, stage, entry, used):
        command = training.command(stage, entry, used)
        looked.append((stage.name, command[command.index("--detector") + 1] if "--detector" in command else None))
        return in_this_process(training, stage, entry, used)

    monkeypatch.setattr(train_all.Training, "call", call)
    config = settings(tmp_path, shares={"detector": 0.5, "landmarks": 0.5})
    arguments = ["--data", str(faces), "--out", str(tmp_path / "out"), "--config", str(config), "--minutes", "5", "--size", "64"]
    train_all.main([*arguments, "--labels", str(tmp_path / "labels.json")])
    found = tmp_path / "out/runs/detector/detector.safetensors"
    assert looked == [("detector", None), ("landmarks", str(found))] and found.exists()
    manifest = json.loads((tmp_path / "out/weights/MANIFEST.json").read_text())
    assert set(manifest) == {"detector", "landmarks"}
    assert all(weights.sha256(tmp_path / f"out/weights/{n}.safetensors") == e["sha256"] for n, e in manifest.items())


def test_a_run_that_was_stopped_before_its_first_checkpoint_is_left_out_of_the_export(train_all, tmp_path, monkeypatch):
    for run in ("irn", "recognizer"):
        (tmp_path / f"runs/{run}").mkdir(parents=True)
    (tmp_path / "runs/irn/checkpoint.pt").touch()
    called = []
    monkeypatch.setattr(
        train_all.subprocess, "run", lambda *args, **_: called.append(args[0]) or subprocess.CompletedProcess([], 0)
    )
    monkeypatch.setattr(train_all.Training, "notes", lambda _: tmp_path / "notes.yaml")
    arguments = ["--data", "faces", "--out", str(tmp_path), "--minutes", "1"]
    train_all.Training(train_all.arguments(arguments)).export()
    ((*_, option, names),) = called
    assert (option, names) == ("--only", "irn")


def test_a_folder_of_other_data_is_refused(train_all, tmp_path):
    train_all.Ledger.of(tmp_path / "progress.json", "faces").write()
    with pytest.raises(SystemExit, match="belongs to --data faces"):
        train_all.main(["--data", "others", "--out", str(tmp_path), "--minutes", "1"])


@pytest.mark.parametrize(
    ("text", "reason"), [('{"data": "fa', "not a JSON file"), ("[]", "not the ledger"), ("{}", "not the ledger")]
)
def test_a_damaged_ledger_is_named(train_all, tmp_path, text, reason):
    (tmp_path / "progress.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"progress\.json: {reason}"):
        train_all.Ledger.of(tmp_path / "progress.json", "faces")


def test_a_share_of_none_leaves_a_stage_out_and_one_of_no_stage_is_told(train_all, tmp_path):
    def stages(**shares):
        arguments = ["--data", "faces", "--out", str(tmp_path), "--minutes", "1", "--config"]
        training = train_all.Training(train_all.arguments([*arguments, str(settings(tmp_path, shares=shares))]))
        return [stage.name for stage in training.stages]

    assert stages(recognizer=0.5, irn=0, mask=0.5) == ["recognizer", "mask"]
    with pytest.raises(ConfigError, match=r"all\.yaml: shares: masks: no such stage; there are recognizer, "):
        stages(recognizer=0.5, masks=0.5)
    with pytest.raises(ConfigError, match=r"denoiser\.yaml: does not share the minutes out"):
        train_all.plan_of(TINY / "denoiser.yaml")


@pytest.mark.parametrize("option", ["--minutes=nan", "--minutes=inf", "--minutes=0", "--stop-after=nan", "--processes=-1"])
def test_a_budget_that_is_none_is_refused(train_all, tmp_path, option, capsys):
    with pytest.raises(SystemExit):
        train_all.arguments(["--minutes", "1", "--data", "faces", "--out", str(tmp_path), option])
    assert "must be more than 0" in capsys.readouterr().err


def test_without_faces_there_is_one_line_and_no_training(train_all, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit, match="no pictures"):
        train_all.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--minutes", "1"])
    assert not list((tmp_path / "out").iterdir())  # nothing there holds the next call to these data


@pytest.mark.parametrize("option", ["--teacher", "--backgrounds", "--notes"])
def test_a_file_that_is_not_there_is_told_before_the_first_stage(train_all, tmp_path, option, capsys):
    with pytest.raises(SystemExit):
        train_all.arguments(["--minutes", "1", "--data", "faces", "--out", str(tmp_path), option, "none.pth"])
    assert f"{option} none.pth: no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["identity", "vqgan", "denoiser", "one_step", "detector", "landmarks", "all"])
def test_all_settings_have_the_keys_of_the_plain_ones(name):
    def keys(values, path=""):
        if not isinstance(values, dict):
            return {path}
        return {key for k, v in values.items() for key in keys(v, f"{path}.{k}")} - {f"{path}.every"}

    plain, tiny = (keys(yaml.safe_load((folder / f"{name}.yaml").read_text())) for folder in (TINY.parent, TINY))
    assert tiny == plain
    if name != "all":
        assert keys(yaml.safe_load((TINY.parent / f"gpu/{name}.yaml").read_text())) == plain


@pytest.mark.slow
def test_all_stages_in_processes_of_their_own_where_little_is_installed(faces, tmp_path):
    for name in NOT_ON_A_GPU_IMAGE:
        (tmp_path / "without" / name).mkdir(parents=True)
        (tmp_path / "without" / name / "__init__.py").write_text(f"raise ImportError('{name} is not installed here')")
    command = [sys.executable, ROOT / "pipelines/train_all.py", "--data", faces, "--out", tmp_path / "out", "--size", "64"]
    command += ["--config", TINY / "all.yaml", "--minutes", "20", "--threads", "1"]
    path = os.pathsep.join((str(ROOT), str(tmp_path / "without")))
    environment = {**os.environ, "PYTHONPATH": path}
    stopped = subprocess.Popen([*map(str, command)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "out/runs/recognizer/checkpoint.pt").exists() and stopped.poll() is None:
        time.sleep(0.1)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(60) == 128 + signal.SIGTERM
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "tensorboard is not installed" in done.stderr
    stages = json.loads((tmp_path / "out/progress.json").read_text())["stages"]
    assert all(entry["done"] and entry["steps"] == 2 for entry in stages.values())
    assert stages["irn_last"]["began"]["step"] == 2
    assert torch.load(tmp_path / "out/runs/irn/checkpoint.pt", weights_only=True)["step"] == 4
    exported = {p.stem for p in (tmp_path / "out/weights").glob("*.safetensors")}
    assert {"vqgan", "irn", "denoiser", "mask", "recognizer", "student"} <= exported
