"""Attention at the end of a residual branch, as nodes of a plan."""

from __future__ import annotations

import math
from typing import Literal

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Act, Chain, ChannelConv, Conv, Gate, Linear, Node, Norm

__all__ = ["attention", "squeezed_width"]


def attention(config: ResNetConfig, width: int) -> list[Node]:
    """Attention of a residual branch of `width` channels: one node named `se`, as in timm, or none."""
    match config.attention:
        case "se":
            return [_squeeze_and_excitation(config, width)]
        case "eca":
            return [_eca(width)]
        case "cbam":
            return [_cbam(config, width)]
        case "none":
            return []


def squeezed_width(width: int, reduction: int, multiple: int) -> int:
    """Channels between a gate's two layers: `width / reduction`, rounded to a `multiple` as timm does it."""
    if multiple == 1:
        return max(width // reduction, 1)
    return max(multiple, int(width / reduction + multiple / 2) // multiple * multiple)


def _squeeze_and_excitation(config: ResNetConfig, width: int) -> Gate:
    """mean, layer, act, layer, sigmoid (Hu et al. 2018); layers are 1x1 convolutions, or linear as in IBN-Net."""
    hidden = squeezed_width(width, config.attention_reduction, config.attention_round)
    if config.se_form == "conv":
        first = Conv(name="fc1", in_chans=width, out_chans=hidden, kernel=1, bias=True)
        second = Conv(name="fc2", in_chans=hidden, out_chans=width, kernel=1, bias=True)
        return Gate(name="se", kind="se", nodes=(first, Act(name="act", kind="relu"), second))
    layers = (
        Linear(name="0", in_features=width, out_features=hidden, bias=False),
        Act(name="1", kind="relu"),
        Linear(name="2", in_features=hidden, out_features=width, bias=False),
    )
    return Gate(name="se", kind="se", nodes=(Chain(name="fc", role="group", nodes=layers),))


def _eca(width: int) -> Gate:
    """mean, 1-d convolution over channels, sigmoid (Wang et al. 2020, gamma 2, beta 1).

    The kernel is odd and grows with the logarithm of the width.
    """
    reach = int(abs(math.log2(width) + 1) / 2)
    kernel = max(reach if reach % 2 else reach + 1, 3)
    return Gate(name="se", kind="eca", nodes=(ChannelConv(name="conv", channels=width, kernel=kernel),))


def _cbam(config: ResNetConfig, width: int) -> Chain:
    """Channel gate, then spatial gate (Woo et al. 2018), with timm's paths.

    The spatial gate's norm has one channel, so it is a batch norm even in networks of group norms; it is frozen where
    all norms are.
    """
    hidden = squeezed_width(width, config.attention_reduction, config.attention_round)
    kind: Literal["batch", "frozen_batch"] = "frozen_batch" if config.norm == "frozen_batch" else "batch"
    channel = (
        Conv(name="fc1", in_chans=width, out_chans=hidden, kernel=1),
        Act(name="act", kind="relu"),
        Conv(name="fc2", in_chans=hidden, out_chans=width, kernel=1),
    )
    spatial = (
        Conv(name="conv", in_chans=2, out_chans=1, kernel=7, padding=3),
        Norm(name="bn", kind=kind, channels=1, eps=1e-5, momentum=0.1, groups=1),
    )
    return Chain(
        name="se",
        role="group",
        kind="CBAM",
        nodes=(
            Gate(name="channel", kind="channel", nodes=channel),
            Gate(name="spatial", kind="spatial", nodes=(Chain(name="conv", role="group", nodes=spatial),)),
        ),
    )
