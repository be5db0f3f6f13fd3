"""Table of a network: its layers, their operations, shapes, receptive fields, parameters and MACs, without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig, config_to_dict
from resnets.arch.nodes import Chain, Node, Residual, children
from resnets.arch.operations import NOTHING, operations
from resnets.arch.origins import origin_of
from resnets.arch.plan import plan
from resnets.arch.shapes import Record, trace
from resnets.arch.variants import get_config, name_of
from resnets.errors import ConfigError, ShapeError

__all__ = ["Description", "LayerRow", "describe", "totals"]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """A row of the table.

    Args:
        name: path of the module, such as `layer1.0.conv1`; a VGG's stages, which have none, are `block1`...
        role: `stage`, `block`, `layer`, or `group` (several layers, such as attention). Layers sum to the total.
        operations: short description.
        output: (C, H, W), or (D,).
        stride: distance of neighbouring output cells, in input pixels.
        receptive_field: side of an output cell's receptive field, in input pixels; `None` for the whole image.
        params: number of parameters.
        macs: multiply-adds for one image.
    """

    name: str
    role: str
    operations: str
    output: tuple[int, ...]
    stride: int
    receptive_field: int | None
    params: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """Result of `describe`.

    Args:
        name: of the variant; `None` for a network without a name.
        origin: codebase whose network the name means, where several use the name for different networks.
        config: of the network.
        input: (C, H, W).
        rows: all nodes in order, parents first.
        params: total number of parameters.
        macs: total multiply-adds for one image; FLOPs are twice that.
        warnings: about the input size.
    """

    name: str | None
    origin: str | None
    config: NetworkConfig
    input: tuple[int, int, int]
    rows: tuple[LayerRow, ...]
    params: int
    macs: int
    warnings: tuple[str, ...]

    def select(self, layers: bool = False) -> list[LayerRow]:
        """Rows of stem, stages, blocks and head; with `layers`, of every layer, identities included."""
        if layers:
            return [row for row in self.rows if row.name]
        shown = [row for row in self.rows if row.role in ("stage", "block") or "." not in row.name]
        return [row for row in shown if row.name and row.operations != NOTHING and row.role != "features"]

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON values."""
        return {
            "name": self.name,
            "origin": self.origin,
            "config": config_to_dict(self.config),
            "input": list(self.input),
            "params": self.params,
            "macs": self.macs,
            "warnings": list(self.warnings),
            "rows": [vars(row) | {"output": list(row.output)} for row in self.select(layers=True)],
        }


def describe(model: str | NetworkConfig, input_size: int | tuple[int, int] | None = None) -> Description:
    """Compute the table of a network for an image size.

    Args:
        model: a name from `list_models`, or a configuration.
        input_size: pixels a side, or (H, W); by default the network's own.

    Raises:
        UnknownNameError: an unknown name.
        ShapeError: an image so small that a stage would be empty; the message names the stage and the minimum size.
    """
    config = get_config(model) if isinstance(model, str) else model
    size = config.img_size if input_size is None else input_size
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ConfigError(f"input_size must be at least 1; got {height}x{width}")
    shape = (config.in_chans, height, width)
    tree = plan(config)
    try:
        records = trace(tree, shape)
    except ShapeError as error:
        raise _too_small(tree, config, shape, error) from None
    name = model if isinstance(model, str) else name_of(config)
    return Description(
        name=name,
        origin=origin_of(name) if name else None,
        config=config,
        input=shape,
        rows=tuple(_row(record) for record in records),
        params=records[0].params,
        macs=records[0].macs,
        warnings=tuple(_warnings(records, shape)),
    )


def totals(config: NetworkConfig, input_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Params and MACs for one image of (H, W), equal to those of `describe`, in a fraction of its time.

    All blocks between the first and the last of a stage are equal, so three blocks per stage determine any depth.

    Raises:
        ShapeError: an image so small that a stage would be empty.
    """
    height, width = input_size or (config.img_size, config.img_size)
    residual = isinstance(config, ResNetConfig)
    shallow = replace(config, depths=tuple(min(depth, 3) for depth in config.depths)) if residual else config
    records = trace(plan(shallow), (config.in_chans, height, width))
    at = {record.path: record for record in records}
    more = [(depth - 3, f"layer{stage}.1") for stage, depth in enumerate(config.depths, 1) if residual and depth > 3]
    params = records[0].params + sum(count * at[path].params for count, path in more)
    return params, records[0].macs + sum(count * at[path].macs for count, path in more)


def _too_small(tree: Chain, config: NetworkConfig, shape: tuple[int, int, int], error: ShapeError) -> ShapeError:
    for size in range(max(2, min(shape[1:])), 4096):
        try:
            trace(tree, (config.in_chans, size, size))
        except ShapeError:
            continue
        return ShapeError(f"{error}; got {shape[1]}x{shape[2]}; the minimum size is {size}x{size}")
    return error


def _warnings(records: list[Record], shape: tuple[int, int, int]) -> list[str]:
    stages = [r for r in records if isinstance(r.node, Chain) and r.node.role == "stage"]
    reduction = stages[-1].result.stride
    if min(shape[1:]) >= reduction:
        return []
    first = next(r for r in stages if min(r.result.shape[1:]) == 1)
    return [
        f"the input is smaller than the total reduction of {reduction}; got {shape[1]}x{shape[2]}; the output of "
        f"{first.path} is {first.result.shape[1]}x{first.result.shape[2]}; use larger images or output_stride"
    ]


def _row(record: Record) -> LayerRow:
    node = record.node
    role = _role(node)
    return LayerRow(
        name=node.kind if role == "stage" and not node.name and isinstance(node, Chain) else record.path,
        role=role,
        operations=operations(node),
        output=record.result.shape,
        stride=record.result.stride,
        receptive_field=record.result.receptive_field,
        params=record.params,
        macs=record.macs,
    )


def _role(node: Node) -> str:
    if isinstance(node, Chain):
        return node.role
    if isinstance(node, Residual):
        return "block"
    return "group" if children(node) else "layer"  # layers have no children, so that they sum to the total
