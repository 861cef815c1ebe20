from __future__ import annotations

import numpy as np
import pytest
import torch

from videoclr import pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_survives_the_way_to_a_tensor_and_back(dtype: type) -> None:
    white = np.iinfo(dtype).max
    levels = np.arange(white + 1, dtype=dtype)
    image = np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=-1).reshape(16, -1, 3)
    tensor = pixels.to_tensor(image)
    assert tensor.shape == (3, 16, image.shape[1]) and tensor.dtype == torch.float32
    assert tensor.min() == -1 and tensor.max() == 1
    np.testing.assert_array_equal(pixels.from_tensor(tensor, dtype), image)


def test_channels_stay_red_green_blue() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0] = 255
    assert pixels.to_tensor(image).mean((1, 2)).tolist() == [1, -1, -1]


def test_values_out_of_range_are_clipped_not_wrapped() -> None:
    tensor = torch.tensor([-3.0, 3.0, 0.0]).reshape(3, 1, 1)
    assert pixels.from_tensor(tensor).ravel().tolist() == [0, 255, 128]


def test_eight_bit_keeps_white_white_and_leaves_eight_bits_alone() -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    assert np.array_equal(pixels.eight_bit(every), pixels.quantized(pixels.normalized(every), np.uint8))
    assert np.array_equal(pixels.eight_bit(every.reshape(8, 32, 256)[::2, :, ::-1]).shape, (4, 32, 256))
    deep = np.array([[[0, 32768, 65535]]], np.uint16)
    assert pixels.eight_bit(deep).ravel().tolist() == [0, 128, 255]
    shallow = np.zeros((1, 1, 3), np.uint8)
    assert pixels.eight_bit(shallow) is shallow


def test_other_dtypes_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="int32"):
        pixels.normalized(np.zeros((2, 2, 3), np.int32))
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        pixels.to_tensor(np.zeros((2, 2), np.uint8))


def test_the_mean_of_colours_is_that_of_numpy_to_the_bit() -> None:
    image = np.random.default_rng(0).normal(0, 1, (64, 48, 3)).astype(np.float32)
    np.testing.assert_array_equal(pixels.mean_of_colours(image), image.mean(-1))
