from __future__ import annotations

import inspect
import pickle
from fractions import Fraction

import pytest

from videoclr import errors
from videoclr.errors import (
    BusyError,
    ClusterError,
    ConfigError,
    DecodeError,
    DeviceError,
    DeviceLostError,
    EmptyPartError,
    EncodeError,
    MediaError,
    NotFiniteError,
    RestorationError,
    ResumeError,
    VideoclrError,
    WeightsError,
)


def test_every_exception_is_one_family():
    found = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]
    assert len(found) >= 8
    assert all(issubclass(c, VideoclrError) for c in found)


def test_the_family_is_drawn_in_the_docstring():
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if kind.__module__ == errors.__name__:
            assert name in (errors.__doc__ or ""), name


def test_a_media_error_starts_with_the_file():
    error = MediaError("a.mp4", "no video stream")
    assert str(error) == "a.mp4: no video stream"
    assert error.path == "a.mp4"


@pytest.mark.parametrize("kind", [DecodeError, EncodeError])
def test_an_error_inside_a_film_says_when(kind):
    error = kind("a.mp4", "corrupt packet", Fraction(1001, 1000))
    assert str(error) == "a.mp4: at 1.001 s: corrupt packet"
    assert error.time == Fraction(1001, 1000)
    assert "at" not in str(kind("a.mp4", "corrupt packet"))


def test_a_restoration_error_says_frame_and_track():
    assert str(RestorationError(7, 2, "out of memory")) == "frame 7, track 2: out of memory"
    assert str(RestorationError(7, None, "out of memory")) == "frame 7: out of memory"


@pytest.mark.parametrize("kind", [WeightsError, ResumeError])
def test_errors_about_files_carry_the_path(kind):
    error = kind("w.safetensors", "wrong hash")
    assert (str(error), error.path) == ("w.safetensors: wrong hash", "w.safetensors")


EACH = [
    VideoclrError("odd"),
    ConfigError("$.restore.steps: expected more"),
    MediaError("a.mp4", "no video stream"),
    BusyError("out.mp4", "another run is writing it"),
    EmptyPartError("a.mp4", "holds no picture"),
    DecodeError("a.mp4", "corrupt packet", Fraction(1001, 1000)),
    EncodeError("a.mp4", "does not fit"),
    WeightsError("w.safetensors", "wrong hash"),
    RestorationError(7, 2, "out of memory"),
    NotFiniteError(7, None, "NaN"),
    DeviceError("the device is full"),
    DeviceLostError("the device failed"),
    ResumeError("a.resume", "belongs to another run"),
    ClusterError("nobody answers"),
]


@pytest.mark.parametrize("error", EACH, ids=lambda error: type(error).__name__)
def test_errors_reach_another_process_with_all_they_say(error):
    error.add_note("12 frames are kept")
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error) and str(there) == str(error)
    assert vars(there) == vars(error) and there.__notes__ == ["12 frames are kept"]


def test_every_kind_of_error_is_among_those():
    found = {c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__}
    assert found == {type(error) for error in EACH}
