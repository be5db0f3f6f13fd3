"""What timm or torchvision must be told to build a network: a name of theirs, and arguments.

Two networks are one if their plans are: the plan has every operation with its strides, paddings, dilations and
constants. So a field of the configuration that changes the computation is compared without being listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import Node, children
from resnets.arch.plan import plan
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, ResnetsError
from resnets.weights.dialects import Dialect
from resnets.weights.slots import TRAINING_ONLY, differing_fields

__all__ = ["TargetCall", "same_computation", "target_call"]


@dataclass(frozen=True, kw_only=True)
class TargetCall:
    """How a codebase builds a network.

    Args:
        codebase: `timm` or `torchvision`.
        architecture: its name of the network.
        arguments: its other arguments, as they are written.
        positional: arguments of torchvision's class `ResNet`, where none of its functions builds the network.
        after: statements that follow the call, for layers that its arguments cannot change.
    """

    codebase: str
    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    positional: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def call(self) -> str:
        """The call to type, with the statements after it."""
        words = [f"{name}={value!r}" for name, value in self.arguments.items()]
        if self.codebase == "timm":
            text = f"timm.create_model({', '.join([repr(self.architecture), *words])})"
        elif self.positional:
            text = f"torchvision.models.resnet.ResNet({', '.join([*self.positional, *words])})"
        else:
            text = f"torchvision.models.{self.architecture}({', '.join(words)})"
        return "; ".join([f"model = {text}" if self.after else text, *self.after])


def target_call(config: NetworkConfig, dialect: Dialect) -> TargetCall:
    """How the codebase of a dialect with `networks` builds this network, with the fewest arguments.

    Raises:
        ConfigError: it cannot; the message names the fields that it cannot be told.
    """
    tell = {"timm": _timm_arguments, "torchvision": _torchvision_arguments}[dialect.name]
    found: list[TargetCall] = []
    nearest: tuple[int, str, list[str]] | None = None
    for name, base in dialect.networks.items():
        if type(base) is not type(config):
            continue
        told, call = tell(name, base, config)
        different = _differing(told, config)
        if not different and same_computation(told, config):
            found.append(call)
        elif different and (nearest is None or len(different) < nearest[0]):
            nearest = len(different), name, different
    if found:
        return min(found, key=lambda call: (len(call.after), len(call.positional), len(call.arguments)))
    if nearest is None:
        raise ConfigError(f"{dialect.name} has no such family of networks")
    _, name, different = nearest
    raise ConfigError(f"its nearest network is {name}, and it cannot be told {', '.join(different)}")


def same_computation(one: NetworkConfig, other: NetworkConfig) -> bool:
    """Whether two configurations compute the same in evaluation mode, with the same weights."""
    if type(one) is not type(other):
        return False
    try:
        return bool(_bare(plan(one)) == _bare(plan(other)))
    except ResnetsError:
        return False


def _bare(node: Node) -> Any:
    """A plan without what concerns training alone."""
    training = {"zero_init": False, "drop_path": 0.0, "momentum": 0.0, "rate": 0.0}  # fields of blocks, norms, dropout
    values = {
        name: training.get(name, value)
        for name, value in vars(node).items()
        if not (isinstance(value, tuple) and value and isinstance(value[0], Node))
    }
    return type(node).__name__, values, [(name, _bare(child)) for name, child in children(node)]


def _differing(told: NetworkConfig, config: NetworkConfig) -> list[str]:
    ignored = TRAINING_ONLY | (told.inert & config.inert)
    return [text.replace(" for ", " instead of ", 1) for text in differing_fields(config, told, ignored)]


TIMM_POOLS = ("avg", "max", "avgmax", "catavgmax", "none")
Tell = Callable[[Any], Mapping[str, Any] | None]

# Config field -> timm's arguments for a value; None where timm has none for it.
TIMM_RESNET: dict[str, Tell] = {
    "num_classes": lambda value: {"num_classes": value},
    "in_chans": lambda value: {"in_chans": value},
    "output_stride": lambda value: {"output_stride": value or 32} if value in (None, 8, 16, 32) else None,
    "global_pool": lambda value: {"global_pool": "" if value == "none" else value} if value in TIMM_POOLS else None,
    "depths": lambda value: {"layers": list(value)},
    "widths": lambda value: {"channels": list(value)} if len(value) == 4 else None,
    "groups": lambda value: {"cardinality": value},
    "group_width": lambda value: {"base_width": value},
    "act": lambda value: {"act_layer": value},
    "reduce_first": lambda value: {"block_reduce_first": value},
    "shortcut_kernel": lambda value: {"down_kernel_size": value},
}
TIMM_V2 = {name: TIMM_RESNET[name] for name in ("num_classes", "in_chans", "output_stride", "global_pool", "depths")}
TIMM_SENET = {name: TIMM_RESNET[name] for name in ("num_classes", "in_chans", "global_pool", "depths")}
TIMM_VGG = {name: TIMM_RESNET[name] for name in ("num_classes", "in_chans")}


def _timm_arguments(name: str, base: NetworkConfig, config: NetworkConfig) -> tuple[NetworkConfig, TargetCall]:
    """The network that timm builds under a name, told as much of `config` as its arguments say; and the call."""
    if isinstance(base, VGGConfig):
        table = TIMM_VGG
    elif name.startswith("legacy_"):
        table = TIMM_SENET
    else:
        table = TIMM_V2 if name.startswith("resnetv2_") else TIMM_RESNET
    if name.endswith("_bit"):  # timm's functions for these set their layers themselves
        table = {field_name: tell for field_name, tell in table.items() if field_name != "depths"}
    fields, arguments = dict[str, Any](), dict[str, Any]()
    for field_name, tell in table.items():
        value = getattr(config, field_name)
        if value == getattr(base, field_name):
            continue
        said = tell(value)
        if said is not None:
            fields[field_name] = value
            arguments |= said
    if not name.startswith("resnetv2_") and fields.get("global_pool") == "none" and config.num_classes:
        del fields["global_pool"]  # timm's linear layer then fails on a map
    return _told(base, fields), TargetCall(codebase="timm", architecture=name, arguments=arguments)


def _torchvision_arguments(name: str, base: NetworkConfig, config: NetworkConfig) -> tuple[NetworkConfig, TargetCall]:
    fields, arguments, after = dict[str, Any](), dict[str, Any](), list[str]()
    if config.num_classes != base.num_classes:
        fields["num_classes"] = config.num_classes
        if config.num_classes:
            arguments["num_classes"] = config.num_classes
        else:
            after.append(f"model.{'fc' if isinstance(base, ResNetConfig) else 'classifier[6]'} = torch.nn.Identity()")
    if config.in_chans != base.in_chans:
        fields["in_chans"] = config.in_chans
        first = "conv1" if isinstance(base, ResNetConfig) else "features[0]"
        bias = "False" if isinstance(base, ResNetConfig) else "True"
        kernel = "64, 7, 2, 3" if isinstance(base, ResNetConfig) else "64, 3, 1, 1"
        after.append(f"model.{first} = torch.nn.Conv2d({config.in_chans}, {kernel}, bias={bias})")
    if isinstance(base, ResNetConfig) and isinstance(config, ResNetConfig):
        if base.block == "bottleneck" and config.output_stride in (16, 8, 4):
            fields["output_stride"] = config.output_stride
            dilated = {16: 1, 8: 2, 4: 3}[config.output_stride]
            arguments["replace_stride_with_dilation"] = [False] * (3 - dilated) + [True] * dilated
        if name in ("resnet50", "resnet101", "resnet152"):  # the others set these themselves
            for ours, theirs in (("groups", "groups"), ("group_width", "width_per_group")):
                if (value := getattr(config, ours)) != getattr(base, ours):
                    fields[ours] = arguments[theirs] = value
    call = TargetCall(codebase="torchvision", architecture=name, arguments=arguments, after=tuple(after))
    told = _told(base, fields)
    if isinstance(told, ResNetConfig) and isinstance(config, ResNetConfig) and told.depths != config.depths:
        return _torchvision_class(told, config, call)
    return told, call


def _torchvision_class(told: ResNetConfig, config: ResNetConfig, call: TargetCall) -> tuple[NetworkConfig, TargetCall]:
    """The same by torchvision's class, which takes any four depths."""
    if len(config.depths) != 4 or call.architecture not in ("resnet18", "resnet50"):
        return told, call
    block = "BasicBlock" if config.block == "basic" else "Bottleneck"
    by_class = replace(call, positional=(f"torchvision.models.resnet.{block}", str(list(config.depths))))
    return _told(told, {"depths": config.depths}), by_class


def _told(base: NetworkConfig, fields: dict[str, Any]) -> NetworkConfig:
    for names in _fewer(fields):
        try:
            return base.with_overrides(**{name: fields[name] for name in names})
        except ConfigError:
            continue
    return base


def _fewer(fields: dict[str, Any]) -> Iterator[list[str]]:
    """All fields, then as few as are left where some contradict the base."""
    names = list(fields)
    yield names
    yield from ([name] for name in names)
