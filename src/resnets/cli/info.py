"""`resnets info`: show the layers of a network."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from resnets.arch.describe import Description, LayerRow, describe
from resnets.arch.networks import NetworkConfig
from resnets.arch.overrides import parse_overrides, parse_size
from resnets.arch.variants import get_config
from resnets.cli.flags import Json, Markdown
from resnets.cli.output import Column, print_json, print_table, print_text
from resnets.errors import UnknownNameError
from resnets.runtime.console import Console
from resnets.runtime.formatting import format_count

FIELDS = ("num_classes", "in_chans", "output_stride", "last_stride", "shortcut", "norm", "stride_in")
COLUMNS = (
    Column("name"),
    Column("operations", wrap=True),
    Column("output", right=True),
    Column("stride", right=True),
    Column("RF", right=True),
    Column("params", right=True, rounds=True),
    Column("MACs", right=True, rounds=True),
)


def _option(metavar: str, help: str) -> Any:
    """Option that changes a field of the network's config."""
    return typer.Option(metavar=metavar, help=help, rich_help_panel="Network")


def run(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A named network, a weights file, a model folder or a run folder.")
    ],
    img_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Input size in pixels: 352, or height x width: 720x1280.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show every layer, not only stages and blocks.")] = False,
    num_classes: Annotated[int | None, _option("N", "Number of classes; 0 removes the classifier.")] = None,
    in_chans: Annotated[int | None, _option("N", "Number of input channels.")] = None,
    output_stride: Annotated[int | None, _option("8|16|32", "Total stride; dilation replaces strides.")] = None,
    last_stride: Annotated[int | None, _option("1|2", "Stride of the last stage.")] = None,
    shortcut: Annotated[str | None, _option("A|B|C|none", "Shortcut option of He et al. 2015.")] = None,
    norm: Annotated[str | None, _option("NAME", "batch, group or frozen_batch.")] = None,
    stride_in: Annotated[str | None, _option("3x3|1x1", "Where a bottleneck strides: v1.5 or v1.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other field of the config.", rich_help_panel="Network"),
    ] = None,
    as_json: Json = False,
    as_markdown: Markdown = False,
) -> None:
    """Show a network's layers: operations, output shapes, strides, receptive fields, parameters and MACs.

    Output is channels x height x width. Stride and RF (receptive field) are in input pixels. MACs are multiply-adds
    for one image; FLOPs are twice that.
    """
    named = {key: context.params[key] for key in FIELDS if context.params[key] is not None}
    overrides = parse_overrides(settings or []) | named
    size = None if img_size is None else parse_size(img_size)
    table = _describe(model, overrides, size)
    for warning in table.warnings:
        Console().warning(f"warning: {warning}")
    if as_json:
        print_json(table.to_dict())
        return
    header = _header(model, table, changed=bool(overrides))
    if as_markdown:
        print_text(f"{header}\n\n{table.to_markdown(layers)}")
        return
    print_text(f"{header}\n")
    rows = table.select(layers)
    print_table(
        COLUMNS,
        [_cells(row) for row in rows],
        footer=["total", "", "", "", "", f"{table.params:,}", f"{table.macs:,}"],
        styles=[_style(row) for row in rows],
    )


def _describe(model: str, overrides: dict[str, Any], size: tuple[int, int] | None) -> Description:
    try:
        config: NetworkConfig = get_config(model)
        if not overrides:
            return describe(model, size)  # by name: several names may stand for one config
    except UnknownNameError:
        from resnets.weights.resolve import resolve_config

        config = resolve_config(model)
    return describe(config.with_overrides(**overrides), size)


def _header(model: str, table: Description, *, changed: bool) -> str:
    title = model if table.name == model else f"{model} ({table.name or ('changed' if changed else 'custom')})"
    size = "x".join(map(str, table.input))
    macs, flops = format_count(table.macs, "MACs"), format_count(2 * table.macs, "FLOPs")
    line = f"{title}: {table.params:,} parameters, {macs} ({flops}) for an input of {size}"
    return f"{line}\n{table.name} is {table.origin}" if table.origin else line


def _cells(row: LayerRow) -> list[str]:
    name, *rest = row.cells()
    return ["  " * name.count(".") + name, *rest]


def _style(row: LayerRow) -> str:
    if row.role == "stage":
        return "bold"
    return "dim" if row.role == "layer" and "." in row.name else ""
