"""Train the network that tells where a face shows: neither behind a hand or a microphone, nor under hair.

    python pipelines/train_occlusion.py --faces DIR --out runs/occlusion --minutes 20 --held-out DIR

No labels are needed: what hides is pasted by `videoclr/training/occlusion.py`, hair and background come from GrabCut on the
clean portraits (kept in OUT/labels.npy). Goes on from OUT where a checkpoint is there, and writes `occlusion.safetensors` beside
it: averaged weights, which `--set blend.options.weights=FILE` takes and `pipelines/export_weights.py --add` makes the embedded
ones. With `--held-out`, the faces of another folder are measured in the end (OUT/figures.json): intersection over union of what
was pasted, and of everything that is not the face, by level of degradation. Settings: configs/train/occlusion.yaml.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from videoclr.models.occlusion import OcclusionNet
from videoclr.models.weights import write_safetensors
from videoclr.training.data import batches, load_faces
from videoclr.training.loop import Loop, part_of
from videoclr.training.occlusion import UNKNOWN, OccludedFaces, face_label, overlap, shown_loss
from videoclr.training.program import add_budget, begin, in_one_line, loop_of

HERE = Path(__file__).resolve().parent.parent
log = logging.getLogger("videoclr.training")


def labelled(folder: str, size: int, kept: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The faces of a folder with their labels, which are made once."""
    _, faces = load_faces(folder, size)
    labels = np.load(kept) if kept.exists() else None
    if labels is None or labels.shape != faces.shape[:3]:
        log.info("labels of %d faces", len(faces))
        labels = np.stack([face_label(face) for face in faces])
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part.npy")
        np.save(part, labels)
        part.replace(kept)
    return faces, labels.astype(np.float32)


def train(args: argparse.Namespace, settings: dict[str, Any]) -> Loop:
    """Learn until the budget is used."""
    faces, labels = labelled(args.faces, settings["size"], args.out / "labels.npy")
    modules = nn.ModuleDict({"occlusion": OcclusionNet()})
    loop = loop_of(args, modules, settings)
    data = OccludedFaces(faces, labels, settings["seed"], settings["levels"], settings["bare"])
    samples = batches(data, settings["batch"], loop.step, settings["workers"])
    for step in loop.steps():
        batch = next(samples)
        picture, shown = batch["picture"].to(loop.device), batch["shown"].to(loop.device)
        with loop.autocast():
            logits = modules["occlusion"](picture)
        loss, terms = shown_loss(logits.float(), shown)
        loop.update(loss, dict(terms))
        if step % 200 == 0:
            seen = [2 * part.expand(-1, 3, -1, -1) - 1 for part in (torch.sigmoid(logits.float()), shown)]
            loop.picture("picture | found | label", torch.cat([picture[:6], *(part[:6] for part in seen)], dim=2))
    return loop


def export(loop: Loop) -> None:
    """Write the averaged weights, by rename."""
    path = loop.out / "occlusion.safetensors"
    state = part_of(loop.ema.module.state_dict(), "occlusion")
    write_safetensors(path.with_suffix(".part"), state, {"name": "occlusion", "step": str(loop.step)})
    path.with_suffix(".part").replace(path)


def measure(args: argparse.Namespace, settings: dict[str, Any], loop: Loop) -> None:
    """Every held-out face once with something before it, and once without, by level."""
    faces, labels = labelled(args.held_out, settings["size"], args.out / "labels_held_out.npy")
    network, middle = loop.ema.module["occlusion"].eval(), amid(settings["size"])
    figures: dict[str, dict[str, float]] = {}
    for level in ("clean", *settings["levels"]):
        levels = {} if level == "clean" else {level: 1.0}
        found: dict[str, list[float]] = {"pasted": [], "not the face": [], "lost of a bare face": []}
        for bare in (0.0, 1.0):
            data = OccludedFaces(faces, labels, settings["seed"] + 1, levels, bare)
            for number in range(len(faces)):
                sample = data[number]
                with torch.inference_mode():
                    logits = network(sample["picture"][None].to(loop.device)).cpu()
                shown, hidden = sample["shown"][None], sample["hidden"][None]
                known = (shown != UNKNOWN).float()
                if bare:
                    found["not the face"].append(overlap(logits, 1 - shown, known))
                    found["lost of a bare face"].append(float(((logits <= 0) & (shown == 1)).sum() / (shown == 1).sum()))
                elif float((hidden > 0.5).float()[middle.expand_as(hidden) > 0].mean()) > 0.01:  # else it hides nothing there
                    found["pasted"].append(overlap(logits, hidden, middle * known))
        figures[level] = {name: round(float(np.nanmean(values)), 4) for name, values in found.items() if values}
    (args.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def amid(side: int) -> torch.Tensor:
    """`(1, 1, side, side)`: 1 amid the face, where hair and background are no answer."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    inside = ((x - 0.5) / 0.22) ** 2 + ((y - 0.6) / 0.24) ** 2 <= 1
    return torch.from_numpy(inside.astype(np.float32))[None, None]


@in_one_line
def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", required=True, help="aligned, clean face crops: a folder, tar shards, or a packed .npy")
    parser.add_argument("--held-out", help="as --faces, of other people: measured in the end")
    add_budget(parser, HERE / "configs/train/occlusion.yaml", minutes=20)
    args = parser.parse_args()
    settings = begin(args)
    loop = train(args, settings)
    if loop.main:
        export(loop)
        if args.held_out:
            measure(args, settings, loop)


if __name__ == "__main__":
    main()
