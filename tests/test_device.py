"""On a device that is not the processor: what is computed there is computed from what lies there, and nothing else."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from torch.utils import backend_registration

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "configs/train/tiny"
STAGES = ["recognizer", "vqgan", "irn", "irn_last", "reference", "denoiser", "fusion", "start", "mask", "student"]

PRETENDED = pytest.param(
    "pretend",
    marks=pytest.mark.skipif(
        not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="this torch has no device to fill in"
    ),
)
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


def there(place: str, *arguments: str) -> list[dict]:
    """What `on_device.py` says, line by line."""
    command = [sys.executable, str(ROOT / "tests/on_device.py"), place, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def compared(place: str, folder: Path, *settings: list[str], what: str = "film") -> list[dict]:
    pytest.importorskip("skimage")
    # Another batch is another order of summing, and where a face lies decides every pixel of it.
    each = json.dumps([[*one, "runtime.detect_batch=1", "restore.options.size=128"] for one in settings])
    found = there(place, what, each, str(folder / "photo.png"))
    assert [one["faces"] for one in found] == [[1, 3]] * len(settings)
    assert place != "pretend" or all(one["calls"] > 1000 for one in found)
    return found


@pytest.mark.parametrize("place", [PRETENDED, CUDA])
def test_a_film_comes_out_as_it_does_on_the_processor(place, tmp_path):
    (found,) = compared(place, tmp_path, [])
    # The motion to a better view is found in eight bits: a last bit of the networks that tips some of them moves it a little.
    assert found["mean"] < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("place", [PRETENDED, CUDA])
def test_a_film_comes_out_as_it_does_on_the_processor_whatever_is_set(place, tmp_path):
    each = [
        [],
        ["restore.anchors=1", "restore.options.guidance=0.2"],
        ["restore.options.guidance=0.2", "restore.options.refine=2"],
        ["restore.options.start=auto", "restore.options.passes=2"],
        ["restore.steps=1", "restore.fidelity=0"],
        ["restore.options.solver=dpm++", "restore.options.start=0.4", "restore.options.sharpen=0.5"],
        ["blend.grain=1", "gate.use=none", "detect.every=2"],
    ]
    # A GPU has kernels of its own; whose are the processor's has nothing to differ in.
    most, mean = (1, 0.001) if place == "pretend" else (16, 0.2)
    for one in compared(place, tmp_path, *([*settings, "identify.remember=0"] for settings in each)):
        assert one["most"] <= most and one["mean"] < mean, one


@pytest.mark.slow
@pytest.mark.parametrize("place", [PRETENDED, CUDA])
def test_a_photograph_is_looked_at_there(place, tmp_path):
    (found,) = compared(place, tmp_path, [f"identify.references=[{tmp_path / 'photo.png'}]", "restore.options.guidance=0.2"])
    assert found["mean"] < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("place", [PRETENDED, CUDA])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_film_in_half_precision_is_the_same_but_for_rounding(place, precision, tmp_path):
    settings = ([f"restore.precision={precision}", *more] for more in ([], ["restore.anchors=1"]))
    for one in compared(place, tmp_path, *settings):
        assert 0 < one["mean"] < 0.5, one


@pytest.mark.slow
@pytest.mark.parametrize("place", [PRETENDED, CUDA])
def test_how_many_faces_are_restored_together_does_not_show(place, tmp_path):
    for one in compared(
        place, tmp_path, *([more, "identify.remember=0"] for more in ("restore.anchors=8", "restore.anchors=1")), what="batches"
    ):
        assert one["most"] <= 1, one


@pytest.mark.slow
@pytest.mark.parametrize("place", [PRETENDED, CUDA])
def test_every_stage_is_trained_there_with_samples_that_are_made_there(place, tmp_path):
    (tmp_path / "faces").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        picture = np.full((64, 64, 3), rng.integers(30, 220, 3), np.uint8)
        cv2.ellipse(picture, (32, 32), (21, 26), 0, 0, 360, tuple(int(c) for c in rng.integers(30, 220, 3)), -1)
        cv2.imwrite(str(tmp_path / f"faces/{number}.png"), picture)
    for path in TINY.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text().replace("workers: 0", "workers: device"))
    settings = {**yaml.safe_load((TINY / "all.yaml").read_text()), "settings": str(tmp_path)}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(settings))
    found = there(place, "train", str(tmp_path))
    assert [one["stage"] for one in found] == STAGES
    calls = [0, *(one["calls"] for one in found)]
    assert place != "pretend" or all(after - before > 500 for before, after in itertools.pairwise(calls))
    shutil.rmtree(tmp_path / "out")
