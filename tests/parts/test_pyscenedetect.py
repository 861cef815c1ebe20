from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scenedetect")

from videoclr.parts.pyscenedetect import PySceneDetectCuts
from videoclr.stages.cuts import cuts
from videoclr.types import Frame


@pytest.mark.parametrize("name", ["content", "adaptive", "hash"])
def test_a_cut_of_the_library_lands_on_the_first_frame_of_the_new_shot(name: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (2, 72, 128, 3), dtype=np.uint8)
    frames = [Frame.from_image(pictures[index // 6], index) for index in range(12)]
    assert [frame.shot for frame in cuts(frames, PySceneDetectCuts(name))] == [0] * 6 + [1] * 6


def test_an_unknown_detector_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="content, adaptive"):
        PySceneDetectCuts("magic")
