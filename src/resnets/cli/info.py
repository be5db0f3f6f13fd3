"""`resnets info`: a network's table of parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.arch.config import ResNetConfig
from resnets.arch.describe import Description, LayerRow, describe
from resnets.arch.networks import NetworkConfig, config_from_dict, convert_overrides
from resnets.arch.variants import get_config
from resnets.cli.declared import flag
from resnets.cli.output import Column, Line, print_json, print_table, print_text, short, warn
from resnets.errors import ConfigError, WeightsError
from resnets.options.declarations import options_of
from resnets.options.grammar import parse_settings, parse_size

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
    given = parse_settings(settings or (), "stem_width=32") | {k: v for k, v in named.items() if v is not None}
    overrides = convert_overrides(given)
    size = None if img_size is None else parse_size(img_size)
    folder = Path(model).is_dir() or len(Path(model).parts) > 1
    if folder or overrides:
        config = _read_folder(Path(model)) if folder else get_config(model)
        table = describe(config.with_overrides(**overrides), size)
    else:
        table = describe(model, size)
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


def _read_folder(folder: Path) -> NetworkConfig:
    """The network of a model folder (its `config.json`) or a run folder (its `best` model, else its `last`)."""
    from resnets.weights.folder.config_json import read_config

    places = (folder, folder / "best", folder / "last")
    path = next((place / "config.json" for place in places if (place / "config.json").is_file()), None)
    if path is None:
        raise WeightsError(
            f"a model folder holds config.json, a run folder best/config.json; got {folder}; pass one of these"
        )
    try:
        return config_from_dict(read_config(path)["resnets"]["config"])
    except (ConfigError, KeyError, TypeError) as error:
        raise WeightsError(f"config.json must describe a network; {error} in {path}; write the folder again") from None


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
