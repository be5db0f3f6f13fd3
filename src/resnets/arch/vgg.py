"""VGG (Simonyan and Zisserman 2014): its configuration and its plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import MinLen
from typing_extensions import Doc

from resnets.arch.config import BaseConfig, ClassCount, Count, Eps, Momentum, Probability
from resnets.arch.nodes import Act, AdaptivePool, Chain, Conv, Dropout, Flatten, Identity, Linear, Node, Norm, Pool
from resnets.errors import ConfigError

__all__ = ["VGGConfig", "plan_vgg"]

WINDOW = 7  # the classifier reads a feature map of 7x7 cells


@dataclass(frozen=True, kw_only=True)
class VGGConfig(BaseConfig):
    """Frozen configuration of a VGG network. Each field documents itself.

    Raises:
        ConfigError: an invalid value, or fields that contradict each other.
    """

    always_shown: ClassVar[tuple[str, ...]] = ("depths", "num_classes")  # by `repr`

    depths: Annotated[
        tuple[Count, ...], MinLen(1), Doc("3x3 convolutions in each block. A 2x2 max pool ends each block.")
    ] = (2, 2, 3, 3, 3)
    widths: Annotated[tuple[Count, ...], MinLen(1), Doc("Channels of each block.")] = (64, 128, 256, 512, 512)
    norm: Annotated[Literal["none", "batch"], Doc("Normalisation. `none` as published, or `batch`.")] = "none"
    norm_eps: Eps = 1e-5
    norm_momentum: Momentum = 0.1
    hidden: Annotated[Count, Doc("Width of the classifier's two hidden layers.")] = 4096
    drop_rate: Annotated[Probability, Doc("Dropout probability after each hidden layer.")] = 0.5
    global_pool: Annotated[
        Literal["avg", "none"],
        Doc("Pooling. `avg` (to 7x7, as torchvision) or `none` (the last feature map; only with `num_classes=0`)."),
    ] = "avg"
    in_chans: Annotated[Count, Doc("Input channels.")] = 3
    num_classes: ClassCount = 1000
    img_size: Annotated[Count, Doc("Image size that the network is meant for, in pixels a side.")] = 224

    def check_rules(self) -> None:
        self.check_sizes()
        if len(self.depths) != len(self.widths):
            raise ConfigError(
                f"depths and widths must name the same blocks; got {len(self.depths)} and {len(self.widths)}"
            )
        if self.global_pool == "none" and self.num_classes:
            raise ConfigError(
                "a classifier requires pooled features; got global_pool='none'; pass num_classes=0 for feature maps"
            )


def plan_vgg(config: VGGConfig) -> Chain:
    """The plan of `config`, named as in torchvision: `features.0` ..., `avgpool`, `classifier.0` ..."""
    blocks, number, in_chans = list[Node](), 0, config.in_chans
    for block, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
        layers = list[Node]()
        for _ in range(depth):
            group: list[Node] = [
                Conv(name=str(number), in_chans=in_chans, out_chans=width, kernel=3, padding=1, bias=True)
            ]
            if config.norm == "batch":
                eps, momentum = config.norm_eps, config.norm_momentum
                group.append(
                    Norm(name=str(number + 1), kind="batch", channels=width, eps=eps, momentum=momentum, groups=1)
                )
            group.append(Act(name=str(number + len(group)), kind="relu"))
            layers += group
            number, in_chans = number + len(group), width
        layers.append(Pool(name=str(number), kind="max", kernel=2, stride=2))
        number += 1
        blocks.append(Chain(name="", role="stage", kind=f"block{block}", nodes=tuple(layers)))
    features = Chain(name="features", role="features", nodes=tuple(blocks))
    return Chain(name="", role="network", nodes=(features, _head(config)))


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
