"""A node for ComfyUI: pictures of a video in, the same with restored faces out, and where they are.

One line in a file of ComfyUI's folder `custom_nodes` makes it known (see the README). ComfyUI asks a class for its inputs
(`INPUT_TYPES`), and calls its `FUNCTION` with them; pictures are `IMAGE`, `(N, H, W, 3)` float32 RGB in [0, 1], and a mask is
`(N, H, W)`. Nothing of ComfyUI is needed to import this; its progress bar and its button to interrupt are used where they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.pipeline import Pipeline
from videoclr.types import Frame, Patch

_TOP = 65535
_PHOTOGRAPH = "photograph"
_DIMENSIONS, _COLOURS = 4, 3


class RestoreFaces:
    """The node `Restore faces (videoclr)`."""

    CATEGORY = "image/video"
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("images", "faces")
    FUNCTION = "restore"
    DESCRIPTION = (
        "Restores the faces of a video, following each of them from picture to picture. Give it all pictures of a shot, or of "
        "several, in order."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """What the node takes, with the limits and defaults of `Config`."""
        defaults = Config()
        share = {"min": 0.0, "max": 1.0, "step": 0.05}
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "pictures of a video, in order"}),
                "fidelity": (
                    "FLOAT",
                    {**share, "default": defaults.restore.fidelity, "tooltip": "0 favours a clean look, 1 what the input shows"},
                ),
                "strength": (
                    "FLOAT",
                    {**share, "default": defaults.blend.strength, "tooltip": "how much of the restoration is shown"},
                ),
            },
            "optional": {
                "photographs": ("IMAGE", {"tooltip": "of somebody in the video, one face on each"}),
                "only": ("BOOLEAN", {"default": False, "tooltip": "restore nobody but the one on the photographs"}),
                "settings": (
                    "STRING",
                    {"default": "", "multiline": True, "tooltip": "a setting of videoclr a line: restore.steps=5"},
                ),
            },
        }

    def restore(
        self,
        images: Tensor,
        fidelity: float,
        strength: float,
        photographs: Tensor | None = None,
        only: bool = False,
        settings: str = "",
    ) -> tuple[Tensor, Tensor]:
        """Restore the faces.

        Args:
            images: `(N, H, W, C)` float in [0, 1], RGB and what may be beside it, in order of time.
            fidelity: in [0, 1].
            strength: in [0, 1].
            photographs: of one person, `(M, H, W, 3)`, of any size.
            only: leave everybody else as they are.
            settings: `PATH=VALUE` lines, as `--set` takes them.

        Returns:
            As `images`, the same bits where no face was restored, and `(N, H, W)` float32: how much of each pixel is restored.

        Raises:
            ConfigError: a setting is wrong, has no effect here or says otherwise than a dial, or `only` lacks a photograph.
            MediaError: `images` or `photographs` are no such pictures, or a photograph does not show one face.
            RestorationError: a part failed.
        """
        if only and (photographs is None or not len(photographs)):
            raise ConfigError("only: photographs are needed that show who is to be restored")
        _check("images", images)
        if photographs is not None:
            _check("photographs", photographs)
        told = [line.strip() for line in settings.splitlines() if line.strip() and not line.strip().startswith("#")]
        config = Config().override(*told, f"restore.fidelity={fidelity}", f"blend.strength={strength}")
        _refuse_dialled(told, config)
        _refuse_idle(config)
        with tempfile.TemporaryDirectory(prefix="videoclr-") as folder:
            pipeline = Pipeline(_with_photographs(config, photographs, only, Path(folder)))
        restored, shown = images.clone(), torch.zeros(images.shape[:3])
        step = _progress(len(images))
        cast = pipeline.look(_frames(images)) if pipeline.config.identify.look_first else None
        with closing(pipeline.restore_frames(_frames(images), cast=cast)) as frames:  # type: ignore[type-var]
            for number, frame in enumerate(frames):
                for patch in frame.patches:
                    _lay(patch, restored[number], shown[number])
                step()
        return restored, shown


def _check(name: str, images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise MediaError(name, f"expected pictures (N, H, W, 3) as a tensor of floats in [0, 1], got a {type(images).__name__}")
    if images.ndim != _DIMENSIONS or images.shape[-1] < _COLOURS or not all(images.shape[1:3]) or not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise MediaError(name, f"expected pictures (N, H, W, 3) of floats in [0, 1], got {tuple(images.shape)} of {kind}")


def _refuse_dialled(lines: list[str], config: Config) -> None:
    """Refuse a line that says otherwise than a dial, as `config` has it: which of the two counts, nobody could see."""
    named = {"".join(line.partition("=")[0].split()) for line in lines}
    for section, name in (("restore", "fidelity"), ("blend", "strength")):
        told, usual, dial = (getattr(getattr(one, section), name) for one in (Config().override(*lines), Config(), config))
        if told != dial and (told != usual or f"{section}.{name}" in named):
            raise ConfigError(f"$.{section}.{name}: is {told} in a line and {dial} on the node's dial {name}; leave the line out")


def _refuse_idle(config: Config) -> None:
    """Refuse settings of files, of which the node reads and writes none, and of the whole process, which is not its own."""
    plain, media = Config(), config.media
    if config.track.file is not None:  # whose frames are counted from there
        known = {name: getattr(media, name) for name in ("start", "end", "frames")}
        given = plain.media.input.model_copy(update={"start_number": media.input.start_number})
        plain = plain.model_copy(update={"media": plain.media.model_copy(update={**known, "input": given})})
    if (name := _differing(media, plain.media)) is not None:
        raise ConfigError(f"$.media.{name}: has no effect in this node, which is given pictures and gives pictures; leave it out")
    if config.runtime.threads:
        raise ConfigError("$.runtime.threads: has no effect in this node, torch's threads are ComfyUI's; leave it out")


def _differing(found: BaseModel, plain: BaseModel) -> str | None:
    """The first setting that is not as in `plain`: `input.rate`."""
    for name in type(found).model_fields:
        value, usual = getattr(found, name), getattr(plain, name)
        if value != usual:
            inner = _differing(value, usual) if isinstance(value, BaseModel) else None
            return name if inner is None else f"{name}.{inner}"
    return None


def _with_photographs(config: Config, photographs: Tensor | None, only: bool, folder: Path) -> Config:
    """The settings that know the person, whose pictures are put into `folder`."""
    if photographs is None:
        return config
    entries = []
    for number, picture in enumerate(photographs, 1):
        path = folder / f"{_PHOTOGRAPH}{number}.png"
        cv2.imwrite(str(path), np.ascontiguousarray(_codes(picture)[..., ::-1]))
        entries.append(f"{_PHOTOGRAPH}={path}")
    asked = [*config.identify.only, *([_PHOTOGRAPH] if only else [])]
    known = {"references": [*config.identify.references, *entries], "only": asked}
    return config.model_copy(update={"identify": config.identify.model_copy(update=known)})


def _frames(images: Tensor) -> Iterator[Frame]:
    for number, picture in enumerate(images):
        yield Frame.from_image(_codes(picture), number)


def _codes(picture: Tensor) -> NDArray[np.uint16]:
    """`(H, W, 3)` uint16 of a picture in [0, 1]."""
    values = picture[..., :3].detach().float().cpu().nan_to_num(0.0).clamp(0, 1).numpy()
    codes: NDArray[np.uint16] = np.rint(values * _TOP).astype(np.uint16)
    return codes


def _lay(patch: Patch, picture: Tensor, shown: Tensor) -> None:
    """Lay a patch over a picture `(H, W, C)` and its mask `(H, W)`, in place."""
    height, width = patch.alpha.shape
    place = (slice(patch.y, patch.y + height), slice(patch.x, patch.x + width))
    alpha = torch.from_numpy(np.ascontiguousarray(patch.alpha))
    colour = torch.from_numpy(patch.rgb.astype(np.float32) / np.float32(_TOP)).to(picture)
    below, opacity = picture[(*place, slice(0, 3))], alpha[..., None].to(picture)
    picture[(*place, slice(0, 3))] = torch.where(opacity > 0, below + opacity * (colour - below), below)
    shown[place] = 1 - (1 - shown[place]) * (1 - alpha)


def _progress(count: int) -> Callable[[], None]:
    """What to call after every picture: moves ComfyUI's bar, and raises where its user interrupted."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
        from comfy.utils import ProgressBar
    except ImportError:
        return lambda: None
    bar = ProgressBar(count)

    def step() -> None:
        throw_exception_if_processing_interrupted()
        bar.update(1)

    return step


__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
NODE_CLASS_MAPPINGS = {"VideoclrRestoreFaces": RestoreFaces}
NODE_DISPLAY_NAME_MAPPINGS = {"VideoclrRestoreFaces": "Restore faces (videoclr)"}
