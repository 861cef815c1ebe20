"""Public face restorers inside the pipeline: GFPGAN, RestoreFormer and CodeFormer, through spandrel (chaiNNer, MIT).

    videoclr in.mp4 out.mp4 --set restore.use=checkpoint --set restore.options.weights=GFPGANv1.4.pth

spandrel tells an architecture by its tensors' names and builds it. What it leaves open is decided here:

* Range. A descriptor of spandrel takes and gives [0, 1]. These three networks were trained in [-1, 1] (the inference
  scripts of their authors normalise with mean and deviation 0.5), and spandrel 0.4 converts for RestoreFormer only:
  GFPGAN and CodeFormer would see a pale picture. So the three are called themselves, in their own range, which is that
  of the crops. A face restorer that spandrel learns later is called by its descriptor.
* Noise. GFPGAN draws new noise at every call, which is flicker in a video, and makes a face depend on what came before
  it. The noise that lies in its checkpoint is used instead.
* Batch. Every face goes through alone: kernels of another batch size differ in the last bits, and a codebook makes
  another code of that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from videoclr.errors import ConfigError, WeightsError
from videoclr.light import usual
from videoclr.models import store
from videoclr.models.weights import read_state
from videoclr.types import FaceCrop

log = logging.getLogger("videoclr.checkpoint")

Call = Callable[[Any, Tensor, float], Tensor]
"""Network, one face `(1, 3, S, S)` in [-1, 1], fidelity -> the restored face, same shape and range."""


def _gfpgan(network: Any, face: Tensor, fidelity: float) -> Tensor:
    restored: Tensor = network(face, return_rgb=False, randomize_noise=False)[0]
    return restored


def _restoreformer(network: Any, face: Tensor, fidelity: float) -> Tensor:
    restored: Tensor = network(face)[0]
    return restored


def _codeformer(network: Any, face: Tensor, fidelity: float) -> Tensor:
    restored: Tensor = network(face, weight=fidelity)[0]
    return restored


CALLS: dict[str, Call] = {"GFPGAN": _gfpgan, "RestoreFormer": _restoreformer, "CodeFormer": _codeformer}
"""spandrel's name of an architecture -> how its network is called."""
DIALS = ("CodeFormer",)
"""Those for which `fidelity` means something: 0 rests on the codebook alone, 1 brings in all of the input's features."""
KINDS = {
    "SR": "a super-resolution network",
    "Restoration": "a network for whole pictures",
    "Inpainting": "an inpainting network",
}
"""spandrel's word for what other networks are made for -> ours."""


class CheckpointRestorer:
    """The part behind `restore.use: checkpoint`. Keeps no state; a face's result does not depend on its batch.

    Args:
        weights: a file, or a name that `videoclr weights add` was given.
        fidelity: 0 favours perceptual quality, 1 what the input shows; only CodeFormer listens to it.
        device: torch's name.

    Raises:
        ConfigError: spandrel, or the torchvision that it needs, cannot be used here.
        WeightsError: the weights are missing, damaged, or no face restorer that spandrel knows.
        ValueError: fidelity out of range.
    """

    size = 512
    """Side of the crops, pixels: what every one of these networks was trained with."""

    def __init__(self, weights: str, fidelity: float = 0.5, device: str = "cpu") -> None:
        if not 0 <= fidelity <= 1:
            raise ValueError(f"fidelity lies in [0, 1], got {fidelity}")
        self.fidelity, self.device = fidelity, torch.device(device)
        self.descriptor = face_restorer(weights)
        self.descriptor.to(self.device).eval()
        self.architecture = str(self.descriptor.architecture.name)
        if self.architecture not in DIALS:
            log.info("%s: %s has no dial for fidelity", weights, self.architecture)

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
        """`(N, 3, 512, 512)` float32 RGB in [-1, 1], on the CPU, in the order of `crops`. `memory` stays as it is."""
        with torch.inference_mode():
            lit = usual(torch.stack([crop.image for crop in crops]))
            faces = torch.cat([self._one(image[None].to(self.device)) for image in lit.images])
            restored = lit.returned(faces.clamp(-1, 1).float().cpu())
        return restored.clone()  # outside: a tensor of inference mode would refuse to be changed by whoever gets it

    def _one(self, face: Tensor) -> Tensor:
        call = CALLS.get(self.architecture)
        if call is not None:
            return call(self.descriptor.model, face, self.fidelity)
        restored: Tensor = self.descriptor((face + 1) / 2) * 2 - 1
        return restored


def face_restorer(weights: str) -> Any:
    """spandrel's descriptor of the network in `weights` (see `CheckpointRestorer`), on the CPU.

    Raises:
        ConfigError, WeightsError: see `CheckpointRestorer`.
    """
    spandrel = _spandrel()
    registry, lacking = _architectures(spandrel)
    state = read_state(store.find(weights))
    try:
        found = registry.load(state)
    except spandrel.UnsupportedModelError as error:
        raise WeightsError(weights, f"holds no network that spandrel knows{lacking}") from error
    except Exception as error:  # its architectures fail in ways of their own at tensors that only look like theirs
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(weights, f"spandrel cannot build its network: {reason}") from error
    name = found.architecture.name
    if found.purpose != "FaceSR":
        raise WeightsError(weights, f"holds {name}, {KINDS.get(found.purpose, found.purpose)}, and no face restorer")
    if (found.scale, found.input_channels, found.output_channels) != (1, 3, 3):
        shape = f"{found.input_channels} channels to {found.output_channels} at {found.scale} times the size"
        raise WeightsError(weights, f"holds {name} from {shape}; expected is 3 to 3 at the same size")
    return found


def _spandrel() -> Any:
    """The module.

    Raises:
        ConfigError: it is not installed, or the torchvision beside it does not work with this torch.
    """
    try:
        import spandrel
    except ModuleNotFoundError as error:
        missing = f"needs {error.name}, which is not installed"
        raise ConfigError(f"$.restore.use: checkpoint {missing}: pip install 'videoclr[interop]'") from error
    except Exception as error:  # a torchvision built for another torch fails while it is imported, with a RuntimeError
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"$.restore.use: checkpoint needs a torchvision that works with torch {torch.__version__} ({reason}); install "
            "both from one index, into an environment of its own: pip install 'videoclr[interop]'"
        ) from error
    return spandrel


def _architectures(spandrel: Any) -> tuple[Any, str]:
    """A registry of all that is installed, and what to say of what is not. spandrel's own stays as it is."""
    registry = spandrel.MAIN_REGISTRY.copy()
    try:
        import spandrel_extra_arches
    except ImportError:
        return registry, "; for CodeFormer: pip install spandrel_extra_arches (mind its licences)"
    registry.add(*spandrel_extra_arches.EXTRA_REGISTRY, ignore_duplicates=True)
    return registry, ""
