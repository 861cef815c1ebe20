"""Restores a small film again and again, each time killed at a moment that a plan names, until one run gets through.

    resume_driver.py JOB...       each JSON of [FOLDER, {TARGET: [[what, n], ...]}, [SETTING...]]

`["write", 17]` kills as the 17th frame is written, `["fsync", 3]` and `["replace", 3]` at the third such call, before it;
`["seconds", 0.3]` after that time. Forks, since a new process would spend most of its life importing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from videoclr import jobs
from videoclr.config import Config
from videoclr.media.writer import Writer
from videoclr.pipeline import Pipeline
from videoclr.types import Detection, FaceCrop

SHAPE = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.22], [0.15, 0.22]], np.float32)
SHOTS = (7, 31, 2, 9, 13)
"""Frames of each; segments are ten frames long, so the second is split and the third is joined with others."""
COLOURS = ((40, 60, 230), (40, 230, 60), None, (40, 60, 230), (230, 60, 40))
SHORT_SIGHTED = ("identify.window=2", "track.max_gap=1", "align.smoothing=1", "runtime.batch=1", "runtime.detect_batch=1")
"""Settings with which few frames are inside the pipeline, so that bookmarks can be set in a short film."""


def film(path: Path, shots: Sequence[int] = SHOTS) -> None:
    """Shots of a disc that walks to and fro over noise, at uneven times, with sound."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "10"}, time_base=Fraction(1, 1000))
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = out.add_stream("aac", rate=8000)
        packets, index = [], 0
        for shot, (length, colour) in enumerate(zip(shots, COLOURS, strict=False)):
            noise = np.random.default_rng(shot).uniform(0, 160, (4, 6, 3)).astype(np.float32)
            background = cv2.resize(noise, (96, 64)).astype(np.uint8)
            for step in range(length):
                image = background.copy()
                if colour is not None:
                    cv2.circle(image, (60 - abs(30 - step % 60), 32), 14, colour, -1)
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                frame.pts, frame.time_base = 40 * index + index % 3, Fraction(1, 1000)
                packets += video.encode(frame)
                index += 1
        packets += video.encode(None)
        wave = np.sin(np.arange(8000 * index // 25) / 5).astype(np.float32)[None]
        for start in range(0, wave.shape[1], 1024):
            piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, start : start + 1024]), "fltp", "mono")
            piece.sample_rate, piece.pts, piece.time_base = 8000, start, Fraction(1, 8000)
            packets += sound.encode(piece)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            out.mux(packet)


class Discs:
    """Finds what is brightly coloured."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [self.one(image) for image in images]

    def one(self, image: np.ndarray) -> list[Detection]:
        y, x = np.nonzero(image.max(-1) > 200)
        if not len(x):
            return []
        centre, side = np.array([x.mean(), y.mean()], np.float32), 28
        box = np.array([*(centre - side / 2), *(centre + side / 2)], np.float32)
        return [Detection(box, centre + SHAPE * side, 0.99)]


class Colours:
    """Knows people by their colour."""

    def embed(self, crops: Tensor) -> Tensor:
        middle = crops[:, :, 24:40, 24:40].mean((2, 3))
        return torch.nn.functional.normalize(middle + 1e-3, dim=1)


class Remembering:
    """Makes a face brighter by what it remembers of all the track's frames so far, and by who it thinks that is."""

    size = 64

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
        images = []
        for crop in crops:
            seen = 0.8 * memory.get(crop.face.track, 0.0) + float(crop.image.mean()) + 0.1
            memory[crop.face.track] = seen
            number = 0 if crop.person is None else crop.person.number
            who = 0.0 if crop.identity is None else float(crop.identity[0])
            images.append(crop.image * 0.7 + 0.02 * seen + 0.05 * who + 0.03 * number + 0.01 * (crop.face.track % 7))
        return torch.stack(images).clamp(-1, 1)


def pipeline(*settings: str) -> Pipeline:
    config = Config().override(
        "restore.use=unchanged", "gate.use=none", "media.segment=0.4", "media.crf=10", "media.preset=veryfast", *settings
    )
    own: dict[str, Any] = {"detector": Discs(), "recognizer": Colours(), "restorer": Remembering()}
    return dataclasses.replace(Pipeline(config, **own), **own)


def arm(what: str, n: float) -> None:
    """Have this process killed."""
    if what == "seconds":
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, n)
        return
    place: Any = Writer if what == "write" else os
    left, whole = int(n), getattr(place, what)

    def counting(*given: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*given, **named)

    setattr(place, what, counting)


def forked(work: Callable[[], Any]) -> int:
    """Exit status of `work` in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, plans: dict[str, list[tuple[str, float]]], settings: Sequence[str]) -> dict[str, list[int]]:
    """Exit statuses of the runs for each target."""
    source = folder / "in.mp4"
    if not source.exists():
        forked(lambda: film(source))

    def run(target: Path, kill: tuple[str, float] | None) -> None:
        if kill is not None:
            arm(*kill)
        reports = {"report": target.with_suffix(".json"), "report_frames": target.with_suffix(".jsonl")}
        jobs.restore_video(source, target, pipeline=pipeline(*settings), resume=True, **reports)

    ends: dict[str, list[int]] = {}
    for name, plan in plans.items():
        target = folder / name
        ends[name] = []
        for kill in [*plan, None]:
            if not target.exists() or Path(f"{target}.resume", "ledger.jsonl").exists():
                ends[name].append(forked(lambda target=target, kill=kill: run(target, kill)))
    return ends


if __name__ == "__main__":
    torch.set_num_threads(1)
    list(pipeline().restore_frames([]))  # imports what is imported late, or each process that forks off would
    print(json.dumps([main(Path(folder), plans, settings) for folder, plans, settings in map(json.loads, sys.argv[1:])]))
