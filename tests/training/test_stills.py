"""Degradation, data and the loop: seeded, resumable, and able to learn."""

import io
import os
import signal
import sys
import tarfile
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from videoclr.errors import ConfigError, WeightsError
from videoclr.models.recognizer import face_input
from videoclr.models.weights import read_checkpoint
from videoclr.training.data import PAIRED, FacePairs, Others, as_tensor, batches, load_faces, pack_faces
from videoclr.training.degrade import LEVELS, degrade, degraded_name_seed
from videoclr.training.loop import Loop, load_ema, part_of
from videoclr.training.losses import adaptive_weight, arcface, gradient_l1, hinge_discriminator


def drawn_face(seed, side=64):
    rng = np.random.default_rng(seed)
    picture = np.full((side, side, 3), rng.integers(30, 220, 3), np.uint8)
    cv2.ellipse(
        picture,
        (side // 2, side // 2),
        (side // 3, side * 2 // 5),
        0,
        0,
        360,
        tuple(int(c) for c in rng.integers(30, 220, 3)),
        -1,
    )
    for x in (0.38, 0.62):
        cv2.circle(picture, (int(x * side), int(0.47 * side)), side // 16, (20, 20, 20), -1)
    return picture


@pytest.fixture
def faces():
    return np.stack([drawn_face(i) for i in range(4)])


@pytest.mark.parametrize("level", LEVELS)
def test_degradation_is_a_function_of_its_seed(level, faces):
    first, again, other = (degrade(faces[0], level, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.shape == faces[0].shape and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_heavy_is_worse_than_mild(faces):
    error = {
        level: np.mean([(degrade(f, level, np.random.default_rng(s)).astype(float) - f) ** 2 for f in faces for s in range(8)])
        for level in LEVELS
    }
    assert error["heavy"] > error["mild"] > 0


def test_degradation_keeps_red_red():
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    mean = np.mean([degrade(red, "mild", np.random.default_rng(s)).reshape(-1, 3).mean(0) for s in range(8)], 0)
    assert mean[0] > 180 and mean[2] < 30


def test_a_benchmark_seed_comes_from_the_name():
    assert degraded_name_seed("a.png") == degraded_name_seed("a.png") != degraded_name_seed("b.png")


def test_sample_number_n_is_the_same_whatever_came_before(faces):
    data = FacePairs(faces, seed=3, levels={"mild": 1.0}, warp=1.0)
    late = next(batches(FacePairs(faces, 3, {"mild": 1.0}, 1.0), 2, step=2, workers=0))
    assert torch.equal(late["degraded"][0], data[4]["degraded"])
    assert torch.equal(late["clean"][1], data[5]["clean"])


def test_a_reference_is_another_view_of_the_same_face_and_changes_nothing_else(faces):
    plain, more = (FacePairs(faces, 3, {"heavy": 1.0}, 0.2, posed=0.5, identities=one) for one in (None, torch.arange(4)))
    near = []
    for number in range(8):
        without, sample = plain[number], more[number]
        assert "reference" not in without and all(torch.equal(without[k], sample[k]) for k in ("clean", "degraded"))
        assert torch.equal(sample["reference"], more[number]["reference"])
        others = [as_tensor(face[:, ::-1] if sample["mirrored"] else face) for face in faces]
        apart = torch.stack([(sample["reference"] - other).abs().mean() for other in others])
        assert float(apart.min()) > 0.01
        near.append(int(apart.argmin()) == sample["face"])
    assert sum(near) >= 7


def test_of_people_with_several_pictures_another_one_is_often_the_reference(faces):
    identities = torch.tensor([0, 1, 0, 0])
    chosen = [Others(identities).pair(np.random.default_rng(seed)) for seed in range(400)]
    pairs = [one for one in chosen if one is not None]
    assert len(pairs) / 400 == pytest.approx(PAIRED, abs=0.06)
    assert {one[0] for one in pairs} == {one[1] for one in pairs} == {0, 2, 3} and all(a != b for a, b in pairs)
    assert Others(torch.arange(4)).pair(np.random.default_rng(0)) is None
    data = FacePairs(faces, 3, {"mild": 1.0}, identities=identities)
    others = 0
    for number in range(40):
        sample = data[number]
        near = int(torch.stack([(sample["reference"] - as_tensor(face)).abs().mean() for face in faces]).argmin())
        others += near != sample["face"]
        assert near == sample["face"] or 1 not in (near, sample["face"])
    assert 0.15 < others / 40 < 0.6
    blended = FacePairs(faces, 3, {"mild": 1.0}, blended=1.0, identities=identities)
    whole = sum(not blended[number]["blended"] for number in range(40))
    assert abs(whole - others) <= 4  # nobody is blended who comes with another picture


def test_without_levels_the_degraded_crop_is_the_clean_one(faces):
    sample = FacePairs(faces, 0, {})[11]
    assert torch.equal(sample["clean"], sample["degraded"])


def test_faces_are_read_in_the_order_of_their_names(tmp_path, faces):
    for number, face in enumerate(faces):
        cv2.imwrite(str(tmp_path / f"{3 - number}.png"), face[:, :, ::-1])
    names, found = load_faces(tmp_path, 64)
    assert names == ["0.png", "1.png", "2.png", "3.png"]
    assert np.array_equal(found[3], faces[0])
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures"):
        load_faces(tmp_path / "none", 64)


def test_shards_and_packed_faces_are_read_as_the_folder_is(tmp_path, faces):
    folder, shards = tmp_path / "folder", tmp_path / "shards"
    folder.mkdir()
    shards.mkdir()
    for number, face in enumerate(faces):
        cv2.imwrite(str(folder / f"{number}.png"), face[:, :, ::-1])
    for number in (1, 0):
        with tarfile.open(shards / f"faces-{number}.tar", "w") as tar:
            for member in (2 * number + 1, 2 * number):
                tar.add(folder / f"{member}.png", f"{member}.png")
                tar.addfile(tarfile.TarInfo(f"{member}.json"), io.BytesIO())
    names, found = load_faces(folder, 32)
    again = load_faces(shards, 32)
    assert again[0] == names and np.array_equal(again[1], found)
    pack_faces(names, found, tmp_path / "faces.npy")
    for size in (32, 16):
        again = load_faces(tmp_path / "faces.npy", size)
        assert again[0] == names and again[1].shape == (4, size, size, 3)
    assert np.array_equal(load_faces(tmp_path / "faces.npy", 32)[1], found)
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    with pytest.raises(FileNotFoundError, match=r"bad.tar: not a readable tar"):
        load_faces(tmp_path / "bad.tar", 32)


def test_processes_that_train_together_share_the_samples_out(monkeypatch, faces):
    data = FacePairs(faces, 3, {})
    seen = []
    for rank in range(2):
        monkeypatch.setattr("videoclr.training.data.processes", lambda rank=rank: (rank, 2))
        stream = batches(data, 2, step=1, workers=0)
        seen += [next(stream)["clean"] for _ in range(2)]
    for batch, first in zip(seen, (4, 8, 6, 10), strict=True):
        assert torch.equal(batch, torch.stack([data[first]["clean"], data[first + 1]["clean"]]))


def test_a_face_is_cut_exactly_under_autocast(faces):
    crops = torch.stack([as_tensor(f) for f in faces])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = face_input(crops)
    assert torch.equal(found, face_input(crops))


def test_losses_on_cases_with_known_answers():
    a = torch.zeros(1, 1, 4, 4)
    assert gradient_l1(a, a + 3).item() == 0
    assert hinge_discriminator(torch.full((2,), 2.0), torch.full((2,), -2.0)).item() == 0
    assert hinge_discriminator(torch.zeros(2), torch.zeros(2)).item() == 2
    centres = torch.eye(3)
    right, wrong = arcface(centres, centres, torch.arange(3)), arcface(centres, centres, torch.tensor([1, 2, 0]))
    assert right < 1e-3 < wrong
    weight = nn.Parameter(torch.ones(3))
    assert adaptive_weight((2 * weight).sum(), (4 * weight).sum(), weight).item() == pytest.approx(0.5, rel=1e-3)


def toy(out, steps):
    torch.manual_seed(0)
    torch.manual_seed(0)
    modules = nn.ModuleDict({"net": nn.Linear(4, 4)})
    loop = Loop(out, modules, minutes=10, steps=steps, learning_rate=0.01, bf16=False, floor=1.0)
    nn.Linear(4, 4)  # a network of a loss, which begins with random weights
    for step in loop.steps():
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)) + torch.rand(8, 4)
        loop.update((modules["net"](x) - 2 * x).pow(2).mean(), {})
    return modules["net"].state_dict()


def test_a_stopped_training_goes_on_identically(tmp_path):
    whole = toy(tmp_path / "whole", 150)
    toy(tmp_path / "halves", 110)
    halves = toy(tmp_path / "halves", 150)
    assert all(torch.equal(whole[k], halves[k]) for k in whole)
    first, second = (load_ema(tmp_path / d / "checkpoint.pt") for d in ("whole", "halves"))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_training_from_unpacked_weights_that_was_stopped_goes_on_identically(tmp_path):
    for name in ("whole", "halves"):
        net = nn.ModuleDict({"net": nn.Linear(4, 4)}).state_dict()
        state = {k: torch.zeros_like(v) for k, v in net.items()}
        (tmp_path / name).mkdir()
        torch.save({"modules": state, "ema": state, "step": 1000, "spent": 0.0}, tmp_path / name / "checkpoint.pt")
    whole = toy(tmp_path / "whole", 1020)  # within the warm-up
    toy(tmp_path / "halves", 1010)
    halves = toy(tmp_path / "halves", 1020)
    assert all(torch.equal(whole[k], halves[k]) for k in whole)
    assert torch.load(tmp_path / "halves/checkpoint.pt", weights_only=True)["first"] == 1000


def test_a_checkpoint_older_than_an_entry_of_state_is_gone_on_with_and_no_other(tmp_path):
    toy(tmp_path, 2)
    found = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del found["first"]
    torch.save(found, tmp_path / "checkpoint.pt")

    def loop(name):
        modules = nn.ModuleDict({"net": nn.Linear(4, 4), name: nn.Module()})
        modules[name].register_buffer("weight", torch.ones(()))
        return Loop(tmp_path, modules, minutes=10, bf16=False)

    later = loop("state")
    assert (later.step, later.first, later.modules["state"].weight.item()) == (2, 0, 1)
    assert torch.equal(later.modules["net"].weight, found["modules"]["net.weight"])
    with pytest.raises(WeightsError, match=r"checkpoint\.pt: does not fit ModuleDict: lacks other\.weight"):
        loop("other")


def test_what_earlier_calls_used_counts_and_a_stop_is_remembered(tmp_path):
    def loop(**settings):
        return Loop(tmp_path, nn.ModuleDict({"net": nn.Linear(2, 2)}), minutes=10, bf16=False, **settings)

    with pytest.raises(ConfigError, match="no step fitted into 10 minutes, and nothing is written; give more --minutes"):
        list(loop(used=10).steps())
    assert not list(tmp_path.iterdir())
    late = loop(used=7.5)
    steps = late.steps()
    assert next(steps) == 0 and late.done == pytest.approx(0.75, abs=0.01)
    late.update(late.modules["net"].weight.sum(), {})
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        next(steps)
    assert caught.value.code == 128 + signal.SIGTERM
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 1
    assert "loss" in torch.load(tmp_path / "checkpoint.pt", weights_only=True)["means"]
    assert not list(loop(used=10).steps())  # what was trained before is there


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch, error):
    toy(tmp_path, 2)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(state, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt: cannot be written \((No space left on device|unexpected pos)"):
        toy(tmp_path, 4)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not (tmp_path / "checkpoint.pt.part").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_draws_no_random_numbers_from_torch(workers, faces):
    before = torch.get_rng_state()
    loaded = batches(FacePairs(faces, 0, {"mild": 1.0}), 2, 0, workers)
    next(loaded)
    loaded.close()
    assert torch.equal(torch.get_rng_state(), before)


def test_without_tensorboard_training_goes_on_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    loop = Loop(tmp_path, nn.ModuleDict({"net": nn.Linear(2, 2)}), minutes=1, steps=1, bf16=False)
    for _ in loop.steps():
        loop.update(loop.modules["net"].weight.sum(), {})
        loop.picture("drawn", torch.zeros(1, 3, 2, 2))
    assert "tensorboard is not installed" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_the_averaged_weights_have_forgotten_the_random_start(tmp_path):
    toy(tmp_path, 400)
    weight = part_of(load_ema(tmp_path / "checkpoint.pt"), "net")["weight"]
    assert torch.allclose(weight, 2 * torch.eye(4), atol=0.1)


def test_a_loss_that_is_not_finite_changes_nothing(tmp_path):
    modules = nn.ModuleDict({"net": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))})
    loop = Loop(tmp_path, modules, minutes=1, steps=1, bf16=False)
    before = modules["net"][0].weight.detach().clone()
    for value in (float("nan"), 1.0):
        loop.update(modules["net"](torch.tensor([[value, 0.0], [1.0, 0.0]])).sum(), {})
        if value != 1:
            assert torch.equal(modules["net"][0].weight, before)
    for state in (modules.state_dict(), loop.ema.module.state_dict()):
        assert all(torch.isfinite(values).all() for values in state.values())


def test_processes_send_equally_many_numbers_whichever_parameters_the_losses_leave_out(tmp_path, monkeypatch):
    net = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("both", "one", "nobody")})
    loop = Loop(tmp_path, net, minutes=1, steps=1, bf16=False)
    loop.accelerator = SimpleNamespace(num_processes=2)
    sent = []

    # The other process sends zeros: it used nothing.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda message: sent.append(message.numel()))
    for used in (["both"], ["both", "one"]):
        net.zero_grad()
        loss = sum(net[name](torch.ones(1, 2)).sum() for name in used)
        loss.backward()
        loop._average_gradients(loss.detach().clone())
        assert [name for name in net if net[name].weight.grad is not None] == used
    assert sent[0] == sent[1]
    assert torch.equal(net["one"].weight.grad, torch.full((2, 2), 0.5))


def test_a_checkpoint_is_read_on_the_processor_for_adam_leaves_its_counters_there(tmp_path, monkeypatch):
    toy(tmp_path, 2)
    devices = []

    def read(path, device="cpu"):
        devices.append(torch.device(device).type)
        return read_checkpoint(path, device)

    monkeypatch.setattr("videoclr.training.loop.read_checkpoint", read)
    loop = Loop(tmp_path, nn.ModuleDict({"net": nn.Linear(4, 4)}), minutes=10, bf16=False)
    loop.device = torch.device("meta")  # stands for a GPU
    loop._resume()
    assert devices == ["cpu", "cpu"]


def test_as_tensor_maps_black_and_white_to_minus_one_and_one():
    picture = np.zeros((1, 2, 3), np.uint8)
    picture[0, 1] = 255
    assert as_tensor(picture).flatten(1)[0].tolist() == [-1, 1]
