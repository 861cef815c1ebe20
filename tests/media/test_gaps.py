from __future__ import annotations

from fractions import Fraction

import av
import pytest

from videoclr.media.gaps import Gaps, shows
from videoclr.media.reader import Reader

STEP = Fraction(1, 25)


def at(*numbers: float) -> list[Fraction]:
    return [Fraction(number) * STEP for number in numbers]


def run(gaps: Gaps, due: list[Fraction], come: list[Fraction]) -> list[Fraction]:
    """Everything is expected, then `come` is told frame by frame."""
    for time in due:
        gaps.expect(time)
    return [lost for time in come for lost in gaps.passed(time)]


def test_where_every_packet_shows_a_picture_what_does_not_come_is_lost():
    assert run(Gaps(certain=True), at(*range(6)), at(0, 1, 4, 5)) == at(2, 3)
    assert run(Gaps(), at(*range(6)), at(0, 1, 4, 5)) == []


def test_elsewhere_as_many_are_lost_as_packets_failed():
    gaps = Gaps()
    gaps.failed()
    assert run(gaps, at(*range(6)), at(0, 1, 4, 5)) == at(2)


def test_after_damage_in_a_calm_film_all_that_is_a_frame_away_is_lost():
    gaps = Gaps()
    run(gaps, at(*range(20)), at(*range(20)))
    gaps.damaged()
    assert run(gaps, at(*range(20, 26)), at(20, 23, 24, 25)) == at(21, 22)


def test_second_fields_are_no_loss():
    """A transport stream may give each field of a picture a packet and a time; one frame comes of two."""
    gaps = Gaps()
    run(gaps, at(*range(20)), at(*range(20)))
    gaps.damaged()
    fields = [time for number in range(20, 26) for time in at(number, number + 0.5)]
    assert run(gaps, fields, at(*range(20, 26))) == []


def test_where_times_were_always_passed_over_damage_proves_nothing():
    gaps = Gaps()
    run(gaps, at(*range(40)), at(*range(0, 40, 4)))
    gaps.damaged()
    assert run(gaps, at(*range(40, 50)), at(40, 44, 48)) == []


def test_what_is_still_due_at_the_end_of_a_damaged_film_is_lost():
    whole, damaged = Gaps(), Gaps()
    for gaps in (whole, damaged):
        run(gaps, at(*range(5)), at(0, 1, 2))
    damaged.damaged()
    assert whole.passed(None) == []
    assert damaged.passed(None) == at(3, 4)


def test_what_is_still_due_at_the_end_of_a_film_without_second_fields_is_lost():
    steady, in_fields = Gaps(likely=True), Gaps(likely=True)
    run(steady, at(*range(5)), at(0, 1, 2))
    run(in_fields, [time for number in range(5) for time in at(number, number + 0.5)], at(0, 1, 2, 3, 4))
    assert steady.passed(None) == at(3, 4)
    assert in_fields.passed(None) == []


def test_a_packet_of_h264_shows_a_picture_where_it_has_a_slice():
    slices, information, end = b"\0\0\0\2\x65\x88", b"\0\0\0\2\x06\x01", b"\0\0\0\1\x0a"
    assert shows("h264", information + slices, 4)
    assert not shows("h264", information + end, 4)
    for damaged in (information + b"\0\0", b"\x5a" * 9, b"\0" * 9):
        assert shows("h264", damaged, 4)


def with_hidden(source, target):
    """VP8 with six packets of their own that are not to be shown, such as its encoder writes in two passes."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        for number, packet in enumerate(packet for packet in container.demux(video=0) if packet.size):
            first, *rest = bytes(packet)
            again = av.Packet(bytes([first & ~0x10, *rest]))
            again.pts = again.dts = packet.pts + 1
            again.time_base = packet.time_base
            for one in (packet, again) if number % 10 == 5 else (packet,):
                one.stream = stream
                out.mux(one)
    return target


def test_packets_that_show_nothing_say_so(clip, tmp_path):
    path = with_hidden(clip("whole.webm", codec="libvpx", ticks=range(60), options={"threads": "1"}), tmp_path / "hidden.webm")
    with av.open(str(path)) as container:
        shown = [shows("vp8", memoryview(packet)) for packet in container.demux(video=0) if packet.size]
    assert shown.count(True) == 60
    assert [number for number, one in enumerate(shown) if not one] == [6, 17, 28, 39, 50, 61]


def test_packets_that_show_nothing_are_no_loss(clip, tmp_path):
    path = with_hidden(clip("whole.webm", codec="libvpx", ticks=range(60), options={"threads": "1"}), tmp_path / "hidden.webm")
    with Reader(path) as reader:
        assert len(list(reader.frames())) == 60
    assert reader.warnings == []


def test_every_packet_of_vp9_shows_a_picture(clip):
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "threads": "1"}
    with av.open(str(clip("g.webm", codec="libvpx-vp9", ticks=range(60), options=options))) as container:
        shown = [shows("vp9", memoryview(packet)) for packet in container.demux(video=0) if packet.size]
    assert shown == [True] * 60


def test_a_superframe_shows_what_its_frames_show():
    hidden, shown = b"\x84\x00\x00", b"\x86\x00\x00\x00"  # frame marker, profile 0, not existing, a key frame or not, show_frame
    mark = 0b110_00_001  # two frames, sizes of one byte
    assert not shows("vp9", hidden)
    assert shows("vp9", shown)
    assert shows("vp9", hidden + shown + bytes([mark, len(hidden), len(shown), mark]))
    assert not shows("vp9", hidden + hidden + bytes([mark, len(hidden), len(hidden), mark]))
    assert shows("vp9", b"\x88")  # shows a frame that was decoded before
    assert shows("h264", hidden)


@pytest.mark.parametrize(("codec", "options"), [("libx265", {"x265-params": "log-level=none:keyint=20"}), ("libsvtav1", {})])
def test_decoders_that_drop_frames_without_a_word_cost_none(clip, tmp_path, codec, options):
    whole = clip("w.mp4", codec=codec, ticks=range(60), options=options)
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for number in (11, 12, 30, 31, 45):
        position, size = places[number]
        data[position + size // 3 : position + size] = bytes(size - size // 3)
    broken = tmp_path / "b.mp4"
    broken.write_bytes(data)
    with Reader(whole) as reader:
        every = [frame.time for frame in reader.frames()]
        assert reader.warnings == []
    with Reader(broken) as reader:
        assert [frame.time for frame in reader.frames()] == every
    assert any(" could not be decoded and repeat" in text for text in reader.warnings)
