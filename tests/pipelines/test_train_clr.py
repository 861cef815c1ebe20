"""The restorer's training programs, from drawn faces to the files that ship: each stage feeds the next."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from videoclr.models import weights
from videoclr.parts.clr import FILES, OPTIONAL, ClrNetworks
from videoclr.training.loop import Loop, load_ema, part_of
from videoclr.training.losses import Perceptual, TeacherRecognizer

ROOT = Path(__file__).resolve().parents[2]
FULL, TINY = ROOT / "configs/train", ROOT / "configs/train/tiny"
STEPS = 3
LEARNING = {
    "recognizer": {"recognizer", "centres"},
    "vqgan": {"vqgan", "discriminator", "state"},
    "irn": {"irn"},
    "reference": {"reference"},
    "denoiser": {"encoder", "denoiser"},
    "fusion": {"fusion", "discriminator", "state"},
    "start": {"start"},
    "mask": {"mask"},
    "student": {"student", "discriminator"},
    "closeup": {"closeup", "discriminator"},
    "shares": {"shares"},
}
"""Run -> what learns in it."""


def program(name):
    """The module of a program in `pipelines/`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "pipelines" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *arguments):
    """A program's `main`, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *(str(a) for a in arguments)])
        program(name).main()


def random_file(network, path):
    """A file of random weights for a loss network, which knows no other way to be made than from a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("videoclr.training.losses.read_state", lambda path: {})
        patch.setattr("videoclr.training.losses.fit", lambda module, state, path: None)
        state = network(path).state_dict()
    torch.save({k: v for k, v in state.items() if k not in ("mean", "std")}, path)
    return path


def loaded(checkpoint):
    """What a checkpoint holds; of hundreds of megabytes, what is looked at is read."""
    return torch.load(checkpoint, weights_only=True, mmap=True)


def draw_faces(folder):
    """Four portraits, cut as the data set is."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        picture = np.full((64, 64, 3), rng.integers(30, 220, 3), np.uint8)
        cv2.ellipse(picture, (32, 32), (21, 26), 0, 0, 360, tuple(int(c) for c in rng.integers(30, 220, 3)), -1)
        for x in (24, 40):
            cv2.circle(picture, (x, 30), 4, (20, 20, 20), -1)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


class Chain:
    """The folder of the runs, what they were given, and how each of them began."""

    def __init__(self, folder):
        self.runs = folder / "runs"
        self.faces = draw_faces(folder / "faces")
        self.large = folder / "large"  # with one that is too small
        shutil.copytree(self.faces, self.large)
        for path in sorted(self.large.iterdir())[1:]:
            cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (128, 128)))
        self.identities = folder / "identities.tsv"
        self.identities.write_text("file\tidentity\n0.png\tanna\n1.png\tanna\n2.png\tbert\n")
        self.perceptual = random_file(Perceptual, folder / "squeezenet.pth")
        self.teacher = random_file(TeacherRecognizer, folder / "mobilefacenet.pt")
        self.starts = {}

    def checkpoint(self, name):
        return self.runs / name / "checkpoint.pt"

    def train(self, config, *stage, out=None, steps=STEPS, faces=None, **files):
        """`files`: option -> a path, or the name of an earlier run."""
        given = [a for k, v in files.items() for a in (f"--{k}", v if isinstance(v, Path) else self.checkpoint(v))]
        program, config_run = ("distill_one_step", "student") if config == "one_step" else (f"train_{config}", config)
        out = out or self.runs / (stage[0].removesuffix("_last") if stage else config_run)
        common = [
            "--faces",
            faces or self.faces,
            "--config",
            TINY / f"{config}.yaml",
            "--out",
            out,
            "--steps",
            steps,
            "--minutes",
            5,
        ]
        run(program, *stage, *common, *given)
        return out / "checkpoint.pt"


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Every stage once, in order, with every optional file where only one run of it is made."""
    folder = tmp_path_factory.mktemp("chain")
    made = Chain(folder)
    resume = Loop._resume

    def remember(loop):
        made.starts.setdefault(loop.out.name, {k: v.clone() for k, v in loop.modules.state_dict().items()})
        resume(loop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_resume", remember)
        made.train("identity", "recognizer", teacher=made.teacher, identities=made.identities)
        made.train("vqgan", perceptual=made.perceptual)
        made.train("identity", "irn", steps=STEPS - 1, recognizer="recognizer")
        made.train("identity", "irn_last", perceptual=made.perceptual, teacher=made.teacher)
        made.train("identity", "reference", perceptual=made.perceptual, teacher=made.teacher, irn="irn")
        made.train("denoiser", "denoiser", vqgan="vqgan", irn="irn")
        before = {"vqgan": "vqgan", "irn": "irn", "denoiser": "denoiser", "recognizer": "recognizer"}
        made.train("denoiser", "fusion", perceptual=made.perceptual, **before)
        made.train("denoiser", "start", vqgan="vqgan", irn="irn", denoiser="denoiser")
        made.train("identity", "mask", perceptual=made.perceptual, teacher=made.teacher, **before)
        made.train("one_step", perceptual=made.perceptual, runs=made.runs)
        made.train("closeup", perceptual=made.perceptual, runs=made.runs, faces=made.large)
        made.train("shares", perceptual=made.perceptual, runs=made.runs, faces=made.large)
    yield made
    shutil.rmtree(folder)  # hundreds of megabytes that pytest would keep


@pytest.mark.parametrize("name", LEARNING)
def test_every_stage_ends_at_its_last_step_and_every_network_of_it_learned(chain, name):
    checkpoint = loaded(chain.checkpoint(name))
    assert checkpoint["step"] == STEPS
    start, last, averaged = chain.starts[name], checkpoint["modules"], checkpoint["ema"]
    assert {k.split(".")[0] for k in last} == LEARNING[name]
    assert all(torch.isfinite(v).all() for v in (last | averaged).values() if v.is_floating_point())
    for part in LEARNING[name]:
        for state in (last, averaged):
            assert any(not torch.equal(state[k], start[k]) for k in start if k.startswith(part + ".")), part


def differing(first, second, where=""):
    """Paths at which two checkpoints differ."""
    if isinstance(first, dict):
        missing = [f"{where}/{k}" for k in first.keys() ^ second.keys()]
        return missing + [x for k in first.keys() & second.keys() for x in differing(first[k], second[k], f"{where}/{k}")]
    if isinstance(first, list):
        return [x for i, pair in enumerate(zip(first, second, strict=True)) for x in differing(*pair, f"{where}/{i}")]
    return [] if (torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second) else [where]


@pytest.mark.parametrize("name", ["vqgan", pytest.param("fusion", marks=pytest.mark.slow)])
def test_a_training_that_was_stopped_goes_on_to_the_same_checkpoint(chain, name, tmp_path, monkeypatch):
    update, last = Loop.update, 0 if name == "vqgan" else 1  # in its step 1 the codebook begins

    def stop(loop, *given):
        update(loop, *given)
        if loop.step == last:
            os.kill(os.getpid(), signal.SIGTERM)

    files = {"perceptual": chain.perceptual}
    stage = ["vqgan"] if name == "vqgan" else ["denoiser", "fusion"]
    files |= {n: n for n in ("vqgan", "irn", "denoiser", "recognizer")} if name == "fusion" else {}
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Loop, "update", stop)
        chain.train(*stage, out=tmp_path, **files)
    assert loaded(tmp_path / "checkpoint.pt")["step"] == last + 1
    again, whole = loaded(chain.train(*stage, out=tmp_path, **files)), loaded(chain.checkpoint(name))
    assert not [place for place in differing(again, whole) if place != "/spent"]
    assert name == "vqgan" or whole["modules"]["state.weight"] > 0  # what is no network was kept too


def test_the_codebook_begins_at_the_latents_in_both_copies(chain):
    checkpoint = loaded(chain.checkpoint("vqgan"))
    for state in (checkpoint["modules"], checkpoint["ema"]):
        assert state["state.clustered"]
        # Random codes have unit size; the latents of a network that learned three steps are far smaller.
        assert state["vqgan.codebook.codes"].std() < 0.5 * chain.starts["vqgan"]["vqgan.codebook.codes"].std()


def test_the_restorer_takes_each_network_from_the_run_that_trained_it_last(chain):
    networks = ClrNetworks.of_runs(chain.runs)
    averaged = {name: load_ema(chain.checkpoint(name)) for name in LEARNING}
    for found, run_name, inside in (
        (networks.decoder.fusion, "fusion", "fusion"),
        (networks.condition, "denoiser", "encoder"),
        (networks.encoder, "vqgan", "vqgan.encoder"),
        (networks.irn, "irn", "irn"),
        (networks.reference, "reference", "reference"),
        (networks.recognizer, "recognizer", "recognizer"),
        (networks.mask, "mask", "mask"),
        (networks.student, "student", "student"),
        (networks.start, "start", "start"),
        (networks.closeup, "closeup", "closeup"),
        (networks.shares, "shares", "shares"),
    ):
        wanted = part_of(averaged[run_name], inside)
        assert all(torch.equal(v, wanted[k]) for k, v in found.state_dict().items())
    assert not torch.equal(networks.condition.head.weight, networks.encoder.head.weight)
    assert not networks.training and not any(p.requires_grad for p in networks.parameters())


def test_what_is_exported_verifies_and_is_what_was_trained(chain, tmp_path, monkeypatch):
    figures = {"mild": {"irn": {"psnr": 12.5, "ids": 0.25}, "full": {"psnr": 99.0}}}
    (tmp_path / "table.json").write_text(json.dumps(figures))
    groups = {"mild, glasses": {"input": {"n": 7, "psnr": 20.25}, "irn": {"n": 7, "psnr": 23.75}}}
    (tmp_path / "groups.json").write_text(json.dumps(groups))
    out, notes = tmp_path / "weights", ["--notes", FULL / "cards.yaml"]
    run(
        "export_weights",
        "--runs",
        chain.runs,
        *notes,
        "--figures",
        tmp_path / "table.json",
        "--out",
        out,
        "--groups",
        tmp_path / "groups.json",
    )
    entries = json.loads((out / "MANIFEST.json").read_text())
    assert set(entries) == set(FILES)
    for name, entry in entries.items():
        file, card = out / f"{name}.safetensors", (out / f"{name}.md").read_text()
        assert (weights.sha256(file), file.stat().st_size) == (entry["sha256"], entry["bytes"])
        assert entry["sha256"] in card and f"{STEPS} steps" in card and entry["licence"] in card
    card = (out / "irn.md").read_text()
    assert "| mild, glasses | 7 | irn | 20.25 to 23.75 |" in card and "By group" not in (out / "vqgan.md").read_text()
    assert "12.5" in card and "99.0" not in card  # its own rows only, and a judge need not give every figure
    monkeypatch.setattr(weights, "FOLDER", out)
    monkeypatch.setattr(weights, "_load_embedded", cache(weights._load_embedded.__wrapped__))
    assert set(weights.verify().values()) == {"ok"}
    trained = ClrNetworks.of_runs(chain.runs).state_dict()
    for key, found in ClrNetworks.embedded().state_dict().items():
        wanted = trained[key].half().float() if found.is_floating_point() else trained[key]
        assert torch.equal(found, wanted), key


@pytest.mark.slow
def test_training_goes_on_from_what_was_exported(chain, tmp_path, monkeypatch):
    out = tmp_path / "weights"
    run("export_weights", "--runs", chain.runs, "--notes", FULL / "cards.yaml", "--out", out)
    monkeypatch.setattr(weights, "FOLDER", out)
    monkeypatch.setattr(weights, "_load_embedded", cache(weights._load_embedded.__wrapped__))
    program("unpack_weights").main(["--out", str(tmp_path / "runs")])
    for name in LEARNING:
        first, again = (load_ema(runs / name / "checkpoint.pt") for runs in (chain.runs, tmp_path / "runs"))
        assert again.keys() <= first.keys()
        merged = "decoder.fusion." if name == "vqgan" else "nothing"  # the decoder ships with the fusion that was trained last
        assert all(torch.equal(v, first[k].half().to(v.dtype)) for k, v in again.items() if merged not in k)
    before = {"perceptual": chain.perceptual, "teacher": chain.teacher}
    more = loaded(chain.train("identity", "irn_last", out=tmp_path / "runs/irn", steps=STEPS + 1, **before))
    assert (more["step"], more["averaged"].item()) == (STEPS + 1, 1)
    assert more["modules"].keys() == load_ema(chain.checkpoint("irn")).keys()
    with pytest.raises(SystemExit, match="exists"):
        program("unpack_weights").main(["--out", str(tmp_path / "runs")])


def test_an_export_that_lacks_a_checkpoint_writes_nothing(chain, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mask").symlink_to(chain.runs / "mask")
    arguments = ["--runs", tmp_path / "runs", "--notes", FULL / "cards.yaml", "--out", tmp_path / "weights"]
    with pytest.raises(SystemExit, match="no checkpoint for irn"):
        run("export_weights", *arguments, "--only", "mask,irn")
    assert not list((tmp_path / "weights").iterdir())


def test_notes_that_lack_a_text_are_refused_before_anything_is_written(chain, tmp_path):
    notes = yaml.safe_load((FULL / "cards.yaml").read_text())
    del notes["hardware"], notes["mask"]["losses"]
    (tmp_path / "notes.yaml").write_text(yaml.safe_dump(notes))
    arguments = ["--runs", chain.runs, "--notes", tmp_path / "notes.yaml", "--out", tmp_path / "weights", "--only", "mask"]
    with pytest.raises(SystemExit, match=r"notes\.yaml: lacks hardware, mask\.losses$"):
        run("export_weights", *arguments)
    assert not (tmp_path / "weights").exists()


def test_whatever_fails_after_a_file_was_written_the_manifest_names_it(chain, tmp_path, monkeypatch):
    export, out = program("export_weights"), tmp_path / "weights"
    monkeypatch.setattr(export, "card", lambda *_: 1 / 0)
    arguments = ["--runs", chain.runs, "--notes", FULL / "cards.yaml", "--out", out, "--only", "mask"]
    monkeypatch.setattr(sys, "argv", ["export_weights.py", *map(str, arguments)])
    with pytest.raises(ZeroDivisionError):
        export.main()
    assert json.loads((out / "MANIFEST.json").read_text())["mask"]["sha256"] == weights.sha256(out / "mask.safetensors")


def test_a_group_without_the_row_of_the_input_is_shown_as_far_as_it_goes():
    lines = program("export_weights").by_group(
        {"mild, beard": {"full": {"n": 3, "psnr": 24.5}}, "mild, hat": {"nlm": {}}}, ["full"]
    )
    assert lines[-1] == "| mild, beard | 3 | full |  to 24.5 |  to  |  to  |"


@pytest.mark.slow
def test_files_that_only_add_a_loss_may_be_left_out(chain, tmp_path):
    before = {"vqgan": "vqgan", "irn": "irn", "denoiser": "denoiser"}
    assert loaded(chain.train("identity", "recognizer", out=tmp_path / "recognizer", steps=1))["step"] == 1
    assert loaded(chain.train("denoiser", "fusion", out=tmp_path / "fusion", steps=1, **before))["step"] == 1
    mask = chain.train("identity", "mask", out=tmp_path / "mask", steps=1, recognizer="recognizer", **before)
    assert loaded(mask)["step"] == 1
    shutil.rmtree(tmp_path)


def test_a_student_begins_as_its_teacher(chain):
    teacher = part_of(load_ema(chain.checkpoint("denoiser")), "denoiser")
    assert all(torch.equal(chain.starts["student"][f"student.{k}"], v) for k, v in teacher.items())


def test_without_what_is_optional_the_rest_is_exported_and_used(chain, tmp_path, monkeypatch):
    runs, out = tmp_path / "runs", tmp_path / "weights"
    runs.mkdir()
    for name in LEARNING.keys() - OPTIONAL:
        (runs / name).symlink_to(chain.runs / name)
    run("export_weights", "--runs", runs, "--notes", FULL / "cards.yaml", "--out", out)
    assert set(json.loads((out / "MANIFEST.json").read_text())) == set(FILES) - OPTIONAL
    monkeypatch.setattr(weights, "FOLDER", out)
    monkeypatch.setattr(weights, "_load_embedded", cache(weights._load_embedded.__wrapped__))
    for networks in (ClrNetworks.embedded(), ClrNetworks.of_runs(runs)):
        assert all(getattr(networks, name) is None for name in OPTIONAL)


@pytest.mark.parametrize(
    ("name", "arguments", "lacking"),
    [
        ("train_identity", ["mask", "--recognizer", "r.pt", "--irn", "i.pt"], "--vqgan, --denoiser"),
        ("train_identity", ["reference"], "--irn"),
        ("train_denoiser", ["fusion", "--vqgan", "v.pt", "--irn", "i.pt"], "--denoiser"),
        ("distill_one_step", ["--runs", "nowhere"], "vqgan, irn, denoiser, mask, recognizer"),
    ],
)
def test_a_stage_names_the_checkpoints_that_it_lacks(name, arguments, lacking, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run(name, *arguments, "--faces", tmp_path, "--out", tmp_path / "run")
    assert caught.value.code == 2
    assert lacking in capsys.readouterr().err.splitlines()[-1]


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    settings = yaml.safe_load((TINY / "vqgan.yaml").read_text())
    settings["loop"]["floor"] = 1.0  # else the rate falls to its end at the stop
    (tmp_path / "vqgan.yaml").write_text(yaml.safe_dump(settings))
    faces = draw_faces(tmp_path / "faces")
    arguments = ["--faces", faces, "--config", tmp_path / "vqgan.yaml", "--minutes", 5]
    run("train_vqgan", *arguments, "--out", tmp_path / "whole", "--steps", 4)
    run("train_vqgan", *arguments, "--out", tmp_path / "halves", "--steps", 2)
    run("train_vqgan", *arguments, "--out", tmp_path / "halves", "--steps", 4)
    whole, halves = (loaded(tmp_path / d / "checkpoint.pt") for d in ("whole", "halves"))
    assert whole["step"] == halves["step"] == 4
    for part in ("modules", "ema"):
        assert all(torch.equal(whole[part][k], halves[part][k]) for k in whole[part])
    shutil.rmtree(tmp_path / "whole")
    shutil.rmtree(tmp_path / "halves")


@pytest.mark.slow
def test_a_student_from_unpacked_weights_meets_its_discriminator_as_late_as_a_new_one(chain, tmp_path):
    begun = torch.load(chain.checkpoint("student"), weights_only=True)
    ended = []
    for share in (0.1, 5.0):
        settings = {**yaml.safe_load((TINY / "one_step.yaml").read_text()), "adversarial": share, "adversarial_after": 1}
        (tmp_path / "one_step.yaml").write_text(yaml.safe_dump(settings))
        out = tmp_path / f"{share}"
        out.mkdir()
        torch.save({k: begun[k] for k in ("modules", "ema", "step", "spent")}, out / "checkpoint.pt")
        arguments = ["--faces", chain.faces, "--config", tmp_path / "one_step.yaml", "--runs", chain.runs, "--minutes", 5]
        run("distill_one_step", *arguments, "--out", out, "--steps", STEPS + 1)
        ended.append(torch.load(out / "checkpoint.pt", weights_only=True)["modules"])
    assert all(torch.equal(ended[0][k], ended[1][k]) for k in ended[0])
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", ["identity", "temporal", "vqgan", "denoiser", "one_step", "closeup", "shares"])
def test_the_tiny_settings_have_the_keys_of_the_full_ones(name):
    def keys(values, path=""):
        if not isinstance(values, dict):
            return {path}
        return {key for k, v in values.items() for key in keys(v, f"{path}.{k}")}

    full, tiny = (keys(yaml.safe_load((folder / f"{name}.yaml").read_text())) for folder in (FULL, TINY))
    assert full == tiny


def test_crops_of_kept_pairs_lie_over_each_other_and_whole_faces_cost_as_much():
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    places = torch.stack([rows, columns])[None] + 100 * torch.arange(3.0)[:, None, None, None]
    kept = [places.repeat_interleave(4, 2).repeat_interleave(4, 3).half(), places.half(), places.half()]
    settings = {"batch": 8, "crop": 8}
    drawn = program("train_denoiser").drawn
    clean, z, features = drawn(kept, settings, False, torch.Generator().manual_seed(0))
    assert clean.shape == (8, 2, 32, 32) and z.shape == (8, 2, 8, 8)
    assert torch.equal(clean[..., ::4, ::4], z) and torch.equal(z, features)
    assert len({float(one[0, 0, 0]) for one in z}) > 3
    whole = drawn(kept, settings, True, torch.Generator().manual_seed(0))
    assert whole[0].shape == (2, 2, 64, 64) and torch.equal(whole[0][..., ::4, ::4], whole[1])
