from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from videoclr.cast import Cast, Member
from videoclr.config import Config
from videoclr.errors import ConfigError, RestorationError
from videoclr.jobs import restore_video
from videoclr.parts.unchanged import Unchanged
from videoclr.pipeline import _BUILDERS, FaceNote, Pipeline, RunLog, TrackSummary, recognizer_of, slowest
from videoclr.stages.gate import Verdict
from videoclr.types import Detection, FaceCrop, Frame

SHAPE = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.22], [0.15, 0.22]], np.float32)
BLUE, GREEN = (40, 60, 220), (40, 220, 60)
"""Colours of the two people, RGB."""


def background(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (6, 8, 3)).astype(np.float32)
    return (cv2.resize(noise, (160, 120)) * 0.5).astype(np.uint8) // 2


def frame(index: int, seed: int, face: tuple[int, int] | None = None, color: tuple[int, int, int] = BLUE) -> Frame:
    """A frame at an uneven time, with a disc for a face."""
    image = background(seed)
    if face is not None:
        cv2.circle(image, face, 20, color, -1)
    return Frame.from_image(image, index, Fraction(index * 1001 + index % 3, 30000))


def clip() -> list[Frame]:
    """12 frames of BLUE walking, a cut to 10 of GREEN in the same place, a cut to 30 of nobody."""
    first = [frame(i, 1, (50 + 2 * i, 60), BLUE) for i in range(12)]
    second = [frame(i, 2, (74 + i, 60), GREEN) for i in range(12, 22)]
    return [*first, *second, *(frame(i, 3) for i in range(22, 52))]


class Discs:
    """Finds the disc by its colour."""

    def __init__(self, blind: Sequence[tuple[int, int]] = ()) -> None:
        self.blind = blind

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [self.one(image) for image in images]

    @staticmethod
    def one(image: np.ndarray) -> list[Detection]:
        y, x = np.nonzero(image.max(-1) > 200)
        if not len(x):
            return []
        box = np.array([x.min(), y.min(), x.max(), y.max()], np.float32)
        centre = (box[:2] + box[2:]) / 2
        return [Detection(box, SHAPE * 40 + centre.astype(np.float32), 0.95)]


class Colors:
    """Embeds a face as its mean colour."""

    def embed(self, crops: Tensor) -> Tensor:
        side = crops.shape[-1]
        middle = slice(side * 3 // 8, side * 5 // 8)
        return torch.nn.functional.normalize(crops[..., middle, middle].mean((2, 3)) + 1, dim=1)


class Lighter:
    """Adds light, and writes down what it was given."""

    size = 64

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.calls: list[list[FaceCrop]] = []
        self.remembered: list[set[int]] = []
        self.threads: set[str] = set()

    def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
        self.threads.add(threading.current_thread().name)
        self.calls.append(list(crops))
        self.remembered.append(set(memory))
        for crop in crops:
            if crop.frame.index == self.fail_at:
                raise RuntimeError("out of light")
            memory[crop.face.track] = crop.frame.shot
        with torch.inference_mode():
            return torch.stack([crop.image for crop in crops]) + 0.3


def pipeline(restorer: Any = None, **sections: Any) -> Pipeline:
    config = Config.of({"blend": {"match_color": False}, "gate": {"use": "none"}, **sections})
    return Pipeline(config, detector=Discs(), recognizer=Colors(), restorer=restorer or Lighter())


def test_one_frame_out_for_each_in_with_its_index_and_time() -> None:
    source = clip()
    ledger = RunLog()
    out = list(pipeline().restore_frames(iter(source), ledger))
    assert [(one.index, one.time) for one in out] == [(one.index, one.time) for one in source]
    assert (ledger.frames_in, ledger.frames_out) == (52, 52)
    assert [one.shot for one in out] == [0] * 12 + [1] * 10 + [2] * 30


def test_frames_without_a_face_pass_untouched_and_faces_are_lit() -> None:
    source = clip()
    out = list(pipeline().restore_frames(source))
    for before, after in zip(source, out, strict=True):
        if before.index < 22:
            (patch,) = after.patches
            assert int(after.image.sum()) > int(before.image.sum())
            assert patch.alpha[0].max() < 0.5  # feathered
        else:
            assert after.patches == () and after.image is before.image


class Native:
    """A decoded picture that counts how often its RGB is made."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.made = 0

    def rgb(self) -> np.ndarray:
        self.made += 1
        return self.image.copy()


def test_a_native_picture_is_converted_once_and_its_rgb_is_not_kept() -> None:
    pictures = [Native(np.array(one.source)) for one in clip()]
    out = list(pipeline().restore_frames(Frame(i, Fraction(i, 25), native) for i, native in enumerate(pictures)))
    assert [one.made for one in pictures] == [1] * 52
    assert not any(one._rgb for one in out)
    assert [bool(one.patches) for one in out] == [True] * 22 + [False] * 30


def test_frames_of_the_first_shot_without_a_face_are_the_same_objects() -> None:
    source = [frame(i, 3) for i in range(10)]
    assert all(a is b for a, b in zip(pipeline().restore_frames(source), source, strict=True))


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_nothing_crosses_a_cut(batch: int) -> None:
    restorer = Lighter()
    list(pipeline(restorer, runtime={"batch": batch}).restore_frames(clip()))
    for crops, remembered in zip(restorer.calls, restorer.remembered, strict=True):
        (shot,) = {crop.frame.shot for crop in crops}
        assert {crop.face.track for crop in crops} == {shot}
        assert remembered <= {shot}  # the memory of a track of the shot before is gone
        expected = torch.tensor(BLUE if shot == 0 else GREEN) / 255
        for crop in crops:
            assert crop.identity is not None
            assert float(crop.identity @ torch.nn.functional.normalize(expected, dim=0)) > 0.97


def test_batches_and_buffers_leave_pixels_alone() -> None:
    def pixels(**runtime: int) -> list[np.ndarray]:
        return [one.image for one in pipeline(runtime=runtime).restore_frames(clip())]

    expected = pixels(batch=1, detect_batch=1)
    for other in (pixels(batch=7, detect_batch=5), pixels(batch=4, detect_batch=2, buffer_mb=16)):
        assert all(np.array_equal(a, b) for a, b in zip(expected, other, strict=True))


@pytest.mark.parametrize("every", [2, 5])
def test_skipped_frames_are_restored_as_well(every: int) -> None:
    out = list(pipeline(detect={"every": every}).restore_frames(clip()))
    assert [bool(one.patches) for one in out] == [True] * 22 + [False] * 30


def test_the_ledger_sums_up_tracks_and_stages() -> None:
    ledger = RunLog()
    list(pipeline().restore_frames(clip(), ledger))
    assert ledger.faces_restored == 22 and ledger.shots == 3 and ledger.warnings == []
    first, second = ledger.tracks
    assert (first.track, first.shot, first.first_frame, first.last_frame) == (0, 0, 0, 11)
    assert (second.track, second.shot, second.first_frame, second.last_frame) == (1, 1, 12, 21)
    assert (first.frames, first.observed, second.frames) == (12, 12, 10)
    assert first.last_time == clip()[11].time
    assert first.mean_size == pytest.approx(40, abs=2) and first.mean_confidence == 1
    assert first.mean_similarity is not None and 0.9 < first.mean_similarity <= 1.00001
    stages = {"decode", "cuts", "detect", "track", "align", "identify", "restore", "blend"}
    assert stages <= ledger.seconds_per_stage.keys()
    assert all(seconds >= 0 for seconds in ledger.seconds_per_stage.values())


def test_decoding_finding_and_restoring_run_in_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, turn = Lighter(), threading.Lock()
    monkeypatch.setattr("videoclr.pipeline.one_at_a_time", lambda: turn)
    threads: dict[str, set[str]] = {"source": set(), "detector": set(), "recognizer": set()}

    def source() -> Iterator[Frame]:
        for one in clip():
            threads["source"].add(threading.current_thread().name)
            yield one

    class Found(Discs):
        def detect(self, images: Any) -> Any:
            threads["detector"].add(threading.current_thread().name)
            return super().detect(images)

    class Known(Colors):
        def embed(self, crops: torch.Tensor) -> torch.Tensor:
            assert turn.locked()  # two threads ask it, one at a time
            threads["recognizer"].add(threading.current_thread().name)
            return super().embed(crops)

    list(dataclasses.replace(pipeline(restorer), detector=Found(), recognizer=Known()).restore_frames(source()))
    finds, restores = "videoclr-faces", "videoclr-restore"
    assert threads == {"source": {"videoclr-decode"}, "detector": {finds}, "recognizer": {finds, restores}}
    assert restorer.threads == {restores}


def test_one_object_that_finds_and_restores_is_asked_by_one_thread() -> None:
    class Both(Lighter):
        def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
            self.threads.add(threading.current_thread().name)
            return Discs().detect(images)

    both = Both()
    ledger = RunLog()
    out = list(dataclasses.replace(pipeline(both), detector=both).restore_frames(clip(), ledger))
    assert sum(bool(one.patches) for one in out) == 22 and both.threads == {"videoclr-restore"}
    assert "waiting for faces" not in ledger.seconds_per_stage


def test_the_slowest_stage_is_one_of_the_busiest_thread() -> None:
    seconds = {"decode": 4.0, "detect": 3.0, "restore": 2.5, "encode": 1.0, "waiting for decode": 9.0}
    assert slowest(seconds) == "detect"  # one thread found and restored them
    assert slowest({**seconds, "waiting for faces": 0.5}) == "decode"


def test_closing_early_stops_the_threads_and_closes_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[Frame]:
        try:
            index = 0
            while True:
                yield frame(index, 1, (50, 60))
                index += 1
        finally:
            closed.set()

    out = pipeline(runtime={"buffer_mb": 16}).restore_frames(endless())
    assert next(out).index == 0
    out.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert not [one for one in threading.enumerate() if one.name.startswith("videoclr-") and one.is_alive()]


class Failing:
    """A cut detector, or a detector, that breaks."""

    delay = 0

    def is_cut(self, _: Frame) -> bool:
        raise RuntimeError("out of order")

    def detect(self, _: Any) -> Any:
        raise RuntimeError("out of order")


@pytest.mark.parametrize("parts", [{}, {"make_cut_detector": Failing}, {"detector": Failing()}])
def test_the_source_is_closed_though_somebody_holds_it(parts: dict[str, Any]) -> None:
    closed = []

    def source() -> Iterator[Frame]:
        try:
            for index in range(300):
                yield frame(index, 1, (50, 60))
        finally:
            closed.append(threading.current_thread().name)

    made = dataclasses.replace(pipeline(), **parts)
    for run in (made.restore_frames, made.find_faces):
        held, out, error = source(), None, None
        try:
            next(out := run(held))
        except RestorationError as raised:
            error = raised  # with its traceback, and all that lies in there
        else:
            out.close()  # type: ignore[attr-defined]
        assert closed == ["videoclr-decode"] and held.gi_frame is None and (error is not None) == bool(parts)
        closed.clear()


def test_an_error_of_the_source_arrives_at_the_caller() -> None:
    def broken() -> Iterator[Frame]:
        yield from clip()[:30]
        raise OSError("cable pulled")

    with pytest.raises(OSError, match="cable pulled"):
        list(pipeline().restore_frames(broken()))
    assert not [one for one in threading.enumerate() if one.name.startswith("videoclr-")]


def test_a_failing_restorer_stops_with_frame_and_track_or_is_kept_and_reported() -> None:
    with pytest.raises(RestorationError, match="frame 5, track 0: the restorer raised RuntimeError: out of light"):
        list(pipeline(Lighter(fail_at=5), runtime={"batch": 1}).restore_frames(clip()))
    ledger = RunLog()
    out = list(pipeline(Lighter(fail_at=5), runtime={"on_error": "keep"}).restore_frames(clip(), ledger))
    assert [one.index for one in out if not one.patches][:1] == [5]
    assert ledger.faces_restored == 21 and len(ledger.warnings) == 1 and "frames 5 to 5" in ledger.warnings[0]


def test_replace_exchanges_one_part_and_keeps_the_others() -> None:
    one = pipeline()
    other = dataclasses.replace(one, restorer=Unchanged(32))
    assert isinstance(other.restorer, Unchanged)
    assert other.detector is one.detector and other.recognizer is one.recognizer and other.masker is one.masker
    nobody = dataclasses.replace(one, recognizer=None)
    ledger = RunLog()
    list(nobody.restore_frames(clip(), ledger))
    assert nobody.recognizer is None and ledger.tracks[0].mean_similarity is None


def test_the_random_numbers_of_the_host_program_stay_its_own() -> None:
    before = torch.get_rng_state()
    Pipeline(
        Config.of({"restore": {"use": "unchanged"}, "gate": {"use": "none"}}), detector=Discs()
    )  # with the built-in recognizer
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pipeline_can_run_again_and_gives_the_same() -> None:
    shared = pipeline()
    once, again = ([one.image for one in shared.restore_frames(clip())] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


def test_a_pipeline_goes_into_another_process_and_gives_the_same() -> None:
    here = Pipeline(Config.of({"restore": {"use": "unchanged"}, "gate": {"use": "none"}}), detector=Discs(), recognizer=None)
    there = pickle.loads(pickle.dumps(dataclasses.replace(here, detector=None, masker=None)))
    found = dataclasses.replace(there, detector=here.detector, masker=here.masker)
    once, again = ([one.image for one in parts.restore_frames(clip())] for parts in (here, found))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


class Multiplier(Discs):
    """Finds discs, after OpenMP's threads had to work; they have to when it is made, too."""

    def __init__(self) -> None:
        super().__init__()
        self.product()

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        self.product()
        return super().detect(images)

    @staticmethod
    def product() -> None:
        torch.ones(1 << 20).exp()


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_process_that_is_forked_after_networks_were_used_does_not_wait_for_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_BUILDERS, "detector", lambda _: Multiplier())
    parts: dict[str, Any] = {"recognizer": None, "restorer": Lighter(), "judge": None}
    Pipeline(**parts)
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(60)  # ends it, where it waits
            made = Pipeline(**parts)
            faces = sum(len(found.faces) for found in made.find_faces(clip()[:3]))
            restored = sum(len(one.patches) for one in made.restore_frames(clip()[:3]))
            code = 0 if (faces, restored) == (3, 3) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("size", "said"), [(None, "got nothing"), (0, "got 0"), ("64", "got '64'"), (63.5, r"got 63\.5"), (property(), "got <property")]
)
def test_a_restorer_without_a_size_is_refused_when_the_pipeline_is_made(size: object, said: str) -> None:
    class Sizeless:
        def restore(self, crops: Sequence[FaceCrop], memory: dict[int, Any]) -> Tensor:
            raise NotImplementedError

    restorer = Sizeless()
    restorer.size = size  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=f"the restorer Sizeless: expected as `size` .*, {said}"):
        pipeline(restorer)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"the restorer Sizeless \(the class itself\): expected"):
        dataclasses.replace(pipeline(), restorer=Sizeless)


class Finer(Lighter):
    """Knows what close-ups show: the frame's own, and a dot in the middle of it."""

    larger: Any = 128

    def __init__(self) -> None:
        super().__init__()
        self.enlarged: list[Tensor] = []

    def enlarge(self, crops: Tensor, restored: Tensor) -> Tensor:
        self.enlarged.append(restored)
        out = crops.clone()
        out[..., 63:65, 63:65] = 1
        return out


def test_close_ups_get_the_detail_that_their_restorer_knows() -> None:
    frames = [frame(i, 1, (60, 60)) for i in range(3)]
    large = [Frame.from_image(cv2.resize(one.image, (480, 360), interpolation=cv2.INTER_CUBIC), one.index) for one in frames]
    part, log = Finer(), RunLog()

    class Found(Discs):
        def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
            small = super().detect([cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA) for image in images])
            return [[Detection(3 * one.box, 3 * one.landmarks, one.score) for one in found] for found in small]

    out = list(dataclasses.replace(pipeline(part), detector=Found()).restore_frames(iter(large), log))
    assert len(part.enlarged) == 3 and all(one.shape == (1, 3, 64, 64) for one in part.enlarged)
    assert "enlarge" in log.seconds_per_stage
    for before, after in zip(large, out, strict=True):
        changed = np.abs(after.image.astype(int) - before.image).max(-1)
        assert (changed > 20).sum() < 200, "the light that was added at the small size is gone"
        assert changed.max() > 60
    small = Finer()
    list(pipeline(small).restore_frames(iter(frames)))
    assert small.calls and not small.enlarged


@pytest.mark.parametrize("larger", [64, 0, "128", 128.5])
def test_a_side_for_close_ups_that_is_none_is_refused_when_the_pipeline_is_made(larger: Any) -> None:
    part = Finer()
    part.larger = larger
    with pytest.raises(
        ConfigError, match=f"the restorer Finer: expected as `larger` a side of more pixels than 64, or None, got {larger!r}"
    ):
        pipeline(part)


@pytest.mark.parametrize("config", ["archival.yaml", Path("archival.yaml"), {"restore": {"steps": 5}}])
def test_what_is_no_config_is_told_with_the_way_to_make_one(config: Any) -> None:
    with pytest.raises(ConfigError, match=rf"expected a Config, got a {type(config).__name__}; Config\.load reads a file"):
        Pipeline(config)
    with pytest.raises(ConfigError, match="expected a Config"):
        restore_video("in.mp4", "out.mp4", config)


def test_a_still_keeps_its_face() -> None:
    (out,) = pipeline().restore_frames([frame(0, 1, (60, 60))])
    assert len(out.patches) == 1


def test_what_is_no_frame_is_told_with_the_way_to_make_one() -> None:
    with pytest.raises(TypeError, match=r"expected frames, got a ndarray; make each with Frame\.from_image"):
        list(pipeline().restore_frames(iter([np.zeros((8, 8, 3), np.uint8)])))


class Spans(Lighter):
    anchors, reach = 4, 2

    def restore_span(
        self, crops: Sequence[FaceCrop], after: Sequence[FaceCrop], first: bool, memory: dict[int, Any], batch: int
    ) -> Tensor:
        return self.restore(crops, memory)


@pytest.mark.parametrize("restorer", [Lighter(), Spans()])
def test_frames_that_are_not_numbered_upwards_are_told_and_none_is_lost(restorer: Any) -> None:
    same = [Frame.from_image(one.source) for one in clip()]  # nobody said which is which
    twice = [one for one in clip() for _ in range(2)]
    for frames, said in (
        (same, "frame 0 came after frame 0"),
        (twice, "frame 0 came after"),
        (clip()[::-1], "frame 50 came after frame 51"),
    ):
        with pytest.raises(ValueError, match=said + ".*; number them upwards, with dataclasses.replace"):
            list(pipeline(restorer).restore_frames(frames))
    with pytest.raises(ValueError, match="number them upwards"):
        list(pipeline(restorer).find_faces(same))
    assert len(list(pipeline(restorer).restore_frames(clip()[::2]))) == 26


@pytest.mark.parametrize(("name", "value"), [("anchors", None), ("anchors", 0), ("anchors", 2.5), ("reach", None), ("reach", -1)])
def test_a_restorer_that_does_not_say_how_far_it_looks_is_refused(name: str, value: Any) -> None:
    restorer = Spans()
    setattr(restorer, name, value)
    with pytest.raises(
        ConfigError, match=f"^the restorer Spans: expected as `{name}` a number of frames from [01] on, got {value}$"
    ):
        pipeline(restorer)


@pytest.mark.parametrize(
    ("name", "method"),
    [("detector", "detect"), ("recognizer", "embed"), ("restorer", "restore"), ("judge", "judge"), ("masker", "mask")],
)
def test_what_is_no_part_is_told_when_the_pipeline_is_made(name: str, method: str) -> None:
    with pytest.raises(ConfigError, match=f"^the {name}: expected a part with the method {method}, got a str$"):
        dataclasses.replace(pipeline(), **{name: "theirs"})
    forgotten = type("Forgotten", (), {"size": 64, method: lambda self, *_: None})
    with pytest.raises(
        ConfigError, match=rf"^the {name}: expected a part, got the class Forgotten itself; make one: Forgotten\(...\)$"
    ):
        dataclasses.replace(pipeline(), **{name: forgotten})
    dataclasses.replace(pipeline(), **{name: type("Static", (), {"size": 64, method: staticmethod(lambda *_: None)})})


@pytest.mark.parametrize("kind", ["cuts", "detect", "track", "identify", "restore", "gate", "blend"])
def test_a_function_that_makes_no_part_is_named_with_its_setting(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"^\$\.{kind}\.use: os:getcwd: expected a part with the method \w+, got a str$"):
        Pipeline(Config.of({"restore": {"use": "unchanged"}, "gate": {"use": "none"}, kind: {"use": "os:getcwd"}}))


@pytest.mark.parametrize(
    ("references", "said"),
    [
        (None, "got None"),
        ([1], "got a list"),
        ({"anna": None}, "got for anna None"),
        ({"anna": np.ones(3)}, r"got for anna a ndarray \(3,\)"),
        ({"anna": torch.ones(1, 3)}, r"got for anna a Tensor \(1, 3\)"),
        ({"anna": torch.ones(4)}, "got for anna one of length 2"),
        ({"anna": torch.full((4,), torch.nan)}, "got for anna one of length nan"),
    ],
)
def test_references_that_are_no_identities_are_refused(references: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^references: expected name -> a tensor \(D,\) of length 1, {said}$"):
        dataclasses.replace(pipeline(), references=references)


def test_references_of_another_recognizer_are_told_when_the_pipeline_is_made() -> None:
    other = {"anna": torch.tensor([1.0, 0.0])}
    with pytest.raises(ConfigError, match=r"^references: that of anna has 2 numbers and the recognizer's 3; make them with it$"):
        dataclasses.replace(pipeline(), references=other)
    assert dataclasses.replace(pipeline(), recognizer=None, references=other).references == other


@pytest.mark.parametrize("photographs", [None, {"anna": None}, {"anna": np.zeros((3, 64, 64))}, {"anna": torch.zeros(64, 64, 3)}])
def test_photographs_that_are_no_pictures_are_refused(photographs: Any) -> None:
    with pytest.raises(ConfigError, match=r"^photographs: expected name -> a tensor \(3, S, S\) of floats in \[-1, 1\], got "):
        dataclasses.replace(pipeline(), photographs=photographs)


def test_a_restorer_of_another_size_gets_photographs_and_people_at_its_own() -> None:
    film, blue = clip(), torch.nn.functional.normalize(torch.tensor(BLUE) / 1.0, dim=0)
    one = dataclasses.replace(pipeline(), references={"anna": blue}, photographs={"anna": torch.full((3, 64, 64), 0.5)})
    assert len({one, dataclasses.replace(one)}) == 2  # pipelines can be keys, each of its own
    restorer = Lighter()
    restorer.size = 32
    other, cast = dataclasses.replace(one, restorer=restorer), one.look(iter(film))
    list(other.restore_frames(film, cast=cast))
    crops = [crop for call in restorer.calls for crop in call]
    shown = [(crop.photograph, crop.earlier) for crop in crops if crop.photograph is not None]
    assert shown
    for photograph, earlier in shown:
        assert earlier is not None and earlier.shape == photograph.shape == (3, 32, 32)
        assert torch.allclose(photograph, torch.tensor(0.5))


@pytest.mark.parametrize("name", ["make_cut_detector", "make_tracker"])
def test_what_fails_to_make_a_part_is_told(name: str) -> None:
    def fails() -> Any:
        raise OSError("no model")

    with pytest.raises(RestorationError, match=r"^frame 0: the (tracker|cut detector) raised OSError: no model$"):
        list(dataclasses.replace(pipeline(), **{name: fails}).restore_frames(clip()))


@pytest.mark.parametrize("name", ["make_cut_detector", "make_tracker"])
def test_a_part_where_what_makes_it_belongs_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected what makes one, such as its class, got a Detection$"):
        dataclasses.replace(pipeline(), **{name: Detection(np.zeros(4), np.zeros((5, 2)), 1.0)})


def test_no_frames_give_no_frames() -> None:
    assert list(pipeline().restore_frames([])) == []


def test_aligned_pictures_are_restored_whole_and_each_for_itself() -> None:
    pictures = [Frame.from_image(np.full((80, 80, 3), value, np.uint8), index) for index, value in enumerate((90, 95, 100))]
    restorer = Lighter()
    ledger = RunLog()
    out = list(pipeline(restorer).restore_frames(pictures, ledger, aligned=True))
    for before, after in zip(pictures, out, strict=True):
        np.testing.assert_allclose(after.image.astype(int) - before.image, 38, atol=1)  # 0.3 of 127.5, to the edge
    assert [track.track for track in ledger.tracks] == [0, 1, 2]


def test_a_changing_picture_size_is_no_problem() -> None:
    wide = [Frame.from_image(cv2.resize(one.image, (240, 180)), 6 + one.index) for one in clip()[:6]]
    out = list(pipeline().restore_frames([*clip()[:6], *wide]))
    assert [one.image.shape for one in out] == [(120, 160, 3)] * 6 + [(180, 240, 3)] * 6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("runtime.device=cuda:99", r"\$\.runtime\.device: cuda:99 is not here"),
        ("runtime.device=toaster", r"\$\.runtime\.device: unknown device 'toaster'"),
        *((f"runtime.device={name}", rf"\$\.runtime\.device: {name} is no device .* cuda:n") for name in ("meta", "mps", "xla")),
        ("cuts.use=scissors", r"\$\.cuts\.use: unknown part 'scissors'; known here: content"),
        ("cuts.options={sharpness: 2}", r"\$\.cuts\.options\.sharpness: content has no such option; it takes "),
        ("blend.options={softness: 7}", r"\$\.blend\.options: feather: softness must be"),
        ("blend.options={center: [.nan, 0.5]}", r"\$\.blend\.options: feather: the ellipse"),
        ("blend.options={center: [0.5], radii: [0.4]}", r"\$\.blend\.options: feather: center and radii are two numbers"),
        ("cuts.options={ratio: .nan}", r"\$\.cuts\.options: content: thresholds and ratios must be positive"),
        ("track.options={max_gap: .nan}", r"\$\.track\.options\.max_gap: expected a whole number, got nan"),
        ("track.options={max_gap: -1}", r"\$\.track\.options: overlap: .*max_gap >= 0"),
        ("track.options={min_overlap: .nan}", r"\$\.track\.options: overlap: min_overlap must be in"),
    ],
)
def test_bad_settings_are_said_when_the_pipeline_is_made(setting: str, message: str) -> None:
    config = Config.of({"restore": {"use": "unchanged"}}).override(setting)
    with pytest.raises(ConfigError, match=message):
        Pipeline(config, detector=Discs(), recognizer=Colors())


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 5), ("fidelity", 0.25), ("seed", 7), ("anchors", 4), ("precision", "bfloat16")]
)
def test_each_setting_of_the_restoration_reaches_the_restorer(name: str, value: object) -> None:
    assert getattr(Pipeline(Config().override(f"restore.{name}={value}")).restorer, name) == value


def test_parts_named_in_the_config_are_built_with_its_options() -> None:
    config = Config.of({"restore": {"use": "unchanged", "options": {"size": 48}}, "runtime": {"device": "cpu"}})
    built = Pipeline(config, detector=Discs(), recognizer=None)
    assert isinstance(built.restorer, Unchanged) and built.restorer.size == 48


def color(rgb: tuple[int, int, int]) -> Tensor:
    return torch.nn.functional.normalize(torch.tensor(rgb) / 127.5, dim=0)


def test_references_name_the_tracks_and_the_others_keep_their_own_identity() -> None:
    restorer = Lighter()
    photograph = torch.zeros(3, 64, 64)
    known = dataclasses.replace(
        pipeline(restorer, identify={"match": 0.9}), references={"green": color(GREEN)}, photographs={"green": photograph}
    )
    ledger = RunLog()
    list(known.restore_frames(clip(), ledger))
    first, second = ledger.tracks
    assert (first.person, first.name, second.person, second.name) == (1, None, 0, "green")
    assert second.person_similarity is not None and second.person_similarity > 0.95
    for crop in (crop for crops in restorer.calls for crop in crops):
        if crop.frame.shot == 1:
            assert crop.identity is not None and torch.allclose(crop.identity, color(GREEN), atol=1e-5)
        assert (crop.photograph is photograph) == (crop.frame.shot == 1)


def test_only_the_wanted_person_is_restored_and_the_others_stand_in_the_report() -> None:
    config = {"references": ["green.jpg"], "only": ["green"], "match": 0.9}
    parts = {"detector": Discs(), "recognizer": Colors(), "restorer": Lighter(), "references": {"green": color(GREEN)}}
    ledger = RunLog()
    out = list(Pipeline(Config.of({"identify": config}), **parts).restore_frames(clip(), ledger))
    assert [bool(one.patches) for one in out] == [False] * 12 + [True] * 10 + [False] * 30
    first, second = ledger.tracks
    assert (first.frames, first.passed, first.name, first.last_frame) == (0, 12, None, 11)
    assert (second.frames, second.passed, second.name, second.first_frame) == (10, 0, "green", 12)
    assert ledger.faces_restored == 10 and ledger.shots == 3


@pytest.mark.parametrize(("asked", "restored"), [({"leave": [0]}, 10), ({"only": ["0"]}, 12), ({"only": [0, 1], "leave": [1]}, 12)])
def test_tracks_are_restored_or_left_by_their_numbers(asked, restored) -> None:
    ledger = RunLog()
    list(pipeline(identify=asked).restore_frames(clip(), ledger))
    assert ledger.faces_restored == restored
    assert [track.frames + track.passed for track in ledger.tracks] == [12, 10]
    assert ledger.warnings == []


def test_a_track_that_is_not_there_is_told() -> None:
    ledger = RunLog()
    list(pipeline(identify={"leave": [1, 2, 57]}).restore_frames(clip(), ledger))
    (told,) = ledger.warnings
    assert told.startswith("there is no track 2, 57 to restore or to leave: the last one is 1")


def test_a_number_that_a_file_of_tracks_leaves_out_is_told_and_so_is_a_track_of_another_part(tmp_path: Path) -> None:
    path = tmp_path / "tracks.jsonl"
    faces = [(0, 3), (2, 5), (90, 4)]
    face = {"box": [20, 20, 60, 60], "points": [[30, 30], [50, 30], [40, 40], [32, 50], [48, 50]]}
    lines = [{"frame": n, "time": f"{n}/25", "faces": [{**face, "track": track}]} for n, track in faces]
    head = {"videoclr": "tracks", "version": 1, "width": 160, "height": 120}
    path.write_text("".join(json.dumps(one) + "\n" for one in (head, *lines)))
    ledger = RunLog()
    made = pipeline(identify={"only": [0, 1, 3, 4]}, track={"file": str(path)}, media={"end": "40f"})
    list(made.restore_frames(clip(), ledger))
    assert ledger.faces_restored == 1
    assert ledger.warnings == [
        "there is no track 0, 1 to restore or to leave: the file of tracks has no such number",
        "there is no track 4 to restore or to leave: its faces in the file of tracks lie outside of what is restored",
    ]


def test_faces_whose_points_fall_together_are_told_once_for_their_track(tmp_path: Path) -> None:
    path = tmp_path / "tracks.jsonl"
    good = {"track": 0, "box": [20, 20, 60, 60], "points": [[30, 30], [50, 30], [40, 40], [32, 50], [48, 50]]}
    bad = {"track": 1, "box": [80, 20, 120, 60], "points": [[100, 40]] * 5}
    head = {"videoclr": "tracks", "version": 1, "width": 160, "height": 120}
    lines = (head, *({"frame": n, "faces": [good, bad]} for n in range(3, 6)))
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    ledger = RunLog()
    for _ in range(2):  # the second time as a run that goes on, which has the warnings of the first
        list(pipeline(track={"file": str(path)}).restore_frames(clip(), ledger))
        assert ledger.warnings == ["track 1: the landmarks span no face, in frame 3 first: its face is left as it is there"]
    assert ledger.faces_restored == 6


def test_a_track_that_no_photograph_shows_is_told_once_and_not_where_a_file_of_people_knows_the_name(tmp_path: Path) -> None:
    path = tmp_path / "tracks.jsonl"
    face = {"track": 3, "box": [20, 20, 60, 60], "points": [[30, 30], [50, 30], [40, 40], [32, 50], [48, 50]]}
    head = {"videoclr": "tracks", "version": 1, "width": 160, "height": 120}
    lines = (head, {"track": 3, "name": "anna"}, {"frame": 0, "faces": [face]})
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    made = dataclasses.replace(pipeline(track={"file": str(path)}), references={"green": color(GREEN)})
    ledger = RunLog()
    for _ in range(2):  # the second time as a run that goes on, which has the warnings of the first
        list(made.restore_frames(clip(), ledger))
        assert ledger.warnings == [f"{path}: track 3 is called anna, and no photograph is: it gets nobody's"]
    ledger = RunLog()
    list(dataclasses.replace(made, cast=Cast((Member("anna", color(BLUE)),))).restore_frames(clip(), ledger))
    assert ledger.warnings == []


def test_a_name_in_a_file_of_tracks_stands_in_the_report_where_nobody_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "tracks.jsonl"
    face = {"box": [20, 20, 60, 60], "points": [[30, 30], [50, 30], [40, 40], [32, 50], [48, 50]]}
    head = {"videoclr": "tracks", "version": 1, "width": 160, "height": 120}
    frames = [{"frame": n, "faces": [{"track": 0, **face}, {"track": 1, **face}]} for n in range(2)]
    path.write_text("".join(json.dumps(one) + "\n" for one in (head, {"track": 0, "name": "anna"}, *frames)))
    config = Config.of({"gate": {"use": "none"}, "track": {"file": str(path)}, "identify": {"only": ["anna"]}})
    ledger = RunLog()
    list(Pipeline(config, detector=Discs(), recognizer=None, restorer=Lighter()).restore_frames(clip(), ledger))
    found = {track.track: (track.name, track.person, track.frames, track.passed) for track in ledger.tracks}
    assert found == {0: ("anna", None, 2, 0), 1: (None, None, 0, 2)}


def test_faces_are_found_as_they_would_be_for_a_restoration() -> None:
    restored, found = RunLog(), RunLog()
    list(pipeline().restore_frames(clip(), restored))
    seen = list(pipeline().find_faces(clip(), found))
    assert [one.frame.index for one in seen] == list(range(52))
    assert [len(one.faces) for one in seen] == [1] * 22 + [0] * 30
    assert (found.frames_in, found.shots, found.faces_restored) == (52, 3, 0)
    for one, other in zip(restored.tracks, found.tracks, strict=True):
        assert (one.track, one.person, one.first_time, one.last_time) == (
            other.track,
            other.person,
            other.first_time,
            other.last_time,
        )
        assert (one.frames, one.mean_size) == (other.passed, pytest.approx(other.mean_size))


def test_notes_that_come_late_do_not_turn_a_track_back() -> None:
    early, late = (
        FaceNote(index, Fraction(index), 0, 0, number, None, None, (0.0,) * 4, 1.0, 10.0, True, passed=not index)
        for index, number in ((0, 3), (5, 4))
    )
    for notes in ((early, late), (late, early)):
        summary = TrackSummary.begun_by(notes[0])
        for note in notes:
            summary.add(note)
        assert (summary.first_frame, summary.last_frame, summary.last_time) == (0, 5, 5)
        assert (summary.person, summary.frames, summary.passed) == (4, 1, 1)


def test_a_person_who_returns_after_a_cut_has_one_number() -> None:
    film = [*clip()[:22], *(frame(i, 4, (60, 60), BLUE) for i in range(22, 30))]
    ledger = RunLog()
    list(pipeline().restore_frames(film, ledger))
    assert [(track.track, track.person) for track in ledger.tracks] == [(0, 0), (1, 1), (2, 0)]
    ledger = RunLog()
    list(pipeline(identify={"remember": 0}).restore_frames(film, ledger))
    assert [track.person for track in ledger.tracks] == [None] * 3


@pytest.mark.parametrize("look_back", [True, False])
def test_who_returns_is_restored_beside_what_the_film_showed_before(look_back: bool) -> None:
    film = [*clip()[:22], *(frame(i, 4, (60, 60), BLUE) for i in range(22, 30))]
    restorer = Lighter()
    list(pipeline(restorer, identify={"look_back": look_back}).restore_frames(film))
    crops = [crop for crops in restorer.calls for crop in crops]
    assert {crop.frame.shot for crop in crops if crop.earlier is not None} == ({2} if look_back else set())


def test_a_film_that_is_looked_through_first_is_known_from_its_first_frame() -> None:
    film = [*clip()[:22], *(frame(i, 4, (60, 60), BLUE) for i in range(22, 30))]
    parts, seen = pipeline(restorer := Lighter()), []
    cast = parts.look(iter(film), seen.append)
    assert seen == list(range(1, 31)) and len(cast.members) == 2 and dict(cast.tracks) == {0: 0, 1: 1, 2: 0}
    assert not restorer.calls
    ledger = RunLog()
    list(parts.restore_frames(iter(film), ledger, cast=cast))
    assert [(track.track, track.person) for track in ledger.tracks] == [(0, 0), (1, 1), (2, 0)]
    assert all(crop.earlier is not None for crops in restorer.calls for crop in crops)


def test_frames_that_nobody_looked_through_first_are_told() -> None:
    ledger, parts = RunLog(), pipeline(identify={"look_first": True})
    list(parts.restore_frames(iter(clip()[:3]), ledger))
    assert len(ledger.warnings) == 1 and "nobody looked" in ledger.warnings[0]
    ledger = RunLog()
    list(parts.restore_frames(iter(clip()[:3]), ledger, cast=parts.look(iter(clip()[:3]))))
    assert not ledger.warnings


def test_people_of_a_file_are_known_and_may_be_asked_for_by_name(tmp_path: Path) -> None:
    film = clip()
    told = recognizer_of(Config())
    cast = pipeline().look(iter(film))
    blue = next(one for one in cast.members if float(one.identity[2]) > float(one.identity[1]))
    path = tmp_path / "people.json"
    path.write_text(json.dumps(Cast((dataclasses.replace(blue, name="anna"),)).as_json(told)))
    ledger, restorer = RunLog(), Lighter()
    list(pipeline(restorer, identify={"people": str(path), "only": ["anna"]}).restore_frames(iter(film), ledger))
    assert [(track.person, track.name, track.passed) for track in ledger.tracks] == [(0, "anna", 0), (1, None, 10)]
    assert all(crop.earlier is not None for crops in restorer.calls for crop in crops)
    with pytest.raises(
        ConfigError, match=r"\$\.identify\.only: nobody is called 'ben': known are anna; a photograph would be a file"
    ):
        pipeline(identify={"people": str(path), "only": ["ben"]})
    path.write_text(json.dumps(Cast((Member("anna", torch.tensor([0.0, 1.0])),)).as_json(told)))
    with pytest.raises(ConfigError, match=r"people\.json: its identities have 2 numbers and the recognizer's 3; make it anew"):
        pipeline(identify={"people": str(path)})
    with pytest.raises(ConfigError, match=r"\$\.identify\.people: a recognizer is needed"):
        Pipeline(Config.of({"identify": {"people": str(path)}}), detector=Discs(), recognizer=None, restorer=Lighter())
    with pytest.raises(ConfigError, match=r"\$\.identify\.look_first: a recognizer is needed"):
        Pipeline(Config(), detector=Discs(), recognizer=None, restorer=Lighter()).look(iter(film))


def test_a_look_that_is_stopped_stops_its_threads() -> None:
    before = threading.active_count()

    def stop(number: int) -> None:
        if number == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline().look(iter(clip()), stop)
    assert threading.active_count() == before


def test_aligned_pictures_share_nobody() -> None:
    pictures = [Frame.from_image(np.full((80, 80, 3), 90, np.uint8), index) for index in range(2)]
    ledger = RunLog()
    list(pipeline().restore_frames(pictures, ledger, aligned=True))
    assert [track.person for track in ledger.tracks] == [None, None]


def test_photographs_need_a_recognizer() -> None:
    with pytest.raises(ConfigError, match=r"\$\.identify\.references: a recognizer is needed"):
        Pipeline(Config.of({"identify": {"references": ["a.jpg"]}}), detector=Discs(), recognizer=None, restorer=Lighter())


class Doubts:
    """Trusts the first frames only; sees nothing wrong with places."""

    def judge(self, faces: Any, memory: dict[int, Any]) -> list[Verdict]:
        late = faces.frame.index >= 6
        return [Verdict(0.0 if late else 1.0, None, {"pose": 0.0} if late else {}) for _ in faces.faces]


def test_the_judge_decides_what_is_shown_and_the_ledger_says_why() -> None:
    ledger = RunLog()
    doubting = dataclasses.replace(pipeline(gate={"use": "none", "smoothing": 0}), judge=Doubts())
    out = list(doubting.restore_frames(clip(), ledger))
    assert [bool(one.patches) for one in out] == [True] * 6 + [False] * 46
    first, second = ledger.tracks
    assert (first.frames, first.reasons) == (12, {"pose": 6}) and first.mean_confidence == pytest.approx(0.5)
    assert (second.frames, second.reasons, second.mean_confidence) == (10, {"pose": 10}, 0)
    assert "gate" in ledger.seconds_per_stage


def test_the_gate_can_be_left_out() -> None:
    assert pipeline(gate={"use": "none"}).judge is None
    summaries = []
    for use in ("none", "agreement"):
        ledger = RunLog()
        list(pipeline(gate={"use": use}).restore_frames(clip()[:4], ledger))
        summaries.append((ledger.tracks[0].mean_confidence, "gate" in ledger.seconds_per_stage))
    assert summaries == [(1, False), (pytest.approx(1, abs=0.01), True)]  # light added everywhere is no disagreement
    with pytest.raises(ConfigError, match=r"\$\.gate\.options: agreement: expected two different numbers"):
        pipeline(gate={"options": {"yaw": [3]}})
    with pytest.raises(ConfigError, match=r"\$\.gate\.use: unknown part 'wall'; known here: agreement, none"):
        pipeline(gate={"use": "wall"})


def test_every_restored_face_can_be_told_one_by_one() -> None:
    lines: list[dict[str, Any]] = []
    doubting = dataclasses.replace(pipeline(gate={"use": "none", "smoothing": 0}), judge=Doubts())
    list(doubting.restore_frames(clip(), RunLog(each_face=lines.append)))
    assert [line["frame"] for line in lines] == list(range(22))
    first, last = lines[0], lines[-1]
    assert (first["track"], first["person"], first["confidence"], first["reasons"]) == (0, 0, 1, {})
    assert (last["track"], last["shot"], last["confidence"], last["reasons"]) == (1, 1, 0, {"pose": 0.0})
    assert first["time"] == clip()[0].time and len(first["box"]) == 4 and first["trusted_share"] == 1 and first["invented"] is None
