"""Weights on disk: safetensors in half precision, each with its SHA-256 in `videoclr/weights/MANIFEST.json` and a model card.

Only safetensors are opened here; a state dict of somebody else's is read by `read_state`, which refuses anything that is not
plain tensors.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoclr.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent.parent / "weights"


def manifest() -> dict[str, dict[str, Any]]:
    """Name -> `{sha256, bytes, parameters, licence, progress}` of every embedded file; `progress` is run -> `{steps, minutes}`.

    Raises:
        WeightsError: the manifest is missing or damaged.
    """
    path = FOLDER / "MANIFEST.json"
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(path, "missing; install videoclr again") from error
    except ValueError as error:
        raise WeightsError(path, "damaged; install videoclr again") from error
    return entries


def verify() -> dict[str, str]:
    """Name -> its state (see `state_of`), by reading every embedded file."""
    return {name: state_of(FOLDER / f"{name}.safetensors", entry["sha256"]) for name, entry in manifest().items()}


def state_of(path: Path, digest: str) -> str:
    """`ok`, `missing`, `unreadable`, or `wrong hash` where a file has another SHA-256 than `digest`."""
    try:
        return "ok" if sha256(path) == digest else "wrong hash"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"


def sha256(path: str | Path) -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _load_embedded(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    entries = manifest()
    if name not in entries:
        raise WeightsError(name, f"no such embedded weights; there are {', '.join(entries)}")
    path = FOLDER / f"{name}.safetensors"
    found = state_of(path, entries[name]["sha256"])
    if found != "ok":
        raise WeightsError(path, f"{found}; install videoclr again")
    return read_safetensors(path)


def load_embedded(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (float32, on the CPU) and metadata of `videoclr/weights/<name>.safetensors`, its hash checked.

    Raises:
        WeightsError: unknown, missing, or not the file that the manifest names.
    """
    tensors, metadata = _load_embedded(name)
    return dict(tensors), dict(metadata)


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors as float32 (integers as they are) and metadata.

    Raises:
        WeightsError: missing, truncated, or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsError(path, f"not a readable safetensors file ({' '.join(str(error).split())})") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, metadata


def read_state(path: str | Path) -> dict[str, Tensor]:
    """A state dict from `.safetensors`, or from a `.pth`, `.pt`, `.ckpt` of plain tensors (never unpickled freely).

    Raises:
        WeightsError: missing, damaged, or holding anything but dense tensors of plain numbers.
    """
    import torch

    if not Path(path).is_file():
        raise WeightsError(path, "no such file")
    if Path(path).suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # what a damaged file makes of the unpickler has no common name
        raise WeightsError(path, "not a readable file of plain tensors; convert it to safetensors") from error
    for wrapper in ("params_ema", "params", "state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(path, "holds something else than one state dict")
    odd = [k for k, v in state.items() if v.layout is not torch.strided or v.is_quantized or v.is_meta or v.is_nested]
    if odd:
        raise WeightsError(path, f"holds something else than dense tensors of plain numbers: {odd[0]}")
    return {str(k).removeprefix("module."): v.float() if v.is_floating_point() else v for k, v in state.items()}


def read_checkpoint(path: str | Path, device: torch.device | str = "cpu", mmap: bool = False) -> dict[str, Any]:
    """What a training program keeps in `checkpoint.pt`: `modules`, `ema`, `step`, `spent` and more; `mmap` reads tensors when used.

    Raises:
        WeightsError: there is none, or it is damaged or of something else.
    """
    import torch

    if not Path(path).is_file():
        raise WeightsError(path, "no such checkpoint; train it first, or use pipelines/unpack_weights.py")
    try:
        state = torch.load(path, weights_only=True, map_location=device, mmap=mmap)
    except Exception as error:  # as in `read_state`
        raise WeightsError(path, "not a readable checkpoint; remove it and train it again, or use another") from error
    if not isinstance(state, dict) or not {"ema", "step", "spent"} <= state.keys():
        raise WeightsError(path, "not a checkpoint of a training program")
    return state


def fit(module: nn.Module, state: dict[str, Tensor], path: object) -> None:
    """Load `state` strictly into `module`, which becomes float32 even where the host program has changed torch's default dtype.

    Raises:
        WeightsError: missing, unexpected or misshapen entries, the first of them named.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if missing or extra or wrong:
        first = (
            f"lacks {missing[0]}"
            if missing
            else f"has an unknown {extra[0]}"
            if extra
            else f"{wrong[0]} has shape {tuple(state[wrong[0]].shape)}, expected {tuple(own[wrong[0]].shape)}"
        )
        raise WeightsError(
            path,
            f"does not fit {type(module).__name__}: {first} ({len(missing) + len(extra) + len(wrong)} entries differ)",
        )
    module.float().load_state_dict(state)


def load_part(module: nn.Module, file: str, name: str) -> None:
    """Load the entries `<name>.*` of the embedded weights `file` into `module`.

    Raises:
        WeightsError: as `load_embedded` and `fit`.
    """
    state, _ = load_embedded(file)
    own = {k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")}
    fit(module, own, f"{file}.safetensors")


def write_safetensors(path: str | Path, state: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, Any]:
    """Write `state` in half precision and return its manifest entry (`sha256`, `bytes`, `parameters`).

    Raises:
        WeightsError: a value is not finite, or too large for half precision (beyond 65504); nothing is written.
    """
    import torch
    from safetensors.torch import save_file

    half = {k: v.detach().cpu().to(torch.float16 if v.is_floating_point() else v.dtype).contiguous() for k, v in state.items()}
    if broken := [k for k, v in half.items() if v.is_floating_point() and not v.isfinite().all()]:
        raise WeightsError(path, f"not written: {broken[0]} holds values that are not finite in half precision")
    save_file(half, str(path), metadata)
    Path(path).chmod(0o644)  # safetensors writes files that only their owner may read
    return {
        "sha256": sha256(path),
        "bytes": Path(path).stat().st_size,
        "parameters": sum(v.numel() for v in state.values()),
    }
