"""How well the embedded recogniser tells people apart: cosines of pairs of the same and of different people.

    python pipelines/evaluate_identity.py --faces VAL --identities MANIFEST.tsv [--json FILE]

`--faces` is a folder of aligned clean crops, `--identities` a TSV with the columns `file` and `identity`; a face that is not
listed is a person of its own. What `identify.match` and `identify.same` should be follows from this table.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray

from videoclr.parts.face_recognizer import FaceRecognizer
from videoclr.training.data import as_tensor, load_faces, read_identities

QUANTILES = (95, 99)


def cosines(embedded: NDArray[np.float32], people: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of all pairs of `(N, D)` unit vectors: those of one person, and those of two."""
    first, second = np.triu_indices(len(people), 1)
    every, same = (embedded @ embedded.T)[first, second], people[first] == people[second]
    return every[same], every[~same]


def equal_error(same: NDArray[np.float32], different: NDArray[np.float32]) -> tuple[float, float]:
    """Rate and cosine at which as many pairs of one person fall below as pairs of two people lie above."""
    levels = np.unique(np.concatenate([same, different]))
    missed = np.searchsorted(np.sort(same), levels) / len(same)
    taken = 1 - np.searchsorted(np.sort(different), levels) / len(different)
    best = int(np.abs(missed - taken).argmin())
    return float((missed[best] + taken[best]) / 2), float(levels[best])


def main(argv: Sequence[str] | None = None) -> None:
    """Embed, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", required=True)
    parser.add_argument("--identities", required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    names, faces = load_faces(args.faces, args.size)
    people = read_identities(args.identities, names).numpy()
    recognizer = FaceRecognizer(recover=False)
    embedded = torch.cat([recognizer.embed(as_tensor(face)[None]) for face in faces]).numpy()
    same, different = cosines(embedded, people)
    if not len(same) or not len(different):
        parser.error(f"--identities {args.identities}: needs people with two pictures, and at least two people")
    rate, level = equal_error(same, different)
    table = {
        "faces": len(names),
        "pairs of one person": len(same),
        "mean cosine of one person": float(same.mean()),
        "mean cosine of two people": float(different.mean()),
        **{f"two people, percentile {q}": float(np.percentile(different, q)) for q in QUANTILES},
        "equal error rate": rate,
        "equal error at cosine": level,
    }
    for name, value in table.items():
        print(f"{name:<28}{value:>10.4g}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
