from __future__ import annotations

import base64
import json
import re
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from videoclr import cli
from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.jobs import restore_video
from videoclr.media.timecode import Timecode
from videoclr.parts.unchanged import Unchanged
from videoclr.pipeline import Pipeline
from videoclr.review import Moment, TrackView, review
from videoclr.review.moments import views
from videoclr.review.pictures import SIDE, _picture, place
from videoclr.types import Detection, Frame

SHAPE = np.array([[-8, -6], [8, -6], [0, 2], [-6, 9], [6, 9]], np.float32)
COUNT = 40


class Here:
    """A face in the left, as bright as the frame's number; another one from frame 20 on."""

    def detect(self, images):
        return [[_at(30)] + ([_at(90)] if image[0, 0, 2] > 128 else []) for image in images]


def _at(x: float) -> Detection:
    return Detection(np.array([x - 16, 16, x + 16, 48], np.float32), SHAPE + np.array([x, 32], np.float32), 0.9)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A restored film with both reports; its grey value in the middle is the number of the frame times 5."""
    folder = tmp_path_factory.mktemp("done")
    with av.open(str(folder / "in.mkv"), "w") as out:
        out.metadata["timecode"] = "10:00:00:00"
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "bgr0"
        for index in range(COUNT):
            picture = np.full((64, 128, 3), 5 * index, np.uint8)
            picture[:4, :4, 2] = 255 if index >= 20 else 0
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for name, settings in (("whole", ()), ("part", ("media.start=24f", "media.end=36f"))):
        restored(folder, name, *settings)
    return folder


def restored(folder: Path, name: str, *settings: str, source: str = "in.mkv", target: str | None = None) -> None:
    config = Config().override("media.codec=ffv1", "restore.use=unchanged", "gate.use=none", "align.smoothing=0", *settings)
    pipeline = Pipeline(config, detector=Here(), recognizer=None, restorer=Unchanged(64))
    files = {"report": folder / f"{name}.json", "report_frames": folder / f"{name}.jsonl"}
    restore_video(folder / source, folder / (target or f"{name}.mkv"), pipeline=pipeline, overwrite=True, **files)


def pictures(page: Path) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page.read_text())
    return [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for data in found]


def captions(page: Path) -> list[str]:
    return re.findall("<figcaption>(.*?)</figcaption>", page.read_text())


@pytest.mark.parametrize(("name", "first"), [("whole", 0), ("part", 24)])
def test_a_page_shows_the_frames_that_it_names_before_and_after(done, name, first, tmp_path):
    page = tmp_path / "page.html"
    made = review(done / f"{name}.json", done / f"{name}.jsonl", page)
    shown, told = pictures(page), captions(page)
    assert (made.tracks, made.shown, made.pictures) == (2, 2, len(shown)) and len(shown) == 2 * len(told) > 2
    for text, before, after in zip(told, shown[::2], shown[1::2], strict=True):
        number = first + int(re.search(r"\(frame (\d+)\)", text)[1])
        assert before.shape == after.shape == (SIDE, SIDE, 3)
        for picture in (before, after):
            assert abs(int(np.median(picture)) - 5 * number) <= 3
        assert f"10:00:0{number // 25}:{number % 25:02d}" in text
    assert not list(tmp_path.glob("*.part"))


def test_a_page_needs_nothing_else_and_what_it_says_is_escaped(done, tmp_path):
    told = json.loads((done / "whole.json").read_text())
    told["warnings"], told["version"] = ["<script>alert(1)</script>", "\udcff"], '"><b>'
    (tmp_path / "r.json").write_text(json.dumps(told))
    page = tmp_path / "page.html"
    review(tmp_path / "r.json", done / "whole.jsonl", page)
    text = page.read_text()
    assert "&lt;script&gt;" in text and "<script" not in text and "<b>" not in text
    assert not re.search(r'(src|href)="(?!data:)', text) and "url(" not in text


def line(track: int, frame: int, trust: float = 1.0, similarity: float | None = 0.9, reasons: tuple[str, ...] = ()) -> str:
    values = {"frame": frame, "time": f"{frame}/25", "shot": 0, "track": track, "person": 3, "name": None, "box": [0, 0, 9, 9]}
    return json.dumps(
        {**values, "similarity": similarity, "confidence": trust, "trusted_share": 1.0, "reasons": dict.fromkeys(reasons, 1)}
    )


def test_doubtful_tracks_come_first_and_each_is_shown_where_it_is_doubted(tmp_path):
    lines = tmp_path / "lines.jsonl"
    fine = [line(1, frame) for frame in range(100)]
    doubted = [
        line(2, frame, 0.4 if frame == 70 else 1.0, 0.3 if frame == 20 else 0.9, ("mouth",) * (frame == 70)) for frame in range(100)
    ]
    unmeasured = [line(3, frame, similarity=None) for frame in range(10)]
    lines.write_text("\n".join([*fine, *doubted, *unmeasured]) + "\n")
    found = views(lines, {1: Fraction(2), 2: Fraction(2)}, 100)
    assert [view.track for view in found] == [2, 1, 3]
    first = found[0]
    assert [(why, one.frame) for why, one in first.moments()] == [("least trusted", 70), ("least alike", 20), ("middle", 50)]
    assert first.mean_trust == pytest.approx(0.994) and first.mean_similarity == pytest.approx(0.894)
    assert first.reasons == {"mouth": 1} and first.pieces[70] == 0.4 and first.faces == 100
    assert [one.frame for _, one in found[1].moments()] == [0, 50]  # the least of equals is the first, once
    assert found[2].mean_similarity is None and found[2].least_alike.alike == 1.0


def test_a_face_that_was_to_be_shown_in_part_is_not_told_to_be_shown_as_restored(done, tmp_path):
    head, face = {"videoclr": "tracks", "version": 1, "width": 128, "height": 64}, {"box": [14, 16, 46, 48]}
    track, points = {"track": 0, "strength": [[0, 0.25], [9, 0]]}, (SHAPE + np.array([30, 32], np.float32)).tolist()
    lines = [{"frame": n, "faces": [{"track": k, **face, "points": points} for k in (0, 1)]} for n in range(10)]
    (tmp_path / "tracks.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (head, track, *lines)))
    restored(tmp_path, "part", f"track.file={tmp_path / 'tracks.jsonl'}", "blend.strength=0.5", source=str(done / "in.mkv"))
    page = tmp_path / "page.html"
    review(tmp_path / "part.json", tmp_path / "part.jsonl", page)
    text = page.read_text()
    assert "<dt>strength of all faces</dt><dd>0.50</dd>" in text
    assert text.count("<dt>strength</dt>") == 1 and "<dt>strength</dt><dd>0.00 to 0.25</dd>" in text
    assert any("strength 0.25, trust 1.00" in told for told in captions(page))
    assert "Green: shown as restored, as far as was asked for" in text


def test_moments_that_are_all_but_the_same_are_shown_once():
    def moment(frame: int, trust: float = 1.0) -> Moment:
        return Moment(frame, Fraction(frame, 25), (0, 0, 9, 9), trust, None, ())

    view = TrackView(0, 0, moment(0), moment(9), moment(5), moment(6, 0.2), moment(4))
    assert [why for why, _ in view.moments()] == ["least trusted"]


@pytest.mark.parametrize(
    ("time", "label", "rate", "text"),
    [
        (Fraction(3723, 1) + Fraction(1, 2), None, None, "1:02:03.500"),
        (Fraction(30, 25), Timecode(9, 59, 59, 20, False), Fraction(25), "10:00:01:00"),
        (Fraction(1001 * 3, 30000), Timecode(0, 0, 59, 28, True), Fraction(30000, 1001), "00:01:00;03"),
    ],
)
def test_a_moment_is_named_as_editors_name_it(time, label, rate, text):
    assert place(time, label, rate) == text


def test_more_tracks_than_are_shown_are_counted(done, tmp_path):
    made = review(done / "whole.json", done / "whole.jsonl", tmp_path / "page.html", most=1)
    assert (made.tracks, made.shown) == (2, 1)
    assert "1 more tracks are not shown" in (tmp_path / "page.html").read_text()


def test_films_that_were_moved_are_named(done, tmp_path):
    told = json.loads((done / "whole.json").read_text())
    told["source"], told["target"] = "/gone/in.mkv", "/gone/out.mkv"
    (tmp_path / "r.json").write_text(json.dumps(told))
    arguments = ["review", str(tmp_path / "r.json"), str(done / "whole.jsonl"), "--to", str(tmp_path / "page.html"), "-q"]
    assert cli.main(arguments) == 1
    assert cli.main([*arguments, "--input", str(done / "in.mkv"), "--output", str(done / "whole.mkv")]) == 0
    assert len(pictures(tmp_path / "page.html")) >= 4
    with pytest.raises(MediaError, match="is it the file of this report"):  # shorter
        review(tmp_path / "r.json", done / "whole.jsonl", tmp_path / "2.html", source=done / "in.mkv", restored=done / "part.mkv")
    with av.open(str(tmp_path / "small.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "bgr0"
        out.mux(stream.encode(av.VideoFrame(64, 64, "bgr0")))
        out.mux(stream.encode(None))
    with pytest.raises(MediaError, match="is 64x64 and the input 128x64"):
        review(
            tmp_path / "r.json", done / "whole.jsonl", tmp_path / "2.html", source=done / "in.mkv", restored=tmp_path / "small.mkv"
        )
    assert sorted(one.name for one in tmp_path.iterdir()) == ["page.html", "r.json", "small.mkv"]


def test_a_film_that_is_not_where_the_report_says_may_be_named(done, tmp_path, capsys):
    told = json.loads((done / "whole.json").read_text())
    for gone, option in (("source", "--input"), ("target", "--output")):
        (tmp_path / "r.json").write_text(json.dumps({**told, gone: "/gone/film.mkv"}))
        assert cli.main(["review", str(tmp_path / "r.json"), str(done / "whole.jsonl"), "--to", str(tmp_path / "page.html")]) == 1
        said = capsys.readouterr().err
        assert "/gone/film.mkv: no such file" in said and f"where it was moved, say so with {option}" in said
        assert said.count("--") == said.count("\n") == 1
    with pytest.raises(MediaError) as caught:
        review(done / "whole.json", done / "whole.jsonl", tmp_path / "page.html", source="/gone/other.mkv")
    assert not hasattr(caught.value, "__notes__")


def film(path: Path, count: int, rate: int, picture: np.ndarray = np.full((64, 128, 3), 90, np.uint8)) -> Path:  # noqa: B008
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_films_of_other_frames_than_the_report_tells_are_refused(done, tmp_path):
    slow, long, same = (film(tmp_path / name, *of) for name, *of in (("a.mp4", 40, 20), ("b.mp4", 45, 25), ("c.mp4", 41, 25)))
    of_run = done / "whole.json", done / "whole.jsonl"
    with pytest.raises(MediaError, match=r"a\.mp4: shows frame \d+ at another time than the report tells; is it the input"):
        review(*of_run, tmp_path / "page.html", source=slow)
    with pytest.raises(MediaError, match=r"b\.mp4: has 45 frames and the report tells of 40; is it the input"):
        review(*of_run, tmp_path / "page.html", source=long)
    with pytest.raises(MediaError, match=r"b\.mp4: has 45 frames and the report tells of 40; is it the file"):
        review(*of_run, tmp_path / "page.html", restored=long)
    review(*of_run, tmp_path / "page.html", source=same, restored=slow)  # what was made may tell other times


def test_two_films_that_differ_in_what_they_show_alone_are_refused(done, tmp_path):
    across = np.broadcast_to(np.linspace(0, 255, 128).astype(np.uint8)[:, None], (64, 128, 3))
    noisy = (across * 0.8 + np.random.default_rng(0).integers(0, 50, across.shape)).astype(np.uint8)
    one, same, other = (film(tmp_path / f"{n}.mp4", 40, 25, of) for n, of in enumerate((across, noisy, across[:, ::-1])))
    of_run = done / "whole.json", done / "whole.jsonl", tmp_path / "page.html"
    review(*of_run, source=one, restored=same)
    with pytest.raises(MediaError, match=r"2\.mp4: shows other pictures than .*0\.mp4; are they the films of this report"):
        review(*of_run, source=one, restored=other, overwrite=True)


def test_numbered_pictures_with_a_number_and_a_rate_are_read_and_their_film_as_it_is(done, tmp_path):
    for index in range(3, 9):
        picture = np.full((64, 128, 3), 20 * index, np.uint8)
        picture[:4, :4] = 0
        assert cv2.imwrite(str(tmp_path / f"f{index:04d}.png"), picture)
    restored(tmp_path, "made", "media.input.start_number=4", "media.input.rate=24", source="f%04d.png")
    made = review(tmp_path / "made.json", tmp_path / "made.jsonl", tmp_path / "page.html")
    assert made.tracks == 1
    for text, before, after in zip(captions(tmp_path / "page.html"), *[iter(pictures(tmp_path / "page.html"))] * 2, strict=True):
        number = int(re.search(r"\(frame (\d+)\)", text)[1])
        assert all(abs(int(np.median(one)) - 20 * (4 + number)) <= 3 for one in (before, after))


@pytest.mark.parametrize(("numbered", "said"), [(False, None), (True, None), (True, 7)])
def test_numbered_pictures_of_an_earlier_run_are_not_taken_for_this_one_s(tmp_path, numbered, said):
    first = said or (4 if numbered else 1)
    named = [] if said is None else [f"media.start_number={said}"]
    for index in range(10):
        picture = np.full((64, 128, 3), 20 * index, np.uint8)
        picture[:4, :4] = 0
        assert cv2.imwrite(str(tmp_path / f"f{index:04d}.png"), picture)
        if index < first:
            assert cv2.imwrite(str(tmp_path / f"o{index:04d}.png"), picture)
    if numbered:
        restored(tmp_path, "made", "media.start=4f", *named, source="f%04d.png", target="o%04d.png")
    else:
        restored(tmp_path, "film", source="f%04d.png")
        restored(tmp_path, "made", source="film.mkv", target="o%04d.png")
    review(tmp_path / "made.json", tmp_path / "made.jsonl", tmp_path / "page.html")
    for before, after in zip(*[iter(pictures(tmp_path / "page.html"))] * 2, strict=True):
        assert abs(np.median(before) - np.median(after)) <= 3


def test_reports_that_an_editor_marked_as_text_are_read(done, tmp_path):
    for name in ("whole.json", "whole.jsonl"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (done / name).read_bytes())
    assert review(tmp_path / "whole.json", tmp_path / "whole.jsonl", tmp_path / "page.html").tracks == 2


def test_of_a_box_that_lies_beyond_the_picture_the_visible_part_is_shown():
    image = np.full((64, 128, 3), 200, np.uint8)
    for box, share in (
        ((-1e6, -1e6, 1e6, 1e6), 1 / SIDE**2),
        ((-1e12, -1e12, 1e12, 1e12), 1 / SIDE**2),
        ((0.0, 0.0, 128.0, 128.0), 1 / 1.5**2 / 2),
        ((48.0, 16.0, 68.0, 36.0), 1.0),
        ((200.0, 0.0, 220.0, 20.0), 0.0),
    ):
        shown = _picture(Frame.from_image(image), Moment(0, Fraction(0), box, 1.0, None, ()))
        picture = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (SIDE, SIDE, 3) and abs((picture > 100).mean() - share) < 0.02
        assert (picture.max() > 20) == (share > 0)


def test_lines_of_another_film_are_refused(done, tmp_path):
    lines = [json.loads(text) for text in (done / "whole.jsonl").read_text().splitlines()]
    other = tmp_path / "other.jsonl"
    for change in (
        [],
        lines[:-1],
        [*lines, lines[-1]],
        [{**one, "track": one["track"] + 1} for one in lines],
        [{**one, "time": f"{one['frame'] + 5}/25"} for one in lines],
        [{**one, "frame": one["frame"] + 1} for one in lines],  # beyond the last one
        [{**one, "shot": 1} for one in lines],
        [{**one, "similarity": 0.9} for one in lines],
        [{**one, "confidence": 0.999} for one in lines],
        [{**one, "reasons": {"mouth": 1.0}} for one in lines],
        [{**one, "box": [value * 1.02 for value in one["box"]]} for one in lines],
    ):
        other.write_text("".join(json.dumps(one) + "\n" for one in change))
        with pytest.raises(MediaError, match=r"other\.jsonl: tells of other faces than .*whole\.json; name both files of one run"):
            review(done / "whole.json", other, tmp_path / "page.html")
    with pytest.raises(MediaError, match="tells of other faces"):
        review(done / "part.json", done / "whole.jsonl", tmp_path / "page.html")
    assert [one.name for one in tmp_path.iterdir()] == ["other.jsonl"]


def test_what_is_no_report_is_one_line(done, tmp_path, capsys):
    report, lines = done / "whole.json", done / "whole.jsonl"
    bad = tmp_path / "bad.json"
    for text, message in (("{", "is no JSON"), ("[]", "is no report of a film"), ('{"files": []}', "reports of many files")):
        bad.write_text(text)
        with pytest.raises(MediaError, match=message):
            review(bad, lines, tmp_path / "page.html")
    told = json.loads(report.read_text())
    media = told["settings"]["media"]
    for change in (
        {"settings": {"media": {"of": "another"}}},
        {"settings": {**told["settings"], "section_to_come": {}}},
        {"settings": {**told["settings"], "media": {**media, "crf": "high"}}},
        {"settings": 3},
        {"frames_out": "x"},
        {"frames_out": None},
        {"tracks": [{"track": 0}]},
        {"tracks": 5},
        {"tracks": [{**told["tracks"][0], "first_time": "1/0"}]},
        {"warnings": None},
        {"source": 5},
        {"source_info": None},
    ):
        bad.write_text(json.dumps({**told, **change}))
        with pytest.raises(MediaError, match=r"bad\.json: is damaged, or of another release of videoclr \([^ ]") as caught:
            review(bad, lines, tmp_path / "page.html")
        assert "pydantic" not in str(caught.value) and "\n" not in str(caught.value)
    for name in told.keys() & {"frames_out", "source_info", "shots", "warnings"}:
        bad.write_text(json.dumps({key: value for key, value in told.items() if key != name}))
        with pytest.raises(MediaError, match=f"another release of videoclr .{name}: field required"):
            review(bad, lines, tmp_path / "page.html")
    first, *rest = lines.read_text().splitlines(keepends=True)
    for change in (
        {"name": 5},
        {"reasons": [5, None]},
        {"frame": -5},
        {"confidence": float("nan")},
        {"box": [0, 0, float("inf"), 1]},
        {"box": [0, 0, 1]},
        {"time": "1/0"},
    ):
        bad.write_text(json.dumps({**json.loads(first), **change}) + "\n" + "".join(rest))
        with pytest.raises(MediaError, match="line 1 tells of no face"):
            review(report, bad, tmp_path / "page.html")
    for text, message in (
        ("{", "line 1 is no JSON"),
        ("[" * 100_000, "line 1 is no JSON"),
        ('{"frame": 1}', "line 1 tells of no face"),
        (lines.read_text() + "[]\n", "line 61 tells"),
    ):
        bad.write_text(text)
        with pytest.raises(MediaError, match=message):
            review(report, bad, tmp_path / "page.html")
    with pytest.raises(MediaError, match="cannot be read"):
        review(report, tmp_path / "gone.jsonl", tmp_path / "page.html")
    with pytest.raises(MediaError, match="cannot be written"):
        review(report, lines, tmp_path / "gone" / "page.html")
    with pytest.raises(ConfigError, match="is one of the files"):
        review(report, lines, lines)
    with pytest.raises(ConfigError, match="1 or more"):
        review(report, lines, tmp_path / "page.html", most=0)
    (tmp_path / "page.html").write_text("mine")
    assert cli.main(["review", str(report), str(lines), "--to", str(tmp_path / "page.html")]) == 1
    assert "exists already" in capsys.readouterr().err and (tmp_path / "page.html").read_text() == "mine"


def test_other_deliverables_and_pipes_are_refused(done, tmp_path):
    told = json.loads((done / "whole.json").read_text())
    place_of = tmp_path / "r.json"
    place_of.write_text(json.dumps({**told, "target": "-"}))
    with pytest.raises(ConfigError, match="--output: the run read or wrote a pipe"):
        review(place_of, done / "whole.jsonl", tmp_path / "page.html")
    told["settings"]["media"]["deliver"] = "matte"
    place_of.write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="is no restored video but of the kind matte"):
        review(place_of, done / "whole.jsonl", tmp_path / "page.html")


def test_a_film_without_faces_has_a_page_as_well(done, tmp_path):
    told = json.loads((done / "whole.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps({**told, "tracks": [], "faces_restored": 0}))
    (tmp_path / "none.jsonl").write_text("")
    made = review(tmp_path / "r.json", tmp_path / "none.jsonl", tmp_path / "page.html")
    assert (made.tracks, made.pictures) == (0, 0) and "</html>" in (tmp_path / "page.html").read_text()
