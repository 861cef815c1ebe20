from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from videoclr.parts.unchanged import Unchanged
from videoclr.types import Detection, FaceCrop, Frame, TrackedFace


def test_it_gives_back_what_it_gets_and_remembers_nothing() -> None:
    face = TrackedFace(0, Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 1.0))
    crops = [FaceCrop(face, Frame(0, Fraction(0)), torch.rand(3, 32, 32), np.zeros((2, 3))) for _ in range(3)]
    memory: dict[int, object] = {}
    result = Unchanged(32).restore(crops, memory)
    assert torch.equal(result, torch.stack([crop.image for crop in crops]))
    assert memory == {}


def test_a_size_too_small_for_a_face_or_for_the_memory_is_refused() -> None:
    for size in (8, 1025):
        with pytest.raises(ValueError, match="16 to 1024"):
            Unchanged(size)
    for size in (float("nan"), 64.0):
        with pytest.raises(ValueError, match="whole pixels"):
            Unchanged(size)  # type: ignore[arg-type]
