"""The families of networks, where code deals with any of them."""

from __future__ import annotations

from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError

__all__ = ["NetworkConfig", "config_from_dict", "config_to_dict"]

NetworkConfig = ResNetConfig | VGGConfig

FAMILIES: dict[str, type[ResNetConfig] | type[VGGConfig]] = {"resnet": ResNetConfig, "vgg": VGGConfig}


def config_to_dict(config: NetworkConfig) -> dict[str, Any]:
    """The description with its family, as JSON can hold it."""
    family = next(name for name, kind in FAMILIES.items() if isinstance(config, kind))
    return {"family": family, **config.to_dict()}


def config_from_dict(values: dict[str, Any]) -> NetworkConfig:
    """What `config_to_dict` wrote; fields that an older version did not know keep their defaults.

    Raises:
        ConfigError: an unknown family or field, or a value outside its rule.
    """
    fields = dict(values)
    family = fields.pop("family", "resnet")
    if family not in FAMILIES:
        raise ConfigError(f"a network is of the families {', '.join(FAMILIES)}; got {family!r}")
    return FAMILIES[family]().with_overrides(**fields)
