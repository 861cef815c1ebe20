"""Where in the film a part failed, whichever stage called it, and whether it gave what it promises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from videoclr.errors import (
    ClusterError,
    ConfigError,
    DeviceError,
    MediaError,
    RestorationError,
    ResumeError,
    WeightsError,
)
from videoclr.shortage import is_of_the_device, of_the_device

if TYPE_CHECKING:
    from torch import Tensor

_OF_THE_RUN = (ClusterError, ConfigError, DeviceError, MediaError, ResumeError, WeightsError)
"""What the next face would meet as well."""


@contextmanager
def blamed(part: str, frame: int, track: int | None = None, held: int = 1, again: bool = False) -> Iterator[None]:
    """A call of a part, with the checks of what it gives.

    Args:
        part: what it is, for people: `detector`.
        frame: index of the frame that the call is about, the first of them where it is about several.
        track: of the face that it is about, where it is about one.
        held: frames or faces in the call.
        again: whoever calls tries again with less where the device has too little memory (`videoclr.shortage.Batch`).

    Raises:
        RestorationError: from whatever the part raised, `SystemExit` too, but for the exceptions of this package that are about
            the whole run: those pass as they are.
        DeviceError: what the part raised is the device's fault (see `videoclr.shortage`); with `again` that passes as it is.
    """
    try:
        yield
    except (RestorationError, *_OF_THE_RUN):
        raise
    except (Exception, SystemExit) as error:  # a part may not end the program either
        if is_of_the_device(error):
            if again:
                raise
            raise of_the_device(error, f"frame {frame}: the {part}") from error
        others = f" (in a batch of {held})" if held > 1 else ""
        reason = " ".join(str(error).split())
        message = f"the {part} raised {type(error).__name__}{others}" + (f": {reason}" if reason else "")
        raise RestorationError(frame, track, message) from error


def tensor_of(given: Any, shape: tuple[int | None, ...], part: str, frame: int, track: int | None) -> Tensor:
    """What a part gave, as float32 on the CPU and without gradients.

    Args:
        given: by the part.
        shape: that it promises; None for a side of any length.
        part: what it is, for people: `restorer`.
        frame, track: as for `blamed`.

    Raises:
        RestorationError: it is no tensor of that shape.
    """
    import torch

    expected = f"({', '.join('any' if side is None else str(side) for side in shape)})"
    if not isinstance(given, torch.Tensor):
        raise RestorationError(frame, track, f"the {part} gave {described(given)}, expected a tensor {expected}")
    same = len(given.shape) == len(shape)
    if not same or any(side not in (None, found) for found, side in zip(given.shape, shape, strict=True)):
        raise RestorationError(frame, track, f"the {part} gave {tuple(given.shape)}, expected {expected}")
    found: Tensor = given.detach().to("cpu", torch.float32)
    return found


def described(given: object) -> str:
    """What a part gave, for people: its shape, or what it is where it has none.

    >>> described(None), described([1.0])
    ('None', 'a list')
    """
    if given is None:
        return "None"
    shape = getattr(given, "shape", None)
    kind = type(given).__name__
    article = "an" if kind[0] in "aeiouAEIOU" else "a"
    return f"{article} {kind}" + ("" if shape is None else f" {tuple(shape)}")
