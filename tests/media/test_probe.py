from __future__ import annotations

from videoclr.media import encoders, probe


def test_codecs_are_tried_out_and_not_only_listed(monkeypatch):
    assert probe.codecs()["ffv1"]
    broken = dict(encoders.ENCODERS, ffv1=encoders.Encoder("no_such_encoder"))
    monkeypatch.setattr(probe, "ENCODERS", broken)
    assert not probe.codecs()["ffv1"]
    assert set(probe.codecs()) == set(encoders.ENCODERS)


def test_the_libraries_have_versions():
    libraries = probe.media_libraries()
    assert {"PyAV", "FFmpeg", "libavcodec"} <= set(libraries)
    assert all(libraries.values())
