"""The nouns that flow through the pipeline: frozen, slotted, each field with its unit.

Conventions, everywhere in the package:

* numpy is the world of video: `(H, W, 3)`, RGB, uint8, or uint16 0..65535 when the source has more than 8 bits.
* torch is the world of models: `(3, H, W)`, RGB, float32 in [-1, 1].
* Coordinates are `(x, y)` in pixels, origin at the centre of the top-left pixel.
* Time is an exact `Fraction` of a second. `Frame.index` counts decoded frames from 0.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeGuard, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from videoclr.pixels import eight_bit

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1: half open, whole pixels inside the picture as shown."""


class Native(Protocol):
    """A decoded picture in its own pixel format. `videoclr.media` implements it over PyAV."""

    def rgb(self) -> NDArray[Any]:
        """`(H, W, 3)` RGB as shown (rotation applied): uint8, or uint16 0..65535 for sources of more than 8 bits."""
        ...


@runtime_checkable
class Windowed(Native, Protocol):
    """A native picture that makes RGB of a part as well: then nobody has to hold the RGB of all of it."""

    @property
    def size(self) -> tuple[int, int]:
        """Width, height as shown, pixels."""
        ...

    @property
    def nbytes(self) -> int:
        """What the picture holds."""
        ...

    def window(self, rectangle: Rectangle) -> NDArray[Any]:
        """`rgb()[y0:y1, x0:x1]` to the bit, as a new array."""
        ...


def is_windowed(native: Native | None) -> TypeGuard[Windowed]:
    """Whether `native` is `Windowed`. Asked many times a frame, and Python 3.11 answers `isinstance` of protocols slowly."""
    kind: type = type(native)
    return _has_windows(kind) or isinstance(native, Windowed)


@cache
def _has_windows(kind: type) -> bool:
    return all(hasattr(kind, name) for name in ("rgb", "size", "nbytes", "window"))


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a reader knows about the video stream it decodes."""

    width: int
    """Pixels, as shown (after rotation)."""
    height: int
    """Pixels, as shown (after rotation)."""
    time_base: Fraction
    """Seconds per tick of the source's presentation times."""
    frame_rate: Fraction | None
    """Average frames per second: information, never control."""
    duration: Fraction | None
    """Seconds, as the container claims."""
    frame_count: int | None
    """An estimate."""
    bit_depth: int = 8
    """Bits per component of the source's pixel format."""
    pixel_format: str = ""
    """FFmpeg's name, such as `yuv420p10le`."""
    matrix: str = ""
    """YUV matrix in force: `bt601`, `bt709` or `bt2020`. Untagged video counts as bt709 from 720 lines up."""
    primaries: str = ""
    """Colour primaries by FFmpeg's name, empty where untagged."""
    transfer: str = ""
    """Transfer characteristic by FFmpeg's name, empty where untagged."""
    full_range: bool = False
    """True for 0..255 luma, False for 16..235."""
    sample_aspect: Fraction = Fraction(1)
    """Width of a sample divided by its height."""
    rotation: int = 0
    """Degrees by which the stored picture is turned when shown: 0, 90, 180 or 270."""
    fields: str = ""
    """Where pictures hold two fields: `top` or `bottom`, the one that is shown first; empty where they are whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A rectangle that restoration changed; composited over the frame with `alpha`."""

    x: int
    """Left column of the rectangle in the frame as shown, pixels."""
    y: int
    """Top row of the rectangle, pixels."""
    rgb: NDArray[Any]
    """`(h, w, 3)` RGB of the same dtype and range as `Frame.image`."""
    alpha: NDArray[np.float32]
    """`(h, w)` float32 in [0, 1]: 0 keeps the frame, 1 shows the patch."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a video, at an exact time.

    A reader's frame carries `native` and makes RGB on demand; a user's frame is made by `Frame.from_image`.
    """

    index: int
    """Position in the decoded stream, from 0."""
    time: Fraction
    """Presentation time in seconds."""
    native: Native | None = None
    """The decoded picture in its own format, or None for a user's frame."""
    patches: tuple[Patch, ...] = ()
    """What restoration changed, in the order of compositing."""
    shot: int = 0
    """Number of the shot, from 0; the stage `cuts` sets it."""
    shot_start: int = 0
    """Index of the shot's first frame; the stage `cuts` sets it."""
    _rgb: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    """The unpatched RGB picture, made once and shared by every copy of the frame."""

    def __post_init__(self) -> None:
        """Take numbers of numpy, and floats, as what they mean: `dataclasses.replace(frame, time=0.5)`.

        Raises:
            ValueError: an index that is no whole number, or a time that is no number.
        """
        if type(self.index) is not int:
            object.__setattr__(self, "index", _whole(self.index))
        if type(self.time) is not Fraction:
            object.__setattr__(self, "time", _seconds(self.time))

    @classmethod
    def from_image(cls, image: NDArray[Any], index: int = 0, time: Fraction | float | None = None) -> Frame:
        """A frame of `image`: `(H, W, 3)` RGB, uint8 or uint16. `time` (seconds) defaults to `index / 25`;
        a float stands for the simple fraction that was rounded to it, so that `index / 30` is exact.

        The array is kept, not copied, and read later in other threads: give every frame one of its own.

        Raises:
            ValueError: no array, wrong shape or dtype, no pixel, an index that is no whole number, or a time that is no number.
        """
        if not isinstance(image, np.ndarray):
            raise ValueError(f"expected a numpy array (H, W, 3) uint8 or uint16 RGB, got a {type(image).__name__}")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16) or image.size == 0:
            raise ValueError(f"expected (H, W, 3) uint8 or uint16 RGB, got {image.shape} {image.dtype}")
        view = image.view(np.ndarray)  # of a subclass, such as a masked array, the plain numbers
        view.flags.writeable = False
        number = _whole(index)
        return cls(number, Fraction(number, 25) if time is None else _seconds(time), _rgb={"base": view})

    @property
    def source(self) -> NDArray[Any]:
        """`(H, W, 3)` RGB without patches, read-only; made from `native` at the first request."""
        if "base" not in self._rgb:
            if self.native is None:
                raise ValueError(f"frame {self.index} has neither a native picture nor an image")
            base = self.native.rgb()
            base.flags.writeable = False
            self._rgb["base"] = base
        return self._rgb["base"]

    @property
    def glance(self) -> NDArray[np.uint8]:
        """`image` in 8 bits, read-only: what is looked at for cuts and faces. Made once; where windows can be had of the
        native picture, the deep RGB is dropped for it."""
        if self.patches:
            return eight_bit(self.image)
        if "glance" not in self._rgb:
            made = eight_bit(self.source)
            if made is self.source:
                return made
            made.flags.writeable = False
            self.forget_whole()
            self._rgb["glance"] = made
        return self._rgb["glance"]

    @property
    def image(self) -> NDArray[Any]:
        """`(H, W, 3)` RGB with the patches applied, read-only."""
        return self._patched(self.source, 0, 0) if self.patches else self.source

    @property
    def size(self) -> tuple[int, int]:
        """Width, height as shown, pixels. Makes no RGB where the native picture tells."""
        if "base" not in self._rgb and is_windowed(self.native):
            return self.native.size
        height, width = self.source.shape[:2]
        return width, height

    @property
    def nbytes(self) -> int | None:
        """Bytes held at the moment: native picture, cached RGB, patches. None where the native picture does not tell."""
        held = 0
        if is_windowed(self.native):
            held = self.native.nbytes
        elif self.native is not None:
            return None
        held += sum(one.nbytes for one in self._rgb.values())
        return held + sum(patch.rgb.nbytes + patch.alpha.nbytes for patch in self.patches)

    def source_window(self, rectangle: Rectangle) -> NDArray[Any]:
        """`source[y0:y1, x0:x1]`, read-only; made of that part of `native` alone where it can be and RGB is not there yet."""
        x0, y0, x1, y1 = rectangle
        if "base" not in self._rgb and is_windowed(self.native):
            window = self.native.window(rectangle)
            window.flags.writeable = False
            return window
        return self.source[y0:y1, x0:x1]

    def window(self, rectangle: Rectangle) -> NDArray[Any]:
        """`image[y0:y1, x0:x1]`, read-only, with no more RGB made than `source_window` makes."""
        window = self.source_window(rectangle)
        return self._patched(window, rectangle[0], rectangle[1]) if self.patches else window

    def _patched(self, base: NDArray[Any], left: int, top: int) -> NDArray[Any]:
        """A copy of `base`, whose corner lies at `(left, top)` of the frame, with the patches applied."""
        out = base.copy()
        height, width = out.shape[:2]
        for patch in self.patches:
            rows, columns = patch.alpha.shape
            y0, y1 = max(patch.y, top), min(patch.y + rows, top + height)
            x0, x1 = max(patch.x, left), min(patch.x + columns, left + width)
            if y0 >= y1 or x0 >= x1:
                continue
            part = np.s_[y0 - patch.y : y1 - patch.y, x0 - patch.x : x1 - patch.x]
            window, alpha = out[y0 - top : y1 - top, x0 - left : x1 - left], patch.alpha[part][..., None]
            window[:] = np.rint(window * (1 - alpha) + patch.rgb[part] * alpha).astype(out.dtype)
        out.flags.writeable = False
        return out

    def with_patches(self, patches: Sequence[Patch]) -> Frame:
        """This frame with `patches` added; the same object where there are none."""
        return replace(self, patches=(*self.patches, *patches)) if patches else self

    def in_shot(self, shot: int, start: int = 0) -> Frame:
        """This frame as part of `shot`, which starts at the index `start`; the same object where it already is."""
        return self if (shot, start) == (self.shot, self.shot_start) else replace(self, shot=shot, shot_start=start)

    def forget_rgb(self) -> None:
        """Drop the cached RGB of a native frame; it is made again on demand."""
        self._rgb.pop("glance", None)
        if self.native is not None:
            self._rgb.pop("base", None)

    def forget_whole(self) -> None:
        """`forget_rgb` where windows can be had without it: for a frame that waits, of which only parts are asked for."""
        self._rgb.pop("glance", None)
        if is_windowed(self.native):
            self.forget_rgb()


_SIMPLE = 1_000_000
"""Denominator up to which a time given as a float is taken for the fraction that was meant."""
_ROUNDED = Fraction(1, 2**50)
"""Share of a time by which floats may be off that were divided or multiplied a few times."""


def _whole(index: object) -> int:
    """Of Python's own, of whatever whole number it is; a text of digits too.

    Raises:
        ValueError: it is none.
    """
    try:
        number = int(index)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"expected a whole number as index, got {index!r}") from error
    if not isinstance(index, str) and number != index:
        raise ValueError(f"expected a whole number as index, got {index!r}")
    return int(number)


def _seconds(time: object) -> Fraction:
    """Exact, of Python's own integers: numpy's numbers are let in as well, and overflow.

    A float is taken for the simple fraction that was rounded to it, where there is one: `1 / 30` is a thirtieth, and not the
    nearest fraction of a power of 2, in which no file counts.

    Raises:
        ValueError: it is no number.
    """
    try:
        if isinstance(time, numbers.Rational):
            return Fraction(int(time.numerator), int(time.denominator))
        if not isinstance(time, numbers.Real):
            return Fraction(cast("str", time))  # a text or a Decimal; the rest is refused there
        exact = Fraction(float(time))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(f"expected a time in seconds, got {time!r}") from error
    simple = exact.limit_denominator(_SIMPLE)
    return simple if abs(simple - exact) <= _ROUNDED * abs(exact) else exact


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A face found in a frame."""

    box: NDArray[np.float32]
    """`(4,)` x0, y0, x1, y1 in frame pixels."""
    landmarks: NDArray[np.float32]
    """`(5, 2)` frame pixels: image-left eye, image-right eye, nose, image-left and image-right mouth corner."""
    score: float
    """Probability in [0, 1]."""

    @property
    def size(self) -> float:
        """Geometric mean of the box's sides, pixels."""
        width, height = self.box[2:] - self.box[:2]
        return float(np.sqrt(max(width, 0.0) * max(height, 0.0)))


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """A detection that belongs to a track. Holds no tensor, so it can be written down, edited and read back."""

    track: int
    """Number of the track, never reused within a run."""
    detection: Detection
    """Box and landmarks in this frame."""
    observed: bool = True
    """False where the detector did not see the face and the place is interpolated."""
    strength: float = 1.0
    """Share of its restoration that is shown, in [0, 1], as somebody asked for this face."""
    name: str | None = None
    """Who it is, where somebody said so."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the run knows: from photographs, or from an earlier track."""

    number: int
    """The same for all tracks of the person within a run; people known from photographs come first."""
    name: str | None
    """As the user called the photographs, or the track; None for somebody whom nobody named."""
    similarity: float | None = None
    """Cosine between what the track shows and the person, at the moment; None while nobody else was compared."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceCrop:
    """A face cut out and aligned, ready for a model."""

    face: TrackedFace
    """Whose face."""
    frame: Frame
    """Where it came from."""
    image: Tensor
    """`(3, S, S)` RGB float32 in [-1, 1], aligned as FFHQ."""
    matrix: NDArray[np.float64]
    """`(2, 3)`: frame pixels -> crop pixels."""
    identity: Tensor | None = None
    """`(D,)` unit vector shared by the track, or None before the stage `identify`."""
    person: Person | None = None
    """Who it is among the people that the run knows, or None."""
    photograph: Tensor | None = None
    """`(3, S, S)` RGB float32 in [-1, 1]: the person on the best of the photographs, aligned as FFHQ; None without any."""
    earlier: Tensor | None = None
    """`(3, S, S)` RGB float32 in [-1, 1]: the crop that shows the person best in the film's earlier tracks; None without any."""


@dataclass(frozen=True, slots=True, eq=False)
class RestoredFace:
    """A restored crop, ready to be blended back."""

    crop: FaceCrop
    """The crop that was restored."""
    image: Tensor
    """`(3, S, S)` RGB float32 in [-1, 1]."""
    mask: Tensor
    """`(1, S, S)` float32 in [0, 1]: where the restored crop is shown."""
    similarity: float | None = None
    """Cosine between the restored face's embedding and the track's identity; None where no identity is known."""
    confidence: float = 1.0
    """In [0, 1]: how much of the restoration to trust; blend multiplies the mask with it."""
    trust: Tensor | None = None
    """`(1, S, S)` float32 in [0, 1]: how much of each place to trust, in `mask` already; 1 - trust is the hallucination
    map. None where nobody judged."""
    whole: Tensor | None = None
    """`mask` before `trust` took from it; None where it took nothing."""
    reasons: Mapping[str, float] = field(default_factory=dict)
    """What spoke against the restoration -> the factor that it led to, of the whole face or a part of it."""
    full: bool | None = None
    """Restored in full (an anchor), not from its neighbours; None where the restorer does not tell."""
    invented: Tensor | None = None
    """`(1, S, S)` float32 in [0, 1]: what the restorer's second pass took back; None where there was none."""
    seen: Tensor | None = None
    """`(3, S, S)` RGB float32 in [-1, 1]: what the crop shows, told by its neighbours too; None where the crop alone tells it."""
    smaller: RestoredFace | None = None
    """Of a close-up what it was made of, at the restorer's own size (the stage `enlarge`); None for any other face."""
    nearness: float = 1.0
    """In (0, 1]: how far a close-up is shown as one; the rest is shown as `smaller`."""

    @property
    def hallucination(self) -> Tensor | None:
        """`(1, S, S)` in [0, 1]: the map of what was invented, by the restorer's second pass, by the gate, or by both."""
        maps = [m for m in (self.invented, None if self.trust is None else 1 - self.trust) if m is not None]
        return None if not maps else maps[0] if len(maps) == 1 else maps[0].maximum(maps[1])


@dataclass(frozen=True, slots=True, eq=False)
class Faces(Generic[T]):
    """A frame with what is known about its faces: what flows from detect to blend."""

    frame: Frame
    """The frame, in order, every one of them."""
    faces: tuple[T, ...] = ()
    """Detection, TrackedFace, FaceCrop or RestoredFace."""
    looked: bool = True
    """False where the detector skipped the frame: no faces then means that nobody looked, not that nobody is there."""
