"""Convert published latent diffusion weights to files of ours: a start for training the size `full`.

    python pipelines/import_ldm.py vq-f4/model.ckpt --out runs/full
    python pipelines/import_ldm.py ffhq256/model.ckpt --out runs/full

Takes the state dicts of CompVis latent-diffusion (MIT; Rombach et al. 2022): a first stage (`encoder.*`, `decoder.*`, `quantize.*`,
`quant_conv.*`, `post_quant_conv.*`), a whole model (`first_stage_model.*` and `model.diffusion_model.*`, its averaged weights
`model_ema.*` where they are there), of any widths. A `.ckpt` that holds more than tensors is refused: where you trust it, save its
`state_dict` alone. Writes `first_stage.safetensors` and `refiner.safetensors` in half precision; `videoclr.models.full.load_full`
makes the networks of them. The training programs here train the size `compact`.

The denoiser's first convolution gets zeros for the conditions that the published one does not see: before training it denoises as
it did, whatever it is conditioned on. How names and the order of attention heads correspond was read off both architectures;
diffusers' convert_ldm_original_checkpoint_to_diffusers.py (Apache-2.0) tells the same.

The licences of public weights are theirs: what is converted here may not ship just because the code may.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videoclr.errors import WeightsError
from videoclr.models.full import KINDS, save_full
from videoclr.models.weights import fit, read_state
from videoclr.training.program import in_one_line

State = dict[str, Tensor]
BLOCK = {"nin_shortcut": "conv_shortcut"}
"""Of a first stage's residual block, what is called otherwise."""
TIMED_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
"""Of a U-Net's residual block."""
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
HEAD = 32
"""Channels of an attention head in the published U-Nets for faces; no tensor tells."""
ODD = (KeyError, RuntimeError, ValueError, IndexError, TypeError)
"""What tensors of another architecture or shape make of the conversion."""


def part(state: Mapping[str, Tensor], prefix: str) -> State:
    """The entries under `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers `pattern` (with one group) meets; from 0, without a gap.

    Raises:
        ValueError: there is a gap.
    """
    found = {int(m[1]) for k in state if (m := re.match(pattern, k))}
    if found and max(found) >= len(found):
        raise ValueError(f"number {max(found)} of {len(found)}")
    return len(found)


class Taken:
    """The entries of a state, and which of them were asked for."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state, self._named = state, set[str]()

    def __call__(self, prefix: str) -> State:
        self._named.add(prefix)
        return part(self.state, prefix)

    def rest(self, *kinds: str) -> None:
        """Raise a RuntimeError for entries (of these beginnings) that nobody asked for."""
        left = [k for k in self.state if k.startswith(kinds or "") and not k.startswith(tuple(self._named))]
        if left:
            raise RuntimeError(f"no place for {left[0]}{f' and {len(left) - 1} more entries' if len(left) > 1 else ''}")


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> State:
    """`a.weight` -> `b.weight` for each `a: b`; others keep their names."""
    return {f"{names.get(k.rpartition('.')[0], k.rpartition('.')[0])}.{k.rpartition('.')[2]}": v for k, v in state.items()}


def placed(state: Mapping[str, Tensor], where: str) -> State:
    """Every entry under `where`."""
    return {f"{where}.{k}": v for k, v in state.items()}


def flat_attention(state: State) -> State:
    """One-head attention of the first stage: its 1 x 1 convolutions are linear layers here."""
    return {k: v.flatten(1) if v.ndim == 4 else v for k, v in renamed(state, ATTENTION).items()}


def headed_attention(state: State, head: int) -> State:
    """Attention of the U-Net: the rows of `qkv` are, head by head, query, key and value; `head` channels a head."""
    split: State = {}
    for kind in ("weight", "bias"):
        rows = state[f"qkv.{kind}"]
        heads, rest = divmod(rows.shape[0], 3 * head)
        if rest:
            raise ValueError(f"attention of {rows.shape[0] // 3} channels is not of heads of {head}; see --head")
        rows = rows.reshape(heads, 3, head, -1)
        for number, name in enumerate("qkv"):
            own = rows[:, number].reshape(heads * head, -1)
            split[f"{name}.{kind}"] = own if kind == "weight" else own.flatten()
    others = {k: v.flatten(1) if v.ndim > 1 else v for k, v in state.items() if not k.startswith("qkv")}
    return renamed({**others, **split}, ATTENTION)


def middle_of(taken: Callable[[str], State], prefix: str) -> State:
    """The first stage's middle: block, attention, block."""
    return {
        **placed(renamed(taken(f"{prefix}.mid.block_1."), BLOCK), f"{prefix}.mid_block.resnets.0"),
        **placed(flat_attention(taken(f"{prefix}.mid.attn_1.")), f"{prefix}.mid_block.attentions.0"),
        **placed(renamed(taken(f"{prefix}.mid.block_2."), BLOCK), f"{prefix}.mid_block.resnets.1"),
    }


def convert_first_stage(state: State) -> tuple[dict[str, Any], State]:
    """Shape and state of `videoclr.models.full.first_stage`.

    Args:
        state: `encoder.*`, `decoder.*`, `quantize.*`, ...; losses and discriminators beside them are left out.

    Raises:
        One of `ODD`: an entry is missing, has another shape, or the encoder or the decoder has one that ours has no place for.
    """
    taken = Taken(state)
    levels, blocks = count(state, r"encoder\.down\.(\d+)\."), count(state, r"encoder\.down\.0\.block\.(\d+)\.")
    if not levels:
        raise KeyError("encoder.down.0")
    codes, latent = state["quantize.embedding.weight"].shape
    widths = [state[f"encoder.down.{n}.block.0.conv2.weight"].shape[0] for n in range(levels)]
    out = {k: v for k, v in state.items() if k.split(".")[0] in ("quantize", "quant_conv", "post_quant_conv")}
    for side in ("encoder", "decoder"):
        for name, ours in (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out")):
            out |= placed(taken(f"{side}.{name}."), f"{side}.{ours}")
        out |= middle_of(taken, side)
    for level in range(levels):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{levels - 1 - level}"  # ours count as they run
        for block in range(blocks + 1):
            out |= placed(renamed(taken(f"encoder.down.{level}.block.{block}."), BLOCK), f"{down}.resnets.{block}")
            out |= placed(renamed(taken(f"decoder.up.{level}.block.{block}."), BLOCK), f"{up}.resnets.{block}")
        out |= placed(taken(f"encoder.down.{level}.downsample."), f"{down}.downsamplers.0")
        out |= placed(taken(f"decoder.up.{level}.upsample."), f"{up}.upsamplers.0")
    taken.rest("encoder.", "decoder.")
    return {"widths": widths, "blocks": blocks, "latent": latent, "codes": codes}, out


def convert_refiner(state: State, conditions: int, head: int = HEAD) -> tuple[dict[str, Any], State]:
    """Shape and state of `videoclr.models.full.refiner`.

    Args:
        state: `time_embed.*`, `input_blocks.*`, `middle_block.*`, `output_blocks.*`, `out.*`.
        conditions: latents that ours sees besides the noisy one.
        head: channels of an attention head.

    Raises:
        One of `ODD`: as `convert_first_stage`.
    """
    taken = Taken(state)
    steps = count(state, r"input_blocks\.(\d+)\.")
    ends = [n for n in range(steps) if f"input_blocks.{n}.0.op.weight" in state]
    per = (ends[0] if ends else steps) - 1  # residual blocks of a level; each level but the last ends by going down
    levels = len(ends) + 1
    first = [1 + level * (per + 1) for level in range(levels)]
    widths = [state[f"input_blocks.{n}.0.out_layers.3.weight"].shape[0] for n in first]
    attends = [f"input_blocks.{n}.1.qkv.weight" in state for n in first]
    conv = taken("input_blocks.0.0.")["weight"]
    latent = conv.shape[1]
    blind = conv.new_zeros(conv.shape[0], conditions * latent, *conv.shape[2:])
    out: State = {"conv_in.weight": torch.cat([conv, blind], dim=1), "conv_in.bias": state["input_blocks.0.0.bias"]}
    for name, ours in (
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
        ("out.0", "conv_norm_out"),
        ("out.2", "conv_out"),
    ):
        out |= placed(taken(f"{name}."), ours)
    for number, ours in ((0, "mid_block.resnets.0"), (2, "mid_block.resnets.1")):
        out |= placed(renamed(taken(f"middle_block.{number}."), TIMED_BLOCK), ours)
    out |= placed(headed_attention(taken("middle_block.1."), head), "mid_block.attentions.0")
    for level in range(levels):
        for block in range(per):
            out |= piece(taken, head, f"input_blocks.{first[level] + block}", f"down_blocks.{level}", block)
        out |= placed(taken(f"input_blocks.{first[level] + per}.0.op."), f"down_blocks.{level}.downsamplers.0.conv")
        for block in range(per + 1):
            out |= piece(taken, head, f"output_blocks.{level * (per + 1) + block}", f"up_blocks.{level}", block)
    shape = {"widths": widths, "attends": attends, "blocks": per, "latent": latent, "conditions": conditions, "head": head}
    taken.rest()
    return shape, out


def piece(taken: Taken, head: int, theirs: str, ours: str, block: int) -> State:
    """A residual block with the attention and the way up that may follow it."""
    out = placed(renamed(taken(f"{theirs}.0."), TIMED_BLOCK), f"{ours}.resnets.{block}")
    for number in (1, 2):
        if attention := taken(f"{theirs}.{number}."):
            if "qkv.weight" in attention:
                out |= placed(headed_attention(attention, head), f"{ours}.attentions.{block}")
            else:
                out |= placed(attention, f"{ours}.upsamplers.0")
    return out


def averaged(state: State) -> State:
    """`model.*` with the averaged weights in place of the trained ones, where there are any; their names lack the dots."""
    return {k: state.get(f"model_ema.{k.removeprefix('model.').replace('.', '')}", v) for k, v in state.items()}


def converted(path: Path, state: State, conditions: int, head: int = HEAD) -> dict[str, tuple[dict[str, Any], State]]:
    """What a checkpoint holds: kind -> shape and state, both proved to fit.

    Raises:
        WeightsError: neither a first stage nor a U-Net, or one of another architecture, or with a value that half precision lacks.
    """
    first = part(state, "first_stage_model.") or ({} if part(state, "model.diffusion_model.") else state)
    unet = part(averaged(state), "model.diffusion_model.")
    found: dict[str, Callable[[], tuple[dict[str, Any], State]]] = {}
    if "quantize.embedding.weight" in first:
        found["first_stage"] = lambda: convert_first_stage(first)
    if unet:
        found["refiner"] = lambda: convert_refiner(unet, conditions, head)
    if not found:
        raise WeightsError(path, "holds neither a VQ first stage (quantize.*) nor a U-Net (model.diffusion_model.*)")
    made = {}
    for kind, convert in found.items():
        try:
            shape, own = convert()
            with torch.device("meta"):
                network = KINDS[kind](**{name: tuple(v) if isinstance(v, list) else v for name, v in shape.items()})
        except ODD as error:
            raise WeightsError(path, f"no {kind} of the published architecture ({' '.join(str(error).split())})") from error
        if broken := [k for k, v in own.items() if not v.is_meta and not v.half().isfinite().all()]:
            raise WeightsError(path, f"{kind}: {broken[0]} holds values that are not finite in half precision")
        fit(network, {k: v.to("meta") for k, v in own.items()}, path)
        made[kind] = (shape, own)
    return made


@in_one_line
def main(argv: Sequence[str] | None = None) -> None:
    """Convert one checkpoint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="state dict: .safetensors, or .ckpt and .pt of plain tensors")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--conditions", type=int, default=2, help="latents that the denoiser sees beside the noisy one")
    parser.add_argument("--head", type=int, default=HEAD, help=f"channels of an attention head of the U-Net ({HEAD})")
    args = parser.parse_args(argv)
    if args.conditions < 0 or args.head < 1:
        parser.error("--conditions must not be less than 0, and --head at least 1")
    made = converted(args.checkpoint, read_state(args.checkpoint), args.conditions, args.head)
    args.out.mkdir(parents=True, exist_ok=True)
    for kind, (shape, state) in made.items():
        entry = save_full(args.out / f"{kind}.safetensors", kind, shape, state)
        print(f"{args.out / kind}.safetensors: {entry['parameters']:,} parameters, {entry['bytes']:,} bytes, {shape}")


if __name__ == "__main__":
    main()
