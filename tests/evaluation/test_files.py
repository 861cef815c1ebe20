"""The command: clips in, files out, whole or not at all."""

from __future__ import annotations

import csv
import json
import math
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from videoclr import cli
from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.evaluation.files import evaluate
from videoclr.evaluation.table import METRICS, PER_FACE, Figures, markdown, plain, text


@pytest.fixture
def clips(tmp_path, drawn, finder):
    """Folders of pictures: clean, a darker input, and a restored one in between."""
    clean = drawn([[(60 + i, 60, 0)] for i in range(5)])
    for name, gain in (("clean", 1.0), ("input", 0.7), ("restored", 0.9)):
        (tmp_path / name).mkdir()
        for index, picture in enumerate(clean):
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), (picture * gain).astype(np.uint8)[..., ::-1])
    return tmp_path


def test_the_three_clips_become_a_table_a_json_and_a_csv(clips, judge_file) -> None:
    done = evaluate(
        clips / "clean", clips / "restored", clips / "input", size=64, judge=judge_file,
        json_file=clips / "f.json", csv_file=clips / "f.csv",
    )  # fmt: skip
    assert list(done.clips) == ["input", "restored", "clean"]
    assert done.clips["restored"]["psnr"] > done.clips["input"]["psnr"] + 5
    told = json.loads((clips / "f.json").read_text())
    assert told["clips"]["input"]["psnr"] == pytest.approx(done.clips["input"]["psnr"], rel=1e-6)
    assert told["ratios_to_clean"]["input"] == pytest.approx(done.ratios("input"), rel=1e-6)
    assert told["measured"]["clips"]["restored"] == str(clips / "restored") and told["counts"]["frames"] == 5
    assert set(told["not_measured"]) >= {"lpips", "seam_ewarp"} and told["settings"] == Config().model_dump(mode="json")
    lines = list(csv.DictReader((clips / "f.csv").open()))
    assert len(lines) == 15 and list(lines[0]) == ["frame", "time", "shot", "track", "clip", "border", *PER_FACE]
    own = [float(line["ssim"]) for line in lines if line["clip"] == "restored"]
    assert np.mean(own) == pytest.approx(done.clips["restored"]["ssim"], rel=1e-6)
    assert not list(clips.glob("*.part"))


def test_clips_of_other_lengths_leave_no_file_behind(clips) -> None:
    (clips / "restored" / "4.png").unlink()
    with pytest.raises(MediaError, match="restored: ends after 4 frames"):
        evaluate(clips / "clean", clips / "restored", size=64, json_file=clips / "f.json", csv_file=clips / "f.csv")
    assert not list(clips.glob("f.*"))


def test_films_of_other_rates_are_told(clips, drawn, caplog) -> None:
    for name, rate in (("clean", 24), ("near", Fraction(24000, 1001)), ("far", 48)):
        with av.open(str(clips / f"{name}.mkv"), "w") as out:
            stream = out.add_stream("ffv1", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 128, 128, "bgr0"
            for picture in drawn([[(60, 60, 0)]] * 2):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:128, :128]), "rgb24")))
            out.mux(stream.encode(None))
    evaluate(clips / "clean.mkv", clips / "far.mkv", clips / "near.mkv", size=64)
    (told,) = (one for one in caplog.messages if "frames a second" in one)
    assert told == f"{clips}/far.mkv: has 48 frames a second, and {clips}/clean.mkv has 24; frames are compared one by one"


def test_the_settings_of_a_restoration_measure_it_too(clips, caplog) -> None:
    who = ("identify.references=[anna=anna.jpg]", "identify.people=people.json", "identify.only=[anna]")
    given = Config().override(*who, "track.file=tracks.jsonl")
    done = evaluate(clips / "clean", clips / "restored", config=given, size=64)
    assert done.clips == evaluate(clips / "clean", clips / "restored", size=64).clips
    assert [record.message for record in caplog.records] == [
        f"$.track.file: is not used; faces are looked for in {clips / 'clean'}"
    ]


def test_a_clip_without_a_face_is_an_error(clips, drawn) -> None:
    for name in ("clean", "restored"):
        for path in (clips / name).iterdir():
            cv2.imwrite(str(path), drawn([[]])[0])
    with pytest.raises(MediaError, match="shows no face"):
        evaluate(clips / "clean", clips / "restored", size=64, csv_file=clips / "f.csv")
    assert not (clips / "f.csv").exists()


def test_no_file_of_figures_replaces_what_is_read(clips, judge_file) -> None:
    for file in (clips / "restored" / "3.png", judge_file):
        for option in ("json_file", "csv_file"):
            with pytest.raises(ConfigError, match="is a file of this run"):
                evaluate(clips / "clean", clips / "restored", judge=judge_file, overwrite=True, **{option: file})


def test_a_file_that_exists_is_kept_unless_told_otherwise(clips) -> None:
    (clips / "f.csv").write_text("mine")
    with pytest.raises(MediaError, match="exists already"):
        evaluate(clips / "clean", clips / "restored", size=64, csv_file=clips / "f.csv")
    assert (clips / "f.csv").read_text() == "mine"
    evaluate(clips / "clean", clips / "restored", size=64, csv_file=clips / "f.csv", overwrite=True)
    assert (clips / "f.csv").read_text().startswith("frame,time")
    with pytest.raises(ConfigError, match=r"--json: .*clean.* is a file of this run"):
        evaluate(clips / "clean", clips / "restored", json_file=clips / "clean")
    with pytest.raises(ConfigError, match="is the file of --json"):
        evaluate(clips / "clean", clips / "restored", json_file=clips / "x", csv_file=clips / "x")


@pytest.mark.parametrize(("size", "borders"), [(16, None), (100_000, None), (64, 1)])
def test_senseless_numbers_are_refused(clips, size, borders) -> None:
    with pytest.raises(ConfigError, match="--size: expected 32 to 4096" if borders is None else "--borders: expected 2 or more"):
        evaluate(clips / "clean", clips / "restored", size=size, borders=borders)


def test_the_command_prints_the_table_and_one_line_on_error(clips, capsys) -> None:
    names = [str(clips / name) for name in ("clean", "restored")]
    assert cli.main(["eval", *names, "--input", str(clips / "input"), "--size", "64", "--borders", "2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["input", "restored", "clean", "input/clean", "restored/clean"]
    assert [line[:32].strip() for line in shown[1 : 1 + len(METRICS)]] == [metric.title for metric in METRICS]
    assert next(line for line in shown if line.startswith("IDS")).split(maxsplit=2)[2].startswith("not measured: no judge")
    (clips / "restored" / "4.png").unlink()
    assert cli.main(["eval", *names]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and "ends after 4 frames" in err
    assert cli.main(["eval", *names, "--set", "detect.threshold=7"]) == 2


def test_the_table_of_many_rows_shows_ratios_where_they_are_what_counts() -> None:
    figures = Figures({"a": {"psnr": math.inf, "ewarp": 3.0}, "clean": {"ewarp": 2.0}}, {}, {}, {})
    made = markdown(figures.clips, {"a": figures.ratios("a")}).splitlines()
    assert made[0] == "| row | PSNR, crop [dB] | E*warp / clean |"
    assert made[2] == "| a | inf | 1.500 |" and made[3] == "| clean, itself |  | 2.0000 |"
    assert figures.as_dict()["clips"]["a"]["psnr"] == "inf" and json.loads(json.dumps(figures.as_dict()))


def test_what_json_cannot_hold_becomes_text_or_nothing() -> None:
    assert plain({"psnr": math.inf, "ewarp": math.nan, "ids": 1 / 3}) == {"psnr": "inf", "ids": 0.3333333}


def test_a_long_clip_is_counted_on_standard_error(clips, capsys, monkeypatch) -> None:
    monkeypatch.setattr(cli, "PLAIN_PROGRESS_SECONDS", 0.0)
    assert cli.main(["eval", str(clips / "clean"), str(clips / "restored"), "--size", "64"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"videoclr: {clips / 'clean'}: 5 frames read"


def test_what_has_too_few_frames_is_said_to_have_them() -> None:
    sources = {"landmarks": "l", "identity": "i", "perceptual": "p"}
    counts = dict.fromkeys(("frames", "faces", "tracks", "shots", "landmarks"), 1)
    made = text(Figures({"restored": {"psnr": 30.0}, "clean": {}}, {}, sources, counts))
    assert "E*warp [1e-3]                     not measured: too few frames" in made
