"""Losses, and the frozen networks that some of them look through.

Loss networks come from files that the user names (`--perceptual`, `--teacher`); nothing of them ships. No network that scores
the benchmark is ever used here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.models.recognizer import face_input
from videoclr.models.weights import fit, read_state


def unlike(maps: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """`(N,)`: sum over maps of the mean squared difference of channel-normalised features (after Zhang et al. 2018)."""
    return torch.stack(
        [
            (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).pow(2).sum(1).mean((1, 2))
            for a, b in zip(maps, others, strict=True)
        ]
    ).sum(0)


class _Fire(nn.Module):
    def __init__(self, inside: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.s = nn.Conv2d(inside, squeeze, 1)
        self.e1 = nn.Conv2d(squeeze, expand, 1)
        self.e3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.s(x))
        return torch.cat([F.relu(self.e1(x)), F.relu(self.e3(x))], 1)


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


class Perceptual(nn.Module):
    """Distance in the features of SqueezeNet 1.0 (Iandola et al. 2016), unit-normalised per position (after Zhang et al. 2018).

    Args:
        path: a state dict with the keys `conv1.*` and `fireN.{s,e1,e3}.*`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, 2)
        inside = 96
        for number, (squeeze, expand) in enumerate(
            zip((16, 16, 32, 32, 48, 48, 64, 64), (64, 64, 128, 128, 192, 192, 256, 256), strict=True), 2
        ):
            setattr(self, f"fire{number}", _Fire(inside, squeeze, expand))
            inside = 2 * expand
        fit(self, {k: v for k, v in read_state(path).items() if k.startswith(("conv1.", "fire"))}, path)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def features(self, x: Tensor) -> list[Tensor]:
        """`(N, 3, H, W)` in [-1, 1] -> five maps."""
        fire: Any = self.get_submodule
        out = [F.relu(self.conv1(((x + 1) / 2 - self.mean) / self.std))]
        out.append(fire("fire3")(fire("fire2")(_pool(out[-1]))))
        out.append(fire("fire5")(_pool(fire("fire4")(out[-1]))))
        out.append(fire("fire7")(fire("fire6")(out[-1])))
        out.append(fire("fire9")(_pool(fire("fire8")(out[-1]))))
        return out

    def forward(self, x: Tensor, clean: Tensor) -> Tensor:
        """`(N,)`: sum over maps of the mean squared difference of channel-normalised features."""
        with torch.no_grad():
            target = self.features(clean)
        return unlike(self.features(x), target)


class _Inverted(nn.Module):
    def __init__(self, inside: int, hidden: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            self._unit(inside, hidden, 1, 1, 1),
            self._unit(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.skip = stride == 1 and inside == outside

    @staticmethod
    def _unit(inside: int, outside: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
        convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU6())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.skip else out


class TeacherRecognizer(nn.Module):
    """MobileFaceNet (Chen et al. 2018) from a state dict that the user names: the target that our recogniser is distilled from.

    `(N, 3, 112, 112)` ArcFace crops in [-1, 1] -> `(N, 128)` unit vectors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU6())
        self.dw_conv: Any = nn.ModuleDict(
            {
                "depthwise": nn.Conv2d(64, 64, 3, 1, 1, groups=64, bias=False),
                "pointwise": nn.Conv2d(64, 64, 1, bias=False),
                "bn1": nn.BatchNorm2d(64),
                "bn2": nn.BatchNorm2d(64),
            }
        )
        shapes = (
            [(64, 2, 64, 2)]
            + [(64, 2, 64, 1)] * 4
            + [(64, 4, 128, 2)]
            + [(128, 2, 128, 1)] * 6
            + [(128, 4, 128, 2)]
            + [(128, 2, 128, 1)] * 2
        )
        self.features = nn.Sequential(*(_Inverted(i, i * t, o, s) for i, t, o, s in shapes))
        self.conv2 = nn.Sequential(nn.Conv2d(128, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU6())
        self.gdconv: Any = nn.ModuleDict({"depthwise": nn.Conv2d(512, 512, 7, groups=512, bias=False), "bn": nn.BatchNorm2d(512)})
        self.conv3 = nn.Conv2d(512, 128, 1)
        self.bn = nn.BatchNorm1d(128)
        fit(self, read_state(path), path)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, faces: Tensor) -> Tensor:
        """Embed ArcFace crops."""
        return self.look(faces)[0]

    def look(self, faces: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embed ArcFace crops, and show what was seen on the way: four maps, of 56, 28, 14 and 7 px for a crop of 112."""
        x = self.conv1(((faces + 1) / 2 - self.mean) / self.std)
        x = F.relu(self.dw_conv["bn1"](self.dw_conv["depthwise"](x)))
        x = F.relu(self.dw_conv["bn2"](self.dw_conv["pointwise"](x)))
        seen = [x]
        for number, block in enumerate(self.features):
            x = block(x)
            if number in (4, 11, 14):
                seen.append(x)
        x = self.gdconv["bn"](self.gdconv["depthwise"](self.conv2(x)))
        return F.normalize(self.bn(self.conv3(x).flatten(1)).float(), dim=1), seen


def arcface(embeddings: Tensor, centres: Tensor, labels: Tensor, margin: float = 0.3, scale: float = 32.0) -> Tensor:
    """Additive angular margin loss (Deng et al. 2019, equation 3).

    Args:
        embeddings: `(N, D)` unit vectors.
        centres: `(K, D)`, one learned vector per identity.
        labels: `(N,)` int64 in [0, K).
        margin: added to the angle between an embedding and its own centre, radians.
        scale: of the cosines, before the soft-max.

    Returns:
        the scalar mean over the batch.
    """
    cosine = F.linear(embeddings, F.normalize(centres, dim=1)).clamp(-1 + 1e-6, 1 - 1e-6)
    target = torch.cos(torch.acos(cosine.gather(1, labels[:, None])) + margin)
    return F.cross_entropy(scale * cosine.scatter(1, labels[:, None], target), labels)


class FeatureDiscriminator(nn.Module):
    """Tells clean from restored by the maps of a frozen network (projected GAN, Sauer et al. 2021): small heads, few pictures.

    A discriminator of pixels with spectral normalisation hardly sees what a soft picture lacks, because that is small in pixels;
    in features of unit size it is not.

    Args:
        perceptual: the frozen network; it is no part of this module's state.
        widths: channels of the maps that are looked at, from the first on.
    """

    sizes: Tensor

    def __init__(self, perceptual: Perceptual, widths: tuple[int, ...] = (96, 128, 256, 384), width: int = 64) -> None:
        super().__init__()
        self._perceptual = (perceptual,)  # in a tuple: not to be found by `parameters` and `state_dict`
        norm = nn.utils.parametrizations.spectral_norm
        self.heads = nn.ModuleList(
            nn.Sequential(
                norm(nn.Conv2d(inside, width, 1)),
                nn.LeakyReLU(0.2),
                norm(nn.Conv2d(width, width, 3, padding=1)),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 1, 1),
            )
            for inside in widths
        )
        self.register_buffer("sizes", torch.ones(len(widths)))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, S, S)` in [-1, 1] -> `(N, K)` logits of all places of all maps: positive for clean."""
        maps = self._perceptual[0].features(x)[: len(self.heads)]
        said = []
        for k, (head, seen) in enumerate(zip(self.heads, maps, strict=True)):
            if self.training:
                with torch.no_grad():
                    self.sizes[k].lerp_(seen.float().pow(2).mean().sqrt(), 0.02 if self.sizes[k] != 1 else 1.0)
            said.append(head(seen / self.sizes[k].clone()).flatten(1))
        return torch.cat(said, dim=1)


def hinge_discriminator(clean: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of a discriminator's logits, of any shape (Lim and Ye 2017): a scalar."""
    return F.relu(1 - clean).mean() + F.relu(1 + fake).mean()


def adversarial_losses(discriminator: nn.Module, clean: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The discriminator's hinge loss, and the generator's: two scalars, neither with gradients for the other's weights.

    Args:
        discriminator: `(N, 3, S, S)` in [-1, 1] -> logits of any shape.
        clean, fake: `(N, 3, S, S)`; `fake` carries the generator's gradients.
    """
    discriminator.requires_grad_(False)
    fooled = -discriminator(fake).float().mean()
    discriminator.requires_grad_(True)
    return hinge_discriminator(discriminator(clean).float(), discriminator(fake.detach()).float()), fooled


def fidelity_loss(
    restored: Tensor,
    clean: Tensor,
    weights: dict[str, Any],
    perceptual: nn.Module | None = None,
    identity: nn.Module | None = None,
    roll: tuple[int, int] = (0, 0),
) -> tuple[Tensor, dict[str, Tensor]]:
    """L1, and by `weights` the gradients, the perceptual distance and that of the identity.

    Args:
        restored, clean: `(N, 3, S, S)` in [-1, 1], aligned as FFHQ.
        weights: factors `pixel` (1 without it), `gradient` (0 without it), `perceptual`, `identity` and `face` (0 without it);
            `features`: how much more than another pixel one of the eyes and the mouth counts (0 without it).
        perceptual, identity: the networks to look through; None leaves their term out.
        roll: px down and to the right by which the pictures are rolled before `perceptual` looks: its strides are a grid, and
            where that always lies alike, a faint weave on it passes for texture.

    Returns:
        the scalar loss, and its terms without their factors: `l1`, `perceptual`, `identity`, `face`: what a teacher of faces sees
        on the way to the identity, which a recogniser of our own is not asked for.
    """
    wrong = (restored.float() - clean).abs()
    pixel = wrong.mean()
    counted = (wrong * feature_weights(wrong, weights["features"])).mean() if weights.get("features") else pixel
    loss, terms = weights.get("pixel", 1.0) * counted, {"l1": pixel}
    if weights.get("gradient"):
        loss = loss + weights["gradient"] * gradient_l1(restored.float(), clean)
    if perceptual is not None:
        terms["perceptual"] = perceptual(*(torch.roll(x, roll, (2, 3)) if any(roll) else x for x in (restored, clean))).mean()
        loss = loss + weights["perceptual"] * terms["perceptual"]
    if identity is not None:
        look = identity.look if isinstance(identity, TeacherRecognizer) else lambda faces: (identity(faces), [])
        with torch.no_grad():
            target, maps = look(face_input(clean))
        found, seen = look(face_input(restored.float()))
        terms["identity"] = (1 - (found * target).sum(1)).mean()
        loss = loss + weights["identity"] * terms["identity"]
        if weights.get("face") and maps:
            terms["face"] = unlike(seen, maps).mean()
            loss = loss + weights["face"] * terms["face"]
    return loss, terms


_FEATURES = ((0.385, 0.47, 0.06, 0.04), (0.615, 0.47, 0.06, 0.04), (0.5, 0.71, 0.09, 0.045))
"""Eyes and mouth in an FFHQ-aligned crop: x, y and their standard deviations, in sides."""


def feature_weights(like: Tensor, more: float) -> Tensor:
    """`(1, 1, H, W)` of mean 1: eyes and mouth weigh `1 + more` times what the rest does.

    They are few pixels, and the first that a viewer looks at (after the facial component loss of Wang et al. 2021, GFPGAN, section
    3.4, without its discriminators).
    """
    height, width = like.shape[2:]
    y, x = ((torch.arange(side, device=like.device) + 0.5) / side for side in (height, width))
    bumps = [torch.outer((-0.5 * ((y - b) / v) ** 2).exp(), (-0.5 * ((x - a) / u) ** 2).exp()) for a, b, u, v in _FEATURES]
    weight = 1 + more * torch.stack(bumps).amax(0)
    return (weight / weight.mean())[None, None]


def unevenness(network: Callable[[Tensor], Tensor], y: Tensor, restored: Tensor, generator: torch.Generator) -> Tensor:
    """How much a restoration depends on where the network's grid lies: L1 to the restoration of the input shifted by whole pixels.

    What differs is no detail of the face: it would show as a weave on skin and hair, and crawl over a face that moves.

    Args:
        network: `(N, 3, S, S)` -> the same.
        y, restored: the input and what the network made of it.
        generator: of the shift, on the CPU.
    """
    side, (down, right) = y.shape[-1], torch.randint(-_MOST, _MOST + 1, (2,), generator=generator).tolist()
    frame = F.pad(y, (_MOST,) * 4, mode="reflect")
    moved = network(frame[..., _MOST - down : _MOST - down + side, _MOST - right : _MOST - right + side])
    low, high = 2 * _MOST, side - 2 * _MOST
    there = moved[..., low + down : high + down, low + right : high + right]
    return (restored[..., low:high, low:high].float() - there.float()).abs().mean()


_MOST = 8
"""Pixels of the largest shift of `unevenness`; twice as many at the border are not looked at."""


def recovery_loss(
    irn: Callable[[Tensor], Tensor],
    pair: tuple[Tensor, Tensor],
    weights: dict[str, Any],
    networks: tuple[nn.Module | None, nn.Module | None],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The loss of the Identity Recovery Network on stills.

    Args:
        irn: the network.
        pair: clean and degraded `(N, 3, S, S)` in [-1, 1].
        weights: of `fidelity_loss`; `even`: of `unevenness` (0 without it), which `even_share` of the pictures are asked for.
        networks: to look through, perceptual and identity, or None.
        generator: of the shifts, on the CPU.

    Returns:
        the restored pictures, the scalar loss and its terms.
    """
    clean, worse = pair
    restored = irn(worse)
    down, right = torch.randint(_GRID, (2,), generator=generator).tolist()
    loss, terms = fidelity_loss(restored, clean, weights, *networks, roll=(down, right))
    if weights.get("even"):
        few = max(1, round(weights["even_share"] * len(worse)))
        terms["uneven"] = unevenness(irn, worse[:few], restored[:few], generator)
        loss = loss + weights["even"] * terms["uneven"]
    return restored, loss, terms


_GRID = 16
"""Pixels: what the strides of the perceptual network come to."""


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor, most: float = 1.0) -> Tensor:
    """Weight of the adversarial loss that balances both gradients at the decoder's last layer (Esser et al. 2021, equation 7).

    Args:
        reconstruction, adversarial: scalar losses of one graph, which is kept.
        last_layer: the weights at which the gradients are compared.
        most: upper bound of the weight.

    Returns:
        a scalar without gradient.
    """
    first = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)[0].norm()
    second = torch.autograd.grad(adversarial, last_layer, retain_graph=True)[0].norm()
    weight: Tensor = (first / (second + 1e-4)).clamp(0, most).detach()
    return weight


def gradient_l1(a: Tensor, b: Tensor) -> Tensor:
    """L1 distance of the horizontal and vertical gradients of two `(N, C, H, W)` pictures, a scalar: L1 alone blurs edges."""
    total = a.new_zeros(())
    for dim in (2, 3):
        total = total + (a.diff(dim=dim) - b.diff(dim=dim)).abs().mean()
    return total / 2


def warped(values: Tensor, flow: Tensor) -> Tensor:
    """What belongs to the second frame, in its place in the first: `result[p] = values[p + flow[p]]`, bilinear.

    Args:
        values: `(N, C, h, w)`, on any grid of the square that the flow is of.
        flow: `(N, 2, S, S)` pixels x, y of a grid of S, as `videoclr.geometry.flow`.
    """
    height, width = values.shape[2:]
    share = flow * flow.new_tensor([2 / flow.shape[3], 2 / flow.shape[2]]).view(1, 2, 1, 1)
    share = F.interpolate(share, size=(height, width), mode="area").permute(0, 2, 3, 1)
    return F.grid_sample(values, _grid(values, height, width) + share.to(values), padding_mode="border", align_corners=False)


def _grid(like: Tensor, height: int, width: int) -> Tensor:
    y, x = ((torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) * 2 / side - 1 for side in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]


def unsteadiness(restored: Tensor, clean: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """How much of the error of two frames does not move with the face: L1 of `e_1 - warp(e_2)` where both frames show the same.

    Blur is no way out of it, as it would be of a loss on the restored frames alone: what the clean frames change in, light and
    what comes into view, must change. An error that stays on the face costs nothing here; fidelity losses are for that.

    Args:
        restored, clean: `(2 N, C, h, w)`, the first frames and then the second ones: pictures, or latents of a coarser grid.
        flow: `(N, 2, S, S)` pixels, from the first to the second frame.
        visible: `(N, 1, S, S)` in {0, 1}.
    """
    first, second = (restored.float() - clean.float()).chunk(2)
    weight = visible if visible.shape[2:] == first.shape[2:] else F.interpolate(visible, size=first.shape[2:], mode="area")
    difference = (first - warped(second, flow)).abs() * weight
    return difference.sum() / (weight.sum() * first.shape[1]).clamp(min=1)
