"""What losses look through, with random weights, as no such file ships; and how losses add up."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from videoclr.errors import WeightsError
from videoclr.training.losses import (
    FeatureDiscriminator,
    Perceptual,
    TeacherRecognizer,
    adversarial_losses,
    feature_weights,
    fidelity_loss,
    recovery_loss,
    unevenness,
)


def random_file(network, path):
    """A file of random weights for a network that knows no other way to be made than from a file."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("videoclr.training.losses.read_state", lambda path: {})
        patch.setattr("videoclr.training.losses.fit", lambda module, state, path: None)
        state = network(path).state_dict()
    torch.save({k: v for k, v in state.items() if k not in ("mean", "std")}, path)
    return path


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory):
    return random_file(Perceptual, tmp_path_factory.mktemp("loss") / "squeezenet.pth")


@pytest.fixture(scope="module")
def mobilefacenet(tmp_path_factory):
    return random_file(TeacherRecognizer, tmp_path_factory.mktemp("loss") / "mobilefacenet.pt")


def pictures(side, seed=0):
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")


def test_the_perceptual_distance_is_zero_for_the_same_and_grows_with_the_change(squeezenet):
    net, clean = Perceptual(squeezenet), pictures(64)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    near, far = net(clean + 0.05 * noise, clean), net(clean + 0.5 * noise, clean)
    assert near.shape == (2,)
    assert (net(clean, clean) == 0).all()
    assert (near > 0).all() and (far > near).all()


def test_each_picture_has_its_own_distance(squeezenet):
    net, clean, other = Perceptual(squeezenet), pictures(64), pictures(64, 1)
    mixed = torch.stack([clean[0], other[1]])
    assert net(mixed, clean)[0] == 0
    assert torch.allclose(net(mixed, clean)[1], net(other[1:], clean[1:])[0], atol=1e-5)


def test_gradients_of_the_perceptual_distance_reach_the_picture_and_no_weight(squeezenet):
    net, clean = Perceptual(squeezenet), pictures(48)
    picture = pictures(48, 1).requires_grad_()
    net(picture, clean.requires_grad_()).sum().backward()
    assert picture.grad.abs().sum() > 0 and clean.grad is None
    assert not net.training and not any(p.requires_grad for p in net.parameters())


def test_five_maps_are_compared_and_a_classifier_in_the_file_is_ignored(squeezenet, tmp_path):
    state = torch.load(squeezenet, weights_only=True)
    torch.save({**state, "classifier.1.weight": torch.zeros(1000, 512, 1, 1)}, tmp_path / "whole.pth")
    maps = Perceptual(tmp_path / "whole.pth").features(pictures(64))
    assert [m.shape[1] for m in maps] == [96, 128, 256, 384, 512]
    assert all(a.shape[-1] >= b.shape[-1] for a, b in pairwise(maps))


def test_a_file_of_another_network_is_refused(squeezenet, mobilefacenet):
    with pytest.raises(WeightsError, match="does not fit"):
        Perceptual(mobilefacenet)
    with pytest.raises(WeightsError, match="does not fit"):
        TeacherRecognizer(squeezenet)


def test_the_teacher_gives_unit_vectors_in_full_precision_and_learns_nothing(mobilefacenet):
    net, faces = TeacherRecognizer(mobilefacenet), pictures(112)
    plain = net(faces)
    assert plain.shape == (2, 128) and torch.allclose(plain.norm(dim=1), torch.ones(2), atol=1e-5)
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    assert torch.allclose(net(faces[:1])[0], plain[0], atol=1e-4)  # a batch's statistics have no say
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(faces).dtype == torch.float32


def test_the_students_gradient_goes_through_the_teacher(mobilefacenet):
    faces = pictures(112).requires_grad_()
    TeacherRecognizer(mobilefacenet)(faces)[:, 0].sum().backward()
    assert faces.grad.abs().sum() > 0


def test_fidelity_is_the_sum_of_its_terms_by_their_weights():
    class Twice(nn.Module):
        def forward(self, x, clean):
            return 2 * (x - clean).abs().mean((1, 2, 3))

    class Direction(nn.Module):
        def forward(self, faces):
            return nn.functional.normalize(faces.mean((2, 3)), dim=1)

    clean = torch.zeros(2, 3, 64, 64)
    clean[:, 0] = 0.5
    restored = clean.clone()
    restored[:, 1] = 0.5
    weights = {"pixel": 3.0, "perceptual": 0.1, "identity": 0.2}
    loss, terms = fidelity_loss(restored, clean, weights, Twice(), Direction())
    assert float(terms["l1"]) == pytest.approx(0.5 / 3)
    assert float(terms["perceptual"]) == pytest.approx(1 / 3)
    assert float(terms["identity"]) == pytest.approx(1 - 0.5**0.5, abs=1e-5)
    assert float(loss) == pytest.approx(3 * 0.5 / 3 + 0.1 / 3 + 0.2 * (1 - 0.5**0.5), abs=1e-5)
    alone, terms = fidelity_loss(restored, clean, {"gradient": 0.5})
    assert float(alone) == pytest.approx(0.5 / 3) and set(terms) == {"l1"}  # flat pictures have no gradients


def test_neither_adversary_moves_the_other():
    discriminator = nn.Conv2d(3, 1, 3)
    fake = torch.randn(1, 3, 8, 8, requires_grad=True)
    judged, fooled = adversarial_losses(discriminator, torch.randn(1, 3, 8, 8), fake)
    fooled.backward()
    assert fake.grad is not None and discriminator.weight.grad is None
    fake.grad = None
    judged.backward()
    assert fake.grad is None and discriminator.weight.grad is not None


def test_a_discriminator_of_features_learns_to_tell_sharp_from_soft_and_keeps_the_frozen_network_out_of_its_state(squeezenet):
    torch.manual_seed(1)
    perceptual = Perceptual(squeezenet)
    discriminator = FeatureDiscriminator(perceptual, width=8)
    assert not any("fire" in name or "conv1" in name for name in discriminator.state_dict())
    soft = pictures(64)
    sharp = soft + 0.3 * torch.randn(soft.shape, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.01)
    told = []
    for _ in range(12):
        judged, _ = adversarial_losses(discriminator, sharp, soft)
        optimizer.zero_grad()
        judged.backward()
        optimizer.step()
        told.append(float(judged.detach()))
    assert told[-1] < 0.8 * told[0]
    assert all(p.grad is None for p in perceptual.parameters())


def test_what_fools_a_discriminator_of_features_moves_the_picture_and_not_the_discriminator(squeezenet):
    discriminator = FeatureDiscriminator(Perceptual(squeezenet), width=8)
    fake = pictures(64).requires_grad_(True)
    _, fooled = adversarial_losses(discriminator, pictures(64, seed=1), fake)
    fooled.backward()
    assert fake.grad is not None and float(fake.grad.abs().sum()) > 0
    assert all(p.grad is None for p in discriminator.parameters())


def test_eyes_and_mouth_weigh_more_and_the_whole_as_before():
    weight = feature_weights(torch.zeros(1, 3, 64, 64), 3.0)[0, 0]
    assert weight.mean() == pytest.approx(1.0)
    rest = weight[2, 2]
    for x, y in ((0.385, 0.47), (0.615, 0.47), (0.5, 0.71)):
        assert weight[int(y * 64), int(x * 64)] / rest == pytest.approx(4.0, rel=0.05)
    clean = torch.zeros(1, 3, 64, 64)
    eye, cheek = clean.clone(), clean.clone()
    eye[..., 30, 24], cheek[..., 50, 4] = 1.0, 1.0
    at_eye, at_cheek = (fidelity_loss(x, clean, {"features": 3.0})[0] for x in (eye, cheek))
    assert at_eye > 3 * at_cheek


def test_a_network_that_sees_no_grid_is_even_and_one_that_has_one_is_not():
    y, generator = pictures(96), torch.Generator().manual_seed(0)
    blur = nn.Conv2d(3, 3, 5, padding=2, padding_mode="reflect")
    weave = torch.zeros(1, 1, 96, 96)
    weave[..., ::4, ::4] = 0.3
    with torch.no_grad():
        for _ in range(4):
            assert unevenness(blur, y, blur(y), generator) < 1e-6
        uneven = [float(unevenness(lambda x: x + weave, y, y + weave, generator)) for _ in range(8)]
    # A shift by whole cells of the grid shows nothing.
    assert max(uneven) == pytest.approx(2 * 0.3 / 16, rel=0.1) and all(u < 1e-6 or u > 0.03 for u in uneven)


def test_the_perceptual_network_may_look_through_a_shifted_grid(squeezenet):
    net, clean = Perceptual(squeezenet), pictures(64)
    worse, weights = clean + 0.2 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)), {"perceptual": 1.0}
    plain, rolled = (fidelity_loss(worse, clean, weights, net, roll=roll)[1]["perceptual"] for roll in ((0, 0), (3, 5)))
    assert plain != rolled and rolled == pytest.approx(float(plain), rel=0.3)


def test_a_recovery_learns_by_all_of_its_terms(squeezenet, mobilefacenet):
    torch.manual_seed(0)
    irn, clean = nn.Conv2d(3, 3, 3, stride=1, padding=1), pictures(64)
    networks = (Perceptual(squeezenet), TeacherRecognizer(mobilefacenet))
    weights = {"perceptual": 0.1, "identity": 0.1, "face": 0.1, "features": 1.0, "even": 2.0, "even_share": 0.5}

    def loss(**changed):
        generator = torch.Generator().manual_seed(3)
        return recovery_loss(irn, (clean, clean * 0.5), {**weights, **changed}, networks, generator)

    restored, whole, terms = loss()
    assert restored.shape == clean.shape and {"l1", "perceptual", "identity", "face", "uneven"} == set(terms)
    assert float((whole - loss(even=0.0)[1]).detach()) == pytest.approx(2 * float(terms["uneven"]), abs=1e-5)
    whole.backward()
    assert irn.weight.grad.abs().sum() > 0
