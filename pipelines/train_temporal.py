"""Fine-tune for steadiness: what errors remain shall move with the face, in the latent and in the picture.

    python pipelines/train_temporal.py irn --runs runs --faces DIR --clips DIR --perceptual FILE --out runs/irn --minutes 60
    python pipelines/train_temporal.py fusion --runs runs --faces DIR --clips DIR --perceptual FILE --out runs/fusion

Pairs of frames of one face (`videoclr/training/pairs.py`): of real clips, and of stills under synthetic motion with exact flow.
Each frame is given as the mean of its neighbours, as along a track. Two constraints (after Xu et al., "High-resolution Face
Swapping via Latent Semantics Disentanglement", CVPR 2022, who constrain a swapped face so) stand beside the fidelity losses: the
error of the two frames must be the same along the motion, in the picture and in the latent. It is the error that is compared and
not the restored frames, so that blur gains nothing.

`irn` trains the Identity Recovery Network, whose estimate flickers most, `fusion` the decoder's gates. With the setting `stills`
the IRN goes on learning from stills in every step, and forgets nothing of them. `--runs` holds the
checkpoints of the other programs (or `pipelines/unpack_weights.py` makes them); the run in `--out` is gone on from. Settings:
configs/train/temporal.yaml.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

from videoclr.diffusion.noise import add_noise
from videoclr.diffusion.sampler import level_of_noise, signal_levels
from videoclr.parts.clr import ClrNetworks
from videoclr.training.batched import face_batches
from videoclr.training.data import batches, load_faces
from videoclr.training.losses import Perceptual, TeacherRecognizer, fidelity_loss, recovery_loss, unsteadiness
from videoclr.training.pairs import MotionPairs, clips_of
from videoclr.training.program import add_budget, begin, in_one_line, loop_of
from videoclr.types import FaceCrop, Faces, Frame

HERE = Path(__file__).resolve().parent.parent


def faces_in(size: int, frames: Iterator[Frame]) -> Iterator[Faces[FaceCrop]]:
    """Needs the whole library; the training itself runs on what a PyTorch image has, and PyAV."""
    from videoclr import Config
    from videoclr.evaluation.views import Finder

    return Finder(Config(), size).faces(frames)


def train(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """The whole of it."""
    _, faces = load_faces(args.faces, settings["size"])
    shape = {name: settings[name] for name in ("reach", "apart", "real", "blended", "graded") if name in settings}
    length = 4 * settings["reach"] + 12
    clips = clips_of(args.clips, args.out / "clips.npz", partial(faces_in, settings["size"]), settings["frames"], length)
    data = MotionPairs(faces, clips, settings["seed"], settings["levels"], **shape)
    net = ClrNetworks.of_runs(args.runs)
    learned = net.irn if args.stage == "irn" else net.decoder.fusion
    modules = nn.ModuleDict({args.stage: learned.requires_grad_(True)})
    loop = loop_of(args, modules, settings)
    net.to(loop.device)
    perceptual = Perceptual(args.perceptual).to(loop.device) if args.perceptual else None
    identity: Any = TeacherRecognizer(args.teacher).to(loop.device) if args.teacher else None
    if settings["identity"] and identity is None:
        identity = net.recognizer
    stills = settings.get("stills") if args.stage == "irn" else None
    still = face_batches(faces, stills, loop.step, loop.device) if stills else None
    for step, batch in zip(loop.steps(), batches(data, settings["batch"], loop.step, settings["workers"]), strict=False):
        # All first frames, then all second ones.
        clean, worse = (batch[name].to(loop.device).transpose(0, 1).flatten(0, 1) for name in ("clean", "degraded"))
        flow, visible = batch["flow"].to(loop.device), batch["visible"].to(loop.device)
        with loop.autocast():
            if args.stage == "irn":
                out = net.irn(worse)
                latent, goal = net.encoder(out.clamp(-1, 1)), net.encoder(clean).detach()
            else:
                out, latent, goal = fused(net, worse, clean, settings["start"], loop.generator(step))
            loss, terms = fidelity_loss(out, clean, settings, perceptual, identity)
            terms |= {"flicker": unsteadiness(out, clean, flow, visible), "latent": unsteadiness(latent, goal, flow, visible)}
            # The fusion gates work behind the latent.
            loss = (
                loss + settings["flicker"] * terms["flicker"] + (settings["latent"] * terms["latent"] if args.stage == "irn" else 0)
            )
            if still is not None:
                alone = next(still)
                shifts = torch.Generator().manual_seed(1_000_003 * stills["seed"] + step)
                pair = (alone["clean"], alone["degraded"])
                _, own, others = recovery_loss(net.irn, pair, stills, (perceptual, identity), shifts)
                loss = own + stills["moving"] * loss
                terms |= {f"stills: {name}": value for name, value in others.items()}
        loop.update(loss, {name: value.detach() for name, value in terms.items()})
        if step % 200 == 0:
            loop.picture("degraded | restored | clean", torch.cat([worse[:4], out[:4].float(), clean[:4]], dim=2))


def fused(
    net: ClrNetworks, worse: Tensor, clean: Tensor, start: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """What the decoder makes of one step of diffusion, with the latent and the clean one. Both frames of a pair see one noise."""
    with torch.no_grad():
        z_r, features = net.encoder(net.irn(worse).float().clamp(-1, 1)).float(), net.condition.features(worse)
        noise = torch.randn(z_r[: len(z_r) // 2].shape, generator=generator, device=z_r.device).repeat(2, 1, 1, 1)
        alpha = signal_levels()[level_of_noise(start)].to(z_r.device).expand(len(z_r))
        z = net.denoiser(add_noise(z_r, noise, alpha), alpha, net.condition.latent(features).float(), z_r)
        goal = net.encoder(clean).float()
    return net.decoder(z, features, 1.0), z, goal


@in_one_line
def main() -> None:
    """Read the arguments and train one stage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=("irn", "fusion"))
    parser.add_argument("--runs", required=True, type=Path, help="folder of the runs vqgan, irn, denoiser and fusion")
    parser.add_argument("--faces", required=True, help="aligned face crops: a folder, tar shards, or a packed .npy")
    parser.add_argument("--clips", type=Path, help="folder of clean clips; without it all motion is synthetic")
    parser.add_argument("--perceptual", help="SqueezeNet 1.0 state dict")
    parser.add_argument("--teacher", help="MobileFaceNet state dict: the identity loss looks through it, not our recogniser")
    add_budget(parser, HERE / "configs/train/temporal.yaml")
    args = parser.parse_args()
    if args.clips and not args.clips.is_dir():
        parser.error(f"--clips {args.clips}: no such folder")
    needed = ("vqgan", "irn", *(("denoiser",) if args.stage == "fusion" else ()))
    if lacking := [run for run in needed if not (args.runs / run / "checkpoint.pt").exists()]:
        parser.error(f"--runs {args.runs}: no checkpoint of {', '.join(lacking)}; train it first, or use unpack_weights.py")
    settings = begin(args, args.stage)
    train(args, settings)


if __name__ == "__main__":
    main()
