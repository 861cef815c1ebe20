"""Values of Python and numpy as a file, and back, exactly: what stages and parts remember of the tracks of a shot.

The file is safetensors: the arrays, and beside them one text of JSON that says how they hang together. Nothing in it can
run: what comes back is plain values, arrays, tensors, frames by their number, and objects of those classes that this
program itself declared `keepable`, whatever the file names. What two objects share they share again (a track and the person
it belongs to have one pool of views), and an array that was a turned view is one again: sums over it add up in the same order.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from fractions import Fraction
from hashlib import file_digest, sha256
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from videoclr.errors import ResumeError
from videoclr.types import Detection, FaceCrop, Faces, Frame, Person, RestoredFace, TrackedFace

T = TypeVar("T")

SCHEMA = "videoclr state 1"
"""Of the files; another one is refused."""
_NAMES = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{short}{bits}" for sign, short in (("", "I"), ("u", "U")) for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
}
"""numpy's types by safetensors' names."""
_LARGEST = 1 << 26
"""Bytes of JSON in a file, at most: a damaged length must not be believed."""

_keepable: dict[str, type] = {}


class NotKeepable(TypeError):
    """A value that no file of this kind holds. Nothing is wrong: a run that goes on begins with the shot."""


def keepable(cls: type[T]) -> type[T]:
    """Allow objects of `cls` in files; a decorator. Only their fields are kept, or all attributes where it is no dataclass."""
    _keepable[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return cls


for _noun in (Detection, FaceCrop, Faces, Person, RestoredFace, TrackedFace):
    keepable(_noun)


@runtime_checkable
class Keeping(Protocol):
    """A part with a memory of its own that can be written down within a shot. Optional; plug-ins may have it too."""

    def keep(self) -> Any:
        """What it remembers: plain values, arrays, tensors on the CPU, `keepable` objects, and lists and the like of them."""
        ...

    def recall(self, kept: Any) -> None:
        """Remember what `keep` gave."""
        ...


def memory_of(part: object) -> Any:
    """What `part` remembers.

    Raises:
        NotKeepable: it does not say.
    """
    if not isinstance(part, Keeping):
        raise NotKeepable(f"{type(part).__name__} has no method `keep`")
    return part.keep()


@dataclass
class Packed:
    """Values, ready to be written."""

    tree: Any
    """In JSON's types."""
    arrays: list[NDArray[Any]]
    """Each contiguous."""
    frames: list[int]
    """Indices of the frames that are spoken of, in order."""

    def write(self, file: BinaryIO, facts: Mapping[str, Any]) -> str:
        """Write them with `facts`, in JSON's types, and return the SHA-256 of what was written."""
        entries: dict[str, Any] = {
            "__metadata__": {"schema": SCHEMA, "values": json.dumps({"facts": facts, "tree": self.tree, "frames": self.frames})}
        }
        end = 0
        for number, array in enumerate(self.arrays):
            start, end = end, end + array.nbytes
            shape = list(array.shape)
            entries[str(number)] = {"dtype": _NAMES[array.dtype.name], "shape": shape, "data_offsets": [start, end]}
        head = json.dumps(entries).encode()
        head += b" " * (-len(head) % 8)
        digest = sha256()
        blocks: Iterator[Any] = chain(
            (len(head).to_bytes(8, "little"), head), (one.reshape(-1).view(np.uint8) for one in self.arrays)
        )
        for block in blocks:
            digest.update(block)
            file.write(block)
        return digest.hexdigest()


def pack(value: Any) -> Packed:
    """Make `value` ready; what is in it must not change until it is written.

    Raises:
        NotKeepable: something in it is of an unknown kind.
    """
    packer = _Packer()
    tree = packer.node(value)
    return Packed(tree, packer.arrays, sorted(packer.frames))


class _Packer:
    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []
        self.frames: set[int] = set()
        self._numbers: dict[int, tuple[int, Any]] = {}  # by id; holds the object, so that no other gets its id meanwhile

    def node(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind in (list, tuple, set):
            return [kind.__name__, [self.node(one) for one in value]]
        if kind is deque:
            return ["deque", [self.node(one) for one in value], value.maxlen]
        if kind is dict:
            return ["dict", [[self.node(key), self.node(one)] for key, one in value.items()]]
        if kind is Fraction:
            return ["fraction", value.numerator, value.denominator]
        if isinstance(value, Frame):
            self.frames.add(value.index)
            return ["frame", value.index]
        if isinstance(value, np.generic):  # 0.5 and np.float64(0.5) make different sums with an array of float32
            return ["scalar", self._array(np.asarray(value))]
        return self._shared(value)

    def _shared(self, value: Any) -> Any:
        if id(value) in self._numbers:
            return ["same", self._numbers[id(value)][0]]
        number = len(self._numbers)
        self._numbers[id(value)] = (number, value)
        if isinstance(value, np.ndarray):
            return ["array", number, *self._turned(value)]
        if _is_tensor(value):
            if value.device.type != "cpu":
                raise NotKeepable(f"a tensor on {value.device}")
            return ["tensor", number, *self._turned(_numpy_of(value))]
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        if _keepable.get(name) is not type(value):
            raise NotKeepable(f"an object of {name}")
        return ["object", number, name, {key: self.node(getattr(value, key)) for key in _names(value)}]

    def _turned(self, array: NDArray[Any]) -> tuple[int, list[int]]:
        order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        return self._array(array.transpose(order)), order

    def _array(self, array: NDArray[Any]) -> int:
        if array.dtype.name not in _NAMES or not array.dtype.isnative:
            raise NotKeepable(f"an array of {array.dtype}")
        self.arrays.append(np.ascontiguousarray(array).reshape(array.shape))
        return len(self.arrays) - 1


def _names(value: object) -> list[str]:
    return [one.name for one in fields(value)] if is_dataclass(value) else list(vars(value))


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _numpy_of(value: Any) -> NDArray[Any]:
    try:
        array: NDArray[Any] = value.detach().numpy()
    except TypeError as error:  # bfloat16
        raise NotKeepable(f"a tensor of {value.dtype}") from error
    return array


@dataclass
class Unpacked:
    """A file that was read; its values are made when its frames are there."""

    path: Path
    facts: dict[str, Any]
    frames: list[int]
    """Indices of the frames that `values` wants."""
    tree: Any = field(repr=False)
    array: Callable[[int], NDArray[Any]] = field(repr=False)

    def values(self, frames: Mapping[int, Frame]) -> Any:
        """What was packed.

        Raises:
            ResumeError: the file does not hang together.
        """
        unpacker = _Unpacker(self.array, frames)
        try:
            return unpacker.value(self.tree)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise damaged(self.path) from error


class _Unpacker:
    def __init__(self, array: Callable[[int], NDArray[Any]], frames: Mapping[int, Frame]) -> None:
        self.array, self.frames = array, frames
        self._shared: dict[int, Any] = {}

    def value(self, node: Any) -> Any:
        if not isinstance(node, list):
            if isinstance(node, dict):
                raise ValueError("a mapping that is no node")
            return node
        kind, *rest = node
        made: Any = getattr(self, f"_{kind}")(*rest)
        return made

    def _list(self, items: list[Any]) -> list[Any]:
        return [self.value(one) for one in items]

    def _tuple(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(self._list(items))

    def _set(self, items: list[Any]) -> set[Any]:
        return set(self._list(items))

    def _deque(self, items: list[Any], longest: int | None) -> deque[Any]:
        return deque(self._list(items), longest)

    def _dict(self, items: list[Any]) -> dict[Any, Any]:
        return {self.value(key): self.value(one) for key, one in items}

    def _fraction(self, above: int, below: int) -> Fraction:
        return Fraction(above, below)

    def _frame(self, index: int) -> Frame:
        return self.frames[index]

    def _scalar(self, number: int) -> Any:
        return self.array(number)[()]

    def _same(self, number: int) -> Any:
        return self._shared[number]

    def _array(self, number: int, place: int, order: list[int]) -> NDArray[Any]:
        self._shared[number] = array = self.array(place).transpose(np.argsort(order))
        return array

    def _tensor(self, number: int, place: int, order: list[int]) -> Any:
        import torch

        self._shared[number] = tensor = torch.from_numpy(self.array(place).transpose(np.argsort(order)))
        return tensor

    def _object(self, number: int, name: str, given: dict[str, Any]) -> Any:
        cls = _keepable[name]
        if is_dataclass(cls) and {one.name for one in fields(cls)} != given.keys():
            raise ValueError(f"{name} has other fields")
        made: Any = object.__new__(cls)
        self._shared[number] = made
        for key, node in given.items():
            object.__setattr__(made, key, self.value(node))  # many are frozen, and none has anything to check
        return made


def unpack(path: Path, size: int, checksum: str) -> Unpacked:
    """Read the file at `path`, which had so many bytes and this SHA-256.

    Raises:
        ResumeError: it is missing, damaged or of another schema.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if path.stat().st_size != size or _checksum(path) != checksum:
            raise damaged(path)
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > _LARGEST:
                raise damaged(path)
        kept: Any = safe_open(os.fspath(path), framework="np")
        said = kept.metadata() or {}
        if said.get("schema") != SCHEMA:
            raise ResumeError(path, f"was written by another version; remove the folder {path.parent.name} and begin anew")
        values = json.loads(said["values"])
        facts, frames, tree = dict(values["facts"]), [int(index) for index in values["frames"]], values["tree"]
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path) from error

    def array(number: int) -> NDArray[Any]:
        try:
            found: NDArray[Any] = kept.get_tensor(str(number))
        except SafetensorError as error:
            raise LookupError(number) from error
        return found

    return Unpacked(path, facts, frames, tree, array)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def damaged(path: Path) -> ResumeError:
    """What is said of a file that is not what was written."""
    return ResumeError(path, f"is missing or damaged; remove the folder {path.parent.name} and begin anew")
