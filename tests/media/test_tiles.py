"""Pictures made of tiles, built box by box as telephones write them: nothing here encodes them."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from videoclr.errors import MediaError
from videoclr.media.layout import layout_of
from videoclr.media.opening import Limits, Opening
from videoclr.media.reader import Reader
from videoclr.media.tiles import assembled
from videoclr.media.writer import Writer

TILE = 64


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, version: int, *content: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24), *content)


def encoded(tile: np.ndarray, pix_fmt: str, codec: str) -> tuple[bytes, bytes]:
    """A tile `(64, 64, 3)` uint8 RGB as one picture, nearly without loss, and the configuration of its decoder."""
    memory = io.BytesIO()
    options = {"x265-params": "lossless=1:log-level=error"} if codec == "libx265" else {"crf": "1", "preset": "12"}
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=1, options=options)
        stream.width, stream.height, stream.pix_fmt = tile.shape[1], tile.shape[0], pix_fmt
        frame = av.VideoFrame.from_ndarray(tile, format="rgb24").reformat(format=pix_fmt, dst_colorspace="itu709")
        stream.codec_context.colorspace = 1
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            packet.pts = packet.dts = 0
            container.mux(packet)
    memory.seek(0)
    with av.open(memory) as container:
        return b"".join(bytes(one) for one in container.demux(video=0)), container.streams.video[0].codec_context.extradata


def tiled(
    picture: np.ndarray,
    *,
    size: tuple[int, int] | None = None,
    pix_fmt: str = "yuv420p",
    codec: str = "libx265",
    said: bytes = b"",
    exif: bytes = b"",
    kind: bytes = b"grid",
    missing: int = 0,
    xmp: bool = False,
    added: bool = False,
) -> bytes:
    """A HEIC (AVIF with `codec="libsvtav1"`) file of `picture`, `(H, W, 3)` uint8 RGB with sides divisible by 64.

    Args:
        picture: what the tiles show.
        size: width and height of the grid's picture, where the tiles reach beyond it.
        pix_fmt, codec: of the tiles.
        said: further property boxes of the picture.
        exif: TIFF data.
        kind: of the item that is the picture.
        missing: tiles that are not there.
        xmp: with XMP data.
        added: with a picture that says something of this one.
    """
    rows, columns = picture.shape[0] // TILE, picture.shape[1] // TILE
    width, height = size or (picture.shape[1], picture.shape[0])
    places = [(row, column) for row in range(rows) for column in range(columns)][: rows * columns - missing]
    cut = [picture[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] for row, column in places]
    tiles = [encoded(np.ascontiguousarray(one), pix_fmt, codec) for one in cut]
    coded, configuration = (b"hvc1", b"hvcC") if codec == "libx265" else (b"av01", b"av1C")
    grid, first = 1, 2
    numbers = list(range(first, first + len(tiles)))
    extra = ([(b"Exif", b"cdsc", struct.pack(">I", 0) + exif)] if exif else []) + ([(b"mime", b"cdsc", b"<x/>")] if xmp else [])
    extra += [(coded, b"auxl", tiles[0][0])] if added else []
    beside = list(range(numbers[-1] + 1, numbers[-1] + 1 + len(extra)))
    kinds = {grid: kind} | dict.fromkeys(numbers, coded) | {item: what for item, (what, _, _) in zip(beside, extra, strict=True)}
    boxes = [
        box(configuration, tiles[0][1]),
        full(b"ispe", 0, struct.pack(">II", TILE, TILE)),
        full(b"ispe", 0, struct.pack(">II", width, height)),
    ]
    more = []
    while said:
        length = int.from_bytes(said[:4], "big")
        more, said = [*more, said[:length]], said[length:]
    own = [3, *range(4, 4 + len(more))]
    about = {grid: own} | {number: [0x81, 2] for number in numbers + beside * added}
    ipma = b"".join(struct.pack(">HB", item, len(which)) + bytes(which) for item, which in about.items())
    references = box(b"dimg", struct.pack(">HH", grid, len(numbers)), *(struct.pack(">H", one) for one in numbers))
    references += b"".join(box(way, struct.pack(">HHH", one, 1, grid)) for one, (_, way, _) in zip(beside, extra, strict=True))
    contents = [one for one, _ in tiles] + [content for _, _, content in extra]
    idat = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)

    def meta(begin: int) -> bytes:
        located = [struct.pack(">HHHHII", grid, 1, 0, 1, 0, len(idat))]
        at = begin
        for item, content in zip([*numbers, *beside], contents, strict=True):
            located.append(struct.pack(">HHHHII", item, 0, 0, 1, at, len(content)))
            at += len(content)
        types = {b"mime": b"application/rdf+xml\0"}
        entries = [full(b"infe", 2, struct.pack(">HH4sx", item, 0, what), types.get(what, b"")) for item, what in kinds.items()]
        return full(
            b"meta", 0,
            full(b"hdlr", 0, struct.pack(">I4s12xx", 0, b"pict")),
            full(b"pitm", 0, struct.pack(">H", grid)),
            full(b"iloc", 1, struct.pack(">BBH", 0x44, 0, len(located)), *located),
            full(b"iinf", 0, struct.pack(">H", len(entries)), *entries),
            full(b"iref", 0, references),
            box(b"iprp", box(b"ipco", *boxes, *more), full(b"ipma", 0, struct.pack(">I", len(about)), ipma)),
            box(b"idat", idat),
        )  # fmt: skip

    brand = b"heic" if codec == "libx265" else b"avif"
    head = box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", *contents)


QUARTER, UPSIDE_DOWN = box(b"irot", b"\1"), box(b"irot", b"\2")
LEFT_FOR_RIGHT = box(b"imir", b"\1")


@pytest.fixture
def picture() -> np.ndarray:
    """`(128, 192, 3)`: no two tiles of it are alike, and it is smooth, so that reduced chroma costs little."""
    y, x = np.mgrid[0:128, 0:192]
    return np.stack([x * 255 // 191, y * 255 // 127, (x + y) * 255 // 318], -1).astype(np.uint8)


def read(path, limits=None):
    with Reader(path, opening=Opening(limits=limits or Limits())) as reader:
        (frame,) = reader.frames()
        return frame.image, list(reader.warnings)


def heic(folder, *args, **kwargs):
    path = folder / "photo.heic"
    path.write_bytes(tiled(*args, **kwargs))
    return path


def near(found, wanted, most=6):
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= most


def test_tiles_become_the_whole_picture(tmp_path, picture):
    image, warnings = read(heic(tmp_path, picture))
    near(image, picture)
    assert warnings == []


def test_the_grid_says_how_large_it_is_where_its_tiles_reach_beyond(tmp_path, picture):
    near(read(heic(tmp_path, picture, size=(180, 100)))[0], picture[:100, :180])


@pytest.mark.parametrize(
    ("said", "turned"),
    [
        (QUARTER, np.rot90),  # against the clock
        (UPSIDE_DOWN, lambda image: image[::-1, ::-1]),
        (LEFT_FOR_RIGHT, lambda image: image[:, ::-1]),
    ],
)
def test_it_stands_as_the_file_says(tmp_path, picture, said, turned):
    near(read(heic(tmp_path, picture, said=said))[0], turned(picture))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv444p", "yuv422p10le", "gray"])
def test_samples_are_those_of_the_tiles_to_the_bit(tmp_path, picture, pix_fmt):
    """But for chroma at the borders of tiles, which the test's own conversion filters over."""
    wanted = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt, dst_colorspace="itu709")
    with av.open(io.BytesIO(assembled(str(heic(tmp_path, picture, pix_fmt=pix_fmt)), Limits()))) as container:
        (frame,) = container.decode(video=0)
    assert frame.format.name == pix_fmt
    layout = layout_of(pix_fmt)
    assert np.array_equal(layout.view(frame, 0), layout.view(wanted, 0))
    near(layout.view(frame, len(layout.places) - 1), layout.view(wanted, len(layout.places) - 1), 3 << layout.depth - 8)


def test_avif_has_tiles_too(tmp_path, picture):
    near(read(heic(tmp_path, picture, codec="libsvtav1"))[0], picture, 12)


def test_colour_profile_and_exif_come_along(tmp_path, picture):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = Image.Exif()
    data[0x0110] = "a telephone"
    exif = data.tobytes().removeprefix(b"Exif\0\0")
    source = heic(tmp_path, picture, said=box(b"colr", b"prof", profile), exif=exif)
    with Reader(source) as reader, Writer(tmp_path / "photo.jpg", like=reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
    with Image.open(tmp_path / "photo.jpg") as image:
        assert image.info["icc_profile"] == profile
        assert image.getexif()[0x0110] == "a telephone"
        near(np.asarray(image), picture, 12)


def test_tiles_that_are_too_few_or_too_small_are_said_in_a_line(tmp_path, picture):
    with pytest.raises(MediaError, match="photo"):
        read(heic(tmp_path, picture, missing=1))
    with pytest.raises(MediaError, match="tiles of its picture cannot be read; it may be damaged"):
        read(heic(tmp_path, picture, size=(300, 100)))


def test_a_damaged_tile_and_a_cut_off_file_are_refused(tmp_path, picture):
    whole = tiled(picture)
    for data in (whole[:-3000], whole[:-2500] + bytes(2500)):
        (tmp_path / "photo.heic").write_bytes(data)
        with pytest.raises(MediaError, match="photo"):
            read(tmp_path / "photo.heic")


def test_limits_hold_for_the_whole_picture(tmp_path, picture):
    with pytest.raises(MediaError, match=r"192x128, more than media\.limits\.pixels"):
        read(heic(tmp_path, picture), Limits(pixels=20_000))


def test_a_file_that_changed_is_read_again(tmp_path, picture):
    read(heic(tmp_path, picture))
    near(read(heic(tmp_path, picture[:, ::-1].copy(), size=(190, 128)))[0], picture[:, ::-1][:, :190])


def test_a_list_of_films_takes_no_picture_of_tiles(tmp_path, picture):
    heic(tmp_path, picture)
    (tmp_path / "reel.ffconcat").write_text("ffconcat version 1.0\nfile photo.heic\n")
    with pytest.raises(MediaError, match="is a picture"):
        read(tmp_path / "reel.ffconcat")


def test_tiles_that_lie_over_one_another_are_refused(tmp_path, picture):
    overlay = heic(tmp_path, picture, kind=b"iovl")
    with pytest.raises(MediaError, match="photo"):
        read(overlay)


def test_it_is_a_still_and_no_film(tmp_path, picture):
    with Reader(heic(tmp_path, picture)) as reader:
        assert reader.is_still
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")), *stream.encode(None)])
    with Reader(tmp_path / "film.mp4") as reader:
        assert not reader.is_still


def test_what_lies_beside_the_picture_is_told(tmp_path, picture):
    image, warnings = read(heic(tmp_path, picture, xmp=True, added=True))
    near(image, picture)
    assert len(warnings) == 2
    assert "XMP" in warnings[0] and "what makes it HDR" in warnings[1]
