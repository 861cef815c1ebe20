"""Published latent diffusion weights, made up by the formula of their architecture, become networks that compute the same."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from videoclr.errors import WeightsError
from videoclr.models.full import first_stage, load_full, refiner

ROOT = Path(__file__).resolve().parents[2]
VQ = {"widths": (128, 256, 512), "blocks": 2, "latent": 3, "codes": 8192}
UNET = {"widths": (224, 448, 672, 896), "attends": (False, True, True, True), "blocks": 2, "latent": 3}
SMALL_VQ = {"widths": (32, 64), "blocks": 1, "latent": 3, "codes": 16}
SMALL_UNET = {"widths": (32, 64), "attends": (False, True), "blocks": 1, "latent": 3}


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("import_ldm", ROOT / "pipelines/import_ldm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the published names and shapes, by formula ----------------------------------------------------------------------


class Shapes(dict):
    """Name -> shape."""

    def conv(self, name, inside, outside, kernel=3):
        self[f"{name}.weight"], self[f"{name}.bias"] = (outside, inside, kernel, kernel), (outside,)

    def row(self, name, inside, outside):
        self[f"{name}.weight"], self[f"{name}.bias"] = (outside, inside, 1), (outside,)

    def linear(self, name, inside, outside):
        self[f"{name}.weight"], self[f"{name}.bias"] = (outside, inside), (outside,)

    def norm(self, name, width):
        self[f"{name}.weight"], self[f"{name}.bias"] = (width,), (width,)

    def block(self, name, inside, outside):
        self.norm(f"{name}.norm1", inside)
        self.conv(f"{name}.conv1", inside, outside)
        self.norm(f"{name}.norm2", outside)
        self.conv(f"{name}.conv2", outside, outside)
        if inside != outside:
            self.conv(f"{name}.nin_shortcut", inside, outside, 1)

    def timed(self, name, inside, outside, embedding):
        self.norm(f"{name}.in_layers.0", inside)
        self.conv(f"{name}.in_layers.2", inside, outside)
        self.linear(f"{name}.emb_layers.1", embedding, outside)
        self.norm(f"{name}.out_layers.0", outside)
        self.conv(f"{name}.out_layers.3", outside, outside)
        if inside != outside:
            self.conv(f"{name}.skip_connection", inside, outside, 1)

    def heads(self, name, width):
        self.norm(f"{name}.norm", width)
        self.row(f"{name}.qkv", width, 3 * width)
        self.row(f"{name}.proj_out", width, width)


def first_stage_shapes(widths, blocks, latent, codes):
    s, last = Shapes({"quantize.embedding.weight": (codes, latent)}), widths[-1]
    s.conv("quant_conv", latent, latent, 1)
    s.conv("post_quant_conv", latent, latent, 1)
    s.conv("encoder.conv_in", 3, widths[0])
    s.conv("encoder.conv_out", last, latent)
    s.conv("decoder.conv_in", latent, last)
    s.conv("decoder.conv_out", widths[0], 3)
    s.norm("encoder.norm_out", last)
    s.norm("decoder.norm_out", widths[0])
    for side in ("encoder", "decoder"):
        for block in (1, 2):
            s.block(f"{side}.mid.block_{block}", last, last)
        s.norm(f"{side}.mid.attn_1.norm", last)
        for name in ("q", "k", "v", "proj_out"):
            s.conv(f"{side}.mid.attn_1.{name}", last, last, 1)
    inside = widths[0]
    for level, width in enumerate(widths):
        for block in range(blocks):
            s.block(f"encoder.down.{level}.block.{block}", inside, width)
            inside = width
        if level + 1 < len(widths):
            s.conv(f"encoder.down.{level}.downsample.conv", width, width)
    for level in reversed(range(len(widths))):
        for block in range(blocks + 1):
            s.block(f"decoder.up.{level}.block.{block}", inside, widths[level])
            inside = widths[level]
        if level:
            s.conv(f"decoder.up.{level}.upsample.conv", inside, inside)
    return s


def unet_shapes(widths, attends, blocks, latent):
    s, base = Shapes(), widths[0]
    embedding = 4 * base
    s.linear("time_embed.0", base, embedding)
    s.linear("time_embed.2", embedding, embedding)
    s.conv("input_blocks.0.0", latent, base)
    inside, number, kept = base, 0, [base]
    for level, width in enumerate(widths):
        for _ in range(blocks):
            number += 1
            s.timed(f"input_blocks.{number}.0", inside, width, embedding)
            if attends[level]:
                s.heads(f"input_blocks.{number}.1", width)
            inside = width
            kept.append(width)
        if level + 1 < len(widths):
            number += 1
            s.conv(f"input_blocks.{number}.0.op", width, width)
            kept.append(width)
    s.timed("middle_block.0", inside, inside, embedding)
    s.heads("middle_block.1", inside)
    s.timed("middle_block.2", inside, inside, embedding)
    number = -1
    for level in reversed(range(len(widths))):
        for block in range(blocks + 1):
            number += 1
            s.timed(f"output_blocks.{number}.0", inside + kept.pop(), widths[level], embedding)
            inside = widths[level]
            if attends[level]:
                s.heads(f"output_blocks.{number}.1", inside)
            if level and block == blocks:
                s.conv(f"output_blocks.{number}.{1 + attends[level]}.conv", inside, inside)
    s.norm("out.0", base)
    s.conv("out.2", base, latent)
    return s


def random_state(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        k: 0.3 * torch.randn(shape, generator=generator) / math.sqrt(max(1, math.prod(shape[1:]) / 9))
        for k, shape in shapes.items()
    }


# -- what they compute, in the original order of operations, from the names alone -----------------------------------


def conv(s, name, x, stride=1, padding=None):
    w = s[f"{name}.weight"]
    return F.conv2d(x, w, s[f"{name}.bias"], stride, w.shape[-1] // 2 if padding is None else padding)


def norm(s, name, x, eps):
    return F.group_norm(x, 32, s[f"{name}.weight"], s[f"{name}.bias"], eps)


def block(s, name, x):
    h = conv(s, f"{name}.conv1", F.silu(norm(s, f"{name}.norm1", x, 1e-6)))
    h = conv(s, f"{name}.conv2", F.silu(norm(s, f"{name}.norm2", h, 1e-6)))
    return h + (conv(s, f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in s else x)


def middle(s, side, h):
    h = block(s, f"{side}.mid.block_1", h)
    n = norm(s, f"{side}.mid.attn_1.norm", h, 1e-6)
    q, k, v = (conv(s, f"{side}.mid.attn_1.{name}", n).flatten(2) for name in "qkv")
    weight = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(-1)
    h = h + conv(s, f"{side}.mid.attn_1.proj_out", (v @ weight.transpose(1, 2)).view_as(h))
    return block(s, f"{side}.mid.block_2", h)


def encoded(s, x, levels, blocks):
    h = conv(s, "encoder.conv_in", x)
    for level in range(levels):
        for number in range(blocks):
            h = block(s, f"encoder.down.{level}.block.{number}", h)
        if level + 1 < levels:
            h = conv(s, f"encoder.down.{level}.downsample.conv", F.pad(h, (0, 1, 0, 1)), stride=2, padding=0)
    h = middle(s, "encoder", h)
    return conv(s, "quant_conv", conv(s, "encoder.conv_out", F.silu(norm(s, "encoder.norm_out", h, 1e-6))))


def quantised(s, z):
    flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    return (
        s["quantize.embedding.weight"][torch.cdist(flat, s["quantize.embedding.weight"]).argmin(1)]
        .view(z.shape[0], *z.shape[2:], -1)
        .permute(0, 3, 1, 2)
    )


def decoded(s, z, levels, blocks):
    h = middle(s, "decoder", conv(s, "decoder.conv_in", conv(s, "post_quant_conv", z)))
    for level in reversed(range(levels)):
        for number in range(blocks + 1):
            h = block(s, f"decoder.up.{level}.block.{number}", h)
        if level:
            h = conv(s, f"decoder.up.{level}.upsample.conv", F.interpolate(h, scale_factor=2.0))
    return conv(s, "decoder.conv_out", F.silu(norm(s, "decoder.norm_out", h, 1e-6)))


def timed(s, name, x, embedding):
    h = conv(s, f"{name}.in_layers.2", F.silu(norm(s, f"{name}.in_layers.0", x, 1e-5)))
    h = h + F.linear(F.silu(embedding), s[f"{name}.emb_layers.1.weight"], s[f"{name}.emb_layers.1.bias"])[:, :, None, None]
    h = conv(s, f"{name}.out_layers.3", F.silu(norm(s, f"{name}.out_layers.0", h, 1e-5)))
    return h + (conv(s, f"{name}.skip_connection", x) if f"{name}.skip_connection.weight" in s else x)


def heads(s, name, x, width=32):
    flat = norm(s, f"{name}.norm", x, 1e-5).flatten(2)
    qkv = F.conv1d(flat, s[f"{name}.qkv.weight"], s[f"{name}.qkv.bias"])
    mixed = []
    for head in qkv.split(3 * width, dim=1):  # each head's query, key and value lie together
        q, k, v = head.split(width, dim=1)
        mixed.append(v @ (q.transpose(1, 2) @ k / math.sqrt(width)).softmax(-1).transpose(1, 2))
    out = F.conv1d(torch.cat(mixed, 1), s[f"{name}.proj_out.weight"], s[f"{name}.proj_out.bias"])
    return x + out.view_as(x)


def layers(s, name, h, embedding):
    h = timed(s, f"{name}.0", h, embedding)
    for number in (1, 2):
        if f"{name}.{number}.qkv.weight" in s:
            h = heads(s, f"{name}.{number}", h)
        if f"{name}.{number}.conv.weight" in s:
            h = conv(s, f"{name}.{number}.conv", F.interpolate(h, scale_factor=2.0))
    return h


def denoised(s, x, time):
    base = s["input_blocks.0.0.weight"].shape[0]
    angle = time[:, None] * torch.exp(-math.log(10000) * torch.arange(base // 2) / (base // 2))
    e = F.linear(torch.cat([angle.cos(), angle.sin()], 1), s["time_embed.0.weight"], s["time_embed.0.bias"])
    e = F.linear(F.silu(e), s["time_embed.2.weight"], s["time_embed.2.bias"])
    h = conv(s, "input_blocks.0.0", x)
    kept, number = [h], 1
    while any(k.startswith(f"input_blocks.{number}.") for k in s):
        down = f"input_blocks.{number}.0.op"
        h = conv(s, down, h, stride=2) if f"{down}.weight" in s else layers(s, f"input_blocks.{number}", h, e)
        kept.append(h)
        number += 1
    h = timed(s, "middle_block.2", heads(s, "middle_block.1", timed(s, "middle_block.0", h, e)), e)
    for number in range(len(kept)):
        h = layers(s, f"output_blocks.{number}", torch.cat([h, kept.pop()], 1), e)
    return conv(s, "out.2", F.silu(norm(s, "out.0", h, 1e-5)))


# -- promises --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "prefix", "network", "parameters"),
    [
        (first_stage_shapes(**VQ), "", first_stage, 55.3),
        (unet_shapes(**UNET), "model.diffusion_model.", lambda: refiner(**UNET, conditions=2), 274.1),
    ],
    ids=["vq-f4", "ffhq-ldm"],
)
def test_the_published_shapes_fit_at_full_size(program, shapes, prefix, network, parameters):
    assert sum(map(math.prod, shapes.values())) / 1e6 == pytest.approx(parameters, abs=0.1)
    state = {prefix + k: torch.empty(shape, device="meta") for k, shape in shapes.items()}
    ((_, (_, own)),) = program.converted(Path("model.ckpt"), state, conditions=2).items()
    with torch.device("meta"):
        wanted = network().state_dict()
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in wanted.items()}


def test_a_converted_first_stage_computes_what_the_original_did(program, tmp_path):
    state = random_state(first_stage_shapes(**SMALL_VQ))
    torch.save({"state_dict": {**state, "loss.discriminator.main.0.weight": torch.zeros(1)}}, tmp_path / "model.ckpt")
    program.main([str(tmp_path / "model.ckpt"), "--out", str(tmp_path)])
    network = load_full(tmp_path / "first_stage.safetensors")
    state = {k: v.half().float() for k, v in state.items()}
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        z = encoded(state, x, 2, 1)
        assert torch.allclose(network.encode(x).latents, z, atol=1e-4 * float(z.abs().max()))
        back = decoded(state, quantised(state, z), 2, 1)
        assert z.shape == (2, 3, 8, 8) and z.std() > 0.05 and back.std() > 0.05
        assert torch.allclose(network.decode(z).sample, back, atol=1e-4 * float(back.abs().max()))


def test_a_converted_denoiser_computes_what_the_original_did_whatever_its_conditions(program, tmp_path):
    shapes = unet_shapes(**SMALL_UNET)
    raw, mean = random_state(shapes), random_state(shapes, seed=1)
    state = {f"model.diffusion_model.{k}": v for k, v in raw.items()}
    state |= {"model_ema.diffusion_model" + k.replace(".", ""): v for k, v in mean.items()}
    state |= {f"first_stage_model.{k}": v for k, v in random_state(first_stage_shapes(**SMALL_VQ)).items()}
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    program.main([str(tmp_path / "model.ckpt"), "--out", str(tmp_path)])
    assert (tmp_path / "first_stage.safetensors").exists()
    network = load_full(tmp_path / "refiner.safetensors")
    x, others = torch.randn(2, 9, 8, 8, generator=torch.Generator().manual_seed(2)).split([3, 6], dim=1)
    time = torch.tensor([3.0, 700.0])
    with torch.no_grad():
        wanted = denoised({k: v.half().float() for k, v in mean.items()}, x, time)
        found = network(torch.cat([x, others], 1), time).sample
    assert wanted.std() > 0.05
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    "extra", ["encoder.down.1.attn.0.q.weight", "decoder.up.1.attn.0.q.weight", "decoder.up.2.upsample.conv.bias"]
)
def test_an_entry_of_the_encoder_or_the_decoder_without_a_place_is_refused(program, extra):
    state = {k: torch.empty(shape, device="meta") for k, shape in first_stage_shapes(**SMALL_VQ).items()}
    state |= {extra: torch.zeros(1), f"{extra}s": torch.zeros(1)}
    with pytest.raises(WeightsError, match=rf"no first_stage .* \(no place for {extra} and 1 more entries\)$"):
        program.converted(Path("model.ckpt"), state, conditions=2)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("label_emb.weight", torch.zeros(10, 128), r"no place for label_emb\.weight"),
        ("input_blocks.9999999.0.x", torch.zeros(1), "number 9999999 of 5"),
        ("input_blocks.1.0.out_layers.3.weight", torch.zeros(()), "no refiner of the published architecture"),
        ("middle_block.1.qkv.weight", torch.zeros(3 * 48, 48, 1), r"48 channels is not of heads of 32; see --head"),
        ("out.2.bias", torch.full((3,), 1e6), r"conv_out\.bias holds values that are not finite in half precision"),
        ("out.2.bias", torch.full((3,), math.nan), "not finite"),
    ],
)
def test_an_odd_entry_of_the_denoiser_is_refused(program, name, value, reason):
    state = random_state(unet_shapes(**SMALL_UNET)) | {name: value}
    state = {f"model.diffusion_model.{k}": v for k, v in state.items()}
    with pytest.raises(WeightsError, match=reason) as refused:
        program.converted(Path("model.ckpt"), state, conditions=2)
    assert "\n" not in str(refused.value)


def test_widths_that_the_group_norms_do_not_take_are_refused(program):
    state = {f"model.diffusion_model.{k}": v for k, v in random_state(unet_shapes(**SMALL_UNET | {"widths": (48, 96)})).items()}
    with pytest.raises(WeightsError, match=r"no refiner .* must be divisible by"):
        program.converted(Path("model.ckpt"), state, conditions=2)


def test_heads_of_another_size_are_taken_as_told(program, tmp_path):
    state = random_state(unet_shapes(**SMALL_UNET))
    torch.save({f"model.diffusion_model.{k}": v for k, v in state.items()}, tmp_path / "model.ckpt")
    program.main([str(tmp_path / "model.ckpt"), "--out", str(tmp_path), "--head", "16"])
    network = load_full(tmp_path / "refiner.safetensors")
    attention = network.mid_block.attentions[0]
    wanted = state["middle_block.1.qkv.weight"].half().float().view(-1, 3, 16, attention.to_q.in_features)
    assert attention.heads == wanted.shape[0]
    assert torch.equal(attention.to_k.weight, wanted[:, 1].flatten(0, 1))


def test_what_is_no_such_model_is_refused_in_one_line(program, tmp_path):
    for state, reason in (
        ({"weight": torch.zeros(1)}, "holds neither"),
        ({"quantize.embedding.weight": torch.zeros(4, 3)}, "no first_stage of the published architecture"),
    ):
        torch.save(state, tmp_path / "model.ckpt")
        with pytest.raises(SystemExit, match=reason) as caught:
            program.main([str(tmp_path / "model.ckpt"), "--out", str(tmp_path / "out")])
        assert "\n" not in str(caught.value.code)
    assert not (tmp_path / "out").exists()
    with pytest.raises(WeightsError, match="not a readable"):
        load_full(tmp_path / "model.ckpt")
