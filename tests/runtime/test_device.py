from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from resnets.arch.variants import get_config, list_models
from resnets.nn.model import build_model
from resnets.runtime.device import pick_layout
from resnets.train.config.options import LossConfig, OptimConfig
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer
from resnets.train.optim.schedules import WarmupSchedule

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NARROW = get_config("resnet18", depths=(1, 1, 1), widths=(8, 8, 8), stem_width=8, num_classes=3)


@pytest.mark.parametrize("name", [name for name in list_models() if "1202" not in name])
def test_named_networks_are_trained_channels_last(name: str) -> None:
    with torch.device("meta"):
        model = build_model(get_config(name), init=False)
    assert pick_layout(model, CPU, True) == torch.channels_last
    assert pick_layout(model, CPU, False) == torch.contiguous_format


def test_narrow_strided_shortcuts_are_not() -> None:
    model = build_model(NARROW)
    assert pick_layout(model, CPU, True) == torch.contiguous_format
    assert pick_layout(model, CUDA, True) == torch.channels_last


def test_the_gradient_of_narrow_networks_is_right() -> None:
    """On images that come channels last, as batches do: this crashed the process."""
    model = build_model(NARROW)
    layout = pick_layout(model, CPU, True)
    schedule = WarmupSchedule(kind="constant", peak=0.0, warmup_steps=0, total_steps=1)
    train_step = TrainStep(
        model,
        build_optimizer(model, OptimConfig(weight_decay=0.0)),
        schedule,
        ClassificationLoss(LossConfig(label_smoothing=0.0)),
        layout=layout,
    )
    x = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    train_step(x.contiguous(memory_format=torch.channels_last), torch.zeros(8, dtype=torch.long))
    weight = model.layer2[0].downsample[0].weight
    gradient = weight.grad.clone()
    double = build_model(NARROW).double()  # computed by torch's own kernels
    double.load_state_dict(model.state_dict())
    F.cross_entropy(double(x.double()), torch.zeros(8, dtype=torch.long)).backward()
    torch.testing.assert_close(gradient.double(), double.layer2[0].downsample[0].weight.grad, rtol=1e-3, atol=1e-5)
