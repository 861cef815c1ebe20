from __future__ import annotations

import re
from asyncio import CancelledError

import numpy as np
import pytest
import torch

from videoclr.blame import blamed, tensor_of
from videoclr.errors import (
    ClusterError,
    ConfigError,
    DeviceError,
    EncodeError,
    RestorationError,
    ResumeError,
    VideoclrError,
    WeightsError,
)
from videoclr.flow import Unwanted


def said(error: BaseException, *where: object) -> str:
    with pytest.raises(RestorationError) as raised, blamed("tracker", *where):  # type: ignore[arg-type]
        raise error
    assert raised.value.__cause__ is error
    return str(raised.value)


def test_it_is_said_in_one_line_where_which_part_raised_what() -> None:
    assert said(KeyError("no\nface"), 7) == "frame 7: the tracker raised KeyError: 'no\\nface'"
    assert said(RuntimeError("no\nface"), 7, 2) == "frame 7, track 2: the tracker raised RuntimeError: no face"
    assert said(RuntimeError(), 7, 2, 4) == "frame 7, track 2: the tracker raised RuntimeError (in a batch of 4)"
    assert said(StopIteration("the end"), 0) == "frame 0: the tracker raised StopIteration: the end"
    assert said(SystemExit("no licence"), 0) == "frame 0: the tracker raised SystemExit: no licence"


def test_what_would_end_a_program_or_a_generator_without_a_word_is_the_parts_fault() -> None:
    assert said(GeneratorExit("over"), 0) == "frame 0: the tracker raised GeneratorExit: over"
    assert said(CancelledError(), 0) == "frame 0: the tracker raised CancelledError"


class Mine(VideoclrError):
    """Of somebody's own part."""


def test_errors_of_ones_own_kind_are_the_parts_like_any_other() -> None:
    assert said(Mine("no face"), 7, 2) == "frame 7, track 2: the tracker raised Mine: no face"


@pytest.mark.parametrize(
    "error",
    [
        DeviceError("gone"),
        ConfigError("$.track: no"),
        WeightsError("a.safetensors", "is missing"),
        EncodeError("out.mp4", "disk full"),
        ResumeError("out.mp4", "of another source"),
        ClusterError("lost"),
        RestorationError(3, None, "no"),
        KeyboardInterrupt(),
        Unwanted(),
    ],
)
def test_what_is_about_the_whole_run_passes_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, blamed("tracker", 7):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "--device cpu"),
        (RuntimeError("CUDA out of memory"), "--device cpu"),
        (MemoryError(), "on the machine"),
    ],
)
def test_too_little_memory_is_told_unless_less_can_be_tried(error: Exception, advice: str) -> None:
    with pytest.raises(DeviceError, match=f"^frame 7: the judge ran out of memory; .*{advice}") as raised, blamed("judge", 7):
        raise error
    assert raised.value.__cause__ is error
    with pytest.raises(type(error)) as passed, blamed("judge", 7, again=True):
        raise error
    assert passed.value is error


def test_a_device_that_failed_is_told_with_who_met_it() -> None:
    message = r"^frame 7: the judge met a device that failed \(CUDA error: launch failure\); start again"
    with pytest.raises(DeviceError, match=message), blamed("judge", 7):
        raise RuntimeError("CUDA error: launch failure\nmore")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "the restorer gave None, expected a tensor (2, any)"),
        ([torch.zeros(2)], "the restorer gave a list, expected a tensor (2, any)"),
        (np.zeros((2, 4)), "the restorer gave a ndarray (2, 4), expected a tensor (2, any)"),
        (torch.zeros(3, 4), "the restorer gave (3, 4), expected (2, any)"),
        (torch.zeros(2), "the restorer gave (2,), expected (2, any)"),
    ],
)
def test_what_a_part_gives_is_said_beside_what_it_promises(given: object, expected: str) -> None:
    with pytest.raises(RestorationError, match=re.escape(f"frame 7, track 1: {expected}")):
        tensor_of(given, (2, None), "restorer", 7, 1)


def test_what_a_part_gives_becomes_float32_without_gradients() -> None:
    found = tensor_of(torch.ones(2, 3, dtype=torch.float64, requires_grad=True), (2, None), "restorer", 0, None)
    assert found.dtype == torch.float32 and not found.requires_grad
