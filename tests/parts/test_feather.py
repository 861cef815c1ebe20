from __future__ import annotations

import pytest
import torch

from videoclr.parts.feather import Feather


def mask(size: int = 256, count: int = 1, **options: object) -> torch.Tensor:
    return Feather(**options).mask([None] * count, torch.zeros(count, 3, size, size))  # type: ignore[arg-type,list-item]


@pytest.mark.parametrize("size", [64, 256, 512])
def test_full_on_the_face_and_zero_at_the_border(size: int) -> None:
    result = mask(size, 3)
    assert result.shape == (3, 1, size, size) and result.dtype == torch.float32
    assert result.min() == 0 and result.max() == 1
    at = lambda x, y: float(result[0, 0, int(y * size), int(x * size)])  # noqa: E731
    for x, y in [(0.38, 0.47), (0.62, 0.47), (0.5, 0.6), (0.4, 0.71), (0.6, 0.71), (0.5, 0.82), (0.5, 0.3)]:
        assert at(x, y) == 1, (x, y)
    border = torch.cat([result[..., 0, :], result[..., -1, :], result[..., :, 0], result[..., :, -1]])
    assert border.max() == 0


def test_no_step_in_the_edge() -> None:
    result = mask(256)[0, 0]
    assert (result[:, 1:] - result[:, :-1]).abs().max() < 0.08


def test_it_is_as_symmetric_as_a_face() -> None:
    result = mask(256)[0, 0]
    torch.testing.assert_close(result, result.flip(1))


@pytest.mark.parametrize("options", [{"radii": (0.6, 0.4)}, {"center": (0.5, 0.9)}, {"softness": 0.0}])
def test_an_ellipse_that_would_show_a_seam_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Feather(**options)  # type: ignore[arg-type]
