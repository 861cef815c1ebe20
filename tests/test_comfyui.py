"""The node, called as ComfyUI calls one: `nodes.py` and `execution.py` there ask for these names."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from videoclr import comfyui
from videoclr.config import Config
from videoclr.errors import ConfigError, MediaError
from videoclr.pipeline import Pipeline
from videoclr.types import Frame

_spec = importlib.util.spec_from_file_location("discs", Path(__file__).with_name("discs.py"))
assert _spec is not None and _spec.loader is not None
_discs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_discs)
Discs = _discs.Discs
RED, GREEN = (0.9, 0.3, 0.2), (0.2, 0.9, 0.3)
WITHOUT = "gate.use=none\nblend.match_color=false\n\n# a remark\nalign.smoothing=0"


class Colors:
    """Embeds a face as its mean colour."""

    def embed(self, crops):
        return torch.nn.functional.normalize(crops[..., 24:40, 24:40].mean((2, 3)), dim=1)


class Brighter:
    size = 64

    def restore(self, crops, memory):
        return torch.stack([crop.image for crop in crops]) * 0.5 + 0.5


@pytest.fixture(autouse=True)
def pipelines(monkeypatch):
    """The configurations that the node asked pipelines for."""
    asked = []

    def make(config):
        asked.append(config)
        return Pipeline(config, detector=Discs(), recognizer=Colors(), restorer=Brighter())

    monkeypatch.setattr(comfyui, "Pipeline", make)
    return asked


def pictures(*places: tuple[tuple[int, int], tuple[float, float, float]], count: int = 4) -> torch.Tensor:
    """`(N, 120, 240, 3)` with discs of 22 px that move to the right; noise of no 8 bits around them."""
    images = 0.1 * np.random.default_rng(0).random((count, 120, 240, 3)).astype(np.float32)
    for number, image in enumerate(images):
        for (x, y), color in places:
            cv2.circle(image, (x + number, y), 22, color, -1)
    return torch.from_numpy(images)


def called(**given):
    """As ComfyUI calls it: inputs by name, the defaults where its user left them; the answer fits what is declared."""
    (node,) = comfyui.NODE_CLASS_MAPPINGS.values()
    assert comfyui.NODE_DISPLAY_NAME_MAPPINGS.keys() == comfyui.NODE_CLASS_MAPPINGS.keys()
    inputs = {**node.INPUT_TYPES()["required"], **node.INPUT_TYPES()["optional"]}
    values = {name: options["default"] for name, (kind, options) in inputs.items() if kind != "IMAGE" and "default" in options}
    answer = getattr(node(), node.FUNCTION)(**{**values, **given})
    assert isinstance(answer, tuple) and len(answer) == len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
    return answer


def test_faces_are_restored_and_everything_else_keeps_its_bits():
    images = pictures(((50, 60), RED))
    kept = images.clone()
    restored, mask = called(images=images, settings=WITHOUT)
    assert torch.equal(images, kept), "the input belongs to other nodes too"
    assert restored.shape == images.shape and restored.dtype == torch.float32
    assert mask.shape == images.shape[:3] and mask.dtype == torch.float32
    assert torch.equal(restored[mask == 0], images[mask == 0])
    assert mask[:, 60, 52].min() == 1 and mask[:, :, 200:].max() == 0
    assert (restored - images)[:, 60, 52].min() > 0.03
    config = Config().override(*(line for line in WITHOUT.splitlines() if line and line[0] != "#"))
    pipeline = Pipeline(config, detector=Discs(), recognizer=Colors(), restorer=Brighter())
    codes = np.rint(images.numpy() * 65535).astype(np.uint16)
    frames = pipeline.restore_frames(Frame.from_image(one, number) for number, one in enumerate(codes))
    for number, frame in enumerate(frames):
        assert np.abs(frame.image / 65535 - restored[number].numpy()).max() < 2e-5


def test_the_pictures_are_looked_through_first_where_that_is_set(monkeypatch):
    looked, look = [], Pipeline.look

    def spy(self, frames):
        looked.append(look(self, frames))
        return looked[-1]

    monkeypatch.setattr(Pipeline, "look", spy)
    images = pictures(((50, 60), RED))
    plain = called(images=images, settings=WITHOUT)
    assert not looked
    first = called(images=images, settings=f"{WITHOUT}\nidentify.look_first=true")
    assert len(looked) == 1 and len(looked[0].members) == 1
    assert torch.equal(plain[0], first[0]), "this restorer looks at nobody else"


def test_the_dials_and_lines_of_settings_are_those_of_the_configuration(pipelines):
    images = pictures()
    called(images=images, fidelity=0.25, strength=0.5, settings="restore.steps=7\r\n")
    (config,) = pipelines
    assert (config.restore.fidelity, config.blend.strength, config.restore.steps) == (0.25, 0.5, 7)
    with pytest.raises(ConfigError, match=r"\$\.restore\.stepps"):
        called(images=images, settings="restore.stepps=7")


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("media.codec=hevc", "media.codec"),
        ("media.input.rate=30", "media.input.rate"),
        ("media.limits.frames=7", "media.limits.frames"),
        ("media.start=240f", "media.start"),
        ("runtime.threads=2", "runtime.threads"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(pipelines, setting, name):
    with pytest.raises(ConfigError, match=rf"^\$\.{name}: has no effect in this node"):
        called(images=pictures(), settings=setting)
    assert not pipelines


@pytest.mark.parametrize("line", ["restore.fidelity=0.5", "blend.strength=0.2", "restore={fidelity: 0.9}"])
def test_a_line_that_says_otherwise_than_a_dial_is_refused(pipelines, line):
    with pytest.raises(ConfigError, match=r"^\$\.\w+\.(fidelity|strength): is 0\.\d in a line and 0\.\d+ on the node's dial \1"):
        called(images=pictures(), fidelity=0.25, strength=0.75, settings=line)
    assert not pipelines
    called(images=pictures(), fidelity=0.25, strength=0.75, settings="restore.fidelity=0.25\nblend={detail: 0}")
    assert (pipelines[0].restore.fidelity, pipelines[0].blend.strength) == (0.25, 0.75)


def test_with_a_file_of_tracks_frames_may_be_counted_as_there(pipelines):
    with pytest.raises(MediaError, match=r"no\.jsonl"):
        called(images=pictures(), settings="track.file=no.jsonl\nmedia.start=240f\nmedia.input.start_number=3")
    assert pipelines[0].media.start == "240f"


@pytest.mark.parametrize(
    "wrong",
    [torch.rand(120, 240, 3), torch.rand(2, 120, 240), torch.rand(2, 120, 240, 1), torch.zeros(2, 9, 9, 3, dtype=torch.uint8)],
)
def test_what_is_no_picture_is_refused_in_one_line(wrong):
    shape = re.escape(str(tuple(wrong.shape)))
    with pytest.raises(MediaError, match=rf"^images: expected pictures \(N, H, W, 3\) .*, got {shape} of (float32|uint8)$"):
        called(images=wrong)
    with pytest.raises(MediaError, match=r"^images: expected pictures \(N, H, W, 3\) as a tensor .*, got a ndarray$"):
        called(images=wrong.numpy())
    with pytest.raises(MediaError, match=r"^photographs: expected pictures"):
        called(images=pictures(), photographs=wrong)


def test_pictures_without_a_face_and_with_alpha_pass():
    images = torch.cat([pictures(((50, 60), RED)), torch.rand(4, 120, 240, 1)], dim=-1)
    restored, mask = called(images=images, settings=WITHOUT)
    assert torch.equal(restored[..., 3], images[..., 3]) and mask.max() == 1
    empty = pictures()
    restored, mask = called(images=empty)
    assert torch.equal(restored, empty) and not mask.any()


def test_only_the_one_on_the_photographs_is_restored():
    images = pictures(((50, 60), RED), ((170, 60), GREEN))
    photographs = pictures(((100, 60), GREEN), count=2)
    _, everybody = called(images=images, settings=WITHOUT)
    _, mask = called(images=images, settings=WITHOUT, photographs=photographs, only=True)
    assert everybody[:, 60, 52].min() == 1
    assert mask[:, :, :110].max() == 0 and mask[:, 60, 172].min() == 1
    with pytest.raises(ConfigError, match="photographs are needed"):
        called(images=images, only=True)
    with pytest.raises(ConfigError, match="photographs are needed"):
        called(images=images, photographs=photographs[:0], only=True)
    with pytest.raises(MediaError, match="must show one face, found no face"):
        called(images=images, photographs=pictures(count=1))


def test_the_bar_moves_and_a_user_may_interrupt(monkeypatch):
    moved, asked = [], []

    class Interrupted(Exception):
        pass

    def look():
        asked.append(len(moved))
        if len(asked) == 3:
            raise Interrupted

    class Bar:
        def __init__(self, total):
            assert total == 4

        def update(self, by):
            moved.append(by)

    for name, inside in (
        ("comfy", {}),
        ("comfy.utils", {"ProgressBar": Bar}),
        ("comfy.model_management", {"throw_exception_if_processing_interrupted": look}),
    ):
        module = types.ModuleType(name)
        module.__dict__.update(inside)
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(Interrupted):
        called(images=pictures(((50, 60), RED)), settings=WITHOUT)
    assert moved == [1, 1]
