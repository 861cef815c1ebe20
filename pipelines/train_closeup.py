"""Train the network that gives close-ups the detail which the restorer's own resolution lacks.

    python pipelines/train_closeup.py --faces DIR --perceptual FILE --out runs/closeup --minutes 90

Learns from portraits of at least 512 px (smaller ones in the folder are left out), degraded at that size as pictures, or moved and
degraded as films by a real codec, beside what the restorer makes of them at 256 px: the embedded one, or with `--runs` that of
these runs. Pairs are made once and kept in OUT/pairs.
Settings: configs/train/closeup.yaml.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch import nn

from videoclr.models.closeup import CloseUp
from videoclr.parts.clr import ClrNetworks, ClrRestorer
from videoclr.training.data import load_faces
from videoclr.training.losses import FeatureDiscriminator, Perceptual, adversarial_losses, fidelity_loss
from videoclr.training.program import add_budget, begin, in_one_line, loop_of
from videoclr.training.restored import close_up_patches, made_pairs

HERE = Path(__file__).resolve().parent.parent


def train(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """L1, gradients, features, and a little of a discriminator of features, on patches."""
    size = settings["size"]
    _, faces = load_faces(args.faces, size, least=size)
    perceptual = Perceptual(args.perceptual) if args.perceptual else None
    modules = nn.ModuleDict({"closeup": CloseUp()})
    if settings["adversarial"] and perceptual is not None:
        modules["discriminator"] = FeatureDiscriminator(perceptual)
    loop = loop_of(args, modules, settings)
    perceptual = perceptual.to(loop.device) if perceptual else None

    def teacher() -> ClrRestorer:
        networks = ClrNetworks.of_runs(args.runs) if args.runs else ClrNetworks.embedded()
        return ClrRestorer(networks=networks, device=str(loop.device), size=size // 2)

    if loop.main:
        made_pairs(faces, settings, teacher, args.out / "pairs")
    loop.accelerator.wait_for_everyone()
    pairs = made_pairs(faces, settings, teacher, args.out / "pairs")  # the others read them
    for step in loop.steps():
        rng = np.random.default_rng((settings["seed"], step, loop.accelerator.process_index))
        clean, worse, restored = (x.to(loop.device) for x in close_up_patches(pairs, settings["patch"], settings["batch"], rng))
        down, right = (int(shift) for shift in rng.integers(0, 16, 2))
        with loop.autocast():
            detailed = modules["closeup"](worse, restored).float()
            loss, terms = fidelity_loss(detailed, clean, settings, perceptual, roll=(down, right))
            scalars: dict[str, float | torch.Tensor] = {**terms, "l1 without": (restored - clean).abs().mean()}
            if "discriminator" in modules:
                judged, fooled = adversarial_losses(modules["discriminator"], clean, detailed)
                if step > settings["adversarial_after"] + loop.first:
                    loss = loss + settings["adversarial"] * fooled
                loss = loss + judged
                scalars |= {"discriminator": judged, "fooled": fooled}
        loop.update(loss, scalars)
        if step % 200 == 0:
            loop.picture(
                "degraded | restored | detailed | clean", torch.cat([x[:4] for x in (worse, restored, detailed, clean)], 2)
            )


@in_one_line
def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", required=True, help="aligned face crops: a folder, tar shards, or a packed .npy")
    parser.add_argument("--perceptual", help="SqueezeNet 1.0 state dict")
    parser.add_argument("--runs", help="folder of training runs of the restorer, in place of the embedded weights")
    add_budget(parser, HERE / "configs/train/closeup.yaml", minutes=90)
    args = parser.parse_args()
    train(args, begin(args))


if __name__ == "__main__":
    main()
