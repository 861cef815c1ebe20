from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from videoclr.bookmark import Bookmarks
from videoclr.config import Config
from videoclr.errors import ResumeError
from videoclr.packing import Packed, Unpacked, unpack
from videoclr.pipeline import Mark, Pipeline, RunLog
from videoclr.tracks import told as written
from videoclr.types import FaceCrop, Frame

_spec = importlib.util.spec_from_file_location("resume_driver", Path(__file__).with_name("resume_driver.py"))
assert _spec is not None and _spec.loader is not None
driver = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(driver)

COUNT = 58
CUT = 54
AT = (2, 11, 24)
"""Frames before which there is a bookmark; the sum of all look-aheads is 29 frames."""
AT_CUT = Mark(0, 0, 0, None)


def film() -> list[Frame]:
    """Two discs on noise that moves; one is away for a while. At `CUT` the scene changes."""
    frames = []
    for index in range(COUNT):
        rng = np.random.default_rng(index)
        image = rng.integers(0, 120 if index < CUT else 30, (64, 96, 3), np.uint8)
        cv2.circle(image, (30 + index % 20, 32 + index // 9), 14, (40, 60, 230), -1)
        if not 12 <= index < 15:
            cv2.circle(image, (76 - index // 4, 20), 9, (230, 200 - index, 40), -1)
        frames.append(Frame.from_image(image, index))
    return frames


class Cut:
    forgets = True

    def is_cut(self, frame: Frame) -> bool:
        return frame.index == CUT


class Discs(driver.Discs):
    """Finds both."""

    def __init__(self) -> None:
        self.seen = 0

    def one(self, image: np.ndarray) -> list[Any]:
        self.seen += 1
        halves = [image.copy(), image.copy()]
        halves[0][..., 0], halves[1][..., 2] = 0, 0
        return [face for half in halves for face in super(Discs, self).one(half)]


class Along(driver.Remembering):
    """Looks along tracks, and remembers arrays, tensors and what its last span was."""

    anchors, reach = 4, 3

    def restore_span(
        self, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], first: bool, memory: dict[int, Any], batch: int
    ) -> torch.Tensor:
        track = crops[0].face.track
        past = {"mean": np.zeros((64, 64, 3), np.float32), "said": []} if first else memory[track]
        ahead = float(torch.stack([one.image for one in (*crops, *after)]).mean())
        images, mean = [], past["mean"]
        for crop in crops:
            mean = np.float32(0.7) * mean + np.float32(0.3) * crop.image.permute(1, 2, 0).numpy()
            images.append(torch.from_numpy(mean).permute(2, 0, 1) + 0.1 * ahead + 0.01 * len(past["said"]))
        memory[track] = {"mean": mean, "said": [*past["said"], crops[0].frame.index]}
        return torch.stack(images).clamp(-1, 1)


def pipeline(restorer: Any, *settings: str) -> Pipeline:
    config = Config().override("restore.use=unchanged", "gate.use=none", *settings)
    own: dict[str, Any] = {"detector": Discs(), "recognizer": driver.Colours(), "restorer": restorer, "make_cut_detector": Cut}
    return dataclasses.replace(Pipeline(config, **{name: part for name, part in own.items()}), **own)


class Wanted:
    """Wants bookmarks before these frames."""

    def __init__(self, *frames: int) -> None:
        self.frames = frames

    def begins(self, frame: Frame) -> bool:
        return frame.index in self.frames

    def take(self, frame: Frame) -> None:
        pass


def told(frame: Frame) -> tuple[Any, ...]:
    """All that a frame came to."""
    return frame.index, frame.shot, [(p.x, p.y, p.rgb.tobytes(), p.alpha.tobytes()) for p in frame.patches]


class Run:
    """A run with bookmarks, and runs from each of them."""

    def __init__(self, folder: Path, make: Any, frames: list[Frame] | None = None, at: Sequence[int] = AT) -> None:
        self.make, self.frames, self.folder = make, frames or film(), folder
        self.saved: dict[int, tuple[Path, str]] = {}
        self.log = RunLog()
        inside = Bookmarks(Wanted(*at), self.save)
        self.whole = [told(frame) for frame in make().restore_frames(iter(self.frames), self.log, inside=inside)]

    def save(self, upcoming: int, packed: Packed, facts: dict[str, Any]) -> None:
        path = self.folder / f"{upcoming}.state"
        with path.open("wb") as file:
            self.saved[upcoming] = path, packed.write(file, facts)

    def state(self, upcoming: int) -> Unpacked:
        path, checksum = self.saved[upcoming]
        return unpack(path, path.stat().st_size, checksum)

    def rest(self, upcoming: int, part: Pipeline | None = None, log: RunLog | None = None) -> Iterator[Frame]:
        inside = Bookmarks(Wanted(), self.save, self.state(upcoming))
        return (part or self.make()).restore_frames(iter(self.frames), log, begin=AT_CUT, inside=inside)


@pytest.mark.parametrize(
    ("restorer", "settings", "at"),
    [
        (driver.Remembering, ("blend.grain=0.5",), AT),
        pytest.param(Along, (), AT, marks=pytest.mark.slow),
        (Along, ("gate.use=agreement", "detect.every=3", "runtime.detect_batch=3"), AT[-1:]),  # the dearest
        (
            driver.Remembering,
            ("align.smoothing=0", "track.max_gap=0", "identify.window=1", "gate.smoothing=0", "blend.match_color=false"),
            AT,
        ),
    ],
)
def test_from_any_frame_a_run_goes_on_as_if_it_had_never_stopped(restorer, settings, at, tmp_path):
    # Where frames of the next shot are inside, the cut is waited for, and at a cut a mark of the shot suffices.
    run = Run(tmp_path, lambda: pipeline(restorer(), *settings), at=(*at, CUT - 1, CUT))
    assert len(run.whole) == COUNT and sum(bool(patches) for _, _, patches in run.whole) > 40
    assert tuple(run.saved) == at
    for upcoming in at:
        assert [told(frame) for frame in run.rest(upcoming)] == run.whole[upcoming:]


def test_a_run_on_given_tracks_goes_on_as_well(tmp_path):
    saved = tmp_path / "tracks.jsonl"
    with saved.open("w") as file:
        file.write('{"videoclr": "tracks", "version": 1, "width": 96, "height": 64}\n')
        for faces in pipeline(Along()).find_faces(iter(film())):
            if faces.faces:
                file.write(json.dumps(written(faces)) + "\n")
    run = Run(tmp_path, lambda: pipeline(Along(), f"track.file={saved}"))
    assert run.whole == [told(frame) for frame in pipeline(Along()).restore_frames(iter(film()))]
    assert tuple(run.saved) == AT
    for upcoming in AT:
        part = pipeline(Along(), f"track.file={saved}")
        assert [told(frame) for frame in run.rest(upcoming, part)] == run.whole[upcoming:]
        assert part.detector.seen == 0


@pytest.mark.parametrize("settings", [(), ("track.file={}",)])
def test_a_track_that_was_over_before_the_bookmark_is_not_told_to_be_missing(settings, tmp_path):
    nobody = np.zeros((64, 96, 3), np.uint8)
    frames = [*film()[:4], *(Frame.from_image(nobody, index) for index in range(4, 40))]
    saved = tmp_path / "tracks.jsonl"
    lines = [written(faces) for faces in pipeline(Along()).find_faces(iter(frames)) if faces.faces]
    head = {"videoclr": "tracks", "version": 1, "width": 96, "height": 64}
    saved.write_text("".join(json.dumps(line) + "\n" for line in (head, *lines)))
    asked = ("identify.only=[0, 1, 2]", *(one.format(saved) for one in settings))
    run = Run(tmp_path, lambda: pipeline(Along(), *asked), frames, at=(36,))
    log = RunLog()
    list(run.rest(36, log=log))
    assert log.warnings == run.log.warnings and len(log.warnings) == 1 and "no track 2 " in log.warnings[0]


def test_bookmarks_change_nothing(tmp_path):
    without = [told(frame) for frame in pipeline(Along()).restore_frames(iter(film()))]
    assert Run(tmp_path, lambda: pipeline(Along())).whole == without


def test_what_is_before_the_bookmark_is_not_computed_again(tmp_path):
    run = Run(tmp_path, lambda: pipeline(Along()))
    part = pipeline(Along())
    assert len(list(run.rest(24, part))) == COUNT - 24
    assert part.detector.seen < COUNT - 24


class Failing(Along):
    """Fails on some faces."""

    def restore_span(self, crops: Sequence[FaceCrop], *rest: Any) -> torch.Tensor:
        if any(crop.frame.index in (9, 17, 30) for crop in crops):
            raise RuntimeError("no")
        return super().restore_span(crops, *rest)

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> torch.Tensor:
        if any(crop.frame.index in (9, 17, 30) for crop in crops):
            raise RuntimeError("no")
        return torch.stack([crop.image for crop in crops])


def test_warnings_go_on_where_they_were(tmp_path):
    run = Run(tmp_path, lambda: pipeline(Failing(), "runtime.on_error=keep"))
    assert any("3 face(s)" in line for line in run.log.warnings)
    log = RunLog()
    list(run.rest(24, log=log))
    assert log.warnings == run.log.warnings


class Forgetful:
    """A tracker that does not say what it remembers."""

    def __init__(self) -> None:
        from videoclr.parts.overlap_tracker import OverlapTracker

        own = OverlapTracker()
        self.update, self.reset = own.update, own.reset


def test_a_part_that_cannot_write_its_memory_down_makes_no_bookmarks_and_is_named_once(tmp_path, caplog):
    run = Run(tmp_path, lambda: dataclasses.replace(pipeline(driver.Remembering()), make_tracker=Forgetful))
    assert not run.saved and len(run.whole) == COUNT
    assert [record.message for record in caplog.records if "Forgetful" in record.message] == [
        "Forgetful has no method `keep` cannot be written down: a run that is stopped goes on from the beginning of its shot"
    ]


def test_a_bookmark_of_other_stages_or_another_film_is_refused(tmp_path):
    run = Run(tmp_path, lambda: pipeline(Along()))
    with pytest.raises(ResumeError, match="damaged"):
        list(run.rest(24, pipeline(Along(), "gate.use=agreement")))
    run.frames = run.frames[:30]
    with pytest.raises(ResumeError, match="damaged"):
        list(run.rest(24))


@pytest.mark.slow
def test_the_embedded_networks_go_on_to_the_bit(tmp_path):
    from skimage.data import astronaut

    face, frames = cv2.GaussianBlur(astronaut()[:300, 70:390], (0, 0), 1.5), []
    for index in range(30):
        shift = np.float32([[1, 0, 0.7 * index], [0, 1, 0.3 * index]])
        frames.append(Frame.from_image(cv2.warpAffine(face, shift, (320, 300)), index, Fraction(index, 25)))
    run = Run(tmp_path, lambda: Pipeline(Config().override("restore.steps=1", "blend.grain=0.5")), frames, at=(3, 17))
    assert all(patches for _, _, patches in run.whole) and tuple(run.saved) == (3, 17)
    for upcoming in run.saved:
        assert [told(frame) for frame in run.rest(upcoming)] == run.whole[upcoming:]
