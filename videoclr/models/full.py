"""The networks of the size `full`: a VQGAN of f = 4 for 512 px and a U-Net of about 270 M parameters, as diffusers builds them.

Shapes are those of the published latent diffusion models for faces (Rombach et al. 2022: VQ-f4 with widths 128, 256, 512 and 8,192
codes of dimension 3; FFHQ-LDM with widths 224 to 896), so that `pipelines/import_ldm.py` can start them from public weights. The
denoiser sees `[z_t, z_y, z_R]`, so its first convolution takes three latents where the published one takes one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from videoclr.errors import WeightsError
from videoclr.models.weights import fit, read_safetensors, write_safetensors


def first_stage(
    widths: tuple[int, ...] = (128, 256, 512), blocks: int = 2, latent: int = 3, codes: int = 8192, groups: int = 32
) -> Any:
    """A VQGAN, `(N, 3, S, S)` in [-1, 1] <-> `(N, latent, S/f, S/f)` with f = 2 ** (levels - 1): diffusers' `VQModel`.

    Args:
        widths: channels at full, half, ... resolution.
        blocks: residual blocks per level of the encoder; the decoder has one more.
        latent: channels of the latent and of a code.
        codes: entries of the codebook.
        groups: of every group norm.
    """
    from diffusers import VQModel

    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=tuple(widths),
        layers_per_block=blocks,
        latent_channels=latent,
        num_vq_embeddings=codes,
        vq_embed_dim=latent,
        norm_num_groups=groups,
        scaling_factor=1.0,
    )


def refiner(
    widths: tuple[int, ...] = (224, 448, 672, 896),
    attends: tuple[bool, ...] = (False, True, True, True),
    blocks: int = 2,
    latent: int = 3,
    conditions: int = 2,
    head: int = 32,
    groups: int = 32,
) -> Any:
    """A U-Net over latents: diffusers' `UNet2DModel`, called with `(N, (1 + conditions) * latent, h, w)` and a level in [0, 1000).

    Args:
        widths: channels at full, half, ... resolution of the latent.
        attends: which of these levels have attention.
        blocks: residual blocks per level on the way down; one more on the way up.
        latent: channels of what is denoised.
        conditions: latents that are seen beside it.
        head: channels of an attention head.
        groups: of every group norm.
    """
    from diffusers import UNet2DModel

    return UNet2DModel(
        in_channels=(1 + conditions) * latent,
        out_channels=latent,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        block_out_channels=tuple(widths),
        layers_per_block=blocks,
        attention_head_dim=head,
        norm_num_groups=groups,
    )


KINDS: dict[str, Callable[..., Any]] = {"first_stage": first_stage, "refiner": refiner}


def save_full(path: Path, kind: str, shape: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Write `state` of the network `KINDS[kind](**shape)` in half precision; returns its manifest entry."""
    part = path.with_suffix(".part")
    entry = write_safetensors(part, state, {"network": json.dumps({"kind": kind, **shape}, sort_keys=True)})
    part.replace(path)
    return entry


def load_full(path: str | Path) -> Any:
    """The network of a file that `save_full` wrote, in evaluation mode, float32 on the CPU.

    Raises:
        WeightsError: missing, damaged, or no such file.
    """
    state, metadata = read_safetensors(path)
    if "network" not in metadata:
        raise WeightsError(path, "does not say which network it is of; make it with pipelines/import_ldm.py")
    shape = json.loads(metadata["network"])
    network = KINDS[shape.pop("kind")](**{name: tuple(v) if isinstance(v, list) else v for name, v in shape.items()})
    fit(network, state, path)
    return network.eval()
