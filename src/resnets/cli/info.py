"""`resnets info`: a network's table of parts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from resnets.arch.describe import Description, LayerRow, describe
from resnets.arch.networks import NetworkConfig
from resnets.arch.overrides import parse_overrides, parse_size
from resnets.arch.variants import get_config
from resnets.cli.output import Column, Line, print_json, print_table, print_text, short, warn

NETWORK, PRINTED = "Network", "Output"

COLUMNS = (
    Column(title="name"),
    Column(title="operations", fold=True),
    Column(title="output", right=True),
    Column(title="stride", right=True),
    Column(title="field", right=True),
    Column(title="params", right=True, rounds=True),
    Column(title="MACs", right=True, rounds=True),
)


def run(
    model: Annotated[str, typer.Argument(help="A name that `resnets models` lists, a model folder or a run folder.")],
    img_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Pixels a side, or HEIGHTxWIDTH: 352, 720x1280.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer, not only stages and blocks.")] = False,
    num_classes: Annotated[int | None, typer.Option(help="Logits; 0 for embeddings.", rich_help_panel=NETWORK)] = None,
    in_chans: Annotated[int | None, typer.Option(help="Channels of the input.", rich_help_panel=NETWORK)] = None,
    output_stride: Annotated[
        int | None, typer.Option(help="8, 16 or 32; dilation makes up for strides.", rich_help_panel=NETWORK)
    ] = None,
    last_stride: Annotated[
        int | None, typer.Option(help="Stride of the last stage, 1 or 2.", rich_help_panel=NETWORK)
    ] = None,
    shortcut: Annotated[
        str | None, typer.Option(metavar="A|B|C|none", help="As in He et al. 2015.", rich_help_panel=NETWORK)
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(metavar="batch|group|frozen_batch", help="Normalisation.", rich_help_panel=NETWORK),
    ] = None,
    stride_in: Annotated[
        str | None,
        typer.Option(metavar="3x3|1x1", help="Where a bottleneck strides: v1.5 or v1.", rich_help_panel=NETWORK),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other field of the config.", rich_help_panel=NETWORK),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every layer, for programs.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
) -> None:
    """Show a network's parts: operations, output shapes, strides, receptive fields, parameters and MACs.

    Output is channels x height x width; stride and field are in input pixels a side. MACs are multiply-adds for one
    image; FLOPs are twice that.
    """
    named: dict[str, Any] = {
        "num_classes": num_classes,
        "in_chans": in_chans,
        "output_stride": output_stride,
        "last_stride": last_stride,
        "shortcut": shortcut,
        "norm": norm,
        "stride_in": stride_in,
    }
    overrides = parse_overrides(settings or []) | {key: value for key, value in named.items() if value is not None}
    size = None if img_size is None else parse_size(img_size)
    config = _read_config(model)
    if config is None and not overrides:
        table = describe(model, size)
    else:
        table = describe((config or get_config(model)).with_overrides(**overrides), size)
    for warning in table.warnings:
        warn(warning)
    title = _title(model, table, bool(overrides))
    if as_json:
        print_json(table.to_dict())
    elif as_markdown:
        print_text(f"{_header(title, table)}\n\n{table.to_markdown(layers)}")
    else:
        print_text(f"{_header(title, table)}\n")
        lines = [_line(row) for row in table.select(layers)]
        print_table(COLUMNS, lines, ["total", "", "", "", "", f"{table.params:,}", f"{table.macs:,}"])


def _read_config(model: str) -> NetworkConfig | None:
    """Config of a model reference; `None` for a network's name. Imports torch if only tensors determine it."""
    from resnets.weights.resolve import resolve

    reference = resolve(model)
    if reference.kind == "variant":
        return None
    if (config := reference.read_config()) is not None:
        return config
    from resnets.weights.folder.bundle import Bundle
    from resnets.weights.open import open_model

    return open_model(reference, Bundle).model.config  # type: ignore[no-any-return]


def _title(model: str, table: Description, changed: bool) -> str:
    """What the header calls it: the name, and the folder or the name that it came from where that differs."""
    if table.name == model:
        return model
    return f"{model} ({table.name or ('changed' if changed else 'no named variant')})"


def _header(title: str, table: Description) -> str:
    size = "x".join(map(str, table.input))
    macs, flops = short(table.macs, "MACs"), short(2 * table.macs, "FLOPs")
    line = f"{title}: {table.params:,} parameters; {macs} ({flops}, which are twice the MACs) for an input of {size}"
    return f"{line}\n{table.name} is {table.origin}" if table.origin else line


def _line(row: LayerRow) -> Line:
    name, *rest = row.cells()
    depth = name.count(".")
    inner = row.role == "layer" and depth > 0
    return Line(cells=["  " * depth + name, *rest], style="bold" if row.role == "stage" else "dim" if inner else "")
