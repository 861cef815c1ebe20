"""One loop for every training program: a time budget, EMA, clipping, bf16, resume with identical continuation, scalars and images.

    loop = Loop(out, modules, minutes=60, learning_rate=3e-4, ...)
    for step in loop.steps():
        loss, scalars = ...
        loop.update(loss, scalars)

Accelerate places models, so the same program runs on a CPU, on a GPU, or under `torchrun` / `accelerate launch`.

Several processes do not use DDP, which wants every network to be called through its `forward` alone. Instead, process 0 decides
when to end, gradients are averaged before each step of the optimiser, and floating-point buffers after it: the statistics of
BatchNorm, and those of the codebook, which thus learns from the samples of all processes. So weights, EMA and buffers are the same
in every process, up to rounding. A training resumes identically with as many processes as before; with another number it sees
other samples.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from videoclr.errors import ConfigError, WeightsError
from videoclr.models.weights import fit, read_checkpoint

if TYPE_CHECKING:
    from accelerate import Accelerator

Module = TypeVar("Module", bound=nn.Module)
Tensors = tuple[Tensor, ...] | list[Tensor]
_WARM_UP = 100
"""Steps over which the learning rate rises: as many as Adam's second moments average over (beta 0.99)."""
log = logging.getLogger("videoclr.training")


class Loop:
    """Drives one set of networks that learn together.

    Args:
        out: folder of `checkpoint.pt`, TensorBoard events and the log.
        modules: the networks that learn; the EMA averages all their parameters and buffers.
        minutes: budget; the learning rate falls along a cosine over `steps`, or over the budget where `steps` is 0.
        used: minutes of the budget that earlier, interrupted calls used up.
        steps: end after this many steps in all (0: by time alone).
        learning_rate: peak, of Adam; it is reached after a linear warm-up of 100 steps.
        decay: of the EMA; smaller in the first steps (`_warming`).
        clip: largest gradient norm, over all modules together.
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
        used: float = 0.0,
        steps: int = 0,
        learning_rate: float = 3e-4,
        decay: float = 0.999,
        clip: float = 1.0,
        bf16: bool = True,
        every: float = 4.0,
        floor: float = 0.05,
    ) -> None:
        self.out, self.minutes, self.used, self.last = Path(out), minutes, used, steps
        self.clip, self.every, self.floor = clip, every, floor
        self.out.mkdir(parents=True, exist_ok=True)
        self.accelerator = launched()
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        # Programs see few shapes, so cuDNN's search for the fastest convolution soon pays.
        torch.backends.cudnn.benchmark = self.device.type == "cuda"
        self.bf16, self.rate = bf16, learning_rate
        self.modules = modules.to(self.device)
        if self.device.type == "cuda":
            for module in self.modules.modules():
                if isinstance(module, nn.Conv2d):  # not Conv3d: its weights refuse this layout
                    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(modules.parameters(), lr=learning_rate, betas=(0.9, 0.99))
        self.ema = AveragedModel(modules, multi_avg_fn=_warming(decay), use_buffers=True)
        self.step, self.spent, self.done, self.first = 0, 0.0, 0.0, 0
        self._began = self._saved = time.monotonic()
        self._means: dict[str, Tensor] = {}
        self._board: Any = None
        self._random: dict[str, Tensor] = {}
        self._resume()
        self.same(self.modules)
        self.same(self.ema.module)

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 autocast where asked for, else nothing."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else nullcontext()

    def generator(self, number: int) -> torch.Generator:
        """Random numbers on the device that depend on `number` and on the process alone."""
        return torch.Generator(self.device).manual_seed(number + 2_654_435_761 * self.accelerator.process_index)

    def same(self, module: nn.Module) -> None:
        """Give every process the parameters and buffers of process 0."""
        if self.accelerator.num_processes > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                whole = tensor.detach().contiguous()
                torch.distributed.broadcast(whole, 0)
                tensor.detach().copy_(whole)

    def steps(self) -> Iterator[int]:
        """Step numbers until the budget is used; saves every few minutes and at the end.

        The state of torch's random number generators is restored here, not when the checkpoint is read: numbers drawn in between,
        such as the initial weights of a loss network, change nothing.

        `done` is the share of the budget that is used, in [0, 1], as process 0 saw it when the step began. SIGTERM (of a
        scheduler, or of `timeout`) ends the step in hand, saves, and exits.

        Raises:
            ConfigError: the budget was used up before a single step: networks that learned nothing are not written.
            WeightsError: as `save`.
        """
        told: list[int] = []
        if self._random:
            torch.set_rng_state(self._random["random"])
            if self.device.type == "cuda" and "random on the device" in self._random:
                torch.cuda.set_rng_state(self._random["random on the device"], self.device)
            self._random = {}

        def remember(number: int, _: FrameType | None) -> None:
            told.append(number)

        before = signal.signal(signal.SIGTERM, remember)
        try:
            while self._goes_on(stop=bool(told)):
                yield self.step
                self.step += 1
                if time.monotonic() - self._saved > self.every * 60:
                    self.save()
        finally:
            signal.signal(signal.SIGTERM, before)
        if self.step:
            self.save()
        elif not told:
            raise ConfigError(
                f"{self.out}: no step fitted into {self.minutes:g} minutes, and nothing is written; give more --minutes"
            )
        self.accelerator.wait_for_everyone()
        if told:
            log.info("stopped at step %d; the same command goes on", self.step)
            raise SystemExit(128 + told[0])

    def _goes_on(self, stop: bool) -> bool:
        minutes = self.used + (time.monotonic() - self._began) / 60
        done = min(1.0, self.step / self.last if self.last else minutes / max(self.minutes, 1e-9))
        over = stop or done >= 1 or minutes >= self.minutes
        if self.accelerator.num_processes > 1:
            said = torch.tensor([done, float(over)], dtype=torch.float64, device=self.device)
            torch.distributed.broadcast(said, 0)
            done, over = float(said[0]), bool(said[1])
        self.done = done
        return not over

    def update(self, loss: Tensor, scalars: dict[str, float | Tensor]) -> None:
        """One step of the optimiser and of the EMA. A loss or a gradient that is not finite is skipped and logged."""
        warm = min(1.0, (self.step - self.first + 1) / _WARM_UP)
        rate = self.rate * warm * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * self.done)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        everywhere = loss.detach().float().clone()
        self._average_gradients(everywhere)
        norm = nn.utils.clip_grad_norm_(self.modules.parameters(), self.clip)
        # The average is the same in every process, so all of them skip or none.
        if not torch.isfinite(everywhere + norm):
            log.warning("step %d: loss is %g, gradient norm %g, skipped", self.step, everywhere.item(), norm.item())
            self._mend_buffers()
            return
        self.optimizer.step()
        self._average([b for b in self.modules.buffers() if b.is_floating_point()])
        self.ema.update_parameters(self.modules)
        self._record({"loss": everywhere, "rate": rate, "norm": norm, **scalars})

    def _mend_buffers(self) -> None:
        """Replace buffers that the forward pass of a skipped step left with NaN or infinity by their averaged copies.

        Running statistics, of BatchNorm or of the codebook, would never lose them again, and would spoil the EMA. The loss would
        not show it, because BatchNorm does not use its running statistics in training.
        """
        for buffer, averaged in zip(self.modules.buffers(), self.ema.module.buffers(), strict=True):
            if buffer.is_floating_point() and not torch.isfinite(buffer).all():
                buffer.detach().copy_(averaged)

    def picture(self, name: str, rows: Tensor) -> None:
        """Write a grid `(N, 3, H, W)` in [-1, 1] to TensorBoard."""
        if self.main:
            grid = torch.cat(list(rows.detach().float().cpu()), dim=2)
            self._writer().add_image(name, (grid / 2 + 0.5).clamp(0, 1), self.step)

    def save(self) -> None:
        """Write `checkpoint.pt`, by rename.

        Raises:
            WeightsError: it cannot be written; the one before stays.
        """
        self._saved = time.monotonic()
        if not self.main:
            return
        state = {
            "modules": self.modules.state_dict(),
            "ema": self.ema.module.state_dict(),
            "averaged": self.ema.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "first": self.first,
            "spent": self.spent + time.monotonic() - self._began,
            "means": {name: float(value) for name, value in self._means.items()},
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random on the device"] = torch.cuda.get_rng_state(self.device)
        path, part = self.out / "checkpoint.pt", self.out / "checkpoint.pt.part"
        try:
            with open(part, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except (OSError, RuntimeError) as error:  # torch makes the second of the first
            part.unlink(missing_ok=True)
            why = next((e.strerror for e in (error, error.__context__) if isinstance(e, OSError)), None) or str(error)
            raise WeightsError(
                path, f"cannot be written ({why}); make room, and the same command goes on from the one before"
            ) from error

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        # On the CPU. Adam copies its moments to the parameters' device, but leaves its step counters where they were loaded: on a
        # GPU, reading them would wait for it once per parameter and step.
        state = read_checkpoint(path)
        self.step, self.spent = state["step"], state["spent"]
        whole = "optimizer" in state  # unpacked weights are not: what does not ship starts anew
        for module, found in ((self.modules, state["modules"]), (self.ema.module, state["ema"])):
            # A checkpoint may be older than an entry of `state`, where programs keep what is no network.
            begun = {k: v for k, v in module.state_dict().items() if not whole or k.startswith("state.")}
            fit(module, {**begun, **found}, path)
        if whole:
            self.ema.n_averaged.copy_(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._random = {name: state[name] for name in ("random", "random on the device") if name in state}
            self._means = {name: torch.tensor(value, device=self.device) for name, value in state.get("means", {}).items()}
        self.first = state.get("first", 0) if whole else self.step
        log.info("goes on from step %d%s", self.step, "" if whole else " of unpacked weights")

    def _average_gradients(self, loss: Tensor) -> None:
        """Replace the gradients, and the scalar `loss`, by their means over the processes.

        A loss may leave a parameter out in one process and not in another, by the samples that each has. All processes must
        send equally many numbers, so what is missing is sent as zeros; a parameter that nobody used stays without a gradient.
        """
        if self.accelerator.num_processes == 1:
            return
        parameters = [p for p in self.modules.parameters() if p.requires_grad]
        used = loss.new_tensor([float(p.grad is not None) for p in parameters])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        self._average([loss, used, *gradients])
        for parameter, gradient, share in zip(parameters, gradients, used.tolist(), strict=True):
            parameter.grad = gradient if share else None

    def _average(self, tensors: list[Tensor]) -> None:
        """Replace every tensor by its mean over the processes, all in one message."""
        if self.accelerator.num_processes == 1 or not tensors:
            return
        flat = torch.cat([t.detach().reshape(-1).float() for t in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.accelerator.num_processes
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))

    def _record(self, scalars: dict[str, float | Tensor]) -> None:
        # Means stay on the device until they are written down: every float() would make a GPU wait for the CPU.
        for name, value in scalars.items():
            now = value.detach().float() if isinstance(value, Tensor) else torch.tensor(float(value))
            self._means[name] = now if name not in self._means else 0.95 * self._means[name] + 0.05 * now.to(self._means[name])
        if self.step % 50 == 0 and self.main:
            means = {name: float(value) for name, value in self._means.items()}
            minutes = (self.spent + time.monotonic() - self._began) / 60
            log.info("step %d, %.1f min: %s", self.step, minutes, ", ".join(f"{k} {v:.4g}" for k, v in means.items()))
            for name, value in means.items():
                self._writer().add_scalar(name, value, self.step)

    def _writer(self) -> Any:
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                log.warning("tensorboard is not installed: the curves are in this log alone, and no pictures are kept")
                self._board = _Nowhere()
            else:
                self._board = SummaryWriter(str(self.out / "events"))
        return self._board


def launched() -> Accelerator:
    """How this program was started: alone, or as one of several processes by `torchrun` or `accelerate launch`."""
    from accelerate import Accelerator

    # Without `cpu=True`, Accelerate takes several processes on a machine without a GPU for independent trainings.
    accelerator = Accelerator(cpu="LOCAL_RANK" in os.environ and not torch.cuda.is_available(), mixed_precision="no")
    if accelerator.num_processes > 1:
        # A process that exits before it has left its process group may abort, although its work is done.
        atexit.unregister(_leave)
        atexit.register(_leave)
    return accelerator


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class _Nowhere:
    """In place of TensorBoard's writer where that is not installed, as on many GPU images."""

    def add_image(self, name: str, picture: Tensor, step: int) -> None:
        """Not kept."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Not kept."""


def _warming(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """EMA whose decay grows as `(1 + n) / (10 + n)` up to `decay`: without it the random start weighs for thousands of steps."""

    @torch.no_grad()
    def average(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        n = float(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        if averaged[0].is_floating_point():  # torch hands them over one type at a time
            torch._foreach_lerp_(list(averaged), list(current), weight)
        else:
            torch._foreach_copy_(list(averaged), list(current))

    return average


def load_ema(path: str | Path) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint that `Loop` wrote.

    Raises:
        WeightsError: as `read_checkpoint`.
    """
    ema: dict[str, Tensor] = read_checkpoint(path)["ema"]
    return ema


def averaged(module: Module, path: str | Path, name: str) -> Module:
    """`module` with the averaged weights of the module `name` of a checkpoint.

    Raises:
        WeightsError: as `read_checkpoint`, or the checkpoint is of another network.
    """
    fit(module, part_of(load_ema(path), name), path)
    return module


def part_of(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The entries of one module in a `ModuleDict`'s state, without its prefix."""
    return {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(name + ".")}
