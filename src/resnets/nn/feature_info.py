"""What is known of a network's feature maps before it runs: channels, reduction and module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Chain
from resnets.arch.parts import feature_paths
from resnets.arch.shapes import trace
from resnets.arch.vgg import VGGConfig

__all__ = ["FeatureInfo", "feature_info"]


class FeatureInfo(list[dict[str, Any]]):
    """A dictionary per feature map, in order: `num_chs`, `reduction` and `module`. Methods are named as timm's."""

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels of every map, of those selected, or of one."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Input pixels per cell, along height or width, of every map, of those selected, or of one."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Path of the module that outputs each map, of those selected, or of one."""
        return self.get("module", idx)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """The values of a key: a list, or one value for an integer `idx`."""
        if isinstance(idx, int):
            return self[idx][key]
        return [self[index][key] for index in (range(len(self)) if idx is None else idx)]

    def get_dicts(self) -> list[dict[str, Any]]:
        """Copies of the dictionaries."""
        return [dict(one) for one in self]


def feature_info(tree: Chain, config: ResNetConfig | VGGConfig) -> tuple[FeatureInfo, int]:
    """The feature maps of a plan, and the width of its embedding (`num_features`)."""
    size = config.img_size if config.global_pool == "window" else 256  # only pooling windows depend on the image size
    at = {record.path: record for record in trace(tree, (config.in_chans, size, size))}
    info = FeatureInfo(
        {"num_chs": at[path].result.shape[0], "reduction": at[path].result.stride, "module": path}
        for path in feature_paths(tree).values()
    )
    return info, list(at.values())[-1].source.shape[0]
