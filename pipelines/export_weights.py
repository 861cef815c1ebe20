"""Turn training checkpoints into what ships: half-precision safetensors, model cards, and the manifest with every SHA-256.

    python pipelines/export_weights.py --runs runs --notes configs/train/cards.yaml [--out videoclr/weights] [--only irn,recognizer]

`--runs` holds `vqgan/ irn/ reference/ denoiser/ mask/ recognizer/ fusion/ start/ student/` as the training programs wrote them;
averaged weights are taken. A card says what the network is, from what data under which licences it was made, how long, and its
figures (`--figures`: the `table.json` of `pipelines/evaluate.py`; `--groups`: its `groups.json`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from videoclr.models.weights import FOLDER, read_checkpoint, read_safetensors, sha256, write_safetensors
from videoclr.parts.clr import FILES, OPTIONAL, RUNS, ClrNetworks
from videoclr.training.program import document, in_one_line


def collect(networks: ClrNetworks, runs: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The averaged tensors of one embedded file, of the `networks` of `runs`, and how far each of these went."""
    progress: dict[str, Any] = {}
    for run in dict.fromkeys(run for run, _, part in RUNS if part.split(".")[0] in FILES[name]):
        path = runs / run / "checkpoint.pt"
        if path.exists():
            whole = read_checkpoint(path, mmap=True)
            progress[run] = {"steps": whole["step"], "minutes": round(whole["spent"] / 60, 1)}
    if not progress:
        sys.exit(f"{runs}: no checkpoint for {name}; train it first, or leave it out with --only")
    state = {f"{part}.{k}": v for part in FILES[name] for k, v in networks.get_submodule(part).state_dict().items()}
    return state, progress


def card(
    name: str,
    entry: dict[str, Any],
    progress: dict[str, Any],
    notes: dict[str, Any],
    figures: dict[str, Any],
    groups: dict[str, Any],
) -> str:
    """The model card as Markdown."""
    about = notes[name]
    lines = [f"# {name}.safetensors", "", about["what"], ""]
    lines += [
        f"* Parameters: {entry['parameters']:,}, half precision, {entry['bytes']:,} bytes",
        f"* SHA-256: `{entry['sha256']}`",
    ]
    lines += [f"* Training: {run}: {p['steps']:,} steps, {p['minutes']} minutes" for run, p in progress.items()]
    lines += [
        f"* Hardware: {notes['hardware']}",
        f"* Losses: {about['losses']}",
        "",
        "## Data and licences",
        "",
        notes["data"].strip(),
        *(["", about["data"].strip()] if "data" in about else []),
        "",
    ]
    if about.get("teacher"):
        lines += ["## Teacher", "", about["teacher"].strip(), ""]
    lines += [
        "## Figures",
        "",
        "Made by `pipelines/evaluate.py` on held-out faces of people who are not in the training set.",
        "",
    ]
    rows = about.get("rows", [])
    found = [(level, row, figures[level][row]) for level in figures for row in figures[level] if row in rows]
    if found:
        lines += ["| level | row | PSNR | IDS | facefeat | SqD |", "|---|---|---|---|---|---|"]
        figures_of = lambda v: " | ".join(str(v.get(k, "")) for k in ("psnr", "ids", "facefeat", "sqd"))  # noqa: E731
        lines += [f"| {level} | {row} | {figures_of(v)} |" for level, row, v in found]
    else:
        lines += ["Not measured by itself."]
    lines += by_group(groups, [row for row in rows if row != "input"])
    return "\n".join(
        [
            *lines,
            "",
            "## Known failures",
            "",
            about.get("failures", notes["failures"]).strip(),
            "",
            f"Licence of the weights: {notes['licence']}.",
            "",
        ]
    )


def by_group(groups: dict[str, Any], rows: list[str]) -> list[str]:
    """The section of the card about groups of faces; empty where none were measured."""
    found = [(group, row, own.get("input", {}), own[row]) for group, own in groups.items() for row in rows if row in own]
    if not found:
        return []
    lines = ["", "## By group of faces", "", "The input's figure, then the row's. Small groups tell little.", ""]
    lines += ["| level, group | faces | row | PSNR | IDS | SqD |", "|---|---|---|---|---|---|"]
    for group, row, before, after in found:
        pairs = " | ".join(f"{before.get(key, '')} to {after.get(key, '')}" for key in ("psnr", "ids", "sqd"))
        lines.append(f"| {group} | {after.get('n', '')} | {row} | {pairs} |")
    return lines


def checked_notes(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The texts of the cards; ends the program where one is missing that the cards of `names` are made of."""
    notes = document(path) or {}
    lacking = [key for key in ("licence", *(("hardware", "data", "failures") if names else ())) if key not in notes]
    lacking += [f"{name}.{key}" for name in names for key in ("what", "losses") if key not in (notes.get(name) or {})]
    if lacking:
        sys.exit(f"{path}: lacks {', '.join(lacking)}")
    return dict(notes)


def write_manifest(path: Path, entries: dict[str, Any]) -> None:
    """Every embedded file with its hash, by name."""
    path.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n", encoding="utf-8")


@in_one_line
def main() -> None:
    """Export what is asked for and rewrite the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", required=True, type=Path)
    parser.add_argument("--notes", required=True, type=Path)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--groups", type=Path, help="groups.json of pipelines/evaluate.py --groups, with the row input")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument(
        "--only", help="files with commas between; without it all, and of the optional ones those that were trained"
    )
    parser.add_argument(
        "--add", type=Path, nargs="+", default=[], help="finished safetensors files to take in as they are: detector, landmarks"
    )
    args = parser.parse_args()
    every = [name for name in FILES if name not in OPTIONAL or (args.runs / name / "checkpoint.pt").exists()]
    wanted = every if args.only is None else args.only.split(",") if args.only else []
    unknown = [name for name in wanted if name not in FILES]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: unknown; there are {', '.join(FILES)}")
    notes = checked_notes(args.notes, wanted)
    figures = document(args.figures) if args.figures else {}
    groups = document(args.groups) if args.groups else {}
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "MANIFEST.json"
    entries: dict[str, Any] = document(path) if path.exists() else {}
    for added in args.add:
        tensors, metadata = read_safetensors(added)  # a bad file is refused before it replaces a good one
        if added.resolve() != (args.out / added.name).resolve():
            shutil.copyfile(added, args.out / added.name)
        entries[added.stem] = {
            "sha256": sha256(added),
            "bytes": added.stat().st_size,
            "parameters": sum(tensor.numel() for tensor in tensors.values()),
            "licence": notes["licence"],
            "progress": {added.stem: {"steps": int(metadata.get("step", 0)), "minutes": 0.0}},
        }
        write_manifest(path, entries)
    # All of it is read before anything is written: files and manifest never disagree.
    networks = ClrNetworks.of_runs(args.runs)
    for name, (state, progress) in {name: collect(networks, args.runs, name) for name in wanted}.items():
        # One entry only: safetensors writes several in any order, and equal weights would get another hash.
        entry = write_safetensors(args.out / f"{name}.safetensors", state, {"name": name})
        entries[name] = {**entry, "licence": notes["licence"], "progress": progress}
        # Directly after each file: where anything later fails, what was written already must still match its hash.
        write_manifest(path, entries)
        (args.out / f"{name}.md").write_text(card(name, entries[name], progress, notes, figures, groups), encoding="utf-8")
        print(f"{name}: {entry['parameters']:,} parameters, {entry['bytes']:,} bytes")


if __name__ == "__main__":
    main()
