"""Build a plan from a configuration. Only this module and `blocks` derive strides, widths and names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from resnets.arch.blocks import EXPANSION, BlockBuilder, BlockSpec
from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import Act, Chain, Flatten, GlobalPool, Identity, Linear, Node, Norm, Pool
from resnets.arch.shapes import trace
from resnets.arch.vgg import VGGConfig, plan_vgg
from resnets.errors import ConfigError

__all__ = ["plan"]

POOLS: dict[str, Pool] = {
    "max": Pool(name="maxpool", kind="max", kernel=3, stride=2, padding=1),
    "max_same": Pool(name="maxpool", kind="max", kernel=3, stride=2, padding="same"),
    "max_zero": Pool(name="maxpool", kind="max", kernel=3, stride=2, padding=1, zeros=True),
    "max_ceil": Pool(name="maxpool", kind="max", kernel=3, stride=2, ceil=True),
    "max_valid": Pool(name="maxpool", kind="max", kernel=3, stride=2),
    "max2": Pool(name="maxpool", kind="max", kernel=2, stride=2),
    "avg2": Pool(name="maxpool", kind="avg", kernel=2, stride=2),
}


NECK_STD = 0.001  # of the initial weights of a classifier after a neck, as in reid-strong-baseline


@lru_cache(maxsize=64)
def plan(config: NetworkConfig) -> Chain:
    """Build the plan of `config`: stem, stages of blocks, head.

    The top level has torchvision's order of children for any options (conv1, bn1, act1, maxpool, layer1, ...); where
    an option drops one, an identity replaces it.
    """
    if isinstance(config, VGGConfig):
        return plan_vgg(config)
    builder = BlockBuilder(config)
    body = (_stem(config, builder), *_stages(config, builder), *_last_norm(config, builder))
    return Chain(name="", role="network", nodes=(*body, _head(config, body)))


def _stem(config: ResNetConfig, builder: BlockBuilder) -> Chain:
    normed = not config.pre_activation  # a pre-activation block starts with norm and activation
    width = config.stem_width
    return Chain(
        name="",
        role="stem",
        nodes=(
            _stem_convolution(config, builder),
            builder.first_norm("bn1", width) if normed else Identity(name="bn1"),
            builder.act("act1") if normed and config.stem_act else Identity(name="act1"),
            _stem_pool(config, builder),
        ),
    )


def _stem_convolution(config: ResNetConfig, builder: BlockBuilder) -> Node:
    normed = not config.pre_activation
    if config.stem in ("7x7", "3x3"):
        kernel, stride = (7, 2) if config.stem == "7x7" else (3, 1)
        return builder.conv("conv1", config.in_chans, config.stem_width, kernel, stride, normed=normed)
    width = config.stem_width  # timm: `deep` has two of half the width, `tiered` one of 3/8 and one of a half
    first, second = (3 * (width // 8) if config.stem == "tiered" else width // 2), width // 2
    return Chain(
        name="conv1",
        role="group",
        nodes=(
            builder.conv("0", config.in_chans, first, 3, 2),
            builder.norm("1", first),
            builder.act("2"),
            builder.conv("3", first, second, 3),
            builder.norm("4", second),
            builder.act("5"),
            builder.conv("6", second, width, 3, normed=normed),
        ),
    )


def _stem_pool(config: ResNetConfig, builder: BlockBuilder) -> Node:
    width = config.stem_width
    if config.stem_pool == "none":
        return Identity(name="maxpool")
    if config.stem_pool == "conv":
        conv = builder.conv("0", width, width, 3, 2)
        return Chain(name="maxpool", role="group", nodes=(conv, builder.norm("1", width), builder.act("2")))
    if not config.antialias or config.stem_pool == "avg2":
        return POOLS[config.stem_pool]
    dense = Pool(name="0", kind="max", kernel=3, stride=1, padding=1)
    return Chain(name="maxpool", role="group", nodes=(dense, builder.antialias("1", 2)))


def _stages(config: ResNetConfig, builder: BlockBuilder) -> Iterator[Chain]:
    in_chans, reduction, dilation = config.stem_width, config.stem_reduction, 1
    number, total = 0, sum(config.depths)
    for index, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
        blocks = []
        for position in range(depth):
            natural = _natural_stride(config, index, position)
            stride, before = natural, dilation
            if config.output_stride is not None and reduction * stride > config.output_stride:
                dilation, stride = dilation * stride, 1
            reduction *= stride
            spec = BlockSpec(
                name=str(position),
                stage=index,
                first=position == 0,
                last=position == depth - 1,
                strides=natural > 1,
                non_local=bool(config.non_local) and depth - position <= config.non_local[index],
                in_chans=in_chans,
                width=_inner_width(config, width),
                out_chans=width * EXPANSION[config.block],
                stride=stride,
                first_dilation=before if config.dilation_rule == "torchvision" else dilation,
                dilation=dilation,
                drop_path=config.drop_path_rate * number / max(total - 1, 1),
            )
            blocks.append(builder.block(spec))
            in_chans, number = spec.out_chans, number + 1
        yield Chain(name=f"layer{index + 1}", role="stage", nodes=tuple(blocks))


def _inner_width(config: ResNetConfig, width: int) -> int:
    """Channels of a block's 3x3 in a stage of `width` channels."""
    one = int(width * config.group_width / 64)
    if not one:
        raise ConfigError(
            "channels of one group, width x group_width / 64, must be at least 1; "
            f"got {width} x {config.group_width} / 64; widen the stage or its groups"
        )
    if one * config.groups % config.reduce_first:
        raise ConfigError(
            f"reduce_first must divide the channels of every 3x3; got {config.reduce_first} for "
            f"{one * config.groups} channels"
        )
    if one * config.groups // config.reduce_first % config.groups:
        raise ConfigError(
            f"groups must divide the channels before every 3x3; got {config.groups} for "
            f"{one * config.groups // config.reduce_first}, of reduce_first={config.reduce_first}; lower one of them"
        )
    return one * config.groups


def _natural_stride(config: ResNetConfig, stage: int, position: int) -> int:
    """Stride of a block before dilation replaces it: of a stage's first block, or of the previous stage's last."""
    if config.stride_unit == "last":
        stage, strides = stage + 1, position == config.depths[stage] - 1
    else:
        strides = position == 0
    if not strides or not 0 < stage < len(config.depths):
        return 1
    return config.last_stride or 2 if stage == len(config.depths) - 1 else 2


def _last_norm(config: ResNetConfig, builder: BlockBuilder) -> tuple[Chain, ...]:
    if not config.pre_activation:
        return ()
    width = config.widths[-1] * EXPANSION[config.block]
    return (Chain(name="", role="group", nodes=(builder.norm("norm", width), builder.act("act"))),)


def _head(config: ResNetConfig, body: tuple[Node, ...]) -> Chain:
    features = config.widths[-1] * EXPANSION[config.block]
    flatten: tuple[Node, ...] = (Flatten(name=""),)
    pool: Node
    if config.global_pool == "none":
        pool, flatten = Identity(name="avgpool"), ()
    elif config.global_pool == "window":
        pool = Pool(name="avgpool", kind="avg", kernel=config.pool_window, stride=config.pool_window)
        windows = Chain(name="", role="network", nodes=(*body, pool, *flatten))
        (features,) = trace(windows, (config.in_chans, config.img_size, config.img_size))[0].result.shape
    else:
        pool = GlobalPool(name="avgpool", kind=config.global_pool)
        features *= 2 if config.global_pool == "catavgmax" else 1
    neck = _neck(config, features)
    classifier = (
        Linear(
            name="fc",
            in_features=config.embedding_dim or features,
            out_features=config.num_classes,
            bias=config.classifier_bias and config.classifier == "linear",
            dense=config.global_pool == "none",
            cosine=config.classifier_scale if config.classifier == "cosine" else None,
            init_std=None if config.classifier == "linear" and config.neck == "none" else NECK_STD,
        )
        if config.num_classes
        else Identity(name="fc")
    )
    return Chain(name="", role="head", nodes=(pool, *flatten, *neck, classifier))


def _neck(config: ResNetConfig, features: int) -> tuple[Node, ...]:
    """What lies between the pooled features and the classifier."""
    nodes: list[Node] = []
    if config.embedding_dim is not None:
        nodes.append(
            Linear(
                name="embedding", in_features=features, out_features=config.embedding_dim, bias=config.embedding_bias
            )
        )
        features = config.embedding_dim
    if config.neck != "none":
        nodes.append(
            Norm(
                name="neck", kind="batch", channels=features, eps=config.norm_eps, momentum=config.norm_momentum,
                groups=1, flat=True, fixed_bias=not config.neck_bias,
            )
        )  # fmt: skip
    if config.neck == "bn_relu":
        nodes.append(Act(name="neck_act", kind="relu"))
    return tuple(nodes)
