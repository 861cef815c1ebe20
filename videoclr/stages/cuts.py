"""Give every frame the number of its shot."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any, Protocol

from videoclr.blame import blamed
from videoclr.errors import RestorationError
from videoclr.types import Frame


class CutDetector(Protocol):
    """Says where shots begin. It has memory: one per run.

    A detector that must look ahead declares an attribute `delay` (frames, 0 where there is none): its answer to the
    frame n is then about the frame n - delay. At the end the last frame is shown again until every frame is answered.

    One that remembers nothing across a cut says so by an attribute `forgets = True`: a run that goes on at a shot's first
    frame then need not show it the film up to there again.
    """

    def is_cut(self, frame: Frame) -> bool:
        """True when the frame in question is the first of a new shot. Called once per frame, in order."""
        ...


def cuts(frames: Iterable[Frame], detector: CutDetector) -> Iterator[Frame]:
    """Number the shots; the frame right after a cut carries the new number.

    The first frame keeps the number it comes with (0 for a reader's), so a run that goes on where another stopped can
    go on counting, and so it keeps its `shot_start`. The delay is the detector's.

    Raises:
        RestorationError: the detector failed at the frame that it was shown, or its `delay` is no number of frames.
    """
    told: Any = getattr(detector, "delay", 0)
    if not isinstance(told, Integral) or told < 0:
        raise RestorationError(0, None, f"the cut detector has as `delay` {told!r}, expected a whole number of frames")
    delay = int(told)
    waiting: deque[Frame] = deque()
    shot: int | None = None
    start = 0

    def asked(frame: Frame) -> bool:
        with blamed("cut detector", frame.index):
            return bool(detector.is_cut(frame))

    def numbered(cut: bool) -> Frame:
        nonlocal shot, start
        frame = waiting.popleft()
        if shot is None:
            shot, start = frame.shot, frame.shot_start
        elif cut:
            shot, start = shot + 1, frame.index
        return frame.in_shot(shot, start)

    seen = 0
    for frame in frames:
        waiting.append(frame)
        seen += 1
        cut = asked(frame)
        if seen > delay:
            yield numbered(cut)
    if waiting:
        last = waiting[-1]
        for _ in range(delay - seen):  # fewer frames than the delay: these answers are about no frame
            asked(last)
        while waiting:
            yield numbered(asked(last))
