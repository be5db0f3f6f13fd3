"""What torchvision builds under each name of its `resnet.py` and `vgg.py`, as our configurations."""

from __future__ import annotations

from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import VGG_DEPTHS
from resnets.arch.vgg import VGGConfig
from resnets.errors import UnknownNameError
from resnets.weights.dialects.timm_networks import NETWORKS as TIMM_NETWORKS

__all__ = ["NETWORKS", "torchvision_network"]

# timm's networks of these names are torchvision's.
NAMES = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip

NETWORKS: dict[str, NetworkConfig] = {
    **{name: TIMM_NETWORKS[name] for name in NAMES},
    **{name: VGGConfig(depths=depths) for name, depths in VGG_DEPTHS.items()},
    **{f"{name}_bn": VGGConfig(depths=depths, norm="batch") for name, depths in VGG_DEPTHS.items()},
}


def torchvision_network(name: str) -> NetworkConfig:
    """What torchvision builds under a name.

    Raises:
        UnknownNameError: no network of these files.
    """
    if name not in NETWORKS:
        raise UnknownNameError("ResNet or VGG of torchvision", name, NETWORKS)
    return NETWORKS[name]
