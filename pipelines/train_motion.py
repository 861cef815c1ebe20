"""Train the network that tells how a face moved between two degraded crops.

    python pipelines/train_motion.py motion --faces DIR --clips runs/irn/clips.npz --out runs/motion --minutes 60
    python pipelines/train_motion.py time --faces DIR --clips runs/irn/clips.npz --out runs/motion --minutes 20

Stills of `--faces` are moved by a seed (`videoclr/training/motion.py`): their motion is known exactly. `--clips` holds aligned
crops of real clips, as `pipelines/train_temporal.py` keeps them, or is a folder of clips that are nothing but such crops: their
motion is estimated on the clean side. Every clip is degraded as a clip, through a real codec.

The clips are made first, `clips:` of them, in memory of the device: making one costs more than learning from it. `time` goes on
from `--out` and trains only what looks at all pairs together. Settings: configs/train/motion.yaml.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.motion import MotionNet, Moved
from videoclr.training.data import batches, load_faces
from videoclr.training.pairs import MotionClips
from videoclr.training.program import add_budget, begin, loop_of

HERE = Path(__file__).resolve().parent.parent
log = logging.getLogger("videoclr.training")
Kept = dict[str, Tensor]


def read_clips(source: Path | None, size: int) -> list[NDArray[np.uint8]]:
    """`(T, size, size, 3)` RGB uint8 each, from the `.npz` of `train_temporal.py` or a folder of clips of crops."""
    if source is None:
        return []
    if source.suffix == ".npz":
        with np.load(source) as data:
            return [data[name] for name in data.files]
    import av

    found: list[NDArray[np.uint8]] = []
    for path in sorted(source.glob("*.mp4")):
        with av.open(str(path)) as container:
            pictures = np.stack([np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)])
        if pictures.shape[1:3] != (size, size):
            raise SystemExit(f"{path}: expected crops of {size} px, got {pictures.shape[2]}x{pictures.shape[1]}")
        found.append(pictures)
    return found


def made(data: MotionClips, settings: dict[str, Any], device: torch.device) -> Kept:
    """The first clips of `data`, on the device."""
    parts: list[Kept] = []
    for batch in itertools.islice(batches(data, 8, 0, settings["workers"]), -(-settings["clips"] // 8)):
        parts.append({name: value.to(device) for name, value in batch.items()})
        if len(parts) % 50 == 0:
            log.info("%d clips are made", 8 * len(parts))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def drawn(kept: Kept, count: int, generator: torch.Generator) -> Kept:
    """`count` random rows of everything, as floats."""
    rows = torch.randint(len(kept["flow"]), (count,), generator=generator, device=generator.device)
    return {name: every[rows].float() for name, every in kept.items()}


def varied(truth: Kept, generator: torch.Generator) -> tuple[Tensor, Kept]:
    """Half of the clips mirrored, and each in a light of its own: frames in [-1, 1], and the rest."""
    count, half = len(truth["flow"]), len(truth["flow"]) // 2
    for name, values in truth.items():
        values[:half] = values[:half].flip(-1)
        if name in ("flow", "known"):
            values[:half, :, :, 0] *= -1
    light = 1 + 0.2 * (torch.rand((count, 1, 3, 1, 1), generator=generator, device=generator.device) - 0.5)
    return (truth["degraded"] / 127.5 * light - 1).clamp(-1, 1), truth


def loss_of(
    found: Moved, looks: Sequence[Moved], truth: Kept, settings: dict[str, Any]
) -> tuple[Tensor, dict[str, float | Tensor]]:
    """Distance to the truth of the result and of every look, coarser ones for less, and the likelihood of the last ones' errors.

    The face counts more than what lies around it. What the other picture does not show has no motion to be learned, and an error
    of `hidden` pixels that the network is to expect there.
    """
    flow, visible = truth["flow"].flatten(0, 2), truth["visible"].flatten(0, 2)
    side = flow.shape[-1]
    grid = (torch.arange(side, device=flow.device) + 0.5) / side
    face = torch.exp(-0.5 * (((grid[None, :] - 0.5) / 0.22) ** 2 + ((grid[:, None] - 0.58) / 0.28) ** 2))
    weight = (0.25 + face) * visible

    def fine(values: Tensor) -> Tensor:
        return F.interpolate(values.float().flatten(0, 2), size=(side, side), mode="bilinear", align_corners=False)

    def mean(values: Tensor) -> Tensor:
        return (values * weight).sum() / weight.sum().clamp(min=1)

    loss, scalars = flow.new_zeros(()), dict[str, float | Tensor]()
    for number, (motion, error) in enumerate([*looks, found]):
        distance = ((fine(motion) - flow).pow(2).sum(1, keepdim=True) + 1e-4).sqrt()
        after = len(looks) - number
        loss = loss + mean(distance) * settings["coarser"] ** after
        if after <= 1:
            wanted = torch.where(visible > 0, distance, distance.clamp(min=settings["hidden"])).detach()
            said = fine(error)
            likely = ((said + wanted * torch.exp(-said)) * (0.25 + face)).mean()
            loss = loss + settings["likelihood"] * likely
            scalars |= {("of two", "distance")[after == 0]: mean(distance).detach(), "likelihood": likely.detach()}
    lengths = {"motion": flow, "in the frame": flow - truth["known"].flatten(0, 2)}
    return loss, scalars | {name: mean(vectors.norm(dim=1, keepdim=True)) for name, vectors in lengths.items()}


def train_whole(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """All of it."""
    loop = loop_of(args, nn.ModuleDict({"motion": MotionNet()}), settings)
    kept = made(clips_of(args, settings), settings, loop.device)
    for step in loop.steps():
        generator = loop.generator(step)
        frames, truth = varied(drawn(kept, settings["batch"], generator), generator)
        with loop.autocast():
            found, looks = loop.modules["motion"](frames, truth["known"])
        loop.update(*loss_of(found, looks, truth, settings))


def train_time(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """What looks at all pairs together alone: what two frames say is computed once, so that hours of a CPU suffice."""
    net = MotionNet()
    loop = loop_of(args, nn.ModuleDict({"motion": net}), settings)
    net.requires_grad_(False)
    for part in (net.tell, net.over):
        part.requires_grad_(True)
    kept = made(clips_of(args, settings), settings, loop.device)
    said: list[Kept] = []
    for frames in kept.pop("degraded").split(1):
        with torch.no_grad(), loop.autocast():
            looks, state = net.compared(frames.float() / 127.5 - 1)
        said.append({"apart": looks[-1].motion.half(), "error": looks[-1].error.half(), "state": state.half()})
        if len(said) % 50 == 0:
            log.info("%d clips are looked at", len(said))
    kept |= {name: torch.cat([one[name] for one in said]) for name in said[0]}
    for step in loop.steps():
        truth = drawn(kept, settings["batch"], loop.generator(step))
        with loop.autocast():
            apart = Moved(truth["apart"], truth["error"])
            found = net.settled(apart, truth["state"], truth["known"])
        loop.update(*loss_of(found, [apart], truth, settings))


def clips_of(args: argparse.Namespace, settings: dict[str, Any]) -> MotionClips:
    """The endless clips."""
    _, faces = load_faces(args.faces, settings["size"])
    shape = {name: settings[name] for name in ("length", "real", "clean")}
    return MotionClips(faces, read_clips(args.clips, settings["size"]), settings["seed"], settings["levels"], **shape)


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=("motion", "time"), help="all, or only what looks at all pairs together")
    parser.add_argument("--faces", required=True, help="aligned face crops: a folder, tar shards, or a packed .npy")
    parser.add_argument("--clips", type=Path, help="aligned crops of real clips: an .npz, or a folder of .mp4")
    add_budget(parser, HERE / "configs/train/motion.yaml")
    args = parser.parse_args()
    settings = begin(args)
    {"motion": train_whole, "time": train_time}[args.stage](args, settings)


if __name__ == "__main__":
    main()
