"""What the networks promise before anybody trained them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from videoclr.diffusion.noise import field
from videoclr.models.denoiser import Denoiser
from videoclr.models.detector import anchors
from videoclr.models.identity import IdentityRecovery, LatentMask, ReferenceFusion
from videoclr.models.layers import sinusoids
from videoclr.models.recognizer import FFHQ_POINTS, Recognizer, face_grid, face_input
from videoclr.models.shares import Shares, mixed
from videoclr.models.start import StartLevel
from videoclr.models.vqgan import VQGAN, Codebook, Decoder, Encoder
from videoclr.parts.face_recognizer import FaceRecognizer
from videoclr.parts.feather import Feather
from videoclr.parts.retina_detector import RetinaDetector
from videoclr.stages.identify import pooled


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("side", [64, 96, 132])
def test_every_network_takes_crops_of_any_side_divisible_by_four(side):
    y = torch.rand(2, 3, side, side) * 2 - 1
    z = Encoder()(y)
    assert z.shape == (2, 6, side // 4, side // 4)
    assert Decoder()(z).shape == y.shape
    assert IdentityRecovery()(y).shape == y.shape
    assert LatentMask()(z).shape == z.shape
    assert Denoiser()(z, torch.tensor([0.3, 0.9]), z, z).shape == z.shape


def test_a_reference_is_used_by_as_much_as_is_asked_for_and_by_nothing_before_anybody_trained():
    irn, fusion = IdentityRecovery(), ReferenceFusion()
    y, views = torch.rand(2, 2, 3, 68, 68).mul(2).sub(1).unbind(0)
    seen = irn.seen(views)
    assert [tuple(one.shape[1:]) for one in seen] == [(32, 40, 40), (64, 20, 20), (128, 10, 10), (192, 5, 5)]
    alone = irn(y)
    assert torch.equal(irn(y, fusion.beside(seen)), alone)
    for joint in fusion.joints:
        torch.nn.init.normal_(joint.conv2.weight, std=0.05)
    torch.nn.init.normal_(irn.out[1].weight, std=0.1)
    alone, beside, swapped = irn(y), irn(y, fusion.beside(seen)), irn(y, fusion.beside([one.flip(0) for one in seen]))
    assert not torch.allclose(beside, alone, atol=1e-3) and not torch.allclose(beside, swapped, atol=1e-3)
    shared = irn(y, fusion.beside(seen, torch.tensor([0.0, 1.0])))
    assert torch.allclose(shared[0], alone[0], atol=1e-5) and torch.allclose(shared[1], beside[1], atol=1e-5)
    one_for_all = irn(y, fusion.beside([one[:1] for one in seen]))
    assert torch.allclose(one_for_all, torch.stack([beside[0], swapped[1]]), atol=1e-5)


def test_untrained_denoiser_gives_the_exact_posterior_mean_of_a_gaussian():
    spread, a = 0.7, torch.tensor([0.4])
    net, z_r = Denoiser(spread=spread), torch.randn(1, 6, 16, 16)
    z0, noise = z_r + spread * torch.randn_like(z_r), torch.randn_like(z_r)
    z_t = a.sqrt() * z0 + (1 - a).sqrt() * noise
    gain = a.sqrt() * spread**2 / (a * spread**2 + 1 - a)
    assert torch.allclose(net(z_t, a, z_r, z_r), z_r + gain * (z_t - a.sqrt() * z_r), atol=1e-5)


def test_preconditioned_target_has_unit_size_at_every_level():
    net = Denoiser(spread=0.5)
    z_r = torch.randn(1, 6, 64, 64)
    z0 = z_r + 0.5 * torch.randn_like(z_r)
    for share in (0.05, 0.3, 0.7, 0.98):
        a = torch.tensor([1 - share**2])
        z_t = a.sqrt() * z0 + (1 - a).sqrt() * torch.randn_like(z0)
        guess, scale, offset = net.precondition(z_t, a, z_r)
        assert ((z0 - guess) / scale).std().item() == pytest.approx(1, abs=0.05)
        assert offset.std().item() == pytest.approx(1, abs=0.05)


def test_denoiser_output_depends_on_its_condition_once_it_has_weights():
    net, z = Denoiser(), torch.randn(1, 6, 16, 16)
    torch.nn.init.normal_(net.out[-1].weight, std=0.1)
    a = torch.tensor([0.5])
    assert not torch.allclose(net(z, a, z, z), net(z, a, torch.zeros_like(z), z), atol=1e-4)


def test_codebook_returns_the_nearest_code_and_passes_gradients_straight_through():
    book = Codebook(latent=4, codes=16, groups=2).eval()
    z = torch.randn(1, 4, 3, 3, requires_grad=True)
    hard, commitment, indices = book(z)
    assert indices.shape == (2, 9)
    first = z.detach()[0, :2, 0, 0]
    assert torch.allclose(hard.detach()[0, :2, 0, 0], min(book.codes[0], key=lambda code: (code - first).norm().item()))
    assert commitment.item() == pytest.approx((z - hard).pow(2).mean().item(), rel=1e-5)
    hard.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))


def test_codebook_revives_dead_codes():
    book = Codebook(latent=2, codes=32, groups=1, decay=0.5).train()
    book.codes.fill_(100.0)
    book.codes[0, 0] = 0.0
    z = torch.randn(4, 2, 8, 8)
    for _ in range(20):
        _, _, indices = book(z)
    assert book.perplexity(indices).item() > 8


def test_kmeans_start_leaves_no_code_far_from_the_data():
    book = Codebook(latent=2, codes=16, groups=1)
    z = torch.randn(4, 2, 16, 16)
    book.start_from(z)
    assert book(z)[1].item() < 0.15


def test_vqgan_quantises_only_when_asked():
    net, x = VQGAN(codes=64).eval(), torch.rand(1, 3, 32, 32)
    plain, no_loss, none = net(x, quantise=False)
    hard, commitment, indices = net(x)
    assert none is None and no_loss.item() == 0
    assert indices is not None and commitment.item() > 0
    assert plain.shape == hard.shape


def test_fusion_starts_as_no_change_and_scales_with_its_strength():
    decoder, z, features = Decoder(), torch.randn(1, 6, 16, 16), torch.randn(1, 64, 16, 16)
    assert torch.equal(decoder(z), decoder(z, features, 1.0))
    torch.nn.init.normal_(decoder.fusion.value[-1].weight, std=0.1)
    near, far = (decoder(z, features, s) - decoder(z) for s in (0.1, 1.0))
    assert 0 < near.norm() < far.norm()


def test_mask_lies_between_zero_and_one():
    mask = LatentMask()(10 * torch.randn(2, 6, 16, 16))
    assert mask.min() >= 0 and mask.max() <= 1


def test_what_all_faces_share_of_the_mask_fits_latents_of_any_size():
    torch.manual_seed(0)
    net = LatentMask().eval()
    with torch.no_grad():
        net.out.bias.zero_()
        assert torch.equal(net(torch.randn(1, 6, 16, 16)), torch.full((1, 6, 16, 16), 0.5))  # nothing learned yet
        net.shared[:, :, :16] = 1.0  # the upper half
        for side in (16, 64, 128):
            mask = net(torch.randn(1, 6, side, side))
            assert mask[:, :, : side // 4].min() > 0.99 and mask[:, :, -side // 4 :].max() == 0.5


def test_recogniser_gives_unit_vectors_and_its_crop_is_differentiable():
    net, crops = Recognizer().eval(), (torch.rand(2, 3, 128, 128) * 2 - 1).requires_grad_(True)
    embedded = net.embed(crops)
    assert embedded.shape == (2, 128)
    assert torch.allclose(embedded.norm(dim=1), torch.ones(2), atol=1e-5)
    embedded[:, 0].sum().backward()
    assert crops.grad.abs().sum() > 0


def test_face_input_moves_the_ffhq_eyes_to_the_arcface_eyes():
    picture = torch.zeros(1, 3, 256, 256)
    x, y = (FFHQ_POINTS[0] * 256 - 0.5).round().astype(int)
    picture[..., y - 1 : y + 2, x - 1 : x + 2] = 1
    at = face_input(picture)[0, 0].flatten().argmax().item()
    assert abs(at % 112 - 38.3) < 3 and abs(at // 112 - 51.7) < 3
    assert face_grid().shape == (2, 3)


def test_the_guess_of_the_start_is_positive_at_any_size_and_can_be_learned():
    torch.manual_seed(0)
    network = StartLevel()
    z_y, z_r = torch.randn(2, 4, 6, 16, 12).unbind(0)
    assert torch.allclose(network(z_y, z_r), torch.full((4,), 0.3))  # before training: the typical error
    wanted = torch.tensor([-1.0, 0.0, 0.5, 1.0])
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        loss = (network.logarithm(z_y, z_r) - wanted).pow(2).mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.05 and bool((network(z_y, z_r) > 0).all())


def test_what_is_shown_lies_between_the_restoration_and_the_crop_in_every_band() -> None:
    y, restored = torch.rand(2, 2, 3, 64, 64).mul(2).sub(1).unbind(0)
    sides = (32, 32, 16, 8)
    nothing, everything = ([torch.full((2, 1, side, side), value) for side in sides] for value in (0.0, 1.0))
    assert torch.equal(mixed(y, restored, nothing), restored)
    assert torch.allclose(mixed(y, restored, everything), y, atol=1e-5)
    bands = [mixed(y, restored, [*nothing[:k], everything[k], *nothing[k + 1 :]]) - restored for k in range(4)]
    assert torch.allclose(sum(bands), y - restored, atol=1e-5), "the bands are all there is, and none is there twice"
    # Of the coarsest one, with all below it, the mean is taken; finer ones have none to speak of.
    means = [float(band.mean((2, 3)).abs().max()) for band in bands]
    assert means[3] > 20 * max(means[:3])
    left = [torch.ones(2, 1, side, side) * (torch.arange(side) < side // 2) for side in sides]
    half = mixed(y, restored, left)
    assert torch.allclose(half[..., :20], y[..., :20], atol=1e-5) and torch.allclose(half[..., 44:], restored[..., 44:], atol=1e-5)


@pytest.mark.parametrize("side", [16, 36, 68])
def test_how_much_of_a_crop_is_kept_is_learned_and_the_same_everywhere_before(side: int) -> None:
    y, restored = torch.rand(2, 2, 3, side, side).mul(2).sub(1).unbind(0)
    network = Shares()
    shown = network(y, restored)
    assert shown.shape == y.shape
    assert torch.allclose(shown, restored + torch.sigmoid(torch.tensor(-0.5)) * (y - restored), atol=1e-3)
    assert torch.equal(network(y, y), y)


def test_a_network_of_shares_learns_what_the_crop_is_good_for() -> None:
    """Left the crop is right, and right the restoration."""
    network = Shares((8, 8, 8))
    optimizer = torch.optim.Adam(network.parameters(), 0.003)
    for _ in range(150):
        clean = F.interpolate(torch.rand(4, 3, 8, 8), 32, mode="bilinear") * 2 - 1
        y, restored = (clean + 0.5 * torch.randn(clean.shape) * side for side in (torch.arange(32) >= 16, torch.arange(32) < 16))
        loss = (network(y, restored) - clean).abs().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    better = torch.minimum((y - clean).abs().mean(), (restored - clean).abs().mean())
    assert loss < 0.5 * better


def test_a_host_program_that_counts_in_doubles_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    crops = torch.from_numpy(rng.uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32))
    picture = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    views = [(0.5, F.normalize(torch.arange(4.0), dim=0)), (0.3, F.normalize(torch.ones(4), dim=0))]

    def found() -> list[Tensor]:
        parts = RetinaDetector(low_threshold=0.01), FaceRecognizer(recover=False), Feather()
        faces = [torch.from_numpy(one.box) for one in parts[0].detect([picture])[0]]
        mask = parts[2].mask([None], crops)  # type: ignore[list-item]
        return [
            *faces,
            parts[1].embed(crops),
            mask,
            anchors(64, 64),
            sinusoids(crops[0, 0, 0], 8),
            field(1, (2,), (3,)),
            pooled(views),
        ]

    plain, began = found(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        again = found()
    finally:
        torch.set_default_dtype(began)
    assert all(one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(plain, again, strict=True))
