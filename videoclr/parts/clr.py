"""CLR-Face as a restorer: a degraded crop in, the refined latent decoded, out (Suin and Chellappa 2024, arXiv 2402.06106).

One restoration of a batch of crops:

1. `R(y)`, the IRN's faithful estimate; `z_R = E(R(y))` and the condition `z_y = E_l(y)`.
2. Start at a level of the noise below the top, from `z_R` (truncated start, after DifFace, Yue and Loy 2022).
3. Reverse diffusion to 0 in `steps` evaluations, guided towards the identity inside the learned latent mask.
4. Decode, with the features of `E_l` fused in.

`fidelity` moves three things together: a lower start, stronger guidance, more fusion.

The noise belongs to the track: every frame of a track gets the same field, which sits on the aligned face and not on the picture,
so noise alone never makes two frames differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.diffusion.guidance import guided
from videoclr.diffusion.noise import add_noise, field
from videoclr.diffusion.sampler import SOLVERS, level_of_noise, sample, signal_levels
from videoclr.models.denoiser import Denoiser
from videoclr.models.identity import IdentityRecovery, LatentMask
from videoclr.models.recognizer import Recognizer
from videoclr.models.vqgan import Codebook, Decoder, Encoder
from videoclr.models.weights import fit, load_part, manifest
from videoclr.types import FaceCrop


class ClrNetworks(nn.Module):
    """The networks of the restorer; `embedded` and `of_runs` give them in evaluation mode, without gradients for their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.codebook, self.condition = Encoder(), Decoder(), Codebook(), Encoder()
        self.irn, self.denoiser, self.mask, self.recognizer = IdentityRecovery(), Denoiser(), LatentMask(), Recognizer()
        self.student: Denoiser | None = None  # of one evaluation; there where it was distilled

    @classmethod
    def of_runs(cls, folder: str | Path) -> ClrNetworks:
        """The averaged networks of training runs: `folder/<run>/checkpoint.pt`; what was not trained yet keeps its start."""
        networks = cls()
        networks.student = Denoiser() if (Path(folder) / "student/checkpoint.pt").exists() else None
        for run, inside, name in RUNS:
            path = Path(folder) / run / "checkpoint.pt"
            if path.exists():
                averaged = torch.load(path, weights_only=True, map_location="cpu")["ema"]
                own = {k.removeprefix(inside + "."): v for k, v in averaged.items() if k.startswith(inside + ".")}
                fit(networks.get_submodule(name), own, path)
            elif name == "condition":
                networks.condition.load_state_dict(networks.encoder.state_dict())
        return networks.requires_grad_(False).eval()

    @classmethod
    def embedded(cls) -> ClrNetworks:
        """The networks with the weights that ship.

        Raises:
            WeightsError: a file is missing or damaged.
        """
        networks = cls()
        absent = OPTIONAL - manifest().keys()
        networks.student = None if "student" in absent else Denoiser()
        for file, names in FILES.items():
            for name in () if file in absent else names:
                load_part(networks.get_submodule(name), file, name)
        return networks.requires_grad_(False).eval()


FILES = {
    "vqgan": ("encoder", "decoder", "codebook"),
    "irn": ("irn",),
    "denoiser": ("condition", "denoiser"),
    "mask": ("mask",),
    "recognizer": ("recognizer",),
    "student": ("student",),
}
"""Embedded file -> the networks in it; a network's entries carry its name as prefix."""
OPTIONAL = {"student"}
"""Files that need not be there."""
RUNS = (
    ("vqgan", "vqgan.encoder", "encoder"),
    ("vqgan", "vqgan.decoder", "decoder"),
    ("vqgan", "vqgan.codebook", "codebook"),
    ("fusion", "fusion", "decoder.fusion"),
    ("irn", "irn", "irn"),
    ("denoiser", "encoder", "condition"),
    ("denoiser", "denoiser", "denoiser"),
    ("mask", "mask", "mask"),
    ("recognizer", "recognizer", "recognizer"),
    ("student", "student", "student"),
)
"""Training run, the module's name in its checkpoint, and here."""


class ClrRestorer:
    """The part behind `restore.use: clr`.

    Args:
        steps: evaluations of the denoiser per face; 1 uses the student where there is one, which needs no guidance.
        fidelity: 0 favours perceptual quality, 1 what the input shows.
        seed: of every noise field.
        device: torch's name.
        size: side of the crops, px, divisible by 4.
        solver: `ddim` or `dpm++`.
        start: noise share in [0, 1] at which diffusion starts; None: by `fidelity`.
        guidance: strength of identity guidance; None: by `fidelity`, and none for the student. 0 turns it off.
        quantise: snap the refined latent to the codebook before decoding, as the paper does; off by default, because a hard
            assignment flips between the frames of a video.
        networks: others than the embedded ones.

    Raises:
        ValueError: a value outside its range.
        WeightsError: the embedded weights are missing or damaged.
    """

    def __init__(
        self,
        steps: int = 3,
        fidelity: float = 0.5,
        seed: int = 0,
        device: str = "cpu",
        size: int = 256,
        solver: str = "ddim",
        start: float | None = None,
        guidance: float | None = None,
        quantise: bool = False,
        networks: ClrNetworks | None = None,
    ) -> None:
        if solver not in SOLVERS or not 0 <= (start or 0) <= 1 or (guidance or 0) < 0:
            raise ValueError(f"solver {solver!r} in {SOLVERS}, start {start} in [0, 1] and guidance {guidance} >= 0 are expected")
        if steps < 1 or not 0 <= fidelity <= 1 or size % 4:
            raise ValueError(f"steps {steps} >= 1, fidelity {fidelity} in [0, 1] and size {size} divisible by 4 are expected")
        self.steps, self.fidelity, self.seed = steps, fidelity, seed
        self.device, self.size, self.solver = torch.device(device), size, solver
        # The dial, [ours]: with the weights that ship, a lower start, more fusion and more guidance are each nearer to the input.
        self.start = 0.3 - 0.28 * fidelity if start is None else start
        self.quantise = quantise
        self.fusion = 0.5 + 0.5 * fidelity
        self.guidance = 0.04 + 0.08 * fidelity if guidance is None else guidance
        self.networks = (networks or ClrNetworks.embedded()).to(self.device)
        self.student = self.networks.student if steps == 1 else None
        if self.student is not None and guidance is None:
            self.guidance = 0.0

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
        """Restore a batch.

        Args:
            crops: any frames, any tracks; `identity` is aimed at where it is known, else that of `R(y)`.
            memory: track -> what this part remembers of it: the index of its first frame, which names its noise.

        Returns:
            `(N, 3, S, S)` float32 RGB in [-1, 1], on the CPU.
        """
        y = torch.stack([crop.image for crop in crops])
        first = [memory.setdefault(c.face.track, {"first": c.frame.index})["first"] for c in crops]
        return self._refine(y.to(self.device), [c.identity for c in crops], first)

    def restore_stills(self, y: Tensor) -> Tensor:
        """Restore pictures that belong to no track: `(N, 3, S, S)` in [-1, 1] -> the same, each with its own identity."""
        return self._refine(y.to(self.device), [None] * len(y), [0] * len(y))

    def _refine(self, y: Tensor, identities: Sequence[Tensor | None], first: Sequence[int]) -> Tensor:
        net = self.networks
        # Not inference_mode, and not inside the caller's either: guidance needs tensors that autograd may look at.
        with torch.inference_mode(False), torch.no_grad():
            y = y.clone()
            recovered = net.irn(y).clamp(-1, 1)
            z_r, features = net.encoder(recovered), net.condition.features(y)
            z_y = net.condition.latent(features)
            identity = self._identities(identities, recovered)
            noise = torch.stack([field(self.seed, (f,), tuple(z_r.shape[1:])) for f in first]).to(z_r)
            level = level_of_noise(self.start)
            z_t = add_noise(z_r, noise, float(signal_levels()[level]))
            z = sample(self._denoiser(z_y, z_r, identity), z_t, level, self.steps, self.solver)
            z = net.codebook(z)[0] if self.quantise else z
            restored: Tensor = net.decoder(z, features, self.fusion).clamp(-1, 1).float().cpu()
            return restored

    def recover(self, y: Tensor) -> Tensor:
        """The IRN alone: `(N, 3, S, S)` in [-1, 1] -> the same."""
        with torch.inference_mode():
            recovered: Tensor = self.networks.irn(y.to(self.device)).clamp(-1, 1).cpu()
            return recovered

    def _identities(self, identities: Sequence[Tensor | None], recovered: Tensor) -> Tensor:
        own = self.networks.recognizer.embed(recovered)
        known = [own[i] if e is None else e.to(own).clone() for i, e in enumerate(identities)]
        return F.normalize(torch.stack(known), dim=1)

    def _denoiser(self, z_y: Tensor, z_r: Tensor, identity: Tensor) -> Any:
        net = self.networks
        denoiser = net.denoiser if self.student is None else self.student

        def plain(z_t: Tensor, alpha: Tensor) -> Tensor:
            clean: Tensor = denoiser(z_t, alpha, z_y, z_r)
            return clean

        if self.guidance == 0:
            return plain
        target = identity.clone()

        def distance(z: Tensor) -> Tensor:
            cosine: Tensor = (net.recognizer.embed(net.decoder(z)) * target).sum(1)
            return 1 - cosine

        # It rests under 0.4 of the noise that the way began with, wherever that was: what follows cleans up what it moved.
        return guided(plain, distance, net.mask(z_y), self.guidance, last=0.4 * self.start)
