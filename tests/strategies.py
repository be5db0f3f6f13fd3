"""Networks for hypothesis to draw: every option that changes a shape, at sizes that build in a moment."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from resnets.arch.config import ResNetConfig

SIDES = st.integers(1, 70)


@st.composite
def configs(draw: st.DrawFn, /, **fixed: Any) -> ResNetConfig:
    """A small valid network that takes an image of any size; `fixed` fields are taken as they are."""

    def one(*choices: Any) -> Any:
        return draw(st.sampled_from(choices))

    stages = draw(st.integers(1, 4))
    block = one("basic", "bottleneck")
    fields: dict[str, Any] = {
        "block": block,
        "depths": tuple(draw(st.integers(1, 3)) for _ in range(stages)),
        "widths": tuple(8 * 2**stage for stage in range(stages)),
        "stem": one("7x7", "3x3", "deep"),
        "stem_width": 8,
        "stem_pool": one("max", "max_same", "max_zero", "none"),
        "shortcut": one("A", "A_after", "B", "C", "D", "first", "subsample", "none"),
        "stride_unit": one("first", "last"),
        "padding": one("symmetric", "same"),
        "conv_bias": one("none", "all", "unnormed"),
        "standardised": one(False, False, True),
        "attention": one("none", "none", "se", "eca", "cbam"),
        "dilation_rule": one("torchvision", "detectron"),
        "norm": one("batch", "group", "frozen_batch"),
        "norm_groups": 2,
        "global_pool": one("avg", "max", "gem"),
        "in_chans": one(1, 3, 4),
        "num_classes": one(0, 5),
    }
    if fields["attention"] == "se":
        fields["se_form"] = one("conv", "linear")
    if block == "bottleneck":
        fields["stride_in"] = one("3x3", "1x1")
        fields |= one({}, {"groups": 2, "group_width": 32}, {"group_width": 128}, {"reduce_first": 2})
    if fields["shortcut"] != "none":
        fields["pre_activation"] = draw(st.booleans())
        fields["drop_path_rate"] = one(0.0, 0.2)
        fields["zero_init_last"] = draw(st.booleans())
    stem = ResNetConfig(**fields).stem_reduction
    fields["output_stride"] = one(None, *(stem * 2**step for step in range(stages)))
    return ResNetConfig(**(fields | fixed))


@st.composite
def choosy_configs(draw: st.DrawFn) -> ResNetConfig:
    """As `configs`, with options that need images of some size: unpadded pools, blurs, instance norms, windows."""
    config = draw(configs(norm="batch"))
    options: list[dict[str, Any]] = [{"stem_pool": pool} for pool in ("max_ceil", "max_valid", "max2")]
    options += [{"antialias": True, "stem_pool": pool} for pool in ("max", "none")]
    if not config.pre_activation:
        options += [{"ibn": (kind,) * len(config.depths)} for kind in ("a", "b")]
    return config.with_overrides(**draw(st.sampled_from(options)), output_stride=None)
