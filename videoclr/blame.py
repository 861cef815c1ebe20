"""Where in the film a part failed, whichever stage called it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
