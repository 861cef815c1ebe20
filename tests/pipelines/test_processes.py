"""Two processes that train together under `torchrun` stay one training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SHARED = """
import sys, torch
from torch import nn
from videoclr.training.loop import Loop

modules = nn.ModuleDict({"net": nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))})
loop = Loop(sys.argv[1], modules, minutes=1000, steps=5, bf16=False)  # a machine that stalls for a minute must not end it
for step in loop.steps():
    x = torch.randn(8, 2, generator=loop.generator(step), device=loop.device)
    loss = modules["net"](x).pow(2).mean()
    loop.update(loss * float("nan") if step == 2 and loop.main else loss, {})
torch.save({"modules": modules.state_dict(), "x": x}, f"{sys.argv[1]}/process{loop.accelerator.process_index}.pt")
"""
PROGRAM = """
import runpy, sys, torch

del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
assert torch.distributed.get_world_size() == 2
"""


def together(*command):
    """Run a program in two processes of one thread each, without a GPU."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*torchrun, *map(str, command)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


@pytest.mark.slow
def test_processes_end_with_the_same_weights_from_different_samples(tmp_path):
    (tmp_path / "shared.py").write_text(SHARED)
    together(tmp_path / "shared.py", tmp_path)
    one, other = (torch.load(tmp_path / f"process{r}.pt", weights_only=True) for r in range(2))
    assert all(torch.equal(one["modules"][k], other["modules"][k]) for k in one["modules"])
    assert not torch.equal(one["x"], other["x"])
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["averaged"] == 4  # both skipped the step of the bad loss


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [("train_vqgan", "vqgan"), ("train_identity", "identity", "recognizer"), ("train_closeup", "closeup")],
    ids=lambda s: s[0],
)
def test_a_program_trains_in_two_processes(stage, tmp_path):
    program, config, *stages = stage
    (tmp_path / "faces").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"faces/{number}.png"), rng.integers(0, 255, (128, 128, 3), np.uint8))
    config = ["--config", ROOT / f"configs/train/tiny/{config}.yaml", "--steps", 3, "--minutes", 1000]
    (tmp_path / "program.py").write_text(PROGRAM)
    program = [tmp_path / "program.py", ROOT / "pipelines" / f"{program}.py"]
    together(*program, *stages, "--faces", tmp_path / "faces", "--out", tmp_path / "run", *config)
    checkpoint = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 3
    assert all(torch.isfinite(v).all() for v in checkpoint["modules"].values() if v.is_floating_point())
