"""What the restorer promises whatever its weights are: here they are random, and everywhere large enough to matter."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from videoclr.diffusion.sampler import level_of_noise
from videoclr.errors import WeightsError
from videoclr.light import calm, light_of, usual
from videoclr.models.closeup import CloseUp, enlarged
from videoclr.models.identity import ReferenceFusion
from videoclr.models.shares import Shares
from videoclr.motion import BEHIND
from videoclr.parts import clr
from videoclr.parts.clr import ClrNetworks, ClrRestorer, _Span
from videoclr.stages.enlarge import EnlargingRestorer
from videoclr.stages.restore import ReducedRestorer, restore
from videoclr.types import Detection, FaceCrop, Faces, Frame, TrackedFace
from videoclr.weave import unwoven

SIZE = 64
PICTURE = np.zeros((4, 4, 3), np.uint8)
NOWHERE = Detection(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.9)


@pytest.fixture(autouse=True)
def usual_light(request):
    """Noise is in no light that faces are seen in; it counts as usual here, where a test does not ask for more."""
    with pytest.MonkeyPatch.context() as patched:
        if "unusual_light" not in request.fixturenames:
            patched.setattr("videoclr.light._map_of", lambda crop: (np.ones(3, np.float32), np.zeros(3, np.float32)))
        yield


@pytest.fixture
def unusual_light():
    """A dark and pale picture `(3, SIZE, SIZE)`, and one in the same light beside it."""
    return 0.2 * picture(0) - 0.4, 0.2 * picture(1) - 0.4


@pytest.fixture(scope="module")
def networks():
    """Random networks whose zero-initialised layers say something too."""
    torch.manual_seed(0)
    nets = ClrNetworks().requires_grad_(False).eval()
    for module in nets.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02)
    nets.decoder.out[1].weight.mul_(4)
    return nets


def picture(seed):
    """`(3, SIZE, SIZE)` in [-1, 1], smooth enough to look like a crop."""
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")[0]


def crop(seed=0, track=0, frame=0, identity=None):
    return FaceCrop(TrackedFace(track, NOWHERE), Frame.from_image(PICTURE, frame), picture(seed), np.eye(2, 3), identity)


def made(networks, **settings):
    """Few steps from a fixed start, high enough for guidance to act and for noise to show whatever the dial says."""
    return ClrRestorer(**{"steps": 2, "start": 0.5, "size": SIZE, "networks": networks, **settings})


def differ(a, b):
    return not torch.allclose(a, b, atol=1e-3)


def decoded(networks):
    """The calls of the decoder: its latent, and whether a gradient was asked for."""
    calls = []
    hook = networks.decoder.register_forward_pre_hook(
        lambda module, inputs: calls.append((inputs[0].detach().clone(), torch.is_grad_enabled()))
    )
    return calls, hook


def test_crops_in_unusual_light_are_restored_in_usual_light_and_come_back(networks, unusual_light):
    part, stack = made(networks), torch.stack(unusual_light)
    lit = usual(stack)
    assert lit.moved == (0, 1)
    expected = lit.returned(part.restore_stills(lit.images))
    assert torch.allclose(part.restore_stills(stack), expected, atol=1e-4)
    assert torch.allclose(part.recover(stack), lit.returned(part.recover(lit.images)), atol=1e-4)
    crops = [replace(crop(seed), image=one) for seed, one in enumerate(unusual_light)]
    assert torch.allclose(part.restore(crops, {}), expected, atol=1e-4)
    assert differ(lit.returned(part.restore_stills(lit.images)), part.restore_stills(lit.images))


def detailing(networks, **settings):
    """A restorer with a network of close-ups that has something to say."""
    torch.manual_seed(5)
    nets = copy.copy(networks)
    nets._modules = dict(networks._modules)
    nets.closeup = CloseUp((8, 16)).requires_grad_(False).eval()
    nn.init.normal_(nets.closeup.out[1].weight, std=0.1)
    return made(nets, **settings)


def closeups(count=2):
    """Crops at twice the side, and what was made of them at the side itself."""
    large = torch.stack([nn.functional.interpolate(picture(n)[None], scale_factor=2, mode="bilinear")[0] for n in range(count)])
    return large, torch.stack([picture(n + 7) for n in range(count)])


def test_along_a_track_all_frames_are_seen_in_one_light_wherever_spans_begin(networks, unusual_light):
    dark, _ = unusual_light
    crops = [replace(crop(frame=n), image=((1 + 0.04 * (-1) ** n) * dark).clamp(-1, 1)) for n in range(9)]
    part, memory = made(networks, anchors=4), {}
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clr, "usual", lambda images, lights: seen.append(lights) or usual(images, lights))
        part.restore_span(crops[:5], crops[5:8], True, memory, 2)
        first = dict(memory[0]["past"].lights)
        part.restore_span(crops[5:], [], False, memory, 2)
    assert set(first) == {4, 5, 6, 7}
    lights = [light for lights in seen for light in lights]
    own = [light_of(one.image).means[0] for one in crops]
    steady = [seen[0][n].means[0] for n in range(5)]
    assert max(np.abs(np.diff(steady[2:]))) < 0.5 * max(np.abs(np.diff(own)))
    assert len(lights) == 5 + 3 + 4
    # What was ahead of the first span is seen in the second in the light that it was seen in then.
    assert all(light is first[place] for light, place in zip(seen[4][:3], (5, 6, 7), strict=True))


def test_close_ups_get_detail_by_a_network_of_their_own_or_not_at_all(networks):
    part, (large, restored) = detailing(networks), closeups()
    assert part.larger == 2 * SIZE and isinstance(part, EnlargingRestorer)
    out = part.enlarge(large, restored)
    assert out.shape == large.shape and differ(out, enlarged(restored, large.shape[-2:]))
    assert torch.allclose(torch.cat([part.enlarge(large[n : n + 1], restored[n : n + 1]) for n in range(2)]), out, atol=1e-5)
    assert differ(part.enlarge(large.flip(0), restored), out), "it looks at what the frame shows"
    assert made(networks).larger is None and detailing(networks, closeups=False).larger is None


def test_the_weave_of_close_ups_is_taken_out_unless_it_is_to_stay(networks, monkeypatch):
    monkeypatch.setattr(clr, "_LEAST_DRAWN", 1.0)
    large, restored = closeups()
    woven, plain = (detailing(networks, unweave=unweave).enlarge(large, restored) for unweave in (False, None))
    near = enlarged(restored, large.shape[-2:]).clamp(-1, 1)
    assert differ(woven, plain) and torch.allclose(plain, unwoven(woven.clamp(-1, 1), near), atol=1e-5)


def test_of_a_good_close_up_half_of_what_its_network_makes_is_shown_unless_it_is_noisy(networks, monkeypatch):
    part, (large, _) = detailing(networks), closeups()
    small = nn.functional.avg_pool2d(large, 2)
    large[..., ::2, ::2] = (large[..., ::2, ::2] + 0.004).clamp(-1, 1)  # finer than the small crop shows
    kept = large + enlarged(small - nn.functional.avg_pool2d(large, 2), large.shape[-2:])
    shown = part.enlarge(large, small)
    monkeypatch.setattr(clr, "_LEAST_DRAWN", 1.0)
    whole = part.enlarge(large, small)
    assert differ(whole, kept) and torch.allclose(shown, (kept + whole) / 2, atol=1e-5)
    monkeypatch.setattr(clr, "_LEAST_DRAWN", 0.5)
    changed = (small + torch.randn(small.shape, generator=torch.Generator().manual_seed(4))).clamp(-1, 1)
    bad = part.enlarge(large, changed)
    monkeypatch.setattr(clr, "_LEAST_DRAWN", 1.0)
    assert torch.equal(bad, part.enlarge(large, changed)), "of a bad one all of it"
    monkeypatch.setattr(clr, "_LEAST_DRAWN", 0.0)
    noisy = (large + 0.2 * torch.randn(large.shape, generator=torch.Generator().manual_seed(5))).clamp(-1, 1)
    assert differ(part.enlarge(noisy, small), noisy + enlarged(small - nn.functional.avg_pool2d(noisy, 2), large.shape[-2:]))


def test_a_network_of_close_ups_keeps_the_crops_own_detail_as_far_as_it_says():
    large, restored = closeups()
    large[..., ::2, ::2] += 0.3
    near, network = enlarged(restored, large.shape[-2:]), CloseUp()
    detail = large - enlarged(nn.functional.avg_pool2d(large, 2), large.shape[-2:])
    assert (network(large, near) - near - detail * torch.sigmoid(torch.tensor(-3.0))).abs().max() < 1e-6
    network.out[1].bias.data[12:] = 30.0
    assert (network(large, near) - near - detail).abs().max() < 1e-6
    odd = torch.rand(1, 3, 50, 42)
    assert network(odd, odd).shape == odd.shape


def test_close_ups_in_unusual_light_are_detailed_in_usual_light_and_come_back(networks, unusual_light):
    part, (large, restored) = detailing(networks), closeups()
    large, restored = 0.2 * large - 0.4, 0.1 * restored - 0.4
    lit = usual(large)
    assert lit.moved == (0, 1)
    shown = lit.images + (enlarged(restored, large.shape[-2:]) - large) * lit.gain
    assert shown.abs().max() < 1
    expected = lit.returned(unwoven(part.networks.closeup(lit.images, shown).clamp(-1, 1), shown))
    assert torch.allclose(part.enlarge(large, restored), expected, atol=1e-4)


def test_noise_in_every_pixel_is_no_detail_of_a_close_up(networks):
    part, (large, restored) = detailing(networks, unweave=False), closeups()
    part.networks.closeup = CloseUp().requires_grad_(False).eval()
    part.networks.closeup.out[1].bias.data[12:] = 30.0  # all that the crop shows is detail
    noise = 0.2 * torch.randn(large.shape, generator=torch.Generator().manual_seed(3))
    calm, noisy = part.enlarge(large, restored), part.enlarge((large + noise).clamp(-1, 1), restored)
    assert (noisy - calm).std() < 0.25 * noise.std(), "the network's detail alone would be 0.8 of it"
    fine = large + 0.002 * noise
    untouched = part.networks.closeup(fine, enlarged(restored, large.shape[-2:]).clamp(-1, 1))
    assert torch.allclose(part.enlarge(fine, restored), untouched, atol=1e-5), "a codec's noise is none of a camera"


def test_noise_in_every_pixel_is_calmed_before_the_networks_see_it(networks):
    part, noise = made(networks), torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    noisy = (picture(0) + 0.3 * noise).clamp(-1, 1)[None]
    calmer = calm(noisy)
    assert differ(calmer, noisy)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clr, "calm", lambda images: images)
        expected = part.restore_stills(calmer)
        assert differ(part.restore_stills(noisy), expected)
    assert torch.allclose(part.restore_stills(noisy), expected, atol=1e-4)
    assert torch.allclose(part.restore([replace(crop(0), image=noisy[0])], {}), expected, atol=1e-4)
    seen = []
    hook = networks.irn.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    part.recover(noisy)
    hook.remove()
    assert torch.allclose(seen[0], calmer, atol=1e-6)
    span = _Span(made(networks, anchors=2), [replace(crop(frame=0), image=noisy[0])], [], None, 1, 0)
    assert torch.allclose(span.seen, calmer, atol=1e-5)


def weighing(networks, odds, **settings):
    """A restorer whose network of shares says the same everywhere."""
    nets = copy.copy(networks)
    nets._modules = dict(networks._modules)
    nets.shares = Shares().requires_grad_(False).eval()
    for head in nets.shares.heads:
        nn.init.constant_(head.bias, odds)
    return made(nets, **settings)


def test_of_stills_as_much_is_kept_as_the_network_of_shares_says(networks):
    y = torch.stack([picture(n) for n in range(3)])
    y[2] = (y[2] + 0.3 * torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)
    whole, came = made(networks).restore_stills(y), calm(y)
    assert differ(whole, came) and differ(came[2], y[2])
    for odds, share in ((30.0, 1.0), (0.0, 0.5), (-30.0, 0.0)):
        expected = whole + share * (came - whole)
        assert torch.allclose(weighing(networks, odds).restore_stills(y), expected, atol=2e-3)
        crops = [replace(crop(n, track=n), image=one) for n, one in enumerate(y)]
        assert torch.allclose(weighing(networks, odds).restore(crops, {}), expected, atol=2e-3)


def test_of_tracks_what_is_kept_is_what_their_frames_show_together(networks):
    noise = torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    crops = [replace(crop(frame=n), image=(picture(0) + 0.05 * noise[n]).clamp(-1, 1)) for n in range(5)]
    memory = {}
    whole = made(networks, anchors=4).restore_span(crops, [], True, memory, 2)
    seen = torch.stack(made(networks).seen(crops, memory))
    assert differ(seen[2], crops[2].image) and differ(whole, seen)
    for odds, share in ((30.0, 1.0), (0.0, 0.5), (-30.0, 0.0)):
        shown = weighing(networks, odds, anchors=4).restore_span(crops, [], True, {}, 2)
        assert torch.allclose(shown, whole + share * (seen - whole), atol=2e-3)


def test_how_wrong_frames_are_is_told_by_the_first_one_and_then_by_what_was_recovered(networks, monkeypatch):
    told, means = [], clr.means_along

    def recorded(values, places, behind, motions, tolerances=None, worth=None, errors=None):
        told.append(errors)
        return means(values, places, behind, motions, tolerances, worth, errors)

    monkeypatch.setattr(clr, "means_along", recorded)
    crops, memory = [crop(frame=n) for n in range(9)], {}
    part = made(networks, anchors=4)
    part.restore_span(crops[:5], crops[5:8], True, memory, 2)
    past = memory[0]["past"]
    alone = float(clr.changed(picture(0)[None], networks.irn(picture(0)[None]).clamp(-1, 1)))
    assert set(told[0]) == set(range(8)) and list(told[0].values()) == pytest.approx([alone] * 8, rel=1e-3)
    assert set(told[1]) >= {*range(5)}, "what was recovered has an error of its own"
    part.restore_span(crops[5:], [], False, memory, 2)
    assert set(told[2].values()) == {past.changed[max(past.changed)]}


def test_along_a_track_in_unusual_light_the_same(networks, unusual_light):
    part, stack = made(networks, anchors=4), torch.stack(unusual_light)
    lit, memory, plain = usual(stack), {}, {}
    crops = [replace(crop(frame=number), image=one) for number, one in enumerate(unusual_light)]
    bright = [replace(one, image=image) for one, image in zip(crops, lit.images, strict=True)]
    expected = lit.returned(part.restore_span(bright, [], True, plain, 2))
    assert torch.allclose(part.restore_span(crops, [], True, memory, 2), expected, atol=1e-4)
    seen = torch.stack(part.seen(crops, memory))
    assert torch.allclose(seen, lit.returned(torch.stack(part.seen(bright, plain))), atol=1e-4)
    assert (seen - stack).abs().max() < 0.3


def test_restored_crops_are_float_pictures_within_the_range(networks):
    out = made(networks).restore([crop(0), crop(1, track=1)], {})
    assert out.shape == (2, 3, SIZE, SIZE) and out.dtype == torch.float32
    assert out.device.type == "cpu" and not out.requires_grad and not out.is_inference()
    assert differ(out[0], picture(0)) and differ(out[0], out[1])
    bias = networks.irn.out[1].bias
    kept = bias.clone()
    bias.fill_(30.0)
    try:
        white = made(networks, guidance=0.0).restore([crop()], {})
        assert white.max() == 1 and white.mean() > 0.5
    finally:
        bias.copy_(kept)


def test_what_diffusion_leaves_alone_is_the_recovered_face_itself(networks):
    part = made(networks, start=0.0, fidelity=1.0, guidance=0.0)
    part.fusion = 0.0
    y = picture(0)[None]
    assert torch.allclose(part.restore_stills(y), part.recover(y), atol=1e-5)


@pytest.mark.parametrize("guidance", [0.0, 0.3])
def test_the_seed_alone_decides(networks, guidance):
    first, again = (made(networks, seed=3, guidance=guidance).restore([crop()], {}) for _ in range(2))
    assert torch.equal(first, again)
    assert differ(first, made(networks, seed=4, guidance=guidance).restore([crop()], {}))


@pytest.mark.parametrize(("guidance", "tolerance"), [(0.0, 1e-5), (0.3, 1 / 255)])
def test_neither_the_batch_nor_the_order_in_it_changes_a_face(networks, guidance, tolerance):
    # A convolution sums in another order for another batch. Guidance normalises its gradient, so random networks make
    # more of that rounding; the promise is half a step of eight bits.
    aim = nn.functional.normalize(torch.randn(128, generator=torch.Generator().manual_seed(1)), dim=0)
    crops = [crop(0, track=5, frame=2), crop(1, track=1, identity=aim), crop(2, track=9, frame=7)]
    restorer = made(networks, guidance=guidance)
    together = restorer.restore(crops, {})
    alone = torch.cat([restorer.restore([c], {}) for c in crops])
    assert torch.allclose(together, alone, atol=tolerance)
    backwards = restorer.restore(crops[::-1], {}).flip(0)
    assert torch.allclose(together, backwards, atol=tolerance)


def test_noise_belongs_to_the_track_and_is_named_by_its_first_frame(networks):
    restorer, memory = made(networks), {}
    first = restorer.restore([crop(track=7, frame=3)], memory)
    later = restorer.restore([crop(track=7, frame=9)], memory)
    assert memory[7]["first"] == 3
    assert torch.equal(first, later)
    other = restorer.restore([crop(track=8, frame=9)], memory)
    assert memory[8]["first"] == 9 and memory[7]["first"] == 3
    assert differ(first, other)
    assert torch.equal(other, restorer.restore([crop(track=7, frame=9)], {}))  # memory is the caller's, none is inside


def test_a_memory_that_was_kept_goes_on_with_its_noise(networks):
    """Resuming hands the memory of the shots before to a new restorer."""
    memory = {}
    first = made(networks).restore([crop(track=2, frame=11)], memory)
    assert torch.equal(first, made(networks).restore([crop(track=2, frame=40)], dict(memory)))


def test_guidance_off_costs_no_gradient_and_guidance_on_is_spent_before_what_is_shown_is_decoded(networks):
    for guidance, wanted in ((0.0, [False, False]), (0.3, [True, True, False, False])):
        calls, hook = decoded(networks)
        made(networks, guidance=guidance).restore([crop()], {})
        hook.remove()
        assert [graded for _, graded in calls] == wanted


def test_guidance_moves_towards_the_identity_that_the_crop_names(trained, monkeypatch):
    monkeypatch.setattr(clr, "degradation", lambda y, _: torch.ones(len(y), 1, 1, 1))  # identity was lost
    networks, recognizer = trained, trained.recognizer
    anna, bert = recognizer.embed(torch.stack([picture(21), picture(22)]))

    def restored(identity, guidance):
        restorer = made(networks, steps=1, fidelity=0.0, guidance=guidance)
        return restorer.restore([crop(identity=identity)], {})

    plain = restored(anna, 0.0)
    assert torch.equal(plain, restored(bert, 0.0))
    for aim in (anna, bert):
        near = recognizer.embed(restored(aim, 0.05))[0] @ aim
        assert near > recognizer.embed(plain)[0] @ aim
    assert not torch.allclose(restored(anna, 0.05), restored(bert, 0.05), atol=1e-5)


def test_guidance_leaves_alone_what_the_mask_closes(networks):
    bias = networks.mask.out.bias
    kept = bias.clone()
    bias.fill_(-200.0)
    try:
        assert torch.equal(made(networks, guidance=0.5).restore([crop()], {}), made(networks, guidance=0.0).restore([crop()], {}))
    finally:
        bias.copy_(kept)


def test_an_identity_is_aimed_at_whatever_its_length(networks):
    aim = torch.randn(128, generator=torch.Generator().manual_seed(1))
    restorer = made(networks, guidance=0.3)
    short, long = (restorer.restore([crop(identity=s * aim)], {}) for s in (0.1, 10.0))
    assert torch.allclose(short, long, atol=1e-5)


def test_quantising_decodes_codes_and_not_quantising_does_not(networks):
    distances = {}
    for quantise in (True, False):
        calls, hook = decoded(networks)
        made(networks, quantise=quantise, guidance=0.0).restore([crop()], {})
        hook.remove()
        groups = calls[-1][0].chunk(networks.codebook.groups, dim=1)
        flats = [g.permute(0, 2, 3, 1).reshape(-1, g.shape[1]) for g in groups]
        near = [torch.cdist(f, c).min(1).values for f, c in zip(flats, networks.codebook.codes, strict=True)]
        distances[quantise] = torch.cat(near).max().item()
    assert distances[True] < 1e-3 < 0.02 < distances[False]


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_callers_gradient_mode_changes_nothing(networks, mode):
    restorer, crops = made(networks, guidance=0.3), [crop(), crop(1, track=1)]
    plain = restorer.restore(crops, {})
    with mode():
        assert torch.equal(restorer.restore(crops, {}), plain)


def test_an_identity_made_in_inference_mode_can_be_aimed_at(networks):
    with torch.inference_mode():
        aim = networks.recognizer.embed(picture(21)[None])[0]
    out = made(networks, guidance=0.3).restore([crop(identity=aim)], {})
    assert torch.equal(out, made(networks, guidance=0.3).restore([crop(identity=aim.clone())], {}))


def test_fidelity_lowers_the_start_strengthens_guidance_and_weakens_fusion(networks):
    low, high = (made(networks, fidelity=f, start=None) for f in (0.0, 1.0))
    assert low.start > high.start > 0 and 0 < low.guidance < high.guidance and 0 <= high.fusion < low.fusion <= 1
    strengths = []
    hook = networks.decoder.fusion.register_forward_pre_hook(lambda module, inputs: strengths.append(inputs[2]))
    for restorer in (low, high):
        restorer.restore([crop()], {})
    hook.remove()
    shown = {float(torch.as_tensor(strength).max()) for strength in strengths}
    assert min(shown) >= 0 and max(shown) <= low.fusion
    assert float(strengths[-1].max()) < float(strengths[0].max())
    assert made(networks, start=0.9, guidance=0.01).start == 0.9


def test_texture_is_added_where_the_input_shows_something(networks):
    restorer = made(networks, start=None)
    none, half, all_of_it = (float(restorer.texture(torch.full((1, 1, 1, 1), share))) for share in (0.0, 0.5, 1.0))
    assert restorer.fusion == pytest.approx(none) and none > half > all_of_it > 0


def test_more_steps_are_more_evaluations_of_the_denoiser(networks):
    for steps in (1, 3):
        calls = []
        hook = networks.denoiser.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        made(networks, steps=steps, guidance=0.0).restore([crop()], {})
        hook.remove()
        assert len(calls) == steps


def test_stills_are_aimed_at_themselves_and_the_irn_answers_alone(networks):
    y, restorer = torch.stack([picture(0), picture(1)]), made(networks, guidance=0.3)
    stills = restorer.restore_stills(y)
    tracks = [crop(0, track=0, frame=0), crop(1, track=1, frame=0)]
    assert torch.allclose(stills, restorer.restore(tracks, {}), atol=1e-4)
    assert torch.equal(restorer.recover(y), networks.irn(y).clamp(-1, 1))


def test_stills_come_out_as_alone(networks):
    y = torch.stack([picture(0), picture(1)])
    together, alone = [], []
    for restorer in (made(networks, guidance=0.0), made(networks, guidance=0.3)):
        together.append(restorer.restore_stills(y))
        alone.append(torch.cat([restorer.restore_stills(one[None]) for one in y]))
    assert torch.allclose(together[0], alone[0], atol=1e-4)
    # A gradient has steps: where rounding turns a unit off, random networks move by 2e-4 (as they do on some processors).
    assert torch.allclose(together[1], alone[1], atol=1 / 255)
    assert (together[1] - alone[1]).abs().mean() < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"fidelity": -0.1},
        {"fidelity": 1.1},
        {"fidelity": float("nan")},
        {"start": float("nan")},
        {"guidance": float("nan")},
        {"guidance": float("inf")},
        {"guidance": -1.0},
        {"anchors": float("nan")},
        {"refine": 0.5},
        {"sharpen": -0.1},
        {"sharpen": float("nan")},
        {"steps": 0},
        {"steps": float("nan")},
        {"size": 66},
        {"size": 64.0},
        {"size": 4096},
        {"networks": 1},
    ],
)
def test_a_setting_outside_its_range_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        ClrRestorer(**settings)  # before any weights are looked for


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sharpen": 3}, "sharpen 3: expected 0 to 2"),
        ({"size": 100}, "size 100: expected 64 to 1024 by eights"),
        ({"passes": 3}, "passes 3: expected 1 or 2"),
        ({"steps": 1.5}, "steps 1.5: expected a whole number"),
        ({"start": "soon"}, "start 'soon': expected 0 to 1, or auto"),
    ],
)
def test_a_setting_outside_its_range_is_told_alone_and_with_what_it_must_be(settings, told):
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        ClrRestorer(**settings)


def test_an_unknown_solver_is_refused(networks):
    with pytest.raises(ValueError, match="euler"):
        made(networks, solver="euler", guidance=0.0).restore([crop()], {})


def test_networks_of_a_folder_without_runs_are_whole_and_start_the_condition_at_the_encoder(tmp_path):
    networks = ClrNetworks.of_runs(tmp_path)
    for own, other in zip(networks.condition.parameters(), networks.encoder.parameters(), strict=True):
        assert torch.equal(own, other)
    assert not networks.training and not any(p.requires_grad for p in networks.parameters())


def test_one_step_is_the_students_and_several_are_the_denoisers(networks):
    y = picture(0)[None]
    plain, several, guided = (made(networks, **how).restore_stills(y) for how in ({"steps": 1, "guidance": 0.0}, {}, {"steps": 1}))
    networks.student = copy.deepcopy(networks.denoiser)
    try:
        assert torch.equal(made(networks, steps=1).restore_stills(y), plain)  # unguided
        nn.init.normal_(networks.student.out[-1].weight, std=0.5)
        assert differ(made(networks, steps=1).restore_stills(y), plain)
        assert torch.equal(made(networks).restore_stills(y), several)
    finally:
        networks.student = None
    assert torch.equal(made(networks, steps=1).restore_stills(y), guided)


@pytest.fixture(scope="module")
def trained():
    """The networks that ship: random ones hardly look at their input."""
    return ClrNetworks.embedded()


class Everywhere:
    def mask(self, crops, images):
        return images.new_ones((len(images), 1, *images.shape[2:]))


def clip(count, shot=0, start=0, noise=0.0, shift=0.0, index=0):
    """Frames with one face: a picture that moves to the right by `shift` px a frame, with noise of its own in every frame."""
    wide = nn.functional.interpolate(picture(3 + shot)[None], scale_factor=2, mode="bilinear")[0]
    out = []
    for step in range(count):
        frame = Frame.from_image(PICTURE, index + step).in_shot(shot, start)
        image = wide[:, 32 : 32 + SIZE, 32 - round(step * shift) :][..., :SIZE].clone()
        image += noise * torch.randn(image.shape, generator=torch.Generator().manual_seed(99 * shot + step))
        face = FaceCrop(TrackedFace(shot, NOWHERE), frame, image.clamp(-1, 1), np.eye(2, 3))
        out.append(Faces(frame, (face,)))
    return out


def along(restorer, frames, **options):
    return torch.stack([one.faces[0].image for one in restore(frames, restorer, Everywhere(), **options)])


def evaluations(networks, restorer, frames):
    calls = []
    hook = networks.denoiser.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    along(restorer, frames)
    hook.remove()
    return sum(calls)


def test_frames_between_anchors_cost_a_fifth_of_the_evaluations(networks):
    frames = clip(17)
    full = evaluations(networks, made(networks, steps=3, guidance=0.0), frames)
    warm, again = (evaluations(networks, made(networks, steps=3, guidance=0.0, anchors=8, refine=n), frames) for n in (0, 4))
    assert full == 3 * 17
    assert warm == 3 * 3  # anchors 0, 8 and 16 in full
    assert again == warm + 2 * 1  # 4 and 12 once
    assert warm / full <= 0.2


@pytest.mark.parametrize("seed", [70, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (71, 72))])
def test_a_frame_whose_motion_is_not_trusted_becomes_an_anchor(networks, seed):
    frames = clip(9)
    other = clip(1, shot=0)[0].faces[0]
    noise = torch.rand((3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed))
    strange = FaceCrop(other.face, frames[3].frame, noise * 2 - 1, other.matrix)
    frames[3] = Faces(frames[3].frame, (strange,))
    restorer = made(networks, steps=3, guidance=0.0, anchors=8)
    assert evaluations(networks, restorer, frames) > evaluations(networks, restorer, clip(9))


def test_what_is_kept_of_the_crops_behind_suffices_for_the_motion(networks):
    restorer, frames = made(networks, anchors=2, steps=1, guidance=0.0), clip(24, noise=0.05, shift=1.0)
    memory, crops = {}, [one.faces[0] for one in frames]
    for start, stop in [(0, 3), *((n, n + 2) for n in range(3, 19, 2))]:
        restorer.restore_span(crops[start:stop], crops[stop : stop + restorer.reach], start == 0, memory, 4)
    past = memory[0]["past"]
    assert min(past.matrices) == min(min(pair) for pair in past.pairs) == past.end - BEHIND
    span = _Span(restorer, crops[19:21], crops[21:24], past, 4, 0)
    at_once = _Span(restorer, crops, [], None, 4, 0)
    for pair in ((18, 19), (20, 19), (22, 23)):
        assert np.abs(span.motions.flow(*pair) - at_once.motions.flow(*pair)).mean() < 0.1  # of a motion of 1


@pytest.mark.parametrize("guidance", [0.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_neither_the_batch_nor_where_the_frames_stop_coming_changes_a_track(networks, guidance):
    restorer, frames = made(networks, anchors=4, guidance=guidance), clip(7, noise=0.05)
    whole = along(restorer, frames, batch=16)
    for batch in (1, 4):
        assert torch.allclose(along(restorer, frames, batch=batch), whole, atol=1 / 255)
    memory = {}
    crops = [one.faces[0] for one in frames]
    spans = [(0, 5), (5, 7)]
    parts = [made(networks, anchors=4, guidance=guidance) for _ in spans]
    pieces = [
        part.restore_span(crops[a:b], crops[b : b + part.reach], a == 0, memory, 4)
        for part, (a, b) in zip(parts, spans, strict=True)
    ]
    assert torch.allclose(torch.cat(pieces), whole, atol=1 / 255)


class Weaving(nn.Module):
    """Recovers what shows little by a weave that was not there, as large as the other is left alone."""

    def seen(self, y):
        return [y]

    def decoded(self, y, seen):
        return self(y)

    def forward(self, y):
        rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        weave = 0.15 * (1.0 - 2.0 * ((rows + columns) % 2))
        poor = y.std((1, 2, 3), keepdim=True) < GREY
        return y + poor * weave


GREY = 0.2
"""Standard deviation under which a picture shows little."""


def fading(count, poor):
    """A clip whose pictures have hardly any contrast from the frame `poor` on."""
    out = []
    for number, faces in enumerate(clip(count)):
        (face,) = faces.faces
        out.append(FaceCrop(face.face, face.frame, face.image if number < poor else 0.4 * face.image, face.matrix))
    return out


def test_what_good_frames_showed_of_a_face_outlasts_worse_ones(networks, monkeypatch):
    monkeypatch.setitem(networks._modules, "irn", Weaving())
    monkeypatch.setattr(clr, "ALIKE", 2.0)  # the contrast alone would tell them apart
    part = made(networks, start=0.0, guidance=0.0, fidelity=1.0, anchors=8)
    part.fusion = 0.0
    crops = fading(12, 6)

    def woven():
        memory, out = {}, []
        for first, last in ((0, 9), (9, 12)):
            out.append(part.restore_span(crops[first:last], crops[last : last + part.reach], first == 0, memory, 4))
        late = torch.cat(out)[8:]
        return float((late[..., 1:, :] - late[..., :-1, :]).abs().mean())

    kept = woven()
    monkeypatch.setattr(clr, "_FADES", 0)
    assert kept < 0.5 * woven()


def test_what_one_frame_of_a_good_film_shows_is_kept_and_what_is_guessed_of_a_bad_one_evened_out(networks, monkeypatch):
    monkeypatch.setitem(networks._modules, "irn", Weaving())
    part = made(networks, start=0.0, guidance=0.0, fidelity=1.0, anchors=8)
    part.fusion = 0.0
    crops = [one.faces[0] for one in clip(9)]
    image = crops[4].image.clone()
    image[:, 30:46, 2:14] += 0.15  # on a cheek
    crops[4] = FaceCrop(crops[4].face, crops[4].frame, image, crops[4].matrix)

    def shown(size):
        monkeypatch.setattr(clr, "changed", lambda y, _: torch.full((len(y), 1, 1, 1), size))
        out = part.restore_span(crops, [], True, {}, 4)
        return float((out[4] - out[3])[:, 36:40, 6:10].mean())

    assert shown(0.01) > 0.13 and shown(0.08) < 0.09


@pytest.fixture
def referring(networks, monkeypatch):
    """The networks with a fusion of references that says something, and a recovery that has the more to do, the less there is."""
    torch.manual_seed(1)
    networks.reference = ReferenceFusion().requires_grad_(False).eval()
    for joint in networks.reference.joints:
        nn.init.normal_(joint.conv2.weight, std=0.05)
    monkeypatch.setattr(clr, "changed", lambda y, _: torch.where(y.std((1, 2, 3), keepdim=True) < GREY, 0.2, 0.05))
    monkeypatch.setattr(clr, "contrast", lambda recovered: [0.28] * len(recovered))
    yield networks
    networks.reference = None


def test_frames_that_show_little_are_recovered_beside_the_best_one_before_them(referring, monkeypatch):
    part, crops, calls = made(referring, anchors=4, guidance=0.0), fading(10, 5), []
    laid = clr.laid_over
    monkeypatch.setattr(clr, "laid_over", lambda own, view: calls.append((own, view)) or laid(own, view))

    def spans():
        memory, found = {}, []
        for first, last in ((0, 5), (5, 9), (9, 10)):
            found.append(part.restore_span(crops[first:last], crops[last : last + part.reach], first == 0, memory, 4))
        return torch.cat(found)

    beside = spans()
    assert len(calls) == 5 and all(np.array_equal(view, calls[0][1]) for _, view in calls)
    assert calls[0][1].std() > 2 * calls[0][0].std()
    referring.reference = None
    alone = spans()
    assert torch.allclose(beside[:2], alone[:2], atol=1e-5) and differ(beside[6:], alone[6:])


def test_a_photograph_stands_beside_the_crops_that_show_less_than_it(referring, monkeypatch):
    used = []
    laid = clr.laid_over
    monkeypatch.setattr(clr, "laid_over", lambda own, view: used.append(torch.from_numpy(view).permute(2, 0, 1)) or laid(own, view))
    photograph = picture(31)
    good, poor = (replace(fading(1, poor)[0], photograph=photograph) for poor in (1, 0))
    part = made(referring, guidance=0.0)
    beside = part.restore([good, poor], {})
    assert len(used) == 1 and torch.equal(used[0], photograph)
    alone = part.restore([replace(one, photograph=None) for one in (good, poor)], {})
    assert torch.allclose(beside[0], alone[0], atol=1e-5) and differ(beside[1], alone[1])
    assert torch.allclose(part.restore_stills(poor.image[None], photographs=[photograph]), part.restore([poor], {}), atol=1e-4)
    used.clear()
    along_a_track = made(referring, anchors=4)
    crops = [replace(one, photograph=photograph) for one in fading(6, 0)]
    along_a_track.restore_span(crops[:5], crops[5:], True, {}, 4)
    assert len(used) == 6 and all(torch.equal(one, photograph) for one in used)  # nothing in the film is better
    used.clear()
    crops = [replace(one, photograph=photograph) for one in fading(6, 3)]
    along_a_track.restore_span(crops[:5], crops[5:], True, {}, 4)
    assert used and not any(torch.equal(one, photograph) for one in used)  # the film knows better


def test_in_soft_light_a_photograph_is_worth_more(referring, monkeypatch):
    used = []
    monkeypatch.setattr(clr, "laid_over", lambda own, view: used.append(view) or view)
    poor = replace(fading(1, 0)[0], photograph=picture(31))
    for light, expected in ((0.8, 0), (0.3, 1)):
        used.clear()
        monkeypatch.setattr(clr, "contrast", lambda recovered, light=light: [light] * len(recovered))
        made(referring, guidance=0.0).restore([poor], {})
        assert len(used) == expected


def test_contrast_is_that_of_the_face_and_not_of_what_lies_around():
    flat = torch.zeros(1, 3, 64, 64)
    flat[:, :, :16] = 1
    face = torch.zeros(1, 3, 64, 64)
    face[:, :, 20:50:2, 16:48] = 1
    assert clr.contrast(torch.cat([flat, face])) == pytest.approx([0.0, 0.5], abs=0.02)
    assert clr.contrast(0.5 * face) == pytest.approx([0.25], abs=0.01)


def test_the_best_view_of_an_earlier_track_is_recovered_and_stands_beside_what_shows_less(referring, monkeypatch):
    used = []
    laid = clr.laid_over
    monkeypatch.setattr(clr, "laid_over", lambda own, view: used.append(view) or laid(own, view))
    earlier = picture(31)
    good, poor = (replace(fading(1, count)[0], earlier=earlier) for count in (1, 0))
    part = made(referring, guidance=0.0)
    beside = part.restore([good, poor, poor], {})
    recovered = part.recover(earlier[None])[0].permute(1, 2, 0).numpy()
    assert len(used) == 2 and all(np.abs(view - recovered).max() < 1e-4 for view in used)
    alone = part.restore([replace(one, earlier=None) for one in (good, poor)], {})
    assert torch.allclose(beside[0], alone[0], atol=1e-5) and differ(beside[1], alone[1])
    used.clear()
    part.restore([replace(poor, earlier=0.3 * earlier)], {})
    assert not used  # it shows no more
    photograph = picture(32)
    part.restore([replace(poor, earlier=one, photograph=photograph) for one in (earlier, 0.3 * earlier)], {})
    assert np.abs(used[0] - recovered).max() < 1e-4 and np.array_equal(used[1], photograph.permute(1, 2, 0))
    used.clear()
    crops = [replace(one, earlier=earlier) for one in fading(6, 0)]
    made(referring, anchors=4).restore_span(crops[:5], crops[5:], True, {}, 4)
    assert len(used) == 6 and all(np.abs(view - recovered).max() < 1e-4 for view in used)


def test_a_reference_is_used_the_more_the_worse_a_frame_is():
    best, low, high = clr._View(np.ones((2, 2, 3), np.float32), 0.1), *clr._WORSE
    shares = [clr._reference(best, None, 0.1 * ratio) for ratio in (0.5, low, (low + high) / 2, high, 2.0)]
    assert shares[:2] == [None, None] and [share for _, share in shares[2:]] == pytest.approx([0.5, 1, 1])
    nearly_clean = clr._View(best.picture, 0.01)
    assert clr._reference(nearly_clean, None, 0.045) is None
    photograph = clr._View(np.zeros((2, 2, 3), np.float32), 0.075)
    assert clr._reference(best, photograph, 0.2)[0].max() == 0  # a photograph is worth more than so bad a view
    assert clr._reference(nearly_clean, photograph, 0.2)[0].max() == 1
    assert clr._reference(None, photograph, 0.06) is None and clr._reference(None, None, 0.2) is None
    alike = clr._View(photograph.picture, 0.095)
    assert clr._reference(best, alike, 0.2)[0].max() == 1  # another scene's view must be the better one


def test_what_a_film_that_comes_into_focus_shows_beside_its_frames_changes_now_and_then(referring, monkeypatch):
    sizes = iter([0.2, *np.geomspace(0.2, 0.1, 12)])  # the first frame by itself, before all
    monkeypatch.setattr(clr, "changed", lambda y, _: torch.tensor([next(sizes) for _ in y])[:, None, None, None])
    views = []
    monkeypatch.setattr(clr, "laid_over", lambda own, view: views.append(view) or view)
    monkeypatch.setattr(clr, "_WORSE", (0.0, 0.1))
    crops = fading(12, 12)
    span = _Span(made(referring, anchors=16), crops, [], None, 12, 0)
    assert len(views) == 11 and 3 <= len({view.tobytes() for view in views}) <= 6
    assert span.best.changed < 0.11


def test_the_frames_that_were_denoised_in_full_are_told(networks):
    restorer, memory = made(networks, anchors=4), {}
    crops = [one.faces[0] for one in clip(7)]
    restorer.restore_span(crops[:5], crops[5:], True, memory, 4)
    assert restorer.full(crops[:5], memory) == [True, False, False, False, True]
    restorer.restore_span(crops[5:], [], False, memory, 4)
    assert restorer.full(crops[5:], memory) == [False, True]


def test_a_shot_restored_alone_is_as_in_its_film(networks):
    restorer = made(networks, anchors=4)
    film = [*clip(2), *clip(3, shot=1, start=2, index=2)]
    alone = along(restorer, clip(3, shot=1))
    assert torch.allclose(along(restorer, film)[2:], alone, atol=1e-5)
    single = made(networks)
    assert torch.allclose(along(single, film)[2:], along(single, clip(3, shot=1)), atol=1e-3)


def test_a_still_face_under_noise_flickers_less_than_frame_by_frame(trained):
    frames = clip(9, noise=0.1)
    made = [ClrRestorer(size=SIZE, networks=trained, anchors=anchors) for anchors in (1, 8)]
    single, anchored = (float(along(restorer, frames).diff(dim=0).pow(2).mean()) for restorer in made)
    assert anchored < 0.4 * single


def test_a_moving_face_takes_its_texture_along(trained):
    frames = clip(9, shift=1.0)
    made = [ClrRestorer(size=SIZE, networks=trained, anchors=anchors) for anchors in (1, 8)]
    single, anchored = (along(restorer, frames)[..., 8:-8, 12:-8] for restorer in made)
    moved = single[4] - single[3]  # what standing still for one frame would cost
    along_with_it = anchored[2:-1, ..., 1:] - anchored[1:-2, ..., :-1]
    assert float(along_with_it.abs().mean()) < 0.5 * float(moved.abs().mean())
    assert float(along_with_it.abs().mean()) < 0.75 * float((single[2:-1, ..., 1:] - single[1:-2, ..., :-1]).abs().mean())
    assert float(anchored.std()) > 0.95 * float(single.std())


def test_a_track_remembers_no_more_than_its_last_anchor_and_what_lies_around(networks):
    restorer, memory = made(networks, anchors=4, guidance=0.0), {}
    crops = [one.faces[0] for one in clip(20)]
    sizes = []
    for start, stop in ((0, 5), (5, 9), (9, 13)):
        restorer.restore_span(crops[start:stop], crops[stop : stop + restorer.reach], start == 0, memory, 4)
        past = memory[0]["past"]
        sizes.append((len(past.inputs), len(past.views)))
        assert past.end == stop - 1
    assert max(a for a, _ in sizes) <= 2 * restorer.reach + 1 and max(b for _, b in sizes) <= 7
    assert sizes[1] == sizes[2]


def test_anchors_below_one_are_refused():
    with pytest.raises(ValueError, match="anchors 0"):
        ClrRestorer(anchors=0)


def test_a_crop_that_the_irn_leaves_alone_gets_nothing_of_diffusion_and_a_degraded_one_all(networks):
    restorer, y = made(networks, start=None), picture(0)[None]
    shares = [float(restorer.share(y, y + change)) for change in (0.0, 0.05, 0.075, 0.1, 0.4)]
    assert shares == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-4)
    assert float(made(networks, start=0.2).share(y, y)) == 1  # a start that was asked for counts in full


@pytest.mark.parametrize("anchors", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_bfloat16_is_near_float32_and_knows_its_exact_self(networks, anchors):
    exact, reduced = (made(networks, precision=p, anchors=anchors, guidance=0.05) for p in ("float32", "bfloat16"))
    crops = [crop(0, frame=f) for f in range(4)]
    if anchors == 1:
        a, b = (part.restore(crops, {}) for part in (exact, reduced))
    else:
        a, b = (part.restore_span(crops, [], True, {}, 2) for part in (exact, reduced))
    assert b.dtype == torch.float32
    assert not torch.equal(a, b) and float((a - b).abs().mean()) < 0.03
    assert exact.exact is None
    assert torch.equal(reduced.exact.restore(crops[:1], {}), exact.restore(crops[:1], {}))
    assert isinstance(reduced, ReducedRestorer)


@pytest.mark.parametrize("anchors", [1, 4])
def test_the_weave_is_taken_out_of_what_was_restored(networks, anchors):
    crops = [crop(n, frame=n) for n in range(4)]

    def restored(crops, memory, **settings):
        part = made(networks, anchors=anchors, **settings)
        out = part.restore(crops, memory) if anchors == 1 else part.restore_span(crops, [], True, memory, 2)
        return out, torch.stack([one.image for one in crops] if anchors == 1 else part.seen(crops, memory))

    before, shown = restored(crops, {}, unweave=False)
    smooth = unwoven(before, shown)
    assert differ(before, smooth)
    assert torch.allclose(restored(crops, {}, unweave=True)[0], smooth, atol=1e-5)
    assert torch.equal(restored(crops, {})[0], before), "a crop as large as in its frame"
    enlarged = [replace(one, matrix=0.5 * np.eye(2, 3)) for one in crops]
    assert torch.allclose(restored(enlarged, {})[0], smooth, atol=1e-5)
    assert torch.equal(restored(enlarged, {}, unweave=False)[0], before)


def test_pictures_of_no_frame_keep_their_weave_unless_told(networks):
    y = torch.stack([picture(0), picture(1)])
    before = made(networks, unweave=False).restore_stills(y)
    assert torch.equal(made(networks).restore_stills(y), before)
    assert torch.allclose(made(networks, unweave=True).restore_stills(y), unwoven(before, y), atol=1e-5)


@pytest.mark.parametrize("anchors", [1, 4])
def test_what_is_restored_may_be_sharpened_by_the_pixels_of_its_frame(networks, anchors):
    fine, coarse = ([replace(crop(n, frame=n), matrix=scale * np.eye(2, 3)) for n in range(4)] for scale in (0.2, 2.0))

    def restored(crops, **settings):
        part = made(networks, anchors=anchors, guidance=0.0, unweave=False, **settings)
        return part.restore(crops, {}) if anchors == 1 else part.restore_span(crops, [], True, {}, 2)

    def energy(pictures, step):
        return float((pictures[..., step:] - pictures[..., :-step]).square().mean())

    plain, a_bit, a_lot = (restored(fine, sharpen=amount) for amount in (0.0, 0.5, 1.0))
    assert torch.equal(plain, restored(fine)) and plain.abs().max() <= 1 and a_lot.abs().max() <= 1
    assert energy(plain, 1) < energy(a_bit, 1) < energy(a_lot, 1)
    wide = restored(coarse, sharpen=1.0)
    assert energy(wide, 4) > energy(a_lot, 4)  # what is finer would not be seen in the frame
    y = picture(0)[None]
    whole = made(networks, sharpen=0.5, unweave=True).restore_stills(y)
    assert torch.equal(made(networks, sharpen=0.5).restore_stills(y), whole), "no weave is sharpened"


def test_an_unknown_precision_is_refused(networks):
    with pytest.raises(ValueError, match="precision 'int8': expected one of float32, bfloat16, float16"):
        made(networks, precision="int8")


class Guess(nn.Module):
    """Says how wrong `z_R` is by the brightness of the crop: nothing where it is dark, a lot where it is bright."""

    def forward(self, z_y, z_r):
        return torch.tensor([0.1 if one.mean() < self.middle else 2.0 for one in z_r])


@pytest.fixture
def guessing(networks):
    """The networks with a start that is predicted: low for `picture(0)`, high for `picture(1)`."""
    networks.start = Guess()
    means = [networks.encoder(networks.irn(picture(n)[None]).clamp(-1, 1)).mean() for n in (0, 1)]
    networks.start.middle = sum(means) / 2
    yield networks, means.index(min(means))
    networks.start = None


def test_a_face_that_needs_no_diffusion_gets_none_and_a_bad_one_starts_higher(guessing):
    networks, good = guessing
    restorer = made(networks, start="auto", guidance=0.0, fidelity=0.0)
    calls = []
    hook = networks.denoiser.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[1]))
    pictures = torch.stack([picture(good), picture(1 - good)])
    out = restorer.restore_stills(pictures)
    hook.remove()
    assert [len(alphas) for alphas in calls] == [1, 1]  # two steps for one of the two faces
    assert float((1 - calls[0]).sqrt()) == pytest.approx(1.5 * restorer.start, abs=0.01)
    assert torch.allclose(out[:1], made(networks, start=0.0, guidance=0.0, fidelity=0.0).restore_stills(pictures[:1]), atol=1e-4)
    alone = torch.cat([restorer.restore_stills(one[None]) for one in pictures])
    assert torch.allclose(out, alone, atol=1e-4)


def test_a_start_that_is_not_finite_is_no_start(guessing, monkeypatch):
    class Lost(nn.Module):
        def forward(self, z_y, z_r):
            return z_y.mean((1, 2, 3)) * torch.nan

    networks, _ = guessing
    monkeypatch.setitem(networks._modules, "start", Lost())
    latent = torch.zeros(1, 6, 16, 16)
    assert made(networks, start="auto").starts(latent, latent) == [0.0]


def test_a_predicted_start_needs_its_weights(networks):
    with pytest.raises(WeightsError, match=r"train_denoiser\.py start"):
        made(networks, start="auto")
    with pytest.raises(ValueError, match="start 'high'"):
        made(networks, start="high")


def test_along_a_track_the_predicted_start_is_one_for_a_span(guessing):
    networks, _ = guessing
    levels = []
    hook = networks.denoiser.register_forward_pre_hook(lambda module, inputs: levels.extend(inputs[1].tolist()))
    along(made(networks, start="auto", steps=1, anchors=4, guidance=0.0), clip(5))
    hook.remove()
    assert len(set(levels)) <= 2  # the anchors', and the lower one of a frame between


def test_along_a_track_the_faces_carry_what_their_neighbours_tell_of_them(networks):
    frames = clip(8, noise=0.1)
    clean = clip(1)[0].faces[0].image
    faces = [one.faces[0] for one in restore(frames, made(networks, anchors=4), Everywhere())]
    left = [float((face.seen - clean).square().mean() / (face.crop.image - clean).square().mean()) for face in faces]
    assert max(left) < 0.4
    assert all(one.faces[0].seen is None for one in restore(frames, made(networks), Everywhere()))


@pytest.mark.parametrize("anchors", [1, 4])
def test_a_second_pass_takes_back_what_the_input_does_not_show_and_tells_where(trained, anchors, monkeypatch):
    high = level_of_noise(0.9)

    def inventing(_, z_t, level, *__):  # something at the top of the face, from the highest start on
        return torch.cat([z_t[:, :, :10] + 6.0 * (level >= high), z_t[:, :, 10:]], dim=2)

    monkeypatch.setattr(clr, "sample", inventing)
    monkeypatch.setattr(clr, "_AGAIN", 0.01)  # it would not clean up noise
    once, twice = (made(trained, anchors=anchors, guidance=0.0, passes=passes, start=0.9) for passes in (1, 2))
    frames = clip(5)
    plain, mended = ([one.faces[0] for one in restore(frames, part, Everywhere())] for part in (once, twice))
    assert all(face.invented is None for face in plain)
    maps = torch.stack([face.invented for face in mended])
    assert maps.shape == (5, 1, SIZE, SIZE) and 0.05 < float(maps.mean()) <= 1
    first, second = (torch.stack([face.image for face in faces]) for faces in (plain, mended))
    assert differ(first, second)
    recovered = made(trained, start=0.0, guidance=0.0, anchors=anchors)
    near = torch.stack([one.faces[0].image for one in restore(frames, recovered, Everywhere())])
    doubted = maps.expand_as(first) > 0.9
    assert (second - near)[doubted].abs().mean() < 0.8 * (first - near)[doubted].abs().mean()
    with pytest.raises(ValueError, match="passes 3"):
        made(trained, passes=3)


def test_every_turn_of_the_dial_brings_the_result_nearer_to_what_the_input_shows(trained):
    y = torch.stack([picture(n) for n in range(3)])
    y = (y + 0.15 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    recovered, away = ClrRestorer(size=SIZE, networks=trained).recover(y), []
    for fidelity in (0.0, 0.25, 0.5, 0.75, 1.0):
        out = ClrRestorer(fidelity=fidelity, size=SIZE, networks=trained).restore_stills(y)
        away.append(torch.stack([(out - to).pow(2).mean((1, 2, 3)).sqrt() for to in (recovered, y)]))
    assert bool((torch.stack(away).diff(dim=0) < 0).all())  # for every picture, from R(y) and from the input


def test_a_known_identity_counts_as_far_as_the_crop_has_lost_its_own(networks):
    restorer, recovered = made(networks), torch.stack([picture(0), picture(0)])
    other = networks.recognizer.embed(picture(22)[None])[0]
    own = networks.recognizer.embed(recovered)
    aims = restorer.identities([other, other], recovered, torch.tensor([0.0, 1.0])[:, None, None, None])
    assert torch.allclose(aims[0], own[0], atol=1e-5) and torch.allclose(aims.norm(dim=1), torch.ones(2), atol=1e-5)
    assert own[0] @ other < aims[1] @ other and aims[1] @ own[1] > aims[1] @ other
    unknown = restorer.identities([None, None], recovered, torch.ones(2, 1, 1, 1))
    assert torch.allclose(unknown, own, atol=1e-5)


def test_guidance_rests_where_nobody_knows_more_than_the_crop_shows_unless_it_was_asked_for(networks):
    someone = networks.recognizer.embed(picture(22)[None])[0]
    degraded = torch.tensor([1.0, 1.0, 0.5])[:, None, None, None]
    known, unsure = [someone, None, someone], [False] * 3
    usual = made(networks).strengths(known, unsure, degraded).flatten().tolist()
    assert usual[0] == pytest.approx(made(networks).guidance) and usual[1:] == [0, 0]
    asked = made(networks, guidance=0.1).strengths(known, unsure, degraded).flatten().tolist()
    assert asked == pytest.approx([0.1] * 3)


@pytest.mark.parametrize("anchors", [1, 4])
def test_guidance_that_rests_costs_no_gradient_and_changes_nothing(networks, anchors, monkeypatch):
    someone = networks.recognizer.embed(picture(22)[None])[0]

    def restored(identity, **settings):
        part, crops = made(networks, anchors=anchors, **settings), [crop(frame=n, identity=identity) for n in range(4)]
        calls, hook = decoded(networks)
        out = part.restore(crops, {}) if anchors == 1 else part.restore_span(crops, [], True, {}, 4)
        hook.remove()
        return out, any(graded for _, graded in calls)

    off, _ = restored(someone, guidance=0.0)
    monkeypatch.setattr(clr, "_LOST", 1.0)  # no crop is that bad
    resting, graded = restored(someone)
    assert torch.equal(resting, off) and not graded
    monkeypatch.setattr(clr, "_LOST", 0.0)
    unknown, graded = restored(None)
    assert torch.equal(unknown, off) and not graded
    known, graded = restored(someone)
    assert differ(known, off) and graded


def test_guidance_is_in_earnest_only_where_a_photograph_tells_who_it_is_and_the_crop_has_lost_it(networks, monkeypatch):
    restorer, strengths = made(networks, guidance=0.1), ClrRestorer.strengths
    degraded = torch.tensor([1.0, 1.0, 0.5])[:, None, None, None]
    nobody = [None, None, None]
    unsure, sure, slight = restorer.strengths(nobody, [False, True, True], degraded).flatten().tolist()
    assert unsure == slight == pytest.approx(0.1) and sure > 5 * unsure
    asked = []
    listening = lambda self, known, sure, bad: asked.append(list(sure)) or strengths(self, known, sure, bad)  # noqa: E731
    monkeypatch.setattr(ClrRestorer, "strengths", listening)
    someone = networks.recognizer.embed(picture(22)[None])[0]
    told = [crop(frame=0, identity=someone), replace(crop(frame=1, identity=someone), photograph=picture(9)), crop(frame=2)]
    restorer.restore(told, {})
    made(networks, guidance=0.1, anchors=2).restore_span(told[:2], [], True, {}, 4)
    assert asked == [[False, True, False], [False, True]]
    monkeypatch.setattr(clr, "_LOST", 0.0)
    crops = [crop(frame=0, identity=None), crop(frame=0, identity=someone)]
    aside, towards = (made(networks, guidance=0.1).restore([one], {})[0] for one in crops)
    assert differ(aside, towards)
