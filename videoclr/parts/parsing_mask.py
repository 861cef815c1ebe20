"""The mask that looks: the soft ellipse of `feather`, without what hides the face, hair and background.

    videoclr in.mp4 out.mp4 --set blend.use=parsing
    videoclr in.mp4 out.mp4 --set blend.use=parsing --set blend.options.weights=parsing_parsenet.pth

Two networks can look. The embedded one (`videoclr/models/occlusion.py`) is small, and was trained by this project on what its own
code pasted before faces. ParseNet, whose weights facexlib publishes, is large (85 MB), trained on CelebAMask-HQ (non-commercial)
and never fetched: name its file, or the name that `videoclr weights add` was given.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclr.errors import WeightsError
from videoclr.light import usual
from videoclr.models import occlusion, parsing, store
from videoclr.models.occlusion import OcclusionNet
from videoclr.models.parsing import CLASSES, ParseNet
from videoclr.models.weights import fit, load_embedded, read_state
from videoclr.parts.feather import CENTER, RADII, SOFTNESS, Feather
from videoclr.types import FaceCrop

_REPAINTED = ("skin", "nose", "glasses", "left eye", "right eye", "left brow", "right brow", "mouth", "upper lip", "lower lip")
FACE = [CLASSES.index(name) for name in _REPAINTED]
"""ParseNet's classes that may be repainted."""


class ParsingMask:
    """A `Masker`: where the input shows the face, inside the ellipse of `Feather`. Keeps no state.

    Args:
        weights: `embedded`, a name that `videoclr weights add` was given, or a file: of `pipelines/train_occlusion.py`, or
            facexlib's `parsing_parsenet.pth`.
        device: torch's name.
        edge: standard deviation of the blur of the networks' rim, shares of the crop's side.
        center, radii, softness: of the ellipse; see `Feather`.

    Raises:
        WeightsError: the weights are missing, damaged, or of another network.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        weights: str = "embedded",
        device: str = "cpu",
        edge: float = 0.012,
        center: Sequence[float] = CENTER,
        radii: Sequence[float] = RADII,
        softness: float = SOFTNESS,
    ) -> None:
        if not 0 < edge <= 0.1:
            raise ValueError(f"edge must be in (0, 0.1], got {edge}")
        self.feather, self.edge, self.device = Feather(center, radii, softness), edge, torch.device(device)
        self.network = load_network(weights).requires_grad_(False).eval().to(self.device)
        self.side = parsing.SIDE if isinstance(self.network, ParseNet) else occlusion.SIDE

    def mask(self, crops: Sequence[FaceCrop], images: Tensor) -> Tensor:
        """`(N, 1, S, S)` float32 in [0, 1] on the device of `images` `(N, 3, S, S)`."""
        ellipse = self.feather.mask(crops, images)
        with torch.inference_mode():
            seen = torch.stack([self.shown(crop.image) for crop in crops]).to(ellipse)
        # What was made here must live on outside: the stage is not in inference mode.
        return ellipse * seen.clone()

    def shown(self, image: Tensor) -> Tensor:
        """`(1, S, S)` in [0, 1]: where a crop `(3, S, S)` in [-1, 1] shows the face. One by one: a batch would round otherwise."""
        size = image.shape[-1]
        x = F.interpolate(usual(image[None]).images.to(self.device), size=(self.side,) * 2, mode="bilinear", antialias=True)
        logits = self.network(x)
        parsed = isinstance(self.network, ParseNet)
        share = logits.softmax(1)[:, FACE].sum(1, keepdim=True) if parsed else torch.sigmoid(logits)
        share = F.interpolate(share, size=(size, size), mode="bilinear")
        return _blurred(share, self.edge * size)[0].clamp(0, 1)


def _blurred(planes: Tensor, sigma: float) -> Tensor:
    """A Gaussian over `(N, 1, S, S)`."""
    reach = min(max(1, round(2.5 * sigma)), planes.shape[-1] - 1)
    places = torch.arange(-reach, reach + 1, device=planes.device, dtype=planes.dtype)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(planes, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def load_network(weights: str) -> nn.Module:
    """The network that a setting means.

    Raises:
        WeightsError: as `ParsingMask`.
    """
    own = OcclusionNet()
    if weights == "embedded":
        fit(own, load_embedded("occlusion")[0], "occlusion.safetensors")
        return own
    path = store.find(weights, ("embedded",))
    state = read_state(path)
    if "out_mask_conv.conv2d.weight" in state:
        network = ParseNet()
        fit(network, state, path)
        return network
    if "stem.1.weight" not in state:
        raise WeightsError(path, "is neither of pipelines/train_occlusion.py nor facexlib's parsing_parsenet.pth")
    fit(own, state, path)
    return own
