"""Score the restorer on held-out stills against the input, bicubic-like baselines and its own parts, in one table.

    python pipelines/evaluate.py --faces VAL --judge judge.py --out runs/evaluate [--rows input,irn,full] [--limit 48]

`--faces` is a folder of aligned clean crops; each is degraded with a fixed seed from its name (`mild` and `heavy`, parameters in
`videoclr/training/degrade.py`). `--judge` is a program with `Judges()` and `score(judges, clean, other)`; it holds the networks
that score, none of which may have been used in training. Writes `table.json`, `table.md` and a contact sheet
(degraded | IRN | full | clean) per level.

`--groups FILE.tsv` (lines of a file's name, or the first 16 digits of its SHA-256 where a name would name somebody, a tab, its
group; configs/evaluate/groups.tsv was made by eye) adds the figures of each group of faces: `groups.json`, `groups.md`.
Three or more rows of the dial (`fidelity 0.0` to `fidelity 1.0`) give `dial.json` and `dial.md`, which say whether each figure
goes one way. `--mask-proof` asks what the latent mask is worth (`mask.json`, `mask.md`): guidance inside the mask against
guidance everywhere, at the strength that gains as much identity by the guiding recogniser. `--identities FILE.tsv` (columns `file`
and `identity`) asks what a photograph as a reference is worth (`reference.json`, `reference.md`): faces of whom there is another
picture, restored without guidance, guided by the face alone, and with the other picture known. `--filmed logarithmic,dark,noisy`
asks the same of footage as cameras give it: the curve is laid over the degraded faces, and taken from the restored ones before they
are scored. `--close-ups` asks what becomes of faces of 512 px, degraded and scored at that size (`closeups.json`, `closeups.md`).
Clips: `evaluate_clips.py`.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import nn
from torch.nn import functional as F

from videoclr.arguments import integer
from videoclr.config import Config
from videoclr.evaluation.observer import judging, load_judge
from videoclr.metrics.fidelity import sharpness as laplacian
from videoclr.parts.clr import ClrNetworks, ClrRestorer
from videoclr.pipeline import Pipeline, device_of
from videoclr.training.data import as_tensor, load_faces, read_identities
from videoclr.training.degrade import LEVELS, degrade, degraded_name_seed
from videoclr.training.program import in_one_line
from videoclr.types import Frame

Picture = NDArray[np.uint8]
SHEET = 24
"""Faces on the contact sheet: every n-th in the order of names."""


def as_picture(tensor: torch.Tensor) -> Picture:
    """`(3, S, S)` in [-1, 1] -> `(S, S, 3)` uint8."""
    array: Picture = ((tensor.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return array


def restorers(
    networks: ClrNetworks, names: list[str], device: str, steps: int
) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Name -> a function from `(1, 3, S, S)` to the same; each row of the table."""

    def full(**settings: Any) -> Callable[[torch.Tensor], torch.Tensor]:
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
        "2 passes": full(passes=2),
        **({"start auto": full(start="auto")} if networks.start is not None else {}),
        **{f"fidelity {f}": full(fidelity=f) for f in (0.0, 0.25, 0.5, 0.75, 1.0)},
    }
    unknown = [n for n in names if n not in table and n != "vqgan"]
    if unknown:
        sys.exit(f"unknown rows {', '.join(unknown)}; there are vqgan, {', '.join(table)}")
    return {n: table[n] for n in names if n in table}


class Filmed(NamedTuple):
    """What a camera or a light makes of a picture; `(H, W, 3)` float64 in shares of white."""

    seen: Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]
    back: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Takes the light from what was restored, as far as it can be taken."""


def lit(*gains: float) -> Filmed:
    """Light of one strength, or of a colour."""
    return Filmed(lambda x, _: x * gains, lambda x: x / gains)


FILMED = {
    "": Filmed(lambda x, _: x, lambda x: x),
    "logarithmic": Filmed(
        lambda x, _: 0.15 + 0.55 * np.log1p(30 * x) / math.log(31),
        lambda x: np.expm1(((x - 0.15) / 0.55 * math.log(31)).clip(0, 5)) / 30,
    ),
    "pale": Filmed(lambda x, _: 0.55 + 0.25 * x, lambda x: (x - 0.55) / 0.25),
    "dark": lit(0.2),
    "blue": lit(0.06, 0.12, 0.8),
    "noisy": Filmed(lambda x, rng: x + rng.normal(0, 15 / 255, x.shape), lambda x: x),
}
"""Looks of `--filmed`."""


def as_filmed(picture: Picture, look: str, name: str) -> Picture:
    """`picture` of that name in the light of a look."""
    rng = np.random.default_rng([degraded_name_seed(name), 1])
    return in_bytes(FILMED[look].seen(picture / 255, rng)) if look else picture


def unfilmed(restored: torch.Tensor, look: str) -> Picture:
    """`(3, S, S)` in [-1, 1] without the look, `(S, S, 3)`."""
    if not look:
        return as_picture(restored)
    return in_bytes(FILMED[look].back((restored.double().permute(1, 2, 0).numpy() + 1) / 2))


def in_bytes(picture: NDArray[np.float64]) -> Picture:
    """Shares of white -> uint8."""
    return np.asarray((255 * picture).round().clip(0, 255), np.uint8)


def reconstruct(networks: ClrNetworks, y: torch.Tensor) -> torch.Tensor:
    """Encode and decode a clean crop, continuous latent."""
    with torch.inference_mode():
        return networks.decoder(networks.encoder(y)).clamp(-1, 1)  # type: ignore[no-any-return]


def sheet(columns: list[list[Picture]], path: Path, cell: int = 160) -> None:
    """Rows of four pictures of `cell` px, three faces abreast."""
    picked = np.linspace(0, len(columns[0]) - 1, min(SHEET, len(columns[0]))).astype(int)
    rows = [
        np.concatenate([cv2.resize(column[i], (cell, cell), interpolation=cv2.INTER_AREA) for column in columns], 1) for i in picked
    ]
    rows += [np.full_like(rows[0], 255)] * (-len(rows) % 3)
    grid = np.concatenate([np.concatenate(rows[i : i + 3], 1) for i in range(0, len(rows), 3)])
    cv2.imwrite(str(path), grid[:, :, ::-1])


def scored(judge: ModuleType, judges: Any, clean: list[Picture], other: list[Picture]) -> dict[str, float]:
    """The judge's figures that are numbers: of one face, such as `--limit 1` leaves, a figure of sets is none.

    Raises:
        VideoclrError: the judge fails.
    """
    few = " on one face (what compares sets needs more of them)" if len(clean) == 1 else ""
    with judging(str(judge.__file__), f"score failed{few}"):
        return {name: value for name, value in dict(judge.score(judges, clean, other)).items() if math.isfinite(value)}


@in_one_line
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
    parser.add_argument("--size", type=integer(32), default=256)
    parser.add_argument("--steps", type=integer(1), default=3)
    parser.add_argument("--limit", type=integer(0), default=0, help="only this many faces, spread over the folder")
    parser.add_argument("--groups", type=Path, metavar="FILE.tsv", help="a file's name and its group per line")
    parser.add_argument("--identities", type=Path, metavar="FILE.tsv", help="who is who: faces with another picture as reference")
    parser.add_argument(
        "--filmed", default="", metavar="LOOKS", help=f"faces as they are filmed: {', '.join(filter(None, FILMED))}"
    )
    parser.add_argument("--close-ups", action="store_true", help="faces of 512 px, with and without the network of close-ups")
    parser.add_argument("--mask-proof", action="store_true", help="guidance inside the latent mask against everywhere")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.checkpoints and not Path(args.checkpoints).is_dir():
        parser.error(f"--checkpoints {args.checkpoints}: no such folder")
    looks = args.filmed.split(",")
    if strange := [look for look in looks if look not in FILMED]:
        parser.error(f"--filmed {', '.join(strange)}: unknown; there are {', '.join(filter(None, FILMED))}")
    device_of(Config().override(f"runtime.device={json.dumps(args.device)}"))
    judge = load_judge(args.judge)
    with judging(args.judge, "Judges() failed"):
        judges = judge.Judges()
    names, faces = held_out(args, args.size)
    groups = groups_of(args.groups, names) if args.groups else {}
    pairs = pairs_of(args.identities, names) if args.identities else []
    networks = ClrNetworks.of_runs(args.checkpoints) if args.checkpoints else ClrNetworks.embedded()
    wanted = args.rows.split(",")
    args.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, dict[str, float]]] = {}
    by_group: dict[str, dict[str, dict[str, float]]] = {}
    proof: dict[str, dict[str, dict[str, float]]] = {}
    referred: dict[str, dict[str, dict[str, float]]] = {}
    if "vqgan" in wanted:
        back = [as_picture(reconstruct(networks, as_tensor(face)[None])[0]) for face in faces]
        table["clean"] = {"vqgan": scored(judge, judges, list(faces), back)}
        print("clean", "vqgan", table["clean"]["vqgan"], flush=True)
    for kind, look in [(kind, look) for kind in LEVELS for look in looks]:
        level = f"{kind}, {look}" if look else kind
        inputs = [as_filmed(degraded(face, kind, name), look, name) for name, face in zip(names, faces, strict=True)]
        table[level], kept = {}, {}
        for row, restore in restorers(networks, wanted, args.device, args.steps).items():
            began = time.perf_counter()
            kept[row] = [unfilmed(restore(as_tensor(picture)[None])[0], look) for picture in inputs]
            seconds = (time.perf_counter() - began) / len(inputs)
            table[level][row] = {
                **scored(judge, judges, list(faces), kept[row]),
                "sharpness": sharpness(faces, kept[row]),
                "seconds": round(seconds, 3),
            }
            print(level, row, table[level][row], flush=True)
            for group, members in groups.items():
                own = scored(judge, judges, [faces[i] for i in members], [kept[row][i] for i in members])
                by_group.setdefault(f"{level}, {group}", {})[row] = {"n": len(members), **own}
        if pairs:
            referred[level] = with_reference(networks, inputs, list(faces), pairs, (judge, judges), args)
            print(level, "reference", referred[level], flush=True)
        if args.mask_proof:
            proof[level] = mask_proof(networks, inputs, list(faces), (judge, judges), args)
            print(level, "mask", proof[level], flush=True)
        sheet([kept[r] for r in ("input", "irn", "full") if r in kept] + [list(faces)], args.out / f"{level}.png")
    if args.close_ups:
        keep(args.out / "closeups", close_ups(networks, (judge, judges), args), COLUMNS)
    keep(args.out / "table", table, COLUMNS)
    if curves := {level: curve for level, rows in table.items() if (curve := dial(rows))}:
        keep(args.out / "dial", curves, COLUMNS)
    if groups:
        keep(args.out / "groups", by_group, ("n", *COLUMNS[:-1]))
    if referred:
        keep(args.out / "reference", referred, ("n", *COLUMNS[:-1]))
    if proof:
        keep(args.out / "mask", proof, PROOF)


COLUMNS = ("psnr", "ssim", "ids", "ffd", "facefeat", "sqd", "lmd", "sharpness")
PROOF = ("strength", "gain", "pixels_changed", "mean_change", "moved_sqd", "moved_facefeat", "sqd", "facefeat", "ids", "psnr")
"""Of the mask's table: the fields of `Guided`; how far guidance moved the perceptual features from the unguided result; the rest
against the clean faces."""


def keep(path: Path, table: dict[str, dict[str, dict[str, float]]], columns: tuple[str, ...]) -> None:
    """Write a table as JSON and as Markdown."""
    path.with_suffix(".json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(table, columns), encoding="utf-8")


def dial(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """The rows of the dial in its order (`full` is its middle), and how each figure goes along it: up, down, or back and forth.

    Empty where fewer than three of them were evaluated.
    """
    found = {0.5: "full"} if "full" in rows else {}
    found |= {float(name.removeprefix("fidelity ")): name for name in rows if name.startswith("fidelity ")}
    if len(found) < 3:
        return {}
    curve: dict[str, dict[str, Any]] = {f"fidelity {place}": dict(rows[name]) for place, name in sorted(found.items())}
    ways = {}
    for figure in COLUMNS:
        steps = np.diff([values[figure] for values in curve.values() if figure in values])
        if len(steps):
            ways[figure] = "up" if (steps >= 0).all() else "down" if (steps <= 0).all() else "back and forth"
    return {**curve, "along the dial": ways}


def groups_of(path: Path, names: Sequence[str]) -> dict[str, list[int]]:
    """Group -> places of its faces in `names`, of a TSV of file and group; faces that it does not name are in no group.

    A group of one face is left out: a set of one has no spread to compare.
    """
    if not path.is_file():
        sys.exit(f"--groups {path}: no such file")
    place = {Path(name).name: i for i, name in enumerate(names)}
    place |= {hashlib.sha256(name.encode()).hexdigest()[:16]: i for name, i in place.items()}
    groups: dict[str, list[int]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        file, tab, group = line.partition("\t")
        if not tab or not group.strip():
            sys.exit(f"--groups {path}, line {number}: expected a file, a tab and a group")
        if Path(file).name in place:
            groups.setdefault(group.strip(), []).append(place[Path(file).name])
    found = {group: members for group, members in sorted(groups.items()) if len(members) > 1}
    if not found:
        sys.exit(f"--groups {path}: no group holds two of the faces that are evaluated")
    return found


def pairs_of(path: Path, names: list[str]) -> list[tuple[int, int]]:
    """Places in `names` of a picture and of another one of the same person: one pair for everybody of whom there are two."""
    if not path.is_file():
        sys.exit(f"--identities {path}: no such file")
    by_person: dict[int, list[int]] = {}
    for place, person in enumerate(read_identities(str(path), names).tolist()):
        by_person.setdefault(person, []).append(place)
    found = [(places[0], places[1]) for places in by_person.values() if len(places) > 1]
    if len(found) < 2:
        sys.exit(f"--identities {path}: fewer than two people of whom there are two pictures among those that are evaluated")
    return found


def held_out(args: argparse.Namespace, side: int, least: int = 0) -> tuple[list[str], NDArray[np.uint8]]:
    """Names and `(N, side, side, 3)` of the faces that are evaluated; see `load_faces`."""
    names, faces = load_faces(args.faces, side, least)
    if not args.limit:
        return names, faces
    picked = np.linspace(0, len(names) - 1, min(args.limit, len(names))).astype(int)
    return [names[i] for i in picked], faces[picked]


def degraded(face: Picture, kind: str, name: str) -> Picture:
    """A face of that name behind a level, the same on every machine."""
    return degrade(face, kind, np.random.default_rng(degraded_name_seed(name)))


def close_ups(networks: ClrNetworks, judging: tuple[ModuleType, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Level -> row -> figures of the faces that have twice `args.size`, restored as pictures of them are.

    `kept`: what they show beyond the restorer's resolution stays as it came; `detailed`: by the network of close-ups. Writes a
    contact sheet (degraded | kept | detailed | clean; the middle of each) for each level.
    """
    side = 2 * args.size
    names, faces = held_out(args, side, least=side)
    kinds, table = ("slight", "soft", "mild"), dict[str, Any]()
    for kind in kinds:
        inputs = [degraded(face, kind, name) for name, face in zip(names, faces, strict=True)]
        made = {"input": inputs}
        for row, detailed in {"kept": False, "detailed": True}.items():
            part = ClrRestorer(networks=networks, device=args.device, steps=args.steps, size=args.size, closeups=detailed)
            pipeline = Pipeline(restorer=part, recognizer=None)
            frames = (Frame.from_image(picture, number) for number, picture in enumerate(inputs))
            made[row] = [np.asarray(frame.image, np.uint8) for frame in pipeline.restore_frames(frames, aligned=True)]
        table[kind] = {
            row: {**scored(*judging, list(faces), pictures), "sharpness": sharpness(faces, pictures)}
            for row, pictures in made.items()
        }
        for row, figures in table[kind].items():
            print(f"close-ups, {kind}", row, figures, flush=True)
        half, amid = args.size, slice(args.size // 2, args.size * 3 // 2)  # as large as they are: that is what it is about
        columns = [[picture[amid, amid] for picture in pictures] for pictures in (*made.values(), list(faces))]
        sheet(columns, args.out / f"closeups_{kind}.png", half)
    return table


def with_reference(
    networks: ClrNetworks,
    inputs: list[Picture],
    clean: list[Picture],
    pairs: Sequence[tuple[int, int]],
    judging: tuple[ModuleType, Any],
    args: argparse.Namespace,
) -> dict[str, dict[str, float]]:
    """The rows of one level: the first one of each pair, restored without and with the second one known, clean."""
    judge, judges = judging
    part, unguided = (ClrRestorer(networks=networks, device=args.device, steps=args.steps, guidance=g) for g in (None, 0.0))
    known = [identity_of(networks, as_tensor(clean[other])[None]) for _, other in pairs]
    nobody = [None] * len(pairs)
    rows = {}
    shown = [as_tensor(clean[other]) for _, other in pairs]
    for name, restorer, theirs, pictures in (
        ("no guidance", unguided, nobody, nobody),
        ("full", part, nobody, nobody),
        ("guided by the reference", part, known, nobody),
        ("reference", part, known, shown),
    ):
        made = [
            as_picture(restorer.restore_stills(as_tensor(inputs[place])[None], [one], [picture])[0])
            for (place, _), one, picture in zip(pairs, theirs, pictures, strict=True)
        ]
        rows[name] = scored(judge, judges, [clean[place] for place, _ in pairs], made)
    return {"input": scored(judge, judges, *([some[place] for place, _ in pairs] for some in (clean, inputs))), **rows}


class Everywhere(nn.Module):
    """The latent mask that lets guidance go anywhere."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """`(N, C, h, w)` -> ones."""
        return torch.ones_like(z)


class Guided(NamedTuple):
    """What guidance of one strength did to all faces."""

    strength: float
    gain: float
    """Of the mean cosine to the identities that guide, over the unguided results."""
    mean_change: float
    """Of pixel values by guidance, 1/255."""
    pixels_changed: float
    """Share of pixels that it moved by half a step of 255 or more."""
    pictures: list[Picture]


def mask_proof(
    networks: ClrNetworks,
    inputs: list[Picture],
    clean: list[Picture],
    judging: tuple[ModuleType, Any],
    args: argparse.Namespace,
) -> dict[str, dict[str, float]]:
    """The rows of one level: `unguided`, `default`, and at equal gain `masked` and `unmasked`.

    Guidance aims at the clean face's own identity, what a perfect reference would say: only so is there something to gain.
    Equal gain is the most that both can reach: too strong a push leaves the manifold and loses identity again. Where one of them
    gains nothing, there is nothing to compare and the last two rows are left out.
    """
    others = copy.deepcopy(networks)
    others.mask = Everywhere()
    ys = [as_tensor(picture)[None] for picture in inputs]
    aims = [identity_of(networks, as_tensor(picture)[None]) for picture in clean]

    def restored(nets: ClrNetworks, strength: float) -> list[torch.Tensor]:
        part = ClrRestorer(networks=nets, device=args.device, steps=args.steps, guidance=strength)
        made = []
        for y, aim in zip(ys, aims, strict=True):
            part.identities = lambda *_, aim=aim: aim[None].to(args.device)  # type: ignore[method-assign, misc]
            made.append(part.restore_stills(y))
        return made

    def likeness(images: list[torch.Tensor]) -> float:
        return float(np.mean([float((identity_of(networks, x) * aim).sum()) for x, aim in zip(images, aims, strict=True)]))

    plain = restored(networks, 0.0)
    base = likeness(plain)

    def of(nets: ClrNetworks, name: str) -> Callable[[float], Guided]:
        @cache
        def guided(strength: float) -> Guided:
            made = restored(nets, strength)
            gain = likeness(made) - base
            steps = [127.5 * (x - y).abs().amax(1) for x, y in zip(made, plain, strict=True)]
            mean = float(np.mean([127.5 * float((x - y).abs().mean()) for x, y in zip(made, plain, strict=True)]))
            share = float(np.mean([float((step >= 0.5).float().mean()) for step in steps]))
            print(f"  {name}, strength {strength:.5f}: gain {gain:.6f}", flush=True)
            return Guided(strength, gain, mean, share, [as_picture(x[0]) for x in made])

        return guided

    masked, unmasked = of(networks, "masked"), of(others, "unmasked")
    default = masked(ClrRestorer(networks=networks).guidance)
    start = masked(0.0)
    rows = {"unguided": start, "default": default, **at_equal_gain(masked, unmasked, default.strength)}
    return {name: proof_row(one, start.pictures, clean, judging) for name, one in rows.items()}


def at_equal_gain(masked: Callable[[float], Guided], unmasked: Callable[[float], Guided], around: float) -> dict[str, Guided]:
    """Both at the largest gain that both reach; empty where one gains nothing."""
    best = [most(masked, around), most(unmasked, around)]
    aim = min(one.gain for one in best)
    if aim <= 0:
        print("  guidance gains no identity: nothing to compare", flush=True)
        return {}
    return {"masked": least(masked, aim, best[0]), "unmasked": least(unmasked, aim, best[1])}


def most(guided: Callable[[float], Guided], around: float) -> Guided:
    """The gain rises with the strength and falls again: the best of strengths that double from an eighth of `around`."""
    best = guided(around / 8)
    for doubling in range(1, 10):
        tried = guided(around / 8 * 2**doubling)
        if tried.gain < best.gain:
            return best
        best = tried
    return best


def least(guided: Callable[[float], Guided], aim: float, best: Guided) -> Guided:
    """The smallest strength that gains `aim`, up to that of `best`, to 2 % of it."""
    if best.gain <= aim:
        return best
    found = brentq(lambda s: (guided(s).gain if s else 0.0) - aim, 0.0, best.strength, xtol=0.02 * best.strength)
    return guided(float(found))


def identity_of(networks: ClrNetworks, crop: torch.Tensor) -> torch.Tensor:
    """`(1, 3, S, S)`, anywhere -> `(D,)` unit vector of the recogniser that guides, on the CPU."""
    device = next(networks.recognizer.parameters()).device
    with torch.inference_mode():
        return F.normalize(networks.recognizer.embed(crop.to(device)), dim=1)[0].cpu()


def proof_row(one: Guided, plain: list[Picture], clean: list[Picture], judging: tuple[ModuleType, Any]) -> dict[str, float]:
    """One row of the mask's table; see `PROOF`."""
    judge, judges = judging
    moved: Mapping[str, float] = scored(judge, judges, plain, one.pictures)
    return {
        "strength": round(one.strength, 5),
        "gain": round(one.gain, 6),
        "pixels_changed": round(one.pixels_changed, 5),
        "mean_change": round(one.mean_change, 4),
        **{f"moved_{name}": moved[name] for name in ("sqd", "facefeat") if name in moved},
        **scored(judge, judges, clean, one.pictures),
    }


def sharpness(clean: NDArray[np.uint8], other: list[Picture]) -> float:
    """Ratio of mean Laplacian variances, restored / clean: 1 is as sharp as the truth."""
    return round(float(np.mean([laplacian(b) for b in other]) / np.mean([laplacian(a) for a in clean])), 3)


def markdown(table: dict[str, dict[str, dict[str, float]]], columns: tuple[str, ...] = COLUMNS) -> str:
    """The table for a README."""
    lines = ["| level | row | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for level, rows in table.items():
        lines += [f"| {level} | {row} | " + " | ".join(str(v.get(c, "")) for c in columns) + " |" for row, v in rows.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
