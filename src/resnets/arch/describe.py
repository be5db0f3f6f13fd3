"""The table of a network: its parts, their operations, shapes and costs, without torch."""

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

HEADINGS = ("name", "operations", "output", "stride", "field", "params", "MACs")


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """A line of the table.

    Args:
        name: the path in the module, such as `layer1.0.conv1`; a VGG's stages, which have none, are `block1`...
        role: `stage`, `block`, `layer`, or `group`: several layers, such as attention. Layers add up to the whole.
        operations: what happens there, in a few words.
        output: (C, H, W), or (D,).
        stride: input cells from one output cell to the next.
        receptive_field: input cells a side that one output cell sees; `None` is the whole image.
        params: learned numbers in it; macs: multiply-adds of it, for one image.
    """

    name: str
    role: str
    operations: str
    output: tuple[int, ...]
    stride: int
    receptive_field: int | None
    params: int
    macs: int

    def cells(self) -> tuple[str, ...]:
        """The row as the table prints it, under `HEADINGS`."""
        field = "all" if self.receptive_field is None else str(self.receptive_field)
        return (
            self.name,
            self.operations,
            "x".join(map(str, self.output)),
            str(self.stride),
            field,
            f"{self.params:,}",
            f"{self.macs:,}",
        )


@dataclass(frozen=True, kw_only=True)
class Description:
    """What `describe` answers.

    Args:
        name: the variant, or `None` where the options make a network without a name.
        origin: whose network the name means, where codebases use it for different ones.
        input: (C, H, W).
        rows: the parts in order, every layer among them.
        params, macs: totals; FLOPs are twice the MACs.
        warnings: what is odd about this input size.
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
        """The rows of stem, stages, blocks and head; or, with `layers`, every operation and place-keeper too."""
        whole = ("features",)  # a VGG's stages stand inside it
        parts = ("stage", "block")
        shown = [
            row for row in self.rows if layers or row.role in parts or ("." not in row.name and row.role not in whole)
        ]
        return [row for row in shown if row.name and (layers or row.operations != NOTHING)]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
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

    def to_markdown(self, layers: bool = False) -> str:
        """The table as Markdown, numbers to the right."""
        lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---|" + "---:|" * (len(HEADINGS) - 2)]
        lines += ["| " + " | ".join(row.cells()) + " |" for row in self.select(layers)]
        return "\n".join([*lines, f"| total | | | | | {self.params:,} | {self.macs:,} |"])


def describe(model: str | NetworkConfig, input_size: int | tuple[int, int] | None = None) -> Description:
    """The table of a network for images of a size.

    Args:
        model: a name that `list_models` knows, or a description.
        input_size: pixels a side, or (H, W); by default what the network is meant for.

    Raises:
        UnknownNameError: no such network.
        ShapeError: an image so small that a stage would be empty; the message names the stage and the least size.
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

    Between the first and the last block of a stage all blocks are alike, so that three stand for any depth.

    Raises:
        ShapeError: an image so small that a stage would be empty.
    """
    height, width = input_size or (config.img_size, config.img_size)
    residual = isinstance(config, ResNetConfig)
    shallow = replace(config, depths=tuple(min(depth, 3) for depth in config.depths)) if residual else config
    records = trace(plan(shallow), (config.in_chans, height, width))
    params, macs = records[0].params, records[0].macs
    if not residual:
        return params, macs
    at = {record.path: record for record in records}
    for stage, depth in enumerate(config.depths, start=1):
        if depth > 3:
            block = at[f"layer{stage}.1"]
            params += (depth - 3) * block.params
            macs += (depth - 3) * block.macs
    return params, macs


def _too_small(tree: Chain, config: NetworkConfig, shape: tuple[int, int, int], error: ShapeError) -> ShapeError:
    for least in range(max(2, min(shape[1:])), 4096):
        try:
            trace(tree, (config.in_chans, least, least))
        except ShapeError:
            continue
        return ShapeError(f"{error}; got {shape[1]}x{shape[2]}; the least size is {least}x{least}")
    return error


def _warnings(records: list[Record], shape: tuple[int, int, int]) -> list[str]:
    stages = [r for r in records if isinstance(r.node, Chain) and r.node.role == "stage"]
    reduction = stages[-1].result.stride
    if min(shape[1:]) >= reduction:
        return []
    first = next(r for r in stages if min(r.result.shape[1:]) == 1)
    return [
        f"the input is smaller than the total reduction of {reduction}; got {shape[1]}x{shape[2]}; "
        f"{first.path} has shrunk to {first.result.shape[1]}x{first.result.shape[2]}, so it and what follows "
        "see a single cell; use larger images or output_stride"
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
        receptive_field=record.result.field,
        params=record.params,
        macs=record.macs,
    )


def _role(node: Node) -> str:
    if isinstance(node, Chain):
        return node.role
    if isinstance(node, Residual):
        return "block"
    return "group" if children(node) else "layer"  # only what holds nothing else is a layer: layers add up
