"""The order of axes, there and back."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from resnets.weights.dialects.axes import flattened_chans, from_torch, is_matrix, to_torch, torch_shape


@pytest.mark.parametrize("layout", ["torch", "tensorflow"])
@pytest.mark.parametrize(
    ("key", "shape", "kernel"),
    [
        ("conv1.weight", (8, 3, 5, 5), 0),
        ("layer1.0.se.conv.weight", (1, 1, 3), 0),
        ("layer1.0.se.fc.0.weight", (2, 8), 0),
        ("fc.weight", (5, 8), 0),
        ("fc.weight", (5, 8), 1),
        ("fc.weight", (5, 32), 0),
        ("classifier.0.weight", (6, 72), 0),
        ("classifier.0.weight", (6, 72), 3),
        ("classifier.3.weight", (6, 6), 1),
        ("bn1.running_mean", (8,), 0),
        ("bn1.num_batches_tracked", (), 0),
    ],
)
def test_round_trip(layout: Literal["torch", "tensorflow"], key: str, shape: tuple[int, ...], kernel: int) -> None:
    tensor = torch.randn(shape)
    theirs = from_torch(key, tensor, layout, 8, kernel)
    assert torch.equal(to_torch(key, theirs, layout, 8), tensor)
    assert torch_shape(key, tuple(theirs.shape), layout) == shape


def test_a_flattened_map_is_reordered() -> None:
    """A Keras dense layer behind a flattened (row, column, channel) map reads what ours reads from (channel, ...)."""
    image = torch.randn(2, 8, 3, 3)
    kernel = torch.randn(72, 5)
    keras = image.permute(0, 2, 3, 1).flatten(1) @ kernel
    ours = image.flatten(1) @ to_torch("classifier.0.weight", kernel, "tensorflow", 8).t()
    torch.testing.assert_close(ours, keras)


def test_channels_of_the_last_map() -> None:
    shapes = {"features.0.weight": (8, 3, 3, 3), "features.10.weight": (16, 8, 3, 3), "features.9.weight": (4, 4, 3, 3)}
    assert flattened_chans(shapes, "torch") == 16
    assert flattened_chans({"layer1.0.conv3.weight": (1, 1, 4, 32), "conv1.weight": (7, 7, 3, 64)}, "tensorflow") == 32
    assert flattened_chans({"fc.weight": (3, 4)}, "torch") == 0


def test_linear_layers_are_recognised_by_key() -> None:
    assert is_matrix("fc.weight")
    assert is_matrix("layer4.2.se.fc.2.weight")
    assert not is_matrix("layer4.2.se.fc1.weight")
    assert not is_matrix("fc.bias")
