"""Who a crop shows, with random weights in place of the ones that ship."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch

from videoclr.errors import WeightsError
from videoclr.light import usual
from videoclr.models import weights
from videoclr.models.identity import IdentityRecovery
from videoclr.models.recognizer import Recognizer
from videoclr.parts.face_recognizer import FaceRecognizer
from videoclr.types import Detection, FaceCrop, Frame, TrackedFace


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Embedded weights of both networks, random, the IRN's far from doing nothing."""
    torch.manual_seed(0)
    folder, entries = tmp_path_factory.mktemp("weights"), {}
    irn = IdentityRecovery()
    irn.out[1].weight.data.mul_(8)
    for name, network in (("recognizer", Recognizer()), ("irn", irn)):
        state = {f"{name}.{k}": v for k, v in network.state_dict().items()}
        entries[name] = weights.write_safetensors(folder / f"{name}.safetensors", state, {})
    (folder / "MANIFEST.json").write_text(json.dumps(entries))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "FOLDER", folder)
        patch.setattr(weights, "_load_embedded", cache(weights._load_embedded.__wrapped__))
        yield folder


@pytest.fixture(scope="module")
def recognizer(folder):
    return FaceRecognizer()


@pytest.fixture(scope="module")
def crops():
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")


def test_identities_are_unit_vectors_row_by_row(recognizer, crops):
    found = recognizer.embed(crops)
    assert found.shape == (2, 128) and found.dtype == torch.float32 and found.device.type == "cpu"
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(found, torch.cat([recognizer.embed(one[None]) for one in crops]), atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_crops_may_come_with_or_without_their_frames(recognizer, crops):
    face = TrackedFace(0, Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 1.0))
    frame = Frame.from_image(np.zeros((4, 4, 3), np.uint8))
    framed = [FaceCrop(face, frame, one, np.eye(2, 3)) for one in crops]
    assert torch.equal(recognizer.embed(framed), recognizer.embed(crops))


def test_what_is_embedded_is_the_recovered_crop_unless_it_is_clean_already(recognizer, crops):
    with torch.no_grad():
        recovered = recognizer.irn(usual(crops).images).clamp(-1, 1)
        expected = recognizer.recognizer.embed(recovered)
    of_clean = recognizer.of_clean
    assert of_clean.irn is None and recognizer.irn is not None
    assert torch.equal(recognizer.embed(crops), expected)
    assert not torch.allclose(of_clean.embed(crops), recognizer.embed(crops), atol=1e-3)
    assert torch.equal(FaceRecognizer(recover=False).embed(crops), of_clean.embed(crops))


def test_the_embedding_is_an_ordinary_tensor_that_needs_no_gradient(recognizer, crops):
    found = recognizer.embed(crops.clone().requires_grad_())
    assert not found.requires_grad and not found.is_inference()
    found.mul_(2)
    with torch.inference_mode():
        assert torch.equal(recognizer.embed(crops) * 2, found)


def test_weights_that_are_missing_are_named(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(weights, "_load_embedded", cache(weights._load_embedded.__wrapped__))
    (tmp_path / "MANIFEST.json").write_text((folder / "MANIFEST.json").read_text())
    with pytest.raises(WeightsError, match=r"recognizer\.safetensors: missing"):
        FaceRecognizer()
