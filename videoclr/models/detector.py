"""RetinaFace: a single-shot face detector with five landmarks.

Source: Deng et al., "RetinaFace: Single-shot Multi-level Face Localisation in the Wild", CVPR 2020; the anchors and the
layer names are those of the widespread PyTorch port (biubug6/Pytorch_Retinaface, MIT; also in facexlib), so that its
published weights load. The modules here were written anew.

Boxes are `(x0, y0, x1, y1)`, points `(x, y)`, both in pixels of the network's input with the origin at the centre of
the top-left pixel. Networks see `(N, 3, H, W)`; which colours and range depends on the weights: `PREPROCESSING`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Body = Literal["mobilenet0.25", "resnet50"]

STRIDES = (8, 16, 32)
"""Pixels between neighbouring anchors, one number per level of the pyramid."""
ANCHOR_SIZES = ((16, 32), (64, 128), (256, 512))
"""Sides of the square anchors in pixels, per level."""
VARIANCES = (0.1, 0.2)
"""Scale of the encoded centre (and landmark) offsets, and of the encoded logarithm of the size."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How 8-bit pixels become the network's input: `(pixel - mean) / scale`, channels in `order`."""

    order: Literal["rgb", "bgr"]
    """Order of the input's channels."""
    mean: tuple[float, float, float]
    """Subtracted, in `order`, on a scale of 0..255."""
    scale: float
    """Divided by."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """`(N, 3, H, W)` RGB float in 0..255 -> the network's input of the same shape."""
        mean = torch.tensor(self.mean, dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1)
        ordered = pixels.flip(1) if self.order == "bgr" else pixels
        return (ordered - mean) / self.scale

    @property
    def padding(self) -> tuple[float, float, float]:
        """RGB in 0..255 of the pixel that this preprocessing maps to zero."""
        first, second, third = self.mean
        return (third, second, first) if self.order == "bgr" else self.mean


PREPROCESSING: Mapping[str, Preprocessing] = {
    "rgb-unit": Preprocessing("rgb", (127.5, 127.5, 127.5), 127.5),
    "bgr-mean": Preprocessing("bgr", (104.0, 117.0, 123.0), 1.0),
}
"""Kinds of preprocessing by the name that stands in a weights file: ours, and the one of the public weights."""


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, leak: float | None = 0.0) -> nn.Sequential:
    """Convolution and batch norm, then a (leaky) ReLU unless `leak` is None."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if leak is not None:
        layers.append(nn.LeakyReLU(leak, inplace=True))
    return nn.Sequential(*layers)


def conv_separable(inputs: int, outputs: int, stride: int = 1, leak: float = 0.1) -> nn.Sequential:
    """Depthwise 3x3 then pointwise 1x1, each with batch norm and leaky ReLU, in one flat sequence."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.LeakyReLU(leak, inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(leak, inplace=True),
    )


class MobileNetBody(nn.Module):
    """MobileNet v1 of width 0.25 without its head: maps of 64, 128, 256 channels at strides 8, 16, 32."""

    channels = (64, 128, 256)

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            conv_bn(3, 8, stride=2, leak=0.1),
            conv_separable(8, 16),
            conv_separable(16, 32, 2),
            conv_separable(32, 32),
            conv_separable(32, 64, 2),
            conv_separable(64, 64),
        )
        self.stage2 = nn.Sequential(conv_separable(64, 128, 2), *(conv_separable(128, 128) for _ in range(5)))
        self.stage3 = nn.Sequential(conv_separable(128, 256, 2), conv_separable(256, 256))

    def forward(self, images: Tensor) -> list[Tensor]:
        """`(N, 3, H, W)` -> three maps, finest first."""
        fine = self.stage1(images)
        middle = self.stage2(fine)
        return [fine, middle, self.stage3(middle)]


class Bottleneck(nn.Module):
    """Residual block of ResNet-50: 1x1, 3x3 (strided), 1x1 with four times the width."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` -> `(N, 4 * width, H / stride, W / stride)`."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNetBody(nn.Module):
    """ResNet-50 (He et al. 2016) without its head: maps of 512, 1024, 2048 channels at strides 8, 16, 32."""

    channels = (512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(64, 64, 3, 1)
        self.layer2 = self._stage(256, 128, 4, 2)
        self.layer3 = self._stage(512, 256, 6, 2)
        self.layer4 = self._stage(1024, 512, 3, 2)

    @staticmethod
    def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        rest = (Bottleneck(4 * width, width, 1) for _ in range(blocks - 1))
        return nn.Sequential(Bottleneck(inputs, width, stride), *rest)

    def forward(self, images: Tensor) -> list[Tensor]:
        """`(N, 3, H, W)` -> three maps, finest first."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        fine = self.layer2(self.layer1(x))
        middle = self.layer3(fine)
        return [fine, middle, self.layer4(middle)]


class FeaturePyramid(nn.Module):
    """Brings three maps to the same width and adds coarse ones to finer ones (Lin et al. 2017)."""

    def __init__(self, inputs: tuple[int, int, int], width: int) -> None:
        super().__init__()
        leak = 0.1 if width <= 64 else 0.0
        self.output1 = conv_bn(inputs[0], width, 1, leak=leak)
        self.output2 = conv_bn(inputs[1], width, 1, leak=leak)
        self.output3 = conv_bn(inputs[2], width, 1, leak=leak)
        self.merge1 = conv_bn(width, width, leak=leak)
        self.merge2 = conv_bn(width, width, leak=leak)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Three maps, finest first -> three maps of `width` channels and the same sizes."""
        fine, middle, coarse = self.output1(maps[0]), self.output2(maps[1]), self.output3(maps[2])
        middle = self.merge2(middle + F.interpolate(coarse, size=middle.shape[2:], mode="nearest"))
        fine = self.merge1(fine + F.interpolate(middle, size=fine.shape[2:], mode="nearest"))
        return [fine, middle, coarse]


class ContextModule(nn.Module):
    """The context block of SSH (Najibi et al. 2017): 3x3, 5x5 and 7x7 views from stacked 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        leak = 0.1 if outputs <= 64 else 0.0
        half, quarter = outputs // 2, outputs // 4
        self.conv3X3 = conv_bn(inputs, half, leak=None)
        self.conv5X5_1 = conv_bn(inputs, quarter, leak=leak)
        self.conv5X5_2 = conv_bn(quarter, quarter, leak=None)
        self.conv7X7_2 = conv_bn(quarter, quarter, leak=leak)
        self.conv7x7_3 = conv_bn(quarter, quarter, leak=None)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, H, W)` -> `(N, outputs, H, W)`."""
        narrow = self.conv5X5_1(x)
        views = [self.conv3X3(x), self.conv5X5_2(narrow), self.conv7x7_3(self.conv7X7_2(narrow))]
        return F.relu(torch.cat(views, 1))


class Head(nn.Module):
    """A 1x1 convolution whose channels are read as `values` numbers for each of two anchors per cell."""

    def __init__(self, inputs: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(inputs, 2 * values, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` -> `(N, H * W * 2, values)`."""
        values: Tensor = self.conv1x1(x)
        return values.permute(0, 2, 3, 1).reshape(len(x), -1, self.values)


class RetinaFace(nn.Module):
    """The network. State-dict names are those of Pytorch_Retinaface and facexlib.

    Args:
        body: `mobilenet0.25` (0.43 M parameters) or `resnet50` (27 M).
    """

    def __init__(self, body: Body = "mobilenet0.25") -> None:
        super().__init__()
        small = body == "mobilenet0.25"
        width = 64 if small else 256
        self.body: MobileNetBody | ResNetBody = MobileNetBody() if small else ResNetBody()
        self.fpn = FeaturePyramid(self.body.channels, width)
        self.ssh1, self.ssh2, self.ssh3 = (ContextModule(width, width) for _ in STRIDES)
        self.ClassHead = nn.ModuleList(Head(width, 2) for _ in STRIDES)
        self.BboxHead = nn.ModuleList(Head(width, 4) for _ in STRIDES)
        self.LandmarkHead = nn.ModuleList(Head(width, 10) for _ in STRIDES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Preprocessed `(N, 3, H, W)` -> encoded boxes `(N, A, 4)`, class logits `(N, A, 2)`, points `(N, A, 10)`.

        A counts the anchors of `anchors(H, W)`, in the same order; class 1 is "face".
        """
        maps = self.fpn(self.body(images))
        maps = [context(x) for context, x in zip((self.ssh1, self.ssh2, self.ssh3), maps, strict=True)]
        boxes, logits, points = (
            torch.cat([head(x) for head, x in zip(heads, maps, strict=True)], 1)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        )
        return boxes, logits, points


def anchors(height: int, width: int) -> Tensor:
    """Anchors of an input of `height` x `width` pixels: `(A, 3)` float32 centre x, centre y, side, in pixels."""
    levels = []
    for stride, sizes in zip(STRIDES, ANCHOR_SIZES, strict=True):
        # Centres lie at (i + 1/2) strides measured from the picture's corner, which is half a pixel before the
        # centre of the top-left pixel. The public weights were trained without that half pixel; it is 1/32 of
        # the smallest anchor and cancels in what the heads learn.
        ys = (torch.arange(math.ceil(height / stride), dtype=torch.float32, device="cpu") + 0.5) * stride
        xs = (torch.arange(math.ceil(width / stride), dtype=torch.float32, device="cpu") + 0.5) * stride
        y, x, side = torch.meshgrid(ys, xs, torch.tensor(sizes, dtype=torch.float32, device="cpu"), indexing="ij")
        levels.append(torch.stack([x, y, side], -1).reshape(-1, 3))
    return torch.cat(levels)


def decode_boxes(encoded: Tensor, priors: Tensor) -> Tensor:
    """Encoded boxes `(..., A, 4)` and `anchors` `(A, 3)` -> x0, y0, x1, y1 in pixels `(..., A, 4)`."""
    side = priors[:, 2:]
    centre = priors[:, :2] + encoded[..., :2] * VARIANCES[0] * side
    half = side * torch.exp(encoded[..., 2:] * VARIANCES[1]) / 2
    return torch.cat([centre - half, centre + half], -1)


def encode_boxes(boxes: Tensor, priors: Tensor) -> Tensor:
    """The inverse of `decode_boxes`: `(A, 4)` pixels, one box per anchor -> `(A, 4)`."""
    side = priors[:, 2:]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    return torch.cat([(centre - priors[:, :2]) / (VARIANCES[0] * side), torch.log(size / side) / VARIANCES[1]], -1)


def decode_points(encoded: Tensor, priors: Tensor) -> Tensor:
    """Encoded points `(..., A, 10)` and `anchors` `(A, 3)` -> `(..., A, 5, 2)` pixels."""
    offsets = encoded.reshape(*encoded.shape[:-1], 5, 2)
    return priors[:, None, :2] + offsets * VARIANCES[0] * priors[:, None, 2:]


def encode_points(points: Tensor, priors: Tensor) -> Tensor:
    """The inverse of `decode_points`: `(A, 5, 2)` pixels, one face per anchor -> `(A, 10)`."""
    return ((points - priors[:, None, :2]) / (VARIANCES[0] * priors[:, None, 2:])).flatten(-2)


def body_of(state: Mapping[str, Tensor]) -> Body | None:
    """Which body a state dict belongs to, or None if it is no RetinaFace."""
    if "body.stage1.0.0.weight" in state:
        return "mobilenet0.25"
    return "resnet50" if "body.layer1.0.conv1.weight" in state else None


def fold_batch_norm(network: RetinaFace) -> RetinaFace:
    """Merge the batch norms of `network`, which must be in `eval` mode, into the convolutions before them, in place.

    The outputs stay the same up to rounding.
    """
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for place in range(len(module) - 1):
            conv, norm = module[place], module[place + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[place], module[place + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return network
