"""Where in the film a part failed, whichever stage called it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from videoclr.errors import RestorationError, VideoclrError
from videoclr.shortage import is_of_the_device


@contextmanager
def blamed(part: str, frame: int, track: int | None = None, held: int = 1) -> Iterator[None]:
    """A call of a part, with the checks of what it gives.

    Args:
        part: what it is, for people: `detector`.
        frame: index of the frame that the call is about, the first of them where it is about several.
        track: of the face that it is about, where it is about one.
        held: frames or faces in the call.

    Raises:
        RestorationError: from whatever the part raised, but for this package's own exceptions and what is the device's fault
            (see `videoclr.shortage`): those pass as they are.
    """
    try:
        yield
    except VideoclrError:
        raise
    except Exception as error:
        if is_of_the_device(error):
            raise
        others = f" (in a batch of {held})" if held > 1 else ""
        reason = " ".join(str(error).split())
        message = f"the {part} raised {type(error).__name__}{others}" + (f": {reason}" if reason else "")
        raise RestorationError(frame, track, message) from error
