from __future__ import annotations

import json
import re
from fractions import Fraction

import av
import numpy as np
import pytest

from videoclr import cli, plan
from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.parts.unchanged import Unchanged
from videoclr.pipeline import Pipeline
from videoclr.plan import Piece, Plan
from videoclr.types import Detection

COUNT = 60
SHAPE = np.array([[-8, -6], [8, -6], [0, 2], [-6, 9], [6, 9]], np.float32)


class Here:
    """A face wherever the picture is bright."""

    def detect(self, images):
        box = np.array([30, 10, 70, 50], np.float32)
        return [[Detection(box, SHAPE + 40, 0.9)] if image.mean() > 100 else [] for image in images]


@pytest.fixture
def film(tmp_path, monkeypatch):
    """Dark in its first half."""
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(COUNT):
            picture = np.full((64, 96, 3), 30 if index < COUNT // 2 else 160, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    loaded = []

    def load(config):
        loaded.append(config)
        own = config.override("restore.use=unchanged", "gate.use=none", "track.max_gap=0", "align.smoothing=0")
        return Pipeline(own, detector=Here(), recognizer=None, restorer=Unchanged(64))

    monkeypatch.setattr(plan, "Pipeline", load)
    monkeypatch.setattr("videoclr.plan.tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return path, loaded


def test_pieces_from_all_over_the_film_are_tried_and_thrown_away(film, tmp_path):
    path, loaded = film
    told = []
    made = plan.plan(path, tmp_path / "out.mp4", pieces=3, seconds=0.4, progress=lambda done, total: told.append((done, total)))
    assert (made.frames, made.frames_tried, made.duration) == (COUNT, 30, COUNT / 25)
    assert [round(piece.start * 25) for piece in made.pieces] == [5, 25, 45]
    assert [piece.faces for piece in made.pieces] == [0, 5, 10] and made.faces_per_frame == 0.5
    assert all(piece.size > 500 and piece.seconds > 0 for piece in made.pieces)
    assert len(loaded) == 1 and told == [(0, 3), (1, 3), (2, 3)]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["film.mkv", "scratch"] and not list((tmp_path / "scratch").iterdir())


def test_the_part_that_is_to_be_restored_is_what_is_planned(film, tmp_path):
    path, _ = film
    made = plan.plan(path, tmp_path / "out.mp4", Config().override("media.start=1.6"), pieces=2, seconds=0.4)
    assert made.frames == 20 and [round(piece.start * 25) for piece in made.pieces] == [40, 50]
    short = plan.plan(path, tmp_path / "out.mp4", Config().override("media.frames=9"), seconds=5)
    assert (short.frames, short.frames_tried, len(short.pieces)) == (9, 9, 1)


def test_pictures_and_pipes_may_be_the_target(film, tmp_path):
    path, _ = film
    for target in (tmp_path / "f%03d.png", "-"):
        made = plan.plan(path, target, pieces=1, seconds=0.4)
        assert made.frames_tried == 10 and made.size[0] == pytest.approx(6 * made.pieces[0].size) and made.size[0] > 0
    assert not list(tmp_path.glob("f*.png"))


def test_the_whole_is_told_from_its_pieces():
    pieces = [Piece(n, 10, n, seconds, {"restore": seconds, "decode": 0.1}, 1000) for n, seconds in ((0, 1.0), (1, 2.0), (2, 3.0))]
    made = Plan("film.mkv", 300, 12.0, tuple(pieces))
    about, least, most = made.seconds
    assert about == pytest.approx(60) and least == pytest.approx(30) and most == pytest.approx(60 + 2 * 30 / 3**0.5)
    assert made.size == pytest.approx((30_000, 30_000, 30_000)) and made.slowest == "restore"
    assert Plan("film.mkv", 30, 1.2, tuple(pieces)).seconds == (6, 6, 6)  # all of it was tried
    assert json.loads(json.dumps(made.as_dict()))["seconds"]["about"] == pytest.approx(60)


def test_what_cannot_be_planned_is_told(film, tmp_path):
    path, _ = film
    with pytest.raises(ConfigError, match="a pipe can be read only once"):
        plan.plan("-", tmp_path / "out.mp4")
    for bad in ({"pieces": 0}, {"seconds": 0.0}, {"seconds": float("inf")}, {"seconds": float("nan")}):
        with pytest.raises(ConfigError, match="at least one piece"):
            plan.plan(path, tmp_path / "out.mp4", **bad)
    with pytest.raises(ConfigError, match=r"\$.runtime.scratch: .* is no folder"):
        plan.plan(path, tmp_path / "out.mp4", Config().override(f"runtime.scratch={tmp_path / 'nowhere'}"))
    (tmp_path / "tracks.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match=r"--json: .* is a file of this run already"):
        mine = tmp_path / "tracks.jsonl"
        plan.plan(path, tmp_path / "out.mp4", Config().override(f"track.file={mine}"), json_file=mine, overwrite=True)
    with pytest.raises(MediaError, match="no such file"):
        plan.plan(tmp_path / "absent.mkv", tmp_path / "out.mp4")
    for target, said in (
        (tmp_path / "out.xyz", "the ending '.xyz' is unknown"),
        (path, "is the input itself"),
        (tmp_path / "none" / "out.mp4", "does not exist; make it first"),
        (path / "out.mp4", "is a file, not a folder; choose another name"),
        (tmp_path / "out.png", "holds one picture, and the source has more"),
    ):
        with pytest.raises(MediaError, match=rf"^{re.escape(str(target))}: .*{said}"):
            plan.plan(path, target, overwrite=True)
    (tmp_path / "there.mp4").write_bytes(b"mine")
    with pytest.raises(MediaError, match=r"there\.mp4: exists already"):
        plan.plan(path, tmp_path / "there.mp4")
    with pytest.raises(MediaError, match=rf"^{re.escape(str(tmp_path))}/out\.webm: ") as caught:  # only a piece shows it
        plan.plan(path, tmp_path / "out.webm", Config().override("media.codec=h264"))
    assert "videoclr-plan" not in str(caught.value) and caught.value.path == str(tmp_path / "out.webm")
    with av.open(str(tmp_path / "still.png"), "w") as out:
        stream = out.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), "rgb24")))
        out.mux(stream.encode(None))
    with pytest.raises(MediaError, match="is one picture"):
        plan.plan(tmp_path / "still.png", tmp_path / "out.png")


def test_the_command_says_it_in_five_lines(film, tmp_path, capsys):
    path, _ = film
    job = ["plan", str(path), str(tmp_path / "out.mp4"), "--pieces", "3", "--seconds", "0.4", "--json", str(tmp_path / "plan.json")]
    run = ["--crf", "30", "--report-frames", str(tmp_path / "faces.jsonl"), "--report", str(tmp_path / "report.json")]
    assert cli.main([*job, *run]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["film", "faces", "time", "slowest", "result"]
    assert "0:00:02, about 60 frames; tried 30 frames of 3 pieces" in lines[0] and "0.50 in a frame" in lines[1]
    assert json.loads((tmp_path / "plan.json").read_text())["faces_per_frame"] == 0.5
    assert not [name for name in ("out.mp4", "faces.jsonl", "report.json") if (tmp_path / name).exists()]
    assert cli.main(job) == 1
    assert "exists already" in capsys.readouterr().err


def test_covers_are_not_counted_for_every_piece(film, tmp_path):
    path, _ = film
    bare = plan.plan(path, tmp_path / "out.mkv", pieces=2, seconds=0.4)
    covered = tmp_path / "covered.mkv"
    with av.open(str(path)) as source, av.open(str(covered), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        out.add_attachment("font.ttf", "font/ttf", bytes(200_000))
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    assert plan.plan(covered, tmp_path / "out.mkv", pieces=2, seconds=0.4).size[0] < 2 * bare.size[0] + 50_000


@pytest.mark.parametrize(("name", "says"), [("out.mp4", True), ("out.%04d.png", False)])
def test_resuming_is_told_of_what_can_be_resumed_alone(film, tmp_path, capsys, name, says):
    assert cli.main(["plan", str(film[0]), str(tmp_path / name), "--pieces", "1", "--seconds", "0.4"]) == 0
    assert ("with --resume twice of it" in capsys.readouterr().out) == says


def test_numbers_of_tracks_are_left_out_and_told_unless_a_file_has_the_tracks(film, tmp_path, capsys):
    path, _ = film
    numbers = Config().override("identify.only=[1]", "identify.leave=[0, 2]")
    made = plan.plan(path, tmp_path / "out.mp4", numbers, pieces=3, seconds=0.4)
    assert [piece.faces for piece in made.pieces] == [0, 5, 10]
    (told,) = made.warnings
    assert "--only and --leave of tracks 1, 0, 2 are left out of it" in told and "--tracks" in told
    assert made.as_dict()["warnings"] == (told,)
    assert cli.main(["plan", str(path), str(tmp_path / "out.mp4"), "--pieces", "1", "--seconds", "0.4", "--leave", "7"]) == 0
    assert (
        "videoclr: warning: plan: every piece numbers its tracks anew, so --only and --leave of tracks 7" in capsys.readouterr().err
    )
    face = {"track": 1, "box": [30, 10, 70, 50], "points": (SHAPE + 40).tolist()}
    head = {"videoclr": "tracks", "version": 1, "width": 96, "height": 64}
    mine = tmp_path / "tracks.jsonl"
    mine.write_text("".join(json.dumps(line) + "\n" for line in (head, {"frame": 50, "time": "2", "faces": [face]})))
    made = plan.plan(path, tmp_path / "out.mp4", numbers.override(f"track.file={mine}"), pieces=3, seconds=0.4)
    assert made.warnings == () and [piece.faces for piece in made.pieces] == [0, 0, 1]
    named = Config().override("identify.only=[1, anna]")  # two people of a file of people
    assert plan._without_numbers(named, {"1", "anna"}) == (named, ())
