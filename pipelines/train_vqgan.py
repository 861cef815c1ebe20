"""Train the VQGAN: encoder, codebook and decoder.

    python pipelines/train_vqgan.py --faces DIR --perceptual FILE --out runs/vqgan --minutes 40

Crops of 128 px are enough: the network is fully convolutional and sees about 60 px around a pixel. The first part of the budget
trains without quantising; then k-means starts the codebook, and from there half of the steps are quantised. The discriminator
joins last. Settings: configs/train/vqgan.yaml.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from videoclr.models.vqgan import VQGAN, PatchDiscriminator
from videoclr.training.batched import face_batches
from videoclr.training.data import load_faces
from videoclr.training.loop import Loop
from videoclr.training.losses import Perceptual, adaptive_weight, gradient_l1, hinge_discriminator
from videoclr.training.program import add_budget, begin, in_one_line, loop_of

HERE = Path(__file__).resolve().parent.parent
CLEAN: dict[str, Any] = {"levels": {}}
"""Settings of samples that are not degraded."""


def random_crop(pictures: Tensor, side: int, step: int) -> Tensor:
    """The same random window of every picture of a batch; chosen by the step's number alone."""
    if side >= pictures.shape[-1]:
        return pictures
    generator = torch.Generator().manual_seed(step)
    x, y = torch.randint(0, pictures.shape[-1] - side + 1, (2,), generator=generator).tolist()
    return pictures[:, :, y : y + side, x : x + side].contiguous()


def train(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """The whole of it."""
    _, faces = load_faces(args.faces, settings["size"])
    modules = nn.ModuleDict({"vqgan": VQGAN(), "discriminator": PatchDiscriminator(), "state": nn.Module()})
    modules["state"].register_buffer("clustered", torch.zeros((), dtype=torch.bool))
    loop = loop_of(args, modules, settings)
    vqgan, discriminator, state = modules["vqgan"], modules["discriminator"], modules["state"]
    perceptual = Perceptual(args.perceptual).to(loop.device) if args.perceptual else None
    samples = face_batches(faces, settings | CLEAN, loop.step, loop.device)
    vqgan.train()
    for step in loop.steps():
        clean = random_crop(next(samples)["clean"], settings["crop"], step)
        quantise = bool(state.clustered) and step % 2 == 0
        if not bool(state.clustered) and loop.done > settings["quantise_from"]:
            start_codebook(modules, faces, settings, loop)
            continue
        with loop.autocast():
            back, commitment, indices = vqgan(clean, quantise)
            loss = (back.float() - clean).abs().mean() + settings["gradient"] * gradient_l1(back.float(), clean)
            if perceptual is not None:
                feature = perceptual(back, clean).mean()
                loss = loss + settings["perceptual"] * feature
            # The latent keeps unit size, so that noise levels mean what they say.
            z = vqgan.encoder(clean).float() if step % 8 == 0 else None
        scalars: dict[str, float | Tensor] = {"psnr": -10 * torch.log10((back.float() - clean).clamp(-2, 2).pow(2).mean() / 4)}
        if z is not None:
            loss = loss + settings["unit"] * ((z.std((0, 2, 3)) - 1).pow(2).mean() + z.mean((0, 2, 3)).pow(2).mean())
        if perceptual is not None:
            scalars["perceptual"] = feature
        if loop.done > settings["adversarial_from"]:
            with loop.autocast():
                for p in discriminator.parameters():
                    p.requires_grad_(False)
                fooled = -discriminator(back).float().mean()
                for p in discriminator.parameters():
                    p.requires_grad_(True)
            weight = adaptive_weight(loss, fooled, vqgan.decoder.out[1].weight)
            with loop.autocast():
                judged = hinge_discriminator(discriminator(clean).float(), discriminator(back.detach()).float())
            loss = loss + settings["adversarial"] * weight * fooled + judged
            scalars |= {"discriminator": judged}
        if indices is not None:
            loss = loss + settings["commitment"] * commitment
            scalars["perplexity"] = vqgan.codebook.perplexity(indices).mean()
        loop.update(loss, scalars)
        if step % 500 == 0:
            loop.picture("clean | back", torch.cat([clean[:4], back[:4]], dim=2))


@torch.no_grad()
def start_codebook(modules: nn.ModuleDict, faces: NDArray[np.uint8], settings: dict[str, Any], loop: Loop) -> None:
    """K-means over the latents of some batches; the averaged copy, and every process, get the codes of process 0.

    The batches are drawn apart from those of the training: taken from its stream, they would move all that follow, and a training
    that was stopped would not go on as one that was not.
    """
    here = "device" if settings["workers"] == "device" else 0  # no processes for a few batches
    samples = face_batches(faces, settings | CLEAN | {"workers": here}, loop.step, loop.device)
    latents = torch.cat([modules["vqgan"].encoder(next(samples)["clean"]) for _ in range(4)])
    modules["vqgan"].codebook.start_from(latents)
    loop.same(modules["vqgan"].codebook)
    modules["state"].clustered.fill_(True)
    loop.ema.module.load_state_dict(
        {
            **loop.ema.module.state_dict(),
            **{k: v for k, v in modules.state_dict().items() if ".codebook." in k or k.startswith("state.")},
        }
    )


@in_one_line
def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", required=True, help="aligned face crops: a folder, tar shards, or a packed .npy")
    parser.add_argument("--perceptual", help="SqueezeNet 1.0 state dict")
    add_budget(parser, HERE / "configs/train/vqgan.yaml")
    args = parser.parse_args()
    settings = begin(args)
    train(args, settings)


if __name__ == "__main__":
    main()
