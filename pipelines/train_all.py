"""Train every network of the restorer in the right order inside one budget, and export what ships.

    PYTHONPATH=. python pipelines/train_all.py --minutes 120 --data FACES --out runs/all \
        --perceptual SQUEEZENET --teacher MOBILEFACENET --identities TSV

`--data` is anything that `videoclr.training.data.load_faces` reads: a folder of aligned crops, or tar shards. The same command
goes on where an earlier one ended, was stopped (SIGTERM, Ctrl-C, `--stop-after`) or killed: a stage that had its share is not
begun again, an interrupted one goes on from its last checkpoint. OUT then holds `runs/STAGE/`, `weights/` (safetensors under
16 MiB each, manifest, cards) and `progress.json`; a table is printed last.

Needs torch, numpy, opencv (headless), safetensors, accelerate and PyYAML, so a plain CUDA image of PyTorch will do, and no
installation of videoclr. `tensorboard` is used where it is installed.

Every stage is a process of its own, not a call: memory of the GPU goes back to zero between stages, a stage that dies leaves the
others' results standing, and with several GPUs each stage is started by `torchrun` (`--processes`, by default one for each GPU).
Shares of the budget, and which settings the stages take: configs/train/all.yaml.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import yaml

from videoclr.errors import ConfigError
from videoclr.models.weights import read_checkpoint
from videoclr.parts.clr import FILES, RUNS
from videoclr.training.data import load_faces, pack_faces
from videoclr.training.program import document, in_one_line

HERE = Path(__file__).resolve().parent.parent
LARGEST = 16 * 2**20
"""Bytes that an exported file may have."""


@dataclass(frozen=True)
class Stage:
    """One call of a training program."""

    name: str
    program: str
    """In `pipelines/`."""
    run: str
    """Folder of its checkpoint under `OUT/runs`."""
    files: tuple[str, ...] = ()
    """Options that the user may give, each a file or a folder."""
    needs: tuple[str, ...] = ()
    """Earlier runs whose checkpoints it takes, as options of the same names."""

    whole: bool = False
    """It takes the folder of all runs (`--runs`) instead."""

    @property
    def alone(self) -> bool:
        """The program has this stage only, and takes no name of a stage."""
        return self.program in ("train_vqgan", "distill_one_step")

    @property
    def settings(self) -> str:
        """Name of its settings file: the program's, where that has one for all its stages."""
        return self.name if self.program == "train_detector" else self.program.partition("_")[2]


STAGES = (
    Stage("recognizer", "train_identity", "recognizer", ("teacher", "identities")),
    Stage("vqgan", "train_vqgan", "vqgan", ("perceptual",)),
    Stage("irn", "train_identity", "irn", ("perceptual",)),
    Stage("irn_last", "train_identity", "irn", ("perceptual", "teacher"), ("recognizer",)),
    Stage("reference", "train_identity", "reference", ("perceptual", "teacher", "identities"), ("recognizer", "irn")),
    Stage("denoiser", "train_denoiser", "denoiser", (), ("vqgan", "irn")),
    Stage("fusion", "train_denoiser", "fusion", ("perceptual", "teacher"), ("vqgan", "irn", "denoiser", "recognizer")),
    Stage("start", "train_denoiser", "start", (), ("vqgan", "irn", "denoiser")),
    Stage("mask", "train_identity", "mask", ("perceptual", "teacher"), ("recognizer", "irn", "vqgan", "denoiser")),
    Stage("student", "distill_one_step", "student", ("perceptual", "teacher"), whole=True),
    Stage("detector", "train_detector", "detector", ("labels", "backgrounds")),
    Stage("landmarks", "train_detector", "landmarks", ("labels", "backgrounds")),
)
"""In the order of training."""
FINDERS = ("detector", "landmarks")
"""Stages that learn from `--labels` and the pictures as they are, and write `runs/STAGE/STAGE.safetensors` themselves."""


@dataclass
class Ledger:
    """`OUT/progress.json`: which stages were begun, and which have had their share of the minutes."""

    path: Path
    data: str
    minutes: float = 0.0
    """Wall minutes of all calls so far."""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stage -> `minutes` it was given, `began` (minutes and steps of its run before it), `done`, and the figures at its end."""

    @classmethod
    def of(cls, path: Path, data: str) -> Ledger:
        """The ledger of `path`, or a new one; it may not belong to other data."""
        if not path.exists():
            return cls(path, data)
        known = document(path)
        if not isinstance(known, dict) or known.keys() != {"data", "minutes", "stages"}:
            raise ConfigError(f"{path}: not the ledger of a training; remove it, and every stage gets its share again")
        if known["data"] != data:
            sys.exit(f"{path}: belongs to --data {known['data']}; give that, or another --out")
        return cls(path, **known)

    def write(self) -> None:
        """By rename."""
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"data": self.data, "minutes": self.minutes, "stages": self.stages}, indent=1), encoding="utf-8")
        part.replace(self.path)


def plan_of(path: Path) -> dict[str, Any]:
    """The settings of `--config`: `settings`, `reserve`, `start`, `steps` and `shares`.

    Raises:
        ConfigError: the file cannot be read or is another one, or a share is of no stage.
    """
    config = document(path)
    if not isinstance(config, dict) or not config.keys() >= {"settings", "reserve", "start", "steps", "shares"}:
        raise ConfigError(f"{path}: does not share the minutes out; see configs/train/all.yaml")
    names = [stage.name for stage in STAGES]
    if unknown := [name for name in config["shares"] if name not in names]:
        raise ConfigError(f"{path}: shares: {', '.join(unknown)}: no such stage; there are {', '.join(names)}")
    return config


def plan(lacking: Mapping[str, float], minutes: float, start: float) -> dict[str, float]:
    """Stage -> minutes from now on: `minutes` less `start` for each stage, in proportion to what each lacks of its share."""
    time_left = max(0.0, minutes - start * len(lacking))
    return {stage: time_left * share / sum(lacking.values()) for stage, share in lacking.items()}


def standing(checkpoint: Path) -> dict[str, Any]:
    """Where a run stands: `step`, `minutes`, `means` (smoothed scalars)."""
    if not checkpoint.exists():
        return {"step": 0, "minutes": 0.0, "means": {}}
    state = read_checkpoint(checkpoint, mmap=True)
    return {"step": state["step"], "minutes": state["spent"] / 60, "means": state.get("means", {})}


def environment() -> dict[str, str]:
    """Of the programs called: this checkout comes first, installed or not."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))}


class Training:
    """One call of this program."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.began = args, time.monotonic()
        self.config = plan_of(args.config)
        self.settings = args.settings or args.config.parent / self.config["settings"]
        self.ledger = Ledger.of(args.out / "progress.json", str(args.data))
        had = sum(self.had(stage)[0] for stage in STAGES)
        self.before = max(self.ledger.minutes, had)  # a call that was killed wrote nothing down
        self.left_out = {s.name: "left out: no share" for s in STAGES if not self.config["shares"].get(s.name)}
        self.left_out |= {} if args.labels else dict.fromkeys(FINDERS, "left out: no --labels")
        self.stages = [s for s in STAGES if s.name not in self.left_out]

    def found(self, finder: str) -> Path:
        """The weights that a stage of `FINDERS` wrote."""
        return self.checkpoint(finder).with_name(f"{finder}.safetensors")

    @property
    def minutes(self) -> float:
        """Of this call so far."""
        return (time.monotonic() - self.began) / 60

    def checkpoint(self, run: str) -> Path:
        """Of a run."""
        return Path(self.args.out / "runs" / run / "checkpoint.pt")

    def had(self, stage: Stage) -> tuple[float, float]:
        """Minutes that `stage` trained, and which part of its share that is (1 when it is done)."""
        entry = self.ledger.stages.get(stage.name)
        if entry is None:
            return 0.0, 0.0
        if entry["done"]:
            return entry["trained"], 1.0
        trained = max(0.0, standing(self.checkpoint(stage.run))["minutes"] - entry["began"]["minutes"])
        return trained, min(0.99, trained / max(entry["minutes"], 1e-6))

    def go(self) -> bool:
        """Train what lacks its share; False where this call ended before that."""
        for stage in self.stages:
            if self.had(stage)[1] == 1:
                continue
            lacking = {s.name: self.config["shares"][s.name] * (1 - self.had(s)[1]) for s in self.stages if self.had(s)[1] < 1}
            left = self.args.minutes - self.before - self.minutes - self.config["reserve"]
            more = plan(lacking, left, self.config["start"])[stage.name]
            if more < 0.005:
                print(f"{self.args.minutes:g} minutes are used; not trained to the end: {', '.join(lacking)}. Give more --minutes")
                return False
            if not self.train(stage, more):
                return False
        return True

    def train(self, stage: Stage, more: float) -> bool:
        """Give `stage` another `more` minutes; False where it was stopped."""
        used, now = self.had(stage)[0], standing(self.checkpoint(stage.run))
        entry = self.ledger.stages.setdefault(
            stage.name, {"began": {"minutes": now["minutes"], "step": now["step"]}, "done": False}
        )
        entry["minutes"] = used + more
        self.note()
        print(f"== {stage.name}: {more:.2f} minutes{f', {used:.2f} had before' if used else ''}", flush=True)
        finished = False
        try:
            finished = self.call(stage, entry, used)
        finally:
            now = standing(self.checkpoint(stage.run))
            entry |= {"trained": now["minutes"] - entry["began"]["minutes"], "means": now["means"], "done": finished}
            entry["steps"] = now["step"] - entry["began"]["step"]
            self.note()
        return finished

    def launcher(self) -> list[str]:
        """How a training program is started."""
        count = self.args.processes or max(1, torch.cuda.device_count())
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        return [sys.executable, *(torchrun if count > 1 else [])]

    def command(self, stage: Stage, entry: dict[str, Any], used: float) -> list[str]:
        """The program of a stage with its arguments."""
        args, config = self.args, self.config
        faces = args.data if stage.name in FINDERS else args.out / "faces.npy"
        given: dict[str, Any] = {
            "faces": faces,
            "out": self.checkpoint(stage.run).parent,
            "config": self.settings / f"{stage.settings}.yaml",
        }
        given |= {name: getattr(args, name) for name in stage.files if getattr(args, name)}
        given |= {run: self.checkpoint(run) for run in stage.needs}
        given |= {"runs": args.out / "runs"} if stage.whole else {}
        found = self.found("detector")
        given |= {"detector": found} if stage.name == "landmarks" and found.exists() else {}
        given |= {"minutes": entry["minutes"], "used": used, "threads": args.threads}
        given |= {"steps": entry["began"]["step"] + config["steps"]} if config["steps"] else {}
        options = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
        return [str(HERE / "pipelines" / f"{stage.program}.py"), *([] if stage.alone else [stage.name]), *options]

    def call(self, stage: Stage, entry: dict[str, Any], used: float) -> bool:
        """Run a stage until it ends; False where `--stop-after` ended it. Whatever ends this program ends the stage first."""
        limit = None if self.args.stop_after is None else max(0.0, 60 * (self.args.stop_after - self.minutes))
        child = subprocess.Popen([*self.launcher(), *self.command(stage, entry, used)], env=environment())
        try:
            code = child.wait(limit)
        except subprocess.TimeoutExpired:
            print(f"stopped after {self.args.stop_after:g} minutes, as asked; the same command goes on")
            return False
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
        if code:
            sys.exit(f"the stage {stage.name} ended with {code}; its last lines say why. The same command goes on from there")
        return True

    def note(self) -> None:
        """Write the ledger."""
        self.ledger.minutes = self.before + self.minutes
        self.ledger.write()

    def pack(self) -> None:
        """Decode the pictures once for all stages."""
        path = self.args.out / "faces.npy"
        if not path.exists():
            pack_faces(*load_faces(self.args.data, self.args.size), path)

    def export(self) -> None:
        """Write the files whose runs have a checkpoint."""
        runs, out = self.args.out / "runs", self.args.out / "weights"
        made_of = {name: {run for run, _, place in RUNS if place.split(".")[0] in parts} for name, parts in FILES.items()}
        names = [n for n, made in made_of.items() if all(self.checkpoint(run).exists() for run in made - {"fusion"})]
        command = [sys.executable, HERE / "pipelines/export_weights.py", "--runs", runs, "--notes", self.notes(), "--out", out]
        finished = [path for path in map(self.found, FINDERS) if path.exists()]
        command += ["--only", ",".join(names), *(["--add", *finished] if finished else [])]
        if not names and not finished:
            return
        if subprocess.run([str(word) for word in command], env=environment(), check=False).returncode:
            sys.exit(f"{out}: the export failed; its own lines say why")
        large = [p.name for p in sorted(out.glob("*.safetensors")) if p.stat().st_size >= LARGEST]
        if large:
            sys.exit(f"{out}: {', '.join(large)} has 16 MiB or more; a narrower network is needed")

    def notes(self) -> Path:
        """The texts of the cards, with what this training ran on in place of what the shipped weights did."""
        notes = document(self.args.notes)
        cuda = torch.cuda.is_available()
        notes["hardware"] = (
            f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if cuda else f"{os.cpu_count()} cores of a CPU"
        )
        count = len((self.args.out / "faces.txt").read_text(encoding="utf-8").splitlines())
        notes["data"] = (
            f"{count:,} aligned face crops; `{self.args.data}`. Name their sources and licences here before you publish."
        )
        path = Path(self.args.out / "notes.yaml")
        path.write_text(yaml.safe_dump(notes, allow_unicode=True), encoding="utf-8")
        return path

    def table(self) -> str:
        """Stage, steps, minutes, where the loss stood."""
        lines = [f"{'stage':<11} {'steps':>8} {'minutes':>8}  where the loss stood"]
        for stage in STAGES:
            entry = self.ledger.stages.get(stage.name, {})
            means = {k: v for k, v in entry.get("means", {}).items() if k not in ("rate", "norm")}
            stood = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
            stood = stood if entry.get("done") else f"{stood} (not finished)".strip()
            stood = stood if entry else self.left_out.get(stage.name, "not begun")
            lines.append(f"{stage.name:<11} {entry.get('steps', 0):>8,} {entry.get('trained', 0.0):>8.2f}  {stood}")
        return "\n".join(lines)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, required=True, help="for everything, over all calls")
    parser.add_argument("--data", type=Path, required=True, help="aligned face crops: a folder, or tar shards")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=HERE / "configs/train/all.yaml")
    parser.add_argument("--settings", type=Path, help="folder of the stages' settings, in place of the one that the config names")
    parser.add_argument("--perceptual", type=Path, help="SqueezeNet 1.0 state dict")
    parser.add_argument("--teacher", type=Path, help="MobileFaceNet state dict")
    parser.add_argument("--identities", type=Path, help="TSV with the columns file and identity")
    parser.add_argument(
        "--labels",
        type=Path,
        help="JSON with the faces of the pictures in --data: trains the detector and the landmark refiner too",
    )
    parser.add_argument("--backgrounds", type=Path, help="folder of pictures without faces, for those two")
    parser.add_argument("--notes", type=Path, default=HERE / "configs/train/cards.yaml", help="texts of the model cards")
    parser.add_argument("--size", type=int, default=256, help="side at which the crops are kept, pixels")
    parser.add_argument("--stop-after", type=float, help="end this call after so many minutes; the same command goes on")
    parser.add_argument("--processes", type=int, default=0, help="that train together; 0: one for each GPU")
    parser.add_argument("--threads", type=int, default=0, help="of each process on a CPU; 0: torch decides")
    args = parser.parse_args(argv)
    if not 0 < args.minutes < math.inf or not args.config.is_file():
        parser.error("--minutes must be more than 0 and finite, and --config a file")
    if (args.stop_after is not None and not args.stop_after > 0) or args.processes < 0 or args.threads < 0 or args.size < 1:
        parser.error("--stop-after and --size must be more than 0, --processes and --threads not less than 0")
    # Here, and not an hour later in the first stage that reads it.
    for name in (*dict.fromkeys(file for stage in STAGES for file in stage.files), "notes"):
        if (path := getattr(args, name)) is not None and not path.exists():
            parser.error(f"--{name} {path}: no such file or folder")
    return args


@in_one_line
def main(argv: Sequence[str] | None = None) -> None:
    """Train, export, and print the table."""
    args = arguments(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        training = Training(args)
        training.pack()  # before the ledger is written: it binds OUT to these data, which may not even be there
        try:
            training.go()
            training.export()
        finally:
            training.note()
            print(training.table(), flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
