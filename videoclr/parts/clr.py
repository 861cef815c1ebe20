"""CLR-Face as a restorer: a degraded crop in, the refined latent decoded, out (Suin and Chellappa 2024, arXiv 2402.06106).

One restoration of a batch of crops:

1. `R(y)`, the IRN's faithful estimate; `z_R = E(R(y))` and the condition `z_y = E_l(y)`.
2. Start at a level of the noise below the top, from `z_R` (truncated start, after DifFace, Yue and Loy 2022).
3. Reverse diffusion to 0 in `steps` evaluations, guided towards the identity inside the learned latent mask.
4. Decode, with the features of `E_l` fused in.

`fidelity` moves three things together: a lower start, stronger guidance, less fusion. The fusion was trained against a discriminator: it
adds the texture that the recovery lacks, less where the input shows little and texture would be invented.

The noise belongs to the track: every frame of a track gets the same field, which sits on the aligned face and not on the picture,
so noise alone never makes two frames differ.

Along a track (`restore_span`) a frame is not restored for itself:

1. `R(y)` is what flickers most; diffusion and decoder add a tenth to it. Neighbours see the same face through other noise, so the
   IRN gets the mean of the input along the motion, `_SEEN` frames on each side: steadier, sharper and nearer to the truth at
   once (the mean of the *recovered* frames is as steady, but blurs). What still flickers is averaged over `_SETTLED` frames,
   along the motion of those means, which is cleaner than the input's. `z_y` and the fused features are of the same means.
2. Anchors, every `anchors`-th frame and where the motion between them is not trusted, are denoised in full and guided.
3. The frames between start from both neighbouring anchors' latents, carried along the motion, weighted by nearness and trust.
   What is carried is `z_0 - z_R`, what diffusion and guidance added: the face itself each frame has of its own in `z_R`, so a
   blinking eye leaves no ghost, and where the motion is not trusted there remains the frame's own `z_R`.
4. With `refine`, every so many-th of them is noised again to a lower level, with the track's noise carried along, and denoised in
   one step; the others take what their (now nearer) neighbours have. It is off: what is carried is as good and steadier.
   All of one kind form one batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.diffusion.guidance import guided, rms
from videoclr.diffusion.noise import add_noise, field
from videoclr.diffusion.sampler import SOLVERS, Denoise, level_of_noise, sample, signal_levels
from videoclr.flow import grouped
from videoclr.models.denoiser import Denoiser
from videoclr.models.identity import IdentityRecovery, LatentMask
from videoclr.models.recognizer import Recognizer
from videoclr.models.vqgan import Codebook, Decoder, Encoder
from videoclr.models.weights import fit, load_part, manifest
from videoclr.motion import Motions, Values, carried, carried_noise, mean_along
from videoclr.pixels import quantized, to_array
from videoclr.types import FaceCrop

_SEEN = 3
"""Frames on each side over which the input is averaged: with more, the error of the motion eats the gain."""
_SETTLED = 3
"""Frames on each side over which the recovered pictures are averaged."""
_AGAIN = 0.5
"""Level to which a carried latent is noised again, as a share of the start's noise."""
_DEGRADED = (0.05, 0.1)
"""Root mean square of `R(y) - y`: up to the first, the IRN's latent is taken as it is; from the second on, diffusion's change to it
counts in full. The latent's error is about 3.7 times that size; a median `mild` crop has 0.07, a `heavy` one 0.10."""
_UNSEEN = 0.43
"""Share of the fusion that is left out where diffusion's change counts in full."""
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TRUSTED = 0.4
"""Mean trust in the motion under which a frame between anchors becomes an anchor itself."""


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
        start: noise share in [0, 1] at which diffusion starts; None: by `fidelity`, and what diffusion changes counts by how
            degraded the crop is: a nearly clean one has nothing to gain from it.
        guidance: strength of identity guidance; None: by `fidelity`, and none for the student. 0 turns it off.
        quantise: snap the refined latent to the codebook before decoding, as the paper does; off by default, because a hard
            assignment flips between the frames of a video.
        anchors: every how many frames of a track one is denoised in full; 1 restores every frame for itself.
        precision: `float32`, or `bfloat16` or `float16` for what autocast computes in it.
        refine: of the frames between two anchors, every so many-th is denoised again (one step) after it was carried; 0: none.
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
        anchors: int = 1,
        refine: int = 0,
        precision: str = "float32",
        networks: ClrNetworks | None = None,
    ) -> None:
        if solver not in SOLVERS or not 0 <= (start or 0) <= 1 or (guidance or 0) < 0:
            raise ValueError(f"solver {solver!r} in {SOLVERS}, start {start} in [0, 1] and guidance {guidance} >= 0 are expected")
        if steps < 1 or not 0 <= fidelity <= 1 or size % 4:
            raise ValueError(f"steps {steps} >= 1, fidelity {fidelity} in [0, 1] and size {size} divisible by 4 are expected")
        if anchors < 1 or refine < 0:
            raise ValueError(f"anchors {anchors} >= 1 and refine {refine} >= 0 are expected")
        if precision not in _PRECISIONS:
            raise ValueError(f"precision {precision!r} in {tuple(_PRECISIONS)} is expected")
        self.precision = precision
        self.anchors, self.refine, self.reach = anchors, refine, _SEEN + _SETTLED
        self.steps, self.fidelity, self.seed = steps, fidelity, seed
        self.device, self.size, self.solver = torch.device(device), size, solver
        # The dial, [ours]: with the weights that ship, a lower start, less fusion and more guidance are each nearer to the input.
        self.start = 0.3 - 0.28 * fidelity if start is None else start
        self.adaptive = start is None
        self.quantise = quantise
        self.fusion = 1 - 0.5 * fidelity
        self.guidance = 0.04 + 0.08 * fidelity if guidance is None else guidance
        self.networks = (networks or ClrNetworks.embedded()).to(self.device)
        self.student = self.networks.student if steps == 1 else None
        if self.student is not None and guidance is None:
            self.guidance = 0.0

    @property
    def exact(self) -> ClrRestorer | None:
        """The same in float32; None where this one is that."""
        if self.precision == "float32":
            return None
        same = copy.copy(self)
        same.precision = "float32"
        return same

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
        """Restore a batch.

        Args:
            crops: any frames, any tracks; `identity` is aimed at where it is known, else that of `R(y)`.
            memory: track -> what this part remembers of it: the index of its first frame, which names its noise.

        Returns:
            `(N, 3, S, S)` float32 RGB in [-1, 1], on the CPU.
        """
        y = torch.stack([crop.image for crop in crops])
        return self._refine(y.to(self.device), [c.identity for c in crops], [_remembered(c, memory)["first"] for c in crops])

    def restore_span(
        self, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], first: bool, memory: dict[int, Any], batch: int
    ) -> Tensor:
        """Restore consecutive frames of one track together; see the protocol in the stage `restore`.

        Args:
            crops: in order of time, up to and with the next anchor.
            after: up to `reach` more, to look at.
            first: nothing goes before them.
            memory: as in `restore`; the track's entry also holds the last anchor and the frames around it.
            batch: faces per call of a network.

        Returns:
            `(N, 3, S, S)` float32 RGB in [-1, 1], on the CPU.
        """
        entry = _remembered(crops[0], memory)
        past: _Past | None = None if first else entry.get("past")
        # Not inference_mode, and not inside the caller's either: see `_refine`.
        with torch.inference_mode(False), torch.no_grad(), self._autocast():
            span = _Span(self, crops, after, past, batch, entry["first"])
            restored = span.restored()
        entry["past"], entry["full"] = span.past(), {crop.frame.index for crop in span.anchors(crops)}
        return restored

    def full(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> list[bool]:
        """Which of a span's crops were denoised in full; see the protocol in the stage `restore`."""
        return [crop.frame.index in memory[crop.face.track]["full"] for crop in crops]

    def restore_stills(self, y: Tensor) -> Tensor:
        """Restore pictures that belong to no track: `(N, 3, S, S)` in [-1, 1] -> the same, each with its own identity."""
        return self._refine(y.to(self.device), [None] * len(y), [0] * len(y))

    def _refine(self, y: Tensor, identities: Sequence[Tensor | None], first: Sequence[int]) -> Tensor:
        net = self.networks
        # Not inference_mode, and not inside the caller's either: guidance needs tensors that autograd may look at.
        with torch.inference_mode(False), torch.no_grad(), self._autocast():
            y = y.clone()
            recovered = net.irn(y).float().clamp(-1, 1)
            z_r, features = net.encoder(recovered).float(), net.condition.features(y)
            z_y = net.condition.latent(features).float()
            identity = self.identities(identities, recovered)
            noise = torch.stack([field(self.seed, (f,), tuple(z_r.shape[1:])) for f in first]).to(z_r)
            level = level_of_noise(self.start)
            z_t = add_noise(z_r, noise, float(signal_levels()[level]))
            z = sample(self.denoiser(z_y, z_r, identity), z_t, level, self.steps, self.solver)
            share = self.share(y, recovered)
            z = z_r + share * (z - z_r)
            z = net.codebook(z)[0] if self.quantise else z
            restored: Tensor = net.decoder(z, features, self.texture(share)).clamp(-1, 1).float().cpu()
            return restored

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=_PRECISIONS[self.precision], enabled=self.precision != "float32")

    def share(self, y: Tensor, recovered: Tensor) -> Tensor:
        """How much of what diffusion adds to `z_R` is taken, by what the IRN had to change: `(N, 1, 1, 1)` in [0, 1]."""
        if not self.adaptive:
            return y.new_ones(len(y), 1, 1, 1)
        low, high = _DEGRADED
        return ((rms(recovered - y) - low) / (high - low)).clamp(0, 1)

    def texture(self, share: Tensor) -> Tensor:
        """Strength of the fusion by `share` (N, 1, 1, 1): where much had to change, texture would be invented."""
        return self.fusion * (1 - _UNSEEN * share)

    def recover(self, y: Tensor) -> Tensor:
        """The IRN alone: `(N, 3, S, S)` in [-1, 1] -> the same."""
        with torch.inference_mode(), self._autocast():
            recovered: Tensor = self.networks.irn(y.to(self.device)).clamp(-1, 1).float().cpu()
            return recovered

    def identities(self, identities: Sequence[Tensor | None], recovered: Tensor) -> Tensor:
        """`(N, D)` unit vectors: those that are known, else of the `recovered` faces."""
        own = self.networks.recognizer.embed(recovered)
        known = [own[i] if e is None else e.to(own).clone() for i, e in enumerate(identities)]
        return F.normalize(torch.stack(known), dim=1)

    def denoiser(self, z_y: Tensor, z_r: Tensor, identity: Tensor | None) -> Denoise:
        """The denoiser of these crops as a callable, guided towards `identity` where there is one."""
        net = self.networks
        denoiser = net.denoiser if self.student is None else self.student

        def plain(z_t: Tensor, alpha: Tensor) -> Tensor:
            clean: Tensor = denoiser(z_t, alpha, z_y, z_r).float()
            return clean

        if self.guidance == 0 or identity is None:
            return plain
        target = identity.clone()

        def distance(z: Tensor) -> Tensor:
            cosine: Tensor = (net.recognizer.embed(net.decoder(z)) * target).sum(1)
            return 1 - cosine

        # It rests under 0.4 of the noise that the way began with, wherever that was: what follows cleans up what it moved.
        return guided(plain, distance, net.mask(z_y), self.guidance, last=0.4 * self.start)


def _remembered(crop: FaceCrop, memory: dict[int, Any]) -> dict[str, Any]:
    """The entry of a crop's track: it holds the name of the track's noise, its first frame counted from that of the shot, so
    that a shot restored alone looks as it does in its film."""
    entry: dict[str, Any] = memory.setdefault(crop.face.track, {"first": crop.frame.index - crop.frame.shot_start})
    return entry


@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """What a span leaves for the next one of its track."""

    end: int
    """Place of its last frame, an anchor; places count the frames since the track came."""
    correction: Values
    """`(h, h, C)` what diffusion added to that frame."""
    inputs: dict[int, Values]
    """Place -> `(S, S, 3)` crops of the input around the anchor, those after it that were seen included."""
    views: dict[int, Values]
    """Place -> `(S, S, 6)` around the anchor: the recovered picture, and the mean of the input that it was recovered from."""


class _Span:
    """One call of `ClrRestorer.restore_span`."""

    def __init__(
        self, part: ClrRestorer, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], past: _Past | None, batch: int, first: int
    ) -> None:
        self.part, self.net, self.batch = part, part.networks, batch
        start = 0 if past is None else past.end + 1
        self.places = range(start, start + len(crops))
        self.identities = {place: crop.identity for place, crop in zip(self.places, crops, strict=True)}
        self.inputs: dict[int, Values] = dict(past.inputs) if past else {}
        self.views: dict[int, Values] = dict(past.views) if past else {}
        self.inputs.update({p: to_array(crop.image) for p, crop in enumerate([*crops, *after], start)})
        self._look()
        self.motions = Motions({place: quantized(view[..., 3:], np.uint8) for place, view in self.views.items()})
        self.corrections: dict[int, Values] = {past.end: past.correction} if past else {}
        self.full: list[int] = []
        self._condition()
        self.noise = field(part.seed, (first,), tuple(self.z_r.shape[1:]))

    def restored(self) -> Tensor:
        """`(N, 3, S, S)` on the CPU: anchors, then those between, then all decoded."""
        places, part = self.places, self.part
        anchors = [places[-1]] if self.corrections else sorted({places[0], places[-1]})
        self._denoise(anchors, guide=True)
        lost = [p for p in self._open() if carried(self.corrections, p, self.motions)[1] < _TRUSTED]
        self._denoise(lost, guide=True)
        self.full = [*anchors, *lost]
        origin = min(self.corrections)
        again = [p for p in self._open() if (p - origin) % part.refine == 0] if part.refine else []
        self._denoise(again, guide=False)
        self.corrections.update({p: carried(self.corrections, p, self.motions)[0] for p in self._open()})
        share = part.share(self._stacked([self.inputs[p] for p in places]), self.recovered)
        z = self.z_r + share * self._stacked([self.corrections[p] for p in places])
        z = self.net.codebook(z)[0] if part.quantise else z
        decode = lambda z, f, s: self.net.decoder(z, f, s).clamp(-1, 1).float().cpu()  # noqa: E731
        return self._in_batches(decode, z, self.features, part.texture(share))

    def anchors(self, crops: Sequence[FaceCrop]) -> list[FaceCrop]:
        """Those of the span's crops that were denoised in full."""
        return [crop for place, crop in zip(self.places, crops, strict=True) if place in self.full]

    def past(self) -> _Past:
        """What the next span needs."""
        end, reach = self.places[-1], self.part.reach
        near = {place: view for place, view in self.views.items() if place >= end - _SETTLED}
        return _Past(end, self.corrections[end], {p: y for p, y in self.inputs.items() if p >= end - reach}, near)

    def _open(self) -> list[int]:
        return [place for place in self.places if place not in self.corrections]

    def _look(self) -> None:
        """Recover what no span has recovered yet, up to `_SETTLED` frames behind the anchor."""
        ahead = min(self.places[-1] + _SETTLED, max(self.inputs))
        new = [place for place in range(self.places.start, ahead + 1) if place not in self.views]
        if not new:
            return
        motions = Motions({place: quantized(y, np.uint8) for place, y in self.inputs.items()})
        means = [mean_along(self.inputs, place, _SEEN, motions).clip(-1, 1) for place in new]
        recovered = self._in_batches(lambda y: self.net.irn(y).float().clamp(-1, 1), self._stacked(means))
        self.views.update({p: np.concatenate([to_array(r), y], axis=2) for p, r, y in zip(new, recovered, means, strict=True)})

    def _condition(self) -> None:
        """The means along the motion, and what the networks make of them."""
        means = [mean_along(self.views, p, _SETTLED, self.motions) for p in self.places]
        self.recovered, y = self._stacked(means).clamp(-1, 1).split(3, dim=1)
        self.z_r = self._in_batches(lambda x: self.net.encoder(x).float(), self.recovered)
        self.features = self._in_batches(self.net.condition.features, y)
        self.z_y = self._in_batches(lambda f: self.net.condition.latent(f).float(), self.features)

    def _denoise(self, places: Sequence[int], guide: bool) -> None:
        """Anchors in full from their own `z_R`, guided; others in one step from what is carried to them, at a lower level."""
        part, rows = self.part, [place - self.places.start for place in places]
        if not rows:
            return
        level = level_of_noise(part.start if guide else _AGAIN * part.start)
        z_y, z_r = self.z_y[rows], self.z_r[rows]
        sources = dict(self.corrections)
        if guide:
            noise, z = self.noise.expand(len(rows), -1, -1, -1).to(z_r), z_r
        else:
            z = z_r + self._stacked([carried(sources, p, self.motions)[0] for p in places])
            own = np.ascontiguousarray(self.noise.permute(1, 2, 0).numpy())
            noise = self._stacked([carried_noise(own, p, sources, self.motions) for p in places])
        z_t = add_noise(z, noise, float(signal_levels()[level]))

        def clean(z_t: Tensor, z_y: Tensor, z_r: Tensor, identity: Tensor) -> Tensor:
            denoiser = part.denoiser(z_y, z_r, identity if guide else None)
            return sample(denoiser, z_t, level, part.steps if guide else 1, part.solver)

        known = [self.identities[p] for p in places]
        identity = part.identities(known, self.recovered[rows]) if guide else z_t
        added = self._in_batches(clean, z_t, z_y, z_r, identity) - z_r
        self.corrections.update({p: to_array(one) for p, one in zip(places, added, strict=True)})

    def _stacked(self, values: Sequence[Values]) -> Tensor:
        """`(H, W, C)` arrays -> `(N, C, H, W)` on the device."""
        return torch.from_numpy(np.stack(values)).permute(0, 3, 1, 2).contiguous().to(self.part.device)

    def _in_batches(self, network: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return torch.cat([network(*(x[rows] for x in inputs)) for rows in grouped(range(len(inputs[0])), self.batch)])
