"""Noise, samplers and guidance on problems whose answer is known."""

import pytest
import torch

from videoclr.diffusion.guidance import direction, guided, rms
from videoclr.diffusion.noise import add_noise, field
from videoclr.diffusion.sampler import level_of_noise, sample, signal_levels


def gaussian(mean, spread):
    """The exact denoiser of a Gaussian."""

    def denoise(z, alpha):
        a = alpha[:, None, None, None]
        return mean + a.sqrt() * spread**2 / (a * spread**2 + 1 - a) * (z - a.sqrt() * mean)

    return denoise


def test_signal_levels_are_those_of_diffusers():
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    assert torch.allclose(signal_levels(), theirs, atol=1e-5)


def test_level_of_noise_inverts_the_schedule():
    for level in (1, 100, 500, 900):
        assert abs(level_of_noise(float((1 - signal_levels()[level]).sqrt())) - level) <= 1


@pytest.mark.parametrize("solver", ["ddim", "dpm++"])
def test_sampling_recovers_a_gaussian_from_a_truncated_start(solver):
    torch.manual_seed(0)
    mean, spread, start = torch.full((1, 2, 32, 32), 0.7), 0.2, 600
    z0 = mean + spread * torch.randn(8, 2, 32, 32)
    z = add_noise(z0, torch.randn_like(z0), float(signal_levels()[start]))
    out = sample(gaussian(mean, spread), z, start, 25, solver)
    assert out.mean().item() == pytest.approx(0.7, abs=0.02)
    assert out.std().item() == pytest.approx(spread, abs=0.03)


@pytest.mark.parametrize("solver", ["ddim", "dpm++"])
def test_the_denoiser_is_evaluated_exactly_as_often_as_asked(solver):
    calls = []

    def denoise(z, alpha):
        calls.append(float(alpha[0]))
        return z

    sample(denoise, torch.randn(1, 2, 8, 8), 400, 5, solver)
    assert len(calls) == 5
    assert calls == sorted(calls)
    assert calls[0] == pytest.approx(float(signal_levels()[400]))


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_start_so_low_that_levels_fall_together_is_sampled(start):
    z = torch.full((1, 2, 8, 8), 0.5)
    for solver in ("ddim", "dpm++"):
        assert torch.allclose(sample(lambda _, alpha: z, z, start, 3, solver), z, atol=0.02)


def test_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="euler"):
        sample(lambda z, a: z, torch.zeros(1, 1, 4, 4), 10, 1, "euler")


def test_noise_depends_on_its_name_alone():
    assert torch.equal(field(0, (7,), (2, 4, 4)), field(0, (7,), (2, 4, 4)))
    assert not torch.equal(field(0, (7,), (2, 4, 4)), field(0, (8,), (2, 4, 4)))
    assert not torch.equal(field(0, (7,), (2, 4, 4)), field(1, (7,), (2, 4, 4)))


def test_guidance_moves_towards_the_target_only_inside_the_mask():
    target, mask = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    wrapped = guided(lambda z, a: z, lambda z: (z - target).pow(2).mean((1, 2, 3)), mask, strength=0.5)
    z = 0.2 * torch.ones(1, 1, 4, 4)
    moved = wrapped(z, torch.tensor([0.1]))
    assert torch.equal(moved[..., 2:], z[..., 2:])
    assert (moved[..., :2] > z[..., :2]).all()


def test_guidance_rests_at_the_last_levels_and_at_strength_zero():
    distance = lambda z: z.pow(2).mean((1, 2, 3))  # noqa: E731
    z, ones = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    quiet = torch.tensor([0.999])
    assert torch.equal(guided(lambda z, a: z, distance, ones, 0.5)(z, quiet), z)
    assert torch.equal(guided(lambda z, a: z, distance, ones, 0.0)(z, torch.tensor([0.1])), z)


def test_direction_has_the_size_of_the_latent_and_works_inside_inference_mode():
    z = torch.randn(3, 2, 4, 4)
    with torch.inference_mode():
        g = direction(lambda z: (z * 1e-6).sum((1, 2, 3)), z.clone())
    assert torch.allclose(rms(g), rms(z), rtol=1e-4)


def test_a_gradient_that_is_not_finite_moves_nothing():
    z = torch.zeros(1, 1, 2, 2)
    assert torch.equal(direction(lambda z: z.sqrt().sum((1, 2, 3)), z), z)
