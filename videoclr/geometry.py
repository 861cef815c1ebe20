"""From five landmarks to an aligned crop, back to the frame, and the motion between crops.

One convention everywhere: coordinates are `(x, y)` in pixels with the origin at the centre of the top-left pixel, so an
image of width W spans -0.5 .. W - 0.5. A matrix is `(2, 3)` float64 and maps column vectors: `q = A @ p + t`. Crops are
aligned as in FFHQ (Karras, Laine and Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks",
CVPR 2019, appendix and published data set description): a square, turned with the face, spanned by eyes and mouth.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

FFHQ_POINTS = ((0.377, 0.469), (0.623, 0.469), (0.5, 0.613), (0.392, 0.725), (0.608, 0.725))
"""Where a frontal face has its landmarks in an FFHQ crop, as shares of the side."""

_CHANNELS = 4  # OpenCV's warps take at most four channels at once
_GUESSED = 0.1  # distance from the frame, in heights of the face, from which on a landmark outside is a mere guess
_TURNS = 0.1  # how much a nose counts beside eyes and mouth for where a face is: it moves as the head turns
_HINT = 1e-3  # how much guesses count, lest a single point should say all
_DESCENTS = 12
"""Steps of a patch towards its place, at most: with the 25 of DIS's preset motion took half as long again, and told the same."""


def ffhq_matrix(landmarks: NDArray[Any], size: int) -> Matrix:
    """The similarity that takes frame pixels to pixels of an FFHQ-aligned crop.

    Args:
        landmarks: `(5, 2)` frame pixels: image-left eye, image-right eye, nose, image-left and -right mouth corner.
        size: side of the square crop, pixels.

    Returns:
        `(2, 3)` float64, frame pixels -> crop pixels.

    Raises:
        ValueError: the landmarks are not finite, or fall together so that they span no square.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2):
        raise ValueError(f"expected landmarks (5, 2), got {points.shape}")
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    eye_to_eye, eye_to_mouth = points[1] - points[0], mouth - eyes
    across = eye_to_eye - _quarter_turn(eye_to_mouth)
    length = np.hypot(*across)
    half = max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    if not np.isfinite(length + half) or length < 1e-3 or half < 1e-3:
        raise ValueError("the landmarks span no face")
    across *= half / length
    down = _quarter_turn(across)
    corner = eyes + eye_to_mouth * 0.1 - across - down
    # crop -> frame: the outer edges -0.5 and size - 0.5 of the crop lie on the sides of the square.
    step = np.stack([across, down], axis=1) * (2.0 / size)
    return inverted(np.column_stack([step, corner + step @ (0.5, 0.5)]))


def completed(landmarks: NDArray[Any], height: float, frame: tuple[int, int]) -> NDArray[np.float32]:
    """Landmarks of a face that the frame cuts, those outside from where those inside are.

    A detector guesses what it cannot see. Of the faces of 18 clips, cut at the left or right by 30 or 40 %, the guesses made the
    aligned crop a quarter too large or too small, and a face that came in changed its size in a moment. A frontal face, fitted to
    what is seen (a similarity by weighted least squares), is 6 % off. The nearer to the frame, the less of a guess is replaced.

    Args:
        landmarks: `(5, 2)` pixels of the frame.
        height: of the face's box, pixels.
        frame: width and height.

    Returns:
        `(5, 2)` float32; as they came where all of them, or less than two, are inside.
    """
    points = np.asarray(landmarks, np.float32)
    last = np.array(frame) - 1
    beyond = np.maximum(np.maximum(-points, points - last), 0).max(1)
    guessed = np.clip(beyond / max(_GUESSED * height, 1e-3), 0, 1)
    if not guessed.any() or (guessed < 1).sum() < 2:
        return points
    weights = (1 - guessed) * np.array([1, 1, _TURNS, 1, 1]) + _HINT
    weights /= weights.sum()
    # As complex numbers, in which a turn and a scale are one factor.
    face, seen = np.array(FFHQ_POINTS) @ (1, 1j), points.astype(np.float64) @ (1, 1j)
    face, middle = face - weights @ face, weights @ seen
    fitted = middle + (weights @ (face.conj() * (seen - middle))) / (weights @ np.abs(face) ** 2) * face
    settled = np.stack([fitted.real, fitted.imag], axis=1)
    return np.asarray(points + guessed[:, None] * (settled - points), np.float32)


def face_scale(landmarks: NDArray[Any]) -> float:
    """A length of the face in pixels that stands still when the head turns: a quarter of the FFHQ square's side.

    For a frontal face it is about the distance between the eyes.
    """
    points = np.asarray(landmarks, np.float64)
    across = np.hypot(*(points[1] - points[0]))
    down = np.hypot(*(points[3:].mean(0) - points[:2].mean(0)))
    return float(max(across * 2.0, down * 1.8) / 2)


def _quarter_turn(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([-vector[1], vector[0]])


def inverted(matrix: Matrix) -> Matrix:
    """The matrix of the way back."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def moved(points: NDArray[Any], matrix: Matrix) -> NDArray[np.float64]:
    """`(..., 2)` points taken through `matrix`."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def scale_of(matrix: Matrix) -> float:
    """Pixels of the target per pixel of the source."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def at_scale(matrix: Matrix, factor: float) -> Matrix:
    """The matrix of a crop `factor` times as large in each direction: its outer edges lie where they did."""
    larger = matrix * factor
    larger[:, 2] += (factor - 1) / 2
    return larger


def cut(image: NDArray[Any], matrix: Matrix, size: int) -> NDArray[np.float32]:
    """Cut the aligned crop out of a frame.

    Args:
        image: `(H, W, C)` or `(H, W)`, any real dtype.
        matrix: frame pixels -> crop pixels.
        size: side of the crop.

    Returns:
        `(size, size, C)` float32 in the range of `image` (bicubic may overshoot a little). What lies outside the frame
        is a reflection of the inside; `inside` tells where.
    """
    return _resampled(image, inverted(matrix), size, size, cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101)


def reach(matrix: Matrix, size: int, width: int, height: int) -> tuple[int, int, int, int]:
    """`x0, y0, x1, y1` (half open, integers): the part of a frame of `width` x `height` that `cut` reads."""
    return _reach(inverted(matrix), size, size, width, height)


def cut_window(window: NDArray[Any], rectangle: tuple[int, int, int, int], matrix: Matrix, size: int) -> NDArray[np.float32]:
    """As `cut`, to the bit, of a frame of which only `window` is at hand: what `rectangle`, the frame's `reach`, holds."""
    how = (cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101)
    return _resampled_window(window, (rectangle[0], rectangle[1]), inverted(matrix), size, size, *how)


def inside(matrix: Matrix, size: int, width: int, height: int) -> NDArray[np.bool_]:
    """`(size, size)`: True for crop pixels whose centre lies inside a frame of `width` x `height`."""
    return _within(inverted(matrix), size, size, width, height)


def footprint(matrix: Matrix, size: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Smallest rectangle `x0, y0, x1, y1` (half open, integers) of the frame that holds the crop, clipped to the frame.

    Empty (`x0 >= x1` or `y0 >= y1`) for a crop that lies outside.
    """
    low, high = -0.5, size - 0.5
    corners = moved(np.array([(low, low), (high, low), (high, high), (low, high)]), inverted(matrix))
    x0, y0 = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(corners.max(0)) + 1, (width, height)).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def uncut(
    crop: NDArray[np.float32], matrix: Matrix, rectangle: tuple[int, int, int, int], *, zero_outside: bool = False
) -> NDArray[np.float32]:
    """Warp a crop back into a rectangle of the frame.

    Args:
        crop: `(S, S, C)` or `(S, S)` float32.
        matrix: frame pixels -> crop pixels, as in `cut`.
        rectangle: `x0, y0, x1, y1`, half open, frame pixels; see `footprint`.
        zero_outside: for masks: bilinear (never overshoots) and exactly 0 for pixels whose centre lies outside the
            crop. Otherwise bicubic, and the crop's last pixels repeat outside it.

    Returns:
        `(y1 - y0, x1 - x0, C)` float32.
    """
    x0, y0, x1, y1 = rectangle
    to_crop = np.column_stack([matrix[:, :2], moved(np.array([x0, y0]), matrix)])
    interpolation = cv2.INTER_LINEAR if zero_outside else cv2.INTER_CUBIC
    values = _resampled(crop, to_crop, x1 - x0, y1 - y0, interpolation, cv2.BORDER_REPLICATE)
    if zero_outside:
        within = _within(to_crop, x1 - x0, y1 - y0, crop.shape[1], crop.shape[0])
        values *= within if values.ndim == 2 else within[..., None]
    return values


def _within(to_source: Matrix, width: int, height: int, source_width: int, source_height: int) -> NDArray[np.bool_]:
    """`(height, width)`: True where `to_source` leads inside a source of the given size."""
    columns, rows = np.arange(width), np.arange(height)[:, None]
    x, y = (row[0] * columns + (row[1] * rows + row[2]) for row in to_source)
    found: NDArray[np.bool_] = (x >= -0.5) & (x <= source_width - 0.5) & (y >= -0.5) & (y <= source_height - 0.5)
    return found


def _resampled(
    source: NDArray[Any], to_source: Matrix, width: int, height: int, interpolation: int, border: int
) -> NDArray[np.float32]:
    """`target[p] = source[to_source @ p]`, with the source area-averaged first where the target is coarser."""
    x0, y0, x1, y1 = _reach(to_source, width, height, source.shape[1], source.shape[0])
    return _resampled_window(source[y0:y1, x0:x1], (x0, y0), to_source, width, height, interpolation, border)


def _resampled_window(
    window: NDArray[Any],
    corner: tuple[int, int],
    to_source: Matrix,
    width: int,
    height: int,
    interpolation: int,
    border: int,
) -> NDArray[np.float32]:
    """`_resampled` of a source of which `window`, its `_reach`, lies at `corner`."""
    shrink = scale_of(to_source)
    values = window.astype(np.float32)
    mapping = np.column_stack([to_source[:, :2], to_source[:, 2] - corner])
    if shrink > 1.0:
        # Interpolation alone reads four by four pixels and skips the rest: aliasing that shimmers in video.
        rows, columns = values.shape[:2]
        small = max(1, round(columns / shrink)), max(1, round(rows / shrink))
        values = np.asarray(cv2.resize(values, small, interpolation=cv2.INTER_AREA), np.float32)
        factor = np.array([small[0] / columns, small[1] / rows])
        mapping = mapping * factor[:, None]
        mapping[:, 2] += 0.5 * factor - 0.5
    return _in_fours(
        lambda part: cv2.warpAffine(part, mapping, (width, height), flags=interpolation | cv2.WARP_INVERSE_MAP, borderMode=border),
        values,
    )


def _reach(to_source: Matrix, width: int, height: int, source_width: int, source_height: int) -> tuple[int, int, int, int]:
    """The part of a source that a warp to `width` x `height` can read: a small face must not cost all of a 4K frame."""
    margin = 4 * max(scale_of(to_source), 1.0)
    corners = moved(np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)]), to_source)
    limit = np.array((source_width, source_height))
    first, last = np.floor(corners.min(0) - margin), np.ceil(corners.max(0) + margin)
    # Where the warp leaves the image, its border is reflected: keep as much of the inside as sticks out.
    low = np.clip(np.minimum(first, limit - 1 - np.maximum(last - (limit - 1), 0)), 0, limit - 1).astype(int)
    high = np.clip(np.maximum(last, np.maximum(-first, 0)) + 1, low + 1, limit).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _in_fours(operation: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply an OpenCV warp to any number of channels, keeping the axis of channels where there is one."""
    if values.ndim == 2:
        return np.asarray(operation(values), np.float32)
    parts = [
        np.asarray(operation(np.ascontiguousarray(values[..., start : start + _CHANNELS])), np.float32)
        for start in range(0, values.shape[2], _CHANNELS)
    ]
    return np.concatenate([part if part.ndim == 3 else part[..., None] for part in parts], axis=2)


def flow(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dense motion from crop `a` to crop `b` by OpenCV's DIS (Kroeger et al., ECCV 2016).

    Args:
        a: `(H, W, 3)` RGB or `(H, W)` grey, uint8.
        b: as `a`.

    Returns:
        `(H, W, 2)` float32 pixels: what is at `(x, y)` in `a` is at `(x, y) + flow[y, x]` in `b`.
    """
    grey = [image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a, b)]
    if grey[0].shape != grey[1].shape:
        raise ValueError(f"expected two images of one size, got {grey[0].shape} and {grey[1].shape}")
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    return np.asarray(dis.calc(grey[0], grey[1], None), np.float32)


def calm_flow(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`flow` between degraded crops: smooth motion that does not follow noise, blocks and ringing.

    Plain DIS, which looks for detail in patches of 8 pixels, takes a degraded face's noise for motion and carries it into the
    result: means along it flickered 2 to 3 times as much. So patches are large, the variational refinement is stiff, and what
    remains is blurred. The finest scale is a half: with a quarter, the motion of nearly clean faces missed by so much that their
    mean was blurred (0.3 dB, 0.02 of the identity). An aligned face moves little and smoothly; what does not (an eyelid) is for
    `consistency` and a look at the pixels to tell.
    """
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a, b)]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    dis.setFinestScale(1)
    dis.setPatchSize(16)
    dis.setPatchStride(4)
    dis.setVariationalRefinementAlpha(40.0)
    dis.setGradientDescentIterations(_DESCENTS)
    motion = dis.calc(grey[0], grey[1], None)
    return np.asarray(cv2.GaussianBlur(motion, (0, 0), a.shape[0] / 48), np.float32)


def carry(image: NDArray[np.float32], motion: NDArray[np.float32], *, fine: bool = False) -> NDArray[np.float32]:
    """Bring what belongs to `b` into the place it has in `a`: `result[p] = image[p + motion[p]]`.

    Args:
        image: `(H, W, C)` or `(H, W)` float32, known in `b`; C is free, so latents go as well.
        motion: `(H, W, 2)` from `a` to `b` (see `flow`), on the grid of `image` (see `flow_at`).
        fine: Lanczos (8 x 8) instead of bilinear: what is carried again and again keeps its detail. Bicubic sharpened it a little
            each time: after 30 frames of a film hair had ripples, and restored faces flickered by 6 % more.
    """
    how = cv2.INTER_LANCZOS4 if fine else cv2.INTER_LINEAR
    height, width = motion.shape[:2]
    if image.shape[:2] != (height, width):
        raise ValueError(f"image {image.shape[:2]} and motion {motion.shape[:2]} differ; use flow_at")
    x = np.arange(width, dtype=np.float32)[None, :] + motion[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + motion[..., 1]
    return _in_fours(
        lambda part: cv2.remap(part, x, y, interpolation=how, borderMode=cv2.BORDER_REPLICATE),
        np.asarray(image, np.float32),
    )


def crop_motion(here: Matrix, there: Matrix, size: int, step: float) -> NDArray[np.float32]:
    """What moves between two crops of frames in which nothing moves: the crop itself.

    Args:
        here, there: frame pixels -> crop pixels of the two.
        size: of the grid of the result.
        step: px of the crop that a cell of it has.

    Returns:
        `(size, size, 2)` px of the crop, from `here` to `there`.
    """
    middle = (np.arange(size) + 0.5) * step - 0.5
    grid = np.stack(np.meshgrid(middle, middle), axis=-1)
    return np.asarray(moved(moved(grid, inverted(here)), there) - grid, np.float32)


def flow_at(motion: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The motion on a square grid of another `size`, such as a latent's; its vectors shrink with the grid."""
    height, width = motion.shape[:2]
    small = cv2.resize(motion, (size, size), interpolation=cv2.INTER_AREA if size < width else cv2.INTER_LINEAR)
    return np.asarray(small * np.array([size / width, size / height], np.float32), np.float32)


def consistency(forward: NDArray[np.float32], backward: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much to trust `forward`: `(H, W)` float32 in [0, 1], near 0 where the way there and back misses the start.

    The check of Sundaram, Brox and Keutzer (ECCV 2010), `|f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5`, made soft; 0 where
    the motion leaves the image. Vectors in pixels of their own grid.
    """
    height, width = forward.shape[:2]
    back = carry(backward, forward)
    miss = ((forward + back) ** 2).sum(-1)
    allowed = 0.01 * ((forward**2).sum(-1) + (back**2).sum(-1)) + 0.5
    x = np.arange(width)[None, :] + forward[..., 0]
    y = np.arange(height)[:, None] + forward[..., 1]
    within = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return np.asarray(np.exp(-miss / allowed) * within, np.float32)
