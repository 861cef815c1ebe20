"""Presentation times come out as they went in, and sound stays where it was beside the picture: the whole carry, file to file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videoclr.media.reader import Reader
from videoclr.media.writer import Writer
from videoclr.types import Patch

RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60000, 1001), Fraction(120)]
PHONE = (0, 2996, 6006, 9004, 15010, 15913, 18022, 21035, 24019, 30041, 31000, 34010)
"""Ticks of 1/90000 s: no two frames equally long, as phones record."""
RATE = 48_000


def shown(path: Path) -> list[Fraction]:
    """When each picture is shown."""
    with Reader(path) as reader:
        return [frame.time for frame in reader.frames()]


def heard(path: Path) -> tuple[Fraction, np.ndarray]:
    """The sound as a player hears it (encoder delay cut off): when it begins, and its samples `(n,)`."""
    with av.open(str(path)) as container:
        start, parts = None, []
        for frame in container.decode(audio=0):
            start = frame.pts * frame.time_base if start is None else start
            parts.append(frame.to_ndarray()[0])
    assert start is not None
    return start, np.concatenate(parts)


def with_sound(path: Path, ticks=tuple(range(25)), base=Fraction(1, 25), *, codec="aac", begins=Fraction(0), **opening) -> Path:
    """A clip whose sound is noise that begins at `begins`: every sample can be told from every other."""
    with av.open(str(path), "w", **opening) as out:
        video = out.add_stream("libx264", rate=25, time_base=base, options={"preset": "ultrafast", "bf": "2"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream(codec, rate=RATE)
        packets = []
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * number % 256, np.uint8), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = tick, base
            packets += video.encode(frame)
        packets += video.encode(None)
        noise = np.random.default_rng(7).uniform(-0.5, 0.5, RATE).astype(np.float32)
        for first in range(0, RATE - 1024, 1024):
            form = "fltp" if codec == "aac" else "flt" if codec == "libopus" else "s16"
            piece = noise[first : first + 1024]
            shape = np.stack([piece] * 2) if form == "fltp" else np.repeat(piece, 2)[None]
            values = shape if form != "s16" else (shape * 30000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), format=form, layout="stereo")
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = first + round(begins * RATE)
            packets += sound.encode(frame)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.3f}")
@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_constant_rates_keep_every_tick(clip, carry, tmp_path, rate, ending):
    base = 1 / (rate.numerator * Fraction(1))
    ticks = range(0, 12 * rate.denominator, rate.denominator)
    source = clip(f"s.{ending}", ticks=ticks, base=base, rate=rate, size=(64, 48))
    target = tmp_path / f"o.{ending}"
    report = carry(source, target)
    assert shown(target) == shown(source) == [number / rate for number in range(12)]
    assert report.warnings == []
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert after.streams.video[0].average_rate == before.streams.video[0].average_rate == rate


def test_the_last_picture_lasts_as_long_as_it_did_also_where_it_was_changed(tmp_path):
    source = with_sound(tmp_path / "s.mp4", base=Fraction(1, 12800), ticks=range(0, 8 * 512, 512))
    patch = Patch(4, 4, np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.float32))
    with Reader(source) as reader, Writer(tmp_path / "o.mp4", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame.with_patches([patch]))
    with av.open(str(source)) as before, av.open(str(tmp_path / "o.mp4")) as after:
        lasts = [one.streams.video[0].duration * one.streams.video[0].time_base for one in (before, after)]
        assert lasts[0] == lasts[1] > Fraction(7, 25)
        assert after.streams.video[0].average_rate == before.streams.video[0].average_rate


@pytest.mark.parametrize(("source_ending", "ending"), [("mp4", "mp4"), ("mov", "mov"), ("mp4", "nut")])
def test_variable_rates_of_phones_keep_every_tick(clip, carry, tmp_path, source_ending, ending):
    source, target = clip(f"s.{source_ending}", ticks=PHONE, base=Fraction(1, 90000), size=(64, 48)), tmp_path / f"o.{ending}"
    carry(source, target)
    assert shown(target) == shown(source) == [Fraction(tick, 90000) for tick in PHONE]


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_variable_rates_of_matroska_keep_every_millisecond(clip, carry, tmp_path, ending):
    ticks = (0, 33, 67, 100, 200, 233, 501, 502, 900)
    source, target = clip("s.mkv", ticks=ticks, base=Fraction(1, 1000), size=(64, 48)), tmp_path / f"o.{ending}"
    report = carry(source, target)
    assert shown(target) == [Fraction(tick, 1000) for tick in ticks]
    assert report.warnings == []


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "ts"])
def test_a_first_picture_after_zero_stays_there(clip, carry, tmp_path, ending):
    source, target = clip("s.mp4", ticks=range(5, 15), size=(64, 48)), tmp_path / f"o.{ending}"
    carry(source, target)
    assert shown(target) == shown(source) == [Fraction(tick, 25) for tick in range(5, 15)]


def test_decoding_times_below_zero_move_no_picture(carry, tmp_path):
    source, target = with_sound(tmp_path / "s.mp4"), tmp_path / "o.mp4"
    with av.open(str(source)) as container:
        assert min(packet.dts for packet in container.demux(video=0) if packet.size) < 0, "B-frames are decoded early"
    carry(source, target, "media.preset=medium")
    with av.open(str(target)) as container:
        assert min(packet.dts for packet in container.demux(video=0) if packet.size) < 0
    assert shown(target) == shown(source) == [Fraction(tick, 25) for tick in range(25)]


def test_times_in_nut_are_exact_beside_sound(tmp_path):
    # NUT counts decoding times below zero wrongly where streams have several time bases, so nothing is decoded early.
    source, target = with_sound(tmp_path / "s.mkv", codec="pcm_s16le"), tmp_path / "o.nut"
    with Reader(source) as reader, Writer(target, like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert shown(target) == shown(source) == [Fraction(tick, 25) for tick in range(25)]
    with av.open(str(target)) as container:
        assert all(packet.dts == packet.pts for packet in container.demux(video=0) if packet.size)


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_an_edit_list_that_hides_the_beginning_is_obeyed(made, carry, tmp_path, ending):
    # Cut without encoding, at no key frame: the file begins with pictures that an edit list hides.
    whole, source, target = with_sound(tmp_path / "w.mp4"), tmp_path / "s.mp4", tmp_path / f"o.{ending}"
    made("-ss", "0.4", "-i", whole, "-c", "copy", source)
    carry(source, target)
    before, after = shown(source), shown(target)
    assert 10 <= len(before) <= 20
    assert after == before
    begins, samples = heard(source)
    begins_after, samples_after = heard(target)
    assert begins_after - after[0] == begins - before[0]
    assert np.array_equal(samples, samples_after)


@pytest.mark.parametrize("delay", [Fraction(0), Fraction(1, 5)], ids=["together", "sound later"])
@pytest.mark.parametrize(
    ("codec", "source_ending", "ending"),
    [
        ("aac", "mp4", "mp4"),
        ("aac", "mp4", "mov"),
        ("aac", "mkv", "mkv"),
        ("libopus", "mp4", "mp4"),
        ("libopus", "mkv", "mkv"),
        ("libopus", "mp4", "mkv"),
        ("aac", "mp4", "mkv"),
        ("aac", "mov", "mkv"),
        ("pcm_s16le", "mov", "mov"),
    ],
)
def test_sound_stays_where_it_was_beside_the_picture(carry, tmp_path, codec, source_ending, ending, delay):
    source = with_sound(tmp_path / f"s.{source_ending}", codec=codec, begins=delay)
    target = tmp_path / f"o.{ending}"
    carry(source, target)
    (begins, samples), (begins_after, samples_after) = heard(source), heard(target)
    assert shown(target) == shown(source)
    rounding = Fraction(1, 2000) if ending == "mkv" else 0  # Matroska counts milliseconds, mp4 and mov samples
    assert abs(begins_after - begins) <= rounding
    assert np.array_equal(samples, samples_after)


def test_what_no_container_can_say_moves_picture_and_sound_by_whole_milliseconds(carry, tmp_path):
    # FLV holds neither times before zero nor an encoder's delay.
    source, target = with_sound(tmp_path / "s.mp4"), tmp_path / "o.flv"
    report = carry(source, target)
    moved = shown(target)[0] - shown(source)[0]
    assert moved > 0
    assert shown(target) == [time + moved for time in shown(source)], "no picture is rounded"
    assert any("later" in text for text in report.warnings)
    with av.open(str(source)) as a, av.open(str(target)) as b:
        first, after = (next(c.demux(audio=0)) for c in (a, b))
        assert abs(after.pts * after.time_base - first.pts * first.time_base - moved) <= Fraction(1, 2000)


def test_the_sound_of_a_cut_out_begins_with_its_picture(carry, tmp_path):
    source, target = with_sound(tmp_path / "s.mov", codec="pcm_s16le"), tmp_path / "o.mov"
    carry(source, target, "media.start=0.4", "media.end=0.8")
    assert shown(target) == [Fraction(tick, 25) for tick in range(10)]
    begins, samples = heard(target)
    _, whole = heard(source)
    first = round((Fraction(2, 5) + begins) * RATE)
    # `heard` gives interleaved stereo
    assert np.array_equal(samples, whole[2 * first : 2 * first + len(samples)])
    assert abs(begins) <= Fraction(1024, RATE)
