"""What comes out when what goes in is broken: thousands of mutated films, pipes, lists and settings through the command line.

    python pipelines/torture.py fuzz --cases 2000 --out runs/torture
    python pipelines/torture.py kills --count 30 --out runs/torture

A corpus of tiny files in every container and codec is made, and each case is one of them with a few seeded mutations (bits,
lengths, pieces cut out, doubled, exchanged), given to `videoclr INPUT OUTPUT` in a process of its own with limits of time, memory
and file size. It is survived if it ends in time, in one of two ways:

* restored: exit code 0, and the output is there and can be opened;
* refused: exit code 1 or 2, one line that begins with `videoclr: error:` and is one that this package meant, and nothing is left.

Everything else is a fault, and its input is kept in OUT/faults: a signal (a crash of a native library), no end in time, a Python
error that nobody expected, more lines than one, something left behind. Exit code 1 where there is a fault.

What `--resume` keeps is tried as well: one file of a half-done job is mutated, and the job goes on. Then `restored` also means:
byte for byte what a run gives that was never stopped (`ledger`). Or else the sums that would tell are made to fit what was
mutated, and any of the two ends will do (`sealed`).

The networks are left out (`Nobody` finds no face, `Somebody` always the same one): what is tried is what reads and writes.
OUT/fuzz.json holds the figures, and OUT/fuzz.md the table of the README.

`kills` restores a film with `--resume` in processes that are killed (SIGKILL) at random moments, the same command again and again
until it gets through, and compares the film with that of a run that was never stopped. Its row is in OUT/kills.md.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import logging
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import videoclr.jobs
import videoclr.parts.content_cuts
import videoclr.parts.face_recognizer
import videoclr.parts.feather
import videoclr.parts.overlap_tracker
import videoclr.parts.unchanged  # loaded once, and not in every process anew
from videoclr import cli
from videoclr.arguments import integer, real
from videoclr.config import Config
from videoclr.errors import VideoclrError
from videoclr.media import opening
from videoclr.media.boxes import Amendments, amend, spherical
from videoclr.media.crop import Crop
from videoclr.media.matroska import Look, write_look
from videoclr.media.opening import Opening
from videoclr.media.reader import Reader
from videoclr.media.recode import Generation, Tone, write_clip
from videoclr.media.sphere import EQUIRECTANGULAR, Sphere
from videoclr.media.writer import Writer
from videoclr.process import use_threads
from videoclr.types import Detection, Frame

SIZE = (32, 40)
"""Height and width of the pictures."""
FRAMES = 4
KINDS = ("file", "pipe", "list", "settings", "ledger", "sealed")
KEPT = ("restored", "refused")
"""Ends that are survived."""
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000, 0x01000000)
_HEAD = 2048
"""Bytes at either end that half of the mutations fall into: headers and indices lie there."""
_MEANT = re.compile(r"videoclr: error: (?!unexpected )[^\n]*\n")
_UNMEANT = "(--verbose shows where)"
"""What the command line adds to errors that are none of this package's."""
FILE_BYTES = 64 << 20
"""The most that a case may write into one file."""


class Nobody:
    """A detector that finds no face."""

    def detect(self, images: Sequence[Any]) -> list[list[Any]]:
        """No face in any picture."""
        return [[] for _ in images]


class Somebody:
    """A detector that finds one face in every picture, and a recogniser that knows it."""

    def detect(self, images: Sequence[Any]) -> list[list[Detection]]:
        """A face in the middle."""
        side = np.float32(24)
        shares = np.float32([[0.35, 0.4], [0.65, 0.4], [0.5, 0.6], [0.38, 0.75], [0.62, 0.75]])
        return [[Detection(np.float32([8, 4, 32, 28]), np.float32([8, 4]) + shares * side, 0.9)] for _ in images]

    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """The same for everybody."""
        return torch.nn.functional.normalize(torch.ones(len(crops), 8), dim=1)


@dataclass(frozen=True)
class Case:
    """One input, and how it is given."""

    kind: str
    """`file`, `pipe`, `list`, `settings`, or of what `--resume` keeps: `ledger`, and `sealed` where its sums fit it."""
    name: str
    data: bytes


@dataclass(frozen=True)
class Limits:
    """Of one case."""

    seconds: float = 30.0
    memory: int = 2 << 30
    """Bytes of address space beyond what the program has before the case."""


# -- the corpus ------------------------------------------------------------------------------------------------------


def pictures() -> list[NDArray[np.uint8]]:
    """`(H, W, 3)` RGB uint8: soft stripes that move."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return [
        np.stack([128 + 90 * np.sin((x + 4 * n) / 9), 40 + 3 * y, 200 - 2 * x], -1).clip(0, 255).astype(np.uint8)
        for n in range(FRAMES)
    ]


def corpus(folder: Path) -> list[Case]:
    """Tiny valid inputs of every kind, made in `folder`; the same at every call."""
    shown = pictures()
    films = {
        "h264.mp4": {"codec": "h264"}, "hevc.mkv": {"codec": "hevc"}, "vp9.webm": {"codec": "vp9"}, "ffv1.mkv": {"codec": "ffv1"},
        "prores.mov": {"codec": "prores"}, "mjpeg.avi": {"codec": "mjpeg"}, "h264.ts": {"codec": "h264"},
        "av1.mp4": {"codec": "av1"}, "h264.flv": {"codec": "h264"}, "raw.y4m": {"pix_fmt": "yuv420p"},
        "ffv1.nut": {"codec": "ffv1"},
    }  # fmt: skip
    for name, settings in films.items():
        _written(folder / name, shown, **settings)
    for name in ("p.png", "p.jpg", "p.webp", "p.tif", "p.bmp"):
        _written(folder / name, shown[:1])
    for name, codec in (("sound.mp4", "h264"), ("sound.mkv", "mpeg4"), ("mpeg2.mxf", "mpeg2"), ("sound.nut", "h264")):
        tone = None if name.endswith("mxf") else Tone(sample_rate=8000)
        write_clip(folder / name, shown, Fraction(25), Generation(codec, quality=30 if codec == "h264" else 20), tone)  # type: ignore[arg-type]
    look = Look(Fraction(4, 3), Crop(left=4, right=2, top=2, bottom=4), Sphere(EQUIRECTANGULAR, (1 << 20, 0, 0), bytes(20)))
    _written(folder / "look.mkv", shown, codec="ffv1")
    write_look(folder / "look.mkv", look)
    for name, codec in (("look.mov", "prores"), ("look.mp4", "h264")):
        _written(folder / name, shown, codec=codec)
        changes = Amendments(crops={0: look.crop}, entries={0: spherical(look.sphere)} if name == "look.mp4" else {})
        amend(str(folder / name), changes, quicktime=name == "look.mov")
    cases = [Case("file", path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    piped = ("ffv1.nut", "sound.mkv", "h264.ts", "raw.y4m", "sound.nut")
    cases += [Case("pipe", name, (folder / name).read_bytes()) for name in piped]
    cases.append(Case("list", "all.ffconcat", b"ffconcat version 1.0\n# two\nfile 'h264.mp4'\nfile h264.mp4\n"))
    cases += [Case("settings", f"{number}.yaml", text.encode()) for number, text in enumerate(_SETTINGS)]
    kept = half_done(folder)
    return cases + [Case(kind, path.name, path.read_bytes()) for path in kept for kind in ("ledger", "sealed")]


def half_done(folder: Path) -> list[Path]:
    """Stop a job halfway, and finish it elsewhere; the files that it kept. Their folder and both films lie in `folder`."""

    def stop(now: videoclr.jobs.Progress) -> None:
        if now.frames >= 19:
            raise KeyboardInterrupt

    shown = [np.roll(image, 3 * turn, 1) for turn in range(8) for image in pictures()]
    _written(folder / "long.mkv", shown, codec="ffv1")
    config = Config().override("media.codec=ffv1", *_LONG)
    with suppress(KeyboardInterrupt):
        videoclr.jobs.restore_video(folder / "long.mkv", folder / "kept.mkv", config, resume=True, progress=stop)
    videoclr.jobs.restore_video(folder / "long.mkv", folder / "whole.mkv", config, resume=True)
    kept = [path for path in sorted((folder / "kept.mkv.resume").iterdir()) if path.suffix in _KEPT_FILES]
    assert {path.suffix for path in kept} == set(_KEPT_FILES)
    return kept


_KEPT_FILES = (".jsonl", ".packets", ".faces", ".mark", ".state")
_LONG = (
    f"detect.use={__name__}:Somebody", f"identify.use={__name__}:Somebody", "restore.use=unchanged", "restore.options.size=16",
    "gate.use=none", "cuts.options.threshold=9", "media.segment=0.2", "identify.window=1", "track.max_gap=1", "align.smoothing=1",
    "blend.match_color=false", "detect.min_size=4", "runtime.batch=1", "runtime.detect_batch=1",
)  # fmt: skip
"""Settings of the job that was stopped: few frames inside the pipeline, so that a short film has bookmarks."""


_SETTINGS = (
    "media: {codec: ffv1, start: 0f, frames: 3, drop: [audio]}\ndetect: {threshold: 0.7, every: 2}\n",
    "restore:\n  steps: 3\nblend: {strength: &s 0.5, detail: *s}\nmedia:\n  limits: {pixels: 5000000, rate: 60.5}\n",
    "media: {input: {protocols: [http], playlists: true}, end: '00:00:00:03'}\nruntime: {on_error: keep}\n",
)


def _written(path: Path, shown: Sequence[NDArray[np.uint8]], **settings: Any) -> None:
    with Writer(path, **settings) as writer:
        for index, image in enumerate(shown):
            writer.write(Frame.from_image(image, index))


# -- mutations -------------------------------------------------------------------------------------------------------


def mutated(data: bytes, others: Sequence[bytes], random: np.random.Generator) -> bytes:
    """`data` with one to four things wrong."""
    out = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        if not out:
            break
        _MUTATIONS[int(random.integers(len(_MUTATIONS)))](out, others, random)
    return bytes(out)


def _place(out: bytearray, random: np.random.Generator) -> int:
    size = len(out)
    if random.random() < 0.5:
        near = int(random.integers(min(size, _HEAD)))
        return near if random.random() < 0.7 else size - 1 - near
    return int(random.integers(size))


def _flip(out: bytearray, _: Sequence[bytes], random: np.random.Generator) -> None:
    for _bit in range(int(random.integers(1, 9))):
        out[_place(out, random)] ^= 1 << int(random.integers(8))


def _number(out: bytearray, _: Sequence[bytes], random: np.random.Generator) -> None:
    """A size or an offset that is zero, huge or negative."""
    width = int(random.choice([1, 2, 4, 8]))
    value = int(random.choice(_INTERESTING)) & ((1 << 8 * width) - 1)
    at = _place(out, random)
    out[at : at + width] = value.to_bytes(width, "big" if random.random() < 0.6 else "little")


def _noise(out: bytearray, _: Sequence[bytes], random: np.random.Generator) -> None:
    at = _place(out, random)
    length = min(int(random.integers(1, 64)), len(out) - at)
    out[at : at + length] = random.bytes(length)


def _zeros(out: bytearray, _: Sequence[bytes], random: np.random.Generator) -> None:
    at = _place(out, random)
    length = min(int(random.integers(1, 512)), len(out) - at)
    out[at : at + length] = bytes(length)


def _cut(out: bytearray, _: Sequence[bytes], random: np.random.Generator) -> None:
    at = _place(out, random)
    del out[at : at + int(random.integers(1, 1 + max(1, len(out) // 8)))]


def _double(out: bytearray, _: Sequence[bytes], random: np.random.Generator) -> None:
    at = _place(out, random)
    piece = out[at : at + int(random.integers(1, 1024))]
    out[at:at] = piece * int(random.integers(1, 4))


def _truncate(out: bytearray, _: Sequence[bytes], random: np.random.Generator) -> None:
    if random.random() < 0.3:  # once in a while: nothing behind it can be tried any more
        del out[_place(out, random) :]


def _exchange(out: bytearray, others: Sequence[bytes], random: np.random.Generator) -> None:
    other = others[int(random.integers(len(others)))]
    if other:
        at, there = _place(out, random), int(random.integers(len(other)))
        piece = other[there : there + int(random.integers(1, 512))]
        out[at : at + len(piece)] = piece


_MUTATIONS: Sequence[Callable[[bytearray, Sequence[bytes], np.random.Generator], None]] = (
    _flip, _flip, _number, _number, _noise, _zeros, _cut, _double, _truncate, _exchange,
)  # fmt: skip


# -- one case --------------------------------------------------------------------------------------------------------


def arguments_of(case: Case, folder: Path) -> list[str]:
    """What `videoclr` is called with; `folder` holds the case's files."""
    if case.kind in _RESUMED:
        settings = [part for setting in _LONG for part in ("--set", setting)]
        return [
            "restore",
            str(folder / "long.mkv"),
            str(folder / "out" / "out.mkv"),
            "--resume",
            "-q",
            "--codec",
            "ffv1",
            *settings,
        ]
    plain = ["--set", f"detect.use={__name__}:Nobody", "--set", "restore.use=unchanged", "--set", "gate.use=none", "-q"]
    plain += ["--codec", "ffv1"] if case.kind != "settings" else []
    source = {"pipe": "-", "settings": str(folder / "h264.mp4")}.get(case.kind, str(folder / case.name))
    if case.kind == "settings":
        plain = ["--config", str(folder / case.name), *plain]
    return ["restore", source, str(folder / "out" / "out.mkv"), *plain]


def attempt(case: Case, whole: Path, folder: Path, limits: Limits) -> tuple[str, str]:
    """How `case` ends (`restored`, `refused`, or a fault), and what was said.

    Args:
        case: the input.
        whole: folder of the valid files, which lists and settings rest on.
        folder: empty; for the case's files.
        limits: see there.
    """
    (folder / "out").mkdir()
    if case.kind in ("list", "settings"):
        shutil.copy(whole / "h264.mp4", folder)
    if case.kind in _RESUMED:
        shutil.copy(whole / "long.mkv", folder)
        kept = shutil.copytree(whole / "kept.mkv.resume", folder / "out" / "out.mkv.resume")
        (kept / case.name).write_bytes(case.data)
        if case.kind == "sealed":
            seal(kept, case.name)
    else:
        (folder / case.name).write_bytes(case.data)
    status = _tried(case, folder, limits)
    said = (folder / "stderr").read_text(errors="replace") if (folder / "stderr").exists() else ""
    end = _verdict(status, folder / "out", said, _LEFT if case.kind in _RESUMED else [])
    if end == "restored" and case.kind == "ledger" and (folder / "out/out.mkv").read_bytes() != (whole / "whole.mkv").read_bytes():
        return "another result", said
    return end, said


_RESUMED = ("ledger", "sealed")
_LEFT = ["out.mkv.resume"]
"""What a job that is refused leaves as it was."""


def seal(kept: Path, name: str) -> None:
    """Make the sums fit the file `name` of the folder `kept`, as its writer would have, whatever it holds now."""
    place, book = kept / name, kept / "ledger.jsonl"
    data, (mark,) = place.read_bytes(), kept.glob("*.mark")
    if place in (book, mark):
        place.write_bytes(b"".join(_sealed(line) for line in data.splitlines(keepends=True)))
        return

    def changed(said: dict[str, Any]) -> dict[str, Any]:
        if place.suffix == ".state" and "state" in said:
            said["state"] |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if said.get("segment") == int(place.stem):
            sums = {"size": len(data), "checksum": zlib.crc32(data)} if place.suffix == ".packets" else {"faces": zlib.crc32(data)}
            said |= sums if place.suffix != ".state" else {}
        return said

    for file in (book, mark):
        lines = [json.loads(line)["said"] for line in file.read_bytes().splitlines()]
        file.write_bytes(b"".join(_sealed(json.dumps({"said": changed(said)}).encode()) for said in lines))


def _sealed(line: bytes) -> bytes:
    """A line of the ledger with the right sum; as it is where it is no such line."""
    try:
        said = json.dumps(json.loads(line)["said"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return line
    return json.dumps({"check": zlib.crc32(said.encode()), "said": json.loads(said)}).encode() + b"\n"


def _tried(case: Case, folder: Path, limits: Limits) -> int | None:
    """Exit status as of `os.waitpid`; None where the time was over and the process was killed."""
    use_threads(1)  # threads do not live through a fork: torch and OpenCV would wait for theirs
    process = os.fork()
    if process == 0:
        _child(case, folder, limits)
    return _wait(process, limits.seconds)


def _child(case: Case, folder: Path, limits: Limits) -> None:
    """Never returns."""
    code = 70
    try:
        coming = folder / case.name if case.kind == "pipe" else Path(os.devnull)
        opened = [
            os.open(coming, os.O_RDONLY),
            os.open(os.devnull, os.O_WRONLY),
            os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT, 0o600),
        ]
        for number, file in enumerate(opened):
            os.dup2(file, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))  # whatever stood there before
        pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
        if pages:
            most = pages * resource.getpagesize() + limits.memory
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that grows too large is an error like a full disk
        gc.freeze()  # a decoder that is garbage by now, collected here, would wait for its threads
        code = cli.main(arguments_of(case, folder))
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(process: int, seconds: float) -> int | None:
    """See `_tried`."""
    end = time.monotonic() + seconds
    pause = 0.002
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(0.05, pause * 1.3)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _verdict(status: int | None, out: Path, said: str, kept: list[str]) -> str:
    left = sorted(path.name for path in out.iterdir())
    if status is None:
        return "no end in time"
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    code = os.WEXITSTATUS(status)
    if code == 0:
        return "restored" if left == ["out.mkv"] and _opens(out / "out.mkv") else "success without a result"
    if code not in (1, 2):
        return f"exit code {code}"
    lines = re.findall(r"videoclr: error: .*", said)
    if left != kept:
        return "something left behind"
    if len(lines) != 1 or "Traceback" in said:
        return "not one line"
    return "refused" if _MEANT.search(said) and _UNMEANT not in said else "an error that nobody meant"


def _opens(path: Path) -> bool:
    # A mutated time of day is kept like any other, and then a film of a second lasts a year.
    trusting = Opening(limits=opening.Limits(seconds=1e12))
    try:
        with Reader(path, opening=trusting) as reader:
            return reader.first_picture is not None
    except VideoclrError:
        return False


# -- many ------------------------------------------------------------------------------------------------------------


def cases(whole: Sequence[Case], count: int, seed: int) -> Iterator[tuple[int, Case]]:
    """`count` mutated cases, kinds and files in turn; number and seed alone decide what number `n` is."""
    others = [case.data for case in whole]
    for number in range(count):
        base = whole[number % len(whole)]
        random = np.random.default_rng([seed, number])
        yield number, Case(base.kind, base.name, mutated(base.data, others, random))


def fuzz(args: argparse.Namespace) -> int:
    """Try `--cases` mutated inputs, or as many as `--minutes` allow."""
    logging.getLogger("videoclr").setLevel(logging.ERROR)
    args.out.mkdir(parents=True, exist_ok=True)
    faults = args.out / "faults"
    shutil.rmtree(faults, ignore_errors=True)
    ends: dict[str, Counter[str]] = {}
    told: list[dict[str, Any]] = []
    began, slowest = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as place:
        valid = Path(place) / "valid"
        valid.mkdir()
        whole = [case for case in corpus(valid) if not args.kinds or case.kind in args.kinds]
        print(f"corpus: {len(whole)} files, {sum(len(case.data) for case in whole)} bytes")
        for number, case in cases(whole, args.cases, args.seed):
            if args.minutes and time.monotonic() - began > 60 * args.minutes:
                break
            folder = Path(place) / "case"
            folder.mkdir()
            start = time.monotonic()
            end, said = attempt(case, valid, folder, Limits(args.limit, args.memory << 20))
            slowest = max(slowest, time.monotonic() - start)
            shutil.rmtree(folder)
            ends.setdefault(case.kind, Counter())[end] += 1
            if end not in KEPT:
                faults.mkdir(exist_ok=True)
                (faults / f"{number}-{case.kind}-{case.name}").write_bytes(case.data)
                told.append({"case": number, "kind": case.kind, "name": case.name, "end": end, "said": said[-2000:]})
                print(f"{number} {case.kind} {case.name}: {end}: {said.strip()[-300:]}", flush=True)
    figures = {"seed": args.seed, "ends": ends, "faults": told, "slowest_seconds": slowest, "seconds": time.monotonic() - began}
    (args.out / "fuzz.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    text = table(ends, slowest)
    (args.out / "fuzz.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 1 if told else 0


def kills(args: argparse.Namespace) -> int:
    """Kill runs with `--resume` at `--count` random moments."""
    logging.getLogger("videoclr").setLevel(logging.ERROR)
    args.out.mkdir(parents=True, exist_ok=True)
    moments = np.random.default_rng(args.seed)
    case = Case("ledger", "nothing", b"")
    killed, films, faults = 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        valid = Path(place) / "valid"
        valid.mkdir()
        half_done(valid)
        whole = (valid / "whole.mkv").read_bytes()
        took = _through(case, valid, Path(place) / "first", iter([]))[1]
        while killed < args.count and not faults:
            times = iter([float(moments.uniform(0.05, 0.7)) * took for _ in range(min(4, args.count - killed))])
            folder = Path(place) / f"film{films}"
            times_killed, _ = _through(case, valid, folder, times)
            killed, films = killed + times_killed, films + 1
            made = folder / "out" / "out.mkv"
            left = sorted(path.name for path in made.parent.iterdir())
            if left != ["out.mkv"] or made.read_bytes() != whole:
                faults += 1
                shutil.copytree(folder, args.out / "faults" / folder.name, dirs_exist_ok=True)
                print(f"{folder.name}: {left} is not the film of a run that was never stopped", flush=True)
            shutil.rmtree(folder)
    text = f"| kills of runs with `--resume` | {killed} | {films - faults} films, the same bytes | - | {faults} |\n"
    (args.out / "kills.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 1 if faults else 0


def _through(case: Case, valid: Path, folder: Path, seconds: Iterator[float]) -> tuple[int, float]:
    """Run a job until it gets through, killed after each of `seconds`; how often it was, and how long the last run took."""
    (folder / "out").mkdir(parents=True)
    shutil.copy(valid / "long.mkv", folder)
    for killed, limit in enumerate((*seconds, Limits().seconds * 10)):
        began = time.monotonic()
        status = _tried(case, folder, Limits(seconds=limit))
        if status is not None:
            if status:
                said = (folder / "stderr").read_text(errors="replace")
                raise SystemExit(f"{folder}: a run ended by itself with status {status}: {said[-500:]}")
            return killed, time.monotonic() - began
        out = folder / "out"
        if (out / "out.mkv").exists() and not (out / "out.mkv.resume" / "ledger.jsonl").exists():
            shutil.rmtree(out / "out.mkv.resume", ignore_errors=True)  # its lock, where the kill came just before that went
            return killed + 1, time.monotonic() - began  # all was done: it was about to end
    raise SystemExit(f"{folder}: no end in {Limits().seconds * 10:g} s")


def table(ends: dict[str, Counter[str]], slowest: float) -> str:
    """The figures for the README."""
    lines = ["| broken input | tried | restored | refused in one line | faults |", "|---|---|---|---|---|"]
    total: Counter[str] = Counter()
    for kind, counts in [*sorted(ends.items()), ("all", total)]:
        tried = sum(counts.values())
        bad = tried - counts["restored"] - counts["refused"]
        lines.append(f"| {kind} | {tried} | {counts['restored']} | {counts['refused']} | {bad} |")
        total.update(counts)
    return "\n".join(lines) + f"\n\nThe slowest took {slowest:.1f} s.\n"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of this program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("fuzz", help="mutated inputs")
    one.set_defaults(run=fuzz)
    one.add_argument("--cases", type=integer(1), default=2000)
    one.add_argument("--kinds", nargs="*", choices=KINDS, help="of inputs; all unless given")
    one.add_argument("--minutes", type=real(least=0), default=0.0, help="stop after so long; 0: never")
    one.add_argument("--seed", type=integer(0), default=0)
    one.add_argument("--limit", type=real(above=0), default=30.0, help="seconds for a case")
    one.add_argument("--memory", type=integer(1), default=2048, help="MiB of address space for a case, beyond the program's own")
    one.add_argument("--out", type=Path, required=True)
    one = commands.add_parser("kills", help="kills at random moments")
    one.set_defaults(run=kills)
    one.add_argument("--count", type=integer(1), default=30)
    one.add_argument("--seed", type=integer(0), default=0)
    one.add_argument("--out", type=Path, required=True)
    return parser.parse_args(given)


if __name__ == "__main__":
    chosen = arguments()
    sys.exit(chosen.run(chosen))
