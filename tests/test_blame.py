from __future__ import annotations

import pytest
import torch

from videoclr.blame import blamed
from videoclr.errors import DeviceError, RestorationError


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


@pytest.mark.parametrize("error", [DeviceError("gone"), torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()])
def test_what_is_not_the_parts_fault_passes_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, blamed("tracker", 7):
        raise error
    assert raised.value is error
