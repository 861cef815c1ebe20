"""A film restored, or every stage trained, on a device; where no GPU is, on one that only pretends.

    python tests/on_device.py pretend film '[["restore.anchors=1"], []]' [PHOTO.png]    a short film, there and on the processor
    python tests/on_device.py pretend batches '[[]]'                                    the film in batches of one face, and of 16
    python tests/on_device.py pretend train FOLDER                                      every stage of training, for two steps
    python tests/on_device.py cuda film '[[]]'                                          the same on a GPU

The device that pretends has its tensors in the processor's memory, and is as strict about them as a GPU. Where no GPU is, a
tensor that was left behind on the processor changes nothing, and the mistake shows first at somebody who has one. Here an
operation on tensors of both places is an error, as it is on a GPU, and so is reading from the device what was not fetched.
What it does not show is all that a GPU does otherwise: its speed, its memory, its kernels, and that it draws random numbers by
generators of its own alone. It is torch's backend for others to fill (PrivateUse1), which stays in a process for good: hence a
program, and no fixture.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_map

NAME = "pretend"
ROOT = Path(__file__).resolve().parents[1]
ALSO_FROM_THE_PROCESSOR = ("aten.index.", "aten.index_put", "aten._index_put", "aten._unsafe_index")
"""Operations whose further tensors may lie on the processor."""
calls = itertools.count()
"""Counts the operations that the device was asked for, and whoever looks."""
plain = {name: getattr(torch, name) for name in ("tensor", "as_tensor", "save", "load")}


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class There(torch.Tensor):
    """A tensor on the device; `raw` is where its numbers are."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> There:
        like = {"strides": raw.stride(), "storage_offset": raw.storage_offset(), "dtype": raw.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, raw.shape, device=torch.device(NAME, 0), **like)
        made.raw = raw
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # These make tensors without asking the dispatcher, or refuse every subclass.
        kwargs = kwargs or {}
        if func is torch.Tensor.tolist:
            return args[0].raw.tolist()
        if func is torch.Tensor.numpy:
            raise TypeError(f"can't convert {NAME} device type tensor to numpy")
        if func is torch.Tensor.new_tensor:
            return as_tensor(args[1], kwargs.get("dtype") or args[0].dtype, args[0].device)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            wanted = args[1]
            args = (args[0], tuple(map(_index, wanted)) if isinstance(wanted, tuple) else _index(wanted), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, *args, **(kwargs or {}))


def _index(wanted: Any) -> Any:
    return torch.as_tensor(list(wanted)) if isinstance(wanted, list | range) else wanted


def as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> torch.Tensor:
    """In place of torch's, which cannot make one here."""
    if isinstance(data, There):
        return data.to(dtype=dtype or data.dtype, device=device or data.device)
    made = plain["as_tensor"](data, dtype=dtype)
    return made if device is None else made.to(device)


def tensor(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
    """In place of torch's, which cannot make one here."""
    made = plain["tensor"](*args, **kwargs)
    return made if device is None else made.to(device)


def run(func: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation that has to do with the device.

    Raises:
        RuntimeError: its tensors lie in two places.
    """
    next(calls)
    tensors: list[torch.Tensor] = []
    devices: list[torch.device] = []
    tree_map(lambda v: tensors.append(v) if isinstance(v, torch.Tensor) else None, (args, kwargs))
    tree_map(lambda v: devices.append(v) if isinstance(v, torch.device) else None, (args, kwargs))
    name = str(func)
    known = {id(t.raw): t for t in tensors if isinstance(t, There)}
    here = devices[-1].type == NAME if devices else bool(known)
    if not devices and known and "copy_" not in name:
        free = name.startswith(ALSO_FROM_THE_PROCESSOR)
        if any(t.dim() and not isinstance(t, There) for t in (tensors[:1] if free else tensors)):
            raise RuntimeError(f"{name}: expected all tensors on one device, found {[str(t.device) for t in tensors]}")

    def lowered(value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("cpu") if value.type == NAME else value
        return value.raw if isinstance(value, There) else value

    found = func(*tree_map(lowered, args), **tree_map(lowered, kwargs))
    views = any(returned.alias_info for returned in func._schema.returns)

    def raised(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if not here:  # a copy for the processor must not be the device's own numbers
            return value.clone() if id(value) in known else value
        if id(value) in known:
            return known[id(value)]
        # A view of a tensor that counts its versions counts them too, even where inference mode would not.
        counts = views and any(isinstance(t, There) and not t.is_inference() for t in tensors)
        with torch.inference_mode(False) if counts else contextlib.nullcontext():
            return There(value)

    return tree_map(raised, found)


def _casting(operation: Any, lower: bool) -> Any:
    def cast(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype(NAME) if lower else torch.float32

        def converted(value: Any) -> Any:
            floats = isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64
            return value.to(dtype) if floats and value.device.type == NAME else value

        with torch.autocast(NAME, enabled=False):
            return operation(*tree_map(converted, args), **tree_map(converted, kwargs))

    return cast


def _autocast(library: torch.library.Library) -> None:
    """As CUDA does it: these in low precision, those in float32."""
    aten = torch.ops.aten
    low = [aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.conv3d.default, aten.conv_transpose2d.input]
    low += [aten.linear.default, aten.matmul.default, aten.mm.default, aten.bmm.default, aten.addmm.default, aten.baddbmm.default]
    low += [aten.einsum.default, aten.prelu.default, aten.scaled_dot_product_attention.default]
    full = [aten.group_norm.default, aten.layer_norm.default, aten.softmax.int, aten.log_softmax.int, aten.exp.default]
    full += [
        aten.log.default,
        aten.pow.Tensor_Scalar,
        aten.pow.Tensor_Tensor,
        aten.norm.ScalarOpt_dim,
        aten.cosine_similarity.default,
    ]
    full += [aten.cumsum.default, aten.prod.default, aten.rsqrt.default, aten.reciprocal.default, aten.softplus.default]
    full += [aten.sum.default, aten.sum.dim_IntList, aten.mse_loss.default, aten.grid_sampler.default]
    for operation in (*low, *full):
        library.impl(operation, _casting(operation, operation in low))


def _saved(value: Any) -> Any:
    return value.raw if isinstance(value, There) else value


def save(data: Any, *args: Any, **kwargs: Any) -> None:
    """In place of torch's: what is written lies nowhere."""
    plain["save"](tree_map(_saved, data), *args, **kwargs)


def load(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
    """In place of torch's: what is read comes to the device where it is wanted there."""
    if map_location is None or torch.device(map_location).type != NAME:
        return plain["load"](*args, map_location=map_location, **kwargs)
    found = plain["load"](*args, map_location="cpu", **kwargs)
    return tree_map(lambda v: v.to(NAME) if isinstance(v, torch.Tensor) else v, found)


class Generator(torch.Generator):
    """The processor's random numbers under the device's name."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls, "cpu")
        made.place = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.place


def set_up() -> list[torch.library.Library]:
    """Make the device known; it is there as long as the result is held."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    device, autocast = torch.library.Library("_", "IMPL"), torch.library.Library("_", "IMPL")
    device.fallback(run, "PrivateUse1")
    autocast.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    casts = torch.library.Library("aten", "IMPL", "AutocastPrivateUse1")
    _autocast(casts)
    torch.tensor, torch.as_tensor, torch.save, torch.load, torch.Generator = tensor, as_tensor, save, load, Generator
    return [device, autocast, casts]


def refuses() -> None:
    """See that the device minds what a GPU minds: without it, nothing here says anything."""
    there, here = torch.ones(2, 2).to(NAME), torch.ones(2, 2)
    mistakes = {
        "adding": lambda: there + here,
        "stacking": lambda: torch.stack([there, here]),
        "convolving": lambda: torch.nn.functional.conv2d(there.view(1, 1, 2, 2), here.view(1, 1, 2, 2)),
        "reading": there.numpy,
    }
    for name, mistake in mistakes.items():
        try:
            mistake()
        except (RuntimeError, TypeError):
            continue
        raise AssertionError(f"{name} passed")
    assert torch.equal((there + 1).cpu(), here + 1) and there[[0]].device.type == NAME and float(there.sum()) == 4


def portrait() -> Any:
    """`(192, 192, 3)` uint8 RGB."""
    import cv2
    from skimage import data

    return cv2.resize(data.astronaut()[:320, 60:380], (192, 192), interpolation=cv2.INTER_AREA)


def film() -> list[Any]:
    """A portrait in one frame, and after a cut three blurred ones in which it moves: whom they show is known by then."""
    import cv2
    import numpy as np

    from videoclr.types import Frame

    blurred = cv2.resize(portrait(), (48, 48), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(blurred, (192, 192), interpolation=cv2.INTER_CUBIC)
    shown = [portrait()[:, ::-1], *(np.roll(blurred, n, axis=1) for n in range(3))]
    return [Frame.from_image(np.ascontiguousarray(picture), n) for n, picture in enumerate(shown)]


def restored(where: str, settings: list[str]) -> tuple[list[Any], list[int]]:
    """The patches of the film restored on a device, and how many faces each track has."""
    from videoclr import pipeline

    with mock.patch.object(pipeline, "device_of", lambda _: where):
        config = pipeline.Config()
        for setting in settings:
            config = config.override(setting)
        ledger = pipeline.RunLog()
        frames = list(pipeline.Pipeline(config).restore_frames(film(), ledger))
    if ledger.warnings:
        raise AssertionError(ledger.warnings)
    return [patch for frame in frames for patch in frame.patches], [one.frames for one in ledger.tracks]


def apart(ours: list[Any], theirs: list[Any]) -> tuple[float, float]:
    """How far patches are from one another at most, and in the mean, in 255ths."""
    import numpy as np

    each = [np.abs(a.rgb.astype(float) - b.rgb.astype(float)) for a, b in zip(ours, theirs, strict=True)]
    return max(float(one.max()) for one in each), float(np.mean([one.mean() for one in each]))


def compare(what: str, where: str, each: list[list[str]], photograph: Path | None = None) -> None:
    """Print for each of the settings how far the device's film is from the processor's, or one face at a time from many, as JSON.

    A photograph of who is in it is written to `photograph` before, for settings that name it.
    """
    import cv2

    if photograph is not None:
        cv2.imwrite(str(photograph), portrait()[..., ::-1])
    for settings in each:
        before = next(calls)
        one, other = ([], []) if what == "film" else (["runtime.batch=1"], ["runtime.batch=16"])
        ours, faces = restored(where, [*settings, *one])
        theirs, _ = restored("cpu" if what == "film" else where, [*settings, *other])
        most, mean = apart(ours, theirs)
        facts = {"faces": faces, "calls": next(calls) - before - 1, "most": most, "mean": mean}
        print(json.dumps({"settings": settings, **facts}), flush=True)


class _Alone:
    """Accelerate's choice of a device, made for it."""

    is_main_process, num_processes, process_index = True, 1, 0

    def __init__(self) -> None:
        self.device = torch.device(NAME, 0)

    def wait_for_everyone(self) -> None:
        """Nobody else is there."""

    def main_process_first(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else is there."""
        return contextlib.nullcontext()


def _program(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "pipelines" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def train(where: str, folder: Path) -> None:
    """Train every stage that needs nothing but faces, by `folder/all.yaml` with `folder/faces`."""
    from videoclr.training import loop

    train_all = _program("train_all")

    def called(training: Any, stage: Any, entry: Any, used: float) -> bool:
        path, *arguments = training.command(stage, entry, used)
        with mock.patch.object(sys, "argv", [path, *arguments]):
            _program(Path(path).stem).main()
        print(json.dumps({"stage": stage.name, "calls": next(calls)}), flush=True)
        return True

    wanted: list[Any] = ["--minutes", "5", "--data", folder / "faces", "--out", folder / "out", "--config", folder / "all.yaml"]
    chosen = mock.patch.object(loop, "launched", _Alone) if where == NAME else contextlib.nullcontext()
    with chosen, mock.patch.object(train_all.Training, "call", called):
        train_all.main([str(word) for word in wanted])


if __name__ == "__main__":
    place, what, *given = sys.argv[1:]
    if place == NAME:
        held = set_up()
        refuses()
    if what != "train":
        compare(what, place, json.loads(given[0]), *map(Path, given[1:]))
    else:
        train(place, Path(given[0]))
