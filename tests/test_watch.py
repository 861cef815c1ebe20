from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from videoclr import cli, watch
from videoclr.config import Config
from videoclr.errors import BusyError, ConfigError, DeviceLostError, MediaError, ResumeError
from videoclr.media.lock import Lock
from videoclr.watch import Arrivals


class Clock:
    """Time that passes when somebody waits; at each second something may happen."""

    def __init__(self, **happenings) -> None:
        self.now = 0.0
        self.happenings = {float(name[1:]): what for name, what in happenings.items()}

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for when in sorted(self.happenings):
            if when <= self.now:
                self.happenings.pop(when)()


class Stop(Exception):
    """Somebody stops the watch."""


def stop():
    raise Stop


@pytest.fixture
def restored(monkeypatch):
    """What was asked for, in order; a file whose text is `bad` fails, one whose text is `busy` another run works on."""
    tasks = []

    def restore(task, manner, pipeline, progress):
        assert pipeline == "loaded" and manner.resume
        tasks.append(task)
        text = Path(task.source).read_text()
        if text == "bad":
            return MediaError(task.source, "is no video")
        if text == "other":
            return ResumeError(task.target, "was made by another run: the source is another file; set it back, or --overwrite")
        if text == "kept":
            return ResumeError(f"{task.target}.resume", "belongs to another run; remove this folder")
        if text == "lost":
            return DeviceLostError("the device failed; start again")
        if text == "busy":
            Path(task.source).write_text("fine now")
            return BusyError(task.target, "another run is writing it")
        task.target.write_text(text)
        return a_report(source=str(task.source), target=str(task.target))

    monkeypatch.setattr(watch, "restore_task", restore)
    monkeypatch.setattr(watch, "Pipeline", lambda config: "loaded")
    return tasks


def a_report(**values):
    from videoclr.report import Report

    plain = {
        "source": "",
        "target": "",
        "frames_in": 1,
        "frames_out": 1,
        "faces_restored": 1,
        "tracks": [],
        "shots": 1,
        "seconds": 1.0,
    }
    return Report(**{**plain, "seconds_per_stage": {}, "warnings": [], "version": "0", "settings": {}, **values})


@pytest.fixture
def inbox(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def run(inbox: Path, clock: Clock, **more):
    ends = []
    told = {"ended": lambda source, end: ends.append((source, end)), "wait": clock.wait, "clock": clock}
    with suppress(Stop):
        watch.watch(inbox, inbox.parent / "out", **told, **more)
    return ends


def test_a_file_is_taken_when_it_has_stood_still(inbox, restored):
    film = inbox / "a.mp4"
    film.write_text("a")
    grown = Clock(
        t6=lambda: film.write_text("ab"), t12=lambda: film.write_text("abc"), t21=lambda: seen.append(list(restored)), t30=stop
    )
    seen: list[list] = []
    ends = run(inbox, grown, settle=10)
    assert seen == [[]] and [task.target for task in restored] == [inbox.parent / "out" / "a.mp4"]
    assert (inbox.parent / "out" / "a.mp4").read_text() == "abc" and len(ends) == 1


def test_what_arrives_later_is_restored_too_and_nothing_twice(inbox, restored):
    (inbox / "a.mp4").write_text("a")
    clock = Clock(t20=lambda: (inbox / "b.mov").write_text("b"), t60=stop)
    ends = run(inbox, clock, settle=4)
    assert [Path(source).name for source, _ in ends] == ["a.mp4", "b.mov"] == [Path(task.source).name for task in restored]


def test_a_file_that_fails_is_told_once_and_tried_again_when_it_changes(inbox, restored):
    film = inbox / "a.mp4"
    film.write_text("bad")
    ends = run(inbox, Clock(t30=lambda: film.write_text("good"), t60=stop), settle=4)
    assert [type(end).__name__ for _, end in ends] == ["MediaError", "Report"] and len(restored) == 2


def test_a_file_that_failed_is_tried_again_when_it_is_copied_anew_with_its_time_or_may_be_read_at_last(inbox, restored):
    film = inbox / "a.mp4"

    def change(mode):
        """The clock of the file system may be slow."""
        before = film.stat().st_ctime_ns
        while film.stat().st_ctime_ns == before:
            film.chmod(mode)

    def replace():
        times = film.stat().st_atime_ns, film.stat().st_mtime_ns
        film.write_text("yes")
        os.utime(film, ns=times)
        change(0o600)

    film.write_text("bad")
    ends = run(inbox, Clock(t20=lambda: change(0o640), t40=replace, t60=lambda: change(0o644), t80=stop), settle=4)
    assert [type(end).__name__ for _, end in ends] == ["MediaError", "MediaError", "Report"]


def test_a_file_that_another_watch_works_on_is_left_to_it_for_a_while(inbox, restored):
    (inbox / "a.mp4").write_text("busy")
    ends = run(inbox, Clock(), settle=4, once=True)
    assert [type(end).__name__ for _, end in ends] == ["Report"] and len(restored) == 2


def test_once_ends_when_all_that_is_there_is_done(inbox, restored):
    for name, text in (("b.mkv", "b"), ("a.mp4", "bad"), ("c.png", "c")):
        (inbox / name).write_text(text)
    ends = run(inbox, Clock(), settle=4, once=True, ending=".mov")
    assert sorted(Path(source).name for source, _ in ends) == ["a.mp4", "b.mkv", "c.png"]
    assert sorted(task.target.name for task in restored) == ["a.mov", "b.mov", "c.png"], "a picture stays one"


def test_films_that_are_only_read_are_taken_where_results_end_otherwise(inbox, restored, caplog):
    names = ["a.mpg", "b.VOB", "c.wmv", "d.gif", "d.jfif", "d.qt", "e.avif", "f.heic", "g.mp4"]
    for name in [*names, "notes.txt"]:
        (inbox / name).write_text(name)
    ends = run(inbox, Clock(), settle=2, once=True)
    assert [Path(source).name for source, _ in ends] == ["g.mp4"]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [Path(text.partition(": ")[0]).name for text in told] == names[:-1], "each once, and no other file"
    assert all("--ending .mp4" in text for text in told)
    restored.clear()
    ends = run(inbox, Clock(), settle=2, once=True, ending=".mp4")
    assert sorted(Path(source).name for source, _ in ends) == names
    assert {task.target.suffix for task in restored} == {".mp4"}
    contained = Config.of({"media": {"container": "mkv"}})
    assert sorted(Path(source).name for source, _ in run(inbox, Clock(), settle=2, once=True, config=contained)) == names


def test_an_empty_folder_is_done_at_once(inbox, restored):
    assert run(inbox, Clock(), once=True) == [] and not restored


def test_inputs_are_put_away_and_replace_nothing(inbox, restored):
    done = inbox.parent / "done"
    done.mkdir()
    (done / "b.mp4").write_text("older")
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (inbox / name).write_text("bad" if name == "c.mp4" else name)
    ends = run(inbox, Clock(), settle=0, once=True, move_to=done)
    assert sorted(one.name for one in inbox.iterdir()) == ["b.mp4", "c.mp4"]
    assert (done / "a.mp4").read_text() == "a.mp4" and (done / "b.mp4").read_text() == "older"
    told = {Path(source).name: end for source, end in ends}
    assert "stays where it is" in str(told["b.mp4"]) and "is no video" in str(told["c.mp4"])


def test_a_link_that_leads_nowhere_for_now_is_not_replaced_by_an_input_that_is_put_away(inbox, restored):
    (inbox / "a.mp4").write_text("a")
    done = inbox.parent / "done"
    done.mkdir()
    (done / "a.mp4").symlink_to(inbox.parent / "another drive" / "a.mp4")
    ((_, end),) = run(inbox, Clock(), settle=2, once=True, move_to=done)
    assert "stays where it is" in str(end) and (inbox / "a.mp4").is_file() and (done / "a.mp4").is_symlink()


def test_an_input_is_put_away_whole_or_not_at_all(inbox, restored, monkeypatch):
    done, film = inbox.parent / "done", inbox / "a.mp4"
    film.write_text("a whole film")

    def elsewhere(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def full(source, part):
        Path(part).write_text("a whole")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", elsewhere)
    with monkeypatch.context() as patch:
        patch.setattr(watch.shutil, "copy2", full)
        ((_, end),) = run(inbox, Clock(), settle=0, once=True, move_to=done)
        assert "cannot be moved" in str(end) and "No space" in str(end) and film.exists() and list(done.iterdir()) == []
    with monkeypatch.context() as patch:
        unlink = Path.unlink
        patch.setattr(Path, "unlink", lambda path, **named: elsewhere() if path == film else unlink(path, **named))
        ((_, end),) = run(inbox, Clock(), settle=0, once=True, move_to=done)
        assert "cannot be moved" in str(end) and film.exists() and list(done.iterdir()) == []
    ((_, end),) = run(inbox, Clock(), settle=0, once=True, move_to=done)
    assert type(end).__name__ == "Report" and [path.name for path in done.iterdir()] == ["a.mp4"] and not film.exists()
    assert (done / "a.mp4").read_text() == "a whole film"


def test_what_another_watch_has_put_away_is_no_error(inbox, restored, monkeypatch):
    away, restore = inbox.parent / "away", watch.restore_task
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"):
        (inbox / name).write_text(name)

    def raced(task, manner, pipeline, progress):
        source = Path(task.source)
        if source.name == "a.mp4":  # gone before it could be opened
            source.rename(away / source.name)
            return MediaError(source, "cannot be read: no such file or directory")
        report = restore(task, manner, pipeline, progress)
        if source.name == "b.mp4":  # gone when its own turn to be put away came
            source.rename(away / source.name)
        if source.name == "d.mp4":  # somebody deleted it
            source.unlink()
        return report

    monkeypatch.setattr(watch, "restore_task", raced)
    ends = run(inbox, Clock(), settle=0, once=True, move_to=away)
    kinds = [(Path(source).name, type(end).__name__) for source, end in ends]
    assert kinds == [("b.mp4", "Report"), ("c.mp4", "Report"), ("d.mp4", "MediaError")]
    assert str(ends[-1][1]).endswith(f"d.mp4: is restored, and was gone before it could be moved to {away}")
    assert sorted(path.name for path in away.iterdir()) == ["a.mp4", "b.mp4", "c.mp4"] and not list(inbox.iterdir())


def test_two_watches_that_copy_one_film_away_lose_nothing(inbox, restored, monkeypatch):
    film, away, copy = inbox / "a.mp4", inbox.parent / "away", watch.shutil.copy2
    film.write_text("a")

    def elsewhere(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def raced(source, part):
        copy(source, part)
        film.unlink()  # by the other one, whose copy is whole

    monkeypatch.setattr(Path, "rename", elsewhere)
    monkeypatch.setattr(watch.shutil, "copy2", raced)
    ends = run(inbox, Clock(), settle=0, once=True, move_to=away)
    assert [type(end).__name__ for _, end in ends] == ["Report"]
    assert [path.name for path in away.iterdir()] == ["a.mp4"] and (away / "a.mp4").read_text() == "a"


def test_a_link_that_is_put_away_leads_to_its_film_from_there(inbox, restored):
    film = inbox.parent / "film.mp4"
    film.write_text("a film")
    (inbox / "a.mp4").symlink_to("../film.mp4")
    run(inbox, Clock(), settle=0, once=True, move_to=inbox.parent / "far" / "done")
    assert (inbox.parent / "far" / "done" / "a.mp4").read_text() == "a film" and film.exists()
    assert list(inbox.iterdir()) == []


def test_a_link_that_leads_nowhere_is_told_once_and_taken_when_its_film_is_there(inbox, caplog):
    film = inbox.parent / "film.mp4"
    (inbox / "a.mp4").symlink_to(film)
    arrivals = watch.Arrivals(inbox, 0, Clock())
    arrivals.look()
    arrivals.look()
    assert arrivals.next() is None
    (told,) = [one.getMessage() for one in caplog.records]
    assert told == f"{inbox / 'a.mp4'}: leads to {film}, which is not there; it is taken once it is"
    film.write_text("a film")
    arrivals.look()
    assert arrivals.next() == inbox / "a.mp4"


@pytest.mark.parametrize("put_away", [True, False])
def test_an_input_that_goes_on_arriving_while_it_is_restored_is_restored_again(inbox, restored, monkeypatch, put_away):
    film, done, out = inbox / "a.ts", inbox.parent / "done", inbox.parent / "out" / "a.ts"
    film.write_text("first half")
    restore = watch.restore_task

    def growing(*asked):
        report = restore(*asked)
        if len(restored) == 1:
            film.write_text("first half and second half")
        return report

    monkeypatch.setattr(watch, "restore_task", growing)
    clock = Clock(t5=lambda: seen.append((out.exists(), film.exists())), t20=stop)
    seen: list[tuple[bool, bool]] = []
    ends = run(inbox, clock, settle=4, move_to=done if put_away else None)
    assert seen == [(False, True)]
    assert [type(end).__name__ for _, end in ends] == ["MediaError", "Report"]
    assert str(ends[0][1]).startswith(f"{film}: changed while it was restored; {out} is removed")
    assert out.read_text() == "first half and second half"
    assert [path.name for path in done.glob("*")] == (["a.ts"] if put_away else [])


def test_a_result_of_an_earlier_run_is_not_removed_where_its_input_changes(inbox, restored, monkeypatch):
    film, out = inbox / "a.ts", inbox.parent / "out" / "a.ts"
    film.write_text("film")
    out.parent.mkdir()
    out.write_text("restored")

    def known(task, *_):
        film.write_text("another film")
        return a_report(source=str(task.source), target=str(task.target))

    monkeypatch.setattr(watch, "restore_task", known)
    ends = run(inbox, Clock(t6=stop), settle=4)
    assert "is what was made of it before" in str(ends[0][1]) and out.read_text() == "restored"


def test_a_file_that_goes_away_while_it_is_looked_at_is_none(inbox, monkeypatch):
    (inbox / "a.mp4").write_text("a")
    (inbox / "b.mp4").write_text("b")
    is_file = Path.is_file

    def gone(path):
        there = is_file(path)
        if path.name == "a.mp4":
            path.unlink(missing_ok=True)
        return there

    monkeypatch.setattr(Path, "is_file", gone)
    arrivals = Arrivals(inbox, 0, lambda: 0.0)
    arrivals.look()
    assert arrivals.next() == inbox / "b.mp4"


def test_what_is_no_film_is_left_alone(inbox, restored):
    for name in (".hidden.mp4", "notes.txt", "a.mp4.part", "raw.yuv"):
        (inbox / name).write_text("x")
    (inbox / "folder.mp4").mkdir()
    run(inbox, Clock(t60=stop), settle=4)
    assert not restored


@pytest.mark.parametrize("names", [("a\0b", "out"), ("in", "a\0b")])
def test_a_folder_of_a_name_that_no_file_can_have_is_told(names):
    with pytest.raises(MediaError, match="there is a NUL in this name"):
        watch.watch(*names)


def test_a_folder_that_goes_away_is_one_line(inbox, restored):
    with pytest.raises(MediaError, match="cannot be watched any more"):
        run(inbox, Clock(t10=inbox.rmdir), settle=4)
    with pytest.raises(MediaError, match="is no folder to watch"):
        Arrivals(inbox, 1, Clock())


@pytest.mark.parametrize("moved", [False, True])
def test_what_failed_while_a_folder_of_results_was_gone_is_done_when_it_is_there_again(inbox, restored, monkeypatch, caplog, moved):
    out, done = inbox.parent / "out", inbox.parent / "done"
    lost, restore = (done if moved else out), watch.restore_task
    (inbox / "a.mp4").write_text("a")
    done.mkdir()

    def pulled(task, *rest):
        """The drive goes in the middle of the first film."""
        if restored:
            return restore(task, *rest)
        if moved:
            report = restore(task, *rest)
            lost.rmdir()
            return report
        restored.append(task)
        lost.rmdir()
        return MediaError(task.target, "cannot be written: no such file or directory")

    def arrive():
        (inbox / "b.mp4").write_text("b")

    monkeypatch.setattr(watch, "restore_task", pulled)
    ends = run(inbox, Clock(t20=arrive, t60=lost.mkdir, t99=stop), settle=4, move_to=done)
    assert [(Path(source).name, type(end).__name__) for source, end in ends] == [
        ("a.mp4", "MediaError"),
        ("a.mp4", "Report"),
        ("b.mp4", "Report"),
    ]
    assert [(path.name, path.read_text()) for path in sorted(out.iterdir())] == [("a.mp4", "a"), ("b.mp4", "b")]
    said = f"{lost}: has gone; nothing is restored until it is there again"
    assert [text for text in caplog.messages if "has gone" in text] == [said]
    assert len(list(done.iterdir())) == 2


def test_what_failed_in_a_folder_of_results_that_went_and_came_back_meanwhile_is_done_again(inbox, restored, monkeypatch):
    (inbox / "a.mp4").write_text("a")
    restore = watch.restore_task

    def pulled(task, *rest):
        if restored:
            return restore(task, *rest)
        restored.append(task)
        task.target.parent.rmdir()
        task.target.parent.mkdir()
        return MediaError(task.target, "cannot be written: no such file or directory")

    monkeypatch.setattr(watch, "restore_task", pulled)
    ends = run(inbox, Clock(t60=stop), settle=4)
    assert [type(end).__name__ for _, end in ends] == ["MediaError", "Report"]


def test_nobody_waits_for_a_folder_of_results_that_has_gone_where_the_watch_is_to_end(inbox, restored, monkeypatch):
    (inbox / "a.mp4").write_text("a")

    def pulled(task, *_):
        task.target.parent.rmdir()
        return MediaError(task.target, "cannot be written: no such file or directory")

    monkeypatch.setattr(watch, "restore_task", pulled)
    with pytest.raises(MediaError, match="out: has gone; make it, or connect its drive"):
        run(inbox, Clock(), settle=0, once=True)


def test_folders_that_would_feed_themselves_are_refused(inbox, restored):
    for more in (
        {"to": inbox},
        {"to": inbox.parent / "out", "move_to": inbox},
        {"to": inbox.parent / "o", "move_to": inbox.parent / "o"},
    ):
        with pytest.raises(ConfigError, match="different folders"):
            watch.watch(inbox, config=Config(), once=True, **more)
    for settle in (-1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--settle"):
            watch.watch(inbox, inbox.parent / "out", settle=settle)


def test_the_command_ends_as_its_files_did(inbox, restored, capsys):
    (inbox / "a.mp4").write_text("a")
    out = ["--to", str(inbox.parent / "out"), "--once", "--settle", "0"]
    assert cli.main(["watch", str(inbox), *out]) == 0
    assert cli.main(["watch", str(inbox), *out, "--fail-on", "faces<9"]) == 3
    (inbox / "b.mp4").write_text("bad")
    assert cli.main(["watch", str(inbox), *out]) == 1
    assert "b.mp4: is no video" in capsys.readouterr().err
    assert cli.main(["watch", str(inbox), *out, "--overwrite"]) == 2


def test_a_watch_ends_in_one_line_where_the_device_is_lost_and_leaves_the_rest(inbox, restored, capsys):
    for name, text in (("a.mp4", "a"), ("b.mp4", "lost"), ("c.mp4", "c")):
        (inbox / name).write_text(text)
    out, done = inbox.parent / "out", inbox.parent / "done"
    assert cli.main(["watch", str(inbox), "--to", str(out), "--move-to", str(done), "--settle", "0", "--quiet"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [f"videoclr: error: {inbox}/b.mp4: the device failed; start again; this file and those after it are not done"]
    assert sorted(one.name for one in inbox.iterdir()) == ["b.mp4", "c.mp4"] and [one.name for one in out.iterdir()] == ["a.mp4"]


def test_a_target_that_is_locked_is_busy(tmp_path):
    lock = Lock(tmp_path / "a.part", "a.mp4")
    with pytest.raises(BusyError):
        Lock(tmp_path / "a.part", "a.mp4")
    lock.release()


def test_a_result_of_another_film_is_told_with_what_helps_here(restored, tmp_path):
    ended = []
    (tmp_path / "in").mkdir()
    for name, text in (("a.mp4", "other"), ("b.mp4", "kept")):
        (tmp_path / "in" / name).write_text(text)
    clock = Clock()
    watch.watch(
        tmp_path / "in", tmp_path / "out", once=True, settle=1, wait=clock.wait, clock=clock, ended=lambda *one: ended.append(one)
    )
    (first, why), (second, other) = ended
    assert first.endswith("a.mp4") and second.endswith("b.mp4")
    assert str(why).endswith("a.mp4 was made by another run: the source is another file; rename this one, or move the result away")
    assert "--overwrite" not in str(why) and "remove this folder" in str(other)
