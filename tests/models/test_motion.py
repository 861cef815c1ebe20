"""The network that tells the motion between crops."""

from __future__ import annotations

import pytest
import torch

from videoclr.models.motion import CONTEXT, MotionNet, correlation, moved


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = MotionNet().eval()
    for part in (made.over.out, *(look.out for look in made.looks)):
        torch.nn.init.normal_(part.weight, std=0.02)
    return made.requires_grad_(False)


def frames(count, size=64, seed=1):
    return torch.rand((1, count, 3, size, size), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_shapes_and_looks(network) -> None:
    found, looks = network(frames(4), torch.zeros(1, 3, 2, 2, 16, 16))
    assert found.motion.shape == (1, 3, 2, 2, 16, 16) and found.error.shape == (1, 3, 2, 1, 16, 16)
    assert [look.motion.shape[-1] for look in looks] == [4, 8, 16, 16]


def test_the_way_back_is_the_way_there_of_the_film_backwards(network) -> None:
    shown = frames(3)
    there, back = network.compared(shown)[0][-1].motion, network.compared(shown.flip(1))[0][-1].motion
    assert torch.allclose(there[:, :, 0], back.flip(1)[:, :, 1], atol=1e-5)


def test_pairs_further_off_than_the_context_do_not_count(network) -> None:
    shown, other, zero = frames(12), frames(12, seed=2), torch.zeros(1, 11, 2, 2, 16, 16)
    near, far = shown.clone(), shown.clone()
    near[:, CONTEXT + 1], far[:, CONTEXT + 2] = other[:, 0], other[:, 0]
    first = [network(s, zero)[0].motion[:, 0] for s in (shown, near, far)]
    assert not torch.equal(first[0], first[1])
    assert torch.allclose(first[0], first[2], atol=1e-6)


def test_what_the_crop_moves_is_taken_off_before_looking_over_time(network) -> None:
    shown = frames(3)
    looks, state = network.compared(shown)
    known = torch.randn(1, 2, 2, 2, 16, 16, generator=torch.Generator().manual_seed(3))
    shifted = looks[-1]._replace(motion=looks[-1].motion + known)
    plain, known_of = network.settled(looks[-1], state, torch.zeros_like(known)), network.settled(shifted, state, known)
    assert torch.allclose(plain.motion + known, known_of.motion, atol=1e-5)


def test_correlation_is_highest_where_the_place_went() -> None:
    values = torch.randn(1, 16, 12, 12, generator=torch.Generator().manual_seed(4))
    shifted = torch.roll(values, (1, -2), (2, 3))  # what was at (x, y) is at (x - 2, y + 1)
    best = correlation(values, shifted, 2).argmax(1)[0, 3:-3, 3:-3]
    assert (best == (1 + 2) * 5 + (-2 + 2)).all()
    motion = torch.tensor([-2.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 12, 12)
    assert torch.allclose(moved(shifted, motion)[..., 3:-3, 3:-3], values[..., 3:-3, 3:-3], atol=1e-5)
