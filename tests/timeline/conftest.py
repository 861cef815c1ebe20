"""Films whose frames tell their numbers, and a pipeline that finds faces in them and restores nothing."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videoclr import jobs
from videoclr.media.reader import Reader
from videoclr.parts.unchanged import Unchanged
from videoclr.pipeline import Pipeline
from videoclr.types import Detection

SHAPE = np.array([[-8, -6], [8, -6], [0, 2], [-6, 9], [6, 9]], np.float32)


class Here:
    """A face wherever the picture's red is high."""

    def detect(self, images):
        box = np.array([30, 10, 70, 50], np.float32)
        return [[Detection(box, SHAPE + 40, 0.9)] if image[..., 0].mean() > 100 else [] for image in images]


@pytest.fixture(autouse=True)
def pipeline(monkeypatch):
    """Restores nothing, but finds faces; how many were loaded."""
    loaded = []

    def load(config):
        loaded.append(config)
        return Pipeline(config, detector=Here(), recognizer=None, restorer=Unchanged(64))

    monkeypatch.setattr(jobs, "Pipeline", load)
    return loaded


@pytest.fixture
def film() -> Callable[..., Path]:
    """Makes a film: frame number n has the blue value 4 n; `sounds`: how many streams of silence are beside it."""

    def made(
        path: Path,
        rate=Fraction(25),
        timecode: str | None = None,
        face: bool = True,
        count: int = 60,
        begin: int = 0,
        sounds: int = 0,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as out:
            if timecode is not None:
                out.metadata["timecode"] = timecode
            stream = out.add_stream("ffv1", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
            for sound in [out.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(sounds)]:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
                silence.sample_rate, silence.pts, silence.time_base = 8000, 0, Fraction(1, 8000)
                out.mux(sound.encode(silence))
            for index in range(count):
                picture = np.full((64, 96, 3), (200 if face else 20, 0, 4 * (begin + index)), np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = index, 1 / rate
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return path

    return made


@pytest.fixture
def numbers() -> Callable[[str | Path], tuple[list[int], int | None]]:
    """Of a film: the numbers that its frames tell, and its timecode as a number of frames."""
    seen: dict[str, tuple[list[int], int | None]] = {}

    def told(path: str | Path) -> tuple[list[int], int | None]:
        if str(path) not in seen:
            with Reader(str(path)) as reader:
                values = [int(frame.image[..., 2].mean() + 2) // 4 for frame in reader.frames()]
                label = None if reader.timecode is None else reader.timecode.count(reader.info.frame_rate, "start")
            seen[str(path)] = values, label
        return seen[str(path)]

    return told
