from __future__ import annotations

import os

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resnets.arch.variants import get_config, list_models
from resnets.errors import DeviceError
from resnets.nn.model import build_model
from resnets.runtime.device import choose_kernels, pick_amp, pick_device, pick_layout, why_inexact
from resnets.train.config.options import LossConfig, OptimConfig
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NARROW = get_config("resnet18", depths=(1, 1, 1), widths=(8, 8, 8), stem_width=8, num_classes=3)


def test_auto_device_is_available() -> None:
    device = pick_device("auto")
    assert (device.type == "cuda") == torch.cuda.is_available()
    assert torch.zeros(1, device=device).sum() == 0
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "gpu", ""])
def test_unavailable_device_is_an_error_that_lists_the_available_ones(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"got '{name}'.*auto.*cpu"):
        pick_device(name)


def test_mixed_precision_by_name() -> None:
    assert [pick_amp(name, CPU) for name in ("bf16", "fp16", "off")] == [torch.bfloat16, torch.float16, None]
    assert pick_amp("auto", CPU) in (torch.bfloat16, None)


def test_automatic_mixed_precision_requires_a_cpu_known_to_compute_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, dtype in (({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, None)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert pick_amp("auto", CPU) == dtype
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in torch 2.9
    assert pick_amp("auto", CPU) is None


@pytest.mark.parametrize("name", [name for name in list_models() if "1202" not in name])
def test_named_networks_are_trained_channels_last(name: str) -> None:
    with torch.device("meta"):
        model = build_model(get_config(name), init=False)
    assert pick_layout(model, CPU, True) == torch.channels_last
    assert pick_layout(model, CPU, False) == torch.contiguous_format


def test_narrow_strided_shortcuts_are_contiguous_on_cpus() -> None:
    model = build_model(NARROW)
    assert pick_layout(model, CPU, True) == torch.contiguous_format
    assert pick_layout(model, CUDA, True) == torch.channels_last


def test_gradient_of_narrow_networks() -> None:
    """For batches in channels last, which crashed the process."""
    model = build_model(NARROW)
    train_step = TrainStep(
        model,
        build_optimizer(model, OptimConfig(weight_decay=0.0)),
        lambda step: 0.0,
        ClassificationLoss(LossConfig(label_smoothing=0.0)),
        layout=pick_layout(model, CPU, True),
    )
    x = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    train_step(x.contiguous(memory_format=torch.channels_last), torch.zeros(8, dtype=torch.long))
    gradient = shortcut_gradient(model).clone()
    double = build_model(NARROW).double()  # float64 uses torch's own kernels
    double.load_state_dict(model.state_dict())
    F.cross_entropy(double(x.double()), torch.zeros(8, dtype=torch.long)).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(gradient.double(), shortcut_gradient(double), rtol=1e-3, atol=1e-5)


def shortcut_gradient(model: nn.Module) -> torch.Tensor:
    gradient = model.get_parameter("layer2.0.downsample.0.weight").grad
    assert gradient is not None
    return gradient


@pytest.mark.parametrize("deterministic", [False, True])
def test_torchs_settings_of_kernels_are_restored(deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    settings = [
        lambda: torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled,
        torch.is_deterministic_algorithms_warn_only_enabled,
    ]
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        before = [setting() for setting in settings]
        with choose_kernels(CUDA, deterministic=deterministic):
            assert torch.backends.cudnn.benchmark is not deterministic
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled() is not deterministic
            assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is deterministic
        assert [setting() for setting in settings] == before
        with choose_kernels(CPU, deterministic=deterministic):
            assert [setting() for setting in settings] == before
    finally:
        torch.use_deterministic_algorithms(False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_a_reason_is_given_where_results_may_differ_in_their_last_bits() -> None:
    assert why_inexact(CPU, deterministic=False) is None
    assert why_inexact(CUDA, deterministic=True) is None
    assert "--set deterministic=true" in (why_inexact(CUDA, deterministic=False) or "")
    assert "--device cpu" in (why_inexact(torch.device("mps"), deterministic=True) or "")
