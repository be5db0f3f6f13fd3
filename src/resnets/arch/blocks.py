"""The blocks of a residual network, as nodes of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnets.arch.attention import attention
from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Act, Blur, Chain, Conv, Identity, Node, Norm, PadChannels, Pool, Residual, SplitNorm
from resnets.errors import ConfigError

__all__ = ["EXPANSION", "BlockMaker", "Place"]

EXPANSION = {"basic": 1, "bottleneck": 4}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a block stands: its stage, its channels, stride and dilations, and its share of stochastic depth."""

    name: str
    stage: int
    first: bool
    last: bool
    in_chans: int
    width: int
    out_chans: int
    stride: int
    first_dilation: int
    dilation: int
    drop_path: float


class BlockMaker:
    """Draws the blocks of one description, and the operations that all its parts share."""

    def __init__(self, config: ResNetConfig) -> None:
        self.config = config

    def block(self, place: Place) -> Node:
        """The block at `place`."""
        if self.config.pre_activation:
            return self._pre_activation(place)
        return self._post_activation(place)

    def _convolutions(self, place: Place) -> list[Conv]:
        config = self.config
        first = place.width // config.reduce_first
        stride = 1 if self._blurs(place) else place.stride
        normed = not config.pre_activation
        if config.block == "basic":
            return [
                self.conv("conv1", place.in_chans, first, config.kernel, stride, place.first_dilation),
                self.conv("conv2", first, place.out_chans, config.kernel, 1, place.dilation, normed=normed, last=True),
            ]
        outer, middle = (stride, 1) if config.stride_in == "1x1" else (1, stride)
        return [
            self.conv("conv1", place.in_chans, first, 1, outer),
            self.conv("conv2", first, place.width, config.kernel, middle, place.first_dilation, config.groups),
            self.conv("conv3", place.width, place.out_chans, 1, normed=normed, last=True),
        ]

    def _blurs(self, place: Place) -> bool:
        return self.config.antialias and (place.stride > 1 or place.first_dilation != place.dilation)

    def _blur_after(self, number: int) -> bool:
        """Whether the blur stands behind the activation of convolution `number`: the one that would stride."""
        return number == (2 if self.config.block == "bottleneck" and self.config.stride_in == "3x3" else 1)

    def _post_activation(self, place: Place) -> Node:
        """conv, norm, act, ..., conv, norm, attention, plus the shortcut, instance norm in IBN-b, act."""
        config, body = self.config, list[Node]()
        convs = self._convolutions(place)
        for number, conv in enumerate(convs, start=1):
            if number == len(convs):
                zero = config.zero_init_last and config.shortcut != "none"
                body += [conv, self.norm(f"bn{number}", conv.out_chans, zero_init=zero)]
                break
            split = number == 1 and config.ibn and config.ibn[place.stage] == "a"
            body += [conv, (self._ibn if split else self.norm)(f"bn{number}", conv.out_chans), self.act(f"act{number}")]
            if self._blurs(place) and self._blur_after(number):
                body.append(Blur(name="aa", stride=place.stride))
        body += attention(config, place.out_chans)
        post: list[Node] = [self.act(f"act{len(convs)}")]
        if config.ibn and config.ibn[place.stage] == "b" and place.last:
            post.insert(0, self._instance_norm("IN", place.out_chans))
        kind = {"basic": "BasicBlock", "bottleneck": "Bottleneck"}[config.block]
        if config.shortcut == "none":
            return Chain(name=place.name, role="block", kind=f"Plain{kind}", nodes=(*body, *post))
        return Residual(
            name=place.name,
            kind=kind,
            body=tuple(body),
            shortcut=self._shortcut(place),
            post=tuple(post),
            drop_path=place.drop_path,
        )

    def _pre_activation(self, place: Place) -> Residual:
        """norm, act, conv, ..., norm, act, conv, attention, plus the shortcut.

        A projection reads the pre-activated input, so that the first norm and activation serve both paths; any other
        shortcut carries the input itself.
        """
        body = list[Node]()
        for number, conv in enumerate(self._convolutions(place), start=1):
            body += [self.norm(f"bn{number}", conv.in_chans), self.act(f"act{number}")]
            if self._blurs(place) and self._blur_after(number - 1):
                body.append(Blur(name="aa", stride=place.stride))
            body.append(conv)
        body += attention(self.config, place.out_chans)
        projects = self._projects(place)
        return Residual(
            name=place.name,
            kind={"basic": "PreActBasicBlock", "bottleneck": "PreActBottleneck"}[self.config.block],
            pre=tuple(body[:2]) if projects else (),
            body=tuple(body[2:] if projects else body),
            shortcut=self._shortcut(place),
            drop_path=place.drop_path,
        )

    # Shortcuts

    def _projects(self, place: Place) -> bool:
        widens = place.in_chans != place.out_chans
        match self.config.shortcut:
            case "C":
                return True
            case "B" | "D":
                return widens or place.stride > 1
            case "first":
                return place.first
            case "subsample":
                return widens
            case _:
                return False

    def _shortcut(self, place: Place) -> tuple[Node, ...]:
        config = self.config
        if self._projects(place):
            return self._projection(place)
        if config.shortcut in ("A", "A_after"):
            missing = place.out_chans - place.in_chans
            if missing < 0:
                raise ConfigError(
                    f"shortcut {config.shortcut} pads with channels of zeros, and cannot drop any; "
                    f"got {place.in_chans} channels before a block of {place.out_chans}; use shortcut='B'"
                )
            before = missing // 2 if config.shortcut == "A" else 0
            pad = PadChannels(name="0", stride=place.stride, before=before, after=missing - before)
            return (pad,) if missing or place.stride > 1 else ()
        if place.stride > 1:  # every other cell, as slim's max pool of one cell takes it
            return (Pool(name="0", kind="max", kernel=1, stride=place.stride),)
        return ()

    def _projection(self, place: Place) -> tuple[Node, ...]:
        config, stride = self.config, place.stride
        normed = config.shortcut_norm and not config.pre_activation
        pool = list[Node]()
        if config.shortcut == "D":
            pool.append(self._average(place))
            stride = 1
        kernel = config.shortcut_kernel if stride > 1 or place.dilation > 1 else 1  # timm and Caffe: not for stage 1
        dilation = place.first_dilation if kernel > 1 else 1
        conv = self.conv(str(len(pool)), place.in_chans, place.out_chans, kernel, stride, dilation, normed=normed)
        norm = [self.norm(str(len(pool) + 1), place.out_chans)] if normed else []
        return (*pool, conv, *norm)

    def _average(self, place: Place) -> Node:
        """ResNet-D's pool of the shortcut (He et al. 2019), as timm has it for strides and for dilation."""
        if place.stride == 1 and place.dilation == 1:
            return Identity(name="0")
        if place.dilation > 1:
            return Pool(name="0", kind="avg", kernel=2, stride=1, padding="same")
        return Pool(name="0", kind="avg", kernel=2, stride=place.stride, ceil=True)

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
        *,
        normed: bool = True,
        last: bool = False,
    ) -> Conv:
        """A convolution of the description's kind. `normed`: a norm follows; `last`: it ends a residual branch."""
        config = self.config
        same = config.padding == "same" and stride > 1  # at stride 1 SAME is symmetric
        return Conv(
            name=name,
            in_chans=in_chans,
            out_chans=out_chans,
            kernel=kernel,
            stride=stride,
            padding="same" if same else dilation * (kernel - 1) // 2,
            dilation=dilation,
            groups=groups,
            bias=config.conv_bias == "all" or (config.conv_bias == "unnormed" and not normed),
            standardised=config.standardised,
            zero_init=last and config.zero_init_last and config.pre_activation,
        )

    def norm(self, name: str, channels: int, zero_init: bool = False) -> Norm:
        """The description's norm."""
        config = self.config
        if config.norm == "group" and channels % config.norm_groups:
            raise ConfigError(
                f"norm_groups must divide the channels of every norm; got {config.norm_groups} for {channels}; "
                f"set norm_groups={math.gcd(channels, config.norm_groups)}"
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

    def first_norm(self, name: str, channels: int) -> Norm:
        """The stem's norm: an instance norm where the first stage is IBN-b."""
        instance = self.config.ibn and self.config.ibn[0] == "b"
        return self._instance_norm(name, channels) if instance else self.norm(name, channels)

    def _instance_norm(self, name: str, channels: int) -> Norm:
        return Norm(name=name, kind="instance", channels=channels, eps=1e-5, momentum=0.1, groups=1)

    def _ibn(self, name: str, channels: int) -> SplitNorm:
        """IBN-a (Pan et al. 2018): instance norm on the first half of the channels."""
        half = channels // 2
        return SplitNorm(name=name, parts=(self._instance_norm("IN", half), self.norm("BN", channels - half)))

    def act(self, name: str) -> Act:
        """The description's activation."""
        return Act(name=name, kind=self.config.act)
