"""What every training program's command line has: its budget, its settings, the loop that both make, and how it fails."""

from __future__ import annotations

import argparse
import functools
import json
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
import yaml
from torch import nn

from videoclr.errors import ConfigError, VideoclrError
from videoclr.process import use_threads
from videoclr.training.loop import Loop

P = ParamSpec("P")
R = TypeVar("R")


def in_one_line(main: Callable[P, R]) -> Callable[P, R]:
    """Decorates a program's `main`: a missing or unsuitable file ends it with one line and exit code 1, not with a traceback."""

    @functools.wraps(main)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return main(*args, **kwargs)
        except OSError as error:
            sys.exit(f"{error.filename}: {error.strerror}" if error.filename else " ".join(str(error).split()))
        except VideoclrError as error:
            sys.exit(" ".join(str(error).split()))

    return told


def document(path: Path) -> Any:
    """What a file of YAML, or a `.json` one, holds.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise ConfigError(f"{path}: not a {kind} file ({' '.join(str(error).split())})") from error


def add_budget(parser: argparse.ArgumentParser, config: Path | None, minutes: float = 60) -> None:
    """Add `--config` (its default, or None), `--out`, `--minutes`, `--used`, `--steps` and `--threads`."""
    parser.add_argument("--config", type=Path, default=config, help="YAML file of settings")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the curve")
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--used", type=float, default=0, help="minutes of the budget that earlier, interrupted calls used up")
    parser.add_argument("--steps", type=int, default=0, help="end after this many steps in all; 0: by time alone")
    parser.add_argument("--threads", type=int, default=0)


def begin(args: argparse.Namespace, stage: str | None = None) -> dict[str, Any]:
    """Set up the log, the threads and torch's seed; returns the settings of `args.config`, of `stage` where it has several.

    Raises:
        ConfigError: the file cannot be read, or is not one of this program's, or the budget is none.
    """
    if not (args.minutes > 0 and args.used >= 0 and args.steps >= 0 and args.threads >= 0):
        raise ConfigError("--minutes must be more than 0, and --used, --steps and --threads not less than 0")
    if args.minutes == math.inf and not args.steps:
        raise ConfigError("--minutes inf needs --steps, or the training never ends")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_threads(args.threads)
    found = document(args.config)
    settings: Any = found.get(stage) if stage is not None and isinstance(found, dict) else found
    if not isinstance(settings, dict) or not {"seed", "loop"} <= settings.keys():
        raise ConfigError(f"{args.config}: holds no settings{f' of the stage {stage}' if stage else ''}; see configs/train")
    torch.manual_seed(settings["seed"])
    return settings


def loop_of(args: argparse.Namespace, modules: nn.ModuleDict, settings: dict[str, Any]) -> Loop:
    """The loop in `args.out` for what is left of the budget; the rest of its arguments stand in the settings' `loop`."""
    return Loop(args.out, modules, minutes=args.minutes, used=args.used, steps=args.steps, **settings["loop"])
