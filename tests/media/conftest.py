"""Tiny clips that the tests of `videoclr.media` make for themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

Clip = Callable[..., Path]


def pattern(index: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A coloured, textured RGB picture that differs from frame to frame."""
    y, x = np.mgrid[0:height, 0:width]
    red = 60 + 120 * x / width
    green = 128 + 60 * np.sin((x + 3 * index) / 5)
    blue = 60 + 120 * y / height
    return np.stack([red, green, blue], -1).astype(np.uint8)


def make_clip(
    path: Path,
    *,
    ticks: Sequence[int] = tuple(range(10)),
    base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (96, 64),
    rotation: int = 0,
    rate: Fraction | int = 25,
    audio: int = 0,
    subtitles: bool = False,
    options: dict[str, str] | None = None,
    container: str | None = None,
    muxing: dict[str, str] | None = None,
    setup: Callable[[Any, Any], None] = lambda container, stream: None,
) -> Path:
    """A clip whose frames have the presentation times `ticks * base`, with `audio` AAC streams and SRT subtitles."""
    with av.open(str(path), "w", format=container, container_options=muxing or {}) as out:
        video = out.add_stream(codec, rate=rate, options=options or {}, time_base=base)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        if rotation:
            video.set_display_rotation(rotation)
        sounds = [out.add_stream("aac", rate=8000) for _ in range(audio)]
        words = out.add_mux_stream("subrip", time_base=Fraction(1, 1000)) if subtitles else None
        setup(out, video)
        packets = [packet for index, tick in enumerate(ticks) for packet in video.encode(_frame(index, tick, base, video))]
        packets += video.encode(None)
        for number, sound in enumerate(sounds):
            packets += list(_tone(sound, float(ticks[-1] * base) + 0.04, 300 + 200 * number))
        if words is not None:
            packets += list(_captions(words))
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            out.mux(packet)
    return path


def _frame(index: int, tick: int, base: Fraction, video: Any) -> VideoFrame:
    frame = VideoFrame.from_ndarray(pattern(index, video.width, video.height), "rgb24")
    way = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
    frame = VideoReformatter().reformat(frame, format=video.pix_fmt, interpolation=way, threads=1)  # starting more takes long
    frame.pts, frame.time_base = tick, base
    return frame


def _tone(stream: Any, seconds: float, pitch: int) -> Iterator[Any]:
    time = np.arange(round(seconds * 8000)) / 8000
    wave = (0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)
    for start in range(0, len(wave), 1024):
        piece = np.repeat(wave[None, start : start + 1024], 2, axis=0)
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _captions(stream: Any) -> Iterator[Any]:
    for start, text in ((0, b"one"), (160, b"two")):
        packet = av.Packet(text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = start
        packet.duration = 120
        yield packet


def packets_of(path: Path, kind: str) -> list[list[tuple[bytes, Fraction]]]:
    """Per stream of `kind`: every packet's bytes and presentation time."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        found: dict[int, list[tuple[bytes, Fraction]]] = {stream.index: [] for stream in streams}
        for packet in container.demux(*streams) if streams else ():
            if packet.size:
                found[packet.stream_index].append((bytes(packet), packet.pts * packet.time_base))
    return list(found.values())


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    """`clip("name.mp4", **settings)` makes a clip below the test's own folder."""
    return lambda name, **settings: make_clip(tmp_path / name, **settings)


@pytest.fixture(scope="session", name="packets_of")
def _packets_of() -> Callable[[Path, str], list[list[tuple[bytes, Fraction]]]]:
    return packets_of


@pytest.fixture(scope="session", name="pattern")
def _pattern() -> Callable[..., np.ndarray]:
    return pattern


class Here:
    """A detector that finds one face in the same place of every picture, or none; keeps what it was shown."""

    shape = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.22], [0.15, 0.22]], np.float32)

    def __init__(self, centre: tuple[float, float] | None, size: float) -> None:
        self.centre, self.size = centre, size
        self.seen: list[np.ndarray] = []

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Any]]:
        from videoclr.types import Detection

        self.seen += images
        if self.centre is None:
            return [[] for _ in images]
        middle, half = np.array(self.centre, np.float32), self.size / 2
        box = np.concatenate([middle - half, middle + half]).astype(np.float32)
        return [[Detection(box, self.shape * self.size + middle, 0.99)] for _ in images]


class Nobody:
    """A cut detector that sees none."""

    def is_cut(self, frame: Any) -> bool:
        return False


class Brighter:
    """A restorer that adds light (on the scale of [-1, 1]) to the face."""

    size = 64

    def __init__(self, light: float) -> None:
        self.light = light

    def restore(self, crops: Sequence[Any], memory: dict[int, Any]) -> Any:
        import torch

        return torch.stack([crop.image for crop in crops]) + self.light


def run_job(
    source: Path,
    target: Path,
    *,
    face: tuple[float, float] | None = None,
    size: float = 24,
    light: float | None = None,
    seen: list[np.ndarray] | None = None,
    **media: Any,
) -> Any:
    """The report of `videoclr.jobs.restore_video` with a detector that knows, and the restorer `unchanged` or a brighter one."""
    from videoclr.config import Config
    from videoclr.jobs import restore_video
    from videoclr.parts.unchanged import Unchanged
    from videoclr.pipeline import Pipeline

    config = Config.of({"media": media, "blend": {"match_color": False}, "gate": {"use": "none"}, "align": {"smoothing": 0}})
    detector = Here(face, size)
    restorer = Unchanged(64) if light is None else Brighter(light)
    line = Pipeline(config, make_cut_detector=Nobody, detector=detector, recognizer=None, restorer=restorer)
    report = restore_video(source, target, pipeline=line)
    if seen is not None:
        seen += detector.seen
    return report


def side_data(path: Path) -> list[dict[str, bytes]]:
    """Kind -> bytes of the side data of every frame, in order of presentation."""
    with av.open(str(path)) as container:
        return [{item.type.name: bytes(item) for item in iter(frame.side_data)} for frame in container.decode(video=0)]


def samples_of(frame: VideoFrame) -> list[np.ndarray]:
    """Copies of the components of a picture, `(h, w)` each, alpha left out."""
    from videoclr.media.layout import layout_of

    layout = layout_of(frame.format.name)
    assert layout is not None
    return [layout.view(frame, index).copy() for index in range(len(layout.places))]


def frames_of(path: Path) -> list[VideoFrame]:
    """All decoded pictures."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.fixture(scope="session", name="job")
def _job() -> Callable[..., Any]:
    return run_job


@pytest.fixture(scope="session", name="side_data")
def _side_data() -> Callable[[Path], list[dict[str, bytes]]]:
    return side_data


@pytest.fixture(scope="session", name="frames_of")
def _frames_of() -> Callable[[Path], list[VideoFrame]]:
    return frames_of


@pytest.fixture(scope="session", name="samples_of")
def _samples_of() -> Callable[[VideoFrame], list[np.ndarray]]:
    return samples_of


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The ffmpeg program that imageio-ffmpeg brings; a test that needs it is skipped without."""
    return pytest.importorskip("imageio_ffmpeg", reason="needs the extra ffmpeg (imageio-ffmpeg)").get_ffmpeg_exe()


@pytest.fixture(scope="session")
def carry() -> Callable[..., Any]:
    """`carry(source, target, "media.codec=ffv1", ...)`: a job that finds no face and restores nothing, with these settings."""

    def run(source: Path, target: Path, *settings: str) -> Any:
        from videoclr.config import Config
        from videoclr.jobs import restore_video
        from videoclr.parts.unchanged import Unchanged
        from videoclr.pipeline import Pipeline

        quick = [] if any("media.codec" in one for one in settings) else ["media.preset=ultrafast"]
        config = Config().override("restore.use=unchanged", "gate.use=none", *quick, *settings)
        line = Pipeline(config, detector=Here(None, 24), recognizer=None, restorer=Unchanged(64))
        return restore_video(source, target, pipeline=line)

    return run


@pytest.fixture(scope="session")
def made(ffmpeg: str) -> Callable[..., None]:
    """`made("-i", path, ..., target)`: a file by FFmpeg's own program, where PyAV cannot make it."""

    def run(*arguments: object) -> None:
        subprocess.run([ffmpeg, "-v", "error", "-nostdin", *map(str, arguments)], check=True)

    return run


@dataclass(frozen=True)
class Facts:
    """What a file says about one stream, and its packets: bytes, presentation time, duration, kinds of side data."""

    index: int
    type: str
    codec: str
    tags: dict[str, str]
    disposition: Disposition
    packets: list[tuple[bytes, Fraction | None, Fraction, tuple[str, ...]]]

    @property
    def payloads(self) -> list[bytes]:
        return [packet[0] for packet in self.packets]

    @property
    def times(self) -> list[Fraction | None]:
        return [packet[1] for packet in self.packets]


@pytest.fixture(scope="session")
def facts() -> Callable[[Path], list[Facts]]:
    """What ffprobe would tell of every stream."""

    def look(path: Path) -> list[Facts]:
        with av.open(str(path)) as container:
            found = []
            for one in container.streams:
                codec = one.codec_context.codec.canonical_name if one.codec_context else str(getattr(one, "name", None))
                found.append(Facts(one.index, one.type, codec, dict(one.metadata), one.disposition, []))
            for packet in container.demux():
                if packet.size:
                    time = None if packet.pts is None else packet.pts * packet.time_base
                    kinds = tuple(side.data_type for side in packet.iter_sidedata())
                    facts = (bytes(packet), time, (packet.duration or 0) * packet.time_base, kinds)
                    found[packet.stream_index].packets.append(facts)
        return found

    return look


class CommandLine:
    """Runs `videoclr ARGUMENTS` in a process of its own that costs no imports; see forking.py."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).with_name("forking.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def start(self, folder: Path, *arguments: object, stdin: Path | None = None, stdout: Path | None = None) -> None:
        """Begin a run whose standard error goes to `folder`/stderr."""
        files = {
            "0": [str(stdin or os.devnull), os.O_RDONLY],
            "1": [str(stdout or os.devnull), os.O_WRONLY | os.O_CREAT],
            "2": [str(folder / "stderr"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC],
        }
        job = {"arguments": [str(one) for one in arguments], "folder": str(folder), "files": files}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def wait(self, folder: Path) -> tuple[int, str]:
        """Exit code (negative: the signal that killed it) and standard error of the run that was begun."""
        assert self.process.stdout is not None
        code = int(self.process.stdout.readline())
        error = (folder / "stderr").read_text()
        (folder / "stderr").unlink()
        return code, error

    def __call__(self, folder: Path, *arguments: object, **pipes: Path | None) -> tuple[int, str]:
        """Run and wait."""
        self.start(folder, *arguments, **pipes)
        return self.wait(folder)


@pytest.fixture(scope="session")
def videoclr() -> Iterator[CommandLine]:
    """`videoclr(folder, "in.mp4", "out.mp4")` -> exit code and standard error."""
    line = CommandLine()
    yield line
    assert line.process.stdin is not None
    line.process.stdin.close()
    line.process.wait(60)
