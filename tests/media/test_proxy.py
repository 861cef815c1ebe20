"""The mathematics of the HDR proxy: curves, round trips, residuals."""

from __future__ import annotations

import numpy as np
import pytest

from videoclr.media.proxy import (
    BT709,
    PRIMARIES,
    REFERENCE_WHITE,
    Proxy,
    _matrix,
    are_primaries,
    hlg_scene,
    hlg_signal,
    pq_light,
    pq_signal,
)

PROXIES = [Proxy("pq"), Proxy("pq", 4000), Proxy("pq", 100, BT709), Proxy("hlg"), Proxy("hlg", primaries=BT709)]
PROXIES += [Proxy("pq", primaries=PRIMARIES["dci-p3"])]


def picture(seed: int = 0) -> np.ndarray:
    """Signals of every brightness and colour, `(64, 64, 3)` uint16."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0, 1, (64, 64, 1)) * rng.uniform(0.3, 1, (64, 64, 3)) * 65535).astype(np.uint16)


def test_the_pq_curve_is_that_of_the_standard():
    # BT.2408-7 table 1 and BT.2100-2: 203 cd/m2 is 58 % of PQ, 1000 cd/m2 75 %.
    assert pq_light(np.array([0.0, 1.0])) == pytest.approx([0, 10000])
    assert pq_signal(np.array([0.0, 100, 203, 1000, 4000, 10000])) == pytest.approx([0, 0.508, 0.581, 0.7518, 0.9026, 1], abs=6e-4)


def test_the_hlg_curve_is_that_of_the_standard():
    assert hlg_signal(np.array([0, 1 / 12, 1.0])) == pytest.approx([0, 0.5, 1], abs=1e-6)
    # BT.2408-7: reference white is 75 % of HLG, and 203 cd/m2 on a display of 1000 cd/m2.
    assert Proxy("hlg").light(np.full((1, 3), round(0.75 * 65535), np.uint16)) == pytest.approx(1, abs=4e-3)


@pytest.mark.parametrize(("there", "back"), [(pq_light, pq_signal), (hlg_scene, hlg_signal)])
def test_curves_come_back_and_grow(there, back):
    signal = np.linspace(0, 1, 4096)
    light = there(signal)
    assert np.all(np.diff(light) > 0)
    assert np.abs(back(light) - signal).max() < 1e-6


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        # BT.2087 eq. 2 (rounded there); the Academy's ACES2065-1 to BT.709 with Bradford's adaptation to D65.
        ("bt709", "bt2020", [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]),
        ("aces", "bt709", [[2.5217, -1.1341, -0.3876], [-0.2765, 1.3727, -0.0962], [-0.0154, -0.1530, 1.1683]]),
    ],
)
def test_primaries_become_others_as_the_standards_say(source, target, wanted):
    assert _matrix(PRIMARIES[source], PRIMARIES[target]) == pytest.approx(np.array(wanted), abs=2e-4)


@pytest.mark.parametrize("name", PRIMARIES)
def test_white_of_all_primaries_is_white(name):
    assert are_primaries(PRIMARIES[name])
    assert _matrix(PRIMARIES[name], BT709).sum(1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_proxy_grows_with_the_signal_and_ends_at_white(proxy):
    grey = np.repeat(np.arange(0, 65536, 64, dtype=np.uint16)[:, None], 3, axis=1)
    shown = proxy.shown(grey).astype(int)
    assert np.all(np.diff(shown, axis=0) >= 0)
    assert shown[0].max() == 0
    assert np.abs(shown - shown[:, :1]).max() <= 4, "grey stays grey"
    light = proxy.light(grey)[:, 0] * REFERENCE_WHITE
    assert shown[light > max(proxy.peak, REFERENCE_WHITE) * 1.001].min(initial=65535) == 65535
    assert np.all(np.diff(shown[(light > 0.1) & (light < proxy.peak * 0.99), 0]) > 0)


def test_skin_keeps_its_light_and_reference_white_stays_below_white():
    for nits in (20.0, 60.0, 100.0):
        signal = np.full((1, 3), np.rint(pq_signal(np.array(nits)) * 65535), np.uint16)
        assert (Proxy("pq").shown(signal) / 65535) ** 2.4 == pytest.approx(nits / REFERENCE_WHITE, rel=2e-3)
    white = Proxy("pq").shown(np.full((1, 3), np.rint(pq_signal(np.array(203.0)) * 65535), np.uint16))
    assert 0.85 < white[0, 0] / 65535 < 0.95


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_colour_of_bt709_comes_back_from_its_proxy(proxy):
    rng = np.random.default_rng(1)
    shown = (rng.uniform(0.05, 0.97, (4096, 3)) * 65535).astype(np.uint16)
    again = proxy.shown(proxy.signal(shown))
    assert np.abs(again.astype(int) - shown).max() < 257, "less than a code value of 8 bits"


@pytest.mark.parametrize("proxy", PROXIES)
def test_no_residual_changes_nothing_at_all(proxy):
    signal = picture()
    assert not proxy.change(signal, proxy.shown(signal)).any()


@pytest.mark.parametrize("proxy", PROXIES)
def test_below_the_knee_the_result_is_what_was_restored(proxy):
    rng = np.random.default_rng(2)
    before, after = ((rng.uniform(0.2, 0.7, (512, 3)) * 65535).astype(np.uint16) for _ in range(2))
    signal = proxy.signal(before)
    changed = signal / 65535 + proxy.change(signal, after)
    assert np.abs(proxy.shown(np.rint(changed * 65535).astype(np.uint16)).astype(int) - after).max() < 200


@pytest.mark.parametrize("proxy", PROXIES)
def test_more_restored_light_is_more_light(proxy):
    signal = np.repeat(picture(3).reshape(-1, 1, 3)[:256], 64, axis=1)
    ramp = np.repeat(np.linspace(0, 65535, 64).astype(np.uint16)[None, :, None], 256, axis=0)
    # One light at a time; the other two stay. In BT.709's light the changed one must not fall.
    restored = proxy.shown(signal)
    restored[..., 1] = ramp[..., 0]
    change = proxy.change(signal, restored)
    assert np.diff(change[..., 1], axis=1).min() >= -1e-6
    assert change[:, -1, 1].max() > 0 > change[:, 0, 1].min()


def test_a_highlight_above_white_stays_one():
    proxy = Proxy("pq")
    for nits in (900.0, 4000.0):
        signal = np.full((1, 3), np.rint(pq_signal(np.array(nits)) * 65535), np.uint16)
        restored = np.rint(proxy.shown(signal) * 0.9 ** (1 / 2.4)).astype(np.uint16)
        after = pq_light(signal / 65535 + proxy.change(signal, restored))
        assert after == pytest.approx(np.full((1, 3), 0.9 * nits), rel=0.01)


def test_dark_and_saturated_colours_stay_finite():
    for proxy in PROXIES:
        signal = np.array([[0, 0, 0], [65535, 0, 0], [0, 65535, 0], [0, 0, 65535], [1, 1, 1], [65535] * 3], np.uint16)
        for value in (0, 65535):
            change = proxy.change(signal, np.full_like(signal, value))
            assert np.isfinite(change).all()
            assert (signal / 65535 + change).max() <= 1 + 1e-6
            assert (signal / 65535 + change).min() > -2e-3
