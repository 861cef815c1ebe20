"""CLR-Face as a restorer: a degraded crop in, the refined latent decoded, out (Suin and Chellappa 2024, arXiv 2402.06106).

One restoration of a batch of crops, in the light that the networks know (`videoclr.light`) and without noise in every pixel
(`grain.calmed`); what was changed goes back into the film's light, and where the crop is nearer to the truth it is kept
(`models.shares`):

1. `R(y)`, the IRN's faithful estimate; `z_R = E(R(y))` and the condition `z_y = E_l(y)`.
2. Start at a level of the noise below the top, from `z_R` (truncated start, after DifFace, Yue and Loy 2022).
3. Reverse diffusion to 0 in `steps` evaluations, guided towards the identity inside the learned latent mask.
4. Decode, with the features of `E_l` fused in; what that shows beyond the decoded `z_R` is added to `R(y)` itself.

`fidelity` moves three things together: a lower start, stronger guidance, less fusion. The fusion was trained against a
discriminator: it adds the texture that the recovery lacks, less where the input shows little and texture would be invented.

A second pass (`passes: 2`; diffusion, information, diffusion, after DiffMAC, Gao et al. 2024) asks where the result disagrees with
the input beyond blur: there the latent goes back to `z_R`, and what was so mended is noised again, to a lower level, and denoised.

The noise belongs to the track: every frame of a track gets the same field, which sits on the aligned face and not on the picture,
so noise alone never makes two frames differ.

A face that is larger in its frame than its crop gets its finer detail afterwards, at twice the side, from a network of its own
(`enlarge`, `models.closeup`).

Along a track (`restore_span`) a frame is not restored for itself:

1. `R(y)` is what flickers most; diffusion and decoder add a quarter to it. Neighbours see the same face through other noise, so
   the IRN gets the mean of the input along the motion (`Motions`), over all that went before for as long as it looks alike and
   over what is known of what follows (`motion.means_along`), at least `_SEEN` frames: steadier, sharper and nearer to the truth at
   once (the mean of the *recovered* frames is as steady, but blurs). What still flickers is averaged once more in this way, over
   at least `_SETTLED` frames that follow, and each counts by how much its input shows (`_ENOUGH`): where a film goes out of focus,
   what was seen before outlasts it. Frames of good films are worth more than a mean that missed by part of a pixel
   (`motion.near_enough`). `z_y` and the fused features are of the same means, and so is what is kept.
   The best view so far, of the track, of earlier ones of the same person or a photograph, stands beside every frame that shows
   less: laid over it (`motion.laid_over`), the IRN takes from there who it is, and from the frame itself what it does
   (`ReferenceFusion`).
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
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr import appearance, geometry
from videoclr.diffusion.guidance import guided, rms
from videoclr.diffusion.noise import add_noise, field
from videoclr.diffusion.sampler import SOLVERS, Denoise, level_of_noise, sample, signal_levels
from videoclr.disagreement import invented
from videoclr.errors import WeightsError
from videoclr.flow import at_once, grouped, still_wanted
from videoclr.grain import calmed, fine_noise, noisiness
from videoclr.light import Light, calm, followed, light_of, usual
from videoclr.models.closeup import CloseUp, enlarged
from videoclr.models.denoiser import Denoiser
from videoclr.models.identity import IdentityRecovery, LatentMask, ReferenceFusion
from videoclr.models.recognizer import Recognizer
from videoclr.models.shares import Shares
from videoclr.models.start import StartLevel
from videoclr.models.vqgan import Codebook, Decoder, Encoder
from videoclr.models.weights import fit, load_part, manifest, read_checkpoint
from videoclr.motion import (
    ALIKE,
    BEHIND,
    Gathered,
    Motions,
    Pair,
    Values,
    carried,
    carried_noise,
    compared,
    laid_over,
    means_along,
)
from videoclr.packing import keepable
from videoclr.pixels import quantized, to_array
from videoclr.types import FaceCrop
from videoclr.weave import seen_enlarged, unwoven

_SEEN = 3
"""Following frames that are at least known where the input is averaged."""
_SETTLED = 3
"""Following frames that are at least known where the recovered pictures are averaged."""
_ENOUGH, _FADES = 0.075, 12
"""How much a recovered picture counts along its track, by the root mean square of `R(y) - y`, `y` being the mean along the motion:
fully up to `_ENOUGH`, beyond it as (`_ENOUGH` / that) ** `_FADES`. Within a clip whose blur grows, this size predicts the loss of
identity (correlation with IDS: -0.96 and -0.92 on the two worst films), so what was seen before the blur outlasts it: IDS of the
two rose from 0.691 to 0.732 and from 0.488 to 0.531, and SqD fell. A power of 8 gained two thirds of that; with 16 mouths
lagged."""
_FLAWED = 0.06
"""Root mean square of `R(y) - y` from which on recovered pictures that differ by up to `motion.ALIKE` are averaged along their
track; below it that tolerance shrinks in proportion. Where a film is bad, the recovery differs from frame to frame, and the mean
is nearer to the truth. Where it is good, the single frame is: two good films came out with 37.7 dB, and with 36.7 where all were
averaged alike. A tolerance that shrinks faster (to a half of this at 0.03) gave 38.3 dB, but no longer evened out what codecs make
of slightly degraded faces (E*warp of four such clips: 1.45 of the clean ones', instead of 1.25)."""
_WORSE = (1.05, 1.2)
"""Ratio of how much the recovery changed a crop to how much it changed the best view of the track: from the first value on that
view is used beside the crop, from the second on fully. From 0.95 to 1.05 nearly every frame was recovered twice: half as long
again (instead of a fifth), for 0.002 of IDS and 0.008 of SqD on 25 clips, with more flicker (E*warp 1.24 of the clean clips',
instead of 1.21)."""
_LEAST = 0.05
"""Lower bound of how much the recovery is taken to have changed the best view: below it, views are equally good."""
_BETTER = 0.93
"""A view is a better one where at most so much was changed of it; with 1, what stands beside a film that comes into focus changed
with every frame, which flickered."""
_PHOTOGRAPH = 0.27
"""How much the recovery is taken to have changed a photograph, in contrasts of the crop (`contrast`): another day's light and
expression make it no better a view than that. Of 60 pairs of pictures, `mild` and `heavy`, the quarters by that measure (0.27,
0.32, 0.385) gained 0.003, 0.013, 0.025 and 0.176 of IDS beside one (correlation 0.51). Without the contrast it is 0.34, and a film
in soft light hardly ever looked at its photographs."""
_ELSEWHERE = 1.1
"""A view from elsewhere, a photograph or another shot's, is used where the track's best one was changed more than so many times as
much, for the same reason."""
_AGAIN = 0.5
"""Level to which a carried latent is noised again, as a share of the start's noise."""
_DEGRADED = (0.05, 0.1)
"""Root mean square of `R(y) - y`: up to the first, the IRN's latent is taken as it is; from the second on, diffusion's change to it
counts in full. The latent's error is about 3.7 times that size; a median `mild` crop has 0.07, a `heavy` one 0.10."""
_UNSEEN = 0.55
"""Share of the fusion that is left out of the worst crops (`degradation`)."""
_STEADY = 0.4
"""Share of the fusion that is left along a track: texture is what differs most between frames."""
_GOOD, _LEAST_DRAWN = (0.07, 0.15), 0.5
"""How much was changed amid the face at the restorer's own size, in contrasts of the face (`contrast`), up to which a close-up
counts as good, and from which on as degraded; and how much of what the network makes of the detail is shown of a good one. Of 90
pictures of 30 held-out people of 512 px, most of them hardly degraded, the 60 that were changed least had 37.2 dB with the frame's
own detail, 37.3 with half of the network's and 36.4 with all of it, and SqD 0.181, 0.152 and 0.159; those that were changed most
want all of it."""
_WRONG = (0.24, 0.38)
"""Predicted error of `z_R`, latent units: up to the first diffusion would only add to it; at the second it starts at the level that
the dial says. A median `mild` crop has 0.25, a `heavy` one 0.39."""
_HIGHEST = 1.5
"""The predicted start is at most this many times that level."""
_RUNG = 0.01
"""Predicted noise shares are rounded to multiples of it, so that faces of about one level share a call."""
_KNOWN = 0.8
"""Weight of a known identity against that of the recovered face, for the worst crops. Of 24 held-out people with a second picture:
on `heavy` a mixture is nearer to the clean face (0.898 by our recogniser) than the recovered face (0.869) or the other picture
(0.727); on `mild` nothing is nearer than the recovered face (0.990), and aiming at the other picture alone cost 0.01 of IDS."""
_SURE = 7.5
"""Strength of guidance towards the identity of photographs, for the worst crops, over that towards any other. Of 16 people with a
second picture, `heavy`, aimed at equal parts: 0.336 of IDS without, 0.376 with that much, and no more with 19 times; towards
their own identity alone more strength gains nothing. Towards what the views of a degraded track tell of it, on the two worst of
five films, it cost 0.018 of IDS (0.596 instead of 0.614), and three times as much of it 0.06."""
_LOST = 0.8
"""`degradation` from which a crop is taken to have lost identity that is known. Of 24 people, `heavy` gains 0.039 of IDS by a
second picture and `mild` loses 0.006 (0.005 with 0.95)."""
_INVENTED = (0.25, 0.5)
"""Disagreement with the input, in contrasts of the face, from which a place is doubted and at which it is given up; those of the
gate (`parts.agreement`), which has the figures."""
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SHARPEST, _FINE = 2.0, 256
"""Of what a blur takes, the most that may be added; and the pixels of that blur's standard deviation in the side of a crop."""
_TRUSTED = 0.5
"""Mean trust in the motion under which a frame between anchors becomes an anchor itself. In seven of eight degraded clips no frame
had less than 0.9; in one whose codec lets the face jump by two pixels, 0.59; a picture of something else has 0.3 to 0.45."""


class ClrNetworks(nn.Module):
    """The networks of the restorer; `embedded` and `of_runs` give them in evaluation mode, without gradients for their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.codebook, self.condition = Encoder(), Decoder(), Codebook(), Encoder()
        self.irn, self.denoiser, self.mask, self.recognizer = IdentityRecovery(), Denoiser(), LatentMask(), Recognizer()
        self.student: Denoiser | None = None  # of one evaluation; there where it was distilled
        self.start: StartLevel | None = None  # there where it was trained
        self.reference: ReferenceFusion | None = None  # there where it was trained
        self.closeup: CloseUp | None = None  # there where it was trained
        self.shares: Shares | None = None  # there where it was trained

    def _take(self, found: Set[str]) -> None:
        """Make those of the optional networks that are there, for their weights."""
        for name, make in _OPTIONAL.items():  # in this order, whatever is there: each draws random numbers
            if name in found:
                setattr(self, name, make())

    @classmethod
    def of_runs(cls, folder: str | Path) -> ClrNetworks:
        """The averaged networks of training runs: `folder/<run>/checkpoint.pt`; what was not trained yet keeps its start."""
        networks = cls()
        networks._take({name for name in OPTIONAL if (Path(folder) / name / "checkpoint.pt").exists()})
        read: dict[Path, dict[str, Tensor]] = {}
        for run, inside, name in RUNS:
            path = Path(folder) / run / "checkpoint.pt"
            if path.exists():
                averaged = read[path] = read.get(path) or read_checkpoint(path, mmap=True)["ema"]
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
        networks._take(OPTIONAL - absent)
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
    "start": ("start",),
    "reference": ("reference",),
    "closeup": ("closeup",),
    "shares": ("shares",),
}
"""Embedded file -> the networks in it; a network's entries carry its name as prefix."""
_OPTIONAL: Mapping[str, Callable[[], nn.Module]] = {
    "student": Denoiser,
    "start": StartLevel,
    "reference": ReferenceFusion,
    "closeup": CloseUp,
    "shares": Shares,
}
OPTIONAL = set(_OPTIONAL)
"""Files that need not be there, each of one network and one run of its name."""
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
    ("start", "start", "start"),
    ("reference", "reference", "reference"),
    ("closeup", "closeup", "closeup"),
    ("shares", "shares", "shares"),
)
"""Training run, the module's name in its checkpoint, and here."""


def _check(*settings: tuple[str, object, bool, str]) -> None:
    """Refuse the first setting that is not what it must be: its name, what it is, whether that is right, and what would be."""
    for name, value, right, wanted in settings:
        if not right:
            raise ValueError(f"{name} {value!r}: expected {wanted}")


class ClrRestorer:
    """The part behind `restore.use: clr`.

    Args:
        steps: evaluations of the denoiser per face; 1 uses the student where there is one, which needs no guidance.
        fidelity: 0 favours perceptual quality, 1 what the input shows.
        seed: of every noise field.
        device: torch's name.
        size: side of the crops, px, 64 to 1024 and divisible by 8.
        solver: `ddim` or `dpm++`.
        start: noise share in [0, 1] at which diffusion starts; None: by `fidelity`, and what diffusion changes counts by how
            degraded the crop is: a nearly clean one has nothing to gain from it. `auto`: predicted for every face (along a track,
            for every span) from how wrong `z_R` seems to be; a face that needs none is not diffused at all.
        guidance: strength of identity guidance (`strengths`); None: by `fidelity`, where more of a person is known than the crop
            shows, and none for the student. 0 turns it off.
        quantise: snap the refined latent to the codebook before decoding, as the paper does; off by default, because a hard
            assignment flips between the frames of a video.
        anchors: every how many frames of a track one is denoised in full; 1 restores every frame for itself.
        passes: 2 for the second pass; what it took back is each face's hallucination map (`invented`).
        precision: `float32`, or `bfloat16` or `float16` for what autocast computes in it.
        refine: of the frames between two anchors, every so many-th is denoised again (one step) after it was carried; 0: none.
        unweave: take the faint pattern of the networks' grid out of what is restored (`videoclr.weave`); None: out of crops that
            the frame shows enlarged, as far as they are, out of all that are sharpened, and out of the detail of close-ups.
        sharpen: add so many times what a blur of about 1 px takes from what is restored (an unsharp mask), in [0, 2]. What the
            recovery lacks most are the finest frequencies: it is trained to be right on average.
        closeups: give faces that are larger in the frame than their crops the detail that they have there (`enlarge`).
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
        start: float | Literal["auto"] | None = None,
        guidance: float | None = None,
        quantise: bool = False,
        anchors: int = 1,
        passes: int = 1,
        refine: int = 0,
        precision: str = "float32",
        unweave: bool | None = None,
        sharpen: float = 0.0,
        closeups: bool = True,
        networks: ClrNetworks | None = None,
    ) -> None:
        whole = {"steps": steps, "size": size, "anchors": anchors, "passes": passes, "refine": refine}
        for name, value in whole.items():
            if not isinstance(value, Integral):
                raise ValueError(f"{name} {value!r}: expected a whole number")
        begins = start == "auto" or (not isinstance(start, str) and 0 <= (start or 0) <= 1)
        _check(
            ("start", start, begins, "0 to 1, or auto"),
            ("solver", solver, solver in SOLVERS, "one of " + ", ".join(SOLVERS)),
            ("guidance", guidance, 0 <= (guidance or 0) < math.inf, "0 or more"),
            ("steps", steps, steps >= 1, "1 or more"),
            ("fidelity", fidelity, 0 <= fidelity <= 1, "0 to 1"),
            ("size", size, size % 8 == 0 and 64 <= size <= 1024, "64 to 1024 by eights"),
            ("anchors", anchors, anchors >= 1, "1 or more"),
            ("refine", refine, refine >= 0, "0 or more"),
            ("passes", passes, passes in (1, 2), "1 or 2"),
            ("sharpen", sharpen, 0 <= sharpen <= _SHARPEST, f"0 to {_SHARPEST:g}"),
            ("precision", precision, precision in _PRECISIONS, "one of " + ", ".join(_PRECISIONS)),
        )
        if networks is not None and not isinstance(networks, ClrNetworks):
            raise ValueError(f"networks {networks!r}: ClrNetworks are expected, which no settings hold")
        self.precision, self.unweave, self.sharpen = precision, unweave, sharpen
        self.anchors, self.refine, self.reach = anchors, refine, _SEEN + _SETTLED
        self.steps, self.fidelity, self.seed = steps, fidelity, seed
        self.device, self.size, self.solver = torch.device(device), size, solver
        # The dial, [ours]: with the weights that ship, a lower start, less fusion and more guidance are each nearer to the input.
        self.start = start if isinstance(start, int | float) else 0.15 - 0.14 * fidelity
        self.adaptive, self.predicted = start is None, start == "auto"
        self.quantise, self.passes = quantise, passes
        self.fusion = 1 - 0.9 * fidelity
        self.guidance, self.asked = (0.05 + 0.11 * fidelity if guidance is None else guidance), guidance is not None
        self.networks = (networks or ClrNetworks.embedded()).to(self.device)
        self.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a tenth faster on a CPU
        if self.predicted and self.networks.start is None:
            raise WeightsError(
                "start", "start: auto needs these weights, and they are not here; train_denoiser.py start makes them"
            )
        self.larger = 2 * size if closeups and self.networks.closeup is not None else None
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
            crops: any frames, any tracks; the identity of `R(y)` is aimed at, and `identity` where it is known and the crop is bad:
                in earnest, if it is of photographs.
            memory: track -> what this part remembers of it: the index of its first frame, which names its noise.

        Returns:
            `(N, 3, S, S)` float32 RGB in [-1, 1], on the CPU.
        """
        lit, first = usual(torch.stack([crop.image for crop in crops])), [_remembered(crop, memory)["first"] for crop in crops]
        others = [(c.photograph, c.earlier) for c in crops]
        y = calm(lit.images)
        restored, maps = self._refine(y.to(self.device), [c.identity for c in crops], _sure(crops), first, others)
        _remember(crops, memory, maps=maps)
        return lit.returned(self.weighed(self.finished(restored, y, _scales(crops)), y))

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
            seen = span.seen.float().cpu()
            restored = self.weighed(self.finished(span.restored(), seen, _scales(crops)), seen)
        entry["past"], entry["full"] = span.past(), {crop.frame.index for crop in span.anchors(crops)}
        _remember(crops, memory, maps=span.maps, seen=span.lit.returned(seen))
        return span.lit.returned(restored)

    def enlarge(self, crops: Tensor, restored: Tensor) -> Tensor:
        """Close-ups with their detail; see the protocol in the stage `enlarge`.

        Their noise in every pixel is calmed before, as for the other networks: this one learned from what a codec had smoothed, and
        keeps it as detail. With the first weights, of 4 held-out faces of 512 px with noise of 10 and 25 / 255 an error of 7.4 and
        11.8 / 255 was left, more than without this network (6.6 and 8.7); now 6.1 and 7.9. Its weave is taken out of every face:
        of 20 faces, at 1/4 and 1/2 cycle per pixel, 3.3 and 2.4 times the surroundings to 2.2 and 1.2 (`mild`; SqD 0.6166 and
        0.6168). Of a good crop less of it is shown, and more of the frame's own detail.

        Args:
            crops: `(N, 3, 2 S, 2 S)` float32 RGB in [-1, 1]: what the frame shows.
            restored: `(N, 3, S, S)`.

        Returns:
            `(N, 3, 2 S, 2 S)` float32 RGB in [-1, 1], on the CPU.
        """
        assert self.networks.closeup is not None
        lit, half = usual(crops), F.avg_pool2d(crops.cpu(), 2)
        grown = enlarged(restored.cpu(), crops.shape[-2:])
        near = lit.beside(grown.clamp(-1, 1))
        with torch.inference_mode(), self._autocast():
            detailed = self.networks.closeup(calm(lit.images).to(self.device), near.to(self.device)).float().cpu()
        if self.unweave is not False:
            detailed = unwoven(detailed.clamp(-1, 1), near)
        kept = lit.beside(crops.cpu() + grown - enlarged(half, crops.shape[-2:]))
        sizes = in_contrasts(half, restored.cpu(), amid)
        return lit.returned(needed(detailed.clone(), kept, sizes))  # a clone lives on outside

    def full(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> list[bool]:
        """Which of a span's crops were denoised in full; see the protocol in the stage `restore`."""
        return [crop.frame.index in memory[crop.face.track]["full"] for crop in crops]

    def invented(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> list[Tensor | None]:
        """The hallucination maps of crops that were restored last; see the protocol in the stage `restore`."""
        return [memory[crop.face.track]["maps"].get(crop.frame.index) for crop in crops]

    def seen(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> list[Tensor | None]:
        """What crops show that were restored last, told by their neighbours; see the protocol in the stage `restore`."""
        return [memory[crop.face.track]["seen"].get(crop.frame.index) for crop in crops]

    def restore_stills(self, y: Tensor, known: Sequence[Tensor | None] = (), photographs: Sequence[Tensor | None] = ()) -> Tensor:
        """Restore pictures that belong to no track: `(N, 3, S, S)` in [-1, 1] -> the same.

        Args:
            y: the pictures.
            known: `(D,)` identity for each of them, or None where nothing but the picture tells it; none at all: for no picture.
            photographs: `(3, S, S)` aligned, of the same person, in the same way.
        """
        nothing = [None] * len(y)
        others = [(photograph, None) for photograph in photographs or nothing]
        sure = [one is not None for one in known or nothing]
        lit = usual(y)
        seen = calm(lit.images)
        restored, _ = self._refine(seen.to(self.device), known or nothing, sure, [0] * len(y), others)
        return lit.returned(self.weighed(self.finished(restored, seen, [1.0] * len(y)), seen))

    def _refine(
        self,
        y: Tensor,
        identities: Sequence[Tensor | None],
        sure: Sequence[bool],
        first: Sequence[int],
        others: Sequence[tuple[Tensor | None, Tensor | None]],
    ) -> tuple[Tensor, Tensor | None]:
        net = self.networks
        # Not inference_mode, and not inside the caller's either: guidance needs tensors that autograd may look at.
        with torch.inference_mode(False), torch.no_grad(), self._autocast():
            y = y.clone()
            seen = net.irn.seen(y)
            alone = net.irn.decoded(y, seen).float().clamp(-1, 1)
            degraded, sizes = degradation(y, alone), changed(y, alone).flatten().tolist()
            shown = self.shown(others, sizes, contrast(alone))
            beside = [_reference(None, one, size) for one, size in zip(shown, sizes, strict=True)]
            recovered = self.beside(y, seen, alone, beside)
            z_r, features = net.encoder(recovered).float(), net.condition.features(y)
            z_y = net.condition.latent(features).float()
            strengths = self.strengths(identities, sure, degraded)
            aim = (self.identities(identities, recovered, degraded), strengths) if strengths.any() else None
            noise = torch.stack([field(self.seed, (f,), tuple(z_r.shape[1:])) for f in first]).to(z_r)
            starts = self.starts(z_y, z_r)
            z = self.diffused(z_r, starts, noise, z_y, z_r, aim)
            z = z_r + self.share(y, alone) * (z - z_r)
            maps = None
            if self.passes == 2:
                maps = self.doubted(y, self.decoded(z, features, self.texture(degraded), recovered, z_r))
                z = self.mended(z, maps, starts, noise, z_y, z_r)
            return self.decoded(z, features, self.texture(degraded), recovered, z_r), maps

    def shown(
        self, others: Sequence[tuple[Tensor | None, Tensor | None]], sizes: Sequence[float], contrasts: Sequence[float]
    ) -> list[_View | None]:
        """What shows somebody elsewhere, for each of some crops that lack something; None for the others.

        Args:
            others: a photograph and the best view of earlier tracks, of each.
            sizes: how much of them the recovery changed.
            contrasts: of what it recovered (`contrast`).
        """
        known: dict[int, _View] = {}

        def view(photograph: Tensor | None, earlier: Tensor | None, contrast: float) -> _View | None:
            if earlier is not None and id(earlier) not in known:
                y = calm(usual(earlier[None]).images).to(self.device)
                recovered = self.networks.irn(y).float().clamp(-1, 1)
                known[id(earlier)] = _View(to_array(recovered[0]), float(changed(y, recovered)))
            found = None if earlier is None else known[id(earlier)]
            if photograph is not None and (found is None or found.changed > _PHOTOGRAPH * contrast):
                return _View(to_array(usual(photograph[None]).images[0]), _PHOTOGRAPH * contrast)
            return found

        least = _WORSE[0] * _LEAST if self.networks.reference is not None else float("inf")
        crops = zip(others, sizes, contrasts, strict=True)
        return [view(*one, contrast) if size > least else None for one, size, contrast in crops]

    def beside(
        self,
        y: Tensor,
        seen: Sequence[Tensor],
        recovered: Tensor,
        references: Sequence[tuple[Values, float] | None],
        batch: int = 0,
    ) -> Tensor:
        """Recover once more, beside a reference.

        Args:
            y, seen, recovered: `(N, 3, S, S)` crops, what the IRN saw in them, and `R(y)`.
            references: for each of them `(S, S, 3)` of the same face, and how far it is to be used, in (0, 1]; or None.
            batch: crops per call; 0: all.

        Returns:
            `(N, 3, S, S)`: `R(y)` where there is no reference.
        """
        fusion, rows = self.networks.reference, [row for row, one in enumerate(references) if one is not None]
        if fusion is None or not rows:
            return recovered
        irn, out, given = self.networks.irn, recovered.clone(), [one for one in references if one is not None]
        pairs = [(to_array(recovered[row]), view) for row, (view, _) in zip(rows, given, strict=True)]
        laid = at_once(lambda pair: laid_over(*pair), pairs, cv2.getNumThreads())
        views = torch.from_numpy(np.stack(laid)).permute(0, 3, 1, 2).contiguous().to(y)
        shares = y.new_tensor([share for _, share in given])
        for part in grouped(range(len(rows)), batch or len(rows)):
            still_wanted()
            join, these = fusion.beside(irn.seen(views[part]), shares[part]), [rows[one] for one in part]
            out[these] = irn.decoded(y[these], [level[these] for level in seen], join).float().clamp(-1, 1)
        return out

    def starts(self, z_y: Tensor, z_r: Tensor) -> list[float]:
        """Noise share at which diffusion starts, for each face; 0: not at all."""
        if not self.predicted or self.networks.start is None:
            return [self.start] * len(z_r)
        low, high = _WRONG
        share = self.start * ((self.networks.start(z_y, z_r) - low) / (high - low)).clamp(0, _HIGHEST)
        return [_RUNG * round(value / _RUNG) for value in share.nan_to_num(0.0).tolist()]

    def diffused(
        self,
        z: Tensor,
        starts: Sequence[float],
        noise: Tensor,
        z_y: Tensor,
        z_r: Tensor,
        aim: tuple[Tensor, Tensor] | None = None,
        steps: int = 0,
    ) -> Tensor:
        """`z` noised to each one's start and denoised in `steps` (0: as many as are set), guided where there is an `aim`."""
        out = z.clone()
        for start in sorted(set(starts) - {0.0}):
            rows, level = [row for row, one in enumerate(starts) if one == start], level_of_noise(start)
            z_t = add_noise(z[rows], noise[rows], float(signal_levels()[level]))
            theirs = None if aim is None else (aim[0][rows], aim[1][rows])
            denoiser = self.denoiser(z_y[rows], z_r[rows], theirs, start)
            out[rows] = sample(denoiser, z_t, level, steps or self.steps, self.solver)
        return out

    def doubted(self, y: Tensor, restored: Tensor) -> Tensor:
        """`(N, 1, S, S)` in [0, 1] on the CPU: where `restored`, blurred like `y`, is something else."""
        planes = [[appearance.grey(to_array(one.float().cpu())) for one in pair] for pair in zip(restored, y, strict=True)]
        return torch.from_numpy(np.stack([invented(result, luma, *_INVENTED)[None] for result, luma in planes]))

    def mended(self, z: Tensor, maps: Tensor, starts: Sequence[float], noise: Tensor, z_y: Tensor, z_r: Tensor) -> Tensor:
        """The second pass: doubted places go back to `z_R`, what lies around grows together with them, the rest stays.

        On crops of 12 held-out people, denoising the rest of the face once more cost 0.1 to 0.2 dB and 0.01 of IDS.
        """
        doubt = F.interpolate(maps.to(z), z.shape[-2:], mode="area")
        around = F.avg_pool2d(F.max_pool2d(doubt, 9, 1, 4), 5, 1, 2, count_include_pad=False)
        back = z_r + (1 - doubt) * (z - z_r)
        again = self.diffused(back, [_AGAIN * one for one in starts], noise, z_y, z_r, steps=1)
        return back + around * (1 - doubt) * (again - back)

    def decoded(self, z: Tensor, features: Tensor, texture: Tensor, recovered: Tensor, z_r: Tensor) -> Tensor:
        """`(N, 3, S, S)` in [-1, 1] on the CPU: what decoding `z` shows beyond decoding `z_R`, added to `R(y)`.

        The autoencoder's own loss is so in neither: of 36 faces it had cost 0.3 dB and a third of the sharpness.

        Args:
            z: refined latents.
            features: of `E_l`, to be fused.
            texture: strength of the fusion.
            recovered, z_r: `R(y)` and its latent.
        """
        still_wanted()
        decoder, snapped = self.networks.decoder, self.networks.codebook if self.quantise else lambda z: (z,)
        added = decoder(snapped(z)[0], features, texture).float() - decoder(snapped(z_r)[0]).float()
        restored: Tensor = (recovered + added).clamp(-1, 1).cpu()
        return restored

    def texture(self, degraded: Tensor) -> Tensor:
        """Strength of the fusion for crops of a `degradation`: where much had to change, texture would be invented."""
        return self.fusion * (1 - _UNSEEN * degraded)

    def finished(self, restored: Tensor, shown: Tensor, scales: Sequence[float]) -> Tensor:
        """`restored` without the networks' weave and sharpened, as far as that is wanted.

        Args:
            restored, shown: `(N, 3, S, S)` in [-1, 1] on the CPU, and what it was made of.
            scales: crop px per frame px, of each.
        """
        plain = self._unwoven(restored, shown, scales)
        if self.sharpen == 0:
            return plain
        # Of a face that the frame shows smaller than its crop, what is finer than a pixel of the frame would not be seen.
        least = self.size / _FINE
        pictures = [to_array(one) for one in plain]
        soft = [cv2.GaussianBlur(one, (0, 0), max(least, scale)) for one, scale in zip(pictures, scales, strict=True)]
        sharp = [one + np.float32(self.sharpen) * (one - blurred) for one, blurred in zip(pictures, soft, strict=True)]
        return torch.from_numpy(np.stack(sharp)).permute(0, 3, 1, 2).contiguous().clamp(-1, 1)

    def weighed(self, restored: Tensor, came: Tensor) -> Tensor:
        """`restored` with what is kept of what `came` (`Shares`); both `(N, 3, S, S)` in [-1, 1] on the CPU."""
        if self.networks.shares is None:
            return restored
        shown = []
        with torch.inference_mode(), self._autocast():
            for one, crop in zip(restored.to(self.device), came.to(self.device), strict=True):
                still_wanted()
                shown.append(self.networks.shares(crop[None], one[None]))
        return torch.cat(shown).clamp(-1, 1).cpu().clone()  # a clone lives on outside

    def _unwoven(self, restored: Tensor, shown: Tensor, scales: Sequence[float]) -> Tensor:
        if self.unweave is None and self.sharpen == 0:
            shares = [seen_enlarged(scale) for scale in scales]
        else:
            shares = [float(self.unweave is not False)] * len(scales)
        rows = [row for row, share in enumerate(shares) if share > 0]
        if not rows:
            return restored
        out, own = restored.clone(), restored[rows]
        plain = unwoven(own.to(self.device), shown[rows].to(self.device)).cpu()
        out[rows] += own.new_tensor([shares[row] for row in rows]).view(-1, 1, 1, 1) * (plain - own)
        return out

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=_PRECISIONS[self.precision], enabled=self.precision != "float32")

    def share(self, y: Tensor, recovered: Tensor) -> Tensor:
        """How much of what diffusion adds to `z_R` is taken, by what the IRN had to change: `(N, 1, 1, 1)` in [0, 1]."""
        if not self.adaptive:
            return y.new_ones(len(y), 1, 1, 1)
        return degradation(y, recovered)

    def recover(self, y: Tensor) -> Tensor:
        """The IRN alone: `(N, 3, S, S)` in [-1, 1] -> the same."""
        lit = usual(y)
        with torch.inference_mode(), self._autocast():
            recovered: Tensor = self.networks.irn(calm(lit.images).to(self.device)).clamp(-1, 1).float().cpu()
        return lit.returned(recovered)

    def identities(self, identities: Sequence[Tensor | None], recovered: Tensor, degraded: Tensor) -> Tensor:
        """`(N, D)` unit vectors to aim at: of the `recovered` faces, drawn towards known ones the more, the worse the crop is.

        A known identity is of other pictures: it knows what a bad crop has lost, and less than a good crop shows.
        """
        own = self.networks.recognizer.embed(recovered)
        known = torch.stack([own[i] if e is None else F.normalize(e.to(own).clone(), dim=0) for i, e in enumerate(identities)])
        return F.normalize(own + _KNOWN * _lost(degraded).flatten(1) * known, dim=1)

    def strengths(self, identities: Sequence[Tensor | None], sure: Sequence[bool], degraded: Tensor) -> Tensor:
        """`(N, 1, 1, 1)` strengths of guidance; a sure identity says what a bad crop has lost, and is aimed at in earnest.

        Unless a strength was asked for, it rests where the aim would be what `R(y)` shows already: on 144 held-out faces such
        guidance changed no figure (IDS 0.8671 with it and 0.8672 without, `heavy` 0.4963 both), and took its time.
        """
        lost = _lost(degraded)
        earnest = torch.tensor(list(sure), device="cpu").to(degraded).view(-1, 1, 1, 1)
        strengths = self.guidance * (1 + (_SURE - 1) * lost * earnest)
        if self.asked:
            return strengths
        known = torch.tensor([one is not None for one in identities], device="cpu").to(degraded).view(-1, 1, 1, 1)
        return strengths * known * (lost > 0)

    def denoiser(self, z_y: Tensor, z_r: Tensor, aim: tuple[Tensor, Tensor] | None, start: float) -> Denoise:
        """The denoiser of these crops as a callable, on a way that begins at `start`; guided where there is an `aim`.

        The aim is `identities` and `strengths`.
        """
        net = self.networks
        denoiser = net.denoiser if self.student is None else self.student

        def plain(z_t: Tensor, alpha: Tensor) -> Tensor:
            clean: Tensor = denoiser(z_t, alpha, z_y, z_r).float()
            return clean

        if self.guidance == 0 or aim is None:
            return plain
        target, strength = aim[0].clone(), aim[1]

        def distance(z: Tensor) -> Tensor:
            cosine: Tensor = (net.recognizer.embed(net.decoder(z)) * target).sum(1)
            return 1 - cosine

        # It rests under 0.4 of the noise that the way began with, wherever that was: what follows cleans up what it moved. Of the
        # default three steps the last one lies just above that, so more steps are needed for anything to follow.
        return guided(plain, distance, net.mask(z_y), strength, last=0.4 * start)


def changed(y: Tensor, recovered: Tensor) -> Tensor:
    """How much the IRN had to change: `(N, 1, 1, 1)`, on the scale of [-1, 1]."""
    return rms(recovered - y)


def needed(detailed: Tensor, kept: Tensor, sizes: Sequence[float]) -> Tensor:
    """`detailed` as far as there was anything to mend, with the rest of what is `kept`; both `(N, 3, L, L)` on the CPU.

    Args:
        detailed, kept: close-ups with the detail that was made, and with the frame's own.
        sizes: how much of each the restoration changed, in contrasts. Noise in every pixel is a reason to show all of it, too.
    """
    shares = []
    for image, size in zip(kept, sizes, strict=True):
        share = _LEAST_DRAWN + (1 - _LEAST_DRAWN) * _between(size, *_GOOD)
        shares.append(share if share == 1 else max(share, noisiness(fine_noise(to_array(image)))))
    if min(shares) == 1:
        return detailed
    return kept + detailed.new_tensor(shares).view(-1, 1, 1, 1) * (detailed - kept)


def contrast(recovered: Tensor) -> list[float]:
    """How much light and shade recovered faces have: the standard deviation of their grey values, where a crop shows the face."""
    return amid(recovered).mean(1).flatten(1).std(1).tolist()


def amid(crops: Tensor) -> Tensor:
    """`(N, C, h, w)` of `(N, C, S, S)` aligned crops: where every one shows the face."""
    side = crops.shape[-1]
    return crops[..., side // 4 : side * 13 // 16, side // 4 : side * 3 // 4]


def in_contrasts(y: Tensor, recovered: Tensor, where: Callable[[Tensor], Tensor] = lambda crops: crops) -> list[float]:
    """How much the recovery changed, by the contrast of each face; `where` picks the part of the crops in which that is asked."""
    sizes = changed(where(y), where(recovered)).flatten().tolist()
    return [size / max(one, 1e-3) for size, one in zip(sizes, contrast(recovered), strict=True)]


def degradation(y: Tensor, recovered: Tensor) -> Tensor:
    """How degraded crops are, by what the IRN had to change: `(N, 1, 1, 1)`, 0 for nearly clean ones, 1 for bad ones."""
    low, high = _DEGRADED
    return ((changed(y, recovered) - low) / (high - low)).clamp(0, 1)


def _between(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _reference(best: _View | None, elsewhere: _View | None, size: float) -> tuple[Values, float] | None:
    """The better of the two for a crop of which `size` was changed, and how far it is to be used; None: not at all.

    Args:
        best: of the track.
        elsewhere: of another shot, or a photograph.
        size: how much the recovery changed of the crop.
    """
    if elsewhere is not None and (best is None or best.changed > _ELSEWHERE * elsewhere.changed):
        best = elsewhere
    if best is None:
        return None
    share = _between(size / max(best.changed, _LEAST), *_WORSE)
    return (best.picture, share) if share > 0 else None


def _lost(degraded: Tensor) -> Tensor:
    """How much of an identity a crop of that `degradation` has lost, in [0, 1]."""
    return ((degraded - _LOST) / (1 - _LOST)).clamp(0, 1)


def _scales(crops: Sequence[FaceCrop]) -> list[float]:
    """Crop px per frame px, of each."""
    return [geometry.scale_of(crop.matrix) for crop in crops]


def _sure(crops: Sequence[FaceCrop]) -> list[bool]:
    """Of each crop, whether its identity is of photographs; else degraded views told it, and it errs with them."""
    return [crop.identity is not None and crop.photograph is not None for crop in crops]


def _remembered(crop: FaceCrop, memory: dict[int, Any]) -> dict[str, Any]:
    """The entry of a crop's track: it holds the name of the track's noise, its first frame counted from that of the shot, so
    that a shot restored alone looks as it does in its film."""
    entry: dict[str, Any] = memory.setdefault(crop.face.track, {"first": crop.frame.index - crop.frame.shot_start})
    return entry


def _remember(crops: Sequence[FaceCrop], memory: dict[int, Any], **told: Tensor | None) -> None:
    """Of every track only what was restored last: a map belongs to its frame."""
    for track in {crop.face.track for crop in crops}:
        memory[track].update(maps={}, seen={})
    for name, values in told.items():
        for crop, one in zip(crops, () if values is None else values, strict=values is not None):
            memory[crop.face.track][name][crop.frame.index] = one


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """Of a person, to be a reference."""

    picture: Values
    """`(S, S, 3)`, recovered where it was degraded."""
    changed: float
    """How much of it the recovery changed."""


@keepable
@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """What a span leaves for the next one of its track."""

    end: int
    """Place of its last frame, an anchor; places count the frames since the track came."""
    correction: Values
    """`(h, h, C)` what diffusion added to that frame."""
    inputs: dict[int, Values]
    """Place -> `(S, S, 3)` crops of the input, the anchor and those after it that were seen."""
    lights: dict[int, Light]
    """Place -> in which each of them is seen."""
    matrices: dict[int, geometry.Matrix]
    """Place -> `(2, 3)` of the crops."""
    pairs: dict[Pair, Values]
    """What was compared; from as far back as the motion of later ones depends on it."""
    views: dict[int, Values]
    """Place -> `(S, S, 6)` of the anchor and what was recovered after it: the recovered picture, and the mean of the input that it
    was recovered from."""
    changed: dict[int, float]
    """Place -> how much the recovery changed, of the views."""
    best: _View | None
    """The best view of the track, up to the last of the views."""
    seen: Gathered
    """Of the input, at the last of the views."""
    settled: Gathered
    """Of the views, at the anchor."""


class _Span:
    """One call of `ClrRestorer.restore_span`, all of it in usual light."""

    def __init__(
        self, part: ClrRestorer, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], past: _Past | None, batch: int, first: int
    ) -> None:
        self.part, self.net, self.batch = part, part.networks, batch
        start = 0 if past is None else past.end + 1
        self.places = range(start, start + len(crops))
        self.identities = {place: crop.identity for place, crop in zip(self.places, crops, strict=True)}
        self.sure = dict(zip(self.places, _sure(crops), strict=True))
        self.others = {place: (crop.photograph, crop.earlier) for place, crop in enumerate([*crops, *after], start)}
        self.inputs: dict[int, Values] = dict(past.inputs) if past else {}
        self.views: dict[int, Values] = dict(past.views) if past else {}
        self.lights: dict[int, Light] = dict(past.lights) if past else {}
        for place, crop in enumerate([*crops, *after], start):
            if place not in self.lights:
                self.lights[place] = followed(self.lights.get(place - 1), light_of(crop.image))
        self.lit = usual(torch.stack([crop.image for crop in crops]), [self.lights[place] for place in self.places])
        ahead = [usual(crop.image[None], [self.lights[p]]).images[0] for p, crop in enumerate(after, start + len(crops))]
        self.inputs.update({p: to_array(image) for p, image in enumerate([*self.lit.images, *ahead], start)})
        self.matrices: dict[int, geometry.Matrix] = dict(past.matrices) if past else {}
        self.matrices |= {p: crop.matrix for p, crop in enumerate([*crops, *after], start)}
        self.pairs: dict[Pair, Values] = dict(past.pairs) if past else {}
        self.pairs |= compared({p: quantized(crop, np.uint8) for p, crop in self.inputs.items()}, self.pairs)
        self.motions = Motions(self.pairs, self.matrices, part.size)
        self.gathered = past.seen if past else None
        self.settled = past.settled if past else None
        self.changed: dict[int, float] = dict(past.changed) if past else {}
        self.best = past.best if past else None
        self._look()
        self.corrections: dict[int, Values] = {past.end: past.correction} if past else {}
        self.full: list[int] = []
        self._condition()
        self.noise = field(part.seed, (first,), tuple(self.z_r.shape[1:]))
        self.maps: Tensor | None = None
        # One level for all of them: a start that moves from frame to frame would be seen as flicker.
        self.start = float(np.mean([one for rows in self._rows() for one in part.starts(self.z_y[rows], self.z_r[rows])]))

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
        texture = _STEADY * part.texture(degradation(self._stacked([self.inputs[p] for p in places]), self.recovered))
        restored = self._in_batches(part.decoded, z, self.features, texture, self.recovered, self.z_r)
        return restored if part.passes == 1 else self._again(z, restored, texture)

    def _again(self, z: Tensor, restored: Tensor, texture: Tensor) -> Tensor:
        """The second pass over all frames, against the means of the input: noise of one frame is no disagreement."""
        part = self.part
        self.maps = part.doubted(self.seen, restored)
        mend = lambda z, maps, z_y, z_r: part.mended(  # noqa: E731
            z, maps, [self.start] * len(z), self.noise.expand(len(z), -1, -1, -1).to(z), z_y, z_r
        )
        mended = self._in_batches(mend, z, self.maps, self.z_y, self.z_r)
        return self._in_batches(part.decoded, mended, self.features, texture, self.recovered, self.z_r)

    def anchors(self, crops: Sequence[FaceCrop]) -> list[FaceCrop]:
        """Those of the span's crops that were denoised in full."""
        return [crop for place, crop in zip(self.places, crops, strict=True) if place in self.full]

    def past(self) -> _Past:
        """What the next span needs."""
        end = self.places[-1]
        inputs, views = ({p: one for p, one in known.items() if p >= end} for known in (self.inputs, self.views))
        lights = {p: one for p, one in self.lights.items() if p >= end}
        pairs = {pair: one for pair, one in self.pairs.items() if min(pair) >= end - BEHIND}
        matrices = {p: one for p, one in self.matrices.items() if p >= end - BEHIND}
        assert self.gathered is not None and self.settled is not None  # `_look` and `_condition` saw to it
        sizes = {p: self.changed[p] for p in views}
        correction, best = self.corrections[end], self.best
        return _Past(end, correction, inputs, lights, matrices, pairs, views, sizes, best, self.gathered, self.settled)

    def _worth(self) -> dict[int, float]:
        """How much each recovered picture counts: what the input hardly shows is better told by frames that show it."""
        return {p: (_ENOUGH / max(size, _ENOUGH)) ** _FADES for p, size in self.changed.items()}

    def _tolerances(self) -> dict[int, float]:
        """How much each recovered picture may differ from its neighbours and be averaged with them; more than 0, which divides."""
        return {p: ALIKE * min(max(size / _FLAWED, 0.01), 1.0) for p, size in self.changed.items()}

    def _open(self) -> list[int]:
        return [place for place in self.places if place not in self.corrections]

    def _look(self) -> None:
        """Recover what no span has recovered yet, up to `_SETTLED` frames after the anchor."""
        ahead = min(self.places[-1] + _SETTLED, max(self.inputs))
        new = [place for place in range(self.places.start, ahead + 1) if place not in self.views]
        if not new:
            return
        # How wrong frames are shows when they are recovered; until then the last that was tells it, or the first one by itself.
        error = self.changed[max(self.changed)] if self.changed else self._alone(new[0])
        errors = dict.fromkeys(self.inputs, error)
        found, self.gathered = means_along(self.inputs, new, self.gathered, self.motions, errors=errors)
        means = [calmed(mean.clip(-1, 1)) for mean in found]
        y = self._stacked(means)
        seen = [self.net.irn.seen(y[rows]) for rows in self._rows(len(y))]
        maps = [torch.cat(level) for level in zip(*seen, strict=True)]
        recovered = self._in_batches(lambda y, *maps: self.net.irn.decoded(y, maps).float().clamp(-1, 1), y, *maps)
        self.changed.update(zip(new, changed(y, recovered).flatten().tolist(), strict=True))
        if self.net.reference is not None:
            recovered = self.part.beside(y, maps, recovered, self._references(new, recovered), self.batch)
        self.views.update({p: np.concatenate([to_array(r), y], axis=2) for p, r, y in zip(new, recovered, means, strict=True)})

    def _alone(self, place: int) -> float:
        """How much the recovery changes a frame by itself."""
        y = self._stacked([calmed(self.inputs[place].clip(-1, 1))])
        return float(changed(y, self.net.irn(y).float().clamp(-1, 1)))

    def _references(self, places: Sequence[int], recovered: Tensor) -> list[tuple[Values, float] | None]:
        """What stands beside each of the `places`: the best view before it, or a better one from elsewhere, or nothing."""
        found = []
        sizes = [self.changed[place] for place in places]
        shown = self.part.shown([self.others[place] for place in places], sizes, contrast(recovered))
        for one, size, elsewhere in zip(recovered, sizes, shown, strict=True):
            found.append(_reference(self.best, elsewhere, size))
            if self.best is None or size < _BETTER * self.best.changed:
                self.best = _View(to_array(one), size)
        return found

    def _condition(self) -> None:
        """The means along the motion, and what the networks make of them."""
        means, self.settled = means_along(
            self.views, self.places, self.settled, self.motions, self._tolerances(), self._worth(), self.changed
        )
        self.recovered, self.seen = self._stacked(means).clamp(-1, 1).split(3, dim=1)
        self.z_r = self._in_batches(lambda x: self.net.encoder(x).float(), self.recovered)
        self.features = self._in_batches(self.net.condition.features, self.seen)
        self.z_y = self._in_batches(lambda f: self.net.condition.latent(f).float(), self.features)

    def _denoise(self, places: Sequence[int], guide: bool) -> None:
        """Anchors in full from their own `z_R`, guided; others in one step from what is carried to them, at a lower level."""
        part, rows = self.part, [place - self.places.start for place in places]
        if not rows:
            return
        start = self.start if guide else _AGAIN * self.start
        if start < _RUNG and part.predicted:
            self.corrections.update({p: np.zeros_like(to_array(self.z_r[0])) for p in places})
            return
        level = level_of_noise(start)
        z_y, z_r = self.z_y[rows], self.z_r[rows]
        sources = dict(self.corrections)
        if guide:
            noise, z = self.noise.expand(len(rows), -1, -1, -1).to(z_r), z_r
        else:
            z = z_r + self._stacked([carried(sources, p, self.motions)[0] for p in places])
            own = np.ascontiguousarray(self.noise.permute(1, 2, 0).numpy())
            noise = self._stacked([carried_noise(own, p, sources, self.motions) for p in places])
        z_t = add_noise(z, noise, float(signal_levels()[level]))

        def clean(z_t: Tensor, z_y: Tensor, z_r: Tensor, identity: Tensor, strength: Tensor) -> Tensor:
            denoiser = part.denoiser(z_y, z_r, (identity, strength) if aimed else None, start)
            return sample(denoiser, z_t, level, part.steps if guide else 1, part.solver)

        known = [self.identities[p] for p in places]
        degraded = degradation(self._stacked([self.inputs[p] for p in places]), self.recovered[rows])
        strengths = part.strengths(known, [self.sure[p] for p in places], degraded)
        aimed = guide and bool(strengths.any())
        identity = part.identities(known, self.recovered[rows], degraded) if aimed else z_t
        added = self._in_batches(clean, z_t, z_y, z_r, identity, strengths) - z_r
        self.corrections.update({p: to_array(one) for p, one in zip(places, added, strict=True)})

    def _stacked(self, values: Sequence[Values]) -> Tensor:
        """`(H, W, C)` arrays -> `(N, C, H, W)` on the device."""
        return torch.from_numpy(np.stack(values)).permute(0, 3, 1, 2).contiguous().to(self.part.device)

    def _in_batches(self, network: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return torch.cat([network(*(x[rows] for x in inputs)) for rows in self._rows(len(inputs[0]))])

    def _rows(self, count: int = 0) -> Iterator[Sequence[int]]:
        """Rows for one call of a network each; of all places where `count` is 0. They end where nobody wants the result."""
        for rows in grouped(range(count or len(self.places)), self.batch):
            still_wanted()
            yield rows
