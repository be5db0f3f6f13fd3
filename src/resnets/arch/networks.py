"""The families of networks: one type for the configuration of any of them, and conversion from and to JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError
from resnets.options.declarations import hints_of
from resnets.options.validate import convert_fields

__all__ = ["FAMILIES", "NetworkConfig", "config_from_dict", "config_to_dict", "convert_overrides", "network_options"]

NetworkConfig = ResNetConfig | VGGConfig

FAMILIES: dict[str, type[ResNetConfig] | type[VGGConfig]] = {"resnet": ResNetConfig, "vgg": VGGConfig}


def config_to_dict(config: NetworkConfig) -> dict[str, Any]:
    """The configuration and its family as JSON values."""
    family = next(name for name, kind in FAMILIES.items() if isinstance(config, kind))
    return {"family": family, **config.to_dict()}


def config_from_dict(values: dict[str, Any]) -> NetworkConfig:
    """Inverse of `config_to_dict`; missing fields keep their defaults.

    Raises:
        ConfigError: an unknown family or field, or an invalid value.
    """
    fields = dict(values)
    family = fields.pop("family", "resnet")
    if family not in FAMILIES:
        raise ConfigError(f"family must be {' or '.join(FAMILIES)}; got {family!r}")
    return FAMILIES[family]().with_overrides(**fields)


def network_options() -> dict[str, Any]:
    """The fields of all families, each with its annotation; a ResNet's where families share a name."""
    hints: dict[str, Any] = {}
    for family in reversed(FAMILIES.values()):
        hints |= hints_of(family)
    return hints


def convert_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Convert fields of a network configuration from text, as command lines and files have them, to their types.

    Raises:
        UnknownNameError: no family has such a field.
        ConfigError: a value of the wrong type or out of bounds.
    """
    return convert_fields(network_options(), overrides, option="model option")
