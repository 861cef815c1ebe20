"""A batch on several GPUs and several machines, through Ray: the `Site` behind `videoclr batch --cluster`.

Every worker is an actor, a process of its own with the networks loaded once; whoever is free gets the next task. Videos do not
travel: a worker reads and writes files, so all machines see the same folders under the same names. What travels is small: tasks
to a worker, and back its progress, its log and its results, fetched a few times a second.

A worker that is lost (killed, out of memory, its machine gone) holds no lock any more, since locks are the kernel's. So its task
is simply done again, once, by another one; with `--resume` that one goes on from the ledger.

`videoclr.scheduling` decides and knows nothing of Ray; `_RayWorkers` talks to Ray and decides nothing.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from videoclr import __version__
from videoclr.config import Config
from videoclr.errors import ClusterError, ConfigError, VideoclrError
from videoclr.jobs import Manner, Progress, ProgressCallback, Task, restore_task
from videoclr.media.lock import Lock
from videoclr.media.target import behind_link
from videoclr.pipeline import Pipeline
from videoclr.scheduling import Ended, Event, Lost, Placed, Ready, Refused, Result, Scheduler
from videoclr.shelf import Listed, Shelf

log = logging.getLogger("videoclr.cluster")

LOCAL = "local"
MOMENT_SECONDS = 0.25
"""From one question for news to the next."""
GRACE_SECONDS = 10.0
"""How long a worker that is told to stop may take to clean up."""
KNOCK_SECONDS = 10.0
"""How long a machine may take to answer at all."""
_STORE_BYTES = 128 << 20
"""Shared memory of Ray that is started here; only messages go through it. More would spill to the disk."""
_RECORDS = 1000
"""Records of a worker's log that wait for being fetched, at most."""
_TOKEN = secrets.token_hex(32)
"""Whoever has it not gives no orders to Ray that is started here; its ports are open to the network. A process keeps the first."""
_PASSED_ON = ("OMP_WAIT_POLICY", "VIDEOCLR_CACHE")
"""Variables of the environment that a worker on another machine needs as they are here."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The `Site` whose workers Ray runs.

    Args:
        address: `local` starts Ray on this machine and ends it with the batch; `auto`, `HOST:PORT` or `ray://HOST:PORT` is a
            cluster that runs already, and is left as it was. A connection that this process has is used as it is.
        workers: how many; None for as many as there are GPUs, at least one.

    Raises:
        ConfigError: an address or a number that cannot be.
    """

    address: str = LOCAL
    workers: int | None = None

    def __post_init__(self) -> None:
        check_address(self.address)
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"--workers: expected at least 1, got {self.workers}")

    def __call__(
        self, tasks: Sequence[Task], manner: Manner, progress: ProgressCallback | None
    ) -> Generator[tuple[int, Result], None, None]:
        """Do the tasks; see `videoclr.jobs.Site`.

        Raises:
            ConfigError: Ray is not installed, a setting that fits no task, or more workers than there is room for here.
            ClusterError: Ray cannot be reached, or no worker can be started.
            WeightsError: no worker can load the networks.
        """
        if not tasks:
            return
        config = tasks[0].config
        check_device(config.runtime.device)
        with connected(self.address) as ray:
            share = shared(machines(ray.nodes()), self.workers, config, self.address == LOCAL)
            with _RayWorkers(ray, tasks, manner, progress, share) as workers:
                yield from Scheduler(tasks, workers).run(share.workers)


def check_address(address: str) -> None:
    """Refuse what is no address of a cluster.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"(?:ray://)?(?:\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):(\d{1,5})", address)
    if address not in (LOCAL, "auto") and (found is None or not 0 < int(found[1]) < 1 << 16):
        raise ConfigError(f"--cluster: expected local, auto, HOST:PORT or ray://HOST:PORT, got {address!r}")


def check_device(device: str) -> None:
    """Refuse a device that is one machine's.

    Raises:
        ConfigError: it has a number.
    """
    if device.startswith("cuda:"):
        raise ConfigError(f"$.runtime.device: {device} and --cluster: Ray deals out the GPUs; say cuda, or nothing")


class Machine(NamedTuple):
    """What a machine of the cluster has."""

    cores: int
    gpus: int


class Share(NamedTuple):
    """How a cluster is divided."""

    workers: int
    cores: int
    """CPU cores that each of them keeps for itself, and torch's threads."""
    gpus: int
    """Of each, 0 or 1."""


def machines(nodes: Sequence[Mapping[str, Any]]) -> list[Machine]:
    """The living machines among what `ray.nodes()` tells."""
    has = [node.get("Resources", {}) for node in nodes if node.get("Alive")]
    return [Machine(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in has]


def shared(there: Sequence[Machine], workers: int | None, config: Config, fixed: bool) -> Share:
    """How many workers there are to be, and what each of them gets.

    A worker gets one GPU where there are some and `runtime.device` allows, and as many CPU cores as leave room for all of them, so
    that they do not take the cores from each other; `runtime.threads`, where it is given, says how many instead.

    Args:
        there: the machines.
        workers: as asked for; None for as many as there are GPUs, at least one.
        config: the first task's.
        fixed: no machine will be added.

    Raises:
        ConfigError: `fixed`, and there is no room for all workers; or the device is `cuda` and there is none.
    """
    gpus = sum(machine.gpus for machine in there)
    if config.runtime.device == "cuda" and not gpus:
        raise ConfigError("$.runtime.device: Ray sees no GPU in the cluster; try cpu or auto")
    each = 1 if gpus and config.runtime.device != "cpu" else 0
    wanted = workers or max(1, gpus * each)

    def room(cores: int) -> int:
        return sum(min(machine.cores // cores, machine.gpus if each else machine.cores) for machine in there)

    most = max((machine.cores for machine in there), default=1)
    cores = config.runtime.threads or next((cores for cores in range(most, 1, -1) if room(cores) >= wanted), 1)
    if room(cores) < wanted:
        needs = f"{cores} CPU core(s){' and a GPU' if each else ''} each (runtime.threads says how many cores)"
        has = f"room for {room(cores)} with {needs}"
        if fixed:
            raise ConfigError(f"--workers: {wanted} are wanted, and this machine has {has}")
        log.warning("%d workers are wanted, and the cluster has %s; the others begin when it grows", wanted, has)
    return Share(wanted, cores, each)


class News(NamedTuple):
    """What a worker has to say since it was asked last."""

    progress: Progress | None
    records: list[tuple[str, int, str]]
    """Of its log: the logger's name, the level, the text."""


class Done(NamedTuple):
    """What a task came to."""

    result: Result | None
    """None where it was told to stop."""
    news: News
    notes: list[str]
    """What is to be said of a task that was stopped."""


class Worker:
    """The actor. Its methods answer in what can be pickled, and never raise a `VideoclrError`: Ray would wrap it.

    `news` and `stop` are called in another thread while `work` goes on.
    """

    def __init__(self) -> None:
        self._pipeline: Pipeline | None = None
        self._stopped = False
        self._last: Progress | None = None
        self._records = _Records()

    def join(self, version: str, folder: str, needs_folder: bool, gpus: int, level: int) -> tuple[str, VideoclrError | None]:
        """Come to the caller's folder, in which names mean the same as there.

        Args:
            version: of videoclr, at the caller.
            folder: where the caller is.
            needs_folder: some names begin there.
            gpus: how many are this worker's; 0 hides those that are there.
            level: of the caller's log.

        Returns:
            This machine's name, and why it cannot be used.
        """
        machine = socket.gethostname()
        if version != __version__:
            text = f"has videoclr {__version__}, and {version} is asked for; install the same version on all machines"
            return machine, ClusterError(f"{machine}: {text}")
        try:
            os.chdir(folder)
        except OSError as error:
            if needs_folder:
                text = f"the folder {folder} cannot be entered ({error.strerror}); all machines need it under this name"
                return machine, ClusterError(f"{machine}: {text}")
        if not gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # `auto` would take one that Ray may have given to somebody else
        library = logging.getLogger("videoclr")
        library.addHandler(self._records)
        library.setLevel(level)
        library.propagate = False
        return machine, None

    def load(self, config: Config) -> VideoclrError | None:
        """Load the networks; what stops that is returned."""
        try:
            self._pipeline = Pipeline(config)
        except VideoclrError as error:
            return error
        return None

    def work(self, task: Task, manner: Manner) -> Done:
        """Do a task."""
        self._last = None
        try:
            self._go_on()
            result = restore_task(task, manner, self._pipeline, self._wrote)
        except KeyboardInterrupt as stop:
            return Done(None, self.news(), list(getattr(stop, "__notes__", [])))
        return Done(result, self.news(), [])

    def news(self) -> News:
        """What there is to say since the last time: of the frames, the last one."""
        now, self._last = self._last, None
        if now is not None:
            now = replace(now, seconds_per_stage=dict(now.seconds_per_stage))
        return News(now, self._records.taken())

    def stop(self) -> None:
        """Let `work` end at the next frame, as Ctrl-C ends a run: what is half done is removed, what is kept is told."""
        self._stopped = True

    def _wrote(self, now: Progress) -> None:
        self._last = now
        self._go_on()

    def _go_on(self) -> None:
        if self._stopped:
            raise KeyboardInterrupt


class _Records(logging.Handler):
    """Keeps what is logged until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[tuple[str, int, str]] = deque(maxlen=_RECORDS)

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append((record.name, record.levelno, record.getMessage()))

    def taken(self) -> list[tuple[str, int, str]]:
        return [self._kept.popleft() for _ in range(len(self._kept))]


@dataclass(slots=True)
class _Actor:
    """A worker as the caller knows it."""

    handle: Any
    step: str
    """What it does: `join`, `load`, `wait` or `work`."""
    answer: Any
    """Of that step, to come; None while it waits."""
    news: Any = None
    """An answer to come; None where nothing is asked."""
    asked: float = 0.0
    machine: str = "a machine"
    number: int = -1
    """Of its task."""


class _RayWorkers:
    """`Workers` that are actors of Ray. As a context it ends them; what was interrupted there is cleaned up.

    Args:
        ray: the module, connected.
        tasks: all of them.
        manner: how they are done.
        progress: told of all workers, a few times a second.
        share: what each worker gets.
    """

    def __init__(self, ray: Any, tasks: Sequence[Task], manner: Manner, progress: ProgressCallback | None, share: Share) -> None:
        self._ray, self._tasks, self._manner, self._progress, self._share = ray, tasks, manner, progress, share
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        asks = {"num_cpus": share.cores, "num_gpus": share.gpus, "runtime_env": {"env_vars": environment}}
        # Of the methods only `news` and `stop` are called while another one is at work.
        self._kind = ray.remote(**asks, max_restarts=0, max_task_retries=0, max_concurrency=3)(Worker)
        self._actors: dict[int, _Actor] = {}
        self._started = 0
        self._torn: set[int] = set()
        """Tasks whose worker was lost and that nobody has done since."""

    def __enter__(self) -> _RayWorkers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is not None:
                for note in self._stop():
                    error.add_note(note)
        finally:
            for worker in list(self._actors):
                self.end(worker)
            for number in self._torn:
                clear(self._tasks[number].target)

    def start(self) -> int:
        """Begin to start one more."""
        names = [name for task in self._tasks for name in (task.source, task.target)]
        relative = any(not Path(name).is_absolute() for name in names)
        level = logging.getLogger("videoclr").getEffectiveLevel()
        handle = self._kind.remote()
        answer = handle.join.remote(__version__, os.getcwd(), relative, self._share.gpus, level)
        self._started += 1
        self._actors[self._started] = _Actor(handle, "join", answer)
        return self._started

    def assign(self, worker: int, number: int) -> None:
        """Let one that waits do a task."""
        actor = self._actors[worker]
        actor.step, actor.number = "work", number
        actor.answer = actor.handle.work.remote(self._tasks[number], self._manner)

    def end(self, worker: int) -> None:
        """End one, at once."""
        actor = self._actors.pop(worker)
        if actor.step == "work":
            self._torn.add(actor.number)
        with suppress(Exception):  # it may be gone, or Ray
            self._ray.kill(actor.handle)

    def next(self) -> Event | None:
        """What happens next; None where nothing did for a moment."""
        steps = {actor.answer: worker for worker, actor in self._actors.items() if actor.answer is not None}
        ready, _ = self._ray.wait(list(steps), num_returns=1, timeout=MOMENT_SECONDS)
        if ready:
            return self._answered(steps[ready[0]])
        for worker in list(self._actors):
            lost = self._hear(worker)
            if lost is not None:
                return lost
        return None

    def _answered(self, worker: int) -> Event:
        actor = self._actors[worker]
        try:
            answer = self._ray.get(actor.answer)
        except self._ray.exceptions.RayTaskError as error:  # not of ours: it ends the batch, as it would without a cluster
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            return self._gone(worker, error)
        if actor.step == "work":
            return self._done(worker, answer)
        refusal = answer
        if actor.step == "join":
            actor.machine, refusal = answer
        if refusal is not None:
            self.end(worker)
            return Refused(worker, refusal)
        if actor.step == "join":
            actor.step, actor.answer = "load", actor.handle.load.remote(self._tasks[0].config)
            return Placed(worker)
        actor.step, actor.answer = "wait", None
        return Ready(worker)

    def _done(self, worker: int, done: Done) -> Event:
        actor = self._actors[worker]
        if actor.news is not None:  # asked before the end, so it comes before the rest
            with suppress(self._ray.exceptions.RayError):
                self._tell(self._ray.get(actor.news))
            actor.news = None
        self._tell(done.news)
        actor.step, actor.answer = "wait", None
        self._torn.discard(actor.number)
        assert done.result is not None, "nobody told it to stop"
        return Ended(worker, laid_down(done.result))

    def _gone(self, worker: int, error: Exception) -> Lost:
        machine = self._actors[worker].machine
        log.info("worker on %s: %s", machine, " ".join(str(error).split()))
        self.end(worker)
        return Lost(worker, f"{machine}: {why(error)}")

    def _hear(self, worker: int) -> Lost | None:
        """Tell what a worker had to say, and ask again."""
        actor = self._actors[worker]
        if actor.step not in ("wait", "work", "load"):
            return None
        if actor.news is not None:
            if not self._ray.wait([actor.news], timeout=0)[0]:
                return None
            try:
                news, actor.news = self._ray.get(actor.news), None
            except self._ray.exceptions.RayError as error:
                actor.news = None
                return self._gone(worker, error) if actor.step == "wait" else None
            self._tell(news)
        now = time.monotonic()
        if now - actor.asked >= MOMENT_SECONDS:
            actor.asked, actor.news = now, actor.handle.news.remote()
        return None

    def _tell(self, news: News) -> None:
        for name, level, text in news.records:
            logging.getLogger(name).log(level, "%s", text)
        if news.progress is not None and self._progress is not None:
            self._progress(news.progress)

    def _stop(self) -> Iterator[str]:
        """Let all end at their next frame. Yields what is to be said of what they did."""
        working = {actor.answer: worker for worker, actor in self._actors.items() if actor.step == "work"}
        with suppress(Exception):  # Ray may be gone: then so are they
            for worker in working.values():
                self._actors[worker].handle.stop.remote()
            stopped, _ = self._ray.wait(list(working), num_returns=len(working), timeout=GRACE_SECONDS) if working else ([], [])
            for answer in stopped:
                actor = self._actors[working[answer]]
                with suppress(self._ray.exceptions.RayError):
                    done = self._ray.get(answer)
                    actor.step = "wait"
                    yield from (f"{self._tasks[actor.number].source}: {note}" for note in done.notes)


def why(error: Exception) -> str:
    """In a few words, what Ray says of a worker that is gone."""
    text = str(error)
    if "running low on memory" in text or type(error).__name__ == "OutOfMemoryError":
        return "its machine ran out of memory"
    if "node" in text and ("died" in text or "dead" in text) and "worker process has died" not in text:
        return "its machine is gone"
    if "creation task" in text or "failed to import" in text:
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it cannot be made")
    return "killed, out of memory, or crashed"


def laid_down(result: Result) -> Result:
    """A report with its tracks on the disk, as those of a run without a cluster.

    They travel as plain values (see `Listed`), since the file in which they lie has no name and is the worker's own. Only one
    report at a time is in memory like that, not those of a whole batch.
    """
    if isinstance(result, VideoclrError):
        return result
    tracks: Shelf[dict[str, Any]] = Shelf(dict, dict)
    for number, track in enumerate(result.tracks):
        tracks.of(number, lambda track=track: track)  # type: ignore[misc]
    return replace(result, tracks=Listed(tracks, dict))


def clear(target: Path, seconds: float = 5.0) -> None:
    """Remove the half file that a worker left because it was ended before it could.

    Args:
        target: of its task.
        seconds: how long to wait for the end of a process that is being ended; somebody else's file stays.
    """
    part = Path(f"{behind_link(target)}.part")
    deadline = time.monotonic() + seconds
    while part.exists():
        try:
            lock = Lock(part, target)
        except VideoclrError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
            continue
        with suppress(OSError):
            part.unlink()
        lock.release()


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected to `address`.

    Raises:
        ConfigError: it is not installed.
        ClusterError: there is no cluster, or it refuses.
    """
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise ConfigError("--cluster: Ray is not installed here: pip install 'videoclr[cluster]'") from error
    if ray.is_initialized():
        yield ray
        return
    with ExitStack() as stack:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        environment = {"RAY_USAGE_STATS_ENABLED": "0"}
        if address == LOCAL:
            # A folder of its own, which nobody else may enter and which goes with the run; Ray's sockets need a short name.
            parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 20 else "/tmp"
            folder = tempfile.mkdtemp(prefix="videoclr-", dir=parent)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
            options["_temp_dir"] = os.path.join(folder, "ray")
            environment["RAY_AUTH_TOKEN"] = _TOKEN  # or Ray leaves one at home, which all later clusters would ask for
        else:
            _knock(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        stack.callback(_disconnect, ray)
        try:
            # Ray keeps the command line, as UTF-8, which the names of files need not be.
            nameless = _replaced(ray, "utils", "get_entrypoint_name", "videoclr")
            with _environment(**environment), _signals_kept(ray, wait=address == LOCAL), nameless:
                ray.init(address, **options)
        except Exception as error:
            raise ClusterError(f"--cluster {address}: {_refusal(error)}") from error
        with _replaced(ray, "worker", "print_to_stdstream"):  # says what we say ourselves, on standard output, whatever it is told
            yield ray


def _knock(address: str) -> None:
    """Ray would wait for minutes where nobody answers.

    Raises:
        ClusterError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():  # `auto`: Ray itself looks for a cluster here
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
    except OSError as error:
        text = f"nobody answers at {host}:{port} ({error.strerror or error}); start one there with `ray start --head`"
        raise ClusterError(f"--cluster {address}: {text}") from error


def _refusal(error: BaseException) -> str:
    """Why Ray does not let us in."""
    cause: BaseException | None = error
    while cause is not None:
        if "AuthToken" in str(cause):
            return "the cluster asks for its token: set RAY_AUTH_MODE=token, with that token in ~/.ray/auth_token"
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())


def _disconnect(ray: Any) -> None:
    with suppress(Exception):  # a cluster that has gone cannot be left
        ray.shutdown()


@contextmanager
def _signals_kept(ray: Any, wait: bool) -> Iterator[None]:
    """Signals are answered afterwards as before: Ray takes SIGTERM for itself, below Python, and aborts the process.

    Args:
        ray: the module.
        wait: what stops this process waits until the end of the block: a start that is torn apart leaves processes behind.
    """
    pending: list[int] = []
    before = {}
    try:
        with suppress(ValueError):  # not in the main thread: signals are somebody else's business
            for number in (signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)):
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, (lambda heard, _: pending.append(heard)) if wait else handler)
        with _replaced(ray, "utils", "set_sigterm_handler"):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if pending:  # where a start fails, that is because what ends this process ended Ray's as well
            signal.raise_signal(pending[0])


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """What is started meanwhile sees these; what the user has set stays."""
    names = [*variables, "RAY_AUTH_MODE"]  # which Ray sets itself
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: value for name, value in variables.items() if before[name] is None})
    try:
        yield
    finally:
        for name in names:
            if before[name] is None:
                os.environ.pop(name, None)


@contextmanager
def _replaced(ray: Any, module: str, name: str, gives: object = None) -> Iterator[None]:
    """A function inside of Ray does nothing; where a release of Ray has none of that name, nothing is changed."""
    place: Any = getattr(getattr(ray, "_private", None), module, None)
    before = getattr(place, name, None)
    if before is None:
        yield
        return
    setattr(place, name, lambda *_, **__: gives)
    try:
        yield
    finally:
        setattr(place, name, before)
