"""Public restorers: what goes into somebody else's network and comes out of it, and what is said when that cannot be.

spandrel is a stand-in here, but for the tests with the marker `interop`.
"""

from __future__ import annotations

import hashlib
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from videoclr import plugins
from videoclr.errors import ConfigError, WeightsError
from videoclr.light import usual
from videoclr.models import store
from videoclr.parts.checkpoint import CALLS, CheckpointRestorer
from videoclr.types import Detection, FaceCrop, Frame, TrackedFace

NOWHERE = Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.9)
PICTURE = np.zeros((4, 4, 3), np.uint8)


def crop(seed: int = 0, size: int = 16) -> FaceCrop:
    """Of noise that uses the whole range."""
    image = torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return FaceCrop(TrackedFace(seed, NOWHERE), Frame.from_image(PICTURE), image, np.eye(2, 3))


class Network(nn.Module):
    """Answers as GFPGAN, RestoreFormer and CodeFormer do, with a tuple, and remembers what it was asked."""

    def __init__(self, gain: float = -1.0) -> None:
        super().__init__()
        self.gain = gain
        self.asked: list[tuple[torch.Tensor, dict]] = []

    def forward(self, face, **named):
        self.asked.append((face.clone(), named))
        return face.double() * self.gain, None


class Descriptor:
    """spandrel's, as far as the part uses it; its call takes and gives [0, 1] and turns the picture into its negative."""

    def __init__(self, name: str, purpose: str = "FaceSR", **changed: int) -> None:
        self.architecture = types.SimpleNamespace(name=name)
        self.purpose, self.model = purpose, Network()
        self.scale, self.input_channels, self.output_channels = 1, 3, 3
        self.__dict__.update(changed)

    def to(self, device):
        self.device = torch.device(device)
        return self

    def eval(self):
        self.model.eval()
        return self

    def __call__(self, image):
        assert len(image) == 1 and image.min() >= 0 and 0.9 < image.max() <= 1
        return 1 - image


class Registry(dict):
    """Knows networks by the name of their only tensor."""

    def copy(self):
        return Registry(self)

    def add(self, *more, ignore_duplicates):
        assert ignore_duplicates
        self.update(more)

    def load(self, state):
        (name,) = state
        if name not in self:
            raise sys.modules["spandrel"].UnsupportedModelError
        return self[name]()


@pytest.fixture
def known(monkeypatch) -> Registry:
    """What a stand-in for spandrel knows; `spandrel_extra_arches` is not installed."""
    module = types.ModuleType("spandrel")
    module.MAIN_REGISTRY = Registry({name: lambda name=name: Descriptor(name) for name in CALLS})
    module.UnsupportedModelError = type("UnsupportedModelError", (Exception,), {})
    monkeypatch.setitem(sys.modules, "spandrel", module)
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", None)
    return module.MAIN_REGISTRY


@pytest.fixture
def saved(tmp_path):
    """Makes a file whose only tensor has the given name."""

    def save(name: str):
        torch.save({"params_ema": {name: torch.zeros(1)}}, tmp_path / f"{name}.pth")
        return str(tmp_path / f"{name}.pth")

    return save


@pytest.mark.parametrize("name", CALLS)
def test_the_three_get_the_crops_in_their_own_range_one_by_one(known, saved, name):
    restorer = CheckpointRestorer(saved(name), fidelity=0.25)
    crops = [crop(0), crop(1)]
    restored = restorer.restore(crops, {})
    asked = restorer.descriptor.model.asked
    lit = usual(torch.stack([one.image for one in crops]))
    assert all(torch.equal(face[0], one) for (face, _), one in zip(asked, lit.images, strict=True))
    assert torch.equal(restored, lit.returned(-lit.images))
    expected = {"GFPGAN": {"return_rgb": False, "randomize_noise": False}, "RestoreFormer": {}, "CodeFormer": {"weight": 0.25}}
    assert [named for _, named in asked] == [expected[name]] * 2


def test_a_face_restorer_of_another_name_is_called_as_spandrel_promises(known, saved):
    known["Newcomer"] = lambda: Descriptor("Newcomer")
    restored = CheckpointRestorer(saved("Newcomer")).restore([crop(0), crop(1)], {})
    lit = usual(torch.stack([crop(0).image, crop(1).image]))
    assert torch.allclose(restored, lit.returned(-lit.images), atol=1e-6)


def test_what_comes_out_is_a_plain_picture_within_the_range(known, saved):
    restorer, memory = CheckpointRestorer(saved("GFPGAN")), {}
    restorer.descriptor.model.gain = 3.0
    restored = restorer.restore([crop()], memory)
    assert restored.dtype == torch.float32 and restored.device.type == "cpu" and not restored.is_inference()
    assert restored.min() == -1 and restored.max() == 1 and memory == {}
    assert restorer.size == 512 and not restorer.descriptor.model.training


def test_the_network_goes_to_the_device(known, saved):
    assert CheckpointRestorer(saved("GFPGAN"), device="meta").descriptor.device.type == "meta"


def test_added_weights_go_by_their_name_and_the_part_by_its_own(known, saved, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOCLR_CACHE", str(tmp_path / "cache"))
    path = saved("CodeFormer")
    with open(path, "rb") as file:
        store.add(path, "former", hashlib.file_digest(file, "sha256").hexdigest())
    settings = {"steps": 3, "fidelity": 0.75, "seed": 1, "device": "cpu"}
    part = plugins.build("restore", "checkpoint", {"weights": "former"}, settings)
    assert (part.architecture, part.fidelity) == ("CodeFormer", 0.75)
    with pytest.raises(ConfigError, match=r"\$\.restore\.options: checkpoint: missing .*'weights'"):
        plugins.build("restore", "checkpoint", {}, settings)
    with pytest.raises(ConfigError, match="fidelity"):
        plugins.build("restore", "checkpoint", {"weights": "former", "fidelity": 1.5}, settings)
    with pytest.raises(WeightsError, match=r"farmer: no such file, nor one of former"):
        plugins.build("restore", "checkpoint", {"weights": "farmer"}, settings)


def broken():
    raise RuntimeError("Error(s) in loading state_dict for GFPGAN:\n\tMissing key(s): " + "x, " * 1000)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Descriptor("ESRGAN", "SR", scale=4), "holds ESRGAN, a super-resolution network, and no face restorer"),
        (lambda: Descriptor("DnCNN", "Restoration"), "holds DnCNN, a network for whole pictures, and no"),
        (lambda: Descriptor("LaMa", "Inpainting"), "holds LaMa, an inpainting network, and no"),
        (lambda: Descriptor("Big", scale=2), "holds Big from 3 channels to 3 at 2 times the size; expected"),
        (broken, "spandrel cannot build its network: Error"),
    ],
)
def test_what_is_no_face_restorer_is_refused_with_what_it_is(known, saved, make, says):
    known["net"] = make
    with pytest.raises(WeightsError, match=rf"net\.pth: {says}") as caught:
        CheckpointRestorer(saved("net"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_an_unknown_network_is_refused_and_the_package_that_knows_more_is_named(known, saved, monkeypatch):
    with pytest.raises(WeightsError, match=r"holds no network that spandrel knows; for CodeFormer: pip install spandrel_extra"):
        CheckpointRestorer(saved("net"))
    more = types.ModuleType("spandrel_extra_arches")
    more.EXTRA_REGISTRY = [("net", lambda: Descriptor("CodeFormer"))]
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", more)
    assert CheckpointRestorer(saved("net")).architecture == "CodeFormer"
    assert "net" not in known  # spandrel's own registry is as it was
    with pytest.raises(WeightsError, match=r"holds no network that spandrel knows$"):
        CheckpointRestorer(saved("other"))


def test_without_spandrel_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ConfigError, match=r"needs spandrel, which is not installed: pip install 'videoclr\[interop\]'") as caught:
        CheckpointRestorer(saved("GFPGAN"))
    assert "\n" not in str(caught.value)


def test_a_torchvision_that_does_not_fit_torch_is_told_apart(saved, monkeypatch, tmp_path):
    (tmp_path / "spandrel.py").write_text("raise RuntimeError('operator torchvision::nms\\n does not exist')")
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    fits = rf"torchvision that works with torch {torch.__version__} \(operator torchvision::nms does not exist\); install"
    with pytest.raises(ConfigError, match=fits.replace("+", r"\+")):
        CheckpointRestorer(saved("GFPGAN"))


# -- the networks themselves, with random weights ------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    """spandrel; the tests are skipped where it, or its torchvision, cannot be used."""
    try:
        import spandrel
        import spandrel_extra_arches
    except Exception as error:
        pytest.skip(f"spandrel cannot be used here ({type(error).__name__}: {error})")
    return spandrel, spandrel_extra_arches


def random_network(name: str) -> nn.Module:
    """As its authors' checkpoints are shaped, every weight random and large enough to matter."""
    from importlib import import_module

    package = "spandrel_extra_arches" if name == "CodeFormer" else "spandrel"
    torch.manual_seed(0)
    network = getattr(import_module(f"{package}.architectures.{name}"), name)()
    with torch.no_grad():
        for weights in network.parameters():
            if not weights.any():  # GFPGAN's strength of noise, CodeFormer's place in the picture
                weights.normal_(std=0.1)
    return network.eval()


def native(network: nn.Module, face: torch.Tensor, **named) -> torch.Tensor:
    """What the authors' own scripts do: one face in [-1, 1], the first of what comes out, clamped."""
    with torch.no_grad():
        return network(face[None], **named)[0].clamp(-1, 1)


@pytest.mark.interop
@pytest.mark.parametrize(
    ("name", "named"), [("GFPGAN", {"randomize_noise": False}), ("RestoreFormer", {}), ("CodeFormer", {"weight": 0.75})]
)
def test_a_checkpoint_of_the_exact_architecture_does_what_its_network_does(real, tmp_path, name, named):
    network = random_network(name)
    torch.save({"params_ema": network.state_dict()}, tmp_path / "public.pth")
    restorer = CheckpointRestorer(str(tmp_path / "public.pth"), fidelity=0.75)
    assert restorer.architecture == name
    crops = [crop(0, 512), crop(1, 512)]
    together = restorer.restore(crops, {})
    assert together.shape == (2, 3, 512, 512) and together.std() > 0.05
    assert torch.equal(together, torch.cat([native(network, one.image, **named) for one in crops]))
    assert torch.equal(together[1:], restorer.restore(crops[1:], {}))


@pytest.mark.interop
def test_fidelity_moves_codeformer(real, tmp_path):
    torch.save(random_network("CodeFormer").state_dict(), tmp_path / "former.pth")
    plain, true = (CheckpointRestorer(str(tmp_path / "former.pth"), fidelity=f).restore([crop(0, 512)], {}) for f in (0.0, 1.0))
    assert (plain - true).abs().mean() > 0.01


@pytest.mark.interop
def test_a_real_super_resolution_network_is_refused(real, tmp_path):
    from spandrel.architectures.Compact import Compact

    torch.save({"params": Compact(num_feat=8, num_conv=2, upscale=4).state_dict()}, tmp_path / "sr.pth")
    with pytest.raises(WeightsError, match="a super-resolution network, and no face restorer"):
        CheckpointRestorer(str(tmp_path / "sr.pth"))


@pytest.mark.interop
def test_a_checkpoint_that_lacks_tensors_is_refused_in_one_line(real, tmp_path):
    from spandrel.architectures.RestoreFormer import RestoreFormer

    state = RestoreFormer(ch=32).state_dict()
    del state["decoder.conv_in.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(WeightsError, match=r"cannot build its network: .*decoder\.conv_in\.weight") as caught:
        CheckpointRestorer(str(tmp_path / "short.pth"))
    assert "\n" not in str(caught.value)


@pytest.mark.interop
def test_it_restores_inside_the_pipeline_from_an_added_name(real, tmp_path, monkeypatch):
    from spandrel.architectures.RestoreFormer import RestoreFormer

    from videoclr.config import Config
    from videoclr.pipeline import Pipeline, RunLog

    monkeypatch.setenv("VIDEOCLR_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    torch.save(RestoreFormer(ch=32).state_dict(), tmp_path / "small.ckpt")
    with open(tmp_path / "small.ckpt", "rb") as file:
        store.add(str(tmp_path), "small", hashlib.file_digest(file, "sha256").hexdigest())
    config = Config().override("restore.use=checkpoint", "restore.options.weights=small", "runtime.device=cpu")
    frame = Frame.from_image(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))
    ledger = RunLog()
    (out,) = Pipeline(config).restore_frames([frame], ledger, aligned=True)
    assert ledger.faces_restored == 1 and ledger.tracks[0].mean_similarity is not None
    assert out.image.shape == frame.image.shape and (out.image != frame.image).mean() > 0.5
