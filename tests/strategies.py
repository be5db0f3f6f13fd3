"""Networks for hypothesis to draw: every option that changes a shape, at sizes that build in a moment."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from resnets.arch.config import ResNetConfig

SIDES = st.integers(1, 70)


@st.composite
def configs(draw: st.DrawFn, **fixed: Any) -> ResNetConfig:
    """A small valid network; `fixed` fields are taken as they are."""
    stages = draw(st.integers(1, 4))
    block = draw(st.sampled_from(["basic", "bottleneck"]))
    fields: dict[str, Any] = {
        "block": block,
        "depths": tuple(draw(st.integers(1, 3)) for _ in range(stages)),
        "widths": tuple(8 * 2**stage for stage in range(stages)),
        "stem": draw(st.sampled_from(["7x7", "3x3"])),
        "stem_width": 8,
        "stem_pool": draw(st.sampled_from(["max", "none"])),
        "shortcut": draw(st.sampled_from(["A", "B", "C", "none"])),
        "norm": draw(st.sampled_from(["batch", "group", "frozen_batch"])),
        "norm_groups": 4,
        "in_chans": draw(st.sampled_from([1, 3, 4])),
        "num_classes": draw(st.sampled_from([0, 5])),
        "zero_init_last": draw(st.booleans()),
    }
    if block == "bottleneck":
        fields["stride_in"] = draw(st.sampled_from(["3x3", "1x1"]))
        fields |= draw(st.sampled_from([{}, {"groups": 2, "group_width": 32}, {"group_width": 128}]))
    if fields["shortcut"] != "none":
        fields["pre_activation"] = draw(st.booleans())
        fields["drop_path_rate"] = draw(st.sampled_from([0.0, 0.2]))
    stem = ResNetConfig(**fields).stem_reduction
    fields["output_stride"] = draw(st.sampled_from([None, *(stem * 2**step for step in range(stages))]))
    return ResNetConfig(**(fields | fixed))
