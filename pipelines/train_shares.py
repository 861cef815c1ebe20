"""Train the network that says how much of a crop is kept beside its restoration.

    python pipelines/train_shares.py --faces DIR --clips DIR --perceptual FILE --out runs/shares --minutes 30

Learns from portraits of at least 512 px (smaller ones in the folder are left out) and from clips, slightly and badly degraded,
beside what the restorer makes of them at 256 px: the embedded one, or with `--runs` that of these runs. Of the portraits the
restorer may have learned, so that it is better on them than on others; clips of other people tell what it is worth. Pairs are made
once and kept in OUT/pairs. Settings: configs/train/shares.yaml.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch import Tensor, nn

from videoclr.models.shares import Shares
from videoclr.parts.clr import ClrNetworks, ClrRestorer
from videoclr.training.data import load_faces
from videoclr.training.losses import Perceptual, fidelity_loss
from videoclr.training.pairs import clips_of
from videoclr.training.program import add_budget, begin, in_one_line, loop_of
from videoclr.training.restored import made_pairs, patches
from videoclr.types import FaceCrop, Faces, Frame

HERE = Path(__file__).resolve().parent.parent
_GOOD, _USUAL = 0.015, 0.045
"""L1 below which faces count about equally, and at which a loss counts as it is: else bad ones, which have nearly all of the error,
would be all that it learns from."""


def faces_in(size: int, frames: Iterator[Frame]) -> Iterator[Faces[FaceCrop]]:
    """Needs the whole library."""
    from videoclr import Config
    from videoclr.evaluation.views import Finder

    return Finder(Config(), size).faces(frames)


def train(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """L1, gradients and features, on patches."""
    size = settings["size"]
    _, faces = load_faces(args.faces, size, least=size)
    perceptual = Perceptual(args.perceptual) if args.perceptual else None
    loop = loop_of(args, nn.ModuleDict({"shares": Shares()}), settings)
    perceptual = perceptual.to(loop.device) if perceptual else None

    def teacher() -> ClrRestorer:
        networks = ClrNetworks.of_runs(args.runs) if args.runs else ClrNetworks.embedded()
        networks.shares = None  # all of the restoration
        return ClrRestorer(networks=networks, device=str(loop.device), size=size // 2)

    if loop.main:
        clips = clips_of(args.clips, args.out / "clips.npz", partial(faces_in, size), settings["frames"], settings["length"])
        made_pairs(faces, settings, teacher, args.out / "pairs", clips)
    loop.accelerator.wait_for_everyone()
    pairs = made_pairs(faces, settings, teacher, args.out / "pairs")  # the others read them
    for step in loop.steps():
        rng = np.random.default_rng((settings["seed"], step, loop.accelerator.process_index))
        clean, seen, restored = (x.to(loop.device) for x in patches(pairs, settings["patch"], settings["batch"], rng))
        down, right = (int(shift) for shift in rng.integers(0, 16, 2))
        with loop.autocast():
            shown = loop.modules["shares"](seen, restored).float()
            best = torch.minimum(wrong(seen, clean), wrong(restored, clean))
            loss, terms = weighed_loss(shown, clean, best, settings, perceptual, (down, right))
        scalars = {"l1 seen": wrong(seen, clean).mean(), "l1 restored": wrong(restored, clean).mean()}
        loop.update(loss, {**terms, **scalars})
        if step % 200 == 0:
            loop.picture("seen | restored | shown | clean", torch.cat([x[:4] for x in (seen, restored, shown, clean)], 2))


def wrong(picture: Tensor, clean: Tensor) -> Tensor:
    """`(N,)`: L1 of each."""
    return (picture - clean).abs().mean((1, 2, 3))


def weighed_loss(
    shown: Tensor,
    clean: Tensor,
    best: Tensor,
    settings: dict[str, Any],
    perceptual: nn.Module | None = None,
    roll: tuple[int, int] = (0, 0),
) -> tuple[Tensor, dict[str, Tensor]]:
    """`fidelity_loss`, its L1 and gradients of each face by how wrong the better one of its two pictures is, which is `best`."""
    weights = (_USUAL / (_GOOD + best)).view(-1, 1, 1, 1)
    loss, _ = fidelity_loss(clean + weights * (shown - clean), clean, settings)
    features, terms = fidelity_loss(shown, clean, {"pixel": 0.0, "perceptual": settings["perceptual"]}, perceptual, roll=roll)
    return loss + features, terms


@in_one_line
def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", required=True, help="aligned face crops: a folder, tar shards, or a packed .npy")
    parser.add_argument("--clips", type=Path, help="folder of clean clips; without it films are made of the faces alone")
    parser.add_argument("--perceptual", help="SqueezeNet 1.0 state dict")
    parser.add_argument("--runs", help="folder of training runs of the restorer, in place of the embedded weights")
    add_budget(parser, HERE / "configs/train/shares.yaml", minutes=30)
    args = parser.parse_args()
    train(args, begin(args))


if __name__ == "__main__":
    main()
