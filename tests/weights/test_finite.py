"""Weights that are NaN or infinite, and variances below zero, are refused by name wherever weights are opened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import resnets
from resnets.errors import WeightsError
from resnets.weights.convert import convert
from resnets.weights.finite import check_finite
from tests.conftest import Command, assert_one_line_error
from tests.weights.networks import randomized_network

DAMAGE = {
    "layer2.0.conv1.weight": float("nan"),
    "fc.bias": float("inf"),
    "bn1.running_var": -1.0,
    "layer1.0.bn2.running_mean": float("-inf"),
}


def damaged(key: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    state = randomized_network("resnet8_cifar").state_dict()
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    state[key].view(-1)[-1] = DAMAGE[key]
    return state


@pytest.mark.parametrize("key", DAMAGE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_damaged_tensor_is_named(key: str, dtype: torch.dtype) -> None:
    state = damaged(key, dtype)
    with pytest.raises(WeightsError, match=key) as caught:
        resnets.import_weights(state, variant="resnet8_cifar")
    assert "\n" not in str(caught.value)
    assert "--allow-nonfinite" in str(caught.value)
    model, _ = resnets.import_weights(state, variant="resnet8_cifar", allow_nonfinite=True)
    assert torch.equal(model.state_dict()[key], state[key].float()) or key.startswith(("layer2", "fc"))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(float("nan"), torch.float8_e4m3fn), (float("nan"), torch.float8_e5m2), (1e300, torch.float64)],
)
def test_types_that_networks_convert(value: float, dtype: torch.dtype) -> None:
    with pytest.raises(WeightsError, match="1 of 2 values of bias"):
        check_finite({"bias": torch.tensor([value, 1.0], dtype=torch.float64).to(dtype)}, "w.pth")
    check_finite({"bias": torch.tensor([1.5, 1.0]).to(dtype)}, "w.pth")


def test_a_large_finite_sum_is_accepted() -> None:
    check_finite({"a": torch.full((1000,), 3e38), "b": torch.full((10,), 6e4, dtype=torch.float16)}, "here")
    check_finite({"empty": torch.empty(0), "integers": torch.tensor([1])}, "here")


@pytest.mark.parametrize("key", ["layer2.0.conv1.weight", "bn1.running_var"])
def test_wherever_weights_are_opened(command: Command, tmp_path: Path, key: str) -> None:
    bundle = resnets.load("starter")
    folder = bundle.save(tmp_path / "folder")
    state = load_file(folder / "model.safetensors")
    state[key].view(-1)[0] = DAMAGE[key]
    save_file(state, folder / "model.safetensors")
    save_file(state, tmp_path / "w.safetensors")
    image = tmp_path / "image.png"
    image.write_bytes(b"unread")
    for verb in (
        ["convert", folder],
        ["convert", tmp_path / "w.safetensors", "--variant", "resnet20_cifar"],
        ["predict", image, "--model", folder],
        ["val", "digits", "--model", folder],
        ["train", "digits", "--pretrained", folder, "--dry-run"],
    ):
        assert_one_line_error(command(*verb), key)
    with pytest.raises(WeightsError, match=key):
        resnets.create_model("resnet20_cifar", pretrained=folder)
    with pytest.raises(WeightsError, match=key):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert convert(folder, tmp_path / "out", allow_nonfinite=True).written == tmp_path / "out"
    assert resnets.load(folder, allow_nonfinite=True).name == bundle.name
