"""Weights on disk: what is opened is what was meant, and nothing that is opened can run."""

from __future__ import annotations

import json
import pickle
from functools import cache

import pytest
import torch
from torch import nn

from videoclr.errors import WeightsError
from videoclr.models import weights


class Net(nn.Module):
    """Two layers and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(3, 1)
        self.register_buffer("count", torch.tensor(70_001))


@pytest.mark.parametrize("value", [float("nan"), 70_000.0])
def test_what_half_precision_does_not_hold_is_not_written(tmp_path, value):
    state = {"fine": torch.ones(1), "bad": torch.tensor([value])}
    with pytest.raises(WeightsError, match=r"net\.safetensors: not written: bad holds values that are not finite"):
        weights.write_safetensors(tmp_path / "net.safetensors", state, {})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of embedded weights with one file, `net`."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(weights, "_load_embedded", cache(weights._load_embedded.__wrapped__))
    state = {f"net.{k}": v for k, v in Net().state_dict().items()}
    entry = weights.write_safetensors(tmp_path / "net.safetensors", state, {"name": "net"})
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"net": {**entry, "licence": "Apache-2.0"}}))
    return tmp_path


def test_every_file_that_the_package_ships_is_the_one_its_manifest_names():
    entries = weights.manifest()
    assert "detector" in entries
    assert weights.verify() == dict.fromkeys(entries, "ok")
    for name, entry in entries.items():
        file = weights.FOLDER / f"{name}.safetensors"
        assert file.stat().st_size == entry["bytes"] and entry["licence"]
        assert sum(v.numel() for v in weights.read_safetensors(file)[0].values()) == entry["parameters"]


def test_embedded_weights_come_back_as_float32_with_their_metadata(folder):
    tensors, metadata = weights.load_embedded("net")
    assert metadata == {"name": "net"}
    assert tensors["net.a.weight"].dtype == torch.float32
    tensors.clear()
    assert len(weights.load_embedded("net")[0]) == 5  # the cache keeps its own


def test_an_unknown_name_is_answered_with_those_there_are(folder):
    with pytest.raises(WeightsError, match="there are net"):
        weights.load_embedded("nets")


@pytest.mark.parametrize("cause", ["missing", "wrong hash"])
def test_a_file_that_is_not_the_one_in_the_manifest_is_refused(folder, cause):
    file = folder / "net.safetensors"
    if cause == "missing":
        file.unlink()
    else:
        damaged = bytearray(file.read_bytes())
        damaged[-1] ^= 1
        file.write_bytes(damaged)
    assert weights.verify() == {"net": cause}
    with pytest.raises(WeightsError, match=f"net.safetensors: {cause}") as caught:
        weights.load_embedded("net")
    assert caught.value.path == str(file)


@pytest.mark.parametrize("text", [None, "{"])
def test_a_manifest_that_is_missing_or_damaged_is_named(folder, text):
    (folder / "MANIFEST.json").unlink()
    if text:
        (folder / "MANIFEST.json").write_text(text)
    with pytest.raises(WeightsError, match=r"MANIFEST\.json: (missing|damaged)"):
        weights.load_embedded("net")


def test_safetensors_round_trip_at_half_precision(tmp_path):
    state = {"w": torch.randn(3, 4).T, "n": torch.tensor(70_001), "scale": torch.tensor(0.3)}
    entry = weights.write_safetensors(tmp_path / "a.safetensors", state, {"format": "1"})
    found, metadata = weights.read_safetensors(tmp_path / "a.safetensors")
    assert metadata == {"format": "1"}
    assert torch.equal(found["w"], state["w"].half().float()) and found["w"].dtype == torch.float32
    assert torch.equal(found["n"], state["n"]) and found["n"].dtype == torch.int64
    assert found["scale"].shape == ()
    assert entry["parameters"] == 14 and entry["bytes"] == (tmp_path / "a.safetensors").stat().st_size
    assert entry["sha256"] == weights.sha256(tmp_path / "a.safetensors")
    weights.write_safetensors(tmp_path / "b.safetensors", state, {"format": "1"})
    assert weights.sha256(tmp_path / "b.safetensors") == entry["sha256"]


def test_a_truncated_or_missing_safetensors_file_is_refused(folder):
    file = folder / "net.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    for path in (file, folder / "none.safetensors"):
        with pytest.raises(WeightsError, match=path.name) as caught:
            weights.read_state(path)
        assert "\n" not in str(caught.value)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        import os

        return os.mkdir, (self.folder,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "zip, beside a tensor", "pickle", "legacy"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, form):
    path, trap = tmp_path / "evil.pth", tmp_path / "trap"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Evil(trap)))
    else:
        content = {"w": torch.zeros(2), "x": Evil(trap)} if "tensor" in form else Evil(trap)
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(WeightsError, match="convert it to safetensors"):
        weights.read_state(path)
    assert not trap.exists()
    if form != "legacy":  # the trap does work
        torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
        assert trap.exists()


BROKEN = (b"\x80\x02.", b"\x80\x02h\x01.", b"\x80\x02G\x00", b"\x80\x02Q.")
"""Pickles that end in the middle of what they say: each makes another exception."""


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 half a zip", bytes(range(256)), b"\x80\x02}q\x00.", *BROKEN])
def test_a_file_that_is_no_state_dict_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "noise.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"noise\.pth") as caught:
        weights.read_state(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"w": 3}, {"epoch": 3, "net": {"w": torch.zeros(1)}}, torch.zeros(2)])
def test_anything_but_one_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="something else"):
        weights.read_state(tmp_path / "other.pth")


@pytest.mark.parametrize("kind", ["sparse", "quantised", "meta"])
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_dense_plain_numbers_are_refused(tmp_path, kind):
    made = {
        "sparse": lambda: torch.eye(2).to_sparse(),
        "quantised": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "meta": lambda: torch.ones(2, device="meta"),
    }
    torch.save({"fine": torch.ones(1), "odd": made[kind]()}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth: .*(plain numbers: odd|plain tensors)"):
        weights.read_state(tmp_path / "odd.pth")


def test_a_missing_state_dict_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth"):
        weights.read_state(tmp_path / "none.pth")


@pytest.mark.parametrize("wrappers", [(), ("params_ema",), ("params",), ("state_dict",), ("model",)])
def test_plain_tensors_are_read_through_the_usual_wrappers(tmp_path, wrappers):
    content = {"module.a.weight": torch.ones(2, dtype=torch.float16), "module.count": torch.tensor(3)}
    for wrapper in reversed(wrappers):
        content = {wrapper: content}
    torch.save(content, tmp_path / "public.pth")
    state = weights.read_state(tmp_path / "public.pth")
    assert list(state) == ["a.weight", "count"]
    assert state["a.weight"].dtype == torch.float32 and state["count"].dtype == torch.int64


def test_averaged_weights_are_preferred(tmp_path):
    torch.save({"params": {"w": torch.zeros(1)}, "params_ema": {"w": torch.ones(1)}}, tmp_path / "both.pth")
    assert weights.read_state(tmp_path / "both.pth")["w"].item() == 1


def test_a_part_takes_its_own_entries(folder):
    net = Net()
    weights.load_part(net, "net", "net")
    assert torch.equal(net.a.weight, weights.load_embedded("net")[0]["net.a.weight"])
    assert net.count.item() == 70_001
    with pytest.raises(WeightsError, match=r"net\.safetensors: does not fit Net: lacks a\.bias \(5 entries differ\)"):
        weights.load_part(Net(), "net", "ne")


def test_the_first_entry_that_does_not_fit_is_named():
    good = Net().state_dict()
    before = {k: v.clone() for k, v in good.items()}
    net = Net()
    for state, message in (
        ({k: v for k, v in good.items() if not k.startswith("b")}, r"lacks b\.bias \(2 entries differ\)"),
        ({**good, "z.weight": torch.zeros(1), "c": torch.zeros(1)}, r"unknown c \(2 entries differ\)"),
        ({**good, "b.weight": torch.zeros(2, 3)}, r"b\.weight has shape \(2, 3\), expected \(1, 3\) \(1 entries differ\)"),
    ):
        with pytest.raises(WeightsError, match=rf"file\.pth: does not fit Net: .*{message}"):
            weights.fit(net, state, "file.pth")
    weights.fit(net, good, "file.pth")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
