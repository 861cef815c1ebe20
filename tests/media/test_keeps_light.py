"""Pictures of floats: what is no face keeps its bits, whatever its size and sign, and a face is restored in its own light."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from videoclr.errors import ConfigError, DecodeError
from videoclr.media.exr import head_of, layers, said, with_head
from videoclr.media.layout import layout_of
from videoclr.media.picture import Picture, float_frame
from videoclr.media.proxy import BT709, PRIMARIES, Proxy
from videoclr.media.reader import Reader
from videoclr.media.spool import Spool
from videoclr.media.writer import Writer
from videoclr.types import Frame, Patch

HALF, WHOLE = "half", "float"
SIZE = (96, 64)


def scene(width: int = SIZE[0], height: int = SIZE[1]) -> np.ndarray:
    """`(h, w, 3)` float32: a ramp of light from a little below black to twelve times white, with what a renderer leaves as well."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = np.stack([-0.05 + 12 * (x / width) ** 3, 0.4 * y / height, 0.2 + 0.1 * np.sin(x / 5)], -1).astype(np.float32)
    light[0, 0], light[0, 1] = np.inf, np.nan
    return light.astype(np.float16).astype(np.float32)


def save(path, light, depth=HALF, alpha=None):
    frame = float_frame(light, alpha)
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    context = av.CodecContext.create("exr", "w")
    context.width, context.height, context.pix_fmt, context.time_base = (
        frame.width,
        frame.height,
        frame.format.name,
        frame.time_base,
    )
    context.options = {"format": depth}
    path.write_bytes(b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None))))
    return path


def load(path) -> tuple[np.ndarray, str]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    layout = layout_of(frame.format.name)
    return np.stack([layout.view(frame, one).astype(np.float32) for one in range(3)], -1), frame.format.name


def disc(width=40, height=32):
    y, x = np.mgrid[0:height, 0:width]
    return (1 - np.hypot((x - width / 2) / (width / 2), (y - height / 2) / (height / 2))).clip(0, 1).astype(np.float32)


def restored(frame: Frame, by: float = 0.9, at=(40, 20)) -> Frame:
    """`frame` with a patch that makes what is shown darker."""
    alpha = disc()
    x, y = at
    seen = frame.image[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    return frame.with_patches([Patch(x, y, np.rint(seen * by).astype(np.uint16), alpha)])


def run(source, target, change=lambda frame: frame, reading=None, **options) -> list[str]:
    with Reader(source, **(reading or {})) as reader, Writer(target, like=reader, **options) as writer:
        for frame in reader.frames():
            writer.write(change(frame))
    return writer.warnings


@pytest.mark.parametrize(("depth", "name"), [(HALF, "gbrpf16le"), (WHOLE, "gbrpf32le")])
def test_light_passes_to_the_bit_and_only_a_face_changes_it(tmp_path, depth, name):
    light = scene() if depth == HALF else scene() * np.float32(1.0001)
    source = save(tmp_path / "s.exr", light, depth)
    assert run(source, tmp_path / "same.exr") == []
    kept, format_ = load(tmp_path / "same.exr")
    assert format_ == name and np.array_equal(kept, light, equal_nan=True)

    assert run(source, tmp_path / "face.exr", restored) == []
    faced, _ = load(tmp_path / "face.exr")
    inside = np.zeros(SIZE[::-1], bool)
    inside[20:52, 40:80] = disc() > 0
    assert np.array_equal(faced[~inside], light[~inside], equal_nan=True)
    middle, before = faced[36, 60], light[36, 60]
    assert before[0] > 2.5, "a highlight, far above white"
    assert 1 < middle[0] < before[0] and middle[2] < before[2]
    assert 0.7 < middle[1] / before[1] < 0.9, "ten percent of code values are about twenty of light"


@pytest.mark.parametrize("depth", [HALF, WHOLE])
def test_infinite_light_and_what_is_no_number_stay_under_a_face(tmp_path, depth):
    light = scene()
    light[30:33, 55:58] = [np.inf, -np.inf, np.nan]
    source = save(tmp_path / "s.exr", light, depth)
    run(source, tmp_path / "o.exr", restored)
    before, after = load(source)[0], load(tmp_path / "o.exr")[0]
    assert np.array_equal(after[30:33, 55:58], before[30:33, 55:58], equal_nan=True)
    assert np.array_equal(np.isfinite(after), np.isfinite(before)) and not np.array_equal(after[36], before[36])


@pytest.mark.parametrize("name", ["gbrpf32le", "gbrapf16le", "grayf32le", "gbrpf16le"])
def test_a_patch_that_changes_nothing_changes_no_bit(name):
    picture = Picture(noise(name))
    seen = picture.rgb()
    assert seen.dtype == np.uint16 and seen.shape == (64, 96, 3)
    assert np.array_equal(picture.window((17, 9, 60, 33)), seen[9:33, 17:60])
    patch = Patch(10, 10, seen[10:40, 10:50], np.ones((30, 40), np.float32))
    assert rows(picture.composite([patch])) == rows(picture.frame)
    moved = picture.composite([Patch(10, 10, seen[10:40, 10:50] // 2, np.ones((30, 40), np.float32))])
    assert moved.format.name == name and rows(moved) != rows(picture.frame)
    layout = layout_of(name)
    if (alpha := layout.opacity(picture.frame)) is not None:
        assert np.array_equal(layout.opacity(moved), alpha)


def noise(name: str) -> VideoFrame:
    rng = np.random.default_rng(5)
    frame, layout = VideoFrame(*SIZE, name), layout_of(name)
    views = [layout.view(frame, place) for place in range(len(layout.places))]
    for view in [*views, *([] if layout.alpha is None else [layout.opacity(frame)])]:
        view[:] = rng.random(view.shape) * 3 - 0.2
    frame.pts = 7
    return frame


def rows(frame: VideoFrame) -> list[bytes]:
    layout = layout_of(frame.format.name)
    views = [layout.view(frame, place) for place in range(len(layout.places))]
    return [view.tobytes() for view in views]


def test_floats_wait_in_the_file_as_all_others_do():
    frame = noise("gbrapf32le")
    here, away = Picture(frame), Picture(frame)
    assert away.put_away(Spool(0))
    assert np.array_equal(away.window((40, 30, 71, 59)), here.window((40, 30, 71, 59)))
    back = away.frame
    assert back is not frame and rows(back) == rows(frame)
    assert np.array_equal(layout_of(back.format.name).opacity(back), layout_of(frame.format.name).opacity(frame))
    assert (back.pts, back.format.name, back.color_trc) == (frame.pts, frame.format.name, frame.color_trc)


def test_footage_that_was_made_linear_is_shown_as_it_was(tmp_path, clip):
    source = clip("s.mkv", codec="ffv1", pix_fmt="yuv444p10le", ticks=range(1))
    run(source, tmp_path / "s.exr")
    with Reader(source) as one, Reader(tmp_path / "s.exr") as other:
        before, after = one.first_picture.rgb() / 65535, other.first_picture.rgb() / 65535
    dark = before < 0.7
    assert dark.mean() > 0.5
    assert np.abs(before - after)[dark].max() < 2e-3
    assert np.all(after[~dark] <= before[~dark] + 2e-3), "highlights are rolled off"


def test_code_values_in_floats_are_shown_as_they_are(tmp_path, clip):
    source = clip("s.mkv", codec="ffv1", pix_fmt="gbrp10le", ticks=range(1))
    run(source, tmp_path / "s.exr", linear=False)
    with Reader(source) as one, Reader(tmp_path / "s.exr", linear=False) as other:
        assert np.abs(one.first_picture.rgb() / 65535 - other.first_picture.rgb() / 65535).max() < 1e-3
    run(tmp_path / "s.exr", tmp_path / "f.exr", lambda frame: restored(frame, 0.5), {"linear": False}, linear=False)
    before, after = load(tmp_path / "s.exr")[0], load(tmp_path / "f.exr")[0]
    assert after[36, 60] == pytest.approx(before[36, 60] / 2, rel=0.01)


@pytest.mark.parametrize("ending", [".png", ".mov"])
def test_files_that_hold_no_light_get_what_is_shown_of_it_and_say_so(tmp_path, ending, caplog):
    light = np.nan_to_num(scene(), posinf=1)
    alpha = np.tile(np.linspace(6, 0, SIZE[0], dtype=np.float32).clip(0, 1), (SIZE[1], 1))
    source = save(tmp_path / "s.exr", light, HALF, alpha)
    options = {} if ending == ".png" else {"codec": "prores", "profile": "4444"}
    warnings = run(source, tmp_path / f"o{ending}", restored, **options)
    assert [text for text in warnings if "floats are written as code values of BT.709" in text]
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == warnings, "each is told, and once"
    with Reader(source) as one, Reader(tmp_path / f"o{ending}") as other:
        shown, written = restored(Frame(0, Fraction(0), one.first_picture)).image, other.first_picture
        assert other.first_picture.proxy is None
    error = np.abs(shown / 65535 - written.rgb() / 65535)[alpha == 1]
    assert np.quantile(error, 0.99) < (1e-4 if ending == ".png" else 0.02)
    deep = written.frame.reformat(format="rgba64le").to_ndarray()[..., 3] / 65535
    assert np.abs(deep - alpha).max() < 2e-3


RAMP = np.tile(np.linspace(0, 1, SIZE[0], dtype=np.float32), (SIZE[1], 1))
COVERED = RAMP > 0.1


@pytest.mark.parametrize("deliver", ["video", "wipe"])
@pytest.mark.parametrize("ending", [".png", ".mov"])
def test_colours_that_an_exr_multiplies_with_alpha_are_straight_elsewhere(tmp_path, ending, deliver):
    # One colour behind a soft edge, with a face over it: no fringe, which would be the colour again at the edge, or darker.
    source = save(tmp_path / "s.exr", np.float32([0.3, 0.2, 0.1]) * RAMP[..., None], WHOLE, RAMP)
    opaque = save(tmp_path / "p.exr", np.tile(np.float32([0.3, 0.2, 0.1]), (*RAMP.shape, 1)), WHOLE)
    options = {} if ending == ".png" else {"codec": "prores", "profile": "4444"}
    for path, target in ((source, "o"), (opaque, "q")):
        run(path, tmp_path / f"{target}{ending}", restored, deliver=deliver, wipe_seconds=0, **options)
    with Reader(tmp_path / f"o{ending}") as one, Reader(tmp_path / f"q{ending}") as other:
        made, meant = one.first_picture, other.first_picture
        alpha = made.frame.reformat(format="rgba64le").to_ndarray()[..., 3] / 65535
        assert np.abs(alpha - RAMP).max() < 2e-3
        error = np.abs(made.rgb().astype(int) - meant.rgb()) / 65535
        assert error[COVERED].max() < (0.005 if ending == ".png" else 0.04)


@pytest.mark.parametrize("options", [{"target": "o.jpg"}, {"target": "o.png", "deliver": "side-by-side"}])
def test_without_alpha_an_exr_is_written_as_it_is_seen_over_black(tmp_path, options):
    source = save(tmp_path / "s.exr", np.float32([0.3, 0.2, 0.1]) * RAMP[..., None], WHOLE, RAMP)
    target = tmp_path / options.pop("target")
    run(source, target, **options)
    with Reader(source) as one, Reader(target) as other:
        shown, made = one.first_picture.rgb() / 65535, other.first_picture.rgb()
    assert np.abs(shown - (made / np.iinfo(made.dtype).max)[:, : SIZE[0]]).max() < 0.03


def test_straight_colours_become_those_of_an_exr_and_come_back(tmp_path):
    straight = np.dstack([np.full((*RAMP.shape, 3), 40000, np.uint16), np.rint(RAMP * 65535).astype(np.uint16)])
    source = tmp_path / "s.png"
    context = av.CodecContext.create("png", "w")
    frame = VideoFrame.from_ndarray(straight, "rgba64le")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    context.width, context.height, context.pix_fmt, context.time_base = *SIZE, "rgba64be", frame.time_base
    frame = frame.reformat(format="rgba64be")
    source.write_bytes(b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None))))
    run(source, tmp_path / "o.exr", restored)
    run(source, tmp_path / "plain.exr")
    light, kept = load(tmp_path / "plain.exr")[0], load(tmp_path / "o.exr")[0]
    assert light[5, -1, 0] == pytest.approx(0.33, abs=0.02)
    assert np.abs(light[5, :, 0] - light[5, -1, 0] * RAMP[5]).max() < 1e-3
    assert (kept[36, 45:75] < light[36, 45:75]).all()
    run(tmp_path / "plain.exr", tmp_path / "back.png")
    with Reader(source) as one, Reader(tmp_path / "back.png") as other:
        before, after = (one.first_picture.frame.reformat(format="rgba64le").to_ndarray() for one in (one, other))
    assert np.abs(before[..., 3].astype(int) - after[..., 3]).max() < 50
    rolled = after[COVERED][:, :3].astype(int)
    assert rolled.max() - rolled.min() < 200


def test_an_overlay_of_light_is_the_restored_picture_in_light(tmp_path):
    source = save(tmp_path / "s.exr", np.nan_to_num(scene(), posinf=1))
    run(source, tmp_path / "r.exr", restored)
    run(source, tmp_path / "o.exr", restored, deliver="overlay")
    with av.open(str(tmp_path / "o.exr")) as container:
        frame = next(container.decode(video=0))
    layout = layout_of(frame.format.name)
    colour, alpha = load(tmp_path / "o.exr")[0], layout.opacity(frame).astype(np.float32)[..., None]
    before, after = load(source)[0], load(tmp_path / "r.exr")[0]
    assert np.abs(before * (1 - alpha) + colour - after).max() < 4e-3 * np.abs(before).max()
    assert np.abs(before - after).max() > 0.3


@pytest.mark.parametrize("deliver", ["side-by-side", "wipe", "matte"])
def test_other_deliverables_of_light_are_light(tmp_path, deliver):
    source = save(tmp_path / "s.exr", np.nan_to_num(scene(), posinf=1))
    run(source, tmp_path / "r.exr", restored)
    run(source, tmp_path / "o.exr", restored, deliver=deliver, **({"wipe_seconds": 0} if deliver == "wipe" else {}))
    before, after, made = load(source)[0], load(tmp_path / "r.exr")[0], load(tmp_path / "o.exr")[0]
    if deliver == "matte":
        assert np.abs(made[20:52, 40:80, 0] - disc()).max() < 1e-3
    elif deliver == "side-by-side":
        assert np.array_equal(made, np.concatenate([before, after], 1))
    else:
        assert np.array_equal(made[:, :46], before[:, :46]) and np.array_equal(made[:, 50:], after[:, 50:])


def test_a_picture_that_somebody_changed_becomes_light_again(tmp_path):
    light = np.full((64, 96, 3), 0.3, np.float32)
    source = save(tmp_path / "s.exr", light)
    run(source, tmp_path / "o.exr", lambda frame: Frame.from_image(frame.image, frame.index, frame.time))
    assert np.abs(load(tmp_path / "o.exr")[0] - 0.3).max() < 1e-3


@pytest.mark.parametrize(
    "proxy",
    [Proxy("linear", floats=True), Proxy("code", 203, BT709, True), Proxy("linear", primaries=PRIMARIES["aces"], floats=True)],
)
def test_what_is_shown_comes_back_as_light(proxy):
    shown = np.random.default_rng(3).integers(2000, 60000, (500, 3)).astype(np.uint16)
    light = proxy.signal(shown)
    assert light.dtype == np.float32
    assert np.abs(proxy.shown(light).astype(int) - shown).max() <= 60
    assert not proxy.change(light, proxy.shown(light)).any()


def attribute(name: str, kind: str, value: bytes) -> bytes:
    return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value


def dressed(data: bytes, *attributes: bytes) -> bytes:
    """An EXR file with attributes in front of all others, its table of chunks mended by hand."""
    new = b"".join(attributes)
    end = len(head_of(data))
    first = struct.unpack("<Q", data[end : end + 8])[0]
    count = (first - end) // 8
    table = [place + len(new) for place in struct.unpack(f"<{count}Q", data[end : end + 8 * count])]
    return data[:8] + new + data[8:end] + struct.pack(f"<{count}Q", *table) + data[end + 8 * count :]


TIMECODE = attribute("timeCode", "timecode", struct.pack("<II", 0x01020304, 0))
RATE, RATE_OF_25 = (attribute("framesPerSecond", "rational", struct.pack("<iI", *rate)) for rate in ((24000, 1001), (25, 1)))
OWNER = attribute("owner", "string", b"somebody")


@pytest.mark.parametrize("depth", [HALF, WHOLE])
def test_what_an_exr_says_besides_stays_in_each_picture(tmp_path, depth):
    light = np.nan_to_num(scene(96, 70), posinf=1)
    for number in (1, 2):
        own = attribute("frameName", "string", f"frame {number}".encode())
        path = save(tmp_path / f"s{number}.exr", light, depth)
        path.write_bytes(dressed(path.read_bytes(), TIMECODE, OWNER, RATE, own))
        assert np.array_equal(load(path)[0], light), "the test's own file is whole"
    assert run(tmp_path / "s%d.exr", tmp_path / "o%d.exr", restored) == []
    for number in (1, 2):
        data = (tmp_path / f"o{number}.exr").read_bytes()
        assert {"timeCode", "owner", "frameName"} <= set(said(head_of(data)))
        assert (RATE in data, RATE_OF_25 in data) == (True, False)
        assert TIMECODE in data and OWNER in data and f"frame {number}".encode() in data
        assert np.array_equal(load(tmp_path / f"o{number}.exr")[0][:20], light[:20])
    warnings = run(tmp_path / "s%d.exr", tmp_path / "o%d.png")
    assert [text for text in warnings if "what the EXR files say besides (timeCode, owner, frameName" in text]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda data: data.replace(b"B\0\1\0\0\0", b"Z\0\1\0\0\0", 1),
            "its picture holds the channels Z, G, R, and R, G and B, or Y, are read",
        ),
        (lambda data: data.replace(b"B\0\1\0\0\0", b"B\0\2\0\0\0", 1), "numbers of several kinds; write them all as half floats"),
        (
            lambda data: data.replace(b"compression\0\1\0\0\0\0", b"compression\0\1\0\0\0\x0d", 1),
            "its compression is not known here",
        ),
    ],
)
def test_an_exr_without_a_picture_that_is_read_says_what_it_holds(tmp_path, change, said):
    path = save(tmp_path / "s.exr", np.nan_to_num(scene(), posinf=1))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DecodeError, match=said):
        Reader(path)


def placed(data: bytes, left: int, top: int) -> bytes:
    """An EXR file of scan lines that lies at another place of its canvas."""
    window = struct.pack("<4i", left, top, left + SIZE[0] - 1, top + SIZE[1] - 1)
    head = head_of(data)
    kept = b"".join(
        attribute(name, kind, window if name in ("dataWindow", "displayWindow") else value)
        for name, kind, value in attributes(head)
    )
    assert len(kept) == len(head) - 9
    return with_head(data, head[:8] + kept + b"\0")


def attributes(head: bytes):
    at = 8
    while head[at]:
        name, kind = (part.decode() for part in head[at:].split(b"\0", 2)[:2])
        begin = at + len(name) + len(kind) + 6
        at = begin + struct.unpack("<i", head[begin - 4 : begin])[0]
        yield name, kind, head[begin:at]


@pytest.mark.parametrize("deliver", ["overlay", "matte"])
def test_what_is_made_for_compositing_lies_where_its_source_does_and_says_what_that_says(tmp_path, deliver):
    source = save(tmp_path / "s.exr", np.nan_to_num(scene(), posinf=1))
    told = [TIMECODE, OWNER, chromaticities(PRIMARIES["acescg"])]
    source.write_bytes(dressed(placed(source.read_bytes(), 7, -3), *told))
    assert run(source, tmp_path / "o.exr", restored, deliver=deliver) == []
    before, after = ({one[0]: one[2] for one in attributes((tmp_path / name).read_bytes())} for name in ("s.exr", "o.exr"))
    for name in ("dataWindow", "displayWindow", "timeCode", "owner"):
        assert after[name] == before[name], name
    assert ("chromaticities" in after) == (deliver == "overlay"), "the share of a face has no colour"
    with Reader(tmp_path / "o.exr") as reader:
        light = reader.first_picture.signals()
    assert light[36, 60].all() and not light[:20].any()


SKIN = np.float32([0.52, 0.30, 0.21])
"""Linear light, BT.709."""
FROM_ACESCG = np.array([[1.70505, -0.62179, -0.08326], [-0.13026, 1.14080, -0.01055], [-0.02400, -0.12897, 1.15297]])
"""Of the Academy's transforms: ACEScg to linear BT.709 with a white of D65, adapted by Bradford's."""


def chromaticities(places) -> bytes:
    return attribute("chromaticities", "chromaticities", struct.pack("<8f", *np.ravel(places)))


def shown(path, **options) -> np.ndarray:
    with Reader(path, **options) as reader:
        return reader.first_picture.rgb()[30, 30] / 65535


@pytest.mark.parametrize("tagged", [True, False], ids=["tagged", "told"])
def test_light_of_other_primaries_is_shown_as_bt709_and_stays_what_it_is(tmp_path, tagged):
    wide = np.linalg.inv(FROM_ACESCG) @ SKIN
    plain = save(tmp_path / "plain.exr", np.tile(SKIN, (64, 96, 1)), WHOLE)
    source = save(tmp_path / "s.exr", np.tile(wide.astype(np.float32), (64, 96, 1)), WHOLE)
    assert np.abs(shown(plain) - shown(source)).max() > 0.02, "taken for BT.709 it is paler"
    options = {} if tagged else {"primaries": "acescg"}
    if tagged:
        source.write_bytes(dressed(source.read_bytes(), chromaticities(PRIMARIES["acescg"])))
    assert np.abs(shown(plain) - shown(source, **options)).max() < 1e-3

    run(source, tmp_path / "f.exr", restored, options)
    run(plain, tmp_path / "p.exr", restored)
    before, after, here = load(source)[0], load(tmp_path / "f.exr")[0], load(tmp_path / "p.exr")[0]
    assert np.array_equal(after[:20], before[:20])
    assert FROM_ACESCG @ after[36, 60] == pytest.approx(here[36, 60], abs=1e-3), "the same change of the same light"
    assert (chromaticities(PRIMARIES["acescg"]) in (tmp_path / "f.exr").read_bytes()) == tagged
    run(source, tmp_path / "o.png", reading=options)
    assert np.abs(shown(tmp_path / "o.png") - shown(plain)).max() < 1e-3


def test_a_name_is_stronger_than_what_the_file_says(tmp_path):
    source = save(tmp_path / "s.exr", np.tile(SKIN, (64, 96, 1)), WHOLE)
    before = shown(source)
    source.write_bytes(dressed(source.read_bytes(), chromaticities(PRIMARIES["acescg"])))
    assert np.array_equal(shown(source, primaries="bt709"), before)


@pytest.mark.parametrize("places", [np.zeros((4, 2)), np.full((4, 2), np.nan), (*BT709[:3], (0.9, 0.05))])
def test_chromaticities_that_are_none_are_told(tmp_path, places):
    source = save(tmp_path / "s.exr", np.tile(SKIN, (64, 96, 1)), WHOLE)
    before = shown(source)
    source.write_bytes(dressed(source.read_bytes(), chromaticities(places)))
    with Reader(source) as reader:
        assert [text for text in reader.warnings if "its chromaticities are no primaries" in text]
        assert np.array_equal(reader.first_picture.rgb()[30, 30] / 65535, before)


def test_primaries_for_what_holds_no_floats_are_told(clip):
    with Reader(clip("s.mkv", ticks=range(1)), primaries="aces") as reader:
        assert [text for text in reader.warnings if "media.primaries is left out" in text]
    with pytest.raises(ConfigError, match=r"\$\.media\.primaries: expected bt709, .*, got 'rec709'"):
        Reader("s.mkv", primaries="rec709")


def test_layers_that_are_not_read_are_told(tmp_path):
    data = save(tmp_path / "s.exr", np.full((16, 16, 3), 0.5, np.float32)).read_bytes()
    assert layers(head_of(data)) == []
    channel = struct.pack("<iB3xii", 1, 0, 1, 1)
    head = data[:8] + attribute(
        "channels", "chlist", b"".join(name + b"\0" + channel for name in (b"B", b"G", b"R", b"Z", b"id.A")) + b"\0"
    )
    assert layers(head + b"\0") == ["Z", "id.A"]


LONG = attribute("a name of more than thirty one letters", "string", b"long")
PICTURE = np.arange(16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3) / 512
CHANNELS = attribute(
    "channels", "chlist", b"".join(n + b"\0" + struct.pack("<iB3xii", 2, 0, 1, 1) for n in (b"B", b"G", b"R")) + b"\0"
)
WINDOW = struct.pack("<4i", 0, 0, 15, 15)
HEADER = CHANNELS + b"".join(
    attribute(name, kind, value)
    for name, kind, value in (
        ("compression", "compression", b"\0"),
        ("dataWindow", "box2i", WINDOW),
        ("displayWindow", "box2i", WINDOW),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", bytes(8)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    )
)


def rows_of(block: np.ndarray) -> bytes:
    return b"".join(row[:, channel].tobytes() for row in block for channel in (2, 1, 0))


def by_hand(version: int, headers: list[bytes], end: bytes, chunks: list[bytes]) -> bytes:
    head = b"v/1\x01" + struct.pack("<I", version) + b"".join(header + b"\0" for header in headers) + end
    places = np.cumsum([len(head) + 8 * len(chunks), *map(len, chunks[:-1])])
    return head + struct.pack(f"<{len(chunks)}Q", *map(int, places)) + b"".join(chunks)


def tiled(*attributes: bytes) -> bytes:
    tiles = attribute("tiles", "tiledesc", struct.pack("<IIB", 8, 8, 0))
    blocks = {(x, y): rows_of(PICTURE[8 * y : 8 * y + 8, 8 * x : 8 * x + 8]) for y in range(2) for x in range(2)}
    chunks = [struct.pack("<5i", x, y, 0, 0, len(block)) + block for (x, y), block in blocks.items()]
    return by_hand(2 | 0x200 | 0x400, [b"".join(attributes) + HEADER + tiles], b"", chunks)


def of_two_parts(*attributes: bytes) -> bytes:
    def header(name: bytes, *more: bytes) -> bytes:
        own = attribute("name", "string", name) + attribute("type", "string", b"scanlineimage")
        return b"".join(more) + HEADER + own + attribute("chunkCount", "int", struct.pack("<i", 16))

    headers = [header(b"beauty", *attributes), header(b"matte")]
    chunks = [
        struct.pack("<3i", part, y, 16 * 12) + rows_of(PICTURE[y : y + 1] * (1 - part)) for part in range(2) for y in range(16)
    ]
    return by_hand(2 | 0x1000 | 0x400, headers, b"\0", chunks)


@pytest.mark.parametrize(("made", "warned"), [(tiled, []), (of_two_parts, ["holds several parts: only the first one is read"])])
def test_tiles_and_the_first_of_several_parts_keep_what_they_say(tmp_path, made, warned):
    (tmp_path / "s.exr").write_bytes(made(TIMECODE, OWNER, LONG))
    assert np.array_equal(load(tmp_path / "s.exr")[0], PICTURE), "the test's own file is whole"
    assert run(tmp_path / "s.exr", tmp_path / "o.exr") == []
    with Reader(tmp_path / "s.exr") as reader:
        assert reader.warnings == warned
    data = (tmp_path / "o.exr").read_bytes()
    assert all(one in data for one in (TIMECODE, OWNER, LONG)) and b"tiledesc" not in data and b"scanlineimage" not in data
    assert struct.unpack("<I", data[4:8])[0] == 2 | 0x400, "one part of scan lines, with long names"
    assert np.array_equal(load(tmp_path / "o.exr")[0], PICTURE)


def table_of(data: bytes, parts: int) -> tuple[int, int]:
    """Where the chunks of an EXR's first part are listed, and how many they are."""
    last = data.rindex(attribute("chunkCount", "int", struct.pack("<i", 16))) if parts > 1 else 0
    begin = len(head_of(data)) if parts == 1 else last + len(attribute("chunkCount", "int", bytes(4))) + 2
    return begin, (struct.unpack_from("<Q", data, begin)[0] - begin) // 8 // parts


def plain(*attributes: bytes) -> bytes:
    chunks = [struct.pack("<2i", y, 16 * 12) + rows_of(PICTURE[y : y + 1]) for y in range(16)]
    return by_hand(2 | 0x400, [b"".join(attributes) + HEADER], b"", chunks)


@pytest.mark.parametrize("made", [plain, tiled, of_two_parts])
@pytest.mark.parametrize("damage", ["cut", "hole", "none", "unlisted"])
def test_an_exr_of_which_chunks_are_missing_is_told(tmp_path, made, damage):
    data = bytearray(made())
    begin, count = table_of(bytes(data), 2 if made is of_two_parts else 1)
    if damage == "cut":
        del data[struct.unpack_from("<Q", data, begin + 8 * (count - 1))[0] + 30 :]
    elif damage == "hole":
        struct.pack_into("<Q", data, begin + 8 * (count // 2), 0)
    elif damage == "unlisted":
        data[begin : begin + 8 * count] = bytes(8 * count)
    (tmp_path / "s.exr").write_bytes(data)
    with Reader(tmp_path / "s.exr") as reader:
        assert len(list(reader.frames())) == 1
    told = [text for text in reader.warnings if "a picture is cut off" in text]
    whole = np.array_equal(load(tmp_path / "s.exr")[0], PICTURE)
    assert bool(told) == (not whole) == (damage in ("cut", "hole") or (damage == "unlisted" and made is not plain))


def windowed(data: bytes, shown: tuple[int, ...], held: tuple[int, ...], part: int = 0) -> bytes:
    """An EXR file one part of which is at another place."""
    moved = bytearray(data)
    for name, window in ((b"displayWindow\0box2i\0", shown), (b"dataWindow\0box2i\0", held)):
        found = data.index(name, data.index(name) + 1) if part else data.index(name)
        struct.pack_into("<4i", moved, found + len(name) + 4, *window)
    parts = 2 if b"chunkCount" in data else 1
    begin, count = table_of(data, parts)
    for place in struct.unpack_from(f"<{count}Q", data, begin + 8 * part * count) if b"tiles" not in data else ():
        line = place + 4 * (parts - 1)
        struct.pack_into("<i", moved, line, struct.unpack_from("<i", data, line)[0] + held[1])
    return bytes(moved)


@pytest.mark.parametrize("corner", [(100, 50), (-7, -3)])
def test_an_exr_stays_where_it_was_on_its_canvas(tmp_path, corner):
    """FFmpeg's decoder looks for all of them at 0, 0."""
    x, y = corner
    window = (x, y, x + 15, y + 15)
    (tmp_path / "s.exr").write_bytes(windowed(plain(OWNER), window, window))
    assert run(tmp_path / "s.exr", tmp_path / "o.exr") == []
    with Reader(tmp_path / "s.exr") as one, Reader(tmp_path / "o.exr") as other:
        assert one.warnings == other.warnings == []
        assert np.array_equal(one.first_picture.signals(), PICTURE)
        assert np.array_equal(other.first_picture.signals(), PICTURE)
    data = (tmp_path / "o.exr").read_bytes()
    place = struct.pack("<5i", 16, *window)
    assert b"displayWindow\0box2i\0" + place in data and b"dataWindow\0box2i\0" + place in data
    run(tmp_path / "s.exr", tmp_path / "both.exr", deliver="side-by-side")
    assert np.array_equal(load(tmp_path / "both.exr")[0], np.concatenate([PICTURE, PICTURE], 1)), "of another size: its own canvas"


@pytest.mark.parametrize("made", [tiled, of_two_parts])
def test_tiles_and_parts_are_found_on_their_canvas_too(tmp_path, made):
    data = made()
    for number in range(2 if made is of_two_parts else 1):
        data = windowed(data, (40, 30, 55, 45), (40, 30, 55, 45), number)
    (tmp_path / "s.exr").write_bytes(data)
    with Reader(tmp_path / "s.exr") as reader:
        assert np.array_equal(reader.first_picture.signals(), PICTURE)


def test_what_an_exr_holds_beyond_what_it_shows_is_told(tmp_path):
    (tmp_path / "s.exr").write_bytes(windowed(plain(), (0, 0, 11, 13), (-2, -1, 13, 14)))
    with Reader(tmp_path / "s.exr") as reader:
        assert reader.first_picture.size == (12, 14)
        assert [text for text in reader.warnings if "pixels outside the display window (88) are left out" in text]
    run(tmp_path / "s.exr", tmp_path / "o.exr")
    assert np.array_equal(load(tmp_path / "o.exr")[0], PICTURE[1:15, 2:14])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"v/1\x01",
        b"v/1\x01" + struct.pack("<I", 0x0802) + bytes(99),
        b"v/1\x01\x02\0\0\0name\0kind\0\xff\xff\xff\x7f",
        b"x" * 99,
    ],
)
def test_what_is_no_header_of_an_exr_is_none(data):
    assert head_of(data) == b""
