"""Tiny clips that the tests of `videoclr.media` make for themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

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
    audio: int = 0,
    subtitles: bool = False,
    options: dict[str, str] | None = None,
    container: str | None = None,
    muxing: dict[str, str] | None = None,
    setup: Callable[[Any, Any], None] = lambda container, stream: None,
) -> Path:
    """A clip whose frames have the presentation times `ticks * base`, with `audio` AAC streams and SRT subtitles."""
    with av.open(str(path), "w", format=container, container_options=muxing or {}) as out:
        video = out.add_stream(codec, rate=25, options=options or {}, time_base=base)
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
    frame = frame.reformat(format=video.pix_fmt, interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND)
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
