"""`--smart-copy`: groups of pictures in which nothing changed leave as the source's own packets.

Pictures come in the order of presentation. As long as nothing of a group changed they are let go, and only the group's packets
are kept, which are small: `media.smart_copy_mb` at most, twice that beside an open group. Is its last picture unchanged
too, the packets are copied. Is one of them changed, the pictures before it are decoded again out of the packets, which gives
the same pictures, and encoded with it and all that follow in the group. So no decoded picture waits, and what is held does
not depend on how large a picture is.

A group is copied where all of this holds:
* every packet of it is shown, at its own time, and nothing else is; so a selection's border within it, an edit list that
  hides a part of it, or damage makes it a group that is encoded;
* it is closed (nothing in it refers to the group before), or the group before was copied. After a changed one,
  an open group of HEVC is copied without its leading pictures, which are encoded; one of another codec is encoded;
* its packets are no more than the limit.

Each stretch that is encoded has an encoder of its own: it begins with a key picture and refers to nothing outside. Decoding times
are made anew for all packets, from the presentation times in order, later by the larger reordering of both encoders.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

from videoclr.media.groups import Group, Groups
from videoclr.media.joint import Joint


@dataclass(slots=True)
class Tally:
    """What became of the pictures of a film, or a part of it."""

    copied: int = 0
    """Pictures."""
    groups: int = 0
    """Groups that were copied."""
    encoded: int = 0
    """Pictures."""
    stretches: int = 0
    """Stretches that were encoded."""

    def told(self) -> dict[str, int]:
        """As the report has it."""
        return {
            "frames_copied": self.copied,
            "groups_copied": self.groups,
            "frames_encoded": self.encoded,
            "stretches_encoded": self.stretches,
        }

    def add(self, other: Tally) -> None:
        """Count those of `other` as well."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Splice:
    """Decides which groups are copied.

    Args:
        groups: of the source.
        joint: knows its codec.
        encode: told a picture to be encoded, in its turn, and its time.
        copy: told a group to be copied, in its turn.
    """

    def __init__(
        self, groups: Groups, joint: Joint, encode: Callable[[VideoFrame, Fraction], None], copy: Callable[[Group], None]
    ) -> None:
        self._groups, self._joint, self._encode, self._copy = groups, joint, encode, copy
        self._group: Group | None = None
        self._before: Group | None = None
        """The one before, where it was copied."""
        self._seen = 0
        """Pictures of the group that came unchanged and were let go; all before the first that was not."""
        self._open = False
        """True while the group may still be copied."""
        self._first, self._ended = True, False
        self._time: Fraction | None = None
        """Of the picture that came last."""

    def take(self, time: Fraction, *, unchanged: bool) -> bool:
        """Tell of the next picture, shown at `time`; True where it needs nothing more, False where it is to be encoded now."""
        self._time = time
        while not self._ended and (self._group is None or self._group.last is None or time > self._group.last):
            self._advance()
        group = self._group
        if self._open and group is not None and unchanged and group.times[self._seen] == time:
            self._seen += 1
            if self._seen == len(group.times):
                self._open, self._before = False, group
                self._copy(group)
            return True
        # In time before a group of which the leading pictures are left out: it may still be copied.
        if not (self._open and group is not None and self._seen == 0 and time < group.times[0]):
            self._give_up()
        return False

    def pause(self) -> None:
        """Nothing that follows may rest on what came so far: a segment ends here, or the film."""
        group, waits = self._group, self._open and not self._seen and self._before is None
        self._give_up()
        self._before = None
        if group is None or not group.whole or self._time is None or self._time >= group.key:
            return
        # What comes next is treated as in a run that begins with it: of the group at most leading pictures came.
        if group.leading:
            self._group = group.without_leading(self._joint)
            self._group.anew, self._open, self._seen = True, True, 0
        else:
            self._open = waits

    def close(self) -> None:
        """Let go of the source."""
        self._groups.close()

    def _advance(self) -> None:
        """Go on with the next group."""
        self._give_up()
        before, self._before = self._before, None
        group = self._groups.next()
        self._seen, self._ended = 0, group is None
        self._open = group is not None and group.whole
        if group is not None:
            if self._open and not group.closed:
                if before is not None:
                    self._before = before
                elif group.leading:
                    group = group.without_leading(self._joint)
                else:
                    self._open = False
            group.anew = before is None and not self._first
            self._first = False
        self._group = group

    def _give_up(self) -> None:
        """The group is not copied: have its pictures that were let go encoded after all."""
        if not self._open:
            return
        group, seen, self._open = self._group, self._seen, False
        assert group is not None
        before, self._before = self._before, None
        if not seen:
            return
        wanted = group.times[:seen]
        needed = [group] if before is None else [before, group]
        place = 0
        for time, frame in self._groups.decoded(needed):
            if time == wanted[place]:
                self._encode(frame, time)
                place += 1
            if place == seen or time > wanted[place]:
                break
        if place < seen:
            raise LostPicture(wanted[place])


class LostPicture(Exception):
    """A picture that was decoded once could not be decoded again."""

    def __init__(self, time: Fraction) -> None:
        super().__init__(f"the picture at {float(time):.3f} s could not be decoded a second time")
        self.time = time


def decoded_before(first: int, reorder: int, step: int) -> list[int]:
    """Decoding times before `first`, that of the first picture, in order.

    The muxer of mp4 and mov takes the beginning of a late film from all packets that are decoded up to 0, as if none of them came
    sooner behind the first than `step` says. So of a late film none but the first is, or all are as near as can be.

    Args:
        first: presentation time of the first picture.
        reorder: how many there are.
        step: ticks between two of them, at most.
    """
    if first > 0 and reorder:
        step = min(step, max(1, first // reorder))
    return [first - step * place for place in range(reorder, 0, -1)]


class DecodingTimes:
    """Decoding times in ticks for packets whose presentation times are known, as they come.

    Args:
        reorder: by how many places at most a packet comes before its turn to be shown.
        first: presentation time of the first picture.
        step: ticks between two pictures, about.
    """

    def __init__(self, reorder: int, first: int, step: int) -> None:
        self._early = decoded_before(first, reorder, step)[::-1]
        self._waiting: list[int] = []
        self._last: int | None = None

    def next(self, pts: int) -> int:
        """That of the next packet.

        Raises:
            ValueError: the packets are further from their order than was said.
        """
        heapq.heappush(self._waiting, pts)
        dts = self._early.pop() if self._early else heapq.heappop(self._waiting)
        if dts > pts or (self._last is not None and dts <= self._last):
            raise ValueError("pictures are stored further from their order than expected")
        self._last = dts
        return dts
