"""From a description to a plan: the one place where strides, widths, dilations and names are worked out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import (
    Act,
    Chain,
    Conv,
    Flatten,
    GlobalPool,
    Identity,
    Linear,
    Node,
    Norm,
    PadChannels,
    Pool,
    Residual,
)
from resnets.errors import ConfigError

__all__ = ["plan"]

EXPANSION = {"basic": 1, "bottleneck": 4}


def plan(config: ResNetConfig) -> Chain:
    """The tree of `config`: stem, stages of blocks, head.

    The top level keeps torchvision's order of children whatever the options (conv1, bn1, act1, maxpool, layer1,
    ...); where an option drops one, an identity keeps its place.
    """
    draw = _Draughtsman(config)
    return Chain(
        name="",
        role="network",
        nodes=(draw.stem(), *draw.stages(), *draw.last_norm(), draw.head()),
    )


@dataclass(frozen=True)
class _Place:
    """Where a block stands: its channels, strides and dilations, and its share of stochastic depth."""

    name: str
    in_chans: int
    width: int
    out_chans: int
    stride: int
    first_dilation: int
    dilation: int
    drop_path: float

    @property
    def changes_shape(self) -> bool:
        return self.stride != 1 or self.in_chans != self.out_chans


class _Draughtsman:
    def __init__(self, config: ResNetConfig) -> None:
        self.config = config
        self.expansion = EXPANSION[config.block]

    # The parts of a network

    def stem(self) -> Chain:
        config = self.config
        kernel, stride = (7, 2) if config.stem == "7x7" else (3, 1)
        width = config.stem_width
        normed = not config.pre_activation  # a pre-activation network's first block brings norm and activation
        return Chain(
            name="",
            role="stem",
            nodes=(
                self.conv("conv1", config.in_chans, width, kernel, stride),
                self.norm("bn1", width) if normed else Identity(name="bn1"),
                self.act("act1") if normed else Identity(name="act1"),
                Pool(name="maxpool", kind="max", kernel=3, stride=2, padding=1)
                if config.stem_pool == "max"
                else Identity(name="maxpool"),
            ),
        )

    def stages(self) -> Iterator[Chain]:
        config = self.config
        in_chans, reduction, dilation = config.stem_width, config.stem_reduction, 1
        block, total = 0, sum(config.depths)
        for index, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            stride, first_dilation = self.natural_stride(index), dilation
            if config.output_stride is not None and reduction * stride > config.output_stride:
                dilation, stride = dilation * stride, 1  # torchvision's convention: the next block widens
            reduction *= stride
            blocks = []
            for position in range(depth):
                place = _Place(
                    name=str(position),
                    in_chans=in_chans,
                    width=self.inner_width(width),
                    out_chans=width * self.expansion,
                    stride=stride if position == 0 else 1,
                    first_dilation=first_dilation if position == 0 else dilation,
                    dilation=dilation,
                    drop_path=config.drop_path_rate * block / max(total - 1, 1),
                )
                blocks.append(self.block(place))
                in_chans, block = place.out_chans, block + 1
            yield Chain(name=f"layer{index + 1}", role="stage", nodes=tuple(blocks))

    def inner_width(self, width: int) -> int:
        """Channels of a block's 3x3 where the stage is `width` wide."""
        config = self.config
        one = int(width * config.group_width / 64)
        if not one:
            raise ConfigError(
                "a stage's width x group_width / 64, the channels of one group, must be at least 1; "
                f"got {width} x {config.group_width} / 64; widen the stage or its groups"
            )
        return one * config.groups

    def natural_stride(self, stage: int) -> int:
        if stage == 0:
            return 1
        if stage == len(self.config.depths) - 1 and self.config.last_stride is not None:
            return self.config.last_stride
        return 2

    def last_norm(self) -> tuple[Node, ...]:
        if not self.config.pre_activation:
            return ()
        return (Chain(name="", role="group", nodes=(self.norm("norm", self.num_features), self.act("act"))),)

    @property
    def num_features(self) -> int:
        return self.config.widths[-1] * self.expansion

    def head(self) -> Chain:
        config = self.config
        pooled = config.global_pool != "none"
        return Chain(
            name="",
            role="head",
            nodes=(
                GlobalPool(name="avgpool", kind=config.global_pool)
                if config.global_pool != "none"
                else Identity(name="avgpool"),
                *((Flatten(name=""),) if pooled else ()),
                Linear(name="fc", in_features=self.num_features, out_features=config.num_classes)
                if config.num_classes
                else Identity(name="fc"),
            ),
        )

    # Blocks

    def block(self, place: _Place) -> Node:
        if self.config.pre_activation:
            return self.pre_activation_block(place)
        return self.post_activation_block(place)

    def convolutions(self, place: _Place) -> list[Conv]:
        if self.config.block == "basic":
            return [
                self.conv("conv1", place.in_chans, place.width, 3, place.stride, place.first_dilation),
                self.conv("conv2", place.width, place.out_chans, 3, 1, place.dilation, zero_init=self.zero_last_conv),
            ]
        first, middle = (place.stride, 1) if self.config.stride_in == "1x1" else (1, place.stride)
        return [
            self.conv("conv1", place.in_chans, place.width, 1, first),
            self.conv("conv2", place.width, place.width, 3, middle, place.first_dilation, self.config.groups),
            self.conv("conv3", place.width, place.out_chans, 1, zero_init=self.zero_last_conv),
        ]

    @property
    def zero_last_conv(self) -> bool:
        return self.config.zero_init_last and self.config.pre_activation

    def post_activation_block(self, place: _Place) -> Node:
        """conv, norm, act, ..., conv, norm, plus the shortcut, act."""
        body: list[Node] = []
        convs = self.convolutions(place)
        for number, conv in enumerate(convs, start=1):
            last = number == len(convs)
            zero = last and self.config.zero_init_last and self.config.shortcut != "none"
            body += [conv, self.norm(f"bn{number}", conv.out_chans, zero_init=zero)]
            if not last:
                body.append(self.act(f"act{number}"))
        post = self.act(f"act{len(convs)}")
        kind = {"basic": "BasicBlock", "bottleneck": "Bottleneck"}[self.config.block]
        if self.config.shortcut == "none":
            return Chain(name=place.name, role="block", kind=f"Plain{kind}", nodes=(*body, post))
        return Residual(
            name=place.name,
            kind=kind,
            body=tuple(body),
            shortcut=self.shortcut(place),
            post=(post,),
            drop_path=place.drop_path,
        )

    def pre_activation_block(self, place: _Place) -> Residual:
        """norm, act, conv, ..., norm, act, conv, plus the shortcut.

        A projection reads the pre-activated input, so that the first norm and activation serve both paths; an
        identity (padded or not) carries the input itself.
        """
        body: list[Node] = []
        convs = self.convolutions(place)
        for number, conv in enumerate(convs, start=1):
            body += [self.norm(f"bn{number}", conv.in_chans), self.act(f"act{number}"), conv]
        projects = self.projects(place)
        return Residual(
            name=place.name,
            kind={"basic": "PreActBasicBlock", "bottleneck": "PreActBottleneck"}[self.config.block],
            pre=tuple(body[:2]) if projects else (),
            body=tuple(body[2:] if projects else body),
            shortcut=self.shortcut(place),
            drop_path=place.drop_path,
        )

    def projects(self, place: _Place) -> bool:
        return self.config.shortcut == "C" or (self.config.shortcut == "B" and place.changes_shape)

    def shortcut(self, place: _Place) -> tuple[Node, ...]:
        if self.projects(place):
            conv = self.conv("0", place.in_chans, place.out_chans, 1, place.stride)
            return (conv,) if self.config.pre_activation else (conv, self.norm("1", place.out_chans))
        if self.config.shortcut == "A" and place.changes_shape:
            missing = place.out_chans - place.in_chans
            if missing < 0:
                raise ConfigError(
                    "shortcut A pads with channels of zeros, and cannot drop any; "
                    f"got {place.in_chans} channels before a block of {place.out_chans}; use shortcut='B'"
                )
            before = missing // 2  # zeros on both sides, as akamaster's networks have them
            return (PadChannels(name="0", stride=place.stride, before=before, after=missing - before),)
        return ()

    # Operations

    def conv(
        self,
        name: str,
        in_chans: int,
        out_chans: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        zero_init: bool = False,
    ) -> Conv:
        return Conv(
            name=name,
            in_chans=in_chans,
            out_chans=out_chans,
            kernel=kernel,
            stride=stride,
            padding=dilation * (kernel - 1) // 2,
            dilation=dilation,
            groups=groups,
            zero_init=zero_init,
        )

    def norm(self, name: str, channels: int, zero_init: bool = False) -> Norm:
        config = self.config
        if config.norm == "group" and channels % config.norm_groups:
            raise ConfigError(
                f"norm_groups must divide the channels of every norm; got {config.norm_groups} for {channels}; "
                f"set norm_groups={gcd(channels, config.norm_groups)}"
            )
        return Norm(
            name=name,
            kind=config.norm,
            channels=channels,
            eps=config.norm_eps,
            momentum=config.norm_momentum,
            groups=config.norm_groups,
            zero_init=zero_init,
        )

    def act(self, name: str) -> Act:
        return Act(name=name, kind=self.config.act)
