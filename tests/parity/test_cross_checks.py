"""Other depths, options and odd, non-square sizes than the golden files have, against second implementations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.vgg import VGGConfig
from resnets.nn.model import build_model
from resnets.weights.dialects import DIALECTS
from resnets.weights.dialects.axes import from_torch
from resnets.weights.load import import_weights
from tests.golden import rule
from tests.parity.torch_reference import Habits, resnet, resnetv2

SMALL: dict[str, Any] = {"depths": (1, 2, 1, 2), "widths": (32, 32, 64, 96), "stem_width": 32, "num_classes": 7}
SE = {"attention": "se"}
ROLES = {"running_mean": "mean", "running_var": "var", "num_batches_tracked": "count", "bias": "bias"}


def drawn(config: NetworkConfig, dialect: str) -> dict[str, Tensor]:
    """The tensors of a network, by a dialect's names, drawn by the rule of the golden files."""
    model = build_model(config, init=False)
    source = DIALECTS[dialect]
    names, kernels = source.key_map(model.plan), source.kernels(model.plan)
    found = {}
    for key, slot in model.state_dict().items():
        shape = tuple(from_torch(key, torch.empty(slot.shape), source.layout, 0, kernels.get(key, 0)).shape)
        role = ROLES.get(key.rpartition(".")[2]) or (
            "gamma" if len(shape) == 1 else "kernel_oi" if len(shape) == 2 else "kernel_oihw"
        )
        found[names[key]] = torch.from_numpy(rule.tensor(names[key], shape, role))
    return found


def caffe_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2, 0, ceil_mode=True)


CADENE = Habits(pool=caffe_pool, stem="layer0.", se="se_module")
TUTORIAL = Habits(pool=lambda x: F.max_pool2d(x, 2, 2), stem_relu=False)

CASES: list[tuple[str, dict[str, Any], dict[str, Any], Any]] = [
    ("torchvision", {"block": "basic"}, {}, Habits()),
    ("torchvision", {"groups": 4, "group_width": 32}, {}, Habits()),
    ("torchvision", {}, {"replace_stride_with_dilation": [False, True, True]}, Habits(dilate_from=3)),
    ("torchvision", {"block": "basic"}, {"replace_stride_with_dilation": [False, False, True]}, Habits(dilate_from=4)),
    ("timm", {"stem": "deep", "shortcut": "D", **SE, "attention_round": 8}, {}, Habits()),
    ("timm", {"stem": "deep", "shortcut": "D"}, {"output_stride": 8}, Habits(dilate_from=3)),
    ("timm", {"stem": "tiered", "shortcut": "D", "attention": "eca", "block": "basic"}, {}, Habits()),
    (
        "timm",
        {"stem": "deep", "shortcut_kernel": 3, "reduce_first": 2, **SE},
        {"output_stride": 16},
        Habits(dilate_from=4),
    ),
    ("timm", {"norm": "group"}, {}, Habits()),
    ("timm", {"pre_activation": True}, {}, 9),
    ("timm", {"pre_activation": True, "block": "basic"}, {"output_stride": 8}, 3),
    ("timm", {"pre_activation": True, "stem": "deep", "shortcut": "D"}, {"output_stride": 16}, 4),
    ("timm", {"pre_activation": True, "stem": "tiered", "shortcut": "D", "block": "basic"}, {}, 9),
    ("timm", {"pre_activation": True, "norm": "group", "standardised": True}, {}, 9),
    ("ibnnet", {"ibn": ("a", "a", "a", "")}, {}, Habits()),
    ("ibnnet", {"ibn": ("b", "b", "", ""), "block": "basic"}, {}, Habits()),
    ("ibnnet", {"ibn": ("a", "a", "a", ""), "groups": 4, "group_width": 32, **SE, "se_form": "linear"}, {}, Habits()),
    ("vocreid", {"ibn": ("a", "a", "a", ""), **SE, "se_form": "linear"}, {"last_stride": 1}, Habits(last_stride=1)),
    ("vocreid", {"block": "basic"}, {"last_stride": 2}, Habits()),
    ("tutorial", {"ibn": ("a", "a", "a", ""), "num_classes": 0}, {}, TUTORIAL),
    ("tutorial", {**SE, "se_form": "linear", "num_classes": 0}, {}, TUTORIAL),
    ("cadene", SE, {}, Habits(pool=caffe_pool, stem="layer0.", se="se_module", stride_in_first=True)),
    ("cadene", {**SE, "groups": 4, "group_width": 32}, {}, CADENE),
    (
        "cadene",
        {**SE, "groups": 8, "group_width": 16, "reduce_first": 2, "stem": "deep", "shortcut_kernel": 3},
        {},
        CADENE,
    ),
]


@pytest.mark.parametrize(
    ("dialect", "fields", "options", "habits"), CASES, ids=[f"{case[0]}-{number}" for number, case in enumerate(CASES)]
)
def test_cross_check(dialect: str, fields: dict[str, Any], options: dict[str, Any], habits: Habits | int) -> None:
    config = ResNetConfig(**{**SMALL, **fields})
    tensors = drawn(config, dialect)
    model, _ = import_weights(tensors, dialect=dialect, **options)
    for size in ((97, 65), (64, 98), (71, 110)):
        x = torch.from_numpy(rule.image((2, 3, *size)))
        kept = {key: tensor for key, tensor in tensors.items() if dialect != "vocreid" or not key.startswith("fc.")}
        with torch.no_grad():
            ours = model(x)
            theirs = resnet(kept, x, habits) if isinstance(habits, Habits) else resnetv2(kept, x, habits)
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


def test_vgg_at_any_size() -> None:
    """torchvision averages to 7x7; the published network is one chain of layers."""
    config = VGGConfig(depths=(1, 2, 1), widths=(8, 16, 16), hidden=24, num_classes=3, norm="batch")
    t = drawn(config, "torchvision")
    model, _ = import_weights(t, dialect="torchvision")
    for x in (torch.from_numpy(rule.image((2, 3, *size))) for size in ((57, 90), (33, 41))):
        y = x
        for place in range(16):
            if f"features.{place}.weight" in t and t[f"features.{place}.weight"].ndim == 4:
                y = F.conv2d(y, t[f"features.{place}.weight"], t[f"features.{place}.bias"], padding=1)
                mean, var = t[f"features.{place + 1}.running_mean"], t[f"features.{place + 1}.running_var"]
                y = F.relu(
                    F.batch_norm(y, mean, var, t[f"features.{place + 1}.weight"], t[f"features.{place + 1}.bias"])
                )
                if place in (0, 7, 11):
                    y = F.max_pool2d(y, 2, 2)
        y = F.adaptive_avg_pool2d(y, 7).flatten(1)
        for place in (0, 3, 6):
            y = F.linear(y, t[f"classifier.{place}.weight"], t[f"classifier.{place}.bias"])
            y = F.relu(y) if place < 6 else y
        with torch.no_grad():
            torch.testing.assert_close(model(x), y, rtol=1e-5, atol=1e-6)
