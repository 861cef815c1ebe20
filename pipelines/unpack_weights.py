"""Turn the embedded weights back into checkpoints that the training programs go on from.

    python pipelines/unpack_weights.py --out runs [--only irn,detector]

Writes `OUT/<run>/checkpoint.pt` for every run that stands in the manifest. What does not ship is not in them: the state of the
optimiser and networks that only training uses start anew, and the averaged weights serve as the trained ones, in half precision.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videoclr.models.weights import load_embedded, manifest
from videoclr.parts.clr import FILES, RUNS
from videoclr.training.program import in_one_line

WHOLE_FILES = ("detector", "landmarks", "occlusion")
"""Embedded files that are one network of one run of the same name, their entries without a prefix."""


def runs_of(name: str) -> dict[str, dict[str, Tensor]]:
    """Run -> the state of its modules, from the embedded file `name`."""
    tensors, _ = load_embedded(name)
    if name in WHOLE_FILES:
        return {name: {f"{name}.{key}": value for key, value in tensors.items()}}
    found: dict[str, dict[str, Tensor]] = {}
    for run, inside, place in RUNS:
        if place.split(".")[0] in FILES[name]:
            own = {key: value for key, value in tensors.items() if key.startswith(place + ".")}
            found.setdefault(run, {}).update({inside + key[len(place) :]: value for key, value in own.items()})
    if "vqgan" in found:
        found["vqgan"]["state.clustered"] = torch.tensor(True)
    return found


@in_one_line
def main(argv: Sequence[str] | None = None) -> None:
    """Write the checkpoints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder of runs")
    parser.add_argument("--only", help="embedded files, with commas between; all without it")
    args = parser.parse_args(argv)
    entries = manifest()
    wanted = args.only.split(",") if args.only else list(entries)
    if unknown := [name for name in wanted if name not in entries]:
        sys.exit(f"{', '.join(unknown)}: unknown; there are {', '.join(entries)}")
    for name in wanted:
        for run, state in runs_of(name).items():
            path = args.out / run / "checkpoint.pt"
            if path.exists():
                sys.exit(f"{path} exists; training goes on from it as it is")
            path.parent.mkdir(parents=True, exist_ok=True)
            progress: dict[str, Any] = entries[name].get("progress", {}).get(run, {})
            step, minutes = progress.get("steps", 0), progress.get("minutes", 0.0)
            torch.save({"modules": state, "ema": state, "step": step, "spent": 60.0 * minutes}, path)
            print(f"{path}: {len(state)} tensors, {step} steps")


if __name__ == "__main__":
    main()
