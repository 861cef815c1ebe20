"""Pictures through a real, lossy encoder: in memory for degradations, or into a file for samples and benchmarks.

This is not how a restored video is written (`videoclr.media.writer` does that, from native pictures). Here whole RGB
pictures go in, and the point is what an encoder does to them: `round_trip` gives back what a viewer would have seen,
`write_clip` makes a clip out of nothing. Every encoder runs on one thread unless asked otherwise, because x264's and
x265's rate control depends on the number of threads and the same seed must make the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

from videoclr.errors import EncodeError
from videoclr.media.encoders import small_params, x264_options

CodecName = Literal["h264", "hevc", "mpeg2", "mpeg4"]

_ENCODERS = {"h264": "libx264", "hevc": "libx265", "mpeg2": "mpeg2video", "mpeg4": "mpeg4"}
_DECODERS = {"h264": "h264", "hevc": "hevc", "mpeg2": "mpeg2video", "mpeg4": "mpeg4"}
_MPEG2_RATES = frozenset(map(Fraction, (24, 25, 30, 50, 60))) | {Fraction(rate * 1000, 1001) for rate in (24, 30, 60)}
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
"""swscale's default rounds down: a round trip through YUV then darkens the picture by one code value."""
_SMALLEST = 32
"""Pixels: x265 refuses pictures smaller than its smallest coding tree unit allows."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One pass through an encoder; give `bit_rate` or `quality`.

    Raises:
        ValueError: an unknown codec, or not exactly one of `bit_rate` and `quality`.
    """

    codec: CodecName = "h264"
    """Encoder family."""
    bit_rate: int | None = None
    """Bits per second."""
    quality: float | None = None
    """Constant quality: crf 0..51 of `h264` and `hevc`, quantiser 1..31 of `mpeg2` and `mpeg4`; less is better."""
    gop: int = 48
    """Frames from one key frame to the next, at most."""
    b_frames: int = 2
    """Bidirectional frames in a row, at most."""
    preset: str = "veryfast"
    """Speed preset of `h264` and `hevc`."""

    def __post_init__(self) -> None:
        if self.codec not in _ENCODERS:
            raise ValueError(f"codec {self.codec!r}: expected one of {', '.join(_ENCODERS)}")
        if (self.bit_rate is None) == (self.quality is None):
            raise ValueError("give either bit_rate or quality")


@dataclass(frozen=True, slots=True)
class Tone:
    """A soft three-note chord that swells once a second: something to hear whether sound and picture stay together."""

    frequency: float = 220.0
    """Hertz of the lowest note."""
    sample_rate: int = 48000
    """Samples per second."""
    level: float = 0.12
    """Peak amplitude, 0..1."""

    def samples(self, first: int, count: int) -> NDArray[np.float32]:
        """`(2, count)` float32 in [-1, 1], from sample `first` on: left and right, a few hertz apart."""
        seconds = (first + np.arange(count)) / self.sample_rate
        swell = 0.55 + 0.45 * np.cos(2 * np.pi * seconds)
        channels = [
            sum(np.sin(2 * np.pi * self.frequency * ratio * detune * seconds) for ratio in (1.0, 1.25, 1.5)) / 3
            for detune in (1.0, 1.004)
        ]
        mixed: NDArray[np.float32] = (self.level * swell * np.stack(channels)).astype(np.float32)
        return mixed


def round_trip(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], generation: Generation, rate: Fraction = Fraction(25)
) -> NDArray[np.uint8]:
    """What is left of `images` after one encoding.

    Args:
        images: `(T, H, W, 3)` RGB uint8, all of one size. Sizes that the encoder cannot take (odd, or smaller than
            32 pixels) are padded with their border and cut back afterwards.
        generation: the encoder.
        rate: frames per second; only the bit rate depends on it.

    Returns:
        `(T, H, W, 3)` RGB uint8, 4:2:0 and BT.601 in between.

    Raises:
        ValueError: no images.
        EncodeError: the encoder refused.
    """
    if len(images) == 0:
        raise ValueError("round_trip: no images")
    height, width = images[0].shape[:2]
    padded = [_pad(image) for image in images]
    try:
        encoder = _encoder(generation, padded[0].shape[1], padded[0].shape[0], rate, threads=1)
        decoder: Any = av.CodecContext.create(_DECODERS[generation.codec], "r")
        decoder.thread_count = 1
        shown: list[NDArray[np.uint8]] = []
        for packet in _packets(encoder, padded, "bt601"):
            shown += [_rgb(frame) for frame in decoder.decode(packet)]
        shown += [_rgb(frame) for frame in decoder.decode(None)]
    except av.error.FFmpegError as error:
        raise EncodeError("-", f"{generation.codec} cannot encode {width}x{height} at {rate} fps ({error})") from error
    if len(shown) != len(images):
        raise EncodeError("-", f"{generation.codec} gave {len(shown)} pictures back for {len(images)}")
    return np.stack([image[:height, :width] for image in shown])


def write_clip(
    path: str | Path,
    images: Iterable[NDArray[np.uint8]],
    rate: Fraction,
    generation: Generation,
    tone: Tone | None = None,
    threads: int = 1,
) -> int:
    """Encode `images` into a new file, with `tone` as a stereo AAC track; returns the number of frames.

    Args:
        path: the file; its ending chooses the container. An existing file is replaced.
        images: `(H, W, 3)` RGB uint8, H and W even, one after another; they may come from a generator. The same object
            twice in a row is the same picture and converted once: do not yield one buffer with new contents.
        rate: frames per second.
        generation: the encoder. The matrix is BT.601 below 720 lines, BT.709 from there on, and tagged.
        tone: the sound, as long as the pictures; None for a silent file without audio stream.
        threads: of the encoder. More than one is faster and may change bytes from machine to machine.

    Raises:
        ValueError: no images, or an odd size.
        EncodeError: the file cannot be written or the encoder refused.
    """
    pictures = iter(images)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"{path}: no images to write")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"{path}: 4:2:0 needs even sides, got {width}x{height}")
    try:
        with av.open(str(path), "w") as container:
            return _mux(container, _chain(first, pictures), (width, height), rate, generation, tone, threads)
    except (av.error.FFmpegError, OSError) as error:
        Path(path).unlink(missing_ok=True)
        raise EncodeError(path, f"cannot be written as {generation.codec} ({error})") from error


def _mux(
    container: Any,
    images: Iterator[NDArray[np.uint8]],
    size: tuple[int, int],
    rate: Fraction,
    generation: Generation,
    tone: Tone | None,
    threads: int,
) -> int:
    """Encode and interleave; the sound is kept level with the pictures so that the muxer buffers nothing."""
    matrix = "bt709" if size[1] >= 720 else "bt601"
    video = container.add_stream(_ENCODERS[generation.codec], rate=rate)
    _configure(video.codec_context, generation, *size, rate, threads)
    _tag(video.codec_context, matrix)
    sound = None
    if tone is not None:
        sound = container.add_stream("aac", rate=tone.sample_rate, layout="stereo")
        sound.bit_rate = 128_000
    heard = count = 0
    shown: NDArray[np.uint8] | None = None
    picture: Any = None
    for count, image in enumerate(images, 1):
        if image is not shown:
            shown, picture = image, _picture(image, count - 1, rate, matrix)
        picture.pts = count - 1
        container.mux(video.encode(picture))
        if tone is not None:
            heard = _play(container, sound, tone, heard, round(count * tone.sample_rate / rate))
    container.mux(video.encode(None))
    if sound is not None:
        container.mux(sound.encode(None))
    return count


def _play(container: Any, stream: Any, tone: Tone, start: int, stop: int) -> int:
    """Encode the samples from `start` to `stop`; returns `stop`."""
    frame: Any = av.AudioFrame.from_ndarray(tone.samples(start, stop - start), format="fltp", layout="stereo")
    frame.sample_rate = tone.sample_rate
    frame.pts = start
    frame.time_base = Fraction(1, tone.sample_rate)
    container.mux(stream.encode(frame))
    return stop


def _chain(first: NDArray[np.uint8], rest: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    yield first
    yield from rest


def _encoder(generation: Generation, width: int, height: int, rate: Fraction, threads: int) -> Any:
    context: Any = av.CodecContext.create(_ENCODERS[generation.codec], "w")
    if generation.codec == "mpeg2" and rate not in _MPEG2_RATES:
        # MPEG-2 knows eight frame rates. In memory only bits per frame count, so it is called 25.
        if generation.bit_rate is not None:
            generation = replace(generation, bit_rate=int(generation.bit_rate * 25 / rate))
        rate = Fraction(25)
    _configure(context, generation, width, height, rate, threads)
    return context


def _configure(context: Any, generation: Generation, width: int, height: int, rate: Fraction, threads: int) -> None:
    """Set everything that an encoder must know before its first picture."""
    context.width, context.height = width, height
    context.pix_fmt = "yuv420p"
    context.framerate = rate
    context.time_base = 1 / rate
    context.thread_count = threads
    context.gop_size = generation.gop
    context.max_b_frames = generation.b_frames
    if generation.bit_rate is not None:
        context.bit_rate = generation.bit_rate
        # FFmpeg's default tolerance of 4 Mbit/s would let MPEG-2 ignore a low target altogether.
        context.bit_rate_tolerance = max(generation.bit_rate // 4, int(generation.bit_rate / rate) + 1)
    context.options = _options(generation, threads, (width, height))


def _options(generation: Generation, threads: int, size: tuple[int, int]) -> dict[str, str]:
    if generation.codec in ("mpeg2", "mpeg4"):
        # `-qscale` needs AVFrame.quality, which PyAV does not show; a range of one quantiser is the same thing.
        quantiser = None if generation.quality is None else str(min(31, max(1, round(generation.quality))))
        return {"qmin": quantiser or "2", "qmax": quantiser or "31"}
    options = {"preset": generation.preset}
    if generation.quality is not None:
        options["crf"] = str(generation.quality)
    if generation.codec == "h264":
        options |= x264_options()
    if generation.codec == "hevc":
        pools = "none" if threads == 1 else str(threads)
        options["x265-params"] = f"log-level=none:frame-threads={threads}:pools={pools}:bframes={generation.b_frames}"
        options["x265-params"] = ":".join([options["x265-params"], *small_params("libx265", size)])
    return options


def _tag(context: Any, matrix: str) -> None:
    """Write down the colours: ITU-T H.273 numbers, 1 for BT.709 and 6 for SMPTE 170M (BT.601, 525 lines)."""
    number = 1 if matrix == "bt709" else 6
    context.colorspace = number
    context.color_primaries = number
    context.color_trc = number
    context.color_range = 1


def _packets(encoder: Any, images: Sequence[NDArray[np.uint8]], matrix: str) -> Iterator[Any]:
    rate = Fraction(encoder.framerate)
    for index, image in enumerate(images):
        yield from encoder.encode(_picture(image, index, rate, matrix))
    yield from encoder.encode(None)


def _picture(image: NDArray[np.uint8], index: int, rate: Fraction, matrix: str) -> Any:
    space = Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601
    frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame = frame.reformat(
        format="yuv420p",
        dst_colorspace=space,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=_EXACT,
    )
    frame.pts = index
    frame.time_base = 1 / rate
    return frame


def _rgb(frame: Any) -> NDArray[np.uint8]:
    out: Any = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_EXACT,
    ).to_ndarray()
    return np.asarray(out, np.uint8)


def _pad(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the right and lower border until both sides are even and large enough for every encoder."""
    height, width = image.shape[:2]
    below, right = (max(side + side % 2, _SMALLEST) - side for side in (height, width))
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
