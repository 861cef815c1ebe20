"""Score the restorer on held-out stills against the input, bicubic-like baselines and its own parts, in one table.

    python pipelines/evaluate.py --faces VAL --judge judge.py --out runs/evaluate [--rows input,irn,full] [--limit 48]

`--faces` is a folder of aligned clean crops; each is degraded with a fixed seed from its name (`mild` and `heavy`, parameters in
`videoclr/training/degrade.py`). `--judge` is a program with `Judges()` and `score(judges, clean, other)`; it holds the networks
that score, none of which may have been used in training. Writes `table.json`, `table.md` and a contact sheet
(degraded | IRN | full | clean) per level.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from videoclr.parts.clr import ClrNetworks, ClrRestorer
from videoclr.training.data import as_tensor, load_faces
from videoclr.training.degrade import LEVELS, degrade, degraded_name_seed

Picture = NDArray[np.uint8]
SHEET = 24
"""Faces on the contact sheet: every n-th in the order of names."""


def load_judge(path: str) -> ModuleType:
    """Import the scoring program from its file."""
    spec = importlib.util.spec_from_file_location("judge", path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_picture(tensor: torch.Tensor) -> Picture:
    """`(3, S, S)` in [-1, 1] -> `(S, S, 3)` uint8."""
    array: Picture = ((tensor.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return array


def restorers(
    networks: ClrNetworks, names: list[str], device: str, steps: int
) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Name -> a function from `(1, 3, S, S)` to the same; each row of the table."""

    def full(**settings: float) -> Callable[[torch.Tensor], torch.Tensor]:
        restorer = ClrRestorer(networks=networks, device=device, **{"steps": steps, **settings})  # type: ignore[arg-type]
        return restorer.restore_stills

    def denoised(y: torch.Tensor) -> torch.Tensor:
        picture = cv2.fastNlMeansDenoisingColored(as_picture(y[0]), None, 5, 5, 7, 21)
        return as_tensor(np.asarray(picture, np.uint8))[None]

    table: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "input": lambda y: y,
        "nlm": denoised,
        "irn": ClrRestorer(networks=networks, device=device).recover,
        "full": full(),
        "no guidance": full(guidance=0.0),
        "1 step": full(steps=1),
        **{f"fidelity {f}": full(fidelity=f) for f in (0.0, 0.25, 0.75, 1.0)},
    }
    unknown = [n for n in names if n not in table and n != "vqgan"]
    if unknown:
        sys.exit(f"unknown rows {', '.join(unknown)}; there are vqgan, {', '.join(table)}")
    return {n: table[n] for n in names if n in table}


def reconstruct(networks: ClrNetworks, y: torch.Tensor) -> torch.Tensor:
    """Encode and decode a clean crop, continuous latent."""
    with torch.inference_mode():
        return networks.decoder(networks.encoder(y)).clamp(-1, 1)  # type: ignore[no-any-return]


def sheet(columns: list[list[Picture]], path: Path) -> None:
    """Rows of four pictures, three faces abreast."""
    picked = np.linspace(0, len(columns[0]) - 1, min(SHEET, len(columns[0]))).astype(int)
    rows = [
        np.concatenate([cv2.resize(column[i], (160, 160), interpolation=cv2.INTER_AREA) for column in columns], 1) for i in picked
    ]
    rows += [np.full_like(rows[0], 255)] * (-len(rows) % 3)
    grid = np.concatenate([np.concatenate(rows[i : i + 3], 1) for i in range(0, len(rows), 3)])
    cv2.imwrite(str(path), grid[:, :, ::-1])


def main() -> None:
    """Degrade, restore, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", required=True)
    parser.add_argument("--judge", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--checkpoints", help="folder of training runs to evaluate instead of the embedded weights")
    parser.add_argument(
        "--rows",
        default="input,vqgan,nlm,irn,full,no guidance,1 step,fidelity 0.0,fidelity 0.25,fidelity 0.75,fidelity 1.0",
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--limit", type=int, default=0, help="only this many faces, spread over the folder")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.checkpoints and not Path(args.checkpoints).is_dir():
        parser.error(f"--checkpoints {args.checkpoints}: no such folder")
    judge = load_judge(args.judge)
    judges, (names, faces) = judge.Judges(), load_faces(args.faces, args.size)
    if args.limit:
        picked = np.linspace(0, len(names) - 1, args.limit).astype(int)
        names, faces = [names[i] for i in picked], faces[picked]
    networks = ClrNetworks.of_runs(args.checkpoints) if args.checkpoints else ClrNetworks.embedded()
    wanted = args.rows.split(",")
    args.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, dict[str, float]]] = {}
    if "vqgan" in wanted:
        back = [as_picture(reconstruct(networks, as_tensor(face)[None])[0]) for face in faces]
        table["clean"] = {"vqgan": judge.score(judges, list(faces), back)}
        print("clean", "vqgan", table["clean"]["vqgan"], flush=True)
    for level in LEVELS:
        inputs = [
            degrade(face, level, np.random.default_rng(degraded_name_seed(name))) for name, face in zip(names, faces, strict=True)
        ]
        table[level], kept = {}, {}
        for row, restore in restorers(networks, wanted, args.device, args.steps).items():
            began = time.perf_counter()
            kept[row] = [as_picture(restore(as_tensor(picture)[None])[0]) for picture in inputs]
            seconds = (time.perf_counter() - began) / len(inputs)
            table[level][row] = {
                **judge.score(judges, list(faces), kept[row]),
                "sharpness": sharpness(faces, kept[row]),
                "seconds": round(seconds, 3),
            }
            print(level, row, table[level][row], flush=True)
        sheet([kept[r] for r in ("input", "irn", "full") if r in kept] + [list(faces)], args.out / f"{level}.png")
    (args.out / "table.json").write_text(json.dumps(table, indent=1))
    (args.out / "table.md").write_text(markdown(table))


def sharpness(clean: NDArray[np.uint8], other: list[Picture]) -> float:
    """Ratio of mean Laplacian variances, restored / clean: 1 is as sharp as the truth."""
    variance = lambda im: cv2.Laplacian(cv2.cvtColor(im, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()  # noqa: E731
    return round(float(np.mean([variance(b) for b in other]) / np.mean([variance(a) for a in clean])), 3)


def markdown(table: dict[str, dict[str, dict[str, float]]]) -> str:
    """The table for a README."""
    columns = ("psnr", "ssim", "ids", "ffd", "facefeat", "sqd", "lmd", "sharpness")
    lines = ["| level | row | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for level, rows in table.items():
        lines += [f"| {level} | {row} | " + " | ".join(str(v.get(c, "")) for c in columns) + " |" for row, v in rows.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
