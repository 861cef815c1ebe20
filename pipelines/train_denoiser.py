"""Train the conditional refinement: `E_l` with the denoiser, then the decoder's fusion, and how high diffusion starts.

    python pipelines/train_denoiser.py denoiser --faces DIR --vqgan runs/vqgan/checkpoint.pt \
        --irn runs/irn/checkpoint.pt --out runs/denoiser
    python pipelines/train_denoiser.py fusion --faces DIR --vqgan ... --irn ... --denoiser runs/denoiser/checkpoint.pt \
        --perceptual FILE --recognizer ... --out runs/fusion
    python pipelines/train_denoiser.py start --faces DIR --vqgan ... --irn ... --denoiser ... --out runs/start

`E_l` starts as a copy of the VQGAN's encoder and learns `E_l(y) ~ E(x)` and, through the denoiser, what of `y` helps. Every pair
is used at several noise levels, because encoding it costs more than denoising it. Settings: configs/train/denoiser.yaml.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from videoclr.diffusion.guidance import rms
from videoclr.diffusion.noise import add_noise
from videoclr.models.denoiser import Denoiser
from videoclr.models.identity import IdentityRecovery
from videoclr.models.recognizer import Recognizer
from videoclr.models.start import TYPICAL, StartLevel
from videoclr.models.vqgan import VQGAN, PatchDiscriminator
from videoclr.parts.clr import degradation
from videoclr.training.batched import face_batches
from videoclr.training.data import load_faces
from videoclr.training.loop import Loop, averaged
from videoclr.training.losses import (
    FeatureDiscriminator,
    Perceptual,
    TeacherRecognizer,
    adaptive_weight,
    adversarial_losses,
    fidelity_loss,
)
from videoclr.training.program import add_budget, begin, in_one_line, loop_of

HERE = Path(__file__).resolve().parent.parent
log = logging.getLogger("videoclr.training")


def frozen(module: nn.Module, checkpoint: str, name: str, device: torch.device) -> Any:
    """The averaged weights of one module of a checkpoint, in evaluation mode."""
    return averaged(module, checkpoint, name).requires_grad_(False).eval().to(device)


def train_denoiser(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Preconditioned denoising loss at unit weight per level (Karras et al. 2022), plus `E_l(y) ~ E(x)`."""
    _, faces = load_faces(args.faces, settings["size"])
    vqgan = frozen(VQGAN(), args.vqgan, "vqgan", torch.device("cpu"))
    modules = nn.ModuleDict(
        {"encoder": copy.deepcopy(vqgan.encoder).requires_grad_(True), "denoiser": Denoiser(spread=settings["spread"])}
    )
    loop = loop_of(args, modules, settings)
    vqgan.to(loop.device)
    irn = frozen(IdentityRecovery(), args.irn, "irn", loop.device)
    samples = face_batches(faces, settings, loop.step, loop.device)
    for step in loop.steps():
        batch = next(samples)
        clean, worse = batch["clean"], batch["degraded"]
        with loop.autocast():
            with torch.no_grad():
                z = vqgan.encoder(clean).float()
                z_r = vqgan.encoder(irn(worse).float().clamp(-1, 1)).float()
            z_y = modules["encoder"](worse).float()
            alpha, noise = noise_levels(loop.generator(1_000_003 * settings["seed"] + step), settings, z)
            draws = settings["draws"]
            z_, r_, y_ = (t.repeat(draws, 1, 1, 1) for t in (z, z_r, z_y))
            z_t = add_noise(z_, noise, alpha)
            # Condition drop-out: without E_l(y), the denoiser must live from the IRN's latent.
            kept = torch.rand((len(z_), 1, 1, 1), generator=loop.generator(step), device=loop.device) > settings["drop"]
            guess, scale, _ = modules["denoiser"].precondition(z_t, alpha, r_)
            said = modules["denoiser"].residual(z_t, alpha, y_ * kept, r_)
        wrong = (said - (z_ - guess) / scale).pow(2).mean((1, 2, 3))
        condition = (z_y - z).pow(2).mean()
        loss = wrong.mean() + settings["condition"] * condition
        scalars = {
            "residual": wrong.mean(),
            "E_l(y) - E(x)": condition,
            "spread": (z - z_r).std(),
            "z0 error": ((said * scale + guess - z_).pow(2).mean()).sqrt(),
        }
        loop.update(loss, scalars)
        if step % 500 == 0:
            with torch.no_grad():
                shown = vqgan.decoder((said * scale + guess)[: min(4, len(z))].float())
            loop.picture("degraded | one step | clean", torch.cat([worse[:4], shown, clean[:4]], dim=2))


def noise_levels(generator: torch.Generator, settings: dict[str, Any], z: Tensor) -> tuple[Tensor, Tensor]:
    """`draws` levels and noise fields per latent, spread evenly over the noise shares in use."""
    count, where = settings["draws"] * len(z), {"generator": generator, "device": z.device}
    share = (torch.arange(count, device=z.device) + torch.rand(count, **where)) / count
    low, high = settings["shares"]
    share = (low + (high - low) * share)[torch.randperm(count, **where)]
    return 1 - share**2, torch.randn((count, *z.shape[1:]), **where)


def train_fusion(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """The decoder's spatial-attention gates, on latents as restoration makes them; the decoder itself stays."""
    _, faces = load_faces(args.faces, settings["size"])
    vqgan = frozen(VQGAN(), args.vqgan, "vqgan", torch.device("cpu"))
    perceptual = Perceptual(args.perceptual) if args.perceptual else None
    modules = nn.ModuleDict({"fusion": vqgan.decoder.fusion.requires_grad_(True), "state": nn.Module()})
    modules["state"].register_buffer("weight", torch.zeros(()))  # a training that goes on must know it
    if settings["adversarial"]:
        modules["discriminator"] = FeatureDiscriminator(perceptual) if perceptual else PatchDiscriminator()
    loop = loop_of(args, modules, settings)
    vqgan.to(loop.device)
    irn = frozen(IdentityRecovery(), args.irn, "irn", loop.device)
    encoder = frozen(copy.deepcopy(vqgan.encoder), args.denoiser, "encoder", loop.device)
    denoiser = frozen(Denoiser(), args.denoiser, "denoiser", loop.device)
    perceptual = perceptual.to(loop.device) if perceptual else None
    identity: Any = frozen(Recognizer(), args.recognizer, "recognizer", loop.device) if args.recognizer else None
    identity = TeacherRecognizer(args.teacher).to(loop.device) if args.teacher else identity
    strength, margin = settings["strength"], settings["margin"]

    def seen(clean: Tensor, worse: Tensor, number: int) -> list[Tensor]:
        """The clean picture, the latent as restoration makes it, and the features of the input."""
        recovered = irn(worse).float().clamp(-1, 1)
        z_r, features = vqgan.encoder(recovered).float(), encoder.features(worse)
        alpha, noise = noise_levels(loop.generator(1_000_003 * settings["seed"] + number), settings, z_r)
        z = denoiser(add_noise(z_r, noise, alpha), alpha, encoder.latent(features).float(), z_r)
        return [clean, z_r + degradation(worse, recovered) * (z - z_r), features]

    kept = kept_pairs(faces, settings, loop, seen)
    last, weight = modules["fusion"].value[-1].weight, modules["state"].weight
    for step in loop.steps():
        whole = step % settings["whole"] == 0
        clean, z, features = drawn(kept, settings, whole, loop.generator(step))
        with loop.autocast():
            out = vqgan.decoder(z, features, strength)
            if not whole:  # at its border, a crop lacks what the decoder looks at
                out, clean = (t[..., 4 * margin : -4 * margin, 4 * margin : -4 * margin] for t in (out, clean))
            loss, terms = fidelity_loss(out, clean, settings, perceptual, identity if whole else None)
            scalars: dict[str, float | Tensor] = {**terms}
            if settings["adversarial"]:
                judged, fooled = adversarial_losses(modules["discriminator"], clean, out)
                if step > settings["adversarial_after"] + loop.first:
                    if step % 10 == 0 or not weight:
                        weight.copy_(adaptive_weight(loss, fooled, last))
                    loss = loss + settings["adversarial"] * weight * fooled
                loss = loss + judged
                scalars |= {"discriminator": judged, "fooled": fooled, "weight": weight.clone()}
        loop.update(loss, scalars)
        if step % 200 == 0:
            loop.picture("fused | clean", torch.cat([out[:4].float(), clean[:4].float()], dim=2))


@torch.no_grad()
def kept_pairs(
    faces: NDArray[np.uint8], settings: dict[str, Any], loop: Loop, seen: Callable[[Tensor, Tensor, int], list[Tensor]]
) -> list[Tensor]:
    """What `seen` makes of `settings["pairs"]` pairs, computed once and kept in half precision on the device.

    Args:
        faces: `(N, S, S, 3)` uint8 RGB, FFHQ-aligned.
        settings: of the stage.
        loop: its device and precision are used.
        seen: clean and degraded pictures `(B, 3, S, S)` in [-1, 1] and the number of the call -> tensors of B rows.

    Returns:
        the tensors of all calls, joined.
    """
    made: list[list[Tensor]] = []
    samples = face_batches(faces, settings, 0, loop.device, 8)
    for number, batch in enumerate(itertools.islice(samples, -(-settings["pairs"] // 8))):
        with loop.autocast():
            parts = seen(batch["clean"], batch["degraded"], number)
        made.append([part.half() for part in parts])
    log.info("%d pairs are made", 8 * len(made))
    return [torch.cat(parts) for parts in zip(*made, strict=True)]


def drawn(kept: list[Tensor], settings: dict[str, Any], whole: bool, generator: torch.Generator) -> list[Tensor]:
    """A random batch of what was kept: whole faces, or crops of `settings["crop"]` latent cells and the same part of the rest.

    A batch of whole faces has fewer of them, so that both have about as many pixels.
    """
    side = kept[1].shape[-1]
    crop = side if whole else settings["crop"]
    count = max(1, round(settings["batch"] * (settings["crop"] / side) ** 2)) if whole else settings["batch"]
    rows, tops, lefts = (
        torch.randint(most, (count,), generator=generator, device=generator.device).tolist()
        for most in (len(kept[0]), side - crop + 1, side - crop + 1)
    )
    out = []
    for tensor in kept:
        scale = tensor.shape[-1] // side
        pieces = [
            tensor[row, :, scale * top : scale * (top + crop), scale * left : scale * (left + crop)]
            for row, top, left in zip(rows, tops, lefts, strict=True)
        ]
        out.append(torch.stack(pieces).float())
    return out


def train_start(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Predict the error of `E(R(y))`; its logarithm, because what counts is the ratio of the noise level to the error."""
    _, faces = load_faces(args.faces, settings["size"])
    modules = nn.ModuleDict({"start": StartLevel()})
    loop = loop_of(args, modules, settings)
    vqgan = frozen(VQGAN(), args.vqgan, "vqgan", loop.device)
    irn = frozen(IdentityRecovery(), args.irn, "irn", loop.device)
    condition = frozen(copy.deepcopy(vqgan.encoder), args.denoiser, "encoder", loop.device)

    kept = kept_pairs(
        faces, settings, loop, lambda x, y, _: [vqgan.encoder(x), vqgan.encoder(irn(y).float().clamp(-1, 1)), condition(y)]
    )
    for step in loop.steps():
        generator = torch.Generator().manual_seed(1_000_003 * settings["seed"] + step)
        rows = torch.randint(len(kept[0]), (settings["batch"],), generator=generator)
        # A part of a face is a sample too, with an error of its own.
        side = int(torch.randint(settings["smallest"], kept[0].shape[-1] + 1, (1,), generator=generator))
        top, left = torch.randint(kept[0].shape[-1] - side + 1, (2,), generator=generator).tolist()
        z, z_r, z_y = (t[rows, :, top : top + side, left : left + side].float().to(loop.device) for t in kept)
        wanted = (rms(z_r - z).flatten() / TYPICAL).log()
        with loop.autocast():
            said = modules["start"].logarithm(z_y, z_r)
        loss = (said - wanted).pow(2).mean()
        loop.update(loss, {"squared error": loss, "variance": wanted.var(unbiased=False), "latent error": rms(z_r - z).mean()})


@in_one_line
def main() -> None:
    """Read the arguments and train one stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("denoiser", "fusion", "start"))
    parser.add_argument("--faces", required=True, help="aligned face crops: a folder, tar shards, or a packed .npy")
    parser.add_argument("--vqgan", required=True, help="checkpoint of train_vqgan")
    parser.add_argument("--irn", required=True, help="checkpoint of train_identity irn")
    parser.add_argument("--denoiser", help="checkpoint of the stage denoiser")
    parser.add_argument("--perceptual", help="SqueezeNet 1.0 state dict")
    parser.add_argument("--recognizer", help="checkpoint of train_identity recognizer")
    parser.add_argument("--teacher", help="MobileFaceNet state dict: the identity loss looks through it, not our recogniser")
    add_budget(parser, HERE / "configs/train/denoiser.yaml")
    args = parser.parse_args()
    if args.stage != "denoiser" and not args.denoiser:
        parser.error(f"the stage {args.stage} needs --denoiser, the checkpoint of the stage denoiser")
    settings = begin(args, args.stage)
    {"denoiser": train_denoiser, "fusion": train_fusion, "start": train_start}[args.stage](args, settings)


if __name__ == "__main__":
    main()
