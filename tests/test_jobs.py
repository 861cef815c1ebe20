from __future__ import annotations

import json
import re
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from videoclr import jobs
from videoclr.cast import Cast, Member
from videoclr.config import Config
from videoclr.errors import ConfigError, DecodeError, DeviceError, DeviceLostError, MediaError, VideoclrError
from videoclr.jobs import Progress, restore_batch, restore_video, targets_of
from videoclr.pipeline import recognizer_of
from videoclr.report import Report, plain, report_file, same_file
from videoclr.types import Detection, Frame, VideoInfo


class Reading:
    """A reader of as many frames as its file's text says; the text `broken` fails at the third."""

    log: list[str]

    def __init__(self, path, start=None, end=None, scale=False, **opening) -> None:
        if not Path(path).exists():
            raise MediaError(path, "no such file")
        self.path, self.start, self.end = path, start, end
        self.text = Path(path).read_text()
        count = None if self.text == "broken" else int(self.text)
        self.info = VideoInfo(8, 6, Fraction(1, 30000), Fraction(30000, 1001), Fraction(2), count)
        self.warnings = ["in: odd colours"]

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_) -> None:
        self.log.append("reader closed")

    def frames(self):
        for index in range(3 if self.text == "broken" else int(self.text)):
            yield Frame.from_image(np.zeros((6, 8, 3), np.uint8), index)
        if self.text == "broken":
            raise DecodeError(self.path, "corrupt", Fraction(3))


class Writing:
    """A writer of a text file through `.part`."""

    log: list[str]
    asked: list[dict]
    pictures = None

    def __init__(self, path, like, overwrite=False, **options) -> None:
        self.target = Path(path)
        if self.target.exists() and not overwrite:
            raise MediaError(path, "exists already")
        self.asked.append(options)
        self.part = self.target.with_name(self.target.name + ".part")
        self.part.write_text("")
        self.written = 0
        self.warnings = ["out: no chapters"]

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, kind, *_) -> None:
        self.log.append("writer closed")
        if kind is not None:
            self.part.unlink()
            return
        self.part.write_text(str(self.written))
        self.part.replace(self.target)

    def write(self, frame) -> None:
        self.written += 1


class Passing:
    """A pipeline that restores one face in every frame."""

    log: list[str]
    made: list[Config]

    def __init__(self, config=None) -> None:
        self.config = config or Config()
        self.made.append(self.config)

    def restore_frames(self, frames, ledger, *, aligned=False, cast=None):
        ledger.shots = 1
        ledger.warnings.append(f"aligned: {aligned}")
        try:
            for frame in ledger.counted(frames):
                ledger.faces_restored += 1
                ledger.frames_out += 1
                yield frame
        finally:
            self.log.append("pipeline closed")


@pytest.fixture
def log(monkeypatch) -> list[str]:
    log: list[str] = []
    for name, fake in {"Reader": Reading, "Writer": Writing, "Pipeline": Passing}.items():
        fake.log = log
        monkeypatch.setattr(jobs, name, fake)
    Writing.asked, Passing.made = [], []
    return log


@pytest.fixture
def film(tmp_path) -> Path:
    path = tmp_path / "in.mp4"
    path.write_text("5")
    return path


def test_what_a_part_prints_does_not_get_into_the_film_on_standard_output(log, film, tmp_path, monkeypatch, capsys):
    class Printing(Passing):
        def restore_frames(self, *arguments, **named):
            print("hello")
            return super().restore_frames(*arguments, **named)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "Pipeline", Printing)
    restore_video(film, "-")
    assert capsys.readouterr() == ("", "hello\n")
    restore_video(film, "out.mp4")
    assert capsys.readouterr() == ("hello\n", "")


def test_a_job_writes_the_film_and_tells_what_it_did(log, film, tmp_path):
    target, place = tmp_path / "out.mp4", tmp_path / "report.json"
    report = restore_video(film, target, Config().override("restore.steps=9"), report=place)
    assert target.read_text() == "5"
    assert (report.frames_in, report.frames_out, report.faces_restored, report.shots) == (5, 5, 5, 1)
    assert report.warnings == ["in: odd colours", "out: no chapters", "aligned: False"]
    assert report.settings["restore"]["steps"] == 9
    assert report.source_info["frame_rate"] == "30000/1001"
    assert report.seconds > 0 and report.seconds_per_stage["encode"] > 0
    assert json.loads(place.read_text()) == report.as_dict()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "report.json"]


@pytest.mark.parametrize(
    ("source", "aligned", "said"), [("-", False, "a pipe can be read only once"), (None, True, "aligned pictures have no tracks")]
)
def test_what_cannot_be_looked_through_first_is_told_before_anything_is_done(log, film, tmp_path, source, aligned, said):
    config = Config().override("identify.look_first=true")
    with pytest.raises(ConfigError, match=said):
        restore_video(source or film, tmp_path / "out.mp4", config, aligned=aligned)
    assert not log and [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_report_has_what_programs_rely_on(log, film, tmp_path):
    report = restore_video(film, tmp_path / "out.mp4").as_dict()
    promised = "frames_in frames_out faces_restored tracks shots seconds seconds_per_stage warnings"
    assert set(promised.split()) <= set(report)
    assert {"version", "settings", "weights", "source_info"} <= set(report)
    json.dumps(report)


def test_everything_closes_from_the_middle_outwards(log, film, tmp_path):
    restore_video(film, tmp_path / "out.mp4")
    assert log == ["pipeline closed", "writer closed", "reader closed"]


def test_the_reader_gets_the_cut_and_the_writer_the_rest_of_media(log, film, tmp_path):
    config = Config().override('media.start="1:00"', "media.codec=ffv1", "media.drop=[subtitles]", "media.primaries=aces")
    restore_video(film, tmp_path / "out.mkv", config)
    (asked,) = Writing.asked
    read = {"start", "end", "frames", "input", "limits", "hwaccel", "deinterlace", "video_stream", "segment", "primaries"}
    assert set(asked) == set(config.media.model_dump()) - read
    assert (asked["codec"], asked["drop"]) == ("ffv1", ["subtitles"])
    assert "videoclr" in asked["provenance"]


def test_aligned_reaches_the_pipeline(log, film, tmp_path):
    assert "aligned: True" in restore_video(film, tmp_path / "out.mp4", aligned=True).warnings


def test_progress_comes_after_every_frame(log, film, tmp_path):
    seen: list[Progress] = []
    restore_video(film, tmp_path / "out.mp4", progress=seen.append)
    assert [(now.frames, now.total, now.faces) for now in seen] == [(n, 5, n) for n in range(1, 6)]
    assert [now.seconds for now in seen] == sorted(now.seconds for now in seen)
    assert seen[-1].seconds_left == 0


def test_the_remaining_time_is_that_of_the_frames_to_come():
    assert Progress("a", 20, 50, 0, 4.0).seconds_left == pytest.approx(6.0)
    assert Progress("a", 20, None, 0, 4.0).seconds_left is None
    assert Progress("a", 60, 50, 0, 4.0).seconds_left == 0


@pytest.mark.parametrize("stop", [MediaError("x", "y"), KeyboardInterrupt()])
def test_a_stopped_job_leaves_nothing(log, film, tmp_path, stop):
    def interrupt(now: Progress) -> None:
        if now.frames == 2:
            raise stop

    with pytest.raises(type(stop)):
        restore_video(film, tmp_path / "out.mp4", report=tmp_path / "report.json", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    assert log == ["pipeline closed", "writer closed", "reader closed"]


def test_the_input_is_never_the_output(log, film, tmp_path):
    link = tmp_path / "link.mp4"
    link.symlink_to(film)
    for target in (film, link, tmp_path / "." / "in.mp4"):
        with pytest.raises(MediaError, match="is the input as well"):
            restore_video(film, target, overwrite=True)
    assert film.read_text() == "5"


def test_a_bad_report_is_refused_before_any_work(log, film, tmp_path):
    target = tmp_path / "out.mp4"
    existing = tmp_path / "old.json"
    existing.write_text("old")
    for place, error in (
        (tmp_path / "nowhere" / "r.json", MediaError),
        (tmp_path, MediaError),
        (existing, MediaError),
        (film, ConfigError),
        (target, ConfigError),
        ("-", ConfigError),
    ):
        with pytest.raises(error):
            restore_video(film, target, report=place)
    assert not Passing.made
    assert not target.exists()
    assert (film.read_text(), existing.read_text()) == ("5", "old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "old.json"]


def test_an_old_report_is_replaced_only_when_asked(log, film, tmp_path):
    place = tmp_path / "r.json"
    place.write_text("old")
    restore_video(film, tmp_path / "out.mp4", report=place, overwrite=True)
    assert json.loads(place.read_text())["frames_out"] == 5


def test_a_report_is_absent_or_complete(tmp_path):
    place = tmp_path / "r.json"
    with pytest.raises(TypeError), report_file(place, (), False) as file:
        file.write({"not": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_written_where_a_link_leads(tmp_path):
    there, link = tmp_path / "there", tmp_path / "r.json"
    there.mkdir()
    link.symlink_to(there / "real.json")
    for number in range(2):
        with report_file(link, (), overwrite=True) as file:
            assert [one.name for one in tmp_path.iterdir() if one.name.startswith("r.")] == ["r.json"]  # it grows there as well
            file.write({"number": number})
        assert link.is_symlink() and json.loads((there / "real.json").read_text()) == {"number": number}


def test_a_report_whose_folder_became_a_file_is_told_in_the_reports_own_words(tmp_path):
    said = r"here/r\.json: the report cannot be written \(Not a directory\)"
    (tmp_path / "here").mkdir()
    with pytest.raises(MediaError, match=said), report_file(tmp_path / "here" / "r.json", (), False) as file:
        (tmp_path / "here" / "r.json.part").unlink()
        (tmp_path / "here").rmdir()
        (tmp_path / "here").write_text("mine")
        file.write({})


@pytest.mark.parametrize(("option", "named"), [("--report", "the report "), ("--report-frames", "the report "), ("--json", "")])
def test_only_a_report_is_called_one_where_it_cannot_be_written(tmp_path, option, named):
    said = rf"some\.json: {named}cannot be written \((No such file or directory|its folder .*gone does not exist; make it first)\)"
    with pytest.raises(MediaError, match=said), report_file(tmp_path / "gone" / "some.json", (), False, option):
        pass
    (tmp_path / "here").mkdir()
    with pytest.raises(MediaError, match=said), report_file(tmp_path / "here" / "some.json", (), False, option) as file:
        (tmp_path / "here" / "some.json.part").unlink()
        (tmp_path / "here").rmdir()
        file.write({})


def test_a_loaded_pipeline_is_used_as_it_is(log, film, tmp_path):
    pipeline = Passing(Config().override("restore.steps=7"))
    report = restore_video(film, tmp_path / "out.mp4", pipeline=pipeline)
    assert len(Passing.made) == 1
    assert report.settings["restore"]["steps"] == 7
    with pytest.raises(TypeError, match="not both"):
        restore_video(film, tmp_path / "out.mp4", Config(), pipeline=pipeline)


def films(folder: Path, **contents: str) -> list[Path]:
    folder.mkdir()
    for name, text in contents.items():
        (folder / f"{name}.mov").write_text(text)
    return [folder / f"{name}.mov" for name in contents]


def test_a_batch_loads_once_and_goes_on_after_a_bad_file(log, tmp_path):
    sources = films(tmp_path / "rushes", a="2", b="broken", c="3")
    place = tmp_path / "r.json"
    results = restore_batch(sources, tmp_path / "done" / "today", report=place)
    assert [type(result) for result in results] == [Report, DecodeError, Report]
    assert len(Passing.made) == 1
    assert sorted(path.name for path in (tmp_path / "done" / "today").iterdir()) == ["a.mov", "c.mov"]
    written = json.loads(place.read_text())
    assert [entry["frames_out"] for entry in written["files"]] == [2, 3]
    assert written["failed"] == [{"source": str(sources[1]), "error": f"{sources[1]}: at 3.000 s: corrupt"}]


def test_a_batch_takes_what_gives_names_one_by_one_and_refuses_a_name_alone(log, tmp_path):
    sources = films(tmp_path / "rushes", a="2", b="3")
    assert len(restore_batch((tmp_path / "rushes").glob("*.mov"), tmp_path / "done")) == 2
    for alone in (sources[0], str(sources[0])):
        with pytest.raises(TypeError, match=r"expected several names, got .*a\.mov.* alone; put it into a list"):
            restore_batch(alone, tmp_path / "other")


def test_a_batch_of_which_nothing_becomes_anything_leaves_no_empty_folder(log, tmp_path):
    (tmp_path / "done").mkdir()
    (result,) = restore_batch(films(tmp_path / "rushes", b="broken"), tmp_path / "done" / "today" / "one")
    assert isinstance(result, DecodeError)
    assert [*(tmp_path / "done").iterdir()] == []


def test_a_batch_can_change_the_ending(log, tmp_path):
    sources = films(tmp_path / "rushes", a="2")
    for ending in ("mkv", ".mp4"):
        restore_batch(sources, tmp_path / "done", ending=ending)
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["a.mkv", "a.mp4"]


def test_a_file_of_a_kind_that_is_only_read_is_told_the_way_out_of_a_batch(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "a.jpg").rename(tmp_path / "a.jfif")
    (failed,) = restore_batch([tmp_path / "a.jfif"], tmp_path / "done", Config.of({"restore": {"use": "unchanged"}}))
    assert re.search(r"a\.jfif: no \.jfif files are written; use one of .* \(in a batch: --ending\)$", str(failed))


@pytest.mark.parametrize(
    ("ending", "container", "names"),
    [
        (".mp4", None, ["a.mp4", "b.JPG", "c.png", "d.mp4", "s.%04d.mp4"]),
        ("restored.mov", None, ["a.restored.mov", "b.JPG", "c.png", "d.restored.mov", "s.%04d.restored.mov"]),
        (".png", None, ["a.png", "b.png", "c.png", "d.png", "s.%04d.png"]),
        (".mkv", "matroska", ["a.mkv", "b.mkv", "c.mkv", "d.mkv", "s.%04d.mkv"]),
    ],
)
def test_photographs_among_films_stay_pictures_where_results_end_as_films_do(ending, container, names):
    sources = ["a.mov", "b.JPG", "c.png", "d.heic", "s.%04d.png"]
    assert [target.name for target in targets_of(sources, Path("out"), ending, container)] == names


@pytest.mark.parametrize(
    ("name", "text", "ending", "settings", "told"),
    [
        ("a.heic", "1", ".mp4", [], True),
        ("a.heic", "1", ".png", [], False),
        ("a.wmv", "2", ".mp4", [], False),
        ("a.wmv", "1", ".mp4", ["media.frames=1"], False),
        ("a.mov", "1", ".mp4", [], False),
    ],
)
def test_a_picture_that_a_batch_makes_a_film_is_told(log, tmp_path, caplog, name, text, ending, settings, told):
    (tmp_path / name).write_text(text)
    (done,) = restore_batch([tmp_path / name], tmp_path / "done", Config().override(*settings), ending=ending)
    said = "is one picture, and became a film of it; restore such pictures by themselves, with --ending .png"
    assert (said in done.warnings) == told == (f"{tmp_path / name}: {said}" in caplog.messages)


@pytest.mark.parametrize("ending", ["", ".", ".zzz", "mp4/", ".a/b.mp4", ".mp4."])
def test_a_batch_refuses_an_ending_that_no_film_has_once_and_before_any_work(log, tmp_path, ending):
    sources = films(tmp_path / "rushes", a="2", b="2")
    with pytest.raises(ConfigError, match=r"^--ending: "):
        restore_batch(sources, tmp_path / "done", ending=ending)
    assert not (tmp_path / "done").exists() and not log


@pytest.mark.parametrize(("ending", "container"), [(".zzz", "mkv"), (".restored.MP4", None)])
def test_an_ending_may_say_more_than_the_container_or_nothing_of_it(log, tmp_path, ending, container):
    config = Config.of({"media": {"container": container}})
    restore_batch(films(tmp_path / "rushes", a="2"), tmp_path / "done", config, ending=ending)
    assert [path.name for path in (tmp_path / "done").iterdir()] == [f"a{ending}"]


def test_a_batch_refuses_two_results_of_one_name_before_any_work(log, tmp_path):
    sources = films(tmp_path / "one", a="2") + films(tmp_path / "two", a="2")
    with pytest.raises(ConfigError, match=r"would both become .*a\.mov; restore them into different folders"):
        restore_batch(sources, tmp_path / "done")
    with pytest.raises(ConfigError, match="pipe"):
        restore_batch(["-"], tmp_path / "done")
    assert not (tmp_path / "done").exists()


def test_a_batch_folder_that_cannot_be_is_one_line(log, tmp_path):
    sources = films(tmp_path / "one", a="2")
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="cannot be made a folder"):
        restore_batch(sources, tmp_path / "file")


def test_a_setting_that_does_not_fit_one_file_does_not_stop_the_batch(log, tmp_path, monkeypatch):
    sources = films(tmp_path / "one", a="2", b="2")
    writer, told = jobs.Writer, []

    def choosy(path, *rest, **named):
        if "a.mov" in str(path):
            raise ConfigError("$.media.start: the film begins later")
        return writer(path, *rest, **named)

    monkeypatch.setattr(jobs, "Writer", choosy)
    results = restore_batch(sources, tmp_path / "done", ended=lambda *end: told.append(end))
    assert [type(one) for one in results] == [ConfigError, Report]
    assert told == [(str(source), result) for source, result in zip(sources, results, strict=True)]


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, MemoryError])
def test_a_part_that_fails_unexpectedly_does_not_stop_the_batch_and_is_named(log, tmp_path, monkeypatch, kind):
    sources, place = films(tmp_path / "one", a="2", b="2"), tmp_path / "r.json"
    writer = jobs.Writer

    def faulty(path, *rest, **named):
        if "a.mov" in str(path):
            error = kind("boom\nand more")
            error.add_note("2 frames are kept")
            raise error
        return writer(path, *rest, **named)

    monkeypatch.setattr(jobs, "Writer", faulty)
    results = restore_batch(sources, tmp_path / "done", report=place)
    said = "the program ran out of memory" if kind is MemoryError else f"{sources[0]}: unexpected {kind.__name__}: boom and more"
    assert str(results[0]).startswith(said) and isinstance(results[1], Report)
    assert results[0].__notes__ == ["2 frames are kept"]
    assert [one["error"] for one in json.loads(place.read_text())["failed"]] == [str(results[0])]


def test_a_batch_that_is_stopped_reports_what_is_done(log, tmp_path, monkeypatch):
    sources = films(tmp_path / "one", a="broken", b="2", c="2")
    writer, place = jobs.Writer, tmp_path / "r.json"

    def stopping(path, *rest, **named):
        if "c.mov" in str(path):
            raise KeyboardInterrupt
        return writer(path, *rest, **named)

    monkeypatch.setattr(jobs, "Writer", stopping)
    with pytest.raises(KeyboardInterrupt):
        restore_batch(sources, tmp_path / "done", report=place)
    written = json.loads(place.read_text())
    assert len(written["files"]) == 1 and [one["source"] for one in written["failed"]] == [str(sources[0])]
    assert written["unfinished"] == [str(sources[2])]


def test_a_batch_ends_where_the_device_is_lost_and_goes_on_where_a_film_is_too_large_for_it(log, tmp_path, monkeypatch):
    sources, place, ended = films(tmp_path / "one", a="2", b="2", c="2", d="2"), tmp_path / "r.json", []
    faults = {"b.mov": DeviceError("out of memory"), "c.mov": DeviceLostError("the device failed; start again")}
    faults["c.mov"].add_note("2 frames are kept")
    writer = jobs.Writer

    def failing(path, *rest, **named):
        if (fault := faults.get(Path(path).name)) is not None:
            raise fault
        return writer(path, *rest, **named)

    monkeypatch.setattr(jobs, "Writer", failing)
    told = r"c\.mov: the device failed; start again; this file and those after it are not"
    with pytest.raises(DeviceLostError, match=told) as lost:
        restore_batch(sources, tmp_path / "done", report=place, ended=lambda source, _: ended.append(Path(source).name))
    written = json.loads(place.read_text())
    assert lost.value.__notes__ == ["2 frames are kept"]
    assert [Path(name).name for name in written["unfinished"]] == ["c.mov", "d.mov"] and ended == ["a.mov", "b.mov"]
    assert [one["error"] for one in written["failed"]] == ["out of memory"] and len(written["files"]) == 1


def test_a_batch_that_goes_on_replaces_its_own_report_and_no_other_file(log, tmp_path):
    sources, place, other = films(tmp_path / "one", a="2", b="2"), tmp_path / "r.json", tmp_path / "notes.json"
    restore_batch(sources[:1], tmp_path / "done", report=place)
    other.write_text('{"mine": 1}')
    restore_batch(sources, tmp_path / "done", report=place, resume=True)
    written = json.loads(place.read_text())
    assert len(written["files"]) + len(written["failed"]) == 2 and written["unfinished"] == []
    for taken, resume in ((other, True), (place, False)):
        with pytest.raises(MediaError, match="exists already"):
            restore_batch(sources, tmp_path / "done", report=taken, resume=resume, overwrite=False)
    assert other.read_text() == '{"mine": 1}'


def test_no_result_replaces_what_another_one_is_made_of(log, tmp_path):
    one, two = films(tmp_path / "d", a="2", f0001="2"), films(tmp_path / "e", a="2", f0001="2", f0002="2")
    (tmp_path / "d" / "b.mov").symlink_to(two[0])
    (tmp_path / "e" / "l.ffconcat").write_text("ffconcat version 1.0\nfile 'a.mov'\n")
    photograph = Config().override(f"identify.references=[{two[0]}]")
    for sources, config in (
        ([one[0], tmp_path / "d" / "b.mov"], Config()),
        ([one[0], tmp_path / "e" / "l.ffconcat"], Config()),
        ([one[1], tmp_path / "e" / "f%04d.mov"], Config()),
        ([one[0]], photograph),
    ):
        with pytest.raises(ConfigError, match=r"would replace .* which is read as well"):
            restore_batch(sources, tmp_path / "e", config, overwrite=True)
    with pytest.raises(ConfigError, match="would replace"):
        restore_video(one[0], two[0], photograph, overwrite=True)
    with pytest.raises(ConfigError, match="would replace"):
        restore_video(one[0], tmp_path / "e" / "f%04d.mov", Config().override(f"identify.references=[{two[1]}]"), overwrite=True)
    assert {path.name: path.read_text() for path in two} == {path.name: "2" for path in two}


def test_as_many_threads_as_asked_for_work_on_a_film_and_afterwards_as_many_as_before(log, film, tmp_path, monkeypatch):
    inside: list[tuple[int, int]] = []

    def restore_frames(self, frames, *args, **options):
        inside.append((torch.get_num_threads(), cv2.getNumThreads()))
        return frames

    monkeypatch.setattr(Passing, "restore_frames", restore_frames)
    before = torch.get_num_threads(), cv2.getNumThreads()
    restore_video(film, tmp_path / "a.mp4")
    restore_video(film, tmp_path / "b.mp4", Config().override("runtime.threads=3"))
    assert inside == [before, (3, 3)]
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_plain_values_are_exact_and_fit_json():
    value = {"rate": Fraction(30000, 1001), 3: (np.float32(0.5), Path("a")), "none": None}
    assert plain(value) == {"rate": "30000/1001", "3": [0.5, "a"], "none": None}
    json.dumps(plain(asdict(VideoInfo(8, 6, Fraction(1, 25), None, None, None))))


class Painter:
    """Paints every crop white, so that a test sees where restored faces go."""

    size = 64

    def restore(self, crops, memory):
        import torch

        return torch.ones(len(crops), 3, self.size, self.size)


class Pointing:
    """Finds one face at a fixed place in pictures that are not black."""

    def detect(self, images):
        landmarks = np.array([[40, 30], [60, 30], [50, 42], [42, 54], [58, 54]], np.float32)
        face = Detection(np.array([30, 16, 70, 66], np.float32), landmarks, 0.99)
        return [[face] if image.mean() > 8 else [] for image in images]


class Everything:
    def mask(self, crops, images):
        return images.new_ones((len(crops), 1, *images.shape[2:]))


@pytest.fixture
def real_film(tmp_path) -> Path:
    """Twelve gray pictures at uneven times, the last four black."""
    from videoclr import Writer

    path = tmp_path / "real.mkv"
    with Writer(path, codec="ffv1") as writer:
        for index in range(12):
            picture = np.full((96, 128, 3), 0 if index >= 8 else 90, np.uint8)
            writer.write(Frame.from_image(picture, index, Fraction(index + index // 3, 25)))
    return path


def pipeline_of_parts(config: Config | None = None):
    from videoclr import Pipeline

    return Pipeline(config or Config(), detector=Pointing(), recognizer=None, restorer=Painter(), masker=Everything())


def test_a_real_film_keeps_frames_and_times_and_changes_only_faces(real_film, tmp_path):
    from videoclr import Reader

    target = tmp_path / "out.mkv"
    config = Config().override("media.codec=ffv1", "blend.match_color=false")
    report = restore_video(real_film, target, pipeline=pipeline_of_parts(config))
    assert (report.frames_in, report.frames_out, report.faces_restored) == (12, 12, 8)
    assert [(track["first_frame"], track["last_frame"]) for track in report.tracks] == [(0, 7)]
    with Reader(real_film) as before, Reader(target) as after:
        pairs = list(zip(before.frames(), after.frames(), strict=True))
    assert [old.time for old, _ in pairs] == [new.time for _, new in pairs]
    for old, new in pairs:
        changed = np.abs(old.image.astype(int) - new.image.astype(int)).max(axis=2)
        assert (changed[45, 50] > 100) == (old.index < 8)
        assert changed[:, 100:].max() == 0  # the crop of this face ends before
    json.dumps(report.as_dict())


def test_a_real_job_that_is_stopped_leaves_nothing_and_no_thread(real_film, tmp_path):
    import threading

    def interrupt(now: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(real_film, tmp_path / "out.mkv", pipeline=pipeline_of_parts(), progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["real.mkv"]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("videoclr")] == []


def test_a_pipe_is_no_file():
    assert not same_file("-", "-")
    assert same_file("a/../b.mp4", "b.mp4") == Path("a/../b.mp4").exists()


def test_errors_of_jobs_belong_to_the_family(log, tmp_path):
    with pytest.raises(VideoclrError):
        restore_video(tmp_path / "missing.mp4", tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_lines_for_every_face_appear_with_the_finished_film(real_film, tmp_path):
    config = Config.of({"restore": {"use": "unchanged", "options": {"size": 64}}, "gate": {"use": "none"}})
    lines = tmp_path / "faces.jsonl"
    report = restore_video(real_film, tmp_path / "out.mkv", report_frames=lines, pipeline=pipeline_of_parts(config))
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(found) == report.faces_restored == 8
    assert [face["frame"] for face in found] == list(range(8)) and {face["track"] for face in found} == {0}
    assert not list(tmp_path.glob("*.part"))


def test_lines_are_absent_or_complete(log, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("broken")
    with pytest.raises(DecodeError):
        restore_video(bad, tmp_path / "out.mp4", report_frames=tmp_path / "faces.jsonl")
    with report_file(tmp_path / "some.jsonl", (), False) as file:
        file.add({"time": Fraction(1, 3)})
        file.add({"frame": 1})
        file.finish()
    assert (tmp_path / "some.jsonl").read_text() == '{"time": "1/3"}\n{"frame": 1}\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.mp4", "some.jsonl"]


def test_two_reports_need_two_names(log, film, tmp_path):
    same = tmp_path / "same.json"
    with pytest.raises(ConfigError, match=r"--report-frames: .*same\.json is a file of this run already"):
        restore_video(film, tmp_path / "out.mp4", report=same, report_frames=same)


@pytest.mark.parametrize(
    ("source", "target", "report"),
    [
        ("in.mkv", "f%02d.png", "f03.png"),
        ("g%02d.png", "out.mkv", "g01.png"),
        ("g%02d.png", "out.mkv", "link"),
        ("in.mkv", "out.mkv", "out.mkv.part"),
        ("r.part", "out.mkv", "r"),
        ("reel.ffconcat", "out.mkv", "in.mkv"),
        ("reel.ffconcat", "out.mkv", "r"),
        ("reel.ffconcat", "out.mkv", "link"),
    ],
)
def test_a_report_takes_the_place_of_no_file_of_the_run(log, tmp_path, monkeypatch, source, target, report):
    monkeypatch.chdir(tmp_path)
    for name in ("in.mkv", "g01.png", "r.part"):
        Path(name).write_text("mine")
    Path("link").symlink_to("g01.png")
    Path("reel.ffconcat").write_text("ffconcat version 1.0\nfile in.mkv\nfile r.part\nfile g01.png\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ConfigError, match=f"--report: {report} is a file of this run already"):
        restore_video(source, target, report=report, overwrite=True)
    with pytest.raises(ConfigError, match=f"--report-frames: {report} is a file of this run already"):
        restore_video(source, target, report_frames=report, overwrite=True)
    with pytest.raises(ConfigError, match=r"--report-frames: x\.part is a file of this run already \(x\)"):
        restore_video("in.mkv", "out.mkv", report="x", report_frames="x.part")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert all(Path(name).read_text() == "mine" for name in ("in.mkv", "g01.png", "r.part"))


def test_numbers_of_tracks_belong_to_one_film(log, tmp_path):
    sources = films(tmp_path / "rushes", a="2", b="3")
    people = tmp_path / "people.json"
    people.write_text(json.dumps(Cast((Member("7", torch.tensor([0.0, 1.0])),)).as_json(recognizer_of(Config()))))
    for settings, said in (
        (("identify.only=[0]",), r"\$\.identify\.only: tracks of one film \(0\) are not those of another; restore it by itself"),
        (("identify.leave=[12, 3, anna]", "identify.references=[anna.jpg]"), r"\$\.identify\.leave: tracks of one film \(3, 12\)"),
        (("identify.leave=[anna]",), r"\$\.identify\.leave: nobody is called 'anna'"),
    ):
        with pytest.raises(ConfigError, match=said):
            restore_batch(sources, tmp_path / "done", Config().override(*settings))
    assert not (tmp_path / "done").exists()
    restore_batch(sources[:1], tmp_path / "one", Config().override("identify.only=[0]"))
    named = Config().override("identify.only=[7, anna]", "identify.references=[anna.jpg]", f"identify.people={people}")
    assert all(isinstance(one, Report) for one in restore_batch(sources, tmp_path / "done", named))


def test_given_tracks_belong_to_one_film(tmp_path):
    config = Config().override(f"track.file={tmp_path / 'tracks.jsonl'}")
    with pytest.raises(ConfigError, match="the tracks of one film are not those of another"):
        restore_batch([tmp_path / "a.mkv", tmp_path / "b.mkv"], tmp_path / "out", config)
    with pytest.raises(ConfigError, match="aligned pictures have no tracks"):
        restore_video(tmp_path / "a.mkv", tmp_path / "b.mkv", config, aligned=True)
    with pytest.raises(ConfigError, match=r"--report: .* is a file of this run already"):
        restore_video(tmp_path / "a.mkv", tmp_path / "b.mkv", config, report=tmp_path / "tracks.jsonl")
    (tmp_path / "a.mkv").write_text("1")
    with pytest.raises(ConfigError, match=r"--report: .* is a file of this run already"):
        restore_batch([tmp_path / "a.mkv"], tmp_path / "out", config, report=tmp_path / "tracks.jsonl", overwrite=True)


@pytest.mark.parametrize("pipeline", [Config(), "clr", Passing])
def test_what_is_no_pipeline_is_told(film, tmp_path, pipeline):
    with pytest.raises(TypeError, match="pipeline: expected a Pipeline, got a "):
        restore_video(film, tmp_path / "out.mp4", pipeline=pipeline)


@pytest.mark.parametrize("names", [("in\0.mp4", "out.mp4"), ("in.mp4", "out\0.mp4")])
def test_a_name_that_no_file_can_have_is_told(film, tmp_path, names):
    source, target = (str(tmp_path / name) if "\0" in name else None for name in names)
    with pytest.raises(MediaError):
        restore_video(source or film, target or tmp_path / "out.mp4")


@pytest.mark.parametrize("option", ["report", "report_frames"])
def test_a_report_of_a_name_that_no_file_can_have_is_told(film, tmp_path, option):
    with pytest.raises(MediaError, match="there is a NUL in this name"):
        restore_video(film, tmp_path / "out.mp4", **{option: "a\0b.json"})
    assert not (tmp_path / "out.mp4").exists()


def test_a_folder_of_a_name_that_no_file_can_have_is_told(film):
    with pytest.raises(MediaError, match="there is a NUL in this name"):
        restore_batch([film], "a\0b")
