"""Distil the restorer's guided steps into one evaluation of a student denoiser.

    python pipelines/distill_one_step.py --faces DIR --runs runs --perceptual FILE --out runs/student --minutes 60

The teacher is what `videoclr` does in several steps, frozen: the networks of `--runs`, identity guidance inside the learned mask.
The student is the same denoiser, begun from the teacher's weights; from the same truncated start it must say in one evaluation what
the teacher says in many, over the whole dial of fidelity. Its latent follows the teacher's; the decoded picture, its perceptual
features and its identity follow the clean crop, which the teacher only approaches (after OSDFace, Wang et al. 2025, arXiv
2411.17163, which trains one step on restoration, identity and adversarial losses). `restore.steps: 1` uses the student wherever its
weights are, without guidance: it has learned the guided result. Settings: configs/train/one_step.yaml.
"""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

from videoclr.diffusion.guidance import guided
from videoclr.diffusion.noise import add_noise
from videoclr.diffusion.sampler import level_of_noise, sample, signal_levels
from videoclr.models.vqgan import PatchDiscriminator
from videoclr.parts.clr import ClrNetworks, ClrRestorer
from videoclr.training.batched import face_batches
from videoclr.training.data import load_faces
from videoclr.training.losses import Perceptual, TeacherRecognizer, adversarial_losses, fidelity_loss
from videoclr.training.program import add_budget, begin, in_one_line, loop_of

HERE = Path(__file__).resolve().parent.parent
NEEDED = ("vqgan", "irn", "denoiser", "mask", "recognizer")
"""Runs that the teacher is made of; `fusion` too, where it was trained."""


def taught(restorer: ClrRestorer, z_t: Tensor, level: int, z_y: Tensor, z_r: Tensor, recovered: Tensor) -> Tensor:
    """The latent that the teacher reaches from `z_t` in `restorer.steps` guided evaluations."""
    net = restorer.networks
    target = net.recognizer.embed(recovered)

    def plain(z: Tensor, alpha: Tensor) -> Tensor:
        clean: Tensor = net.denoiser(z, alpha, z_y, z_r)
        return clean

    def distance(z: Tensor) -> Tensor:
        cosine: Tensor = (net.recognizer.embed(net.decoder(z)) * target).sum(1)
        return 1 - cosine

    steered = guided(plain, distance, net.mask(z_y), restorer.guidance, last=0.4 * restorer.start)
    return sample(steered, z_t, level, restorer.steps, restorer.solver)


def train(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """The whole of it."""
    _, faces = load_faces(args.faces, settings["size"])
    net = ClrNetworks.of_runs(args.runs)
    modules = nn.ModuleDict({"student": copy.deepcopy(net.denoiser).requires_grad_(True)})
    if settings["adversarial"]:
        modules["discriminator"] = PatchDiscriminator()
    loop = loop_of(args, modules, settings)
    perceptual = Perceptual(args.perceptual).to(loop.device) if args.perceptual else None
    identity: Any = TeacherRecognizer(args.teacher).to(loop.device) if args.teacher else net.recognizer
    samples = face_batches(faces, settings, loop.step, loop.device)
    for step in loop.steps():
        batch = next(samples)
        clean, worse = batch["clean"], batch["degraded"]
        generator = loop.generator(1_000_003 * settings["seed"] + step)
        fidelity = float(torch.rand((), generator=generator, device=loop.device))
        teacher = ClrRestorer(settings["steps"], fidelity, device=str(loop.device), size=settings["size"], networks=net)
        level = level_of_noise(teacher.start)
        alpha = signal_levels()[level].to(loop.device).expand(len(clean))
        with loop.autocast():
            with torch.no_grad():
                recovered = net.irn(worse).float().clamp(-1, 1)
                z_r, features = net.encoder(recovered).float(), net.condition.features(worse)
                z_y = net.condition.latent(features).float()
                noise = torch.randn(z_r.shape, generator=generator, device=loop.device)
                z_t = add_noise(z_r, noise, alpha)
                goal = taught(teacher, z_t, level, z_y, z_r, recovered)
            z = modules["student"](z_t, alpha, z_y, z_r)
            out = net.decoder(z, features, teacher.fusion)
            latent = (z - goal).pow(2).mean()
            loss, terms = fidelity_loss(out, clean, settings, perceptual, identity)
            loss = loss + settings["latent"] * latent
            scalars: dict[str, float | Tensor] = {"latent": latent, **terms}
            if settings["adversarial"]:
                judged, fooled = adversarial_losses(modules["discriminator"], clean, out)
                joins = step > settings["adversarial_after"] + loop.first
                loss = loss + judged + (settings["adversarial"] * fooled if joins else 0)
                scalars["discriminator"] = judged
        loop.update(loss, scalars)
        if step % 200 == 0:
            with torch.no_grad():
                shown = net.decoder(goal[:4], features[:4], teacher.fusion).float()
            loop.picture("degraded | student | teacher | clean", torch.cat([worse[:4], out[:4].float(), shown, clean[:4]], dim=2))


@in_one_line
def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", required=True, help="aligned face crops: a folder, tar shards, or a packed .npy")
    parser.add_argument("--runs", required=True, type=Path, help=f"folder of the runs {', '.join(NEEDED)}")
    parser.add_argument("--perceptual", help="SqueezeNet 1.0 state dict")
    parser.add_argument("--teacher", help="MobileFaceNet state dict: the identity loss looks through it, not our recogniser")
    add_budget(parser, HERE / "configs/train/one_step.yaml")
    args = parser.parse_args()
    if lacking := [run for run in NEEDED if not (args.runs / run / "checkpoint.pt").exists()]:
        parser.error(f"--runs {args.runs}: no checkpoint of {', '.join(lacking)}; train it first")
    settings = begin(args)
    train(args, settings)


if __name__ == "__main__":
    main()
