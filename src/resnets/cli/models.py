"""`resnets models`: the networks that have a name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from resnets.arch.config import ResNetConfig
from resnets.arch.describe import totals
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import VARIANTS, list_models
from resnets.arch.vgg import VGGConfig
from resnets.cli.output import Column, Line, markdown, print_json, print_table, print_text, short
from resnets.errors import UnknownNameError

COLUMNS = (
    Column(title="name"),
    Column(title="params", right=True),
    Column(title="MACs", right=True),
    Column(title="input", right=True),
    Column(title="classes", right=True),
    Column(title="blocks", fold=True),
)


def run(
    pattern: Annotated[str, typer.Argument(help="A part of the name, or a pattern such as 'resnet*_cifar'.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="Exact numbers, for programs.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.")] = False,
) -> None:
    """List the networks that have a name, with their size and cost.

    MACs are multiply-adds for one image of the input size; FLOPs are twice that. CIFAR networks exist at every
    depth of their rule: resnet38_cifar is a name too.
    """
    names = list_models(pattern)
    if not names:
        raise UnknownNameError("model", pattern, VARIANTS)
    rows = [model_row(name, VARIANTS[name]) for name in names]
    if as_json:
        print_json(rows)
        return
    lines = [Line(cells=_cells(row)) for row in rows]
    if as_markdown:
        print_text(markdown(COLUMNS, lines))
    else:
        print_table(COLUMNS, lines)


def model_row(name: str, config: NetworkConfig) -> dict[str, Any]:
    """What is listed of one network; `macs` for one image of `img_size`."""
    params, macs = totals(config)
    vgg = isinstance(config, VGGConfig)
    each = 1 if isinstance(config, VGGConfig) else 2 if config.block == "basic" else 3
    return {
        "name": name,
        "params": params,
        "macs": macs,
        "img_size": config.img_size,
        "num_classes": config.num_classes,
        "layers": sum(config.depths) * each + (3 if vgg else 2),
        "block": "VGG" if isinstance(config, VGGConfig) else config.block,
        "depths": list(config.depths),
        "traits": _traits(config),
    }


def _traits(config: NetworkConfig) -> list[str]:
    """What sets a network apart from the first of its family, in the words of its fields."""
    default = type(config)()
    if isinstance(config, VGGConfig):
        return ["batch norm"] if config.norm == "batch" else []
    assert isinstance(default, ResNetConfig)
    traits = [
        (config.pre_activation, "pre-activation"),
        (config.groups > 1, f"{config.groups} groups of {config.group_width}"),
        (config.groups == 1 and config.group_width > 64, f"wide x{config.group_width // 64}"),
        (bool(config.ibn), f"IBN {''.join(config.ibn)}"),
        (config.antialias, "anti-aliased"),
        (config.standardised, "standardised convolutions"),
    ]
    named = [words for holds, words in traits if holds]
    for field in ("stem", "shortcut", "stride_in", "stride_unit", "attention", "norm"):
        value = getattr(config, field)
        if value != getattr(default, field) and not (field == "stem" and value == "3x3"):
            named.append("no shortcuts" if value == "none" else f"{field.replace('_', ' ')} {value}")
    return named


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        short(row["params"]),
        short(row["macs"]),
        str(row["img_size"]),
        str(row["num_classes"]),
        ", ".join([f"{row['layers']} layers, {row['block']}", *row["traits"]]),
    ]
