"""Worker processes: a signal to all of a job is for the process that trains, and no worker outlives it."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from videoclr.errors import ConfigError
from videoclr.training.data import FacePairs, batches, loader

ROOT = Path(__file__).resolve().parents[2]
TRAINING = """
import os, signal, sys, numpy as np, torch
from torch import nn
from videoclr.training.data import FacePairs, batches
from videoclr.training.loop import Loop

modules = nn.ModuleDict({"net": nn.Linear(1, 1)})
loop = Loop(sys.argv[1], modules, minutes=10, steps=10000, bf16=False)
feed = batches(FacePairs(np.zeros((2, 16, 16, 3), np.uint8), 0, {}), 2, loop.step, workers=2)
for step in loop.steps():
    if step == 5:
        os.killpg(0, signal.SIGTERM)
    if step > 5:
        raise AssertionError("goes on after SIGTERM")
    samples = [next(feed) for _ in range(30)]  # more than were made before the signal
    loop.update(modules["net"](samples[-1]["clean"][:, :1, :1, 0]).pow(2).mean(), {})
"""


def test_workers_go_on_after_a_signal_to_everybody_and_end_with_their_reader():
    faces = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    data = FacePairs(faces, 0, {})
    before = multiprocessing.active_children()
    feed = batches(data, 2, step=0, workers=2)
    found = [next(feed) for _ in range(2)]  # both of them are at work
    workers = [child for child in multiprocessing.active_children() if child not in before]
    assert len(workers) == 2
    for worker in workers:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid, number)
    found += [next(feed) for _ in range(20)]
    assert all(worker.is_alive() for worker in workers)
    for number, batch in enumerate(found):
        assert torch.equal(batch["clean"][1], data[2 * number + 1]["clean"])
    feed.close()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0


@pytest.mark.slow
def test_a_training_whose_whole_group_is_told_to_end_saves_and_leaves_nobody_behind(tmp_path):
    command = [sys.executable, "-c", TRAINING, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300, start_new_session=True
    )
    # The pipes of `capture_output` end only when the last worker that holds them has ended.
    assert done.returncode == 128 + signal.SIGTERM, done.stderr[-3000:]
    assert "Terminated" not in done.stderr and "Traceback" not in done.stderr
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 6


@pytest.mark.parametrize("workers", ["device", "two", -1, True, 1.5])
def test_what_is_no_number_of_processes_is_told(workers):
    with pytest.raises(ConfigError, match="workers: expected a number of processes, 0 or more, got"):
        loader([0], workers)
