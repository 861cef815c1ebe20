"""What every training program's command line has: its budget, its settings, and the loop that both make."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import cv2
import torch
import yaml
from torch import nn

from videoclr.training.loop import Loop


def add_budget(parser: argparse.ArgumentParser, config: Path | None, minutes: float = 60) -> None:
    """Add `--config` (its default, or None), `--out`, `--minutes`, `--used`, `--steps` and `--threads`."""
    parser.add_argument("--config", type=Path, default=config, help="YAML file of settings")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the curve")
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--used", type=float, default=0, help="minutes of the budget that earlier, interrupted calls used up")
    parser.add_argument("--steps", type=int, default=0, help="end after this many steps in all; 0: by time alone")
    parser.add_argument("--threads", type=int, default=0)


def begin(args: argparse.Namespace, stage: str | None = None) -> dict[str, Any]:
    """Set up the log, the threads and torch's seed; returns the settings of `args.config`, of `stage` where it has several."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    found = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    settings: dict[str, Any] = found if stage is None else found[stage]
    torch.manual_seed(settings["seed"])
    return settings


def loop_of(args: argparse.Namespace, modules: nn.ModuleDict, settings: dict[str, Any]) -> Loop:
    """The loop in `args.out` for what is left of the budget; the rest of its arguments stand in the settings' `loop`."""
    return Loop(args.out, modules, minutes=args.minutes, used=args.used, steps=args.steps, **settings["loop"])
