"""Who a crop shows: the embedding of the IRN's estimate, `phi(R(y))` (CLR-Face, section 3.3)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from videoclr.light import calm, usual
from videoclr.models.identity import IdentityRecovery
from videoclr.models.recognizer import Recognizer
from videoclr.models.weights import load_part
from videoclr.types import FaceCrop


class FaceRecognizer:
    """The part behind `identify.use: recognizer`.

    Args:
        device: torch's name.
        recover: embed `R(y)`, as the paper does; False embeds the crop itself, for crops that are clean already.

    Raises:
        WeightsError: the embedded weights are missing or damaged.
    """

    def __init__(self, device: str = "cpu", recover: bool = True) -> None:
        self.device = torch.device(device)
        self.recognizer = Recognizer()
        load_part(self.recognizer, "recognizer", "recognizer")
        self.recognizer.requires_grad_(False).eval().to(self.device)
        self.irn: IdentityRecovery | None = None
        if recover:
            self.irn = IdentityRecovery()
            load_part(self.irn, "irn", "irn")
            self.irn.requires_grad_(False).eval().to(self.device)

    @property
    def of_clean(self) -> FaceRecognizer:
        """The same recogniser without the IRN: for crops that are restored already."""
        other = copy.copy(self)
        other.irn = None
        return other

    def embed(self, crops: Tensor | Sequence[FaceCrop]) -> Tensor:
        """Aligned crops `(N, 3, S, S)` in [-1, 1], or `FaceCrop`s -> `(N, D)` unit vectors on the CPU."""
        images = crops if isinstance(crops, Tensor) else torch.stack([c.image for c in crops])
        with torch.inference_mode():
            y = calm(usual(images).images).to(self.device)
            if self.irn is not None:
                y = self.irn(y).clamp(-1, 1)
            embedded: Tensor = self.recognizer.embed(y).cpu()
        return embedded.clone()
