"""Blocks of a residual network as nodes of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from resnets.arch.attention import attention
from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import (
    Act,
    Blur,
    Chain,
    Conv,
    Identity,
    Node,
    NonLocal,
    Norm,
    PadChannels,
    Pool,
    Residual,
    SplitNorm,
)
from resnets.errors import ConfigError

__all__ = ["EXPANSION", "BlockBuilder", "BlockSpec"]

EXPANSION = {"basic": 1, "bottleneck": 4}


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """Position, channels, stride, dilations and stochastic-depth probability of a block.

    `strides`: whether it would stride without dilation in its place.
    """

    name: str
    stage: int
    first: bool
    last: bool
    non_local: bool
    strides: bool
    in_chans: int
    width: int
    out_chans: int
    stride: int
    first_dilation: int
    dilation: int
    drop_path: float


class BlockBuilder:
    """Builds the nodes of blocks, and the convolutions and norms of stem and head, from one configuration."""

    def __init__(self, config: ResNetConfig) -> None:
        self.config = config

    def block(self, spec: BlockSpec) -> Node:
        """The block with this specification."""
        return self._pre_activation(spec) if self.config.pre_activation else self._post_activation(spec)

    def _convolutions(self, spec: BlockSpec) -> list[Conv]:
        config = self.config
        first = spec.width // config.reduce_first
        stride = 1 if self._blurs(spec) else spec.stride
        normed = not config.pre_activation
        if config.block == "basic":
            return [
                self.conv("conv1", spec.in_chans, first, config.kernel, stride, spec.first_dilation),
                self.conv("conv2", first, spec.out_chans, config.kernel, 1, spec.dilation, normed=normed, last=True),
            ]
        outer, middle = (stride, 1) if config.stride_in == "1x1" else (1, stride)
        return [
            self.conv("conv1", spec.in_chans, first, 1, outer),
            self.conv("conv2", first, spec.width, config.kernel, middle, spec.first_dilation, config.groups),
            self.conv("conv3", spec.width, spec.out_chans, 1, normed=normed, last=True),
        ]

    def _blurs(self, spec: BlockSpec) -> bool:
        return self.config.antialias and (spec.stride > 1 or spec.first_dilation != spec.dilation)

    def _blur_after(self, number: int) -> bool:
        """Whether the blur follows the activation of convolution `number`, the one that would stride."""
        return number == (2 if self.config.block == "bottleneck" and self.config.stride_in == "3x3" else 1)

    def _post_activation(self, spec: BlockSpec) -> Node:
        """conv, norm, act, ..., conv, norm, attention, plus the shortcut, instance norm in IBN-b, act."""
        config, body = self.config, list[Node]()
        convs = self._convolutions(spec)
        for number, conv in enumerate(convs, start=1):
            if number == len(convs):
                zero = config.zero_init_last and config.shortcut != "none"
                body += [conv, self.norm(f"bn{number}", conv.out_chans, zero_init=zero)]
                break
            split = number == 1 and config.ibn and config.ibn[spec.stage] == "a"
            body += [conv, (self._ibn if split else self.norm)(f"bn{number}", conv.out_chans), self.act(f"act{number}")]
            if self._blurs(spec) and self._blur_after(number):
                body.append(self.antialias("aa", spec.stride))
        body += [self.act(f"branch_act{len(convs)}")] if config.branch_act else []
        body += attention(config, spec.out_chans)
        post: list[Node] = [self.act(f"act{len(convs)}")]
        if config.ibn and config.ibn[spec.stage] == "b" and spec.last:
            post.insert(0, self._instance_norm("IN", spec.out_chans))
        post += [self._non_local(spec.out_chans)] if spec.non_local else []
        kind = {"basic": "BasicBlock", "bottleneck": "Bottleneck"}[config.block]
        if config.shortcut == "none":
            return Chain(name=spec.name, role="block", kind=f"Plain{kind}", nodes=(*body, *post))
        return Residual(
            name=spec.name,
            kind=kind,
            body=tuple(body),
            shortcut=self._shortcut(spec),
            post=tuple(post),
            drop_path=spec.drop_path,
        )

    def _non_local(self, channels: int) -> NonLocal:
        """Self-attention with one inner channel, in fast-reid's form."""

        def conv(name: str, in_chans: int, out_chans: int) -> Conv:
            # A filter of one value has no variance to standardise.
            return replace(self.conv(name, in_chans, out_chans, 1), bias=True, standardised=False)

        out = Chain(name="W", role="group", nodes=(conv("0", 1, channels), self.norm("1", channels, zero_init=True)))
        return NonLocal(name="nl", nodes=(*(conv(name, channels, 1) for name in ("g", "theta", "phi")), out))

    def _pre_activation(self, spec: BlockSpec) -> Residual:
        """norm, act, conv, ..., norm, act, conv, attention, plus the shortcut.

        The input of a projection is pre-activated, so both paths share the first norm and activation; the input of any
        other shortcut is that of the block.
        """
        body = list[Node]()
        for number, conv in enumerate(self._convolutions(spec), start=1):
            body += [self.norm(f"bn{number}", conv.in_chans), self.act(f"act{number}")]
            if self._blurs(spec) and self._blur_after(number - 1):
                body.append(self.antialias("aa", spec.stride))
            body.append(conv)
        body += attention(self.config, spec.out_chans)
        projects = self._projects(spec)
        return Residual(
            name=spec.name,
            kind={"basic": "PreActBasicBlock", "bottleneck": "PreActBottleneck"}[self.config.block],
            pre=tuple(body[:2]) if projects else (),
            body=tuple(body[2:] if projects else body),
            shortcut=self._shortcut(spec),
            drop_path=spec.drop_path,
        )

    # Shortcuts

    def _projects(self, spec: BlockSpec) -> bool:
        widens = spec.in_chans != spec.out_chans
        match self.config.shortcut:
            case "C":
                return True
            case "B" | "D":
                return widens or spec.strides  # also where dilation replaces the stride: the weights are the same
            case "first":
                return spec.first
            case "subsample":
                return widens
            case _:
                return False

    def _shortcut(self, spec: BlockSpec) -> tuple[Node, ...]:
        config = self.config
        if self._projects(spec):
            return self._projection(spec)
        if config.shortcut in ("A", "A_after"):
            missing = spec.out_chans - spec.in_chans
            if missing < 0:
                raise ConfigError(
                    f"shortcut {config.shortcut} adds zero channels and cannot drop any; "
                    f"got {spec.in_chans} channels before a block of {spec.out_chans}; use shortcut='B'"
                )
            before = missing // 2 if config.shortcut == "A" else 0
            pad = PadChannels(name="0", stride=spec.stride, before=before, after=missing - before)
            return (pad,) if missing or spec.stride > 1 else ()
        if spec.stride > 1:  # subsampling, as TF-slim's max pool with a 1x1 window
            return (Pool(name="0", kind="max", kernel=1, stride=spec.stride),)
        return ()

    def _projection(self, spec: BlockSpec) -> tuple[Node, ...]:
        config, stride = self.config, spec.stride
        normed = config.shortcut_norm and not config.pre_activation
        pool = list[Node]()
        if config.shortcut == "D":
            pool.append(self._average(spec))
            stride = 1
        kernel = config.shortcut_kernel if stride > 1 or spec.dilation > 1 else 1  # timm and Caffe: not for stage 1
        dilation = spec.first_dilation if kernel > 1 else 1
        conv = self.conv(str(len(pool)), spec.in_chans, spec.out_chans, kernel, stride, dilation, normed=normed)
        norm = [self.norm(str(len(pool) + 1), spec.out_chans)] if normed else []
        return (*pool, conv, *norm)

    def _average(self, spec: BlockSpec) -> Node:
        """Average pool of ResNet-D's shortcut (He et al. 2019), as in timm for strides and for dilation."""
        if spec.stride == 1 and spec.dilation == 1:
            return Identity(name="0")
        if spec.dilation > 1:
            return Pool(name="0", kind="avg", kernel=2, stride=1, padding="same")
        return Pool(name="0", kind="avg", kernel=2, stride=spec.stride, ceil=True)

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
        """A convolution as configured. `normed`: a norm follows; `last`: it ends a residual branch."""
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
            standardised_eps=config.standardised_eps,
            zero_init=last and config.zero_init_last and config.pre_activation,
        )

    def norm(self, name: str, channels: int, zero_init: bool = False) -> Norm:
        """The configured norm."""
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
        """Norm of the stem: an instance norm where the first stage is IBN-b."""
        instance = self.config.ibn and self.config.ibn[0] == "b"
        return self._instance_norm(name, channels) if instance else self.norm(name, channels)

    def _instance_norm(self, name: str, channels: int) -> Norm:
        return Norm(name=name, kind="instance", channels=channels, eps=1e-5, momentum=0.1, groups=1)

    def _ibn(self, name: str, channels: int) -> SplitNorm:
        """IBN-a (Pan et al. 2018): instance norm on the first half of the channels."""
        half = channels // 2
        return SplitNorm(name=name, parts=(self._instance_norm("IN", half), self.norm("BN", channels - half)))

    def antialias(self, name: str, stride: int) -> Node:
        """The filter of `antialias`, which subsamples by `stride`."""
        if self.config.antialias_filter == "blur":
            return Blur(name=name, stride=stride)
        # timm's average has no effect where dilation replaces the stride
        return Pool(name=name, kind="avg", kernel=stride, stride=stride) if stride > 1 else Identity(name=name)

    def act(self, name: str) -> Act:
        """The configured activation."""
        return Act(name=name, kind=self.config.act)
