"""Networks of each dialect, and their tensors as files of the dialect hold them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import get_config
from resnets.arch.vgg import VGGConfig
from resnets.nn.model import Network, build_model
from resnets.weights.create import create_model
from resnets.weights.dialects import get_dialect
from resnets.weights.dialects.axes import flattened_chans, from_torch

NARROW: dict[str, Any] = {"widths": (4, 8, 16, 32), "stem_width": 4}
DEEPER: dict[str, Any] = {"depths": (2, 1, 3, 1), **NARROW}
TUTORIAL: dict[str, Any] = {
    **NARROW,
    "conv_bias": "all",
    "stride_in": "1x1",
    "norm_eps": 1e-3,
    "stem_pool": "max_valid",
    "global_pool": "window",
    "pool_window": 2,
    "img_size": 64,
}
OFFICIAL: dict[str, Any] = {"shortcut": "first", "stem_pool": "max_same", **NARROW}
OFFICIAL_CIFAR: dict[str, Any] = {"shortcut": "first", "stem_pool": "none", "stem": "3x3", "img_size": 32}
TINY: dict[str, Any] = {
    "block": "basic",
    "stem": "3x3",
    "stem_pool": "none",
    "stem_width": 8,
    "shortcut_norm": False,
    "conv_bias": "all",
    "padding": "same",
    "norm_eps": 1e-3,
    "global_pool": "window",
    "pool_window": 8,
    "img_size": 32,
    "num_classes": 10,
}

# Networks of the TensorFlow dialects.
NETWORKS: dict[str, tuple[str, NetworkConfig]] = {
    "keras 50": ("keras", get_config("keras_resnet50", **NARROW)),
    "keras 101, 4 channels in": ("keras", get_config("keras_resnet101", in_chans=4, **NARROW)),
    "keras 152v2": ("keras", get_config("keras_resnet152v2", num_classes=5, **NARROW)),
    "keras v2 of other depths": ("keras", get_config("keras_resnet50v2", **DEEPER)),
    "keras without top": ("keras", get_config("keras_resnet50", num_classes=0, global_pool="none", **NARROW)),
    "keras vgg19": ("keras", VGGConfig(depths=(2, 2, 4, 4, 4), widths=(4, 4, 8, 8, 8), hidden=16, num_classes=3)),
    "keras vgg without top": (
        "keras",
        VGGConfig(depths=(1, 2, 3), widths=(4, 4, 8), num_classes=0, global_pool="none"),
    ),
    "tutorial 50": ("kerastutorial", ResNetConfig(num_classes=6, **TUTORIAL)),
    "tutorial 101, Caffe's count": ("kerastutorial", ResNetConfig(num_classes=2, depths=(3, 4, 23, 3), **TUTORIAL)),
    "keras before 2.2": ("kerastutorial", ResNetConfig(**(TUTORIAL | {"img_size": 224, "pool_window": 7}))),
    "slim v1 50": ("slim", get_config("resnet_v1_50", **NARROW)),
    "slim v1 101": ("slim", get_config("resnet_v1_101", num_classes=3, **NARROW)),
    "slim v2 152": ("slim", get_config("resnet_v2_152", in_chans=1, **NARROW)),
    "slim v2 without logits": ("slim", get_config("resnet_v2_50", num_classes=0, **DEEPER)),
    "official v1 18": ("tfofficial", ResNetConfig(block="basic", depths=(2, 2, 2, 2), **OFFICIAL)),
    "official v1 101": ("tfofficial", ResNetConfig(depths=(3, 4, 23, 3), num_classes=1001, **OFFICIAL)),
    "official v2 34": ("tfofficial", ResNetConfig(block="basic", pre_activation=True, **OFFICIAL)),
    "official v2 50": ("tfofficial", ResNetConfig(pre_activation=True, num_classes=1001, **OFFICIAL)),
    "official of one-block stages": ("tfofficial", ResNetConfig(depths=(1, 1, 1, 1), **OFFICIAL)),
    "official CIFAR v2 20": ("tfofficial", get_config("resnetv2_20_cifar", **OFFICIAL_CIFAR)),
    "official CIFAR v1 32": ("tfofficial", get_config("resnet32_cifar", **OFFICIAL_CIFAR)),
    "mlperf resnet-8": ("mlperf", ResNetConfig(depths=(1, 1, 1), widths=(8, 16, 32), **TINY)),
    "keras.io resnet-20": ("mlperf", ResNetConfig(depths=(3, 3, 3), widths=(8, 16, 32), **TINY)),
}


def randomized(config: NetworkConfig, seed: int = 0) -> Network:
    """A network with every tensor random, statistics and step counters too, so that no two are alike."""
    model = build_model(config)
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
        else:
            tensor.fill_(7)
    return model


def randomized_network(name: str, **options: Any) -> Network:
    """A named network with random weights."""
    return randomized(get_config(name, **options))


def same_weights(model: Network, other: Network) -> bool:
    """Whether two networks have equal tensors under equal names, step counters too."""
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(tensor, theirs[key]) for key, tensor in mine.items())


def create_network(name_or_config: str | NetworkConfig, **options: Any) -> Network:
    """`create_model` without `features_only`."""
    model = create_model(name_or_config, **options)
    assert isinstance(model, Network)
    return model


def in_dialect(state: dict[str, Tensor], model: Network, name: str) -> dict[str, Tensor]:
    """Tensors of a network under a dialect's names and in its axes."""
    dialect = get_dialect(name)
    kernels = dialect.kernels(model.plan)
    chans = flattened_chans({key: tuple(tensor.shape) for key, tensor in state.items()}, "torch")
    return {
        theirs: from_torch(key, state[key], dialect.layout, chans, kernels.get(key, 0))
        for key, theirs in dialect.key_map(model.plan).items()
    }


def foreign(config: NetworkConfig, dialect: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A randomized network's tensors in a dialect, and under our keys."""
    model = randomized(config)
    state = model.state_dict()
    return in_dialect(state, model, dialect), state


def empty_tensors(config: NetworkConfig, dialect: str = "torchvision") -> dict[str, Tensor]:
    """A network's tensors in a dialect, all zero and of no size in memory."""
    model = build_model(config, init=False)
    state = {key: torch.zeros((), dtype=t.dtype).expand(t.shape) for key, t in model.state_dict().items()}
    return in_dialect(state, model, dialect)


def same(found: dict[str, Tensor], state: dict[str, Tensor]) -> bool:
    """Whether tensors are equal but for step counters."""
    counted = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    return found.keys() == state.keys() and all(torch.equal(found[key], tensor) for key, tensor in counted.items())
