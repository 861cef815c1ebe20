from __future__ import annotations

import json
import logging
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

import av
import numpy as np
import pytest

from videoclr import cli, cluster, scheduling
from videoclr.cluster import Cluster, Machine, Worker, clear, laid_down, shared
from videoclr.config import Config
from videoclr.errors import ClusterError, ConfigError, DeviceError, MediaError, VideoclrError, WeightsError
from videoclr.jobs import Manner, Progress, Task, restore_batch
from videoclr.media.lock import Lock
from videoclr.report import Report
from videoclr.scheduling import Ended, Lost, Placed, Ready, Refused, Scheduler
from videoclr.shelf import Listed

HERE = Path(__file__).parent
VERSION = cluster.__version__


def a_report(source: str = "a.mp4", **changed) -> Report:
    counts = {"frames_in": 5, "frames_out": 5, "faces_restored": 5, "shots": 1, "seconds": 1.0}
    values = {"source": source, "target": f"x/{source}", "tracks": [], "seconds_per_stage": {}, "warnings": [], "settings": {}}
    return Report(**{**counts, **values, "version": VERSION, **changed})


# -- what is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["local", "auto", "head:6379", "10.0.0.1:6379", "[fe80::1]:6379", "ray://head:10001"])
def test_addresses_are_those_of_ray(address):
    assert Cluster(address).address == address


@pytest.mark.parametrize("address", ["", "head", "head:", "head:0", "head:65536", "http://head:80", "a b:1", "ray://", "x/y:1"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="expected local, auto, HOST:PORT or ray://HOST:PORT"):
        Cluster(address)


def test_the_number_of_a_gpu_is_not_the_users_to_say():
    with pytest.raises(ConfigError, match="Ray deals out the GPUs"):
        next(Cluster()([Task("a.mp4", Path("b.mp4"), Config().override("runtime.device=cuda:1"))], Manner(), None))


@pytest.mark.parametrize(
    ("machines", "workers", "settings", "expected"),
    [
        ([(8, 0)], None, [], (1, 8, 0)),
        ([(8, 0)], 2, [], (2, 4, 0)),
        ([(8, 0)], 3, [], (3, 2, 0)),
        ([(8, 0), (8, 0)], 3, [], (3, 4, 0)),  # 5 cores each would leave no room for the third
        ([(8, 0), (2, 0)], 1, [], (1, 8, 0)),
        ([(32, 4)], None, [], (4, 8, 1)),
        ([(32, 4), (64, 2)], None, [], (6, 8, 1)),
        ([(32, 4)], 2, [], (2, 16, 1)),
        ([(32, 4)], None, ["runtime.device=cpu"], (1, 32, 0)),
        ([(32, 4)], None, ["runtime.threads=3"], (4, 3, 1)),
        ([(2, 0)], 2, ["runtime.threads=1"], (2, 1, 0)),
    ],
)
def test_workers_do_not_take_the_cores_from_each_other(machines, workers, settings, expected):
    assert shared([Machine(*one) for one in machines], workers, Config().override(*settings), True) == expected


@pytest.mark.parametrize(
    ("machines", "workers", "settings", "says"),
    [
        ([(2, 0)], 3, [], "3 are wanted, and this machine has room for 2 with 1 CPU core"),
        ([(8, 1)], 2, [], "room for 1 with 1 CPU core(s) and a GPU each"),
        ([(4, 0)], 2, ["runtime.threads=3"], "room for 1 with 3 CPU core"),
        ([(4, 0)], None, ["runtime.device=cuda"], "Ray sees no GPU"),
    ],
)
def test_what_one_machine_has_no_room_for_is_refused(machines, workers, settings, says, caplog):
    there, config = [Machine(*one) for one in machines], Config().override(*settings)
    with pytest.raises(ConfigError) as raised:
        shared(there, workers, config, True)
    assert says in str(raised.value)
    if workers is not None:  # a cluster may grow
        assert shared(there, workers, config, False).workers == workers
        assert "the others begin when it grows" in caplog.text


def test_dead_machines_have_nothing():
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 9.0}}, {"Alive": True}]
    assert cluster.machines(nodes) == [Machine(4, 2), Machine(0, 0)]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--workers", "2"], "--workers: says how many of a cluster; name one with --cluster"),
        (["--cluster", "local", "--workers", "0"], "--workers: expected at least 1, got 0"),
        (["--cluster", "head"], "--cluster: expected local"),
        (["--cluster", "local", "--device", "cuda:0"], "Ray deals out the GPUs"),
        (["--cluster", "local"], "--cluster: Ray is not installed here: pip install 'videoclr[cluster]'"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_two(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["batch", "a.mp4", "--to", str(tmp_path), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("videoclr: error: ") and says in err and err.count("\n") == 1


def test_without_tasks_nothing_is_started(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(Cluster()([], Manner(), None)) == []


# -- who does what -----------------------------------------------------------------------------------------------------


class Script:
    """Workers that do what a plan says.

    Args:
        starts: of each worker, in the order of their start: `ready`, an error that refuses it, `lost` before it is ready, or
            `pending`.
        works: of each assignment, in order: a report, an error, or `lost`.
    """

    def __init__(self, starts: Sequence[object], works: Sequence[object] = ()) -> None:
        self.starts, self.works = deque(starts), deque(works)
        self.events: deque[object] = deque()
        self.assigned: list[tuple[int, int]] = []
        self.ended: list[int] = []
        self.started = 0
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def start(self) -> int:
        self.started += 1
        worker, plan = self.started, self.starts.popleft() if self.starts else "ready"
        if plan == "pending":
            return worker
        self.events.append(Placed(worker))
        if plan == "lost":
            self.events.append(Lost(worker, "host: killed"))
        elif isinstance(plan, VideoclrError):
            self.events.append(Refused(worker, plan))
        else:
            self.events.append(Ready(worker))
        return worker

    def assign(self, worker: int, number: int) -> None:
        self.assigned.append((worker, number))
        plan = self.works.popleft() if self.works else a_report(f"{number}")
        self.events.append(Lost(worker, "host: killed") if plan == "lost" else Ended(worker, plan))

    def end(self, worker: int) -> None:
        self.ended.append(worker)

    def next(self):
        self.now += 1.0
        return self.events.popleft() if self.events else None


def tasks(count: int) -> list[Task]:
    return [Task(f"{number}.mp4", Path(f"x/{number}.mp4"), Config()) for number in range(count)]


def run(script: Script, count: int, workers: int) -> dict[int, object]:
    return dict(Scheduler(tasks(count), script, script.clock).run(workers))


def test_every_task_is_done_once_by_whoever_is_free():
    script = Script([])
    results = run(script, 5, 2)
    assert sorted(results) == [0, 1, 2, 3, 4] and all(isinstance(one, Report) for one in results.values())
    assert sorted(number for _, number in script.assigned) == [0, 1, 2, 3, 4]
    assert {worker for worker, _ in script.assigned} == {1, 2} and script.started == 2


def test_no_more_workers_are_started_than_there_are_tasks():
    script = Script([])
    assert len(run(script, 2, 8)) == 2 and script.started == 2


def test_a_tasks_own_error_is_its_result_and_the_others_go_on():
    error = MediaError("0.mp4", "no video stream")
    results = run(Script([], [error]), 3, 1)
    assert results[0] is error and isinstance(results[1], Report) and isinstance(results[2], Report)


def test_a_task_whose_worker_is_lost_is_done_again_by_another(caplog):
    script = Script([], ["lost"])
    results = run(script, 3, 1)
    assert all(isinstance(one, Report) for one in results.values()) and len(results) == 3
    assert script.assigned[:2] == [(1, 0), (2, 0)] and script.started == 2
    assert "0.mp4: its worker is lost (host: killed); it is done again by another" in caplog.text


def test_a_task_that_costs_two_workers_is_an_error_and_the_others_go_on():
    script = Script([], ["lost", "lost"])
    results = run(script, 3, 1)
    assert isinstance(results[0], ClusterError) and str(results[0]).startswith("0.mp4: its worker was lost 2 times (host: killed)")
    assert isinstance(results[1], Report) and isinstance(results[2], Report)
    assert [number for _, number in script.assigned].count(0) == 2


def test_nobody_is_started_for_nothing():
    script = Script([], ["lost", "lost"])
    assert isinstance(run(script, 1, 1)[0], ClusterError) and script.started == 2


def test_a_worker_that_is_lost_before_it_is_ready_is_replaced_once():
    script = Script(["lost", "ready"])
    assert isinstance(run(script, 1, 1)[0], Report) and script.started == 2
    script = Script(["lost", "lost"])
    with pytest.raises(ClusterError, match=r"lost before they are ready \(host: killed\)"):
        run(script, 2, 1)
    assert script.started == 2


def test_where_all_are_refused_it_is_the_batchs_error_and_said_once(caplog):
    with pytest.raises(WeightsError, match="no such file"):
        run(Script([WeightsError("a", "no such file"), WeightsError("a", "no such file")]), 3, 2)
    assert not caplog.text, "whoever asked is told by the error itself"
    with pytest.raises(WeightsError, match="no such file"):
        run(Script([ClusterError("host: has videoclr 9.9.9"), WeightsError("a", "no such file")]), 3, 2)
    assert caplog.messages == ["a worker cannot be used: host: has videoclr 9.9.9"]


def test_a_machine_that_cannot_be_used_is_told_and_left_alone(caplog):
    script = Script([ClusterError("host: has videoclr 9.9.9"), "ready"])
    assert len(run(script, 3, 2)) == 3 and {worker for worker, _ in script.assigned} == {2}
    assert "a worker cannot be used: host: has videoclr 9.9.9" in caplog.text


def test_where_all_are_lost_and_none_comes_the_rest_are_errors():
    script = Script(["ready", "lost", "lost"], ["lost"])
    results = run(script, 2, 1)
    assert all(isinstance(one, ClusterError) for one in results.values()) and len(results) == 2
    assert str(results[1]).startswith("1.mp4: all workers are lost, and none can be started: ")


def test_a_cluster_without_room_is_waited_for_and_then_an_error():
    script = Script(["pending", "pending"])
    with pytest.raises(ClusterError, match="no place for a worker within 5 minutes"):
        run(script, 2, 2)
    assert script.now >= scheduling.PLACE_SECONDS
    script = Script(["ready", "pending"], ["lost"])
    results = run(script, 2, 1)
    assert len(results) == 2 and "no place for a worker" in str(results[1])


def test_workers_without_a_place_do_not_hold_up_the_others():
    script = Script(["ready", "pending"])
    assert len(run(script, 5, 2)) == 5 and script.now < scheduling.PLACE_SECONDS


def test_a_process_whose_device_failed_gets_no_other_task():
    script = Script([], [DeviceError("the device failed")])
    results = run(script, 2, 1)
    assert isinstance(results[0], DeviceError) and isinstance(results[1], Report)
    assert script.ended == [1] and script.assigned == [(1, 0), (2, 1)]


# -- a worker, in this process -----------------------------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch) -> Iterator[logging.Logger]:
    """The library's logger, folder and environment as they were, afterwards."""
    log = logging.getLogger("videoclr")
    before = log.level, log.propagate, list(log.handlers)
    monkeypatch.chdir(Path.cwd())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    yield log
    log.level, log.propagate, log.handlers[:] = before


def film(path: Path, frames: int) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        noise = np.random.default_rng(frames)
        for _ in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(noise.integers(0, 255, (48, 64, 3), np.uint8), "rgb24")))
        out.mux(stream.encode(None))
    return path


def config_of(folder: Path) -> Config:
    detect = {"use": "cluster_parts:Waiting", "options": {"folder": str(folder)}}
    given = {"detect": detect, "restore": {"use": "unchanged"}, "runtime": {"device": "cpu", "threads": 1}}
    return Config.of({**given, "media": {"segment": 0.2}})


def test_another_version_and_a_folder_that_is_not_there_are_refused(library, tmp_path):
    machine, error = Worker().join("9.9.9", str(tmp_path), True, 0, 30)
    assert isinstance(error, ClusterError) and f"{machine}: has videoclr {VERSION}, and 9.9.9 is asked for" in str(error)
    missing = str(tmp_path / "missing")
    _, error = Worker().join(VERSION, missing, True, 0, 30)
    assert isinstance(error, ClusterError) and "all machines need it under this name" in str(error)
    assert Worker().join(VERSION, missing, False, 0, 30)[1] is None  # all names are absolute: nobody needs it


def test_a_worker_comes_to_the_folder_and_sees_no_gpu_that_is_not_its_own(library, tmp_path):
    assert Worker().join(VERSION, str(tmp_path), True, 0, 30)[1] is None
    assert Path.cwd() == tmp_path and os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_what_stops_the_loading_is_an_answer(library):
    error = Worker().load(Config().override("restore.use=nothing"))
    assert isinstance(error, ConfigError) and "nothing" in str(error)


@pytest.fixture
def worker(library, tmp_path, monkeypatch) -> Worker:
    """At work in `tmp_path`, where `in.mp4` has 30 frames."""
    monkeypatch.syspath_prepend(str(HERE))
    (tmp_path / "free").touch()
    film(tmp_path / "in.mp4", 30)
    made = Worker()
    assert made.join(VERSION, str(tmp_path), True, 0, logging.INFO)[1] is None
    assert made.load(config_of(tmp_path)) is None
    return made


def test_news_are_the_last_frame_and_the_log_and_come_once(worker, tmp_path):
    logging.getLogger("videoclr.media").warning("odd %s", "colours")
    done = worker.work(Task("in.mp4", Path("out.mp4"), config_of(tmp_path)), Manner())
    assert isinstance(done.result, Report) and done.result.source == "in.mp4"
    assert done.news.progress is not None and done.news.progress.frames == 30
    assert ("videoclr.media", logging.WARNING, "odd colours") in done.news.records
    assert worker.news() == (None, [])
    assert pickle.loads(pickle.dumps(done)) == done


def test_a_bad_file_is_a_result(worker, tmp_path):
    done = worker.work(Task("missing.mp4", Path("out.mp4"), config_of(tmp_path)), Manner())
    assert isinstance(done.result, MediaError)


@pytest.mark.parametrize("resume", [False, True])
def test_a_worker_that_is_told_to_stop_leaves_no_half_file_and_tells_what_is_kept(worker, tmp_path, monkeypatch, resume):
    frames = []

    def wrote(now: Progress) -> None:
        frames.append(now.frames)
        if len(frames) == 12:
            worker.stop()
        wrote_before(now)

    wrote_before = worker._wrote
    monkeypatch.setattr(worker, "_wrote", wrote)
    done = worker.work(Task("in.mp4", Path("out.mp4"), config_of(tmp_path)), Manner(resume=resume))
    assert done.result is None and len(frames) == 12
    assert not list(tmp_path.glob("*.part")) and not (tmp_path / "out.mp4").exists()
    assert bool(done.notes) == resume and all("frames are kept: the same command goes on from there" in note for note in done.notes)
    Lock(tmp_path / "out.mp4.lock", "out.mp4").release()
    monkeypatch.undo()
    assert worker.work(Task("in.mp4", Path("out.mp4"), config_of(tmp_path)), Manner()).result is None  # it does not begin either


# -- what travels ------------------------------------------------------------------------------------------------------


def test_a_report_travels_as_plain_values_and_is_laid_down_on_arrival():
    tracks = [{"track": number, "box": [0.1, 2.0], "who": None} for number in range(200)]
    sent = a_report(tracks=Listed(tracks, dict))
    here = pickle.loads(pickle.dumps(sent))
    assert type(here.tracks) is list
    down = laid_down(here)
    assert isinstance(down, Report) and isinstance(down.tracks, Listed) and down == sent
    assert down.as_dict() == sent.as_dict() and down.tracks[7] == tracks[7]


def test_progress_travels():
    now = Progress("a.mp4", 3, None, 2, 1.5, {"decode": 1.0}, 1)
    assert asdict(pickle.loads(pickle.dumps(now))) == asdict(now)


def test_half_files_of_workers_that_were_ended_go_and_those_of_others_stay(tmp_path):
    target, part = tmp_path / "a.mp4", tmp_path / "a.mp4.part"
    clear(target)
    part.write_bytes(b"half")
    clear(target)
    assert not part.exists()
    lock = Lock(part, target)
    clear(target, seconds=0)
    assert part.exists()
    lock.release()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "The actor died.\nThe actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR",
            "killed, out of",
        ),
        ("The actor died.\nThe actor died because its node has died. Node Id: 12", "its machine is gone"),
        ("Task was killed due to the node running low on memory.", "its machine ran out of memory"),
        (
            "The actor died because of an error raised in its creation task, x\nModuleNotFoundError: No module 'videoclr'\n",
            "Module",
        ),
    ],
)
def test_why_a_worker_is_gone_is_a_few_words(text, says):
    assert cluster.why(RuntimeError(text)).startswith(says)


def test_a_machine_that_does_not_answer_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ClusterError, match=f"nobody answers at 127.0.0.1:{port} .*ray start --head"):
        cluster._knock(f"ray://127.0.0.1:{port}")


# -- with Ray ----------------------------------------------------------------------------------------------------------

SOURCES = {"a.mp4": 20, "b.mp4": 35, "c.mp4": 25}
_HEAD = """
import logging, ray
ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL, num_cpus=2, num_gpus=0)
print(ray.get_runtime_context().gcs_address, flush=True)
input()
ray.shutdown()
"""


class Stage:
    """A folder with films, and the ends of the pipes at which `cluster_parts.Waiting` waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = config_of(folder)
        (folder / "config.yaml").write_text(self.config.model_dump_json(), encoding="utf-8")
        for name, frames in SOURCES.items():
            film(folder / name, frames)
        (folder / "bad.mp4").write_text("no film")
        for name in ("said", "go"):
            os.mkfifo(folder / name)
        self._go: IO[bytes] | None = None
        self._said = (folder / "said").open("r+b", buffering=0)  # for writing too, so it has no end

    def close(self) -> None:
        self._said.close()
        if self._go is not None:
            self._go.close()

    def heard(self) -> int:
        """The process of a worker that waits."""
        assert select.select([self._said], [], [], 120)[0], "nobody waits"
        return int(self._said.readline())

    def free(self) -> None:
        """From now on nobody begins to wait."""
        (self.folder / "free").touch()

    def go(self) -> None:
        """Who waits, or is about to, goes on."""
        self._go = (self.folder / "go").open("r+b", buffering=0)  # stays open, for whoever comes to it later

    def reference(self, *sources: str, resume: bool = False) -> dict[str, bytes]:
        """The results without a cluster."""
        self.free()
        restore_batch(sources, "one", self.config, report="one.json", resume=resume)
        (self.folder / "free").unlink()
        return {path.name: path.read_bytes() for path in (self.folder / "one").glob("*.mp4")}

    def results(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "two").glob("*.mp4")}

    def batch(self, *arguments: str, cluster: str = "local") -> subprocess.Popen[str]:
        """The command, in a session of its own."""
        command = [sys.executable, "-m", "videoclr", "batch", *arguments, "--to", "two", "--config", "config.yaml"]
        # a shell that starts the tests with & hands down that Ctrl-C is ignored
        return subprocess.Popen(
            [*command, "--cluster", cluster],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def half_files(self) -> list[Path]:
        return list((self.folder / "two").glob("**/*.part"))


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Iterator[Stage]:
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    made = Stage(tmp_path)
    yield made
    made.close()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code and streams. Every process that it started is gone as well, or goes by itself at once."""
    out, err = process.communicate(timeout=300)
    for one in processes_of(process.pid):
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(one)
            assert select.select([handle], [], [], 60)[0], f"process {one} stays"
            os.close(handle)
    return process.returncode, out, err


def processes_of(session: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(place.name))
    return found


def told(path: str) -> dict:
    """A batch's report, without what two runs differ in."""
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    for one in report["files"]:
        one["target"] = Path(one["target"]).name
        del one["seconds"], one["seconds_per_stage"], one["slowest"]
    return report


@pytest.mark.cluster
def test_results_are_those_of_a_run_without_a_cluster(stage):
    expected = stage.reference(*SOURCES, "bad.mp4")
    stage.free()
    code, out, err = ended(stage.batch("a.mp4", "b.mp4", "c.mp4", "bad.mp4", "--workers", "2", "--report", "two.json"))
    assert (code, out) == (1, "")
    assert stage.results() == expected and len(expected) == 3 and not stage.half_files()
    assert told("two.json") == told("one.json") and len(told("two.json")["failed"]) == 1
    assert sum(line.startswith("videoclr: two/") for line in err.splitlines()) == 3
    assert [line for line in err.splitlines() if "error" in line] == [
        "videoclr: error: bad.mp4: not a video or picture that FFmpeg can read (Invalid data found when processing input)"
    ]


@pytest.mark.cluster
def test_films_whose_names_are_no_text_are_restored(stage):
    name = os.fsdecode(b"b\xff.mp4")
    (stage.folder / "a.mp4").rename(stage.folder / name)
    stage.free()
    code, _, err = ended(stage.batch(name))
    assert code == 0 and list(stage.results()) == [name], err


@pytest.mark.cluster
@pytest.mark.parametrize("resume", [False, True])
def test_the_task_of_a_worker_that_is_killed_is_done_by_another(stage, resume):
    expected = stage.reference("a.mp4", "b.mp4", "c.mp4", resume=resume)
    process = stage.batch("a.mp4", "b.mp4", "c.mp4", "--workers", "2", *["--resume"] * resume)
    first, second = stage.heard(), stage.heard()
    assert first != second
    stage.free()
    os.kill(first, signal.SIGKILL)
    stage.go()
    code, out, err = ended(process)
    assert (code, out) == (0, "")
    assert err.count("killed, out of memory, or crashed); it is done again by another") == 1
    assert stage.results() == expected and not stage.half_files()


@pytest.mark.cluster
def test_a_film_that_costs_two_workers_is_an_error_and_the_others_go_on(stage):
    process = stage.batch("a.mp4", "b.mp4", "--workers", "1")
    os.kill(stage.heard(), signal.SIGKILL)
    second = stage.heard()
    stage.free()
    os.kill(second, signal.SIGKILL)
    code, out, err = ended(process)
    assert (code, out) == (1, "")
    assert "videoclr: error: a.mp4: its worker was lost 2 times (" in err
    assert list(stage.results()) == ["b.mp4"] and not stage.half_files()


@pytest.mark.cluster
@pytest.mark.parametrize(("number", "resume"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_stop_ends_all_workers_and_leaves_no_half_file(stage, number, resume):
    process = stage.batch("a.mp4", "b.mp4", "--workers", "2", *["--resume"] * resume)
    stage.heard(), stage.heard()
    process.send_signal(number)
    code, out, err = ended(process)
    assert (code, out) == (130, "")
    begun = "videoclr: stopping after what is being computed; two more signals end at once"
    assert [line for line in err.splitlines() if "frames" not in line] == [begun, "videoclr: error: stopped"]
    assert not stage.results() and not stage.half_files()


@pytest.mark.cluster
def test_all_workers_tell_how_far_they_are(stage, caplog):
    expected, seen, at_work = stage.reference("a.mp4", "b.mp4"), {}, []

    def release() -> None:
        at_work.extend([stage.heard(), stage.heard()])
        stage.free()
        stage.go()

    def progress(now: Progress) -> None:
        seen[now.source] = now

    helper = threading.Thread(target=release, daemon=True)
    helper.start()
    with caplog.at_level(logging.INFO, "videoclr"):
        results = restore_batch(["a.mp4", "b.mp4"], "two", stage.config, progress=progress, site=Cluster("local", 2))
    helper.join()
    assert stage.results() == expected and [one.source for one in results] == ["a.mp4", "b.mp4"]
    assert {name: now.frames for name, now in seen.items()} == {"a.mp4": 20, "b.mp4": 35}
    assert len(set(at_work)) == 2 and os.getpid() not in at_work
    for name in ("a.mp4", "b.mp4"):  # logged there, heard here
        assert any(one.levelno == logging.INFO and one.getMessage().startswith(f"{name}: ") for one in caplog.records)


@pytest.mark.cluster
def test_a_cluster_that_runs_is_left_as_it_was(stage, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    expected = stage.reference(*SOURCES)
    head = subprocess.Popen(
        [sys.executable, "-c", _HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        address = head.stdout.readline().strip()
        stopped = stage.batch("a.mp4", "b.mp4", "--workers", "2", cluster=address)
        stage.heard(), stage.heard()
        stopped.send_signal(signal.SIGTERM)
        assert ended(stopped)[0] == 130 and not stage.results()
        stage.free()
        code, out, err = ended(stage.batch(*SOURCES, "--workers", "2", cluster=address))  # needs all that the first one held
        assert (code, out) == (0, "") and "error" not in err and stage.results() == expected
        assert head.poll() is None
        monkeypatch.delenv("RAY_AUTH_MODE")
        code, out, err = ended(stage.batch("a.mp4", "-y", cluster=address))
        assert (code, out) == (1, "") and "the cluster asks for its token: set RAY_AUTH_MODE=token" in err
    finally:
        ended(head)  # closes its standard input


@pytest.mark.cluster
def test_a_setting_that_fits_no_task_is_the_batchs_error(stage):
    code, out, err = ended(stage.batch("a.mp4", "b.mp4", "--set", "restore.use=nothing", "--workers", "2"))
    assert (code, out) == (2, "")
    errors = [line for line in err.splitlines() if line.startswith("videoclr: error: ")]
    assert len(errors) == 1 and "unknown part 'nothing'" in errors[0] and not stage.results()
    assert err.count("unknown part 'nothing'") == 1
