"""Parameters and MACs of a network, quickly: between the first and the last block of a stage all are alike."""

from __future__ import annotations

from dataclasses import replace

from resnets.arch.networks import NetworkConfig
from resnets.arch.plan import plan
from resnets.arch.shapes import trace
from resnets.arch.vgg import VGGConfig

__all__ = ["totals"]


def totals(config: NetworkConfig, input_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(params, MACs) for one image of (H, W); the same numbers as `describe`, without walking 600 blocks.

    Raises:
        ShapeError: an image so small that a stage would be empty.
    """
    if isinstance(config, VGGConfig):
        shape = (config.in_chans, *(input_size or (config.img_size, config.img_size)))
        whole = trace(plan(config), shape)[0]
        return whole.params, whole.macs
    height, width = input_size or (config.img_size, config.img_size)
    shallow = replace(config, depths=tuple(min(depth, 3) for depth in config.depths))
    records = trace(plan(shallow), (config.in_chans, height, width))
    at = {record.path: record for record in records}
    params, macs = records[0].params, records[0].macs
    for stage, depth in enumerate(config.depths, start=1):
        if depth > 3:
            block = at[f"layer{stage}.1"]
            params += (depth - 3) * block.params
            macs += (depth - 3) * block.macs
    return params, macs
