"""The part of the stored picture that a container wants shown: Matroska's PixelCrop, the clean aperture of MP4 and QuickTime.

It is not the cropping of a stream (H.264, HEVC), which the decoder applies. FFmpeg's decoder leaves it alone and PyAV shows
it nowhere, so that what was hidden, black borders or garbage, would be seen in the output. A container that can say it again
gets the picture whole and the same words, since 720x576 with a clean aperture has to stay 720x576; for every other output
the picture is cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from av.video.frame import VideoFrame

from videoclr.media.filters import through
from videoclr.media.layout import layout_of
from videoclr.media.picture import Picture
from videoclr.types import Patch


@dataclass(frozen=True, slots=True)
class Crop:
    """Pixels of the stored picture that are not shown, at each of its sides; falsy where all is shown."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return any((self.left, self.right, self.top, self.bottom))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width, height of what is shown of a stored picture."""
        return width - self.left - self.right, height - self.top - self.bottom

    def fits(self, width: int, height: int) -> bool:
        """True where something is left of a stored picture."""
        return min(self.size(width, height)) > 0

    def scaled(self, whole: VideoFrame, other: VideoFrame) -> Crop:
        """The crop of `whole` for a picture that became `other`, larger or smaller: never less than was hidden."""
        if (whole.width, whole.height) == (other.width, other.height):
            return self
        left, right = (-(-side * other.width // whole.width) for side in (self.left, self.right))
        top, bottom = (-(-side * other.height // whole.height) for side in (self.top, self.bottom))
        return Crop(left, right, top, bottom)

    def on_grid(self, across: int, down: int) -> Crop:
        """The crop, or a little more, in whole samples of a chroma that is `across` and `down` pixels apart."""
        left, right = (-(-side // across) * across for side in (self.left, self.right))
        top, bottom = (-(-side // down) * down for side in (self.top, self.bottom))
        return Crop(left, right, top, bottom)


WHOLE = Crop()
"""Nothing is hidden."""


def exactly(picture: Picture, crop: Crop) -> Crop:
    """The crop that `cropped` can make of pictures like `picture`: on the grid of its chroma."""
    layout = layout_of(picture.frame.format.name)
    if layout is None or layout.kind != "yuv":
        return crop
    across, down = (1 << shift for shift in layout.subsampling)
    grid = crop.on_grid(across, down)
    return grid if grid.fits(picture.frame.width, picture.frame.height) else crop


def cropped(picture: Picture, patches: Iterable[Patch], crop: Crop) -> tuple[Picture, tuple[Patch, ...]]:
    """What is shown of `picture`, in the same memory, and its patches there; `crop` as `exactly` gives it."""
    width, height = crop.size(picture.frame.width, picture.frame.height)
    frame = through(picture.frame, ("crop", f"{width}:{height}:{crop.left}:{crop.top}:exact=1"))
    part = Picture(frame, picture.colour, picture.orientation, picture.proxy, picture.woven, head=picture.head)
    # What is hidden at the left of the stored picture lies elsewhere in a turned one; a window says where.
    x, y = _corner(picture, crop)
    return part, tuple(replace(patch, x=patch.x - x, y=patch.y - y) for patch in patches)


def _corner(picture: Picture, crop: Crop) -> tuple[int, int]:
    """Left, top in the picture as shown of the part that is left of it."""
    way = picture.orientation
    left, right, top, bottom = crop.left, crop.right, crop.top, crop.bottom
    if way.transpose:
        left, right, top, bottom = top, bottom, left, right
    return (right if way.mirror_x else left), (bottom if way.mirror_y else top)
