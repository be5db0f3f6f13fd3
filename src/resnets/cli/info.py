"""`resnets info`: table of a network's layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from resnets.arch.config import ResNetConfig
from resnets.arch.describe import HEADINGS, Description, LayerRow, describe
from resnets.arch.networks import NetworkConfig, convert_overrides
from resnets.arch.variants import get_config
from resnets.cli.declared import flag
from resnets.cli.output import Column, Line, print_json, print_table, print_text, short, warn
from resnets.options.declarations import options_of
from resnets.options.grammar import parse_settings, parse_size

NETWORK, PRINTED = "Network", "Output"

COLUMNS = [
    Column(title=title, right=title not in HEADINGS[:2], fold=title == "operations", rounds=title in ("params", "MACs"))
    for title in HEADINGS
]


_FIELDS = {field.name: field for field in options_of(ResNetConfig)}


def _field(name: str, metavar: str | None = None) -> Any:
    return flag(replace(_FIELDS[name], default=""), NETWORK, metavar)  # the default is that of the named network


def run(
    model: Annotated[str, typer.Argument(help="Name of a network, a model folder or a run folder.")],
    img_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Image size in pixels, N or HxW (default: the network's own).")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show every layer instead of stages and blocks.")] = False,
    num_classes: Annotated[int | None, _field("num_classes", "N")] = None,
    in_chans: Annotated[int | None, _field("in_chans", "N")] = None,
    output_stride: Annotated[int | None, _field("output_stride", "N")] = None,
    last_stride: Annotated[int | None, _field("last_stride")] = None,
    shortcut: Annotated[str | None, _field("shortcut", "NAME")] = None,
    norm: Annotated[str | None, _field("norm")] = None,
    stride_in: Annotated[str | None, _field("stride_in")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other field of it.", rich_help_panel=NETWORK),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every layer as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Show a network's layers: operations, output shapes, strides, receptive fields, parameters and MACs.

    Output is channels x height x width; stride and receptive field are in input pixels a side. MACs are
    multiply-adds for one image; FLOPs are twice that.
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
    given = parse_settings(settings or (), "stem_width=32") | {k: v for k, v in named.items() if v is not None}
    overrides = convert_overrides(given)
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
