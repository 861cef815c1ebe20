"""The detector's network: public names, exact codes, anchors that fit the maps."""

from __future__ import annotations

import pytest
import torch

from videoclr.models.detector import (
    PREPROCESSING,
    RetinaFace,
    anchors,
    body_of,
    decode_boxes,
    decode_points,
    encode_boxes,
    encode_points,
    fold_batch_norm,
)

PUBLIC_SMALL = {
    "body.stage1.0.0.weight": (8, 3, 3, 3),
    "body.stage1.1.0.weight": (8, 1, 3, 3),
    "body.stage1.5.3.weight": (64, 64, 1, 1),
    "body.stage2.5.4.running_var": (128,),
    "body.stage3.0.3.weight": (256, 128, 1, 1),
    "fpn.output3.0.weight": (64, 256, 1, 1),
    "fpn.merge2.1.bias": (64,),
    "ssh1.conv5X5_1.0.weight": (16, 64, 3, 3),
    "ssh3.conv7x7_3.1.running_mean": (16,),
    "ClassHead.0.conv1x1.weight": (4, 64, 1, 1),
    "BboxHead.1.conv1x1.bias": (8,),
    "LandmarkHead.2.conv1x1.weight": (20, 64, 1, 1),
}
PUBLIC_LARGE = {
    "body.conv1.weight": (64, 3, 7, 7),
    "body.bn1.running_mean": (64,),
    "body.layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "body.layer3.5.conv2.weight": (256, 256, 3, 3),
    "body.layer4.2.bn3.weight": (2048,),
    "fpn.output3.0.weight": (256, 2048, 1, 1),
    "ssh2.conv7X7_2.0.weight": (64, 64, 3, 3),
    "LandmarkHead.0.conv1x1.weight": (20, 256, 1, 1),
}


@pytest.mark.parametrize(
    ("body", "public", "entries", "parameters"),
    [("mobilenet0.25", PUBLIC_SMALL, 300, 426_608), ("resnet50", PUBLIC_LARGE, 456, 27_293_600)],
)
def test_state_dict_has_the_public_names_and_shapes(body, public, entries, parameters):
    network = RetinaFace(body)
    state = network.state_dict()
    assert {name: tuple(state[name].shape) for name in public} == public
    assert len(state) == entries
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert body_of(state) == body


def test_foreign_state_dict_has_no_body():
    assert body_of({"conv.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 47), (100, 180), (5, 3)])
def test_every_output_row_has_its_anchor(height, width):
    with torch.inference_mode():
        boxes, logits, points = RetinaFace().eval()(torch.zeros(2, 3, height, width))
    count = len(anchors(height, width))
    assert boxes.shape == (2, count, 4)
    assert logits.shape == (2, count, 2)
    assert points.shape == (2, count, 10)


def test_anchors_go_row_by_row_two_sizes_to_a_cell():
    first = anchors(64, 128)
    assert first[:3].tolist() == [[4, 4, 16], [4, 4, 32], [12, 4, 16]]
    assert len(first) == 2 * (8 * 16 + 4 * 8 + 2 * 4)
    assert first[-1].tolist() == [112, 48, 512]


def test_decoding_undoes_encoding():
    generator = torch.Generator().manual_seed(0)
    priors = anchors(64, 64)
    corner = 50 * torch.rand(len(priors), 2, generator=generator)
    boxes = torch.cat([corner, corner + 5 + 100 * torch.rand(len(priors), 2, generator=generator)], 1)
    points = 200 * torch.rand(len(priors), 5, 2, generator=generator) - 50
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, priors), priors), boxes, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(decode_points(encode_points(points, priors), priors), points, atol=1e-3, rtol=1e-4)


def test_an_untouched_code_is_the_anchor_itself():
    priors = torch.tensor([[20.0, 30.0, 16.0]])
    assert decode_boxes(torch.zeros(1, 4), priors).tolist() == [[12, 22, 28, 38]]
    assert decode_points(torch.zeros(1, 10), priors)[0].tolist() == [[20, 30]] * 5


def test_folding_the_norms_changes_no_output():
    torch.manual_seed(1)
    network = RetinaFace()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    network.eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        before = network(images)
        after = fold_batch_norm(network)(images)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_gradients_reach_every_parameter():
    network = RetinaFace()
    sum(output.square().sum() for output in network(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("kind", sorted(PREPROCESSING))
def test_padding_is_what_preprocessing_calls_zero(kind):
    preprocessing = PREPROCESSING[kind]
    pixels = torch.tensor(preprocessing.padding).view(1, 3, 1, 1)
    assert preprocessing(pixels).abs().max() == 0


def test_public_preprocessing_puts_blue_first():
    red = torch.tensor([255.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert PREPROCESSING["bgr-mean"](red).flatten().tolist() == [-104, -117, 255 - 123]
    assert PREPROCESSING["rgb-unit"](red).flatten().tolist() == [1, -1, -1]
