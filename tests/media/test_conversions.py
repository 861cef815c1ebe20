"""Pixels are converted once each way: to RGB for what a network looks at, and back only under a face."""

from __future__ import annotations

from videoclr.media import film, picture
from videoclr.media.picture import Picture

FACE = {"face": (48.0, 32.0), "size": 26.0, "light": 0.2}


def test_every_frame_becomes_rgb_once_and_never_goes_back_as_a_whole(clip, job, tmp_path, monkeypatch):
    to_rgb, whole = [], []
    rgb, reformatted = Picture.rgb, picture.reformatted

    def counted(self):
        to_rgb.append(self)
        return rgb(self)

    def watched(frame, colour, pixel_format, to):
        out = reformatted(frame, colour, pixel_format, to)
        if out is not frame:
            whole.append(pixel_format)
        return out

    monkeypatch.setattr(Picture, "rgb", counted)
    monkeypatch.setattr(picture, "reformatted", watched)
    monkeypatch.setattr(film, "reformatted", watched)
    source = clip("s.mp4", ticks=range(12))
    report = job(source, tmp_path / "o.mp4", **FACE)
    assert report.faces_restored == 12
    assert len(to_rgb) == 12
    assert set(whole) == {"rgb24"}, "the encoder gets the decoder's own planes"
    assert len(whole) == 3 * 12, "the whole, the place of the face for its crop, and for its patch"
