"""Train who a face is: the recogniser, the Identity Recovery Network (IRN), and the latent mask.

    python pipelines/train_identity.py recognizer --faces DIR --teacher FILE --out runs/recognizer --minutes 15
    python pipelines/train_identity.py irn --faces DIR --perceptual FILE --recognizer runs/recognizer/checkpoint.pt --out runs/irn
    python pipelines/train_identity.py reference --faces DIR --identities TSV --perceptual FILE --recognizer ... --irn ... \
        --out runs/reference
    python pipelines/train_identity.py mask --faces DIR --perceptual FILE --recognizer ... \
        --irn ... --vqgan ... --denoiser ... --out runs/mask

Every stage goes on from `--out` where a checkpoint is there. Settings: configs/train/identity.yaml.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from videoclr.diffusion.guidance import direction
from videoclr.diffusion.noise import add_noise
from videoclr.diffusion.sampler import level_of_noise, signal_levels
from videoclr.flow import at_once
from videoclr.models.denoiser import Denoiser
from videoclr.models.identity import IdentityRecovery, LatentMask, ReferenceFusion
from videoclr.models.recognizer import Recognizer, face_input
from videoclr.models.vqgan import VQGAN, Encoder
from videoclr.motion import laid_over
from videoclr.pixels import to_array
from videoclr.training.batched import face_batches
from videoclr.training.data import load_faces, read_identities
from videoclr.training.loop import averaged
from videoclr.training.losses import Perceptual, TeacherRecognizer, arcface, fidelity_loss, recovery_loss, unlike
from videoclr.training.program import add_budget, begin, in_one_line, loop_of

HERE = Path(__file__).resolve().parent.parent
log = logging.getLogger("videoclr.training")


def train_recognizer(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Distil from a teacher's embeddings of clean crops, plus ArcFace over the pictures' identities; the input is degraded."""
    names, faces = load_faces(args.faces, settings["size"])
    identities = read_identities(args.identities, names)
    modules = nn.ModuleDict(
        {
            "recognizer": Recognizer(),
            "centres": nn.ParameterDict({"weight": nn.Parameter(0.1 * torch.randn(2 * (int(identities.max()) + 1), 128))}),
        }
    )
    loop = loop_of(args, modules, settings)
    teacher = TeacherRecognizer(args.teacher).to(loop.device) if args.teacher else None
    # Whose a blended face is, a teacher alone can say.
    samples = face_batches(faces, settings if teacher is not None else settings | {"blended": 0.0}, loop.step, loop.device)
    for step in loop.steps():
        batch = next(samples)
        clean, worse = face_input(batch["clean"]), face_input(batch["degraded"])
        own = ~batch["blended"]
        # A mirrored face is another identity to ArcFace and the same problem to the teacher.
        labels = (2 * identities[batch["face"]] + batch["mirrored"].long()).to(loop.device)
        with loop.autocast():
            found = modules["recognizer"](worse)
            if teacher is not None:
                with torch.no_grad():
                    target = teacher(clean)
        if own.any():
            loss = settings["arcface"] * arcface(found[own], modules["centres"]["weight"], labels[own])
        else:
            loss = 0 * found.sum()
        scalars: dict[str, float | Tensor] = {"arcface": loss.detach()}
        if teacher is not None:
            distance = (1 - (found * target).sum(1)).mean()
            relation = (found @ found.T - target @ target.T).pow(2).mean()
            loss = loss + distance + settings["relation"] * relation
            scalars |= {"distance": distance.detach(), "relation": relation.detach()}
        loop.update(loss, scalars)
        if step % 500 == 0:
            loop.picture("degraded | clean", torch.cat([worse[:4], clean[:4]], dim=2))


def train_irn(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """L1, gradients, a light perceptual loss, and identity; nothing adversarial."""
    _, faces = load_faces(args.faces, settings["size"])
    modules = nn.ModuleDict({"irn": IdentityRecovery()})
    loop = loop_of(args, modules, settings)
    perceptual = Perceptual(args.perceptual).to(loop.device) if args.perceptual else None
    identity = identity_of(args).to(loop.device) if args.recognizer or args.teacher else None
    samples = face_batches(faces, settings, loop.step, loop.device)
    for step in loop.steps():
        batch = next(samples)
        clean, worse = batch["clean"], batch["degraded"]
        with loop.autocast():
            shifts = torch.Generator().manual_seed(1_000_003 * settings["seed"] + step)
            restored, loss, terms = recovery_loss(modules["irn"], (clean, worse), settings, (perceptual, identity), shifts)
            scalars: dict[str, float | Tensor] = {**terms, "l1 of the input": (worse - clean).abs().mean()}
        loop.update(loss, scalars)
        if step % 500 == 0:
            loop.picture("degraded | restored | clean", torch.cat([worse[:4], restored[:4], clean[:4]], dim=2))


def train_reference(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """What another view of the same person adds to a recovery that stays as it is: the losses are the recovery's."""
    names, faces = load_faces(args.faces, settings["size"])
    identities = read_identities(args.identities, names)
    modules = nn.ModuleDict({"reference": ReferenceFusion()})
    loop = loop_of(args, modules, settings)
    irn = IdentityRecovery()
    averaged(irn, args.irn, "irn")
    irn.requires_grad_(False).eval().to(loop.device)
    perceptual = Perceptual(args.perceptual).to(loop.device) if args.perceptual else None
    identity = identity_of(args).to(loop.device) if args.recognizer or args.teacher else None
    samples = face_batches(faces, settings, loop.step, loop.device, identities=identities)
    for step in loop.steps():
        batch = next(samples)
        clean, worse = batch["clean"], batch["degraded"]
        with loop.autocast():
            with torch.no_grad():
                known = irn.seen(worse)
                alone, view = (x.float().clamp(-1, 1) for x in (irn.decoded(worse, known), irn(batch["reference"])))
                pictures = [(to_array(a), to_array(b)) for a, b in zip(alone.cpu(), view.cpu(), strict=True)]
                laid = at_once(lambda pair: laid_over(*pair), pictures, cv2.getNumThreads())
                view = torch.from_numpy(np.stack(laid)).permute(0, 3, 1, 2).contiguous().to(worse)
                seen = irn.seen(view)
            restored = irn.decoded(worse, known, modules["reference"].beside(seen))
            loss, terms = fidelity_loss(restored, clean, settings, None, identity)
            if perceptual is not None:
                # The dearest of the losses looks at a piece only.
                side = settings["piece"]
                corners = torch.Generator().manual_seed(1_000_003 * settings["seed"] + step)
                down, right = torch.randint(0, settings["size"] - side + 1, (2,), generator=corners).tolist()
                piece = (..., slice(down, down + side), slice(right, right + side))
                terms["perceptual"] = perceptual(restored[piece], clean[piece]).mean()
                loss = loss + settings["perceptual"] * terms["perceptual"]
        loop.update(loss, {**terms, "l1 of the input": (worse - clean).abs().mean()})
        if step % 500 == 0:
            rows = [one[:4].float() for one in (worse, alone, view, restored, clean)]
            loop.picture("degraded | alone | reference | restored | clean", torch.cat(rows, dim=2))


def train_mask(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Where guidance is to act: the same identity must be gained with less harm and in fewer pixels than without a mask.

    One step of guidance towards the clean face from an unguided latent `z`, along the direction `d` that guidance would take: with
    the mask `z - k s M d`, without it `z - s d`; `k = sum d^2 / sum M d^2` makes the gain of both equal, to first order. The loss
    is `log(harm) + pixels log(moved) - 2 log(gain)`, each as a ratio of the two: harm, a squared distance of features, grows by
    the square of a step and gain does not, so no strength is better than another by itself, and only where and which entries
    count. Of several harms the worst counts most.
    """
    _, faces = load_faces(args.faces, settings["size"])
    modules = nn.ModuleDict({"mask": LatentMask()})
    loop = loop_of(args, modules, settings)
    vqgan, condition, denoiser, irn = VQGAN(), Encoder(), Denoiser(), IdentityRecovery()
    for module, path, name in (
        (vqgan, args.vqgan, "vqgan"),
        (condition, args.denoiser, "encoder"),
        (denoiser, args.denoiser, "denoiser"),
        (irn, args.irn, "irn"),
    ):
        averaged(module, path, name).requires_grad_(False).eval().to(loop.device)
    recognizer = frozen_recognizer(args.recognizer).to(loop.device)
    perceptual = Perceptual(args.perceptual).to(loop.device) if args.perceptual else None
    teacher = TeacherRecognizer(args.teacher).to(loop.device) if args.teacher else None
    samples = face_batches(faces, settings, loop.step, loop.device)
    level = signal_levels()[level_of_noise(settings["share"])].to(loop.device)

    def seen(picture: Tensor) -> dict[str, list[Tensor]]:
        """What may come to harm."""
        maps = {"perceptual": [picture]} if perceptual is None else {"perceptual": perceptual.features(picture)}
        return maps if teacher is None else {**maps, "face": teacher.look(face_input(picture))[1]}

    for step in loop.steps():
        batch = next(samples)
        clean, worse = batch["clean"], batch["degraded"]
        generator = loop.generator(step)
        low, high = settings["strengths"]
        share = torch.rand((len(clean), 1, 1, 1), generator=generator, device=loop.device)
        strength = low * (high / low) ** share
        with loop.autocast():
            with torch.no_grad():
                z_r, z_y = vqgan.encoder(irn(worse).float().clamp(-1, 1)).float(), condition(worse).float()
                alpha = level.expand(len(clean))
                noise = torch.randn(z_r.shape, generator=generator, device=loop.device)
                z = denoiser(add_noise(z_r, noise, alpha), alpha, z_y, z_r).float()
                target, before = recognizer.embed(clean), vqgan.decoder(z).float()
                known, base = seen(before), (recognizer.embed(before) * target).sum(1)

            def likeness(picture: Tensor, target: Tensor = target) -> Tensor:
                return (recognizer.embed(picture.float()) * target).sum(1)

            # Cutting the face out in bfloat16 would round the sampling grid to half pixels.
            way = direction(lambda z, likeness=likeness: 1 - likeness(vqgan.decoder(z)), z)  # type: ignore[misc]

            def moved(
                part: Tensor, z: Tensor = z, before: Tensor = before, known: dict[str, list[Tensor]] = known, base: Tensor = base
            ) -> dict[str, Tensor]:
                """`(N,)` each: what a step does to a picture."""
                after = vqgan.decoder(z - part).float()
                harm = {name: unlike(maps, known[name]) for name, maps in seen(after).items()}
                pixels = ((127.5 * (after - before).abs().amax(1) - 0.5) / 0.1).sigmoid().mean((1, 2))
                return {"gain": likeness(after) - base, "pixels": pixels, **harm}

            with torch.no_grad():
                everywhere = moved(strength * way)
            mask = modules["mask"](z_y).float()
            equal = way.pow(2).mean((1, 2, 3), keepdim=True) / (mask * way.pow(2)).mean((1, 2, 3), keepdim=True)
            masked = moved(strength * equal * mask * way)
        # Where a step everywhere gains nothing, there is nothing to compare.
        sure = (everywhere["gain"] > 1e-3).float()
        ratio = {name: (value / everywhere[name].clamp_min(1e-6)).clamp_min(0.05) for name, value in masked.items()}
        cost = settings["pixels"] * ratio["pixels"].log() - 2 * ratio["gain"].log()
        harms = [value.log() for name, value in ratio.items() if name not in ("gain", "pixels")]
        loss = (sure * (cost + (4 * torch.stack(harms)).exp().mean(0).log() / 4)).sum() / sure.sum().clamp_min(1)
        means = {name: (sure * value.detach()).sum() / sure.sum().clamp_min(1) for name, value in ratio.items()}
        # No scale of the mask is better than another either: without a middle to keep to it would drift to one of its ends.
        loop.update(loss + (mask.mean() - 0.5).pow(2), {**means, "mask": mask.mean(), "strength": equal.mean()})
        if step % 100 == 0:
            loop.picture("mask", mask.mean(1, keepdim=True).expand(-1, 3, -1, -1) * 2 - 1)


def identity_of(args: argparse.Namespace) -> nn.Module:
    """What the identity loss looks through: the teacher where it is given, else our own recogniser."""
    return TeacherRecognizer(args.teacher) if args.teacher else frozen_recognizer(args.recognizer)


def frozen_recognizer(checkpoint: str) -> Recognizer:
    """The averaged recogniser of a checkpoint, in evaluation mode."""
    return averaged(Recognizer(), checkpoint, "recognizer").requires_grad_(False).eval()


@in_one_line
def main() -> None:
    """Read the arguments and train one stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("recognizer", "irn", "irn_last", "reference", "mask"))
    parser.add_argument("--faces", required=True, help="aligned face crops: a folder, tar shards, or a packed .npy")
    parser.add_argument("--identities", help="TSV with the columns file and identity")
    parser.add_argument("--teacher", help="MobileFaceNet state dict: distilled into the recogniser, and the IRN's identity loss")
    parser.add_argument("--perceptual", help="SqueezeNet 1.0 state dict")
    parser.add_argument("--recognizer", help="checkpoint of the stage recognizer")
    parser.add_argument("--irn", help="checkpoint of the stage irn")
    parser.add_argument("--vqgan", help="checkpoint of train_vqgan")
    parser.add_argument("--denoiser", help="checkpoint of train_denoiser denoiser")
    add_budget(parser, HERE / "configs/train/identity.yaml")
    args = parser.parse_args()
    lacking = [f"--{n}" for n in ("recognizer", "irn", "vqgan", "denoiser") if args.stage == "mask" and not getattr(args, n)]
    if lacking:
        parser.error(f"the stage mask needs {', '.join(lacking)}: checkpoints of the stages before it")
    if args.stage == "reference" and not args.irn:
        parser.error("the stage reference needs --irn: the checkpoint of the recovery it is for")
    stages = {
        "recognizer": train_recognizer,
        "irn": train_irn,
        "irn_last": train_irn,
        "reference": train_reference,
        "mask": train_mask,
    }
    stages[args.stage](args, begin(args, args.stage))


if __name__ == "__main__":
    main()
