"""Hypothesis strategies for small networks with every option that changes a shape."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from resnets.arch.config import ResNetConfig

SIDES = st.integers(1, 70)


@st.composite
def configs(draw: st.DrawFn, /, **fixed: Any) -> ResNetConfig:
    """Draw a small valid network for images of any size, with the `fixed` fields."""

    def choose(*choices: Any) -> Any:
        return draw(st.sampled_from(choices))

    stages = draw(st.integers(1, 4))
    block = choose("basic", "bottleneck")
    fields: dict[str, Any] = {
        "block": block,
        "depths": tuple(draw(st.integers(1, 3)) for _ in range(stages)),
        "widths": tuple(8 * 2**stage for stage in range(stages)),
        "stem": choose("7x7", "3x3", "deep"),
        "stem_width": 8,
        "stem_pool": choose("max", "max_same", "max_zero", "none"),
        "shortcut": choose("A", "A_after", "B", "C", "D", "first", "subsample", "none"),
        "stride_unit": choose("first", "last"),
        "padding": choose("symmetric", "same"),
        "conv_bias": choose("none", "all", "unnormed"),
        "standardised": choose(False, False, True),
        "attention": choose("none", "none", "se", "eca", "cbam"),
        "dilation_rule": choose("torchvision", "detectron"),
        "norm": choose("batch", "group", "frozen_batch"),
        "norm_groups": 2,
        "global_pool": choose("avg", "max", "gem", "sumavgmax", "clipavg"),
        "embedding_dim": choose(None, None, 6),
        "neck": choose("none", "none", "bn", "bn_relu"),
        "classifier": choose("linear", "linear", "cosine"),
        "classifier_bias": draw(st.booleans()),
        "in_chans": choose(1, 3, 4),
        "num_classes": choose(0, 5),
    }
    if fields["attention"] == "se":
        fields["se_form"] = choose("conv", "linear")
    if block == "bottleneck":
        fields["stride_in"] = choose("3x3", "1x1")
        fields |= choose({}, {"groups": 2, "group_width": 32}, {"group_width": 128}, {"reduce_first": 2})
    if fields["shortcut"] != "none":
        fields["pre_activation"] = draw(st.booleans())
        fields["drop_path_rate"] = choose(0.0, 0.2)
        fields["zero_init_last"] = draw(st.booleans())
    if not fields.get("pre_activation") and fields["norm"] != "group":
        fields["non_local"] = choose((), (1,) * stages)
    stem = ResNetConfig(**fields).stem_reduction
    fields["output_stride"] = choose(None, *(stem * 2**step for step in range(stages)))
    return ResNetConfig(**(fields | fixed))


@st.composite
def configs_with_minimum_size(draw: st.DrawFn) -> ResNetConfig:
    """Draw a network with an option that needs a minimum image size: unpadded pooling, blur or instance norm."""
    config = draw(configs(norm="batch"))
    options: list[dict[str, Any]] = [{"stem_pool": pool} for pool in ("max_ceil", "max_valid", "max2")]
    options += [{"antialias": True, "stem_pool": pool} for pool in ("max", "none")]
    if not config.pre_activation:
        options += [{"ibn": (kind,) * len(config.depths)} for kind in ("a", "b")]
    return config.with_overrides(**draw(st.sampled_from(options)), output_stride=None)
