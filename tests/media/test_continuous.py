"""Recordings that follow one another in a file: the clock jumps, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from videoclr.media.continuous import Astray, PictureAstray, TimesJump, continuous
from videoclr.media.reader import Reader

HALF = 40


@pytest.fixture
def joined(clip, tmp_path):
    """Two recordings of `HALF` frames with sound, one behind the other."""
    parts = [
        clip(f"{name}.ts", ticks=range(HALF), audio=1, options={"crf": crf, "g": "10"}) for name, crf in (("a", "20"), ("b", "45"))
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path, *parts


def pictures(path: Any, **settings: Any) -> list[tuple[Fraction, np.ndarray]]:
    with Reader(path, **settings) as reader:
        return [(frame.time, np.asarray(frame.image)) for frame in reader.frames()]


def test_pictures_and_sound_of_both_go_on(joined, carry, packets_of, tmp_path):
    path, first, second = joined
    done = carry(path, tmp_path / "out.mov")
    jumps = [text for text in done.warnings if "the clock jumps from" in text]
    assert len(jumps) == 1 and not [text for text in done.warnings if "refuses" in text or "go back" in text]
    (video,) = packets_of(tmp_path / "out.mov", "video")
    times = sorted(time for _, time in video)
    assert {after - before for before, after in pairwise(times)} == {Fraction(1, 25)} and len(times) == 2 * HALF
    (sound,), (early,), (late,) = (packets_of(one, "audio") for one in (tmp_path / "out.mov", first, second))
    overlap = len(early) + len(late) - len(sound)
    assert 0 <= overlap <= 2
    assert any("overlaps where two recordings meet" in text for text in done.warnings) == (overlap > 0)
    # The last packet lies beside the pictures as it did in its own recording.
    (own,) = packets_of(second, "video")
    apart = late[-1][1] - min(time for _, time in own)
    assert abs(float(sound[-1][1] - times[HALF] - apart)) < 0.001


@pytest.mark.parametrize("start", [0, 12, HALF - 1, HALF, HALF + 7])
def test_a_part_shows_the_pictures_of_its_own_recording(joined, start):
    path, first, second = joined
    all_of_it = [*pictures(first), *pictures(second)]
    found = pictures(path, start=f"{start}f", frames=4)
    assert len(found) == 4
    for (_, picture), (_, wanted) in zip(found, all_of_it[start : start + 4], strict=True):
        assert np.array_equal(picture, wanted)
    with Reader(path) as reader:
        begin = reader.begin
    by_time = pictures(path, start=str(float(found[0][0] - begin) - 0.001), frames=2)
    assert np.array_equal(by_time[0][1], found[0][1])


def test_smart_copy_keeps_both(joined, carry, packets_of, tmp_path):
    path, *_ = joined
    done = carry(path, tmp_path / "out.ts", "media.smart_copy=true")
    assert done.smart_copy["frames_copied"] > 1.8 * HALF  # the short group before the jump may be encoded
    shown = zip(pictures(tmp_path / "out.ts"), pictures(path), strict=True)
    same = [np.array_equal(picture, wanted) for (_, picture), (_, wanted) in shown]
    assert len(same) == 2 * HALF and sum(same) >= done.smart_copy["frames_copied"]


def test_a_clock_that_wraps_is_no_pause_of_a_day(clip, carry, packets_of, tmp_path):
    late, early = clip("late.ts", ticks=range(125_000, 125_000 + HALF)), clip("early.ts", ticks=range(HALF))
    path = tmp_path / "both.ts"
    path.write_bytes(late.read_bytes() + early.read_bytes())
    assert max(time for _, time in packets_of(path, "video")[0]) > 90_000  # as FFmpeg tells it
    done = carry(path, tmp_path / "out.mov")
    times = sorted(time for _, time in packets_of(tmp_path / "out.mov", "video")[0])
    assert len(times) == 2 * HALF and times[-1] - times[0] == Fraction(2 * HALF - 1, 25)
    assert not [text for text in done.warnings if "truncated" in text]


@dataclass
class P:
    """A packet of half a second by FFmpeg's names."""

    stream_index: int
    pts: int | None
    kind: str = "video"
    duration: int = 500

    def __post_init__(self) -> None:
        self.dts, self.time_base, self.stream = self.pts, Fraction(1, 1000), SimpleNamespace(type=self.kind)


def run(packets: Sequence[P]) -> tuple[list[tuple[int, int | None]], list[BaseException]]:
    told: list[BaseException] = []
    found = [(one.stream_index, one.pts) for one in continuous(packets, 0, told.append)]  # type: ignore[arg-type]
    return found, told


def test_sound_that_comes_before_the_pictures_waits_for_them():
    before = [P(0, 0), P(1, 0, "audio"), P(0, 500), P(1, 500, "audio")]
    found, told = run([*before, P(1, 20, "audio"), P(2, 30, "data"), P(0, 20), P(1, 520, "audio"), P(0, 520)])
    assert found == [(0, 0), (1, 0), (0, 500), (1, 500), (2, 30), (0, 1000), (1, 1000), (1, 1500), (0, 1500)]
    assert [type(one) for one in told] == [TimesJump] and "from 1.000 s to 0.020 s" in str(told[0])


def test_what_overlaps_is_told_and_left_out():
    found, told = run([P(0, 0), P(1, 900, "audio"), P(0, 500), P(0, -1000), P(1, -1200, "audio"), P(1, -700, "audio"), P(0, -500)])
    assert found == [(0, 0), (1, 900), (0, 500), (0, 1000), (1, 1300), (0, 1500)]
    assert [type(one) for one in told] == [TimesJump, Astray]


def test_pauses_rare_streams_and_trembling_times_are_no_jumps():
    packets = [
        P(0, 0),
        P(2, 0, "subtitle"),
        P(0, 500),
        P(0, 450),
        P(0, 600_000),
        P(2, 599_000, "subtitle"),
        P(0, 600_500),
        P(2, None),
    ]
    found, told = run(packets)
    assert found == [(one.stream_index, one.pts) for one in packets] and not told


def test_presentation_times_that_go_to_and_fro_are_no_jumps():
    packets = [P(0, 0), P(0, 3000), P(0, 1000), P(0, 2000)]
    for packet, dts in zip(packets, (None, None, 0, 1000), strict=True):
        packet.dts = dts
    found, told = run(packets)
    assert [pts for _, pts in found] == [0, 3000, 1000, 2000] and not told


def test_pictures_that_do_not_say_how_long_they_last_go_on_at_their_rate():
    packets = [P(0, pts, duration=0) for pts in (0, 40, -5000, -4960)]
    for packet in packets:
        packet.stream = SimpleNamespace(type="video", average_rate=Fraction(25))
    assert [pts for _, pts in run(packets)[0]] == [0, 40, 80, 120]


def test_a_stream_that_jumps_alone_goes_on_by_itself():
    pictures = [P(0, 500 * n) for n in range(600)]
    sound = [P(1, 500 * n if n < 100 else 500 * (n - 100), "audio") for n in range(600)]
    found, told = run([one for pair in zip(pictures, sound, strict=True) for one in pair])
    assert [pts for stream, pts in found if stream == 0] == [500 * n for n in range(600)]
    assert [pts for stream, pts in found if stream == 1] == [500 * n for n in range(600)]
    assert [type(one) for one in told] == [Astray] and "its times jump and those of the pictures do not" in str(told[0])


def test_sound_behind_the_last_picture_is_not_lost():
    found, _ = run([P(0, 0), P(1, 0, "audio"), P(1, 500, "audio"), P(1, 0, "audio"), P(1, 500, "audio")])
    assert found == [(0, 0), (1, 0), (1, 500), (1, 1000), (1, 1500)]


def steady(count: int = 60) -> list[P]:
    """Pictures and sound, each half a second."""
    return [P(stream, 500 * n, kind) for n in range(count) for stream, kind in ((0, "video"), (1, "audio"))]


@pytest.mark.parametrize("off", [-1000, -20_000, 60_000, 9_000_000])
@pytest.mark.parametrize("stream", [0, 1])
def test_one_damaged_time_moves_nothing_else(stream, off):
    packets = steady()
    wrong = next(one for one in packets if (one.stream_index, one.pts) == (stream, 10_000))
    wrong.pts += off
    wrong.dts += off
    found, told = run(packets)
    assert sorted(found) == sorted((one.stream_index, one.pts) for one in steady())
    assert [type(one) for one in told] == [PictureAstray if stream == 0 else Astray]


def test_a_pause_of_all_streams_stays_whichever_comes_first():
    for swap in (False, True):
        packets = steady(20)
        for one in (late := steady(20)):
            one.pts += 600_000
            one.dts += 600_000
        if swap:
            late[0], late[1] = late[1], late[0]
        wanted = [(one.stream_index, one.pts) for one in [*packets, *late]]
        found, told = run([*packets, *late])
        assert sorted(found) == sorted(wanted) and not told


def test_sound_of_the_old_recording_may_come_behind_the_first_new_picture():
    """As FFmpeg's parser of AC-3 gives it out."""
    packets = [*steady(20)[:-1], P(0, 0), P(1, 9500, "audio"), P(1, 0, "audio"), P(0, 500), P(1, 500, "audio")]
    found, told = run(packets)
    assert [pts for stream, pts in found if stream == 0] == [500 * n for n in range(22)]
    assert [pts for stream, pts in found if stream == 1] == [500 * n for n in range(22)]
    assert [type(one) for one in told] == [TimesJump]


def test_leading_pictures_behind_a_jump_are_shown_before_their_key():
    packets = [P(0, 40 * n, duration=40) for n in range(10)]
    behind = [P(0, pts, duration=40) for pts in (120, 40, 80, 240, 160, 200)]
    for dts, one in enumerate(behind):
        one.dts = 40 * dts - 40
    found, told = run([*packets, *behind])
    assert [pts for _, pts in found] == [*range(0, 400, 40), 480, 400, 440, 600, 520, 560]
    assert [type(one) for one in told] == [TimesJump]


def test_what_leads_through_a_disc_is_left_out_and_told(made, tmp_path, carry, packets_of):
    made("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4", "-c:v", "mpeg2video", "-f", "dvd", tmp_path / "s.vob")
    report = carry(tmp_path / "s.vob", tmp_path / "o.mp4")
    assert len([text for text in report.warnings if "dvd_nav_packet" in text]) == 1
    assert len(packets_of(tmp_path / "o.mp4", "video")[0]) == 10


@pytest.mark.parametrize(("codec", "suffix"), [("ac3", "ts"), ("mp2", "ts"), ("ac3", "vob"), ("libopus", "ts")])
def test_sound_of_any_codec_stays_beside_its_pictures(made, tmp_path, carry, packets_of, codec, suffix):
    one, path = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    video = ["-c:v", "mpeg2video", "-bf", "2", "-g", "12"]
    made("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=3", "-f", "lavfi", "-i", "sine=d=3:r=48000", *video, "-c:a", codec, one)
    path.write_bytes(2 * one.read_bytes())
    carry(path, tmp_path / "out.mkv")
    ends = {kind: max(time for _, time in packets_of(tmp_path / "out.mkv", kind)[0]) for kind in ("video", "audio")}
    own = {kind: max(time for _, time in packets_of(one, kind)[0]) for kind in ("video", "audio")}
    assert abs(float(ends["audio"] - ends["video"] - (own["audio"] - own["video"]))) < 0.005
    assert len(packets_of(tmp_path / "out.mkv", "video")[0]) == 150
