"""Measure what the README states, on this machine: speed of the networks, speed of the media path, memory over time.

    python pipelines/benchmark.py --speed --threads 1           seconds per face, milliseconds per detection
    python pipelines/benchmark.py --media --seconds 10          speed without restoration, beside ffmpeg and PyAV themselves
    python pipelines/benchmark.py --memory 10                   peak memory, minute by minute, of ten minutes of 1080p
    python pipelines/benchmark.py --memory 4k                   peak memory of 4K 10-bit 4:2:2 with a face in every frame

Several may be asked for at once; `--json FILE` keeps the numbers. Clips are generated in a temporary folder. Every time
is the median of several runs after one that does not count. Ratios are medians over pairs of runs, one right after the
other and in turn first, in wall time and in user CPU time: what else the machine does meanwhile touches both alike. With
`--floors`, a ratio or a memory beyond what is promised fails the run. Memory is measured in a process of its own, whose
peak is set back at every minute, so the table shows growth where there is any.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from videoclr import Config, Pipeline, Reader, VideoclrError, Writer, restore_video
from videoclr.arguments import integer, rate_of, real
from videoclr.media.encoders import x264_options
from videoclr.media.picture import Picture
from videoclr.media.recode import Generation, Tone, write_clip
from videoclr.process import use_threads
from videoclr.stages.enlarge import EnlargingRestorer
from videoclr.stages.restore import SpanRestorer
from videoclr.types import Detection, FaceCrop, Frame, TrackedFace

RATE = Fraction(25)
EARLY = 300.0
"""Seconds of film after which memory may not grow much any more."""
GROWTH = 0.05
"""How much the peak after that may exceed the peak before."""
CRF, PRESET = 18, "medium"
"""The same for every encoder that is compared."""
FLOORS = {"reader_to_writer_of_ffmpeg": 0.85, "reader_of_pyav": 0.9}
"""The least speed without restoration, as a share of that of the ffmpeg program and of PyAV's decoding loop."""
DEEP = "4k"
"""The film of `--memory` whose pictures are large."""
DEEP_FRAMES = 32
DEEP_MIB = 1536
"""The most memory of a 4K 10-bit video on its way from reader to writer."""


def median_seconds(work: Callable[[], Any], repeat: int) -> float:
    """Median wall time of `work`, seconds; the first run warms up and does not count."""
    work()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}


# -- networks ---------------------------------------------------------------------------------------------------------


def measure_speed(config: Config, threads: int, repeat: int) -> dict[str, Any]:
    """Time detector, recogniser and restorer of the pipeline that `config` describes.

    Raises:
        VideoclrError: a part cannot be built.
    """
    import torch

    use_threads(threads)
    pipeline = Pipeline(config)
    picture = textured(640, 360, 0)
    crops = [face_crop(pipeline.restorer.size, index) for index in range(config.runtime.batch)]
    batch = torch.stack([crop.image for crop in crops])
    figures: dict[str, Any] = {
        "threads": threads,
        "restorer": config.restore.use,
        "steps": config.restore.steps,
        "crop": pipeline.restorer.size,
        "detect_ms_640x360": 1e3 * median_seconds(lambda: pipeline.detector.detect([picture]), repeat),
        "restore_s_per_face": median_seconds(lambda: pipeline.restorer.restore(crops[:1], {}), repeat),
        f"restore_s_per_face_in_batches_of_{len(crops)}": median_seconds(lambda: pipeline.restorer.restore(crops, {}), repeat)
        / len(crops),
    }
    if isinstance(pipeline.restorer, SpanRestorer) and pipeline.restorer.anchors > 1:
        figures["restore_s_per_face_along_a_track"] = median_seconds(along_a_track(pipeline.restorer, config.runtime.batch), repeat)
        figures["restore_s_per_face_along_a_track"] /= pipeline.restorer.anchors
    restorer = pipeline.restorer
    if isinstance(restorer, EnlargingRestorer) and restorer.larger is not None:
        large = face_crop(restorer.larger, 0).image[None]
        figures["enlarge_s_per_close_up"] = median_seconds(lambda: restorer.enlarge(large, batch[:1]), repeat)
    recognizer = pipeline.recognizer
    if recognizer is not None:
        figures["recognize_ms_per_face"] = 1e3 * median_seconds(lambda: recognizer.embed(batch[:1]), repeat)
    return figures


def along_a_track(restorer: SpanRestorer, batch: int) -> Callable[[], Any]:
    """What restores a span of a track, from one anchor to the next, after a span that is done already."""
    size, span = restorer.size, restorer.anchors
    film = [face_crop(size, index, still=True) for index in range(1 + 2 * span + restorer.reach)]
    kept: dict[int, Any] = {}
    restorer.restore_span(film[: 1 + span], film[1 + span :][: restorer.reach], True, kept, batch)
    return lambda: restorer.restore_span(film[1 + span :][:span], film[1 + 2 * span :], False, copy.deepcopy(kept), batch)


def textured(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """`(height, width, 3)` RGB: smooth noise with some grain, so that no encoder or detector gets off too lightly."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (max(height // 40, 2), max(width // 40, 2), 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def face_crop(size: int, index: int, still: bool = False) -> FaceCrop:
    """A crop for timing: the content does not matter to the networks' speed. `still`: of one track, but for its noise."""
    from videoclr.pixels import to_tensor

    picture = textured(size, size, 0 if still else index)
    if still:
        noise = np.random.default_rng(index).normal(0, 6, picture.shape)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    box = np.array([0, 0, size, size], np.float32)
    points = np.array([(0.38, 0.47), (0.62, 0.47), (0.5, 0.6), (0.4, 0.71), (0.6, 0.71)], np.float32) * size
    frame = Frame.from_image(picture, index)
    face = TrackedFace(0 if still else index, Detection(box, points, 1.0))
    return FaceCrop(face, frame, to_tensor(picture), np.array([[1.0, 0, 0], [0, 1.0, 0]]))


# -- media ------------------------------------------------------------------------------------------------------------


class Took(NamedTuple):
    """What a run cost."""

    wall: float
    """Seconds."""
    cpu: float
    """User seconds of this process and of the processes that it started and that have ended."""


def took(work: Callable[[], Any]) -> Took:
    """Run `work` once."""
    started, before = time.perf_counter(), user_seconds()
    work()
    return Took(time.perf_counter() - started, user_seconds() - before)


def user_seconds() -> float:
    """User CPU time so far, of this process and its ended children."""
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def compared(
    name: str, other: str, work: Callable[[], Any], other_work: Callable[[], Any], count: int, rounds: int
) -> dict[str, float]:
    """Frames per second of both, and the speed of `name` as a share of that of `other`, in wall and in CPU time.

    Both run right after one another, in turn first, after one run each that does not count.
    """
    other_work(), work()
    pairs: list[tuple[Took, Took]] = []
    for turn in range(rounds):
        one, two = (work, other_work) if turn % 2 else (other_work, work)
        first, second = took(one), took(two)
        pairs.append((first, second) if turn % 2 else (second, first))
    tiny = 1e-6  # a clip of a few tiny pictures takes no CPU time that the clock shows
    return {
        f"{other}_fps": count / statistics.median(theirs.wall for _, theirs in pairs),
        f"{name}_fps": count / statistics.median(ours.wall for ours, _ in pairs),
        f"{name}_of_{other}": statistics.median(theirs.wall / ours.wall for ours, theirs in pairs),
        f"{name}_of_{other}_cpu": statistics.median((theirs.cpu + tiny) / (ours.cpu + tiny) for ours, theirs in pairs),
    }


def measure_media(config: Config, seconds: float, size: tuple[int, int], rounds: int, folder: Path) -> dict[str, Any]:
    """The way from file to file with nothing restored, in one run: beside ffmpeg, beside PyAV, and its memory in 4K.

    Raises:
        VideoclrError: a part cannot be built, or a file cannot be read or written.
    """
    source = folder / "media.mp4"
    count = write_clip(
        source, panning(size, max(1, round(seconds * RATE))), RATE, Generation(quality=20), Tone(), threads=os.cpu_count() or 1
    )
    unchanged = config.override("restore.use=unchanged", f"media.crf={CRF}", f"media.preset={PRESET}", "media.codec=h264")
    pipeline = Pipeline(unchanged)
    theirs, ours, through = (folder / f"{name}.mp4" for name in ("theirs", "ours", "through"))
    figures: dict[str, Any] = {"size": f"{size[0]}x{size[1]}", "frames": count, "crf": CRF, "preset": PRESET, "rounds": rounds}
    figures |= compared("reader", "pyav", lambda: read_frames(source), lambda: decode_bare(source), count, rounds)
    copy, transcode = (lambda: copy_frames(source, ours)), (lambda: ffmpeg_transcode(source, theirs))
    figures |= compared("reader_to_writer", "ffmpeg", copy, transcode, count, rounds)
    started = took(lambda: restore_video(source, through, overwrite=True, pipeline=pipeline))
    figures["pipeline_unchanged_fps"] = count / started.wall
    figures["rgb_conversions_per_frame"] = conversions(source, through, pipeline) / count
    figures |= measure_deep((2 * size[0], 2 * size[1]), folder) if Path("/proc/self/status").exists() else {}
    return figures


def below_floors(figures: dict[str, Any]) -> list[str]:
    """What of `--media` is not as promised: in wall time and in CPU time, whichever is better, since a machine is shared."""
    missed = []
    for name, floor in FLOORS.items():
        best = max(figures[name], figures[f"{name}_cpu"])
        if best < floor:
            missed.append(f"{name.replace('_', ' ')} is {best:.3f}, below {floor}")
    if figures.get("deep_peak_mib", 0) > DEEP_MIB:
        missed.append(f"4K 10-bit takes {figures['deep_peak_mib']:.0f} MiB, more than {DEEP_MIB}")
    if figures["rgb_conversions_per_frame"] > 1:
        missed.append(f"{figures['rgb_conversions_per_frame']:.2f} conversions to RGB per frame, more than one")
    return missed


def conversions(source: Path, target: Path, pipeline: Any) -> int:
    """How often a run turns a picture into RGB: once per frame at the most, since everybody shares it."""
    calls, original = [0], Picture.rgb

    def counted(self: Picture) -> NDArray[Any]:
        calls[0] += 1
        return original(self)

    Picture.rgb = counted  # type: ignore[method-assign]
    try:
        restore_video(source, target, overwrite=True, pipeline=pipeline)
    finally:
        Picture.rgb = original  # type: ignore[method-assign]
    return calls[0]


def measure_deep(size: tuple[int, int], folder: Path) -> dict[str, Any]:
    """Peak memory of a 10-bit video from reader to writer (ProRes) in a process of its own, in its first and second half.

    Raises:
        SystemExit: the process failed.
    """
    source, target = folder / "deep.mp4", folder / "deep.mov"
    rgb = av.VideoFrame.from_ndarray(gradient(*size, 0).astype(np.uint16) * np.uint16(257), "rgb48le")
    picture = Picture(rgb.reformat(format="yuv420p10le"))
    with Writer(source, codec="h264", preset="ultrafast", crf=20, overwrite=True) as writer:
        for index in range(DEEP_FRAMES):
            writer.write(Frame(index, index / RATE, picture))
    command = [sys.executable, __file__, "--copied", str(source), str(target)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmark: the watched copy failed with exit code {done.returncode}")
    first, second = json.loads(done.stdout)
    return {"deep_size": f"{size[0]}x{size[1]} 10-bit", "deep_peak_mib": max(first, second), "deep_growth_mib": second - first}


def copied(source: Path, target: Path) -> int:
    """The process whose memory is measured: both halves' peaks as a line of JSON."""
    peaks = []
    reset_peak()
    with Reader(source) as reader, Writer(target, like=reader, codec="prores") as writer:
        for index, frame in enumerate(reader.frames(), 1):
            writer.write(frame)
            if index in (DEEP_FRAMES // 2, DEEP_FRAMES):
                peaks.append(status_mib("VmHWM"))
                reset_peak()
    print(json.dumps(peaks))
    return 0


def read_frames(source: Path) -> None:
    """All frames by our reader."""
    with Reader(source) as reader:
        for _ in reader.frames():
            pass


def decode_bare(source: Path) -> None:
    """All frames by PyAV's own loop, with threads as the reader's."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in container.decode(stream):
            pass


def panning(size: tuple[int, int], count: int) -> Iterator[NDArray[np.uint8]]:
    """A texture that moves sideways: work for motion estimation, as in real footage."""
    width, height = size
    wide = textured(width + 2 * count, height, 1)
    for index in range(count):
        yield np.ascontiguousarray(wide[:, 2 * index : 2 * index + width])


def ffmpeg_transcode(source: Path, target: Path) -> None:
    """Decode and encode with the ffmpeg program that imageio-ffmpeg brings, sound copied.

    Raises:
        SystemExit: it is not installed, or it failed.
    """
    try:
        import ffmpeg
        import imageio_ffmpeg
    except ImportError:
        raise SystemExit("benchmark: needs the ffmpeg program; pip install 'videoclr[ffmpeg]'") from None
    asked = {"vcodec": "libx264", "crf": CRF, "preset": PRESET, "acodec": "copy", **x264_options()}
    stream = ffmpeg.input(str(source)).output(str(target), **asked)
    try:
        stream.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), overwrite_output=True, capture_stdout=True, capture_stderr=True)
    except ffmpeg.Error as error:
        raise SystemExit(f"benchmark: ffmpeg failed: {error.stderr.decode(errors='replace').strip()[-300:]}") from error


def copy_frames(source: Path, target: Path) -> None:
    """Reader to Writer, nothing between."""
    with Reader(source) as reader, Writer(target, like=reader, codec="h264", crf=CRF, preset=PRESET, overwrite=True) as writer:
        for frame in reader.frames():
            writer.write(frame)


# -- memory -----------------------------------------------------------------------------------------------------------


def measure_memory(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run `restore_video` on a long clip in a process of its own: peak resident memory in every `options.every` s of film.

    Raises:
        SystemExit: this is no Linux, or the run failed.
    """
    if not Path("/proc/self/status").exists():
        raise SystemExit("benchmark: --memory reads /proc/self/status, which only Linux has")
    source, target = folder / "long.mp4", folder / f"long_restored.{options.container}"
    minutes, size = options.memory, options.size
    count = round(minutes * 60 * options.rate)
    quick = Generation(quality=23, gop=250, preset="ultrafast", b_frames=0)
    write_clip(
        source, long_film(size, count, options.appear, options.nth), options.rate, quick, Tone(), threads=os.cpu_count() or 1
    )
    given = [item for setting in options.settings for item in ("--set", setting)] + ["--resume"] * options.resume
    given += ["--every", str(options.every), "--rate", str(options.rate)]
    command = [sys.executable, __file__, "--watched", str(source), str(target), *given]
    started = time.perf_counter()
    rows: list[dict[str, Any]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            row = json.loads(line)
            rows.append(row)
            print(
                f"  {row['film_s'] / 60:6.2f} min of film  peak {row['peak_mib']:7.1f} MiB  {row['faces']:5d} faces",
                flush=True,
            )
    if child.returncode:
        raise SystemExit(f"benchmark: the watched run failed with exit code {child.returncode}")
    peaks = [row["peak_mib"] for row in rows]
    early = [row["peak_mib"] for row in rows if row["film_s"] <= EARLY] or peaks[:1]
    end = rows[-1]  # the report is made: the tracks of the whole film in it
    return {
        "minutes": minutes,
        "size": f"{size[0]}x{size[1]}",
        "film_fps": float(options.rate),
        "resume": options.resume,
        "container": options.container,
        "faces": end["faces"],
        "tracks": end["tracks"],
        "shots": end["shots"],
        "frames_per_s": count / (time.perf_counter() - started),
        "peak_mib_by_interval": peaks,
        "peak_mib": max(peaks),
        "growth_after_first_mib": max(peaks[1:], default=peaks[0]) - peaks[0],
        "peak_mib_of_the_first_5_min": max(early),
        "peak_mib_after_that": max((row["peak_mib"] for row in rows if row["film_s"] > EARLY), default=max(early)),
        "resident_mib_after_5_min": [row["resident_mib"] for row in rows if row["film_s"] <= EARLY or row is rows[0]][-1],
        "resident_mib_at_the_end": end["resident_mib"],
        "growth_of_the_peak": max(peaks) / max(early) - 1,
    }


def measure_deep_faces(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the command line on 4K 10-bit 4:2:2 (ProRes) with a face in every frame: peak and resident memory as time goes.

    Raises:
        SystemExit: this is no Linux, or the run failed.
    """
    if not Path("/proc/self/status").exists():
        raise SystemExit("benchmark: --memory reads /proc/self/status, which only Linux has")
    source, target, size = folder / "deep.mov", folder / "restored.mov", (2 * options.size[0], 2 * options.size[1])
    count = max(1, round(options.seconds * RATE))
    wall = gradient(*size, 0)
    with Writer(source, codec="prores", overwrite=True) as writer:
        for index in range(count):
            rgb = av.VideoFrame.from_ndarray(with_face(wall, index).astype(np.uint16) * np.uint16(257), "rgb48le")
            writer.write(Frame(index, index / RATE, Picture(rgb.reformat(format="yuv422p10le"))))
    given = [item for setting in options.settings for item in ("--set", setting)]
    report = folder / "report.json"
    command = [sys.executable, "-m", "videoclr", str(source), str(target), "--report", str(report), "--quiet", *given]
    started = time.monotonic()
    rows: list[tuple[float, float, float]] = []
    with subprocess.Popen(command) as child:
        while child.poll() is None:
            with suppress(OSError, SystemExit):  # it has ended in between
                rows.append((time.monotonic() - started, status_mib("VmHWM", child.pid), status_mib("VmRSS", child.pid)))
            time.sleep(_LOOK)
    if child.returncode or not rows:
        raise SystemExit(f"benchmark: the watched run failed with exit code {child.returncode}")
    for seconds, peak, resident in rows[:: max(1, len(rows) // _LINES)]:
        print(f"  {seconds:6.1f} s  peak {peak:7.1f} MiB  resident {resident:7.1f} MiB")
    said = json.loads(report.read_text(encoding="utf-8"))
    return {
        "size": f"{size[0]}x{size[1]} yuv422p10le",
        "frames": said["frames_out"],
        "faces": said["faces_restored"],
        "frames_per_s": said["frames_out"] / said["seconds"],
        "peak_mib": rows[-1][1],
        "peak_mib_of_the_first_half": rows[len(rows) // 2][1],
    }


_LOOK = 0.1
"""Seconds from one look at a process to the next."""
_LINES = 20
"""Printed of such looks."""


def long_film(
    size: tuple[int, int], count: int, appear: float | None = None, nth: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """A gradient that changes once a second, with a face for two seconds now and then.

    Args:
        size: width and height.
        count: frames.
        appear: seconds from one face to the next, with a cut half-way. None: near beginning, middle and end, and no cut.
        nth: a face in every so many frames instead, in that one alone, and no cut.
    """
    width, height = size
    if nth is not None:
        base = gradient(width, height, 0)
        face = with_face(base, 0)
        yield from (face if index % nth == nth // 2 else base for index in range(count))
        return
    second = round(RATE)
    period = count if appear is None else max(1, round(appear * RATE))
    shown = [round(period * part) for part in ((0.03, 0.5, 0.88) if appear is None else (0.25,))]
    long = max(1, min(2 * second, period // 10))
    base = gradient(width, height, 0)
    for index in range(count):
        if index % second == 0 or (appear is not None and (index + period // 2) % period == 0):
            base = gradient(width, height, index // second)
            if appear is not None and (index + period // 2) // period % 2:
                base = base[:, ::-1]
        since = next((index % period - start for start in shown if start <= index % period < start + long), None)
        yield base if since is None else with_face(base, since)


def gradient(width: int, height: int, second: int) -> NDArray[np.uint8]:
    """A wall whose light changes slowly."""
    across = np.linspace(60, 150, width, dtype=np.float32)[None, :, None]
    down = np.linspace(0, 40, height, dtype=np.float32)[:, None, None]
    tint = np.array([1.0, 0.97, 0.92], np.float32) * np.float32(1 + 0.15 * np.sin(second / 9))
    return np.clip((across + down) * tint, 0, 255).astype(np.uint8)


_PORTRAITS: dict[int, NDArray[np.uint8]] = {}


def with_face(base: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """The public-domain portrait that scikit-image ships, sliding over `base`.

    Raises:
        SystemExit: scikit-image is not installed.
    """
    height, width = base.shape[:2]
    side = height * 2 // 3
    if side not in _PORTRAITS:
        try:
            from skimage import data
        except ImportError:
            raise SystemExit("benchmark: --memory needs scikit-image's portrait; pip install 'videoclr[samples]'") from None
        whole = np.ascontiguousarray(data.astronaut()[:300, 75:375])
        _PORTRAITS[side] = np.asarray(cv2.resize(whole, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    picture = base.copy()
    left = min(width - side, width // 4 + 2 * step)
    picture[height - side :, left : left + side] = _PORTRAITS[side]
    return picture


def watched(source: Path, target: Path, every: float, rate: Fraction, config: Config, resume: bool) -> int:
    """The process whose memory is measured: a line of JSON on standard output for every `every` seconds of film and the end."""
    reset_peak()
    last = 0.0

    def say(film: float, faces: int, **more: int) -> None:
        resident, peak = status_mib("VmRSS"), status_mib("VmHWM")
        print(json.dumps({"film_s": film, "peak_mib": peak, "resident_mib": resident, "faces": faces} | more), flush=True)
        reset_peak()

    def report(progress: Any) -> None:
        nonlocal last
        film = float(progress.frames / rate)
        if film - last >= every:
            say(film, progress.faces)
            last = film

    done = restore_video(source, target, config, overwrite=True, progress=report, resume=resume)
    say(float(done.frames_out / rate), done.faces_restored, tracks=len(done.tracks), shots=done.shots)
    return 0


def status_mib(name: str, process: int | str = "self") -> float:
    """What /proc/PID/status says, MiB: `VmRSS` is resident now, `VmHWM` was at most since `reset_peak`."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"benchmark: /proc/self/status has no {name}")


def reset_peak() -> None:
    """Set the peak back to what is resident now (Linux: `5` into clear_refs, see proc(5))."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


# -- command line -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print; 0 done, 1 failed, 2 wrong usage."""
    options = parsed(arguments)
    try:
        config = Config().override(*options.settings)
        if options.watched:
            source, target = options.watched
            return watched(source, target, options.every, options.rate, config, options.resume)
        if options.copied:
            return copied(*options.copied)
        results: dict[str, Any] = {"machine": machine()}
        show("machine", results["machine"])
        with tempfile.TemporaryDirectory(prefix="videoclr-benchmark-", dir=options.work) as work:
            measure(options, config, Path(work), results)
        missed = below_floors(results["media"]) if options.floors and options.media else []
        if options.floors and options.memory:
            missed += beyond(results["memory"])
        if options.json:
            options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    except (VideoclrError, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    for text in missed:
        print(f"benchmark: {text}", file=sys.stderr)
    return 1 if missed else 0


def beyond(figures: dict[str, Any]) -> list[str]:
    """What of `--memory` is not as promised: how much large pictures take, how much a long film adds."""
    growth = figures.get("growth_of_the_peak")
    if growth is None:
        peak = figures["peak_mib"]
        return [f"4K 10-bit with faces takes {peak:.0f} MiB, more than {DEEP_MIB}"] if peak > DEEP_MIB else []
    return [f"the peak grew by {growth:.1%}; at most {GROWTH:.0%} is promised"] if growth > GROWTH else []


def measure(options: argparse.Namespace, config: Config, work: Path, results: dict[str, Any]) -> None:
    """Do what was asked for, showing each result as it comes."""
    if options.speed:
        results["speed"] = measure_speed(config, options.threads, options.repeat)
        show("speed", results["speed"])
    if options.media:
        results["media"] = measure_media(config, options.seconds, options.size, options.repeat, work)
        show("media", results["media"])
    if options.memory:
        print("memory")
        results["memory"] = (measure_deep_faces if options.memory == DEEP else measure_memory)(options, work)
        show("memory", {key: value for key, value in results["memory"].items() if key != "peak_mib_by_interval"})


def show(title: str, figures: dict[str, Any]) -> None:
    """Print a block of figures."""
    print(title)
    for name, value in figures.items():
        print(f"  {name.replace('_', ' '):44} {f'{value:.3f}' if isinstance(value, float) else value}", flush=True)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="Measure speed, media path and memory on this machine.")
    parser.add_argument("--speed", action="store_true", help="seconds per face, milliseconds per detection")
    parser.add_argument("--media", action="store_true", help="frames/s of the media path beside ffmpeg")
    parser.add_argument("--memory", type=minutes_of, metavar="MINUTES", help=f"peak memory over so many minutes, or {DEEP}")
    parser.add_argument("--threads", type=integer(1), default=1, help="of torch, for --speed (default: 1)")
    parser.add_argument("--repeat", type=integer(1), default=5, help="runs of which the median counts (default: 5)")
    parser.add_argument(
        "--seconds", type=real(above=0), default=10, help=f"length of the clip of --media and of --memory {DEEP} (default: 10)"
    )
    parser.add_argument("--size", type=size_of, default=(1920, 1080), help="WxH of the clips (default: 1920x1080)")
    parser.add_argument("--every", type=real(above=0), default=60, help="seconds of film between two lines of --memory")
    parser.add_argument(
        "--appear", type=real(above=0), metavar="SECONDS", help="a face and a cut in --memory's clip every so often"
    )
    parser.add_argument(
        "--nth", type=integer(1), metavar="FRAMES", help="a face in every so many frames of --memory's clip, and no cut"
    )
    parser.add_argument("--rate", type=rate_of, default=RATE, help="frames a second of --memory's clip (default: 25)")
    parser.add_argument("--container", default="mkv", help="that --memory's clip is written to (default: mkv; mp4 keeps an index)")
    parser.add_argument("--resume", action="store_true", help="run --memory's clip as `videoclr --resume` would")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE", help="a setting")
    parser.add_argument("--work", type=Path, help="folder for the temporary clips (default: the system's)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--floors", action="store_true", help="exit 1 where less is found than is promised")
    parser.add_argument("--copied", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--watched", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not (options.speed or options.media or options.memory or options.watched or options.copied):
        parser.error("nothing to measure: give --speed, --media or --memory MINUTES")
    if options.appear is not None and options.nth is not None:
        parser.error("--appear and --nth are two films: give one of them")
    return options


def minutes_of(text: str) -> float | str:
    """A number of minutes, or the name of the other film."""
    if text == DEEP:
        return text
    try:
        return real(above=0)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; or {DEEP}") from None


def size_of(text: str) -> tuple[int, int]:
    """`1920x1080` as numbers; both even, for 4:2:0."""
    width, _, height = text.partition("x")
    try:
        size = int(width), int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT") from None
    if min(size) < 64 or size[0] % 2 or size[1] % 2:
        raise argparse.ArgumentTypeError(f"{text!r}: sides must be even and at least 64")
    return size


if __name__ == "__main__":
    raise SystemExit(main())
