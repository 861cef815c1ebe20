"""The mask that looks: with random networks of the right shapes, and with one that knows a colour."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from videoclr.config import Config
from videoclr.errors import ConfigError, WeightsError
from videoclr.models.occlusion import OcclusionNet
from videoclr.models.parsing import CLASSES, ParseNet
from videoclr.models.weights import write_safetensors
from videoclr.parts import parsing_mask
from videoclr.parts.feather import Feather
from videoclr.parts.parsing_mask import FACE, ParsingMask
from videoclr.pipeline import Pipeline

SIDE = 64


class Greenish(nn.Module):
    """Takes everything for the face that is not green."""

    def forward(self, x):
        return 20 * (0.5 - x[:, 1:2])


class GreenHair(ParseNet):
    """A parser that calls green things hair and all others skin."""

    def __init__(self):
        nn.Module.__init__(self)

    def forward(self, x):
        logits = torch.full((len(x), len(CLASSES), *x.shape[2:]), -20.0)
        logits[:, CLASSES.index("hair")] = 20 * (x[:, 1] - 0.5)
        logits[:, CLASSES.index("skin")] = 20 * (0.5 - x[:, 1])
        return logits


def crops(*pictures):
    return [SimpleNamespace(image=picture) for picture in pictures]


def covered():
    """A grey face whose right half is behind something green."""
    picture = torch.zeros(3, SIDE, SIDE)
    picture[1, :, SIDE // 2 :] = 1.0
    return picture


@pytest.mark.parametrize("network", [Greenish, GreenHair])
def test_what_is_before_the_face_is_left_out_of_the_ellipse(monkeypatch, network):
    monkeypatch.setattr(parsing_mask, "load_network", lambda weights: network())
    made = ParsingMask()
    bare = torch.zeros(3, SIDE, SIDE)
    found = made.mask(crops(bare, covered()), torch.zeros(2, 3, SIDE, SIDE))
    ellipse = Feather().mask([None], torch.zeros(1, 3, SIDE, SIDE))[0]
    assert found.shape == (2, 1, SIDE, SIDE) and found.dtype == torch.float32 and not found.is_inference()
    torch.testing.assert_close(found[0], ellipse, atol=1e-3, rtol=0)
    assert (found <= ellipse + 1e-6).all() and found.min() >= 0
    assert found[1, 0, 34, 40:].max() < 0.02 and found[1, 0, 34, 20] > 0.98
    row = found[1, 0, 34, 16:48]
    assert row.diff().abs().max() < 0.6  # the rim is soft


def test_a_mask_does_not_depend_on_its_batch_or_leave_its_range():
    torch.manual_seed(0)
    made = ParsingMask.__new__(ParsingMask)
    made.feather, made.edge, made.device = Feather(), 0.02, torch.device("cpu")
    made.network, made.side = OcclusionNet().eval(), 32
    nn.init.normal_(made.network.out[1].weight)
    pictures = [torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(n)) * 2 - 1 for n in range(3)]
    together = made.mask(crops(*pictures), torch.zeros(3, 3, SIDE, SIDE))
    alone = [made.mask(crops(one), torch.zeros(1, 3, SIDE, SIDE)) for one in pictures]
    assert torch.equal(together, torch.cat(alone))
    assert together.max() <= 1 and together[:, 0, 32, 32].std() > 0


def parsenet_layout():
    """Names and shapes of facexlib's `parsing_parsenet.pth`, from its published architecture."""

    def conv(name, inside, outside, norm):
        if not norm:
            return {f"{name}.conv2d.weight": (outside, inside, 3, 3), f"{name}.conv2d.bias": (outside,)}
        means = {f"{name}.norm.norm.{part}": (outside,) for part in ("weight", "bias", "running_mean", "running_var")}
        return {f"{name}.conv2d.weight": (outside, inside, 3, 3), f"{name}.norm.norm.num_batches_tracked": (), **means}

    def block(name, inside, outside, shortcut):
        short = conv(f"{name}.shortcut_func", inside, outside, False) if shortcut else {}
        return {**short, **conv(f"{name}.conv1", inside, outside, True), **conv(f"{name}.conv2", outside, outside, True)}

    shapes = conv("encoder.0", 3, 64, False)
    for number, (inside, outside) in enumerate([(64, 128), (128, 256), (256, 256), (256, 256)], 1):
        shapes |= block(f"encoder.{number}", inside, outside, True)
    for number in range(10):
        shapes |= block(f"body.{number}", 256, 256, False)
    for number, (inside, outside) in enumerate([(256, 256), (256, 256), (256, 128), (128, 64)]):
        shapes |= block(f"decoder.{number}", inside, outside, True)
    return {**shapes, **conv("out_img_conv", 64, 3, False), **conv("out_mask_conv", 64, 19, False)}


def test_the_published_parser_has_these_names_and_shapes():
    with torch.device("meta"):
        own = {name: tuple(value.shape) for name, value in ParseNet().state_dict().items()}
    assert own == parsenet_layout()
    assert sum(int(np.prod(s)) for n, s in own.items() if "running" not in n and "tracked" not in n) == 21_303_254


def test_a_file_of_the_parser_is_recognised_by_its_tensors(tmp_path, monkeypatch):
    torch.manual_seed(0)
    small = ParseNet((8, 8, 12), depth=1)
    monkeypatch.setattr(parsing_mask, "ParseNet", lambda: ParseNet((8, 8, 12), depth=1))
    path = tmp_path / "parsing_parsenet.pth"
    torch.save(small.state_dict(), path)
    loaded = parsing_mask.load_network(str(path)).eval()
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(x), small.eval()(x)) and loaded(x).shape == (1, 19, 32, 32)
    assert [CLASSES[n] for n in FACE] == list(parsing_mask._REPAINTED) and CLASSES.index("hair") not in FACE


def test_weights_that_are_not_there_or_of_something_else_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOCLR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"parsing_parsenet\.pth.*no such file, nor one of embedded"):
        ParsingMask(weights="parsing_parsenet.pth")
    torch.save({"some.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"is neither of pipelines/train_occlusion\.py nor facexlib's"):
        ParsingMask(weights=str(tmp_path / "other.pth"))
    state = OcclusionNet().state_dict()
    write_safetensors(tmp_path / "cut.safetensors", dict(list(state.items())[:-1]), {})
    with pytest.raises(WeightsError, match="does not fit OcclusionNet"):
        ParsingMask(weights=str(tmp_path / "cut.safetensors"))


def test_the_setting_reaches_the_part(tmp_path):
    state = OcclusionNet().state_dict()
    write_safetensors(tmp_path / "own.safetensors", state, {})
    config = Config.of({"blend": {"use": "parsing", "options": {"weights": str(tmp_path / "own.safetensors"), "edge": 0.03}}})
    others = {"make_tracker": object, **dict.fromkeys(("detector", "recognizer", "restorer", "judge"))}
    made = Pipeline(config, **others).masker
    assert isinstance(made, ParsingMask) and made.edge == 0.03
    with pytest.raises(ConfigError, match=r"blend\.options.*edge must be in"):
        Pipeline(config.override("blend.options={edge: 0}"), **others)


def test_the_occlusion_network_looks_at_any_size():
    network = OcclusionNet().eval()
    assert sum(p.numel() for p in network.parameters()) * 2 < 1_000_000  # bytes in half precision
    for side in (31, 64, 100):
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 1, side, side)
