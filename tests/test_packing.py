from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videoclr.errors import ResumeError
from videoclr.packing import NotKeepable, keepable, pack, unpack
from videoclr.types import Detection, FaceCrop, Frame, TrackedFace


@keepable
class Counting:
    def __init__(self, seen: int) -> None:
        self.seen = seen
        self.friend: Counting | None = None


@keepable
@dataclass(frozen=True, slots=True)
class Pool:
    views: list[Any]


def again(value: Any, folder: Path, frames: dict[int, Frame] | None = None) -> Any:
    path = folder / "values.state"
    with path.open("wb") as file:
        checksum = pack(value).write(file, {"next": 7})
    kept = unpack(path, path.stat().st_size, checksum)
    assert kept.facts == {"next": 7}
    return kept.values(frames or {})


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(1 << 70),
        0.1,
        float("inf"),
        "a\udc80b",
        [1, (2, "x"), [], {3, 4}],
        {(1, "a"): {2: None}, "b": 3.5},
        Fraction(-1001, 30000),
    ],
)
def test_plain_values_come_back_as_they_were(value, tmp_path):
    found = again(value, tmp_path)
    assert found == value and type(found) is type(value)


def test_a_queue_stays_as_short_as_it_was(tmp_path):
    found = again([deque([1, 2], 2), deque([3])], tmp_path)
    assert found == [deque([1, 2]), deque([3])]
    assert [one.maxlen for one in found] == [2, None]


@pytest.mark.parametrize("kind", ["bool", "uint8", "uint16", "int16", "int64", "float16", "float32", "float64"])
def test_arrays_keep_type_values_and_the_order_of_their_axes(kind, tmp_path):
    array = np.random.default_rng(0).integers(0, 2, (4, 5, 3)).astype(kind)
    turned, empty, single = array.transpose(2, 0, 1), array[:0], array[0, 0, 0]
    found = again([array, turned, empty, single, np.asarray(single)], tmp_path)
    for ours, theirs in zip(found, [array, turned, empty, single], strict=False):
        assert type(ours) is type(theirs) and ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert found[1].strides == turned.strides
    assert found[4].shape == ()


def test_tensors_come_back_in_their_layout(tmp_path):
    image = torch.rand(6, 5, 3).permute(2, 0, 1)
    found = again({"image": image, "whole": torch.tensor(3)}, tmp_path)
    assert torch.equal(found["image"], image) and found["image"].stride() == image.stride()
    assert found["image"].sum() == image.sum()  # in the same order, so to the bit
    assert found["whole"] == 3


def test_what_was_shared_is_shared_again_in_circles_too(tmp_path):
    pool, one, other = Pool([np.ones(2)]), Counting(1), Counting(2)
    one.friend, other.friend = other, one
    found = again([pool, pool, pool.views[0], one, other], tmp_path)
    assert found[0] is found[1] and found[0].views[0] is found[2]
    assert found[3].friend is found[4] and found[4].friend is found[3] and found[4].seen == 2


def test_frames_are_named_and_not_written(tmp_path):
    frame = Frame.from_image(np.zeros((40, 40, 3), np.uint8), index=3)
    face = TrackedFace(5, Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.5))
    crop = FaceCrop(face, frame, torch.zeros(3, 2, 2), np.eye(2, 3))
    packed = pack([crop])
    assert packed.frames == [3] and sum(array.nbytes for array in packed.arrays) < 40 * 40
    found = again([crop], tmp_path, {3: frame})[0]
    assert found.frame is frame and found.face.track == 5


class Unknown:
    pass


@pytest.mark.parametrize(
    "value", [Unknown(), b"1", print, np.array(["a"]), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, device="meta")]
)
def test_what_cannot_be_written_down_is_said(value):
    with pytest.raises(NotKeepable):
        pack([value])


def test_only_declared_classes_come_back(tmp_path):
    @keepable
    class Passing:
        def __init__(self) -> None:
            self.command = "x"

    path = tmp_path / "values.state"
    packed = pack(Passing())
    for name in ("subprocess.Popen", "builtins.object", "tests.nowhere.Thing"):
        packed.tree[2] = name
        with path.open("wb") as file:
            checksum = packed.write(file, {})
        with pytest.raises(ResumeError, match=r"values\.state: is missing or damaged"):
            unpack(path, path.stat().st_size, checksum).values({})


@pytest.mark.parametrize(
    "tree",
    [
        ["array", 0, 99, []],
        ["same", 4],
        ["frame", 1],
        ["fraction", 1, 0],
        ["dict", [[["list", []], 1]]],
        ["nonsense"],
        ["__init__", 1, 2],
        {"a": 1},
        [],
        ["object", 0, "videoclr.types.Person", {"number": 1}],
    ],
)
def test_a_file_that_does_not_hang_together_is_damaged(tree, tmp_path):
    path = tmp_path / "values.state"
    packed = pack(None)
    packed.tree = tree
    with path.open("wb") as file:
        checksum = packed.write(file, {})
    with pytest.raises(ResumeError, match="damaged"):
        unpack(path, path.stat().st_size, checksum).values({})


def test_a_changed_byte_another_size_and_another_schema_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "values.state"
    with path.open("wb") as file:
        checksum = pack([np.arange(50)]).write(file, {})
    whole = path.read_bytes()
    for bad in (whole[:-1], whole[:40] + b"x" + whole[41:], b""):
        path.write_bytes(bad)
        with pytest.raises(ResumeError, match="is missing or damaged; remove the folder"):
            unpack(path, len(whole), checksum)
    with pytest.raises(ResumeError, match="damaged"):
        unpack(tmp_path / "other.state", len(whole), checksum)
    monkeypatch.setattr("videoclr.packing.SCHEMA", "videoclr state 0")
    path.write_bytes(whole)
    with pytest.raises(ResumeError, match="another version"):
        unpack(path, len(whole), checksum)


def test_the_file_is_plain_safetensors(tmp_path):
    from safetensors.numpy import load_file

    path = tmp_path / "values.state"
    with path.open("wb") as file:
        pack({"a": np.arange(3), "b": 2}).write(file, {})
    assert [array.tolist() for array in load_file(path).values()] == [[0, 1, 2]]
    length = int.from_bytes(path.read_bytes()[:8], "little")
    head = json.loads(path.read_bytes()[8 : 8 + length])
    assert head["__metadata__"]["schema"] == "videoclr state 1"
