"""How well the embedded recogniser tells people apart: cosines of pairs of the same and of different people.

    python pipelines/evaluate_identity.py --faces VAL --identities MANIFEST.tsv [--json FILE]
    python pipelines/evaluate_identity.py --faces SHARDS --identities SHARDS/manifest.tsv --judge judge.py      # of films

`--faces` holds aligned crops, `--identities` is a TSV with the columns `file` and `identity`; a face that is not listed is a
person of its own. Portraits of one light are easier than films, so crops of clips count as well (`pipelines/prepare_faces.py`,
the column `source`): with `--judge` (see `videoclr/evaluation/observer.py`) two faces of one clip are one person where the judge's
cosine says so, two of different clips are two people unless it doubts that, and all other pairs are left out. What `identify.match`
and `identify.same` should be follows from these tables.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray

from videoclr.arguments import integer
from videoclr.errors import VideoclrError
from videoclr.evaluation.observer import Judge
from videoclr.models.recognizer import FFHQ_POINTS
from videoclr.parts.face_recognizer import FaceRecognizer
from videoclr.training.data import as_tensor, load_faces, read_identities
from videoclr.training.program import in_one_line

QUANTILES = (95, 99)


ONE, TWO = 0.45, 0.35
"""Cosines of the judge from which two faces of a clip are one person, and up to which two of different clips are two people."""


def cosines(embedded: NDArray[np.floating]) -> NDArray[np.floating]:
    """Of all pairs of `(N, D)` unit vectors, in the order of `np.triu_indices(N, 1)`."""
    return (embedded @ embedded.T)[np.triu_indices(len(embedded), 1)]


def alike(values: Sequence[object]) -> NDArray[np.bool_]:
    """Of all pairs in the same order: whether the two values are equal."""
    _, numbers = np.unique(np.asarray(values), return_inverse=True)
    first, second = np.triu_indices(len(numbers), 1)
    return numbers[first] == numbers[second]


def judged(faces: NDArray[np.uint8], clips: Sequence[str], judge: Judge) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of all pairs of `(N, S, S, 3)` crops in that order: which show one person, and which two, by their clips and the judge."""
    points = FFHQ_POINTS * faces.shape[1]
    seen = [judge.see(face, points)[0] for face in faces]
    near = cosines(np.stack([vector for vector in seen if vector is not None]))  # `judge.recognises`: none is
    return alike(clips) & (near >= ONE), ~alike(clips) & (near <= TWO)


def equal_error(same: NDArray[np.float32], different: NDArray[np.float32]) -> tuple[float, float]:
    """Rate and cosine at which as many pairs of one person fall below as pairs of two people lie above."""
    levels = np.unique(np.concatenate([same, different]))
    missed = np.searchsorted(np.sort(same), levels) / len(same)
    taken = 1 - np.searchsorted(np.sort(different), levels) / len(different)
    best = int(np.abs(missed - taken).argmin())
    return float((missed[best] + taken[best]) / 2), float(levels[best])


@in_one_line
def main(argv: Sequence[str] | None = None) -> None:
    """Embed, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", required=True)
    parser.add_argument("--identities", required=True)
    parser.add_argument("--judge", type=Path, help="who is who in crops of clips")
    parser.add_argument("--size", type=integer(32), default=256)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    names, faces = load_faces(args.faces, args.size)
    if args.judge:
        with open(args.identities, encoding="utf-8", newline="") as file:
            source = {Path(row["file"]).name: row.get("source", "") for row in csv.DictReader(file, delimiter="\t")}
        if not all(source.get(Path(name).name) for name in names):
            parser.error(f"--identities {args.identities}: --judge needs the columns file and source, and every picture in them")
        try:
            judge = Judge(args.judge)
        except VideoclrError as error:
            parser.error(str(error))
        if not judge.recognises:
            parser.error(f"--judge {args.judge}: has no face_input and embed")
        one, two = judged(faces, [source[Path(name).name] for name in names], judge)
    else:
        one = alike(read_identities(args.identities, names).tolist())
        two = ~one
    recognizer = FaceRecognizer(recover=False)
    every = cosines(torch.cat([recognizer.embed(as_tensor(face)[None]) for face in faces]).numpy())
    same, different = every[one], every[two]
    if not len(same) or not len(different):
        parser.error(f"--identities {args.identities}: needs people with two pictures, and at least two people")
    rate, level = equal_error(same, different)
    table = {
        "faces": len(names),
        "pairs of one person": len(same),
        "pairs of two people": len(different),
        "pairs left out": len(every) - len(same) - len(different),
        "mean cosine of one person": float(same.mean()),
        "mean cosine of two people": float(different.mean()),
        **{f"two people, percentile {q}": float(np.percentile(different, q)) for q in QUANTILES},
        **{f"one person above percentile {q}": float((same > np.percentile(different, q)).mean()) for q in QUANTILES},
        "equal error rate": rate,
        "equal error at cosine": level,
    }
    for name, value in table.items():
        print(f"{name:<28}{value:>10}" if isinstance(value, int) else f"{name:<28}{value:>10.4f}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
