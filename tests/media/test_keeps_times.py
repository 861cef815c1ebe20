"""Presentation times come out as they went in, and sound stays where it was beside the picture: the whole carry, file to file."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from videoclr.errors import EncodeError, MediaError
from videoclr.media.beginning import Beginning
from videoclr.media.beside import Beside
from videoclr.media.film import Film
from videoclr.media.grid import MXF_RATES, nearest_place
from videoclr.media.reader import Reader
from videoclr.media.silence import Samples
from videoclr.media.target import Nowhere
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


def with_sound(
    path: Path, ticks=tuple(range(25)), base=Fraction(1, 25), *, codec="aac", begins=Fraction(0), pause=Fraction(0), **opening
) -> Path:
    """A clip with noise for sound, from `begins` on and with a `pause` in its middle: every sample can be told from every other."""
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
            frame.pts = first + round((begins + (pause if first > RATE // 2 else 0)) * RATE)
            packets += sound.encode(frame)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize(("codec", "form"), [("libx264", "h264"), ("mpeg2video", "mpeg2video")])
def test_pictures_without_a_container_have_the_rate_that_they_say(tmp_path, codec, form):
    source = tmp_path / f"a.{form}"
    with av.open(str(source), "w", format=form) as out:
        video = out.add_stream(codec, rate=50)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
        out.mux(video.encode(None))
    with Reader(source) as reader:
        times = [frame.time for frame in reader.frames()]
        assert reader.info.frame_rate == 50
    assert np.diff(times).tolist() == [Fraction(1, 50)] * 3
    if form == "h264":
        with Reader(source, rate=10) as reader:
            assert [frame.time for frame in reader.frames()] == [Fraction(number, 10) for number in range(4)]


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


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("resume", [False, True])
def test_the_last_picture_lasts_as_long_as_it_did_behind_reordered_ones(tmp_path, ending, resume):
    source, target = tmp_path / "s.gif", tmp_path / f"o.{ending}"
    pictures = [Image.fromarray(np.full((48, 64), 50 * number, np.uint8)) for number in range(4)]
    pictures[0].save(source, save_all=True, append_images=pictures[1:], duration=[100, 200, 50, 700])
    with Reader(source) as reader, Writer(target, like=reader, preset="medium", options={"bf": "2", "b_strategy": "0"}) as writer:
        if resume:
            writer.begin_segment(tmp_path / "segment")
        for frame in reader.frames():
            writer.write(frame)
        if resume:
            segment = writer.end_segment()
            writer.join([segment], segment.reorder)
    with av.open(str(target)) as container:
        assert Fraction(container.duration, av.time_base) == Fraction(105, 100)
    assert shown(target) == [Fraction(tick, 100) for tick in (0, 10, 30, 35)]


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


@pytest.mark.parametrize("ending", ["mkv", "nut", "avi", "mxf"])
def test_uncompressed_sound_that_an_edit_list_hides_is_left_out_to_the_sample(carry, tmp_path, ending):
    source = with_sound(tmp_path / "s.mov", codec="pcm_s16le", begins=Fraction(-2, 5))
    target = tmp_path / f"o.{ending}"
    report = carry(source, target, *(["media.codec=prores"] if ending == "mxf" else []))
    (begins, samples), (begins_after, samples_after) = heard(source), heard(target)
    assert begins == begins_after == shown(source)[0] == 0
    assert np.array_equal(samples, samples_after[: len(samples)])
    assert not any("all times are" in text or "hides" in text for text in report.warnings), report.warnings


@pytest.mark.parametrize("ending", ["ts", "flv", "nut", "avi"])
def test_compressed_sound_that_an_edit_list_hides_is_left_out_but_for_what_a_decoder_begins_with(carry, tmp_path, ending):
    source = with_sound(tmp_path / "s.mp4", begins=Fraction(-2, 5))
    target = tmp_path / f"o.{ending}"
    report = carry(source, target)
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(str(target)) as container:
        first, *after = [packet for packet in container.demux(audio=0) if packet.size]
    assert len(after) == len(packets) - 19, "of 19 that are wholly hidden the last one is kept"
    moved = shown(target)[0] - shown(source)[0]
    assert moved < Fraction(1, 10)
    if ending != "avi":  # no times
        assert abs(first.pts * first.time_base - Fraction(18 * 1024 - 20224, RATE) - moved) <= Fraction(1, 500)
    told = "0.037 s of stream 1 (audio, aac) that the film hides before its beginning are heard"
    assert sum(told in text for text in report.warnings) == 1, report.warnings


@pytest.mark.parametrize(
    ("first", "heard", "length", "how", "kept"),
    [
        (-1024, 0, 1024, {}, -1024),  # encoders' delays
        (-2112, 0, 1024, {}, -2112),
        (-312, 0, 960, {}, -312),
        (-20224, 0, 1024, {}, -1792),  # edit lists
        (-5824, 14400, 1024, {}, 12608),
        (-3072, 0, 1024, {}, -1024),
        (-19200, 0, 4608, {"lossless": True}, -768),
        (-19200, 0, 1024, {"samples": True}, 0),
        (4800, 4800, 1024, {}, 4800),
        (0, 0, 0, {}, 0),
    ],
)
def test_of_what_an_edit_list_hides_a_decoder_needs_one_packet(first, heard, length, how, kept):
    beginning = Beginning(*(Fraction(ticks, RATE) for ticks in (first, heard, length)))
    assert beginning.kept(**{"samples": False, "lossless": False} | how) == Fraction(kept, RATE)


def test_matroska_hides_what_an_edit_list_hides(carry, tmp_path):
    source, target = with_sound(tmp_path / "s.mp4", begins=Fraction(-2, 5)), tmp_path / "o.mkv"
    report = carry(source, target)
    (begins, samples), (begins_after, samples_after) = heard(source), heard(target)
    assert shown(target) == shown(source) and abs(begins_after - begins) <= Fraction(1, 2000)
    assert np.array_equal(samples, samples_after)
    assert report.warnings == []


FAR = 66_000
"""Ticks that FFmpeg's AVI muxer does not skip at once."""


def test_a_film_far_from_zero_counts_from_its_beginning_in_avi(carry, tmp_path):
    source = with_sound(tmp_path / "s.mkv", ticks=range(FAR, FAR + 10), codec="pcm_s16le", begins=Fraction(FAR, 25) + 2)
    report = carry(source, tmp_path / "o.avi")
    assert f"the film begins at {FAR / 25:.3f} s, later than avi can say: times count from there" in report.warnings
    assert not any("truncated" in text for text in report.warnings), report.warnings
    assert [time - shown(tmp_path / "o.avi")[0] for time in shown(tmp_path / "o.avi")] == [Fraction(tick, 25) for tick in range(10)]
    begins, samples = heard(tmp_path / "o.avi")
    assert begins == 0 and not samples[: 2 * 2 * RATE].any() and samples[2 * 2 * RATE :].any(), "silence keeps it in place"


@pytest.mark.parametrize(("ticks", "begins"), [((*range(5), *range(FAR + 5, FAR + 10)), None), (range(FAR, FAR + 5), Fraction(0))])
def test_a_pause_that_avi_has_no_room_for_is_refused(clip, carry, tmp_path, ticks, begins):
    sound = {} if begins is None else {"codec": "pcm_s16le", "begins": begins}
    source = with_sound(tmp_path / "s.mkv", ticks=ticks, **sound) if sound else clip("s.mkv", ticks=ticks)
    with pytest.raises(EncodeError, match=r"there is no picture for .* use \.mkv or \.mov, or cut the film there"):
        carry(source, tmp_path / "o.avi")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["s.mkv"]


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "faststart"])
def test_sound_that_breaks_off_is_told(carry, tmp_path, flags):
    source, target = with_sound(tmp_path / "s.mp4", ticks=range(5), container_options={"movflags": flags}), tmp_path / "o.mp4"
    whole = carry(source, target)
    assert whole.warnings == []
    with av.open(str(source)) as container:
        sound = [packet for packet in container.demux(audio=0) if packet.size]
    source.write_bytes(source.read_bytes()[: sound[20].pos + sound[20].size // 2])
    cut_off = carry(source, tmp_path / "c.mp4")
    assert any("stream 1 (audio, aac) is damaged, or cut off" in text for text in cut_off.warnings), cut_off.warnings


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


PICTURES_END = (
    Fraction(30_000, RATE),
    "s of stream 1 (audio, pcm_s16le) are left out: behind the last picture, where mxf ends; mkv and mov keep them",
)
PRORES = ("media.codec=prores",)
CODEC = {"mxf": PRORES[0], "avi": "media.codec=ffv1", "mov": PRORES[0]}


@pytest.mark.parametrize(
    ("count", "begins"),
    [(40, Fraction(0)), (40, Fraction(1, 2)), (10, Fraction(0))],
    ids=["short sound", "late sound", "long sound"],
)
def test_mxf_has_all_pictures_and_the_sound_where_it_was(carry, tmp_path, count, begins):
    source, target = with_sound(tmp_path / "s.mov", range(count), codec="pcm_s16le", begins=begins), tmp_path / "o.mxf"
    report = carry(source, target, *PRORES)
    assert shown(target) == [Fraction(tick, 25) for tick in range(count)]
    (_, before), (begins_after, after) = heard(source), heard(target)
    quiet, whole = 2 * int(begins * RATE), 2 * count * RATE // 25
    expected = np.concatenate([np.zeros(quiet, np.int16), before, np.zeros(whole, np.int16)])[:whole]
    assert begins_after == 0
    assert np.array_equal(after, expected)
    rest = [text for text in report.warnings if "are left out" in text]
    assert [text.partition(" ")[2] for text in rest] == ([PICTURES_END[1]] if count == 10 else [])


def test_mxf_has_all_pictures_where_one_of_two_sounds_is_short(made, carry, tmp_path):
    source, target = tmp_path / "s.mov", tmp_path / "o.mxf"
    long, short = (with_sound(tmp_path / f"{name}.mov", range(75), codec="pcm_s16le") for name in "ab")
    made("-i", long, "-t", "0.2", "-i", short, "-map", "0", "-map", "1:a", "-c", "copy", source)
    carry(source, target, *PRORES)
    assert len(shown(target)) == 75
    with av.open(str(target)) as container:
        sounds = [sum(packet.size for packet in container.demux(one)) for one in container.streams.audio[:1]]
    assert sounds == [3 * RATE * 4]


@pytest.mark.parametrize(
    ("chosen", "said"), [((0, 1, 2), []), ((0, 2), ["mxf does not keep that streams 1, 3 (audio) are default; mkv does"])]
)
def test_what_mxf_has_no_place_for_of_many_tracks_of_sound_is_one_line_each(made, carry, tmp_path, chosen, said):
    long, source = with_sound(tmp_path / "a.mov", range(10), codec="pcm_s16le"), tmp_path / "s.mov"
    default = [word for place in range(3) for word in (f"-disposition:a:{place}", "default" if place in chosen else "0")]
    made("-i", long, "-map", "0:v", *["-map", "0:a"] * 3, "-c", "copy", *default, source)
    report = carry(source, tmp_path / "o.mxf", *PRORES)
    left_out = "up to 0.581 s of 3 tracks of sound are left out: behind the last picture, where mxf ends; mkv and mov keep them"
    assert [text for text in report.warnings if "(audio" in text or "sound" in text] == [left_out, *said]


def test_a_sound_that_has_ended_keeps_no_pictures_waiting(tmp_path):
    # MXF's muxer holds all pictures in memory until there is sound beside them.
    path = with_sound(tmp_path / "s.mov", range(75), codec="pcm_s16le", begins=Fraction(2))
    with av.open(str(path)) as container, av.open(Nowhere(), "w", format="avi") as out:
        source = container.streams.audio[0]
        samples = Samples(source, out.add_stream_from_template(source))
        list(samples.known_silence(Fraction(3), Fraction(0)))
        assert samples.reached == 2
        for packet in container.demux(source):
            if packet.size:
                list(samples.placed(packet, packet.pts * packet.time_base))
        ended = samples.reached
        list(samples.known_silence(ended + Fraction(1, 2), Fraction(0)))
        assert samples.reached == ended, "a little silence waits for company"
        list(samples.known_silence(Fraction(9), Fraction(0)))
        assert samples.reached == 9


def test_a_pause_of_the_sound_keeps_no_pictures_waiting(carry, tmp_path, monkeypatch):
    source, target = with_sound(tmp_path / "s.mkv", range(150), codec="pcm_s16le", pause=Fraction(4)), tmp_path / "o.mxf"
    mux, behind = Beside.mux, []

    def muxed(self, container, until, offset):
        mux(self, container, until, offset)
        behind.extend(until - samples.reached for samples in self._samples.values() if until is not None)

    monkeypatch.setattr(Beside, "mux", muxed)
    carry(source, target, *PRORES)
    assert len(behind) >= 150 and max(behind) <= Fraction(6, 5)
    _, whole = heard(source)
    _, samples = heard(target)
    half = len(whole) // 2 // 1024 * 1024
    assert shown(target) == [Fraction(tick, 25) for tick in range(150)]
    assert np.array_equal(samples[:half], whole[:half])
    assert np.array_equal(samples[samples != 0], whole[whole != 0]), "all of it is there"


def test_sound_and_picture_of_a_cut_out_begin_together_in_mxf(carry, tmp_path):
    source, target = with_sound(tmp_path / "s.mov", codec="pcm_s16le"), tmp_path / "o.mxf"
    carry(source, target, *PRORES, "media.start=0.43", "media.end=0.8")
    assert shown(target) == [Fraction(tick, 25) for tick in range(9)]
    _, samples = heard(target)
    _, whole = heard(source)
    first, count = 2 * 11 * RATE // 25, 2 * 9 * RATE // 25
    assert np.array_equal(samples, whole[first : first + count])


@pytest.mark.parametrize(("ticks", "repeated"), [((*range(10), *range(20, 30)), 10), (range(5, 25), 5)], ids=["pause", "late"])
def test_mxf_repeats_pictures_where_the_film_has_none(carry, tmp_path, ticks, repeated):
    source, target = with_sound(tmp_path / "s.mkv", ticks, codec="pcm_s16le"), tmp_path / "o.mxf"
    report = carry(source, target, *PRORES)
    assert shown(target) == [Fraction(tick, 25) for tick in range(max(ticks) + 1)]
    with Reader(source) as before, Reader(target) as after:
        pictures = {frame.time: brightness(frame.image) for frame in before.frames()}
        for frame in after.frames():
            earlier = [time for time in pictures if time <= frame.time] or [min(pictures)]
            assert abs(brightness(frame.image) - pictures[max(earlier)]) < 0.01
    assert sum(text.startswith(f"{repeated} pictures are repeated") for text in report.warnings) == 1


def brightness(image: np.ndarray) -> float:
    return float(image.mean() / np.iinfo(image.dtype).max)


@pytest.mark.parametrize("first", [3, 400], ids=["early", "late"])
def test_pauses_in_mxf_need_a_codec_of_whole_pictures(clip, carry, tmp_path, monkeypatch, first):
    source, target = clip("s.mkv", ticks=(*range(first), first + 2, first + 3), size=(64, 48)), tmp_path / "o.mxf"
    monkeypatch.setattr(Film, "write", lambda *_: pytest.fail("a picture was written"))
    with pytest.raises(EncodeError, match=rf"{first / 25:.3f} s: the picture pauses.*mxf.*h264; choose .*prores"):
        carry(source, target, "media.codec=h264")
    assert not target.exists()


def test_a_run_in_parts_writes_the_same_mxf(carry, tmp_path):
    source = with_sound(tmp_path / "s.mkv", (*range(10), *range(20, 30)), codec="pcm_s16le", begins=Fraction(1, 5))
    whole, parts = tmp_path / "a.mxf", tmp_path / "b.mxf"
    carry(source, whole, *PRORES)
    with Reader(source) as reader, Writer(parts, like=reader, codec="prores", provenance=None) as writer:
        segments = []
        for number, frames in enumerate((range(10), range(10, 20))):
            writer.begin_segment(tmp_path / str(number))
            for frame in reader.frames():
                if frame.index in frames:
                    writer.write(frame)
            segments.append(writer.end_segment())
        writer.join(segments, 0)
    one, other = (packets(path) for path in (whole, parts))
    assert one == other


def packets(path: Path) -> list[tuple[int, int, bytes]]:
    with av.open(str(path)) as container:
        return [(one.stream_index, one.pts, bytes(one)) for one in container.demux() if one.size]


def test_late_sound_stays_late_in_avi(carry, tmp_path):
    source, target = with_sound(tmp_path / "s.mov", codec="pcm_s16le", begins=Fraction(1, 2)), tmp_path / "o.avi"
    carry(source, target)
    (_, before), (_, after) = heard(source), heard(target)
    assert np.array_equal(after, np.concatenate([np.zeros(RATE, np.int16), before]))


@pytest.mark.parametrize("ending", ["mov", "mp4"])
def test_sound_goes_on_behind_a_pause_where_it_did(carry, tmp_path, ending):
    source, target = tmp_path / "s.mkv", tmp_path / f"o.{ending}"
    carry(with_sound(source, codec="pcm_s16le", begins=Fraction(1, 5), pause=Fraction(1, 2)), target)
    begins, samples = heard(target)
    _, whole = heard(source)
    half = 2 * 24 * 1024
    assert begins == Fraction(1, 5), "its beginning is not filled up"
    pause = samples[half : len(samples) - len(whole) + half]
    assert abs(len(pause) - RATE) <= 2 * 2 * RATE // 1000 and not pause.any()
    assert np.array_equal(np.concatenate([samples[:half], samples[half + len(pause) :]]), whole)


@pytest.mark.parametrize("ending", ["mov", "mkv", "avi"])
def test_where_entries_of_an_edit_list_meet_sound_is_heard_when_it_is_due(carry, tmp_path, ending):
    plain, source, target = with_sound(tmp_path / "p.mov", codec="pcm_s16le"), tmp_path / "s.mov", tmp_path / f"o.{ending}"
    source.write_bytes(edited(plain.read_bytes(), [(Fraction(3, 10), Fraction(1, 10)), (Fraction(4, 10), Fraction(5, 10))]))
    report = carry(source, target)
    with av.open(str(source)) as container:
        (due, piece), *_ = [
            (frame.pts * frame.time_base, frame.to_ndarray()[0]) for frame in container.decode(audio=0) if frame.time > 0.35
        ]
    _, samples = heard(target)
    first = 2 * round(due * RATE)
    assert ending == "mkv" or np.array_equal(samples[first : first + len(piece)], piece), "Matroska has times"
    assert not any("refuses" in text for text in report.warnings), report.warnings


@pytest.mark.parametrize(("ending", "settings"), [("mov", []), ("mov", ["media.start=0.12"]), ("mkv", ["media.start=0.12"])])
def test_late_sound_of_which_an_edit_list_hides_more_is_heard_from_when_it_was(carry, tmp_path, ending, settings):
    plain, source, target = with_sound(tmp_path / "p.mov", codec="pcm_s16le"), tmp_path / "s.mov", tmp_path / f"o.{ending}"
    entries = [(Fraction(3, 10), None), (Fraction(4, 10), Fraction(19200, RATE))]
    source.write_bytes(edited(plain.read_bytes(), entries))
    report = carry(source, target, *settings)
    (begins, samples), (begins_after, samples_after) = heard(source), heard(target)
    since = Fraction(12, 100) if settings else 0
    assert begins == Fraction(3, 10) and abs(begins_after - begins + since) <= Fraction(1024, RATE)
    count = min(len(samples), len(samples_after))
    assert np.array_equal(samples_after[-count:], samples[-count:])
    assert abs(len(samples) - len(samples_after)) <= 2 * 1024, "parts begin with a whole packet"
    assert report.warnings == []


def edited(film: bytes, entries: list[tuple[Fraction, Fraction | None]]) -> bytes:
    """A QuickTime `film` whose sound, the second track, is played as these entries say: how long, and from when on, seconds.

    None stands for silence.
    """
    moov = film.rindex(b"moov") - 4
    track = film.rindex(b"trak") - 4
    length, scale = (int.from_bytes(film[at : at + 4]) for at in (track, film.index(b"mvhd", moov) + 16))
    begin = film.index(b"edts", track) - 4
    end = begin + int.from_bytes(film[begin : begin + 4])
    begins = [-1 if since is None else round(since * RATE) for _, since in entries]
    said = b"".join(
        struct.pack(">IiI", round(long * scale), tick, 1 << 16) for (long, _), tick in zip(entries, begins, strict=True)
    )
    elst = struct.pack(">I4sII", 16 + len(said), b"elst", 0, len(entries)) + said
    new = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    grown = len(new) - (end - begin)
    sizes = {moov: int.from_bytes(film[moov : moov + 4]) + grown, track: length + grown}
    head = bytearray(film[:begin])
    for at, size in sizes.items():
        head[at : at + 4] = size.to_bytes(4)
    return bytes(head) + new + film[end:]


def test_pauses_of_sound_that_avi_cannot_keep_are_told(carry, tmp_path):
    source, target = with_sound(tmp_path / "s.mkv", pause=Fraction(1, 2)), tmp_path / "o.avi"
    report = carry(source, target)
    told = [text for text in report.warnings if "behind its pauses: avi cannot keep them; mkv and mov can" in text]
    assert len(told) == 1 and "stream 1 (audio, aac) is heard up to 0.5" in told[0]


def test_sound_that_avi_cannot_move_is_told(made, carry, tmp_path):
    source, target = tmp_path / "s.mkv", tmp_path / "o.avi"
    made("-i", with_sound(tmp_path / "s.mov", codec="pcm_s16le", begins=Fraction(1, 2)), "-c:v", "copy", "-c:a", "mp3", source)
    report = carry(source, target)
    assert any("stream 1 (audio, mp3" in text and "s too early: avi cannot" in text for text in report.warnings)


@pytest.mark.parametrize("ending", ["mxf", "avi"])
def test_steps_of_a_frame_stay_steps_wherever_the_first_one_lies(clip, carry, tmp_path, ending):
    # 13.5 frames after zero: rounded one by one, every second one fell on the one before.
    source = clip("s.mov", ticks=range(27, 47, 2), base=Fraction(1, 50))
    report = carry(source, tmp_path / f"o.{ending}", CODEC[ending])
    times = shown(tmp_path / f"o.{ending}")[-9:]  # AVI shows the first one from zero on
    assert [time - times[0] for time in times] == [Fraction(tick, 25) for tick in range(9)]
    assert not any("too near" in text for text in report.warnings)


@pytest.mark.parametrize("tick", [Fraction(1, 90000), Fraction(1, 1000)])
def test_every_picture_of_soft_telecine_has_its_place(tick):
    # Shown for three fields and two in turn: every second one lies between two frames, as far as its container's ticks tell.
    fields = [5 * (number // 2) + 3 * (number % 2) for number in range(200)]
    times = [round(Fraction(one * 1001, 60000) / tick) * tick for one in fields]
    places = [nearest_place((time - times[2]) * Fraction(30000, 1001)) for time in times]
    assert places == [math.ceil(Fraction(one - fields[2], 2)) for one in fields]


@pytest.mark.parametrize("rate", [12, 15])
def test_rates_that_mxf_has_not_are_refused_before_the_first_picture(clip, carry, tmp_path, rate):
    source, target = clip("s.mov", base=Fraction(1, rate), rate=rate), tmp_path / "o.mxf"
    with pytest.raises(MediaError, match=rf"mxf takes 23\.976, 24, 25.* and this film has {rate}; use \.mov"):
        carry(source, target, *PRORES)


def test_mxf_takes_the_rates_that_are_named(clip, carry, tmp_path):
    for rate in MXF_RATES:
        source, target = clip("s.mov", ticks=range(3), base=1 / rate, rate=rate), tmp_path / f"{float(rate):.3f}.mxf"
        carry(source, target, *PRORES)
        assert shown(target) == [number / rate for number in range(3)]


@pytest.mark.parametrize("ending", ["mxf", "avi"])
def test_a_film_with_pauses_has_the_rate_of_its_steps(clip, carry, tmp_path, ending):
    ticks = (*range(10), *range(20, 30))  # 25 a second, and 16.7 on average
    source, target = clip("s.mov", ticks=ticks, base=Fraction(1, 25)), tmp_path / f"o.{ending}"
    carry(source, target, CODEC[ending])
    expected = range(30) if ending == "mxf" else ticks
    assert [time - shown(target)[0] for time in shown(target)] == [Fraction(tick, 25) for tick in expected]


@pytest.mark.parametrize("ending", ["mxf", "avi"])
def test_a_film_that_lacks_one_picture_has_the_rate_of_its_steps(clip, carry, tmp_path, ending):
    ticks = (*range(40), *range(41, 80))  # 24.7 a second on average
    source, target = clip("s.mov", ticks=ticks, base=Fraction(1, 25)), tmp_path / f"o.{ending}"
    carry(source, target, CODEC[ending])
    assert shown(target)[-1] - shown(target)[0] == Fraction(79, 25)


@pytest.mark.parametrize("ending", ["mxf", "avi"])
def test_pictures_nearer_than_a_tick_are_told_at_once(clip, carry, tmp_path, ending):
    source = clip("s.mov", ticks=(0, 1000, 1010, 3000, 4000), base=Fraction(1, 25000))
    with pytest.raises(EncodeError, match=rf"too near to the frame before: {ending} holds .*use \.mov or \.mkv"):
        carry(source, tmp_path / f"o.{ending}", CODEC[ending])


@pytest.mark.parametrize("source_ending", ["ts", "mpg"])
@pytest.mark.parametrize("ending", ["mov", "mkv", "nut"])
def test_clocks_of_broadcasts_begin_at_zero(made, carry, tmp_path, source_ending, ending):
    whole, source, target = (
        with_sound(tmp_path / "w.mov", codec="pcm_s16le"),
        tmp_path / f"s.{source_ending}",
        tmp_path / f"o.{ending}",
    )
    made("-i", whole, "-c:v", "mpeg2video", "-c:a", "mp2", "-output_ts_offset", "100", source)
    carry(source, target)
    with Reader(source) as reader:
        assert reader.begin > 99
    pictures = shown(source)
    (begins, _), (begins_after, _) = heard(source), heard(target)
    zero = min(begins, pictures[0])
    rounding = Fraction(1, 1000) if ending == "mkv" else Fraction(1, 40_000)
    assert all(abs(after - (before - zero)) <= rounding for before, after in zip(pictures, shown(target), strict=True))
    assert abs(begins_after - (begins - zero)) <= rounding


def test_what_cannot_be_decoded_of_a_broadcast_leaves_no_hole(made, carry, tmp_path):
    whole, cut, target = (tmp_path / name for name in ("w.ts", "s.ts", "o.mov"))
    made("-i", with_sound(tmp_path / "w.mov"), "-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-an", whole)
    data = whole.read_bytes()
    with av.open(str(whole)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    cut.write_bytes(data[: 188 * 3] + data[places[3] // 188 * 188 :])  # the tables, and what follows the third picture
    carry(cut, target)
    with Reader(cut) as reader:
        assert reader.first_time > reader.begin
    assert shown(target)[0] == 0


def test_mpeg_ts_keeps_the_clock_of_mpeg_ts(made, carry, tmp_path):
    whole, source, target = with_sound(tmp_path / "w.mov", codec="pcm_s16le"), tmp_path / "s.ts", tmp_path / "o.ts"
    made("-i", whole, "-c:v", "mpeg2video", "-c:a", "mp2", "-output_ts_offset", "100", source)
    carry(source, target)
    assert shown(target) == shown(source)


@pytest.mark.parametrize("source_ending", ["mkv", "flv"])
@pytest.mark.parametrize("rate", [Fraction(24), *RATES[:1], *RATES[2:4]], ids=lambda rate: f"{float(rate):.3f}")
def test_an_even_rate_out_of_milliseconds_is_even(clip, carry, tmp_path, rate, source_ending):
    source, target = clip(f"s.{source_ending}", ticks=range(48), base=1 / rate, rate=rate, size=(64, 48)), tmp_path / "o.mov"
    assert shown(source) != [number / rate for number in range(48)], "they are rounded"
    report = carry(source, target)
    first = shown(target)[0]
    assert [time - first for time in shown(target)] == [number / rate for number in range(48)]
    assert report.warnings == []
    with av.open(str(target)) as container:
        assert container.streams.video[0].average_rate == rate


def test_an_even_rate_is_even_where_pictures_are_copied(clip, carry, tmp_path):
    rate = Fraction(30000, 1001)
    source, target = clip("s.mkv", ticks=range(48), base=1 / rate, rate=rate, options={"g": "8", "bf": "0"}), tmp_path / "o.mov"
    carry(source, target, "media.smart_copy=true")
    with av.open(str(target)) as container:
        video = container.streams.video[0]
        assert (video.average_rate, video.duration * video.time_base) == (rate, 48 / rate)


def test_an_even_rate_stays_even_beside_a_pause_and_behind_a_cut(clip, carry, tmp_path):
    rate = Fraction(30000, 1001)
    ticks = (*range(20), *range(40, 60))
    source, target = clip("s.mkv", ticks=ticks, base=1 / rate, rate=rate), tmp_path / "o.mov"
    carry(source, target)
    assert shown(target) == [tick / rate for tick in ticks]
    carry(source, tmp_path / "c.mov", "media.start=5f")
    times = shown(tmp_path / "c.mov")
    assert [time - times[0] for time in times] == [(tick - 5) / rate for tick in ticks[5:]]


def test_pictures_beside_the_grid_stay_where_they_are(clip, carry, tmp_path):
    ticks = (0, 33, 67, 100, 150, 167, 200, 261, 267)
    source, target = clip("s.mkv", ticks=ticks, base=Fraction(1, 1000), rate=30), tmp_path / "o.mov"
    carry(source, target)
    assert all(abs(time - Fraction(tick, 1000)) < Fraction(1, 1000) for time, tick in zip(shown(target), ticks, strict=True))
    assert shown(target)[4] == Fraction(150, 1000)


@pytest.mark.parametrize("ending", ["mov", "avi", "mxf"])
def test_pictures_that_a_muxer_throws_away_end_the_run(clip, tmp_path, monkeypatch, ending):
    source, target = clip("s.mov"), tmp_path / f"o.{ending}"
    put, count = Film._mux_one, iter(range(10))

    def forget(film, packet):
        if next(count) < 8:
            put(film, packet)
        else:
            film._packets_written += 1

    monkeypatch.setattr(Film, "_mux_one", forget)
    codec, told = CODEC[ending].partition("=")[2], rf"{ending} kept 8 of 10 pictures; choose another container"
    with Reader(source) as reader, pytest.raises(MediaError, match=told), Writer(target, like=reader, codec=codec) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert not list(tmp_path.glob("o.*"))
