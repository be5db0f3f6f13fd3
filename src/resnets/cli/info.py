"""`resnets info`: show the layers of a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from resnets.arch.config import ResNetConfig
from resnets.arch.describe import Description, LayerRow, describe
from resnets.arch.networks import convert_overrides
from resnets.cli.completion import completer, model_names
from resnets.cli.flags import Json, Markdown, declared
from resnets.cli.output import Column, markdown, print_json, print_table, print_text
from resnets.options.declarations import options_of
from resnets.options.grammar import parse_settings
from resnets.options.validate import parse_size
from resnets.runtime.console import Console
from resnets.runtime.formatting import format_count

COLUMNS = (
    Column("name"),
    Column("operations", wrap=True),
    Column("output", right=True),
    Column("stride", right=True),
    Column("RF", right=True),
    Column("params", right=True, rounds=True),
    Column("MACs", right=True, rounds=True),
)


# Fields of the config that have flags; `--img-size` is the size of the input instead.
_FIELDS = {field.name: field for field in options_of(ResNetConfig) if field.name != "img_size"}


def _field(name: str, metavar: str | None = None) -> Any:
    return declared(replace(_FIELDS[name], default=""), "Network", metavar)  # the default is that of the named network


def run(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A named network, a weights file, a model folder or a run folder.",
            autocompletion=completer(model_names),
        ),
    ],
    img_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Image size in pixels, N or HxW (default: the network's own).")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show every layer, not only stages and blocks.")] = False,
    num_classes: Annotated[int | None, _field("num_classes", "N")] = None,
    in_chans: Annotated[int | None, _field("in_chans", "N")] = None,
    output_stride: Annotated[int | None, _field("output_stride", "N")] = None,
    last_stride: Annotated[int | None, _field("last_stride")] = None,
    shortcut: Annotated[str | None, _field("shortcut", "NAME")] = None,
    norm: Annotated[str | None, _field("norm")] = None,
    stride_in: Annotated[str | None, _field("stride_in")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other field of the config.",
            rich_help_panel="Network",
            autocompletion=completer(lambda: (f"{name}=" for name in _FIELDS)),
        ),
    ] = None,
    as_json: Json = False,
    as_markdown: Markdown = False,
) -> None:
    """Show a network's layers: operations, output shapes, strides, receptive fields, parameters and MACs.

    Output is channels x height x width. Stride and RF (receptive field) are in input pixels. MACs are multiply-adds
    for one image; FLOPs are twice that.
    """
    flags = {key: value for key, value in context.params.items() if key in _FIELDS and value is not None}
    overrides = convert_overrides(parse_settings(settings or (), "stem_width=32") | flags)
    size = None if img_size is None else parse_size(img_size)
    table = _describe(model, overrides, size)
    for warning in table.warnings:
        Console().warning(f"warning: {warning}")
    if as_json:
        print_json(table.to_dict())
        return
    header = _header(model, table, changed=bool(overrides))
    rows = table.select(layers)
    footer = ["total", "", "", "", "", f"{table.params:,}", f"{table.macs:,}"]
    print_text(f"{header}\n")
    if as_markdown:
        print_text(markdown(COLUMNS, [*map(_cells, rows), footer]))
        return
    indented = [["  " * row.name.count(".") + name, *cells] for row in rows for name, *cells in [_cells(row)]]
    print_table(COLUMNS, indented, footer=footer, styles=[_style(row) for row in rows])


def _describe(model: str, overrides: dict[str, Any], size: int | tuple[int, int] | None) -> Description:
    from resnets.weights.resolve import resolve

    reference = resolve(model)
    if reference.kind == "variant" and not overrides:
        return describe(model, size)  # by name: several names may have the same config
    config = reference.read_config()
    if config is None:  # only the tensors determine the network; imports torch
        from resnets.weights.open import open_model

        config = open_model(reference).model.config
    return describe(config.with_overrides(**overrides), size)


def _header(model: str, table: Description, *, changed: bool) -> str:
    title = model if table.name == model else f"{model} ({table.name or ('changed' if changed else 'custom')})"
    size = "x".join(map(str, table.input))
    macs, flops = format_count(table.macs, "MACs"), format_count(2 * table.macs, "FLOPs")
    line = f"{title}: {table.params:,} parameters, {macs} ({flops}) for an input of {size}"
    return f"{line}\n{table.name} is {table.origin}" if table.origin else line


def _cells(row: LayerRow) -> list[str]:
    field = "all" if row.receptive_field is None else str(row.receptive_field)
    output = "x".join(map(str, row.output))
    return [row.name, row.operations, output, str(row.stride), field, f"{row.params:,}", f"{row.macs:,}"]


def _style(row: LayerRow) -> str:
    if row.role == "stage":
        return "bold"
    return "dim" if row.role == "layer" and "." in row.name else ""
