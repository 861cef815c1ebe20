"""The benchmark measures what it says, on tiny clips and with a pipeline that needs no weights."""

from __future__ import annotations

import json
import mmap
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

_SPEC = spec_from_file_location("benchmark", Path(__file__).parents[2] / "pipelines" / "benchmark.py")
assert _SPEC is not None and _SPEC.loader is not None
benchmark = module_from_spec(_SPEC)
sys.modules["benchmark"] = benchmark
_SPEC.loader.exec_module(benchmark)


def test_the_median_leaves_the_first_run_out() -> None:
    runs = []
    assert benchmark.median_seconds(lambda: runs.append(1), 3) >= 0
    assert len(runs) == 4


def test_nothing_to_measure_and_bad_numbers_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (
        [],
        ["--speed", "--repeat", "0"],
        ["--memory", "-1"],
        ["--memory", "1", "--appear", "0"],
        ["--memory", "1", "--appear", "2", "--nth", "5"],
        ["--memory", "8k"],
        ["--media", "--size", "101x50"],
        ["--media", "--seconds", "nan"],
        ["--media", "--seconds", "inf"],
        ["--memory", "nan"],
        ["--memory", "1", "--every", "nan"],
        ["--memory", "1", "--appear", "inf"],
        ["--memory", "1", "--rate", "1/0"],
    ):
        with pytest.raises(SystemExit) as stopped:
            benchmark.main(wrong)
        assert stopped.value.code == 2
    assert "nothing to measure" in capsys.readouterr().err


def test_an_unknown_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--speed", "--set", "restore.stepps=3"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "stepps" in err


def test_the_long_film_has_its_frames_and_a_face_in_few_of_them() -> None:
    pytest.importorskip("skimage")
    frames = list(benchmark.long_film((160, 90), 200))
    assert len(frames) == 200 and {frame.shape for frame in frames} == {(90, 160, 3)}
    plain = [frame is frames[index - 1] for index, frame in enumerate(frames) if index]
    assert sum(plain) > 120
    reference = [benchmark.gradient(160, 90, index // 25) for index in range(200)]
    faces = sum(not np.array_equal(frame, base) for frame, base in zip(frames, reference, strict=True))
    assert faces == 60


def test_the_peak_rises_with_memory_and_can_be_set_back() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux")
    benchmark.reset_peak()
    before = benchmark.status_mib("VmHWM")
    with mmap.mmap(-1, 40 << 20) as block:  # pages of its own: an array may get some that were freed and never given back
        for _ in range(40):  # in pieces, because what is written is an array as well
            block.write(b"1" * (1 << 20))
        assert benchmark.status_mib("VmHWM") > before + 30
    benchmark.reset_peak()
    assert benchmark.status_mib("VmHWM") < before + 30


def test_reader_to_writer_keeps_every_frame(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    count = benchmark.write_clip(source, benchmark.panning((64, 64), 12), benchmark.RATE, benchmark.Generation(quality=20))
    benchmark.copy_frames(source, tmp_path / "out.mp4")
    with benchmark.Reader(tmp_path / "out.mp4") as reader:
        assert sum(1 for _ in reader.frames()) == count == 12


class Stand:
    """Stands in for a pipeline whose parts have no weights."""

    class Restorer:
        size, anchors, reach = 64, 4, 2

        def restore(self, crops, memory):
            import torch

            return torch.stack([crop.image for crop in crops])

        def restore_span(self, crops, after, first, memory, batch):
            assert (len(crops), len(after), first) in {(5, 2, True), (4, 2, False)}
            return self.restore(crops, memory)

    class Detector:
        def detect(self, images):
            return [[] for _ in images]

    class Recognizer:
        def embed(self, crops):
            return crops.flatten(1)[:, :4]

    def __init__(self, config) -> None:
        self.restorer, self.detector, self.recognizer = self.Restorer(), self.Detector(), self.Recognizer()


def test_speed_times_every_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmark, "Pipeline", Stand)
    assert benchmark.main(["--speed", "--repeat", "2", "--json", str(tmp_path / "r.json")]) == 0
    speed = json.loads((tmp_path / "r.json").read_text())["speed"]
    assert speed["threads"] == 1 and speed["crop"] == 64
    for name in ("detect_ms_640x360", "restore_s_per_face", "restore_s_per_face_along_a_track", "recognize_ms_per_face"):
        assert 0 < speed[name] < 1000


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`--set` options for a pipeline without weights, importable by a child process as well."""
    (tmp_path / "stand_in_parts.py").write_text(
        "import torch\n"
        "class NoFaces:\n"
        "    def detect(self, images): return [[] for _ in images]\n"
        "class Anyone:\n"
        "    def embed(self, crops): return torch.ones(len(crops), 4) / 2\n"
    )
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("detect.use=stand_in_parts:NoFaces", "identify.use=stand_in_parts:Anyone", "restore.use=unchanged")
    return [item for name in names for item in ("--set", name)]


@pytest.mark.slow
def test_media_compares_with_ffmpeg_and_pyav(settings: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ffmpeg")
    pytest.importorskip("imageio_ffmpeg")
    output = tmp_path / "r.json"
    size = ["--seconds", "0.4", "--size", "64x64", "--repeat", "1"]
    assert benchmark.main(["--media", *size, "--json", str(output), *settings]) == 0
    media = json.loads(output.read_text())["media"]
    assert media["frames"] == 10
    for name in ("ffmpeg_fps", "reader_to_writer_fps", "pyav_fps", "reader_fps", "pipeline_unchanged_fps"):
        assert media[name] > 0
    for name, other in (("reader_to_writer", "ffmpeg"), ("reader", "pyav")):
        assert media[f"{name}_of_{other}"] == pytest.approx(media[f"{name}_fps"] / media[f"{other}_fps"])
        assert media[f"{name}_of_{other}_cpu"] > 0
    assert media["rgb_conversions_per_frame"] == 1
    if Path("/proc/self/status").exists():
        assert 20 < media["deep_peak_mib"] < 1000


def test_floors_are_missed_by_name_and_fail_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good = {"reader_to_writer_of_ffmpeg": 0.5, "reader_to_writer_of_ffmpeg_cpu": 0.97, "reader_of_pyav": 0.95}
    good |= {"reader_of_pyav_cpu": 0.8, "deep_peak_mib": 400.0, "rgb_conversions_per_frame": 1.0}
    assert benchmark.below_floors(good) == []
    monkeypatch.setattr(benchmark, "measure_media", lambda *_: good | {"reader_of_pyav": 0.7, "deep_peak_mib": 2000.0})
    assert benchmark.main(["--media", "--floors"]) == 1
    said = capsys.readouterr().err
    assert "reader of pyav is 0.800, below 0.9" in said
    assert "4K 10-bit takes 2000 MiB" in said
    assert benchmark.main(["--media"]) == 0


def test_pairs_take_turns_and_give_the_share_of_the_other_s_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    costs = {"a": benchmark.Took(2.0, 1.0), "b": benchmark.Took(1.0, 2.0)}

    def took(work):
        work()
        return costs[order[-1]]

    monkeypatch.setattr(benchmark, "took", took)
    found = benchmark.compared("a", "b", lambda: order.append("a"), lambda: order.append("b"), 10, 3)
    assert "".join(order) == "ba" + "ba" + "ab" + "ba"
    assert (found["a_fps"], found["b_fps"], found["a_of_b"]) == (5, 10, 0.5)
    assert found["a_of_b_cpu"] == pytest.approx(2, rel=1e-4)


@pytest.mark.slow
def test_memory_has_a_line_for_every_interval_of_film(settings: list[str], tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux")
    output = tmp_path / "r.json"
    size = ["--size", "160x90", "--every", "1", "--appear", "2", "--resume"]
    assert benchmark.main(["--memory", "0.05", *size, "--json", str(output), *settings]) == 0
    memory = json.loads(output.read_text())["memory"]
    assert len(memory["peak_mib_by_interval"]) == 4  # the last is the report
    assert 20 < memory["resident_mib_at_the_end"] <= memory["peak_mib"] < 4000
    assert memory["tracks"] == 0 and memory["shots"] > 1 and memory["growth_of_the_peak"] == 0
    assert memory["growth_after_first_mib"] == pytest.approx(
        max(memory["peak_mib_by_interval"][1:]) - memory["peak_mib_by_interval"][0]
    )


def test_a_peak_that_grows_fails_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for growth, code in ((0.05, 0), (0.06, 1)):
        monkeypatch.setattr(benchmark, "measure_memory", lambda *_, growth=growth: {"growth_of_the_peak": growth})
        assert benchmark.main(["--memory", "1", "--floors"]) == code
    assert "the peak grew by 6.0%; at most 5% is promised" in capsys.readouterr().err


def test_a_long_film_can_have_faces_and_cuts_again_and_again() -> None:
    pytest.importorskip("skimage")
    frames = list(benchmark.long_film((160, 90), 200, 2))  # a face from 12 on, for 5 frames; a cut at 25
    faced = [index for index in range(200) if frames[index] is not frames[index - 1] and index % 50 in range(12, 18)]
    assert faced == [50 * shown + index for shown in range(4) for index in range(12, 18)]
    assert np.abs(frames[24].astype(int) - frames[25]).mean() > 20


def test_a_long_film_can_have_a_face_in_every_nth_frame_alone() -> None:
    pytest.importorskip("skimage")
    frames = list(benchmark.long_film((64, 64), 30, nth=10))
    assert [index for index in range(30) if not np.array_equal(frames[index], frames[0])] == [5, 15, 25]


@pytest.mark.slow
def test_large_pictures_are_watched_from_outside(settings: list[str], tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux")
    output = tmp_path / "r.json"
    size = ["--size", "64x64", "--seconds", "0.2", "--set", "media.codec=prores"]
    assert benchmark.main(["--memory", "4k", *size, "--floors", "--json", str(output), *settings]) == 0
    memory = json.loads(output.read_text())["memory"]
    assert (memory["size"], memory["frames"], memory["faces"]) == ("128x128 yuv422p10le", 5, 0)
    assert 20 < memory["peak_mib_of_the_first_half"] <= memory["peak_mib"] < benchmark.DEEP_MIB


def test_large_pictures_that_take_too_much_fail_the_run(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(benchmark, "measure_deep_faces", lambda *_: {"peak_mib": 2000.0})
    assert benchmark.main(["--memory", "4k", "--floors"]) == 1
    assert "4K 10-bit with faces takes 2000 MiB, more than 1536" in capsys.readouterr().err


@pytest.mark.slow
def test_a_failing_watched_run_fails_the_benchmark(settings: list[str], tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    broken = [*settings, "--set", "restore.use=no_such_module:Part"]
    with pytest.raises(SystemExit, match="exit code 1"):
        benchmark.main(["--memory", "0.01", "--size", "64x64", *broken])
