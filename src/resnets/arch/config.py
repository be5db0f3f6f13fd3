"""What a residual network is, in one frozen description. The plan is the only reader of its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resnets.arch.base_config import BaseConfig
from resnets.arch.rules import check_resnet

__all__ = ["ResNetConfig"]


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(BaseConfig):
    """A residual network.

    Args:
        block: `basic` (two 3x3) or `bottleneck` (1x1, 3x3, 1x1, four times wider at its end).
        depths: blocks in each stage.
        widths: width of each stage's 3x3 before `group_width` and `groups`; a bottleneck puts out four times it.
        pre_activation: norm and activation before each convolution (He et al. 2016, v2).
        kernel: cells a side of the middle convolution (both, in a basic block); odd.
        groups: cardinality of a bottleneck's 3x3 (ResNeXt).
        group_width: width of one group, 64 being a plain network's (ResNeXt-50 32x4d has 4, wide ResNets 128).
        reduce_first: the first convolution is so many times narrower than the 3x3 (SENet-154 has 2).
        stride_in: which convolution of a bottleneck strides: `3x3` (v1.5, torchvision) or `1x1`, the first
            (v1, Caffe, Keras).
        stride_unit: which block of a stage strides: the `first`, or the `last` (slim, Keras v2), which then does it
            for the next stage.
        stem: `7x7` (stride 2), `3x3` (stride 1, the CIFAR networks), `deep` (three 3x3, the first of stride 2) or
            `tiered` (as deep, of 3/8, 1/2 and 1 of the width).
        stem_width: channels of the stem.
        stem_act: whether an activation follows the stem's norm (the re-identification tutorials leave it out).
        stem_pool: `max` (3x3, stride 2, padding 1), `max_same` (TensorFlow's SAME), `max_zero` (padded with zeros, not
            with minus infinity: Keras, BiT), `max_ceil` (unpadded, rounded up: Caffe), `max_valid` (unpadded),
            `max2` (2x2, unpadded) or `none`.
        antialias: blur before every subsampling but the stem convolution's and a shortcut's (Zhang 2019, as timm).
        shortcut: as in He et al. 2015: `A` (every other cell, zero channels on both sides), `B` (1x1 convolution where
            the shape changes), `C` (1x1 convolution everywhere), `none` (a plain network); and `A_after` (zero
            channels after), `D` (average pool, then 1x1: ResNet-D), `first` (1x1 in the first block of every stage:
            TensorFlow official), `subsample` (1x1 where channels change, else every other cell: slim).
        shortcut_kernel: cells a side of a projection that strides (SENet-154 has 3).
        shortcut_norm: whether a norm follows a post-activation network's projection.
        conv_bias: which convolutions have a bias: `none`, `all`, or `unnormed`, those that no norm follows.
        standardised: weight-standardised convolutions (Qiao et al. 2019, BiT).
        padding: `symmetric`, or `same`: TensorFlow's, which for a stride puts the odd cell after.
        attention: `none`, `se` (Hu et al. 2018), `eca` (Wang et al. 2020) or `cbam` (Woo et al. 2018), at the end of
            each residual branch.
        attention_reduction: channels are squeezed by it; attention_round: to a multiple of this (timm has 8).
        se_form: `conv` (1x1 convolutions with bias) or `linear` (linear layers without).
        ibn: for each stage `a` (half instance norm in the first norm; Pan et al. 2018), `b` (instance norm after the
            sum of its last block, and in the stem if the first stage has it) or empty; `()` is none at all.
        norm: `batch`, `group`, or `frozen_batch` (statistics and affine terms never move).
        norm_eps, norm_momentum: as in torch; norm_groups: groups of a group norm.
        act: the activation.
        zero_init_last: start each residual branch at zero (last norm, or last convolution if pre-activation).
        output_stride: input cells per output cell, 32 by nature (CIFAR networks 4); less replaces the strides of
            the last stages with dilation. `None`: by nature.
        dilation_rule: `torchvision`: the block that would stride keeps the dilation before it; `detectron`: it
            has the new one already.
        last_stride: stride of the last stage, 1 or 2; 1 keeps re-identification maps twice as fine, undilated.
        drop_path_rate: stochastic depth, rising linearly over the blocks from 0 to this probability.
        drop_rate: dropout probability before the classifier.
        global_pool: `avg`, `max`, `gem` (generalised mean, learnt power; Radenovic et al. 2018), `window` (average
            over fixed windows, flattened) or `none` (the last map; only with `num_classes=0`).
        pool_window: cells a side of that window.
        in_chans: channels of the input.
        num_classes: logits that come out; 0 answers embeddings.
        img_size: pixels a side that the network is meant for.

    Raises:
        ConfigError: a value outside its rule, or two that contradict each other.
    """

    block: Literal["basic", "bottleneck"] = "bottleneck"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    pre_activation: bool = False
    kernel: int = 3
    groups: int = 1
    group_width: int = 64
    reduce_first: int = 1
    stride_in: Literal["3x3", "1x1"] = "3x3"
    stride_unit: Literal["first", "last"] = "first"
    stem: Literal["7x7", "3x3", "deep", "tiered"] = "7x7"
    stem_width: int = 64
    stem_act: bool = True
    stem_pool: Literal["max", "max_same", "max_zero", "max_ceil", "max_valid", "max2", "none"] = "max"
    antialias: bool = False
    shortcut: Literal["A", "A_after", "B", "C", "D", "first", "subsample", "none"] = "B"
    shortcut_kernel: int = 1
    shortcut_norm: bool = True
    conv_bias: Literal["none", "all", "unnormed"] = "none"
    standardised: bool = False
    padding: Literal["symmetric", "same"] = "symmetric"
    attention: Literal["none", "se", "eca", "cbam"] = "none"
    attention_reduction: int = 16
    attention_round: int = 1
    se_form: Literal["conv", "linear"] = "conv"
    ibn: tuple[Literal["a", "b", ""], ...] = ()
    norm: Literal["batch", "group", "frozen_batch"] = "batch"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    norm_groups: int = 32
    act: Literal["relu"] = "relu"
    zero_init_last: bool = False
    output_stride: int | None = None
    dilation_rule: Literal["torchvision", "detectron"] = "torchvision"
    last_stride: int | None = None
    drop_path_rate: float = 0.0
    drop_rate: float = 0.0
    global_pool: Literal["avg", "max", "gem", "window", "none"] = "avg"
    pool_window: int = 7
    in_chans: int = 3
    num_classes: int = 1000
    img_size: int = 224

    def check_rules(self) -> None:
        check_resnet(self)

    @property
    def stem_reduction(self) -> int:
        """Input cells per cell where the first stage begins."""
        return (1 if self.stem == "3x3" else 2) * (1 if self.stem_pool == "none" else 2)
