"""Encoding round trips and generated clips."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from videoclr.errors import EncodeError
from videoclr.media.recode import Generation, Tone, round_trip, write_clip


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Ten frames, 60 x 74, of a smooth moving pattern that 4:2:0 hardly hurts."""
    noise = np.random.default_rng(5).normal(size=(90, 110, 3))
    wide = np.clip(128 + 1200 * cv2.GaussianBlur(noise, (0, 0), 6), 0, 255).astype(np.uint8)
    return np.stack([wide[step : step + 60, 2 * step : 2 * step + 74] for step in range(10)])


def error(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).mean())


@pytest.mark.parametrize(("codec", "good", "bad"), [("h264", 4, 42), ("hevc", 4, 42), ("mpeg2", 2, 28), ("mpeg4", 2, 28)])
def test_good_quality_stays_close_and_bad_quality_does_not(codec, good: float, bad: float, clip: np.ndarray) -> None:
    close, far = (round_trip(clip, Generation(codec, quality=quality)) for quality in (good, bad))
    assert close.shape == clip.shape and close.dtype == np.uint8
    assert error(close, clip) < 3 < error(far, clip)


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2", "mpeg4"])
def test_a_lower_bit_rate_is_worse(codec, clip: np.ndarray) -> None:
    rich, poor = (round_trip(clip, Generation(codec, bit_rate=rate)) for rate in (2_000_000, 30_000))
    assert error(poor, clip) > error(rich, clip)


def test_the_same_pictures_make_the_same_pictures(clip: np.ndarray) -> None:
    generation = Generation("h264", bit_rate=60_000)
    assert np.array_equal(round_trip(clip, generation), round_trip(clip, generation))


def test_colours_keep_their_brightness(clip: np.ndarray) -> None:
    flat = np.broadcast_to(np.array([180, 120, 90], np.uint8), (4, 64, 64, 3))
    assert np.abs(round_trip(flat, Generation(quality=2)).astype(int) - flat).max() <= 2
    assert abs(float(round_trip(clip, Generation(quality=2)).mean()) - float(clip.mean())) < 0.3


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2", "mpeg4"])
def test_odd_and_tiny_sizes_come_back_as_they_were(codec) -> None:
    images = np.full((3, 9, 21, 3), 77, np.uint8)
    assert round_trip(images, Generation(codec, quality=6)).shape == images.shape


def test_a_clip_has_its_frames_its_size_its_rate_and_its_sound(tmp_path: Path, clip: np.ndarray) -> None:
    path = tmp_path / "clip.mp4"
    assert write_clip(path, iter(clip), Fraction(30000, 1001), Generation(quality=18), Tone()) == 10
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height, video.average_rate) == (74, 60, Fraction(30000, 1001))
        frames = list(container.decode(video))
        assert [frame.time for frame in frames] == pytest.approx([index * 1001 / 30000 for index in range(10)], abs=1e-4)
        assert audio.codec_context.name == "aac" and audio.codec_context.layout.name == "stereo"
        assert float(audio.duration * audio.time_base) == pytest.approx(10 * 1001 / 30000, abs=0.03)


def test_a_clip_without_tone_is_silent_and_tagged_by_its_height(tmp_path: Path) -> None:
    for height, number in ((64, 6), (720, 1)):
        path = tmp_path / f"{height}.mp4"
        write_clip(path, [np.zeros((height, 64, 3), np.uint8)] * 2, Fraction(25), Generation(quality=30))
        with av.open(str(path)) as container:
            assert not container.streams.audio
            assert int(container.streams.video[0].codec_context.colorspace) == number


def test_the_same_clip_is_written_with_the_same_bytes(tmp_path: Path, clip: np.ndarray) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, clip, Fraction(25), Generation(bit_rate=80_000), Tone())
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_tone_is_audible_never_clips_and_goes_on_where_it_stopped() -> None:
    tone = Tone(level=0.2)
    whole = tone.samples(0, 48000)
    assert whole.shape == (2, 48000) and whole.dtype == np.float32
    assert 0.1 < np.abs(whole).max() <= 0.2
    assert np.array_equal(np.concatenate([tone.samples(0, 500), tone.samples(500, 500)], axis=1), whole[:, :1000])


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of h264"):
        Generation("theora", quality=3)  # type: ignore[arg-type]
    for wrong in ({}, {"bit_rate": 1000, "quality": 3}):
        with pytest.raises(ValueError, match="either"):
            Generation("h264", **wrong)
    with pytest.raises(ValueError, match="no images"):
        round_trip([], Generation(quality=3))
    with pytest.raises(ValueError, match="even sides"):
        write_clip(tmp_path / "odd.mp4", [np.zeros((9, 9, 3), np.uint8)], Fraction(25), Generation(quality=3))
    with pytest.raises(ValueError, match="no images"):
        write_clip(tmp_path / "none.mp4", [], Fraction(25), Generation(quality=3))


def test_a_file_that_cannot_be_written_is_one_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "clip.mp4"
    with pytest.raises(EncodeError, match=r"clip\.mp4: cannot be written"):
        write_clip(path, [np.zeros((64, 64, 3), np.uint8)], Fraction(25), Generation(quality=3))
