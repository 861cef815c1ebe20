"""One run at a time may write a file.

The lock is the kernel's (flock), on the file that grows (`.part`) or on one in a folder of segments: a process that was
killed holds nothing any more, so there are no stale locks to recognise, and what it left behind is simply taken over.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from videoclr.errors import BusyError
from videoclr.media.faults import explained

try:
    import fcntl
except ImportError:  # Windows, where a file that is open for writing cannot be opened by another run anyway
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("videoclr.media.lock")

_UNABLE = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What file systems say that know no locks."""


class Lock:
    """Held from the making to `release`, or until the process ends, however it ends.

    Args:
        place: the file; made if it does not exist, left as it is if it does.
        target: what the user calls the result, for the error.

    Raises:
        BusyError: another run holds it.
        MediaError: the file cannot be made.
    """

    def __init__(self, place: str | Path, target: str | Path) -> None:
        self.place = Path(place)
        self._file: int | None = None
        while True:
            with explained(target, "cannot be written"):
                file = os.open(self.place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._take(file, target)
            except BaseException:
                os.close(file)
                raise
            if self._is_mine(file):
                self._file = file
                return
            os.close(file)  # the holder before removed or renamed it in between: it is another file now

    def _take(self, file: int, target: str | Path) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNABLE:
                _log.warning("%s: the file system knows no locks; do not start a second run on it", target)
                return
            with explained(target, "cannot be written"):
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
            raise BusyError(target, "another run is writing it; wait for that one or choose another name") from error

    def _is_mine(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self.place))
        except FileNotFoundError:
            return False

    @property
    def is_there(self) -> bool:
        """False where somebody removed or replaced the file while it was held."""
        return self._file is not None and self._is_mine(self._file)

    def release(self) -> None:
        """Let others write. The file stays."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
