"""VGG (Simonyan and Zisserman 2014): the second small family, for its side outputs beside ResNet's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnets.arch.base_config import BaseConfig
from resnets.arch.nodes import Act, AdaptivePool, Chain, Conv, Dropout, Flatten, Identity, Linear, Node, Norm, Pool
from resnets.arch.rules import check_norm
from resnets.errors import ConfigError

__all__ = ["VGGConfig", "plan_vgg"]

WINDOW = 7  # the map that the classifier reads has this many cells a side


@dataclass(frozen=True, kw_only=True)
class VGGConfig(BaseConfig):
    """A VGG network.

    Args:
        depths: 3x3 convolutions in each of the five blocks; a 2x2 max pool ends each.
        widths: channels of each block.
        norm: `batch`, or `none` as published.
        hidden: width of the classifier's two inner layers.
        drop_rate: dropout probability behind each of them.
        global_pool: `avg` (to 7x7, as torchvision) or `none` (the last map; only with `num_classes=0`).
        in_chans, num_classes, img_size: as in `ResNetConfig`; 0 classes answer the second inner layer.

    Raises:
        ConfigError: a value outside its rule.
    """

    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    norm: Literal["none", "batch"] = "none"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    hidden: int = 4096
    drop_rate: float = 0.5
    global_pool: Literal["avg", "none"] = "avg"
    in_chans: int = 3
    num_classes: int = 1000
    img_size: int = 224

    def check_rules(self) -> None:
        if len(self.depths) != len(self.widths):
            raise ConfigError(f"depths and widths name the same blocks; got {len(self.depths)} and {len(self.widths)}")
        if not 0 <= self.drop_rate < 1:
            raise ConfigError(f"drop_rate is a probability in [0, 1); got {self.drop_rate}")
        check_norm(self.norm_eps, self.norm_momentum)
        if self.global_pool == "none" and self.num_classes:
            raise ConfigError("a classifier needs pooled features; got global_pool='none'; pass num_classes=0 for maps")


def plan_vgg(config: VGGConfig) -> Chain:
    """The tree of `config`, named as torchvision names it: `features.0` ..., `avgpool`, `classifier.0` ..."""
    blocks, number, in_chans = list[Node](), 0, config.in_chans
    for block, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
        layers = list[Node]()
        for _ in range(depth):
            group: list[Node] = [
                Conv(name=str(number), in_chans=in_chans, out_chans=width, kernel=3, padding=1, bias=True)
            ]
            if config.norm == "batch":
                group.append(_norm(config, str(number + 1), width))
            group.append(Act(name=str(number + len(group)), kind="relu"))
            layers += group
            number, in_chans = number + len(group), width
        layers.append(Pool(name=str(number), kind="max", kernel=2, stride=2))
        number += 1
        blocks.append(Chain(name="", role="stage", kind=f"block{block}", nodes=tuple(layers)))
    features = Chain(name="features", role="features", nodes=tuple(blocks))
    return Chain(name="", role="network", nodes=(features, _head(config)))


def _norm(config: VGGConfig, name: str, channels: int) -> Norm:
    return Norm(
        name=name, kind="batch", channels=channels, eps=config.norm_eps, momentum=config.norm_momentum, groups=1
    )


def _head(config: VGGConfig) -> Chain:
    if config.global_pool == "none":
        return Chain(name="", role="head", nodes=(Identity(name="avgpool"), Identity(name="classifier")))
    last = (
        Linear(name="6", in_features=config.hidden, out_features=config.num_classes)
        if config.num_classes
        else Identity(name="6")
    )
    classifier = (
        Linear(name="0", in_features=config.widths[-1] * WINDOW**2, out_features=config.hidden),
        Act(name="1", kind="relu"),
        Dropout(name="2", rate=config.drop_rate),
        Linear(name="3", in_features=config.hidden, out_features=config.hidden),
        Act(name="4", kind="relu"),
        Dropout(name="5", rate=config.drop_rate),
        last,
    )
    return Chain(
        name="",
        role="head",
        nodes=(
            AdaptivePool(name="avgpool", size=WINDOW),
            Flatten(name=""),
            Chain(name="classifier", role="group", nodes=classifier),
        ),
    )
