"""The detectors of PySceneDetect (scenedetect.com, BSD-3-Clause) as they are, for those who know their figures.

`--set cuts.use=scenedetect --set cuts.options.detector=adaptive`
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from videoclr.types import Frame

_WIDTH = 256  # pixels: what PySceneDetect itself shrinks to before it looks


class PySceneDetectCuts:
    """A `CutDetector` around one of the library's, fed frame by frame."""

    def __init__(self, detector: str = "content", **options: Any) -> None:
        """Make the library's detector.

        Args:
            detector: `content`, `adaptive`, `hash`, `histogram` or `threshold`.
            options: of the library's class of that name, such as `threshold` or `min_scene_len` (frames).

        Raises:
            ValueError: an unknown detector.
            TypeError: an option that it does not take.
        """
        from scenedetect import detectors

        kinds = {
            "content": detectors.ContentDetector,
            "adaptive": detectors.AdaptiveDetector,
            "hash": detectors.HashDetector,
            "histogram": detectors.HistogramDetector,
            "threshold": detectors.ThresholdDetector,
        }
        if detector not in kinds:
            raise ValueError(f"unknown detector {detector!r}; known here: {', '.join(kinds)}")
        # Cuts in quick succession are cuts: a track must not cross any of them, so the library's 15 frames do not hold.
        self._detector: Any = kinds[detector](**{"min_scene_len": 1, **options})
        self.delay = int(self._detector.event_buffer_length)
        self._seen = 0
        self._cuts: set[int] = set()

    def is_cut(self, frame: Frame) -> bool:
        """Whether a shot begins `delay` frames before `frame`."""
        from scenedetect import FrameTimecode

        height, width = frame.glance.shape[:2]
        size = (_WIDTH, max(1, round(height * _WIDTH / width)))
        small = cv2.resize(frame.glance, size, interpolation=cv2.INTER_AREA)
        # The library wants BGR; this copy is the only place where that order exists. Its timecodes count frames here.
        picture = np.ascontiguousarray(small[..., ::-1])
        found = self._detector.process_frame(FrameTimecode(self._seen, fps=25.0), picture)
        self._cuts.update(int(cut.frame_num) for cut in found)
        asked = self._seen - self.delay
        self._seen += 1
        answer = asked in self._cuts
        self._cuts = {cut for cut in self._cuts if cut > asked}
        return answer
