"""`resnets info`: a network's table of parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resnets.arch.describe import Description, LayerRow, describe
from resnets.arch.networks import NetworkConfig, config_from_dict, convert_overrides
from resnets.arch.variants import get_config
from resnets.cli.output import Column, Line, print_json, print_table, print_text, short, warn
from resnets.errors import ConfigError, WeightsError
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
