from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

import pytest

from videoclr.errors import MediaError
from videoclr.jobs import Progress
from videoclr.monitor import RUNNING, JsonLog, Pace, PrometheusFile, exposition
from videoclr.pipeline import slowest


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def at(frames: int, **changed) -> Progress:
    values = {"source": "in.mp4", "frames": frames, "total": 100, "faces": 2 * frames, "seconds": frames / 10}
    return Progress(**{**values, "seconds_per_stage": {"decode": 1.0, "restore": 4.0}, **changed})


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_progress_is_a_line_every_few_seconds_and_names_the_slow_stage(tmp_path):
    clock = Clock()
    with JsonLog(tmp_path / "log", clock) as log:
        for frame in range(1, 21):
            clock.now = float(frame)
            log.progress(at(frame))
    said = lines(tmp_path / "log")
    assert [line["frames"] for line in said] == [1, 6, 11, 16]
    assert all(line["event"] == "progress" and line["slowest"] == "restore" for line in said)
    assert said[0]["seconds_left"] == 9.9 and said[0]["seconds_per_stage"]["restore"] == 4.0


def test_records_and_failures_are_lines_of_their_own_whatever_they_hold(tmp_path):
    path = tmp_path / "log"
    record = logging.LogRecord("videoclr", logging.WARNING, "", 0, 'a "name"\nof %s', ("two lines",), None)
    with pytest.raises(MediaError), JsonLog(path) as log:
        log.emit(record)
        raise MediaError("in.mp4", "is no\nvideo")
    first, last = lines(path)
    assert (first["event"], first["level"], first["text"]) == ("log", "warning", 'a "name"\nof two lines')
    assert (last["event"], last["error"], last["kind"]) == ("failed", "in.mp4: is no video", "MediaError")
    assert all(line["time"].endswith("+00:00") for line in (first, last))


def test_a_log_goes_on_in_the_file_that_is_there(tmp_path):
    for _ in range(2):
        with JsonLog(tmp_path / "log") as log:
            log.event("log", text="again")
    assert len(lines(tmp_path / "log")) == 2


def test_a_line_that_was_torn_costs_none_of_the_next_run(tmp_path):
    (tmp_path / "log").write_text('{"time": "2026-01-')
    with JsonLog(tmp_path / "log") as log:
        log.event("log", text="again")
    torn, line = (tmp_path / "log").read_text().splitlines()
    assert torn == '{"time": "2026-01-' and json.loads(line)["text"] == "again"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("awaited", [False, True])
def test_a_log_says_that_it_waits_for_somebody_who_reads_its_pipe(tmp_path, awaited):
    path, told, readers = tmp_path / "log", [], []
    os.mkfifo(path)

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())
            read()

    def read() -> None:
        readers.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))

    handler, library = Reader(), logging.getLogger("videoclr.monitor")
    library.addHandler(handler)
    try:
        if not awaited:
            read()
        with JsonLog(path) as log:
            log.event("log", text="heard")
            assert json.loads(os.read(readers[0], 1000))["text"] == "heard" and os.get_blocking(log._file.fileno())
    finally:
        library.removeHandler(handler)
        for number in readers:
            os.close(number)
    assert told == [f"{path}: is a pipe that nobody reads; the work begins when somebody does"] * awaited


def test_figures_are_written_where_a_link_leads(tmp_path):
    (tmp_path / "a.prom").symlink_to(tmp_path / "real.prom")
    with PrometheusFile(tmp_path / "a.prom"):
        pass
    assert (tmp_path / "a.prom").is_symlink() and "videoclr_finished 1" in (tmp_path / "real.prom").read_text()


def test_a_log_or_figures_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    with pytest.raises(MediaError, match=r"the log cannot be written \(its folder .*missing does not exist; make it first\)"):
        JsonLog(tmp_path / "missing" / "log")
    with (
        pytest.raises(MediaError, match=r"the figures cannot be .* make it first"),
        PrometheusFile(tmp_path / "missing" / "a.prom"),
    ):
        pass


def test_what_is_no_log_and_no_file_of_figures_is_not_written_over(tmp_path):
    of_another_kind = {
        "a.jpg": b"\xff\xd8\xff",
        "c.yaml": b"restore: {}",
        "tracks.jsonl": b'{"videoclr": "tracks", "version": 1}\n',
    }
    for name, content in of_another_kind.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError, match="exists already and is not a log of JSON lines"):
            JsonLog(tmp_path / name)
        with (
            pytest.raises(MediaError, match="exists already and is not a file of videoclr's figures"),
            PrometheusFile(tmp_path / name),
        ):
            pass
        assert (tmp_path / name).read_bytes() == content
    (tmp_path / "empty").touch()
    with PrometheusFile(tmp_path / "empty") as figures, JsonLog(tmp_path / "new"):
        figures.progress(at(1))
    (tmp_path / "torn").write_text('{"ti')
    with PrometheusFile(tmp_path / "empty"), JsonLog(tmp_path / "new"), JsonLog(tmp_path / "torn"):
        pass


def test_a_job_that_somebody_stops_has_not_failed(tmp_path):
    with pytest.raises(KeyboardInterrupt), JsonLog(tmp_path / "log", source="in.mp4"):
        raise KeyboardInterrupt
    (line,) = lines(tmp_path / "log")
    assert (line["event"], line["source"]) == ("stopped", "in.mp4")


def test_figures_are_replaced_while_the_job_runs_and_stay_with_its_end(tmp_path):
    path, clock = tmp_path / "a.prom", Clock()
    with PrometheusFile(path, clock) as figures:
        assert "videoclr_finished 0" in path.read_text()
        figures.progress(at(1))
        figures.progress(at(2))
        assert 'videoclr_frames_written_total{source="in.mp4"} 1\n' in path.read_text()
        clock.now = 6.0
        figures.progress(at(3))
        assert 'videoclr_frames_written_total{source="in.mp4"} 3\n' in path.read_text()
    text = path.read_text()
    assert 'videoclr_stage_seconds_total{source="in.mp4",stage="restore"} 4\n' in text
    assert text.endswith("videoclr_finished 1\n")
    assert list(tmp_path.iterdir()) == [path]


def test_frames_that_are_only_looked_at_are_no_frames_written(tmp_path):
    place, log = tmp_path / "v.prom", tmp_path / "v.jsonl"
    with PrometheusFile(place) as figures, JsonLog(log) as events:
        figures.progress(at(30, looking=True))
        events.progress(at(30, looking=True))
    text = place.read_text()
    assert 'videoclr_frames_written_total{source="in.mp4"} 0' in text and 'frames_looked_at_total{source="in.mp4"} 30' in text
    (line,) = lines(log)
    assert line["looking"] is True and line["seconds_left"] is None


def test_jobs_that_run_side_by_side_are_told_as_often_as_each_other():
    clock = Clock()
    pace, told = Pace(clock), []
    for second in range(21):
        clock.now = float(second)
        told += [(second, source) for source in "abb" if pace.is_due(source)]
    assert told == [(0, "a"), *((second, source) for second in (5, 10, 15, 20) for source in "ab")]


def test_many_small_jobs_one_after_the_other_are_not_a_line_each():
    clock = Clock()
    pace, told = Pace(clock), 0
    for number in range(100):
        clock.now = number / 10
        told += pace.is_due(str(number))
        pace.over(str(number))
    assert told == 2


def test_figures_are_of_all_jobs_at_work_and_at_the_end_of_the_last(tmp_path):
    path, clock = tmp_path / "a.prom", Clock()

    def written() -> list[str]:
        return [line for line in path.read_text().splitlines() if line.startswith("videoclr_frames_written_total")]

    with PrometheusFile(path, clock) as figures:
        figures.progress(at(1, source="a"))
        figures.progress(at(2, source="b"))
        clock.now = 6.0
        figures.progress(at(3, source="a"))
        assert written() == ['videoclr_frames_written_total{source="a"} 3', 'videoclr_frames_written_total{source="b"} 2']
        figures.ended(object(), "a")
        clock.now = 12.0
        figures.progress(at(4, source="c"))
        assert written() == ['videoclr_frames_written_total{source="b"} 2', 'videoclr_frames_written_total{source="c"} 4']
        figures.ended(object(), "b")
        figures.ended(object(), "c")
    assert len(written()) == 2
    assert path.read_text().count("# TYPE videoclr_frames_written_total counter") == 1


def test_a_failed_job_is_told_by_its_figures(tmp_path):
    with pytest.raises(ValueError), PrometheusFile(tmp_path / "a.prom"):
        raise ValueError
    assert "videoclr_finished -1\n" in (tmp_path / "a.prom").read_text()


def test_a_job_that_somebody_stops_has_not_failed_by_its_figures(tmp_path):
    with pytest.raises(KeyboardInterrupt), PrometheusFile(tmp_path / "a.prom") as figures:
        figures.ended(MediaError("a.mp4", "is empty"), "a.mp4")
        raise KeyboardInterrupt
    assert "videoclr_finished 2\n" in (tmp_path / "a.prom").read_text()


def test_a_batch_with_a_bad_file_is_told_by_its_figures(tmp_path):
    with PrometheusFile(tmp_path / "a.prom") as figures:
        figures.ended(MediaError("a.mp4", "is empty"), "a.mp4")
        figures.ended(object(), "b.mp4")
    assert "videoclr_finished -1\n" in (tmp_path / "a.prom").read_text()


def test_names_that_are_no_utf8_are_told_all_the_same(tmp_path):
    name = os.fsdecode(b"f\xe4m.mp4")
    with JsonLog(tmp_path / "log") as told, PrometheusFile(tmp_path / "a.prom") as figures:
        told.failed(name, "is empty")
        figures.progress(at(1, source=name))
    assert json.loads((tmp_path / "log").read_text())["error"] == "is empty"
    assert "frames_written_total" in (tmp_path / "a.prom").read_text()


def test_figures_whose_folder_has_gone_do_not_stop_the_job_and_are_told_once(tmp_path, caplog):
    folder, clock = tmp_path / "there", Clock()
    folder.mkdir()
    with PrometheusFile(folder / "a.prom", clock) as figures:
        (folder / "a.prom").unlink()
        folder.rmdir()
        for second in (10.0, 20.0):
            clock.now = second
            figures.progress(at(1))
    assert sum("can no longer be written" in record.getMessage() for record in caplog.records) == 1


def test_figures_that_cannot_tell_the_end_are_told(tmp_path, caplog):
    folder = tmp_path / "there"
    folder.mkdir()
    with PrometheusFile(folder / "a.prom"):
        (folder / "a.prom").unlink()
        folder.rmdir()
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder / 'a.prom'}: the figures can no longer be written (No such file or directory)"
    ]


@pytest.mark.parametrize(("error", "end"), [(None, "1"), (MediaError("a.mp4", "no room"), "-1"), (KeyboardInterrupt(), "2")])
def test_figures_tell_the_end_where_there_is_no_room_for_a_new_file_of_them(tmp_path, error, end):
    place, clock = tmp_path / "a.prom", Clock()
    with suppress(MediaError, KeyboardInterrupt), PrometheusFile(place, clock) as figures:
        clock.now = 10.0
        figures.progress(at(1))
        before = place.read_text()
        place.with_name("a.prom.part").mkdir()
        if error is not None:
            raise error
    assert place.read_text() == before.replace("videoclr_finished 0\n", f"videoclr_finished {end}\n") != before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is full")
def test_a_log_on_a_full_disk_does_not_stop_the_job_and_is_told_once(caplog):
    library = logging.getLogger("videoclr")
    with JsonLog("/dev/full") as told:
        library.addHandler(told)
        try:
            for _ in range(3):
                told.event("progress")
        finally:
            library.removeHandler(told)
    assert [record.getMessage() for record in caplog.records] == [
        "/dev/full: the log can no longer be written (No space left on device)"
    ]


def test_a_name_that_is_no_utf8_has_no_escape_that_prometheus_does_not_know():
    assert r'{source="\\udcff.mp4"} 3' in exposition([at(3, source=os.fsdecode(b"\xff.mp4"))], RUNNING)


def test_names_cannot_break_out_of_their_label():
    text = exposition([at(1, source='a"} 1\nvideoclr_frames_written_total{source="b\\')], RUNNING)
    written = [line for line in text.splitlines() if line.startswith("videoclr_frames_written_total")]
    assert written == [r'videoclr_frames_written_total{source="a\"} 1\nvideoclr_frames_written_total{source=\"b\\"} 1']


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        ({}, None),
        ({"waiting for frames": 9.0}, None),
        ({"decode": 3.0, "cuts": 1.0, "restore": 2.0, "detect": 1.5, "encode": 1.0}, "decode"),
        ({"decode": 1.0, "restore": 2.0, "detect": 1.5, "encode": 3.0, "waiting for frames": 9.0}, "restore"),
        ({"decode": 1.0, "restore": 2.0, "encode": 3.0}, "encode"),
    ],
)
def test_the_slow_stage_is_the_longest_of_the_busiest_thread(spent, expected):
    assert slowest(spent) == expected


def test_large_figures_keep_all_their_digits():
    text = exposition([at(12_345_678, seconds=1234567.125, seconds_per_stage={"decode": 3.0})], RUNNING)
    values = {line.split("{")[0]: line.split()[-1] for line in text.splitlines() if not line.startswith("#")}
    assert values["videoclr_frames_written_total"] == "12345678" and values["videoclr_seconds_total"] == "1234567.125"
    assert values["videoclr_stage_seconds_total"] == "3" and values["videoclr_frames_expected"] == "100"
