"""One loop for every training program: a time budget, EMA, clipping, bf16, resume with identical continuation, scalars and images.

    loop = Loop(out, modules, minutes=60, learning_rate=3e-4, ...)
    for step in loop.steps():
        loss, scalars = ...
        loop.update(loss, scalars)

Accelerate places models and gradients, so the same program runs on a CPU, on a GPU, or under `torchrun` / `accelerate launch`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]
log = logging.getLogger("videoclr.training")


class Loop:
    """Drives one set of networks that learn together.

    Args:
        out: folder of `checkpoint.pt`, TensorBoard events and the log.
        modules: what learns; the EMA follows all of it.
        minutes: budget of this call; the learning rate falls to its end along a cosine over `total_steps`, or over the budget
            where `total_steps` is 0.
        steps: end after this many steps in all (0: by time alone).
        learning_rate: peak, of Adam.
        decay: of the EMA.
        clip: largest gradient norm.
        bf16: autocast to bfloat16.
        every: minutes between checkpoints.
        floor: share of the learning rate that remains at the end; 1 keeps it constant.
    """

    def __init__(
        self,
        out: str | Path,
        modules: nn.ModuleDict,
        *,
        minutes: float,
        steps: int = 0,
        learning_rate: float = 3e-4,
        decay: float = 0.999,
        clip: float = 1.0,
        bf16: bool = True,
        every: float = 4.0,
        floor: float = 0.05,
    ) -> None:
        from accelerate import Accelerator

        self.out, self.minutes, self.last, self.clip, self.every, self.floor = (
            Path(out),
            minutes,
            steps,
            clip,
            every,
            floor,
        )
        self.out.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(mixed_precision="no")
        self.device = self.accelerator.device
        self.bf16, self.rate = bf16, learning_rate
        self.modules = modules.to(self.device)
        self.optimizer = torch.optim.Adam(modules.parameters(), lr=learning_rate, betas=(0.9, 0.99))
        self.ema = AveragedModel(modules, multi_avg_fn=_warming(decay), use_buffers=True)
        self.step, self.spent, self._first = 0, 0.0, 0
        self._began = self._saved = time.monotonic()
        self._means: dict[str, float] = {}
        self._board: Any = None
        self._resume()

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 autocast where asked for, else nothing."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else nullcontext()

    @property
    def done(self) -> float:
        """Share of the budget that is used, in [0, 1]."""
        if self.last:
            return min(1.0, self.step / self.last)
        return min(1.0, (time.monotonic() - self._began) / 60 / self.minutes)

    def steps(self) -> Iterator[int]:
        """Step numbers until the budget is used; saves every few minutes and at the end."""
        while self.done < 1 and (time.monotonic() - self._began) / 60 < self.minutes:
            yield self.step
            self.step += 1
            if time.monotonic() - self._saved > self.every * 60:
                self.save()
        self.save()

    def update(self, loss: Tensor, scalars: dict[str, float | Tensor]) -> None:
        """One step of the optimiser and of the EMA. A loss that is not finite is skipped and logged."""
        warm = min(1.0, (self.step - self._first + 1) / 100)
        rate = self.rate * warm * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * self.done)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        if not torch.isfinite(loss):
            log.warning("step %d: loss is %s, skipped", self.step, loss.item())
            return
        loss.backward()
        self._share_gradients()
        norm = nn.utils.clip_grad_norm_(self.modules.parameters(), self.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.ema.update_parameters(self.modules)
        self._record({"loss": loss, "rate": rate, "norm": norm, **scalars})

    def picture(self, name: str, rows: Tensor) -> None:
        """Write a grid `(N, 3, H, W)` in [-1, 1] to TensorBoard."""
        if self.accelerator.is_main_process:
            grid = torch.cat(list(rows.detach().float().cpu()), dim=2)
            self._writer().add_image(name, (grid / 2 + 0.5).clamp(0, 1), self.step)

    def save(self) -> None:
        """Write `checkpoint.pt`, by rename."""
        self._saved = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        state = {
            "modules": self.modules.state_dict(),
            "ema": self.ema.module.state_dict(),
            "averaged": self.ema.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent": self.spent + time.monotonic() - self._began,
            "random": torch.get_rng_state(),
        }
        part = self.out / "checkpoint.pt.part"
        torch.save(state, part)
        part.replace(self.out / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.step, self.spent = state["step"], state["spent"]
        whole = "optimizer" in state  # unpacked weights are not: what does not ship starts anew
        self.modules.load_state_dict(state["modules"] if whole else {**self.modules.state_dict(), **state["modules"]})
        self.ema.module.load_state_dict(state["ema"] if whole else {**self.ema.module.state_dict(), **state["ema"]})
        if whole:
            self.ema.n_averaged.copy_(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["random"].cpu())
        self._first = 0 if whole else self.step
        log.info("goes on from step %d%s", self.step, "" if whole else " of unpacked weights")

    def _share_gradients(self) -> None:
        if self.accelerator.num_processes > 1:
            for parameter in self.modules.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")

    def _record(self, scalars: dict[str, float | Tensor]) -> None:
        for name, value in scalars.items():
            now = float(value.detach() if isinstance(value, Tensor) else value)
            self._means[name] = now if name not in self._means else 0.95 * self._means[name] + 0.05 * now
        if self.step % 50 == 0 and self.accelerator.is_main_process:
            minutes = (self.spent + time.monotonic() - self._began) / 60
            log.info("step %d, %.1f min: %s", self.step, minutes, ", ".join(f"{k} {v:.4g}" for k, v in self._means.items()))
            for name, value in self._means.items():
                self._writer().add_scalar(name, value, self.step)

    def _writer(self) -> Any:
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.out / "events"))
        return self._board


def _warming(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """EMA whose decay grows as `(1 + n) / (10 + n)` up to `decay`: without it the random start weighs for thousands of steps."""

    @torch.no_grad()
    def average(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        n = float(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new.to(old), weight)
            else:
                old.copy_(new)

    return average


def load_ema(path: str | Path) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint that `Loop` wrote.

    Raises:
        FileNotFoundError: no such checkpoint.
    """
    state = torch.load(path, weights_only=True, map_location="cpu")
    ema: dict[str, Tensor] = state["ema"]
    return ema


def part_of(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The entries of one module in a `ModuleDict`'s state, without its prefix."""
    return {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(name + ".")}
