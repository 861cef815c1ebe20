"""Reverse diffusion from any level: a denoiser is a plain callable, guidance wraps it, the start is an argument.

Solvers: DDIM (Song et al. 2021), and DPM-Solver++(2M) (Lu et al. 2022) from diffusers. `a_t` follows the cosine schedule
(Nichol and Dhariwal 2021) over 1000 training levels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from videoclr.flow import still_wanted

Denoise = Callable[[Tensor, Tensor], Tensor]
"""`(z_t (N, C, h, w), a_t (N,)) -> z_0 (N, C, h, w)`."""
LEVELS = 1000
SOLVERS = ("ddim", "dpm++")


@cache
def signal_levels() -> Tensor:
    """`(1000,)` float32: `a_t` for t = 0 .. 999, falling (Nichol and Dhariwal 2021, equation 17, betas capped at 0.999)."""
    time = torch.linspace(0, 1, LEVELS + 1, dtype=torch.float64, device="cpu")
    curve = torch.cos((time + 0.008) / 1.008 * torch.pi / 2) ** 2
    betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - betas, dim=0).float()


def level_of_noise(share: float) -> int:
    """The training level whose noise share `sqrt(1 - a_t)` is nearest to `share` in [0, 1]."""
    return int(((1 - signal_levels()).sqrt() - share).abs().argmin())


def sample(denoise: Denoise, z: Tensor, start: int, steps: int, solver: str = "ddim") -> Tensor:
    """Go from level `start` down to the clean latent.

    Args:
        denoise: the (guided) denoiser, evaluated `steps` times; fewer where `dpm++` starts so low that levels fall together.
        z: `(N, C, h, w)` latent noised to level `start`.
        start: training level in [0, 999]; a truncated start (DifFace, Yue and Loy 2022) is a smaller one.
        steps: evaluations, at levels spread evenly from `start` towards 0.
        solver: `ddim` or `dpm++`.

    Returns:
        `(N, C, h, w)` clean latent.

    Raises:
        ValueError: an unknown solver.
    """
    alphas = signal_levels().to(z.device)
    times = torch.linspace(start, 0, steps + 1, dtype=torch.float32, device="cpu")[:-1].round().long()
    if solver == "ddim":
        for now, after in zip(times.tolist(), [*times[1:].tolist(), None], strict=True):
            still_wanted()
            clean = denoise(z, alphas[now].expand(len(z)))
            z = clean if after is None else _ddim(z, clean, alphas[now], alphas[after])
        return z
    if solver not in SOLVERS:
        raise ValueError(f"solver {solver!r}: expected one of {', '.join(SOLVERS)}")
    scheduler = _dpm(times)
    for time in scheduler.timesteps:
        still_wanted()
        clean = denoise(z, alphas[int(time)].expand(len(z)))
        z = scheduler.step(clean, time, z).prev_sample
    return z


def _ddim(z: Tensor, clean: Tensor, now: Tensor, after: Tensor) -> Tensor:
    """Equation 12 of Song et al. 2021 with eta = 0. diffusers' DDIM knows no list of levels, and importing it costs seconds."""
    noise = (z - now.sqrt() * clean) / (1 - now).sqrt()
    return after.sqrt() * clean + (1 - after).sqrt() * noise


def _dpm(times: Tensor) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    scheduler: Any = DPMSolverMultistepScheduler(
        num_train_timesteps=LEVELS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(timesteps=list(dict.fromkeys(times.tolist())))  # it takes no level twice
    return scheduler
