from __future__ import annotations

import errno
import importlib
import inspect
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import types
import warnings
from functools import reduce
from pathlib import Path

import pytest
import torch

import videoclr
from videoclr import cli
from videoclr.config import Config
from videoclr.errors import ConfigError, EncodeError, MediaError, RestorationError
from videoclr.report import Report


def a_report(**changed) -> Report:
    values = {
        "source": "in.mp4",
        "target": "out.mp4",
        "frames_in": 50,
        "frames_out": 50,
        "faces_restored": 48,
        "tracks": [{"track": 0}],
        "shots": 2,
        "seconds": 61.2,
        "seconds_per_stage": {},
        "warnings": [],
        "version": videoclr.__version__,
        "settings": {},
    }
    return Report(**{**values, **changed})


class Jobs:
    """Stands in for `videoclr.jobs`: remembers what it was asked and answers or raises what it was told."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple, dict]] = []
        self.answer: object = a_report()

    def __call__(self, *arguments, **named):
        self.asked.append((arguments, named))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer(*arguments, **named) if callable(self.answer) else self.answer

    @property
    def config(self) -> Config:
        return self.asked[-1][0][2]


@pytest.fixture
def jobs(monkeypatch) -> Jobs:
    fake = Jobs()
    module = types.ModuleType("videoclr.jobs")
    module.restore_video = module.restore_batch = fake
    module.targets_of = lambda sources, folder, *_: [folder / Path(source).name for source in sources]
    monkeypatch.setitem(sys.modules, "videoclr.jobs", module)
    return fake


def test_two_names_are_enough(jobs, capsys):
    assert cli.main(["in.mp4", "out.mp4"]) == 0
    assert jobs.asked[0][0][:2] == ("in.mp4", "out.mp4")
    assert jobs.config == Config()
    assert jobs.asked[0][1]["overwrite"] is False
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "videoclr: out.mp4: 50 frames, 48 faces restored in 1 track, 2 shots, 0:01:01\n"


def test_the_default_command_may_be_named_and_options_may_come_first(jobs):
    assert cli.main(["restore", "in.mp4", "out.mp4"]) == 0
    assert cli.main(["--quiet", "--steps", "9", "in.mp4", "out.mp4"]) == 0
    assert [asked[0][:2] for asked in jobs.asked] == [("in.mp4", "out.mp4")] * 2
    assert jobs.config.restore.steps == 9


def test_pipes_are_passed_as_they_are(jobs):
    assert cli.main(["-", "-"]) == 0
    assert jobs.asked[0][0][:2] == ("-", "-")


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["--codec", "ffv1"], "media.codec", "ffv1"),
        (["--crf", "17.5"], "media.crf", 17.5),
        (["--preset", "slow"], "media.preset", "slow"),
        (["--pix-fmt", "yuv422p10le"], "media.pix_fmt", "yuv422p10le"),
        (["--start", "1:30"], "media.start", "1:30"),
        (["--start", "90"], "media.start", "90"),
        (["--end", "00:01:30.5"], "media.end", "00:01:30.5"),
        (["--end", "01:00:00;02"], "media.end", "01:00:00;02"),
        (["--start", "240f"], "media.start", "240f"),
        (["--frames", "24"], "media.frames", 24),
        (["--input-format", "rawvideo"], "media.input.format", "rawvideo"),
        (["--video-size", "64x48"], "media.input.video_size", "64x48"),
        (["--input-pix-fmt", "yuv420p"], "media.input.pix_fmt", "yuv420p"),
        (["--rate", "30000/1001"], "media.input.rate", "30000/1001"),
        (["--rate", "25"], "media.input.rate", "25"),
        (["--start-number", "1001"], "media.input.start_number", 1001),
        (["--output-start-number", "0"], "media.start_number", 0),
        (["--container", "y4m"], "media.container", "y4m"),
        (["--video-stream", "1"], "media.video_stream", 1),
        (["--drop", "data", "--drop", "3"], "media.drop", ["data", "3"]),
        (["--no-provenance"], "media.provenance", False),
        (["--fidelity", "0.9"], "restore.fidelity", 0.9),
        (["--steps", "12"], "restore.steps", 12),
        (["--seed", "0"], "restore.seed", 0),
        (["--reference", "a.jpg", "--reference", "ben=b=1.jpg"], "identify.references", ["a.jpg", "ben=b=1.jpg"]),
        (["--only", "anna"], "identify.only", ["anna"]),
        (["--leave", "12", "--leave", "ben.jpg"], "identify.leave", ["12", "ben.jpg"]),
        (["--grain", "0.5"], "blend.grain", 0.5),
        (["--strength", "0"], "blend.strength", 0.0),
        (["--device", "cuda:1"], "runtime.device", "cuda:1"),
        (["--on-error", "keep"], "runtime.on_error", "keep"),
        (["--set", "detect.threshold=0.7"], "detect.threshold", 0.7),
        (["--set", "restore.options.solver=ddim"], "restore.options", {"solver": "ddim"}),
    ],
)
def test_every_option_reaches_its_setting(jobs, arguments, path, value):
    assert cli.main(["in.mp4", "out.mp4", *arguments]) == 0
    *sections, name = path.split(".")
    assert getattr(reduce(getattr, sections, jobs.config), name) == value


def test_every_named_setting_is_tested_above_and_exists():
    for path in cli._SETTING_OF.values():
        *sections, name = path.split(".")
        assert hasattr(reduce(getattr, sections, Config()), name)


def test_options_win_over_set_and_set_wins_over_the_file(jobs, tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("restore: {steps: 2, seed: 5, fidelity: 0.1}\n")
    arguments = ["--config", str(preset), "--set", "restore.steps=3", "--set", "restore.seed=6", "--steps", "4"]
    assert cli.main(["in.mp4", "out.mp4", *arguments]) == 0
    assert (jobs.config.restore.steps, jobs.config.restore.seed, jobs.config.restore.fidelity) == (4, 6, 0.1)


def test_flags_reach_the_job(jobs):
    assert cli.main(["a%04d.png", "b%04d.png", "--aligned", "-y", "--report", "r.json", "--report-frames", "f.jsonl"]) == 0
    asked = jobs.asked[0][1]
    assert asked["report_frames"] == Path("f.jsonl")
    assert (asked["aligned"], asked["overwrite"], asked["report"]) == (True, True, Path("r.json"))


def test_a_result_that_wants_a_look_is_named_and_has_an_exit_code(jobs, capsys):
    assert cli.main(["in.mp4", "out.mp4", "--fail-on", "faces<10"]) == 0
    capsys.readouterr()
    assert cli.main(["in.mp4", "out.mp4", "--fail-on", "faces<10", "--fail-on", "faces<50", "--quiet"]) == 3
    assert capsys.readouterr() == ("", "videoclr: error: out.mp4: faces 48, and --fail-on says faces < 50\n")
    jobs.asked.clear()
    assert cli.main(["in.mp4", "out.mp4", "--fail-on", "noses<1"]) == 2
    assert jobs.asked == []


@pytest.mark.parametrize(("results", "code"), [((a_report(),), 0), ((a_report(), a_report(faces_restored=3)), 3)])
def test_one_result_of_a_batch_that_wants_a_look_is_enough(jobs, capsys, results, code):
    def answer(*_, ended, **__):
        for result in results:
            ended("in.mp4", result)
        return list(results)

    jobs.answer = answer
    assert cli.main(["batch", "in.mp4", "--to", "done", "--fail-on", "faces<10"]) == code
    assert capsys.readouterr().err.count("--fail-on says") == (code == 3)
    jobs.answer = lambda *_, ended, **__: ended("in.mp4", MediaError("in.mp4", "is no video"))
    assert cli.main(["batch", "in.mp4", "--to", "done", "--fail-on", "faces<10"]) == 1


def test_quiet_says_nothing(jobs, capsys):
    assert cli.main(["in.mp4", "out.mp4", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert jobs.asked[0][1]["progress"] is None


def test_standard_output_stays_clean_while_the_log_and_progress_speak(jobs, capsys, monkeypatch):
    def work(*_, progress, **__):
        logging.getLogger("videoclr.media.reader").warning("in.mp4: [truncated] at 3 s")
        logging.getLogger("videoclr.flow").info("not interesting")
        warnings.warn("deprecated inside a library", stacklevel=1)
        for frames in (1, 2):
            progress(
                types.SimpleNamespace(
                    source="-", frames=frames, total=10, faces=3, seconds=2.0, seconds_left=8.0, before=0, looking=False
                )
            )
        return a_report(target="-")

    monkeypatch.setattr(cli, "PLAIN_PROGRESS_SECONDS", 0.0)
    jobs.answer = work
    assert cli.main(["-", "-"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[:3] == [
        "videoclr: warning: in.mp4: [truncated] at 3 s",
        "videoclr: -: 1 of 10 frames, 0.5 fps, 3 faces, 0:00:08 left",
        "videoclr: -: 2 of 10 frames, 1.0 fps, 3 faces, 0:00:08 left",
    ]
    assert "interesting" not in err
    assert "deprecated" not in err


def test_one_of_something_is_one(jobs, monkeypatch, capsys):
    def work(*_, progress, **__):
        one = {"total": 1, "faces": 1, "seconds": 1.0, "seconds_left": 0.0, "before": 0, "looking": False}
        progress(types.SimpleNamespace(source="-", frames=1, **one))
        return a_report(target="-", frames_out=1, faces_restored=1, smart_copy={"frames_copied": 1, "groups_copied": 1})

    monkeypatch.setattr(cli, "PLAIN_PROGRESS_SECONDS", 0.0)
    jobs.answer = work
    assert cli.main(["-", "-"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "videoclr: -: 1 of 1 frame, 1.0 fps, 1 face, 0:00:00 left",
        "videoclr: -: 1 frame, 1 face restored in 1 track, 2 shots, 1 frame copied in 1 group, 0:01:01",
    ]


def test_plain_progress_waits_between_lines(jobs, capsys):
    def work(*_, progress, **__):
        for frames in range(1, 100):
            progress(
                types.SimpleNamespace(
                    source="-", frames=frames, total=None, faces=0, seconds=1, seconds_left=None, before=0, looking=False
                )
            )
        return a_report()

    jobs.answer = work
    assert cli.main(["in.mp4", "out.mp4"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_bar_of_a_terminal_leaves_nothing_behind_when_a_run_fails(jobs, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")

    def work(*_, progress, **__):
        for source in ("a.mp4", "b.mp4"):
            progress(
                types.SimpleNamespace(
                    source=source, frames=5, total=10, faces=0, seconds=1, seconds_left=1.0, before=0, looking=False
                )
            )
        raise MediaError("b.mp4", "gone")

    jobs.answer = work
    assert cli.main(["batch", "a.mp4", "b.mp4", "--to", "x"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "5 of 10 frames" in err
    assert err.endswith("videoclr: error: b.mp4: gone\n")


def test_a_batch_at_several_places_shows_a_bar_for_each_file_until_it_is_over():
    def at(source: str, frames: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(
            source=source, frames=frames, total=10, faces=0, seconds=1, seconds_left=1.0, before=0, looking=False
        )

    class Bars:
        def __init__(self) -> None:
            self.there: dict[str, int] = {}

        def add_task(self, name, **_):
            self.there[name] = 0
            return name

        def update(self, name, completed, **_):
            self.there[name] = completed

        def remove_task(self, name):
            del self.there[name]

    bars = Bars()
    shown = cli._Bars(bars)
    for source, frames in (("x/a.mp4", 1), ("x/b.mp4", 2), ("x/a.mp4", 3)):
        shown.progress(at(source, frames))
    assert bars.there == {"a.mp4": 3, "b.mp4": 2}
    shown.ended("x/a.mp4")
    shown.ended("x/bad.mp4")
    shown.progress(at("x/b.mp4", 4))
    assert bars.there == {"b.mp4": 4}


def test_a_batch_says_where_only_when_asked(jobs, monkeypatch):
    jobs.answer = lambda *_, **__: []
    site = object()
    monkeypatch.setattr(cli, "_site", lambda *asked: {"site": (site, asked)} if asked[0] else {})
    assert cli.main(["batch", "a.mp4", "--to", "x"]) == 0
    assert "site" not in jobs.asked[-1][1]
    assert cli.main(["batch", "a.mp4", "--to", "x", "--cluster", "head:6379", "--workers", "3"]) == 0
    assert jobs.asked[-1][1]["site"] == (site, ("head:6379", 3))


def test_verbose_shows_more_of_the_log_and_leaves_the_logger_as_it_was(jobs, capsys):
    def work(*_, **__):
        logging.getLogger("videoclr.flow").info("interesting")
        return a_report()

    jobs.answer = work
    logger = logging.getLogger("videoclr")
    before = (logger.level, logger.propagate, list(logger.handlers))
    assert cli.main(["in.mp4", "out.mp4", "--verbose"]) == 0
    assert "videoclr: info: interesting\n" in capsys.readouterr().err
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (MediaError("in.mp4", "no video stream"), 1, "videoclr: error: in.mp4: no video stream\n"),
        (ConfigError("$.media.codec: unknown"), 2, "videoclr: error: $.media.codec: unknown\n"),
        (KeyboardInterrupt(), 130, "videoclr: error: stopped\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/out.mp4.part"),
            1,
            "videoclr: error: /x/out.mp4.part: No space left on device (--verbose shows where)\n",
        ),
        (
            RuntimeError("CUDA out of memory.\n  Tried to allocate"),
            1,
            "videoclr: error: the device ran out of memory; end what else runs on the device, or choose another (--device cpu)\n",
        ),
        (AssertionError(), 1, "videoclr: error: unexpected AssertionError: AssertionError (--verbose shows where)\n"),
        (SystemExit(0), 1, "videoclr: error: unexpected SystemExit: 0 (--verbose shows where)\n"),
    ],
)
def test_every_failure_is_one_line_and_an_exit_code(jobs, capsys, error, code, says):
    if "CUDA" in str(error):
        importlib.import_module("torch")  # only where it is loaded can it have said this
    jobs.answer = error
    assert cli.main(["in.mp4", "out.mp4"]) == code
    assert capsys.readouterr() == ("", says)


def test_what_was_noted_about_an_error_of_the_system_is_said(jobs, capsys):
    jobs.answer = OSError(errno.ENOSPC, "No space left on device", "/x/o.mp4")
    jobs.answer.add_note("12 frames are kept")
    assert cli.main(["in.mp4", "out.mp4"]) == 1
    assert "No space left on device (12 frames are kept) (--verbose" in capsys.readouterr().err


def test_verbose_shows_the_traceback(jobs, capsys):
    jobs.answer = RuntimeError("inside")
    assert cli.main(["in.mp4", "out.mp4", "-v"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "videoclr: error: unexpected RuntimeError: inside"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in.mp4"], "OUTPUT"),
        (["in.mp4", "out.mp4", "--colour", "red"], "--colour"),
        (["in.mp4", "out.mp4", "more.mp4"], "more.mp4"),
        (["in.mp4", "out.mp4", "--steps", "many"], "'--steps': it should be a valid integer"),
        (["in.mp4", "out.mp4", "--steps", "0"], " --steps: "),
        (["in.mp4", "out.mp4", "--set", "restore.steps=0"], "$.restore.steps"),
        (["in.mp4", "out.mp4", "--set", "restore.step=3"], "$.restore.step"),
        (["in.mp4", "out.mp4", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["in.mp4", "out.mp4", "--on-error=ignore"], " --on-error: "),
        (["batch", "in.mp4"], "--to"),
        (["batch", "in.mp4", "--to", ""], "an argument is empty (after --to)"),
        (["batch", "in.mp4", "--to", "-"], "--to: expected a folder, not a pipe"),
        (["watch", "inbox", "--to", "-"], "--to: expected a folder, not a pipe"),
        (["timeline", "cut.otio", "--to", "-"], "--to: expected a folder, not a pipe"),
        (["faces", "in.mp4", "--to", "-"], "--to: expected a folder, not a pipe"),
        ([""], "an argument is empty (at the beginning)"),
        (["bach", "in.mp4", "--to", "out"], "(is `videoclr batch` meant?)"),
        (["version"], "(is `videoclr --version` meant?)"),
        (["in.mp4", "out.mp4", "--ending", ".mov"], "--ending is no option of restore, but of batch, watch, timeline"),
        (["weights", "add", "x", "--steps", "3"], "--steps is no option of weights add, but of restore, batch"),
        (["faces", "a.mp4", "--video-stream", "1"], "; here it is --set media.video_stream=VALUE (see `videoclr faces --help`)"),
        (["a.mp4", "b.mp4", "c.mp4"], "give several inputs to `videoclr batch`"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(jobs, capsys, arguments, says):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("videoclr: error: ")
    assert says in err
    assert err.count("\n") == 1
    assert not jobs.asked


@pytest.mark.parametrize(("source", "asked"), [("face", True), ("face.mp4", False), ("inbox", False)])
def test_a_command_that_is_mistyped_is_doubted_where_it_is_no_file(jobs, capsys, source, asked):
    jobs.answer = MediaError(source, "no such file")
    assert cli.main([source, "in.mp4"]) == 1
    assert ("(is `videoclr faces` meant?)" in capsys.readouterr().err) == asked


def test_no_arguments_show_the_help_and_exit_with_two(jobs, capsys):
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert "videoclr INPUT OUTPUT" in out + err
    assert "error" not in err


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"videoclr {videoclr.__version__}\n"


@pytest.mark.parametrize(
    "arguments", ["--help", "-h", "restore --help", "batch --help", "doctor -h", "weights -h", "weights add -h"]
)
def test_help_is_printed_to_standard_output(capsys, arguments):
    assert cli.main(arguments.split()) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: videoclr")
    assert err == ""


def test_help_lists_every_option_once(capsys):
    cli.main(["restore", "--help"])
    text = capsys.readouterr().out
    for name in ("config", "set", "codec", "crf", "preset", "pix-fmt", "report", "device", "fidelity", "strength"):
        assert f"--{name} " in text
    for name in ("steps", "seed", "start", "end", "on-error", "overwrite", "aligned", "quiet", "verbose"):
        assert f"--{name} " in text


def test_help_lists_every_shared_option_under_one_heading():
    named = [name for names in cli._GROUPS.values() for name in names.split()]
    assert sorted([*named, "config", "set_"]) == sorted([*cli._Options.__dataclass_fields__, "report_frames"])


def test_help_says_the_defaults_of_the_settings():
    said = {}
    for name, parameter in inspect.signature(cli._Options, eval_str=True).parameters.items():
        found = re.search(r"\(default (\S+)\)", parameter.annotation.__metadata__[0].help)
        if found is not None:
            said[name] = found[1]
    assert {"fidelity", "strength", "grain", "steps", "seed"} <= set(said)
    for name, value in said.items():
        assert float(value) == reduce(getattr, cli._SETTING_OF[name].split("."), Config()), name


def test_watch_offers_nothing_that_it_refuses(capsys):
    cli.main(["watch", "--help"])
    text = capsys.readouterr().out
    assert "--metrics " in text
    assert not [name for name in ("--report", "--overwrite", "--aligned") if f"{name} " in text]


def test_batch_reports_each_file_and_fails_if_one_failed(jobs, capsys):
    bad = ConfigError("$.restore.seed: no, and $.restore.steps as well")
    results = [a_report(target="x/a.mp4"), MediaError("b.mp4", "no video stream"), RestorationError(0, 0, "boom"), bad]
    results[1].add_note("12 frames are kept")

    def answer(sources, *_, ended, **__):
        for source, result in zip(sources, results, strict=True):
            ended(source, result)
        return results

    jobs.answer = answer
    assert cli.main(["batch", "a.mp4", "b.mp4", "c.mp4", "d.mp4", "--to", "x", "--ending", "mkv", "--seed", "3"]) == 1
    arguments, named = jobs.asked[0]
    assert arguments[:2] == (["a.mp4", "b.mp4", "c.mp4", "d.mp4"], Path("x"))
    assert named["ending"] == "mkv"
    assert jobs.config.restore.seed == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("videoclr: x/a.mp4: 50 frames")
    assert lines[1] == "videoclr: error: b.mp4: no video stream (12 frames are kept)"
    assert lines[2].startswith("videoclr: error: c.mp4: frame 0, track 0")
    assert lines[3] == "videoclr: error: d.mp4: --seed: no, and $.restore.steps as well"


@pytest.mark.parametrize("option", ["--metrics", "--log-json"])
def test_figures_and_log_never_go_into_a_file_of_the_run(jobs, tmp_path, capsys, option):
    film = tmp_path / "in.mp4"
    film.write_bytes(b"film")
    (tmp_path / "link").symlink_to(film)
    assert cli.main([str(film), str(tmp_path / "out.mp4"), option, str(tmp_path / "link")]) == 2
    assert cli.main(["batch", str(film), "--to", str(tmp_path / "x"), option, str(film)]) == 2
    assert cli.main(["batch", str(film), "--to", str(tmp_path / "x"), option, str(tmp_path / "x" / "in.mp4")]) == 2
    both = ["--metrics", str(tmp_path / "new"), "--log-json", str(tmp_path / ".." / tmp_path.name / "new")]
    assert cli.main([str(film), str(tmp_path / "out.mp4"), *both]) == 2
    assert (
        cli.main([str(film), str(tmp_path / "out.mp4"), "--report-frames", str(tmp_path / "f"), option, str(tmp_path / "f")]) == 2
    )
    (tmp_path / "reel.ffconcat").write_text("ffconcat version 1.0\nfile in.mp4\n")
    reel = str(tmp_path / "reel.ffconcat")
    assert cli.main([reel, str(tmp_path / "out.mp4"), option, str(film)]) == 2
    assert cli.main(["batch", reel, "--to", str(tmp_path / "x"), option, str(tmp_path / "link")]) == 2
    assert cli.main([str(film), str(tmp_path / "out.mp4"), "--tracks", reel, option, reel]) == 2
    assert not jobs.asked and film.read_bytes() == b"film" and len(list(tmp_path.iterdir())) == 3
    assert capsys.readouterr().err.count("is a file of this run already") == 8


def test_doctor_exits_by_what_it_finds(capsys, monkeypatch):
    from videoclr import doctor

    healthy = [doctor.Finding("torch", "2.13.0"), doctor.Finding("codec h264", "libx264")]
    monkeypatch.setattr(doctor, "examine", lambda: healthy)
    assert cli.main(["doctor"]) == 0
    assert "everything works" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda: [*healthy, doctor.Finding("weights irn", "wrong hash", False, "x")])
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  weights irn  wrong hash  -> x" in out
    assert "1 problem\n" in out


@pytest.mark.parametrize("made_for_it", [True, False])
def test_doctor_tells_of_a_processor_that_is_made_for_bfloat16(monkeypatch, made_for_it):
    from videoclr import doctor

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: made_for_it, raising=False)
    told = {one.topic: one.found for one in doctor._torch()}
    assert ("restore.precision=bfloat16" in told.get("bfloat16", "")) == made_for_it and "cuda" in told


def test_doctor_reports_a_broken_part_and_looks_on(monkeypatch):
    from videoclr import doctor

    def broken():
        yield doctor.Finding("first", "fine")
        raise ImportError("libfoo.so: cannot\nopen")

    monkeypatch.setattr(doctor, "_PROBES", {"foo": broken, "videoclr": doctor._program})
    found = doctor.examine()
    assert [(f.topic, f.ok) for f in found] == [("first", True), ("foo", False), ("videoclr", True), ("python", True)]
    assert found[1].found == "ImportError: libfoo.so: cannot open"


def test_doctor_sees_that_opencv_was_overwritten(monkeypatch):
    from videoclr import doctor

    installed = {"opencv-python-headless"}
    monkeypatch.setattr(doctor, "_installed", lambda name: name in installed)
    assert not next(doctor._opencv()).advice
    installed.add("opencv-python")
    assert "pip uninstall -y opencv-python" in next(doctor._opencv()).advice


# -- weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def given(tmp_path, monkeypatch) -> tuple[Path, str]:
    """A weights file and its SHA-256; an empty store."""
    import torch
    from safetensors.torch import save_file

    from videoclr.models.weights import sha256

    monkeypatch.setenv("VIDEOCLR_CACHE", str(tmp_path / "cache"))
    save_file({"w": torch.ones(12, 100)}, tmp_path / "given.safetensors")
    return tmp_path / "given.safetensors", sha256(tmp_path / "given.safetensors")


def test_of_one_parameter_there_is_one(given, capsys):
    import torch
    from safetensors.torch import save_file

    from videoclr.models.weights import sha256

    file, _ = given
    save_file({"w": torch.ones(1)}, file)
    assert cli.main(["weights", "add", str(file), "--name", "mine", "--sha256", sha256(file)]) == 0
    assert capsys.readouterr().err.endswith(" bytes, 1 parameter\n")


def test_weights_are_listed_shown_added_and_removed(given, capsys):
    file, digest = given
    assert cli.main(["weights", "add", str(file), "--name", "mine", "--sha256", digest, "--licence", "CC0-1.0"]) == 0
    size = f"{file.stat().st_size:,}"
    assert capsys.readouterr() == ("", f"videoclr: added mine: {size} bytes, 1,200 parameters\n")
    assert cli.main(["weights", "list"]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["state", "name", "origin", "bytes", "parameters", "licence"]
    assert rows[-1] == ["ok", "mine", "added", size, "1,200", "CC0-1.0"]
    assert {row[1] for row in rows if row[2] == "embedded"} >= {"vqgan", "detector"}
    assert cli.main(["weights", "show", "mine"]) == 0
    assert digest in capsys.readouterr().out
    assert cli.main(["weights", "remove", "mine"]) == 0
    assert cli.main(["weights", "show", "mine"]) == 1
    assert capsys.readouterr().err.splitlines()[1].startswith("videoclr: error: mine: no such weights; there are closeup, ")


def test_weights_verify_exits_by_what_it_finds(given, capsys):
    from videoclr.models import store

    file, digest = given
    assert cli.main(["weights", "add", str(file), "--name", "mine", "--sha256", digest]) == 0
    assert cli.main(["weights", "verify"]) == 0
    store.added()["mine"].path.write_bytes(b"damaged")
    capsys.readouterr()
    assert cli.main(["weights", "verify"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].split("  ")[0] == "wrong hash" and "add it again" in out and err == ""
    from videoclr import doctor

    last = list(doctor._weights())[-1]
    assert (last.topic, last.found, last.ok) == ("weights mine", "added, wrong hash", True) and "add it again" in last.advice


def test_names_of_files_and_licences_do_not_steer_the_terminal_and_advice_can_be_pasted(given, capsys):
    from videoclr.models import store

    file, digest = given
    odd = file.rename(file.with_name("my \x1b[31mred\n.safetensors"))
    assert cli.main(["weights", "add", str(odd), "--name", "mine", "--sha256", digest, "--licence", "\x1b[2J"]) == 0
    store.added()["mine"].path.unlink()
    capsys.readouterr()
    for command, code in (["list"], 0), (["verify"], 1), (["show", "mine"], 0):
        assert cli.main(["weights", *command]) == code
        out = capsys.readouterr().out
        assert out.replace("\n", "").isprintable()
        assert command != ["verify"] or out.splitlines()[-1].split(" add ")[-1].startswith(f"'{file.parent}/my \\x1b[31mred\\n.")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["weights", "add", "FILE", "--name", "mine", "--sha256", "0" * 64], 1, "its SHA-256 is"),
        (["weights", "add", "FILE", "--name", "mine"], 2, "--sha256"),
        (["weights", "add", "FILE", "--name", "a/b", "--sha256", "0" * 64], 2, "'a/b' is no name"),
        (["weights", "add", "http://127.0.0.1:1/a", "--name", "a", "--sha256", "0" * 64, "--offline"], 2, "--offline"),
        (["weights", "add", "http://127.0.0.1:1/a", "--name", "a", "--sha256", "0" * 64], 1, "cannot be fetched"),
        (["weights", "remove", "mine"], 1, "no such added weights"),
        (["weights", "polish"], 2, "polish"),
        (["weights"], 2, "command"),
    ],
)
def test_every_failure_with_weights_is_one_line(given, capsys, arguments, code, says):
    file, _ = given
    assert cli.main([str(file) if one == "FILE" else one for one in arguments]) == code
    out, err = capsys.readouterr()
    assert out == "" and says in err
    assert err.startswith("videoclr: error: ") and err.count("\n") == 1


def test_a_download_on_a_terminal_has_a_bar_that_leaves_nothing_behind(given, site, capsys, monkeypatch):
    file, digest = given
    site.files["/w"] = file.read_bytes()
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.main(["weights", "add", f"{site.address}/w", "--name", "mine", "--sha256", digest]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("parameters\n") and "kB" in err


# -- as a process: signals, pipes and what gets imported -----------------------------------------------------------

_CHILD = """
import os, signal, sys, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests with & hands down SIG_IGN
def restore_video(source, target, *_, **__):
    {body}
module = types.ModuleType("videoclr.jobs")
module.restore_video = restore_video
sys.modules["videoclr.jobs"] = module
from videoclr.cli import main
sys.exit(main(["in.mp4", "-"]))
"""


STOPPED = "videoclr: stopping after what is being computed; two more signals end at once\nvideoclr: error: stopped\n"


def child(body: str, **options) -> subprocess.Popen[str]:
    code = _CHILD.format(body=textwrap.indent(textwrap.dedent(body), "    ").strip())
    return subprocess.Popen([sys.executable, "-c", code], text=True, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_and_exits_with_130(number, tmp_path):
    mark = tmp_path / "out.mp4.part"
    process = child(
        f"""
        try:
            open({str(mark)!r}, "w").close()
            print("ready", flush=True)
            sys.stdin.read()
        finally:
            os.unlink({str(mark)!r})
        """,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=_hear_hangups,
    )
    assert process.stdout.readline() == "ready\n"
    assert mark.exists()
    process.send_signal(number)
    # not communicate(): it would close standard input and let the child end by itself
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == STOPPED
    assert not mark.exists()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


def test_a_second_signal_does_not_disturb_the_cleaning_up(tmp_path):
    mark = tmp_path / "out.mp4.part"
    process = child(
        f"""
        try:
            open({str(mark)!r}, "w").close()
            os.kill(os.getpid(), signal.SIGINT)
            sys.stdin.read()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.unlink({str(mark)!r})
        """,
        stdin=subprocess.PIPE,
    )
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == STOPPED
    assert not mark.exists()
    for stream in (process.stdin, process.stderr):
        stream.close()


def test_under_nohup_a_closed_terminal_ends_nothing():
    process = child("os.kill(os.getpid(), signal.SIGHUP)\nraise ValueError('went on')", preexec_fn=_ignore_hangups)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "went on" in err


def _hear_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests themselves run under


def _ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_without_anybody_to_read_standard_error_the_exit_code_still_tells(unbuffered):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD.format(body="raise ValueError('x')")],
        stderr=write,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(write)
    assert process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    "raised",
    ["raise BrokenPipeError(32, 'Broken pipe')", "raise EncodeError('-', 'x') from BrokenPipeError(32, 'Broken pipe')"],
)
def test_a_reader_that_left_is_met_with_silence(raised):
    read, write = os.pipe()
    os.close(read)
    body = f"from videoclr.errors import EncodeError\nsys.stdout.write('data')\n{raised}"
    process = child(body, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")


def test_broken_pipes_deep_below_are_still_recognised():
    error = EncodeError("-", "cannot write")
    error.__cause__ = OSError(errno.EPIPE, "Broken pipe")
    assert [type(cause) for cause in cli._causes(error)] == [EncodeError, BrokenPipeError]


def test_help_loads_no_heavy_library():
    code = (
        "import sys, json; from videoclr.cli import main; code = main(['restore', '--help']);"
        "heavy = {'torch', 'cv2', 'av', 'diffusers', 'scipy', 'numpy', 'yaml'} & set(sys.modules);"
        "sys.stderr.write(json.dumps([code, sorted(heavy)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr) == [0, []]


def test_openmp_is_told_to_sleep_unless_the_user_said_otherwise():
    code = "import os, videoclr.cli; print(os.environ['OMP_WAIT_POLICY'])"
    without = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for given, wanted in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        printed = subprocess.check_output([sys.executable, "-c", code], text=True, env={**without, **given})
        assert printed.strip() == wanted


def test_events_go_to_the_log_of_lines_and_figures_to_prometheus(jobs, capsys, tmp_path):
    def answer(*_, progress, **__):
        logging.getLogger("videoclr.media").warning("something odd")
        progress(types.SimpleNamespace(**PROGRESS))
        return a_report()

    jobs.answer = answer
    log, figures = tmp_path / "log.jsonl", tmp_path / "a.prom"
    assert cli.main(["in.mp4", "out.mp4", "--log-json", str(log), "--metrics", str(figures)]) == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["log", "progress", "finished"]
    assert events[-1]["frames_out"] == 50
    assert "videoclr_finished 1" in figures.read_text()
    assert "something odd" in capsys.readouterr().err  # people still read theirs


def test_standard_error_can_be_lines_of_json_alone(jobs, capfd):
    jobs.answer = lambda *_, **__: logging.getLogger("videoclr").warning("odd") or a_report()
    assert cli.main(["in.mp4", "out.mp4", "--log-json", "-"]) == 0
    assert [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()] == ["log", "finished"]


def test_a_failure_is_an_event_too(jobs, tmp_path):
    jobs.answer = MediaError("in.mp4", "is no video")
    assert cli.main(["in.mp4", "out.mp4", "--log-json", str(tmp_path / "log")]) == 1
    (event,) = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert (event["event"], event["source"], event["error"]) == ("failed", "in.mp4", "in.mp4: is no video")


PROGRESS = {
    "source": "in.mp4", "frames": 10, "total": 50, "faces": 9, "seconds": 2.0, "seconds_left": 8.0,
    "seconds_per_stage": {"restore": 1.5}, "slowest": "restore", "looking": False,
}  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="closed as a POSIX shell does it")
@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), (">&- 2>&- <&-", 0)])
def test_closed_standard_streams_change_nothing(tmp_path, closed, code):
    program = f'"{sys.executable}" -m videoclr --version {closed}'
    assert subprocess.run(["sh", "-c", program], check=False, capture_output=True).returncode == code


@pytest.mark.skipif(os.name != "posix", reason="closed as a POSIX shell does it")
def test_a_film_for_a_standard_output_that_is_closed_is_refused():
    program = f'"{sys.executable}" -m videoclr in.mp4 - >&-'
    done = subprocess.run(["sh", "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "videoclr: error: -: standard output is closed; name a file, or say where it leads\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", ["--version", "weights list"])
def test_a_full_standard_output_is_one_line_and_exit_code_1(arguments):
    program = f'"{sys.executable}" -m videoclr {arguments} >/dev/full'
    done = subprocess.run(["sh", "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("videoclr: error: standard output: No space left on device")


def test_what_standard_output_has_no_character_for_is_spelled_out(given, monkeypatch):
    file, digest = given
    assert cli.main(["weights", "add", str(file), "--name", "mine", "--sha256", digest, "--licence", "© Zoë"]) == 0
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert cli.main(["weights", "list"]) == 0
    assert rb"\xa9 Zo\xeb" in raw.getvalue()


@pytest.mark.parametrize("command", ["eval", "watch", "weights", "weights add"])
def test_wrong_usage_points_to_the_help_of_its_own_command(command, capsys):
    assert cli.main([*command.split(), "--nonsense"]) == 2
    assert f"(see `videoclr {command} --help`)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("in.mp4 mine.yaml", "OUTPUT"),
        ("in.mp4 out.mp4 --report mine.yaml", "--report"),
        ("in.mp4 out.mp4 --report-frames mine.yaml", "--report-frames"),
        ("batch in.mp4 --to out --report ./mine.yaml", "--report"),
        ("timeline cut.otio --to out --save-as mine.yaml", "--save-as"),
        ("plan in.mp4 out.mp4 --json mine.yaml", "--json"),
        ("faces in.mp4 --json mine.yaml", "--json"),
        ("faces in.mp4 --save-tracks mine.yaml", "--save-tracks"),
        ("faces in.mp4 --save-people mine.yaml", "--save-people"),
        ("eval a.mp4 b.mp4 --json mine.yaml", "--json"),
        ("eval a.mp4 b.mp4 --csv mine.yaml", "--csv"),
    ],
)
def test_nothing_that_is_written_replaces_the_file_of_settings(tmp_path, monkeypatch, capsys, command, option):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("restore: {use: unchanged}")
    assert cli.main([*command.split(), "--config", "mine.yaml", "--overwrite"]) == 2
    assert f"{option}: " in (said := capsys.readouterr().err) and "is a file of this run already (mine.yaml)" in said
    assert os.listdir() == ["mine.yaml"] and Path("mine.yaml").read_text() == "restore: {use: unchanged}"


@pytest.mark.skipif(os.name != "posix", reason="closed as a POSIX shell does it")
@pytest.mark.slow
def test_an_error_without_standard_error_has_its_exit_code():
    program = f'"{sys.executable}" -m videoclr none.mp4 out.mp4 --set restore.use=unchanged --set gate.use=none >&- 2>&-'
    assert subprocess.run(["sh", "-c", program], check=False, capture_output=True).returncode == 1


def test_a_batchs_log_and_figures_may_lie_among_its_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.mp4").write_text("no film")
    arguments = ["batch", "in.mp4", "--to", "done", "--log-json", "done/log.jsonl", "--metrics", "done/m.prom"]
    assert cli.main([*arguments, "--set", "restore.use=unchanged"]) == 1
    assert "not a video" in capsys.readouterr().err and sorted(os.listdir("done")) == ["log.jsonl", "m.prom"]
